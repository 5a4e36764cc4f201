"""
Actions: what a person does from the console, each one call with the person's own token, and recorded.

On the object it stands in the annotation ``counterfoil.dev/acts`` (who, what, when, why); besides, a Kubernetes Event tells it,
written by the person as well. The Event is told about, not relied on: who may not write Events may act all the same.
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
from counterfoil.cluster import ApiProblem, Conflict, Forbidden, NotFound
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
from counterfoil.resources.acting import ASK_ANNOTATION, PROBE_ANNOTATION, Act, recorded
from webhook.console.limits import ConsoleLimits
from webhook.console.problems import Kind, Trouble
from webhook.console.visitors import EVENTS, Visitor

log = logging.getLogger(__name__)

WRITES: Final = 5
"""Tries to write to an object that somebody else is writing to as well."""

NOTE_BYTES: Final = 1000
"""The API server takes 1,024 bytes of note."""


class What(StrEnum):
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

ALLOWED: Final[Mapping[type[Resource], frozenset[What]]] = {
    EnvelopeEvent: frozenset({What.RETRY, What.SKIP, What.SUSPEND, What.RESUME}),
    Sender: frozenset({What.ASK, What.SUSPEND, What.RESUME}),
    Archive: frozenset({What.PROBE}),
    Organization: frozenset({What.SWEEP, What.SUSPEND, What.RESUME}),
}
"""What can be done to what."""

_FIELD: Final[Mapping[type[Resource], str]] = {
    EnvelopeEvent: "event",
    Sender: "sender",
    Archive: "archive",
    Organization: "organization",
}
"""In which field of a log line the name of what was acted on stands."""

_ASKED_BY: Final[Mapping[What, str]] = {
    What.ASK: ASK_ANNOTATION,
    What.PROBE: PROBE_ANNOTATION,
    What.SWEEP: SWEEP_ANNOTATION,
}
"""Annotations by which something is asked for; each with the time as its value, so that each time is a new one."""


@dataclass(frozen=True)
class Deed:
    """What is to be done, and why."""

    what: What
    why: str = ""


@dataclass(frozen=True)
class Done:
    """What came of it: how many objects, and whether there are more."""

    count: int
    is_more: bool = False
    is_told: bool = True
    """Whether the Kubernetes Event could be written."""


class Actions:
    """Does what people ask for."""

    def __init__(self, clock: Clock, *, limits: ConsoleLimits) -> None:
        self._clock = clock
        self._limits = limits

    async def on_one(self, visitor: Visitor, kind: type[Resource], name: str, deed: Deed) -> Done:
        """Do it to one object. Raises ``Trouble``, ``ApiProblem``."""
        self._check(kind, deed)
        raw = await visitor.cluster.get(kind, name)
        after = await self._write(visitor, kind, raw, deed)
        log.info("%s was asked for", deed.what, extra={"who": visitor.name, _FIELD[kind]: name})
        return Done(1, is_told=await self._tell(visitor, after, deed, "1 object"))

    async def on_failed(self, visitor: Visitor, organization: str, reason: str, deed: Deed) -> Done:
        """Do it to every event of an organization that failed for one reason. Raises ``Trouble``, ``ApiProblem``."""
        self._check(EnvelopeEvent, deed)
        if not visitor.rights.change(EVENTS):
            # The API server would refuse it as well, but only after the looking for them.
            raise Trouble(Kind.NOT_ALLOWED, f"{EVENTS} may not be changed")
        found, is_more = await self._failed(visitor, organization, reason)
        written = await self._write_all(visitor, found, reason, deed)
        count, is_more = written.count(True), is_more or None in written
        note = f"{count} events that failed with {reason or 'no reason'}"
        fields = {"who": visitor.name, "organization": organization, "reason": reason or None}
        log.info("%s was asked for: %s", deed.what, note, extra=fields)
        try:
            about = await visitor.cluster.get(Organization, organization)
        except ApiProblem:
            # That it is gone may be the very reason; what was asked for is done.
            return Done(count, is_more, is_told=False)
        return Done(count, is_more, await self._tell(visitor, about, deed, note))

    async def _write_all(
        self, visitor: Visitor, found: list[dict[str, Any]], reason: str, deed: Deed
    ) -> list[bool | None]:
        """
        Write to each; say of each whether it was, or None when others were first all the time.

        Raises the first ``ApiProblem`` that concerns more than one event; then nothing goes on.
        """
        room = asyncio.Semaphore(self._limits.writers)

        async def write(raw: dict[str, Any]) -> bool | None:
            async with room:
                try:
                    await self._write(visitor, EnvelopeEvent, raw, deed, still=partial(_has_failed, reason))
                except (NotFound, _Past):
                    # Deleted since it was listed, or no longer what the person saw.
                    return False
                except Conflict:
                    return None
                return True

        try:
            async with asyncio.TaskGroup() as writers:
                tasks = [writers.create_task(write(raw)) for raw in found]
        except* ApiProblem as problems:
            raise next(_flat(problems)) from None
        return [task.result() for task in tasks]

    def _check(self, kind: type[Resource], deed: Deed) -> None:
        if deed.what not in ALLOWED[kind]:
            raise Trouble(Kind.LINK_BROKEN, f"{deed.what} is nothing that can be done to {kind.KIND}")
        if deed.what is What.SKIP and not deed.why:
            raise Trouble(Kind.REASON_MISSING, "a skip needs its reason")

    async def _failed(
        self, visitor: Visitor, organization: str, reason: str
    ) -> tuple[list[dict[str, Any]], bool]:
        found: list[dict[str, Any]] = []
        looked = 0
        fields = f"status.phase={Phase.FAILED},spec.organizationRef.name={organization}"
        async for raw in visitor.cluster.list(EnvelopeEvent, fields=fields):
            if looked >= self._limits.searched:
                return found, True
            looked += 1
            if not _has_failed(reason, raw):
                continue
            if len(found) >= self._limits.acted:
                return found, True
            found.append(raw)
        return found, False

    async def _write(
        self,
        visitor: Visitor,
        kind: type[Resource],
        raw: dict[str, Any],
        deed: Deed,
        *,
        still: Callable[[dict[str, Any]], bool] = lambda _: True,
    ) -> dict[str, Any]:
        """Write to an object while it is ``still`` what it was chosen for. Raises ``_Past``, ``ApiProblem``."""
        name = raw["metadata"]["name"]
        for _ in range(WRITES):
            if not still(raw):
                raise _Past
            try:
                return await visitor.cluster.patch(kind, name, self._changes(visitor, raw, deed))
            except Conflict:
                # The controller writes its status at the same time; what is recorded stands beside what it wrote.
                raw = await visitor.cluster.get(kind, name)
        raise Conflict(409, "Conflict", f"{kind.KIND}/{name} is written by others all the time")

    def _changes(self, visitor: Visitor, raw: Mapping[str, Any], deed: Deed) -> dict[str, Any]:
        metadata = raw["metadata"]
        now = self._clock.now().replace(microsecond=0)
        act = Act(who=visitor.name, what=deed.what, when=now, why=deed.why)
        annotations: dict[str, str | None] = {**recorded(metadata.get("annotations") or {}, act)}
        changed: dict[str, Any] = {"annotations": annotations, "resourceVersion": metadata["resourceVersion"]}
        if deed.what in (What.RETRY, What.SKIP):
            changed["labels"] = {REQUEST_LABEL: deed.what.value}
            annotations[REQUEST_BY_ANNOTATION] = visitor.name
            # None takes away what somebody wrote for another request.
            annotations[REQUEST_REASON_ANNOTATION] = deed.why or None
        if deed.what in _ASKED_BY:
            annotations[_ASKED_BY[deed.what]] = self._clock.now().isoformat()
        if deed.what in (What.SUSPEND, What.RESUME):
            return {"metadata": changed, "spec": {"suspend": deed.what is What.SUSPEND}}
        return {"metadata": changed}

    async def _tell(self, visitor: Visitor, about: Mapping[str, Any], deed: Deed, concerned: str) -> bool:
        """Write the Kubernetes Event; False when this person may not, or when it is not possible now."""
        if not visitor.rights.tell:
            return False
        because = f" because: {deed.why}" if deed.why else ""
        note = f"{visitor.name} asked for {deed.what} ({concerned}){because}"
        try:
            await visitor.cluster.create_event(self._event(visitor, about, deed, note))
        except Forbidden:
            return False
        except ApiProblem as problem:
            log.warning("a Kubernetes Event could not be posted: %s", problem)
            return False
        return True

    def _event(self, visitor: Visitor, about: Mapping[str, Any], deed: Deed, note: str) -> dict[str, Any]:
        name, now = about["metadata"]["name"], self._clock.now().isoformat(timespec="microseconds")
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{secrets.token_hex(8)}", "namespace": visitor.cluster.namespace},
            "eventTime": now.replace("+00:00", "Z"),
            "reportingController": "counterfoil.dev/console",
            "reportingInstance": os.environ.get("HOSTNAME", "console")[:128],
            "action": "Act",
            "reason": f"{deed.what.value.capitalize()}Asked",
            "type": "Normal",
            "note": note.encode()[:NOTE_BYTES].decode(errors="ignore"),
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": about["kind"],
                "name": name,
                "namespace": visitor.cluster.namespace,
                "uid": about["metadata"]["uid"],
            },
        }


class _Past(Exception):
    """An object is no longer what it was chosen for."""


def _has_failed(reason: str, raw: Mapping[str, Any]) -> bool:
    """Whether an event failed for this reason; one that can't be read did not."""
    try:
        status = EnvelopeEvent.parse(raw).status
    except ResourceInvalid:
        return False
    return status.phase is Phase.FAILED and status.cause == reason


def _flat(group: BaseExceptionGroup[ApiProblem]) -> Iterator[ApiProblem]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _flat(each)
        else:
            yield each
