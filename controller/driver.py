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

from controller import transitions, verdicts
from controller.announce import Announcer
from controller.backoff import Random
from controller.clerk import Clerk
from controller.desk import PartlyDone
from controller.keyring import Keyring, rejected
from controller.office import Office
from controller.outcomes import Done, Facts, Fail, NeedConsent, Outcome, Pause, Wait, label
from controller.phases import WORK
from controller.phases.collect import no_room_for
from controller.reception import Reception, Recorded, Seated
from controller.transitions import STORED_AFTER, Circumstances
from controller.waiting import is_asked_about, is_held
from counterfoil import tracing
from counterfoil.clock import Clock
from counterfoil.cluster import ApiProblem, Cluster, Refused, TooLarge
from counterfoil.logs import about
from counterfoil.metrics import Metrics
from counterfoil.resources import (
    SENDER_LABEL,
    EnvelopeEvent,
    EnvelopeEventStatus,
    Organization,
    Phase,
    Retry,
    Sender,
    is_true,
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Driver:
    """Takes events through their phases."""

    cluster: Cluster
    office: Office
    reception: Reception
    keyring: Keyring
    clerk: Clerk
    announcer: Announcer
    metrics: Metrics
    clock: Clock
    random: Random

    async def drive(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """
        Work on the event as far as it goes now, and return its new state.

        Raises ``ApiProblem`` when its state could not be stored (it is then as it was), and ``Overtaken`` when
        somebody else changed it.
        """
        organization = self.reception.standing(event)
        if isinstance(organization, Recorded):
            return await self._record(event)
        if not isinstance(organization, Organization):
            return await self._conclude(event, event.status, _phase_of(event), organization)
        phase = _phase_of(event)
        event, seated = await self._seat(event, organization)
        if seated is None:
            return event
        if isinstance(seated, Seated):
            return await self._climb(event, seated, phase)
        return await self._conclude(event, event.status, phase, seated)

    async def _seat(
        self, event: EnvelopeEvent, organization: Organization
    ) -> tuple[EnvelopeEvent, Seated | Outcome | None]:
        """Return what a run needs, or why there is none; None: the event is to queue anew, among its sender's."""
        try:
            sender = await self.reception.sender(event, organization)
            if not isinstance(sender, Sender):
                return event, sender
            labelled = await self._labelled(event, sender)
            if labelled is not event:
                # It came up as one of an unknown sender or of another one, so that the limits were not its own.
                return labelled, None
            return event, await self.reception.seat(event, organization, sender)
        except Exception as problem:
            return event, self._judged(problem, _phase_of(event))

    async def _climb(self, event: EnvelopeEvent, seated: Seated, phase: Phase) -> EnvelopeEvent:
        """Go from phase to phase until one does not say ``Done``."""
        desk = seated.desk
        status = transitions.authorized(event.status, desk.sender.name, self._circumstances(event))
        while True:
            current = msgspec.structs.replace(event, status=status)
            started = self.clock.now()
            outcome = await self._attempt(current, seated, phase)
            self.metrics.phase_seconds.labels(phase).observe((self.clock.now() - started).total_seconds())
            status = transitions.after(status, phase, outcome, self._circumstances(event))
            self._count(phase, outcome)
            if not isinstance(outcome, Done):
                return await self._stored(event, status, outcome)
            if phase in STORED_AFTER:
                event = await self._stored(event, status, outcome)
                status = event.status
            # A person who suspends it in the middle stops it here (the next run says so in the status), and so does one
            # who asks for something, as to skip it.
            if status.phase.is_final or is_held(event, self.office) or is_asked_about(event):
                return event
            phase = transitions.following(phase)

    async def _attempt(self, event: EnvelopeEvent, seated: Seated, phase: Phase) -> Outcome:
        """Let a phase do its work, told about in log and trace."""
        attempt, sender = event.status.attempts + 1, seated.desk.sender.name
        with (
            about(phase=phase.value, attempt=attempt, sender=sender),
            tracing.span(phase.value, attempt=attempt, sender=sender) as step,
        ):
            outcome = await self._outcome(event, seated, phase)
            step.tell(outcome=label(type(outcome)), reason=outcome.reason)
        return outcome

    async def _outcome(self, event: EnvelopeEvent, seated: Seated, phase: Phase) -> Outcome:
        try:
            outcome = await WORK[phase](event, seated.desk)
        except PartlyDone as partly:
            judged = self._judged(partly.__cause__ or partly, phase)
            outcome = dataclasses.replace(judged, facts=Facts(documents=partly.documents))
        except Exception as problem:
            outcome = self._judged(problem, phase)
        if isinstance(outcome, NeedConsent):
            await self.keyring.refused(seated.desk.sender, seated.token)
            # In the words of whoever comes next, which name the sender.
            outcome = dataclasses.replace(outcome, message=rejected(seated.desk.sender))
        return outcome

    def _judged(self, problem: BaseException, phase: Phase) -> Outcome:
        verdict = verdicts.judge(problem, self.clock.now()) if isinstance(problem, Exception) else None
        if verdict is not None:
            _log.info("an attempt in %s failed: %s", phase, problem)
            return verdict
        _log.error("an attempt in %s broke off", phase, exc_info=problem)
        return Wait(
            "InternalError", "Counterfoil ran into an error of its own; the controller's log has the details."
        )

    async def _conclude(
        self, event: EnvelopeEvent, status: EnvelopeEventStatus, phase: Phase, outcome: Outcome
    ) -> EnvelopeEvent:
        self._count(phase, outcome)
        return await self._stored(
            event, transitions.after(status, phase, outcome, self._circumstances(event)), outcome
        )

    async def _record(self, event: EnvelopeEvent) -> EnvelopeEvent:
        recorded = Done(
            "Recorded", f"The action {event.spec.action} is noted down; nothing else is to be done."
        )
        return await self._stored(
            event, transitions.recorded(event.status, recorded, self._circumstances(event)), recorded
        )

    async def _stored(
        self, event: EnvelopeEvent, status: EnvelopeEventStatus, outcome: Outcome
    ) -> EnvelopeEvent:
        try:
            stored = await self.clerk.store(event, status)
        except Refused as refused:
            # It will never fit as it is; said on top of what is stored, it ends the event and somebody reads it.
            outcome = _refusal(status, refused)
            stored = await self._ended(event, outcome)
        self._tell(event, stored, outcome)
        return stored

    async def _ended(self, event: EnvelopeEvent, outcome: Fail) -> EnvelopeEvent:
        phase, at = _phase_of(event), self._circumstances(event)
        try:
            return await self.clerk.store(event, transitions.after(event.status, phase, outcome, at))
        except Refused:
            # What is stored leaves no room even for that. The list of files takes nearly all of it, and can be made anew.
            bare = transitions.unlisted(event.status, outcome, at)
            return await self.clerk.store(event, transitions.after(bare, phase, outcome, at))

    async def _labelled(self, event: EnvelopeEvent, sender: Sender) -> EnvelopeEvent:
        """Correct the sender's label, which the receiver set to the organization's default when it noted the event."""
        if event.metadata.labels.get(SENDER_LABEL) == sender.name:
            return event
        try:
            raw = await self.cluster.patch(
                EnvelopeEvent,
                event.name,
                {
                    "metadata": {
                        "labels": {SENDER_LABEL: sender.name},
                        "resourceVersion": event.metadata.resource_version,
                    }
                },
            )
        except ApiProblem as problem:
            # A label for people; the next run sets it. The stale version makes that run's write look closer.
            _log.info("the sender's label could not be set: %s", problem)
            return event
        return EnvelopeEvent.parse(raw)

    def _circumstances(self, event: EnvelopeEvent) -> Circumstances:
        organization = self.office.organizations.get(event.organization)
        return Circumstances(
            now=self.clock.now(),
            generation=event.metadata.generation,
            retry=organization.spec.retry if organization is not None else Retry(),
            random=self.random,
        )

    def _count(self, phase: Phase, outcome: Outcome) -> None:
        self.metrics.attempts.labels(phase, label(type(outcome)), outcome.reason).inc()

    def _tell(self, before: EnvelopeEvent, stored: EnvelopeEvent, outcome: Outcome) -> None:
        """Announce a transition; equal retries, pauses and the happy path are none."""
        status = stored.status
        if status.phase is Phase.FAILED and status.reason == "DeadlineExceeded":
            self.metrics.retries_exhausted.inc()
        if status.phase.is_final:
            self._time(stored)
        if isinstance(outcome, Done | Pause) or (before.status.phase, before.status.reason) == (
            status.phase,
            status.reason,
        ):
            return
        warning = isinstance(outcome, Wait | Fail | NeedConsent)
        self.announcer.tell(
            stored,
            status.reason or outcome.reason,
            status.message or "",
            type_="Warning" if warning else "Normal",
        )

    def _time(self, stored: EnvelopeEvent) -> None:
        created, completed = stored.metadata.creation_timestamp, stored.status.completed_at
        if created is not None and completed is not None:
            self.metrics.event_seconds.observe(max(0.0, (completed - created).total_seconds()))


def _refusal(status: EnvelopeEventStatus, refused: Refused) -> Fail:
    if isinstance(refused, TooLarge):
        where = "" if is_true(status.conditions, "Cleaned") else " The envelope stays in eSignAnyWhere."
        return Fail("EnvelopeTooLarge", f"{no_room_for(len(status.documents))}{where}")
    return Fail("StatusRefused", f"The API server refuses the event's new status: {refused}"[:1000])


def _phase_of(event: EnvelopeEvent) -> Phase:
    return transitions.resume_at(event.status)
