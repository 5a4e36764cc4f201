"""
Detect objects that were deleted while a watch was broken.

After a gap kopf lists again and reports the existing objects, but not the deleted ones. So whenever kopf
lists, the names are listed here too: an object that was cached before that and is not listed was deleted (an
event: or finished). An object that is newer than the list is not changed: its watch reports it.
"""

import asyncio
import logging
from typing import NamedTuple

from controller.cache import Cache, version_number
from controller.watch.reflector import WATCHED_KINDS
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.kube.watch import exponential_backoff
from counterfoil.resources import EnvelopeEvent, Resource

_log = logging.getLogger(__name__)


class WatchedKind(NamedTuple):
    """A watched kind, and the selectors of its watch."""

    kind: type[Resource]
    labels: str = ""
    fields: str = ""


class DeletionDetector:
    """Removes deleted objects from the cache."""

    def __init__(self, kube: KubeClient, cache: Cache, clock: Clock, *, labels: str, fields: str) -> None:
        """``labels`` and ``fields`` select the events that are watched."""
        self._kube = kube
        self._clock = clock
        self._cache = cache
        self._watched_kinds = {kind.PLURAL: WatchedKind(kind) for kind in WATCHED_KINDS}
        self._watched_kinds[EnvelopeEvent.PLURAL] = WatchedKind(EnvelopeEvent, labels, fields)
        # The cache has no events before their first list; the other kinds were read before the watches began.
        self._never_listed = {EnvelopeEvent.PLURAL}
        self._lists_to_check: asyncio.Queue[str] = asyncio.Queue()

    def list_started(self, plural: str) -> None:
        """Check a kind that kopf lists from the beginning."""
        if plural in self._never_listed:
            self._never_listed.discard(plural)
        else:
            self._lists_to_check.put_nowait(plural)

    async def run(self) -> None:
        """Check listed kinds until cancelled."""
        failures = 0
        while True:
            plural = await self._lists_to_check.get()
            try:
                await self._find_deleted(plural)
            except ApiError as problem:
                _log.warning("deleted %s can't be detected yet: %s", plural, problem)
                self._lists_to_check.put_nowait(plural)
                await self._clock.sleep(exponential_backoff(failures))
                failures += 1
            else:
                failures = 0

    async def _find_deleted(self, plural: str) -> None:
        kind, labels, fields = self._watched_kinds[plural]
        store = self._cache.store(kind)
        before = {each.name: each for each in store}
        if not before:
            return
        listed = self._kube.list(kind, labels=labels, fields=fields)
        existing = {raw["metadata"]["name"] async for raw in listed}
        for name in before.keys() - existing:
            if store.get(name) is before[name]:
                _log.info("%s of %s was deleted while its watch was broken", name, plural)
                self._cache.delete(kind, name, version_number(before[name]))
