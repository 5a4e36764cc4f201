"""The kinds of errors of the console, and the one table that maps the API server's errors to them."""

from collections.abc import Iterable
from http import HTTPStatus

from counterfoil.kube.errors import ApiError, Conflict, Expired, Forbidden, NotFound, Rejected
from webhook.http_server.errors import ErrorKind, PageError


class ConsoleErrorKind(ErrorKind):
    """Each kind of error; the value names the texts in the catalogues."""

    NOT_FOUND = "not_found", HTTPStatus.NOT_FOUND
    LINK_BROKEN = "link_broken", HTTPStatus.BAD_REQUEST
    SIGN_IN_NEEDED = "sign_in_needed", HTTPStatus.UNAUTHORIZED
    TOKEN_REFUSED = "token_refused", HTTPStatus.UNAUTHORIZED
    PROXY_SILENT = "proxy_silent", HTTPStatus.UNAUTHORIZED
    NOT_ALLOWED = "not_allowed", HTTPStatus.FORBIDDEN
    FORM_STALE = "form_stale", HTTPStatus.FORBIDDEN
    REASON_MISSING = "reason_missing", HTTPStatus.UNPROCESSABLE_ENTITY
    CHANGED_MEANWHILE = "changed_meanwhile", HTTPStatus.CONFLICT
    REFUSED = "refused", HTTPStatus.UNPROCESSABLE_ENTITY
    CLUSTER_DOWN = "cluster_down", HTTPStatus.SERVICE_UNAVAILABLE
    LIST_EXPIRED = "list_expired", HTTPStatus.GONE
    BUSY = "busy", HTTPStatus.TOO_MANY_REQUESTS
    TOO_LARGE = "too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    WRONG_METHOD = "wrong_method", HTTPStatus.METHOD_NOT_ALLOWED
    UNEXPECTED = "unexpected", HTTPStatus.INTERNAL_SERVER_ERROR


_KINDS_BY_API_ERROR: Iterable[tuple[type[ApiError], ConsoleErrorKind]] = (
    (NotFound, ConsoleErrorKind.NOT_FOUND),
    (Conflict, ConsoleErrorKind.CHANGED_MEANWHILE),
    (Rejected, ConsoleErrorKind.REFUSED),
    (Expired, ConsoleErrorKind.LIST_EXPIRED),
)


def from_api_server(problem: ApiError) -> PageError:
    """Return the page error for an error of the API server."""
    if isinstance(problem, Forbidden):
        # 401: the token has expired or was revoked since; 403: it is good, and its owner may not do that.
        kind = (
            ConsoleErrorKind.SIGN_IN_NEEDED
            if problem.status == HTTPStatus.UNAUTHORIZED
            else ConsoleErrorKind.NOT_ALLOWED
        )
        return PageError(kind, str(problem))
    for raised, kind in _KINDS_BY_API_ERROR:
        if isinstance(problem, raised):
            return PageError(kind, str(problem))
    return PageError(ConsoleErrorKind.CLUSTER_DOWN, str(problem))
