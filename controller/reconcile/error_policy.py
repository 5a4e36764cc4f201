"""
The one table from errors to outcomes. To handle a new error, add a row, not an ``except``.

The first match wins, so transport errors and 5xx come first: a network failure must never be final
(cert-manager issues 8696 and 8747). Phases decide before this table where they know more (404 with history,
404 to our own delete).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.access.sender_keys import KeyStateUnknown, KeyUnusable
from controller.reconcile.context import TooManyEvents, TooManyFiles
from controller.reconcile.outcomes import Fail, NeedConsent, Outcome, Wait
from counterfoil.archives.errors import MANIFEST_UNSEALED, ArchiveError, ManifestUnsealed, NameTaken
from counterfoil.archives.filing import SourceBroken
from counterfoil.archives.manifest import ManifestTooLarge
from counterfoil.esaw.errors import (
    UNSUPPORTED_API_VERSION,
    EnvelopeStatusUnknown,
    EsawUnreachable,
    FileIdMissing,
    FileIdRepeated,
    HttpStatusError,
    NotProven,
    RateLimited,
    ResponseInvalid,
    ResponseTooLarge,
    TransferBroken,
    UnexpectedRedirect,
    V5ResponseInvalid,
    V5Unavailable,
)
from counterfoil.kube.errors import ApiError
from counterfoil.resources.envelopeevent import NOT_PERMITTED

KEY_DOUBTED = "KeyDoubted"
"""Reason of a 401 without an error id of eSAW that is no web page."""


INTERNAL_ERROR = Wait(
    "InternalError", "Counterfoil met an internal error; the controller's log has the details."
)
"""The outcome of an error that is not in the table: a bug in Counterfoil."""


@dataclass(frozen=True)
class OutcomeRule:
    """Errors and their outcome. Without a reason, that of the ``ArchiveError`` or ``KeyUnusable`` applies."""

    matches: Callable[[Exception], bool]
    outcome_type: type[Wait] | type[Fail] | type[NeedConsent]
    reason: str | None
    message: str
    """For people; ``{}`` is replaced by the error's own text, which is stable and has no secret."""
    given_up: str | None = None
    """Reason of a failure at the deadline; None: ``DeadlineExceeded``."""

    def outcome(self, problem: Exception, now: datetime) -> Outcome:
        """Return the outcome of this error."""
        own = problem.reason if isinstance(problem, ArchiveError | KeyUnusable) else "InternalError"
        outcome = self.outcome_type(self.reason or own, self.message.format(problem))
        if isinstance(outcome, Wait):
            given_up = Fail(self.given_up, outcome.message) if self.given_up is not None else None
            return replace(outcome, not_before=_retry_after(problem, now), given_up=given_up)
        return outcome


def _is_instance(*kinds: type[Exception]) -> Callable[[Exception], bool]:
    return lambda problem: isinstance(problem, kinds)


def _is_too_large(*operations: str) -> Callable[[Exception], bool]:
    return lambda problem: isinstance(problem, ResponseTooLarge) and problem.operation in operations


def _has_http_status(*statuses: int) -> Callable[[Exception], bool]:
    return lambda problem: isinstance(problem, HttpStatusError) and problem.status in statuses


def _is_bare(*statuses: int) -> Callable[[Exception], bool]:
    return lambda problem: (
        isinstance(problem, HttpStatusError) and problem.status in statuses and problem.error_id is None
    )


def _is_refusal_of_key(problem: Exception) -> bool:
    return isinstance(problem, HttpStatusError) and problem.may_refuse_key


def _is_bare_refusal_of_key(problem: Exception) -> bool:
    return isinstance(problem, HttpStatusError) and problem.may_refuse_key and problem.error_id is None


def _is_server_error(problem: Exception) -> bool:
    return isinstance(problem, HttpStatusError) and problem.status >= 500


def _has_error_id(error_id: str) -> Callable[[Exception], bool]:
    return lambda problem: isinstance(problem, HttpStatusError) and problem.error_id == error_id


def _retry_after(problem: Exception, now: datetime) -> datetime | None:
    if isinstance(problem, RateLimited | KeyStateUnknown):
        return problem.until
    if isinstance(problem, HttpStatusError) and problem.retry_after is not None:
        return now + timedelta(seconds=problem.retry_after)
    return None


RULES = (
    OutcomeRule(_is_instance(RateLimited), Wait, "EsawThrottling", "eSignAnyWhere asks for a pause."),
    OutcomeRule(_is_instance(EsawUnreachable), Wait, "EsawUnreachable", "{}"),
    OutcomeRule(_is_server_error, Wait, "EsawFailing", "{}"),
    OutcomeRule(_has_http_status(429), Wait, "EsawThrottling", "eSignAnyWhere asks for a pause."),
    OutcomeRule(_has_http_status(408), Wait, "EsawUnreachable", "eSignAnyWhere could not be reached."),
    OutcomeRule(_is_instance(TransferBroken), Wait, "TransferBroken", "{}"),
    OutcomeRule(
        _is_instance(SourceBroken),
        Wait,
        "TransferBroken",
        "eSignAnyWhere sent a file of another length than declared.",
    ),
    # An answer without an end, of a proxy perhaps, has this length, too: it says nothing about the envelope.
    OutcomeRule(
        _is_too_large("configuration", "files"),
        Wait,
        "EsawAnswerUnreadable",
        "{} Perhaps a proxy answers. If the envelope has too much metadata, archive it yourself, then skip "
        "the event.",
    ),
    OutcomeRule(
        _is_instance(TooManyFiles, ManifestTooLarge),
        Fail,
        "EnvelopeTooLarge",
        "{} The envelope stays in eSignAnyWhere.",
    ),
    OutcomeRule(_is_instance(TooManyEvents), Fail, "TooManyEvents", "{}"),
    OutcomeRule(_is_instance(V5ResponseInvalid), Wait, "EsawV5AnswerUnreadable", "{}"),
    OutcomeRule(_is_instance(V5Unavailable), Wait, "EsawV5Unavailable", "{}"),
    OutcomeRule(_is_instance(EnvelopeStatusUnknown), Wait, "EnvelopeStatusUnknown", "{}"),
    OutcomeRule(_is_instance(FileIdMissing), Wait, "FileIdMissing", "{}"),
    OutcomeRule(_is_instance(FileIdRepeated), Wait, "FileIdRepeated", "{}"),
    OutcomeRule(_is_instance(ResponseInvalid), Wait, "EsawAnswerUnreadable", "{}"),
    OutcomeRule(_is_instance(UnexpectedRedirect), Wait, "EsawRedirects", "{}"),
    # eSAW's own 401 has no body either, so only a second one about the same key counts (SenderKeys.doubt).
    OutcomeRule(_is_bare_refusal_of_key, Wait, KEY_DOUBTED, "{}"),
    OutcomeRule(
        _is_refusal_of_key,
        NeedConsent,
        "TokenRejected",
        "eSignAnyWhere does not accept the sender's API key.",
    ),
    # What ``SenderKeys`` knows about a key, also from the 401 to its question whose key it is.
    OutcomeRule(_is_instance(KeyStateUnknown), Wait, None, "{}"),
    OutcomeRule(_is_instance(KeyUnusable), NeedConsent, None, "{}"),
    OutcomeRule(
        _has_error_id(UNSUPPORTED_API_VERSION),
        Fail,
        "UnsupportedApiVersion",
        "The envelope was made by the API v5, and the API v6 refuses this call for it.",
    ),
    # eSAW gives each refusal an error id, apart from the 401 before. The condition Reachable names a wrong
    # base URL.
    OutcomeRule(
        _is_bare(*range(400, 500)),
        Wait,
        "EsawAnswerUnreadable",
        "{} It has no error id of eSAW, so perhaps a proxy or a firewall refused the call.",
    ),
    # The phases handle ERR0007: eSAW does not show the envelope.
    OutcomeRule(_has_http_status(404), Wait, "EsawNotFound", "{}"),
    OutcomeRule(
        _has_http_status(403),
        Fail,
        NOT_PERMITTED,
        "eSignAnyWhere does not permit this to the sender's key (403).",
    ),
    OutcomeRule(_is_instance(HttpStatusError), Fail, "EsawRefused", "{}"),
    # Only a person can solve this: move the stored file, or choose another path.
    OutcomeRule(_is_instance(NameTaken), Fail, None, "{}"),
    OutcomeRule(_is_instance(ManifestUnsealed), Wait, None, "{}", given_up=MANIFEST_UNSEALED),
    # A required tag, metadata, settings: all wait, because the Archive's owner can fix each in time.
    OutcomeRule(_is_instance(ArchiveError), Wait, None, "{}"),
    OutcomeRule(
        _is_instance(NotProven),
        Fail,
        "NotProven",
        "The envelope stays in eSignAnyWhere, since it is not proven that it is archived: {}.",
    ),
    OutcomeRule(
        _is_instance(ApiError),
        Wait,
        "ApiServerTrouble",
        "The Kubernetes API server did not do what was asked.",
    ),
)


def classify(problem: Exception, now: datetime) -> Outcome | None:
    """Return the outcome of an error; None: not in the table, which is a bug in Counterfoil."""
    return next((rule.outcome(problem, now) for rule in RULES if rule.matches(problem)), None)


def classify_or_raise(problem: Exception, now: datetime) -> Outcome:
    """Return the outcome of an error. Raises the error itself if it is not in the table."""
    if (outcome := classify(problem, now)) is None:
        raise problem
    return outcome
