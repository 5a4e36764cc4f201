"""
Callers: from which address a request comes, as far as it can be told. Pure.

Every proxy adds to ``X-Forwarded-For`` the address that it was called from, behind whatever stands there already; so of so many
proxies that are known to be there the outermost one's word is so many places from the end, and all before it is hearsay.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

NO_ADDRESS: Final = "nowhere"
"""Who comes from no address, as over a socket in the file system."""

_IPV6_PREFIX_LENGTH: Final = 64
"""Bits of an IPv6 address that whoever calls can't choose: providers give away the rest."""

_WITH_PORT = re.compile(r"\[(?P<six>[^\]]*)\](:\d+)?|(?P<four>[\d.]+):\d+")


def client_ip(peer: str | None, forwarded: Iterable[str], *, proxies: int) -> str:
    """
    Return who calls, as an address or, of IPv6, a network.

    ``peer`` is whoever connected, ``forwarded`` are the lines of ``X-Forwarded-For``. Where a line does not tell what a proxy
    would have written, it is the peer.
    """
    addresses = [each.strip() for line in forwarded for each in line.split(",")] if proxies else []
    outermost = addresses[-proxies] if proxies and len(addresses) >= proxies else ""
    return _normalized_address(outermost) or _normalized_address(peer or "") or NO_ADDRESS


def _normalized_address(text: str) -> str:
    written = _WITH_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address((written["six"] or written["four"]) if written else text)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), _IPV6_PREFIX_LENGTH), strict=False))
