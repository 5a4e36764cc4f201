"""The report of bench (a): ratios of rounds of the same turn, and what the CPU allows."""

import os

import pytest

from verification.bench.machine import CoreSplit, on_cores
from verification.bench.receiver import KINDS, CallbackRound, CpuUse, report


def rounds(*rates: float, cpu: CpuUse) -> list[CallbackRound]:
    return [CallbackRound(100 / rate, [0.01] * 100, cpu) for rate in rates]


def test_each_ratio_is_of_the_same_turn_and_is_judged_by_its_median() -> None:
    bare = rounds(100.0, 200.0, 300.0, cpu=CpuUse(0.1, 0.0, 0.2))
    new = rounds(96.0, 194.0, 240.0, cpu=CpuUse(0.2, 0.1, 0.2))
    known = rounds(144.0, 388.0, 480.0, cpu=CpuUse(0.1, 0.1, 0.1))
    kinds = dict(zip(KINDS, (bare, new, known, known), strict=True))
    text = report(kinds, is_judged=True)
    assert "- new callbacks, of bare: 0.96 (0.80 to 0.97); target >= 0.95: met" in text
    assert "- p99 of new callbacks, of bare: 1.00 (1.00 to 1.00); target <= 1.2: met" in text
    assert "- known callbacks, of new: 2.00 (1.50 to 2.00); target >= 2.0: met" in text
    assert "| receiver, new callbacks | 0.96 (0.80 to 0.97) | 194 (96 to 240) |" in text
    assert text.splitlines()[3].endswith("| 2.00 | 1.00 | 2.00 |")
    assert "of that for a new callback" not in text
    shared = report(kinds, is_judged=False)
    assert "- new callbacks, of bare: 0.96 (0.80 to 0.97)\n" in shared
    assert "of that for a new callback: 0.60 (0.60 to 0.60)." in shared


def test_the_cores_are_shared_or_split_and_released() -> None:
    before = frozenset(os.sched_getaffinity(0))
    assert CoreSplit.shared() == CoreSplit(before, before)
    first = frozenset({min(before)})
    with on_cores(first):
        assert os.sched_getaffinity(0) == first
        with pytest.raises(ValueError, match="only one core"):
            CoreSplit.separate()
    assert os.sched_getaffinity(0) == before


def test_half_of_the_cores_are_for_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4, 5, 6})
    assert CoreSplit.separate() == CoreSplit(frozenset({0, 1}), frozenset({4, 5, 6}))
