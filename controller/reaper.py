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

from controller.notify.ledger import Survey
from controller.office import Office
from controller.tally import Tally
from counterfoil.clock import Clock
from counterfoil.cluster import ApiProblem, Cluster, Conflict, Expired, Forbidden, NotFound, Raw, Refused
from counterfoil.durations import Duration
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
    is_true,
    shard,
)

_log = logging.getLogger(__name__)

PAGE = 500
PAGE_SECONDS = 2.0
LEAST_REST_SECONDS = 60.0
ARCHIVED = "true"
"""Value of the label on an Envelope that is to go as soon as no event of its envelope is left."""

RESTS = 9
"""How many times the length of a walk passes before the next one."""


class Reaper:
    """Walks over all events, counts them by phase and by what went on, and removes those whose time is up."""

    walked: Callable[[datetime, Mapping[str, Survey]], None]
    """Is told after each walk when it began and what it found, by organization."""
    reopened: Callable[[EnvelopeEvent], Awaitable[EnvelopeEvent]]
    """Re-opens an event if what may solve its failure was mended since; returns it as it is then."""

    def __init__(self, *, cluster: Cluster, office: Office, clock: Clock) -> None:
        self._cluster = cluster
        self._office = office
        self._clock = clock
        self._counts: Mapping[str, Mapping[str, int]] = {}
        self._activities: Mapping[str, Activity] = {}
        self._tallies: dict[str, Tally] = {}
        self._surveys: dict[str, Survey] = {}
        self._hindrances = 0
        """How many objects of this walk may not be changed."""
        self._hindrance: ApiProblem | None = None
        self.walked = lambda began, surveys: None
        self.reopened = _as_it_is

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
                await self._walk()
            except ApiProblem as problem:
                _log.warning("finished events can't be looked at at the moment: %s", problem)
            took = (self._clock.now() - since).total_seconds()
            await self._clock.sleep(max(LEAST_REST_SECONDS, RESTS * took))

    async def _walk(self) -> None:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._surveys, self._tallies = {}, {}
        self._hindrances = 0
        began = self._clock.now()
        # Marked in earlier walks: what is removed in this one has been gone for a while when the next one looks.
        bereft = await self._marked()
        token = ""
        while True:
            page, token = await self._page(token)
            for raw in page:
                if await self._stays(raw, counts, began):
                    bereft.pop(envelope_of(raw["metadata"]["name"]), None)
            if not token:
                break
            await self._clock.sleep(PAGE_SECONDS)
        for name, uid in bereft.items():
            await self._remove_envelope(name, uid)
        # An organization whose last event is gone is told so, and not left with what it had.
        for name in {*self._counts, *(each.name for each in self._office.organizations)}:
            counts.setdefault(name, Counter())
        if self._hindrances:
            _log.warning("%d objects could not be cleaned up: %s", self._hindrances, self._hindrance)
        self._counts = {name: dict(by_phase) for name, by_phase in counts.items()}
        self._activities = {name: self._tallies.get(name, Tally(began)).activity() for name in counts}
        self.walked(began, self._surveys)

    async def _page(self, token: str) -> tuple[list[Raw], str]:
        try:
            return await self._cluster.page(EnvelopeEvent, limit=PAGE, token=token)
        except Expired as expired:
            # A long walk outlives what the API server remembers (5 minutes); it goes on with what there is now.
            if not expired.token:
                raise
            return await self._cluster.page(EnvelopeEvent, limit=PAGE, token=expired.token)

    async def _marked(self) -> dict[str, str]:
        """Return name and uid of each Envelope that is marked; thousands take less memory than a page of events."""
        labels = f"{ARCHIVED_LABEL}={ARCHIVED}"
        listed = self._cluster.list(Envelope, labels=labels)
        return {raw["metadata"]["name"]: raw["metadata"]["uid"] async for raw in listed}

    async def _stays(self, raw: Raw, counts: Mapping[str, Counter[str]], began: datetime) -> bool:
        """Re-open an event whose cause was mended, remove one whose time is up, and count it if it is not removed."""
        try:
            event = EnvelopeEvent.parse(raw)
        except ResourceInvalid as invalid:
            _log.warning("an event can't be read: %s", invalid)
            return True
        event = await self.reopened(event)
        await self._give_shard(event)
        organization = self._office.organizations.get(event.organization)
        if is_outlived(event, organization, self._clock.now()) and await self._is_removed(event):
            return False
        counts[event.organization][event.status.phase] += 1
        self._tallies.setdefault(event.organization, Tally(began)).take(event)
        ref = organization.spec.archive_ref if organization is not None else None
        survey = self._surveys.setdefault(event.organization, Survey())
        survey.take(event, ref.name if ref is not None else "")
        return True

    async def _give_shard(self, event: EnvelopeEvent) -> None:
        """An event that a person made may lack its shard; where several controllers share the work, none would see it."""
        if SHARD_LABEL in event.metadata.labels or event.status.phase.is_final:
            return
        labels = {SHARD_LABEL: str(shard(envelope_id(event.spec.envelope_id)))}
        try:
            await self._cluster.patch(EnvelopeEvent, event.name, {"metadata": {"labels": labels}})
        except NotFound:
            return
        except (Forbidden, Refused) as problem:
            self._note_hindrance(problem)

    async def _is_removed(self, event: EnvelopeEvent) -> bool:
        try:
            if is_true(event.status.conditions, "Archived"):
                # First, since nobody could tell it from one that is still being signed when its event is gone. It
                # changes nothing for an event that is re-opened at this moment.
                await self._mark_envelope(event.spec.envelope_id)
            await self._cluster.delete(
                EnvelopeEvent, event.name, uid=event.uid, resource_version=event.metadata.resource_version
            )
        except NotFound:
            return True
        except Conflict:
            # Re-opened at this very moment.
            return False
        except (Forbidden, Refused) as problem:
            self._note_hindrance(problem)
            return False
        return True

    def _note_hindrance(self, problem: ApiProblem) -> None:
        """Go on when an object may not be changed, by an admission policy for example, and tell after the walk."""
        self._hindrances += 1
        self._hindrance = problem

    async def _mark_envelope(self, name: str) -> None:
        with suppress(NotFound):
            await self._cluster.patch(Envelope, name, {"metadata": {"labels": {ARCHIVED_LABEL: ARCHIVED}}})

    async def _remove_envelope(self, name: str, uid: str) -> None:
        try:
            await self._cluster.delete(Envelope, name, uid=uid)
        except (NotFound, Conflict):
            return
        except (Forbidden, Refused) as problem:
            self._note_hindrance(problem)


async def _as_it_is(event: EnvelopeEvent) -> EnvelopeEvent:
    """Stand for nobody who re-opens."""
    return event


def is_outlived(event: EnvelopeEvent, organization: Organization | None, now: datetime) -> bool:
    """Whether a finished event's time to live has passed; without its Organization nobody says how long that is."""
    if organization is None or not event.status.phase.is_final or event.status.completed_at is None:
        return False
    ttl: Duration | None = organization.spec.ttl.failed
    if event.status.phase is not Phase.FAILED:
        ttl = organization.spec.ttl.succeeded
    return ttl is not None and now - event.status.completed_at > ttl
