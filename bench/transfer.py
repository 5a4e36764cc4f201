"""
Bench (c): how fast one large document gets into the archive, against a plain copy by httpx, and with how much memory.

Ours is the whole archive phase of a file, by the code that the controller runs: download, hash, write, make durable,
read back, hash. The plain copy is httpx writing what comes to a file, and an fsync; for S3 it is httpx and obstore, straight
into the same server; for information, a copy to disk with an uncached read-back. Each measurement is a process of its own that has
moved a small file before; the stand-in eSAW and the S3 server are processes of their own, too, on the same cores.
At last a whole controller does it once, which tells the memory of the real process.

    .venv/bin/python -m bench.transfer [--size 1024] [--rounds 3]
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
from functools import partial
from pathlib import Path

import httpx
import msgspec
import uvloop
from obstore.store import S3Store

from bench import machine
from bench.machine import MIB, Memory, cpu_seconds, forget_peak
from bench.scene import REPOSITORY, Esaw, Samples, scene, separate_esaw
from bench.spread import Spread, verdict
from counterfoil.allocator import keep_blocks
from counterfoil.archives import filing, open_door
from counterfoil.archives.plan import FileFacts, PlannedFile
from counterfoil.clock import WallClock
from counterfoil.esaw import ApiToken, make_http
from counterfoil.esaw import Esaw as EsawClient
from counterfoil.resources.archive import S3, ArchiveSpec, Filesystem
from counterfoil.resources.base import Ref
from counterfoil.resources.envelopeevent import FileKind
from sandbox.controlplane.processes import run as run_program
from sandbox.esaw import DocumentSpec
from sandbox.s3 import S3Server, s3_server

COPY = "plain copy to disk"
COPY_READ_BACK = "plain copy to disk, read back"
COPY_S3 = "plain copy into S3"
FILESYSTEM = "archive `filesystem`"
S3_ARCHIVE = "archive `s3`"
OURS = (FILESYSTEM, S3_ARCHIVE)

LEAST_RATIO = 0.7
MOST_MEMORY = 32.0
BUCKET = "contracts"
SMALL = 64 * 1024
LONGEST = 240.0  # seconds for the whole run


class Job(msgspec.Struct, frozen=True):
    """What one process has to move, and how."""

    kind: str
    esaw: str
    token: str
    small_file: str
    file: str
    folder: str
    s3: Mapping[str, str]


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
    if job.kind not in OURS:
        return asyncio.run(work(job))
    keep_blocks()
    return uvloop.run(work(job))


async def work(job: Job) -> Moved:
    """Move the small file, then the large one with the clock running."""
    async with make_http() if job.kind in OURS else httpx.AsyncClient(trust_env=False) as http:
        move = await _mover(job, http)
        await move(job.small_file, f"{secrets.token_hex(4)}.pdf")
        gc.collect()
        os.sync()
        forget_peak(os.getpid())
        idle, cpu, started = Memory.of(os.getpid()).now, cpu_seconds(os.getpid()), time.perf_counter()
        sha256 = await move(job.file, f"{secrets.token_hex(4)}.pdf")
        seconds = time.perf_counter() - started
        return Moved(
            seconds, cpu_seconds(os.getpid()) - cpu, idle, max(idle, Memory.of(os.getpid()).peak), sha256
        )


Move = Callable[[str, str], Awaitable[str]]


async def _mover(job: Job, http: httpx.AsyncClient) -> Move:
    if job.kind in OURS:
        return await _archive_mover(job, http)
    if job.kind == COPY_S3:
        return partial(_copied_to_s3, job, http, _store(job.s3))
    return partial(_copied, job, http, job.kind == COPY_READ_BACK)


async def _archive_mover(job: Job, http: httpx.AsyncClient) -> Move:
    spec = (
        ArchiveSpec(filesystem=Filesystem(root=job.folder))
        if job.kind == FILESYSTEM
        else ArchiveSpec(
            s3=S3(
                bucket=BUCKET,
                endpoint=job.s3["url"],
                region="eu-central-1",
                force_path_style=True,
                credentials_secret_ref=Ref(name="key"),
            )
        )
    )
    credentials = {key: value.encode() for key, value in job.s3.items() if key != "url"}
    door = await open_door("dms", spec, credentials)
    user = EsawClient(job.esaw, http=http, clock=WallClock(), observe=lambda *_: None).as_user(
        ApiToken.parse(job.token)
    )

    async def move(file: str, name: str) -> str:
        planned = PlannedFile(
            FileFacts(file, FileKind.DOCUMENT, name, 1), f"acme/envelope/{name}", "application/pdf"
        )
        return (await filing.deposit(door, planned, partial(user.download, file), tags={})).sha256

    return move


async def _copied(job: Job, http: httpx.AsyncClient, read_back: bool, file: str, name: str) -> str:
    path = Path(job.folder, name)
    # A plain script writes in between, without a thread.
    with path.open("wb") as target:  # noqa: ASYNC230
        async with aclosing(_downloaded(job, http, file)) as chunks:
            async for chunk in chunks:
                target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    return _hashed(path) if read_back else ""


def _hashed(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as stored:
        os.posix_fadvise(stored.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while block := stored.read(MIB):
            digest.update(block)
    return digest.hexdigest()


async def _copied_to_s3(job: Job, http: httpx.AsyncClient, store: S3Store, file: str, name: str) -> str:
    async with aclosing(_downloaded(job, http, file)) as chunks:
        await store.put_async(f"copies/{name}", chunks, chunk_size=5 * MIB, max_concurrency=2)
    return ""


async def _downloaded(job: Job, http: httpx.AsyncClient, file: str) -> AsyncGenerator[bytes, None]:
    headers = {"Authorization": f"Bearer {job.token}", "Accept-Encoding": "identity"}
    async with http.stream("GET", f"{job.esaw}/Api/v6/file/{file}", headers=headers) as answer:
        answer.raise_for_status()
        async for chunk in answer.aiter_raw():
            yield chunk


def _store(s3: Mapping[str, str]) -> S3Store:
    return S3Store(
        BUCKET,
        endpoint=s3["url"],
        access_key_id=s3["accessKeyId"],
        secret_access_key=s3["secretAccessKey"],
        region="eu-central-1",
        client_options={"allow_http": True},
    )


# -- The run -----------------------------------------------------------------------------------------------------


class Documents(msgspec.Struct, frozen=True):
    """The small and the large one, by their ids in eSAW, and what the large one's hash must be."""

    small: str
    large: str
    sha256: str


class Round(msgspec.Struct, frozen=True):
    """What one round of one kind gave: MiB a second, and CPU seconds per GiB of ours and of the stand-in."""

    rate: float
    cpu: float
    esaw_cpu: float
    memory_rise: float


async def documents(esaw: Esaw, size: int) -> Documents:
    """Put an envelope with both into the stand-in."""
    envelope = await esaw.control.add_envelope(
        sender=esaw.sender,
        documents=[DocumentSpec(name="small.pdf", size=SMALL), DocumentSpec(name="large.pdf", size=size)],
        audit_trail=False,
    )
    small, large = sorted(await esaw.control.files(envelope), key=lambda file: file.size)
    return Documents(small.file_id, large.file_id, await esaw.control.expected_sha256(large.file_id))


async def one_round(kind: str, esaw: Esaw, s3: S3Server, papers: Documents, size: int, folder: Path) -> Round:
    """Let a process move the large document; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(dir=folder) as target:
        job = Job(
            kind=kind,
            esaw=esaw.control.url,
            token=esaw.sender.token,
            small_file=papers.small,
            file=papers.large,
            folder=target,
            s3={"url": s3.url, "accessKeyId": s3.access_key, "secretAccessKey": s3.secret_key},
        )
        before = cpu_seconds(esaw.pid)
        finished = await run_program(
            [sys.executable, "-m", "bench.transfer", "--job"],
            stdin=msgspec.json.encode(job).decode(),
            cwd=REPOSITORY,
        )
    if finished.code != 0:
        raise RuntimeError(f"{kind} ended with status {finished.code}: {finished.err}")
    done = msgspec.json.decode(finished.out, type=Moved)
    if done.sha256 not in ("", papers.sha256):
        raise RuntimeError(f"{kind}: what was moved is not what eSAW has")
    await _emptied(_store(job.s3))
    gibs = size / 2**30
    return Round(
        rate=size / MIB / done.seconds,
        cpu=done.cpu / gibs,
        esaw_cpu=(cpu_seconds(esaw.pid) - before) / gibs,
        memory_rise=done.memory_rise,
    )


async def _emptied(store: S3Store) -> None:
    # By the server itself, which would not notice that a file of its folder is gone.
    async for page in store.list():
        await store.delete_async([each["path"] for each in page])


KINDS = (COPY, FILESYSTEM, COPY_READ_BACK, S3_ARCHIVE, COPY_S3)


async def rates(folder: Path, size: int, rounds: int) -> dict[str, list[Round]]:
    """Measure every kind in turns, so many rounds."""
    async with separate_esaw(folder) as esaw, s3_server(buckets=(BUCKET,)) as s3:
        papers = await documents(esaw, size)
        measured: dict[str, list[Round]] = {kind: [] for kind in KINDS}
        for _ in range(rounds):
            for kind in KINDS:
                measured[kind].append(await one_round(kind, esaw, s3, papers, size, folder))
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


def report(measured: Mapping[str, Sequence[Round]], whole: Whole, disk: tuple[float, float]) -> str:
    """Return the Markdown, ratios first."""
    copies = [each.rate for each in measured[COPY]]
    lines = [
        "| what | of the plain copy to disk | MiB/s | CPU s per GiB | stand-in's CPU s per GiB | memory rise MiB |"
    ]
    lines += ["|---|---|---|---|---|---|"]
    for kind in KINDS:
        done = measured[kind]
        ratio = Spread.of_ratios((each.rate for each in done), copies)
        lines.append(
            f"| {kind} | {ratio.text(2)} | {Spread.of(each.rate for each in done).text()} "
            f"| {Spread.of(each.cpu for each in done).text(2)} | {Spread.of(each.esaw_cpu for each in done).text(2)} "
            f"| {max(each.memory_rise for each in done):.1f} |"
        )
    lines += ["", *_verdicts(measured, whole), "", *_limits(disk)]
    return "\n".join(lines)


def _verdicts(measured: Mapping[str, Sequence[Round]], whole: Whole) -> list[str]:
    lines = []
    # A server that takes less than a disk is no fault of ours: each archive is held against a copy to the same place.
    for kind, copy in ((FILESYSTEM, COPY), (S3_ARCHIVE, COPY_S3)):
        ratio = Spread.of_ratios(
            (each.rate for each in measured[kind]), (each.rate for each in measured[copy])
        )
        met = verdict(ratio.median >= LEAST_RATIO)
        lines.append(f"- {kind}: {ratio.text(2)} of the {copy}; target >= {LEAST_RATIO}: {met}")
    rise = max(whole.memory_rise, *(each.memory_rise for kind in OURS for each in measured[kind]))
    lines.append(
        f"- memory: at most {rise:.1f} MiB above rest; target <= {MOST_MEMORY:.0f}: {verdict(rise <= MOST_MEMORY)}"
    )
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


async def measure(size: int, rounds: int) -> str:
    """Run it all and return the report."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        async with asyncio.timeout(LONGEST):
            disk = machine.disk_rates(folder)
            measured = await rates(folder, size, rounds)
            whole = await through_the_controller(folder, size)
        return f"{rounds} rounds of {size // MIB} MiB\n\n{report(measured, whole, disk)}"


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1024, help="MiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--job", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.job:
        print(msgspec.json.encode(moved(msgspec.json.decode(sys.stdin.read(), type=Job))).decode())
    else:
        print(asyncio.run(measure(chosen.size * MIB, chosen.rounds)))


if __name__ == "__main__":
    main()
