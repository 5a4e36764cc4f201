"""
The events of a filter as a file: CSV for spreadsheets, JSON for programs.

Batches of events flow: ``EventSearch.each`` -> rows -> bytes of the file. At most one batch is in memory. The
file says in its last entry when more events match than its bound.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from counterfoil.clock import Clock
from counterfoil.i18n.attention import sender_of
from counterfoil.kube.watch import Raw
from counterfoil.resources import EnvelopeEvent, ResourceInvalid
from counterfoil.untrusted.spreadsheet import csv_head, csv_rows
from webhook.console.access import AuthenticatedUser
from webhook.console.events.filters import EventFilter
from webhook.console.events.search import EventSearch, KnownSender
from webhook.console.limits import ConsoleLimits
from webhook.http_server.errors import HttpErrorKind, PageError

SENDERS_UNREAD: Final = "Not all senders could be read, so events of some of them may be missing."
UNREADABLE: Final = "This version of Counterfoil can't read the event."


class ExportFormat(StrEnum):
    """Formats of a file, which are also the ends of its name."""

    CSV = "csv"
    JSON = "json"

    @property
    def content_type(self) -> str:
        """The media type of the file."""
        return "text/csv; charset=utf-8; header=present" if self is ExportFormat.CSV else "application/json"


class ExportRow(msgspec.Struct, frozen=True, rename="camel"):
    """One event in a file. Times are RFC 3339 in UTC."""

    event: str
    envelope_id: str = ""
    envelope_name: str = ""
    organization: str = ""
    sender: str = ""
    sender_name: str = ""
    sender_email: str = ""
    phase: str = ""
    reason: str = ""
    message: str = ""
    attempts: int | None = None
    recorded: datetime | None = None
    next_attempt: datetime | None = None
    completed: datetime | None = None
    archive: str = ""
    manifest: str = ""


@dataclass
class ExportService:
    """Makes files of events; each method raises ``PageError`` or ``ApiError``."""

    search: EventSearch
    clock: Clock
    limits: ConsoleLimits
    _running: int = field(init=False, default=0)

    async def chunks(
        self, user: AuthenticatedUser, wanted: EventFilter, format_: ExportFormat
    ) -> AsyncGenerator[bytes, None]:
        """Yield the file in parts."""
        if self._running >= self.limits.exports:
            raise PageError(HttpErrorKind.BUSY, f"{self._running} files are in progress")
        self._running += 1
        try:
            senders = {each.name: each for each in (await self.search.senders(user)).senders}
            head, encode, end = _ENCODERS[format_]
            written, looked, is_more, are_all_known = 0, 0, False, True
            yield head
            async for some in self.search.each(user, wanted):
                looked, are_all_known = looked + some.looked, some.are_all_senders_known
                rows = [_row_of(raw, senders) for raw in some.raws]
                left = self.limits.exported - written
                is_more = len(rows) > left or (
                    bool(some.token) and (len(rows) == left or looked >= self.limits.export_read)
                )
                yield encode(rows[:left], written == 0)
                written += len(rows[:left])
                if is_more:
                    break
            yield end(is_more, are_all_known)
        finally:
            self._running -= 1

    def file_name(self, user: AuthenticatedUser, format_: ExportFormat) -> str:
        """Return the name that a browser gives the file."""
        return f"counterfoil-events-{user.kube.namespace}-{self.clock.now():%Y%m%dT%H%M%SZ}.{format_}"


def _row_of(raw: Raw, senders: Mapping[str, KnownSender]) -> ExportRow:
    """Return the row of a stored event; one that can't be read is named, so that the file is complete."""
    try:
        return _row(EnvelopeEvent.parse(raw), senders)
    except ResourceInvalid:
        return ExportRow(event=raw["metadata"]["name"], message=UNREADABLE)


def _row(event: EnvelopeEvent, senders: Mapping[str, KnownSender]) -> ExportRow:
    status, name = event.status, sender_of(event)
    sender = senders.get(name)
    return ExportRow(
        event=event.name,
        envelope_id=event.spec.envelope_id,
        envelope_name=status.envelope.name if status.envelope is not None else "",
        organization=event.organization,
        sender=name,
        sender_name=sender.title if sender is not None else "",
        sender_email=sender.email if sender is not None else "",
        phase=status.phase.value,
        reason=status.cause,
        message=status.message or "",
        attempts=status.attempts,
        recorded=event.metadata.creation_timestamp,
        next_attempt=None if status.phase.is_final else status.next_attempt_time,
        completed=status.completion_time,
        archive=status.archive.ref.name if status.archive is not None else "",
        manifest=(status.archive.manifest or "") if status.archive is not None else "",
    )


def _csv_rows(rows: list[ExportRow], is_first: bool) -> bytes:
    return csv_rows(map(msgspec.structs.astuple, rows))


def _csv_end(is_more: bool, are_all_known: bool) -> bytes:
    said = (
        [] if are_all_known else ["Not all senders could be read, so events of some of them may be missing."]
    )
    said += ["More events match. Set more filters."] if is_more else []
    return csv_rows([each] for each in said)


def _json_rows(rows: list[ExportRow], is_first: bool) -> bytes:
    separator = b"" if is_first or not rows else b",\n"
    return separator + b",\n".join(map(msgspec.json.encode, rows))


def _json_end(is_more: bool, are_all_known: bool) -> bytes:
    return b'\n],"isTruncated":%s}\n' % (b"true" if is_more or not are_all_known else b"false")


_ENCODERS: Final[Mapping[ExportFormat, Any]] = {
    ExportFormat.CSV: (csv_head(ExportRow), _csv_rows, _csv_end),
    ExportFormat.JSON: (b'{"events":[\n', _json_rows, _json_end),
}
