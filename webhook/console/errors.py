"""The kinds of errors of the console, and the one table that maps the API server's errors to them."""

from collections.abc import Mapping
from http import HTTPStatus

from counterfoil.kube.errors import ApiError, Conflict, Expired, Forbidden, NotFound, Rejected
from webhook.http_server.errors import ErrorKind, HttpErrorKind, PageError


class ConsoleErrorKind(ErrorKind):
    """The further kinds of errors; the value names the texts in the catalogues."""

    SIGN_IN_NEEDED = "sign_in_needed", HTTPStatus.UNAUTHORIZED
    TOKEN_REFUSED = "token_refused", HTTPStatus.UNAUTHORIZED
    OIDC_STALE = "oidc_stale", HTTPStatus.FORBIDDEN
    OIDC_REFUSED = "oidc_refused", HTTPStatus.UNAUTHORIZED
    OIDC_NOT_TRUSTED = "oidc_not_trusted", HTTPStatus.UNAUTHORIZED
    OIDC_UNAVAILABLE = "oidc_unavailable", HTTPStatus.SERVICE_UNAVAILABLE
    SIGN_OUT_INCOMPLETE = "sign_out_incomplete", HTTPStatus.SERVICE_UNAVAILABLE
    SIGN_OUTS_MISSING = "sign_outs_missing", HTTPStatus.SERVICE_UNAVAILABLE
    PROXY_SILENT = "proxy_silent", HTTPStatus.UNAUTHORIZED
    NOT_ALLOWED = "not_allowed", HTTPStatus.FORBIDDEN
    FORM_STALE = "form_stale", HTTPStatus.FORBIDDEN
    REASON_MISSING = "reason_missing", HTTPStatus.UNPROCESSABLE_ENTITY
    CHANGED_MEANWHILE = "changed_meanwhile", HTTPStatus.CONFLICT
    REFUSED = "refused", HTTPStatus.UNPROCESSABLE_ENTITY
    LIST_EXPIRED = "list_expired", HTTPStatus.GONE


_KINDS_BY_API_ERROR: Mapping[type[ApiError], ErrorKind] = {
    Forbidden: ConsoleErrorKind.NOT_ALLOWED,
    NotFound: HttpErrorKind.NOT_FOUND,
    Conflict: ConsoleErrorKind.CHANGED_MEANWHILE,
    Rejected: ConsoleErrorKind.REFUSED,
    Expired: ConsoleErrorKind.LIST_EXPIRED,
}


def from_api_server(problem: ApiError) -> PageError:
    """Return the page error for an error of the API server."""
    kinds = (kind for raised, kind in _KINDS_BY_API_ERROR.items() if isinstance(problem, raised))
    kind = next(kinds, HttpErrorKind.CLUSTER_DOWN)
    if kind is ConsoleErrorKind.NOT_ALLOWED and problem.status == HTTPStatus.UNAUTHORIZED:
        # 401: the token has expired or was revoked since; 403: it is valid, and its owner may not do that.
        kind = ConsoleErrorKind.SIGN_IN_NEEDED
    return PageError(kind, str(problem))
