"""
Noting down: a callback becomes an EnvelopeEvent in the API server, or it is known that it did not.

One write per callback, and no retry after it. The name of the event makes equal callbacks meet (rule 2), the API
server's answer is the proof behind every 200 (rule 1), and whatever else it answers is left to eSAW's own retries.

An event that this process has seen before is asked for instead of created, which costs the API server less than half.
Having seen it is a hint only, never the proof: it may have been deleted since, and then it is created anew.
"""

import asyncio
import logging
from collections import OrderedDict
from contextlib import suppress
from typing import Protocol

import msgspec

from counterfoil.cluster import AlreadyExists, ApiProblem, Conflict, Forbidden, NotFound, Raw, Unavailable
from counterfoil.metrics import CallbackOutcome
from counterfoil.resources import EnvelopeEvent, Resource
from webhook.deliveries import Deliveries
from webhook.limits import Limits
from webhook.writability import Writability

log = logging.getLogger(__name__)


class Notebook(Protocol):
    """What of ``counterfoil.cluster.Cluster`` is needed here."""

    async def require(self, kind: type[Resource], name: str) -> None:
        """Make sure that an object exists at this moment. Raises ``NotFound``."""
        ...

    async def create_encoded(self, kind: type[Resource], body: bytes) -> None:
        """Store a new object given as JSON."""
        ...


class Intake:
    """Takes callbacks in."""

    def __init__(
        self,
        cluster: Notebook,
        deliveries: Deliveries,
        writability: Writability,
        *,
        limits: Limits,
    ) -> None:
        self._cluster = cluster
        self._deliveries = deliveries
        self._writability = writability
        self._limits = limits
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def note_down(self, event: Raw) -> CallbackOutcome:
        """Store an event (of ``counterfoil.resources.noting``); says ``NOTED``, ``KNOWN``, or why not: ``UNAVAILABLE``, ``REFUSED``."""
        name = event["metadata"]["name"]
        try:
            async with asyncio.timeout(self._limits.write_seconds):
                outcome = await self._store(name, event)
        except (Unavailable, Conflict, TimeoutError) as trouble:
            self._writability.failed()
            log.warning("not noted down: %s", _words(trouble), extra={"event": name})
            return CallbackOutcome.UNAVAILABLE
        except ApiProblem as refusal:
            # Never 200 and never 400: the callback is fine, so it has to come again until somebody has mended this.
            self._writability.failed()
            log.error(  # noqa: TRY400 - the message says it all
                "not noted down, and it will not be until this is mended: %s",
                refusal,
                extra={"event": name},
            )
            return CallbackOutcome.REFUSED
        self._writability.wrote()
        self._remember(name)
        if outcome is CallbackOutcome.KNOWN:
            self._deliveries.count(name)
        return outcome

    async def _store(self, name: str, event: Raw) -> CallbackOutcome:
        """Return when the API server has the event: ``NOTED``, or ``KNOWN`` if it had it before. Raises ``ApiProblem``."""
        if name in self._seen:
            with suppress(NotFound, Forbidden):
                await self._cluster.require(EnvelopeEvent, name)
                return CallbackOutcome.KNOWN
        try:
            await self._cluster.create_encoded(EnvelopeEvent, msgspec.json.encode(event))
        except AlreadyExists:
            return CallbackOutcome.KNOWN
        return CallbackOutcome.NOTED

    def _remember(self, name: str) -> None:
        self._seen[name] = None
        self._seen.move_to_end(name)
        if len(self._seen) > self._limits.remembered:
            self._seen.popitem(last=False)


def _words(trouble: Exception) -> str:
    return str(trouble) or "the API server took too long"
