"""
``python -m verification.fuzz [TARGET ...] [--inputs N] [--seconds S]``: fuzz the targets; print one line
each.

A target's corpus and the sums of its runs are in the cache folder, so that a later run continues.
``python -m verification.fuzz --report`` only writes the sums into docs/fuzzing.md. Exit status: 1 if there
are findings; their inputs are beside the corpus.
"""

import argparse
import json
import math
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

import verification.fuzz.targets
from sandbox.cache import cache_folder
from verification.fuzz.report import TargetSums, write
from verification.fuzz.runner import RunResult, run_target, store_findings

DEFAULT_INPUTS = 1_000_000
PAGE = Path(__file__).parents[2] / "docs" / "fuzzing.md"


def target_names() -> list[str]:
    """Return the names of all targets."""
    return sorted(each.name for each in pkgutil.iter_modules(verification.fuzz.targets.__path__))


def folder_of(name: str) -> Path:
    """Return the folder of a target's corpus, findings and sums."""
    return cache_folder() / "fuzz" / name


def read_sums(name: str) -> TargetSums:
    """Return the sums of a target's runs; zeros before the first one."""
    file = folder_of(name) / "sums.json"
    return TargetSums(**json.loads(file.read_text("utf-8"))) if file.is_file() else TargetSums()


def fuzz_target(name: str, *, inputs: int, seconds: float) -> RunResult:
    """Run a target, and keep its findings and sums. Raises ``FuzzError``."""
    before, folder = read_sums(name), folder_of(name)
    # Another seed for each run: the same one would repeat the inputs.
    result = run_target(
        f"{verification.fuzz.targets.__name__}.{name}",
        inputs=inputs,
        seconds=seconds,
        seed=1 + before.inputs,
        corpus=folder / "corpus",
    )
    store_findings(result, folder / "findings")
    (folder / "sums.json").write_text(json.dumps(before.with_run(result)._asdict()), "utf-8")
    return result


def main(argv: Sequence[str]) -> int:
    """Run the chosen targets; return 1 for findings."""
    names = target_names()
    parser = argparse.ArgumentParser(prog="python -m verification.fuzz")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of: {', '.join(names)}. Default: all")
    parser.add_argument(
        "--inputs", type=int, default=DEFAULT_INPUTS, help="of each target. Default: %(default)s"
    )
    parser.add_argument("--seconds", type=float, default=math.inf, help="maximum time of each target")
    parser.add_argument("--report", action="store_true", help="only write the sums into docs/fuzzing.md")
    chosen = parser.parse_args(argv)
    if unknown := set(chosen.targets) - set(names):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if chosen.report:
        write(PAGE, {name: read_sums(name) for name in names})
        return 0
    found = 0
    for name in chosen.targets or names:
        result = fuzz_target(name, inputs=chosen.inputs, seconds=chosen.seconds)
        found += len(result.findings)
        print(
            f"[fuzz] {name}: {result.inputs:,} inputs in {result.seconds:.0f} s, {result.edges or 0} edges, "
            f"memory {result.growth_mib:+.1f} MiB, {len(result.findings)} findings",
            flush=True,
        )
        for each in result.findings:
            print(f"[fuzz]   {each.kind}: {each.summary} {each.data[:200]!r}", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
