"""
Writing an event's status: the only place of the controller that does.

Each write carries the resourceVersion that the work was based on, so a stale worker loses. One kind of change by
others is harmless, the receiver counting deliveries: then the write is repeated on top of it. Everything else means
that somebody else took the event over, and this run must stop.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Conflict, NotFound, Unavailable
from counterfoil.kube.watch import Raw
from counterfoil.resources import EnvelopeEvent, EnvelopeEventStatus, merge_patch, to_json_dict

RETRY_PAUSES_SECONDS = (0.1, 0.3, 1.0, 3.0, 5.0, 10.0, 10.0, 10.0, 10.0, 10.0)
"""Pauses while the API server is away: about a minute. The work is done and worth keeping; a restart would redo it."""


class Superseded(Exception):
    """Somebody else changed or deleted the event since this run began; what it found is void."""

    def __init__(self, message: str, newest: EnvelopeEvent | None = None) -> None:
        super().__init__(message)
        self.newest = newest
        """The event as it is now; None: it is gone."""


class StatusWriter:
    """Stores the status of events."""

    def __init__(
        self, kube: KubeClient, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._kube = kube
        self._sleep = sleep

    async def store(self, event: EnvelopeEvent, status: EnvelopeEventStatus) -> EnvelopeEvent:
        """
        Store the new status of an event and return the event as it is now.

        Raises ``Superseded``, and ``Unavailable`` when the API server stayed away for more than a minute.
        """
        base = event
        while True:
            status = _with_first_delivery(base, status)
            changes = merge_patch(to_json_dict(base.status), to_json_dict(status))
            if not changes:
                return base
            try:
                raw = await self._patch_with_retries(base, changes)
            except NotFound as missing:
                raise Superseded(f"{event.name} was deleted") from missing
            except Conflict:
                base = await self._newest_unless_changed(base, status)
                status = _with_deliveries(status, base.status)
                continue
            return EnvelopeEvent.parse(raw)

    async def _patch_with_retries(self, base: EnvelopeEvent, changes: Raw) -> Raw:
        for pause in RETRY_PAUSES_SECONDS:
            try:
                return await self._patch(base, changes)
            except Unavailable as unavailable:
                # It may ask for more, but what was done is to be stored before somebody wants to stop this process.
                await self._sleep(min(unavailable.retry_after or pause, RETRY_PAUSES_SECONDS[-1]))
        return await self._patch(base, changes)

    async def _patch(self, base: EnvelopeEvent, changes: Raw) -> Raw:
        return await self._kube.patch_status(
            EnvelopeEvent, base.name, changes, resource_version=base.metadata.resource_version
        )

    async def _newest_unless_changed(self, base: EnvelopeEvent, wanted: EnvelopeEventStatus) -> EnvelopeEvent:
        """Return the newest state if it still is what the run began with, or what it wants (a lost answer of ours)."""
        try:
            newest = EnvelopeEvent.parse(await self._kube.get(EnvelopeEvent, base.name))
        except NotFound as missing:
            raise Superseded(f"{base.name} was deleted") from missing
        ours = (_without_deliveries(base.status), _without_deliveries(wanted))
        if newest.uid != base.uid or _without_deliveries(newest.status) not in ours:
            raise Superseded(f"{base.name} was changed by somebody else", newest)
        return newest


def _without_deliveries(status: EnvelopeEventStatus) -> EnvelopeEventStatus:
    return msgspec.structs.replace(status, deliveries=None, first_delivery=None, last_delivery=None)


def _with_deliveries(status: EnvelopeEventStatus, counted: EnvelopeEventStatus) -> EnvelopeEventStatus:
    return msgspec.structs.replace(
        status,
        deliveries=counted.deliveries,
        first_delivery=counted.first_delivery,
        last_delivery=counted.last_delivery,
    )


def _with_first_delivery(event: EnvelopeEvent, status: EnvelopeEventStatus) -> EnvelopeEventStatus:
    """Write down the first delivery along with the first status, so that it costs no write of its own."""
    if status.deliveries is not None:
        return status
    created = event.metadata.creation_timestamp if event.deliveries else None
    return msgspec.structs.replace(
        status, deliveries=event.deliveries, first_delivery=created, last_delivery=created
    )
