"""
Clean-up of finished events, and counting them: a slow walk over all events, one page at a time.

Finished events are in no watch and in no memory (rule 9); the walk sees each of them once in a while and costs one
page of the API server per ``PAGE_SECONDS``. Nothing younger than 72 h is removed, because eSAW may repeat a callback
for 36 h and would then make the event anew; the CRD sees to that.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime

from controller.office import Office
from counterfoil.clock import Clock
from counterfoil.cluster import ApiProblem, Cluster, Conflict, Expired, NotFound
from counterfoil.durations import Duration
from counterfoil.resources import Envelope, EnvelopeEvent, Organization, Phase, ResourceInvalid

_log = logging.getLogger(__name__)

PAGE = 250
PAGE_SECONDS = 15.0


class Reaper:
    """Walks over all events, counts them by phase, and removes those whose time is up."""

    def __init__(self, *, cluster: Cluster, office: Office, clock: Clock) -> None:
        self._cluster = cluster
        self._office = office
        self._clock = clock
        self._counts: Mapping[str, Mapping[str, int]] = {}

    def counts(self, organization: str) -> Mapping[str, int] | None:
        """Return how many events of an organization were in which phase on the last whole walk; None before it."""
        return self._counts.get(organization)

    async def run(self) -> None:
        """Walk until cancelled."""
        while True:
            try:
                await self._walk()
            except Expired:
                # The walk took longer than the API server remembers; the next one begins at the beginning.
                _log.debug("a walk over the events was too slow and begins anew")
            except ApiProblem as problem:
                _log.warning("finished events can't be looked at at the moment: %s", problem)
            await self._clock.sleep(PAGE_SECONDS)

    async def _walk(self) -> None:
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        token = ""
        while True:
            page, token = await self._cluster.page(EnvelopeEvent, limit=PAGE, token=token)
            for raw in page:
                try:
                    event = EnvelopeEvent.parse(raw)
                except ResourceInvalid as invalid:
                    _log.warning("an event can't be read: %s", invalid)
                    continue
                if not await self._reaped(event):
                    counts[event.organization][event.status.phase] += 1
            if not token:
                break
            await self._clock.sleep(PAGE_SECONDS)
        self._counts = {name: dict(by_phase) for name, by_phase in counts.items()}

    async def _reaped(self, event: EnvelopeEvent) -> bool:
        if not is_outlived(event, self._office.organizations.get(event.organization), self._clock.now()):
            return False
        try:
            await self._cluster.delete(
                EnvelopeEvent, event.name, uid=event.uid, resource_version=event.metadata.resource_version
            )
            if event.status.phase is Phase.SUCCEEDED:
                await self._cluster.delete(Envelope, event.spec.envelope_id)
        except NotFound:
            return True
        except Conflict:
            # Re-opened at this very moment.
            return False
        return True


def is_outlived(event: EnvelopeEvent, organization: Organization | None, now: datetime) -> bool:
    """Whether a finished event's time to live has passed; without its Organization nobody says how long that is."""
    if organization is None or not event.status.phase.is_final or event.status.completed_at is None:
        return False
    ttl: Duration | None = organization.spec.ttl.failed
    if event.status.phase is not Phase.FAILED:
        ttl = organization.spec.ttl.succeeded
    return ttl is not None and now - event.status.completed_at > ttl
