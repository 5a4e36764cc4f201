"""
List one user's envelopes in the windows of the time of sending.

The sweep and the imports use it. Each envelope is yielded once, also if eSAW repeats it; ``max_hits`` bounds
what one listing keeps in memory. An answer of eSAW about the key is passed to ``SenderKeys``.

``search_failure`` has the reason of an error of one Sender's search, and whether only a person can correct
it. The one error policy decides that (``controller.reconcile.error_policy``), as for the phases of an event.
A search is repeated in any case, since nothing tells that a person acted in eSAW.

This module decides neither what to do with an envelope nor where a search continues, and creates nothing.
"""

import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from controller.access.sender_keys import KeyUnusable, SenderKeys
from controller.reconcile import error_policy
from controller.reconcile.outcomes import Wait
from controller.resync.envelope_search import EnvelopeSearch
from counterfoil.esaw.client import EsawClients, EsawUserClient
from counterfoil.esaw.errors import EsawError, HttpStatusError
from counterfoil.i18n.reasons import Responsible, find_reason
from counterfoil.resources import EnvelopeStatus, Organization, Sender, envelope_id
from counterfoil.resources.naming import EnvelopeId

_log = logging.getLogger(__name__)


class TooManyListed(Exception):
    """eSAW lists more envelopes than one search examines."""


class Window(NamedTuple):
    """A span of the time of sending."""

    start: datetime
    end: datetime


class ListedEnvelope(NamedTuple):
    """One envelope that eSAW lists."""

    id: EnvelopeId | None
    """None: eSAW listed something that is no GUID."""
    status: EnvelopeStatus
    text: str
    """The id, as eSAW listed it."""


def windows_back(end: datetime, oldest: datetime, length: timedelta) -> Iterator[Window]:
    """Yield the windows from ``end`` back to ``oldest``, the newest first; the last one may be shorter."""
    while end > oldest:
        start = max(end - length, oldest)
        yield Window(start, end)
        end = start


@asynccontextmanager
async def user_of(
    sender: Sender, organization: Organization, *, sender_keys: SenderKeys, esaw_clients: EsawClients
) -> AsyncIterator[EsawUserClient]:
    """
    Provide the client with the sender's key, and report it when eSAW refuses the key.

    Raises ``KeyUnusable``, ``ApiError``, and what the block raises.
    """
    esaw = esaw_clients.for_organization(organization)
    token = await sender_keys.key(sender, esaw)
    try:
        yield esaw.as_user(token)
    except HttpStatusError as answer:
        if answer.may_refuse_key and answer.error_id is None:
            sender_keys.doubt(sender, token)
        elif answer.may_refuse_key:
            await sender_keys.refused(sender, token)
        raise


@dataclass
class EnvelopeListing:
    """The envelopes that one user's key shows, each of them once."""

    search: EnvelopeSearch
    max_hits: int
    _seen: set[str] = field(default_factory=set)

    async def listed(
        self, statuses: Sequence[EnvelopeStatus], window: Window
    ) -> AsyncIterator[ListedEnvelope]:
        """
        Yield the envelopes of these statuses in the window that were not yielded before.

        Raises ``EsawError``, ``TooManyRequests``, ``TooManyListed``, and what the check of the search raises.
        """
        for status in statuses:
            async for found in self.search.between(status, *window):
                # A GUID has 36 characters; anything longer is none.
                if (key := found[:37].lower()) in self._seen:
                    continue
                if len(self._seen) >= self.max_hits:
                    raise TooManyListed(f"has more than {self.max_hits} envelopes")
                self._seen.add(key)
                yield ListedEnvelope(_id(found), status, found)


def _id(found: str) -> EnvelopeId | None:
    try:
        return envelope_id(found)
    except ValueError:
        return None


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
