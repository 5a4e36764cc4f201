"""
Feeds the office from the watches, and the schedule from the office.

Level-triggered throughout: a change only says "look again". Which of several controllers writes the status of a
shared object is told by its name (``owns``); events belong to the shard in their label.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from controller.access.archive_pool import ArchivePool
from controller.access.sender_keys import SenderKeys
from controller.cache import Cache, version_number
from controller.reconcile.reconciler import Reconciler
from controller.resync.garbage_collector import GarbageCollector
from controller.resync.missed_callbacks import MissedCallbackFinder
from controller.resync.organization_status import OrganizationStatusUpdater
from controller.resync.resync import Resync
from controller.retry.fix_rules import archive_may_fix, organization_may_fix
from controller.scheduling.due import EPOCH, due_time, has_request, is_suspended
from controller.scheduling.fair_queue import ConcurrencyLimits, QueueItem
from controller.scheduling.workqueue import WorkQueue
from controller.telemetry.gauges import Gauges
from counterfoil import tracing
from counterfoil.clock import Clock
from counterfoil.esaw.registry import EsawClients
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.kube.status import Superseded
from counterfoil.logs import log_context
from counterfoil.resources import (
    SENDER_LABEL,
    TRACEPARENT_ANNOTATION,
    Archive,
    EnvelopeEvent,
    Organization,
    Phase,
    ResourceInvalid,
    Sender,
    is_condition_true,
)
from counterfoil.resources.audit_annotation import PROBE_ANNOTATION

_log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
"""Pause before an event is tried again whose state could not be stored; doubled each time, since all is done anew."""

MAX_RETRY_SECONDS = 3600.0

REQUEUE_SECONDS = 1.0
"""Pause before an event is looked at again whose run ended without a change: the watch has news for us by then."""

ChangeHandler = Callable[[Organization | Sender | Archive], None]


@dataclass
class EventHandlers:
    """Knows what exists and lets it be worked on."""

    kube: KubeClient
    cache: Cache
    reconciler: Reconciler
    archive_pool: ArchivePool
    sender_keys: SenderKeys
    organizations: OrganizationStatusUpdater
    esaw_clients: EsawClients
    missed_callback_finder: MissedCallbackFinder
    garbage_collector: GarbageCollector
    clock: Clock
    process_limit: int
    shard: int
    shards: int
    workqueue: WorkQueue = field(init=False)
    resync: Resync = field(init=False)
    observed: ChangeHandler = field(init=False, default_factory=lambda: _ignore)
    """Is told of every newer state of an Organization, Sender or Archive."""
    event_failed: Callable[[EnvelopeEvent, datetime], None] = field(
        init=False, default_factory=lambda: _ignore
    )
    """Is told of every event that failed here, and when that run had begun."""
    _requeued_now: set[str] = field(init=False, default_factory=set)
    """Events that what they waited for may have come, whatever their next attempt time says."""
    _lost_outcomes: Counter[str] = field(init=False, default_factory=Counter)
    """How often in a row the outcome of an event's work was lost."""

    def __post_init__(self) -> None:
        self.workqueue = WorkQueue(
            clock=self.clock, concurrency_limits=self.concurrency_limits, reconcile=self.reconcile
        )
        self.sender_keys.changed = self.sender_changed
        self.resync = Resync(
            kube=self.kube,
            cache=self.cache,
            archive_pool=self.archive_pool,
            sender_keys=self.sender_keys,
            organizations=self.organizations,
            esaw_clients=self.esaw_clients,
            missed_callback_finder=self.missed_callback_finder,
            garbage_collector=self.garbage_collector,
            gauges=Gauges(
                metrics=self.reconciler.metrics,
                cache=self.cache,
                garbage_collector=self.garbage_collector,
                clock=self.clock,
                owns=self.owns,
            ),
            clock=self.clock,
            owns=self.owns,
            is_only_shard=self.shards == 1,
            sender_of=self.sender_of,
            organization_changed=self.organization_changed,
            archive_changed=self.archive_changed,
        )

    async def load(self, kube: KubeClient) -> None:
        """
        Read what is needed to judge events, before the first of them is seen.

        Else an event could come before its Organization and be told that there is none. Raises ``ApiError``.
        """
        async for raw in kube.list(Organization):
            self.handle_organization(None, raw)
        async for raw in kube.list(Sender):
            self.handle_sender(None, raw)
        async for raw in kube.list(Archive):
            self.handle_archive(None, raw)

    # -- What the watches tell ------------------------------------------------------------------------------

    def handle_event(self, type_: str | None, raw: Mapping[str, Any]) -> None:
        """An unfinished event was listed, added or changed; or it was finished or deleted (``DELETED``)."""
        metadata = raw["metadata"]
        if type_ == "DELETED":
            if self.cache.observe_removal(metadata["name"], int(metadata["resourceVersion"])):
                self._forget(metadata["name"])
        elif (event := _parsed(EnvelopeEvent, raw)) is not None:
            self.event_changed(event)

    def event_changed(self, event: EnvelopeEvent) -> None:
        """Take in a newer state of an event."""
        if self.cache.update_event(event):
            self._enqueue(event)
        elif event.status.phase.is_final:
            self._forget(event.name)

    def handle_organization(self, type_: str | None, raw: Mapping[str, Any]) -> None:
        """An Organization was listed, added, changed or deleted."""
        name = raw["metadata"]["name"]
        if type_ == "DELETED":
            self.cache.organizations.remove(name)
            self.organizations.forget(name)
            self._enqueue_all(self._events_of(name))
        elif (organization := _parsed(Organization, raw)) is not None:
            self.organization_changed(organization)

    def organization_changed(self, organization: Organization) -> None:
        """Take in a newer state of an Organization; what waited because of it goes on if its spec was changed."""
        before = self.cache.organizations.get(organization.name)
        if not self.cache.organizations.put(organization):
            return
        self.observed(organization)
        if organization.sweep_request is not None:
            self.resync.trigger()
        if before is not None and before.metadata.generation == organization.metadata.generation:
            return
        self.resync.trigger()
        concerned_events = self._events_of(organization.name)
        if before is not None and before.spec.default_sender_ref != organization.spec.default_sender_ref:
            for event in concerned_events:
                self.cache.sender_of.pop(event.name, None)
            self._requeue_now(
                event for event in concerned_events if event.status.phase is Phase.AWAITING_CONSENT
            )
        self._requeue_now(
            event for event in concerned_events if organization_may_fix(event.status.reason or "")
        )
        self._enqueue_all(concerned_events)

    def handle_sender(self, type_: str | None, raw: Mapping[str, Any]) -> None:
        """A Sender was listed, added, changed or deleted."""
        name = raw["metadata"]["name"]
        if type_ == "DELETED":
            self.cache.senders.remove(name)
            self.sender_keys.forget(name)
            self.resync.trigger()
            self._enqueue_all(event for event in self.cache.events if self.sender_of(event) == name)
        elif (sender := _parsed(Sender, raw)) is not None:
            self.sender_changed(sender)

    def sender_changed(self, sender: Sender) -> None:
        """Take in a newer state of a Sender; what waits for its key goes on if it works now."""
        before = self.cache.senders.get(sender.name)
        if not self.cache.senders.put(sender):
            return
        self.observed(sender)
        if before is None or before.metadata.generation != sender.metadata.generation:
            self.resync.trigger()
            without_sender = [event for event in self.cache.events if event.status.reason == "SenderMissing"]
            self._requeue_now(without_sender)
            self._enqueue_all(without_sender)
        self._enqueue_all(event for event in self.cache.events if self.sender_of(event) == sender.name)

    def shared_resource_changed(self, resource: Organization | Sender) -> None:
        """Take in a newer state of an Organization or Sender that was written here."""
        if isinstance(resource, Organization):
            self.organization_changed(resource)
        else:
            self.sender_changed(resource)

    def handle_archive(self, type_: str | None, raw: Mapping[str, Any]) -> None:
        """An Archive was listed, added, changed or deleted."""
        name = raw["metadata"]["name"]
        if type_ == "DELETED":
            self.cache.archives.remove(name)
            self.archive_pool.forget(name)
            self.resync.trigger()
        elif (archive := _parsed(Archive, raw)) is not None:
            self.archive_changed(archive)

    def archive_changed(self, archive: Archive) -> None:
        """Take in a newer state of an Archive; what waited because of it goes on when it was mended."""
        before = self.cache.archives.get(archive.name)
        if not self.cache.archives.put(archive):
            return
        is_spec_changed = before is None or before.metadata.generation != archive.metadata.generation
        was_ready = before is not None and is_condition_true(before.status.conditions, "Ready")
        is_ready = is_condition_true(archive.status.conditions, "Ready")
        is_probe_requested = before is not None and _probe_request(before) != _probe_request(archive)
        has_new_trust_anchors = (
            before is not None and before.status.trust_anchors != archive.status.trust_anchors
        )
        if is_spec_changed or has_new_trust_anchors or was_ready != is_ready:
            # Whoever saw that may have newer Secrets than are remembered here.
            self.archive_pool.refresh_secrets(archive)
        self.observed(archive)
        if is_spec_changed or is_probe_requested:
            self.resync.probe_soon(archive.name)
        if is_spec_changed or is_probe_requested or was_ready != is_ready:
            # The Organizations that name it say so in their own status.
            self.resync.trigger()
        if is_spec_changed or (is_ready and not was_ready):
            concerned_events = [
                event for event in self.cache.events if self._archive_of(event) == archive.name
            ]
            self._requeue_now(
                event for event in concerned_events if archive_may_fix(event.status.reason or "")
            )
            self._enqueue_all(concerned_events)

    # -- The schedule ---------------------------------------------------------------------------------------

    async def reconcile(self, name: str) -> None:
        """Let the driver work on an event, then plan it anew; what the schedule calls."""
        before = self.cache.events.get(name)
        if before is None:
            return
        self._requeued_now.discard(name)
        began = self.clock.now()
        with _logged_and_traced(before):
            try:
                after = await self.reconciler.reconcile(before)
            except Superseded as superseded:
                _log.info("the run was overtaken: %s", superseded)
                self._superseded(before, superseded.newest)
                return
            except ApiError as problem:
                _log.warning("the event's state could not be stored: %s", problem)
                self._requeue_after_failure(name)
                return
            except Exception:
                _log.exception("the work on an event broke off")
                self._requeue_after_failure(name)
                return
        self._lost_outcomes.pop(name, None)
        self._probe_failed_archive(after)
        if after.status.phase is Phase.FAILED:
            self.event_failed(after, began)
        self.event_changed(after)
        if version_number(after) == version_number(before):
            # Nothing came out of it; whatever is due at once must not turn in a circle.
            self._requeue_after(name, REQUEUE_SECONDS)

    def _superseded(self, before: EnvelopeEvent, newest: EnvelopeEvent | None) -> None:
        if newest is not None:
            self.event_changed(newest)
            self._requeue_after(before.name, REQUEUE_SECONDS)
            return
        known = self.cache.events.get(before.name)
        if known is not None and known.uid == before.uid:
            # Deleted; a watch that was broken at that time never tells.
            self.cache.forget_event(before.name)
            self._forget(before.name)

    def _requeue_after_failure(self, name: str) -> None:
        pause = min(RETRY_SECONDS * 2 ** min(self._lost_outcomes[name], 20), MAX_RETRY_SECONDS)
        self._lost_outcomes[name] += 1
        self._requeue_after(name, pause)

    def _probe_failed_archive(self, event: EnvelopeEvent) -> None:
        """Have an archive probed that made trouble, so that its status tells, and tells when it works again."""
        if not event.status.phase.is_final and (event.status.reason or "").startswith("Archive"):
            self.resync.probe_soon(self._archive_of(event))

    def concurrency_limits(self) -> ConcurrencyLimits:
        """The limits as they are now."""
        organizations = {each.name: each.spec.limits for each in self.cache.organizations}
        return ConcurrencyLimits(
            process=self.process_limit,
            organization={name: limits.concurrency for name, limits in organizations.items()},
            sender={name: limits.per_sender_concurrency for name, limits in organizations.items()},
            archive={each.name: each.spec.max_concurrency for each in self.cache.archives},
        )

    def owns(self, kind: str, name: str) -> bool:
        """Whether this process is the one that writes the status of a shared object."""
        digest = hashlib.sha256(f"{kind}/{name}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.shards == self.shard

    def sender_of(self, event: EnvelopeEvent) -> str:
        """Return the name of the event's Sender as far as it is known; empty for unknown."""
        return self.cache.sender_of.get(event.name) or event.metadata.labels.get(SENDER_LABEL, "")

    def _enqueue(self, event: EnvelopeEvent) -> None:
        self.workqueue.enqueue_at(self._queue_item(event), self._due_time(event))

    def _enqueue_all(self, concerned: Iterable[EnvelopeEvent]) -> None:
        for event in concerned:
            self._enqueue(event)
        self.workqueue.wake()

    def _requeue_after(self, name: str, seconds: float) -> None:
        """Plan an event as it is due, but not before so many seconds."""
        event = self.cache.events.get(name)
        if event is not None:
            when, earliest = self._due_time(event), self.clock.now() + timedelta(seconds=seconds)
            self.workqueue.enqueue_at(self._queue_item(event), None if when is None else max(when, earliest))

    def _requeue_now(self, concerned: Iterable[EnvelopeEvent]) -> None:
        """Let those events be due now, whatever their next attempt time: what they waited for may have come."""
        self._requeued_now.update(event.name for event in concerned)

    def _due_time(self, event: EnvelopeEvent) -> datetime | None:
        if event.name in self._requeued_now and not (is_suspended(event, self.cache) or has_request(event)):
            return EPOCH
        return due_time(event, self.cache)

    def _forget(self, name: str) -> None:
        self.workqueue.forget(name)
        self._requeued_now.discard(name)
        self._lost_outcomes.pop(name, None)

    def _queue_item(self, event: EnvelopeEvent) -> QueueItem:
        created = event.metadata.creation_timestamp
        return QueueItem(
            sort_key=f"{created.isoformat() if created else ''} {event.name}",
            event=event.name,
            envelope=event.spec.envelope_id,
            organization=event.organization,
            sender=self.sender_of(event),
            archive=self._archive_of(event),
        )

    def _events_of(self, organization: str) -> list[EnvelopeEvent]:
        return [event for event in self.cache.events if event.organization == organization]

    def _archive_of(self, event: EnvelopeEvent) -> str:
        organization = self.cache.organizations.get(event.organization)
        ref = organization.spec.archive_ref if organization is not None else None
        return ref.name if ref is not None else ""


def _probe_request(archive: Archive) -> str:
    """What a person who wants a probe now wrote into the annotation; after a start all are probed anyway."""
    return archive.metadata.annotations.get(PROBE_ANNOTATION, "")


@contextmanager
def _logged_and_traced(event: EnvelopeEvent) -> Iterator[None]:
    """Put on every log line and into the trace what is worked on."""
    facts = {"event": event.name, "envelope": event.spec.envelope_id, "organization": event.organization}
    traceparent = event.metadata.annotations.get(TRACEPARENT_ANNOTATION)
    with log_context(**facts), tracing.span("event", traceparent=traceparent, **facts):
        yield


def _ignore(*_: object) -> None:
    """Stand for nobody who wants to know."""


def _parsed(kind: type[Any], raw: Mapping[str, Any]) -> Any:
    try:
        return kind.parse(raw)
    except ResourceInvalid as invalid:
        # The CRD refuses such objects; one that is stored all the same comes from another version of it.
        _log.error("an object can't be read and is passed over: %s", invalid)
        return None
