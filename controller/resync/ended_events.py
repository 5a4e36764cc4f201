"""
Observe changes of the spec of ended events: their status then names the newest generation.

Only ``spec.suspend`` can change, and it leaves the result of an ended event as it is. But kubectl wait
ignores each condition of an older generation, and kstatus calls such an object InProgress. So one write sets
``observedGeneration`` of the status and of each condition, and nothing else.

Ended events are in no memory (rule 9). A small watch has the suspended ones. An event leaves it when it is
resumed, and is then read once. The garbage collector calls ``observe`` for each event, so a change is found
later that no process observed.
"""

import logging
from dataclasses import dataclass

from msgspec.structs import replace

from controller.reopening.reopener import Reopener
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, NotFound
from counterfoil.kube.watch import SECOND_LIST_DELAY_SECONDS, WatchEvent, list_and_watch_forever
from counterfoil.resources import EnvelopeEvent, ResourceInvalid
from counterfoil.resources.conditions import with_generation
from counterfoil.resources.envelopeevent import SUSPENDED_SELECTOR

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EndedEventObserver:
    """Writes the newest generation into the status of ended events."""

    kube: KubeClient
    reopener: Reopener
    clock: Clock
    labels: str
    """Selector of the events that this process works on."""

    async def run(self) -> None:
        """Watch suspended events until cancelled."""
        await self.clock.sleep(SECOND_LIST_DELAY_SECONDS)
        changes = list_and_watch_forever(
            self.kube,
            EnvelopeEvent,
            labels=self.labels,
            fields=SUSPENDED_SELECTOR,
            on_error=_log_watch_error,
        )
        async for change in changes:
            if change.type not in ("ADDED", "MODIFIED", "DELETED"):
                continue
            try:
                await self._observe_change(change)
            except NotFound:
                continue
            except ResourceInvalid as invalid:
                _log.error("a suspended event can't be read: %s", invalid)
            except ApiError as problem:
                _log.warning("the generation of an ended event is not stored yet: %s", problem)

    async def observe(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """Let the status of an ended event name its newest generation; return as ``Reopener.store``. Raises
        ``ApiError``."""
        generation, status = event.metadata.generation, event.status
        if not status.phase.is_final:
            return event
        observed = replace(
            status,
            observed_generation=generation,
            conditions=with_generation(status.conditions, generation),
        )
        return event if observed == status else await self.reopener.store(event, observed)

    async def _observe_change(self, change: WatchEvent) -> None:
        event = EnvelopeEvent.parse(change.raw)
        if change.type == "DELETED":
            # It was resumed or deleted. This is the last state in which it was suspended.
            event = EnvelopeEvent.parse(await self.kube.get(EnvelopeEvent, event.name))
        await self.observe(event)


def _log_watch_error(problem: ApiError) -> None:
    _log.warning("suspended events can't be watched at the moment: %s", problem)
