"""
Remove expired events and count the remaining ones: a slow pass over all events, one page at a time.

Finished events are in no watch and in no memory (rule 9). A pass reads one page per ``PAGE_SECONDS``; the
pause between passes is nine times the duration of a pass, ``MAX_REST_SECONDS`` at most. The CRD ensures that
nothing younger than 72 h is removed, because eSAW may repeat a callback for 36 h, which would create the
event again. A time to live has passed if it has by this process's clock and by the API server's: what is
removed does not come back.

An object that can't be read or changed costs itself: it is counted, and the pass continues with the next one.

A pass also re-opens events whose cause was fixed since they failed (docs/decisions/0021), before their time
to live counts, enqueues the late lists of kept envelopes (docs/decisions/0046), and observes changed specs:
no other component reads events that ended long ago. For the same reason it finds the events whose envelope
eSAW's own retention deletes soon.

Events of a deleted Organization have the default time to live, even while a notice or a late list is
outstanding, and no person hears of them any more: the log of each pass has the number of those that are
unfinished or failed, or that a person skipped or suspended. They stay until a person deletes them.

An ``Envelope`` is removed after the last event of its envelope, never before: it is marked before the event
that archived it is removed, and a later pass removes marked ones for which it found no event
(docs/decisions/0016).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from msgspec.structs import replace

from controller.cache import Cache
from controller.kept_metadata import with_kept_metadata
from controller.mails.problem_tracking import (
    EventArchives,
    FailureSummary,
    awaited_failures,
    failing_copies,
)
from controller.resync.statistics import EventStatistics, PassStatistics
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Conflict, NotFound
from counterfoil.kube.page_limits import SMALL_PAGE
from counterfoil.kube.watch import Raw
from counterfoil.resources import (
    ARCHIVED_LABEL,
    IMPORT_LABEL,
    IMPORT_WINDOW_LABEL,
    SHARD_LABEL,
    Envelope,
    EnvelopeEvent,
    Import,
    Organization,
    Phase,
    ResourceInvalid,
    envelope_of,
    is_condition_true,
)
from counterfoil.resources.imports import is_counted
from counterfoil.resources.organization import OrganizationSpec
from counterfoil.resources.reopening import given_up_copies
from counterfoil.retention import forbids_delete, imminent_deletion, removal_time

_log = logging.getLogger(__name__)

PAGE_SIZE = SMALL_PAGE
PAGE_SECONDS = 0.2
"""Pause after each page: 250 events in a second at most. As one page they would take 10 MiB of memory."""

MIN_REST_SECONDS = 60.0
START_SECONDS = 5.0
"""Pause before the first pass: after a start, the events that waited for the controller come first."""

ARCHIVED = "true"
"""Value of the label on an Envelope that is removed when no event of its envelope is left."""

REST_FACTOR = 9
"""Pause between two passes as a multiple of the duration of a pass."""

MAX_REST_SECONDS = 12 * 3600.0

FAILING_SECONDS = 300.0
"""Time that failed requests about single objects may take in one pass. After that the pass only counts, and
the next pass changes nothing of the objects that failed, so that it comes to the others."""


MAX_NAMED_ORGANIZATIONS = 10
"""Maximum number of Organizations in the log of a pass."""

DELETED_SECONDS = 24 * 3600.0
"""Time for which an Organization must be missing before its events have the default time to live: it may be
created again, with a longer one."""

_UNFINISHED, _FAILED, _KEPT = "unfinished", "failed", "skipped or suspended by a person"

DEFAULT_SPEC = OrganizationSpec(base_url="")
"""The times to live of the events of a deleted Organization."""


@dataclass
class GarbageCollector:
    """Removes expired events, page by page, and counts those that remain."""

    kube: KubeClient
    cache: Cache
    clock: Clock
    machine_clock: Clock
    """Removes nothing that has not ended by this clock, too."""
    statistics: EventStatistics
    reopeners: tuple[Callable[[EnvelopeEvent], Awaitable[EnvelopeEvent]], ...]
    """Each re-opens an event, or plans to, or observes its spec, if it has a reason to. It returns the newest
    state."""
    pass_finished: Callable[[datetime, Mapping[str, FailureSummary]], None]
    """Receives after each pass when it began and the failures by Organization."""
    _failed: set[str] = field(default_factory=set)
    """Names of the objects of this pass that could not be changed."""
    _left_out: frozenset[str] = frozenset()
    """Names of the objects that this pass does not change."""
    _failing_seconds: float = 0.0
    _missing_since: dict[str, float] = field(default_factory=dict)
    """By Organization that this process found missing: since when, by the monotonic clock."""
    _deleted: dict[str, bool] = field(default_factory=dict)
    """Whether an Organization is known in this pass to be deleted for long."""
    _of_deleted: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Events of deleted Organizations that stay, by Organization and ``_why_it_stays``."""
    _last_failure: Exception | None = None
    _imports: dict[str, Import | None] | None = None
    """The Imports at the beginning of the pass; None: unknown. Each counts its events before they are
    removed."""

    async def run(self) -> None:
        """Run passes until cancelled."""
        await self.clock.sleep(START_SECONDS)
        while True:
            since = self.clock.monotonic()
            try:
                await self._run_pass()
            except ApiError as problem:
                _log.warning("finished events can't be looked at at the moment: %s", problem)
            rest = REST_FACTOR * (self.clock.monotonic() - since)
            await self.clock.sleep(min(max(MIN_REST_SECONDS, rest), MAX_REST_SECONDS))

    async def _run_pass(self) -> None:
        self._left_out = frozenset(self._failed if self._is_failing_for_long else ())
        self._failed, self._failing_seconds = set(), 0.0
        self._deleted, self._of_deleted = {}, Counter()
        for name in [each for each in self._missing_since if each in self.cache.organizations]:
            del self._missing_since[name]
        self._imports = await self._list_imports()
        found = PassStatistics(self.clock.now())
        # Marked in earlier passes: events removed in this pass have been gone for a while at the next one.
        orphaned = await self._list_archived_envelopes()
        token = await self._process_page("", found, orphaned)
        while token:
            await self.clock.sleep(PAGE_SECONDS)
            token = await self._process_page(token, found, orphaned)
        for name, uid in orphaned.items():
            await self._remove_envelope(name, uid)
        if self._failed:
            problem = self._last_failure
            unexpected = None if isinstance(problem, ApiError) else problem
            count = len(self._failed)
            _log.warning("%d objects could not be cleaned up: %s", count, problem, exc_info=unexpected)
        self._log_events_of_deleted()
        organizations = [each.name for each in self.cache.organizations]
        found.finish(organizations)
        self.statistics.publish(found, organizations)
        self.pass_finished(found.began, found.failures)

    async def _list_archived_envelopes(self) -> dict[str, str]:
        """Return name and uid of each marked Envelope that can be read. Thousands need less memory than a
        page of events."""
        labels, found = f"{ARCHIVED_LABEL}={ARCHIVED}", dict[str, str]()
        try:
            async for envelope in self.kube.list_readable(Envelope, labels=labels):
                spec = await self._spec(envelope.spec.organization_ref.name)
                if may_be_outlived(envelope, spec, self._now()):
                    found[envelope.name] = envelope.uid
        except ApiError as problem:
            _log.warning("the Envelopes can't be read, so they stay until the next pass: %s", problem)
        return found

    async def _process_page(self, token: str, found: PassStatistics, orphaned: dict[str, str]) -> str:
        """Process a page of events, take their envelopes out of the orphaned ones, and return the token of
        the next page (empty after the last). Nothing of a page is in memory beside the next one."""
        page, token = await self.kube.continued_page(EnvelopeEvent, limit=PAGE_SIZE, token=token)
        for raw in page:
            if await self._process_event(raw, found):
                orphaned.pop(envelope_of(raw["metadata"]["name"]), None)
            # Most events need no request, and a page of them would block the loop for 60 ms.
            await asyncio.sleep(0)
        return token

    async def _process_event(self, raw: Raw, found: PassStatistics) -> bool:
        """Re-open an event whose cause was fixed, else remove an expired one; return whether it is left."""
        try:
            event = EnvelopeEvent.parse(raw)
        except ResourceInvalid as invalid:
            _log.warning("an event can't be read: %s", invalid)
            found.add_unreadable(raw)
            return True
        began = self.clock.monotonic()
        try:
            event, is_removed = await self._maintain(event)
        except Exception as problem:  # one object must not end the pass over all Organizations
            self._count_failure(event.name, problem, began)
            is_removed = False
        try:
            self._count(event, found, is_removed=is_removed)
        except Exception as problem:
            found.add_unreadable(raw)
            self._count_failure(event.name, problem, began)
        return not is_removed

    def _count(self, event: EnvelopeEvent, found: PassStatistics, *, is_removed: bool) -> None:
        archives = self._archives(event)
        if is_removed:
            found.add_removed(event, archives)
            return
        found.add(event, archives)
        if self._deleted.get(event.organization) and (why := _why_it_stays(event)) is not None:
            self._of_deleted[event.organization, why] += 1
        organization = self.cache.organizations.get(event.organization)
        if organization is not None:
            deletion = imminent_deletion(event, organization.spec, found.began)
            if deletion is not None:
                found.add_endangered(event, deletion)

    def _archives(self, event: EnvelopeEvent) -> EventArchives:
        organization = self.cache.organizations.get(event.organization)
        problem, used = self.cache.problem_archive(event), tuple(self.cache.used_archives(event))
        if organization is None:
            return EventArchives(problem, used)
        finders = (given_up_copies, failing_copies, awaited_failures)
        return EventArchives(problem, used, *(find(event.status, organization.spec) for find in finders))

    async def _maintain(self, event: EnvelopeEvent) -> tuple[EnvelopeEvent, bool]:
        """Re-open, label or remove an event; return its newest state, and whether it is removed. Raises
        ``ApiError``."""
        if not self._may_change(event.name):
            return event, False
        spec = await self._spec(event.organization)
        if spec is DEFAULT_SPEC:
            # Nobody can list its files or work on it without the Organization.
            event = _without_plans(event)
        else:
            for reopen in self.reopeners:
                event = await reopen(event)
        await self._correct_shard_label(event)
        if not is_expired(event, spec, self._now()) or not self._is_counted(event):
            return event, False
        return event, await self._remove_event(event)

    async def _list_imports(self) -> dict[str, Import | None] | None:
        """Return the Imports by name, None for one that this version can't read; None if the list can't be
        read."""
        found = dict[str, Import | None]()
        try:
            async for raw, imported in self.kube.list_parsed(Import):
                kept = with_kept_metadata(imported) if imported is not None else None
                found[raw["metadata"]["name"]] = kept
        except ApiError as problem:
            _log.warning("the Imports can't be read, so their events stay: %s", problem)
            return None
        return found

    def _is_counted(self, event: EnvelopeEvent) -> bool:
        """Whether no Import has yet to count the event. Those of a deleted Import are counted nowhere."""
        if (name := event.metadata.labels.get(IMPORT_LABEL)) is None:
            return True
        if self._imports is None:
            return False
        if name not in self._imports:
            return True
        imported = self._imports[name]
        # What can't be read is not gone.
        window = event.metadata.labels.get(IMPORT_WINDOW_LABEL, "")
        return imported is not None and is_counted(imported, window)

    async def _spec(self, name: str) -> OrganizationSpec | None:
        """Return the spec of an Organization, the default one if it was deleted long ago; None: unknown."""
        organization = self.cache.organizations.get(name)
        if organization is not None:
            return organization.spec
        since = self._missing_since.setdefault(name, self.clock.monotonic())
        if self.clock.monotonic() - since < DELETED_SECONDS:
            return None
        if name not in self._deleted:
            self._deleted[name] = await self._is_missing(name)
        return DEFAULT_SPEC if self._deleted[name] else None

    async def _is_missing(self, name: str) -> bool:
        """Whether the API server has no such Organization: one that can't be read is in no cache either."""
        try:
            await self.kube.get(Organization, name)
        except NotFound:
            return True
        except ApiError:
            return False
        return False

    def _log_events_of_deleted(self) -> None:
        if not self._of_deleted:
            return
        by_cause = Counter[str]()
        for (_, why), count in self._of_deleted.items():
            by_cause[why] += count
        _log.warning(
            "%d events of deleted Organizations stay (%s): %s. Create them again, or delete the events.",
            self._of_deleted.total(),
            ", ".join(f"{by_cause[why]} {why}" for why in (_UNFINISHED, _FAILED, _KEPT)),
            ", ".join(sorted({name for name, _ in self._of_deleted})[:MAX_NAMED_ORGANIZATIONS]),
        )

    async def _correct_shard_label(self, event: EnvelopeEvent) -> None:
        """Set the label of an event's shard if it is missing or wrong: no controller would work on it."""
        if event.has_shard_label or event.status.phase.is_final:
            return
        labels = {SHARD_LABEL: str(event.shard_number)}
        try:
            await self.kube.patch(EnvelopeEvent, event.name, {"metadata": {"labels": labels}})
        except NotFound:
            return

    async def _remove_event(self, event: EnvelopeEvent) -> bool:
        try:
            if is_condition_true(event.status.conditions, "Archived"):
                # First: without its event it looks like one that is still being signed. The mark has no
                # effect on an event that is re-opened at this moment.
                await self._mark_envelope(event.spec.envelope_id)
            version = event.metadata.resource_version
            await self.kube.delete(EnvelopeEvent, event.name, uid=event.uid, resource_version=version)
        except NotFound:
            return True
        except Conflict:
            # Re-opened at this very moment.
            return False
        return True

    def _now(self) -> datetime:
        """Return the time by which removals are judged: the earlier of the two clocks."""
        return min(self.machine_clock.now(), self.clock.now() - self.clock.lead())

    @property
    def _is_failing_for_long(self) -> bool:
        return self._failing_seconds >= FAILING_SECONDS

    def _may_change(self, name: str) -> bool:
        """Whether this pass may send requests that change the object."""
        return name not in self._left_out and not self._is_failing_for_long

    def _count_failure(self, name: str, problem: Exception, began: float) -> None:
        """Count an object that can't be changed now, for the log after the pass; the pass continues."""
        self._failed.add(name)
        self._failing_seconds += self.clock.monotonic() - began
        self._last_failure = problem

    async def _mark_envelope(self, name: str) -> None:
        with suppress(NotFound):
            await self.kube.patch(Envelope, name, {"metadata": {"labels": {ARCHIVED_LABEL: ARCHIVED}}})

    async def _remove_envelope(self, name: str, uid: str) -> None:
        if not self._may_change(name):
            return
        fields, began = f"spec.envelopeID={name}", self.clock.monotonic()
        try:
            # By the spec: an event that was created during this pass is on a page that was read before.
            events, _ = await self.kube.page(EnvelopeEvent, limit=1, fields=fields)
            if events:
                return
            await self.kube.delete(Envelope, name, uid=uid)
        except (NotFound, Conflict):
            return
        except ApiError as problem:
            self._count_failure(name, problem, began)


def _why_it_stays(event: EnvelopeEvent) -> str | None:
    """Return why an event of a deleted Organization stays; None: it is removed by its time to live."""
    if not event.status.phase.is_final:
        return _UNFINISHED
    if event.status.phase is Phase.FAILED:
        return _FAILED
    return _KEPT if forbids_delete(event) else None


def is_expired(event: EnvelopeEvent, spec: OrganizationSpec | None, now: datetime) -> bool:
    """Whether a finished event's time to live has passed; it is unknown without a spec."""
    removed = removal_time(event, spec) if spec is not None else None
    return removed is not None and now > removed


def may_be_outlived(envelope: Envelope, spec: OrganizationSpec | None, now: datetime) -> bool:
    """
    Whether an Envelope is so old that the event which archived it can have been removed.

    The mark alone is not believed: a mark on a younger Envelope has no effect, and an envelope that is still
    being signed keeps its sender. Without a spec it is kept.
    """
    created = envelope.metadata.creation_timestamp
    if spec is None or created is None:
        return False
    kept = spec.succeeded_ttl if spec.ttl.failed is None else min(spec.succeeded_ttl, spec.ttl.failed)
    return now - created >= kept


def _without_plans(event: EnvelopeEvent) -> EnvelopeEvent:
    """Return an event without its notice and its late list, which nobody can complete without the
    Organization."""
    return replace(event, status=replace(event.status, notice=None, next_attempt_time=None))
