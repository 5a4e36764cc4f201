"""
Links to archived files: which stored locations a browser can open. Pure.

A location is written by the controller, but an answer of an archive can be in it. So only an address of the
scheme https without user and password becomes a link; everything else stays text.
"""

from typing import Final
from urllib.parse import urlsplit

MAX_LINK_LENGTH: Final = 2048
"""Maximum characters of an address that browsers open reliably."""


def document_link(location: str | None) -> str | None:
    """Return the address under which a browser can ask the archive for a file; None where there is none."""
    if location is None or len(location) > MAX_LINK_LENGTH or not location.isprintable():
        return None
    try:
        parts = urlsplit(location)
        is_address = parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    is_plain = "@" not in parts.netloc and "\\" not in location and " " not in location
    return location if is_address and is_plain else None
