"""
Is the root of an archive the one that it was at the first probe?

A volume that is not mounted leaves an empty folder, and a server can show another folder under the same
address. Both accept and return files as the archive does, so only a marker tells them apart: a file with an
id, which the first probe writes into the root. ``check_root`` compares it with the id in the Archive's
status. ``MarkedBackend`` does that for one run: before the run's first request to the archive, and again
before something absent or damaged counts. Before the delete of an envelope there is another check
(docs/decisions/0045).

A root that the status does not name is first probed. ``check_new_root`` refuses it if events of this cluster
have their files there, and none of their manifests is. A person can confirm it (``is_new_root_confirmed``).

A marker is missing only if the archive's server says that (see the backends). Other content in its place may
be of a proxy, so no message about it has the command that forgets the marker.
"""

import asyncio
import json
import secrets
import shlex
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar, Literal
from urllib.parse import urlsplit

import msgspec

from counterfoil.archives.backend import (
    TEMPORARY_PREFIX,
    ArchiveBackend,
    FileNotReturned,
    FileNotStored,
    ForwardingBackend,
    StoredEntry,
)
from counterfoil.archives.errors import ArchiveRefused, ArchiveUnavailable, VerificationFailed
from counterfoil.archives.manifest import Manifest, ManifestDamaged
from counterfoil.archives.readback import reading_small
from counterfoil.archives.streams import single_chunk
from counterfoil.archives.verify import name_at
from counterfoil.resources import Archive
from counterfoil.untrusted.json_bounds import JSON_ERRORS

MARKER_NAME = f"{TEMPORARY_PREFIX}archive.json"
"""Name of the marker in the root. No name of a path begins with a dot, and it is no temporary file's name."""

MARKER_LIMIT = 4096
"""Bytes; a longer file is no marker."""

NOTE = "Counterfoil knows the root of an archive by this file. Keep it here; copy it to no other root."

WHO_CONFIRMS = (
    "To confirm, you need the right to patch `archives/status`, and must be named in "
    "`admissionPolicy.statusWriters` or be a member of `system:masters`."
)

_NOT_THE_ROOT = "so it is not the root that the archive had before."

CHECK_AGAIN_SECONDS = 10.0
"""Seconds for which the runs over one archive share a check. The check before a delete is never shared."""


@dataclass(frozen=True)
class EarlierManifest:
    """Location of a manifest in the status of an event, and the id of its envelope."""

    location: str
    envelope_id: str


class ArchiveMarker(msgspec.Struct, frozen=True):
    """The content of a marker. ``id`` is 32 lower-case hex digits."""

    id: str
    schema: Literal["counterfoil.dev/archive-marker/v1"] = "counterfoil.dev/archive-marker/v1"
    note: str = NOTE


def new_marker_id() -> str:
    """Return a random id."""
    return secrets.token_hex(16)


class MarkerDamaged(Exception):
    """The file of the marker is there, and its content is no marker. ``found`` describes the content."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.found = found


async def read_marker(backend: ArchiveBackend) -> str | None:
    """Return the id of the marker in the root; None if there is no file. Raises ``ArchiveError``,
    ``MarkerDamaged``."""
    content = bytearray()
    try:
        async with aclosing(backend.read(MARKER_NAME)) as stream:
            async for chunk in stream:
                content += chunk
                if len(content) > MARKER_LIMIT:
                    raise MarkerDamaged(f"more than {MARKER_LIMIT} bytes")
        found = msgspec.json.decode(content, type=ArchiveMarker).id
    except (FileNotStored, FileNotReturned):
        return None
    except JSON_ERRORS as error:
        raise MarkerDamaged(f"{len(content)} bytes") from error
    if len(found) != 32 or not set(found) <= set("0123456789abcdef"):
        raise MarkerDamaged(f"{len(content)} bytes with another id")
    return found


async def find_or_write_marker(archive: Archive, backend: ArchiveBackend) -> str:
    """Return the id of the marker in a root that the status does not name; write one if there is none. Raises
    ``ArchiveError``."""
    return await _marker_of(archive, backend, None) or await write_marker(backend, new_marker_id())


async def write_marker(backend: ArchiveBackend, marker: str) -> str:
    """
    Write a marker with this id and read it back; return the id that the root has then.

    It is another one if another controller wrote at the same time. Raises ``ArchiveError``.
    """
    content = msgspec.json.format(msgspec.json.encode(ArchiveMarker(marker)), indent=2) + b"\n"
    await backend.put(MARKER_NAME, single_chunk(content), tags={}, content_type="application/json")
    try:
        found = await read_marker(backend)
    except MarkerDamaged:
        found = None
    if found is None:
        where = backend.location(MARKER_NAME)
        raise VerificationFailed(
            f"{where} was written, and the archive returned other bytes. Check its storage."
        )
    return found


def root_of(backend: ArchiveBackend) -> str:
    """Return the location of the archive's root, with a slash at its end."""
    return backend.location("x").removesuffix("x")


def expected_marker(archive: Archive, root: str) -> str | None:
    """
    Return the id that the marker in this root must have; None if the status says nothing about this root.

    A new destination is one that a person confirmed, or the first one. Another root at the same destination
    is one that a person put into the spec.
    """
    known = archive.status.root
    if known is None or archive.status.destination is None or known.location != root:
        return None
    return known.marker_id


def is_root_known(archive: Archive, backend: ArchiveBackend) -> bool:
    """Whether a probe stored the id of the marker in this root. A kind without a marker has nothing to
    store."""
    if not archive.spec.settings.HAS_MARKER:
        return True
    return expected_marker(archive, root_of(backend)) is not None


def is_new_root_confirmed(archive: Archive, root: str) -> bool:
    """Whether a person confirmed this root, and no probe succeeded since."""
    known = archive.status.root
    return known is not None and known.location == root and known.marker_id is None


async def check_root(archive: Archive, backend: ArchiveBackend) -> None:
    """
    Read the marker of an archive.

    Raises ``ArchiveError``: ``ArchiveRefused`` if it is not the one in the status, ``ArchiveUnavailable`` if
    the status names none for this root.
    """
    if not archive.spec.settings.HAS_MARKER:
        return
    root = root_of(backend)
    _refuse_other_server(archive, root)
    expected = expected_marker(archive, root)
    if expected is None:
        raise ArchiveUnavailable("ArchiveNotProbed", not_probed_message(archive))
    found = await _marker_of(archive, backend, expected)
    if found is None:
        lost = f"If the documents are there, put only the marker back. {_enough_for(expected)}"
        raise _changed(
            archive.name, root, f"has no marker ({MARKER_NAME}). {lost} If not, it is another root."
        )
    if found != expected:
        what = f"has the marker of another archive ({MARKER_NAME}), {_NOT_THE_ROOT}"
        raise _changed(archive.name, root, what)


async def _marker_of(archive: Archive, backend: ArchiveBackend, expected: str | None) -> str | None:
    """As ``read_marker``. Raises ``ArchiveRefused`` for other content. The server does not say that it is
    missing, so the message has no command that forgets it."""
    try:
        return await read_marker(backend)
    except MarkerDamaged as damage:
        known = f" {_enough_for(expected)}" if expected is not None else ""
        what = f"a marker ({damage.found}).{known}"
        raise _other_content(archive.name, backend.location(MARKER_NAME), what) from damage


async def check_new_root(
    archive: Archive, backend: ArchiveBackend, manifests: Sequence[EarlierManifest]
) -> None:
    """
    Check a root that the status does not name, before anything is written there.

    ``manifests`` are some of those that events have there. Raises ``ArchiveError``: ``ArchiveRefused`` if
    none of them is there. For other content the message has no command, as for a marker.
    """
    root = root_of(backend)
    _refuse_other_server(archive, root)
    damaged: str | None = None
    for each in manifests:
        try:
            if await _has_manifest(backend, each):
                return
        except ManifestDamaged:
            damaged = damaged or each.location
    if damaged is not None:
        raise _other_content(archive.name, damaged, "a manifest that Counterfoil can read.")
    if manifests:
        example = manifests[0].location.removeprefix(root)
        what = f"does not have what was archived there, such as {example}, {_NOT_THE_ROOT}"
        raise _changed(archive.name, root, what)


async def _has_manifest(backend: ArchiveBackend, wanted: EarlierManifest) -> bool:
    """Whether the archive has the manifest of this envelope at this place. Raises ``ArchiveError``,
    ``ManifestDamaged``."""
    name = name_at(backend, wanted.location)
    if name is None:
        return False
    try:
        async with reading_small(backend, name) as content:
            return Manifest.decode(content).envelope.id == wanted.envelope_id
    except (FileNotStored, FileNotReturned):
        return False


def _refuse_other_server(archive: Archive, root: str) -> None:
    known = archive.status.root
    is_used = known is not None and archive.status.destination is not None
    if known is not None and is_used and _server(known.location) != _server(root):
        raise origin_changed(archive.name, known.location, f"to {root}")


def _server(location: str) -> tuple[str, str | None]:
    """Return scheme and host: a Secret can name the account, which is in the host of Azure."""
    parts = urlsplit(location)
    return parts.scheme, parts.hostname


def origin_changed(archive: str, known: str, where: str) -> ArchiveRefused:
    """Return the error for an Archive that leads elsewhere than when its first probe succeeded."""
    return ArchiveRefused(
        "OriginChanged",
        f"Archive/{archive} led to {_shown(known)}, and now leads {_shown(where)}. Nothing was "
        "sent there, and nothing is deleted in eSignAnyWhere. Set its address back, or confirm the new one. "
        "Look there first. If the new root does not have what was archived, the reason becomes "
        f"ArchiveRootChanged, and a second command confirms that. {WHO_CONFIRMS} Type "
        f"`kubectl patch archive {archive} --subresource=status --type=merge -p "
        """'{"status":{"destination":null,"secretOrigins":null}}'` if the new address is right.""",
    )


def not_probed_message(archive: Archive) -> str:
    """Return the message of an event that waits for the first probe of a root."""
    return (
        f"Archive/{archive.name} has a root that was not probed yet. Nothing is archived or deleted before; "
        "then the event continues automatically."
    )


def _enough_for(marker: str) -> str:
    """Return the sentence that says with which content a person puts the marker back."""
    return f'The content {{"id": "{_shown(marker)}"}} is enough.'


def _changed(archive: str, root: str, what: str) -> ArchiveRefused:
    """Return the error for a root that has not what the archive had. The command is last: a text that is too
    long for a mail loses the command, and no sentence that makes it safe."""
    is_folder = root.startswith("file:")
    remedy = (
        "Mount the volume, or restore what has the archive; do not create an empty folder."
        if is_folder
        else "Set the previous place again, or restore what has the archive."
    )
    patch = json.dumps({"status": {"root": {"location": root, "markerID": None}}})
    confirmed = shlex.quote(patch.replace("`", r"\u0060"))
    return ArchiveRefused(
        "ArchiveRootChanged",
        f"Archive/{archive}: {_shown(root)} {_shown(what)} Nothing is archived there, and nothing is deleted "
        f"in eSignAnyWhere. {remedy} {WHO_CONFIRMS} If a new, empty root is intended, type "
        f"`kubectl patch archive {archive} --subresource=status --type=merge -p {confirmed}`.",
    )


def _other_content(archive: str, location: str, what: str) -> ArchiveRefused:
    """Return the error for a file with other content than ``what``, which ends its sentence."""
    return ArchiveRefused(
        "ArchiveRootChanged",
        f"Archive/{archive}: {_shown(location)} has other content than {what} Nothing is archived there, and "
        "nothing is deleted in eSignAnyWhere. Look at the file in the storage itself. If it is right there, "
        "another program answers for the archive: correct that. If it is damaged, restore it. Remove it only "
        "for a new root: the message then names the command.",
    )


def _shown(address: str) -> str:
    """Return an address for a message, in which only a command has backquotes."""
    return address.replace("`", "%60")


class MarkedBackend(ForwardingBackend):
    """
    Wraps a backend for one run: ``check`` is called before the first request, and ``check_again`` before an
    absence counts. Raises what they raise.

    Only then is what is absent known to be so in this root: a check may be some seconds old.
    """

    kind: ClassVar[str] = "marked"

    def __init__(
        self,
        backend: ArchiveBackend,
        check: Callable[[], Awaitable[None]],
        check_again: Callable[[], Awaitable[None]],
    ) -> None:
        super().__init__(backend)
        self._check = check
        self._check_again = check_again
        self._lock = asyncio.Lock()
        self._is_checked = False
        self._absences = 0
        """Answers that something is absent."""
        self._confirmed = 0
        """Those of them that came before the last check."""

    async def entries(self, folder: str) -> list[StoredEntry]:
        """Return all files below a folder."""
        await self._check_once()
        found = await super().entries(folder)
        self._absences += not found
        return found

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        """Store a file."""
        await self._check_once()
        await super().put(name, chunks, tags=tags, content_type=content_type)

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a file."""
        await self._check_once()
        try:
            async with aclosing(super().read(name)) as stream:
                async for chunk in stream:
                    yield chunk
        except FileNotStored:
            self._absences += 1
            raise

    async def discard(self, name: str) -> None:
        """Remove a file."""
        await self._check_once()
        await super().discard(name)

    async def retain(self, name: str) -> None:
        """Protect a file, if the archive can do that."""
        await self._check_once()
        await super().retain(name)

    async def remove_leftovers(self, folder: str) -> None:
        """Remove the temporary files of a killed run."""
        await self._check_once()
        await super().remove_leftovers(folder)

    async def confirm_root(self) -> None:
        """Check the root again."""
        absences = self._absences
        await self._check_again()
        self._confirmed = absences

    async def confirm_absence(self) -> None:
        """Check the root again if something was absent since the last check."""
        if self._absences > self._confirmed:
            await self.confirm_root()

    async def _check_once(self) -> None:
        async with self._lock:
            if not self._is_checked:
                await self._check()
                self._is_checked = True
