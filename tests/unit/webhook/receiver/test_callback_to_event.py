"""The receiver's answers, over a real socket: the table of the contract, and the bounds around it."""

import asyncio
import base64
import json
import logging
import socket
import traceback
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import aiohttp
import pytest

from counterfoil.callback_auth import token_hash
from counterfoil.kube.errors import Forbidden
from counterfoil.kube.watch import WatchEvent
from counterfoil.logs import JsonFormatter
from counterfoil.resources import Workstep
from counterfoil.settings import ListenAddress
from tests.support.scenes.receiver_parts import (
    GUID,
    PASSWORD,
    PATH,
    QUERY,
    TOKEN,
    Counter,
    a_counter,
    added,
    an_organization,
    synced,
    unavailable,
    with_basic_auth,
)
from webhook.http_server.server import public_server
from webhook.receiver.limits import ReceiverLimits

# -- 200 -----------------------------------------------------------------------------------------------------


@pytest.fixture
async def counter() -> AsyncIterator[Counter]:
    async with a_counter() as running:
        yield running


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_callback_is_answered_200_and_its_event_is_there(counter: Counter, method: str) -> None:
    assert await counter.status(method=method) == 200
    (name,) = counter.kube.events
    event = counter.kube.stored(name)
    assert (event.organization, event.spec.envelope_id, event.spec.action) == (
        "acme",
        GUID,
        "envelopeFinished",
    )
    assert counter.counted("noted") == 1


async def test_the_same_callback_again_is_answered_200_and_counted(counter: Counter) -> None:
    assert [await counter.status() for _ in range(3)] == [200, 200, 200]
    await counter.deliveries.flush()
    (name,) = counter.kube.events
    assert counter.kube.stored(name).deliveries == 3
    assert counter.counted("known") == 2


async def test_an_action_that_nobody_asked_for_is_answered_200_and_not_stored(counter: Counter) -> None:
    assert await counter.status(f"envelopeId={GUID}&action=workstepOpened") == 200
    assert counter.kube.events == {}
    assert counter.counted("ignored") == 1
    labels = {"organization": "acme", "action": "workstepOpened"}
    assert counter.metrics.registry.get_sample_value("counterfoil_unlisted_actions_total", labels) == 1


async def test_an_action_in_another_letter_case_is_the_same_event(counter: Counter) -> None:
    await counter.status(f"envelopeId={GUID}&action=ENVELOPEFINISHED")
    await counter.status()
    (name,) = counter.kube.events
    assert counter.kube.stored(name).spec.action == "envelopeFinished"


def with_own_parameters(*names: str) -> Any:
    return added(an_organization(spec={"callback": {"parameters": list(names)}}))


async def test_listed_parameters_are_stored_in_the_event_and_others_are_not(counter: Counter) -> None:
    counter.organization_cache.update(with_own_parameters("orderNo"))
    assert await counter.status(f"{QUERY}&ORDERNO=47%2F11&secret=x") == 200
    (name,) = counter.kube.events
    assert counter.kube.stored(name).spec.parameters == {"orderNo": "47/11"}
    assert "secret" not in json.dumps(counter.kube.events)


async def test_without_a_list_no_parameter_is_stored(counter: Counter) -> None:
    assert await counter.status(f"{QUERY}&orderNo=4711") == 200
    (raw,) = counter.kube.events.values()
    assert "parameters" not in raw["spec"]


async def test_the_same_callback_with_other_parameters_is_a_known_one(counter: Counter) -> None:
    counter.organization_cache.update(with_own_parameters("orderNo"))
    for query in (f"{QUERY}&orderNo=4711", f"{QUERY}&orderNo=4712", QUERY):
        assert await counter.status(query) == 200
    assert (counter.counted("noted"), counter.counted("known")) == (1, 2)
    (name,) = counter.kube.events
    assert counter.kube.stored(name).spec.parameters == {"orderNo": "4711"}


async def test_an_unusable_parameter_costs_the_parameter_and_never_the_event(
    counter: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    counter.organization_cache.update(with_own_parameters("orderNo", "tenant", "who"))
    query = f"{QUERY}&orderNo=%00&tenant=a&who=anna%40example.com"

    assert await counter.status(query) == 200

    (name,) = counter.kube.events
    assert counter.kube.stored(name).spec.parameters == {"tenant": "a"}
    left_out = "counterfoil_callback_parameters_left_out_total"
    assert counter.metrics.registry.get_sample_value(left_out, {"organization": "acme"}) == 2
    assert "2 parameters of the organization are unusable" in caplog.text
    assert "anna" not in caplog.text


async def test_sixteen_parameters_of_the_maximum_length_fit(counter: Counter) -> None:
    names = [f"parameter{number}" for number in range(16)]
    counter.organization_cache.update(with_own_parameters(*names))
    query = "&".join([QUERY, *(f"{name}={'x' * 256}" for name in names)])

    assert await counter.status(query) == 200

    (event,) = counter.kube.events
    assert counter.kube.stored(event).spec.parameters == dict.fromkeys(names, "x" * 256)


NO_ACTION = pytest.mark.parametrize("query", [f"envelope={GUID}", f"envelopeId={GUID}&action="])
"""Namirial's own sample has no action; a placeholder that eSAW leaves out is an empty one."""


@NO_ACTION
async def test_a_callback_without_an_action_is_the_event_of_the_usual_action_where_that_is_archived(
    counter: Counter, query: str
) -> None:
    actions = [
        {"action": "envelopeExpired", "handling": "Record"},
        {"action": "envelopeClosed", "handling": "Archive"},
        {"action": "envelopeFinished", "handling": "Archive"},
    ]
    counter.organization_cache.update(added(an_organization(spec={"actions": actions})))
    assert await counter.status(query) == 200
    assert await counter.status(f"envelopeId={GUID}&action=envelopeFinished") == 200
    (name,) = counter.kube.events
    assert counter.kube.stored(name).spec.action == "envelopeFinished"
    assert (counter.counted("noted"), counter.counted("known")) == (1, 1)


@NO_ACTION
async def test_a_callback_without_an_action_is_ignored_where_nothing_is_archived(
    counter: Counter, query: str
) -> None:
    actions = [{"action": "envelopeFinished", "handling": "Record"}]
    counter.organization_cache.update(added(an_organization(spec={"actions": actions})))
    assert await counter.status(query) == 200
    assert counter.kube.events == {}


@pytest.mark.parametrize("more", ["", "&workstepId=W1"])
async def test_an_unlisted_action_is_the_event_of_the_archive_action_where_that_is_wanted(
    counter: Counter, more: str
) -> None:
    spec = {"unlistedActions": "Archive", "actions": [{"action": "envelopeFinished"}]}
    counter.organization_cache.update(added(an_organization(spec=spec)))
    assert await counter.status(f"envelopeId={GUID}&action=envelopeClosed{more}") == 200
    (name,) = counter.kube.events
    assert await counter.status() == 200
    assert list(counter.kube.events) == [name]
    assert counter.kube.stored(name).spec.action == "envelopeFinished"


async def test_an_action_to_be_recorded_is_stored_too(counter: Counter) -> None:
    actions = [{"action": "envelopeExpired", "handling": "Record"}]
    counter.organization_cache.update(added(an_organization(spec={"actions": actions})))
    await counter.status(f"envelopeId={GUID}&action=envelopeExpired")
    assert len(counter.kube.events) == 1


async def test_a_suspended_organizations_callbacks_are_recorded(counter: Counter) -> None:
    counter.organization_cache.update(added(an_organization(spec={"suspend": True})))
    await counter.status()
    assert len(counter.kube.events) == 1


async def test_a_workstep_callback_keeps_its_workstep_but_no_address(counter: Counter) -> None:
    query = f"{QUERY}&workstepId=W1&source=external&time=T&RecipientEmail=signer@example.com"
    await counter.status(query)
    (stored,) = counter.kube.events.values()
    assert counter.kube.stored(stored["metadata"]["name"]).spec.workstep == Workstep(
        id="W1", source="external", time="T"
    )
    assert "@" not in json.dumps(stored)


async def test_two_worksteps_of_one_envelope_are_two_events(counter: Counter) -> None:
    actions = [{"action": "workstepFinished", "handling": "Record"}]
    counter.organization_cache.update(added(an_organization(spec={"actions": actions})))
    for workstep in ("W1", "W2"):
        await counter.status(f"envelopeId={GUID}&action=workstepFinished&workstepId={workstep}")
    assert len(counter.kube.events) == 2


async def test_a_workstep_is_no_part_of_the_name_of_an_envelopes_event(counter: Counter) -> None:
    for more in ("", "&workstepId=W1", "&workstepId=W2"):
        assert await counter.status(f"{QUERY}{more}") == 200
    assert len(counter.kube.events) == 1


async def test_a_name_that_belongs_to_another_callback_is_answered_503_and_counted(counter: Counter) -> None:
    await counter.status()
    (stored,) = counter.kube.events.values()
    stored["spec"]["organizationRef"]["name"] = "other"

    assert await counter.status() == 503

    assert counter.counted("mismatch") == 1
    mismatches = counter.metrics.registry.get_sample_value(
        "counterfoil_event_mismatches_total", {"organization": "acme"}
    )
    assert mismatches == 1


async def test_the_event_carries_the_labels_of_the_contract(counter: Counter) -> None:
    counter.organization_cache.update(added(an_organization(spec={"defaultSenderRef": {"name": "api"}})))
    await counter.status()
    (stored,) = counter.kube.events.values()
    labels = stored["metadata"]["labels"]
    shard = labels.pop("counterfoil.dev/shard")
    assert 0 <= int(shard) < 64
    assert labels == {
        "counterfoil.dev/organization": "acme",
        "counterfoil.dev/envelope": GUID,
        "counterfoil.dev/action": "envelopeFinished",
        "counterfoil.dev/sender": "api",
    }


async def test_a_body_is_ignored_and_the_connection_continues(counter: Counter) -> None:
    for body in (b"x" * 60_000, b""):
        answer = await counter.asked(f"{PATH}?{QUERY}", method="POST", data=body)
        assert answer.status == 200
        assert "Connection" not in answer.headers


async def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(counter: Counter) -> None:
    headers = {"Expect": "100-continue"}
    answer = await counter.asked(f"{PATH}?{QUERY}", method="POST", data=b"x" * 10, headers=headers)
    assert answer.status == 200


async def test_a_token_with_escaped_characters_is_the_same_token(counter: Counter) -> None:
    assert await counter.status(path=f"/callbacks/acme/%61{TOKEN[1:]}") == 200


# -- 4xx -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query", ["", "action=envelopeFinished", "envelopeId=1&action=x", f"{QUERY}&action=%23%23Action%23%23"]
)
async def test_an_id_or_action_that_cannot_be_is_answered_400(counter: Counter, query: str) -> None:
    assert await counter.status(query) == 400
    assert counter.counted("malformed") == 1


@pytest.mark.parametrize(
    "path", ["/callbacks/nobody/" + TOKEN, "/callbacks/acme/wrong", f"/callbacks/acme/{TOKEN}x"]
)
async def test_an_unknown_organization_or_token_is_answered_404_alike(counter: Counter, path: str) -> None:
    answer = await counter.asked(f"{path}?{QUERY}")
    assert answer.status == 404
    assert set(answer.headers) == {"Server", "Date", "Content-Length"}


@pytest.mark.parametrize("path", ["/callbacks/new/" + TOKEN, "/callbacks/acme/rotated"])
async def test_an_unknown_organization_or_token_is_answered_503_while_the_organizations_are_not_followed(
    counter: Counter, path: str
) -> None:
    counter.clock.advance(seconds=121)
    answer = await counter.asked(f"{path}?{QUERY}")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "10")
    assert await counter.status(path=PATH) == 200, "a token that was known is accepted"
    assert counter.counted("not_ready", "") == 1

    counter.organization_cache.update(WatchEvent("BOOKMARK", {}))
    assert await counter.status(path=path) == 404


async def test_an_unknown_password_or_action_is_answered_503_while_the_organizations_are_not_followed(
    counter: Counter,
) -> None:
    counter.clock.advance(seconds=121)
    assert await counter.status(f"envelopeId={GUID}&action=newAction") == 503
    counter.organization_cache.update(added(with_basic_auth(an_organization())))
    headers = {"Authorization": "Basic bmV3OnBhc3N3b3Jk"}
    assert (await counter.asked(f"{PATH}?{QUERY}", headers=headers)).status == 503


async def test_the_age_of_the_organizations_is_published(counter: Counter) -> None:
    counter.clock.advance(seconds=90)
    name = "counterfoil_organizations_age_seconds"
    assert counter.metrics.registry.get_sample_value(name) == 90
    counter.organization_cache.update(added(an_organization()))
    assert counter.metrics.registry.get_sample_value(name) == 90, "the list is not complete"
    counter.organization_cache.update(synced("acme"))
    assert counter.metrics.registry.get_sample_value(name) == 0


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/healthz",
        "/metrics",
        "/callbacks",
        "/callbacks/acme",
        "/callbacks/acme/",
        f"{PATH}/",
        f"/x{PATH}",
    ],
)
async def test_nothing_else_is_served(counter: Counter, path: str) -> None:
    assert await counter.status(path=path) == 404


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_another_method_is_answered_405(counter: Counter, method: str) -> None:
    answer = await counter.asked(f"{PATH}?{QUERY}", method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, POST")


async def test_with_a_second_lock_only_the_right_user_passes(counter: Counter) -> None:
    counter.organization_cache.update(added(with_basic_auth(an_organization())))
    right = "Basic " + base64.b64encode(f"esaw:{PASSWORD}".encode()).decode()

    answer = await counter.asked(f"{PATH}?{QUERY}")
    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="counterfoil"')
    assert (await counter.asked(f"{PATH}?{QUERY}", headers={"Authorization": "Basic eDp5"})).status == 401
    assert (await counter.asked(f"{PATH}?{QUERY}", headers={"Authorization": right})).status == 200


async def test_wrong_passwords_never_delay_the_right_one(counter: Counter) -> None:
    counter.organization_cache.update(added(with_basic_auth(an_organization())))
    for number in range(60):
        wrong = "Basic " + base64.b64encode(b"esaw:wrong-%d" % number).decode()
        assert (await counter.asked(f"{PATH}?{QUERY}", headers={"Authorization": wrong})).status == 401
    right = "Basic " + base64.b64encode(f"esaw:{PASSWORD}".encode()).decode()
    assert (await counter.asked(f"{PATH}?{QUERY}", headers={"Authorization": right})).status == 200


async def test_a_new_token_without_a_hash_of_the_password_is_answered_503(counter: Counter) -> None:
    # The Secret of the password could not be used when the token was added.
    locked = with_basic_auth(an_organization())
    locked["status"]["callbackTokenHashes"].append(token_hash("another-token-0123456789", bytes(16)))
    counter.organization_cache.update(added(locked))
    right = "Basic " + base64.b64encode(f"esaw:{PASSWORD}".encode()).decode()
    another = PATH.replace(TOKEN, "another-token-0123456789")
    assert (await counter.asked(f"{PATH}?{QUERY}", headers={"Authorization": right})).status == 200
    assert (await counter.asked(f"{another}?{QUERY}", headers={"Authorization": right})).status == 503


async def test_the_second_lock_does_not_reveal_to_an_untrusted_client_that_the_organization_exists(
    counter: Counter,
) -> None:
    counter.organization_cache.update(added(with_basic_auth(an_organization())))
    assert await counter.status(path="/callbacks/acme/wrong") == 404


async def a_chunked_body(chunks: int) -> AsyncIterator[bytes]:
    for _ in range(chunks):
        yield b"x" * 1000


async def test_a_body_that_says_it_is_too_large_is_answered_413(counter: Counter) -> None:
    answer = await counter.asked(f"{PATH}?{QUERY}", method="POST", data=b"x" * 66_000)
    assert answer.status == 413
    assert counter.kube.events == {}


async def test_a_body_that_turns_out_too_large_is_answered_413() -> None:
    async with a_counter(ReceiverLimits(body=3000)) as counter:
        answer = await counter.asked(f"{PATH}?{QUERY}", method="POST", data=a_chunked_body(4))
        assert answer.status == 413
        answer = await counter.asked(f"{PATH}?{QUERY}", method="POST", data=a_chunked_body(3))
        assert answer.status == 200


async def test_more_than_the_organizations_rate_is_answered_429_with_the_time_to_wait() -> None:
    async with a_counter(rate=0.25, burst=2) as counter:
        assert [await counter.status() for _ in range(2)] == [200, 200]
        answer = await counter.asked(f"{PATH}?{QUERY}")
        assert (answer.status, answer.headers["Retry-After"]) == (429, "4")

        await counter.clock.sleep(4)
        assert await counter.status() == 200


async def test_untrusted_clients_do_not_use_up_an_organizations_rate() -> None:
    async with a_counter(rate=0.01, burst=1) as counter:
        for _ in range(5):
            await counter.status(path="/callbacks/acme/wrong")
        assert await counter.status() == 200


# -- 503 -----------------------------------------------------------------------------------------------------


async def is_503(counter: Counter, query: str = QUERY) -> bool:
    answer = await counter.asked(f"{PATH}?{query}")
    return answer.status == 503 and answer.headers["Retry-After"] == "10"


async def test_before_the_organizations_are_read_nothing_is_unknown() -> None:
    async with a_counter(organizations_read=False) as counter:
        assert await is_503(counter)
        assert counter.counted("not_ready", organization="") == 1


@pytest.mark.parametrize("path", [PATH, "/callbacks/acme/any-other-token"])
async def test_an_organization_that_cannot_be_judged_yet_is_answered_503(counter: Counter, path: str) -> None:
    counter.organization_cache.update(added(an_organization(status={"callbackTokenHashes": []})))
    assert await counter.status(path=path) == 503


@pytest.mark.parametrize("problem", [unavailable(), Forbidden(403, "Forbidden", "exceeded quota")])
async def test_what_could_not_be_recorded_is_answered_503(counter: Counter, problem: Exception) -> None:
    counter.kube.trouble["create"] = problem  # type: ignore[assignment]  # pytest's parameters are objects
    assert await is_503(counter)


async def test_an_error_that_nobody_foresaw_is_answered_503(counter: Counter) -> None:
    counter.kube.trouble["create"] = ValueError("oops")  # type: ignore[assignment]  # on purpose
    assert await is_503(counter)


async def test_more_callbacks_at_once_than_fit_are_answered_503_and_the_others_continue() -> None:
    async with a_counter(ReceiverLimits(in_flight=1)) as counter:
        counter.kube.answering.clear()
        first = asyncio.create_task(counter.status())
        await counter.kube.until_asked("create")
        assert await counter.status() == 503
        counter.kube.answering.set()
        assert await first == 200


async def test_of_a_callback_that_does_not_fit_nothing_is_read() -> None:
    async with a_counter(ReceiverLimits(in_flight=1)) as counter:
        counter.kube.answering.clear()
        first = asyncio.create_task(counter.status())
        await counter.kube.until_asked("create")
        assert await is_503(counter, "not a callback")
        assert (await counter.asked(f"{PATH}?{QUERY}", method="POST", data=b"x" * 100)).status == 503
        counter.kube.answering.set()
        assert await first == 200


async def test_a_callback_that_waits_too_long_for_its_turn_is_answered_503_with_the_time_to_wait() -> None:
    async with a_counter(ReceiverLimits(wait_seconds=0.01), turns=1) as counter:
        counter.kube.answering.clear()
        first = asyncio.create_task(counter.status())
        await counter.kube.until_asked("create")
        assert await is_503(counter, f"envelopeId={GUID[:-1]}1&action=envelopeFinished")
        counter.kube.answering.set()
        assert await first == 200
        assert counter.kube.count("create") == 1


# -- Bounds of the connection --------------------------------------------------------------------------------


async def raw(counter: Counter, sent: bytes) -> bytes:
    """Send bytes as they are and read until the connection is closed."""
    reader, writer = await asyncio.open_connection(*counter.address)
    writer.write(sent)
    async with asyncio.timeout(60):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    "sent",
    [
        # It is parsed before it is refused, so its connection would stay open.
        b"GET " + PATH.encode() + b"?" + b"x" * 5000 + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + b"x" * 5000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(70)) + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET /a b c HTTP/1.1\r\n\r\n",
    ],
)
async def test_what_is_beyond_the_bounds_or_no_http_is_answered_400_with_nothing_in_it(
    counter: Counter, sent: bytes
) -> None:
    answer = await raw(counter, sent)
    assert answer.startswith(b"HTTP/1.") and b" 400 " in answer.splitlines()[0]  # noqa: PT018 - one fact
    assert answer.endswith(b"\r\n\r\n")
    assert b"Content-Length: 0" in answer


async def test_headers_that_do_not_come_end_the_connection() -> None:
    async with a_counter(ReceiverLimits(idle_seconds=0.1)) as counter:
        assert await raw(counter, b"GET / HTTP/1.1\r\nHost:") == b""


async def test_a_body_that_does_not_come_is_answered_503() -> None:
    async with a_counter(ReceiverLimits(body_seconds=0.1, lingering_seconds=0.1)) as counter:
        head = f"POST {PATH}?{QUERY} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"
        answer = await raw(counter, head.encode())
        assert b" 503 " in answer.splitlines()[0]
        assert b"Retry-After: " in answer
        assert counter.kube.events == {}


async def test_a_client_that_leaves_in_its_body_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    head = f"POST {PATH}?{QUERY} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\nabc"
    # The server ends after the handler of the request.
    async with a_counter() as counter:
        reader, writer = await asyncio.open_connection(*counter.address)
        writer.write(head.encode())
        # The answer to Expect: the handler reads the body now.
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
    assert counter.counted("malformed") == 1
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []
    assert counter.kube.events == {}


# -- Connections ---------------------------------------------------------------------------------------------


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the server closes the connection."""
    try:
        async with asyncio.timeout(5.0):
            return await reader.read() == b""
    except ConnectionError:
        return True


async def test_beyond_the_maximum_the_oldest_connection_without_a_request_is_closed() -> None:
    async with a_counter(ReceiverLimits(connections=3)) as counter:
        opened = [await asyncio.open_connection(*counter.address) for _ in range(3)]
        opened[0][1].write(b"GET " + PATH.encode())
        await asyncio.sleep(0)
        assert await counter.status() == 200
        assert await ended(opened[0][0])
        for _, writer in opened:
            writer.close()


async def test_a_request_in_progress_is_not_closed_for_a_new_connection() -> None:
    async with a_counter(ReceiverLimits(connections=1)) as counter:
        counter.kube.answering.clear()
        callback = asyncio.create_task(counter.status())
        await counter.kube.until_asked("create")
        reader, writer = await asyncio.open_connection(*counter.address)
        assert await ended(reader)
        counter.kube.answering.set()
        assert await callback == 200
        writer.close()


async def send_without_end(sock: socket.socket) -> None:
    """Send requests and read no answer. Raises ``ConnectionError`` when the server closes the connection."""
    while True:
        await asyncio.get_running_loop().sock_sendall(sock, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 100)


async def test_a_client_that_never_reads_is_closed() -> None:
    async with a_counter(ReceiverLimits(unread_seconds=0.5, idle_seconds=60.0)) as counter:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, tuple(counter.address))
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(send_without_end(sock), 120.0)
        sock.close()


async def test_one_organization_of_several_leaves_room_for_the_others() -> None:
    async with a_counter(ReceiverLimits(in_flight=4)) as counter:
        counter.organization_cache.update(added(an_organization("other")))
        counter.kube.answering.clear()
        queries = [f"envelopeId={GUID}&action=envelopeFinished&workstepId=w{number}" for number in range(8)]
        burst = [asyncio.create_task(counter.status(each)) for each in queries]
        other = asyncio.create_task(counter.status(path=PATH.replace("/acme/", "/other/")))
        await counter.kube.until_asked("create", times=4)
        counter.kube.answering.set()
        assert await other == 200
        assert sorted(await asyncio.gather(*burst)) == [200] * 3 + [503] * 5


async def test_at_the_end_what_was_accepted_is_still_answered() -> None:
    counter = Counter(ReceiverLimits())
    async with aiohttp.ClientSession(trust_env=False) as counter.session:
        async with public_server(
            ListenAddress("127.0.0.1", 0), counter.handler, limits=ReceiverLimits(), grace_seconds=5.0
        ) as counter.address:
            counter.kube.answering.clear()
            under_way = asyncio.create_task(counter.status())
            await counter.kube.until_asked("create")
            asyncio.get_running_loop().call_later(0.1, counter.kube.answering.set)
        assert await under_way == 200
        with pytest.raises(aiohttp.ClientConnectorError):
            await counter.status()


# -- The log -------------------------------------------------------------------------------------------------


async def test_each_request_is_one_line_with_its_outcome_and_without_the_token(
    counter: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await counter.status()
        await counter.status(path="/callbacks/acme/wrong-token-0123456789")
        await counter.status("")
        await raw(counter, b"GET " + PATH.encode() + b"?" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n")

    lines = [
        json.loads(JsonFormatter().format(record))
        for record in caplog.records
        if record.name == "webhook.receiver.callback_to_event"
    ]
    assert [(line.get("organization"), line["outcome"], line["status"]) for line in lines] == [
        ("acme", "noted", 200),
        ("acme", "unknown", 404),
        ("acme", "malformed", 400),
        (None, "malformed", 400),
    ]
    told = "".join(record.getMessage() + str(record.__dict__) for record in caplog.records)
    assert TOKEN not in told
    assert "wrong-token" not in told


async def test_a_placeholder_that_was_not_replaced_is_named_in_the_log(
    counter: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await counter.status(f"envelopeId={GUID}&action=%23%23Action%23%23")
    assert "action is a placeholder that was not replaced" in caplog.text


def full(unfinished: int = 100, unknown: int = 0) -> dict[str, Any]:
    load = {"countTime": "2025-01-01T12:00:00Z", "unfinishedEvents": unfinished, "unknownEnvelopes": unknown}
    limits = {"unfinishedEvents": 100, "unknownEnvelopes": 100}
    return an_organization(spec={"limits": limits}, status={"load": load})


@pytest.mark.parametrize("load", [(100, 0), (0, 100)], ids=["unfinished", "unknown"])
async def test_at_a_ceiling_new_callbacks_get_503_and_known_ones_200(
    counter: Counter, load: tuple[int, int]
) -> None:
    assert await counter.status() == 200
    counter.organization_cache.update(added(full(*load)))

    answer = await counter.asked(f"{PATH}?envelopeId={GUID[:-1]}1&action=envelopeFinished")

    assert (answer.status, answer.headers["Retry-After"]) == (503, "300")
    assert counter.counted("organization_full") == 1
    assert await counter.status() == 200
    assert len(counter.kube.events) == 1


async def test_a_known_callback_is_found_at_a_ceiling_by_a_receiver_that_never_saw_it(
    counter: Counter,
) -> None:
    await counter.status()
    (stored,) = counter.kube.events.values()
    async with a_counter() as other:
        other.kube.put_event(stored)
        other.organization_cache.update(added(full()))
        assert await other.status() == 200
        assert other.deliveries.pending_events == 1


async def test_callbacks_that_create_no_event_take_no_room(counter: Counter) -> None:
    counter.organization_cache.update(added(full(unfinished=98)))
    for _ in range(5):
        assert await counter.status() == 200
    assert await counter.status(f"envelopeId={GUID[:-1]}1&action=envelopeFinished") == 200
    assert await counter.status(f"envelopeId={GUID[:-1]}2&action=envelopeFinished") == 503


@pytest.mark.parametrize("problem", [unavailable(), ValueError("oops")])
async def test_callbacks_that_could_not_be_stored_take_no_room(counter: Counter, problem: Exception) -> None:
    # The controller publishes no new count of an organization whose events do not change, so such room would
    # be missing for an hour.
    counter.organization_cache.update(added(full(unfinished=98)))
    counter.kube.trouble["create"] = problem  # type: ignore[assignment]  # pytest's parameters are objects
    for number in range(5):
        assert await counter.status(f"envelopeId={GUID[:-1]}{number}&action=envelopeFinished") == 503
    del counter.kube.trouble["create"]
    assert await counter.status() == 200


async def test_events_that_were_created_while_the_clock_was_ahead_are_counted_once(counter: Counter) -> None:
    counter.organization_cache.update(added(full(unfinished=0)))
    counter.clock.advance(days=30)
    for number in range(3):
        assert await counter.status(f"envelopeId={GUID[:-1]}{number}&action=envelopeFinished") == 200
    counter.clock.set_back(days=30)
    counter.clock.advance(seconds=60)
    counter.organization_cache.update(added(counted_at(counter.clock.now(), unfinished=99)))
    assert await counter.status(f"envelopeId={GUID[:-1]}4&action=envelopeFinished") == 200
    assert await counter.status(f"envelopeId={GUID[:-1]}5&action=envelopeFinished") == 503
    counter.clock.advance(seconds=400)
    assert counter.uncounted_seconds() == 400


async def test_a_count_that_arrives_while_the_clock_is_ahead_counts_when_the_clock_is_right(
    counter: Counter,
) -> None:
    counter.organization_cache.update(added(full(unfinished=0)))
    assert await counter.status() == 200
    counter.clock.advance(seconds=60)
    count = counted_at(counter.clock.now(), unfinished=99)
    counter.clock.set_back(days=-30)
    counter.organization_cache.update(added(count))
    counter.clock.advance(seconds=340)
    assert counter.uncounted_seconds() == 400
    counter.clock.set_back(days=30)
    assert counter.uncounted_seconds() == 0
    assert await counter.status(f"envelopeId={GUID[:-1]}4&action=envelopeFinished") == 200


def counted_at(when: datetime, *, unfinished: int) -> dict[str, Any]:
    load = {"countTime": when.isoformat(), "unfinishedEvents": unfinished}
    return an_organization(spec={"limits": {"unfinishedEvents": 100}}, status={"load": load})


async def test_a_callback_reaches_the_api_server_in_few_steps(counter: Counter) -> None:
    steps: list[str] = []
    create = counter.kube.create_from_json

    async def recorded(*args: Any) -> Any:
        frames = traceback.extract_stack()
        steps.extend(each.name for each in frames if "/webhook/receiver/" in each.filename)
        return await create(*args)

    counter.kube.create_from_json = recorded  # type: ignore[method-assign, assignment]
    assert await counter.status() == 200

    # The client of the API server adds two: create_from_json and _send.
    called = [each for each in steps if each != "recorded"]
    assert called == ["answer", "_process", "_store", "create", "_write", "_create_or_count"]
