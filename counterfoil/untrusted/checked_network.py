"""
The network below an HTTP client that others lead: it connects to checked addresses only, and no response
holds the event loop by the number of its parts.

TLS still proves the name of the host, and a kept connection stays with its host. A proxy of the environment
looks names up itself; then only an address in the URL is checked here, and the proxy has to refuse the rest.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import httpcore
import httpx

from counterfoil._upstream.httpcore_internals import pace_responses, set_network
from counterfoil.untrusted.addresses import ALLOWED, Addresses, is_address

NEXT_ADDRESS_SECONDS: Final = 0.25
"""Wait for one address before the next one is tried as well. (RFC 8305, 8)"""

Option = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Looks names up, checks the addresses, and connects to the first that answers."""

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the signature of httpcore
        local_address: str | None = None,
        socket_options: Iterable[Option] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect. Raises ``httpcore.ConnectError``, caused by ``AddressForbidden`` for such an address, and
        ``httpcore.ConnectTimeout``."""
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._addresses.of(host, port)
                return await self._first(addresses, port, local_address, socket_options)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("no connection in time") from error
        except (OSError, ValueError) as error:
            raise httpcore.ConnectError("no usable address") from error

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        await self._network.sleep(seconds)

    async def _first(
        self,
        addresses: Sequence[str],
        port: int,
        local_address: str | None,
        socket_options: Iterable[Option] | None,
    ) -> httpcore.AsyncNetworkStream:
        """Try one address after the other; the next one begins when the one before fails or takes long."""

        async def connect(address: str) -> httpcore.AsyncNetworkStream:
            return await self._network.connect_tcp(
                address, port, local_address=local_address, socket_options=socket_options
            )

        if len(addresses) == 1:
            return await connect(addresses[0])
        waiting, running = list(addresses), set[asyncio.Task[httpcore.AsyncNetworkStream]]()
        try:
            while True:
                if waiting:
                    running.add(asyncio.create_task(connect(waiting.pop(0))))
                done, running = await asyncio.wait(
                    running,
                    timeout=NEXT_ADDRESS_SECONDS if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                failed = [each for each in done if each.exception() is not None]
                if connected := [each for each in done if each.exception() is None]:
                    running.update(connected[1:])
                    return connected[0].result()
                if failed and not waiting and not running:
                    return failed[0].result()
        finally:
            await _close(running)


async def _close(attempts: Iterable[asyncio.Task[httpcore.AsyncNetworkStream]]) -> None:
    for each in attempts:
        each.cancel()
    for result in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(result, httpcore.AsyncNetworkStream):
            await result.aclose()


def only_checked(http: httpx.AsyncClient, addresses: Addresses | None = None) -> httpx.AsyncClient:
    """
    Let a client connect to checked addresses only; return it. Before its first request.

    Without ``addresses``, those of the process. A request to a forbidden address in a URL raises
    ``httpx.ConnectError``, also behind a proxy.
    """
    allowed = addresses or ALLOWED.get()

    async def refuse(request: httpx.Request) -> None:
        host = request.url.host
        if is_address(host):
            try:
                allowed.check(host, (host,))
            except OSError as error:
                raise httpx.ConnectError("a forbidden address", request=request) from error

    pace_responses()
    http.event_hooks["request"].append(refuse)
    set_network(http, CheckedNetwork(allowed))
    return http
