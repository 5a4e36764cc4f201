"""
The content of the report of an Import: rows about envelopes, as JSON lines and as CSV. Pure.

A part has the envelopes of one window of a Sender; a window with very many has several parts. The content
depends on these envelopes and on the ends of their events alone, and on no clock: after a kill, the same part
has the same bytes. Its name contains the first digits of its hash, so that no part ever replaces another one.
Each part names the part before it by its hash. So nobody can remove or add one unseen.

What is in an archive is a claim of those who can write there. A list is believed by the hash in the status of
the Import, a part by our seal (rule 13).
"""

import hashlib
import io
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Literal
from urllib.parse import unquote

import msgspec
from msgspec.structs import replace

from counterfoil.archives.manifest import hash_lines
from counterfoil.archives.names import MANIFEST_NAME
from counterfoil.clock import utc_text
from counterfoil.resources import EnvelopeEvent, Phase, is_condition_true
from counterfoil.resources.base import json_name
from counterfoil.resources.reopening import with_kept_end
from counterfoil.untrusted.json_bounds import JSON_ERRORS
from counterfoil.untrusted.spreadsheet import csv_head, csv_rows

MAX_PART = 8 * 1024 * 1024
"""Bytes of the rows of a part, as JSON lines. A window with more has several parts."""

MAX_LISTED_ROW = 1300
"""Bytes of an envelope in the list of a window. So a list of the most envelopes that a search examines can be
read whole."""

MAX_LISTED_ID = 64
"""Characters of what eSAW listed that are kept; the id of an envelope has 36."""

DELETE_PENDING = "DeletePending"
"""Reason of an archived envelope whose event waited for its delete when the window was counted."""

EVENT_MISSING = "EventMissing"
"""Reason of an envelope whose event is gone, or belongs to another Import, when the window is counted."""

NO_ENVELOPE_ID = "NoEnvelopeID"
"""Reason of a listed envelope whose id is no GUID."""

EVENT_REFUSED = "EventRefused"
"""Reason of a listed envelope whose event could not be created; the log of the controller has the cause."""


class ReportOutcome(StrEnum):
    """The result for a listed envelope."""

    ARCHIVED = "Archived"
    SKIPPED = "Skipped"
    FAILED = "Failed"
    KNOWN = "Known"
    """It had an event before the search, and that event did not start again."""
    REFUSED = "Refused"
    """It got no event."""
    VANISHED = "Vanished"
    """It got an event, which is not there any more."""
    STARTED = "Started"
    """Only in a list: its event is created or starts again. The part of the window has its end."""


class _Line(msgspec.Struct, frozen=True, kw_only=True, rename=json_name):
    """A line of JSON."""


class ReportRow(_Line, frozen=True, kw_only=True):
    """
    One listed envelope. Empty texts and null: unknown.

    ``status`` is eSAW's. ``sentFrom`` and ``sentUntil`` are the window in which eSAW listed it, since eSAW's
    list has no time; ``finished`` is from the event. ``hashesSHA256`` is the SHA-256 of the lines of
    ``counterfoil.sha256`` in the order of their bytes; ``bytes`` is the size of all files.
    """

    envelope_id: str
    sender: str
    status: str
    outcome: ReportOutcome
    reason: str = ""
    sent_from: str
    sent_until: str
    finished: str = ""
    event: str = ""
    folder: str = ""
    manifest: str = ""
    hashes_sha256: str = msgspec.field(name="hashesSHA256", default="")
    files: int | None = None
    bytes: int | None = None


class PreviousPart(_Line, frozen=True, kw_only=True):
    """The part before a part; ``sha256`` is that of its JSON lines."""

    location: str
    sha256: str


class ListOfWindow(_Line, frozen=True, kw_only=True):
    """
    The list of the envelopes that eSAW had in a window.

    ``isRead`` is False if the archive did not return it as it was written. The part then lacks the envelopes
    without an event of the Import. ``unnamed`` is the number of further ids that are no GUID and have no
    row.
    """

    location: str
    sha256: str
    envelopes: int
    is_read: bool
    unnamed: int = 0


class PartHeader(_Line, frozen=True, kw_only=True):
    """The first line of a part. ``sealedBy`` as in a manifest."""

    schema: Literal["counterfoil.dev/import-report/v1"] = "counterfoil.dev/import-report/v1"
    import_: str
    uid: str
    namespace: str
    organization: str
    origin: str
    number: int
    previous: PreviousPart | None
    sender: str
    sent_from: str
    sent_until: str
    statuses: tuple[str, ...] = ()
    """For which eSAW was searched."""
    list_: ListOfWindow | None
    before: int = 0
    """Envelopes of the window in the parts before this one."""
    is_continued: bool = False
    """Whether the next part has more envelopes of the window."""
    counts: Mapping[ReportOutcome, int]
    csv_sha256: str = msgspec.field(name="csvSHA256")
    sealed_by: str | None

    @property
    def lacking(self) -> int:
        """Number of listed envelopes without a row, since the archive did not return the list. The last part
        of a window has it."""
        if self.list_ is None or self.list_.is_read or self.is_continued:
            return 0
        return max(0, self.list_.envelopes - self.before - sum(self.counts.values()))


class PartDamaged(ValueError):
    """The content is no part of a report."""


@dataclass(frozen=True)
class ReportPart:
    """A part: its JSON lines, and the same rows as CSV."""

    header: PartHeader
    lines: bytes
    csv: bytes

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the JSON lines."""
        return hashlib.sha256(self.lines).hexdigest()

    @property
    def lines_name(self) -> str:
        """Name of the JSON lines in the folder of the report; the other names begin with it or its stem."""
        return f"part-{self.header.number:05}-{self.sha256[:16]}.jsonl"


def csv_name(lines_name: str) -> str:
    """Return the name of the CSV beside the JSON lines."""
    return f"{lines_name.removesuffix('.jsonl')}.csv"


def seal_name(lines_name: str) -> str:
    """Return the name of the seal of the JSON lines."""
    return f"{lines_name}.sig"


def list_name(window: str, sha256: str) -> str:
    """Return the name of the list of a window in the folder of the report; ``window`` is the window's id."""
    return f"listed/{window}-{sha256[:16]}.jsonl"


def make_part(header: PartHeader, rows: Iterable[ReportRow]) -> ReportPart:
    """Return a part; the header gets the counts and the hash of the CSV."""
    ordered = in_order(rows)
    csv = csv_file(ordered)
    counts = dict[ReportOutcome, int].fromkeys(ReportOutcome, 0)
    del counts[ReportOutcome.STARTED]
    for row in ordered:
        counts[row.outcome] += 1
    header = replace(header, counts=counts, csv_sha256=hashlib.sha256(csv).hexdigest())
    return ReportPart(header, _encoder.encode_lines([header, *ordered]), csv)


def read_part(lines: bytes) -> tuple[PartHeader, list[ReportRow]]:
    """Read the JSON lines of a part. Raises ``PartDamaged``."""
    first, _, rest = lines.partition(b"\n")
    try:
        return msgspec.json.decode(first, type=PartHeader), _rows.decode_lines(rest)
    except JSON_ERRORS as error:
        raise PartDamaged(str(error)[:300]) from error


def encode_list(rows: Iterable[ReportRow]) -> bytes:
    """Return the list of a window as JSON lines."""
    return _encoder.encode_lines(in_order(rows))


def decode_list(lines: bytes, first: str = "", until: str | None = None) -> Iterator[ReportRow]:
    """Yield the envelopes in the list of a window, those from ``first`` to before ``until`` (None: to the
    end). Raises ``PartDamaged``."""
    try:
        for line in io.BytesIO(lines):
            row = _rows.decode(line)
            if row.envelope_id >= first and (until is None or row.envelope_id < until):
                yield row
    except JSON_ERRORS as error:
        raise PartDamaged(str(error)[:300]) from error


def row_of_list(row: ReportRow) -> ReportRow:
    """Return a row for the list of a window: of at most ``MAX_LISTED_ROW`` bytes, if need be without the
    locations of its archive."""
    if len(_encoder.encode(row)) > MAX_LISTED_ROW:
        row = replace(row, manifest="")
    return replace(row, folder="") if len(_encoder.encode(row)) > MAX_LISTED_ROW else row


def size_of(row: ReportRow) -> int:
    """Return the bytes of a row as JSON."""
    return len(_encoder.encode(row))


class RowsOfEvents:
    """
    The rows of the events of a window that come next in the order of the report: as many as have room.

    The API server lists events in another order. So all of them are added, and those that have no room are
    left out: they begin with ``until``, and another pass over the events takes them (None: none is left).
    """

    def __init__(self, first: str = "", room: int = MAX_PART) -> None:
        """``first``: the first envelope. ``room``: bytes of the rows, of which it keeps twice as many."""
        self.by_envelope = dict[str, ReportRow]()
        self.first = first
        self.until: str | None = None
        self._room = room
        self._size = 0

    def add(self, row: ReportRow) -> None:
        """Add a row if it is one of the next."""
        envelope = row.envelope_id
        if envelope < self.first or (self.until is not None and envelope >= self.until):
            return
        self.by_envelope[envelope] = row
        self._size += len(_encoder.encode(row))
        if self._size > 2 * self._room:
            self._keep_first()

    def complete(self) -> None:
        """Keep the same rows as in any other order, after all were added."""
        if self.until is not None:
            self._keep_first()

    def _keep_first(self) -> None:
        ordered = sorted(self.by_envelope)
        kept = next(chunks([self.by_envelope[each] for each in ordered], self._room))
        if len(kept) < len(ordered):
            self.until = ordered[len(kept)]
        self.by_envelope = {row.envelope_id: row for row in kept}
        self._size = sum(len(_encoder.encode(row)) for row in kept)


def chunks(rows: Iterable[ReportRow], size: int = MAX_PART) -> Iterator[list[ReportRow]]:
    """Yield the rows in lists of at most ``size`` bytes, or of one row; an empty list if there is none."""
    chunk, taken = list[ReportRow](), 0
    for row in rows:
        length = len(_encoder.encode(row))
        if chunk and taken + length > size:
            yield chunk
            chunk, taken = [], 0
        chunk.append(row)
        taken += length
    yield chunk


def csv_file(rows: Iterable[ReportRow]) -> bytes:
    """Return the rows as a file for spreadsheets."""
    return csv_head(ReportRow) + csv_rows(map(msgspec.structs.astuple, rows))


def in_order(rows: Iterable[ReportRow]) -> list[ReportRow]:
    """Return the rows in the order that a part has."""
    return sorted(rows, key=lambda row: (row.envelope_id, row.outcome, row.status))


def rows_at_the_end(listed: Iterable[ReportRow], ended: Mapping[str, ReportRow]) -> Iterator[ReportRow]:
    """
    Yield the rows of the ``listed`` envelopes in their order, each with the end of its event.

    ``ended`` has the rows of the events that the Import has in the window, by envelope. An event can get the
    label of the window after its envelope was listed as known: it counts, so its end does.
    """
    left = deque(sorted(ended))
    for row in listed:
        while left and left[0] <= row.envelope_id:
            if (envelope := left.popleft()) != row.envelope_id:
                yield ended[envelope]
        if (end := ended.get(row.envelope_id)) is not None:
            # What eSAW listed; the event has what eSAW said about the envelope later.
            yield replace(end, status=row.status)
        elif row.outcome is ReportOutcome.STARTED:
            yield replace(row, outcome=ReportOutcome.VANISHED, reason=EVENT_MISSING)
        else:
            yield row
    yield from (ended[envelope] for envelope in left)


def rows_of_part(lines: bytes, events: RowsOfEvents, size: int) -> tuple[list[ReportRow], str | None]:
    """
    Return the rows of the part that begins with the first envelope of ``events``, and the first envelope of
    the next part (None: it is the last one).

    ``lines`` is the list of the window. A part has ``size`` bytes at most, or one row; only its rows are in
    memory. Raises ``PartDamaged``.
    """
    rows, taken = list[ReportRow](), 0
    for row in rows_at_the_end(decode_list(lines, events.first, events.until), events.by_envelope):
        taken += len(_encoder.encode(row))
        if rows and taken > size:
            return rows, row.envelope_id
        rows.append(row)
    return rows, events.until


def row_of_ended(row: ReportRow, event: EnvelopeEvent) -> ReportRow:
    """Return a row with the end of its event, which is finished, makes further copies, or only waits for its
    delete."""
    status = with_kept_end(event.status)
    is_archived = is_condition_true(status.conditions, "Archived")
    if is_archived:
        outcome = ReportOutcome.ARCHIVED
    else:
        outcome = ReportOutcome.FAILED if status.phase is Phase.FAILED else ReportOutcome.SKIPPED
    is_waiting = is_archived and not status.phase.is_final
    reason = DELETE_PENDING if is_waiting else status.cause
    return _with_event(replace(row, outcome=outcome, reason=reason), event)


def row_of_known(row: ReportRow, event: EnvelopeEvent) -> ReportRow:
    """Return the row of an envelope that had this event before the search, with the event's state."""
    status = with_kept_end(event.status)
    reason = status.cause or status.phase.value
    return _with_event(replace(row, outcome=ReportOutcome.KNOWN, reason=reason), event)


def _with_event(row: ReportRow, event: EnvelopeEvent) -> ReportRow:
    status, finished = event.status, ""
    if status.envelope is not None and status.envelope.finished_time is not None:
        finished = utc_text(status.envelope.finished_time)
    row = replace(row, event=event.name, finished=finished)
    manifest = status.archive.manifest if status.archive is not None else None
    if manifest is None or not is_condition_true(status.conditions, "Archived"):
        return row
    folder = manifest.removesuffix(f"/{MANIFEST_NAME}")
    return replace(
        row,
        folder=folder,
        manifest=manifest,
        hashes_sha256=_hashes_sha256(event, folder),
        files=len(status.documents),
        bytes=sum(each.size or 0 for each in status.documents),
    )


def _hashes_sha256(event: EnvelopeEvent, folder: str) -> str:
    """Return the hash of the sorted lines of the hash file; empty if the status does not show them."""
    lines = list[bytes]()
    for each in event.status.documents:
        if each.location is None or each.sha256 is None or not each.location.startswith(f"{folder}/"):
            return ""
        name = unquote(each.location.removeprefix(f"{folder}/"), errors="surrogateescape")
        lines.append(hash_lines([(name, each.sha256)]))
    return hashlib.sha256(b"".join(sorted(lines))).hexdigest()


_encoder = msgspec.json.Encoder(order="deterministic")
_rows = msgspec.json.Decoder(ReportRow)
