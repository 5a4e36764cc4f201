"""
The state machine of events against a model of it: the number of phases whose results stand.

An event runs when it is due, and each phase has any outcome. In between, processes are killed before a status
is stored, eSAW calls again, and people suspend, retry and skip. No order of these leads out of the contract.
"""

import asyncio
from datetime import datetime, timedelta

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from controller.cache import Cache
from controller.reconcile import state_machine
from controller.reconcile.outcomes import Done, Fail, Hold, NeedConsent, Outcome, Pause, Skip, Wait
from controller.reconcile.state_machine import PERSIST_AFTER, TransitionInput, next_status, phase_to_resume
from controller.requests.event_requests import EventRequests
from controller.requests.request_table import RequestResult
from controller.scheduling.due import due_time
from counterfoil.resources import EnvelopeEventStatus, EnvelopeSummary, Phase, RetrySpec, find_condition
from counterfoil.resources.reopening import considered_time, reopened_status
from counterfoil.resources.request import Request, RequestOutcome
from tests.support.builders import AClock, a_sender, an_event, an_organization
from webhook.receiver.delivery_counter import PendingCount, status_with

ORDER = (Phase.VALIDATING, Phase.COLLECTING, Phase.ARCHIVING, Phase.CLEANING)
CONDITIONS = ("Validated", "Collected", "Archived", "Cleaned")
RETRY = RetrySpec()

PASSING, ACTION_NEEDED = "StillActive", "ArchiveRefused"
"""A reason of a wait that nobody, and one that an administrator has to act upon."""

OUTCOMES = st.sampled_from(("done", "done", "done", "wait", "restart", "pause", "consent", "skip", "fail"))


class StateMachineModel(RuleBasedStateMachine):
    """Each rule is one run of the event, or one act of a person or of eSAW."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = AClock()
        self.cache = Cache()
        # Only a retry starts an event again that a person skipped after eSAW had shown its finished envelope.
        self.event = an_event().status(envelope=EnvelopeSummary(status="Completed")).build()
        self.cache.update(an_organization())
        self.cache.update(self.event)
        self.cache.sender_of[self.event.name] = "anna"
        self.requests = EventRequests(self.clock)
        self.proved = 0
        """Number of phases whose results stand, in the order of the phases."""
        self.phase = Phase.PENDING
        self.stalled = False
        self.slow_since: datetime | None = None
        """Earliest begin of the deadline."""
        self.is_key_accepted = False
        self.is_repeating = False
        """Whether an earlier phase runs again, so that its success is no progress."""
        self._set_key(is_accepted=True)

    @property
    def status(self) -> EnvelopeEventStatus:
        """The stored status."""
        return self.event.status

    def _store(self, status: EnvelopeEventStatus) -> None:
        version = str(int(self.event.metadata.resource_version or 0) + 1)
        metadata = replace(self.event.metadata, resource_version=version)
        self.event = replace(self.event, metadata=metadata, status=status)
        self.cache.update(self.event)

    def _inputs(self) -> TransitionInput:
        return TransitionInput(now=self.clock.now(), generation=1, retry=RETRY, random=lambda: 0.9)

    def _is_due(self) -> bool:
        due = due_time(self.event, self.cache, self.clock.now())
        return due is not None and due <= self.clock.now()

    # -- Runs ------------------------------------------------------------------------------------------------

    @precondition(lambda self: self._is_due())
    @rule(
        outcomes=st.lists(OUTCOMES, min_size=1, max_size=4), killed_after=st.integers(0, 12), data=st.data()
    )
    def run(self, outcomes: list[str], killed_after: int, data: st.DataObject) -> None:
        """The event runs phase by phase, as in the reconciler; a kill forgets what is not stored."""
        if self.event.spec.suspend:
            self._end_phase(ORDER[self._resumed()], Hold("Suspended", "It is suspended."))
            return
        working, proved, phase = self.status, self.proved, ORDER[self._resumed()]
        if killed_after > 6:
            working = state_machine.with_authorized(working, "anna", self._inputs())
        for number, kind in enumerate(outcomes):
            if phase is Phase.CLEANING:
                assert self.status_is_true("Archived"), "the delete may begin, and no proof is stored"
            if number == killed_after:
                return
            outcome = self._outcome(kind, phase, data)
            working = next_status(working, phase, outcome, self._inputs())
            if phase in PERSIST_AFTER or not isinstance(outcome, Done):
                self._expect(phase, proved, outcome)
                self._store(working)
                self._check()
            if not isinstance(outcome, Done) or self.status.phase.is_final:
                return
            proved += 1
            following = state_machine.next_phase(phase, working)
            assert following is ORDER[proved]
            phase = following

    def _resumed(self) -> int:
        place = ORDER.index(phase_to_resume(self.status))
        assert place == self.proved, "a run begins with the first phase without a result"
        return place

    def _end_phase(self, phase: Phase, outcome: Outcome) -> None:
        self._expect(phase, self.proved, outcome)
        self._store(next_status(self.status, phase, outcome, self._inputs()))
        self._check()

    def _outcome(self, kind: str, phase: Phase, data: st.DataObject) -> Outcome:
        reason = data.draw(st.sampled_from((PASSING, ACTION_NEEDED)))
        match kind:
            case "done":
                return Done("Fine", "Fine.")
            case "wait":
                return Wait(reason, "Not yet.")
            case "restart":
                first = data.draw(st.integers(0, ORDER.index(phase)))
                return Wait(reason, "Not any more.", restart_from=ORDER[first])
            case "pause":
                return Pause("CleanupDelayed", "Too early.", until=self.clock.now() + timedelta(hours=2))
            case "consent":
                return NeedConsent("TokenRejected", "The key is refused.")
            case "skip":
                return Skip("UnexpectedStatus", "Nothing to archive.")
        return Fail("NameOccupied", "A person has to act.")

    def _expect(self, phase: Phase, proved: int, outcome: Outcome) -> None:
        """Expect the state after the phase that the contract describes."""
        self.proved, self.stalled, now = proved, False, self.clock.now()
        match outcome:
            case Done():
                self.proved += 1
                self.phase = (*ORDER, Phase.SUCCEEDED)[self.proved]
                self.slow_since = self.slow_since if self.is_repeating else now
            case Wait():
                first = ORDER.index(outcome.restart_from or phase)
                self.phase, self.stalled = phase, outcome.reason == ACTION_NEEDED
                self.slow_since = self.slow_since or now
                self.is_repeating |= first < self.proved
                self.proved = min(self.proved, first)
            case Pause():
                self.phase, self.slow_since = phase, None
            case Hold():
                self.phase, self.stalled, self.slow_since = phase, True, None
            case NeedConsent():
                self.phase, self.stalled, self.slow_since = Phase.AWAITING_CONSENT, True, None
                self._set_key(is_accepted=False)
            case Skip():
                self.phase, self.proved = Phase.SKIPPED, 0
            case Fail():
                self.phase, self.stalled = Phase.FAILED, True

    def _check(self) -> None:
        """The stored status is the model's."""
        if self.status.reason == "DeadlineExceeded":
            assert self.slow_since is not None
            assert self.clock.now() - self.slow_since >= RETRY.deadline, "given up before the deadline"
            self.phase, self.stalled = Phase.FAILED, True
            # A result stays whose phase the last attempt wanted to repeat.
            self.proved = sum(self.status_is_true(each) for each in CONDITIONS)
        assert self.status.phase is self.phase

    def status_is_true(self, type_: str) -> bool:
        found = find_condition(self.status.conditions, type_)
        return found is not None and found.status == "True"

    # -- Time, people and eSAW -------------------------------------------------------------------------------

    @rule(hours=st.sampled_from((0.01, 1, 30)))
    def time_passes(self, hours: float) -> None:
        self.clock.advance(hours=hours)

    @precondition(lambda self: self.due_later())
    @rule()
    def next_attempt_is_due(self) -> None:
        due = due_time(self.event, self.cache, self.clock.now())
        assert due is not None
        self.clock.advance(seconds=(due - self.clock.now()).total_seconds())

    def due_later(self) -> bool:
        due = due_time(self.event, self.cache, self.clock.now())
        return due is not None and due > self.clock.now()

    @rule(is_suspended=st.booleans())
    def suspend(self, is_suspended: bool) -> None:
        """A person suspends the event, or ends that."""
        self.event = replace(self.event, spec=replace(self.event.spec, suspend=is_suspended))
        self._store(self.status)

    @rule()
    def consent(self) -> None:
        """The sender consents."""
        self._set_key(is_accepted=True)

    def _set_key(self, *, is_accepted: bool) -> None:
        known = self.cache.senders.get("anna")
        version = 1 if known is None else int(known.metadata.resource_version or 0) + 1
        self.cache.update(a_sender(authorized="True" if is_accepted else "False", version=version))
        self.is_key_accepted = is_accepted

    @rule(age=st.sampled_from((0, 48)))
    def eSAW_calls_again(self, age: int) -> None:
        """A delivery comes now, or came two days ago and is counted only now."""
        received = self.clock.now() - timedelta(hours=age)
        considered = considered_time(self.status)
        is_ended = self.phase in (Phase.SKIPPED, Phase.FAILED) and self.status.reason != "SkippedByRequest"
        if is_ended and considered is not None and received > considered:
            self._expect_reopened()
        before = self.event.deliveries
        self._store(status_with(self.event, PendingCount(1, received, received), now=self.clock.now()))
        assert self.event.deliveries == before + 1
        self._check()

    @rule()
    def cause_is_solved(self) -> None:
        """The cause of a failure no longer exists."""
        if self.phase is Phase.FAILED:
            self._expect_reopened()
            now = self.clock.now()
            self._store(reopened_status(self.status, reason="CauseSolved", message="Solved.", now=now))
            self._check()

    @rule()
    def person_retries(self) -> None:
        before = self.status
        result = self._request("retry")
        if self.phase is Phase.SUCCEEDED:
            assert result.outcome is RequestOutcome.NOTHING_TO_DO
            assert self.status == before
        else:
            self._expect_reopened()
        self._check()

    @rule()
    def person_skips(self) -> None:
        before = self.status
        result = self._request("skip")
        # A skip of a skipped event is stored, since a callback may start it again.
        is_stored = self.phase is not Phase.SUCCEEDED and not (
            self.phase is Phase.SKIPPED and before.is_skipped_by_person
        )
        if not is_stored:
            assert result.outcome is RequestOutcome.NOTHING_TO_DO
            assert self.status == before
        self.phase, self.stalled = (
            (self.phase, self.stalled) if self.phase is Phase.SUCCEEDED else (Phase.SKIPPED, False)
        )
        self._check()

    def _request(self, name: str) -> RequestResult:
        request = Request(name=name, id="1", by="", reason="")
        handler = self.requests.types[name].handler

        async def carry_out() -> RequestResult:
            return await handler(self.event, request)

        result = asyncio.run(carry_out())
        self._store(result.change(self.status))
        return result

    def _expect_reopened(self) -> None:
        """Start again with the first phase, unless everything is archived."""
        self.phase, self.stalled, self.slow_since, self.is_repeating = Phase.PENDING, False, None, False
        self.proved = self.proved if self.proved >= 3 else 0

    # -- What always holds -----------------------------------------------------------------------------------

    @invariant()
    def conditions_are_those_of_the_phase(self) -> None:
        assert [self.status_is_true(each) for each in CONDITIONS] == [
            number < self.proved for number in range(len(CONDITIONS))
        ]
        if self.status.start_time is not None:
            assert self.status_is_true("Ready") == (self.phase in (Phase.SUCCEEDED, Phase.SKIPPED))
            assert self.status_is_true("Stalled") == self.stalled
        if self.phase is Phase.AWAITING_CONSENT:
            authorized = find_condition(self.status.conditions, "Authorized")
            assert authorized is not None
            assert authorized.status == "False"

    @invariant()
    def an_event_is_completed_if_and_only_if_it_is_final(self) -> None:
        assert (self.status.completion_time is not None) == self.phase.is_final
        assert not self.phase.is_final or self.status.next_attempt_time is None

    @invariant()
    def an_event_goes_on_unless_a_person_has_to_act(self) -> None:
        due, reason = due_time(self.event, self.cache, self.clock.now()), self.status.reason
        is_held = self.event.spec.suspend and reason == "Suspended"
        is_parked = self.phase is Phase.AWAITING_CONSENT and not self.is_key_accepted
        if self.phase.is_final:
            assert due is None
        elif self.event.spec.suspend:
            assert (due is None) == is_held
        elif not is_parked or reason == "Suspended":
            assert due is not None

    @invariant()
    def the_history_is_bounded(self) -> None:
        assert len(self.status.attempt_history) <= 10

    @precondition(lambda self: self._is_due() and not self.event.spec.suspend)
    @rule(data=st.data(), first=st.integers(0, 3))
    def hopeless(self, data: st.DataObject, first: int) -> None:
        """An event whose attempts never succeed, or whose archiving starts again each time, ends."""
        for _ in range(100):
            for phase in ORDER[self._resumed() :]:
                is_last = phase is ORDER[max(first, self._resumed())]
                restart = ORDER[min(2, first)] if phase is Phase.CLEANING else None
                outcome: Outcome = (
                    Wait(PASSING, "Not yet.", restart_from=restart) if is_last else Done("Fine", "Fine.")
                )
                self._end_phase(phase, outcome)
                if is_last:
                    break
            if self.status.phase.is_final:
                break
            assert self.status.next_attempt_time is not None
            self.clock.advance(seconds=(self.status.next_attempt_time - self.clock.now()).total_seconds())
        assert (self.status.phase, self.status.reason) == (Phase.FAILED, "DeadlineExceeded")


TestStateMachine = StateMachineModel.TestCase
