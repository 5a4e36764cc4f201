"""When eSAW itself deletes an envelope that is not archived, and when the warning is due."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from counterfoil.durations import Duration
from counterfoil.resources import (
    IMPORT_WINDOW_LABEL,
    Attempt,
    AttemptOutcome,
    CleanupPolicy,
    EnvelopeSummary,
    EventCopy,
    LastError,
    LastRequest,
    LocalObjectReference,
    Origin,
    Phase,
)
from counterfoil.resources.imports import window_label
from counterfoil.resources.organization import CleanupSpec, OrganizationSpec, Ttl
from counterfoil.resources.request import RequestOutcome
from counterfoil.retention import deletion_time, imminent_deletion, notice_period, removal_time
from tests.support.builders import NOON, EventBuilder, an_event, an_organization

DAY = timedelta(days=1)
DEFAULT_TTL = Ttl()
COMPLETED = EnvelopeSummary(name="Contract", status="Completed")
ACTIVE = EnvelopeSummary(name="Contract", status="Active")


def failed(reason: str = "ArchiveFull") -> EventBuilder:
    return an_event().in_phase(Phase.FAILED, reason)


def a_spec(retention: timedelta | None, ttl: Ttl = DEFAULT_TTL) -> OrganizationSpec:
    """Build the settings of an Organization with these times."""
    kept = None if retention is None else Duration(seconds=retention.total_seconds())
    return replace(an_organization().spec, retention=kept, ttl=ttl)


def unknown() -> EventBuilder:
    """An event whose envelope eSAW never described: it is removed after ``ttl.unknown``."""
    return failed("EnvelopeNotFound")


@pytest.mark.parametrize(
    ("retention", "notice"),
    [(2 * DAY, DAY), (4 * DAY, DAY), (8 * DAY, 2 * DAY), (28 * DAY, 7 * DAY), (3650 * DAY, 7 * DAY)],
)
def test_people_are_notified_a_quarter_before_the_end_but_one_to_seven_days(
    retention: timedelta, notice: timedelta
) -> None:
    assert notice_period(retention) == notice


@pytest.mark.parametrize(
    "event",
    [
        failed(),
        failed("DocumentInDoubt").with_condition("Archived"),
        an_event(),
        an_event().in_phase(Phase.AWAITING_CONSENT, "TokenRejected"),
        an_event().in_phase(Phase.PENDING, "Suspended"),
        an_event().in_phase(Phase.ARCHIVING, "ArchiveUnreachable").status(envelope=COMPLETED),
        an_event().by(Origin.SWEEP),
    ],
)
def test_what_is_not_archived_is_deleted_the_retention_after_the_callback(event: EventBuilder) -> None:
    assert deletion_time(event.build(), 90 * DAY) == NOON + 90 * DAY


@pytest.mark.parametrize(
    "event",
    [
        an_event().in_phase(Phase.SUCCEEDED, "ArchivedAndKept"),
        an_event().in_phase(Phase.SKIPPED, "UnexpectedStatus"),
        an_event().in_phase(Phase.CLEANING, "CleanupDelayed").with_condition("Archived"),
        an_event().in_phase(Phase.VALIDATING, "StillActive").status(envelope=ACTIVE),
        failed("EnvelopeDeleted"),
        failed("DeadlineExceeded").status(
            last_error=LastError(reason="EnvelopeDeleted", message="", time=NOON)
        ),
        failed("DeadlineExceeded").status(envelope=ACTIVE),
    ],
)
def test_nobody_is_notified_of_what_is_archived_or_gone_or_not_finished(event: EventBuilder) -> None:
    assert deletion_time(event.build(), 90 * DAY) is None


EXPIRED = EnvelopeSummary(name="Contract", status="Expired")


@pytest.mark.parametrize(
    ("reason", "planned"), [("EsawUnreachable", NOON + 91 * DAY), ("CleanupDelayed", None)]
)
def test_an_envelope_that_was_archived_as_expired_is_warned_about_if_esaw_deletes_it_before_it_is_asked_again(
    reason: str, planned: datetime | None
) -> None:
    """It can be signed until then, and its event ends as EnvelopeDeleted."""
    event = an_event().in_phase(Phase.CLEANING, reason).with_condition("Archived")
    event = event.status(envelope=EXPIRED, next_attempt_time=planned)
    assert deletion_time(event.build(), 90 * DAY) == NOON + 90 * DAY


@pytest.mark.parametrize("envelope", [EXPIRED, COMPLETED])
def test_nobody_is_warned_about_an_archived_envelope_whose_delete_comes_before_the_end_of_the_retention(
    envelope: EnvelopeSummary,
) -> None:
    event = an_event().in_phase(Phase.CLEANING, "CleanupDelayed").with_condition("Archived")
    event = event.status(envelope=envelope, next_attempt_time=NOON + 89 * DAY)
    assert deletion_time(event.build(), 90 * DAY) is None


@pytest.mark.parametrize(
    "event",
    [
        failed("DeadlineExceeded").status(
            last_error=LastError(reason="EsawUnreachable", message="", time=NOON)
        ),
        failed("SenderOfOtherOrganization"),
        failed("ArchivedFilesLost"),
    ],
)
def test_nobody_is_warned_about_a_failed_event_whose_files_are_archived_or_whose_envelope_is_gone(
    event: EventBuilder,
) -> None:
    assert deletion_time(event.with_condition("Archived").build(), 90 * DAY) is None


def test_an_archived_envelope_with_missing_evidence_gets_a_warning_after_any_last_failure() -> None:
    event = failed("NotPermitted").with_condition("Archived")
    event = event.with_condition("EvidenceComplete", "False", "AuditTrailMissing")
    assert deletion_time(event.build(), 90 * DAY) == NOON + 90 * DAY


@pytest.mark.parametrize("reason", ["AuditTrailMissing", "DocumentInDoubt", "FilesKeepChanging"])
def test_an_archived_envelope_of_which_something_may_be_missing_is_warned_about(reason: str) -> None:
    event = failed(reason).with_condition("Archived")
    assert deletion_time(event.build(), 90 * DAY) == NOON + 90 * DAY


@pytest.mark.parametrize(
    "cause",
    ["ArchiveRootChanged", "ArchiveUnreachable", "ArchivedFilesChanged", "StoredWrong", "InternalError"],
)
def test_a_deadline_that_ended_because_of_the_archive_is_warned_about(cause: str) -> None:
    error = LastError(reason=cause, message="", time=NOON)
    event = failed("DeadlineExceeded").status(last_error=error).with_condition("Archived")
    assert deletion_time(event.build(), 90 * DAY) == NOON + 90 * DAY


def test_an_envelope_that_was_not_found_may_be_another_users_and_is_warned_about() -> None:
    assert deletion_time(failed("EnvelopeNotFound").build(), 90 * DAY) == NOON + 90 * DAY


def test_without_a_stated_retention_nobody_is_notified() -> None:
    assert deletion_time(failed().build(), None) is None
    assert imminent_deletion(failed().build(), a_spec(None), NOON + 9999 * DAY) is None


@pytest.mark.parametrize(
    ("event", "ttl", "due"),
    [
        (unknown(), Ttl(), 2 * DAY),
        (unknown(), Ttl(failed=Duration(days=4), unknown=Duration(days=8)), 3 * DAY),
        (failed(), Ttl(failed=Duration(days=28)), 21 * DAY),
        (failed(), Ttl(failed=Duration(days=89)), 82 * DAY),
        (failed(), Ttl(failed=Duration(days=91)), 83 * DAY),
        (failed(), Ttl(), 83 * DAY),
    ],
)
def test_people_are_warned_before_the_event_of_an_envelope_is_removed(
    event: EventBuilder, ttl: Ttl, due: timedelta
) -> None:
    finished, spec = event.status(completion_time=NOON).build(), a_spec(90 * DAY, ttl)
    second = timedelta(seconds=1)
    assert imminent_deletion(finished, spec, NOON + due - second) is None
    assert imminent_deletion(finished, spec, NOON + due) == NOON + 90 * DAY


def test_what_esaw_says_about_the_end_counts_before_the_callback_and_that_before_the_event() -> None:
    finished = EnvelopeSummary(status="Completed", finished_time=NOON - 9 * DAY)
    event = failed().status(first_delivery_time=NOON - DAY)
    assert deletion_time(event.build(), 90 * DAY) == NOON + 89 * DAY
    assert deletion_time(event.status(envelope=finished).build(), 90 * DAY) == NOON + 81 * DAY


def test_the_notice_begins_when_the_last_part_of_the_retention_does_and_does_not_end_with_it() -> None:
    event, end = failed().build(), NOON + 90 * DAY
    second = timedelta(seconds=1)
    assert imminent_deletion(event, a_spec(90 * DAY), end - 7 * DAY - second) is None
    assert imminent_deletion(event, a_spec(90 * DAY), end - 7 * DAY) == end
    assert imminent_deletion(event, a_spec(90 * DAY), end + 30 * DAY) == end


def test_times_after_the_last_date_are_no_times() -> None:
    last = EnvelopeSummary(status="Completed", finished_time=NOON.replace(year=9999, month=12))
    assert deletion_time(failed().status(envelope=last).build(), 90 * DAY) == NOON + 90 * DAY
    assert deletion_time(failed().build(), timedelta.max) is None
    ended = failed().status(completion_time=NOON).build()
    assert removal_time(ended, a_spec(None, Ttl(failed=Duration(days=9_999_999)))) is None


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        # Older than what a sweep lists.
        (timedelta(days=400), timedelta(hours=72)),
        # A sweep lists it for 32 days, counted from the day after the end of the window.
        (timedelta(days=0), timedelta(days=33) - timedelta(hours=12)),
    ],
)
def test_an_imported_event_is_kept_while_a_sweep_may_list_its_envelope(
    sent: timedelta, kept: timedelta
) -> None:
    window = window_label("uid", "anna", 3, NOON - sent)
    event = an_event().by(Origin.IMPORT).labelled(IMPORT_WINDOW_LABEL, window)
    ended = event.in_phase(Phase.SUCCEEDED).status(completion_time=NOON).build()
    assert removal_time(ended, a_spec(None, Ttl())) == NOON + kept


def test_a_retention_that_ended_before_esaw_showed_the_envelope_is_not_believed() -> None:
    spec, old = a_spec(365 * DAY), replace(COMPLETED, finished_time=NOON - 2 * 365 * DAY)
    for event in (skipped(envelope=old), failed().status(envelope=old)):
        imported = event.by(Origin.IMPORT).created(NOON).build()
        assert imminent_deletion(imported, spec, NOON + DAY) is None
        assert removal_time(imported, spec) is None
    shown = failed().created(NOON - 500 * DAY).status(envelope=old).build()
    assert deletion_time(shown, 365 * DAY) == NOON - 365 * DAY


@pytest.mark.parametrize("origin", [Origin.IMPORT, Origin.SWEEP, Origin.MANUAL])
def test_a_skip_of_an_envelope_that_esaw_listed_is_kept_although_it_was_not_found_later(
    origin: Origin,
) -> None:
    event = after_attempt("EnvelopeNotFound", AttemptOutcome.FAIL).by(origin).build()
    assert removal_time(event, a_spec(90 * DAY)) is None


def test_an_imported_event_that_failed_is_kept_as_any_other() -> None:
    window = window_label("uid", "anna", 3, NOON - timedelta(days=400))
    event = an_event().by(Origin.IMPORT).labelled(IMPORT_WINDOW_LABEL, window)
    ended = event.in_phase(Phase.FAILED).status(completion_time=NOON).build()
    assert removal_time(ended, a_spec(None, Ttl())) is None


def test_an_imported_event_without_the_label_of_its_window_is_kept_as_any_other() -> None:
    ended = an_event().by(Origin.IMPORT).in_phase(Phase.SUCCEEDED).status(completion_time=NOON).build()
    assert removal_time(ended, a_spec(None, Ttl())) == NOON + timedelta(hours=792)


def skipped(**status: Any) -> EventBuilder:
    event = an_event().in_phase(Phase.SKIPPED, "SkippedByRequest").status(completion_time=NOON)
    return event.status(**{"skipped_time": NOON, **status})


def requested_skip() -> LastRequest:
    return LastRequest(request="skip", outcome=RequestOutcome.DONE, handled_time=NOON)


@pytest.mark.parametrize(
    "event",
    [
        skipped(),
        skipped(envelope=COMPLETED),
        skipped(skipped_time=None, last_request=requested_skip()),
        skipped(phase=Phase.SUCCEEDED, reason="ArchivedAndKept"),
        skipped(phase=Phase.FAILED, reason="ArchiveFull"),
        skipped(skipped_time=None, reason="UnexpectedStatus").suspended(),
        skipped().by(Origin.IMPORT),
    ],
)
def test_an_event_whose_removal_would_let_a_callback_delete_the_envelope_is_not_removed(
    event: EventBuilder,
) -> None:
    spec = a_spec(None, Ttl(failed=Duration(days=40)))
    assert removal_time(event.build(), spec) is None


@pytest.mark.parametrize("event", [skipped(), skipped().by(Origin.IMPORT), skipped(envelope=COMPLETED)])
def test_a_skipped_event_is_kept_by_the_policy_keep_which_may_become_delete(event: EventBuilder) -> None:
    spec = replace(a_spec(None), cleanup=CleanupSpec(policy=CleanupPolicy.KEEP))
    assert removal_time(event.build(), spec) is None


def attempt(reason: str, outcome: AttemptOutcome) -> Attempt:
    return Attempt(
        phase=Phase.VALIDATING, start_time=NOON, duration_seconds=1, outcome=outcome, reason=reason
    )


def after_attempt(reason: str, outcome: AttemptOutcome) -> EventBuilder:
    last = LastError(reason=reason, message="", time=NOON)
    return skipped(last_error=last, attempt_history=(attempt(reason, outcome),))


def test_a_skipped_event_is_kept_whose_envelope_esaw_did_not_show_in_one_answer() -> None:
    """The default Sender was wrong, or the callback was faster than eSAW's own list."""
    waiting = after_attempt("EnvelopeNotFound", AttemptOutcome.WAIT)
    assert removal_time(waiting.build(), a_spec(90 * DAY)) is None


def test_a_skipped_event_is_removed_only_if_its_envelope_is_gone_with_any_stated_retention() -> None:
    spec = a_spec(2 * DAY)
    for envelope in (COMPLETED, None, ACTIVE, EXPIRED):
        assert removal_time(skipped(envelope=envelope).build(), spec) is None
    for reason in ("EnvelopeDeleted", "EnvelopeNotFound"):
        gone = after_attempt(reason, AttemptOutcome.FAIL)
        assert removal_time(gone.build(), spec) == NOON + 33 * DAY
    hidden = LastError(reason="EnvelopeNotFound", message="", time=NOON)
    assert removal_time(skipped(last_error=hidden, envelope=EXPIRED).build(), spec) is None


COPIED_SPEC = an_organization(
    copies=[{"archiveRef": {"name": "worm"}}, {"archiveRef": {"name": "mirror"}, "required": False}]
).spec
MADE = EventCopy(ref=LocalObjectReference(name="worm"), verified_time=NOON)
SUSPENDED = EventCopy(ref=LocalObjectReference(name="mirror"), reason="ArchiveSuspended")
GIVEN_UP = replace(SUSPENDED, reason="ArchiveUnreachable", attempts=40)


def lacking(*copies: EventCopy, phase: Phase = Phase.SUCCEEDED) -> EventBuilder:
    """An event whose run ended without a copy."""
    ended = an_event().in_phase(phase).status(completion_time=NOON, copies=copies)
    return ended.with_condition("Archived").with_condition("Copied", "False", "OptionalCopyMissing")


@pytest.mark.parametrize(
    "event",
    [
        lacking(MADE, SUSPENDED),
        lacking(MADE, replace(SUSPENDED, reason="ArchiveUnreachable", attempts=1)),
        lacking(MADE, SUSPENDED).by(Origin.IMPORT),
        lacking(GIVEN_UP),
    ],
    ids=["suspended", "failed once", "imported", "one of two given up"],
)
def test_an_event_is_not_removed_while_a_copy_of_it_is_tried_again(event: EventBuilder) -> None:
    """Afterwards nothing proves what may be copied."""
    assert removal_time(event.build(), COPIED_SPEC) is None


@pytest.mark.parametrize(
    ("event", "spec"),
    [
        (lacking(MADE, replace(SUSPENDED, verified_time=NOON)), COPIED_SPEC),
        (lacking(MADE, GIVEN_UP), COPIED_SPEC),
        (lacking(MADE, SUSPENDED), a_spec(None)),
        (lacking(MADE).with_condition("Copied"), COPIED_SPEC),
        (lacking(MADE, SUSPENDED, phase=Phase.SKIPPED), COPIED_SPEC),
        (
            lacking(SUSPENDED, phase=Phase.FAILED),
            replace(COPIED_SPEC, ttl=Ttl(failed=Duration(days=33))),
        ),
    ],
    ids=["all made", "given up", "not wanted", "added later", "archived as Expired", "failed"],
)
def test_a_copy_that_is_not_tried_again_keeps_no_event(event: EventBuilder, spec: OrganizationSpec) -> None:
    assert removal_time(event.build(), spec) == NOON + 33 * DAY


def test_the_time_to_live_begins_again_with_the_last_try_of_a_copy_that_is_given_up_late() -> None:
    tried = replace(GIVEN_UP, last_attempt_time=NOON + 90 * DAY)
    assert removal_time(lacking(MADE, tried).build(), COPIED_SPEC) == NOON + (90 + 33) * DAY
    never = replace(GIVEN_UP, last_attempt_time=NOON.replace(year=9999, month=12, day=31))
    assert removal_time(lacking(MADE, never).build(), COPIED_SPEC) is None
