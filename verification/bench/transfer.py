"""
Bench (c): how fast one large document gets into an archive of each kind, against a plain copy into the same
server, and with how much memory.

Ours is the whole archive phase of a file, by the code that the controller runs: download, hash, write, make
durable, read back, hash. The plain copy is httpx and the plainest client of the protocol (``copies``), which
reads nothing back; and the same with a read-back that is hashed, so that the cost of the proof and of our
code can be separated. Each measurement is a separate process that has moved a small file before; the stand-in
eSAW and the servers are separate processes, too, on the same cores. At last a whole controller does it once,
which tells the memory of the real process.

    .venv/bin/python -m verification.bench.transfer [--size 1024] [--slow-size 256] [--rounds 3] [KIND ...]
"""

import argparse
import asyncio
import gc
import hashlib
import os
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from enum import StrEnum
from functools import partial
from pathlib import Path

import httpx
import msgspec
import uvloop

from counterfoil._upstream.malloc import keep_large_blocks
from counterfoil.archives import filing, open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.layout import FileFacts, FileLayout
from counterfoil.clock import WallClock
from counterfoil.esaw import ApiToken, EsawClient, new_http_client
from counterfoil.process_exit import exit_process
from counterfoil.resources.envelopeevent import FileKind
from counterfoil.untrusted.addresses import ALLOWED, Addresses
from sandbox.controlplane.processes import run as run_program
from sandbox.esaw import DocumentSpec
from verification.bench import machine
from verification.bench.archive_targets import ARCHIVE_TARGETS, ArchiveTarget
from verification.bench.machine import MIB, ProcessMemory, cpu_seconds, forget_peak
from verification.bench.plain_copies import COPIES, READS
from verification.bench.setup import REPOSITORY, EsawProcess, MetricSamples, bench_setup, esaw_process
from verification.bench.spread import Spread, verdict

FAST_KINDS = ("filesystem", "s3")
"""Kinds that get the large document; the others a smaller one, since their servers take a while or keep it in
memory."""

MAX_SIZES = {"cmis": 64 * MIB}
"""Bytes that a server can take at all: this one holds every document in memory several times."""

MIN_RATIO = 0.9
MAX_MEMORY = 32.0
SMALL_SIZE = 64 * 1024
TIMEOUT = 600.0  # seconds for the whole run


class TransferMethod(StrEnum):
    """The way of the document from eSAW to the archive."""

    ARCHIVE = "archive"
    COPY = "plain copy"
    COPY_READ_BACK = "plain copy, read back"


class TransferJob(msgspec.Struct, frozen=True):
    """The document that one process must move, and the way."""

    method: TransferMethod
    archive_target: ArchiveTarget
    esaw: str
    token: str
    small_file: str
    file: str
    names: tuple[str, str]
    """Targets of the small and the large document."""


class TransferResult(msgspec.Struct, frozen=True):
    """Result of one process: seconds, CPU seconds of the process, MiB at rest and at most, SHA-256 where one
    was made."""

    seconds: float
    cpu: float
    memory_idle: float
    memory_peak: float
    sha256: str

    @property
    def memory_rise(self) -> float:
        """MiB above the memory at rest."""
        return self.memory_peak - self.memory_idle


# -- In a separate process -----------------------------------------------------------------------------------


def run_job(job: TransferJob) -> TransferResult:
    """Do the job as its side would: ours with the controller's event loop and allocator, a plain copy with
    Python's."""
    if job.method is not TransferMethod.ARCHIVE:
        return asyncio.run(move_documents(job))
    keep_large_blocks()
    return uvloop.run(move_documents(job))


async def move_documents(job: TransferJob) -> TransferResult:
    """Move the small file, then the large one with the clock running."""
    ALLOWED.set(Addresses(allows_loopback=True))
    async with (
        new_http_client()
        if job.method is TransferMethod.ARCHIVE
        else httpx.AsyncClient(trust_env=False) as http
    ):
        move = await _mover(job, http)
        await move(job.small_file, job.names[0])
        gc.collect()
        os.sync()
        forget_peak(os.getpid())
        idle, cpu, started = ProcessMemory.of(os.getpid()).now, cpu_seconds(os.getpid()), time.perf_counter()
        sha256 = await move(job.file, job.names[1])
        seconds = time.perf_counter() - started
        return TransferResult(
            seconds,
            cpu_seconds(os.getpid()) - cpu,
            idle,
            max(idle, ProcessMemory.of(os.getpid()).peak),
            sha256,
        )


Move = Callable[[str, str], Awaitable[str]]


async def _mover(job: TransferJob, http: httpx.AsyncClient) -> Move:
    if job.method is TransferMethod.ARCHIVE:
        return await _archive_mover(job, http)
    return partial(_copied, job, http)


async def _archive_mover(job: TransferJob, http: httpx.AsyncClient) -> Move:
    backend = await open_backend("dms", job.archive_target.spec, job.archive_target.credentials)
    user = EsawClient(job.esaw, http=http, clock=WallClock(), observe=lambda *_: None).as_user(
        ApiToken.parse(job.token, job.esaw)
    )

    async def move(file: str, name: str) -> str:
        file_layout = FileLayout(FileFacts(file, FileKind.DOCUMENT, name, 1), name, "application/pdf")
        return (await filing.store(backend, file_layout, partial(user.download, file), tags={})).sha256

    return move


async def _copied(job: TransferJob, http: httpx.AsyncClient, file: str, name: str) -> str:
    async with aclosing(_downloaded(job, http, file)) as chunks:
        await COPIES[job.archive_target.kind](job.archive_target, name, chunks)
    if job.method is TransferMethod.COPY:
        return ""
    digest = hashlib.sha256()
    async with aclosing(READS[job.archive_target.kind](job.archive_target, name)) as chunks:
        async for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()


async def _downloaded(job: TransferJob, http: httpx.AsyncClient, file: str) -> AsyncGenerator[bytes, None]:
    headers = {"Authorization": f"Bearer {job.token}", "Accept-Encoding": "identity"}
    async with http.stream("GET", f"{job.esaw}/Api/v6/file/{file}", headers=headers) as answer:
        answer.raise_for_status()
        async for chunk in answer.aiter_raw():
            yield chunk


# -- The run -------------------------------------------------------------------------------------------------


class TestDocuments(msgspec.Struct, frozen=True):
    """The small and the large one, by their ids in eSAW, and the large one's size and hash."""

    small: str
    large: str
    size: int
    sha256: str


class TransferRound(msgspec.Struct, frozen=True):
    """Result of one round of one kind: MiB a second, and CPU seconds per GiB of our process and of the
    stand-in."""

    rate: float
    cpu: float
    esaw_cpu: float
    memory_rise: float


Measured = Mapping[str, Mapping[TransferMethod, Sequence[TransferRound]]]
"""Rounds by kind and way."""


async def documents(esaw: EsawProcess, size: int) -> TestDocuments:
    """Put an envelope with both into the stand-in."""
    envelope = await esaw.control.add_envelope(
        sender=esaw.sender,
        documents=[
            DocumentSpec(name="small.pdf", size=SMALL_SIZE),
            DocumentSpec(name="large.pdf", size=size),
        ],
        audit_trail=False,
    )
    small, large = sorted(await esaw.control.files(envelope), key=lambda file: file.size)
    sha256 = await esaw.control.expected_sha256(large.file_id)
    return TestDocuments(small.file_id, large.file_id, size, sha256)


async def measure_round(
    method: TransferMethod,
    archive_target: ArchiveTarget,
    backend: ArchiveBackend,
    esaw: EsawProcess,
    test_documents: TestDocuments,
) -> TransferRound:
    """Let a process move the large document; nothing of it is left afterwards."""
    job = TransferJob(
        method=method,
        archive_target=archive_target,
        esaw=esaw.control.url,
        token=esaw.sender.token,
        small_file=test_documents.small,
        file=test_documents.large,
        names=(f"{secrets.token_hex(4)}.pdf", f"{secrets.token_hex(4)}.pdf"),
    )
    before = cpu_seconds(esaw.pid)
    finished = await run_program(
        [sys.executable, "-m", "verification.bench.transfer", "--job"],
        stdin=msgspec.json.encode(job).decode(),
        cwd=REPOSITORY,
    )
    if finished.code != 0:
        raise RuntimeError(
            f"{archive_target.kind}, {method} ended with status {finished.code}: {finished.err}"
        )
    done = msgspec.json.decode(finished.out, type=TransferResult)
    if done.sha256 not in ("", test_documents.sha256):
        raise RuntimeError(f"{archive_target.kind}, {method}: what was moved is not what eSAW has")
    for name in job.names:
        await backend.discard(name)
    gibs = test_documents.size / 2**30
    return TransferRound(
        rate=test_documents.size / MIB / done.seconds,
        cpu=done.cpu / gibs,
        esaw_cpu=(cpu_seconds(esaw.pid) - before) / gibs,
        memory_rise=done.memory_rise,
    )


async def measure_rates(
    folder: Path, kinds: Sequence[str], sizes: Mapping[str, int], rounds: int
) -> dict[str, dict[TransferMethod, list[TransferRound]]]:
    """Measure every kind, its ways in turns, for this number of rounds."""
    measured: dict[str, dict[TransferMethod, list[TransferRound]]] = {}
    async with esaw_process(folder) as esaw:
        test_documents = {size: await documents(esaw, size) for size in set(sizes.values())}
        for kind in kinds:
            measured[kind] = {method: [] for method in TransferMethod}
            async with ARCHIVE_TARGETS[kind](folder) as archive_target:
                ALLOWED.set(Addresses(allows_loopback=True))
                backend = await open_backend("dms", archive_target.spec, archive_target.credentials)
                for _ in range(rounds):
                    for method, done in measured[kind].items():
                        done.append(
                            await measure_round(
                                method, archive_target, backend, esaw, test_documents[sizes[kind]]
                            )
                        )
                await backend.close()
    return measured


class ControllerTransfer(msgspec.Struct, frozen=True):
    """Result of a controller with the large document: MiB a second in the archive phase, MiB of memory."""

    rate: float
    memory_idle: float
    memory_rise: float


async def measure_controller(folder: Path, size: int) -> ControllerTransfer:
    """Let a controller archive a small envelope, rest, and then the large one."""
    async with bench_setup(folder, concurrency=4) as setup:
        controller = await setup.controller("controller")
        for length in (SMALL_SIZE, size):
            envelope = await setup.esaw.control.add_envelope(
                sender=setup.esaw.sender, documents=[DocumentSpec(name="contract.pdf", size=length)]
            )
            before, idle = MetricSamples(await controller.metrics()), ProcessMemory.of(controller.pid).now
            forget_peak(controller.pid)
            await setup.wait_until_succeeded(await setup.create_events([envelope]))
        after, peak = MetricSamples(await controller.metrics()), ProcessMemory.of(controller.pid).peak
    name = "counterfoil_phase_seconds_sum"
    seconds = after.total(name, phase="Archiving") - before.total(name, phase="Archiving")
    return ControllerTransfer(rate=size / MIB / seconds, memory_idle=idle, memory_rise=peak - idle)


def report(
    measured: Measured,
    sizes: Mapping[str, int],
    controller_transfer: ControllerTransfer | None,
    disk: tuple[float, float],
) -> str:
    """Return the Markdown, ratios first."""
    lines = [
        "| what | MiB | of the plain copy | of one that is read back | MiB/s | CPU s per GiB | stand-in's "
        "CPU s per GiB | memory rise MiB |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for kind, done in measured.items():
        lines += [
            f"| `{kind}`: {method} | {sizes[kind] // MIB} | "
            f"{_ratio(done, method, TransferMethod.COPY).text(2)} | "
            f"{_ratio(done, method, TransferMethod.COPY_READ_BACK).text(2)} | "
            f"{Spread.of(each.rate for each in found).text()} | "
            f"{Spread.of(each.cpu for each in found).text(2)} | "
            f"{Spread.of(each.esaw_cpu for each in found).text(2)} | "
            f"{max(each.memory_rise for each in found):.1f} |"
            for method, found in done.items()
        ]
    return "\n".join([*lines, "", *_verdicts(measured, controller_transfer), "", *_limits(disk)])


def _ratio(
    done: Mapping[TransferMethod, Sequence[TransferRound]], method: TransferMethod, to: TransferMethod
) -> Spread:
    # A server may be slower than a disk: each archive is compared with a copy to the same place.
    return Spread.of_ratios((each.rate for each in done[method]), (each.rate for each in done[to]))


def _verdicts(measured: Measured, controller_transfer: ControllerTransfer | None) -> list[str]:
    lines = []
    for kind, done in measured.items():
        ratio, fair = (
            _ratio(done, TransferMethod.ARCHIVE, to)
            for to in (TransferMethod.COPY, TransferMethod.COPY_READ_BACK)
        )
        met = verdict(fair.median >= MIN_RATIO)
        lines.append(
            f"- archive `{kind}`: {fair.text(2)} of a plain copy that is read back; target >= {MIN_RATIO}: "
            f"{met}; {ratio.text(2)} of one that is not"
        )
    rises = [each.memory_rise for done in measured.values() for each in done[TransferMethod.ARCHIVE]]
    rise = max(rises if controller_transfer is None else [controller_transfer.memory_rise, *rises])
    lines.append(
        f"- memory: at most {rise:.1f} MiB above rest; target <= {MAX_MEMORY:.0f}: "
        f"{verdict(rise <= MAX_MEMORY)}"
    )
    if controller_transfer is not None:
        lines.append(
            f"- through a whole controller: {controller_transfer.rate:.0f} MiB/s in the archive phase, "
            f"{controller_transfer.memory_rise:.1f} MiB above the {controller_transfer.memory_idle:.0f} MiB "
            "at rest"
        )
    return lines


def _limits(disk: tuple[float, float]) -> list[str]:
    return [
        f"What the machine sets as limits: SHA-256 {machine.sha256_rate():.0f} MiB/s on one core; the disk "
        f"takes {disk[0]:.0f} MiB/s and reads {disk[1]:.0f} MiB/s uncached."
    ]


async def measure(kinds: Sequence[str], size: int, slow_size: int, rounds: int) -> str:
    """Run it all and return the report; the whole controller only when ``filesystem`` is among the kinds."""
    sizes = {
        kind: min(size if kind in FAST_KINDS else slow_size, MAX_SIZES.get(kind, size)) for kind in kinds
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        async with asyncio.timeout(TIMEOUT):
            disk = machine.disk_rates(folder)
            measured = await measure_rates(folder, kinds, sizes, rounds)
            controller_transfer = await measure_controller(folder, size) if "filesystem" in kinds else None
        return f"{rounds} rounds\n\n{report(measured, sizes, controller_transfer, disk)}"


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "kinds", nargs="*", metavar="KIND", help=f"out of {', '.join(ARCHIVE_TARGETS)}; default all"
    )
    parser.add_argument("--size", type=int, default=1024, help=f"MiB, for {' and '.join(FAST_KINDS)}")
    parser.add_argument("--slow-size", type=int, default=256, help="MiB, for the others")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if unknown := set(chosen.kinds) - set(ARCHIVE_TARGETS):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(ARCHIVE_TARGETS)}")
    if chosen.job:
        print(msgspec.json.encode(run_job(msgspec.json.decode(sys.stdin.read(), type=TransferJob))).decode())
    else:
        kinds = chosen.kinds or list(ARCHIVE_TARGETS)
        print(asyncio.run(measure(kinds, chosen.size * MIB, chosen.slow_size * MIB, chosen.rounds)))


if __name__ == "__main__":
    main()
    exit_process(0)
