"""
Bench (g): memory of a whole controller with one very large document, with many documents in one envelope, and
with many envelopes at once.

For each case a fresh controller archives small envelopes first and rests, then it gets the case. The memory
above rest is the peak that the kernel recorded since then. The archive is a folder; the stand-in eSAW makes
the documents while it sends them. Each peak is also compared with the memory limit of the chart.

    .venv/bin/python -m verification.bench.big_and_many [--size 5120] [--documents 500] [--envelopes 200]
"""

import argparse
import asyncio
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import yaml

from counterfoil.settings import ControllerSettings
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.esaw import DocumentSpec
from verification.bench.machine import MIB, ProcessMemory, forget_peak
from verification.bench.setup import NAMESPACE, REPOSITORY, BenchSetup, bench_setup
from verification.bench.spread import verdict
from verification.bench.transfer import MAX_MEMORY

WARM_UP = 8
"""Number of small envelopes before each case."""

REST_SECONDS = 2.0
MAX_CONCURRENCY = 256
"""Maximum of ``spec.maxConcurrency`` of an Archive."""

VALUES = REPOSITORY / "charts" / "counterfoil" / "values.yaml"
UNITS = {"Mi": 1, "Gi": 1024}
TIMEOUT = 400.0  # seconds for the whole run


class BigCase(msgspec.Struct, frozen=True):
    """The envelopes that a controller gets at once."""

    title: str
    name: str
    """Of its controller."""
    envelopes: int
    documents: tuple[DocumentSpec, ...]
    """Of each envelope."""
    concurrency: int
    """Events at once."""
    has_bound: bool
    """Whether the bound for one transfer applies: one file at a time."""

    @property
    def size(self) -> int:
        """Bytes of all documents."""
        return self.envelopes * sum(each.size or 0 for each in self.documents)


class BigResult(msgspec.Struct, frozen=True):
    """Result of one case: MiB at rest and at most, and seconds from the first create to the last success."""

    case: BigCase
    memory_rest: float
    memory_peak: float
    seconds: float
    succeeded: int
    """Number of events."""

    @property
    def memory_rise(self) -> float:
        """MiB above the memory at rest."""
        return self.memory_peak - self.memory_rest


def cases(size: int, documents: int, envelopes: int, document_size: int) -> list[BigCase]:
    """Return the cases; sizes in bytes."""
    usual = ControllerSettings(namespace="").concurrency

    def many(concurrency: int, name: str) -> BigCase:
        return BigCase(
            f"{envelopes} envelopes of one document, {concurrency} at once",
            name,
            envelopes,
            (DocumentSpec(name="contract.pdf", size=document_size),),
            concurrency,
            has_bound=False,
        )

    return [
        BigCase(
            f"one document of {size // MIB:,} MiB",
            "large",
            1,
            (DocumentSpec(name="large.pdf", size=size),),
            usual,
            has_bound=True,
        ),
        BigCase(
            f"{documents} documents in one envelope",
            "documents",
            1,
            tuple(
                DocumentSpec(name=f"contract {number}.pdf", size=document_size) for number in range(documents)
            ),
            usual,
            has_bound=False,
        ),
        many(usual, "usual"),
        many(min(envelopes, MAX_CONCURRENCY), "all"),
    ]


def memory_limit(values: str, process: str = "controller") -> float:
    """Return the memory limit of a process in the chart's values, in MiB. Raises ``ValueError``."""
    text = str(yaml.safe_load(values)[process]["resources"]["limits"]["memory"])
    number, unit = text[:-2], text[-2:]
    if unit not in UNITS:
        raise ValueError(f"the memory limit of the chart has another unit: {text}")
    return float(number) * UNITS[unit]


async def measure_case(setup: BenchSetup, case: BigCase) -> BigResult:
    """Let a fresh controller rest after small envelopes, and then archive the case."""
    controller = await setup.controller(case.name, concurrency=str(case.concurrency))
    async with setup.observed_events() as progress:
        small = await setup.create_events(await setup.create_envelopes(WARM_UP))
        await progress.until_succeeded(len(small))
        ids = await setup.create_envelopes(case.envelopes, case.documents)
        await asyncio.sleep(REST_SECONDS)
        rest = ProcessMemory.of(controller.pid).now
        forget_peak(controller.pid)
        started = time.perf_counter()
        names = await setup.create_events(ids)
        await progress.until_succeeded(len(small) + len(names))
        seconds = time.perf_counter() - started
    peak = ProcessMemory.of(controller.pid).peak
    await controller.stop()
    await setup.delete_events(small | names)
    for each in setup.root.iterdir():
        if each.is_dir():  # the marker of the archive stays
            await asyncio.to_thread(shutil.rmtree, each)
    return BigResult(case, rest, max(rest, peak), seconds, len(progress.succeeded) - len(small))


def report(results: Sequence[BigResult], limit: float) -> str:
    """Return the Markdown, ratios first."""
    usual = ControllerSettings(namespace="").concurrency
    lines = [
        "| case | peak of the chart's limit | MiB above rest | MiB at rest | MiB at most | s | target | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in results:
        if each.case.has_bound:
            judged = f"<= {MAX_MEMORY:.0f} MiB above rest | {verdict(each.memory_rise <= MAX_MEMORY)}"
        elif each.case.concurrency <= usual:
            judged = f"below the limit | {verdict(each.memory_peak < limit)}"
        else:
            judged = "(more at once than by default) | "
        lines.append(
            f"| {each.case.title} | {each.memory_peak / limit:.2f} | {each.memory_rise:.1f} | "
            f"{each.memory_rest:.0f} | {each.memory_peak:.0f} | {each.seconds:.1f} | {judged} |"
        )
    return "\n".join(
        [
            *lines,
            "",
            f"The chart's memory limit of the controller is {limit:,.0f} MiB, at {usual} events at once.",
        ]
    )


async def measure(
    folder: Path,
    chosen: Sequence[BigCase],
    plane: ControlPlane | None = None,
    namespace: str = NAMESPACE,
) -> list[BigResult]:
    """Measure the cases one after the other; without ``plane`` with a separate control plane."""
    most = max(each.concurrency for each in chosen)
    async with bench_setup(folder, concurrency=most, plane=plane, namespace=namespace) as setup:
        return [await measure_case(setup, case) for case in chosen]


async def run(chosen: Sequence[BigCase], document_size: int) -> str:
    """Run it all and return the report."""
    with tempfile.TemporaryDirectory() as folder:
        async with asyncio.timeout(TIMEOUT):
            results = await measure(Path(folder), chosen)
    limit = memory_limit(VALUES.read_text())
    return f"small documents of {document_size // 1024} KiB\n\n{report(results, limit)}"


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=5120, help="MiB of the one large document")
    parser.add_argument("--documents", type=int, default=500, help="number in one envelope")
    parser.add_argument("--envelopes", type=int, default=200, help="number at once")
    parser.add_argument("--document-size", type=int, default=256, help="KiB of the small documents")
    flags = parser.parse_args()
    document_size = flags.document_size * 1024
    chosen = cases(flags.size * MIB, flags.documents, flags.envelopes, document_size)
    print(asyncio.run(run(chosen, document_size)))


if __name__ == "__main__":
    main()
