"""
The context of one run over one event: everything that a phase may use, determined before the first phase
starts.

Each question to eSAW is asked once per run and the answer is kept here, except the list of files before a
delete (``files_now``); a run that resumes in a later phase (after a restart) asks again. The context writes
nothing.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol
from urllib.parse import unquote

import msgspec

from controller.access.history_access import HistoryAccess
from controller.file_list_ceiling import FileListCeiling
from controller.kept_metadata import with_kept_metadata
from controller.reconcile.fence import Fence
from controller.reconcile.outcomes import Hold, Outcome, SideCondition
from controller.reconcile.signature_policy import SignatureChecker
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.errors import ArchiveError
from counterfoil.archives.layout import (
    ActionFacts,
    ArchiveLayout,
    EnvelopeFacts,
    FileFacts,
    is_tag_in_path,
    make_layout_aside,
)
from counterfoil.archives.tags_subprocess import TagWorkers
from counterfoil.clock import Clock, believed_time, utc_text
from counterfoil.esaw.client import EsawUserClient
from counterfoil.esaw.downloads import checked_download
from counterfoil.esaw.errors import NotProven
from counterfoil.esaw.models import EnvelopeFile, EnvelopeResponse
from counterfoil.esaw.models_v5 import V5EnvelopeResponse, covers
from counterfoil.esaw.transport import FileDownload
from counterfoil.origin import origin_of
from counterfoil.resources import (
    IMPORT_LABEL,
    MAX_DOCUMENTS,
    Archive,
    EnvelopeEvent,
    FiledDocument,
    FileKind,
    Organization,
    Origin,
    Sender,
    find_condition,
    is_condition_true,
    with_condition,
)
from counterfoil.resources.conditions import transition_time
from counterfoil.resources.envelopeevent import DELETE_REQUESTED_CONDITION, DELETE_UNCONFIRMED, AwaitedArchive
from counterfoil.resources.routes import (
    Choice,
    documents_in,
    has_places,
    keeps_choice,
    required_copy_names,
    stored_choice,
)
from counterfoil.untrusted.json_bounds import text_memory

MAX_SIBLINGS_MEMORY = 32 * 1024 * 1024
"""Bytes of memory, about, of the other events of an envelope in one run. Who can call chooses their number.
Ten events with the longest lists, each in another folder, need less."""

MEMORY_OF_SIBLING = 8 * 1024
"""Bytes of memory of an event, about, without its texts and its list of files."""

MEMORY_OF_LISTED_FILE = 256
"""Bytes of memory of a file in a list, about, without its texts."""


class PartialArchive(Exception):
    """Archiving stopped early; ``documents`` are the files that were archived before the cause."""

    def __init__(self, documents: tuple[FiledDocument, ...]) -> None:
        super().__init__("archiving broke off")
        self.documents = documents


class TooManyFiles(Exception):
    """The envelope has more files than an event takes. The message is for people."""

    def __init__(self, count: int) -> None:
        super().__init__(f"The envelope has {count} files, and an event takes {MAX_DOCUMENTS} at most.")


class TooManyEvents(Exception):
    """The other events of the envelope need more memory than one run may take. The message is for people."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"The envelope has {count} other events or more, and with their lists of files they are larger "
            f"than {MAX_SIBLINGS_MEMORY // 2**20} MiB. Counterfoil reads no more of them for one event. "
            "If the callback URL leaked, rotate its token. Then remove the forged events that failed or "
            "archived nothing, and retry this event."
        )


class SiblingEvents(NamedTuple):
    """The other events of an envelope."""

    events: tuple[EnvelopeEvent, ...]
    unreadable: str = ""
    """Description of an event that can't be read; empty: each was read."""


@dataclass
class SiblingCollector:
    """Collects the other events of an envelope in bounded memory, without labels and annotations that nobody
    reads. Most of them list the same files, which are kept once."""

    most: int = MAX_SIBLINGS_MEMORY
    """Bytes of memory, about."""
    events: list[EnvelopeEvent] = field(default_factory=list)
    _lists: dict[tuple[FiledDocument, ...], tuple[FiledDocument, ...]] = field(default_factory=dict)
    _files: dict[FiledDocument, FiledDocument] = field(default_factory=dict)
    _memory: int = 0

    def add(self, event: EnvelopeEvent) -> None:
        """Keep an event. Raises ``TooManyEvents``."""
        event = with_kept_metadata(event)
        documents = tuple(map(self._shared, event.status.documents))
        documents = self._lists.setdefault(documents, documents)
        status = msgspec.structs.replace(event.status, documents=())
        self._memory += MEMORY_OF_SIBLING + text_memory(event.metadata, event.spec, status)
        if self._memory > self.most:
            raise TooManyEvents(len(self.events) + 1)
        status = msgspec.structs.replace(status, documents=documents)
        self.events.append(msgspec.structs.replace(event, status=status))

    def _shared(self, document: FiledDocument) -> FiledDocument:
        if (known := self._files.get(document)) is not None:
            return known
        self._files[document] = document
        self._memory += MEMORY_OF_LISTED_FILE + text_memory(document)
        return document


@dataclass(frozen=True)
class Destination:
    """The Archive of a run, and what reads and writes there."""

    archive: Archive
    choice: Choice
    backend: ArchiveBackend
    """Its writes are fenced by the run's fence."""
    check_root: Callable[[], Awaitable[None]]
    """Reads the marker in the root of the archive again. Raises ``ArchiveError`` if it is another root."""
    signature_checker: SignatureChecker
    on_file_archived: Callable[[int], None]
    """Receives the size of each archived file in bytes."""


@dataclass
class RunContext:
    """The objects and clients of each run over one event. The phase Copying needs no others: it does not ask
    eSAW."""

    event: EnvelopeEvent
    organization: Organization
    destination: Destination | None
    """None before routes or an Import have decided (``choose_archive``)."""
    fence: Fence
    clock: Clock
    find_archive: Callable[[str], Archive | None]
    """Returns an Archive by its name; None: there is none."""
    copies: "CopyAccess"
    sibling_events: Callable[[], Awaitable[SiblingEvents]]
    """Lists the other events of this envelope, including finished ones. Raises ``ApiError``,
    ``TooManyEvents``."""
    attempt_limit: timedelta = field(init=False)
    """Maximum duration of the phase in this attempt. ``PhaseRunner`` sets it for each one."""
    verified_copies: dict[str, str] = field(default_factory=dict, init=False)
    """By Archive of a copy: the digest of the files that this run read there (``proof.documents_digest``)."""
    copy_archives: dict[str, Archive] = field(default_factory=dict, init=False)
    """By name: the Archives of copies, as this run opened them last."""
    _siblings: SiblingEvents | None = field(default=None, init=False)

    @property
    def chosen(self) -> Destination:
        """The Archive of the run. Raises ``LookupError`` before it is known."""
        if self.destination is None:
            raise LookupError("the routes have not decided yet")
        return self.destination

    @property
    def archive(self) -> Archive:
        """The Archive. Raises ``LookupError`` before it is known."""
        return self.chosen.archive

    @property
    def archive_name(self) -> str:
        """The Archive for messages, also before it is known."""
        return f"Archive/{self.archive.name}" if self.destination is not None else "the archive"

    @property
    def backend(self) -> ArchiveBackend:
        """The backend of the Archive. Raises ``LookupError`` before it is known."""
        return self.chosen.backend

    @property
    def signature_checker(self) -> SignatureChecker:
        """The check of signatures by the rules of the Archive. Raises ``LookupError`` before it is known."""
        return self.chosen.signature_checker

    @property
    def may_have_siblings(self) -> bool:
        """Whether the envelope may have other events, also of actions that the Organization no longer
        lists, and of persons, or had some."""
        return self.organization.may_have_several_events or self.event.is_of_a_person

    async def siblings(self) -> tuple[EnvelopeEvent, ...]:
        """
        Return the other events of this envelope, oldest first, as they were when this run last listed them.

        None of them runs at the same time (rule 5). One that can't be read is left out. Raises ``ApiError``,
        ``TooManyEvents``.
        """
        return (await self._sibling_events()).events

    async def siblings_of_any_action(self) -> tuple[EnvelopeEvent, ...]:
        """Return the other events of this envelope, also those of actions that the Organization no longer
        lists, and of persons; none, and without a request, if it never had such events. Raises as
        ``siblings``."""
        return await self.siblings() if self.may_have_siblings else ()

    async def _sibling_events(self) -> SiblingEvents:
        if self._siblings is None:
            found, own = await self.sibling_events(), self.event.spec
            same = (each for each in found.events if each.spec.envelope_id == own.envelope_id)
            self._siblings = found._replace(events=tuple(sorted(same, key=_creation)))
        return self._siblings

    def known_facts(self, event: EnvelopeEvent) -> EnvelopeFacts:
        """Return the facts of an archived envelope that are known without eSAW and without an archive."""
        envelope, organization = event.status.envelope, self.organization
        return EnvelopeFacts(
            organization=organization.name,
            envelope_id=event.spec.envelope_id,
            name=envelope.name if envelope is not None else "",
            status=envelope.status if envelope is not None else "",
            namespace=event.metadata.namespace or "",
            origin=origin_of(organization.spec.base_url),
        )

    async def open_copy(self, archive: str) -> Destination | Outcome:
        """Open the Archive of a copy, and let the run continue under its limit; or return why it can't be
        used now. Raises ``ApiError``."""
        opened = await self.copies.open_copy(self, archive)
        if isinstance(opened, Destination):
            self.copy_archives[archive] = opened.archive
        return opened


class CopyAccess(Protocol):
    """The way to the Archives of copies."""

    def copy_hold(self, name: str) -> Hold | None:
        """Return why a person holds the copy in this Archive; None: nobody does."""

    async def open_copy(self, context: RunContext, name: str) -> Destination | Outcome:
        """Open the Archive of a copy, and let the run continue under its limit; or return why it can't be
        used now. Raises ``ApiError``."""

    async def leave_copies(self, context: RunContext) -> bool:
        """Let the run continue under the limit of its first Archive. False: there is no room, and the run has
        to end."""

    def has_copy_slot(self, context: RunContext, name: str) -> bool:
        """Return whether the run continues under the limit of this Archive now."""

    def first_hold(self, names: Iterable[str]) -> Hold | None:
        """Return why a person holds the first of these copies that is held; None: none is."""
        return next((hold for each in names if (hold := self.copy_hold(each)) is not None), None)


@dataclass
class ReconcileContext(RunContext):
    """The objects, clients and answers of one run over one event."""

    sender: Sender
    find_destination: Callable[["ReconcileContext"], Awaitable[Destination | Outcome]]
    """Lets the routes and the Import decide. Raises ``EsawError``, ``ApiError``, ``ArchiveError``."""
    esaw: EsawUserClient
    tag_workers: TagWorkers
    find_changed: Callable[[Sequence[Archive]], Awaitable[str | None]]
    """Returns which of Organization, Sender and these Archives is another one in the API server than in this
    run, or has another spec, as in ``Sender/anna``; None: none. A run may last hours. Raises
    ``ApiError``."""
    history_access: HistoryAccess
    file_lists: FileListCeiling
    choice: Choice | None = field(default=None, init=False)
    """The Archive that the routes chose in this run, also if it can't be used now."""
    awaited: AwaitedArchive | None = field(default=None, init=False)
    """The Archive that the event waits for if this run ends now, and which it has not chosen itself: another
    event has files there, or it has to be asked first whether it has the envelope."""
    side_conditions: list[SideCondition] = field(default_factory=list, init=False)
    """Conditions that are stored however the attempt ends, also with an error."""
    unconfirmed: Callable[[], tuple[FiledDocument, ...]] | None = field(default=None, init=False)
    """Returns the files of the status with the contents that eSAW sent in this attempt, which may not be in
    the archive. None: the attempt sent none."""
    verified: tuple[FiledDocument, ...] = field(default=(), init=False)
    """The files whose bytes this run read in the archive, with a manifest that lists them."""
    is_shown: bool = field(default=False, init=False)
    """Whether eSAW showed the envelope in this run."""
    _envelope: EnvelopeResponse | None = field(default=None, init=False)
    last_list: tuple[EnvelopeFile, ...] = field(default=(), init=False)
    """The files as eSAW listed them last in this run."""
    _listed: tuple[EnvelopeFile, ...] | None = field(default=None, init=False)
    _layout: ArchiveLayout | None = field(default=None, init=False)
    _facts: EnvelopeFacts | None = field(default=None, init=False)

    async def changed_object(self) -> str | None:
        """Return which of Organization, Sender, Archive and Archives of required copies is not as this run
        found it any more; None: each is. Raises ``ApiError``."""
        required = required_copy_names(self.organization.spec.copies)
        copies = (self.copy_archives.get(each) for each in required)
        return await self.find_changed([self.archive, *(each for each in copies if each is not None)])

    async def choose_archive(self) -> Outcome | None:
        """
        Determine the Archive if it is not known for certain; return the outcome that ends the attempt if it
        can't be used. Raises as ``find_destination``.
        """
        if self.destination is None or self._may_be_elsewhere:
            found = await self.find_destination(self)
            if not isinstance(found, Destination):
                return found
            self.destination = found
        return None

    @property
    def _may_be_elsewhere(self) -> bool:
        """Whether another event may have files of the envelope elsewhere, or one that was removed may have
        archived it in an Archive that an Import names."""
        status = self.event.status
        if keeps_choice(status):
            return False
        is_new = stored_choice(status) is None and not has_places(status)
        return self.may_have_siblings or (is_new and IMPORT_LABEL in self.event.metadata.labels)

    def evidence_deadline(self, event: EnvelopeEvent) -> datetime:
        """Return until when eSAW's list may lack files: spec.evidence.wait after it first reported the
        envelope's status."""
        return self.since(event, "Validated") + self.organization.spec.evidence.wait

    def since(self, event: EnvelopeEvent, type_: str) -> datetime:
        """
        Return since when a condition has its status, which is not before the event's creation; now if the
        event has no such condition.

        A time that can't be right is now as well. It is stored with the outcome, so that what is counted from
        it ends.
        """
        condition, now = find_condition(event.status.conditions, type_), self.clock.now()
        if condition is None:
            return now
        if believed_time(condition.last_transition_time, now) is None:
            stated = SideCondition(type_, condition.status, condition.reason, condition.message)
            self.side_conditions.append(stated)
        return transition_time(condition, event.metadata.creation_timestamp, now)

    async def envelope(self) -> EnvelopeResponse:
        """Return the envelope as eSAW describes it in this run."""
        if self._envelope is None:
            self._envelope = await self.envelope_now()
        return self._envelope

    async def envelope_now(self) -> EnvelopeResponse:
        """Ask eSAW for the envelope again; it may have been restarted since the beginning of this run."""
        envelope = await self.esaw.envelope(self.event.spec.envelope_id)
        await self._record_shown()
        return envelope

    @property
    def may_have_deleted(self) -> bool:
        """Whether an earlier run sent a request to delete the envelope, and eSAW did not show it after that,
        also not in this run."""
        return self.event.status.may_have_deleted and not self.is_shown

    async def _record_shown(self) -> None:
        """
        Record that eSAW shows the envelope: an earlier request to delete it had no effect.

        It is stored at once, because others may delete the envelope while this run downloads its files, and
        this process may be killed. Raises ``LeaseLost``, ``Superseded``, ``ApiError``.
        """
        is_refuted, self.is_shown = self.may_have_deleted, True
        if not is_refuted:
            return
        message = "eSignAnyWhere showed the envelope after the request to delete it."
        refuted = SideCondition(DELETE_REQUESTED_CONDITION, "False", DELETE_UNCONFIRMED, message)
        # The outcome states it as well: it is not known whether a write that fails was stored.
        self.side_conditions.append(refuted)
        await self.record(refuted)

    async def record(self, condition: SideCondition) -> None:
        """
        Store a condition now, not only with the outcome: a later run must know of it after a kill, too.

        Raises ``LeaseLost``, ``Superseded``, ``ApiError``.
        """
        known, now = self.fence.event.status.conditions, self.clock.now()
        stated = (condition.type, condition.status, condition.reason, condition.message)
        generation = self.event.metadata.generation
        await self.fence.record(with_condition(known, *stated, now=now, generation=generation))

    async def envelope_facts(self) -> EnvelopeFacts:
        """Return the facts from which path and tags are built."""
        if self._facts is None:
            envelope = await self.envelope()
            metadata = (await self.esaw.configuration(self.event.spec.envelope_id)).metadata
            sender, named = self.sender.spec, envelope.sender
            self._facts = EnvelopeFacts(
                organization=self.organization.name,
                envelope_id=self.event.spec.envelope_id,
                name=envelope.name,
                status=envelope.status,
                sender_email=sender.email or (named.email if named else "") or "",
                sender_user_id=sender.user_id,
                sender_name=sender.full_name,
                sent_by_email=(named.email if named else "") or "",
                sent_by_name=named.full_name if named else "",
                sent_date=_time_text(envelope.sent_date),
                finished_date=_time_text(envelope.finished_date),
                metadata=metadata.encode(errors="surrogatepass") if metadata is not None else None,
                actions=await self._actions(),
                namespace=self.event.metadata.namespace or "",
                origin=origin_of(self.organization.spec.base_url),
            )
        return self._facts

    def forget_metadata(self) -> None:
        """Drop the metadata of the envelope, which can have 1 MiB; the layout asks for it again. No limit
        counts the runs that wait for their archive."""
        self._facts = None

    async def possible_siblings(self) -> tuple[EnvelopeEvent, ...]:
        """Return the other events of this envelope; none, and without a request, if the Organization's
        actions make one event of an envelope. Raises ``ApiError``."""
        several = self.organization.spec.has_several_events or self.event.is_of_a_person
        return await self.siblings() if several else ()

    async def siblings_before_delete(self) -> tuple[EnvelopeEvent, ...]:
        """
        Return the other events of this envelope, also those of actions that the Organization no longer
        lists, and of persons; none, and without a request, if the Organization never had such events.

        They are listed again: a person may have decided about one of them since this run began. Raises
        ``ApiError``, and ``NotProven`` for one that can't be read: it may name a file of the envelope.
        """
        if not self.may_have_siblings:
            return ()
        self._siblings = None
        found = await self._sibling_events()
        if found.unreadable:
            raise NotProven(found.unreadable)
        return found.events

    async def _actions(self) -> tuple[ActionFacts, ...]:
        """
        Return the callbacks that path and tags are made of, oldest first: that of this event, and those of
        the envelope's events that were archived before.

        Only parameters can make a difference, so nothing is asked for an organization without any.
        """
        if not self.organization.spec.callback.parameters:
            return (_action(self.event),)
        return actions_of(self.event, await self.siblings())

    async def layout(self) -> ArchiveLayout:
        """Return the layout: the location and the tags of each file. Raises ``TooManyFiles``."""
        if self._layout is None:
            self._layout = await self._layout_in(self.archive, self._claimed_names)
            # A run may last for hours, and nothing else reads the metadata.
            self._facts = replace(await self.envelope_facts(), metadata=None)
        return self._layout

    async def layout_in(self, archive: Archive) -> ArchiveLayout:
        """
        Return the layout that the envelope has in another Archive, by the list of files of this run.

        A required tag counts only if the path has it: it may be younger than what is archived there. Raises
        ``TooManyFiles``, and what ``TagWorkers.collect`` raises.
        """
        spec = archive.spec
        rules = {
            name: msgspec.structs.replace(rule, required=rule.required and is_tag_in_path(name, spec))
            for name, rule in spec.tags.items()
        }
        without = msgspec.structs.replace(archive, spec=msgspec.structs.replace(spec, tags=rules))
        return await self._layout_in(without, lambda _: {})

    async def _layout_in(
        self, archive: Archive, claimed: Callable[[str], dict[tuple[str, FileKind], str]]
    ) -> ArchiveLayout:
        facts, files = await self.envelope_facts(), await self.listed()
        if len(files) > MAX_DOCUMENTS:
            raise TooManyFiles(len(files))
        try:
            tags = await self.tag_workers.collect(archive.spec, facts)
            facts = replace(facts, metadata=None)
            return await make_layout_aside(
                archive.spec, facts, _file_facts(files), found=tags, claimed=claimed
            )
        except ArchiveError as problem:
            problem.name_archive(archive.name)
            raise

    def _claimed_names(self, folder: str) -> dict[tuple[str, FileKind], str]:
        """Return the names in this folder that the stored status claims, by id and kind of the file."""
        names = {}
        above = self.backend.location(f"{folder}/x").removesuffix("x")
        for each in documents_in(self.event.status, self.archive.name):
            if each.location is None or not each.location.startswith(above):
                continue
            name = f"{folder}/{unquote(each.location.removeprefix(above))}"
            if self.backend.location(name) == each.location:
                names[each.file_id, each.kind] = name
        return names

    async def listed(self) -> tuple[EnvelopeFile, ...]:
        """Return the files as eSAW listed them at the beginning of this run."""
        if self._listed is None:
            self._listed = await self._list_files(await self.envelope())
        return self._listed

    async def files_now(self) -> tuple[EnvelopeFile, ...]:
        """Ask eSAW for the list of files again; it may have changed since the beginning of this run."""
        envelope = await self.envelope()
        if isinstance(envelope, V5EnvelopeResponse):
            envelope = await self.envelope_now()
        return await self._list_files(envelope)

    async def _list_files(self, envelope: EnvelopeResponse) -> tuple[EnvelopeFile, ...]:
        """
        Return v6's list of the files; for an envelope of v5, v5's list if v6 lists fewer.

        Only a list of v6 that has as many files of each kind as that of v5 is known to be complete. A list of
        v5 without a document confirms nothing: v5 may name documents in a way that is not known here.
        """
        files = (await self.esaw.files(self.event.spec.envelope_id)).files()
        await self._record_shown()
        if isinstance(envelope, V5EnvelopeResponse):
            by_v5 = envelope.listed().files()
            confirms = any(each.kind is FileKind.DOCUMENT for each in by_v5)
            files = files if confirms and covers(files, by_v5) else by_v5
        self.last_list = files
        return files

    def download(self, file: FileFacts | FiledDocument) -> AbstractAsyncContextManager[FileDownload]:
        """Open a file of the envelope. Its chunks raise an ``EsawError`` if they can't be that file."""
        return checked_download(self.esaw.download(file.file_id), file.kind, file.file_name)

    def manifest_extra(self, event: EnvelopeEvent) -> Mapping[str, object]:
        """Return the manifest's section about the event."""
        choice = self.chosen.choice
        return {
            **manifest_extra_in(event, self.archive.name),
            **({"route": choice.route} if choice.route is not None else {}),
            **({"import": choice.import_} if choice.import_ is not None else {}),
        }


def manifest_extra_in(event: EnvelopeEvent, archive: str) -> dict[str, object]:
    """Return the section about the event in each of its manifests, here in that of this Archive."""
    return {
        "event": {
            "name": event.name,
            "uid": event.uid,
            "action": event.spec.action,
            "origin": event.spec.origin,
            **({"workstep": event.spec.workstep.id} if event.spec.workstep is not None else {}),
        },
        "archive": archive,
    }


def actions_of(event: EnvelopeEvent, siblings: Iterable[EnvelopeEvent]) -> tuple[ActionFacts, ...]:
    """Return the callbacks of the event and of its siblings that were archived, oldest first."""
    archived = (each for each in siblings if is_condition_true(each.status.conditions, "Archived"))
    return tuple(_action(each) for each in sorted((event, *archived), key=_creation))


def _creation(event: EnvelopeEvent) -> tuple[datetime, str]:
    return event.metadata.creation_timestamp or datetime.max.replace(tzinfo=UTC), event.name


def _action(event: EnvelopeEvent) -> ActionFacts:
    """
    Return the action, the parameters and the time of its callback, in which the event was created.

    Later callbacks may have added parameters. A sweep, an Import or a person may have created the event
    before its first callback, or without any: then the time is empty.
    """
    is_by_callback = event.spec.origin is Origin.CALLBACK
    time = event.metadata.creation_timestamp if is_by_callback else event.status.first_delivery_time
    return ActionFacts(action=event.spec.action, time=_time_text(time), parameters=event.parameters)


def _time_text(moment: datetime | None) -> str:
    """Return a time as manifests have it; empty for none."""
    return utc_text(moment) if moment is not None else ""


def _file_facts(files: Iterable[EnvelopeFile]) -> list[FileFacts]:
    numbers: Counter[FileKind] = Counter()
    facts = []
    for each in files:
        numbers[each.kind] += 1
        facts.append(
            FileFacts(
                file_id=each.file_id,
                kind=each.kind,
                file_name=each.file_name,
                number=numbers[each.kind],
                document_number=each.document_number,
                email=each.email,
                activity_id=each.activity_id,
            )
        )
    return facts
