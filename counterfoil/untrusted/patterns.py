"""
Patterns: regular expressions that a setting contains and that are matched with the text of an outsider.

They have the syntax of RE2, with which the API server validates them too. The time of a match is linear in
the length of the text for every pattern. Python's ``re`` needs exponential time for some.

A pattern that needs more than 256 KiB of memory is invalid. So the compilation takes some 10 ms at most, and
a text of 1,024 characters takes as long. The compilation holds the interpreter, also in a thread; a match in
a thread leaves the event loop free.
"""

from functools import lru_cache
from typing import Final

import re2  # type: ignore[import-untyped]  # ships no types

MAX_MEMORY_BYTES: Final = 256 * 1024
"""Bytes of one compiled pattern and of what its matches keep."""

MAX_COMPILED: Final = 256
"""Patterns that stay compiled: 64 MiB at most. The library keeps 128 itself."""


@lru_cache(maxsize=1024)
def pattern_error(pattern: str) -> str | None:
    """Return why a pattern is invalid, or None."""
    try:
        _compile(pattern)
    except re2.error as error:
        cause = error.args[0]
        return cause.decode(errors="replace") if isinstance(cause, bytes) else str(cause)
    return None


def full_match(pattern: str, text: str) -> bool:
    """Whether the pattern matches the whole text. Raises ``re2.error`` for an invalid pattern."""
    return _compile(pattern).fullmatch(text) is not None


def matches(pattern: str, text: str) -> bool:
    """Whether the pattern matches the whole text; an invalid pattern matches every text."""
    if pattern_error(pattern) is not None:
        # The Organization's status reports it; the person at the form can't fix it.
        return True
    return full_match(pattern, text)


@lru_cache(maxsize=MAX_COMPILED)
def _compile(pattern: str) -> "re2._Regexp":
    options = re2.Options()
    options.log_errors = False
    options.max_mem = MAX_MEMORY_BYTES
    # Groups would cost most of the time, and nothing reads them.
    options.never_capture = True
    return re2.compile(pattern, options)
