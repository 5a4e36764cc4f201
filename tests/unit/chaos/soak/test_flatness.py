"""Which series of samples counts as flat."""

from collections.abc import Callable

import pytest

from verification.chaos.soak.flatness import BOUNDS, MIB, Growth, Sample, growths, unproven

HOUR = 3600.0


def measured(measure: str, value: Callable[[float], float]) -> Growth:
    """The growth of one measure, sampled every 10 s for an hour."""
    samples = [Sample(at, "controller-0", measure, value(at)) for at in range(0, 3600, 10)]
    (found,) = growths(samples, HOUR)
    return found


@pytest.mark.parametrize("measure", BOUNDS)
def test_a_constant_series_is_flat(measure: str) -> None:
    found = measured(measure, lambda at: 200 * MIB)
    assert found.is_flat
    assert found.slope == 0
    assert found.early == found.late == found.highest == 200 * MIB


@pytest.mark.parametrize(
    ("measure", "leak"),
    [
        ("memory", 40 * MIB),
        ("workers' memory", 40 * MIB),
        ("file descriptors", 20),
        ("threads", 20),
        ("tasks", 20),
    ],
)
def test_a_series_that_leaks_all_the_time_is_not_flat(measure: str, leak: float) -> None:
    found = measured(measure, lambda at: 100 + leak * at / HOUR)
    assert not found.is_flat
    assert found.slope == pytest.approx(leak)


def test_growth_in_the_warm_up_does_not_count() -> None:
    found = measured("memory", lambda at: min(at / HOUR * 4, 1) * 300 * MIB)
    assert found.is_flat


def test_a_jump_in_the_third_quarter_that_stays_is_growth() -> None:
    assert not measured("tasks", lambda at: 30 + 9 * (at > HOUR * 0.6)).is_flat
    assert measured("tasks", lambda at: 30 + 8 * (at > HOUR * 0.6)).is_flat


def test_a_series_that_falls_is_flat() -> None:
    assert measured("memory", lambda at: 300 * MIB - at).is_flat


def test_short_peaks_are_not_growth_and_are_reported() -> None:
    found = measured("file descriptors", lambda at: 500 if at % 600 == 0 else 40)
    assert found.is_flat
    assert found.highest == 500


@pytest.mark.parametrize(
    ("early", "growth", "is_flat"),
    [(100, 8, True), (100, 9, False), (400, 20, True), (400, 21, False)],
    ids=["8 MiB", "more than 8 MiB", "5 %", "more than 5 %"],
)
def test_memory_may_grow_by_five_percent_or_eight_mebibytes(early: int, growth: int, is_flat: bool) -> None:
    found = measured("memory", lambda at: (early + growth * (at > HOUR * 0.6)) * MIB)
    assert found.is_flat is is_flat


def test_each_measure_of_each_process_is_judged_separately() -> None:
    samples = [
        Sample(at, process, "tasks", 10 + (at / 10 if process == "leaking" else 0))
        for at in range(0, 3600, 10)
        for process in ("leaking", "sound")
    ]
    assert {each.process: each.is_flat for each in growths(samples, HOUR)} == {
        "leaking": False,
        "sound": True,
    }


@pytest.mark.parametrize("missing", [(900, 1800), (2700, 3600), (0, 3600)])
def test_a_quarter_without_a_sample_is_no_proof(missing: tuple[int, int]) -> None:
    samples = [
        Sample(at, "receiver-0", measure, 10)
        for measure in BOUNDS
        for at in range(0, 3600, 10)
        if measure != "tasks" or not missing[0] <= at < missing[1]
    ]
    assert unproven(samples, ["receiver-0"], HOUR) == ["receiver-0: tasks"]
    assert {each.measure for each in growths(samples, HOUR)} == set(BOUNDS) - {"tasks"}


def test_a_process_without_any_sample_is_no_proof() -> None:
    assert unproven([], ["receiver-0"], HOUR) == [f"receiver-0: {each}" for each in BOUNDS]
