"""The stand-in eSAW: callbacks, their order, their patience, and the envelope that waits for them."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import httpx
import pytest

from sandbox.esaw import (
    ActionKind,
    Behaviour,
    CallbackKind,
    CallbackLogin,
    CallbackUrls,
    EnvelopeStatus,
    Recipient,
    StandIn,
    User,
)
from sandbox.esaw.core.callbacks import expand_placeholders
from tests.support.pauses import eventually
from tests.support.servers.standin_peers import Receiver, anna

HURRY = Behaviour(callback_time_scale=0.00001)
"""The 36 hours of 30 attempts in 1.3 s."""


@pytest.fixture
async def esaw() -> AsyncIterator[StandIn]:
    async with StandIn(behaviour=HURRY) as running:
        yield running


def an_active(esaw: StandIn, user: User, receiver: Receiver, **more: Any) -> str:
    urls = CallbackUrls(envelope=receiver.template("finished"), status=receiver.template("status"))
    return esaw.add_envelope(sender=user, status="Active", **{"callbacks": urls, **more})


async def completed(esaw: StandIn, envelope: str) -> None:
    await esaw.complete(envelope)
    await esaw.callbacks_settled()


async def test_a_callback_is_a_get_with_the_placeholders_replaced_and_no_body(
    esaw: StandIn, user: User
) -> None:
    async with Receiver() as receiver:
        envelope = an_active(esaw, user, receiver)
        await completed(esaw, envelope)
    last = receiver.seen[-1]
    assert last.method == "GET"
    assert dict(last.query) == {"envelope": envelope, "action": "envelopeFinished"}
    assert not last.can_read_body
    assert "User-Agent" not in last.headers


async def test_the_status_callback_comes_before_the_envelope_callback(esaw: StandIn, user: User) -> None:
    async with Receiver() as receiver:
        await completed(esaw, an_active(esaw, user, receiver))
    assert [(each.path, each.query["action"]) for each in receiver.seen] == [
        ("/status", "workstepFinished"),
        ("/finished", "envelopeFinished"),
    ]


async def statuses_seen_while_called(esaw: StandIn, user: User) -> list[EnvelopeStatus]:
    seen = []

    async def look() -> None:
        seen.append(esaw.status(envelope))

    async with Receiver(look=look) as receiver:
        envelope = an_active(esaw, user, receiver)
        await completed(esaw, envelope)
    return [*seen, esaw.status(envelope)]


async def test_the_envelope_is_held_back_until_its_callback_was_accepted(esaw: StandIn, user: User) -> None:
    assert await statuses_seen_while_called(esaw, user) == ["Active", "Active", "Completed"]


async def test_the_envelope_may_be_final_already_while_its_callback_is_made(
    esaw: StandIn, user: User
) -> None:
    esaw.set_behaviour(Behaviour(final_during_callback=True))
    assert await statuses_seen_while_called(esaw, user) == ["Active", "Completed", "Completed"]


async def test_the_final_state_may_lag_behind_the_accepted_callback(esaw: StandIn, user: User) -> None:
    esaw.set_behaviour(Behaviour(final_state_lag=0.05))
    accepted = asyncio.Event()

    async def look() -> None:
        accepted.set()

    async with Receiver(look=look) as receiver:
        envelope = an_active(esaw, user, receiver, callbacks=CallbackUrls(envelope=receiver.template()))
        await esaw.complete(envelope)
        await accepted.wait()
        assert esaw.status(envelope) is EnvelopeStatus.ACTIVE
        await esaw.callbacks_settled()
    assert esaw.status(envelope) is EnvelopeStatus.COMPLETED


async def test_an_envelope_without_callbacks_is_final_at_once(esaw: StandIn, user: User) -> None:
    envelope = esaw.add_envelope(sender=user, status="Active")
    await esaw.complete(envelope)
    assert esaw.status(envelope) is EnvelopeStatus.COMPLETED


async def test_each_signature_is_called_back_and_the_envelope_stays_active_until_the_end(
    esaw: StandIn, user: User
) -> None:
    two = [Recipient(email="kim@example.com"), Recipient(email="lou@example.com")]
    async with Receiver() as receiver:
        envelope = an_active(esaw, user, receiver, recipients=two)
        for _ in two:
            await esaw.finish_workstep(envelope)
            await esaw.callbacks_settled()
            assert esaw.status(envelope) is EnvelopeStatus.ACTIVE
        await completed(esaw, envelope)
    assert receiver.actions == ["workstepFinished", "workstepFinished", "envelopeFinished"]


async def test_a_copy_is_nobodys_workstep(esaw: StandIn, user: User) -> None:
    recipients = [Recipient(), Recipient(action=ActionKind.SEND_COPY)]
    async with Receiver() as receiver:
        await completed(esaw, an_active(esaw, user, receiver, recipients=recipients))
    assert receiver.actions == ["workstepFinished", "envelopeFinished"]


async def test_the_opening_is_called_back(esaw: StandIn, user: User, api: httpx.AsyncClient) -> None:
    async with Receiver() as receiver:
        envelope = an_active(esaw, user, receiver)
        await esaw.open_workstep(envelope)
        await esaw.callbacks_settled()
    assert receiver.actions == ["workstepOpened"]
    assert (await api.get(f"envelope/{envelope}")).json()["Activities"][0]["OpenedDate"]


async def test_a_rejection_comes_with_both_callbacks(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    async with Receiver() as receiver:
        envelope = an_active(esaw, user, receiver)
        await esaw.reject(envelope, "Wrong sum.")
        await esaw.callbacks_settled()
    activity = (await api.get(f"envelope/{envelope}")).json()["Activities"][0]
    assert receiver.actions == ["workstepRejected", "envelopeFinished"]
    assert (activity["Status"], activity["StatusReason"]) == ("Rejected", "Wrong sum.")
    assert esaw.status(envelope) is EnvelopeStatus.REJECTED


async def test_expiry_comes_with_the_status_callback_only(esaw: StandIn, user: User) -> None:
    async with Receiver() as receiver:
        envelope = an_active(esaw, user, receiver)
        await esaw.expire(envelope)
        await esaw.callbacks_settled()
    assert receiver.actions == ["envelopeExpired"]
    assert esaw.status(envelope) is EnvelopeStatus.EXPIRED


async def test_expiry_may_call_the_envelope_callback_too(esaw: StandIn, user: User) -> None:
    esaw.set_behaviour(Behaviour(callback_on_expiry=True))
    async with Receiver() as receiver:
        await esaw.expire(an_active(esaw, user, receiver))
        await esaw.callbacks_settled()
    assert receiver.actions == ["envelopeExpired", "envelopeFinished"]


@pytest.mark.parametrize(("calls", "actions"), [(False, []), (True, ["envelopeFinished"])])
async def test_cancelling_makes_no_callback_unless_requested(
    esaw: StandIn, user: User, calls: bool, actions: list[str]
) -> None:
    esaw.set_behaviour(Behaviour(callback_on_cancel=calls))
    async with Receiver() as receiver:
        envelope = an_active(esaw, user, receiver)
        await esaw.cancel(envelope)
        await esaw.callbacks_settled()
    assert receiver.actions == actions
    assert esaw.status(envelope) is EnvelopeStatus.CANCELED


async def test_deleting_calls_nobody(esaw: StandIn, user: User) -> None:
    async with Receiver() as receiver:
        await esaw.delete(an_active(esaw, user, receiver))
        await esaw.callbacks_settled()
    assert receiver.seen == []


async def test_an_envelope_can_end_only_once(esaw: StandIn, user: User) -> None:
    async with Receiver(answers=[500]) as receiver:
        envelope = an_active(esaw, user, receiver, callbacks=CallbackUrls(envelope=receiver.template()))
        await esaw.complete(envelope)
        with pytest.raises(ValueError, match="not Active"):
            await esaw.complete(envelope)
        await esaw.callbacks_settled()


async def test_a_workstep_callback_carries_its_own_placeholders(esaw: StandIn, user: User) -> None:
    names = ("WorkstepId", "EventType", "Source", "Time", "RecipientEmail", "EnvelopeId", "RecipientOrder")
    query = "&".join(f"{name}=##{name}##" for name in names)
    async with Receiver() as receiver:
        urls = CallbackUrls(workstep=f"{receiver.url}/ev?{query}")
        recipients = [Recipient(email="kim+1@example.com")]
        envelope = an_active(esaw, user, receiver, callbacks=urls, recipients=recipients)
        await completed(esaw, envelope)
    told = dict(receiver.seen[0].query)
    assert told.pop("WorkstepId")
    assert told.pop("Time").endswith("Z")
    assert told == {
        "EventType": "WorkstepFinished",
        "Source": "internal",
        "RecipientEmail": "kim+1@example.com",
        "EnvelopeId": envelope,
        "RecipientOrder": "1",
    }


def test_a_placeholder_that_is_not_offered_stays_as_it_is() -> None:
    assert expand_placeholders("https://op/cb?a=##Action##&w=##WorkstepId##", {"Action": "a b&c"}) == (
        "https://op/cb?a=a%20b%26c&w=##WorkstepId##"
    )


async def test_a_workstep_callback_comes_before_esaw_has_changed_its_own_data(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    seen = []

    async def look() -> None:
        seen.append((await api.get(f"envelope/{envelope}")).json()["Activities"][0]["Status"])

    async with Receiver(look=look) as receiver:
        urls = CallbackUrls(workstep=f"{receiver.url}/ev", status=f"{receiver.url}/status")
        envelope = an_active(esaw, user, receiver, callbacks=urls)
        await completed(esaw, envelope)
    assert seen == ["Pending", "Completed"]


async def test_workstep_events_that_were_not_chosen_are_not_called_back(esaw: StandIn, user: User) -> None:
    async with Receiver() as receiver:
        urls = CallbackUrls(workstep=f"{receiver.url}/ev", workstep_events=("WorkstepRejected",))
        await completed(esaw, an_active(esaw, user, receiver, callbacks=urls))
    assert receiver.seen == []


async def test_a_callback_is_repeated_until_it_is_accepted_and_holds_the_envelope_back(
    esaw: StandIn, user: User
) -> None:
    async with Receiver(answers=[500, 404, 204]) as receiver:
        envelope = an_active(esaw, user, receiver, callbacks=CallbackUrls(envelope=receiver.template()))
        await completed(esaw, envelope)
    assert [each.status for each in esaw.callbacks(envelope)] == [500, 404, 204]
    assert esaw.status(envelope) is EnvelopeStatus.COMPLETED


async def callback_event(api: httpx.AsyncClient, envelope: str) -> dict[str, Any]:
    events = (await api.get(f"envelope/{envelope}/history")).json()["Events"]
    return next(each for each in events if each["Type"] == "EnvelopeCallback")


async def test_after_thirty_attempts_a_callback_is_given_up_and_the_envelope_stays_held_back(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    async with Receiver(answers=[503] * 30) as receiver:
        envelope = an_active(esaw, user, receiver, callbacks=CallbackUrls(envelope=receiver.template()))
        await completed(esaw, envelope)
        event = await callback_event(api, envelope)
        assert len(receiver.seen) == 30
        assert (event["Attempt"], event["RemainingAttempts"], event["NextAttemptOn"]) == (30, 0, None)
        assert (event["IsInErrorState"], event["Completed"], event["CompletedOn"]) == (True, True, None)
        assert "Response status code does not indicate success:503" in event["ContextInformation"]
        assert esaw.status(envelope) is EnvelopeStatus.ACTIVE

        await esaw.trigger_again(envelope)
        await esaw.callbacks_settled()
    assert esaw.status(envelope) is EnvelopeStatus.COMPLETED


async def test_the_number_of_attempts_and_the_line_of_a_callback_that_was_given_up_are_switches(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    esaw.set_behaviour(
        Behaviour(callback_time_scale=0.00001, callback_attempts=2, given_up_is_completed=False)
    )
    async with Receiver(answers=[503] * 2) as receiver:
        envelope = an_active(esaw, user, receiver, callbacks=CallbackUrls(envelope=receiver.template()))
        await completed(esaw, envelope)
        event = await callback_event(api, envelope)
    assert len(receiver.seen) == 2
    assert (event["Attempt"], event["RemainingAttempts"], event["NextAttemptOn"]) == (2, 0, None)
    assert (event["IsInErrorState"], event["Completed"]) == (True, False)
    assert esaw.status(envelope) is EnvelopeStatus.ACTIVE


async def test_an_envelope_can_be_stuck_in_an_error_state_of_esaw_until_it_is_triggered_again(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user, status=EnvelopeStatus.ACTIVE)
    await esaw.stall(envelope, remaining_attempts=20)
    await esaw.callbacks_settled()
    event = await callback_event(api, envelope)
    assert (event["IsInErrorState"], event["RemainingAttempts"], event["Completed"]) == (True, 20, False)
    assert esaw.status(envelope) is EnvelopeStatus.ACTIVE
    await esaw.trigger_again(envelope)
    await esaw.callbacks_settled()
    assert esaw.status(envelope) is EnvelopeStatus.COMPLETED


async def test_history_shows_how_often_a_callback_failed_and_when_it_is_tried_next(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    esaw.set_behaviour(Behaviour(callback_time_scale=1))  # eSAW's own pace: the next attempt is minutes away
    async with Receiver(answers=[500]) as receiver:
        envelope = an_active(esaw, user, receiver, callbacks=CallbackUrls(envelope=receiver.template()))
        await esaw.complete(envelope)
        await eventually(lambda: esaw.callbacks(envelope))
    event = await callback_event(api, envelope)
    attempt = esaw.callbacks(envelope)[0]
    assert (event["Attempt"], event["RemainingAttempts"], event["IsInErrorState"]) == (1, 29, True)
    assert event["NextAttemptOn"] > attempt.time.isoformat()
    assert attempt.kind is CallbackKind.ENVELOPE


async def test_the_waits_grow_by_five_minutes_each(esaw: StandIn, user: User) -> None:
    async with Receiver(answers=[500] * 6) as receiver:
        envelope = an_active(esaw, user, receiver, callbacks=CallbackUrls(envelope=receiver.template()))
        await completed(esaw, envelope)
    times = [each.time for each in esaw.callbacks(envelope)]
    waits = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert all(wait >= 300 * number * 0.00001 for number, wait in enumerate(waits, start=1))


async def test_a_failing_status_callback_is_repeated_without_holding_anything_back(
    esaw: StandIn, user: User
) -> None:
    async with Receiver(answers=[500, 200, 500]) as receiver:
        envelope = an_active(esaw, user, receiver)
        await completed(esaw, envelope)
    assert sorted(receiver.actions) == ["envelopeFinished", *["workstepFinished"] * 3]
    assert esaw.status(envelope) is EnvelopeStatus.COMPLETED


async def test_a_redirect_is_not_followed_and_counts_as_a_failure(esaw: StandIn, user: User) -> None:
    async with Receiver(answers=[302]) as receiver:
        envelope = an_active(esaw, user, receiver, callbacks=CallbackUrls(envelope=receiver.template("cb")))
        await completed(esaw, envelope)
    assert [each.path for each in receiver.seen] == ["/cb", "/cb"]


async def test_a_receiver_that_is_not_there_is_a_failed_attempt(esaw: StandIn, user: User) -> None:
    async with Receiver() as receiver:
        urls = CallbackUrls(envelope=receiver.template())
    envelope = esaw.add_envelope(sender=user, status="Active", callbacks=urls)
    await completed(esaw, envelope)
    attempts = esaw.callbacks(envelope)
    assert len(attempts) == 30
    assert {each.status for each in attempts} == {0}


async def test_a_receiver_that_does_not_answer_in_time_is_a_failed_attempt(esaw: StandIn, user: User) -> None:
    esaw.set_behaviour(Behaviour(callback_timeout=0.05, callback_time_scale=0.00001))
    hanging = asyncio.Event()

    async def look() -> None:
        if len(receiver.seen) == 1:
            await hanging.wait()

    async with Receiver(look=look) as receiver:
        envelope = an_active(esaw, user, receiver, callbacks=CallbackUrls(envelope=receiver.template()))
        await completed(esaw, envelope)
        hanging.set()
    assert [each.status for each in esaw.callbacks(envelope)] == [0, 200]


async def test_a_callback_is_given_up_once_the_envelope_is_deleted(esaw: StandIn, user: User) -> None:
    async def look() -> None:
        await esaw.delete(envelope)

    async with Receiver(answers=[500], look=look) as receiver:
        envelope = an_active(esaw, user, receiver, callbacks=CallbackUrls(envelope=receiver.template()))
        await completed(esaw, envelope)
    assert len(receiver.seen) == 1


async def test_a_cancelled_envelope_is_not_completed_by_a_late_callback(esaw: StandIn, user: User) -> None:
    async def look() -> None:
        await esaw.cancel(envelope)

    async with Receiver(look=look) as receiver:
        envelope = an_active(esaw, user, receiver, callbacks=CallbackUrls(envelope=receiver.template()))
        await completed(esaw, envelope)
    assert esaw.status(envelope) is EnvelopeStatus.CANCELED


async def test_the_first_matching_login_is_sent(esaw: StandIn, user: User) -> None:
    esaw.set_callback_logins(
        [
            CallbackLogin(pattern="nowhere", username="x", password="x"),
            CallbackLogin(pattern="/finished", username="esaw", password="secret"),
            CallbackLogin(pattern=".*", username="later", password="later"),
        ]
    )
    async with Receiver() as receiver:
        await completed(esaw, an_active(esaw, user, receiver))
    sent = {each.path: each.headers["Authorization"] for each in receiver.seen}
    assert sent == {"/finished": "Basic ZXNhdzpzZWNyZXQ=", "/status": "Basic bGF0ZXI6bGF0ZXI="}


async def test_an_envelope_without_its_own_urls_has_the_organizations(esaw: StandIn, user: User) -> None:
    async with Receiver() as receiver:
        esaw.set_default_callbacks(completed=receiver.template("org"), status_change=None)
        default = esaw.add_envelope(sender=user, status="Active")
        own = an_active(esaw, user, receiver, callbacks=CallbackUrls(envelope=receiver.template("own")))
        await completed(esaw, default)
        await completed(esaw, own)
    assert [each.path for each in receiver.seen] == ["/org", "/own"]


async def test_a_callback_can_be_repeated_at_once_and_after_deletion(esaw: StandIn, user: User) -> None:
    async with Receiver() as receiver:
        envelope = esaw.add_envelope(sender=user, callbacks=CallbackUrls(envelope=receiver.template()))
        await esaw.delete(envelope)
        await esaw.repeat_callback(envelope, times=30)
        await esaw.callbacks_settled()
    assert receiver.actions == ["envelopeFinished"] * 30


async def test_any_action_can_be_announced(esaw: StandIn, user: User) -> None:
    async with Receiver() as receiver:
        envelope = an_active(esaw, user, receiver)
        await esaw.announce(envelope, "somethingOfTheFuture")
        await esaw.callbacks_settled()
    assert receiver.actions == ["somethingOfTheFuture"]


async def test_callbacks_in_progress_end_with_the_server() -> None:
    # The servers of other tests may still end.
    before = asyncio.all_tasks()
    short_lived = StandIn(behaviour=Behaviour(callback_time_scale=1))
    async with Receiver(answers=[500]) as receiver, short_lived:
        await short_lived.complete(an_active(short_lived, anna(short_lived), receiver))
    assert asyncio.all_tasks() <= before
