"""A tiny bench (h): order and number of events after an outage of the archive. No times."""

from verification.bench.outage import measure, report
from verification.bench.setup import BenchSetup

COUNT = 40
WAIT_SECONDS = 3.0
MAX_WRITES = COUNT // 4
"""Writes of all waiting events together in ``WAIT_SECONDS``: their pauses last up to an hour."""


async def test_after_an_outage_the_oldest_events_are_first_and_never_too_many_at_once(
    setup: BenchSetup, concurrency: int
) -> None:
    # Events that can reach eSAW in any order, because they run at the same time or one after it.
    neighbours = 2 * concurrency
    result = await measure(setup, COUNT, first=1.0, wait=WAIT_SECONDS, ages=[600.0])
    waiting = result.waiting[-1]
    assert waiting.writes * WAIT_SECONDS / 60 <= MAX_WRITES
    assert result.recovery.at_once <= concurrency
    assert result.recovery.ordered > COUNT // 2
    assert result.recovery.inversions <= neighbours / COUNT
    assert "oldest first" in report(result, concurrency)
