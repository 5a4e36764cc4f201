"""
Setup of the measurements: the stand-in eSAW as a separate process, so that its CPU is counted apart, and a
whole Counterfoil around it, whose events this module creates.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from counterfoil.kube.client import KubeClient, connect
from counterfoil.resources import EnvelopeEvent, envelope_id
from counterfoil.resources.event_factory import new_event
from sandbox.controlplane.control_plane import control_plane
from sandbox.controlplane.ports import free_port
from sandbox.controlplane.processes import ServerProcess
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import StandInControl, User

REPOSITORY = Path(__file__).parents[1]
NAMESPACE = "bench"
ORGANIZATION = "acme"
SENDER = "anna"
ARCHIVE = "dms"
READY_SECONDS = 30.0


@dataclass(frozen=True)
class EsawProcess:
    """The stand-in, and who sends envelopes with it."""

    control: StandInControl
    sender: User
    pid: int


@asynccontextmanager
async def esaw_process(folder: Path) -> AsyncIterator[EsawProcess]:
    """Run the stand-in eSAW as a separate process; its log goes into ``folder``."""
    port = free_port()
    server = ServerProcess(
        [sys.executable, "-m", "sandbox.esaw", "--port", port],
        log=folder / "esaw.log",
        environment={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        async with StandInControl(f"http://127.0.0.1:{port}") as control:
            async with asyncio.timeout(READY_SECONDS):
                await _answers(control)
            anna = await control.add_user(email="anna@example.com", given_name="Anna", surname="Kofler")
            yield EsawProcess(control, anna, server.pid)
    finally:
        await server.terminate(patience=5)


async def _answers(control: StandInControl) -> None:
    while True:
        try:
            await control.organization_id()
        except httpx.TransportError:
            await asyncio.sleep(0.05)
        else:
            return


@dataclass(frozen=True)
class BenchSetup:
    """A Counterfoil without a controller; that is what is measured, so each bench starts its own."""

    local_environment: LocalEnvironment
    esaw: EsawProcess
    kube: KubeClient
    """The administrator's."""
    root: Path
    """Of the archive."""

    async def create_events(self, envelopes: Iterable[str]) -> set[str]:
        """Create the events as the receiver would; return their names."""
        bodies = [
            new_event(
                organization=ORGANIZATION,
                envelope=envelope_id(each),
                action="envelopeFinished",
                sender=SENDER,
            )
            for each in envelopes
        ]
        for body in bodies:
            await self.kube.create(EnvelopeEvent, body)
        return {body["metadata"]["name"] for body in bodies}

    async def wait_until_succeeded(self, names: set[str]) -> list[float]:
        """Wait until all of these events succeeded; return when each did (``time.perf_counter``), in
        order."""
        pending, times = set(names), list[float]()
        async for change in self.kube.list_and_watch(EnvelopeEvent, fields="status.phase=Succeeded"):
            if change.type in {"ADDED", "MODIFIED"} and change.raw["metadata"]["name"] in pending:
                pending.remove(change.raw["metadata"]["name"])
                times.append(time.perf_counter())
            if not pending:
                break
        return times

    async def controller(self, name: str) -> CounterfoilProcess:
        """Start a controller that makes one organization as fast as it can be."""
        return await self.local_environment.controller(name, log_level="warning")


async def apply_archive(built: LocalEnvironment, root: Path, concurrency: int, *, signatures: str) -> None:
    """Make the archive, or let it do otherwise about signatures."""
    await built.archive(
        ARCHIVE,
        filesystem={"root": str(root)},
        maxConcurrency=concurrency,
        signatures=signatures,
    )


@asynccontextmanager
async def bench_setup(folder: Path, *, concurrency: int) -> AsyncIterator[BenchSetup]:
    """Set up a control plane, the stand-in, and one organization that files into ``folder`` / archive."""
    root = folder / "archive"
    root.mkdir()
    async with (
        control_plane() as plane,
        esaw_process(folder) as esaw,
        connect(namespace=NAMESPACE, kubeconfig=plane.kubeconfig) as kube,
    ):
        await plane.apply_crds()
        await plane.namespace(NAMESPACE)
        async with local_environment(plane, folder, namespace=NAMESPACE) as built:
            # What we are held against does not examine signatures either.
            await apply_archive(built, root, concurrency, signatures="Ignore")
            await built.organization(
                ORGANIZATION,
                archive=ARCHIVE,
                sender=SENDER,
                # Not the environment's own stand-in, which lives in this process and stays idle.
                baseURL=esaw.control.url,
                limits={"concurrency": concurrency, "perSenderConcurrency": concurrency},
            )
            await built.sender(SENDER, esaw.sender, organization=ORGANIZATION)
            yield BenchSetup(built, esaw, kube, root)


class MetricSamples:
    """The values of a process's /metrics at one moment."""

    def __init__(self, text: str) -> None:
        self._samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    def total(self, name: str, **labels: str | Iterable[str]) -> float:
        """Add up the samples of this name; a label may be limited to several values."""
        wanted = {key: {value} if isinstance(value, str) else set(value) for key, value in labels.items()}
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name
            and all(sample.labels.get(key) in allowed for key, allowed in wanted.items())
        )
