"""A missing optional copy is tried again, although nothing waits for it."""

from pathlib import Path
from typing import Any

from controller.reopening.reopener import CopyRetrier, Reopener
from controller.requests.copy_requests import CopyRequests
from counterfoil.i18n.commands import copy_commands
from counterfoil.resources import EnvelopeEvent, Phase
from counterfoil.resources.request import Request
from counterfoil.resources.routes import stored_copy
from tests.support.scenes.copied_events import OPTIONAL, CopiedScene


class OptionalScene(CopiedScene):
    """An event that succeeded without its optional copy."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        super().__init__(folder, OPTIONAL, **spec)
        self.break_archive("worm")
        reopener = Reopener(self.status_writer, self.event_recorder, self.clock)
        self.retrier = CopyRetrier(reopener, self.cache, self.clock)

    async def passed(self) -> EnvelopeEvent:
        """Let the garbage collector read the event, and a run follow."""
        self.cache.update(await self.retrier.retry_if_due(self.newest()))
        return await self.reconcile_until_quiet()

    async def given_up(self) -> EnvelopeEvent:
        """Let the time of all retries pass."""
        event = await self.reconcile_until_quiet()
        for _ in range(100):
            if stored_copy(event.status, "worm").next_attempt_time is None:
                break
            self.clock.advance(hours=1)
            event = await self.passed()
        return event

    def commands(self) -> list[str]:
        """Return what `why` says to type about the event."""
        organization = self.cache.organizations.get("acme")
        return [each.line for each in copy_commands(self.newest(), organization, "tests")]


async def test_it_is_tried_again_once_its_time_has_come(tmp_path: Path) -> None:
    scene = OptionalScene(tmp_path)
    before = await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    assert (await scene.passed()) == before, "it is too early"
    scene.clock.advance(minutes=1)

    after = await scene.passed()

    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert stored_copy(after.status, "worm").verified_time is not None
    assert await scene.faults("worm") == []


async def test_it_is_given_up_after_the_time_of_all_retries(tmp_path: Path) -> None:
    scene = OptionalScene(tmp_path)
    event = await scene.given_up()
    copy = stored_copy(event.status, "worm")
    assert copy.next_attempt_time is None
    assert copy.attempts <= 40
    assert event.status.phase is Phase.SUCCEEDED
    scene.clock.advance(days=9)
    assert (await scene.passed()) == event


async def test_a_copy_with_optional_copy_missing_is_made_by_the_command_of_its_advice(tmp_path: Path) -> None:
    scene = OptionalScene(tmp_path)
    assert scene.commands() == [], "nothing is archived yet"
    await scene.reconcile_until_quiet()
    assert scene.commands() == [], "it is tried again automatically"
    event = await scene.given_up()
    assert scene.commands() == [f"kubectl counterfoil -n tests copy {event.name}"]
    scene.mend_archive("worm")

    result = await CopyRequests(scene.cache, scene.clock).copy(event, Request("copy"))
    scene.store(result.change(event.status))
    after = await scene.reconcile_until_quiet()

    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert stored_copy(after.status, "worm").verified_time is not None
    assert await scene.faults("worm") == []
    assert scene.commands() == []


async def test_one_cause_is_one_kubernetes_event(tmp_path: Path) -> None:
    scene = OptionalScene(tmp_path)
    await scene.reconcile_until_quiet()
    for _ in range(3):
        scene.clock.advance(hours=1)
        await scene.passed()
    assert [each for each in await scene.recorded() if each[1] == "OptionalCopyMissing"] == [
        ("Warning", "OptionalCopyMissing")
    ]


async def test_it_is_also_tried_while_the_event_waits_for_its_delete(tmp_path: Path) -> None:
    scene = OptionalScene(tmp_path, cleanup={"policy": "Delete", "after": "720h"})
    event = await scene.reconcile_until_quiet()
    assert event.status.reason == "CleanupDelayed"
    due = event.status.next_attempt_time
    scene.mend_archive("worm")
    scene.clock.advance(minutes=1)

    event = await scene.passed()

    assert event.status.reason == "CleanupDelayed"
    assert event.status.next_attempt_time == due
    assert stored_copy(event.status, "worm").verified_time is not None
