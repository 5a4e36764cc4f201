"""
Several rounds of one figure, in one short text: the median, and how far the rounds lie apart. And the order
in which a round measures what it compares.
"""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Spread:
    """The rounds of one figure."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Take the rounds in any order. Raises ``ValueError`` when there are none."""
        taken = tuple(values)
        if not taken:
            raise ValueError("a figure needs a round")
        return cls(taken)

    @classmethod
    def of_ratios(cls, ours: Iterable[float], theirs: Iterable[float]) -> "Spread":
        """Compare round by round, so that what the machine did in a round meets both sides of its ratio."""
        return cls.of(one / other for one, other in zip(ours, theirs, strict=True))

    @property
    def median(self) -> float:
        """The middle round."""
        return statistics.median(self.values)

    def text(self, digits: int = 0) -> str:
        """Return it as ``0.81 (0.78 to 0.85)``."""
        low, high = min(self.values), max(self.values)
        return f"{self.median:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def order_of_turn(compared: Iterable[T], turn: int) -> list[T]:
    """
    Return what is compared in the order of this turn, every second time the other way round.

    What changes during a run, as an API server that grows does, then counts against none of them.
    """
    return list(compared)[:: 1 if turn % 2 == 0 else -1]


def judgement(value: float, bound: str, target: float, *, is_judged: bool) -> str:
    """Return the target and its verdict, to follow a figure; nothing where the figure is not judged."""
    if not is_judged:
        return ""
    is_met = value >= target if bound == ">=" else value <= target
    return f"; target {bound} {target}: {verdict(is_met)}"


def verdict(met: bool) -> str:
    """Return the word for a target."""
    return "met" if met else "MISSED"
