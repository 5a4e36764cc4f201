"""
Bench (a): callbacks a second that the receiver records, against a bare client that creates the same objects.

Both go to the same API server, in the same namespace, with the same number in flight, in turns (bare,
receiver, bare, receiver, ...), so that other load on the machine affects both. The bare client is aiohttp on
uvloop with nothing around it, in a separate process like the receiver. The load for the receiver comes from
here over raw sockets, as cheaply as can be, since its work shares the cores too. Last, the receiver gets
callbacks that it knows already.

First, the API server and etcd have half of the cores, and the rest has the others, as in a cluster, where
they are on other machines. This is judged. Then all share all cores: the API server lacks the CPU that the
receiver takes.

    .venv/bin/python -m verification.bench.receiver [--in-flight 32] [--rounds 9] [--count 1000]
"""

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec
import uvloop

from counterfoil.callback_auth import token_hash
from counterfoil.kube.watch import Raw
from counterfoil.resources import API_VERSION, envelope_id
from counterfoil.resources.event_factory import new_event
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.processes import bound_to_parent
from sandbox.environment.processes import CounterfoilProcess, running_receiver
from verification.bench.machine import CoreSplit, cpu_seconds
from verification.bench.setup import api_server_session, plane_on_cores
from verification.bench.spread import Spread, judgement

NAMESPACE = "bench"
ORGANIZATION = "acme"
TOKEN = "bench-token-0123456789"
UNLIMITED = {"callback_rate": "1000000", "callback_burst": "1000000"}
"""Settings of a receiver that limits no organization."""
TIMEOUT = 300.0  # seconds for each of both runs
MIN_RATE = 0.95
MAX_P99 = 1.2
MIN_KNOWN = 2.0


class CpuUse(NamedTuple):
    """CPU seconds that each has used so far, or in a round."""

    process: float
    """The receiver or the bare client."""
    load: float
    """The process that sends the callbacks to the receiver; 0 in a round of the bare client."""
    cluster: float
    """API server and etcd."""

    def since(self, before: "CpuUse") -> "CpuUse":
        """Return the use since then."""
        return CpuUse(*(now - then for now, then in zip(self, before, strict=True)))


NO_CPU = CpuUse(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class CallbackRound:
    """Duration of one round: seconds in all, and of each request."""

    seconds: float
    latencies: Sequence[float]
    cpu: CpuUse = NO_CPU

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    @property
    def p99(self) -> float:
        return self._quantile(98)

    @property
    def p50(self) -> float:
        return self._quantile(49)

    @property
    def cpu_in_all(self) -> float:
        return sum(self.cpu)

    def _quantile(self, number: int) -> float:
        return statistics.quantiles(self.latencies, n=100)[number] * 1000


class KeepAliveConnection(asyncio.Protocol):
    """One keep-alive connection that sends a request and waits for the head of its answer; there is no
    body."""

    @classmethod
    async def open(cls, url: str) -> "KeepAliveConnection":
        """Connect to a server."""
        host, _, port = url.removeprefix("http://").partition(":")
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, int(port))
        return connection

    def __init__(self) -> None:
        self._answer: asyncio.Future[bytes] | None = None
        self._buffer = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's transports are no subclasses

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._buffer.endswith(b"\r\n\r\n") and self._answer is not None:
            self._answer.set_result(self._buffer)
            self._buffer = b""

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError("the server closed the connection"))

    async def ask(self, request: bytes) -> bytes:
        """Return the head of the answer. Raises ``ConnectionError``."""
        assert self._transport is not None
        if self._transport.is_closing():
            raise ConnectionError("the server closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer


def status_of(head: bytes) -> int:
    """Return the status of an answer."""
    return int(head[9:12])


async def send_requests(url: str, requests: Iterable[bytes], in_flight: int) -> CallbackRound:
    """Send all requests, with this number at the same time. Each response must be 200."""
    queue, latencies = iter(requests), list[float]()

    async def one_after_the_other() -> None:
        connection = await KeepAliveConnection.open(url)
        for request in queue:
            started = time.perf_counter()
            status = status_of(await connection.ask(request))
            latencies.append(time.perf_counter() - started)
            if status != 200:
                raise RuntimeError(f"the receiver answered {status}")

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(one_after_the_other())
    return CallbackRound(time.perf_counter() - started, latencies)


def callbacks(envelopes: Iterable[str]) -> list[bytes]:
    path = f"/callbacks/{ORGANIZATION}/{TOKEN}"
    return [
        f"GET {path}?envelopeId={each}&action=envelopeFinished HTTP/1.1\r\nHost: receiver\r\n\r\n".encode()
        for each in envelopes
    ]


def new_envelope_ids(count: int) -> list[str]:
    return [str(uuid.uuid4()) for _ in range(count)]


# -- The bare client: a process that reads on stdin the number to create, and prints the result on stdout ----


async def bare_client(kubeconfig: str, in_flight: int) -> None:
    async with api_server_session(Path(kubeconfig), in_flight) as (session, host):
        url = f"{host}/apis/{API_VERSION}/namespaces/{NAMESPACE}/envelopeevents"
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            done = await _create_bare(session, url, int(line), in_flight)
            print(json.dumps([done.seconds, done.latencies]), flush=True)


async def _create_bare(session: aiohttp.ClientSession, url: str, count: int, in_flight: int) -> CallbackRound:
    bodies = iter(
        [
            msgspec.json.encode(
                new_event(organization=ORGANIZATION, envelope=envelope_id(each), action="envelopeFinished")
            )
            for each in new_envelope_ids(count)
        ]
    )
    latencies = list[float]()

    async def one_after_the_other() -> None:
        for body in bodies:
            started = time.perf_counter()
            async with session.post(url, data=body) as answer:
                await answer.read()
            latencies.append(time.perf_counter() - started)
            if answer.status != 201:
                raise RuntimeError(f"the API server answered {answer.status}")

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(one_after_the_other())
    return CallbackRound(time.perf_counter() - started, latencies)


class BareClient:
    """The bare client's process, seen from here."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def start(cls, kubeconfig: Path, in_flight: int) -> "BareClient":
        command = bound_to_parent(
            [
                sys.executable,
                "-m",
                "verification.bench.receiver",
                f"--bare={kubeconfig}",
                f"--in-flight={in_flight}",
            ]
        )
        return cls(
            await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**24
            )
        )

    async def create_events(self, count: int) -> CallbackRound:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{count}\n".encode())
        seconds, latencies = json.loads(await self._process.stdout.readline())
        return CallbackRound(seconds, latencies)

    async def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


# -- The run -------------------------------------------------------------------------------------------------


async def create_organization(plane: ControlPlane, namespace: str) -> None:
    """Create the Organization whose callbacks are sent; there is no controller that writes its status."""
    raw = organization(namespace)
    status = json.dumps({"status": raw.pop("status")})
    await plane.kubectl("create", "-f", "-", stdin=json.dumps(raw))
    place = ("-n", namespace, "--subresource=status")
    await plane.kubectl("patch", "organization", ORGANIZATION, *place, "--type=merge", "-p", status)


def organization(namespace: str = NAMESPACE) -> Raw:
    """Return the Organization whose callbacks are sent."""
    return {
        "apiVersion": API_VERSION,
        "kind": "Organization",
        "metadata": {"name": ORGANIZATION, "namespace": namespace},
        "spec": {
            "baseURL": "https://esaw.example.com",
            "archiveRef": {"name": "dms"},
            "callback": {"tokenSecretRefs": [{"name": "callback", "key": "token"}]},
            # No controller finishes the events.
            "limits": {"unfinishedEvents": 10_000_000},
        },
        "status": {"callbackTokenHashes": [token_hash(TOKEN, bytes(16))]},
    }


async def measure(
    plane: ControlPlane, receiver: CounterfoilProcess, in_flight: int, rounds: int, count: int
) -> dict[str, list[CallbackRound]]:
    """Return the rounds of each of ``KINDS``."""
    bare = await BareClient.start(plane.kubeconfig, in_flight)
    kinds: dict[str, list[CallbackRound]] = {name: [] for name in KINDS}

    def cpu(pid: int) -> CpuUse:
        load = 0.0 if pid == bare.pid else cpu_seconds(os.getpid())
        return CpuUse(cpu_seconds(pid), load, sum(map(cpu_seconds, plane.pids.values())))

    async def with_cpu(pid: int, work: Awaitable[CallbackRound]) -> CallbackRound:
        before = cpu(pid)
        done = await work
        return replace(done, cpu=cpu(pid).since(before))

    for turn in range(rounds + 1):
        envelopes = new_envelope_ids(count)
        done = [await with_cpu(bare.pid, bare.create_events(count))]
        for sent in (envelopes, envelopes, envelopes[:1] * count):
            work = send_requests(receiver.public, callbacks(sent), in_flight)
            done.append(await with_cpu(receiver.pid, work))
        # The first turn makes connections and fills caches, and is not counted.
        if turn:
            for name, each in zip(KINDS, done, strict=True):
                kinds[name].append(each)
    await bare.end()
    return kinds


KINDS = (
    "bare client, creates",
    "receiver, new callbacks",
    "receiver, known callbacks, each of another event",
    "receiver, known callbacks, all of one event",
)


def report(kinds: Mapping[str, Sequence[CallbackRound]], *, is_judged: bool) -> str:
    """Return the Markdown. Each ratio is of two rounds of the same turn."""
    bare, new, known = (kinds[name] for name in KINDS[:3])
    lines = [
        "| what | of bare | per s | p50 ms | p99 ms | CPU ms: itself | what sends the callbacks "
        "| API server and etcd |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rounds in kinds.items():
        cpu = [
            f"{statistics.median(each.cpu[part] / len(each.latencies) for each in rounds) * 1000:.2f}"
            for part in range(len(CpuUse._fields))
        ]
        cells = [_ratio(rounds, bare, "rate").text(2)]
        cells += [Spread.of(getattr(each, what) for each in rounds).text() for what in ("rate", "p50", "p99")]
        lines.append(f"| {name} | {' | '.join((*cells, *cpu))} |")
    judged = (
        ("new callbacks, of bare", _ratio(new, bare, "rate"), ">=", MIN_RATE),
        ("p99 of new callbacks, of bare", _ratio(new, bare, "p99"), "<=", MAX_P99),
        ("known callbacks, of new", _ratio(known, new, "rate"), ">=", MIN_KNOWN),
    )
    lines.append("")
    for what, ratio, bound, target in judged:
        words = judgement(ratio.median, bound, target, is_judged=is_judged)
        lines.append(f"- {what}: {ratio.text(2)}{words}")
    if not is_judged:
        share = _ratio(bare, new, "cpu_in_all")
        lines.append(
            "- CPU of all processes for a create of the bare client, of that for a new callback: "
            f"{share.text(2)}. New callbacks can't reach a higher part of its rate here."
        )
    return "\n".join(lines)


def _ratio(rounds: Sequence[CallbackRound], others: Sequence[CallbackRound], what: str) -> Spread:
    return Spread.of_ratios(
        [getattr(each, what) for each in rounds], [getattr(each, what) for each in others]
    )


async def run(split: CoreSplit, in_flight: int, rounds: int, count: int) -> dict[str, list[CallbackRound]]:
    """Measure with the processes on these cores."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        await stack.enter_async_context(asyncio.timeout(TIMEOUT))
        plane = await stack.enter_async_context(plane_on_cores(split))
        await create_organization(plane, NAMESPACE)
        receiver = await stack.enter_async_context(
            running_receiver(
                kubeconfig=plane.kubeconfig,
                namespace=NAMESPACE,
                log=folder / "receiver.log",
                settings=UNLIMITED,
            )
        )
        await receiver.until_ready()
        return await measure(plane, receiver, in_flight, rounds, count)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.bare:
        uvloop.run(bare_client(chosen.bare, chosen.in_flight))
    else:
        size = (chosen.in_flight, chosen.rounds, chosen.count)
        version = platform.python_version()
        print(f"{chosen.in_flight} in flight, {chosen.rounds} rounds of {chosen.count}, Python {version}")
        for split in CoreSplit.both():
            kinds = uvloop.run(run(split, *size))
            print(f"\n### {split.title}\n\n{report(kinds, is_judged=split.is_separate)}")


if __name__ == "__main__":
    main()
