"""The thread of the elections as the controller's own event loop sees it, in real time over an API in
memory."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from kubernetes.aio.client import CoordinationV1Api

from controller.election.elections import ElectionThread
from controller.election.shard_lock import LeaseTimings
from controller.sharding import HeldShards
from tests.support.fakes.lease_api import InMemoryLeases

TIMINGS = LeaseTimings(duration=150.0, renew_deadline=120.0, retry_period=1.0)
PATIENCE = 60.0
"""Seconds that a step may take on a busy machine; shorter than a Lease."""


def thread(api: InMemoryLeases, shards: int = 1, *, opens: bool = True) -> ElectionThread:
    @asynccontextmanager
    async def opener() -> AsyncIterator[CoordinationV1Api]:
        if not opens:
            raise OSError("no configuration")
        yield api

    return ElectionThread("pod", "tests", shards, TIMINGS, served=lambda: ("tests",), api_opener=opener)


async def acquired(elections: ElectionThread) -> HeldShards:
    """Return what is held as soon as it is not nothing; the thread may have a shard already."""
    return await changed(elections, HeldShards({}, elections.held.count))


async def changed(elections: ElectionThread, held: HeldShards) -> HeldShards:
    async with asyncio.timeout(PATIENCE):
        await elections.wait_for_change(held)
    return elections.held


async def test_a_shard_that_is_acquired_ends_the_wait_and_is_released_in_the_end() -> None:
    api = InMemoryLeases()
    with thread(api) as elections:
        held = await acquired(elections)
        assert (set(held.leases), elections.problem) == ({0}, None)
    assert api.holder(0, 1) == ""
    assert held.are_lost


async def test_a_process_without_a_shard_begins_with_the_first_and_gains_the_others_together() -> None:
    with thread(InMemoryLeases(), 3) as elections:
        first = await acquired(elections)
        assert len(first.leases) == 1
        assert len((await changed(elections, first)).leases) == 3


async def test_a_lost_lease_ends_the_wait_at_once() -> None:
    with thread(InMemoryLeases()) as elections:
        held = await acquired(elections)
        waiting = asyncio.create_task(elections.wait_for_change(held))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        held.leases[0].end()
        async with asyncio.timeout(PATIENCE):
            await waiting


async def test_elections_that_cannot_begin_end_the_wait_and_report_it() -> None:
    with thread(InMemoryLeases(), opens=False) as elections:
        await acquired(elections)
        assert (elections.is_broken, elections.problem) == (True, "the elections broke")


class SlowLog(logging.Handler):
    """A log whose reader takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.released = threading.Event(), threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.reached.set()
        self.released.wait(PATIENCE)


async def test_a_process_can_end_while_the_thread_of_broken_elections_reports_its_error() -> None:
    log, logger = SlowLog(), logging.getLogger("controller.election.elections")
    elections = thread(InMemoryLeases(), opens=False)
    logger.addHandler(log)
    try:
        elections.__enter__()
        assert await asyncio.to_thread(log.reached.wait, PATIENCE)
        ending = asyncio.create_task(asyncio.to_thread(elections.__exit__))
        await asyncio.sleep(0.05)
    finally:
        log.released.set()
        logger.removeHandler(log)
    await ending


@pytest.mark.parametrize("shards", [1, 64])
def test_a_thread_that_never_started_holds_nothing(shards: int) -> None:
    elections = thread(InMemoryLeases(), shards)
    assert elections.held.leases == {}
    assert elections.problem == "the Leases of the shards have not been read yet"
