"""The content of the report of an Import: one row for each envelope, and the same bytes each time."""

import csv
import hashlib
import io
from typing import Any

import pytest
from msgspec.structs import replace

from controller.resync.import_runner import ImportBounds
from counterfoil.archives.import_report.content import (
    MAX_LISTED_ID,
    MAX_LISTED_ROW,
    PartDamaged,
    ReportOutcome,
    ReportRow,
    RowsOfEvents,
    chunks,
    decode_list,
    encode_list,
    read_part,
    row_of_ended,
    row_of_known,
    row_of_list,
    rows_at_the_end,
)
from counterfoil.archives.import_report.storage import MAX_REPORT_FILE
from counterfoil.archives.manifest import hash_lines
from counterfoil.resources import EnvelopeEvent, EnvelopeSummary, Phase
from counterfoil.resources.envelopeevent import MAX_LOCATION_LENGTH
from tests.support.builders import ENVELOPE, NOON, an_event
from tests.support.fakes.finding_esaw import numbered
from tests.support.scenes.import_report import a_part, a_row

ODD = ('=HYPERLINK("https://a.example")', "a\r\nb,c\x00;=1", '"', "\u202e\ufeff", "x" * 64)


def end_of(event: EnvelopeEvent) -> tuple[str, str]:
    row = row_of_ended(a_row(), event)
    return row.outcome, row.reason


def test_the_same_envelopes_make_the_same_bytes_and_the_same_name_in_any_order() -> None:
    rows = [a_row(f"{number:036}", ReportOutcome.KNOWN) for number in range(5)]
    one, other = a_part(*rows), a_part(*reversed(rows))
    assert (one.lines, one.csv, one.lines_name) == (other.lines, other.csv, other.lines_name)
    assert a_part(*rows[:4]).lines_name != one.lines_name


def test_a_part_names_its_csv_and_the_part_before_it_by_their_hashes() -> None:
    part = a_part(a_row(outcome=ReportOutcome.KNOWN))
    header, rows = read_part(part.lines)
    assert header.csv_sha256 == hashlib.sha256(part.csv).hexdigest()
    assert header.counts[ReportOutcome.KNOWN] == 1
    assert sum(header.counts.values()) == len(rows) == 1
    assert part.sha256[:16] in part.lines_name


@pytest.mark.parametrize("envelope", ODD)
def test_an_id_with_odd_characters_is_in_both_files_and_becomes_no_formula(envelope: str) -> None:
    row = a_row(envelope, ReportOutcome.REFUSED)
    part = a_part(row)
    assert read_part(part.lines)[1] == [row]
    assert [*decode_list(encode_list([row]))] == [row]
    # One header and one row, with any id.
    (head, cells) = csv.reader(io.StringIO(part.csv.decode("utf-8-sig"), newline=""))
    assert head[0] == "envelopeID"
    assert not cells[0].startswith("=")
    assert cells[1] == "anna"
    assert len(part.lines.splitlines()) == 2


def test_a_name_that_is_a_formula_becomes_none() -> None:
    row = replace(a_row(outcome=ReportOutcome.KNOWN), sender="=1", folder="@SUM(A1)")
    (_, cells) = csv.reader(io.StringIO(a_part(row).csv.decode("utf-8-sig"), newline=""))
    assert "'=1" in cells
    assert "'@SUM(A1)" in cells


@pytest.mark.parametrize(
    ("event", "end"),
    [
        (
            an_event().archived().in_phase(Phase.SUCCEEDED, "ArchivedAndDeleted"),
            ("Archived", "ArchivedAndDeleted"),
        ),
        (an_event().archived().in_phase(Phase.SUCCEEDED, "ArchivedAndKept"), ("Archived", "ArchivedAndKept")),
        (an_event().archived(), ("Archived", "DeletePending")),
        (an_event().archived().in_phase(Phase.CLEANING, "CleanupDelayed"), ("Archived", "DeletePending")),
        (an_event().archived().in_phase(Phase.FAILED, "DeleteRefused"), ("Archived", "DeleteRefused")),
        (an_event().in_phase(Phase.FAILED, "EnvelopeNotFound"), ("Failed", "EnvelopeNotFound")),
        (an_event().in_phase(Phase.SKIPPED, "SkippedByRequest"), ("Skipped", "SkippedByRequest")),
        (an_event().in_phase(Phase.SUCCEEDED, "Recorded"), ("Skipped", "Recorded")),
    ],
)
def test_a_row_has_the_end_of_its_event(event: Any, end: tuple[str, str]) -> None:
    assert end_of(event.build()) == end


def test_two_states_of_an_event_that_waits_for_its_delete_make_the_same_row() -> None:
    """So a part that was interrupted in between is the same one."""
    event = an_event().archived()
    waiting = row_of_ended(a_row(), event.build())
    assert row_of_ended(a_row(), event.status(attempts=4, reason="EsawUnreachable").build()) == waiting


def test_a_row_names_the_archive_of_the_envelope_with_what_an_auditor_can_compute() -> None:
    documents = tuple(
        replace(each, location=f"file:///archive/{number}%20b.pdf")
        for number, each in enumerate(an_event().archived("a", "b").build().status.documents)
    )
    envelope = EnvelopeSummary(status="Completed", finished_time=NOON)
    event = (
        an_event().archived().status(documents=documents, envelope=envelope, phase=Phase.SUCCEEDED).build()
    )
    row = row_of_ended(a_row(), event)
    assert (row.folder, row.manifest) == ("file:///archive", "file:///archive/counterfoil.json")
    assert (row.event, row.files, row.bytes, row.finished) == (event.name, 2, 20, "2026-07-01T12:00:00Z")
    # LC_ALL=C sort counterfoil.sha256 | sha256sum
    lines = hash_lines([("1 b.pdf", "ab" * 32), ("0 b.pdf", "ab" * 32)]).splitlines(keepends=True)
    assert row.hashes_sha256 == hashlib.sha256(b"".join(sorted(lines))).hexdigest()


@pytest.mark.parametrize("change", [{"location": "file:///elsewhere/a.pdf"}, {"sha256": None}])
def test_no_hash_is_claimed_that_the_status_does_not_show(change: dict[str, Any]) -> None:
    built = an_event().archived("a").build()
    documents = tuple(replace(each, **change) for each in built.status.documents)
    row = row_of_ended(a_row(), an_event().archived().status(documents=documents).build())
    assert (row.hashes_sha256, row.files) == ("", 1)


def test_a_known_envelope_has_the_state_of_its_event() -> None:
    archived = an_event().archived().in_phase(Phase.SUCCEEDED, "ArchivedAndKept").build()
    row = row_of_known(a_row(), archived)
    assert (row.outcome, row.reason, row.manifest) == (
        ReportOutcome.KNOWN,
        "ArchivedAndKept",
        "file:///archive/counterfoil.json",
    )
    under_way = row_of_known(a_row(), an_event().in_phase(Phase.COLLECTING).build())
    assert (under_way.reason, under_way.manifest) == ("Collecting", "")


def test_an_envelope_whose_event_is_gone_has_vanished() -> None:
    (row,) = rows_at_the_end([a_row()], {})
    assert (row.outcome, row.reason) == (ReportOutcome.VANISHED, "EventMissing")


def test_an_envelope_that_was_listed_as_known_and_has_an_event_of_the_window_is_in_one_row() -> None:
    end = row_of_ended(a_row(), an_event().archived().build())
    assert [*rows_at_the_end([a_row(outcome=ReportOutcome.KNOWN)], {ENVELOPE: end})] == [end]


def test_without_the_list_a_part_has_the_events() -> None:
    end = row_of_ended(a_row(), an_event().in_phase(Phase.SKIPPED, "UnexpectedStatus").build())
    assert [*rows_at_the_end([], {ENVELOPE: end})] == [end]


def test_a_row_has_the_status_that_esaw_listed() -> None:
    end = replace(row_of_ended(a_row(), an_event().in_phase(Phase.FAILED, "X").build()), status="Rejected")
    (row,) = rows_at_the_end([a_row()], {ENVELOPE: end})
    assert (row.status, row.outcome) == ("Completed", ReportOutcome.FAILED)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]\n", b"\xff", a_part().lines + b"x", a_part().lines.replace(b"/v1", b"/v9")]
)
def test_what_is_no_part_is_refused(content: bytes) -> None:
    with pytest.raises(PartDamaged):
        read_part(content)


@pytest.mark.parametrize("content", [b"{}", b"x", b'{"envelopeID": 1}'])
def test_what_is_no_list_is_refused(content: bytes) -> None:
    with pytest.raises(PartDamaged):
        list(decode_list(content))


def archived(number: int, length: int = 100) -> ReportRow:
    """The row of an archived envelope, whose folder has this number of characters."""
    row = a_row(f"{number:036}", ReportOutcome.ARCHIVED)
    folder = "s3://archive/" + "%E4%B8%96" * (length // 9)
    return replace(row, folder=folder, manifest=f"{folder}/counterfoil.json", hashes_sha256="ab" * 32)


def longest_row() -> ReportRow:
    """The longest row that a list can have."""
    return replace(
        archived(1, MAX_LOCATION_LENGTH),
        envelope_id="\x1f" * MAX_LISTED_ID,
        sender="s" * 253,
        event="e" * 253,
        reason="R" * 64,
        finished="2026-07-01T12:00:00Z",
        files=10_000,
        bytes=10**13,
    )


def test_the_longest_list_can_be_read() -> None:
    row = row_of_list(longest_row())
    assert len(encode_list([row])) <= MAX_LISTED_ROW + 1
    assert (MAX_LISTED_ROW + 1) * ImportBounds().hits <= MAX_REPORT_FILE


def test_a_list_has_the_folder_of_a_known_envelope_if_it_has_room() -> None:
    usual = archived(1)
    assert row_of_list(usual) == usual
    long = archived(1, 800)
    assert row_of_list(long) == replace(long, manifest="")
    assert row_of_list(archived(1, 2000)) == replace(archived(1, 2000), folder="", manifest="")


def test_the_rows_of_a_window_are_divided_by_their_bytes() -> None:
    rows = [archived(each, 1000) for each in range(10)]
    one = len(encode_list(rows[:1])) - 1
    assert list(chunks(rows, 3 * one)) == [rows[:3], rows[3:6], rows[6:9], rows[9:]]
    assert list(chunks(rows[:2], one // 2)) == [rows[:1], rows[1:2]]
    assert list(chunks([], one)) == [[]]


@pytest.mark.parametrize("order", [1, 7, 13, 19])
def test_events_in_any_order_have_their_rows_in_the_same_parts(order: int) -> None:
    rows = [archived(each, 1000) for each in range(20)]
    room, first, passes = 4 * len(encode_list(rows[:1])), "", list[list[str]]()
    while True:
        events = RowsOfEvents(first, room)
        for each in range(20):
            events.add(rows[each * order % 20])
            assert len(events.by_envelope) <= 9
        events.complete()
        passes.append(sorted(events.by_envelope))
        if events.until is None:
            break
        first = events.until
    assert [each for some in passes for each in some] == [each.envelope_id for each in rows]
    assert [len(each) for each in passes] == [4, 4, 4, 8]


def test_events_that_have_room_need_one_pass() -> None:
    events = RowsOfEvents(room=10_000)
    for each in range(10):
        events.add(archived(each))
    events.complete()
    assert (len(events.by_envelope), events.until) == (10, None)


def test_the_envelopes_of_a_list_are_read_by_their_ids() -> None:
    rows = [a_row(numbered(each)) for each in range(5)]
    lines = encode_list(rows)
    assert [*decode_list(lines, numbered(1), numbered(3))] == rows[1:3]
    assert [*decode_list(lines, numbered(3))] == rows[3:]
