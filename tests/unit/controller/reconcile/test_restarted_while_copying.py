"""An Expired envelope that is restarted and signed is archived, also while a copy is down or suspended."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from controller.reconcile.fence import Fence
from counterfoil.resources import EnvelopeEvent, Phase
from counterfoil.resources.organization import EnvelopeStatus
from counterfoil.resources.reopening import is_started_by_search, reopened_status
from counterfoil.resources.routes import stored_copy
from tests.support.fakes.reconcile_context import missing
from tests.support.scenes.copied_events import WORM, CopiedScene

STATES = ("down", "suspended")


class ExpiredScene(CopiedScene):
    """An event that waits for the copy of an envelope that was archived as Expired."""

    def __init__(self, folder: Path, state: str, **spec: Any) -> None:
        statuses = ["Completed", "Expired"]
        super().__init__(folder, WORM, statuses=statuses, cleanup={"policy": "Delete"}, **spec)
        self.envelope.status = EnvelopeStatus.EXPIRED
        if state == "down":
            self.break_archive("worm")
        else:
            self.change_archive("worm", suspend=True)

    def sign(self) -> None:
        """Let a person restart the envelope, and sign it."""
        self.envelope.status = EnvelopeStatus.COMPLETED
        self.envelope.contents["file-1"] = b"%PDF-contract SIGNED"

    def call(self) -> None:
        """Let eSAW call about it."""
        status = self.newest().status
        received = {"deliveries": (status.deliveries or 0) + 1, "last_delivery_time": self.clock.now()}
        self.store(replace(status, **received))

    async def pass_hours(self, hours: int) -> None:
        for _ in range(hours):
            await self.reconcile_until_quiet()
            self.clock.advance(hours=1)

    @property
    def archived(self) -> list[bytes]:
        return [each.read_bytes() for each in self.folders["dms"].rglob("file-1.pdf")]

    @property
    def questions(self) -> int:
        return len(self.envelope.asked)


@pytest.mark.parametrize("state", STATES)
async def test_a_callback_after_the_restart_lets_it_be_archived_again(tmp_path: Path, state: str) -> None:
    scene = ExpiredScene(tmp_path, state)
    event = await scene.reconcile_until_quiet()
    assert event.status.phase is Phase.COPYING
    scene.sign()
    scene.clock.advance(minutes=5)
    scene.call()

    await scene.pass_hours(3)

    assert scene.archived == [b"%PDF-contract SIGNED"]
    assert scene.newest().status.phase is Phase.COPYING
    assert scene.deleted == []


@pytest.mark.parametrize("state", STATES)
async def test_a_search_that_finds_it_signed_lets_it_be_archived_again(tmp_path: Path, state: str) -> None:
    scene = ExpiredScene(tmp_path, state)
    status = (await scene.reconcile_until_quiet()).status
    scene.sign()
    assert is_started_by_search(status, EnvelopeStatus.COMPLETED)
    scene.store(reopened_status(status, reason="FoundBySweep", message="", now=scene.clock.now()))

    await scene.pass_hours(3)

    assert scene.archived == [b"%PDF-contract SIGNED"]


async def test_the_last_attempts_before_the_end_of_the_retention_ask(tmp_path: Path) -> None:
    scene = ExpiredScene(tmp_path, "down", retention="48h", retry={"deadline": "720h"})
    await scene.reconcile_until_quiet()
    await scene.pass_hours(12)
    scene.sign()

    await scene.pass_hours(18)

    assert scene.archived == [b"%PDF-contract SIGNED"]


@pytest.mark.parametrize("state", STATES)
async def test_a_callback_about_an_envelope_that_is_still_expired_asks_once(
    tmp_path: Path, state: str
) -> None:
    scene = ExpiredScene(tmp_path, state)
    before = await scene.reconcile_until_quiet()
    scene.call()
    asked = scene.questions

    after = await scene.reconcile_until_quiet()

    assert after.status.phase is before.status.phase
    assert after.status.considered_deliveries == after.deliveries
    assert 0 < scene.questions - asked <= 3
    asked = scene.questions
    await scene.pass_hours(2)
    assert scene.questions == asked


async def test_the_wait_for_a_copy_takes_no_time_from_the_restarted_envelope(tmp_path: Path) -> None:
    scene = ExpiredScene(tmp_path, "down")
    await scene.pass_hours(23)
    scene.envelope.status = EnvelopeStatus.ACTIVE
    scene.call()
    await scene.pass_hours(12)

    event = scene.newest()
    assert (event.status.phase, event.status.reason) == (Phase.VALIDATING, "StillActive")
    assert stored_copy(event.status, "worm").verified_time is None


async def test_an_attempt_that_asks_first_has_time_for_the_copy_and_claims_the_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = ExpiredScene(tmp_path, "down")
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.call()
    scene.clock.advance(hours=1)
    claims = list[str]()
    claim = Fence.claim

    async def counted(fence: Fence) -> EnvelopeEvent:
        claims.append(fence.event.name)
        return await claim(fence)

    monkeypatch.setattr(Fence, "claim", counted)
    event = await scene.reconcile()

    assert (event.status.phase, event.status.reason) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert stored_copy(event.status, "worm").verified_time is not None
    assert claims == [event.name]


@pytest.mark.parametrize("state", STATES)
async def test_a_late_answer_that_does_not_show_the_envelope_uses_up_no_callback(
    tmp_path: Path, state: str
) -> None:
    scene = ExpiredScene(tmp_path, state)
    await scene.reconcile_until_quiet()
    scene.sign()
    scene.clock.advance(minutes=5)
    scene.call()
    scene.envelope.problems["envelope"] = missing()
    await scene.reconcile()
    scene.envelope.problems.clear()

    await scene.pass_hours(20)

    assert scene.archived == [b"%PDF-contract SIGNED"]
