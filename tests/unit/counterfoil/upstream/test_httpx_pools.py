"""
Several small pools behave as one client: few connections for few requests, and all are closed at the end.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpcore
import httpx

from counterfoil.esaw import new_http_client
from counterfoil.esaw.limits import CONNECTION_POOLS


@dataclass
class Server:
    """Answers requests in groups (``together``); counts the connections that were made and those that are
    open."""

    url: str = ""
    made: int = 0
    there: int = 0
    together: asyncio.Barrier = field(default_factory=lambda: asyncio.Barrier(1))
    all_gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.made += 1
        self.there += 1
        while head := await reader.read(65536):
            assert head.endswith(b"\r\n\r\n")
            await self.together.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()
        self.there -= 1
        if not self.there:
            self.all_gone.set()


@asynccontextmanager
async def running() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/"
    try:
        yield server
    finally:
        listening.close()


async def status(http: httpx.AsyncClient, url: str) -> int:
    return (await http.get(url)).status_code


async def test_tasks_one_after_the_other_share_one_connection() -> None:
    async with running() as server, new_http_client() as http:
        for _ in range(CONNECTION_POOLS + 1):
            assert await asyncio.create_task(status(http, server.url)) == 200
        assert server.made == 1


async def test_calls_of_one_task_go_over_one_connection() -> None:
    async with running() as server, new_http_client() as http:
        assert [await status(http, server.url) for _ in range(CONNECTION_POOLS + 1)] == [200] * (
            CONNECTION_POOLS + 1
        )
        assert server.made == 1


async def test_more_tasks_than_pools_are_all_served_at_once() -> None:
    async with running() as server, new_http_client() as http:
        server.together = asyncio.Barrier(3 * CONNECTION_POOLS)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            asked = [group.create_task(status(http, server.url)) for _ in range(3 * CONNECTION_POOLS)]
        assert [each.result() for each in asked] == [200] * len(asked)
        assert server.made == len(asked)


async def test_all_connections_are_closed_in_the_end() -> None:
    async with running() as server:
        async with new_http_client() as http, asyncio.TaskGroup() as group:
            for _ in range(2 * CONNECTION_POOLS):
                group.create_task(status(http, server.url))
        async with asyncio.timeout(60):
            await server.all_gone.wait()


async def test_a_client_that_is_no_context_closes_them_too() -> None:
    async with running() as server:
        http = new_http_client()
        await asyncio.gather(*(status(http, server.url) for _ in range(2 * CONNECTION_POOLS)))
        await http.aclose()
        async with asyncio.timeout(60):
            await server.all_gone.wait()


def test_httpcore_still_checks_each_connection_for_each_idle_one() -> None:
    # At most one check per connection: counterfoil._upstream.httpx_pools can go.
    checks = 0

    class IdleConnection:
        def is_closed(self) -> bool:
            return False

        def has_expired(self) -> bool:
            return False

        def is_idle(self) -> bool:
            nonlocal checks
            checks += 1
            return True

    pool = httpcore.AsyncConnectionPool(max_connections=100, max_keepalive_connections=100)
    pool._connections.extend([IdleConnection() for _ in range(100)])  # type: ignore[misc]  # the part that is called
    pool._assign_requests_to_connections()
    assert checks > 100 * 100
