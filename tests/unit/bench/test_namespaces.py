"""The report of bench (n)."""

import pytest

from verification.bench.__main__ import targets
from verification.bench.namespaces import PROCESSES, Load, NamespacesResult, Rest, RestRound, report


def a_rest(namespaces: int, memory: float) -> RestRound:
    rest = Rest(started=2.0, cpu=0.01, memory=memory)
    return RestRound(watches=8 * namespaces, processes=dict.fromkeys(PROCESSES, rest))


def a_load(rate: float, memory: float = 110.0) -> Load:
    return Load(first=3.0, rate=rate, other_rate=5.0, machine_cpu=0.5, memory=memory)


def a_result(*, further: float = 1.0, rate: float = 2.0, memory: float = 200.0) -> NamespacesResult:
    return NamespacesResult(
        idle={1: [a_rest(1, 100.0)], 20: [a_rest(20, 100.0 + 19 * further)]},
        alone=[a_load(2.0)],
        beside=[a_load(rate, memory)],
        waiting=50_100,
    )


def test_the_memory_of_each_process_for_a_further_namespace_is_judged() -> None:
    for further, is_met in ((2.0, True), (2.1, False)):
        judged = dict(targets(report(a_result(further=further))))
        (figure,) = [each for each in judged if each.startswith("controller")]
        assert f"{further:.2f} ({further:.2f} to {further:.2f}) MiB" in figure
        assert list(judged.values()) == [is_met] * len(PROCESSES) + [True, True]


@pytest.mark.parametrize(("rate", "memory", "met"), [(1.8, 1024, [True, True]), (1.7, 1025, [False, False])])
def test_the_rate_and_the_memory_beside_the_backlog_are_judged(
    rate: float, memory: float, met: list[bool]
) -> None:
    judged = targets(report(a_result(rate=rate, memory=memory)))
    assert [is_met for _, is_met in judged[-2:]] == met
    assert "beside 50,100 waiting events" in judged[-2][0]
