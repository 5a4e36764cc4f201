"""
Fuzz one target in this process (``python -m verification.fuzz.process``); ``fuzz.runner`` starts and watches
it.

Before each input, the number of inputs and the input go into a file that the parent reads too. So an input
that never ends, or that ends the process, is known. The result is written at the end. Without Atheris the
inputs are mutations of the seeds, without guidance by coverage, as with ``--unguided``.
"""

import argparse
import gc
import importlib
import importlib.util
import json
import logging
import mmap
import os
import random
import resource
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Final, NoReturn

from verification.fuzz.guides import GUIDES
from verification.fuzz.mutation import mutations
from verification.fuzz.target import MAX_CPU_SECONDS, Check, Finding, Target

try:
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]
except ImportError:
    # No wheel for this machine or Python.
    atheris = None

HEADER_BYTES: Final = 16
"""At the start of the progress file: number of inputs, and length of the current one."""

MAX_INPUT_BYTES: Final = 1 << 20

PROGRESS: Final = "progress"
"""Name of the progress file in the work folder."""

RESULT: Final = "result.json"
"""Name of the result in the work folder."""

MAX_FINDINGS: Final = 50
"""Maximum number of findings with different places that are kept."""

REPEATS: Final = 2
"""Times that an input is run again before it counts as slow: a pause of the machine is no finding."""

WARM_UP: Final = 0.2
"""Part of the inputs before the memory is measured first."""


class Progress:
    """The file that tells the parent the number of inputs, and the current one."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(HEADER_BYTES + MAX_INPUT_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def record(self, count: int, data: bytes) -> None:
        """Record an input before it is run."""
        self._map[:HEADER_BYTES] = count.to_bytes(8) + len(data).to_bytes(8)
        self._map[HEADER_BYTES : HEADER_BYTES + len(data)] = data

    @staticmethod
    def read(path: Path) -> tuple[int, bytes]:
        """Return the number of inputs, and the current one."""
        with path.open("rb") as file:
            header = file.read(HEADER_BYTES)
            return int.from_bytes(header[:8]), file.read(int.from_bytes(header[8:]))


class _ErrorRecorder(logging.Handler):
    """Keeps the last exception that was logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.logged: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.logged = record.exc_info[1]


class TargetProcess:
    """Runs the inputs of one target; ``finish`` gets the findings, and the growth of the memory in MiB."""

    def __init__(
        self,
        target: Target,
        check: Check,
        progress: Progress,
        *,
        inputs: int,
        seconds: float,
        finish: Callable[[int, list[Finding], float], NoReturn],
    ) -> None:
        self._target = target
        self._check = check
        self._progress = progress
        self._inputs = inputs
        self._seconds = seconds
        self._began = time.monotonic()
        self._finish = finish
        self._count = 0
        self._findings: dict[str, Finding] = {}
        self._warm_up_mib: float | None = None
        self._errors = _ErrorRecorder()
        logging.getLogger().handlers = [self._errors]
        logging.disable(logging.WARNING)

    def run_input(self, data: bytes) -> None:
        """Run one input, and end the process after the last one."""
        self._count += 1
        self._progress.record(self._count, data)
        seconds = self._cpu_seconds(data)
        for _ in range(REPEATS):
            if seconds > MAX_CPU_SECONDS:
                seconds = min(seconds, self._cpu_seconds(data))
        if seconds > MAX_CPU_SECONDS:
            self._add("slow", f"{seconds:.2f} s of CPU time", "slow", data)
        done = max(self._count / self._inputs, (time.monotonic() - self._began) / self._seconds)
        if self._warm_up_mib is None and done >= WARM_UP:
            self._warm_up_mib = _memory_mib()
        if done >= 1:
            self._end(self._warm_up_mib or 0.0)

    def _end(self, warm_up_mib: float) -> NoReturn:
        growth = _memory_mib() - warm_up_mib
        if growth > self._target.max_growth_mib:
            self._add("memory", f"the memory grew by {growth:.0f} MiB after the warm-up", "memory", b"")
        self._finish(self._count, list(self._findings.values()), growth)

    def _cpu_seconds(self, data: bytes) -> float:
        """Run an input; return its CPU time."""
        began = time.process_time()
        try:
            self._check(data)
        except self._target.documented:
            pass
        except Exception as error:
            self._add("exception", _summary(error), _place(error), data)
        seconds = time.process_time() - began
        if self._errors.logged is not None:
            logged, self._errors.logged = self._errors.logged, None
            self._add("logged", _summary(logged), f"logged {_place(logged)}", data)
        return seconds

    def _add(self, kind: str, summary: str, key: str, data: bytes) -> None:
        if len(self._findings) < MAX_FINDINGS:
            self._findings.setdefault(key, Finding(kind, summary, data))


def _summary(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:300]!r} at {frame.filename}:{frame.lineno}"


def _place(error: BaseException) -> str:
    """Return what makes two exceptions the same finding: type, place of the raise, and the place in the
    product that it passed last."""
    frames = traceback.extract_tb(error.__traceback__)
    product = [each for each in frames if "site-packages" not in each.filename]
    places = (f"{each.filename}:{each.lineno}" for each in (product or frames)[-1:])
    return f"{type(error).__name__} {' '.join(places)}"


def _memory_mib() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * resource.getpagesize() / 2**20


def _load_guided(module: str) -> Target:
    """Import a target; the modules that guide the engine report their coverage."""
    # Not the whole product: that would take most of the time of a run. The engine prints each module.
    guides = list(GUIDES.get(module.rpartition(".")[2], ()))
    with (
        atheris.instrument_imports(include=guides, exclude=other_modules(guides)),
        redirect_stderr(StringIO()),
    ):
        return _load(module)


def other_modules(guides: Sequence[str]) -> list[str]:
    """Return the modules beside the guides, since Atheris takes the whole package of each name."""
    return [
        name
        for package in {each.partition(".")[0] for each in guides}
        for name in _modules_of(package)
        if not any(name == each or name.startswith(f"{each}.") for each in guides)
    ]


def _modules_of(package: str) -> Iterator[str]:
    """Yield the names of the modules of an installed package, without an import."""
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        for file in Path(folder).rglob("*.py"):
            parts = (package, *file.relative_to(folder).with_suffix("").parts)
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _load(module: str) -> Target:
    target: Target = importlib.import_module(module).TARGET
    return target


def _options(target: Target, seed: int, corpus: Path, work: Path) -> list[str]:
    """Return the options of libFuzzer. This process ends itself, and its parent watches the time."""
    seeds, words = work / "seeds", work / "words"
    seeds.mkdir()
    for number, each in enumerate(target.seeds):
        (seeds / str(number)).write_bytes(each)
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words), "ascii")
    limits = [f"-max_len={target.max_length}", "-rss_limit_mb=0", "-timeout=3600", "-runs=-1"]
    # The engine writes inputs that wait for a busy machine too: not into the folder of the caller.
    limits.append(f"-artifact_prefix={work}/")
    return [*limits, f"-seed={seed}", f"-dict={words}", "-reload=0", str(corpus), str(seeds)]


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def main(argv: Sequence[str]) -> None:
    """Fuzz one target."""
    parser = argparse.ArgumentParser(prog="python -m verification.fuzz.process")
    parser.add_argument("module")
    parser.add_argument("--inputs", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--unguided", action="store_true")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    chosen = parser.parse_args(argv)
    is_guided = atheris is not None and not chosen.unguided
    target = _load_guided(chosen.module) if is_guided else _load(chosen.module)
    began = time.monotonic()

    def finish(count: int, findings: list[Finding], growth: float) -> NoReturn:
        result = {
            "inputs": count,
            "seconds": time.monotonic() - began,
            "growth_mib": growth,
            "findings": [[each.kind, each.summary, each.data.hex()] for each in findings],
        }
        (chosen.work / RESULT).write_text(json.dumps(result), "utf-8")
        sys.stderr.flush()
        # At once: libFuzzer would treat any other end as a crash.
        os._exit(0)

    progress = Progress(chosen.work / PROGRESS)
    run = TargetProcess(
        target,
        target.prepare(),
        progress,
        inputs=chosen.inputs,
        seconds=chosen.seconds,
        finish=finish,
    ).run_input
    if is_guided:
        atheris.Setup([sys.argv[0], *_options(target, chosen.seed, chosen.corpus, chosen.work)], run)
        atheris.Fuzz()
    for data in mutations(target, random.Random(chosen.seed)):
        run(data)


if __name__ == "__main__":
    main(sys.argv[1:])
