"""A run after a person's skip, started by any cause: nothing is deleted before the person's retry."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from controller.requests.event_requests import EventRequests
from counterfoil.esaw.errors import EsawUnreachable, HttpStatusError
from counterfoil.resources import EnvelopeStatus, Request, RequestOutcome
from counterfoil.resources.reopening import reopened_status
from tests.support.builders import an_organization
from tests.support.scenes.reconciler import ReconcilerScene

STATUSES = ["Completed", "Rejected", "Expired"]


def configure(
    scene: ReconcilerScene, policy: str, *, handling: str = "Archive", statuses: list[str] = STATUSES
) -> None:
    """Let a person change the Organization."""
    spec = an_organization(
        statuses=statuses,
        cleanup={"policy": policy},
        actions=[{"action": "envelopeFinished", "handling": handling}],
    ).spec
    known = scene.organization
    version = str(int(known.metadata.resource_version or "1") + 1)
    metadata = replace(known.metadata, resource_version=version)
    scene.organization = replace(known, spec=spec, metadata=metadata)
    scene.observe(scene.organization)


async def not_asked(scene: ReconcilerScene) -> None:
    """The event is skipped before its first run."""


async def esaw_failing(scene: ReconcilerScene) -> None:
    scene.envelope.but("envelope", EsawUnreachable("timeout"))
    await scene.reconcile()


async def not_found(scene: ReconcilerScene) -> None:
    scene.envelope.problems["envelope"] = scene.envelope.problems["history"] = HttpStatusError(404, "ERR0007")
    await scene.reconcile(3)
    assert scene.newest().status.reason == "EnvelopeNotFound"


async def status_not_archived(scene: ReconcilerScene) -> None:
    configure(scene, "Delete", statuses=["Canceled"])
    assert (await scene.reconcile()).status.reason == "UnexpectedStatus"


async def recorded(scene: ReconcilerScene) -> None:
    configure(scene, "Delete", handling="Record")
    assert (await scene.reconcile()).status.reason == "Recorded"


async def kept(scene: ReconcilerScene) -> None:
    configure(scene, "Keep")
    await scene.reconcile()
    assert scene.newest().status.phase.is_final


async def archived_and_not_deleted_yet(scene: ReconcilerScene) -> None:
    scene.envelope.but("delete", HttpStatusError(503))
    await scene.reconcile()
    assert scene.newest().status.reason == "DeleteUnanswered"


async def deletion_assumed(scene: ReconcilerScene) -> None:
    scene.envelope.but("delete", EsawUnreachable("timeout"))
    await scene.reconcile()
    scene.envelope.deleted = True
    scene.envelope.problems["history"] = HttpStatusError(403, "ERR0010")
    assert (await scene.reconcile(3)).status.reason == "DeletionAssumed"


Bring = Callable[[ReconcilerScene], Awaitable[None]]
ENDS = [
    not_asked,
    esaw_failing,
    not_found,
    status_not_archived,
    recorded,
    kept,
    archived_and_not_deleted_yet,
    deletion_assumed,
]


async def ask(scene: ReconcilerScene, request: str) -> bool:
    """Carry out a person's request; return whether it changed anything."""
    requests, event = EventRequests(scene.clock), scene.newest()
    result = await (requests.skip if request == "skip" else requests.retry)(event, Request(request))
    if result.outcome is not RequestOutcome.DONE:
        return False
    await scene.status_writer.store(event, result.change(event.status))
    return True


async def start_again(scene: ReconcilerScene) -> None:
    """Start the event as a callback, a search, a fix or a late sender would, if any of them may or not."""
    event, now = scene.newest(), scene.clock.now()
    status = reopened_status(event.status, reason="Redelivered", message="", now=now)
    await scene.status_writer.store(event, status)
    await run(scene)


async def run(scene: ReconcilerScene) -> None:
    """Process the event until it ends, or waits for long."""
    for _ in range(4):
        if not scene.newest().status.phase.is_final:
            await scene.reconcile()


def number_of_files(folder: Path) -> int:
    return sum(each.is_file() for each in folder.rglob("*"))


COMPLETED, REJECTED, EXPIRED = EnvelopeStatus.COMPLETED, EnvelopeStatus.REJECTED, EnvelopeStatus.EXPIRED


@pytest.mark.parametrize(
    ("at_skip", "later"),
    [
        (COMPLETED, COMPLETED),
        (REJECTED, REJECTED),
        (EXPIRED, EXPIRED),
        (EXPIRED, COMPLETED),
        (EXPIRED, REJECTED),
    ],
)
@pytest.mark.parametrize("bring", ENDS)
async def test_nothing_is_deleted_before_a_persons_retry_although_another_cause_starts_the_event(
    tmp_path: Path, bring: Bring, at_skip: EnvelopeStatus, later: EnvelopeStatus
) -> None:
    scene = ReconcilerScene(tmp_path)
    configure(scene, "Delete")
    scene.envelope.status = at_skip
    await bring(scene)
    deleted_before = list(scene.envelope.transport.deleted)
    archived_before = number_of_files(tmp_path)
    assert await ask(scene, "skip")
    scene.envelope.problems.clear()
    scene.envelope.deleted = False
    scene.envelope.status = later
    configure(scene, "Delete")
    for _ in range(2):
        scene.clock.advance(hours=1)
        await start_again(scene)
        assert scene.envelope.transport.deleted == deleted_before
        assert scene.newest().status.is_skipped_by_person
    if later is EXPIRED:
        assert number_of_files(tmp_path) == archived_before, "the envelope is as it was at the skip"
    for _ in range(3):
        if not await ask(scene, "retry"):
            break
        await run(scene)
    assert not scene.newest().status.is_skipped_by_person
    assert scene.newest().status.reason == "ArchivedAndDeleted"
    assert len(scene.envelope.transport.deleted) == len(deleted_before) + 1


async def test_an_assumed_deletion_shows_the_skip_also_after_a_further_run_and_a_retry_takes_it_back(
    tmp_path: Path,
) -> None:
    scene = ReconcilerScene(tmp_path)
    configure(scene, "Delete")
    await deletion_assumed(scene)
    assert await ask(scene, "skip")
    await start_again(scene)
    status = scene.newest().status
    assert (status.reason, status.is_skipped_by_person) == ("DeletionAssumed", True)
    assert "A person skipped the event" in (status.message or "")
    assert await ask(scene, "retry")
    assert not scene.newest().status.is_skipped_by_person
