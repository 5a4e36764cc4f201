"""
The kubectl plugin's decisions: what it says about an event, what a support bundle leaves out, what is
completed.
"""

import argparse
import asyncio
import io
import json
import os
import re
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from counterfoil.cli.plugin import completion, config_flags, consent, entry_point
from counterfoil.cli.plugin import why as why_command
from counterfoil.cli.plugin.exit_status import EXIT_STATUS_TEXTS, CommandError, ExitStatus, format_answer
from counterfoil.cli.plugin.installation import diagnose
from counterfoil.cli.plugin.installation.archive_paths import ArchivePaths
from counterfoil.cli.plugin.installation.diagnose import (
    OMITTED,
    SupportBundle,
    remove_personal_data,
    without_people,
)
from counterfoil.cli.plugin.search import sweep
from counterfoil.cli.plugin.send_request import (
    RETRY,
    SKIP,
    RequestCommand,
    make_request,
    wait_for_answer,
)
from counterfoil.cli.plugin.why import CONDITION_ORDER, EventExplanation, explain, page
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Conflict, Forbidden, Unavailable
from counterfoil.kube.status import MAX_CHANGE_ATTEMPTS
from counterfoil.kube.watch import Raw
from counterfoil.origin import annotate_command
from counterfoil.resources import (
    LISTED_AFTER_LABEL,
    PHASE_CONDITIONS,
    REQUEST_LABEL,
    ArchiveLocation,
    Attempt,
    AttemptOutcome,
    Condition,
    EnvelopeEvent,
    EnvelopeSummary,
    EventNotice,
    LastError,
    LastRequest,
    LocalObjectReference,
    NoticeState,
    Organization,
    Phase,
    RequestOutcome,
    Resource,
    Sender,
    to_json_dict,
)
from counterfoil.resources.audit_annotation import AuditEntry, with_audit_entry
from counterfoil.resources.base import parse_part
from counterfoil.resources.conditions import ConditionStatus
from counterfoil.resources.envelopeevent import AwaitedArchive
from counterfoil.resources.lease import Lease, UnheldShard
from counterfoil.resources.organization import SweepResult
from tests.support.builders import NOON, EventBuilder, a_sender, an_event, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.leases import a_shard_lease
from tests.support.scenes.notifications import a_condition, an_archive_that_is, an_unauthorized_sender

TOKEN = "q8Zk3vXW1nT5rB7yH2sD9fG4jL6mP0aQcEuIoRtYwVbN1xKd"
SHA256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
OAUTH = {
    "clientID": "counterfoil",
    "clientSecretRef": {"name": "oauth", "key": "secret"},
    "publicURL": "https://sign.acme.example",
}


def told(event: EventBuilder) -> str:
    organization = an_organization(oauth=OAUTH)
    return page(explain(event.build(), organization, a_sender(tokenSecretRef=None), (), NOON))


def test_what_waits_for_its_next_attempt_says_when_that_is_and_when_it_is_given_up() -> None:
    event = an_event().in_phase(Phase.ARCHIVING, "ArchiveUnreachable")
    event.status(attempts=2, next_attempt_time=NOON + timedelta(seconds=90), phase_start_time=NOON)
    said = told(event)
    assert "Archiving (ArchiveUnreachable)" in said
    assert "attempt 3 in 1m30s (2026-" in said
    assert "given up in 24h" in said
    assert "an administrator" in said


def test_an_event_that_follows_another_one_to_a_former_archive_names_the_way_elsewhere() -> None:
    follows = AwaitedArchive(ref=LocalObjectReference(name="vault"), event="first")
    event = an_event().in_phase(Phase.COLLECTING, "ArchiveReadOnly").status(awaited_archive=follows)
    assert "does not name Archive/vault any more. Once nothing else needs it, delete it" in told(event)


def test_a_key_that_fails_for_another_reason_since_is_explained_by_its_sender() -> None:
    event = an_event().in_phase(Phase.AWAITING_CONSENT, "TokenRejected").status(message="Not accepted.")
    sender = an_unauthorized_sender(reason="WrongUser", sent_mails=True)
    why = explain(event.build(), an_organization(oauth=OAUTH), sender, (), NOON)
    text = page(why)
    assert (why.reason, why.turn) == ("WrongUser", "an administrator")
    assert "AwaitingConsent (WrongUser)" in text
    assert "WrongUser, in words." in text
    assert "TokenRejected" not in text


def test_the_command_for_a_key_is_that_of_its_sender_and_not_an_old_one_of_the_event() -> None:
    old, newest = (annotate_command("anna-key", f"https://{each}.example") for each in ("old", "new"))
    event = an_event().in_phase(Phase.AWAITING_CONSENT, "OriginChanged").status(message=f"Type `{old}`.")
    for message, typed in ((f"Type `{newest}`.", [newest]), ("As soon as it answers.", [])):
        changed = a_condition("Authorized", "False", "OriginChanged", NOON) | {"message": message}
        sender = an_unauthorized_sender(reason="OriginChanged", status={"conditions": [changed]})
        why = explain(event.build(), an_organization(), sender, (), NOON)
        assert why.message == message
        assert [each for each in why.commands if each.startswith("kubectl")] == [
            each.replace("kubectl", "kubectl -n tests") for each in typed
        ]


def test_a_key_that_works_again_needs_nobody() -> None:
    event = an_event().in_phase(Phase.AWAITING_CONSENT, "TokenRejected").build()
    accepted = {"conditions": [a_condition("Authorized", "True", "KeyAccepted", NOON)]}
    sender = an_unauthorized_sender(status=accepted)
    why = explain(event, an_organization(oauth=OAUTH), sender, (), NOON)
    assert (why.reason, why.turn, why.consent_url) == ("KeyAccepted", "nobody has to act", None)


@pytest.mark.parametrize(
    ("waits", "truth", "says"),
    [
        ("ArchiveNotProbed", "False", "ArchiveRootChanged"),
        ("ArchiveUnreachable", "False", "ArchiveRootChanged"),
        ("ArchiveUnreachable", "True", "ArchiveUnreachable"),
        ("TagMissing", "False", "TagMissing"),
        ("ArchiveShared", "False", "ArchiveShared"),
    ],
)
def test_an_event_that_waits_for_an_archive_is_explained_by_what_the_archive_says_now(
    waits: str, truth: str, says: str
) -> None:
    event = an_event().in_phase(Phase.ARCHIVING, waits).build()
    archive = an_archive_that_is(truth, reason="ArchiveRootChanged")
    why = explain(event, an_organization(), None, (), NOON, archive=archive)
    assert why.reason == says
    assert (why.message == "ArchiveRootChanged, in words.") is (says == "ArchiveRootChanged")


def test_an_event_that_waits_for_an_esaw_that_does_not_answer_is_explained_by_its_organization() -> None:
    raw = an_organization().to_dict()
    raw["status"] = {"conditions": [a_condition("Reachable", "False", "EsawRedirects", NOON)]}
    event = an_event().in_phase(Phase.COLLECTING, "EsawFailing").build()
    assert explain(event, Organization.parse(raw), None, (), NOON).reason == "EsawRedirects"


def test_what_failed_after_its_deadline_says_what_was_really_wrong() -> None:
    event = an_event().in_phase(Phase.FAILED, "DeadlineExceeded")
    event.status(
        last_error=LastError(reason="ArchiveFull", message="no space left", time=NOON - timedelta(hours=2))
    )
    said = told(event)
    assert "Failed (DeadlineExceeded)" in said
    assert "ArchiveFull, 2h ago: no space left" in said
    assert "kubectl counterfoil retry" in said


@pytest.mark.parametrize(
    ("notice", "says"),
    [
        (EventNotice(id="msg_1", state=NoticeState.PENDING), "to be delivered to the webhook"),
        (
            EventNotice(
                id="msg_1",
                state=NoticeState.PENDING,
                attempts=2,
                next_attempt_time=NOON + timedelta(minutes=1),
                last_error=LastError(reason="WebhookFailing", message="HTTP 500.", time=NOON),
            ),
            "attempt 3 in 1m (2026-07-01 12:01:00 UTC); WebhookFailing: HTTP 500.",
        ),
        (
            EventNotice(
                id="msg_1",
                state=NoticeState.FAILED,
                attempts=9,
                last_error=LastError(reason="WebhookGone", message="HTTP 410.", time=NOON),
            ),
            "given up after 9 attempts; `retry` sends it again; WebhookGone: HTTP 410.",
        ),
        (
            EventNotice(id="msg_1", state=NoticeState.DELIVERED, delivered_time=NOON - timedelta(hours=1)),
            "the webhook confirmed it 1h ago (id msg_1)",
        ),
    ],
)
def test_the_notice_to_the_webhook_is_reported(notice: EventNotice, says: str) -> None:
    assert f"Notice        {says}\n" in told(an_event().in_phase(Phase.SUCCEEDED).status(notice=notice))


def explained_notice(state: NoticeState, reason: str) -> EventExplanation:
    error = LastError(reason=reason, message="HTTP 410.", time=NOON)
    notice = EventNotice(id="msg_1", state=state, attempts=9, last_error=error)
    event = an_event().in_phase(Phase.SUCCEEDED, "ArchivedAndKept").status(notice=notice).build()
    return explain(event, an_organization(), None, (), NOON)


def test_an_administrator_has_to_act_about_a_notice_that_was_given_up() -> None:
    why = explained_notice(NoticeState.FAILED, "WebhookGone")
    assert why.turn == "an administrator"
    assert "Correct spec.webhook.url" in why.do
    assert "retry" in why.commands[-1]


@pytest.mark.parametrize(
    ("state", "reason"), [(NoticeState.PENDING, "WebhookFailing"), (NoticeState.FAILED, "WebhookRemoved")]
)
def test_nobody_has_to_act_about_a_notice_that_is_tried_again_or_not_wanted(
    state: NoticeState, reason: str
) -> None:
    why = explained_notice(state, reason)
    assert (why.turn, why.commands) == ("nobody has to act", ())


async def test_the_secret_of_a_lost_key_is_created_and_not_patched() -> None:
    sender = an_unauthorized_sender(reason="KeyMissing", tokenSecretRef={"name": "anna-key", "key": "token"})
    kube = InMemoryKubeClient(sender, an_organization())
    with pytest.raises(CommandError) as stopped:
        await consent.run(argparse.Namespace(sender="anna", mail=False, output="text"), kube, io.StringIO())
    assert "kubectl -n tests create secret generic anna-key " in str(stopped.value)


def test_a_kept_envelope_is_not_called_cleaned() -> None:
    kept = a_condition("Cleaned", "True", "ArchivedAndKept", NOON)
    event = an_event().in_phase(Phase.SUCCEEDED, "ArchivedAndKept").build()
    status = replace(event.status, conditions=(parse_part(Condition, kept),), completion_time=NOON)
    text = page(explain(replace(event, status=status), an_organization(), None, (), NOON))
    assert re.search(r"^  Cleaned +kept ", text, re.MULTILINE)


def test_what_waits_for_consent_names_the_sender_and_the_link() -> None:
    event = an_event().in_phase(Phase.AWAITING_CONSENT, "TokenRejected")
    event.status(envelope=EnvelopeSummary(name="Lease", status="Completed"))
    event.labelled("counterfoil.dev/sender", "anna")
    said = page(explain(event.build(), an_organization(oauth=OAUTH), an_unauthorized_sender(), (), NOON))
    assert "https://sign.acme.example/consent/acme/anna" in said
    assert "the sender" in said
    assert "'Lease'" in said


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (an_event(), "worked on as soon as there is room"),
        (an_event().labelled(REQUEST_LABEL, "skip"), "a person asked for skip"),
        (an_event().in_phase(Phase.PENDING, "Suspended"), "continues when the suspension ends"),
        (
            an_event().in_phase(Phase.SUCCEEDED, "ArchivedAndDeleted").status(completion_time=NOON),
            "nothing; this EnvelopeEvent is removed in 33 days (2026-08-03 12:00:00 UTC), ",
        ),
        (
            an_event().in_phase(Phase.SUCCEEDED, "DeletionAssumed").status(completion_time=NOON),
            "a new callback starts it again; this EnvelopeEvent is removed in 33 days ",
        ),
        (
            an_event()
            .in_phase(Phase.SUCCEEDED, "ArchivedAndKept")
            .status(completion_time=NOON, next_attempt_time=NOON + timedelta(minutes=10)),
            "the files of the envelope are listed again in ",
        ),
        (
            an_event()
            .in_phase(Phase.SKIPPED, "ArchivedAsExpired")
            .status(completion_time=NOON, next_attempt_time=NOON + timedelta(minutes=10)),
            "the files of the envelope are listed again in ",
        ),
        (an_event().in_phase(Phase.SKIPPED, "UnexpectedStatus"), "a new callback or"),
        (
            an_event()
            .in_phase(Phase.VALIDATING, "StillActive")
            .status(next_attempt_time=NOON - timedelta(seconds=5)),
            "attempt 1 now",
        ),
    ],
)
def test_each_state_says_what_is_next(event: EventBuilder, words: str) -> None:
    assert words in told(event)


@pytest.mark.parametrize(
    ("event", "effect"),
    [
        (
            an_event().in_phase(Phase.SUCCEEDED, "ArchivedAndKept"),
            " The envelope is not deleted in eSignAnyWhere, and this event stays beyond spec.ttl.",
        ),
        (
            an_event().in_phase(Phase.FAILED, "NameOccupied"),
            " The envelope is not deleted in eSignAnyWhere, and this event stays beyond spec.ttl.",
        ),
        (
            an_event().in_phase(Phase.SUCCEEDED, "ArchivedAndDeleted"),
            " The event has ended, so this changes nothing.",
        ),
        (an_event().in_phase(Phase.ARCHIVING, "Suspended"), " The event waits until it is resumed."),
        (an_event().in_phase(Phase.ARCHIVING, "ArchiveFull"), " The event waits until it is resumed."),
    ],
)
def test_a_suspended_event_says_in_each_phase_who_suspended_it_and_what_that_does(
    event: EventBuilder, effect: str
) -> None:
    acts = with_audit_entry({}, AuditEntry("admin", "suspend", NOON - timedelta(hours=2), "legal hold"))
    built = event.suspended().status(completion_time=NOON).build()
    recorded = replace(built, metadata=replace(built.metadata, annotations=acts))
    said = page(explain(recorded, an_organization(), None, (), NOON))
    assert f"Suspended     since 2h, by admin: legal hold.{effect}\n" in said
    assert f"kubectl counterfoil -n tests resume envelopeevent {built.name}\n" in said
    said = page(explain(built, an_organization(), None, (), NOON))
    assert f"Suspended     It is not recorded since when and by whom.{effect}\n" in said


@pytest.mark.parametrize(
    ("age", "default", "words"),
    [
        (
            4,
            None,
            "; fails in 1m (2026-07-01 12:01:00 UTC) if no page records the sender by then, or later while a "
            "draft of the Organization is open",
        ),
        (4, "anna", "; continues with the default Sender in 1m (2026-07-01 12:01:00 UTC)"),
        (6, None, "; fails as soon as no draft of the Organization is open"),
    ],
)
def test_an_event_whose_sender_is_recorded_late_says_when_it_fails(
    age: int, default: str | None, words: str
) -> None:
    event = (
        an_event()
        .created(NOON - timedelta(minutes=age))
        .in_phase(Phase.VALIDATING, "SenderPending")
        .status(attempts=2, next_attempt_time=NOON + timedelta(seconds=30), phase_start_time=NOON)
        .build()
    )
    ref = {"name": default} if default is not None else None
    said = page(explain(event, an_organization(oauth=OAUTH, defaultSenderRef=ref), None, (), NOON))
    assert f"Next          attempt 3 in 30s (2026-07-01 12:00:30 UTC){words}\n" in said
    assert "Who must act  nobody has to act\n" in said


def test_the_command_that_ends_a_suspension_names_what_is_suspended() -> None:
    event = an_event().in_phase(Phase.ARCHIVING, "OrganizationSuspended").build()
    said = page(explain(event, an_organization(suspend=True), None, (), NOON))
    assert "To type       kubectl counterfoil -n tests resume organization acme\n" in said
    assert "Suspended     It is not recorded since when and by whom.\n" in said


def test_when_the_callback_arrived_and_when_the_event_ended_is_said() -> None:
    event = an_event().in_phase(Phase.SUCCEEDED, "ArchivedAndKept")
    event.status(first_delivery_time=NOON - timedelta(minutes=2), completion_time=NOON)
    said = told(event)
    assert "Received      2026-07-01 11:58:00 UTC\n" in said
    assert "Ended         2026-07-01 12:00:00 UTC\n" in said


def test_a_sentence_that_the_last_problem_and_a_step_repeat_is_printed_once() -> None:
    event = an_event().in_phase(Phase.ARCHIVING, "ArchiveUnreachable")
    problem = LastError(reason="ArchiveUnreachable", message="The server is unavailable.", time=NOON)
    step = Condition("Archived", "False", "ArchiveUnreachable", "The server is unavailable.", NOON)
    said = told(event.status(message="The server is unavailable.", last_error=problem, conditions=(step,)))
    assert said.count("The server is unavailable.") == 1
    assert "Last problem  ArchiveUnreachable, 0s ago\n" in said
    assert "Archived          not yet  as above\n" in said


@pytest.mark.parametrize(
    ("finding", "reason"),
    [
        ("SignaturesChecked", "NoSignatures"),
        ("SignaturesChecked", "SignatureBroken"),
        ("EvidenceComplete", "DocumentsMissing"),
        ("FilesLeftBehind", "FilesListed"),
        ("ParametersArchived", "ParametersLate"),
        ("DeleteRequested", "DeleteUnconfirmed"),
    ],
)
@pytest.mark.parametrize(("truth", "word"), [("False", "no"), ("True", "yes"), ("Unknown", "unknown")])
def test_what_a_check_found_is_yes_or_no_and_not_a_step_that_is_to_come(
    finding: str, reason: str, truth: ConditionStatus, word: str
) -> None:
    found = Condition(finding, truth, reason, "What was found.", NOON)
    said = told(an_event().in_phase(Phase.SUCCEEDED, "ArchivedAndKept").status(conditions=(found,)))
    assert f"  {finding:<18}{word:<9}What was found.\n" in said


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("archivefull", "no event has a reason archivefull. Did you mean ArchiveFull?"),
        ("TagMising", "no event has a reason TagMising. Did you mean TagMissing?"),
        ("Weather", "no event has a reason Weather."),
    ],
)
async def test_a_reason_that_does_not_exist_is_refused_with_the_nearest_one(word: str, said: str) -> None:
    kube, out = InMemoryKubeClient(), io.StringIO()
    args = entry_point.parsers()[0].parse_args(["retry", "--reason", word])
    with pytest.raises(CommandError, match=re.escape(said)) as refused:
        await RETRY.run(args, kube, out)
    assert refused.value.exit_status is ExitStatus.MISUSED


@pytest.mark.parametrize("reason", ["TagMissing", "OfANewerController"])
async def test_a_reason_that_exists_may_match_events_or_none(reason: str) -> None:
    kube, out = InMemoryKubeClient(), io.StringIO()
    if reason != "TagMissing":
        kube.put(an_event().in_phase(Phase.FAILED, reason).build())
    args = entry_point.parsers()[0].parse_args(["retry", "--dry-run", "--reason", reason, "-o", "text"])
    assert await RETRY.run(args, kube, out) is ExitStatus.DONE
    assert ("no event matches" in out.getvalue()) is (reason == "TagMissing")


def test_a_reason_without_words_is_refused() -> None:
    err = io.StringIO()
    assert entry_point.run(["skip", "x", "--because", " "], io.StringIO(), err) == ExitStatus.MISUSED
    assert "give the reason in words" in err.getvalue()


def test_a_context_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    config, err = tmp_path / "config", io.StringIO()
    config.write_text("contexts: [{name: test}, {name: production}]")
    flags = ["--kubeconfig", str(config), "--context", "nowhere"]
    assert entry_point.run([*flags, "why", "x"], io.StringIO(), err) == ExitStatus.MISUSED
    assert "no context 'nowhere'; there are: test, production" in err.getvalue()


def test_an_envelope_that_is_stuck_in_esaw_says_who_must_act_there() -> None:
    stuck = "its history shows a step `EnvelopeCallback` in an error state, with no attempts left."
    said = told(an_event().in_phase(Phase.VALIDATING, "EsawErrorState").status(message=stuck))
    assert stuck in said
    assert "an administrator" in said
    assert "Open the errors view of eSignAnyWhere" in said


def test_when_esaw_deletes_an_envelope_that_is_not_archived_is_said() -> None:
    organization = an_organization(retention="720h")

    def said(event: EventBuilder, organization: Organization | None) -> str:
        return page(explain(event.build(), organization, None, (), NOON + timedelta(days=28)))

    failed = an_event().in_phase(Phase.FAILED, "ArchiveFull")
    assert "Deleted there in 48h (2026-07-31 12:00:00 UTC), by eSAW itself" in said(failed, organization)
    assert "Deleted there" not in said(failed, an_organization())
    assert "Deleted there" not in said(failed, None)
    assert "Deleted there" not in said(an_event().in_phase(Phase.SUCCEEDED), organization)


def test_what_people_wrote_does_not_talk_to_the_terminal() -> None:
    event = an_event().status(envelope=EnvelopeSummary(name="\x1b[2Jgone\r", status="Completed"))
    assert told(event).isascii()
    assert "\x1b" not in told(event)


def test_the_organization_and_the_sender_may_be_unreadable() -> None:
    event = an_event().in_phase(Phase.AWAITING_CONSENT, "TokenRejected").build()
    assert "continues automatically as soon as the sender's key works" in page(
        explain(event, None, None, (), NOON)
    )


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.ARCHIVING])
def test_an_event_whose_controller_is_gone_is_not_shown_as_in_progress(phase: Phase) -> None:
    absence = UnheldShard("counterfoil-shard-0-of-1", "pod-1", NOON)
    event = EventBuilder().in_phase(phase).build()
    text = page(explain(event, an_organization(), None, (), NOON, absence=absence))
    assert "No controller is active for these events." in text
    assert "pod-1 renewed Lease/counterfoil-shard-0-of-1 for the last time" in text
    assert "Next          nothing until a controller runs" in text
    assert "Who must act  an administrator" in text


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.ARCHIVING])
def test_whether_a_controller_works_is_not_known_without_the_leases(phase: Phase) -> None:
    event = EventBuilder().in_phase(phase).build()
    why = explain(
        event, an_organization(), None, (), NOON, is_controller_unknown=True, unread=("leases: no",)
    )
    assert why.turn == "not known, since the Leases that tell whether a controller works could not be read"
    assert why.next.endswith(", if a controller works")
    assert "\nNot read\n  leases: no\n" in page(why)


def test_who_must_act_stays_known_without_the_leases_if_somebody_must_or_the_event_is_final() -> None:
    failed = EventBuilder().in_phase(Phase.FAILED, "NameOccupied").build()
    assert explain(failed, None, None, (), NOON, is_controller_unknown=True).turn == "an administrator"
    done = EventBuilder().in_phase(Phase.SUCCEEDED, "ArchivedAndKept").build()
    assert explain(done, None, None, (), NOON, is_controller_unknown=True).turn == "nobody has to act"


LEASES_REFUSED = (
    'leases.coordination.k8s.io is forbidden: User "jane" cannot list resource "leases" in API group '
    '"coordination.k8s.io" in the namespace "contracts"'
)
GRANT = "`kubectl -n contracts create rolebinding counterfoil-view --clusterrole=view --user=jane`"


async def test_why_names_what_could_not_be_read_and_the_command_that_gives_the_right() -> None:
    event = EventBuilder().in_phase(Phase.ARCHIVING).build()
    kube, out = InMemoryKubeClient(event), io.StringIO()
    kube.refused["page", "leases"] = Forbidden(403, "Forbidden", LEASES_REFUSED)
    kube.refused["get", "acme"] = Forbidden(
        403, "Forbidden", LEASES_REFUSED.replace("leases", "organizations").replace("list", "get")
    )
    args = argparse.Namespace(event=event.name, all_namespaces=False, output="json")
    assert await why_command.run(args, kube, out) == ExitStatus.DONE
    told = json.loads(out.getvalue())
    assert [each.split(":")[0] for each in told["unread"]] == ["organizations", "leases"]
    assert all(GRANT in each for each in told["unread"][1:])
    assert told["turn"].startswith("not known")


def test_a_finished_event_needs_no_controller() -> None:
    event = EventBuilder().in_phase(Phase.SUCCEEDED, "ArchivedAndKept").build()
    assert "Controller" not in page(explain(event, None, None, (), NOON, absence=UnheldShard()))


def test_an_archive_that_was_only_chosen_is_not_called_filed() -> None:
    chosen = ArchiveLocation(ref=LocalObjectReference(name="dms"))
    event = EventBuilder().in_phase(Phase.ARCHIVING).status(archive=chosen).build()
    assert "Filed" not in page(explain(event, None, None, (), NOON))


def test_the_last_attempts_and_what_a_person_asked_for_last_are_reported() -> None:
    attempt = Attempt(
        phase=Phase.COLLECTING,
        start_time=NOON,
        duration_seconds=75,
        outcome=AttemptOutcome.WAIT,
        reason="EsawFailing",
    )
    last = LastRequest(
        request="retry",
        by="maria\x1b[2J",
        reason="eSAW is back",
        outcome=RequestOutcome.DONE,
        message="The event was Failed; it is tried again.",
        handled_time=NOON,
    )
    event = an_event().status(attempt_history=(attempt,), last_request=last).build()
    why = explain(event, None, None, (), NOON)
    text = page(why)
    assert "  2026-07-01 12:00:00 UTC  Collecting  1m15s   Wait: EsawFailing\n" in text
    assert (
        "Last request  retry at 2026-07-01 12:00:00 UTC, in the name of maria?[2J, because: eSAW is back. "
        "Done: The event was Failed; it is tried again.\n"
    ) in text
    assert "Last request" not in page(explain(an_event().build(), None, None, (), NOON))
    assert format_answer("json", why).count('"seconds": 75') == 1


async def test_the_answer_to_ones_own_request_is_distinguished_from_that_to_another() -> None:
    kube = InMemoryKubeClient(an_organization(), a_shard_lease(0, 1, renewed=datetime.now(UTC)))
    id_ = await make_request(kube, Organization, "acme", "sweep")
    other = LastRequest(request="sweep", outcome=RequestOutcome.REFUSED, handled_time=NOON, id="of another")
    kube.edit(Organization, "acme", {"status": {"lastRequest": to_json_dict(other)}})
    with pytest.raises(CommandError, match=r"has not answered within 0\.05 s"):
        await wait_for_answer(kube, Organization, "acme", id_, 0.05)
    ours = replace(other, outcome=RequestOutcome.DONE, id=id_)
    kube.edit(Organization, "acme", {"status": {"lastRequest": to_json_dict(ours)}})
    _, last = await wait_for_answer(kube, Organization, "acme", id_, 5.0)
    assert last == ours


async def test_a_request_that_another_one_replaced_is_not_waited_for() -> None:
    kube = InMemoryKubeClient(an_organization(), a_shard_lease(0, 1, renewed=datetime.now(UTC)))
    id_ = await make_request(kube, Organization, "acme", "sweep")
    await make_request(kube, Organization, "acme", "sweep")
    with pytest.raises(CommandError, match="somebody made another request"):
        await wait_for_answer(kube, Organization, "acme", id_, 5.0)


async def test_a_request_has_its_parameters_and_gives_up_beside_writers_that_never_pause() -> None:
    kube = InMemoryKubeClient(an_organization())
    await make_request(kube, Organization, "acme", "check", because="new", parameters={"envelope": "77"})
    annotations = kube.objects[Organization.PLURAL, "acme"]["metadata"]["annotations"]
    assert annotations["counterfoil.dev/request-envelope"] == "77"
    assert annotations["counterfoil.dev/request-by"] == "jane"
    kube.fail("patch", *[Conflict(409, "Conflict", "somebody was first")] * MAX_CHANGE_ATTEMPTS)
    with pytest.raises(CommandError, match="written by others all the time"):
        await make_request(kube, Organization, "acme", "sweep")


async def test_a_sweep_without_a_controller_reports_it_at_once() -> None:
    kube = InMemoryKubeClient(an_organization(), a_shard_lease(0, 1, renewed=NOON))
    args = argparse.Namespace(organization="acme", timeout=120.0, output="text")
    with pytest.raises(CommandError, match="no controller works") as ended:
        await sweep.run(args, kube, io.StringIO())
    assert ended.value.exit_status is ExitStatus.NOT_ALL
    # It is asked for all the same.
    assert ("patch", "acme") in kube.asked


@pytest.mark.parametrize(("kind", "request_"), [(Organization, "sweep"), (Sender, "ask")])
async def test_a_controller_that_ends_during_a_request_is_reported_as_soon_as_its_lease_ends(
    kind: Any, request_: str
) -> None:
    held, ended = (a_shard_lease(0, 1, renewed=each) for each in (datetime.now(UTC), NOON))
    kube = InMemoryKubeClient(an_organization(), a_sender(name="acme"), held)
    id_ = await make_request(kube, kind, "acme", request_)
    waiting = asyncio.create_task(wait_for_answer(kube, kind, "acme", id_, 60.0, look_seconds=0.01))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    kube.edit(Lease, held.name, to_json_dict(ended))
    with pytest.raises(CommandError, match="no controller works") as told:
        await asyncio.wait_for(waiting, 10)
    assert told.value.exit_status is ExitStatus.NOT_ALL


@pytest.mark.parametrize("command", ["sweep", "consent"])
async def test_a_controller_s_answer_does_not_control_the_terminal(
    command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kube = InMemoryKubeClient(an_organization(oauth=OAUTH), a_sender(tokenSecretRef=None))
    outcome, said = RequestOutcome.DONE, "\x1b[2Jdone"
    last = LastRequest(request="sweep", outcome=outcome, handled_time=NOON, id="1", message=said)
    organization, swept = an_organization(), SweepResult(completion_time=NOON, found=0, known=0)

    async def answered(*arguments: object, **named: object) -> tuple[Organization, LastRequest]:
        return replace(organization, status=replace(organization.status, sweep=swept)), last

    module, out = {"sweep": sweep, "consent": consent}[command], io.StringIO()
    monkeypatch.setattr(module, "wait_for_answer", answered)
    args = argparse.Namespace(organization="acme", sender="anna", mail=True, timeout=1.0, output="text")
    assert await module.run(args, kube, out) is ExitStatus.DONE
    assert "?[2Jdone\n" in out.getvalue()


async def test_a_sweep_that_skipped_senders_is_not_complete_and_reports_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kube = InMemoryKubeClient(an_organization(), a_shard_lease(0, 1, renewed=datetime.now(UTC)))
    said = "Finished envelopes without an event: 1. Not searched: Sender/anna."

    async def answered(*arguments: object) -> tuple[Organization, LastRequest]:
        last = LastRequest(
            request="sweep", outcome=RequestOutcome.DONE, handled_time=NOON, id="1", message=said
        )
        return an_organization(), last

    monkeypatch.setattr(sweep, "wait_for_answer", answered)
    args = argparse.Namespace(organization="acme", timeout=120.0, output="text")
    with pytest.raises(CommandError, match=r"the sweep is not complete\. Finished envelopes") as ended:
        await sweep.run(args, kube, io.StringIO())
    assert ended.value.exit_status is ExitStatus.NOT_ALL


def cleaned_of(found: Any) -> Any:
    paths = ArchivePaths(b"key")
    return remove_personal_data(found, lambda text: without_people(paths.hide(text)))


def test_a_bundle_leaves_out_tokens_people_and_what_kubernetes_keeps_for_itself() -> None:
    cleaned = cleaned_of(
        {
            "metadata": {"name": "anna", "managedFields": [{"manager": "kubectl"}]},
            "spec": {"email": "anna@acme.example", "givenName": "Anna", "userID": "7"},
            "status": {"message": f"key {TOKEN} of anna@acme.example", "documents": [{"sha256": SHA256}]},
        }
    )
    assert cleaned == {
        "metadata": {"name": "anna", "managedFields": OMITTED},
        "spec": {"email": OMITTED, "givenName": OMITTED, "userID": "7"},
        "status": {"message": f"key [redacted] of {OMITTED}", "documents": [{"sha256": SHA256}]},
    }


class ForbiddingKubeClient(KubeClient):
    """A namespace with one pod whose log is not what it should be, and nothing else that may be read."""

    def __init__(self) -> None:
        self.namespace = "contracts"

    async def pods(self, *, labels: str) -> Sequence[Raw]:
        environment = [{"name": "BY_HAND", "value": "hunter2"}]
        spec = {"containers": [{"name": "controller", "env": environment}, {"name": "proxy"}]}
        return [{"metadata": {"name": "controller-0"}, "spec": spec, "status": {"phase": "Running"}}]

    async def pod_log(self, name: str, container: str, *, lines: int) -> str:
        if container == "proxy":
            raise Forbidden(403, "Forbidden", "not this one")
        return f"{lines} lines, a key {TOKEN}"

    async def list(self, kind: type[Resource], **_: object) -> AsyncIterator[Raw]:
        if self.namespace:
            raise Forbidden(403, "Forbidden", f"no {kind.PLURAL}")
        yield {}

    async def shard_leases(self) -> tuple[Lease, ...]:
        raise Forbidden(403, "Forbidden", "no leases")

    async def list_events(self) -> Sequence[Raw]:
        raise Unavailable(0, "NoAnswer", "away")

    async def server_version(self) -> Raw:
        return {"gitVersion": "v1.35.4"}


async def test_a_bundle_has_the_logs_without_what_looks_like_a_token_and_names_what_is_missing() -> None:
    bundle = SupportBundle(ForbiddingKubeClient(), ArchivePaths(b"key"))
    await bundle.collect(lines=7, events=10)
    assert bundle.files["logs/controller-0.controller.log"] == "7 lines, a key [redacted]"
    assert "v1.35.4" in bundle.files["version.yaml"]
    assert "hunter2" not in "".join(bundle.files.values())
    assert [each.partition(":")[0] for each in bundle.missing] == [
        *(
            f"resources/{plural}.yaml"
            for plural in ("organizations", "archives", "senders", "envelopes", "envelopeevents")
        ),
        "resources/imports.yaml",
        "leases.yaml",
        "kubernetes-events.yaml",
        "logs/controller-0.proxy.log",
    ]


def test_a_token_can_not_hide_in_the_field_for_hashes() -> None:
    assert cleaned_of({"sha256": TOKEN}) == {"sha256": "[redacted]"}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["di"], ["diagnose"]),
        (["retry", "--re"], ["--reason", "--request-timeout"]),
        (["completion", ""], ["bash", "fish", "powershell", "zsh"]),
        (["suspend", "arch"], ["archive"]),
        (["-n", "contracts", "why", "--con"], ["--context"]),
        (["verify", "/arch"], []),
        (["verify", "--pu"], ["--public-key"]),
        (["verify", "--out"], ["--output"]),
        (["render", "--ar"], ["--archive"]),
    ],
)
def test_commands_and_flags_are_completed(words: list[str], expected: list[str]) -> None:
    out = io.StringIO()
    completion.write_candidates(words, *entry_point.parsers(), out)
    *offered, directive = out.getvalue().splitlines()
    assert offered == expected
    assert directive == (":0" if words == ["verify", "/arch"] else ":4")


@pytest.mark.parametrize("shell", sorted(completion.SCRIPTS))
def test_each_shell_has_a_script_that_asks_the_same_program(shell: str) -> None:
    out = io.StringIO()
    assert entry_point.run(["completion", shell], out, io.StringIO()) == ExitStatus.DONE
    assert "kubectl_complete-counterfoil" in out.getvalue()


def test_the_namespace_is_that_of_the_context_in_the_first_file_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("current-context: b\ncontexts: [{name: a, context: {namespace: of-a}}]")
    other.write_text("current-context: a\ncontexts: [{name: b, context: {namespace: of-b}}]")
    monkeypatch.setenv("KUBECONFIG", f"{one}:{tmp_path / 'missing'}:{other}")
    assert config_flags.context_namespace() == "of-b"
    assert config_flags.context_namespace(context="a") == "of-a"
    assert config_flags.context_namespace(kubeconfig=other) is None


def test_a_bundle_does_not_repeat_as_text_what_it_leaves_out_nor_say_who_asked_for_something() -> None:
    annotations = {
        "kubectl.kubernetes.io/last-applied-configuration": '{"spec": {"surname": "Kofler"}}',
        "counterfoil.dev/acts": '[{"who": "Kofler", "what": "retry", "why": "Kofler"}]',
        "counterfoil.dev/request-by": "Kofler",
        "counterfoil.dev/request-reason": "Kofler asked for it",
    }
    status = {"lastRequest": {"request": "retry", "by": "Kofler", "reason": "Kofler", "outcome": "Done"}}
    told = [{"action": action, "note": "Kofler asked for retry"} for action in ("Act", "Request")]

    cleaned = cleaned_of({"metadata": {"annotations": annotations}, "status": status, "told": told})

    assert "Kofler" not in str(cleaned)
    assert cleaned["status"]["lastRequest"]["outcome"] == "Done"


def test_a_bundle_names_parameters_and_tags_of_an_envelope_and_has_not_their_values() -> None:
    event = {
        "spec": {"parameters": {"contract": "Kofler"}},
        "status": {
            "parameters": {"contract": "Kofler"},
            "archive": {"ref": {"name": "dms"}, "tags": {"customer": "Kofler"}},
        },
    }

    cleaned = cleaned_of(event)

    assert "Kofler" not in str(cleaned)
    assert cleaned["status"]["archive"] == {"ref": {"name": "dms"}, "tags": {"customer": OMITTED}}
    rules = {"spec": {"tags": {"customer": {"xpath": "/tags/customer"}}, "parameters": ["contract"]}}
    assert cleaned_of(rules) == rules


def test_a_bundle_has_no_path_of_an_archived_file_in_which_a_tag_may_be() -> None:
    folder = "s3://acme/contracts/Kofler/0f000000-0000-4000-8000-000000000001"
    event = {
        "status": {
            "message": f"{folder}/Kofler-1.pdf is there already.",
            "archive": {"manifest": f"{folder}/counterfoil.json"},
            "documents": [{"fileName": "contract.pdf", "location": f"{folder}/Kofler-1.pdf"}],
        },
    }

    cleaned = cleaned_of(event)

    assert "Kofler" not in str(cleaned)
    manifest, (document,) = cleaned["status"]["archive"]["manifest"], cleaned["status"]["documents"]
    assert manifest.startswith("s3://acme/")
    place = manifest.removesuffix("counterfoil.json")
    assert document["location"].startswith(place)
    assert cleaned["status"]["message"].startswith(document["location"])


def test_what_happened_without_a_person_stays_in_a_bundle() -> None:
    assert cleaned_of({"action": "Archive", "note": "filed"}) == {
        "action": "Archive",
        "note": "filed",
    }


def test_a_bundle_is_nobody_elses_from_the_first_byte_on(tmp_path: Path) -> None:
    path = tmp_path / "bundle.tar.gz"
    bundle = SupportBundle(ForbiddingKubeClient(), ArchivePaths(b"key"))
    bundle.files["broken.yaml"] = "\ud800"
    before = os.umask(0)
    try:
        with pytest.raises(UnicodeEncodeError):
            diagnose._write(path, bundle, "bundle")
    finally:
        os.umask(before)

    assert path.stat().st_mode & 0o777 == 0o600


class Nameless(InMemoryKubeClient):
    """An API server that does not say who its users are."""

    async def whoami(self) -> str:
        raise Forbidden(403, "Forbidden", "selfsubjectreviews is forbidden")


async def test_who_is_not_known_asks_for_nothing_rather_than_in_another_name() -> None:
    event = an_event().in_phase(Phase.FAILED).build()
    kube = Nameless(event)
    chosen = entry_point.parsers()[0].parse_args(["retry", event.name, "-o", "text"])
    with pytest.raises(Forbidden):
        await RETRY.run(chosen, kube, io.StringIO())
    assert kube.stored(event.name) == event


async def test_retry_of_an_event_that_waits_for_its_delete_says_until_when_it_waits() -> None:
    status = {"reason": "CleanupDelayed", "next_attempt_time": NOON + timedelta(days=3)}
    event = an_event().archived().in_phase(Phase.CLEANING).status(**status).build()
    out = io.StringIO()
    chosen = entry_point.parsers()[0].parse_args(["retry", event.name, "-o", "text"])
    await RETRY.run(chosen, Named(event), out)
    assert "retry is asked for, it was Cleaning. A retry does not shorten" in out.getvalue()
    assert "until 2026-07-04 12:00:00 UTC" in out.getvalue()


@pytest.mark.parametrize(("state", "asked"), [(NoticeState.FAILED, True), (NoticeState.DELIVERED, False)])
async def test_retry_of_a_succeeded_event_is_for_its_notice_only(state: NoticeState, asked: bool) -> None:
    notice = EventNotice(id="msg_1", state=state)
    event = an_event().in_phase(Phase.SUCCEEDED).status(notice=notice).build()
    kube = Named(event)
    chosen = entry_point.parsers()[0].parse_args(["retry", event.name, "-o", "text"])
    await RETRY.run(chosen, kube, io.StringIO())
    assert (REQUEST_LABEL in kube.stored(event.name).metadata.labels) == asked


class Named(InMemoryKubeClient):
    """An API server that says who its user is."""

    async def whoami(self) -> str:
        return "anna"


@pytest.mark.parametrize("command", [RETRY, SKIP], ids=["retry", "skip"])
async def test_an_event_that_changes_during_the_request_is_not_changed(command: RequestCommand) -> None:
    event = an_event().in_phase(Phase.FAILED, "NameOccupied").build()
    kube, out = Named(event), io.StringIO()
    changed = {"status": {"reason": "SenderUnknown\x1b[2J"}}
    kube.just_before("patch", lambda: kube.edit(EnvelopeEvent, event.name, changed))
    words = [command.request, event.name, "--because", "a duplicate", "-o", "text"]
    chosen = entry_point.parsers()[0].parse_args(words)

    assert await command.run(chosen, kube, out) is ExitStatus.NOT_ALL

    assert REQUEST_LABEL not in kube.stored(event.name).metadata.labels
    assert "it changed from Failed/NameOccupied to Failed/SenderUnknown?[2J;" in out.getvalue()


async def test_a_skip_needs_a_reason_as_in_the_console() -> None:
    event = an_event().in_phase(Phase.FAILED, "NameOccupied").build()
    kube, parse = Named(event), entry_point.parsers()[0].parse_args
    with pytest.raises(CommandError, match=r"only a retry undoes a skip.*--because") as refused:
        await SKIP.run(parse(["skip", event.name, "-o", "text"]), kube, io.StringIO())
    assert refused.value.exit_status is ExitStatus.MISUSED
    assert REQUEST_LABEL not in kube.stored(event.name).metadata.labels
    # A retry needs no reason.
    await RETRY.run(parse(["retry", event.name, "-o", "text"]), kube, io.StringIO())
    assert kube.stored(event.name).metadata.labels[REQUEST_LABEL] == "retry"


async def test_a_skip_of_a_choice_counts_the_events_that_it_changes() -> None:
    label = ("counterfoil.dev/organization", "acme")
    failed = an_event("e-1").in_phase(Phase.FAILED, "NameOccupied").labelled(*label).build()
    ended = an_event("e-2").in_phase(Phase.SUCCEEDED, "ArchivedAndDeleted").labelled(*label).build()
    parse = entry_point.parsers()[0].parse_args
    choice = ["skip", "-l", "=".join(label), "--because", "a duplicate", "-o", "text"]
    with pytest.raises(CommandError, match=r"^1 event would be skipped"):
        await SKIP.run(parse(choice), Named(failed, ended), io.StringIO())


async def test_a_skip_of_a_choice_needs_the_digest_of_what_was_shown() -> None:
    event = an_event().in_phase(Phase.FAILED, "NameOccupied").build()
    kube, out = Named(event), io.StringIO()
    parse = entry_point.parsers()[0].parse_args
    choice = ["skip", "--all-failed", "--because", "a duplicate", "-o", "text"]
    with pytest.raises(CommandError, match=r"only a retry undoes that.*--dry-run") as refused:
        await SKIP.run(parse(choice), kube, out)
    assert refused.value.exit_status is ExitStatus.MISUSED

    await SKIP.run(parse([*choice, "--dry-run"]), kube, out)
    digest = out.getvalue().split("--digest ")[1].strip()
    assert REQUEST_LABEL not in kube.stored(event.name).metadata.labels

    kube.edit(EnvelopeEvent, event.name, {"status": {"reason": "SenderUnknown"}})
    with pytest.raises(CommandError, match="other states") as changed:
        await SKIP.run(parse([*choice, "--digest", digest]), kube, out)
    assert changed.value.exit_status is ExitStatus.NOT_ALL
    assert REQUEST_LABEL not in kube.stored(event.name).metadata.labels

    kube.edit(EnvelopeEvent, event.name, {"status": {"reason": "NameOccupied"}})
    assert await SKIP.run(parse([*choice, "--digest", digest]), kube, out) is ExitStatus.DONE
    metadata = kube.stored(event.name).metadata
    assert metadata.labels[REQUEST_LABEL] == "skip"
    assert metadata.annotations["counterfoil.dev/request-expected"] == "Failed/NameOccupied"


async def test_a_retry_of_a_choice_needs_the_digest_if_it_takes_back_a_skip() -> None:
    skipped = an_event().in_phase(Phase.SKIPPED, "SkippedByRequest").status(skipped_time=NOON).build()
    failed = (
        an_event("11111111-4b1d-4c58-9a57-6d1f0a3b2c4d")
        .in_phase(Phase.FAILED, "NameOccupied")
        .status(skipped_time=NOON)
        .build()
    )
    kube, parse = Named(skipped, failed), entry_point.parsers()[0].parse_args
    # This retry leaves the skip of before.
    choice = ["retry", "--all-failed", "-o", "text"]
    assert await RETRY.run(parse(choice), kube, io.StringIO()) is ExitStatus.DONE
    assert kube.stored(failed.name).metadata.labels[REQUEST_LABEL] == "retry"

    choice, out = ["retry", "--reason", "SkippedByRequest", "-o", "text"], io.StringIO()
    with pytest.raises(CommandError, match="the skip of 1 event would be taken back"):
        await RETRY.run(parse(choice), kube, out)
    assert REQUEST_LABEL not in kube.stored(skipped.name).metadata.labels
    await RETRY.run(parse([*choice, "--dry-run"]), kube, out)
    assert f"{skipped.name}: retry would be asked for, it is Skipped, and a person's skip" in out.getvalue()
    digest = out.getvalue().split("--digest ")[1].strip()
    assert await RETRY.run(parse([*choice, "--digest", digest]), kube, out) is ExitStatus.DONE
    assert kube.stored(skipped.name).metadata.labels[REQUEST_LABEL] == "retry"


async def test_a_retry_by_name_that_takes_back_a_skip_says_that() -> None:
    skipped = an_event().in_phase(Phase.SKIPPED, "SkippedByRequest").status(skipped_time=NOON).build()
    kube, out = Named(skipped), io.StringIO()
    await RETRY.run(entry_point.parsers()[0].parse_args(["retry", skipped.name, "-o", "text"]), kube, out)
    assert out.getvalue() == (
        f"{skipped.name}: retry is asked for, it was Skipped, and a person's skip is taken back\n"
    )


@pytest.mark.parametrize(
    ("reason", "following"),
    [
        ("ArchiveNotReady", "as soon as an Archive that it needs is changed, or Ready after it was not; "),
        ("EsawFailing", "as soon as its Organization is changed, or Reachable after it was not; "),
        ("SenderMissing", "as soon as its Organization is changed, or Reachable after it was not, or its "),
        ("EnvelopeNotFound", "as soon as spec.baseURL or spec.defaultSenderRef of its Organization is "),
    ],
)
def test_a_failed_event_whose_cause_can_be_corrected_starts_again_without_a_retry(
    reason: str, following: str
) -> None:
    said = told(an_event().in_phase(Phase.FAILED, reason))
    assert f"Next          starts again automatically {following}" in said
    assert "a new callback or `kubectl counterfoil retry` starts it at once" in said


@pytest.mark.parametrize("reason", ["EsawFailing", "SymbolicLink"])
def test_why_promises_no_start_after_a_correction_that_no_condition_shows(reason: str) -> None:
    """ESAW told its version and refused the calls, or the probe of the Archive writes elsewhere."""
    said = told(
        an_event().in_phase(Phase.FAILED, "DeadlineExceeded").status(last_error=LastError(reason, "", NOON))
    )
    assert "works again" not in said
    after_others = (
        "Any other correction may need that: `retry --all-failed --reason REASON` starts all of one cause"
    )
    assert after_others in said


@pytest.mark.parametrize(("listed", "is_started"), [(None, True), ("Expired", True), ("Active", False)])
def test_why_says_that_a_search_starts_an_event_that_failed_before_its_envelope_was_finished(
    listed: str | None, *, is_started: bool
) -> None:
    shown = EnvelopeSummary(status="Active")
    failed = an_event().in_phase(Phase.FAILED, "StillActive").status(envelope=shown)
    said = told(failed if listed is None else failed.labelled(LISTED_AFTER_LABEL, listed))
    search = "starts again automatically as soon as a sweep or an Import lists the envelope with another"
    assert (search in said) is is_started
    assert ("nothing automatically" in said) is not is_started


def test_a_failed_event_that_no_change_of_an_object_corrects_starts_again_by_a_person_or_a_callback() -> None:
    said = told(an_event().in_phase(Phase.FAILED, "OriginalDiffers"))
    assert "nothing automatically; a new callback or `kubectl counterfoil retry` starts it again" in said


@pytest.mark.parametrize(
    ("envelope", "starts"),
    [("Completed", "automatically; only `kubectl"), ("Active", "automatically; a new callback or `kubectl")],
)
def test_why_says_whether_a_callback_starts_an_event_that_a_person_skipped(
    envelope: str, starts: str
) -> None:
    event = (
        an_event()
        .in_phase(Phase.SKIPPED, "SkippedByRequest")
        .status(skipped_time=NOON, envelope=EnvelopeSummary(status=envelope))
    )
    explained = explain(event.build(), an_organization(), None, (), NOON)
    assert f"nothing {starts} counterfoil retry` starts it again" in page(explained)


def test_help_explains_every_exit_status_and_has_no_markup_of_docstrings() -> None:
    whole, commands = entry_point.parsers()

    assert all(f"{each.value} {EXIT_STATUS_TEXTS[each]}" in (whole.epilog or "") for each in ExitStatus)
    assert not [name for name, each in commands.items() if "``" in each.format_help()]


def test_why_shows_the_conditions_of_the_phases_in_their_order() -> None:
    conditions = list(PHASE_CONDITIONS.values())
    assert [each for each in CONDITION_ORDER if each in conditions] == conditions
