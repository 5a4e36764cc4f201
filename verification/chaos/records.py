"""
The records of a campaign: one JSON line per round in a file, so that a campaign can be continued.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

from verification.chaos.json_lines import append_line, read_lines


@dataclass(frozen=True)
class Record:
    """One round that came to its end."""

    seed: int
    round: int
    planned: int
    """Number of planned faults."""
    struck: Mapping[str, int]
    """Number of faults that struck, by kind."""
    seconds: float
    violations: tuple[str, ...] = ()
    events: Mapping[str, int] = field(default_factory=dict)
    """Number of events by phase and reason at the end."""
    commit: str = ""
    """The commit of the product."""

    @property
    def total(self) -> int:
        """Number of faults that struck."""
        return sum(self.struck.values())


def read(path: Path) -> list[Record]:
    """Return the newest record of each round, in order of seed and round. A cut last line is left out."""
    newest: dict[tuple[int, int], Record] = {}
    for fields in read_lines(path):
        record = Record(**{**fields, "violations": tuple(fields["violations"])})
        newest[record.seed, record.round] = record
    return [newest[key] for key in sorted(newest)]


def append(path: Path, record: Record) -> None:
    """Add a record."""
    append_line(path, asdict(record))


def missing_rounds(records: Iterable[Record], seed: int, faults: int) -> "Rounds":
    """Return the rounds that a campaign with this seed still needs for this number of faults."""
    mine = [each for each in records if each.seed == seed]
    return Rounds({each.round for each in mine}, faults - sum(each.total for each in mine))


class Rounds(Iterator[int]):
    """The numbers of the rounds to come, until enough faults struck. Several workers may share it."""

    def __init__(self, done: set[int], left: int) -> None:
        self._begun = done
        self.left = left
        """Number of faults that are left."""

    def __next__(self) -> int:
        """Return the lowest number that was not begun. Raises ``StopIteration`` if enough faults struck."""
        if self.left <= 0:
            raise StopIteration
        number = next(each for each in count(1) if each not in self._begun)
        self._begun.add(number)
        return number

    def finish(self, record: Record) -> None:
        """Count a round."""
        # A round in which nothing struck must not repeat without end.
        self.left -= max(1, record.total)
