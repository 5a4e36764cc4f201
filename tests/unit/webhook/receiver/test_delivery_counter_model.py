"""
The delivery counter against a model of it: the deliveries per event, and bounds where an answer is lost.

Two receivers count and store deliveries of the same events, while the controller finishes the events and each
receiver's connection to the API server fails in every way.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from counterfoil.kube.errors import ApiError, Forbidden, Unavailable
from counterfoil.kube.watch import Raw
from counterfoil.resources import EnvelopeEvent, Phase, Resource, envelope_id
from counterfoil.resources.event_factory import new_event
from tests.support.builders import AClock
from tests.support.fakes.kube import merge
from tests.support.scenes.receiver_parts import GUID, NOON, ReceiverKubeClient, unavailable
from tests.support.virtual_time import VirtualTimeLoop
from webhook.receiver.delivery_counter import DeliveryCounter
from webhook.receiver.limits import ReceiverLimits

RECEIVERS = (0, 1)
RECEIVER = st.sampled_from(RECEIVERS)
EVENT = st.integers(0, 2)


@dataclass
class KnownEvent:
    """Knowledge of the model about one event."""

    at_least: int = 1
    at_most: int = 1
    """The number of deliveries that may be stored in the end. The creation is the first one."""
    last: datetime = NOON
    """When the last delivery of a receiver that still lives came."""
    finished: tuple[Phase, datetime] | None = None
    """The last final phase and its completion."""
    is_last_certain: bool = True
    """Whether no delivery after ``finished`` was lost with a killed receiver, or answered 503."""
    parameters: dict[str, str] = field(default_factory=dict)


class Connection(ReceiverKubeClient):
    """One receiver's connection to the API server; all share the objects."""

    def __init__(self, server: ReceiverKubeClient, wrote: Callable[["Connection", str], None]) -> None:
        super().__init__()
        self.objects, self._versions = server.objects, server._versions
        self.lost_writes: dict[str, int] = {}
        """The deliveries in a write that was carried out and not answered, until the receiver reads again."""
        self._wrote = wrote

    async def get(self, kind: type[Resource], name: str) -> Raw:
        raw = await super().get(kind, name)
        self.lost_writes.pop(name, None)
        return raw

    async def patch_status(
        self, kind: type[Resource], name: str, status: Mapping[str, Any], *, resource_version: str | None
    ) -> Raw:
        before = self.stored(name).deliveries if name in self.events else 0
        try:
            raw = await super().patch_status(kind, name, status, resource_version=resource_version)
        except Unavailable:
            if (written := self.stored(name).deliveries - before) > 0:
                self._wrote(self, name)
                self.lost_writes[name] = written
            raise
        self._wrote(self, name)
        return raw


class DeliveryCounterModel(RuleBasedStateMachine):
    """Each rule is one delivery, one write of the receivers, or one fault."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualTimeLoop)
        self.clock = AClock(NOON)
        self.server = ReceiverKubeClient()
        self.names: list[str] = []
        for action in ("first", "second", "third"):
            event = new_event(organization="acme", envelope=envelope_id(GUID), action=action)
            self.server.put_event(event)
            self.names.append(event["metadata"]["name"])
        self.events = {name: KnownEvent() for name in self.names}
        self.pending: list[Counter[str]] = [Counter(), Counter()]
        """Deliveries that each receiver may have to write still."""
        self.connections = [Connection(self.server, self._wrote) for _ in RECEIVERS]
        self.counters = [self._new_counter(number) for number in RECEIVERS]

    def _new_counter(self, number: int) -> DeliveryCounter:
        limits = ReceiverLimits(flush_spacing=0.0)
        return DeliveryCounter(self.connections[number], clock=self.clock, random=Random(1), limits=limits)

    def _now(self) -> datetime:
        """Return a time that no other delivery has."""
        self.clock.advance(microseconds=1)
        return self.clock.now()

    # -- Deliveries ------------------------------------------------------------------------------------------

    @rule(receiver=RECEIVER, event=EVENT, times=st.integers(1, 3))
    def count(self, receiver: int, event: int, times: int) -> None:
        """Deliveries of a known event, which are counted later."""
        name = self.names[event]
        for _ in range(times):
            received = self._now()
            self.counters[receiver].count(name, received)
            if name in self.events:
                known = self.events[name]
                known.at_least += 1
                known.at_most += 1
                known.last = received
                self.pending[receiver][name] += 1

    @rule(receiver=RECEIVER, event=EVENT, value=st.sampled_from(("", "a", "b")))
    def store(self, receiver: int, event: int, value: str) -> None:
        """A delivery that is stored before the answer, as it re-opens the event or has parameters."""
        name, received = self.names[event], self._now()
        parameters = {"dossier": value} if value else {}
        known = self.events.get(name)
        try:
            self.runner.run(self.counters[receiver].store(name, received, parameters))
        except ApiError:
            if known is not None:
                # eSAW gets 503 and calls again. Only an answer that was lost leaves the count.
                known.at_most += 1
                known.is_last_certain = False
            return
        assert known is not None, "a delivery of a deleted event was answered 200"
        known.at_least += 1
        known.at_most += 1
        known.last = received
        self.pending[receiver][name] += 1
        stored = self.server.stored(name)
        for each, text in parameters.items():
            known.parameters.setdefault(each, stored.parameters.get(each, text))
            assert each in stored.parameters, "the answer is 200, and the parameter is not stored"
        if known.finished is not None and received > known.finished[1]:
            assert stored.status.phase not in (Phase.SKIPPED, Phase.FAILED), "200 and not re-opened"

    # -- Writes ----------------------------------------------------------------------------------------------

    @rule(receivers=st.sets(RECEIVER, min_size=1))
    def flush(self, receivers: set[int]) -> None:
        """One receiver writes what it counted, or both do so at the same time."""

        async def all_at_once() -> list[bool]:
            return await asyncio.gather(*(self.counters[each].flush() for each in receivers))

        results = self.runner.run(all_at_once())
        for receiver, is_written in zip(receivers, results, strict=True):
            has_nothing_left = self.counters[receiver].pending_events == 0
            assert is_written or not has_nothing_left
            if has_nothing_left:
                self.pending[receiver].clear()

    @rule(receiver=RECEIVER, event=EVENT)
    def count_during_flush(self, receiver: int, event: int) -> None:
        """A delivery comes while the API server takes its time."""

        async def slowly() -> None:
            self.connections[receiver].answering.clear()
            writing = asyncio.create_task(self.counters[receiver].flush())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.count(receiver, event, 1)
            self.connections[receiver].answering.set()
            await writing

        self.runner.run(slowly())

    def _wrote(self, writer: Connection, name: str) -> None:
        """A receiver can't recognise its own unanswered write once another one has counted on top of it."""
        for each in self.connections:
            if each is not writer and name in self.events:
                self.events[name].at_most += each.lost_writes.pop(name, 0)

    # -- The controller and people ---------------------------------------------------------------------------

    @rule(event=EVENT, phase=st.sampled_from((Phase.SUCCEEDED, Phase.SKIPPED, Phase.FAILED)))
    def finish(self, event: int, phase: Phase) -> None:
        """The controller finishes an event."""
        name = self.names[event]
        if name in self.events and not self.server.stored(name).status.phase.is_final:
            now = self._now()
            self._edit(name, phase=phase, completionTime=now.isoformat())
            self.events[name].finished = (phase, now)
            self.events[name].is_last_certain = True

    @rule(event=EVENT)
    def controller_writes(self, event: int) -> None:
        """The controller writes the status between a read and a write of the receivers."""
        if self.names[event] in self.events:
            self._edit(self.names[event], attempts=self.clock.now().microsecond)

    @rule(event=st.just(2))
    def delete(self, event: int) -> None:
        """A person deletes an event; its deliveries are not counted any more."""
        self.server.objects.pop((EnvelopeEvent.PLURAL, self.names[event]), None)
        self.events.pop(self.names[event], None)

    def _edit(self, name: str, **status: Any) -> None:
        raw = self.server.events[name]
        merge(raw.setdefault("status", {}), json.loads(json.dumps(status)))
        raw["metadata"]["resourceVersion"] = str(next(self.server._versions))

    # -- Faults ----------------------------------------------------------------------------------------------

    @rule(receiver=RECEIVER, verb=st.sampled_from(("get", "patch_status")), is_refused=st.booleans())
    def trouble(self, receiver: int, verb: str, is_refused: bool) -> None:
        """The requests of a receiver fail until ``work``."""
        problem: ApiError = Forbidden(403, "Forbidden", "no") if is_refused else unavailable()
        self.connections[receiver].trouble[verb] = problem

    @rule(receiver=RECEIVER)
    def lose_answer(self, receiver: int) -> None:
        """The next write of a receiver is carried out, and its answer is lost."""
        self.connections[receiver].lost["patch_status"] = unavailable()

    @rule(receiver=RECEIVER)
    def work(self, receiver: int) -> None:
        self.connections[receiver].trouble.clear()
        self.connections[receiver].lost.clear()

    @rule(receiver=RECEIVER)
    def kill(self, receiver: int) -> None:
        """A killed receiver loses all that it has not written."""
        for name, number in self.pending[receiver].items():
            if name in self.events:
                self.events[name].at_least -= number
                self.events[name].is_last_certain = False
        self.pending[receiver].clear()
        self.connections[receiver] = Connection(self.server, self._wrote)
        self.counters[receiver] = self._new_counter(receiver)

    # -- What always holds -----------------------------------------------------------------------------------

    @invariant()
    def no_delivery_is_counted_twice(self) -> None:
        for name, known in self.events.items():
            assert self.server.stored(name).deliveries <= known.at_most

    @invariant()
    def parameters_stay(self) -> None:
        for name, known in self.events.items():
            assert known.parameters.items() <= self.server.stored(name).parameters.items()

    @invariant()
    def only_a_later_delivery_reopens_an_event(self) -> None:
        for name, known in self.events.items():
            if known.finished is None:
                continue
            phase, completion = known.finished
            is_reopened = self.server.stored(name).status.phase is not phase
            assert not is_reopened or phase is not Phase.SUCCEEDED
            assert not is_reopened or known.last > completion or not known.is_last_certain

    def teardown(self) -> None:
        """An orderly stop writes everything."""
        try:
            for receiver in RECEIVERS:
                self.work(receiver)
                self.counters[receiver].close()
                self.runner.run(self.counters[receiver].run())
                assert self.counters[receiver].pending_events == 0
            for name, known in self.events.items():
                self._check_at_the_end(self.server.stored(name), known)
        finally:
            self.runner.close()

    def _check_at_the_end(self, stored: EnvelopeEvent, known: KnownEvent) -> None:
        assert known.at_least <= stored.deliveries <= known.at_most
        if known.finished is not None and known.is_last_certain:
            phase, completion = known.finished
            is_called_again = known.last > completion and phase is not Phase.SUCCEEDED
            assert stored.status.phase is (Phase.PENDING if is_called_again else phase)
        if stored.status.deliveries is not None and known.is_last_certain:
            assert stored.status.first_delivery_time == stored.metadata.creation_timestamp


TestDeliveryCounter = DeliveryCounterModel.TestCase
