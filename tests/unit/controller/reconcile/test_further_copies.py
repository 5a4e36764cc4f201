"""An event that had succeeded makes further copies, and ends as before, also if one fails."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from controller.requests.copy_requests import CopyRequests
from counterfoil.kube.errors import Rejected
from counterfoil.resources import Archive, EnvelopeEvent, find_condition
from counterfoil.resources.reopening import KEPT_FOR_SKIP
from counterfoil.resources.request import Request
from counterfoil.resources.routes import stored_copy
from tests.support.builders import NOON
from tests.support.scenes.copied_events import MIRROR, WORM, CopiedScene

HOOK = {"url": "https://crm.example.com/hook", "signingSecretRef": {"name": "hook", "key": "secret"}}


class FurtherScene(CopiedScene):
    """An event that succeeded before its Organization had a required copy in ``mirror``."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        super().__init__(folder, names=("worm", "mirror"), **spec)

    async def ask(self) -> EnvelopeEvent:
        """Let a person ask for the copies, and a run follow."""
        event = self.newest()
        result = await CopyRequests(self.cache, self.clock).copy(event, Request("copy"))
        assert result.change is not None, result.message
        self.store(result.change(event.status))
        return await self.reconcile_until_quiet()


def copied(event: EnvelopeEvent) -> tuple[str, str]:
    found = find_condition(event.status.conditions, "Copied")
    assert found is not None
    return found.status, found.reason


def end(event: EnvelopeEvent) -> tuple[object, ...]:
    """Return all that a further copy must not change."""
    status = event.status
    return (
        status.phase,
        status.reason,
        status.message,
        status.completion_time,
        status.next_attempt_time,
        status.notice,
        status.last_error,
        status.attempt_history,
    )


def listing_time(event: EnvelopeEvent) -> datetime:
    assert event.status.next_attempt_time is not None
    return event.status.next_attempt_time


@pytest.mark.parametrize("is_down", [False, True])
async def test_the_late_list_of_a_kept_envelope_stays_planned(tmp_path: Path, *, is_down: bool) -> None:
    scene = FurtherScene(tmp_path, cleanup={"policy": "Keep"}, evidence={"wait": "1h"})
    before = await scene.reconcile_until_quiet()
    assert listing_time(before) == NOON + timedelta(hours=1)
    scene.change(WORM, MIRROR)
    if is_down:
        scene.break_archive("mirror")

    after = await scene.ask()

    assert end(after) == end(before)
    assert copied(after) == (("False", "CopyMissing") if is_down else ("True", "CopiesVerified"))


def suspend(scene: FurtherScene) -> None:
    scene.change_archive("mirror", suspend=True)


def suspend_organization(scene: FurtherScene) -> None:
    scene.change(WORM, MIRROR, suspend=True)


def remove_first_archive(scene: FurtherScene) -> None:
    scene.cache.delete(Archive, "dms", 99)


def rename_a_file(scene: FurtherScene) -> None:
    (document,) = scene.folders["dms"].rglob("file-1.pdf")
    document.rename(document.with_name("renamed.pdf"))


def list_no_action(scene: FurtherScene) -> None:
    scene.change(WORM, MIRROR, actions=[{"action": "envelopeRejected"}])


def make_copy_of_itself(scene: FurtherScene) -> None:
    scene.change({"archiveRef": {"name": "dms"}}, archiveRef={"name": "worm"})


def break_copy(scene: FurtherScene) -> None:
    scene.break_archive("mirror")


FAULTS = {
    "the Archive of the copy is down": (break_copy, "ArchiveRootMissing"),
    "the Archive of the copy is suspended": (suspend, "ArchiveSuspended"),
    "the Organization is suspended": (suspend_organization, "OrganizationSuspended"),
    "the first archive is removed": (remove_first_archive, "ArchiveMissing"),
    "a person renamed a file": (rename_a_file, "OriginalDiffers"),
    "the action is not listed any more": (list_no_action, "ActionNotConfigured"),
    "the former archive is the copy": (make_copy_of_itself, "CopyInvalid"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_an_event_ends_as_before_if_its_further_copy_fails(tmp_path: Path, fault: str) -> None:
    scene = FurtherScene(tmp_path, webhook=HOOK)
    before = await scene.reconcile_until_quiet()
    assert before.status.reason == "ArchivedAndDeleted"
    assert before.status.notice is not None
    scene.change(WORM, MIRROR, webhook=HOOK)
    break_it, reason = FAULTS[fault]
    break_it(scene)
    scene.clock.advance(minutes=5)

    after = await scene.ask()

    assert end(after) == end(before)
    assert copied(after) == ("False", "CopyMissing")
    missing = "dms" if fault == "the former archive is the copy" else "mirror"
    assert stored_copy(after.status, missing).reason == reason


async def test_what_a_skip_added_to_the_end_stays_after_a_copy(tmp_path: Path) -> None:
    scene = FurtherScene(tmp_path, cleanup={"policy": "Keep"})
    event = await scene.reconcile_until_quiet()
    scene.store(replace(event.status, message=f"{event.status.message} {KEPT_FOR_SKIP}"))
    before = scene.newest()
    scene.change(WORM, MIRROR, cleanup={"policy": "Keep"})

    after = await scene.ask()

    assert end(after) == end(before)
    assert copied(after) == ("True", "CopiesVerified")


async def test_a_status_that_the_api_server_refuses_leaves_the_end(tmp_path: Path) -> None:
    scene = FurtherScene(tmp_path)
    before = await scene.reconcile_until_quiet()
    scene.change(WORM, MIRROR)
    scene.kube.fail("patch_status", Rejected(422, "Invalid", "no"))

    after = await scene.ask()

    assert end(after) == end(before)
    assert copied(after) == ("False", "CopyMissing")
    assert after.status.documents == before.status.documents
