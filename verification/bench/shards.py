"""
Bench (f): several controllers that share the work, against one; and the take-over from a killed one.

Each controller holds the Lease of one shard, as several replicas of the chart do, and works on few events at
once. eSAW answers each request after 200 ms, so that the latency limits the throughput and not the cores,
which all processes share here. The CPU of the API server, the controllers and the whole machine is stated
beside each figure, so that the reader sees which limit was reached.

Then one of two controllers is killed (SIGKILL), and events of its shard are created. The time is measured
from the kill until the other controller has changed the first of them.

    .venv/bin/python -m verification.bench.shards [--controllers 1 2 4] [--count 48] [--at-once 4] [--kills 2]
"""

import argparse
import asyncio
import itertools
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from counterfoil.resources import envelope_id
from counterfoil.resources.lease import Lease, shard_lease_name
from counterfoil.resources.naming import shard
from counterfoil.settings import ControllerSettings
from sandbox.environment.processes import CounterfoilProcess
from verification.bench.machine import busy_seconds, cpu_seconds_of_all
from verification.bench.setup import ESAW_DELAY_SECONDS, PAUSE_SECONDS, BenchSetup, MetricSamples, bench_setup
from verification.bench.spread import Spread, verdict

MIN_SCALING = 0.8
"""Of the throughput of one controller times the number of controllers."""

MAX_TAKE_OVER = 2.0
"""Maximum time from the kill to the first event, as a multiple of the Lease's duration."""

TAKEN_OVER_EVENTS = 4
"""Number of events of the killed controller's shard that wait for the other one."""

FINISHED = "counterfoil_event_seconds_count"
"""Metric that counts finished events."""

COUNTED_TIMEOUT = 60.0  # seconds
TAKE_OVER_TIMEOUT = 120.0  # seconds
TIMEOUT = 400.0  # seconds for the whole run


class ShardRound(msgspec.Struct, frozen=True):
    """Result of a number of controllers at work."""

    rate: float
    """Events a second, from the first create to the last success."""
    controllers_cpu: float
    """Cores that all controllers used together."""
    cluster_cpu: float
    """Cores that API server and etcd used."""
    machine_cpu: float
    """Cores that all processes of the machine used."""
    counts: Sequence[int]
    """Number of events that each controller finished."""
    esaw_requests: Mapping[str, int]
    """Requests to eSAW of all controllers, by operation."""


class TakeOver(msgspec.Struct, frozen=True):
    """Seconds from the kill of a controller."""

    lease_duration: float
    """As its Lease stated when it was killed."""
    to_lease: float
    """Until the other controller held the Lease."""
    to_first: float
    """Until the other controller had changed the first event."""
    to_first_success: float
    """Until the first event succeeded."""


# -- Throughput ----------------------------------------------------------------------------------------------


async def shard_round(
    setup: BenchSetup, controllers: int, count: int, at_once: int, *, turn: int = 0
) -> ShardRound:
    """Let this number of controllers archive ``count`` events, of which each shard has equally many."""
    ids = await envelopes_by_shard(setup, count // controllers, controllers)
    holders = [f"shards-{controllers}-{turn}-{number}" for number in range(controllers)]
    settings = await setup.local_environment.assign_shards(*holders)
    async with setup.observed_events() as progress:
        running = await asyncio.gather(
            *(setup.controller(each, concurrency=str(at_once), **settings) for each in holders)
        )
        before, started = _cpu(setup, running), time.perf_counter()
        # All watch already, so the clock begins with the first event. Each shard gets one in turn.
        names = await setup.create_events(itertools.chain.from_iterable(zip(*ids, strict=True)))
        await progress.until_succeeded(len(names))
        seconds = time.perf_counter() - started
        used = [(now - earlier) / seconds for now, earlier in zip(_cpu(setup, running), before, strict=True)]
    samples = await _samples(running, len(names))
    await asyncio.gather(*(each.stop() for each in running))
    await setup.delete_events(names)
    requests = Counter[str]()
    for each in samples:
        requests += each.totals("counterfoil_esaw_requests_total", "operation")
    return ShardRound(
        rate=len(names) / seconds,
        controllers_cpu=used[0],
        cluster_cpu=used[1],
        machine_cpu=used[2],
        counts=[int(each.total(FINISHED)) for each in samples],
        esaw_requests=requests,
    )


async def _samples(controllers: Sequence[CounterfoilProcess], finished: int) -> list[MetricSamples]:
    """Return the metrics that count these events: a controller counts one after its status is stored."""
    async with asyncio.timeout(COUNTED_TIMEOUT):
        while True:
            samples = [MetricSamples(await each.metrics()) for each in controllers]
            if sum(each.total(FINISHED) for each in samples) >= finished:
                return samples
            await asyncio.sleep(PAUSE_SECONDS)


def _cpu(setup: BenchSetup, controllers: Sequence[CounterfoilProcess]) -> tuple[float, float, float]:
    return sum(cpu_seconds_of_all(each.pid) for each in controllers), setup.cluster_cpu(), busy_seconds()


async def envelopes_by_shard(setup: BenchSetup, count: int, shards: int) -> list[list[str]]:
    """
    Create envelopes in eSAW until each shard has this number; return their ids by shard.

    eSAW chooses the ids, so some envelopes are left over; they have no event.
    """
    found: list[list[str]] = [[] for _ in range(shards)]
    while any(len(each) < count for each in found):
        for envelope in await setup.create_envelopes(count * shards):
            group = found[shard(envelope_id(envelope)) % shards]
            if len(group) < count:
                group.append(envelope)
    return found


# -- The take-over -------------------------------------------------------------------------------------------


async def take_over(setup: BenchSetup, at_once: int, *, turn: int = 0, **settings: str) -> TakeOver:
    """Kill one of two controllers; its shard has no unfinished event at that moment. ``settings`` are further
    ones of both, such as the durations of the Leases."""
    holders = [f"pair-{turn}-{number}" for number in range(2)]
    await setup.local_environment.assign_shards(*holders)
    # Each finds a Lease under its name, and renews it with its own duration.
    settings = {"shards": "2", "concurrency": str(at_once), **settings}
    killed, other = await asyncio.gather(*(setup.controller(each, **settings) for each in holders))
    ids = (await envelopes_by_shard(setup, 2 * TAKEN_OVER_EVENTS, 2))[0]
    before, after = ids[:TAKEN_OVER_EVENTS], ids[TAKEN_OVER_EVENTS:]
    name = shard_lease_name(0, 2)
    async with setup.observed_events() as progress:
        names = await setup.create_events(before)
        await progress.until_succeeded(len(names))
        lease = Lease.parse(await setup.kube.get(Lease, name))
        killed.kill()
        at = time.perf_counter()
        waiting = await setup.create_events(after)
        taking = asyncio.create_task(_held_at(setup, name, holders[1]))
        async with asyncio.timeout(TAKE_OVER_TIMEOUT):
            await progress.until(lambda: any(each in progress.changed for each in waiting))
            await progress.until_succeeded(len(names) + len(waiting))
            held = await taking
    await other.stop()
    await setup.delete_events(names | waiting)
    return TakeOver(
        lease_duration=float(lease.spec.lease_duration_seconds or 0),
        to_lease=held - at,
        to_first=min(progress.changed[each] for each in waiting) - at,
        to_first_success=min(progress.succeeded[each] for each in waiting) - at,
    )


async def _held_at(setup: BenchSetup, name: str, holder: str) -> float:
    """Return when a Lease was first seen with this holder."""
    # Another process gives no event to wait for.
    while Lease.parse(await setup.kube.get(Lease, name)).spec.holder_identity != holder:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    return time.perf_counter()


# -- The run -------------------------------------------------------------------------------------------------


class ShardsResult(msgspec.Struct, frozen=True):
    """All that was measured."""

    rounds: Mapping[int, Sequence[ShardRound]]
    """By number of controllers."""
    take_overs: Sequence[TakeOver]


async def measure(
    setup: BenchSetup,
    controllers: Sequence[int],
    *,
    count: int,
    at_once: int,
    delay: float,
    rounds: int,
    kills: int,
) -> ShardsResult:
    """Measure in turns; the first turn has one controller and is not counted."""
    await shard_round(setup, 1, at_once, at_once, turn=-1)
    await setup.esaw.control.fault("*", delay=delay)
    found: dict[int, list[ShardRound]] = {number: [] for number in controllers}
    for turn in range(rounds):
        for number, done in found.items():
            done.append(await shard_round(setup, number, count, at_once, turn=turn))
    await setup.esaw.control.clear_faults()
    return ShardsResult(found, [await take_over(setup, at_once, turn=turn) for turn in range(kills)])


def report(result: ShardsResult) -> str:
    """Return the Markdown, ratios first."""
    one = result.rounds[min(result.rounds)]
    lines = [
        "| controllers | of one | of ideal | events per s | cores: controllers | API server and etcd | whole "
        "machine | target | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for number, done in result.rounds.items():
        ratio = Spread.of_ratios((each.rate for each in done), (each.rate for each in one))
        share = ratio.median / number
        columns = [
            Spread.of(getattr(each, figure) for each in done).text(2)
            for figure in ("rate", "controllers_cpu", "cluster_cpu", "machine_cpu")
        ]
        judged = f">= {MIN_SCALING} | {verdict(share >= MIN_SCALING)}" if number > 1 else " | "
        lines.append(f"| {number} | {ratio.text(2)} | {share:.2f} | {' | '.join(columns)} | {judged} |")
    requests = Spread.of(
        sum(each.esaw_requests.values()) / sum(each.counts)
        for done in result.rounds.values()
        for each in done
    )
    lines += ["", f"The machine has {len(os.sched_getaffinity(0))} cores. Requests to eSAW per event: "]
    lines[-1] += f"{requests.text(1)}."
    return "\n".join([*lines, "", *_take_over_lines(result.take_overs)])


def _take_over_lines(found: Sequence[TakeOver]) -> list[str]:
    if not found:
        return []
    ratio = Spread.of(each.to_first / each.lease_duration for each in found)
    retry = ControllerSettings(namespace="").retry_period.total_seconds()
    return [
        f"- from the kill to the first event: {ratio.text(2)} times the duration of the Lease; target <= "
        f"{MAX_TAKE_OVER:.0f}: {verdict(max(ratio.values) <= MAX_TAKE_OVER)}",
        f"- duration of the Lease: {found[0].lease_duration:.0f} s; interval between attempts to acquire it: "
        f"{retry:.0f} s",
        f"- seconds from the kill: {Spread.of(each.to_lease for each in found).text(1)} until the other "
        f"controller held the Lease, {Spread.of(each.to_first for each in found).text(1)} until it had "
        f"changed an event, {Spread.of(each.to_first_success for each in found).text(1)} until one succeeded",
    ]


async def run(
    controllers: Sequence[int], *, count: int, at_once: int, delay: float, rounds: int, kills: int
) -> str:
    """Run it all and return the report."""
    with tempfile.TemporaryDirectory() as folder:
        # The limits of organization and archive apply to each process, so they are no limit here.
        async with (
            asyncio.timeout(TIMEOUT),
            bench_setup(Path(folder), concurrency=at_once) as setup,
        ):
            result = await measure(
                setup, controllers, count=count, at_once=at_once, delay=delay, rounds=rounds, kills=kills
            )
    return (
        f"{rounds} rounds of {count} envelopes, {at_once} at once in each controller, "
        f"{delay * 1000:.0f} ms of latency\n\n{report(result)}"
    )


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--controllers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--count", type=int, default=48, help="number of envelopes of each round")
    parser.add_argument("--at-once", type=int, default=4, help="for each controller")
    parser.add_argument("--delay", type=float, default=ESAW_DELAY_SECONDS, help="latency of eSAW in seconds")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--kills", type=int, default=2)
    chosen = parser.parse_args()
    numbers = sorted({1, *chosen.controllers})
    print(
        asyncio.run(
            run(
                numbers,
                count=chosen.count,
                at_once=chosen.at_once,
                delay=chosen.delay,
                rounds=chosen.rounds,
                kills=chosen.kills,
            )
        )
    )


if __name__ == "__main__":
    main()
