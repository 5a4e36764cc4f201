"""
S15: a receiver that was taken over, or a user who may create events, steers what the controller believes.

Only the API server with the chart's admission policies refuses the attacks here.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from counterfoil.resources import (
    EnvelopeEvent,
    EnvelopeEventStatus,
    LocalObjectReference,
    Phase,
    SenderReference,
    envelope_id,
    merge_patch,
    to_json_dict,
)
from counterfoil.resources.conditions import Condition
from counterfoil.resources.envelopeevent import (
    ArchiveLocation,
    Attempt,
    AttemptOutcome,
    EnvelopeSummary,
    EventNotice,
    FiledDocument,
    FileKind,
    LastError,
    NoticeState,
    Origin,
)
from counterfoil.resources.event_factory import new_event
from counterfoil.resources.naming import event_name
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.kubectl import KubectlError
from sandbox.esaw.core.behaviour import Behaviour
from sandbox.esaw.core.model import CallbackUrls, EnvelopeStatus
from tests.support.builders import ANNA
from tests.support.pauses import eventually
from tests.support.scenes.admission import (
    CONSOLE_USER,
    WRITER,
    GuardedNamespace,
    a_sender,
    an_archive,
    guarded_namespace,
)
from tests.support.scenes.controller import a_controller_scene
from webhook.receiver.delivery_counter import PendingCount, status_with
from webhook.receiver.later_parameters import with_parameters

NAMESPACE = "attacked-by-statuses"
RECEIVER, CONTROLLER, PAGES = (
    f"system:serviceaccount:{NAMESPACE}:counterfoil-{process}"
    for process in ("receiver", "controller", "pages")
)
ENVELOPE = envelope_id("5482ee18-6d1f-4d5f-8d66-0c6d2a1e8f10")
OTHER_ENVELOPE = "99999999-6d1f-4d5f-8d66-0c6d2a1e8f10"
EVENT = new_event(organization="acme", envelope=ENVELOPE, action="envelopeFinished", sender="anna")
NAME = EVENT["metadata"]["name"]
TARGET = f"ee/{NAME}"
NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
LATER = datetime(2026, 7, 1, 13, 30, 15, 120_000, tzinfo=UTC)

STATUS_WRITER: tuple[rbac.Rule, ...] = (
    {
        "apiGroups": ["counterfoil.dev"],
        "resources": [
            f"{each}/status"
            for each in ("archives", "envelopeevents", "envelopes", "imports", "organizations", "senders")
        ],
        "verbs": ["get", "update", "patch"],
    },
)


REPORTER: rbac.Rule = {"apiGroups": ["", "events.k8s.io"], "resources": ["events"], "verbs": ["*"]}


def a_condition(type_: str, status: Any = "True", reason: str = "Because") -> Condition:
    """Return a condition of noon."""
    return Condition(type=type_, status=status, reason=reason, message="So it is.", last_transition_time=NOON)


FAILED = EnvelopeEventStatus(
    phase=Phase.FAILED,
    reason="SignatureBroken",
    message="A signature is broken.",
    observed_generation=1,
    conditions=(
        a_condition("Ready", "False"),
        a_condition("Stalled"),
        a_condition("Archived"),
        a_condition("EvidenceComplete", "False"),
        a_condition("SignaturesValid", "False", "SignatureBroken"),
    ),
    deliveries=2,
    first_delivery_time=NOON,
    last_delivery_time=NOON,
    parameters={"costCenter": "7"},
    attempts=4,
    next_attempt_time=NOON,
    phase_start_time=NOON,
    last_error=LastError(reason="SignatureBroken", message="A signature is broken.", time=NOON),
    envelope=EnvelopeSummary(
        name="Lease", status="Rejected", sender_ref=SenderReference(name="anna", user_id=ANNA)
    ),
    documents=(
        FiledDocument(
            file_id="1",
            kind=FileKind.DOCUMENT,
            file_name="lease.pdf",
            size=5,
            sha256="0" * 64,
            location="file:///srv/lease.pdf",
        ),
    ),
    archive=ArchiveLocation(ref=LocalObjectReference(name="dms"), manifest="file:///srv/counterfoil.json"),
    mismatches=1,
    start_time=NOON,
    completion_time=NOON,
    attempt_history=(
        Attempt(
            phase=Phase.CLEANING,
            start_time=NOON,
            duration_seconds=1,
            outcome=AttemptOutcome.FAIL,
            reason="SignatureBroken",
        ),
    ),
    notice=EventNotice(id="1", state=NoticeState.DELIVERED),
)
SKIPPED = replace(
    FAILED,
    phase=Phase.SKIPPED,
    conditions=(a_condition("Ready", "False"), a_condition("Stalled"), a_condition("Validated")),
    documents=(),
)
CLEANING = replace(FAILED, phase=Phase.CLEANING, completion_time=None, notice=None)
SUCCEEDED = replace(FAILED, phase=Phase.SUCCEEDED)
ASSUMED = replace(SUCCEEDED, reason="DeletionAssumed")
DELAYED = replace(
    CLEANING, reason="CleanupDelayed", envelope=EnvelopeSummary(name="Lease", status="Expired"), attempts=0
)


@pytest.fixture(scope="module", name="guarded")
async def _guarded(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> GuardedNamespace:
    await plane.namespace(NAMESPACE)
    guarded = await guarded_namespace(
        plane,
        NAMESPACE,
        tmp_path_factory.mktemp("chart"),
        {"admissionPolicy": {"statusWriters": ["restorer"]}},
    )
    for name in (RECEIVER, CONTROLLER, PAGES, "meddler", "restorer"):
        await guarded.user(name, (*WRITER, *STATUS_WRITER, REPORTER))
    await guarded.user("reporter", (REPORTER,))
    await guarded.user("writer", WRITER)
    await guarded.user("console", CONSOLE_USER)
    return guarded


async def stored(guarded: GuardedNamespace, status: EnvelopeEventStatus) -> EnvelopeEvent:
    """Store the event with this status, and return it."""
    await guarded.admin("delete", "ee", NAME, "--ignore-not-found")
    await guarded.apply(EVENT)
    await write_status(guarded, "", to_json_dict(status))
    return EnvelopeEvent.parse(json.loads(await guarded.admin("get", TARGET, "-o", "json")))


async def write_status(
    guarded: GuardedNamespace, user: str, status: dict[str, Any], target: str = TARGET
) -> None:
    """Change a status as a user; as the administrator if there is no name."""
    patch = ("patch", target, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))
    await (guarded.as_user(user, *patch) if user else guarded.admin(*patch))


async def refusal_of_status(
    guarded: GuardedNamespace, user: str, status: dict[str, Any], target: str = TARGET
) -> str:
    """Change a status as a user, and return the error."""
    with pytest.raises(KubectlError) as refused:
        await write_status(guarded, user, status, target)
    assert "ValidatingAdmissionPolicy" in str(refused.value)
    return str(refused.value)


# -- What a receiver may write -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before",
    [
        EnvelopeEventStatus(),
        CLEANING,
        DELAYED,
        SUCCEEDED,
        ASSUMED,
        FAILED,
        SKIPPED,
    ],
    ids=lambda status: f"{status.phase}-{status.reason or ''}",
)
@pytest.mark.parametrize("parameters", [{}, {"costCenter": "8", "contract": "A-7"}], ids=["", "parameters"])
async def test_a_receiver_counts_reopens_and_adds_parameters(
    guarded: GuardedNamespace, before: EnvelopeEventStatus, parameters: dict[str, str]
) -> None:
    event = await stored(guarded, before)
    counted = status_with(event, PendingCount(3, LATER, LATER), now=LATER)
    status = with_parameters(event, counted, parameters, now=LATER)
    await write_status(guarded, RECEIVER, merge_patch(to_json_dict(event.status), to_json_dict(status)))
    after = EnvelopeEvent.parse(json.loads(await guarded.admin("get", TARGET, "-o", "json"))).status
    assert after == status
    is_reopened = before in (ASSUMED, FAILED, SKIPPED)
    assert after.phase is (Phase.PENDING if is_reopened else before.phase)


async def test_an_envelope_that_is_signed_during_the_delay_of_its_delete_is_archived_with_the_policies(
    plane: ControlPlane, tmp_path: Path
) -> None:
    """Its callback comes while eSAW still finishes it, and no other follows."""
    accounts = {
        each: {"serviceAccount": {"name": each}} for each in ("receiver", "controller", "pages", "console")
    }
    async with a_controller_scene(plane, tmp_path) as scene:
        local = scene.local_environment
        await guarded_namespace(plane, local.namespace, tmp_path / "chart", accounts)
        cleanup, evidence = {"policy": "Delete", "after": "24h"}, {"wait": "0s"}
        user = await scene.organization(
            "patient", statuses=["Completed", "Expired"], cleanup=cleanup, evidence=evidence
        )
        receiver = await local.receiver()
        scene.esaw.set_behaviour(Behaviour(callback_on_expiry=True, final_state_lag=2.0))
        called = CallbackUrls(envelope=local.callback_url("patient", receiver))
        envelope = scene.envelope(user, status=EnvelopeStatus.ACTIVE, callbacks=called)
        await scene.esaw.expire(envelope)
        name = event_name("patient", envelope_id(envelope), "envelopeFinished")
        await eventually(local.events)
        expired = await scene.reaches(name, Phase.CLEANING, "CleanupDelayed")
        assert expired.status.envelope is not None
        assert expired.status.envelope.status == "Expired"
        await scene.esaw.restart(envelope)
        await scene.esaw.complete(envelope)

        def is_archived_again(event: EnvelopeEvent) -> bool:
            found = event.status.envelope
            is_signed = found is not None and found.status == "Completed"
            return is_signed and event.status.reason == "CleanupDelayed"

        signed = await scene.is_so(name, is_archived_again)
        assert signed.deliveries == 2
        assert {each.sha256 for each in signed.status.documents} == {
            scene.esaw.expected_sha256(each.file_id) for each in scene.esaw.files(envelope)
        }


def _without(type_: str) -> list[dict[str, Any]]:
    return [each for each in to_json_dict(FAILED)["conditions"] if each["type"] != type_]


def _with(type_: str, status: str) -> list[dict[str, Any]]:
    changed = {**to_json_dict(a_condition(type_)), "status": status}
    return [*_without(type_), changed]


REOPENED: dict[str, Any] = {
    "phase": "Pending",
    "reason": "Redelivered",
    "message": "eSignAnyWhere called again after the event was Failed.",
    **dict.fromkeys(
        ("attempts", "nextAttemptTime", "phaseStartTime", "completionTime", "mismatches", "notice")
    ),
}

FORGED: dict[str, tuple[EnvelopeEventStatus, dict[str, Any]]] = {
    "the envelope's status": (CLEANING, {"envelope": {"status": "Completed"}}),
    "the envelope's sender": (CLEANING, {"envelope": {"senderRef": {"name": "mallory"}}}),
    "missing evidence is complete": (CLEANING, {"conditions": _with("EvidenceComplete", "True")}),
    "missing evidence is not mentioned": (CLEANING, {"conditions": _without("EvidenceComplete")}),
    "a broken signature is intact": (CLEANING, {"conditions": _with("SignaturesValid", "True")}),
    "nothing is archived": (CLEANING, {"conditions": _without("Archived")}),
    "all is archived": (
        SKIPPED,
        {"conditions": [*to_json_dict(SKIPPED)["conditions"], to_json_dict(a_condition("Archived"))]},
    ),
    "it is ready": (CLEANING, {"conditions": _with("Ready", "True")}),
    "no documents": (CLEANING, {"documents": []}),
    "another document": (
        CLEANING,
        {"documents": [{**to_json_dict(CLEANING)["documents"][0], "sha256": "1" * 64}]},
    ),
    "another archive": (CLEANING, {"archive": {"ref": {"name": "of-mallory"}}}),
    "no mismatch": (CLEANING, {"mismatches": 0}),
    "a copy that was never made": (
        CLEANING,
        {
            "copies": [
                {
                    "ref": {"name": "worm"},
                    "manifest": "s3://worm/counterfoil.json",
                    "verifiedTime": "2026-07-01T12:00:00Z",
                    "documents": "1" * 64,
                }
            ]
        },
    ),
    "a phase": (CLEANING, {"phase": "Succeeded"}),
    "the first phase": (CLEANING, {"phase": "Pending"}),
    "a re-opening of what succeeded": (SUCCEEDED, REOPENED),
    "an assumed deletion, to re-open it": (SUCCEEDED, {"reason": "DeletionAssumed"}),
    "a re-opening with another reason": (FAILED, {**REOPENED, "reason": "CauseSolved"}),
    "a re-opening with an attempt far away": (
        FAILED,
        {**REOPENED, "nextAttemptTime": "2099-01-01T00:00:00Z"},
    ),
    "a re-opening without the doubt": (FAILED, {**REOPENED, "conditions": _without("EvidenceComplete")}),
    "a re-opening with another envelope": (FAILED, {**REOPENED, "envelope": {"status": "Completed"}}),
    "a re-opening that is ready": (FAILED, {**REOPENED, "conditions": _with("Ready", "True")}),
    "a re-opening with a notice that was sent": (
        FAILED,
        {**REOPENED, "notice": {"id": "2", "state": "Delivered"}},
    ),
    "fewer deliveries": (CLEANING, {"deliveries": 1}),
    "another first delivery": (CLEANING, {"firstDeliveryTime": "2026-01-01T00:00:00Z"}),
    "another parameter": (CLEANING, {"parameters": {"costCenter": "8"}}),
    "a request": (
        CLEANING,
        {
            "lastRequest": {
                "request": "retry",
                "by": "jane",
                "handledTime": "2026-07-01T12:00:00Z",
                "outcome": "Done",
            }
        },
    ),
}


@pytest.mark.parametrize(("before", "status"), FORGED.values(), ids=FORGED.keys())
async def test_a_receiver_that_was_taken_over_changes_nothing_that_a_delete_depends_on(
    guarded: GuardedNamespace, before: EnvelopeEventStatus, status: dict[str, Any]
) -> None:
    await stored(guarded, before)
    assert "a receiver " in await refusal_of_status(guarded, RECEIVER, status)


# -- Statuses of the other kinds -----------------------------------------------------------------------------

ARCHIVE = an_archive("recorded", filesystem={"root": "/srv"})
SENDER = a_sender("recorded")
KEY = {
    "secretName": "recorded",
    "keyID": "k1",
    "fingerprint": "0123abcd",
    "obtainedTime": "2026-07-01T12:00:00Z",
    "verifiedTime": "2026-07-01T12:00:00Z",
}


async def test_no_other_user_writes_the_status_of_any_kind(guarded: GuardedNamespace) -> None:
    envelope = {
        "apiVersion": "counterfoil.dev/v1beta1",
        "kind": "Envelope",
        "metadata": {"name": ENVELOPE},
        "spec": {
            "organizationRef": {"name": "acme"},
            "envelopeID": ENVELOPE,
            "senderRef": {"name": "anna"},
        },
    }
    imported = {
        "apiVersion": "counterfoil.dev/v1beta1",
        "kind": "Import",
        "metadata": {"name": "old"},
        "spec": {"organizationRef": {"name": "acme"}, "from": "2019-01-01"},
    }
    await guarded.apply(EVENT, ARCHIVE, SENDER, envelope, imported)
    conditions = [to_json_dict(a_condition("Ready"))]
    for target in (TARGET, "archive/recorded", "sender/recorded", f"env/{ENVELOPE}", "import/old"):
        said = await refusal_of_status(guarded, "meddler", {"conditions": conditions}, target)
        assert "only Counterfoil writes the status of its objects" in said
        await write_status(guarded, "restorer", {"conditions": conditions}, target)
    for user, target in (
        (RECEIVER, "archive/recorded"),
        (RECEIVER, "sender/recorded"),
        (PAGES, TARGET),
        (PAGES, "archive/recorded"),
        (CONTROLLER, f"env/{ENVELOPE}"),
    ):
        said = await refusal_of_status(
            guarded, user, {"conditions": [*conditions, to_json_dict(a_condition("X"))]}, target
        )
        assert "only Counterfoil writes the status of its objects" in said or "a receiver" in said
    await write_status(guarded, CONTROLLER, {"conditions": conditions}, "archive/recorded")


async def test_a_person_who_seals_keys_again_records_the_sealing_key_and_nothing_else(
    guarded: GuardedNamespace,
) -> None:
    await guarded.apply(SENDER)
    await write_status(guarded, PAGES, {"key": KEY}, "sender/recorded")
    await write_status(guarded, "meddler", {"key": {"keyID": "k2"}}, "sender/recorded")
    for change in (
        {"key": {"keyID": "k3", "fingerprint": "ffffffff"}},
        {"key": {"keyID": "k3", "secretName": "of-mallory"}},
        {"key": None},
        {"key": {"keyID": "k3"}, "waitingEvents": 3},
    ):
        said = await refusal_of_status(guarded, "meddler", change, "sender/recorded")
        assert "only Counterfoil writes the status of its objects" in said


# -- Origins and labels --------------------------------------------------------------------------------------

MANUAL = new_event(
    organization="acme",
    envelope=envelope_id("11112222-6d1f-4d5f-8d66-0c6d2a1e8f10"),
    action="envelopeFinished",
    origin=Origin.MANUAL,
)
DERIVED = {f"counterfoil.dev/{each}" for each in ("organization", "envelope", "action")}


def manual(labels: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    """Return an event that a person creates, with the labels that the spec says, and these."""
    derived = {key: value for key, value in MANUAL["metadata"]["labels"].items() if key in DERIVED}
    metadata = {**MANUAL["metadata"], "labels": {**derived, **(labels or {})}}
    return {**MANUAL, "metadata": metadata, "spec": {**MANUAL["spec"], **spec}}


async def test_a_person_creates_events_by_hand(guarded: GuardedNamespace) -> None:
    body = json.dumps(manual())
    await guarded.until_accepted("writer", "create", "-f", "-", stdin=body)
    bare = {**manual(), "metadata": {"name": MANUAL["metadata"]["name"]}}
    await guarded.until_accepted("writer", "create", "-f", "-", stdin=json.dumps(bare))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(manual(origin="Sweep"), id="Sweep"),
        pytest.param(manual(origin="Callback"), id="Callback"),
        pytest.param(
            {**manual(), "spec": {k: v for k, v in MANUAL["spec"].items() if k != "origin"}}, id="none"
        ),
    ],
)
async def test_no_person_creates_the_event_of_a_callback_or_a_sweep(
    guarded: GuardedNamespace, body: dict[str, Any]
) -> None:
    said = await guarded.refusal_of_create("writer", body)
    assert "every other user creates only events with spec.origin Manual" in said


@pytest.mark.parametrize(
    "labels",
    [
        {"counterfoil.dev/sender": "anna"},
        {"counterfoil.dev/shard": "99"},
        {"counterfoil.dev/shard": "3"},
        {"counterfoil.dev/archived": "true"},
        {"counterfoil.dev/envelope": OTHER_ENVELOPE},
        {"counterfoil.dev/organization": "globex"},
        {"counterfoil.dev/action": "envelopeClosed"},
    ],
    ids=str,
)
async def test_no_person_creates_an_event_with_labels_that_steer(
    guarded: GuardedNamespace, labels: dict[str, str]
) -> None:
    said = await guarded.refusal_of_create("writer", manual(labels))
    assert "of the labels counterfoil.dev/..." in said


STEERING: tuple[dict[str, str], ...] = (
    {"counterfoil.dev/import": "old-stock", "counterfoil.dev/import-window": "0123-1"},
    {"counterfoil.dev/import": "no-such-import"},
    {"counterfoil.dev/import-archive": "vault"},
    {"counterfoil.dev/listed-by": "ben"},
    {"counterfoil.dev/listed-after": "Active"},
    {"counterfoil.dev/import-ended": "20260701T120000Z"},
    {"counterfoil.dev/archived": "true"},
    {"counterfoil.dev/request": "skip"},
)
"""Labels with which a controller chooses a key or an Archive, counts for an Import, removes or skips."""


@pytest.mark.parametrize("labels", STEERING, ids=str)
async def test_a_receiver_that_was_taken_over_sets_no_label_but_those_of_a_callback(
    guarded: GuardedNamespace, labels: dict[str, str]
) -> None:
    body = new_event(
        organization="acme", envelope=ENVELOPE, action="envelopeRejected", sender="ben", labels=labels
    )
    assert "of the labels counterfoil.dev/..." in await guarded.refusal_of_create(RECEIVER, body)


@pytest.mark.parametrize("labels", [*STEERING, {"counterfoil.dev/sender": "ben"}], ids=str)
async def test_a_receiver_that_was_taken_over_changes_no_label_of_an_event(
    guarded: GuardedNamespace, labels: dict[str, str]
) -> None:
    await guarded.apply(EVENT)
    said = await guarded.refusal_of_patch(RECEIVER, TARGET, {"metadata": {"labels": labels}})
    assert "of the labels counterfoil.dev/..." in said


async def test_a_receiver_creates_the_event_of_a_callback(guarded: GuardedNamespace) -> None:
    body = new_event(
        organization="acme",
        envelope=ENVELOPE,
        action="envelopeRejected",
        sender="ben",
        traceparent="00-1-2-3",
    )
    await guarded.create(RECEIVER, body)
    await guarded.admin("delete", f"ee/{body['metadata']['name']}")


async def test_a_receiver_that_was_taken_over_claims_no_event(guarded: GuardedNamespace) -> None:
    body = new_event(organization="acme", envelope=ENVELOPE, action="envelopeRejected")
    body["metadata"]["annotations"] = {"counterfoil.dev/claim": "mine"}
    assert "answers anybody" in await guarded.refusal_of_create(RECEIVER, body)


EXPOSED_METADATA: tuple[dict[str, Any], ...] = (
    {"finalizers": ["example.com/never"]},
    {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "x"}]},
    {"annotations": {"counterfoil.dev/request-by": "admin"}},
    {"annotations": {"counterfoil.dev/request-reason": "so"}},
)
"""Metadata by which an object outlives its deletion, is deleted with another one, or names a person."""


@pytest.mark.parametrize("metadata", EXPOSED_METADATA, ids=str)
async def test_a_receiver_that_was_taken_over_creates_no_event_that_stays_or_names_a_person(
    guarded: GuardedNamespace, metadata: dict[str, Any]
) -> None:
    body = new_event(organization="acme", envelope=ENVELOPE, action="envelopeRejected")
    body["metadata"] = {**body["metadata"], **metadata}
    assert "answers anybody" in await guarded.refusal_of_create(RECEIVER, body)


@pytest.mark.parametrize("metadata", EXPOSED_METADATA, ids=str)
async def test_pages_that_were_taken_over_create_no_sender_that_stays_or_names_a_person(
    guarded: GuardedNamespace, metadata: dict[str, Any]
) -> None:
    sender = a_sender("invented-too")
    sender["metadata"] = {**sender["metadata"], **metadata}
    assert "answers anybody" in await guarded.refusal_of_create(PAGES, sender)


async def test_a_receiver_that_was_taken_over_removes_no_word_of_a_person(guarded: GuardedNamespace) -> None:
    await guarded.apply(EVENT)
    await guarded.admin("annotate", TARGET, "counterfoil.dev/request-reason=so", "mine=yes", "--overwrite")
    removal = {"metadata": {"annotations": {"counterfoil.dev/request-reason": None}}}
    assert "answers anybody" in await guarded.refusal_of_patch(RECEIVER, TARGET, removal)
    of_others = {"metadata": {"annotations": {"mine": None}}}
    assert "answers anybody" in await guarded.refusal_of_patch(RECEIVER, TARGET, of_others)
    await guarded.patch(CONTROLLER, TARGET, removal)


def many(count: int) -> dict[str, str]:
    """Return this number of labels or annotations of others."""
    return {f"x.example/k{number}": "v" * 63 for number in range(count)}


BOUND = "at most 64 labels and 64 annotations of 1,024 characters"

LARGE_METADATA: dict[str, tuple[dict[str, Any], str]] = {
    "many labels": ({"labels": many(10_000)}, BOUND),
    "a long annotation": ({"annotations": {"x.example/y": "a" * 100_000}}, BOUND),
    "an annotation": ({"annotations": {"counterfoil.dev/y": ""}}, "answers anybody"),
    "a long trace": (
        {"annotations": {"counterfoil.dev/traceparent": "0" * 100_000}},
        "answers anybody",
    ),
}
"""Metadata that Kubernetes bounds by the size of the object only, or by 256 KiB for all annotations."""


@pytest.mark.parametrize(("metadata", "said"), LARGE_METADATA.values(), ids=LARGE_METADATA)
async def test_a_receiver_that_was_taken_over_fills_no_metadata(
    guarded: GuardedNamespace, metadata: dict[str, Any], said: str
) -> None:
    body = new_event(organization="acme", envelope=ENVELOPE, action="envelopeRejected")
    labels = {**body["metadata"]["labels"], **metadata.get("labels", {})}
    body["metadata"] = {**body["metadata"], **metadata, "labels": labels}
    assert said in await guarded.refusal_of_create(RECEIVER, body)
    await guarded.apply(EVENT)
    if metadata != LARGE_METADATA["many labels"][0]:
        # They are too long for an argument of kubectl.
        assert said in await guarded.refusal_of_patch(RECEIVER, TARGET, {"metadata": metadata})


@pytest.mark.parametrize(("metadata", "said"), LARGE_METADATA.values(), ids=LARGE_METADATA)
async def test_pages_that_were_taken_over_fill_no_metadata(
    guarded: GuardedNamespace, metadata: dict[str, Any], said: str
) -> None:
    sender = a_sender("invented-too")
    sender["metadata"] = {**sender["metadata"], **metadata}
    assert said in await guarded.refusal_of_create(PAGES, sender)


WEBHOOK = {"labels": {"team": "legal"}, "annotations": {"policies.example/last-applied": "patches"}}
"""Metadata that a mutating webhook of the cluster adds to each object."""


async def test_a_webhook_of_the_cluster_that_labels_all_objects_stops_no_process(
    guarded: GuardedNamespace,
) -> None:
    event = new_event(organization="acme", envelope=ENVELOPE, action="envelopeRejected")
    event["metadata"]["labels"] |= WEBHOOK["labels"]
    event["metadata"]["annotations"] = WEBHOOK["annotations"]
    await guarded.until_accepted(RECEIVER, "create", "-f", "-", stdin=json.dumps(event))
    sender = a_sender("labelled")
    sender["metadata"] |= WEBHOOK
    await guarded.create(PAGES, sender)
    await guarded.patch(PAGES, "sender/labelled", {"metadata": {"annotations": WEBHOOK["annotations"]}})
    await guarded.admin("delete", "sender/labelled")


@pytest.mark.parametrize(
    "metadata",
    [
        {"annotations": {"helm.sh/resource-policy": None}},
        {"annotations": {"helm.sh/resource-policy": "delete"}},
        {"annotations": {"argocd.argoproj.io/tracking-id": "contracts:counterfoil.dev/Sender:ns/managed"}},
        {"labels": {"velero.io/exclude-from-backup": "true"}},
    ],
    ids=str,
)
async def test_pages_that_were_taken_over_let_no_tool_remove_what_a_person_created(
    guarded: GuardedNamespace, metadata: dict[str, Any]
) -> None:
    sender = a_sender("managed")
    sender["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    await guarded.apply(sender)
    await guarded.patch(PAGES, "sender/managed", {"spec": {"surname": "Berg"}})
    said = await guarded.refusal_of_patch(PAGES, "sender/managed", {"metadata": metadata})
    assert "no label or annotation of others" in said


async def test_an_object_with_more_metadata_than_the_bound_can_still_be_changed_and_deleted(
    guarded: GuardedNamespace,
) -> None:
    large = {"labels": many(65), "annotations": {"kapp.k14s.io/original": "a" * 1500}}
    labels = {**EVENT["metadata"]["labels"], **large["labels"]}
    sender, event = a_sender("older"), {**EVENT, "metadata": {**EVENT["metadata"], **large, "labels": labels}}
    sender["metadata"] = {**sender["metadata"], **large, "finalizers": ["x.example/first"]}
    await guarded.apply(sender, event)
    await guarded.patch(PAGES, "sender/older", {"spec": {"surname": "Berg"}})
    await guarded.patch("console", "sender/older", {"spec": {"suspend": True}})
    await guarded.patch("console", TARGET, {"spec": {"suspend": True}})
    await guarded.patch("writer", "sender/older", {"metadata": {"finalizers": None}})
    await guarded.admin("delete", "sender/older", TARGET)


@pytest.mark.parametrize("user", ["writer", "console"])
@pytest.mark.parametrize(
    "metadata",
    [
        {"labels": many(65)},
        {"annotations": many(65)},
        {"annotations": {"x.example/y": "a" * 1025}},
        {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "a" * 1025}},
    ],
    ids=["labels", "annotations", "long", "applied"],
)
async def test_no_person_fills_the_metadata_of_an_event(
    guarded: GuardedNamespace, user: str, metadata: dict[str, Any]
) -> None:
    await guarded.apply(EVENT)
    said = await guarded.refusal_of_patch(user, TARGET, {"metadata": metadata})
    assert BOUND in said


async def test_a_person_applies_an_archive_with_a_long_configuration(guarded: GuardedNamespace) -> None:
    tools = ("kubectl.kubernetes.io/last-applied-configuration", "kapp.k14s.io/original")
    applied = {"annotations": dict.fromkeys(tools, "a" * 20_000)}
    archive = an_archive("applied", filesystem={"root": "/srv"})
    archive["metadata"] |= applied
    await guarded.until_accepted("restorer", "create", "-f", "-", stdin=json.dumps(archive))
    await guarded.apply(ARCHIVE)
    await guarded.patch("writer", "archive/recorded", {"metadata": applied})


async def test_a_controller_claims_an_event_with_more_metadata_than_people_may_set(
    guarded: GuardedNamespace,
) -> None:
    """An administrator of the cluster set it, or it was there before the policy."""
    await guarded.apply({**EVENT, "metadata": {**EVENT["metadata"], "annotations": many(65)}})
    await guarded.patch(CONTROLLER, TARGET, {"metadata": {"annotations": {"counterfoil.dev/claim": "0f"}}})
    await guarded.admin("delete", TARGET)


@pytest.mark.parametrize("metadata", EXPOSED_METADATA[:2], ids=str)
async def test_a_receiver_that_was_taken_over_keeps_no_event_that_is_deleted(
    guarded: GuardedNamespace, metadata: dict[str, Any]
) -> None:
    await guarded.apply(EVENT)
    assert "answers anybody" in await guarded.refusal_of_patch(RECEIVER, TARGET, {"metadata": metadata})


@pytest.mark.parametrize(
    "labels",
    [
        {"counterfoil.dev/request": "reminder"},
        {"counterfoil.dev/sender": "anna"},
        {"counterfoil.dev/archived": "true"},
    ],
    ids=str,
)
async def test_pages_that_were_taken_over_set_no_label_but_those_of_the_spec(
    guarded: GuardedNamespace, labels: dict[str, str]
) -> None:
    sender = a_sender("invented")
    own = {"counterfoil.dev/organization": sender["spec"]["organizationRef"]["name"]}
    sender["metadata"]["labels"] = own
    await guarded.until_accepted(PAGES, "create", "-f", "-", stdin=json.dumps(sender))
    sender["metadata"]["labels"] = {**own, **labels}
    assert "of the labels counterfoil.dev/..." in await guarded.refusal_of_create(PAGES, sender)


@pytest.mark.parametrize("user", ["writer", "console"])
@pytest.mark.parametrize(
    "labels",
    [
        {"counterfoil.dev/shard": "99"},
        {"counterfoil.dev/shard": None},
        {"counterfoil.dev/sender": "mallory"},
        {"counterfoil.dev/sender": ""},
        {"counterfoil.dev/envelope": OTHER_ENVELOPE},
        {"counterfoil.dev/envelope": None},
        {"counterfoil.dev/archived": "true"},
    ],
    ids=str,
)
async def test_no_person_changes_the_labels_of_an_event(
    guarded: GuardedNamespace, user: str, labels: dict[str, str | None]
) -> None:
    await guarded.apply(EVENT)
    said = await guarded.refusal_of_patch(user, TARGET, {"metadata": {"labels": labels}})
    assert "of the labels counterfoil.dev/..." in said


async def test_no_person_marks_an_envelope_as_archived(guarded: GuardedNamespace) -> None:
    labels = {"counterfoil.dev/organization": "acme", "counterfoil.dev/sender": "anna"}
    envelope = {
        "apiVersion": "counterfoil.dev/v1beta1",
        "kind": "Envelope",
        "metadata": {"name": OTHER_ENVELOPE, "labels": labels},
        "spec": {
            "organizationRef": {"name": "acme"},
            "envelopeID": OTHER_ENVELOPE,
            "senderRef": {"name": "anna"},
        },
    }
    await guarded.create("writer", envelope)
    body = {"metadata": {"labels": {"counterfoil.dev/archived": "true"}}}
    assert "of the labels" in await guarded.refusal_of_patch("writer", f"env/{OTHER_ENVELOPE}", body)
    await guarded.patch(CONTROLLER, f"env/{OTHER_ENVELOPE}", body)


async def test_no_person_takes_an_event_from_the_controller_that_works_on_it(
    guarded: GuardedNamespace,
) -> None:
    await guarded.apply(EVENT)
    body = {"metadata": {"annotations": {"counterfoil.dev/claim": "mine"}}}
    assert "counterfoil.dev/claim" in await guarded.refusal_of_patch("writer", TARGET, body)
    await guarded.patch(CONTROLLER, TARGET, body)
    await guarded.admin("annotate", TARGET, "counterfoil.dev/claim-")


@pytest.mark.parametrize("user", ["writer", "console"])
async def test_people_still_ask_and_label_as_they_like(guarded: GuardedNamespace, user: str) -> None:
    await guarded.apply(EVENT)
    await guarded.until_accepted(user, "label", TARGET, "counterfoil.dev/request=retry", "--overwrite")
    await guarded.as_user(user, "label", TARGET, "counterfoil.dev/request=retry", "mine=yes", "--overwrite")
    await guarded.as_user(user, "annotate", TARGET, "counterfoil.dev/request-reason=so", "--overwrite")
    await guarded.as_user(user, "label", TARGET, "counterfoil.dev/request-", "mine-")


def a_report(group: str, reporter: str) -> dict[str, Any]:
    """Return a Kubernetes Event about the event, of one of the two groups."""
    body: dict[str, Any] = {
        "kind": "Event",
        "metadata": {"name": "a-report", "namespace": NAMESPACE},
        "reason": "Archived",
        "type": "Normal",
        "action": "Archive",
        "reportingInstance": "somewhere",
        "eventTime": "2026-07-01T12:00:00.000000Z",
    }
    about = {"apiVersion": EVENT["apiVersion"], "kind": "EnvelopeEvent", "name": NAME, "namespace": NAMESPACE}
    if group:
        more = {"apiVersion": "events.k8s.io/v1", "reportingController": reporter, "regarding": about}
        return {**body, **more, "note": "All is archived."}
    more = {"apiVersion": "v1", "reportingComponent": reporter, "involvedObject": about}
    return {**body, **more, "message": "All is archived."}


@pytest.mark.parametrize("group", ["", "events.k8s.io"])
async def test_no_person_writes_history_in_the_controllers_name(
    guarded: GuardedNamespace, group: str
) -> None:
    forged = a_report(group, "counterfoil.dev/controller")
    said = await guarded.refusal_of_create("reporter", forged)
    assert "only the controller writes Kubernetes Events of the reporter" in said
    await guarded.until_accepted("reporter", "create", "-f", "-", stdin=json.dumps(a_report(group, "other")))
    await guarded.create(CONTROLLER, forged)
    # The API server itself keeps the note of an Event of events.k8s.io.
    changed = {"metadata": {"labels": {"mine": "yes"}}} if group else {"message": "Nothing is archived."}
    target = "events.v1.events.k8s.io/a-report" if group else "events.v1./a-report"
    said = await guarded.refusal_of_patch("reporter", target, changed)
    assert "only the controller writes Kubernetes Events of the reporter" in said
    await guarded.admin("delete", "events", "a-report")


async def test_counterfoil_sets_no_label_that_the_spec_denies(guarded: GuardedNamespace) -> None:
    await guarded.apply(EVENT)
    await guarded.patch(CONTROLLER, TARGET, {"metadata": {"labels": {"counterfoil.dev/sender": "ben"}}})
    body = {"metadata": {"labels": {"counterfoil.dev/envelope": OTHER_ENVELOPE}}}
    assert "say what the spec says" in await guarded.refusal_of_patch(CONTROLLER, TARGET, body)
