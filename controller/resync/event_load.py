"""
Count the events that each Organization's ceilings are about: unfinished events that are not archived yet, and
failed events of envelopes that eSAW never knew. The Senders, which have a ceiling for the pages, are counted
beside them.

A client with a leaked callback URL can create such events only. The receiver may not list events, so it
reads these counts in the Organization's status, and adds what it created since ``count_time``. One controller
counts for all: the one that updates the status of Organizations.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from controller.cache import Cache
from controller.sharding import HeldShards
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.resources import FINAL_PHASES, ORGANIZATION_LABEL, EnvelopeEvent, EventLoad, Origin, Phase
from counterfoil.resources.envelopeevent import ARCHIVED_PHASES

COUNT_SECONDS = 30.0
"""Interval between two counts. Several receivers exceed a ceiling by what they create within it."""

STALE_AFTER = timedelta(hours=1)
"""Maximum age of published counts; without a change of an event they are not counted as new before."""

STALE_AFTER_OF_SHARDS = timedelta(minutes=5)
"""As ``STALE_AFTER``, for a controller that does not hold all shards: it does not see that events of the
others came and went. Receivers report events that no count includes (``CounterfoilEventCountOld``)."""

UNKNOWN_ENVELOPE = (
    f"status.phase={Phase.FAILED},status.reason=EnvelopeNotFound,status.envelope.status=,"
    f"spec.origin!={Origin.MANUAL}"
)
"""Field selector of the failed events of callbacks, sweeps and Imports whose envelopes eSAW never described:
those that ``spec.ttl.unknown`` removes. An envelope that a key does not show any more is known, and its event
may be the only record of its archive."""

ARCHIVED_OR_FINAL = FINAL_PHASES | ARCHIVED_PHASES
"""Events in Copying and Cleaning are archived. They may wait for a year until their envelope is deleted in
eSAW."""

NOT_ARCHIVED = ",".join(f"status.phase!={phase}" for phase in sorted(ARCHIVED_OR_FINAL))
"""Field selector of the events that count as unfinished."""


@dataclass
class EventLoadCounter:
    """Counts the events of all Organizations. It subscribes before the cache gets its first event."""

    kube: KubeClient
    cache: Cache
    clock: Clock
    held: HeldShards
    _loads: dict[str, EventLoad] = field(default_factory=dict)
    _active: set[str] = field(default_factory=set)
    """Organizations with changed events since the last count."""
    _settling: set[str] = field(default_factory=set)
    """Organizations with changed events before the last count. They count as changed again: receivers
    keep what they created just before a count, because clocks differ."""
    _counted_at: float | None = None
    """Monotonic time of the last count."""

    def load(self, organization: str) -> EventLoad | None:
        """Return the counts to publish; None before the first count."""
        return self._loads.get(organization)

    async def refresh(self) -> None:
        """Count if the last count is older than ``COUNT_SECONDS``. Raises ``ApiError``."""
        now, began = self.clock.now(), self.clock.monotonic()
        if self._counted_at is not None and began - self._counted_at < COUNT_SECONDS:
            return
        active, self._active = self._active, set()
        try:
            unfinished = await self._count_unfinished()
            unknown = await self.kube.count_by_label(EnvelopeEvent, ORGANIZATION_LABEL, UNKNOWN_ENVELOPE)
        except ApiError:
            self._active |= active
            raise
        self._counted_at = began
        names = {each.name for each in self.cache.organizations}
        senders = Counter(each.spec.organization_ref.name for each in self.cache.senders)
        found = {
            name: EventLoad(
                count_time=now.replace(microsecond=0),
                unfinished_events=unfinished[name],
                unknown_envelopes=unknown[name],
                senders=senders[name],
            )
            for name in names
        }
        changed = active | self._settling
        self._loads = {name: self._newer(name, each, name in changed) for name, each in found.items()}
        self._settling = active

    def _newer(self, name: str, found: EventLoad, is_active: bool) -> EventLoad:
        """Return the known counts while nothing changed, so that idle Organizations are not written."""
        known = self._loads.get(name)
        stale_after = STALE_AFTER if self.held.are_all else STALE_AFTER_OF_SHARDS
        if known is None or is_active or abs(found.count_time - known.count_time) >= stale_after:
            return found
        is_same = (known.numbers, known.senders) == (found.numbers, found.senders)
        return known if is_same else found

    async def _count_unfinished(self) -> Mapping[str, int]:
        if self.held.are_all and self.cache.has_all_events:
            counted = (each for each in self.cache.events if each.status.phase not in ARCHIVED_OR_FINAL)
            return Counter(each.organization for each in counted)
        # The events of other shards are not in this cache, nor are all events before their first list.
        return await self.kube.count_by_label(EnvelopeEvent, ORGANIZATION_LABEL, NOT_ARCHIVED)

    def event_changed(self, before: EnvelopeEvent | None, after: EnvelopeEvent | None) -> None:
        """The events of its Organization are counted again."""
        event = after or before
        if event is not None:
            self._active.add(event.organization)
