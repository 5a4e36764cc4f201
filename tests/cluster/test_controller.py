"""
The controller on a real API server, with exactly its rights, the stand-in eSAW, and an archive on the disk.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controller.reconcile.phases.repeated_archiving import MAX_MISMATCHES
from counterfoil.callback_auth import is_valid_token
from counterfoil.resources import (
    MAX_TEXT_LENGTH,
    REQUEST_LABEL,
    SENDER_LABEL,
    Archive,
    EnvelopeEvent,
    FileKind,
    Organization,
    Origin,
    Phase,
    RequestOutcome,
    Sender,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.envelopeevent import DELETE_REQUESTED_CONDITION
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.esaw import Behaviour, DocumentSpec, EnvelopeStatus
from sandbox.esaw.core.faults import GarbageKind
from tests.support.pauses import eventually
from tests.support.scenes.controller import ControllerScene, a_controller_scene

HAPPY = ("Validated", "Authorized", "Collected", "Archived", "Cleaned", "Ready")


@pytest.fixture(scope="module")
async def scene(
    plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControllerScene]:
    """A namespace with a running controller, for all tests of this file."""
    async with a_controller_scene(plane, tmp_path_factory.mktemp("controller")) as built:
        yield built


# -- When all goes well --------------------------------------------------------------------------------------


async def test_a_completed_envelope_is_filed_proved_and_then_deleted_once(scene: ControllerScene) -> None:
    envelope = scene.envelope()
    files = scene.esaw.files(envelope)
    event = await scene.reaches(await scene.note(envelope), Phase.SUCCEEDED)

    assert {each.type for each in event.status.conditions if each.status == "True"} == set(HAPPY)
    assert [(each.phase, each.outcome) for each in event.status.attempt_history] == [
        ("Validating", "Done"),
        ("Collecting", "Done"),
        ("Archiving", "Done"),
        ("Cleaning", "Done"),
    ]
    assert event.status.envelope is not None
    assert (event.status.envelope.name, event.status.envelope.status) == ("Contract", "Completed")
    assert {each.sha256 for each in event.status.documents} == {
        scene.esaw.expected_sha256(each.file_id) for each in files
    }
    (delete,) = scene.esaw.delete_calls(envelope)
    assert delete.missing == ()
    assert not scene.esaw.exists(envelope)


async def test_the_manifest_and_the_hash_file_prove_the_content_of_the_archive(
    scene: ControllerScene,
) -> None:
    envelope = scene.envelope()
    event = await scene.reaches(await scene.note(envelope), Phase.SUCCEEDED)
    folder = scene.archive / "acme" / envelope
    manifest = json.loads((folder / "counterfoil.json").read_text())
    assert event.status.archive is not None
    assert event.status.archive.manifest == f"file://{folder}/counterfoil.json"
    assert [each["location"] for each in manifest["files"]] == [
        each.location for each in event.status.documents
    ]
    for line in (folder / "counterfoil.sha256").read_text().splitlines():
        digest, name = line.split("  ", 1)
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert len(scene.filed(envelope)) == len(manifest["files"]) + 2


async def test_the_happy_path_takes_at_most_three_status_patches_and_no_kubernetes_event(
    scene: ControllerScene,
) -> None:
    before = await writes(scene)
    name = await scene.noted()
    await scene.reaches(name, Phase.SUCCEEDED)
    after = await writes(scene)
    assert after - before <= 3
    # Events are posted in their order: none was queued before this one.
    await scene.local_environment.kubectl("label", "ee", name, f"{REQUEST_LABEL}=explode")
    refused = ("Normal", "RequestRefused")
    assert await scene.until_recorded(name, refused) == [refused]


async def writes(scene: ControllerScene) -> int:
    """Return how many patches of events' status the controller has sent."""
    series = re.compile(
        r'counterfoil_kubernetes_requests_total\{code="200",resource="envelopeevents/status",'
        r'verb="patch"\} (\S+)'
    )
    found = series.search(await scene.controller.metrics())
    return int(float(found.group(1))) if found is not None else 0


async def test_an_action_that_must_only_be_recorded_is_finished_at_once(scene: ControllerScene) -> None:
    await scene.organization("recorder", actions=[{"action": "envelopeFinished", "handling": "Record"}])
    envelope = scene.envelope()
    event = await scene.reaches(await scene.note(envelope, "recorder"), Phase.SUCCEEDED)
    assert event.status.reason == "Recorded"
    assert scene.esaw.exists(envelope)


async def test_an_envelope_that_must_be_kept_is_archived_and_kept(scene: ControllerScene) -> None:
    user = await scene.organization("keeper", cleanup={"policy": "Keep"})
    envelope = scene.envelope(user)
    event = await scene.reaches(await scene.note(envelope, "keeper"), Phase.SUCCEEDED)
    assert event.status.reason == "ArchivedAndKept"
    assert scene.esaw.exists(envelope)
    assert "counterfoil.json" in scene.filed(envelope)


async def test_an_envelope_whose_deletion_is_to_wait_says_until_when(scene: ControllerScene) -> None:
    user = await scene.organization("patient", cleanup={"policy": "Delete", "after": "24h"})
    envelope = scene.envelope(user)
    event = await scene.reaches(await scene.note(envelope, "patient"), Phase.CLEANING, "CleanupDelayed")
    archived = find_condition(event.status.conditions, "Archived")
    assert archived is not None
    assert event.status.next_attempt_time == archived.last_transition_time + timedelta(hours=24)
    assert (event.status.attempts, event.status.last_error) == (0, None)
    assert scene.esaw.exists(envelope)


# -- What people read when it does not -----------------------------------------------------------------------

WAITS: list[tuple[str, dict[str, Any], Phase, str, str]] = [
    ("envelope", {"status": 503}, Phase.VALIDATING, "EsawFailing", "eSAW answered 503"),
    ("envelope", {"status": 500}, Phase.VALIDATING, "EsawFailing", "eSAW answered 500"),
    ("envelope", {"drop": True}, Phase.VALIDATING, "EsawUnreachable", "The connection to eSAW was cut"),
    ("envelope", {"garbage": "json"}, Phase.VALIDATING, "EsawAnswerUnreadable", "it is no JSON"),
    ("envelope", {"garbage": "html"}, Phase.VALIDATING, "EsawAnswerUnreadable", "it is HTML, not JSON"),
    ("envelope", {"garbage": "shape"}, Phase.VALIDATING, "EsawAnswerUnreadable", "can't be used"),
    ("envelope", {"garbage": "empty"}, Phase.VALIDATING, "EsawAnswerUnreadable", "it is empty"),
    (
        "envelope",
        {"redirect": "https://login.example.com/"},
        Phase.VALIDATING,
        "EsawRedirects",
        "eSAW redirects API calls to https://login.example.com",
    ),
    ("configuration", {"status": 502}, Phase.COLLECTING, "EsawFailing", "eSAW answered 502"),
    ("files", {"status": 503}, Phase.COLLECTING, "EsawFailing", "eSAW answered 503"),
    ("files", {"status": 404}, Phase.COLLECTING, "EsawNotFound", "eSAW answered 404"),
    ("files", {"drop": True}, Phase.COLLECTING, "EsawUnreachable", "The connection to eSAW was cut"),
    ("files", {"garbage": "json"}, Phase.COLLECTING, "EsawAnswerUnreadable", "it is no JSON"),
    ("file", {"status": 503}, Phase.ARCHIVING, "EsawFailing", "eSAW answered 503"),
    ("file", {"status": 404}, Phase.ARCHIVING, "EsawNotFound", "eSAW answered 404"),
    ("file", {"drop": True}, Phase.ARCHIVING, "EsawUnreachable", "The connection to eSAW was cut"),
    ("file", {"cut_after": 100}, Phase.ARCHIVING, "TransferBroken", "before the end of the body"),
    (
        "file",
        {"declared_length": 10_000_000},
        Phase.ARCHIVING,
        "TransferBroken",
        "before the end of the body",
    ),
    ("delete", {"status": 503}, Phase.CLEANING, "DeleteUnanswered", "eSAW answered 503"),
    ("delete", {"drop": True}, Phase.CLEANING, "DeleteUnanswered", "The connection to eSAW was cut"),
]


@pytest.mark.parametrize(("operation", "fault", "phase", "reason", "words"), WAITS)
async def test_a_temporary_failure_is_reported_with_its_next_attempt_and_equal_retries_say_the_same(
    scene: ControllerScene, operation: str, fault: dict[str, Any], phase: Phase, reason: str, words: str
) -> None:
    envelope = scene.envelope()
    scene.esaw.fault(operation, id=envelope, **fault)
    try:
        name = await scene.note(envelope)
        first = await scene.is_so(name, lambda event: event.status.attempts >= 1)
        later = await scene.is_so(name, lambda event: event.status.attempts >= 3)
    finally:
        scene.esaw.clear_faults(operation)

    for event in (first, later):
        status = event.status
        assert (status.phase, status.reason) == (phase, reason)
        assert status.message is not None
        assert words in status.message
        assert status.next_attempt_time is not None
        ready = find_condition(status.conditions, "Ready")
        assert ready is not None
        assert (ready.status, ready.reason, ready.message) == ("False", reason, status.message)
        assert status.last_error is not None
        assert (status.last_error.reason, status.last_error.message) == (reason, status.message)
    assert first.status.message == later.status.message
    # Each attempt finds that an unanswered delete before it had no effect, so that one is of its time.
    of_first, of_later = (
        [each for each in event.status.conditions if each.type != DELETE_REQUESTED_CONDITION]
        for event in (first, later)
    )
    assert of_first == of_later
    assert scene.esaw.exists(envelope)

    await scene.reaches(name, Phase.SUCCEEDED)
    assert await scene.until_recorded(name, ("Warning", reason)) == [("Warning", reason)]
    assert [each.outcome for each in scene.esaw.delete_calls(envelope)].count(200) == 1


async def test_a_second_event_of_an_archived_envelope_names_the_first(scene: ControllerScene) -> None:
    both = [{"action": action, "handling": "Archive"} for action in ("envelopeFinished", "documentsReady")]
    envelope = scene.envelope(await scene.organization("twice", actions=both))
    first = await scene.reaches(await scene.note(envelope, "twice"), Phase.SUCCEEDED)

    second = await scene.reaches(await scene.note(envelope, "twice", action="documentsReady"), Phase.SKIPPED)

    assert second.status.reason == "ArchivedAlready"
    assert second.status.message is not None
    assert second.status.message.startswith(f"EnvelopeEvent/{first.name} archived this envelope in Archive/")


ENDS: list[tuple[str, dict[str, Any], Phase, str, str]] = [
    ("envelope", {"status": 403}, Phase.FAILED, "NotPermitted", "Validated"),
    ("envelope", {"status": 400}, Phase.FAILED, "EsawRefused", "Validated"),
    ("envelope", {"deletes_envelope": True}, Phase.FAILED, "EnvelopeDeleted", "Validated"),
    ("files", {"status": 403}, Phase.FAILED, "NotPermitted", "Collected"),
    ("files", {"deletes_envelope": True}, Phase.FAILED, "EnvelopeDeleted", "Collected"),
    ("file", {"status": 403}, Phase.FAILED, "NotPermitted", "Archived"),
    ("file", {"deletes_envelope": True, "after": 1}, Phase.FAILED, "EnvelopeDeleted", "Archived"),
    ("delete", {"status": 403}, Phase.FAILED, "NotPermitted", "Cleaned"),
    ("delete", {"status": 400}, Phase.FAILED, "EsawRefused", "Cleaned"),
    ("delete", {"deletes_envelope": True}, Phase.SUCCEEDED, "ArchivedAndDeleted", "Cleaned"),
    ("delete", {"lose_answer": True, "times": 1}, Phase.SUCCEEDED, "ArchivedAndDeleted", "Cleaned"),
]


@pytest.mark.parametrize(("operation", "fault", "phase", "reason", "type_"), ENDS)
async def test_what_only_a_person_can_solve_ends_with_its_reason_in_the_condition_of_its_phase(
    scene: ControllerScene, operation: str, fault: dict[str, Any], phase: Phase, reason: str, type_: str
) -> None:
    envelope = scene.envelope()
    scene.esaw.fault(operation, id=envelope, **fault)
    try:
        event = await scene.reaches(await scene.note(envelope), phase)
    finally:
        scene.esaw.clear_faults(operation)
    status = event.status
    assert status.reason == reason
    assert status.completion_time is not None
    assert status.next_attempt_time is None
    found = find_condition(status.conditions, type_)
    assert found is not None
    assert (found.status, found.reason) == ("True" if phase is Phase.SUCCEEDED else "False", reason)
    if phase is not Phase.SUCCEEDED:
        assert not is_condition_true(status.conditions, "Ready")
        assert type_ == "Cleaned" or scene.esaw.delete_calls(envelope) == []


async def test_an_envelope_with_too_many_files_fails_at_once_and_stays(scene: ControllerScene) -> None:
    envelope = scene.envelope(
        documents=[DocumentSpec(name=f"{number}.pdf", size=100) for number in range(2001)]
    )
    event = await scene.reaches(await scene.note(envelope), Phase.FAILED)
    assert (event.status.reason, event.status.attempts) == ("EnvelopeTooLarge", 0)
    assert event.status.message == (
        "The envelope has 2003 files, and an event takes 2000 at most. The envelope stays in eSignAnyWhere."
    )
    assert scene.esaw.exists(envelope)
    assert scene.filed(envelope) == []


async def test_an_envelope_with_too_much_metadata_is_waited_for_and_stays(scene: ControllerScene) -> None:
    envelope = scene.envelope(metadata=f"<a>{'x' * 2**24}</a>")
    name = await scene.note(envelope)
    event = await scene.is_so(name, lambda event: event.status.reason == "EsawAnswerUnreadable")
    words = "eSAW's answer to configuration can't be used: it is longer than 8 MiB."
    assert words in str(event.status.message)
    assert scene.esaw.exists(envelope)
    assert scene.filed(envelope) == []


async def test_an_envelope_of_which_everything_is_as_long_as_it_may_be_is_filed(
    scene: ControllerScene,
) -> None:
    deep = "/".join(["{{envelope.id}}", *["{{envelope.name}}"] * 9, "{{file.name}}"])
    await scene.local_environment.archive("deep", filesystem={"root": str(scene.archive)}, path=deep)
    user = await scene.organization("s" * 63)
    await scene.local_environment.organization("s" * 63, archive="deep", sender="s" * 63)
    documents = [
        DocumentSpec(name=f"{number}{'ä' * (MAX_TEXT_LENGTH - 1)}", size=1000, file_id=f"{number}{'~' * 511}")
        for number in range(3)
    ]
    envelope = scene.envelope(user, name="ä" * MAX_TEXT_LENGTH, documents=documents)
    event = await scene.reaches(await scene.note(envelope, "s" * 63), Phase.SUCCEEDED)
    assert event.status.envelope is not None
    assert event.status.envelope.name == "ä" * MAX_TEXT_LENGTH
    assert max(len(each.location or "") for each in event.status.documents) > 7000
    filed = {each.file_id: each.file_name for each in event.status.documents}
    assert {each.file_id: each.name for each in documents}.items() <= filed.items()


@pytest.mark.parametrize("garbage", ["text", "xml", "error", "nothing"])
async def test_what_a_proxy_says_with_status_200_is_never_archived(
    scene: ControllerScene, garbage: GarbageKind
) -> None:
    envelope = scene.envelope()
    scene.esaw.fault("file", id=envelope, garbage=garbage, times=1)
    name = await scene.note(envelope)
    await scene.is_so(
        name,
        lambda event: (
            event.status.last_error is not None and event.status.last_error.reason == "EsawAnswerUnreadable"
        ),
    )
    assert scene.esaw.exists(envelope)
    event = await scene.reaches(name, Phase.SUCCEEDED, "ArchivedAndDeleted")
    for each in event.status.documents:
        assert each.sha256 == scene.esaw.expected_sha256(each.file_id)


async def test_a_document_that_cannot_be_read_is_archived_and_kept(scene: ControllerScene) -> None:
    damaged = DocumentSpec(name="contract.pdf", content=b"%PDF-1.7 and no more")
    envelope = scene.envelope(documents=[damaged])
    event = await scene.reaches(await scene.note(envelope), Phase.FAILED, "DocumentInDoubt")
    assert "`contract.pdf`" in (event.status.message or "")
    assert "counterfoil.json" in scene.filed(envelope)
    assert scene.esaw.exists(envelope)


async def test_a_pause_that_esaw_asks_for_is_kept(scene: ControllerScene) -> None:
    user = await scene.organization("throttled")
    envelope = scene.envelope(user)
    scene.esaw.fault("envelope", id=envelope, status=429, retry_after=3, times=1)
    name = await scene.note(envelope, "throttled")
    waiting = await scene.reaches(name, Phase.VALIDATING, "EsawThrottling")
    assert waiting.status.last_error is not None
    assert waiting.status.next_attempt_time is not None
    pause = waiting.status.next_attempt_time - waiting.status.last_error.time
    assert timedelta(seconds=2) <= pause <= timedelta(seconds=6)
    await scene.reaches(name, Phase.SUCCEEDED)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (EnvelopeStatus.REJECTED, "UnexpectedStatus"),
        (EnvelopeStatus.CANCELED, "UnexpectedStatus"),
        (EnvelopeStatus.EXPIRED, "UnexpectedStatus"),
    ],
)
async def test_an_envelope_in_another_status_is_skipped_and_stays(
    scene: ControllerScene, status: EnvelopeStatus, reason: str
) -> None:
    envelope = scene.envelope(status=status)
    event = await scene.reaches(await scene.note(envelope), Phase.SKIPPED)
    assert event.status.reason == reason
    assert event.status.message == f"The envelope is {status}; Organization/acme archives Completed."
    assert scene.esaw.exists(envelope)


async def test_a_forged_envelope_id_fails_after_three_looks(scene: ControllerScene) -> None:
    event = await scene.reaches(await scene.note("00000000-4b1d-4c58-9a57-6d1f0a3b2c4d"), Phase.FAILED)
    assert event.status.reason == "EnvelopeNotFound"


async def test_an_envelope_that_esaw_has_not_finished_yet_is_waited_for(scene: ControllerScene) -> None:
    envelope = scene.envelope(status=EnvelopeStatus.ACTIVE)
    name = await scene.note(envelope)
    await scene.reaches(name, Phase.VALIDATING, "StillActive")
    await scene.esaw.complete(envelope)
    await scene.reaches(name, Phase.SUCCEEDED)


async def test_an_envelope_that_is_signed_but_stuck_in_esaw_reports_it_until_it_is_finished(
    scene: ControllerScene,
) -> None:
    envelope = scene.envelope(status=EnvelopeStatus.ACTIVE)
    await scene.esaw.stall(envelope)
    name = await scene.note(envelope)
    event = await scene.reaches(name, Phase.VALIDATING, "EsawErrorState")
    assert "a step `EnvelopeCallback` in an error state, with no attempts left" in (
        event.status.message or ""
    )
    await scene.esaw.trigger_again(envelope)
    await scene.reaches(name, Phase.SUCCEEDED)


# -- Keys ----------------------------------------------------------------------------------------------------


async def test_a_new_key_in_the_secret_resumes_all_that_waited_for_it(scene: ControllerScene) -> None:
    user = await scene.organization("revoked")
    await scene.until_condition(Sender, "revoked", "Authorized", ("True", "KeyAccepted"))
    scene.esaw.revoke(user)
    names = [await scene.noted("revoked", user) for _ in range(10)]
    for name in names:
        parked = await scene.reaches(name, Phase.AWAITING_CONSENT)
        assert (parked.status.reason, parked.status.next_attempt_time) == ("TokenRejected", None)
        assert not is_condition_true(parked.status.conditions, "Authorized")
        assert parked.metadata.labels[SENDER_LABEL] == "revoked"
    assert await scene.condition_of(Sender, "revoked", "Authorized") == ("False", "TokenRejected")

    await scene.local_environment.secret("revoked-key", "token", token=scene.new_token(user))
    async with asyncio.timeout(60):
        for name in names:
            await scene.reaches(name, Phase.SUCCEEDED)


async def test_a_secret_without_the_key_is_reported_by_name_and_fixed_by_putting_it_there(
    scene: ControllerScene,
) -> None:
    user = scene.user("Keyless")
    await scene.local_environment.secret("keyless-key", "token", wrong="x")
    await scene.local_environment.apply(
        {
            "apiVersion": "counterfoil.dev/v1beta1",
            "kind": "Sender",
            "metadata": {"name": "keyless"},
            "spec": {
                "organizationRef": {"name": "keyless"},
                "userID": user.user_id,
                "tokenSecretRef": {"name": "keyless-key", "key": "token"},
            },
        }
    )
    await scene.local_environment.organization("keyless", archive="dms", sender="keyless")
    name = await scene.noted("keyless", user)
    parked = await scene.reaches(name, Phase.AWAITING_CONSENT, "KeyMissing")
    assert parked.status.message is not None
    assert "Secret/keyless-key has no key 'token'." in parked.status.message
    await scene.local_environment.secret("keyless-key", "token", token=user.token)
    await scene.reaches(name, Phase.SUCCEEDED)


# -- What people ask for -------------------------------------------------------------------------------------


async def test_retry_by_label_drives_what_failed_and_is_recorded(scene: ControllerScene) -> None:
    envelope = scene.envelope()
    scene.esaw.fault("files", id=envelope, status=403, times=1)
    name = await scene.note(envelope)
    await scene.reaches(name, Phase.FAILED)
    await scene.local_environment.kubectl("annotate", "ee", name, "counterfoil.dev/request-by=maria")
    await scene.local_environment.kubectl("label", "ee", name, f"{REQUEST_LABEL}=retry")
    event = await scene.reaches(name, Phase.SUCCEEDED)
    assert REQUEST_LABEL not in event.metadata.labels
    assert event.metadata.annotations == {}
    last = event.status.last_request
    assert last is not None
    assert (last.request, last.by, last.outcome) == ("retry", "maria", RequestOutcome.DONE)
    assert ("Collecting", "Fail") in [(each.phase, each.outcome) for each in event.status.attempt_history]
    await scene.until_recorded(name, ("Normal", "RetryRequested"))


async def test_retry_by_label_ends_a_pause_at_once(scene: ControllerScene) -> None:
    user = await scene.organization("slow", retry={"initial": "100h", "max": "100h", "deadline": "200h"})
    envelope = scene.envelope(user)
    scene.esaw.fault("files", id=envelope, status=500, times=1)
    name = await scene.note(envelope, "slow")
    await scene.reaches(name, Phase.COLLECTING, "EsawFailing")
    await scene.local_environment.kubectl("label", "ee", name, f"{REQUEST_LABEL}=retry")
    await scene.reaches(name, Phase.SUCCEEDED)


async def test_skip_by_label_gives_up_and_leaves_the_envelope(scene: ControllerScene) -> None:
    envelope = scene.envelope(status=EnvelopeStatus.ACTIVE)
    name = await scene.note(envelope)
    await scene.reaches(name, Phase.VALIDATING, "StillActive")
    await scene.local_environment.kubectl("label", "ee", name, f"{REQUEST_LABEL}=skip")
    event = await scene.is_so(name, lambda event: REQUEST_LABEL not in event.metadata.labels)
    assert (event.status.phase, event.status.reason) == (Phase.SKIPPED, "SkippedByRequest")
    assert scene.esaw.exists(envelope)
    await scene.until_recorded(name, ("Normal", "SkippedByRequest"))


async def test_a_request_that_nobody_knows_is_refused_in_an_event(scene: ControllerScene) -> None:
    name = await scene.noted()
    await scene.reaches(name, Phase.SUCCEEDED)
    await scene.local_environment.kubectl("label", "ee", name, f"{REQUEST_LABEL}=explode")
    await scene.is_so(name, lambda event: REQUEST_LABEL not in event.metadata.labels)
    await scene.until_recorded(name, ("Normal", "RequestRefused"))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("ee", "Suspended"), ("org", "OrganizationSuspended"), ("sender", "SenderSuspended")],
)
async def test_what_is_suspended_is_held_and_continues_when_it_is_resumed(
    scene: ControllerScene, kind: str, reason: str
) -> None:
    organization = f"held-by-{kind}"
    user = await scene.organization(organization)
    await scene.until_condition(Sender, organization, "Authorized", ("True", "KeyAccepted"))
    envelope = scene.envelope(user)
    scene.esaw.fault("envelope", id=envelope, status=503)
    name = await scene.note(envelope, organization)
    target = name if kind == "ee" else organization
    await scene.local_environment.kubectl(
        "patch", kind, target, "--type=merge", "-p", '{"spec": {"suspend": true}}'
    )
    held = await scene.is_so(name, lambda event: event.status.reason == reason)
    assert held.status.next_attempt_time is None
    scene.esaw.clear_faults("envelope")
    await scene.local_environment.kubectl(
        "patch", kind, target, "--type=merge", "-p", '{"spec": {"suspend": false}}'
    )
    await scene.reaches(name, Phase.SUCCEEDED)


async def test_an_ended_event_that_was_suspended_and_resumed_can_be_waited_for(
    scene: ControllerScene,
) -> None:
    name = await scene.noted()
    await scene.reaches(name, Phase.SUCCEEDED)
    for value, generation in (("true", 2), ("false", 3)):
        await scene.local_environment.kubectl(
            "patch", "ee", name, "--type=merge", "-p", f'{{"spec": {{"suspend": {value}}}}}'
        )
        for condition in ("Archived", "Ready"):
            await scene.local_environment.kubectl(
                "wait", f"ee/{name}", f"--for=condition={condition}", "--timeout=30s"
            )
        assert (await scene.event(name)).status.observed_generation == generation


async def test_a_new_delivery_of_a_skipped_event_reopens_it(scene: ControllerScene) -> None:
    envelope = scene.envelope(status=EnvelopeStatus.EXPIRED)
    name = await scene.note(envelope)
    await scene.reaches(name, Phase.SKIPPED)
    await scene.esaw.restart(envelope)
    await scene.esaw.complete(envelope)
    # As the receiver does.
    again = {
        "phase": "Pending",
        "reason": "DeliveredAgain",
        "deliveries": 2,
        "conditions": [],
        "completionTime": None,
    }
    await scene.kube.patch_status(EnvelopeEvent, name, again, resource_version=None)
    event = await scene.reaches(name, Phase.SUCCEEDED)
    assert event.status.deliveries == 2


# -- Solving the cause resumes everything --------------------------------------------------------------------


async def test_a_fixed_archive_resumes_what_waited_and_what_had_failed(scene: ControllerScene) -> None:
    root = scene.archive / "cellar"
    await scene.local_environment.archive("cellar", filesystem={"root": str(root)})
    user = await scene.organization("below")
    await scene.local_environment.organization("below", archive="cellar", sender="below")
    await scene.until_condition(Organization, "below", "Ready", ("False", "ArchiveNotReady"))
    waits = await scene.noted("below", user)
    await scene.reaches(waits, Phase.VALIDATING, "ArchiveRootMissing")
    failed = await scene.noted("below", user)
    await scene.reaches(failed, Phase.VALIDATING, "ArchiveRootMissing")
    given_up = {
        "phase": "Failed",
        "reason": "DeadlineExceeded",
        "nextAttemptTime": None,
        "completionTime": "2026-01-01T00:00:00Z",
    }
    await scene.local_environment.kubectl(
        "patch", "ee", failed, "--type=merge", "-p", '{"spec": {"suspend": true}}'
    )
    await scene.is_so(failed, lambda event: event.status.reason == "Suspended")
    await scene.kube.patch_status(EnvelopeEvent, failed, given_up, resource_version=None)
    await scene.local_environment.kubectl(
        "patch", "ee", failed, "--type=merge", "-p", '{"spec": {"suspend": false}}'
    )

    root.mkdir()
    await scene.reaches(waits, Phase.SUCCEEDED)
    await scene.reaches(failed, Phase.SUCCEEDED)
    await scene.until_condition(Archive, "cellar", "Ready", ("True", "Probed"))
    await scene.until_recorded(failed, ("Normal", "CauseSolved"))


async def test_an_organization_that_comes_late_resumes_its_events(scene: ControllerScene) -> None:
    user = scene.user("Late")
    name = await scene.noted("latecomer", user)
    await scene.reaches(name, Phase.VALIDATING, "OrganizationMissing")
    await scene.local_environment.sender("latecomer", user, organization="latecomer")
    await scene.local_environment.organization("latecomer", archive="dms", sender="latecomer")
    await scene.reaches(name, Phase.SUCCEEDED)


# -- From time to time ---------------------------------------------------------------------------------------


async def test_the_sweep_finds_what_nobody_called_about(scene: ControllerScene) -> None:
    user = await scene.organization("swept")
    envelope = scene.envelope(user)
    await scene.until_condition(Sender, "swept", "Authorized", ("True", "KeyAccepted"))
    await scene.local_environment.kubectl("label", "org", "swept", f"{REQUEST_LABEL}=sweep")

    async def is_archived() -> bool:
        return not scene.esaw.exists(envelope)

    await eventually(is_archived)
    found = [
        EnvelopeEvent.parse(raw)
        async for raw in scene.kube.list(EnvelopeEvent, fields=f"spec.envelopeID={envelope}")
    ]
    assert [each.spec.origin for each in found] == [Origin.SWEEP]
    organization = await scene.answered(Organization, "swept")
    assert organization.status.last_request is not None
    assert organization.status.last_request.outcome is RequestOutcome.DONE
    assert organization.status.sweep is not None
    assert await scene.until_recorded("swept", ("Normal", "SweepRequested")) == [("Normal", "SweepRequested")]


async def test_a_probe_by_label_is_made_now_and_says_what_it_found(scene: ControllerScene) -> None:
    root = scene.archive.parent / "loft"
    root.mkdir()
    await scene.local_environment.archive("loft", filesystem={"root": str(root)})
    await scene.until_condition(Archive, "loft", "Ready", ("True", "Probed"))
    root.rename(root.with_name("unmounted"))
    await scene.local_environment.kubectl("label", "archive", "loft", f"{REQUEST_LABEL}=probe")
    archive = await scene.answered(Archive, "loft")
    assert archive.status.last_request is not None
    message = archive.status.last_request.message or ""
    assert message.startswith("The archive is not ready. ArchiveRootMissing")
    assert await scene.until_recorded("loft", ("Normal", "ProbeRequested")) == [("Normal", "ProbeRequested")]


async def test_a_request_that_is_not_known_is_refused_with_what_is_possible(scene: ControllerScene) -> None:
    await scene.local_environment.kubectl("label", "sender", "anna", f"{REQUEST_LABEL}=sing")
    sender = await scene.answered(Sender, "anna")
    assert sender.status.last_request is not None
    assert sender.status.last_request.outcome is RequestOutcome.REFUSED
    assert sender.status.last_request.message == "On Sender only ask can be asked for."
    await scene.until_recorded("anna", ("Normal", "RequestRefused"))


async def test_an_event_whose_time_to_live_has_ended_is_removed(scene: ControllerScene) -> None:
    old, young = await scene.noted(), await scene.noted()
    for name in (old, young):
        await scene.reaches(name, Phase.SUCCEEDED)
    long_ago = (datetime.now(UTC) - timedelta(days=34)).strftime("%Y-%m-%dT%H:%M:%SZ")
    await scene.kube.patch_status(EnvelopeEvent, old, {"completionTime": long_ago}, resource_version=None)
    # The garbage collector runs at the start, and then once a minute.
    await scene.controller.stop()
    await scene.controller.start()

    async def is_gone() -> bool:
        names = {raw["metadata"]["name"] async for raw in scene.kube.list(EnvelopeEvent)}
        assert young in names
        return old not in names

    await eventually(is_gone)


async def test_activity_is_counted_by_the_hour_and_written_into_the_status(
    scene: ControllerScene,
) -> None:
    await scene.reaches(await scene.noted(), Phase.SUCCEEDED)
    # The garbage collector runs at the start, and then once a minute.
    await scene.controller.stop()
    await scene.controller.start()

    async def is_counted() -> bool:
        activity = Organization.parse(await scene.kube.get(Organization, "acme")).status.activity
        if activity is None or not activity.archived_within:
            return False
        noted, archived = (
            sum(getattr(hour, what) for hour in activity.hours) for what in ("noted", "archived")
        )
        return bool(noted and archived)

    await eventually(is_counted)


async def test_an_organization_knows_its_token_hashes_urls_version_and_counts(scene: ControllerScene) -> None:
    await scene.until_condition(Organization, "acme", "Reachable", ("True", "EsawAnswers"))
    organization = Organization.parse(await scene.kube.get(Organization, "acme"))
    token = scene.local_environment.tokens["acme"]
    assert is_valid_token(token, organization.status.callback_token_hashes)
    assert organization.status.callback_urls is not None
    assert "/callbacks/acme/<token>?" in organization.status.callback_urls.envelope
    assert organization.status.version is not None


# -- Rights and secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("list", "secrets"),
        ("watch", "secrets"),
        ("create", "secrets"),
        ("delete", "secrets"),
        ("update", "organizations"),
        ("update", "senders"),
        ("update", "archives"),
        ("create", "envelopes"),
        ("watch", "envelopes"),
        ("create", "pods"),
        ("list", "namespaces"),
    ],
)
async def test_the_controller_that_did_all_this_may_not(
    scene: ControllerScene, verb: str, resource: str
) -> None:
    account = f"system:serviceaccount:{scene.local_environment.namespace}:controller"
    assert await may(scene, verb, resource, account) is False


async def may(scene: ControllerScene, verb: str, resource: str, account: str) -> bool:
    """Ask the API server whether an account may do that in the scene."""
    group = "counterfoil.dev" if resource in ("organizations", "senders", "archives", "envelopes") else ""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": account,
            "resourceAttributes": {
                "namespace": scene.local_environment.namespace,
                "verb": verb,
                "group": group,
                "resource": resource,
            },
        },
    }
    answered = await scene.local_environment.kubectl(
        "create", "-f", "-", "-o", "json", stdin=json.dumps(review)
    )
    return bool(json.loads(answered)["status"].get("allowed"))


async def test_no_key_or_token_is_in_any_object_event_or_log(scene: ControllerScene) -> None:
    kinds = "organizations,senders,archives,envelopes,envelopeevents,events.events.k8s.io"
    written = await scene.local_environment.kubectl("get", kinds, "-o", "yaml")
    written += scene.controller.log.read_text()
    written += await scene.controller.metrics()
    assert "TokenRejected" in written, "the search sees nothing"
    tokens = [*scene.tokens, *scene.local_environment.tokens.values()]
    assert len(tokens) > 10
    assert [token for token in tokens if token in written] == []
    assert not any(each.token_in_url for each in scene.esaw.requests())


# -- Files that eSAW lists late, never, or with other content ------------------------------------------------


@contextmanager
def behaving(scene: ControllerScene, behaviour: Behaviour) -> Iterator[None]:
    scene.esaw.set_behaviour(behaviour)
    try:
        yield
    finally:
        scene.esaw.set_behaviour(Behaviour())


async def test_an_audit_trail_and_legal_documents_that_are_listed_late_are_archived(
    scene: ControllerScene,
) -> None:
    user = await scene.organization("late", retry={"initial": "500ms"}, evidence={"wait": "5s"})
    with behaving(scene, Behaviour(papers_lag=3600.0)):
        envelope = scene.envelope(user, legal_documents=[DocumentSpec(name="certificate.pdf", size=500)])
        name = await scene.note(envelope, "late")
        await scene.reaches(name, Phase.COLLECTING, "AuditTrailPending")

    event = await scene.reaches(name, Phase.SUCCEEDED)
    kinds = {each.kind for each in event.status.documents}
    assert kinds >= {FileKind.AUDIT_TRAIL, FileKind.LEGAL_DOCUMENT}
    assert [each.missing for each in scene.esaw.delete_calls(envelope)] == [()]


async def test_a_legal_document_of_a_kept_envelope_that_is_listed_late_is_archived(
    scene: ControllerScene,
) -> None:
    user = await scene.organization("late-kept", cleanup={"policy": "Keep"}, evidence={"wait": "3s"})
    with behaving(scene, Behaviour(legal_documents_lag=3600.0)):
        envelope = scene.envelope(user, legal_documents=[DocumentSpec(name="certificate.pdf", size=500)])
        name = await scene.note(envelope, "late-kept")
        kept = await scene.reaches(name, Phase.SUCCEEDED, "ArchivedAndKept")
        assert kept.status.next_attempt_time is not None
    event = await scene.is_so(
        name,
        lambda event: (
            event.status.phase is Phase.SUCCEEDED
            and FileKind.LEGAL_DOCUMENT in {each.kind for each in event.status.documents}
        ),
    )
    assert event.status.reason == "ArchivedAndKept"
    assert scene.esaw.exists(envelope)


async def test_an_envelope_without_audit_trail_is_kept_until_the_organization_says_that_there_is_none(
    scene: ControllerScene,
) -> None:
    user = await scene.organization("trailless", evidence={"wait": "1s"})
    envelope = scene.envelope(user, audit_trail=False)
    name = await scene.note(envelope, "trailless")
    event = await scene.reaches(name, Phase.FAILED, "AuditTrailMissing")
    evidence = find_condition(event.status.conditions, "EvidenceComplete")
    assert evidence is not None
    assert evidence.status == "False"
    assert scene.esaw.exists(envelope)
    assert "counterfoil.json" in scene.filed(envelope)

    await scene.kube.patch(Organization, "trailless", {"spec": {"evidence": {"auditTrail": "Optional"}}})

    await scene.reaches(name, Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert not scene.esaw.exists(envelope)


async def test_a_rejected_envelope_without_finished_documents_is_skipped_and_stays(
    scene: ControllerScene,
) -> None:
    user = await scene.organization("rejecting", statuses=["Rejected"], evidence={"wait": "1s"})
    with behaving(scene, Behaviour(papers_only_when_completed=True)):
        envelope = scene.envelope(user, status=EnvelopeStatus.REJECTED)
        await scene.reaches(await scene.note(envelope, "rejecting"), Phase.SKIPPED, "NoFinishedDocuments")
    assert scene.esaw.exists(envelope)


async def test_an_envelope_whose_documents_are_rendered_for_each_download_is_kept(
    scene: ControllerScene,
) -> None:
    user = await scene.organization("rendering", statuses=["Expired"], retry={"initial": "500ms"})
    with behaving(scene, Behaviour(renders_anew=True)):
        documents = [DocumentSpec(name="contract.pdf")]
        envelope = scene.envelope(user, status=EnvelopeStatus.EXPIRED, documents=documents)
        event = await scene.reaches(await scene.note(envelope, "rendering"), Phase.FAILED)
    assert (event.status.reason, event.status.mismatches) == ("FilesKeepChanging", MAX_MISMATCHES + 1)
    assert scene.esaw.exists(envelope)
    assert "counterfoil.json" in scene.filed(envelope)
