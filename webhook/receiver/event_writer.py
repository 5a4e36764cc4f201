"""
Create an EnvelopeEvent in the API server for a callback, or report that this failed.

One write per callback, without a retry. The name of the event makes equal callbacks meet (rule 2). The API
server's answer is the proof behind every 200 (rule 1); after any other answer eSAW retries the callback.

If this process has seen the event before, it reads the event instead of creating it, which costs the API
server less than half. That is a hint, not a proof: if the event was deleted since, it is created again.

For an existing event this module checks whether the callback re-opens it. If so, that is stored before the
200; if not, the callback is only counted, and no answer waits for the count (docs/decisions/0009).
"""

import asyncio
import logging
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import msgspec

from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import AlreadyExists, ApiError, Conflict, NotFound, Unavailable
from counterfoil.kube.watch import Raw
from counterfoil.metrics import CallbackOutcome
from counterfoil.resources import EnvelopeEvent, Phase, ResourceInvalid, ResourcePart
from counterfoil.resources.reopening import is_reopened_by_callback
from webhook.receiver.delivery_counter import DeliveryCounter
from webhook.receiver.limits import ReceiverLimits
from webhook.receiver.readiness import WriteProbe

_log = logging.getLogger(__name__)


class EventCompletion(ResourcePart, frozen=True):
    """The part of an event's status that shows whether the event has ended."""

    phase: str = Phase.PENDING
    completed_at: datetime | None = None


class ExistingEvent(ResourcePart, frozen=True):
    """The part of an existing event that the receiver needs."""

    status: EventCompletion = EventCompletion()


@dataclass(frozen=True)
class EventWriter:
    """Creates the events of callbacks."""

    kube: KubeClient
    delivery_counter: DeliveryCounter
    write_probe: WriteProbe
    clock: Clock
    limits: ReceiverLimits
    _known_names: OrderedDict[str, None] = field(init=False, default_factory=OrderedDict)

    async def create(self, event: Raw) -> CallbackOutcome:
        """Store an event of ``event_factory``; return ``NOTED`` or ``KNOWN``, or on failure ``UNAVAILABLE``
        or ``REFUSED``."""
        name, received = event["metadata"]["name"], self.clock.now()
        try:
            async with asyncio.timeout(self.limits.write_seconds):
                outcome = await self._create_or_count(name, event, received)
        except (Unavailable, Conflict, TimeoutError) as failure:
            self.write_probe.record_failure()
            detail = str(failure) or "the API server took too long"
            _log.warning("the event was not created: %s", detail, extra={"event": name})
            return CallbackOutcome.UNAVAILABLE
        except (ApiError, ResourceInvalid) as refusal:
            # Never 200 and never 400: the callback is valid, so eSAW must retry it until the cause is fixed.
            self.write_probe.record_failure()
            _log.error(
                "the event was not created, and cannot be until this is fixed: %s",
                refusal,
                extra={"event": name},
            )
            return CallbackOutcome.REFUSED
        self.write_probe.record_success()
        self._remember(name)
        return outcome

    async def _create_or_count(self, name: str, event: Raw, received: datetime) -> CallbackOutcome:
        """Return ``NOTED``, or ``KNOWN`` for a stored event. Raises ``ApiError``, ``ResourceInvalid``."""
        if name in self._known_names:
            with suppress(NotFound):
                existing = await self.kube.get_partial(EnvelopeEvent, name, ExistingEvent)
                await self._count_or_reopen(name, existing, received)
                return CallbackOutcome.KNOWN
        try:
            await self.kube.create_from_json(EnvelopeEvent, msgspec.json.encode(event))
        except AlreadyExists:
            await self._count_or_reopen(name, await self._get_existing(name), received)
            return CallbackOutcome.KNOWN
        return CallbackOutcome.NOTED

    async def _get_existing(self, name: str) -> ExistingEvent:
        try:
            return await self.kube.get_partial(EnvelopeEvent, name, ExistingEvent)
        except NotFound:
            raise Unavailable(404, "Gone", "the event was deleted during the request") from None

    async def _count_or_reopen(self, name: str, existing: ExistingEvent, received: datetime) -> None:
        completion = existing.status
        if is_reopened_by_callback(completion.phase, completion.completed_at, received=received):
            await self.delivery_counter.reopen(name, received)
        else:
            self.delivery_counter.count(name, received)

    def _remember(self, name: str) -> None:
        self._known_names[name] = None
        self._known_names.move_to_end(name)
        if len(self._known_names) > self.limits.remembered_events:
            self._known_names.popitem(last=False)
