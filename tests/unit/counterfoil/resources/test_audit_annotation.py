"""
Actions of people, as an object's annotation records them: every editor of the object can write any text
there.
"""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from counterfoil.resources.audit_annotation import (
    ACTS_ANNOTATION,
    MAX_AUDIT_ENTRIES,
    MAX_AUDIT_TEXT_LENGTH,
    AuditEntry,
    audit_entries,
)
from tests.support.builders import NOON

RETRIED = AuditEntry(who="jane", what="retry", when=NOON)


def written(*acts: dict[str, str]) -> dict[str, str]:
    """The annotation as somebody wrote it by hand."""
    return {ACTS_ANNOTATION: msgspec.json.encode(acts).decode()}


def an_act(when: str, who: str = "mallory") -> dict[str, str]:
    return {"who": who, "what": "retry", "when": when}


@pytest.mark.parametrize(
    "when", ["2026-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"]
)
def test_a_time_that_no_page_could_show_is_left_out_and_the_others_stay(when: str) -> None:
    annotations = written(an_act(when), an_act("2026-01-01T00:00:00Z", "jane"))

    assert [entry.who for entry in audit_entries(annotations)] == ["jane"]


def test_every_time_can_be_shown_in_utc_and_relative_to_now() -> None:
    (entry,) = audit_entries(written(an_act("2026-01-01T02:00:00+02:00")))

    assert entry.when == datetime(2026, 1, 1, tzinfo=UTC)
    assert entry.when.utcoffset() == timedelta(0)


def test_no_more_is_read_than_would_have_been_recorded() -> None:
    annotations = written(
        *(an_act("2026-01-01T00:00:00Z", f"{number} {'x' * 5000}") for number in range(500))
    )

    found = audit_entries(annotations)

    assert len(found) == MAX_AUDIT_ENTRIES
    assert found[-1].who.startswith("499 ")
    assert all(len(entry.who) <= MAX_AUDIT_TEXT_LENGTH for entry in found)
