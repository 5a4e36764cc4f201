"""
Judge the result of a module, and keep the table in ``docs/contributing/mutation.md``.

A row of the table is of the last run of its module that came to its end. Only the command writes rows.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from verification.mutation.modules import ROOT, Change, MutatedModule
from verification.result_table import ResultTable

PAGE = ROOT / "docs" / "contributing" / "mutation.md"
MINIMUM_SCORE = 0.9
TABLE = ResultTable(
    "<!-- begin: results of make mutation -->",
    "<!-- end -->",
    "| Module | Mutants | Run | Killed | Score | Explained survivors |\n|---|---|---|---|---|---|\n",
)


@dataclass(frozen=True)
class ModuleResult:
    """
    The results of a module's mutants.

    ``mutants`` is the number of all, ``sample`` tells which ran ("all", or size and seed of a sample).
    Mutants of equal lines count separately.
    """

    module: MutatedModule
    mutants: int
    sample: str
    counted: tuple[tuple[Change, bool], ...]
    """Each mutant of the sample, and whether it was killed."""
    explained: Mapping[Change, bool]
    """Each explained survivor that is a mutant, and whether all mutants of these lines were killed."""

    @property
    def killed(self) -> int:
        """Number of killed mutants of the sample."""
        return sum(is_killed for _, is_killed in self.counted)

    @property
    def score(self) -> float:
        """The part of the sample that was killed, from 0 to 1."""
        return self.killed / len(self.counted) if self.counted else 1.0

    def problems(self) -> list[str]:
        """Return what somebody has to do: survivors to explain or kill, reasons to remove, a low score."""
        path, reasons = self.module.path, self.module.survivors
        new = Counter(change for change, is_killed in self.counted if not is_killed and change not in reasons)
        low = self.score < MINIMUM_SCORE
        return [
            *(
                f"{path}: survived: {change}" + (f"  ({count} times)" if count > 1 else "")
                for change, count in sorted(new.items())
            ),
            *(f"{path}: is no mutant any more: {each}" for each in reasons if each not in self.explained),
            *(
                f"{path}: is killed now, remove its reason: {each}"
                for each, killed in self.explained.items()
                if killed
            ),
            *([f"{path}: the score is {self.score:.3f}; the minimum is {MINIMUM_SCORE}"] if low else ()),
        ]

    def row(self) -> str:
        """Return the row of the table, without a line feed."""
        survivors = len(self.counted) - self.killed
        explained = sum(
            not is_killed and change in self.module.survivors for change, is_killed in self.counted
        )
        return (
            f"| `{self.module.path}` | {self.mutants} | {self.sample} | {self.killed} of {len(self.counted)} "
            f"| {self.score:.3f} | {explained} of {survivors} |"
        )


def with_rows(page: str, rows: Iterable[str], paths: Iterable[str]) -> str:
    """Return the page with these rows in place of earlier ones; each of ``paths`` gets one, in this order."""
    return TABLE.with_rows(page, rows, paths, lambda path: f"| `{path}` | not run | | | | |")


def keep_row(result: ModuleResult, paths: Iterable[str], page: Path = PAGE) -> None:
    """Write the row of a module into the page."""
    page.write_text(with_rows(page.read_text("utf-8"), [result.row()], paths), "utf-8")
