"""
A reconcile context for tests: an eSAW user and an archive in memory, with the interfaces of the real ones.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
from msgspec import Raw, structs

from controller.access.archive_root import MARKER_NAME, ArchiveMarker
from controller.access.history_access import HistoryAccess
from controller.file_list_ceiling import FileListCeiling
from controller.reconcile.context import (
    CopyAccess,
    Destination,
    ReconcileContext,
    RunContext,
    SiblingEvents,
)
from controller.reconcile.fence import Fence
from controller.reconcile.outcomes import Hold, Outcome, Wait
from controller.reconcile.signature_policy import SignatureChecker
from counterfoil.archives.layout import EnvelopeFacts, check, envelope_fields
from counterfoil.archives.manifest_signature import ManifestSigner
from counterfoil.archives.tags import FoundTags, find
from counterfoil.archives.tags_subprocess import TagWorkers
from counterfoil.esaw import (
    ApiToken,
    ConfigurationResponse,
    EnvelopeResponse,
    EsawUserClient,
    FileDownload,
    FilesResponse,
    HistoryResponse,
    HttpStatusError,
    WhoAmI,
)
from counterfoil.esaw.models import (
    AuditTrail,
    HistoryEvent,
    ListedDocument,
    ListedLegalDocument,
    SenderUserInformation,
)
from counterfoil.esaw.transport import EsawCall, EsawTransport
from counterfoil.resources import Archive, ArchiveRoot, EnvelopeEvent, EnvelopeStatus, Organization
from counterfoil.resources.archive import ArchiveSpec, TagRule
from counterfoil.resources.routes import Choice
from counterfoil.signatures.anchors import NO_ANCHORS, Anchors
from counterfoil.signatures.results import Signatures, State
from counterfoil.signatures.worker_pool import SignatureWorkers
from tests.support.builders import ANNA, ENVELOPE, ORIGIN, AClock, a_sender, an_organization
from tests.support.fakes.archives import MemoryBackend
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.leases import held_shards

T = TypeVar("T")

TOKEN = "t" * 66


def missing(error_id: str = "ERR0007") -> HttpStatusError:
    return HttpStatusError(404, error_id)


class FakeEsawUserClient(EsawUserClient):
    """ESAW as the sender of one envelope sees it. ``problems`` are raised by the operation of that name."""

    def __init__(self) -> None:
        self.token = ApiToken.parse(TOKEN, ORIGIN)
        self.user_id = ANNA
        self.status = EnvelopeStatus.COMPLETED
        self.contents: dict[str, bytes] = {"file-1": b"%PDF-contract", "trail-1": b"%PDF-trail"}
        self.in_turn: dict[str, Iterator[bytes]] = {}
        """Contents of the next downloads of a file, before those of ``contents``."""
        self.names: dict[str, str] = {}
        """Names of files by id, where they are not made of it."""
        self.renders_anew = False
        """Each download of a document has other bytes."""
        self.papers: set[str] = set()
        """The files that are legal documents."""
        self.deleted = False
        self.remembered = True
        self.metadata: str | None = None
        self.problems: dict[str, Exception] = {}
        self.asked: list[str] = []
        self.deleted_for_history = False
        """It was deleted just now, and what was asked before still stands."""
        self.activities = b"[]"
        """The steps of the workflow, as JSON."""
        self.sent_text: str | None = None
        self.sender: SenderUserInformation | None = None
        """The sender that eSAW names."""
        self.failed: HistoryEvent | None = None
        """The step of the history that is in an error state."""
        self.meanwhile: dict[str, Callable[[], None]] = {}
        """Called once, when the operation of that name begins."""
        self.hanging: set[str] = set()
        """Ids of files whose downloads do not begin."""
        self.transport: FakeEsawTransport = FakeEsawTransport(self)

    def begin(self, operation: str) -> None:
        self.asked.append(operation)
        self.meanwhile.pop(operation, lambda: None)()
        if operation in self.problems:
            raise self.problems[operation]
        if self.deleted and operation != "history":
            raise missing()

    def but(self, operation: str, problem: Exception) -> Self:
        self.problems[operation] = problem
        return self

    async def whoami(self) -> WhoAmI:
        self.begin("whoami")
        return WhoAmI(user_id=self.user_id)

    async def envelope(self, envelope: str) -> EnvelopeResponse:
        self.begin("envelope")
        return EnvelopeResponse(
            id=envelope,
            status=self.status,
            name_text="Contract",
            sent_text=self.sent_text,
            sender=self.sender,
            workflow=Raw(self.activities),
        )

    async def configuration(self, envelope: str) -> ConfigurationResponse:
        self.begin("configuration")
        return ConfigurationResponse(metadata=self.metadata)

    async def files(self, envelope: str) -> FilesResponse:
        self.begin("files")
        papers = [name for name in self.contents if name in self.papers or name.startswith("legal")]
        documents = [name for name in self.contents if name.startswith("file") and name not in papers]
        return FilesResponse(
            documents=tuple(
                ListedDocument(
                    file_id=each, file_name=self.names.get(each, f"{each}.pdf"), document_number=number
                )
                for number, each in enumerate(documents, start=1)
            ),
            audit_trail=AuditTrail(file_id="trail-1" if "trail-1" in self.contents else None),
            legal_documents=tuple(
                ListedLegalDocument(file_id=each, file_name=f"{each}.pdf") for each in papers
            ),
        )

    async def history(self, envelope: str) -> HistoryResponse:
        self.begin("history")
        if not self.remembered:
            raise missing()
        return HistoryResponse(envelope_has_been_deleted=self.deleted or self.deleted_for_history)

    async def failed_step(self, envelope: str) -> HistoryEvent | None:
        self.begin("history")
        return self.failed

    @asynccontextmanager
    async def _open(self, file_id: str) -> AsyncIterator[FileDownload]:
        self.begin(f"download {file_id}")
        if file_id in self.hanging:
            await self._hang(file_id)
        content = self._next_content(file_id)
        chunks = self._chunks(file_id, content)
        yield FileDownload(size=len(content), content_type="application/pdf", chunks=chunks, is_named=True)

    async def _hang(self, file_id: str) -> None:
        """Wait without an end."""
        await asyncio.Event().wait()

    def _next_content(self, file_id: str) -> bytes:
        """Return what the next download of a file has."""
        content = next(self.in_turn.get(file_id, iter(())), self.contents[file_id])
        if self.renders_anew and file_id.startswith("file"):
            content += f" of download {len(self.asked)}".encode()
        return content

    def _chunks(self, file_id: str, content: bytes) -> AsyncIterator[bytes]:
        """Return the pieces in which a file arrives."""
        return _once(content)

    def download(self, file_id: str) -> Any:
        return self._open(file_id)


class FakeEsawTransport(EsawTransport):
    """Takes the one call that changes something."""

    def __init__(self, user: FakeEsawUserClient) -> None:
        self._user = user
        self.deleted: list[str] = []
        self.just_before: Callable[[], None] = lambda: None
        """Looks around just before the envelope is deleted."""
        self.is_another_program = False
        """Another program answers with an empty 200, and nothing is deleted."""

    async def request(self, call: EsawCall, token: ApiToken | None, read: Callable[[bytes], T]) -> T:
        self._user.begin(call.operation)
        self.just_before()
        self.deleted.append((call.body or {})["EnvelopeId"])
        self._user.deleted = not self.is_another_program
        return read(b"")


class FakeSignatureCheck(SignatureWorkers):
    """Returns the same result for every PDF, unless ``found`` has another one for its content."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.says = Signatures(state=State.UNSIGNED, detail="it has no signature")
        self.found: dict[bytes, Signatures] = {}
        self.just_before: Callable[[], object] | None = None
        """Called once, before the file is read."""

    async def examine(
        self, chunks: AsyncIterable[bytes], size: int, anchors: Anchors = NO_ANCHORS, *, source: str = ""
    ) -> Signatures:
        if self.just_before is not None:
            self.just_before()
            self.just_before = None
        content = b"".join([chunk async for chunk in chunks])
        self.asked.append(content)
        return self.found.get(content, self.says)


class FakeTagWorkers(TagWorkers):
    """Evaluates the rules here: the metadata of these tests is harmless."""

    async def collect(self, spec: ArchiveSpec, envelope: EnvelopeFacts) -> dict[str, str]:
        check(spec)
        return (await self.evaluate(spec.tags, envelope)).values

    async def evaluate(self, rules: Mapping[str, TagRule], envelope: EnvelopeFacts) -> FoundTags:
        return find(rules, envelope.metadata_text, envelope_fields(envelope), envelope.parameters)


def an_archive(name: str = "dms", *, version: int = 1, generation: int = 1, **spec: Any) -> Archive:
    return Archive.parse(
        {
            "metadata": {
                "name": name,
                "uid": f"uid-{name}",
                "resourceVersion": str(version),
                "generation": generation,
            },
            "spec": {"filesystem": {"root": "/archive"}, **spec},
        }
    )


MARKER_ID = "1" * 32
"""Id in the marker of an archive that was probed."""


def a_probed_archive(
    name: str = "dms", *, root: Path | None = None, marker_id: str = MARKER_ID, **more: Any
) -> Archive:
    """Return an Archive whose first probe succeeded. A folder that is its ``root`` gets the marker."""
    if root is not None:
        more["filesystem"] = {"root": str(root)}
        (root / MARKER_NAME).write_bytes(msgspec.json.encode(ArchiveMarker(marker_id)))
    return probed(an_archive(name, **more), marker_id=marker_id)


def probed(archive: Archive, location: str | None = None, marker_id: str = MARKER_ID) -> Archive:
    """Return the Archive as after its first probe; without a ``location`` it is a folder."""
    settings = archive.spec.settings
    root = ArchiveRoot(location=location or f"{settings.destination}/", marker_id=marker_id)
    status = structs.replace(archive.status, destination=settings.destination, root=root)
    return structs.replace(archive, status=status)


class OpenFence(Fence):
    """Lets every write pass."""

    async def check(self) -> None:
        return None

    async def check_recently(self) -> None:
        return None

    async def confirmed(self) -> EnvelopeEvent:
        return self.event


@dataclass
class FakeCopyAccess(CopyAccess):
    """Archives of copies without limits."""

    usable: Mapping[str, Destination]
    suspended: Collection[str]

    def copy_hold(self, name: str) -> Hold | None:
        return Hold("ArchiveSuspended", "A person suspended it.") if name in self.suspended else None

    async def open_copy(self, context: RunContext, name: str) -> Destination | Outcome:
        missing = Wait("ArchiveMissing", f"Archive/{name} of a copy does not exist.")
        return self.usable.get(name, missing)

    async def leave_copies(self, context: RunContext) -> bool:
        return True

    def has_copy_slot(self, context: RunContext, name: str) -> bool:
        return False


class Scene:
    """One event, its envelope, its archive and its reconcile context."""

    def __init__(self, **organization: Any) -> None:
        self.clock = AClock()
        self.esaw = FakeEsawUserClient()
        self.backend = MemoryBackend()
        self.organization: Organization = an_organization(**organization)
        self.archive = an_archive()
        self.sender = a_sender()
        self.counted: list[int] = []
        self.examiner = FakeSignatureCheck()
        self.signer: ManifestSigner | None = None
        self.anchors = NO_ANCHORS
        self.sibling_events: list[EnvelopeEvent] = []
        self.file_lists = FileListCeiling(lambda name: None)
        self.copies: dict[str, Destination] = {}
        """The Archives of copies that can be used."""
        self.suspended: set[str] = set()

    def context(self, event: EnvelopeEvent) -> ReconcileContext:
        return ReconcileContext(
            event=event,
            organization=self.organization,
            sender=self.sender,
            destination=Destination(
                archive=self.archive,
                choice=Choice(self.archive.name, None),
                backend=self.backend,
                check_root=_nothing_to_check,
                signature_checker=SignatureChecker(self.examiner, self.signer, self.anchors),
                on_file_archived=self.counted.append,
            ),
            copies=FakeCopyAccess(self.copies, self.suspended),
            find_destination=_no_routes,
            fence=OpenFence(InMemoryKubeClient(event), held_shards(), self.clock, event),
            esaw=self.esaw,
            clock=self.clock,
            tag_workers=FakeTagWorkers(),
            sibling_events=self._sibling_events,
            find_archive={self.archive.name: self.archive}.get,
            find_changed=_no_change,
            history_access=HistoryAccess(self.clock),
            file_lists=self.file_lists,
        )

    async def _sibling_events(self) -> SiblingEvents:
        return SiblingEvents(tuple(self.sibling_events))


FOLDER = f"acme/{ENVELOPE}"


async def _nothing_to_check() -> None:
    return None


async def _no_change(_: Sequence[Archive]) -> None:
    return None


async def _no_routes(context: ReconcileContext) -> Destination | Outcome:
    return context.chosen


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
