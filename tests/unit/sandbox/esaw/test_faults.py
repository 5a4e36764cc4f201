"""The stand-in eSAW: what can be made to go wrong, seen from the client."""

import asyncio
import hashlib
import json
from time import monotonic

import httpx
import pytest

from sandbox.esaw import Behaviour, DocumentSpec, StandIn, User
from sandbox.esaw.core.faults import GarbageKind
from tests.support.servers.standin_peers import client_of

KIB = 1024


@pytest.fixture
def envelope(esaw: StandIn, user: User) -> str:
    return esaw.add_envelope(sender=user, documents=[DocumentSpec(name="contract.pdf", size=900 * KIB)])


@pytest.fixture
def file_id(esaw: StandIn, envelope: str) -> str:
    return esaw.files(envelope)[0].file_id


async def received(api: httpx.AsyncClient, path: str) -> tuple[bytes, httpx.TransportError | None]:
    """The received part of a body, and the end of its connection."""
    body = b""
    try:
        async with api.stream("GET", path) as answer:
            async for chunk in answer.aiter_raw():
                body += chunk
    except httpx.TransportError as exc:
        return body, exc
    return body, None


CALLS = {
    "version": "system/version",
    "validate": "authorization/validate",
    "whoami": "authorization/whoami",
    "envelope": "envelope/{envelope}",
    "files": "envelope/{envelope}/files",
    "configuration": "envelope/{envelope}/configuration",
    "history": "envelope/{envelope}/history",
    "elements": "envelope/{envelope}/elements",
    "file": "file/{file}",
}


@pytest.mark.parametrize("operation", CALLS)
async def test_each_operation_can_be_made_to_fail_alone(
    esaw: StandIn, api: httpx.AsyncClient, envelope: str, file_id: str, operation: str
) -> None:
    esaw.fault(operation, status=503)
    statuses = {
        name: (await api.get(path.format(envelope=envelope, file=file_id))).status_code
        for name, path in CALLS.items()
    }
    assert {name for name, status in statuses.items() if status == 503} == {operation}
    assert set(statuses.values()) == {200, 503}


async def test_a_star_meets_every_operation(esaw: StandIn, api: httpx.AsyncClient, envelope: str) -> None:
    esaw.fault("*", status=500)
    assert (await api.get("system/version")).status_code == 500
    assert (await api.post("envelope/delete", json={"EnvelopeId": envelope})).status_code == 500
    assert esaw.exists(envelope)


def test_an_operation_that_does_not_exist_is_refused(esaw: StandIn) -> None:
    with pytest.raises(ValueError, match="No operation is called no_such_call"):
        esaw.fault("no_such_call", status=500)


async def statuses_of(api: httpx.AsyncClient, path: str, times: int) -> list[int]:
    return [(await api.get(path)).status_code for _ in range(times)]


async def test_a_fault_hits_a_given_number_of_requests_after_a_given_number(
    esaw: StandIn, api: httpx.AsyncClient
) -> None:
    esaw.fault("version", status=503, times=2, after=1)
    assert await statuses_of(api, "system/version", 5) == [200, 503, 503, 200, 200]


async def test_a_fault_lasts_until_it_is_cleared(esaw: StandIn, api: httpx.AsyncClient) -> None:
    esaw.fault("version", status=503)
    esaw.fault("whoami", status=500)
    assert await statuses_of(api, "system/version", 3) == [503] * 3
    esaw.clear_faults("version")
    assert (await api.get("system/version")).status_code == 200
    assert (await api.get("authorization/whoami")).status_code == 500
    esaw.clear_faults()
    assert (await api.get("authorization/whoami")).status_code == 200


async def test_a_fault_can_be_bound_to_one_envelope_and_its_files(
    esaw: StandIn, user: User, api: httpx.AsyncClient, envelope: str
) -> None:
    other = esaw.add_envelope(sender=user)
    esaw.fault("*", status=503, id=envelope)
    for each, status in ((envelope, 503), (other, 200)):
        assert (await api.get(f"envelope/{each}")).status_code == status
        assert (await api.get(f"file/{esaw.files(each)[0].file_id}")).status_code == status


async def test_a_fault_can_be_bound_to_one_file(esaw: StandIn, api: httpx.AsyncClient, envelope: str) -> None:
    first, second, *_ = esaw.files(envelope)
    esaw.fault("file", status=503, id=second.file_id)
    assert (await api.get(f"file/{first.file_id}")).status_code == 200
    assert (await api.get(f"file/{second.file_id}")).status_code == 503


async def test_a_failed_call_does_nothing(esaw: StandIn, api: httpx.AsyncClient, envelope: str) -> None:
    esaw.fault("delete", status=500)
    answer = await api.post("envelope/delete", json={"EnvelopeId": envelope})
    assert answer.json()["ErrorId"] == "ERR0001"
    assert esaw.exists(envelope)


@pytest.mark.parametrize("retry_after", [7, "Fri, 03 Jul 2026 10:00:00 GMT"])
async def test_retry_after_is_sent_as_seconds_or_date(
    esaw: StandIn, api: httpx.AsyncClient, retry_after: int | str
) -> None:
    esaw.fault("version", status=429, retry_after=retry_after)
    answer = await api.get("system/version")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, str(retry_after))


async def test_a_401_by_fault_has_no_body(esaw: StandIn, api: httpx.AsyncClient) -> None:
    esaw.fault("whoami", status=401)
    answer = await api.get("authorization/whoami")
    assert (answer.status_code, answer.content) == (401, b"")


async def test_an_answer_can_be_late(esaw: StandIn, api: httpx.AsyncClient) -> None:
    esaw.fault("version", delay=0.1, times=1)
    begun = monotonic()
    assert (await api.get("system/version")).status_code == 200
    assert monotonic() - begun >= 0.1


async def test_a_client_that_does_not_wait_has_its_request_ended(
    esaw: StandIn, api: httpx.AsyncClient
) -> None:
    esaw.fault("version", delay=60)
    with pytest.raises(httpx.ReadTimeout):
        await api.get("system/version", timeout=httpx.Timeout(30, read=0.05))
    async with asyncio.timeout(30):
        while not esaw.requests("version")[0].done:
            await api.get("authorization/whoami")
    assert esaw.requests("version")[0].status == 0


@pytest.mark.parametrize("bytes_of_body", [0, 1, 300 * KIB])
async def test_the_connection_can_be_cut_in_mid_body(
    esaw: StandIn, api: httpx.AsyncClient, file_id: str, bytes_of_body: int
) -> None:
    esaw.fault("file", cut_after=bytes_of_body, times=1)
    body, error = await received(api, f"file/{file_id}")
    assert len(body) == bytes_of_body
    assert isinstance(error, httpx.RemoteProtocolError)
    assert not esaw.requests("file")[0].whole


async def test_a_chunked_body_can_be_cut_too(esaw: StandIn, user: User, api: httpx.AsyncClient) -> None:
    spec = DocumentSpec(name="contract.pdf", size=900 * KIB, chunked=True)
    file_id = esaw.files(esaw.add_envelope(sender=user, documents=[spec]))[0].file_id
    esaw.fault("file", cut_after=10 * KIB)
    body, error = await received(api, f"file/{file_id}")
    assert len(body) == 10 * KIB
    assert isinstance(error, httpx.RemoteProtocolError)


async def test_a_download_after_a_cut_one_is_whole(
    esaw: StandIn, api: httpx.AsyncClient, file_id: str
) -> None:
    esaw.fault("file", cut_after=1000, times=1)
    await received(api, f"file/{file_id}")
    body, error = await received(api, f"file/{file_id}")
    assert error is None
    assert hashlib.sha256(body).hexdigest() == esaw.expected_sha256(file_id)


async def test_json_can_be_cut_too(esaw: StandIn, api: httpx.AsyncClient, envelope: str) -> None:
    esaw.fault("files", cut_after=20)
    body, error = await received(api, f"envelope/{envelope}/files")
    assert len(body) == 20
    assert error is not None


async def test_a_body_can_be_shorter_than_declared(
    esaw: StandIn, api: httpx.AsyncClient, file_id: str
) -> None:
    esaw.fault("file", declared_length=1000 * KIB)
    body, error = await received(api, f"file/{file_id}")
    assert len(body) == 900 * KIB
    assert isinstance(error, httpx.RemoteProtocolError)


async def test_a_body_can_be_longer_than_declared(
    esaw: StandIn, api: httpx.AsyncClient, file_id: str
) -> None:
    esaw.fault("file", declared_length=10 * KIB, times=1)
    body, _ = await received(api, f"file/{file_id}")
    assert len(body) == 10 * KIB
    assert esaw.requests("file")[0].bytes_sent > 10 * KIB
    assert (await api.get("system/version")).status_code == 200


async def test_garbage_json_comes_with_status_200(
    esaw: StandIn, api: httpx.AsyncClient, envelope: str
) -> None:
    esaw.fault("files", garbage="json")
    answer = await api.get(f"envelope/{envelope}/files")
    assert answer.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        answer.json()


async def test_json_of_another_shape_comes_with_status_200(
    esaw: StandIn, api: httpx.AsyncClient, envelope: str
) -> None:
    esaw.fault("envelope", garbage="shape")
    answer = await api.get(f"envelope/{envelope}")
    assert answer.status_code == 200
    assert isinstance(answer.json(), list)


@pytest.mark.parametrize("call", ["envelope/{envelope}", "file/{file}"])
async def test_an_html_page_may_come_in_place_of_anything(
    esaw: StandIn, api: httpx.AsyncClient, envelope: str, file_id: str, call: str
) -> None:
    esaw.fault("*", garbage="html")
    answer = await api.get(call.format(envelope=envelope, file=file_id))
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"Please sign in" in answer.content


async def test_a_body_may_be_empty_where_one_is_due(
    esaw: StandIn, api: httpx.AsyncClient, envelope: str
) -> None:
    esaw.fault("files", garbage="empty")
    answer = await api.get(f"envelope/{envelope}/files")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_a_call_may_be_redirected_to_another_host(esaw: StandIn, api: httpx.AsyncClient) -> None:
    esaw.fault("whoami", redirect="http://attacker.example/steal")
    answer = await api.get("authorization/whoami")
    assert (answer.status_code, answer.headers["Location"]) == (302, "http://attacker.example/steal")


async def test_a_token_may_be_revoked_in_the_very_moment(
    esaw: StandIn, user: User, api: httpx.AsyncClient, file_id: str
) -> None:
    esaw.fault("file", revokes_token=True, times=1)
    assert (await api.get(f"file/{file_id}")).status_code == 401
    assert (await api.get("authorization/whoami")).status_code == 401
    async with client_of(esaw, esaw.new_token(user)) as renewed:
        assert (await renewed.get(f"file/{file_id}")).status_code == 200


async def test_a_token_that_is_revoked_while_the_answer_is_late_is_refused(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    esaw.fault("whoami", delay=0.05)
    late = asyncio.create_task(api.get("authorization/whoami"))
    while not esaw.requests("whoami"):
        await api.get("system/version")
    esaw.revoke(user)
    assert (await late).status_code == 401


@pytest.mark.parametrize("call", ["envelope/{envelope}", "envelope/{envelope}/files", "file/{file}"])
async def test_an_envelope_may_be_deleted_in_the_very_moment(
    esaw: StandIn, api: httpx.AsyncClient, envelope: str, file_id: str, call: str
) -> None:
    esaw.fault("*", deletes_envelope=True, times=1)
    assert (await api.get(call.format(envelope=envelope, file=file_id))).status_code == 404
    assert not esaw.exists(envelope)
    assert (await api.get(f"envelope/{envelope}/history")).json()["EnvelopeHasBeenDeleted"] is True


async def test_the_answer_may_be_lost_after_the_deed(
    esaw: StandIn, api: httpx.AsyncClient, envelope: str
) -> None:
    esaw.fault("delete", lose_answer=True, times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        await api.post("envelope/delete", json={"EnvelopeId": envelope})
    assert not esaw.exists(envelope)
    assert [(call.outcome, call.status) for call in esaw.delete_calls(envelope)] == [(200, 0)]


async def test_the_deed_may_be_done_though_the_answer_says_it_failed(
    esaw: StandIn, api: httpx.AsyncClient, envelope: str
) -> None:
    esaw.fault("delete", lose_answer=True, status=500)
    assert (await api.post("envelope/delete", json={"EnvelopeId": envelope})).status_code == 500
    assert not esaw.exists(envelope)


async def test_the_connection_may_be_cut_before_anything_is_done(
    esaw: StandIn, api: httpx.AsyncClient, envelope: str
) -> None:
    esaw.fault("delete", drop=True, times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        await api.post("envelope/delete", json={"EnvelopeId": envelope})
    assert esaw.exists(envelope)


async def test_a_body_may_trickle_a_byte_at_a_time(
    esaw: StandIn, api: httpx.AsyncClient, envelope: str
) -> None:
    esaw.fault("envelope", trickle=20, cut_after=3)
    began = monotonic()
    body, end = await received(api, f"envelope/{envelope}")
    assert (len(body), type(end)) == (3, httpx.RemoteProtocolError)
    assert monotonic() - began >= 0.1


@pytest.mark.parametrize(("path", "filler"), [("envelope/{}/files", b" "), ("file/{}", b"\0")])
async def test_a_body_may_have_no_end(
    esaw: StandIn, api: httpx.AsyncClient, envelope: str, file_id: str, path: str, filler: bytes
) -> None:
    address = path.format(file_id if path.startswith("file/") else envelope)
    body = (await api.get(address)).content
    esaw.fault("*", endless=True, times=1)
    seen = b""
    async with api.stream("GET", address) as answer:
        assert "Content-Length" not in answer.headers
        async for chunk in answer.aiter_raw():
            seen += chunk
            if len(seen) >= len(body) + 3000 * KIB:
                break
    assert seen.startswith(body)
    assert set(seen[len(body) :]) == set(filler)
    assert (await api.get(address)).content == body


async def test_an_endless_body_may_trickle(esaw: StandIn, api: httpx.AsyncClient, envelope: str) -> None:
    length = len((await api.get(f"envelope/{envelope}")).content)
    esaw.fault("envelope", endless=True, trickle=1_000_000)
    seen = 0
    async with asyncio.timeout(10), api.stream("GET", f"envelope/{envelope}") as answer:
        async for chunk in answer.aiter_raw():
            seen += len(chunk)
            if seen > length:
                break


@pytest.mark.parametrize("sent", [None, 20, 0])
async def test_a_response_may_hang_over_an_open_connection(
    esaw: StandIn, api: httpx.AsyncClient, envelope: str, sent: int | None
) -> None:
    whole = len((await api.get(f"envelope/{envelope}")).content)
    esaw.fault("envelope", hangs=True, declared_length=whole + 1, cut_after=sent)
    api.timeout = httpx.Timeout(0.3)
    body, end = await received(api, f"envelope/{envelope}")
    assert len(body) == (whole if sent is None else sent)
    assert isinstance(end, httpx.ReadTimeout)


async def test_a_body_may_trickle(esaw: StandIn, user: User, api: httpx.AsyncClient) -> None:
    spec = DocumentSpec(name="contract.pdf", size=4000)
    file_id = esaw.files(esaw.add_envelope(sender=user, documents=[spec]))[0].file_id
    esaw.fault("file", trickle=20_000)
    begun = monotonic()
    answer = await api.get(f"file/{file_id}")
    assert monotonic() - begun >= 0.18
    assert hashlib.sha256(answer.content).hexdigest() == esaw.expected_sha256(file_id)


async def test_the_oldest_fault_that_fits_comes_first(esaw: StandIn, api: httpx.AsyncClient) -> None:
    esaw.fault("version", status=500, times=1)
    esaw.fault("*", status=503, times=1)
    assert await statuses_of(api, "system/version", 3) == [500, 503, 200]


@pytest.mark.parametrize(
    ("kind", "content_type", "start"),
    [
        ("text", "text/plain", b"upstream connect error"),
        ("xml", "application/xml", b'<?xml version="1.0"?><Fault '),
        ("error", "application/octet-stream", b'{"ErrorId":"ERR0001"'),
        ("nothing", "application/octet-stream", b""),
    ],
)
async def test_what_a_proxy_says_may_come_in_place_of_a_file_with_status_200(
    esaw: StandIn, api: httpx.AsyncClient, file_id: str, kind: GarbageKind, content_type: str, start: bytes
) -> None:
    esaw.fault("file", garbage=kind)
    answer = await api.get(f"file/{file_id}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, content_type)
    assert answer.content.startswith(start)
    assert bool(answer.content) == bool(start)
    assert "Content-Disposition" not in answer.headers


async def test_a_refusal_may_come_from_a_firewall_without_esaws_error(
    esaw: StandIn, api: httpx.AsyncClient
) -> None:
    esaw.fault("whoami", status=403, bare=True)
    answer = await api.get("authorization/whoami")
    assert (answer.status_code, answer.headers["Content-Type"]) == (403, "text/html; charset=utf-8")
    assert b"ErrorId" not in answer.content


async def test_members_of_an_answer_may_have_other_values(
    esaw: StandIn, api: httpx.AsyncClient, envelope: str
) -> None:
    esaw.fault("envelope", replaces={"EnvelopeStatus": "Archived", "Name": None})
    answer = (await api.get(f"envelope/{envelope}")).json()
    assert (answer["EnvelopeStatus"], answer["Name"], answer["Id"]) == ("Archived", None, envelope)


async def test_the_version_may_need_a_token(esaw: StandIn, api: httpx.AsyncClient) -> None:
    esaw.set_behaviour(Behaviour(version_needs_token=True))
    assert (await api.get("system/version")).status_code == 200
    assert (await api.get("system/version", headers={"ApiToken": "none"})).status_code == 401
