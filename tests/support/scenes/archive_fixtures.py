"""
Servers for the contract tests of several kinds of archives, which refuse some requests.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from sandbox.servers.proxies import Instead, Proxy, Ticks, TrapPoint


@asynccontextmanager
async def refusing(
    upstream: str, methods: Collection[str], status: int, body: bytes = b""
) -> AsyncIterator[str]:
    """Give the address of a proxy that answers requests of these methods itself, and passes on the others."""

    async def refuse() -> None:
        raise Instead(status, body, "application/xml")

    async with Proxy(upstream, ticks=Ticks()) as proxy:
        proxy.trap(lambda passage: passage.method in methods, TrapPoint.ARRIVED, refuse, times=None)
        yield proxy.url
