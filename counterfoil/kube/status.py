"""
Write the status of a resource: compute the merge patch, send it, parse the answer.

Each write carries the resourceVersion that the work was based on, so a stale writer loses. Each caller
chooses what follows on such a conflict:

- ``write_status`` raises ``Conflict``.
- ``write_status_or_skip`` drops the write: the watch delivers the newer state, and the next pass starts from
  there.
- ``apply_change`` reads the newest state and applies the change to it again.
- ``StatusWriter`` (EnvelopeEvents) writes again if only the receiver's counters changed. Any other change
  means that another worker has the event: this run must stop.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Conflict, NotFound, Unavailable
from counterfoil.kube.watch import Raw
from counterfoil.resources import (
    CLAIM_ANNOTATION,
    Archive,
    EnvelopeEvent,
    EnvelopeEventStatus,
    Import,
    Organization,
    Sender,
    merge_patch,
    to_json_dict,
)
from counterfoil.resources.base import ResourcePart, ResourceWithComputedStatus

RETRY_PAUSES_SECONDS = (0.1, 0.3, 1.0, 3.0, 5.0, 10.0, 10.0, 10.0, 10.0, 10.0)
"""Pauses while the API server is unavailable, about a minute in all. A restart would repeat the finished
work."""

MAX_CHANGE_ATTEMPTS = 5
"""Maximum number of writes of one change while other processes write to the same status."""

R = TypeVar("R", Archive, EnvelopeEvent, Import, Organization, Sender)


async def patch_status(kube: KubeClient, resource: R, status: ResourcePart) -> Raw | None:
    """
    Write the difference between a resource's status and the new one. Return the answer, or None without a
    difference. What could not be read of the status is removed or replaced.

    Raises ``Conflict`` when the resource was changed since it was read, ``NotFound``, ``ApiError``.
    """
    before = to_json_dict(resource.status)
    if isinstance(resource, ResourceWithComputedStatus):
        before |= resource.unread_status or {}
    changes = merge_patch(before, to_json_dict(status))
    if not changes:
        return None
    return await kube.patch_status(
        type(resource), resource.name, changes, resource_version=resource.metadata.resource_version
    )


async def write_status(kube: KubeClient, resource: R, status: ResourcePart) -> R:
    """Write a new status and return the resource as stored. Raises as ``patch_status``."""
    raw = await patch_status(kube, resource, status)
    return resource if raw is None else type(resource).parse(raw)


async def write_status_or_skip(kube: KubeClient, resource: R, status: ResourcePart) -> R | None:
    """Write a new status; return None, without a write, if the resource was changed or deleted. Raises
    ``ApiError``."""
    try:
        return await write_status(kube, resource, status)
    except (Conflict, NotFound):
        return None


async def apply_change(
    kube: KubeClient,
    kind: type[R],
    name: str,
    known: R | None,
    change: Callable[[R], ResourcePart],
    *,
    uid: str | None = None,
) -> R:
    """
    Write the status that ``change`` computes, first from ``known``, after a conflict from the newest state.

    ``uid`` is that of the object which the change is about: one that took its name later does not get it.
    Raises ``NotFound`` then, ``ApiError``, ``Conflict`` after ``MAX_CHANGE_ATTEMPTS`` conflicts, and what
    ``change`` raises.
    """
    for _ in range(MAX_CHANGE_ATTEMPTS):
        resource = known or kind.parse(await kube.get(kind, name))
        if uid not in (None, resource.uid):
            message = f"{kind.KIND}/{name} was deleted, and another object has its name"
            raise NotFound(404, "NotFound", message)
        try:
            return await write_status(kube, resource, change(resource))
        except Conflict:
            known = None
    raise Conflict(409, "Conflict", f"other processes write to {kind.KIND}/{name} all the time")


class Superseded(Exception):
    """Another process changed or deleted the event since this run began; the run's result is void."""

    def __init__(self, message: str, newest: EnvelopeEvent | None = None) -> None:
        super().__init__(message)
        self.newest = newest
        """The newest state of the event; None if it was deleted."""


Revision = Callable[[EnvelopeEventStatus], EnvelopeEventStatus]


class StatusWriter:
    """Writes the status of EnvelopeEvents."""

    def __init__(
        self, kube: KubeClient, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._kube = kube
        self._sleep = sleep

    async def store(
        self, event: EnvelopeEvent, status: EnvelopeEventStatus, *, revise: Revision | None = None
    ) -> EnvelopeEvent:
        """
        Store the new status of an event and return the event as stored.

        ``revise`` returns the status to write from the status with the newest count of deliveries. Raises
        ``Superseded``, and ``Unavailable`` when the API server was unavailable for more than a minute.
        """
        base = event
        while True:
            status = _with_first_delivery(base, status)
            if revise is not None:
                status = revise(status)
            try:
                return await self._write_with_retries(base, status)
            except NotFound as missing:
                raise Superseded(f"{event.name} was deleted") from missing
            except Conflict:
                base = await newest_unless_superseded(self._kube, base, status)
                status = with_deliveries(status, base.status)

    async def _write_with_retries(self, base: EnvelopeEvent, status: EnvelopeEventStatus) -> EnvelopeEvent:
        for pause in RETRY_PAUSES_SECONDS:
            try:
                return await write_status(self._kube, base, status)
            except Unavailable as unavailable:
                # A longer Retry-After is cut: the result must be stored before this process is stopped.
                await self._sleep(min(unavailable.retry_after or pause, RETRY_PAUSES_SECONDS[-1]))
        return await write_status(self._kube, base, status)


async def newest_unless_superseded(
    kube: KubeClient, base: EnvelopeEvent, *written: EnvelopeEventStatus
) -> EnvelopeEvent:
    """
    Return the newest state if only counters changed, or if one of our writes arrived and its answer was lost.

    Raises ``Superseded`` if another run changed or claimed the event, or if it was deleted; ``ApiError``.
    """
    try:
        newest = EnvelopeEvent.parse(await kube.get(EnvelopeEvent, base.name))
    except NotFound as missing:
        raise Superseded(f"{base.name} was deleted") from missing
    ours = [_without_deliveries(each) for each in (base.status, *written)]
    is_ours = newest.uid == base.uid and _claim(newest) == _claim(base)
    if not is_ours or _without_deliveries(newest.status) not in ours:
        raise Superseded(f"{base.name} was changed by another process", newest)
    return newest


def _claim(event: EnvelopeEvent) -> str | None:
    return event.metadata.annotations.get(CLAIM_ANNOTATION)


def _without_deliveries(status: EnvelopeEventStatus) -> EnvelopeEventStatus:
    return msgspec.structs.replace(status, deliveries=None, first_delivery_time=None, last_delivery_time=None)


def with_deliveries(status: EnvelopeEventStatus, counted: EnvelopeEventStatus) -> EnvelopeEventStatus:
    """Return the status with the deliveries that another one counted."""
    return msgspec.structs.replace(
        status,
        deliveries=counted.deliveries,
        first_delivery_time=counted.first_delivery_time,
        last_delivery_time=counted.last_delivery_time,
    )


def _with_first_delivery(event: EnvelopeEvent, status: EnvelopeEventStatus) -> EnvelopeEventStatus:
    """Record the first delivery together with the first status, which saves a separate write."""
    if status.deliveries is not None:
        return status
    created = event.metadata.creation_timestamp if event.deliveries else None
    return msgspec.structs.replace(
        status, deliveries=event.deliveries, first_delivery_time=created, last_delivery_time=created
    )
