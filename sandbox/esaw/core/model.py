"""
The stand-in's data: users, envelopes, drafts, files and their history, as plain data classes.

The frozen Structs travel over the control surface (in process or as JSON); the dataclasses are the server's
own memory and never leave it. Nothing here acts: life cycle, callbacks and responses are in separate modules.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Literal, NamedTuple, TypedDict

from msgspec import Struct

from sandbox.esaw.core.content import Content


class EnvelopeStatus(StrEnum):
    """`EnvelopeStatus` of `GET envelope/{id}`."""

    ACTIVE = "Active"
    COMPLETED = "Completed"
    CANCELED = "Canceled"
    EXPIRED = "Expired"
    REJECTED = "Rejected"


class ActivityStatus(StrEnum):
    """`Activities[].Status` of `GET envelope/{id}`."""

    PENDING = "Pending"
    COMPLETED = "Completed"
    REJECTED = "Rejected"
    DELEGATED = "Delegated"


class ActionKind(StrEnum):
    """The task of a recipient; each activity has exactly one."""

    SIGN = "Sign"
    VIEW = "View"
    SEND_COPY = "SendCopy"
    SIGN_AUTOMATIC = "SignAutomatic"
    SIGN_AS_P7M = "SignAsP7M"


class FileKind(StrEnum):
    """Part of `GET envelope/{id}/files` that names a file."""

    DOCUMENT = "Document"
    ATTACHMENT = "Attachment"
    AUDIT_TRAIL = "AuditTrail"
    AUDIT_TRAIL_XML = "AuditTrailXml"
    LEGAL_DOCUMENT = "LegalDocument"


EASY_LOGIN: Final = "stand-in"
"""The password of users who were given none."""


class User(Struct, frozen=True, kw_only=True):
    """One eSAW user, with the token that was made first (later ones come from `new_token`)."""

    user_id: str
    email: str
    given_name: str
    surname: str
    token: str
    """66 letters and digits."""
    organization_id: str
    team: str = ""
    """Users of one non-empty team see each other's envelopes that are shared with the team."""
    may_see_history: bool = True
    """The right "User is allowed to see the event history of an envelope"; without it history answers 403."""
    password: str = EASY_LOGIN
    """For the web pages."""


class OAuthApp(Struct, frozen=True, kw_only=True):
    """A registered OAuth application."""

    client_id: str
    client_secret: str
    """It has characters that a form and HTTP Basic must encode."""
    name: str
    """As users see it when they are asked."""
    redirect_uris: tuple[str, ...]


class DocumentSpec(Struct, frozen=True, kw_only=True):
    """
    One file to be made: a document, an attachment or a legal document.

    With `content` it holds these bytes; with `size` that many bytes, generated while they are sent, which
    are an unsigned PDF where a small one would be signed (from 350 bytes on); with neither it is a small
    signed PDF (a document, or any other file whose name ends in `.pdf`) or 2 KiB of noise (other
    attachments).
    """

    name: str
    file_id: str | None = None
    """In lower case. None: a new GUID, as eSAW gives today; it promises nothing about them."""
    pages: int = 1
    size: int | None = None
    content: bytes | None = None
    content_type: str | None = None
    """None: guessed from the name; documents are always `application/pdf`."""
    chunked: bool = False
    """Send it without Content-Length."""
    attachments: tuple["DocumentSpec", ...] = ()
    """Only for documents."""


class Recipient(Struct, frozen=True, kw_only=True):
    """A person with a task in an envelope."""

    email: str = "signer@example.com"
    given_name: str = "Sigmund"
    surname: str = "Signer"
    language: str = "EN"
    action: ActionKind = ActionKind.SIGN


class CallbackUrls(Struct, frozen=True, kw_only=True):
    """The callback URLs of one envelope, placeholders and all; None: not called."""

    envelope: str | None = None
    """`CallbackUrl`."""
    status: str | None = None
    """`StatusUpdateCallbackUrl`."""
    workstep: str | None = None
    """`ActivityActionCallbackConfiguration.Url`."""
    workstep_events: tuple[str, ...] = ("WorkstepFinished", "WorkstepRejected")
    """The names that are true in `ActionCallbackSelection`."""
    after_send: str | None = None
    """`AfterSendCallbackUrl`, drafts only."""


EmptyAs = Literal["empty", "null", "absent"]
"""Form in which `files` writes a part without entries: `[]`, `null`, or left out."""

ApiVersion = Literal["v5", "v6"]


class EnvelopeOrder(Struct, frozen=True, kw_only=True):
    """An envelope to be made."""

    name: str = "Contract"
    envelope_id: str | None = None
    """None: a new GUID. Another stand-in may have an envelope of the same id."""
    status: str = EnvelopeStatus.COMPLETED
    """One of EnvelopeStatus."""
    documents: Sequence[DocumentSpec] = (DocumentSpec(name="contract.pdf"),)
    attachments: Sequence[DocumentSpec] = ()
    """They hang on the first document."""
    legal_documents: Sequence[DocumentSpec] = ()
    recipients: Sequence[Recipient] = (Recipient(),)
    metadata: str | None = None
    audit_trail: bool = True
    """An audit trail of the whole envelope, as PDF and XML."""
    audit_trail_per_document: bool = False
    audit_trail_differs: bool = False
    """Whether the audit trail has other bytes at each download, as one that records downloads."""
    callbacks: CallbackUrls | None = None
    """None: the organization's default ones."""
    share_with_team: bool = False
    api_version: ApiVersion = "v6"
    """The API version that created it; one of v5 returns ERR0063 to some calls of v6."""
    empty_as: EmptyAs = "empty"
    expires_in: timedelta = timedelta(days=28)
    sent_ago: timedelta = timedelta(0)
    """Age of an old envelope, by the time of sending."""


class EnvelopeOptions(TypedDict, total=False):
    """The fields of EnvelopeOrder, as keyword arguments."""

    name: str
    envelope_id: str | None
    status: str
    documents: Sequence[DocumentSpec]
    attachments: Sequence[DocumentSpec]
    legal_documents: Sequence[DocumentSpec]
    recipients: Sequence[Recipient]
    metadata: str | None
    audit_trail: bool
    audit_trail_per_document: bool
    audit_trail_differs: bool
    callbacks: CallbackUrls | None
    share_with_team: bool
    api_version: ApiVersion
    empty_as: EmptyAs
    expires_in: timedelta
    sent_ago: timedelta


class FileListing(NamedTuple):
    """One file of an envelope, as tests want to see it."""

    file_id: str
    kind: FileKind
    name: str
    """As `files` says; for audit trails, which have no name there, as the download says."""
    size: int


class DraftListing(Struct, frozen=True, kw_only=True):
    """One draft, as tests want to see it."""

    draft_id: str
    name: str
    metadata: str | None
    before_send_url: str | None
    """Placeholders and all."""


@dataclass(slots=True)
class StoredFile:
    """One file that `GET file/{id}` may fetch."""

    id: str
    envelope_id: str
    kind: FileKind
    name: str
    content: Content
    content_type: str
    chunked: bool = False


@dataclass(slots=True)
class Document:
    """A finished document with what belongs to it."""

    file: StoredFile
    pages: int
    audit_trail: StoredFile | None = None
    attachments: list[StoredFile] = field(default_factory=list)


@dataclass(slots=True)
class EnvelopeActivity:
    """One step of one recipient."""

    id: str
    workstep_id: str
    recipient: Recipient
    status: ActivityStatus = ActivityStatus.PENDING
    status_reason: str | None = None
    opened_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def is_interactive(self) -> bool:
        """Whether a person has to do it (copies and automatic signatures need no person)."""
        return self.recipient.action not in {ActionKind.SEND_COPY, ActionKind.SIGN_AUTOMATIC}


@dataclass(slots=True)
class HistoryEntry:
    """One line of `GET envelope/{id}/history`; a callback has one line, whose attempts are counted in
    place."""

    type: str
    created_at: datetime
    trace_id: str
    activity: EnvelopeActivity | None = None
    """The activity of the recipient that it affects."""
    completed: bool = True
    completed_at: datetime | None = None
    in_error: bool = False
    next_attempt_at: datetime | None = None
    attempt: int = 1
    remaining_attempts: int = 0
    context: str | None = None


@dataclass(slots=True)
class StoredEnvelope:
    """One envelope with all its papers, from sending to deletion; a deleted one stays as its own
    tombstone."""

    id: str
    name: str
    sender: User
    status: EnvelopeStatus
    sent_at: datetime
    changed_at: datetime
    expires_at: datetime
    activities: list[EnvelopeActivity]
    documents: list[Document]
    audit_trail: StoredFile | None
    audit_trail_xml: StoredFile | None
    legal_documents: list[StoredFile]
    metadata: str | None
    callbacks: CallbackUrls
    share_with_team: bool
    api_version: ApiVersion
    empty_as: EmptyAs
    bulk_parent_id: str | None = None
    history: list[HistoryEntry] = field(default_factory=list)
    ending_as: EnvelopeStatus | None = None
    """All is signed (or rejected, or expired), but this final state waits for the callback."""
    deleted_at: datetime | None = None
    draft_id: str | None = None
    """The draft it was sent from."""

    def files(self) -> list[StoredFile]:
        """Every file of the envelope, in the order of `files`."""
        found: list[StoredFile] = []
        for document in self.documents:
            found.append(document.file)
            found += document.attachments
            found += [document.audit_trail] if document.audit_trail else []
        found += [trail for trail in (self.audit_trail, self.audit_trail_xml) if trail]
        return found + self.legal_documents


@dataclass(slots=True)
class UploadedFile:
    """A file that waits to be used by a draft or an envelope."""

    id: str
    owner: User
    name: str
    data: bytes
    uploaded_at: datetime


@dataclass(slots=True)
class Draft:
    """An envelope before it is sent."""

    id: str
    owner: User
    name: str
    created_at: datetime
    uploads: list[UploadedFile]
    recipients: list[Recipient]
    metadata: str | None
    callbacks: CallbackUrls
    share_with_team: bool
    expires_at: datetime | None
    before_send_url: str | None = None
    """`BeforeSendRedirectUrl`, placeholders and all: where the browser goes instead of sending."""
    bulk_recipients: list[Recipient] = field(default_factory=list)
    """The recipients of a bulk (`SignBulk`): each gets an envelope, and is its first signer."""
