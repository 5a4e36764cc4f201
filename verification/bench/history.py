"""
Bench (e): nothing grows with history. A controller works as fast, and needs as little memory, beside 100,000
finished events as beside none.

Each number of finished events has a separate control plane, into whose etcd the events are put. In turns, a
fresh controller starts in each of them and archives the same number of new events. As in bench (b), the
control planes have half of the cores, and eSAW answers each request after 200 ms. Then follows what does read
all events:

- the garbage collector's pass over 100,000 of them without its pauses, in a separate process with the rights
  of the controller, so that its CPU is counted apart;
- the count of failed events, which an API server answers from its memory;
- the removal of expired events by a whole controller that archives new events at the same time.

    .venv/bin/python -m verification.bench.history [--history 0 10000 100000] [--rounds 5] [--count 300] \
        [--delay 0.2]
        [--expired 2000]
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from controller.cache import Cache
from controller.resync.event_load import COUNT_SECONDS, UNKNOWN_ENVELOPE
from controller.resync.garbage_collector import (
    MIN_REST_SECONDS,
    PAGE_SECONDS,
    PAGE_SIZE,
    REST_FACTOR,
    START_SECONDS,
    GarbageCollector,
)
from controller.resync.statistics import EventStatistics
from counterfoil.clock import WallClock
from counterfoil.kube.client import connect
from counterfoil.resources import ORGANIZATION_LABEL, SENDER_LABEL, Envelope, EnvelopeEvent, Organization
from sandbox.controlplane.processes import run as run_program
from sandbox.environment.processes import CounterfoilProcess
from verification.bench.machine import CoreSplit, ProcessMemory, cpu_seconds
from verification.bench.setup import (
    ESAW_DELAY_SECONDS,
    LASTING_LEASE,
    NAMESPACE,
    ORGANIZATION,
    REPOSITORY,
    BenchSetup,
    MetricSamples,
    bench_setup,
    plane_on_cores,
)
from verification.bench.spread import Spread, order_of_turn, verdict
from verification.bench.stored_events import put_and_cache, random_id, stored_event, succeeded_status

TOLERANCE = 0.1
"""Part by which a figure may be worse than without history."""

MIN_LIVE_RATIO = 0.9
"""Of the throughput of new events while expired ones are removed, to the throughput without them."""

CONCURRENCY = 32
WARM_UP = 32
"""Number of events of the first turn, which fills caches and is not counted."""

COUNTS = 10
"""Number of counts that are measured together."""

REST_SECONDS = 2.0
IDLE_SECONDS = 3.0
IDLE_CPU = 0.05  # cores of API server and etcd that count as idle
IDLE_TIMEOUT = 120.0  # seconds
TIMEOUT = 1500.0  # seconds for the whole run
REMOVAL_TIMEOUT = 240.0  # seconds
FORMER_SENDER = "former"
"""Sender of the finished events; the new ones are selected by their sender."""

REQUESTS = "counterfoil_kubernetes_requests_total"
EVENTS = ("envelopeevents", "envelopeevents/status")
WRITES = ("create", "update", "patch")
STORED = ("200", "201")
ATTEMPTS = "counterfoil_attempts_total"
DONE = "done"


class HistoryRound(msgspec.Struct, frozen=True):
    """Result of one fresh controller beside one number of finished events."""

    first: float
    """Seconds from the start of the process to the first event that succeeded."""
    last: float
    """Seconds from the start of the process until all new events succeeded."""
    rate: float
    """Events a second from the first write about one of them to the last success."""
    memory_rest: float
    """MiB after the work."""
    memory_peak: float
    """MiB at most."""
    writes: float
    """Writes that the API server stored per new event, the create and the Kubernetes Events included."""
    unfinished: float
    """Attempts per new event that ended without success, for example to wait for a busy eSAW or archive."""
    lists: int
    """Lists of events by the controller."""


class PassResult(msgspec.Struct, frozen=True):
    """Result of one pass over all events without the pauses between its pages."""

    events: int
    pages: int
    """Number of lists."""
    seconds: float
    cpu: float
    """CPU seconds of the process that makes it."""
    memory_rise: float
    """MiB above the memory before the pass."""


class CountResult(msgspec.Struct, frozen=True):
    """Cost of one count of the failed events of unknown envelopes, which API servers answer from memory."""

    seconds: float
    cluster_cpu: float
    """CPU seconds of API server and etcd."""


class RemovalRound(msgspec.Struct, frozen=True):
    """Result of one controller that removes expired events while it archives new ones."""

    live: HistoryRound
    removed: int
    rate: float
    """Removed events a second from the first to the last, the pauses between pages included."""
    lists: int
    """Lists of events by the controller from its start until all expired events were removed."""
    seconds: float
    """From the start of the controller until then."""
    writes: float
    """Writes per removed event."""


# -- The finished events -------------------------------------------------------------------------------------


def finished_events(
    count: int, namespace: str, *, newest: timedelta, oldest: timedelta, seed: int
) -> Iterator[dict[str, Any]]:
    """Yield events that succeeded between these times ago."""
    source, now = random.Random(seed), datetime.now(UTC)
    for _ in range(count):
        envelope = random_id(source)
        created = now - timedelta(seconds=source.uniform(newest.total_seconds(), oldest.total_seconds()))
        event = stored_event(
            namespace=namespace,
            organization=ORGANIZATION,
            sender=FORMER_SENDER,
            envelope=envelope,
            created=created,
            random=source,
        )
        event["status"] = succeeded_status(envelope, created, created + timedelta(seconds=4))
        yield event


async def add_history(setup: BenchSetup, count: int) -> None:
    """Put events into etcd that are not expired yet."""
    events = finished_events(
        count, setup.namespace, newest=timedelta(hours=1), oldest=timedelta(days=29), seed=1
    )
    await put_and_cache(setup.plane, setup.kube, events)
    await _until_idle(setup)


async def _until_idle(setup: BenchSetup) -> None:
    """Wait until API server and etcd have done the work for the new objects."""
    async with asyncio.timeout(IDLE_TIMEOUT):
        while True:
            before = setup.cluster_cpu()
            await asyncio.sleep(IDLE_SECONDS)
            if setup.cluster_cpu() - before < IDLE_CPU * IDLE_SECONDS:
                return


async def add_expired(setup: BenchSetup, count: int, seed: int) -> None:
    """Put events into etcd whose time to live has passed (33 days)."""
    events = finished_events(
        count, setup.namespace, newest=timedelta(days=34), oldest=timedelta(days=60), seed=seed
    )
    await put_and_cache(setup.plane, setup.kube, events)


# -- New events beside them ----------------------------------------------------------------------------------


async def history_round(setup: BenchSetup, count: int, name: str) -> HistoryRound:
    """Let a fresh controller archive new events."""
    live, controller = await _archived(setup, count, name)
    await controller.stop()
    return live


async def _archived(setup: BenchSetup, count: int, name: str) -> tuple[HistoryRound, CounterfoilProcess]:
    """Let a fresh controller archive new events, and let it run."""
    names = await setup.create_events(await setup.create_envelopes(count))
    async with setup.observed_events() as progress:
        started = time.perf_counter()
        controller = await setup.controller(name, **LASTING_LEASE)
        await progress.until_succeeded(count)
    await asyncio.sleep(REST_SECONDS)
    memory, samples = ProcessMemory.of(controller.pid), MetricSamples(await controller.metrics())
    times = list(progress.succeeded.values())
    # So that the next round finds the same number of finished events.
    await setup.delete_events(names)
    live = HistoryRound(
        first=times[0] - started,
        last=times[-1] - started,
        rate=count / (times[-1] - min(progress.changed.values())),
        memory_rest=memory.now,
        memory_peak=memory.peak,
        writes=1 + samples.total(REQUESTS, verb=WRITES, resource=(*EVENTS, "events"), code=STORED) / count,
        unfinished=(samples.total(ATTEMPTS) - samples.total(ATTEMPTS, outcome=DONE)) / count,
        lists=int(samples.total(REQUESTS, verb="list", resource=EVENTS)),
    )
    return live, controller


# -- The pass ------------------------------------------------------------------------------------------------


class NoPauseClock(WallClock):
    """The machine's clock, without the pauses between pages; the rest after the pass never ends."""

    def __init__(self) -> None:
        self.is_at_rest = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Let other tasks run."""
        if seconds not in (START_SECONDS, PAGE_SECONDS):
            self.is_at_rest.set()
            await asyncio.Event().wait()
        await asyncio.sleep(0)


async def make_pass(kubeconfig: Path, namespace: str) -> PassResult:
    """Read all events as the garbage collector does, once and without pauses. Raises ``RuntimeError`` if
    the pass broke off."""
    pages, clock, finished = 0, NoPauseClock(), asyncio.Event()

    def count_lists(verb: str, resource: str, status: int) -> None:
        nonlocal pages
        pages += verb == "list" and resource == EnvelopeEvent.PLURAL and status == 200

    async def unchanged(event: EnvelopeEvent) -> EnvelopeEvent:
        return event

    async with connect(namespace=namespace, kubeconfig=kubeconfig, observe=count_lists) as kube:
        cache, statistics = Cache(), EventStatistics()
        async for raw in kube.list(Organization):
            cache.organizations.put(Organization.parse(raw))
        collector = GarbageCollector(
            kube=kube,
            cache=cache,
            clock=clock,
            machine_clock=clock,
            statistics=statistics,
            reopeners=(),
            pass_finished=lambda began, failures: finished.set(),
        )
        pid = os.getpid()
        memory, cpu, started = ProcessMemory.of(pid).now, cpu_seconds(pid), time.perf_counter()
        running = asyncio.create_task(collector.run())
        await clock.is_at_rest.wait()
        seconds, used = time.perf_counter() - started, cpu_seconds(pid) - cpu
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if not finished.is_set():
            raise RuntimeError("the pass broke off; the log line above has the reason")
        return PassResult(
            events=sum((statistics.counts(ORGANIZATION) or {}).values()),
            pages=pages,
            seconds=seconds,
            cpu=used,
            memory_rise=ProcessMemory.of(pid).peak - memory,
        )


async def measure_pass(setup: BenchSetup) -> tuple[PassResult, float]:
    """Let a process make a pass; return its result, and the CPU seconds of API server and etcd."""
    kubeconfig = await setup.plane.kubeconfig_for("controller", setup.namespace)
    before = setup.cluster_cpu()
    finished = await run_program(
        [
            sys.executable,
            "-m",
            "verification.bench.history",
            f"--one-pass={kubeconfig}",
            f"--namespace={setup.namespace}",
        ],
        cwd=REPOSITORY,
    )
    if finished.code != 0:
        raise RuntimeError(f"the pass ended with status {finished.code}: {finished.err}")
    return msgspec.json.decode(finished.out, type=PassResult), setup.cluster_cpu() - before


async def measure_count(setup: BenchSetup) -> CountResult:
    """Count as the controller does at each interval, several times."""
    before, started = setup.cluster_cpu(), time.perf_counter()
    for _ in range(COUNTS):
        await setup.kube.count_by_label(EnvelopeEvent, ORGANIZATION_LABEL, UNKNOWN_ENVELOPE)
    seconds = time.perf_counter() - started
    return CountResult(seconds / COUNTS, (setup.cluster_cpu() - before) / COUNTS)


# -- The removal ---------------------------------------------------------------------------------------------


async def removal_round(
    setup: BenchSetup, expired: int, count: int, name: str, *, seed: int = 2
) -> RemovalRound:
    """Let a fresh controller remove expired events while it archives new ones."""
    await add_expired(setup, expired, seed)
    watching = asyncio.create_task(_removal_times(setup, expired))
    started = time.perf_counter()
    live, controller = await _archived(setup, count, name)
    try:
        async with asyncio.timeout(REMOVAL_TIMEOUT):
            times = await watching
    finally:
        watching.cancel()
    # The request that removed the last one is in the metrics a moment later than in the watch.
    await asyncio.sleep(1.0)
    samples = MetricSamples(await controller.metrics())
    await controller.stop()
    deletes = samples.total(REQUESTS, verb="delete", resource=EVENTS)
    marks = samples.total(REQUESTS, verb="patch", resource=Envelope.PLURAL)
    return RemovalRound(
        live=live,
        removed=len(times),
        rate=(len(times) - 1) / (times[-1] - times[0]),
        lists=int(samples.total(REQUESTS, verb="list", resource=EVENTS)),
        seconds=times[-1] - started,
        writes=(deletes + marks) / expired,
    )


async def _removal_times(setup: BenchSetup, count: int) -> list[float]:
    """Return when each expired event was removed, in order."""
    times = list[float]()
    labels = f"{SENDER_LABEL}={FORMER_SENDER}"
    async for change in setup.kube.list_and_watch(EnvelopeEvent, labels=labels):
        if change.type == "DELETED":
            times.append(time.perf_counter())
        if len(times) >= count:
            break
    return times


# -- The run -------------------------------------------------------------------------------------------------


class HistoryResult(msgspec.Struct, frozen=True):
    """All that was measured."""

    rounds: Mapping[int, Sequence[HistoryRound]]
    """By number of finished events."""
    passed: PassResult
    pass_cluster_cpu: float
    """CPU seconds of API server and etcd for the pass."""
    counted: Mapping[int, CountResult]
    """By number of finished events."""
    without_removal: Sequence[HistoryRound]
    removals: Sequence[RemovalRound]


async def measure(
    setups: Mapping[int, BenchSetup], *, rounds: int, count: int, expired: int, removals: int
) -> HistoryResult:
    """Measure beside each number of finished events; the smallest number's setup gets the expired ones."""
    for history, setup in setups.items():
        await add_history(setup, history)
        await history_round(setup, min(WARM_UP, count), "warm-up")
    found: dict[int, list[HistoryRound]] = {history: [] for history in setups}
    for turn in range(rounds):
        for history in order_of_turn(setups, turn):
            found[history].append(await history_round(setups[history], count, f"history-{turn}"))
    passed, cluster_cpu = await measure_pass(setups[max(setups)])
    counted = {history: await measure_count(setup) for history, setup in setups.items()}
    without, removed, setup = list[HistoryRound](), list[RemovalRound](), setups[min(setups)]
    for turn in range(removals):
        without.append(await history_round(setup, count, f"without-{turn}"))
        removed.append(await removal_round(setup, expired, count, f"removal-{turn}", seed=2 + turn))
    return HistoryResult(found, passed, cluster_cpu, counted, without, removed)


def report(result: HistoryResult) -> str:
    """Return the Markdown, ratios first."""
    return "\n".join([*_history_lines(result.rounds), "", *_pass_lines(result), "", *_removal_lines(result)])


def _history_lines(rounds: Mapping[int, Sequence[HistoryRound]]) -> list[str]:
    least, figures = min(rounds), ("first", "last", "rate", "memory_rest", "memory_peak")
    lines = [
        f"| finished events | figure | of that with {least:,} | measured | target | |",
        "|---|---|---|---|---|---|",
    ]
    for history, done in rounds.items():
        for figure in figures:
            found = Spread.of(getattr(each, figure) for each in done)
            ratio = Spread.of_ratios(found.values, (getattr(each, figure) for each in rounds[least]))
            target = ">= 0.90" if figure == "rate" else "<= 1.10"
            is_met = ratio.median >= 1 - TOLERANCE if figure == "rate" else ratio.median <= 1 + TOLERANCE
            judged = f"{target} | {verdict(is_met)}" if history != least else " | "
            lines.append(
                f"| {history:,} | {FIGURES[figure]} | {ratio.text(2)} | {found.text(1)} | {judged} |"
            )
    most = Spread.of(each.writes for done in rounds.values() for each in done)
    return [*lines, "", f"- writes to the API server per new event: {most.text(2)}, with any history"]


def _pass_lines(result: HistoryResult) -> list[str]:
    passed = result.passed
    whole = passed.seconds + (passed.pages - 1) * PAGE_SECONDS
    rest = max(MIN_REST_SECONDS, REST_FACTOR * whole)
    used = (passed.cpu + result.pass_cluster_cpu) / (whole + rest)
    return [
        f"The pass over all events starts {START_SECONDS:.0f} s after the controller that holds its shard. "
        f"It starts again after {REST_FACTOR} times its duration (at least {MIN_REST_SECONDS:.0f} s). "
        f"It reads a page of {PAGE_SIZE} events, and pauses {PAGE_SECONDS:g} s after each.",
        "",
        f"- {passed.events:,} events are {passed.pages} lists; {passed.seconds:.1f} s without the pauses, "
        f"so {whole:.0f} s with them",
        f"- CPU of one pass: {passed.cpu:.1f} s of the controller, {result.pass_cluster_cpu:.1f} s of API "
        f"server and etcd; with the pauses, {used:.3f} cores on average",
        f"- memory of one pass: {passed.memory_rise:.1f} MiB above the memory before it",
        *_count_lines(result.counted),
    ]


def _count_lines(counted: Mapping[int, CountResult]) -> list[str]:
    return [
        f"- the count of failed events each {COUNT_SECONDS:.0f} s, beside {history:,} finished events: "
        f"{each.seconds * 1000:.0f} ms, {each.cluster_cpu * 1000:.0f} ms CPU of API server and etcd; on "
        f"average {each.cluster_cpu / COUNT_SECONDS:.4f} cores"
        for history, each in counted.items()
    ]


def _removal_lines(result: HistoryResult) -> list[str]:
    if not result.removals:
        return []
    ratio = Spread.of_ratios(
        (each.live.rate for each in result.removals), (each.rate for each in result.without_removal)
    )
    removed = result.removals[0].removed
    return [
        f"- new events while {removed:,} expired events are removed: {ratio.text(2)} of the throughput "
        f"without; target >= {MIN_LIVE_RATIO}: {verdict(ratio.median >= MIN_LIVE_RATIO)}",
        f"- removed events per s, the pauses between pages included: "
        f"{Spread.of(each.rate for each in result.removals).text(1)}",
        f"- lists of events by the controller until then, of at most {PAGE_SIZE} events each: "
        f"{max(each.lists for each in result.removals)}; without expired events "
        f"{max(each.lists for each in result.without_removal)}",
        f"- writes per removed event: {Spread.of(each.writes for each in result.removals).text(2)}",
    ]


FIGURES: Mapping[str, str] = {
    "first": "s from the start to the first success",
    "last": "s from the start until all succeeded",
    "rate": "events per s",
    "memory_rest": "memory at rest, MiB",
    "memory_peak": "memory at most, MiB",
}


async def run(
    histories: Sequence[int], *, rounds: int, count: int, delay: float, expired: int, removals: int
) -> str:
    """Run it all and return the report."""
    split = CoreSplit.separate()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(TIMEOUT))
        setups: dict[int, BenchSetup] = {}
        for history in histories:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            plane = await stack.enter_async_context(plane_on_cores(split))
            setups[history] = await stack.enter_async_context(
                bench_setup(folder, concurrency=CONCURRENCY, plane=plane)
            )
            await setups[history].esaw.control.fault("*", delay=delay)
        result = await measure(setups, rounds=rounds, count=count, expired=expired, removals=removals)
    return (
        f"{rounds} rounds of {count} new events, {CONCURRENCY} at once, eSAW answers after "
        f"{delay * 1000:.0f} ms\n\n{report(result)}"
    )


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--history", type=int, nargs="+", default=[0, 10_000, 100_000], help="numbers of finished events"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=300, help="number of new events of each round")
    parser.add_argument("--delay", type=float, default=ESAW_DELAY_SECONDS, help="latency of eSAW in seconds")
    parser.add_argument("--expired", type=int, default=2000, help="number of events to remove")
    parser.add_argument("--removals", type=int, default=1, help="rounds with and without a removal")
    parser.add_argument("--one-pass", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--namespace", default=NAMESPACE, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one_pass:
        print(msgspec.json.encode(asyncio.run(make_pass(chosen.one_pass, chosen.namespace))).decode())
    else:
        print(
            asyncio.run(
                run(
                    sorted(set(chosen.history)),
                    rounds=chosen.rounds,
                    count=chosen.count,
                    delay=chosen.delay,
                    expired=chosen.expired,
                    removals=chosen.removals,
                )
            )
        )


if __name__ == "__main__":
    main()
