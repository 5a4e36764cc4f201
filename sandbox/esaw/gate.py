"""
The gate: every request of eSAW's own passes here, whatever route it takes.

In this order: note it down, meet its fault, ask who it is, let the route act, spoil the answer if ordered, send it, note
down what came of it. A route only turns a `Call` into an `Answer`; those of OAuth and of the web pages do as those of REST.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import msgspec
from aiohttp import web

from sandbox.esaw.answer import Answer, error_answer, ordered_answer, refusal_answer, spoiled
from sandbox.esaw.delivery import cut, deliver
from sandbox.esaw.errors import EsawError, Refusal, Unauthorized, UnknownPath, UnsupportedMediaType
from sandbox.esaw.estate import Estate
from sandbox.esaw.faults import NO_FAULT, Fault, Faults
from sandbox.esaw.model import Envelope, User
from sandbox.esaw.recorder import RecordedRequest, Recorder

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
"""What must not stand in the query of a request to eSAW, lower case."""


@dataclass(slots=True)
class Call:
    """One request as a route sees it."""

    request: web.Request
    id: str
    """The envelope, draft, file or OAuth application that it is about; empty for none."""
    body: bytes
    user: User | None = None
    """Whose token it carries, if that is worth anything as the route begins."""
    fault: Fault = NO_FAULT
    """What is to go wrong with it; the gate sees to all but what only the route can do."""

    @property
    def caller(self) -> User:
        """Whose token it carries. Raises Unauthorized."""
        if self.user is None:
            raise Unauthorized
        return self.user


Handler = Callable[[Call], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Door:
    """Where a request wants to go."""

    operation: str
    id: str
    handler: Handler
    visitor: User | None = None
    """Who is signed in, for the doors that know a person by their session."""


class Gate:
    """Records, disturbs and delivers what the routes do."""

    def __init__(self, estate: Estate, faults: Faults, recorder: Recorder) -> None:
        self._estate = estate
        self._faults = faults
        self._recorder = recorder

    async def pass_through(self, request: web.Request, door: Door) -> web.StreamResponse:
        """Answer one request that goes to this door."""
        body = b"" if request.content_type.startswith("multipart/") else await request.read()
        about = (door.id or _id_in(body)).lower()
        token = token_of(request)
        user = self._estate.owner_of(token) if token else door.visitor
        entry = self._recorder.open(
            time=self._estate.now(),
            method=request.method,
            path=request.rel_url.raw_path,
            operation=door.operation,
            about=about or None,
            user_id=user.user_id if user else None,
            token=token,
            token_in_url=any(name.lower() in _SECRET_NAMES for name in request.query),
        )
        try:
            return await self._answer(Call(request, about, body), door, entry)
        finally:
            self._recorder.close(entry)

    async def _answer(self, call: Call, door: Door, entry: RecordedRequest) -> web.StreamResponse:
        envelope = self._envelope_of(call.id)
        fault = self._faults.take(door.operation, {call.id, envelope.id} if envelope else {call.id})
        if fault.delay:
            await asyncio.sleep(fault.delay)
        if fault.drop:
            return cut(call.request, entry)

        ordered = ordered_answer(fault)
        if ordered is not None and not fault.lose_answer:
            return await deliver(call.request, ordered, fault, entry)
        self._strike(fault, call, envelope)
        call.fault = fault
        answer = await _outcome(door, call)
        entry.outcome = answer.status
        if fault.lose_answer and ordered is None:
            return cut(call.request, entry)
        return await deliver(call.request, ordered or spoiled(answer, fault), fault, entry)

    def _strike(self, fault: Fault, call: Call, envelope: Envelope | None) -> None:
        """What the fault does to the estate, just before the route looks at it."""
        if fault.deletes_envelope and envelope and not envelope.deleted_at:
            self._estate.delete(envelope)
        token = token_of(call.request)
        user = self._estate.owner_of(token) if token else None
        if fault.revokes_token and user:
            self._estate.revoke(user.user_id, token)
            user = None
        call.user = user

    def _envelope_of(self, about: str) -> Envelope | None:
        file = self._estate.files.get(about)
        return self._estate.envelopes.get(file.envelope_id if file else about)


def token_of(request: web.Request) -> str | None:
    """The token in `ApiToken`, else the one in `Authorization: Bearer`; one in the URL does not count."""
    if "ApiToken" in request.headers:
        return request.headers["ApiToken"]
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


async def _outcome(door: Door, call: Call) -> Answer:
    try:
        return await door.handler(call)
    except EsawError as exc:
        return refusal_answer(exc)
    except Unauthorized:
        return Answer(status=401)
    except UnknownPath:
        return Answer(status=404)
    except UnsupportedMediaType:
        return error_answer(415, Refusal.INVALID_FORMAT.error_id, "The body must be application/json.")


class _Ids(msgspec.Struct):
    EnvelopeId: str = ""
    DraftId: str = ""


_IDS = msgspec.json.Decoder(_Ids)


def _id_in(body: bytes) -> str:
    """The id that the body of a POST is about; empty if there is none (what is wrong with the body, the route says)."""
    if not body:
        return ""
    try:
        ids = _IDS.decode(body)
    except msgspec.DecodeError:
        return ""
    return ids.EnvelopeId or ids.DraftId
