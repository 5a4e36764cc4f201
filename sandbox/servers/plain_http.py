"""
A client of servers on this machine that speak HTTP without TLS.
"""

from typing import Any

import httpx


def plain_http(**options: Any) -> httpx.AsyncClient:
    """Make a client; ``options`` are further ones of httpx's. It asks no proxy of the user's."""
    # Without TLS there are no certificates to verify; reading the public authorities takes 20 ms of CPU.
    return httpx.AsyncClient(trust_env=False, verify=False, **options)  # noqa: S501
