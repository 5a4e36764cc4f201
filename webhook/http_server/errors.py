"""The exception that ends a browser's request with an error page, and the kinds that all pages share."""

from enum import StrEnum
from http import HTTPStatus
from typing import Self


class ErrorKind(StrEnum):
    """A kind of error: its value names the texts in the catalogues, ``status`` is the status of the
    answer."""

    status: HTTPStatus

    def __new__(cls, value: str, status: HTTPStatus) -> Self:
        """Create a member from its value and its HTTP status."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.status = status
        return member


class HttpErrorKind(ErrorKind):
    """The kinds of errors that pages and console share."""

    NOT_FOUND = "not_found", HTTPStatus.NOT_FOUND
    LINK_BROKEN = "link_broken", HTTPStatus.BAD_REQUEST
    CLUSTER_DOWN = "cluster_down", HTTPStatus.SERVICE_UNAVAILABLE
    BUSY = "busy", HTTPStatus.TOO_MANY_REQUESTS
    TOO_LARGE = "too_large", HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    WRONG_METHOD = "wrong_method", HTTPStatus.METHOD_NOT_ALLOWED
    UNEXPECTED = "unexpected", HTTPStatus.INTERNAL_SERVER_ERROR


class PageError(Exception):
    """The request ends with an error page. Only the log shows ``detail``; the page may show the rest."""

    def __init__(self, kind: ErrorKind, detail: str = "", *, code: str = "", user: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else str(kind))
        self.kind = kind
        self.detail = detail
        self.code = code
        self.user = user
