"""
The next step of an Import, by its spec and status alone. Pure.

The span is divided into windows of a week or less that never cross a year. The status has the number of
windows that are done for each Sender, so a controller that starts continues there. A window is done when each
envelope that eSAW listed in it has an event. Its events carry its id in a label. When none of them is
unfinished, they are counted, and the window leaves the list of open windows in the same write. So each event
is counted exactly once, after any kill.

This module asks nobody and writes nothing.
"""

from bisect import bisect_right
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec.structs import replace

from controller.resync.envelope_listing import Window
from counterfoil.i18n.reasons import Responsible, find_reason
from counterfoil.readiness import is_stalled, with_readiness
from counterfoil.resources import (
    Archive,
    EnvelopeEvent,
    EnvelopeStatus,
    Import,
    ImportStatus,
    LocalObjectReference,
    Organization,
    Phase,
    find_condition,
    is_condition_true,
    with_condition,
)
from counterfoil.resources.conditions import ConditionStatus, with_generation
from counterfoil.resources.envelopeevent import ARCHIVED_PHASES
from counterfoil.resources.imports import (
    MAX_GROUPS,
    MAX_OPEN_WINDOWS,
    MAX_SENDERS,
    ImportGroup,
    ImportHours,
    ImportList,
    ImportOrder,
    ImportSample,
    ImportSender,
    ImportWindow,
    ImportWindows,
    is_of_import,
    last_day,
    read_window_label,
    sender_of_window,
    span_of,
    window_label,
)
from counterfoil.resources.organization import (
    ARCHIVE_SHARED,
    ArchiveUse,
    import_archive_conflict,
    shared_archive_conflict,
)
from counterfoil.resources.reopening import with_kept_end
from counterfoil.resources.routes import archive_names, original_names

WINDOW = timedelta(days=7)
"""Maximum length of a window. eSAW's search halves a window whose answer may be cut off."""

MAX_MESSAGE = 1024

REPORT_ATTEMPTS = 5
"""Failed attempts to store a file of the report, a minute apart, after which a person has to act for any
reason."""

ESTIMATE_AFTER = timedelta(minutes=1)
"""An estimate from a shorter time would say little."""


class ImportHold(NamedTuple):
    """Why an Import creates no event now."""

    reason: str
    message: str


class Search(NamedTuple):
    """The next window to search, and the Sender whose key is used."""

    sender: str
    number: int
    window: Window
    id: str
    """Value of the label of the window's events."""


@dataclass
class WindowCount:
    """The result of one search."""

    known: int = 0
    refused: int = 0
    created: int = 0
    """Events of the Import, also those that it created in this window before a restart."""
    reopened: int = 0
    """Known events that started again, also before a restart. They are events of the Import, too."""
    groups: dict[EnvelopeStatus, int] = field(default_factory=dict)
    doubt: str = ""
    """Why eSAW may have left envelopes out."""
    sample: ImportSample | None = None
    """The measured files of some envelopes of a dry run."""
    user_id: str | None = None
    """Id of the user for whom the window was searched."""
    statuses: tuple[EnvelopeStatus, ...] = ()
    """Statuses for which it was searched."""

    def add_event(self, *, is_created: bool) -> None:
        """Count an event that the Import created, or one that it started again."""
        self.created += is_created
        self.known += not is_created
        self.reopened += not is_created

    def add(self, status: EnvelopeStatus) -> None:
        """Count one envelope of this status."""
        self.groups[status] = self.groups.get(status, 0) + 1


class EventTally(NamedTuple):
    """The results of the events of one window."""

    archived: int = 0
    skipped: int = 0
    failed: int = 0
    bytes: int = 0
    ends: int = 0
    """Combined hash of how each event ended, within this process. A delete does not change it."""


class WindowChanged(Exception):
    """An event of a window started again after it had ended. The window is counted later."""


class _YearPart(NamedTuple):
    """The part of a span within one year."""

    start: datetime
    end: datetime
    before: int
    """Number of windows before it."""


@dataclass(frozen=True)
class Windows:
    """The windows of a span by number. None of them crosses the end of a year, and none is in memory."""

    parts: tuple[_YearPart, ...]
    are_newest_first: bool = False

    def __len__(self) -> int:
        if not self.parts:
            return 0
        last = self.parts[-1]
        return last.before + _count(last.start, last.end)

    def __getitem__(self, number: int) -> Window:
        total = len(self)
        at = range(total)[number]
        at = total - 1 - at if self.are_newest_first else at
        part = self.parts[bisect_right(self.parts, at, key=lambda each: each.before) - 1]
        start = part.start + (at - part.before) * WINDOW
        return Window(start, min(start + WINDOW, part.end))

    def __iter__(self) -> Iterator[Window]:
        return (self[number] for number in range(len(self)))


def _count(start: datetime, end: datetime) -> int:
    return -((start - end) // WINDOW)


@lru_cache(maxsize=32)
def _year_parts(start: datetime, end: datetime) -> tuple[_YearPart, ...]:
    found, at, before = list[_YearPart](), start, 0
    while at < end:
        next_year = at.replace(year=at.year + 1, month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
        after = min(next_year, end)
        found.append(_YearPart(at, after, before))
        before += _count(at, after)
        at = after
    return tuple(found)


def windows(start: datetime, end: datetime, *, newest_first: bool = False) -> Windows:
    """Return the windows of a span, the oldest first by default; always the same ones."""
    return Windows(_year_parts(start, end), newest_first)


def windows_of(imported: Import) -> Windows:
    """Return the windows of an Import in the order of its search; always the same ones."""
    span = span_of(imported)
    return windows(span.start, span.end, newest_first=imported.spec.order is ImportOrder.NEWEST_FIRST)


def hold(
    imported: Import,
    organization: Organization | None,
    archives: Mapping[str, Archive | None],
    use: ArchiveUse,
    now: datetime,
) -> ImportHold | None:
    """
    Return why the Import must not create events now; None if it may.

    ``archives`` are those in which its envelopes may be archived, by name; None for a missing one. ``use`` is
    for the Organizations that have the same folders there.
    """
    works = _working_organization(imported, organization)
    if isinstance(works, ImportHold):
        return works
    return (
        _contradiction(imported, works)
        or _outside_hours(imported.spec.hours, now)
        or _outage(imported, works, archives)
        or _shared(imported, works, archives, use)
    )


def copies_hold(
    imported: Import,
    organization: Organization | None,
    archives: Mapping[str, Archive | None],
    now: datetime,
) -> ImportHold | None:
    """
    Return why an Import with ``copiesOnly`` must not start copies now; None if it may.

    ``archives`` are those of the Organization, first ones and of copies, by name; None for a missing one.
    """
    works = _working_organization(imported, organization)
    if isinstance(works, ImportHold):
        return works
    if not works.spec.copies:
        message = (
            f"Organization/{works.name} has no spec.copies, so there is nothing to copy. Set them there."
        )
        return ImportHold("ImportWithoutCopies", message)
    return _outside_hours(imported.spec.hours, now) or _archives_hold(imported, works, archives)


def _working_organization(imported: Import, organization: Organization | None) -> Organization | ImportHold:
    """Return the Organization of an Import if both may work, or why they may not."""
    name = imported.organization
    if imported.spec.suspend:
        return ImportHold("ImportSuspended", f"spec.suspend of Import/{imported.name} is true.")
    if organization is None:
        message = (
            f"Organization/{name} does not exist. Create it, or delete Import/{imported.name}: its "
            "spec.organizationRef never changes."
        )
        return ImportHold("ImportOrganizationMissing", message)
    if organization.spec.suspend:
        return ImportHold("OrganizationSuspended", f"spec.suspend of Organization/{name} is true.")
    return organization


def _contradiction(imported: Import, organization: Organization) -> ImportHold | None:
    """Return what only a person can correct."""
    spec = organization.spec
    if not windows_of(imported):
        message = f"The span begins on {imported.spec.from_}, after the creation of the Import."
        return ImportHold("ImportSpanEmpty", message)
    if spec.archive_action is None:
        message = f"No action in spec.actions of Organization/{organization.name} has the handling Archive."
        return ImportHold("ImportNotArchived", message)
    others = [each for each in searched_statuses(imported, organization) if each not in spec.statuses]
    if others and not _is_searched(imported):
        names = f"{', '.join(others)}, which spec.statuses of Organization/{organization.name}"
        message = f"spec.statuses names {names} does not archive."
        if not imported.spec.statuses:
            message = f"The windows before were searched for {names} does not archive any more."
        return ImportHold("ImportNotArchived", message)
    return None


def searched_statuses(imported: Import, organization: Organization) -> tuple[EnvelopeStatus, ...]:
    """Return the statuses for which all windows are searched: those of the first one, once it is done."""
    return imported.status.statuses or imported.spec.statuses or organization.spec.statuses


def _is_searched(imported: Import) -> bool:
    """Whether all windows of all Senders of the status were searched."""
    senders = imported.status.senders
    return bool(senders) and all(each.searched for each in senders)


def _outage(
    imported: Import, organization: Organization, archives: Mapping[str, Archive | None]
) -> ImportHold | None:
    """Return why the events would fail now: an Import creates no event only to let it wait."""
    reachable = find_condition(organization.status.conditions, "Reachable")
    if reachable is not None and reachable.status == "False":
        return ImportHold(reachable.reason, reachable.message)
    return _archives_hold(imported, organization, archives)


def _archives_hold(
    imported: Import, organization: Organization, archives: Mapping[str, Archive | None]
) -> ImportHold | None:
    if imported.spec.dry_run:
        return None
    held = (archive_hold(imported, organization, name, archive) for name, archive in archives.items())
    return next(filter(None, held), None)


def _shared(
    imported: Import, organization: Organization, archives: Mapping[str, Archive | None], use: ArchiveUse
) -> ImportHold | None:
    """Return that an Organization of another eSAW has the same folders in an Archive where the events would
    be archived."""
    if imported.spec.dry_run:
        return None
    usual = original_names(organization.spec)
    found = list[str | None]()
    for name, archive in archives.items():
        if archive is not None and name in usual:
            found.append(shared_archive_conflict(organization, archive, use))
        elif archive is not None and imported.spec.archive_ref == LocalObjectReference(name=name):
            found.append(import_archive_conflict(organization, archive, use))
    message = next(filter(None, found), None)
    return ImportHold(ARCHIVE_SHARED, message) if message is not None else None


def report_archive(imported: Import, organization: Organization) -> LocalObjectReference | None:
    """Return the Archive of the report: one place, also if routes lead elsewhere."""
    return imported.spec.archive_ref or organization.spec.archive_ref


def archive_hold(
    imported: Import, organization: Organization, name: str, archive: Archive | None
) -> ImportHold | None:
    """Return why nothing can be archived in this Archive now; None if it is ready."""
    if archive is None:
        return _missing_archive(imported, organization, name)
    if archive.spec.suspend:
        # Its condition says it a little later.
        return ImportHold("ArchiveSuspended", f"spec.suspend of Archive/{archive.name} is true.")
    ready = find_condition(archive.status.conditions, "Ready")
    if ready is None or ready.status != "True":
        message = ready.message if ready is not None else "It was not probed yet."
        return ImportHold(
            ready.reason if ready is not None else "Pending", f"Archive/{archive.name}: {message}"
        )
    return None


def _missing_archive(imported: Import, organization: Organization, name: str) -> ImportHold:
    ref, spec = imported.spec.archive_ref, organization.spec
    if ref is not None and ref.name == name and name not in original_names(spec):
        advice = "Create it, or delete this Import and create another one."
        if imported.status.found:
            # They keep this Archive, also if another Import replaces this one.
            advice = "Create it: events of this Import may wait for it."
        message = f"Archive/{name} of Import/{imported.name} does not exist. {advice}"
        return ImportHold("ImportArchiveMissing", message)
    if name in archive_names(spec):
        # This problem is the Organization's.
        message = f"Archive/{name} of Organization/{organization.name} does not exist."
        return ImportHold("ArchiveMissing", message)
    message = (
        f"spec.archiveRef of Organization/{organization.name} is not set. Let it name the Archive to use."
    )
    return ImportHold("ImportNotArchived", message)


def report_hold(cause: ImportHold, failures: int) -> ImportHold:
    """
    Return why an archive that is ready does not have a file of the report. ``cause`` is its answer, after
    this number of successive ``failures``.

    The Archive does not show it: it works for all other files. So the reason is the Import's, for one that
    often passes not before ``REPORT_ATTEMPTS``.
    """
    if failures < REPORT_ATTEMPTS and not is_stalled("False", cause.reason):
        message = f"The report of the Import waits for its archive: {cause.message}"
        return ImportHold(cause.reason, message[:MAX_MESSAGE])
    message = f"The archive does not take the report of the Import ({cause.reason}): {cause.message}"
    return ImportHold("ImportReportRefused", message[:MAX_MESSAGE])


def _outside_hours(hours: ImportHours | None, now: datetime) -> ImportHold | None:
    if hours is None:
        return None
    try:
        zone = ZoneInfo(hours.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        message = f"The time zone {hours.time_zone} of spec.hours is not known. Write one as Europe/Vienna."
        return ImportHold("TimeZoneUnknown", message)
    local = now.astimezone(zone).time()
    begin, end = time.fromisoformat(hours.from_), time.fromisoformat(hours.to)
    is_inside = begin <= local < end if begin < end else local >= begin or local < end
    if is_inside:
        return None
    message = f"spec.hours allows {hours.from_} to {hours.to} ({hours.time_zone})."
    return ImportHold("ImportOutsideHours", message)


def sender_names(imported: Import, of_organization: Iterable[str]) -> list[str]:
    """Return the names of the Senders to search, those in the status first."""
    known = [each.name for each in imported.status.senders]
    refs = [each.name for each in imported.spec.sender_refs]
    return list(dict.fromkeys([*known, *(refs or sorted(of_organization))]))


def too_many_senders(imported: Import, names: Sequence[str]) -> ImportHold | None:
    """
    Return why the Import leaves Senders out; None if its status has room for all ``names``.

    Before the search it holds the Import. A Sender that comes later must not stop the search of the others.
    """
    if len(names) <= MAX_SENDERS:
        return None
    message = (
        f"Organization/{imported.organization} has {len(names)} Senders to search, and an Import searches "
        f"{MAX_SENDERS} at most. Create several Imports, each with a part of the Senders in spec.senderRefs, "
        "and suspend this one."
    )
    return ImportHold("TooManySenders", message)


def with_senders(imported: Import, names: Sequence[str], problems: Mapping[str, ImportHold]) -> ImportStatus:
    """Return the status with an entry for each Sender; ``problems`` says why some are not searched now."""
    status, total = imported.status, len(windows_of(imported))
    known = {each.name: each for each in status.senders}
    senders = []
    for name in names[:MAX_SENDERS]:
        entry = known.get(name) or ImportSender(name=name)
        if not entry.searched:
            doubt = ImportHold(DOUBT, entry.doubt) if entry.doubt else ImportHold("", "")
            problem = problems.get(name) or doubt
            message = problem.message[:MAX_MESSAGE] or None
            entry = replace(entry, reason=problem.reason or None, message=message)
        senders.append(entry)
    done = sum(each.windows_done for each in senders)
    return replace(
        status, senders=tuple(senders), windows=ImportWindows(done=done, total=total * len(senders))
    )


DOUBT = "EsawListDoubtful"
"""Reason of a Sender for whom eSAW may have left envelopes out."""


def next_search(imported: Import, unusable: Iterable[str]) -> Search | None:
    """
    Return the next window: of the Senders that can be searched, of the one with the fewest windows done.

    None: all are searched, no other can be now, or too many windows wait for their events.
    """
    status, found = imported.status, windows_of(imported)
    if len(status.open_windows) >= MAX_OPEN_WINDOWS:
        return None
    left_out = {*unusable}
    waiting = [each for each in status.senders if not each.searched and each.name not in left_out]
    if not waiting:
        return None
    sender = min(waiting, key=lambda each: each.windows_done)
    number = sender.windows_done
    window = found[number]
    return Search(sender.name, number, window, window_label(imported.uid, sender.name, number, window.end))


def sample_due(imported: Import) -> int:
    """
    Return how many envelopes of the next window a dry run measures.

    The sample is taken evenly over the windows. What a window has too few envelopes for, the next ones give.
    """
    status = imported.status
    if not imported.spec.dry_run or not status.windows.total:
        return 0
    wanted = -(-imported.spec.sample_size * (status.windows.done + 1) // status.windows.total)
    taken = status.sample.taken if status.sample is not None else 0
    return max(0, wanted - taken)


def search_of(imported: Import, window: str) -> Search | None:
    """Return the search of a window by its id; None if the status has no such Sender or window."""
    label, found = read_window_label(window), windows_of(imported)
    if label is None or not is_of_import(label, imported) or label.number >= len(found):
        return None
    sender = sender_of_window(imported, label)
    return Search(sender, label.number, found[label.number], window) if sender is not None else None


def after_search(
    imported: Import, search: Search, count: WindowCount, now: datetime, listed: ImportList | None = None
) -> ImportStatus:
    """
    Return the status after a window was searched; unchanged if the status has it already.

    ``listed`` is its list in the archive. With it, the window stays open until its part of the report is
    written.
    """
    status, total = imported.status, len(windows_of(imported))
    entry = next((each for each in status.senders if each.name == search.sender), None)
    if entry is None or entry.windows_done != search.number:
        return status
    done = search.number + 1
    doubt = count.doubt[:MAX_MESSAGE] or entry.doubt
    found = sum(count.groups.values()) + count.refused
    entry = replace(
        entry,
        user_id=count.user_id or entry.user_id,
        windows_done=done,
        found=entry.found + found,
        searched=done >= total,
        reason=DOUBT if doubt else None,
        message=doubt,
        doubt=doubt,
    )
    senders = tuple(entry if each.name == entry.name else each for each in status.senders)
    windows_done = sum(each.windows_done for each in senders)
    events = count.created + count.reopened
    is_open = events > 0 or listed is not None
    opened = (ImportWindow(id=search.id, events=events, list_=listed),) if is_open else ()
    is_dry_run = imported.spec.dry_run
    status = replace(status, found=status.found + found)
    return replace(
        status,
        senders=senders,
        statuses=status.statuses or count.statuses,
        windows=ImportWindows(done=windows_done, total=total * len(senders)),
        cursor=f"{_reached(imported, search):%Y-%m-%d}",
        known=status.known + count.known,
        reopened=status.reopened + count.reopened,
        refused=status.refused + count.refused,
        open_windows=status.open_windows if is_dry_run else (*status.open_windows, *opened),
        groups=_with_groups(status.groups, search.window.start.year, count.groups),
        start_time=status.start_time or now.replace(microsecond=0),
        sample=_with_sample(status.sample, count.sample),
        rate=_rate(status, status.found, now) if is_dry_run else status.rate,
        estimated_completion_time=_estimate(status.start_time, now, windows_done, total * len(senders)),
    )


def _reached(imported: Import, search: Search) -> datetime:
    is_newest_first = imported.spec.order is ImportOrder.NEWEST_FIRST
    return search.window.start if is_newest_first else search.window.end


def _with_groups(
    groups: tuple[ImportGroup, ...], year: int, found: Mapping[EnvelopeStatus, int]
) -> tuple[ImportGroup, ...]:
    counts = {(each.year, each.status): each.found for each in groups}
    for status, number in found.items():
        counts[year, status.value] = counts.get((year, status.value), 0) + number
    return tuple(
        ImportGroup(year=of_year, status=status, found=number)
        for (of_year, status), number in sorted(counts.items())[:MAX_GROUPS]
    )


def _with_sample(sample: ImportSample | None, more: ImportSample | None) -> ImportSample | None:
    return more if sample is None else sample if more is None else sample.with_more(more)


def _rate(status: ImportStatus, envelopes: int, now: datetime) -> int | None:
    """Return how many envelopes per hour were done since the begin; None if that would say little."""
    start = status.start_time
    if start is None or now - start < ESTIMATE_AFTER:
        return status.rate
    return round(envelopes * timedelta(hours=1) / (now - start))


def _estimate(start: datetime | None, now: datetime, done: int, total: int) -> datetime | None:
    if start is None or done >= total or now - start < ESTIMATE_AFTER:
        return None
    try:
        return (now + (now - start) / done * (total - done)).replace(microsecond=0)
    except OverflowError:
        return None


async def tally(events: AsyncIterable[EnvelopeEvent]) -> EventTally:
    """Return the results of finished events, and of those that wait for copies or their delete. One that
    makes further copies counts by its end. One of them is in memory at a time. Raises ``WindowChanged`` if
    one runs."""
    archived = skipped = failed = size = ends = 0
    async for event in events:
        status = with_kept_end(event.status)
        phase, is_archived = status.phase, is_condition_true(status.conditions, "Archived")
        if not phase.is_final and not (is_archived and phase in ARCHIVED_PHASES):
            raise WindowChanged
        files = sum(each.size or 0 for each in status.documents) if is_archived else 0
        archived += is_archived
        size += files
        skipped += not is_archived and phase is not Phase.FAILED
        failed += phase is Phase.FAILED
        cause = None if is_archived else status.cause
        # The API server lists events in any order.
        ends ^= hash((event.name, is_archived, files, phase is Phase.FAILED, cause))
    return EventTally(archived, skipped, failed, size, ends)


def after_events(imported: Import, tallies: Mapping[str, EventTally], now: datetime) -> ImportStatus:
    """Return the status after the events of open windows finished; ``tallies`` is by the id of a window."""
    status = imported.status
    counted = [tallies[each.id] for each in status.open_windows if each.id in tallies]
    counts = replace(
        status,
        open_windows=tuple(each for each in status.open_windows if each.id not in tallies),
        archived=status.archived + sum(each.archived for each in counted),
        skipped=status.skipped + sum(each.skipped for each in counted),
        failed=status.failed + sum(each.failed for each in counted),
        bytes=status.bytes + sum(each.bytes for each in counted),
    )
    return with_rate(counts, now)


def with_rate(status: ImportStatus, now: datetime) -> ImportStatus:
    """Return the status with its rate by the events that have ended."""
    return replace(status, rate=_rate(status, status.archived + status.skipped + status.failed, now))


def concluded(
    imported: Import,
    held: ImportHold | None,
    *,
    is_waiting: bool,
    now: datetime,
    left_out: ImportHold | None = None,
    stalled: ImportHold | None = None,
) -> ImportStatus:
    """
    Return the status with its conditions.

    ``is_waiting``: no window can be searched now, although nothing holds the Import. ``left_out``: why the
    Import is not complete, although all Senders of its status were searched. ``stalled``: why its events
    wait for a person, if it waits for them.
    """
    status = imported.status
    is_searched = _is_searched(imported)
    is_complete = is_searched and not status.open_windows and left_out is None
    if is_complete:
        reason, message = ImportHold("ImportComplete", _result(imported))
    elif held is not None:
        reason, message = held
    elif is_searched and not status.open_windows and left_out is not None:
        reason, message = left_out
    elif is_waiting and not is_searched and len(status.open_windows) < MAX_OPEN_WINDOWS:
        reason, message = _not_searched(imported, stalled)
    else:
        reason, message = stalled or RUNNING
    return _with_conditions(imported, ImportHold(reason, message), is_complete=is_complete, now=now)


def copies_concluded(
    imported: Import, held: ImportHold | None, *, is_complete: bool, now: datetime
) -> ImportStatus:
    """Return the status with the conditions of an Import with ``copiesOnly``."""
    status = imported.status
    said = held or RUNNING
    if is_complete:
        message = (
            f"{status.archived} of {status.found} archived envelopes got their copies, and {status.known} "
            f"had them before. {status.failed} could not be copied."
        )
        said = ImportHold("ImportComplete", message)
    return _with_conditions(imported, said, is_complete=is_complete, now=now)


def _with_conditions(imported: Import, said: ImportHold, *, is_complete: bool, now: datetime) -> ImportStatus:
    status, generation, (reason, message) = imported.status, imported.metadata.generation, said
    truth: ConditionStatus = "True" if is_complete else "False"
    conditions = with_condition(
        status.conditions, "Complete", truth, reason, message, now=now, generation=generation
    )
    conditions = with_readiness(conditions, truth, reason, message, now=now, generation=generation)
    return replace(
        status,
        conditions=conditions,
        observed_generation=generation,
        completion_time=now.replace(microsecond=0) if is_complete else None,
    )


def internal_error_hold(error: Exception) -> ImportHold:
    """Return what an Import says whose work met an internal error. A person has to know, although it is tried
    again: no deadline ends it, as that of an event."""
    message = (
        f"The work on the Import ended with {type(error).__name__}. The controller's log has the details. It "
        "is tried again."
    )
    return ImportHold("ImportFailing", message)


def broken_off(imported: Import, hold: ImportHold, *, now: datetime) -> ImportStatus:
    """Return the status of an Import whose work ended early, for this reason."""
    return _with_conditions(imported, hold, is_complete=False, now=now)


def after_completion(imported: Import) -> ImportStatus:
    """Return the status of a complete Import after a change of its spec, which changes no result."""
    status, generation = imported.status, imported.metadata.generation
    conditions = with_generation(status.conditions, generation)
    return replace(status, observed_generation=generation, conditions=conditions)


RUNNING = ImportHold("ImportRunning", "The Import continues automatically.")
"""The Import works, or waits for its events."""


def _result(imported: Import) -> str:
    status = imported.status
    verb = "Counted" if imported.spec.dry_run else "Found"
    doubtful = [each.name for each in status.senders if each.doubt]
    message = f"{verb} {status.found} envelopes, {status.known} of which had an event before."
    if status.reopened:
        verb = "would start" if imported.spec.dry_run else "started"
        message += f" {status.reopened} of these {verb} again, since they ended without an archive."
    if status.failed:
        message += f" {status.failed} events failed."
    if status.refused:
        message += f" {status.refused} envelopes got no event: the log of the controller has the reason."
    if status.report_parts is not None and status.report_parts.lacking:
        message += (
            f" The report lacks {status.report_parts.lacking} of these envelopes, since the archive did not "
            "return their list as it was written."
        )
    if doubtful:
        message += (
            f" eSignAnyWhere may have left envelopes of {len(doubtful)} Senders out, such as "
            f"Sender/{doubtful[0]}: status.senders has the details."
        )
    return f"{message} {_searched_span(imported)}"


def _searched_span(imported: Import) -> str:
    end = last_day(imported)
    if end is None:
        end = f"{span_of(imported).end.astimezone(UTC):%Y-%m-%d %H:%M} UTC, when the Import was created"
    searched = f"Searched: what was sent from {imported.spec.from_} to {end}"
    # Before the first window is done there is none.
    statuses = ", ".join(imported.status.statuses)
    return f"{searched}. Statuses that were searched: {statuses}." if statuses else f"{searched}."


def events_waiting(events: Iterable[EnvelopeEvent]) -> ImportHold | None:
    """Return that unfinished events of an Import wait for a person; None if each continues automatically."""
    for event in events:
        if event.status.reason and is_stalled("False", event.status.reason):
            message = (
                "Events of the Import wait for a person, such as "
                f"EnvelopeEvent/{event.name} ({event.status.reason})."
            )
            return ImportHold("ImportEventsWaiting", message)
    return None


def _not_searched(imported: Import, stalled: ImportHold | None) -> ImportHold:
    """Return why no window can be searched: each Sender that is left has its reason in the status."""
    left = [each for each in imported.status.senders if not each.searched]
    if any(find_reason(each.reason or "").responsible is Responsible.NOBODY for each in left):
        return stalled or RUNNING
    if not left:
        return ImportHold(
            "NoUsableSender", f"Organization/{imported.organization} has no Sender. Create one."
        )
    first = left[0]
    message = (
        f"{len(left)} Senders can't be searched, such as Sender/{first.name} ({first.reason}): "
        f"{first.message} The Import continues when the cause is corrected; status.senders has that of "
        "each one. Without them, create an Import that lists the others in spec.senderRefs, and suspend this "
        "one."
    )
    return ImportHold("SendersNotSearched", message[:MAX_MESSAGE])
