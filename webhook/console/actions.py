"""
Actions of a person in the console: each is one call with the person's own token, and is recorded.

The annotation ``counterfoil.dev/acts`` records each action on the object. A Kubernetes Event, written as the
person, reports it too; a person who may not write Events can still act.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final

from counterfoil.clock import Clock
from counterfoil.kube.errors import ApiError, Conflict, Forbidden, NotFound
from counterfoil.resources import (
    API_VERSION,
    REQUEST_BY_ANNOTATION,
    REQUEST_LABEL,
    REQUEST_REASON_ANNOTATION,
    SWEEP_ANNOTATION,
    Archive,
    EnvelopeEvent,
    Organization,
    Phase,
    Resource,
    ResourceInvalid,
    Sender,
)
from counterfoil.resources.audit_annotation import (
    CONSENT_MAIL_ANNOTATION,
    PROBE_ANNOTATION,
    AuditEntry,
    with_audit_entry,
)
from webhook.console.access import EVENTS, AuthenticatedUser
from webhook.console.errors import ConsoleErrorKind
from webhook.console.limits import ConsoleLimits
from webhook.http_server.errors import PageError

_log = logging.getLogger(__name__)

MAX_WRITE_ATTEMPTS: Final = 5
"""Tries to write to an object that somebody else is writing to as well."""

MAX_NOTE_BYTES: Final = 1000
"""The API server takes 1,024 bytes of note."""


class Action(StrEnum):
    """Everything that can be done; also the name of its words."""

    RETRY = "retry"
    SKIP = "skip"
    SUSPEND = "suspend"
    RESUME = "resume"
    ASK = "ask"
    PROBE = "probe"
    SWEEP = "sweep"


KINDS: Final[Mapping[str, type[Resource]]] = {
    each.PLURAL: each for each in (EnvelopeEvent, Sender, Archive, Organization)
}

ALLOWED: Final[Mapping[type[Resource], frozenset[Action]]] = {
    EnvelopeEvent: frozenset({Action.RETRY, Action.SKIP, Action.SUSPEND, Action.RESUME}),
    Sender: frozenset({Action.ASK, Action.SUSPEND, Action.RESUME}),
    Archive: frozenset({Action.PROBE}),
    Organization: frozenset({Action.SWEEP, Action.SUSPEND, Action.RESUME}),
}
"""The actions of each kind."""

_FIELD: Final[Mapping[type[Resource], str]] = {
    EnvelopeEvent: "event",
    Sender: "sender",
    Archive: "archive",
    Organization: "organization",
}
"""In which field of a log line the name of what was acted on stands."""

_REQUEST_ANNOTATIONS: Final[Mapping[Action, str]] = {
    Action.ASK: CONSENT_MAIL_ANNOTATION,
    Action.PROBE: PROBE_ANNOTATION,
    Action.SWEEP: SWEEP_ANNOTATION,
}
"""Annotations by which something is asked for; each with the time as its value, so that each time is a new
one."""


@dataclass(frozen=True)
class ActionRequest:
    """An action and its reason."""

    action: Action
    reason: str = ""


@dataclass(frozen=True)
class ActionResult:
    """The result of an action: the number of objects, and whether there are more."""

    count: int
    is_more: bool = False
    is_event_recorded: bool = True
    """Whether the Kubernetes Event could be written."""


class ActionService:
    """Does what people ask for."""

    def __init__(self, clock: Clock, *, limits: ConsoleLimits) -> None:
        self._clock = clock
        self._limits = limits

    async def apply_to_object(
        self, auth_user: AuthenticatedUser, kind: type[Resource], name: str, action_request: ActionRequest
    ) -> ActionResult:
        """Do it to one object. Raises ``PageError``, ``ApiError``."""
        self._check(kind, action_request)
        raw = await auth_user.kube.get(kind, name)
        after = await self._write(auth_user, kind, raw, action_request)
        _log.info(
            "%s was asked for", action_request.action, extra={"who": auth_user.name, _FIELD[kind]: name}
        )
        return ActionResult(
            1, is_event_recorded=await self._create_event(auth_user, after, action_request, "1 object")
        )

    async def apply_to_failed_events(
        self, auth_user: AuthenticatedUser, organization: str, reason: str, action_request: ActionRequest
    ) -> ActionResult:
        """Do it to every event of an organization that failed for one reason. Raises ``PageError``,
        ``ApiError``."""
        self._check(EnvelopeEvent, action_request)
        if not auth_user.rights.can_patch(EVENTS):
            # The API server would refuse it as well, but only after the looking for them.
            raise PageError(ConsoleErrorKind.NOT_ALLOWED, f"{EVENTS} may not be changed")
        found, is_more = await self._find_failed_events(auth_user, organization, reason)
        written = await self._write_all(auth_user, found, reason, action_request)
        count, is_more = written.count(True), is_more or None in written
        note = f"{count} events that failed with {reason or 'no reason'}"
        fields = {"who": auth_user.name, "organization": organization, "reason": reason or None}
        _log.info("%s was asked for: %s", action_request.action, note, extra=fields)
        try:
            about = await auth_user.kube.get(Organization, organization)
        except ApiError:
            # That it is gone may be the very reason; what was asked for is done.
            return ActionResult(count, is_more, is_event_recorded=False)
        return ActionResult(count, is_more, await self._create_event(auth_user, about, action_request, note))

    async def _write_all(
        self,
        auth_user: AuthenticatedUser,
        found: list[dict[str, Any]],
        reason: str,
        action_request: ActionRequest,
    ) -> list[bool | None]:
        """
        Write to each; say of each whether it was, or None when others were first all the time.

        Raises the first ``ApiError`` that concerns more than one event; then no further event is changed.
        """
        semaphore = asyncio.Semaphore(self._limits.writers)

        async def write(raw: dict[str, Any]) -> bool | None:
            async with semaphore:
                try:
                    await self._write(
                        auth_user, EnvelopeEvent, raw, action_request, is_current=partial(_has_failed, reason)
                    )
                except (NotFound, _NoLongerMatches):
                    # Deleted since it was listed, or no longer what the person saw.
                    return False
                except Conflict:
                    return None
                return True

        try:
            async with asyncio.TaskGroup() as writers:
                tasks = [writers.create_task(write(raw)) for raw in found]
        except* ApiError as problems:
            raise next(_flattened(problems)) from None
        return [task.result() for task in tasks]

    def _check(self, kind: type[Resource], action_request: ActionRequest) -> None:
        if action_request.action not in ALLOWED[kind]:
            raise PageError(
                ConsoleErrorKind.LINK_BROKEN,
                f"{action_request.action} is nothing that can be done to {kind.KIND}",
            )
        if action_request.action is Action.SKIP and not action_request.reason:
            raise PageError(ConsoleErrorKind.REASON_MISSING, "a skip needs its reason")

    async def _find_failed_events(
        self, auth_user: AuthenticatedUser, organization: str, reason: str
    ) -> tuple[list[dict[str, Any]], bool]:
        found: list[dict[str, Any]] = []
        looked = 0
        fields = f"status.phase={Phase.FAILED},spec.organizationRef.name={organization}"
        async for raw in auth_user.kube.list(EnvelopeEvent, fields=fields):
            if looked >= self._limits.searched:
                return found, True
            looked += 1
            if not _has_failed(reason, raw):
                continue
            if len(found) >= self._limits.affected_events:
                return found, True
            found.append(raw)
        return found, False

    async def _write(
        self,
        auth_user: AuthenticatedUser,
        kind: type[Resource],
        raw: dict[str, Any],
        action_request: ActionRequest,
        *,
        is_current: Callable[[dict[str, Any]], bool] = lambda _: True,
    ) -> dict[str, Any]:
        """Write to an object while it is ``is_current`` what it was chosen for. Raises ``_NoLongerMatches``,
        ``ApiError``."""
        name = raw["metadata"]["name"]
        for _ in range(MAX_WRITE_ATTEMPTS):
            if not is_current(raw):
                raise _NoLongerMatches
            try:
                return await auth_user.kube.patch(
                    kind, name, self._patch_body(auth_user, raw, action_request)
                )
            except Conflict:
                # The controller writes its status at the same time; the record does not overwrite it.
                raw = await auth_user.kube.get(kind, name)
        raise Conflict(409, "Conflict", f"{kind.KIND}/{name} is written by others all the time")

    def _patch_body(
        self, auth_user: AuthenticatedUser, raw: Mapping[str, Any], action_request: ActionRequest
    ) -> dict[str, Any]:
        metadata = raw["metadata"]
        now = self._clock.now().replace(microsecond=0)
        act = AuditEntry(who=auth_user.name, what=action_request.action, when=now, why=action_request.reason)
        annotations: dict[str, str | None] = {**with_audit_entry(metadata.get("annotations") or {}, act)}
        changed: dict[str, Any] = {"annotations": annotations, "resourceVersion": metadata["resourceVersion"]}
        if action_request.action in (Action.RETRY, Action.SKIP):
            changed["labels"] = {REQUEST_LABEL: action_request.action.value}
            annotations[REQUEST_BY_ANNOTATION] = auth_user.name
            # None takes away what somebody wrote for another request.
            annotations[REQUEST_REASON_ANNOTATION] = action_request.reason or None
        if action_request.action in _REQUEST_ANNOTATIONS:
            annotations[_REQUEST_ANNOTATIONS[action_request.action]] = self._clock.now().isoformat()
        if action_request.action in (Action.SUSPEND, Action.RESUME):
            return {"metadata": changed, "spec": {"suspend": action_request.action is Action.SUSPEND}}
        return {"metadata": changed}

    async def _create_event(
        self,
        auth_user: AuthenticatedUser,
        about: Mapping[str, Any],
        action_request: ActionRequest,
        concerned: str,
    ) -> bool:
        """Write the Kubernetes Event; False when this person may not, or when it is not possible now."""
        if not auth_user.rights.can_create_events:
            return False
        because = f" because: {action_request.reason}" if action_request.reason else ""
        note = f"{auth_user.name} asked for {action_request.action} ({concerned}){because}"
        try:
            await auth_user.kube.create_event(self._event(auth_user, about, action_request, note))
        except Forbidden:
            return False
        except ApiError as problem:
            _log.warning("a Kubernetes Event could not be posted: %s", problem)
            return False
        return True

    def _event(
        self, auth_user: AuthenticatedUser, about: Mapping[str, Any], action_request: ActionRequest, note: str
    ) -> dict[str, Any]:
        name, now = about["metadata"]["name"], self._clock.now().isoformat(timespec="microseconds")
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{secrets.token_hex(8)}", "namespace": auth_user.kube.namespace},
            "eventTime": now.replace("+00:00", "Z"),
            "reportingController": "counterfoil.dev/console",
            "reportingInstance": os.environ.get("HOSTNAME", "console")[:128],
            "action": "Act",
            "reason": f"{action_request.action.value.capitalize()}Asked",
            "type": "Normal",
            "note": note.encode()[:MAX_NOTE_BYTES].decode(errors="ignore"),
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": about["kind"],
                "name": name,
                "namespace": auth_user.kube.namespace,
                "uid": about["metadata"]["uid"],
            },
        }


class _NoLongerMatches(Exception):
    """An object is no longer what it was chosen for."""


def _has_failed(reason: str, raw: Mapping[str, Any]) -> bool:
    """Whether an event failed for this reason; one that can't be read did not."""
    try:
        status = EnvelopeEvent.parse(raw).status
    except ResourceInvalid:
        return False
    return status.phase is Phase.FAILED and status.cause == reason


def _flattened(group: BaseExceptionGroup[ApiError]) -> Iterator[ApiError]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _flattened(each)
        else:
            yield each
