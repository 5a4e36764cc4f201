"""
Shapes: the JSON of each v6 answer, made from the model. Pure; field names and nesting are eSAW's.

A time is RFC 3339 in UTC with `Z`.
"""

from datetime import datetime
from typing import Any

from sandbox.esaw.model import (
    ActionKind,
    Activity,
    CallbackUrls,
    Document,
    Draft,
    Envelope,
    EnvelopeStatus,
    HistoryEvent,
    Recipient,
    StoredFile,
    User,
)

Json = dict[str, Any]


def whoami(user: User) -> Json:
    """`authorization/whoami`."""
    return {
        "UserId": user.user_id,
        **_person(user),
        "UserName": user.email,
        "Sid": None,
        "SamlAssignments": [],
        "OAuthAssignments": [],
        "Roles": ["Sender"],
    }


def envelope(it: Envelope) -> Json:
    """`envelope/{id}`."""
    return {
        "Id": it.id,
        "EnvelopeStatus": it.status,
        "Name": it.name,
        "SentDate": _time(it.sent_at),
        "EnvelopeBulkParentId": it.bulk_parent_id,
        "Activities": [_activity(each) for each in it.activities],
        "SenderUserInformation": _person(it.sender),
    }


def files(it: Envelope) -> Json:
    """`envelope/{id}/files`: the finished papers, so none while the envelope is Active."""
    if it.status is EnvelopeStatus.ACTIVE:
        return _without_empty({"Documents": [], "AuditTrail": None, "LegalDocuments": []}, it)
    trail = it.audit_trail and {
        "FileId": it.audit_trail.id,
        "XmlFileId": it.audit_trail_xml.id if it.audit_trail_xml else None,
    }
    answer = {
        "Documents": [_document(number, each) for number, each in enumerate(it.documents, start=1)],
        "AuditTrail": trail,
        "LegalDocuments": [_legal_document(it, each) for each in it.legal_documents],
    }
    return _without_empty(answer, it)


def configuration(it: Envelope) -> Json:
    """`envelope/{id}/configuration`."""
    return {
        "MetaData": it.metadata,
        "AddDocumentTimestamp": False,
        "ShareWithTeam": it.share_with_team,
        "LockFormFieldsOnFinish": False,
        "Activities": [
            {"Id": each.id, "Action": _configured_action(each.recipient), "VisibilityOptions": []}
            for each in it.activities
        ],
        "ExpirationConfiguration": {"ExpirationDate": _time(it.expires_at)},
        "CallbackConfiguration": _callbacks(it.callbacks),
    }


def elements(it: Envelope) -> Json:
    """`envelope/{id}/elements`, with no elements."""
    return {
        "Activities": [{"Id": each.id, "Action": {}} for each in it.activities],
        "UnassignedElements": None,
    }


def history(it: Envelope) -> Json:
    """`envelope/{id}/history`, which outlives the envelope."""
    return {
        "Events": [] if it.deleted_at else [_event(each) for each in it.history],
        "EnvelopeHasBeenDeleted": it.deleted_at is not None,
        "EnvelopeDeletionDate": _time(it.deleted_at),
    }


def found(it: Envelope, *, is_expiring_soon: bool) -> Json:
    """One hit of `envelope/find`."""
    return {
        "Status": it.status,
        "Id": it.id,
        "Name": it.name,
        "MetaData": it.metadata,
        "EnvelopeBulkParentId": it.bulk_parent_id,
        "IsExpiringSoon": is_expiring_soon,
    }


def draft(it: Draft) -> Json:
    """`draft/{id}`."""
    return {
        "Id": it.id,
        "Name": it.name,
        "CreationDate": _time(it.created_at),
        "Activities": [
            {"Id": None, "Action": {each.action: {"ContactInformation": _contact(each)}}}
            for each in it.recipients
        ],
    }


def draft_configuration(it: Draft) -> Json:
    """`draft/{id}/configuration`."""
    return {
        "MetaData": it.metadata,
        "ShareWithTeam": it.share_with_team,
        "ExpirationConfiguration": {"ExpirationInSeconds": None, "ExpirationDate": _time(it.expires_at)},
        "CallbackConfiguration": {
            **_callbacks(it.callbacks),
            "AfterSendCallbackUrl": it.callbacks.after_send,
        },
        "RedirectConfiguration": {"BeforeSendRedirectUrl": it.before_send_url, "AfterSendRedirectUrl": None},
    }


def _activity(it: Activity) -> Json:
    action: Json = {}
    if it.recipient.action is not ActionKind.SIGN_AUTOMATIC:
        action["ContactInformation"] = _contact(it.recipient)
    if it.recipient.action is ActionKind.SIGN:
        action |= {"LongLivedDisposableCertificateWarnings": [], "SigningGroup": 1}
    return {
        "Id": it.id,
        "Status": it.status,
        "StatusReason": it.status_reason,
        "FinishedDate": _time(it.finished_at),
        "OpenedDate": _time(it.opened_at),
        "Action": {it.recipient.action: action},
    }


def _configured_action(recipient: Recipient) -> Json:
    return {recipient.action: {"RecipientConfiguration": {"ContactInformation": _contact(recipient)}}}


def _document(number: int, it: Document) -> Json:
    return {
        "FileId": it.file.id,
        "FileName": it.file.name,
        "AuditTrailFileId": it.audit_trail.id if it.audit_trail else None,
        "Attachments": [{"FileId": each.id, "FileName": each.name} for each in it.attachments],
        "PageCount": it.pages,
        "DocumentNumber": number,
    }


def _legal_document(it: Envelope, file: StoredFile) -> Json:
    first = it.activities[0] if it.activities else None
    return {
        "FileId": file.id,
        "FileName": file.name,
        "ActivityId": first.id if first else None,
        "Email": first.recipient.email if first else None,
    }


def _event(it: HistoryEvent) -> Json:
    affected = it.activity
    return {
        "CreationDate": _time(it.created_at),
        "Type": it.type,
        "AffectedRecipient": {"Id": affected.id, **_person(affected.recipient)} if affected else None,
        "Completed": it.completed,
        "CompletedOn": _time(it.completed_at),
        "IsInErrorState": it.in_error,
        "NextAttemptOn": _time(it.next_attempt_at),
        "Attempt": it.attempt,
        "RemainingAttempts": it.remaining_attempts,
        "ContextInformation": it.context,
        "TraceId": it.trace_id,
    }


def _callbacks(urls: CallbackUrls) -> Json:
    selection = dict.fromkeys(urls.workstep_events, True)
    return {
        "CallbackUrl": urls.envelope,
        "StatusUpdateCallbackUrl": urls.status,
        "ActivityActionCallbackConfiguration": urls.workstep
        and {"Url": urls.workstep, "ConfigurationActionCallbackSelection": selection},
    }


def _without_empty(answer: Json, it: Envelope) -> Json:
    if it.empty_as == "empty":
        return answer
    if it.empty_as == "null":
        return {name: value or None for name, value in answer.items()}
    return {name: value for name, value in answer.items() if value}


def _person(who: User | Recipient) -> Json:
    return {"Email": who.email, "GivenName": who.given_name, "Surname": who.surname}


def _contact(who: Recipient) -> Json:
    return {**_person(who), "LanguageCode": who.language}


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")
