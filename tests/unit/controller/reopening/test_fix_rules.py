"""Which change can solve which problem, and which fix came since an event failed."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from controller.cache import Cache
from controller.reopening.fix_rules import (
    archive_may_fix,
    envelope_access,
    find_fix,
    fixed_at,
    organization_may_fix,
    organization_recovery_may_fix,
    organization_spec_may_fix,
    sender_may_fix,
    settled_time,
    spec_observed_time,
)
from counterfoil.resources import (
    SENDER_LABEL,
    Archive,
    ArchiveStatus,
    Condition,
    EnvelopeAccess,
    EnvelopeEvent,
    EnvelopeEventStatus,
    EnvelopeSummary,
    LastError,
    LocalObjectReference,
    Organization,
    OrganizationStatus,
    Phase,
    Sender,
    SenderKey,
    SenderReference,
)
from counterfoil.resources.routes import Choice
from tests.support.builders import ANNA, NOON, EventBuilder, a_sender, an_event, an_organization
from tests.support.fakes.reconcile_context import an_archive
from tests.support.work import steps_of

BEFORE, AFTER = NOON - timedelta(seconds=1), NOON + timedelta(seconds=1)
LONG_AGO = NOON - timedelta(days=30)
NOW = NOON + timedelta(minutes=1)
ANOTHER_USER = "0a7c2c11-5f0e-4d3a-9a61-6f2b8e1d4c55"


def conditions(**truths: Any) -> tuple[Condition, ...]:
    return tuple(
        Condition(type=each, status=truth, reason="Tested", message="", last_transition_time=LONG_AGO)
        for each, truth in truths.items()
    )


def with_reason(found: tuple[Condition, ...], reason: str) -> tuple[Condition, ...]:
    return tuple(replace(each, reason=reason) if each.type == "Ready" else each for each in found)


def an_archive_settled(at: datetime | None, truth: str = "True", generation: int = 1) -> Archive:
    status = ArchiveStatus(observed_generation=1, conditions=conditions(Ready=truth), settled_time=at)
    return replace(an_archive(generation=generation), status=status)


def an_organization_settled(
    at: datetime | None, reachable: str = "True", generation: int = 1, spec_changed: datetime | None = None
) -> Organization:
    truths = conditions(Ready="True", Reachable=reachable)
    status = OrganizationStatus(
        observed_generation=1, conditions=truths, settled_time=at, spec_observed_time=spec_changed
    )
    return replace(an_organization(generation=generation), status=status)


def a_sender_with(name: str = "anna", *, authorized: Any = "True", **key: Any) -> Sender:
    sender = a_sender(name)
    return replace(
        sender,
        status=replace(sender.status, conditions=conditions(Authorized=authorized), key=SenderKey(**key)),
    )


def a_cache(*resources: Organization | Archive | Sender) -> Cache:
    cache = Cache()
    cache.organizations.put(an_organization_settled(LONG_AGO))
    cache.archives.put(an_archive_settled(LONG_AGO))
    cache.senders.put(a_sender_with())
    for each in resources:
        shelf: Any = {
            "Organization": cache.organizations,
            "Archive": cache.archives,
            "Sender": cache.senders,
        }[each.KIND]
        shelf.remove(each.name)
        shelf.put(each)
    return cache


def failed(reason: str) -> EventBuilder:
    """An event of Anna's that failed at noon, and a little."""
    ended = NOON + timedelta(milliseconds=700)
    return (
        an_event().in_phase(Phase.FAILED, reason).labelled(SENDER_LABEL, "anna").status(completion_time=ended)
    )


def fixed(event: EnvelopeEvent, cache: Cache) -> str | None:
    found = find_fix(event, cache, NOW)
    return f"{found.KIND}/{found.name}" if found is not None else None


ARCHIVE, ORGANIZATION, SENDER = (
    an_archive_settled(AFTER),
    an_organization_settled(AFTER),
    a_sender_with(verified_time=AFTER),
)


@pytest.mark.parametrize(
    ("reason", "resource", "found"),
    [
        ("TagMissing", ARCHIVE, "Archive/dms"),
        ("ArchiveFull", ARCHIVE, "Archive/dms"),
        ("EsawRefused", ORGANIZATION, "Organization/acme"),
        ("SenderUnknown", ORGANIZATION, "Organization/acme"),
        ("NotPermitted", SENDER, "Sender/anna"),
        ("SenderMissing", SENDER, "Sender/anna"),
        # What can't solve it
        ("EsawRefused", ARCHIVE, None),
        ("NotPermitted", ORGANIZATION, None),
        ("TagMissing", SENDER, None),
        ("EnvelopeNotFound", ARCHIVE, None),
        # Another key of the same user shows the same envelopes.
        ("EnvelopeNotFound", SENDER, None),
        ("InternalError", ORGANIZATION, None),
        ("Skipped", SENDER, None),
    ],
)
def test_only_what_may_solve_the_cause_counts(reason: str, resource: Any, found: str | None) -> None:
    assert fixed(failed(reason).build(), a_cache(resource)) == found


@pytest.mark.parametrize("reason", ["AuditTrailMissing", "V5EnvelopeKept", "TagMissing", "ArchiveFull"])
@pytest.mark.parametrize(
    ("organization", "found"),
    [
        # It works again, with the same spec.
        (an_organization_settled(AFTER), None),
        (an_organization_settled(AFTER, spec_changed=BEFORE), None),
        (an_organization_settled(AFTER, spec_changed=AFTER), "Organization/acme"),
        (an_organization_settled(AFTER, "False", spec_changed=AFTER), None),
        (an_organization_settled(AFTER, generation=2, spec_changed=AFTER), None),
    ],
)
def test_what_only_another_spec_can_change_is_retried_after_a_new_spec_alone(
    reason: str, organization: Organization, found: str | None
) -> None:
    assert fixed(failed(reason).build(), a_cache(organization)) == found


def an_organization_with_access(access: EnvelopeAccess | None, truth: str = "True") -> Organization:
    """An Organization whose spec changed, and which works, since the event failed."""
    organization = an_organization_settled(AFTER, truth, spec_changed=AFTER)
    return replace(organization, status=replace(organization.status, envelope_access=access))


def access(at: datetime | None, **other: str) -> EnvelopeAccess:
    """The access to envelopes of ``an_organization``, known since ``at``."""
    spec = an_organization().spec
    known = EnvelopeAccess(base_url=spec.base_url, default_sender="anna", observed_time=at)
    return replace(known, **other)


@pytest.mark.parametrize(
    ("organization", "found"),
    [
        (an_organization_with_access(access(AFTER)), "Organization/acme"),
        (an_organization_with_access(access(AFTER), "False"), None),
        # The spec is another, such as another callback token; who looks at the envelope is the same.
        (an_organization_with_access(access(BEFORE)), None),
        (an_organization_with_access(access(None)), None),
        (an_organization_with_access(None), None),
    ],
)
def test_an_envelope_that_was_not_found_is_retried_after_another_esaw_or_default_sender_alone(
    organization: Organization, found: str | None
) -> None:
    assert fixed(failed("EnvelopeNotFound").build(), a_cache(organization)) == found


@pytest.mark.parametrize(
    ("before", "since"),
    [
        (access(LONG_AGO), LONG_AGO),
        (access(None), None),
        (access(LONG_AGO, base_url="https://other.example"), NOON),
        (access(LONG_AGO, default_sender="ben"), NOON),
        (replace(access(LONG_AGO), default_sender=None), NOON),
        (access(NOON + timedelta(days=30)), NOON),
        # A status of an earlier version: the current spec may have changed it.
        (None, BEFORE),
    ],
)
def test_the_access_to_envelopes_is_new_when_the_esaw_or_the_default_sender_is(
    before: EnvelopeAccess | None, since: datetime | None
) -> None:
    organization = an_organization_with_access(before)
    found = envelope_access(organization, BEFORE, now=NOON + timedelta(milliseconds=3))
    assert found == access(since)


@pytest.mark.parametrize(
    ("known", "status", "now_known"),
    [
        (1, OrganizationStatus(observed_generation=2), NOON),
        (1, OrganizationStatus(observed_generation=1), LONG_AGO),
        (None, OrganizationStatus(observed_generation=1), NOON),
    ],
)
def test_the_time_of_a_new_spec_is_that_of_its_first_observation(
    known: int | None, status: OrganizationStatus, now_known: datetime
) -> None:
    before = OrganizationStatus(observed_generation=known, spec_observed_time=LONG_AGO)
    assert spec_observed_time(before, status, now=NOON + timedelta(milliseconds=3)) == now_known


@pytest.mark.parametrize(
    ("settled", "found"),
    [
        (None, None),
        (LONG_AGO, None),
        (BEFORE, None),
        # Nobody can tell which of the two came first.
        (NOON, "Archive/dms"),
        (AFTER, "Archive/dms"),
    ],
)
def test_only_what_was_fixed_after_the_event_failed_counts(
    settled: datetime | None, found: str | None
) -> None:
    assert fixed(failed("TagMissing").build(), a_cache(an_archive_settled(settled))) == found


OLDER = an_organization("a-globex", baseURL="https://other.example.com")
ONE_FOLDER = "{{envelope.id}}/{{file.name}}"


@pytest.mark.parametrize(
    ("others", "path", "found"),
    [
        ((OLDER,), ONE_FOLDER, None),
        ((), ONE_FOLDER, "Organization/acme"),
        ((replace(OLDER, spec=replace(OLDER.spec, archive_ref=None)),), ONE_FOLDER, "Organization/acme"),
        ((OLDER,), "{{organization}}/{{envelope.id}}/{{file.name}}", "Organization/acme"),
    ],
)
def test_an_event_that_failed_for_shared_folders_starts_when_no_older_organization_has_them(
    others: tuple[Organization, ...], path: str, found: str | None
) -> None:
    """The older one may have left them, or be gone: nothing of the own objects shows when."""
    error = LastError(reason="ArchiveShared", message="", time=NOON)
    event = failed("DeadlineExceeded").status(last_error=error).build()
    cache = a_cache(replace(an_archive(path=path), status=an_archive_settled(LONG_AGO).status))
    for each in others:
        cache.organizations.put(each)
    assert fixed(event, cache) == found


def test_an_event_that_failed_in_an_archive_outside_of_the_spec_waits_for_that_archive() -> None:
    """It followed another event of its envelope, so it would fail there again."""
    older = replace(OLDER, spec=replace(OLDER.spec, archive_ref=LocalObjectReference(name="vault")))
    chosen = failed("ArchiveShared").status(archive=Choice("vault", "gone").location).build()
    vault = an_archive("vault", path=ONE_FOLDER)
    cache = a_cache(replace(vault, status=an_archive_settled(LONG_AGO).status))
    cache.organizations.put(older)
    assert fixed(chosen, cache) is None
    cache.organizations.remove(older.name)
    assert fixed(chosen, cache) == "Organization/acme"


def test_what_fails_again_after_that_is_not_tried_again_for_the_same() -> None:
    cache = a_cache(an_archive_settled(NOON))
    first = failed("TagMissing").build()
    assert fixed(first, cache) == "Archive/dms"
    again = replace(first, status=replace(first.status, completion_time=AFTER))
    assert fixed(again, cache) is None


@pytest.mark.parametrize("phase", [each for each in Phase if each is not Phase.FAILED])
def test_only_what_failed_is_tried_again(phase: Phase) -> None:
    event = failed("TagMissing").status(phase=phase).build()
    assert fixed(event, a_cache(ARCHIVE)) is None


def test_an_event_that_does_not_say_when_it_ended_stays_as_it_is() -> None:
    assert fixed(failed("TagMissing").status(completion_time=None).build(), a_cache(ARCHIVE)) is None


def test_what_was_given_up_counts_by_its_last_failure() -> None:
    error = LastError(reason="ArchiveFull", message="", time=NOON)
    event = failed("DeadlineExceeded").status(last_error=error).build()
    assert fixed(event, a_cache(ARCHIVE)) == "Archive/dms"


def test_the_archive_of_another_organization_does_not_count() -> None:
    other = an_organization_settled(LONG_AGO)
    cache = a_cache(ARCHIVE, replace(other, spec=replace(other.spec, archive_ref=None)))
    assert fixed(failed("TagMissing").build(), cache) is None


def test_without_its_organization_an_event_stays_as_it_is() -> None:
    cache = a_cache(ARCHIVE, SENDER)
    cache.organizations.remove("acme")
    assert fixed(failed("TagMissing").build(), cache) is None


def test_the_key_of_another_sender_does_not_count() -> None:
    cache = a_cache(a_sender_with("ben", verified_time=AFTER))
    assert fixed(failed("NotPermitted").build(), cache) is None


@pytest.mark.parametrize(
    ("cause", "user", "found"),
    [
        ("SenderMissing", ANNA, "Sender/anna"),
        # Not the missing one, which a key of this user does not replace.
        ("SenderMissing", ANOTHER_USER, None),
        # It is the one that was asked.
        ("NotPermitted", ANOTHER_USER, "Sender/anna"),
    ],
)
def test_the_sender_of_another_user_is_no_correction_of_a_missing_one(
    cause: str, user: str, found: str | None
) -> None:
    proved = EnvelopeSummary(
        name="Contract", status="Completed", sender_ref=SenderReference(name="anna", user_id=ANNA)
    )
    event = failed(cause).status(envelope=proved).build()
    sender = replace(a_sender(userID=user), status=SENDER.status)
    assert fixed(event, a_cache(sender)) == found


def test_while_nobody_knows_whose_an_event_is_any_sender_of_its_organization_counts() -> None:
    event = failed("SenderMissing").build()
    del event.metadata.labels[SENDER_LABEL]
    strangers = replace(
        a_sender("carl", organization="other"), status=a_sender_with(verified_time=AFTER).status
    )
    assert fixed(event, a_cache(strangers)) is None
    assert fixed(event, a_cache(a_sender_with("ben", verified_time=AFTER))) == "Sender/ben"


@pytest.mark.parametrize(
    ("resource", "at"),
    [
        (an_archive_settled(NOON), NOON),
        (an_archive_settled(NOON, "False"), None),
        (an_archive_settled(NOON, generation=2), None),
        (an_archive_settled(None), None),
        (an_archive(), None),
        (an_organization_settled(NOON), NOON),
        (an_organization_settled(NOON, "False"), None),
        (an_organization_settled(NOON, generation=2), None),
        (a_sender_with(), LONG_AGO),
        (a_sender_with(obtained_time=NOON, verified_time=BEFORE), NOON),
        (a_sender_with(obtained_time=BEFORE, verified_time=NOON), NOON),
        (a_sender_with(authorized="False", verified_time=NOON), None),
        (a_sender(authorized=None), None),
    ],
)
def test_an_object_is_fixed_since_it_works_with_its_current_configuration(
    resource: Any, at: datetime | None
) -> None:
    assert fixed_at(resource, NOW) == at


WORKS = ArchiveStatus(observed_generation=1, conditions=conditions(Ready="True"), trust_anchors="a" * 64)
BROKEN = replace(WORKS, conditions=conditions(Ready="False"))
ANSWERS = OrganizationStatus(observed_generation=1, conditions=conditions(Ready="True", Reachable="True"))
AWAY = replace(ANSWERS, conditions=conditions(Ready="True", Reachable="False"))
NEARLY_FULL, FULL_AND_AWAY = (
    replace(ANSWERS, conditions=with_reason(conditions(Ready="False", Reachable=reachable), reason))
    for reachable, reason in (("True", "TooManyUnfinishedEvents"), ("False", "TooManyUnknownEnvelopes"))
)


@pytest.mark.parametrize(
    ("before", "after", "is_settled_now"),
    [
        (ArchiveStatus(), WORKS, True),
        (BROKEN, WORKS, True),
        (WORKS, replace(WORKS, observed_generation=2), True),
        (WORKS, replace(WORKS, trust_anchors="b" * 64), True),
        (WORKS, WORKS, False),
        (WORKS, replace(WORKS, bytes_total=7), False),
        (WORKS, BROKEN, False),
        (BROKEN, BROKEN, False),
        (OrganizationStatus(), ANSWERS, True),
        (AWAY, ANSWERS, True),
        (ANSWERS, replace(ANSWERS, observed_generation=2), True),
        (ANSWERS, replace(ANSWERS, version="26.1"), False),
        (ANSWERS, AWAY, False),
        (ANSWERS, replace(ANSWERS, conditions=conditions(Ready="True")), False),
        (ANSWERS, NEARLY_FULL, False),
        (NEARLY_FULL, ANSWERS, False),
        (FULL_AND_AWAY, NEARLY_FULL, True),
        (NEARLY_FULL, replace(NEARLY_FULL, observed_generation=2), True),
    ],
)
@pytest.mark.parametrize("known", [None, LONG_AGO])
def test_an_object_is_settled_when_it_works_with_another_configuration_than_before(
    before: Any, after: Any, is_settled_now: bool, known: datetime | None
) -> None:
    found = settled_time(replace(before, settled_time=known), after, now=NOON + timedelta(milliseconds=3))
    assert found == (NOON if is_settled_now else known)


@pytest.mark.parametrize(
    ("reason", "archive", "organization", "sender"),
    [
        ("ArchiveNotReady", True, True, False),
        ("ArchivePermissionDenied", True, True, False),
        ("NameOccupied", True, True, False),
        ("ListingDiffers", True, True, False),
        ("TagMissing", True, True, False),
        ("MetadataUnreadable", True, True, False),
        ("SettingsInvalid", True, True, False),
        ("ArchiveSecretMissing", True, True, False),
        ("OrganizationMissing", False, True, False),
        ("AuditTrailMissing", False, True, False),
        ("SenderUnknown", False, True, False),
        ("SenderMissing", False, True, True),
        ("SenderOfOtherOrganization", False, True, True),
        ("EsawUnreachable", False, True, False),
        ("NotPermitted", False, False, True),
        ("UnsupportedApiVersion", False, False, False),
        ("V5EnvelopeKept", False, True, False),
        ("EsawV5Unavailable", False, True, False),
        ("EnvelopeNotFound", False, True, False),
        ("NotProven", False, False, False),
        ("InternalError", False, False, False),
        ("", False, False, False),
    ],
)
def test_a_change_is_only_said_to_solve_what_it_can(
    reason: str, archive: bool, organization: bool, sender: bool
) -> None:
    assert archive_may_fix(reason) is archive
    assert organization_may_fix(reason) is organization
    assert organization_spec_may_fix(reason) is (organization and reason != "EnvelopeNotFound")
    is_spec_alone = archive or reason in ("AuditTrailMissing", "EnvelopeNotFound", "V5EnvelopeKept")
    assert organization_recovery_may_fix(reason) is (organization and not is_spec_alone)
    assert sender_may_fix(reason) is sender


def test_the_cause_of_a_given_up_event_is_its_last_failure() -> None:
    error = LastError(reason="ArchiveFull", message="Full.", time=NOON)
    given_up = EnvelopeEventStatus(phase=Phase.FAILED, reason="DeadlineExceeded", last_error=error)
    assert given_up.cause == "ArchiveFull"
    assert (
        EnvelopeEventStatus(phase=Phase.FAILED, reason="TagMissing", last_error=error).cause == "TagMissing"
    )
    assert EnvelopeEventStatus().cause == ""


AHEAD = NOON + timedelta(days=30)


@pytest.mark.parametrize(
    ("settled", "ended", "is_fixed"),
    [(AHEAD, NOON, False), (NOON, AHEAD, True), (BEFORE, AHEAD, False), (AHEAD, AHEAD, False)],
    ids=["fix ahead", "failure ahead", "failure ahead, fixed before its event", "both ahead"],
)
def test_a_time_of_a_clock_that_was_ahead_neither_repeats_nor_prevents_a_retry(
    settled: datetime, ended: datetime, *, is_fixed: bool
) -> None:
    event = failed("ArchiveMissing").status(completion_time=ended).build()
    cache = a_cache(an_archive_settled(settled))
    assert fixed(event, cache) == ("Archive/dms" if is_fixed else None)


def test_the_times_of_a_clock_that_was_ahead_are_replaced() -> None:
    status = replace(ANSWERS, settled_time=AHEAD, spec_observed_time=AHEAD)
    assert settled_time(status, ANSWERS, now=NOON) == NOON
    assert spec_observed_time(status, ANSWERS, now=NOON) == NOON


async def test_a_failure_that_no_sender_caused_costs_the_same_beside_many_senders() -> None:
    steps = dict[int, int]()
    event = an_event().in_phase(Phase.FAILED, "EnvelopeNotFound").status(completion_time=NOON).build()
    for senders in (10, 200):
        cache = Cache()
        cache.update(an_organization())
        for number in range(senders):
            cache.update(a_sender(f"sender-{number}"))

        async def find(cache: Cache = cache) -> None:
            assert find_fix(event, cache, NOW) is None

        steps[senders] = await steps_of(find())
    assert steps[200] == steps[10]
