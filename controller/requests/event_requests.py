"""The requests on an EnvelopeEvent: ``retry`` and ``skip``, also on finished events."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial

import msgspec

from controller.outgoing_webhook.policy import resent
from controller.reader import to_try_again
from controller.reconcile.copy_rules import AFTER_ARCHIVING
from controller.reconcile.phases.repeated_archiving import DOCUMENT_IN_DOUBT
from controller.reconcile.state_machine import with_shortened_list
from controller.requests.request_table import RequestResult, RequestType
from counterfoil.clock import Clock
from counterfoil.readiness import with_readiness
from counterfoil.resources import (
    MAX_MESSAGE_LENGTH,
    PHASE_CONDITIONS,
    EnvelopeEvent,
    EnvelopeEventStatus,
    FiledDocument,
    NoticeState,
    Phase,
    find_condition,
    is_condition_true,
    with_condition,
)
from counterfoil.resources.conditions import with_changes, with_generation
from counterfoil.resources.envelopeevent import (
    COPY_GIVEN_UP,
    COPY_MISSING,
    MISSING_COPY_REASONS,
    OPTIONAL_COPY_MISSING,
    state_of,
)
from counterfoil.resources.reopening import (
    GIVEN_UP,
    KEPT_FOR_SKIP,
    RETRY_REQUESTED,
    SKIPPED_BY_REQUEST,
    SKIPPED_UNTIL_A_CHANGE,
    are_copies_requested,
    copies_after_end,
    end_of,
    is_reopened_by_retry,
    may_change,
    remaining_delay,
    reopened_status,
    takes_back_skip,
    takes_copies,
    takes_skip,
    with_kept_end,
)
from counterfoil.resources.request import EXPECTED_PARAMETER, Request, RequestOutcome

COPY_NOT_TRIED = "A copy is missing, and is not tried after the skip of the event. Ask for it."
"""Message of ``Copied`` of a skipped event."""


@dataclass(frozen=True)
class EventRequests:
    """Carries out requests on events. Called while no worker processes the envelope."""

    clock: Clock

    @property
    def types(self) -> dict[str, RequestType]:
        """The rows of the table."""
        return {
            "retry": RequestType(RETRY_REQUESTED, self.retry),
            "skip": RequestType("SkippedByRequest", self.skip),
        }

    async def retry(self, event: EnvelopeEvent, request: Request) -> RequestResult:
        """Try again now, unless the envelope is archived and gone; of a Succeeded event first a notice that
        was given up."""
        notice = event.status.notice
        has_failed_notice = notice is not None and notice.state is NoticeState.FAILED
        if with_kept_end(event.status).phase is Phase.SUCCEEDED and has_failed_notice:
            message = "The notice to the webhook was given up; it is sent again."
            return RequestResult(RequestOutcome.DONE, message, _with_resent_notice)
        if not is_reopened_by_retry(event.status):
            return _nothing_to_do(event)
        change = partial(_retried_status, now=self.clock.now())
        message = f"The event was {with_kept_end(event.status).phase}; it is tried again."
        message = f"{message} {remaining_delay(event.status)}".rstrip()
        if event.status.is_skipped_by_person and not takes_back_skip(event.status):
            message = f"{message} A person skipped it before, so its envelope is archived and not deleted."
        return RequestResult(RequestOutcome.DONE, message, change)

    async def skip(self, event: EnvelopeEvent, request: Request) -> RequestResult:
        """
        Give the event up on purpose, if it is still in the state that the person was shown.

        An event that has ended may start again, or another event of the envelope may delete it. The skip is
        stored for it as well.
        """
        if not takes_skip(event.status):
            return _nothing_to_do(event)
        state, expected = state_of(event), request.parameters.get(EXPECTED_PARAMETER)
        if expected not in (None, state):
            message = (
                f"The event is now {state}, and not {expected} as it was when the skip was asked for, so "
                "nothing was changed. Look at the event, and repeat the skip if it is still right."
            )
            return RequestResult(RequestOutcome.REFUSED, message)
        kept = with_kept_end(event.status)
        if kept.phase.is_final and end_of(kept).keeps_result:
            message = f"The event was {kept.phase}. {KEPT_FOR_SKIP}"
            return RequestResult(RequestOutcome.DONE, message, self._kept_status)
        change = partial(self._skipped_status, generation=event.metadata.generation)
        return RequestResult(
            RequestOutcome.DONE, f"The event was {event.status.phase}; it is given up.", change
        )

    def _kept_status(self, status: EnvelopeEventStatus) -> EnvelopeEventStatus:
        known = with_kept_end(status).message
        message = (f"{known} {KEPT_FOR_SKIP}" if known else KEPT_FOR_SKIP)[:MAX_MESSAGE_LENGTH]
        now = self.clock.now().replace(microsecond=0)
        skipped = msgspec.structs.replace(status, skipped_time=now)
        if not copies_after_end(status):
            return msgspec.structs.replace(skipped, message=message)
        # Its copies are made all the same, and the condition has the end meanwhile.
        conditions = with_changes(status.conditions, PHASE_CONDITIONS[Phase.CLEANING], message=message)
        return msgspec.structs.replace(skipped, conditions=conditions)

    def _skipped_status(self, status: EnvelopeEventStatus, *, generation: int) -> EnvelopeEventStatus:
        is_copy_kept = _keeps_copies(status)
        now, message = self.clock.now(), SKIPPED_UNTIL_A_CHANGE if may_change(status) else GIVEN_UP
        status = with_shortened_list(
            with_kept_end(status), SKIPPED_BY_REQUEST, message, now=now, generation=generation
        )
        conditions = status.conditions
        if may_change(status):
            # A callback begins with the first phase, as after each other skip.
            for type_ in PHASE_CONDITIONS.values():
                if is_condition_true(conditions, type_):
                    conditions = with_condition(
                        conditions,
                        type_,
                        "False",
                        SKIPPED_BY_REQUEST,
                        message,
                        now=now,
                        generation=generation,
                    )
        conditions = with_readiness(
            conditions, "True", SKIPPED_BY_REQUEST, message, now=now, generation=generation
        )
        skipped = msgspec.structs.replace(
            status,
            phase=Phase.SKIPPED,
            reason=SKIPPED_BY_REQUEST,
            message=message,
            observed_generation=generation,
            conditions=with_generation(conditions, generation),
            next_attempt_time=None,
            # The earliest time that it can be: a later callback may re-open the event.
            completion_time=now - self.clock.lead(),
            notice=None,
            skipped_time=now.replace(microsecond=0),
        )
        return _with_copies_after_skip(skipped, is_kept=is_copy_kept)


def _keeps_copies(status: EnvelopeEventStatus) -> bool:
    """Whether a skip of the event leaves its missing copies to be tried (``retries_copies``): somebody asked
    for them, or one was tried of an event that failed. Not if they were given up."""
    kept = with_kept_end(status)
    copied = find_condition(kept.conditions, "Copied")
    if copied is None or copied.reason == COPY_GIVEN_UP:
        return False
    is_tried = any(each.verified_time is None and each.attempts > 0 for each in kept.copies)
    is_asked_for = are_copies_requested(status) or copied.reason == COPY_MISSING
    return is_asked_for or (kept.phase is Phase.FAILED and is_tried)


def _with_copies_after_skip(status: EnvelopeEventStatus, *, is_kept: bool) -> EnvelopeEventStatus:
    """Return the status with what ``Copied`` says of missing copies after the skip. An event that failed, or
    waits, because of a required copy has the fault of that there, and nothing tries it."""
    copied = find_condition(status.conditions, "Copied")
    if copied is None or copied.status == "True":
        return status
    if copied.status == "False" and copied.reason not in MISSING_COPY_REASONS:
        return status
    reason, message = OPTIONAL_COPY_MISSING, COPY_NOT_TRIED
    if not takes_copies(status):
        message = f"A copy is missing. {AFTER_ARCHIVING}"
    elif is_kept:
        reason, message = COPY_MISSING, copied.message
    conditions = with_changes(status.conditions, "Copied", status="False", reason=reason, message=message)
    return msgspec.structs.replace(status, conditions=conditions)


def _retried_status(status: EnvelopeEventStatus, *, now: datetime) -> EnvelopeEventStatus:
    """Return the status of an event that starts again. A skip of before is undone if the event shows it."""
    message = "A person asked to try again."
    again = reopened_status(with_kept_end(status), reason=RETRY_REQUESTED, message=message, now=now)
    # Each key is tried again: somebody may have shared the envelope since.
    return msgspec.structs.replace(
        again,
        skipped_time=None if takes_back_skip(status) else status.skipped_time,
        documents=_with_accepted_contents(status, now=now),
        not_shown_to=to_try_again(status.not_shown_to),
    )


def _with_accepted_contents(status: EnvelopeEventStatus, *, now: datetime) -> tuple[FiledDocument, ...]:
    """Return the files of the event. If the message of the failure names files with other content than were
    archived (``other_content``), a person accepts these contents."""
    archived = find_condition(status.conditions, PHASE_CONDITIONS[Phase.ARCHIVING])
    is_refused = archived is not None and (archived.status, archived.reason) == ("False", DOCUMENT_IN_DOUBT)
    if not (status.phase is Phase.FAILED and status.reason == DOCUMENT_IN_DOUBT and is_refused):
        return status.documents
    return tuple(_with_accepted_content(each, now=now) for each in status.documents)


def _with_accepted_content(document: FiledDocument, *, now: datetime) -> FiledDocument:
    sent = document.other_content
    if sent is None:
        return document
    accepted = msgspec.structs.replace(sent, accepted_time=now.replace(microsecond=0))
    return msgspec.structs.replace(document, other_content=accepted)


def _with_resent_notice(status: EnvelopeEventStatus) -> EnvelopeEventStatus:
    notice = status.notice
    if notice is None or notice.state is not NoticeState.FAILED:
        return status
    return msgspec.structs.replace(status, notice=resent(notice))


def _nothing_to_do(event: EnvelopeEvent) -> RequestResult:
    message = f"Nothing was left to do: the event is {event.status.phase}."
    return RequestResult(RequestOutcome.NOTHING_TO_DO, message)
