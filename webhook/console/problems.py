"""
What can be wrong, as the person in front of the console has to hear it: one kind per entry in the catalogues.

A ``Trouble`` ends a request with its page. What the API server raised becomes one here, by one table.
"""

from collections.abc import Iterable
from enum import StrEnum
from http import HTTPStatus

from counterfoil.cluster import ApiProblem, Conflict, Expired, Forbidden, NotFound, Refused


class Kind(StrEnum):
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


STATUS = {
    Kind.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Kind.LINK_BROKEN: HTTPStatus.BAD_REQUEST,
    Kind.SIGN_IN_NEEDED: HTTPStatus.UNAUTHORIZED,
    Kind.TOKEN_REFUSED: HTTPStatus.UNAUTHORIZED,
    Kind.PROXY_SILENT: HTTPStatus.UNAUTHORIZED,
    Kind.NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    Kind.FORM_STALE: HTTPStatus.FORBIDDEN,
    Kind.REASON_MISSING: HTTPStatus.UNPROCESSABLE_ENTITY,
    Kind.CHANGED_MEANWHILE: HTTPStatus.CONFLICT,
    Kind.REFUSED: HTTPStatus.UNPROCESSABLE_ENTITY,
    Kind.CLUSTER_DOWN: HTTPStatus.SERVICE_UNAVAILABLE,
    Kind.LIST_EXPIRED: HTTPStatus.GONE,
    Kind.BUSY: HTTPStatus.TOO_MANY_REQUESTS,
    Kind.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Kind.WRONG_METHOD: HTTPStatus.METHOD_NOT_ALLOWED,
    Kind.UNEXPECTED: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class Trouble(Exception):
    """A page instead of what was asked for. ``words`` are for the log, never shown; ``code`` is what the page may show."""

    def __init__(self, kind: Kind, words: str = "", *, code: str = "") -> None:
        super().__init__(f"{kind}: {words}" if words else str(kind))
        self.kind = kind
        self.words = words
        self.code = code


_OF_CLUSTER: Iterable[tuple[type[ApiProblem], Kind]] = (
    (NotFound, Kind.NOT_FOUND),
    (Conflict, Kind.CHANGED_MEANWHILE),
    (Refused, Kind.REFUSED),
    (Expired, Kind.LIST_EXPIRED),
)


def of_cluster(problem: ApiProblem) -> Trouble:
    """What it means that the API server did not do what was asked."""
    if isinstance(problem, Forbidden):
        # 401: the token has expired or was revoked since; 403: it is good, and its owner may not do that.
        kind = Kind.SIGN_IN_NEEDED if problem.status == HTTPStatus.UNAUTHORIZED else Kind.NOT_ALLOWED
        return Trouble(kind, str(problem))
    for raised, kind in _OF_CLUSTER:
        if isinstance(problem, raised):
            return Trouble(kind, str(problem))
    return Trouble(Kind.CLUSTER_DOWN, str(problem))
