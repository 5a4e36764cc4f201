"""
Waiting events continue after a fix: a change of an object -> the waiting events that it wakes, and the resync
that it triggers. ``controller.reopening.fix_rules`` says which fix may solve which reason.

Level-triggered: a change only says which events to examine again, so these are enqueued. The handlers receive
changes from the cache; the cache receives them from the watches and from the status writers of this process.
"""

from dataclasses import dataclass

from controller.access.archive_pool import ArchivePool
from controller.access.sender_keys import SenderKeys
from controller.cache import Cache
from controller.reader import key_of
from controller.reopening.fix_rules import (
    access_of,
    archive_may_fix,
    organization_may_fix,
    organization_spec_may_fix,
)
from controller.resync.organization_status import OrganizationStatusUpdater
from controller.resync.resync import Resync
from controller.scheduling.due import ARCHIVE_NOT_PROBED, ARCHIVE_PROBE_OVERDUE
from controller.scheduling.event_queue import EventQueue
from counterfoil.resources import (
    Archive,
    EnvelopeEvent,
    Organization,
    Phase,
    Sender,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.conditions import UNREAD_SECRET_REASONS
from counterfoil.resources.envelopeevent import TriedKey
from counterfoil.resources.organization import ARCHIVE_SHARED
from counterfoil.resources.routes import archive_names
from counterfoil.resources.sender import SenderSpec


@dataclass(frozen=True)
class WakeUps:
    """The handlers of all four kinds."""

    cache: Cache
    event_queue: EventQueue
    resync: Resync
    archive_pool: ArchivePool
    sender_keys: SenderKeys
    organizations: OrganizationStatusUpdater

    def event_changed(self, before: EnvelopeEvent | None, after: EnvelopeEvent | None) -> None:
        """
        A changed event is enqueued at its due time; one that ended or was deleted leaves the queue.

        It may leave room for the list of files of another event, which is then due at once.
        """
        if after is not None:
            self.event_queue.enqueue(after)
        elif before is not None:
            self.event_queue.forget(before.name)
        if (event := after or before) is not None:
            for name in self.cache.events.file_lists.next_events(event.organization):
                if (waiting := self.cache.events.get(name)) is not None:
                    self.event_queue.enqueue(waiting)

    def organization_changed(self, before: Organization | None, after: Organization | None) -> None:
        """Events that wait because of the Organization are due at once if its spec was changed, and those of
        others if it left the Archives that it shared with them."""
        if before is not None and (after is None or _folders(before) != _folders(after)):
            self._let_sharing_continue()
        if after is None:
            if before is not None:
                self.organizations.forget(before.name)
                self.event_queue.enqueue_all(self.cache.events_of(before.name))
            return
        if before is not None and before.metadata.generation == after.metadata.generation:
            return
        self.resync.trigger()
        events = self.cache.events_of(after.name)
        if before is not None and before.spec.default_sender_ref != after.spec.default_sender_ref:
            for event in events:
                self.cache.forget_sender(event.name)
            self.event_queue.mark_due_now(events, _awaits_consent)
        is_new_access = before is None or access_of(before.spec) != access_of(after.spec)
        may_fix = organization_may_fix if is_new_access else organization_spec_may_fix
        self.event_queue.mark_due_now(events, lambda event: may_fix(event.status.reason or ""))
        self.event_queue.enqueue_all(events)

    def sender_changed(self, before: Sender | None, after: Sender | None) -> None:
        """
        Events of its Organization that wait for the Sender's key are due if the key works now.

        Anybody who may patch a Sender can change its metadata many times a second, and one process has the
        events of all Organizations, so only a change that decides about an event is followed.
        """
        sender = after or before
        if sender is None:
            return
        events = self.cache.events_of(sender.spec.organization_ref.name)
        if after is not None:
            self.sender_keys.observe(after)
        if after is None:
            self.sender_keys.forget(sender.name)
            self.resync.trigger()
        elif before is None or before.metadata.generation != after.metadata.generation:
            self.resync.trigger()
            self.event_queue.mark_due_now(events, _misses_sender)
            self.event_queue.enqueue_all(filter(_misses_sender, events))
        elif _decisive_state(before) == _decisive_state(after):
            return
        concerned = self.cache.concerned_events(sender)
        if before is not None and not _is_authorized(before) and after is not None and _is_authorized(after):
            self.event_queue.mark_due_now(concerned, _lacks_key)
            if before.is_key_unread:
                self.resync.check_unread_keys_soon()
        self.event_queue.enqueue_all(concerned)

    def archive_changed(self, before: Archive | None, after: Archive | None) -> None:
        """
        Events that wait for the Archive are due at once if its spec was changed, it became ready, or a probe
        stored its root.

        Those that wait for its first probe are due if a probe found another fault, their new reason.
        """
        if after is None:
            if before is not None:
                self.archive_pool.forget(before.name)
                self.resync.trigger()
                # Events that its suspension held say now that it is missing.
                self.event_queue.enqueue_all(self._events_of_archive(before.name))
                self._let_sharing_continue()
            return
        is_spec_changed = before is None or before.metadata.generation != after.metadata.generation
        if before is not None and before.spec.path != after.spec.path:
            # An older Organization may have shared them by this one, a second Archive of the same place.
            self._let_sharing_continue()
        was_ready = before is not None and is_condition_true(before.status.conditions, "Ready")
        is_ready = is_condition_true(after.status.conditions, "Ready")
        has_new_anchors = before is not None and before.status.trust_anchors != after.status.trust_anchors
        if is_spec_changed or has_new_anchors or was_ready != is_ready:
            # The process that wrote this state may have read newer Secrets than the cached ones.
            self.archive_pool.refresh_secrets(after)
        has_new_root = before is not None and before.status.root != after.status.root
        root = after.status.root
        # A person confirmed another root: only a probe stores its marker.
        needs_probe = is_spec_changed or (has_new_root and (root is None or root.marker_id is None))
        if needs_probe:
            self.resync.probe_soon(after.name)
        if needs_probe or was_ready != is_ready:
            # The Organizations that refer to it repeat its state in their own status.
            self.resync.trigger()
        is_fault_new = _fault(after) is not None and (before is None or _fault(after) != _fault(before))
        may_be_fixed = is_spec_changed or has_new_root or (is_ready and not was_ready)
        if may_be_fixed or is_fault_new:
            events = self._events_of_archive(after.name)
            self.event_queue.mark_due_now(events, _archive_may_fix if may_be_fixed else _awaits_probe)
            self.event_queue.enqueue_all(events)

    def _let_sharing_continue(self) -> None:
        """Let the events of all Organizations be due that waited for an older one with the same folders."""
        events = list(self.cache.events)
        self.event_queue.mark_due_now(events, _is_sharing)
        self.event_queue.enqueue_all(filter(_is_sharing, events))

    def _events_of_archive(self, name: str) -> list[EnvelopeEvent]:
        return [event for event in self.cache.events if self.cache.may_use(event, name)]


def _decisive_state(sender: Sender) -> tuple[SenderSpec, TriedKey, str | None]:
    """Return all of a Sender that decides whether an event waits for it (``reader.key_state``, ``due``)."""
    authorized = find_condition(sender.status.conditions, "Authorized")
    return sender.spec, key_of(sender), authorized.status if authorized is not None else None


def _awaits_consent(event: EnvelopeEvent) -> bool:
    return event.status.phase is Phase.AWAITING_CONSENT


def _folders(organization: Organization) -> tuple[str, tuple[str, ...]]:
    """Return all of an Organization that decides which folders it shares with others."""
    return organization.spec.base_url, archive_names(organization.spec)


def _is_sharing(event: EnvelopeEvent) -> bool:
    return event.status.reason == ARCHIVE_SHARED


def _misses_sender(event: EnvelopeEvent) -> bool:
    return event.status.reason == "SenderMissing"


def _is_authorized(sender: Sender) -> bool:
    return is_condition_true(sender.status.conditions, "Authorized")


def _lacks_key(event: EnvelopeEvent) -> bool:
    """Whether the event waits for the Secret of a key. The message about one of an Archive begins with the
    Archive."""
    is_of_archive = (event.status.message or "").startswith("Archive/")
    return event.status.reason in UNREAD_SECRET_REASONS and not is_of_archive


def _fault(archive: Archive) -> tuple[str, int | None] | None:
    """Return why a probe found that the Archive can't be used, and with which spec; None: it did not."""
    ready = find_condition(archive.status.conditions, "Ready")
    if ready is None or ready.status != "False":
        return None
    return ready.reason, ready.observed_generation


def _awaits_probe(event: EnvelopeEvent) -> bool:
    return event.status.reason in (ARCHIVE_NOT_PROBED, ARCHIVE_PROBE_OVERDUE)


def _archive_may_fix(event: EnvelopeEvent) -> bool:
    return archive_may_fix(event.status.reason or "")
