"""
The table of requests: what a person can ask for on each kind, and what carries it out.

A request is one row: the value of the label, the reason of the Kubernetes Event, and a handler. A handler
acts, and returns how the status changes; it does not write ``status.lastRequest`` or remove the label
(``controller.requests.user_requests`` does). It may be called again after an interruption, as long as its
result was not stored.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from counterfoil.resources import Resource
from counterfoil.resources.request import Request, RequestOutcome


def _unchanged(status: Any) -> Any:
    return status


@dataclass(frozen=True)
class RequestResult:
    """Result of a request."""

    outcome: RequestOutcome
    message: str
    """Sentences for people, without names."""
    change: Callable[[Any], Any] = _unchanged
    """The new status of the object from its newest one; pure, and called again after a conflict."""


Handler = Callable[[Any, Request], Awaitable[RequestResult]]
"""Receives the object as stored, and the request. Raises ``ApiError`` if it has to be repeated later."""


@dataclass(frozen=True)
class RequestType:
    """One thing that can be asked for."""

    event_reason: str
    """Reason of the Kubernetes Event after it was carried out."""
    handler: Handler


RequestTable = Mapping[type[Resource], Mapping[str, RequestType]]
"""By the kind of the object, then by the value of the label."""


def refusal(kind: type[Resource], known: Mapping[str, RequestType]) -> RequestResult:
    """Return the result of a request that the kind does not know."""
    names = " and ".join(sorted(known))
    return RequestResult(RequestOutcome.REFUSED, f"On {kind.KIND} only {names} can be asked for.")
