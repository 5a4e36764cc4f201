"""The views of events: the list, one event, and its object as YAML."""

import asyncio
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from counterfoil.i18n import attention
from counterfoil.i18n.problems import given_up_reasons, is_about_archive, newer_condition
from counterfoil.i18n.reasons import Server, server_of
from counterfoil.kube.answers import parse_each
from counterfoil.kube.errors import ApiError
from counterfoil.kube.watch import Raw
from counterfoil.resources import (
    Archive,
    Condition,
    EnvelopeEvent,
    Organization,
    Phase,
    ResourceInvalid,
    Sender,
)
from counterfoil.resources.envelopeevent import state_of
from counterfoil.resources.reopening import (
    explained_copies,
    takes_copies,
    unplanned_copies,
)
from counterfoil.resources.routes import awaited_archive
from webhook.console.access import EVENTS, AuthenticatedUser
from webhook.console.events import filters
from webhook.console.events.bulk import BulkService, is_confirmed, parse_bulk
from webhook.console.events.export import ExportFormat, ExportService
from webhook.console.events.filters import EventOrder, sorted_events
from webhook.console.events.search import EventSearch
from webhook.console.events.suited import can_copy, can_retry, can_skip
from webhook.console.events.timeline import timeline_entries
from webhook.console.routes import local_location
from webhook.console.view_base import (
    ConsoleRequest,
    ViewBase,
    counts_by_phase,
    read_organization,
    require,
    shard_leases,
)
from webhook.http_server.errors import HttpErrorKind, PageError
from webhook.http_server.responses import PageResponse


@dataclass(frozen=True)
class EventViews(ViewBase):
    """Makes the pages about events, and their files."""

    exports: ExportService = field(init=False)

    def __post_init__(self) -> None:
        service = ExportService(EventSearch(self.clock, self.limits), self.clock, self.limits)
        object.__setattr__(self, "exports", service)

    async def events(self, request: ConsoleRequest) -> PageResponse:
        """A page of the events that a person asks for."""
        user = request.user
        require(user, EVENTS)
        wanted = filters.read(request.query)
        if wanted.event:
            return PageResponse(location=f"{user.root}/events/{wanted.event}")
        search = EventSearch(self.clock, self.limits)
        found, organizations, senders = await asyncio.gather(
            search.page(user, wanted), self._choices(request, Organization), self._first(user, Sender)
        )
        is_whole = not found.token and not wanted.token
        order = EventOrder(wanted.sort) if wanted.sort else EventOrder.NEWEST if is_whole else None
        counted = tuple(each for each in organizations.objects if wanted.organization in ("", each.name))
        return self._page(
            "events.html",
            request,
            events=sorted_events(found.events, order) if order is not None else found.events,
            found=found,
            filter=wanted,
            order=order,
            is_whole=is_whole,
            organizations=organizations.objects,
            senders=senders.objects,
            is_cut=organizations.is_cut or senders.is_cut,
            senders_by_name=await search.senders_of(user, found.events, senders),
            counts=counts_by_phase(counted),
            count_time=max(
                (each.status.activity.count_time for each in counted if each.status.activity), default=None
            ),
            has_copies=await self._has_copies(user, found.events),
            phases=tuple(Phase),
            ages=tuple(filters.AGES),
            orders=tuple(EventOrder),
        )

    async def bulk(self, request: ConsoleRequest, form: Mapping[str, str]) -> PageResponse:
        """Confirm an action on many events, or do it when it is confirmed."""
        asked = parse_bulk(form, self.limits)
        service = BulkService(self.actions, EventSearch(self.clock, self.limits), self.limits)
        plan = await service.plan(request.user, asked)
        reason = " ".join(form.get("why", "").split())
        if len(reason) > self.limits.reason:
            raise PageError(HttpErrorKind.TOO_LARGE, "the reason is too long")
        is_done = is_confirmed(form, plan)
        result = await service.apply(request.user, asked, plan, reason) if is_done else None
        return self._page(
            "bulk.html",
            request,
            asked=asked,
            plan=plan,
            result=result,
            reason=reason,
            listed=parse_each(EnvelopeEvent, list(plan.raws[: self.limits.listed_names])),
            back=local_location(form.get("back", f"{request.user.root}/events")),
        )

    async def export(self, request: ConsoleRequest, format_: ExportFormat) -> PageResponse:
        """The events of a filter as a file."""
        require(request.user, EVENTS)
        wanted = filters.read(request.query)
        if wanted.refused:
            # Nobody sees in a file that a part of its filter was ignored.
            raise PageError(HttpErrorKind.LINK_BROKEN, "the filter has invalid values")
        parts = self.exports.chunks(request.user, replace(wanted, token=""), format_)
        # A refusal is a page, and not a broken file: all that can be refused comes before the first event.
        start = await anext(parts) + await anext(parts)
        headers = {
            "Content-Type": format_.content_type,
            "Content-Disposition": f'attachment; filename="{self.exports.file_name(request.user, format_)}"',
        }
        return PageResponse(stream=parts, stream_start=start, headers=headers)

    async def event(self, request: ConsoleRequest, name: str) -> PageResponse:
        """Everything about one event."""
        kube, now = request.user.kube, self.clock.now()
        try:
            event = EnvelopeEvent.parse(await kube.get(EnvelopeEvent, name))
        except ResourceInvalid:
            # Stored by another version of the CRD: what can't be explained can be shown.
            return PageResponse(location=f"{request.user.root}/events/{name}/yaml")
        told, sender, leases, copied = await asyncio.gather(
            self._kubernetes_events(request.user, event),
            self._sender(request.user, attention.sender_of(event)),
            shard_leases(request.user, now),
            self._copied_organization(request.user, event),
        )
        is_final = event.status.phase.is_final
        absence = leases.unheld_shard(event.shard_number, now) if leases and not is_final else None
        return self._page(
            "event.html",
            request,
            event=event,
            first=self._first_document(request, len(event.status.documents)),
            sender=sender,
            newer=await self._newer_condition(request.user, event, sender),
            absence=absence,
            is_controller_unknown=leases is None and not is_final,
            can_retry=can_retry(event),
            can_skip=can_skip(event),
            can_copy=can_copy(event, copied),
            copies=explained_copies(event.status, copied.spec if copied is not None else None),
            given_up=given_up_reasons(event.status, copied),
            unplanned_copies=unplanned_copies(event.status, copied.spec) if copied is not None else (),
            state=state_of(event),
            moments=timeline_entries(event, told, now=self.clock.now(), shown=_messages(event)),
        )

    async def _copied_organization(
        self, user: AuthenticatedUser, event: EnvelopeEvent
    ) -> Organization | None:
        """Return the Organization, which names the copies; None for an event that has none."""
        has_some = bool(event.status.copies) or takes_copies(event.status)
        return await read_organization(user, event.organization) if has_some else None

    async def _has_copies(self, user: AuthenticatedUser, events: Iterable[EnvelopeEvent]) -> bool:
        """Whether the Organization of an archived event of a list names copies."""
        names = sorted({each.organization for each in events if takes_copies(each.status)})
        some = names[: self.limits.copied_organizations]
        found = await asyncio.gather(*(read_organization(user, each) for each in some))
        return any(each is not None and each.spec.copies for each in found)

    async def _newer_condition(
        self, user: AuthenticatedUser, event: EnvelopeEvent, sender: Sender | None
    ) -> Condition | None:
        """Return what the object that an unfinished event waits for says by now; None: nothing else."""
        organization: Organization | None = None
        archive: Archive | None = None
        reason = "" if event.status.phase.is_final else event.status.reason or ""
        if server_of(reason) is Server.ESAW or is_about_archive(reason):
            organizations = (await self._first(user, Organization)).objects
            organization = next((each for each in organizations if each.name == event.organization), None)
        name = awaited_archive(event, organization.spec) if organization is not None else None
        if name is not None and is_about_archive(reason):
            archives = (await self._first(user, Archive)).objects
            archive = next((each for each in archives if each.name == name), None)
        return newer_condition(event, sender=sender, archive=archive, organization=organization)

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


def _messages(event: EnvelopeEvent) -> set[str]:
    """Return the messages that the head of the page shows."""
    error = event.status.last_error
    return {event.status.message or "", error.message if error is not None else ""} - {""}
