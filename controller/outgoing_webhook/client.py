"""
Send one notice by HTTP, so that no receiver holds the controller up or leads it elsewhere.

One attempt has one timeout for everything. No redirect is followed, no cookie kept, no connection reused, and
of a response only the status and Retry-After are read. The connection goes to a checked address
(``counterfoil.untrusted.http_transport``).
"""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import urlsplit

import httpx

from controller.outgoing_webhook.policy import AttemptResult, NotDelivered, result_of
from controller.scheduling.retry_policy import MAX_RETRY_AFTER
from counterfoil.clock import Clock
from counterfoil.http_client import retry_after_seconds, tls_fault
from counterfoil.untrusted.addresses import ALLOWED, Addresses, is_address_forbidden
from counterfoil.untrusted.http_transport import new_client

ATTEMPT_TIMEOUT_SECONDS = 15.0
"""Timeout for one attempt, from the look-up of the name to the response. (Standard Webhooks: 15 to 30 s)"""

CONNECT_TIMEOUT_SECONDS = 5.0
"""Timeout for the connection; a name may have several addresses."""


@dataclass
class NoticeClient:
    """Sends notices. Use ``close`` at the end."""

    clock: Clock
    addresses: Addresses = field(default_factory=ALLOWED.get)
    timeout_seconds: float = ATTEMPT_TIMEOUT_SECONDS
    _http: httpx.AsyncClient | None = None

    async def post(self, url: str, headers: dict[str, str], body: bytes) -> AttemptResult:
        """Make one attempt, and return its result. Raises nothing because of a receiver."""
        receiver = "The receiver"
        try:
            receiver = f"The receiver at {_origin(url)}"
            async with asyncio.timeout(self.timeout_seconds):
                return await self._post(url, receiver, headers, body)
        except (TimeoutError, httpx.TimeoutException):
            message = f"{receiver} did not answer within {self.timeout_seconds:g} seconds."
            return NotDelivered("WebhookUnreachable", message)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            # ValueError: an address that is none.
            if is_address_forbidden(error):
                message = (
                    f"{receiver} has an address that notices are never sent to: link-local, loopback, the "
                    "pod, its node, or the metadata service of a cloud. Correct spec.webhook, or the name in "
                    "DNS."
                )
                return NotDelivered("WebhookAddressForbidden", message)
            if (fault := tls_fault(error)) is not None:
                message = (
                    f"{receiver} can't prove who it is ({fault}). Give it a certificate for its name that "
                    "the controller trusts, or name its authority in the controller's SSL_CERT_FILE."
                )
                return NotDelivered("WebhookTlsFailed", message)
            return NotDelivered("WebhookUnreachable", f"{receiver} could not be reached.")

    async def close(self) -> None:
        """Close all connections."""
        if self._http is not None:
            await self._http.aclose()

    async def _post(self, url: str, receiver: str, headers: dict[str, str], body: bytes) -> AttemptResult:
        # The body of the response is left unread; the end of the context closes the connection.
        async with self._client().stream("POST", url, headers=headers, content=body) as response:
            now, longest = self.clock.now(), MAX_RETRY_AFTER.total_seconds()
            header = response.headers.get("Retry-After")
            pause = retry_after_seconds(header, now=now, longest=longest)
            not_before = None if pause is None else now + timedelta(seconds=pause)
            return result_of(response.status_code, receiver, not_before=not_before)

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = new_client(
                timeout=httpx.Timeout(self.timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS),
                idle=0,
                headers={"User-Agent": "Counterfoil", "Accept": "*/*", "Accept-Encoding": "identity"},
                addresses=self.addresses,
            )
        return self._http


def _origin(url: str) -> str:
    """Return scheme, host and port: a path or a query may have a password of the receiver."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
