"""Scenes of copies that are missing: the first archive has the files, ``worm`` is down."""

from pathlib import Path
from typing import Any

from controller.reopening.reopener import CopyRetrier, Reopener
from counterfoil.i18n.commands import copy_commands
from counterfoil.resources import EnvelopeEvent
from counterfoil.resources.routes import stored_copy
from tests.support.scenes.copied_events import OPTIONAL, CopiedScene


class CopiesScene(CopiedScene):
    """An event whose copy in ``worm`` is down, and the retries of missing copies."""

    def __init__(self, folder: Path, *copies: dict[str, Any], **spec: Any) -> None:
        super().__init__(folder, *copies, **spec)
        self.break_archive("worm")
        reopener = Reopener(self.status_writer, self.event_recorder, self.clock)
        self.retrier = CopyRetrier(self.kube, reopener, self.cache, self.clock)

    async def passed(self) -> EnvelopeEvent:
        """Let the garbage collector read the event, and a run follow."""
        self.cache.update(await self.retrier.retry_if_due(self.newest()))
        return await self.reconcile_until_quiet()


class OptionalScene(CopiesScene):
    """An event that succeeded without its optional copy."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        super().__init__(folder, OPTIONAL, **spec)

    async def given_up(self) -> EnvelopeEvent:
        """Let the copy be tried until it is given up."""
        event = await self.reconcile_until_quiet()
        for _ in range(100):
            if stored_copy(event.status, "worm").next_attempt_time is None:
                return event
            self.clock.advance(hours=1)
            event = await self.passed()
        raise AssertionError("it is not given up")

    def commands(self) -> list[str]:
        """Return what `why` says to type about the event."""
        organization = self.cache.organizations.get("acme")
        return [each.line for each in copy_commands(self.newest(), organization, "tests")]
