"""
``python -m verification.chaos run`` runs rounds until enough faults struck, ``python -m verification.chaos
soak`` runs the soak test, ``python -m verification.chaos protections`` takes protections out and runs the
tests that must fail then, and ``python -m verification.chaos report`` writes the report.

A campaign continues where it was stopped: the rounds of its seed that the records have are not run again.
"""

import argparse
import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sandbox.cache import cache_folder
from verification.chaos import protections, report
from verification.chaos.places import Servers
from verification.chaos.plan import DEFAULT_FAULTS, plan
from verification.chaos.records import Record, Rounds, append, missing_rounds, read
from verification.chaos.rounds import run_round, servers
from verification.chaos.soak import records as soak_records
from verification.chaos.soak.run import Course, run_soak
from verification.chaos.soak.run import servers as soak_servers
from verification.chaos.soak.section import section
from verification.chaos.stage import new_folder


def main() -> int:
    """Return 1 if a round had a violation, or if a protection can be taken out unnoticed."""
    parser = argparse.ArgumentParser(prog="python -m verification.chaos", description=__doc__)
    parser.add_argument("command", choices=("run", "soak", "protections", "report"))
    parser.add_argument("--seed", type=int, default=1, help="seed of the plans (default: 1)")
    parser.add_argument(
        "--faults", type=int, default=1000, help="number of faults that must strike (default: 1000)"
    )
    parser.add_argument("--round", type=int, help="run this round only, although the records have it")
    parser.add_argument(
        "--size", type=int, default=DEFAULT_FAULTS, help="number of planned faults in a round"
    )
    parser.add_argument(
        "--workers", type=int, default=1, help="number of rounds that run side by side (default: 1)"
    )
    parser.add_argument("--minutes", type=float, default=60, help="duration of a soak test (default: 60)")
    parser.add_argument("--records", type=Path, default=cache_folder() / "chaos" / "rounds.jsonl")
    arguments = parser.parse_args()
    if arguments.command == "report":
        report.write(read(arguments.records), soak_records.read(_soaks(arguments.records)))
        return 0
    if arguments.command == "protections":
        return 1 if protections.unnoticed() else 0
    if arguments.command == "soak":
        return asyncio.run(_soak(arguments))
    return asyncio.run(_run(arguments))


async def _run(arguments: argparse.Namespace) -> int:
    missing = missing_rounds(read(arguments.records), arguments.seed, arguments.faults)
    numbers = iter((arguments.round,)) if arguments.round else missing
    async with asyncio.TaskGroup() as group:
        workers = [
            group.create_task(_run_rounds(arguments, numbers, missing))
            for _ in range(1 if arguments.round else arguments.workers)
        ]
    return 1 if any(each.result() for each in workers) else 0


async def _run_rounds(arguments: argparse.Namespace, numbers: Iterator[int], missing: Rounds) -> bool:
    """Run rounds with their own servers, one after the other; return whether one had a violation."""
    bad = False
    async with servers() as running:
        for number in numbers:
            record = await _round(running, arguments, number)
            append(arguments.records, record)
            missing.finish(record)
            bad = bad or bool(record.violations)
    return bad


async def _round(running: Servers, arguments: argparse.Namespace, number: int) -> Record:
    seed, size = arguments.seed, arguments.size
    folder = arguments.records.parent / f"logs-{seed}-{number}"
    await new_folder(folder)
    outcome = await run_round(running, plan(seed, number, size), folder)
    record = Record(
        seed=seed,
        round=number,
        planned=size,
        struck=dict(outcome.struck),
        seconds=round(outcome.seconds, 1),
        violations=tuple(outcome.violations),
        events=dict(outcome.events),
        commit=_commit(),
    )
    print(f"[chaos] seed {seed} round {number}: {record.total} faults, {record.seconds:.0f} s", flush=True)
    if record.violations:
        print(*(f"[chaos]   violation: {each}" for each in record.violations), sep="\n")
        print(f"[chaos]   logs: {folder}")
        again = f"python -m verification.chaos run --seed {seed} --round {number} --size {size}"
        print(f"[chaos]   repeat: {again}", flush=True)
    else:
        shutil.rmtree(folder)
    return record


async def _soak(arguments: argparse.Namespace) -> int:
    seed, folder = arguments.seed, arguments.records.parent / f"logs-soak-{arguments.seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    async with soak_servers() as running:
        record = await run_soak(running, Course(seed, arguments.minutes * 60), folder)
    record = replace(record, commit=_commit())
    soak_records.append(_soaks(arguments.records), record)
    print(section([record]))
    if not record.is_good:
        print(f"[chaos]   logs: {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def _soaks(records: Path) -> Path:
    """Return the file of the soak tests beside the campaign's."""
    return records.with_name("soak.jsonl")


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
