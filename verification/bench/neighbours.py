"""
Bench (k): a healthy Organization beside one with a hostile archive and one with a hostile eSAW.

In each turn a fresh controller archives the envelopes of a healthy Organization, once alone and once beside
two others. The archive of one is a WebDAV server that answers every request with a byte a second. The eSAW of
the other takes connections and never answers. Both have as many events as the healthy one, due at once, and
the default pauses between attempts: the local environment's of at most 2 s would measure the API server.

    .venv/bin/python -m verification.bench.neighbours [--count 60] [--rounds 3] [--at-once 8] [--delay 0.2]
"""

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from counterfoil.origin import ORIGIN_ANNOTATION
from counterfoil.resources import EnvelopeEvent, envelope_id
from counterfoil.resources.event_factory import new_event
from verification.bench.big_and_many import VALUES, memory_limit
from verification.bench.machine import CoreSplit, ProcessMemory
from verification.bench.setup import ESAW_DELAY_SECONDS, SENDER, BenchSetup, bench_setup, plane_on_cores
from verification.bench.spread import Spread, judgement, order_of_turn

MIN_RATIO = 0.9
"""Of the rate without the hostile neighbours."""

TIMEOUT = 600.0  # seconds for the whole run

TRICKLING, HANGING = "trickling", "hanging"
"""Names of the two hostile Organizations."""

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Round(msgspec.Struct, frozen=True):
    """One round of the healthy Organization."""

    rate: float
    """Events per second."""
    memory: float
    """MiB of the controller at most."""


# -- The hostile servers -------------------------------------------------------------------------------------


async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begin an answer, and send a byte of it each second."""
    writer.write(b"HTTP/1.1 207 Multi-Status\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(1)


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Read, and never answer."""
    while await reader.read(65536):
        continue


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[str]:
    """Run a server on this machine; yield its address."""
    tasks = set[asyncio.Task[None]]()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            writer.close()

    running = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{running.sockets[0].getsockname()[1]}"
    finally:
        running.close()
        for task in tasks:
            task.cancel()


async def add_hostile_organizations(setup: BenchSetup, archive: str, esaw: str) -> None:
    """Create the two hostile Organizations with a Sender and an Archive each."""
    built, sender = setup.local_environment, setup.esaw.sender
    await built.archive(TRICKLING, webdav={"url": archive}, signatures="Ignore")
    folder = setup.root.parent / HANGING
    folder.mkdir()
    await built.archive(HANGING, filesystem={"root": str(folder)}, signatures="Ignore")
    await bind_key(setup, SENDER, setup.esaw.control.url)
    for name, base_url in ((TRICKLING, setup.esaw.control.url), (HANGING, esaw)):
        # The defaults of the product: with pauses of at most 2 s each event stores an attempt a second.
        await built.organization(name, archive=name, sender=name, baseURL=base_url, retry={})
        await built.record_sweep(name)
        await built.sender(name, sender, organization=name)
        await bind_key(setup, name, base_url)


async def bind_key(setup: BenchSetup, sender: str, origin: str) -> None:
    """Name the origin of a key: with several Organizations, none is assumed."""
    await setup.local_environment.kubectl(
        "annotate", "secret", f"{sender}-key", f"{ORIGIN_ANNOTATION}={origin}"
    )


async def create_hostile_events(setup: BenchSetup, envelopes: Iterable[str]) -> None:
    """Create an event of each hostile Organization for each envelope."""
    for envelope, name in itertools.product(envelopes, (TRICKLING, HANGING)):
        event = new_event(
            organization=name, envelope=envelope_id(envelope), action="envelopeFinished", sender=name
        )
        await setup.kube.create(EnvelopeEvent, event)


# -- The run -------------------------------------------------------------------------------------------------


async def measure_round(setup: BenchSetup, count: int, name: str, *, hostile: bool) -> Round:
    """Let a fresh controller archive the healthy Organization's envelopes."""
    names = await setup.create_events(await setup.create_envelopes(count))
    if hostile:
        await create_hostile_events(setup, await setup.create_envelopes(count))
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(setup.wait_until_succeeded(names))
        controller = await setup.controller(name, grace="1s")
        started = time.perf_counter()
        times = list((await watching).values())
    memory = ProcessMemory.of(controller.pid).peak
    await controller.stop()
    await setup.local_environment.kubectl("delete", "envelopeevents", "--all", "--wait=false")
    return Round(rate=count / (times[-1] - started), memory=memory)


async def measure(count: int, rounds: int, at_once: int, delay: float) -> str:
    """Run it all; return the report."""
    split, _ = CoreSplit.both()
    measured: dict[bool, list[Round]] = {False: [], True: []}
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        await stack.enter_async_context(asyncio.timeout(TIMEOUT))
        archive = await stack.enter_async_context(server(trickle))
        esaw = await stack.enter_async_context(server(hang))
        plane = await stack.enter_async_context(plane_on_cores(split))
        setup = await stack.enter_async_context(bench_setup(folder, concurrency=at_once, plane=plane))
        await add_hostile_organizations(setup, archive, esaw)
        await setup.esaw.control.fault("*", delay=delay)
        # The first round fills caches, and is not counted.
        await measure_round(setup, at_once * 2, "first", hostile=False)
        for turn in range(rounds):
            for hostile in order_of_turn((False, True), turn):
                name = f"{'hostile' if hostile else 'alone'}-{turn}"
                measured[hostile].append(await measure_round(setup, count, name, hostile=hostile))
    return report(measured[False], measured[True])


def report(alone: list[Round], beside: list[Round]) -> str:
    """Return the Markdown."""
    ratio = Spread.of_ratios([each.rate for each in beside], [each.rate for each in alone])
    lines = ["| the healthy Organization | events per s | memory at most MiB |", "|---|---|---|"]
    for name, rounds in (("alone", alone), ("beside a hostile archive and a hostile eSAW", beside)):
        rate = Spread.of(each.rate for each in rounds)
        lines.append(f"| {name} | {rate.text(1)} | {max(each.memory for each in rounds):.0f} |")
    peak, limit = max(each.memory for each in beside), memory_limit(VALUES.read_text())
    return "\n".join(
        [
            *lines,
            "",
            f"- rate beside the hostile neighbours: {ratio.text(2)} of the rate alone"
            f"{judgement(ratio.median, '>=', MIN_RATIO, is_judged=True)}",
            f"- memory beside them: {peak:.0f} MiB{judgement(peak, '<=', limit, is_judged=True)}",
        ]
    )


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--delay", type=float, default=ESAW_DELAY_SECONDS, help="latency of eSAW in seconds")
    chosen = parser.parse_args()
    print(f"{chosen.rounds} rounds of {chosen.count} envelopes, {chosen.at_once} at once\n")
    print(asyncio.run(measure(chosen.count, chosen.rounds, chosen.at_once, chosen.delay)))


if __name__ == "__main__":
    main()
