"""Records that can be continued, and the section that is made from them."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from verification.chaos import report
from verification.chaos.records import Record, append, missing_rounds, read
from verification.chaos.soak import section as soak


def record(number: int, *, seed: int = 1, violations: tuple[str, ...] = (), **struck: int) -> Record:
    return Record(
        seed, number, 80, {kind.replace("_", "-"): each for kind, each in struck.items()}, 36.0, violations
    )


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "chaos" / "rounds.jsonl"
    written = [record(1, api_cut=3), record(2, violations=("a",))]
    for each in written:
        append(path, each)
    assert read(path) == written


def test_there_are_no_records_before_the_first_round(tmp_path: Path) -> None:
    assert read(tmp_path / "rounds.jsonl") == []


def test_a_round_that_was_repeated_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    append(path, record(1, violations=("a",), api_cut=3))
    append(path, record(1, api_cut=4))
    assert read(path) == [record(1, api_cut=4)]


def test_a_line_that_a_kill_cut_is_left_out_and_damages_no_other(tmp_path: Path) -> None:
    path = tmp_path / "rounds.jsonl"
    append(path, record(1))
    path.write_text(path.read_text() + '{"seed": 1, "rou')
    append(path, record(2))
    assert read(path) == [record(1), record(2)]


def test_a_campaign_continues_with_the_rounds_of_its_seed_that_are_missing() -> None:
    rounds = missing_rounds([record(1, api_cut=3), record(3, api_cut=3), record(2, seed=9)], 1, 10)
    assert (rounds.left, next(rounds)) == (4, 2)
    rounds.finish(record(2, api_cut=2))
    assert next(rounds) == 4
    rounds.finish(record(4, api_cut=2))
    assert list(rounds) == []


def test_a_round_that_another_worker_has_begun_is_not_run_again() -> None:
    rounds = missing_rounds([record(2)], 1, 10)
    assert [next(rounds), next(rounds), next(rounds)] == [1, 3, 4]


def test_a_round_without_an_effective_fault_still_ends_the_campaign() -> None:
    rounds = missing_rounds([], 1, 1)
    rounds.finish(record(1))
    assert list(rounds) == []


RECORDS = [record(1, api_cut=1200, esaw_429=2), record(2, seed=5, api_cut=34)]


def test_the_section_has_faults_by_kind_rounds_seeds_time_and_violations() -> None:
    text = report.section(RECORDS, {})
    assert "1,236 faults in 2 rounds (seeds: 1, 5; commits: none) and 0.0 hours" in text
    assert "| `api-cut` | 1,234 |" in text
    assert "Rounds with a violation: 0." in text
    assert "Not corrected yet" not in text


def test_the_section_names_open_violations_and_what_was_found() -> None:
    found: dict[str, list[dict[str, Any]]] = {
        "open": [{"what": "It is late", "where": "seed 2, round 1", "until": "Wait"}],
        "found": [{"what": "It lost one", "where": "seed 1, round 2", "corrected": "tests/x.py::test_y"}],
        "reverted": [{"what": "Read back", "faults": 12, "violation": "other bytes"}],
    }
    text = report.section([record(1, violations=("a | b",))], found)
    assert "| 1 | 1 | a \\| b |" in text
    assert "| It is late | seed 2, round 1 | Wait |" in text
    assert "| It lost one | seed 1, round 2 | `tests/x.py::test_y` |" in text
    assert "| Read back | 12 | other bytes |" in text


def test_the_section_replaces_the_one_before_and_nothing_else() -> None:
    page = f"# Page\n\n{report.BEGIN}\n\nold\n\n{report.END}\n\nrest\n"
    assert report.renewed(page, "new\n") == f"# Page\n\n{report.BEGIN}\n\nnew\n\n{report.END}\n\nrest\n"


def test_a_section_without_a_record_on_this_machine_stays_as_it_is() -> None:
    page = f"{report.BEGIN}\n\nold\n\n{report.END}\n{soak.BEGIN}\n\nsoak\n\n{soak.END}\n"
    assert report.both_renewed(page, [], []) == page
    after = report.both_renewed(page, RECORDS, [])
    assert "1,236 faults" in after
    assert f"{soak.BEGIN}\n\nsoak\n\n{soak.END}" in after


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="no markers"):
        report.renewed("# Page\n", "new")


def test_the_page_has_the_markers_and_the_hand_kept_data_can_be_read() -> None:
    report.renewed(report.PAGE.read_text(encoding="utf-8"), "")
    assert json.dumps(tomllib.loads(report.FOUND.read_text(encoding="utf-8")))
