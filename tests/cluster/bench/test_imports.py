"""A tiny bench (l): an Import whose controller is killed, beside callbacks. No times, and no memory."""

from verification.bench.imports import measure, report
from verification.bench.setup import BenchSetup

COUNT = 40
CALLBACKS = 4


async def test_each_old_envelope_is_archived_once_and_counted_although_the_controller_is_killed(
    setup: BenchSetup, concurrency: int
) -> None:
    result = await measure(
        setup, count=COUNT, kills=2, callbacks=CALLBACKS, pause=0.1, at_once=concurrency, plain=4
    )
    assert (result.archive_wrong, result.status_wrong) == ([], [])
    assert 0 < result.most_unfinished <= result.max_unfinished
    assert len(result.without.succeeded) == CALLBACKS
    assert len(result.without.created) == CALLBACKS
    assert len(result.beside.succeeded) == len(result.beside.created) > 1
    assert "in the archive exactly once after 2 kills" in report(result)
