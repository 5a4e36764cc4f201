"""
Clean-up of finished events, and counting them: a slow walk over all events, one page at a time.

Finished events are in no watch and in no memory (rule 9); the walk sees each of them once in a while, one page per
``PAGE_SECONDS``, and rests nine times as long as it took. Nothing younger than 72 h is removed, because eSAW may repeat a callback
for 36 h and would then make the event anew; the CRD sees to that.

Since nobody else looks at what failed long ago, the walk also has it re-opened if its cause was mended meanwhile
(docs/decisions/0021), before its time to live counts.

An ``Envelope`` goes after the last event of its envelope, never before one: it is marked before the event that archived
it is removed, and a later walk removes what is marked and was met with no event (docs/decisions/0016).
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime

from controller.cache import Cache
from controller.notifications.problem_tracking import FailureSummary
from controller.resync.statistics import ActivityCounter
from counterfoil.clock import Clock
from counterfoil.durations import Duration
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Conflict, Expired, Forbidden, NotFound, Rejected
from counterfoil.kube.watch import Raw
from counterfoil.resources import (
    ARCHIVED_LABEL,
    SHARD_LABEL,
    Activity,
    Envelope,
    EnvelopeEvent,
    Organization,
    Phase,
    ResourceInvalid,
    envelope_id,
    envelope_of,
    is_condition_true,
    shard,
)

_log = logging.getLogger(__name__)

PAGE_SIZE = 500
PAGE_SECONDS = 2.0
MIN_REST_SECONDS = 60.0
ARCHIVED = "true"
"""Value of the label on an Envelope that is to go as soon as no event of its envelope is left."""

REST_FACTOR = 9
"""How many times the length of a walk passes before the next one."""


class GarbageCollector:
    """Walks over all events, counts them by phase and by what went on, and removes those whose time is up."""

    pass_finished: Callable[[datetime, Mapping[str, FailureSummary]], None]
    """Is told after each walk when it began and what it found, by organization."""
    retry_if_fixed: Callable[[EnvelopeEvent], Awaitable[EnvelopeEvent]]
    """Re-opens an event if what may solve its failure was mended since; returns it as it is then."""

    def __init__(self, *, kube: KubeClient, cache: Cache, clock: Clock) -> None:
        self._kube = kube
        self._cache = cache
        self._clock = clock
        self._counts: Mapping[str, Mapping[str, int]] = {}
        self._activities: Mapping[str, Activity] = {}
        self._activity_counters: dict[str, ActivityCounter] = {}
        self._summaries: dict[str, FailureSummary] = {}
        self._rejected_count = 0
        """How many objects of this walk may not be changed."""
        self._last_rejection: ApiError | None = None
        self.pass_finished = lambda began, summaries: None
        self.retry_if_fixed = _unchanged

    def counts(self, organization: str) -> Mapping[str, int] | None:
        """Return how many events of an organization were in which phase on the last whole walk; None before it."""
        return self._counts.get(organization)

    def activity(self, organization: str) -> Activity | None:
        """Return what went on with an organization's events on the last whole walk; None before it."""
        return self._activities.get(organization)

    async def run(self) -> None:
        """Walk until cancelled."""
        while True:
            since = self._clock.now()
            try:
                await self._run_pass()
            except ApiError as problem:
                _log.warning("finished events can't be looked at at the moment: %s", problem)
            took = (self._clock.now() - since).total_seconds()
            await self._clock.sleep(max(MIN_REST_SECONDS, REST_FACTOR * took))

    async def _run_pass(self) -> None:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._summaries, self._activity_counters = {}, {}
        self._rejected_count = 0
        began = self._clock.now()
        # Marked in earlier walks: what is removed in this one has been gone for a while when the next one looks.
        orphaned = await self._list_archived_envelopes()
        token = ""
        while True:
            page, token = await self._page(token)
            for raw in page:
                if await self._process_event(raw, counts, began):
                    orphaned.pop(envelope_of(raw["metadata"]["name"]), None)
            if not token:
                break
            await self._clock.sleep(PAGE_SECONDS)
        for name, uid in orphaned.items():
            await self._remove_envelope(name, uid)
        # An organization whose last event is gone is told so, and not left with what it had.
        for name in {*self._counts, *(each.name for each in self._cache.organizations)}:
            counts.setdefault(name, Counter())
        if self._rejected_count:
            _log.warning("%d objects could not be cleaned up: %s", self._rejected_count, self._last_rejection)
        self._counts = {name: dict(by_phase) for name, by_phase in counts.items()}
        self._activities = {
            name: self._activity_counters.get(name, ActivityCounter(began)).activity() for name in counts
        }
        self.pass_finished(began, self._summaries)

    async def _page(self, token: str) -> tuple[list[Raw], str]:
        try:
            return await self._kube.page(EnvelopeEvent, limit=PAGE_SIZE, token=token)
        except Expired as expired:
            # A long walk outlives what the API server remembers (5 minutes); it goes on with what there is now.
            if not expired.token:
                raise
            return await self._kube.page(EnvelopeEvent, limit=PAGE_SIZE, token=expired.token)

    async def _list_archived_envelopes(self) -> dict[str, str]:
        """Return name and uid of each Envelope that is marked; thousands take less memory than a page of events."""
        labels = f"{ARCHIVED_LABEL}={ARCHIVED}"
        listed = self._kube.list(Envelope, labels=labels)
        return {raw["metadata"]["name"]: raw["metadata"]["uid"] async for raw in listed}

    async def _process_event(self, raw: Raw, counts: Mapping[str, Counter[str]], began: datetime) -> bool:
        """Re-open an event whose cause was mended, remove one whose time is up, and count it if it is not removed."""
        try:
            event = EnvelopeEvent.parse(raw)
        except ResourceInvalid as invalid:
            _log.warning("an event can't be read: %s", invalid)
            return True
        event = await self.retry_if_fixed(event)
        await self._add_missing_shard(event)
        organization = self._cache.organizations.get(event.organization)
        if is_expired(event, organization, self._clock.now()) and await self._remove_event(event):
            return False
        counts[event.organization][event.status.phase] += 1
        self._activity_counters.setdefault(event.organization, ActivityCounter(began)).add(event)
        ref = organization.spec.archive_ref if organization is not None else None
        summary = self._summaries.setdefault(event.organization, FailureSummary())
        summary.add(event, ref.name if ref is not None else "")
        return True

    async def _add_missing_shard(self, event: EnvelopeEvent) -> None:
        """An event that a person made may lack its shard; where several controllers share the work, none would see it."""
        if SHARD_LABEL in event.metadata.labels or event.status.phase.is_final:
            return
        labels = {SHARD_LABEL: str(shard(envelope_id(event.spec.envelope_id)))}
        try:
            await self._kube.patch(EnvelopeEvent, event.name, {"metadata": {"labels": labels}})
        except NotFound:
            return
        except (Forbidden, Rejected) as problem:
            self._count_rejection(problem)

    async def _remove_event(self, event: EnvelopeEvent) -> bool:
        try:
            if is_condition_true(event.status.conditions, "Archived"):
                # First, since nobody could tell it from one that is still being signed when its event is gone. It
                # changes nothing for an event that is re-opened at this moment.
                await self._mark_envelope(event.spec.envelope_id)
            await self._kube.delete(
                EnvelopeEvent, event.name, uid=event.uid, resource_version=event.metadata.resource_version
            )
        except NotFound:
            return True
        except Conflict:
            # Re-opened at this very moment.
            return False
        except (Forbidden, Rejected) as problem:
            self._count_rejection(problem)
            return False
        return True

    def _count_rejection(self, problem: ApiError) -> None:
        """Go on when an object may not be changed, by an admission policy for example, and tell after the walk."""
        self._rejected_count += 1
        self._last_rejection = problem

    async def _mark_envelope(self, name: str) -> None:
        with suppress(NotFound):
            await self._kube.patch(Envelope, name, {"metadata": {"labels": {ARCHIVED_LABEL: ARCHIVED}}})

    async def _remove_envelope(self, name: str, uid: str) -> None:
        try:
            await self._kube.delete(Envelope, name, uid=uid)
        except (NotFound, Conflict):
            return
        except (Forbidden, Rejected) as problem:
            self._count_rejection(problem)


async def _unchanged(event: EnvelopeEvent) -> EnvelopeEvent:
    """Stand for nobody who re-opens."""
    return event


def is_expired(event: EnvelopeEvent, organization: Organization | None, now: datetime) -> bool:
    """Whether a finished event's time to live has passed; without its Organization nobody says how long that is."""
    if organization is None or not event.status.phase.is_final or event.status.completed_at is None:
        return False
    ttl: Duration | None = organization.spec.ttl.failed
    if event.status.phase is not Phase.FAILED:
        ttl = organization.spec.ttl.succeeded
    return ttl is not None and now - event.status.completed_at > ttl
