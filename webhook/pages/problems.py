"""
What can be wrong, as the person in front of the browser has to hear it: one kind per page in the catalogues.

A ``Trouble`` ends a request with its page. What eSAW or the API server raised becomes one here, by one table each; nothing
of what they wrote is shown but an error id of eSAW's.
"""

from enum import StrEnum
from http import HTTPStatus

from counterfoil.cluster import ApiProblem
from counterfoil.esaw import Answered, EsawProblem, Paused, Unreachable


class Kind(StrEnum):
    """Each kind of trouble; its value names its words in the catalogues."""

    NOT_FOUND = "not_found"
    LINK_BROKEN = "link_broken"
    NOT_CONFIGURED = "not_configured"
    BUSY = "busy"
    STATE_MISSING = "state_missing"
    STATE_USED = "state_used"
    DENIED = "denied"
    LOGIN_FAILED = "login_failed"
    WRONG_ISSUER = "wrong_issuer"
    CODE_REFUSED = "code_refused"
    CLIENT_REFUSED = "client_refused"
    WRONG_USER = "wrong_user"
    ESAW_DOWN = "esaw_down"
    ESAW_STRANGE = "esaw_strange"
    CLUSTER_DOWN = "cluster_down"
    DRAFT_MISSING = "draft_missing"
    DRAFT_REFUSED = "draft_refused"
    BEING_SENT = "being_sent"
    UNKNOWN_OUTCOME = "unknown_outcome"
    METADATA_UNREADABLE = "metadata_unreadable"
    FORM_EXPIRED = "form_expired"
    BRINGS_KEY = "brings_key"
    TOO_LARGE = "too_large"
    WRONG_METHOD = "wrong_method"
    UNEXPECTED = "unexpected"


STATUS = {
    Kind.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Kind.LINK_BROKEN: HTTPStatus.BAD_REQUEST,
    Kind.NOT_CONFIGURED: HTTPStatus.SERVICE_UNAVAILABLE,
    Kind.BUSY: HTTPStatus.TOO_MANY_REQUESTS,
    Kind.STATE_MISSING: HTTPStatus.BAD_REQUEST,
    Kind.STATE_USED: HTTPStatus.CONFLICT,
    Kind.DENIED: HTTPStatus.FORBIDDEN,
    Kind.LOGIN_FAILED: HTTPStatus.BAD_GATEWAY,
    Kind.WRONG_ISSUER: HTTPStatus.BAD_REQUEST,
    Kind.CODE_REFUSED: HTTPStatus.BAD_REQUEST,
    Kind.CLIENT_REFUSED: HTTPStatus.BAD_GATEWAY,
    Kind.WRONG_USER: HTTPStatus.FORBIDDEN,
    Kind.ESAW_DOWN: HTTPStatus.SERVICE_UNAVAILABLE,
    Kind.ESAW_STRANGE: HTTPStatus.BAD_GATEWAY,
    Kind.CLUSTER_DOWN: HTTPStatus.SERVICE_UNAVAILABLE,
    Kind.DRAFT_MISSING: HTTPStatus.NOT_FOUND,
    Kind.DRAFT_REFUSED: HTTPStatus.CONFLICT,
    Kind.BEING_SENT: HTTPStatus.SERVICE_UNAVAILABLE,
    Kind.UNKNOWN_OUTCOME: HTTPStatus.SERVICE_UNAVAILABLE,
    Kind.METADATA_UNREADABLE: HTTPStatus.CONFLICT,
    Kind.FORM_EXPIRED: HTTPStatus.FORBIDDEN,
    Kind.BRINGS_KEY: HTTPStatus.CONFLICT,
    Kind.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Kind.WRONG_METHOD: HTTPStatus.METHOD_NOT_ALLOWED,
    Kind.UNEXPECTED: HTTPStatus.INTERNAL_SERVER_ERROR,
}

AGAIN = frozenset(
    {
        Kind.STATE_USED,
        Kind.STATE_MISSING,
        Kind.DENIED,
        Kind.LOGIN_FAILED,
        Kind.CODE_REFUSED,
        Kind.WRONG_USER,
        Kind.ESAW_DOWN,
        Kind.ESAW_STRANGE,
        Kind.CLUSTER_DOWN,
        Kind.BEING_SENT,
        Kind.UNKNOWN_OUTCOME,
        Kind.FORM_EXPIRED,
        Kind.BUSY,
        Kind.UNEXPECTED,
    }
)
"""Where beginning again is worth a try, so that the page offers it."""

ADMINISTRATORS = frozenset({Kind.NOT_CONFIGURED, Kind.CLIENT_REFUSED, Kind.WRONG_ISSUER, Kind.ESAW_STRANGE})
"""What somebody has to look at who is not in front of the browser."""


class Trouble(Exception):
    """
    A page instead of what was asked for.

    ``words`` are for the log, never shown; ``code`` and ``user`` are what the page may show.
    """

    def __init__(self, kind: Kind, words: str = "", *, code: str = "", user: str = "") -> None:
        super().__init__(f"{kind}: {words}" if words else str(kind))
        self.kind = kind
        self.words = words
        self.code = code
        self.user = user


def of_token_endpoint(problem: EsawProblem) -> Trouble:
    """What it means that a code could not be exchanged."""
    if isinstance(problem, Answered):
        if problem.error_id in {"invalid_client", "unauthorized_client"} or problem.status == 401:
            return Trouble(Kind.CLIENT_REFUSED, str(problem))
        if problem.error_id == "invalid_grant":
            return Trouble(Kind.CODE_REFUSED, str(problem))
    return of_esaw(problem)


def of_esaw(problem: EsawProblem) -> Trouble:
    """What it means that eSAW did not do what was asked, when that had no effect."""
    if isinstance(problem, Unreachable | Paused):
        return Trouble(Kind.ESAW_DOWN, str(problem))
    if isinstance(problem, Answered):
        if problem.is_missing_draft:
            return Trouble(Kind.DRAFT_MISSING, str(problem))
        if problem.status == 401:
            # The key died between two steps; going through eSAW again brings a new one.
            return Trouble(Kind.CODE_REFUSED, str(problem))
        if problem.status >= 500 or problem.status == 429:
            return Trouble(Kind.ESAW_DOWN, str(problem))
    return Trouble(Kind.ESAW_STRANGE, str(problem))


def of_cluster(problem: ApiProblem) -> Trouble:
    """What it means that the API server did not do what was asked."""
    return Trouble(Kind.CLUSTER_DOWN, str(problem))
