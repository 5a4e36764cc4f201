"""
Direct access to an archive's files, as an auditor with a shell has: files, hashes, ``sha256sum -c``.

The S3 server of the tests keeps its objects as files too, so the same functions read both kinds.
"""

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import msgspec

from controller.access.archive_root import MARKER_NAME
from counterfoil.archives.manifest import Manifest
from counterfoil.archives.names import HASHES_NAME, MANIFEST_NAME
from sandbox.controlplane.processes import run

_SHA256SUM = shutil.which("sha256sum") or "sha256sum"


@dataclass(frozen=True)
class ArchiveFolder:
    """An archive as a folder of this machine. ``base`` is where its locations begin, such as
    ``s3://contracts``."""

    root: Path
    base: str

    def path(self, location: str) -> Path:
        """Path of the file of a location."""
        assert location.startswith(f"{self.base}/"), location
        return self.root / unquote(location.removeprefix(f"{self.base}/"))

    def files(self) -> set[Path]:
        """All stored files, temporary ones too, but not the marker of the root."""
        # Path.rglob takes ten times as long.
        return {
            Path(folder, name)
            for folder, _, names in os.walk(self.root)
            for name in names
            if name != MARKER_NAME
        }

    def temporary(self) -> list[Path]:
        """Files of envelopes whose writing was begun and not ended; those in the root are of probes."""
        return [path for path in self.files() if path.name.startswith(".") and path.parent != self.root]

    def mentions(self, folder: Path) -> set[Path]:
        """Names in the manifest of a folder: its files, the hash file and itself."""
        manifest = self.manifest(folder)
        listed = {folder / each.name for each in manifest.files}
        return listed | {folder / HASHES_NAME, folder / MANIFEST_NAME}

    def manifest(self, folder: Path) -> Manifest:
        """The manifest in a folder."""
        return msgspec.json.decode((folder / MANIFEST_NAME).read_bytes(), type=Manifest)


def sha256_of(path: Path) -> str:
    """The hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def proves_itself(folder: Path) -> str:
    """Errors of ``sha256sum -c`` in a folder; empty without errors."""
    checked = await run([_SHA256SUM, "--check", "--strict", "--quiet", HASHES_NAME], cwd=folder)
    return "" if checked.code == 0 else checked.out + checked.err
