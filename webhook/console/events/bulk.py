"""
One action on many events: those that a person selected, or all of a filter.

A request flows: form -> ``BulkRequest`` -> ``plan`` (which events are affected; nothing is written) -> the
person confirms -> ``apply``. Each write is the one that ``ActionService`` makes for a single event, so the
API server and its policies decide about each, and the result says what happened to each.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, NamedTuple

from counterfoil.kube.errors import ApiError, NotFound
from counterfoil.kube.recorded_write import NoLongerMatches
from counterfoil.kube.watch import Raw
from counterfoil.resources import EnvelopeEvent, Organization
from counterfoil.resources.envelopeevent import digest_of, has_state, state_of
from counterfoil.resources.reopening import takes_back_skip
from webhook.console.access import EVENTS, AuthenticatedUser
from webhook.console.actions import Action, ActionRequest, ActionService
from webhook.console.errors import ConsoleErrorKind
from webhook.console.events.filters import EventFilter, read
from webhook.console.events.search import EventSearch
from webhook.console.events.suited import SuitedEvents, is_event_suited
from webhook.console.limits import ConsoleLimits
from webhook.console.routes import is_name
from webhook.console.view_base import size_of
from webhook.http_server.errors import HttpErrorKind, PageError
from webhook.http_server.forms import parse_unique_pairs

_log = logging.getLogger(__name__)

BULK_ACTIONS: Final = frozenset({Action.RETRY, Action.SKIP, Action.COPY})

FIELD_PREFIX: Final = "e-"
"""Begins the name of the field that selects an event; the event's name follows."""


@dataclass(frozen=True)
class BulkRequest:
    """An action, and the events that it is for: their names, or a filter."""

    action: Action
    wanted: EventFilter
    names: tuple[str, ...] = ()
    """Names of the selected events; with ``is_for_filter`` unused."""
    is_for_filter: bool = False


@dataclass(frozen=True)
class BulkPlan:
    """The events that an action is for."""

    raws: tuple[Raw, ...]
    unsuited: int
    """Number of events that match but are in a state in which the action does nothing, or are deleted."""
    looked: int
    """Number of events that were read."""
    is_more: bool
    """Whether there are, or can be, more events than the bound."""
    are_all_senders_known: bool
    """Whether all Senders were read that the filter may mean."""

    @property
    def digest(self) -> str:
        """A hash of the names and states of the events."""
        return digest_of(map(EnvelopeEvent.parse, self.raws))

    @property
    def skipped(self) -> int:
        """Number of events whose skip by a person a retry takes back."""
        return sum(takes_back_skip(each.status) for each in map(EnvelopeEvent.parse, self.raws))


@dataclass(frozen=True)
class BulkFailure:
    """An event that the API server did not change, and why."""

    name: str
    message: str


@dataclass(frozen=True)
class BulkResult:
    """The result of one action on many events."""

    done: int
    unchanged: int
    """Number of events that were deleted, or for which the action was no longer suited."""
    failures: tuple[BulkFailure, ...]
    untried: int
    """Number of events that were not tried after too many failures."""
    is_more: bool
    is_event_recorded: bool


@dataclass(frozen=True)
class BulkService:
    """Does one thing to many events. Every method raises ``PageError`` or ``ApiError``."""

    actions: ActionService
    search: EventSearch
    limits: ConsoleLimits

    async def plan(self, user: AuthenticatedUser, request: BulkRequest) -> BulkPlan:
        """Return the events that the action is for, up to the bound. Nothing is written."""
        if not user.rights.can_patch(EVENTS):
            # The API server would refuse each write as well, but only after the search.
            raise PageError(ConsoleErrorKind.NOT_ALLOWED, f"{EVENTS} may not be changed")
        suited = SuitedEvents(user, request.action)
        return await (
            self._plan_filter(suited, request) if request.is_for_filter else self._plan_names(suited, request)
        )

    async def apply(
        self, user: AuthenticatedUser, request: BulkRequest, plan: BulkPlan, reason: str
    ) -> BulkResult:
        """Do it to the events of a plan; one that fails does not stop the others."""
        asked = ActionRequest(request.action, reason)
        self.actions.check(EnvelopeEvent, asked)
        failures: list[BulkFailure] = []
        done: dict[str, int] = defaultdict(int)
        unchanged = untried = 0
        writers = asyncio.Semaphore(self.limits.writers)

        async def write(raw: Raw) -> None:
            nonlocal unchanged, untried
            async with writers:
                if len(failures) >= self.limits.bulk_failures:
                    untried += 1
                    return
                state = state_of(EnvelopeEvent.parse(raw))
                try:
                    await self.actions.write(
                        user,
                        EnvelopeEvent,
                        raw,
                        replace(asked, expected=state),
                        is_current=partial(has_state, state=state),
                    )
                except (NotFound, NoLongerMatches):
                    unchanged += 1
                except ApiError as problem:
                    failures.append(BulkFailure(raw["metadata"]["name"], str(problem)))
                else:
                    done[raw["spec"]["organizationRef"]["name"]] += 1

        async with asyncio.TaskGroup() as tasks:
            for raw in plan.raws:
                tasks.create_task(write(raw))
        is_recorded = await self._record(user, asked, done)
        count = sum(done.values())
        fields = {
            "who": user.name,
            "namespace": user.kube.namespace,
            "failed": len(failures),
            "untried": untried,
        }
        _log.info("%s was requested: %s events", request.action, count, extra=fields)
        return BulkResult(count, unchanged, tuple(failures), untried, plan.is_more, is_recorded)

    async def _record(self, user: AuthenticatedUser, asked: ActionRequest, done: Mapping[str, int]) -> bool:
        """Write a Kubernetes Event about each organization, up to a number; whether all could be written."""
        recorded = len(done) <= self.limits.bulk_organizations
        for name in sorted(done)[: self.limits.bulk_organizations]:
            try:
                about = await user.kube.get(Organization, name)
            except ApiError:
                recorded = False
                continue
            note = f"{done[name]} events of one click"
            recorded = await self.actions.create_event(user, about, asked, note) and recorded
        return recorded

    async def _plan_filter(self, suited: SuitedEvents, request: BulkRequest) -> BulkPlan:
        found: list[Raw] = []
        unsuited = looked = size = 0
        are_all_known = True
        async for some in self.search.each(suited.user, request.wanted):
            looked += some.looked
            chosen = await suited.of(some.raws)
            unsuited += len(some.raws) - len(chosen)
            found += chosen
            size, are_all_known = size + size_of(chosen), some.are_all_senders_known
            is_more = bool(some.token) or len(found) > self.limits.affected_events
            is_full = len(found) >= self.limits.affected_events or size >= self.limits.kept_bytes
            if is_more and (is_full or looked >= self.limits.searched):
                first = tuple(found[: self.limits.affected_events])
                return BulkPlan(first, unsuited, looked, is_more, are_all_known)
        return BulkPlan(tuple(found), unsuited, looked, is_more=False, are_all_senders_known=are_all_known)

    async def _plan_names(self, suited: SuitedEvents, request: BulkRequest) -> BulkPlan:
        async def read(name: str) -> Raw | None:
            try:
                return await suited.user.kube.get(EnvelopeEvent, name)
            except NotFound:
                return None

        found: list[Raw] = []
        looked = size = 0
        while looked < len(request.names) and size < self.limits.kept_bytes:
            raws = await asyncio.gather(*map(read, request.names[looked : looked + self.limits.writers]))
            chosen = await suited.of(raw for raw in raws if raw is not None)
            found, looked, size = found + chosen, looked + len(raws), size + size_of(chosen)
        is_more, unsuited = looked < len(request.names), looked - len(found)
        return BulkPlan(tuple(found), unsuited, looked, is_more, are_all_senders_known=True)


def parse_bulk(form: Mapping[str, str], limits: ConsoleLimits) -> BulkRequest:
    """Read the form of a list of events. Raises ``PageError``."""
    what, _, scope = form.get("do", "").partition("-")
    if what not in BULK_ACTIONS or scope not in ("selected", "all"):
        raise PageError(HttpErrorKind.LINK_BROKEN, "the form asks for nothing that is known")
    wanted = _parse_filter(form.get("filter", ""), limits)
    names = tuple(key.removeprefix(FIELD_PREFIX) for key in form if key.startswith(FIELD_PREFIX))
    if not all(map(is_name, names)):
        raise PageError(HttpErrorKind.LINK_BROKEN, "the form selects something that is no event")
    if len(names) > limits.selected_events:
        raise PageError(HttpErrorKind.TOO_LARGE, "the form selects too many events")
    return BulkRequest(Action(what), wanted, names, is_for_filter=scope == "all")


def is_confirmed(form: Mapping[str, str], plan: BulkPlan) -> bool:
    """Whether a person confirmed the action for exactly the events of a plan, in the states of the plan."""
    is_counted = bool(plan.raws) and form.get("confirmed") == str(len(plan.raws))
    return is_counted and form.get("digest") == plan.digest


class Confirmation(NamedTuple):
    """The fields of a form that acts at once on exactly the events that its page shows."""

    confirmed: int
    digest: str


def confirmation(events: Iterable[EnvelopeEvent], action: Action) -> Confirmation:
    """Return the confirmation of an action for those of the events that it is suited for."""
    suited = [each for each in events if is_event_suited(each, action)]
    return Confirmation(len(suited), digest_of(suited))


def _parse_filter(text: str, limits: ConsoleLimits) -> EventFilter:
    try:
        wanted = read(parse_unique_pairs(text, max_fields=limits.parameters))
    except ValueError:
        raise PageError(HttpErrorKind.LINK_BROKEN, "the filter can't be read") from None
    if wanted.refused:
        # To act on more events than the list showed would be worse than to act on none.
        raise PageError(HttpErrorKind.LINK_BROKEN, "the filter has invalid values")
    return replace(wanted, token="", sort="")
