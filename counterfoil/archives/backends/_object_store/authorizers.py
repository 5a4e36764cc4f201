"""
The proof of the right to a bucket in each request: signatures of Amazon and of Azure, and bearer tokens.
"""

import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qsl, urlsplit

from counterfoil.archives.backends._object_store.identity import Cached, NoIdentity
from counterfoil.archives.backends._object_store.sigv4 import SigningCredentials, signed
from counterfoil.archives.errors import ArchiveError
from counterfoil.clock import Clock

AZURE_VERSION = "2023-11-03"

_AZURE_HEADERS = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)
"""Headers whose values Azure's string to sign has, in its order."""

IdentityLost = Callable[[], ArchiveError]
"""Returns the error for a pod without an identity."""


class AmazonAuthorizer:
    """Signs by AWS Signature Version 4."""

    def __init__(
        self, key: Callable[[], Awaitable[SigningCredentials]], clock: Clock, lost: IdentityLost
    ) -> None:
        self._key = key
        self._clock = clock
        self._lost = lost

    async def headers(
        self, method: str, url: str, headers: Mapping[str, str], *, length: int, sha256: bytes
    ) -> dict[str, str]:
        """Return the headers with the signature."""
        try:
            key = await self._key()
        except NoIdentity as error:
            raise self._lost() from error
        return signed(key, method, url, headers=headers, payload=sha256.hex(), now=self._clock.now())

    def refused(self, headers: Mapping[str, str]) -> None:
        """Keep the key: Amazon answers 403 to one that it does not accept, as to a missing right."""


class AzureKeyAuthorizer:
    """Signs by the key of an account. (Azure, "Authorize with Shared Key")"""

    def __init__(self, account: str, key: bytes, clock: Clock) -> None:
        self._account = account
        self._key = key
        self._clock = clock

    async def headers(
        self, method: str, url: str, headers: Mapping[str, str], *, length: int, sha256: bytes
    ) -> dict[str, str]:
        """Return the headers with the signature."""
        sent = {**headers, **_azure_headers(self._clock.now())}
        text = string_to_sign(self._account, method, url, sent, length)
        digest = hmac.new(self._key, text.encode(), hashlib.sha256).digest()
        sent["Authorization"] = f"SharedKey {self._account}:{base64.b64encode(digest).decode()}"
        return sent

    def refused(self, headers: Mapping[str, str]) -> None:
        """Keep the key: there is no other."""


class BearerAuthorizer:
    """Sends a token; ``is_azure`` adds the headers that Azure demands."""

    def __init__(
        self, token: Cached[str], clock: Clock, lost: IdentityLost, *, is_azure: bool = False
    ) -> None:
        self._token = token
        self._clock = clock
        self._lost = lost
        self._is_azure = is_azure

    async def headers(
        self, method: str, url: str, headers: Mapping[str, str], *, length: int, sha256: bytes
    ) -> dict[str, str]:
        """Return the headers with the token."""
        try:
            token = await self._token.get()
        except NoIdentity as error:
            raise self._lost() from error
        own = _azure_headers(self._clock.now()) if self._is_azure else {}
        return {**headers, **own, "Authorization": f"Bearer {token}"}

    def refused(self, headers: Mapping[str, str]) -> None:
        """Drop the token of these headers: it may have been obtained by a wrong clock."""
        self._token.drop(headers["Authorization"].removeprefix("Bearer "))


def string_to_sign(account: str, method: str, url: str, headers: Mapping[str, str], length: int) -> str:
    """Return the text that the signature of Azure covers."""
    by_name = {name.lower(): value.strip() for name, value in headers.items()}
    # Zero is written as nothing since version 2015-02-21.
    by_name["content-length"] = str(length) if length else ""
    parts = urlsplit(url)
    own = sorted((name, value) for name, value in by_name.items() if name.startswith("x-ms-"))
    query = sorted((name.lower(), value) for name, value in parse_qsl(parts.query, keep_blank_values=True))
    return "\n".join(
        [
            method,
            *(by_name.get(name, "") for name in _AZURE_HEADERS),
            *(f"{name}:{value}" for name, value in own),
            f"/{account}{parts.path or '/'}",
            *(f"{name}:{value}" for name, value in query),
        ]
    )


def _azure_headers(now: datetime) -> dict[str, str]:
    return {
        "x-ms-date": format_datetime(now.astimezone(UTC), usegmt=True),
        "x-ms-version": AZURE_VERSION,
    }
