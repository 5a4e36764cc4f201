"""
Sign messages by the rules of Standard Webhooks (https://www.standardwebhooks.com), version 1 of its symmetric
signatures.

The archives of kind ``http`` and the notices of finished events sign here. The signature covers the id, the
time and the body of a message. A receiver refuses old messages by the time, and repeated ones by the id.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from counterfoil.clock import Clock, utc_text

SECRET_PREFIX = "whsec_"  # noqa: S105 - the beginning of each secret of Standard Webhooks

MIN_KEY_BYTES, MAX_KEY_BYTES = 24, 64
"""Size of a key in the specification of Standard Webhooks."""

MAX_SECRETS = 4
"""Maximum number of secrets that sign one message; a rotation needs two."""


class SigningSecretInvalid(ValueError):
    """A text is no secret of Standard Webhooks. The message never contains the text."""


class WebhookSignature:
    """Signs messages with each of its keys; without a key it adds no signature."""

    def __init__(self, keys: Sequence[bytes], clock: Clock) -> None:
        self._keys = tuple(keys)
        self._clock = clock

    def now(self) -> str:
        """Return the time as a message carries it (RFC 3339)."""
        return utc_text(self._clock.now())

    def headers(self, message: str, payload: bytes) -> dict[str, str]:
        """Return the headers of a message. ``message`` is its id, which is the same when it is sent again."""
        timestamp = str(int(self._clock.now().timestamp()))
        headers = {"webhook-id": message, "webhook-timestamp": timestamp}
        if self._keys:
            signed = f"{message}.{timestamp}.".encode() + payload
            headers["webhook-signature"] = " ".join(f"v1,{_digest(key, signed)}" for key in self._keys)
        return headers


def decoded_key(secret: str) -> bytes:
    """Return the key of a secret: base64 behind ``whsec_``. Raises ``SigningSecretInvalid``."""
    if not secret.startswith(SECRET_PREFIX):
        raise SigningSecretInvalid(f"it does not begin with `{SECRET_PREFIX}`")
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SigningSecretInvalid(f"it is not base64 behind `{SECRET_PREFIX}`") from error


def signing_keys(value: bytes) -> tuple[bytes, ...]:
    """
    Return the keys of a value with one secret per line. Raises ``SigningSecretInvalid``.

    During a rotation the value has the new secret and the old one, and a message has a signature of each.
    """
    try:
        secrets = value.decode("ascii").split()
    except UnicodeDecodeError as error:
        raise SigningSecretInvalid("it is no ASCII text") from error
    if not 1 <= len(secrets) <= MAX_SECRETS:
        raise SigningSecretInvalid(f"it has {len(secrets)} secrets instead of 1 to {MAX_SECRETS}")
    keys = tuple(map(decoded_key, secrets))
    if any(not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES for key in keys):
        raise SigningSecretInvalid(f"its key does not have {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes")
    return keys


def _digest(key: bytes, signed: bytes) -> str:
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
