"""
A process that sends HTTP requests, measures each one, and does nothing else.

So what a bench does meanwhile, such as watching events, delays no request that is measured. A request comes
as a line of JSON on stdin, its time goes out as a line of JSON on stdout.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import uvloop

from counterfoil.kube.watch import Raw
from counterfoil.resources import API_VERSION, EnvelopeEvent
from sandbox.controlplane.processes import bound_to_parent
from verification.bench.setup import REPOSITORY, api_server_session

CONNECTIONS = 100


class TimedRequest(msgspec.Struct, frozen=True):
    """A request to send."""

    number: int
    url: str
    """A path is that of the API server."""
    body: str | None = None
    """JSON to POST; without it, the request is a GET."""


class RequestTime(msgspec.Struct, frozen=True):
    """The status of an answer, and its time."""

    number: int
    status: int
    started: float
    """By ``time.perf_counter``, which the processes of a machine share."""
    seconds: float
    """Until the answer was read."""


class TimedClient:
    """The process, seen from here."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._sent = 0
        self._waiting: dict[int, asyncio.Future[RequestTime]] = {}

    @classmethod
    @asynccontextmanager
    async def running(cls, kubeconfig: Path) -> AsyncIterator["TimedClient"]:
        """Run the process until the block ends."""
        process = await asyncio.create_subprocess_exec(
            *bound_to_parent([sys.executable, "-m", "verification.bench.timed_requests", str(kubeconfig)]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=REPOSITORY,
        )
        assert process.stdin is not None
        client = cls(process)
        reading = asyncio.create_task(client._read())
        try:
            yield client
        finally:
            process.stdin.close()
            await process.wait()
            await reading

    async def get(self, url: str) -> RequestTime:
        """Send a GET. Raises ``RuntimeError`` if it is not answered 200."""
        return await self._ask(url, None, 200)

    async def create_event(self, namespace: str, raw: Raw) -> RequestTime:
        """Create an EnvelopeEvent at the API server. Raises ``RuntimeError`` if it is not answered 201."""
        path = f"/apis/{API_VERSION}/namespaces/{namespace}/{EnvelopeEvent.PLURAL}"
        return await self._ask(path, msgspec.json.encode(raw).decode(), 201)

    async def _ask(self, url: str, body: str | None, expected: int) -> RequestTime:
        assert self._process.stdin is not None
        self._sent += 1
        answered = asyncio.get_running_loop().create_future()
        self._waiting[self._sent] = answered
        self._process.stdin.write(msgspec.json.encode(TimedRequest(self._sent, url, body)) + b"\n")
        done: RequestTime = await answered
        if done.status != expected:
            raise RuntimeError(f"a request was answered {done.status}, not {expected}")
        return done

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            done = msgspec.json.decode(line, type=RequestTime)
            if not (answered := self._waiting.pop(done.number)).done():
                answered.set_result(done)
        for answered in self._waiting.values():
            if not answered.done():
                answered.set_exception(RuntimeError("the process that sends the requests ended"))


# -- The process ---------------------------------------------------------------------------------------------


async def send_requests(kubeconfig: Path) -> None:
    """Send each request as soon as it comes, until there are no more."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin.buffer
    )
    async with (
        api_server_session(kubeconfig, CONNECTIONS) as (session, host),
        asyncio.TaskGroup() as sending,
    ):
        while line := await lines.readline():
            request = msgspec.json.decode(line, type=TimedRequest)
            sending.create_task(_send(session, host, request))


async def _send(session: aiohttp.ClientSession, host: str, request: TimedRequest) -> None:
    url = f"{host}{request.url}" if request.url.startswith("/") else request.url
    method = "GET" if request.body is None else "POST"
    started = time.perf_counter()
    async with session.request(method, url, data=request.body) as answer:
        await answer.read()
    done = RequestTime(request.number, answer.status, started, time.perf_counter() - started)
    print(msgspec.json.encode(done).decode(), flush=True)


if __name__ == "__main__":
    uvloop.run(send_requests(Path(sys.argv[1])))
