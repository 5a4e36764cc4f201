"""
Records the demo's output: ``.venv/bin/python docs/tools/record_demo.py`` (a minute).

The recording flows: ``python -m sandbox.demo`` without a terminal -> docs/demo-output.txt -> its excerpt in
README.md. A test compares the shapes of the recording and of another run: their lines without ids, numbers,
times and order. Nothing here changes what the demo prints.
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECORDING = Path(__file__).parents[1] / "demo-output.txt"
README = ROOT / "README.md"
COMMAND = [sys.executable, "-m", "sandbox.demo"]

_BLOCK = re.compile(
    r"(<!-- the demo's output, by docs/tools/record_demo\.py -->\n```text\n).*?(```\n)", re.DOTALL
)
_TABLE = re.compile(r"^  ENVELOPE .*\n(?:  \S.*\n)+", re.MULTILINE)
_CHECKS = re.compile(r"^\[[ \d.]+ s\] (Checks.*\n(?:  \S.*\n)+)", re.MULTILINE)

_IDS = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_HASHES = re.compile(r"\b[0-9a-f]{8,16}\b")
"""Parts of the names of a report's files: hashes, and days. The number of its files depends on the day."""
_TIMES = re.compile(r"\[[ \d.]+ s\]")
_NUMBERS = re.compile(r"\d[\d,.]*")
_BRANCHES = re.compile(r"[ │├└─]+")


def excerpt(recording: str) -> str:
    """Return the final table and the checks. Raises ``ValueError`` if the recording lacks one of them."""
    table, checks = _TABLE.search(recording), _CHECKS.search(recording)
    if table is None or checks is None:
        raise ValueError("the recording has no table or no checks")
    return f"{table[0]}\n{checks[1]}"


def with_excerpt(page: str, recording: str) -> str:
    """Return a page with the excerpt in its block. Raises ``ValueError`` if it has no block."""
    if not _BLOCK.search(page):
        raise ValueError("the page has no block for the demo's output")
    return _BLOCK.sub(lambda block: block[1] + excerpt(recording) + block[2], page)


def shape(recording: str) -> Counter[str]:
    """
    Return the lines from the final table on, without ids, numbers, times and the branches of trees.

    Lines before it depend on the speed of the machine, and folders are ordered by random ids. Files of one
    report count as one: an Import of some days has one part or two, as the weeks fall.
    """
    final = _IDS.sub("ID", _TIMES.sub("", recording[recording.index("  ENVELOPE ") :]))
    final = _HASHES.sub("HASH", final)
    lines = (_BRANCHES.sub(" ", _NUMBERS.sub("N", line)).strip() for line in final.splitlines())
    counted = Counter(line for line in lines if line)
    return Counter({line: 1 if "HASH" in line else count for line, count in counted.items()})


def main() -> int:
    """Record, and renew the excerpt; return the exit status of the demo."""
    done = subprocess.run(COMMAND, cwd=ROOT, stdout=subprocess.PIPE, check=False, text=True)  # noqa: S603 - ours
    if done.returncode == 0:
        RECORDING.write_text(done.stdout.lstrip("\n"), encoding="utf-8")
        README.write_text(with_excerpt(README.read_text("utf-8"), done.stdout), encoding="utf-8")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
