"""
One run over one event: from the phase where it stands as far as it goes now.

The event's newest state comes from the office; the reception says whether and with what it may be worked on; each
phase says what it found; the transition makes the new status of it; the clerk stores that where the order of things
demands it. Then the schedule hears when the event is due again. Nobody else writes an event's status, but the
receiver its deliveries.
"""

import dataclasses
import logging
from dataclasses import dataclass

import msgspec

from controller.access.sender_keys import SenderKeys, rejected_message
from controller.cache import Cache
from controller.reconcile import error_policy, state_machine
from controller.reconcile.context import PartialArchive
from controller.reconcile.outcomes import (
    Done,
    Fail,
    NeedConsent,
    Outcome,
    Pause,
    PhaseFacts,
    Wait,
    outcome_label,
)
from controller.reconcile.phases import PHASE_FUNCTIONS
from controller.reconcile.phases.collect import too_many_files_message
from controller.reconcile.preconditions import Admitted, Preconditions, RecordOnly
from controller.reconcile.state_machine import PERSIST_AFTER, TransitionInput
from controller.scheduling.backoff import Random
from controller.scheduling.due import has_request, is_suspended
from controller.telemetry.event_recorder import EventRecorder
from counterfoil import tracing
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Rejected, TooLarge
from counterfoil.kube.status import StatusWriter
from counterfoil.logs import log_context
from counterfoil.metrics import Metrics
from counterfoil.resources import (
    SENDER_LABEL,
    EnvelopeEvent,
    EnvelopeEventStatus,
    Organization,
    Phase,
    RetrySpec,
    Sender,
    is_condition_true,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconciler:
    """Takes events through their phases."""

    kube: KubeClient
    cache: Cache
    preconditions: Preconditions
    sender_keys: SenderKeys
    status_writer: StatusWriter
    event_recorder: EventRecorder
    metrics: Metrics
    clock: Clock
    random: Random

    async def reconcile(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """
        Work on the event as far as it goes now, and return its new state.

        Raises ``ApiError`` when its state could not be stored (it is then as it was), and ``Overtaken`` when
        somebody else changed it.
        """
        organization = self.preconditions.admit(event)
        if isinstance(organization, RecordOnly):
            return await self._finish_record_only(event)
        if not isinstance(organization, Organization):
            return await self._apply_outcome(event, event.status, _current_phase(event), organization)
        phase = _current_phase(event)
        event, admitted = await self._prepare(event, organization)
        if admitted is None:
            return event
        if isinstance(admitted, Admitted):
            return await self._run_phases(event, admitted, phase)
        return await self._apply_outcome(event, event.status, phase, admitted)

    async def _prepare(
        self, event: EnvelopeEvent, organization: Organization
    ) -> tuple[EnvelopeEvent, Admitted | Outcome | None]:
        """Return what a run needs, or why there is none; None: the event is to queue anew, among its sender's."""
        try:
            sender = await self.preconditions.sender(event, organization)
            if not isinstance(sender, Sender):
                return event, sender
            relabelled = await self._correct_sender_label(event, sender)
            if relabelled is not event:
                # It came up as one of an unknown sender or of another one, so that the limits were not its own.
                return relabelled, None
            return event, await self.preconditions.prepare(event, organization, sender)
        except Exception as problem:
            return event, self._classify(problem, _current_phase(event))

    async def _run_phases(self, event: EnvelopeEvent, admitted: Admitted, phase: Phase) -> EnvelopeEvent:
        """Go from phase to phase until one does not say ``Done``."""
        context = admitted.context
        status = state_machine.with_authorized(
            event.status, context.sender.name, self._transition_input(event)
        )
        while True:
            current = msgspec.structs.replace(event, status=status)
            started = self.clock.now()
            outcome = await self._trace_phase(current, admitted, phase)
            self.metrics.phase_seconds.labels(phase).observe((self.clock.now() - started).total_seconds())
            status = state_machine.next_status(status, phase, outcome, self._transition_input(event))
            self._count(phase, outcome)
            if not isinstance(outcome, Done):
                return await self._persist(event, status, outcome)
            if phase in PERSIST_AFTER:
                event = await self._persist(event, status, outcome)
                status = event.status
            # A person who suspends it in the middle stops it here (the next run says so in the status), and so does one
            # who asks for something, as to skip it.
            if status.phase.is_final or is_suspended(event, self.cache) or has_request(event):
                return event
            phase = state_machine.next_phase(phase)

    async def _trace_phase(self, event: EnvelopeEvent, admitted: Admitted, phase: Phase) -> Outcome:
        """Let a phase do its work, told about in log and trace."""
        attempt, sender = event.status.attempts + 1, admitted.context.sender.name
        with (
            log_context(phase=phase.value, attempt=attempt, sender=sender),
            tracing.span(phase.value, attempt=attempt, sender=sender) as step,
        ):
            outcome = await self._run_phase(event, admitted, phase)
            step.set_attributes(outcome=outcome_label(type(outcome)), reason=outcome.reason)
        return outcome

    async def _run_phase(self, event: EnvelopeEvent, admitted: Admitted, phase: Phase) -> Outcome:
        try:
            outcome = await PHASE_FUNCTIONS[phase](event, admitted.context)
        except PartialArchive as incomplete:
            classified = self._classify(incomplete.__cause__ or incomplete, phase)
            outcome = dataclasses.replace(classified, facts=PhaseFacts(documents=incomplete.documents))
        except Exception as problem:
            outcome = self._classify(problem, phase)
        if isinstance(outcome, NeedConsent):
            await self.sender_keys.refused(admitted.context.sender, admitted.token)
            # In the words of whoever comes next, which name the sender.
            outcome = dataclasses.replace(outcome, message=rejected_message(admitted.context.sender))
        return outcome

    def _classify(self, problem: BaseException, phase: Phase) -> Outcome:
        known_outcome = (
            error_policy.classify(problem, self.clock.now()) if isinstance(problem, Exception) else None
        )
        if known_outcome is not None:
            _log.info("an attempt in %s failed: %s", phase, problem)
            return known_outcome
        _log.error("an attempt in %s broke off", phase, exc_info=problem)
        return Wait(
            "InternalError", "Counterfoil ran into an error of its own; the controller's log has the details."
        )

    async def _apply_outcome(
        self, event: EnvelopeEvent, status: EnvelopeEventStatus, phase: Phase, outcome: Outcome
    ) -> EnvelopeEvent:
        self._count(phase, outcome)
        return await self._persist(
            event, state_machine.next_status(status, phase, outcome, self._transition_input(event)), outcome
        )

    async def _finish_record_only(self, event: EnvelopeEvent) -> EnvelopeEvent:
        recorded = Done(
            "Recorded", f"The action {event.spec.action} is noted down; nothing else is to be done."
        )
        return await self._persist(
            event,
            state_machine.record_only_status(event.status, recorded, self._transition_input(event)),
            recorded,
        )

    async def _persist(
        self, event: EnvelopeEvent, status: EnvelopeEventStatus, outcome: Outcome
    ) -> EnvelopeEvent:
        try:
            stored = await self.status_writer.store(event, status)
        except Rejected as refused:
            # It will never fit as it is; said on top of what is stored, it ends the event and somebody reads it.
            outcome = _rejected_status(status, refused)
            stored = await self._persist_failure(event, outcome)
        self._announce(event, stored, outcome)
        return stored

    async def _persist_failure(self, event: EnvelopeEvent, outcome: Fail) -> EnvelopeEvent:
        phase, inputs = _current_phase(event), self._transition_input(event)
        try:
            return await self.status_writer.store(
                event, state_machine.next_status(event.status, phase, outcome, inputs)
            )
        except Rejected:
            # What is stored leaves no room even for that. The list of files takes nearly all of it, and can be made anew.
            bare = state_machine.without_documents(event.status, outcome, inputs)
            return await self.status_writer.store(
                event, state_machine.next_status(bare, phase, outcome, inputs)
            )

    async def _correct_sender_label(self, event: EnvelopeEvent, sender: Sender) -> EnvelopeEvent:
        """Correct the sender's label, which the receiver set to the organization's default when it noted the event."""
        if event.metadata.labels.get(SENDER_LABEL) == sender.name:
            return event
        try:
            raw = await self.kube.patch(
                EnvelopeEvent,
                event.name,
                {
                    "metadata": {
                        "labels": {SENDER_LABEL: sender.name},
                        "resourceVersion": event.metadata.resource_version,
                    }
                },
            )
        except ApiError as problem:
            # A label for people; the next run sets it. The stale version makes that run's write look closer.
            _log.info("the sender's label could not be set: %s", problem)
            return event
        return EnvelopeEvent.parse(raw)

    def _transition_input(self, event: EnvelopeEvent) -> TransitionInput:
        organization = self.cache.organizations.get(event.organization)
        return TransitionInput(
            now=self.clock.now(),
            generation=event.metadata.generation,
            retry=organization.spec.retry if organization is not None else RetrySpec(),
            random=self.random,
        )

    def _count(self, phase: Phase, outcome: Outcome) -> None:
        self.metrics.attempts.labels(phase, outcome_label(type(outcome)), outcome.reason).inc()

    def _announce(self, before: EnvelopeEvent, stored: EnvelopeEvent, outcome: Outcome) -> None:
        """Announce a transition; equal retries, pauses and the happy path are none."""
        status = stored.status
        if status.phase is Phase.FAILED and status.reason == "DeadlineExceeded":
            self.metrics.retries_exhausted.inc()
        if status.phase.is_final:
            self._observe_duration(stored)
        if isinstance(outcome, Done | Pause) or (before.status.phase, before.status.reason) == (
            status.phase,
            status.reason,
        ):
            return
        warning = isinstance(outcome, Wait | Fail | NeedConsent)
        self.event_recorder.record(
            stored,
            status.reason or outcome.reason,
            status.message or "",
            type_="Warning" if warning else "Normal",
        )

    def _observe_duration(self, stored: EnvelopeEvent) -> None:
        created, completed = stored.metadata.creation_timestamp, stored.status.completed_at
        if created is not None and completed is not None:
            self.metrics.event_seconds.observe(max(0.0, (completed - created).total_seconds()))


def _rejected_status(status: EnvelopeEventStatus, refused: Rejected) -> Fail:
    if isinstance(refused, TooLarge):
        where = (
            "" if is_condition_true(status.conditions, "Cleaned") else " The envelope stays in eSignAnyWhere."
        )
        return Fail("EnvelopeTooLarge", f"{too_many_files_message(len(status.documents))}{where}")
    return Fail("StatusRefused", f"The API server refuses the event's new status: {refused}"[:1000])


def _current_phase(event: EnvelopeEvent) -> Phase:
    return state_machine.phase_to_resume(event.status)
