"""A person asks for the copies of envelopes that were archived before."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from controller.requests.copy_requests import CopyRequests
from controller.requests.request_table import RequestResult
from counterfoil.resources import EnvelopeEvent, Phase
from counterfoil.resources.request import Request, RequestOutcome
from counterfoil.resources.routes import stored_copy
from tests.support.scenes.copied_events import MIRROR, WORM, CopiedScene


class Archived(CopiedScene):
    """An event that succeeded before its Organization had a copy in ``mirror``."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        super().__init__(folder, names=("worm", "mirror"), **spec)

    async def ask(self) -> RequestResult:
        """Carry out the request."""
        event = self.newest()
        result = await CopyRequests(self.cache, self.clock).copy(event, Request("copy"))
        if result.outcome is RequestOutcome.DONE:
            self.store(result.change(event.status))
        return result

    async def copied_later(self) -> EnvelopeEvent:
        await self.reconcile_until_quiet()
        self.change(WORM, MIRROR)
        await self.ask()
        return await self.reconcile_until_quiet()


@pytest.mark.parametrize("policy", ["Delete", "Keep"])
async def test_a_copy_that_was_added_later_is_made_without_a_question_to_esaw(
    tmp_path: Path, policy: str
) -> None:
    scene = Archived(tmp_path, cleanup={"policy": policy})
    before = await scene.reconcile_until_quiet()
    asked = list(scene.envelope.asked)
    scene.change(WORM, MIRROR)

    result = await scene.ask()
    assert scene.newest().status.reason == "CopyRequested"
    after = await scene.reconcile_until_quiet()

    assert result.outcome is RequestOutcome.DONE
    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, before.status.reason)
    assert after.status.message == before.status.message
    assert after.status.completion_time == before.status.completion_time
    assert stored_copy(after.status, "mirror").verified_time is not None
    assert await scene.faults("mirror") == []
    assert scene.envelope.asked == asked


async def test_a_request_with_nothing_left_to_do_says_that(tmp_path: Path) -> None:
    scene = Archived(tmp_path)
    await scene.copied_later()
    result = await scene.ask()
    assert result.outcome is RequestOutcome.NOTHING_TO_DO


async def test_an_organization_without_copies_refuses(tmp_path: Path) -> None:
    scene = Archived(tmp_path)
    await scene.reconcile_until_quiet()
    scene.change()
    result = await scene.ask()
    assert result.outcome is RequestOutcome.REFUSED
    assert "has no spec.copies" in result.message


async def test_an_envelope_that_is_not_archived_has_no_copies_to_ask_for(tmp_path: Path) -> None:
    scene = Archived(tmp_path)
    result = await scene.ask()
    assert result.outcome is RequestOutcome.REFUSED
    assert "not archived yet" in result.message


@pytest.mark.parametrize(
    ("phase", "reason"), [(Phase.SUCCEEDED, "Recorded"), (Phase.SKIPPED, "ArchivedAlready")]
)
async def test_an_event_that_archived_nothing_is_not_advised_to_be_retried(
    tmp_path: Path, phase: Phase, reason: str
) -> None:
    scene = Archived(tmp_path)
    scene.store(replace(scene.newest().status, phase=phase, reason=reason))
    result = await scene.ask()
    assert result.outcome is RequestOutcome.REFUSED
    assert result.message == f"The event archived nothing, it is {phase}. So there is nothing to copy."


async def test_a_lost_original_is_said_and_copied_once_it_is_restored(tmp_path: Path) -> None:
    scene = Archived(tmp_path)
    await scene.reconcile_until_quiet()
    (document,) = scene.folders["dms"].rglob("file-1.pdf")
    whole = document.read_bytes()
    document.unlink()
    scene.change(WORM, MIRROR)

    await scene.ask()
    event = await scene.reconcile_until_quiet()

    assert stored_copy(event.status, "mirror").reason == "OriginalDiffers"
    assert "file-1.pdf" not in scene.files("mirror")
    document.write_bytes(whole)
    await scene.ask()
    event = await scene.reconcile_until_quiet()
    assert (event.status.phase, event.status.reason) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert await scene.faults("mirror") == []


async def test_a_copy_that_is_down_is_made_once_it_is_asked_for_again(tmp_path: Path) -> None:
    scene = Archived(tmp_path)
    await scene.reconcile_until_quiet()
    scene.break_archive("mirror")
    scene.change(WORM, MIRROR)
    await scene.ask()
    event = await scene.reconcile_until_quiet()
    assert stored_copy(event.status, "mirror").next_attempt_time is not None

    scene.mend_archive("mirror")
    await scene.ask()
    event = await scene.reconcile_until_quiet()
    assert stored_copy(event.status, "mirror").verified_time is not None
    assert (event.status.phase, event.status.reason) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
