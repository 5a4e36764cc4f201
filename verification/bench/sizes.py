"""
Bench (s): the size of an installation for a number of envelopes a year, and more than one cluster.

The constants are measured in this run: what one API server records a second (bench (a)'s bare client), what
one controller archives a second, the CPU time of both for an event, and the bytes of a finished event in
etcd. The table and the simulation are computed from them and from the assumptions that the report states.

The simulation sends the callbacks of organizations of very different sizes to one or more clusters, by the
name of the organization. Each cluster is a queue that is as fast as the measured API server.

    .venv/bin/python -m verification.bench.sizes [--count 400] [--creates 2000] [--at-once 32]
"""

import argparse
import asyncio
import base64
import itertools
import math
import tempfile
import time
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import uvloop

from counterfoil.resources import GROUP
from sandbox.controlplane.control_plane import ControlPlane
from verification.bench.machine import MIB, ProcessMemory, cpu_seconds_of_all
from verification.bench.receiver import BareClient
from verification.bench.setup import NAMESPACE, BenchSetup, bench_setup
from verification.bench.stored_events import etcd_session

TIMEOUT: Final = 300.0  # seconds for the measurements

# -- Assumptions ---------------------------------------------------------------------------------------------

YEARLY: Final = (1_000, 100_000, 10_000_000)
"""Envelopes a year."""
BUSIEST_HOUR: Final = 0.15 / 250
"""Share of a year's envelopes: 250 working days, and 15 % of a day in its busiest hour."""
BURST: Final = 5.0
"""The busiest minute of that hour against its mean."""
ENVELOPE_SECONDS: Final = 5.0
"""Seconds that one envelope needs of eSAW and the archive; the stand-in needs less than a tenth."""
TTL_DAYS: Final = (3, 30)
"""``spec.ttl.succeeded``: the lowest value, and about the default."""
MAX_USE: Final = 0.7
"""Part of a measured limit that is planned for."""
ETCD_QUOTA_MIB: Final = 2048
"""etcd's default ``--quota-backend-bytes``; its documentation allows up to 8 GiB."""
WRITES: Final = 4
"""Writes to the API server for an event (bench (b))."""

# -- The simulation's ----------------------------------------------------------------------------------------

ORGANIZATIONS: Final = 400
WEIGHTS: Final = tuple(1 / (number + 1) for number in range(ORGANIZATIONS))
"""The callbacks of each organization, of those of the first one."""
CLUSTERS: Final = (1, 2, 4, 8)
ARRIVALS: Final = 60_000
"""Callbacks of one simulated run."""
ACCEPTABLE_SECONDS: Final = 1.0
"""The 99th percentile of the time until a callback is recorded, up to which a rate counts as carried."""


class Constants(NamedTuple):
    """Figures of this run."""

    creates: float
    """Events a second that one API server records."""
    archived: float
    """Events a second that one controller archives from and into servers that answer at once."""
    controller_cpu: float
    """Milliseconds for an event."""
    cluster_cpu: float
    """Milliseconds for an event, of API server and etcd."""
    controller_memory: float
    """MiB at most."""
    event_bytes: float
    """Bytes of a finished event with three files, as it is stored."""
    database_bytes: float
    """Bytes of etcd's database in use for such an event, after a compaction."""


class Size(NamedTuple):
    """The size of an installation."""

    yearly: int
    peak: float
    """Callbacks a second in the busiest minute."""
    recorded: float
    """Part of one API server's limit that the writes of this peak need."""
    shards: int
    at_once: int
    """Envelopes that are processed at the same time in the busiest minute."""
    etcd_mib: tuple[float, ...]
    """For each of ``TTL_DAYS``."""


def size(yearly: int, constants: Constants) -> Size:
    """Return the size for a number of envelopes a year."""
    peak = yearly * BUSIEST_HOUR / 3600 * BURST
    return Size(
        yearly,
        peak,
        recorded=peak * WRITES / constants.creates,
        shards=max(1, math.ceil(peak / (constants.archived * MAX_USE))),
        at_once=max(1, math.ceil(peak * ENVELOPE_SECONDS)),
        etcd_mib=tuple(yearly / 365 * days * constants.database_bytes / MIB for days in TTL_DAYS),
    )


# -- The simulation ------------------------------------------------------------------------------------------


def cluster_of(organization: int, clusters: int) -> int:
    """Choose the cluster of an organization by a hash of its name, as rules of an ingress would."""
    return int.from_bytes(sha256(f"organization-{organization}".encode()).digest()[:8]) % clusters


def recording_seconds(rate: float, clusters: int, constants: Constants, random: Random) -> list[float]:
    """
    Simulate callbacks that arrive at ``rate`` a second; return the seconds until each is recorded.

    Organization n has 1/n of the callbacks of the first one. Each event needs ``WRITES`` writes of its
    cluster, of which the first records it, and the controller's follow at once, behind what waits already.
    Writes take an exponentially distributed time, with the measured mean.
    """
    weights = list(itertools.accumulate(WEIGHTS))
    homes = [cluster_of(number, clusters) for number in range(ORGANIZATIONS)]
    chosen = random.choices(range(ORGANIZATIONS), cum_weights=weights, k=ARRIVALS)
    free_at = [0.0] * clusters
    now, taken = 0.0, list[float]()
    for organization in chosen:
        now += random.expovariate(rate)
        home = homes[organization]
        recorded_at = max(now, free_at[home]) + random.expovariate(constants.creates)
        taken.append(recorded_at - now)
        free_at[home] = recorded_at + random.gammavariate(WRITES - 1, 1 / constants.creates)
    return taken


def carried_rate(clusters: int, constants: Constants, *, seed: int = 1) -> float:
    """Return the highest rate of callbacks (a second) at which the 99th percentile is acceptable."""
    low, high = 0.0, clusters * constants.creates
    while high - low > constants.creates / 100:
        rate = (low + high) / 2
        taken = sorted(recording_seconds(rate, clusters, constants, Random(seed)))
        if taken[int(len(taken) * 0.99)] <= ACCEPTABLE_SECONDS:
            low = rate
        else:
            high = rate
    return low


def largest_share(clusters: int) -> float:
    """Return the part of all callbacks that arrives at the busiest cluster."""
    shares = [0.0] * clusters
    for number, weight in enumerate(WEIGHTS):
        shares[cluster_of(number, clusters)] += weight
    return max(shares) / sum(WEIGHTS)


# -- The measurements ----------------------------------------------------------------------------------------


async def _etcd(plane: ControlPlane, path: str, body: dict[str, Any]) -> dict[str, Any]:
    async with etcd_session(plane) as http, http.post(f"http://etcd/v3/{path}", json=body) as answer:
        answer.raise_for_status()
        content: dict[str, Any] = await answer.json()
        return content


async def _database_bytes(plane: ControlPlane) -> int:
    """Compact etcd, and return how many bytes of its database are in use."""
    status = await _etcd(plane, "maintenance/status", {})
    revision = status["header"]["revision"]
    await _etcd(plane, "kv/compaction", {"revision": revision, "physical": True})
    return int((await _etcd(plane, "maintenance/status", {}))["dbSizeInUse"])


async def _stored_events(plane: ControlPlane) -> list[int]:
    """Return the number of bytes of each event in etcd, with its key."""
    prefix = f"/registry/{GROUP}/envelopeevents/{NAMESPACE}/"
    encoded = [base64.b64encode(each.encode()).decode() for each in (prefix, f"{prefix[:-1]}0")]
    found = await _etcd(plane, "kv/range", {"key": encoded[0], "range_end": encoded[1]})
    return [
        sum(len(base64.b64decode(each[part])) for part in ("key", "value")) for each in found.get("kvs", [])
    ]


async def measure_constants(setup: BenchSetup, count: int, creates: int, at_once: int) -> Constants:
    """Archive ``count`` envelopes, create ``creates`` events by the bare client, and return the constants."""
    plane = setup.plane
    before = await _database_bytes(plane)
    names = await setup.create_events(await setup.create_envelopes(count))
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(setup.wait_until_succeeded(names))
        controller = await setup.controller("sizes")
        own, servers = cpu_seconds_of_all(controller.pid), setup.cluster_cpu()
        started = time.perf_counter()
        times = list((await watching).values())
    own, servers = cpu_seconds_of_all(controller.pid) - own, setup.cluster_cpu() - servers
    memory = ProcessMemory.of(controller.pid)
    await controller.stop()
    stored, used = await _stored_events(plane), await _database_bytes(plane) - before
    bare = await BareClient.start(plane.kubeconfig, at_once)
    await bare.create_events(creates // 4)  # makes connections and fills caches
    recorded = await bare.create_events(creates)
    await bare.end()
    return Constants(
        creates=recorded.rate,
        archived=count / (times[-1] - started),
        controller_cpu=own * 1000 / count,
        cluster_cpu=servers * 1000 / count,
        controller_memory=memory.peak,
        event_bytes=sum(stored) / len(stored),
        database_bytes=used / count,
    )


# -- The report ----------------------------------------------------------------------------------------------


def report(constants: Constants, yearly: Sequence[int] = YEARLY) -> str:
    """Return the Markdown."""
    days = [f"etcd, {each} days, MiB" for each in TTL_DAYS]
    lines = [
        f"- One API server records {constants.creates:.0f} events a second. API server and etcd need "
        f"{constants.cluster_cpu:.0f} ms of CPU for an event from its callback to its end.",
        f"- One controller archives {constants.archived:.0f} events a second where eSAW and the archive "
        f"answer at once, with {constants.controller_cpu:.0f} ms of CPU for each and at most "
        f"{constants.controller_memory:.0f} MiB of memory.",
        f"- A finished event with three files has {constants.event_bytes:.0f} bytes, and takes "
        f"{constants.database_bytes:.0f} bytes of etcd's database.",
        "",
        "| envelopes a year | callbacks a second | of one API server "
        f"| {' | '.join(days)} | at once | shards |",
        f"|---|{'---|' * (len(TTL_DAYS) + 4)}",
    ]
    for each in (size(number, constants) for number in yearly):
        etcd = " | ".join(f"{part:,.1f}" for part in each.etcd_mib)
        lines.append(
            f"| {each.yearly:,} | {each.peak:.4f} | {each.recorded:.2%} | {etcd} | {each.at_once} "
            f"| {each.shards} |"
        )
    lines += [
        "",
        f"Assumed: {BUSIEST_HOUR:.2%} of a year's envelopes in the busiest hour, {BURST:.0f} times its mean "
        f"in the busiest minute, and {ENVELOPE_SECONDS:.0f} s of eSAW and the archive for an envelope. "
        "`at once` is the sum of `spec.limits.concurrency` that this needs. At most "
        f"{MAX_USE:.0%} of a measured limit is planned for. etcd's database has {ETCD_QUOTA_MIB} MiB by "
        "default.",
        "",
        "| clusters | callbacks a second | of one cluster | of all callbacks at the busiest cluster |",
        "|---|---|---|---|",
    ]
    base = carried_rate(1, constants)
    for number in CLUSTERS:
        rate = base if number == 1 else carried_rate(number, constants)
        lines.append(f"| {number} | {rate:.0f} | {rate / base:.2f} | {largest_share(number):.0%} |")
    lines += [
        "",
        f"Simulated: {ARRIVALS:,} callbacks of {ORGANIZATIONS} organizations, of which number n has 1/n of "
        f"the callbacks of the first. A rate counts if 99 % are recorded within {ACCEPTABLE_SECONDS:.0f} s.",
    ]
    return "\n".join(lines)


async def measure(count: int, creates: int, at_once: int) -> Constants:
    """Set everything up and return the constants."""
    with tempfile.TemporaryDirectory() as temporary:
        async with asyncio.timeout(TIMEOUT), bench_setup(Path(temporary), concurrency=at_once) as setup:
            return await measure_constants(setup, count, creates, at_once)


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--creates", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=32)
    chosen = parser.parse_args()
    print(report(uvloop.run(measure(chosen.count, chosen.creates, chosen.at_once))))


if __name__ == "__main__":
    main()
