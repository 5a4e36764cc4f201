"""
Bounds of JSON that an outsider writes: how many values may be in it, and the errors of its decoder.

The bytes alone bound neither time nor memory: to decode 16 MiB of empty lists takes two seconds and a
gigabyte. Two counts over the bytes take some milliseconds. Characters in texts count too, so the bounds are
far above those of valid answers.
"""

from typing import Final

import msgspec

MAX_CONTAINERS = 200_000
"""Maximum number of lists and objects: ten times those of a search with 5,000 envelopes or of 2,000 files."""

MAX_SEPARATORS = 1_000_000
"""Maximum number of commas; in a valid answer of 16 MiB there is less than one in 16 bytes."""


JSON_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Errors of msgspec for invalid JSON; ``RecursionError`` for lists that are nested too deeply."""


def has_too_many_values(text: bytes) -> bool:
    """Whether the decoding would take too long for an event loop."""
    return text.count(b"{") + text.count(b"[") > MAX_CONTAINERS or text.count(b",") > MAX_SEPARATORS
