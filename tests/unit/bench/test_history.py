"""Parts of bench (e): which finished events are expired, and the report."""

from datetime import UTC, datetime, timedelta

import pytest

from controller.resync.garbage_collector import is_expired
from counterfoil.resources import EnvelopeEvent
from tests.support.builders import an_organization
from verification.bench.history import (
    CountResult,
    HistoryResult,
    HistoryRound,
    PassResult,
    RemovalRound,
    finished_events,
    report,
)

ROUND = HistoryRound(
    first=3.0, last=10.0, rate=40.0, memory_rest=110.0, memory_peak=120.0, writes=4.0, unfinished=0.0, lists=4
)
SLOW = HistoryRound(
    first=3.2, last=12.0, rate=30.0, memory_rest=112.0, memory_peak=121.0, writes=4.0, unfinished=0.0, lists=4
)


@pytest.mark.parametrize(
    ("newest", "oldest", "expired"),
    [(timedelta(hours=1), timedelta(days=29), False), (timedelta(days=34), timedelta(days=60), True)],
)
def test_only_events_beyond_their_time_to_live_are_expired(
    newest: timedelta, oldest: timedelta, *, expired: bool
) -> None:
    events = [
        EnvelopeEvent.parse(each)
        for each in finished_events(20, "bench", newest=newest, oldest=oldest, seed=1)
    ]
    organization = an_organization()
    assert {is_expired(each, organization.spec, datetime.now(UTC)) for each in events} == {expired}


def test_the_report_judges_each_figure_against_no_history() -> None:
    rows = [line for line in report(a_result({0: [ROUND], 1000: [SLOW]})).splitlines() if "1,000 |" in line]
    assert "| 1.07 (1.07 to 1.07) | 3.2 (3.2 to 3.2) | <= 1.10 | met |" in rows[0]
    assert "| 0.75 (0.75 to 0.75) | 30.0 (30.0 to 30.0) | >= 0.90 | MISSED |" in rows[2]


def test_the_report_compares_the_throughput_with_and_without_a_removal() -> None:
    text = report(a_result({0: [ROUND]}))
    assert "0.75 (0.75 to 0.75) of the throughput without; target >= 0.9: MISSED" in text


def a_result(rounds: dict[int, list[HistoryRound]]) -> HistoryResult:
    return HistoryResult(
        rounds=rounds,
        passed=PassResult(events=1000, pages=2, seconds=1.0, cpu=0.5, memory_rise=5.0),
        pass_cluster_cpu=0.7,
        counted={0: CountResult(seconds=0.002, cluster_cpu=0.003)},
        without_removal=[ROUND],
        removals=[RemovalRound(live=SLOW, removed=600, rate=100.0, lists=6, seconds=10.0, writes=2.0)],
    )
