"""
Run a process of the product, and report the functions of the product that it calls: ``python -m
docs.tools.call_recorder FIFO MODULE [ARGUMENT ...]``.

``trace_callback`` starts it and reads the FIFO. A line has five fields: process, kind, time in seconds, task
or thread, text. It imports nothing of the product before it sets ``sys.executable``: the worker processes are
started as this one is, by the program ``python`` beside the FIFO.
"""

import asyncio
import os
import runpy
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
PRODUCT: Final = tuple(f"{ROOT}/{each}/" for each in ("controller", "webhook", "counterfoil"))
SECONDS: Final = 0.02
"""Interval between two reports of one module by one task."""
ENTRY: Final = "controller/reconcile/reconciler.py Reconciler.reconcile"
WRAPPER: Final = "_run_without_end"
"""Runs each part of a namespace, so a task is named by the part."""
API_CALL: Final = "counterfoil/kube/client.py KubeClient.create_from_json"


class Recorder:
    """Reports the calls of the product's functions of this process as lines of a FIFO."""

    def __init__(self, fifo: int, process: str) -> None:
        self._fifo = fifo
        self._process = process
        self._reported: dict[tuple[str, str], float] = {}
        self._nodes: dict[FrameType, int] = {}

    def install(self) -> None:
        """Observe all threads from now on."""
        threading.setprofile(self.observe)
        sys.setprofile(self.observe)

    def observe(self, frame: FrameType, what: str, _: Any) -> None:
        """Report one call; a coroutine that continues calls its function again."""
        code = frame.f_code
        if what != "call" or not code.co_filename.startswith(PRODUCT) or code.co_name == "<module>":
            return
        file, now = code.co_filename.removeprefix(f"{ROOT}/"), time.time()
        root = _root()
        if now - self._reported.get((file, root), 0.0) > SECONDS and not _is_import(frame):
            self._reported[file, root] = now
            self._write("file", now, root, file)
        name = f"{file} {code.co_qualname}"
        if name.startswith(API_CALL) and self._process == "webhook":
            self._write("frames", now, root, "|".join(_product_frames(frame)))
        if frame not in self._nodes and (name == ENTRY or self._parent(frame)):
            self._nodes[frame] = len(self._nodes) + 1
            self._write("node", now, self._nodes[frame], f"{self._parent(frame)}|{name}")

    def _parent(self, frame: FrameType) -> int:
        """Return the number of the nearest caller that is observed; 0 for none."""
        back = frame.f_back
        while back is not None:
            if back in self._nodes:
                return self._nodes[back]
            back = back.f_back
        return 0

    def _write(self, *values: object) -> None:
        os.write(self._fifo, ("\t".join(map(str, (self._process, *values))) + "\n").encode())


def _root() -> str:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return f"thread {threading.current_thread().name.rstrip('0123456789')}"
    if task is None:
        return "event loop"
    coroutine = task.get_coro()
    name = getattr(coroutine, "__qualname__", coroutine)
    if name == WRAPPER and (frame := getattr(coroutine, "cr_frame", None)) is not None:
        run = frame.f_locals["run"]
        name = getattr(run, "func", run).__qualname__
    return f"task {name}"


def _is_import(frame: FrameType | None) -> bool:
    """Whether a module is imported at the moment: the bodies of its classes are no calls."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _product_frames(frame: FrameType | None) -> Iterator[str]:
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(PRODUCT) and code.co_name != "<module>":
            yield f"{code.co_filename.removeprefix(f'{ROOT}/')} {code.co_qualname}"
        frame = frame.f_back


def record(fifo: str, module: str, arguments: list[str]) -> None:
    """Run a module as ``python -m`` does, and report its calls; its worker processes do the same."""
    python = Path(fifo).with_name("python")
    sys.executable = str(python)
    recorder = Recorder(os.open(fifo, os.O_RDWR), module)
    sys.argv = [module, *arguments]
    recorder.install()
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    record(sys.argv[1], sys.argv[2], sys.argv[3:])
