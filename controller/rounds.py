"""
The rounds: Organizations, Senders and Archives are looked at every ``LOOK_SECONDS`` and when one of them changes.

Each look is a task of its own, at most one per object at a time, so an eSAW or an archive that hangs holds up nobody
else: a changed Secret takes effect within 30 s (api.md). Of several controllers one looks at each object (``is_home``).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from controller.doors import Doors
from controller.gauges import Gauges
from controller.keyring import Keyring, KeyUnusable
from controller.office import Office, version
from controller.organizations import LOOK_SECONDS, Organizations
from controller.reaper import Reaper
from controller.sweep import Sweeper
from counterfoil.clock import Clock
from counterfoil.cluster import ApiProblem, Cluster
from counterfoil.esaw.clients import Esaws
from counterfoil.esaw.problems import EsawProblem
from counterfoil.resources import (
    Archive,
    EnvelopeEvent,
    Organization,
    Phase,
    ResourceInvalid,
    Sender,
    Swept,
    is_true,
    plain,
)

_log = logging.getLogger(__name__)

OVERTAKEN_SECONDS = 1.0
"""Pause before an Organization is looked at again to whose status somebody else wrote in the middle of a look."""

PROBE_SECONDS = 300.0
"""So often an archive is probed that is ready; one that made trouble is probed with the next look."""

PROBE_AGAIN_SECONDS = LOOK_SECONDS - 1.0
"""So often one is probed that is not ready: at every look but those for which something else was the reason."""

TRY_KEY_SECONDS = 2 * LOOK_SECONDS - 1.0
"""So often a key is tried that does not work and that no event waits for: at every other look. Each try reads a Secret,
and there may be thousands of senders who gave no consent; more seldom would be later than the 30 s of api.md."""

COUNT_SECONDS = 60.0
"""So often the events that wait for consent are listed, where several controllers share them."""

SWEEP_AGAIN_SECONDS = 60.0
"""So long after a sweep that broke off the next one is made."""


class Tried(NamedTuple):
    """When a Sender's key was tried that does not work, and with what."""

    sender: int
    """Version of the Sender after that."""
    organization: int
    """Generation of its Organization."""
    at: datetime


class Rounds:
    """Looks after what the events need."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        office: Office,
        doors: Doors,
        keyring: Keyring,
        organizations: Organizations,
        esaws: Esaws,
        sweeper: Sweeper,
        reaper: Reaper,
        gauges: Gauges,
        clock: Clock,
        is_home: Callable[[str, str], bool],
        is_alone: bool,
        sender_of: Callable[[EnvelopeEvent], str],
        organization_changed: Callable[[Organization], None],
        archive_changed: Callable[[Archive], None],
    ) -> None:
        self._cluster = cluster
        self._office = office
        self._doors = doors
        self._keyring = keyring
        self._organizations = organizations
        self._esaws = esaws
        self._sweeper = sweeper
        self._reaper = reaper
        self._gauges = gauges
        self._clock = clock
        self._is_home = is_home
        self._is_alone = is_alone
        self._sender_of = sender_of
        self._organization_changed = organization_changed
        self._archive_changed = archive_changed
        self._looking: set[str] = set()
        self._missed: set[str] = set()
        """Looks that were under way when something changed; they may have seen what was before."""
        self._tried: dict[str, Tried] = {}
        self._probed: dict[str, datetime] = {}
        self._next_sweep: dict[str, datetime] = {}
        """Not before then, by Organization whose sweep is under way or broke off; else its status says when it was."""
        self._parked: Counter[str] | None = None
        """Events in AwaitingConsent by Sender; None: not known yet."""
        self._parked_at: datetime | None = None
        self._news = asyncio.Event()

    def look_now(self) -> None:
        """Something was changed: do not wait for the next round."""
        self._missed |= self._looking
        self._news.set()

    def probe_soon(self, archive: str) -> None:
        """An archive made trouble, or is another one now: probe it with the next look."""
        self._probed.pop(archive, None)

    async def run(self) -> None:
        """Make the rounds until cancelled."""
        async with asyncio.TaskGroup() as looks:
            while True:
                self._news.clear()
                self._gauges.refresh()
                self._begin(looks)
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._news.wait()
                except TimeoutError:
                    continue

    def _begin(self, looks: asyncio.TaskGroup) -> None:
        self._start(looks, "counting parked events", self._count_parked)
        # All Organizations where the walk over all events is made, since their status has its counts.
        if self._is_home("walk", "events"):
            for organization in self._office.organizations:
                name = f"Organization/{organization.name}"
                self._start(looks, f"looking at {name}", partial(self._look_at_organization, organization))
                self._start(looks, f"sweeping {name}", partial(self._sweep, organization))
        for sender in self._office.senders:
            if self._is_home("sender", sender.name):
                self._start(looks, f"looking at Sender/{sender.name}", partial(self._look_at_sender, sender))
        for archive in self._office.archives:
            self._start(looks, f"looking at Archive/{archive.name}", partial(self._look_at_archive, archive))

    def _start(self, looks: asyncio.TaskGroup, name: str, look: Callable[[], Awaitable[None]]) -> None:
        if name not in self._looking:
            self._looking.add(name)
            looks.create_task(self._safely(name, look), name=name)

    async def _safely(self, name: str, look: Callable[[], Awaitable[None]]) -> None:
        try:
            await look()
        except ApiProblem as problem:
            _log.warning("%s is not possible at the moment: %s", name, problem)
        except Exception:
            _log.exception("%s broke off", name)
        finally:
            self._looking.discard(name)
            if name in self._missed:
                self._missed.discard(name)
                self._news.set()

    async def _look_at_organization(self, organization: Organization) -> None:
        counts, activity = self._reaper.counts(organization.name), self._reaper.activity(organization.name)
        after = await self._organizations.look_after(organization, counts, activity)
        if after is not None:
            self._organization_changed(after)
        else:
            # Somebody else wrote to it just now; the watch tells what.
            await self._clock.sleep(OVERTAKEN_SECONDS)
            self._news.set()

    async def _sweep(self, organization: Organization) -> None:
        request = organization.sweep_request
        if request is None and not self._is_sweep_due(organization):
            return
        self._next_sweep[organization.name] = self._clock.now() + timedelta(seconds=SWEEP_AGAIN_SECONDS)
        found = await self._sweeper.sweep(organization)
        answered = organization.status.sweep.request if organization.status.sweep is not None else None
        swept = Swept(at=self._clock.now(), found=found, request=request or answered)
        raw = await self._cluster.patch_status(
            Organization, organization.name, {"sweep": plain(swept)}, resource_version=None
        )
        self._next_sweep.pop(organization.name)
        self._organization_changed(Organization.parse(raw))

    def _is_sweep_due(self, organization: Organization) -> bool:
        sweep, last, now = organization.spec.sweep, organization.status.sweep, self._clock.now()
        if sweep is None or (last is not None and now - last.at < sweep.interval):
            return False
        return now >= self._next_sweep.get(organization.name, now)

    async def _look_at_sender(self, sender: Sender) -> None:
        """Verify a key that is new, and one that did not work when last tried: it may have been replaced."""
        organization = self._office.organizations.get(sender.spec.organization_ref.name)
        if organization is not None and self._is_to_be_tried(sender, organization):
            await self._try_key(sender, organization)
        newest = self._office.senders.get(sender.name)
        if newest is not None and self._parked is not None:
            await self._keyring.waiting(newest, self._parked[sender.name])

    def _is_to_be_tried(self, sender: Sender, organization: Organization) -> bool:
        if is_true(sender.status.conditions, "Authorized"):
            return False
        tried = self._tried.get(sender.name)
        if tried is None or tried[:2] != (version(sender), organization.metadata.generation):
            return True
        if self._parked is None or self._parked[sender.name]:
            return True
        return (self._clock.now() - tried.at).total_seconds() >= TRY_KEY_SECONDS

    async def _try_key(self, sender: Sender, organization: Organization) -> None:
        at = self._clock.now()
        try:
            await self._keyring.key(sender, self._esaws.of(organization))
        except (KeyUnusable, EsawProblem) as unusable:
            _log.debug("the key of a sender does not work yet: %s", unusable, extra={"sender": sender.name})
        newest = self._office.senders.get(sender.name) or sender
        self._tried[sender.name] = Tried(version(newest), organization.metadata.generation, at)

    async def _count_parked(self) -> None:
        if self._is_alone:
            parked = [each for each in self._office.events if each.status.phase is Phase.AWAITING_CONSENT]
            self._parked = Counter(self._sender_of(each) for each in parked)
            return
        # Those of the other shards are not in memory here.
        now = self._clock.now()
        if self._parked_at is None or (now - self._parked_at).total_seconds() >= COUNT_SECONDS:
            self._parked_at = now
            parked_by = Counter[str]()
            async for raw in self._cluster.list(
                EnvelopeEvent, fields=f"status.phase={Phase.AWAITING_CONSENT}"
            ):
                try:
                    parked_by[self._sender_of(EnvelopeEvent.parse(raw))] += 1
                except ResourceInvalid as invalid:
                    _log.warning("an event can't be read: %s", invalid)
            self._parked = parked_by

    async def _look_at_archive(self, archive: Archive) -> None:
        if not self._is_home("archive", archive.name):
            await self._doors.write_bytes(archive)
            return
        now, last = self._clock.now(), self._probed.get(archive.name)
        pause = PROBE_SECONDS if is_true(archive.status.conditions, "Ready") else PROBE_AGAIN_SECONDS
        is_early = last is not None and (now - last).total_seconds() < pause
        if is_early and not await self._doors.has_other_anchors(archive):
            return
        self._probed[archive.name] = now
        after = await self._doors.examine(archive)
        if after is not None:
            self._archive_changed(after)
