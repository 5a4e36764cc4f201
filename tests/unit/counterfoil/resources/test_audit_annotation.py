"""
Actions of people, as an object's annotation records them: every editor of the object can write any text
there.
"""

import re
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from counterfoil.resources.audit_annotation import (
    ACTS_ANNOTATION,
    AUDIT_ANNOTATION_PATTERN,
    CONSENT_MAIL_ANNOTATION,
    MAX_AUDIT_ENTRIES,
    MAX_AUDIT_TEXT_LENGTH,
    AuditEntry,
    audit_entries,
    requested_at,
    with_audit_entry,
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


def test_every_time_can_be_told_in_utc_and_measured_from_now() -> None:
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


@pytest.mark.parametrize(
    "junk",
    [
        "",
        "null",
        "{}",
        "[1]",
        "[[]]",
        '[{"who": 1}]',
        "[" * 10_000,
        '[{"why": ' + "[" * 10_000,
        '[{"other": ' + "[" * 10_000 + "]" * 10_000 + "}]",
        "[]x",
    ],
)
def test_what_is_no_record_is_none_and_the_next_act_begins_a_new_one(junk: str) -> None:
    assert audit_entries({ACTS_ANNOTATION: junk}) == ()
    assert audit_entries(with_audit_entry({ACTS_ANNOTATION: junk}, RETRIED)) == (RETRIED,)


def test_one_act_that_can_not_be_read_hides_no_other() -> None:
    annotations = written(an_act("2026-99-99T00:00:00Z"), an_act("2026-01-01T00:00:00Z", "jane"))

    assert [entry.who for entry in audit_entries(annotations)] == ["jane"]


@pytest.mark.parametrize(
    "word",
    [
        "jane",
        "",
        'DOMAIN\\jane "x"',
        "Käthe 🖋",
        "\x00\x01\b\t\n\v\f\r\x0e\x1f\x7f\u2028/</script>",
        "x" * 5000,
    ],
)
def test_whatever_is_recorded_is_a_record_to_which_the_next_is_added_as_it_stands(word: str) -> None:
    first = with_audit_entry({}, AuditEntry(who=word, what=word, why=word, when=NOON.replace(microsecond=1)))
    second = with_audit_entry(first, RETRIED)

    assert re.match(AUDIT_ANNOTATION_PATTERN, first[ACTS_ANNOTATION])
    assert second[ACTS_ANNOTATION].startswith(f"{first[ACTS_ANNOTATION][:-1]},{{")
    assert [entry.who for entry in audit_entries(second)] == [word[:MAX_AUDIT_TEXT_LENGTH], "jane"]


@pytest.mark.parametrize(
    "foreign",
    [
        '[{"who": "jane", "what": "retry", "when": "2026-01-01T00:00:00Z"}]',
        '[{"what":"retry","who":"jane","when":"2026-01-01T00:00:00Z"}]',
        '[{"who":"j\\u0061ne","what":"retry","when":"2026-01-01T00:00:00Z"}]',
        '[{"who":"jane","what":"retry","when":"2026-01-01T00:00:00.5Z"}]',
        '[{"who":"jane","what":"retry","when":"2026-01-01T00:00:00Z"}]\n',
    ],
)
def test_what_is_written_in_another_way_can_be_read_but_is_not_taken_over(foreign: str) -> None:
    annotations = {ACTS_ANNOTATION: foreign}

    assert [entry.who for entry in audit_entries(annotations)] == ["jane"]
    assert audit_entries(with_audit_entry(annotations, RETRIED)) == (RETRIED,)


@pytest.mark.parametrize(
    "junk", ["", "soon", "2026-01-01T00:00:00", "2026-13-01T00:00:00Z", "\ud800", "9" * 100_000]
)
def test_a_wish_that_is_no_time_is_no_wish(junk: str) -> None:
    assert requested_at({CONSENT_MAIL_ANNOTATION: junk}, CONSENT_MAIL_ANNOTATION) is None
