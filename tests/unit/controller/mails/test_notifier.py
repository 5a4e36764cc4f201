"""
A person receives one mail per problem: after repeated failures, killed processes and errors of the mail
server.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from controller.mails.policy import QUIET_PERIOD, NotificationTimings
from controller.mails.problem_tracking import EventArchives, FailureSummary
from controller.mails.smtp import DATA_REPLY_SECONDS, SESSION_SECONDS, MailError, MessageRejected
from controller.outgoing_webhook.policy import resent
from controller.resync.garbage_collector import GarbageCollector
from controller.resync.statistics import EventStatistics
from counterfoil.i18n.commands import commands_in
from counterfoil.kube.errors import Conflict, Forbidden, Rejected, Unavailable
from counterfoil.kube.status import write_status
from counterfoil.resources import (
    SENDER_LABEL,
    Archive,
    Attempt,
    AttemptOutcome,
    EnvelopeEvent,
    EventNotice,
    LastError,
    NoticeState,
    Organization,
    Phase,
    Sender,
)
from counterfoil.resources.routes import Choice
from tests.support.builders import FURTHER_ADDRESS, NOON, WEBHOOK, AClock, a_sender, an_event, an_organization
from tests.support.scenes.notifications import (
    MAILS,
    PUBLIC,
    TIMINGS,
    FakeMailer,
    Scene,
    a_condition,
    a_failed_event,
    a_problem,
    an_archive_that_is,
    an_unauthorized_sender,
    in_archive,
)
from tests.support.work import steps_of

ANNA = ("anna@acme.example",)
ADMINISTRATORS = ("admin@acme.example", "boss@acme.example")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
AWAY = MailError("MailServerUnreachable", "The mail server can't be reached.")


def died(**options: object) -> Sender:
    """Anna, whose key was refused just now."""
    return an_unauthorized_sender(**options)  # type: ignore[arg-type]


def parked(number: int) -> EnvelopeEvent:
    envelope = f"00000000-0000-4000-8000-{number:012d}"
    event = an_event(envelope).in_phase(Phase.AWAITING_CONSENT, "TokenRejected")
    return event.labelled(SENDER_LABEL, "anna").build()


# -- A key that died -----------------------------------------------------------------------------------------


async def test_a_sender_whose_key_died_is_asked_once() -> None:
    scene = Scene(died())
    await scene.run_once(20)
    assert scene.mailer.recipients == [ANNA]
    assert scene.sender().status.notified_time == NOON
    assert scene.count("consent", "sent") == 1


async def test_ten_events_that_wait_for_one_key_are_one_mail_that_counts_them() -> None:
    scene = Scene(died())
    for number in range(10):
        scene.cache.events.put(parked(number))
    await scene.run_once(20)
    assert scene.mailer.recipients == [ANNA]
    assert "10 of your envelopes wait" in str(scene.mailer.sent_mails[0][1])


async def test_nothing_is_sent_about_a_key_that_works_and_one_that_nobody_needs() -> None:
    scene = Scene(
        a_sender("ben", email="ben@acme.example"),
        an_unauthorized_sender("carla", reason="ConsentRequired", verified=False),
        a_sender("dora", authorized=None, email="dora@acme.example"),
        an_unauthorized_sender("emil", suspend=True),
    )
    await scene.look_for(2 * DAY)
    assert scene.mailer.sent_mails == []


async def test_a_first_consent_is_asked_for_when_an_event_needs_it() -> None:
    scene = Scene(an_unauthorized_sender(reason="ConsentRequired", verified=False, waiting=1))
    await scene.run_once(3)
    assert scene.mailer.recipients == [ANNA]


async def test_a_mail_that_a_person_requests_is_sent_although_nothing_waits_for_the_key() -> None:
    requested = {"mailRequestTime": NOON.isoformat()}
    scene = Scene(an_unauthorized_sender(reason="ConsentRequired", verified=False, status=requested))
    await scene.look_for(2 * DAY)
    assert scene.mailer.recipients == [ANNA]


async def test_a_new_process_does_not_ask_again() -> None:
    scene = Scene(died())
    await scene.run_once(2)
    for _ in range(5):
        scene.again()
        await scene.run_once(5)
    assert len(scene.mailer.sent_mails) == 1


async def test_a_new_key_is_no_mail_and_the_next_death_is_one() -> None:
    scene = Scene(died())
    await scene.run_once(3)
    scene.set(a_sender(email=ANNA[0], tokenSecretRef=None))
    await scene.run_once(3)
    assert len(scene.mailer.sent_mails) == 1
    scene.clock.advance(hours=2)
    scene.set(an_unauthorized_sender(since=scene.clock.now()))
    await scene.run_once(3)
    assert scene.mailer.recipients == [ANNA, ANNA]


async def test_a_key_that_flaps_is_one_problem() -> None:
    scene = Scene(died())
    for _ in range(5):
        await scene.run_once(2)
        kept = {
            "notifiedTime": scene.kube.status(Sender, "anna")["notifiedTime"],
            "notifiedKey": scene.kube.status(Sender, "anna")["notifiedKey"],
        }
        scene.clock.advance(minutes=5)
        scene.set(an_unauthorized_sender(since=scene.clock.now(), status=kept))
    await scene.run_once(2)
    assert len(scene.mailer.sent_mails) == 1
    scene.clock.advance(seconds=QUIET_PERIOD.total_seconds())
    await scene.run_once(2)
    assert len(scene.mailer.sent_mails) == 2, "after that it is said again that the key does not work"


async def test_another_key_that_is_refused_within_the_hour_is_reported_at_once() -> None:
    scene = Scene(died())
    await scene.run_once(2)
    kept = {"notifiedTime": NOON.isoformat(), "notifiedKey": "0a1b2c3d", "key": {"fingerprint": "ffffffff"}}
    kept["key"]["verifiedTime"] = NOON.isoformat()  # type: ignore[index]
    scene.clock.advance(minutes=5)
    scene.set(an_unauthorized_sender(since=scene.clock.now(), status=kept))
    await scene.run_once(2)
    assert len(scene.mailer.sent_mails) == 2


# -- Escalation ----------------------------------------------------------------------------------------------


async def test_administrators_are_notified_of_a_sender_who_does_not_react_once_and_not_too_early() -> None:
    scene = Scene(died())
    await scene.look_for(DAY - HOUR)
    assert scene.mailer.recipients == [ANNA]
    await scene.look_for(10 * DAY)
    assert scene.mailer.recipients == [ANNA, ADMINISTRATORS]
    assert scene.sender().status.escalated_time is not None
    assert scene.mailer.subjects[1] == "[acme] A sender has not given consent yet"
    assert scene.count("escalation", "sent") == 1


async def test_how_long_is_waited_for_a_reaction_is_configured() -> None:
    scene = Scene(died(), notifications={**MAILS, "escalateAfter": "10m"})
    await scene.look_for(timedelta(minutes=11))
    assert scene.mailer.recipients == [ANNA, ADMINISTRATORS]


async def test_many_silent_senders_are_one_mail() -> None:
    scene = Scene(*(an_unauthorized_sender(f"sender-{number}") for number in range(30)))
    await scene.look_for(DAY + HOUR)
    assert scene.mailer.recipients.count(ADMINISTRATORS) == 1
    assert len(scene.mailer.sent_mails) == 31
    assert scene.problems()["consent"].count == 30


async def test_a_sender_who_falls_silent_later_is_reported_later() -> None:
    scene = Scene(died())
    await scene.look_for(DAY + HOUR)
    scene.kube.put(an_unauthorized_sender("ben", since=scene.clock.now()))
    scene.watch()
    await scene.look_for(2 * DAY)
    assert scene.mailer.recipients.count(ADMINISTRATORS) == 2
    assert "Sender/ben" in str(scene.mailer.sent_mails[-1][1])
    assert "Sender/anna" not in str(scene.mailer.sent_mails[-1][1])


async def test_a_sender_without_an_address_is_the_administrators_at_once() -> None:
    scene = Scene(died(email=None))
    await scene.run_once(5)
    assert scene.mailer.recipients == [ADMINISTRATORS]


async def test_a_sender_whose_address_is_refused_is_the_administrators_at_once() -> None:
    scene = Scene(died())
    scene.mailer.refusals[ANNA[0]] = MessageRejected(
        "The mail server does not take mail for a recipient (550)."
    )
    await scene.run_once(5)
    assert scene.mailer.recipients == [ADMINISTRATORS]
    assert scene.count("consent", "refused") >= 1


@pytest.mark.parametrize("secret", [None, {"name": "anna-key", "key": "token"}], ids=["consent", "secret"])
async def test_administrators_who_had_a_mail_about_a_sender_have_one_when_the_key_works(
    secret: dict[str, str] | None,
) -> None:
    scene = Scene(died(tokenSecretRef=secret))
    await scene.look_for(DAY + HOUR)
    assert scene.mailer.recipients == [ANNA, ADMINISTRATORS]
    scene.set(a_sender(email=ANNA[0], tokenSecretRef=secret))
    await scene.look_for(HOUR)
    assert scene.mailer.recipients[2:] == [ADMINISTRATORS]
    assert scene.mailer.subjects[-1] == "Solved: [acme] A sender has no key that works"
    assert "In-Reply-To" not in scene.mailer.sent_mails[-1][1], "each mail about it is about other senders"
    assert scene.problems() == {}


async def test_a_reaction_before_the_administrators_have_a_mail_is_no_mail() -> None:
    scene = Scene(died())
    await scene.look_for(DAY - HOUR)
    scene.set(a_sender(email=ANNA[0], tokenSecretRef=None))
    await scene.look_for(2 * DAY)
    assert scene.mailer.recipients == [ANNA]


async def test_a_further_mail_to_a_sender_without_a_reaction_ends_no_problem() -> None:
    scene = Scene(died())
    await scene.look_for(DAY + HOUR)
    scene.change(Sender, "anna", mailRequestTime=scene.clock.now().isoformat())
    await scene.look_for(HOUR)
    assert scene.mailer.recipients == [ANNA, ADMINISTRATORS, ANNA]
    problem = scene.problems()["consent"]
    assert (problem.solved_time, problem.ending) == (None, None)


async def test_without_administrators_only_senders_are_written_to() -> None:
    scene = Scene(died(), notifications={**MAILS, "administrators": []})
    scene.notifier.event_failed(a_failed_event())
    await scene.look_for(2 * DAY)
    assert scene.mailer.recipients == [ANNA]


# -- Keys that senders can do nothing about ------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["SealingKeysMissing", "SealKeyUnknown"])
async def test_a_missing_sealing_key_is_one_mail_to_administrators_and_none_to_senders(reason: str) -> None:
    scene = Scene(*(an_unauthorized_sender(f"sender-{number}", reason=reason) for number in range(50)))
    await scene.look_for(2 * DAY)
    assert scene.mailer.recipients == [ADMINISTRATORS]
    assert scene.mailer.subjects == [f"[acme] Keys of 50 senders can't be used: {reason}"]
    for number in range(50):
        scene.set(a_sender(f"sender-{number}", version=1))
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[1].startswith("Solved: ")
    assert scene.problems() == {}


def with_unknown_key(sender: Sender) -> Sender:
    """The same Sender with a key that eSAW could not be asked about."""
    raw = sender.to_dict()
    for condition in raw["status"]["conditions"]:
        condition.update(status="Unknown", reason="EsawUnreachable")
    return Sender.parse(raw)


@pytest.mark.parametrize("number", [1, 50])
async def test_a_problem_with_a_key_is_not_solved_while_it_is_unknown_whether_the_key_works(
    number: int,
) -> None:
    names = [f"sender-{each}" for each in range(number)]
    scene = Scene(*(an_unauthorized_sender(each, reason="SealKeyUnknown") for each in names))
    await scene.look_for(HOUR)
    assert scene.mailer.recipients == [ADMINISTRATORS]
    for each in names[:-1]:
        scene.set(a_sender(each, version=1))
    scene.set(with_unknown_key(scene.sender(names[-1])))
    await scene.look_for(2 * DAY)
    assert scene.mailer.recipients == [ADMINISTRATORS]
    scene.set(a_sender(names[-1], version=1))
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[1].startswith("Solved: ")
    assert scene.problems() == {}


async def test_a_sender_without_a_reaction_stays_a_problem_while_it_is_unknown_whether_the_key_works() -> (
    None
):
    scene = Scene(died())
    await scene.look_for(DAY + HOUR)
    assert "consent" in scene.problems()
    scene.set(with_unknown_key(scene.sender()))
    await scene.look_for(HOUR)
    assert "consent" in scene.problems()
    scene.set(a_sender(email=ANNA[0], tokenSecretRef=None))
    await scene.look_for(HOUR)
    assert scene.problems() == {}


async def test_an_unknown_key_of_another_sender_is_no_reason_to_keep_a_solved_problem_open() -> None:
    scene = Scene(
        an_unauthorized_sender(reason="SealKeyUnknown"), with_unknown_key(an_unauthorized_sender("ben"))
    )
    await scene.look_for(HOUR)
    scene.set(a_sender())
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[1].startswith("Solved: ")


async def test_an_own_key_of_another_user_is_the_administrators_task() -> None:
    scene = Scene(an_unauthorized_sender(sent_mails=True, reason="WrongUser", waiting=1))
    await scene.look_for(2 * DAY)
    assert scene.mailer.recipients == [ADMINISTRATORS]


async def test_in_a_further_namespace_links_name_it_before_the_organization_reports_it() -> None:
    scene = Scene(an_unauthorized_sender(waiting=1), addressed=FURTHER_ADDRESS)
    await scene.look_for(2 * DAY)
    (_, message), *_ = scene.mailer.sent_mails
    assert "https://pages.acme.example/consent/tests/acme/anna" in str(message.get_body(("plain",)))


@pytest.mark.parametrize("oauth", [None, {**PUBLIC, "publicURL": None}], ids=["no oauth", "no page"])
async def test_keys_that_no_consent_can_renew_are_one_mail_to_administrators_and_none_to_senders(
    oauth: dict[str, Any] | None,
) -> None:
    link = {"consentURL": "https://pages.acme.example/consent/acme/anna"}
    senders = (
        an_unauthorized_sender("anna", status=link),
        an_unauthorized_sender("ben", reason="SealBroken"),
    )
    scene = Scene(*senders, oauth=oauth)
    await scene.look_for(2 * DAY)
    assert scene.mailer.recipients == [ADMINISTRATORS]
    assert scene.mailer.subjects == ["[acme] Keys of 2 senders can't be used: KeyNotConfigured"]
    scene.set(an_unauthorized_sender("anna", suspend=True))
    await scene.look_for(HOUR)
    raw = scene.organization().to_dict()
    raw["spec"]["oauth"] = PUBLIC
    scene.set(Organization.parse(raw))
    await scene.look_for(HOUR)
    assert scene.mailer.recipients[1:].count(("ben@acme.example",)) == 1, "the sender is asked now"
    assert ANNA not in scene.mailer.recipients


async def test_a_suspended_sender_whose_organization_has_no_page_for_consent_ends_the_problem_by_that() -> (
    None
):
    scene = Scene(an_unauthorized_sender(), oauth=None)
    await scene.look_for(HOUR)
    scene.set(an_unauthorized_sender(suspend=True))
    await scene.run_once()
    (problem,) = scene.problems().values()
    assert (problem.reason, problem.ending) == ("KeyNotConfigured", "SenderSuspended")


async def test_a_key_that_works_before_the_mail_about_another_reason_is_solved() -> None:
    """The Secret was created, and labelled a second later."""
    secret = {"name": "anna-key", "key": "token"}
    scene = Scene(an_unauthorized_sender(reason="KeyMissing", tokenSecretRef=secret))
    await scene.look_for(HOUR)
    scene.set(an_unauthorized_sender(reason="SecretNotLabelled", tokenSecretRef=secret))
    await scene.run_once()
    assert scene.problems()["key/KeyMissing"].ending == "KeyOtherReason"
    scene.set(a_sender(tokenSecretRef=secret))
    await scene.look_for(HOUR)
    assert [each for each in scene.mailer.subjects[1:] if "KeyMissing" in each] == [
        f"Solved: {scene.mailer.subjects[0]}"
    ]
    assert scene.problems() == {}


async def test_no_mail_reports_an_end_that_is_not_true_any_more() -> None:
    scene = Scene(an_unauthorized_sender(waiting=1, reason="WrongUser"))
    await scene.look_for(HOUR)
    scene.set(an_unauthorized_sender(waiting=1, reason="WrongUser", suspend=True))
    await scene.run_once()
    assert scene.problems()["key/WrongUser"].ending == "SenderSuspended"
    scene.kube.edit(Sender, "anna", {"spec": {"suspend": None}})
    scene.set(with_unknown_key(an_unauthorized_sender(waiting=1, reason="WrongUser")))
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[1:] == []
    assert scene.problems()["key/WrongUser"].solved_time is None


async def test_a_solved_problem_stays_solved_if_another_one_follows_before_its_mail() -> None:
    scene = Scene(an_unauthorized_sender(reason="WrongUser"))
    await scene.look_for(HOUR)
    scene.set(a_sender())
    await scene.run_once()
    scene.set(an_unauthorized_sender(reason="SealBroken", suspend=True))
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[1:] == [f"Solved: {scene.mailer.subjects[0]}"]


async def test_an_own_key_that_is_refused_is_its_owners_task() -> None:
    scene = Scene(an_unauthorized_sender(sent_mails=True))
    await scene.run_once(5)
    assert scene.mailer.recipients == [ANNA]


# -- Failures ------------------------------------------------------------------------------------------------


async def test_many_failures_of_one_cause_are_one_mail() -> None:
    scene = Scene()
    for number in range(500):
        scene.notifier.event_failed(a_failed_event(number))
    await scene.look_for(HOUR)
    for number in range(500, 700):
        scene.notifier.event_failed(a_failed_event(number))
    await scene.look_for(HOUR)
    assert scene.mailer.recipients == [ADMINISTRATORS]
    assert scene.mailer.subjects == ["[acme] 500 events failed: NameOccupied"]
    assert scene.problems()["failed/NameOccupied/dms"].count == 700


async def test_an_event_that_fails_again_is_not_counted_again() -> None:
    scene = Scene()
    for _ in range(5):
        for number in range(20):
            scene.notifier.event_failed(a_failed_event(number))
        await scene.run_once(1, every=timedelta(seconds=1))
    assert scene.problems()["failed/NameOccupied/dms"].count == 20


async def test_an_event_that_a_pass_had_counted_and_that_fails_again_is_not_counted_again() -> None:
    scene = Scene()
    pass_finished(scene, *(a_failed_event(number, at=NOON - HOUR) for number in range(20)))
    await scene.run_once()
    for number in range(20):
        scene.notifier.event_failed(a_failed_event(number, at=scene.clock.now()))
    await scene.run_once()
    assert scene.problems()["failed/NameOccupied/dms"].count == 20


async def test_an_event_that_fails_again_after_its_problem_was_solved_is_counted_again() -> None:
    scene = Scene()
    for number in range(20):
        scene.notifier.event_failed(a_failed_event(number))
    await scene.run_once(5)
    scene.clock.advance(minutes=10)
    pass_finished(scene)
    await scene.look_for(HOUR)
    for number in range(20):
        scene.notifier.event_failed(a_failed_event(number, at=scene.clock.now()))
    await scene.run_once(3)
    assert scene.mailer.subjects[-1] == "[acme] 20 events failed: NameOccupied"


async def test_each_cause_is_a_separate_mail() -> None:
    scene = Scene()
    for number, reason in enumerate(("NameOccupied", "SenderUnknown", "NotPermitted")):
        scene.notifier.event_failed(a_failed_event(number, reason))
    await scene.run_once(5)
    assert len(scene.mailer.sent_mails) == 3


def pass_finished(scene: Scene, *events: EnvelopeEvent) -> None:
    summary = FailureSummary()
    for each in events:
        summary.add(each, in_archive("dms"))
    scene.notifier.pass_finished(scene.clock.now(), {"acme": summary})


async def test_an_event_that_fails_during_a_pass_that_reads_it_is_one_event_in_its_mail() -> None:
    scene = Scene()
    failed = a_failed_event(1)
    scene.notifier.event_failed(failed)
    pass_finished(scene, failed)
    await scene.run_once(5)
    assert scene.mailer.subjects == ["[acme] An event failed: NameOccupied"]


async def test_an_event_that_another_process_counted_or_that_fails_again_after_a_restart_is_one_event() -> (
    None
):
    scene = Scene()
    pass_finished(scene, a_failed_event(1))
    await scene.notifier.run_once()
    scene.again()
    scene.notifier.event_failed(a_failed_event(1))
    await scene.run_once(5)
    assert scene.problems()["failed/NameOccupied/dms"].count == 1
    scene.notifier.event_failed(a_failed_event(2))
    await scene.run_once(5)
    assert scene.problems()["failed/NameOccupied/dms"].count == 2


async def test_a_new_process_learns_from_the_pass_what_failed_and_reports_only_what_is_new() -> None:
    scene = Scene()
    scene.notifier.event_failed(a_failed_event(1))
    await scene.run_once(5)
    scene.again()
    scene.clock.advance(minutes=10)
    pass_finished(scene, a_failed_event(1), a_failed_event(2, "SenderUnknown"))
    await scene.look_for(HOUR)
    assert scene.mailer.subjects == [
        "[acme] An event failed: NameOccupied",
        "[acme] An event failed: SenderUnknown",
    ]


async def test_a_solved_problem_is_reported_once_and_comes_back_as_a_new_one() -> None:
    scene = Scene()
    scene.notifier.event_failed(a_failed_event(1))
    await scene.run_once(5)
    scene.clock.advance(minutes=10)
    pass_finished(scene)
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[1:] == ["Solved: [acme] An event failed: NameOccupied"]
    assert scene.problems() == {}
    scene.notifier.event_failed(a_failed_event(2, at=scene.clock.now()))
    await scene.run_once(5)
    assert len(scene.mailer.sent_mails) == 3


async def test_a_failed_event_whose_time_to_live_has_passed_is_not_reported_as_solved() -> None:
    scene = Scene(ttl={"succeeded": "720h", "failed": "720h"})
    event = a_failed_event(1)
    scene.kube.put(event)
    scene.notifier.event_failed(event)
    await scene.run_once(5)
    scene.clock.advance(days=31)
    ended = asyncio.Event()

    def pass_finished(began: datetime, failures: Mapping[str, FailureSummary]) -> None:
        scene.notifier.pass_finished(began, failures)
        ended.set()

    garbage_collector = GarbageCollector(
        kube=scene.kube,
        cache=scene.cache,
        clock=AClock(scene.clock.now()),
        machine_clock=AClock(scene.clock.now()),
        statistics=EventStatistics(),
        reopeners=(),
        pass_finished=pass_finished,
    )
    passes = asyncio.create_task(garbage_collector.run())
    await ended.wait()
    passes.cancel()

    await scene.look_for(HOUR)

    assert ("envelopeevents", event.name) not in scene.kube.objects
    assert scene.mailer.subjects == ["[acme] An event failed: NameOccupied"]
    assert scene.problems() == {}, "nobody is reminded of an event that is gone"


async def test_a_problem_that_comes_back_at_once_is_no_mail_at_all() -> None:
    scene = Scene()
    scene.notifier.event_failed(a_failed_event(1))
    await scene.run_once(5)
    for _ in range(10):
        scene.clock.advance(minutes=10)
        pass_finished(scene)
        await scene.run_once(1, every=timedelta(seconds=1))
        assert scene.problems()["failed/NameOccupied/dms"].solved_time is not None
        scene.notifier.event_failed(a_failed_event(1, at=scene.clock.now()))
        await scene.run_once(5)
    assert len(scene.mailer.sent_mails) == 1


async def test_a_problem_without_a_notification_ends_silently() -> None:
    scene = Scene(notifications={})
    scene.notifier.event_failed(a_failed_event(1))
    await scene.run_once(5)
    assert scene.problems()["failed/NameOccupied/dms"].notified_time is None, "it is seen, if not mailed"
    scene.clock.advance(minutes=10)
    pass_finished(scene)
    await scene.look_for(HOUR)
    assert scene.problems() == {}


async def test_what_was_not_mailed_before_mails_were_configured_is_mailed_then() -> None:
    scene = Scene(notifications={})
    for number in range(7):
        scene.notifier.event_failed(a_failed_event(number))
    await scene.look_for(DAY)
    assert (scene.mailer.sent_mails, scene.told()) == ([], None)
    scene.kube.edit(Organization, "acme", {"spec": {"notifications": MAILS}})
    scene.watch()
    await scene.look_for(HOUR)
    assert scene.mailer.subjects == ["[acme] 7 events failed: NameOccupied"]


async def test_a_failure_that_could_not_be_stored_is_stored_later() -> None:
    scene = Scene()
    scene.notifier.event_failed(a_failed_event(1))
    scene.kube.fail("patch_status", *[Unavailable(0, "NoAnswer", "")] * 3)
    await scene.run_once(10)
    assert scene.problems()["failed/NameOccupied/dms"].count == 1
    assert len(scene.mailer.sent_mails) == 1


# -- Notices to the webhook ------------------------------------------------------------------------------


async def test_notices_that_are_given_up_are_one_mail() -> None:
    scene = Scene(webhook=WEBHOOK)
    for number in range(3):
        scene.notifier.notice_failed(a_failed_event(number), "WebhookRefused", "HTTP 401")
        await scene.look_for(timedelta(minutes=1))
    assert scene.mailer.subjects == ["[acme] A notice to the webhook was not delivered: WebhookRefused"]
    assert scene.problems()["webhook/WebhookRefused"].count == 3


def with_notice(
    number: int, state: NoticeState, at: datetime, reason: str = "WebhookRefused"
) -> EnvelopeEvent:
    """An archived event with a notice that was given up, or delivered, at that time."""
    error = LastError(reason=reason, message="HTTP 401", time=at) if state is NoticeState.FAILED else None
    delivered = at if state is NoticeState.DELIVERED else None
    notice = EventNotice(id=f"msg_{number}", state=state, last_error=error, delivered_time=delivered)
    envelope = f"00000000-0000-4000-8000-{number:012d}"
    return an_event(envelope).in_phase(Phase.SUCCEEDED).status(notice=notice, completion_time=at).build()


async def test_a_notice_that_was_given_up_just_before_a_kill_is_one_mail_after_the_restart() -> None:
    scene = Scene(webhook=WEBHOOK)
    given_up = [with_notice(number, NoticeState.FAILED, NOON) for number in range(2)]
    scene.clock.advance(minutes=5)
    for _ in range(5):
        pass_finished(scene, *given_up)
        await scene.look_for(HOUR)
        scene.again()
    assert scene.mailer.subjects == ["[acme] 2 notices to the webhook were not delivered: WebhookRefused"]
    assert scene.problems()["webhook/WebhookRefused"].count == 2


async def test_a_notice_that_was_given_up_is_counted_once_by_the_pass_and_where_it_happened() -> None:
    scene = Scene(webhook=WEBHOOK)
    given_up = with_notice(1, NoticeState.FAILED, NOON)
    scene.notifier.notice_failed(given_up, "WebhookRefused", "HTTP 401")
    pass_finished(scene, given_up)
    await scene.run_once(3)
    pass_finished(scene, given_up)
    await scene.run_once(3)
    assert scene.problems()["webhook/WebhookRefused"].count == 1
    assert len(scene.mailer.sent_mails) == 1


async def test_a_notice_that_is_sent_again_stays_a_problem_until_it_is_delivered() -> None:
    scene = Scene(webhook=WEBHOOK)
    given_up = with_notice(1, NoticeState.FAILED, NOON)
    scene.clock.advance(minutes=5)
    pass_finished(scene, given_up)
    await scene.look_for(HOUR)
    notice = given_up.status.notice
    assert notice is not None
    pending = replace(given_up, status=replace(given_up.status, notice=resent(notice)))
    pass_finished(scene, pending)
    await scene.look_for(HOUR)
    assert scene.problems()["webhook/WebhookRefused"].solved_time is None
    pass_finished(scene, with_notice(1, NoticeState.DELIVERED, scene.clock.now()))
    await scene.look_for(HOUR)
    assert scene.problems() == {}


async def test_a_notice_whose_event_was_removed_is_not_called_solved() -> None:
    scene = Scene(webhook=WEBHOOK)
    given_up = with_notice(1, NoticeState.FAILED, NOON)
    scene.clock.advance(minutes=5)
    pass_finished(scene, given_up)
    await scene.look_for(HOUR)
    summary = FailureSummary()
    summary.add_removed(given_up, in_archive("dms"))
    scene.notifier.pass_finished(scene.clock.now(), {"acme": summary})
    await scene.look_for(HOUR)
    assert len(scene.mailer.sent_mails) == 1
    assert scene.problems() == {}


@pytest.mark.parametrize(
    ("event", "webhook"),
    [
        (with_notice(1, NoticeState.FAILED, NOON, "WebhookRemoved"), WEBHOOK),
        (with_notice(1, NoticeState.FAILED, NOON), None),
    ],
    ids=["the webhook was removed", "no webhook"],
)
async def test_a_notice_that_needs_nobody_is_no_mail(event: EnvelopeEvent, webhook: Any) -> None:
    scene = Scene(webhook=webhook)
    pass_finished(scene, event)
    await scene.look_for(HOUR)
    assert scene.mailer.sent_mails == []


async def test_without_a_webhook_its_problem_ends() -> None:
    scene = Scene()
    scene.notifier.notice_failed(a_failed_event(1), "WebhookGone", "HTTP 410")
    await scene.look_for(HOUR)
    assert "webhook/WebhookGone" not in scene.problems()


# -- Archives ------------------------------------------------------------------------------------------------


async def test_a_long_outage_of_an_archive_is_one_mail_and_its_end_another() -> None:
    scene = Scene()
    scene.set(an_archive_that_is("False"))
    scene.cache.events.put(an_event().build())
    await scene.look_for(TIMINGS.outage - timedelta(seconds=2))
    assert scene.mailer.sent_mails == []
    await scene.look_for(DAY)
    assert scene.mailer.subjects == ["[acme] Archive dms can't be used: ArchiveUnreachable"]
    scene.set(an_archive_that_is("True", since=scene.clock.now()))
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[1:] == ["Solved: [acme] Archive dms can't be used: ArchiveUnreachable"]


@pytest.mark.parametrize("reason", ["ArchiveUnreachable", "ArchiveUnresponsive"])
async def test_an_archive_that_does_not_work_while_events_wait_is_one_mail_within_two_minutes(
    reason: str,
) -> None:
    scene = Scene()
    scene.set(an_archive_that_is("False", reason=reason))
    scene.cache.events.put(an_event().build())
    await scene.look_for(timedelta(seconds=62))
    assert scene.mailer.subjects == [f"[acme] Archive dms can't be used: {reason}"]
    await scene.look_for(HOUR)
    assert len(scene.mailer.sent_mails) == 1


@pytest.mark.parametrize("reason", ["ArchiveRootChanged", "ArchiveTlsFailed", "ArchiveFull"])
async def test_another_action_that_an_archive_needs_after_the_mail_is_one_further_mail_in_its_thread(
    reason: str,
) -> None:
    scene = Scene()
    scene.set(an_archive_that_is("False"))
    scene.cache.events.put(an_event().build())
    await scene.look_for(HOUR)
    scene.set(an_archive_that_is("False", reason=reason))
    await scene.look_for(timedelta(seconds=45))
    assert len(scene.mailer.sent_mails) == 1
    await scene.look_for(timedelta(seconds=30))
    for each in ("ArchiveUnreachable", reason) * 3:
        scene.set(an_archive_that_is("False", reason=each))
        await scene.look_for(HOUR)
    scene.again()
    await scene.look_for(HOUR)
    scene.set(an_archive_that_is("True", since=scene.clock.now()))
    await scene.look_for(HOUR)
    about = "[acme] Archive dms can't be used"
    assert scene.mailer.subjects == [
        f"{about}: ArchiveUnreachable",
        f"{about}: {reason}",
        f"Solved: {about}: {reason}",
    ]
    first, *later = [message for _, message in scene.mailer.sent_mails]
    assert len({first["Message-ID"], *(each["Message-ID"] for each in later)}) == 3
    assert [each["References"] for each in later] == [first["Message-ID"]] * 2
    assert scene.problems() == {}


async def test_reasons_of_an_archive_with_the_same_action_are_no_further_mail() -> None:
    scene = Scene()
    scene.cache.events.put(an_event().build())
    for each in ("ArchiveUnreachable", "ArchiveUnresponsive", "ArchiveFailing", "ArchiveOverloaded"):
        scene.set(an_archive_that_is("False", reason=each))
        await scene.look_for(HOUR)
    assert scene.mailer.subjects == ["[acme] Archive dms can't be used: ArchiveUnreachable"]


async def test_an_archive_whose_reasons_never_end_is_a_limited_number_of_mails() -> None:
    scene = Scene()
    scene.cache.events.put(an_event().build())
    reasons = ("Unreachable", "RootChanged", "TlsFailed", "Full", "ReadOnly", "Locked", "Refused")
    for each in reasons:
        scene.set(an_archive_that_is("False", reason=f"Archive{each}"))
        await scene.look_for(HOUR)
    assert [each.rpartition("Archive")[2] for each in scene.mailer.subjects] == list(reasons[:5])


async def test_an_action_that_was_needed_for_a_moment_only_is_not_in_the_mail_about_the_end() -> None:
    scene = Scene()
    scene.set(an_archive_that_is("False"))
    scene.cache.events.put(an_event().build())
    await scene.look_for(HOUR)
    scene.set(an_archive_that_is("False", reason="ArchiveRootChanged"))
    await scene.look_for(timedelta(seconds=20))
    scene.set(an_archive_that_is("True", since=scene.clock.now()))
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[1:] == ["Solved: [acme] Archive dms can't be used: ArchiveUnreachable"]


@pytest.mark.parametrize("has_mail", [True, False])
async def test_a_suspended_archive_is_no_mail_and_its_end_solves_the_earlier_problem(has_mail: bool) -> None:
    scene = Scene()
    scene.cache.events.put(an_event().build())
    if has_mail:
        scene.set(an_archive_that_is("False"))
        await scene.look_for(HOUR)
    before = len(scene.mailer.sent_mails)
    assert before == (1 if has_mail else 0)
    scene.set(an_archive_that_is("False", reason="ArchiveSuspended", suspend=True))
    await scene.look_for(DAY)
    assert len(scene.mailer.sent_mails) == before
    scene.set(an_archive_that_is("True", since=scene.clock.now()))
    await scene.look_for(HOUR)
    assert len(scene.mailer.sent_mails) == 2 * before


def an_event_in_vault(phase: Phase = Phase.CLEANING, reason: str = "ArchiveSuspended") -> EnvelopeEvent:
    place = replace(Choice("vault", "hr").location, manifest="file:///vault/x/counterfoil.json")
    return an_event().in_phase(phase, reason).status(archive=place).build()


async def test_a_suspended_archive_that_the_organization_does_not_name_is_a_mail_while_events_wait() -> None:
    scene = Scene(an_archive_that_is("False", name="vault", reason="ArchiveSuspended", suspend=True))
    await scene.look_for(DAY)
    assert scene.mailer.sent_mails == []
    scene.cache.events.put(an_event_in_vault())
    await scene.look_for(DAY)
    assert scene.mailer.subjects == ["[acme] Archive vault can't be used: ArchiveSuspended"]
    assert scene.problems()["archive/vault"].message == (
        "spec.suspend of Archive/vault is true. Organization/acme does not name it any more, and its events "
        "wait for it."
    )
    scene.set(an_archive_that_is("True", name="vault", since=scene.clock.now()))
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[1:] == ["Solved: [acme] Archive vault can't be used: ArchiveSuspended"]


async def test_an_archive_of_a_route_is_no_mail_while_no_event_has_chosen_it() -> None:
    route = {"name": "hr", "archiveRef": {"name": "vault"}, "when": {"senders": ["ben"]}}
    scene = Scene(an_archive_that_is("False", name="vault"), routes=[route])
    elsewhere = an_event().named("elsewhere").in_phase(Phase.COLLECTING, "EsawUnreachable")
    scene.cache.events.put(elsewhere.status(archive=Choice("dms", None).location).build())
    await scene.look_for(DAY)
    assert scene.mailer.sent_mails == []
    scene.cache.events.put(an_event_in_vault(reason="ArchiveUnreachable"))
    await scene.look_for(HOUR)
    assert [each.count for each in scene.problems().values()] == [1]


async def test_a_pass_over_all_events_finds_those_of_other_processes_that_wait_for_an_archive() -> None:
    scene = Scene(an_archive_that_is("False", name="vault", reason="ArchiveSuspended", suspend=True))
    scene.change(Organization, "acme", events={"Cleaning": 1})
    summary = FailureSummary()
    summary.add(an_event_in_vault(), in_archive("vault"))
    scene.notifier.pass_finished(scene.clock.now(), {"acme": summary})
    await scene.look_for(DAY)
    assert scene.mailer.subjects == ["[acme] Archive vault can't be used: ArchiveSuspended"]
    scene.again()
    await scene.look_for(DAY)
    assert len(scene.mailer.sent_mails) == 1
    scene.notifier.pass_finished(scene.clock.now(), {})
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[1:] == ["Ended: [acme] Archive vault can't be used: ArchiveSuspended"]


async def test_an_event_that_ended_after_the_pass_that_counted_it_waits_for_no_archive() -> None:
    scene = Scene(an_archive_that_is("True", name="vault"))
    summary = FailureSummary()
    summary.add(an_event_in_vault(), in_archive("vault"))
    scene.notifier.pass_finished(scene.clock.now(), {"acme": summary})
    scene.set(an_archive_that_is("False", name="vault", reason="ArchiveSuspended", suspend=True))
    await scene.look_for(DAY)
    assert scene.mailer.sent_mails == []


async def test_the_problem_of_an_archive_does_not_end_while_events_that_have_chosen_it_wait() -> None:
    route = {"name": "hr", "archiveRef": {"name": "vault"}, "when": {"senders": ["ben"]}}
    scene = Scene(an_archive_that_is("False", name="vault"), routes=[route])
    scene.cache.events.put(an_event_in_vault(reason="ArchiveUnreachable"))
    await scene.look_for(HOUR)
    scene.kube.edit(Organization, "acme", {"spec": {"routes": None}})
    scene.watch()
    await scene.look_for(HOUR)
    assert scene.mailer.subjects == ["[acme] Archive vault can't be used: ArchiveUnreachable"]
    scene.cache.events.remove(an_event_in_vault().name)
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[1:] == ["Ended: [acme] Archive vault can't be used: ArchiveUnreachable"]


WORM_COPY = [{"archiveRef": {"name": "worm"}}]


def a_copying_event(number: int = 1, reason: str = "ArchiveUnreachable") -> EnvelopeEvent:
    event = an_event().named(f"copying-{number}").archived().in_phase(Phase.COPYING, reason)
    return event.with_condition("Copied", "False", reason).build()


async def test_an_archive_of_a_required_copy_that_does_not_work_is_one_mail_while_events_wait_for_it() -> (
    None
):
    scene = Scene(an_archive_that_is("False", name="worm"), copies=WORM_COPY)
    await scene.look_for(DAY)
    assert scene.mailer.sent_mails == []
    for number in range(100):
        scene.cache.events.put(a_copying_event(number))
    await scene.look_for(3 * DAY)
    assert scene.mailer.subjects == ["[acme] Archive worm can't be used: ArchiveUnreachable"]
    assert scene.problems()["archive/worm"].count == 100
    scene.set(an_archive_that_is("True", name="worm", since=scene.clock.now()))
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[1:] == ["Solved: [acme] Archive worm can't be used: ArchiveUnreachable"]


def a_cleaning_event(number: int = 1, reason: str = "ArchiveUnreachable") -> EnvelopeEvent:
    event = an_event().named(f"cleaning-{number}").archived().in_phase(Phase.CLEANING, reason)
    return event.with_condition("Copied", "True", "CopiesVerified").build()


@pytest.mark.parametrize(
    ("policy", "reason", "mails"),
    [
        ("Delete", "ArchiveUnreachable", ["[acme] Archive worm can't be used: ArchiveUnreachable"]),
        ("Delete", "CleanupDelayed", []),
        ("Delete", "CopySuspended", []),
        ("Keep", "ArchiveUnreachable", []),
    ],
)
async def test_the_archive_of_a_copy_that_a_delete_reads_again_is_a_mail_once_the_delete_is_due(
    policy: str, reason: str, mails: list[str]
) -> None:
    scene = Scene(an_archive_that_is("False", name="worm"), copies=WORM_COPY, cleanup={"policy": policy})
    for number in range(100):
        scene.cache.events.put(a_cleaning_event(number, reason))
    await scene.look_for(3 * DAY)
    assert scene.mailer.subjects == mails


async def test_an_archive_of_an_optional_copy_is_no_mail_since_nothing_waits_for_it() -> None:
    optional = [{**WORM_COPY[0], "required": False}]
    scene = Scene(an_archive_that_is("False", name="worm"), copies=optional)
    scene.cache.events.put(a_copying_event())
    await scene.look_for(DAY)
    assert scene.mailer.sent_mails == []


async def test_a_pass_finds_events_of_other_processes_that_wait_for_the_archive_of_a_copy() -> None:
    scene = Scene(an_archive_that_is("False", name="worm"), copies=WORM_COPY)
    scene.change(Organization, "acme", events={"Copying": 1})
    summary = FailureSummary()
    summary.add(a_copying_event(), EventArchives("worm", ("dms", "worm")))
    scene.notifier.pass_finished(scene.clock.now(), {"acme": summary})
    await scene.look_for(DAY)
    assert scene.mailer.subjects == ["[acme] Archive worm can't be used: ArchiveUnreachable"]


async def test_a_new_archive_whose_first_probe_is_slow_is_no_mail() -> None:
    scene = Scene()
    scene.cache.events.put(an_event().in_phase(Phase.ARCHIVING, "ArchiveNotProbed").build())
    scene.set(an_archive_that_is("Unknown", reason="Pending", since=NOON - timedelta(days=1)))
    await scene.look_for(timedelta(seconds=30))
    assert scene.mailer.sent_mails == []


async def test_an_archive_that_restarts_within_half_a_minute_is_no_mail() -> None:
    scene = Scene()
    scene.cache.events.put(an_event().build())
    for _ in range(3):
        scene.set(an_archive_that_is("False", since=scene.clock.now()))
        await scene.look_for(timedelta(seconds=45))
        scene.set(an_archive_that_is("True", since=scene.clock.now()))
        await scene.look_for(timedelta(minutes=5))
    assert scene.mailer.sent_mails == []


async def test_an_archive_that_nobody_waits_for_is_no_mail() -> None:
    scene = Scene()
    scene.set(an_archive_that_is("False"))
    await scene.look_for(DAY)
    assert scene.mailer.sent_mails == []


async def test_an_archive_that_nothing_waits_for_any_more_before_the_mail_is_no_mail() -> None:
    scene = Scene()
    scene.set(an_archive_that_is("False"))
    event = an_event().build()
    scene.cache.events.put(event)
    await until_a_problem(scene, "archive/dms")
    scene.cache.events.remove(event.name)
    await scene.look_for(HOUR)
    assert (scene.mailer.sent_mails, scene.problems()) == ([], {})
    scene.cache.events.put(event)
    await scene.look_for(HOUR)
    assert scene.mailer.subjects == ["[acme] Archive dms can't be used: ArchiveUnreachable"]
    scene.cache.events.remove(event.name)
    await scene.look_for(HOUR)
    assert len(scene.mailer.sent_mails) == 1, "what a mail told is open until the archive works"
    assert scene.problems().keys() == {"archive/dms"}


async def test_an_esaw_that_nothing_waits_for_any_more_before_the_mail_is_no_mail() -> None:
    scene = Scene()
    with_esaw(scene, "False", "EsawUnreachable")
    event = an_event().build()
    scene.cache.events.put(event)
    await until_a_problem(scene, "esaw")
    scene.cache.events.remove(event.name)
    await scene.look_for(HOUR)
    assert (scene.mailer.sent_mails, scene.problems()) == ([], {})


async def until_a_problem(scene: Scene, cause: str) -> None:
    """Look until there is a problem, of which no mail was sent yet."""
    for _ in range(60):
        await scene.run_once(every=timedelta(seconds=1))
        if cause in scene.problems():
            break
    assert scene.problems()[cause].notified_time is None
    assert scene.mailer.sent_mails == []


async def test_events_that_fail_of_an_archive_that_is_down_are_the_same_problem() -> None:
    scene = Scene()
    scene.set(an_archive_that_is("False"))
    scene.cache.events.put(an_event().build())
    await scene.look_for(DAY)
    scene.notifier.event_failed(a_failed_event(1, "ArchiveUnreachable", at=scene.clock.now()))
    await scene.look_for(HOUR)
    assert len(scene.mailer.sent_mails) == 1
    scene.set(an_archive_that_is("True", since=scene.clock.now()))
    await scene.look_for(HOUR)
    assert [each.partition(":")[0] for each in scene.mailer.subjects] == [
        "[acme] Archive dms can't be used",
        "[acme] An event failed",
        "Solved",
    ], "once the archive works again, what still failed of it is one"


# -- eSAW ----------------------------------------------------------------------------------------------------


def with_esaw(scene: Scene, truth: str, reason: str) -> None:
    """Set the Organization's condition Reachable, since now."""
    raw = scene.organization().to_dict()
    raw.setdefault("status", {})["conditions"] = [a_condition("Reachable", truth, reason, scene.clock.now())]
    scene.set(Organization.parse(raw))


@pytest.mark.parametrize(
    ("reason", "ending"),
    [("EsawUnreachable", "Solved"), ("EsawAnswerUnreadable", "Ended"), ("EsawRedirects", "Ended")],
)
async def test_an_esaw_that_does_not_answer_while_events_wait_is_one_mail_and_its_end_another(
    reason: str, ending: str
) -> None:
    scene = Scene()
    with_esaw(scene, "False", reason)
    scene.cache.events.put(an_event().build())
    await scene.look_for(timedelta(seconds=62))
    assert scene.mailer.subjects == [f"[acme] eSignAnyWhere can't be used: {reason}"]
    with_esaw(scene, "Unknown", "EsawUnconfirmed")
    await scene.look_for(HOUR)
    with_esaw(scene, "True", "EsawAnswers")
    await scene.look_for(HOUR)
    assert [each.partition(":")[0] for each in scene.mailer.subjects] == [
        "[acme] eSignAnyWhere can't be used",
        ending,
    ]
    assert scene.problems() == {}


async def test_an_esaw_that_is_unreachable_and_then_needs_another_action_is_one_further_mail() -> None:
    scene = Scene()
    with_esaw(scene, "False", "EsawUnreachable")
    scene.cache.events.put(an_event().build())
    await scene.look_for(HOUR)
    with_esaw(scene, "True", "EsawAnswers")
    await scene.look_for(timedelta(seconds=20))
    with_esaw(scene, "False", "EsawRedirects")
    await scene.look_for(DAY / 2)
    about = "[acme] eSignAnyWhere can't be used"
    assert scene.mailer.subjects == [f"{about}: EsawUnreachable", f"{about}: EsawRedirects"]


async def test_an_outage_of_esaw_of_half_a_minute_or_without_an_event_that_waits_is_no_mail() -> None:
    scene = Scene()
    with_esaw(scene, "False", "EsawUnreachable")
    await scene.look_for(DAY)
    with_esaw(scene, "True", "EsawAnswers")
    scene.cache.events.put(an_event().build())
    await scene.look_for(HOUR)
    with_esaw(scene, "False", "EsawUnreachable")
    await scene.look_for(timedelta(seconds=45))
    with_esaw(scene, "True", "EsawAnswers")
    await scene.look_for(HOUR)
    assert scene.mailer.sent_mails == []


def refused_by_esaw(
    scene: Scene, number: int = 1, *, reason: str = "EsawFailing", ago: float = 70
) -> EnvelopeEvent:
    """An event whose calls of eSAW have failed since some seconds, the last one a second ago."""
    now = scene.clock.now()
    first, error = now - timedelta(seconds=ago), LastError(reason, "HTTP 500", now - timedelta(seconds=1))
    attempt = Attempt(Phase.COLLECTING, first, 0, AttemptOutcome.WAIT, reason)
    waiting = an_event(f"00000000-0000-4000-8000-{number:012d}").in_phase(Phase.COLLECTING, reason)
    return waiting.status(last_error=error, attempt_history=(attempt,)).build()


CALLS_FAIL = "[acme] eSignAnyWhere can't be used: EsawFailing"


async def test_calls_that_fail_while_esaw_answers_are_one_mail_and_a_pass_that_finds_none_ends_it() -> None:
    scene = Scene()
    with_esaw(scene, "True", "EsawAnswers")
    scene.clock.advance(minutes=10)
    pass_finished(scene, refused_by_esaw(scene, 1), refused_by_esaw(scene, 2))
    await scene.run_once(3)
    assert scene.mailer.subjects == [CALLS_FAIL]
    assert scene.problems()["esaw"].count == 2
    scene.again()
    await scene.look_for(HOUR)
    pass_finished(scene, refused_by_esaw(scene, 2, ago=3600))
    await scene.look_for(HOUR)
    assert (scene.mailer.subjects, scene.problems()["esaw"].count) == ([CALLS_FAIL], 1)
    pass_finished(scene)
    await scene.look_for(HOUR)
    assert scene.mailer.subjects == [CALLS_FAIL, f"Solved: {CALLS_FAIL}"]
    assert scene.problems() == {}


@pytest.mark.parametrize("reason", ["EsawAnswerUnreadable", "EsawFailing"])
async def test_an_esaw_that_refuses_all_for_more_than_a_day_is_solved_once_a_key_is_accepted(
    reason: str,
) -> None:
    scene = Scene()
    with_esaw(scene, "True", "EsawAnswers")
    for hour in range(25):
        scene.clock.advance(minutes=10)
        ago = 3600 * hour + 70
        refused = (refused_by_esaw(scene, each, reason=reason, ago=ago) for each in range(1, 21))
        # All of them have failed after a day, so no pass sees a call that is refused.
        pass_finished(scene, *(refused if hour < 24 else ()))
        await scene.look_for(timedelta(minutes=50))
        with_esaw(scene, "False", "EsawUnconfirmed")
    reasons = (reason, "EsawUnconfirmed")
    assert scene.mailer.subjects == [f"[acme] eSignAnyWhere can't be used: {each}" for each in reasons]
    assert list(scene.problems()) == ["esaw"]
    with_esaw(scene, "True", "EsawAnswers")
    pass_finished(scene)
    await scene.look_for(timedelta(minutes=10))
    assert scene.mailer.subjects[2:] == ["Solved: [acme] eSignAnyWhere can't be used: EsawUnconfirmed"]
    assert scene.problems() == {}


def attempted(event: EnvelopeEvent, phase: Phase, reason: str, outcome: AttemptOutcome, at: datetime) -> Any:
    """An event in that phase after one more attempt to list its files."""
    history = (*event.status.attempt_history, Attempt(Phase.COLLECTING, at, 0, outcome, reason))
    return replace(event, status=replace(event.status, phase=phase, reason=reason, attempt_history=history))


def given_up(event: EnvelopeEvent) -> EnvelopeEvent:
    """The same event after its deadline."""
    ended = replace(event.status, phase=Phase.FAILED, reason="DeadlineExceeded")
    return replace(event, status=ended)


@pytest.mark.parametrize("is_removed", [False, True])
async def test_a_problem_of_esaw_is_solved_by_an_accepted_call_and_not_by_the_failure_of_its_events(
    *, is_removed: bool
) -> None:
    scene = Scene()
    with_esaw(scene, "True", "EsawAnswers")
    scene.clock.advance(minutes=10)
    refused = [refused_by_esaw(scene, each) for each in (1, 2)]
    pass_finished(scene, *refused)
    await scene.run_once(3)
    before = attempted(an_event().build(), Phase.SUCCEEDED, "Kept", AttemptOutcome.DONE, NOON)
    for _ in range(2):
        scene.clock.advance(hours=24)
        pass_finished(scene, before, *map(given_up, refused))
        await scene.look_for(HOUR)
    about = [each for each in scene.mailer.subjects if CALLS_FAIL in each]
    assert about == [CALLS_FAIL]
    assert "esaw" in scene.problems()
    accepted = attempted(before, Phase.SUCCEEDED, "Kept", AttemptOutcome.DONE, scene.clock.now())
    summary = FailureSummary()
    (summary.add_removed if is_removed else summary.add)(accepted, in_archive("dms"))
    for each in refused:
        summary.add(given_up(each), in_archive("dms"))
    scene.notifier.pass_finished(scene.clock.now(), {"acme": summary})
    await scene.look_for(HOUR)
    about = [each for each in scene.mailer.subjects if CALLS_FAIL in each]
    assert about == [CALLS_FAIL, f"Solved: {CALLS_FAIL}"]
    assert "[acme] 2 events failed: EsawFailing" in scene.mailer.subjects, "it says how to retry them"


async def test_what_failed_before_esaw_answered_again_keeps_no_problem_of_esaw_open() -> None:
    scene = Scene()
    with_esaw(scene, "True", "EsawAnswers")
    scene.clock.advance(minutes=10)
    refused = refused_by_esaw(scene)
    pass_finished(scene, refused)
    await scene.run_once(3)
    with_esaw(scene, "False", "EsawUnreachable")
    await scene.look_for(DAY)
    with_esaw(scene, "True", "EsawAnswers")
    pass_finished(scene, given_up(refused))
    await scene.look_for(HOUR)
    assert "esaw" not in scene.problems()


async def test_attempts_that_follow_each_other_fast_are_refused_since_their_phase_began() -> None:
    scene = Scene()
    with_esaw(scene, "True", "EsawAnswers")
    scene.clock.advance(minutes=10)
    refused = refused_by_esaw(scene, ago=5)
    status = replace(refused.status, phase_start_time=scene.clock.now() - timedelta(minutes=2))
    scene.cache.events.put(replace(refused, status=status))
    await scene.run_once(3)
    assert scene.mailer.subjects == [CALLS_FAIL]


async def test_the_events_of_this_process_show_failing_calls_before_the_next_pass_and_are_written_once() -> (
    None
):
    scene = Scene()
    with_esaw(scene, "True", "EsawAnswers")
    scene.clock.advance(minutes=10)
    scene.cache.events.put(refused_by_esaw(scene, ago=50))
    await scene.look_for(timedelta(seconds=15))
    assert scene.mailer.subjects == [CALLS_FAIL]
    written = scene.problems()
    scene.cache.events.put(refused_by_esaw(scene, ago=65))
    await scene.look_for(HOUR)
    assert scene.problems() == written


@pytest.mark.parametrize(
    ("reason", "ago", "since_answer"),
    [
        ("EsawFailing", 50, timedelta(minutes=10)),
        ("EsawFailing", 70, timedelta(0)),
        ("EsawThrottling", 70, timedelta(minutes=10)),
        ("EsawErrorState", 70, timedelta(minutes=10)),
    ],
)
async def test_calls_that_fail_since_just_now_or_failed_before_esaw_answered_again_are_no_mail(
    reason: str, ago: float, since_answer: timedelta
) -> None:
    scene = Scene()
    with_esaw(scene, "True", "EsawAnswers")
    scene.clock.advance(seconds=since_answer.total_seconds())
    pass_finished(scene, refused_by_esaw(scene, reason=reason, ago=ago))
    await scene.look_for(HOUR)
    assert scene.mailer.sent_mails == []


@pytest.mark.parametrize("truth", ["True", "Unknown"])
async def test_calls_that_fail_are_one_mail_also_while_it_is_unknown_who_answers(truth: str) -> None:
    scene = Scene()
    with_esaw(scene, truth, "EsawAnswers" if truth == "True" else "EsawUnconfirmed")
    for hour in range(6):
        scene.clock.advance(minutes=10)
        scene.cache.events.put(refused_by_esaw(scene, ago=3600 * hour + 70))
        await scene.look_for(timedelta(minutes=50))
    assert scene.mailer.subjects == [CALLS_FAIL]


async def test_no_pass_ends_a_problem_with_esaw_while_it_is_unknown_who_answers() -> None:
    scene = Scene()
    with_esaw(scene, "Unknown", "EsawUnconfirmed")
    scene.clock.advance(minutes=10)
    pass_finished(scene, refused_by_esaw(scene))
    await scene.run_once(3)
    # The event failed at its deadline, or waits for a consent.
    pass_finished(scene)
    await scene.look_for(HOUR)
    assert scene.mailer.subjects == [CALLS_FAIL]
    with_esaw(scene, "True", "EsawAnswers")
    pass_finished(scene)
    await scene.look_for(HOUR)
    assert scene.mailer.subjects == [CALLS_FAIL, f"Solved: {CALLS_FAIL}"]


DISPROVED = ["EsawNotFound", "EsawRedirects", "EsawAddressForbidden", "EsawAnswerUnreadable"]


@pytest.mark.parametrize("reason", DISPROVED)
async def test_a_fault_that_a_refusal_disproves_ends_unsolved_and_is_a_mail_again(reason: str) -> None:
    scene = Scene()
    scene.cache.events.put(an_event().build())
    for _ in range(2):
        with_esaw(scene, "False", reason)
        await scene.look_for(timedelta(seconds=70))
        with_esaw(scene, "Unknown", "EsawUnconfirmed")
        await scene.look_for(timedelta(hours=10))
        assert scene.problems() == {}
    about = f"[acme] eSignAnyWhere can't be used: {reason}"
    assert scene.mailer.subjects == [about, f"Ended: {about}"] * 2


@pytest.mark.parametrize("reason", ["EsawUnreachable", "EsawUnconfirmed"])
async def test_only_another_address_ends_an_outage_that_a_refusal_does_not_disprove(reason: str) -> None:
    scene = Scene()
    scene.cache.events.put(an_event().build())
    for _ in range(3):
        with_esaw(scene, "False", reason)
        await scene.look_for(timedelta(minutes=30))
        with_esaw(scene, "Unknown", "EsawUnconfirmed")
        await scene.look_for(timedelta(minutes=30))
    about = f"[acme] eSignAnyWhere can't be used: {reason}"
    assert scene.mailer.subjects == [about]
    raw = scene.organization().to_dict()
    raw["status"]["envelopeAccess"] = {
        "baseURL": "https://other.example.com",
        "observedTime": scene.clock.now().isoformat(),
    }
    scene.set(Organization.parse(raw))
    await scene.look_for(HOUR)
    assert scene.mailer.subjects == [about, f"Ended: {about}"]
    assert scene.problems() == {}
    with_esaw(scene, "False", reason)
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[2:] == [about]


async def test_a_retry_of_what_esaw_refused_ends_no_problem_and_a_suspension_ends_it() -> None:
    scene = Scene()
    with_esaw(scene, "True", "EsawAnswers")
    scene.clock.advance(minutes=10)
    pass_finished(scene, refused := refused_by_esaw(scene))
    await scene.run_once(3)
    for reason, expected in (
        ("RetryRequested", [CALLS_FAIL]),
        ("Suspended", [CALLS_FAIL, f"Solved: {CALLS_FAIL}"]),
    ):
        scene.clock.advance(minutes=10)
        pass_finished(scene, replace(refused, status=replace(refused.status, reason=reason)))
        await scene.look_for(HOUR)
        assert scene.mailer.subjects == expected


# -- Callbacks that are refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason",
    [
        "CallbackTokenMissing",
        "CallbackTokenRefused",
        "SecretForbidden",
        "SecretNotLabelled",
        "SecretUnreadable",
    ],
)
async def test_callbacks_that_are_refused_for_a_minute_are_one_mail_and_its_end_another(
    reason: str,
) -> None:
    scene = Scene()
    scene.change(Organization, "acme", conditions=[a_condition("Ready", "False", reason, scene.clock.now())])
    await scene.look_for(timedelta(seconds=45))
    assert scene.mailer.sent_mails == []
    await scene.look_for(DAY)
    about = f"[acme] Callbacks of eSignAnyWhere are refused: {reason}"
    assert scene.mailer.subjects == [about]
    fixed = {"conditions": [a_condition("Ready", "True", "Ready", scene.clock.now())]}
    scene.change(Organization, "acme", callbackTokenHashes=["hash"], **fixed)
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[1:] == [f"Solved: {about}"]
    assert scene.problems() == {}


async def test_another_action_that_callbacks_need_after_the_mail_is_one_further_mail() -> None:
    scene = Scene()
    for reason in ("CallbackTokenMissing", "CallbackTokenRefused", "CallbackTokenMissing"):
        failed = a_condition("Ready", "False", reason, NOON)
        scene.change(Organization, "acme", conditions=[failed])
        await scene.look_for(HOUR)
    about = "[acme] Callbacks of eSignAnyWhere are refused"
    assert scene.mailer.subjects == [f"{about}: CallbackTokenMissing", f"{about}: CallbackTokenRefused"]


@pytest.mark.parametrize("reason", ["SecretForbidden", "SecretUnreadable", "ArchiveMissing"])
async def test_refused_callbacks_are_not_called_solved_while_a_hash_is_missing(reason: str) -> None:
    scene = Scene()
    for each in ("CallbackTokenMissing", reason):
        failed = a_condition("Ready", "False", each, scene.clock.now())
        scene.change(Organization, "acme", conditions=[failed])
        await scene.look_for(HOUR)
    assert not [each for each in scene.mailer.subjects if each.startswith("Solved")]
    assert "callback" in scene.problems()

    tokens = [{"name": "callback", "key": "token", "hash": "hash"}]
    scene.change(Organization, "acme", callbackTokenHashes=["hash"], callbackTokens=tokens)
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[-1].startswith("Solved: [acme] Callbacks of eSignAnyWhere are refused")


@pytest.mark.parametrize(
    "reason",
    ["CallbackTokenMissing", "BasicAuthMissing", "SecretForbidden", "SecretNotLabelled", "SecretUnreadable"],
)
async def test_a_token_or_login_whose_last_value_still_counts_refuses_no_callback(reason: str) -> None:
    tokens = [{"name": "callback", "key": "token"}]
    scene = Scene(callback={"tokenSecretRefs": tokens, "basicAuthSecretRef": {"name": "basic"}})
    known = {"callbackTokenHashes": ["hash"], "basicAuthHashes": ["hash"]}
    scene.change(Organization, "acme", conditions=[a_condition("Ready", "False", reason, NOON)], **known)
    await scene.look_for(DAY)
    assert scene.mailer.sent_mails == []


@pytest.mark.parametrize("hashes", [[], ["hash"]])
async def test_callbacks_are_refused_for_each_token_without_a_hash_of_the_login(hashes: list[str]) -> None:
    tokens = [{"name": "callback", "key": "token"}, {"name": "callback", "key": "next"}]
    scene = Scene(callback={"tokenSecretRefs": tokens, "basicAuthSecretRef": {"name": "basic"}})
    known = {"callbackTokenHashes": ["hash", "next"], "basicAuthHashes": hashes}
    failed = a_condition("Ready", "False", "BasicAuthMissing", NOON)
    scene.change(Organization, "acme", conditions=[failed], **known)
    await scene.look_for(HOUR)
    assert scene.mailer.subjects == ["[acme] Callbacks of eSignAnyWhere are refused: BasicAuthMissing"]


# -- What ended in another way than by its solution ----------------------------------------------------------


async def test_an_archive_that_was_deleted_while_events_wait_is_not_called_solved() -> None:
    scene = Scene()
    scene.set(an_archive_that_is("False"))
    scene.cache.events.put(an_event().build())
    await scene.look_for(HOUR)
    delete_archive(scene)
    scene.change(Organization, "acme", conditions=[a_condition("Ready", "False", "ArchiveMissing", NOON)])
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[1:] == ["[acme] Archive dms can't be used: ArchiveMissing"]
    scene.kube.put(an_archive_that_is("True", since=scene.clock.now()))
    scene.watch()
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[2:] == ["Solved: [acme] Archive dms can't be used: ArchiveMissing"]


async def test_an_archive_that_does_not_exist_is_a_mail_while_events_wait() -> None:
    scene = Scene()
    scene.change(Organization, "acme", conditions=[a_condition("Ready", "False", "ArchiveMissing", NOON)])
    delete_archive(scene)
    scene.cache.events.put(an_event().build())
    await scene.look_for(DAY)
    assert scene.mailer.subjects == ["[acme] Archive dms can't be used: ArchiveMissing"]


async def test_an_archive_that_the_organization_no_longer_uses_is_not_reminded_of_and_not_solved() -> None:
    scene = Scene(timings=NotificationTimings())
    scene.set(an_archive_that_is("False"))
    scene.cache.events.put(an_event().build())
    await scene.look_for(HOUR)
    scene.kube.edit(Organization, "acme", {"spec": {"archiveRef": {"name": "other"}}})
    scene.watch()
    await scene.look_for(3 * DAY)
    assert scene.mailer.subjects[1:] == ["Ended: [acme] Archive dms can't be used: ArchiveUnreachable"]
    assert "no longer uses the archive dms" in str(scene.mailer.sent_mails[1][1])
    assert scene.problems() == {}


async def test_notices_that_were_given_up_stay_a_problem_until_each_was_delivered() -> None:
    scene = Scene(webhook=WEBHOOK)
    given_up = [with_notice(number, NoticeState.FAILED, NOON) for number in range(3)]
    scene.clock.advance(minutes=5)
    pass_finished(scene, *given_up)
    await scene.look_for(HOUR)
    works = with_notice(4, NoticeState.DELIVERED, scene.clock.now())
    pass_finished(scene, *given_up, works)
    await scene.look_for(HOUR)
    assert len(scene.mailer.sent_mails) == 1
    pass_finished(scene, given_up[0], works)
    await scene.look_for(HOUR)
    assert scene.problems()["webhook/WebhookRefused"].count == 1
    pass_finished(scene, works)
    await scene.look_for(HOUR)
    assert [each.partition(":")[0] for each in scene.mailer.subjects[1:]] == ["Solved"]


async def test_notices_to_a_webhook_that_was_removed_are_not_called_delivered() -> None:
    scene = Scene(webhook=WEBHOOK)
    scene.notifier.notice_failed(with_notice(1, NoticeState.FAILED, NOON), "WebhookRefused", "HTTP 401")
    await scene.look_for(HOUR)
    scene.kube.edit(Organization, "acme", {"spec": {"webhook": None}})
    scene.watch()
    await scene.look_for(HOUR)
    assert [each.partition(":")[0] for each in scene.mailer.subjects[1:]] == ["Ended"]
    assert "spec.webhook was removed" in str(scene.mailer.sent_mails[1][1])


@pytest.mark.parametrize("number", [1, 50])
async def test_a_suspended_sender_whose_key_does_not_work_is_not_called_solved(number: int) -> None:
    names = [f"sender-{each}" for each in range(number)]
    scene = Scene(*(an_unauthorized_sender(each, reason="SealKeyUnknown") for each in names))
    await scene.look_for(HOUR)
    for each in names:
        scene.set(an_unauthorized_sender(each, reason="SealKeyUnknown", suspend=True, waiting=1))
    await scene.look_for(HOUR)
    assert [each.partition(":")[0] for each in scene.mailer.subjects[1:]] == ["Ended"]
    assert "suspended" in str(scene.mailer.sent_mails[1][1])


async def test_a_sender_that_was_deleted_while_its_key_did_not_work_is_not_called_solved() -> None:
    scene = Scene(an_unauthorized_sender(reason="SealKeyUnknown", waiting=1))
    await scene.look_for(HOUR)
    del scene.kube.objects[Sender.PLURAL, "anna"]
    scene.cache.senders.remove("anna")
    await scene.look_for(HOUR)
    assert [each.partition(":")[0] for each in scene.mailer.subjects[1:]] == ["Ended"]
    assert "deleted" in str(scene.mailer.sent_mails[1][1])


async def test_a_key_that_fails_for_another_reason_is_not_called_solved() -> None:
    scene = Scene(an_unauthorized_sender(reason="SealKeyUnknown", waiting=1))
    await scene.look_for(HOUR)
    scene.set(an_unauthorized_sender(reason="TokenRejected", waiting=1))
    await scene.look_for(HOUR)
    to_administrators = [str(mail["Subject"]) for to, mail in scene.mailer.sent_mails if to == ADMINISTRATORS]
    assert [each.partition(":")[0] for each in to_administrators[1:]] == ["Ended"]
    assert "another reason" in str(scene.mailer.sent_mails[-1][1])


def delete_archive(scene: Scene) -> None:
    del scene.kube.objects[Archive.PLURAL, "dms"]
    scene.cache.archives.remove("dms")


# -- The mail server -----------------------------------------------------------------------------------------


async def test_an_unreachable_mail_server_is_reported_and_what_is_due_is_sent_once_when_it_is_back() -> None:
    scene = Scene(died())
    scene.notifier.event_failed(a_failed_event())
    scene.mailer.trouble = AWAY
    await scene.look_for(DAY)
    assert scene.told() == ("False", "MailServerUnreachable", str(AWAY))
    scene.mailer.trouble = None
    await scene.look_for(HOUR)
    assert sorted(scene.mailer.recipients) == [ADMINISTRATORS, ANNA]
    assert scene.told() == ("True", "MailServerAnswers", "The mail server answers and takes mails.")


async def test_a_mail_server_that_was_down_while_the_clock_was_ahead_is_asked_again_within_an_hour() -> None:
    scene = Scene(died())
    scene.clock.set_back(days=-30)
    scene.notifier.event_failed(a_failed_event(1, "ArchiveFull", at=scene.clock.now()))
    scene.mailer.trouble = AWAY
    await scene.look_for(HOUR)
    assert scene.told() == ("False", "MailServerUnreachable", str(AWAY))
    scene.clock.set_back(days=30)
    scene.mailer.trouble = None
    await scene.look_for(HOUR)
    assert scene.mailer.recipients
    assert scene.told() == ("True", "MailServerAnswers", "The mail server answers and takes mails.")


async def test_a_mail_that_was_refused_while_the_clock_was_ahead_is_tried_again_within_two_hours() -> None:
    scene = Scene(died(), notifications={**MAILS, "administrators": []})
    scene.clock.set_back(days=-30)
    scene.mailer.refusals[ANNA[0]] = MessageRejected("The mail server does not take it (550).")
    await scene.look_for(HOUR)
    assert scene.mailer.recipients == []
    scene.clock.set_back(days=30)
    scene.mailer.refusals.clear()
    await scene.look_for(2 * HOUR)
    assert scene.mailer.recipients == [ANNA]


async def test_an_unreachable_mail_server_is_asked_less_and_less_often() -> None:
    scene = Scene(died())
    scene.mailer.trouble = AWAY
    await scene.run_once(720, every=timedelta(seconds=5))
    assert scene.count("consent", "failed") <= 10, "within an hour"


async def test_a_configured_mail_server_is_tried_when_there_is_no_mail_to_send() -> None:
    scene = Scene()
    await scene.run_once(20)
    assert scene.mailer.checks == 1
    assert scene.told() is not None
    scene.kube.edit(Organization, "acme", {"spec": {"notifications": {"from": "other@acme.example"}}})
    scene.watch()
    await scene.run_once(20)
    assert scene.mailer.checks == 2


async def test_a_changed_secret_is_tried_although_there_is_no_mail_to_send() -> None:
    scene = Scene()
    await scene.run_once(20)
    scene.kube.secrets["smtp"] = {"host": b"mail.acme.example", "username": b"acme", "password": b"new"}
    await scene.run_once(20)
    assert scene.mailer.checks == 2


@pytest.mark.parametrize(
    ("secret", "words"),
    [({}, "has no `host`"), (None, "Secret/smtp does not exist."), ({"host": b"m", "port": b"x"}, "`port`")],
)
async def test_a_secret_that_can_not_be_used_is_reported(secret: dict[str, bytes] | None, words: str) -> None:
    scene = Scene(died())
    scene.kube.secrets.pop("smtp")
    if secret is not None:
        scene.kube.secrets["smtp"] = secret
    await scene.run_once(3)
    told = scene.told()
    assert told is not None
    assert told[:2] == ("False", "MailSettingsInvalid")
    assert words in told[2]


async def test_a_missing_secret_of_the_mail_server_is_made_with_its_label() -> None:
    scene = Scene(died())
    scene.kube.secrets.pop("smtp")
    await scene.run_once(3)
    told = scene.told()
    assert told is not None
    assert [each.line for each in commands_in(told[2], told[1], "tests")] == [
        "kubectl -n tests create secret generic smtp --from-literal=host='NEW-MAIL-HOST' "
        "--from-literal=username='NEW-USERNAME' --from-literal=password='NEW-PASSWORD' "
        "--dry-run=client -o yaml | kubectl label --local -f - counterfoil.dev/use=smtp -o yaml "
        "| kubectl create -f -"
    ]


@pytest.mark.parametrize("key", ["host", "username", "password"])
async def test_a_placeholder_for_the_mail_server_gets_a_hint_and_no_connection(key: str) -> None:
    placeholder = {"host": "NEW-MAIL-HOST", "username": "NEW-USERNAME", "password": "NEW-PASSWORD"}[key]
    scene = Scene(died())
    values = {"host": b"mail.acme.example", "username": b"acme", "password": b"right"}
    scene.kube.secrets["smtp"] = {**values, key: placeholder.encode()}
    await scene.run_once(3)
    told = scene.told()
    assert told is not None
    assert told[1] == "MailSettingsInvalid"
    assert f"Secret/smtp, key '{key}': {placeholder} is the placeholder of a command" in told[2]
    assert (scene.mailer.checks, scene.mailer.sent_mails) == (0, [])


async def test_settings_of_the_mail_server_that_may_not_be_read_are_not_said_to_be_missing() -> None:
    scene = Scene(died())
    scene.kube.refused["secret", "smtp"] = Forbidden(403, "Forbidden", "no")
    await scene.look_for(timedelta(seconds=45))
    assert scene.told() is None, "an API server that has just started refuses that, too"
    await scene.look_for(timedelta(minutes=1))
    told = scene.told()
    assert told is not None
    assert told[:2] == ("False", "SecretForbidden")
    assert "Put the address" not in told[2]


async def test_a_secret_for_another_use_gets_no_connection() -> None:
    scene = Scene(died())
    scene.kube.secret_uses["smtp"] = "token"
    await scene.run_once(3)
    told = scene.told()
    assert told is not None
    assert told[:2] == ("False", "SecretNotLabelled")
    assert "kubectl label secret smtp counterfoil.dev/use=smtp" in told[2]
    assert scene.mailer.checks == 0


async def test_one_mail_that_is_refused_delays_no_other_and_is_tried_again() -> None:
    scene = Scene(died(), an_unauthorized_sender("ben"), notifications={**MAILS, "administrators": []})
    scene.mailer.refusals[ANNA[0]] = MessageRejected(
        "The mail server does not take mail for a recipient (550)."
    )
    await scene.run_once(10)
    assert scene.mailer.recipients == [("ben@acme.example",)]
    told = scene.told()
    assert told is not None
    assert told[:2] == ("False", "MailRefused")
    scene.mailer.refusals.clear()
    await scene.look_for(2 * HOUR)
    assert scene.mailer.recipients == [("ben@acme.example",), ANNA]
    told = scene.told()
    assert told is not None
    assert told[0] == "True"


# -- Crashes and replicas ------------------------------------------------------------------------------------


class DyingMailer(FakeMailer):
    """Takes a mail, and with that the process is gone."""

    dies = True

    async def send(self, *arguments: object, **named: object) -> None:
        await super().send(*arguments, **named)  # type: ignore[arg-type]
        if self.dies:
            raise KeyboardInterrupt


async def test_a_process_that_dies_between_mail_and_mark_sends_it_again_with_the_same_id() -> None:
    mailer = DyingMailer()
    scene = Scene(died(), mailer=mailer)
    with pytest.raises(KeyboardInterrupt):
        await scene.run_once()
    mailer.dies = False
    scene.again()
    await scene.look_for(HOUR)
    assert scene.mailer.recipients == [ANNA, ANNA]
    first, second = (message["Message-ID"] for _, message in scene.mailer.sent_mails)
    assert first == second


async def test_a_process_that_dies_after_a_further_mail_sends_it_again_with_the_same_id() -> None:
    mailer = DyingMailer()
    scene = Scene(mailer=mailer)
    mailer.dies = False
    scene.set(an_archive_that_is("False"))
    scene.cache.events.put(an_event().build())
    await scene.look_for(HOUR)
    mailer.dies = True
    scene.set(an_archive_that_is("False", reason="ArchiveFull"))
    with pytest.raises(KeyboardInterrupt):
        await scene.look_for(HOUR)
    mailer.dies = False
    scene.again()
    await scene.look_for(HOUR)
    identifiers = [message["Message-ID"] for _, message in scene.mailer.sent_mails]
    assert len(identifiers) == 3
    assert identifiers[1] == identifiers[2] != identifiers[0]


async def test_a_process_that_dies_before_the_mail_lets_the_next_one_send_it() -> None:
    scene = Scene(died())
    scene.change(Sender, "anna", mailAttemptTime=NOON.isoformat())
    await scene.run_once(3)
    assert scene.mailer.sent_mails == [], "somebody may be sending it at this moment"
    await scene.look_for(timedelta(minutes=20))
    assert scene.mailer.recipients == [ANNA]


def test_nobody_takes_a_mail_for_forgotten_that_a_slow_server_may_still_take() -> None:
    assert TIMINGS.claim > timedelta(seconds=SESSION_SECONDS + DATA_REPLY_SECONDS)


async def test_a_mark_that_can_not_be_written_is_written_later_and_nothing_is_sent_twice() -> None:
    scene = Scene(died())
    scene.kube.just_before("patch_status", lambda: None)
    scene.kube.just_before(
        "patch_status", lambda: scene.kube.go_away("patch_status", 5)
    )  # the claim passes, the mark does not
    await scene.run_once(20)
    assert scene.mailer.recipients == [ANNA]
    assert scene.sender().status.notified_time is not None


async def test_a_mark_that_is_written_late_says_when_the_mail_was_sent_and_hides_no_death_after_it() -> None:
    scene = Scene(died())
    scene.kube.just_before("patch_status", lambda: None)
    scene.kube.just_before("patch_status", lambda: scene.kube.go_away("patch_status", 3))
    await scene.run_once()
    scene.clock.advance(minutes=1)
    another = {"fingerprint": "ffffffff", "verifiedTime": NOON.isoformat()}
    scene.set(an_unauthorized_sender(since=scene.clock.now(), status={"key": another}))
    await scene.run_once(5)
    assert scene.mailer.recipients == [ANNA, ANNA]
    first, second = (message["Message-ID"] for _, message in scene.mailer.sent_mails)
    assert first != second


async def test_a_dead_key_that_a_controller_with_a_clock_ahead_saw_is_reported_once() -> None:
    scene = Scene(died(since=NOON + timedelta(seconds=30)))
    await scene.look_for(5 * QUIET_PERIOD)
    assert scene.mailer.recipients == [ANNA]


async def test_two_processes_that_both_believe_to_be_the_one_send_one_mail() -> None:
    first = Scene(died())
    second = Scene(kube=first.kube, mailer=first.mailer)
    second.watch()
    first.notifier.event_failed(a_failed_event())
    await first.run_once()
    second.watch()
    for _ in range(20):
        # The second one's watch lags behind, so it decides on what is no longer so.
        await first.run_once()
        await second.run_once()
    assert sorted(first.mailer.recipients) == [ADMINISTRATORS, ANNA]


async def test_only_one_of_several_controllers_sends_and_the_others_record() -> None:
    other = Scene(died(), sends_mail=False)
    other.notifier.event_failed(a_failed_event())
    await other.look_for(HOUR)
    assert other.mailer.sent_mails == []
    one = Scene(kube=other.kube, mailer=other.mailer)
    await one.look_for(HOUR)
    assert sorted(one.mailer.recipients) == [ADMINISTRATORS, ANNA]


async def test_a_status_that_others_write_too_is_written_on_top_of_theirs() -> None:
    scene = Scene()
    scene.notifier.event_failed(a_failed_event())
    scene.kube.fail("patch_status", Conflict(409, "Conflict", "the object has been modified"))
    scene.kube.edit(Organization, "acme", {"status": {"version": "26.1"}})
    await scene.run_once(5)
    assert scene.organization().status.version == "26.1"
    assert len(scene.mailer.sent_mails) == 1


# -- Never in the way ----------------------------------------------------------------------------------------


async def test_a_suspended_organization_is_not_called() -> None:
    scene = Scene(died(), suspend=True)
    scene.notifier.event_failed(a_failed_event())
    await scene.look_for(2 * DAY)
    assert scene.mailer.sent_mails == []


async def test_looking_again_and_again_writes_nothing() -> None:
    scene = Scene(died())
    scene.notifier.event_failed(a_failed_event())
    await scene.run_once(10)
    written = len(scene.kube.patches)
    await scene.run_once(200)
    assert len(scene.kube.patches) == written


async def test_a_deleted_organization_is_forgotten_with_its_unsent_mails() -> None:
    scene = Scene()
    scene.notifier.event_failed(a_failed_event())
    scene.cache.organizations.remove("acme")
    scene.cache.organizations.put(an_organization("other"))
    scene.kube.put(an_organization("other"))
    await scene.run_once(3)
    assert scene.mailer.sent_mails == []


# -- A person wants it again ---------------------------------------------------------------------------------


def _wish(scene: Scene, when: datetime) -> None:
    scene.kube.edit(Sender, "anna", {"status": {"mailRequestTime": when.isoformat()}})
    scene.watch()


async def test_a_sender_is_asked_again_once_when_a_person_wants_it() -> None:
    scene = Scene(died())
    await scene.run_once(3)
    scene.clock.advance(minutes=5)
    _wish(scene, scene.clock.now())
    await scene.run_once(20)
    assert scene.mailer.recipients == [ANNA, ANNA]
    first, second = (message["Message-ID"] for _, message in scene.mailer.sent_mails)
    assert first != second, "a mail system that drops what it has already would drop what was wished for"


async def test_a_process_that_dies_after_a_mail_that_a_person_wanted_sends_it_again_with_the_same_id() -> None:  # noqa: E501  # fmt: skip
    mailer = DyingMailer()
    mailer.dies = False
    scene = Scene(died(), mailer=mailer)
    await scene.run_once(3)
    _wish(scene, scene.clock.now())
    mailer.dies = True
    with pytest.raises(KeyboardInterrupt):
        await scene.run_once()
    mailer.dies = False
    scene.again()
    await scene.look_for(HOUR)
    ids = [message["Message-ID"] for _, message in scene.mailer.sent_mails]
    assert len(ids) == 3
    assert ids[1] == ids[2]


async def test_a_wish_by_a_clock_that_is_ahead_is_granted_once_and_not_again_and_again() -> None:
    scene = Scene(died())
    await scene.run_once(3)
    _wish(scene, scene.clock.now() + timedelta(seconds=30))
    await scene.run_once(20)
    assert scene.mailer.recipients == [ANNA, ANNA]


# -- What lasts ----------------------------------------------------------------------------------------------


async def test_what_is_not_solved_is_reminded_of_once_a_day_in_one_mail_for_all() -> None:
    scene = Scene(timings=NotificationTimings())
    for number, reason in enumerate(("NameOccupied", "SenderUnknown")):
        scene.notifier.event_failed(a_failed_event(number, reason))
    await scene.look_for(HOUR)
    assert len(scene.mailer.sent_mails) == 2

    await scene.look_for(3 * DAY - HOUR)

    reminders = [str(mail) for _, mail in scene.mailer.sent_mails[2:]]
    assert scene.mailer.subjects[2:] == ["[acme] 2 problems are still open"] * 2
    assert all("An event failed: NameOccupied" in each for each in reminders)
    assert scene.count("digest", "sent") == 2


async def test_a_reminder_can_not_be_mistaken_for_the_one_of_the_day_before() -> None:
    """A mail server drops a mail whose Message-ID it knows."""
    scene = Scene(timings=NotificationTimings())
    scene.notifier.event_failed(a_failed_event())
    await scene.look_for(4 * DAY)
    ids = [mail["Message-ID"] for _, mail in scene.mailer.sent_mails]
    assert len(ids) == len(set(ids)) == 4


async def test_what_is_solved_is_not_reminded_of() -> None:
    scene = Scene(timings=NotificationTimings())
    scene.notifier.event_failed(a_failed_event())
    await scene.look_for(HOUR)
    scene.notifier.pass_finished(scene.clock.now(), {"acme": FailureSummary()})
    await scene.look_for(3 * DAY)
    assert scene.count("digest", "sent") == 0
    assert scene.problems() == {}


def pass_found(scene: Scene, *deletions: datetime) -> None:
    summary = FailureSummary()
    for number, deletion in enumerate(deletions):
        summary.add_endangered(f"event-{number}", deletion)
    scene.notifier.pass_finished(scene.clock.now(), {"acme": summary})


async def test_envelopes_that_esaw_deletes_soon_are_one_mail_whose_end_is_no_mail() -> None:
    scene = Scene()
    pass_found(scene, NOON + 6 * 24 * HOUR, NOON + 5 * 24 * HOUR)
    await scene.run_once(5)
    assert scene.mailer.subjects == [
        "[acme] 2 envelopes will soon be deleted in eSignAnyWhere and are not safely archived"
    ]
    problem = scene.problems()["retention/RetentionEnding"]
    assert (problem.reason, problem.count, problem.examples) == (
        "RetentionEnding",
        2,
        ("event-1", "event-0"),
    )
    for _ in range(3):
        scene.clock.advance(minutes=10)
        pass_found(scene, *(NOON + (5 + number) * 24 * HOUR for number in range(4)))
        await scene.run_once(5)
    assert scene.problems()["retention/RetentionEnding"].count == 4
    scene.clock.advance(minutes=10)
    pass_finished(scene)
    await scene.look_for(HOUR)
    assert scene.problems() == {}
    assert len(scene.mailer.subjects) == 1


async def test_events_that_can_not_be_read_are_one_mail_and_hold_each_problem_of_events_open() -> None:
    scene = Scene()
    scene.notifier.event_failed(a_failed_event())
    await scene.look_for(HOUR)
    summary = FailureSummary()
    summary.add_unreadable("event-7")
    scene.notifier.pass_finished(scene.clock.now(), {"acme": summary})
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[1:] == ["[acme] An event can't be read"]
    assert "event-7" in scene.mailer.sent_mails[-1][1].as_string()
    assert all(each.solved_time is None for each in scene.problems().values())
    scene.clock.advance(minutes=10)
    pass_finished(scene)
    await scene.look_for(HOUR)
    assert "Solved: [acme] An event can't be read" in scene.mailer.subjects
    assert scene.problems() == {}


async def test_envelopes_that_esaw_deletes_soon_are_in_the_daily_reminder() -> None:
    scene = Scene(timings=NotificationTimings())
    pass_found(scene, NOON + 6 * 24 * HOUR)
    await scene.run_once(5)
    scene.clock.advance(hours=25)
    pass_found(scene, NOON + 6 * 24 * HOUR)
    await scene.run_once(5)
    assert scene.mailer.subjects == [
        "[acme] One envelope will soon be deleted in eSignAnyWhere and is not safely archived",
        "[acme] A problem is still open",
    ]


# -- Times that a clock which was ahead has written ----------------------------------------------------------

AHEAD = NOON + timedelta(days=30)


@pytest.mark.parametrize("times", [{"start_time": AHEAD}, {"mail_attempt_time": AHEAD}])
async def test_a_problem_with_a_time_of_a_clock_ahead_is_mailed_now(times: dict[str, Any]) -> None:
    scene = Scene()
    organization = scene.organization()
    status = replace(organization.status, problems=(a_problem(**times),))
    scene.cache.update(await write_status(scene.kube, organization, status))
    await scene.run_once(3)
    assert scene.mailer.recipients == [ADMINISTRATORS]


async def test_a_refusal_that_a_clock_ahead_recorded_is_not_mailed_each_hour() -> None:
    scene = Scene(died(since=AHEAD, status={"notifiedKey": "0a1b2c3d"}))
    await scene.look_for(20 * HOUR)
    assert scene.mailer.recipients == [ANNA]


async def test_a_mail_that_a_clock_ahead_recorded_does_not_silence_the_next_refusal() -> None:
    scene = Scene(died(status={"notifiedTime": AHEAD.isoformat()}))
    await scene.run_once(20)
    assert scene.mailer.recipients == [ANNA]


async def test_a_sender_whose_status_cannot_be_written_costs_no_other_its_mail() -> None:
    scene = Scene(died(), an_unauthorized_sender("ben", email="ben@acme.example"))
    scene.kube.refused["patch_status", "anna"] = Rejected(422, "Invalid", "not this one")
    await scene.run_once(5)
    assert ("ben@acme.example",) in scene.mailer.recipients
    assert scene.sender("ben").status.notified_time == NOON


async def test_a_mail_to_a_deleted_sender_counts_for_no_sender_that_has_its_name() -> None:
    scene = Scene(died())
    again = died()
    again = replace(again, metadata=replace(again.metadata, uid="uid-anna-again", resource_version="1000"))

    def create_again() -> None:
        scene.kube.put(again)
        scene.cache.update(again)
        scene.mailer.after_sending = lambda: None

    scene.mailer.after_sending = create_again
    await scene.run_once()
    assert scene.mailer.recipients == [ANNA]
    assert scene.sender("anna").status.notified_time is None
    await scene.run_once()
    assert scene.mailer.recipients == [ANNA, ANNA]
    assert scene.sender("anna").status.notified_time is not None


async def test_a_mail_that_cannot_be_marked_as_sent_holds_back_no_other_and_is_not_sent_again() -> None:
    scene = Scene(died(), an_unauthorized_sender("ben", email="ben@acme.example"))
    refused = Rejected(422, "Invalid", "not this one")
    scene.mailer.after_sending = lambda: scene.kube.refused.update({("patch_status", "anna"): refused})
    await scene.run_once(5)
    assert sorted(scene.mailer.recipients) == [ANNA, ("ben@acme.example",)]


async def test_a_check_costs_the_same_beside_many_senders_whose_keys_work() -> None:
    steps = dict[int, int]()
    for working in (10, 200):
        others = [a_sender(f"sender-{number}") for number in range(working)]
        scene = Scene(an_unauthorized_sender(), *others)
        await scene.run_once()
        steps[working] = await steps_of(scene.notifier.run_once())
    assert steps[200] == steps[10]


async def test_a_suspended_organization_sends_mails_only_about_what_is_lost_meanwhile() -> None:
    scene = Scene(an_unauthorized_sender(waiting=1), an_archive_that_is("False"), suspend=True)
    scene.notifier.event_failed(a_failed_event())
    scene.cache.events.put(an_event().build())
    pass_found(scene, NOON + 5 * DAY)
    refused = a_condition("Ready", "False", "CallbackTokenMissing", NOON)
    scene.change(Organization, "acme", conditions=[refused])
    await scene.look_for(HOUR)
    assert sorted(scene.mailer.subjects) == [
        "[acme] Callbacks of eSignAnyWhere are refused: CallbackTokenMissing",
        "[acme] One envelope will soon be deleted in eSignAnyWhere and is not safely archived",
    ]
    accepted = a_condition("Ready", "False", "OrganizationSuspended", NOON)
    scene.change(Organization, "acme", conditions=[accepted], callbackTokenHashes=["0" * 64])
    await scene.look_for(HOUR)
    about = [each for each in scene.mailer.subjects if "are refused" in each]
    assert about[1:] == [f"Solved: {about[0]}"]
    scene.change(Organization, "acme", conditions=[])
    scene.kube.edit(Organization, "acme", {"spec": {"suspend": None}})
    scene.cache.update(scene.organization())
    await scene.look_for(HOUR)
    assert "[acme] Archive dms can't be used: ArchiveUnreachable" in scene.mailer.subjects
