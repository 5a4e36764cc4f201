"""
ESAW calling, and calling again: many callbacks at once, with what was answered to each.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp


class Answer(NamedTuple):
    """The receiver's response to one callback."""

    envelope: str
    status: int
    """0: nothing, the connection broke."""
    retry_after: str | None
    asked_at: float
    """Of the event loop's clock."""


class Caller:
    """Calls receivers in turn."""

    def __init__(self, http: aiohttp.ClientSession, addresses: Sequence[str]) -> None:
        self._http = http
        self._addresses = itertools.cycle(addresses)

    async def call(self, envelope: str, action: str = "envelopeFinished") -> Answer:
        """Call once."""
        asked_at = asyncio.get_running_loop().time()
        query = {"envelopeId": envelope, "action": action}
        try:
            async with self._http.get(next(self._addresses), params=query) as answer:
                return Answer(envelope, answer.status, answer.headers.get("Retry-After"), asked_at)
        except aiohttp.ClientError:
            return Answer(envelope, 0, None, asked_at)

    async def call_about(self, envelopes: Iterable[str], *, at_once: int) -> list[Answer]:
        """Send a callback about each of them, with this number at the same time."""
        waiting = iter(envelopes)

        async def one_after_the_other() -> list[Answer]:
            return [await self.call(envelope) for envelope in waiting]

        done = await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
        return list(itertools.chain.from_iterable(done))


@asynccontextmanager
async def calling(addresses: Sequence[str]) -> AsyncIterator[Caller]:
    """Open the way to some receivers."""
    connector = aiohttp.TCPConnector(limit=200)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as http:
        yield Caller(http, addresses)
