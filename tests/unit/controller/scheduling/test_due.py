"""When an unfinished event is due, by what it says itself and by what exists around it."""

from datetime import timedelta
from typing import Any

import pytest

from controller.cache import Cache
from controller.scheduling.due import EPOCH, FIRST_PROBE_PAUSE, due_time, is_suspended
from counterfoil.resources import (
    REQUEST_LABEL,
    EnvelopeEvent,
    EnvelopeSummary,
    Phase,
    SenderReference,
)
from tests.support.builders import ANNA, NOON, EventBuilder, a_sender, an_event, an_organization
from tests.support.fakes.reconcile_context import an_archive

LATER = NOON + timedelta(hours=1)
BEN = "0a7c2c11-5f0e-4d3a-9a61-6f2b8e1d4c55"
"""Another user of eSAW."""


def a_cache(*, suspended: bool = False, archive_suspended: bool = False, **sender: object) -> Cache:
    cache = Cache()
    cache.organizations.put(an_organization(suspend=suspended))
    cache.archives.put(an_archive(suspend=archive_suspended))
    cache.senders.put(a_sender(**sender))  # type: ignore[arg-type]
    return cache


def of_anna(cache: Cache, event: EnvelopeEvent) -> EnvelopeEvent:
    cache.sender_of[event.name] = "anna"
    return event


def test_a_new_event_is_due_since_it_was_recorded() -> None:
    assert due_time(an_event().build(), a_cache(), NOON) == NOON


def test_an_event_is_due_at_the_time_that_its_status_names() -> None:
    event = an_event().in_phase(Phase.ARCHIVING, "EsawFailing").status(next_attempt_time=LATER).build()
    assert due_time(event, a_cache(), NOON) == LATER


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.SKIPPED, Phase.FAILED])
def test_a_finished_event_is_never_due(phase: Phase) -> None:
    assert due_time(an_event().in_phase(phase).build(), a_cache(), NOON) is None


def test_an_event_without_its_organization_is_due_so_that_its_status_says_what_is_missing() -> None:
    assert due_time(an_event().build(), Cache(), NOON) == NOON


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.CLEANING, Phase.AWAITING_CONSENT])
def test_an_event_about_which_a_person_asks_waits_until_that_is_carried_out(phase: Phase) -> None:
    event = an_event().in_phase(phase).labelled(REQUEST_LABEL, "skip").build()
    assert due_time(event, a_cache(), NOON) is None


SUSPENSIONS = [
    (an_event().suspended(), a_cache(), "Suspended"),
    (an_event(), a_cache(suspended=True), "OrganizationSuspended"),
    (an_event(), a_cache(suspend=True), "SenderSuspended"),
    (an_event(), a_cache(archive_suspended=True), "ArchiveSuspended"),
]


@pytest.mark.parametrize(("builder", "cache", "reason"), SUSPENSIONS)
def test_an_event_that_a_person_holds_is_looked_at_once_and_then_not_any_more(
    builder: EventBuilder, cache: Cache, reason: str
) -> None:
    event = of_anna(cache, builder.build())
    assert is_suspended(event, cache)
    assert due_time(event, cache, NOON) == EPOCH
    assert due_time(builder.in_phase(Phase.VALIDATING, reason).build(), cache, NOON) is None


@pytest.mark.parametrize(
    "reason", ["Suspended", "OrganizationSuspended", "SenderSuspended", "ArchiveSuspended"]
)
def test_an_event_that_is_held_no_longer_is_due_at_once(reason: str) -> None:
    cache = a_cache()
    event = of_anna(cache, an_event().in_phase(Phase.VALIDATING, reason).build())
    assert due_time(event, cache, NOON) == EPOCH


def test_an_event_that_is_held_in_one_way_and_was_in_another_is_not_due() -> None:
    cache = a_cache(suspended=True)
    assert due_time(an_event().in_phase(Phase.VALIDATING, "Suspended").build(), cache, NOON) is None


def read_by_anna(reason: str = "SenderSuspended") -> EventBuilder:
    seen = EnvelopeSummary(status="Completed", sender_ref=SenderReference(name="anna", user_id=ANNA))
    return an_event().in_phase(Phase.CLEANING, reason).status(envelope=seen)


def test_a_suspended_sender_holds_no_event_that_another_one_reads_by_now() -> None:
    """Anna's key worked again after the event had begun to wait for the Sender of the Envelope."""
    cache, event = a_cache(), read_by_anna().build()
    cache.senders.put(a_sender("ben", suspend=True))
    cache.sender_of[event.name] = cache.recorded_senders[event.name] = "ben"
    assert not is_suspended(event, cache)
    assert due_time(event, cache, NOON) == EPOCH


def test_a_suspended_sender_holds_the_event_that_it_reads_by_now() -> None:
    cache, event = a_cache(suspend=True), read_by_anna().build()
    cache.senders.put(a_sender("ben"))
    cache.sender_of[event.name] = cache.recorded_senders[event.name] = "ben"
    assert is_suspended(event, cache)
    assert due_time(event, cache, NOON) is None


def test_another_users_sender_of_the_name_holds_no_event() -> None:
    cache, event = a_cache(suspend=True, userID=BEN, version=2), read_by_anna("SenderMissing").build()
    cache.organizations.put(an_organization(version=2, defaultSenderRef=None))
    cache.sender_of[event.name] = "anna"
    assert not is_suspended(event, cache)


@pytest.mark.parametrize("cache", [a_cache(archive_suspended=True), a_cache(suspend=True)])
def test_an_event_whose_run_does_not_end_as_suspended_is_not_due_again_and_again(cache: Cache) -> None:
    """The preconditions come to neither the sender nor the archive of these events."""
    unlisted = of_anna(
        cache,
        an_event().for_action("envelopeClosed").in_phase(Phase.VALIDATING, "ActionNotConfigured").build(),
    )
    assert due_time(unlisted, cache, NOON) is None
    cache.organizations.put(
        an_organization(version=2, actions=[{"action": "envelopeClosed", "handling": "Record"}])
    )
    assert not is_suspended(unlisted, cache)
    cache.organizations.remove("acme")
    waiting = an_event().in_phase(Phase.VALIDATING, "OrganizationMissing").status(next_attempt_time=LATER)
    assert due_time(of_anna(cache, waiting.build()), cache, NOON) == LATER
    cache.organizations.put(an_organization())


def test_an_event_whose_action_is_not_configured_is_due_when_it_is_listed_again() -> None:
    held = an_event().for_action("envelopeClosed").in_phase(Phase.VALIDATING, "ActionNotConfigured").build()
    cache = a_cache()
    assert due_time(held, cache, NOON) is None
    cache.organizations.put(an_organization(version=2, actions=[{"action": "EnvelopeClosed"}]))
    assert due_time(held, cache, NOON) == EPOCH
    assert due_time(held, Cache(), NOON) == EPOCH, "then its status says that the Organization is missing"


def test_an_event_whose_archiving_had_begun_is_due_when_its_action_is_archived_again() -> None:
    held = an_event().in_phase(Phase.ARCHIVING, "ActionNotConfigured").build()
    cache = a_cache()
    recorded = [{"action": "envelopeFinished", "handling": "Record"}]
    cache.organizations.put(an_organization(version=2, actions=recorded))
    assert due_time(held, cache, NOON) is None
    cache.organizations.put(an_organization(version=3))
    assert due_time(held, cache, NOON) == EPOCH


def test_an_event_that_waits_for_consent_is_due_when_its_senders_key_works() -> None:
    event = an_event().in_phase(Phase.AWAITING_CONSENT, "TokenRejected").build()
    for authorized, expected in (("False", None), (None, None), ("True", EPOCH)):
        cache = a_cache(authorized=authorized)
        assert due_time(of_anna(cache, event), cache, NOON) == expected


def test_after_a_restart_it_is_known_from_the_status_whose_key_an_event_waits_for() -> None:
    seen = EnvelopeSummary(status="Completed", sender_ref=SenderReference(name="anna", user_id=ANNA))
    event = an_event().in_phase(Phase.AWAITING_CONSENT).status(envelope=seen).build()
    assert due_time(event, a_cache(authorized="False"), NOON) is None


def test_an_event_whose_sender_is_not_known_yet_or_gone_is_looked_at() -> None:
    event = an_event().in_phase(Phase.AWAITING_CONSENT).build()
    assert due_time(event, a_cache(authorized="False"), NOON) == EPOCH
    cache = Cache()
    assert due_time(of_anna(cache, event), cache, NOON) == EPOCH


@pytest.mark.parametrize(
    ("reason", "settings", "pause", "is_believed"),
    [
        ("EsawFailing", {}, timedelta(hours=2), True),
        ("EsawFailing", {}, timedelta(hours=3), False),
        ("EsawFailing", {"retry": {"max": "6h"}}, timedelta(hours=3), True),
        ("EsawFailing", {"cleanup": {"policy": "Delete", "after": "720h"}}, timedelta(days=29), False),
        ("CleanupDelayed", {"cleanup": {"policy": "Delete", "after": "720h"}}, timedelta(days=29), True),
        ("CleanupDelayed", {"cleanup": {"policy": "Delete", "after": "720h"}}, timedelta(days=31), False),
        ("ArchiveNotProbed", {"retry": {"max": "1s"}, "evidence": {"wait": "0s"}}, FIRST_PROBE_PAUSE, True),
        ("AuditTrailPending", {"evidence": {"wait": "24h"}}, timedelta(hours=23), True),
        ("AuditTrailPending", {"evidence": {"wait": "24h"}}, timedelta(days=30), False),
    ],
)
def test_a_next_attempt_beyond_what_the_settings_allow_is_due_at_once(
    reason: str, settings: dict[str, Any], pause: timedelta, *, is_believed: bool
) -> None:
    cache = a_cache()
    cache.organizations.remove("acme")
    cache.organizations.put(an_organization(**settings))
    event = an_event().in_phase(Phase.CLEANING, reason).status(next_attempt_time=NOON + pause).build()
    assert due_time(event, cache, NOON) == (NOON + pause if is_believed else NOON)


def test_without_its_organization_the_defaults_bound_the_next_attempt() -> None:
    event = an_event().in_phase(Phase.PENDING, "OrganizationMissing")
    assert due_time(event.status(next_attempt_time=NOON + timedelta(days=30)).build(), Cache(), NOON) == NOON
