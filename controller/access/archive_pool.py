"""
Keep one open archive backend per Archive, and open it again when the Archive's spec or Secret changes.

The pool also probes each archive periodically: it writes, reads back and deletes a file. The Archive's
``Ready`` condition has the result, with a message for the administrator.
"""

import asyncio
import hashlib
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial

import msgspec

from controller.access.instrumented import InstrumentedBackend
from controller.access.secret_cache import SecretCache, SecretMissing
from controller.retry.fix_rules import settled_time
from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.errors import ArchiveError, SettingsInvalid
from counterfoil.archives.layout import problems
from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.secret import SecretUse
from counterfoil.kube.status import write_status_or_skip
from counterfoil.metrics import Metrics
from counterfoil.readiness import with_readiness
from counterfoil.resources import (
    Archive,
    ArchiveStatus,
    LocalObjectReference,
    is_condition_true,
)
from counterfoil.resources.conditions import ConditionStatus
from counterfoil.signatures.anchors import NO_ANCHORS, Anchors, AnchorsInvalid


@dataclass(frozen=True)
class _OpenArchive:
    version: tuple[str, int, str]
    """Uid and generation of the Archive, and the digest of its credentials."""
    backend: ArchiveBackend


@dataclass
class ArchivePool:
    """Opens archive backends and keeps them open."""

    kube: KubeClient
    secret_cache: SecretCache
    clock: Clock
    metrics: Metrics
    _open_archives: dict[str, _OpenArchive] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    _uncounted_bytes: Counter[str] = field(default_factory=Counter)

    async def backend(self, archive: Archive) -> ArchiveBackend:
        """Return the backend of an archive. Raises ``ArchiveError`` with a message for an administrator,
        ``ApiError``."""
        async with self._locks[archive.name]:
            credentials = await self._credentials(archive)
            version = (archive.uid, archive.metadata.generation, _credentials_digest(credentials))
            known = self._open_archives.get(archive.name)
            if known is not None and known.version == version:
                return known.backend
            opened = await open_backend(archive.name, archive.spec, credentials)
            backend = InstrumentedBackend(opened, partial(self._observe, archive.name))
            self._open_archives[archive.name] = _OpenArchive(version, backend)
            # The old backend is not closed here: a transfer may still use it. It closes with its last user.
            return backend

    async def anchors(self, archive: Archive) -> Anchors:
        """Return the trust anchors of an archive; none by default. Raises ``SettingsInvalid``,
        ``ApiError``."""
        ref = archive.spec.trust_anchors_secret_ref
        if ref is None:
            return NO_ANCHORS
        content = await self._secret(archive, ref, SecretUse.TRUST, "trustAnchorsSecretRef")
        try:
            return _anchors(tuple(sorted(content.items())))
        except AnchorsInvalid as invalid:
            raise SettingsInvalid(
                f"Archive/{archive.name}: Secret/{ref.name} must contain trust anchors, but {invalid}. Put "
                "certificates in PEM form into it, or correct trustAnchorsSecretRef."
            ) from invalid

    async def has_other_anchors(self, archive: Archive) -> bool:
        """Whether the trust anchors differ from those in the archive's status. Raises ``ApiError``."""
        try:
            return (await self.anchors(archive)).id != archive.status.trust_anchors
        except SettingsInvalid:
            return is_condition_true(archive.status.conditions, "Ready")

    def refresh_secrets(self, archive: Archive) -> None:
        """Drop the cached Secrets of an archive."""
        with suppress(ValueError):  # several kinds are set: no backend is opened
            self._forget(archive.spec.credentials_secret_ref)
        self._forget(archive.spec.trust_anchors_secret_ref)

    def forget(self, name: str) -> None:
        """Drop the state of a deleted Archive."""
        self._open_archives.pop(name, None)
        self._uncounted_bytes.pop(name, None)

    def count_archived_bytes(self, name: str, size: int) -> None:
        """Count archived bytes; the next probe adds them to ``status.bytesTotal``."""
        self._uncounted_bytes[name] += size
        self.metrics.archive_bytes.labels(name).inc(size)

    def _observe(self, name: str, operation: str, seconds: float) -> None:
        self.metrics.archive_seconds.labels(name, operation).observe(seconds)

    async def close(self) -> None:
        """Close all backends."""
        for each in self._open_archives.values():
            await each.backend.close()

    async def update_status(self, archive: Archive) -> Archive | None:
        """
        Probe an archive and store the result. Return the new state, or None if another process wrote
        meanwhile.

        Raises ``ApiError``.
        """
        truth, reason, message = await self._probe_result(archive)
        now, generation = self.clock.now(), archive.metadata.generation
        status = msgspec.structs.replace(
            archive.status,
            observed_generation=generation,
            bytes_total=archive.status.bytes_total + self._uncounted_bytes[archive.name],
            conditions=with_readiness(
                archive.status.conditions, truth, reason, message, now=now, generation=generation
            ),
            trust_anchors=await self._trust_anchors_id(archive),
        )
        settled = settled_time(archive.status, status, now=now)
        return await self._store(archive, msgspec.structs.replace(status, settled_time=settled))

    async def write_bytes(self, archive: Archive) -> Archive | None:
        """Store only this process's count of archived bytes, without a probe; otherwise as
        ``update_status``."""
        total = archive.status.bytes_total + self._uncounted_bytes[archive.name]
        return await self._store(archive, msgspec.structs.replace(archive.status, bytes_total=total))

    async def _probe_result(self, archive: Archive) -> tuple[ConditionStatus, str, str]:
        if wrong := problems(archive.spec):
            return "False", "SettingsInvalid", f"{'; '.join(wrong)}. Correct the Archive."
        try:
            backend = await self.backend(archive)
            await self.anchors(archive)
            await backend.probe()
        except ArchiveError as trouble:
            return "False", trouble.reason, str(trouble)
        if not archive.spec.keeps_files:
            return "True", "Probed", "The archive takes files and keeps none. It is for tests only."
        return "True", "Probed", "A probe was written and read back."

    async def _trust_anchors_id(self, archive: Archive) -> str | None:
        """Return the id of the trust anchors; the last known id while they cannot be read."""
        try:
            return (await self.anchors(archive)).id
        except SettingsInvalid:
            return archive.status.trust_anchors

    async def _store(self, archive: Archive, status: ArchiveStatus) -> Archive | None:
        stored = await write_status_or_skip(self.kube, archive, status)
        if stored is not None:
            # Only the bytes in this status: more may have arrived since it was computed.
            self._uncounted_bytes[archive.name] -= status.bytes_total - archive.status.bytes_total
        return stored

    def _forget(self, ref: LocalObjectReference | None) -> None:
        if ref is not None:
            self.secret_cache.forget(ref.name)

    async def _credentials(self, archive: Archive) -> dict[str, bytes]:
        try:
            ref = archive.spec.credentials_secret_ref
        except ValueError as several:
            raise SettingsInvalid(f"Archive/{archive.name}: {several}.") from several
        if ref is None:
            return {}
        return await self._secret(archive, ref, SecretUse.ARCHIVE, "credentialsSecretRef")

    async def _secret(
        self, archive: Archive, ref: LocalObjectReference, use: SecretUse, field: str
    ) -> dict[str, bytes]:
        try:
            return await self.secret_cache.data(ref.name, use)
        except SecretMissing as missing:
            reason, message = missing.explain("SettingsInvalid", f"Create it, or correct {field}.")
            raise SettingsInvalid(f"Archive/{archive.name}: {message}", reason=reason) from missing


@lru_cache(maxsize=16)
def _anchors(content: tuple[tuple[str, bytes], ...]) -> Anchors:
    # Called for each event; parsing hundreds of certificates takes some milliseconds.
    return Anchors.parse(dict(content))


def _credentials_digest(credentials: dict[str, bytes]) -> str:
    digest = hashlib.sha256()
    for key in sorted(credentials):
        digest.update(f"{key}\0{len(credentials[key])}\0".encode() + credentials[key])
    return digest.hexdigest()
