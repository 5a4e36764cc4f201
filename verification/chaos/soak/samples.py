"""
Samples of the running processes: memory and threads from the kernel, file descriptors and tasks from the
metrics.
"""

import asyncio
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import httpx
import psutil

from sandbox.environment.processes import CounterfoilProcess
from sandbox.servers.plain_http import plain_http
from verification.chaos.soak.flatness import Sample

TIMEOUT_SECONDS: Final = 5.0
"""Timeout for the metrics of a process. A stopped process gives none."""
FROM_METRICS: Final = {
    "tasks": re.compile(r"^counterfoil_event_loop_tasks (\S+)$", re.MULTILINE),
    # A process hides its files from others of its user.
    "file descriptors": re.compile(r"^process_open_fds (\S+)$", re.MULTILINE),
}


@dataclass
class Sampler:
    """Samples processes until it is cancelled."""

    processes: list[CounterfoilProcess]
    interval: float
    """Seconds between two samples."""
    samples: list[Sample] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Share of all processors of the machine that was in use since the sample before, in percent."""

    async def run(self) -> None:
        """Sample."""
        began = due = time.monotonic()
        psutil.cpu_percent(None)
        async with plain_http(timeout=TIMEOUT_SECONDS) as http:
            while True:
                due += self.interval
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                self.cpu.append(psutil.cpu_percent(None))
                await asyncio.gather(*(self._sample(each, began, http) for each in self.processes))

    async def _sample(self, process: CounterfoilProcess, began: float, http: httpx.AsyncClient) -> None:
        at = round(time.monotonic() - began, 1)
        try:
            values = dict(_measured(psutil.Process(process.pid)))
        except psutil.Error:  # it has just ended
            return
        values.update(await _from_metrics(process, http))
        self.samples.extend(Sample(at, process.name, name, value) for name, value in values.items())


def _measured(process: psutil.Process) -> Iterator[tuple[str, float]]:
    with process.oneshot():
        yield "memory", process.memory_info().rss
        yield "threads", process.num_threads()
    yield "workers' memory", sum(_rss(each) for each in process.children(recursive=True))


def _rss(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


async def _from_metrics(process: CounterfoilProcess, http: httpx.AsyncClient) -> dict[str, float]:
    try:
        answer = await http.get(f"{process.private}/metrics")
    except httpx.TransportError:
        return {}
    found = {name: pattern.search(answer.text) for name, pattern in FROM_METRICS.items()}
    return {name: float(match[1]) for name, match in found.items() if match is not None}
