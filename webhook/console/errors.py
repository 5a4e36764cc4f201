"""
What can be wrong, as the person in front of the console has to hear it: one kind per entry in the catalogues.

A ``ConsoleError`` ends a request with its page. What the API server raised becomes one here, by one table.
"""

from collections.abc import Iterable
from enum import StrEnum
from http import HTTPStatus

from counterfoil.kube.errors import ApiError, Conflict, Expired, Forbidden, NotFound, Rejected


class ConsoleErrorKind(StrEnum):
    """Each kind of trouble; its value names its words in the catalogues."""

    NOT_FOUND = "not_found"
    LINK_BROKEN = "link_broken"
    SIGN_IN_NEEDED = "sign_in_needed"
    TOKEN_REFUSED = "token_refused"  # noqa: S105 - a kind of trouble
    PROXY_SILENT = "proxy_silent"
    NOT_ALLOWED = "not_allowed"
    FORM_STALE = "form_stale"
    REASON_MISSING = "reason_missing"
    CHANGED_MEANWHILE = "changed_meanwhile"
    REFUSED = "refused"
    CLUSTER_DOWN = "cluster_down"
    LIST_EXPIRED = "list_expired"
    BUSY = "busy"
    TOO_LARGE = "too_large"
    WRONG_METHOD = "wrong_method"
    UNEXPECTED = "unexpected"


HTTP_STATUS = {
    ConsoleErrorKind.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ConsoleErrorKind.LINK_BROKEN: HTTPStatus.BAD_REQUEST,
    ConsoleErrorKind.SIGN_IN_NEEDED: HTTPStatus.UNAUTHORIZED,
    ConsoleErrorKind.TOKEN_REFUSED: HTTPStatus.UNAUTHORIZED,
    ConsoleErrorKind.PROXY_SILENT: HTTPStatus.UNAUTHORIZED,
    ConsoleErrorKind.NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    ConsoleErrorKind.FORM_STALE: HTTPStatus.FORBIDDEN,
    ConsoleErrorKind.REASON_MISSING: HTTPStatus.UNPROCESSABLE_ENTITY,
    ConsoleErrorKind.CHANGED_MEANWHILE: HTTPStatus.CONFLICT,
    ConsoleErrorKind.REFUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
    ConsoleErrorKind.CLUSTER_DOWN: HTTPStatus.SERVICE_UNAVAILABLE,
    ConsoleErrorKind.LIST_EXPIRED: HTTPStatus.GONE,
    ConsoleErrorKind.BUSY: HTTPStatus.TOO_MANY_REQUESTS,
    ConsoleErrorKind.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ConsoleErrorKind.WRONG_METHOD: HTTPStatus.METHOD_NOT_ALLOWED,
    ConsoleErrorKind.UNEXPECTED: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class ConsoleError(Exception):
    """A page instead of what was asked for. ``detail`` are for the log, never shown; ``code`` is what the page may show."""

    def __init__(self, kind: ConsoleErrorKind, detail: str = "", *, code: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else str(kind))
        self.kind = kind
        self.detail = detail
        self.code = code


_KINDS_BY_API_ERROR: Iterable[tuple[type[ApiError], ConsoleErrorKind]] = (
    (NotFound, ConsoleErrorKind.NOT_FOUND),
    (Conflict, ConsoleErrorKind.CHANGED_MEANWHILE),
    (Rejected, ConsoleErrorKind.REFUSED),
    (Expired, ConsoleErrorKind.LIST_EXPIRED),
)


def from_api_server(problem: ApiError) -> ConsoleError:
    """What it means that the API server did not do what was asked."""
    if isinstance(problem, Forbidden):
        # 401: the token has expired or was revoked since; 403: it is good, and its owner may not do that.
        kind = (
            ConsoleErrorKind.SIGN_IN_NEEDED
            if problem.status == HTTPStatus.UNAUTHORIZED
            else ConsoleErrorKind.NOT_ALLOWED
        )
        return ConsoleError(kind, str(problem))
    for raised, kind in _KINDS_BY_API_ERROR:
        if isinstance(problem, raised):
            return ConsoleError(kind, str(problem))
    return ConsoleError(ConsoleErrorKind.CLUSTER_DOWN, str(problem))
