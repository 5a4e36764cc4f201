"""
Copies whose Archives fail, have no room and work in turn: their event never runs again and again without time
passing, and ends.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from controller.scheduling.due import due_time
from counterfoil.resources import EnvelopeEvent, Phase
from counterfoil.resources.routes import stored_copy
from tests.support.scenes.copied_events import MIRROR, WORM, CopiedScene

VAULT = {"archiveRef": {"name": "vault"}}
MOST_RUNS = 2 * 3 + 2
"""Maximum number of runs at one time: each copy may find no room once, and be made once."""


class ChangingScene(CopiedScene):
    """Two or three required copies. Each Archive changes its state a few times, and works in the end."""

    def __init__(self, folder: Path, random: Random) -> None:
        copies = [WORM, MIRROR, VAULT][: random.choice((2, 3))]
        super().__init__(folder, *copies, names=("worm", "mirror"))
        self.add_archive("vault")
        self.names = [each["archiveRef"]["name"] for each in copies]
        self.states = dict.fromkeys(self.names, "works")
        self.changes = sorted(self._planned(random), key=lambda each: each[0])
        self.without_room: list[str] = []
        self.given: str | None = None
        """The Archive in which an event that waited in its queue has a slot."""
        self.change_archives(take_slot=self.take_slot)

    def _planned(self, random: Random) -> Iterator[tuple[datetime, str, str]]:
        for name in self.names:
            at = self.clock.now()
            for state in (*(random.choice(("down", "full", "works")) for _ in range(4)), "works"):
                yield at, name, state
                at += timedelta(seconds=random.choice((1, 20, 300, 1200)))

    async def take_slot(self, event: str, archive: str, longest: timedelta, before_wait: Any) -> bool:
        has_room = archive == self.given or self.states.get(archive) != "full"
        if not has_room:
            self.without_room.append(archive)
        return has_room

    def apply_changes(self) -> None:
        while self.changes and self.changes[0][0] <= self.clock.now():
            _, name, state = self.changes.pop(0)
            if (self.states[name] == "down") != (state == "down"):
                (self.break_archive if state == "down" else self.mend_archive)(name)
            self.states[name] = state

    async def run(self) -> EnvelopeEvent:
        self.apply_changes()
        self.without_room.clear()
        return await self.reconcile()

    def pass_time(self, event: EnvelopeEvent) -> None:
        """Let the time pass until the next run: by the plan of the event, or until it has its turn in the
        queue of the Archive in which it is queued (``EventQueue``)."""
        self.given = None
        if event.status.reason == "WaitingForArchive" and self.without_room:
            self.given = self.without_room[0]
            if self.changes:
                self.clock.advance(minutes=1)
            return
        due = due_time(event, self.cache, self.clock.now())
        assert due is not None
        self.clock.advance(seconds=max(0.0, (due - self.clock.now()).total_seconds()))


@pytest.mark.parametrize("seed", range(12))
async def test_copies_that_fail_and_find_no_room_in_turn_are_made_in_the_end(
    tmp_path: Path, seed: int
) -> None:
    scene = ChangingScene(tmp_path, Random(seed))
    at, runs_at_once = scene.clock.now(), 0
    for _ in range(200):
        event = await scene.run()
        if event.status.phase.is_final:
            break
        runs_at_once = runs_at_once + 1 if scene.clock.now() == at else 1
        at = scene.clock.now()
        assert runs_at_once <= MOST_RUNS, f"{event.status.reason}: it runs again and again"
        scene.pass_time(event)
    assert event.status.phase is Phase.SUCCEEDED
    assert all(stored_copy(event.status, each).verified_time is not None for each in scene.names)
