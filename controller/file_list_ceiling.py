"""
The ceiling of the lists of files that the unfinished events of an Organization keep in their statuses.

eSAW chooses how many files it lists and whether their downloads fail, and the controller keeps each
unfinished event in memory. So an event with a long list waits until the lists of its Organization leave room
for its own; other Organizations do not notice. Bytes count, since eSAW chooses the lengths of names and ids.

Only an event that lists or archives its files has a long list in memory. The event store leaves out that of
any other: a list of archived files does not count then, and another counts, since etcd keeps it. Of archived
events it leaves out short lists, too. If such an event runs again, the run reads the list, and a long list
takes room before that.

An event that waits for a person may keep its list for weeks. So a list that fits may pass a larger one that
waited first, as long as the larger one would find no room even if all lists that passed it had ended. After
that none passes it: it has its room as soon as they end.

Each process counts the events that it watches. This module stores nothing: the statuses tell the next process
which events have a list and which wait. A list for which room was taken counts at once. If another change of
the event is reported before its list is stored, the list counts again once it is stored. Only events of the
event store are counted: a run can outlive its event.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import Final, NamedTuple

from counterfoil.i18n.reasons import Responsible, find_reason
from counterfoil.resources import (
    PHASE_CONDITIONS,
    EnvelopeEvent,
    FiledDocument,
    Phase,
    is_condition_true,
    stored_size,
)
from counterfoil.resources.envelopeevent import ARCHIVED_PHASES

FILE_LIST_CEILING: Final = "FileListCeiling"
"""Reason of an event that waits until there is room for its list."""

FREE_BYTES: Final = 8 * 1024
"""Maximum bytes in etcd of a list that neither waits nor counts: about 20 files with common names."""

MAX_LISTS_BYTES: Final = 10 * 1024 * 1024
"""Maximum bytes in etcd of the longer lists of one Organization in one process: about 25,000 files, which
need about 35 MiB of memory."""

CEILING_PAUSE: Final = timedelta(hours=1)
"""Longest pause of a waiting event. Room makes it due at once."""

MAX_DUE_AT_ONCE: Final = 100
"""Maximum number of waiting events that one change of another event makes due. The rest is tried after its
pause, so that no change costs time for each of thousands of events."""


@dataclass
class OrganizationLists:
    """The long lists of one Organization, and the events that wait for room."""

    kept: dict[str, int] = field(default_factory=dict)
    """Bytes by event, the list that was kept first before the others."""
    waiting: dict[str, int] = field(default_factory=dict)
    """Bytes that a waiting event needs, 0 if unknown; the event that waited first before the others."""
    total: int = 0
    """Sum of ``kept``."""
    passed: set[str] = field(default_factory=set)
    """Events with a list that were let past one that waited first."""
    passed_total: int = 0
    """Sum of the lists of ``passed``."""

    def has_room(self, event: str, size: int) -> bool:
        """
        Return whether an event may keep a list of this size in bytes.

        A short list, one that does not grow, and one without another beside it always may. The list that was
        kept first may always grow, so one event always continues. All others must fit below the ceiling, and
        those without a list come in the order in which they waited, unless they may pass the first of them.
        """
        own = self.kept.get(event, 0)
        others = self.total - own
        if size <= max(FREE_BYTES, own) or not others:
            return True
        fits = others + size <= MAX_LISTS_BYTES
        if own:
            return fits or event == next(iter(self.kept))
        return fits and (event == next(iter(self.waiting), event) or self._may_pass())

    def _may_pass(self) -> bool:
        """Whether the event that waited first would have no room even if all lists that passed it had
        ended."""
        first, size = next(iter(self.waiting.items()))
        own = 0 if first in self.passed else self.kept.get(first, 0)
        others = self.total - self.passed_total - own
        return others + min(size, MAX_LISTS_BYTES) > MAX_LISTS_BYTES

    def may_continue(self, event: str) -> bool:
        """
        Return whether a waiting event may be tried now.

        One that needs an unknown number of bytes may if it waited first.
        """
        if event not in self.waiting:
            return False
        size = self.waiting[event]
        is_known = size > 0 or event in (next(iter(self.waiting)), next(iter(self.kept), ""))
        return is_known and self.has_room(event, size)

    def next_events(self) -> tuple[str, ...]:
        """Return the waiting events to try now: those that have room together, of the first
        ``MAX_DUE_AT_ONCE``."""
        first = dict.fromkeys((*islice(self.waiting, MAX_DUE_AT_ONCE), next(iter(self.kept), "")))
        found, room = list[str](), MAX_LISTS_BYTES - self.total
        for each in first:
            is_first = not found or each in self.kept
            if self.may_continue(each) and (is_first or self.waiting[each] <= room):
                found.append(each)
                room -= self.waiting[each]
        return tuple(found)

    def take(self, event: str, size: int) -> bool:
        """Count a list of this size in bytes if it has room; else the event waits."""
        if not self.has_room(event, size):
            self.waiting[event] = size
            return False
        if size > FREE_BYTES:
            if event not in self.kept and event != next(iter(self.waiting), event):
                self.passed.add(event)
            self.keep(event, size)
        return True

    def keep(self, event: str, size: int) -> None:
        """Count a list of this size in bytes; 0: none."""
        growth = size - self.kept.get(event, 0)
        self.total += growth
        if event in self.passed:
            self.passed_total += growth
        if size:
            self.kept[event] = size
        else:
            self.kept.pop(event, None)
            self.passed.discard(event)


class LeftOutList(NamedTuple):
    """A list that the event store does not keep."""

    size: int
    """Bytes in etcd: the room that a run needs; 0 for a short list."""
    unarchived: int
    """Bytes of the files that eSAW listed and that are not archived: they count without a run, too."""


@dataclass
class FileListCeiling:
    """The lists of all Organizations. The event store reports each of its events."""

    find: Callable[[str], EnvelopeEvent | None]
    """Returns the event of this name in the event store."""
    by_organization: defaultdict[str, OrganizationLists] = field(
        default_factory=lambda: defaultdict(OrganizationLists)
    )
    left_out: dict[str, LeftOutList] = field(default_factory=dict)
    """The lists that the event store does not keep, by event."""
    _in_run: dict[str, int] = field(default_factory=dict)
    """Bytes for which a run of such an event took room."""

    def observe(self, event: EnvelopeEvent) -> None:
        """Count the list in the newest status of an unfinished event, a state with all its files."""
        lists, left_out = self.by_organization[event.organization], left_out_list(event)
        if left_out is None:
            self.left_out.pop(event.name, None)
            lists.keep(event.name, _long_bytes(event.status.documents))
        else:
            self.left_out[event.name] = left_out
            lists.keep(event.name, max(left_out.unarchived, self._in_run.get(event.name, 0)))
        if event.status.reason != FILE_LIST_CEILING:
            lists.waiting.pop(event.name, None)
        elif event.name not in self._in_run:
            # A running one has room, and has this reason until its run stores another.
            lists.waiting.setdefault(event.name, 0)
        self._forget_if_empty(event.organization)

    def forget(self, event: EnvelopeEvent) -> None:
        """Remove an event that ended or was deleted."""
        lists = self.by_organization[event.organization]
        lists.keep(event.name, 0)
        lists.waiting.pop(event.name, None)
        self.left_out.pop(event.name, None)
        self._in_run.pop(event.name, None)
        self._forget_if_empty(event.organization)

    def take_for_run(self, event: EnvelopeEvent) -> bool:
        """
        Take room for the list of an event that the store keeps without it, before a run reads the list;
        False: there is none. ``run_ended`` must follow.

        There is none if the event is known to need more than its stored list: its run would wait again.
        """
        size = self.left_out[event.name].size
        if self.must_wait(event) or not self._take(event, size):
            return False
        self._in_run[event.name] = size
        # Others must not wait behind it to the end of its run.
        self.by_organization[event.organization].waiting.pop(event.name, None)
        return True

    def run_ended(self, event: EnvelopeEvent) -> None:
        """Count the list of an event as before its run, unless the store keeps the list now."""
        taken, left_out = self._in_run.pop(event.name, None), self.left_out.get(event.name)
        known = self.find(event.name)
        if taken is None or known is None:
            return
        lists = self.by_organization[known.organization]
        if left_out is not None:
            lists.keep(known.name, left_out.unarchived)
        if known.status.reason == FILE_LIST_CEILING:
            lists.waiting.setdefault(known.name, taken)
        self._forget_if_empty(known.organization)

    def take(self, event: EnvelopeEvent, documents: Sequence[FiledDocument]) -> bool:
        """
        Take room for the list that an event is about to store; False: there is none.

        An event that was deleted during its run takes none: nothing would ever release it.
        """
        return self._take(event, stored_size(documents))

    def _take(self, event: EnvelopeEvent, size: int) -> bool:
        known = self.find(event.name)
        if known is None or (known.uid, known.organization) != (event.uid, event.organization):
            return True
        has_room = self.by_organization[event.organization].take(event.name, size)
        self._forget_if_empty(event.organization)
        return has_room

    def next_events(self, organization: str) -> tuple[str, ...]:
        """Return the names of the events that wait for room and that are tried now."""
        lists = self.by_organization.get(organization)
        return lists.next_events() if lists is not None else ()

    def may_continue(self, event: EnvelopeEvent) -> bool:
        """Whether an event waits for room, and may be tried now."""
        lists = self.by_organization.get(event.organization)
        return lists is not None and lists.may_continue(event.name)

    def must_wait(self, event: EnvelopeEvent) -> bool:
        """Whether an event waits for room, and there is none for the list that it is known to need."""
        lists = self.by_organization.get(event.organization)
        if lists is None or not lists.waiting.get(event.name):
            return False
        return not lists.may_continue(event.name)

    def largest(self, organization: str) -> EnvelopeEvent | None:
        """Return the event that keeps the longest list of an Organization, of those that wait for a person if
        there are any."""
        lists = self.by_organization.get(organization)
        kept = dict(lists.kept) if lists is not None else {}
        found = [event for each in kept if (event := self.find(each)) is not None]
        return max(found, key=lambda event: (waits_for_person(event), kept[event.name]), default=None)

    def _forget_if_empty(self, organization: str) -> None:
        lists = self.by_organization[organization]
        if not lists.kept and not lists.waiting:
            del self.by_organization[organization]


def _long_bytes(documents: Sequence[FiledDocument]) -> int:
    size = stored_size(documents) if documents else 0
    return size if size > FREE_BYTES else 0


def waits_for_person(event: EnvelopeEvent) -> bool:
    """Whether an event waits until a person acts."""
    reason = event.status.reason
    return reason is not None and find_reason(reason).responsible is not Responsible.NOBODY


def left_out_list(event: EnvelopeEvent) -> LeftOutList | None:
    """
    Return the list that the event store leaves out of an event; None: it keeps the event as it is.

    An archived event may wait for a year until its envelope is deleted, as its administrator configured: it
    must stop no other. Any number of them may wait, so their short lists are left out, too, unless they have
    one file: the store keeps that, and with it the status still tells that the archiving began.
    """
    status = event.status
    if status.phase in (Phase.COLLECTING, Phase.ARCHIVING) and status.reason != FILE_LIST_CEILING:
        return None
    size = _long_bytes(status.documents)
    if status.phase in ARCHIVED_PHASES or is_condition_true(
        status.conditions, PHASE_CONDITIONS[Phase.ARCHIVING]
    ):
        return LeftOutList(size, 0) if size or len(status.documents) > 1 else None
    if not size:
        return None
    return LeftOutList(size, _long_bytes(tuple(each for each in status.documents if each.sha256 is None)))
