"""
A check of one organization's eSAW: with whose key it asks, and what its status says afterwards.

The default Sender's key is preferred, then that of any other authorized Sender. A check reports what eSAW
answers to a key; it does not change the Sender's condition.
"""

import logging
from dataclasses import dataclass, replace

from controller.access.credential_origin import client_secret_fault
from controller.access.secret_cache import SecretCache, SecretMissing, value_of
from controller.access.sender_keys import KeyUnusable, SenderKeys
from controller.cache import Cache
from counterfoil.clock import Clock
from counterfoil.esaw.client import EsawClient, EsawClients
from counterfoil.esaw.errors import EsawError
from counterfoil.esaw.token import ApiToken
from counterfoil.esaw_check.probes import EsawCheckSubject, Questions, check_esaw
from counterfoil.kube.secret import SecretUse
from counterfoil.resources import Organization
from counterfoil.resources.naming import EnvelopeId
from counterfoil.resources.organization import Addressed, OrganizationCheck

_log = logging.getLogger(__name__)

MAX_TRIED_SENDERS = 3
"""Maximum number of Senders whose keys are tried before the check continues without a key."""

MAX_NAME_LENGTH = 256
"""Maximum characters of the name in ``status.check.by``."""


@dataclass(frozen=True)
class EsawChecker:
    """Checks what Counterfoil assumes about eSAW."""

    cache: Cache
    secrets: SecretCache
    sender_keys: SenderKeys
    esaw_clients: EsawClients
    clock: Clock
    addressed: Addressed

    async def check(
        self,
        organization: Organization,
        *,
        envelope: EnvelopeId | None = None,
        draft: EnvelopeId | None = None,
        by: str | None = None,
    ) -> OrganizationCheck:
        """Ask eSAW; return what the status says. Raises ``ApiError`` when a Secret can't be asked for."""
        started = self.clock.now().replace(microsecond=0)
        esaw = self.esaw_clients.for_organization(organization)
        subject = EsawCheckSubject(self.addressed(organization), envelope=envelope, draft=draft)
        subject = await self._with_key(subject, esaw)
        subject = await self._with_client_secret(subject, esaw)
        report = await check_esaw(Questions(esaw, self.clock), subject, self.clock.now())
        _log.info("eSAW was checked", extra={"organization": organization.name})
        return OrganizationCheck(
            start_time=started,
            completion_time=self.clock.now().replace(microsecond=0),
            version=report.version,
            by=by[:MAX_NAME_LENGTH] if by else None,
            results=report.results,
        )

    async def _with_key(self, subject: EsawCheckSubject, esaw: EsawClient) -> EsawCheckSubject:
        why = "No Sender of this Organization has a key that works."
        for sender in self.cache.default_sender_first(subject.organization)[:MAX_TRIED_SENDERS]:
            try:
                token: ApiToken = await self.sender_keys.key(sender, esaw)
            except (KeyUnusable, EsawError) as problem:
                why = str(problem)
                continue
            return replace(subject, sender=sender, token=token)
        return replace(subject, why_no_token=why)

    async def _with_client_secret(self, subject: EsawCheckSubject, esaw: EsawClient) -> EsawCheckSubject:
        oauth = subject.organization.spec.oauth
        if oauth is None:
            return replace(subject, why_no_secret="This Organization has no spec.oauth.")  # noqa: S106
        ref = oauth.client_secret_ref
        try:
            secret = await self.secrets.labelled(ref.name, SecretUse.OAUTH)
            value, organization = value_of(secret, ref.key), subject.organization
            fault = client_secret_fault(self.cache, organization, ref, secret.origin, esaw.origin)
            if fault is not None:
                # Its message depends on who answers now, and the result of a check stays.
                why = (
                    f"The client secret in Secret/{ref.name} is not sent to {esaw.origin} ({fault[0]}). The "
                    f"condition Ready of Organization/{organization.name} says what to do."
                )
                return replace(subject, why_no_secret=why)
            return replace(subject, client_secret=value.decode().strip(), client_secret_origin=esaw.origin)
        except SecretMissing as missing:
            return replace(subject, why_no_secret=str(missing))
        except UnicodeDecodeError:
            why = f"Secret/{ref.name}, key {ref.key!r}: the client secret has to be UTF-8."
            return replace(subject, why_no_secret=why)
