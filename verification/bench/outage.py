"""
Bench (h): events that wait while the archive is not there, and what follows when it is back.

The events are put into etcd in the state that they have in an outage of a given age, and the root folder of
the archive is missing. First the outage has just begun: each event makes its first attempt, which costs what
an attempt costs. Then the outage is one and four hours old: the pauses between the attempts follow the
product's own retry policy, with its default settings, and have grown. These ages have the target for the CPU.

Then the archive comes back. The stand-in eSAW records when the controller asks for each envelope first and
deletes it last, which shows the order, and how many events run at the same time.

    .venv/bin/python -m verification.bench.outage [--count 5000] [--at-once 32] [--first 15] [--wait 30] \
        [--age 60 240]
"""

import argparse
import asyncio
import itertools
import random
import tempfile
import time
from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from controller.scheduling.retry_policy import next_attempt
from counterfoil.resources import Archive, RetrySpec, is_condition_true, to_json_dict
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import DocumentSpec, RecordedRequest
from verification.bench.machine import ProcessMemory, cpu_seconds_of_all
from verification.bench.setup import ARCHIVE, ORGANIZATION, SENDER, BenchSetup, MetricSamples, bench_setup
from verification.bench.spread import verdict
from verification.bench.stored_events import put_and_cache, stored_event, time_text

MAX_CPU = 0.05
"""Cores that the controller uses while the events wait."""

REASON = "ArchiveRootMissing"
RETRY = RetrySpec()
"""The default of ``spec.retry``."""

SETTLE_SECONDS = 5.0
"""Pause between the start of the controller and the measurement."""

READY_TIMEOUT = 60.0  # seconds
TIMEOUT = 900.0  # seconds for the whole run

DOCUMENTS = (DocumentSpec(name="contract.pdf", size=2000),)


class WaitingRound(msgspec.Struct, frozen=True):
    """Work of a controller while the archive is not there; rates are per minute."""

    age: float
    """Minutes since the outage began."""
    cpu: float
    """Cores."""
    archive: float
    """Operations of the archive, the probes included."""
    esaw: float
    """Requests to eSAW."""
    writes: float
    """Writes to the API server."""
    memory: float
    """MiB at most so far."""


class RecoveryRound(msgspec.Struct, frozen=True):
    """Course of events after the archive is back."""

    noticed: float
    """Seconds until the Archive is ready again."""
    done: float
    """Seconds until all events succeeded."""
    inversions: float
    """Part of all pairs of events of which the younger one was begun first; 0.5 is a random order."""
    ordered: int
    """Number of events that were begun after the Archive was ready."""
    at_once: int
    """Maximum number of events that ran at the same time, as eSAW saw them."""


class OutageResult(msgspec.Struct, frozen=True):
    """All that was measured."""

    waiting: Sequence[WaitingRound]
    recovery: RecoveryRound


# -- The waiting events --------------------------------------------------------------------------------------


def waiting_events(
    envelopes: Sequence[str], namespace: str, *, now: datetime, age: timedelta
) -> Iterator[dict[str, Any]]:
    """Yield an event per envelope, created one second after the other, oldest first; each has tried as often
    as the retry policy lets it in an outage of this age."""
    source, began = random.Random(3), now - age
    for number, envelope in enumerate(envelopes):
        event = stored_event(
            namespace=namespace,
            organization=ORGANIZATION,
            sender=SENDER,
            envelope=envelope,
            created=began - timedelta(seconds=len(envelopes) - number),
            random=source,
        )
        if age:
            event["status"] = _waiting_status(began, now, source)
        yield event


def _waiting_status(began: datetime, now: datetime, source: random.Random) -> dict[str, Any]:
    attempts, due = 1, next_attempt(1, RETRY, now=began, random=source.random)
    while due <= now:
        attempts += 1
        due = next_attempt(attempts, RETRY, now=due, random=source.random)
    return {
        "phase": "Archiving",
        "reason": REASON,
        "message": "The folder of the archive does not exist.",
        "attempts": attempts,
        "nextAttemptTime": time_text(due),
        "phaseStartTime": time_text(began),
        "startTime": time_text(began),
    }


# -- While the archive is not there --------------------------------------------------------------------------


async def waiting_round(controller: CounterfoilProcess, age: timedelta, seconds: float) -> WaitingRound:
    """Measure a running controller for this time."""
    before, cpu, started = await _samples(controller), cpu_seconds_of_all(controller.pid), time.perf_counter()
    await asyncio.sleep(seconds)
    used, minutes = cpu_seconds_of_all(controller.pid) - cpu, (time.perf_counter() - started) / 60
    after = await _samples(controller)

    def per_minute(name: str, **labels: str | Sequence[str]) -> float:
        return (after.total(name, **labels) - before.total(name, **labels)) / minutes

    return WaitingRound(
        age=age.total_seconds() / 60,
        cpu=used / (minutes * 60),
        archive=per_minute("counterfoil_archive_seconds_count"),
        esaw=per_minute("counterfoil_esaw_requests_total"),
        writes=per_minute("counterfoil_kubernetes_requests_total", verb=("create", "update", "patch")),
        memory=ProcessMemory.of(controller.pid).peak,
    )


async def _samples(controller: CounterfoilProcess) -> MetricSamples:
    return MetricSamples(await controller.metrics())


# -- When it is back -----------------------------------------------------------------------------------------


async def recovery_round(setup: BenchSetup, missing: Path, envelopes: Sequence[str]) -> RecoveryRound:
    """Put the archive's folder back, and wait until all events succeeded."""
    async with setup.observed_events() as progress:
        await setup.esaw.control.clear_requests()
        await asyncio.to_thread(missing.rename, setup.root)
        started = time.perf_counter()
        async with asyncio.timeout(READY_TIMEOUT):
            while not await _is_ready(setup):  # noqa: ASYNC110 - another process gives no event to wait for
                await asyncio.sleep(0.1)
        noticed, ready_at = time.perf_counter() - started, datetime.now(UTC)
        await progress.until_succeeded(len(envelopes))
        done = time.perf_counter() - started
    requests = await setup.esaw.control.requests()
    runs = runs_by_envelope(requests, set(envelopes))
    # Before that, each event was begun at its own next attempt.
    begun = [
        each.id
        for each in requests
        if each.id in runs and each.number == runs[each.id][0] and each.time >= ready_at
    ]
    place = {envelope: number for number, envelope in enumerate(envelopes)}
    return RecoveryRound(
        noticed=noticed,
        done=done,
        inversions=inversions([place[each] for each in begun if each is not None]),
        ordered=len(begun),
        at_once=most_at_once(runs.values()),
    )


async def _is_ready(setup: BenchSetup) -> bool:
    archive = Archive.parse(await setup.kube.get(Archive, ARCHIVE))
    return is_condition_true(archive.status.conditions, "Ready")


def runs_by_envelope(
    requests: Sequence[RecordedRequest], envelopes: Collection[str]
) -> dict[str, tuple[int, int]]:
    """Return the first request about each envelope and the end of the last one, on the recorder's count."""
    runs: dict[str, tuple[int, int]] = {}
    for each in requests:
        if each.id is not None and each.id in envelopes:
            first, last = runs.get(each.id, (each.number, each.number))
            runs[each.id] = (min(first, each.number), max(last, each.done))
    return runs


def most_at_once(runs: Iterable[tuple[int, int]]) -> int:
    """Return the maximum number of runs of which none ended before another one began."""
    changes = sorted(change for first, last in runs for change in ((first, 1), (last, -1)))
    return max(itertools.accumulate(change for _, change in changes), default=0)


def inversions(order: Sequence[int]) -> float:
    """Return the part of all pairs that are in the wrong order: 0 if sorted, 1 if reversed."""
    earlier, wrong = list[int](), 0
    for each in order:
        wrong += len(earlier) - bisect_left(earlier, each)
        insort(earlier, each)
    pairs = len(order) * (len(order) - 1) // 2
    return wrong / pairs if pairs else 0.0


# -- The run -------------------------------------------------------------------------------------------------


async def measure(
    setup: BenchSetup, count: int, *, first: float, wait: float, ages: Sequence[float]
) -> OutageResult:
    """Measure the beginning of the outage for ``first`` seconds, each age (minutes) for ``wait`` seconds, and
    then the recovery."""
    envelopes = await setup.create_envelopes(count, DOCUMENTS)
    # One controller knows the archive before, as in an outage.
    controller = await setup.controller("before")
    await setup.local_environment.ready(f"archive/{ARCHIVE}", f"organization/{ORGANIZATION}")
    await controller.stop()
    missing = setup.root.with_name("missing")
    setup.root.rename(missing)
    found = list[WaitingRound]()
    for minutes in (0.0, *ages):
        outage_age = timedelta(minutes=minutes)
        events = waiting_events(envelopes, setup.namespace, now=datetime.now(UTC), age=outage_age)
        await put_and_cache(setup.plane, setup.kube, events)
        controller = await setup.controller(f"outage-{minutes:.0f}")
        await asyncio.sleep(SETTLE_SECONDS)
        found.append(await waiting_round(controller, outage_age, wait if minutes else first))
        if minutes != ages[-1]:
            await controller.stop()
    recovery = await recovery_round(setup, missing, envelopes)
    await controller.stop()
    return OutageResult(found, recovery)


def report(result: OutageResult, at_once: int) -> str:
    """Return the Markdown, ratios first."""
    lines = [
        "| age of the outage | cores | target | | operations of the archive per min | requests to eSAW per "
        "min | writes to the API server per min | memory at most MiB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in result.waiting:
        judged = f"<= {MAX_CPU} | {verdict(each.cpu <= MAX_CPU)}" if each.age else "(first attempts) | "
        lines.append(
            f"| {each.age:.0f} min | {each.cpu:.3f} | {judged} | {each.archive:.0f} | {each.esaw:.0f} | "
            f"{each.writes:.0f} | {each.memory:.0f} |"
        )
    recovery = result.recovery
    most = at_once / max(at_once, recovery.ordered)
    return "\n".join(
        [
            *lines,
            "",
            f"- order after the recovery: {recovery.inversions:.4f} of all pairs of {recovery.ordered:,} "
            f"events in the wrong order (0: oldest first; 0.5: random); target <= {most:.4f} (those that "
            f"run at the same time reach eSAW in any order): {verdict(recovery.inversions <= most)}",
            f"- events at once after the recovery: at most {recovery.at_once / at_once:.2f} of the "
            f"configured {at_once}; target <= 1: {verdict(recovery.at_once <= at_once)}",
            f"- seconds after the recovery: {recovery.noticed:.1f} until the Archive was ready, "
            f"{recovery.done:.1f} until all events succeeded",
        ]
    )


async def run(count: int, at_once: int, *, first: float, wait: float, ages: Sequence[float]) -> str:
    """Run it all and return the report."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            asyncio.timeout(TIMEOUT),
            bench_setup(Path(folder), concurrency=at_once, retry=to_json_dict(RETRY)) as setup,
        ):
            result = await measure(setup, count, first=first, wait=wait, ages=ages)
    return f"{count:,} events, {at_once} at once\n\n{report(result, at_once)}"


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--first", type=float, default=15.0, help="seconds at the beginning of the outage")
    parser.add_argument("--wait", type=float, default=30.0, help="seconds at each later age")
    parser.add_argument(
        "--age", type=float, nargs="+", default=[60.0, 240.0], help="ages of the outage in minutes"
    )
    chosen = parser.parse_args()
    print(
        asyncio.run(run(chosen.count, chosen.at_once, first=chosen.first, wait=chosen.wait, ages=chosen.age))
    )


if __name__ == "__main__":
    main()
