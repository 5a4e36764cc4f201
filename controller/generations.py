"""
Generations: the controller runs once per set of held shards, each time in a new event loop.

When the set changes, one generation ends and the next is built (rule 10: restarts are free). So no component
has to change its shards while it works, and no task of a lost shard can survive. Without a shard, a standby
generation answers the probes and is ready: otherwise a rollout would wait for a Lease that the old pods hold.

SIGTERM and SIGINT are blocked outside a generation; they are delivered when the next one begins.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

from prometheus_client import CollectorRegistry

from controller.election.elections import ElectionThread
from controller.sharding import HeldShards
from counterfoil._upstream.cyclic_garbage import exempt_loaded_objects
from counterfoil._upstream.event_loop import EventLoop
from counterfoil.clock import Clock
from counterfoil.health import serve_health_and_metrics
from counterfoil.kube.served_namespaces import ServedNamespaces

_log = logging.getLogger("controller")

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

CANCEL_SECONDS = 5.0
"""Timeout for the tasks that a generation leaves behind."""


class GenerationEnd(Enum):
    """Why a generation ended."""

    STOPPED = "stopped"
    BROKEN = "broken"
    SHARDS_LOST = "shards lost"
    SHARDS_GAINED = "shards gained"


class StopRequest:
    """Whether SIGTERM or SIGINT arrived, in any generation."""

    def __init__(self) -> None:
        self.is_made = False
        self._stop = asyncio.Event()

    @contextmanager
    def observed(self) -> Iterator[asyncio.Event]:
        """Yield an event of this generation that is set by a signal, also by one that arrived before."""
        self._stop = asyncio.Event()
        if self.is_made:
            self._stop.set()
        self.handle_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        try:
            yield self._stop
        finally:
            block_stop_signals()

    def handle_signals(self) -> None:
        """Install the signal handlers; again after kopf has started, which replaces them."""
        for each in STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(each, self._make)

    def _make(self) -> None:
        self.is_made = True
        self._stop.set()


def run_generations(
    generation: Callable[[StopRequest], Coroutine[Any, Any, GenerationEnd]],
    *,
    cancel_seconds: float = CANCEL_SECONDS,
) -> int:
    """
    Run one generation after the other until one is stopped or broken; return the exit status.

    A generation with a task that does not end within ``cancel_seconds`` of its cancellation is broken. Then
    the process ends without that task, because it holds Leases.
    """
    exempt_loaded_objects()
    stop_request = StopRequest()
    while True:
        runner = asyncio.Runner(loop_factory=EventLoop)
        end = runner.run(generation(stop_request))
        if names := runner.run(_cancel_tasks(cancel_seconds)):
            _log.error("the controller ends without these tasks, which do not end: %s", ", ".join(names))
            return 1
        runner.close()
        if end in (GenerationEnd.STOPPED, GenerationEnd.BROKEN):
            return 0 if end is GenerationEnd.STOPPED else 1


async def _cancel_tasks(seconds: float) -> list[str]:
    """Cancel all other tasks of this event loop; return the names of those that did not end in time."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        _, tasks = await asyncio.wait(tasks, timeout=seconds)
    return sorted(task.get_name() for task in tasks)


async def stand_by(
    elections: ElectionThread,
    held: HeldShards,
    stop_request: StopRequest,
    private_socket: socket.socket,
    registry: CollectorRegistry,
    *,
    served: ServedNamespaces,
    clock: Clock,
) -> GenerationEnd:
    """Answer the probes until this process holds a shard or is stopped. Follow the list of namespaces, which
    the first write of a Lease tells."""

    async def check_elections() -> str | None:
        return "the work on the shards begins" if elections.held.leases else elections.problem

    with stop_request.observed() as stop:
        async with serve_health_and_metrics(
            private_socket, registry, live={}, ready={"elections": check_elections}
        ):
            following = asyncio.create_task(served.keep_current(clock))
            try:
                return await end_of_generation(elections, held, stop)
            finally:
                following.cancel()


async def end_of_generation(
    elections: ElectionThread, held: HeldShards, stop: asyncio.Event
) -> GenerationEnd:
    """Wait for a signal or another set of held shards; return which came."""
    stopping = asyncio.create_task(stop.wait())
    changing = asyncio.create_task(elections.wait_for_change(held))
    try:
        await asyncio.wait([stopping, changing], return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            return GenerationEnd.STOPPED
        changing.result()
    finally:
        stopping.cancel()
        changing.cancel()
    if elections.is_broken:
        return GenerationEnd.BROKEN
    return GenerationEnd.SHARDS_LOST if held.are_lost else GenerationEnd.SHARDS_GAINED


def block_stop_signals() -> None:
    """Block the signals; threads that are started later never receive them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
