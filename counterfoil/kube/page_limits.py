"""
The size of a page of a list: its objects, and its bytes.

Who fills metadata and statuses chooses the size of an object. So a page that has too many bytes is not read
to its end, and is requested again with fewer objects. The API server reads and encodes a page before its size
is known: the next page does not begin with more objects than had room in this one.

This module sends no requests.
"""

import aiohttp

SMALL_PAGE = 50
"""Objects in a page of a list that a controller reads. An event with many files takes more than 1 MiB, and
one process works for all Organizations."""

LARGE_PAGE = 500
"""Objects in a page of any other list, as kubectl requests them."""

MAX_PAGE_BYTES = 8 * 1024 * 1024
"""Size of a page in memory, above which it is requested again with fewer objects. Parsed, it takes some four
times as much. One object alone is always accepted: etcd bounds it."""


class PageTooLarge(Exception):
    """A page has more bytes than it may have."""


def fewer_objects(limit: int) -> int:
    """Return the limit of the repeated request after a page of ``limit`` objects (0: all) was too large."""
    return max(1, limit // 2) if limit else SMALL_PAGE


def next_limit(limit: int, size: int) -> int:
    """Return how many objects the next page may have after one of ``limit`` objects had ``size`` bytes."""
    return limit * 2 if size < MAX_PAGE_BYTES // 4 else limit


async def read_page(content: aiohttp.StreamReader, most: int) -> bytes:
    """Return the body of a response, unpacked. Raises ``PageTooLarge`` if it has more than ``most`` bytes.
    The connection can't be used again then."""
    body = bytearray()
    async for part in content.iter_any():
        body += part
        if len(body) > most:
            raise PageTooLarge
    return bytes(body)
