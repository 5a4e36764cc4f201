"""
What had failed because of an Archive, an Organization or a Sender is tried again when that was mended (rule 6).

Finished events are in no memory, so a change has its failed events listed, and those whose cause it can solve are
re-opened as by a retry request; once per change. A change counts when it is done with: when the object is ``Ready``
(``Authorized`` for a Sender) in a way in which it was not seen before. Each controller re-opens those of its own shards.

What fails in a run that had begun before a change is tried again, too: the change came too late for it.

A change that nobody was there to see, or whose events a kill left behind, is known by the status of what was mended: the
walk over all events asks about each that failed (``missed``).
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import NamedTuple

from controller.announce import Announcer
from controller.causes import archive_may_solve, organization_may_solve, sender_may_solve
from controller.clerk import Clerk, Overtaken
from controller.mended import mended_since
from controller.office import Office
from counterfoil.clock import Clock
from counterfoil.cluster import ApiProblem, Cluster, Forbidden, Refused
from counterfoil.resources import (
    ORGANIZATION_LABEL,
    Archive,
    Condition,
    EnvelopeEvent,
    Organization,
    Phase,
    Resource,
    ResourceInvalid,
    Sender,
    condition,
)
from counterfoil.resources.reopening import reopened

_log = logging.getLogger(__name__)

PAUSE_SECONDS = 10.0
"""Before a change is looked at again whose events could not be listed."""

Mark = tuple[object, ...]


class _Change(NamedTuple):
    """An object that was mended, and which causes that may solve."""

    about: str
    organizations: Callable[[], Iterable[str]]
    solves: Callable[[str], bool]


class Reopener:
    """Watches for what was mended, and re-opens what had failed because of it."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        office: Office,
        clerk: Clerk,
        announcer: Announcer,
        clock: Clock,
        labels: str,
        exclusively: Callable[[str], AbstractAsyncContextManager[None]],
        changed: Callable[[EnvelopeEvent], None],
    ) -> None:
        self._cluster = cluster
        self._office = office
        self._clerk = clerk
        self._announcer = announcer
        self._clock = clock
        self._labels = labels
        self._exclusively = exclusively
        self._changed = changed
        self._marks: dict[tuple[str, str], Mark | None] = {}
        self._changes: asyncio.Queue[_Change] = asyncio.Queue()
        self._queued: set[str] = set()
        self._latest: dict[str, tuple[datetime, _Change]] = {}
        """The last change of each object, and when it was seen."""

    def see(self, resource: Organization | Sender | Archive) -> None:
        """
        Take notice of a newer state of an object.

        The first state that is seen is no change, unless the object is still to be settled: a restart lists nothing.
        """
        key, mark = (resource.KIND, resource.name), _mark(resource)
        is_first = key not in self._marks
        before = self._marks.get(key)
        self._marks[key] = mark
        if not is_first and mark is not None and mark != before:
            change = self._change(resource)
            self._latest[change.about] = (self._clock.now(), change)
            self._enqueue(change)

    def failed(self, event: EnvelopeEvent, began: datetime) -> None:
        """Take notice of an event that failed here, in a run that began then."""
        for at, change in self._latest.values():
            if (
                at >= began
                and change.solves(event.status.cause)
                and event.organization in change.organizations()
            ):
                self._enqueue(change)

    async def missed(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """
        Re-open an event of any shard if what may solve its failure was mended since; return it as it is then.

        It is not planned here: the watch brings it to whoever works on its shard, as when a callback re-opens it (rule 5).
        Raises ``ApiProblem`` when the API server is away.
        """
        mended = mended_since(event, self._office)
        if mended is None:
            return event
        try:
            return await self._store(event, f"{mended.KIND}/{mended.name}")
        except Overtaken:
            return event
        except (Forbidden, Refused) as refused:
            _log.warning("an event can't be re-opened: %s", refused, extra={"event": event.name})
            return event

    async def run(self) -> None:
        """Re-open until cancelled."""
        while True:
            change = await self._changes.get()
            self._queued.discard(change.about)
            try:
                await self._reopen_all(change)
            except ApiProblem as problem:
                _log.warning("what %s may have solved can't be re-opened yet: %s", change.about, problem)
                await self._clock.sleep(PAUSE_SECONDS)
                self._enqueue(change)

    def _enqueue(self, change: _Change) -> None:
        # One look after all that many runs were late for is enough.
        if change.about not in self._queued:
            self._queued.add(change.about)
            self._changes.put_nowait(change)

    def _change(self, resource: Organization | Sender | Archive) -> _Change:
        about = f"{resource.KIND}/{resource.name}"
        name = resource.name
        if isinstance(resource, Archive):
            return _Change(about, lambda: self._users_of(name), archive_may_solve)
        if isinstance(resource, Organization):
            return _Change(about, lambda: [name], organization_may_solve)
        organization = resource.spec.organization_ref.name
        return _Change(about, lambda: [organization], sender_may_solve)

    def _users_of(self, archive: str) -> list[str]:
        refs = {each.name: each.spec.archive_ref for each in self._office.organizations}
        return [name for name, ref in refs.items() if ref is not None and ref.name == archive]

    async def _reopen_all(self, change: _Change) -> None:
        reopened_events = 0
        for organization in change.organizations():
            labels = ",".join(filter(None, (f"{ORGANIZATION_LABEL}={organization}", self._labels)))
            async for raw in self._cluster.list(
                EnvelopeEvent, labels=labels, fields=f"status.phase={Phase.FAILED}"
            ):
                try:
                    event = EnvelopeEvent.parse(raw)
                except ResourceInvalid as invalid:
                    _log.warning("an event can't be read: %s", invalid)
                    continue
                if change.solves(event.status.cause):
                    reopened_events += await self._reopen(event, change)
        if reopened_events:
            _log.info("%s was mended: %d events are tried again", change.about, reopened_events)

    async def _reopen(self, event: EnvelopeEvent, change: _Change) -> int:
        async with self._exclusively(event.spec.envelope_id):
            try:
                stored = await self._store(event, change.about)
            except Overtaken:
                # Somebody re-opened or deleted it meanwhile, which is as good.
                return 0
            except Refused as refused:
                # It will never be taken, and is no reason to keep the others waiting.
                _log.warning("an event can't be re-opened: %s", refused, extra={"event": event.name})
                return 0
        self._changed(stored)
        return 1

    async def _store(self, event: EnvelopeEvent, about: str) -> EnvelopeEvent:
        message = f"{about} was changed or works again, which may solve why this failed."
        status = reopened(event.status, reason="CauseSolved", message=message, now=self._clock.now())
        stored = await self._clerk.store(event, status)
        self._announcer.tell(stored, "CauseSolved", message, action="Reopen")
        return stored


def _mark(resource: Resource) -> Mark | None:
    """Return what tells one settled state from another; None: it is not settled, or does not work."""
    match resource:
        case Organization():
            return _settled(resource, resource.status.conditions, "Ready", "Reachable")
        case Archive():
            mark = _settled(resource, resource.status.conditions, "Ready")
            return None if mark is None else (*mark, resource.status.trust_anchors)
        case Sender():
            authorized = condition(resource.status.conditions, "Authorized")
            if authorized is None or authorized.status != "True":
                return None
            key = resource.status.key
            return (
                resource.uid,
                authorized.last_transition_time,
                key.fingerprint if key is not None else None,
            )
    return None


def _settled(resource: Resource, conditions: tuple[Condition, ...], *types: str) -> Mark | None:
    found = [condition(conditions, each) for each in types]
    times = [
        each.last_transition_time
        for each in found
        if each is not None
        and each.status == "True"
        and each.observed_generation == resource.metadata.generation
    ]
    return (resource.uid, resource.metadata.generation, *times) if len(times) == len(types) else None
