"""The stand-in eSAW: what it remembers of the requests it got."""

import httpx
import pytest

from sandbox.esaw import StandIn, User


async def test_a_request_is_recorded_with_all_that_matters(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user)
    answer = await api.get(f"envelope/{envelope.upper()}/files")
    recorded = esaw.requests()[0]
    assert (recorded.method, recorded.operation, recorded.id) == ("GET", "files", envelope)
    assert (recorded.user_id, recorded.status, recorded.outcome) == (user.user_id, 200, 200)
    assert (recorded.bytes_sent, recorded.whole) == (len(answer.content), True)
    assert recorded.time.tzinfo is not None


async def test_no_token_is_kept(esaw: StandIn, user: User, api: httpx.AsyncClient) -> None:
    await api.get("authorization/whoami", params={"ApiToken": user.token})
    recorded = esaw.requests("whoami")[0]
    assert user.token not in repr(recorded)
    assert recorded.token_sha256 is not None
    assert len(recorded.token_sha256) == 8


async def test_a_request_with_a_dead_token_is_nobodys(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    esaw.revoke(user)
    await api.get("authorization/whoami")
    recorded = esaw.requests("whoami")[0]
    assert (recorded.user_id, recorded.status) == (None, 401)


async def test_requests_are_found_by_operation_and_by_what_they_are_about(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    one, other = esaw.add_envelope(sender=user), esaw.add_envelope(sender=user)
    await api.get(f"envelope/{one}")
    await api.get(f"envelope/{other}")
    await api.post("envelope/cancel", json={"EnvelopeId": one})
    assert [each.operation for each in esaw.requests(id=one)] == ["envelope", "cancel"]
    assert [each.id for each in esaw.requests(operation="envelope")] == [one, other]
    assert len(esaw.requests("cancel", one)) == 1
    esaw.clear_requests()
    assert esaw.requests() == []


async def test_paths_that_do_not_exist_are_recorded_too(esaw: StandIn, api: httpx.AsyncClient) -> None:
    await api.get("no/such/thing")
    assert [(each.operation, each.status) for each in esaw.requests()] == [("unknown", 404)]


async def test_a_delete_call_knows_what_had_been_downloaded_whole_before(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user)
    document, trail, xml = (file.file_id for file in esaw.files(envelope))
    await api.get(f"file/{document}")
    esaw.fault("file", id=trail, cut_after=10, times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        await api.get(f"file/{trail}")
    esaw.fault("file", id=xml, garbage="html", times=1)
    await api.get(f"file/{xml}")
    await api.post("envelope/delete", json={"EnvelopeId": envelope})
    call = esaw.delete_calls(envelope)[0]
    assert (call.outcome, call.user_id) == (200, user.user_id)
    assert call.downloaded == (document,)
    assert call.missing == (trail, xml)


async def test_each_delete_call_is_counted(esaw: StandIn, user: User, api: httpx.AsyncClient) -> None:
    envelope = esaw.add_envelope(sender=user)
    for _ in range(3):
        await api.post("envelope/delete", json={"EnvelopeId": envelope})
    assert [call.status for call in esaw.delete_calls(envelope)] == [200, 404, 404]


async def test_a_deletion_from_behind_is_no_delete_call(esaw: StandIn, user: User) -> None:
    envelope = esaw.add_envelope(sender=user)
    await esaw.delete(envelope)
    assert esaw.delete_calls(envelope) == []
