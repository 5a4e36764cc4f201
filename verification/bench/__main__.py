"""
``python -m verification.bench [a|b|c ...] [--output verification/bench/RESULTS.md]``: measure, and print one
report in Markdown.

Without letters all benches run but those that are marked in the help. Each bench is a separate command, named
in the report, which begins with the targets that it judged. Some ninety minutes in all.

With letters and the file of an earlier report, the other sections stay, and each new one names its machine.
"""

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from verification.bench import machine
from verification.bench.setup import REPOSITORY

BENCHES: Final = {
    "a": ("The receiver against a bare client that creates the same objects", "verification.bench.receiver"),
    "b": ("The controller against a plain script without Kubernetes", "verification.bench.controller"),
    "c": (
        "One large document into each kind of archive, against a plain copy",
        "verification.bench.transfer",
    ),
    "d": (
        "The console's pages with 100,000 events against the API server's own list",
        "verification.bench.console",
    ),
    "e": (
        "A controller beside 100,000 finished events against one beside none",
        "verification.bench.history",
    ),
    "f": (
        "Several controllers against one, and the take-over from a killed one",
        "verification.bench.shards",
    ),
    "g": (
        "Memory with a very large document, many documents and many envelopes",
        "verification.bench.big_and_many",
    ),
    "h": ("5,000 events that wait out an outage of the archive", "verification.bench.outage"),
    "i": ("The size of an installation, and more than one cluster", "verification.bench.sizes"),
    "j": ("The receiver under overload", "verification.bench.overload"),
    "k": (
        "A healthy Organization beside a hostile archive and a hostile eSAW",
        "verification.bench.neighbours",
    ),
    "l": ("An Import of old envelopes", "verification.bench.imports"),
    "m": ("An envelope with one copy against one without", "verification.bench.copies"),
    "n": ("One release for many namespaces", "verification.bench.namespaces"),
}
ON_REQUEST: Final = {"p": ("The controller against a small reconciler in Go", "verification.bench.go_peer")}
"""Benches that run only when they are named."""

_VERDICT = re.compile(r"\b(met|MISSED)\b")
_SECTION_START = re.compile(r"^(?=## \([a-z]\) )", re.MULTILINE)
_FAILURE = re.compile(r"^\*\*It ended with status (-?[0-9]+)\.\*\*$", re.MULTILINE)


class Section(NamedTuple):
    """The report of one bench."""

    letter: str
    text: str
    status: int
    """Exit status of its command."""


def main() -> int:
    """Run the requested benches. The exit status is 0 when all of them ran; the results do not change it."""
    parser = argparse.ArgumentParser(
        prog="python -m verification.bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = BENCHES | ON_REQUEST
    listed = ", ".join(f"{letter}: {title}" for letter, (title, _) in known.items())
    parser.add_argument("letters", nargs="*", help=f"which ones (default: {' '.join(BENCHES)}). {listed}")
    parser.add_argument("--output", type=Path, help="write the report into this file, too")
    chosen = parser.parse_args()
    letters = chosen.letters or list(BENCHES)
    if unknown := set(letters) - set(known):
        parser.error(f"there is no bench {', '.join(sorted(unknown))}")
    before = machine.description()
    sections = [_run(letter, *known[letter]) for letter in letters]
    if chosen.letters and chosen.output is not None and chosen.output.exists():
        report = updated(chosen.output.read_text("utf-8"), before, sections)
    else:
        report = render(before, sections)
    print(report)
    if chosen.output is not None:
        chosen.output.write_text(report, encoding="utf-8")
    return max(each.status for each in sections)


def render(machine_description: str, sections: list[Section]) -> str:
    """Return the whole report in Markdown."""
    verdicts = []
    for each in sections:
        for target, is_met in targets(each.text):
            verdicts.append(f"| ({each.letter}) | {target} | {'met' if is_met else '**missed**'} |")
        if each.status != 0:
            verdicts.append(f"| ({each.letter}) | the bench ended with status {each.status} | **missed** |")
    return "\n".join(
        [
            "# Results of the benches",
            "",
            "`make bench` wrote this page, on an otherwise idle machine. Ratios are relative to the raw",
            "limit, which the same run measures in turns. Absolute figures apply to this machine only.",
            "Figures are medians of the rounds, with the lowest and the highest value. Other programs are in",
            "[PEERS.md](PEERS.md).",
            "",
            f"{machine_description}",
            "",
            "## Targets",
            "",
            "| bench | target | |",
            "|---|---|---|",
            *verdicts,
            *(part for each in sections for part in ("", each.text.rstrip())),
            "",
        ]
    )


def updated(report: str, machine_description: str, sections: list[Section]) -> str:
    """Return a report with these sections replaced; each says that it is of another run."""
    head, *texts = _SECTION_START.split(report)
    machine_before = "\n".join(line for line in head.splitlines() if line.startswith("- "))
    by_letter = {}
    for text in texts:
        failure = _FAILURE.search(text)
        by_letter[text[4]] = Section(text[4], text, int(failure[1]) if failure else 0)
    machine = "; ".join(line.removeprefix("- ") for line in machine_description.splitlines())
    for each in sections:
        by_letter[each.letter] = each._replace(
            text=f"{each.text.rstrip()}\n\nMeasured apart from the other benches: {machine}.\n"
        )
    order = [*BENCHES, *ON_REQUEST]
    return render(machine_before, sorted(by_letter.values(), key=lambda each: order.index(each.letter)))


def targets(text: str) -> list[tuple[str, bool]]:
    """Return each line of a report that judges a target, as plain text, and whether it was met; a row of a
    table has the name of its column before each figure."""
    judged, above, header = [], "", list[str]()
    for line in text.splitlines():
        if line.startswith("|---"):
            header = _cells(above)
        above = line
        if (found := _VERDICT.search(line)) is None:
            continue
        cells = _cells(line)
        if line.startswith("|"):
            named = [f"{name} {cell}".strip() for name, cell in zip(header, cells, strict=True) if cell]
            cells = [each for each in named if not _VERDICT.fullmatch(each)]
        judged.append((_VERDICT.sub("", ", ".join(cells)).rstrip(":;,. "), found[0] == "met"))
    return judged


def _cells(line: str) -> list[str]:
    return [each.strip() for each in line.removeprefix("|").removesuffix("|").strip("- ").split("|")]


def _run(letter: str, title: str, module: str) -> Section:
    """Run a bench; what it prints appears here, too, as soon as it is printed."""
    head = f"## ({letter}) {title}\n\n`.venv/bin/python -m {module}`\n"
    print(f"\n{head}", flush=True)
    started, lines = time.monotonic(), list[str]()
    command = [sys.executable, "-u", "-m", module]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    failure = "" if process.returncode == 0 else f"\n**It ended with status {process.returncode}.**\n"
    took = f"\nTook {time.monotonic() - started:.0f} s.\n"
    return Section(letter, f"{head}\n{''.join(lines)}{failure}{took}", 1 if process.returncode else 0)


if __name__ == "__main__":
    sys.exit(main())
