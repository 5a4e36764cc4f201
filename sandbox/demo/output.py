"""
The demo's output: steps, one table of the envelopes, trees of the archives, results of the checks.

On a terminal, the table is below the steps and is redrawn in place (ANSI: cursor up, erase to the end).
Elsewhere, each changed row is one line, and the whole table is printed once at its end. Details appear only
if ``verbose``. This module asks nobody and decides nothing.
"""

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from controller.access.archive_root import MARKER_NAME

COLUMNS = ("ENVELOPE", "SENDER", "PHASE", "RESULT")
WIDTHS = (20, 14, 17)
"""Widths of all columns except the last one, in characters."""


@dataclass(frozen=True)
class EnvelopeRow:
    """One line of the table."""

    name: str
    sender: str
    phase: str = ""
    result: str = ""

    def __str__(self) -> str:
        return _line(self.name, self.sender, self.phase, self.result)


def _line(*cells: str) -> str:
    padded = [f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS, strict=False)]
    return "  " + "".join((*padded, cells[-1])).rstrip()


def table_lines(rows: Sequence[EnvelopeRow]) -> list[str]:
    """Return the table with its heading; nothing without rows."""
    return [_line(*COLUMNS), *map(str, rows)] if rows else []


@dataclass
class DemoOutput:
    """Prints to one stream."""

    stream: TextIO
    clock: Callable[[], float]
    """Seconds since the demo began."""
    verbose: bool = False
    size: Callable[[], os.terminal_size] | None = None
    """Current size of the terminal; None if the stream is no terminal."""
    _rows: list[EnvelopeRow] = field(default_factory=list)
    _drawn: int = 0
    """Number of table lines on the terminal, directly above the cursor."""

    @classmethod
    def to_stdout(cls, *, verbose: bool) -> "DemoOutput":
        """Return an output to this process's standard output."""
        began = time.monotonic()
        size = shutil.get_terminal_size if sys.stdout.isatty() else None
        return cls(sys.stdout, lambda: time.monotonic() - began, verbose, size)

    def step(self, text: str) -> None:
        """Print what happens next, with the time since the start."""
        self.lines("", f"[{self.clock():5.1f} s] {text}")

    def lines(self, *lines: str) -> None:
        """Print lines; on a terminal above the table."""
        self._print(lines)

    def detail(self, *lines: str) -> None:
        """Print lines that only a verbose demo has."""
        if self.verbose:
            self._print(("", *lines))

    def show(self, rows: Sequence[EnvelopeRow]) -> None:
        """Show the new state of the table: in place on a terminal, elsewhere its changed rows."""
        changed = [row for row in rows if row not in self._rows]
        if list(rows) == self._rows:
            return
        self._rows = list(rows)
        self._print(() if self._fits() else tuple(map(str, changed)))

    def end_table(self) -> None:
        """Leave the final table in the output; what follows is below it."""
        if not self._drawn:
            self._print(("", *table_lines(self._rows)))
        self._rows, self._drawn = [], 0

    def _fits(self) -> bool:
        """Whether the terminal has room for the table, its empty line and the cursor."""
        return self.size is not None and len(self._rows) + 3 <= self.size().lines

    def _print(self, lines: Sequence[str]) -> None:
        text = f"\x1b[{self._drawn}A\x1b[J" if self._drawn else ""
        text += "".join(f"{line}\n" for line in lines)
        table: list[str] = []
        if self.size is not None and self._fits():
            width = self.size().columns - 1
            table = [line[:width] for line in ("", *table_lines(self._rows))] if self._rows else []
        self._drawn = len(table)
        print(text + "".join(f"{line}\n" for line in table), end="", file=self.stream, flush=True)


def tree_lines(root: Path) -> list[str]:
    """Return the folders and files below a folder, with the sizes of the files; not the archive's marker."""
    lines = []
    entries = sorted(
        (each for each in root.iterdir() if each.name != MARKER_NAME), key=lambda path: path.name
    )
    for entry in entries:
        branch, indent = ("└── ", "    ") if entry == entries[-1] else ("├── ", "│   ")
        size = f"  {entry.stat().st_size:,} bytes" if entry.is_file() else "/"
        lines.append(f"{branch}{entry.name}{size}")
        if entry.is_dir():
            lines += [indent + line for line in tree_lines(entry)]
    return lines


def shell_command(*words: str | Path) -> str:
    """Return a command that can be pasted into a shell."""
    return shlex.join(map(str, words))
