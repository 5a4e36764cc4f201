"""
Bodies of POST requests: their exact shapes, and what eSAW would refuse about them.

Field names are exact, unknown fields are ignored. A missing or empty required field is ERR0002, anything else
that does not fit is ERR0011.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct, field

from sandbox.esaw.core.errors import ErrorCode, RequestRefused, UnsupportedMediaType
from sandbox.esaw.core.model import ActionKind, CallbackUrls, Recipient

MAX_BULK_RECIPIENTS: Final = 1000

AwareDatetime = Annotated[datetime, Meta(tz=True)]
"""RFC 3339 with a zone."""


class EnvelopeBody(Struct, rename="pascal"):
    """`{"EnvelopeId"}` of delete and cancel."""

    envelope_id: str


class RestartBody(Struct, rename="pascal"):
    """The body of `envelope/restartexpired`."""

    envelope_id: str
    expiration_in_seconds_after_sending: int | None = None
    expiration_date: AwareDatetime | None = None


class DraftBody(Struct, rename="pascal"):
    """`{"DraftId"}` of draft/send."""

    draft_id: str


class FindBody(Struct, rename="pascal"):
    """The filters of `envelope/find`; those that are not given match everything."""

    start_date: AwareDatetime | None = None
    end_date: AwareDatetime | None = None
    search_text: str | None = None
    status: str | None = None
    in_status_since_days: int | None = None
    sender_email: str | None = None
    recipient_email: str | None = None
    completed_by_recipient_with_email: str | None = None
    waiting_for_recipient_with_email: str | None = None
    envelope_bulk_parent_id: str | None = None


class ContactBody(Struct, rename="pascal"):
    """`ContactInformation` of a recipient."""

    email: str
    given_name: str
    surname: str
    language_code: str | None = None


class RecipientBody(Struct, rename="pascal"):
    """`RecipientConfiguration` of an action."""

    contact_information: ContactBody


class PersonBody(Struct, rename="pascal"):
    """An action that a person is asked to do."""

    recipient_configuration: RecipientBody


class BulkBody(Struct, rename="pascal"):
    """`SignBulk`: one envelope for each recipient."""

    bulk_recipients: list[PersonBody]


class ActionBody(Struct, rename="pascal"):
    """`Action`, which has exactly one of these."""

    sign: PersonBody | None = None
    sign_bulk: BulkBody | None = None
    """Counts for drafts only."""
    view: PersonBody | None = None
    send_copy: PersonBody | None = None
    sign_automatic: dict[str, Any] | None = None
    sign_as_p7m: PersonBody | None = field(default=None, name="SignAsP7M")


class ActivityBody(Struct, rename="pascal"):
    """One of `Activities`."""

    action: ActionBody


class DocumentBody(Struct, rename="pascal"):
    """One of `Documents`: an upload and its place."""

    file_id: str
    document_number: int | None = None


class WorkstepCallbackBody(Struct, rename="pascal"):
    """`ActivityActionCallbackConfiguration`."""

    url: str
    action_callback_selection: dict[str, bool | None] | None = None


class CallbackBody(Struct, rename="pascal"):
    """`CallbackConfiguration`; `AfterSendCallbackUrl` counts for drafts only."""

    callback_url: str | None = None
    status_update_callback_url: str | None = None
    activity_action_callback_configuration: WorkstepCallbackBody | None = None
    after_send_callback_url: str | None = None


class RedirectBody(Struct, rename="pascal"):
    """`RedirectConfiguration` of a draft, for those who send it from the web pages."""

    before_send_redirect_url: str | None = None
    after_send_redirect_url: str | None = None


class ExpirationBody(Struct, rename="pascal"):
    """`ExpirationConfiguration`, one of the two."""

    expiration_in_seconds_after_sending: int | None = None
    expiration_in_seconds: int | None = None
    """As drafts call it."""
    expiration_date: AwareDatetime | None = None


class SendBody(Struct, rename="pascal"):
    """The body of envelope/send and of draft/create, as far as the stand-in understands it."""

    documents: list[DocumentBody]
    name: str
    activities: list[ActivityBody]
    meta_data: str | None = None
    share_with_team: bool | None = None
    callback_configuration: CallbackBody | None = None
    expiration_configuration: ExpirationBody | None = None
    redirect_configuration: RedirectBody | None = None
    """Counts for drafts only."""


class DraftUpdateBody(Struct, rename="pascal"):
    """The body of draft/update: what is not given or null stays."""

    draft_id: str
    name: str | None = None
    meta_data: str | None = None
    share_with_team: bool | None = None
    callback_configuration: CallbackBody | None = None
    redirect_configuration: RedirectBody | None = None


Body = TypeVar("Body", bound=Struct)


def decode_body(kind: type[Body], content_type: str, body: bytes) -> Body:
    """The body as this kind. Raises UnsupportedMediaType, or EsawError with ERR0002 or ERR0011."""
    if content_type != "application/json":
        raise UnsupportedMediaType
    if not body:
        raise RequestRefused(ErrorCode.EMPTY_PARAMETER, "The body is empty.")
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as exc:
        missing = "missing required field" in str(exc)
        raise RequestRefused(
            ErrorCode.EMPTY_PARAMETER if missing else ErrorCode.INVALID_FORMAT, f"({exc})"
        ) from exc


def required(value: str) -> str:
    """The value, which is not empty. Raises EsawError with ERR0002."""
    if not value:
        raise RequestRefused(ErrorCode.EMPTY_PARAMETER)
    return value


def recipients(activities: list[ActivityBody]) -> list[Recipient]:
    """The recipients and their tasks, without those of a bulk. Raises EsawError."""
    _count(len(activities), "Activities")
    return [_recipient(each.action) for each in activities if each.action.sign_bulk is None]


def bulk_recipients(activities: list[ActivityBody]) -> list[Recipient]:
    """The recipients of a bulk; none for an envelope that is no bulk. Raises EsawError."""
    bulks = [each.action.sign_bulk for each in activities if each.action.sign_bulk is not None]
    if not bulks:
        return []
    if len(bulks) > 1 or any(
        each.action.sign_bulk is not None and each.action != ActionBody(sign_bulk=each.action.sign_bulk)
        for each in activities
    ):
        raise RequestRefused(
            ErrorCode.INVALID_FORMAT, "Activities have one SignBulk at most, which is a separate Action."
        )
    people = bulks[0].bulk_recipients
    _count(len(people), "BulkRecipients", most=MAX_BULK_RECIPIENTS)
    return [_recipient(ActionBody(sign=each)) for each in people]


def documents(given: list[DocumentBody]) -> list[str]:
    """The file ids in the order of the documents. Raises EsawError."""
    _count(len(given), "Documents")
    numbers = [each.document_number or 0 for each in given]
    if not any(numbers):
        return [required(each.file_id) for each in given]
    if 0 in numbers or len(set(numbers)) < len(numbers):
        raise RequestRefused(
            ErrorCode.INVALID_FORMAT, "DocumentNumber must be set for all documents or none, each another."
        )
    return [required(each.file_id) for each in sorted(given, key=lambda each: each.document_number or 0)]


def callback_urls(body: CallbackBody | None, *, is_draft: bool) -> CallbackUrls:
    """The callback URLs that a request sets. Raises EsawError with ERR0011 for what is no URL."""
    if body is None:
        return CallbackUrls()
    workstep = body.activity_action_callback_configuration
    return CallbackUrls(
        envelope=_url(body.callback_url),
        status=_url(body.status_update_callback_url),
        workstep=_url(workstep.url) if workstep else None,
        workstep_events=_selected_events(workstep.action_callback_selection or {}) if workstep else (),
        after_send=_url(body.after_send_callback_url) if is_draft else None,
    )


def before_send_url(body: RedirectBody | None, default: str | None) -> str | None:
    """Redirect of the browser before a draft is sent; the default without one. Raises EsawError with ERR0011
    for no URL."""
    return (_url(body.before_send_redirect_url) if body else None) or default


def expiration(given: ExpirationBody | RestartBody | None, now: datetime) -> datetime | None:
    """When the envelope is to expire; None if nothing is said. Raises EsawError with ERR0163."""
    if given is None:
        return None
    seconds = given.expiration_in_seconds_after_sending
    if seconds is None and isinstance(given, ExpirationBody):
        seconds = given.expiration_in_seconds
    at = given.expiration_date
    if seconds is not None and at is not None:
        raise RequestRefused(ErrorCode.BAD_EXPIRATION)
    if seconds is not None:
        if not 600 <= seconds <= 28 * 24 * 3600:
            raise RequestRefused(ErrorCode.BAD_EXPIRATION)
        return datetime.fromtimestamp(now.timestamp() + seconds, tz=now.tzinfo)
    if at is not None and at <= now:
        raise RequestRefused(ErrorCode.BAD_EXPIRATION)
    return at


def _count(number: int, what: str, *, most: int = 50) -> None:
    if number == 0:
        raise RequestRefused(ErrorCode.EMPTY_PARAMETER, f"{what} must not be empty.")
    if number > most:
        raise RequestRefused(ErrorCode.INVALID_FORMAT, f"{what} must not have more than {most} entries.")


def _recipient(action: ActionBody) -> Recipient:
    people = {
        ActionKind.SIGN: action.sign,
        ActionKind.VIEW: action.view,
        ActionKind.SEND_COPY: action.send_copy,
        ActionKind.SIGN_AS_P7M: action.sign_as_p7m,
    }
    chosen = [(kind, person) for kind, person in people.items() if person is not None]
    if len(chosen) + (action.sign_automatic is not None) != 1:
        raise RequestRefused(
            ErrorCode.INVALID_FORMAT,
            "An Action has exactly one of Sign, View, SendCopy, SignAutomatic, SignAsP7M.",
        )
    if not chosen:
        return Recipient(email="", given_name="", surname="", action=ActionKind.SIGN_AUTOMATIC)
    kind, person = chosen[0]
    contact = person.recipient_configuration.contact_information
    return Recipient(
        email=required(contact.email),
        given_name=contact.given_name,
        surname=contact.surname,
        language=contact.language_code or "EN",
        action=kind,
    )


def _selected_events(selection: Mapping[str, bool | None]) -> tuple[str, ...]:
    return tuple(name for name, wanted in selection.items() if wanted)


def _url(given: str | None) -> str | None:
    if not given:
        return None
    parts = urlsplit(given)
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise RequestRefused(ErrorCode.INVALID_FORMAT, "A URL must be absolute.")
    return given
