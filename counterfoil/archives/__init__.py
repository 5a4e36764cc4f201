"""
Archives: everything about where documents go and how we know that they are there.

``plan`` names the files of an envelope, ``filing`` brings them in over a ``Door`` and proves it, ``manifest`` is
what stays. Each kind of archive is one module with a ``Door`` and one row in ``OPENERS``.

Nothing here talks to eSignAnyWhere or to Kubernetes.
"""

from collections.abc import Awaitable, Callable, Mapping

from counterfoil.archives.azblob import open_azblob
from counterfoil.archives.door import Door
from counterfoil.archives.filesystem import open_filesystem
from counterfoil.archives.gcs import open_gcs
from counterfoil.archives.s3 import open_s3
from counterfoil.archives.sftp import open_sftp
from counterfoil.archives.trouble import SettingsInvalid
from counterfoil.archives.webdav import open_webdav
from counterfoil.resources.archive import ArchiveSpec

Opener = Callable[[str, ArchiveSpec, Mapping[str, bytes]], Awaitable[Door]]

OPENERS: Mapping[str, Opener] = {
    "filesystem": open_filesystem,
    "s3": open_s3,
    "azblob": open_azblob,
    "gcs": open_gcs,
    "sftp": open_sftp,
    "webdav": open_webdav,
}
"""Kind of archive -> what opens it; a new kind is a new row."""


async def open_door(name: str, spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> Door:
    """
    Open the archive ``name``; ``credentials`` are the contents of its Secret, empty when it has none.

    Cheap, and nothing is asked of the archive yet (``Door.probe`` does). Raises ``SettingsInvalid``.
    """
    try:
        kind = spec.kind
    except ValueError as error:
        raise SettingsInvalid(f"Archive/{name}: {error}.") from error
    if kind not in OPENERS:
        raise SettingsInvalid(
            f"Archive/{name}: archives of kind `{kind}` can't be used in this version; there are {', '.join(OPENERS)}."
        )
    return await OPENERS[kind](name, spec, credentials)
