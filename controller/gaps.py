"""
Gaps in the watches: what vanished while one of them was broken.

After a gap kopf lists anew and tells what is there, and nobody what is gone. So whenever it lists, the names are listed once
more here, and what was known before that and is not among them was deleted (an event: or finished) unseen. What is newer
than the list is left alone: its watch tells.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from controller.manager import Manager
from controller.office import Shelf, version
from counterfoil.clock import Clock
from counterfoil.cluster import ApiProblem, Cluster, longer_each_time
from counterfoil.resources import Archive, EnvelopeEvent, Organization, Resource, Sender

_log = logging.getLogger(__name__)


class Followed(NamedTuple):
    """A kind that is watched, with what is known of it."""

    kind: type[Resource]
    shelf: Shelf[Any]
    seen: Callable[[str, Mapping[str, Any]], None]
    labels: str = ""
    fields: str = ""


class Gaps:
    """Closes the gaps."""

    def __init__(self, cluster: Cluster, manager: Manager, clock: Clock, *, labels: str, fields: str) -> None:
        """``labels`` and ``fields`` select the events that are watched."""
        self._cluster = cluster
        self._clock = clock
        office = manager.office
        followed = (
            Followed(EnvelopeEvent, office.events, manager.event_seen, labels, fields),
            Followed(Organization, office.organizations, manager.organization_seen),
            Followed(Sender, office.senders, manager.sender_seen),
            Followed(Archive, office.archives, manager.archive_seen),
        )
        self._followed = {each.kind.PLURAL: each for each in followed}
        # Nothing is known of events before their first list; the other kinds were read before the watches began.
        self._is_new = {EnvelopeEvent.PLURAL}
        self._listed: asyncio.Queue[str] = asyncio.Queue()

    def listed(self, plural: str) -> None:
        """Take notice that kopf lists a kind from its beginning."""
        if plural in self._is_new:
            self._is_new.discard(plural)
        else:
            self._listed.put_nowait(plural)

    async def run(self) -> None:
        """Close gaps until cancelled."""
        failures = 0
        while True:
            plural = await self._listed.get()
            try:
                await self._close(plural)
            except ApiProblem as problem:
                _log.warning("what vanished of %s can't be told yet: %s", plural, problem)
                self._listed.put_nowait(plural)
                await self._clock.sleep(longer_each_time(failures))
                failures += 1
            else:
                failures = 0

    async def _close(self, plural: str) -> None:
        kind, shelf, seen, labels, fields = self._followed[plural]
        before = {each.name: each for each in shelf}
        if not before:
            return
        listed = self._cluster.list(kind, labels=labels, fields=fields)
        there = {raw["metadata"]["name"] async for raw in listed}
        for name in before.keys() - there:
            if shelf.get(name) is before[name]:
                _log.info("%s of %s vanished while nobody watched", name, plural)
                seen("DELETED", _last_seen(before[name]))


def _last_seen(resource: Resource) -> dict[str, dict[str, str]]:
    return {"metadata": {"name": resource.name, "resourceVersion": str(version(resource))}}
