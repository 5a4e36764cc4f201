"""
The rounds: Organizations, Senders and Archives are looked at every ``RESYNC_SECONDS`` and when one of them changes.

Each look is a task of its own, at most one per object at a time, so an eSAW or an archive that hangs holds up nobody
else: a changed Secret takes effect within 30 s (api.md). Of several controllers one looks at each object (``owns``).
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

from controller.access.archive_pool import ArchivePool
from controller.access.sender_keys import KeyUnusable, SenderKeys
from controller.cache import Cache, version_number
from controller.resync.missed_callbacks import MissedCallbackFinder
from controller.resync.organization_status import RESYNC_SECONDS, OrganizationStatusUpdater
from controller.resync.statistics import EventStatistics
from controller.sharding import Shard
from controller.telemetry.gauges import Gauges
from counterfoil.clock import Clock
from counterfoil.esaw.errors import EsawError
from counterfoil.esaw.registry import EsawClients
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.resources import (
    Archive,
    EnvelopeEvent,
    Organization,
    Phase,
    ResourceInvalid,
    Sender,
    SweepResult,
    is_condition_true,
    to_json_dict,
)

_log = logging.getLogger(__name__)

CONFLICT_RETRY_SECONDS = 1.0
"""Pause before an Organization is looked at again to whose status somebody else wrote in the middle of a look."""

PROBE_SECONDS = 300.0
"""So often an archive is probed that is ready; one that made trouble is probed with the next look."""

UNREADY_PROBE_SECONDS = RESYNC_SECONDS - 1.0
"""So often one is probed that is not ready: at every look but those for which something else was the reason."""

KEY_RETRY_SECONDS = 2 * RESYNC_SECONDS - 1.0
"""So often a key is tried that does not work and that no event waits for: at every other look. Each try reads a Secret,
and there may be thousands of senders who gave no consent; more seldom would be later than the 30 s of api.md."""

CONSENT_COUNT_SECONDS = 60.0
"""So often the events that wait for consent are listed, where several controllers share them."""

SWEEP_RETRY_SECONDS = 60.0
"""So long after a sweep that broke off the next one is made."""


class KeyAttempt(NamedTuple):
    """When a Sender's key was tried that does not work, and with what."""

    sender: int
    """Version of the Sender after that."""
    organization: int
    """Generation of its Organization."""
    at: datetime


class Resync:
    """Looks after what the events need."""

    def __init__(
        self,
        *,
        kube: KubeClient,
        cache: Cache,
        archive_pool: ArchivePool,
        sender_keys: SenderKeys,
        organizations: OrganizationStatusUpdater,
        esaw_clients: EsawClients,
        missed_callback_finder: MissedCallbackFinder,
        statistics: EventStatistics,
        gauges: Gauges,
        clock: Clock,
        shard: Shard,
    ) -> None:
        self._kube = kube
        self._cache = cache
        self._archive_pool = archive_pool
        self._sender_keys = sender_keys
        self._organizations = organizations
        self._esaw_clients = esaw_clients
        self._missed_callback_finder = missed_callback_finder
        self._statistics = statistics
        self._gauges = gauges
        self._clock = clock
        self._shard = shard
        self._running_checks: set[str] = set()
        self._to_repeat: set[str] = set()
        """Looks that were under way when something changed; they may have seen what was before."""
        self._key_attempts: dict[str, KeyAttempt] = {}
        self._probed_at: dict[str, datetime] = {}
        self._next_sweep: dict[str, datetime] = {}
        """Not before then, by Organization whose sweep is under way or broke off; else its status says when it was."""
        self._awaiting_consent: Counter[str] | None = None
        """Events in AwaitingConsent by Sender; None: not known yet."""
        self._awaiting_consent_at: datetime | None = None
        self._triggered = asyncio.Event()

    def trigger(self) -> None:
        """Something was changed: do not wait for the next round."""
        self._to_repeat |= self._running_checks
        self._triggered.set()

    def probe_soon(self, archive: str) -> None:
        """An archive made trouble, or is another one now: probe it with the next look."""
        self._probed_at.pop(archive, None)

    async def run(self) -> None:
        """Make the rounds until cancelled."""
        async with asyncio.TaskGroup() as checks:
            while True:
                self._triggered.clear()
                self._gauges.refresh()
                self._start_checks(checks)
                try:
                    async with asyncio.timeout(RESYNC_SECONDS):
                        await self._triggered.wait()
                except TimeoutError:
                    continue

    def _start_checks(self, checks: asyncio.TaskGroup) -> None:
        self._start(checks, "counting parked events", self._count_awaiting_consent)
        # All Organizations where the walk over all events is made, since their status has its counts.
        if self._shard.owns("walk", "events"):
            for organization in self._cache.organizations:
                name = f"Organization/{organization.name}"
                self._start(checks, f"looking at {name}", partial(self._check_organization, organization))
                self._start(checks, f"sweeping {name}", partial(self._sweep, organization))
        for sender in self._cache.senders:
            if self._shard.owns("sender", sender.name):
                self._start(checks, f"looking at Sender/{sender.name}", partial(self._check_sender, sender))
        for archive in self._cache.archives:
            self._start(checks, f"looking at Archive/{archive.name}", partial(self._check_archive, archive))

    def _start(self, checks: asyncio.TaskGroup, name: str, check: Callable[[], Awaitable[None]]) -> None:
        if name not in self._running_checks:
            self._running_checks.add(name)
            checks.create_task(self._run_and_log(name, check), name=name)

    async def _run_and_log(self, name: str, check: Callable[[], Awaitable[None]]) -> None:
        try:
            await check()
        except ApiError as problem:
            _log.warning("%s is not possible at the moment: %s", name, problem)
        except Exception:
            _log.exception("%s broke off", name)
        finally:
            self._running_checks.discard(name)
            if name in self._to_repeat:
                self._to_repeat.discard(name)
                self._triggered.set()

    async def _check_organization(self, organization: Organization) -> None:
        counts, activity = (
            self._statistics.counts(organization.name),
            self._statistics.activity(organization.name),
        )
        after = await self._organizations.update_status(organization, counts, activity)
        if after is not None:
            self._cache.update(after)
        else:
            # Somebody else wrote to it just now; the watch tells what.
            await self._clock.sleep(CONFLICT_RETRY_SECONDS)
            self._triggered.set()

    async def _sweep(self, organization: Organization) -> None:
        request = organization.sweep_request
        if request is None and not self._is_sweep_due(organization):
            return
        self._next_sweep[organization.name] = self._clock.now() + timedelta(seconds=SWEEP_RETRY_SECONDS)
        found = await self._missed_callback_finder.sweep(organization)
        answered = organization.status.sweep.request if organization.status.sweep is not None else None
        swept = SweepResult(at=self._clock.now(), found=found, request=request or answered)
        raw = await self._kube.patch_status(
            Organization, organization.name, {"sweep": to_json_dict(swept)}, resource_version=None
        )
        self._next_sweep.pop(organization.name)
        self._cache.update(Organization.parse(raw))

    def _is_sweep_due(self, organization: Organization) -> bool:
        sweep, last, now = organization.spec.sweep, organization.status.sweep, self._clock.now()
        if sweep is None or (last is not None and now - last.at < sweep.interval):
            return False
        return now >= self._next_sweep.get(organization.name, now)

    async def _check_sender(self, sender: Sender) -> None:
        """Verify a key that is new, and one that did not work when last tried: it may have been replaced."""
        organization = self._cache.organizations.get(sender.spec.organization_ref.name)
        if organization is not None and self._is_key_attempt_due(sender, organization):
            await self._try_key(sender, organization)
        newest = self._cache.senders.get(sender.name)
        if newest is not None and self._awaiting_consent is not None:
            await self._sender_keys.set_waiting_events(newest, self._awaiting_consent[sender.name])

    def _is_key_attempt_due(self, sender: Sender, organization: Organization) -> bool:
        if is_condition_true(sender.status.conditions, "Authorized"):
            return False
        last_attempt = self._key_attempts.get(sender.name)
        if last_attempt is None or last_attempt[:2] != (
            version_number(sender),
            organization.metadata.generation,
        ):
            return True
        if self._awaiting_consent is None or self._awaiting_consent[sender.name]:
            return True
        return (self._clock.now() - last_attempt.at).total_seconds() >= KEY_RETRY_SECONDS

    async def _try_key(self, sender: Sender, organization: Organization) -> None:
        at = self._clock.now()
        try:
            await self._sender_keys.key(sender, self._esaw_clients.for_organization(organization))
        except (KeyUnusable, EsawError) as unusable:
            _log.debug("the key of a sender does not work yet: %s", unusable, extra={"sender": sender.name})
        newest = self._cache.senders.get(sender.name) or sender
        self._key_attempts[sender.name] = KeyAttempt(
            version_number(newest), organization.metadata.generation, at
        )

    async def _count_awaiting_consent(self) -> None:
        if self._shard.is_only:
            awaiting = [each for each in self._cache.events if each.status.phase is Phase.AWAITING_CONSENT]
            self._awaiting_consent = Counter(self._cache.sender_name(each) for each in awaiting)
            return
        # Those of the other shards are not in memory here.
        now = self._clock.now()
        if (
            self._awaiting_consent_at is None
            or (now - self._awaiting_consent_at).total_seconds() >= CONSENT_COUNT_SECONDS
        ):
            self._awaiting_consent_at = now
            awaiting_by_sender = Counter[str]()
            async for raw in self._kube.list(EnvelopeEvent, fields=f"status.phase={Phase.AWAITING_CONSENT}"):
                try:
                    awaiting_by_sender[self._cache.sender_name(EnvelopeEvent.parse(raw))] += 1
                except ResourceInvalid as invalid:
                    _log.warning("an event can't be read: %s", invalid)
            self._awaiting_consent = awaiting_by_sender

    async def _check_archive(self, archive: Archive) -> None:
        if not self._shard.owns("archive", archive.name):
            await self._archive_pool.write_bytes(archive)
            return
        now, last = self._clock.now(), self._probed_at.get(archive.name)
        pause = (
            PROBE_SECONDS if is_condition_true(archive.status.conditions, "Ready") else UNREADY_PROBE_SECONDS
        )
        is_early = last is not None and (now - last).total_seconds() < pause
        if is_early and not await self._archive_pool.has_other_anchors(archive):
            return
        self._probed_at[archive.name] = now
        after = await self._archive_pool.update_status(archive)
        if after is not None:
            self._cache.update(after)
