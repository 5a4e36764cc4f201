"""
The part of the namespace's quota of events that all Imports have together.

Finished events count against the ResourceQuota that callbacks need. So of what other events leave of it,
Imports take half, and no more. They create events at the same time, so each event has a place here before its
create is sent. One count is enough for many places.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from controller.resync.event_starter import CeilingReached
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.resources import ORGANIZATION_LABEL, EnvelopeEvent, Origin

COUNT_SECONDS = 60.0
"""Time after which events are counted again although places are left: callbacks come meanwhile."""


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
        in_flight, counted_at = self._in_flight, self.clock.monotonic()
        stored = await self.kube.total(EnvelopeEvent)
        # Less than what is left if some events are of Imports; these are counted only near the end.
        left = self.quota // 2 - stored - in_flight
        if left <= 0:
            fields = f"spec.origin={Origin.IMPORT}"
            imported = (await self.kube.count_by_label(EnvelopeEvent, ORGANIZATION_LABEL, fields)).total()
            left = (self.quota - stored - imported) // 2 - in_flight
        if left <= 0:
            raise CeilingReached(
                f"the quota of the namespace is {self.quota} EnvelopeEvents, and Imports have half of what "
                "other events leave of it, as many as they may. Finished events are removed after spec.ttl "
                "of their Organization"
            )
        self._left, self._counted_at = left, counted_at
