"""
Which events an action does something to, in their present state. It only selects what is offered and counted:
the controller decides about each request.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from counterfoil.kube.errors import NotFound
from counterfoil.kube.watch import Raw
from counterfoil.resources import EnvelopeEvent, Organization, ResourceInvalid
from counterfoil.resources.envelopeevent import NoticeState
from counterfoil.resources.reopening import is_reopened_by_retry, lacks_copies, takes_copies, takes_skip
from webhook.console.access import AuthenticatedUser
from webhook.console.actions import Action


@dataclass(frozen=True)
class SuitedEvents:
    """
    Chooses the events for which an action does something.

    Reads the Organizations of archived events, each once, if the action makes copies.
    """

    user: AuthenticatedUser
    action: Action
    _organizations: dict[str, Organization | None] = field(default_factory=dict)

    async def of(self, raws: Iterable[Raw]) -> list[Raw]:
        """Return those that the action is suited for, without those that can't be read. Raises
        ``ApiError``."""
        chosen = []
        for raw in raws:
            try:
                event = EnvelopeEvent.parse(raw)
            except ResourceInvalid:
                continue
            if is_event_suited(event, self.action, await self._organization_of(event)):
                chosen.append(raw)
        return chosen

    async def _organization_of(self, event: EnvelopeEvent) -> Organization | None:
        if self.action is not Action.COPY or not takes_copies(event.status):
            return None
        name = event.organization
        if name not in self._organizations:
            try:
                raw = await self.user.kube.get(Organization, name)
                self._organizations[name] = Organization.parse(raw)
            except (NotFound, ResourceInvalid):
                self._organizations[name] = None
        return self._organizations[name]


def is_event_suited(event: EnvelopeEvent, action: Action, organization: Organization | None = None) -> bool:
    """Whether an action does something to an event in its present state; ``organization`` names its
    copies."""
    if action is Action.COPY:
        return can_copy(event, organization)
    return can_retry(event) if action is Action.RETRY else can_skip(event)


def can_retry(event: EnvelopeEvent) -> bool:
    """Whether a retry does something: after an attempt, a problem or an end, if the envelope may be there."""
    status = event.status
    if not is_reopened_by_retry(status):
        return status.notice is not None and status.notice.state is NoticeState.FAILED
    is_tried = status.attempts or status.last_error is not None or status.next_attempt_time is not None
    return bool(status.phase.is_final or status.reason or is_tried)


def can_skip(event: EnvelopeEvent) -> bool:
    """Whether a skip does something."""
    return takes_skip(event.status)


def can_copy(event: EnvelopeEvent, organization: Organization | None) -> bool:
    """Whether a request for the copies does something: a copy of an archived event is missing."""
    return organization is not None and lacks_copies(event.status, organization.spec)
