"""
The desk at which one event is worked on: whatever a phase may use, looked up before the first phase starts.

What is asked from eSAW is asked once per run and kept here; a run that starts in the middle (after a restart) asks
again. The desk writes nothing.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC

from controller.reconcile.signature_policy import SignatureChecker
from counterfoil.archives import tags_subprocess
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.layout import ActionFacts, ArchiveLayout, EnvelopeFacts, FileFacts, make_layout
from counterfoil.clock import Clock
from counterfoil.esaw.client import EsawUserClient
from counterfoil.esaw.models import EnvelopeFile, EnvelopeResponse
from counterfoil.resources import Archive, EnvelopeEvent, FiledDocument, FileKind, Organization, Sender


class PartialArchive(Exception):
    """Archiving broke off; the cause says why, ``documents`` how far it came."""

    def __init__(self, documents: tuple[FiledDocument, ...]) -> None:
        super().__init__("archiving broke off")
        self.documents = documents


@dataclass
class ReconcileContext:
    """What one run over one event has at hand."""

    event: EnvelopeEvent
    organization: Organization
    sender: Sender
    archive: Archive
    backend: ArchiveBackend
    esaw: EsawUserClient
    clock: Clock
    signature_checker: SignatureChecker
    on_file_archived: Callable[[int], None]
    """Is told of every file that was filed, with its bytes."""
    sibling_events: Callable[[], AsyncIterator[EnvelopeEvent]]
    """Asks for the other events of this envelope, finished ones too. Raises ``ApiProblem``."""
    _envelope: EnvelopeResponse | None = field(default=None, init=False)
    _plan: ArchiveLayout | None = field(default=None, init=False)
    _facts: EnvelopeFacts | None = field(default=None, init=False)

    async def envelope(self) -> EnvelopeResponse:
        """The envelope as eSAW describes it in this run."""
        if self._envelope is None:
            self._envelope = await self.esaw.envelope(self.event.spec.envelope_id)
        return self._envelope

    async def envelope_facts(self) -> EnvelopeFacts:
        """What path and tags are made of."""
        if self._facts is None:
            envelope = await self.envelope()
            configuration = await self.esaw.configuration(self.event.spec.envelope_id)
            sender = self.sender.spec
            self._facts = EnvelopeFacts(
                organization=self.organization.name,
                envelope_id=self.event.spec.envelope_id,
                name=envelope.name,
                status=envelope.status,
                sender_email=sender.email or (envelope.sender.email if envelope.sender else "") or "",
                sender_user_id=sender.user_id,
                sender_name=" ".join(part for part in (sender.given_name, sender.surname) if part),
                sent_date=envelope.sent_date.isoformat() if envelope.sent_date is not None else "",
                metadata=configuration.metadata,
                actions=(_action(self.event),),
            )
        return self._facts

    async def plan(self) -> ArchiveLayout:
        """Which files go where, under which tags."""
        if self._plan is None:
            facts = await self.envelope_facts()
            answer = await self.esaw.files(self.event.spec.envelope_id)
            tags = await tags_subprocess.collect_in_subprocess(self.archive.spec, facts)
            self._plan = make_layout(self.archive.spec, facts, _file_facts(answer.files()), found=tags)
        return self._plan

    def manifest_extra(self, event: EnvelopeEvent) -> Mapping[str, object]:
        """What the manifest tells about the event itself."""
        return {
            "event": {
                "name": event.name,
                "uid": event.uid,
                "action": event.spec.action,
                "origin": event.spec.origin,
            },
            "archive": self.archive.name,
        }


def _action(event: EnvelopeEvent) -> ActionFacts:
    """When eSAW called about it; the event was noted down within that call."""
    created = event.metadata.creation_timestamp
    time = created.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if created is not None else ""
    return ActionFacts(action=event.spec.action, time=time)


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
