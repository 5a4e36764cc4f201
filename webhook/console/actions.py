"""
Actions of a person in the console: each is one call with the person's own token, and is recorded.

The annotation ``counterfoil.dev/acts`` records each action on the object. A Kubernetes Event, written as the
person, reports it too; a person who may not write Events can still act.
"""

import logging
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

from counterfoil import resources
from counterfoil.clock import Clock
from counterfoil.kube.errors import ApiError, Forbidden
from counterfoil.kube.recorded_write import NoLongerMatches, is_any, write_recorded
from counterfoil.kube.watch import Raw
from counterfoil.resources import Archive, EnvelopeEvent, Import, Organization, Resource, Sender
from counterfoil.resources.audit_annotation import AuditEntry
from counterfoil.resources.envelopeevent import has_state
from counterfoil.resources.request import EXPECTED_PARAMETER, request_changes
from webhook.console.access import AuthenticatedUser
from webhook.console.errors import ConsoleErrorKind
from webhook.http_server.errors import HttpErrorKind, PageError

_log = logging.getLogger(__name__)

MAX_NOTE_BYTES: Final = 1000
"""The API server takes 1,024 bytes of note."""


class Action(StrEnum):
    """Everything that can be done; also the name of its words."""

    RETRY = "retry"
    SKIP = "skip"
    COPY = "copy"
    SUSPEND = "suspend"
    RESUME = "resume"
    ASK = "ask"
    PROBE = "probe"
    SWEEP = "sweep"
    CHECK = "check"


_NAMES: Final[Mapping[Action, str]] = {Action.ASK: "consent mail"}
"""Names of actions in Kubernetes Events that differ from the action's own."""

ALLOWED: Final[Mapping[type[Resource], frozenset[Action]]] = {
    EnvelopeEvent: frozenset({Action.RETRY, Action.SKIP, Action.COPY, Action.SUSPEND, Action.RESUME}),
    Sender: frozenset({Action.ASK, Action.SUSPEND, Action.RESUME}),
    Archive: frozenset({Action.PROBE, Action.SUSPEND, Action.RESUME}),
    Organization: frozenset({Action.SWEEP, Action.CHECK, Action.SUSPEND, Action.RESUME}),
    Import: frozenset({Action.SUSPEND, Action.RESUME}),
}
"""The actions of each kind."""

KINDS: Final[Mapping[str, type[Resource]]] = {each.PLURAL: each for each in ALLOWED}


@dataclass(frozen=True)
class ActionRequest:
    """An action and its reason."""

    action: Action
    reason: str = ""
    expected: str | None = None
    """The state of the event that the person was shown (``envelopeevent.state_of``). A skip of an event in
    another state is refused."""


@dataclass(frozen=True)
class ActionService:
    """Does what people ask for."""

    clock: Clock

    async def apply_to_object(
        self, user: AuthenticatedUser, kind: type[Resource], name: str, request: ActionRequest
    ) -> bool:
        """Do it to one object; return whether the Kubernetes Event could be written, too. Raises
        ``PageError``, ``ApiError``."""
        self.check(kind, request)
        raw = await user.kube.get(kind, name)
        is_exact = kind is EnvelopeEvent and request.action is Action.SKIP
        is_current = partial(has_state, state=request.expected) if is_exact else is_any
        try:
            after = await self.write(user, kind, raw, request, is_current=is_current)
        except NoLongerMatches:
            detail = f"{name} is not in the state {request.expected!r} that was shown"
            raise PageError(ConsoleErrorKind.CHANGED_MEANWHILE, detail) from None
        field = "event" if kind is EnvelopeEvent else kind.KIND.lower()
        _log.info(
            "%s was requested",
            request.action,
            extra={"who": user.name, "namespace": user.kube.namespace, field: name},
        )
        return await self.create_event(user, after, request, "1 object")

    def check(self, kind: type[Resource], request: ActionRequest) -> None:
        """Raise ``PageError`` for an action that the kind does not have, or that lacks its reason."""
        if request.action not in ALLOWED[kind]:
            detail = f"{request.action} is nothing that can be done to {kind.KIND}"
            raise PageError(HttpErrorKind.LINK_BROKEN, detail)
        if request.action is Action.SKIP and not request.reason:
            raise PageError(ConsoleErrorKind.REASON_MISSING, "a skip needs its reason")

    async def write(
        self,
        user: AuthenticatedUser,
        kind: type[Resource],
        raw: Raw,
        request: ActionRequest,
        *,
        is_current: Callable[[Raw], bool],
    ) -> Raw:
        """Write to an object while it is ``is_current`` what it was chosen for. Raises ``NoLongerMatches``,
        ``ApiError``."""
        now = self.clock.now().replace(microsecond=0)
        entry = AuditEntry(who=user.name, what=request.action, when=now, why=request.reason)
        change = _change(user, request)
        return await write_recorded(user.kube, kind, raw, entry, change=change, is_current=is_current)

    async def create_event(
        self, user: AuthenticatedUser, about: Raw, request: ActionRequest, affected: str
    ) -> bool:
        """Write the Kubernetes Event; False when this person may not, or when it is not possible now."""
        if not user.rights.can_create_events:
            return False
        because = f" because: {request.reason}" if request.reason else ""
        note = f"{user.name} requested {_NAMES.get(request.action, request.action)} ({affected}){because}"
        try:
            await user.kube.create_event(self._event(user, about, request, note))
        except ApiError as problem:
            if not isinstance(problem, Forbidden):
                _log.warning("a Kubernetes Event could not be posted: %s", problem)
            return False
        return True

    def _event(self, user: AuthenticatedUser, about: Raw, request: ActionRequest, note: str) -> Raw:
        name, now = about["metadata"]["name"], self.clock.now().isoformat(timespec="microseconds")
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{secrets.token_hex(8)}", "namespace": user.kube.namespace},
            "eventTime": now.replace("+00:00", "Z"),
            "reportingController": "counterfoil.dev/console",
            "reportingInstance": os.environ.get("HOSTNAME", "console")[:128],
            "action": "Act",
            "reason": f"{_NAMES.get(request.action, request.action).title().replace(' ', '')}Requested",
            "type": "Normal",
            "note": note.encode()[:MAX_NOTE_BYTES].decode(errors="ignore"),
            "regarding": {
                "apiVersion": resources.API_VERSION,
                "kind": about["kind"],
                "name": name,
                "namespace": user.kube.namespace,
                "uid": about["metadata"]["uid"],
            },
        }


def _change(user: AuthenticatedUser, request: ActionRequest) -> Raw:
    if request.action in (Action.SUSPEND, Action.RESUME):
        return {"spec": {"suspend": request.action is Action.SUSPEND}}
    is_exact = request.action is Action.SKIP and request.expected is not None
    asked = request_changes(
        request.action.value,
        id_=secrets.token_hex(8),
        by=user.name,
        reason=request.reason,
        parameters={EXPECTED_PARAMETER: request.expected or ""} if is_exact else None,
    )
    return {"metadata": asked}
