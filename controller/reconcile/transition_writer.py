"""
Store a new status of an event and announce the transition: the only place in a run that does.

A status that the API server refuses would be refused again: the event then fails with what was stored before.
"""

from dataclasses import dataclass

from controller.reconcile import state_machine
from controller.reconcile.outcomes import Fail, Outcome
from controller.reconcile.phases.collect import too_many_files_message
from controller.reconcile.state_machine import TransitionInput
from controller.reconcile.transition_announcer import TransitionAnnouncer
from counterfoil.clock import Clock
from counterfoil.kube.errors import Rejected, TooLarge
from counterfoil.kube.status import StatusWriter
from counterfoil.resources import EnvelopeEvent, EnvelopeEventStatus, is_condition_true
from counterfoil.resources.reopening import (
    REDELIVERED,
    is_open_to_callbacks,
    reopened_status,
)


@dataclass(frozen=True)
class TransitionWriter:
    """Writes the transitions of events."""

    status_writer: StatusWriter
    announcer: TransitionAnnouncer
    clock: Clock

    async def store(
        self,
        event: EnvelopeEvent,
        status: EnvelopeEventStatus,
        outcome: Outcome,
        inputs: TransitionInput,
        known_deliveries: int,
    ) -> EnvelopeEvent:
        """
        Store the status after an outcome, announce it, and return the event as stored.

        ``known_deliveries`` is the number of callbacks when the run began. Raises as ``StatusWriter.store``.
        """
        try:
            stored = await self._store(event, status, known_deliveries)
        except Rejected as refused:
            # A repeated write would be refused too. The stored status plus this failure ends the event.
            outcome = _rejected_outcome(status, refused)
            phase = state_machine.phase_to_resume(event.status)
            try:
                failed = state_machine.next_status(event.status, phase, outcome, inputs)
                stored = await self._store(event, failed, known_deliveries)
            except Rejected:
                # Names and places of the files take most of the size limit. A retry collects them again.
                bare = state_machine.with_bare_documents(event.status, outcome, inputs)
                failed = state_machine.next_status(bare, phase, outcome, inputs)
                stored = await self._store(event, failed, known_deliveries)
        self.announcer.announce(event.status, stored, outcome)
        return stored

    async def _store(
        self, event: EnvelopeEvent, status: EnvelopeEventStatus, known_deliveries: int
    ) -> EnvelopeEvent:
        """
        Store a status.

        A callback during the run may tell of a change after eSAW's answer, and was only counted. So an end
        that a later callback would re-open is re-opened at once. Counters decide, not clocks.
        """

        def revise(newest: EnvelopeEventStatus) -> EnvelopeEventStatus:
            if not is_open_to_callbacks(newest) or (newest.deliveries or 0) <= known_deliveries:
                return newest
            message = f"eSignAnyWhere called again during the attempt that ended as {newest.phase}."
            return reopened_status(newest, reason=REDELIVERED, message=message, now=self.clock.now())

        return await self.status_writer.store(event, status, revise=revise)


def _rejected_outcome(status: EnvelopeEventStatus, refused: Rejected) -> Fail:
    if isinstance(refused, TooLarge):
        is_cleaned = is_condition_true(status.conditions, "Cleaned")
        where = "" if is_cleaned else " The envelope stays in eSignAnyWhere."
        return Fail("EnvelopeTooLarge", f"{too_many_files_message(len(status.documents))}{where}")
    return Fail("StatusRefused", f"The API server refuses the event's new status: {refused}"[:1000])
