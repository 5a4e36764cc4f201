"""
Setup of the measurements: the stand-in eSAW as a separate process, so that its CPU is counted apart, and a
whole Counterfoil around it, whose events this module creates.
"""

import asyncio
import itertools
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
import httpx
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from prometheus_client.parser import text_string_to_metric_families

from controller.resync.event_load import ARCHIVED_OR_FINAL
from counterfoil.kube.client import KubeClient, connect
from counterfoil.kube.errors import ApiError
from counterfoil.kube.watch import WatchEvent
from counterfoil.resources import SENDER_LABEL, EnvelopeEvent, Phase, envelope_id
from counterfoil.resources.event_factory import new_event
from sandbox.controlplane.control_plane import ControlPlane, control_plane
from sandbox.controlplane.ports import free_port
from sandbox.controlplane.processes import ServerProcess
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import DocumentSpec, StandInControl, User
from verification.bench.machine import CoreSplit, cpu_seconds, on_cores

REPOSITORY = Path(__file__).parents[2]
NAMESPACE = "bench"
ORGANIZATION = "acme"
SENDER = "anna"
ARCHIVE = "dms"
READY_SECONDS = 30.0
PAUSE_SECONDS = 0.2
CREATES_AT_ONCE = 16
ESAW_DELAY_SECONDS = 0.2
"""Latency of eSAW with which filing is judged (docs/decisions/0044)."""

LASTING_LEASE: Final = {"lease_duration": "10m", "renew_deadline": "9m"}
"""Settings of a controller that keeps its Lease on a busy machine: after a loss it would repeat work."""

SMALL_ENVELOPE = (DocumentSpec(name="contract.pdf"),)
"""Documents of an envelope of three files: eSAW adds the audit trail as PDF and XML."""


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

    @property
    def plane(self) -> ControlPlane:
        """The API server and its etcd."""
        return self.local_environment.plane

    @property
    def namespace(self) -> str:
        """Of all objects."""
        return self.local_environment.namespace

    async def create_envelopes(
        self,
        count: int,
        documents: Sequence[DocumentSpec] = SMALL_ENVELOPE,
        *,
        ages: Iterable[timedelta] = itertools.repeat(timedelta(0)),
    ) -> list[str]:
        """Create this number of completed envelopes of these ages in eSAW; return their ids."""
        ids, waiting = list[str](), itertools.islice(ages, count)

        async def create() -> None:
            for age in waiting:
                envelope = await self.esaw.control.add_envelope(
                    sender=self.esaw.sender, documents=documents, metadata="<contract/>", sent_ago=age
                )
                ids.append(envelope)

        async with asyncio.TaskGroup() as group:
            for _ in range(CREATES_AT_ONCE):
                group.create_task(create())
        return ids

    async def create_events(self, envelopes: Iterable[str]) -> set[str]:
        """Create the events as the receiver would; return their names."""
        bodies = new_events(envelopes)
        for body in bodies.values():
            await self.kube.create(EnvelopeEvent, body)
        return set(bodies)

    async def delete_events(self, names: Iterable[str]) -> None:
        """Delete events, so that the next round finds none of this one."""
        for name in names:
            await self.kube.delete(EnvelopeEvent, name)

    async def wait_until_succeeded(self, names: Iterable[str]) -> dict[str, float]:
        """Wait until all of these events succeeded; return when each did (``time.perf_counter``), in
        order."""
        pending, times = set(names), dict[str, float]()
        async for change in self.kube.list_and_watch(EnvelopeEvent, fields="status.phase=Succeeded"):
            # Other changes, such as the end of the list, have no object.
            name = change.raw["metadata"]["name"] if change.type in {"ADDED", "MODIFIED"} else None
            if name in pending:
                pending.remove(name)
                times[name] = time.perf_counter()
            if not pending:
                break
        return times

    async def controller(self, name: str, **settings: str) -> CounterfoilProcess:
        """Start a controller that makes one organization as fast as it can be."""
        return await self.local_environment.controller(name, kubeconfig=None, log_level="warning", **settings)

    def cluster_cpu(self) -> float:
        """Return the CPU seconds that API server and etcd have used so far."""
        return sum(cpu_seconds(pid) for pid in self.plane.pids.values())

    @asynccontextmanager
    async def observed_events(
        self, labels: str = f"{SENDER_LABEL}={SENDER}"
    ) -> AsyncIterator["EventProgress"]:
        """Observe the sender's events, or those with these labels; others, such as finished ones of other
        senders, cost nothing here."""
        progress = EventProgress(self.kube, labels)
        try:
            await progress.until(lambda: progress.is_synced)
            yield progress
        finally:
            await progress.end()


class EventProgress:
    """When events changed first since they are observed, and when they succeeded (``time.perf_counter``)."""

    def __init__(self, kube: KubeClient, labels: str) -> None:
        self.changed: dict[str, float] = {}
        """By name of the event, in the order of the changes."""
        self.succeeded: dict[str, float] = {}
        """By name of the event, in the order in which they succeeded."""
        self.unfinished: set[str] = set()
        """Names of the events that are not archived yet."""
        self.most_unfinished = 0
        self.is_synced = False
        self._changed = asyncio.Event()
        self._watching = asyncio.create_task(self._follow(kube, labels))

    async def until_succeeded(self, count: int) -> None:
        """Wait until this number of events succeeded while they were observed. Raises ``RuntimeError`` if an
        event fails."""
        await self.until(lambda: len(self.succeeded) >= count)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition is true after a change. Raises ``RuntimeError`` if an event fails."""
        while not condition():
            self._changed.clear()
            waiting = asyncio.create_task(self._changed.wait())
            await asyncio.wait([waiting, self._watching], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if self._watching.done():
                self._watching.result()

    async def end(self) -> None:
        """End the watch."""
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)

    async def _follow(self, kube: KubeClient, labels: str) -> None:
        while True:
            try:
                async for change in kube.list_and_watch(EnvelopeEvent, labels=labels):
                    if change.type == "SYNCED":
                        self.is_synced = True
                    elif change.type in {"ADDED", "MODIFIED"} and self.is_synced:
                        self._observe(change)
                    self._changed.set()
            except ApiError:
                # The API server ends a watch, and refuses one while its cache is filled.
                await asyncio.sleep(PAUSE_SECONDS)

    def _observe(self, change: WatchEvent) -> None:
        name, now = change.raw["metadata"]["name"], time.perf_counter()
        status = change.raw.get("status", {})
        phase = status.get("phase", Phase.PENDING)
        if change.type == "MODIFIED" or phase != Phase.PENDING:
            self.changed.setdefault(name, now)
        if phase in ARCHIVED_OR_FINAL:
            self.unfinished.discard(name)
        else:
            self.unfinished.add(name)
            self.most_unfinished = max(self.most_unfinished, len(self.unfinished))
        if phase == Phase.SUCCEEDED:
            self.succeeded.setdefault(name, now)
        if phase == Phase.FAILED:
            raise RuntimeError(f"EnvelopeEvent/{name} failed: {status.get('message')}")


def new_events(envelopes: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the events that the receiver would create, by their names."""
    bodies = [
        new_event(
            organization=ORGANIZATION, envelope=envelope_id(each), action="envelopeFinished", sender=SENDER
        )
        for each in envelopes
    ]
    return {body["metadata"]["name"]: body for body in bodies}


async def apply_archive(built: LocalEnvironment, root: Path, concurrency: int, *, signatures: str) -> None:
    """Make the archive, or let it do otherwise about signatures."""
    await built.archive(
        ARCHIVE,
        filesystem={"root": str(root)},
        maxConcurrency=concurrency,
        signatures=signatures,
    )


@asynccontextmanager
async def plane_on_cores(split: CoreSplit, namespace: str = NAMESPACE) -> AsyncIterator[ControlPlane]:
    """Run a control plane on its cores of ``split``, with a namespace; what this thread starts until the end
    has the other cores."""
    async with AsyncExitStack() as stack:
        with on_cores(split.cluster):
            plane = await stack.enter_async_context(control_plane())
        stack.enter_context(on_cores(split.others))
        await plane.apply_crds()
        await plane.namespace(namespace)
        yield plane


@asynccontextmanager
async def bench_setup(
    folder: Path,
    *,
    concurrency: int,
    plane: ControlPlane | None = None,
    namespace: str = NAMESPACE,
    **organization: Any,
) -> AsyncIterator[BenchSetup]:
    """
    Set up the stand-in, and one organization that files into ``folder`` / archive.

    Without ``plane`` with a separate control plane; else in a namespace that exists. ``organization`` are
    further fields of its spec.
    """
    root = folder / "archive"
    root.mkdir()
    async with AsyncExitStack() as stack:
        if plane is None:
            plane = await stack.enter_async_context(plane_on_cores(CoreSplit.shared(), namespace))
        esaw = await stack.enter_async_context(esaw_process(folder))
        kube = await stack.enter_async_context(connect(namespace=namespace, kubeconfig=plane.kubeconfig))
        built = await stack.enter_async_context(
            local_environment(plane, folder, namespace=namespace, public_authorities=True)
        )
        # What we are held against does not examine signatures either.
        await apply_archive(built, root, concurrency, signatures="Ignore")
        await built.organization(
            ORGANIZATION,
            archive=ARCHIVE,
            sender=SENDER,
            # Not the environment's own stand-in, which lives in this process and stays idle.
            baseURL=esaw.control.url,
            limits={"concurrency": concurrency, "perSenderConcurrency": concurrency},
            **organization,
        )
        await built.record_sweep(ORGANIZATION)
        await built.sender(SENDER, esaw.sender, organization=ORGANIZATION)
        yield BenchSetup(built, esaw, kube, root)


@asynccontextmanager
async def api_server_session(
    kubeconfig: Path, connections: int
) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """Connect to the API server of a kubeconfig with nothing around the requests; yield its address, too."""
    configuration = Configuration()
    await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration)
    auth = cast("Mapping[str, Mapping[str, str]]", await configuration.auth_settings())
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    headers |= {each["key"]: each["value"] for each in auth.values()}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=connections, ssl=ApiClient(configuration).rest_client.ssl_context
        ),
        headers=headers,
    ) as session:
        yield session, configuration.host


class MetricSamples:
    """The values of a process's /metrics at one moment."""

    def __init__(self, text: str) -> None:
        self._samples = [
            sample for family in text_string_to_metric_families(text) for sample in family.samples
        ]

    @classmethod
    def of(cls, text: str, name: str) -> "MetricSamples":
        """Read those of one name only: the /metrics of an API server have some ten thousand lines."""
        return cls("".join(f"{line}\n" for line in text.splitlines() if line.startswith(f"{name}{{")))

    def total(self, name: str, **labels: str | Iterable[str]) -> float:
        """Add up the samples of this name; a label may be limited to several values."""
        wanted = {key: {value} if isinstance(value, str) else set(value) for key, value in labels.items()}
        return sum(
            sample.value
            for sample in self._samples
            if sample.name == name
            and all(sample.labels.get(key) in allowed for key, allowed in wanted.items())
        )

    def totals(self, name: str, label: str) -> Counter[str]:
        """Add up the samples of this name by the value of a label."""
        sums = Counter[str]()
        for sample in self._samples:
            if sample.name == name:
                sums[sample.labels[label]] += int(sample.value)
        return sums
