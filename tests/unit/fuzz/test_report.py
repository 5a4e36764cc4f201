"""The table of the fuzz runs."""

from pathlib import Path

from verification.fuzz.report import TABLE, TargetSums, row, write
from verification.fuzz.runner import RunResult
from verification.fuzz.target import Finding


def test_inputs_and_time_of_all_runs_are_summed_and_the_rest_is_of_the_last_run() -> None:
    first = RunResult("a", 100, 2.0, 7, 1.5, (Finding("slow", "", b""),))
    second = RunResult("a", 50, 1.0, 9, 0.5)
    sums = TargetSums().with_run(first).with_run(second)
    assert sums == TargetSums(150, 3.0, 9, 0.5, 0)


def test_a_target_has_one_row() -> None:
    runs = TargetSums(3000, 2.0, 7, 0.4, 1)
    assert row("a", runs, "one") == "| `a` | one | 3,000 | 2 | 1,500 | 7 | 0 MiB | 1 |"
    assert row("b", TargetSums(), "other") == "| `b` | other | 0 | 0 | 0 | 0 | 0 MiB | 0 |"


def test_only_the_text_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "fuzzing.md"
    page.write_text(f"before\n{TABLE.begin}\nold\n{TABLE.end}\nafter\n", "utf-8")
    write(page, {"sealed_blobs": TargetSums(10, 1.0, 1, 0.0, 0)})
    text = page.read_text("utf-8")
    assert text.startswith(f"before\n{TABLE.begin}\n")
    assert text.endswith(f"{TABLE.end}\nafter\n")
    assert "old" not in text
    assert "| `sealed_blobs` | sealed tokens and cookies | 10 |" in text


def test_a_target_without_runs_keeps_its_row(tmp_path: Path) -> None:
    page = tmp_path / "fuzzing.md"
    old = row("manifests", TargetSums(7, 1.0, 1, 0.0, 0), "manifests as they were")
    page.write_text(f"{TABLE.begin}\n\n{old}\n\n{TABLE.end}\n", "utf-8")
    sums = {name: TargetSums() for name in ("manifests", "tag_rules")}
    write(page, {**sums, "sealed_blobs": TargetSums(10, 1.0, 1, 0.0, 0)})
    lines = page.read_text("utf-8").splitlines()
    assert [old in lines, len(lines)] == [True, 9]
    assert "| `tag_rules` | rules in XPath and JSONPath, as written into an Archive | 0 |" in "\n".join(lines)
