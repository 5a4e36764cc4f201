"""
The one exception that ends a browser's request with an error page; the pages and the console define the
kinds.
"""

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


class PageError(Exception):
    """
    The request ends with an error page.

    Only the log shows ``detail``; the page may show ``code`` and ``user``.
    """

    def __init__(self, kind: ErrorKind, detail: str = "", *, code: str = "", user: str = "") -> None:
        super().__init__(f"{kind}: {detail}" if detail else str(kind))
        self.kind = kind
        self.detail = detail
        self.code = code
        self.user = user
