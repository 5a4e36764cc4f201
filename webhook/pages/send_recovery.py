"""
Complete attempts to send that were killed, that failed because another part was down, or that took too long.

Every replica runs this periodically; every step can be repeated. The recovery never sends: a draft that still
exists waits for its user, and a draft that is gone gets its sender recorded. Old Leases are deleted.

A Lease that has the envelopes of a bulk needs neither eSAW nor a key. For any other, eSAW is searched: again
and again, since the search may lag, at intervals that double once it found something.
"""

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from counterfoil.clock import Clock
from counterfoil.esaw import EsawClients, EsawError, drafts
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, NotFound
from counterfoil.resources import Organization, ResourceInvalid, is_condition_true
from webhook.pages.consent import ConsentService
from webhook.pages.limits import PageLimits
from webhook.pages.send import DraftSender, SendJob
from webhook.pages.send_lease import SendLease, SendLeases

_log = logging.getLogger(__name__)


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
    _next_searches: dict[str, datetime] = field(init=False, default_factory=dict)
    """When to search again for what a draft became, by the uid of its Lease."""

    async def run(self) -> None:
        """Run a pass per interval until cancelled."""
        while True:
            try:
                await self.run_once()
            except ApiError as problem:
                _log.warning("the Leases of drafts cannot be read now: %s", problem)
            except Exception:
                _log.exception("a recovery pass failed")
            await self.clock.sleep(self.limits.recovery_seconds)

    async def run_once(self) -> None:
        """Check every Lease once. Raises ``ApiError``."""
        seen = set()
        async for lease in self.send_leases.list_drafts():
            seen.add(lease.uid)
            now = self.clock.now()
            if lease.is_completed:
                if now - lease.renewed > timedelta(seconds=self.limits.lease_kept_seconds):
                    await self.send_leases.discard(lease)
            elif lease.is_expired(now) and now >= self._next_searches.get(lease.uid, now):
                try:
                    await self._recover(lease, now)
                except EsawError as problem:
                    fields = {"organization": lease.organization, "sender": lease.sender}
                    _log.info("a draft cannot be recovered now: %s", problem, extra=fields)
        for uid in self._next_searches.keys() - seen:
            del self._next_searches[uid]
        await self.send_leases.delete_states(older_than=self.limits.state_kept_seconds)

    async def _recover(self, lease: SendLease, now: datetime) -> None:
        if lease.envelopes:
            return await self._record_bulk(lease, now)
        job = await self._send_job(lease)
        if job is None:
            return None
        given_up = lease.started + timedelta(seconds=self.limits.given_up_seconds)
        is_old = now > given_up
        fields = {"organization": lease.organization, "sender": lease.sender}
        if not await drafts.exists(job.user, job.draft):
            if await self.draft_sender.complete(job, lease):
                self._next_searches[lease.uid] = min(now + (now - lease.renewed), given_up)
                _log.info("the sender of a draft from an interrupted attempt is recorded", extra=fields)
            elif is_old:
                _log.warning("a draft vanished, and its sender sent nothing since", extra=fields)
        if is_old:
            await self.send_leases.discard(lease)
        return None

    async def _record_bulk(self, lease: SendLease, now: datetime) -> None:
        """Write the Envelopes of a bulk that an attempt left; one replica does."""
        fields = {"organization": lease.organization, "sender": lease.sender}
        if now - lease.started > timedelta(seconds=self.limits.lease_kept_seconds):
            _log.error("the senders of a bulk could not be stored for a day; this is given up", extra=fields)
            return await self.send_leases.discard(lease)
        taken = await self.send_leases.take_over(lease)
        if taken is None:
            return None
        try:
            await self.draft_sender.record(taken, taken.envelopes)
        except ApiError as problem:
            _log.warning("not all senders of a bulk are stored yet: %s", problem, extra=fields)
        else:
            _log.info("the senders of %d envelopes of a bulk are stored", len(taken.envelopes), extra=fields)
        return None

    async def _send_job(self, lease: SendLease) -> SendJob | None:
        """Return what the attempt was about, with the sender's key; None while there is none that works."""
        try:
            organization = Organization.parse(await self.kube.get(Organization, lease.organization))
        except (NotFound, ResourceInvalid):
            return None
        sender = await self.consent_service.find_sender(organization, lease.sender)
        if sender is None or not is_condition_true(sender.status.conditions, "Authorized"):
            return None
        esaw = self.esaw_clients.for_organization(organization)
        key = await self.consent_service.get_token(sender, esaw)
        if key is None:
            return None
        return SendJob(organization, sender, esaw.as_user(key), lease.draft)
