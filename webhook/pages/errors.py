"""The kinds of errors of the pages, and the functions that map errors of eSAW to them."""

from http import HTTPStatus
from typing import Final

from counterfoil.esaw import (
    EsawError,
    EsawUnreachable,
    HttpStatusError,
    RateLimited,
    ResponseInvalid,
    UnexpectedRedirect,
)
from counterfoil.resources.organization import OAuth
from webhook.http_server.errors import ErrorKind, HttpErrorKind, PageError


class PageErrorKind(ErrorKind):
    """
    The further kinds of errors; the value names the texts in the catalogues.

    What only the query of the browser says is a 4xx: anybody can send it, and a 5xx is somebody's alert. A
    5xx is what eSAW, the API server or the configuration did.
    """

    NOT_CONFIGURED = "not_configured", HTTPStatus.SERVICE_UNAVAILABLE
    STATE_MISSING = "state_missing", HTTPStatus.BAD_REQUEST
    STATE_NOT_RETURNED = "state_not_returned", HTTPStatus.BAD_REQUEST
    STATE_USED = "state_used", HTTPStatus.CONFLICT
    DENIED = "denied", HTTPStatus.FORBIDDEN
    LOGIN_FAILED = "login_failed", HTTPStatus.BAD_REQUEST
    WRONG_ISSUER = "wrong_issuer", HTTPStatus.BAD_REQUEST
    CODE_REFUSED = "code_refused", HTTPStatus.BAD_REQUEST
    CLIENT_REFUSED = "client_refused", HTTPStatus.BAD_GATEWAY
    EXCHANGE_REFUSED = "exchange_refused", HTTPStatus.BAD_GATEWAY
    WRONG_USER = "wrong_user", HTTPStatus.FORBIDDEN
    ESAW_DOWN = "esaw_down", HTTPStatus.SERVICE_UNAVAILABLE
    ESAW_STRANGE = "esaw_strange", HTTPStatus.BAD_GATEWAY
    DRAFT_MISSING = "draft_missing", HTTPStatus.NOT_FOUND
    DRAFT_REFUSED = "draft_refused", HTTPStatus.CONFLICT
    BEING_SENT = "being_sent", HTTPStatus.SERVICE_UNAVAILABLE
    UNKNOWN_OUTCOME = "unknown_outcome", HTTPStatus.SERVICE_UNAVAILABLE
    METADATA_UNREADABLE = "metadata_unreadable", HTTPStatus.CONFLICT
    FORM_EXPIRED = "form_expired", HTTPStatus.FORBIDDEN
    BRINGS_KEY = "brings_key", HTTPStatus.CONFLICT
    TOO_MANY_SENDERS = "too_many_senders", HTTPStatus.CONFLICT


RETRYABLE_KINDS: frozenset[ErrorKind] = frozenset(
    {
        PageErrorKind.STATE_USED,
        PageErrorKind.STATE_MISSING,
        PageErrorKind.DENIED,
        PageErrorKind.LOGIN_FAILED,
        PageErrorKind.CODE_REFUSED,
        PageErrorKind.WRONG_USER,
        PageErrorKind.ESAW_DOWN,
        PageErrorKind.ESAW_STRANGE,
        HttpErrorKind.CLUSTER_DOWN,
        PageErrorKind.BEING_SENT,
        PageErrorKind.UNKNOWN_OUTCOME,
        PageErrorKind.FORM_EXPIRED,
        HttpErrorKind.BUSY,
        HttpErrorKind.UNEXPECTED,
    }
)
"""Kinds whose page offers to start again."""

ADMINISTRATOR_KINDS: frozenset[ErrorKind] = frozenset(
    {
        PageErrorKind.NOT_CONFIGURED,
        PageErrorKind.STATE_NOT_RETURNED,
        PageErrorKind.CLIENT_REFUSED,
        PageErrorKind.EXCHANGE_REFUSED,
        PageErrorKind.WRONG_ISSUER,
        PageErrorKind.ESAW_STRANGE,
        PageErrorKind.TOO_MANY_SENDERS,
    }
)
"""Kinds that an administrator must solve."""


_WRONG_PATH: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})


def from_token_endpoint(problem: EsawError, oauth: OAuth) -> PageError:
    """Return the page error for a failed exchange of an authorization code; it names the settings to
    check."""
    client = f"spec.oauth.clientAuthentication ({oauth.client_authentication})"
    pkce = f"spec.oauth.pkce ({oauth.pkce})"
    if isinstance(problem, ResponseInvalid | UnexpectedRedirect):
        return PageError(PageErrorKind.ESAW_STRANGE, f"{problem} Check spec.oauth.tokenPath.")
    if not isinstance(problem, HttpStatusError) or problem.status >= 500 or problem.status == 429:
        return from_esaw(problem)
    if problem.status in _WRONG_PATH:
        return PageError(PageErrorKind.EXCHANGE_REFUSED, f"{problem} Check spec.oauth.tokenPath.")
    if problem.error_id == "invalid_grant":
        hint = f"If this happens at each sign-in, check spec.oauth.publicURL and {pkce}."
        return PageError(PageErrorKind.CODE_REFUSED, f"{problem} {hint}")
    if problem.error_id in {"invalid_client", "unauthorized_client"} or problem.status == 401:
        hint = f"Check spec.oauth.clientID, the Secret of spec.oauth.clientSecretRef, and {client}."
        return PageError(PageErrorKind.CLIENT_REFUSED, f"{problem} {hint}")
    return PageError(PageErrorKind.EXCHANGE_REFUSED, f"{problem} Check {pkce} and {client}.")


def from_esaw(problem: EsawError) -> PageError:
    """Return the page error for a failed call to eSAW that had no effect."""
    if isinstance(problem, EsawUnreachable | RateLimited):
        return PageError(PageErrorKind.ESAW_DOWN, str(problem))
    if isinstance(problem, HttpStatusError):
        if problem.is_missing_draft:
            return PageError(PageErrorKind.DRAFT_MISSING, str(problem))
        if problem.may_refuse_key:
            # The key died between two steps; going through eSAW again brings a new one.
            return PageError(PageErrorKind.CODE_REFUSED, str(problem))
        if problem.status >= 500 or problem.status == 429:
            return PageError(PageErrorKind.ESAW_DOWN, str(problem))
    return PageError(PageErrorKind.ESAW_STRANGE, str(problem))
