"""A work queue, and work that a test releases event by event."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from controller.scheduling.fair_queue import ConcurrencyLimits, QueueItem
from controller.scheduling.workqueue import WorkQueue
from tests.support.builders import AClock


def a_queue_item(event: str, *, envelope: str | None = None) -> QueueItem:
    return QueueItem(
        sort_key=event,
        event=event,
        envelope=envelope or f"envelope-of-{event}",
        organization="acme",
        sender="anna",
        archive="dms",
    )


class ReleasedWork:
    """Work that a test releases, event by event."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.ended: list[str] = []
        self.releases: dict[str, asyncio.Event] = {}
        self.open = True
        self.on_start: Callable[[str], None] = lambda event: None

    async def reconcile(self, event: str) -> None:
        self.started.append(event)
        self.on_start(event)
        if not self.open:
            await self.releases.setdefault(event, asyncio.Event()).wait()
        self.ended.append(event)

    def let_go(self, event: str) -> None:
        self.releases.setdefault(event, asyncio.Event()).set()


def a_workqueue(clock: AClock, *, process: int = 100) -> WorkQueue:
    concurrency_limits = ConcurrencyLimits(
        process=process, organization={"acme": process}, sender={"acme": process}, archive={"dms": process}
    )
    return WorkQueue(clock=clock, concurrency_limits=lambda: concurrency_limits)


class Work(Protocol):
    """Work that a queue starts."""

    async def reconcile(self, event: str, /) -> None:
        """Work on an event."""


@asynccontextmanager
async def running(workqueue: WorkQueue, work: Work) -> AsyncIterator[None]:
    task = asyncio.create_task(workqueue.run(work.reconcile))
    try:
        await turns()
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def turns(count: int = 20) -> None:
    """Let everything run that can run."""
    for _ in range(count):
        await asyncio.sleep(0)
