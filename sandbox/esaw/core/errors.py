"""The errors of REST v6, each as eSAW numbers it: HTTP status, ErrorId and the text after it."""

from enum import Enum
from typing import NamedTuple


class _ErrorCodeFields(NamedTuple):
    status: int
    error_id: str
    text: str


class ErrorCode(_ErrorCodeFields, Enum):
    """Why a request was refused."""

    GENERAL = (500, "ERR0001", "A general error occurred.")
    EMPTY_PARAMETER = (400, "ERR0002", "A required parameter is empty.")
    PDF_CONVERSION_FAILED = (400, "ERR0005", "The file could not be converted to PDF.")
    MISSING_ENVELOPE = (404, "ERR0007", "The envelope does not exist.")
    MISSING_FILE = (404, "ERR0008", "The file does not exist.")
    UNKNOWN_UPLOAD = (400, "ERR0008", "The file does not exist.")
    NOT_ALLOWED_FOR_USER = (403, "ERR0010", "The user is not allowed to do this.")
    INVALID_FORMAT = (400, "ERR0011", "The format of a parameter is invalid.")
    NOT_IN_THIS_STATE = (400, "ERR0013", "The action is not allowed for the state of the envelope.")
    FILE_TOO_LARGE = (400, "ERR0055", "The file exceeds the maximum size.")
    WRONG_API_VERSION = (400, "ERR0063", "The envelope was created with another API version.")
    EMPTY_FILE = (400, "ERR0097", "File must not be empty.")
    BAD_EXPIRATION = (400, "ERR0163", "The expiration is invalid.")
    MISSING_DRAFT = (404, "ERR0250", "The draft does not exist.")


class RequestRefused(Exception):
    """A request that eSAW refuses; the middleware turns it into the answer `{ErrorId, Message, TraceId}`."""

    def __init__(self, refusal: ErrorCode, detail: str = "", *, error_id: str | None = None) -> None:
        """`error_id` replaces eSAW's own number of the refusal."""
        self.error_id = error_id or refusal.error_id
        super().__init__(self.error_id)
        self.status = refusal.status
        self.message = f"{self.error_id} - {refusal.text}{' ' + detail if detail else ''}"


class Unauthorized(Exception):
    """No token, an unknown or revoked one, or a user who is not active; answered 401 with an empty body."""


class UnknownPath(Exception):
    """Nothing answers at this path; 404 without an ErrorId."""


class UnsupportedMediaType(Exception):
    """A POST whose body is not declared as JSON; answered 415."""
