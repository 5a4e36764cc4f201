"""
The client of eSAW: one ``EsawClient`` per organization, with its own rate limit and pauses, over one shared
HTTP client. One ``EsawUserClient`` per token, typed responses.

Each method is one call of the REST API v6 and raises an ``EsawError`` when the call fails. If v6 can't
read an envelope, since the API v5 made it, another call reads it through v5. Ids are checked
before they become part of a URL. This module only reads: ``delete_with_proof`` deletes, ``drafts`` sends, and
``oauth`` obtains keys.
"""

import ssl
import uuid
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from functools import partial
from typing import Final, TypeVar
from urllib.parse import quote

import httpx

from counterfoil.clock import Clock
from counterfoil.esaw import limits, models
from counterfoil.esaw.errors import (
    HttpStatusError,
    OriginMismatch,
    ResponseInvalid,
    V5ResponseInvalid,
    V5Unavailable,
)
from counterfoil.esaw.limits import CallLimits
from counterfoil.esaw.models_v5 import V5EnvelopeResponse, decode_v5, v5_document_id
from counterfoil.esaw.token import ApiToken
from counterfoil.esaw.transport import EsawCall, EsawTransport, FileDownload
from counterfoil.resources import EnvelopeStatus, Organization, envelope_id
from counterfoil.untrusted.http_transport import new_client

A = TypeVar("A", bound=models.EsawModel)
E = TypeVar("E", bound=models.EnvelopeResponse)
T = TypeVar("T")

_NO_SUCH_CALL: Final = frozenset({httpx.codes.NOT_FOUND, httpx.codes.METHOD_NOT_ALLOWED, httpx.codes.GONE})
"""Answers of an eSAW that has no API v5 any more."""
_OTHER_ENVELOPE: Final = "it is about another envelope"


class EsawClient(EsawTransport):
    """Client for one organization. Its users share the host, the rate limit and the pauses."""

    async def version(self, token: ApiToken | None = None) -> str:
        """Return eSAW's version. By its documentation, v6 requires a token for this too (``HttpStatusError``
        401)."""
        return await self.request(
            EsawCall("version", "GET", "system/version", is_public=True, max_bytes=limits.MAX_VERSION_BYTES),
            token,
            models.parse_version,
        )

    def as_user(self, token: ApiToken) -> "EsawUserClient":
        """Return a client with the permissions of this token's owner. Raises ``OriginMismatch`` for a token
        of another origin."""
        if token.origin != self.origin:
            raise OriginMismatch(token.origin, self.origin)
        return EsawUserClient(self, token)


class EsawUserClient:
    """
    Client with one user's permissions.

    Each method raises an ``EsawError`` when the call fails, and ``ValueError`` for an envelope id that is not
    a GUID.
    """

    def __init__(self, transport: EsawTransport, token: ApiToken) -> None:
        self.transport = transport
        self.token = token

    async def whoami(self) -> models.WhoAmI:
        """Return the owner of the token. Raises ``HttpStatusError`` 401 for an invalid token."""
        return await self._get("whoami", "authorization/whoami", models.WhoAmI)

    async def envelope(self, envelope: str) -> models.EnvelopeResponse:
        """Return the envelope's status, name and workflow; a ``V5EnvelopeResponse`` if v6 can't read it."""
        wanted = envelope_id(envelope)
        call = EsawCall("envelope", "GET", f"envelope/{wanted}", max_containers=limits.MAX_STEP_CONTAINERS)
        answer = await self._read_or_none(call, models.decode_envelope)
        if answer is None:
            return await self._v5_envelope(wanted)
        return _about(wanted, answer, ResponseInvalid(call.operation, _OTHER_ENVELOPE))

    async def files(self, envelope: str) -> models.FilesResponse:
        """Return the list of the envelope's files."""
        wanted = envelope_id(envelope)
        path, most = f"envelope/{wanted}/files", limits.MAX_FILE_CONTAINERS
        call = EsawCall("files", "GET", path, max_containers=most)
        answer = await self._read_or_none(call, models.decode_files)
        return answer if answer is not None else (await self._v5_envelope(wanted)).listed()

    async def configuration(self, envelope: str) -> models.ConfigurationResponse:
        """Return the envelope's configuration with its metadata."""
        wanted = envelope_id(envelope)
        call = EsawCall("configuration", "GET", f"envelope/{wanted}/configuration")
        answer = await self._read_or_none(call, models.decode_configuration)
        if answer is None:
            return models.ConfigurationResponse(metadata=(await self._v5_envelope(wanted)).metadata)
        return answer

    async def history(self, envelope: str) -> models.HistoryResponse:
        """Return the envelope's history, also after its deletion. Raises ``HttpStatusError`` 403 without
        permission."""
        return await self._get("history", f"envelope/{envelope_id(envelope)}/history", models.HistoryResponse)

    async def failed_step(self, envelope: str) -> models.HistoryEvent | None:
        """Return the step of the envelope's history that is in an error state; None: none is. Raises
        ``HttpStatusError`` 403 without permission."""
        path = f"envelope/{envelope_id(envelope)}/history"
        return (await self._get("history", path, models.HistoryEventsResponse)).failed_step

    async def find(
        self, *, status: EnvelopeStatus, start: datetime | None = None, end: datetime | None = None
    ) -> tuple[models.FoundEnvelope, ...]:
        """
        Return the user's envelopes of this status, sent between the two times.

        eSAW has no paging for this call. Raises ``ResponseInvalid`` for a response above the limit; the
        caller then asks for a shorter time. Raises ``ValueError`` for a time without a zone.
        """
        body = {"Status": str(status)}
        for name, moment in (("StartDate", start), ("EndDate", end)):
            if moment is not None:
                body[name] = rfc3339(moment)
        return (
            await self.call(EsawCall("find", "POST", "envelope/find", body), models.FindResponse)
        ).envelopes or ()

    def download(self, file_id: str) -> AbstractAsyncContextManager[FileDownload]:
        """
        Open a file. Leaving the context early ends the transfer.

        Raises ``ValueError`` for an id that ``FilesResponse.files()`` cannot contain.
        """
        if not models.is_file_id(file_id):
            raise ValueError("this can't be the id of an eSAW file")
        v5_id = v5_document_id(file_id)
        if v5_id is None:
            call = EsawCall("download", "GET", f"file/{quote(file_id, safe='')}", accept="*/*")
        else:
            path = f"envelope/downloadCompletedDocument/{quote(v5_id, safe='')}"
            call = EsawCall("download_v5", "GET", path, accept="*/*", api="v5")
        return self.transport.download(call, self.token)

    async def call(self, call: EsawCall, kind: type[A]) -> A:
        """Make a call of another module of this package; return its typed response."""
        return await self.read(call, partial(models.decode, kind))

    async def read(self, call: EsawCall, decoder: Callable[[str, bytes], T]) -> T:
        """Make a call; return what the decoder reads from its operation and the body of its response."""
        return await self.transport.request(call, self.token, partial(decoder, call.operation))

    async def _read_or_none(self, call: EsawCall, decoder: Callable[[str, bytes], T]) -> T | None:
        """Make a call about an envelope; None if v6 can't read the envelope, since v5 made it."""
        try:
            return await self.read(call, decoder)
        except HttpStatusError as answer:
            if answer.is_of_v5:
                return None
            raise

    async def _v5_envelope(self, wanted: str) -> V5EnvelopeResponse:
        most = limits.MAX_FILE_CONTAINERS
        call = EsawCall("envelope_v5", "GET", f"envelope/{wanted}", api="v5", max_containers=most)
        try:
            answer = await self.read(call, decode_v5)
        except HttpStatusError as refusal:
            if refusal.status in _NO_SUCH_CALL:
                raise V5Unavailable(refusal) from None
            raise
        except ResponseInvalid as problem:
            raise V5ResponseInvalid(call.operation, problem.what) from None
        return _about(wanted, answer, V5ResponseInvalid(call.operation, _OTHER_ENVELOPE))

    async def _get(self, operation: str, path: str, kind: type[A]) -> A:
        return await self.call(EsawCall(operation, "GET", path), kind)


class EsawClients:
    """Keeps the client of each Organization; a new ``baseURL`` or rate limit makes a new one."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        clock: Clock,
        observe: Callable[[str, str, str, float], None],
        call_limits: CallLimits | None = None,
        namespace: str = "",
    ) -> None:
        """
        ``observe``: gets organization, operation, code and seconds of each request.
        ``call_limits``: how long is waited for an answer; the client's own if there are none.
        ``namespace``: that of the Organizations, whose share of the connections their calls use.
        """
        self._observe = observe
        self._new_client = partial(
            EsawClient, http=http, clock=clock, call_limits=call_limits, namespace=namespace
        )
        self._clients: dict[str, tuple[tuple[str, int | None], EsawClient]] = {}

    def for_organization(self, organization: Organization) -> EsawClient:
        """Return the client of an organization. Raises ``ValueError`` for a base URL that can't be."""
        wanted = (organization.spec.base_url, organization.spec.limits.requests_per_minute)
        known = self._clients.get(organization.name)
        if known is not None and known[0] == wanted:
            return known[1]
        per_second = None if wanted[1] is None else wanted[1] / 60
        observe = partial(self._observe, organization.name)
        client = self._new_client(wanted[0], requests_per_second=per_second, observe=observe)
        self._clients[organization.name] = (wanted, client)
        return client

    def forget(self, name: str) -> None:
        """Drop the client of a deleted organization."""
        self._clients.pop(name, None)


def new_http_client(
    *,
    verify: ssl.SSLContext | None = None,
    call_limits: CallLimits | None = None,
    connections: int = limits.MAX_CONNECTIONS,
    share: Callable[[int], int] | None = None,
) -> httpx.AsyncClient:
    """
    Return the HTTP client that all organizations of a process share, with a maximum number of connections.

    ``share`` returns how many of them one namespace may have at present; by default all. The caller closes
    the client.
    """
    call_limits = call_limits or CallLimits()
    return new_client(
        timeout=httpx.Timeout(call_limits.silence, connect=call_limits.connect),
        connections=connections,
        share=share,
        idle=limits.MAX_IDLE_CONNECTIONS,
        keepalive=limits.KEEPALIVE_EXPIRY,
        headers={"User-Agent": "Counterfoil"},
        verify=verify,
    )


def rfc3339(moment: datetime) -> str:
    """Return the time in eSAW's format. Raises ``ValueError`` for a time without a zone."""
    if moment.tzinfo is None:
        raise ValueError("a time for eSAW needs a zone")
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _about(wanted: str, answer: E, problem: ResponseInvalid) -> E:
    """Return the answer. Raises the problem for one about another envelope, as a cache or proxy may give it:
    that one must not be archived or deleted."""
    if not _same_guid(answer.id, wanted):
        raise problem
    return answer


def _same_guid(answered: str, wanted: str) -> bool:
    try:
        return uuid.UUID(answered) == uuid.UUID(wanted)
    except ValueError:
        return False
