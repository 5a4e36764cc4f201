"""Whether eSAW's SaaS calls an address. Pure."""

import re
from typing import Final
from urllib.parse import urlsplit

MAX_PRIVILEGED_PORT: Final = 1024
"""eSAW's SaaS calls port 443 and ports above this one. (Namirial's wiki, page 70058038)"""

_INTERNAL: Final = re.compile(
    r"https?://(127(\.\d{1,3}){3}|\[::1\]|[a-z]([a-z0-9-]*[a-z0-9])?|[a-z0-9.-]+\.(svc|cluster\.local))(:|/|$)",
    re.IGNORECASE,
)
"""Addresses of loopback and of the cluster, as in the CustomResourceDefinition."""


def address_fault(url: str) -> str:
    """Return why eSAW does not call this URL; empty if it does, and for an internal address, which is for an
    eSAW in the same network."""
    if _INTERNAL.match(url):
        return ""
    fault = ""
    try:
        address = urlsplit(url)
    except ValueError:
        return "it is no URL"
    try:
        port = address.port or 443
        if port != 443 and port <= MAX_PRIVILEGED_PORT:
            fault = f"its port is {port}"
    except ValueError:
        fault = "its port is not a number up to 65535"
    return f"its scheme is {address.scheme}" if address.scheme != "https" else fault
