"""The body of a notice."""

import json
from typing import Any

from controller.outgoing_webhook.cloudevent import (
    MAX_DOCUMENTS_BYTES_IN_NOTICE,
    MAX_DOCUMENTS_IN_NOTICE,
    cloudevent,
)
from counterfoil.resources import EventNotice, NoticeState, Phase, SenderReference
from counterfoil.resources.envelopeevent import EnvelopeSummary
from tests.support.builders import ANNA, ENVELOPE, NOON, EventBuilder, an_event

NOTICE = EventNotice(id="msg_1", state=NoticeState.PENDING)


def body_of(builder: EventBuilder) -> dict[str, Any]:
    event = builder.status(notice=NOTICE, completion_time=NOON).build()
    body: dict[str, Any] = json.loads(cloudevent(event, "contracts"))
    return body


def test_an_archived_envelope_as_a_cloudevent() -> None:
    event = (
        an_event()
        .archived()
        .status(phase=Phase.SUCCEEDED, reason="ArchivedAndKept", message="All files are in the archive.")
    )
    assert body_of(event) == {
        "specversion": "1.0",
        "id": "msg_1",
        "type": "dev.counterfoil.envelope.archived",
        "source": "/apis/counterfoil.dev/v1beta1/namespaces/contracts/organizations/acme",
        "subject": ENVELOPE,
        "time": "2026-07-01T12:00:00Z",
        "datacontenttype": "application/json",
        "data": {
            "organization": "acme",
            "event": event.build().name,
            "action": "envelopeFinished",
            "envelope": {"id": ENVELOPE, "name": "Contract", "status": "Completed"},
            "sender": "anna",
            "archive": "dms",
            "manifest": "file:///archive/counterfoil.json",
            "documents": [
                {
                    "kind": "Document",
                    "fileName": "contract.pdf",
                    "size": 10,
                    "sha256": "ab" * 32,
                    "location": "file:///archive/contract.pdf",
                }
            ],
            "documentsOmitted": 0,
            "reason": "ArchivedAndKept",
            "message": "All files are in the archive.",
        },
    }


def test_a_failed_event_of_which_nothing_is_known() -> None:
    body = body_of(an_event().in_phase(Phase.FAILED, "EnvelopeNotFound"))
    assert body["type"] == "dev.counterfoil.envelope.failed"
    assert body["data"]["envelope"] == {"id": ENVELOPE, "name": None, "status": None}
    assert body["data"]["sender"] is None
    assert body["data"]["documents"] == []
    assert body["data"]["reason"] == "EnvelopeNotFound"


def test_the_same_state_has_the_same_bytes() -> None:
    event = an_event().archived().status(phase=Phase.SUCCEEDED, notice=NOTICE, completion_time=NOON).build()
    assert cloudevent(event, "contracts") == cloudevent(event, "contracts")


def test_many_documents_are_cut_and_counted() -> None:
    body = body_of(an_event().archived(*(f"{number}.pdf" for number in range(250))))
    assert len(body["data"]["documents"]) == MAX_DOCUMENTS_IN_NOTICE
    assert body["data"]["documentsOmitted"] == 150


def test_long_names_do_not_make_a_large_body() -> None:
    summary = EnvelopeSummary(
        name="ü" * 4096, status="Completed", sender_ref=SenderReference(name="anna", user_id=ANNA)
    )
    names = [f"{number}{'ü' * 4000}.pdf" for number in range(90)]
    event = an_event().archived(*names).status(envelope=summary, message="x" * 30_000)
    encoded = cloudevent(event.status(notice=NOTICE).build(), "contracts")
    assert len(encoded) < MAX_DOCUMENTS_BYTES_IN_NOTICE + 8192
    data = json.loads(encoded)["data"]
    assert data["documentsOmitted"] + len(data["documents"]) == 90


def test_a_message_with_a_key_is_redacted() -> None:
    token = "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abcdefghijklmnop"
    body = body_of(an_event().in_phase(Phase.FAILED, "Refused").status(message=f"refused {token}"))
    assert "eyJhbGciOiJIUzI1NiJ9" not in body["data"]["message"]
