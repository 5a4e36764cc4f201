"""A tiny bench (e): requests for new events beside finished ones, for the pass, and for removed events. No
times."""

import math

import pytest

from controller.resync.event_load import COUNT_SECONDS
from controller.resync.garbage_collector import PAGE_SIZE
from verification.bench import history
from verification.bench.history import HistoryResult, HistoryRound, measure
from verification.bench.setup import BenchSetup

HISTORY = 1200
COUNT = 8
EXPIRED = 510
MAX_WRITES = 4.9
"""Four for an event; a few events may need one more."""
UNFINISHED_WRITES = 2
"""At most for an attempt without success: the status, and a Kubernetes Event. A busy machine lets attempts
wait, with or without a history."""
MAX_REMOVAL_WRITES = 2.4
MAX_OTHER_LISTS = 10
"""Lists that fall into one run and not into the other, such as that of failed events after an archive became
ready, or that after a broken watch. One for each removed event would be hundreds."""


@pytest.fixture
async def result(setup: BenchSetup) -> HistoryResult:
    return await measure({HISTORY: setup}, rounds=2, count=COUNT, expired=EXPIRED, removals=0)


async def test_finished_events_cost_a_new_one_nothing_and_a_pass_reads_each_page_once(
    setup: BenchSetup, result: HistoryResult
) -> None:
    assert max(map(_writes_of_successes, result.rounds[HISTORY])) <= MAX_WRITES, result.rounds
    assert result.passed.events == HISTORY
    assert result.passed.pages == math.ceil(HISTORY / PAGE_SIZE)
    assert "target" in history.report(result)


async def test_a_removed_event_costs_two_writes_and_no_list(setup: BenchSetup) -> None:
    without = await history.history_round(setup, COUNT, "without")
    removal = await history.removal_round(setup, EXPIRED, COUNT, "removal")
    assert removal.removed == EXPIRED
    # The delete, and before it the mark of its Envelope.
    assert removal.writes <= MAX_REMOVAL_WRITES
    assert _writes_of_successes(removal.live) <= MAX_WRITES, removal
    pages = math.ceil(EXPIRED / PAGE_SIZE)
    counts = math.ceil(removal.seconds / COUNT_SECONDS)
    assert removal.lists <= without.lists + pages + counts + MAX_OTHER_LISTS


def _writes_of_successes(live: HistoryRound) -> float:
    return live.writes - UNFINISHED_WRITES * live.unfinished
