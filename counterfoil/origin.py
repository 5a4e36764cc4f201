"""
The origin of a URL: scheme, host and port, in one spelling. (RFC 6454)

A key or password is sent to the origin that it belongs to, and to no other (rule 11). So two URLs of one
server must give one text, and two servers must never give the same. What programs read in different ways is
refused. Pure.
"""

import ipaddress
import re
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

import idna

DEFAULT_PORTS: Final = {"http": 80, "https": 443, "sftp": 22}
"""Schemes that an origin can have, and the ports that it leaves out."""

ORIGIN_ANNOTATION: Final = "counterfoil.dev/origin"
"""Annotation of a Secret: the only origin that its content may be sent to."""

MAX_ORIGIN_LENGTH: Final = 512

_AMBIGUOUS: Final = re.compile(r"[\x00-\x20\x7f\\@%]")
"""In scheme, host and port: programs differ in where the host begins."""

_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9.])?")


def annotate_command(secret: str, origin: str) -> str:
    """Return the command with which a person lets a Secret be sent to this origin."""
    return f"kubectl annotate secret {secret} {ORIGIN_ANNOTATION}={origin} --overwrite"


def origin_of(url: str) -> str:
    """
    Return ``scheme://host[:port]``: in lower case, without the default port, the host in ASCII (IDNA).

    Raises ``ValueError`` for a URL without scheme and host, or one that programs may read in different ways.
    """
    before_path = re.split(r"(?<!:)(?<!:/)[/?#]", url, maxsplit=1)[0]
    if _AMBIGUOUS.search(before_path):
        raise ValueError("scheme, host and port have no user, space, backslash or percent sign")
    parts = urlsplit(before_path)
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ValueError(f"an origin begins with {', '.join(DEFAULT_PORTS)} and :// and a host name")
    # urlsplit reads the port late, and raises ValueError for one that can't be.
    port = parts.port
    is_default = port is None or port == DEFAULT_PORTS[parts.scheme]
    return f"{parts.scheme}://{_host(parts.hostname, parts.netloc)}{'' if is_default else f':{port}'}"


def is_origin(text: str) -> bool:
    """Whether a text is an origin as ``origin_of`` writes it, and no longer than a status has one."""
    with suppress(ValueError):
        return len(text) <= MAX_ORIGIN_LENGTH and origin_of(text) == text
    return False


def belongs_to(declared: str | None, recorded: str | None) -> str | None:
    """Return the only origin that a credential may be sent to: the one that its Secret declares, else the one
    that Counterfoil recorded in a status; None: it is unknown."""
    return recorded if declared is None else declared


def _host(host: str, netloc: str) -> str:
    if netloc.startswith("["):
        return f"[{ipaddress.IPv6Address(host).compressed}]"
    if not host.isascii():
        try:
            # As httpx does, which opens the connections.
            host = idna.encode(host.lower()).decode("ascii")
        except idna.IDNAError:
            raise ValueError("the host name can't be written in ASCII (IDNA)") from None
    host = host.lower()
    if _HOST.fullmatch(host) is None or len(host) > 253:
        raise ValueError("the host name can't be one")
    return host
