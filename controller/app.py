"""
One generation of the controller: the components of all namespaces run beside kopf, and are shut down.

After SIGTERM, or when this process holds more shards, no work is started, running work gets the grace period
to reach its next safe point (a mail in transmission: its mark), then the watches end. The status of the
events tells the next start where to continue (rule 10).
"""

import asyncio
import contextlib
import logging
import socket
from dataclasses import dataclass
from datetime import timedelta

import kopf
from prometheus_client import CollectorRegistry

from controller.election.elections import ElectionThread
from controller.event_recorder import EventRecorder
from controller.generations import GenerationEnd, StopRequest, end_of_generation
from controller.namespaces.supervisor import NamespaceSupervisor
from controller.sharding import HeldShards
from controller.watch.kopf_operator import run_operator
from controller.watch.watched_namespaces import WatchedNamespaces
from counterfoil.health import serve_health_and_metrics

_log = logging.getLogger("controller")


@dataclass(frozen=True)
class App:
    """The parts that run in a generation, and answer its probes."""

    held: HeldShards
    grace: timedelta
    """Time that running work has to reach a safe point."""
    kopf_registry: kopf.OperatorRegistry
    watched: WatchedNamespaces
    supervisor: NamespaceSupervisor
    event_recorder: EventRecorder
    metrics_registry: CollectorRegistry

    async def run(
        self, elections: ElectionThread, stop_request: StopRequest, private_socket: socket.socket
    ) -> GenerationEnd:
        """Serve the probes and work on the held shards until SIGTERM, SIGINT or another set of shards."""
        with stop_request.observed() as stop:
            async with serve_health_and_metrics(
                private_socket,
                self.metrics_registry,
                live=self.supervisor.live,
                ready={"kubernetes": self.supervisor.check_synced, **self.supervisor.live},
            ):
                ending = asyncio.create_task(end_of_generation(elections, self.held, stop))
                try:
                    return await self._work_until(ending, stop_request)
                finally:
                    ending.cancel()

    async def _work_until(
        self, ending: asyncio.Task[GenerationEnd], stop_request: StopRequest
    ) -> GenerationEnd:
        kopf_ready, kopf_stop, end = asyncio.Event(), asyncio.Event(), GenerationEnd.BROKEN
        # Not in the group: kopf ends last, because it cancels each task that is younger than its own.
        watching = asyncio.create_task(
            run_operator(
                self.kopf_registry,
                self.watched,
                labels=self.held.label_selector,
                ready=kopf_ready,
                stop=kopf_stop,
            )
        )
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run()) for run in (self.supervisor.run, self.event_recorder.run)]
                ready = group.create_task(_until(kopf_ready))
                await asyncio.wait([ready, watching], return_when=asyncio.FIRST_COMPLETED)
                # Again: kopf replaces the signal handlers when it starts; these let running transfers end.
                stop_request.handle_signals()
                _log.info("the controller works on %s", self.held)
                running = [ending, watching, *tasks]
                ended, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                if ending in ended:
                    end = ending.result()
                    await self._drain(end)
                for task in (*tasks, ready):
                    task.cancel()
        except* Exception as broken:
            end = GenerationEnd.BROKEN
            for problem in broken.exceptions:
                _log.error("the controller broke", exc_info=problem)
        kopf_stop.set()
        (result,) = await asyncio.gather(watching, return_exceptions=True)
        if isinstance(result, Exception):
            end = GenerationEnd.BROKEN
            _log.error("the controller broke", exc_info=result)
        return end

    async def _drain(self, end: GenerationEnd) -> None:
        """Let running work reach a safe point; not after a lost Lease, because the work may run elsewhere
        soon."""
        _log.info("the controller stops its work: %s", end.value)
        if end is not GenerationEnd.SHARDS_LOST:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.grace.total_seconds()):
                    await self.supervisor.drain()


async def _until(event: asyncio.Event) -> None:
    await event.wait()
