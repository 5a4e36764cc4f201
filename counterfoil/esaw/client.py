"""
eSAW as the rest of Counterfoil sees it: one ``EsawClient`` per organization, one ``EsawUserClient`` per token, typed answers.

Each method is one call of the REST API v6 and one of the ``problems`` when it fails. Ids are checked before they go into
a URL. It can read everything that archiving needs and change nothing: to delete is in ``deletion``, to send in ``drafts``,
and where keys come from in ``oauth``.
"""

import ssl
import uuid
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TypeVar
from urllib.parse import quote

import httpx

from counterfoil._upstream.httpcore_internals import set_read_size
from counterfoil._upstream.httpx_pools import PooledClient
from counterfoil._upstream.sniffio_lookup import disable_sniffio_lookup
from counterfoil.clock import Clock
from counterfoil.esaw.errors import ResponseInvalid
from counterfoil.esaw.limits import (
    CONNECTION_POOLS,
    KEEPALIVE_EXPIRY,
    MAX_CONNECTIONS,
    MAX_IDLE_CONNECTIONS,
    READ_BYTES,
    CallLimits,
)
from counterfoil.esaw.models import (
    ConfigurationResponse,
    EnvelopeResponse,
    EsawModel,
    FilesResponse,
    FindResponse,
    FoundEnvelope,
    HistoryResponse,
    WhoAmI,
    decode,
    is_file_id,
    parse_version,
)
from counterfoil.esaw.rate_limit import RateLimiter
from counterfoil.esaw.token import ApiToken
from counterfoil.esaw.transport import CallObserver, EsawCall, EsawTransport, FileDownload
from counterfoil.resources import EnvelopeStatus, envelope_id

A = TypeVar("A", bound=EsawModel)


class EsawClient:
    """One organization's eSAW. Owns what its users share: the host, the rate and the pauses."""

    def __init__(
        self,
        base_url: str,
        *,
        http: httpx.AsyncClient,
        clock: Clock,
        requests_per_second: float | None = None,
        observe: CallObserver,
        call_limits: CallLimits | None = None,
    ) -> None:
        """
        Take ``http`` from ``new_http_client``; it may be shared by all organizations and is closed by its owner.

        Raises ``ValueError`` for a base URL or a rate that can't be.
        """
        call_limits = call_limits or CallLimits()
        rate_limiter = RateLimiter(
            clock, per_second=requests_per_second, max_retry_after=call_limits.max_retry_after
        )
        self.transport = EsawTransport(
            base_url,
            http=http,
            clock=clock,
            rate_limiter=rate_limiter,
            observe=observe,
            call_limits=call_limits,
        )

    async def version(self) -> str:
        """Return eSAW's version. No token is needed; some installations may want one all the same (``Answered`` 401)."""
        return await self.transport.request(EsawCall("version", "GET", "system/version"), None, parse_version)

    def as_user(self, token: ApiToken) -> "EsawUserClient":
        """Return eSAW as the owner of this token sees it."""
        return EsawUserClient(self.transport, token)


class EsawUserClient:
    """
    eSAW with one user's rights.

    Every method raises an ``EsawProblem`` when it can't give what it says, and ``ValueError`` for an envelope id that is no GUID.
    """

    def __init__(self, transport: EsawTransport, token: ApiToken) -> None:
        self.transport = transport
        self.token = token

    async def whoami(self) -> WhoAmI:
        """Whose token this is; ``Answered`` 401 when it is nobody's any more."""
        return await self._get("whoami", "authorization/whoami", WhoAmI)

    async def envelope(self, envelope: str) -> EnvelopeResponse:
        """Return the envelope's status, name and workflow."""
        wanted = envelope_id(envelope)
        answer = await self._get("envelope", f"envelope/{wanted}", EnvelopeResponse)
        if not _same_guid(answer.id, wanted):
            # A mix-up on the way (a cache, a proxy) must not get another envelope archived or deleted.
            raise ResponseInvalid("envelope", "it is about another envelope")
        return answer

    async def files(self, envelope: str) -> FilesResponse:
        """Return what files the envelope has."""
        return await self._get("files", f"envelope/{envelope_id(envelope)}/files", FilesResponse)

    async def configuration(self, envelope: str) -> ConfigurationResponse:
        """Return how the envelope was set up: its metadata."""
        path = f"envelope/{envelope_id(envelope)}/configuration"
        return await self._get("configuration", path, ConfigurationResponse)

    async def history(self, envelope: str) -> HistoryResponse:
        """Return the envelope's past, also of a deleted one. ``Answered`` 403 when the user may not see histories."""
        return await self._get("history", f"envelope/{envelope_id(envelope)}/history", HistoryResponse)

    async def find(
        self, *, status: EnvelopeStatus, start: datetime | None = None, end: datetime | None = None
    ) -> tuple[FoundEnvelope, ...]:
        """
        Return the user's envelopes of this status, sent between the two times.

        eSAW has no paging here: an answer above the bound is ``ResponseInvalid``, and the way out a shorter time. Raises
        ``ValueError`` for a time without a zone.
        """
        body = {"Status": str(status)}
        for name, moment in (("StartDate", start), ("EndDate", end)):
            if moment is not None:
                body[name] = rfc3339(moment)
        call = EsawCall("find", "POST", "envelope/find", body)
        answer = await self.transport.request(call, self.token, partial(decode, FindResponse, "find"))
        return answer.envelopes or ()

    def download(self, file_id: str) -> AbstractAsyncContextManager[FileDownload]:
        """
        Open a file. Leaving the context early ends the transfer.

        Raises ``ValueError`` for an id that none of ``FilesResponse.files()`` can have.
        """
        if not is_file_id(file_id):
            raise ValueError("this can't be the id of an eSAW file")
        call = EsawCall("download", "GET", f"file/{quote(file_id, safe='')}", accept="*/*")
        return self.transport.download(call, self.token)

    async def _get(self, operation: str, path: str, kind: type[A]) -> A:
        call = EsawCall(operation, "GET", path)
        return await self.transport.request(call, self.token, partial(decode, kind, operation))


def new_http_client(
    *, verify: ssl.SSLContext | bool = True, call_limits: CallLimits | None = None
) -> httpx.AsyncClient:
    """
    Make the HTTP client that all organizations of a process share. The caller closes it.

    ``HTTPS_PROXY``, ``NO_PROXY``, ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` of the environment are honoured; a ``.netrc`` is
    not. It keeps no cookies, since one user's session must not speak for another.
    """
    call_limits = call_limits or CallLimits()
    set_read_size(READ_BYTES)
    disable_sniffio_lookup()
    limits = httpx.Limits(
        max_connections=MAX_CONNECTIONS // CONNECTION_POOLS,
        max_keepalive_connections=MAX_IDLE_CONNECTIONS // CONNECTION_POOLS,
        keepalive_expiry=KEEPALIVE_EXPIRY,
    )
    return PooledClient(
        pools=CONNECTION_POOLS,
        # Made once for all pools: each copy of the authorities' certificates is a megabyte.
        verify=httpx.create_ssl_context() if verify is True else verify,
        limits=limits,
        timeout=httpx.Timeout(call_limits.silence, connect=call_limits.connect),
        headers={"User-Agent": "Counterfoil"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        http2=False,
    )


def rfc3339(moment: datetime) -> str:
    """Write a time as eSAW reads it. Raises ``ValueError`` for one without a zone."""
    if moment.tzinfo is None:
        raise ValueError("a time for eSAW needs a zone")
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _same_guid(answered: str, wanted: str) -> bool:
    try:
        return uuid.UUID(answered) == uuid.UUID(wanted)
    except ValueError:
        return False
