"""``kubectl counterfoil why``: where each copy is, or why it is missing."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from msgspec.structs import replace

from counterfoil.cli.plugin.why import EventExplanation, explain, page
from counterfoil.i18n.reasons import find_reason
from counterfoil.resources import EventCopy, LocalObjectReference, Phase
from counterfoil.resources.conditions import ConditionStatus
from tests.support.builders import NOON, an_event, an_organization

WORM = EventCopy(
    ref=LocalObjectReference(name="worm"),
    manifest="s3://worm/counterfoil.json",
    verified_time=NOON,
    documents="0" * 64,
)
MIRROR = EventCopy(
    ref=LocalObjectReference(name="mirror"),
    reason="ArchiveUnreachable",
    message="It is down.",
    attempts=2,
    last_attempt_time=NOON,
    next_attempt_time=NOON + timedelta(minutes=5),
)


def lines(*copies: EventCopy) -> list[str]:
    event = an_event().status(copies=copies).build()
    copied = an_organization(copies=[{"archiveRef": each.ref} for each in copies])
    text = page(explain(event, copied, None, (), NOON))
    return [line.removeprefix("Copy").strip() for line in text.splitlines() if line.startswith("Copy ")]


def test_each_copy_is_named_with_its_state() -> None:
    assert lines(WORM, MIRROR) == [
        "Archive/worm, verified 2026-07-01 12:00:00 UTC: s3://worm/counterfoil.json",
        "Archive/mirror, missing: ArchiveUnreachable, next attempt in 5m (2026-07-01 12:05:00 UTC). "
        "It is down.",
    ]


def test_an_event_without_copies_says_nothing_about_them() -> None:
    assert lines() == []


GIVEN_UP = replace(MIRROR, attempts=40, next_attempt_time=None)
SUSPENDED = replace(
    MIRROR, reason="ArchiveSuspended", attempts=0, last_attempt_time=None, next_attempt_time=None
)
NOTE = "# If nothing prevents the missing copies any more:"


def explained(
    *copies: EventCopy,
    names: Sequence[str] = ("worm", "mirror"),
    phase: Phase = Phase.SUCCEEDED,
    copied: str = "CopyMissing",
) -> EventExplanation:
    """Explain an archived event whose Organization has copies in these Archives."""
    truth: ConditionStatus = "True" if copied == "CopiesVerified" else "False"
    built = an_event().archived().with_condition("Copied", truth, copied).with_condition("Cleaned")
    built = built.in_phase(phase, "ArchivedAndDeleted")
    organization = an_organization(copies=[{"archiveRef": {"name": each}} for each in names])
    return explain(built.status(copies=copies, completion_time=NOON).build(), organization, None, (), NOON)


@pytest.mark.parametrize(
    ("copies", "copied"),
    [((WORM, GIVEN_UP), "CopyMissing"), ((WORM,), "CopiesVerified")],
    ids=["given up", "added later"],
)
def test_a_copy_that_is_not_tried_again_is_asked_for_by_a_command(
    copies: Sequence[EventCopy], copied: str
) -> None:
    why = explained(*copies, copied=copied)
    assert why.commands == (NOTE, f"kubectl counterfoil -n tests copy {why.event}")
    assert f"To type       {NOTE}" in page(why)


@pytest.mark.parametrize(
    ("copies", "names", "phase"),
    [
        ((WORM, MIRROR), ("worm", "mirror"), Phase.SUCCEEDED),
        ((WORM,), ("worm",), Phase.SUCCEEDED),
        ((WORM, GIVEN_UP), ("worm",), Phase.SUCCEEDED),
        ((WORM, GIVEN_UP), ("worm", "mirror"), Phase.COPYING),
    ],
    ids=["tried again", "all verified", "not wanted any more", "in progress"],
)
def test_no_command_is_printed_where_no_request_is_needed(
    copies: Sequence[EventCopy], names: Sequence[str], phase: Phase
) -> None:
    assert explained(*copies, names=names, phase=phase).commands == ()


def test_a_former_copy_is_not_called_missing_where_the_organization_could_not_be_read() -> None:
    former = EventCopy(ref=MIRROR.ref, manifest="file:///mirror/counterfoil.json")
    assert len(explain(an_event().status(copies=(WORM, former)).build(), None, None, (), NOON).copies) == 1


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.SKIPPED, Phase.CLEANING])
def test_a_copy_that_is_wanted_no_more_is_not_said_to_be_made(phase: Phase) -> None:
    why = explained(WORM, replace(GIVEN_UP, next_attempt_time=NOON), names=("worm",), phase=phase)
    assert all("no attempt is planned, since spec.copies does not name it" in each for each in why.copies[1:])


def test_a_copy_that_was_added_later_is_listed_as_missing() -> None:
    why = explained(WORM, copied="CopiesVerified")
    assert why.copies[1:] == ("Archive/mirror, missing: not tried yet, no attempt is planned.",)


def test_no_copy_of_an_event_in_progress_is_said_to_have_no_attempt() -> None:
    (text,) = explained(GIVEN_UP, names=("mirror",), phase=Phase.COPYING).copies
    assert "tried in the next attempt of the event" in text


def advice(*reasons: str) -> str:
    return " ".join(find_reason(each).localized_text().do for each in reasons)


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED])
def test_an_administrator_has_to_act_about_a_copy_that_was_given_up(phase: Phase) -> None:
    why = explained(WORM, GIVEN_UP, phase=phase)
    assert why.turn == "an administrator"
    assert why.do == advice("CopyGivenUp", "ArchiveUnreachable")


def test_an_administrator_has_to_act_about_it_also_if_the_organization_could_not_be_read() -> None:
    event = an_event().in_phase(Phase.SUCCEEDED, "ArchivedAndKept").status(copies=(WORM, GIVEN_UP))
    event = event.with_condition("Copied", "False", "CopyGivenUp")
    why = explain(event.build(), None, None, (), NOON)
    assert why.turn == "an administrator"
    assert why.do == advice("CopyGivenUp", "ArchiveUnreachable")


def test_each_copy_that_was_given_up_has_the_advice_of_its_reason() -> None:
    lost = replace(GIVEN_UP, ref=WORM.ref, reason="OriginalDiffers")
    assert explained(lost, GIVEN_UP).do == advice("CopyGivenUp", "OriginalDiffers", "ArchiveUnreachable")
    assert explained(lost, MIRROR).do == advice("CopyGivenUp", "OriginalDiffers")
    of_one_archive = (lost, replace(lost, ref=MIRROR.ref))
    assert explained(*of_one_archive).do == advice("CopyGivenUp", "OriginalDiffers")


@pytest.mark.parametrize("reason", ["QuotaOfAnotherPackage", "WaitingForArchive", None])
def test_a_reason_that_is_unknown_or_of_no_person_adds_no_advice(reason: str | None) -> None:
    assert explained(WORM, replace(GIVEN_UP, reason=reason)).do == advice("CopyGivenUp")


@pytest.mark.parametrize("copies", [(WORM,), (WORM, MIRROR), (WORM, SUSPENDED)])
def test_nobody_has_to_act_about_a_copy_that_is_tried_again(copies: Sequence[EventCopy]) -> None:
    why = explained(*copies)
    assert (why.turn, why.do) == ("nobody has to act", "")


def test_nobody_has_to_act_about_a_copy_after_a_skip_that_gave_it_up() -> None:
    why = explained(WORM, GIVEN_UP, phase=Phase.SKIPPED, copied="OptionalCopyMissing")
    assert why.turn == "nobody has to act"


def test_a_copy_that_was_tried_is_not_said_to_be_untried_while_the_first_archive_is_unread() -> None:
    wiped = replace(MIRROR, reason=None, message=None, last_attempt_time=None, next_attempt_time=None)
    (text,) = explained(wiped, names=("mirror",), phase=Phase.COPYING).copies
    assert text == "Archive/mirror, missing: not made yet, tried in the next attempt of the event."


def test_the_copy_that_a_suspension_prevents_is_said_to_be_tried_again_and_asked_for_by_no_command() -> None:
    why = explained(WORM, SUSPENDED)
    assert why.copies[1] == (
        "Archive/mirror, missing: ArchiveSuspended, tried again as soon as nothing prevents it. It is down."
    )
    assert why.commands == ()


def test_a_required_copy_that_was_added_before_the_delete_is_made_before_it() -> None:
    delayed = an_event().archived().with_condition("Copied", "True", "CopiesVerified")
    event = delayed.in_phase(Phase.CLEANING, "CleanupDelayed").status(copies=(WORM,)).build()
    copies = [{"archiveRef": {"name": "mirror"}, "required": True}, {"archiveRef": {"name": "worm"}}]
    why = explain(event, an_organization(copies=copies), None, (), NOON)
    assert why.copies[1] == ("Archive/mirror, missing: not tried yet, made before the envelope is deleted.")
    assert why.commands == ()
    kept = an_organization(copies=copies, cleanup={"policy": "Keep"})
    (asked,) = explain(event, kept, None, (), NOON).commands[1:]
    assert "copy" in asked


def test_a_missing_copy_of_an_archived_event_that_waits_for_a_consent_is_listed() -> None:
    built = an_event().archived().in_phase(Phase.AWAITING_CONSENT, "TokenRejected").build()
    organization = an_organization(copies=[{"archiveRef": {"name": "mirror"}}])
    assert explain(built, organization, None, (), NOON).copies == (
        "Archive/mirror, missing: not tried yet, tried in the next attempt of the event.",
    )


def test_without_the_organization_it_is_not_known_whether_a_copy_is_tried_again() -> None:
    event = an_event().archived().with_condition("Copied", "False", "CopyMissing")
    ended = event.in_phase(Phase.SUCCEEDED, "ArchivedAndDeleted").status(copies=(SUSPENDED,)).build()
    (text,) = explain(ended, None, None, (), NOON).copies
    assert "not known whether it is tried again" in text


def test_a_copy_that_is_tried_again_is_what_comes_next() -> None:
    kept = (
        "; until it is made or given up, this EnvelopeEvent is not removed. A suspended Organization or "
        "Archive prevents each try"
    )
    again = "a missing copy is tried again"
    assert explained(WORM, MIRROR).next == f"{again} in 5m (2026-07-01 12:05:00 UTC){kept}"
    assert explained(WORM, SUSPENDED).next == f"{again} as soon as nothing prevents it{kept}"
    overdue = replace(MIRROR, next_attempt_time=NOON - timedelta(days=9))
    due = "in the next pass over the events (due since 2026-06-22 12:00:00 UTC)"
    assert explained(WORM, overdue).next == f"{again} {due}{kept}"
    assert explained(WORM, GIVEN_UP).next.startswith("nothing; this EnvelopeEvent is removed in 33 days")


DUE = replace(MIRROR, next_attempt_time=NOON - timedelta(seconds=30))


def test_no_copy_that_an_event_failed_for_is_said_to_be_tried() -> None:
    built = an_event().archived().with_condition("Copied", "False", "NameOccupied")
    failed = built.in_phase(Phase.FAILED, "NameOccupied").status(copies=(DUE,), completion_time=NOON).build()
    organization = an_organization(copies=[{"archiveRef": {"name": "mirror"}, "required": True}])
    why = explain(failed, organization, None, (), NOON)
    assert why.next.startswith("starts again automatically as soon as an Archive that it needs is changed")
    assert why.copies == ("Archive/mirror, missing: ArchiveUnreachable, no attempt is planned. It is down.",)


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.FAILED, Phase.SKIPPED])
def test_a_copy_of_an_archived_event_is_tried_by_a_pass_and_not_at_its_time(phase: Phase) -> None:
    why = explained(WORM, DUE, phase=phase)
    due = "in the next pass over the events (due since 2026-07-01 11:59:30 UTC)"
    assert f"next attempt {due}. " in why.copies[1]
    if phase is Phase.SUCCEEDED:
        assert why.next.startswith(f"a missing copy is tried again {due}; ")
