"""
Bench (p): the controller against a small reconciler of controller-runtime (in Go, verification/bench/peers),
on one API server.

The peer makes the calls to eSAW and the writes to the folder that the plain script makes, and writes each
event's status as often as the controller, after the same phases. It is a process of the same ServiceAccount,
with as many events at once, and its client has no rate limit. It has no fences, no lookup of the sender, no
second list of files before the delete and no question afterwards, no signatures, tags or retries by cause:
the distance to it is what these cost, and what Python costs.

Plain script, controller and peer take turns. In each round the events are created first; then a fresh process
starts, and the clock runs from its /readyz to the last ``Succeeded``. After that come events one by one, at a
rate that both can follow: the time from each create's answer to its ``Succeeded``, as a watch sees it.
Requests are counted by the API server's and by the stand-in's own records, so that nobody counts himself.

    .venv/bin/python -m verification.bench.go_peer [--count 500] [--rounds 3] [--at-once 32] [--paced 200] \
        [--pace 10]
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from counterfoil.resources import EnvelopeEvent
from sandbox.controlplane.binaries import Module, ensure
from sandbox.controlplane.ports import free_port
from sandbox.environment.processes import CounterfoilProcess
from verification.bench.controller import ensure_all_deleted, plain_round
from verification.bench.machine import ProcessMemory, cpu_seconds_of_all
from verification.bench.plain_script import PlainScriptResult
from verification.bench.setup import NAMESPACE, BenchSetup, MetricSamples, bench_setup, new_events
from verification.bench.spread import Spread

PEER = Module(Path(__file__).parent / "peers", "0.23.3", {"peer": "counterfoil.local/peer"})
"""Its version is that of controller-runtime."""

WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE", "DELETECOLLECTION")
TIMEOUT = 1200.0  # seconds for the whole run, without the build

Start = Callable[[BenchSetup, str], Awaitable[CounterfoilProcess]]
"""Starts one of the compared processes under this name, and waits until it is ready."""


@dataclass(frozen=True)
class ApiRequests:
    """Requests that the API server has answered so far, from every client."""

    writes: float
    reads: float
    """Of single objects."""

    @classmethod
    def parse(cls, metrics: str) -> "ApiRequests":
        """Read them from the API server's /metrics."""
        name = "apiserver_request_total"
        samples = MetricSamples.of(metrics, name)
        return cls(
            writes=samples.total(name, verb=WRITES), reads=samples.total(name, verb="GET", scope="resource")
        )

    def __sub__(self, earlier: "ApiRequests") -> "ApiRequests":
        return ApiRequests(self.writes - earlier.writes, self.reads - earlier.reads)


@dataclass(frozen=True)
class PeerRound:
    """One round of the controller or of the peer; all but rates, memory and latencies are per event."""

    rate: float
    steady_rate: float
    """Events a second between the first and the last that succeeded."""
    cpu: float
    """CPU ms of the process."""
    cluster_cpu: float
    """CPU ms of API server and etcd."""
    memory: float
    """Memory at most, in MiB."""
    writes: float
    """All requests to the API server that write, the create included."""
    reads: float
    """Reads of single objects in the API server."""
    esaw_calls: float
    latencies: Sequence[float]
    """Seconds from the create of each paced event to its success."""


@dataclass(frozen=True)
class Load:
    """The events of one round: first ``count`` at once, then ``paced`` one by one, ``pace`` a second."""

    count: int
    paced: int
    pace: float


# -- The run -------------------------------------------------------------------------------------------------


async def start_controller(setup: BenchSetup, name: str) -> CounterfoilProcess:
    """Start a controller."""
    return await setup.controller(name)


def peer_starter(program: Path, at_once: int) -> Start:
    """Return what starts the peer."""

    async def start(setup: BenchSetup, name: str) -> CounterfoilProcess:
        built = setup.local_environment
        public_port, private_port = free_port(), free_port()
        argv = [
            str(program),
            f"--kubeconfig={await built.plane.kubeconfig_for('controller', NAMESPACE)}",
            f"--namespace={NAMESPACE}",
            f"--esaw={setup.esaw.control.url}",
            f"--token={setup.esaw.sender.token}",
            f"--root={setup.root}",
            f"--health=127.0.0.1:{private_port}",
            f"--concurrency={at_once}",
        ]
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(built.folder)}
        log = built.folder / f"{name}.log"
        peer = CounterfoilProcess(name, argv, environment, log, public_port, private_port)
        built.processes.append(peer)
        await peer.start()
        return peer

    return start


async def round_of(setup: BenchSetup, start: Start, name: str, load: Load) -> PeerRound:
    """Let a fresh process do a round."""
    ids = await setup.create_envelopes(load.count)
    requests = await _requests(setup)
    names = await setup.create_events(ids)
    await setup.esaw.control.clear_requests()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(setup.wait_until_succeeded(names))
        process = await start(setup, name)
        cpu, cluster_cpu = cpu_seconds_of_all(process.pid), setup.cluster_cpu()
        started = time.perf_counter()
        times = list((await watching).values())
    used = cpu_seconds_of_all(process.pid) - cpu
    cluster_used = setup.cluster_cpu() - cluster_cpu
    requests = await _requests(setup) - requests
    calls = len(await setup.esaw.control.requests())
    latencies = await _paced(setup, load)
    memory = ProcessMemory.of(process.pid)
    await process.stop()
    await ensure_all_deleted(setup, ids)
    _ensure_all_archived(setup.root, ids)
    # So that each round finds the same.
    await setup.local_environment.kubectl("delete", "envelopeevents", "--all", "--wait=false")
    return PeerRound(
        rate=load.count / (times[-1] - started),
        steady_rate=(load.count - 1) / (times[-1] - times[0]),
        cpu=used * 1000 / load.count,
        cluster_cpu=cluster_used * 1000 / load.count,
        memory=memory.peak,
        writes=requests.writes / load.count,
        reads=requests.reads / load.count,
        esaw_calls=calls / load.count,
        latencies=latencies,
    )


async def _requests(setup: BenchSetup) -> ApiRequests:
    return ApiRequests.parse(await setup.local_environment.plane.kubectl("get", "--raw", "/metrics"))


async def _paced(setup: BenchSetup, load: Load) -> list[float]:
    """Create events one by one; return how many seconds after its create each succeeded."""
    bodies, created = new_events(await setup.create_envelopes(load.paced)), dict[str, float]()
    if not bodies:
        return []
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(setup.wait_until_succeeded(bodies))
        begun = time.perf_counter()
        for place, (name, body) in enumerate(bodies.items()):
            await asyncio.sleep(begun + place / load.pace - time.perf_counter())
            await setup.kube.create(EnvelopeEvent, body)
            created[name] = time.perf_counter()
        succeeded = await watching
    return [succeeded[name] - created[name] for name in bodies]


def _ensure_all_archived(root: Path, ids: Sequence[str]) -> None:
    """Raise ``RuntimeError`` if an envelope has no manifest, wherever the process filed it."""
    archived = {each.parent.name for each in root.rglob("counterfoil.json")}
    left = [each for each in ids if not any(each in folder for folder in archived)]
    if left:
        raise RuntimeError(f"{len(left)} of {len(ids)} envelopes have no manifest in the archive")


def report(
    plain: Sequence[PlainScriptResult], ours: Sequence[PeerRound], peers: Sequence[PeerRound], pace: float
) -> str:
    """Return the Markdown, ratios first."""
    lines = [
        "| what | of the plain script | events per s | p50 ms | p99 ms | CPU ms per event "
        "| memory at most MiB | writes per event | reads per event | calls to eSAW per event |",
        "|---|---|---|---|---|---|---|---|---|---|",
        f"| plain script | 1.00 | {Spread.of(each.rate for each in plain).text(1)} | - | - "
        f"| {Spread.of(each.cpu for each in plain).text(1)} | {max(each.memory for each in plain):.0f} "
        "| - | - | - |",
        _row("controller", ours, plain),
        _row(f"peer on controller-runtime {PEER.version}", peers, plain),
    ]
    ratios = {
        "rate": Spread.of_ratios([each.rate for each in ours], [each.rate for each in peers]),
        "CPU": Spread.of_ratios([each.cpu for each in ours], [each.cpu for each in peers]),
        "memory": Spread.of_ratios([each.memory for each in ours], [each.memory for each in peers]),
    }
    shares = ", ".join(f"{name} {ratio.text(2)}" for name, ratio in ratios.items())
    return "\n".join(
        [
            *lines,
            "",
            f"- the controller's share of the peer's: {shares}",
            "- from the first `Succeeded` to the last: controller "
            f"{Spread.of(each.steady_rate for each in ours).text(1)} events per s, peer "
            f"{Spread.of(each.steady_rate for each in peers).text(1)}; the rates above have the start of the "
            "watches in them",
            "- API server and etcd need, on the same cores, with the controller "
            f"{Spread.of(each.cluster_cpu for each in ours).text(1)} ms per event, with the peer "
            f"{Spread.of(each.cluster_cpu for each in peers).text(1)}",
            f"- p50 and p99: from the create of an event to its `Succeeded`, at {pace:.0f} events per s",
        ]
    )


def _row(name: str, rounds: Sequence[PeerRound], plain: Sequence[PlainScriptResult]) -> str:
    share = Spread.of_ratios([each.rate for each in rounds], [each.rate for each in plain])
    latencies = [latency * 1000 for each in rounds for latency in each.latencies]
    quantiles = statistics.quantiles(latencies, n=100)
    cells = [
        name,
        share.text(2),
        Spread.of(each.rate for each in rounds).text(1),
        f"{quantiles[49]:.0f}",
        f"{quantiles[98]:.0f}",
        Spread.of(each.cpu for each in rounds).text(1),
        f"{max(each.memory for each in rounds):.0f}",
        Spread.of(each.writes for each in rounds).text(2),
        Spread.of(each.reads for each in rounds).text(2),
        Spread.of(each.esaw_calls for each in rounds).text(2),
    ]
    return f"| {' | '.join(cells)} |"


async def measure(program: Path, load: Load, rounds: int, at_once: int) -> str:
    """Run it all and return the report."""
    plain, ours, peers = list[PlainScriptResult](), list[PeerRound](), list[PeerRound]()
    start_peer = peer_starter(program, at_once)
    with tempfile.TemporaryDirectory() as temporary:
        async with asyncio.timeout(TIMEOUT), bench_setup(Path(temporary), concurrency=at_once) as setup:
            # The first turn fills caches, and is not counted.
            first = Load(count=at_once * 2, paced=0, pace=load.pace)
            await plain_round(setup, first.count, at_once)
            await round_of(setup, start_controller, "controller", first)
            await round_of(setup, start_peer, "peer", first)
            for turn in range(rounds):
                plain.append(await plain_round(setup, load.count, at_once))
                ours.append(await round_of(setup, start_controller, f"controller-{turn}", load))
                peers.append(await round_of(setup, start_peer, f"peer-{turn}", load))
    return (
        f"{rounds} rounds of {load.count} envelopes, {at_once} at once, then {load.paced} at {load.pace:.0f} "
        f"per s\n\n{report(plain, ours, peers, load.pace)}"
    )


async def run(load: Load, rounds: int, at_once: int) -> str:
    """Build the peer unless it is cached, measure, and return the report."""
    program = (await ensure("peer", modules=[PEER])).path("peer")
    return await measure(program, load, rounds, at_once)


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--paced", type=int, default=200)
    parser.add_argument("--pace", type=float, default=10.0)
    chosen = parser.parse_args()
    if chosen.paced < 2:
        parser.error("--paced must be 2 at least: a percentile needs two values")
    load = Load(chosen.count, chosen.paced, chosen.pace)
    print(asyncio.run(run(load, chosen.rounds, chosen.at_once)))


if __name__ == "__main__":
    main()
