"""
The fence of one run over one event: it stops a run that may not be the only one (rule 5).

Before a write that replaces or removes something, two facts must hold:

- The Lease of the event's shard is held, by a clock that only moves forward.
- The event is as this run stored it. A run that resumes in Archiving first moves the event's version
  (``claim``), so another run that was paused in the middle of its archiving stops here when it continues.

A file may be stored on a read that is at most ``CONFIRMATION_SECONDS`` old: the files of an envelope follow
each other quickly, and each read costs the API server more than it costs this process. A write of this run is
as good as a read, because it names the version that it replaces. A claim waits as long, so that no other run
still relies on an older read. Unfinished files may be removed on such a read, too. Removing a whole file and
deleting always read.

A fence is a check before an act. A process can be paused between the two, so each act is also made as
conditional as its protocol allows (docs/decisions/0022).
"""

import math
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Final, TypeVar

import msgspec

from controller.sharding import HeldLease, HeldShards
from counterfoil.archives.backend import ArchiveBackend, ForwardingBackend
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Conflict, NotFound, Unavailable
from counterfoil.kube.status import (
    RETRY_PAUSES_SECONDS,
    StatusWriter,
    Superseded,
    newest_unless_superseded,
)
from counterfoil.resources import CLAIM_ANNOTATION, Condition, EnvelopeEvent

T = TypeVar("T")

CONFIRMATION_SECONDS: Final = 1.0
"""Maximum age of a read of the event on which a file may be stored, by a clock that counts pauses too."""


class _VersionOnly(msgspec.Struct, rename="camel"):
    resource_version: str


class _Versioned(msgspec.Struct):
    metadata: _VersionOnly


@dataclass
class Fence:
    """The fence of one run."""

    kube: KubeClient
    held: HeldShards
    clock: Clock
    event: EnvelopeEvent
    """The event as this run stored or read it last."""
    _confirmed: float = -math.inf
    """When the last read or write began that found the event unmoved, by the clock of the Lease."""

    def write_began(self) -> float:
        """Return the time at which this run begins to write a new state of the event, for ``written``."""
        lease = self.held.lease_of(self.event)
        return -math.inf if lease is None else lease.clock()

    def written(self, event: EnvelopeEvent, began: float) -> None:
        """Take over the event as this run stored it."""
        if event.metadata.resource_version != self.event.metadata.resource_version:
            self._confirmed = began
        self.event = event

    async def record(self, conditions: tuple[Condition, ...]) -> None:
        """
        Store conditions of the event in the middle of a run, before an act that a later run must know of.

        Raises ``LeaseLost``, ``Superseded``, ``ApiError``; it is not known then whether they are stored.
        """
        self.check_lease()
        status = msgspec.structs.replace(self.event.status, conditions=conditions)
        began, writer = self.write_began(), StatusWriter(self.kube, sleep=self.clock.sleep)
        self.written(await writer.store(self.event, status), began)

    async def claim(self) -> EnvelopeEvent:
        """Move the version of the event and wait until no other run passes its fence; return the event as
        stored."""
        while True:
            self.check_lease()
            metadata = {
                "annotations": {CLAIM_ANNOTATION: secrets.token_hex(8)},
                "resourceVersion": self.event.metadata.resource_version,
            }
            try:
                raw = await self.kube.patch(EnvelopeEvent, self.event.name, {"metadata": metadata})
            except NotFound as missing:
                raise Superseded(f"{self.event.name} was deleted") from missing
            except Conflict:
                self.event = await newest_unless_superseded(self.kube, self.event)
            else:
                self.event = EnvelopeEvent.parse(raw)
                await self.clock.sleep(CONFIRMATION_SECONDS)
                return self.event

    def check_lease(self) -> HeldLease:
        """Raise ``LeaseLost`` unless the Lease of the event's shard is held, and return it; sends no
        request."""
        return self.held.check(self.event)

    async def check(self) -> None:
        """Raise ``LeaseLost`` or ``Superseded`` unless this run may replace, remove or delete something
        now."""
        began = self.check_lease().clock()
        if await self._patiently(self._read_version) != self.event.metadata.resource_version:
            self.event = await newest_unless_superseded(self.kube, self.event)
        # Again: the requests took time.
        self.check_lease()
        self._confirmed = began

    async def confirmed(self) -> EnvelopeEvent:
        """Return the event with its newest spec and labels, which a person may have changed. Raises as
        ``check``."""
        began = self.check_lease().clock()
        self.event = await self._patiently(partial(newest_unless_superseded, self.kube, self.event))
        self.check_lease()
        self._confirmed = began
        return self.event

    async def check_recently(self) -> None:
        """As ``check``, but a read that is at most ``CONFIRMATION_SECONDS`` old is enough."""
        if self.check_lease().clock() - self._confirmed >= CONFIRMATION_SECONDS:
            await self.check()

    async def _patiently(self, read: Callable[[], Awaitable[T]]) -> T:
        for pause in RETRY_PAUSES_SECONDS:
            try:
                return await read()
            except Unavailable:
                await self.clock.sleep(pause)
                self.check_lease()
        return await read()

    async def _read_version(self) -> str:
        try:
            read = await self.kube.get_partial(EnvelopeEvent, self.event.name, _Versioned)
        except NotFound as missing:
            raise Superseded(f"{self.event.name} was deleted") from missing
        return read.metadata.resource_version


class FencedBackend(ForwardingBackend):
    """Wraps a backend for one run: the fence is checked before each write becomes visible."""

    kind: ClassVar[str] = "fenced"

    def __init__(self, backend: ArchiveBackend, fence: Fence) -> None:
        super().__init__(backend)
        self._fence = fence

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """Store a file. The fence is checked after its last byte: until then nothing changes under the
        name."""
        self._fence.check_lease()
        async with aclosing(self._then_checked(chunks)) as stream:
            await super().put(name, stream, tags=tags, content_type=content_type)

    async def discard(self, name: str) -> None:
        """Remove a file."""
        await self._fence.check()
        await super().discard(name)

    async def retain(self, name: str) -> None:
        """Protect a file, if the archive can do that."""
        self._fence.check_lease()
        await super().retain(name)

    async def remove_leftovers(self, folder: str) -> None:
        """Remove the unfinished files of a killed run. A recent read is enough: a run that claimed the event
        since has not begun to write."""
        await self._fence.check_recently()
        await super().remove_leftovers(folder)

    async def close(self) -> None:
        """Do nothing: the pool closes the backend."""

    async def _then_checked(self, chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
        async for chunk in chunks:
            yield chunk
        await self._fence.check_recently()
