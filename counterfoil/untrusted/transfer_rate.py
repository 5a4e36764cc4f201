"""
The minimum rate of a transfer, as a pure decision: no clock and no I/O.

A neighbour may keep a transfer waiting for the seconds of a budget. Waiting uses it up, and each byte earns a
part of it back, up to a maximum. So one that hangs or sends a byte a minute is given up after about a window,
however fast it was before. The time of the other side of the transfer does not count.
"""

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024


@dataclass(frozen=True, kw_only=True)
class MinimumRate:
    """The rate below which a transfer is given up."""

    bytes_per_second: float = 16 * KIB
    window: float = 45.0
    """Seconds of waiting that are always allowed."""

    def seconds(self, size: int) -> float:
        """Return the maximum duration of a transfer of ``size`` bytes."""
        return self.window + size / self.bytes_per_second


class RateBudget:
    """The seconds for which the neighbour of one transfer may still keep it waiting."""

    def __init__(self, minimum: MinimumRate, *, block: int) -> None:
        """Take the bytes of one block, which may be in transit: the maximum is the time for one block."""
        self._minimum = minimum
        self.seconds_left = self._maximum = minimum.seconds(block)
        self.size = 0
        """Bytes so far."""

    def add_bytes(self, size: int) -> None:
        """Earn the time for bytes that were transferred."""
        self.size += size
        earned = size / self._minimum.bytes_per_second
        self.seconds_left = min(self._maximum, self.seconds_left + earned)

    def add_wait(self, seconds: float) -> None:
        """Use up the time of a wait."""
        self.seconds_left -= seconds

    @property
    def is_used_up(self) -> bool:
        """Whether the transfer is too slow."""
        return self.seconds_left <= 0
