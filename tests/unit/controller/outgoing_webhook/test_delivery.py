"""Delivery of pending notices: found by a watch, sent to real HTTP servers, results in the status."""

import asyncio
import base64
import hashlib
import hmac
import json

import pytest

from controller.access import secret_cache
from controller.outgoing_webhook import delivery
from controller.outgoing_webhook.delivery import CONCURRENT_NOTICES
from controller.scheduling.retry_policy import Backoff
from counterfoil.kube.errors import Forbidden
from counterfoil.kube.watch import WatchEvent
from counterfoil.resources import EnvelopeEvent, NoticeState, Phase
from tests.support.builders import an_organization
from tests.support.scenes.notices import (
    RETRY,
    SECRET,
    SIGNING_KEY,
    NoticeScene,
    a_finished_event,
    ids,
    until,
    with_webhook,
)
from tests.support.servers.scripted_esaw import Script, answering, running, silence


@pytest.fixture(autouse=True)
def first_list_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no other list: there is none."""
    monkeypatch.setattr(delivery, "SECOND_LIST_DELAY_SECONDS", 0.0)


async def test_a_pending_notice_is_sent_signed_and_costs_one_write() -> None:
    event = a_finished_event()
    async with running(answering(b"", 200)) as server:
        scene = NoticeScene(server.url, event)
        async with scene.controller(event):
            await until(lambda: scene.notice().state is NoticeState.DELIVERED)
    request = server.received[0]
    assert json.loads(request.body)["id"] == request.headers["webhook-id"] == "msg_1"
    assert request.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    signed = f"msg_1.{request.headers['webhook-timestamp']}.".encode() + request.body
    expected = base64.b64encode(hmac.new(SIGNING_KEY, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"
    assert scene.statuses() == 1
    assert [list(changes) for _, changes in scene.kube.patches] == [["notice"]], "nothing else is written"
    assert scene.count("delivered") == 1
    assert scene.notice().attempts == 1


async def test_500_and_then_200_is_sent_again_with_the_same_id_and_body() -> None:
    event = a_finished_event()
    async with running(answering(b"", 500), answering(b"", 503), answering(b"", 200)) as server:
        scene = NoticeScene(server.url, event)
        async with scene.controller(event):
            await until(lambda: scene.notice().state is NoticeState.DELIVERED)
    assert ids(server) == ["msg_1"] * 3
    assert len({each.body for each in server.received}) == 1
    assert scene.notice().attempts == 3
    assert scene.notice().last_error is None
    assert (scene.count("retried"), scene.count("delivered")) == (2, 1)


async def test_what_is_retried_shows_its_last_error_and_survives_a_kill() -> None:
    event = a_finished_event()
    async with running(answering(b"", 500)) as broken:
        scene = NoticeScene(broken.url, event)
        async with scene.controller(event):
            await until(lambda: scene.notice().attempts >= 2)
    notice = scene.notice()
    assert notice.last_error is not None
    assert notice.last_error.reason == "WebhookFailing"
    assert notice.next_attempt_time is not None
    async with running(answering(b"", 200)) as server:
        scene.cache.update(with_webhook(server.url, generation=2))
        async with scene.controller(event):
            await until(lambda: scene.notice().state is NoticeState.DELIVERED)
    assert ids(server) == ["msg_1"], "a restart finds it again"
    assert scene.notice().attempts == notice.attempts + 1, "and continues counting"


async def test_a_kill_between_the_answer_and_the_write_sends_it_again_with_the_same_id() -> None:
    event = a_finished_event()
    async with running(answering(b"", 200)) as server:
        scene = NoticeScene(server.url, event)
        scene.kube.go_away("patch_status", times=1)
        async with scene.controller(event):
            await until(lambda: ("patch_status", event.name) in scene.kube.asked)
        assert scene.notice().state is NoticeState.PENDING
        async with scene.controller(event):
            await until(lambda: scene.notice().state is NoticeState.DELIVERED)
    assert ids(server) == ["msg_1", "msg_1"]


async def test_an_unreachable_api_server_does_not_make_it_send_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("controller.outgoing_webhook.delivery.LOST_OUTCOME", Backoff((0.02,)))
    event = a_finished_event()
    async with running(answering(b"", 200)) as server:
        scene = NoticeScene(server.url, event)
        scene.kube.go_away("patch_status", times=3)
        async with scene.controller(event):
            await until(lambda: scene.notice().state is NoticeState.DELIVERED)
    assert ids(server) == ["msg_1"]


async def test_410_is_final_and_a_person_is_notified() -> None:
    event = a_finished_event()
    async with running(answering(b"", 410)) as server:
        scene = NoticeScene(server.url, event)
        async with scene.controller(event):
            await until(lambda: scene.notice().state is NoticeState.FAILED)
            await asyncio.sleep(0.1)
    assert len(server.received) == 1
    assert scene.failed == [(event.name, "WebhookGone")]
    assert scene.count("failed") == 1
    assert scene.statuses() == 1


async def test_after_the_deadline_it_is_given_up_once() -> None:
    event = a_finished_event()
    async with running(answering(b"", 500)) as server:
        scene = NoticeScene(server.url, event)
        scene.cache.update(with_webhook(server.url, generation=2, retry={**RETRY, "deadline": "1s"}))
        async with scene.controller(event):
            await until(lambda: scene.notice().state is NoticeState.FAILED)
            seen = len(server.received)
            await asyncio.sleep(0.1)
    assert len(server.received) == seen > 1
    assert scene.failed == [(event.name, "WebhookFailing")]


async def test_a_receiver_that_hangs_holds_only_its_own_organization() -> None:
    stuck = [a_finished_event(number, organization="slow") for number in range(1, 10)]
    event = a_finished_event(99)
    async with running(silence) as hanging, running(answering(b"", 200)) as server:
        scene = NoticeScene(server.url, *stuck, event)
        scene.cache.update(with_webhook(hanging.url, name="slow"))
        async with scene.controller(*stuck, event):
            await until(lambda: scene.notice(99).state is NoticeState.DELIVERED)
            await until(lambda: len(hanging.received) >= CONCURRENT_NOTICES)
            await asyncio.sleep(0.1)
    assert len(hanging.received) == CONCURRENT_NOTICES


async def test_a_notice_of_a_state_that_ended_is_not_sent() -> None:
    event = a_finished_event()
    async with running(answering(b"", 200)) as server:
        scene = NoticeScene(server.url, event)
        scene.observe(event)
        scene.kube.edit(EnvelopeEvent, event.name, {"status": {"phase": "Pending", "notice": None}})
        async with scene.controller():
            await asyncio.sleep(0.2)
    assert server.received == []
    assert scene.statuses() == 0


async def test_an_event_that_is_reopened_during_the_attempt_keeps_its_new_state() -> None:
    event = a_finished_event()
    async with running(answering(b"", 200)) as server:
        scene = NoticeScene(server.url, event)
        reopened = {"status": {"phase": "Pending", "notice": None}}
        scene.kube.just_before("patch_status", lambda: scene.kube.edit(EnvelopeEvent, event.name, reopened))
        async with scene.controller(event):
            await until(lambda: scene.count("delivered") == 1)
    stored = scene.kube.stored(event.name).status
    assert stored.phase is Phase.PENDING
    assert stored.notice is None


async def test_a_delivery_that_is_counted_meanwhile_is_kept() -> None:
    event = a_finished_event()
    async with running(answering(b"", 200)) as server:
        scene = NoticeScene(server.url, event)
        counted = {"status": {"deliveries": 7}}
        scene.kube.just_before("patch_status", lambda: scene.kube.edit(EnvelopeEvent, event.name, counted))
        async with scene.controller(event):
            await until(lambda: scene.notice().state is NoticeState.DELIVERED)
    assert scene.kube.stored(event.name).status.deliveries == 7
    assert len(server.received) == 1


async def test_a_suspended_organization_sends_nothing_until_it_is_resumed() -> None:
    event = a_finished_event()
    async with running(answering(b"", 200)) as server:
        scene = NoticeScene(server.url, event)
        scene.cache.update(with_webhook(server.url, generation=2, suspend=True))
        async with scene.controller(event):
            await asyncio.sleep(0.2)
            assert server.received == []
            scene.cache.update(with_webhook(server.url, generation=3))
            await until(lambda: scene.notice().state is NoticeState.DELIVERED)


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        (None, "WebhookSecretMissing"),
        ({"other": SECRET}, "WebhookSecretMissing"),
        ({"secret": b"x"}, "WebhookSecretInvalid"),
        ({"secret": SECRET}, "SecretNotLabelled"),
        ({"secret": SECRET}, "SecretForbidden"),
    ],
)
async def test_without_a_signing_secret_nothing_is_sent_until_there_is_one(
    monkeypatch: pytest.MonkeyPatch, secret: dict[str, bytes] | None, reason: str
) -> None:
    monkeypatch.setattr(delivery, "SECRET_CHECK_SECONDS", 0.05)
    for seconds in ("FRESH_SECONDS", "UNREADABLE_SECONDS", "REPEATED_SECONDS"):
        monkeypatch.setattr(secret_cache, seconds, 0)
    event = a_finished_event()
    async with running(answering(b"", 200)) as server:
        scene = NoticeScene(server.url, event)
        slow = {"initial": "1h", "max": "1h", "deadline": "24h"}
        scene.cache.update(with_webhook(server.url, generation=2, retry=slow))
        del scene.kube.secrets["hook"]
        if secret is not None:
            scene.kube.secrets["hook"] = secret
        if reason == "SecretNotLabelled":
            scene.kube.secret_uses["hook"] = "archive"
        if reason == "SecretForbidden":
            scene.kube.refused["secret", "hook"] = Forbidden(403, "Forbidden", "no")
        async with scene.controller(event):
            await until(lambda: scene.notice().attempts == 1)
            error = scene.notice().last_error
            assert error is not None
            assert error.reason == reason
            await asyncio.sleep(0.2)
            assert server.received == []
            assert scene.notice().attempts == 1, "waiting costs no further write"
            scene.kube.refused.clear()
            scene.kube.put_secret("hook", "webhook", {"secret": SECRET})
            await until(lambda: scene.notice().state is NoticeState.DELIVERED)


async def test_a_changed_webhook_sends_what_waits_at_once() -> None:
    event = a_finished_event()
    slow = {"initial": "1h", "max": "1h", "deadline": "24h"}
    async with running(answering(b"", 404)) as wrong, running(answering(b"", 200)) as right:
        scene = NoticeScene(wrong.url, event)
        scene.cache.update(with_webhook(wrong.url, generation=2, retry=slow))
        async with scene.controller(event):
            await until(lambda: scene.notice().attempts == 1)
            scene.cache.update(with_webhook(right.url, generation=3, retry=slow))
            await until(lambda: scene.notice().state is NoticeState.DELIVERED)


async def test_a_removed_webhook_ends_the_attempts_and_nobody_is_notified() -> None:
    event = a_finished_event()
    async with running(answering(b"", 500)) as server:
        scene = NoticeScene(server.url, event)
        scene.cache.update(an_organization(version=2, generation=2))
        async with scene.controller(event):
            await until(lambda: scene.notice().state is NoticeState.FAILED)
    assert server.received == []
    error = scene.notice().last_error
    assert error is not None
    assert error.reason == "WebhookRemoved"
    assert scene.failed == []


async def test_a_notice_that_another_controller_delivered_is_not_sent() -> None:
    event = a_finished_event()
    async with running(answering(b"", 200)) as server:
        scene = NoticeScene(server.url, event)
        scene.observe(event)
        scene.kube.edit(EnvelopeEvent, event.name, {"status": {"notice": {"state": "Delivered"}}})
        async with scene.controller():
            await asyncio.sleep(0.2)
    assert server.received == []


async def test_what_a_new_list_does_not_name_is_forgotten() -> None:
    event, is_asked = a_finished_event(), asyncio.Event()
    is_listed_anew = asyncio.Event()

    async def answers_after_the_list(writer: asyncio.StreamWriter) -> None:
        is_asked.set()
        await is_listed_anew.wait()
        await answering(b"", 500)(writer)

    async with running(answers_after_the_list) as server:
        scene = NoticeScene(server.url, event)
        async with scene.controller(event) as built:
            await is_asked.wait()
            scene.kube.changes.put_nowait(WatchEvent("SYNCED", {}, frozenset()))
            await until(lambda: built.pending == 0)
            is_listed_anew.set()
            await until(lambda: scene.notice().attempts == 1)
            await until(lambda: scene.count("retried") == 1)
            assert built.pending == 0, "the running attempt is stored, and there is no other"
    assert len(server.received) == 1


async def test_at_a_clean_end_the_running_attempt_is_stored() -> None:
    event, slow = a_finished_event(), asyncio.Event()

    async def answers_late(writer: asyncio.StreamWriter) -> None:
        await slow.wait()
        await answering(b"", 200)(writer)

    scripts: tuple[Script, ...] = (answers_late,)
    async with running(*scripts) as server:
        scene = NoticeScene(server.url, event)
        async with scene.controller(event) as built:
            await server.arrived.wait()
            draining = asyncio.create_task(built.drain())
            await asyncio.sleep(0.05)
            assert not draining.done()
            slow.set()
            async with asyncio.timeout(5):
                await draining
    assert scene.notice().state is NoticeState.DELIVERED
