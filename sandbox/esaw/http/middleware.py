"""
The request pipeline: every request to eSAW passes it, on all routes.

In this order: record it, apply its fault, find its user, call the route, corrupt the response if ordered,
send it, record the result. A route only turns a `RoutedCall` into an `RouteResponse`; those of OAuth and of
the web pages do as those of REST.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
from aiohttp import web

from sandbox.esaw.core.behaviour import Behaviour, TokenHeader
from sandbox.esaw.core.errors import (
    ErrorCode,
    RequestRefused,
    Unauthorized,
    UnknownPath,
    UnsupportedMediaType,
)
from sandbox.esaw.core.faults import NO_FAULT, FaultInjector, InjectedFault
from sandbox.esaw.core.model import StoredEnvelope, User
from sandbox.esaw.core.recorder import RecordedRequest, Recorder
from sandbox.esaw.core.store import EsawStore
from sandbox.esaw.http.response_writer import drop_connection, write_response
from sandbox.esaw.http.responses import (
    RouteResponse,
    error_response,
    fault_response,
    refused_response,
    with_body_fault,
)

_SECRET_NAMES: Final = frozenset(
    {
        "apitoken",
        "token",
        "access_token",
        "authorization",
        "client_secret",
        "code",
        "code_verifier",
        "password",
    }
)
"""Parameters that the query of a request to eSAW must not have, lower case."""


@dataclass(slots=True)
class RoutedCall:
    """One request as a route sees it."""

    request: web.Request
    id: str
    """The envelope, draft, file or OAuth application that it is about; empty for none."""
    body: bytes
    user: User | None = None
    """The user of its token, if that is valid when the route begins."""
    fault: InjectedFault = NO_FAULT
    """Its ordered fault; the pipeline applies all faults except those that only the route can apply."""

    @property
    def authenticated_user(self) -> User:
        """The user of its token. Raises Unauthorized."""
        if self.user is None:
            raise Unauthorized
        return self.user


Handler = Callable[[RoutedCall], Awaitable[RouteResponse]]


@dataclass(frozen=True, slots=True)
class ResolvedRoute:
    """The route of a request."""

    operation: str
    id: str
    handler: Handler
    session_user: User | None = None
    """The signed-in user, for the routes that use a session."""


class RequestPipeline:
    """Records, disturbs and delivers what the routes do."""

    def __init__(
        self,
        store: EsawStore,
        faults: FaultInjector,
        recorder: Recorder,
        behaviour: Callable[[], Behaviour],
    ) -> None:
        self._store = store
        self._faults = faults
        self._recorder = recorder
        self._behaviour = behaviour

    async def handle(self, request: web.Request, route: ResolvedRoute) -> web.StreamResponse:
        """Respond to one request for this route resolver."""
        body = b"" if request.content_type.startswith("multipart/") else await request.read()
        resource_id = (route.id or _id_in(body)).lower()
        token = token_of(request, self._token_headers(request))
        user = self._store.owner_of(token) if token else route.session_user
        entry = self._recorder.open(
            time=self._store.now(),
            method=request.method,
            path=request.rel_url.raw_path,
            operation=route.operation,
            resource_id=resource_id or None,
            user_id=user.user_id if user else None,
            token=token,
            token_in_url=any(name.lower() in _SECRET_NAMES for name in request.query),
        )
        try:
            return await self._answer(RoutedCall(request, resource_id, body), route, entry)
        finally:
            self._recorder.close(entry)

    async def _answer(
        self, call: RoutedCall, route: ResolvedRoute, entry: RecordedRequest
    ) -> web.StreamResponse:
        envelope = self._envelope_of(call.id)
        fault = self._faults.take(route.operation, {call.id, envelope.id} if envelope else {call.id})
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.drop:
            return drop_connection(call.request, entry)

        ordered = fault_response(fault)
        if ordered is not None and not fault.lose_answer:
            return await write_response(call.request, ordered, fault, entry)
        self._apply_fault_to_store(fault, call, envelope)
        call.fault = fault
        route_response = await _call_handler(route, call)
        entry.outcome = route_response.status
        if fault.lose_answer and ordered is None:
            return drop_connection(call.request, entry)
        return await write_response(
            call.request, ordered or with_body_fault(route_response, fault), fault, entry
        )

    def _apply_fault_to_store(
        self, fault: InjectedFault, call: RoutedCall, envelope: StoredEnvelope | None
    ) -> None:
        """Apply the fault to the store, just before the route reads it."""
        if fault.deletes_envelope and envelope and not envelope.deleted_at:
            self._store.delete(envelope)
        token = token_of(call.request, self._token_headers(call.request))
        user = self._store.owner_of(token) if token else None
        if fault.revokes_token and user:
            self._store.revoke(user.user_id, token)
            user = None
        call.user = user

    def _token_headers(self, request: web.Request) -> Iterable[TokenHeader]:
        is_v5 = request.path.lower().startswith("/api/v5/")
        return self._behaviour().v5_token_headers if is_v5 else self._behaviour().token_headers

    def _envelope_of(self, resource_id: str) -> StoredEnvelope | None:
        file = self._store.files.get(resource_id)
        return self._store.envelopes.get(file.envelope_id if file else resource_id)


def token_of(request: web.Request, accepted: Iterable[TokenHeader]) -> str | None:
    """The token in the first accepted header that there is, as `Bearer` in `Authorization`; one in the URL
    does not count."""
    for header in accepted:
        if header not in request.headers:
            continue
        if header == "ApiToken":
            return request.headers[header]
        scheme, _, token = request.headers[header].partition(" ")
        return token.strip() if scheme.lower() == "bearer" and token.strip() else None
    return None


async def _call_handler(route: ResolvedRoute, call: RoutedCall) -> RouteResponse:
    try:
        return await route.handler(call)
    except RequestRefused as exc:
        return refused_response(exc)
    except Unauthorized:
        return RouteResponse(status=401)
    except UnknownPath:
        return RouteResponse(status=404)
    except UnsupportedMediaType:
        return error_response(415, ErrorCode.INVALID_FORMAT.error_id, "The body must be application/json.")


class _Ids(msgspec.Struct):
    EnvelopeId: str = ""
    DraftId: str = ""


_IDS = msgspec.json.Decoder(_Ids)


def _id_in(body: bytes) -> str:
    """The id that the body of a POST is about; empty if there is none (what is wrong with the body, the route
    says)."""
    if not body:
        return ""
    try:
        ids = _IDS.decode(body)
    except msgspec.DecodeError:
        return ""
    return ids.EnvelopeId or ids.DraftId
