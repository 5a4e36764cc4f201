"""
Lists and watch events of the API server -> the cache (client-go: Reflector), from the initial sync on.

A controller that starts during an outage waits for its end, alive and not ready, instead of exiting: a
kubelet restarts after pauses that grow to five minutes. A missing CustomResourceDefinition or right can also
be fixed without a restart.

An object that cannot be parsed is logged and ignored: the CRD refuses such objects, so it is from another
version of the CRD.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controller.cache import Cache
from counterfoil.clock import Clock
from counterfoil.kube.answers import parse_readable
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.kube.watch import exponential_backoff
from counterfoil.resources import Archive, EnvelopeEvent, Organization, Resource, Sender

_log = logging.getLogger(__name__)

WATCHED_KINDS: Final[tuple[type[Resource], ...]] = (EnvelopeEvent, Organization, Sender, Archive)


@dataclass(frozen=True)
class Reflector:
    """Writes the state of the API server into the cache."""

    kube: KubeClient
    cache: Cache

    async def load(self) -> None:
        """
        Read all Organizations, Senders and Archives before the first event is reconciled.

        Otherwise an event could be reconciled before its Organization is known. Raises ``ApiError``.
        """
        for kind in (Organization, Sender, Archive):
            async for raw in self.kube.list(kind):
                self.handle(kind, None, raw)

    def expect_page(self, plural: str, page: Mapping[str, Any]) -> None:
        """kopf read this page of a list, and will pass each of its objects to ``handle``."""
        if plural == EnvelopeEvent.PLURAL:
            names = [each["metadata"]["name"] for each in page["items"]]
            self.cache.expect_events(names, is_last=not page["metadata"].get("continue"))

    def handle(self, kind: type[Resource], type_: str | None, raw: Mapping[str, Any]) -> None:
        """Apply an object that was listed, added, changed or deleted (an event: or finished) to the cache."""
        self._apply(kind, type_, raw)
        if kind is EnvelopeEvent:
            self.cache.observe_event(raw["metadata"]["name"])

    def _apply(self, kind: type[Resource], type_: str | None, raw: Mapping[str, Any]) -> None:
        if type_ == "DELETED":
            metadata = raw["metadata"]
            self.cache.delete(kind, metadata["name"], int(metadata["resourceVersion"]))
            return
        if (resource := parse_readable(kind, raw)) is not None:
            self.cache.update(resource)


@dataclass
class InitialSync:
    """Repeats ``read_all``, which may raise ``ApiError``, until it succeeds."""

    read_all: Callable[[], Awaitable[None]]
    clock: Clock
    _pending_reason: str | None = "the resources have not been read yet"

    async def run(self) -> None:
        """Return when all resources were read; retry until then."""
        failures = 0
        while self._pending_reason is not None:
            try:
                await self.read_all()
            except ApiError as problem:
                self._report(problem)
                await self.clock.sleep(exponential_backoff(failures))
                failures += 1
            else:
                self._pending_reason = None

    def _report(self, problem: ApiError) -> None:
        """Log a reason when it is new: a namespace that does not exist yet may be absent for days."""
        reason = _describe(problem)
        if reason != self._pending_reason:
            # Each start directly after an installation meets it, and it passes within seconds.
            level = logging.INFO if problem.is_initializing else logging.WARNING
            _log.log(level, "the controller can't start yet: %s", reason)
        self._pending_reason = reason

    async def check(self) -> str | None:
        """Return why the sync is not complete, or None; for readiness."""
        return self._pending_reason


def _describe(problem: ApiError) -> str:
    if problem.status == 404:
        return f"{problem}. Are the CustomResourceDefinitions installed?"
    return str(problem)
