"""The records of soak tests: one JSON line per run in a file beside the campaign's."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from verification.chaos.json_lines import append_line, read_lines
from verification.chaos.soak.flatness import Growth


@dataclass(frozen=True)
class SoakRecord:
    """One run that came to its end."""

    seed: int
    minutes: float
    """Duration of the load."""
    archive: str
    envelopes: int
    """Number of envelopes that ended in eSAW."""
    answered: int
    """Number of envelopes about which a callback was answered 200, also unknown ones."""
    removed: int
    """Number of events that were removed by their time to live during the run."""
    backlog: int
    """Number of events that had not ended when the load ended; a high one shows a slow machine."""
    outcomes: Mapping[str, int]
    """Number of events by phase and reason, as they were seen last."""
    requests: Mapping[str, int]
    """Number of requests that no envelope caused, by kind and answer."""
    struck: Mapping[str, int]
    """Number of faults that struck, by kind."""
    mails: int
    cpu: float
    """Mean share of all processors of the machine that was in use, in percent."""
    samples: int
    """Number of measured values."""
    growths: tuple[Growth, ...]
    unproven: tuple[str, ...]
    """Measures with too few samples."""
    violations: tuple[str, ...]
    commit: str = ""
    """The commit of the product."""

    @property
    def is_good(self) -> bool:
        """Whether every event is accounted for and no process grew."""
        return not self.violations and not self.unproven and all(each.is_flat for each in self.growths)


def read(path: Path) -> list[SoakRecord]:
    """Return all records, in order. A cut last line is left out."""
    records = []
    for fields in read_lines(path):
        fields["growths"] = tuple(Growth(**each) for each in fields["growths"])
        for name in ("unproven", "violations"):
            fields[name] = tuple(fields[name])
        records.append(SoakRecord(**fields))
    return records


def append(path: Path, record: SoakRecord) -> None:
    """Add a record."""
    append_line(path, asdict(record))
