"""
Bench (n): one release that serves many namespaces.

First all processes of a release are at rest: with one namespace of five Organizations, and with twenty of
them. The difference is what each further idle namespace costs.

Then one controller serves two namespaces. In turns, the other one is idle, or has 50,000 events that are due
and may run in all slots that the controller gives it. The measured namespace runs at most a quarter of the
slots, which the other one leaves free. So the latency of eSAW limits its rate, and no slot does. The CPU of
the machine is stated beside each rate, so that the reader sees whether the cores were the limit.

    .venv/bin/python -m verification.bench.namespaces [--namespaces 20] [--organizations 5] [--rest 60] \
        [--turns 2] [--waiting 50000] [--count 32] [--rounds 3] [--at-once 4] [--delay 0.2]
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

import httpx
import msgspec

from controller.resync.event_load import NOT_ARCHIVED
from counterfoil.resources import ORGANIZATION_LABEL, EnvelopeEvent, Phase, to_json_dict
from sandbox.controlplane import rbac
from sandbox.environment.processes import CounterfoilProcess
from verification.bench.big_and_many import VALUES, memory_limit
from verification.bench.machine import ProcessMemory, busy_seconds, cpu_seconds_of_all
from verification.bench.outage import RETRY, waiting_events
from verification.bench.setup import (
    ARCHIVE,
    ESAW_DELAY_SECONDS,
    LASTING_LEASE,
    ORGANIZATION,
    PAUSE_SECONDS,
    BenchSetup,
    MetricSamples,
    bench_setup,
)
from verification.bench.shards import FINISHED
from verification.bench.spread import Spread, judgement, order_of_turn
from verification.bench.stored_events import put_and_cache, random_id

MIN_RATIO: Final = 0.9
"""Of the rate beside an idle namespace."""
MAX_NAMESPACE_MIB: Final = 2.0
"""Memory of a process for each further idle namespace."""

SHARES: Final = 4
"""Slots of the process as a multiple of those that the measured namespace can use."""
RIGHTS: Final[Mapping[str, tuple[rbac.Rule, ...]]] = {
    "controller": rbac.CONTROLLER_OF_SERVED,
    "receiver": rbac.RECEIVER,
    "pages": rbac.PAGES,
}
"""Rights of the release's accounts in each namespace."""
PROCESSES: Final = (*RIGHTS, "console")
WATCHES: Final = "apiserver_longrunning_requests"
SETTLE_SECONDS: Final = 3.0
SERVED_TIMEOUT: Final = 120.0
TIMEOUT: Final = 900.0


class Rest(msgspec.Struct, frozen=True):
    """A process without work."""

    started: float
    """Seconds until it served all namespaces."""
    cpu: float
    """Cores."""
    memory: float
    """MiB."""


class RestRound(msgspec.Struct, frozen=True):
    """A release without work."""

    watches: int
    """Of all processes."""
    processes: Mapping[str, Rest]


class Load(msgspec.Struct, frozen=True):
    """One round of the measured namespace."""

    first: float
    """Seconds from the start of the controller to the first event that succeeded."""
    rate: float
    """Events per second."""
    other_rate: float
    """That of the other namespace meanwhile."""
    machine_cpu: float
    """Cores that all processes of the machine used."""
    memory: float
    """MiB of the controller at most."""


class NamespacesResult(msgspec.Struct, frozen=True):
    """All that was measured."""

    idle: Mapping[int, Sequence[RestRound]]
    """By number of namespaces."""
    alone: Sequence[Load]
    beside: Sequence[Load]
    waiting: int
    """Least number of waiting events of the other namespace."""


# -- The namespaces ------------------------------------------------------------------------------------------


async def give_rights(setup: BenchSetup, namespace: str) -> None:
    """Let the processes of the release work in another namespace."""
    for account, rules in RIGHTS.items():
        for each in rbac.rights_of_release(setup.namespace, account, rules):
            await setup.plane.objects(namespace).apply(each)


async def add_idle_namespace(setup: BenchSetup, namespace: str, organizations: int) -> None:
    """Create a namespace that the release may serve, with Organizations that have no events."""
    await setup.plane.namespace(namespace)
    await give_rights(setup, namespace)
    root = setup.root.parent / namespace / "archive"
    root.mkdir(parents=True)
    built = replace(setup.local_environment, namespace=namespace, tokens={}, processes=[])
    await built.archive(ARCHIVE, filesystem={"root": str(root)})
    esaw = setup.esaw.control.url
    for number in range(organizations):
        name = f"organization-{number}"
        await built.organization(name, archive=ARCHIVE, sender=name, baseURL=esaw)
        await built.record_sweep(name)
        await built.sender(name, setup.esaw.sender, organization=name, origin=esaw)


async def until(process: CounterfoilProcess, condition: Callable[[MetricSamples], bool]) -> MetricSamples:
    """Wait until a condition is true for the metrics of a process; return these."""
    async with asyncio.timeout(SERVED_TIMEOUT):
        # Another process gives no event to wait for, and may close a connection while it starts.
        while True:
            with suppress(httpx.TransportError):
                if condition(samples := MetricSamples(await process.metrics())):
                    return samples
            await asyncio.sleep(PAUSE_SECONDS)


async def until_serving(process: CounterfoilProcess, namespaces: Sequence[str]) -> None:
    """Wait until a process serves all of these namespaces."""
    await until(process, lambda samples: samples.total("counterfoil_namespace_ready") == len(namespaces))


# -- At rest -------------------------------------------------------------------------------------------------


async def rest_round(setup: BenchSetup, namespaces: Sequence[str], seconds: float) -> RestRound:
    """Start one process of each kind, and let all of them rest."""
    running, started = dict[str, CounterfoilProcess](), dict[str, float]()
    watches = await open_watches(setup)
    for kind in PROCESSES:
        start, began = getattr(setup.local_environment, kind), time.perf_counter()
        running[kind] = await start(namespaces=",".join(namespaces), **_settings(setup, kind))
        # The console asks with the rights of each person, so it follows no namespace.
        if kind in RIGHTS:
            await until_serving(running[kind], namespaces)
        started[kind] = time.perf_counter() - began
    await asyncio.sleep(SETTLE_SECONDS)
    cpu, began = {kind: cpu_seconds_of_all(each.pid) for kind, each in running.items()}, time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    processes = {
        kind: Rest(
            started=started[kind],
            cpu=(cpu_seconds_of_all(each.pid) - cpu[kind]) / took,
            memory=ProcessMemory.of(each.pid).now,
        )
        for kind, each in running.items()
    }
    watches = await open_watches(setup) - watches
    await asyncio.gather(*(each.stop() for each in running.values()))
    return RestRound(watches, processes)


def _settings(setup: BenchSetup, kind: str) -> dict[str, str]:
    return {"volume_roots": str(setup.root.parent / "{namespace}")} if kind == "controller" else {}


async def open_watches(setup: BenchSetup) -> int:
    """Return how many watches the API server serves now."""
    samples = MetricSamples.of(await setup.plane.kubectl("get", "--raw", "/metrics"), WATCHES)
    return int(samples.total(WATCHES, verb="WATCH"))


# -- Beside a backlog ----------------------------------------------------------------------------------------


async def load_round(
    setup: BenchSetup, other: str, name: str, *, count: int, at_once: int, waiting: int
) -> Load:
    """Let a fresh controller archive envelopes of the setup's namespace, once it knows this number of waiting
    events of the other one."""
    early = await setup.create_events(await setup.create_envelopes(at_once))
    ids = await setup.create_envelopes(count)
    namespaces = (setup.namespace, other)
    async with setup.observed_events() as progress:
        started = time.perf_counter()
        controller = await setup.controller(
            name,
            namespaces=",".join(namespaces),
            concurrency=str(at_once * SHARES),
            grace="1s",
            **_settings(setup, "controller"),
            **LASTING_LEASE,
        )
        await progress.until_succeeded(len(early))
        await until_serving(controller, namespaces)
        before = await until(controller, lambda samples: _pending(samples, other) >= waiting)
        cpu, began = busy_seconds(), time.perf_counter()
        names = await setup.create_events(ids)
        await progress.until_succeeded(len(early) + count)
        seconds, cpu = time.perf_counter() - began, busy_seconds() - cpu
    after = MetricSamples(await controller.metrics())
    memory = ProcessMemory.of(controller.pid).peak
    await controller.stop()
    await setup.delete_events(early | names)
    finished = after.total(FINISHED, namespace=other) - before.total(FINISHED, namespace=other)
    return Load(
        first=min(progress.succeeded.values()) - started,
        rate=count / seconds,
        other_rate=finished / seconds,
        machine_cpu=cpu / seconds,
        memory=memory,
    )


def _pending(samples: MetricSamples, namespace: str) -> float:
    return samples.total("counterfoil_events", namespace=namespace, phase=Phase.PENDING)


async def add_backlog(setup: BenchSetup, other: BenchSetup, waiting: int, ahead: int) -> None:
    """
    Put due events into the other namespace: first ``ahead`` ones whose envelopes eSAW has, enough for all
    rounds, then the waiting ones.

    While a controller lists the events, it begins some of the waiting ones, so there are more of these than
    stated.
    """
    await give_rights(setup, other.namespace)
    # One controller knows the Archive before. For a new one, it reads all events of the namespace.
    controller = await setup.controller(
        "before", namespaces=other.namespace, **_settings(setup, "controller")
    )
    await other.local_environment.ready(f"archive/{ARCHIVE}", f"organization/{ORGANIZATION}")
    await controller.stop()
    source = Random(4)
    envelopes = [*await other.create_envelopes(ahead), *(random_id(source) for _ in range(waiting + ahead))]
    events = waiting_events(envelopes, other.namespace, now=datetime.now(UTC), age=timedelta(0))
    await put_and_cache(other.plane, other.kube, events)


async def count_waiting(other: BenchSetup) -> int:
    """Return how many events of the backlog are left."""
    return (await other.kube.count_by_label(EnvelopeEvent, ORGANIZATION_LABEL, NOT_ARCHIVED)).total()


# -- The run -------------------------------------------------------------------------------------------------


class Sizes(msgspec.Struct, frozen=True):
    """The sizes of a run."""

    namespaces: int
    organizations: int
    rest: float
    """Seconds."""
    turns: int
    """Of the rest."""
    waiting: int
    count: int
    rounds: int
    at_once: int
    delay: float
    """Latency of eSAW in seconds."""


async def measure_rest(
    setup: BenchSetup, sizes: Sizes, idle: Sequence[str]
) -> Mapping[int, Sequence[RestRound]]:
    """Measure one namespace and all of them in turns."""
    found: dict[int, list[RestRound]] = {1: [], len(idle): []}
    for turn in range(sizes.turns):
        for number in order_of_turn(found, turn):
            found[number].append(await rest_round(setup, idle[:number], sizes.rest))
    return found


async def measure(setup: BenchSetup, sizes: Sizes) -> NamespacesResult:
    """Measure it all. Raises ``RuntimeError`` if fewer events were waiting than stated."""
    idle = [f"{setup.namespace}-{number}" for number in range(sizes.namespaces)]
    for each in idle:
        await add_idle_namespace(setup, each, sizes.organizations)
    rests = await measure_rest(setup, sizes, idle)
    busy = f"{setup.namespace}-busy"
    await setup.plane.namespace(busy)
    folder = setup.root.parent / busy
    folder.mkdir()
    slots = sizes.at_once * SHARES
    async with bench_setup(
        folder, concurrency=slots, plane=setup.plane, namespace=busy, retry=to_json_dict(RETRY)
    ) as other:
        ahead = sizes.rounds * 2 * (sizes.count + slots) * SHARES
        await add_backlog(setup, other, sizes.waiting, ahead)
        for unit in (setup, other):
            await unit.esaw.control.fault("*", delay=sizes.delay)
        loads: dict[str, list[Load]] = {idle[0]: [], busy: []}
        for turn in range(sizes.rounds):
            for namespace, done in order_of_turn(loads.items(), turn):
                waiting = sizes.waiting if namespace == busy else 0
                done.append(
                    await load_round(
                        setup,
                        namespace,
                        f"load-{turn}-{waiting}",
                        count=sizes.count,
                        at_once=sizes.at_once,
                        waiting=waiting,
                    )
                )
        waiting = await count_waiting(other)
    if waiting < sizes.waiting:
        raise RuntimeError(f"only {waiting} events were waiting in the end")
    return NamespacesResult(rests, loads[idle[0]], loads[busy], waiting)


def report(result: NamespacesResult) -> str:
    """Return the Markdown."""
    return "\n".join([*_rest_lines(result.idle), "", *_load_lines(result)])


def _rest_lines(idle: Mapping[int, Sequence[RestRound]]) -> list[str]:
    few, many = min(idle), max(idle)
    lines = [
        "| process | idle namespaces | memory MiB | CPU ms per s | s from the start until it serves all |",
        "|---|---|---|---|---|",
    ]
    judged = list[str]()
    for kind in PROCESSES:
        rests = {number: [each.processes[kind] for each in rounds] for number, rounds in idle.items()}
        for number, turns in rests.items():
            memory = Spread.of(each.memory for each in turns)
            cpu = Spread.of(1000 * each.cpu for each in turns)
            started = Spread.of(each.started for each in turns)
            lines.append(f"| {kind} | {number} | {memory.text(1)} | {cpu.text(1)} | {started.text(1)} |")
        pairs = list(zip(rests[few], rests[many], strict=True))
        ratio = Spread.of(more.memory / less.memory for less, more in pairs)
        memory = Spread.of((more.memory - less.memory) / (many - few) for less, more in pairs)
        cpu = Spread.of((more.cpu - less.cpu) / (many - few) for less, more in pairs)
        judged.append(
            f"- {kind}: {ratio.text(2)} of the memory with one; for each further idle namespace "
            f"{60 * cpu.median:.2f} s of CPU per minute, {memory.text(2)} MiB"
            f"{judgement(memory.median, '<=', MAX_NAMESPACE_MIB, is_judged=True)}"
        )
    watches = [max(each.watches for each in idle[number]) for number in (few, many)]
    return [
        *lines,
        "",
        *judged,
        f"- watches of all processes: {watches[0]} with one namespace, {watches[1]} with {many}",
    ]


def _load_lines(result: NamespacesResult) -> list[str]:
    ratio = Spread.of_ratios((each.rate for each in result.beside), (each.rate for each in result.alone))
    lines = [
        "| the other namespace | events per s | its events per s | cores of the machine | s from the start "
        "to the first success | memory at most MiB |",
        "|---|---|---|---|---|---|",
    ]
    for title, rounds in (("idle", result.alone), ("with the backlog", result.beside)):
        columns = [
            Spread.of(getattr(each, figure) for each in rounds).text(2)
            for figure in ("rate", "other_rate", "machine_cpu", "first")
        ]
        lines.append(f"| {title} | {' | '.join(columns)} | {max(each.memory for each in rounds):.0f} |")
    peak, limit = max(each.memory for each in result.beside), memory_limit(VALUES.read_text())
    return [
        *lines,
        "",
        f"- rate beside {result.waiting:,} waiting events of the other namespace: {ratio.text(2)} of the "
        f"rate beside an idle one{judgement(ratio.median, '>=', MIN_RATIO, is_judged=True)}",
        f"- memory of the controller beside them: {peak:.0f} MiB"
        f"{judgement(peak, '<=', limit, is_judged=True)}",
    ]


async def run(sizes: Sizes) -> str:
    """Run it all and return the report."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        await stack.enter_async_context(asyncio.timeout(TIMEOUT))
        setup = await stack.enter_async_context(bench_setup(folder, concurrency=sizes.at_once))
        return report(await measure(setup, sizes))


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--namespaces", type=int, default=20, help="number of idle ones")
    parser.add_argument("--organizations", type=int, default=5, help="in each idle namespace")
    parser.add_argument("--rest", type=float, default=60.0, help="seconds without work")
    parser.add_argument("--turns", type=int, default=2, help="rounds of the rest")
    parser.add_argument("--waiting", type=int, default=50_000, help="waiting events of the other namespace")
    parser.add_argument(
        "--count", type=int, default=32, help="envelopes of the measured namespace in each round"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds beside the backlog")
    parser.add_argument("--at-once", type=int, default=4, help="in the measured namespace")
    parser.add_argument("--delay", type=float, default=ESAW_DELAY_SECONDS, help="latency of eSAW in seconds")
    sizes = Sizes(**vars(parser.parse_args()))
    print(
        f"{sizes.rounds} rounds of {sizes.count} envelopes, {sizes.at_once} at once of "
        f"{sizes.at_once * SHARES} slots; eSAW answers after {sizes.delay * 1000:.0f} ms\n"
    )
    print(asyncio.run(run(sizes)))


if __name__ == "__main__":
    main()
