"""The TLS handshake of all clients with servers that nobody trusts."""

import asyncio
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

import httpx
import pytest

from controller.outgoing_webhook.client import NoticeClient
from counterfoil.archives.backends._http import make_http_client
from counterfoil.archives.backends._object_store.identity import NoIdentity, ask
from counterfoil.clock import WallClock
from counterfoil.esaw import new_http_client
from counterfoil.untrusted.tls_handshake import without_finite_fields

FINITE_FIELDS = {0x0033, 0x0039, 0x0067, 0x006B, 0x009E, 0x009F, 0xCCAA, 0xC09E, 0xC09F, 0xC0A2, 0xC0A3}
"""Cipher suites whose server chooses a group of primes. (RFC 5246, 5288, 7905, 6655)"""

Client = Callable[[int], Awaitable[object]]


async def archive(port: int) -> None:
    async with make_http_client(None) as http:
        await http.get(f"https://127.0.0.1:{port}/")


async def esaw(port: int) -> None:
    async with new_http_client() as http:
        await http.get(f"https://127.0.0.1:{port}/")


async def notice(port: int) -> None:
    client = NoticeClient(WallClock())
    await client.post(f"https://127.0.0.1:{port}/", {}, b"")
    await client.close()


async def identity(port: int) -> None:
    with suppress(NoIdentity):
        await ask("GET", f"https://127.0.0.1:{port}/")


@pytest.mark.parametrize("client", [archive, esaw, notice, identity])
async def test_no_client_offers_a_group_of_primes_that_the_server_chooses(client: Client) -> None:
    offered = set[int]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, _, length = struct.unpack(">BHH", await reader.readexactly(5))
        offered.update(cipher_suites(await reader.readexactly(length)))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        with suppress(httpx.HTTPError):
            await client(server.sockets[0].getsockname()[1])
    assert offered
    assert offered & FINITE_FIELDS == set()


def cipher_suites(hello: bytes) -> list[int]:
    """Return the cipher suites of a ClientHello. (RFC 5246, 7.4.1.2)"""
    at = 4 + 2 + 32
    at += 1 + hello[at]
    (length,) = struct.unpack_from(">H", hello, at)
    return list(struct.unpack_from(f">{length // 2}H", hello, at + 2))


def test_all_other_ciphers_of_python_stay() -> None:
    usual, bounded = ssl.create_default_context(), without_finite_fields(ssl.create_default_context())
    ciphers = [each["name"] for each in usual.get_ciphers() if not each["name"].startswith("DHE-")]
    assert [each["name"] for each in bounded.get_ciphers()] == ciphers
    assert bounded.security_level == usual.security_level
