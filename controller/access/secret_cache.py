"""
Read Secrets by name, each only for the use that it is labelled for, and cache them for a short time.

The controller may only ``get`` Secrets, not watch them (rule 8). It therefore reads them again after
``FRESH_SECONDS``, well within the documented 30 s. The cache is in memory only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Forbidden, NotFound, Unavailable
from counterfoil.kube.secret import (
    SEALED_TOKEN_TYPE,
    Placeholder,
    Secret,
    SecretUse,
    create_commands,
    patch_command,
)
from counterfoil.resources import Sender, WebhookSpec
from counterfoil.sealing import SECRET_KEY
from counterfoil.standard_webhooks import SigningSecretInvalid, WebhookSignature, signing_keys

FRESH_SECONDS = 8
"""Maximum age of a cached Secret; less than the interval between two resyncs, so that each resync reads
again."""


UNREADABLE_SECONDS = 60.0
"""Time for which a Secret can't be read before that is about the Secret, as if it may not be read."""


class SecretMissing(Exception):
    """
    The Secret or a key in it is missing, or may not be read; the message for people names the Secret.

    Nothing of its content is in the message, not even the names of its keys: who reads a status need not have
    the right to read the Secret.
    """

    def explain(self, reason: str, advice: str) -> tuple[str, str]:
        """Return reason and message for a status, from those of the caller, who knows the purpose."""
        return reason, f"{self} {advice}"


class SecretNotFound(SecretMissing):
    """No Secret has this name."""


class SecretKeyMissing(SecretMissing):
    """The Secret has no such key."""

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


class SecretPlaceholder(SecretKeyMissing):
    """The value is the placeholder of a command that was typed as it was printed."""


class SecretForbidden(SecretMissing):
    """
    The Secret may not be read, so its existence is unknown. Or it can't be read: the API server answers an
    error about one Secret that it can't decrypt.

    This may be temporary: an API server that has just started refuses requests until it has loaded the roles.
    So a working key or archive must not be reported as lost because of this error.
    """


class SecretNotLabelled(SecretMissing):
    """The Secret is not labelled for this use, so nothing of it was used; the message says what to type."""

    def explain(self, reason: str, advice: str) -> tuple[str, str]:
        """Return the reason ``SecretNotLabelled`` and the message, which has its own advice."""
        return "SecretNotLabelled", str(self)


class SigningSecretUnusable(Exception):
    """The signing secret is missing or invalid; ``reason`` is the reason for the status."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class _CachedSecret:
    secret: Secret | None
    """None: the Secret does not exist."""
    at: float
    """When it was read, on the monotonic clock: a clock that is set back makes no Secret fresh."""


@dataclass
class SecretCache:
    """Reads Secrets of the controller's namespace."""

    kube: KubeClient
    clock: Clock
    _cached: dict[str, _CachedSecret] = field(default_factory=dict, repr=False)
    _unreadable_since: dict[str, float] = field(default_factory=dict)
    """Monotonic time since which no read of a Secret was answered."""

    async def labelled(self, name: str, use: SecretUse) -> Secret:
        """
        Return a Secret that is labelled for ``use``, at most ``FRESH_SECONDS`` old.

        A value and the origin that it belongs to come from one call: between two calls the Secret may be
        replaced. Raises ``SecretMissing``, ``SecretNotLabelled``, ``SecretForbidden`` (never cached),
        ``ApiError``.
        """
        secret = await self._read(name)
        if (fault := secret.use_fault(use)) is not None:
            raise SecretNotLabelled(fault)
        return secret

    async def data(self, name: str, use: SecretUse) -> dict[str, bytes]:
        """Return the decoded data of a Secret. Raises as ``labelled``, and ``SecretPlaceholder``."""
        secret = await self.labelled(name, use)
        return {key: value_of(secret, key) for key in secret.data}

    async def value(self, name: str, key: str, use: SecretUse) -> bytes:
        """Return one value of a Secret that is labelled for ``use``. Raises as ``labelled``."""
        return value_of(await self.labelled(name, use), key)

    async def sealed_token(self, sender: Sender) -> bytes:
        """
        Return the sealed key of a Sender from the Secret with the Sender's name. Raises as ``labelled``.

        Only a Secret of the type for sealed keys is read. Its owner is not compared: a Sender that was
        restored has another uid, and the seal opens for the Sender's name and user only.
        """
        secret = await self._read(sender.name)
        if secret.type != SEALED_TOKEN_TYPE:
            raise SecretMissing(f"Secret/{sender.name} is not of the type {SEALED_TOKEN_TYPE}.")
        return value_of(secret, SECRET_KEY)

    async def declared_origin(self, name: str) -> str | None:
        """Return the only origin that the Secret may be sent to; None: it names none. Raises
        ``SecretMissing``, ``SecretForbidden``, ``ApiError``."""
        return (await self._read(name)).origin

    def forget(self, name: str) -> None:
        """Drop a Secret that may have changed; the next call reads it again."""
        self._cached.pop(name, None)

    async def _read(self, name: str) -> Secret:
        now = self.clock.monotonic()
        known = self._cached.get(name)
        if known is None or now - known.at > FRESH_SECONDS:
            try:
                known = _CachedSecret(await self.kube.secret(name), now)
            except NotFound:
                known = _CachedSecret(None, now)
            except Forbidden as forbidden:
                message = (
                    f"Secret/{name} may not be read: the controller's ServiceAccount lacks `get` on secrets."
                )
                raise SecretForbidden(message) from forbidden
            except Unavailable as problem:
                if now - self._unreadable_since.setdefault(name, now) < UNREADABLE_SECONDS:
                    raise
                raise SecretForbidden(f"Secret/{name} can't be read: {problem}.") from problem
            self._unreadable_since.pop(name, None)
            self._cached[name] = known
        if known.secret is None:
            raise SecretNotFound(f"Secret/{name} does not exist.")
        return known.secret


async def webhook_signature(secrets: SecretCache, webhook: WebhookSpec, clock: Clock) -> WebhookSignature:
    """Return the signature of a webhook's notices; nothing is sent without one. Raises
    ``SigningSecretUnusable``, ``ApiError``."""
    ref, values = webhook.signing_secret_ref, {webhook.signing_secret_ref.key: Placeholder.SIGNING_SECRET}
    try:
        return WebhookSignature(
            signing_keys(await secrets.value(ref.name, ref.key, SecretUse.WEBHOOK)), clock
        )
    except SecretMissing as missing:
        how = what_to_type(missing, ref.name, values, SecretUse.WEBHOOK)
        advice = f"Put a signing secret there{how}, or correct spec.webhook.signingSecretRef."
        raise SigningSecretUnusable(*missing.explain("WebhookSecretMissing", advice)) from missing
    except SigningSecretInvalid as invalid:
        message = (
            f"Secret/{ref.name}, key {ref.key!r} can't be used as a signing secret: {invalid}. Put "
            "`whsec_` and the base64 of 24 to 64 random bytes there."
        )
        raise SigningSecretUnusable("WebhookSecretInvalid", message) from invalid


def value_of(secret: Secret, key: str) -> bytes:
    """Return one value of a Secret. Raises ``SecretKeyMissing``, ``SecretPlaceholder``."""
    if key not in secret.data:
        raise SecretKeyMissing(f"Secret/{secret.name} has no key {key!r}.", key)
    if (fault := secret.placeholder_fault(key)) is not None:
        raise SecretPlaceholder(fault, key)
    return secret.data[key]


def what_to_type(missing: SecretMissing, name: str, values: Mapping[str, Placeholder], use: SecretUse) -> str:
    """Return the commands that give a Secret what it lacks, for the advice of the caller, who knows its keys;
    empty if a command does not help."""
    if isinstance(missing, SecretNotFound):
        return f" (type {create_commands(name, values, use)})"
    if isinstance(missing, SecretKeyMissing) and missing.key in values:
        return f" (type `{patch_command(name, missing.key, values[missing.key])}`)"
    return ""
