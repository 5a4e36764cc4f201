"""An envelope that was deleted: which other event of it counts as its archive."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from controller.reconcile.outcomes import Fail, Skip
from controller.reconcile.phases.validate import validate
from counterfoil.esaw import HttpStatusError
from counterfoil.esaw.errors import EsawUnreachable
from counterfoil.resources import (
    SENDER_LABEL,
    ArchiveLocation,
    EnvelopeEvent,
    EnvelopeStatus,
    EnvelopeSummary,
    LocalObjectReference,
    Phase,
    SenderReference,
    with_condition,
)
from counterfoil.resources.conditions import ConditionStatus
from counterfoil.resources.reopening import reopened_status
from tests.support.builders import ANNA, NOON, EventBuilder, an_event, an_organization
from tests.support.fakes import reconcile_context
from tests.support.fakes.reconcile_context import a_probed_archive
from tests.support.scenes.reconciler import ReconcilerScene

ACTIONS = [{"action": each, "handling": "Archive"} for each in ("envelopeFinished", "workstepFinished")]
BOTH = ["Completed", "Expired"]


def another_event(scene: ReconcilerScene) -> EnvelopeEvent:
    """Let eSAW report another action of the envelope, and return the event before it."""
    first = scene.newest()
    scene.event = an_event().for_action("workstepFinished").labelled(SENDER_LABEL, "anna").build()
    scene.kube.put(scene.event)
    return first


async def test_a_document_that_was_signed_after_another_event_archived_the_expired_envelope_is_not_archived(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(
        tmp_path, actions=ACTIONS, statuses=BOTH, cleanup={"policy": "Delete", "after": "168h"}
    )
    scene.envelope.status = EnvelopeStatus.EXPIRED
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    another_event(scene)
    scene.envelope.status = EnvelopeStatus.COMPLETED
    scene.envelope.but("files", HttpStatusError(503))
    assert (await scene.reconcile()).status.reason == "EsawFailing"
    scene.envelope.deleted = True
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeDeleted")
    assert "An earlier state of it is archived" in (after.status.message or "")


async def test_the_event_that_deleted_an_expired_envelope_archived_it_for_its_other_events(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path, actions=ACTIONS, statuses=BOTH)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"
    another_event(scene)
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.SKIPPED, "ArchivedAlready")


@pytest.mark.parametrize(
    ("is_history_readable", "text"),
    [
        (True, "1 of its 2 files arrived, the first one at `{}`, without a manifest."),
        (False, "1 file of it is known to be archived, the first one at `{}`."),
    ],
)
async def test_files_that_arrived_are_named_by_their_place_after_a_retry_with_another_archive(
    tmp_path: Path, is_history_readable: bool, text: str
) -> None:
    short = {"initial": "1s", "max": "1s", "deadline": "1m"}
    scene = ReconcilerScene(tmp_path, retry=short)
    (tmp_path / "new").mkdir()
    scene.observe(a_probed_archive("new", root=tmp_path / "new"))
    scene.envelope.but("download trail-1", EsawUnreachable("cut"))
    await scene.reconcile()
    scene.clock.advance(minutes=2)
    failed = await scene.reconcile()
    (arrived,) = [each for each in failed.status.documents if each.sha256]
    scene.observe(an_organization(version=90, generation=2, archiveRef={"name": "new"}, retry=short))
    again = reopened_status(failed.status, reason="RetryRequested", message="", now=scene.clock.now())
    scene.kube.put(replace(failed, status=again))
    scene.envelope.deleted = True
    if not is_history_readable:
        scene.envelope.but("history", HttpStatusError(403, error_id="ERR0004"))
    message = (await scene.reconcile()).status.message or ""
    assert text.format(arrived.location) in message
    assert "Archive/new" not in message


def seen(status: str) -> EnvelopeSummary:
    return EnvelopeSummary(
        name="Contract", status=status, sender_ref=SenderReference(name="anna", user_id=ANNA)
    )


def a_sibling() -> EventBuilder:
    return an_event().for_action("workstepFinished").archived("contract.pdf", "trail.pdf")


def archived_as_expired(sibling: EventBuilder) -> EventBuilder:
    return sibling.status(envelope=seen("Expired"))


def archived_fewer_files(sibling: EventBuilder) -> EventBuilder:
    return sibling.archived("trail.pdf")


def archived_a_file_of_another_kind(sibling: EventBuilder) -> EventBuilder:
    event = sibling.build()
    documents = tuple(replace(each, kind="Attachment") for each in event.status.documents)
    return sibling.status(documents=documents)


def archived_where_nothing_is_kept(sibling: EventBuilder) -> EventBuilder:
    event = sibling.build()
    documents = tuple(replace(each, location="discarded:/contract") for each in event.status.documents)
    manifest = ArchiveLocation(ref=LocalObjectReference(name="null"), manifest="discarded:/counterfoil.json")
    return sibling.status(documents=documents, archive=manifest)


def lacks_documents(sibling: EventBuilder) -> EventBuilder:
    return sibling.with_condition("EvidenceComplete", "False", "DocumentsMissing")


def lacks_its_audit_trail(sibling: EventBuilder) -> EventBuilder:
    return sibling.with_condition("EvidenceComplete", "False", "AuditTrailMissing")


def has_a_file_in_doubt(sibling: EventBuilder) -> EventBuilder:
    return sibling.with_condition("SignaturesChecked", "False", "SignatureBroken")


def is_not_archived(sibling: EventBuilder) -> EventBuilder:
    return sibling.with_condition("Archived", "False", "Redelivered")


async def explained(sibling: EventBuilder, **status: Any) -> Skip | Fail:
    """Return the outcome for a Completed envelope with one listed document, and one that was deleted."""
    scene = reconcile_context.Scene(statuses=BOTH, evidence={"auditTrail": "Optional"})
    scene.sibling_events = [sibling.build()]
    scene.esaw.deleted = True
    event = an_event().archived("contract.pdf").with_condition("Archived", "False")
    event = event.status(phase=Phase.ARCHIVING, archive=None, **status)
    outcome = await validate(event.build(), scene.context(event.build()))
    assert isinstance(outcome, Skip | Fail)
    return outcome


@pytest.mark.parametrize(
    "change",
    [
        archived_as_expired,
        archived_fewer_files,
        archived_a_file_of_another_kind,
        archived_where_nothing_is_kept,
        lacks_documents,
        has_a_file_in_doubt,
        is_not_archived,
    ],
)
async def test_an_event_that_did_not_archive_all_of_the_envelope_is_no_archive_of_it(
    change: Callable[[EventBuilder], EventBuilder],
) -> None:
    assert isinstance(await explained(a_sibling()), Skip)
    assert (await explained(change(a_sibling()))).reason == "EnvelopeDeleted"


async def test_an_event_whose_audit_trail_is_not_needed_any_more_archived_the_envelope() -> None:
    assert isinstance(await explained(lacks_its_audit_trail(a_sibling())), Skip)


@pytest.mark.parametrize(("archived_as", "is_archive"), [("Completed", True), ("Expired", False)])
async def test_an_event_that_never_saw_the_envelope_believes_only_an_archive_of_its_final_status(
    archived_as: str, *, is_archive: bool
) -> None:
    sibling = a_sibling().status(envelope=seen(archived_as))
    outcome = await explained(sibling, envelope=None, documents=())
    assert isinstance(outcome, Skip if is_archive else Fail)


@pytest.mark.parametrize("earlier", ["Active", "Expired"])
async def test_an_event_that_saw_the_envelope_unfinished_believes_an_archive_of_its_final_status(
    earlier: str,
) -> None:
    assert isinstance(await explained(a_sibling(), envelope=seen(earlier), documents=()), Skip)


async def test_files_that_the_envelope_had_before_it_was_restarted_are_not_looked_for() -> None:
    listed = an_event().archived("contract.pdf", "other.pdf").build().status.documents
    assert isinstance(await explained(a_sibling(), documents=listed), Fail)
    earlier = (listed[0], replace(listed[1], outdated=True))
    assert isinstance(await explained(a_sibling(), documents=earlier), Skip)


async def test_a_discarded_manifest_is_not_named_as_an_archive() -> None:
    outcome = await explained(archived_where_nothing_is_kept(a_sibling()))
    assert "discarded:" not in outcome.message


@pytest.mark.parametrize("requested", ["True", "False"])
async def test_an_expired_envelope_that_another_event_deleted_without_an_answer_was_archived_by_it(
    requested: ConditionStatus,
) -> None:
    sibling = archived_as_expired(a_sibling()).with_condition("Cleaned", "True", "ArchivedAndDeleted")
    sibling = sibling.with_condition("DeleteRequested", requested, "ArchivedAndDeleted")
    outcome = await explained(sibling, envelope=seen("Expired"))
    assert isinstance(outcome, Skip if requested == "True" else Fail)


async def test_an_expired_envelope_whose_deletion_another_event_assumes_may_have_been_signed() -> None:
    sibling = archived_as_expired(a_sibling()).with_condition("Cleaned", "True", "DeletionAssumed")
    sibling = sibling.with_condition("DeleteRequested", "True", "DeleteUnanswered")
    assert (await explained(sibling, envelope=seen("Expired"))).reason == "EnvelopeDeleted"


async def test_the_message_of_another_event_does_not_prove_that_it_deleted_an_expired_envelope() -> None:
    sibling = archived_as_expired(a_sibling()).with_condition("DeleteRequested", "False", "DeleteUnconfirmed")
    cleaned = with_condition(
        sibling.build().status.conditions,
        "Cleaned",
        "True",
        reason="ArchivedAndDeleted",
        message="The envelope was archived, then deleted in eSignAnyWhere.",
        now=NOON,
        generation=1,
    )
    outcome = await explained(sibling.status(conditions=cleaned), envelope=seen("Expired"))
    assert outcome.reason == "EnvelopeDeleted"


class Killed(BaseException):
    """The process ends here."""


def kill() -> None:
    raise Killed


async def test_answers_without_the_envelope_from_before_a_delete_do_not_prove_its_effect(
    tmp_path: Path,
) -> None:
    """The run between them was shown the envelope, and a kill stored no attempt of it."""
    scene = ReconcilerScene(tmp_path, statuses=BOTH, cleanup={"policy": "Delete", "after": "168h"})
    scene.envelope.status = EnvelopeStatus.EXPIRED
    await scene.reconcile()
    scene.clock.advance(hours=169)
    scene.envelope.problems["history"] = HttpStatusError(403, "ERR0010")
    for _ in range(2):
        await not_shown_once(scene)
    scene.envelope.transport.just_before = kill
    with pytest.raises(Killed):
        await scene.reconcile()
    assert scene.envelope.transport.deleted == []
    scene.envelope.transport.just_before = lambda: None
    scene.restarted()
    for _ in range(2):
        after = await not_shown_once(scene)
        assert after.status.phase is Phase.CLEANING
    assert (await not_shown_once(scene)).status.phase is not Phase.CLEANING


async def not_shown_once(scene: ReconcilerScene) -> EnvelopeEvent:
    """Let eSAW not show the envelope for one attempt."""
    for each in ("envelope", "files"):
        scene.envelope.but(each, reconcile_context.missing())
    after = await scene.reconcile()
    for each in ("envelope", "files"):
        scene.envelope.problems.pop(each, None)
    scene.clock.advance(minutes=1)
    return after
