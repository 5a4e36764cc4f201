"""
The request ``route`` on an Organization: which Archive an envelope would go to, without any change.

Its parameters are an envelope, whose metadata eSAW is asked for with the key of its Sender, and facts that
take the place of what is found: ``action``, ``sender``, ``status``, and ``tags`` as a JSON object of texts.
Without an envelope the routes are judged by these facts alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import msgspec
from msgspec.structs import replace

from controller.reconcile.context import ReconcileContext
from controller.reconcile.preconditions import Preconditions
from controller.reconcile.routing import Decision, RouteFacts, TagValues, route_fault
from controller.requests.request_table import RequestResult, RequestType
from counterfoil.archives.errors import ArchiveError
from counterfoil.archives.tags import VALUE_LIMIT
from counterfoil.esaw.errors import EsawError
from counterfoil.kube.client import KubeClient
from counterfoil.resources import (
    EnvelopeEvent,
    EnvelopeEventSpec,
    EnvelopeEventStatus,
    LocalObjectReference,
    Organization,
    Origin,
    envelope_id,
)
from counterfoil.resources.base import ObjectMeta
from counterfoil.resources.naming import EnvelopeId, event_name
from counterfoil.resources.request import (
    MAX_REQUEST_TEXT_LENGTH,
    REQUEST_ANNOTATION_PREFIX,
    Request,
    RequestOutcome,
)
from counterfoil.resources.routes import Choice, import_choice, kept_choices, known_choice, stored_choice
from counterfoil.worker_processes.pool import WorkerStopped

_Value = Annotated[str, msgspec.Meta(max_length=VALUE_LIMIT)]
"""A value as an Archive's rules find it: a longer one is cut there."""


class _Invalid(ValueError):
    """A parameter that can't be used; the message is for the person."""


class _Given(NamedTuple):
    """The parameters of a request."""

    envelope: EnvelopeId | None
    facts: RouteFacts
    tags: Mapping[str, str]


@dataclass(frozen=True)
class RouteRequests:
    """Says which Archive an envelope would go to."""

    kube: KubeClient
    preconditions: Preconditions

    @property
    def types(self) -> dict[str, RequestType]:
        """The row of the table for Organizations."""
        return {"route": RequestType("RouteRequested", self.route)}

    async def route(self, organization: Organization, request: Request) -> RequestResult:
        """Judge the routes; the answer is ``status.lastRequest``. Nothing else is changed."""
        try:
            given = _given(request.parameters)
        except _Invalid as invalid:
            return RequestResult(RequestOutcome.REFUSED, str(invalid))
        if given.envelope is None:
            tags = await self._with_given({}, organization, given)
            decision = await self.preconditions.archives.decide(organization, given.facts, tags)
            return self._result(organization, decision)
        events = await self._events(organization, given.envelope)
        if (kept := self._kept(organization, given, events)) is not None:
            return kept
        try:
            return await self._of_envelope(organization, given, events)
        except (EsawError, ArchiveError, WorkerStopped) as problem:
            return _unreadable(str(problem))

    async def _of_envelope(
        self, organization: Organization, given: _Given, events: Sequence[EnvelopeEvent]
    ) -> RequestResult:
        event = _event(organization, given, events)
        context = await self.preconditions.unrouted(event, organization)
        if not isinstance(context, ReconcileContext):
            return _unreadable(f"{context.reason}: {context.message}")
        envelope = await context.envelope_facts()
        facts = RouteFacts(
            given.facts.action or event.spec.action,
            given.facts.sender or context.sender.name,
            given.facts.status or envelope.status,
        )
        archives = self.preconditions.archives
        found = await archives.tag_values(organization, facts, envelope)
        tags = await self._with_given(found, organization, given)
        decision = await archives.decide(organization, facts, tags)
        return self._result(organization, decision)

    async def _with_given(self, found: TagValues, organization: Organization, given: _Given) -> TagValues:
        """Return the values of the tags of each route that can be judged; given ones come before those of the
        envelope."""
        judged = await self.preconditions.archives.judged(organization, organization.spec.routes)
        return {
            route.name: {
                **found.get(route.name, {}),
                **{name: given.tags[name] or None for name in route.when.tags if name in given.tags},
            }
            for route in judged.routes
        }

    async def _events(self, organization: Organization, envelope: EnvelopeId) -> list[EnvelopeEvent]:
        """Return the events of the envelope, oldest first. Raises ``ApiError``."""
        fields = f"spec.envelopeID={envelope}"
        found = [each async for each in self.kube.list_readable(EnvelopeEvent, fields=fields)]
        own = (each for each in found if each.organization == organization.name)
        return sorted(own, key=lambda each: (str(each.metadata.creation_timestamp), each.name))

    def _kept(
        self, organization: Organization, given: _Given, events: Sequence[EnvelopeEvent]
    ) -> RequestResult | None:
        """Return where the events of the envelope keep it, or what the one that is asked about has chosen,
        also if the routes changed, or the Archive of its Import; None: the routes decide."""
        asked = _asked(organization, given, events)
        for kept in kept_choices(events):
            is_own = asked is not None and kept.event == asked.name
            if is_own or self.preconditions.archives.is_still_there(kept):
                why = f"EnvelopeEvent/{kept.event} has chosen it, and files of the envelope may be there."
                return self._chosen(kept.choice, why)
        # One that has ended chooses again when it is started.
        if asked is not None and not asked.status.phase.is_final:
            choice = stored_choice(asked.status)
            if choice is not None and choice == known_choice(asked, organization.spec):
                return self._chosen(choice, f"EnvelopeEvent/{asked.name} has chosen it.")
        if asked is None or (of_import := import_choice(asked)) is None:
            return None
        event = f"EnvelopeEvent/{asked.name}"
        why = f"an Import created {event}, unless another Archive has the envelope already."
        return self._chosen(of_import, why)

    def _chosen(self, choice: Choice, why: str, *passed: str) -> RequestResult:
        """Return an answer with an Archive, and what lets events wait for it."""
        archive = self.preconditions.cache.archives.get(choice.archive)
        state = [f"Archive/{choice.archive} does not exist."] if archive is None else []
        if archive is not None and archive.spec.suspend:
            state = [f"Archive/{choice.archive} is suspended (spec.suspend)."]
        outcome = RequestOutcome.REFUSED if archive is None else RequestOutcome.DONE
        return RequestResult(outcome, _text(f"{choice}: {why}", *state, *passed))

    def _result(self, organization: Organization, decision: Decision) -> RequestResult:
        passed = [
            f"Not `{each.route.name}`: {each.why}." for each in decision.verdicts if each.holds is False
        ]
        if decision.choice is not None:
            why = "the Organization has no routes" if not organization.spec.routes else "no route holds"
            if decision.choice.route is not None:
                why = decision.verdicts[-1].why
            return self._chosen(decision.choice, f"{why}.", *passed)
        undecided, archives = decision.undecided, self.preconditions.cache.archives
        if undecided is None:
            message = f"Organization/{organization.name} has no spec.archiveRef."
        elif fault := route_fault(undecided.route, archives.get(undecided.route.archive_ref.name)):
            message = fault.message
        else:
            message = (
                f"The route `{undecided.route.name}` can't be judged: {undecided.why}. Name an envelope, or "
                "give what is not known."
            )
        return RequestResult(RequestOutcome.REFUSED, _text(message, *passed))


def _unreadable(why: str) -> RequestResult:
    return RequestResult(RequestOutcome.REFUSED, _text(f"The envelope can't be read now. {why}"))


def _text(*sentences: str) -> str:
    return " ".join(sentences)[:MAX_REQUEST_TEXT_LENGTH]


def _action(organization: Organization, given: _Given) -> str:
    return given.facts.action or organization.spec.archive_action or "envelopeFinished"


def _asked(
    organization: Organization, given: _Given, events: Sequence[EnvelopeEvent]
) -> EnvelopeEvent | None:
    """Return the event of the envelope whose action was given, else the first; None: there is none."""
    action = _action(organization, given).lower()
    same = [each for each in events if each.spec.action.lower() == action]
    return next(iter([*same, *events]), None)


def _event(organization: Organization, given: _Given, events: Sequence[EnvelopeEvent]) -> EnvelopeEvent:
    """Return the event of the envelope whose action was given, else the first; if there is none, one that is
    not stored."""
    action = _action(organization, given)
    if found := _asked(organization, given, events):
        known = found.status
        # Without the rest of the status: what eSAW answers is not recorded.
        status = EnvelopeEventStatus(envelope=known.envelope, not_shown_to=known.not_shown_to)
        return replace(found, status=status)
    envelope = given.envelope or EnvelopeId("")
    spec = EnvelopeEventSpec(
        organization_ref=LocalObjectReference(name=organization.name),
        envelope_id=envelope,
        action=action,
        origin=Origin.MANUAL,
    )
    name = event_name(organization.name, envelope, action, "")
    return EnvelopeEvent(metadata=ObjectMeta(name=name, namespace=organization.metadata.namespace), spec=spec)


def _given(parameters: Mapping[str, str]) -> _Given:
    """Read the parameters. Raises ``_Invalid``."""
    text, where = parameters.get("envelope"), f"The annotation {REQUEST_ANNOTATION_PREFIX}"
    try:
        envelope = envelope_id(text) if text else None
    except ValueError:
        raise _Invalid(f"{where}envelope has to be a GUID.") from None
    try:
        tags = msgspec.json.decode(parameters.get("tags") or "{}", type=dict[str, _Value])
    except msgspec.MsgspecError:
        longest = f"{VALUE_LIMIT:,} characters at most"
        raise _Invalid(f"{where}tags has to be a JSON object of texts of {longest}.") from None
    action, sender, status = (parameters.get(each) or None for each in ("action", "sender", "status"))
    return _Given(envelope, RouteFacts(action, sender, status), tags)
