"""
Archives: where Counterfoil stores documents, and how it verifies that they are stored.

``layout`` names the files of an envelope, ``filing`` stores and verifies them through an ``ArchiveBackend``,
and ``manifest`` describes the result. Each public module in ``backends`` is one kind of archive and has its
``Opener`` as ``OPENER``. It is imported when an archive of its kind is opened: the libraries of all kinds
take a third of a second. Other packages can add kinds by the entry point ``counterfoil.archives``;
``spec.custom.kind`` names them.

Nothing here connects to eSignAnyWhere or to Kubernetes.
"""

import asyncio
import pkgutil
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points

from counterfoil.archives import backends
from counterfoil.archives.backend import ArchiveBackend, Opener
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import SettingsInvalid
from counterfoil.resources.archive import ArchiveSpec, SignaturePolicy, VerifyMode
from counterfoil.resources.archive_kinds import SETTINGS

ENTRY_POINTS = "counterfoil.archives"
"""Group of the entry points by which other packages add kinds: name of the kind, and an ``Opener``."""


ARCHIVE_KINDS = frozenset(
    module.name for module in pkgutil.iter_modules(backends.__path__) if not module.name.startswith("_")
)
"""All kinds of this package: the public modules in ``backends``."""

REPORTING_CHECKSUMS = frozenset(kind for kind, each in SETTINGS.items() if each.REPORTS_CHECKSUMS)
"""Kinds that can have ``verify: Checksum``. The package of a custom kind decides that itself."""


def find_opener(kind: str) -> Opener:
    """Import the module of a kind of this package; return its opener."""
    opener: Opener = import_module(f"{backends.__name__}.{kind}").OPENER
    return opener


async def open_backend(name: str, spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> ArchiveBackend:
    """
    Open the archive ``name``; ``credentials`` is the content of its Secret, empty without one.

    Sends no request (``ArchiveBackend.probe`` does). Raises ``SettingsInvalid``.
    """
    try:
        kind = spec.kind
    except ValueError as error:
        raise SettingsInvalid(f"Archive/{name}: {error}.") from error
    _check_verify(name, kind, spec)
    # In a thread, since the first import of a kind can take as long as many requests.
    opener = await asyncio.to_thread(_opener, name, kind, spec)
    ref = spec.credentials_secret_ref
    if spec.custom is not None and ref is not None:
        # Which other keys the package reads is not known.
        for key in ref.keys:
            Credentials(name, ref, credentials).refuse_placeholder(key)
        credentials = ref.renamed(credentials)
    return await opener(name, spec, credentials)


def _opener(name: str, kind: str, spec: ArchiveSpec) -> Opener:
    if spec.custom is None:
        return find_opener(kind)
    found = entry_points(group=ENTRY_POINTS)
    if spec.custom.kind not in found.names:
        raise SettingsInvalid(
            f"Archive/{name}: no installed package brings archives of kind `{spec.custom.kind}`; there are: "
            f"{', '.join(sorted(found.names)) or 'none'}. Add the package to the image, or correct "
            "spec.custom.kind."
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
            f"Archive/{name}: spec.verify can't be Checksum for `{kind}`, whose servers do not tell the "
            f"SHA-256 of a file; it can for {' and '.join(sorted(REPORTING_CHECKSUMS))}. Set it to ReadBack."
        )
    if spec.signatures is not SignaturePolicy.IGNORE:
        raise SettingsInvalid(
            f"Archive/{name}: with spec.verify Checksum nothing is read back, so signatures can't be "
            "checked. Set spec.signatures to Ignore, or spec.verify to ReadBack."
        )
