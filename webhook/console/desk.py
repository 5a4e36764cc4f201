"""
The desk: what each page shows, and what a form leads to; each ends in a page or in a ``Trouble``.

Everything is read with the visitor's own token. A page that a visitor may not see at all is a ``Trouble``; a part of a page
that concerns a kind which the visitor may not list is left out. Lists come in pages that the API server chose.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from http import HTTPStatus
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlencode

from counterfoil.clock import Clock
from counterfoil.cluster import ApiProblem, Cluster, Expired, Forbidden
from counterfoil.resources import (
    ORGANIZATION_LABEL,
    Archive,
    EnvelopeEvent,
    Organization,
    Phase,
    Resource,
    ResourceInvalid,
    Sender,
)
from counterfoil.resources.acting import acts_of
from webhook.console import attention, charts, filters
from webhook.console.actions import KINDS, Actions, Deed, Done, What
from webhook.console.attention import Estate
from webhook.console.limits import ConsoleLimits
from webhook.console.problems import Kind, Trouble
from webhook.console.rendering import Renderer
from webhook.console.requests import here, is_name
from webhook.console.timeline import moments
from webhook.console.visitors import ARCHIVES, EVENTS, ORGANIZATIONS, SENDERS, Visitor
from webhook.pages.languages import Words

R = TypeVar("R", bound=Resource)


class Reply(NamedTuple):
    """What the browser gets: a page or a way on."""

    html: str = ""
    location: str = ""
    status: HTTPStatus = HTTPStatus.OK


@dataclass(frozen=True)
class Visit:
    """One request of somebody who is signed in."""

    visitor: Visitor
    words: Words
    query: Mapping[str, str]
    here: str
    """Path and query, for coming back."""
    is_news: bool = False
    """Whether an open page looks for news: it takes what lives and leaves its forms as they are."""


@dataclass(frozen=True)
class Found:
    """A page of events."""

    events: tuple[EnvelopeEvent, ...]
    token: str
    """Where the next page begins; empty: this was the last."""
    is_cut: bool = False
    """Whether the search for an age stopped before a page was full."""


class Desk:
    """Makes the pages. Every method raises ``Trouble`` or ``ApiProblem`` instead of an answer."""

    def __init__(self, renderer: Renderer, actions: Actions, clock: Clock, *, limits: ConsoleLimits) -> None:
        self._renderer = renderer
        self._actions = actions
        self._clock = clock
        self._limits = limits

    # -- Attention ------------------------------------------------------------------------------------------

    async def attention(self, visit: Visit) -> Reply:
        """What waits for a person, by cause."""
        if not visit.visitor.rights.sees_anything:
            raise Trouble(Kind.NOT_ALLOWED, "nothing of Counterfoil may be listed")
        wanted = visit.query.get("organization", "")
        estate = await self._estate(visit.visitor, wanted if is_name(wanted) else "")
        shown = tuple(each for each in estate.organizations if estate.of in ("", each.name))
        return self._page(
            "attention.html",
            visit,
            entries=attention.entries(estate),
            organizations=estate.organizations,
            of=estate.of,
            charts=charts.at_a_glance(shown),
            counts=_counted(shown),
        )

    async def _estate(self, visitor: Visitor, of: str) -> Estate:
        mine = f",spec.organizationRef.name={of}" if of else ""
        labels = f"{ORGANIZATION_LABEL}={of}" if of else ""
        organizations, senders, archives, failed, waiting = await asyncio.gather(
            self._all(visitor, Organization),
            self._all(visitor, Sender),
            self._all(visitor, Archive),
            self._first_events(visitor, f"status.phase={Phase.FAILED}{mine}", labels),
            self._first_events(visitor, f"status.phase={Phase.AWAITING_CONSENT}{mine}", labels),
        )
        strangers = await self._others(visitor, senders, waiting.events)
        return Estate(
            organizations=organizations,
            senders=(*senders, *strangers),
            archives=archives,
            failed=failed.events,
            waiting=waiting.events,
            is_more_failed=bool(failed.token),
            is_more_waiting=bool(waiting.token),
            of=of,
        )

    async def _others(
        self, visitor: Visitor, known: tuple[Sender, ...], waiting: tuple[EnvelopeEvent, ...]
    ) -> tuple[Sender, ...]:
        """Return senders whose events wait, and who are not among the first that were read, up to a number."""
        if not visitor.rights.see(SENDERS) or len(known) < self._limits.others:
            return ()
        names = {attention.sender_of(each) for each in waiting} - {each.name for each in known} - {""}
        found = await asyncio.gather(
            *(self._sender_named(visitor, name) for name in sorted(names)[: self._limits.strangers])
        )
        return tuple(each for each in found if each is not None)

    # -- Events ---------------------------------------------------------------------------------------------

    async def events(self, visit: Visit) -> Reply:
        """A page of the events that a person asks for."""
        visitor = visit.visitor
        _require(visitor, EVENTS)
        wanted = filters.read(visit.query)
        if wanted.event:
            return Reply(location=f"/events/{wanted.event}")
        (found, is_anew), organizations, senders = await asyncio.gather(
            self._find(visitor, wanted), self._choices(visit, Organization), self._choices(visit, Sender)
        )
        shown = found.events
        is_whole = not found.token and not wanted.token
        if is_whole:
            shown = tuple(sorted(shown, key=_created, reverse=True))
        return self._page(
            "events.html",
            visit,
            events=shown,
            found=found,
            filter=wanted,
            is_anew=is_anew,
            is_whole=is_whole,
            organizations=organizations,
            senders=senders,
            title_of=attention.title_of,
            counts=_counted(organizations),
            phases=tuple(Phase),
            ages=tuple(filters.AGES),
            sender_of=attention.sender_of,
        )

    async def _find(self, visitor: Visitor, wanted: filters.Filter) -> tuple[Found, bool]:
        """Return a page of events, and whether it had to begin anew because its token was too old."""
        try:
            return await self._search(visitor.cluster, wanted), False
        except Expired:
            return await self._search(visitor.cluster, replace(wanted, token="")), True

    async def _search(self, cluster: Cluster, wanted: filters.Filter) -> Found:
        now, token = self._clock.now(), wanted.token
        kept: list[dict[str, Any]] = []
        read = 0
        while True:
            page, token = await cluster.page(
                EnvelopeEvent,
                # A search goes on with all that it may look at, since each question costs the API server the same again.
                limit=self._limits.scanned - read if read else self._limits.rows,
                token=token,
                labels=wanted.labels,
                fields=wanted.fields,
            )
            read += len(page)
            kept += [raw for raw in page if wanted.is_young_enough(raw, now)]
            # Whole pages only, since a token leads behind a page and nowhere else.
            if not token or not wanted.age or len(kept) >= self._limits.rows // 2:
                return Found(_parsed(EnvelopeEvent, kept), token)
            if read >= self._limits.scanned:
                return Found(_parsed(EnvelopeEvent, kept), token, is_cut=True)

    async def event(self, visit: Visit, name: str) -> Reply:
        """Everything about one event."""
        cluster = visit.visitor.cluster
        try:
            event = EnvelopeEvent.parse(await cluster.get(EnvelopeEvent, name))
        except ResourceInvalid:
            # Stored by another version of the CRD: what can't be explained can be shown.
            return Reply(location=f"/events/{name}/yaml")
        told, sender = await asyncio.gather(
            self._told(visit.visitor, event), self._sender(visit.visitor, event)
        )
        return self._page(
            "event.html",
            visit,
            event=event,
            first=self._first(visit, len(event.status.documents)),
            sender=sender,
            title_of=attention.title_of,
            moments=moments(event, told),
        )

    def _first(self, visit: Visit, count: int) -> int:
        """Return with which document the page begins: the first of one of the pages that there are."""
        asked = visit.query.get("from", "")
        first = int(asked) if re.fullmatch("[0-9]{1,6}", asked) else 0
        return first if first < count and first % self._limits.documents == 0 else 0

    async def yaml(self, visit: Visit, name: str) -> Reply:
        """One event as it is stored."""
        raw = await visit.visitor.cluster.get(EnvelopeEvent, name)
        return self._page("yaml.html", visit, name=name, raw=raw)

    async def _told(self, visitor: Visitor, event: EnvelopeEvent) -> tuple[Mapping[str, Any], ...]:
        if not visitor.rights.see("events"):
            return ()
        try:
            return tuple(await visitor.cluster.events_about(event.uid, limit=self._limits.told))
        except ApiProblem:
            # They are an addition; the page is about the event itself.
            return ()

    async def _sender(self, visitor: Visitor, event: EnvelopeEvent) -> Sender | None:
        name = attention.sender_of(event)
        return await self._sender_named(visitor, name) if name and visitor.rights.see(SENDERS) else None

    async def _sender_named(self, visitor: Visitor, name: str) -> Sender | None:
        try:
            return Sender.parse(await visitor.cluster.get(Sender, name))
        except (ApiProblem, ResourceInvalid):
            return None

    # -- The other kinds ------------------------------------------------------------------------------------

    async def senders(self, visit: Visit) -> Reply:
        """All senders, a page at a time."""
        _require(visit.visitor, SENDERS)
        wanted = visit.query.get("organization", "")
        of = wanted if is_name(wanted) else ""
        (page, token), organizations = await asyncio.gather(
            visit.visitor.cluster.page(
                Sender,
                limit=self._limits.rows,
                token=visit.query.get("token", ""),
                labels=f"{ORGANIZATION_LABEL}={of}" if of else "",
            ),
            self._all(visit.visitor, Organization),
        )
        return self._page(
            "senders.html",
            visit,
            senders=_parsed(Sender, page),
            next=urlencode({"organization": of, "token": token} if of else {"token": token}) if token else "",
            title_of=attention.title_of,
            link_of=lambda sender: attention.consent_link(sender, organizations),
            acts_of=acts_of,
            of=of,
        )

    async def archives(self, visit: Visit) -> Reply:
        """All archives."""
        _require(visit.visitor, ARCHIVES)
        found = await self._all(visit.visitor, Archive)
        return self._page("archives.html", visit, archives=found, acts_of=acts_of)

    async def organizations(self, visit: Visit) -> Reply:
        """All organizations, each with a chart of its callbacks."""
        _require(visit.visitor, ORGANIZATIONS)
        found = await self._all(visit.visitor, Organization)
        return self._page(
            "organizations.html",
            visit,
            organizations=found,
            charts={each.name: charts.callbacks(each) for each in found},
            acts_of=acts_of,
        )

    # -- What a person does ---------------------------------------------------------------------------------

    async def act(self, visit: Visit, form: Mapping[str, str]) -> Reply:
        """Do what a form asks for, and lead back to where it was."""
        deed = self._deed(form)
        organization, name = form.get("organization", ""), form.get("name", "")
        if form.get("kind") == "cause":
            if not is_name(organization):
                raise Trouble(Kind.LINK_BROKEN, "the form names no organization")
            done = await self._actions.on_failed(visit.visitor, organization, form.get("reason", ""), deed)
        else:
            kind = KINDS.get(form.get("kind", ""))
            if kind is None or not is_name(name):
                raise Trouble(Kind.LINK_BROKEN, "the form names nothing that can be acted on")
            done = await self._actions.on_one(visit.visitor, kind, name, deed)
        return Reply(location=_back(here(form.get("back", "/")), deed, done))

    def _deed(self, form: Mapping[str, str]) -> Deed:
        try:
            what = What(form.get("what", ""))
        except ValueError:
            raise Trouble(Kind.LINK_BROKEN, "the form asks for nothing that is known") from None
        why = " ".join(form.get("why", "").split())
        if len(why) > self._limits.reason:
            raise Trouble(Kind.TOO_LARGE, "the reason is too long")
        return Deed(what, why)

    # -- How ------------------------------------------------------------------------------------------------

    def _page(self, template: str, visit: Visit, **values: Any) -> Reply:
        html = self._renderer.page(
            template,
            visit.words,
            self._clock.now(),
            visitor=visit.visitor,
            here=visit.here,
            done=_done(visit.query),
            **values,
        )
        return Reply(html=html)

    async def _all(self, visitor: Visitor, kind: type[R]) -> tuple[R, ...]:
        """Return the objects of a kind of which there are few; none when this person may not list it."""
        if not visitor.rights.see(kind.PLURAL):
            return ()
        page, _ = await visitor.cluster.page(kind, limit=self._limits.others)
        return _parsed(kind, page)

    async def _choices(self, visit: Visit, kind: type[R]) -> tuple[R, ...]:
        """Return what a form offers to choose from; nothing where no form is looked at."""
        return () if visit.is_news else await self._all(visit.visitor, kind)

    async def _first_events(self, visitor: Visitor, fields: str, labels: str) -> Found:
        """Return the first events of a selection; none when this person may not list events."""
        if not visitor.rights.see(EVENTS):
            return Found((), "")
        try:
            page, token = await visitor.cluster.page(
                EnvelopeEvent, limit=self._limits.surveyed, fields=fields, labels=labels
            )
        except Forbidden:
            # The right was taken away since it was asked about.
            return Found((), "")
        return Found(_parsed(EnvelopeEvent, page), token)


def _require(visitor: Visitor, kind: str) -> None:
    if not visitor.rights.see(kind):
        raise Trouble(Kind.NOT_ALLOWED, f"{kind} may not be listed")


def _parsed(kind: type[R], page: list[dict[str, Any]]) -> tuple[R, ...]:
    found = []
    for raw in page:
        try:
            found.append(kind.parse(raw))
        except ResourceInvalid:
            # Stored by another version of the CRD; kubectl shows it, and the controller logs it.
            continue
    return tuple(found)


def _created(event: EnvelopeEvent) -> datetime:
    created = event.metadata.creation_timestamp
    return created if created is not None else datetime.fromtimestamp(0).astimezone()


def _counted(organizations: tuple[Organization, ...]) -> dict[str, int]:
    """Return how many events are in each phase, as the controller counted them."""
    counts: dict[str, int] = {}
    for each in organizations:
        for phase, count in each.status.events.items():
            counts[phase] = counts.get(phase, 0) + count
    return counts


def _back(location: str, deed: Deed, done: Done) -> str:
    path, _, query = location.partition("?")
    path, kept = path.partition("#")[0], query.partition("#")[0]
    told = urlencode(
        {"done": deed.what, "n": done.count, **({"more": "1"} if done.is_more else {})}
        | ({} if done.is_told else {"untold": "1"})
    )
    pairs = [pair for pair in kept.split("&") if pair and pair.split("=")[0] not in _TOLD]
    return f"{path}?{'&'.join([*pairs, told])}"


_TOLD = frozenset({"done", "n", "more", "untold"})


def _done(query: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what the last click did, as the way back told it."""
    if query.get("done") not in set(What) or not query.get("n", "").isdecimal():
        return None
    return {
        "what": query["done"],
        "count": int(query["n"][:9]),
        "is_more": "more" in query,
        "is_untold": "untold" in query,
    }
