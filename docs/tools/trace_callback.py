"""
Follow one callback through the running product, and print what a reader has to follow: ``.venv/bin/python -m
docs.tools.trace_callback`` (half a minute; needs the programs of ``make test-cluster``).

A receiver and a controller run on a real API server, with the stand-in eSAW, an S3 server, and one tag by
XPath. An envelope with two signed documents is completed, archived and deleted. Each process reports the
functions of the product that it calls (``call_recorder``). What it also calls without a callback is left out:
elections, gauges, mails, the sweep.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, NamedTuple

from docs.tools.call_recorder import ROOT
from sandbox.controlplane.control_plane import control_plane
from sandbox.demo.archives import SECOND, demo_archive
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import DocumentSpec

RECORDER: Final = "docs.tools.call_recorder"
NAMESPACE: Final = "trace"
SETTLED_SECONDS: Final = 2.0
"""Wait before the callback, in which the processes end what a start brings."""
BACKGROUND: Final = (
    *("Candidate.", "ClockChangeDetector.", "ElectionThread.", "GarbageCollector.", "ImportRunner."),
    *("LateFileFinder.", "LeaderElection.", "NoticeDelivery.", "Notifier.", "Resync.", "DeliveryCounter."),
    *("HttpServer.", "NamespaceSupervisor.", "NamespaceTable.", "OrganizationCache."),
    *("OrganizationStatusUpdater.", "event loop"),
)
"""Beginnings of the names of tasks that run without a callback, too."""


class Line(NamedTuple):
    """One report."""

    process: str
    kind: str
    time: float
    root: str
    text: str


class Reader:
    """Keeps the reports of all processes."""

    def __init__(self, fifo: Path) -> None:
        os.mkfifo(fifo)
        self._fifo = os.open(fifo, os.O_RDWR)
        self.lines: list[Line] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        rest = b""
        while received := os.read(self._fifo, 1 << 16):
            *complete, rest = (rest + received).split(b"\n")
            for each in complete:
                process, kind, at, root, text = each.decode().split("\t")
                self.lines.append(Line(process, kind, float(at), root, text))


class Node(NamedTuple):
    """One call while the reconciler works on the event."""

    number: int
    caller: str
    """Number of the nearest caller; 0 for none."""
    name: str
    """Module and function."""


class Trace(NamedTuple):
    """The modules, frames and steps of one callback."""

    files: dict[str, set[str]]
    """Modules by the task or thread that called them."""
    frames: list[str]
    """Frames of the receiver in the call that stores the event, the innermost first."""
    walk: list[str]
    """Modules as ``walk_of`` returns them."""


async def trace(folder: Path) -> Trace:
    """Send one callback through the product."""
    reader = Reader(folder / "calls")
    python = folder / "python"
    # Without -I, which a worker process has: this module is not installed.
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -I ] && shift\nshift\n'
        f'PYTHONPATH={ROOT} exec {sys.executable} -m {RECORDER} {folder}/calls "$@"\n'
    )
    python.chmod(0o700)
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(control_plane())
        await plane.apply_crds()
        await plane.namespace(NAMESPACE)
        second = await stack.enter_async_context(demo_archive("s3", folder))
        built = await stack.enter_async_context(local_environment(plane, folder, namespace=NAMESPACE))
        anna = built.esaw.add_user(email="anna@acme.example", given_name="Anna", surname="Kofler")
        await built.secret(SECOND, "archive", **second.secret)
        await built.archive(SECOND, **second.spec, tags={"customer": {"xpath": "/contract/customer"}})
        await built.organization("acme", archive=SECOND, sender="anna", evidence={"wait": "1s"})
        await built.sender("anna", anna, organization="acme")
        await built.record_sweep("acme")
        await _start(
            built, folder, "controller", ["controller"], identity="controller", key_confirmation="1s"
        )
        await built.ready(f"archive/{SECOND}", "org/acme", "sender/anna")
        receiver = await _start(built, folder, "receiver", ["webhook", "receiver"])
        built.esaw.set_default_callbacks(completed=built.callback_url("acme", receiver), status_change=None)
        envelope = built.esaw.add_envelope(
            sender=anna,
            status="Active",
            documents=[DocumentSpec(name="contract.pdf"), DocumentSpec(name="annex.pdf")],
            metadata="<contract><customer>Rossi</customer></contract>",
        )
        await asyncio.sleep(SETTLED_SECONDS)
        begun = time.time()
        await built.esaw.complete(envelope)
        for _ in range(600):
            (event,) = await built.events() or [{}]
            if event.get("status", {}).get("phase") in ("Succeeded", "Failed", "Skipped"):
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.3)
        if event["status"]["reason"] != "ArchivedAndDeleted":
            raise RuntimeError(f"the envelope was not archived and deleted: {event['status']}")
        ended = time.time()
    return _result([each for each in reader.lines if begun <= each.time <= ended])


async def _start(
    built: LocalEnvironment, folder: Path, name: str, module: list[str], **settings: str
) -> CounterfoilProcess:
    process = CounterfoilProcess.of(
        module,
        kubeconfig=await built.plane.kubeconfig_for(name, built.namespace),
        namespace=built.namespace,
        log=folder / f"{name}.log",
        settings={"sealing_keys": str(built.sealing_keys), **settings},
    )
    process.argv[2:2] = [RECORDER, str(folder / "calls")]
    process.environment["SSL_CERT_FILE"] = str(built.plane.authority)
    built.processes.append(process)
    await process.start()
    return process


def _result(lines: Iterable[Line]) -> Trace:
    files: dict[str, set[str]] = defaultdict(set)
    for each in lines:
        if each.kind == "file" and not each.root.removeprefix("task ").startswith(BACKGROUND):
            files[f"{each.process}: {each.root}"].add(each.text)
    frames = next(each.text.split("|") for each in lines if each.kind == "frames")
    nodes = [Node(int(each.root), *each.text.split("|")) for each in lines if each.kind == "node"]
    return Trace(files, frames, walk_of(nodes))


def walk_of(nodes: Iterable[Node]) -> list[str]:
    """
    Return the modules of ``controller/reconcile`` in the order in which a reader meets them who follows each
    function at its first call. A call and a return to another module are a step.

    A function that was read before is no step, but what it calls now for the first time is.
    """
    callers: dict[int, int] = {}
    modules: dict[int, str] = {}
    read: set[str] = set()
    path: list[int] = []
    steps: list[str] = []
    for node in nodes:
        callers[node.number] = int(node.caller)
        if node.name in read:
            continue
        read.add(node.name)
        if not node.name.startswith("controller/reconcile/"):
            continue
        modules[node.number] = node.name.partition(" ")[0]
        above = int(node.caller)
        while above and above not in modules:
            above = callers.get(above, 0)
        while path and path[-1] != above:
            path.pop()
            steps += [modules[path[-1]]] if path else []
        path.append(node.number)
        steps.append(modules[node.number])
    return [each for each, before in zip(steps, ["", *steps], strict=False) if each != before]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m docs.tools.trace_callback", description=__doc__)
    parser.add_argument("--details", action="store_true", help="print the modules, too")
    details = parser.parse_args().details
    with tempfile.TemporaryDirectory(prefix="counterfoil-trace-") as folder:
        found = asyncio.run(trace(Path(folder)))
    if details:
        for who, modules in sorted(found.files.items()):
            print(f"{who}: {len(modules)}", *sorted(modules), sep="\n    ")
        print("frames:", *found.frames, sep="\n    ")
        print("walk:", *found.walk, sep="\n    ")
    print("| Modules of one callback | Frames of the receiver | Stays of the event | Returns |")
    print("|---:|---:|---:|---:|")
    frames = [each for each in found.frames if each.startswith("webhook/receiver/") and " main" not in each]
    figures = len(set().union(*found.files.values())), len(frames), len(found.walk)
    print("| " + " | ".join(map(str, (*figures, len(found.walk) - len(set(found.walk))))) + " |")


if __name__ == "__main__":
    main()
