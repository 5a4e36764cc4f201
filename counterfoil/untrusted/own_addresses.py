"""
The addresses of the machine itself: no archive and no eSignAnyWhere has one of them.

A NetworkPolicy does not apply to traffic of a pod with itself, and with many network plugins not to traffic
with its node. So the process itself must refuse both: its own addresses and those of the node.
"""

import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

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
