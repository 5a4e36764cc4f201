"""
Spares the archive requests about files of an envelope that it can't have yet.

Most envelopes are archived once, in one run, into a new folder. Once the run has seen that, it needs no
request per file to learn that the file is absent.
"""

from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from typing import ClassVar

from counterfoil.archives.backend import ArchiveBackend, FileNotStored, ForwardingBackend, StoredEntry


class NewFolderBackend(ForwardingBackend):
    """
    Wraps a backend for one run over one event.

    A folder that this run listed, and that was empty, has only the files that this run sends: no other run
    works on the envelope (rule 5). The next run asks again.
    """

    kind: ClassVar[str] = "new-folder"

    def __init__(self, backend: ArchiveBackend) -> None:
        super().__init__(backend)
        self._empty: str | None = None
        """Prefix of the names in the folder that was listed as empty."""
        self._sent: set[str] = set()

    async def entries(self, folder: str) -> list[StoredEntry]:
        """Return all files below a folder."""
        found = await super().entries(folder)
        self._empty = f"{folder}/" if self.lists_files and not found and not self._sent else None
        return found

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """Store a file. A failed call counts as well: its answer may be lost."""
        self._sent.add(name)
        await super().put(name, chunks, tags=tags, content_type=content_type)

    def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a file."""
        if self._empty is not None and name.startswith(self._empty) and name not in self._sent:
            return _nothing()
        return super().read(name)


async def _nothing() -> AsyncGenerator[bytes, None]:
    raise FileNotStored
    yield b""  # type: ignore[unreachable]  # makes this function a generator
