"""
The store: all data of the stand-in, and the rights to see it.

Users with their tokens, envelopes (deleted ones as tombstones), files, drafts and uploads. It makes things
and finds them; it sends no callback (lifecycle does) and speaks no HTTP.
"""

import random
import secrets
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import NAMESPACE_OID, UUID, uuid5

from sandbox.esaw.core.content import Content, Generated, Inline, RenderedEachTime
from sandbox.esaw.core.documents import FillerPdf, SignedPdf, audit_trail_xml
from sandbox.esaw.core.errors import ErrorCode, RequestRefused
from sandbox.esaw.core.filenames import content_type
from sandbox.esaw.core.model import (
    EASY_LOGIN,
    ActivityStatus,
    CallbackUrls,
    Document,
    DocumentSpec,
    Draft,
    EnvelopeActivity,
    EnvelopeOrder,
    EnvelopeStatus,
    FileKind,
    HistoryEntry,
    Recipient,
    StoredEnvelope,
    StoredFile,
    UploadedFile,
    User,
)

TOKEN_LENGTH: Final = 66
UPLOAD_LIFETIME: Final = timedelta(minutes=10)
NOISE_SIZE: Final = 2048
"""Bytes of an attachment that is neither a PDF nor given."""


class EsawStore:
    """All that one eSAW organization holds."""

    def __init__(self, now: Callable[[], datetime], rng: random.Random) -> None:
        self.now = now
        self._rng = rng
        self.organization_id = self.new_id()
        self.default_callbacks = CallbackUrls()
        self.revocations = Counter[str]()
        """Number of tokens that were disabled, by user id."""
        """The organization's "Default callback URLs", for envelopes sent from the web pages."""
        self.before_send_url: str | None = None
        """The organization's "Default redirect url before sending a draft"; a draft keeps the one it was made
        under."""
        self.users: dict[str, User] = {}
        self.envelopes: dict[str, StoredEnvelope] = {}
        self.files: dict[str, StoredFile] = {}
        self.drafts: dict[str, Draft] = {}
        self.uploads: dict[str, UploadedFile] = {}
        self._owners: dict[str, str] = {}  # token -> user id
        self._inactive: set[str] = set()

    # Ids

    def new_id(self) -> str:
        """A new GUID, lower case."""
        return str(UUID(int=self._rng.getrandbits(128), version=4))

    def new_secret(self, length: int, *, more_letters: str = "") -> str:
        """A random text that nobody can guess: letters, digits, and the other characters that it may have."""
        return "".join(self._rng.choices(string.ascii_letters + string.digits + more_letters, k=length))

    # Users and their tokens

    def add_user(
        self,
        *,
        email: str,
        given_name: str,
        surname: str,
        team: str = "",
        may_see_history: bool = True,
        password: str = EASY_LOGIN,
    ) -> User:
        """A new active user with one token."""
        user = User(
            user_id=self.new_id(),
            email=email,
            given_name=given_name,
            surname=surname,
            token=self.new_secret(TOKEN_LENGTH),
            organization_id=self.organization_id,
            team=team,
            may_see_history=may_see_history,
            password=password,
        )
        self.users[user.user_id] = user
        self._owners[user.token] = user.user_id
        return user

    def new_token(self, user_id: str) -> str:
        """One more token for this user; those there are stay."""
        token = self.new_secret(TOKEN_LENGTH)
        self._owners[token] = self.known_user(user_id).user_id
        return token

    def revoke(self, user_id: str, token: str | None = None) -> None:
        """Disable one token of this user, or all."""
        owner = self.known_user(user_id).user_id
        gone = [each for each, whose in self._owners.items() if whose == owner and token in {None, each}]
        for each in gone:
            del self._owners[each]
        self.revocations[owner] += len(gone)

    def set_active(self, user_id: str, *, active: bool) -> None:
        """Let a user in, or shut them out with all their tokens."""
        if active:
            self._inactive.discard(user_id)
        else:
            self._inactive.add(self.known_user(user_id).user_id)

    def known_user(self, user_id: str) -> User:
        """The user with this id. Raises ValueError."""
        if user_id not in self.users:
            raise ValueError(f"The stand-in has no user {user_id}.")
        return self.users[user_id]

    def owner_of(self, token: str) -> User | None:
        """The user of this token; None if it is unknown, revoked, or its user is not active."""
        user_id = self._owners.get(token)
        return None if user_id is None or user_id in self._inactive else self.users[user_id]

    def is_valid_token(self, token: str) -> bool:
        """Whether this is somebody's token, and not disabled."""
        return token in self._owners

    def is_active(self, user_id: str) -> bool:
        """Whether this user may sign in and use their tokens."""
        return user_id not in self._inactive

    def authenticate(self, email: str, password: str) -> User | None:
        """The active user who signs in with these; None if there is none."""
        for user in self.users.values():
            if (
                user.email.lower() == email.lower()
                and user.password == password
                and self.is_active(user.user_id)
            ):
                return user
        return None

    # Envelopes

    def add_envelope(
        self,
        sender: User,
        order: EnvelopeOrder,
        *,
        finished_documents: Sequence[Document] = (),
        envelope_id: str | None = None,
    ) -> StoredEnvelope:
        """A new envelope as ordered, with these papers as its documents if there are any. Raises ValueError
        if there is one with the ordered id."""
        if order.envelope_id in self.envelopes:
            raise ValueError(f"The stand-in has an envelope {order.envelope_id}.")
        now = self.now() - order.sent_ago
        envelope = StoredEnvelope(
            id=envelope_id or order.envelope_id or self.new_id(),
            name=order.name,
            sender=sender,
            status=EnvelopeStatus(order.status),
            sent_at=now,
            changed_at=now,
            expires_at=now + order.expires_in,
            activities=[self._activity(recipient) for recipient in order.recipients],
            documents=list(finished_documents),
            audit_trail=None,
            audit_trail_xml=None,
            legal_documents=[],
            metadata=order.metadata,
            callbacks=self.default_callbacks if order.callbacks is None else order.callbacks,
            share_with_team=order.share_with_team,
            api_version=order.api_version,
            empty_as=order.empty_as,
        )
        self._mark_activities(envelope)
        envelope.history.append(self.event("EnvelopeSent"))
        self._add_documents(envelope, order)
        self._add_audit_trails(envelope, order)
        self.envelopes[envelope.id] = envelope
        self.files.update((file.id, file) for file in envelope.files())
        return envelope

    def known_envelope(self, envelope_id: str) -> StoredEnvelope:
        """The envelope with this id, also a deleted one. Raises ValueError."""
        if envelope_id not in self.envelopes:
            raise ValueError(f"The stand-in has no envelope {envelope_id}.")
        return self.envelopes[envelope_id]

    def existing_envelope(self, envelope_id: str) -> StoredEnvelope:
        """The envelope with this id, which is not deleted. Raises ValueError."""
        envelope = self.known_envelope(envelope_id)
        if envelope.deleted_at:
            raise ValueError(f"The envelope {envelope_id} was deleted.")
        return envelope

    def visible_envelope(self, envelope_id: str, user: User, *, deleted_too: bool = False) -> StoredEnvelope:
        """The envelope as this user may see it. Raises EsawError with ERR0007: unknown, deleted and not
        theirs look alike."""
        envelope = self.envelopes.get(envelope_id.lower())
        if envelope is None or not _may_see(user, envelope) or (envelope.deleted_at and not deleted_too):
            raise RequestRefused(ErrorCode.MISSING_ENVELOPE)
        return envelope

    def visible_envelopes(self, user: User) -> Iterable[StoredEnvelope]:
        """All envelopes that this user may see."""
        return (each for each in self.envelopes.values() if not each.deleted_at and _may_see(user, each))

    def visible_file(self, file_id: str, user: User) -> StoredFile:
        """The file as this user may fetch it. Raises EsawError with ERR0008."""
        file = self.files.get(file_id.lower())
        envelope = self.envelopes[file.envelope_id] if file else None
        if file is None or envelope is None or envelope.deleted_at or not _may_see(user, envelope):
            raise RequestRefused(ErrorCode.MISSING_FILE)
        return file

    def known_file(self, file_id: str) -> StoredFile:
        """The file with this id, also of a deleted envelope. Raises ValueError."""
        if file_id not in self.files:
            raise ValueError(f"The stand-in has no file {file_id}.")
        return self.files[file_id]

    def delete(self, envelope: StoredEnvelope) -> None:
        """Make the envelope and its papers unreachable; only its history still tells that it was there."""
        envelope.deleted_at = self.now()

    def set_status(self, envelope: StoredEnvelope, status: EnvelopeStatus) -> None:
        """Put the envelope into this state."""
        envelope.status = status
        envelope.changed_at = self.now()
        envelope.ending_as = None
        if envelope.audit_trail_xml:
            envelope.audit_trail_xml.content = Inline(_audit_trail(envelope))
        envelope.history.append(self.event(f"Envelope{status}"))

    def event(self, kind: str, activity: EnvelopeActivity | None = None) -> HistoryEntry:
        """A line of history, of now."""
        now = self.now()
        return HistoryEntry(
            type=kind, created_at=now, trace_id=self.new_id(), activity=activity, completed_at=now
        )

    def _activity(self, recipient: Recipient) -> EnvelopeActivity:
        return EnvelopeActivity(id=self.new_id(), workstep_id=self.new_id(), recipient=recipient)

    def _mark_activities(self, envelope: StoredEnvelope) -> None:
        outcome = {
            EnvelopeStatus.COMPLETED: ActivityStatus.COMPLETED,
            EnvelopeStatus.REJECTED: ActivityStatus.REJECTED,
        }.get(envelope.status)
        if outcome:
            for activity in envelope.activities:
                activity.status = outcome
                activity.opened_at = activity.finished_at = envelope.changed_at

    # Papers

    def _add_documents(self, envelope: StoredEnvelope, order: EnvelopeOrder) -> None:
        if not envelope.documents:
            envelope.documents = [self._document(envelope.id, spec) for spec in order.documents]
        for document in envelope.documents:
            document.file.envelope_id = envelope.id
        if order.attachments:
            if not envelope.documents:
                raise ValueError("Attachments hang on documents; this envelope has none.")
            envelope.documents[0].attachments += self._files(
                envelope.id, FileKind.ATTACHMENT, order.attachments
            )
        envelope.legal_documents = self._files(envelope.id, FileKind.LEGAL_DOCUMENT, order.legal_documents)

    def _document(self, envelope_id: str, spec: DocumentSpec) -> Document:
        return Document(
            file=self._file(envelope_id, FileKind.DOCUMENT, spec),
            pages=spec.pages,
            attachments=self._files(envelope_id, FileKind.ATTACHMENT, spec.attachments),
        )

    def _add_audit_trails(self, envelope: StoredEnvelope, order: EnvelopeOrder) -> None:
        if order.audit_trail:
            pdf = DocumentSpec(name="audittrail.pdf")
            xml = DocumentSpec(name="audittrail.xml", content=_audit_trail(envelope))
            envelope.audit_trail = self._file(envelope.id, FileKind.AUDIT_TRAIL, pdf)
            envelope.audit_trail_xml = self._file(envelope.id, FileKind.AUDIT_TRAIL_XML, xml)
        if order.audit_trail_differs:
            for trail in filter(None, (envelope.audit_trail, envelope.audit_trail_xml)):
                trail.content = RenderedEachTime(partial(_rendered_again, trail.content))
        if order.audit_trail_per_document:
            for number, document in enumerate(envelope.documents, start=1):
                pdf = DocumentSpec(name=f"audittrail-{number}.pdf")
                document.audit_trail = self._file(envelope.id, FileKind.AUDIT_TRAIL, pdf)

    def _files(self, envelope_id: str, kind: FileKind, specs: Sequence[DocumentSpec]) -> list[StoredFile]:
        return [self._file(envelope_id, kind, spec) for spec in specs]

    def _file(self, envelope_id: str, kind: FileKind, spec: DocumentSpec) -> StoredFile:
        file_id = spec.file_id or self.new_id()
        is_pdf = kind is FileKind.DOCUMENT or spec.name.lower().endswith(".pdf")
        media_type = spec.content_type or ("application/pdf" if is_pdf else content_type(spec.name))
        return StoredFile(
            id=file_id,
            envelope_id=envelope_id,
            kind=kind,
            name=spec.name,
            content=_content(file_id, kind, spec, is_pdf=is_pdf),
            content_type=media_type,
            chunked=spec.chunked,
        )

    # Uploads and drafts

    def usable_upload(self, file_id: str, user: User) -> UploadedFile:
        """An upload of this user's, still kept. Raises EsawError."""
        upload = self.uploads.get(file_id.lower())
        if (
            upload is None
            or upload.owner.user_id != user.user_id
            or self.now() - upload.uploaded_at > UPLOAD_LIFETIME
        ):
            raise RequestRefused(ErrorCode.UNKNOWN_UPLOAD)
        return upload

    def add_draft(
        self,
        owner: User,
        *,
        name: str,
        uploads: Sequence[UploadedFile],
        recipients: Sequence[Recipient],
        metadata: str | None,
        bulk_recipients: Sequence[Recipient] = (),
    ) -> Draft:
        """A new draft as made on the web pages, with all the organization's defaults."""
        draft = Draft(
            id=self.new_id(),
            owner=owner,
            name=name,
            created_at=self.now(),
            uploads=list(uploads),
            recipients=list(recipients),
            metadata=metadata,
            callbacks=self.default_callbacks,
            share_with_team=False,
            expires_at=None,
            before_send_url=self.before_send_url,
            bulk_recipients=list(bulk_recipients),
        )
        self.drafts[draft.id] = draft
        return draft

    def drafts_of(self, user: User) -> list[Draft]:
        """The drafts of this user that have not been sent, oldest first."""
        return [each for each in self.drafts.values() if each.owner.user_id == user.user_id]

    def visible_draft(self, draft_id: str, user: User) -> Draft:
        """A draft of this user's. Raises EsawError with ERR0250."""
        draft = self.drafts.get(draft_id.lower())
        if draft is None or draft.owner.user_id != user.user_id:
            raise RequestRefused(ErrorCode.MISSING_DRAFT)
        return draft


def _may_see(user: User, envelope: StoredEnvelope) -> bool:
    if user.user_id == envelope.sender.user_id:
        return True
    return envelope.share_with_team and bool(user.team) and user.team == envelope.sender.team


def _content(file_id: str, kind: FileKind, spec: DocumentSpec, *, is_pdf: bool) -> Content:
    if spec.content is not None:
        return Inline(spec.content)
    identity = UUID(file_id) if spec.file_id is None else uuid5(NAMESPACE_OID, file_id)
    seed = identity.int % 2**32
    if not is_pdf:
        return Generated(seed=seed, size=NOISE_SIZE if spec.size is None else spec.size)
    if spec.size is not None:
        return FillerPdf(seed=seed, size=spec.size)
    return SignedPdf(title=kind.value, pages=spec.pages, mark=identity.bytes * 2)


def _rendered_again(trail: Content) -> Content:
    """Return the same audit trail in other bytes; the signature of a PDF stays intact."""
    if isinstance(trail, SignedPdf):
        return replace(trail, mark=secrets.token_bytes(32))
    return Inline(b"".join(trail.chunks()) + b"<!--%b-->" % secrets.token_hex(8).encode())


def _audit_trail(envelope: StoredEnvelope) -> bytes:
    sent = [(envelope.sent_at, "EnvelopeSent", envelope.sender.email)]
    done = [
        (each.finished_at, f"Workstep{each.status}", each.recipient.email)
        for each in envelope.activities
        if each.finished_at
    ]
    return audit_trail_xml(envelope.id, sent + done)
