"""
Errors of the API server: one class for each answer that callers handle differently.

``ApiError`` is the base class. ``api_error`` chooses the class from the HTTP status and the Status object of
the response. A 4xx without a Status object may be a proxy's, so nothing about an object follows from it.
"""

import re
from collections.abc import Mapping

import msgspec

from counterfoil.untrusted.json_bounds import JSON_ERRORS


class ApiError(Exception):
    """A request to the API server failed. ``status`` is the HTTP status, 0 when there was no response."""

    def __init__(self, status: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after

    @property
    def is_about_namespace(self) -> bool:
        """Whether a list of objects shows by this answer that their namespace does not exist, or that the
        rights there are missing: 403 and 404 of an API server."""
        return isinstance(self, Forbidden | NotFound) and self.status in (403, 404)

    @property
    def is_initializing(self) -> bool:
        """Whether the API server is about to serve this kind: for seconds after its CRD was created."""
        return self.status == 429 and "storage is (re)initializing" in str(self)


class NotFound(ApiError):
    """404: the object does not exist."""


class AlreadyExists(ApiError):
    """409 to a create: an object of that name exists."""


class Conflict(ApiError):
    """409 to a write with a resourceVersion: another client wrote first."""


class Forbidden(ApiError):
    """401 or 403: the credentials do not allow the request."""


class QuotaExceeded(Forbidden):
    """403 to a create: a ResourceQuota has no room for the object."""


class Rejected(ApiError):
    """400, 413, 422, or too large for etcd (``TooLarge``): the API server never accepts this object
    unchanged."""


class TooLarge(Rejected):
    """413, or too large for etcd (about 1.5 MiB): the object must become smaller."""


class Expired(ApiError):
    """410: the resourceVersion or continue token is too old; list again."""

    token = ""
    """For a list in pages: the token that continues the list with the current objects. May be empty."""


class Unavailable(ApiError):
    """No response, 408, 429, 5xx, or a 4xx without a Status object: the same request can succeed later."""


class NotConfigured(Exception):
    """No usable configuration: no readable kubeconfig, and no ServiceAccount of a pod."""


def api_error(status: int, answer: bytes, retry_after: str | None, *, creating: bool) -> ApiError:
    """Return the error for a response, or for an ERROR event of a watch; ``creating`` for a POST."""
    try:
        payload = msgspec.json.decode(answer)
    except JSON_ERRORS:
        payload = None
    if isinstance(payload, dict) and payload.get("type") == "ERROR":
        payload = payload.get("object")
    if not (isinstance(payload, dict) and payload.get("kind") == "Status"):
        payload = {}
    reason = str(payload.get("reason") or status)
    named = f"{status} {payload.get('reason') or ''}".rstrip()
    message = f"the API server answered {named}: {payload.get('message', '')}".rstrip(": ")
    seconds = retry_after_seconds(retry_after)
    kind = TooLarge if _TOO_LARGE.search(message) else _error_class(status, reason, creating=creating)
    if kind is Forbidden and _QUOTA.search(message):
        kind = QuotaExceeded
    if not payload and kind not in (Forbidden, Unavailable):
        # The API server's own 404 without a Status is the one to a path that it does not know: no CRD.
        kind, message = Unavailable, f"{status} was the answer, without a Status object of the API server"
    problem = kind(status, reason, message, seconds)
    if isinstance(problem, Expired):
        metadata = payload.get("metadata")
        problem.token = str((metadata if isinstance(metadata, dict) else {}).get("continue") or "")
    return problem


def retry_after_seconds(header: str | None) -> float | None:
    """Return a ``Retry-After`` in seconds; None without one, or for anything else, such as a date."""
    return float(header) if header is not None and _SECONDS.fullmatch(header) else None


def _error_class(status: int, reason: str, *, creating: bool) -> type[ApiError]:
    if status == 409:
        return AlreadyExists if creating and reason == "AlreadyExists" else Conflict
    return _BY_STATUS.get(status, Unavailable if status >= 500 else Rejected)


_BY_STATUS: Mapping[int, type[ApiError]] = {
    **dict.fromkeys((401, 403), Forbidden),
    404: NotFound,
    410: Expired,
    413: TooLarge,
    **dict.fromkeys((408, 429), Unavailable),
}

_QUOTA = re.compile("exceeded quota|status unknown for quota")
"""In the message of the admission plugin ResourceQuota; nothing else of the answer names it."""

_SECONDS = re.compile(r"[0-9]{1,12}")
"""A ``Retry-After`` in seconds; the API server sends no dates."""

_TOO_LARGE = re.compile(r"etcdserver: request is too large|trying to send message larger than max")
"""Messages of etcd (from 1.5 MiB) and of its client (from 2 MiB). Their HTTP status is 500, though no retry
helps."""
