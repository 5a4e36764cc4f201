"""Manifests, hash files and seals that somebody changed: the audit of ``verify``."""

import asyncio
from collections.abc import AsyncGenerator
from typing import cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from counterfoil.archives.backend import ArchiveBackend, FileNotStored, StoredEntry, segments
from counterfoil.archives.manifest_signature import PublicKey
from counterfoil.archives.names import HASHES_NAME, MANIFEST_NAME, SIGNATURE_NAME
from counterfoil.archives.verify import CheckStatus, check_archive
from verification.fuzz.target import Check, Target, expect, joined, parts_of

FOLDER = "acme/1"


class _Memory:
    """An archive in memory, of which only what the audit reads exists."""

    kind = "memory"

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def location(self, name: str) -> str:
        return f"{self.kind}:/{name}"

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        segments(name)
        if name not in self._files:
            raise FileNotStored
        yield self._files[name]

    async def entries(self, folder: str) -> list[StoredEntry]:
        return [StoredEntry(name) for name in self._files if name.startswith(f"{folder}/")]


async def _audit(backend: ArchiveBackend, key: PublicKey | None) -> list[str]:
    reports = [each async for each in check_archive(backend, FOLDER, key=key)]
    expect(bool(reports), "an audit says something")
    is_changed = any(each.verdict is CheckStatus.WRONG for each in reports)
    expect(is_changed or len(reports) >= 3, "a whole archive has manifest, file and hash file")
    return [each.sentence for each in reports]


def _prepare() -> Check:
    loop = asyncio.new_event_loop()
    key = PublicKey(Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key())

    def check(data: bytes) -> None:
        manifest, hashes, seal = parts_of(data, 3)
        files = {
            f"{FOLDER}/{MANIFEST_NAME}": manifest,
            f"{FOLDER}/{HASHES_NAME}": hashes,
            f"{FOLDER}/{SIGNATURE_NAME}": seal,
            f"{FOLDER}/a.pdf": b"a",
        }
        backend = cast("ArchiveBackend", _Memory(files))
        loop.run_until_complete(_audit(backend, key if seal else None))

    return check


_SHA256 = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
_MANIFEST = (
    '{"schema": "counterfoil.dev/manifest/v1", "envelope": {"id": "1", "name": "n", "status": "Completed", '
    '"organization": "acme"}, "sender": {"email": "", "userID": "", "name": ""}, "times": {"sent": "", '
    '"archived": "2026-01-01T00:00:00Z", "actions": [{"action": "envelopeFinished", "time": "t"}]}, '
    '"evidence": [{"kind": "AuditTrail", "state": "Absent", "required": true, "why": "w"}], "files": '
    '[{"name": "a.pdf", "kind": "Document", "fileID": "1", "fileName": "a.pdf", "contentType": "", '
    f'"size": 1, "sha256": "{_SHA256}", "location": "file:///a"}}], "tags": {{"a": "b"}}, '
    '"extra": {"b": [1]}, "sealedBy": null}'
)

TARGET = Target(
    subject="manifests, hash files and seals, in the audit of `verify`",
    documented=(),
    seeds=(
        joined(_MANIFEST, f"{_SHA256}  a.pdf\n"),
        joined(_MANIFEST.replace("null", '"0123456789abcdef"'), f"{_SHA256}  a.pdf\n", bytes(64)),
        joined(_MANIFEST.replace('"a.pdf"', '"../a"', 1), ""),
        joined(_MANIFEST.replace('"Absent"', '"Present"'), f"{_SHA256}  a.pdf\n"),
        joined(_MANIFEST.replace('"a.pdf"', '"a\\u0000b/./c"', 1), "", b"\0"),
        joined(_MANIFEST.replace("[1]", "[" * 1200), "\\", b""),
    ),
    words=(*(b'"name": "signatures": "size": [[[[[[[[[[[[[[[[ .. \\u0000 \\ud800 1e99 null').split(b" "),),
    prepare=_prepare,
    max_length=8192,
)
