"""
Patterns: regular expressions that a setting contains and that are matched with the text of an outsider.

They have the syntax of RE2, with which the API server validates them too. The time of a match is linear in
the length of the text for every pattern. Python's ``re`` needs exponential time for some.

A pattern of 256 characters takes up to 0.3 seconds to compile, and as long for a text of 1,024 characters. A
match leaves the event loop free if it is made in a thread.
"""

from functools import lru_cache

import re2  # type: ignore[import-untyped]  # ships no types


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
    try:
        return full_match(pattern, text)
    except re2.error:
        # The Organization's status reports it; the person at the form can't fix it.
        return True


def _compile(pattern: str) -> "re2._Regexp":
    """Return the compiled pattern; the library keeps the last 128."""
    options = re2.Options()
    options.log_errors = False
    # Groups would cost most of the time, and nothing reads them.
    options.never_capture = True
    return re2.compile(pattern, options)
