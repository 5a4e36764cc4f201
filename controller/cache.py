"""
The newest known state of all unfinished events, Organizations, Senders and Archives.

Watches and status writers call ``update`` and ``delete``; each change is published to the handlers of its
kind, as client-go's informers do. Memory only, with one owner (the event loop). A newer version replaces an
older one, because the answer to a write usually arrives before the watch's echo of it. Finished events are
not kept (rule 9).
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from msgspec.structs import replace

from controller.file_list_ceiling import FileListCeiling, left_out_list
from controller.kept_metadata import with_kept_metadata
from controller.reader import (
    Claims,
    KeyState,
    Reader,
    claims_of,
    is_of_other_user,
    key_state,
    proved_by,
    reader_of,
)
from counterfoil.resources import (
    LISTED_BY_LABEL,
    SENDER_LABEL,
    Archive,
    EnvelopeEvent,
    Import,
    Organization,
    Phase,
    Resource,
    Sender,
    is_condition_true,
)
from counterfoil.resources.organization import ArchiveUse
from counterfoil.resources.reopening import awaited_copies, copies_after_end
from counterfoil.resources.routes import (
    archive_names,
    awaited_archive,
    copy_names,
    is_copying_next,
    needed_choice,
    possible_archives,
)

_log = logging.getLogger(__name__)

R = TypeVar("R", bound=Resource)

ChangeHandler = Callable[[R | None, R | None], None]
"""Receives the state before (None: new) and after (None: deleted, or a finished event) a change."""

MAX_FINISHED_VERSIONS = 10_000
"""Maximum number of finished events whose version is remembered. Late echoes arrive within seconds."""


def version_number(resource: Resource) -> int:
    """Order of two states of an object. (KEP-5504: resourceVersions can be compared as numbers.)"""
    return int(resource.metadata.resource_version or 0)


def is_usable(sender: Sender) -> bool:
    """Whether the Sender's key is known to work, and the Sender is not suspended."""
    return not sender.spec.suspend and is_condition_true(sender.status.conditions, "Authorized")


def _awaits_any_key(event: EnvelopeEvent) -> bool:
    return event.status.phase is Phase.AWAITING_CONSENT or event.status.reason == "SenderSuspended"


class Store(Generic[R]):
    """All objects of one kind by name, the newest state of each."""

    def __init__(self) -> None:
        self._objects: dict[str, R] = {}

    def put(self, resource: R) -> bool:
        """
        Store this state if it is newer; return whether it was.

        This includes a state of another object of the same name, one that was deleted: kopf keeps the order
        of reports per uid, not per name.
        """
        known = self._objects.get(resource.name)
        if known is not None and version_number(known) >= version_number(resource):
            return False
        self._objects[resource.name] = resource
        return True

    def remove(self, name: str) -> None:
        """Remove an object."""
        self._objects.pop(name, None)

    def get(self, name: str) -> R | None:
        """Return the newest known state, or None."""
        return self._objects.get(name)

    def __contains__(self, name: str) -> bool:
        return name in self._objects

    def __iter__(self) -> Iterator[R]:
        return iter(list(self._objects.values()))

    def __len__(self) -> int:
        return len(self._objects)


class EventStore(Store[EnvelopeEvent]):
    """
    The unfinished events, also by Organization: what is done for each one reads its own events only.

    An event that neither lists nor archives its files is kept with the first file only if its list is long or
    the event is archived: a run must read it first.
    """

    def __init__(self) -> None:
        super().__init__()
        self.file_lists = FileListCeiling(self.get)
        self._by_organization: defaultdict[str, dict[str, EnvelopeEvent]] = defaultdict(dict)

    def put(self, resource: EnvelopeEvent) -> bool:
        """Store this state if it is newer; return whether it was."""
        before, stored = self.get(resource.name), resource
        if left_out_list(resource) is not None:
            first = resource.status.documents[:1]
            stored = replace(resource, status=replace(resource.status, documents=first))
        if not super().put(stored):
            return False
        if before is not None and before.organization != resource.organization:
            self._leave_out(before)
        self._by_organization[resource.organization][resource.name] = stored
        self.file_lists.observe(resource)
        return True

    def remove(self, name: str) -> None:
        """Remove an event."""
        if (known := self.get(name)) is not None:
            super().remove(name)
            self._leave_out(known)

    def is_complete(self, name: str) -> bool:
        """Return whether the known state of an event has the files of its status."""
        return name not in self.file_lists.left_out

    def of(self, organization: str) -> list[EnvelopeEvent]:
        """Return the events of an Organization."""
        return list(self._by_organization.get(organization, {}).values())

    def _leave_out(self, event: EnvelopeEvent) -> None:
        self.file_lists.forget(event)
        events = self._by_organization[event.organization]
        del events[event.name]
        if not events:
            del self._by_organization[event.organization]


@dataclass
class OrganizationSenders:
    """The Senders of one Organization by name, and what each check of one asks about the others: none looks
    at them all."""

    all: dict[str, Sender] = field(default_factory=dict)
    authorized: dict[str, Sender] = field(default_factory=dict)
    """Those whose keys are known to work, also suspended ones."""
    unauthorized: dict[str, Sender] = field(default_factory=dict)
    """All others, in an order that a new state does not change."""
    unread: dict[str, Sender] = field(default_factory=dict)
    """Those whose Secrets can't be read."""
    key_origins: Counter[str] = field(default_factory=Counter)
    """The origins that their keys record, and how many keys record each."""

    def put(self, sender: Sender) -> None:
        """Add a Sender, or replace its state."""
        self._leave_out(sender.name)
        self.all[sender.name] = sender
        if is_condition_true(sender.status.conditions, "Authorized"):
            self.authorized[sender.name] = sender
            self.unauthorized.pop(sender.name, None)
        else:
            self.unauthorized[sender.name] = sender
        if sender.is_key_unread:
            self.unread[sender.name] = sender
        if (origin := _key_origin(sender)) is not None:
            self.key_origins[origin] += 1

    def remove(self, name: str) -> None:
        """Remove a Sender."""
        self._leave_out(name)
        self.unauthorized.pop(name, None)
        del self.all[name]

    def _leave_out(self, name: str) -> None:
        for part in (self.authorized, self.unread):
            part.pop(name, None)
        known = self.all.get(name)
        if known is not None and (origin := _key_origin(known)) is not None:
            self.key_origins[origin] -= 1
            if not self.key_origins[origin]:
                del self.key_origins[origin]


def _key_origin(sender: Sender) -> str | None:
    return sender.status.key.origin if sender.status.key is not None else None


class SenderStore(Store[Sender]):
    """The Senders, also by Organization."""

    def __init__(self) -> None:
        super().__init__()
        self._by_organization: defaultdict[str, OrganizationSenders] = defaultdict(OrganizationSenders)

    def put(self, resource: Sender) -> bool:
        """Store this state if it is newer; return whether it was."""
        before, organization = self.get(resource.name), resource.spec.organization_ref.name
        if not super().put(resource):
            return False
        if before is not None and before.spec.organization_ref.name != organization:
            self._leave_out(before)
        self._by_organization[organization].put(resource)
        return True

    def remove(self, name: str) -> None:
        """Remove a Sender."""
        if (known := self.get(name)) is not None:
            super().remove(name)
            self._leave_out(known)

    def of(self, organization: str) -> OrganizationSenders:
        """Return the Senders of an Organization."""
        return self._by_organization.get(organization) or OrganizationSenders()

    def key_origins(self) -> Iterator[str]:
        """Yield the origins that keys record, of each Organization."""
        for each in self._by_organization.values():
            yield from each.key_origins

    def _leave_out(self, sender: Sender) -> None:
        organization = sender.spec.organization_ref.name
        self._by_organization[organization].remove(sender.name)
        if not self._by_organization[organization].all:
            del self._by_organization[organization]


@dataclass
class Cache:
    """The known objects of the namespace (events: the unfinished), and the handlers of their changes."""

    events: EventStore = field(default_factory=EventStore)
    organizations: Store[Organization] = field(default_factory=Store)
    senders: SenderStore = field(default_factory=SenderStore)
    archives: Store[Archive] = field(default_factory=Store)
    imports: Mapping[str, Import] | None = None
    """The Imports in their last list, by name and without the entries of their Senders; None before the first
    list, and in a controller that does not work on them."""
    sender_of: dict[str, str] = field(default_factory=dict)
    """Name of the Sender of each unfinished event, once it was looked up."""
    recorded_senders: dict[str, str | None] = field(default_factory=dict)
    """Name of the Sender that the Envelope of each such event names; None: no Envelope does."""

    has_all_events: bool = False
    """Whether all events of the first complete list were read. Before it, a missing event means nothing."""
    _unread_events: set[str] = field(default_factory=set)
    """Names in the first list whose objects were not read yet."""
    _is_list_complete: bool = False
    _finished_versions: dict[str, int] = field(default_factory=dict)
    """Versions of events that were finished here and whose removal the watch has not reported yet."""
    _handlers: dict[type[Resource], list[ChangeHandler[Any]]] = field(
        default_factory=lambda: defaultdict(list)
    )

    def imports_of(self, organization: str) -> list[Import]:
        """Return the known Imports of an Organization."""
        return [each for each in (self.imports or {}).values() if each.organization == organization]

    def archives_of(self, organization: Organization) -> tuple[str, ...]:
        """Return the names of the Archives of an Organization, those of its known Imports after its own."""
        refs = (each.spec.archive_ref for each in self.imports_of(organization.name) if not each.spec.dry_run)
        of_imports = (each.name for each in refs if each is not None)
        return tuple(dict.fromkeys([*archive_names(organization.spec), *of_imports]))

    @property
    def archive_use(self) -> ArchiveUse:
        """The Organizations and the Archives."""
        return ArchiveUse(self.organizations, self.archives.get)

    def add_handler(self, kind: type[R], handler: ChangeHandler[R]) -> None:
        """Call ``handler`` after each change of an object of this kind."""
        self._handlers[kind].append(handler)

    def expect_events(self, names: Iterable[str], *, is_last: bool) -> None:
        """A page of the first list of events has these names; ``is_last``: no page follows it."""
        if not self.has_all_events:
            self._unread_events.update(names)
            self._is_list_complete = is_last
            self.has_all_events = is_last and not self._unread_events

    def observe_event(self, name: str) -> None:
        """An event was read, and is in the cache unless it is finished or invalid."""
        if not self.has_all_events:
            self._unread_events.discard(name)
            self.has_all_events = self._is_list_complete and not self._unread_events

    def update(self, resource: Resource) -> None:
        """Store a newer state of an object and publish the change, without labels and annotations that nobody
        reads; an older state is ignored."""
        resource = with_kept_metadata(resource)
        kind, store = type(resource), self.store(type(resource))
        before = store.get(resource.name)
        if isinstance(resource, EnvelopeEvent):
            if self.update_event(resource):
                self._publish(kind, before, resource)
            elif before is not None and store.get(resource.name) is None:
                self._publish(kind, before, None)
        elif store.put(resource):
            self._publish(kind, before, resource)

    def update_written(self, resource: Resource) -> None:
        """
        Store the answer to a write, or what a check found as it was.

        It adds no Organization, Sender or Archive. One that is not known here was deleted meanwhile, and no
        watch would remove it again.
        """
        known = self.store(type(resource)).get(resource.name)
        is_known = known is not None and known.metadata.uid == resource.metadata.uid
        if is_known or isinstance(resource, EnvelopeEvent):
            self.update(resource)

    def update_from_read(self, resource: Resource, known_version: int) -> None:
        """
        Store a state that was read from the API server after ``known_version`` of the object was known here.

        No such read has a lower version, unless etcd was restored from a backup. Then it replaces the known
        state.
        """
        if version_number(resource) < known_version:
            kind, name = type(resource), resource.name
            _log.warning("%s of %s has a lower version than before: etcd was restored", name, kind.PLURAL)
            self.delete(kind, name, known_version)
        self.update(resource)

    def delete(self, kind: type[Resource], name: str, version: int) -> None:
        """Remove an object that was deleted (an event: or finished) at that version, and publish it."""
        store = self.store(kind)
        before = store.get(name)
        if kind is EnvelopeEvent:
            self.observe_removal(name, version)
        elif before is not None and version_number(before) <= version:
            # Else it is a new object of this name: kopf keeps the order of reports per uid, not per name.
            store.remove(name)
        if before is not None and store.get(name) is None:
            self._publish(kind, before, None)

    def store(self, kind: type[Resource]) -> Store[Any]:
        """Return the store of a kind."""
        stores: dict[type[Resource], Store[Any]] = {
            EnvelopeEvent: self.events,
            Organization: self.organizations,
            Sender: self.senders,
            Archive: self.archives,
        }
        return stores[kind]

    def sender_name(self, event: EnvelopeEvent) -> str:
        """Return the name of the event's Sender as far as it is known; empty if it is unknown."""
        return self.sender_of.get(event.name) or event.metadata.labels.get(SENDER_LABEL, "")

    def claims(self, event: EnvelopeEvent) -> Claims:
        """Return who may read the event's envelope, as far as it is known."""
        organization = self.organizations.get(event.organization)
        recorded = self.recorded_senders.get(event.name)
        return claims_of(event, organization, recorded=recorded, finder=None)

    def concerned_events(self, sender: Sender) -> list[EnvelopeEvent]:
        """
        Return the unfinished events whose envelopes this Sender may read, as far as it is known.

        The default Sender may be that of all events, so it counts only for one that waits for a key, or for a
        suspended Sender. Each of many thousand Senders can change at the same time, so this is short.
        """
        name, sender_of, recorded = sender.name, self.sender_of, self.recorded_senders
        organization = self.organizations.get(sender.spec.organization_ref.name)
        default = organization.spec.default_sender_ref if organization is not None else None
        is_default = default is not None and default.name == name
        found = list[EnvelopeEvent]()
        for event in self.events.of(sender.spec.organization_ref.name):
            labels, proved = event.metadata.labels, proved_by(event)
            if (
                (sender_of.get(event.name) or labels.get(SENDER_LABEL)) == name
                or recorded.get(event.name) == name
                or labels.get(LISTED_BY_LABEL) == name
                or (proved is not None and proved.name == name)
                or (is_default and _awaits_any_key(event))
            ):
                found.append(event)
        return found

    def key_state(self, event: EnvelopeEvent, sender: str) -> KeyState:
        """Return the known state of a Sender's key for the event."""
        return key_state(event, self.senders.get(sender))

    def reader(self, event: EnvelopeEvent) -> Reader | None:
        """Return who reads the event's envelope next, as far as it is known."""
        return reader_of(event, self.claims(event), self.senders.get, key_state)

    def sender_names(self, event: EnvelopeEvent) -> frozenset[str]:
        """
        Return the names of the Senders that the event may wait for; empty if none is known for certain.

        Once its Sender was looked up, it is the one that reads next. After a restart or a hand-over it is the
        one in the status, where the label may name another one: the label of an older run, or a newer one
        than the status.
        """
        if looked_up := self.sender_of.get(event.name):
            reader = self.reader(event)
            return frozenset({reader.name if reader is not None else looked_up})
        envelope = event.status.envelope
        if envelope is None or envelope.sender_ref is None:
            return frozenset()
        return frozenset({envelope.sender_ref.name, event.metadata.labels.get(SENDER_LABEL, "")} - {""})

    def suspended_sender(self, event: EnvelopeEvent) -> Sender | None:
        """
        Return the suspended Sender that holds the event; None: there is none, or it was not looked up yet.

        It is the one that reads next. Copies need no key, and their run looks no Sender up: theirs is the one
        whose key was used last. None holds those of an event that has ended: nothing else follows them.
        """
        if copies_after_end(event.status):
            return None
        if is_copying_next(event.status):
            last = self.senders.get(event.metadata.labels.get(SENDER_LABEL, ""))
            return None if last is None or is_of_other_user(event, last) or not last.spec.suspend else last
        if event.status.phase.is_final or event.name not in self.sender_of:
            return None
        named = (self.senders.get(each) for each in self.claims(event) if each is not None)
        if not any(each is not None and each.spec.suspend for each in named):
            # The reader of each of some thousand events takes longer than this.
            return None
        reader = self.reader(event)
        if reader is None or reader.state in (KeyState.FOREIGN, KeyState.MISSING):
            return None
        found = self.senders.get(reader.name)
        return found if found is not None and found.spec.suspend else None

    def is_archive_suspended(self, name: str) -> bool:
        """Whether a person suspends the Archive of this name."""
        archive = self.archives.get(name)
        return archive is not None and archive.spec.suspend

    def archive_name(self, event: EnvelopeEvent) -> str:
        """Return the name of the Archive that the event needs; empty if it has none, or its routes have not
        decided."""
        organization = self.organizations.get(event.organization)
        choice = needed_choice(event, organization.spec) if organization is not None else None
        return choice.archive if choice is not None else ""

    def used_archives(self, event: EnvelopeEvent) -> list[str]:
        """Return the Archives that the event needs, and that its errors may be about: its own, and those of
        the copies that it waits for."""
        names = (self.archive_name(event), *self.awaited_copies(event))
        return list(dict.fromkeys(filter(None, names)))

    def awaited_copies(self, event: EnvelopeEvent) -> tuple[str, ...]:
        """Return the Archives of the required copies that the event waits for, or that its delete reads."""
        organization = self.organizations.get(event.organization)
        return awaited_copies(event.status, organization.spec) if organization is not None else ()

    def problem_archive(self, event: EnvelopeEvent) -> str:
        """Return the Archive that a problem of the event is about; empty if it is not known."""
        organization = self.organizations.get(event.organization)
        return (awaited_archive(event, organization.spec) if organization is not None else None) or ""

    def may_use(self, event: EnvelopeEvent, archive: str) -> bool:
        """Whether the event waits for an Archive, or may choose it."""
        organization = self.organizations.get(event.organization)
        if organization is None:
            return False
        # In the queue it waits for an optional copy as well.
        is_copied = copies_after_end(event.status) and archive in copy_names(organization.spec)
        return is_copied or archive in possible_archives(event, organization.spec)

    def senders_of(self, organization: str) -> list[Sender]:
        """Return the Senders of an Organization."""
        return list(self.senders.of(organization).all.values())

    def authorized_senders(self, organization: str) -> list[Sender]:
        """Return the Senders of an Organization whose keys are known to work and that are not suspended."""
        senders = self.senders.of(organization)
        return [
            each for name, each in senders.all.items() if name in senders.authorized and not each.spec.suspend
        ]

    def default_sender_first(self, organization: Organization) -> list[Sender]:
        """Return the Senders whose keys a question about the Organization may use, in this order. Of the
        others, the one with the newest key is first."""
        default = organization.spec.default_sender_ref

        def rank(sender: Sender) -> tuple[bool, float]:
            verified = sender.status.key.verified_time if sender.status.key is not None else None
            is_default = default is not None and sender.name == default.name
            return not is_default, -verified.timestamp() if verified is not None else 0.0

        return sorted(self.authorized_senders(organization.name), key=rank)

    def events_of(self, organization: str) -> list[EnvelopeEvent]:
        """Return the unfinished events of an Organization."""
        return self.events.of(organization)

    def _publish(self, kind: type[Resource], before: Resource | None, after: Resource | None) -> None:
        if before is not None and after is not None and before.metadata.uid != after.metadata.uid:
            # Deleted and created again while no watch was open. The generation can be the same.
            self._publish(kind, before, None)
            before = None
        for handler in self._handlers[kind]:
            handler(before, after)

    def update_event(self, event: EnvelopeEvent) -> bool:
        """
        Store a newer state of an event, without publishing it; return whether it is newer and unfinished.

        The echo of an earlier write may arrive after the event was finished here: it does not restore the
        event.
        """
        finished = self._finished_versions.get(event.name)
        if finished is not None and version_number(event) <= finished:
            return False
        known = self.events.get(event.name)
        if known is not None and version_number(event) <= version_number(known):
            return False
        if event.status.phase.is_final:
            self.forget_event(event.name)
            self._finished_versions[event.name] = version_number(event)
            if len(self._finished_versions) > MAX_FINISHED_VERSIONS:
                del self._finished_versions[next(iter(self._finished_versions))]
            return False
        self._finished_versions.pop(event.name, None)
        if event.status.phase is Phase.PENDING and known is not None:
            # It starts again: who sent it may be recorded since.
            self.forget_sender(event.name)
        return self.events.put(event)

    def observe_removal(self, name: str, removed_version: int) -> bool:
        """Remove an event that was finished or deleted at that version; False: a newer state is known."""
        if self._finished_versions.get(name, 0) <= removed_version:
            self._finished_versions.pop(name, None)
        known = self.events.get(name)
        if known is not None and version_number(known) > removed_version:
            # This process re-opened the event since, for a person's request.
            return False
        self.forget_event(name)
        return True

    @property
    def finished_versions(self) -> Mapping[str, int]:
        """Remembered versions of finished events, by name."""
        return self._finished_versions

    def forget_event(self, name: str) -> None:
        """Remove an event that is finished or deleted."""
        self.events.remove(name)
        self.forget_sender(name)

    def forget_sender(self, name: str) -> None:
        """Let the Sender of an event be looked up again."""
        self.sender_of.pop(name, None)
        self.recorded_senders.pop(name, None)
