"""
The state machine of an event as one pure function: status, phase, outcome and time -> the new status.

Also here: the order of the phases, the condition that each phase sets, the phase to resume after a restart,
and the phases after which the status must be stored before the next phase starts.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import msgspec

from controller.outgoing_webhook.policy import with_notice
from controller.reconcile.copy_rules import (
    copies_of_ended,
    end_of_copies,
    is_given_up,
    is_put_off,
    without_copies,
    without_outdated_proofs,
)
from controller.reconcile.error_policy import KEY_DOUBTED
from controller.reconcile.outcomes import (
    Done,
    Fail,
    Hold,
    NeedConsent,
    Outcome,
    Pause,
    PhaseFacts,
    SideCondition,
    Skip,
    Wait,
)
from controller.scheduling import retry_policy
from controller.scheduling.due import WAITING_FOR_ARCHIVE, delete_due
from counterfoil.readiness import is_stalled
from counterfoil.resources import (
    MAX_ATTEMPT_HISTORY,
    MAX_MESSAGE_LENGTH,
    PHASE_CONDITIONS,
    Attempt,
    AttemptOutcome,
    EnvelopeEvent,
    EnvelopeEventStatus,
    EventCopy,
    FiledDocument,
    LastError,
    Organization,
    Phase,
    RetrySpec,
    find_condition,
    is_condition_true,
    kept_without_success,
    with_condition,
)
from counterfoil.resources.conditions import (
    ConditionStatus,
    with_changes,
    with_generation,
    with_summary,
)
from counterfoil.resources.envelopeevent import (
    ENVELOPE_NOT_FOUND,
    EVIDENCE_CONDITION,
    MISSING_COPY_REASONS,
    RESTART_CONDITION,
)
from counterfoil.resources.reopening import (
    are_copies_requested,
    copies_after_end,
    is_question_unanswered,
    with_kept_end,
    with_short_list,
)
from counterfoil.resources.routes import (
    has_earlier_places,
    is_copying_done,
    is_copying_next,
    required_copy_names,
    without_old_choice,
)
from counterfoil.retention import asks_before_copies, question_time

PHASE_ORDER = tuple(PHASE_CONDITIONS)

PERSIST_AFTER = frozenset({Phase.COLLECTING, Phase.ARCHIVING, Phase.COPYING, Phase.CLEANING})
"""
Collecting: the names in the archive are claimed, so that a later run distinguishes its own partial work from
the file of a third party. Archiving and Copying: rule 4, the proofs must be in the API server before the
delete. Cleaning: the event ends.
"""

_END_OUTCOMES: Final[Mapping[Phase, type[Done | Skip | Fail]]] = {
    Phase.SUCCEEDED: Done,
    Phase.SKIPPED: Skip,
    Phase.FAILED: Fail,
}


_LOST: Final = "Files were lost after they were archived: "
_BEFORE: Final = " Before that: "
"""The message of the condition Archived after its files were lost: these, the loss between them, and the
earlier message."""

LAST_ATTEMPT = timedelta(minutes=10)
"""Duration that an attempt may have at least, also after the deadline of its phase: each event is tried
before it fails."""


@dataclass(frozen=True)
class TransitionInput:
    """The input of a transition, in addition to the status and the outcome."""

    now: datetime
    generation: int
    retry: RetrySpec
    random: retry_policy.Random
    attempt_start: datetime | None = None
    """Start of the attempt that ended with the outcome; None: now."""
    lead: timedelta = timedelta(0)
    """Time by which now, and so the start, may be earlier by another API server's clock."""
    event: EnvelopeEvent | None = None
    """The event, for the notice of its end; None: it gets no notice."""
    organization: Organization | None = None
    """Its Organization, which may want the notice."""


def phase_to_resume(status: EnvelopeEventStatus) -> Phase:
    """Return the phase to work on: the first whose condition is not True. Copying comes only where copies are
    open."""
    if is_copying_next(status):
        return Phase.COPYING
    others = (phase for phase in PHASE_ORDER if phase is not Phase.COPYING)
    conditions = status.conditions
    unfinished = (each for each in others if not is_condition_true(conditions, PHASE_CONDITIONS[each]))
    return next(unfinished, Phase.CLEANING)


def phase_start(status: EnvelopeEventStatus, inputs: TransitionInput) -> datetime:
    """Return when the deadline of the present phase begins to run: not before the delete is due, and without
    a time in which the event was queued for room in an Archive, or in which the controller did not run."""
    started, due = _stored_start(status, inputs), status.next_attempt_time
    # Until the start of the attempt: its own duration counts, or attempts of hours would have no deadline.
    began = inputs.attempt_start or inputs.now
    is_queued = status.reason == WAITING_FOR_ARCHIVE
    if due is not None and began - due > (timedelta(0) if is_queued else retry_policy.DOWNTIME):
        started = min(started + (began - due), inputs.now)
    return max(started, _delete_due(status, inputs) or started)


def _start_without_run(status: EnvelopeEventStatus, inputs: TransitionInput) -> datetime:
    """Return when the deadline begins to run if the run that ends now is no part of it."""
    lasted = inputs.now - (inputs.attempt_start or inputs.now)
    return min(phase_start(status, inputs) + lasted, inputs.now)


def _delete_due(status: EnvelopeEventStatus, inputs: TransitionInput) -> datetime | None:
    """Return when the delete of an archived envelope is due. An attempt before that only asks whether an
    expired envelope was restarted."""
    event, organization = inputs.event, inputs.organization
    if event is None or organization is None or phase_to_resume(status) is not Phase.CLEANING:
        return None
    return delete_due(msgspec.structs.replace(event, status=status), organization.spec, inputs.now)


def _stored_start(status: EnvelopeEventStatus, inputs: TransitionInput) -> datetime:
    # Not later than now, since a clock that was ahead may have written it.
    return min(status.phase_start_time or inputs.now, inputs.now)


def attempt_timeout(status: EnvelopeEventStatus, inputs: TransitionInput, longest: timedelta) -> timedelta:
    """Return the maximum duration of an attempt that begins now: not beyond the deadline of its phase, which
    an event with an open question does not have."""
    if is_question_unanswered(status):
        return longest
    deadline = phase_start(status, inputs) + timedelta(seconds=inputs.retry.deadline.total_seconds())
    return min(longest, max(deadline - inputs.now, LAST_ATTEMPT))


def next_phase(phase: Phase, status: EnvelopeEventStatus) -> Phase:
    """
    Return the phase after this one, by the status after it; ``Succeeded`` after the last.

    Copying is left out without open copies. After it, an event that had ended before is at its end: eSAW
    is not asked again for copies that were added later.
    """
    following = PHASE_ORDER[PHASE_ORDER.index(phase) + 1 :]
    if copies_after_end(status):
        following = ()
    elif following[:1] == (Phase.COPYING,) and is_copying_done(status):
        following = following[1:]
    return next(iter(following), Phase.SUCCEEDED)


def next_status(
    status: EnvelopeEventStatus, phase: Phase, outcome: Outcome, inputs: TransitionInput
) -> EnvelopeEventStatus:
    """
    Return the status after ``phase`` ended with ``outcome``, with the attempt in its history.

    A final status has its pending notice: no kill can lose the notice.
    """
    after = _without_old_question(_status_after(status, phase, outcome, inputs), outcome)
    # An equal outcome without a change must not cost a write.
    if after == status:
        return after
    if copies_after_end(status):
        # The notice of an event that only got a further copy was given when it succeeded, and its history is
        # that of its envelope.
        return after
    attempted = _failed_if_late(outcome, status, inputs)
    return _noticed(_with_attempt(after, phase, attempted, inputs), inputs)


def _noticed(status: EnvelopeEventStatus, inputs: TransitionInput) -> EnvelopeEventStatus:
    if inputs.event is None:
        return status
    return with_notice(inputs.event, status, inputs.organization)


def _with_attempt(
    status: EnvelopeEventStatus, phase: Phase, outcome: Outcome, inputs: TransitionInput
) -> EnvelopeEventStatus:
    """Return the status with one more attempt; a pause and a suspension are no attempts."""
    if isinstance(outcome, Pause | Hold):
        return status
    started = inputs.attempt_start or inputs.now
    attempt = Attempt(
        phase=phase,
        # The earliest time that it can be: a later callback may re-open the event.
        start_time=(started - inputs.lead).replace(microsecond=0),
        duration_seconds=max(0, round((inputs.now - started).total_seconds())),
        outcome=AttemptOutcome(type(outcome).__name__),
        reason=outcome.reason,
    )
    history = (*status.attempt_history, attempt)[-MAX_ATTEMPT_HISTORY:]
    return msgspec.structs.replace(status, attempt_history=history)


def _status_after(
    status: EnvelopeEventStatus, phase: Phase, outcome: Outcome, inputs: TransitionInput
) -> EnvelopeEventStatus:
    outcome = dataclasses.replace(outcome, message=outcome.message[:MAX_MESSAGE_LENGTH])
    if copies_after_end(status):
        outcome = end_of_copies(status, outcome, inputs.organization, now=inputs.now)
    outcome = _while_question_is_open(outcome)
    draft = _Draft(without_old_choice(with_short_list(status, now=inputs.now)), inputs)
    draft.add_facts(outcome.facts)
    if outcome.reason == KEY_DOUBTED:
        draft.set_condition("Authorized", "Unknown", outcome)
    match outcome:
        case Done():
            draft.complete_phase(phase, outcome)
        case Wait():
            draft.wait(phase, outcome)
        case Pause():
            # The deadline does not run while it is too early, nor while a person suspends the event. But a
            # wait for room between two failures begins no new one, or they alternate without an end.
            is_between = outcome.reason == WAITING_FOR_ARCHIVE and status.attempts > 0
            started = _start_without_run(status, inputs) if is_between else None
            draft.not_ready(phase, outcome, next_attempt_time=outcome.until)
            draft.change(phase_start_time=started)
            if outcome.is_shown:
                draft.end_row_of_not_found()
        case Hold():
            draft.not_ready(phase, outcome, next_attempt_time=None)
            draft.change(phase_start_time=None)
            if outcome.of_copies:
                draft.plan_question(outcome)
        case NeedConsent():
            draft.not_ready(Phase.AWAITING_CONSENT, outcome, next_attempt_time=None)
            draft.set_condition("Authorized", "False", outcome)
            draft.change(attempts=0, phase_start_time=None)
        case Skip():
            # The results of all phases are void: a new delivery starts with the first phase.
            draft.reset_phases(PHASE_ORDER, outcome)
            draft.finish(Phase.SKIPPED, phase, outcome)
        case Fail():
            draft.finish(Phase.FAILED, phase, outcome)
    return draft.status


def _while_question_is_open(outcome: Outcome) -> Outcome:
    """Return a failure of copies as a wait while eSAW may still tell of a signature. Its attempt is a failed
    one in the history, so that people are notified."""
    if not isinstance(outcome, Fail) or not outcome.facts.is_question_open:
        return outcome
    return Wait(outcome.reason, outcome.message, facts=outcome.facts)


def _without_old_question(status: EnvelopeEventStatus, outcome: Outcome) -> EnvelopeEventStatus:
    """Return the status without the condition about a question that eSAW answered, or that nothing asks now.
    Of an outcome without a question, the earlier condition stays."""
    if outcome.facts.is_question_open is not False and status.phase is Phase.COPYING:
        return status
    kept = tuple(each for each in status.conditions if each.type != RESTART_CONDITION)
    return msgspec.structs.replace(status, conditions=kept)


def _failed_if_late(outcome: Outcome, status: EnvelopeEventStatus, inputs: TransitionInput) -> Outcome:
    """Return a wait of copies as a failure if the event would have failed at its deadline without the open
    question: people are notified as of one."""
    if not isinstance(outcome, Wait) or not outcome.facts.is_question_open:
        return outcome
    started = phase_start(status, inputs)
    is_late = retry_policy.is_deadline_exceeded(started, inputs.retry, now=inputs.now)
    return Fail(outcome.reason, outcome.message) if is_late else outcome


def record_only_status(
    status: EnvelopeEventStatus, outcome: Done, inputs: TransitionInput
) -> EnvelopeEventStatus:
    """Return the final status of an event that is only recorded."""
    draft = _Draft(status, inputs)
    draft.finish(Phase.SUCCEEDED, Phase.VALIDATING, outcome)
    return _noticed(draft.status, inputs)


def with_authorized(status: EnvelopeEventStatus, sender: str, inputs: TransitionInput) -> EnvelopeEventStatus:
    """Return the status with the ``Authorized`` condition True: this sender's key is in use."""
    key_accepted = Done("KeyAccepted", f"The key of Sender/{sender} is accepted by eSignAnyWhere.")
    found = find_condition(status.conditions, "Authorized")
    if found is not None and found.status == "True" and found.message == key_accepted.message:
        return status
    draft = _Draft(status, inputs)
    draft.set_condition("Authorized", "True", key_accepted)
    return draft.status


def with_contents_of(status: EnvelopeEventStatus, later: EnvelopeEventStatus) -> EnvelopeEventStatus:
    """Return the status with the contents that a later one has of its files, archived or only sent. Of a file
    of which the later one has none, the earlier one stays."""
    found = {(each.file_id, each.kind): each for each in later.documents}
    documents = tuple(
        _with_content_of(each, found.get((each.file_id, each.kind))) for each in status.documents
    )
    return without_outdated_proofs(msgspec.structs.replace(status, documents=documents))


def _with_content_of(document: FiledDocument, later: FiledDocument | None) -> FiledDocument:
    if later is None or (later.sha256 is None and later.other_content is None):
        return document
    return msgspec.structs.replace(
        document,
        size=later.size,
        sha256=later.sha256,
        provisional=later.provisional,
        other_content=later.other_content,
    )


def with_bare_documents(
    status: EnvelopeEventStatus, outcome: Fail, inputs: TransitionInput
) -> EnvelopeEventStatus:
    """
    Return the status without the names and the places of its files, so that a retry collects again.

    The ids stay, because a later list must not lack them. So do the contents, because no shorter download may
    replace them.
    """
    draft = _Draft(status, inputs)
    draft.reset_phases(PHASE_ORDER[PHASE_ORDER.index(Phase.COLLECTING) :], outcome)
    bare = (msgspec.structs.replace(each, file_name="", location=None) for each in status.documents)
    draft.change(documents=tuple(bare))
    return draft.status


def with_shortened_list(
    status: EnvelopeEventStatus, reason: str, message: str, *, now: datetime, generation: int
) -> EnvelopeEventStatus:
    """
    Return the status of an event that ends so, without the entries of a long list that are not archived.

    The next attempt lists the files again. It does not know the removed ones, so it waits as after a list
    that was short.
    """
    known, kept = status.documents, kept_without_success(status.documents)
    if len(kept) == len(known):
        return status
    conditions, change = status.conditions, partial(with_condition, now=now, generation=generation)
    for type_ in (PHASE_CONDITIONS[each] for each in PHASE_ORDER[PHASE_ORDER.index(Phase.COLLECTING) :]):
        if is_condition_true(conditions, type_):
            conditions = change(conditions, type_, "False", reason, message)
    evidence = find_condition(conditions, EVIDENCE_CONDITION)
    if evidence is None or evidence.status != "False":
        removed = (
            f"{len(known) - len(kept)} of {len(known)} listed files are not archived, and this status no "
            "longer has them, because the list is long. The next attempt lists the files again."
        )
        conditions = change(conditions, EVIDENCE_CONDITION, "Unknown", "DocumentsPending", removed)
    return msgspec.structs.replace(status, documents=kept, conditions=conditions)


@dataclass
class _Draft:
    """The status that one transition builds."""

    status: EnvelopeEventStatus
    inputs: TransitionInput

    def change(self, **fields: Any) -> None:
        """Replace fields. A proof of a copy does not outlive the files that it names."""
        self.status = msgspec.structs.replace(self.status, **fields)
        if "documents" in fields:
            self.status = without_outdated_proofs(self.status)

    def enter(self, phase: Phase, reason: str | None, message: str | None, **fields: Any) -> None:
        """Set the phase and its reason, and replace fields."""
        started, generation = self.status.start_time or self.inputs.now, self.inputs.generation
        self.change(phase=phase, reason=reason, message=message, **fields)
        # The spec of an event changes in spec.suspend only, so each earlier condition stays true. kubectl
        # wait ignores one of an older generation.
        conditions = with_generation(self.status.conditions, generation)
        self.change(start_time=started, observed_generation=generation, conditions=conditions)

    def set_condition(self, type_: str, truth: ConditionStatus, statement: Outcome | SideCondition) -> None:
        """Set a condition to the reason and message of an outcome."""
        known, reason, message = self.status.conditions, statement.reason, statement.message
        now, generation = self.inputs.now, self.inputs.generation
        conditions = with_condition(known, type_, truth, reason, message, now=now, generation=generation)
        self.change(conditions=conditions)

    def set_ready(self, truth: ConditionStatus, outcome: Outcome) -> None:
        """Set the summary: ``Ready``, and ``Stalled``, which tells whether a person has to act."""
        conditions = with_summary(
            self.status.conditions,
            truth,
            outcome.reason,
            outcome.message,
            is_stalled=isinstance(outcome, Hold | NeedConsent | Fail) or is_stalled(truth, outcome.reason),
            now=self.inputs.now,
            generation=self.inputs.generation,
        )
        self.change(conditions=conditions)

    def add_facts(self, facts: PhaseFacts) -> None:
        """Add what the phase determined; None leaves the stored value."""
        for side_condition in facts.side_conditions:
            self.set_condition(side_condition.type, side_condition.status, side_condition)
        found = {
            "envelope": facts.envelope,
            "documents": facts.documents,
            "archive": facts.archive,
            "copies": facts.copies,
            "mismatches": facts.mismatches,
            "considered_deliveries": facts.considered_deliveries,
            "not_shown_to": facts.not_shown_to,
        }
        self.change(**{field: value for field, value in found.items() if value is not None})
        if facts.awaited_archive is not msgspec.UNSET:
            self.change(awaited_archive=facts.awaited_archive)
        if facts.copies is not None:
            self.plan_copies()

    def complete_phase(self, phase: Phase, outcome: Done) -> None:
        """
        Move to the next phase, or finish after the last one.

        A phase that is repeated after a restart leaves its attempts and its deadline to the next phase: an
        event whose files change all the time comes to an end.
        """
        earlier = find_condition(self.status.conditions, PHASE_CONDITIONS[phase])
        is_repeated = earlier is not None and earlier.status == "False"
        if phase is Phase.COPYING:
            # Its condition is False while a copy is missing, too.
            is_repeated = self._was_archived_again()
            outcome = without_copies(outcome, self.status, self.inputs.organization, self.inputs.retry)
        is_complete = outcome.reason not in MISSING_COPY_REASONS
        self.set_condition(PHASE_CONDITIONS[phase], "True" if is_complete else "False", outcome)
        if phase is Phase.CLEANING:
            self.describe_archived(lost="")
        if copies_after_end(self.status):
            self.end_as_before()
            return
        upcoming_phase = next_phase(phase, self.status)
        if upcoming_phase is Phase.SUCCEEDED:
            self.finish(Phase.SUCCEEDED, phase, outcome)
            return
        self.set_ready("False", Done("InProgress", f"The event is {upcoming_phase}."))
        attempts = self.status.attempts if is_repeated else 0
        started = phase_start(self.status, self.inputs) if is_repeated else self.inputs.now
        counters = {"attempts": attempts, "next_attempt_time": None, "phase_start_time": started}
        self.enter(upcoming_phase, None, None, **counters)

    def describe_archived(self, *, lost: str) -> None:
        """
        Say in the message of the condition Archived that files were lost, or (empty) that they are there.

        The condition stays True with its time: the envelope was archived, and nothing may be archived or
        deleted again because of the loss.
        """
        archived = find_condition(self.status.conditions, PHASE_CONDITIONS[Phase.ARCHIVING])
        if archived is None or archived.status != "True":
            return
        message = archived.message
        if message.startswith(_LOST):
            message = message.partition(_BEFORE)[2]
        if lost:
            # A long message of either is cut, and both can be read.
            message = f"{_LOST}{lost[: MAX_MESSAGE_LENGTH // 2]}{_BEFORE}{message}"[:MAX_MESSAGE_LENGTH]
        self.change(conditions=with_changes(self.status.conditions, archived.type, message=message))

    def end_as_before(self) -> None:
        """End an event that makes further copies as before, with its time and its late list."""
        kept = with_kept_end(self.status)
        final = kept.phase if kept.phase.is_final else Phase.SUCCEEDED
        outcome = _END_OUTCOMES[final](kept.reason or "", kept.message or "")
        self.set_ready("False" if final is Phase.FAILED else "True", outcome)
        self.enter(final, kept.reason, kept.message, next_attempt_time=self.status.next_attempt_time)

    def _was_archived_again(self) -> bool:
        """Whether the deadline began before the envelope was archived last: it was archived again since."""
        archived = find_condition(self.status.conditions, PHASE_CONDITIONS[Phase.ARCHIVING])
        began = self.status.phase_start_time
        return archived is not None and began is not None and began < archived.last_transition_time

    def wait(self, phase: Phase, outcome: Wait) -> None:
        """Count an attempt and set the time of the next one; fail after the phase's deadline, unless an open
        question decides before."""
        now, retry = self.inputs.now, self.inputs.retry
        started = phase_start(self.status, self.inputs)
        if phase is Phase.COPYING and outcome.restart_from is Phase.VALIDATING:
            # The wait for copies is no part of the time for an envelope that was restarted.
            started = now
            self.change(attempts=0)
        self.set_last_error(outcome)
        is_late = retry_policy.is_deadline_exceeded(started, retry, now=now)
        if is_late and not outcome.facts.is_question_open:
            if outcome.given_up is not None:
                self.finish(Phase.FAILED, phase, outcome.given_up)
                return
            message = (
                f"Given up in {phase} after {retry.deadline}. The last problem was {outcome.reason}: "
                f"{outcome.message}"
            )
            self.finish(Phase.FAILED, phase, Fail("DeadlineExceeded", message[:MAX_MESSAGE_LENGTH]))
            return
        attempts = self.status.attempts + 1
        due = retry_policy.next_attempt(
            attempts, retry, now=now, random=self.inputs.random, not_before=outcome.not_before
        )
        if phase is Phase.COPYING:
            # Without a copy that failed, the attempt ended before them. What is archived again waits for no
            # copy.
            is_copied_next = outcome.facts.copies is not None and outcome.restart_from is None
            due = (self.next_copy() if is_copied_next else None) or due
            if not are_copies_requested(self.status):
                self.set_condition(PHASE_CONDITIONS[phase], "False", outcome)
        self.not_ready(phase, outcome, next_attempt_time=due)
        if outcome.restart_from is not None:
            # Later phases too: a proof from before must not outlive the result that it proves.
            self.reset_phases(PHASE_ORDER[PHASE_ORDER.index(outcome.restart_from) :], outcome)
            started = min(started, now)
        self.change(attempts=attempts, phase_start_time=started)

    def plan_copies(self) -> None:
        """
        Plan the next attempt of each copy that failed now: each has its own backoff.

        A copy for which nothing waits is given up in the end (``copy_rules``), until a person asks for
        it. The deadline of the phase counts for a required one.
        """
        self.change(copies=tuple(map(self._planned_copy, self.status.copies)))

    def plan_question(self, outcome: Hold) -> None:
        """Plan when eSAW is asked for an Expired envelope whose copies a person holds. A question without an
        answer has the backoff of an attempt, up to the end of eSAW's retention. Only such an event has
        attempts: a callback waits for no other question."""
        event, organization, now = self.inputs.event, self.inputs.organization, self.inputs.now
        if event is None or organization is None:
            return
        # A question that was answered now is not repeated.
        status, retention = _without_old_question(self.status, outcome), organization.spec.retention
        known = msgspec.structs.replace(event, status=status)
        due, attempts = question_time(known, retention, now), 0
        is_answered = outcome.facts.considered_deliveries is not None
        if asks_before_copies(known, retention, now) and not is_answered:
            attempts = self.status.attempts + 1
            again = retry_policy.next_attempt(attempts, self.inputs.retry, now=now, random=self.inputs.random)
            due = min(again, due or again)
        self.change(next_attempt_time=due, attempts=attempts)

    def _planned_copy(self, copy: EventCopy) -> EventCopy:
        now, retry = self.inputs.now, self.inputs.retry
        if (
            copy.verified_time is not None
            or copy.last_attempt_time is None
            or copy.next_attempt_time is not None
        ):
            return copy
        is_required = copy.ref.name in self._required_copies()
        if not is_required and is_given_up(copy, retry):
            return copy
        due = retry_policy.next_attempt(copy.attempts, retry, now=now, random=self.inputs.random)
        return msgspec.structs.replace(copy, next_attempt_time=due)

    def next_copy(self) -> datetime | None:
        """Return when the next attempt of a required copy is due; None: none is planned. One without room is
        due at once, which would repeat an attempt that failed because of another one without end."""
        required = self._required_copies()
        tried = (each for each in self.status.copies if each.ref.name in required and not is_put_off(each))
        times = (each.next_attempt_time for each in tried)
        return min((each for each in times if each is not None), default=None)

    def _required_copies(self) -> tuple[str, ...]:
        organization = self.inputs.organization
        if organization is None or copies_after_end(self.status):
            return ()
        return required_copy_names(organization.spec.copies)

    def end_row_of_not_found(self) -> None:
        """Begin to count attempts again if eSAW did not show the envelope in the last one. Other attempts
        stay counted: one in doubt about a file archives it again once."""
        history = self.status.attempt_history
        if history and history[-1].reason == ENVELOPE_NOT_FOUND:
            self.change(attempts=0)

    def set_last_error(self, outcome: Wait | Fail) -> None:
        """Record the outcome as the last error."""
        error = LastError(reason=outcome.reason, message=outcome.message, time=self.inputs.now)
        self.change(last_error=error)

    def not_ready(
        self, phase: Phase, outcome: Wait | Pause | Hold | NeedConsent, *, next_attempt_time: datetime | None
    ) -> None:
        """Stay in a phase until that time; None: until an object changes."""
        names_copy = phase is Phase.COPYING and outcome.facts.copies is not None
        # A request for copies stays in the condition: it decides the class in the queue.
        if names_copy and not are_copies_requested(self.status):
            # The copy that the condition named before may be made by now.
            self.set_condition(PHASE_CONDITIONS[phase], "False", outcome)
        self.set_ready("False", outcome)
        self.enter(phase, outcome.reason, outcome.message, next_attempt_time=next_attempt_time)

    def reset_phases(self, phases: Sequence[Phase], outcome: Skip | Wait | Fail) -> None:
        """Set the conditions of phases that succeeded to False."""
        for type_ in (PHASE_CONDITIONS[phase] for phase in phases):
            if is_condition_true(self.status.conditions, type_):
                self.set_condition(type_, "False", outcome)

    def shorten_list(self, outcome: Skip | Fail) -> None:
        """Remove entries of files that are not archived from a long list."""
        reason, message, generation = outcome.reason, outcome.message, self.inputs.generation
        self.status = with_shortened_list(
            self.status, reason, message, now=self.inputs.now, generation=generation
        )

    def finish(self, final: Phase, phase: Phase, outcome: Done | Skip | Fail) -> None:
        """Set a final phase."""
        if isinstance(outcome, Skip | Fail):
            self.shorten_list(outcome)
        # The condition of Collecting says that the places of the files were claimed since the event started.
        is_unclaimed = phase is Phase.COLLECTING and has_earlier_places(self.status)
        if not isinstance(outcome, Done) and not is_unclaimed:
            self.set_condition(PHASE_CONDITIONS[phase], "False", outcome)
        if isinstance(outcome, Fail) and outcome.reason != "DeadlineExceeded":
            self.set_last_error(outcome)
        if outcome.reason == "ArchivedFilesLost":
            self.describe_archived(lost=outcome.message)
        # A skipped event is as far as it can come, and nobody has to act (docs/decisions/0025).
        self.set_ready("False" if final is Phase.FAILED else "True", outcome)
        due = outcome.facts.listing_due
        self.enter(final, outcome.reason, outcome.message, next_attempt_time=due)
        copies = copies_of_ended(self.status, self.inputs.organization)
        if copies is not None:
            self.set_condition(copies.type, copies.status, copies)
        # Not after the time of another API server: what is counted from it would be void there.
        self.change(completion_time=self.inputs.now - self.inputs.lead)
