"""The stand-in eSAW: uploads, drafts, and envelopes sent by API."""

import io
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from pyhanko.pdf_utils.reader import PdfFileReader

from sandbox.esaw import Behaviour, EnvelopeStatus, StandIn
from sandbox.esaw.core.documents import SignedPdf
from tests.support.builders import AClock
from tests.support.servers.standin_peers import Receiver, bruno, client_of

PDF = b"".join(SignedPdf(title="Draft", pages=2, mark=bytes(32)).chunks())
SIGNER = {"Email": "kim@example.com", "GivenName": "Kim", "Surname": "Berg", "LanguageCode": "EN"}


@pytest.fixture
def clock() -> AClock:
    return AClock()


@pytest.fixture
async def esaw(clock: AClock) -> AsyncIterator[StandIn]:
    async with StandIn(now=clock.now) as running:
        yield running


def asked_to(action: str) -> dict[str, Any]:
    return {"Action": {action: {"RecipientConfiguration": {"ContactInformation": SIGNER}}}}


async def uploaded(api: httpx.AsyncClient, name: str = "lease.pdf", data: bytes = PDF) -> str:
    answer = await api.post("file/upload", files={"file": (name, data)})
    return str(answer.raise_for_status().json()["FileId"])


async def an_order(api: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    documents = [{"FileId": await uploaded(api), "DocumentNumber": 0}]
    return {"Documents": documents, "Name": "Lease", "Activities": [asked_to("Sign")], **more}


async def error_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["ErrorId"]


async def test_a_sent_envelope_is_active_with_its_recipients_in_order(api: httpx.AsyncClient) -> None:
    order = await an_order(api, Activities=[asked_to("Sign"), asked_to("View"), asked_to("SendCopy")])
    envelope = (await api.post("envelope/send", json=order)).json()["EnvelopeId"]
    body = (await api.get(f"envelope/{envelope}")).json()
    assert body["EnvelopeStatus"] == "Active"
    kinds = [[kind for kind, action in each["Action"].items() if action] for each in body["Activities"]]
    assert kinds == [["Sign"], ["View"], ["SendCopy"]]


async def test_a_sent_envelope_keeps_its_configuration(api: httpx.AsyncClient) -> None:
    callbacks = {
        "CallbackUrl": "https://op.example.com/cb?e=##EnvelopeId##",
        "StatusUpdateCallbackUrl": "https://op.example.com/status",
        "ActivityActionCallbackConfiguration": {
            "Url": "https://op.example.com/ev",
            "ActionCallbackSelection": {"WorkstepFinished": True, "CalledPage": False},
        },
        "AfterSendCallbackUrl": "https://op.example.com/not-for-envelopes",
    }
    expiration = {"ExpirationDate": "2026-07-20T00:00:00+02:00"}
    order = await an_order(
        api,
        MetaData="<a/>",
        ShareWithTeam=True,
        CallbackConfiguration=callbacks,
        ExpirationConfiguration=expiration,
    )
    envelope = (await api.post("envelope/send", json=order)).json()["EnvelopeId"]
    told = (await api.get(f"envelope/{envelope}/configuration")).json()
    assert told["MetaData"] == "<a/>"
    assert told["ShareWithTeam"] is True
    assert told["ExpirationConfiguration"] == {"ExpirationDate": "2026-07-20T00:00:00+02:00"}
    assert told["CallbackConfiguration"] == {
        "CallbackUrl": "https://op.example.com/cb?e=##EnvelopeId##",
        "StatusUpdateCallbackUrl": "https://op.example.com/status",
        "ActivityActionCallbackConfiguration": {
            "Url": "https://op.example.com/ev",
            "ConfigurationActionCallbackSelection": {"WorkstepFinished": True},
        },
    }


async def test_an_uploaded_pdf_comes_back_signed(esaw: StandIn, api: httpx.AsyncClient) -> None:
    envelope = (await api.post("envelope/send", json=await an_order(api))).json()["EnvelopeId"]
    await esaw.complete(envelope)
    document = (await api.get(f"envelope/{envelope}/files")).json()["Documents"][0]
    content = (await api.get(f"file/{document['FileId']}")).content
    assert (document["FileName"], document["PageCount"]) == ("lease.pdf", 2)
    assert content.startswith(PDF)
    assert len(PdfFileReader(io.BytesIO(content)).embedded_signatures) == 2


async def test_what_is_no_pdf_becomes_one(esaw: StandIn, api: httpx.AsyncClient) -> None:
    documents = [{"FileId": await uploaded(api, "note.txt", b"Hello")}]
    envelope = (await api.post("envelope/send", json=await an_order(api, Documents=documents))).json()[
        "EnvelopeId"
    ]
    await esaw.complete(envelope)
    document = (await api.get(f"envelope/{envelope}/files")).json()["Documents"][0]
    assert document["FileName"] == "note.pdf"
    assert (await api.get(f"file/{document['FileId']}")).content.startswith(b"%PDF")


async def test_documents_are_in_the_order_of_their_numbers(esaw: StandIn, api: httpx.AsyncClient) -> None:
    second, first = await uploaded(api, "second.pdf"), await uploaded(api, "first.pdf")
    documents = [{"FileId": second, "DocumentNumber": 2}, {"FileId": first, "DocumentNumber": 1}]
    envelope = (await api.post("envelope/send", json=await an_order(api, Documents=documents))).json()[
        "EnvelopeId"
    ]
    assert [file.name for file in esaw.files(envelope)][:2] == ["first.pdf", "second.pdf"]


async def test_an_empty_upload_is_refused(api: httpx.AsyncClient) -> None:
    answer = await api.post("file/upload", files={"file": ("lease.pdf", b"")})
    assert await error_of(answer) == (400, "ERR0097")


async def test_a_broken_pdf_is_refused_when_it_is_sent(api: httpx.AsyncClient) -> None:
    documents = [{"FileId": await uploaded(api, data=b"%PDF-1.7 and then nothing")}]
    answer = await api.post("envelope/send", json=await an_order(api, Documents=documents))
    assert await error_of(answer) == (400, "ERR0005")


async def test_an_upload_can_be_used_once_and_only_by_its_owner(
    esaw: StandIn, api: httpx.AsyncClient
) -> None:
    order = await an_order(api)
    async with client_of(esaw, bruno(esaw)) as other:
        assert await error_of(await other.post("envelope/send", json=order)) == (400, "ERR0008")
    assert (await api.post("envelope/send", json=order)).status_code == 200
    assert await error_of(await api.post("envelope/send", json=order)) == (400, "ERR0008")


async def test_an_upload_is_kept_for_ten_minutes(api: httpx.AsyncClient, clock: AClock) -> None:
    order = await an_order(api)
    clock.advance(minutes=10, seconds=1)
    assert await error_of(await api.post("envelope/send", json=order)) == (400, "ERR0008")


@pytest.mark.parametrize(
    ("change", "error_id"),
    [
        ({"Name": ""}, "ERR0002"),
        ({"Documents": []}, "ERR0002"),
        ({"Activities": []}, "ERR0002"),
        ({"Activities": [{"Action": {}}]}, "ERR0011"),
        (
            {"Activities": [{"Action": {**asked_to("Sign")["Action"], **asked_to("View")["Action"]}}]},
            "ERR0011",
        ),
        ({"Activities": [{"Action": {"Sign": {}}}]}, "ERR0002"),
        ({"CallbackConfiguration": {"CallbackUrl": "op.example.com/cb"}}, "ERR0011"),
        ({"ExpirationConfiguration": {"ExpirationDate": "2001-01-01T00:00:00Z"}}, "ERR0163"),
        ({"ExpirationConfiguration": {"ExpirationInSecondsAfterSending": 599}}, "ERR0163"),
        ({"ExpirationConfiguration": {"ExpirationDate": "2026-07-20T00:00:00"}}, "ERR0011"),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused(
    api: httpx.AsyncClient, change: dict[str, Any], error_id: str
) -> None:
    order = {**await an_order(api), **change}
    assert await error_of(await api.post("envelope/send", json=order)) == (400, error_id)


async def test_document_numbers_are_set_for_all_or_none(api: httpx.AsyncClient) -> None:
    documents = [{"FileId": await uploaded(api), "DocumentNumber": number} for number in (0, 1)]
    order = await an_order(api, Documents=documents)
    assert await error_of(await api.post("envelope/send", json=order)) == (400, "ERR0011")


async def a_draft(api: httpx.AsyncClient, **more: Any) -> str:
    answer = await api.post("draft/create", json=await an_order(api, **more))
    return str(answer.raise_for_status().json()["DraftId"])


async def test_a_draft_can_be_looked_at_by_its_owner_only(esaw: StandIn, api: httpx.AsyncClient) -> None:
    draft = await a_draft(api)
    body = (await api.get(f"draft/{draft}")).json()
    assert (body["Id"], body["Name"], body["CreationDate"]) == (draft, "Lease", "2026-07-01T12:00:00Z")
    assert body["Activities"][0]["Action"]["Sign"]["ContactInformation"]["Email"] == "kim@example.com"
    async with client_of(esaw, bruno(esaw)) as other:
        assert await error_of(await other.get(f"draft/{draft}")) == (404, "ERR0250")


async def test_an_update_of_a_draft_changes_what_it_names_and_nothing_else(api: httpx.AsyncClient) -> None:
    draft = await a_draft(
        api, MetaData="<a/>", CallbackConfiguration={"CallbackUrl": "https://op.example.com/cb"}
    )
    assert (await api.post("draft/update", json={"DraftId": draft, "MetaData": "<b/>"})).status_code == 200
    told = (await api.get(f"draft/{draft}/configuration")).json()
    assert told["MetaData"] == "<b/>"
    assert told["CallbackConfiguration"]["CallbackUrl"] == "https://op.example.com/cb"
    assert (await api.get(f"draft/{draft}")).json()["Name"] == "Lease"


async def test_a_draft_that_is_sent_becomes_an_envelope_of_another_id(api: httpx.AsyncClient) -> None:
    draft = await a_draft(api, MetaData="<a/>")
    body = (await api.post("draft/send", json={"DraftId": draft})).json()
    envelope = body["Envelope"]["EnvelopeId"]
    assert body == {"Envelope": {"EnvelopeId": envelope}, "EnvelopeBulk": None}
    assert envelope != draft
    assert (await api.get(f"envelope/{envelope}/configuration")).json()["MetaData"] == "<a/>"
    assert await error_of(await api.post("draft/send", json={"DraftId": draft})) == (404, "ERR0250")


async def test_the_draft_id_may_become_the_envelope_id(esaw: StandIn, api: httpx.AsyncClient) -> None:
    esaw.set_behaviour(Behaviour(draft_id_becomes_envelope_id=True))
    draft = await a_draft(api)
    body = (await api.post("draft/send", json={"DraftId": draft})).json()
    assert body["Envelope"]["EnvelopeId"] == draft


def a_bulk(*emails: str) -> dict[str, Any]:
    people = [
        {"RecipientConfiguration": {"ContactInformation": {**SIGNER, "Email": each}}} for each in emails
    ]
    return {"Action": {"SignBulk": {"BulkRecipients": people}}}


async def test_a_bulk_draft_becomes_one_envelope_per_recipient(esaw: StandIn, api: httpx.AsyncClient) -> None:
    draft = await a_draft(api, Activities=[a_bulk("a@x.example", "b@x.example"), asked_to("SendCopy")])

    body = (await api.post("draft/send", json={"DraftId": draft})).json()

    bulk = body["EnvelopeBulk"]
    assert body["Envelope"] is None
    assert [each["BulkRecipientEmail"] for each in bulk["EnvelopeBulkChildren"]] == [
        "a@x.example",
        "b@x.example",
    ]
    children = [each["EnvelopeId"] for each in bulk["EnvelopeBulkChildren"]]
    assert esaw.envelopes_of(draft) == children
    for child, email in zip(children, ("a@x.example", "b@x.example"), strict=True):
        told = (await api.get(f"envelope/{child}")).json()
        assert told["EnvelopeBulkParentId"] == bulk["EnvelopeBulkParentId"]
        first, second = (each["Action"] for each in told["Activities"])
        assert first["Sign"]["ContactInformation"]["Email"] == email
        assert second["SendCopy"] is not None
    assert len({file.file_id for child in children for file in esaw.files(child)}) == 6
    assert await error_of(await api.post("draft/send", json={"DraftId": draft})) == (404, "ERR0250")


async def test_the_parent_of_a_bulk_is_no_envelope_and_the_children_are_found_by_it(
    api: httpx.AsyncClient,
) -> None:
    draft = await a_draft(api, Activities=[a_bulk("a@x.example", "b@x.example")])
    bulk = (await api.post("draft/send", json={"DraftId": draft})).json()["EnvelopeBulk"]
    parent = bulk["EnvelopeBulkParentId"]

    hits = (await api.post("envelope/find", json={"EnvelopeBulkParentId": parent})).json()["Envelopes"]

    assert [each["Id"] for each in hits] == [each["EnvelopeId"] for each in bulk["EnvelopeBulkChildren"]]
    assert {each["EnvelopeBulkParentId"] for each in hits} == {parent}
    assert await error_of(await api.get(f"envelope/{parent}")) == (404, "ERR0007")


async def test_the_draft_id_may_become_the_id_of_the_parent(esaw: StandIn, api: httpx.AsyncClient) -> None:
    esaw.set_behaviour(Behaviour(draft_id_becomes_envelope_id=True))
    draft = await a_draft(api, Activities=[a_bulk("a@x.example")])
    bulk = (await api.post("draft/send", json={"DraftId": draft})).json()["EnvelopeBulk"]
    assert bulk["EnvelopeBulkParentId"] == draft
    assert bulk["EnvelopeBulkChildren"][0]["EnvelopeId"] != draft


async def test_each_envelope_of_a_bulk_calls_back_on_its_own(esaw: StandIn, api: httpx.AsyncClient) -> None:
    async with Receiver() as receiver:
        draft = await a_draft(
            api,
            Activities=[a_bulk("a@x.example", "b@x.example")],
            CallbackConfiguration={"CallbackUrl": receiver.template()},
        )
        await api.post("draft/send", json={"DraftId": draft})
        first, second = esaw.envelopes_of(draft)
        await esaw.complete(second)
        await esaw.callbacks_settled()
    assert [(each.query["envelope"], each.query["action"]) for each in receiver.seen] == [
        (second, "envelopeFinished")
    ]
    assert (esaw.status(first), esaw.status(second)) == (EnvelopeStatus.ACTIVE, EnvelopeStatus.COMPLETED)


@pytest.mark.parametrize(
    ("activities", "error"),
    [
        ([a_bulk()], "ERR0002"),
        ([a_bulk(*["a@x.example"] * 1001)], "ERR0011"),
        ([a_bulk("a@x.example"), a_bulk("b@x.example")], "ERR0011"),
        ([{"Action": a_bulk("a@x.example")["Action"] | asked_to("View")["Action"]}], "ERR0011"),
    ],
    ids=["empty", "too many", "two", "two actions"],
)
async def test_a_bulk_that_can_not_be_is_refused(
    api: httpx.AsyncClient, activities: list[dict[str, Any]], error: str
) -> None:
    answer = await api.post("draft/create", json=await an_order(api, Activities=activities))
    assert await error_of(answer) == (400, error)


async def test_a_bulk_is_sent_as_a_draft_only(api: httpx.AsyncClient) -> None:
    order = await an_order(api, Activities=[a_bulk("a@x.example")])
    assert await error_of(await api.post("envelope/send", json=order)) == (400, "ERR0011")


@pytest.mark.parametrize("call", ["send", "update"])
async def test_an_unknown_draft_is_404(api: httpx.AsyncClient, call: str) -> None:
    answer = await api.post(f"draft/{call}", json={"DraftId": "00000000-0000-0000-0000-000000000000"})
    assert await error_of(answer) == (404, "ERR0250")


async def test_sending_a_draft_calls_back_after_sending_and_with_the_notification(
    esaw: StandIn, api: httpx.AsyncClient
) -> None:
    async with Receiver() as receiver:
        callbacks = {
            "AfterSendCallbackUrl": receiver.template("after"),
            "StatusUpdateCallbackUrl": receiver.template("status"),
        }
        draft = await a_draft(api, CallbackConfiguration=callbacks)
        await api.post("draft/send", json={"DraftId": draft})
        await esaw.callbacks_settled()
    assert [(each.path, each.query["action"]) for each in receiver.seen] == [
        ("/after", "envelopeSent"),
        ("/status", "sendSignNotification"),
    ]


async def test_a_sent_envelope_lives_like_any_other(esaw: StandIn, api: httpx.AsyncClient) -> None:
    envelope = (await api.post("envelope/send", json=await an_order(api))).json()["EnvelopeId"]
    await esaw.complete(envelope)
    assert esaw.status(envelope) is EnvelopeStatus.COMPLETED
