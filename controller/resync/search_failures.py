"""
The reason of an error of one Sender's search, and whether only a person can correct it.

The one error policy decides (``controller.reconcile.error_policy``), as for the phases of an event. The sweep
and the imports use it. A search is repeated in any case, since nothing tells that a person acted in eSAW.
"""

import logging
from datetime import datetime
from typing import NamedTuple

from controller.access.sender_keys import KeyUnusable
from controller.reconcile import error_policy
from controller.reconcile.outcomes import Wait
from counterfoil.esaw.errors import EsawError
from counterfoil.i18n.reasons import Responsible, find_reason

_log = logging.getLogger(__name__)

REPEATED = "The search is repeated automatically."


class SearchFailure(NamedTuple):
    """Why one Sender was not searched."""

    reason: str
    message: str
    """For people. It says that the search is repeated if nobody has to act."""
    not_before: datetime | None = None
    """Earliest time of the next search (Retry-After)."""

    @property
    def needs_person(self) -> bool:
        """Whether only a person can correct it."""
        return find_reason(self.reason).responsible is not Responsible.NOBODY


def search_failure(problem: EsawError | KeyUnusable, now: datetime) -> SearchFailure:
    """Return the reason of an error of a search, and its message."""
    outcome = error_policy.classify(problem, now)
    if outcome is None:
        _log.error("a search broke off", exc_info=problem)
        return SearchFailure(error_policy.INTERNAL_ERROR.reason, error_policy.INTERNAL_ERROR.message)
    until = outcome.not_before if isinstance(outcome, Wait) else None
    failure = SearchFailure(outcome.reason, outcome.message, until)
    # What is said about a key says itself whether the key is tried again.
    if failure.needs_person or isinstance(problem, KeyUnusable):
        return failure
    return failure._replace(message=f"{outcome.message} {REPEATED}")
