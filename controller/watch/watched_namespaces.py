"""
The namespaces that kopf watches, and who learns of the objects of each.

One kopf watches all namespaces, one watch per kind and namespace. A namespace is added or removed while the
watches of the others continue: kopf adapts its watches to its ``insights``, which it takes as an argument.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

# kopf documents the argument ``insights`` of its operator, and exports the types from here only.
from kopf._cogs.structs.references import Insights, NamespaceName

from controller.watch.reflector import Reflector
from counterfoil.clock import Clock
from counterfoil.kube.watch import Raw
from counterfoil.logs import log_context
from counterfoil.resources import Resource

WATCHES_END_SECONDS = 15.0
"""Timeout for the end of the watches of a namespace; kopf gives them ten seconds."""


class WatchHeartbeat:
    """The time of the last data of each watch of a namespace: a change or a bookmark."""

    def __init__(self, clock: Clock, plurals: Iterable[str]) -> None:
        self._clock = clock
        self._last_data_at: dict[str, float] = dict.fromkeys(plurals, clock.monotonic())
        self.has_begun = False
        """Whether the watches began."""

    def restart(self) -> None:
        """The watches begin now: before, no data could arrive."""
        self.has_begun = True
        self._last_data_at = dict.fromkeys(self._last_data_at, self._clock.monotonic())

    def record(self, plural: str) -> None:
        """Data arrived by the watch of this kind."""
        self._last_data_at[plural] = self._clock.monotonic()

    def idle_times(self) -> Mapping[str, timedelta]:
        """Return the time since the last data of each kind; since the start for a kind without data."""
        now = self._clock.monotonic()
        return {plural: timedelta(seconds=now - at) for plural, at in self._last_data_at.items()}


@dataclass(frozen=True)
class NamespaceWatch:
    """The components that learn of the watches of one namespace."""

    reflector: Reflector
    heartbeat: WatchHeartbeat
    list_started: Callable[[str], None]
    """Receives the kind of each list that begins."""


@dataclass
class WatchedNamespaces:
    """Adds and removes namespaces, and passes what kopf finds to the components of each."""

    insights: Insights = field(default_factory=Insights)
    _watches: dict[str, NamespaceWatch] = field(default_factory=dict)

    async def add(self, namespace: str, watch: NamespaceWatch) -> None:
        """Begin the watches of a namespace, each with a list."""
        watch.heartbeat.restart()
        self._watches[namespace] = watch
        async with self.insights.revised:
            self.insights.namespaces.add(NamespaceName(namespace))
            self.insights.revised.notify_all()

    async def remove(self, namespace: str) -> None:
        """End the watches of a namespace; return when they have ended, so that a later ``add`` begins new
        ones."""
        if self._watches.pop(namespace, None) is None:
            return
        async with self.insights.revised:
            self.insights.namespaces.discard(NamespaceName(namespace))
            self.insights.revised.notify_all()
        # kopf cancels them soon; it tells nobody when they have ended.
        if watches := _watches_in(asyncio.all_tasks(), namespace):
            await asyncio.wait(watches, timeout=WATCHES_END_SECONDS)

    def data_received(self, namespace: str, plural: str) -> None:
        """A change or a bookmark arrived."""
        if watch := self._watches.get(namespace):
            watch.heartbeat.record(plural)

    def list_started(self, namespace: str, plural: str) -> None:
        """kopf begins a list."""
        if watch := self._watches.get(namespace):
            watch.list_started(plural)

    def page_listed(self, namespace: str, plural: str, page: Raw) -> None:
        """kopf read a page of a list."""
        if watch := self._watches.get(namespace):
            watch.reflector.expect_page(plural, page)

    def handle(self, kind: type[Resource], type_: str | None, raw: Mapping[str, Any]) -> None:
        """Pass an object that was listed, added, changed or deleted to the cache of its namespace."""
        namespace = raw["metadata"].get("namespace", "")
        if watch := self._watches.get(namespace):
            with log_context(namespace=namespace):
                watch.reflector.handle(kind, type_, raw)


def _watches_in(tasks: Iterable[asyncio.Task[Any]], namespace: str) -> list[asyncio.Task[Any]]:
    """Return the tasks that are watches of the namespace, by the names that kopf gives them."""
    named = ((each, each.get_name()) for each in tasks)
    return [
        each for each, name in named if name.startswith("watcher for ") and name.endswith(f"@{namespace}")
    ]
