"""
Start ``verification.fuzz.process`` for a target, watch it, and keep its findings.

The corpus of a target is in the cache folder, so a later run continues it. An input that ends the process,
or that does not end, is a finding too.
"""

import json
import math
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import psutil

from verification.fuzz.process import PROGRESS, RESULT, Progress
from verification.fuzz.target import Finding

HANG_CPU_SECONDS: Final = 30.0
"""CPU time after which an input counts as endless."""

STALL_SECONDS: Final = 600.0
"""Time after which an input counts as endless if it only waits, on a machine that has much else to do."""

LOOK_SECONDS: Final = 0.2

_COVERAGE = re.compile(r"cov: (\d+)")


class FuzzError(RuntimeError):
    """The process of a target did not start; the message has its output."""


@dataclass(frozen=True)
class RunResult:
    """The result of one run of a target."""

    name: str
    inputs: int
    seconds: float
    edges: int | None
    """Number of edges of the product's code that the inputs covered; None without Atheris."""
    growth_mib: float
    """Growth of the process's memory after the warm-up."""
    findings: tuple[Finding, ...] = field(default=())


def run_target(
    module: str,
    *,
    inputs: int,
    seed: int,
    corpus: Path,
    seconds: float = math.inf,
    hang_cpu_seconds: float = HANG_CPU_SECONDS,
    is_guided: bool = True,
) -> RunResult:
    """
    Fuzz the target of a module until the number of inputs is reached, or the time in seconds has passed.

    Its corpus is read from a folder and extended there. With ``is_guided`` false, the inputs depend on the
    seed alone. Raises ``FuzzError``.
    """
    corpus.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="counterfoil-fuzz-") as name:
        work = Path(name)
        command = (
            sys.executable,
            "-m",
            "verification.fuzz.process",
            module,
            f"--inputs={inputs}",
            f"--seed={seed}",
        )
        options = [f"--seconds={seconds}", f"--corpus={corpus}", f"--work={work}"]
        options += [] if is_guided else ["--unguided"]
        with (
            (work / "output").open("wb") as output,
            subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            ) as process,
        ):
            began = time.monotonic()
            try:
                is_ended = _wait(process, work / PROGRESS, hang_cpu_seconds)
            finally:
                process.kill()
        taken = time.monotonic() - began
        said = (work / "output").read_text("utf-8", errors="replace")
        if (work / RESULT).is_file():
            return _completed(module, json.loads((work / RESULT).read_text("utf-8")), said)
        return _interrupted(module, work / PROGRESS, said, taken, is_ended=is_ended)


def store_findings(result: RunResult, folder: Path) -> None:
    """Write each input that is a finding into the folder, named by its kind and hash."""
    folder.mkdir(parents=True, exist_ok=True)
    for each in result.findings:
        (folder / f"{each.kind}-{sha256(each.data).hexdigest()[:16]}").write_bytes(each.data)


def _wait(process: subprocess.Popen[bytes], progress: Path, hang_cpu_seconds: float) -> bool:
    """Wait for the process; return whether it ended, and False if its input takes too long."""
    watched, count, since, cpu_since = psutil.Process(process.pid), 0, time.monotonic(), 0.0
    while process.poll() is None:
        time.sleep(LOOK_SECONDS)
        seen = Progress.read(progress)[0] if progress.is_file() else 0
        now, times = time.monotonic(), watched.cpu_times()
        cpu = times.user + times.system
        if seen != count:
            count, since, cpu_since = seen, now, cpu
        elif now - since > STALL_SECONDS or (count and cpu - cpu_since > hang_cpu_seconds):
            return False
    return True


def _completed(module: str, result: dict[str, Any], said: str) -> RunResult:
    covered = _COVERAGE.findall(said)
    return RunResult(
        module.rpartition(".")[2],
        int(result["inputs"]),
        float(result["seconds"]),
        int(covered[-1]) if covered else None,
        float(result["growth_mib"]),
        tuple(Finding(kind, summary, bytes.fromhex(data)) for kind, summary, data in result["findings"]),
    )


def _interrupted(module: str, progress: Path, said: str, seconds: float, *, is_ended: bool) -> RunResult:
    count, data = Progress.read(progress) if progress.is_file() else (0, b"")
    if not count:
        raise FuzzError(f"{module} did not start:\n{said[-2000:]}")
    kind, summary = ("crash", f"the process ended: {said[-300:]}") if is_ended else ("hang", "no end in time")
    return RunResult(module.rpartition(".")[2], count, seconds, None, 0.0, (Finding(kind, summary, data),))
