"""
Durations in resources and settings, in Go's format: ``500ms``, ``10s``, ``1h30m``.

``Duration`` (a ``timedelta``) parses and prints this format. It refuses negative durations, numbers without a
unit except ``0``, and units below a millisecond.
"""

import re
from datetime import timedelta
from typing import Self

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")

PATTERN = r"^(0|([0-9]+(\.[0-9]+)?(ms|s|m|h))+)$"
"""Pattern of a duration (RE2), which the CustomResourceDefinitions have, too."""


class Duration(timedelta):
    """A ``timedelta`` that prints itself in Go's format."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read a duration in Go's format.

        Raises ``ValueError`` with the text and an example when it is invalid, or too long for a
        ``timedelta``.
        """
        if re.fullmatch(PATTERN, text) is None:
            raise ValueError(f"{text!r} is not a duration; write it as in 500ms, 10s or 1h30m")
        try:
            return cls(seconds=sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text)))
        except OverflowError as overflow:
            raise ValueError(f"{text!r} is too long") from overflow

    def __str__(self) -> str:
        milliseconds = round(self.total_seconds() * 1000)
        parts = []
        for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
            count, milliseconds = divmod(milliseconds, size)
            if count:
                parts.append(f"{count}{unit}")
        return "".join(parts) or "0s"
