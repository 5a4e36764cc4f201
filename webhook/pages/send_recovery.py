"""
Complete attempts to send that were killed, or that failed because another part was down.

Every replica runs this periodically; every step can be repeated. The recovery never sends: a draft that still
exists waits for its user, and a draft that is gone gets its sender recorded. Old Leases are deleted.
"""

import logging
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


class SendRecovery:
    """Checks the Leases of all drafts periodically."""

    def __init__(
        self,
        *,
        kube: KubeClient,
        send_leases: SendLeases,
        draft_sender: DraftSender,
        consent_service: ConsentService,
        esaw_clients: EsawClients,
        clock: Clock,
        limits: PageLimits,
    ) -> None:
        self._kube = kube
        self._send_leases = send_leases
        self._draft_sender = draft_sender
        self._consent_service = consent_service
        self._esaw_clients = esaw_clients
        self._clock = clock
        self._limits = limits

    async def run(self) -> None:
        """Run a pass per interval until cancelled."""
        while True:
            try:
                await self.run_once()
            except ApiError as problem:
                _log.warning("the Leases of drafts cannot be read now: %s", problem)
            except Exception:
                _log.exception("a recovery pass failed")
            await self._clock.sleep(self._limits.recovery_seconds)

    async def run_once(self) -> None:
        """Check every Lease once. Raises ``ApiError``."""
        async for send_lease in self._send_leases.list_drafts():
            now = self._clock.now()
            if send_lease.is_completed:
                if now - send_lease.renewed > timedelta(seconds=self._limits.lease_kept_seconds):
                    await self._send_leases.discard(send_lease)
            elif send_lease.is_expired(now):
                try:
                    await self._recover(send_lease, now)
                except EsawError as problem:
                    _log.info(
                        "a draft cannot be recovered now: %s",
                        problem,
                        extra=_log_fields(send_lease),
                    )
        await self._send_leases.delete_states(older_than=self._limits.state_kept_seconds)

    async def _recover(self, send_lease: SendLease, now: datetime) -> None:
        job = await self._send_job(send_lease)
        if job is None:
            return
        is_old = now - send_lease.started > timedelta(seconds=self._limits.given_up_seconds)
        if not await drafts.exists(job.user, job.draft):
            if await self._draft_sender.complete(job, send_lease):
                _log.info(
                    "the sender of a draft from an interrupted attempt is recorded",
                    extra=_log_fields(send_lease),
                )
            elif is_old:
                _log.warning(
                    "a draft vanished, and its sender sent nothing since", extra=_log_fields(send_lease)
                )
        if is_old:
            await self._send_leases.discard(send_lease)

    async def _send_job(self, send_lease: SendLease) -> SendJob | None:
        """Return what the attempt was about, with the sender's key; None while there is none that works."""
        try:
            organization = Organization.parse(await self._kube.get(Organization, send_lease.organization))
        except (NotFound, ResourceInvalid):
            return None
        sender = await self._consent_service.find_sender(organization, send_lease.sender)
        if sender is None or not is_condition_true(sender.status.conditions, "Authorized"):
            return None
        key = await self._consent_service.get_token(sender)
        if key is None:
            return None
        return SendJob(
            organization,
            sender,
            self._esaw_clients.for_organization(organization).as_user(key),
            send_lease.draft,
        )


def _log_fields(send_lease: SendLease) -> dict[str, str]:
    return {"organization": send_lease.organization, "sender": send_lease.sender}
