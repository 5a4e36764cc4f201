"""
Shared parts of the views of the console: the request, bounded reads with the person's own token, the page.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec

from counterfoil.clock import Clock
from counterfoil.i18n.attention import sender_of
from counterfoil.i18n.catalogue import Catalogue
from counterfoil.kube.answers import parse_each
from counterfoil.kube.errors import ApiError
from counterfoil.kube.shard_leases import served_shard_leases
from counterfoil.kube.watch import Raw
from counterfoil.resources import EnvelopeEvent, Organization, Resource, ResourceInvalid, Sender
from counterfoil.resources.lease import Lease, ShardLeases
from webhook.console.access import ORGANIZATIONS, SENDERS, AuthenticatedUser
from webhook.console.actions import Action, ActionService
from webhook.console.errors import ConsoleErrorKind
from webhook.console.limits import ConsoleLimits
from webhook.console.objects import SenderSearch
from webhook.console.rendering import ConsoleRenderer
from webhook.console.sessions import THEMES
from webhook.http_server.errors import PageError
from webhook.http_server.responses import PageResponse

R = TypeVar("R", bound=Resource)


@dataclass(frozen=True)
class ConsoleRequest:
    """One request of somebody who is signed in."""

    user: AuthenticatedUser
    words: Catalogue
    query: Mapping[str, str]
    here: str
    """Path and query, for coming back."""
    is_refresh: bool = False
    """Whether an open page looks for news: it takes what lives and leaves its forms as they are."""
    theme: str = THEMES[0]
    """Colours that were chosen in this browser, one of ``THEMES``."""


@dataclass(frozen=True)
class EventPage:
    """A page of events."""

    events: tuple[EnvelopeEvent, ...]
    token: str
    """Continue token of the next page; empty on the last one."""


@dataclass(frozen=True)
class FirstObjects(Generic[R]):
    """The first objects of a kind, without those that this version can't read."""

    objects: tuple[R, ...]
    is_cut: bool
    """Whether there are more."""
    unreadable: tuple[ResourceInvalid, ...] = ()
    """Why this version can't read others of them."""


@dataclass(frozen=True)
class ViewBase:
    """Parts of every view. Every method raises ``PageError`` or ``ApiError`` instead of an answer."""

    renderer: ConsoleRenderer
    actions: ActionService
    clock: Clock
    limits: ConsoleLimits

    def _page(self, template: str, request: ConsoleRequest, **values: Any) -> PageResponse:
        html = self.renderer.page(
            template,
            request.words,
            self.clock.now(),
            auth_user=request.user,
            here=request.here,
            theme=request.theme,
            done=_last_result(request.query),
            **values,
        )
        return PageResponse(html=html)

    async def _first(self, user: AuthenticatedUser, kind: type[R]) -> FirstObjects[R]:
        """Return the objects of a kind of which there are few; none when this person may not list it."""
        if not user.rights.can_list(kind.PLURAL):
            return FirstObjects((), is_cut=False)
        invalid = list[ResourceInvalid]()
        parse = partial(parse_each, kind, invalid=invalid)
        found, is_cut = await user.kube.first(kind, parse, limit=self.limits.listed_objects)
        return FirstObjects(tuple(found), is_cut, tuple(invalid))

    async def _choices(self, request: ConsoleRequest, kind: type[R]) -> FirstObjects[R]:
        """Return what a form offers to choose from; nothing where no form is looked at."""
        return FirstObjects((), is_cut=False) if request.is_refresh else await self._first(request.user, kind)

    async def _sender(self, user: AuthenticatedUser, name: str) -> Sender | None:
        if not name or not user.rights.can_list(SENDERS):
            return None
        return await read_sender(user, name)


async def read_sender(user: AuthenticatedUser, name: str) -> Sender | None:
    """Return a Sender; None for one that was deleted or is of another version: its name is shown."""
    try:
        return Sender.parse(await user.kube.get(Sender, name))
    except (ApiError, ResourceInvalid):
        return None


async def read_organization(user: AuthenticatedUser, name: str) -> Organization | None:
    """Return an Organization; None for one that this person may not read, was deleted or is of another
    version."""
    if not user.rights.can_list(ORGANIZATIONS):
        return None
    try:
        return Organization.parse(await user.kube.get(Organization, name))
    except (ApiError, ResourceInvalid):
        return None


async def missing_senders(
    user: AuthenticatedUser,
    events: Iterable[EnvelopeEvent],
    known: FirstObjects[Sender],
    limits: ConsoleLimits,
) -> tuple[Sender, ...]:
    """Return the Senders of events that are not among the first that were read, up to a number."""
    if not user.rights.can_list(SENDERS) or not known.is_cut:
        return ()
    names = {sender_of(each) for each in events} - {each.name for each in known.objects} - {""}
    found = await asyncio.gather(*(read_sender(user, name) for name in sorted(names)[: limits.extra_senders]))
    return tuple(each for each in found if each is not None)


def require(user: AuthenticatedUser, kind: str) -> None:
    """Raise ``PageError`` for somebody who may not list a kind."""
    if not user.rights.can_list(kind):
        raise PageError(ConsoleErrorKind.NOT_ALLOWED, f"{kind} may not be listed")


def size_of(raws: Iterable[Raw]) -> int:
    """Return the size of objects as JSON, in bytes."""
    return sum(len(msgspec.json.encode(each)) for each in raws)


@dataclass
class SenderMatches:
    """Takes the Senders that match a search from page after page, up to a size, and at least one."""

    search: SenderSearch
    most: int
    """Maximum size of those that are kept, as JSON, in bytes."""
    is_cut: bool = False
    """Whether a Sender that matches was left out for the size."""
    _size: int = 0

    def take(self, page: Iterable[Raw]) -> Iterator[Sender]:
        """Yield the Senders of a page that match, without those that this version can't read."""
        for raw in filter(self.search.matches, page):
            self.is_cut = self.is_cut or self._size >= self.most
            if not self.is_cut:
                self._size += size_of([raw])
                yield from parse_each(Sender, [raw])


async def shard_leases(user: AuthenticatedUser, now: datetime) -> ShardLeases | None:
    """Return the Leases of the shards; None if this person may not list them, or they can't be read."""
    if not user.rights.can_list(Lease.PLURAL):
        return None
    try:
        # The console's own namespace is that of its release.
        return await served_shard_leases(user.kube, now, is_release=not user.root)
    except ApiError:
        return None


def counts_by_phase(organizations: tuple[Organization, ...]) -> Counter[str]:
    """Return how many events are in each phase, as the controller counted them."""
    counts: Counter[str] = Counter()
    for each in organizations:
        counts.update(each.status.events)
    return counts


def _last_result(query: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what the last click did, as the way back told it."""
    if query.get("done") not in set(Action):
        return None
    return {"what": query["done"], "has_no_event": "no_event" in query}
