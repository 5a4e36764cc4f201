"""
Import: the envelopes of an Organization that were sent in a span of time, most of them before Counterfoil.

A person creates it; the controller writes its status. ``controller.resync.import_progress`` decides what is
next, by this status alone.
"""

import hashlib
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, ClassVar, NamedTuple

from counterfoil.resources.base import (
    ARCHIVE_NAME,
    OBSERVED_GENERATION,
    ORGANIZATION_NAME,
    REASON,
    SENDER_NAME,
    FieldSchema,
    LocalObjectReference,
    PrinterColumn,
    Resource,
    ResourcePart,
    ValidationRule,
    schema,
)
from counterfoil.resources.conditions import Condition, condition_list
from counterfoil.resources.envelopeevent import MAX_LOCATION_LENGTH
from counterfoil.resources.organization import EnvelopeStatus

MAX_SENDERS = 500
"""Maximum number of Senders of one Import; each has an entry in the status."""

MAX_OPEN_WINDOWS = 32
"""Maximum number of windows whose events are not all finished. With more, the search waits."""

MAX_GROUPS = 200
"""Maximum number of groups by year and status in the status."""

DEFAULT_SAMPLE = 20
"""Number of envelopes that a dry run measures by default."""

MAX_SAMPLE = 1000
"""Maximum number of envelopes of a sample. Each costs a request to eSAW, and one for each of its files."""

MAX_SAMPLE_BYTES = 2**63 - 1
"""Largest number of bytes in a status: the API server stores no larger number as an integer."""

_DATE = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_DATE_RULE = ValidationRule(
    f"!self.matches('{_DATE}') || timestamp(self + 'T00:00:00Z') >= timestamp('2000-01-01T00:00:00Z')",
    "write a date of the calendar from 2000-01-01 on, as in 2019-01-31",
)


def _date(description: str) -> FieldSchema:
    return schema(description, _DATE_RULE, maxLength=10, pattern=_DATE)


def _time_of_day(description: str) -> FieldSchema:
    return schema(description, maxLength=5, pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")


def _unchanged(field: str) -> ValidationRule:
    """Return the rule that a field never changes, whether it is set or not."""
    before, after = f"oldSelf.{field}", f"self.{field}"
    return ValidationRule(
        f"has({after}) == has({before}) && (!has({after}) || {after} == {before})",
        "of an Import only suspend, maxUnfinished and hours change; create another one for another span",
        field_path=f".{field}",
    )


_Status = Annotated[
    EnvelopeStatus,
    schema("A final status of eSAW.", enum=["Completed", "Rejected", "Canceled", "Expired"]),
]

_FIXED_FIELDS = (
    "organizationRef",
    "from",
    "until",
    "order",
    "statuses",
    "senderRefs",
    "archiveRef",
    "dryRun",
    "sampleSize",
    "copiesOnly",
)


class ImportOrder(StrEnum):
    """Order in which the envelopes of a Sender are imported, by the time of sending."""

    NEWEST_FIRST = "NewestFirst"
    OLDEST_FIRST = "OldestFirst"


class ImportHours(ResourcePart, frozen=True):
    """The hours of each day in which the import creates events."""

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            "self.from != self.to", "from and to must differ; without hours an Import always runs"
        ),
    )

    time_zone: Annotated[
        str,
        schema(
            "Time zone of the hours, as the IANA database names it. Example: Europe/Vienna.",
            maxLength=64,
            pattern="^[A-Za-z][A-Za-z0-9_+/-]*$",
        ),
    ]
    from_: Annotated[str, _time_of_day("Begin of the hours. Example: 19:00.")]
    to: Annotated[
        str, _time_of_day("End of the hours, on the next day if it is earlier than `from`. Example: 06:00.")
    ]


class ImportSpec(ResourcePart, frozen=True):
    """The envelopes to import. Only `suspend`, `maxUnfinished` and `hours` may change."""

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        *map(_unchanged, _FIXED_FIELDS),
        ValidationRule(
            "!has(self.until) || self.from <= self.until",
            "until must not be before from",
            field_path=".until",
        ),
        ValidationRule(
            "!has(self.archiveRef) || self.archiveRef.name.size() <= 63",
            "the name of the Archive of an Import has at most 63 characters, since it becomes the value of a "
            "label",
            field_path=".archiveRef",
        ),
    )

    organization_ref: Annotated[
        LocalObjectReference,
        schema("The Organization (same namespace) of the envelopes.", parts={"name": ORGANIZATION_NAME}),
    ]
    from_: Annotated[
        str,
        _date("First day of the span, in UTC, by the time of sending. Example: 2019-01-01."),
    ]
    until: Annotated[
        str | None,
        _date(
            "Last day of the span, in UTC, by the time of sending. A span ends with the creation of the "
            "Import at the latest, which is also the default. Example: 2023-12-31."
        ),
    ] = None
    order: Annotated[
        ImportOrder,
        schema("Order of the envelopes of a Sender by the time of sending. Default NewestFirst."),
    ] = ImportOrder.NEWEST_FIRST
    statuses: Annotated[
        tuple[_Status, ...],
        schema(
            "Statuses of the envelopes, all of which are in `spec.statuses` of the Organization. Default: "
            "those of the Organization.",
            maxItems=4,
        ),
    ] = ()
    sender_refs: Annotated[
        tuple[LocalObjectReference, ...],
        schema(
            "The Senders (same namespace) whose envelopes are imported. Default: all of the Organization.",
            parts={"name": SENDER_NAME},
            maxItems=MAX_SENDERS,
            keys=("name",),
        ),
    ] = ()
    archive_ref: Annotated[
        LocalObjectReference | None,
        schema(
            "The Archive (same namespace) of the envelopes that this Import brings, and of its report. What "
            "was archived before stays where it is. Default: the Archive that the Organization and its "
            "routes name.",
            parts={"name": ARCHIVE_NAME},
        ),
    ] = None
    dry_run: Annotated[
        bool,
        schema("True only counts the envelopes, and creates no event. Default false.", default=None),
    ] = False
    sample_size: Annotated[
        int,
        schema(
            "Number of listed envelopes whose files a dry run asks eSAW for, to estimate the number and the "
            "size of all files. Nothing of them is stored. 0 asks for none. Default "
            f"{DEFAULT_SAMPLE}.",
            minimum=0,
            maximum=MAX_SAMPLE,
            default=None,
        ),
    ] = DEFAULT_SAMPLE
    copies_only: Annotated[
        bool,
        schema(
            "True brings the copies of archived envelopes up to date, from their first archives. eSAW is not "
            "asked, and no event is created. `archiveRef` has no effect then. Default false.",
            default=None,
        ),
    ] = False
    max_unfinished: Annotated[
        int,
        schema(
            "Maximum number of unfinished events of this Import at one time. Those of a Sender whose key "
            "does not work are not counted. Default 200.",
            minimum=1,
            maximum=5000,
        ),
    ] = 200
    hours: ImportHours | None = None
    suspend: Annotated[
        bool,
        schema(
            "True stops the search and creates no further event until the value is false again. Events that "
            "exist are processed. Default false."
        ),
    ] = False


class ImportSender(ResourcePart, frozen=True):
    """Progress of one Sender."""

    name: Annotated[str, SENDER_NAME]
    user_id: Annotated[
        str | None, schema("Id in eSAW of the user for whom the windows were searched.", maxLength=128)
    ] = None
    windows_done: Annotated[
        int, schema("Number of windows in which all listed envelopes have an event.", minimum=0)
    ] = 0
    found: Annotated[
        int, schema("Number of the envelopes in `status.found` that eSAW listed for this Sender.", minimum=0)
    ] = 0
    searched: Annotated[
        bool, schema("Whether all windows were searched with the Sender's key.", default=None)
    ] = False
    reason: Annotated[
        str | None,
        schema(
            "Why the Sender is not searched, or why eSAW may have left envelopes out.",
            maxLength=1024,
            pattern=REASON,
        ),
    ] = None
    message: Annotated[str | None, schema("Description of the reason, for people.", maxLength=1024)] = None
    doubt: Annotated[
        str | None,
        schema(
            "Why eSAW may have left envelopes out. It stays until the end of the Import.",
            maxLength=1024,
        ),
    ] = None


_SHA256 = schema("SHA-256 of the file in lower-case hex.", maxLength=64, pattern="^[0-9a-f]{64}$")


class ImportList(ResourcePart, frozen=True):
    """The list of the envelopes of a window, in the folder `listed` beside the report."""

    sha256: Annotated[str, _SHA256]
    envelopes: Annotated[int, schema("Number of envelopes in the list.", minimum=0)]
    unnamed: Annotated[
        int,
        schema(
            "Number of further ids that are not in the list: they are no GUIDs, and it has the first 100 of "
            "such ids.",
            minimum=0,
        ),
    ] = 0


class ImportWindow(ResourcePart, frozen=True):
    """A window that is not counted yet: its events are not all finished, or its part of the report is not
    written."""

    id: Annotated[str, schema("Value of the label `counterfoil.dev/import-window`.", maxLength=63)]
    events: Annotated[
        int, schema("Number of events that the Import created or started again in it.", minimum=0)
    ]
    list_: ImportList | None = None


class ImportReportParts(ResourcePart, frozen=True):
    """The parts of the report: their number, and the last one. Each part names the part before it."""

    number: Annotated[int, schema("Number of parts.", minimum=1)]
    location: Annotated[
        str, schema("Location of the last part in the archive (URI).", maxLength=MAX_LOCATION_LENGTH)
    ]
    sha256: Annotated[str, _SHA256]
    lacking: Annotated[
        int,
        schema(
            "Number of listed envelopes that the parts lack, since the archive did not return a list as it "
            "was written.",
            minimum=0,
        ),
    ] = 0


class ImportWindows(ResourcePart, frozen=True):
    """Windows of the time of sending, of all Senders together."""

    done: Annotated[int, schema("Number of windows that were searched.", minimum=0)] = 0
    total: Annotated[int, schema("Number of windows of the span.", minimum=0)] = 0

    @property
    def percent(self) -> int:
        """Searched part of all windows, from 0 to 100."""
        return 100 * self.done // self.total if self.total else 0


class ImportGroup(ResourcePart, frozen=True):
    """Number of envelopes of one year and status."""

    year: Annotated[int, schema("Year of sending.", minimum=2000, maximum=9999)]
    status: Annotated[str, schema("Status of the envelopes in eSAW. Example: Completed.", maxLength=64)]
    found: Annotated[int, schema("Number of envelopes.", minimum=0)]


class ImportSample(ResourcePart, frozen=True):
    """The envelopes of a dry run whose files were measured. Their events would be created or start again."""

    envelopes: Annotated[int, schema("Number of measured envelopes.", minimum=0)] = 0
    unreadable: Annotated[
        int, schema("Number of further envelopes whose files eSAW did not show.", minimum=0)
    ] = 0
    files: Annotated[int, schema("Number of files of the measured envelopes.", minimum=0)] = 0
    bytes: Annotated[int, schema("Size of these files in bytes.", minimum=0)] = 0

    @property
    def taken(self) -> int:
        """Number of envelopes that were chosen."""
        return self.envelopes + self.unreadable

    def with_more(self, other: "ImportSample") -> "ImportSample":
        """Return both samples as one."""
        return ImportSample(
            envelopes=self.envelopes + other.envelopes,
            unreadable=self.unreadable + other.unreadable,
            files=self.files + other.files,
            bytes=min(self.bytes + other.bytes, MAX_SAMPLE_BYTES),
        )


class ImportStatus(ResourcePart, frozen=True):
    """Progress of the import. A controller that starts continues from here."""

    observed_generation: Annotated[int | None, OBSERVED_GENERATION] = None
    conditions: Annotated[
        tuple[Condition, ...],
        condition_list(
            "`Complete`: all windows were searched for all Senders, and all events of the Import are "
            "finished, as in `kubectl wait --for=condition=Complete import/NAME`. `Ready`: the same. "
            "`Stalled`: a person has to act.",
            "Complete",
        ),
    ] = ()
    cursor: Annotated[
        str | None,
        schema("Day of sending (UTC) that the search of the last Sender has reached.", maxLength=10),
    ] = None
    windows: ImportWindows = ImportWindows()
    statuses: Annotated[
        tuple[_Status, ...],
        schema(
            "Statuses of the envelopes that are searched, since the first window: those of the spec, or of "
            "the Organization at that time. Another Import finds those of a status that was added later.",
            maxItems=4,
        ),
    ] = ()
    found: Annotated[
        int,
        schema(
            "Number of listed envelopes: those that were known, refused, or got an event. In a dry run, one "
            "that two Senders see counts twice.",
            minimum=0,
        ),
    ] = 0
    known: Annotated[
        int,
        schema(
            "Number of listed envelopes that had an event before, of a callback or of another Import. One "
            "that two Senders see counts twice.",
            minimum=0,
        ),
    ] = 0
    reopened: Annotated[
        int,
        schema(
            "Number of the known envelopes whose event starts again, since it ended without an archive. In a "
            "dry run: those that would start again.",
            minimum=0,
        ),
    ] = 0
    refused: Annotated[
        int,
        schema(
            "Number of listed envelopes without an event. Their id is no GUID, the name of the event is "
            "taken, or the API server refuses it.",
            minimum=0,
        ),
    ] = 0
    archived: Annotated[int, schema("Number of envelopes that the Import's events archived.", minimum=0)] = 0
    skipped: Annotated[
        int,
        schema("Number of the Import's events that were Skipped when their window was counted.", minimum=0),
    ] = 0
    failed: Annotated[
        int,
        schema("Number of the Import's events that had Failed when their window was counted.", minimum=0),
    ] = 0
    bytes: Annotated[int, schema("Size of the archived files in bytes.", minimum=0)] = 0
    rate: Annotated[
        int | None,
        schema(
            "Number of envelopes per hour, from the begin of the search to the last change of the numbers. "
            "The archived, skipped and failed ones count, in a dry run the listed ones. Pauses are "
            "included. Absent in the first minute.",
            minimum=0,
        ),
    ] = None
    sample: ImportSample | None = None
    senders: Annotated[
        tuple[ImportSender, ...],
        schema("Progress of each Sender.", maxItems=MAX_SENDERS, keys=("name",)),
    ] = ()
    open_windows: Annotated[
        tuple[ImportWindow, ...],
        schema(
            "Windows that are not counted yet: their events are not all finished, or their part of the "
            "report is not written.",
            maxItems=MAX_OPEN_WINDOWS,
            keys=("id",),
        ),
    ] = ()
    report: Annotated[
        str | None,
        schema(
            "Folder of the report of all envelopes in the archive (URI). It has one part for each counted "
            "window with envelopes. Absent before the first one, and in a dry run.",
            maxLength=MAX_LOCATION_LENGTH,
        ),
    ] = None
    report_parts: ImportReportParts | None = None
    groups: Annotated[
        tuple[ImportGroup, ...],
        schema(
            "Listed envelopes by year of sending and status.", maxItems=MAX_GROUPS, keys=("year", "status")
        ),
    ] = ()
    start_time: Annotated[datetime | None, schema("Begin of the search (RFC 3339, UTC).")] = None
    completion_time: Annotated[
        datetime | None, schema("When the Import became complete (RFC 3339, UTC).")
    ] = None
    estimated_completion_time: Annotated[
        datetime | None,
        schema(
            "When the search ends at its speed so far, pauses included (RFC 3339, UTC). Absent before the "
            "first window and after the last one."
        ),
    ] = None

    @property
    def lacking_senders(self) -> dict[str, str]:
        """The Senders that are not fully searched for a reason, and this reason, by name."""
        return {each.name: each.reason for each in self.senders if each.reason and not each.searched}


class Import(Resource, frozen=True):
    """
    The import of old envelopes of eSignAnyWhere (eSAW): those that were sent in a span of time. The
    controller searches the span for each Sender whose key works. Each envelope without an event gets one
    (origin `Import`), which is processed as any other. Deleting an Import stops its search, and keeps its
    events.
    """

    KIND: ClassVar[str] = "Import"
    PLURAL: ClassVar[str] = "imports"
    SELECTABLE_FIELDS: ClassVar[tuple[str, ...]] = (".spec.organizationRef.name",)
    COLUMNS: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn("Organization", ".spec.organizationRef.name", "Organization of the envelopes."),
        PrinterColumn(
            "Complete", '.status.conditions[?(@.type=="Complete")].status', "Whether all is imported."
        ),
        PrinterColumn("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Reason of the state."),
        PrinterColumn("Found", ".status.found", "Number of listed envelopes.", type="integer"),
        PrinterColumn(
            "Known",
            ".status.known",
            "Number of envelopes with an event before.",
            type="integer",
            is_wide=True,
        ),
        PrinterColumn("Archived", ".status.archived", "Number of archived envelopes.", type="integer"),
        PrinterColumn("Failed", ".status.failed", "Number of failed events.", type="integer"),
        PrinterColumn("Windows", ".status.windows.done", "Number of searched windows.", type="integer"),
        PrinterColumn("Total", ".status.windows.total", "Number of windows of the span.", type="integer"),
        PrinterColumn(
            "Age", ".metadata.creationTimestamp", "Time since the Import was created.", type="date"
        ),
        PrinterColumn("Rate", ".status.rate", "Number of envelopes per hour.", type="integer", is_wide=True),
        PrinterColumn(
            "End", ".status.estimatedCompletionTime", "Estimated end.", type="string", is_wide=True
        ),
    )

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            "self.metadata.name.size() <= 63",
            "the name of an Import has at most 63 characters, since it becomes the value of a label",
        ),
    )

    # No ``ResourceWithComputedStatus``: the numbers, the open windows and the parts of the report are found
    # nowhere else.
    spec: ImportSpec
    status: ImportStatus = ImportStatus()

    @property
    def organization(self) -> str:
        """Name of its Organization."""
        return self.spec.organization_ref.name


def is_processed(imported: Import) -> bool:
    """Whether a controller has written the status of an Import."""
    return imported.status.observed_generation is not None or imported.status.start_time is not None


class ImportSpan(ResourcePart, frozen=True):
    """A span of the time of sending."""

    start: datetime
    end: datetime


def span_of(imported: Import) -> ImportSpan:
    """
    Return the span of an Import, which never changes; empty if it begins after the Import's creation.

    Raises ``ValueError`` for a date that the calendar does not have; the CRD refuses it.
    """
    created = imported.metadata.creation_timestamp or datetime.fromtimestamp(0, UTC)
    start = _day(imported.spec.from_)
    end = created
    if imported.spec.until is not None:
        end = min(_end_of_day(imported.spec.until), created)
    return ImportSpan(start=start, end=max(start, end))


def last_day(imported: Import) -> str | None:
    """Return the last day of the span of an Import; None if the span ends with its creation."""
    until, created = imported.spec.until, imported.metadata.creation_timestamp
    is_over = until is not None and (created is None or _end_of_day(until) <= created)
    return until if is_over else None


def _end_of_day(date: str) -> datetime:
    try:
        return _day(date) + timedelta(days=1)
    except OverflowError:
        # The last day of the calendar, which some write for "no end".
        return datetime.max.replace(tzinfo=UTC)


def _day(date: str) -> datetime:
    return datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC)


class WindowLabel(NamedTuple):
    """The parts of the label `counterfoil.dev/import-window` of an event."""

    imported: str
    """Digest of the uid of its Import."""
    sender: str
    """Digest of the name of its Sender."""
    number: int
    sent_before: datetime
    """A time after the end of the window."""


def window_label(uid: str, sender: str, number: int, end: datetime) -> str:
    """Return the value of the label for a window; always the same for the same window."""
    return f"{_digest(uid)}-{_digest(sender)}-{number}-{end + timedelta(days=1):%Y%m%d}"


def read_window_label(value: str) -> WindowLabel | None:
    """Read the value of the label; None if it is no such value."""
    parts = value.split("-")
    if len(parts) != 4 or not parts[2].isdecimal():
        return None
    try:
        sent_before = datetime.strptime(parts[3], "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return WindowLabel(parts[0], parts[1], int(parts[2]), sent_before)


def is_of_import(label: WindowLabel, imported: Import) -> bool:
    """Whether the window is one of this Import, and not of another one with the same name."""
    return label.imported == _digest(imported.uid)


def sender_of_window(imported: Import, label: WindowLabel) -> str | None:
    """Return the name of the Sender whose window it is; None if the status does not have it."""
    names = (each.name for each in imported.status.senders)
    return next((name for name in names if _digest(name) == label.sender), None)


def is_counted(imported: Import, value: str) -> bool:
    """Whether the Import counted the events of a window, or the window is of another Import."""
    if any(each.id == value for each in imported.status.open_windows):
        return False
    label = read_window_label(value)
    return label is None or not is_of_import(label, imported) or is_searched(imported, label)


def is_searched(imported: Import, label: WindowLabel) -> bool:
    """Whether the Import has searched this window, which is one of its windows, to the end."""
    return any(
        label.number < each.windows_done
        for each in imported.status.senders
        if _digest(each.name) == label.sender
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
