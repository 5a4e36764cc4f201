"""
Bounds of JSON that an outsider writes: how many values may be in it, and the errors of its decoder.

The bytes alone bound neither time nor memory: to decode 16 MiB of empty lists takes two seconds and a
gigabyte. Two counts over the bytes take some milliseconds. Characters in texts count too, so the bounds are
far above those of valid answers.
"""

import re
import sys
from collections.abc import Mapping
from typing import Final

import msgspec

MAX_CONTAINERS = 200_000
"""Maximum number of lists and objects: ten times those of a search with 5,000 envelopes or of 2,000 files."""

MAX_SEPARATORS = 1_000_000
"""Maximum number of commas; in a valid answer of 16 MiB there is less than one in 16 bytes."""


JSON_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Errors of msgspec for invalid JSON; ``RecursionError`` for lists that are nested too deeply."""


_ODD_VALUE = re.compile(r"(?<=^Invalid enum value )(?!'[A-Za-z0-9_]{1,40}' - at ).*(?= - at )", re.DOTALL)


def mismatch_text(error: Exception) -> str:
    """Return what an error of msgspec says about JSON. "Invalid enum value 'x'" is its one message that
    repeats a text of the outsider; only a plain word may pass."""
    return _ODD_VALUE.sub("(no plain word)", str(error))


def has_too_many_values(text: bytes, max_containers: int = MAX_CONTAINERS) -> bool:
    """Whether the decoding would take too long for an event loop. An answer whose objects are read one by one
    in Python has a smaller maximum of lists and objects."""
    return text.count(b"{") + text.count(b"[") > max_containers or text.count(b",") > MAX_SEPARATORS


def text_memory(*values: object) -> int:
    """
    Return the bytes of memory of all texts in decoded JSON: one emoji makes each character four bytes.

    Structs, lists and objects, with their keys, are read to any depth that ``has_too_many_values`` allows.
    """
    total, left = 0, list(values)
    while left:
        value = left.pop()
        if isinstance(value, str | bytes):
            total += sys.getsizeof(value)
        elif isinstance(value, msgspec.Struct):
            left.extend(getattr(value, name) for name in value.__struct_fields__)
        elif isinstance(value, tuple | list):
            left.extend(value)
        elif isinstance(value, Mapping):
            left.extend(value.keys())
            left.extend(value.values())
    return total
