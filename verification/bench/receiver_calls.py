"""
The work of a callback: Python function calls and CPU time of the receiver, by part.

Counts of calls are equal in every run, also on a busy machine; a test bounds them
(``tests/unit/bench/test_receiver_calls.py``). The receiver's own server, handler and client of the API server
run in this process, on uvloop as in production. A stub in the same process takes the place of the API server:
it stores and returns objects. Neither the stub nor the load is counted. The bare client of
``verification.bench.receiver`` sends the same objects to the same stub. The profiler makes each call slower,
so the times are shares, not costs.

    .venv/bin/python -m verification.bench.receiver_calls [--count 500]
"""

import argparse
import asyncio
import cProfile
import logging
import os
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import CodeType
from typing import Any

import aiohttp
import msgspec
import uvloop

from counterfoil import logs
from counterfoil.clock import WallClock
from counterfoil.kube.client import KubeClient, connect
from counterfoil.kube.served_namespaces import ServedNamespaces
from counterfoil.kube.watch import WatchEvent
from counterfoil.metrics import Metrics, new_registry
from counterfoil.resources import API_VERSION, envelope_id
from counterfoil.resources.event_factory import new_event
from counterfoil.settings import ListenAddress, LogFormat, LogLevel
from tests.support.servers.scripted_kubernetes import a_kubeconfig
from verification.bench.receiver import (
    NAMESPACE,
    ORGANIZATION,
    callbacks,
    new_envelope_ids,
    organization,
    send_requests,
)
from webhook.http_server.namespaces import NamespaceTable
from webhook.http_server.rate_limit import TokenBucket
from webhook.http_server.server import public_server
from webhook.receiver.callback_to_event import CallbackHandler
from webhook.receiver.delivery_counter import DeliveryCounter
from webhook.receiver.event_writer import EventWriter, write_turns
from webhook.receiver.limits import ReceiverLimits
from webhook.receiver.namespaces import ReceiverNamespace
from webhook.receiver.organizations import OrganizationCache
from webhook.receiver.readiness import WriteProbe
from webhook.receiver.unlisted_actions import UnlistedActionCounter

PARTS = {
    "load and stub, not counted": ("/bench/",),
    "log line": ("/counterfoil/logs.py", "/logging/"),
    "metrics and traces": ("/counterfoil/metrics.py", "/counterfoil/tracing.py", "/prometheus_client/"),
    "client of the API server": ("/counterfoil/kube/", "/kubernetes/"),
    "event: build, write, compare": ("/counterfoil/resources/", "event_writer.py", "readiness.py"),
    "checks of the callback": ("/webhook/", "/counterfoil/"),
    "aiohttp, server": ("/aiohttp/web", "/aiohttp/http_", "/aiohttp/base_protocol"),
    "aiohttp, client": ("/aiohttp/", "/yarl/", "/multidict/"),
    "event loop and standard library": ("",),
}
"""Parts of the work by a piece of the path of a module; the first that matches counts."""

UNCOUNTED = next(iter(PARTS))

LIMITS = ReceiverLimits(in_flight=1000)


@dataclass
class Work:
    """Work of one kind of request, each figure for one request."""

    requests: int = 0
    """Requests to the API server, for all together."""
    calls: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    """Calls of Python functions by part."""
    microseconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    """CPU time by part, including that of built-in functions."""

    @property
    def total_calls(self) -> int:
        """Calls of Python functions, without the load and the stub; a fraction of a call is left out."""
        return int(sum(count for part, count in self.calls.items() if part != UNCOUNTED))

    def share(self, part: str) -> float:
        """Return the share of a part in the CPU time, without the load and the stub."""
        return self.microseconds[part] / (sum(self.microseconds.values()) - self.microseconds[UNCOUNTED])


class ApiServerStub(asyncio.Protocol):
    """One connection to a server that stores objects in ``stored`` and returns them."""

    def __init__(self, stored: dict[str, bytes], work: Counter[str]) -> None:
        self._stored = stored
        self._requests = work
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Answer a request as soon as it is complete."""
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        method, path, _ = head.split(b" ", 2)
        if not end or (method == b"POST" and not body.endswith(b"}")):
            return
        self._buffer = b""
        self._requests[method.decode()] += 1
        if method == b"POST":
            answer = body.replace(b'"metadata":{', b'"metadata":{"uid":"1",', 1)
            self._stored[msgspec.json.decode(body)["metadata"]["name"]] = answer
        else:
            answer = self._stored[path.rsplit(b"/", 1)[1].decode()]
        status = b"201 Created" if method == b"POST" else b"200 OK"
        self._transport.write(
            b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (status, len(answer), answer)
        )


def measure(count: int) -> Mapping[str, Work]:
    """Return the work of a create by the bare client, of a new callback, and of a known one; ``count`` of
    each."""
    with tempfile.TemporaryDirectory() as folder, _discarded_log():
        return uvloop.run(_measure(Path(folder), count))


async def _measure(folder: Path, count: int) -> Mapping[str, Work]:
    stored, requests = dict[str, bytes](), Counter[str]()
    server = await asyncio.get_running_loop().create_server(
        lambda: ApiServerStub(stored, requests), "127.0.0.1", 0
    )
    host, port = server.sockets[0].getsockname()
    kubeconfig = a_kubeconfig(folder, f"http://{host}:{port}")
    url = f"http://{host}:{port}/apis/{API_VERSION}/namespaces/{NAMESPACE}/envelopeevents"
    envelopes = new_envelope_ids(count)
    known, first = callbacks(envelopes), callbacks(new_envelope_ids(10))
    metrics = Metrics(new_registry(), version="0")
    async with (
        aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session,
        connect(namespace=NAMESPACE, kubeconfig=kubeconfig, observe=metrics.kubernetes_request) as kube,
        _receiver(kube, metrics) as receiver,
    ):

        async def create_bare() -> None:
            for each in new_envelope_ids(count):
                event = new_event(
                    organization=ORGANIZATION, envelope=envelope_id(each), action="envelopeFinished"
                )
                async with session.post(url, data=msgspec.json.encode(event)) as answer:
                    await answer.read()

        async def send_callbacks() -> None:
            await send_requests(receiver, known, 1)

        # Connections are made, and caches filled.
        await create_bare()
        await send_requests(receiver, first, 1)
        return {
            "bare client, creates": await _profiled(create_bare, requests, count),
            "new callback": await _profiled(send_callbacks, requests, count),
            "known callback": await _profiled(send_callbacks, requests, count),
        }


@asynccontextmanager
async def _receiver(kube: KubeClient, metrics: Metrics) -> AsyncIterator[str]:
    """Run the receiver's public port; yields its URL."""
    clock = WallClock()
    cache = OrganizationCache(
        metrics, clock=clock, new_bucket=lambda: TokenBucket(rate=1_000_000, burst=1_000_000)
    )
    cache.update(WatchEvent("ADDED", organization()))
    cache.update(WatchEvent("SYNCED", {}, frozenset({ORGANIZATION})))
    counter = DeliveryCounter(kube, clock=clock, random=Random(1), limits=LIMITS)
    probe = WriteProbe(kube, monotonic=clock.monotonic, valid_seconds=LIMITS.probe_seconds)
    unlisted = UnlistedActionCounter(kube, metrics, clock=clock, seconds=LIMITS.unlisted_actions_seconds)
    writer = EventWriter(kube, counter, probe, turns=write_turns(64), clock=clock, limits=LIMITS)
    parts = ReceiverNamespace(
        kube=kube,
        metrics=metrics,
        organization_cache=cache,
        delivery_counter=counter,
        write_probe=probe,
        event_writer=writer,
        unlisted_actions=unlisted,
        process_metrics=metrics,
    )
    served = ServedNamespaces(kube.namespace, (kube.namespace,))
    namespaces = NamespaceTable(served, lambda _: parts, clock, ended=metrics.remove_namespace)
    handler = CallbackHandler(namespaces, metrics, limits=LIMITS, clock=clock)
    listen = ListenAddress("127.0.0.1", 0)
    async with public_server(listen, handler, limits=LIMITS, grace_seconds=0.1) as address:
        yield f"http://{address}"


async def _profiled(run: Callable[[], Awaitable[None]], requests: Counter[str], count: int) -> Work:
    requests.clear()
    profile = cProfile.Profile(time.thread_time)
    profile.enable()
    try:
        await run()
    finally:
        profile.disable()
    work = Work(requests=requests.total())
    for entry in profile.getstats():
        if not isinstance(entry.code, CodeType):
            continue
        part = _part_of(entry.code)
        built_in = sum(each.inlinetime for each in entry.calls or () if isinstance(each.code, str))
        work.calls[part] += entry.callcount / count
        work.microseconds[part] += (entry.inlinetime + built_in) / count * 1e6
    return work


def _part_of(code: CodeType) -> str:
    path = Path(code.co_filename).as_posix()
    return next(part for part, pieces in PARTS.items() if any(piece in path for piece in pieces))


@contextmanager
def _discarded_log() -> Iterator[None]:
    """Make the log lines as in production, and discard them."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    try:
        with Path(os.devnull).open("w") as nothing, redirect_stderr(nothing):
            logs.configure(LogLevel.INFO, LogFormat.JSON)
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def table(works: Mapping[str, Work]) -> str:
    """Return the works as a table in Markdown: calls, and share of the CPU time, by part."""
    lines = [f"| part | {' | '.join(works)} |", f"|---|{'---|' * len(works)}"]
    for part in list(PARTS)[1:]:
        cells = (f"{work.calls[part]:.0f} calls, {work.share(part):.0%}" for work in works.values())
        lines.append(f"| {part} | {' | '.join(cells)} |")
    totals = " | ".join(f"**{work.total_calls} calls**" for work in works.values())
    return "\n".join([*lines, f"| **all** | {totals} |"])


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=500)
    print(table(measure(parser.parse_args().count)))


if __name__ == "__main__":
    main()
