"""
The envelopes of the demo and the states of their events.

States flow: API server -> ``DemoEnvelopes.refresh`` -> rows -> output. The demo waits here for phases;
nothing here changes an object.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sandbox.demo.output import DemoOutput, EnvelopeRow
from sandbox.environment.local import LocalEnvironment
from sandbox.environment.processes import CounterfoilProcess

TIMEOUT_SECONDS = 90.0
FINAL_PHASES = frozenset({"Succeeded", "Skipped", "Failed"})

RESULTS: Mapping[str, str] = {
    "ArchivedAndDeleted": "archived, verified, then deleted in eSAW",
    "UnexpectedStatus": "rejected by its signer: nothing to archive",
    "AuditTrailMissing": "archived, but without audit trail: kept in eSAW",
    "EnvelopeDeleted": "was deleted in eSAW before the callback",
    "EnvelopeNotFound": "eSAW has no such envelope",
    "StillActive": "not finished in eSAW yet; asks again",
    "KeyDoubted": "key rejected; tries it a second time",
    "TokenRejected": "key rejected; waits for a new key",
}
"""Results in the words of the demo. Any other reason is shown by its name."""


class DemoStopped(RuntimeError):
    """The demo can't continue; the message gives the cause."""


class EventState(NamedTuple):
    """Phase and reason of an event."""

    phase: str
    reason: str


@dataclass(frozen=True)
class DemoEnvelope:
    """An envelope as the demo made it."""

    id: str
    name: str
    sender: str


@dataclass
class DemoEnvelopes:
    """All envelopes of the demo, oldest first."""

    local_environment: LocalEnvironment
    output: DemoOutput
    made: list[DemoEnvelope] = field(default_factory=list)
    _printed: list[str] = field(default_factory=list)

    def add(self, envelope: str, name: str, sender: str) -> str:
        """Add an envelope to the table; return its id."""
        self.made.append(DemoEnvelope(envelope, name, sender))
        return envelope

    async def states(self) -> dict[str, EventState]:
        """Return the current states by envelope id."""
        return event_states(await self.local_environment.events())

    async def refresh(self) -> dict[str, EventState]:
        """Show the current states; return them by envelope id."""
        states = await self.states()
        if self.output.verbose:
            await self._print_events()
        self.output.show(envelope_rows(self.made, states))
        return states

    async def wait_for(self, phases: Iterable[str], envelopes: Iterable[str]) -> None:
        """Wait until the events of these envelopes are in one of these phases. Raises ``DemoStopped``."""
        wanted, phases = list(envelopes), frozenset(phases)
        await self._wait(lambda states: all(states.get(each, _NONE).phase in phases for each in wanted))

    async def _wait(self, enough: Callable[[Mapping[str, EventState]], bool]) -> None:
        until = time.monotonic() + TIMEOUT_SECONDS
        while not enough(states := await self.refresh()):
            ended = [each for each in self.local_environment.processes if each.server.ended]
            if ended:
                raise DemoStopped("\n".join(map(process_end, ended)))
            if time.monotonic() > until:
                raise DemoStopped(f"The events are not as expected after {TIMEOUT_SECONDS:.0f} s: {states}")
            await asyncio.sleep(0.3)

    async def _print_events(self) -> None:
        table = (await self.local_environment.kubectl("get", "envelopeevents")).rstrip().splitlines()
        without_age = [line.rsplit(maxsplit=1)[0] for line in table]
        if without_age != self._printed:
            self.output.detail("$ kubectl get envelopeevents", *table)
            self._printed = without_age


_NONE = EventState("", "")


def _result(state: EventState) -> str:
    return RESULTS.get(state.reason, state.reason)


def process_end(process: CounterfoilProcess) -> str:
    """Return that a process ended, with its exit code and the end of its log."""
    server = process.server
    return f"the process {process.name} ended with {server.exit_code}:\n{server.log_tail()}"


def event_states(events: Iterable[Mapping[str, Any]]) -> dict[str, EventState]:
    """Return the states of events by the ids of their envelopes."""
    states = {}
    for event in events:
        status = event.get("status", {})
        states[event["spec"]["envelopeID"]] = EventState(status.get("phase", ""), status.get("reason", ""))
    return states


def envelope_rows(envelopes: Iterable[DemoEnvelope], states: Mapping[str, EventState]) -> list[EnvelopeRow]:
    """Return the rows of the envelopes of which eSAW has sent a callback."""
    return [
        EnvelopeRow(
            each.name,
            each.sender,
            states[each.id].phase,
            _result(states[each.id]),
        )
        for each in envelopes
        if each.id in states
    ]
