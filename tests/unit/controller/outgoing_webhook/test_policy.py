"""Which final state has a notice, what an answer means, and when the next attempt is due."""

from datetime import timedelta

import msgspec
import pytest

from controller.outgoing_webhook.policy import (
    Delivered,
    NotDelivered,
    after_attempt,
    notice_id,
    resent,
    result_of,
    with_notice,
)
from counterfoil.durations import Duration
from counterfoil.resources import (
    EnvelopeEventStatus,
    EventNotice,
    LastError,
    NoticeState,
    Organization,
    Phase,
    RetrySpec,
)
from counterfoil.resources.reopening import reopened_status
from tests.support.builders import NOON, EventBuilder, an_event, an_organization

RECEIVER = "The receiver at https://erp.acme.example"
RETRY = RetrySpec(initial=Duration(seconds=10), max=Duration(hours=1), deadline=Duration(hours=24))
PENDING = EventNotice(id="msg_1", state=NoticeState.PENDING)
PROBLEM = NotDelivered("WebhookFailing", "HTTP 500")
WEBHOOK = {"url": "https://erp.acme.example/hook", "signingSecretRef": {"name": "hook", "key": "secret"}}


def an_organization_with_webhook() -> Organization:
    return an_organization(webhook=WEBHOOK)


def completed(builder: EventBuilder, phase: Phase) -> EventBuilder:
    return builder.status(phase=phase, completion_time=NOON)


def noticed(builder: EventBuilder, organization: Organization | None) -> EventNotice | None:
    event = builder.build()
    return with_notice(event, event.status, organization).notice


@pytest.mark.parametrize(
    ("builder", "has_notice"),
    [
        (completed(an_event().archived(), Phase.SUCCEEDED), True),
        (completed(an_event(), Phase.FAILED), True),
        (completed(an_event().archived(), Phase.FAILED), True),
        (completed(an_event(), Phase.SUCCEEDED), False),
        (completed(an_event(), Phase.SKIPPED), False),
        (completed(an_event().archived(), Phase.SKIPPED), False),
        (an_event().archived(), False),
        (an_event().in_phase(Phase.AWAITING_CONSENT), False),
    ],
    ids=["archived", "failed", "failed later", "recorded", "skipped", "expired", "cleaning", "consent"],
)
def test_only_what_archived_or_failed_has_a_notice(builder: EventBuilder, has_notice: bool) -> None:
    notice = noticed(builder, an_organization_with_webhook())
    assert (notice is not None) == has_notice
    if notice is not None:
        assert notice.state is NoticeState.PENDING
        assert notice.attempts == 0
    assert noticed(builder, an_organization()) is None, (
        "no webhook, no notice, and no other bytes in the write"
    )
    assert noticed(builder, None) is None


def test_the_id_is_stable_for_a_final_state_and_another_for_the_next() -> None:
    first = completed(an_event(), Phase.FAILED).build()
    again = completed(an_event(), Phase.FAILED).build()
    later = msgspec.structs.replace(first.status, completion_time=NOON + timedelta(microseconds=1))
    ids = [notice_id(first, first.status), notice_id(again, again.status), notice_id(first, later)]
    assert ids[0] == ids[1] != ids[2]
    assert "." not in ids[0], "Standard Webhooks signs the id with dots around it"


def test_a_reopened_event_has_no_notice() -> None:
    status = EnvelopeEventStatus(phase=Phase.FAILED, notice=PENDING)
    assert reopened_status(status, reason="Redelivered", message="", now=NOON).notice is None


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_2xx_is_success(status: int) -> None:
    assert result_of(status, RECEIVER) == Delivered()


@pytest.mark.parametrize(
    ("status", "reason", "is_final"),
    [
        (301, "WebhookRedirects", False),
        (308, "WebhookRedirects", False),
        (400, "WebhookRefused", False),
        (401, "WebhookRefused", False),
        (404, "WebhookRefused", False),
        (408, "WebhookFailing", False),
        (410, "WebhookGone", True),
        (413, "WebhookRefused", False),
        (429, "WebhookFailing", False),
        (500, "WebhookFailing", False),
        (503, "WebhookFailing", False),
    ],
)
def test_everything_else_is_retried_but_410(status: int, reason: str, is_final: bool) -> None:
    result = result_of(status, RECEIVER)
    assert isinstance(result, NotDelivered)
    assert (result.reason, result.is_final) == (reason, is_final)
    assert f"HTTP {status}" in result.message


def test_success_is_the_end() -> None:
    failed = after_attempt(PENDING, PROBLEM, RETRY, now=NOON, random=lambda: 0.5)
    after = after_attempt(failed, Delivered(), RETRY, now=NOON + timedelta(minutes=1), random=lambda: 0.5)
    assert after == EventNotice(
        id="msg_1",
        state=NoticeState.DELIVERED,
        attempts=2,
        start_time=NOON,
        delivered_time=NOON + timedelta(minutes=1),
    )


def test_a_failed_attempt_waits_longer_each_time_with_jitter() -> None:
    notice, pauses = PENDING, []
    for _ in range(12):
        notice = after_attempt(notice, PROBLEM, RETRY, now=NOON, random=lambda: 0.5)
        assert notice.next_attempt_time is not None
        pauses.append((notice.next_attempt_time - NOON).total_seconds())
    assert pauses[:4] == [5, 10, 20, 40]
    assert pauses[-1] == 1800, "half of spec.retry.max"
    assert notice.last_error == LastError(reason="WebhookFailing", message="HTTP 500", time=NOON)


def test_the_deadline_ends_the_attempts() -> None:
    first = after_attempt(PENDING, PROBLEM, RETRY, now=NOON, random=lambda: 0.5)
    due = msgspec.structs.replace(first, next_attempt_time=NOON + timedelta(hours=23, minutes=30))
    late = after_attempt(due, PROBLEM, RETRY, now=NOON + timedelta(hours=24), random=lambda: 0.5)
    assert late.state is NoticeState.FAILED
    assert late.next_attempt_time is None
    assert late.last_error is not None


def test_the_deadline_does_not_count_the_time_without_a_controller() -> None:
    first = after_attempt(PENDING, PROBLEM, RETRY, now=NOON, random=lambda: 0.5)
    after = after_attempt(first, PROBLEM, RETRY, now=NOON + timedelta(hours=30), random=lambda: 0.5)
    assert after.state is NoticeState.PENDING


def test_410_gives_up_at_once() -> None:
    after = after_attempt(PENDING, result_of(410, RECEIVER), RETRY, now=NOON, random=lambda: 0.5)
    assert (after.state, after.attempts) == (NoticeState.FAILED, 1)


def test_no_attempt_is_made_before_retry_after() -> None:
    def due(**pause: float) -> timedelta:
        result = result_of(429, RECEIVER, not_before=NOON + timedelta(**pause))
        after = after_attempt(PENDING, result, RETRY, now=NOON, random=lambda: 0.0)
        assert after.next_attempt_time is not None
        return after.next_attempt_time - NOON

    assert due(minutes=7) == timedelta(minutes=7)
    assert due(days=-1) == timedelta(0)


def test_a_notice_that_is_sent_again_has_its_id_and_a_new_deadline() -> None:
    failed = after_attempt(PENDING, result_of(410, RECEIVER), RETRY, now=NOON, random=lambda: 0.5)
    assert resent(failed) == msgspec.structs.replace(PENDING, last_error=failed.last_error)


def test_a_notice_that_a_clock_ahead_began_is_given_up_at_the_deadline() -> None:
    begun = msgspec.structs.replace(PENDING, start_time=NOON + timedelta(days=30))
    first = after_attempt(begun, PROBLEM, RETRY, now=NOON, random=lambda: 0.0)
    assert first.start_time == NOON
    later = NOON + RETRY.deadline + timedelta(hours=1)
    last = msgspec.structs.replace(first, next_attempt_time=later)
    assert after_attempt(last, PROBLEM, RETRY, now=later, random=lambda: 0.0).state is NoticeState.FAILED
