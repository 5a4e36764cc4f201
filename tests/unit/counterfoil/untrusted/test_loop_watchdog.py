"""The watchdog of the event loop: which blocks it counts, and why the loop was blocked."""

import asyncio
import time
from collections.abc import Callable
from typing import cast

import pytest
from prometheus_client import CollectorRegistry

from counterfoil.metrics import Metrics
from counterfoil.untrusted.loop_watchdog import INTERVAL_SECONDS, LoopWatchdog, watched_event_loop


class LoopOfTimers:
    """An event loop with one timer, which the test fires."""

    def __init__(self) -> None:
        self.timer: Callable[[], object] = lambda: None
        self.stopped = False

    def call_later(self, delay: float, callback: Callable[[], object]) -> "LoopOfTimers":
        assert delay == INTERVAL_SECONDS
        self.timer = callback
        return self

    def cancel(self) -> None:
        self.stopped = True


class Scene:
    """A watchdog and its two clocks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.loop = LoopOfTimers()
        self.time = 1000.0
        self.cpu = 5.0
        self.watchdog = LoopWatchdog(
            Metrics(self.registry, version="test"),
            cast("asyncio.AbstractEventLoop", self.loop),
            monotonic=lambda: self.time,
            cpu_time=lambda: self.cpu,
        )
        self.watchdog.start()

    def passes(self, seconds: float, *, cpu: float) -> None:
        """The next measurement comes after these seconds, of which the thread computed some."""
        self.time += seconds
        self.cpu += cpu
        self.loop.timer()


def blocks(registry: CollectorRegistry) -> dict[str, float]:
    return {
        cause: registry.get_sample_value("counterfoil_event_loop_blocks_total", {"cause": cause}) or 0.0
        for cause in ("computing", "waiting")
    }


def longest(registry: CollectorRegistry, cause: str) -> float:
    return registry.get_sample_value("counterfoil_event_loop_longest_block_seconds", {"cause": cause}) or 0.0


def tasks(registry: CollectorRegistry) -> float:
    return registry.get_sample_value("counterfoil_event_loop_tasks") or 0.0


@pytest.mark.parametrize(
    ("seconds", "cpu", "computing", "waiting"),
    [
        (0.10, 0.10, 0, 0),
        (0.34, 0.34, 0, 0),
        (0.40, 0.40, 1, 0),
        (0.40, 0.01, 0, 1),
        (0.40, 0.20, 0, 0),
        (0.70, 0.30, 1, 1),
        (60.0, 60.0, 1, 0),
    ],
    ids=["idle", "short", "computing", "waiting", "a little of both", "both", "a minute"],
)
def test_a_block_of_more_than_250_ms_counts_by_its_cause(
    seconds: float, cpu: float, computing: int, waiting: int
) -> None:
    scene = Scene()
    scene.passes(seconds, cpu=cpu)
    assert blocks(scene.registry) == {"computing": computing, "waiting": waiting}


def test_the_longest_block_stays_and_each_block_counts() -> None:
    scene = Scene()
    for seconds in (0.5, 0.1, 0.4):
        scene.passes(seconds, cpu=seconds)
    assert blocks(scene.registry) == {"computing": 2, "waiting": 0}
    assert longest(scene.registry, "computing") == pytest.approx(0.4)


def test_after_the_stop_nothing_is_measured() -> None:
    scene = Scene()
    scene.watchdog.stop()
    assert scene.loop.stopped


async def test_the_tasks_of_the_loop_are_counted_at_each_scrape() -> None:
    # In the loop of all tests, tasks of earlier ones may end meanwhile.
    await asyncio.to_thread(asyncio.run, _count_tasks())


async def _count_tasks() -> None:
    registry = CollectorRegistry()
    with watched_event_loop(Metrics(registry, version="test")):
        before = tasks(registry)
        sleeping = [asyncio.create_task(asyncio.sleep(60)) for _ in range(3)]
        assert tasks(registry) == before + 3
        for each in sleeping:
            each.cancel()
        await asyncio.gather(*sleeping, return_exceptions=True)
        assert tasks(registry) == before


async def test_a_real_loop_that_computes_is_distinguished_from_one_that_waits() -> None:
    registry = CollectorRegistry()
    with watched_event_loop(Metrics(registry, version="test")):
        await asyncio.sleep(0)
        end = time.thread_time() + 0.6
        while time.thread_time() < end:
            pass
        await asyncio.sleep(2 * INTERVAL_SECONDS)
        assert blocks(registry)["computing"] == 1
        time.sleep(0.6)  # noqa: ASYNC251 - blocks the loop
        await asyncio.sleep(2 * INTERVAL_SECONDS)
    assert blocks(registry)["computing"] == 1
    assert blocks(registry)["waiting"] >= 1
    assert longest(registry, "computing") > 0.25
