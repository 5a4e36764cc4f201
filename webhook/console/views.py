"""
The views of the console: each page and each form ends in a page, a redirect or a ``PageError``.

All reads use the person's own token. A page that the person may not read is a ``PageError``; a part of a page
about a kind that the person may not list is left out. Lists come in pages of the API server.
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
from webhook.http_server.errors import PageError

R = TypeVar("R", bound=Resource)


class ConsoleResponse(NamedTuple):
    """The answer to the browser: a page or a redirect."""

    html: str = ""
    location: str = ""
    status: HTTPStatus = HTTPStatus.OK


@dataclass(frozen=True)
class ConsoleRequest:
    """One request of somebody who is signed in."""

    auth_user: AuthenticatedUser
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

    async def attention(self, console_request: ConsoleRequest) -> ConsoleResponse:
        """The events and objects that wait for a person, by cause."""
        if not console_request.auth_user.rights.can_list_any:
            raise PageError(ConsoleErrorKind.NOT_ALLOWED, "nothing of Counterfoil may be listed")
        wanted = console_request.query.get("organization", "")
        snapshot = await self._snapshot(console_request.auth_user, wanted if is_name(wanted) else "")
        shown = tuple(each for each in snapshot.organizations if snapshot.of in ("", each.name))
        return self._page(
            "attention.html",
            console_request,
            entries=attention.attention_items(snapshot),
            organizations=snapshot.organizations,
            of=snapshot.of,
            charts=charts.overview(shown),
            counts=_counts_by_phase(shown),
        )

    async def _snapshot(self, auth_user: AuthenticatedUser, of: str) -> ClusterSnapshot:
        mine = f",spec.organizationRef.name={of}" if of else ""
        labels = f"{ORGANIZATION_LABEL}={of}" if of else ""
        organizations, senders, archives, failed, waiting = await asyncio.gather(
            self._list_all(auth_user, Organization),
            self._list_all(auth_user, Sender),
            self._list_all(auth_user, Archive),
            self._first_events(auth_user, f"status.phase={Phase.FAILED}{mine}", labels),
            self._first_events(auth_user, f"status.phase={Phase.AWAITING_CONSENT}{mine}", labels),
        )
        extra_senders = await self._senders_of_waiting(auth_user, senders, waiting.events)
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
        self, auth_user: AuthenticatedUser, known: tuple[Sender, ...], waiting: tuple[EnvelopeEvent, ...]
    ) -> tuple[Sender, ...]:
        """Return senders whose events wait, and who are not among the first that were read, up to a
        number."""
        if not auth_user.rights.can_list(SENDERS) or len(known) < self._limits.listed_objects:
            return ()
        names = {attention.sender_of(each) for each in waiting} - {each.name for each in known} - {""}
        found = await asyncio.gather(
            *(self._sender_named(auth_user, name) for name in sorted(names)[: self._limits.extra_senders])
        )
        return tuple(each for each in found if each is not None)

    # -- Events ---------------------------------------------------------------------------------------------

    async def events(self, console_request: ConsoleRequest) -> ConsoleResponse:
        """A page of the events that a person asks for."""
        auth_user = console_request.auth_user
        _require(auth_user, EVENTS)
        wanted = filters.read(console_request.query)
        if wanted.event:
            return ConsoleResponse(location=f"/events/{wanted.event}")
        (found, is_restarted), organizations, senders = await asyncio.gather(
            self._find(auth_user, wanted),
            self._choices(console_request, Organization),
            self._choices(console_request, Sender),
        )
        shown = found.events
        is_whole = not found.token and not wanted.token
        if is_whole:
            shown = tuple(sorted(shown, key=_created, reverse=True))
        return self._page(
            "events.html",
            console_request,
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

    async def _find(
        self, auth_user: AuthenticatedUser, wanted: filters.EventFilter
    ) -> tuple[EventPage, bool]:
        """Return a page of events, and whether it restarted because its token had expired."""
        try:
            return await self._search(auth_user.kube, wanted), False
        except Expired:
            return await self._search(auth_user.kube, replace(wanted, token="")), True

    async def _search(self, kube: KubeClient, wanted: filters.EventFilter) -> EventPage:
        now, token = self._clock.now(), wanted.token
        kept: list[dict[str, Any]] = []
        read = 0
        while True:
            page, token = await kube.page(
                EnvelopeEvent,
                # A search continues with all objects that it may read, since each request costs the API
                # server the same.
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

    async def event(self, console_request: ConsoleRequest, name: str) -> ConsoleResponse:
        """Everything about one event."""
        kube = console_request.auth_user.kube
        try:
            event = EnvelopeEvent.parse(await kube.get(EnvelopeEvent, name))
        except ResourceInvalid:
            # Stored by another version of the CRD: what can't be explained can be shown.
            return ConsoleResponse(location=f"/events/{name}/yaml")
        told, sender = await asyncio.gather(
            self._kubernetes_events(console_request.auth_user, event),
            self._sender(console_request.auth_user, event),
        )
        return self._page(
            "event.html",
            console_request,
            event=event,
            first=self._first_document(console_request, len(event.status.documents)),
            sender=sender,
            title_of=attention.title_of,
            moments=timeline_entries(event, told),
        )

    def _first_document(self, console_request: ConsoleRequest, count: int) -> int:
        """Return with which document the page begins: the first of one of the pages that there are."""
        asked = console_request.query.get("from", "")
        first = int(asked) if re.fullmatch("[0-9]{1,6}", asked) else 0
        return first if first < count and first % self._limits.documents == 0 else 0

    async def yaml(self, console_request: ConsoleRequest, name: str) -> ConsoleResponse:
        """One event as it is stored."""
        raw = await console_request.auth_user.kube.get(EnvelopeEvent, name)
        return self._page("yaml.html", console_request, name=name, raw=raw)

    async def _kubernetes_events(
        self, auth_user: AuthenticatedUser, event: EnvelopeEvent
    ) -> tuple[Mapping[str, Any], ...]:
        if not auth_user.rights.can_list("events"):
            return ()
        try:
            return tuple(
                await auth_user.kube.events_regarding(event.uid, limit=self._limits.kubernetes_events)
            )
        except ApiError:
            # They are an addition; the page is about the event itself.
            return ()

    async def _sender(self, auth_user: AuthenticatedUser, event: EnvelopeEvent) -> Sender | None:
        name = attention.sender_of(event)
        return (
            await self._sender_named(auth_user, name) if name and auth_user.rights.can_list(SENDERS) else None
        )

    async def _sender_named(self, auth_user: AuthenticatedUser, name: str) -> Sender | None:
        try:
            return Sender.parse(await auth_user.kube.get(Sender, name))
        except (ApiError, ResourceInvalid):
            return None

    # -- The other kinds ------------------------------------------------------------------------------------

    async def senders(self, console_request: ConsoleRequest) -> ConsoleResponse:
        """All senders, a page at a time."""
        _require(console_request.auth_user, SENDERS)
        wanted = console_request.query.get("organization", "")
        of = wanted if is_name(wanted) else ""
        (page, token), organizations = await asyncio.gather(
            console_request.auth_user.kube.page(
                Sender,
                limit=self._limits.rows,
                token=console_request.query.get("token", ""),
                labels=f"{ORGANIZATION_LABEL}={of}" if of else "",
            ),
            self._list_all(console_request.auth_user, Organization),
        )
        return self._page(
            "senders.html",
            console_request,
            senders=_parsed(Sender, page),
            next=urlencode({"organization": of, "token": token} if of else {"token": token}) if token else "",
            title_of=attention.title_of,
            link_of=lambda sender: attention.consent_link(sender, organizations),
            acts_of=audit_entries,
            of=of,
        )

    async def archives(self, console_request: ConsoleRequest) -> ConsoleResponse:
        """All archives."""
        _require(console_request.auth_user, ARCHIVES)
        found = await self._list_all(console_request.auth_user, Archive)
        return self._page("archives.html", console_request, archives=found, acts_of=audit_entries)

    async def organizations(self, console_request: ConsoleRequest) -> ConsoleResponse:
        """All organizations, each with a chart of its callbacks."""
        _require(console_request.auth_user, ORGANIZATIONS)
        found = await self._list_all(console_request.auth_user, Organization)
        return self._page(
            "organizations.html",
            console_request,
            organizations=found,
            charts={each.name: charts.callbacks(each) for each in found},
            acts_of=audit_entries,
        )

    # -- What a person does ---------------------------------------------------------------------------------

    async def act(self, console_request: ConsoleRequest, form: Mapping[str, str]) -> ConsoleResponse:
        """Do what a form asks for, and lead back to where it was."""
        action_request = self._parse_action(form)
        organization, name = form.get("organization", ""), form.get("name", "")
        if form.get("kind") == "cause":
            if not is_name(organization):
                raise PageError(ConsoleErrorKind.LINK_BROKEN, "the form names no organization")
            done = await self._actions.apply_to_failed_events(
                console_request.auth_user, organization, form.get("reason", ""), action_request
            )
        else:
            kind = KINDS.get(form.get("kind", ""))
            if kind is None or not is_name(name):
                raise PageError(ConsoleErrorKind.LINK_BROKEN, "the form names nothing that can be acted on")
            done = await self._actions.apply_to_object(console_request.auth_user, kind, name, action_request)
        return ConsoleResponse(
            location=_redirect_location(local_location(form.get("back", "/")), action_request, done)
        )

    def _parse_action(self, form: Mapping[str, str]) -> ActionRequest:
        try:
            what = Action(form.get("what", ""))
        except ValueError:
            raise PageError(ConsoleErrorKind.LINK_BROKEN, "the form asks for nothing that is known") from None
        why = " ".join(form.get("why", "").split())
        if len(why) > self._limits.reason:
            raise PageError(ConsoleErrorKind.TOO_LARGE, "the reason is too long")
        return ActionRequest(what, why)

    # -- How ------------------------------------------------------------------------------------------------

    def _page(self, template: str, console_request: ConsoleRequest, **values: Any) -> ConsoleResponse:
        html = self._renderer.page(
            template,
            console_request.words,
            self._clock.now(),
            auth_user=console_request.auth_user,
            here=console_request.here,
            done=_last_result(console_request.query),
            **values,
        )
        return ConsoleResponse(html=html)

    async def _list_all(self, auth_user: AuthenticatedUser, kind: type[R]) -> tuple[R, ...]:
        """Return the objects of a kind of which there are few; none when this person may not list it."""
        if not auth_user.rights.can_list(kind.PLURAL):
            return ()
        page, _ = await auth_user.kube.page(kind, limit=self._limits.listed_objects)
        return _parsed(kind, page)

    async def _choices(self, console_request: ConsoleRequest, kind: type[R]) -> tuple[R, ...]:
        """Return what a form offers to choose from; nothing where no form is looked at."""
        return () if console_request.is_refresh else await self._list_all(console_request.auth_user, kind)

    async def _first_events(self, auth_user: AuthenticatedUser, fields: str, labels: str) -> EventPage:
        """Return the first events of a selection; none when this person may not list events."""
        if not auth_user.rights.can_list(EVENTS):
            return EventPage((), "")
        try:
            page, token = await auth_user.kube.page(
                EnvelopeEvent, limit=self._limits.surveyed, fields=fields, labels=labels
            )
        except Forbidden:
            # The right was taken away since it was asked about.
            return EventPage((), "")
        return EventPage(_parsed(EnvelopeEvent, page), token)


def _require(auth_user: AuthenticatedUser, kind: str) -> None:
    if not auth_user.rights.can_list(kind):
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


def _redirect_location(location: str, action_request: ActionRequest, done: ActionResult) -> str:
    path, _, query = location.partition("?")
    path, kept = path.partition("#")[0], query.partition("#")[0]
    told = urlencode(
        {"done": action_request.action, "n": done.count, **({"more": "1"} if done.is_more else {})}
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
