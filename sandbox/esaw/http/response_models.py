"""
Shapes: the JSON of each answer, made from the model. Pure; field names and nesting are eSAW's.

The shapes are those of `facts.toml`: each member is written, one without a value as null. A time is RFC 3339
in UTC with `Z`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sandbox.esaw.core.model import (
    ActionKind,
    ActivityStatus,
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

_GROUPS: Final = {
    ActionKind.SIGN: "SigningGroup",
    ActionKind.VIEW: "ViewingGroup",
    ActionKind.SEND_COPY: "CopyingGroup",
    ActionKind.SIGN_AS_P7M: "SignAsP7MGroup",
}
_NOT_CONFIGURED: Final = (
    "EmailConfiguration",
    "ReminderConfiguration",
    "AgreementConfiguration",
    "SealingConfiguration",
)
"""The members of a configuration that the stand-in has no value for."""
_CONFIGURED_KINDS: Final = tuple(kind for kind in ActionKind if kind is not ActionKind.SIGN_AUTOMATIC)
_V5_RECIPIENTS: Final = {
    ActionKind.SIGN: "Signer",
    ActionKind.VIEW: "Acknowledge",
    ActionKind.SEND_COPY: "Cc",
    ActionKind.SIGN_AUTOMATIC: "Automatic",
    ActionKind.SIGN_AS_P7M: "Pkcs7Signer",
}
_V5_OPTIONS: Final = (
    "EmailSubject",
    "EmailBody",
    "EnableReminders",
    "FirstReminderDayAmount",
    "RecurrentReminderDayAmount",
    "BeforeExpirationDayAmount",
    "DaysUntilExpire",
    "WorkstepEventCallback",
)
"""The members of `BasicOptions` that the stand-in has no value for."""


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
            "Attachments": [{"Name": file.name, "DocumentId": id_of(file)} for file in each.attachments],
            "SignedSignatureFields": [],
            "DocRefNumber": number,
            "FileName": each.file.name,
            "FormFields": [],
        }
        for number, each in enumerate(source.documents, start=1)
    ]
    papers = [
        {"DocumentId": id_of(each), "DisclaimerType": "DisposableDisclaimer"}
        for each in source.legal_documents
    ]
    steps = [
        _v5_step(each, number, papers if is_final and number == 1 else [])
        for number, each in enumerate(source.activities, start=1)
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
        "ValidityFromCreationInDays": (source.expires_at - source.sent_at).days,
        "Bulks": [part],
        "Documents": [],
        "Id": source.id,
        "Bulk": "",
        "BasicOptions": {
            "Name": source.name,
            **dict.fromkeys(_V5_OPTIONS),
            "CallbackUrl": source.callbacks.envelope,
            "StatusUpdateCallbackUrl": source.callbacks.status,
            "MetaDataXml": source.metadata,
        },
        "LockFormFieldsAtEnvelopeFinish": False,
    }


def _v5_step(source: EnvelopeActivity, number: int, papers: Sequence[Json]) -> Json:
    signed = {ActivityStatus.PENDING: "NotSigned", ActivityStatus.COMPLETED: "Signed"}
    return {
        "Id": source.id,
        "FirstName": source.recipient.given_name,
        "LastName": source.recipient.surname,
        "OrderIndex": number,
        "Email": source.recipient.email,
        "LanguageCode": source.recipient.language,
        "Status": signed.get(source.status, source.status),
        "StatusReason": source.status_reason,
        "RecipientType": _V5_RECIPIENTS[source.recipient.action],
        "SignedDate": _time(source.finished_at),
        "OpenedDate": _time(source.opened_at),
        "WorkstepRedirectionUrl": None,
        "AllowAccessFinishedWorkstep": False,
        "Warnings": [],
        "Authentication": [],
        "IsParallel": False,
        "WorkstepConfiguration": None,
        "DisclaimerDocuments": papers,
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


def without_nulls(answer: Any) -> Any:
    """The same answer without the members that are null, at each depth."""
    if isinstance(answer, dict):
        return {name: without_nulls(value) for name, value in answer.items() if value is not None}
    return [without_nulls(each) for each in answer] if isinstance(answer, list) else answer


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
        **dict.fromkeys(_NOT_CONFIGURED),
        "ExpirationConfiguration": {"ExpirationDate": _time(source.expires_at)},
        "CallbackConfiguration": _callbacks(source.callbacks, "ConfigurationActionCallbackSelection"),
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


def invented_hit(envelope_id: str) -> Json:
    """One hit of `envelope/find` for an envelope that is not there."""
    return {
        "Status": EnvelopeStatus.COMPLETED,
        "Id": envelope_id,
        "Name": "Contract",
        "MetaData": None,
        "EnvelopeBulkParentId": None,
        "IsExpiringSoon": False,
    }


def draft(source: Draft) -> Json:
    """`draft/{id}`."""
    actions = [_draft_action(each.action, _action(each)) for each in source.recipients]
    if source.bulk_recipients:
        people = [{"ContactInformation": _contact(each)} for each in source.bulk_recipients]
        actions.insert(0, _draft_action("SignBulk", {"RecipientConfigurations": people}))
    return {
        "Id": source.id,
        "Name": source.name,
        "CreationDate": _time(source.created_at),
        "Activities": [{"Id": None, "PlaceholderLabel": None, "Action": action} for action in actions],
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
        "AddDocumentTimestamp": False,
        "ShareWithTeam": source.share_with_team,
        "LockFormFieldsOnFinish": False,
        "SendFinishedDocumentsToAllSignersAndMustView": False,
        "Activities": [
            {"Id": None, "Action": action, "VisibilityOptions": []} for action in _configured_actions(source)
        ],
        **dict.fromkeys(
            (*_NOT_CONFIGURED, "AgentRedirectConfiguration", "DefaultSignatureTypeConfiguration")
        ),
        "ExpirationConfiguration": {"ExpirationInSeconds": None, "ExpirationDate": _time(source.expires_at)},
        "CallbackConfiguration": {
            **_callbacks(source.callbacks, "ActionCallbackSelection"),
            "AfterSendCallbackUrl": source.callbacks.after_send,
        },
        "RedirectConfiguration": {
            "BeforeSendRedirectUrl": source.before_send_url,
            "AfterSendRedirectUrl": None,
        },
    }


def _activity(source: EnvelopeActivity) -> Json:
    action = _action(source.recipient)
    if source.recipient.action is ActionKind.SIGN:
        action["LongLivedDisposableCertificateWarnings"] = []
    return {
        "Id": source.id,
        "Status": source.status,
        "StatusReason": source.status_reason,
        "FinishedDate": _time(source.finished_at),
        "OpenedDate": _time(source.opened_at),
        "Action": {**dict.fromkeys(ActionKind), source.recipient.action: action},
    }


def _action(recipient: Recipient) -> Json:
    """The one action of an activity."""
    if recipient.action is ActionKind.SIGN_AUTOMATIC:
        return {"ProfileId": None, "RenderingLanguageCode": None}
    return {"ContactInformation": _contact(recipient), _GROUPS[recipient.action]: 1}


def _draft_action(kind: str, action: Json) -> Json:
    return {**dict.fromkeys((*ActionKind, "SignBulk")), kind: action}


def _configured_actions(source: Draft) -> Sequence[Json]:
    actions = [{**_configured_action(each), "SignBulk": None} for each in source.recipients]
    if source.bulk_recipients:
        people = [{"RecipientConfiguration": {"PersonalMessage": None}} for _ in source.bulk_recipients]
        bulk = {"SignBulk": {"RecipientConfigurations": people}}
        actions.insert(0, {**dict.fromkeys(_CONFIGURED_KINDS), **bulk})
    return actions


def _configured_action(recipient: Recipient) -> Json:
    """A configuration shows neither the recipient nor an automatic signature."""
    configured = {"RecipientConfiguration": {"PersonalMessage": None}}
    return {kind: configured if kind is recipient.action else None for kind in _CONFIGURED_KINDS}


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


def _callbacks(urls: CallbackUrls, selection: str) -> Json:
    return {
        "CallbackUrl": urls.envelope,
        "StatusUpdateCallbackUrl": urls.status,
        "ActivityActionCallbackConfiguration": urls.workstep
        and {"Url": urls.workstep, selection: dict.fromkeys(urls.workstep_events, True)},
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
    return {**_person(who), "PhoneNumber": None, "LanguageCode": who.language}


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat().replace("+00:00", "Z")
