"""
One envelope and its events in a hostile world: eSignAnyWhere, the archives and the API server fail, lie and
return at any point of a run, and the controller is killed there.

Each fault is planned by a test. The archives are in memory, and an attempt that hangs lets the time of the
event loop pass at once.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from controller.access.archive_pool import ArchivePool
from controller.access.archive_root import MARKER_NAME, ArchiveMarker
from controller.scheduling.due import due_time
from counterfoil.archives.backend import ArchiveBackend, FileNotStored, StoredEntry
from counterfoil.archives.errors import ArchiveRefused, ArchiveUnavailable
from counterfoil.archives.manifest_signature import ManifestSigner
from counterfoil.esaw import EnvelopeResponse, FilesResponse
from counterfoil.esaw.errors import TransferBroken
from counterfoil.resources import Archive, EnvelopeEvent, EnvelopeStatus, Sender
from tests.support.builders import OTHER_KEY, a_sender, an_event, an_organization, known_to_work
from tests.support.fakes.archives import MemoryBackend
from tests.support.fakes.reconcile_context import (
    MARKER_ID,
    FakeEsawUserClient,
    an_archive,
    probed,
)
from tests.support.scenes.reconciler import EsawOfOne, ReconcilerScene

ACTIONS = [{"action": "envelopeFinished"}, {"action": "workstepFinished"}]
MAX_RUNS_AT_ONCE = 10
"""More runs than an event has before it waits for a time, or for a person."""


class Killed(BaseException):
    """The process was killed: nothing that follows in it happens."""


class HangingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes when somebody waits for what never comes."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead

    async def hang(self, seconds: float) -> None:
        """Wait without an end; this time passes at once."""
        self.ahead += seconds
        await asyncio.Event().wait()


@dataclass
class Points:
    """The points of a run at which something may happen: each request, before it is carried out, and after
    each change."""

    number: int = 0
    kill_at: int | None = None
    is_dead: bool = False

    def begin(self, kill_at: int | None) -> None:
        """Begin a run, which is killed at this point."""
        self.number, self.kill_at, self.is_dead = 0, kill_at, False

    def pass_one(self) -> None:
        self.number += 1
        if self.is_dead or self.number == self.kill_at:
            self.is_dead = True
            raise Killed


class HostileEnvelope(FakeEsawUserClient):
    """ESAW as it answers about the one envelope. It notes each content that it sent completely."""

    def __init__(self, points: Points) -> None:
        super().__init__()
        self.points = points
        self.hidden: set[str] = set()
        """Ids of files that it does not list."""
        self.statuses: list[EnvelopeStatus] = []
        """The answers about the status before it tells the right one."""
        self.breaking: dict[str, int] = {}
        """Number of the next downloads of a file that break off."""
        self.times: dict[str, int] = {}
        """Number of the next requests of an operation that have its problem; all, if it is not here."""
        self.sent: list[tuple[str, bytes]] = []
        """Ids and contents of the files that it sent in this run."""
        self.listed: set[str] = set()
        """Ids of the files that it listed in this run."""
        self.downloads = 0

    def begin(self, operation: str) -> None:
        self.points.pass_one()
        if operation in self.problems and self.times.get(operation, 1) <= 0:
            del self.problems[operation]
        if operation in self.times:
            self.times[operation] -= 1
        super().begin(operation)

    async def envelope(self, envelope: str) -> EnvelopeResponse:
        found = await super().envelope(envelope)
        return msgspec.structs.replace(found, status=self.statuses.pop(0)) if self.statuses else found

    async def files(self, envelope: str) -> FilesResponse:
        everything = self.contents
        self.contents = {name: each for name, each in everything.items() if name not in self.hidden}
        try:
            found = await super().files(envelope)
            self.listed |= set(self.contents)
        finally:
            self.contents = everything
        return found

    async def _hang(self, file_id: str) -> None:
        self.hanging.discard(file_id)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, HangingLoop)
        await loop.hang(48 * 3600)

    def _next_content(self, file_id: str) -> bytes:
        content = super()._next_content(file_id)
        if file_id == "trail-1":
            self.downloads += 1
            content += f" {self.downloads}".encode()
        return content

    async def _chunks(self, file_id: str, content: bytes) -> AsyncIterator[bytes]:
        yield content[:8]
        if self.breaking.get(file_id, 0) > 0:
            self.breaking[file_id] -= 1
            raise TransferBroken("short")
        yield content[8:]
        self.sent.append((file_id, content))


@dataclass
class Shelf(MemoryBackend):
    """An archive of the kind ``filesystem``, in memory. Its ``fault`` begins after ``before`` further
    requests, and ends after ``times`` of them."""

    root: str = "/archive"
    points: Points = field(default_factory=Points)
    fault: str | None = None
    before: int = 0
    times: int = 10_000
    elsewhere: dict[str, bytes] = field(default_factory=dict)
    """The files of the empty folder in the place of a volume that is not mounted."""

    def location(self, name: str) -> str:
        return f"file://{self.root}/{name}"

    def name_of(self, location: str) -> str:
        """Return the name of a file from its location."""
        return location.removeprefix(f"file://{self.root}/")

    def break_down(self, fault: str, before: int, times: int) -> None:
        self.mend()
        self.fault, self.before, self.times = fault, before, times

    def mend(self) -> None:
        self.fault = None
        self.elsewhere.clear()

    def _faults(self, *faults: str) -> bool:
        """Whether one of these faults is there now."""
        return self.before <= 0 and self.fault in faults

    def _begin(self, operation: str) -> None:
        self.points.pass_one()
        if self.before > 0:
            self.before -= 1
        elif self.fault is not None:
            self.times -= 1
            if self.times < 0:
                self.mend()
        if self._faults("unreachable"):
            raise ArchiveUnavailable("ArchiveUnreachable", "It does not answer.")
        if operation in ("read", "entries") and self._faults("unreadable"):
            raise ArchiveUnavailable("ArchiveFailing", "It can't be read.")
        super()._begin(operation)

    @property
    def _present(self) -> dict[str, bytes]:
        return self.elsewhere if self._faults("not mounted") else self.files

    async def entries(self, folder: str) -> list[StoredEntry]:
        self._begin("entries")
        if self._faults("lists nothing"):
            return []
        found = sorted(self._present.items())
        return [StoredEntry(name, len(data)) for name, data in found if name.startswith(f"{folder}/")]

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        self._begin("put")
        if self._faults("full"):
            raise ArchiveUnavailable("ArchiveFull", "No space is left.")
        if self._faults("refuses"):
            raise ArchiveRefused("ArchivePermissionDenied", "It may not be written.")
        data = bytearray()
        async for chunk in chunks:
            data += chunk
            if self._faults("breaks off"):
                raise ArchiveUnavailable("ArchiveUnreachable", "The connection was closed.")
        if self._faults("stores wrong"):
            data = bytearray(b"?") + data[1:]
        self._present[name] = bytes(data)
        self.points.pass_one()
        if self._faults("gives no answer"):
            raise ArchiveUnavailable("ArchiveUnreachable", "The connection was closed.")

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        self._begin("read")
        if name not in self._present:
            raise FileNotStored
        if self._faults("returns nothing") and name != MARKER_NAME:
            raise FileNotStored
        yield self._present[name]

    async def discard(self, name: str) -> None:
        self._begin("discard")
        self._present.pop(name, None)

    async def remove_leftovers(self, folder: str) -> None:
        self._begin("remove_leftovers")


@dataclass
class ShelfPool(ArchivePool):
    """Opens the archives in memory."""

    shelves: Mapping[str, Shelf] = field(default_factory=dict)

    async def backend(self, archive: Archive) -> ArchiveBackend:
        return self.shelves[archive.name]


class HostileScene(ReconcilerScene):
    """One envelope with up to two events, a first archive and that of a copy."""

    def __init__(self, folder: Path, *, is_copied: bool, **spec: Any) -> None:
        self.points = Points()
        self.shelves = {name: Shelf(root=f"/{name}", points=self.points) for name in ("dms", "worm")}
        envelope = HostileEnvelope(self.points)
        self.version = 1
        copies = [{"archiveRef": {"name": "worm"}}] if is_copied else []
        self.spec = {"actions": ACTIONS, "copies": copies, "evidence": {"wait": "10m"}, **spec}
        super().__init__(folder, esaw=EsawOfOne(envelope), **self.spec)
        self.envelope: HostileEnvelope = envelope
        for name, shelf in self.shelves.items():
            shelf.files[MARKER_NAME] = msgspec.json.encode(ArchiveMarker(MARKER_ID))
            self.show_archive(name)
        self.names = [self.event.name]
        self.observe_requests()
        self.kube.at_answer = lambda verb: self.points.pass_one()

    def observe_requests(self) -> None:
        """Let each request to the API server be a point of the run, and nothing else happen at it."""
        self.kube.at_request = lambda verb, name: self.points.pass_one()

    def new_archive_pool(self) -> ArchivePool:
        usual = super().new_archive_pool()
        return ShelfPool(
            usual.kube,
            usual.cache,
            usual.secret_cache,
            usual.clock,
            usual.metrics,
            usual.pod_access,
            shelves=self.shelves,
        )

    def next_version(self) -> int:
        self.version += 1
        return self.version

    def show_archive(self, name: str, **spec: Any) -> None:
        """Let a person change an Archive."""
        version = self.next_version()
        settings = {"filesystem": {"root": f"/{name}"}, **spec}
        self.observe(
            probed(an_archive(name, version=version, generation=version, **settings), f"file:///{name}/")
        )

    def change(self, **spec: Any) -> None:
        """Let a person change the Organization."""
        version = self.next_version()
        self.spec |= spec
        self.observe(an_organization(version=version, generation=version, **self.spec))

    def sign_with(self, signer: ManifestSigner | None) -> None:
        """Let the controller have this signing key."""
        checker = replace(self.preconditions.archives.signature_checker, signer=signer)
        self.change_archives(signature_checker=checker)

    def consent(self) -> None:
        """Let the user give another key."""
        key = f"{self.next_version():04}{OTHER_KEY[4:]}"
        self.secrets.forget("anna-key")
        self.put_key("anna", key)
        self.kube.put(known_to_work(a_sender(), key))
        # It gets a version that is newer than those of the controller's writes.
        self.kube.edit(Sender, "anna", {})
        self.watch()

    def watch(self) -> None:
        """Let the watch report the Sender."""
        self.cache.update(Sender.parse(self.kube.objects[Sender.PLURAL, "anna"]))

    def add_event(self, name: str) -> None:
        """Let eSAW call about another action."""
        event = an_event().for_action("workstepFinished").named(name).build()
        self.kube.put(event)
        self.names.append(name)

    def create_again(self, name: str) -> None:
        """Let a person remove an event, and move all files of the envelope away. A sweep creates the event
        again."""
        spec = self.kube.stored(name).spec
        for shelf in self.shelves.values():
            shelf.files = {each: shelf.files[each] for each in shelf.files if each == MARKER_NAME}
        version = str(10_000 + self.next_version())
        event = an_event().for_action(spec.action).named(name).build()
        metadata = msgspec.structs.replace(event.metadata, resource_version=version, uid=f"uid-{version}")
        self.kube.put(msgspec.structs.replace(event, metadata=metadata))
        self.reconciler.event_changed(event, None)

    def events(self) -> list[EnvelopeEvent]:
        return [self.kube.stored(each) for each in self.names]

    def due(self, name: str) -> datetime | None:
        """Return when the next attempt of an event is due; None: it has ended, or waits for somebody."""
        event = self.kube.stored(name)
        self.cache.update(event)
        return None if event.status.phase.is_final else due_time(event, self.cache, self.clock.now())

    async def run_once(self, name: str) -> bool:
        """Reconcile an event that is due now; whether it was."""
        self.watch()
        due = self.due(name)
        if due is None or due > self.clock.now():
            return False
        await self.reconciler.reconcile(self.kube.stored(name))
        return True

    def wait_for(self, name: str) -> bool:
        """Let the time of an event's next attempt come; whether there is one."""
        due = self.due(name)
        if due is None:
            return False
        self.clock.advance(seconds=max(0.0, (due - self.clock.now()).total_seconds()))
        return True
