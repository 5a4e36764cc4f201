"""
Check one callback, create its event, and answer: 200, 503 or another status.

Each request passes: path, method, size, namespace, organization and token, basic auth, rate, body, query, and
then the one write. ``event_writer`` decides what the API server's answer to the write means.

``status_codes`` has the answer to each outcome. The log line has the details, but no token. This module never
calls eSAW.
"""

import asyncio
import logging
from typing import NamedTuple
from urllib.parse import unquote

from aiohttp import web

from counterfoil import tracing
from counterfoil.clock import Clock
from counterfoil.metrics import NO_ORGANIZATION, CallbackOutcome, Metrics
from counterfoil.resources.event_factory import new_event
from webhook.receiver.callback import CallbackParameters, MalformedCallback, parse_callback
from webhook.receiver.limits import ReceiverLimits
from webhook.receiver.namespaces import ReceiverNamespace, ReceiverNamespaces
from webhook.receiver.organizations import OrganizationView
from webhook.receiver.status_codes import METHODS, CallbackResult, callback_response

_log = logging.getLogger(__name__)

CallbackAddress = tuple[str, str, str]
"""The names in the path of a callback: namespace (empty: the release's own), organization and token."""


class _Accepted(NamedTuple):
    """A callback that becomes an event with this action."""

    organization: OrganizationView
    callback: CallbackParameters
    action: str


class CallbackHandler:
    """Answers requests."""

    def __init__(
        self, namespaces: ReceiverNamespaces, metrics: Metrics, *, limits: ReceiverLimits, clock: Clock
    ) -> None:
        """``metrics`` are those of the process."""
        self._namespaces = namespaces
        self._metrics = metrics
        self._limits = limits
        self._monotonic = clock.monotonic
        self._share = max(1, limits.in_flight - limits.in_flight // 4)
        self._in_flight = 0
        self._in_flight_of: dict[tuple[str, str], int] = {}
        """Callbacks in progress by namespace and organization; with an empty organization of all of the
        namespace."""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Every request is counted and logged, and has an answer also after an unexpected
        error."""
        started = self._monotonic()
        try:
            result = await self._process(request)
        except Exception:
            _log.exception("a callback could not be handled")
            result = CallbackResult(CallbackOutcome.UNAVAILABLE)
        response = callback_response(result, self._limits)
        if request.can_read_body:
            response.force_close()
        self._log_result(result, response.status, self._monotonic() - started)
        return response

    def answer_unreadable(self) -> web.StreamResponse:
        """Answer a request that is not HTTP, or whose line or headers exceed the limits."""
        result = CallbackResult(CallbackOutcome.MALFORMED, detail="not HTTP, or longer than the limits allow")
        response = callback_response(result, self._limits)
        response.force_close()
        self._log_result(result, response.status, 0.0)
        return response

    async def _process(self, request: web.BaseRequest) -> CallbackResult:
        target = self._target(request)
        if isinstance(target, CallbackResult):
            return target
        namespace, address = target
        organization = self._authorize(namespace, address, request)
        if isinstance(organization, CallbackResult):
            return organization._replace(namespace=namespace)
        name, where = organization.name, namespace.name
        # After token and password: a client without them takes nothing of the organization's rate.
        if wait := organization.bucket.take(self._monotonic()):
            return CallbackResult(CallbackOutcome.LIMITED, name, retry_after=wait, namespace=namespace)
        # Before anything is read or built: under overload, refusals take time from the callbacks that fit.
        if self._is_full_for(namespace, name):
            detail = f"{self._in_flight} callbacks are in progress"
            return CallbackResult(CallbackOutcome.UNAVAILABLE, name, detail=detail, namespace=namespace)
        places = (where, ""), (where, name)
        self._in_flight += 1
        for place in places:
            self._in_flight_of[place] = self._in_flight_of.get(place, 0) + 1
        try:
            if request.can_read_body and (failure := await self._discard_body(request)) is not None:
                return CallbackResult(failure, name, namespace=namespace)
            callback = self._parse(namespace, request, organization)
            if isinstance(callback, CallbackResult):
                return callback._replace(namespace=namespace)
            return await self._store(namespace, request, callback)
        finally:
            self._in_flight -= 1
            for place in places:
                self._in_flight_of[place] -= 1
                if not self._in_flight_of[place]:
                    del self._in_flight_of[place]

    def _target(self, request: web.BaseRequest) -> tuple[ReceiverNamespace, CallbackAddress] | CallbackResult:
        """Return the namespace that the request is for, and what else its path names, else the result."""
        address = callback_address(request.raw_path.partition("?")[0])
        if address is None:
            return CallbackResult(CallbackOutcome.UNKNOWN, detail="not the path of a callback")
        if request.method not in METHODS:
            return CallbackResult(CallbackOutcome.WRONG_METHOD)
        if (request.content_length or 0) > self._limits.body:
            return CallbackResult(CallbackOutcome.TOO_LARGE)
        namespace = self._namespaces.find(address[0])
        return self._not_served() if namespace is None else (namespace, address)

    def _not_served(self) -> CallbackResult:
        """Return the result for a namespace that is not served: that of an unknown organization, also while
        no namespace is read or all are old. So an answer does not show which namespaces are served, unless
        one of them cannot be read while others can."""
        caches = [each.organization_cache for each in self._namespaces]
        if caches and not any(each.is_synced for each in caches):
            return CallbackResult(CallbackOutcome.NOT_READY, detail="the organizations are not read yet")
        if caches and all(each.is_old or not each.is_synced for each in caches):
            return CallbackResult(CallbackOutcome.NOT_READY, detail="the organizations are old")
        return CallbackResult(CallbackOutcome.UNKNOWN, detail="no such namespace is served")

    def _authorize(
        self, namespace: ReceiverNamespace, address: CallbackAddress, request: web.BaseRequest
    ) -> OrganizationView | CallbackResult:
        """Return the organization whose token and password the request has, else the result."""
        if not namespace.organization_cache.is_synced:
            return CallbackResult(CallbackOutcome.NOT_READY, detail="the organizations are not read yet")
        _, name, token = address
        organization = namespace.organization_cache.find(name)
        if organization is None:
            detail = "no such organization"
            return self._refused(namespace, CallbackOutcome.UNKNOWN, NO_ORGANIZATION, detail)
        if not organization.is_ready:
            detail = "its status has no token hashes yet, or none for basic auth"
            return CallbackResult(CallbackOutcome.NOT_READY, name, detail=detail)
        if not organization.has_token(token):
            return self._refused(namespace, CallbackOutcome.UNKNOWN, name, "no token of this organization")
        if not organization.allows(token, request.headers.get("Authorization")):
            if not organization.is_complete:
                detail = "its status has fewer hashes for basic auth than tokens"
                return CallbackResult(CallbackOutcome.NOT_READY, name, detail=detail)
            return self._refused(namespace, CallbackOutcome.UNAUTHORIZED, name, None)
        return organization

    def _refused(
        self, namespace: ReceiverNamespace, outcome: CallbackOutcome, name: str, detail: str | None
    ) -> CallbackResult:
        """Return the result of a callback that the Organizations do not allow, as far as they are known."""
        if namespace.organization_cache.is_old:
            # Of no organization: a request without a valid token is none of its callbacks.
            detail = f"the organizations are old, or {detail or outcome}"
            return CallbackResult(CallbackOutcome.NOT_READY, detail=detail)
        return CallbackResult(outcome, name, detail=detail)

    def _is_full_for(self, namespace: ReceiverNamespace, name: str) -> bool:
        """Whether as many callbacks are in progress as the limit allows. One namespace of several leaves a
        quarter to the others, and so does one organization of several."""
        if self._in_flight >= self._limits.in_flight:
            return True
        if self._in_flight_of.get((namespace.name, ""), 0) < self._share:
            return False
        if len(self._namespaces) > 1:
            return True
        of_this = self._in_flight_of.get((namespace.name, name), 0)
        return of_this >= self._share and len(namespace.organization_cache) > 1

    def _parse(
        self, namespace: ReceiverNamespace, request: web.BaseRequest, organization: OrganizationView
    ) -> _Accepted | CallbackResult:
        """Return the callback and the action of its event, else the result."""
        name, query = organization.name, request.raw_path.partition("?")[2]
        try:
            callback = parse_callback(
                query, max_parameters=self._limits.parameters, own_names=organization.own_parameters
            )
        except MalformedCallback as malformed:
            return CallbackResult(CallbackOutcome.MALFORMED, name, detail=str(malformed))
        action = organization.event_action(callback.action)
        if action is None:
            namespace.unlisted_actions.count(name, callback.action)
            detail = f"{callback.action or 'a callback without an action'} is none of its actions"
            return self._refused(namespace, CallbackOutcome.IGNORED, name, detail)
        return _Accepted(organization, callback, action)

    async def _store(
        self, namespace: ReceiverNamespace, request: web.BaseRequest, accepted: _Accepted
    ) -> CallbackResult:
        """Create the event of a callback, or count the callback, within a span."""
        organization, callback, action = accepted
        name, ceiling = organization.name, organization.ceiling
        is_listed = callback.action is not None and callback.action.lower() == action.lower()
        facts = {
            "namespace": namespace.name,
            "organization": name,
            "envelope": callback.envelope_id,
            "action": action,
        }
        # A proxy in front can have a trace; so can anybody who knows the URL.
        with tracing.root_span("callback", linked=request.headers.get("traceparent"), **facts) as step:
            event = new_event(
                organization=name,
                envelope=callback.envelope_id,
                action=action,
                # An action that is put in the place of another is the whole envelope's, not one workstep's.
                workstep=callback.workstep if is_listed else None,
                parameters=callback.own,
                sender=organization.sender,
                traceparent=step.traceparent,
            )
            outcome, reserved = None, ceiling.reserve()
            writer = namespace.event_writer
            write = writer.count_existing if reserved is None else writer.create
            try:
                outcome = await write(event)
            finally:
                # An event whose creation was not confirmed may exist; the controller's next count has it.
                # Room that no event uses would stay reserved as long as no event changes.
                if reserved is not None and outcome is not CallbackOutcome.NOTED:
                    ceiling.release(reserved)
            step.set_attributes(outcome=str(outcome), event=event["metadata"]["name"])
        has_details = callback.left_out or outcome is CallbackOutcome.MISMATCH
        return CallbackResult(
            outcome,
            name,
            event["metadata"]["name"],
            _count_details(namespace.metrics, name, outcome, callback.left_out) if has_details else None,
            self._limits.full_retry_after if outcome is CallbackOutcome.ORGANIZATION_FULL else None,
            callback.envelope_id,
            step.traceparent,
            namespace,
        )

    async def _discard_body(self, request: web.BaseRequest) -> CallbackOutcome | None:
        """Read and discard a body, so that the connection can be reused; return the error, if any."""
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
        except (web.RequestPayloadError, ConnectionError):
            return CallbackOutcome.MALFORMED
        return None

    def _log_result(self, result: CallbackResult, status: int, seconds: float) -> None:
        # str, not .value: an enum's property costs three calls.
        outcome = str(result.outcome)
        namespace = result.namespace
        # A request for no served namespace counts in the release's own one.
        metrics = self._metrics.in_namespace(self._namespaces.own) if namespace is None else namespace.metrics
        metrics.callback(result.organization, outcome)
        self._metrics.callback_seconds.observe(seconds, tracing.exemplar(result.traceparent))
        _log.log(
            logging.WARNING if result.outcome is CallbackOutcome.MALFORMED else logging.INFO,
            "callback %s",
            outcome if result.detail is None else f"{outcome}: {result.detail}",
            extra={
                "namespace": None if namespace is None else namespace.name,
                "organization": result.organization or None,
                "event": result.event,
                "envelope": result.envelope,
                "trace_id": result.traceparent.split("-")[1] if result.traceparent is not None else None,
                "outcome": outcome,
                "status": status,
                "seconds": round(seconds, 4),
            },
        )


def _count_details(metrics: Metrics, name: str, outcome: CallbackOutcome, left_out: int) -> str | None:
    """Count what is wrong about a stored callback; return the detail for the log."""
    if outcome is CallbackOutcome.MISMATCH:
        metrics.event_mismatches.labels(name).inc()
    if not left_out:
        return None
    metrics.callback_parameters_left_out.labels(name).inc(left_out)
    return f"{left_out} parameters of the organization are unusable and were left out"


def callback_address(path: str) -> CallbackAddress | None:
    """Return what ``/callbacks/[{namespace}/]{organization}/{token}`` names, None for any other path."""
    match path.split("/"):
        case ["", "callbacks", organization, token] if organization and token:
            namespace = ""
        case ["", "callbacks", namespace, organization, token] if namespace and organization and token:
            pass
        case _:
            return None
    return namespace, organization, unquote(token) if "%" in token else token
