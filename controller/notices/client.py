"""
Send one notice by HTTP, so that no receiver holds the controller up or leads it elsewhere.

One attempt has one timeout for everything. No redirect is followed, no cookie kept, no connection reused, and
of a response only the status and Retry-After are read. The addresses of the receiver's name are looked up and
checked here, and the connection goes to the checked address: a name that changes meanwhile (DNS rebinding)
reaches nothing else.

With ``HTTPS_PROXY`` or ``HTTP_PROXY`` the proxy looks the name up; then only an address in the URL itself is
checked here.
"""

import asyncio
import ipaddress
import logging
import socket
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from urllib.parse import urlsplit

import httpx

from controller.notices.policy import AttemptResult, NotDelivered, result_of
from controller.scheduling.backoff import MAX_RETRY_AFTER
from counterfoil.clock import Clock
from counterfoil.http_client import retry_after_seconds, tls_fault

_log = logging.getLogger(__name__)

ATTEMPT_TIMEOUT_SECONDS = 15.0
"""Timeout for one attempt, from the look-up of the name to the response. (Standard Webhooks: 15 to 30 s)"""

CONNECT_TIMEOUT_SECONDS = 5.0
"""Timeout for one address; a name may have several."""

MAX_ADDRESSES = 8
"""Maximum number of addresses of one name that are used."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Looks up the addresses of a host name for a port. Raises ``OSError``."""

_METADATA_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        (
            "100.100.100.200/32",  # Alibaba Cloud
            "168.63.129.16/32",  # Azure
            "192.0.0.192/32",  # Oracle Cloud
            "fd00:ec2::/32",  # Amazon EC2
            "fd20:ce::254/128",  # Google Cloud
        ),
    )
)
"""Services of cloud providers that give credentials to a machine and are not link-local."""

_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")

_IPV4_IN_LAST_32_BITS = tuple(
    map(
        ipaddress.ip_network,
        (
            "64:ff9b::/96",  # NAT64 (RFC 6052)
            "::/96",  # IPv4-compatible (RFC 4291)
            "::ffff:0:0:0/96",  # IPv4-translated (RFC 2765)
        ),
    )
)

_LOCAL_NAT64 = ipaddress.ip_network("64:ff9b:1::/48")
"""NAT64 with a prefix that the network chooses, of 48, 56, 64 or 96 bits. (RFC 8215)"""

_LOCAL_NAT64_BITS = tuple(
    tuple(bit for bit in range(prefix, 128) if not 64 <= bit < 72)[:32] for prefix in (48, 56, 64, 96)
)
"""The bits with the IPv4 address for each length of the prefix; bits 64 to 71 are none of them. (RFC 6052)"""


class AddressForbidden(Exception):
    """The receiver's name leads to an address that no notice may be sent to."""


def is_forbidden_address(address: str, *, loopback: bool) -> bool:
    """
    Whether no notice may be sent to this address: link-local, cloud metadata, multicast, unspecified.

    Private networks are allowed, since most receivers are in one; so are shared addresses (100.64.0.0/10), as
    pods have in some clusters. ``loopback`` allows loopback addresses.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    return any(_is_forbidden(each, loopback=loopback) for each in _destinations(ip))


def _is_forbidden(ip: IPAddress, *, loopback: bool) -> bool:
    if ip.is_loopback:
        return not loopback
    is_metadata = any(ip.version == network.version and ip in network for network in _METADATA_NETWORKS)
    return is_metadata or ip.is_link_local or ip.is_multicast or ip.is_unspecified or _is_reserved(ip)


def _is_reserved(ip: IPAddress) -> bool:
    return ip.version == 4 and (ip in _THIS_NETWORK or ip.is_reserved)


def _destinations(ip: IPAddress) -> Iterator[IPAddress]:
    """Yield the addresses that a packet to this address may reach: itself, and IPv4 addresses in it."""
    yield ip
    if not isinstance(ip, ipaddress.IPv6Address):
        return
    yield from filter(None, (ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())))
    if ip in _LOCAL_NAT64:
        candidates = [_ipv4_of_bits(ip, bits) for bits in _LOCAL_NAT64_BITS]
        # The zeros of a longer prefix, not an address.
        yield from (each for each in candidates if each not in _THIS_NETWORK)
    elif int(ip) > 1 and any(ip in network for network in _IPV4_IN_LAST_32_BITS):
        yield ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)


def _ipv4_of_bits(ip: ipaddress.IPv6Address, bits: Sequence[int]) -> ipaddress.IPv4Address:
    """Return the IPv4 address at these bits, counted from the left."""
    return ipaddress.IPv4Address(int("".join(str(int(ip) >> (127 - bit) & 1) for bit in bits), 2))


async def resolve_host(host: str, port: int) -> Sequence[str]:
    """Look up the addresses of a host name. Raises ``OSError``."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class CheckedTransport(httpx.AsyncBaseTransport):
    """Connects to the addresses that it checked. TLS still proves the host's name."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        # A connection is kept by address: one that proved the name of another receiver must not be reused.
        self._transport = httpx.AsyncHTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first address that takes the connection."""
        url, host = request.url, request.url.host
        addresses = await self._checked_addresses(host, url.port or (443 if url.scheme == "https" else 80))
        if not _is_address(host):
            request.extensions = {**request.extensions, "sni_hostname": host}
        for address in addresses[:-1]:
            request.url = url.copy_with(host=address)
            try:
                return await self._transport.handle_async_request(request)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                _log.debug("an address of a webhook's receiver takes no connection")
        request.url = url.copy_with(host=addresses[-1])
        return await self._transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()

    async def _checked_addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            addresses = (await self._resolve(host, port))[:MAX_ADDRESSES]
        except OSError as error:
            raise httpx.ConnectError("the name was not found") from error
        if not addresses:
            raise httpx.ConnectError("the name has no address")
        check_addresses(host, addresses)
        return addresses


def check_addresses(host: str, addresses: Sequence[str]) -> None:
    """Raise ``AddressForbidden`` if one of the addresses of a host is forbidden."""
    loopback = host == "localhost" or _is_address(host)
    if any(is_forbidden_address(each, loopback=loopback) for each in addresses):
        raise AddressForbidden(host)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for a URL, or None."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or not parts.hostname or urllib.request.proxy_bypass(parts.hostname):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


@dataclass
class NoticeClient:
    """Sends notices. Use ``close`` at the end."""

    clock: Clock
    resolve: Resolve = resolve_host
    timeout_seconds: float = ATTEMPT_TIMEOUT_SECONDS
    _clients: dict[str | None, httpx.AsyncClient] = field(default_factory=dict)
    """The client for each proxy; None: without a proxy."""

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> AttemptResult:
        """Make one attempt, and return its result. Raises nothing because of a receiver."""
        receiver = "The receiver"
        try:
            receiver = f"The receiver at {_origin(url)}"
            async with asyncio.timeout(self.timeout_seconds):
                return await self._post(url, receiver, headers, body)
        except AddressForbidden:
            message = (
                f"{receiver} has an address that notices are never sent to: link-local, loopback, or the "
                "metadata service of a cloud. Correct spec.webhook, or the name in DNS."
            )
            return NotDelivered("WebhookAddressForbidden", message)
        except (TimeoutError, httpx.TimeoutException):
            message = f"{receiver} did not answer within {self.timeout_seconds:g} seconds."
            return NotDelivered("WebhookUnreachable", message)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            # ValueError: a name that can't be looked up (UnicodeError, idna), or an address that is none.
            if (fault := tls_fault(error)) is not None:
                message = (
                    f"{receiver} can't prove who it is ({fault}). Give it a certificate for its name that "
                    "the controller trusts, or name its authority in the controller's SSL_CERT_FILE."
                )
                return NotDelivered("WebhookTlsFailed", message)
            return NotDelivered("WebhookUnreachable", f"{receiver} could not be reached.")

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    async def _post(self, url: str, receiver: str, headers: dict[str, str], body: bytes) -> AttemptResult:
        host, proxy = urlsplit(url).hostname or "", proxy_for(url)
        if proxy is not None and _is_address(host):
            check_addresses(host, (host,))
        # The body of the response is left unread; the end of the context closes the connection.
        async with self._client(proxy).stream("POST", url, headers=headers, content=body) as response:
            now, longest = self.clock.now(), MAX_RETRY_AFTER.total_seconds()
            header = response.headers.get("Retry-After")
            pause = retry_after_seconds(header, now=now, longest=longest)
            not_before = None if pause is None else now + timedelta(seconds=pause)
            return result_of(response.status_code, receiver, not_before=not_before)

    def _client(self, proxy: str | None) -> httpx.AsyncClient:
        if proxy not in self._clients:
            self._clients[proxy] = httpx.AsyncClient(
                transport=CheckedTransport(self.resolve) if proxy is None else None,
                proxy=proxy,
                headers={"User-Agent": "Counterfoil", "Accept": "*/*", "Accept-Encoding": "identity"},
                timeout=httpx.Timeout(self.timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                follow_redirects=False,
            )
        return self._clients[proxy]


def _origin(url: str) -> str:
    """Return scheme, host and port: a path or a query may have a password of the receiver."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
