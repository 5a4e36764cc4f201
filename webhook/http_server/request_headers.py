"""
The client of a request, by its headers: its address, and the page that it comes from. Pure.

Every proxy appends to ``X-Forwarded-For`` the address that called it. With N known proxies, the N-th address
from the end is the one that the outermost proxy wrote; all addresses before it are untrusted.

Any page can link to a person's draft, and eSAW's OAuth does not ask a person who consented before. So the
pages send a draft without a form only if the request comes from eSAW's pages; otherwise they ask the person.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from counterfoil.origin import origin_of

NO_ADDRESS: Final = "nowhere"
"""Name of a client without an address, as on a Unix socket."""

_IPV6_PREFIX_LENGTH: Final = 64
"""Length of the network of one IPv6 client: providers assign at least a /64 to each customer."""

_WITH_PORT = re.compile(r"\[(?P<six>[^\]]*)\](:\d+)?|(?P<four>[\d.]+):\d+")


def client_ip(peer: str | None, forwarded: Sequence[str], *, proxies: int) -> str:
    """
    Return the client: an IPv4 address or an IPv6 network.

    ``peer`` is the address of the connection, ``forwarded`` are the lines of ``X-Forwarded-For``. Without a
    valid address at the proxy's position, the client is the peer.
    """
    outermost = _from_end(forwarded, proxies) if proxies else ""
    return _normalized_address(outermost) or _normalized_address(peer or "") or NO_ADDRESS


def _from_end(lines: Sequence[str], position: int) -> str:
    """Return the address at this position from the end, empty for none. Those before it are not even parsed:
    this runs before the rate limit, and a client can send a million of them."""
    for line in reversed(lines):
        addresses = line.rsplit(",", position)
        # All parts but the first are one address each; the first is one only if no comma is left in it.
        if len(addresses) > position:
            return addresses[-position].strip()
        if len(addresses) == position:
            return addresses[0].strip()
        position -= len(addresses)
    return ""


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


def is_from(site: str, headers: Mapping[str, str]) -> bool:
    """
    Whether a request comes from a page of this site, or from a client that is no browser.

    A page can hide its referrer but cannot forge another origin. A client that sends neither a referrer nor
    ``Sec-Fetch-Site`` is no browser (since 2023), and so has no session that another page could use.
    (Fetch Metadata; the same rule as in Go's ``net/http.CrossOriginProtection``)
    """
    referrer = headers.get("Referer")
    if referrer is None:
        return "Sec-Fetch-Site" not in headers
    with suppress(ValueError):
        return origin_of(referrer) == origin_of(site)
    return False
