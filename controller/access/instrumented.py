"""Time the operations of an archive backend, for the metric and for traces."""

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from time import perf_counter
from typing import ClassVar

from counterfoil import tracing
from counterfoil.archives.backend import ArchiveBackend, ForwardingBackend, RetainingBackend, StoredEntry

Observe = Callable[[str, float], None]
"""Called after each operation with its name and its duration in seconds."""


class InstrumentedBackend(ForwardingBackend):
    """Wraps a backend. A transfer is timed from start to end, so a slow source makes a long ``put``."""

    kind: ClassVar[str] = "timed"

    def __init__(self, backend: ArchiveBackend, observe: Observe) -> None:
        super().__init__(backend)
        self._observe = observe

    async def entries(self, folder: str) -> list[StoredEntry]:
        """Return everything below a folder."""
        with self._timing("entries"):
            return await super().entries(folder)

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """Store a file."""
        with self._timing("put"):
            await super().put(name, chunks, tags=tags, content_type=content_type)

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a file."""
        with self._timing("read"):
            async with aclosing(super().read(name)) as stream:
                async for chunk in stream:
                    yield chunk

    async def discard(self, name: str) -> None:
        """Remove a file."""
        with self._timing("discard"):
            await super().discard(name)

    async def retain(self, name: str) -> None:
        """Protect a file, if the archive can do that."""
        if isinstance(self._backend, RetainingBackend):
            with self._timing("retain"):
                await super().retain(name)

    async def probe(self) -> None:
        """Write, read back and remove a small file."""
        with self._timing("probe"):
            await super().probe()

    async def remove_leftovers(self, folder: str) -> None:
        """Remove the unfinished files of a killed run."""
        with self._timing("sweep_leftovers"):
            await super().remove_leftovers(folder)

    @contextmanager
    def _timing(self, operation: str) -> Iterator[None]:
        since = perf_counter()
        with tracing.detached_span(f"archive {operation}"):
            try:
                yield
            finally:
                self._observe(operation, perf_counter() - since)
