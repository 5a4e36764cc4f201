"""Records of soak tests that are kept, and the section that is made from them."""

from dataclasses import replace
from pathlib import Path

from verification.chaos import report
from verification.chaos.soak import section as soak
from verification.chaos.soak.flatness import MIB, Growth
from verification.chaos.soak.records import SoakRecord, append, read

FLAT = Growth("controller-0-0", "memory", 200 * MIB, 201 * MIB, 250 * MIB, 1.5 * MIB, 210 * MIB)
LEAK = Growth("receiver-0", "tasks", 20, 60, 61, 53.3, 28)
GOOD = SoakRecord(
    seed=7,
    minutes=60,
    archive="webdav",
    envelopes=7200,
    answered=7500,
    removed=6900,
    backlog=3,
    outcomes={"Succeeded ArchivedAndDeleted": 7100},
    requests={"wrong token: 404": 300},
    struck={"api-cut": 1200, "esaw-429": 34},
    mails=12,
    cpu=48.4,
    samples=7200,
    growths=(FLAT,),
    unproven=(),
    violations=(),
    commit="abc123",
)


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "chaos" / "soak.jsonl"
    written = [GOOD, replace(GOOD, growths=(FLAT, LEAK), unproven=("b",), violations=("a",))]
    for each in written:
        append(path, each)
    assert read(path) == written


def test_there_are_no_records_before_the_first_run(tmp_path: Path) -> None:
    assert read(tmp_path / "soak.jsonl") == []


def test_a_line_that_a_kill_cut_is_left_out_and_damages_no_other(tmp_path: Path) -> None:
    path = tmp_path / "soak.jsonl"
    append(path, GOOD)
    path.write_text(path.read_text() + '{"seed": 1, "min')
    append(path, replace(GOOD, seed=8))
    assert read(path) == [GOOD, replace(GOOD, seed=8)]


def test_a_run_is_good_without_violations_and_growth() -> None:
    assert GOOD.is_good
    assert not replace(GOOD, violations=("a",)).is_good
    assert not replace(GOOD, growths=(FLAT, LEAK)).is_good
    assert not replace(GOOD, unproven=("receiver-0: tasks",)).is_good


def test_the_section_has_the_run_its_measures_and_all_counts() -> None:
    text = soak.section([GOOD])
    assert "60 minutes of load (seed 7, archive `webdav`, commit `abc123`)" in text
    assert "7,200 envelopes ended in eSAW. Callbacks about 7,500 envelopes" in text
    assert "6,900 of 7,100 finished events were removed during the run. 3 events had not ended" in text
    assert "1,234 faults struck, and 12 mails arrived. The machine used 48 % of its processors." in text
    assert "Violations: 0. Measures that grew: 0 of 1. Measures with too few samples: 0." in text
    assert (
        "| `controller-0-0` | memory | 200.0 MiB | 201.0 MiB | 250.0 MiB | +1.5 MiB | yes |"
        in text.splitlines()
    )
    assert "| `Succeeded ArchivedAndDeleted` | 7,100 |" in text
    assert "| `wrong token: 404` | 300 |" in text
    assert "| `api-cut` | 1,200 |" in text


def test_the_section_names_growth_and_violations() -> None:
    bad = replace(
        GOOD, growths=(FLAT, LEAK), unproven=("a: threads",), violations=("callback of x: no event",)
    )
    text = soak.section([bad])
    assert "Violations: 1. Measures that grew: 1 of 2." in text
    assert "| `receiver-0` | tasks | 20 | 60 | 61 | +53.3 | **no** |" in text.splitlines()
    assert "\n- callback of x: no event\n- too few samples: a: threads\n\n" in text


def test_the_longest_run_counts_and_of_several_the_newest() -> None:
    records = [replace(GOOD, seed=1), replace(GOOD, seed=2), replace(GOOD, seed=3, minutes=3)]
    assert "seed 2" in soak.section(records)


def test_without_a_record_the_section_says_that_there_is_none() -> None:
    assert soak.section([]) == "There is no record yet."


def test_the_page_has_the_markers_of_the_section() -> None:
    page = report.PAGE.read_text(encoding="utf-8")
    assert "There is the new text" in report.renewed(page, "There is the new text", soak.BEGIN, soak.END)
