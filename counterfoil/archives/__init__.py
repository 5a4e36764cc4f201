"""
Archives: everything about where documents go and how we know that they are there.

``plan`` names the files of an envelope, ``filing`` brings them in over a ``ArchiveBackend`` and proves it, ``manifest`` is
what stays. Each kind of archive is one module with a ``ArchiveBackend`` and one row in ``OPENERS``; further kinds come with other
packages by the entry point ``counterfoil.archives`` and are named by ``spec.custom.kind``.

Nothing here talks to eSignAnyWhere or to Kubernetes.
"""

from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import entry_points

from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.backends.azblob import open_azblob
from counterfoil.archives.backends.cmis import open_cmis
from counterfoil.archives.backends.filesystem import open_filesystem
from counterfoil.archives.backends.gcs import open_gcs
from counterfoil.archives.backends.http import open_http
from counterfoil.archives.backends.s3 import open_s3
from counterfoil.archives.backends.sftp import open_sftp
from counterfoil.archives.backends.webdav import open_webdav
from counterfoil.archives.errors import SettingsInvalid
from counterfoil.resources.archive import ArchiveSpec, SignaturePolicy, VerifyMode

Opener = Callable[[str, ArchiveSpec, Mapping[str, bytes]], Awaitable[ArchiveBackend]]

OPENERS: Mapping[str, Opener] = {
    "filesystem": open_filesystem,
    "s3": open_s3,
    "azblob": open_azblob,
    "gcs": open_gcs,
    "sftp": open_sftp,
    "webdav": open_webdav,
    "cmis": open_cmis,
    "http": open_http,
}
"""Kind of archive -> what opens it; a new kind is a new row."""

ENTRY_POINTS = "counterfoil.archives"
"""Group of the entry points by which other packages add kinds: the name of a kind, and an ``Opener``."""

REPORTING_CHECKSUMS = frozenset({"http", "custom"})
"""Kinds whose servers can tell the SHA-256 of a file themselves, so that ``verify: Checksum`` means something."""


async def open_backend(name: str, spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> ArchiveBackend:
    """
    Open the archive ``name``; ``credentials`` are the contents of its Secret, empty when it has none.

    Cheap, and nothing is asked of the archive yet (``ArchiveBackend.probe`` does). Raises ``SettingsInvalid``.
    """
    try:
        kind = spec.kind
    except ValueError as error:
        raise SettingsInvalid(f"Archive/{name}: {error}.") from error
    _check_verify(name, kind, spec)
    return await _opener(name, kind, spec)(name, spec, credentials)


def _opener(name: str, kind: str, spec: ArchiveSpec) -> Opener:
    if spec.custom is None:
        return OPENERS[kind]
    found = entry_points(group=ENTRY_POINTS)
    if spec.custom.kind not in found.names:
        raise SettingsInvalid(
            f"Archive/{name}: no installed package brings archives of kind `{spec.custom.kind}`; there are: "
            f"{', '.join(sorted(found.names)) or 'none'}. Add the package to the image, or correct spec.custom.kind."
        )
    try:
        opener: Opener = found[spec.custom.kind].load()
    except (ImportError, AttributeError) as error:
        raise SettingsInvalid(
            f"Archive/{name}: the package that brings archives of kind `{spec.custom.kind}` can't be loaded "
            f"({type(error).__name__})."
        ) from error
    return opener


def _check_verify(name: str, kind: str, spec: ArchiveSpec) -> None:
    if spec.verify is not VerifyMode.CHECKSUM:
        return
    if kind not in REPORTING_CHECKSUMS:
        raise SettingsInvalid(
            f"Archive/{name}: spec.verify can't be Checksum for `{kind}`, whose servers do not tell the SHA-256 of a file; "
            f"it can for {' and '.join(sorted(REPORTING_CHECKSUMS))}. Set it to ReadBack."
        )
    if spec.signatures is not SignaturePolicy.IGNORE:
        raise SettingsInvalid(
            f"Archive/{name}: with spec.verify Checksum nothing is read back, so signatures can't be checked. Set "
            "spec.signatures to Ignore, or spec.verify to ReadBack."
        )
