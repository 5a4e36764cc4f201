"""
Store the event of ``callback_to_event`` in the API server, or report that this failed.

One write per callback, without a retry. The name of the event makes equal callbacks meet (rule 2). The API
server's answer is the proof behind every 200 (rule 1): 201 with that event, or 409 and the stored event is
about the same callback. After any other answer eSAW retries the callback.

If this process has seen the event before, it reads the event instead of creating it, which costs the API
server less than half. That is a hint, not a proof: if the event was deleted since, it is created again.

For an existing event this module checks whether the callback re-opens it, may tell of the restart of its
envelope, or has parameters that the event lacks. If so, that is stored before the 200; if not, the callback
is only counted, and no answer waits for the count (docs/decisions/0009).
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import AlreadyExists, ApiError, Conflict, NotFound, Rejected, Unavailable
from counterfoil.kube.watch import Raw
from counterfoil.metrics import CallbackOutcome
from counterfoil.resources import EnvelopeEvent, EnvelopeEventSpec, Phase, ResourceInvalid, ResourcePart
from counterfoil.resources.reopening import must_be_stored
from counterfoil.untrusted.fair_slots import FairSlots
from webhook.receiver.delivery_counter import DeliveryCounter
from webhook.receiver.later_parameters import different_values, new_parameters
from webhook.receiver.limits import ReceiverLimits
from webhook.receiver.readiness import WriteProbe

_log = logging.getLogger(__name__)


class AttemptStart(ResourcePart, frozen=True):
    """The start of an attempt, and its result."""

    start_time: datetime
    outcome: str = ""
    reason: str = ""


class ArchivedEnvelope(ResourcePart, frozen=True):
    """The status in which eSAW last showed an envelope."""

    status: str | None = None
    restarted_time: datetime | None = None


class EventCompletion(ResourcePart, frozen=True):
    """The part of an event's status that shows whether the event has ended or waits for the time of the
    delete, and parameters that came later."""

    phase: str = Phase.PENDING
    reason: str | None = None
    completion_time: datetime | None = None
    attempt_history: tuple[AttemptStart, ...] = ()
    envelope: ArchivedEnvelope | None = None
    parameters: dict[str, str] = {}


class EventIdentity(ResourcePart, frozen=True):
    """The name of a stored event, its unique id, which only the API server gives, and whether it is being
    deleted."""

    name: str
    uid: str
    deletion_timestamp: datetime | None = None


class ExistingEvent(ResourcePart, frozen=True):
    """The part of a stored event that the receiver needs."""

    metadata: EventIdentity
    spec: EnvelopeEventSpec
    status: EventCompletion = EventCompletion()

    def is_about(self, event: Raw) -> bool:
        """Whether name, organization, envelope, action and workstep are those of ``event``."""
        wanted = msgspec.convert(event["spec"], EnvelopeEventSpec)
        return (self.metadata.name, self.spec.subject) == (event["metadata"]["name"], wanted.subject)


class NotConfirmed(Exception):
    """The API server's answer does not show that the event is stored; eSAW sends the callback again."""


class EventVanishing(Exception):
    """The event of this name is being deleted, so it proves nothing: a finalizer delays the end only."""


class EventContended(Exception):
    """Other processes kept writing to the event; eSAW sends the callback again."""


class EventMismatch(Exception):
    """The event of this name is about another callback, so neither is confirmed with it."""


class StatusRefused(Exception):
    """The API server refuses the status that has the callback, or the stored one can't be read; eSAW sends
    the callback again."""


Write = Callable[[str, Raw, float], Awaitable[CallbackOutcome]]
"""Stores a callback: name of the event, the event, and the time of the callback in seconds of
``Clock.monotonic``."""


def write_turns(count: int) -> FairSlots:
    """Return the turns of all namespaces to write: they share them first, then their organizations."""
    return FairSlots(count, group_of=lambda owner: owner.partition("/")[0])


@dataclass(frozen=True)
class EventWriter:
    """Creates the events of callbacks of one namespace."""

    kube: KubeClient
    delivery_counter: DeliveryCounter
    write_probe: WriteProbe
    turns: FairSlots
    """Those of ``write_turns``: one for each connection to the API server. A callback that waits for one has
    no request yet."""
    clock: Clock
    limits: ReceiverLimits
    known_names: OrderedDict[tuple[str, str], None] = field(default_factory=OrderedDict)
    """Namespaces and names of events that exist, the last used ones last. All namespaces may share it."""

    async def create(self, event: Raw) -> CallbackOutcome:
        """Store an event of ``event_factory``; return ``NOTED`` or ``KNOWN``, or on failure ``UNAVAILABLE``,
        ``MISMATCH`` or ``REFUSED``."""
        return await self._write(event, self._create_or_count)

    async def count_existing(self, event: Raw) -> CallbackOutcome:
        """Count a callback whose event must not be created; return ``KNOWN``, ``ORGANIZATION_FULL`` if there
        is no event, or on failure the outcomes of ``create``."""
        return await self._write(event, self._count_only)

    async def _write(self, event: Raw, write: Write) -> CallbackOutcome:
        """
        Write when it is this callback's turn; the namespaces and their organizations share the turns.

        The timeout of the write begins after the wait. With one timeout for both, each write of a lasting
        overload would begin shortly before its end, and the API server would work for answers 503.
        """
        name, received = event["metadata"]["name"], self.clock.monotonic()
        owner = f"{self.kube.namespace}/{event['spec']['organizationRef']['name']}"
        if not await self._take_turn(owner):
            # There was no request, so this is no failure of the API server and leaves the readiness.
            _log.warning("the event was not created: too many callbacks wait", extra={"event": name})
            return CallbackOutcome.UNAVAILABLE
        try:
            async with asyncio.timeout(self.limits.write_seconds):
                outcome = await write(name, event, received)
        except (Unavailable, Conflict, TimeoutError, NotConfirmed) as failure:
            detail = str(failure) or "the API server took too long"
            self.write_probe.record_failure(detail)
            _log.warning("the event was not created: %s", detail, extra={"event": name})
            return CallbackOutcome.UNAVAILABLE
        except EventMismatch as mismatch:
            # The API server works, so a client that chooses ids cannot end this receiver's readiness.
            _log.error("the event was not created: %s", mismatch, extra={"event": name})
            return CallbackOutcome.MISMATCH
        except (EventVanishing, EventContended) as state:
            # The API server works: a finalizer that stays, or a conflict, must not end this receiver's
            # readiness.
            _log.warning("the event was not created: %s", state, extra={"event": name})
            return CallbackOutcome.UNAVAILABLE
        except StatusRefused as refusal:
            # The API server works, so callbacks of one event must not end this receiver's readiness.
            _log.error("the callback can't be stored in its event: %s", refusal, extra={"event": name})
            return CallbackOutcome.REFUSED
        except (ApiError, ResourceInvalid) as refusal:
            # Never 200 and never 400: the callback is valid, so eSAW must retry it until the cause is fixed.
            self.write_probe.record_failure(str(refusal))
            _log.error(
                "the event was not created, and cannot be until this is fixed: %s",
                refusal,
                extra={"event": name},
            )
            return CallbackOutcome.REFUSED
        finally:
            self.turns.release(owner)
        if outcome is not CallbackOutcome.ORGANIZATION_FULL:
            self.write_probe.record_success()
            self._remember(name)
        return outcome

    async def _take_turn(self, owner: str) -> bool:
        """Wait for a turn of this organization; return whether there was one in time."""
        if self.turns.take(owner):
            return True
        try:
            async with asyncio.timeout(self.limits.wait_seconds):
                await self.turns.wait(owner)
        except TimeoutError:
            return False
        return True

    async def _create_or_count(self, name: str, event: Raw, received: float) -> CallbackOutcome:
        """Return ``NOTED``, or ``KNOWN`` for a stored event. Raises ``ApiError``, ``ResourceInvalid``,
        ``NotConfirmed``, ``EventMismatch``, ``EventVanishing``, ``EventContended``, ``StatusRefused``."""
        if (self.kube.namespace, name) in self.known_names:
            with suppress(NotFound):
                await self._count_or_store(event, await self._get_existing(name, event), received)
                return CallbackOutcome.KNOWN
        try:
            body = msgspec.json.encode(event)
            stored = await self.kube.create_from_json(EnvelopeEvent, body, ExistingEvent)
        except AlreadyExists:
            try:
                existing = await self._get_existing(name, event)
            except NotFound:
                raise NotConfirmed("the event was deleted during the request") from None
            await self._count_or_store(event, existing, received)
            return CallbackOutcome.KNOWN
        if not stored.is_about(event):
            raise NotConfirmed("what answered is not the API server: it sent another object")
        return CallbackOutcome.NOTED

    async def _count_only(self, name: str, event: Raw, received: float) -> CallbackOutcome:
        try:
            existing = await self._get_existing(name, event)
        except NotFound:
            return CallbackOutcome.ORGANIZATION_FULL
        await self._count_or_store(event, existing, received)
        return CallbackOutcome.KNOWN

    async def _get_existing(self, name: str, event: Raw) -> ExistingEvent:
        """Return the stored event. Raises ``NotFound``, ``EventMismatch``, ``EventVanishing``."""
        existing = await self.kube.get_partial(EnvelopeEvent, name, ExistingEvent)
        if not existing.is_about(event):
            raise EventMismatch(
                f"EnvelopeEvent/{name} is about another callback. Delete it if it was made by hand."
            )
        if existing.metadata.deletion_timestamp is not None:
            raise EventVanishing(f"EnvelopeEvent/{name} is being deleted")
        return existing

    async def _count_or_store(self, event: Raw, existing: ExistingEvent, received: float) -> None:
        name, parameters = event["metadata"]["name"], event["spec"].get("parameters", {})
        completion = existing.status
        known = {**completion.parameters, **existing.spec.parameters}
        if different := different_values(parameters, known):
            message = "%d parameters have other values than in an earlier callback and were left out"
            _log.warning(message, different, extra={"event": name})
        # After the read, since a response of the API server corrects the clock.
        now = self.clock.now()
        received_time = now - timedelta(seconds=self.clock.monotonic() - received)
        is_stored = must_be_stored(completion, received=received_time, now=now)
        if not is_stored and not new_parameters(parameters, known):
            self.delivery_counter.count(name, received_time)
            return
        try:
            await self.delivery_counter.store(name, received_time, parameters)
        except Conflict as conflict:
            raise EventContended(str(conflict)) from conflict
        except (Rejected, ResourceInvalid) as refusal:
            raise StatusRefused(str(refusal)) from refusal

    def _remember(self, name: str) -> None:
        key = self.kube.namespace, name
        self.known_names[key] = None
        self.known_names.move_to_end(key)
        if len(self.known_names) > self.limits.remembered_events:
            self.known_names.popitem(last=False)
