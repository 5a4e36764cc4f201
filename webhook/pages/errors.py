"""
What can be wrong, as the person in front of the browser has to hear it: one kind per page in the catalogues.

A ``PageError`` ends a request with its page. What eSAW or the API server raised becomes one here, by one table each; nothing
of what they wrote is shown but an error id of eSAW's.
"""

from enum import StrEnum
from http import HTTPStatus

from counterfoil.esaw import EsawError, EsawUnreachable, HttpStatusError, RateLimited
from counterfoil.kube.errors import ApiError


class PageErrorKind(StrEnum):
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


HTTP_STATUS = {
    PageErrorKind.NOT_FOUND: HTTPStatus.NOT_FOUND,
    PageErrorKind.LINK_BROKEN: HTTPStatus.BAD_REQUEST,
    PageErrorKind.NOT_CONFIGURED: HTTPStatus.SERVICE_UNAVAILABLE,
    PageErrorKind.BUSY: HTTPStatus.TOO_MANY_REQUESTS,
    PageErrorKind.STATE_MISSING: HTTPStatus.BAD_REQUEST,
    PageErrorKind.STATE_USED: HTTPStatus.CONFLICT,
    PageErrorKind.DENIED: HTTPStatus.FORBIDDEN,
    PageErrorKind.LOGIN_FAILED: HTTPStatus.BAD_GATEWAY,
    PageErrorKind.WRONG_ISSUER: HTTPStatus.BAD_REQUEST,
    PageErrorKind.CODE_REFUSED: HTTPStatus.BAD_REQUEST,
    PageErrorKind.CLIENT_REFUSED: HTTPStatus.BAD_GATEWAY,
    PageErrorKind.WRONG_USER: HTTPStatus.FORBIDDEN,
    PageErrorKind.ESAW_DOWN: HTTPStatus.SERVICE_UNAVAILABLE,
    PageErrorKind.ESAW_STRANGE: HTTPStatus.BAD_GATEWAY,
    PageErrorKind.CLUSTER_DOWN: HTTPStatus.SERVICE_UNAVAILABLE,
    PageErrorKind.DRAFT_MISSING: HTTPStatus.NOT_FOUND,
    PageErrorKind.DRAFT_REFUSED: HTTPStatus.CONFLICT,
    PageErrorKind.BEING_SENT: HTTPStatus.SERVICE_UNAVAILABLE,
    PageErrorKind.UNKNOWN_OUTCOME: HTTPStatus.SERVICE_UNAVAILABLE,
    PageErrorKind.METADATA_UNREADABLE: HTTPStatus.CONFLICT,
    PageErrorKind.FORM_EXPIRED: HTTPStatus.FORBIDDEN,
    PageErrorKind.BRINGS_KEY: HTTPStatus.CONFLICT,
    PageErrorKind.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    PageErrorKind.WRONG_METHOD: HTTPStatus.METHOD_NOT_ALLOWED,
    PageErrorKind.UNEXPECTED: HTTPStatus.INTERNAL_SERVER_ERROR,
}

RETRYABLE_KINDS = frozenset(
    {
        PageErrorKind.STATE_USED,
        PageErrorKind.STATE_MISSING,
        PageErrorKind.DENIED,
        PageErrorKind.LOGIN_FAILED,
        PageErrorKind.CODE_REFUSED,
        PageErrorKind.WRONG_USER,
        PageErrorKind.ESAW_DOWN,
        PageErrorKind.ESAW_STRANGE,
        PageErrorKind.CLUSTER_DOWN,
        PageErrorKind.BEING_SENT,
        PageErrorKind.UNKNOWN_OUTCOME,
        PageErrorKind.FORM_EXPIRED,
        PageErrorKind.BUSY,
        PageErrorKind.UNEXPECTED,
    }
)
"""Where beginning again is worth a try, so that the page offers it."""

ADMINISTRATOR_KINDS = frozenset(
    {
        PageErrorKind.NOT_CONFIGURED,
        PageErrorKind.CLIENT_REFUSED,
        PageErrorKind.WRONG_ISSUER,
        PageErrorKind.ESAW_STRANGE,
    }
)
"""What somebody has to look at who is not in front of the browser."""


class PageError(Exception):
    """
    A page instead of what was asked for.

    ``detail`` are for the log, never shown; ``code`` and ``user`` are what the page may show.
    """

    def __init__(self, kind: PageErrorKind, detail: str = "", *, code: str = "", user: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else str(kind))
        self.kind = kind
        self.detail = detail
        self.code = code
        self.user = user


def from_token_endpoint(problem: EsawError) -> PageError:
    """What it means that a code could not be exchanged."""
    if isinstance(problem, HttpStatusError):
        if problem.error_id in {"invalid_client", "unauthorized_client"} or problem.status == 401:
            return PageError(PageErrorKind.CLIENT_REFUSED, str(problem))
        if problem.error_id == "invalid_grant":
            return PageError(PageErrorKind.CODE_REFUSED, str(problem))
    return from_esaw(problem)


def from_esaw(problem: EsawError) -> PageError:
    """What it means that eSAW did not do what was asked, when that had no effect."""
    if isinstance(problem, EsawUnreachable | RateLimited):
        return PageError(PageErrorKind.ESAW_DOWN, str(problem))
    if isinstance(problem, HttpStatusError):
        if problem.is_missing_draft:
            return PageError(PageErrorKind.DRAFT_MISSING, str(problem))
        if problem.status == 401:
            # The key died between two steps; going through eSAW again brings a new one.
            return PageError(PageErrorKind.CODE_REFUSED, str(problem))
        if problem.status >= 500 or problem.status == 429:
            return PageError(PageErrorKind.ESAW_DOWN, str(problem))
    return PageError(PageErrorKind.ESAW_STRANGE, str(problem))


def from_api_server(problem: ApiError) -> PageError:
    """What it means that the API server did not do what was asked."""
    return PageError(PageErrorKind.CLUSTER_DOWN, str(problem))
