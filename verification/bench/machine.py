"""
The machine that the figures come from, and what a process costs on it: memory from /proc, CPU from psutil.
"""

import hashlib
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

MIB = 1024 * 1024


def description() -> str:
    """Return the machine as a Markdown list."""
    cores = f"{len(os.sched_getaffinity(0))} cores ({_cpu_model()})"
    memory = f"{psutil.virtual_memory().total / 2**30:.0f} GiB of memory"
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    load = f"load before the run: {os.getloadavg()[0]:.1f}"
    return "\n".join(f"- {line}" for line in (cores, memory, system, load))


def sha256_rate(size: int = 256 * MIB) -> float:
    """Return how many MiB a second one core hashes, in blocks of 1 MiB as archiving does."""
    block, digest = bytes(MIB), hashlib.sha256()
    started = time.perf_counter()
    for _ in range(size // MIB):
        digest.update(block)
    return size / MIB / (time.perf_counter() - started)


def disk_rates(folder: Path, size: int = 256 * MIB) -> tuple[float, float]:
    """Return how many MiB a second the disk below a folder takes writes (until synchronised) and reads
    (uncached)."""
    path, block = folder / "disk-rate", os.urandom(MIB)
    started = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(size // MIB):
            file.write(block)
        os.fsync(file.fileno())
    written = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while file.read(MIB):
            pass
    read = time.perf_counter()
    path.unlink()
    return size / MIB / (written - started), size / MIB / (read - written)


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown CPU")


class CoreSplit(NamedTuple):
    """Cores of the API server and etcd, and those of everything else."""

    cluster: frozenset[int]
    others: frozenset[int]

    @classmethod
    def both(cls) -> tuple["CoreSplit", "CoreSplit"]:
        """Return the split that targets are judged with, and the one without. Raises ``ValueError`` if there
        is only one core."""
        return cls.separate(), cls.shared()

    @property
    def is_separate(self) -> bool:
        """Whether the API server has cores that the others do not use; targets are judged then."""
        return self.cluster != self.others

    @property
    def title(self) -> str:
        """The heading of a report."""
        if self.is_separate:
            return "The API server on cores that the others do not use"
        return "All processes on all cores"

    @classmethod
    def shared(cls) -> "CoreSplit":
        """Let all processes share all cores."""
        cores = frozenset(os.sched_getaffinity(0))
        return cls(cores, cores)

    @classmethod
    def separate(cls) -> "CoreSplit":
        """Give the API server and etcd half of the cores. Raises ``ValueError`` if there is only one core."""
        cores = sorted(os.sched_getaffinity(0))
        half = len(cores) // 2
        if not half:
            raise ValueError("this machine has only one core")
        return cls(frozenset(cores[:half]), frozenset(cores[half:]))


@contextmanager
def on_cores(cores: frozenset[int]) -> Iterator[None]:
    """Let this thread, and what it starts meanwhile, use these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class ProcessMemory:
    """Resident memory of a process, in MiB: now, and the most since ``forget_peak``."""

    now: float
    peak: float

    @classmethod
    def of(cls, pid: int) -> "ProcessMemory":
        """Read it from the kernel."""
        text = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in text.splitlines())
        return cls(*(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM")))


def forget_peak(pid: int) -> None:
    """Reset the peak memory that the kernel recorded for a process. (proc_pid_clear_refs(5))"""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used so far, its own and the kernel's for it."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def cpu_seconds_of_all(pid: int) -> float:
    """Return the CPU time of a process and of those that it has started and that run."""
    children = psutil.Process(pid).children(recursive=True)
    return cpu_seconds(pid) + sum(cpu_seconds(child.pid) for child in children)


def busy_seconds() -> float:
    """Return the CPU time that all processes of the machine have used so far, those of others too."""
    times = psutil.cpu_times()
    return times.user + times.nice + times.system + times.irq + times.softirq
