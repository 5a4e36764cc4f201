"""
What exists: the unfinished events and all Organizations, Senders and Archives, as the watches told it last.

Pure memory with one owner (the event loop). Newer versions win over older ones, because the answer to our own write
is usually here before the watch's echo of it. Finished events are not here at all (rule 9).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from counterfoil.resources import Archive, EnvelopeEvent, Organization, Resource, Sender

R = TypeVar("R", bound=Resource)

MAX_FINISHED_VERSIONS = 10_000
"""How many finished events are remembered at most. Late echoes come within seconds; a broken watch tells nothing."""


def version_number(resource: Resource) -> int:
    """Order of two states of one object. (KEP-5504: resourceVersions of one resource can be compared as numbers.)"""
    return int(resource.metadata.resource_version or 0)


class Store(Generic[R]):
    """All objects of one kind by name, the newest state of each."""

    def __init__(self) -> None:
        self._objects: dict[str, R] = {}

    def put(self, resource: R) -> bool:
        """Keep this state if it is news; tells whether it was."""
        known = self._objects.get(resource.name)
        if (
            known is not None
            and known.uid == resource.uid
            and version_number(known) >= version_number(resource)
        ):
            return False
        self._objects[resource.name] = resource
        return True

    def remove(self, name: str) -> None:
        """Forget an object."""
        self._objects.pop(name, None)

    def get(self, name: str) -> R | None:
        """Return the newest known state, or None."""
        return self._objects.get(name)

    def __iter__(self) -> Iterator[R]:
        return iter(list(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)


@dataclass
class Cache:
    """Everything that is known about the namespace; of events only the unfinished ones."""

    events: Store[EnvelopeEvent] = field(default_factory=Store)
    organizations: Store[Organization] = field(default_factory=Store)
    senders: Store[Sender] = field(default_factory=Store)
    archives: Store[Archive] = field(default_factory=Store)
    sender_of: dict[str, str] = field(default_factory=dict)
    """Per unfinished event: the name of its Sender, once looked up."""

    _finished_versions: dict[str, int] = field(default_factory=dict)
    """Versions of events that were finished here and whose leaving the watch has not told yet."""

    def update_event(self, event: EnvelopeEvent) -> bool:
        """
        Keep a newer state of an event; tells whether it is one, and unfinished.

        The echo of an earlier write of ours may come after we finished the event: it must not bring it back to life.
        """
        finished = self._finished_versions.get(event.name)
        if finished is not None and version_number(event) <= finished:
            return False
        if event.status.phase.is_final:
            self.forget_event(event.name)
            self._finished_versions[event.name] = version_number(event)
            if len(self._finished_versions) > MAX_FINISHED_VERSIONS:
                del self._finished_versions[next(iter(self._finished_versions))]
            return False
        self._finished_versions.pop(event.name, None)
        return self.events.put(event)

    def observe_removal(self, name: str, removed_version: int) -> bool:
        """An event was finished or deleted, as the watch tells at that version; tells whether that is news."""
        self._finished_versions.pop(name, None)
        known = self.events.get(name)
        if known is not None and version_number(known) > removed_version:
            # Re-opened since, by a request that this process carried out.
            return False
        self.forget_event(name)
        return True

    @property
    def finished_count(self) -> int:
        """How many finished events still cost memory."""
        return len(self._finished_versions)

    def forget_event(self, name: str) -> None:
        """Drop an event that is finished or deleted."""
        self.events.remove(name)
        self.sender_of.pop(name, None)
