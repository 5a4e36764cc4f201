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
        self._more = [httpx.AsyncClient(**options) for _ in range(pools - 1)]
        self._places: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()

    async def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request over the pool of the current task; everything else that a client can do comes here, too."""
        place = self._place()
        if place == 0:
            return await super().send(request, **options)
        return await self._more[place - 1].send(request, **options)

    async def aclose(self) -> None:
        """Close all connections."""
        await super().aclose()
        await self._close_more()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await super().__aexit__(exc_type, exc_value, traceback)
        await self._close_more()

    async def _close_more(self) -> None:
        for client in self._more:
            await client.aclose()

    def _place(self) -> int:
        task = asyncio.current_task()
        if task is None:
            return 0
        place = self._places.get(task)
        if place is None:
            taken = Counter(place for other, place in self._places.items() if not other.done())
            place = min(range(len(self._more) + 1), key=taken.__getitem__)
            self._places[task] = place
        return place
