"""
A scene to break: an environment with one organization, one archive and one sender, and proxies on every way
of the controller.

Nothing waits for a fixed time: ``eventually`` asks until the condition holds, and reports the last result if
it never does.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from counterfoil.archives.backend import TEMPORARY_PREFIX
from counterfoil.archives.names import HASHES_NAME
from counterfoil.clock import utc_text
from counterfoil.kube.client import KubeClient, connect
from counterfoil.resources import EnvelopeEvent, Phase, Sender, find_condition, is_condition_true
from counterfoil.resources.event_factory import new_event
from counterfoil.resources.naming import envelope_id
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.api_proxy import api_proxy, kubeconfig_through
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.environment.processes import CounterfoilProcess, ProcessNotReady
from sandbox.esaw import DocumentSpec, StandIn, User
from sandbox.servers.proxies import Action, Cut, Passage, Proxy, Ticks, asks, stores
from sandbox.servers.s3_rclone import S3Server
from tests.support.archive_contents import ArchiveFolder, proves_itself, sha256_of
from tests.support.pauses import PATIENCE_SECONDS, eventually

T = TypeVar("T")

BUCKET = "contracts"


def kills(process: CounterfoilProcess) -> Action:
    """An action: SIGKILL for the process, and nothing of what it asked or was answered passes any more."""

    async def kill() -> None:
        process.kill()
        raise Cut

    return kill


@dataclass(eq=False)
class Scene:
    """The running processes and their objects; made by ``opened``."""

    local_environment: LocalEnvironment
    kube: KubeClient
    """The administrator's eyes and hands."""
    ticks: Ticks
    api: Proxy
    """The controller's way to the API server."""
    ways: list[Proxy]
    """All such ways, of other controllers too."""
    esaw: Proxy
    """Its way to eSAW."""
    archive_folder: ArchiveFolder
    anna: User
    exits: AsyncExitStack
    s3: Proxy | None = None
    """Its way to the S3 server."""
    envelopes: list[str] = field(default_factory=list)
    """All that there ever were."""

    @property
    def standin(self) -> StandIn:
        """ESAW itself."""
        return self.local_environment.esaw

    # Processes

    async def controller(
        self, name: str = "controller", way: Proxy | None = None, **settings: str
    ) -> CounterfoilProcess:
        """Start a controller that reaches the API server through ``api``, or another proxy."""
        kubeconfig = await self._kubeconfig(name, way or self.api)
        process = await self.local_environment.controller(name, kubeconfig=kubeconfig, **settings)
        await self.local_environment.ready("archive/dms", "organization/acme")
        return process

    async def restart(self, controller: CounterfoilProcess) -> None:
        """Start a controller again that was killed. It need not become ready: the next blow may be
        quicker."""
        with contextlib.suppress(ProcessNotReady):
            await controller.start()

    async def way_to_api(self) -> Proxy:
        """One more proxy before the API server."""
        self.ways.append(
            await self.exits.enter_async_context(api_proxy(self.local_environment.plane, self.ticks))
        )
        return self.ways[-1]

    async def _kubeconfig(self, name: str, way: Proxy) -> Path:
        environment = self.local_environment
        path = environment.folder / f"{name}.kubeconfig"
        return await kubeconfig_through(way, environment.plane, "controller", environment.namespace, path)

    async def receivers(self, number: int) -> list[str]:
        """Start some receivers; the addresses of their callbacks, without the question mark and what
        follows."""
        started = await asyncio.gather(
            *(self.local_environment.receiver(f"receiver-{each}") for each in range(number))
        )
        return [self.local_environment.callback_url("acme", each).partition("?")[0] for each in started]

    # Envelopes and events

    def envelope(self, *sizes: int, **options: Any) -> str:
        """A completed envelope with documents of these sizes, and its audit trail; its id."""
        documents = [
            DocumentSpec(name=f"contract-{number}.pdf", size=size) for number, size in enumerate(sizes, 1)
        ]
        self.envelopes.append(self.standin.add_envelope(sender=self.anna, documents=documents, **options))
        return self.envelopes[-1]

    async def note(self, envelope: str, action: str = "envelopeFinished") -> str:
        """Note an event down as the receiver would; its name."""
        noted = new_event(organization="acme", envelope=envelope_id(envelope), action=action, sender="anna")
        await self.kube.create(EnvelopeEvent, noted)
        return str(noted["metadata"]["name"])

    async def event(self, name: str) -> EnvelopeEvent:
        """The event as it is now."""
        return EnvelopeEvent.parse(await self.kube.get(EnvelopeEvent, name))

    async def events(self) -> list[EnvelopeEvent]:
        """All events as they are now."""
        return [EnvelopeEvent.parse(raw) async for raw in self.kube.list(EnvelopeEvent)]

    async def sender(self) -> Sender:
        """Anna's Sender as it is now."""
        return Sender.parse(await self.kube.get(Sender, "anna"))

    async def ended(self, name: str, within: float = PATIENCE_SECONDS) -> EnvelopeEvent:
        """The event as soon as its phase is final."""

        async def final() -> EnvelopeEvent | None:
            event = await self.event(name)
            return event if event.status.phase.is_final else None

        try:
            return await eventually(final, within=within)
        except AssertionError as never:
            never.add_note(f"{(await self.event(name)).status}")
            raise

    # What must hold

    async def holds(self, name: str) -> None:
        """
        Everything that rules 3 and 4 promise of this event.

        Each document is there once and whole, the manifest covers just what is there, nothing is left over;
        the envelope was deleted, and that was asked only after ``Archived=True`` was stored.
        """
        event = await self.ended(name)
        assert event.status.phase is Phase.SUCCEEDED, event.status
        await self.filed_once(event)
        assert not self.strays()
        self.deleted_last(event)

    def strays(self) -> set[Path]:
        """
        Files in the archive that belong to no envelope, or are incomplete.

        Temporary files in the root are of probes. A controller that is killed during one leaves its file.
        """
        known, root = set(self.envelopes), self.archive_folder.root
        return {
            path
            for path in self.archive_folder.files()
            if (path.parent != root or not path.name.startswith(TEMPORARY_PREFIX))
            and (path.name.startswith(".") or known.isdisjoint(path.relative_to(root).parts))
        }

    async def filed_once(self, event: EnvelopeEvent) -> Path:
        """Check that each document of the event is in the archive once, unchanged, and in the manifest. Its
        folder."""
        files = self.standin.files(event.spec.envelope_id)
        wanted = {each.file_id: self.standin.expected_sha256(each.file_id) for each in files}
        assert {each.file_id: each.sha256 for each in event.status.documents} == wanted
        paths = [self.archive_folder.path(each.location or "") for each in event.status.documents]
        assert [sha256_of(path) for path in paths] == [each.sha256 for each in event.status.documents]
        assert event.status.archive is not None
        folder = self.archive_folder.path(event.status.archive.manifest or "").parent
        assert {each.file_id: each.sha256 for each in self.archive_folder.manifest(folder).files} == wanted
        mine = {path for path in self.archive_folder.files() if event.spec.envelope_id in str(path)}
        assert mine == self.archive_folder.mentions(folder)
        assert (folder / HASHES_NAME).read_text().count("\n") == len(wanted)
        assert await proves_itself(folder) == ""
        return folder

    def deleted_last(self, event: EnvelopeEvent) -> None:
        """The envelope is gone, and each delete was asked for after ``Archived=True`` was stored."""
        envelope = event.spec.envelope_id
        assert is_condition_true(event.status.conditions, "Cleaned")
        assert not self.standin.exists(envelope)
        asked = self.esaw.seen(lambda each: asks("delete")(each) and each.json["EnvelopeId"] == envelope)
        assert asked, "nobody called delete"
        is_stored = self.archived_at(event)
        assert is_stored < min(each.arrived for each in asked), self._told(event)
        assert any(each.outcome == 200 for each in self.standin.delete_calls(envelope))

    def _told(self, event: EnvelopeEvent) -> str:
        """All writes to the event and all deletes of its envelope, in their order, for a person."""
        writes = [each for way in self.ways for each in way.passages if f"/{event.name}/" in f"{each.path}/"]
        deletes = self.esaw.seen(asks("delete"))
        ours = [*writes, *(each for each in deletes if each.json["EnvelopeId"] == event.spec.envelope_id)]
        return "\n".join(map(str, sorted(ours, key=lambda each: each.arrived)))

    def archived_at(self, event: EnvelopeEvent) -> int:
        """When the API server stored ``Archived=True``. With several controllers, the moment before: another
        controller can read what is stored before its writer has the answer."""
        writes = [each for way in self.ways for each in way.seen(stores(true="Archived"))]
        stored = [each for each in writes if each.stored(event.name)]
        moments = [each.answered if len(self.ways) == 1 else each.arrived for each in stored]
        return min([*moments, *(each.arrived for each in writes if _is_stored_unanswered(each, event))])


def _is_stored_unanswered(write: Passage, event: EnvelopeEvent) -> bool:
    """Whether the API server stored this ``Archived=True`` and was killed before it answered: the event still
    has the time of this write."""
    if write.answered or f"/{event.name}/" not in write.path:
        return False
    [written] = [each for each in write.json["status"]["conditions"] if each["type"] == "Archived"]
    stored = find_condition(event.status.conditions, "Archived")
    return stored is not None and written["lastTransitionTime"] == utc_text(stored.last_transition_time)


@asynccontextmanager
async def opened(
    plane: ControlPlane, namespace: str, folder: Path, *, s3: S3Server | None = None, **organization: Any
) -> AsyncIterator[Scene]:
    """Set a scene; the archive is a folder, or the server ``s3`` with its own prefix."""
    async with AsyncExitStack() as exits:
        ticks = Ticks()
        built = await exits.enter_async_context(local_environment(plane, folder, namespace=namespace))
        kube = await exits.enter_async_context(connect(namespace=namespace, kubeconfig=plane.kubeconfig))
        anna = built.esaw.add_user(email="anna@example.com", given_name="Anna", surname="Kofler")
        api = await exits.enter_async_context(api_proxy(plane, ticks))
        scene = Scene(
            local_environment=built,
            kube=kube,
            ticks=ticks,
            api=api,
            ways=[api],
            esaw=await exits.enter_async_context(Proxy(built.esaw.url, ticks=ticks)),
            archive_folder=_archive_folder(folder, namespace, s3),
            anna=anna,
            exits=exits,
        )
        await _archive(scene, s3)
        settings = {"baseURL": scene.esaw.url, **organization}
        await built.organization("acme", archive="dms", sender="anna", **settings)
        await built.record_sweep("acme")
        await built.sender("anna", anna, organization="acme")
        yield scene


def _archive_folder(folder: Path, namespace: str, s3: S3Server | None) -> ArchiveFolder:
    if s3 is None:
        root, base = folder / "archive", f"file://{folder / 'archive'}"
    else:
        root, base = s3.folder / BUCKET / namespace, f"s3://{BUCKET}/{namespace}"
    root.mkdir()
    return ArchiveFolder(root, base)


async def _archive(scene: Scene, s3: S3Server | None) -> None:
    if s3 is None:
        await scene.local_environment.archive("dms", filesystem={"root": str(scene.archive_folder.root)})
        return
    scene.s3 = await scene.exits.enter_async_context(Proxy(s3.url, ticks=scene.ticks))
    await scene.local_environment.secret(
        "dms-key", "archive", accessKeyId=s3.access_key, secretAccessKey=s3.secret_key
    )
    await scene.local_environment.archive(
        "dms",
        s3={
            "bucket": BUCKET,
            "prefix": scene.local_environment.namespace,
            "region": "eu-central-1",
            "endpoint": scene.s3.url,
            "forcePathStyle": True,
            "credentialsSecretRef": {"name": "dms-key"},
        },
    )
