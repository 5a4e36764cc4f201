"""
Errors of calls to eSAW. This package raises no other errors, except ``ValueError`` for invalid arguments.

Each message is for users, and stable: the same problem has the same text at every retry, without a trace id,
byte count, time or token. Attributes have the details. ``controller.reconcile.error_policy`` maps each error
to an outcome (wait, ask for consent, fail).
"""

import re
from datetime import datetime
from typing import ClassVar, Final, Literal

UnreachableKind = Literal["busy", "connect", "cut", "forbidden", "proxy", "slow", "timeout", "tls"]

_UNREACHABLE: Final[dict[UnreachableKind, str]] = {
    "busy": "Too many calls are running in this process, so this one was not sent in time.",
    "connect": "No connection to eSAW could be made; check its host name, its port and the network.",
    "cut": "The connection to eSAW was cut, or what answers there does not speak HTTP.",
    "forbidden": "The host name of eSAW leads to an address to which Counterfoil never connects: link-local, "
    "loopback, the pod, its node, or the metadata service of a cloud.",
    "proxy": "The proxy in front of eSAW refused the connection.",
    "slow": "eSAW sent a file or an answer so slowly that the transfer was given up.",
    "timeout": "eSAW did not answer in time.",
    "tls": "No trusted TLS connection to eSAW could be made; check its certificate.",
}

_NAMES: Final = {
    "ERR0001": "General",
    "ERR0002": "EmptyParameter",
    "ERR0007": "MissingEnvelope",
    "ERR0008": "MissingFile",
    "ERR0010": "NotAllowedForUser",
    "ERR0011": "InvalidParameterFormat",
    "ERR0013": "EnvelopeActionNotAllowedForEnvelopeState",
    "ERR0014": "NotAllowedByLicense",
    "ERR0063": "InvalidEnvelopeApiVersion",
}
"""Namirial, "Error Codes": the names of those that the calls of this package can meet."""


_PLAIN_WORD: Final = re.compile(r"[A-Za-z0-9_]{1,40}")

MAX_NAME_LENGTH: Final = 100
"""Maximum characters of a file's name in a message."""


MISSING_ENVELOPE = "ERR0007"
"""For an envelope that never existed, was deleted, or belongs to somebody else. (Namirial, "Error Codes")"""

UNSUPPORTED_API_VERSION = "ERR0063"
"""For an envelope that another API version made."""

MISSING_DRAFT = "ERR0250"
"""For a draft that never existed, was sent or deleted, or belongs to somebody else."""


class EsawError(Exception):
    """A call to eSAW did not bring what it should."""

    code: str = "unreadable"
    """For the metric: an HTTP status, ``unreachable`` or ``unreadable``."""


class EsawUnreachable(EsawError):
    """No answer: the connection could not be made, was cut, or nothing came in time."""

    code = "unreachable"

    def __init__(self, kind: UnreachableKind, fault: str = "") -> None:
        """``fault`` says why the answer is not HTTP, in plain words that the server did not choose."""
        text = _UNREACHABLE[kind]
        super().__init__(f"{text[:-1]} ({fault})." if fault else text)
        self.kind: UnreachableKind = kind

    @property
    def was_not_sent(self) -> bool:
        """Whether the request certainly did not reach eSAW: there was no connection."""
        return self.kind in {"busy", "connect", "forbidden", "proxy", "tls"}


class HttpStatusError(EsawError):
    """eSAW answered with an error status."""

    def __init__(
        self,
        status: int,
        error_id: str | None = None,
        *,
        retry_after: float | None = None,
        trace_id: str | None = None,
        has_own_form: bool = False,
        is_page: bool = False,
    ) -> None:
        name = f"({_NAMES[error_id]})" if error_id in _NAMES else None
        super().__init__(f"eSAW answered {' '.join(filter(None, (str(status), error_id, name)))}.")
        self.status = status
        self.error_id = error_id
        self.retry_after = retry_after
        """Seconds that eSAW asked us to wait."""
        self.trace_id = trace_id
        """Id for Namirial's support; for logs only, since it differs each time."""
        self.has_own_form = has_own_form or error_id is not None
        """Whether it can be eSAW's own: with an error id, or, as eSAW documents it for 401 alone, without any
        body. Any other answer may be a proxy's, also an empty one."""
        self.is_page = is_page
        """Whether the body is a web page, which no error of eSAW is: a proxy or a login page answered. So is
        a body that is too long, or ends too early."""
        self.code = str(status)

    @property
    def may_refuse_key(self) -> bool:
        """Whether it can be eSAW's refusal of the key: a 401 that is no web page."""
        return self.status == 401 and not self.is_page

    @property
    def is_missing_envelope(self) -> bool:
        """
        Whether eSAW itself says that there is no such envelope for this user (ERR0007 MissingEnvelope).

        A bare 404 may come from a proxy or a wrong base path, and says nothing about the envelope.
        """
        return self.status == 404 and self.error_id == MISSING_ENVELOPE

    @property
    def is_of_v5(self) -> bool:
        """Whether the call is not possible, since the API v5 made the envelope. (ERR0063
        InvalidEnvelopeApiVersion)"""
        return self.error_id == UNSUPPORTED_API_VERSION

    @property
    def is_missing_draft(self) -> bool:
        """Whether eSAW itself says that there is no such draft for this user (ERR0250)."""
        return self.status == 404 and self.error_id == MISSING_DRAFT


class RateLimited(HttpStatusError):
    """Not sent: eSAW asked this organization to wait (429 or 503 with ``Retry-After``), and the time is not
    over."""

    def __init__(self, status: int, *, until: datetime, retry_after: float) -> None:
        super().__init__(status, retry_after=retry_after)
        self.args = (f"eSAW asked for a pause (it answered {status} with Retry-After).",)
        self.until = until


class ResponseInvalid(EsawError):
    """An answer that is not what the API promises: HTML, broken JSON, a missing field, too large."""

    def __init__(self, operation: str, what: str) -> None:
        super().__init__(f"eSAW's answer to {operation} can't be used: {what}.")
        self.operation = operation
        self.what = what


class EnvelopeStatusUnknown(ResponseInvalid):
    """An ``EnvelopeStatus`` that is null, or that this version does not know. Only a plain word is
    repeated."""

    def __init__(self, operation: str, text: str | None) -> None:
        status = "null" if text is None else f"`{text}`" if _PLAIN_WORD.fullmatch(text) else "no plain word"
        super().__init__(operation, f"its EnvelopeStatus is {status}, which this version does not know")


class V5ResponseInvalid(ResponseInvalid):
    """An answer of the API v5 that can't be used."""


class V5Unavailable(EsawError):
    """The API v6 does not read the envelope, since v5 made it, and v5 has no such envelope or is switched
    off."""

    def __init__(self, answer: HttpStatusError) -> None:
        super().__init__(f"The envelope was made by the API v5, and a call of v5 failed: {answer}")
        self.code = answer.code


class FileIdMissing(ResponseInvalid):
    """A listed file that can't be downloaded, since its ``FileId`` is null or impossible. It is never left
    out."""

    def __init__(self, operation: str, kind: str, name: str) -> None:
        subject = f"the file `{name[:MAX_NAME_LENGTH]}`" if name else "a file without a name"
        super().__init__(operation, f"{subject} of kind {kind} has no usable FileId")


class FileIdRepeated(ResponseInvalid):
    """Two documents with one ``FileId``, so that only one of them can be downloaded. None is left out."""

    def __init__(self, operation: str, one: int | None, other: int | None) -> None:
        super().__init__(operation, f"the documents {one} and {other} have the same FileId")


class ResponseTooLarge(ResponseInvalid):
    """A JSON answer that is larger than ``limits.CallLimits.max_json_bytes``."""

    def __init__(self, operation: str, most: int) -> None:
        super().__init__(operation, f"it is longer than {most / 2**20:g} MiB")


class TooManyHits(ResponseTooLarge):
    """An answer to a search that has more envelopes than are examined at once."""

    def __init__(self, operation: str, most: int) -> None:
        ResponseInvalid.__init__(self, operation, f"it has more than {most} envelopes")


class UnexpectedRedirect(EsawError):
    """eSAW (or a login page before it) wants to send us elsewhere. Never followed: the token stays with this
    host."""

    def __init__(self, status: int, host: str) -> None:
        super().__init__(f"eSAW redirects API calls to {host or 'another place'}; correct the base URL.")
        self.code = str(status)


class OriginMismatch(EsawError):
    """Not sent: the credential of the call belongs to another origin than the organization's."""

    def __init__(self, credential: str, sent_to: str) -> None:
        super().__init__(
            f"The credential belongs to {credential or 'no origin'}, so it was not sent to {sent_to}."
        )


class TransferBroken(EsawError):
    """A body that is not as long as was declared, or that doesn't say where it ends."""

    TEXTS: ClassVar = {
        "long": "eSAW sent more than the length that it declared.",
        "short": "eSAW ended the transfer before the end of the body.",
        "unframed": (
            "eSAW, or a proxy before it, sends files with neither length nor chunks, so a cut could not be "
            "noticed."
        ),
    }

    def __init__(self, kind: Literal["long", "short", "unframed"]) -> None:
        super().__init__(self.TEXTS[kind])
        self.kind = kind


def had_no_effect(problem: EsawError) -> bool:
    """Whether it is certain that a call that changes something in eSAW changed nothing: it was not sent, or
    eSAW itself refused it."""
    if isinstance(problem, RateLimited | OriginMismatch):
        return True
    if isinstance(problem, EsawUnreachable):
        return problem.was_not_sent
    if not isinstance(problem, HttpStatusError) or problem.status >= 500 or problem.status == 408:
        return False
    # A proxy can replace the answer to a call that was carried out. A 429 comes before the work.
    return problem.has_own_form or problem.status == 429


class NotProven(Exception):
    """A status does not prove that everything is in the archive, so nothing is deleted. Says what is
    missing."""
