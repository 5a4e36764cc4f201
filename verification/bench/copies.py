"""
Bench (m): an envelope with one copy against one without.

In each round, the same controller archives as many envelopes without and with a copy in a second folder.
The work is the CPU time of controller, API server and etcd. The peak memory of the controller is compared
too.

    .venv/bin/python -m verification.bench.copies [--envelopes 60] [--rounds 8] [--document-size 256]
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from counterfoil.resources import Organization
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import DocumentSpec
from verification.bench.machine import ProcessMemory, cpu_seconds_of_all, forget_peak
from verification.bench.setup import ORGANIZATION, BenchSetup, bench_setup
from verification.bench.spread import Spread, judgement, order_of_turn, verdict

CONCURRENCY: Final = 4
WARM_UP: Final = 8
REST_SECONDS: Final = 2.0
MAX_RATIO: Final = 1.6
"""Work of an envelope with a copy as a multiple of one without."""
MAX_MORE_MIB: Final = 16.0
"""Memory that copies may take in addition: one transfer."""
TIMEOUT: Final = 900.0


class Turn(NamedTuple):
    """The figures of the envelopes of one turn."""

    cpu: float
    """Seconds."""
    seconds: float
    peak: float
    """MiB."""


async def turn(
    setup: BenchSetup, controller: CounterfoilProcess, count: int, size: int, *, is_copied: bool
) -> Turn:
    """Let the controller archive envelopes with or without a copy."""
    copies = [{"archiveRef": {"name": "second"}}] if is_copied else None
    await setup.kube.patch(Organization, ORGANIZATION, {"spec": {"copies": copies}})
    ids = await setup.create_envelopes(count, (DocumentSpec(name="contract.pdf", size=size),))
    await asyncio.sleep(REST_SECONDS)
    forget_peak(controller.pid)
    cpu = cpu_seconds_of_all(controller.pid) + setup.cluster_cpu()
    started = time.perf_counter()
    names = await setup.create_events(ids)
    await setup.wait_until_succeeded(names)
    seconds = time.perf_counter() - started
    cpu = cpu_seconds_of_all(controller.pid) + setup.cluster_cpu() - cpu
    peak = ProcessMemory.of(controller.pid).peak
    await setup.delete_events(names)
    return Turn(cpu / count, seconds / count, peak)


async def measure(folder: Path, count: int, rounds: int, size: int) -> str:
    """Measure, and return the report."""
    second = folder / "second"
    second.mkdir()
    plain, copied = list[Turn](), list[Turn]()
    async with bench_setup(folder, concurrency=CONCURRENCY) as setup:
        await setup.local_environment.archive(
            "second", filesystem={"root": str(second)}, signatures="Ignore", maxConcurrency=CONCURRENCY
        )
        controller = await setup.controller("copies", concurrency=str(CONCURRENCY))
        await setup.local_environment.ready("archive/second")
        for is_copied in (False, True):
            await turn(setup, controller, WARM_UP, size, is_copied=is_copied)
        for number in range(rounds):
            for is_copied in order_of_turn((False, True), number):
                result = await turn(setup, controller, count, size, is_copied=is_copied)
                (copied if is_copied else plain).append(result)
        await controller.stop()
    return report(plain, copied)


def report(plain: list[Turn], copied: list[Turn]) -> str:
    """Return the Markdown."""
    ratio = Spread.of_ratios((each.cpu for each in copied), (each.cpu for each in plain))
    slower = Spread.of_ratios((each.seconds for each in copied), (each.seconds for each in plain))
    more = max(each.peak for each in copied) - max(each.peak for each in plain)
    return "\n".join(
        [
            f"work with a copy to work without: {ratio.text(2)}"
            f"{judgement(ratio.median, '<=', MAX_RATIO, is_judged=True)}",
            f"time with a copy to time without: {slower.text(2)}",
            f"CPU without: {1000 * Spread.of(each.cpu for each in plain).median:.0f} ms per envelope; "
            f"with: {1000 * Spread.of(each.cpu for each in copied).median:.0f} ms",
            f"peak of the controller with copies: {more:+.1f} MiB; target <= {MAX_MORE_MIB:.0f} MiB more: "
            f"{verdict(more <= MAX_MORE_MIB)}",
        ]
    )


async def run(count: int, rounds: int, size: int) -> str:
    """Run it all and return the report."""
    with tempfile.TemporaryDirectory() as folder:
        async with asyncio.timeout(TIMEOUT):
            return await measure(Path(folder), count, rounds, size)


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--envelopes", type=int, default=60, help="number in each turn")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--document-size", type=int, default=256, help="KiB")
    flags = parser.parse_args()
    print(asyncio.run(run(flags.envelopes, flags.rounds, flags.document_size * 1024)))


if __name__ == "__main__":
    main()
