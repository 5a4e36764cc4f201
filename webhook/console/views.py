"""
The views of the console: each page and each form ends in a page, a redirect or a ``PageError``.

All reads use the person's own token. A page that the person may not read is a ``PageError``; a part of a page about a kind
that the person may not list is left out. Lists come in pages of the API server.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

from counterfoil.clock import Clock
from counterfoil.i18n.catalogue import Catalogue
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Expired, Forbidden
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
from counterfoil.resources.audit_annotation import audit_entries
from webhook.console import attention, charts, filters
from webhook.console.access import ARCHIVES, EVENTS, ORGANIZATIONS, SENDERS, AuthenticatedUser
from webhook.console.actions import KINDS, Action, ActionRequest, ActionResult, ActionService
from webhook.console.attention import ClusterSnapshot
from webhook.console.errors import ConsoleErrorKind
from webhook.console.limits import ConsoleLimits
from webhook.console.rendering import ConsoleRenderer
from webhook.console.routes import is_name, local_location
from webhook.console.timeline import timeline_entries
from webhook.http_server.errors import HttpErrorKind, PageError
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


@dataclass(frozen=True)
class EventPage:
    """A page of events."""

    events: tuple[EnvelopeEvent, ...]
    token: str
    """Continue token of the next page; empty on the last one."""
    is_truncated: bool = False
    """Whether the search for an age stopped before a page was full."""


class ConsoleViews:
    """Makes the pages. Every method raises ``PageError`` or ``ApiError`` instead of an answer."""

    def __init__(
        self, renderer: ConsoleRenderer, actions: ActionService, clock: Clock, *, limits: ConsoleLimits
    ) -> None:
        self._renderer = renderer
        self._actions = actions
        self._clock = clock
        self._limits = limits

    # -- Attention ------------------------------------------------------------------------------------------

    async def attention(self, request: ConsoleRequest) -> PageResponse:
        """The events and objects that wait for a person, by cause."""
        if not request.user.rights.can_list_any:
            raise PageError(ConsoleErrorKind.NOT_ALLOWED, "nothing of Counterfoil may be listed")
        wanted = request.query.get("organization", "")
        snapshot = await self._snapshot(request.user, wanted if is_name(wanted) else "")
        shown = tuple(each for each in snapshot.organizations if snapshot.of in ("", each.name))
        return self._page(
            "attention.html",
            request,
            entries=attention.attention_items(snapshot),
            organizations=snapshot.organizations,
            of=snapshot.of,
            charts=charts.overview(shown),
            counts=_counts_by_phase(shown),
        )

    async def _snapshot(self, user: AuthenticatedUser, of: str) -> ClusterSnapshot:
        mine = f",spec.organizationRef.name={of}" if of else ""
        labels = f"{ORGANIZATION_LABEL}={of}" if of else ""
        organizations, senders, archives, failed, waiting = await asyncio.gather(
            self._list_all(user, Organization),
            self._list_all(user, Sender),
            self._list_all(user, Archive),
            self._first_events(user, f"status.phase={Phase.FAILED}{mine}", labels),
            self._first_events(user, f"status.phase={Phase.AWAITING_CONSENT}{mine}", labels),
        )
        extra_senders = await self._senders_of_waiting(user, senders, waiting.events)
        return ClusterSnapshot(
            organizations=organizations,
            senders=(*senders, *extra_senders),
            archives=archives,
            failed=failed.events,
            waiting=waiting.events,
            is_more_failed=bool(failed.token),
            is_more_waiting=bool(waiting.token),
            of=of,
        )

    async def _senders_of_waiting(
        self, user: AuthenticatedUser, known: tuple[Sender, ...], waiting: tuple[EnvelopeEvent, ...]
    ) -> tuple[Sender, ...]:
        """Return senders whose events wait, and who are not among the first that were read, up to a number."""
        if not user.rights.can_list(SENDERS) or len(known) < self._limits.listed_objects:
            return ()
        names = {attention.sender_of(each) for each in waiting} - {each.name for each in known} - {""}
        found = await asyncio.gather(
            *(self._sender_named(user, name) for name in sorted(names)[: self._limits.extra_senders])
        )
        return tuple(each for each in found if each is not None)

    # -- Events ---------------------------------------------------------------------------------------------

    async def events(self, request: ConsoleRequest) -> PageResponse:
        """A page of the events that a person asks for."""
        user = request.user
        _require(user, EVENTS)
        wanted = filters.read(request.query)
        if wanted.event:
            return PageResponse(location=f"/events/{wanted.event}")
        (found, is_restarted), organizations, senders = await asyncio.gather(
            self._find(user, wanted),
            self._choices(request, Organization),
            self._choices(request, Sender),
        )
        shown = found.events
        is_whole = not found.token and not wanted.token
        if is_whole:
            shown = tuple(sorted(shown, key=_created, reverse=True))
        return self._page(
            "events.html",
            request,
            events=shown,
            found=found,
            filter=wanted,
            is_restarted=is_restarted,
            is_whole=is_whole,
            organizations=organizations,
            senders=senders,
            title_of=attention.title_of,
            counts=_counts_by_phase(organizations),
            phases=tuple(Phase),
            ages=tuple(filters.AGES),
            sender_of=attention.sender_of,
        )

    async def _find(self, user: AuthenticatedUser, wanted: filters.EventFilter) -> tuple[EventPage, bool]:
        """Return a page of events, and whether it restarted because its token had expired."""
        try:
            return await self._search(user.kube, wanted), False
        except Expired:
            return await self._search(user.kube, replace(wanted, token="")), True

    async def _search(self, kube: KubeClient, wanted: filters.EventFilter) -> EventPage:
        now, token = self._clock.now(), wanted.token
        kept: list[dict[str, Any]] = []
        read = 0
        while True:
            page, token = await kube.page(
                EnvelopeEvent,
                # A search continues with all objects that it may read, since each request costs the API server the same.
                limit=self._limits.scanned - read if read else self._limits.rows,
                token=token,
                labels=wanted.labels,
                fields=wanted.fields,
            )
            read += len(page)
            kept += [raw for raw in page if wanted.is_young_enough(raw, now)]
            # Whole pages only, since a token leads behind a page and nowhere else.
            if not token or not wanted.age or len(kept) >= self._limits.rows // 2:
                return EventPage(_parsed(EnvelopeEvent, kept), token)
            if read >= self._limits.scanned:
                return EventPage(_parsed(EnvelopeEvent, kept), token, is_truncated=True)

    async def event(self, request: ConsoleRequest, name: str) -> PageResponse:
        """Everything about one event."""
        kube = request.user.kube
        try:
            event = EnvelopeEvent.parse(await kube.get(EnvelopeEvent, name))
        except ResourceInvalid:
            # Stored by another version of the CRD: what can't be explained can be shown.
            return PageResponse(location=f"/events/{name}/yaml")
        told, sender = await asyncio.gather(
            self._kubernetes_events(request.user, event),
            self._sender(request.user, event),
        )
        return self._page(
            "event.html",
            request,
            event=event,
            first=self._first_document(request, len(event.status.documents)),
            sender=sender,
            title_of=attention.title_of,
            moments=timeline_entries(event, told),
        )

    def _first_document(self, request: ConsoleRequest, count: int) -> int:
        """Return with which document the page begins: the first of one of the pages that there are."""
        asked = request.query.get("from", "")
        first = int(asked) if re.fullmatch("[0-9]{1,6}", asked) else 0
        return first if first < count and first % self._limits.documents == 0 else 0

    async def yaml(self, request: ConsoleRequest, name: str) -> PageResponse:
        """One event as it is stored."""
        raw = await request.user.kube.get(EnvelopeEvent, name)
        return self._page("yaml.html", request, name=name, raw=raw)

    async def _kubernetes_events(
        self, user: AuthenticatedUser, event: EnvelopeEvent
    ) -> tuple[Mapping[str, Any], ...]:
        if not user.rights.can_list("events"):
            return ()
        try:
            return tuple(await user.kube.events_regarding(event.uid, limit=self._limits.kubernetes_events))
        except ApiError:
            # They are an addition; the page is about the event itself.
            return ()

    async def _sender(self, user: AuthenticatedUser, event: EnvelopeEvent) -> Sender | None:
        name = attention.sender_of(event)
        return await self._sender_named(user, name) if name and user.rights.can_list(SENDERS) else None

    async def _sender_named(self, user: AuthenticatedUser, name: str) -> Sender | None:
        try:
            return Sender.parse(await user.kube.get(Sender, name))
        except (ApiError, ResourceInvalid):
            return None

    # -- The other kinds ------------------------------------------------------------------------------------

    async def senders(self, request: ConsoleRequest) -> PageResponse:
        """All senders, a page at a time."""
        _require(request.user, SENDERS)
        wanted = request.query.get("organization", "")
        of = wanted if is_name(wanted) else ""
        (page, token), organizations = await asyncio.gather(
            request.user.kube.page(
                Sender,
                limit=self._limits.rows,
                token=request.query.get("token", ""),
                labels=f"{ORGANIZATION_LABEL}={of}" if of else "",
            ),
            self._list_all(request.user, Organization),
        )
        return self._page(
            "senders.html",
            request,
            senders=_parsed(Sender, page),
            next=urlencode({"organization": of, "token": token} if of else {"token": token}) if token else "",
            title_of=attention.title_of,
            link_of=lambda sender: attention.consent_link(sender, organizations),
            acts_of=audit_entries,
            of=of,
        )

    async def archives(self, request: ConsoleRequest) -> PageResponse:
        """All archives."""
        _require(request.user, ARCHIVES)
        found = await self._list_all(request.user, Archive)
        return self._page("archives.html", request, archives=found, acts_of=audit_entries)

    async def organizations(self, request: ConsoleRequest) -> PageResponse:
        """All organizations, each with a chart of its callbacks."""
        _require(request.user, ORGANIZATIONS)
        found = await self._list_all(request.user, Organization)
        return self._page(
            "organizations.html",
            request,
            organizations=found,
            charts={each.name: charts.callbacks(each) for each in found},
            acts_of=audit_entries,
        )

    # -- What a person does ---------------------------------------------------------------------------------

    async def act(self, request: ConsoleRequest, form: Mapping[str, str]) -> PageResponse:
        """Do what a form asks for, and lead back to where it was."""
        action = self._parse_action(form)
        organization, name = form.get("organization", ""), form.get("name", "")
        if form.get("kind") == "cause":
            if not is_name(organization):
                raise PageError(HttpErrorKind.LINK_BROKEN, "the form names no organization")
            done = await self._actions.apply_to_failed_events(
                request.user, organization, form.get("reason", ""), action
            )
        else:
            kind = KINDS.get(form.get("kind", ""))
            if kind is None or not is_name(name):
                raise PageError(HttpErrorKind.LINK_BROKEN, "the form names nothing that can be acted on")
            done = await self._actions.apply_to_object(request.user, kind, name, action)
        return PageResponse(location=_redirect_location(local_location(form.get("back", "/")), action, done))

    def _parse_action(self, form: Mapping[str, str]) -> ActionRequest:
        try:
            what = Action(form.get("what", ""))
        except ValueError:
            raise PageError(HttpErrorKind.LINK_BROKEN, "the form asks for nothing that is known") from None
        why = " ".join(form.get("why", "").split())
        if len(why) > self._limits.reason:
            raise PageError(HttpErrorKind.TOO_LARGE, "the reason is too long")
        return ActionRequest(what, why)

    # -- How ------------------------------------------------------------------------------------------------

    def _page(self, template: str, request: ConsoleRequest, **values: Any) -> PageResponse:
        html = self._renderer.page(
            template,
            request.words,
            self._clock.now(),
            auth_user=request.user,
            here=request.here,
            done=_last_result(request.query),
            **values,
        )
        return PageResponse(html=html)

    async def _list_all(self, user: AuthenticatedUser, kind: type[R]) -> tuple[R, ...]:
        """Return the objects of a kind of which there are few; none when this person may not list it."""
        if not user.rights.can_list(kind.PLURAL):
            return ()
        page, _ = await user.kube.page(kind, limit=self._limits.listed_objects)
        return _parsed(kind, page)

    async def _choices(self, request: ConsoleRequest, kind: type[R]) -> tuple[R, ...]:
        """Return what a form offers to choose from; nothing where no form is looked at."""
        return () if request.is_refresh else await self._list_all(request.user, kind)

    async def _first_events(self, user: AuthenticatedUser, fields: str, labels: str) -> EventPage:
        """Return the first events of a selection; none when this person may not list events."""
        if not user.rights.can_list(EVENTS):
            return EventPage((), "")
        try:
            page, token = await user.kube.page(
                EnvelopeEvent, limit=self._limits.surveyed, fields=fields, labels=labels
            )
        except Forbidden:
            # The right was taken away since it was asked about.
            return EventPage((), "")
        return EventPage(_parsed(EnvelopeEvent, page), token)


def _require(user: AuthenticatedUser, kind: str) -> None:
    if not user.rights.can_list(kind):
        raise PageError(ConsoleErrorKind.NOT_ALLOWED, f"{kind} may not be listed")


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


def _counts_by_phase(organizations: tuple[Organization, ...]) -> dict[str, int]:
    """Return how many events are in each phase, as the controller counted them."""
    counts: dict[str, int] = {}
    for each in organizations:
        for phase, count in each.status.events.items():
            counts[phase] = counts.get(phase, 0) + count
    return counts


def _redirect_location(location: str, action: ActionRequest, done: ActionResult) -> str:
    path, _, query = location.partition("?")
    path, kept = path.partition("#")[0], query.partition("#")[0]
    told = urlencode(
        {"done": action.action, "n": done.count, **({"more": "1"} if done.is_more else {})}
        | ({} if done.is_event_recorded else {"untold": "1"})
    )
    pairs = [pair for pair in kept.split("&") if pair and pair.split("=")[0] not in _RESULT_PARAMETERS]
    return f"{path}?{'&'.join([*pairs, told])}"


_RESULT_PARAMETERS = frozenset({"done", "n", "more", "untold"})


def _last_result(query: Mapping[str, str]) -> dict[str, Any] | None:
    """Return what the last click did, as the way back told it."""
    if query.get("done") not in set(Action) or not query.get("n", "").isdecimal():
        return None
    return {
        "what": query["done"],
        "count": int(query["n"][:9]),
        "is_more": "more" in query,
        "is_untold": "untold" in query,
    }
