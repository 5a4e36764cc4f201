"""
Feeds the office from the watches, and the schedule from the office.

Level-triggered throughout: a change only says "look again". Which of several controllers writes the status of a
shared object is told by its name (``is_home``); events belong to the shard in their label.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from controller.causes import archive_may_solve, organization_may_solve
from controller.clerk import Overtaken
from controller.doors import Doors
from controller.driver import Driver
from controller.gauges import Gauges
from controller.keyring import Keyring
from controller.lanes import Room, Ticket
from controller.office import Office, version
from controller.organizations import Organizations
from controller.reaper import Reaper
from controller.rounds import Rounds
from controller.schedule import Schedule
from controller.sweep import Sweeper
from controller.waiting import EPOCH, due, is_asked_about, is_held
from counterfoil import tracing
from counterfoil.clock import Clock
from counterfoil.cluster import ApiProblem, Cluster
from counterfoil.esaw.clients import Esaws
from counterfoil.logs import about
from counterfoil.resources import (
    SENDER_LABEL,
    TRACEPARENT_ANNOTATION,
    Archive,
    EnvelopeEvent,
    Organization,
    Phase,
    ResourceInvalid,
    Sender,
    is_true,
)
from counterfoil.resources.acting import PROBE_ANNOTATION

_log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
"""Pause before an event is tried again whose state could not be stored; doubled each time, since all is done anew."""

LONGEST_RETRY_SECONDS = 3600.0

BREATH_SECONDS = 1.0
"""Pause before an event is looked at again whose run ended without a change: the watch has news for us by then."""

Mended = Callable[[Organization | Sender | Archive], None]


@dataclass
class Manager:
    """Knows what exists and lets it be worked on."""

    cluster: Cluster
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
    schedule: Schedule = field(init=False)
    rounds: Rounds = field(init=False)
    seen: Mended = field(init=False, default_factory=lambda: _unheard)
    """Is told of every newer state of an Organization, Sender or Archive."""
    failed: Callable[[EnvelopeEvent, datetime], None] = field(init=False, default_factory=lambda: _unheard)
    """Is told of every event that failed here, and when that run had begun."""
    _nudged: set[str] = field(init=False, default_factory=set)
    """Events that what they waited for may have come, whatever their next attempt time says."""
    _failures: Counter[str] = field(init=False, default_factory=Counter)
    """How often in a row the outcome of an event's work was lost."""

    def __post_init__(self) -> None:
        self.schedule = Schedule(clock=self.clock, room=self.room, work=self.work)
        self.keyring.changed = self.sender_changed
        self.rounds = Rounds(
            cluster=self.cluster,
            office=self.office,
            doors=self.doors,
            keyring=self.keyring,
            organizations=self.organizations,
            esaws=self.esaws,
            sweeper=self.sweeper,
            reaper=self.reaper,
            gauges=Gauges(
                metrics=self.driver.metrics,
                office=self.office,
                reaper=self.reaper,
                clock=self.clock,
                is_home=self.is_home,
            ),
            clock=self.clock,
            is_home=self.is_home,
            is_alone=self.shards == 1,
            sender_of=self.sender_of,
            organization_changed=self.organization_changed,
            archive_changed=self.archive_changed,
        )

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
        metadata = raw["metadata"]
        if type_ == "DELETED":
            if self.office.left_watch(metadata["name"], int(metadata["resourceVersion"])):
                self._forget(metadata["name"])
        elif (event := _parsed(EnvelopeEvent, raw)) is not None:
            self.event_changed(event)

    def event_changed(self, event: EnvelopeEvent) -> None:
        """Take in a newer state of an event."""
        if self.office.take_event(event):
            self._plan(event)
        elif event.status.phase.is_final:
            self._forget(event.name)

    def organization_seen(self, type_: str | None, raw: Mapping[str, Any]) -> None:
        """An Organization was listed, added, changed or deleted."""
        name = raw["metadata"]["name"]
        if type_ == "DELETED":
            self.office.organizations.remove(name)
            self.organizations.forget(name)
            self._plan_all(self._events_of(name))
        elif (organization := _parsed(Organization, raw)) is not None:
            self.organization_changed(organization)

    def organization_changed(self, organization: Organization) -> None:
        """Take in a newer state of an Organization; what waited because of it goes on if its spec was changed."""
        before = self.office.organizations.get(organization.name)
        if not self.office.organizations.put(organization):
            return
        self.seen(organization)
        if organization.sweep_request is not None:
            self.rounds.look_now()
        if before is not None and before.metadata.generation == organization.metadata.generation:
            return
        self.rounds.look_now()
        mine = self._events_of(organization.name)
        if before is not None and before.spec.default_sender_ref != organization.spec.default_sender_ref:
            for event in mine:
                self.office.sender_of.pop(event.name, None)
            self._nudge(event for event in mine if event.status.phase is Phase.AWAITING_CONSENT)
        self._nudge(event for event in mine if organization_may_solve(event.status.reason or ""))
        self._plan_all(mine)

    def sender_seen(self, type_: str | None, raw: Mapping[str, Any]) -> None:
        """A Sender was listed, added, changed or deleted."""
        name = raw["metadata"]["name"]
        if type_ == "DELETED":
            self.office.senders.remove(name)
            self.keyring.forget(name)
            self.rounds.look_now()
            self._plan_all(event for event in self.office.events if self.sender_of(event) == name)
        elif (sender := _parsed(Sender, raw)) is not None:
            self.sender_changed(sender)

    def sender_changed(self, sender: Sender) -> None:
        """Take in a newer state of a Sender; what waits for its key goes on if it works now."""
        before = self.office.senders.get(sender.name)
        if not self.office.senders.put(sender):
            return
        self.seen(sender)
        if before is None or before.metadata.generation != sender.metadata.generation:
            self.rounds.look_now()
            missed = [event for event in self.office.events if event.status.reason == "SenderMissing"]
            self._nudge(missed)
            self._plan_all(missed)
        self._plan_all(event for event in self.office.events if self.sender_of(event) == sender.name)

    def shared_changed(self, resource: Organization | Sender) -> None:
        """Take in a newer state of an Organization or Sender that was written here."""
        if isinstance(resource, Organization):
            self.organization_changed(resource)
        else:
            self.sender_changed(resource)

    def archive_seen(self, type_: str | None, raw: Mapping[str, Any]) -> None:
        """An Archive was listed, added, changed or deleted."""
        name = raw["metadata"]["name"]
        if type_ == "DELETED":
            self.office.archives.remove(name)
            self.doors.forget(name)
            self.rounds.look_now()
        elif (archive := _parsed(Archive, raw)) is not None:
            self.archive_changed(archive)

    def archive_changed(self, archive: Archive) -> None:
        """Take in a newer state of an Archive; what waited because of it goes on when it was mended."""
        before = self.office.archives.get(archive.name)
        if not self.office.archives.put(archive):
            return
        respecified = before is None or before.metadata.generation != archive.metadata.generation
        was_ready = before is not None and is_true(before.status.conditions, "Ready")
        is_ready = is_true(archive.status.conditions, "Ready")
        is_asked = before is not None and _probe_wish(before) != _probe_wish(archive)
        is_trusting_others = (
            before is not None and before.status.trust_anchors != archive.status.trust_anchors
        )
        if respecified or is_trusting_others or was_ready != is_ready:
            # Whoever saw that may have newer Secrets than are remembered here.
            self.doors.read_anew(archive)
        self.seen(archive)
        if respecified or is_asked:
            self.rounds.probe_soon(archive.name)
        if respecified or is_asked or was_ready != is_ready:
            # The Organizations that name it say so in their own status.
            self.rounds.look_now()
        if respecified or (is_ready and not was_ready):
            mine = [event for event in self.office.events if self._archive_of(event) == archive.name]
            self._nudge(event for event in mine if archive_may_solve(event.status.reason or ""))
            self._plan_all(mine)

    # -- The schedule ---------------------------------------------------------------------------------------

    async def work(self, name: str) -> None:
        """Let the driver work on an event, then plan it anew; what the schedule calls."""
        before = self.office.events.get(name)
        if before is None:
            return
        self._nudged.discard(name)
        began = self.clock.now()
        with _told_about(before):
            try:
                after = await self.driver.drive(before)
            except Overtaken as overtaken:
                _log.info("the run was overtaken: %s", overtaken)
                self._overtaken(before, overtaken.newest)
                return
            except ApiProblem as problem:
                _log.warning("the event's state could not be stored: %s", problem)
                self._try_later(name)
                return
            except Exception:
                _log.exception("the work on an event broke off")
                self._try_later(name)
                return
        self._failures.pop(name, None)
        self._heed_archive(after)
        if after.status.phase is Phase.FAILED:
            self.failed(after, began)
        self.event_changed(after)
        if version(after) == version(before):
            # Nothing came out of it; whatever is due at once must not turn in a circle.
            self._plan_again(name, BREATH_SECONDS)

    def _overtaken(self, before: EnvelopeEvent, newest: EnvelopeEvent | None) -> None:
        if newest is not None:
            self.event_changed(newest)
            self._plan_again(before.name, BREATH_SECONDS)
            return
        known = self.office.events.get(before.name)
        if known is not None and known.uid == before.uid:
            # Deleted; a watch that was broken at that time never tells.
            self.office.forget_event(before.name)
            self._forget(before.name)

    def _try_later(self, name: str) -> None:
        pause = min(RETRY_SECONDS * 2 ** min(self._failures[name], 20), LONGEST_RETRY_SECONDS)
        self._failures[name] += 1
        self._plan_again(name, pause)

    def _heed_archive(self, event: EnvelopeEvent) -> None:
        """Have an archive probed that made trouble, so that its status tells, and tells when it works again."""
        if not event.status.phase.is_final and (event.status.reason or "").startswith("Archive"):
            self.rounds.probe_soon(self._archive_of(event))

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

    def sender_of(self, event: EnvelopeEvent) -> str:
        """Return the name of the event's Sender as far as it is known; empty for unknown."""
        return self.office.sender_of.get(event.name) or event.metadata.labels.get(SENDER_LABEL, "")

    def _plan(self, event: EnvelopeEvent) -> None:
        self.schedule.want(self._ticket(event), self._due(event))

    def _plan_all(self, concerned: Iterable[EnvelopeEvent]) -> None:
        for event in concerned:
            self._plan(event)
        self.schedule.poke()

    def _plan_again(self, name: str, seconds: float) -> None:
        """Plan an event as it is due, but not before so many seconds."""
        event = self.office.events.get(name)
        if event is not None:
            when, earliest = self._due(event), self.clock.now() + timedelta(seconds=seconds)
            self.schedule.want(self._ticket(event), None if when is None else max(when, earliest))

    def _nudge(self, concerned: Iterable[EnvelopeEvent]) -> None:
        """Let those events be due now, whatever their next attempt time: what they waited for may have come."""
        self._nudged.update(event.name for event in concerned)

    def _due(self, event: EnvelopeEvent) -> datetime | None:
        if event.name in self._nudged and not (is_held(event, self.office) or is_asked_about(event)):
            return EPOCH
        return due(event, self.office)

    def _forget(self, name: str) -> None:
        self.schedule.forget(name)
        self._nudged.discard(name)
        self._failures.pop(name, None)

    def _ticket(self, event: EnvelopeEvent) -> Ticket:
        created = event.metadata.creation_timestamp
        return Ticket(
            age=f"{created.isoformat() if created else ''} {event.name}",
            event=event.name,
            envelope=event.spec.envelope_id,
            organization=event.organization,
            sender=self.sender_of(event),
            archive=self._archive_of(event),
        )

    def _events_of(self, organization: str) -> list[EnvelopeEvent]:
        return [event for event in self.office.events if event.organization == organization]

    def _archive_of(self, event: EnvelopeEvent) -> str:
        organization = self.office.organizations.get(event.organization)
        ref = organization.spec.archive_ref if organization is not None else None
        return ref.name if ref is not None else ""


def _probe_wish(archive: Archive) -> str:
    """What a person who wants a probe now wrote into the annotation; after a start all are probed anyway."""
    return archive.metadata.annotations.get(PROBE_ANNOTATION, "")


@contextmanager
def _told_about(event: EnvelopeEvent) -> Iterator[None]:
    """Put on every log line and into the trace what is worked on."""
    facts = {"event": event.name, "envelope": event.spec.envelope_id, "organization": event.organization}
    traceparent = event.metadata.annotations.get(TRACEPARENT_ANNOTATION)
    with about(**facts), tracing.span("event", traceparent=traceparent, **facts):
        yield


def _unheard(*_: object) -> None:
    """Stand for nobody who wants to know."""


def _parsed(kind: type[Any], raw: Mapping[str, Any]) -> Any:
    try:
        return kind.parse(raw)
    except ResourceInvalid as invalid:
        # The CRD refuses such objects; one that is stored all the same comes from another version of it.
        _log.error("an object can't be read and is passed over: %s", invalid)
        return None
