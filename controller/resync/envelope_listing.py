"""
List one user's envelopes in the windows of the time of sending.

The sweep and the imports use it. Each envelope is yielded once, also if eSAW repeats it; ``max_hits`` bounds
what one listing keeps in memory. An answer of eSAW about the key is passed to ``SenderKeys``.

This module decides neither what to do with an envelope nor where a search continues, and creates nothing.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from controller.access.sender_keys import SenderKeys
from controller.resync.envelope_search import EnvelopeSearch
from counterfoil.esaw.client import EsawClients, EsawUserClient
from counterfoil.esaw.errors import HttpStatusError
from counterfoil.resources import EnvelopeStatus, Organization, Sender, envelope_id
from counterfoil.resources.naming import EnvelopeId


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
