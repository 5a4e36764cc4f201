"""
What went wrong -> what we do about it. One table; whoever adds an error adds a row, not an ``except``.

First match wins, so transport errors and 5xx stand first: a network blip must never be final (cert-manager issues
8696 and 8747). What the phases know better (404 with history, 404 to our own delete) they decide before this table.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controller.outcomes import Fail, NeedConsent, Outcome, Wait
from counterfoil.archives.filing import SourceBroken
from counterfoil.archives.trouble import ArchiveTrouble, Occupied
from counterfoil.cluster import ApiProblem
from counterfoil.esaw.problems import (
    Answered,
    AnswerTooLarge,
    AnswerUnreadable,
    NotProven,
    Paused,
    RedirectRefused,
    TransferBroken,
    Unreachable,
)

UNSUPPORTED_API_VERSION = "ERR0063"
"""InvalidEnvelopeApiVersion: the envelope was made by the v5 API. (Namirial, "Error Codes")"""


@dataclass(frozen=True)
class Row:
    """One row: which errors, and the answer to them. Without a reason it is the ``ArchiveTrouble``'s own."""

    matches: Callable[[Exception], bool]
    answer: type[Wait] | type[Fail] | type[NeedConsent]
    reason: str | None
    message: str
    """For people; ``{}`` stands for the error's own words, which are stable and hold no secret."""

    def outcome(self, problem: Exception, now: datetime) -> Outcome:
        """Return what this error leads to."""
        own = problem.reason if isinstance(problem, ArchiveTrouble) else "InternalError"
        outcome = self.answer(self.reason or own, self.message.format(problem))
        if isinstance(outcome, Wait):
            return replace(outcome, not_before=_retry_after(problem, now))
        return outcome


def _is(kind: type[Exception]) -> Callable[[Exception], bool]:
    return lambda problem: isinstance(problem, kind)


def _is_too_much_of(*operations: str) -> Callable[[Exception], bool]:
    return lambda problem: isinstance(problem, AnswerTooLarge) and problem.operation in operations


def _answered(*statuses: int) -> Callable[[Exception], bool]:
    return lambda problem: isinstance(problem, Answered) and problem.status in statuses


def _server_failed(problem: Exception) -> bool:
    return isinstance(problem, Answered) and problem.status >= 500


def _has_error_id(error_id: str) -> Callable[[Exception], bool]:
    return lambda problem: isinstance(problem, Answered) and problem.error_id == error_id


def _retry_after(problem: Exception, now: datetime) -> datetime | None:
    if isinstance(problem, Paused):
        return problem.until
    if isinstance(problem, Answered) and problem.retry_after is not None:
        return now + timedelta(seconds=problem.retry_after)
    return None


TABLE = (
    Row(_is(Paused), Wait, "EsawThrottling", "eSignAnyWhere asks for a pause."),
    Row(_is(Unreachable), Wait, "EsawUnreachable", "{}"),
    Row(_server_failed, Wait, "EsawFailing", "{}"),
    Row(_answered(429), Wait, "EsawThrottling", "eSignAnyWhere asks for a pause."),
    Row(_answered(408), Wait, "EsawUnreachable", "eSignAnyWhere could not be reached."),
    Row(_is(TransferBroken), Wait, "TransferBroken", "{}"),
    Row(
        _is(SourceBroken),
        Wait,
        "TransferBroken",
        "eSignAnyWhere sent a file of another length than declared.",
    ),
    # What the envelope's owner put into it does not shrink by itself. Any other answer of that size is no answer of eSAW's.
    Row(
        _is_too_much_of("configuration", "files"),
        Fail,
        "EnvelopeTooLarge",
        "{} The envelope stays in eSignAnyWhere.",
    ),
    Row(_is(AnswerUnreadable), Wait, "EsawAnswerUnreadable", "{}"),
    Row(_is(RedirectRefused), Wait, "EsawRedirects", "{}"),
    Row(
        _answered(401), NeedConsent, "TokenRejected", "eSignAnyWhere no longer accepts the sender's API key."
    ),
    Row(
        _has_error_id(UNSUPPORTED_API_VERSION),
        Fail,
        "UnsupportedApiVersion",
        "The envelope was made by the v5 API; the v6 API cannot read it.",
    ),
    Row(
        _answered(403), Fail, "NotPermitted", "eSignAnyWhere does not permit this to the sender's key (403)."
    ),
    Row(_answered(404), Wait, "EsawNotFound", "{}"),
    Row(_is(Answered), Fail, "EsawRefused", "{}"),
    # Nothing changes by itself here: a person moves what lies there, or chooses another path.
    Row(_is(Occupied), Fail, None, "{}"),
    # A required tag, metadata, settings: all wait, since the Archive's owner can mend each of them without losing time.
    Row(_is(ArchiveTrouble), Wait, None, "{}"),
    Row(
        _is(NotProven),
        Fail,
        "NotProven",
        "The envelope stays in eSignAnyWhere, since it is not proven that it is archived: {}.",
    ),
    Row(_is(ApiProblem), Wait, "ApiServerTrouble", "The Kubernetes API server did not do what was asked."),
)


def judge(problem: Exception, now: datetime) -> Outcome | None:
    """Return what an error leads to; None for one that is not in the table, which is a bug of ours."""
    return next((row.outcome(problem, now) for row in TABLE if row.matches(problem)), None)
