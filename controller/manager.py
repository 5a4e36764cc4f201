"""
Feeds the office from the watches, and the schedule from the office; looks after Organizations, Senders and Archives.

Level-triggered throughout: a change only says "look again". Which of several controllers writes the status of a
shared object is told by its name (``is_home``); events belong to the shard in their label.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from controller.causes import archive_may_solve, organization_may_solve
from controller.clerk import Overtaken
from controller.doors import Doors
from controller.driver import Driver
from controller.esaws import Esaws
from controller.keyring import Keyring, KeyUnusable
from controller.lanes import Room, Ticket
from controller.office import Office, version
from controller.organizations import LOOK_SECONDS, Organizations
from controller.reaper import Reaper
from controller.schedule import Schedule
from controller.sweep import Sweeper
from controller.waiting import due
from counterfoil.clock import Clock
from counterfoil.cluster import ApiProblem, Cluster
from counterfoil.esaw.problems import EsawProblem
from counterfoil.logs import about
from counterfoil.resources import (
    SENDER_LABEL,
    Archive,
    EnvelopeEvent,
    Organization,
    Resource,
    ResourceInvalid,
    Sender,
    is_true,
)

_log = logging.getLogger(__name__)

PROBE_LOOKS = 30
"""A ready archive is probed again after so many looks (five minutes); one that is not, at every third."""

RETRY_STORE_SECONDS = 5.0
"""Pause before an event is tried again whose state could not be stored."""

BREATH_SECONDS = 1.0
"""Pause before an event is looked at again whose run ended without a change: the watch has news for us by then."""


@dataclass
class Manager:
    """Knows what exists and lets it be worked on."""

    office: Office
    driver: Driver
    doors: Doors
    keyring: Keyring
    organizations: Organizations
    esaws: Esaws
    sweeper: Sweeper
    reaper: Reaper
    clock: Clock
    process_room: int
    shard: int
    shards: int
    _looks: dict[str, int] = field(default_factory=dict)
    _swept: dict[str, float] = field(default_factory=dict)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    last_change: float = 0.0
    """Monotonic time of the newest watch event; for liveness."""
    schedule: Schedule = field(init=False)

    def __post_init__(self) -> None:
        self.schedule = Schedule(clock=self.clock, room=self.room, work=self.work)
        self.keyring.changed = self.sender_changed

    async def load(self, cluster: Cluster) -> None:
        """
        Read what is needed to judge events, before the first of them is seen.

        Else an event could come before its Organization and be told that there is none. Raises ``ApiProblem``.
        """
        async for raw in cluster.list(Organization):
            self.organization_seen(None, raw)
        async for raw in cluster.list(Sender):
            self.sender_seen(None, raw)
        async for raw in cluster.list(Archive):
            self.archive_seen(None, raw)

    # -- What the watches tell ------------------------------------------------------------------------------

    def event_seen(self, type_: str | None, raw: Mapping[str, Any]) -> None:
        """An unfinished event was listed, added or changed; or it was finished or deleted (``DELETED``)."""
        self._noticed()
        metadata = raw["metadata"]
        if type_ == "DELETED":
            if self.office.left_watch(metadata["name"], int(metadata["resourceVersion"])):
                self.schedule.forget(metadata["name"])
            return
        event = _parsed(EnvelopeEvent, raw)
        if event is not None:
            self.event_changed(event)

    def event_changed(self, event: EnvelopeEvent) -> None:
        """Take in a newer state of an event."""
        if self.office.take_event(event):
            self._plan(event)
        elif event.status.phase.is_final:
            self.schedule.forget(event.name)

    def organization_seen(self, type_: str | None, raw: Mapping[str, Any]) -> None:
        """An Organization was listed, added, changed or deleted."""
        self._noticed()
        if type_ == "DELETED":
            self.office.organizations.remove(raw["metadata"]["name"])
            self.organizations.forget(raw["metadata"]["name"])
        elif (organization := _parsed(Organization, raw)) is not None:
            self.organization_changed(organization)

    def organization_changed(self, organization: Organization) -> None:
        """Take in a newer state of an Organization; what waited because of it goes on if its spec was changed."""
        before = self.office.organizations.get(organization.name)
        if not self.office.organizations.put(organization):
            return
        if before is not None and before.metadata.generation == organization.metadata.generation:
            return
        self._looks.pop(f"organization/{organization.name}", None)
        self._news.set()
        mine = [event for event in self.office.events if event.organization == organization.name]
        self._plan_all(mine)
        self._resume([event for event in mine if organization_may_solve(event.status.reason or "")])

    def sender_seen(self, type_: str | None, raw: Mapping[str, Any]) -> None:
        """A Sender was listed, added, changed or deleted."""
        self._noticed()
        if type_ == "DELETED":
            self.office.senders.remove(raw["metadata"]["name"])
        elif (sender := _parsed(Sender, raw)) is not None:
            self.sender_changed(sender)

    def sender_changed(self, sender: Sender) -> None:
        """Take in a newer state of a Sender; what waits for its key goes on if it works now."""
        before = self.office.senders.get(sender.name)
        if not self.office.senders.put(sender):
            return
        self._plan_all([event for event in self.office.events if self._sender_of(event) == sender.name])
        if before is None or before.metadata.generation != sender.metadata.generation:
            self._news.set()
            self._resume([event for event in self.office.events if event.status.reason == "SenderMissing"])

    def archive_seen(self, type_: str | None, raw: Mapping[str, Any]) -> None:
        """An Archive was listed, added, changed or deleted."""
        self._noticed()
        name = raw["metadata"]["name"]
        if type_ == "DELETED":
            self.office.archives.remove(name)
            self.doors.forget(name)
        elif (archive := _parsed(Archive, raw)) is not None:
            self.archive_changed(archive)

    def archive_changed(self, archive: Archive) -> None:
        """Take in a newer state of an Archive; what waited because of it goes on when it was mended."""
        before = self.office.archives.get(archive.name)
        if not self.office.archives.put(archive):
            return
        was_ready = before is not None and is_true(before.status.conditions, "Ready")
        respecified = before is None or before.metadata.generation != archive.metadata.generation
        if respecified:
            self._looks.pop(f"archive/{archive.name}", None)
            self._news.set()
        is_ready = is_true(archive.status.conditions, "Ready")
        if was_ready != is_ready:
            # The Organizations that name it say so in their own status.
            self._news.set()
        if respecified or (is_ready and not was_ready):
            mine = [event for event in self.office.events if self._archive_of(event) == archive.name]
            self._resume([event for event in mine if archive_may_solve(event.status.reason or "")])

    # -- The schedule ---------------------------------------------------------------------------------------

    async def work(self, name: str) -> None:
        """Let the driver work on an event, then plan it anew; what the schedule calls."""
        before = self.office.events.get(name)
        if before is None:
            return
        with about(event=name, envelope=before.spec.envelope_id, organization=before.organization):
            try:
                after = await self.driver.drive(before)
            except ApiProblem as problem:
                _log.warning("the event's state could not be stored: %s", problem)
                self._plan_again(before, RETRY_STORE_SECONDS)
                return
            except Overtaken as overtaken:
                _log.info("the run was overtaken: %s", overtaken)
                self._plan_again(self.office.events.get(name), BREATH_SECONDS)
                return
        self.event_changed(after)
        if version(after) == version(before):
            # Nothing came out of it; whatever is due at once must not turn in a circle.
            self._plan_again(self.office.events.get(name), BREATH_SECONDS)

    def _plan_again(self, event: EnvelopeEvent | None, seconds: float) -> None:
        """Plan an event as it is due, but not before so many seconds."""
        when = due(event, self.office) if event is not None else None
        if event is not None:
            earliest = self.clock.now() + timedelta(seconds=seconds)
            self.schedule.want(self._ticket(event), None if when is None else max(when, earliest))

    def room(self) -> Room:
        """The limits as they are now."""
        organizations = {each.name: each.spec.limits for each in self.office.organizations}
        return Room(
            process=self.process_room,
            organization={name: limits.concurrency for name, limits in organizations.items()},
            sender={name: limits.per_sender_concurrency for name, limits in organizations.items()},
            archive={each.name: each.spec.max_concurrency for each in self.office.archives},
        )

    def is_home(self, kind: str, name: str) -> bool:
        """Whether this process is the one that writes the status of a shared object."""
        digest = hashlib.sha256(f"{kind}/{name}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.shards == self.shard

    def _plan(self, event: EnvelopeEvent) -> None:
        self.schedule.want(self._ticket(event), due(event, self.office))

    def _plan_all(self, concerned: Iterable[EnvelopeEvent]) -> None:
        for event in concerned:
            self._plan(event)
        self.schedule.poke()

    def _resume(self, concerned: Iterable[EnvelopeEvent]) -> None:
        """Let those events be due now, whatever their next attempt time: what they waited for has come."""
        for event in concerned:
            if due(event, self.office) is not None:
                self.schedule.want(self._ticket(event), self.clock.now())

    def _ticket(self, event: EnvelopeEvent) -> Ticket:
        created = event.metadata.creation_timestamp
        return Ticket(
            age=f"{created.isoformat() if created else ''} {event.name}",
            event=event.name,
            envelope=event.spec.envelope_id,
            organization=event.organization,
            sender=self._sender_of(event),
            archive=self._archive_of(event),
        )

    def _sender_of(self, event: EnvelopeEvent) -> str:
        return self.office.sender_of.get(event.name) or event.metadata.labels.get(SENDER_LABEL, "")

    def _archive_of(self, event: EnvelopeEvent) -> str:
        organization = self.office.organizations.get(event.organization)
        ref = organization.spec.archive_ref if organization is not None else None
        return ref.name if ref is not None else ""

    def _noticed(self) -> None:
        self.last_change = asyncio.get_running_loop().time()

    # -- What is looked after from time to time ---------------------------------------------------------------

    async def look_after_all(self) -> None:
        """Look at Organizations, Senders and Archives every ``LOOK_SECONDS`` and when one changes, until cancelled."""
        while True:
            self._news.clear()
            await self._each("organization", self.office.organizations, self._look_at_organization)
            await self._each("sender", self.office.senders, self._look_at_sender)
            await self._each("archive", self.office.archives, self._look_at_archive)
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def _each(self, kind: str, shelf: Any, look: Callable[[Any, int], Awaitable[None]]) -> None:
        async with asyncio.TaskGroup() as group:
            for each in shelf:
                if self.is_home(kind, each.name):
                    looks = self._looks.get(f"{kind}/{each.name}", 0)
                    self._looks[f"{kind}/{each.name}"] = looks + 1
                    group.create_task(self._safely(look, each, looks))

    async def _safely(
        self, look: Callable[[Any, int], Awaitable[None]], resource: Resource, looks: int
    ) -> None:
        try:
            await look(resource, looks)
        except ApiProblem as problem:
            _log.warning("%s/%s can't be looked after: %s", resource.KIND, resource.name, problem)
        except Exception:
            _log.exception("looking after %s/%s broke off", resource.KIND, resource.name)

    async def _look_at_organization(self, organization: Organization, looks: int) -> None:
        after = await self.organizations.look_after(organization, self.reaper.counts(organization.name))
        if after is not None:
            self.organization_changed(after)
        sweep = organization.spec.sweep
        now = asyncio.get_running_loop().time()
        if (
            sweep is not None
            and now - self._swept.get(organization.name, 0.0) >= sweep.interval.total_seconds()
        ):
            self._swept[organization.name] = now
            await self.sweeper.sweep(organization)

    async def _look_at_sender(self, sender: Sender, looks: int) -> None:
        """Verify a key that is new, and one that did not work when last tried: it may have been replaced."""
        organization = self.office.organizations.get(sender.spec.organization_ref.name)
        if organization is None or is_true(sender.status.conditions, "Authorized"):
            return
        try:
            await self.keyring.key(sender, self.esaws.of(organization))
        except (KeyUnusable, EsawProblem) as unusable:
            _log.debug("the key of a sender does not work yet: %s", unusable, extra={"sender": sender.name})

    async def _look_at_archive(self, archive: Archive, looks: int) -> None:
        ready = is_true(archive.status.conditions, "Ready")
        if looks % (PROBE_LOOKS if ready else 3) != 0:
            return
        after = await self.doors.examine(archive)
        if after is not None:
            self.archive_changed(after)


def _parsed(kind: type[Any], raw: Mapping[str, Any]) -> Any:
    try:
        return kind.parse(raw)
    except ResourceInvalid as invalid:
        # The CRD refuses such objects; one that is stored all the same comes from another version of it.
        _log.error("an object can't be read and is passed over: %s", invalid)
        return None
