"""
What went wrong -> what we do about it. One table; whoever adds an error adds a row, not an ``except``.

First match wins, so transport errors and 5xx stand first: a network blip must never be final (cert-manager issues
8696 and 8747). What the phases know better (404 with history, 404 to our own delete) they decide before this table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from controller.outcomes import Fail, NeedConsent, Outcome, Wait
from counterfoil.archives.filing import SourceBroken
from counterfoil.archives.trouble import ArchiveTrouble, Occupied
from counterfoil.cluster import ApiProblem
from counterfoil.esaw.problems import (
    Answered,
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
    """One row: which errors, and what they lead to."""

    matches: Callable[[Exception], bool]
    outcome: Callable[[Exception, datetime], Outcome]


def _is(kind: type[Exception] | tuple[type[Exception], ...]) -> Callable[[Exception], bool]:
    return lambda problem: isinstance(problem, kind)


def _answered(*statuses: int) -> Callable[[Exception], bool]:
    return lambda problem: isinstance(problem, Answered) and problem.status in statuses


def _server_failed(problem: Exception) -> bool:
    return isinstance(problem, Answered) and problem.status >= 500


def _has_error_id(error_id: str) -> Callable[[Exception], bool]:
    return lambda problem: isinstance(problem, Answered) and problem.error_id == error_id


def _wait(reason: str, message: str) -> Callable[[Exception, datetime], Outcome]:
    return lambda problem, now: Wait(reason, message.format(problem), not_before=_retry_after(problem, now))


def _fail(reason: str, message: str) -> Callable[[Exception, datetime], Outcome]:
    return lambda problem, now: Fail(reason, message.format(problem))


def _retry_after(problem: Exception, now: datetime) -> datetime | None:
    if isinstance(problem, Paused):
        return problem.until
    if isinstance(problem, Answered) and problem.retry_after is not None:
        return now + timedelta(seconds=problem.retry_after)
    return None


def _archive_trouble(kind: type[Wait] | type[Fail]) -> Callable[[Exception, datetime], Outcome]:
    def outcome(problem: Exception, now: datetime) -> Outcome:
        # An ArchiveTrouble brings its own stable reason, and words for the administrator.
        reason = problem.reason if isinstance(problem, ArchiveTrouble) else "ArchiveFailing"
        return kind(reason, str(problem))

    return outcome


TABLE = (
    Row(_is(Paused), _wait("EsawThrottling", "eSignAnyWhere asks for a pause.")),
    Row(_is(Unreachable), _wait("EsawUnreachable", "{}")),
    Row(_server_failed, _wait("EsawFailing", "{}")),
    Row(_answered(429), _wait("EsawThrottling", "eSignAnyWhere asks for a pause.")),
    Row(_answered(408), _wait("EsawUnreachable", "eSignAnyWhere could not be reached.")),
    Row(_is(TransferBroken), _wait("TransferBroken", "{}")),
    Row(
        _is(SourceBroken),
        _wait("TransferBroken", "eSignAnyWhere sent a file of another length than declared."),
    ),
    Row(_is(AnswerUnreadable), _wait("EsawAnswerUnreadable", "{}")),
    Row(_is(RedirectRefused), _wait("EsawRedirects", "{}")),
    Row(
        _answered(401),
        lambda problem, now: NeedConsent(
            "TokenRejected", "eSignAnyWhere no longer accepts the sender's API key."
        ),
    ),
    Row(
        _has_error_id(UNSUPPORTED_API_VERSION),
        _fail("UnsupportedApiVersion", "The envelope was made by the v5 API; the v6 API cannot read it."),
    ),
    Row(
        _answered(403), _fail("NotPermitted", "eSignAnyWhere does not permit this to the sender's key (403).")
    ),
    Row(_answered(404), _wait("EsawNotFound", "{}")),
    Row(_is(Answered), _fail("EsawRefused", "{}")),
    # Nothing changes by itself here: a person moves what lies there, or chooses another path.
    Row(_is(Occupied), _archive_trouble(Fail)),
    # A required tag, metadata, settings: all wait, since the Archive's owner can mend each of them without losing time.
    Row(_is(ArchiveTrouble), _archive_trouble(Wait)),
    Row(
        _is(NotProven),
        _fail(
            "NotProven",
            "The envelope stays in eSignAnyWhere, since it is not proven that it is archived: {}.",
        ),
    ),
    Row(_is(ApiProblem), _wait("ApiServerTrouble", "The Kubernetes API server did not do what was asked.")),
)


def judge(problem: Exception, now: datetime) -> Outcome | None:
    """Return what an error leads to; None for one that is not in the table, which is a bug of ours."""
    return next((row.outcome(problem, now) for row in TABLE if row.matches(problem)), None)
