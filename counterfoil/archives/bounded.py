"""
Bound the time of each operation of an archive, so that one that hangs or trickles costs its own users only.

A transfer has a minimum rate (``counterfoil.untrusted.transfer_rate``). Only the time counts for which the
archive keeps it waiting: a slow source does no harm to it. Every other operation has a timeout. The bounds
are judged by timers of the event loop, outside of what waits.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import ClassVar, Final

from counterfoil.archives.backend import ArchiveBackend, ForwardingBackend, RetainingBackend, StoredEntry
from counterfoil.archives.errors import ArchiveUnavailable
from counterfoil.archives.streams import BLOCK, observe_sent
from counterfoil.clock import Clock
from counterfoil.untrusted.transfer_rate import MinimumRate, RateBudget

STALL_SECONDS: Final = 15.0
"""Wait for one answer or block from which on the archive is probed."""


@dataclass(frozen=True)
class TransferEnd:
    """The end of a transfer after ``size`` bytes: given up, or complete."""

    size: int
    is_complete: bool


class BoundedBackend(ForwardingBackend):
    """Wraps a backend; raises ``ArchiveUnavailable`` with the reason ``ArchiveUnresponsive``."""

    kind: ClassVar[str] = "bounded"

    def __init__(
        self,
        backend: ArchiveBackend,
        archive: str,
        minimum: MinimumRate,
        clock: Clock,
        on_end: Callable[[TransferEnd], None],
    ) -> None:
        """``archive`` is the name in messages; ``on_end`` is called after each transfer."""
        super().__init__(backend)
        self._archive = archive
        self._minimum = minimum
        self._clock = clock
        self._on_end = on_end
        self._waiting_since: dict[object, float] = {}
        """By operation that waits for the archive: since when, by the monotonic clock."""

    @property
    def is_stalled(self) -> bool:
        """Whether an operation has waited for the archive for ``STALL_SECONDS``."""
        now = self._clock.monotonic()
        return any(now - since >= STALL_SECONDS for since in self._waiting_since.values())

    async def entries(self, folder: str) -> list[StoredEntry]:
        """Return all files below a folder."""
        async with self._operation():
            return await super().entries(folder)

    async def discard(self, name: str) -> None:
        """Remove a file."""
        async with self._operation():
            await super().discard(name)

    async def retain(self, name: str) -> None:
        """Protect a file, if the archive can do that."""
        if isinstance(self._backend, RetainingBackend):
            async with self._operation():
                await super().retain(name)

    async def remove_leftovers(self, folder: str) -> None:
        """Remove the temporary files of a killed run."""
        async with self._operation():
            await super().remove_leftovers(folder)

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """Store a file. The time in which ``chunks`` is waited for does not count."""
        budget = RateBudget(self._minimum, block=BLOCK)
        timeout = asyncio.timeout(budget.seconds_left)
        upload = _Upload(budget, self._clock, self._waiting_since, timeout)
        observe_sent(upload.sent)
        try:
            async with timeout, aclosing(upload.metered(chunks)) as stream:
                await super().put(name, stream, tags=tags, content_type=content_type)
        except TimeoutError:
            if timeout.expired():
                raise self._too_slow(budget) from None
            raise
        finally:
            upload.end()
        self._on_end(TransferEnd(budget.size, is_complete=True))

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a file. The time in which nobody asks for more does not count."""
        budget = RateBudget(self._minimum, block=BLOCK)
        async with aclosing(super().read(name)) as stream:
            while (block := await self._next(stream, budget)) is not None:
                yield block
        self._on_end(TransferEnd(budget.size, is_complete=True))

    async def _next(self, stream: AsyncGenerator[bytes, None], budget: RateBudget) -> bytes | None:
        since, timeout = self._clock.monotonic(), asyncio.timeout(budget.seconds_left)
        try:
            with self._waiting(budget):
                async with timeout:
                    block = await anext(stream, None)
        except TimeoutError:
            if timeout.expired():
                raise self._too_slow(budget) from None
            raise
        budget.add_wait(self._clock.monotonic() - since)
        if block is None:
            return None
        budget.add_bytes(len(block))
        if budget.is_used_up:
            raise self._too_slow(budget)
        return block

    @contextmanager
    def _waiting(self, operation: object) -> Iterator[None]:
        self._waiting_since[operation] = self._clock.monotonic()
        try:
            yield
        finally:
            del self._waiting_since[operation]

    @asynccontextmanager
    async def _operation(self) -> AsyncIterator[None]:
        timeout = asyncio.timeout(self._minimum.seconds(BLOCK))
        try:
            with self._waiting(timeout):
                async with timeout:
                    yield
        except TimeoutError:
            if not timeout.expired():
                raise
            raise ArchiveUnavailable(
                "ArchiveUnresponsive",
                f"Archive/{self._archive} did not answer in time. Check its server and the network; "
                "waiting events continue automatically once it answers.",
            ) from None

    def _too_slow(self, budget: RateBudget) -> ArchiveUnavailable:
        self._on_end(TransferEnd(budget.size, is_complete=False))
        return ArchiveUnavailable(
            "ArchiveUnresponsive",
            f"Archive/{self._archive} transfers a file more slowly than "
            f"{self._minimum.bytes_per_second / 1024:g} KiB per second, so the transfer was given up. "
            "Check its server and the network, or lower the controller's transferRate.",
        )


class _Upload:
    """
    One upload: whether the source or the archive keeps it waiting, and until when the archive may.

    The bytes that the archive takes earn time; if it reports what it sends, only those bytes do.
    """

    def __init__(
        self,
        budget: RateBudget,
        clock: Clock,
        waiting_since: dict[object, float],
        limit: asyncio.Timeout,
    ) -> None:
        self._budget = budget
        self._clock = clock
        self._waiting_since = waiting_since
        self._limit = limit
        self._has_ended = False
        self._reports_sent = False
        waiting_since[self] = clock.monotonic()

    async def metered(self, chunks: AsyncIterable[bytes]) -> AsyncGenerator[bytes, None]:
        """Pass chunks on; the limit runs while the archive has the turn."""
        source = aiter(chunks)
        while True:
            if self._is_over():
                return
            self._use_up_wait()
            self._waiting_since.pop(self, None)
            self._limit.reschedule(None)
            chunk = await anext(source, None)
            if self._is_over():
                return
            if chunk is not None and not self._reports_sent:
                self._budget.add_bytes(len(chunk))
            self._begin_wait()
            if chunk is None:
                return
            yield chunk

    def sent(self, size: int) -> None:
        """Earn the time for bytes that the archive sent, from now on only for those."""
        if self._is_over():
            return
        self._reports_sent = True
        is_waiting = self in self._waiting_since
        self._use_up_wait()
        self._budget.add_bytes(size)
        if is_waiting:
            self._begin_wait()

    def end(self) -> None:
        """Measure no more: some backends ask for chunks after the end of an upload that was cancelled."""
        self._has_ended = True
        self._waiting_since.pop(self, None)

    def _is_over(self) -> bool:
        return self._has_ended or self._limit.expired()

    def _use_up_wait(self) -> None:
        now = self._clock.monotonic()
        self._budget.add_wait(now - self._waiting_since.get(self, now))

    def _begin_wait(self) -> None:
        self._waiting_since[self] = self._clock.monotonic()
        self._limit.reschedule(asyncio.get_running_loop().time() + self._budget.seconds_left)
