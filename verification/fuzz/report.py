"""The table of the fuzz runs in docs/fuzzing.md, between two markers."""

import importlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from verification.fuzz.runner import RunResult

BEGIN = "<!-- Written by `python -m verification.fuzz --report`. -->"
END = "<!-- End of the table. -->"
HEAD = (
    "| Target | Subject | Inputs | Seconds | Inputs/s | Edges | Memory growth | Findings |",
    "|---|---|--:|--:|--:|--:|--:|--:|",
)
_ROW = re.compile(r"^\| `(\w+)` \|.*$", re.MULTILINE)


class TargetSums(NamedTuple):
    """Sums of the runs of a target since its corpus was begun; the other figures are of the last run."""

    inputs: int = 0
    seconds: float = 0.0
    edges: int = 0
    growth_mib: float = 0.0
    findings: int = 0

    def with_run(self, result: RunResult) -> "TargetSums":
        """Return the sums after another run."""
        return TargetSums(
            self.inputs + result.inputs,
            self.seconds + result.seconds,
            max(self.edges, result.edges or 0),
            result.growth_mib,
            len(result.findings),
        )


def row(name: str, sums: TargetSums, subject: str) -> str:
    """Return a target's row of the table."""
    rate = sums.inputs / sums.seconds if sums.seconds else 0.0
    return (
        f"| `{name}` | {subject} | {sums.inputs:,} | {sums.seconds:,.0f} | {rate:,.0f} | "
        f"{sums.edges} | {max(0.0, sums.growth_mib):.0f} MiB | {sums.findings} |"
    )


def write(page: Path, sums: Mapping[str, TargetSums]) -> None:
    """Replace the table of a page. A target without runs in this cache keeps its row on the page."""
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    table, _, after = rest.partition(END)
    kept = {found[1]: found[0] for found in _ROW.finditer(table)}
    rows = [
        kept[name] if not each.inputs and name in kept else row(name, each, _subject(name))
        for name, each in sorted(sums.items())
    ]
    written = "\n".join([*HEAD, *rows])
    page.write_text(f"{before}{BEGIN}\n\n{written}\n\n{END}{after}", "utf-8")


def _subject(name: str) -> str:
    subject: str = importlib.import_module(f"verification.fuzz.targets.{name}").TARGET.subject
    return subject
