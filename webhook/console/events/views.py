"""The views of events: the list, one event, and its object as YAML."""

import asyncio
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Expired
from counterfoil.kube.watch import Raw
from counterfoil.resources import EnvelopeEvent, Organization, Phase, ResourceInvalid, Sender
from counterfoil.resources.shard_leases import unheld_shard
from webhook.console import attention
from webhook.console.access import EVENTS, AuthenticatedUser
from webhook.console.events import filters
from webhook.console.events.timeline import timeline_entries
from webhook.console.view_base import ConsoleRequest, ViewBase, counts_by_phase, parsed, require, shard_leases
from webhook.http_server.responses import PageResponse


@dataclass(frozen=True)
class FoundEvents:
    """The events of one page of the list."""

    events: tuple[EnvelopeEvent, ...]
    token: str
    """Continue token of the next page; empty on the last one."""
    is_truncated: bool = False
    """Whether the search for an age stopped before a page was full."""


@dataclass(frozen=True)
class EventViews(ViewBase):
    """Makes the pages about events."""

    async def events(self, request: ConsoleRequest) -> PageResponse:
        """A page of the events that a person asks for."""
        user = request.user
        require(user, EVENTS)
        wanted = filters.read(request.query)
        if wanted.event:
            return PageResponse(location=f"/events/{wanted.event}")
        (found, is_restarted), organizations, senders = await asyncio.gather(
            self._find(user, wanted), self._choices(request, Organization), self._choices(request, Sender)
        )
        is_whole = not found.token and not wanted.token
        shown = sorted(found.events, key=_created, reverse=True) if is_whole else found.events
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
            counts=counts_by_phase(organizations),
            phases=tuple(Phase),
            ages=tuple(filters.AGES),
        )

    async def _find(self, user: AuthenticatedUser, wanted: filters.EventFilter) -> tuple[FoundEvents, bool]:
        """Return a page of events, and whether it restarted because its token had expired."""
        try:
            return await self._search(user.kube, wanted), False
        except Expired:
            return await self._search(user.kube, replace(wanted, token="")), True

    async def _search(self, kube: KubeClient, wanted: filters.EventFilter) -> FoundEvents:
        now, token = self.clock.now(), wanted.token
        kept: list[Raw] = []
        read = 0
        while True:
            page, token = await kube.page(
                EnvelopeEvent,
                # A search continues with all objects that it may read, since each request costs the API
                # server the same.
                limit=self.limits.scanned - read if read else self.limits.rows,
                token=token,
                labels=wanted.labels,
                fields=wanted.fields,
            )
            read += len(page)
            kept += [raw for raw in page if wanted.is_young_enough(raw, now)]
            # Whole pages only, since a token leads behind a page and nowhere else.
            is_full = not token or not wanted.age or len(kept) >= self.limits.rows // 2
            if is_full or read >= self.limits.scanned:
                return FoundEvents(parsed(EnvelopeEvent, kept), token, is_truncated=not is_full)

    async def event(self, request: ConsoleRequest, name: str) -> PageResponse:
        """Everything about one event."""
        kube = request.user.kube
        try:
            event = EnvelopeEvent.parse(await kube.get(EnvelopeEvent, name))
        except ResourceInvalid:
            # Stored by another version of the CRD: what can't be explained can be shown.
            return PageResponse(location=f"/events/{name}/yaml")
        told, sender, leases = await asyncio.gather(
            self._kubernetes_events(request.user, event),
            self._sender(request.user, attention.sender_of(event)),
            shard_leases(request.user),
        )
        is_unknown = leases is None or event.status.phase.is_final
        absence = None if is_unknown else unheld_shard(leases or (), event.shard_number, self.clock.now())
        return self._page(
            "event.html",
            request,
            event=event,
            first=self._first_document(request, len(event.status.documents)),
            sender=sender,
            absence=absence,
            moments=timeline_entries(event, told),
        )

    def _first_document(self, request: ConsoleRequest, count: int) -> int:
        """Return with which document the page begins: the first of one of the pages that there are."""
        asked = request.query.get("from", "")
        first = int(asked) if re.fullmatch("[0-9]{1,6}", asked) else 0
        return first if first < count and first % self.limits.documents == 0 else 0

    async def yaml(self, request: ConsoleRequest, name: str) -> PageResponse:
        """One event as it is stored."""
        raw = await request.user.kube.get(EnvelopeEvent, name)
        return self._page("yaml.html", request, name=name, raw=raw)

    async def _kubernetes_events(self, user: AuthenticatedUser, event: EnvelopeEvent) -> tuple[Raw, ...]:
        if not user.rights.can_list("events"):
            return ()
        try:
            return tuple(await user.kube.events_regarding(event.uid, limit=self.limits.kubernetes_events))
        except ApiError:
            # They are an addition; the page is about the event itself.
            return ()


def _created(event: EnvelopeEvent) -> datetime:
    return event.metadata.creation_timestamp or datetime.fromtimestamp(0, UTC)
