"""
httpcore: the cost of a connection pool grows with the square of its size.

Upstream: https://github.com/encode/httpcore/pull/1035. Versions: httpcore up to 1.0.9.

At the beginning and end of each request, httpcore checks every connection of the pool. For each idle
connection it counts the idle connections again. With 32 concurrent requests this was half of the CPU of
archiving (verification/bench/RESULTS.md). So ``PooledClient`` has several pools of few connections.

All requests of a task use the same pool, so that the calls of one event share a connection. A new task uses
the pool with the fewest tasks, the first of them if equal, so that an idle process has few open connections.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import httpx


class PooledClient(httpx.AsyncClient):
    """An ``httpx.AsyncClient`` with ``pools`` connection pools. ``options`` are those of the client; limits
    apply per pool."""

    def __init__(self, *, pools: int, **options: Any) -> None:
        super().__init__(**options)
        # This client's own pool is the first.
        self._other_clients = [httpx.AsyncClient(**options) for _ in range(pools - 1)]
        self._pool_of_task: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()

    @property
    def clients(self) -> Sequence[httpx.AsyncClient]:
        """One client for each pool."""
        return (self, *self._other_clients)

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request over the pool of the current task. All other request methods of httpx call this
        method."""
        index = self._pool_index()
        if index == 0:
            return await super().send(request, **options)
        return await self._other_clients[index - 1].send(request, **options)

    async def aclose(self) -> None:
        """Close all connections."""
        await super().aclose()
        for client in self._other_clients:
            await client.aclose()

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _pool_index(self) -> int:
        task = asyncio.current_task()
        if task is None:
            return 0
        index = self._pool_of_task.get(task)
        if index is None:
            taken = Counter(index for other, index in self._pool_of_task.items() if not other.done())
            index = min(range(len(self._other_clients) + 1), key=taken.__getitem__)
            self._pool_of_task[task] = index
        return index
