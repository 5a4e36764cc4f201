"""The table of the fuzz runs."""

from pathlib import Path

from fuzz.report import BEGIN, END, TargetSums, table, write
from fuzz.runner import RunResult
from fuzz.target import Finding


def test_inputs_and_time_of_all_runs_are_summed_and_the_rest_is_of_the_last_run() -> None:
    first = RunResult("a", 100, 2.0, 7, 1.5, (Finding("slow", "", b""),))
    second = RunResult("a", 50, 1.0, 9, 0.5)
    sums = TargetSums().with_run(first).with_run(second)
    assert sums == TargetSums(150, 3.0, 9, 0.5, 0)


def test_the_table_has_one_row_per_target() -> None:
    text = table({"a": TargetSums(3000, 2.0, 7, 0.4, 1), "b": TargetSums()}, {"a": "one", "b": "other"})
    assert text.splitlines()[2:] == [
        "| `a` | one | 3,000 | 2 | 1,500 | 7 | 0 MiB | 1 |",
        "| `b` | other | 0 | 0 | 0 | 0 | 0 MiB | 0 |",
    ]


def test_only_the_text_between_the_markers_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "fuzzing.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", "utf-8")
    write(page, {"sealed_blobs": TargetSums(10, 1.0, 1, 0.0, 0)})
    text = page.read_text("utf-8")
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "| `sealed_blobs` | sealed tokens and cookies | 10 |" in text
