"""A person's skip or suspension of one event of an envelope holds for its other events, too."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from controller.requests.event_requests import EventRequests
from counterfoil.esaw.errors import HttpStatusError
from counterfoil.resources import (
    REQUEST_LABEL,
    SENDER_LABEL,
    EnvelopeEvent,
    EnvelopeStatus,
    Origin,
    Phase,
    Request,
    RequestOutcome,
)
from counterfoil.resources.reopening import is_started_by_callback, reopened_status
from counterfoil.retention import forbids_delete
from tests.support.builders import AClock, an_event
from tests.support.scenes.reconciler import ReconcilerScene

ACTIONS = [{"action": each, "handling": "Archive"} for each in ("envelopeFinished", "workstepFinished")]
DELAY = {"policy": "Delete", "after": "168h"}


def of_two_actions(folder: Path, **spec: Any) -> ReconcilerScene:
    return ReconcilerScene(folder, **{"cleanup": DELAY, "actions": ACTIONS, **spec})


def continue_with(scene: ReconcilerScene, event: EnvelopeEvent) -> EnvelopeEvent:
    """Let the scene continue with another event of the envelope; return the event before."""
    first, scene.event = scene.event, event
    return first


def create(scene: ReconcilerScene, event: EnvelopeEvent) -> EnvelopeEvent:
    scene.kube.put(event)
    return continue_with(scene, event)


def of_a_workstep() -> EnvelopeEvent:
    return an_event().for_action("workstepFinished").labelled(SENDER_LABEL, "anna").build()


def of_a_person() -> EnvelopeEvent:
    return an_event().by(Origin.MANUAL).named("import-1").labelled(SENDER_LABEL, "anna").build()


async def ask(scene: ReconcilerScene, request: str) -> None:
    """Carry out a person's request on the event, as the controller does."""
    requests, event = EventRequests(scene.clock), scene.newest()
    result = await (requests.skip if request == "skip" else requests.retry)(event, Request(request))
    assert result.change is not None
    last = Request(request).handled(result.outcome, "", now=scene.clock.now())
    status = msgspec.structs.replace(result.change(event.status), last_request=last)
    await scene.status_writer.store(event, status)


async def skip(scene: ReconcilerScene) -> None:
    await ask(scene, "skip")


async def skip_in_an_earlier_version(scene: ReconcilerScene) -> None:
    await ask(scene, "skip")
    event = scene.newest()
    earlier = msgspec.structs.replace(event.status, skipped_time=None)
    scene.kube.put(msgspec.structs.replace(event, status=earlier))


async def suspend(scene: ReconcilerScene) -> None:
    scene.kube.edit(EnvelopeEvent, scene.event.name, {"spec": {"suspend": True}})
    await scene.reconcile()


Decide = Callable[[ReconcilerScene], Awaitable[None]]


@pytest.mark.parametrize("decide", [skip, skip_in_an_earlier_version, suspend])
@pytest.mark.parametrize("other", [of_a_workstep, of_a_person])
@pytest.mark.parametrize("is_decided_before", [True, False])
async def test_another_event_of_the_envelope_does_not_delete_what_a_person_keeps(
    tmp_path: Path, decide: Decide, other: Callable[[], EnvelopeEvent], is_decided_before: bool
) -> None:
    scene = of_two_actions(tmp_path)
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    if is_decided_before:
        await decide(scene)
    first = create(scene, other())
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    if not is_decided_before:
        second = continue_with(scene, first)
        await decide(scene)
        continue_with(scene, second)
    scene.clock.advance(hours=169)
    kept = await scene.reconcile()
    assert (kept.status.phase, kept.status.reason) == (Phase.SUCCEEDED, "ArchivedAndKept")
    assert f"EnvelopeEvent/{first.name}" in (kept.status.message or "")
    assert scene.envelope.transport.deleted == []


async def test_the_envelope_is_deleted_after_the_skip_of_its_other_event_was_taken_back(
    tmp_path: Path,
) -> None:
    scene = of_two_actions(tmp_path)
    await scene.reconcile()
    await skip(scene)
    first = create(scene, of_a_workstep())
    scene.clock.advance(hours=169)
    await scene.reconcile(2)
    assert scene.newest().status.reason == "CleanupDelayed"
    scene.clock.advance(hours=169)
    assert (await scene.reconcile()).status.reason == "ArchivedAndKept"
    continue_with(scene, first)
    await ask(scene, "retry")
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_an_expired_envelope_of_a_skipped_event_is_kept_after_its_restart_too(tmp_path: Path) -> None:
    scene = of_two_actions(tmp_path, statuses=["Completed", "Expired"], cleanup={"policy": "Delete"})
    scene.envelope.status = EnvelopeStatus.EXPIRED
    scene.envelope.but("delete", HttpStatusError(503))
    await scene.reconcile()
    await skip(scene)
    scene.envelope.problems.clear()
    create(scene, of_a_workstep())
    kept = await scene.reconcile()
    assert (kept.status.phase, kept.status.reason) == (Phase.SKIPPED, "ArchivedAsExpired")
    scene.envelope.status = EnvelopeStatus.COMPLETED
    again = reopened_status(kept.status, reason="Redelivered", message="", now=scene.clock.now())
    await scene.status_writer.store(kept, again)
    assert (await scene.reconcile()).status.reason == "ArchivedAndKept"
    assert scene.envelope.transport.deleted == []


@pytest.mark.parametrize(
    "change", [{"metadata": {"labels": {REQUEST_LABEL: "skip"}}}, {"spec": {"suspend": True}}]
)
async def test_a_decision_about_another_event_is_obeyed_that_comes_during_the_last_run(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    """The other events are listed when archiving begins, and a request waits for the end of this run."""
    scene = of_two_actions(tmp_path, cleanup={"policy": "Delete"})
    first = scene.event
    create(scene, of_a_workstep())
    scene.envelope.meanwhile["download file-1"] = lambda: scene.kube.edit(EnvelopeEvent, first.name, change)
    after = await scene.reconcile()
    expected = "SettingsChanged" if "metadata" in change else "ArchivedAndKept"
    assert (after.status.reason, scene.envelope.transport.deleted) == (expected, [])
    assert f"EnvelopeEvent/{first.name}" in (after.status.message or "")


RECORDS = [
    {"action": "envelopeFinished", "handling": "Archive"},
    {"action": "workstepFinished", "handling": "Record"},
]


def that_records(folder: Path, policy: str = "Delete") -> ReconcilerScene:
    """Build a scene whose Organization archives one action and records another, as its status says."""
    scene = of_two_actions(folder, actions=RECORDS, cleanup={"policy": policy})
    known = scene.organization
    status = msgspec.structs.replace(
        known.status, archived_actions=("envelopeFinished",), observed_generation=known.metadata.generation
    )
    metadata = msgspec.structs.replace(known.metadata, resource_version="2")
    scene.observe(msgspec.structs.replace(known, metadata=metadata, status=status))
    return scene


@pytest.mark.parametrize("decide", [skip, suspend])
async def test_a_decision_about_an_event_that_only_records_keeps_the_envelope(
    tmp_path: Path, decide: Decide
) -> None:
    scene = that_records(tmp_path)
    archives = create(scene, of_a_workstep())
    await decide(scene)
    records = continue_with(scene, archives)
    kept = await scene.reconcile()
    assert (kept.status.reason, scene.envelope.transport.deleted) == ("ArchivedAndKept", [])
    continue_with(scene, records)
    if decide is skip:
        await ask(scene, "retry")
    else:
        scene.kube.edit(EnvelopeEvent, records.name, {"spec": {"suspend": False}})
    assert (await scene.reconcile()).status.reason == "Recorded"
    continue_with(scene, archives)
    assert scene.envelope.transport.deleted == []
    await ask(scene, "retry")
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_a_skip_of_an_event_that_has_ended_keeps_the_envelope_after_its_restart(tmp_path: Path) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Delete"})
    scene.envelope.status = EnvelopeStatus.EXPIRED
    assert (await scene.reconcile()).status.reason == "UnexpectedStatus"
    await skip(scene)
    scene.clock.advance(minutes=10)
    scene.envelope.status = EnvelopeStatus.COMPLETED
    now, skipped = scene.clock.now(), scene.newest()
    assert is_started_by_callback(skipped.status, received=now, now=now)
    again = reopened_status(skipped.status, reason="Redelivered", message="", now=now)
    await scene.status_writer.store(skipped, again)
    kept = await scene.reconcile()
    assert (kept.status.reason, scene.envelope.transport.deleted) == ("ArchivedAndKept", [])
    await ask(scene, "retry")
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_a_skip_of_an_event_that_was_recorded_keeps_the_envelope(tmp_path: Path) -> None:
    scene = that_records(tmp_path)
    archives = create(scene, of_a_workstep())
    assert (await scene.reconcile()).status.reason == "Recorded"
    await skip(scene)
    skipped = scene.newest()
    assert skipped.status.reason == "Recorded"
    assert "A person skipped the event" in (skipped.status.message or "")
    records = continue_with(scene, archives)
    kept = await scene.reconcile()
    assert (kept.status.reason, scene.envelope.transport.deleted) == ("ArchivedAndKept", [])
    continue_with(scene, records)
    await ask(scene, "retry")
    assert (await scene.reconcile()).status.skipped_time is None
    continue_with(scene, archives)
    await ask(scene, "retry")
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


async def test_a_skip_before_an_event_is_recorded_is_shown_by_it_and_taken_back(tmp_path: Path) -> None:
    scene = that_records(tmp_path)
    create(scene, of_a_workstep())
    await skip(scene)
    scene.clock.advance(minutes=10)
    event, now = scene.newest(), scene.clock.now()
    await scene.status_writer.store(
        event, reopened_status(event.status, reason="Redelivered", message="", now=now)
    )
    recorded = await scene.reconcile()
    assert recorded.status.skipped_time is not None
    assert "A person skipped the event" in (recorded.status.message or "")
    await ask(scene, "retry")
    assert (await scene.reconcile()).status.skipped_time is None


@pytest.mark.parametrize("reason", ["ArchivedAlready", "ArchivedAndDeleted"])
async def test_a_skip_changes_no_event_whose_envelope_is_gone(reason: str) -> None:
    phase = Phase.SKIPPED if reason == "ArchivedAlready" else Phase.SUCCEEDED
    event = an_event().in_phase(phase, reason).suspended().build()
    result = await EventRequests(AClock()).skip(event, Request("skip"))
    assert result.outcome is RequestOutcome.NOTHING_TO_DO
    assert not forbids_delete(event)


@pytest.mark.parametrize(
    ("status", "reason"),
    [(EnvelopeStatus.COMPLETED, "ArchivedAndKept"), (EnvelopeStatus.EXPIRED, "ArchivedAsExpired")],
)
async def test_a_skip_of_an_archived_event_leaves_its_result_and_is_kept(
    tmp_path: Path, status: EnvelopeStatus, reason: str
) -> None:
    scene = ReconcilerScene(tmp_path, cleanup={"policy": "Keep"}, statuses=["Completed", "Expired"])
    scene.envelope.status = status
    ended = await scene.reconcile()
    assert (ended.status.reason, forbids_delete(ended)) == (reason, False)
    await skip(scene)
    kept = scene.newest()
    assert (kept.status.phase, kept.status.reason) == (ended.status.phase, reason)
    assert "A person skipped the event" in (kept.status.message or "")
    assert kept.status.conditions == ended.status.conditions
    assert forbids_delete(kept)


@pytest.mark.parametrize("decide", ["label", "skip", "suspend"])
async def test_a_decision_about_another_event_is_obeyed_until_the_delete_is_sent(
    tmp_path: Path, decide: str
) -> None:
    """The history is read, and the delete recorded, after the other events were listed."""
    scene = of_two_actions(tmp_path, cleanup={"policy": "Delete"})
    first = scene.event
    create(scene, of_a_workstep())
    changes: dict[str, dict[str, Any]] = {
        "label": {"metadata": {"labels": {REQUEST_LABEL: "skip"}}},
        "skip": {"status": {"skippedTime": "2026-07-01T12:00:00Z"}},
        "suspend": {"spec": {"suspend": True}},
    }
    scene.envelope.meanwhile["history"] = lambda: scene.kube.edit(EnvelopeEvent, first.name, changes[decide])
    after = await scene.reconcile()
    assert (after.status.reason, scene.envelope.transport.deleted) == ("SettingsChanged", [])
    assert f"EnvelopeEvent/{first.name}" in (after.status.message or "")
    assert not after.status.may_have_deleted


async def test_a_retry_of_a_failed_event_does_not_take_back_the_skip_that_it_does_not_show(
    tmp_path: Path,
) -> None:
    """Such as the retry of all that failed for one reason, by a person who knows of no skip."""
    scene = ReconcilerScene(tmp_path)
    scene.envelope.status = EnvelopeStatus.ACTIVE
    await scene.reconcile()
    await skip(scene)
    scene.envelope.status = EnvelopeStatus.COMPLETED
    event = scene.newest()
    failed = msgspec.structs.replace(event.status, phase=Phase.FAILED, reason="ArchiveFull")
    await scene.status_writer.store(event, failed)
    await ask(scene, "retry")
    kept = await scene.reconcile()
    assert (kept.status.phase, kept.status.reason) == (Phase.SUCCEEDED, "ArchivedAndKept")
    assert "a person skipped" in (kept.status.message or "")
    assert scene.envelope.transport.deleted == []
    await ask(scene, "retry")
    assert (await scene.reconcile()).status.reason == "ArchivedAndDeleted"


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(minutes=3)])
async def test_a_callback_after_the_skip_of_an_active_envelope_starts_it_by_any_api_servers_clock(
    tmp_path: Path, ahead: timedelta
) -> None:
    scene = ReconcilerScene(tmp_path)
    scene.envelope.status = EnvelopeStatus.ACTIVE
    await scene.reconcile()
    scene.clock.ahead = ahead
    await skip(scene)
    scene.clock.ahead = timedelta(0)
    scene.clock.advance(seconds=30)
    now = scene.clock.now()
    assert is_started_by_callback(scene.newest().status, received=now, now=now)
