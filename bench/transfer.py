"""
Bench (c): how fast one large document gets into an archive of each kind, against a plain copy into the same server, and with
how much memory.

Ours is the whole archive phase of a file, by the code that the controller runs: download, hash, write, make durable,
read back, hash. The plain copy is httpx and the plainest client of the protocol (``copies``), which reads nothing back; and the
same with a read-back that is hashed, so that it can be told what the proof costs and what our code costs. Each measurement is a process of its own that has moved a small file
before; the stand-in eSAW and the servers are processes of their own, too, on the same cores. At last a whole controller does
it once, which tells the memory of the real process.

    .venv/bin/python -m bench.transfer [--size 1024] [--slow-size 256] [--rounds 3] [KIND ...]
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

from bench import machine
from bench.copies import COPIES, READS
from bench.machine import MIB, Memory, cpu_seconds, forget_peak
from bench.places import PLACES, Place
from bench.scene import REPOSITORY, Esaw, Samples, scene, separate_esaw
from bench.spread import Spread, verdict
from counterfoil.allocator import keep_blocks
from counterfoil.archives import filing, open_door
from counterfoil.archives.door import Door
from counterfoil.archives.plan import FileFacts, PlannedFile
from counterfoil.clock import WallClock
from counterfoil.esaw import ApiToken, make_http
from counterfoil.esaw import Esaw as EsawClient
from counterfoil.resources.envelopeevent import FileKind
from sandbox.controlplane.processes import run as run_program
from sandbox.esaw import DocumentSpec

FAST = ("filesystem", "s3")
"""Kinds that get the large document; the others a smaller one, since their servers take a while or keep it in memory."""

MOST = {"cmis": 64 * MIB}
"""Bytes that a server can take at all: this one holds every document in memory several times."""

LEAST_RATIO = 0.7
MOST_MEMORY = 32.0
SMALL = 64 * 1024
LONGEST = 600.0  # seconds for the whole run


class Way(StrEnum):
    """How the document travels."""

    ARCHIVE = "archive"
    COPY = "plain copy"
    COPY_READ_BACK = "plain copy, read back"


class Job(msgspec.Struct, frozen=True):
    """What one process has to move, and how."""

    way: Way
    place: Place
    esaw: str
    token: str
    small_file: str
    file: str
    names: tuple[str, str]
    """Where the small and the large one go."""


class Moved(msgspec.Struct, frozen=True):
    """How it went: seconds, CPU seconds of the process, MiB at rest and at most, SHA-256 where one was made."""

    seconds: float
    cpu: float
    memory_idle: float
    memory_peak: float
    sha256: str

    @property
    def memory_rise(self) -> float:
        """MiB above the memory at rest."""
        return self.memory_peak - self.memory_idle


# -- In a process of its own ---------------------------------------------------------------------------------------


def moved(job: Job) -> Moved:
    """Do the job as its side would: ours with the controller's event loop and allocator, a plain copy with Python's."""
    if job.way is not Way.ARCHIVE:
        return asyncio.run(work(job))
    keep_blocks()
    return uvloop.run(work(job))


async def work(job: Job) -> Moved:
    """Move the small file, then the large one with the clock running."""
    async with make_http() if job.way is Way.ARCHIVE else httpx.AsyncClient(trust_env=False) as http:
        move = await _mover(job, http)
        await move(job.small_file, job.names[0])
        gc.collect()
        os.sync()
        forget_peak(os.getpid())
        idle, cpu, started = Memory.of(os.getpid()).now, cpu_seconds(os.getpid()), time.perf_counter()
        sha256 = await move(job.file, job.names[1])
        seconds = time.perf_counter() - started
        return Moved(
            seconds, cpu_seconds(os.getpid()) - cpu, idle, max(idle, Memory.of(os.getpid()).peak), sha256
        )


Move = Callable[[str, str], Awaitable[str]]


async def _mover(job: Job, http: httpx.AsyncClient) -> Move:
    if job.way is Way.ARCHIVE:
        return await _archive_mover(job, http)
    return partial(_copied, job, http)


async def _archive_mover(job: Job, http: httpx.AsyncClient) -> Move:
    door = await open_door("dms", job.place.spec, job.place.credentials)
    user = EsawClient(job.esaw, http=http, clock=WallClock(), observe=lambda *_: None).as_user(
        ApiToken.parse(job.token)
    )

    async def move(file: str, name: str) -> str:
        planned = PlannedFile(FileFacts(file, FileKind.DOCUMENT, name, 1), name, "application/pdf")
        return (await filing.deposit(door, planned, partial(user.download, file), tags={})).sha256

    return move


async def _copied(job: Job, http: httpx.AsyncClient, file: str, name: str) -> str:
    async with aclosing(_downloaded(job, http, file)) as chunks:
        await COPIES[job.place.kind](job.place, name, chunks)
    if job.way is Way.COPY:
        return ""
    digest = hashlib.sha256()
    async with aclosing(READS[job.place.kind](job.place, name)) as chunks:
        async for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()


async def _downloaded(job: Job, http: httpx.AsyncClient, file: str) -> AsyncGenerator[bytes, None]:
    headers = {"Authorization": f"Bearer {job.token}", "Accept-Encoding": "identity"}
    async with http.stream("GET", f"{job.esaw}/Api/v6/file/{file}", headers=headers) as answer:
        answer.raise_for_status()
        async for chunk in answer.aiter_raw():
            yield chunk


# -- The run -----------------------------------------------------------------------------------------------------


class Documents(msgspec.Struct, frozen=True):
    """The small and the large one, by their ids in eSAW, and the large one's size and hash."""

    small: str
    large: str
    size: int
    sha256: str


class Round(msgspec.Struct, frozen=True):
    """What one round of one kind gave: MiB a second, and CPU seconds per GiB of ours and of the stand-in."""

    rate: float
    cpu: float
    esaw_cpu: float
    memory_rise: float


Measured = Mapping[str, Mapping[Way, Sequence[Round]]]
"""Rounds by kind and way."""


async def documents(esaw: Esaw, size: int) -> Documents:
    """Put an envelope with both into the stand-in."""
    envelope = await esaw.control.add_envelope(
        sender=esaw.sender,
        documents=[DocumentSpec(name="small.pdf", size=SMALL), DocumentSpec(name="large.pdf", size=size)],
        audit_trail=False,
    )
    small, large = sorted(await esaw.control.files(envelope), key=lambda file: file.size)
    sha256 = await esaw.control.expected_sha256(large.file_id)
    return Documents(small.file_id, large.file_id, size, sha256)


async def one_round(way: Way, place: Place, door: Door, esaw: Esaw, papers: Documents) -> Round:
    """Let a process move the large document; nothing of it is left afterwards."""
    job = Job(
        way=way,
        place=place,
        esaw=esaw.control.url,
        token=esaw.sender.token,
        small_file=papers.small,
        file=papers.large,
        names=(f"{secrets.token_hex(4)}.pdf", f"{secrets.token_hex(4)}.pdf"),
    )
    before = cpu_seconds(esaw.pid)
    finished = await run_program(
        [sys.executable, "-m", "bench.transfer", "--job"],
        stdin=msgspec.json.encode(job).decode(),
        cwd=REPOSITORY,
    )
    if finished.code != 0:
        raise RuntimeError(f"{place.kind}, {way} ended with status {finished.code}: {finished.err}")
    done = msgspec.json.decode(finished.out, type=Moved)
    if done.sha256 not in ("", papers.sha256):
        raise RuntimeError(f"{place.kind}, {way}: what was moved is not what eSAW has")
    for name in job.names:
        await door.discard(name)
    gibs = papers.size / 2**30
    return Round(
        rate=papers.size / MIB / done.seconds,
        cpu=done.cpu / gibs,
        esaw_cpu=(cpu_seconds(esaw.pid) - before) / gibs,
        memory_rise=done.memory_rise,
    )


async def rates(
    folder: Path, kinds: Sequence[str], sizes: Mapping[str, int], rounds: int
) -> dict[str, dict[Way, list[Round]]]:
    """Measure every kind, its ways in turns, so many rounds."""
    measured: dict[str, dict[Way, list[Round]]] = {}
    async with separate_esaw(folder) as esaw:
        papers = {size: await documents(esaw, size) for size in set(sizes.values())}
        for kind in kinds:
            measured[kind] = {way: [] for way in Way}
            async with PLACES[kind](folder) as place:
                door = await open_door("dms", place.spec, place.credentials)
                for _ in range(rounds):
                    for way, done in measured[kind].items():
                        done.append(await one_round(way, place, door, esaw, papers[sizes[kind]]))
                await door.close()
    return measured


class Whole(msgspec.Struct, frozen=True):
    """What a controller made of the large document: MiB a second in the archive phase, MiB of memory."""

    rate: float
    memory_idle: float
    memory_rise: float


async def through_the_controller(folder: Path, size: int) -> Whole:
    """Let a controller archive a small envelope, rest, and then the large one."""
    async with scene(folder, concurrency=4) as play:
        controller = await play.controller("controller")
        for length in (SMALL, size):
            envelope = await play.esaw.control.add_envelope(
                sender=play.esaw.sender, documents=[DocumentSpec(name="contract.pdf", size=length)]
            )
            before, idle = Samples(await controller.metrics()), Memory.of(controller.pid).now
            forget_peak(controller.pid)
            await play.succeeded(await play.note_down([envelope]))
        after, peak = Samples(await controller.metrics()), Memory.of(controller.pid).peak
    name = "counterfoil_phase_seconds_sum"
    seconds = after.total(name, phase="Archiving") - before.total(name, phase="Archiving")
    return Whole(rate=size / MIB / seconds, memory_idle=idle, memory_rise=peak - idle)


def report(
    measured: Measured, sizes: Mapping[str, int], whole: Whole | None, disk: tuple[float, float]
) -> str:
    """Return the Markdown, ratios first."""
    lines = [
        "| what | MiB | of the plain copy | of one that is read back | MiB/s | CPU s per GiB | stand-in's CPU s per GiB "
        "| memory rise MiB |"
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for kind, done in measured.items():
        lines += [
            f"| `{kind}`: {way} | {sizes[kind] // MIB} | {_ratio(done, way, Way.COPY).text(2)} "
            f"| {_ratio(done, way, Way.COPY_READ_BACK).text(2)} | {Spread.of(each.rate for each in found).text()} | {Spread.of(each.cpu for each in found).text(2)} "
            f"| {Spread.of(each.esaw_cpu for each in found).text(2)} | {max(each.memory_rise for each in found):.1f} |"
            for way, found in done.items()
        ]
    return "\n".join([*lines, "", *_verdicts(measured, whole), "", *_limits(disk)])


def _ratio(done: Mapping[Way, Sequence[Round]], way: Way, to: Way) -> Spread:
    # A server that takes less than a disk is no fault of ours: each archive is held against a copy to the same place.
    return Spread.of_ratios((each.rate for each in done[way]), (each.rate for each in done[to]))


def _verdicts(measured: Measured, whole: Whole | None) -> list[str]:
    lines = []
    for kind, done in measured.items():
        ratio, fair = (_ratio(done, Way.ARCHIVE, to) for to in (Way.COPY, Way.COPY_READ_BACK))
        met = verdict(ratio.median >= LEAST_RATIO)
        lines.append(
            f"- archive `{kind}`: {ratio.text(2)} of a plain copy; target >= {LEAST_RATIO}: {met}; {fair.text(2)} of one that is "
            "read back"
        )
    rises = [each.memory_rise for done in measured.values() for each in done[Way.ARCHIVE]]
    rise = max(rises if whole is None else [whole.memory_rise, *rises])
    lines.append(
        f"- memory: at most {rise:.1f} MiB above rest; target <= {MOST_MEMORY:.0f}: {verdict(rise <= MOST_MEMORY)}"
    )
    if whole is not None:
        lines.append(
            f"- through a whole controller: {whole.rate:.0f} MiB/s in the archive phase, {whole.memory_rise:.1f} MiB above "
            f"the {whole.memory_idle:.0f} MiB at rest"
        )
    return lines


def _limits(disk: tuple[float, float]) -> list[str]:
    return [
        f"What the machine sets as limits: SHA-256 {machine.sha256_rate():.0f} MiB/s on one core; the disk takes "
        f"{disk[0]:.0f} MiB/s and gives back {disk[1]:.0f} MiB/s uncached."
    ]


async def measure(kinds: Sequence[str], size: int, slow_size: int, rounds: int) -> str:
    """Run it all and return the report; the whole controller only when ``filesystem`` is among the kinds."""
    sizes = {kind: min(size if kind in FAST else slow_size, MOST.get(kind, size)) for kind in kinds}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        async with asyncio.timeout(LONGEST):
            disk = machine.disk_rates(folder)
            measured = await rates(folder, kinds, sizes, rounds)
            whole = await through_the_controller(folder, size) if "filesystem" in kinds else None
        return f"{rounds} rounds\n\n{report(measured, sizes, whole, disk)}"


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"out of {', '.join(PLACES)}; default all")
    parser.add_argument("--size", type=int, default=1024, help=f"MiB, for {' and '.join(FAST)}")
    parser.add_argument("--slow-size", type=int, default=256, help="MiB, for the others")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if unknown := set(chosen.kinds) - set(PLACES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(PLACES)}")
    if chosen.job:
        print(msgspec.json.encode(moved(msgspec.json.decode(sys.stdin.read(), type=Job))).decode())
    else:
        kinds = chosen.kinds or list(PLACES)
        print(asyncio.run(measure(kinds, chosen.size * MIB, chosen.slow_size * MIB, chosen.rounds)))


if __name__ == "__main__":
    main()
