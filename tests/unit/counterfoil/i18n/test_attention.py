"""Attention: one entry per cause, however many events there are."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from msgspec import structs

from counterfoil.i18n.attention import AttentionItem, AttentionKind, ClusterSnapshot, attention_items
from counterfoil.i18n.commands import commands_about
from counterfoil.i18n.reasons import Responsible, find_reason
from counterfoil.resources import (
    MAX_ATTEMPT_HISTORY,
    Archive,
    Attempt,
    AttemptOutcome,
    EnvelopeEvent,
    EventCopy,
    Import,
    LastError,
    LocalObjectReference,
    Organization,
    OrganizationStatus,
    Phase,
    ReportedProblem,
    with_condition,
)
from counterfoil.resources.base import SENDER_LABEL, SecretKeyRef
from counterfoil.resources.lease import UnheldShard
from counterfoil.resources.routes import ArchiveRoute, Choice, CopySpec, RouteConditions
from tests.support.builders import NOON, EventBuilder, an_organization
from tests.support.scenes.console_parts import (
    a_sender_that,
    an_archive_that,
    an_import_that,
    an_organization_that,
)
from tests.support.scenes.notifications import a_problem


def a_waiting_event(number: int, sender: str = "anna") -> EnvelopeEvent:
    return (
        EventBuilder()
        .named(f"waiting-{number}")
        .labelled(SENDER_LABEL, sender)
        .in_phase(Phase.AWAITING_CONSENT, "TokenRejected")
        .build()
    )


def a_failed_event(number: int, reason: str = "NameOccupied") -> EnvelopeEvent:
    return EventBuilder().named(f"failed-{number}").in_phase(Phase.FAILED, reason).build()


def the_one(snapshot: ClusterSnapshot) -> AttentionItem:
    (entry,) = attention_items(snapshot)
    return entry


def test_a_sender_without_consent_with_37_envelopes_is_one_entry() -> None:
    waiting = tuple(a_waiting_event(number) for number in range(37))

    snapshot = ClusterSnapshot(
        organizations=(an_organization_that(),), senders=(a_sender_that(),), waiting=waiting
    )
    entry = the_one(snapshot)

    assert (entry.kind, entry.title, entry.count) == (AttentionKind.CONSENT, "Anna Kofler", 37)
    assert entry.advice is not None
    assert entry.advice.link == "https://pages.example.com/consent/acme/anna"
    assert len(entry.examples) == 3


def test_events_that_failed_for_one_reason_are_one_entry_and_for_another_are_another() -> None:
    failed = (a_failed_event(1), a_failed_event(2), a_failed_event(3, "SenderUnknown"))

    found = attention_items(ClusterSnapshot(failed=failed))

    assert [(each.reason, each.count) for each in found] == [("NameOccupied", 2), ("SenderUnknown", 1)]


def test_what_was_given_up_is_grouped_by_what_was_wrong_and_not_by_its_deadline() -> None:
    error = LastError(reason="ArchiveFull", message="The archive is full.", time=NOON)
    event = EventBuilder().in_phase(Phase.FAILED, "DeadlineExceeded").status(last_error=error).build()

    entry = the_one(ClusterSnapshot(failed=(event,)))

    assert (entry.reason, entry.message) == ("ArchiveFull", "The archive is full.")


def test_keys_that_only_an_administrator_can_fix_are_one_entry_for_all_senders() -> None:
    senders = tuple(a_sender_that(reason="SealKeyUnknown", name=name) for name in ("anna", "ben", "carl"))

    entry = the_one(ClusterSnapshot(senders=senders))

    assert (entry.kind, entry.count) == (AttentionKind.KEY, 3)
    assert entry.title == "Anna Kofler, Ben Kofler, Carl Kofler"


def test_a_sender_whom_nobody_waits_for_and_whose_key_never_worked_is_no_entry() -> None:
    assert attention_items(ClusterSnapshot(senders=(a_sender_that(waiting_events=0),))) == ()


def test_a_default_sender_whose_key_does_not_work_is_an_entry_before_an_event_waits_for_it() -> None:
    sender = a_sender_that(waiting_events=0)
    default = LocalObjectReference(name=sender.name)
    entry = the_one(
        ClusterSnapshot(organizations=(an_organization_that(default_sender_ref=default),), senders=(sender,))
    )
    assert (entry.kind, entry.name, entry.count) == (AttentionKind.CONSENT, sender.name, 0)
    others = (an_organization_that(default_sender_ref=LocalObjectReference(name="ben")),)
    assert attention_items(ClusterSnapshot(organizations=others, senders=(sender,))) == ()


def test_an_event_whose_sender_may_be_recorded_in_a_moment_is_no_entry() -> None:
    assert attention_items(ClusterSnapshot(retrying=(a_retrying_event(1, "SenderPending"),))) == ()


def test_an_archive_of_an_import_is_an_entry_after_a_mail_about_it() -> None:
    broken = (an_archive_that(name="vault"),)
    told = an_organization_that(problems=(a_problem("archive/vault"),))
    assert attention_items(ClusterSnapshot(organizations=(an_organization_that(),), archives=broken)) == ()
    (entry,) = attention_items(ClusterSnapshot(organizations=(told,), archives=broken))
    assert (entry.kind, entry.name) == (AttentionKind.ARCHIVE, "vault")


def test_an_archive_that_can_not_be_used_goes_first_and_hides_that_its_organization_lacks_it() -> None:
    snapshot = ClusterSnapshot(
        organizations=(an_organization_that("False", "ArchiveNotReady"),),
        archives=(an_archive_that(),),
        failed=tuple(a_failed_event(number) for number in range(50)),
    )

    assert [each.kind for each in attention_items(snapshot)] == [AttentionKind.ARCHIVE, AttentionKind.FAILED]


def test_an_archive_that_no_organization_uses_is_no_entry() -> None:
    other = an_organization_that(archive_ref=LocalObjectReference(name="other"))
    assert attention_items(ClusterSnapshot(organizations=(other,), archives=(an_archive_that(),))) == ()


def test_what_works_is_no_entry() -> None:
    snapshot = ClusterSnapshot(
        organizations=(an_organization_that(),),
        archives=(an_archive_that("True", "Probed"),),
        senders=(a_sender_that("True", "KeyAccepted"),),
    )

    assert attention_items(snapshot) == ()


def test_where_not_all_could_be_read_the_controllers_count_is_shown() -> None:
    counted = ReportedProblem(
        cause="failed/NameOccupied/dms", reason="NameOccupied", start_time=NOON, count=2000
    )
    organization = an_organization_that(problems=(counted,))
    failed = tuple(a_failed_event(number) for number in range(5))

    entry = the_one(ClusterSnapshot(organizations=(organization,), failed=failed, is_more_failed=True))

    assert (entry.count, entry.is_more) == (2000, False)


def test_a_cause_of_which_no_event_was_read_is_known_from_the_controllers_count() -> None:
    counted = ReportedProblem(
        cause="failed/SenderUnknown", reason="SenderUnknown", start_time=NOON, count=3, examples=("an-event",)
    )
    over = ReportedProblem(
        cause="failed/TagMissing", reason="TagMissing", start_time=NOON, count=9, solved_time=NOON
    )
    organization = an_organization_that(problems=(counted, over))

    found = attention_items(
        ClusterSnapshot(organizations=(organization,), failed=(a_failed_event(1),), is_more_failed=True)
    )

    assert [(each.reason, each.count) for each in found] == [("SenderUnknown", 3), ("NameOccupied", 1)]


def test_where_nobody_has_counted_there_are_more_than_were_read() -> None:
    entry = the_one(ClusterSnapshot(failed=(a_failed_event(1),), is_more_failed=True))

    assert (entry.count, entry.is_more) == (1, True)


def test_only_what_concerns_the_chosen_organization_is_shown() -> None:
    other = an_organization_that("False", "CallbackTokenMissing", name="globex")

    found = attention_items(ClusterSnapshot(organizations=(other,), failed=(a_failed_event(1),), of="acme"))

    assert [each.organization for each in found] == ["acme"]


def test_notices_that_were_given_up_are_one_entry() -> None:
    problem = ReportedProblem(
        cause="webhook/WebhookGone", reason="WebhookGone", start_time=NOON, count=3, examples=("event-1",)
    )
    organization = structs.replace(an_organization(), status=OrganizationStatus(problems=(problem,)))

    (found,) = attention_items(ClusterSnapshot(organizations=(organization,)))

    assert (found.kind, found.reason, found.count) == (AttentionKind.WEBHOOK, "WebhookGone", 3)
    assert found.anchor == "webhook-acme-WebhookGone"


@pytest.mark.parametrize(
    ("message", "reasons"),
    [
        ("OriginalDiffers: a.pdf is missing.", ("CopyGivenUp", "OriginalDiffers")),
        ("WaitingForArchive: It is busy.", ("CopyGivenUp",)),
        ("QuotaOfAnotherPackage: It is full.", ("CopyGivenUp",)),
        ("", ("CopyGivenUp",)),
    ],
)
def test_copies_that_were_given_up_have_the_advice_of_the_last_one_as_well(
    message: str, reasons: tuple[str, ...]
) -> None:
    problem = ReportedProblem("copy/mirror", "CopyGivenUp", NOON, message=message, count=2)
    organization = structs.replace(an_organization(), status=OrganizationStatus(problems=(problem,)))

    (found,) = attention_items(ClusterSnapshot(organizations=(organization,)))

    assert found.text().do == " ".join(find_reason(each).localized_text().do for each in reasons)


def test_imports_that_cannot_continue_for_one_reason_are_one_entry_with_their_names() -> None:
    reason, names = "SendersNotSearched", ("first", "second")
    problem = ReportedProblem(
        cause=f"import/{reason}", reason=reason, start_time=NOON, count=2, examples=names
    )
    organization = structs.replace(an_organization(), status=OrganizationStatus(problems=(problem,)))

    (found,) = attention_items(ClusterSnapshot(organizations=(organization,)))

    assert (found.kind, found.count, found.examples) == (AttentionKind.IMPORT, 2, names)
    assert found.anchor == "import-acme-SendersNotSearched"


def test_a_shard_without_a_controller_comes_first() -> None:
    absence = UnheldShard("counterfoil-shard-0-of-1", "pod-1", NOON)

    first, *_ = attention_items(ClusterSnapshot(failed=(a_failed_event(1),), unheld_shards=(absence,)))

    assert (first.kind, first.reason, first.since) == (AttentionKind.CONTROLLER, "ControllerAbsent", NOON)
    assert "pod-1" in first.message


@pytest.mark.parametrize("reason", ["EsawUnreachable", "OrganizationSuspended", "ArchiveNotReady"])
def test_what_an_organizations_summary_repeats_is_reported_once(reason: str) -> None:
    assert attention_items(ClusterSnapshot(organizations=(an_organization_that("False", reason),))) == ()


@pytest.mark.parametrize("reason", ["EsawUnreachable", "EsawAnswerUnreadable", "EsawRedirects"])
def test_an_esaw_that_does_not_answer_is_reported_by_its_own_condition(reason: str) -> None:
    organization = an_organization_that("False", reason)
    reachable = msgspec.structs.replace(organization.status.conditions[0], type="Reachable")
    status = msgspec.structs.replace(
        organization.status, conditions=(*organization.status.conditions, reachable)
    )
    snapshot = ClusterSnapshot(organizations=(msgspec.structs.replace(organization, status=status),))
    assert [each.name for each in attention_items(snapshot)] == ["acme-Reachable"]


def test_what_a_summary_says_beside_the_answer_of_esaw_is_reported_as_well() -> None:
    organization = an_organization_that("False", "EsawAnswerUnreadable")
    summary = organization.status.conditions[0]
    reachable = msgspec.structs.replace(summary, type="Reachable")
    summary = msgspec.structs.replace(summary, message=f"{summary.message} The token is missing.")
    status = msgspec.structs.replace(organization.status, conditions=(summary, reachable))
    snapshot = ClusterSnapshot(organizations=(msgspec.structs.replace(organization, status=status),))
    assert {each.name for each in attention_items(snapshot)} == {"acme", "acme-Reachable"}


def an_organization_whose_esaw_is_away(name: str, address: str) -> Organization:
    problem = ReportedProblem("esaw", "EsawUnreachable", NOON, count=2, examples=(f"event-of-{name}",))
    there = an_organization_that(name=name, base_url=address, problems=(problem,))
    away = structs.replace(
        there.status.conditions[0], type="Reachable", status="False", reason="EsawUnreachable"
    )
    return structs.replace(there, status=structs.replace(there.status, conditions=(away,)))


def test_an_esaw_that_does_not_answer_is_one_entry_for_all_organizations_that_use_it() -> None:
    same, other = "https://sign.example.com", "https://other.example.com"
    organizations = (
        an_organization_whose_esaw_is_away("acme", same),
        an_organization_whose_esaw_is_away("globex", same),
        an_organization_whose_esaw_is_away("initech", other),
    )

    found = {each.address: each for each in attention_items(ClusterSnapshot(organizations=organizations))}

    assert {address: each.organizations for address, each in found.items()} == {
        same: ("acme", "globex"),
        other: ("initech",),
    }
    assert found[same].count == 4
    # The mail of each Organization leads to its own place.
    assert found[same].anchors == (
        "organization-acme-acme-Reachable",
        "organization-globex-globex-Reachable",
    )
    (mine,) = attention_items(ClusterSnapshot(organizations=organizations, of="globex"))
    assert mine.organizations == ("globex",)


@pytest.mark.parametrize(("truth", "reason"), [("True", "EsawAnswers"), ("Unknown", "EsawUnconfirmed")])
def test_an_esaw_that_may_answer_but_refuses_what_events_need_is_one_entry_where_the_mail_leads_to(
    truth: Any, reason: str
) -> None:
    problem = ReportedProblem("esaw", "EsawRedirects", NOON, count=2, examples=("event-1",))
    organization = an_organization_that(truth, reason, problems=(problem,))
    reachable = structs.replace(organization.status.conditions[0], type="Reachable")
    status = structs.replace(organization.status, conditions=(reachable,))
    there = structs.replace(organization, status=status)
    retrying = (a_retrying_event(1, "EsawRedirects"), a_retrying_event(2, "EsawRedirects"))
    found = the_one(ClusterSnapshot(organizations=(there,), retrying=retrying))
    assert (found.kind, found.name) == (AttentionKind.ORGANIZATION, "acme-Reachable")
    assert (found.reason, found.count, found.examples) == ("EsawRedirects", 2, ("event-1",))


def an_organization_that_is_refused() -> Organization:
    problem = ReportedProblem("esaw", "EsawAnswerUnreadable", NOON, examples=("retry-1",))
    organization = an_organization_that("True", "EsawAnswers", problems=(problem,))
    reachable = structs.replace(organization.status.conditions[0], type="Reachable")
    return structs.replace(organization, status=structs.replace(organization.status, conditions=(reachable,)))


def test_calls_that_fail_are_as_old_as_the_first_of_them_and_not_as_the_pass_that_saw_it() -> None:
    first = Attempt(
        phase=Phase.ARCHIVING,
        start_time=NOON - timedelta(minutes=3),
        duration_seconds=1,
        outcome=AttemptOutcome.WAIT,
        reason="EsawAnswerUnreadable",
    )
    retrying = (
        a_retrying_event(1, "EsawAnswerUnreadable", attempt_history=(first,)),
        a_retrying_event(2, attempt_history=(structs.replace(first, start_time=NOON - timedelta(hours=1)),)),
    )
    (found, _) = attention_items(
        ClusterSnapshot(organizations=(an_organization_that_is_refused(),), retrying=retrying)
    )
    assert found.since == NOON - timedelta(minutes=3)


def test_calls_that_fail_are_explained_by_their_event_first() -> None:
    found = the_one(
        ClusterSnapshot(
            organizations=(an_organization_that_is_refused(),),
            retrying=(a_retrying_event(1, "EsawAnswerUnreadable"),),
        )
    )
    assert [each.line for each in commands_about(found, "contracts")] == [
        "kubectl counterfoil -n contracts why retry-1",
        "kubectl -n contracts describe organization acme",
    ]


def test_events_of_a_suspended_sender_have_the_command_that_resumes_it() -> None:
    events = [
        EventBuilder()
        .named(f"held-{number}")
        .labelled(SENDER_LABEL, sender)
        .in_phase(Phase.VALIDATING, "SenderSuspended")
        .build()
        for number, sender in enumerate(("anna", "ben", "anna"))
    ]
    found = the_one(ClusterSnapshot(organizations=(an_organization_that(),), retrying=tuple(events)))
    assert [each.line for each in commands_about(found, "contracts")] == [
        "kubectl counterfoil -n contracts why held-0",
        "kubectl counterfoil -n contracts resume sender anna",
        "kubectl counterfoil -n contracts resume sender ben",
    ]


def test_a_suspended_event_has_the_command_that_resumes_it() -> None:
    found = the_one(ClusterSnapshot(retrying=(a_retrying_event(1, "Suspended"),)))
    assert [each.line for each in commands_about(found, "contracts")] == [
        "kubectl counterfoil -n contracts why retry-1",
        "kubectl counterfoil -n contracts resume envelopeevent retry-1",
    ]


def test_envelopes_that_esaw_deletes_soon_are_one_entry_before_what_only_failed() -> None:
    ending = ReportedProblem(
        cause="retention/RetentionEnding",
        reason="RetentionEnding",
        message="eSignAnyWhere deletes the envelope of EnvelopeEvent/event-1 about noon.",
        start_time=NOON,
        count=2,
        examples=("event-1", "event-2"),
    )
    organization = an_organization_that(problems=(ending,))
    failed = tuple(a_failed_event(number) for number in range(9))

    found = attention_items(ClusterSnapshot(organizations=(organization,), failed=failed))

    assert [each.kind for each in found] == [AttentionKind.RETENTION, AttentionKind.FAILED]
    assert (found[0].reason, found[0].count, found[0].examples) == (
        "RetentionEnding",
        2,
        ("event-1", "event-2"),
    )
    assert found[0].organization == "acme"


def test_a_retention_that_no_longer_endangers_anything_is_no_entry() -> None:
    ended = ReportedProblem(
        cause="retention/RetentionEnding", reason="RetentionEnding", start_time=NOON, solved_time=NOON
    )
    assert attention_items(ClusterSnapshot(organizations=(an_organization_that(problems=(ended,)),))) == ()


def test_events_that_can_not_be_read_are_one_entry() -> None:
    unreadable = ReportedProblem(
        cause="unreadable/EventUnreadable",
        reason="EventUnreadable",
        start_time=NOON,
        count=2,
        examples=("e-1",),
    )
    organization = an_organization_that(problems=(unreadable,))
    (found,) = attention_items(ClusterSnapshot(organizations=(organization,)))
    assert (found.kind, found.organization, found.reason, found.count, found.examples) == (
        AttentionKind.UNREADABLE,
        "acme",
        "EventUnreadable",
        2,
        ("e-1",),
    )


def a_retrying_event(number: int, reason: str = "TagMissing", **status: Any) -> EnvelopeEvent:
    return EventBuilder().named(f"retry-{number}").in_phase(Phase.ARCHIVING, reason).status(**status).build()


def test_an_event_that_is_retried_for_a_reason_of_a_person_is_an_entry_before_it_fails() -> None:
    retrying = (
        a_retrying_event(1),
        a_retrying_event(2),
        a_retrying_event(3, "EsawFailing"),
        a_retrying_event(4, ""),
    )

    entry = the_one(ClusterSnapshot(retrying=retrying))

    assert (entry.kind, entry.reason, entry.count) == (AttentionKind.RETRYING, "TagMissing", 2)


@pytest.mark.parametrize("reason", ["ArchiveNotReady", "ArchiveFull"])
def test_events_that_wait_for_an_archive_are_reported_by_the_entry_of_the_archive(reason: str) -> None:
    snapshot = ClusterSnapshot(
        organizations=(an_organization_that(),),
        archives=(an_archive_that(),),
        retrying=(a_retrying_event(1, reason),),
    )
    assert [each.kind for each in attention_items(snapshot)] == [AttentionKind.ARCHIVE]


def test_events_that_wait_for_what_their_organization_lacks_are_reported_once() -> None:
    snapshot = ClusterSnapshot(
        organizations=(an_organization_that("False", "ArchiveMissing"),),
        retrying=(a_retrying_event(1, "ArchiveMissing"), a_retrying_event(2, "OrganizationSuspended")),
    )
    assert [each.kind for each in attention_items(snapshot)] == [AttentionKind.ORGANIZATION]


def test_a_suspended_archive_is_no_task_and_neither_are_the_events_that_it_holds() -> None:
    archive = an_archive_that("False", "ArchiveSuspended")
    snapshot = ClusterSnapshot(
        organizations=(an_organization_that("False", "ArchiveSuspended"),),
        archives=(structs.replace(archive, spec=structs.replace(archive.spec, suspend=True)),),
        retrying=(a_retrying_event(1, "ArchiveSuspended"),),
    )
    assert attention_items(snapshot) == ()


TO_VAULT = ArchiveRoute(
    name="hr", archive_ref=LocalObjectReference(name="vault"), when=RouteConditions(senders=("ben",))
)


def a_suspended_archive(name: str = "vault") -> Archive:
    archive = an_archive_that("False", "ArchiveSuspended", name=name)
    return structs.replace(archive, spec=structs.replace(archive.spec, suspend=True))


def an_archived_event(number: int, *, in_: Choice, reason: str = "ArchiveSuspended") -> EnvelopeEvent:
    place = structs.replace(in_.location, manifest="file:///srv/contract/counterfoil.json")
    return a_retrying_event(number, reason, archive=place)


def test_events_that_wait_for_a_suspended_archive_that_their_organization_does_not_name_are_a_task() -> None:
    held = tuple(an_archived_event(number, in_=Choice("vault", "hr")) for number in range(2))
    entry = the_one(
        ClusterSnapshot(
            organizations=(an_organization_that(),),
            archives=(an_archive_that("True", "Probed"), a_suspended_archive()),
            retrying=held,
        )
    )
    assert (entry.kind, entry.name, entry.reason) == (AttentionKind.ARCHIVE, "vault", "ArchiveSuspended")
    assert (entry.count, entry.responsible) == (2, Responsible.ADMINISTRATOR)
    assert entry.message.endswith("Organization/acme does not name it any more, and its events wait for it.")
    typed = [each.line for each in commands_about(entry, "contracts")]
    assert "kubectl counterfoil -n contracts resume archive vault" in typed


def test_a_broken_archive_is_a_task_while_events_wait_for_it_although_no_organization_names_it() -> None:
    snapshot = ClusterSnapshot(
        organizations=(an_organization_that(),),
        archives=(an_archive_that(name="vault"),),
        retrying=(an_archived_event(1, in_=Choice("vault", "hr"), reason="ArchiveFull"),),
    )
    assert [(each.kind, each.name) for each in attention_items(snapshot)] == [
        (AttentionKind.ARCHIVE, "vault")
    ]


def a_copying_event(reason: str, of_copy: str | None) -> EnvelopeEvent:
    """An archived event that waits for this reason, and whose required copy in ``worm`` has that one."""
    copied = with_condition(
        (), "Archived", "True", reason="FilesVerified", message="", now=NOON, generation=1
    )
    copied = with_condition(
        copied, "Copied", "Unknown", reason="CopiesPending", message="", now=NOON, generation=1
    )
    place = structs.replace(Choice("dms", None).location, manifest="file:///srv/counterfoil.json")
    copies = (EventCopy(ref=LocalObjectReference(name="worm"), reason=of_copy),)
    return a_retrying_event(
        1, reason, phase=Phase.COPYING, conditions=copied, archive=place, copies=copies if of_copy else ()
    )


@pytest.mark.parametrize(
    ("of_copy", "broken", "is_hidden"),
    [
        ("ArchiveFull", "worm", True),
        ("ArchiveFull", "dms", False),
        # The run ended before the copy, because of the first archive.
        (None, "dms", True),
        (None, "worm", False),
        ("ArchiveLocked", "dms", True),
        ("ArchiveLocked", "worm", False),
    ],
)
def test_an_archived_event_that_waits_is_reported_by_the_entry_of_the_archive_that_is_the_cause(
    of_copy: str | None, broken: str, *, is_hidden: bool
) -> None:
    archives = tuple(
        an_archive_that(*(("False", "ArchiveFull") if each == broken else ("True", "Probed")), name=each)
        for each in ("dms", "worm")
    )
    copies = (CopySpec(archive_ref=LocalObjectReference(name="worm")),)
    snapshot = ClusterSnapshot(
        organizations=(an_organization_that(copies=copies),),
        archives=archives,
        retrying=(a_copying_event("ArchiveFull", of_copy),),
    )
    kinds = [each.kind for each in attention_items(snapshot)]
    assert kinds == (
        [AttentionKind.ARCHIVE] if is_hidden else [AttentionKind.ARCHIVE, AttentionKind.RETRYING]
    )


@pytest.mark.parametrize("reason", ["StoredWrong", "TagMissing", "ArchivePermissionDenied"])
@pytest.mark.parametrize("vault", [a_suspended_archive(), an_archive_that(name="vault")])
def test_an_archive_of_a_route_hides_no_events_that_wait_for_another_one(reason: str, vault: Archive) -> None:
    snapshot = ClusterSnapshot(
        organizations=(an_organization_that(routes=(TO_VAULT,)),),
        archives=(an_archive_that("True", "Probed"), vault),
        retrying=(a_retrying_event(1, reason, archive=Choice("dms", None).location),),
    )
    shown = [(each.kind, each.reason) for each in attention_items(snapshot)]
    assert (AttentionKind.RETRYING, reason) in shown


def test_a_missing_archive_of_an_organization_hides_no_events_that_wait_for_another_one() -> None:
    snapshot = ClusterSnapshot(
        organizations=(an_organization_that("False", "ArchiveMissing", routes=(TO_VAULT,)),),
        archives=(an_archive_that("True", "Probed"),),
        retrying=(an_archived_event(1, in_=Choice("old", "gone"), reason="ArchiveMissing"),),
    )
    assert [each.kind for each in attention_items(snapshot)] == [
        AttentionKind.ORGANIZATION,
        AttentionKind.RETRYING,
    ]


def test_a_retry_that_fails_again_does_not_make_its_cause_younger() -> None:
    attempts = tuple(
        Attempt(
            phase=Phase.ARCHIVING,
            start_time=NOON + timedelta(hours=hour),
            duration_seconds=1,
            outcome=AttemptOutcome.FAIL,
            reason="NameOccupied",
        )
        for hour in range(3)
    )
    again = NOON + timedelta(hours=2, seconds=1)
    event = structs.replace(
        a_failed_event(1),
        status=structs.replace(a_failed_event(1).status, attempt_history=attempts, completion_time=again),
    )
    reported = ReportedProblem(
        cause="failed/NameOccupied", reason="NameOccupied", start_time=NOON - timedelta(minutes=1), count=1
    )

    alone = the_one(ClusterSnapshot(failed=(event,)))
    counted = the_one(
        ClusterSnapshot(failed=(event,), organizations=(an_organization_that(problems=(reported,)),))
    )

    assert (alone.since, counted.since) == (NOON, reported.start_time)


def attempts_for(reason: str, number: int) -> list[Attempt]:
    """Return the last attempts of an event, one in each minute before noon, oldest first."""
    return [
        Attempt(
            phase=Phase.ARCHIVING,
            start_time=NOON - timedelta(minutes=number - each),
            duration_seconds=1,
            outcome=AttemptOutcome.WAIT,
            reason=reason,
        )
        for each in range(number)
    ]


def test_a_cause_is_older_than_the_attempts_that_a_status_has_room_for() -> None:
    began, kept = NOON - timedelta(hours=20), attempts_for("TagMissing", MAX_ATTEMPT_HISTORY)
    another = [structs.replace(kept[0], reason="ArchiveFailing"), *kept[1:]]
    succeeded = [structs.replace(kept[0], outcome=AttemptOutcome.DONE), *kept[1:]]
    cases = (
        (kept, MAX_ATTEMPT_HISTORY + 1, began),
        # Each attempt of the phase is there.
        (kept, MAX_ATTEMPT_HISTORY, kept[0].start_time),
        (another, 40, kept[1].start_time),
        (succeeded, 40, kept[1].start_time),
    )
    for history, attempts, since in cases:
        event = a_retrying_event(1, attempt_history=tuple(history), attempts=attempts, phase_start_time=began)
        assert the_one(ClusterSnapshot(retrying=(event,))).since == since


def test_senders_whose_organization_has_no_page_for_consent_are_one_entry_of_an_administrator() -> None:
    senders = (a_sender_that(), a_sender_that(name="ben"))
    snapshot = ClusterSnapshot(organizations=(an_organization_that(oauth=None),), senders=senders)

    entry = the_one(snapshot)

    assert (entry.kind, entry.reason, entry.count) == (AttentionKind.KEY, "KeyNotConfigured", 2)


def test_a_sender_with_an_own_key_is_offered_neither_a_link_nor_a_mail() -> None:
    sender = a_sender_that()
    secret = SecretKeyRef(name="anna-key", key="token")
    sender = structs.replace(sender, spec=structs.replace(sender.spec, token_secret_ref=secret))

    advice = the_one(ClusterSnapshot(organizations=(an_organization_that(),), senders=(sender,))).advice

    assert advice is not None
    assert (advice.responsible, advice.link, advice.can_mail) == (Responsible.ADMINISTRATOR, "", False)


# -- Imports -------------------------------------------------------------------------------------------------


def an_import_problem(reason: str = "ImportSpanEmpty") -> ReportedProblem:
    return ReportedProblem(
        cause=f"import/{reason}", reason=reason, start_time=NOON, count=2, examples=("old-stock", "older")
    )


def test_an_import_that_waits_for_a_person_is_an_entry_before_its_mail() -> None:
    stalled = an_import_that("ImportSpanEmpty", "It begins too late.")
    entry = the_one(ClusterSnapshot(organizations=(an_organization_that(),), imports=(stalled,)))
    assert (entry.kind, entry.organization, entry.reason) == (AttentionKind.IMPORT, "acme", "ImportSpanEmpty")
    assert (entry.message, entry.count, entry.examples) == ("It begins too late.", 1, ("old-stock",))
    assert entry.since == NOON


def test_imports_are_one_entry_for_each_reason_also_after_the_mail() -> None:
    stalled = [an_import_that("ImportSpanEmpty", name=each) for each in ("old-stock", "older")]
    others = (an_import_that("ImportCeiling", name="full"), an_import_that(name="running"))
    told = an_organization_that(problems=(an_import_problem(),))
    found = attention_items(ClusterSnapshot(organizations=(told,), imports=(*stalled, *others)))
    assert [(each.reason, each.count) for each in found] == [("ImportSpanEmpty", 2), ("ImportCeiling", 1)]


@pytest.mark.parametrize("reason", ["ImportSuspended", "OrganizationSuspended", "ArchiveSuspended"])
def test_an_import_that_a_person_suspended_is_no_entry(reason: str) -> None:
    assert attention_items(ClusterSnapshot(imports=(an_import_that(reason),))) == ()


def test_an_import_names_its_archive_only_if_no_other_entry_does() -> None:
    waiting = an_import_that("ArchiveRefused", "Archive/dms: 403")
    broken, other = an_archive_that(reason="ArchiveRefused"), LocalObjectReference(name="other")
    named, unnamed = an_organization_that(), an_organization_that(archive_ref=other)
    alone = the_one(ClusterSnapshot(organizations=(unnamed,), archives=(broken,), imports=(waiting,)))
    assert (alone.kind, alone.message) == (AttentionKind.IMPORT, "Archive/dms: 403")
    shared = the_one(ClusterSnapshot(organizations=(named,), archives=(broken,), imports=(waiting,)))
    assert shared.kind is AttentionKind.ARCHIVE


def an_unseen_import() -> Import:
    """An Import as the API server stores it, before any controller has processed it."""
    said = "A controller has not processed this object yet."
    return an_import_that("Pending", said, observed_generation=None)


@pytest.mark.parametrize(("seconds", "number"), [(59, 0), (61, 1)])
def test_an_import_that_no_controller_processes_is_an_entry_after_a_minute(seconds: int, number: int) -> None:
    now = NOON + timedelta(seconds=seconds)
    found = attention_items(ClusterSnapshot(imports=(an_unseen_import(),), read_time=now))
    assert [(each.reason, each.since, each.examples) for each in found] == [
        ("ImportNotProcessed", NOON, ("old-stock",))
    ] * number


def test_an_import_that_was_processed_once_is_no_such_entry() -> None:
    later = NOON + timedelta(days=1)
    for processed in ({"observed_generation": 1}, {"observed_generation": None, "start_time": NOON}):
        imported = an_import_that(**processed)
        assert attention_items(ClusterSnapshot(imports=(imported,), read_time=later)) == ()


def test_imports_wait_with_everything_else_for_a_controller_that_is_gone() -> None:
    later, absence = NOON + timedelta(days=1), UnheldShard("counterfoil-shard-0-of-1", "pod-1", NOON)
    snapshot = ClusterSnapshot(imports=(an_unseen_import(),), unheld_shards=(absence,), read_time=later)
    assert the_one(snapshot).kind is AttentionKind.CONTROLLER
