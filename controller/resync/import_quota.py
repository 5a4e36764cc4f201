"""
The part of the namespace's quota of events that all Imports have together.

Finished events count against the ResourceQuota that callbacks need. So of what other events leave of it,
Imports take half, and no more. They create events at the same time, so each event has a place here before its
create is sent. One count is enough for many places.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from controller.resync.envelope_listing import Window
from controller.resync.event_starter import CeilingReached
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.resources import IMPORT_WINDOW_LABEL, ORGANIZATION_LABEL, EnvelopeEvent, Import, Origin
from counterfoil.resources.imports import is_of_import, is_searched, read_window_label

MAX_NAMED = 3
"""Maximum number of Imports that a message names."""

COUNT_SECONDS = 60.0
"""Time after which events are counted again although places are left: callbacks come meanwhile."""


class QuotaReached(CeilingReached):
    """Imports have their part of the quota."""

    def __init__(self, quota: int, stored: int, imported: int) -> None:
        """``stored`` is the number of all EnvelopeEvents, ``imported`` that of Imports among them."""
        super().__init__(
            f"the quota of the namespace is {quota} EnvelopeEvents, and Imports have half of what other "
            "events leave of it, as many as they may. Finished events are removed after spec.ttl of their "
            "Organization, once their window is counted"
        )
        self.quota = quota
        self.imported = imported
        self.others = stored - imported

    @property
    def part(self) -> int:
        """Number of events that Imports may have."""
        return max(0, self.quota - self.others) // 2

    def quota_for(self, lacking: int) -> int:
        """Return the quota with which Imports may have this number of events more."""
        return self.others + 2 * (self.imported + lacking)


class HeldEvents(NamedTuple):
    """
    The events of windows that are not searched to their end, by the name of their Import.

    A window is counted after all its envelopes have an event, and no event is removed before that. So if
    these events fill the part of Imports, no other event of theirs makes room for the rest of a window.
    """

    by_import: Counter[str]

    def fill(self, reached: QuotaReached) -> bool:
        """Whether Imports have no other events, whose removal would make room."""
        return self.by_import.total() >= reached.part


@dataclass
class ImportQuota:
    """The places for further events of all Imports of a namespace."""

    kube: KubeClient
    clock: Clock
    quota: int
    """EnvelopeEvents that the namespace may have, finished ones included."""
    _left: int = 0
    """Number of places."""
    _counted_at: float = float("-inf")
    """By the clock that is never set."""
    _in_flight: int = 0
    """Creates that were not answered yet: a count may lack their events."""
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """One count at a time."""

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Take a place for an event that is created within the context. Raises ``CeilingReached``,
        ``ApiError``."""
        async with self._turn:
            if self._left <= 0 or self.clock.monotonic() - self._counted_at >= COUNT_SECONDS:
                await self._count()
            self._left -= 1
            self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1

    async def _count(self) -> None:
        """Count the places: at least one. Raises ``CeilingReached``, ``ApiError``."""
        self._left = 0
        # Before the count: an event that is created meanwhile may be in it, or not.
        in_flight, counted_at, imported = self._in_flight, self.clock.monotonic(), 0
        stored = await self.kube.total(EnvelopeEvent)
        # Less than what is left if some events are of Imports; these are counted only near the end.
        left = self.quota // 2 - stored - in_flight
        if left <= 0:
            fields = f"spec.origin={Origin.IMPORT}"
            imported = (await self.kube.count_by_label(EnvelopeEvent, ORGANIZATION_LABEL, fields)).total()
            left = (self.quota - stored - imported) // 2 - in_flight
        if left <= 0:
            raise QuotaReached(self.quota, stored, imported)
        self._left, self._counted_at = left, counted_at

    async def held(self) -> HeldEvents:
        """Count the events that stay until their windows are searched to the end. Raises ``ApiError``."""
        fields = f"spec.origin={Origin.IMPORT}"
        counted = await self.kube.count_by_label(EnvelopeEvent, IMPORT_WINDOW_LABEL, fields)
        windows = [(label, counted[value]) for value in counted if (label := read_window_label(value))]
        found = Counter[str]()
        async for imported in self.kube.list_readable(Import):
            for label, events in windows:
                if is_of_import(label, imported) and not is_searched(imported, label):
                    found[imported.name] += events
        return HeldEvents(found)


def lacking_room(reached: QuotaReached, held: HeldEvents, sender: str, window: Window, lacking: int) -> str:
    """Return why a window does not end: ``lacking`` events of it have no room."""
    named = [f"{events} of Import/{name}" for name, events in held.by_import.most_common(MAX_NAMED)]
    further = len(held.by_import) - len(named)
    others = f" and {further} further Imports" if further else ""
    return (
        f"the quota of the namespace is {reached.quota} EnvelopeEvents, and Imports may have {reached.part} "
        f"of them. {held.by_import.total()} are of windows that are not searched to their end "
        f"({', '.join(named)}{others}), and stay until then. The window of Sender/{sender} from "
        f"{window.start:%Y-%m-%d} to {window.end:%Y-%m-%d} lacks {lacking} events. Raise "
        f"floodControl.quota.envelopeEvents of the chart to {reached.quota_for(lacking)} or more. Or delete "
        "one of these Imports, and create others with shorter spans: its finished events are then removed "
        "after spec.ttl of their Organization"
    )
