"""Two contents of a legal document: which downloads tell whether eSignAnyWhere renders it again. Pure."""

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from controller.reconcile.phases.repeated_archiving import unconfirmed
from counterfoil.resources import Attempt, EnvelopeEvent, FiledDocument, FileKind, Phase
from counterfoil.resources.envelopeevent import AttemptOutcome
from tests.support.builders import ENVELOPE, an_event

THEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def event_of(
    sha256: str, archived: datetime, *, doubts: int = 0, attempts: int | None = None
) -> EnvelopeEvent:
    """Return an event that archived a legal document with this hash then, after this many doubts."""
    event = an_event(ENVELOPE).archived().build()
    doubt = Attempt(
        phase=Phase.COPYING,
        start_time=archived - HOUR,
        duration_seconds=1,
        outcome=AttemptOutcome.WAIT,
        reason="DocumentInDoubt",
    )
    legal = FiledDocument(
        file_id="legal-1", kind=FileKind.LEGAL_DOCUMENT, file_name="", size=10, sha256=sha256 * 64
    )
    status = replace(
        event.status,
        documents=(legal,),
        conditions=tuple(replace(each, last_transition_time=archived) for each in event.status.conditions),
        attempt_history=(doubt,) * doubts,
        attempts=doubts if attempts is None else attempts,
    )
    return replace(event, status=status)


@pytest.mark.parametrize("doubts", [0, 1])
def test_one_download_confirms_no_legal_document(doubts: int) -> None:
    event, other = event_of("1", THEN + HOUR, doubts=doubts), event_of("2", THEN)
    assert unconfirmed(event, [other], now=THEN + 2 * HOUR) is not None


def test_two_downloads_confirm_what_another_event_archived_before() -> None:
    event, other = event_of("1", THEN + HOUR, doubts=2), event_of("2", THEN)
    assert unconfirmed(event, [other], now=THEN + 2 * HOUR) is None


def test_they_confirm_nothing_against_an_event_that_archived_since() -> None:
    event, other = event_of("1", THEN, doubts=2), event_of("2", THEN + HOUR)
    assert unconfirmed(event, [other], now=THEN + 2 * HOUR) is not None


def test_nor_do_downloads_of_before_a_retry() -> None:
    event, other = event_of("1", THEN + HOUR, doubts=2, attempts=1), event_of("2", THEN)
    assert unconfirmed(event, [other], now=THEN + 2 * HOUR) is not None
