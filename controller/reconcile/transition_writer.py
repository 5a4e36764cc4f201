"""
Store a new status of an event and announce the transition by metrics, one line in the log, and Kubernetes
Events for people: the only place in a run that does.

A status that the API server refuses would be refused again: the event then fails with what was stored before,
and with the contents that the attempt was sent.
"""

import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from msgspec.structs import replace

from controller.event_recorder import EventRecorder, EventType
from controller.reconcile import state_machine
from controller.reconcile.copy_rules import without_outdated_proofs
from controller.reconcile.outcomes import Done, Fail, NeedConsent, Outcome, Pause, SideCondition, Wait
from controller.reconcile.phases.collect import too_many_files_message
from controller.reconcile.state_machine import TransitionInput
from counterfoil.clock import Clock
from counterfoil.i18n.reasons import Responsible, find_reason
from counterfoil.kube.errors import Rejected, TooLarge
from counterfoil.kube.status import StatusWriter, with_deliveries
from counterfoil.metrics import Metrics
from counterfoil.resources import (
    AttemptOutcome,
    EnvelopeEvent,
    EnvelopeEventStatus,
    Phase,
    find_condition,
    is_condition_true,
    without_checksum,
)
from counterfoil.resources.envelopeevent import COPY_GIVEN_UP, MISSING_COPY_REASONS
from counterfoil.resources.reopening import (
    REDELIVERED,
    copies_after_end,
    is_called_after_end,
    is_open_to_callbacks,
    reopened_status,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransitionWriter:
    """Writes the transitions of events."""

    status_writer: StatusWriter
    event_recorder: EventRecorder
    metrics: Metrics
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
            stored = await self.store_unannounced(event, status, known_deliveries)
        except Rejected as refused:
            # A repeated write would be refused too. The stored status plus this failure ends the event.
            outcome = _rejected_outcome(status, refused)
            known = state_machine.with_contents_of(event.status, status)
            stored = await self._store_refused(event, known, outcome, inputs, known_deliveries)
        self._announce(event.status, stored, outcome)
        return stored

    async def _store_refused(
        self,
        event: EnvelopeEvent,
        known: EnvelopeEventStatus,
        outcome: Fail,
        inputs: TransitionInput,
        known_deliveries: int,
    ) -> EnvelopeEvent:
        """Store the failure of an event whose new status was refused, with as much about its files as the API
        server takes."""
        phase = state_machine.phase_to_resume(event.status)

        async def store(before: EnvelopeEventStatus) -> EnvelopeEvent:
            failed = state_machine.next_status(before, phase, outcome, inputs)
            return await self.store_unannounced(event, failed, known_deliveries)

        if copies_after_end(event.status):
            # Nothing of its end is given up for a copy.
            return await store(known)
        # Names and places of the files take most of the size limit. A retry collects them again.
        bare = state_machine.with_bare_documents(known, outcome, inputs)
        for each in (known, bare):
            with suppress(Rejected):
                return await store(each)
        forgotten = tuple(map(without_checksum, bare.documents))
        return await store(without_outdated_proofs(replace(bare, documents=forgotten)))

    async def store_unannounced(
        self, event: EnvelopeEvent, status: EnvelopeEventStatus, known_deliveries: int
    ) -> EnvelopeEvent:
        """
        Store a status, without an announcement, and return the event as stored. Raises as
        ``StatusWriter.store``.

        A callback during the run may tell of a change after eSAW's answer, and was only counted. So an end
        that a later callback would re-open is re-opened at once.
        """

        def revise(newest: EnvelopeEventStatus) -> EnvelopeEventStatus:
            if not self._is_called_since(event, newest, known_deliveries):
                return newest
            message = f"eSignAnyWhere called again during the attempt that ended as {newest.phase}."
            return reopened_status(newest, reason=REDELIVERED, message=message, now=self.clock.now())

        return await self.status_writer.store(event, status, revise=revise)

    def _is_called_since(
        self, event: EnvelopeEvent, newest: EnvelopeEventStatus, known_deliveries: int
    ) -> bool:
        """
        Whether a callback came that the end of the event did not consider, and re-opens it.

        Counters decide, not clocks. An event that had ended before, and waited for its copies since, knows
        the count of that time.
        """
        if copies_after_end(event.status):
            return is_called_after_end(with_deliveries(event.status, newest), now=self.clock.now())
        return is_open_to_callbacks(newest) and (newest.deliveries or 0) > known_deliveries

    def _announce(self, before: EnvelopeEventStatus, stored: EnvelopeEvent, outcome: Outcome) -> None:
        """
        Announce that an event left the status ``before`` with an outcome.

        Equal retries, pauses and the happy path are no Kubernetes Events, unless a person must act.
        """
        status = stored.status
        # An event that only got a further copy ended before.
        has_failed = status.phase is Phase.FAILED and not copies_after_end(before)
        if has_failed and status.reason == "DeadlineExceeded":
            self.metrics.retries_exhausted.labels(stored.organization).inc()
        if has_failed:
            phase = state_machine.phase_to_resume(status)
            self.metrics.events_failed.labels(stored.organization, phase, status.reason or "").inc()
        if status.phase.is_final:
            if before.completion_time is None or before.completion_time != status.completion_time:
                self._observe_duration(stored)
            fields = {"phase": status.phase.value, "reason": status.reason}
            _log.info("the event ended as %s: %s", status.phase, status.reason, extra=fields)
        if not _has_archived(before) and is_condition_true(status.conditions, "Archived"):
            self._observe_archived(stored)
        self._announce_side_conditions(before, stored, outcome.facts.side_conditions)
        self._announce_missing_copies(before, stored)
        if copies_after_end(before):
            # Its end was announced when it succeeded.
            return
        is_same = (before.phase, before.reason) == (status.phase, status.reason)
        person_acts = find_reason(outcome.reason).responsible is not Responsible.NOBODY
        if is_same or isinstance(outcome, Pause) or (isinstance(outcome, Done) and not person_acts):
            return
        type_: EventType = "Warning" if isinstance(outcome, Done | Wait | Fail | NeedConsent) else "Normal"
        reason, message = status.reason or outcome.reason, status.message or ""
        is_repeated = (before.reason, before.message) == (status.reason, status.message)
        if is_repeated and status.phase is Phase.FAILED:
            # Else the Event would look like the one of the first attempt with this reason.
            message = f"The event failed. {message}"
        self.event_recorder.record(stored, reason, message, type_=type_)

    def _announce_side_conditions(
        self, before: EnvelopeEventStatus, stored: EnvelopeEvent, conditions: Iterable[SideCondition]
    ) -> None:
        """Announce new side conditions on which a person must act, once for each reason."""
        announced = set[str]()
        for each in conditions:
            known = find_condition(before.conditions, each.type)
            is_new = known is None or known.reason != each.reason
            if not is_new or each.reason in announced:
                continue
            if find_reason(each.reason).responsible is not Responsible.NOBODY:
                announced.add(each.reason)
                self.event_recorder.record(stored, each.reason, each.message, type_="Warning")

    def _announce_missing_copies(self, before: EnvelopeEventStatus, stored: EnvelopeEvent) -> None:
        """Announce a copy that fails for another reason than before, or is not tried any more: nothing waits
        for it, so nothing else tells."""
        copied, earlier = (find_condition(each.conditions, "Copied") for each in (stored.status, before))
        if copied is None or copied == earlier or copied.reason not in MISSING_COPY_REASONS:
            return
        known = {each.ref: each.reason for each in before.copies}
        is_new = any(
            each.reason is not None and each.reason != known.get(each.ref) for each in stored.status.copies
        )
        if is_new or copied.reason == COPY_GIVEN_UP:
            self.event_recorder.record(stored, copied.reason, copied.message, type_="Warning")

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
        self.metrics.event_archived_seconds.labels(stored.organization).observe(seconds)


def _has_archived(status: EnvelopeEventStatus) -> bool:
    """Whether archiving ended before, with success or not."""
    return find_condition(status.conditions, "Archived") is not None


def _rejected_outcome(status: EnvelopeEventStatus, refused: Rejected) -> Fail:
    if isinstance(refused, TooLarge):
        is_cleaned = is_condition_true(status.conditions, "Cleaned")
        where = "" if is_cleaned else " The envelope stays in eSignAnyWhere."
        return Fail("EnvelopeTooLarge", f"{too_many_files_message(len(status.documents))}{where}")
    return Fail("StatusRefused", f"The API server refuses the event's new status: {refused}"[:1000])
