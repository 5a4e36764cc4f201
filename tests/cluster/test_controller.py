"""The controller on a real API server, with exactly its rights, the stand-in eSAW, and an archive on the disk."""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from counterfoil.resources import (
    MAX_TEXT_LENGTH,
    REQUEST_LABEL,
    SENDER_LABEL,
    Archive,
    EnvelopeEvent,
    Organization,
    Origin,
    Phase,
    Sender,
    find_condition,
    is_condition_true,
)
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.esaw import DocumentSpec, EnvelopeStatus
from tests.support.scenes.controller import House, eventually
from tests.support.scenes.controller import house as a_house

HAPPY = ("Validated", "Authorized", "Collected", "Archived", "Cleaned", "Ready")


@pytest.fixture(scope="module")
async def house(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    """A namespace with a running controller, for all tests of this file."""
    async with a_house(plane, tmp_path_factory.mktemp("house")) as built:
        yield built


# -- When all goes well -----------------------------------------------------------------------------------------


async def test_a_completed_envelope_is_filed_proved_and_then_deleted_once(house: House) -> None:
    envelope = house.envelope()
    files = house.esaw.files(envelope)
    event = await house.reaches(await house.note(envelope), Phase.SUCCEEDED)

    assert {each.type for each in event.status.conditions if each.status == "True"} == set(HAPPY)
    assert event.status.envelope is not None
    assert (event.status.envelope.name, event.status.envelope.status) == ("Contract", "Completed")
    assert {each.sha256 for each in event.status.documents} == {
        house.esaw.expected_sha256(each.file_id) for each in files
    }
    (delete,) = house.esaw.delete_calls(envelope)
    assert delete.missing == ()
    assert not house.esaw.exists(envelope)


async def test_the_manifest_and_the_hash_file_prove_what_lies_in_the_archive(house: House) -> None:
    envelope = house.envelope()
    event = await house.reaches(await house.note(envelope), Phase.SUCCEEDED)
    folder = house.archive / "acme" / envelope
    manifest = json.loads((folder / "counterfoil.json").read_text())
    assert event.status.archive is not None
    assert event.status.archive.manifest == f"file://{folder}/counterfoil.json"
    assert [each["location"] for each in manifest["files"]] == [
        each.location for each in event.status.documents
    ]
    for line in (folder / "counterfoil.sha256").read_text().splitlines():
        digest, name = line.split("  ", 1)
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert len(house.filed(envelope)) == len(manifest["files"]) + 2


async def test_the_happy_path_takes_at_most_three_status_patches_and_no_kubernetes_event(
    house: House,
) -> None:
    before = await writes(house)
    name = await house.noted()
    await house.reaches(name, Phase.SUCCEEDED)
    after = await writes(house)
    assert after - before <= 3
    assert await house.told(name) == []


async def writes(house: House) -> int:
    """Return how many patches of events' status the controller has sent."""
    series = re.compile(
        r'counterfoil_kubernetes_requests_total\{code="200",resource="envelopeevents/status",verb="patch"\} (\S+)'
    )
    found = series.search(await house.controller.metrics())
    return int(float(found.group(1))) if found is not None else 0


async def test_an_action_that_is_only_to_be_noted_down_is_finished_at_once(house: House) -> None:
    await house.organization("recorder", actions=[{"action": "envelopeFinished", "handling": "Record"}])
    envelope = house.envelope()
    event = await house.reaches(await house.note(envelope, "recorder"), Phase.SUCCEEDED)
    assert event.status.reason == "Recorded"
    assert house.esaw.exists(envelope)


async def test_an_envelope_that_is_to_be_kept_is_filed_and_kept(house: House) -> None:
    user = await house.organization("keeper", cleanup={"policy": "Keep"})
    envelope = house.envelope(user)
    event = await house.reaches(await house.note(envelope, "keeper"), Phase.SUCCEEDED)
    assert event.status.reason == "ArchivedAndKept"
    assert house.esaw.exists(envelope)
    assert "counterfoil.json" in house.filed(envelope)


async def test_an_envelope_whose_deletion_is_to_wait_says_until_when(house: House) -> None:
    user = await house.organization("patient", cleanup={"after": "24h"})
    envelope = house.envelope(user)
    event = await house.reaches(await house.note(envelope, "patient"), Phase.CLEANING, "CleanupDelayed")
    archived = find_condition(event.status.conditions, "Archived")
    assert archived is not None
    assert event.status.next_attempt_time == archived.last_transition_time + timedelta(hours=24)
    assert (event.status.attempts, event.status.last_error) == (0, None)
    assert house.esaw.exists(envelope)


# -- What people read when it does not ---------------------------------------------------------------------------

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
    ("delete", {"status": 503}, Phase.CLEANING, "EsawFailing", "eSAW answered 503"),
    ("delete", {"drop": True}, Phase.CLEANING, "EsawUnreachable", "The connection to eSAW was cut"),
]


@pytest.mark.parametrize(("operation", "fault", "phase", "reason", "words"), WAITS)
async def test_trouble_that_passes_is_told_with_its_next_attempt_and_equal_retries_say_the_same(
    house: House, operation: str, fault: dict[str, Any], phase: Phase, reason: str, words: str
) -> None:
    envelope = house.envelope()
    house.esaw.fault(operation, id=envelope, **fault)
    try:
        name = await house.note(envelope)
        first = await house.is_so(name, lambda event: event.status.attempts >= 1)
        later = await house.is_so(name, lambda event: event.status.attempts >= 3)
    finally:
        house.esaw.clear_faults(operation)

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
    assert first.status.conditions == later.status.conditions
    assert house.esaw.exists(envelope)

    await house.reaches(name, Phase.SUCCEEDED)
    assert await house.told(name) == [("Warning", reason)]
    assert [each.outcome for each in house.esaw.delete_calls(envelope)].count(200) == 1


async def test_a_second_event_of_an_archived_envelope_names_the_first(house: House) -> None:
    both = [{"action": action, "handling": "Archive"} for action in ("envelopeFinished", "documentsReady")]
    envelope = house.envelope(await house.organization("twice", actions=both))
    first = await house.reaches(await house.note(envelope, "twice"), Phase.SUCCEEDED)

    second = await house.reaches(await house.note(envelope, "twice", action="documentsReady"), Phase.SKIPPED)

    assert second.status.reason == "ArchivedAlready"
    assert second.status.message is not None
    assert second.status.message.startswith(f"EnvelopeEvent/{first.name} archived this envelope in Archive/")


ENDS: list[tuple[str, dict[str, Any], Phase, str, str]] = [
    ("envelope", {"status": 403}, Phase.FAILED, "NotPermitted", "Validated"),
    ("envelope", {"status": 400}, Phase.FAILED, "EsawRefused", "Validated"),
    ("envelope", {"deletes_envelope": True}, Phase.SKIPPED, "EnvelopeDeleted", "Validated"),
    ("files", {"status": 403}, Phase.FAILED, "NotPermitted", "Collected"),
    ("files", {"deletes_envelope": True}, Phase.SKIPPED, "EnvelopeDeleted", "Collected"),
    ("file", {"status": 403}, Phase.FAILED, "NotPermitted", "Archived"),
    ("file", {"deletes_envelope": True, "after": 1}, Phase.FAILED, "EnvelopeDeleted", "Archived"),
    ("delete", {"status": 403}, Phase.FAILED, "NotPermitted", "Cleaned"),
    ("delete", {"status": 400}, Phase.FAILED, "EsawRefused", "Cleaned"),
    ("delete", {"deletes_envelope": True}, Phase.SUCCEEDED, "ArchivedAndDeleted", "Cleaned"),
    ("delete", {"lose_answer": True, "times": 1}, Phase.SUCCEEDED, "ArchivedAndDeleted", "Cleaned"),
]


@pytest.mark.parametrize(("operation", "fault", "phase", "reason", "type_"), ENDS)
async def test_what_can_not_pass_by_itself_ends_with_its_reason_in_the_condition_of_its_phase(
    house: House, operation: str, fault: dict[str, Any], phase: Phase, reason: str, type_: str
) -> None:
    envelope = house.envelope()
    house.esaw.fault(operation, id=envelope, **fault)
    try:
        event = await house.reaches(await house.note(envelope), phase)
    finally:
        house.esaw.clear_faults(operation)
    status = event.status
    assert status.reason == reason
    assert status.completed_at is not None
    assert status.next_attempt_time is None
    found = find_condition(status.conditions, type_)
    assert found is not None
    assert (found.status, found.reason) == ("True" if phase is Phase.SUCCEEDED else "False", reason)
    if phase is not Phase.SUCCEEDED:
        assert not is_condition_true(status.conditions, "Ready")
        assert type_ == "Cleaned" or house.esaw.delete_calls(envelope) == []


MUCH: list[tuple[dict[str, Any], str]] = [
    (
        {"documents": [DocumentSpec(name=f"{number}.pdf", size=100) for number in range(2001)]},
        "The envelope has 2003 files, and an event takes 2000 at most.",
    ),
    (
        {"metadata": f"<a>{'x' * 2**24}</a>"},
        "eSAW's answer to configuration can't be used: it is longer than 16 MiB.",
    ),
]


@pytest.mark.parametrize(("options", "words"), MUCH, ids=["files", "metadata"])
async def test_an_envelope_of_which_there_is_too_much_fails_at_once_and_stays(
    house: House, options: dict[str, Any], words: str
) -> None:
    envelope = house.envelope(**options)
    event = await house.reaches(await house.note(envelope), Phase.FAILED)
    assert (event.status.reason, event.status.attempts) == ("EnvelopeTooLarge", 0)
    assert event.status.message == f"{words} The envelope stays in eSignAnyWhere."
    assert house.esaw.exists(envelope)
    assert house.filed(envelope) == []


async def test_an_envelope_of_which_everything_is_as_long_as_it_may_be_is_filed(house: House) -> None:
    deep = "/".join(["{{envelope.id}}", *["{{envelope.name}}"] * 9, "{{file.name}}"])
    await house.local_environment.archive("deep", filesystem={"root": str(house.archive)}, path=deep)
    user = await house.organization("s" * 63)
    await house.local_environment.organization("s" * 63, archive="deep", sender="s" * 63)
    documents = [
        DocumentSpec(name=f"{number}{'ä' * (MAX_TEXT_LENGTH - 1)}", size=100, file_id=f"{number}{'~' * 511}")
        for number in range(3)
    ]
    envelope = house.envelope(user, name="ä" * MAX_TEXT_LENGTH, documents=documents)
    event = await house.reaches(await house.note(envelope, "s" * 63), Phase.SUCCEEDED)
    assert event.status.envelope is not None
    assert event.status.envelope.name == "ä" * MAX_TEXT_LENGTH
    assert max(len(each.location or "") for each in event.status.documents) > 7000
    filed = {each.file_id: each.file_name for each in event.status.documents}
    assert {each.file_id: each.name for each in documents}.items() <= filed.items()


async def test_a_pause_that_esaw_asks_for_is_kept(house: House) -> None:
    user = await house.organization("throttled")
    envelope = house.envelope(user)
    house.esaw.fault("envelope", id=envelope, status=429, retry_after=3, times=1)
    name = await house.note(envelope, "throttled")
    waiting = await house.reaches(name, Phase.VALIDATING, "EsawThrottling")
    assert waiting.status.last_error is not None
    assert waiting.status.next_attempt_time is not None
    pause = waiting.status.next_attempt_time - waiting.status.last_error.time
    assert timedelta(seconds=2) <= pause <= timedelta(seconds=6)
    await house.reaches(name, Phase.SUCCEEDED)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (EnvelopeStatus.REJECTED, "UnexpectedStatus"),
        (EnvelopeStatus.CANCELED, "UnexpectedStatus"),
        (EnvelopeStatus.EXPIRED, "UnexpectedStatus"),
    ],
)
async def test_an_envelope_in_another_status_is_skipped_and_stays(
    house: House, status: EnvelopeStatus, reason: str
) -> None:
    envelope = house.envelope(status=status)
    event = await house.reaches(await house.note(envelope), Phase.SKIPPED)
    assert event.status.reason == reason
    assert event.status.message == f"The envelope is {status}; Organization/acme archives Completed."
    assert house.esaw.exists(envelope)


async def test_a_forged_envelope_id_fails_after_three_looks(house: House) -> None:
    event = await house.reaches(await house.note("00000000-4b1d-4c58-9a57-6d1f0a3b2c4d"), Phase.FAILED)
    assert event.status.reason == "EnvelopeNotFound"


async def test_an_envelope_that_esaw_has_not_finished_yet_is_waited_for(house: House) -> None:
    envelope = house.envelope(status=EnvelopeStatus.ACTIVE)
    name = await house.note(envelope)
    await house.reaches(name, Phase.VALIDATING, "StillActive")
    await house.esaw.complete(envelope)
    await house.reaches(name, Phase.SUCCEEDED)


# -- Keys --------------------------------------------------------------------------------------------------------


async def test_a_new_key_in_the_secret_resumes_all_that_waited_for_it(house: House) -> None:
    user = await house.organization("revoked")
    await house.until_condition(Sender, "revoked", "Authorized", ("True", "KeyAccepted"))
    house.esaw.revoke(user)
    names = [await house.noted("revoked", user) for _ in range(10)]
    for name in names:
        parked = await house.reaches(name, Phase.AWAITING_CONSENT)
        assert (parked.status.reason, parked.status.next_attempt_time) == ("TokenRejected", None)
        assert not is_condition_true(parked.status.conditions, "Authorized")
        assert parked.metadata.labels[SENDER_LABEL] == "revoked"
    assert await house.condition_of(Sender, "revoked", "Authorized") == ("False", "TokenRejected")

    await house.local_environment.secret("revoked-key", token=house.new_token(user))
    async with asyncio.timeout(60):
        for name in names:
            await house.reaches(name, Phase.SUCCEEDED)


async def test_a_secret_without_the_key_is_told_by_name_and_mended_by_putting_it_there(house: House) -> None:
    user = house.user("Keyless")
    await house.local_environment.secret("keyless-key", wrong="x")
    await house.local_environment.apply(
        {
            "apiVersion": "counterfoil.dev/v1alpha1",
            "kind": "Sender",
            "metadata": {"name": "keyless"},
            "spec": {
                "organizationRef": {"name": "keyless"},
                "userId": user.user_id,
                "tokenSecretRef": {"name": "keyless-key", "key": "token"},
            },
        }
    )
    await house.local_environment.organization("keyless", archive="dms", sender="keyless")
    name = await house.noted("keyless", user)
    parked = await house.reaches(name, Phase.AWAITING_CONSENT, "KeyMissing")
    assert parked.status.message is not None
    assert "Secret/keyless-key has no key 'token'; it has: wrong." in parked.status.message
    await house.local_environment.secret("keyless-key", token=user.token)
    await house.reaches(name, Phase.SUCCEEDED)


# -- What people ask for -------------------------------------------------------------------------------------------


async def test_retry_by_label_drives_what_failed_and_is_recorded(house: House) -> None:
    envelope = house.envelope()
    house.esaw.fault("files", id=envelope, status=403, times=1)
    name = await house.note(envelope)
    await house.reaches(name, Phase.FAILED)
    await house.local_environment.kubectl("annotate", "ee", name, "counterfoil.dev/request-by=maria")
    await house.local_environment.kubectl("label", "ee", name, f"{REQUEST_LABEL}=retry")
    event = await house.reaches(name, Phase.SUCCEEDED)
    assert REQUEST_LABEL not in event.metadata.labels
    assert event.metadata.annotations == {}
    assert ("Normal", "RetryRequested") in await house.told(name)


async def test_retry_by_label_ends_a_pause_at_once(house: House) -> None:
    user = await house.organization("slow", retry={"initial": "100h", "max": "100h", "deadline": "200h"})
    envelope = house.envelope(user)
    house.esaw.fault("files", id=envelope, status=500, times=1)
    name = await house.note(envelope, "slow")
    await house.reaches(name, Phase.COLLECTING, "EsawFailing")
    await house.local_environment.kubectl("label", "ee", name, f"{REQUEST_LABEL}=retry")
    await house.reaches(name, Phase.SUCCEEDED)


async def test_skip_by_label_gives_up_and_leaves_the_envelope(house: House) -> None:
    envelope = house.envelope(status=EnvelopeStatus.ACTIVE)
    name = await house.note(envelope)
    await house.reaches(name, Phase.VALIDATING, "StillActive")
    await house.local_environment.kubectl("label", "ee", name, f"{REQUEST_LABEL}=skip")
    event = await house.is_so(name, lambda event: REQUEST_LABEL not in event.metadata.labels)
    assert (event.status.phase, event.status.reason) == (Phase.SKIPPED, "SkippedByRequest")
    assert house.esaw.exists(envelope)
    assert ("Normal", "SkippedByRequest") in await house.told(name)


async def test_a_request_that_nobody_knows_is_refused_in_an_event(house: House) -> None:
    name = await house.noted()
    await house.reaches(name, Phase.SUCCEEDED)
    await house.local_environment.kubectl("label", "ee", name, f"{REQUEST_LABEL}=explode")
    await house.is_so(name, lambda event: REQUEST_LABEL not in event.metadata.labels)

    async def is_told() -> bool:
        return ("Normal", "RequestRefused") in await house.told(name)

    await eventually(is_told)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("ee", "Suspended"), ("org", "OrganizationSuspended"), ("sender", "SenderSuspended")],
)
async def test_what_is_suspended_is_held_and_goes_on_when_it_is_no_more(
    house: House, kind: str, reason: str
) -> None:
    organization = f"held-by-{kind}"
    user = await house.organization(organization)
    await house.until_condition(Sender, organization, "Authorized", ("True", "KeyAccepted"))
    envelope = house.envelope(user)
    house.esaw.fault("envelope", id=envelope, status=503)
    name = await house.note(envelope, organization)
    target = name if kind == "ee" else organization
    await house.local_environment.kubectl(
        "patch", kind, target, "--type=merge", "-p", '{"spec": {"suspend": true}}'
    )
    held = await house.is_so(name, lambda event: event.status.reason == reason)
    assert held.status.next_attempt_time is None
    house.esaw.clear_faults("envelope")
    await house.local_environment.kubectl(
        "patch", kind, target, "--type=merge", "-p", '{"spec": {"suspend": false}}'
    )
    await house.reaches(name, Phase.SUCCEEDED)


async def test_a_new_delivery_of_a_skipped_event_brings_it_back(house: House) -> None:
    envelope = house.envelope(status=EnvelopeStatus.EXPIRED)
    name = await house.note(envelope)
    await house.reaches(name, Phase.SKIPPED)
    await house.esaw.restart(envelope)
    await house.esaw.complete(envelope)
    # As the receiver does.
    again = {
        "phase": "Pending",
        "reason": "DeliveredAgain",
        "deliveries": 2,
        "conditions": [],
        "completedAt": None,
    }
    await house.kube.patch_status(EnvelopeEvent, name, again, resource_version=None)
    event = await house.reaches(name, Phase.SUCCEEDED)
    assert event.status.deliveries == 2


# -- Solving the cause resumes everything ------------------------------------------------------------------------


async def test_a_mended_archive_resumes_what_waited_and_what_had_failed(house: House) -> None:
    root = house.archive / "cellar"
    await house.local_environment.archive("cellar", filesystem={"root": str(root)})
    user = await house.organization("below")
    await house.local_environment.organization("below", archive="cellar", sender="below")
    await house.until_condition(Organization, "below", "Ready", ("False", "ArchiveNotReady"))
    waits = await house.noted("below", user)
    await house.reaches(waits, Phase.COLLECTING, "ArchiveRootMissing")
    failed = await house.noted("below", user)
    await house.reaches(failed, Phase.COLLECTING, "ArchiveRootMissing")
    given_up = {
        "phase": "Failed",
        "reason": "DeadlineExceeded",
        "nextAttemptTime": None,
        "completedAt": "2026-01-01T00:00:00Z",
    }
    await house.local_environment.kubectl(
        "patch", "ee", failed, "--type=merge", "-p", '{"spec": {"suspend": true}}'
    )
    await house.is_so(failed, lambda event: event.status.reason == "Suspended")
    await house.kube.patch_status(EnvelopeEvent, failed, given_up, resource_version=None)
    await house.local_environment.kubectl(
        "patch", "ee", failed, "--type=merge", "-p", '{"spec": {"suspend": false}}'
    )

    root.mkdir()
    await house.reaches(waits, Phase.SUCCEEDED)
    await house.reaches(failed, Phase.SUCCEEDED)
    await house.until_condition(Archive, "cellar", "Ready", ("True", "Probed"))
    assert ("Normal", "CauseSolved") in await house.told(failed)


async def test_an_organization_that_comes_late_resumes_its_events(house: House) -> None:
    user = house.user("Late")
    name = await house.noted("latecomer", user)
    await house.reaches(name, Phase.VALIDATING, "OrganizationMissing")
    await house.local_environment.sender("latecomer", user, organization="latecomer")
    await house.local_environment.organization("latecomer", archive="dms", sender="latecomer")
    await house.reaches(name, Phase.SUCCEEDED)


# -- From time to time ---------------------------------------------------------------------------------------------


async def test_the_sweep_finds_what_nobody_called_about(house: House) -> None:
    user = await house.organization("swept")
    envelope = house.envelope(user)
    await house.until_condition(Sender, "swept", "Authorized", ("True", "KeyAccepted"))
    await house.local_environment.kubectl(
        "patch", "org", "swept", "--type=merge", "-p", '{"spec": {"sweep": {"interval": "1m"}}}'
    )

    async def is_archived() -> bool:
        return not house.esaw.exists(envelope)

    await eventually(is_archived)
    found = [
        EnvelopeEvent.parse(raw)
        async for raw in house.kube.list(EnvelopeEvent, fields=f"spec.envelopeId={envelope}")
    ]
    assert [each.spec.origin for each in found] == [Origin.SWEEP]


async def test_an_event_whose_time_to_live_is_over_is_removed(house: House) -> None:
    old, young = await house.noted(), await house.noted()
    for name in (old, young):
        await house.reaches(name, Phase.SUCCEEDED)
    long_ago = (datetime.now(UTC) - timedelta(days=31)).strftime("%Y-%m-%dT%H:%M:%SZ")
    await house.kube.patch_status(EnvelopeEvent, old, {"completedAt": long_ago}, resource_version=None)
    # The garbage collector runs at the start, and then once a minute.
    await house.controller.stop()
    await house.controller.start()

    async def is_gone() -> bool:
        names = {raw["metadata"]["name"] async for raw in house.kube.list(EnvelopeEvent)}
        assert young in names
        return old not in names

    await eventually(is_gone)


async def test_what_went_on_is_counted_by_the_hour_and_written_into_the_status(house: House) -> None:
    await house.reaches(await house.noted(), Phase.SUCCEEDED)
    # The garbage collector runs at the start, and then once a minute.
    await house.controller.stop()
    await house.controller.start()

    async def is_counted() -> bool:
        activity = Organization.parse(await house.kube.get(Organization, "acme")).status.activity
        if activity is None or not activity.archived_within:
            return False
        noted, archived = (
            sum(getattr(hour, what) for hour in activity.hours) for what in ("noted", "archived")
        )
        return bool(noted and archived)

    await eventually(is_counted)


async def test_an_organization_knows_its_token_hashes_urls_version_and_counts(house: House) -> None:
    await house.until_condition(Organization, "acme", "Reachable", ("True", "EsawAnswers"))
    organization = Organization.parse(await house.kube.get(Organization, "acme"))
    token = house.local_environment.tokens["acme"]
    assert organization.status.callback_token_hashes == (hashlib.sha256(token.encode()).hexdigest(),)
    assert organization.status.callback_urls is not None
    assert "/callbacks/acme/<token>?" in organization.status.callback_urls.envelope
    assert organization.status.version is not None


# -- Rights and secrets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "resource"),
    [
        ("list", "secrets"),
        ("watch", "secrets"),
        ("create", "secrets"),
        ("delete", "secrets"),
        ("patch", "organizations"),
        ("patch", "senders"),
        ("patch", "archives"),
        ("create", "envelopes"),
        ("watch", "envelopes"),
        ("create", "pods"),
        ("list", "namespaces"),
    ],
)
async def test_the_controller_that_did_all_this_may_not(house: House, verb: str, resource: str) -> None:
    account = f"system:serviceaccount:{house.local_environment.namespace}:controller"
    assert await may(house, verb, resource, account) is False


async def may(house: House, verb: str, resource: str, account: str) -> bool:
    """Ask the API server whether an account may do that in the house."""
    group = "counterfoil.dev" if resource in ("organizations", "senders", "archives", "envelopes") else ""
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": account,
            "resourceAttributes": {
                "namespace": house.local_environment.namespace,
                "verb": verb,
                "group": group,
                "resource": resource,
            },
        },
    }
    answered = await house.local_environment.kubectl(
        "create", "-f", "-", "-o", "json", stdin=json.dumps(review)
    )
    return bool(json.loads(answered)["status"].get("allowed"))


async def test_no_key_or_token_is_in_any_object_event_or_log(house: House) -> None:
    kinds = "organizations,senders,archives,envelopes,envelopeevents,events.events.k8s.io"
    written = await house.local_environment.kubectl("get", kinds, "-o", "yaml")
    written += house.controller.log.read_text()
    written += await house.controller.metrics()
    assert "TokenRejected" in written, "the search sees nothing"
    tokens = [*house.tokens, *house.local_environment.tokens.values()]
    assert len(tokens) > 10
    assert [token for token in tokens if token in written] == []
    assert not any(each.token_in_url for each in house.esaw.requests())
