"""
What went wrong -> what we do about it. One table; whoever adds an error adds a row, not an ``except``.

First match wins, so transport errors and 5xx stand first: a network blip must never be final (cert-manager issues
8696 and 8747). What the phases know better (404 with history, 404 to our own delete) they decide before this table.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.reconcile.outcomes import Fail, NeedConsent, Outcome, Wait
from counterfoil.archives.errors import ArchiveError, NameTaken
from counterfoil.archives.filing import SourceBroken
from counterfoil.esaw.errors import (
    EsawUnreachable,
    HttpStatusError,
    NotProven,
    RateLimited,
    ResponseInvalid,
    ResponseTooLarge,
    TransferBroken,
    UnexpectedRedirect,
)
from counterfoil.kube.errors import ApiError

UNSUPPORTED_API_VERSION = "ERR0063"
"""InvalidEnvelopeApiVersion: the envelope was made by the v5 API. (Namirial, "Error Codes")"""


@dataclass(frozen=True)
class OutcomeRule:
    """One row: which errors, and the answer to them. Without a reason it is the ``ArchiveError``'s own."""

    matches: Callable[[Exception], bool]
    outcome_type: type[Wait] | type[Fail] | type[NeedConsent]
    reason: str | None
    message: str
    """For people; ``{}`` stands for the error's own words, which are stable and hold no secret."""

    def outcome(self, problem: Exception, now: datetime) -> Outcome:
        """Return what this error leads to."""
        own = problem.reason if isinstance(problem, ArchiveError) else "InternalError"
        outcome = self.outcome_type(self.reason or own, self.message.format(problem))
        if isinstance(outcome, Wait):
            return replace(outcome, not_before=_retry_after(problem, now))
        return outcome


def _is_instance(kind: type[Exception]) -> Callable[[Exception], bool]:
    return lambda problem: isinstance(problem, kind)


def _is_too_large(*operations: str) -> Callable[[Exception], bool]:
    return lambda problem: isinstance(problem, ResponseTooLarge) and problem.operation in operations


def _has_http_status(*statuses: int) -> Callable[[Exception], bool]:
    return lambda problem: isinstance(problem, HttpStatusError) and problem.status in statuses


def _is_server_error(problem: Exception) -> bool:
    return isinstance(problem, HttpStatusError) and problem.status >= 500


def _has_error_id(error_id: str) -> Callable[[Exception], bool]:
    return lambda problem: isinstance(problem, HttpStatusError) and problem.error_id == error_id


def _retry_after(problem: Exception, now: datetime) -> datetime | None:
    if isinstance(problem, RateLimited):
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
    # What the envelope's owner put into it does not shrink by itself. Any other answer of that size is no answer of eSAW's.
    OutcomeRule(
        _is_too_large("configuration", "files"),
        Fail,
        "EnvelopeTooLarge",
        "{} The envelope stays in eSignAnyWhere.",
    ),
    OutcomeRule(_is_instance(ResponseInvalid), Wait, "EsawAnswerUnreadable", "{}"),
    OutcomeRule(_is_instance(UnexpectedRedirect), Wait, "EsawRedirects", "{}"),
    OutcomeRule(
        _has_http_status(401),
        NeedConsent,
        "TokenRejected",
        "eSignAnyWhere no longer accepts the sender's API key.",
    ),
    OutcomeRule(
        _has_error_id(UNSUPPORTED_API_VERSION),
        Fail,
        "UnsupportedApiVersion",
        "The envelope was made by the v5 API; the v6 API cannot read it.",
    ),
    OutcomeRule(
        _has_http_status(403),
        Fail,
        "NotPermitted",
        "eSignAnyWhere does not permit this to the sender's key (403).",
    ),
    OutcomeRule(_has_http_status(404), Wait, "EsawNotFound", "{}"),
    OutcomeRule(_is_instance(HttpStatusError), Fail, "EsawRefused", "{}"),
    # Nothing changes by itself here: a person moves what lies there, or chooses another path.
    OutcomeRule(_is_instance(NameTaken), Fail, None, "{}"),
    # A required tag, metadata, settings: all wait, since the Archive's owner can mend each of them without losing time.
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
    """Return what an error leads to; None for one that is not in the table, which is a bug of ours."""
    return next((rule.outcome(problem, now) for rule in RULES if rule.matches(problem)), None)
