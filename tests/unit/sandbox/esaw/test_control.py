"""The stand-in eSAW: its control surface over HTTP, and the stand-in as a process."""

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest

from sandbox.esaw import (
    Behaviour,
    CallbackLogin,
    CallbackUrls,
    Control,
    DocumentSpec,
    EnvelopeStatus,
    FileKind,
    InjectedFault,
    Recipient,
    StandIn,
    StandInControl,
    User,
)
from sandbox.esaw.control.http_endpoint import METHODS
from sandbox.esaw.core.faults import FaultOptions
from sandbox.esaw.core.model import EnvelopeOptions, EnvelopeOrder
from tests.support.servers.standin_peers import Receiver, client_of


@pytest.fixture
async def remote(esaw: StandIn) -> AsyncIterator[StandInControl]:
    async with StandInControl(esaw.url) as control:
        yield control


@pytest.fixture
async def user(remote: StandInControl) -> User:
    return await remote.add_user(email="anna@example.com", given_name="Anna", surname="Kofler", team="Sales")


@pytest.mark.parametrize("method", METHODS)
def test_both_surfaces_have_each_method_with_the_same_signature(method: str) -> None:
    near, far = getattr(Control, method), getattr(StandInControl, method)
    assert inspect.signature(near) == inspect.signature(far)
    assert inspect.iscoroutinefunction(far)


def test_the_keyword_arguments_are_the_fields_they_stand_for() -> None:
    assert {"operation", *FaultOptions.__annotations__} == set(InjectedFault.__struct_fields__)
    assert set(EnvelopeOptions.__annotations__) == set(EnvelopeOrder.__struct_fields__)


async def test_users_are_managed_from_afar(esaw: StandIn, remote: StandInControl, user: User) -> None:
    token = await remote.new_token(user)
    await remote.revoke(user, user.token)
    async with client_of(esaw, token) as api:
        assert (await api.get("authorization/whoami")).json()["UserId"] == user.user_id
        await remote.set_active(user, active=False)
        assert (await api.get("authorization/whoami")).status_code == 401
    assert user.organization_id == await remote.organization_id()


async def test_envelopes_are_made_and_looked_at_from_afar(remote: StandInControl, user: User) -> None:
    envelope = await remote.add_envelope(
        sender=user,
        documents=[
            DocumentSpec(name="a.pdf", content=b"abc", attachments=(DocumentSpec(name="b.png", size=5),))
        ],
        recipients=[Recipient(email="kim@example.com")],
        legal_documents=[DocumentSpec(name="CA22D.pdf")],
        metadata="<a/>",
    )
    files = await remote.files(envelope)
    assert [(file.kind, file.name) for file in files] == [
        (FileKind.DOCUMENT, "a.pdf"),
        (FileKind.ATTACHMENT, "b.png"),
        (FileKind.AUDIT_TRAIL, "audittrail.pdf"),
        (FileKind.AUDIT_TRAIL_XML, "audittrail.xml"),
        (FileKind.LEGAL_DOCUMENT, "CA22D.pdf"),
    ]
    assert [file.size for file in files[:2]] == [3, 5]
    assert await remote.expected_sha256(files[0].file_id) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert await remote.exists(envelope)
    assert await remote.status(envelope) is EnvelopeStatus.COMPLETED
    assert (await remote.authority_certificate()).startswith("-----BEGIN CERTIFICATE-----")


async def test_envelopes_live_and_call_back_from_afar(remote: StandInControl, user: User) -> None:
    async with Receiver(answers=[500]) as receiver:
        await remote.set_behaviour(Behaviour(callback_time_scale=0.00001))
        await remote.set_callback_logins([CallbackLogin(pattern=".", username="esaw", password="secret")])
        await remote.set_default_callbacks(completed=receiver.template(), status_change=None)
        envelope = await remote.add_envelope(sender=user, status="Active")
        await remote.open_workstep(envelope)
        await remote.finish_workstep(envelope)
        await remote.complete(envelope)
        await remote.callbacks_settled()
        await remote.announce(envelope, "anything")
        await remote.repeat_callback(envelope)
        await remote.callbacks_settled()
    assert [each.status for each in await remote.callbacks(envelope)] == [500, 200, 200]
    assert {each.headers["Authorization"] for each in receiver.seen} == {"Basic ZXNhdzpzZWNyZXQ="}


async def test_every_final_state_can_be_set_by_the_control_api(remote: StandInControl, user: User) -> None:
    ends = {"reject": "Rejected", "expire": "Expired", "cancel": "Canceled"}
    for method, status in ends.items():
        envelope = await remote.add_envelope(sender=user, status="Active", callbacks=CallbackUrls())
        await getattr(remote, method)(envelope)
        assert await remote.status(envelope) == status
        if method == "expire":
            await remote.restart(envelope)
            assert await remote.status(envelope) is EnvelopeStatus.ACTIVE
        await remote.delete(envelope)
        assert not await remote.exists(envelope)


async def test_faults_and_records_work_from_afar(esaw: StandIn, remote: StandInControl, user: User) -> None:
    envelope = await remote.add_envelope(sender=user)
    await remote.fault("delete", status=503, retry_after=5, times=1, id=envelope)
    async with client_of(esaw, user) as api:
        answers = [await api.post("envelope/delete", json={"EnvelopeId": envelope}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [503, 200]
    assert [call.outcome for call in await remote.delete_calls(envelope)] == [0, 200]
    assert [each.status for each in await remote.requests(operation="delete", id=envelope)] == [503, 200]
    await remote.clear_requests()
    await remote.clear_faults()
    assert await remote.requests() == []


async def test_what_cannot_be_is_refused_with_the_same_error(remote: StandInControl, user: User) -> None:
    envelope = await remote.add_envelope(sender=user)
    with pytest.raises(ValueError, match="is not Active any more"):
        await remote.complete(envelope)
    with pytest.raises(ValueError, match="No callback of the envelope"):
        await remote.trigger_again(envelope)
    with pytest.raises(ValueError, match="has no envelope nothing"):
        await remote.files("nothing")


async def test_an_argument_that_does_not_exist_is_refused(esaw: StandIn) -> None:
    async with httpx.AsyncClient(base_url=esaw.url) as client:
        answer = await client.post("/_control/fault", json={"operation": "file", "statsu": 500})
        unknown = await client.post("/_control/no_such_method", json={})
        assert unknown.text.endswith("}\n"), "the prompt of a shell follows in the next line"
    assert answer.status_code == 400
    assert "statsu" in answer.json()["error"]
    assert unknown.status_code == 404


UNKNOWN_MEMBERS = [
    ("fault", {"operation": "file", "statsu": 500}, ("`statsu`",)),
    ("add_envelope", {"documents": [{"name": "a.pdf", "sice": 3}]}, ("`sice`", "`$.documents[0]`", "size")),
    ("add_envelope", {"sender": {"emial": "a@example.com"}}, ("`emial`", "`$.sender`", "email")),
    ("add_envelope", {"callbacks": {"envelop": "http://a/"}}, ("`envelop`", "`$.callbacks`", "envelope")),
]


@pytest.mark.parametrize(("method", "changes", "words"), UNKNOWN_MEMBERS)
async def test_a_misspelt_member_is_refused_at_any_depth_with_its_place(
    esaw: StandIn, user: User, method: str, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    known = msgspec.to_builtins(user)
    body = {"sender": known, **changes} if method == "add_envelope" else changes
    if "sender" in changes:
        body["sender"] = known | changes["sender"]
    async with httpx.AsyncClient(base_url=esaw.url) as client:
        answer = await client.post(f"/_control/{method}", json=body)
    assert answer.status_code == 400
    assert [each for each in words if each not in answer.json()["error"]] == []


@pytest.mark.parametrize("path", ["/_control", "/_control/"])
async def test_the_control_surface_lists_its_paths(esaw: StandIn, path: str) -> None:
    async with httpx.AsyncClient(base_url=esaw.url) as client:
        answer = await client.get(path)
    listed = {each["path"]: each for each in answer.json()}
    assert sorted(listed) == sorted(f"POST /_control/{name}" for name in METHODS)
    user = listed["POST /_control/add_user"]
    assert set(user["required"]) == {"email", "given_name", "surname"}
    assert "password" in user["optional"]
    assert all(each["does"] for each in listed.values())


async def test_the_control_surface_is_not_recorded(esaw: StandIn, remote: StandInControl) -> None:
    await remote.exists("anything")
    assert esaw.requests() == []


async def test_the_same_seed_gives_the_same_ids_and_tokens() -> None:
    users = []
    for _ in range(2):
        async with StandIn(seed=7) as esaw:
            users.append(esaw.add_user(email="anna@example.com", given_name="Anna", surname="Kofler"))
    assert users[0] == users[1]


async def test_it_runs_as_a_process_and_ends_on_sigterm() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sandbox.esaw", "--port", "0", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            line = (await process.stdout.readline()).decode()
        url = next(word for word in line.split() if word.startswith("http")).rstrip(",")
        async with StandInControl(url) as remote:
            user = await remote.add_user(email="anna@example.com", given_name="Anna", surname="Kofler")
            envelope = await remote.add_envelope(sender=user)
            async with httpx.AsyncClient(base_url=f"{url}/Api/v6/", headers={"ApiToken": user.token}) as api:
                file = (await remote.files(envelope))[0]
                assert (await api.get(f"file/{file.file_id}")).content.startswith(b"%PDF")
                assert (await api.post("envelope/delete", json={"EnvelopeId": envelope})).status_code == 200
            assert (await remote.delete_calls(envelope))[0].downloaded == (file.file_id,)
    finally:
        process.terminate()
        async with asyncio.timeout(60):
            assert await process.wait() == 0
