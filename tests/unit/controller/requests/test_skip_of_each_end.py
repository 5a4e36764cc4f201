"""A person's skip of each end of an event, and all that could start the event again afterwards."""

from collections.abc import Iterator
from datetime import timedelta
from typing import NamedTuple

import msgspec
import pytest

from controller.requests.event_requests import EventRequests
from counterfoil.i18n.reasons import CATALOGUE, EnvelopePresence, ReasonContext
from counterfoil.resources import (
    Attempt,
    AttemptOutcome,
    EnvelopeEvent,
    EnvelopeEventStatus,
    EnvelopeStatus,
    EnvelopeSummary,
    LastError,
    Origin,
    Phase,
    Request,
    RequestOutcome,
)
from counterfoil.resources.reopening import (
    ENDS,
    end_of,
    is_started_by_callback,
    is_started_by_other_key,
    is_started_by_search,
    takes_back_skip,
)
from counterfoil.retention import removal_time
from tests.support.builders import NOON, AClock, an_event, an_organization

FINAL = {
    Phase.SUCCEEDED: ReasonContext.SUCCEEDED,
    Phase.SKIPPED: ReasonContext.SKIPPED,
    Phase.FAILED: ReasonContext.FAILED,
}
REASONS = [
    (phase, name)
    for phase, where in FINAL.items()
    for name, each in CATALOGUE.items()
    if where in each.contexts
]
"""Each phase and reason with which an event ends."""

UNFINISHED = [(phase, "EsawUnreachable") for phase in Phase if not phase.is_final]

NOT_SHOWN = ("EnvelopeNotFound", "EnvelopeDeleted")


class Starts(NamedTuple):
    """The causes that start an event again after a skip, beside this person's retry."""

    callback: bool
    search: bool
    """A search that lists the envelope with the status that the event knows."""
    change: bool
    """A search that lists it with another status."""


NOTHING = Starts(callback=False, search=False, change=False)
CALLBACK = Starts(callback=True, search=False, change=False)
ANYTHING = Starts(callback=True, search=True, change=True)
CHANGE = Starts(callback=True, search=False, change=True)

AFTER_SKIP = {
    # A search would tell of no change: the event has no status to compare with.
    "not asked": CALLBACK,
    "not found": NOTHING,
    EnvelopeStatus.ACTIVE: CHANGE,
    EnvelopeStatus.EXPIRED: CHANGE,
    # No other status changes.
    "other": NOTHING,
}
"""By what the event knows of the envelope. What an attempt finds then decides: ``validate`` ends the event as
skipped again if the envelope is as before."""

AFTER_SKIP_OF_RESULT = {
    "ArchivedAndKept": NOTHING,
    "ArchivedAsExpired": CHANGE,
    "DeletionAssumed": ANYTHING,
    "Recorded": Starts(callback=False, search=True, change=True),
}
"""By the reason of what keeps its result at a skip. None of these starts leads to a delete."""


def known_of(status: EnvelopeStatus | None, reason: str) -> str:
    if status is None:
        return "not found" if reason in NOT_SHOWN else "not asked"
    return status if status in AFTER_SKIP else "other"


def ends() -> Iterator[EnvelopeEvent]:
    """Each phase and reason, with each status of the envelope that the event can know."""
    for phase, reason in (*REASONS, *UNFINISHED):
        for known in (None, *EnvelopeStatus):
            if (reason, known) == ("SkippedByRequest", None) or (
                reason in AFTER_SKIP_OF_RESULT and known is None
            ):
                continue
            attempt = Attempt(
                phase=Phase.VALIDATING,
                start_time=NOON - timedelta(hours=1),
                duration_seconds=1,
                outcome=AttemptOutcome.FAIL if phase is Phase.FAILED else AttemptOutcome.WAIT,
                reason=reason,
            )
            summary = EnvelopeSummary(status=known) if known is not None else None
            ended = NOON if phase.is_final else None
            event = an_event().in_phase(phase, reason).created(NOON - timedelta(days=9))
            yield event.status(
                envelope=summary,
                attempt_history=(attempt,),
                completion_time=ended,
                skipped_time=NOON if reason == "SkippedByRequest" else None,
                last_error=LastError(reason=reason, message="", time=NOON) if phase is Phase.FAILED else None,
            ).build()


def name_of(event: EnvelopeEvent) -> str:
    known = event.status.envelope.status if event.status.envelope is not None else "unknown"
    return f"{event.status.phase}-{event.status.reason}-{known}"


async def skipped(event: EnvelopeEvent, clock: AClock) -> EnvelopeEvent | None:
    """Skip the event as a person does; None if nothing was left to do."""
    result = await EventRequests(clock).skip(event, Request("skip"))
    if result.outcome is RequestOutcome.NOTHING_TO_DO:
        return None
    return msgspec.structs.replace(event, status=result.change(event.status))


def _is_started(status: EnvelopeEventStatus, found: EnvelopeStatus) -> bool:
    """Whether a search with a key that was not tried starts the event."""
    return is_started_by_search(status, found) or is_started_by_other_key(status)


def starts_of(event: EnvelopeEvent) -> Starts:
    later, status = NOON + timedelta(days=3), event.status
    known = status.envelope.status if status.envelope is not None else EnvelopeStatus.COMPLETED
    same = EnvelopeStatus(known)
    others = {_is_started(status, each) for each in EnvelopeStatus if each is not same}
    (by_change,) = others
    return Starts(
        is_started_by_callback(status, received=later, now=later),
        _is_started(status, same),
        by_change,
    )


@pytest.mark.parametrize("event", [*ends()], ids=name_of)
async def test_only_a_change_of_the_envelope_or_a_person_starts_a_skipped_event_again(
    event: EnvelopeEvent,
) -> None:
    clock, reason = AClock(), event.status.reason or ""
    after = await skipped(event, clock)
    if reason in ("ArchivedAndDeleted", "ArchivedAlready", "SkippedByRequest"):
        assert after is None
        return
    assert after is not None
    assert after.status.phase.is_final
    # A fix of a cause starts only Failed events.
    assert after.status.phase is not Phase.FAILED
    summary = event.status.envelope
    known = known_of(EnvelopeStatus(summary.status) if summary is not None else None, reason)
    expected = AFTER_SKIP_OF_RESULT.get(reason, AFTER_SKIP[known])
    assert starts_of(after) == expected
    assert after.status.is_skipped_by_person
    assert takes_back_skip(after.status), "a person's retry does"
    assert "skip" in (after.status.message or "") or "gave this event up" in (after.status.message or "")
    assert await skipped(after, clock) is None, "it is skipped already"


@pytest.mark.parametrize("event", [*ends()], ids=name_of)
async def test_the_event_of_a_skip_stays_unless_esaw_does_not_have_the_envelope(event: EnvelopeEvent) -> None:
    spec, reason = an_organization(ttl={"succeeded": "72h", "failed": "72h"}).spec, event.status.reason or ""
    after = await skipped(event, AClock())
    if after is None:
        return
    is_gone = CATALOGUE[reason].envelope is EnvelopePresence.GONE
    is_unknown = reason in NOT_SHOWN and event.status.envelope is None and event.status.phase is Phase.FAILED
    assert (removal_time(after, spec) is None) is not (is_gone or is_unknown)
    listed = {**event.metadata.labels, "counterfoil.dev/listed-by": "bert"}
    found = (
        msgspec.structs.replace(after, spec=msgspec.structs.replace(after.spec, origin=Origin.IMPORT)),
        msgspec.structs.replace(after, metadata=msgspec.structs.replace(after.metadata, labels=listed)),
    )
    for each in found:
        assert (removal_time(each, spec) is None) is not is_gone, "a list of eSAW is no forged callback"


def test_each_end_that_is_no_failure_has_a_row() -> None:
    rows = {*ENDS, (Phase.SKIPPED, "SkippedByRequest")}
    expected = {(phase, reason) for phase, reason in REASONS if phase is not Phase.FAILED}
    assert {each for each in rows if each[0] != Phase.FAILED} == expected
    assert rows - expected <= {*REASONS}


def test_the_table_and_the_catalogue_agree_which_envelopes_are_gone() -> None:
    for (phase, reason), end in ENDS.items():
        event = an_event().in_phase(Phase(phase), reason).build()
        assert end_of(event.status) is end
        assert end.has_envelope is (CATALOGUE[reason].envelope is not EnvelopePresence.GONE), reason
