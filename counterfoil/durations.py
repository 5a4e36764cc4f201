"""
Durations as the resources and settings write them: Go style, ``500ms``, ``10s``, ``1h30m``.

Text goes in, a ``Duration`` (a ``timedelta``) comes out, and back. Negative durations, bare numbers other
than ``0`` and the units below a millisecond are refused: nothing here is that fine.
"""

import re
from datetime import timedelta
from typing import Self

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")

PATTERN = r"^(0|([0-9]+(\.[0-9]+)?(ms|s|m|h))+)$"
"""What the CustomResourceDefinitions accept as a duration; a test keeps both in step."""


class Duration(timedelta):
    """A length of time that prints itself Go style."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """
        Read a Go style duration.

        Raises ``ValueError`` with the text and an example when it is none, or longer than a ``timedelta`` can be.
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
