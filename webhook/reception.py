"""
The reception: decides what becomes of one callback, and answers.

A request goes from top to bottom: path, method, size, organization and token, rate, basic auth, body, query, and only
then the one write. Every answer has an empty body and tells as little as it can; the log line tells the operator the
rest, but no token. eSAW is never called from here.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import unquote

from aiohttp import web

from counterfoil import tracing
from counterfoil.callbackauth import BasicAuthVerifier
from counterfoil.cluster import Raw
from counterfoil.metrics import NO_ORGANIZATION, CallbackOutcome, Metrics
from counterfoil.resources.noting import note
from webhook.callback import Malformed, parse
from webhook.intake import Intake
from webhook.limits import Limits
from webhook.organizations import Directory, Listed

log = logging.getLogger(__name__)

METHODS = ("GET", "POST")

STATUS = {
    CallbackOutcome.NOTED: HTTPStatus.OK,
    CallbackOutcome.KNOWN: HTTPStatus.OK,
    CallbackOutcome.IGNORED: HTTPStatus.OK,
    CallbackOutcome.MALFORMED: HTTPStatus.BAD_REQUEST,
    CallbackOutcome.UNAUTHORIZED: HTTPStatus.UNAUTHORIZED,
    CallbackOutcome.UNKNOWN: HTTPStatus.NOT_FOUND,
    CallbackOutcome.WRONG_METHOD: HTTPStatus.METHOD_NOT_ALLOWED,
    CallbackOutcome.TOO_SLOW: HTTPStatus.REQUEST_TIMEOUT,
    CallbackOutcome.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    CallbackOutcome.LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    CallbackOutcome.NOT_READY: HTTPStatus.SERVICE_UNAVAILABLE,
    CallbackOutcome.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    CallbackOutcome.REFUSED: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The answer to eSAW for what became of a callback."""

_HEADERS = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": 'Basic realm="counterfoil"'},
    HTTPStatus.METHOD_NOT_ALLOWED: {"Allow": ", ".join(METHODS)},
}


class Verdict(NamedTuple):
    """What became of a callback, and what there is to tell about it."""

    outcome: CallbackOutcome
    organization: str = NO_ORGANIZATION
    event: str | None = None
    words: str | None = None
    retry_after: float | None = None
    envelope: str | None = None
    traceparent: str | None = None


class Reception:
    """Answers requests. ``monotonic`` is a clock in seconds that never goes back."""

    def __init__(
        self,
        directory: Directory,
        intake: Intake,
        metrics: Metrics,
        *,
        limits: Limits,
        monotonic: Callable[[], float],
    ) -> None:
        self._directory = directory
        self._intake = intake
        self._metrics = metrics
        self._limits = limits
        self._monotonic = monotonic
        self._basic_auth = BasicAuthVerifier()
        self._in_flight = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; whatever happens, it is counted, logged and has an answer."""
        started = self._monotonic()
        try:
            verdict = await self._judge(request)
        except Exception:
            log.exception("a callback could not be judged")
            verdict = Verdict(CallbackOutcome.UNAVAILABLE)
        response = _response(verdict, self._limits)
        if request.can_read_body:
            response.force_close()
        self._tell(verdict, response.status, self._monotonic() - started)
        return response

    def not_http(self) -> web.StreamResponse:
        """Answer what was no HTTP request, or one beyond the bounds of its line or headers."""
        verdict = Verdict(CallbackOutcome.MALFORMED, words="not HTTP, or longer than the limits allow")
        response = _response(verdict, self._limits)
        response.force_close()
        self._tell(verdict, response.status, 0.0)
        return response

    async def _judge(self, request: web.BaseRequest) -> Verdict:
        path, _, query = request.raw_path.partition("?")
        address = _address(path)
        if address is None:
            return Verdict(CallbackOutcome.UNKNOWN, words="not the path of a callback")
        if request.method not in METHODS:
            return Verdict(CallbackOutcome.WRONG_METHOD)
        if (request.content_length or 0) > self._limits.body:
            return Verdict(CallbackOutcome.TOO_LARGE)
        if not self._directory.is_complete:
            return Verdict(CallbackOutcome.NOT_READY, words="the organizations are not read yet")
        name, token = address
        organization = self._directory.find(name)
        if organization is None:
            return Verdict(CallbackOutcome.UNKNOWN, words="no such organization")
        if not organization.is_judgeable:
            words = "its status has no token hashes yet, or not the one for basic auth"
            return Verdict(CallbackOutcome.NOT_READY, name, words=words)
        if not organization.knows(token):
            return Verdict(CallbackOutcome.UNKNOWN, name, words="no token of this organization")
        return await self._judge_sender(request, organization, query)

    async def _judge_sender(self, request: web.BaseRequest, organization: Listed, query: str) -> Verdict:
        name = organization.name
        if wait := organization.bucket.take(self._monotonic()):
            return Verdict(CallbackOutcome.LIMITED, name, retry_after=wait)
        if organization.needs_basic_auth:
            header = request.headers.get("Authorization")
            if not await self._basic_auth.verify(header, organization.basic_auth_hash or ""):
                return Verdict(CallbackOutcome.UNAUTHORIZED, name)
        if request.can_read_body and (trouble := await self._read_away(request)) is not None:
            return Verdict(trouble, name)
        try:
            callback = parse(query, most_parameters=self._limits.parameters)
        except Malformed as malformed:
            return Verdict(CallbackOutcome.MALFORMED, name, words=str(malformed))
        action = organization.actions.get(callback.action.lower())
        if action is None:
            return Verdict(CallbackOutcome.IGNORED, name, words=f"{callback.action} is none of its actions")
        facts = {"organization": name, "envelope": callback.envelope_id, "action": action}
        # A proxy before us may have begun the trace; eSAW never does.
        with tracing.span("callback", traceparent=request.headers.get("traceparent"), **facts) as step:
            event = note(
                organization=name,
                envelope=callback.envelope_id,
                action=action,
                workstep=callback.workstep,
                sender=organization.sender,
                traceparent=step.traceparent,
            )
            verdict = await self._note_down(name, event)
            step.tell(outcome=verdict.outcome.value, event=event["metadata"]["name"])
        return verdict._replace(envelope=callback.envelope_id, traceparent=step.traceparent)

    async def _note_down(self, organization: str, event: Raw) -> Verdict:
        name = event["metadata"]["name"]
        if self._in_flight >= self._limits.in_flight:
            words = f"{self._in_flight} callbacks are under way already"
            return Verdict(CallbackOutcome.UNAVAILABLE, organization, name, words)
        self._in_flight += 1
        try:
            outcome = await self._intake.note_down(event)
        finally:
            self._in_flight -= 1
        return Verdict(outcome, organization, name)

    async def _read_away(self, request: web.BaseRequest) -> CallbackOutcome | None:
        """Read a body that nobody needs, so that the connection can be used again; say what is wrong with it."""
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                if request.headers.get("Expect", "").lower() == "100-continue":
                    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    request.writer.output_size = 0
                async for chunk in request.content.iter_any():
                    size += len(chunk)
                    if size > self._limits.body:
                        return CallbackOutcome.TOO_LARGE
        except TimeoutError:
            return CallbackOutcome.TOO_SLOW
        except web.RequestPayloadError:
            return CallbackOutcome.MALFORMED
        return None

    def _tell(self, verdict: Verdict, status: int, seconds: float) -> None:
        self._metrics.callbacks.labels(verdict.organization, verdict.outcome.value).inc()
        self._metrics.callback_seconds.observe(seconds)
        log.log(
            logging.WARNING if verdict.outcome is CallbackOutcome.MALFORMED else logging.INFO,
            "callback %s",
            verdict.outcome.value if verdict.words is None else f"{verdict.outcome.value}: {verdict.words}",
            extra={
                "organization": verdict.organization or None,
                "event": verdict.event,
                "envelope": verdict.envelope,
                "trace_id": verdict.traceparent.split("-")[1] if verdict.traceparent is not None else None,
                "outcome": verdict.outcome.value,
                "status": status,
                "seconds": round(seconds, 4),
            },
        )


def _address(path: str) -> tuple[str, str] | None:
    """Return organization and token of ``/callbacks/{organization}/{token}``, None for any other path."""
    match path.split("/"):
        case ["", "callbacks", organization, token] if organization and token:
            return organization, unquote(token) if "%" in token else token
    return None


def _response(verdict: Verdict, limits: Limits) -> web.Response:
    status = STATUS[verdict.outcome]
    headers = {"Server": "counterfoil", **_HEADERS.get(status, {})}
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(limits.retry_after)
    elif verdict.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(verdict.retry_after)))
    return web.Response(status=status, headers=headers)
