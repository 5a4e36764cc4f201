"""
Bench (l): an Import of old envelopes by a whole controller, with callbacks beside it.

A controller archives callbacks without an Import first. Then it imports envelopes that were sent long ago,
while callbacks arrive at the same rate. The first four fifths of the Import are measured: the rate, beside
the plain script of bench (b) with as many envelopes at once; the controller's memory; and how long a callback
takes. An Import has the places that callbacks leave of three quarters of all, so the rate is that of both. In
the last fifth no callback arrives, and the controller is killed again and again. In the end each envelope
must be in the archive and in the report exactly once, and the Import's status must have the true counts.

The receiver shares with an Import only the API server and, here, the machine. So a bare client creates equal
events at the API server in turns with the callbacks, from the process that sends these. Its times are the
control: what both have in common is not of the receiver.

The machine is busy with 32 events at once. So another run has 8 at once, with fewer envelopes for about the
same time.

The progress goes to stderr. The defaults take about eighteen minutes. The time grows with the number of
envelopes, and with 100,000 it is hours.

    .venv/bin/python -m verification.bench.imports [--count 2000] [--kills 10] [--callbacks 250] [--pause 0.5]
        [--at-once 32 8] [--delay 0.2] [--plain 500]
"""

import argparse
import asyncio
import hashlib
import itertools
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from controller.scheduling.process_slots import less_a_quarter
from counterfoil.archives.layout import REPORTS_FOLDER
from counterfoil.archives.names import HASHES_NAME, MANIFEST_NAME
from counterfoil.resources import (
    IMPORT_LABEL,
    Import,
    ImportStatus,
    envelope_id,
    event_name,
)
from sandbox.environment.processes import CounterfoilProcess
from verification.bench.controller import ensure_all_deleted, plain_round
from verification.bench.machine import CoreSplit, ProcessMemory, forget_peak
from verification.bench.setup import (
    ESAW_DELAY_SECONDS,
    ORGANIZATION,
    BenchSetup,
    EventProgress,
    bench_setup,
    new_events,
    plane_on_cores,
)
from verification.bench.spread import verdict
from verification.bench.timed_requests import TimedClient

MIN_RATIO = 0.9
"""Of the plain script's rate."""
MAX_MEMORY_RATIO = 1.1
"""Of the controller's memory at rest."""
MAX_P99_RATIO = 1.2
"""Of the time of callbacks without an Import."""

NAME = "old-stock"
"""Name of the Import."""
CONTROLLER = "controller"
PER_WEEK = 400
"""Old envelopes of each week of the span."""
LAST_SENT = timedelta(days=100)
"""Age of the newest old envelope; the sweep does not look that far back."""
MEASURED_PART = 0.8
"""Part of the Import that is measured before the first kill."""
KILL_SECONDS = 1.0
"""Maximum time from the end of an event to a kill, which then hits the others anywhere."""

REST_SECONDS = 2.0
PROGRESS_SECONDS = 10.0
STATUS_SECONDS = 1.0
CLEAR_SECONDS = 60.0
"""Interval after which the stand-in forgets its recorded requests."""


class CallbackTimes(msgspec.Struct, frozen=True):
    """Seconds of each callback."""

    answered: Sequence[float]
    """From the request to the answer 200."""
    succeeded: Sequence[float]
    """From the request until its event succeeded."""
    changed: Sequence[float]
    """From the request until the controller changed its event first."""
    created: Sequence[float]
    """Of the control: an equal event that a bare client created at the API server meanwhile."""


class ArchiveCheck(msgspec.Struct, frozen=True):
    """The content of the archive beside what it must be."""

    wrong: Sequence[str]
    """One text for each envelope that is not there exactly once and whole, and each file too many."""
    size: int
    """Bytes of the files of the envelopes, without manifests and hash files."""


class ImportResult(msgspec.Struct, frozen=True):
    """All that was measured; rates are per second, memory is in MiB."""

    count: int
    rate: float
    """Of the Import."""
    callback_rate: float
    """Of the callbacks beside it."""
    plain_rate: float
    memory_rest: float
    memory_peak: float
    max_unfinished: int
    """The bound of the Import."""
    most_unfinished: int
    """Unfinished events at one time, at most."""
    without: CallbackTimes
    """Callbacks without an Import."""
    beside: CallbackTimes
    """Callbacks beside the Import."""
    kills: int
    archive_wrong: Sequence[str]
    status_wrong: Sequence[str]
    esaw_memory: float
    """Of the stand-in, which holds all envelopes."""


# -- The callbacks -------------------------------------------------------------------------------------------


def control_namespace(setup: BenchSetup) -> str:
    """Return the namespace of the events that a bare client creates."""
    return f"{setup.namespace}-control"


async def measure_callbacks(
    setup: BenchSetup,
    receiver: CounterfoilProcess,
    client: TimedClient,
    *,
    pause: float,
    at_once: int,
    is_enough: Callable[[int], bool],
) -> CallbackTimes:
    """
    Let a callback about a new envelope arrive after each pause until there are enough, and wait until their
    events succeeded.

    Of ``at_once`` whose events did not succeed yet, the next one waits: more would leave the Import no room,
    since callbacks come first. Half a pause after each callback, ``client`` creates an equal event, for which
    there is no controller. Raises ``RuntimeError`` if a callback is not answered 200.
    """
    url = setup.local_environment.callback_url(ORGANIZATION, receiver)
    under_way, sent = asyncio.Semaphore(at_once), 0
    answered, succeeded = list[float](), list[float]()
    changed, created = list[float](), list[float]()
    async with setup.observed_events(f"!{IMPORT_LABEL}") as progress:

        async def call(envelope: str) -> None:
            name = event_name(ORGANIZATION, envelope_id(envelope), "envelopeFinished")
            target = url.replace("##EnvelopeId##", envelope).replace("##Action##", "envelopeFinished")
            answer = await client.get(target)
            answered.append(answer.seconds)
            await progress.until(lambda: name in progress.succeeded)
            succeeded.append(progress.succeeded[name] - answer.started)
            changed.append(progress.changed[name] - answer.started)
            under_way.release()

        async def create() -> None:
            (event,) = new_events([str(uuid.uuid4())]).values()
            created.append((await client.create_event(control_namespace(setup), event)).seconds)

        async with asyncio.TaskGroup() as calls:
            while not is_enough(sent):
                (envelope,) = await setup.create_envelopes(1)
                await under_way.acquire()
                calls.create_task(call(envelope))
                sent += 1
                await asyncio.sleep(pause / 2)
                calls.create_task(create())
                await asyncio.sleep(pause / 2)
    return CallbackTimes(answered, succeeded, changed, created)


# -- The Import ----------------------------------------------------------------------------------------------


def ages(count: int) -> Iterator[timedelta]:
    """Yield the age of each old envelope, the newest first; they are evenly spread over their weeks."""
    weeks = -(-count // PER_WEEK)
    return (LAST_SENT + timedelta(weeks=weeks) * number / count for number in range(count))


async def create_import(setup: BenchSetup, oldest: timedelta) -> Import:
    """Create the Import of all old envelopes."""
    now = datetime.now(UTC)
    body = {
        "apiVersion": Import.API_VERSION,
        "kind": Import.KIND,
        "metadata": {"name": NAME},
        "spec": {
            "organizationRef": {"name": ORGANIZATION},
            "from": f"{now - oldest - timedelta(days=1):%Y-%m-%d}",
            "until": f"{now - LAST_SENT + timedelta(days=1):%Y-%m-%d}",
        },
    }
    return Import.parse(await setup.kube.create(Import, body))


async def start_controller(setup: BenchSetup, at_once: int, count: int) -> CounterfoilProcess:
    """Start a controller, also after the last one was killed: its shards are its own at once."""
    quota = str(10 * count + 100_000)  # so that finished events never hold the Import
    return await setup.controller(CONTROLLER, concurrency=str(at_once), event_quota=quota)


async def kill_again_and_again(
    progress: EventProgress,
    controller: CounterfoilProcess,
    start: Callable[[], Awaitable[CounterfoilProcess]],
    stops: Sequence[int],
) -> None:
    """Kill the controller each time that this number of events has succeeded, and start it again."""
    chance = random.Random(12)
    for stop in stops:
        await progress.until(lambda: len(progress.succeeded) >= stop)  # noqa: B023 - awaited here
        await asyncio.sleep(chance.random() * KILL_SECONDS)
        controller.kill()
        controller = await start()


async def completed(setup: BenchSetup) -> ImportStatus:
    """Wait until the Import is complete; return its status."""
    while True:
        status = Import.parse(await setup.kube.get(Import, NAME)).status
        if status.completion_time is not None:
            return status
        await asyncio.sleep(STATUS_SECONDS)


def status_errors(status: ImportStatus, count: int, size: int) -> list[str]:
    """Return each count of the status that is not true; ``size`` is in bytes."""
    expected = {
        "found": count,
        "known": 0,
        "reopened": 0,
        "refused": 0,
        "archived": count,
        "skipped": 0,
        "failed": 0,
        "bytes": size,
    }
    wrong = {name: (getattr(status, name), true) for name, true in expected.items()}
    wrong["groups"] = (sum(each.found for each in status.groups), count)
    wrong["windows.done"] = (status.windows.done, status.windows.total)
    return [f"{name} is {found}, not {true}" for name, (found, true) in wrong.items() if found != true]


# -- The archive ---------------------------------------------------------------------------------------------


def check_archive(root: Path, envelopes: Collection[str]) -> ArchiveCheck:
    """Read all files below ``root``, those of other envelopes too, but not the report."""
    # The files in the root itself are those of the archive.
    files = {
        Path(folder, name)
        for folder, _, names in os.walk(root)
        for name in names
        if Path(folder) != root and not Path(folder).is_relative_to(root / REPORTS_FOLDER)
    }
    wanted, found, wrong, size = set(envelopes), Counter[str](), list[str](), 0
    for manifest in [each for each in files if each.name == MANIFEST_NAME]:
        envelope = json.loads(manifest.read_bytes())["envelope"]["id"]
        found[envelope] += 1
        listed = manifest.with_name(HASHES_NAME)
        files -= {manifest, listed}
        for line in listed.read_text("utf-8").splitlines():
            sha256, _, name = line.partition("  ")
            path = manifest.parent / name
            content = path.read_bytes() if path in files else b""
            if hashlib.sha256(content).hexdigest() != sha256:
                wrong.append(f"{path} is not as its manifest says")
            files.discard(path)
            size += len(content) if envelope in wanted else 0
    wrong += [f"{each} is not in the archive" for each in envelopes if each not in found]
    wrong += [f"{each} is in the archive {times} times" for each, times in found.items() if times > 1]
    wrong += [f"{each} belongs to no envelope" for each in files]
    return ArchiveCheck(wrong, size)


def report_errors(status: ImportStatus, envelopes: Collection[str]) -> list[str]:
    """Follow the parts of the report; return each part that is not as the next one says, and each envelope
    that is not in the report once, as archived."""
    wrong, found = list[str](), Counter[str]()
    last, number = status.report_parts, 0
    wanted = {"location": last.location, "sha256": last.sha256} if last is not None else None
    while wanted is not None:
        path = Path(unquote(urlsplit(wanted["location"]).path))
        content = path.read_bytes() if path.exists() else b"{}"
        if hashlib.sha256(content).hexdigest() != wanted["sha256"]:
            return [*wrong, f"{path} is not the part that the next one names"]
        header, *rows = map(json.loads, content.splitlines())
        found.update(each["envelopeID"] for each in rows if each["outcome"] == "Archived")
        wanted, number = header["previous"], number + 1
    if number != (last.number if last is not None else 0):
        wrong.append(f"the report has {number} parts")
    wrong += [f"{each} is in the report {found[each]} times" for each in envelopes if found[each] != 1]
    return wrong


# -- The run -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def background(setup: BenchSetup, progress: EventProgress, count: int) -> AsyncIterator[None]:
    """Print the progress, and let the stand-in forget its recorded requests, until the block ends."""

    async def print_progress() -> None:
        started = time.perf_counter()
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            done, seconds = len(progress.succeeded), time.perf_counter() - started
            print(
                f"{done:,} of {count:,} envelopes, {done / seconds:.1f} per s, {len(progress.unfinished)} "
                f"unfinished events, stand-in {ProcessMemory.of(setup.esaw.pid).now:.0f} MiB",
                file=sys.stderr,
                flush=True,
            )

    async def forget() -> None:
        while True:
            await asyncio.sleep(CLEAR_SECONDS)
            await setup.esaw.control.clear_requests()

    tasks = [asyncio.create_task(each) for each in (print_progress(), forget())]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def measure(
    setup: BenchSetup, *, count: int, kills: int, callbacks: int, pause: float, at_once: int, plain: int
) -> ImportResult:
    """Measure all; ``at_once`` is the number of events that the archive takes at once."""
    script = await plain_round(setup, plain, less_a_quarter(at_once))
    await asyncio.to_thread(shutil.rmtree, setup.root / "plain")
    envelopes = await setup.create_envelopes(count, ages=ages(count))
    receiver = await setup.local_environment.receiver()

    start = partial(start_controller, setup, at_once, count)
    controller = await start()
    await setup.plane.namespace(control_namespace(setup))
    async with TimedClient.running(setup.plane.kubeconfig) as client:
        # Before that, the receiver does not know the token of the callback URL.
        await setup.local_environment.ready(f"organization/{ORGANIZATION}")
        # As many at once as later, so that what grows with their number has grown.
        await measure_callbacks(
            setup, receiver, client, pause=0.0, at_once=at_once, is_enough=lambda sent: sent >= 2 * at_once
        )
        call = partial(
            measure_callbacks, setup, receiver, client, pause=pause, at_once=at_once - less_a_quarter(at_once)
        )
        without = await call(is_enough=lambda sent: sent >= callbacks)
        await asyncio.sleep(REST_SECONDS)
        rest = ProcessMemory.of(controller.pid).now
        forget_peak(controller.pid)

        measured = int(count * MEASURED_PART)
        async with (
            setup.observed_events(f"{IMPORT_LABEL}={NAME}") as progress,
            background(setup, progress, count),
        ):
            imported = await create_import(setup, max(ages(count)))
            await progress.until(lambda: len(progress.unfinished) > 0)
            started = time.perf_counter()
            beside = await call(is_enough=lambda sent: sent > 1 and len(progress.succeeded) >= measured)
            peak = max(rest, ProcessMemory.of(controller.pid).peak)
            ended = next(itertools.islice(progress.succeeded.values(), measured - 1, None))
            stops = [measured + (count - measured) * number // (kills + 1) for number in range(1, kills + 1)]
            await kill_again_and_again(progress, controller, start, stops)
            status = await completed(setup)
            most = progress.most_unfinished
    esaw_memory = ProcessMemory.of(setup.esaw.pid).peak
    await ensure_all_deleted(setup, envelopes)
    checked = await asyncio.to_thread(check_archive, setup.root, envelopes)
    report_wrong = await asyncio.to_thread(report_errors, status, envelopes)
    return ImportResult(
        count=count,
        rate=measured / (ended - started),
        callback_rate=len(beside.succeeded) / (ended - started),
        plain_rate=script.rate,
        memory_rest=rest,
        memory_peak=peak,
        max_unfinished=imported.spec.max_unfinished,
        most_unfinished=most,
        without=without,
        beside=beside,
        kills=kills,
        archive_wrong=[*checked.wrong, *report_wrong],
        status_wrong=status_errors(status, count, checked.size),
        esaw_memory=esaw_memory,
    )


def p99(seconds: Sequence[float]) -> float:
    """Return the 99th percentile of two times or more."""
    return statistics.quantiles(seconds, n=100)[98]


def report(result: ImportResult) -> str:
    """Return the Markdown, ratios first."""
    without, beside, most = result.without, result.beside, result.most_unfinished
    answered = p99(beside.answered) / p99(without.answered)
    created = p99(beside.created) / p99(without.created)
    succeeded = p99(beside.succeeded) / p99(without.succeeded)
    rate = (result.rate + result.callback_rate) / result.plain_rate
    memory = result.memory_peak / result.memory_rest
    wrong = [*result.archive_wrong, *result.status_wrong]
    rows: list[tuple[str, str, str, bool | None]] = [
        (
            "rate with the callbacks, of a plain script with as many at once",
            f"{rate:.2f}",
            f">= {MIN_RATIO}",
            rate >= MIN_RATIO,
        ),
        (
            "memory of the controller at most, of that at rest",
            f"{memory:.2f}",
            f"<= {MAX_MEMORY_RATIO}",
            memory <= MAX_MEMORY_RATIO,
        ),
        (
            "unfinished events at one time",
            f"{most}",
            f"<= {result.max_unfinished}",
            most <= result.max_unfinished,
        ),
        (
            "p99 from a callback to its 200, of that without an Import",
            f"{answered:.2f}",
            f"<= {MAX_P99_RATIO}",
            answered <= MAX_P99_RATIO,
        ),
        (
            "p99 of a bare client's create of an equal event, of that without an Import",
            f"{created:.2f}",
            "",
            None,
        ),
        (
            "what the receiver adds: the ratio of callbacks, of the bare client's",
            f"{answered / created:.2f}",
            f"<= {MAX_P99_RATIO}",
            answered / created <= MAX_P99_RATIO,
        ),
        (
            "p99 from a callback to the end of its event, of that without an Import",
            f"{succeeded:.2f}",
            f"<= {MAX_P99_RATIO}",
            succeeded <= MAX_P99_RATIO,
        ),
        (
            f"envelopes that are not in the archive exactly once after {result.kills} kills",
            f"{len(result.archive_wrong)}",
            "0",
            not result.archive_wrong,
        ),
        (
            "counts of the status that are not true",
            f"{len(result.status_wrong)}",
            "0",
            not result.status_wrong,
        ),
    ]
    lines = ["| figure | measured | target | |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {found} | {target} | {'' if met is None else verdict(met)} |"
        for name, found, target, met in rows
    ]
    times = [
        ("from a callback to its 200", without.answered, beside.answered),
        ("a create of the bare client", without.created, beside.created),
        ("from a callback to the first change of its event", without.changed, beside.changed),
        ("from a callback to the end of its event", without.succeeded, beside.succeeded),
    ]
    lines += [
        "",
        f"| p50 and p99, ms | without an Import ({len(without.answered)} callbacks) "
        f"| beside the Import ({len(beside.answered)}) |",
        "|---|---|---|",
    ]
    lines += [f"| {name} | {_quantiles(before)} | {_quantiles(during)} |" for name, before, during in times]
    return "\n".join(
        [
            *lines,
            "",
            f"- {result.rate:.1f} envelopes of the Import and {result.callback_rate:.1f} of callbacks per s; "
            f"the plain script {result.plain_rate:.1f}",
            f"- memory of the controller: {result.memory_rest:.0f} MiB at rest, {result.memory_peak:.0f} at "
            f"most; the stand-in, which holds all envelopes: {result.esaw_memory:.0f}",
            *(f"- wrong: {each}" for each in wrong[:10]),
        ]
    )


def _quantiles(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.0f}, {p99(seconds) * 1000:.0f}"


async def run(
    *, count: int, kills: int, callbacks: int, pause: float, at_once: int, delay: float, plain: int
) -> str:
    """Run it all and return the report."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        plane = await stack.enter_async_context(plane_on_cores(CoreSplit.separate()))
        setup = await stack.enter_async_context(bench_setup(folder, concurrency=at_once, plane=plane))
        await setup.esaw.control.fault("*", delay=delay)
        result = await measure(
            setup,
            count=count,
            kills=kills,
            callbacks=callbacks,
            pause=pause,
            at_once=at_once,
            plain=plain,
        )
    return (
        f"{count:,} old envelopes of three files, {at_once} events at once, of which an Import leaves a "
        f"quarter free; a callback each {pause:g} s; eSAW answers after {delay * 1000:.0f} ms\n\n"
        f"{report(result)}"
    )


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2000, help="number of old envelopes")
    parser.add_argument("--kills", type=int, default=10, help="kills of the controller in the last fifth")
    parser.add_argument("--callbacks", type=int, default=250, help="number without an Import, at least 2")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two callbacks")
    parser.add_argument(
        "--at-once", type=int, nargs="+", default=[32, 8], help="numbers of events at once, one run for each"
    )
    parser.add_argument("--delay", type=float, default=ESAW_DELAY_SECONDS, help="latency of eSAW in seconds")
    parser.add_argument("--plain", type=int, default=500, help="number of envelopes of the plain script")
    chosen = parser.parse_args()
    for at_once in chosen.at_once:
        part = at_once / max(chosen.at_once)
        text = asyncio.run(
            run(
                count=int(chosen.count * part),
                kills=chosen.kills,
                callbacks=chosen.callbacks,
                pause=chosen.pause,
                at_once=at_once,
                delay=chosen.delay,
                plain=int(chosen.plain * part),
            )
        )
        print(f"### {at_once} events at once\n\n{text}\n")


if __name__ == "__main__":
    main()
