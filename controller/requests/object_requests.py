"""The requests on the objects that events depend on: ``sweep``, ``probe`` and ``ask``."""

from dataclasses import dataclass

from msgspec.structs import replace

from controller.cache import Cache
from controller.requests.request_table import RequestResult, RequestType
from controller.resync.resync import Resync
from counterfoil.clock import Clock
from counterfoil.i18n.key_advice import can_send_mail, consent_link, key_advice
from counterfoil.resources import (
    Archive,
    Condition,
    Organization,
    OrganizationStatus,
    Sender,
    SenderStatus,
    find_condition,
)
from counterfoil.resources.request import Request, RequestOutcome


@dataclass(frozen=True)
class ObjectRequests:
    """Carries out requests on Organizations, Archives and Senders."""

    cache: Cache
    resync: Resync
    clock: Clock

    @property
    def organization_types(self) -> dict[str, RequestType]:
        """The rows of the table for Organizations."""
        return {"sweep": RequestType("SweepRequested", self.sweep)}

    @property
    def archive_types(self) -> dict[str, RequestType]:
        """The rows of the table for Archives."""
        return {"probe": RequestType("ProbeRequested", self.probe)}

    @property
    def sender_types(self) -> dict[str, RequestType]:
        """The rows of the table for Senders."""
        return {"ask": RequestType("ConsentMailRequested", self.ask)}

    async def sweep(self, organization: Organization, request: Request) -> RequestResult:
        """Search now for finished envelopes whose callback is missing."""
        outcome = await self.resync.sweep(organization)
        swept = outcome.result(self.clock.now())

        def change(status: OrganizationStatus) -> OrganizationStatus:
            return replace(status, sweep=swept)

        return RequestResult(RequestOutcome.DONE, outcome.message, change)

    async def probe(self, archive: Archive, request: Request) -> RequestResult:
        """Write a probe and read it back now."""
        after = await self.resync.probe(archive)
        ready = find_condition(after.status.conditions, "Ready")
        if ready is None or ready.status != "True":
            reason = f"{ready.reason}: {ready.message}" if ready is not None else "no result"
            return RequestResult(RequestOutcome.DONE, f"The archive is not ready. {reason}")
        return RequestResult(RequestOutcome.DONE, f"The archive is ready. {ready.message}")

    async def ask(self, sender: Sender, request: Request) -> RequestResult:
        """Send the mail with the consent link again; the notifier sends it."""
        if (refused := self._why_no_mail(sender)) is not None:
            return refused
        # Times in a status are whole seconds, as that of the mail that it is compared with.
        requested = self.clock.now().replace(microsecond=0)

        def change(status: SenderStatus) -> SenderStatus:
            return replace(status, mail_request_time=requested)

        message = "The mail with the consent link is sent as soon as the mail server takes it."
        return RequestResult(RequestOutcome.DONE, message, change)

    def _why_no_mail(self, sender: Sender) -> RequestResult | None:
        authorized = find_condition(sender.status.conditions, "Authorized")
        if authorized is not None and authorized.status == "True":
            return RequestResult(RequestOutcome.NOTHING_TO_DO, "Nothing was left to do: the key works.")
        secret = sender.spec.token_secret_ref
        name = sender.spec.organization_ref.name
        organization = self.cache.organizations.get(name)
        if secret is not None:
            message = (
                "There is no consent to ask for: the key comes from spec.tokenSecretRef. Put a new key into "
                f"Secret/{secret.name}."
            )
        elif organization is None:
            message = f"Organization/{name} does not exist: correct spec.organizationRef of the Sender."
        elif not consent_link(sender, organization):
            message = (
                f"Organization/{name} has no consent page: set spec.oauth with publicURL, "
                "or give the Sender a key by spec.tokenSecretRef."
            )
        elif sender.spec.email is None:
            message = "There is no address: set spec.email of the Sender."
        elif not can_send_mail(organization):
            message = (
                "No mail can be sent: set spec.notifications.smtpSecretRef and spec.notifications.from of "
                f"Organization/{name}, or give the user the link yourself."
            )
        else:
            message = _why_consent_is_no_help(sender, organization, authorized)
        return RequestResult(RequestOutcome.REFUSED, message) if message else None


def _why_consent_is_no_help(sender: Sender, organization: Organization, authorized: Condition | None) -> str:
    """Return why no mail would be sent for this state of the key; empty if one would be."""
    if sender.spec.suspend:
        return "The Sender is suspended, so no mail is sent: set spec.suspend to false first."
    if authorized is None:
        return "It is not known yet whether the key works: it was not checked. Ask again later."
    known = f"{authorized.reason}: {authorized.message}"
    if authorized.status != "False":
        return f"It is not known whether the key works ({known}). Ask again later."
    if not key_advice(sender, organization, authorized.reason).can_mail:
        return f"Consent does not help now, and an administrator has to act first. {known}"
    return ""
