"""The table of the fuzz runs in docs/fuzzing.md, between two markers."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from verification.fuzz.runner import RunResult
from verification.result_table import ResultTable

TABLE = ResultTable(
    "<!-- Written by `python -m verification.fuzz --report`. -->",
    "<!-- End of the table. -->",
    "| Target | Subject | Inputs | Seconds | Inputs/s | Edges | Memory growth | Findings |\n"
    "|---|---|--:|--:|--:|--:|--:|--:|\n",
)


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
    rows = [row(name, each, _subject(name)) for name, each in sums.items() if each.inputs]
    written = TABLE.with_rows(
        page.read_text("utf-8"), rows, sorted(sums), lambda name: row(name, sums[name], _subject(name))
    )
    page.write_text(written, "utf-8")


def _subject(name: str) -> str:
    subject: str = importlib.import_module(f"verification.fuzz.targets.{name}").TARGET.subject
    return subject
