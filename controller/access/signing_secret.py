"""
The signing secret of an Organization's webhook, from its Secret. Nothing is sent without a signature.
"""

from controller.access.secret_cache import SecretCache, SecretMissing
from counterfoil.clock import Clock
from counterfoil.kube.secret import SecretUse
from counterfoil.resources import WebhookSpec
from counterfoil.standard_webhooks import SigningSecretInvalid, WebhookSignature, signing_keys


class SigningSecretUnusable(Exception):
    """The signing secret is missing or invalid; ``reason`` is the reason for the status."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


async def webhook_signature(secrets: SecretCache, webhook: WebhookSpec, clock: Clock) -> WebhookSignature:
    """Return the signature of a webhook's notices. Raises ``SigningSecretUnusable``, ``ApiError``."""
    ref = webhook.signing_secret_ref
    try:
        return WebhookSignature(
            signing_keys(await secrets.value(ref.name, ref.key, SecretUse.WEBHOOK)), clock
        )
    except SecretMissing as missing:
        advice = "Put a signing secret there, or correct spec.webhook.signingSecretRef."
        raise SigningSecretUnusable(*missing.explain("WebhookSecretMissing", advice)) from missing
    except SigningSecretInvalid as invalid:
        message = (
            f"Secret/{ref.name}, key {ref.key!r} can't be used as a signing secret: {invalid}. Put "
            "`whsec_` and the base64 of 24 to 64 random bytes there."
        )
        raise SigningSecretUnusable("WebhookSecretInvalid", message) from invalid
