"""
Reconcile one event: admit it, run its phases, store the results.

``PhaseRunner`` returns an outcome, the state machine turns it into the next status, and ``TransitionWriter``
stores that status where the order of the phases requires it.

Other writers of an event's status each write their own part: the receiver (deliveries), ``requests``
(``lastRequest`` and what a request changes), ``outgoing_webhook`` (``notice``), ``reopening`` (a new start).
"""

from dataclasses import dataclass, field
from datetime import timedelta

import msgspec

from controller.cache import Cache
from controller.reconcile.outcomes import Done
from controller.reconcile.phase_runner import PhaseRunner
from controller.reconcile.preconditions import Admitted, AdmittedCopies, RecordOnly, Relabelled
from controller.reconcile.state_machine import (
    PERSIST_AFTER,
    TransitionInput,
    attempt_timeout,
    next_phase,
    next_status,
    phase_to_resume,
    record_only_status,
    with_authorized,
)
from controller.reconcile.transition_writer import TransitionWriter
from controller.scheduling.due import has_request, is_suspended
from controller.scheduling.retry_policy import Random
from counterfoil.clock import Clock
from counterfoil.kube.status import with_deliveries
from counterfoil.resources import EnvelopeEvent, Phase, RetrySpec, Sender
from counterfoil.resources.reopening import KEPT_FOR_SKIP, with_short_list
from counterfoil.resources.routes import without_old_choice


@dataclass(frozen=True)
class Reconciler:
    """Takes events through their phases."""

    cache: Cache
    phase_runner: PhaseRunner
    transition_writer: TransitionWriter
    clock: Clock
    random: Random
    attempt_timeout: timedelta
    """Maximum duration of one attempt in one phase; judged by a timer outside of it."""
    _own_versions: dict[str, str | None] = field(default_factory=dict)
    """By event that waits for its next attempt: the version that this process stored, if no other process can
    be in the middle of archiving it."""

    def event_changed(self, before: EnvelopeEvent | None, after: EnvelopeEvent | None) -> None:
        """Forget an event that was deleted, or that left the watch."""
        if after is None and before is not None:
            self._own_versions.pop(before.name, None)

    @property
    def remembered(self) -> int:
        """Number of events about which something is kept in memory."""
        return len(self._own_versions)

    async def reconcile(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """
        Take the event as far as possible now, and return its new state.

        Raises ``ApiError`` when its state could not be stored (the stored state is then unchanged),
        ``Superseded`` when another process changed the event, and ``LeaseLost`` when another process may work
        on it.
        """
        phase, began = phase_to_resume(event.status), self.clock.monotonic()
        is_ours = self._own_versions.pop(event.name, "") == event.metadata.resource_version
        admitted = await self.phase_runner.admit(event, phase)
        match admitted:
            case Relabelled():
                return admitted.event
            case RecordOnly():
                message = f"The action {event.spec.action} is recorded; nothing else is needed."
                if event.status.is_skipped_by_person:
                    message = f"{message} {KEPT_FOR_SKIP}"
                outcome, inputs = Done("Recorded", message), self._inputs(event)
                status = record_only_status(event.status, outcome, inputs)
                return await self.transition_writer.store(event, status, outcome, inputs, event.deliveries)
            case Admitted():
                return await self._run_phases(event, admitted, phase, is_ours=is_ours)
            case AdmittedCopies():
                return await self._run_copies(event, admitted, is_ours=is_ours)
        inputs = self._inputs(event, began)
        status = next_status(event.status, phase, admitted, inputs)
        event = await self.transition_writer.store(event, status, admitted, inputs, event.deliveries)
        if is_ours:
            self._remember(event)
        return event

    async def wait_for_room(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """
        Store that the event waits for room for its list of files, and return its new state.

        The event may lack files of its status, which stay stored. Raises as ``reconcile``.
        """
        phase = phase_to_resume(event.status)
        outcome = self.phase_runner.wait_for_room(event, phase)
        status = next_status(event.status, phase, outcome, self._inputs(event))
        # No announcement, and no failure if the status is refused: it would replace the stored files.
        return await self.transition_writer.store_unannounced(event, status, event.deliveries)

    async def _run_phases(
        self, event: EnvelopeEvent, admitted: Admitted, phase: Phase, *, is_ours: bool
    ) -> EnvelopeEvent:
        """Run phase after phase until the outcome is not ``Done``, or the event is finished."""
        fence, sender = admitted.context.fence, admitted.context.sender
        if phase in (Phase.ARCHIVING, Phase.COPYING) and not is_ours:
            # Another process may be in the middle of it, without a Lease.
            event = await fence.claim()
        known_deliveries, inputs = event.deliveries, self._inputs(event)
        status = without_old_choice(with_short_list(event.status, now=inputs.now))
        status = with_authorized(status, sender.name, inputs)
        while True:
            current = msgspec.structs.replace(event, status=status)
            limit, began = attempt_timeout(status, inputs, self.attempt_timeout), self.clock.monotonic()
            outcome = await self.phase_runner.run(phase, current, admitted, limit)
            inputs = self._inputs(event, began)
            # The phase may have stored a condition; what is stored now is what the next write replaces.
            event, status = fence.event, with_deliveries(status, fence.event.status)
            status = next_status(status, phase, outcome, inputs)
            if phase in PERSIST_AFTER or not isinstance(outcome, Done):
                began = fence.write_began()
                event = await self.transition_writer.store(event, status, outcome, inputs, known_deliveries)
                fence.written(event, began)
                status = event.status
            if not isinstance(outcome, Done):
                self._remember(event)
                return event
            upcoming = next_phase(phase, status)
            # After the last phase too if a callback in this run re-opened the event.
            is_ended = upcoming is Phase.SUCCEEDED or status.phase.is_final
            # A person may suspend the event during a run (the next run reports it) or request a skip.
            if is_ended or self._is_held(event, sender) or has_request(event):
                return event
            if phase is Phase.COPYING and not await admitted.context.copies.leave_copies(admitted.context):
                # What is stored decides where the event waits. No phase begins without a place.
                return event
            phase, inputs = upcoming, self._inputs(event)

    def _is_held(self, event: EnvelopeEvent, sender: Sender) -> bool:
        """Whether a person suspended the event, or the Sender in use, which may not be the next reader any
        more."""
        newest = self.cache.senders.get(sender.name)
        return is_suspended(event, self.cache) or (newest is not None and newest.spec.suspend)

    async def _run_copies(
        self, event: EnvelopeEvent, admitted: AdmittedCopies, *, is_ours: bool
    ) -> EnvelopeEvent:
        """Run the phase Copying alone. What follows it asks eSAW, and begins with a key, in another run."""
        fence = admitted.context.fence
        if not is_ours:
            event = await fence.claim()
        inputs, began = self._inputs(event), self.clock.monotonic()
        limit = attempt_timeout(event.status, inputs, self.attempt_timeout)
        outcome = await self.phase_runner.copy(event, admitted.context, limit, unanswered=admitted.unanswered)
        inputs = self._inputs(event, began)
        status = next_status(event.status, Phase.COPYING, outcome, inputs)
        began = fence.write_began()
        event = await self.transition_writer.store(event, status, outcome, inputs, event.deliveries)
        fence.written(event, began)
        self._remember(event)
        return event

    def _remember(self, event: EnvelopeEvent) -> None:
        if not event.status.phase.is_final:
            self._own_versions[event.name] = event.metadata.resource_version

    def _inputs(self, event: EnvelopeEvent, began: float | None = None) -> TransitionInput:
        """Return the input of a transition now, by the newest spec of the Organization. ``began`` is the
        monotonic time at which the attempt began."""
        organization, now = self.cache.organizations.get(event.organization), self.clock.now()
        # By the time of now, which may come from another API server than that of the beginning.
        lasted = timedelta(seconds=self.clock.monotonic() - began) if began is not None else timedelta(0)
        return TransitionInput(
            now=now,
            generation=event.metadata.generation,
            retry=organization.spec.retry if organization is not None else RetrySpec(),
            random=self.random,
            attempt_start=now - lasted,
            lead=self.clock.lead(),
            event=event,
            organization=organization,
        )
