"""
Shapes: the JSON of each v6 answer, made from the model. Pure; field names and nesting are eSAW's.

A time is RFC 3339 in UTC with `Z`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sandbox.esaw.core.model import (
    ActionKind,
    CallbackUrls,
    Document,
    Draft,
    EnvelopeActivity,
    EnvelopeStatus,
    HistoryEntry,
    Recipient,
    StoredEnvelope,
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


def envelope(source: StoredEnvelope) -> Json:
    """`envelope/{id}`."""
    return {
        "Id": source.id,
        "EnvelopeStatus": source.status,
        "Name": source.name,
        "SentDate": _time(source.sent_at),
        "EnvelopeBulkParentId": source.bulk_parent_id,
        "Activities": [_activity(each) for each in source.activities],
        "SenderUserInformation": _person(source.sender),
    }


def v5_envelope(source: StoredEnvelope, suffix: str) -> Json:
    """`v5/envelope/{id}`: all facts at once. An id of a file is the one of v6 with the suffix."""

    def id_of(file: StoredFile | None) -> str | None:
        return f"{file.id}{suffix}" if file else None

    is_final = source.status is not EnvelopeStatus.ACTIVE
    documents = [
        {
            "FlowDocumentId": id_of(each.file),
            "LogDocumentId": id_of(each.audit_trail),
            "DocRefNumber": number,
            "FileName": each.file.name,
            "Attachments": [{"Name": file.name, "DocumentId": id_of(file)} for file in each.attachments],
        }
        for number, each in enumerate(source.documents, start=1)
    ]
    papers = [
        {"DocumentId": id_of(each), "DisclaimerType": "DisposableDisclaimer"}
        for each in source.legal_documents
    ]
    steps = [
        {
            "Id": each.id,
            "Email": each.recipient.email,
            "SignedDate": _time(each.finished_at),
            "DisclaimerDocuments": papers if is_final and not number else [],
        }
        for number, each in enumerate(source.activities)
    ]
    status = source.status if is_final else "InProgress"
    part = {
        "Status": status,
        "Email": "",
        "Id": source.id,
        "LogDocumentId": id_of(source.audit_trail) if is_final else None,
        "LogXmlDocumentId": id_of(source.audit_trail_xml) if is_final else None,
        "FinishedDocuments": documents if is_final else [],
        "Steps": steps,
    }
    return {
        "Status": status,
        "SendDate": _time(source.sent_at),
        "ExpirationDate": _time(source.expires_at),
        "Bulks": [part],
        "Id": source.id,
        "Bulk": "",
        "BasicOptions": {"Name": source.name, "MetaDataXml": source.metadata},
    }


def files(source: StoredEnvelope) -> Json:
    """`envelope/{id}/files`: the finished papers, so none while the envelope is Active."""
    if source.status is EnvelopeStatus.ACTIVE:
        return no_files(source)
    trail = source.audit_trail and {
        "FileId": source.audit_trail.id,
        "XmlFileId": source.audit_trail_xml.id if source.audit_trail_xml else None,
    }
    answer = {
        "Documents": [_document(number, each) for number, each in enumerate(source.documents, start=1)],
        "AuditTrail": trail,
        "LegalDocuments": [_legal_document(source, each) for each in source.legal_documents],
    }
    return _without_empty(answer, source)


def no_files(source: StoredEnvelope) -> Json:
    """`envelope/{id}/files` without content."""
    return _without_empty({"Documents": [], "AuditTrail": None, "LegalDocuments": []}, source)


def clear_file_ids(answer: Json, number: int) -> None:
    """Set the FileId of the last documents, attachments and legal documents of `envelope/{id}/files` to
    null."""
    listed = []
    for document in answer.get("Documents") or ():
        listed += [document, *document["Attachments"]]
    listed += answer.get("LegalDocuments") or ()
    for file in listed[max(len(listed) - number, 0) :]:
        file["FileId"] = None


def configuration(source: StoredEnvelope) -> Json:
    """`envelope/{id}/configuration`."""
    return {
        "MetaData": source.metadata,
        "AddDocumentTimestamp": False,
        "ShareWithTeam": source.share_with_team,
        "LockFormFieldsOnFinish": False,
        "Activities": [
            {"Id": each.id, "Action": _configured_action(each.recipient), "VisibilityOptions": []}
            for each in source.activities
        ],
        "ExpirationConfiguration": {"ExpirationDate": _time(source.expires_at)},
        "CallbackConfiguration": _callbacks(source.callbacks),
    }


def elements(source: StoredEnvelope) -> Json:
    """`envelope/{id}/elements`, with no elements."""
    return {
        "Activities": [{"Id": each.id, "Action": {}} for each in source.activities],
        "UnassignedElements": None,
    }


def history(source: StoredEnvelope) -> Json:
    """`envelope/{id}/history`, which outlives the envelope."""
    return {
        "Events": [] if source.deleted_at else [_event(each) for each in source.history],
        "EnvelopeHasBeenDeleted": source.deleted_at is not None,
        "EnvelopeDeletionDate": _time(source.deleted_at),
    }


def found(source: StoredEnvelope, *, is_expiring_soon: bool) -> Json:
    """One hit of `envelope/find`."""
    return {
        "Status": source.status,
        "Id": source.id,
        "Name": source.name,
        "MetaData": source.metadata,
        "EnvelopeBulkParentId": source.bulk_parent_id,
        "IsExpiringSoon": is_expiring_soon,
    }


def draft(source: Draft) -> Json:
    """`draft/{id}`."""
    actions: list[Json] = [
        {each.action: {"ContactInformation": _contact(each)}} for each in source.recipients
    ]
    if source.bulk_recipients:
        bulk = [
            {"RecipientConfiguration": {"ContactInformation": _contact(each)}}
            for each in source.bulk_recipients
        ]
        actions.insert(0, {"SignBulk": {"BulkRecipients": bulk}})
    return {
        "Id": source.id,
        "Name": source.name,
        "CreationDate": _time(source.created_at),
        "Activities": [{"Id": None, "Action": action} for action in actions],
    }


def sent(envelopes: Sequence[StoredEnvelope]) -> Json:
    """`draft/send`: the one envelope, or the children of a bulk with their recipients."""
    first = envelopes[0]
    if first.bulk_parent_id is None:
        return {"Envelope": {"EnvelopeId": first.id}, "EnvelopeBulk": None}
    children = [
        {"EnvelopeId": each.id, "BulkRecipientEmail": each.activities[0].recipient.email}
        for each in envelopes
    ]
    bulk = {"EnvelopeBulkParentId": first.bulk_parent_id, "EnvelopeBulkChildren": children}
    return {"Envelope": None, "EnvelopeBulk": bulk}


def draft_configuration(source: Draft) -> Json:
    """`draft/{id}/configuration`."""
    return {
        "MetaData": source.metadata,
        "ShareWithTeam": source.share_with_team,
        "ExpirationConfiguration": {"ExpirationInSeconds": None, "ExpirationDate": _time(source.expires_at)},
        "CallbackConfiguration": {
            **_callbacks(source.callbacks),
            "AfterSendCallbackUrl": source.callbacks.after_send,
        },
        "RedirectConfiguration": {
            "BeforeSendRedirectUrl": source.before_send_url,
            "AfterSendRedirectUrl": None,
        },
    }


def _activity(source: EnvelopeActivity) -> Json:
    action: Json = {}
    if source.recipient.action is not ActionKind.SIGN_AUTOMATIC:
        action["ContactInformation"] = _contact(source.recipient)
    if source.recipient.action is ActionKind.SIGN:
        action |= {"LongLivedDisposableCertificateWarnings": [], "SigningGroup": 1}
    return {
        "Id": source.id,
        "Status": source.status,
        "StatusReason": source.status_reason,
        "FinishedDate": _time(source.finished_at),
        "OpenedDate": _time(source.opened_at),
        "Action": {source.recipient.action: action},
    }


def _configured_action(recipient: Recipient) -> Json:
    return {recipient.action: {"RecipientConfiguration": {"ContactInformation": _contact(recipient)}}}


def _document(number: int, source: Document) -> Json:
    return {
        "FileId": source.file.id,
        "FileName": source.file.name,
        "AuditTrailFileId": source.audit_trail.id if source.audit_trail else None,
        "Attachments": [{"FileId": each.id, "FileName": each.name} for each in source.attachments],
        "PageCount": source.pages,
        "DocumentNumber": number,
    }


def _legal_document(source: StoredEnvelope, file: StoredFile) -> Json:
    first = source.activities[0] if source.activities else None
    return {
        "FileId": file.id,
        "FileName": file.name,
        "ActivityId": first.id if first else None,
        "Email": first.recipient.email if first else None,
    }


def _event(source: HistoryEntry) -> Json:
    affected = source.activity
    return {
        "CreationDate": _time(source.created_at),
        "Type": source.type,
        "AffectedRecipient": {"Id": affected.id, **_person(affected.recipient)} if affected else None,
        "Completed": source.completed,
        "CompletedOn": _time(source.completed_at),
        "IsInErrorState": source.in_error,
        "NextAttemptOn": _time(source.next_attempt_at),
        "Attempt": source.attempt,
        "RemainingAttempts": source.remaining_attempts,
        "ContextInformation": source.context,
        "TraceId": source.trace_id,
    }


def _callbacks(urls: CallbackUrls) -> Json:
    selection = dict.fromkeys(urls.workstep_events, True)
    return {
        "CallbackUrl": urls.envelope,
        "StatusUpdateCallbackUrl": urls.status,
        "ActivityActionCallbackConfiguration": urls.workstep
        and {"Url": urls.workstep, "ConfigurationActionCallbackSelection": selection},
    }


def _without_empty(answer: Json, source: StoredEnvelope) -> Json:
    if source.empty_as == "empty":
        return answer
    if source.empty_as == "null":
        return {name: value or None for name, value in answer.items()}
    return {name: value for name, value in answer.items() if value}


def _person(who: User | Recipient) -> Json:
    return {"Email": who.email, "GivenName": who.given_name, "Surname": who.surname}


def _contact(who: Recipient) -> Json:
    return {**_person(who), "LanguageCode": who.language}


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")
