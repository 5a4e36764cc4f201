"""
Detect objects that were deleted while a watch was broken.

After a gap kopf lists again and reports the existing objects, but not the deleted ones. So whenever kopf
lists, the names are listed here too: an object that was cached before that and is not listed was deleted (an
event: or finished). An object that is newer than the list is not changed: its watch reports it.

A list that began after an object was cached, or an event was finished, has no lower version of it, unless
etcd was restored from a backup. Then the listed state replaces the newer one.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from controller.cache import Cache, version_number
from controller.watch.reflector import WATCHED_KINDS
from counterfoil.clock import Clock
from counterfoil.kube.answers import parse_readable
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.kube.page_limits import SMALL_PAGE
from counterfoil.kube.watch import exponential_backoff
from counterfoil.resources import EnvelopeEvent, Resource

_log = logging.getLogger(__name__)


@dataclass
class DeletionDetector:
    """Removes deleted objects from the cache."""

    kube: KubeClient
    cache: Cache
    clock: Clock
    labels: str
    fields: str
    """With ``labels``: the selectors of the events that are watched."""
    _were_events_listed: bool = False
    """The cache has no events before their first list; the other kinds were read before the watches began."""
    _lists_to_check: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    def list_started(self, plural: str) -> None:
        """Check a kind that kopf lists from the beginning."""
        if plural == EnvelopeEvent.PLURAL and not self._were_events_listed:
            self._were_events_listed = True
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
                await self.clock.sleep(exponential_backoff(failures))
                failures += 1
            else:
                failures = 0

    async def _find_deleted(self, plural: str) -> None:
        kind = next(kind for kind in WATCHED_KINDS if plural == kind.PLURAL)
        labels, fields = (self.labels, self.fields) if kind is EnvelopeEvent else ("", "")
        store = self.cache.store(kind)
        before = {each.name: each for each in store}
        versions = {name: version_number(each) for name, each in before.items()}
        if kind is EnvelopeEvent:
            versions |= self.cache.finished_versions
        if not versions:
            return
        listed = self.kube.list(kind, labels=labels, fields=fields, limit=SMALL_PAGE)
        existing = set()
        async for raw in listed:
            name = raw["metadata"]["name"]
            existing.add(name)
            known = versions.get(name, 0)
            if int(raw["metadata"]["resourceVersion"]) < known and store.get(name) is before.get(name):
                self._replace_restored(kind, known, raw)
        for name in before.keys() - existing:
            if store.get(name) is before[name]:
                _log.info("%s of %s was deleted while its watch was broken", name, plural)
                self.cache.delete(kind, name, version_number(before[name]))

    def _replace_restored(self, kind: type[Resource], known_version: int, raw: Mapping[str, Any]) -> None:
        if (restored := parse_readable(kind, raw)) is not None:
            self.cache.update_from_read(restored, known_version)
