"""
Search for events: pages of the API server are read with the person's own token and compared with the filter.

One request reads a bounded number of events, and returns where the next one continues. The token of a page
leads behind the whole page, so a page is always compared completely.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from counterfoil.clock import Clock
from counterfoil.i18n.attention import title_of
from counterfoil.kube.answers import parse_each
from counterfoil.kube.errors import Expired
from counterfoil.kube.watch import Raw
from counterfoil.resources import SENDER_LABEL, EnvelopeEvent, Sender
from webhook.console.access import SENDERS, AuthenticatedUser
from webhook.console.events.filters import EventFilter
from webhook.console.limits import ConsoleLimits
from webhook.console.view_base import FirstObjects, missing_senders, size_of


@dataclass(frozen=True)
class FoundEvents:
    """The events of one page of the list."""

    events: tuple[EnvelopeEvent, ...]
    token: str
    """Continue token of the next page; empty on the last one."""
    are_all_senders_known: bool
    """Whether all Senders were read that the filter may mean."""
    is_truncated: bool = False
    """Whether the search stopped before a page was full."""
    looked: int = 0
    """Number of events that were read."""
    is_restarted: bool = False
    """Whether the search began again, because its token had expired."""


@dataclass(frozen=True)
class ReadEvents:
    """Some events that match, and how many were read for them."""

    raws: list[Raw]
    token: str
    looked: int
    are_all_senders_known: bool
    """Whether all Senders were read that the filter may mean."""


class KnownSender(NamedTuple):
    """A Sender, as far as the console searches and exports it."""

    name: str
    title: str
    email: str


class KnownSenders(NamedTuple):
    """The Senders that were read; ``are_all`` says whether these are all."""

    senders: tuple[KnownSender, ...]
    are_all: bool


class NamedSenders(NamedTuple):
    """The names of the Senders that a filter means, as far as ``are_all`` Senders were read."""

    names: frozenset[str]
    are_all: bool


@dataclass(frozen=True)
class EventSearch:
    """Finds events. Every method raises ``ApiError``."""

    clock: Clock
    limits: ConsoleLimits

    async def page(self, user: AuthenticatedUser, wanted: EventFilter) -> FoundEvents:
        """Return a page of the list; from the beginning if its token has expired."""
        senders = await self.named_senders(user, wanted)
        try:
            return await self._page(user, wanted, senders)
        except Expired:
            return replace(await self._page(user, replace(wanted, token=""), senders), is_restarted=True)

    async def _page(self, user: AuthenticatedUser, wanted: EventFilter, senders: NamedSenders) -> FoundEvents:
        kept: list[Raw] = []
        token, looked, size = wanted.token, 0, 0
        is_compared = wanted.is_compared or self._are_compared(wanted, senders)
        # To sort a list, more of it is read at once.
        first = self.limits.sorted_rows if wanted.sort else self.limits.rows
        while True:
            left = self.limits.scanned - looked
            limit = min(left, self.limits.scan_rows) if looked else first
            read = await self._read(user, wanted, senders, token, limit)
            kept, token, looked = kept + read.raws, read.token, looked + read.looked
            is_full = not token or not is_compared or len(kept) >= self.limits.rows // 2
            size += 0 if is_full else size_of(read.raws)
            if is_full or looked >= self.limits.scanned or size >= self.limits.kept_bytes:
                return FoundEvents(
                    parse_each(EnvelopeEvent, kept),
                    token,
                    senders.are_all,
                    is_truncated=not is_full,
                    looked=looked,
                )

    async def each(self, user: AuthenticatedUser, wanted: EventFilter) -> AsyncIterator[ReadEvents]:
        """Yield all events of a filter, page by page; the caller stops at its bound."""
        senders = await self.named_senders(user, wanted)
        token = wanted.token
        while True:
            read = await self._read(user, wanted, senders, token, self.limits.batch_rows)
            yield read
            token = read.token
            if not token:
                return

    async def _read(
        self, user: AuthenticatedUser, wanted: EventFilter, senders: NamedSenders, token: str, limit: int
    ) -> ReadEvents:
        if wanted.is_for_email and not senders.names:
            return ReadEvents([], "", 0, senders.are_all)
        are_compared = self._are_compared(wanted, senders)
        labels = wanted.labels(frozenset() if are_compared else senders.names)
        page, token = await user.kube.page(
            EnvelopeEvent, limit=limit, token=token, labels=labels, fields=wanted.fields
        )
        now = self.clock.now()
        found = [raw for raw in page if wanted.matches(raw, now, senders.names)]
        if are_compared:
            found = [raw for raw in found if _labelled_sender(raw) in senders.names]
        return ReadEvents(found, token, len(page), senders.are_all)

    def _are_compared(self, wanted: EventFilter, senders: NamedSenders) -> bool:
        """Whether the Senders of an e-mail address are too many for a selector of one request. None of them
        may be left out: an action or a file would then concern a part of what it says."""
        return wanted.is_for_email and len(senders.names) > self.limits.named_senders

    # -- Senders --------------------------------------------------------------------------------------------

    async def named_senders(self, user: AuthenticatedUser, wanted: EventFilter) -> NamedSenders:
        """Return the Senders whose name or e-mail address has the text of a filter."""
        if not (wanted.is_for_email or wanted.is_for_words):
            return NamedSenders(frozenset(), are_all=True)
        senders, are_all = await self.senders(user)
        names = (each.name for each in senders if wanted.names_sender(_texts(each, wanted)))
        return NamedSenders(frozenset(names), are_all)

    async def senders(self, user: AuthenticatedUser) -> KnownSenders:
        """Return the Senders, up to a number and a size; none when this person may not list them."""
        if not user.rights.can_list(SENDERS):
            return KnownSenders((), are_all=False)
        found, is_cut = await user.kube.first(
            Sender, _known_senders, limit=self.limits.searched_senders, most=self.limits.searched_bytes
        )
        return KnownSenders(tuple(found), are_all=not is_cut)

    async def senders_of(
        self, user: AuthenticatedUser, events: Iterable[EnvelopeEvent], known: FirstObjects[Sender]
    ) -> Mapping[str, Sender]:
        """Return the Senders of events by name, as far as they can be read, up to a number."""
        others = await missing_senders(user, events, known, self.limits)
        return {each.name: each for each in (*known.objects, *others)}


def _labelled_sender(raw: Raw) -> str:
    name: str = (raw["metadata"].get("labels") or {}).get(SENDER_LABEL, "")
    return name


def _known_senders(page: Iterable[Raw]) -> list[KnownSender]:
    return [
        KnownSender(each.name, title_of(each), each.spec.email or "") for each in parse_each(Sender, page)
    ]


def _texts(sender: KnownSender, wanted: EventFilter) -> tuple[str, ...]:
    return (sender.email,) if wanted.is_for_email else (sender.email, sender.title)
