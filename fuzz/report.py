"""The table of the fuzz runs in docs/fuzzing.md, between two markers."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fuzz.runner import RunResult

BEGIN = "<!-- Written by `python -m fuzz --report`. -->"
END = "<!-- End of the table. -->"


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


def table(sums: Mapping[str, TargetSums], subjects: Mapping[str, str]) -> str:
    """Return the table in Markdown."""
    lines = [
        "| Target | Subject | Inputs | Seconds | Inputs/s | Edges | Memory growth | Findings |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, each in sorted(sums.items()):
        rate = each.inputs / each.seconds if each.seconds else 0.0
        lines.append(
            f"| `{name}` | {subjects[name]} | {each.inputs:,} | {each.seconds:,.0f} | {rate:,.0f} | "
            f"{each.edges} | {max(0.0, each.growth_mib):.0f} MiB | {each.findings} |"
        )
    return "\n".join(lines)


def write(page: Path, sums: Mapping[str, TargetSums]) -> None:
    """Replace the table of a page."""
    subjects = {name: importlib.import_module(f"fuzz.targets.{name}").TARGET.subject for name in sums}
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{table(sums, subjects)}\n\n{END}{after}", "utf-8")
