"""
The body of a notice: a CloudEvent 1.0 in the structured JSON format (https://cloudevents.io). Pure.

A notice of the same final state always has the same body. It contains no e-mail address and no key. The list
of documents is bounded, because many receivers accept small bodies only; the manifest has all of them.
"""

from typing import Any

import msgspec

from counterfoil.logs import redact
from counterfoil.resources import API_VERSION, EnvelopeEvent, Phase

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"

ARCHIVED_TYPE = "dev.counterfoil.envelope.archived"
FAILED_TYPE = "dev.counterfoil.envelope.failed"

MAX_DOCUMENTS_IN_NOTICE = 100
MAX_DOCUMENTS_BYTES_IN_NOTICE = 64 * 1024
"""Maximum size of the list of documents as JSON."""

MAX_TEXT = 1000
"""Maximum characters of a name or a message."""


def cloudevent(event: EnvelopeEvent, namespace: str) -> bytes:
    """Return the body of the notice of a finished event that has one."""
    status, notice = event.status, event.status.notice
    if notice is None:
        raise ValueError(f"{event.name} has no notice")
    archived = status.phase is Phase.SUCCEEDED
    body: dict[str, Any] = {
        "specversion": "1.0",
        "id": notice.id,
        "type": ARCHIVED_TYPE if archived else FAILED_TYPE,
        "source": f"/apis/{API_VERSION}/namespaces/{namespace}/organizations/{event.organization}",
        "subject": event.spec.envelope_id,
        "datacontenttype": "application/json",
        "data": _data(event),
    }
    if status.completion_time is not None:
        body["time"] = status.completion_time
    return msgspec.json.encode(body)


def _data(event: EnvelopeEvent) -> dict[str, Any]:
    status, envelope = event.status, event.status.envelope
    documents = _documents(event)
    sender = envelope.sender_ref if envelope is not None else None
    return {
        "organization": event.organization,
        "event": event.name,
        "action": event.spec.action,
        "envelope": {
            "id": event.spec.envelope_id,
            "name": envelope.name[:MAX_TEXT] if envelope is not None else None,
            "status": envelope.status if envelope is not None else None,
        },
        "sender": sender.name if sender is not None else None,
        "archive": status.archive.ref.name if status.archive is not None else None,
        "manifest": status.archive.manifest if status.archive is not None else None,
        "documents": documents,
        "documentsOmitted": len(status.documents) - len(documents),
        "reason": status.reason,
        "message": redact(status.message)[:MAX_TEXT] if status.message else None,
    }


def _documents(event: EnvelopeEvent) -> list[dict[str, Any]]:
    """Return the first documents that fit."""
    found: list[dict[str, Any]] = []
    size = 0
    for each in event.status.documents[:MAX_DOCUMENTS_IN_NOTICE]:
        document = {
            "kind": each.kind,
            "fileName": each.file_name[:MAX_TEXT],
            "size": each.size,
            "sha256": each.sha256,
            "location": each.location,
        }
        size += len(msgspec.json.encode(document))
        if size > MAX_DOCUMENTS_BYTES_IN_NOTICE:
            break
        found.append(document)
    return found
