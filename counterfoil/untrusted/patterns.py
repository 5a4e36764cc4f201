"""
Patterns: regular expressions that a setting contains and that are matched with the text of an outsider.

They have the syntax of RE2, with which the API server validates them too. The time of a match is linear in
the length of the text for every pattern. Python's ``re`` needs exponential time for some.

A pattern that needs more memory than its kind may have is invalid. The compilation holds the interpreter,
also in a thread; a match in a thread leaves the event loop free.
"""

from functools import lru_cache
from typing import Final

import re2  # type: ignore[import-untyped]  # ships no types


class Patterns:
    """The patterns of one kind in a process, which stay compiled. The library keeps 128 itself."""

    def __init__(self, max_memory: int, max_compiled: int) -> None:
        """
        :param max_memory: bytes of one compiled pattern and of what its matches keep.
        :param max_compiled: patterns that stay compiled.
        """
        self._max_memory = max_memory
        self.compiled = lru_cache(max_compiled)(self._compile)
        self._errors = lru_cache(1024)(self._error)

    def error(self, pattern: str) -> str | None:
        """Return why a pattern is invalid, or None."""
        return self._errors(pattern)

    def full_match(self, pattern: str, text: str) -> bool:
        """Whether the pattern matches the whole text. Raises ``re2.error`` for an invalid pattern."""
        return self.compiled(pattern).fullmatch(text) is not None

    def matches(self, pattern: str, text: str) -> bool:
        """Whether the pattern matches the whole text; an invalid pattern matches every text."""
        if self.error(pattern) is not None:
            # The Organization's status reports it; the person at the form can't fix it.
            return True
        return self.full_match(pattern, text)

    def _error(self, pattern: str) -> str | None:
        try:
            self.compiled(pattern)
        except re2.error as error:
            cause = error.args[0]
            return cause.decode(errors="replace") if isinstance(cause, bytes) else str(cause)
        return None

    def _compile(self, pattern: str) -> "re2._Regexp":
        options = re2.Options()
        options.log_errors = False
        options.max_mem = self._max_memory
        # Groups would cost most of the time, and nothing reads them.
        options.never_capture = True
        return re2.compile(pattern, options)


ROUTE_PATTERNS: Final = Patterns(256 * 1024, 256)
"""Those of routes, which the controller matches for each envelope: some 10 ms to compile, 64 MiB at most."""

FORM_PATTERNS: Final = Patterns(2 * 1024 * 1024, 32)
"""Those of fields of forms, with counted classes of letters: some 50 ms to compile, 64 MiB at most."""
