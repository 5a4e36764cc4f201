"""
The declaration of a kind of archive by its backend module. The package finds the modules; there is no list of
kinds.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from counterfoil.archives.backend import ArchiveBackend
from counterfoil.resources.archive import ArchiveSpec

Opener = Callable[[str, ArchiveSpec, Mapping[str, bytes]], Awaitable[ArchiveBackend]]
"""Opens a backend. Parameters: name of the Archive, its spec, and the content of its Secret (empty without
one)."""


@dataclass(frozen=True)
class ArchiveKind:
    """One kind of archive. Each public module in ``backends`` has one of these as ``KIND``."""

    name: str
    """The kind's field in ``counterfoil.resources.archive_kinds.KindFields``."""

    open: Opener
    """Opens an archive of this kind without any request to its server. Raises ``SettingsInvalid``."""

    reports_checksums: bool = False
    """True if the server can report the SHA-256 of a file, which ``verify: Checksum`` needs."""
