"""
The ceiling of the lists of files that the unfinished events of an Organization keep in their statuses.

eSAW chooses how many files it lists and whether their downloads fail, and the controller keeps each
unfinished event in memory. So an event with a long list waits until the lists of its Organization leave room
for its own; other Organizations do not notice. Bytes count, since eSAW chooses the lengths of names and ids.

Each process counts the events that it watches. This module stores nothing: the statuses tell the next process
which events have a list and which wait. A list for which room was taken counts at once. If another change of
the event is reported before its list is stored, the list counts again once it is stored.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from counterfoil.resources import EnvelopeEvent, FiledDocument, stored_size
from counterfoil.resources.reopening import CLEANUP_DELAYED

FILE_LIST_CEILING: Final = "FileListCeiling"
"""Reason of an event that waits until there is room for its list."""

FREE_BYTES: Final = 8 * 1024
"""Maximum bytes in etcd of a list that neither waits nor counts: about 20 files with common names."""

MAX_LISTS_BYTES: Final = 10 * 1024 * 1024
"""Maximum bytes in etcd of the longer lists of one Organization in one process: about 25,000 files, which
need about 35 MiB of memory."""

CEILING_PAUSE: Final = timedelta(hours=1)
"""Longest pause of a waiting event. Room makes it due at once."""


@dataclass
class OrganizationLists:
    """The long lists of one Organization, and the events that wait for room."""

    kept: dict[str, int] = field(default_factory=dict)
    """Bytes by event, the list that was kept first before the others."""
    waiting: dict[str, int] = field(default_factory=dict)
    """Bytes that a waiting event needs, 0 if unknown; the event that waited first before the others."""
    total: int = 0
    """Sum of ``kept``."""

    def has_room(self, event: str, size: int) -> bool:
        """
        Return whether an event may keep a list of this size in bytes.

        A short list, one that does not grow, and one without another beside it always may. The list that was
        kept first may always grow, so one event always continues. All others must fit below the ceiling, and
        those without a list in the order in which they came.
        """
        own = self.kept.get(event, 0)
        others = self.total - own
        if size <= max(FREE_BYTES, own) or not others:
            return True
        fits = others + size <= MAX_LISTS_BYTES
        if own:
            return fits or event == next(iter(self.kept))
        return fits and event == next(iter(self.waiting), event)

    def next_events(self) -> tuple[str, ...]:
        """Return the waiting events that may be tried now."""
        first = dict.fromkeys((next(iter(self.waiting), ""), next(iter(self.kept), "")))
        return tuple(
            each for each in first if each in self.waiting and self.has_room(each, self.waiting[each])
        )

    def keep(self, event: str, size: int) -> None:
        """Count a list of this size in bytes; 0: none."""
        self.total += size - self.kept.get(event, 0)
        if size:
            self.kept[event] = size
        else:
            self.kept.pop(event, None)


@dataclass
class FileListCeiling:
    """The lists of all Organizations. The cache reports each unfinished event."""

    _organizations: defaultdict[str, OrganizationLists] = field(
        default_factory=lambda: defaultdict(OrganizationLists)
    )

    def observe(self, event: EnvelopeEvent) -> None:
        """Count the list in the newest status of an unfinished event."""
        lists = self._organizations[event.organization]
        lists.keep(event.name, _counted_bytes(event))
        if event.status.reason == FILE_LIST_CEILING:
            lists.waiting.setdefault(event.name, 0)
        else:
            lists.waiting.pop(event.name, None)
        self._forget_if_empty(event.organization)

    def forget(self, event: EnvelopeEvent) -> None:
        """Remove an event that ended or was deleted."""
        lists = self._organizations[event.organization]
        lists.keep(event.name, 0)
        lists.waiting.pop(event.name, None)
        self._forget_if_empty(event.organization)

    def take(self, event: EnvelopeEvent, documents: Sequence[FiledDocument]) -> bool:
        """Take room for the list that an event is about to store; False: there is none."""
        size, lists = stored_size(documents), self._organizations[event.organization]
        has_room = lists.has_room(event.name, size)
        if not has_room:
            lists.waiting[event.name] = size
        elif size > FREE_BYTES:
            lists.keep(event.name, size)
        self._forget_if_empty(event.organization)
        return has_room

    def next_events(self, organization: str) -> tuple[str, ...]:
        """Return the names of the events that wait for room and may be tried now."""
        lists = self._organizations.get(organization)
        return lists.next_events() if lists is not None else ()

    def must_wait(self, event: EnvelopeEvent) -> bool:
        """Whether an event waits for room, and there is none for it yet."""
        lists = self._organizations.get(event.organization)
        return lists is not None and event.name in lists.waiting and event.name not in lists.next_events()

    def kept_bytes(self, organization: str) -> int:
        """Return the bytes of the long lists of an Organization."""
        lists = self._organizations.get(organization)
        return lists.total if lists is not None else 0

    def _forget_if_empty(self, organization: str) -> None:
        lists = self._organizations[organization]
        if not lists.kept and not lists.waiting:
            del self._organizations[organization]


def _counted_bytes(event: EnvelopeEvent) -> int:
    """Return the bytes of the event's list that count. An archived event may wait for a year until its
    envelope is deleted, as its administrator configured: it stops no other."""
    status = event.status
    if not status.documents or status.reason == CLEANUP_DELAYED:
        return 0
    size = stored_size(status.documents)
    return size if size > FREE_BYTES else 0
