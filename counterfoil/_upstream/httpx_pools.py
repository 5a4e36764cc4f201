"""
One HTTP client with several small pools of connections instead of one large pool.

At the beginning and end of each request, httpcore looks at every connection of the pool (is it idle, did the server close
it?), and for each idle one counts the idle ones again. With 32 requests at once that was half of all the CPU that
archiving took (bench/RESULTS.md); with four connections a pool it is nothing.

A task keeps to its pool, so that the calls of one event go over one connection. A new task goes where fewest others are,
the first pool first, so that a process that is hardly used has few connections open.
"""

import asyncio
from collections import Counter
from types import TracebackType
from typing import Any
from weakref import WeakKeyDictionary

import httpx


class PooledClient(httpx.AsyncClient):
    """An ``httpx.AsyncClient`` over ``pools`` pools. ``options`` are those of the client; limits are of each pool."""

    def __init__(self, *, pools: int, **options: Any) -> None:
        super().__init__(**options)
        # This client's own pool is the first.
        self._other_clients = [httpx.AsyncClient(**options) for _ in range(pools - 1)]
        self._pool_of_task: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request over the pool of the current task; everything else that a client can do comes here, too."""
        index = self._pool_index()
        if index == 0:
            return await super().send(request, **options)
        return await self._other_clients[index - 1].send(request, **options)

    async def aclose(self) -> None:
        """Close all connections."""
        await super().aclose()
        await self._close_others()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await super().__aexit__(exc_type, exc_value, traceback)
        await self._close_others()

    async def _close_others(self) -> None:
        for client in self._other_clients:
            await client.aclose()

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
