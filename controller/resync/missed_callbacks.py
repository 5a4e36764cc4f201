"""
The sweep: find finished envelopes whose callback is missing, by asking eSAW for each authorised sender.

Each envelope becomes the same deterministic event that its callback would create (``origin: Sweep``), so an
envelope is never processed twice; the API server returns "already exists".

It runs at its interval, and when a person requests it by the annotation ``counterfoil.dev/sweep``.
"""

import logging
from dataclasses import dataclass

from controller.access.sender_keys import KeyUnusable, SenderKeys
from controller.cache import Cache
from counterfoil import tracing
from counterfoil.clock import Clock
from counterfoil.esaw.client import EsawUserClient
from counterfoil.esaw.errors import EsawError, HttpStatusError
from counterfoil.esaw.registry import EsawClients
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import AlreadyExists
from counterfoil.resources import (
    ActionHandling,
    EnvelopeEvent,
    Organization,
    Origin,
    Sender,
    envelope_id,
    is_condition_true,
)
from counterfoil.resources.event_factory import new_event
from counterfoil.resources.organization import DEFAULT_LOOKBACK

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class MissedCallbackFinder:
    """Finds finished envelopes without an event."""

    kube: KubeClient
    cache: Cache
    sender_keys: SenderKeys
    esaw_clients: EsawClients
    clock: Clock

    async def sweep(self, organization: Organization) -> int:
        """
        Ask for all authorised senders of the organization; return how many events were new.

        A sender whose envelopes can't be asked for now is skipped until the next sweep. Raises ``ApiError``.
        """
        action = _action(organization)
        if action is None:
            return 0
        senders = [
            each
            for each in self.cache.senders
            if each.spec.organization_ref.name == organization.name
            and not each.spec.suspend
            and is_condition_true(each.status.conditions, "Authorized")
        ]
        found = 0
        for sender in senders:
            try:
                found += await self._sweep_sender(organization, sender, action)
            except (EsawError, KeyUnusable) as problem:
                _log.info("the sweep skipped a sender: %s", problem, extra={"sender": sender.name})
        return found

    async def _sweep_sender(self, organization: Organization, sender: Sender, action: str) -> int:
        esaw = self.esaw_clients.for_organization(organization)
        token = await self.sender_keys.key(sender, esaw)
        try:
            found = await self._find(organization, esaw.as_user(token))
        except HttpStatusError as answer:
            if answer.status == 401 and answer.error_id is None:
                self.sender_keys.doubt(sender, token)
            elif answer.status == 401:
                await self.sender_keys.refused(sender, token)
            raise
        return sum([await self._create_event(organization, sender, each, action) for each in found])

    async def _find(self, organization: Organization, user: EsawUserClient) -> list[str]:
        sweep, now = organization.spec.sweep, self.clock.now()
        start = now - (sweep.lookback if sweep is not None else DEFAULT_LOOKBACK)
        statuses = organization.spec.statuses
        found = [await user.find(status=status, start=start, end=now) for status in statuses]
        return [hit.id for hits in found for hit in hits]

    async def _create_event(self, organization: Organization, sender: Sender, found: str, action: str) -> int:
        try:
            envelope = envelope_id(found)
        except ValueError:
            _log.warning("eSAW listed an envelope without a GUID in the sweep", extra={"sender": sender.name})
            return 0
        with tracing.span("sweep", organization=organization.name, envelope=envelope) as step:
            event = new_event(
                organization=organization.name,
                envelope=envelope,
                action=action,
                origin=Origin.SWEEP,
                sender=sender.name,
                traceparent=step.traceparent,
            )
            try:
                await self.kube.create(EnvelopeEvent, event)
            except AlreadyExists:
                return 0
        _log.info("the sweep found an envelope without a callback", extra={"envelope": envelope})
        return 1


def _action(organization: Organization) -> str | None:
    """Return the action of the missed callback: the organization's first that leads into the archive."""
    archived = [rule.action for rule in organization.spec.actions if rule.handling is ActionHandling.ARCHIVE]
    usual = [action for action in archived if action.lower() == "envelopefinished"]
    return next(iter(usual + archived), None)
