"""Parts of a measurement: spreads, samples of metrics, and the plain script's way to write a file."""

import hashlib
import os
from pathlib import Path

import pytest

from verification.bench.__main__ import Section, render, targets, updated
from verification.bench.machine import ProcessMemory
from verification.bench.plain_script import write_and_read_back
from verification.bench.setup import MetricSamples
from verification.bench.spread import Spread, order_of_turn


def test_a_spread_shows_the_median_and_how_far_the_rounds_lie_apart() -> None:
    assert Spread.of([3.0, 1.0, 2.0]).text(1) == "2.0 (1.0 to 3.0)"


def test_ratios_are_taken_round_by_round() -> None:
    assert Spread.of_ratios([10.0, 40.0, 9.0], [10.0, 20.0, 10.0]).values == (1.0, 2.0, 0.9)


def test_every_second_turn_measures_in_the_other_order() -> None:
    assert [order_of_turn({32: "a", 64: "b", 4000: "c"}, turn) for turn in range(3)] == [
        [32, 64, 4000],
        [4000, 64, 32],
        [32, 64, 4000],
    ]


def test_rounds_that_have_no_partner_are_an_error() -> None:
    with pytest.raises(ValueError, match="longer"):
        Spread.of_ratios([1.0], [1.0, 2.0])


def test_no_rounds_are_no_figure() -> None:
    with pytest.raises(ValueError, match="a round"):
        Spread.of([])


def test_samples_are_added_up_by_name_and_labels() -> None:
    samples = MetricSamples(
        "# TYPE requests counter\n"
        'requests_total{verb="patch",code="200"} 3\n'
        'requests_total{verb="patch",code="409"} 1\n'
        'requests_total{verb="create",code="201"} 5\n'
        'requests_total{verb="get",code="200"} 7\n'
    )
    assert samples.total("requests_total", verb="patch") == 4
    assert samples.total("requests_total", verb=("patch", "create")) == 9
    assert samples.total("requests_total", verb="get", code="404") == 0


def test_the_plain_script_leaves_a_file_under_its_final_name_only(tmp_path: Path) -> None:
    path = tmp_path / "envelope" / "Document" / "contract.pdf"
    sha256 = write_and_read_back(path, b"signed")
    assert sha256 == hashlib.sha256(b"signed").hexdigest()
    assert [each.name for each in path.parent.iterdir()] == ["contract.pdf"]
    assert path.read_bytes() == b"signed"


def test_the_memory_of_a_process_is_read_from_the_kernel() -> None:
    memory = ProcessMemory.of(os.getpid())
    assert 1 < memory.now <= memory.peak


REPORT = """
| cores | target | |
|---|---|---|
| 0.01 | <= 0.05 | met |

- rate: 0.77 of the script's; target >= 0.9: MISSED
- memory: at most 30 MiB; target <= 32: met; with reads: 3
- nothing is judged here
"""


def test_the_report_begins_with_the_targets_that_the_benches_judged() -> None:
    text = render("- 2 cores", [Section("b", REPORT, 0), Section("c", "- speed: 1; target 2: MISSED", 0)])
    assert targets(REPORT) == [
        ("cores 0.01, target <= 0.05", True),
        ("rate: 0.77 of the script's; target >= 0.9", False),
        ("memory: at most 30 MiB; target <= 32: ; with reads: 3", True),
    ]
    assert text.index("| (b) | rate: 0.77 of the script's; target >= 0.9 | **missed** |") < text.index(
        "- rate:"
    )
    assert "| (c) | speed: 1; target 2 | **missed** |" in text


def test_one_bench_that_is_measured_again_replaces_its_section_only() -> None:
    first = [Section(each, f"## ({each}) Of {each}\n\n- rate: 1; target 1: met\n", 0) for each in "ab"]
    broken = Section("c", "## (c) Of c\n\n**It ended with status 3.**\n", 3)
    report = render("- 2 cores\n- load before the run: 0.1", [*first, broken])
    assert updated(report, "", []) == report

    again = Section("b", "## (b) Of b\n\n- rate: 2; target 3: MISSED\n", 0)
    changed = updated(report, "- 4 cores\n- load before the run: 0.2", [again])

    own = "Measured apart from the other benches: 4 cores; load before the run: 0.2."
    expected = render(
        "- 2 cores\n- load before the run: 0.1",
        [first[0], again._replace(text=f"{again.text.rstrip()}\n\n{own}\n"), broken],
    )
    assert changed == expected
    added = updated(report, "- 4 cores", [Section("k", "## (k) Of k\n", 0)])
    assert added.index("## (c) Of c") < added.index("## (k) Of k")


def test_a_bench_that_failed_is_among_the_targets() -> None:
    text = render("- 2 cores", [Section("c", "", 1)])
    assert "| (c) | the bench ended with status 1 | **missed** |" in text
