"""
The HTTP answer of the receiver to each outcome of a callback: 200, 503 or another status.

200 says that the event is stored (rule 1), or that the callback makes none. After each other status eSAW
sends the callback again. Every answer has an empty body and discloses as little as possible.

This module does not decide the outcome: ``callback_to_event`` and ``event_writer`` do.
"""

import math
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import web

from counterfoil.metrics import NO_ORGANIZATION, CallbackOutcome
from webhook.receiver.limits import ReceiverLimits
from webhook.receiver.namespaces import ReceiverNamespace

METHODS = ("GET", "POST")

HTTP_STATUS = {
    CallbackOutcome.NOTED: HTTPStatus.OK,
    CallbackOutcome.KNOWN: HTTPStatus.OK,
    CallbackOutcome.IGNORED: HTTPStatus.OK,
    CallbackOutcome.MALFORMED: HTTPStatus.BAD_REQUEST,
    CallbackOutcome.UNAUTHORIZED: HTTPStatus.UNAUTHORIZED,
    CallbackOutcome.UNKNOWN: HTTPStatus.NOT_FOUND,
    CallbackOutcome.WRONG_METHOD: HTTPStatus.METHOD_NOT_ALLOWED,
    CallbackOutcome.TOO_SLOW: HTTPStatus.SERVICE_UNAVAILABLE,
    CallbackOutcome.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    CallbackOutcome.LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    CallbackOutcome.NOT_READY: HTTPStatus.SERVICE_UNAVAILABLE,
    CallbackOutcome.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    CallbackOutcome.ORGANIZATION_FULL: HTTPStatus.SERVICE_UNAVAILABLE,
    CallbackOutcome.MISMATCH: HTTPStatus.SERVICE_UNAVAILABLE,
    CallbackOutcome.REFUSED: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""HTTP status of the answer to eSAW for each outcome of a callback."""

_HEADERS = {
    HTTPStatus.UNAUTHORIZED: {"WWW-Authenticate": 'Basic realm="counterfoil"'},
    HTTPStatus.METHOD_NOT_ALLOWED: {"Allow": ", ".join(METHODS)},
}


class CallbackResult(NamedTuple):
    """The outcome of a callback, and its details for log and metrics."""

    outcome: CallbackOutcome
    organization: str = NO_ORGANIZATION
    event: str | None = None
    detail: str | None = None
    retry_after: float | None = None
    envelope: str | None = None
    traceparent: str | None = None
    namespace: ReceiverNamespace | None = None
    """The namespace, if it is a served one."""


def callback_response(result: CallbackResult, limits: ReceiverLimits) -> web.Response:
    """Return the answer to a callback. It has no body."""
    status = HTTP_STATUS[result.outcome]
    headers = {"Server": "counterfoil", **_HEADERS.get(status, {})}
    if result.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(result.retry_after)))
    elif status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(limits.retry_after)
    return web.Response(status=status, headers=headers)
