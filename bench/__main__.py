"""
``python -m bench [a|b|c|d|e|f|g|h ...]``: measure, and print one report in Markdown; without letters all
eight.

Each bench is a separate command, named in the report. Some twenty minutes in all.
"""

import argparse
import subprocess
import sys
import time

from bench import machine
from bench.setup import REPOSITORY

BENCHES = {
    "a": ("The receiver against a bare client that creates the same objects", "bench.receiver"),
    "b": ("The controller against a plain script without Kubernetes", "bench.controller"),
    "c": ("One large document into each kind of archive, against a plain copy", "bench.transfer"),
    "d": ("The console's pages with 100,000 events against the API server's own list", "bench.console"),
    "e": ("A controller beside 100,000 finished events against one beside none", "bench.history"),
    "f": ("Several controllers against one, and the take-over from a killed one", "bench.shards"),
    "g": ("Memory with a very large document, many documents and many envelopes", "bench.big_and_many"),
    "h": ("5,000 events that wait out an outage of the archive", "bench.outage"),
}


def main() -> int:
    """Run the requested benches. The exit status is 0 when all of them ran; the results do not change it."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("letters", nargs="*", metavar="|".join(BENCHES), help="which ones (default: all)")
    letters = parser.parse_args().letters or list(BENCHES)
    if unknown := set(letters) - set(BENCHES):
        parser.error(f"there is no bench {', '.join(sorted(unknown))}")
    print(
        f"# Bench\n\n{machine.description()}\n\nFigures are medians of the rounds, with the lowest and "
        "highest."
    )
    return max(_bench(letter) for letter in letters)


def _bench(letter: str) -> int:
    title, module = BENCHES[letter]
    print(f"\n## ({letter}) {title}\n\n`.venv/bin/python -m {module}`\n", flush=True)
    started = time.monotonic()
    status = subprocess.run([sys.executable, "-m", module], cwd=REPOSITORY, check=False).returncode
    print(f"\nTook {time.monotonic() - started:.0f} s.", flush=True)
    return 1 if status else 0


if __name__ == "__main__":
    sys.exit(main())
