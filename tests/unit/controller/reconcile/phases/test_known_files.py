"""A file that eSAW listed once is never forgotten, whether it was archived or not, and by whichever event."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from controller.reconcile.phases.unlisted_files import claimed_files
from controller.requests.event_requests import EventRequests
from counterfoil.esaw import HttpStatusError
from counterfoil.esaw.models import ListedDocument
from counterfoil.kube.errors import TooLarge
from counterfoil.resources import (
    SENDER_LABEL,
    EnvelopeEvent,
    EnvelopeEventStatus,
    EnvelopeStatus,
    FiledDocument,
    FileKind,
    Origin,
    Phase,
    Request,
    find_condition,
    with_condition,
)
from counterfoil.resources.organization import OrganizationStatus
from counterfoil.resources.reopening import reopened_status
from tests.support.builders import ENVELOPE, EventBuilder, an_event, an_organization
from tests.support.scenes.documents import document, file_ids, list_files, manifests, retried_by_a_person
from tests.support.scenes.reconciler import ReconcilerScene
from tests.support.signing_keys import a_signer

ACTIONS = [{"action": each, "handling": "Archive"} for each in ("envelopeFinished", "workstepFinished")]


def a_scene(folder: Path, **spec: Any) -> ReconcilerScene:
    return ReconcilerScene(folder, **{"evidence": {"wait": "10m"}, **spec})


def another_event(scene: ReconcilerScene) -> EnvelopeEvent:
    """Let the scene continue with another event of the envelope; return the event before."""
    first = scene.event
    scene.event = an_event().for_action("workstepFinished").labelled(SENDER_LABEL, "anna").build()
    scene.kube.put(scene.event)
    return first


async def fail_to_download(scene: ReconcilerScene, file_id: str) -> None:
    """Let the download of a file fail in the next attempt."""
    scene.envelope.but(f"download {file_id}", HttpStatusError(503))
    assert (await scene.reconcile()).status.reason == "EsawFailing"
    scene.envelope.problems.clear()


async def list_and_not_download_legal_document(scene: ReconcilerScene) -> None:
    """Let eSAW list a document and a legal one, whose download fails."""
    list_files(scene, document(1, 1), legal=("legal-1",))
    await fail_to_download(scene, "legal-1")


async def is_kept_and_told(scene: ReconcilerScene, phase: Phase = Phase.COLLECTING) -> EnvelopeEvent:
    """Check that the next run waits for the files, and that the event fails after the wait."""
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (phase, "DocumentsPending")
    scene.clock.advance(minutes=10)
    kept = await scene.reconcile()
    assert (kept.status.phase, kept.status.reason) == (Phase.FAILED, "DocumentsMissing")
    evidence = find_condition(kept.status.conditions, "EvidenceComplete")
    assert evidence is not None
    assert (evidence.status, evidence.reason) == ("False", "DocumentsMissing")
    assert scene.envelope.transport.deleted == []
    return kept


MORE: list[tuple[str, tuple[ListedDocument, ...], tuple[str, ...]]] = [
    ("legal-1", (document(1, 1),), ("legal-1",)),
    ("file-2", (document(1, 1), document(2, 2)), ()),
]


# -- Within one event ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file_id", "documents", "legal"), MORE, ids=["legal", "document"])
async def test_a_listed_file_whose_download_failed_is_not_forgotten_when_the_next_list_lacks_it(
    tmp_path: Path, file_id: str, documents: tuple[ListedDocument, ...], legal: tuple[str, ...]
) -> None:
    scene = a_scene(tmp_path)
    list_files(scene, *documents, legal=legal)
    await fail_to_download(scene, file_id)
    list_files(scene, document(1, 1))
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    kept = await is_kept_and_told(scene)
    assert file_id in file_ids(kept)
    assert find_condition(kept.status.conditions, "FilesLeftBehind") is None

    list_files(scene, *documents, legal=legal)
    assert (await retried_by_a_person(scene)).status.reason == "LateFilesPending"
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"
    assert file_id in manifests(scene)


@pytest.mark.parametrize(
    ("cleanup", "reason"),
    [({"policy": "Delete", "after": "168h"}, "CleanupDelayed"), ({"policy": "Keep"}, "ArchivedAndKept")],
    ids=["before the delete", "of a kept envelope"],
)
async def test_a_file_that_one_list_had_after_the_archiving_is_not_forgotten(
    tmp_path: Path, cleanup: dict[str, str], reason: str
) -> None:
    scene = a_scene(tmp_path, cleanup=cleanup)
    list_files(scene, document(1, 1))
    assert (await scene.reconcile()).status.reason == reason
    list_files(scene, document(1, 1), legal=("legal-1",))
    scene.clock.advance(hours=168)
    changed = await (scene.reconcile() if reason == "CleanupDelayed" else retried_by_a_person(scene))
    assert changed.status.reason == "FilesChanged"
    list_files(scene, document(1, 1))

    kept = await is_kept_and_told(scene)

    assert "legal-1" in file_ids(kept)
    list_files(scene, document(1, 1), legal=("legal-1",))
    await retried_by_a_person(scene)
    scene.clock.advance(hours=168)
    assert (await scene.reconcile()).status.phase is Phase.SUCCEEDED
    assert "legal-1" in manifests(scene)


async def test_a_file_of_a_list_after_a_failed_attempt_is_not_forgotten(tmp_path: Path) -> None:
    scene = a_scene(tmp_path)
    list_files(scene, document(1, 1))
    await fail_to_download(scene, "trail-1")
    list_files(scene, document(1, 1), legal=("legal-1",))
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    list_files(scene, document(1, 1))

    kept = await is_kept_and_told(scene)

    assert "legal-1" in file_ids(kept)


async def test_a_file_whose_place_could_not_be_claimed_is_not_forgotten(tmp_path: Path) -> None:
    scene = a_scene(tmp_path)
    list_files(scene, document(1, 1), legal=("legal-1",))
    folder = tmp_path / "acme" / ENVELOPE
    (folder / "LegalDocument").mkdir(parents=True)
    (folder / "LegalDocument" / "legal-1.pdf").write_bytes(b"of another program")
    assert (await scene.reconcile()).status.reason == "NameOccupied"
    list_files(scene, document(1, 1))

    waiting = await retried_by_a_person(scene)

    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "DocumentsPending")
    kept = await is_kept_and_told(scene)
    assert "legal-1" in file_ids(kept)


async def test_a_list_that_was_short_once_is_believed_only_after_the_wait(tmp_path: Path) -> None:
    scene = a_scene(tmp_path)
    await list_and_not_download_legal_document(scene)
    list_files(scene, document(1, 1))
    await scene.reconcile()
    assert (await scene.reconcile()).status.reason == "DocumentsPending"
    list_files(scene, document(1, 1), legal=("legal-1",))
    scene.clock.advance(minutes=1)
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.CLEANING, "LateFilesPending")
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


@pytest.mark.parametrize("policy", ["Delete", "Keep"])
async def test_an_archived_file_is_not_forgotten_after_an_attempt_that_failed_before_it(
    tmp_path: Path, policy: str
) -> None:
    scene = a_scene(tmp_path, cleanup={"policy": policy, "after": "168h"})
    list_files(scene, document(1, 1), legal=("legal-1",))
    archived = await scene.reconcile()
    known = {each.file_id: each.sha256 for each in archived.status.documents}
    list_files(scene, document(1, 1), document(2, 2), legal=("legal-1",))
    scene.envelope.but("download file-2", HttpStatusError(503))
    scene.clock.advance(hours=168)
    if policy == "Keep":
        await retried_by_a_person(scene)
    else:
        await scene.reconcile()
    failed = await scene.reconcile()
    assert failed.status.reason == "EsawFailing"
    assert {each.file_id: each.sha256 for each in failed.status.documents} == {**known, "file-2": None}
    scene.envelope.problems.clear()
    list_files(scene, document(1, 1), document(2, 2))
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    await is_kept_and_told(scene)
    assert "legal-1" in manifests(scene)


async def test_a_file_that_could_not_be_archived_until_the_deadline_is_not_forgotten_by_a_retry(
    tmp_path: Path,
) -> None:
    scene = a_scene(tmp_path, retry={"initial": "1s", "max": "1s", "deadline": "1m"})
    list_files(scene, document(1, 1), legal=("legal-1",))
    scene.envelope.but("download file-1", HttpStatusError(503))
    await scene.reconcile()
    scene.clock.advance(minutes=2)
    assert (await scene.reconcile()).status.reason == "DeadlineExceeded"
    scene.envelope.problems.clear()
    list_files(scene, document(1, 1))
    assert (await retried_by_a_person(scene)).status.reason == "DocumentsPending"
    await is_kept_and_told(scene)


async def test_a_status_that_esaw_gives_for_a_moment_lets_no_file_be_forgotten(tmp_path: Path) -> None:
    scene = a_scene(tmp_path, statuses=["Completed"])
    await list_and_not_download_legal_document(scene)
    for status in (EnvelopeStatus.ACTIVE, EnvelopeStatus.REJECTED, EnvelopeStatus.COMPLETED):
        scene.envelope.status = status
        list_files(scene, document(1, 1))
        await retried_by_a_person(scene)
    assert scene.newest().status.reason == "DocumentsPending"
    await is_kept_and_told(scene)


async def test_an_expired_envelope_that_was_restarted_may_have_other_files(tmp_path: Path) -> None:
    scene = a_scene(tmp_path, statuses=["Completed", "Expired"])
    scene.envelope.status = EnvelopeStatus.EXPIRED
    await list_and_not_download_legal_document(scene)
    list_files(scene, document(2, 1), trail="trail-2")
    scene.envelope.contents["trail-2"] = b"%PDF-trail"
    for status in (EnvelopeStatus.ACTIVE, EnvelopeStatus.COMPLETED):
        scene.envelope.status = status
        after = await retried_by_a_person(scene)
    assert (after.status.phase, after.status.reason) == (Phase.CLEANING, "LateFilesPending")
    scene.clock.advance(minutes=10)
    after = await scene.reconcile()
    assert (after.status.reason, file_ids(after)) == ("ArchivedAndDeleted", ["file-2", "trail-2"])


async def test_files_that_the_api_server_does_not_take_are_not_forgotten(tmp_path: Path) -> None:
    scene = a_scene(tmp_path)
    await list_and_not_download_legal_document(scene)
    for _ in range(2):
        scene.kube.fail("patch_status", TooLarge(500, "500", "etcdserver: request is too large"))
    list_files(scene, document(1, 1))
    assert (await scene.reconcile()).status.reason == "EnvelopeTooLarge"
    assert (await retried_by_a_person(scene)).status.reason == "DocumentsPending"
    await is_kept_and_told(scene)


async def test_a_file_of_before_a_restart_is_not_said_to_be_at_another_place(tmp_path: Path) -> None:
    scene = a_scene(tmp_path, statuses=["Completed", "Expired"], cleanup={"policy": "Keep"})
    scene.envelope.status = EnvelopeStatus.EXPIRED
    await list_and_not_download_legal_document(scene)
    list_files(scene, document(1, 1))
    scene.envelope.status = EnvelopeStatus.COMPLETED
    after = await retried_by_a_person(scene)
    assert after.status.reason == "ArchivedAndKept"
    assert find_condition(after.status.conditions, "FilesLeftBehind") is None


async def test_a_file_of_a_list_without_the_audit_trail_is_not_forgotten(tmp_path: Path) -> None:
    scene = a_scene(tmp_path)
    list_files(scene, document(1, 1), legal=("legal-1",), trail=None)
    assert (await scene.reconcile()).status.reason == "AuditTrailPending"
    scene.envelope.contents["trail-1"] = b"%PDF-trail"
    list_files(scene, document(1, 1))
    scene.clock.advance(minutes=1)
    await is_kept_and_told(scene)


# -- Between the events of one envelope ----------------------------------------------------------------------


def of_two_actions(folder: Path, **spec: Any) -> ReconcilerScene:
    return a_scene(folder, actions=ACTIONS, **spec)


@pytest.mark.parametrize("policy", ["Delete", "Keep"])
async def test_a_short_list_of_a_second_event_shortens_no_manifest_and_deletes_nothing(
    tmp_path: Path, policy: str
) -> None:
    scene = of_two_actions(tmp_path, cleanup={"policy": policy, "after": "168h"})
    list_files(scene, document(1, 1), document(2, 2), legal=("legal-1",))
    await scene.reconcile()
    before = manifests(scene)
    list_files(scene, document(1, 1))
    first = another_event(scene)
    await is_kept_and_told(scene, Phase.ARCHIVING)
    assert manifests(scene) == before

    list_files(scene, document(1, 1), document(2, 2), legal=("legal-1",))
    if policy == "Delete":
        scene.event = first
        scene.clock.advance(hours=168)
        assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"
    else:
        assert (await retried_by_a_person(scene)).status.reason == "ArchivedAndKept"


async def test_a_file_that_another_event_could_not_archive_is_not_deleted_with_the_envelope(
    tmp_path: Path,
) -> None:
    scene = of_two_actions(tmp_path)
    list_files(scene, document(1, 1), legal=("legal-1",))
    await fail_to_download(scene, "file-1")
    list_files(scene, document(1, 1))
    another_event(scene)
    await is_kept_and_told(scene, Phase.ARCHIVING)


async def test_a_file_that_another_event_listed_while_the_delete_was_delayed_is_not_deleted(
    tmp_path: Path,
) -> None:
    scene = of_two_actions(tmp_path, cleanup={"policy": "Delete", "after": "168h"})
    list_files(scene, document(1, 1))
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    list_files(scene, document(1, 1), legal=("legal-1",))
    first = another_event(scene)
    await fail_to_download(scene, "legal-1")
    list_files(scene, document(1, 1))
    scene.event = first
    scene.clock.advance(hours=168)
    await is_kept_and_told(scene, Phase.CLEANING)


@pytest.mark.parametrize("is_sealed", [True, False])
async def test_a_manifest_of_an_event_that_was_removed_is_not_shortened(
    tmp_path: Path, is_sealed: bool
) -> None:
    scene = a_scene(tmp_path, cleanup={"policy": "Keep"})
    signer = a_signer() if is_sealed else None
    checker = replace(scene.preconditions.archives.signature_checker, signer=signer)
    scene.change_archives(signature_checker=checker)
    list_files(scene, document(1, 1), legal=("legal-1",))
    await scene.reconcile()
    before = manifests(scene)
    del scene.kube.objects[EnvelopeEvent.PLURAL, scene.event.name]
    metadata = msgspec.structs.replace(scene.event.metadata, uid="created-again")
    scene.event = msgspec.structs.replace(scene.event, metadata=metadata)
    scene.kube.put(scene.event)
    list_files(scene, document(1, 1))
    await is_kept_and_told(scene, Phase.ARCHIVING)
    assert manifests(scene) == before


@pytest.mark.parametrize(
    ("before", "now", "actions"),
    [(None, None, 2), (None, a_signer(), 1), (a_signer(), a_signer(2), 1), (a_signer(), a_signer(2), 2)],
    ids=["another action", "a new key", "a rotated key", "another action and a rotated key"],
)
async def test_no_key_and_no_other_action_makes_the_list_of_an_earlier_manifest_count_less(
    tmp_path: Path, before: Any, now: Any, actions: int
) -> None:
    scene = a_scene(tmp_path, cleanup={"policy": "Keep"}, **({"actions": ACTIONS} if actions == 2 else {}))
    set_signer(scene, before)
    list_files(scene, document(1, 1), legal=("legal-1",))
    await scene.reconcile()
    first = scene.event
    if actions == 2:
        scene.clock.advance(minutes=1)
        another_event(scene)
        await scene.reconcile()
        del scene.kube.objects[EnvelopeEvent.PLURAL, scene.event.name]
    stored = manifests(scene)
    del scene.kube.objects[EnvelopeEvent.PLURAL, first.name]
    set_signer(scene, now)
    metadata = msgspec.structs.replace(first.metadata, uid="created-again")
    scene.event = msgspec.structs.replace(first, metadata=metadata)
    scene.kube.put(scene.event)
    list_files(scene, document(1, 1))
    await is_kept_and_told(scene, Phase.ARCHIVING)
    assert manifests(scene) == stored


@pytest.mark.parametrize(
    ("decision", "before", "now"),
    [("suspend", None, None), ("suspend", a_signer(), a_signer(2)), ("skip", None, None)],
    ids=["suspended", "suspended, and a rotated key", "skipped"],
)
async def test_what_another_event_archived_while_a_person_held_the_first_one_is_not_forgotten(
    tmp_path: Path, decision: str, before: Any, now: Any
) -> None:
    """The other event has been removed since, so only the manifest tells of the file that came late."""
    scene = of_two_actions(tmp_path, cleanup={"policy": "Delete", "after": "1h"})
    set_signer(scene, before)
    list_files(scene, document(1, 1))
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    await hold(scene, decision)
    scene.clock.advance(minutes=1)
    list_files(scene, document(1, 1), legal=("legal-1",))
    first = another_event(scene)
    await scene.reconcile()
    scene.clock.advance(hours=3)
    assert (await scene.reconcile()).status.reason == "ArchivedAndKept"
    stored = manifests(scene)
    del scene.kube.objects[EnvelopeEvent.PLURAL, scene.event.name]
    scene.event = first
    scene.clock.advance(days=34)
    set_signer(scene, now)
    list_files(scene, document(1, 1))
    await release(scene, decision)
    assert (await scene.reconcile()).status.reason == "ArchivedFilesChanged"
    kept = await is_kept_and_told(scene, Phase.ARCHIVING)
    assert "no seal of this controller" in (kept.status.message or "")
    assert "legal-1" in stored
    assert manifests(scene) == stored


async def hold(scene: ReconcilerScene, decision: str) -> None:
    """Let a person suspend or skip the event."""
    if decision == "suspend":
        scene.kube.edit(EnvelopeEvent, scene.event.name, {"spec": {"suspend": True}})
        await scene.reconcile()
    else:
        await carry_out(scene, await EventRequests(scene.clock).skip(scene.newest(), Request("skip")))


async def release(scene: ReconcilerScene, decision: str) -> None:
    """Let a person take the decision back."""
    if decision == "suspend":
        scene.kube.edit(EnvelopeEvent, scene.event.name, {"spec": {"suspend": False}})
    else:
        await carry_out(scene, await EventRequests(scene.clock).retry(scene.newest(), Request("retry")))


async def carry_out(scene: ReconcilerScene, result: Any) -> None:
    await scene.status_writer.store(scene.newest(), result.change(scene.newest().status))


def set_signer(scene: ReconcilerScene, signer: Any) -> None:
    checker = replace(scene.preconditions.archives.signature_checker, signer=signer)
    scene.change_archives(signature_checker=checker)


async def test_a_list_that_grew_since_another_event_claimed_its_files_is_waited_for(tmp_path: Path) -> None:
    scene = of_two_actions(tmp_path)
    list_files(scene, document(1, 1))
    await fail_to_download(scene, "file-1")
    list_files(scene, document(1, 1), legal=("legal-1",))
    another_event(scene)
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.CLEANING, "LateFilesPending")
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


@pytest.mark.parametrize("status", [EnvelopeStatus.COMPLETED, EnvelopeStatus.EXPIRED])
async def test_files_that_another_event_archived_before_a_restart_are_not_waited_for(
    tmp_path: Path, status: EnvelopeStatus
) -> None:
    scene = of_two_actions(tmp_path, statuses=["Completed", "Expired"], cleanup={"policy": "Keep"})
    scene.envelope.status = EnvelopeStatus.EXPIRED
    list_files(scene, document(1, 1), legal=("legal-1",))
    assert (await scene.reconcile()).status.reason == "ArchivedAsExpired"
    another_event(scene)
    scene.envelope.status = status
    list_files(scene, document(2, 1))
    after = await scene.reconcile()
    assert after.status.reason in ("ArchivedAndKept", "ArchivedAsExpired")
    assert file_ids(after) == ["file-2", "trail-1"]


async def test_two_events_whose_lists_are_equal_need_no_wait(tmp_path: Path) -> None:
    scene = of_two_actions(tmp_path, cleanup={"policy": "Keep"})
    list_files(scene, document(1, 1), legal=("legal-1",))
    assert (await scene.reconcile()).status.reason == "ArchivedAndKept"
    another_event(scene)
    assert (await scene.reconcile()).status.reason == "ArchivedAndKept"


async def test_the_list_of_an_event_whose_action_is_no_longer_listed_stops_the_delete(tmp_path: Path) -> None:
    scene = of_two_actions(tmp_path)
    first = another_event(scene)
    await list_and_not_download_legal_document(scene)
    list_files(scene, document(1, 1))
    scene.event = first
    reduced = an_organization(evidence={"wait": "10m"}, actions=ACTIONS[:1])
    newer = structs.replace(reduced.metadata, resource_version="99", generation=2)
    scene.observe(structs.replace(reduced, metadata=newer))
    await is_kept_and_told(scene, Phase.CLEANING)


async def test_an_event_of_the_envelope_that_can_not_be_read_stops_the_delete(tmp_path: Path) -> None:
    scene = a_scene(tmp_path, actions=ACTIONS[:1])
    odd = another_event(scene)
    odd, scene.event = scene.event, odd
    scene.kube.edit(EnvelopeEvent, odd.name, {"status": {"phase": "Unheard"}})
    kept = await scene.reconcile()
    assert (kept.status.phase, kept.status.reason) == (Phase.FAILED, "NotProven")
    assert odd.name in (kept.status.message or "")
    assert scene.envelope.transport.deleted == []
    assert manifests(scene)


async def test_a_retry_after_the_event_that_could_not_be_read_is_corrected_deletes_the_envelope(
    tmp_path: Path,
) -> None:
    scene = a_scene(tmp_path, actions=ACTIONS[:1])
    odd = another_event(scene)
    odd, scene.event = scene.event, odd
    scene.kube.edit(EnvelopeEvent, odd.name, {"status": {"phase": "Unheard"}})
    assert (await scene.reconcile()).status.reason == "NotProven"
    scene.kube.edit(EnvelopeEvent, odd.name, {"status": {"phase": "Skipped"}})
    failed = scene.newest()
    asked = reopened_status(failed.status, reason="RetryRequested", message="", now=scene.clock.now())
    await scene.status_writer.store(failed, asked)
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


def lists_of_events(scene: ReconcilerScene) -> int:
    return scene.kube.asked.count(("page", EnvelopeEvent.PLURAL))


RECORDED = {"action": "envelopeRejected", "handling": "Record"}


@pytest.mark.parametrize(
    ("actions", "policy", "earlier", "lists"),
    [
        (ACTIONS[:1], "Keep", ("envelopeFinished",), 0),
        (ACTIONS[:1], "Delete", ("envelopeFinished",), 0),
        (ACTIONS[:1], "Delete", None, 2),
        (ACTIONS[:1], "Delete", ("*", "envelopeFinished"), 2),
        (ACTIONS[1:], "Delete", ("workstepFinished",), 3),
        (ACTIONS, "Keep", ("envelopeFinished",), 1),
        (ACTIONS, "Delete", ("envelopeFinished",), 3),
        (ACTIONS[:1], "Delete", ("envelopeCompleted",), 2),
        (ACTIONS[:1], "Delete", ("EnvelopeFinished",), 2),
        ([*ACTIONS[:1], RECORDED], "Keep", ("envelopeFinished",), 0),
        ([*ACTIONS[:1], RECORDED], "Delete", ("envelopeFinished",), 2),
    ],
)
async def test_other_events_are_looked_for_once_if_an_envelope_may_have_or_had_several(
    tmp_path: Path, actions: list[dict[str, str]], policy: str, earlier: tuple[str, ...] | None, lists: int
) -> None:
    """When archiving begins, with the last list of the files, and right before the delete is sent: a person
    may have decided since."""
    scene = a_scene(tmp_path, actions=actions, cleanup={"policy": policy})
    known = an_organization(version=2, evidence={"wait": "10m"}, actions=actions, cleanup={"policy": policy})
    scene.observe(structs.replace(known, status=structs.replace(known.status, archived_actions=earlier)))
    if actions[0]["action"] == "workstepFinished":
        another_event(scene)
    assert (await scene.reconcile()).status.phase is Phase.SUCCEEDED
    assert lists_of_events(scene) == lists


async def test_other_events_are_looked_for_after_two_edits_that_no_status_has_seen(tmp_path: Path) -> None:
    """Between the two edits, callbacks of another action made events."""
    scene = a_scene(tmp_path, actions=ACTIONS[:1])
    known = an_organization(version=2, generation=3, evidence={"wait": "10m"}, actions=ACTIONS[:1])
    observed = structs.replace(known.status, archived_actions=("envelopeFinished",), observed_generation=1)
    scene.observe(structs.replace(known, status=observed))
    assert (await scene.reconcile()).status.phase is Phase.SUCCEEDED
    assert lists_of_events(scene) == 2


ODD_NAME = f"{ENVELOPE}-0123456789abcdef"


async def an_event_that_lists_a_legal_document(folder: Path, first: EventBuilder) -> ReconcilerScene:
    """Let this event of an envelope list a legal document that it can't download, and that eSAW does not list
    any more after that. The Organization makes one event of each envelope."""
    scene = ReconcilerScene(folder, first, evidence={"wait": "10m"}, actions=ACTIONS[:1])
    known = an_organization(version=2, evidence={"wait": "10m"}, actions=ACTIONS[:1])
    scene.observe(
        structs.replace(known, status=structs.replace(known.status, archived_actions=("envelopeFinished",)))
    )
    list_files(scene, document(1, 1), legal=("legal-1",))
    await fail_to_download(scene, "file-1")
    list_files(scene, document(1, 1))
    return scene


def let_second_continue(scene: ReconcilerScene, second: EventBuilder) -> None:
    scene.event = second.labelled(SENDER_LABEL, "anna").build()
    scene.kube.put(scene.event)


@pytest.mark.parametrize(
    ("first", "second", "phase"),
    [
        (an_event(), an_event().named(ODD_NAME), Phase.ARCHIVING),
        (an_event().named(ODD_NAME).by(Origin.MANUAL), an_event().by(Origin.MANUAL), Phase.ARCHIVING),
        (an_event().named(ODD_NAME), an_event(), Phase.CLEANING),
    ],
)
async def test_an_event_of_a_person_looks_for_the_other_events_of_its_envelope(
    tmp_path: Path, first: EventBuilder, second: EventBuilder, phase: Phase
) -> None:
    """A person can give it any name, so one action can make two events. The other events look for it, too."""
    scene = await an_event_that_lists_a_legal_document(tmp_path, first)
    let_second_continue(scene, second)
    await is_kept_and_told(scene, phase)


async def test_no_envelope_is_deleted_before_its_controller_knows_that_a_person_created_an_event(
    tmp_path: Path,
) -> None:
    """The shard moved to a process whose watch of the Organizations is late."""
    scene = await an_event_that_lists_a_legal_document(tmp_path, an_event().named(ODD_NAME))
    late = OrganizationStatus(archived_actions=("envelopeFinished",))
    scene.cache.organizations.remove("acme")
    scene.cache.organizations.put(structs.replace(scene.organization, status=late))
    let_second_continue(scene, an_event())
    assert (await scene.reconcile()).status.reason == "SettingsChanged"
    assert scene.envelope.transport.deleted == []


async def test_that_a_person_created_an_event_is_stored_once_for_an_organization(tmp_path: Path) -> None:
    scene = await an_event_that_lists_a_legal_document(tmp_path, an_event().named(ODD_NAME))
    list_files(scene, document(1, 1), legal=("legal-1",))
    assert (await scene.reconcile()).status.phase is Phase.SUCCEEDED
    assert [name for verb, name in scene.kube.asked if verb == "patch_status"].count("acme") == 1


async def test_the_wait_for_known_files_ends_although_a_clock_that_was_ahead_began_it(
    tmp_path: Path,
) -> None:
    scene = a_scene(tmp_path)
    list_files(scene, document(1, 1), legal=("legal-1",))
    scene.envelope.but("delete", HttpStatusError(503))
    await scene.reconcile()
    list_files(scene, document(1, 1))
    scene.clock.advance(days=365, minutes=10)
    assert (await scene.reconcile()).status.reason == "DocumentsPending"
    scene.clock.set_back(days=365)
    for _ in range(4):
        assert (await scene.reconcile()).status.reason == "DocumentsPending"
        scene.clock.advance(minutes=3)
    assert (await scene.reconcile()).status.reason == "DocumentsMissing"


# -- A short list says nothing about other evidence ----------------------------------------------------------


def condition(event: EnvelopeEvent, type_: str) -> tuple[str, str]:
    found = find_condition(event.status.conditions, type_)
    assert found is not None
    return found.status, found.reason


async def archived_with_a_gap(scene: ReconcilerScene) -> None:
    """Archive an envelope whose second document is never listed; the next list has the first alone."""
    list_files(scene, document(1, 1), document(3, 3))
    assert (await scene.reconcile()).status.reason == "DocumentsPending"
    scene.clock.advance(minutes=10)
    scene.envelope.meanwhile["download trail-1"] = lambda: list_files(scene, document(1, 1))
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.CLEANING, "DocumentsPending")


@pytest.mark.parametrize("policy", ["Delete", "Keep"])
@pytest.mark.parametrize("is_still_short", [False, True])
async def test_a_document_that_was_never_listed_is_reported_although_a_list_was_short_meanwhile(
    tmp_path: Path, policy: str, *, is_still_short: bool
) -> None:
    scene = a_scene(tmp_path, cleanup={"policy": policy})
    await archived_with_a_gap(scene)
    scene.clock.advance(seconds=10)
    if is_still_short:
        assert (await scene.reconcile()).status.reason == "DocumentsPending"
    list_files(scene, document(1, 1), document(3, 3))
    kept = await scene.reconcile()
    assert (kept.status.phase, kept.status.reason) == (Phase.FAILED, "DocumentsMissing")
    assert condition(kept, "EvidenceComplete") == ("False", "DocumentsMissing")
    assert condition(kept, "KnownFilesListed") == ("True", "DocumentsListed")
    assert scene.envelope.transport.deleted == []


async def test_an_event_whose_list_was_short_archived_nothing_for_another_event_that_it_never_had(
    tmp_path: Path,
) -> None:
    scene = of_two_actions(tmp_path, cleanup={"policy": "Keep"})
    await archived_with_a_gap(scene)
    list_files(scene, document(1, 1), document(3, 3))
    scene.clock.advance(seconds=10)
    await scene.reconcile()
    another_event(scene)
    scene.envelope.deleted = True
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeDeleted")


@pytest.mark.parametrize("policy", ["Delete", "Keep"])
async def test_an_audit_trail_that_is_missing_stays_missing_after_a_short_list(
    tmp_path: Path, policy: str
) -> None:
    scene = a_scene(tmp_path, cleanup={"policy": policy})
    both = (document(1, 1, has_trail=True), document(2, 2))
    list_files(scene, *both, trail=None)
    await scene.reconcile()
    scene.clock.advance(minutes=10)
    assert (await scene.reconcile()).status.reason == "AuditTrailMissing"
    list_files(scene, both[0], trail=None)
    assert (await retried_by_a_person(scene)).status.reason == "DocumentsPending"
    list_files(scene, *both, trail=None)
    scene.clock.advance(seconds=10)
    kept = await scene.reconcile()
    assert (kept.status.phase, kept.status.reason) == (Phase.FAILED, "AuditTrailMissing")
    assert condition(kept, "EvidenceComplete") == ("False", "AuditTrailMissing")


async def test_the_evidence_of_an_envelope_is_complete_once_its_known_files_are_listed_again(
    tmp_path: Path,
) -> None:
    scene = a_scene(tmp_path, cleanup={"policy": "Delete", "after": "24h"})
    list_files(scene, document(1, 1), legal=("legal-1",))
    await scene.reconcile()
    scene.clock.advance(hours=24)
    list_files(scene, document(1, 1))
    waiting = await scene.reconcile()
    assert condition(waiting, "EvidenceComplete") == ("Unknown", "DocumentsPending")
    list_files(scene, document(1, 1), legal=("legal-1",))
    scene.clock.advance(seconds=10)
    after = await scene.reconcile()
    assert after.status.reason == "ArchivedAndDeleted"
    assert condition(after, "EvidenceComplete") == ("True", "DocumentsListed")
    assert condition(after, "KnownFilesListed") == ("True", "DocumentsListed")


async def test_a_gap_that_an_earlier_version_forgot_is_found_in_the_next_list(tmp_path: Path) -> None:
    scene = a_scene(tmp_path, cleanup={"policy": "Keep"})
    await archived_with_a_gap(scene)
    await stored_as(scene, "EvidenceComplete", "Unknown")
    list_files(scene, document(1, 1), document(3, 3))
    scene.clock.advance(seconds=10)
    await scene.reconcile()
    kept = await scene.reconcile()
    assert (kept.status.phase, kept.status.reason) == (Phase.FAILED, "DocumentsMissing")


@pytest.mark.parametrize("is_deleted", [True, False])
async def test_a_wait_for_known_files_that_an_earlier_version_stored_is_no_gap(
    tmp_path: Path, *, is_deleted: bool
) -> None:
    scene = a_scene(tmp_path, cleanup={"policy": "Delete", "after": "24h"})
    list_files(scene, document(1, 1), legal=("legal-1",))
    await scene.reconcile()
    scene.clock.advance(hours=24)
    await stored_as(scene, "EvidenceComplete", "False")
    scene.envelope.deleted = is_deleted
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    if not is_deleted:
        assert condition(after, "EvidenceComplete") == ("True", "DocumentsListed")


async def test_a_gap_that_is_recorded_after_a_short_list_is_not_replaced_by_a_later_phase(
    tmp_path: Path,
) -> None:
    scene = a_scene(tmp_path)
    await list_and_not_download_legal_document(scene)
    list_files(scene, document(1, 1))
    await scene.reconcile()
    assert (await scene.reconcile()).status.reason == "DocumentsPending"
    scene.clock.advance(minutes=10)
    list_files(scene, document(1, 1), document(3, 3), legal=("legal-1",))
    kept = await scene.reconcile()
    assert (kept.status.phase, kept.status.reason) == (Phase.FAILED, "DocumentsMissing")
    assert condition(kept, "EvidenceComplete") == ("False", "DocumentsMissing")
    assert condition(kept, "KnownFilesListed") == ("True", "DocumentsListed")


async def test_an_audit_trail_of_each_document_that_is_required_later_is_missed_in_the_last_list(
    tmp_path: Path,
) -> None:
    optional = {"wait": "10m", "auditTrail": "Optional"}
    scene = a_scene(tmp_path, cleanup={"policy": "Keep"}, evidence=optional)
    list_files(scene, document(1, 1, has_trail=True), document(2, 2), trail=None)
    assert (await scene.reconcile()).status.reason == "ArchivedAndKept"
    scene.observe(an_organization(version=2, cleanup={"policy": "Keep"}, evidence={"wait": "10m"}))
    scene.clock.advance(minutes=10)
    assert (await retried_by_a_person(scene)).status.reason == "AuditTrailPending"
    kept = await scene.reconcile()
    assert (kept.status.phase, kept.status.reason) == (Phase.FAILED, "AuditTrailMissing")


async def stored_as(scene: ReconcilerScene, type_: str, truth: Any) -> None:
    """Store the condition of a short list as an earlier version did."""
    event, now = scene.newest(), scene.clock.now()
    message = "eSignAnyWhere no longer lists every file that it listed for this envelope before."
    facts = (type_, truth, "DocumentsPending", message)
    conditions = with_condition(event.status.conditions, *facts, now=now, generation=1)
    await scene.status_writer.store(event, structs.replace(event.status, conditions=conditions))


def test_the_id_of_a_file_that_only_a_manifest_without_a_seal_names_is_in_quotes() -> None:
    claim = FiledDocument(file_id="1. Remove each copy.\n", kind=FileKind.DOCUMENT, file_name="")
    message = claimed_files("dms", "file:///dms", EnvelopeEventStatus(documents=(claim,)), [])
    assert r"such as '1. Remove each copy.\n'. It is file:///dms." in message
