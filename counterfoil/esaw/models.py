"""
eSAW's answers as immutable, typed values: its own names outside, ours inside. (v6 models of its swagger)

Fields that safe archiving needs must be present and valid, otherwise ``ResponseInvalid`` names the field. All
other fields may be absent or null, and unlisted fields are ignored: callback URLs and context texts, because
they contain callback tokens, and recipients, because they are personal data. This module sends no requests.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from pathlib import PurePosixPath
from typing import Final, TypeVar

import msgspec

from counterfoil.esaw.errors import EnvelopeStatusUnknown, FileIdMissing, FileIdRepeated, ResponseInvalid
from counterfoil.esaw.limits import MAX_METADATA_BYTES, MAX_TEXT_MEMORY
from counterfoil.resources import EnvelopeStatus, FileKind
from counterfoil.resources.envelopeevent import MAX_FILE_ID_LENGTH
from counterfoil.resources.organization import MAX_VERSION_LENGTH
from counterfoil.untrusted.json_bounds import JSON_ERRORS, mismatch_text, text_memory


class EsawModel(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Any part of an answer: immutable, PascalCase outside."""


class WhoAmI(EsawModel, frozen=True):
    """``GET authorization/whoami``: whose token it is."""

    user_id: str
    email: str | None = None
    given_name: str | None = None
    surname: str | None = None
    user_name: str | None = None


class SenderUserInformation(EsawModel, frozen=True):
    """``SenderUserInformation``."""

    email: str | None = None
    given_name: str | None = None
    surname: str | None = None

    @property
    def full_name(self) -> str:
        """Given name and surname, as far as they are known."""
        return " ".join(part for part in (self.given_name, self.surname) if part)


class NamedModel(EsawModel, frozen=True):
    """An envelope or a draft, whose name may be absent or null."""

    name_text: str | None = msgspec.field(name="Name", default=None)

    @property
    def name(self) -> str:
        """The name; empty when it has none."""
        return self.name_text or ""


_SIGNATURES: Final = ("Sign", "SignAsP7M")
"""Actions of a step in which a person signs."""

_READING: Final = ("View",)
"""Actions of a step in which a person only reads. eSAW carries out all others itself."""


class WorkflowActivity(EsawModel, frozen=True):
    """One step of an envelope's workflow."""

    finished_text: str | None = msgspec.field(name="FinishedDate", default=None)


class ActivityState(EsawModel, frozen=True):
    """The state of one step of an envelope's workflow."""

    status_text: str | None = msgspec.field(name="Status", default=None)
    action: dict[str, msgspec.Raw] | None = None

    def awaits(self, actions: Sequence[str]) -> bool:
        """Whether a person has yet to take one of these actions in this step."""
        wanted = (bytes((self.action or {}).get(each, b"null")) for each in actions)
        return self.status_text == "Pending" and any(each != b"null" for each in wanted)


class WorkflowResponse(EsawModel, frozen=True):
    """``GET envelope/{id}``, of which only the steps of the workflow concern us."""

    activities: tuple[WorkflowActivity, ...] | None = None

    @property
    def finished_date(self) -> datetime | None:
        """When the last step was finished, in UTC; None when eSAW doesn't say."""
        dates = (parse_time(each.finished_text) for each in self.activities or ())
        return max((each for each in dates if each is not None), default=None)


class EnvelopeResponse(NamedModel, frozen=True, kw_only=True):
    """``GET envelope/{id}``."""

    id: str
    status: EnvelopeStatus = msgspec.field(name="EnvelopeStatus")
    sent_text: str | None = msgspec.field(name="SentDate", default=None)
    sender: SenderUserInformation | None = msgspec.field(name="SenderUserInformation", default=None)
    workflow: msgspec.Raw = msgspec.field(name="Activities", default=msgspec.Raw(b"[]"))

    @property
    def finished_date(self) -> datetime | None:
        """When the last step was finished, in UTC; None when eSAW doesn't say (or not as expected)."""
        try:
            steps = msgspec.json.decode(self.workflow, type=tuple[WorkflowActivity, ...])
        except JSON_ERRORS:
            return None
        return WorkflowResponse(activities=steps).finished_date

    @property
    def awaits_signature(self) -> bool:
        """Whether a person has yet to sign, so that the end of the envelope and its callback are still to
        come; False when eSAW doesn't say (or not as expected)."""
        return self._awaits(_SIGNATURES)

    @property
    def awaits_reader(self) -> bool:
        """Whether a person has yet to read the documents; False when eSAW doesn't say (or not as
        expected)."""
        return self._awaits(_READING)

    def _awaits(self, actions: Sequence[str]) -> bool:
        try:
            steps = msgspec.json.decode(self.workflow, type=tuple[ActivityState, ...] | None)
        except JSON_ERRORS:
            return False
        return any(each.awaits(actions) for each in steps or ())

    @property
    def sent_date(self) -> datetime | None:
        """When it was sent, in UTC; None when eSAW doesn't say (or not as a date)."""
        return parse_time(self.sent_text)


class _EnvelopeStatusText(EsawModel, frozen=True, kw_only=True):
    """The status of ``GET envelope/{id}``, before it is checked."""

    id: str
    """An answer without it is not about an envelope."""
    text: str | None = msgspec.field(name="EnvelopeStatus", default=None)


class EnvelopeFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of an envelope, ready to be downloaded. eSAW names no audit trail, so those are named here."""

    file_id: str
    kind: FileKind
    file_name: str
    document_number: int | None = None
    audit_trail_id: str | None = None
    """File id of the document's own audit trail. eSAW's numbers of documents may repeat or be null."""
    email: str | None = None
    activity_id: str | None = None


class ListedFile(EsawModel, frozen=True):
    """Common fields of an attachment, a document and a legal document."""

    file_id: str | None = None
    file_name: str | None = None


class ListedDocument(ListedFile, frozen=True):
    """A finished document with what belongs to it."""

    document_number: int | None = None
    audit_trail_file_id: str | None = None
    attachments: tuple[ListedFile, ...] | None = None


class ListedLegalDocument(ListedFile, frozen=True):
    """A paper about a signer's certificate."""

    activity_id: str | None = None
    email: str | None = None


class AuditTrail(EsawModel, frozen=True):
    """The envelope's audit trail, as PDF and as XML."""

    file_id: str | None = None
    xml_file_id: str | None = None


class FilesResponse(EsawModel, frozen=True):
    """``GET envelope/{id}/files``. Each of the three parts may be null, and not all may be absent."""

    documents: tuple[ListedDocument, ...] | None = None
    audit_trail: AuditTrail | None = None
    legal_documents: tuple[ListedLegalDocument, ...] | None = None

    def files(self) -> tuple[EnvelopeFile, ...]:
        """
        Return all files once each, always in the same order.

        Documents, their attachments, their audit trails, then the envelope's audit trail as PDF and as XML,
        then legal documents. Raises ``FileIdMissing`` when a file has no id that can be requested, and
        ``FileIdRepeated`` when two documents have one id, since to leave out a file would be to lose it.
        """
        once: dict[str, EnvelopeFile] = {}
        for file in self._all():
            if not is_file_id(file.file_id):
                raise FileIdMissing("files", file.kind, file.file_name)
            known = once.setdefault(file.file_id, file)
            if file.kind is FileKind.DOCUMENT and file is not known:
                raise FileIdRepeated("files", known.document_number, file.document_number)
        return tuple(once.values())

    def _all(self) -> Iterator[EnvelopeFile]:
        # eSAW promises no order; what has no number comes last, as listed.
        documents = sorted(
            self.documents or (), key=lambda each: (each.document_number is None, each.document_number or 0)
        )
        trail = self.audit_trail or AuditTrail()
        for each in documents:
            yield EnvelopeFile(
                file_id=each.file_id or "",
                kind=FileKind.DOCUMENT,
                file_name=each.file_name or "",
                document_number=each.document_number,
                audit_trail_id=each.audit_trail_file_id or None,
            )
        for each in documents:
            for attachment in each.attachments or ():
                yield EnvelopeFile(
                    file_id=attachment.file_id or "",
                    kind=FileKind.ATTACHMENT,
                    file_name=attachment.file_name or "",
                    document_number=each.document_number,
                )
        for each in documents:
            if each.audit_trail_file_id:
                name = f"{PurePosixPath(each.file_name or '').stem or 'document'}.audit-trail.pdf"
                yield from _audit_trail_file(
                    each.audit_trail_file_id, FileKind.AUDIT_TRAIL, name, each.document_number
                )
        yield from _audit_trail_file(trail.file_id, FileKind.AUDIT_TRAIL, "audit-trail.pdf")
        yield from _audit_trail_file(trail.xml_file_id, FileKind.AUDIT_TRAIL_XML, "audit-trail.xml")
        for paper in self.legal_documents or ():
            yield EnvelopeFile(
                file_id=paper.file_id or "",
                kind=FileKind.LEGAL_DOCUMENT,
                file_name=paper.file_name or "",
                email=paper.email,
                activity_id=paper.activity_id,
            )


class ConfigurationResponse(EsawModel, frozen=True):
    """``GET envelope/{id}/configuration`` and ``GET draft/{id}/configuration``, of which only the metadata
    concerns us."""

    metadata: str | None = msgspec.field(name="MetaData", default=None)


class HistoryResponse(EsawModel, frozen=True):
    """``GET envelope/{id}/history``: also answers for a deleted envelope, and so tells deleted from never
    there."""

    envelope_has_been_deleted: bool | None = None

    @property
    def has_been_deleted(self) -> bool:
        """Whether the envelope was deleted in eSAW."""
        return self.envelope_has_been_deleted is True


class HistoryEvent(EsawModel, frozen=True):
    """
    One step of eSAW in an envelope's history, such as a callback.

    ``ContextInformation`` is not read: it contains callback URLs, and they contain tokens.
    """

    type_text: str | None = msgspec.field(name="Type", default=None)
    completed: bool | None = None
    is_in_error_state: bool | None = None
    remaining_attempts: int | None = None

    @property
    def name(self) -> str:
        """Its type if that is a plain word, else empty."""
        return _matching(_STEP_NAME, self.type_text) or ""

    @property
    def is_in_error(self) -> bool:
        """Whether it failed for now or was given up: a step without attempts left can be both Completed and
        in an error state (Namirial's model of the event)."""
        return self.is_in_error_state is True and not (self.completed and self.remaining_attempts)


class HistoryEventsResponse(EsawModel, frozen=True):
    """``GET envelope/{id}/history``, of which only eSAW's own steps concern us."""

    events: tuple[HistoryEvent, ...] | None = None

    @property
    def failed_step(self) -> HistoryEvent | None:
        """The last step that is in an error state; None: none is."""
        return next((each for each in reversed(self.events or ()) if each.is_in_error), None)


class FoundEnvelope(NamedModel, frozen=True, kw_only=True):
    """One hit of ``POST envelope/find``."""

    id: str
    status_text: str | None = msgspec.field(name="Status", default=None)
    metadata: str | None = msgspec.field(name="MetaData", default=None)
    bulk_parent_id: str | None = msgspec.field(name="EnvelopeBulkParentId", default=None)
    """The bulk that it was sent in; None for an envelope that was sent on its own."""

    @property
    def status(self) -> EnvelopeStatus | None:
        """The status; None for a value that only ``find`` returns (such as WaitingForOthers), so that other
        results stay valid."""
        return EnvelopeStatus(self.status_text) if self.status_text in set(EnvelopeStatus) else None


class FindResponse(EsawModel, frozen=True):
    """``POST envelope/find``."""

    envelopes: tuple[FoundEnvelope, ...] | None = None


class DraftResponse(NamedModel, frozen=True):
    """``GET draft/{id}``, of which only the name concerns us."""


class SentEnvelope(EsawModel, frozen=True):
    """The envelope that a draft became."""

    envelope_id: str


class SentBulk(EsawModel, frozen=True):
    """The envelopes that a bulk draft became, one per recipient. The recipients' addresses beside them are
    personal data."""

    envelope_bulk_children: tuple[SentEnvelope, ...] | None = None


class SendDraftResponse(EsawModel, frozen=True):
    """``POST draft/send``: one envelope, or the envelopes of a bulk."""

    envelope: SentEnvelope | None = None
    envelope_bulk: SentBulk | None = None

    @property
    def envelopes(self) -> tuple[SentEnvelope, ...]:
        """All envelopes that the draft became; empty if the answer names none."""
        children = (
            self.envelope_bulk.envelope_bulk_children if self.envelope_bulk is not None else None
        ) or ()
        return (*(() if self.envelope is None else (self.envelope,)), *children)


class ErrorResponse(EsawModel, frozen=True):
    """The body of an error: v6 has a TraceId where v4 has a SupportId; OAuth has its own. (RFC 6749, 5.2)"""

    error_id: str | None = None
    oauth_error: str | None = msgspec.field(name="error", default=None)
    trace_id: str | None = None
    support_id: str | None = None


A = TypeVar("A", bound=msgspec.Struct)

_OAUTH_ERROR = re.compile(r"invalid_[a-z]{1,16}|unauthorized_client|unsupported_grant_type")
_ERROR_ID = re.compile(rf"[A-Z]{{3,8}}-?[0-9]{{1,8}}|{_OAUTH_ERROR.pattern}")
_STEP_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_TRACE_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
_BEFORE_MARKUP: Final = b" \t\r\n\f\v\x00\xef\xbb\xbf\xfe\xff"
"""Bytes that may be before the first tag: white space and the byte order marks of UTF-8 and UTF-16."""

_VERSION = re.compile(rf"(?=.*[0-9])[A-Za-z0-9][A-Za-z0-9 .,+_()-]{{0,{MAX_VERSION_LENGTH - 1}}}")
CONFIGURATION_MEMBERS = frozenset(
    {"MetaData", "ShareWithTeam", "Activities", "ExpirationConfiguration", "CallbackConfiguration"}
)
"""Members of the configuration of an envelope or a draft; an object with none of them is none."""

_MEMBERS: Mapping[type[msgspec.Struct], tuple[str, frozenset[str]]] = {
    ConfigurationResponse: ("a configuration", CONFIGURATION_MEMBERS),
    FilesResponse: ("a list of files", frozenset({"Documents", "AuditTrail", "LegalDocuments"})),
    FindResponse: ("a search result", frozenset({"Envelopes"})),
}
"""Name of each answer without a required member, and the members of which it has at least one. Which of them
are absent for null is not documented."""

_NAMED_MEMBERS: Mapping[type[msgspec.Struct], type[msgspec.Struct]] = {
    kind: msgspec.defstruct("NamedMembers", [(name, msgspec.Raw, msgspec.Raw()) for name in sorted(members)])
    for kind, (_, members) in _MEMBERS.items()
}
"""The members of each, unread."""

LONG_METADATA: Final = "." * (MAX_METADATA_BYTES + 1)
"""Stands for all metadata that is too long, so that no run keeps it; its readers refuse it for its length."""


def decode(kind: type[A], operation: str, body: bytes) -> A:
    """
    Read the JSON of an answer. Raises ``ResponseInvalid``, which says what is wrong and where.

    An object that has none of the members of its kind, such as the health page of a proxy, is no answer.
    """
    try:
        answer = msgspec.json.decode(body, type=kind)
        # Only an answer that says nothing is read a second time.
        if kind not in _MEMBERS or answer != kind():
            return answer
        named = msgspec.json.decode(body, type=_NAMED_MEMBERS[kind])
        if any(map(bytes, msgspec.structs.astuple(named))):
            return answer
        what = f"it has no part of {_MEMBERS[kind][0]}"
    except msgspec.ValidationError as mismatch:
        what = mismatch_text(mismatch)
    except JSON_ERRORS:
        text = body.strip()
        what = "it is HTML, not JSON" if text[:1] == b"<" else "it is no JSON" if text else "it is empty"
    raise ResponseInvalid(operation, what)


def _awaited(action: str) -> ActivityState:
    return ActivityState(status_text="Pending", action={action: msgspec.Raw(b"{}")})


def decode_envelope(operation: str, body: bytes) -> EnvelopeResponse:
    """Read an envelope. Raises ``EnvelopeStatusUnknown`` for a status that is null, left out or not one of
    ``EnvelopeStatus``."""
    status = decode(_EnvelopeStatusText, operation, body).text
    if status not in set(EnvelopeStatus):
        raise EnvelopeStatusUnknown(operation, status)
    found = decode(EnvelopeResponse, operation, body)
    refuse_long_texts(operation, found)
    # The steps are a view of the whole answer, which a run would keep with them.
    steps: list[EsawModel] = []
    if found.finished_date is not None:
        steps.append(WorkflowActivity(finished_text=found.finished_date.isoformat()))
    if found.status is EnvelopeStatus.ACTIVE:
        awaited = ((found.awaits_signature, _SIGNATURES), (found.awaits_reader, _READING))
        steps += [_awaited(actions[0]) for is_awaited, actions in awaited if is_awaited]
    return msgspec.structs.replace(found, workflow=msgspec.Raw(msgspec.json.encode(steps)))


def decode_files(operation: str, body: bytes) -> FilesResponse:
    """Read a list of files. Raises ``ResponseInvalid``, also for more text than an event takes."""
    found = decode(FilesResponse, operation, body)
    refuse_long_texts(operation, found)
    return found


def decode_configuration(operation: str, body: bytes) -> ConfigurationResponse:
    """Read a configuration; ``LONG_METADATA`` stands for metadata that is too long. Raises
    ``ResponseInvalid``."""
    return ConfigurationResponse(
        metadata=bounded_metadata(decode(ConfigurationResponse, operation, body).metadata)
    )


def bounded_metadata(text: str | None) -> str | None:
    """Return the metadata, or ``LONG_METADATA`` for what is longer than ``MAX_METADATA_BYTES``."""
    if text is None or len(text.encode(errors="surrogatepass")) <= MAX_METADATA_BYTES:
        return text
    return LONG_METADATA


def refuse_long_texts(operation: str, answer: msgspec.Struct) -> None:
    """Raise ``ResponseInvalid`` for an answer whose texts need more memory than ``MAX_TEXT_MEMORY``."""
    if text_memory(answer) > MAX_TEXT_MEMORY:
        raise ResponseInvalid(operation, "its names and other texts are too long")


def expect_no_result(operation: str, body: bytes) -> None:
    """Raise ``ResponseInvalid`` unless the response to a call without a result is empty or JSON."""
    if body.strip():
        try:
            msgspec.json.decode(body, type=msgspec.Raw)
        except JSON_ERRORS:
            raise ResponseInvalid(operation, "it is no JSON") from None


def parse_version(body: bytes) -> str:
    """
    Read the version from any of its formats: a JSON string, an object that contains a version, plain text.

    A version has a digit, unlike the ``OK`` of a health page. Raises ``ResponseInvalid`` when the response
    contains no version. (The format for v6 is not documented.)
    """
    for text in _version_texts(body):
        if _VERSION.fullmatch(text.strip()):
            return text.strip()
    what = "it is HTML, not JSON" if is_markup(body) else "no version can be seen in it"
    raise ResponseInvalid("version", what)


def is_markup(body: bytes) -> bool:
    """Whether a body is HTML or XML, which no answer of the API is."""
    return body.lstrip(_BEFORE_MARKUP)[:1] == b"<"


def parse_error(body: bytes) -> tuple[str | None, str | None]:
    """Return error id and trace id of an error's body; None for what is not there. Never fails: the status is
    enough."""
    try:
        parsed = msgspec.json.decode(body, type=ErrorResponse)
    except JSON_ERRORS:
        return None, None
    error_id, trace_id = parsed.error_id or parsed.oauth_error, parsed.trace_id or parsed.support_id
    return _matching(_ERROR_ID, error_id), _matching(_TRACE_ID, trace_id)


def is_oauth_error(error_id: str) -> bool:
    """Whether it is an error of OAuth, which eSAW's token endpoint has, and any gateway before its API."""
    return _OAUTH_ERROR.fullmatch(error_id) is not None


def refuse_error_body(operation: str, body: bytes) -> None:
    """Raise ``ResponseInvalid`` for an error of eSAW that came with a status of success, as some proxies
    pass it on."""
    if b'"ErrorId"' not in body:
        return
    try:
        error_id = msgspec.json.decode(body, type=ErrorResponse).error_id
    except JSON_ERRORS:
        return
    if error_id:
        known = _matching(_ERROR_ID, error_id)
        raise ResponseInvalid(
            operation, f"it is the error {known or 'of an unknown id'}, with a status of success"
        )


def is_file_id(text: str) -> bool:
    """Whether this can be a file id: opaque, but printable ASCII, of bounded length, and no step up in a
    path."""
    return (
        0 < len(text) <= MAX_FILE_ID_LENGTH
        and text.isascii()
        and text.isprintable()
        and text not in {".", ".."}
    )


def _version_texts(body: bytes) -> Iterable[str]:
    try:
        parsed = msgspec.json.decode(body)
    except JSON_ERRORS:
        return [body.decode("utf-8", errors="replace")]
    if isinstance(parsed, dict):
        versions = (value for key, value in parsed.items() if key.lower().endswith("version"))
        return [value for value in versions if isinstance(value, str)]
    # Plain 23.76 is also a JSON number.
    return [parsed] if isinstance(parsed, str) else [body.decode()] if isinstance(parsed, float) else []


def _audit_trail_file(
    file_id: str | None, kind: FileKind, name: str, number: int | None = None
) -> Iterator[EnvelopeFile]:
    if file_id:
        yield EnvelopeFile(file_id=file_id, kind=kind, file_name=name, document_number=number)


def parse_time(text: str | None) -> datetime | None:
    """
    Return a time of eSAW in UTC.

    One that can't be read is left out: it is for people, and no reason to leave an envelope unarchived. So is
    one in .NET's first or last year: its smallest and its largest date stand for "not set".
    """
    try:
        moment = datetime.fromisoformat(text or "")
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):  # OverflowError: before the year 1 in UTC, or after 9999
        return None
    return moment if MINYEAR < moment.year < MAXYEAR else None


def _matching(pattern: re.Pattern[str], text: str | None) -> str | None:
    return text if text is not None and pattern.fullmatch(text) else None
