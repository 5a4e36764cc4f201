"""Events that failed because of a cause that was fixed since."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from controller.after_fix.failed_events import FailedEventRetrier, OutageRetrier
from controller.reopening.reopener import Reopener
from counterfoil.i18n.reasons import CATALOGUE, ReasonContext
from counterfoil.kube.errors import ApiError, Forbidden, Rejected, Unavailable
from counterfoil.kube.status import StatusWriter
from counterfoil.resources import (
    ORGANIZATION_LABEL,
    Archive,
    ArchiveLocation,
    Attempt,
    AttemptOutcome,
    EnvelopeEvent,
    EnvelopeSummary,
    LastError,
    LocalObjectReference,
    Organization,
    Phase,
    Sender,
    SenderReference,
)
from counterfoil.resources.conditions import UNREAD_SECRET_REASONS
from tests.support.builders import (
    ANNA,
    NOON,
    EventBuilder,
    a_sender,
    an_event,
    an_organization,
    known_to_work,
    ready,
)
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.waiting_events import HandlersScene, turns
from tests.support.work import steps_of


def event_failed(reason: str, count: int = 1, *, organization: str = "acme") -> EventBuilder:
    return (
        an_event(f"{count:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d")
        .in_phase(Phase.FAILED, reason)
        .labelled(ORGANIZATION_LABEL, organization)
        .status(completion_time=NOON, deliveries=1, attempts=9)
    )


class RetryScene:
    """A namespace with failed events, in which their causes are fixed."""

    def __init__(self, *events: EnvelopeEvent) -> None:
        self.scene = HandlersScene(*events)
        self.scene.observe(an_organization())
        self.failed_event_retrier = FailedEventRetrier(
            kube=self.scene.kube,
            cache=self.scene.cache,
            reopener=Reopener(self.scene.status_writer, self.scene.event_recorder, self.scene.clock),
            clock=self.scene.clock,
            labels="",
            lock=self.scene.workqueue.lock,
        )

    async def reopened_after(self, *states: Organization | Sender | Archive) -> list[str]:
        """Let objects be seen in these states; return which events were re-opened."""
        async with self.scene.running(self.failed_event_retrier.run(), self.scene.event_recorder.run()):
            for each in states:
                self.failed_event_retrier.resource_changed(None, each)
            await turns(300)
        return sorted(
            name
            for (plural, name), raw in self.scene.kube.objects.items()
            if plural == "envelopeevents" and raw["status"].get("phase", "Pending") == "Pending"
        )


def settled(resource: Any, *types: str, at: str = "2026-07-01T12:00:00Z", truth: str = "True") -> Any:
    """Return an object whose conditions were written for its present spec."""
    raw = resource.to_dict()
    raw["status"] = {
        "conditions": [
            {
                "type": each,
                "status": truth,
                "reason": "Tested",
                "message": "",
                "lastTransitionTime": at,
                "observedGeneration": resource.metadata.generation,
            }
            for each in types
        ]
    }
    return type(resource).parse(raw)


def an_archive_that_works(version: int = 1, generation: int = 1, at: str = "2026-07-01T12:00:00Z") -> Archive:
    found: Archive = settled(an_archive(version=version, generation=generation), "Ready", at=at)
    return found


def an_archive_that_does_not(version: int = 1, generation: int = 1) -> Archive:
    return ready(an_archive(version=version, generation=generation), "False")


def an_organization_that_works(version: int = 1, generation: int = 1, **spec: Any) -> Organization:
    found: Organization = settled(
        an_organization(version=version, generation=generation, **spec), "Ready", "Reachable"
    )
    return found


async def test_an_archive_that_works_again_has_its_failed_events_tried_again() -> None:
    event = event_failed("ArchiveReadOnly").build()
    retry_scene = RetryScene(event)
    reopened = await retry_scene.reopened_after(an_archive_that_does_not(1), an_archive_that_works(2))
    assert reopened == [event.name]
    after = retry_scene.scene.kube.stored(event.name)
    assert (after.status.reason, after.status.attempts, after.status.completion_time) == (
        "CauseSolved",
        0,
        None,
    )
    assert after.status.message == "Archive/dms was changed or works again, which may solve why this failed."
    assert [each["reason"] for each in retry_scene.scene.kube.announced] == ["CauseSolved"]
    assert retry_scene.scene.reconciled == [event.name]


async def test_a_changed_archive_has_them_tried_again_when_it_is_known_to_work() -> None:
    event = event_failed("NameOccupied").build()
    retry_scene = RetryScene(event)
    changed_but_not_probed = settled(an_archive(version=2, generation=1), "Ready")
    raw = changed_but_not_probed.to_dict()
    raw["metadata"] |= {"generation": 2, "resourceVersion": "3"}
    assert await retry_scene.reopened_after(an_archive_that_works(1), Archive.parse(raw)) == []
    assert await retry_scene.reopened_after(an_archive_that_works(4, generation=2)) == [event.name]


async def test_an_event_that_can_no_longer_be_written_delays_no_other() -> None:
    full, other = event_failed("ArchiveReadOnly", 1).build(), event_failed("ArchiveReadOnly", 2).build()
    retry_scene = RetryScene(full, other)
    retry_scene.scene.kube.fail("patch_status", Rejected(422, "Invalid", "status.documents: too long"))
    assert await retry_scene.reopened_after(an_archive_that_does_not(1), an_archive_that_works(2)) == [
        other.name
    ]
    assert retry_scene.scene.clock.slept == [], "nothing is tried again for its sake"


def with_anchors(archive: Archive, anchors: str) -> Archive:
    raw = archive.to_dict()
    raw["status"]["trustAnchors"] = anchors
    return Archive.parse(raw)


@pytest.mark.parametrize(
    "problem", [Unavailable(500, "InternalError", "?"), Forbidden(403, "Forbidden", "a policy says no")]
)
async def test_an_event_whose_write_always_fails_delays_no_other(problem: ApiError) -> None:
    events = [event_failed("ArchiveReadOnly", number).build() for number in range(1, 4)]
    retry_scene = RetryScene(*events)
    scene = retry_scene.scene
    scene.kube.refused["patch_status", events[0].name] = problem
    writer = StatusWriter(scene.kube, sleep=scene.clock.sleep)
    retry_scene.failed_event_retrier.reopener = Reopener(writer, scene.event_recorder, scene.clock)
    reopened = await retry_scene.reopened_after(an_archive_that_does_not(1), an_archive_that_works(2))
    assert reopened == sorted(each.name for each in events[1:])


async def test_other_trust_anchors_have_those_tried_again_whose_signer_was_not_trusted() -> None:
    event = event_failed("SignerUntrusted").build()
    retry_scene = RetryScene(event)
    reopened = await retry_scene.reopened_after(
        with_anchors(an_archive_that_works(1), "a" * 64), with_anchors(an_archive_that_works(2), "b" * 64)
    )
    assert reopened == [event.name]


async def test_what_fails_after_a_change_that_its_run_did_not_see_is_tried_again() -> None:
    event = event_failed("NameOccupied").build()
    retry_scene = RetryScene()
    began = retry_scene.scene.clock.monotonic()
    retry_scene.scene.clock.advance(seconds=1)
    await retry_scene.reopened_after(an_archive_that_does_not(1), an_archive_that_works(2))
    retry_scene.scene.kube.put(event)
    retry_scene.failed_event_retrier.event_failed(event, began)
    assert await retry_scene.reopened_after() == [event.name]


async def test_what_fails_in_a_run_that_began_after_the_change_stays_failed() -> None:
    event = event_failed("NameOccupied").build()
    retry_scene = RetryScene()
    await retry_scene.reopened_after(an_archive_that_does_not(1), an_archive_that_works(2))
    retry_scene.scene.clock.advance(seconds=1)
    retry_scene.scene.kube.put(event)
    retry_scene.failed_event_retrier.event_failed(event, retry_scene.scene.clock.monotonic())
    assert await retry_scene.reopened_after() == []


async def test_a_change_that_was_seen_while_the_clock_was_ahead_retries_no_later_run() -> None:
    event = event_failed("NameOccupied").build()
    retry_scene = RetryScene()
    retry_scene.scene.clock.set_back(days=-30)
    await retry_scene.reopened_after(an_archive_that_does_not(1), an_archive_that_works(2))
    retry_scene.scene.clock.set_back(days=30)
    retry_scene.scene.clock.advance(seconds=1)
    retry_scene.scene.kube.put(event)
    retry_scene.failed_event_retrier.event_failed(event, retry_scene.scene.clock.monotonic())
    assert await retry_scene.reopened_after() == []


async def test_only_what_the_change_can_solve_is_tried_again() -> None:
    events = {
        reason: event_failed(reason, count).build()
        for count, reason in enumerate(
            (
                "TagMissing",
                "SenderUnknown",
                "NotPermitted",
                "UnsupportedApiVersion",
                "EnvelopeNotFound",
                "NotProven",
            )
        )
    }
    retry_scene = RetryScene(*events.values())
    reopened = await retry_scene.reopened_after(an_archive_that_does_not(1), an_archive_that_works(2))
    assert reopened == [events["TagMissing"].name]


async def test_what_was_given_up_counts_by_its_last_failure() -> None:
    error = LastError(reason="ArchiveFull", message="", time=NOON)
    event = event_failed("DeadlineExceeded").status(last_error=error).build()
    retry_scene = RetryScene(event)
    assert await retry_scene.reopened_after(an_archive_that_does_not(1), an_archive_that_works(2)) == [
        event.name
    ]


async def test_another_organization_that_uses_another_archive_is_not_affected() -> None:
    event = event_failed("ArchiveFull", organization="other").build()
    retry_scene = RetryScene(event)
    retry_scene.scene.observe(an_organization("other", archiveRef={"name": "another"}))
    assert await retry_scene.reopened_after(an_archive_that_does_not(1), an_archive_that_works(2)) == []


async def test_a_changed_organization_has_those_tried_again_whose_sender_nobody_knew() -> None:
    event = event_failed("SenderUnknown").build()
    retry_scene = RetryScene(event)
    reopened = await retry_scene.reopened_after(
        an_organization_that_works(1), an_organization_that_works(2, generation=2)
    )
    assert reopened == [event.name]


async def test_an_esaw_that_was_down_for_longer_than_the_deadline_has_them_tried_again() -> None:
    error = LastError(reason="EsawUnreachable", message="", time=NOON)
    event = event_failed("DeadlineExceeded").status(last_error=error).build()
    retry_scene = RetryScene(event)
    away = settled(an_organization(version=2), "Ready")
    assert await retry_scene.reopened_after(away, an_organization_that_works(3)) == [event.name]


STOPPING = (
    *("Pending", "OrganizationSuspended", "NoUsableSender", "SenderMissing", "SenderOfOtherOrganization"),
    *("EsawUnreachable", "EsawAddressForbidden", "EsawAnswerUnreadable", "EsawRedirects", "EsawNotFound"),
)
"""With such a reason, no event of the Organization is archived, or none that lacks another Sender."""

WORKING = (
    # Archives and routes: other envelopes may go elsewhere.
    *(
        "ArchiveMissing",
        "ArchiveSuspended",
        "ArchiveShared",
        "ArchiveNotReady",
        "RouteInvalid",
        "CopyInvalid",
        "CopyGivenUp",
    ),
    # Callbacks, pages, mails and notices: the events that exist are archived.
    *("CallbackTokenMissing", "CallbackTokenRefused", "BasicAuthMissing", "BasicAuthRefused"),
    *("CallbackURLUnusable", "ClientSecretMissing"),
    *("SecretForbidden", "SecretNotLabelled", "SecretUnreadable"),
    *("OriginChanged", "OriginUnknown"),
    *("FieldPatternInvalid", "WebhookSecretMissing", "WebhookSecretInvalid"),
    *("MailServerAnswers", "MailServerUnreachable", "MailServerNotTrusted", "MailServerLacksTls"),
    *("MailLoginRefused", "MailRefused", "MailSettingsInvalid"),
    # Many events, or some that fail.
    *("TooManyUnfinishedEvents", "TooManyUnknownEnvelopes", "NearSenderCeiling", "EsawCallsFailing"),
    *("RetentionEnding", "EventUnreadable"),
    # Of a condition that is true, or unknown. ``Reachable`` decides about eSAW.
    *("Ready", "NotStalled", "EsawAnswers", "EsawUnconfirmed"),
)
"""With such a reason, the Organization archives."""


def test_each_reason_of_an_organization_is_known_to_stop_archiving_or_not_to() -> None:
    of_organizations = {
        name for name, each in CATALOGUE.items() if ReasonContext.ORGANIZATION in each.contexts
    }
    assert of_organizations == {*STOPPING, *WORKING}
    assert not {*STOPPING} & {*WORKING}


@pytest.mark.parametrize(
    ("reason", "is_retried"),
    [*((each, False) for each in STOPPING), *((each, True) for each in WORKING)],
)
async def test_only_an_organization_that_can_not_archive_delays_the_retry_of_what_a_new_spec_corrects(
    reason: str, *, is_retried: bool
) -> None:
    event = event_failed("SenderUnknown").build()
    corrected = an_organization_that_works(2, generation=2).to_dict()
    corrected["status"]["conditions"][0] |= {"status": "False", "reason": reason}
    states = (an_organization_that_works(1), Organization.parse(corrected))
    assert await RetryScene(event).reopened_after(*states) == ([event.name] if is_retried else [])


@pytest.mark.parametrize("reason", WORKING)
async def test_the_end_of_a_problem_with_which_an_organization_archives_corrected_no_failure(
    reason: str,
) -> None:
    # Else events that can't succeed would start again each time, and fill the organization up again.
    retry_scene = RetryScene(event_failed("EsawRefused").build())
    at = "2026-07-01T12:01:00Z"
    full = settled(an_organization(version=2), "Ready", "Reachable").to_dict()
    full["status"]["conditions"][0] |= {"status": "False", "reason": reason, "lastTransitionTime": at}
    again = settled(an_organization(version=3), "Ready", "Reachable").to_dict()
    again["status"]["conditions"][0]["lastTransitionTime"] = at
    states = (an_organization_that_works(1), *map(Organization.parse, (full, again)))
    assert await retry_scene.reopened_after(*states) == []


KEPT = pytest.mark.parametrize("reason", ["AuditTrailMissing", "V5EnvelopeKept", "TagMissing"])


@KEPT
async def test_an_esaw_that_answers_again_has_nothing_retried_that_only_a_person_can_change(
    reason: str,
) -> None:
    retry_scene = RetryScene(event_failed(reason).build())
    away = settled(an_organization(version=2), "Ready")
    states = (an_organization_that_works(1), away, an_organization_that_works(3), away)
    assert await retry_scene.reopened_after(*states, an_organization_that_works(5)) == []


@KEPT
@pytest.mark.parametrize("is_away_between", [False, True])
async def test_a_new_spec_has_that_retried_once(reason: str, is_away_between: bool) -> None:
    event = event_failed(reason).build()
    retry_scene = RetryScene(event)
    away = [settled(an_organization(version=2, generation=2), "Ready")] if is_away_between else []
    new = an_organization_that_works(3, generation=2)
    assert await retry_scene.reopened_after(an_organization_that_works(1), *away, new) == [event.name]

    status = {"status": {"phase": "Failed", "reason": reason}}
    retry_scene.scene.kube.edit(EnvelopeEvent, event.name, status)
    away_again = settled(an_organization(version=4, generation=2), "Ready")
    assert await retry_scene.reopened_after(away_again, an_organization_that_works(5, generation=2)) == []


@pytest.mark.parametrize(
    ("spec", "is_retried"),
    [
        ({"ttl": {"succeeded": "9000h"}}, False),
        ({"baseURL": "https://other.example"}, True),
        ({"defaultSenderRef": {"name": "ben"}}, True),
    ],
)
@pytest.mark.parametrize("is_away_between", [False, True])
async def test_an_envelope_that_was_not_found_is_retried_only_when_another_esaw_or_sender_may_show_it(
    spec: dict[str, Any], *, is_retried: bool, is_away_between: bool
) -> None:
    event = event_failed("EnvelopeNotFound").build()
    retry_scene = RetryScene(event)
    away = [settled(an_organization(version=2, generation=2, **spec), "Ready")] if is_away_between else []
    new = an_organization_that_works(3, generation=2, **spec)
    reopened = await retry_scene.reopened_after(an_organization_that_works(1), *away, new)
    assert reopened == ([event.name] if is_retried else [])


async def test_a_recovery_and_a_new_spec_at_once_are_two_fixes() -> None:
    events = [event_failed("EsawUnreachable", 1).build(), event_failed("V5EnvelopeKept", 2).build()]
    retry_scene = RetryScene(*events)
    away = settled(an_organization(version=2), "Ready")
    states = (away, an_organization_that_works(3), an_organization_that_works(4, generation=2))
    assert await retry_scene.reopened_after(*states) == [each.name for each in events]


async def test_another_key_has_those_tried_again_that_were_not_permitted() -> None:
    event = event_failed("NotPermitted").build()
    retry_scene = RetryScene(event)
    reopened = await retry_scene.reopened_after(
        known_to_work(a_sender(version=1)), known_to_work(a_sender(version=2), "n" * 66)
    )
    assert reopened == [event.name]


async def test_another_token_with_each_consent_lists_no_events() -> None:
    event = event_failed("NotPermitted").build()
    retry_scene = RetryScene(event)
    consented = a_sender(tokenSecretRef=None)
    reopened = await retry_scene.reopened_after(
        known_to_work(consented), known_to_work(a_sender(version=2, tokenSecretRef=None), "n" * 66)
    )
    assert reopened == []


async def test_a_sender_that_is_there_now_has_those_tried_again_that_missed_it() -> None:
    error = LastError(reason="SenderMissing", message="", time=NOON)
    event = event_failed("DeadlineExceeded").status(last_error=error).build()
    retry_scene = RetryScene(event)
    reopened = await retry_scene.reopened_after(a_sender(authorized=None), known_to_work(a_sender(version=2)))
    assert reopened == [event.name]


async def test_a_new_key_of_another_users_sender_has_none_tried_again_that_miss_its_predecessor() -> None:
    error = LastError(reason="SenderMissing", message="", time=NOON)
    proved = EnvelopeSummary(
        name="Contract", status="Completed", sender_ref=SenderReference(name="anna", user_id=ANNA)
    )
    event = event_failed("DeadlineExceeded").status(last_error=error, envelope=proved).build()
    user = "0a7c2c11-5f0e-4d3a-9a61-6f2b8e1d4c55"
    states = (a_sender(authorized=None, userID=user), known_to_work(a_sender(version=2, userID=user)))
    assert await RetryScene(event).reopened_after(*states) == []


async def test_a_restart_is_no_change() -> None:
    event = event_failed("ArchiveFull").build()
    retry_scene = RetryScene(event)
    states = (an_archive_that_works(), an_organization_that_works(), known_to_work(a_sender()))
    assert await retry_scene.reopened_after(*states) == []
    assert ("page", "envelopeevents") not in retry_scene.scene.kube.asked


def a_sender_with_key(truth: str, reason: str, version: int, at: str, name: str = "anna") -> Sender:
    """Return a Sender whose key eSAW accepted long ago, as long as nothing else is given."""
    raw = settled(a_sender(name, version=version), "Authorized", at=at, truth=truth).to_dict()
    raw["status"]["conditions"][0]["reason"] = reason
    raw["status"]["key"] = {"fingerprint": "0123abcd", "verifiedTime": "2026-06-01T12:00:00Z"}
    return Sender.parse(raw)


def an_unread_key_and_its_return(reason: str, name: str = "anna") -> tuple[Sender, Sender]:
    return (
        a_sender_with_key("Unknown", reason, 2, "2026-07-01T11:58:00Z", name),
        a_sender_with_key("True", "KeyAccepted", 3, "2026-07-01T12:00:00Z", name),
    )


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("reason", sorted(UNREAD_SECRET_REASONS))
async def test_a_key_that_can_be_read_again_corrects_no_other_failure(
    reason: str, is_restarted: bool
) -> None:
    event = event_failed("NotPermitted").build()
    retry_scene = RetryScene(event)
    before = [] if is_restarted else [a_sender_with_key("True", "KeyAccepted", 1, "2026-06-01T12:00:00Z")]
    assert await retry_scene.reopened_after(*before, *an_unread_key_and_its_return(reason)) == []
    retry_scene.scene.observe(an_unread_key_and_its_return(reason)[1])
    assert await retry_scene.failed_event_retrier.retry_if_fixed(event) is event


@pytest.mark.parametrize("reason", sorted(UNREAD_SECRET_REASONS))
async def test_keys_that_can_be_read_again_start_what_failed_for_that_with_one_list(reason: str) -> None:
    event, other = event_failed(reason, 1).build(), event_failed("NotPermitted", 2).build()
    retry_scene = RetryScene(event, other)
    scene = retry_scene.scene
    scene.cache.add_handler(Sender, retry_scene.failed_event_retrier.resource_changed)
    states = [an_unread_key_and_its_return(reason, name) for name in ("anna", "ben", "carl")]
    async with scene.running(retry_scene.failed_event_retrier.run()):
        for unread, _ in states:
            scene.observe(unread)
        for _, returned in states:
            scene.observe(returned)
            await turns(50)
    assert scene.kube.stored(event.name).status.phase is Phase.PENDING
    assert scene.kube.stored(other.name).status.phase is Phase.FAILED
    assert scene.kube.asked.count(("page", "envelopeevents")) == 1


async def test_the_return_of_each_secret_costs_the_same_beside_many_others() -> None:
    steps = dict[int, float]()
    for senders in (10, 60):
        retry_scene = RetryScene()
        scene = retry_scene.scene
        scene.cache.add_handler(Sender, retry_scene.failed_event_retrier.resource_changed)
        names = [f"sender-{number}" for number in range(senders)]
        states = [an_unread_key_and_its_return("SecretUnreadable", name) for name in names]
        for unread, _ in states:
            scene.cache.update(unread)

        async def return_all(scene: HandlersScene = scene, states: Any = states) -> None:
            for _, returned in states:
                scene.cache.update(returned)

        steps[senders] = await steps_of(return_all()) / senders
    assert steps[60] < 1.1 * steps[10]


async def test_many_fixes_in_one_organization_list_its_failed_events_once() -> None:
    corrected = [event_failed("NotPermitted", 1).build(), event_failed("ArchiveFull", 2).build()]
    other = event_failed("NotProven", 3).build()
    elsewhere = event_failed("TokenRejected", 4, organization="other").build()
    retry_scene = RetryScene(*corrected, other, elsewhere)
    before, after = list[Any]([an_archive_that_does_not(1)]), list[Any]([an_archive_that_works(2)])
    for number in range(20):
        name = f"sender-{number}"
        before.append(a_sender(name, authorized=None))
        after.append(known_to_work(a_sender(name, version=2)))
    assert await retry_scene.reopened_after(*before, *after) == [each.name for each in corrected]
    assert retry_scene.scene.kube.asked.count(("page", "envelopeevents")) == 1


async def test_an_organization_whose_events_can_not_be_listed_delays_no_other() -> None:
    events = [event_failed("NotPermitted", 1), event_failed("NotPermitted", 2, organization="other")]
    retry_scene = RetryScene(*(each.build() for each in events))
    retry_scene.scene.kube.fail("page", Unavailable(0, "NoAnswer", "away"))
    senders = [
        (a_sender(name, authorized=None, organizationRef={"name": organization}), organization)
        for name, organization in (("anna", "acme"), ("ben", "other"))
    ]
    states = [each for each, _ in senders]
    states += [
        known_to_work(a_sender(each.name, version=2, organizationRef={"name": organization}))
        for each, organization in senders
    ]
    assert await retry_scene.reopened_after(*states) == sorted(each.build().name for each in events)
    assert retry_scene.scene.kube.asked.count(("page", "envelopeevents")) == 3


async def test_a_failure_costs_the_same_beside_many_fixes_that_came_before_its_run() -> None:
    steps = dict[int, int]()
    for senders in (10, 60):
        retry_scene = RetryScene()
        for number in range(senders):
            name = f"sender-{number}"
            retry_scene.failed_event_retrier.resource_changed(None, a_sender(name, authorized=None))
            fixed = known_to_work(a_sender(name, version=2))
            retry_scene.failed_event_retrier.resource_changed(None, fixed)
        retry_scene.scene.clock.advance(seconds=1)
        event, began = event_failed("NotPermitted").build(), retry_scene.scene.clock.monotonic()

        async def fail(scene: RetryScene = retry_scene, event: Any = event, began: float = began) -> None:
            scene.failed_event_retrier.event_failed(event, began)

        steps[senders] = await steps_of(fail())
    assert steps[60] == steps[10]


async def test_what_failed_for_an_unread_secret_starts_again_after_a_return_that_nobody_observed() -> None:
    event = event_failed("SecretForbidden").build()
    retry_scene = RetryScene(event)
    retry_scene.scene.observe(an_unread_key_and_its_return("SecretForbidden")[1])
    reopened = await retry_scene.failed_event_retrier.retry_if_fixed(event)
    assert reopened.status.phase is Phase.PENDING


def missed_by_everyone(retry_scene: RetryScene) -> None:
    """An Archive was fixed after events had failed, and no process observed the fix."""
    raw = an_archive_that_works().to_dict()
    raw["status"] |= {"observedGeneration": 1, "settledTime": "2026-07-01T12:00:01Z"}
    retry_scene.scene.observe(Archive.parse(raw))


async def test_an_event_whose_cause_was_fixed_unseen_is_reopened_and_left_to_the_watch_of_its_shard() -> None:
    event = event_failed("TagMissing").build()
    retry_scene = RetryScene(event)
    missed_by_everyone(retry_scene)
    async with retry_scene.scene.running(retry_scene.scene.event_recorder.run()):
        after = await retry_scene.failed_event_retrier.retry_if_fixed(event)
        await turns(300)
    assert after == retry_scene.scene.kube.stored(event.name)
    assert (after.status.phase, after.status.reason, after.status.completion_time) == (
        Phase.PENDING,
        "CauseSolved",
        None,
    )
    assert [each["reason"] for each in retry_scene.scene.kube.announced] == ["CauseSolved"]
    assert retry_scene.scene.reconciled == [], "it may be another controller's"


async def test_an_event_whose_cause_nobody_fixed_stays_as_it_is() -> None:
    event = event_failed("EnvelopeNotFound").build()
    retry_scene = RetryScene(event)
    missed_by_everyone(retry_scene)
    assert await retry_scene.failed_event_retrier.retry_if_fixed(event) is event
    assert retry_scene.scene.kube.patches == []


async def test_an_event_that_was_reopened_since_the_pass_read_it_is_not_written() -> None:
    event = event_failed("TagMissing").build()
    retry_scene = RetryScene(event)
    missed_by_everyone(retry_scene)
    retry_scene.scene.kube.edit(EnvelopeEvent, event.name, {"status": {"phase": "Validating"}})
    assert await retry_scene.failed_event_retrier.retry_if_fixed(event) is event
    assert retry_scene.scene.kube.stored(event.name).status.phase is Phase.VALIDATING


@pytest.mark.parametrize("refusal", [Rejected(422, "Invalid", "no"), Forbidden(403, "Forbidden", "hold")])
async def test_an_event_that_may_not_be_reopened_breaks_no_pass_off(refusal: ApiError) -> None:
    event = event_failed("TagMissing").build()
    retry_scene = RetryScene(event)
    missed_by_everyone(retry_scene)
    retry_scene.scene.kube.fail("patch_status", refusal)
    assert await retry_scene.failed_event_retrier.retry_if_fixed(event) is event


async def test_a_change_that_was_made_while_no_controller_ran_still_counts() -> None:
    event = event_failed("TagMissing").build()
    retry_scene = RetryScene(event)
    raw = an_archive_that_works(1).to_dict()
    raw["metadata"]["generation"] = 2
    reopened = await retry_scene.reopened_after(Archive.parse(raw), an_archive_that_works(3, generation=2))
    assert reopened == [event.name]


async def test_once_per_change() -> None:
    event = event_failed("ArchiveFull").build()
    retry_scene = RetryScene(event)
    await retry_scene.reopened_after(an_archive_that_does_not(1), an_archive_that_works(2))
    retry_scene.scene.kube.edit(
        EnvelopeEvent, event.name, {"status": {"phase": "Failed", "reason": "ArchiveFull"}}
    )
    assert await retry_scene.reopened_after(an_archive_that_works(3), an_archive_that_works(4)) == []


async def test_an_event_that_another_client_reopened_meanwhile_is_not_written() -> None:
    event = event_failed("ArchiveFull").build()
    retry_scene = RetryScene(event)
    kube = retry_scene.scene.kube
    kube.just_before(
        "patch_status",
        lambda: kube.edit(EnvelopeEvent, event.name, {"status": {"phase": "Skipped", "reason": "Mine"}}),
    )
    assert await retry_scene.reopened_after(an_archive_that_does_not(1), an_archive_that_works(2)) == []
    assert kube.stored(event.name).status.reason == "Mine"


async def test_while_the_api_server_is_down_a_change_is_not_lost() -> None:
    event = event_failed("ArchiveFull").build()
    retry_scene = RetryScene(event)
    retry_scene.scene.kube.fail("page", Unavailable(0, "NoAnswer", "away"))
    assert await retry_scene.reopened_after(an_archive_that_does_not(1), an_archive_that_works(2)) == [
        event.name
    ]


@pytest.mark.parametrize("phase", [Phase.SKIPPED, Phase.SUCCEEDED])
async def test_only_what_failed_is_tried_again(phase: Phase) -> None:
    event = event_failed("ArchiveFull").status(phase=phase).build()
    retry_scene = RetryScene(event)
    assert await retry_scene.reopened_after(an_archive_that_does_not(1), an_archive_that_works(2)) == []


async def test_an_event_that_cannot_be_read_stops_no_other() -> None:
    event = event_failed("ArchiveFull").build()
    retry_scene = RetryScene(event)
    retry_scene.scene.kube.objects["envelopeevents", "0-odd"] = {
        "metadata": {"name": "0-odd", "labels": {ORGANIZATION_LABEL: "acme"}},
        "status": {"phase": "Failed"},
    }
    assert await retry_scene.reopened_after(an_archive_that_does_not(1), an_archive_that_works(2)) == [
        event.name
    ]


# -- Outages that no condition shows -------------------------------------------------------------------------

LATER = NOON - timedelta(hours=1)
"""A time after the end of the failed events."""


def given_up(
    count: int, cause: str, *, ended: datetime = NOON - timedelta(hours=4), lived: float = 24
) -> EventBuilder:
    """An event that failed at its deadline, some hours after it was created."""
    attempt = Attempt(Phase.COLLECTING, ended, 0, AttemptOutcome.WAIT, cause)
    error = LastError(cause, "", ended)
    failed = event_failed("DeadlineExceeded", count).created(ended - timedelta(hours=lived))
    return failed.status(completion_time=ended, last_error=error, attempt_history=(attempt,))


def archived_at(count: int, at: datetime, archive: str = "dms") -> EnvelopeEvent:
    """An event that was archived at a time."""
    attempts = (Attempt(each, at, 0, AttemptOutcome.DONE, "") for each in (Phase.COLLECTING, Phase.ARCHIVING))
    built = event_failed("", count).in_phase(Phase.SUCCEEDED, "ArchivedAndDeleted")
    place = ArchiveLocation(LocalObjectReference(archive), f"/{count}")
    return built.status(attempt_history=tuple(attempts), archive=place).build()


class OutageScene:
    """Passes over all events."""

    def __init__(self, *events: EnvelopeEvent) -> None:
        self.scene = HandlersScene(*events)
        self.scene.observe(an_organization())
        self.restart()

    def restart(self) -> None:
        reopener = Reopener(self.scene.status_writer, self.scene.event_recorder, self.scene.clock)
        self.retrier = OutageRetrier(self.scene.cache, reopener)

    async def started(self, passes: int = 2) -> list[str]:
        """Run passes; return the events that were re-opened."""
        for _ in range(passes):
            began = self.scene.clock.now()
            for (plural, name), _ in sorted(self.scene.kube.objects.items()):
                if plural == "envelopeevents":
                    await self.retrier.retry_if_over(self.scene.kube.stored(name))
            self.retrier.pass_finished(began)
        stored = (each for each in self.scene.kube.objects.items() if each[0][0] == "envelopeevents")
        return sorted(name for (_, name), raw in stored if raw["status"].get("phase", "Pending") == "Pending")


CAUSES = pytest.mark.parametrize("cause", ["EsawFailing", "SymbolicLink"])


@CAUSES
async def test_what_failed_while_nothing_succeeded_starts_again_after_the_next_success(cause: str) -> None:
    failed = [given_up(each, cause).build() for each in (1, 2)]
    before = archived_at(3, NOON - timedelta(days=2))
    assert await OutageScene(*failed, before).started() == []
    scene = OutageScene(*failed, before, archived_at(4, LATER))
    assert await scene.started(passes=1) == [], "a pass has to find what succeeded"
    assert await scene.started(passes=1) == sorted(each.name for each in failed)
    stored = scene.scene.kube.stored(failed[0].name)
    assert (stored.status.reason, stored.status.attempts) == ("CauseSolved", 0)


@CAUSES
async def test_the_process_that_saw_the_outage_may_end_before_its_events_start_again(cause: str) -> None:
    scene = OutageScene(given_up(1, cause).build(), archived_at(2, LATER))
    await scene.started(passes=1)
    scene.restart()
    assert len(await scene.started()) == 1


@CAUSES
async def test_what_failed_while_others_succeeded_is_started_by_none_of_them(cause: str) -> None:
    """Two envelopes that fail always, beside others that are archived, would start again each day."""
    failed = [given_up(each, cause).build() for each in (1, 2)]
    meanwhile = archived_at(3, NOON - timedelta(hours=10))
    assert await OutageScene(*failed, meanwhile, archived_at(4, LATER)).started() == []


@CAUSES
async def test_an_envelope_that_fails_always_starts_again_once_however_few_others_there_are(
    cause: str,
) -> None:
    """It had its deadline twice when it ends for the second time."""
    failed = given_up(1, cause, lived=24 + 2 + 24).build()
    assert await OutageScene(failed, archived_at(2, LATER)).started() == []


async def test_a_success_elsewhere_starts_nothing() -> None:
    failed = given_up(1, "SymbolicLink").build()
    assert await OutageScene(failed, archived_at(2, LATER, "other")).started() == []
    elsewhere = archived_at(2, LATER)
    other = replace(elsewhere.spec, organization_ref=LocalObjectReference("other"))
    assert await OutageScene(failed, replace(elsewhere, spec=other)).started() == []


async def test_what_failed_before_its_deadline_or_for_another_cause_waits_for_no_other_success() -> None:
    at_once = event_failed("NameOccupied").created(NOON - timedelta(hours=9)).build()
    other = given_up(2, "FileIdRepeated").build()
    assert await OutageScene(at_once, other, archived_at(3, LATER)).started() == []
