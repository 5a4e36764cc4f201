"""
The views of the console: each page and each form ends in a page, a redirect or a ``PageError``.

All reads use the person's own token. A page that the person may not read is a ``PageError``; a part of a page
about a kind that the person may not list is left out. Lists come in pages of the API server.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final
from urllib.parse import urlencode, urlsplit

from msgspec.structs import replace

from counterfoil.i18n import attention
from counterfoil.i18n.attention import RETRYING_SELECTOR, ClusterSnapshot
from counterfoil.i18n.import_estimate import estimate_of, in_largest_unit
from counterfoil.i18n.key_advice import ask_command, askable_senders, key_advice
from counterfoil.kube.answers import parse_each
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Forbidden, NotFound, Unavailable
from counterfoil.kube.watch import Raw
from counterfoil.resources import (
    IMPORT_LABEL,
    ORGANIZATION_LABEL,
    Archive,
    EnvelopeEvent,
    Import,
    Organization,
    Phase,
    ResourceInvalid,
    Sender,
)
from counterfoil.resources.imports import last_day
from counterfoil.resources.lease import Absence, Lease
from webhook.console import charts
from webhook.console.access import ARCHIVES, EVENTS, IMPORTS, ORGANIZATIONS, SENDERS, AuthenticatedUser
from webhook.console.actions import KINDS, Action, ActionRequest
from webhook.console.errors import ConsoleErrorKind
from webhook.console.events.bulk import confirmation
from webhook.console.imports import failures_of, senders_of, state_of_import
from webhook.console.objects import SenderSearch, page_of, read_search
from webhook.console.routes import is_name, local_location
from webhook.console.view_base import (
    ConsoleRequest,
    EventPage,
    FirstObjects,
    SenderMatches,
    ViewBase,
    counts_by_phase,
    missing_senders,
    require,
    shard_leases,
)
from webhook.http_server.errors import HttpErrorKind, PageError
from webhook.http_server.responses import PageResponse

_READ_FOR_TASKS: Final = (EVENTS, SENDERS, ARCHIVES, ORGANIZATIONS, IMPORTS, Lease.PLURAL)
"""Kinds from which the tasks follow."""

MAX_UNREADABLE: Final = 10
"""Objects of each kind that can't be read and are named."""


@dataclass(frozen=True)
class ConsoleViews(ViewBase):
    """Makes the pages, except those about events (``webhook.console.events.views``)."""

    # -- Attention ------------------------------------------------------------------------------------------

    async def attention(self, request: ConsoleRequest) -> PageResponse:
        """The events and objects that wait for a person, by cause."""
        if not request.user.rights.can_list_any:
            raise PageError(ConsoleErrorKind.NOT_ALLOWED, "nothing of Counterfoil may be listed")
        snapshot, is_cut, unread, unreadable = await self._snapshot(request.user, _organization(request))
        shown = tuple(each for each in snapshot.organizations if snapshot.of in ("", each.name))
        return self._page(
            "attention.html",
            request,
            entries=attention.attention_items(snapshot),
            organizations=snapshot.organizations,
            is_cut=is_cut,
            unread=unread,
            unreadable=unreadable,
            archives=snapshot.archives,
            of=snapshot.of,
            charts=charts.overview(shown),
            counts=_exact_counts(request.user, snapshot, shown),
            confirmation=confirmation,
        )

    async def _snapshot(
        self, user: AuthenticatedUser, of: str
    ) -> tuple[ClusterSnapshot, bool, tuple[str, ...], tuple[str, ...]]:
        """Return what the page of tasks is made of, whether there are more objects than were read, the kinds
        that this person may not list, and the objects that this version can't read."""
        mine = f",spec.organizationRef.name={of}" if of else ""
        labels = f"{ORGANIZATION_LABEL}={of}" if of else ""
        (
            (organizations, senders, archives, imports, leases),
            (
                failed,
                waiting,
                retrying,
            ),
        ) = await asyncio.gather(
            asyncio.gather(
                self._first(user, Organization),
                self._first(user, Sender),
                self._first(user, Archive),
                self._first_imports(user),
                shard_leases(user, self.clock.now()),
            ),
            asyncio.gather(
                self._first_events(user, f"status.phase={Phase.FAILED}{mine}", labels),
                self._first_events(user, f"status.phase={Phase.AWAITING_CONSENT}{mine}", labels),
                self._first_events(user, f"{RETRYING_SELECTOR}{mine}", labels, self.limits.unfinished),
            ),
        )
        extra_senders = await missing_senders(user, waiting.events, senders, self.limits)
        snapshot = ClusterSnapshot(
            organizations=organizations.objects,
            senders=(*senders.objects, *extra_senders),
            archives=archives.objects,
            failed=failed.events,
            waiting=waiting.events,
            retrying=retrying.events,
            imports=imports.objects if imports is not None else (),
            read_time=self.clock.now(),
            unheld_shards=leases.unheld_shards(self.clock.now()) if leases is not None else (),
            is_more_failed=bool(failed.token),
            is_more_waiting=bool(waiting.token),
            is_more_retrying=bool(retrying.token),
            of=of,
        )
        is_elsewhere = any(each.status.release_namespace for each in organizations.objects)
        unread = tuple(
            each
            for each in _READ_FOR_TASKS
            if not user.rights.can_list(each)
            or (each == Lease.PLURAL and is_elsewhere and leases is None)
            or (each == IMPORTS and imports is None)
        )
        lists = (organizations, senders, archives, *((imports,) if imports is not None else ()))
        unreadable = tuple(each.subject for listed in lists for each in listed.unreadable[:MAX_UNREADABLE])
        return snapshot, any(each.is_cut for each in lists), unread, unreadable

    async def _first_imports(self, user: AuthenticatedUser) -> FirstObjects[Import] | None:
        """Return the first Imports, without the progress of their Senders; None if the API server has no such
        kind, or if this person may not list it."""
        if not user.rights.can_list(IMPORTS):
            return None
        invalid = list[ResourceInvalid]()
        try:
            parse = partial(_summaries, invalid=invalid)
            found, is_cut = await user.kube.first(Import, parse, limit=self.limits.listed_imports)
        except Unavailable as problem:
            if problem.status != 404:
                raise
            return None
        return FirstObjects(tuple(found), is_cut, tuple(invalid))

    # -- The other kinds ------------------------------------------------------------------------------------

    async def senders(self, request: ConsoleRequest) -> PageResponse:
        """The senders that a person searches for, a page at a time, those with problems first."""
        require(request.user, SENDERS)
        search = read_search(request.query, _organization(request))
        (found, is_cut), organizations, absence = await asyncio.gather(
            self._search_senders(request.user.kube, search),
            self._first(request.user, Organization),
            self._absence(request.user),
        )
        return self._page(
            "senders.html",
            request,
            absence=absence,
            search=search,
            found=page_of(found, search.page, self.limits.sender_rows),
            is_cut=is_cut,
            organizations=organizations.objects,
            are_organizations_cut=organizations.is_cut,
            advice_of=lambda sender, reason: key_advice(
                sender, attention.organization_of(sender, organizations.objects), reason
            ),
        )

    async def _search_senders(self, kube: KubeClient, search: SenderSearch) -> tuple[list[Sender], bool]:
        """Return the senders that match, and whether there are more than were read."""
        limits, matches = self.limits, SenderMatches(search, self.limits.kept_bytes)
        found, is_cut = await kube.first(
            Sender,
            matches.take,
            limit=limits.searched_senders if search.text else limits.listed_senders,
            labels=f"{ORGANIZATION_LABEL}={search.organization}" if search.organization else "",
            most=limits.searched_bytes,
            enough=limits.listed_senders,
        )
        return list(found), is_cut or matches.is_cut

    async def archives(self, request: ConsoleRequest) -> PageResponse:
        """All archives."""
        require(request.user, ARCHIVES)
        found, absence = await asyncio.gather(self._first(request.user, Archive), self._absence(request.user))
        return self._page(
            "archives.html", request, archives=found.objects, is_cut=found.is_cut, absence=absence
        )

    async def organizations(self, request: ConsoleRequest) -> PageResponse:
        """All organizations, each with a chart of its callbacks."""
        require(request.user, ORGANIZATIONS)
        found, absence = await asyncio.gather(
            self._first(request.user, Organization), self._absence(request.user)
        )
        return self._page(
            "organizations.html",
            request,
            organizations=found.objects,
            is_cut=found.is_cut,
            absence=absence,
            charts={each.name: charts.callbacks(each) for each in found.objects},
        )

    async def _absence(self, user: AuthenticatedUser) -> Absence | None:
        """Return why no controller works on some objects, so that what a page shows may be out of date."""
        now = self.clock.now()
        leases = await shard_leases(user, now)
        return next(iter(leases.unheld_shards(now)), None) if leases is not None else None

    async def check(self, request: ConsoleRequest, name: str) -> PageResponse:
        """The last check of what Counterfoil assumes about an organization's eSAW."""
        require(request.user, ORGANIZATIONS)
        organization = Organization.parse(await request.user.kube.get(Organization, name))
        check = organization.status.check
        return self._page(
            "check.html",
            request,
            organization=organization,
            check=check,
            outcomes=Counter(each.outcome.value for each in check.results) if check is not None else {},
        )

    # -- Imports --------------------------------------------------------------------------------------------

    async def imports(self, request: ConsoleRequest) -> PageResponse:
        """All Imports, the newest first."""
        user = request.user
        require(user, IMPORTS)
        (found, token), absence = await asyncio.gather(
            user.kube.page(Import, limit=self.limits.listed_imports), self._absence(user)
        )
        return self._page(
            "imports.html",
            request,
            imports=sorted(parse_each(Import, found), key=_creation_time, reverse=True),
            is_cut=bool(token),
            absence=absence,
            state_of=state_of_import,
        )

    async def one_import(self, request: ConsoleRequest, name: str) -> PageResponse:
        """One Import: its progress, the senders that were not searched, and its failures by reason."""
        user = request.user
        require(user, IMPORTS)
        raw, failed, absence = await asyncio.gather(
            user.kube.get(Import, name),
            self._first_events(user, f"status.phase={Phase.FAILED}", f"{IMPORT_LABEL}={name}"),
            self._absence(user),
        )
        imported = Import.parse(raw)
        asked, organization = await asyncio.gather(
            self._askable(user, imported), self._organization_of(user, imported)
        )
        estimate = estimate_of(imported, organization)
        return self._page(
            "import.html",
            request,
            imported=imported,
            until=last_day(imported),
            state=state_of_import(imported),
            senders=senders_of(imported, self.limits.sender_rows),
            failures=failures_of(imported, failed.events, is_cut=bool(failed.token)),
            asked=asked,
            ask_command=ask_command(asked, user.kube.namespace) if asked else "",
            estimate=estimate,
            duration=in_largest_unit(estimate.duration) if estimate is not None else None,
            absence=absence,
        )

    async def _organization_of(self, user: AuthenticatedUser, imported: Import) -> Organization | None:
        """Return the Organization of a dry run, whose limits are in its estimate; None if it can't be
        read."""
        if not imported.spec.dry_run:
            return None
        try:
            return Organization.parse(await user.kube.get(Organization, imported.organization))
        except (Forbidden, NotFound, ResourceInvalid):
            return None

    async def _askable(self, user: AuthenticatedUser, imported: Import) -> list[str]:
        """Return the Senders without a key who can be asked by mail, of the first that are read."""
        lacking = imported.status.lacking_senders
        if not lacking or not user.rights.can_list(SENDERS):
            return []
        fields = f"spec.organizationRef.name={imported.organization}"
        (senders, _), organizations = await asyncio.gather(
            user.kube.first(
                Sender, partial(parse_each, Sender), limit=self.limits.listed_objects, fields=fields
            ),
            self._first(user, Organization),
        )
        of = next((each for each in organizations.objects if each.name == imported.organization), None)
        return askable_senders(lacking, tuple(senders), of)

    # -- What a person does ---------------------------------------------------------------------------------

    async def act(self, request: ConsoleRequest, form: Mapping[str, str]) -> PageResponse:
        """Do what a form asks for, and lead back to where it was."""
        action = self._parse_action(form)
        kind, name = KINDS.get(form.get("kind", "")), form.get("name", "")
        if kind is None or not is_name(name):
            raise PageError(HttpErrorKind.LINK_BROKEN, "the form names nothing that can be acted on")
        if kind is Import and action.action is Action.ASK:
            is_event_recorded = await self._ask_senders(request.user, name, action)
        else:
            is_event_recorded = await self.actions.apply_to_object(request.user, kind, name, action)
        back = local_location(form.get("back", f"{request.user.root}/"))
        return PageResponse(location=_redirect_location(back, action, is_event_recorded=is_event_recorded))

    async def _ask_senders(self, user: AuthenticatedUser, name: str, action: ActionRequest) -> bool:
        """Ask each Sender that an Import lacks and that can be asked; return whether all Kubernetes Events
        could be written. One that fails does not stop the others. Raises ``PageError``, ``ApiError``."""
        writers, failures, recorded = asyncio.Semaphore(self.limits.writers), list[ApiError](), list[bool]()

        async def ask(sender: str) -> None:
            async with writers:
                try:
                    recorded.append(await self.actions.apply_to_object(user, Sender, sender, action))
                except NotFound:
                    return
                except ApiError as problem:
                    failures.append(problem)

        asked = await self._askable(user, Import.parse(await user.kube.get(Import, name)))
        async with asyncio.TaskGroup() as tasks:
            for each in asked:
                tasks.create_task(ask(each))
        if failures:
            raise failures[-1]
        return all(recorded)

    def _parse_action(self, form: Mapping[str, str]) -> ActionRequest:
        try:
            what = Action(form.get("what", ""))
        except ValueError:
            raise PageError(HttpErrorKind.LINK_BROKEN, "the form asks for nothing that is known") from None
        why = " ".join(form.get("why", "").split())
        if len(why) > self.limits.reason:
            raise PageError(HttpErrorKind.TOO_LARGE, "the reason is too long")
        return ActionRequest(what, why, form.get("expected"))

    # -- How ------------------------------------------------------------------------------------------------

    async def _first_events(
        self, user: AuthenticatedUser, fields: str, labels: str, limit: int | None = None
    ) -> EventPage:
        """Return the first events of a selection; none when this person may not list events."""
        if not user.rights.can_list(EVENTS):
            return EventPage((), "")
        try:
            page, token = await user.kube.page(
                EnvelopeEvent, limit=limit or self.limits.surveyed, fields=fields, labels=labels
            )
        except Forbidden:
            # The right was taken away since it was asked about.
            return EventPage((), "")
        return EventPage(parse_each(EnvelopeEvent, page), token)


def _summaries(raws: Sequence[Raw], invalid: list[ResourceInvalid]) -> Iterator[Import]:
    for each in parse_each(Import, raws, invalid):
        status = replace(each.status, senders=(), groups=(), open_windows=())
        yield replace(each, status=status)


def _creation_time(imported: Import) -> datetime:
    return imported.metadata.creation_timestamp or datetime.min.replace(tzinfo=UTC)


def _organization(request: ConsoleRequest) -> str:
    """Return the organization that is asked for; empty for all."""
    wanted = request.query.get("organization", "")
    return wanted if is_name(wanted) else ""


def _exact_counts(
    user: AuthenticatedUser, snapshot: ClusterSnapshot, organizations: tuple[Organization, ...]
) -> Counter[str]:
    """Return how many events are in each phase: the controller's counts, which are of its last pass, and the
    events themselves where all of a phase were read."""
    counts = counts_by_phase(organizations)
    if not user.rights.can_list(EVENTS):
        return counts
    read = Counter(
        each.status.phase.value for each in (*snapshot.failed, *snapshot.waiting, *snapshot.retrying)
    )
    is_more = {Phase.FAILED: snapshot.is_more_failed, Phase.AWAITING_CONSENT: snapshot.is_more_waiting}
    for phase in Phase:
        if phase not in (Phase.SUCCEEDED, Phase.SKIPPED):
            is_cut = is_more.get(phase, snapshot.is_more_retrying)
            counts[phase.value] = max(counts[phase.value], read[phase.value]) if is_cut else read[phase.value]
    return counts


def _redirect_location(location: str, action: ActionRequest, *, is_event_recorded: bool) -> str:
    place = urlsplit(location)
    kept = [pair for pair in place.query.split("&") if pair and pair.split("=")[0] not in _RESULT_PARAMETERS]
    told = {"done": action.action.value}
    if not is_event_recorded:
        told["no_event"] = "1"
    return f"{place.path}?{'&'.join([*kept, urlencode(told)])}"


_RESULT_PARAMETERS = frozenset({"done", "no_event"})
