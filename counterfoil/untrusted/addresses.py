"""
The addresses that no connection may lead to: link-local, loopback, own ones, metadata services of clouds.

A user who may change an Organization or an Archive chooses host names, and others answer for them in DNS.
``Addresses`` looks a name up and checks every address; the caller connects to a checked one. So a name that
changes meanwhile (DNS rebinding) reaches nothing else. Private networks are allowed, since most archives are
in one.

A NetworkPolicy does not apply to traffic of a pod with itself, and with many network plugins not to traffic
with its node. So the process itself refuses both: its own addresses and those of the node.
"""

import ipaddress
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from counterfoil.untrusted.host_lookup import resolve_host

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Looks up the addresses of a host name for a port. Raises ``OSError``."""

MAX_ADDRESSES: Final = 8
"""Maximum number of addresses of one name that are used."""

_METADATA_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        (
            "100.100.100.200/32",  # Alibaba Cloud
            "168.63.129.16/32",  # Azure
            "192.0.0.192/32",  # Oracle Cloud
            "fd00:ec2::/32",  # Amazon EC2
            "fd20:ce::254/128",  # Google Cloud
            "fd00:42::42/128",  # Scaleway
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


PROC_NET: Final = Path("/proc/net")

_DOCUMENTATION: Final = {4: "203.0.113.1", 6: "2001:db8::1"}
"""Addresses that no machine has. (RFC 5737, RFC 3849)"""


def is_own_address(ip: IPAddress) -> bool:
    """
    Whether an interface of this machine has this address now, in the network namespace of the process.

    Only an own address can be bound. Where any address can be (``ip_nonlocal_bind``), this says nothing.
    """
    return _can_bind(ip.version, str(ip)) and not _can_bind(ip.version, _DOCUMENTATION[ip.version])


def _can_bind(version: int, address: str) -> bool:
    try:
        with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as found:
            found.bind((address, 0))
    except OSError:
        return False
    return True


def gateways(folder: Path = PROC_NET) -> frozenset[IPAddress]:
    """
    Return the routers of this machine. In a pod, its node is the router with many network plugins.

    Empty where Linux does not list routes.
    """
    return frozenset(
        each for each in (*_gateways_v4(folder / "route"), *_gateways_v6(folder / "ipv6_route")) if int(each)
    )


def _gateways_v4(path: Path) -> Iterator[IPAddress]:
    # The bytes of the address in memory, written as a number of the machine.
    for _, _, gateway, *_ in _rows(path)[1:]:
        yield ipaddress.IPv4Address(struct.pack("=I", int(gateway, 16)))


def _gateways_v6(path: Path) -> Iterator[IPAddress]:
    for _, _, _, _, gateway, *_ in _rows(path):
        yield ipaddress.IPv6Address(bytes.fromhex(gateway))


def _rows(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []


_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
"""The last part of a host that is an address (URL Standard of WHATWG, "ends-in-a-number checker")."""


class AddressForbidden(OSError):
    """A host is, or its name leads to, an address that nothing may connect to."""

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} has a forbidden address")


def is_address_forbidden(error: BaseException | None) -> bool:
    """Whether an error or one of its causes is about a forbidden address."""
    while error is not None:
        if isinstance(error, AddressForbidden):
            return True
        error = error.__cause__ or error.__context__
    return False


def is_forbidden_address(address: str, *, loopback: bool) -> bool:
    """
    Whether nothing may connect to this address: link-local, cloud metadata, multicast, unspecified.

    Private networks are allowed; so are shared addresses (100.64.0.0/10), as pods have in some clusters.
    ``loopback`` allows loopback addresses.
    """
    return any(_is_forbidden(each, loopback=loopback) for each in _destinations(_without_zone(address)))


def _without_zone(address: str) -> IPAddress:
    return ipaddress.ip_address(address.partition("%")[0])


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


@dataclass(frozen=True)
class Addresses:
    """Rules for the addresses of connections."""

    allows_loopback: bool
    """Whether loopback is allowed to a host that is named so: ``localhost``, or an address of loopback."""
    resolve: Resolve = resolve_host
    node: frozenset[IPAddress] = frozenset()
    """Addresses of the node, which are refused."""
    is_own: Callable[[IPAddress], bool] = is_own_address
    """Whether an address is one of this machine or pod, which is refused. Not asked about loopback."""

    async def of(self, host: str, port: int) -> Sequence[str]:
        """
        Return the addresses of a host, all of them checked, the first choice first.

        Raises ``AddressForbidden`` if one of them is forbidden; ``OSError`` or ``ValueError`` without any.
        """
        if is_address(host):
            self.check(host, (host,))
            return (host,)
        addresses = (await self.resolve(host, port))[:MAX_ADDRESSES]
        if not addresses:
            raise OSError(f"{host} has no address")
        self.check(host, addresses)
        return addresses

    def check(self, host: str, addresses: Sequence[str]) -> None:
        """Raise ``AddressForbidden`` if one of the addresses of a host is forbidden."""
        loopback = self.allows_loopback and (host == "localhost" or is_address(host))
        if any(is_forbidden_address(each, loopback=loopback) or self._is_here(each) for each in addresses):
            raise AddressForbidden(host)

    def _is_here(self, address: str) -> bool:
        """Whether an address is one of the pod or of its node. Loopback has another rule."""
        return any(
            each in self.node or (not each.is_loopback and self.is_own(each))
            for each in _destinations(_without_zone(address))
        )


def allowed_addresses(node: Iterable[IPAddress], *, allows_loopback: bool, allows_node: bool) -> Addresses:
    """Return the rules of a process that runs on a node with these addresses."""
    refused = frozenset() if allows_node else frozenset(node) | gateways()
    return Addresses(allows_loopback=allows_loopback, node=refused)


NO_LOOPBACK: Final = Addresses(allows_loopback=False)

ALLOWED: Final[ContextVar[Addresses]] = ContextVar("ALLOWED", default=NO_LOOPBACK)
"""
The rules for all clients of this process, which sets them once, before its first client.

Not a parameter, since each opener of an archive, also of another package, makes its client itself.
"""


def is_address(host: str) -> bool:
    """Whether a host is an IP address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def ends_in_number(host: str) -> bool:
    """Whether a host is a number, or ends in one, in decimal, octal or hexadecimal. It is no name in DNS, but
    some programs read an IPv4 address in it."""
    return _NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]) is not None
