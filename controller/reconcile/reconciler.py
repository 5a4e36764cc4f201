"""
Reconcile one event: admit, run phases, persist.

The preconditions admit the event or return an outcome. Each phase returns an outcome; the state machine turns
it into the new status; ``_persist`` stores the status, where the order of the phases requires it, and
announces the transition.

The receiver (deliveries) and ``retry`` are the only other writers of an event's status.
"""

import asyncio
import dataclasses
import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import msgspec

from controller.access.sender_keys import SenderKeys
from controller.cache import Cache
from controller.event_recorder import EventRecorder, EventType
from controller.notices.policy import with_notice
from controller.reconcile import error_policy, state_machine
from controller.reconcile.context import PartialArchive
from controller.reconcile.outcomes import (
    Done,
    Fail,
    NeedConsent,
    Outcome,
    Pause,
    PhaseFacts,
    SideCondition,
    Wait,
    outcome_label,
)
from controller.reconcile.phases import PHASE_FUNCTIONS
from controller.reconcile.phases.collect import too_many_files_message
from controller.reconcile.preconditions import Admitted, Preconditions, RecordOnly, Relabelled
from controller.reconcile.state_machine import PERSIST_AFTER, TransitionInput
from controller.scheduling.backoff import Random
from controller.scheduling.due import has_request, is_suspended
from controller.sharding import LeaseLost
from counterfoil import tracing
from counterfoil.clock import Clock
from counterfoil.i18n.reasons import Responsible, find_reason
from counterfoil.kube.errors import Rejected, TooLarge
from counterfoil.kube.status import StatusWriter, Superseded
from counterfoil.logs import log_context
from counterfoil.metrics import Metrics
from counterfoil.resources import (
    AttemptOutcome,
    EnvelopeEvent,
    EnvelopeEventStatus,
    Phase,
    RetrySpec,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.reopening import PHASES_REOPENED_BY_CALLBACK, reopened_status

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reconciler:
    """Runs the phases of events."""

    cache: Cache
    preconditions: Preconditions
    sender_keys: SenderKeys
    status_writer: StatusWriter
    event_recorder: EventRecorder
    metrics: Metrics
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
        # Before any request: a wrong label of the shard lets the holder of another shard watch the event.
        self.preconditions.held.check(event)
        phase, started = state_machine.phase_to_resume(event.status), self.clock.now()
        is_ours = self._own_versions.pop(event.name, "") == event.metadata.resource_version
        try:
            admitted = await self.preconditions.check(event)
        except Exception as problem:
            admitted = self._classify(problem, phase)
        match admitted:
            case Relabelled():
                return admitted.event
            case RecordOnly():
                message = f"The action {event.spec.action} is recorded; nothing else is needed."
                recorded = Done("Recorded", message)
                inputs = self._transition_input(event)
                status = state_machine.record_only_status(event.status, recorded, inputs)
                return await self._persist(event, status, recorded, event.deliveries)
            case Admitted():
                return await self._run_phases(event, admitted, phase, is_ours=is_ours)
        self._count(phase, admitted)
        inputs = self._transition_input(event, started)
        status = state_machine.next_status(event.status, phase, admitted, inputs)
        event = await self._persist(event, status, admitted, event.deliveries)
        if is_ours:
            self._remember(event)
        return event

    async def _run_phases(
        self, event: EnvelopeEvent, admitted: Admitted, phase: Phase, *, is_ours: bool
    ) -> EnvelopeEvent:
        """Run phase after phase until the outcome is not ``Done``, or the event is finished."""
        if phase is Phase.ARCHIVING and not is_ours:
            # Another process may be in the middle of it, without a Lease.
            event = await admitted.context.fence.claim()
        sender, known_deliveries = admitted.context.sender.name, event.deliveries
        status = state_machine.with_authorized(event.status, sender, self._transition_input(event))
        while True:
            current, started = msgspec.structs.replace(event, status=status), self.clock.now()
            outcome = await self._run_phase(phase, current, admitted)
            self._count(phase, outcome)
            inputs = self._transition_input(event, started)
            status = state_machine.next_status(status, phase, outcome, inputs)
            if phase in PERSIST_AFTER or not isinstance(outcome, Done):
                event = await admitted.context.fence.store(
                    self._persist(event, status, outcome, known_deliveries)
                )
                status = event.status
            if not isinstance(outcome, Done):
                self._remember(event)
                return event
            # A person may suspend the event during a run (the next run reports it) or request a skip.
            if status.phase.is_final or is_suspended(event, self.cache) or has_request(event):
                return event
            phase = state_machine.next_phase(phase)

    def _remember(self, event: EnvelopeEvent) -> None:
        if not event.status.phase.is_final:
            self._own_versions[event.name] = event.metadata.resource_version

    async def _run_phase(self, phase: Phase, current: EnvelopeEvent, admitted: Admitted) -> Outcome:
        """Run a phase, with log context, trace and duration; turn its exceptions into outcomes."""
        attempt, sender = current.status.attempts + 1, admitted.context.sender
        started = self.clock.monotonic()
        with (
            log_context(phase=phase.value, attempt=attempt, sender=sender.name),
            tracing.span(phase.value, attempt=attempt, sender=sender.name) as step,
        ):
            timeout = asyncio.timeout(self._attempt_timeout(current).total_seconds())
            try:
                async with timeout:
                    outcome = await PHASE_FUNCTIONS[phase](current, admitted.context)
            except (Superseded, LeaseLost):
                raise
            except TimeoutError as problem:
                is_overdue = timeout.expired()
                outcome = _overdue(phase, admitted) if is_overdue else self._classify(problem, phase)
            except PartialArchive as incomplete:
                classified = self._classify(incomplete.__cause__ or incomplete, phase)
                outcome = dataclasses.replace(classified, facts=PhaseFacts(documents=incomplete.documents))
            except Exception as problem:
                outcome = self._classify(problem, phase)
            outcome = _with_side_conditions(outcome, admitted.context.side_conditions)
            if isinstance(outcome, NeedConsent):
                await self.sender_keys.refused(sender, admitted.token)
                # The message that later events of this sender get: it names the sender.
                outcome = dataclasses.replace(outcome, message=self.sender_keys.rejected_message(sender))
            elif isinstance(outcome, Wait) and outcome.reason == error_policy.KEY_DOUBTED:
                doubt = self.sender_keys.doubt(sender, admitted.token)
                outcome = dataclasses.replace(outcome, message=str(doubt), not_before=doubt.until)
            elif isinstance(outcome, Done) and phase is Phase.VALIDATING:
                self.sender_keys.accepted(sender)
            step.set_attributes(outcome=outcome_label(type(outcome)), reason=outcome.reason)
        self.metrics.phase_seconds.labels(phase).observe(self.clock.monotonic() - started)
        return outcome

    def _attempt_timeout(self, event: EnvelopeEvent) -> timedelta:
        inputs = self._transition_input(event)
        return state_machine.attempt_timeout(event.status, inputs, self.attempt_timeout)

    def _classify(self, problem: BaseException, phase: Phase) -> Outcome:
        known_outcome = (
            error_policy.classify(problem, self.clock.now()) if isinstance(problem, Exception) else None
        )
        if known_outcome is not None:
            _log.info("an attempt in %s failed: %s", phase, problem)
            return known_outcome
        _log.error("an attempt in %s broke off", phase, exc_info=problem)
        message = "Counterfoil met an internal error; the controller's log has the details."
        return Wait("InternalError", message)

    async def _persist(
        self, event: EnvelopeEvent, status: EnvelopeEventStatus, outcome: Outcome, known_deliveries: int
    ) -> EnvelopeEvent:
        """
        Store a status and announce the transition: the only place that does.

        ``known_deliveries`` is the number of callbacks when the run began.
        """
        try:
            stored = await self._store(event, status, known_deliveries)
        except Rejected as refused:
            # A repeated write would be refused too. The stored status plus this failure ends the event.
            outcome = _rejected_outcome(status, refused)
            phase, inputs = state_machine.phase_to_resume(event.status), self._transition_input(event)
            try:
                failed = state_machine.next_status(event.status, phase, outcome, inputs)
                stored = await self._store(event, failed, known_deliveries)
            except Rejected:
                # Names and places of the files take most of the size limit. A retry collects them again.
                bare = state_machine.with_bare_documents(event.status, outcome, inputs)
                failed = state_machine.next_status(bare, phase, outcome, inputs)
                stored = await self._store(event, failed, known_deliveries)
        self._announce(event.status, stored, outcome)
        return stored

    async def _store(
        self, event: EnvelopeEvent, status: EnvelopeEventStatus, known_deliveries: int
    ) -> EnvelopeEvent:
        """
        Store a status, a final one together with its pending notice: no kill can lose the notice.

        A callback during the run may tell of a change after eSAW's answer, and was only counted. So an end
        that a later callback would re-open is re-opened at once. Counters decide, not clocks.
        """
        organization = self.cache.organizations.get(event.organization)

        def revise(newest: EnvelopeEventStatus) -> EnvelopeEventStatus:
            is_ended = newest.phase in PHASES_REOPENED_BY_CALLBACK
            if not is_ended or (newest.deliveries or 0) <= known_deliveries:
                return newest
            message = f"eSignAnyWhere called again during the attempt that ended as {newest.phase}."
            return reopened_status(newest, reason="Redelivered", message=message, now=self.clock.now())

        return await self.status_writer.store(event, with_notice(event, status, organization), revise=revise)

    def _transition_input(
        self, event: EnvelopeEvent, attempt_start: datetime | None = None
    ) -> TransitionInput:
        organization = self.cache.organizations.get(event.organization)
        return TransitionInput(
            now=self.clock.now(),
            generation=event.metadata.generation,
            retry=organization.spec.retry if organization is not None else RetrySpec(),
            random=self.random,
            attempt_start=attempt_start,
        )

    def _count(self, phase: Phase, outcome: Outcome) -> None:
        self.metrics.attempts.labels(phase, outcome_label(type(outcome)), outcome.reason).inc()

    def _announce(self, before: EnvelopeEventStatus, stored: EnvelopeEvent, outcome: Outcome) -> None:
        """Announce a transition; equal retries, pauses and the happy path are none, unless a person must
        act."""
        status = stored.status
        if status.phase is Phase.FAILED and status.reason == "DeadlineExceeded":
            self.metrics.retries_exhausted.labels(stored.organization).inc()
        if status.phase is Phase.FAILED:
            phase = state_machine.phase_to_resume(status)
            self.metrics.events_failed.labels(stored.organization, phase, status.reason or "").inc()
        if status.phase.is_final:
            self._observe_duration(stored)
            fields = {"phase": status.phase.value, "reason": status.reason}
            _log.info("the event ended as %s: %s", status.phase, status.reason, extra=fields)
        if not _has_archived(before) and is_condition_true(status.conditions, "Archived"):
            self._observe_archived(stored)
        for side_condition in outcome.facts.side_conditions:
            self._announce_side_condition(before, stored, side_condition)
        is_same = (before.phase, before.reason) == (status.phase, status.reason)
        person_acts = find_reason(outcome.reason).responsible is not Responsible.NOBODY
        if is_same or isinstance(outcome, Pause) or (isinstance(outcome, Done) and not person_acts):
            return
        type_: EventType = "Warning" if isinstance(outcome, Done | Wait | Fail | NeedConsent) else "Normal"
        reason, message = status.reason or outcome.reason, status.message or ""
        self.event_recorder.record(stored, reason, message, type_=type_)

    def _announce_side_condition(
        self, before: EnvelopeEventStatus, stored: EnvelopeEvent, condition: SideCondition
    ) -> None:
        """Announce a new side condition on which a person must act."""
        if find_reason(condition.reason).responsible is Responsible.NOBODY:
            return
        known = find_condition(before.conditions, condition.type)
        if known is None or known.reason != condition.reason:
            self.event_recorder.record(stored, condition.reason, condition.message, type_="Warning")

    def _observe_duration(self, stored: EnvelopeEvent) -> None:
        created, completed = stored.metadata.creation_timestamp, stored.status.completion_time
        if created is not None and completed is not None:
            seconds = max(0.0, (completed - created).total_seconds())
            self.metrics.event_seconds.labels(stored.organization).observe(seconds)

    def _observe_archived(self, stored: EnvelopeEvent) -> None:
        """Observe the time until the archive was complete; not of an event that waited for a consent, nor of
        one that failed before, which is counted as failed."""
        status, created = stored.status, stored.metadata.creation_timestamp
        outcomes = {each.outcome for each in status.attempt_history}
        if created is None or outcomes & {AttemptOutcome.NEED_CONSENT, AttemptOutcome.FAIL}:
            return
        finished = status.envelope.finished_time if status.envelope is not None else None
        begin = created if finished is None else max(created, finished)
        seconds = max(0.0, (self.clock.now() - begin).total_seconds())
        self.metrics.archived_seconds.labels(stored.organization).observe(seconds)


def _with_side_conditions(outcome: Outcome, found: list[SideCondition]) -> Outcome:
    """Return the outcome with the conditions that its phase found before; its own are newer."""
    own = outcome.facts.side_conditions
    earlier = tuple(each for each in found if each.type not in {known.type for known in own})
    if not earlier:
        return outcome
    facts = dataclasses.replace(outcome.facts, side_conditions=(*earlier, *own))
    return dataclasses.replace(outcome, facts=facts)


def _has_archived(status: EnvelopeEventStatus) -> bool:
    """Whether archiving ended before, with success or not."""
    return find_condition(status.conditions, "Archived") is not None


def _overdue(phase: Phase, admitted: Admitted) -> Wait:
    """Return the outcome of an attempt that was ended, although no single transfer was too slow."""
    archive = admitted.context.archive.name
    message = (
        f"The attempt in {phase} did not end in time. All that it waited for is eSignAnyWhere and "
        f"Archive/{archive}; one of them is slow. The files that arrived stay in the archive."
    )
    _log.warning("an attempt in %s was ended: it was overdue", phase)
    return Wait("AttemptOverdue", message)


def _rejected_outcome(status: EnvelopeEventStatus, refused: Rejected) -> Fail:
    if isinstance(refused, TooLarge):
        is_cleaned = is_condition_true(status.conditions, "Cleaned")
        where = "" if is_cleaned else " The envelope stays in eSignAnyWhere."
        return Fail("EnvelopeTooLarge", f"{too_many_files_message(len(status.documents))}{where}")
    return Fail("StatusRefused", f"The API server refuses the event's new status: {refused}"[:1000])
