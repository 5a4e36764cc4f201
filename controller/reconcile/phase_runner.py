"""
Admit an event, run one attempt in one phase, and return an outcome, also for each exception.

An attempt has a time limit, a log context, a span, a duration and a count. What it showed about the sender's
key is recorded. No status is stored here.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final, TypeVar

from msgspec.structs import replace

from controller.access.sender_keys import SenderKeys
from controller.reader import (
    KeyState,
    Reader,
    answers_in_row,
    is_refused,
    key_state,
    lacks_proof,
    proved_by,
    reference_to,
    with_refused,
    with_tried,
    without,
)
from controller.reconcile import error_policy
from controller.reconcile.context import PartialArchive, ReconcileContext, RunContext
from controller.reconcile.outcomes import (
    Done,
    Fail,
    NeedConsent,
    Outcome,
    Pause,
    PhaseFacts,
    SideCondition,
    Skip,
    Wait,
    outcome_label,
)
from controller.reconcile.phases import PHASE_FUNCTIONS, PhaseFunction
from controller.reconcile.phases.collect import wait_for_room
from controller.reconcile.phases.copy import copy
from controller.reconcile.phases.restarted_envelope import ask_before_copies, with_answer
from controller.reconcile.phases.unlisted_files import grown_list, noted_files
from controller.reconcile.preconditions import (
    Admitted,
    AdmittedCopies,
    Preconditions,
    RecordOnly,
    Relabelled,
)
from controller.scheduling.due import ARCHIVE_REPLACED
from controller.sharding import LeaseLost
from counterfoil import tracing
from counterfoil.clock import Clock
from counterfoil.esaw import HttpStatusError
from counterfoil.esaw.evidence import lists_additional_files
from counterfoil.kube.errors import ApiError
from counterfoil.kube.status import Superseded
from counterfoil.logs import log_context
from counterfoil.metrics import Metrics
from counterfoil.resources import EnvelopeEvent, Phase, Sender
from counterfoil.resources.envelopeevent import (
    ARCHIVED_PHASES,
    DELETE_REQUESTED_CONDITION,
    ENVELOPE_NOT_FOUND,
    NOT_PERMITTED,
    UNKNOWN_ENVELOPE_ATTEMPTS,
    TriedKey,
)
from counterfoil.resources.organization import CHANGEABLE_STATUSES
from counterfoil.resources.routes import has_earlier_places, stored_choice, stored_copy
from counterfoil.retention import asks_before_copies

_log = logging.getLogger(__name__)

_NOT_PERMITTED: Final = "eSignAnyWhere does not permit this to the sender's key (403)"

C = TypeVar("C", bound=RunContext)

_LISTING: Final = (Phase.COLLECTING, Phase.ARCHIVING)
"""Phases that list files to archive them."""

QUESTION_SHARE = 4
"""Part of an attempt at copies, as its denominator, in which eSAW must answer whether the envelope was
restarted."""

FILES_NOT_SHOWN = "FilesNotShown"
"""Reason of an attempt in which eSAW showed the envelope, and answered afterwards as if there were none."""


@dataclass(frozen=True)
class PhaseRunner:
    """Admits events and runs attempts."""

    preconditions: Preconditions
    sender_keys: SenderKeys
    metrics: Metrics
    clock: Clock

    async def admit(
        self, event: EnvelopeEvent, phase: Phase
    ) -> Admitted | AdmittedCopies | RecordOnly | Relabelled | Outcome:
        """
        Return the context of a run that begins in this phase, or why there is none.

        Raises ``LeaseLost`` when another process may work on the event.
        """
        # Before any request: a wrong label of the shard lets the holder of another shard watch the event.
        self.preconditions.held.check(event)
        try:
            admitted = await self.preconditions.check(event)
        except Exception as problem:
            admitted = self._classify(problem, phase)
        if not isinstance(admitted, Admitted | AdmittedCopies | RecordOnly | Relabelled):
            self._count(phase, admitted)
        return admitted

    def wait_for_room(self, event: EnvelopeEvent, phase: Phase) -> Pause:
        """
        Return the outcome of a run that does not begin, since the list of the event's files has no room.

        Raises ``LeaseLost`` when another process may work on the event.
        """
        self.preconditions.held.check(event)
        lists = self.preconditions.cache.events.file_lists
        outcome = wait_for_room(event.organization, lists, self.clock.now())
        self._count(phase, outcome)
        return outcome

    async def run(self, phase: Phase, event: EnvelopeEvent, admitted: Admitted, limit: timedelta) -> Outcome:
        """Run a phase for at most this time. Raises ``Superseded`` and ``LeaseLost``, and nothing else."""
        run_phase: PhaseFunction = PHASE_FUNCTIONS[phase]
        if phase is Phase.COPYING:
            retention, now = admitted.context.organization.spec.retention, self.clock.now()
            if not asks_before_copies(event, retention, now):
                return await self.copy(event, admitted.context, limit)
            run_phase, limit = ask_before_copies, limit / QUESTION_SHARE
        attempt, sender = event.status.attempts + 1, admitted.context.sender
        started = self.clock.monotonic()
        with (
            log_context(phase=phase.value, attempt=attempt, sender=sender.name),
            tracing.span(phase.value, attempt=attempt, sender=sender.name) as step,
        ):
            outcome, problem = await self._attempt(phase, run_phase, event, admitted.context, limit)
            outcome = await self._with_tried_keys(phase, event, admitted, outcome, problem)
            if phase is Phase.COLLECTING:
                outcome = _with_choice(outcome, event, admitted.context)
            outcome = _with_side_conditions(outcome, admitted.context.side_conditions)
            # The status has them now. A later phase must not state again what an outcome replaced.
            admitted.context.side_conditions.clear()
            if isinstance(outcome, Pause):
                outcome = dataclasses.replace(outcome, is_shown=admitted.context.is_shown)
            if isinstance(outcome, NeedConsent):
                outcome = await self._with_refusal(phase, admitted, outcome)
            elif isinstance(outcome, Wait) and outcome.reason == error_policy.KEY_DOUBTED:
                doubt = self.sender_keys.doubt(sender, admitted.token)
                outcome = dataclasses.replace(outcome, message=str(doubt), not_before=doubt.until)
            elif isinstance(outcome, Done) and phase is Phase.VALIDATING:
                self.sender_keys.accepted(sender)
            if phase is Phase.COPYING and not _is_about_restart(outcome):
                rest = limit * (QUESTION_SHARE - 1)
                made, _ = await self._attempt(phase, copy, event, admitted.context, rest)
                outcome = with_answer(made, outcome)
            step.set_attributes(outcome=outcome_label(type(outcome)), reason=outcome.reason)
        self.metrics.phase_seconds.labels(phase).observe(self.clock.monotonic() - started)
        self._count(phase, outcome)
        self._count_copies(event, outcome)
        return outcome

    async def copy(
        self,
        event: EnvelopeEvent,
        context: RunContext,
        limit: timedelta,
        *,
        unanswered: Outcome | None = None,
    ) -> Outcome:
        """Run the phase Copying for at most this time. It needs no key, and shows nothing about one.
        ``unanswered`` is why eSAW could not be asked before. Raises as ``run``."""
        phase, attempt, started = Phase.COPYING, event.status.attempts + 1, self.clock.monotonic()
        with (
            log_context(phase=phase.value, attempt=attempt),
            tracing.span(phase.value, attempt=attempt) as step,
        ):
            outcome, _ = await self._attempt(phase, copy, event, context, limit)
            if unanswered is not None:
                outcome = with_answer(outcome, unanswered)
            step.set_attributes(outcome=outcome_label(type(outcome)), reason=outcome.reason)
        self.metrics.phase_seconds.labels(phase).observe(self.clock.monotonic() - started)
        self._count(phase, outcome)
        self._count_copies(event, outcome)
        return outcome

    async def _attempt(
        self,
        phase: Phase,
        run_phase: Callable[[EnvelopeEvent, C], Awaitable[Outcome]],
        event: EnvelopeEvent,
        context: C,
        limit: timedelta,
    ) -> tuple[Outcome, BaseException | None]:
        """Return the outcome, and the exception from which it follows, if any. No attempt archives into
        another Archive of the name."""
        function = partial(run_phase, event, context)
        outcome, problem = await self._within(limit, phase, function, context)
        return _with_listed_files(self._unless_replaced(outcome, event), phase, event, context), problem

    async def _within(
        self, limit: timedelta, phase: Phase, function: Callable[[], Awaitable[Outcome]], context: RunContext
    ) -> tuple[Outcome, BaseException | None]:
        context.attempt_limit = limit
        timeout = asyncio.timeout(limit.total_seconds())
        try:
            async with timeout:
                return await function(), None
        except (Superseded, LeaseLost):
            raise
        except TimeoutError as problem:
            outcome = _overdue(phase, context) if timeout.expired() else self._classify(problem, phase)
            return _with_sent(outcome, phase, context), problem
        except PartialArchive as incomplete:
            cause = incomplete.__cause__ or incomplete
            classified = self._classify(cause, phase)
            return dataclasses.replace(classified, facts=PhaseFacts(documents=incomplete.documents)), cause
        except Exception as problem:
            return _with_sent(self._classify(problem, phase), phase, context), problem

    def _unless_replaced(self, outcome: Outcome, event: EnvelopeEvent) -> Outcome:
        """
        Return the outcome, and in place of a new start of the archiving that the event waits, if its Archive
        is another one by now.

        So its status keeps where the files are, and they can still be proved there.
        """
        if not isinstance(outcome, Wait) or outcome.restart_from in (None, *ARCHIVED_PHASES):
            return outcome
        why = self.preconditions.archives.replaced(event)
        if why is None:
            return outcome
        return Wait(ARCHIVE_REPLACED, f"The envelope has to be archived again ({outcome.reason}). {why}")

    async def _with_refusal(self, phase: Phase, admitted: Admitted, outcome: NeedConsent) -> Outcome:
        """Return the outcome after the refusal of the key was recorded. If the API server did not do that,
        the event waits with what the attempt found: its key counts as one that works."""
        sender = admitted.context.sender
        try:
            await self.sender_keys.refused(sender, admitted.token)
        except ApiError as problem:
            return dataclasses.replace(self._classify(problem, phase), facts=outcome.facts)
        # The message that later events of this sender get: it names the sender.
        return dataclasses.replace(outcome, message=self.sender_keys.rejected_message(sender))

    async def _with_tried_keys(
        self,
        phase: Phase,
        event: EnvelopeEvent,
        admitted: Admitted,
        outcome: Outcome,
        problem: BaseException | None,
    ) -> Outcome:
        """
        Return the outcome with the keys to which eSAW did not show the envelope. ``problem`` is the exception
        from which the outcome follows.

        In each phase, an event fails for that only after each candidate was tried.
        """
        context = admitted.context
        if isinstance(outcome, Fail) and not (context.is_shown and _is_unseen(outcome)):
            event, outcome = _with_former_proof(event, outcome, context)
        status, sender = event.status, context.sender
        if _is_about_key(outcome, problem, event, sender, is_shown=context.is_shown):
            return await self._without_proof(phase, event, admitted, outcome)
        if status.envelope is not None and _is_refused(outcome, problem):
            return await self._without_permission(phase, event, admitted, outcome)
        if context.is_shown and _is_unseen(outcome):
            # eSAW's list or a replica may be late. The next run asks for the envelope again.
            outcome = Wait(FILES_NOT_SHOWN, outcome.message, facts=outcome.facts)
        outcome = self._with_proof(phase, outcome, event, context)
        is_unseen, tried = _is_unseen(outcome), status.not_shown_to
        if is_unseen:
            tried = with_tried(tried, sender, answers_in_row(event, sender) + 1)
        elif outcome.facts.envelope is not None:
            tried = without(tried, sender)
        outcome = _with_not_shown_to(outcome, status.not_shown_to, tried)
        if not isinstance(outcome, Fail) or not is_unseen:
            return outcome
        other = await self._next_reader(phase, event, tried)
        if not isinstance(other, Reader):
            return _keeping(other, outcome) if other is not None else _end(outcome, tried, sender)
        return Wait(ENVELOPE_NOT_FOUND, _with_next(outcome.message, other), facts=outcome.facts)

    async def _without_proof(
        self, phase: Phase, event: EnvelopeEvent, admitted: Admitted, outcome: Outcome
    ) -> Outcome:
        """
        Return the outcome if eSAW does not show the envelope to this key, or not all of it, and that says
        nothing about the envelope: eSAW showed it to another Sender's key before, or refuses this one.

        No deadline runs, and this key is not asked again.
        """
        sender, known = admitted.context.sender, event.status.not_shown_to
        tried = with_tried(known, sender, UNKNOWN_ENVELOPE_ATTEMPTS)
        message = f"eSignAnyWhere does not show the envelope to the key of Sender/{sender.name}."
        if outcome.reason == ENVELOPE_NOT_FOUND:
            # It also has what the attempt found in the archive.
            message = outcome.message
        elif outcome.reason == NOT_PERMITTED:
            tried, message = with_refused(known, sender), _not_permitted(sender.name)
        elif admitted.context.is_shown:
            message = f"{outcome.message} The key of Sender/{sender.name} was used."
        facts = _with_not_shown_to(outcome, known, tried).facts
        other = await self._next_reader(phase, event, tried)
        if isinstance(other, Reader):
            return Pause(ENVELOPE_NOT_FOUND, _with_next(message, other), self.clock.now(), facts=facts)
        failed = Fail(ENVELOPE_NOT_FOUND, message, facts=facts)
        return _keeping(other, outcome) if other is not None else _end(failed, tried, sender)

    async def _without_permission(
        self, phase: Phase, event: EnvelopeEvent, admitted: Admitted, outcome: Outcome
    ) -> Outcome:
        """
        Return the outcome if eSAW refuses something to the key to which it showed the envelope: only the
        Sender of the Envelope reads in its place.

        The refusal is known from then on: no search starts the event again for this key, and an Envelope that
        names another Sender does.
        """
        sender, known = admitted.context.sender, event.status.not_shown_to
        tried = with_refused(known, sender)
        facts, message = _with_not_shown_to(outcome, known, tried).facts, _not_permitted(sender.name)
        other = await self._next_reader(phase, event, tried)
        if isinstance(other, Reader) and other.state not in (KeyState.FOREIGN, KeyState.MISSING):
            return Pause(NOT_PERMITTED, _with_next(message, other), self.clock.now(), facts=facts)
        if other is not None and not isinstance(other, Reader):
            return _keeping(other, outcome)
        return _end(Fail(NOT_PERMITTED, message, facts=facts), tried, sender)

    def _with_proof(
        self, phase: Phase, outcome: Outcome, event: EnvelopeEvent, context: ReconcileContext
    ) -> Outcome:
        """
        Return the outcome with the Sender whose answers are facts about the envelope from now on.

        It stays the one to whose key eSAW showed the envelope first, which may be able to do what this one
        may not. This one takes its place if it may have deleted the envelope. So it does if the earlier one
        can't be asked any more: its Sender was deleted, or it is not shown what this one archived.
        """
        sender, status = context.sender, event.status
        if status.envelope is None or not lacks_proof(event, sender):
            return outcome
        envelope = outcome.facts.envelope
        if envelope is None and not context.is_shown:
            return outcome
        earlier, found = status.envelope.sender_ref, envelope or status.envelope
        if earlier is None or self._takes_place(phase, outcome, event, context):
            earlier = reference_to(sender)
        elif envelope is None:
            return outcome
        facts = dataclasses.replace(outcome.facts, envelope=replace(found, sender_ref=earlier))
        return dataclasses.replace(outcome, facts=facts)

    def _takes_place(
        self, phase: Phase, outcome: Outcome, event: EnvelopeEvent, context: ReconcileContext
    ) -> bool:
        if _may_have_deleted(outcome, context):
            return True
        if isinstance(outcome, Fail):
            return False
        proved = proved_by(event)
        earlier = self.preconditions.cache.senders.get(proved.name) if proved is not None else None
        if earlier is None or lacks_proof(event, earlier):
            return True
        is_archived = phase is Phase.CLEANING or (phase is Phase.ARCHIVING and isinstance(outcome, Done))
        return is_archived and key_state(event, earlier) is KeyState.NOT_SHOWN

    async def _next_reader(
        self, phase: Phase, event: EnvelopeEvent, tried: Sequence[TriedKey]
    ) -> Reader | Outcome | None:
        """Return who reads the envelope next; None: each was tried. An outcome: the API server did not
        answer."""
        changed = replace(event, status=replace(event.status, not_shown_to=tuple(tried)))
        try:
            other = await self.preconditions.next_reader(changed)
        except ApiError as problem:
            return self._classify(problem, phase)
        return None if other is None or other.is_tried else other

    def _classify(self, problem: BaseException, phase: Phase) -> Outcome:
        known_outcome = (
            error_policy.classify(problem, self.clock.now()) if isinstance(problem, Exception) else None
        )
        if known_outcome is not None:
            _log.info("an attempt in %s failed: %s", phase, problem)
            return known_outcome
        _log.error("an attempt in %s broke off", phase, exc_info=problem)
        return error_policy.INTERNAL_ERROR

    def _count_copies(self, event: EnvelopeEvent, outcome: Outcome) -> None:
        """Count each copy that was proved, or failed, in this attempt."""
        for each in outcome.facts.copies or ():
            known = stored_copy(event.status, each.ref.name)
            if each.verified_time is not None and each != known:
                self.metrics.copies.labels(each.ref.name, "verified", "").inc()
            elif each.attempts > known.attempts:
                self.metrics.copies.labels(each.ref.name, "failed", each.reason or "").inc()

    def _count(self, phase: Phase, outcome: Outcome) -> None:
        self.metrics.attempts.labels(phase, outcome_label(type(outcome)), outcome.reason).inc()


def _is_about_restart(outcome: Outcome) -> bool:
    """Whether the envelope was restarted, so that an earlier phase comes next, or must not begin in the
    Archive of now. Copies of what was archived before would hide that."""
    if not isinstance(outcome, Wait):
        return False
    return outcome.restart_from is not None or outcome.reason == ARCHIVE_REPLACED


def _may_have_deleted(outcome: Outcome, context: ReconcileContext) -> bool:
    """Whether a request of this phase may have deleted the envelope."""
    stated = [*context.side_conditions, *outcome.facts.side_conditions]
    requests = [each.status for each in stated if each.type == DELETE_REQUESTED_CONDITION]
    return requests[-1:] == ["True"]


def _with_former_proof(
    event: EnvelopeEvent, failed: Fail, context: ReconcileContext
) -> tuple[EnvelopeEvent, Fail]:
    """Return the event and its failure with the proof from before the run: it moves with no failure, also if
    an earlier phase of this run moved it."""
    former, envelope = context.event.status.envelope, event.status.envelope
    if former is None or former.sender_ref is None or envelope is None:
        return event, failed
    if envelope.sender_ref == former.sender_ref or _may_have_deleted(failed, context):
        return event, failed
    kept = replace(failed.facts.envelope or envelope, sender_ref=former.sender_ref)
    before = replace(event.status, envelope=replace(envelope, sender_ref=former.sender_ref))
    facts = dataclasses.replace(failed.facts, envelope=kept)
    return replace(event, status=before), dataclasses.replace(failed, facts=facts)


def _is_unseen(outcome: Outcome) -> bool:
    """Whether the outcome says that eSAW does not show the envelope to the key in use."""
    return outcome.reason == ENVELOPE_NOT_FOUND and isinstance(outcome, Wait | Fail)


def _is_about_key(
    outcome: Outcome,
    problem: BaseException | None,
    event: EnvelopeEvent,
    sender: Sender,
    *,
    is_shown: bool,
) -> bool:
    """
    Whether an answer that did not show the envelope says something about the key only. ``problem`` is the
    exception from which the outcome follows; ``is_shown``: eSAW showed the envelope in this run.

    That is what eSAW answers to a key without the proof that the event has, also if it showed the envelope to
    it, and a refusal if no key has one. An answer of a proxy does not count: it has no error id, so it fails
    no event.
    """
    if lacks_proof(event, sender):
        is_refusal = isinstance(problem, HttpStatusError) and isinstance(outcome, Fail)
        return _is_unseen(outcome) or is_refusal
    return event.status.envelope is None and not is_shown and _is_refused(outcome, problem)


def _is_refused(outcome: Outcome, problem: BaseException | None) -> bool:
    """Whether eSAW answered 403 with an error id."""
    return isinstance(problem, HttpStatusError) and outcome.reason == NOT_PERMITTED


def _not_permitted(name: str) -> str:
    return f"{_NOT_PERMITTED}: Sender/{name}."


def _with_choice(outcome: Outcome, event: EnvelopeEvent, context: ReconcileContext) -> Outcome:
    """
    Return the outcome of Collecting with the Archive that the event waits for.

    One in which another event has files, or that has to be asked first, is no choice. If no file has a place,
    its own choice is stored: the event does not ask eSAW again which Archive it is. If files have places of
    an earlier start, the status still says in which Archive these are.
    """
    facts, choice = dataclasses.replace(outcome.facts, awaited_archive=None), context.choice
    if isinstance(outcome, Done | Skip):
        return dataclasses.replace(outcome, facts=facts)
    if context.awaited is not None:
        facts = dataclasses.replace(facts, awaited_archive=context.awaited)
    elif has_earlier_places(event.status):
        if choice is None and context.destination is not None:
            choice = context.destination.choice
        facts = dataclasses.replace(facts, awaited_archive=choice.awaited if choice is not None else None)
    elif choice is not None and choice != stored_choice(event.status):
        facts = dataclasses.replace(facts, archive=choice.location)
    return dataclasses.replace(outcome, facts=facts)


def _with_side_conditions(outcome: Outcome, found: list[SideCondition]) -> Outcome:
    """Return the outcome with the conditions that its phase found before; its own are newer."""
    own = outcome.facts.side_conditions
    earlier = tuple(each for each in found if each.type not in {known.type for known in own})
    if not earlier:
        return outcome
    facts = dataclasses.replace(outcome.facts, side_conditions=(*earlier, *own))
    return dataclasses.replace(outcome, facts=facts)


def _with_not_shown_to(outcome: Outcome, known: Sequence[TriedKey], tried: Sequence[TriedKey]) -> Outcome:
    """Return the outcome with the keys to which eSAW did not show the envelope, if they changed."""
    if known == tried:
        return outcome
    return dataclasses.replace(outcome, facts=dataclasses.replace(outcome.facts, not_shown_to=tuple(tried)))


def _with_next(message: str, reader: Reader) -> str:
    """Return the message with the Sender whose key is used next, if it is one of this Organization."""
    if reader.state in (KeyState.FOREIGN, KeyState.MISSING):
        return message
    return f"{message} The next attempt is with the key of Sender/{reader.name}."


def _end(failed: Fail, tried: Sequence[TriedKey], sender: Sender) -> Fail:
    """
    Return the failure for an envelope that no known key can read, after the last answer to this Sender.

    If eSAW refused the envelope to one of them, it exists, and that Sender needs the permission.
    """
    # The last key of a name is that of its Sender of now.
    newest = {each.name: each.uid for each in tried}
    refused = [_name_of(each, newest) for each in tried if each.refused]
    others = ", ".join(f"Sender/{each.name}" for each in without(tried, sender) if not each.refused)
    if refused:
        message, own = f"{_NOT_PERMITTED}: {', '.join(refused)}.", ""
        if not is_refused(tried, sender):
            own = f"Sender/{sender.name}"
        others = ", ".join(each for each in (own, others) if each)
        failed = Fail(NOT_PERMITTED, message, facts=failed.facts)
        asked = f"It does not show the envelope to these keys: {others}."
    else:
        asked = f"These keys were tried before: {others}."
    return dataclasses.replace(failed, message=f"{failed.message} {asked}") if others else failed


def _name_of(key: TriedKey, newest: Mapping[str, str]) -> str:
    is_earlier = key.uid != newest[key.name]
    return f"an earlier Sender/{key.name}" if is_earlier else f"Sender/{key.name}"


def _keeping(other: Outcome, outcome: Outcome) -> Outcome:
    """Return the other outcome with the files of the attempt: what eSAW sent stays known."""
    facts = dataclasses.replace(other.facts, documents=outcome.facts.documents)
    return dataclasses.replace(other, facts=facts)


def _overdue(phase: Phase, context: RunContext) -> Wait:
    """Return the outcome of an attempt that was ended, although no single transfer was too slow."""
    archive = context.archive_name
    message = (
        f"The attempt in {phase} did not end in time. All that it waited for is eSignAnyWhere and "
        f"{archive}; one of them is slow. The files that arrived stay in the archive."
    )
    _log.warning("an attempt in %s was ended: it was overdue", phase)
    return Wait("AttemptOverdue", message)


def _with_listed_files(outcome: Outcome, phase: Phase, event: EnvelopeEvent, context: RunContext) -> Outcome:
    """Return the outcome with the further files that eSAW listed last, wherever the attempt ended: no later
    list may lack them. Not of an envelope that may be restarted, since it may have other files then."""
    if not isinstance(context, ReconcileContext) or isinstance(outcome, Done | Skip):
        return outcome
    restart = outcome.restart_from if isinstance(outcome, Wait) else None
    is_archived_next = phase in _LISTING or restart in (Phase.VALIDATING, Phase.COLLECTING)
    known, listed = event.status, context.last_list
    may_change = known.envelope is None or known.envelope.status in CHANGEABLE_STATUSES
    if may_change or not is_archived_next or outcome.facts.documents is not None:
        return outcome
    noted = noted_files(known, listed) if lists_additional_files(known, listed) else None
    if noted is None or not context.file_lists.take(event, noted):
        return outcome
    grown = grown_list(known, listed)
    facts = dataclasses.replace(outcome.facts, documents=noted)
    return _with_side_conditions(
        dataclasses.replace(outcome, facts=facts), [grown] if grown is not None else []
    )


def _with_sent(outcome: Outcome, phase: Phase, context: RunContext) -> Outcome:
    """Return the outcome of an error with what eSAW sent in the attempt, wherever that ended."""
    if phase is not Phase.ARCHIVING or not isinstance(context, ReconcileContext):
        return outcome
    if context.unconfirmed is None:
        return outcome
    return dataclasses.replace(outcome, facts=PhaseFacts(documents=context.unconfirmed()))
