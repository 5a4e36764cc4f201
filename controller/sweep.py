"""
The sweep: finished envelopes whose callback never came are found by asking eSAW, per authorised sender.

What it finds becomes the same deterministic event as a callback would have made (``origin: Sweep``), so an envelope
that was called about is never worked on twice; the API server says "already there", and that is all.

It is made at its interval, and when a person asks for it by the annotation ``counterfoil.dev/sweep``.
"""

import logging

from controller.keyring import Keyring, KeyUnusable
from controller.office import Office
from counterfoil import tracing
from counterfoil.clock import Clock
from counterfoil.cluster import AlreadyExists, Cluster
from counterfoil.esaw.client import EsawUser
from counterfoil.esaw.clients import Esaws
from counterfoil.esaw.problems import Answered, EsawProblem
from counterfoil.resources import EnvelopeEvent, Handling, Organization, Origin, Sender, envelope_id, is_true
from counterfoil.resources.noting import note
from counterfoil.resources.organization import USUAL_LOOKBACK

_log = logging.getLogger(__name__)


class Sweeper:
    """Looks for finished envelopes."""

    def __init__(
        self, *, cluster: Cluster, office: Office, keyring: Keyring, esaws: Esaws, clock: Clock
    ) -> None:
        self._cluster = cluster
        self._office = office
        self._keyring = keyring
        self._esaws = esaws
        self._clock = clock

    async def sweep(self, organization: Organization) -> int:
        """
        Ask for all authorised senders of the organization; return how many events were new.

        A sender whose envelopes can't be asked for now is passed over until the next sweep. Raises ``ApiProblem``.
        """
        action = _action(organization)
        if action is None:
            return 0
        senders = [
            each
            for each in self._office.senders
            if each.spec.organization_ref.name == organization.name
            and not each.spec.suspend
            and is_true(each.status.conditions, "Authorized")
        ]
        found = 0
        for sender in senders:
            try:
                found += await self._sweep_sender(organization, sender, action)
            except (EsawProblem, KeyUnusable) as problem:
                _log.info("the sweep passed over a sender: %s", problem, extra={"sender": sender.name})
        return found

    async def _sweep_sender(self, organization: Organization, sender: Sender, action: str) -> int:
        esaw = self._esaws.of(organization)
        token = await self._keyring.key(sender, esaw)
        try:
            found = await self._find(organization, esaw.as_user(token))
        except Answered as answer:
            if answer.status == 401:
                await self._keyring.refused(sender, token)
            raise
        return sum([await self._note(organization, sender, each, action) for each in found])

    async def _find(self, organization: Organization, user: EsawUser) -> list[str]:
        sweep, now = organization.spec.sweep, self._clock.now()
        start = now - (sweep.lookback if sweep is not None else USUAL_LOOKBACK)
        hits = [
            hit
            for status in organization.spec.statuses
            for hit in await user.find(status=status, start=start, end=now)
        ]
        return [hit.id for hit in hits]

    async def _note(self, organization: Organization, sender: Sender, found: str, action: str) -> int:
        try:
            envelope = envelope_id(found)
        except ValueError:
            _log.warning("the sweep was told of an envelope without a GUID", extra={"sender": sender.name})
            return 0
        with tracing.span("sweep", organization=organization.name, envelope=envelope) as step:
            event = note(
                organization=organization.name,
                envelope=envelope,
                action=action,
                origin=Origin.SWEEP,
                sender=sender.name,
                traceparent=step.traceparent,
            )
            try:
                await self._cluster.create(EnvelopeEvent, event)
            except AlreadyExists:
                return 0
        _log.info("the sweep found an envelope without a callback", extra={"envelope": envelope})
        return 1


def _action(organization: Organization) -> str | None:
    """Return the action that the callback would have had: the organization's first that leads into the archive."""
    archived = [rule.action for rule in organization.spec.actions if rule.handling is Handling.ARCHIVE]
    usual = [action for action in archived if action.lower() == "envelopefinished"]
    return next(iter(usual + archived), None)
