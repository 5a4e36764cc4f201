"""
Complete attempts to send that were killed, that failed because another part was down, or that took too long.

Every replica runs this periodically; every step can be repeated. The recovery never sends: a draft that still
exists waits for its user, and a draft that is gone gets its sender recorded. Old Leases are deleted.

A Lease that has the envelopes of a bulk needs neither eSAW nor a key. For any other, eSAW is searched: again
and again, since the search may lag, at intervals that double once it found something. A person who tries
again and again does not stop that: the search also runs beside a repeated attempt, and each continues what
the other recorded.

Each Lease is recovered on its own, with its own limit of time and its own pauses: one that fails or hangs
delays no other. A Lease is given up by what eSAW or the API server answered, never by its age: hours in which
nobody could try, and a clock that jumped, end nothing.
"""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto

from counterfoil.clock import Clock
from counterfoil.esaw import EsawClients, EsawError, drafts
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Forbidden, NotFound, Rejected
from counterfoil.resources import Organization, is_condition_true
from webhook.pages.code_exchange import ConsentService
from webhook.pages.limits import PageLimits
from webhook.pages.send import DraftSender, SendJob
from webhook.pages.send_lease import SendLease, SendLeases

_log = logging.getLogger(__name__)


class _Answer(Enum):
    """Result of one try to recover a Lease."""

    RECORDED = auto()
    """Envelopes of the draft are recorded; the search may not show all of them yet."""
    NOTHING = auto()
    """The draft still exists, or eSAW shows no envelope that it became."""
    GONE = auto()
    """The Organization or the Sender does not exist."""
    UNKNOWN = auto()
    """Nobody could be asked."""


@dataclass
class _Tries:
    """The tries of this process for one Lease; times in seconds."""

    next_at: float
    """When to try again, by the monotonic clock."""
    followed: float = 0.0
    """Time that is covered by tries which were answered."""
    failures: int = 0
    """Number of failed tries since the last answer."""


def beyond_newest(leases: Iterable[SendLease], most: int) -> frozenset[str]:
    """Return the uids of the completed Leases that are not among the ``most`` newest of their
    Organization."""
    by_organization: defaultdict[str, list[SendLease]] = defaultdict(list)
    for lease in leases:
        if lease.is_completed:
            by_organization[lease.organization].append(lease)
    return frozenset(
        lease.uid
        for own in by_organization.values()
        for lease in sorted(own, key=lambda each: each.started, reverse=True)[most:]
    )


@dataclass(frozen=True, kw_only=True)
class SendRecovery:
    """Checks the Leases of all drafts periodically."""

    kube: KubeClient
    send_leases: SendLeases
    draft_sender: DraftSender
    consent_service: ConsentService
    esaw_clients: EsawClients
    clock: Clock
    limits: PageLimits
    _tries: dict[str, _Tries] = field(init=False, default_factory=dict)
    """By the uid of the Lease."""
    _running: set[str] = field(init=False, default_factory=set)
    """The uids of the Leases that are being recovered."""
    _slots: dict[str, asyncio.Semaphore] = field(init=False, default_factory=dict)
    """By Organization: one whose eSAW hangs takes no more than these."""

    _sent_listed: list[float] = field(init=False, default_factory=list)
    """When the sent drafts were listed last, by the monotonic clock."""

    async def run(self) -> None:
        """Run a pass per interval until cancelled. A pass does not wait for what an earlier one began."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await self._begin_pass(tasks)
                await self.clock.sleep(self.limits.recovery_seconds)

    async def run_once(self) -> None:
        """Check every Lease once."""
        async with asyncio.TaskGroup() as tasks:
            await self._begin_pass(tasks)

    async def _begin_pass(self, tasks: asyncio.TaskGroup) -> None:
        """Begin the recovery of every Lease that is due, and delete old Leases."""
        try:
            leases = [lease async for lease in self.send_leases.list_drafts()]
            self.draft_sender.observe_open_drafts(Counter(lease.organization for lease in leases))
            excess: frozenset[str] = frozenset()
            if self._is_sent_list_due():
                sent = [lease async for lease in self.send_leases.list_sent()]
                excess = beyond_newest(sent, self.limits.sent_drafts)
                leases += sent
            self._forget_others(leases)
            for lease in leases:
                if lease.uid not in self._running and (lease.uid in excess or self._is_due(lease)):
                    self._running.add(lease.uid)
                    tasks.create_task(self._try(lease))
        except ApiError as problem:
            _log.warning("the Leases of drafts cannot be read now: %s", problem)
        except Exception:
            _log.exception("a recovery pass failed")
        try:
            await self.send_leases.delete_states(older_than=self.limits.state_kept_seconds)
        except ApiError as problem:
            _log.warning("the Leases of used states cannot be deleted now: %s", problem)

    def _is_sent_list_due(self) -> bool:
        """Whether to list the sent drafts now: there may be those of a whole day."""
        now = self.clock.monotonic()
        if self._sent_listed and now - self._sent_listed[0] < self.limits.sent_list_seconds:
            return False
        self._sent_listed[:] = [now]
        return True

    def _forget_others(self, leases: Iterable[SendLease]) -> None:
        """Drop the state of Leases that do not exist any more."""
        uids, organizations = {lease.uid for lease in leases}, {lease.organization for lease in leases}
        for uid in self._tries.keys() - uids:
            del self._tries[uid]
        for organization in self._slots.keys() - organizations:
            del self._slots[organization]

    def _is_due(self, lease: SendLease) -> bool:
        now = self.clock.now()
        if lease.is_completed:
            return lease.is_expired(now, after=self.limits.lease_kept_seconds)
        tries = self._tries.get(lease.uid)
        if tries is not None and self.clock.monotonic() < tries.next_at:
            return False
        # A person who tries again and again holds the Lease of a draft all the time.
        return lease.is_expired(now) or lease.is_repeated(now)

    async def _try(self, lease: SendLease) -> None:
        """Try one Lease within its limit of time; decide when to try again, or give it up."""
        fields = {"organization": lease.organization, "sender": lease.sender}
        slots = self._slots.setdefault(
            lease.organization, asyncio.Semaphore(self.limits.concurrent_recoveries)
        )
        answer = _Answer.UNKNOWN
        try:
            async with slots, asyncio.timeout(self.limits.lease_recovery_seconds):
                if lease.is_completed:
                    return await self.send_leases.discard(lease)
                if lease.envelopes:
                    answer = await self._record_bulk(lease)
                else:
                    answer = await self._search(lease)
                await self._follow(lease, answer)
        except (EsawError, ApiError, TimeoutError) as problem:
            _log.info("a draft cannot be recovered now: %r", problem, extra=fields)
            self._pause(lease)
        except Exception:
            _log.exception("the recovery of a draft failed", extra=fields)
            self._pause(lease)
        finally:
            self._running.discard(lease.uid)
        return None

    def _pause(self, lease: SendLease) -> None:
        """Try a Lease again after a pause that doubles with each failure."""
        tries = self._tries.setdefault(lease.uid, _Tries(0.0))
        pause = min(self.limits.recovery_seconds * 2.0**tries.failures, self.limits.recovery_pause_seconds)
        tries.failures = min(tries.failures + 1, 30)
        tries.next_at = self.clock.monotonic() + pause

    async def _follow(self, lease: SendLease, answer: _Answer) -> None:
        """Count the time that this answer covers, and give the Lease up after enough of it."""
        if answer is _Answer.UNKNOWN:
            return self._pause(lease)
        tries = self._tries.setdefault(lease.uid, _Tries(0.0))
        # The Lease of a person who is sending the draft stays, or another click could send it, too.
        if tries.followed >= self.limits.given_up_seconds and lease.is_expired(self.clock.now()):
            if answer is _Answer.NOTHING:
                fields = {"organization": lease.organization, "sender": lease.sender}
                _log.warning("an attempt to send a draft is given up: nothing was sent", extra=fields)
            return await self.send_leases.discard(lease)
        pause = self.limits.recovery_seconds
        if answer is _Answer.RECORDED:
            pause = max(pause, tries.followed)
        tries.followed, tries.failures = tries.followed + pause, 0
        # A little less, since the pass itself takes time and must not miss its turn.
        tries.next_at = self.clock.monotonic() + pause * 0.9
        return None

    async def _search(self, lease: SendLease) -> _Answer:
        """Record what the draft became, if it is gone and eSAW shows that."""
        job = await self._send_job(lease)
        if not isinstance(job, SendJob):
            return job
        fields = {"organization": lease.organization, "sender": lease.sender}
        if await drafts.exists(job.user, job.draft) or not await self.draft_sender.complete(job, lease):
            return _Answer.NOTHING
        _log.info("the sender of a draft from an interrupted attempt is recorded", extra=fields)
        return _Answer.RECORDED

    async def _record_bulk(self, lease: SendLease) -> _Answer:
        """Write the Envelopes of a bulk that an attempt left; one replica does. Given up after refusals
        alone."""
        fields = {"organization": lease.organization, "sender": lease.sender}
        taken = await self.send_leases.continue_recording(lease)
        if taken is None:
            return _Answer.UNKNOWN
        try:
            await self.draft_sender.record(taken, taken.envelopes)
        except (Rejected, Forbidden) as refused:
            if refused.status == 401:
                raise
            _log.warning("not all senders of a bulk are stored yet: %s", refused, extra=fields)
            refusals, age = taken.refusals + 1, self.clock.now() - taken.started
            is_old = age > timedelta(seconds=self.limits.lease_kept_seconds)
            if refusals >= self.limits.refusals and is_old:
                _log.error(
                    "the API server refused %d times to store the senders of a bulk; this is given up. Its "
                    "envelopes: %s",
                    refusals,
                    ", ".join(taken.envelopes),
                    extra=fields,
                )
                await self.send_leases.discard(taken)
            else:
                await self.send_leases.store_refusals(taken, refusals)
            return _Answer.UNKNOWN
        _log.info("the senders of %d envelopes of a bulk are stored", len(taken.envelopes), extra=fields)
        return _Answer.RECORDED

    async def _send_job(self, lease: SendLease) -> SendJob | _Answer:
        """Return what the attempt was about, with the sender's key; the answer while there is none that
        works."""
        try:
            organization = Organization.parse(await self.kube.get(Organization, lease.organization))
        except NotFound:
            return _Answer.GONE
        sender = await self.consent_service.find_sender(organization, lease.sender)
        if sender is None:
            return _Answer.GONE
        if not is_condition_true(sender.status.conditions, "Authorized"):
            return _Answer.UNKNOWN
        esaw = self.esaw_clients.for_organization(organization)
        key = await self.consent_service.get_token(sender, esaw)
        if key is None:
            return _Answer.UNKNOWN
        return SendJob(organization, sender, esaw.as_user(key), lease.draft)
