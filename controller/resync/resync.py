"""
The resync: check all Organizations, Senders and Archives every ``RESYNC_SECONDS`` and when one of them
changes.

Each check is a separate task, at most one per object at a time, so an eSAW or an archive that hangs blocks no
other check: a changed Secret takes effect within 30 s. Of several controllers one checks each object
(``HeldShards.owns``).
"""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple
from weakref import WeakValueDictionary

from msgspec.structs import replace

from controller.access.archive_pool import ArchivePool
from controller.access.credential_origin import has_moved
from controller.access.sender_keys import RECHECK_SECONDS, KeyStateUnknown, KeyUnusable, SenderKeys
from controller.cache import Cache, version_number
from controller.resync.event_load import EventLoadCounter
from controller.resync.organization_status import OrganizationStatusUpdater
from controller.resync.statistics import EventStatistics
from controller.resync.sweep import MissedCallbackFinder, SweepOutcome
from controller.scheduling.retry_policy import INCOMPLETE_SWEEP, RESYNC_SECONDS
from controller.sharding import HeldShards
from counterfoil.clock import Clock, age
from counterfoil.esaw.client import EsawClients
from counterfoil.esaw.errors import EsawError
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Conflict
from counterfoil.kube.status import MAX_CHANGE_ATTEMPTS, apply_change
from counterfoil.resources import (
    Archive,
    EnvelopeEvent,
    Organization,
    Phase,
    Sender,
    SweepResult,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.naming import UNSHARDED_WORK

_log = logging.getLogger(__name__)

CONFLICT_RETRY_SECONDS = 1.0
"""Pause before an Organization is checked again after a conflict."""

PROBE_SECONDS = 300.0
"""Interval between probes of an archive that is ready; after an error the next check probes."""

UNREADY_PROBE_SECONDS = RESYNC_SECONDS - 1.0
"""Interval between probes of an archive that is not ready: each periodic check, no triggered one."""

KEY_RETRY_SECONDS = 2 * RESYNC_SECONDS - 1.0
"""
Interval between checks of a key that does not work and that no event waits for: every second check.

Each one reads a Secret, and thousands of senders may have given no consent. A longer interval would exceed
the 30 s within which a changed Secret takes effect.
"""

SENDERS_OF_A_TURN = 50
"""Maximum number of checks of Senders that begin in one turn of the event loop. Thousands of keys can be
unusable, and a check of one whose Secret was read before waits for nothing."""

CONSENT_COUNT_SECONDS = 60.0
"""Interval between lists of the events that wait for consent, where several controllers share them."""


class KeyAttempt(NamedTuple):
    """The last check of a key that does not work, and the versions of the objects at that time."""

    sender: int
    """Version of the Sender after that."""
    organization: tuple[str, int]
    """Uid and generation of its Organization."""
    at: float
    """Monotonic time."""


class SenderState(NamedTuple):
    """The state on which the check of a Sender with a key that works depends."""

    version: int
    organization: str
    """Uid of its Organization."""
    generation: int
    """Generation of its Organization."""
    waiting_events: int


@dataclass
class Resync:
    """Checks the objects that events depend on."""

    kube: KubeClient
    cache: Cache
    archive_pool: ArchivePool
    sender_keys: SenderKeys
    organizations: OrganizationStatusUpdater
    esaw_clients: EsawClients
    missed_callback_finder: MissedCallbackFinder
    statistics: EventStatistics
    event_load: EventLoadCounter
    clock: Clock
    held: HeldShards
    on_pass: Callable[[], None]
    """Called when a pass begins."""
    _running_checks: set[str] = field(default_factory=set)
    _to_repeat: set[str] = field(default_factory=set)
    """Checks that were running when an object changed; they may have read the previous state."""
    _key_attempts: dict[str, KeyAttempt] = field(default_factory=dict)
    _settled: dict[str, SenderState] = field(default_factory=dict)
    """State of each Sender at its last check, if its key worked. Thousands can be idle, so no pass checks one
    again before this changes."""
    _secret_read_at: float = -math.inf
    """Monotonic time at which the Secret of a key was last read that could not be read before."""
    _probed_at: dict[str, float] = field(default_factory=dict)
    """Monotonic time of the last probe of each Archive."""
    _next_sweep: dict[str, float] = field(default_factory=dict)
    """Earliest next sweep where one is running or is repeated, by the clock that is never set; else the
    Organization's status decides. By the uid of the Organization, as are the next two."""
    _incomplete_sweeps: Counter[str] = field(default_factory=Counter)
    """Successive sweeps of an Organization that were not complete."""
    _sweep_locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    _awaiting_consent: Counter[str] | None = None
    """Events in AwaitingConsent by Sender; None: not known yet."""
    _awaiting_consent_at: float | None = None
    _triggered: asyncio.Event = field(default_factory=asyncio.Event)

    def trigger(self) -> None:
        """An object changed: check now, without waiting for the interval."""
        self._to_repeat |= self._running_checks
        self._triggered.set()

    def probe_soon(self, archive: str) -> None:
        """An archive returned an error or was changed: probe it in the next check."""
        self._probed_at.pop(archive, None)

    def check_unread_keys_soon(self) -> None:
        """A Secret that could not be read can be: read those of all other Senders in the next check."""
        self._secret_read_at = self.clock.monotonic()

    def check_esaw_soon(self, organization: str) -> None:
        """An event got no usable answer from eSAW: ask for its version in the next check."""
        self.organizations.check_esaw_soon(organization)

    async def run(self) -> None:
        """Run checks until cancelled."""
        try:
            async with asyncio.TaskGroup() as checks:
                while True:
                    self._triggered.clear()
                    self.on_pass()
                    self._forget_deleted()
                    await self._start_checks(checks)
                    try:
                        async with asyncio.timeout(RESYNC_SECONDS):
                            await self._triggered.wait()
                    except TimeoutError:
                        continue
        finally:
            self.organizations.close()

    def _forget_deleted(self) -> None:
        """Drop the names of deleted objects, and old Secrets."""
        self.sender_keys.secret_cache.drop_old()
        for known, memories in (
            (
                {each.uid for each in self.cache.organizations},
                (self._next_sweep, self._incomplete_sweeps),
            ),
            ({each.name for each in self.cache.senders}, (self._key_attempts, self._settled)),
            ({each.name for each in self.cache.archives}, (self._probed_at,)),
        ):
            for memory in memories:
                for gone in memory.keys() - known:
                    memory.pop(gone)
        self.organizations.end_requests_of_others({each.name for each in self.cache.organizations})

    async def _start_checks(self, checks: asyncio.TaskGroup) -> None:
        self._start(checks, "counting parked events", self._count_awaiting_consent)
        self._start(checks, "reading a Secret that failed", self.sender_keys.secret_cache.repeat_failed)
        # All Organizations in the garbage collector's process, because their status has its counts.
        if self.held.owns(*UNSHARDED_WORK):
            self._start(checks, "counting events", self.event_load.refresh)
            for organization in self.cache.organizations:
                name = f"Organization/{organization.name}"
                self._start(checks, f"looking at {name}", partial(self._check_organization, organization))
                self._start(checks, f"sweeping {name}", partial(self._sweep, organization))
        for archive in self.cache.archives:
            self._start(checks, f"looking at Archive/{archive.name}", partial(self._check_archive, archive))
        names = [each.name for each in self.cache.senders]
        for begin in range(0, len(names), SENDERS_OF_A_TURN):
            if begin:
                # What the last ones do without a wait is a part of the next turn of the event loop.
                await asyncio.sleep(0)
            self._start_checks_of(checks, names[begin : begin + SENDERS_OF_A_TURN])

    def _start_checks_of(self, checks: asyncio.TaskGroup, senders: Sequence[str]) -> None:
        for sender in filter(None, map(self.cache.senders.get, senders)):
            if self.held.owns("sender", sender.name) and not self._is_settled(sender):
                self._start(checks, f"looking at Sender/{sender.name}", partial(self._check_sender, sender))

    def _start(self, checks: asyncio.TaskGroup, name: str, check: Callable[[], Awaitable[None]]) -> None:
        if name not in self._running_checks:
            self._running_checks.add(name)
            checks.create_task(self._run_and_log(name, check), name=name)

    async def _run_and_log(self, name: str, check: Callable[[], Awaitable[None]]) -> None:
        try:
            await check()
        except ApiError as problem:
            _log.warning("%s failed: %s", name, problem)
        except Exception:
            _log.exception("%s broke off", name)
        finally:
            self._running_checks.discard(name)
            if name in self._to_repeat:
                self._to_repeat.discard(name)
                self._triggered.set()

    async def _check_organization(self, organization: Organization) -> None:
        counts = self.statistics.counts(organization.name)
        activity = self.statistics.activity(organization.name)
        load = self.event_load.load(organization.name)
        after = await self.organizations.update_status(organization, counts, activity, load)
        if after is not None:
            self.cache.update_written(after)
        else:
            # Another client wrote its status; the watch delivers it.
            await self.clock.sleep(CONFLICT_RETRY_SECONDS)
            self._triggered.set()

    async def sweep(self, organization: Organization) -> SweepOutcome:
        """Sweep now. A sweep that is not complete is repeated soon. Raises ``ApiError``."""
        uid = organization.uid
        async with self._sweep_locks.setdefault(uid, asyncio.Lock()):
            pause = INCOMPLETE_SWEEP.pause(self._incomplete_sweeps[uid])
            self._next_sweep[uid] = self.clock.monotonic() + pause
            self._incomplete_sweeps[uid] += 1
            outcome = await self.missed_callback_finder.sweep(organization)
            if outcome.is_complete:
                self._incomplete_sweeps.pop(uid, None)
            return outcome

    async def probe(self, archive: Archive) -> Archive:
        """Probe an archive now, with its current Secrets; return its new state. Raises ``ApiError``."""
        self.archive_pool.refresh_secrets(archive)
        for _ in range(MAX_CHANGE_ATTEMPTS):
            self._probed_at[archive.name] = self.clock.monotonic()
            if (after := await self.archive_pool.update_status(archive)) is not None:
                self.cache.update_written(after)
                return after
            archive = Archive.parse(await self.kube.get(Archive, archive.name))
        raise Conflict(409, "Conflict", f"other processes write to Archive/{archive.name} all the time")

    async def _sweep(self, organization: Organization) -> None:
        # There is a lock only while a sweep runs.
        if organization.uid in self._sweep_locks or self._is_sweep_held(organization):
            return
        if self._is_sweep_due(organization):
            found = (await self.sweep(organization)).result(self.clock.now())
        else:
            late = await self._sweep_late(organization)
            if late is None:
                return
            found = late
        name, uid = organization.name, organization.uid
        newest = self.cache.organizations.get(name)
        stored = await apply_change(
            self.kube, Organization, name, newest, lambda each: replace(each.status, sweep=found), uid=uid
        )
        if found.complete:
            self._next_sweep.pop(uid, None)
        self.cache.update_written(stored)

    async def _sweep_late(self, organization: Organization) -> SweepResult | None:
        """Search Senders that the last sweep did not, and add what was found to its result; None: it stays.
        Its time stays, so the next sweep of all is not later."""
        last, finder = organization.status.sweep, self.missed_callback_finder
        late = finder.late_senders(organization)
        if last is None or not late:
            return None
        async with self._sweep_locks.setdefault(organization.uid, asyncio.Lock()):
            outcome = await finder.sweep_late(organization, late)
        newest = self.cache.organizations.get(organization.name)
        if newest is None or newest.status.sweep != last:
            # The result of a sweep that a person requested was stored meanwhile.
            return None
        found = outcome.with_earlier(last).result(last.completion_time)
        return found if found != last else None

    def _is_sweep_due(self, organization: Organization) -> bool:
        sweep, last, now = organization.spec.sweep, organization.status.sweep, self.clock.now()
        return last is None or not last.complete or age(last.completion_time, now) >= sweep.interval

    def _is_sweep_held(self, organization: Organization) -> bool:
        """Whether the pause after a sweep that was not complete lasts."""
        return self.clock.monotonic() < self._next_sweep.get(organization.uid, -math.inf)

    async def _check_sender(self, sender: Sender) -> None:
        """Verify a new key, and a key that did not work at the last check: it may have been replaced."""
        organization = self.cache.organizations.get(sender.spec.organization_ref.name)
        if organization is None:
            await self.sender_keys.organization_missing(sender)
            return
        if self._is_key_attempt_due(sender, organization):
            await self._try_key(sender, organization)
        newest = self.cache.senders.get(sender.name)
        if newest is None or self._awaiting_consent is None:
            return
        # Before the write: a state that it changes is checked again.
        state = self._state(newest)
        await self.sender_keys.set_waiting_events(newest, self._awaiting_consent[sender.name])
        if state is not None and self._has_key_that_works(newest):
            self._settled[sender.name] = state

    def _is_settled(self, sender: Sender) -> bool:
        """Whether the Sender's key worked at the last check, and nothing changed since."""
        settled = self._settled.get(sender.name)
        return settled is not None and settled == self._state(sender)

    def _state(self, sender: Sender) -> SenderState | None:
        """Return what a check depends on; None while that is not known."""
        organization = self.cache.organizations.get(sender.spec.organization_ref.name)
        if organization is None or self._awaiting_consent is None:
            return None
        uid, generation = organization.uid, organization.metadata.generation
        return SenderState(version_number(sender), uid, generation, self._awaiting_consent[sender.name])

    def _has_key_that_works(self, sender: Sender) -> bool:
        """Whether eSAW accepted the key for this spec, at the present origin."""
        authorized = find_condition(sender.status.conditions, "Authorized")
        is_current = authorized is not None and authorized.observed_generation == sender.metadata.generation
        works = is_current and is_condition_true(sender.status.conditions, "Authorized")
        return works and not has_moved(self.cache, sender)

    def _is_key_attempt_due(self, sender: Sender, organization: Organization) -> bool:
        if self._has_key_that_works(sender):
            return False
        last_attempt = self._key_attempts.get(sender.name)
        versions = (version_number(sender), (organization.uid, organization.metadata.generation))
        if last_attempt is None or last_attempt[:2] != versions:
            return True
        if sender.is_key_unread and last_attempt.at >= self._secret_read_at:
            # The cause is one for all Senders, and thousands can be idle.
            return self.clock.monotonic() - last_attempt.at >= RECHECK_SECONDS
        if self._awaiting_consent is None or self._awaiting_consent[sender.name]:
            return True
        return self.clock.monotonic() - last_attempt.at >= KEY_RETRY_SECONDS

    async def _try_key(self, sender: Sender, organization: Organization) -> None:
        at = self.clock.monotonic()
        try:
            await self.sender_keys.key(sender, self.esaw_clients.for_organization(organization))
            await self.sender_keys.observe_spec(sender)
        except (KeyUnusable, EsawError) as unusable:
            _log.debug("the key of a sender does not work yet: %s", unusable, extra={"sender": sender.name})
            if not isinstance(unusable, KeyStateUnknown | EsawError):
                await self.sender_keys.observe_spec(sender)
        version = version_number(self.cache.senders.get(sender.name) or sender)
        known = organization.uid, organization.metadata.generation
        self._key_attempts[sender.name] = KeyAttempt(version, known, at)

    async def _count_awaiting_consent(self) -> None:
        if self.held.are_all and self.cache.has_all_events:
            awaiting = [each for each in self.cache.events if each.status.phase is Phase.AWAITING_CONSENT]
            self._awaiting_consent = Counter(self.cache.sender_name(each) for each in awaiting)
            return
        # The events of other shards are not in this cache, nor are all events before their first list.
        now, last = self.clock.monotonic(), self._awaiting_consent_at
        if last is None or now - last >= CONSENT_COUNT_SECONDS:
            self._awaiting_consent_at = now
            awaiting_by_sender = Counter[str]()
            fields = f"status.phase={Phase.AWAITING_CONSENT}"
            async for event in self.kube.list_readable(EnvelopeEvent, fields=fields):
                awaiting_by_sender[self.cache.sender_name(event)] += 1
            self._awaiting_consent = awaiting_by_sender

    async def _check_archive(self, archive: Archive) -> None:
        if not self.held.owns("archive", archive.name):
            await self.archive_pool.write_bytes(archive)
            return
        now, last = self.clock.monotonic(), self._probed_at.get(archive.name)
        is_ready = is_condition_true(archive.status.conditions, "Ready")
        is_healthy = is_ready and not self.archive_pool.is_stalled(archive.name)
        pause = PROBE_SECONDS if is_healthy else UNREADY_PROBE_SECONDS
        is_early = last is not None and now - last < pause
        if is_early and not await self.archive_pool.has_other_anchors(archive):
            return
        self._probed_at[archive.name] = now
        try:
            after = await self.archive_pool.update_status(archive)
        except ApiError:
            # Nothing was found, so the next periodic check tries it again.
            self._probed_at[archive.name] = now - pause + UNREADY_PROBE_SECONDS
            raise
        if after is not None:
            self.cache.update_written(after)
