"""
The layout: which file of an envelope goes where, with which tags. Pure and repeatable.

The same Archive, envelope and list of files always give the same names. So the run after a killed run finds
its files (rule 3).
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from counterfoil.archives import tags as tagging
from counterfoil.archives.errors import SettingsInvalid
from counterfoil.archives.names import (
    HASHES_NAME,
    MANIFEST_NAME,
    SIGNATURE_NAME,
    TAG_PREFIX,
    NameAllocator,
    PathTemplate,
    TemplateInvalid,
    is_variation,
    safe_segment,
    split_extension,
)
from counterfoil.resources.archive import ArchiveSpec
from counterfoil.resources.envelopeevent import FileKind

FILES_NAMED_IN_LOOP = 100
"""Maximum number of files whose names are made in the event loop; a name that is made for it takes 1 ms."""


@dataclass(frozen=True)
class ActionFacts:
    """One thing that happened to the envelope, as called back: the action's name, when (RFC 3339; empty if no
    callback came), and the organization's own parameters of the callback."""

    action: str
    time: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class EnvelopeFacts:
    """
    Facts about an envelope for the layout and the manifest. Texts as eSAW gave them; empty for unknown.

    ``origin`` is eSAW's address, ``namespace`` that of the Organization. ``sender_*`` describe the Sender
    whose key reads the envelope, ``sent_by_*`` the person whom eSAW names as its sender.
    """

    organization: str
    envelope_id: str
    name: str = ""
    status: str = ""
    sender_email: str = ""
    sender_user_id: str = ""
    sender_name: str = ""
    sent_by_email: str = ""
    sent_by_name: str = ""
    sent_date: str = ""
    finished_date: str = ""
    """When the last step was finished."""
    metadata: bytes | None = None
    """In UTF-8; as a text, one emoji would make each character four bytes in memory."""
    actions: tuple[ActionFacts, ...] = ()
    namespace: str = ""
    origin: str = ""

    @property
    def metadata_text(self) -> str:
        """The metadata; empty for none."""
        return (self.metadata or b"").decode(errors="surrogatepass")

    @property
    def parameters(self) -> Mapping[str, str]:
        """The organization's own parameters of its callbacks; the first callback that has one counts."""
        return {name: value for each in reversed(self.actions) for name, value in each.parameters.items()}


@dataclass(frozen=True)
class FileFacts:
    """
    One file, as eSAW lists it.

    ``number`` counts the files of one kind from 1, in eSAW's order; ``document_number``, ``email`` and
    ``activity_id`` say which document or signer it belongs to.
    """

    file_id: str
    kind: FileKind
    file_name: str
    number: int
    document_number: int | None = None
    email: str | None = None
    activity_id: str | None = None


@dataclass(frozen=True)
class FileLayout:
    """A file and its full name in the archive."""

    facts: FileFacts
    name: str
    content_type: str


@dataclass(frozen=True)
class ArchiveLayout:
    """Names of all files of one envelope, and where it comes from."""

    envelope_id: str
    folder: str
    files: tuple[FileLayout, ...]
    tags: dict[str, str]
    organization: str = ""
    namespace: str = ""
    origin: str = ""

    @property
    def manifest_name(self) -> str:
        """Full name of the manifest."""
        return f"{self.folder}/{MANIFEST_NAME}"

    @property
    def hashes_name(self) -> str:
        """Full name of the hash file."""
        return f"{self.folder}/{HASHES_NAME}"

    @property
    def seal_name(self) -> str:
        """Full name of the manifest's seal."""
        return f"{self.folder}/{SIGNATURE_NAME}"

    def relative(self, name: str) -> str:
        """Return a full name as it is called from within the envelope's folder."""
        return name.removeprefix(f"{self.folder}/")


REPORTS_FOLDER = "counterfoil-imports"
"""Folder of the reports of all Imports, in the root of an archive."""


def report_folder(organization: str, imported: str, uid: str) -> str:
    """Return the folder of the report of an Import; another Import of the same name has another one."""
    mark = hashlib.sha256(uid.encode()).hexdigest()[:8]
    return "/".join([REPORTS_FOLDER, safe_segment(organization), safe_segment(f"{imported}-{mark}")])


def problems(spec: ArchiveSpec) -> list[str]:
    """Return what is wrong with path and tags of an Archive, one sentence each; none when both can work."""
    faults = tagging.problems(spec.tags)
    try:
        PathTemplate.parse(spec.path, tags=spec.tags)
    except TemplateInvalid as fault:
        faults.insert(0, f"spec.path: {fault}")
    return faults


def check(spec: ArchiveSpec) -> None:
    """Raise ``SettingsInvalid`` for a spec in which ``problems`` finds one."""
    if faults := problems(spec):
        raise SettingsInvalid(f"{'; '.join(faults)}. Correct the Archive.")


async def problems_aside(spec: ArchiveSpec) -> list[str]:
    """Return ``problems`` without holding the event loop."""
    return await asyncio.to_thread(problems, spec) if _is_slow_to_check(spec) else problems(spec)


async def check_aside(spec: ArchiveSpec) -> None:
    """``check`` without holding the event loop."""
    if _is_slow_to_check(spec):
        await asyncio.to_thread(check, spec)
    else:
        check(spec)


def _is_slow_to_check(spec: ArchiveSpec) -> bool:
    """Whether a rule has to be compiled, which takes up to 10 ms for each."""
    return any(map(tagging.reads_metadata, spec.tags.values()))


def is_tag_in_path(name: str, spec: ArchiveSpec) -> bool:
    """Whether the names of files contain this tag."""
    return f"{{{{{TAG_PREFIX}{name}}}}}" in spec.path


ClaimedNames = Mapping[tuple[str, FileKind], str]
"""Full names of files by id and kind."""


def no_claims(folder: str) -> ClaimedNames:
    """Return no claims: of a layout that nothing is archived by."""
    return {}


async def make_layout_aside(
    spec: ArchiveSpec,
    envelope: EnvelopeFacts,
    files: Sequence[FileFacts],
    *,
    found: Mapping[str, str],
    claimed: Callable[[str], ClaimedNames],
) -> ArchiveLayout:
    """Return ``make_layout`` without holding the event loop: in a thread if there are many files, or rules to
    compile."""
    make = partial(make_layout, spec, envelope, files, found=found, claimed=claimed)
    is_quick = len(files) <= FILES_NAMED_IN_LOOP and not _is_slow_to_check(spec)
    return make() if is_quick else await asyncio.to_thread(make)


def make_layout(
    spec: ArchiveSpec,
    envelope: EnvelopeFacts,
    files: Sequence[FileFacts],
    *,
    found: Mapping[str, str] | None = None,
    claimed: Callable[[str], ClaimedNames],
) -> ArchiveLayout:
    """
    Name every file of the envelope, and find its tags, unless ``tags_subprocess`` has ``found`` them.

    ``claimed`` returns the full names in a folder that earlier lists gave to files, by id and kind. A file
    keeps its name if ``spec.path`` still makes it for one of the files: eSAW promises no order, and another
    file under the name would replace it. No new name is one of them.

    Raises ``TagMissing``, ``MetadataUnreadable``, and ``SettingsInvalid`` for a spec in which ``problems``
    finds one.
    """
    check(spec)
    fields = envelope_fields(envelope)
    tags = (
        tagging.collect(spec.tags, envelope.metadata_text, fields, envelope.parameters)
        if found is None
        else dict(found)
    )
    values = {**fields, **{TAG_PREFIX + name: value for name, value in tags.items()}}

    template = PathTemplate.parse(spec.path, tags=spec.tags)
    folder = template.render_folder(values)
    ordered = sorted(files, key=_sort_key)
    paths = [f"{folder}/{template.render_file({**values, **_file_fields(facts)})}" for facts in ordered]
    names = _names(ordered, paths, claimed(folder))
    return ArchiveLayout(
        envelope.envelope_id,
        folder,
        tuple(
            FileLayout(facts, name, _content_type(name)) for facts, name in zip(ordered, names, strict=True)
        ),
        tags,
        organization=envelope.organization,
        namespace=envelope.namespace,
        origin=envelope.origin,
    )


def _names(files: Sequence[FileFacts], paths: Sequence[str], claimed: ClaimedNames) -> list[str]:
    """Return the names of the files: for each its claimed one if it still fits, else a free one."""
    names = NameAllocator()
    if not claimed:
        return [names.take(path) for path in paths]
    unclaimed = NameAllocator()
    possible = {unclaimed.take(path) for path in paths}
    kept: dict[int, str] = {}
    for position, (facts, path) in enumerate(zip(files, paths, strict=True)):
        name = claimed.get((facts.file_id, facts.kind))
        if name is None or not (name in possible or is_variation(name, path)):
            continue
        if names.reserve(name):
            kept[position] = name
    for name in claimed.values():
        names.reserve(name)
    return [kept[position] if position in kept else names.take(path) for position, path in enumerate(paths)]


def envelope_fields(envelope: EnvelopeFacts) -> dict[str, str]:
    """Return what placeholders of the envelope stand for."""
    return {
        "organization": envelope.organization,
        "envelope.id": envelope.envelope_id,
        "envelope.name": envelope.name,
        "envelope.status": envelope.status,
        # The day only: a time has colons, and one folder per second helps nobody.
        "envelope.sentDate": envelope.sent_date.partition("T")[0],
        "sender.email": envelope.sender_email,
        "sender.userID": envelope.sender_user_id,
    }


_ORDER = {kind: position for position, kind in enumerate(FileKind)}

_DEFAULT_NAMES: Mapping[FileKind, tuple[str, str]] = {
    FileKind.DOCUMENT: ("document", ".pdf"),
    FileKind.ATTACHMENT: ("attachment", ""),
    FileKind.AUDIT_TRAIL: ("audit-trail", ".pdf"),
    FileKind.AUDIT_TRAIL_XML: ("audit-trail", ".xml"),
    FileKind.LEGAL_DOCUMENT: ("legal-document", ".pdf"),
}

# Written out, since Python's own table depends on its version and on the machine.
_CONTENT_TYPES: Mapping[str, str] = {
    ".pdf": "application/pdf",
    ".xml": "application/xml",
    ".json": "application/json",
    ".zip": "application/zip",
    ".p7m": "application/pkcs7-mime",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".html": "text/html",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".doc": "application/msword",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xls": "application/vnd.ms-excel",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


def _sort_key(facts: FileFacts) -> tuple[int, int, str]:
    return _ORDER[facts.kind], facts.number, facts.file_id


def _file_fields(facts: FileFacts) -> dict[str, str]:
    stem, extension = _DEFAULT_NAMES[facts.kind]
    return {
        "file.kind": str(facts.kind),
        "file.name": safe_segment(facts.file_name, default=f"{stem}-{facts.number}{extension}"),
        "file.number": str(facts.number),
    }


def _content_type(name: str) -> str:
    return _CONTENT_TYPES.get(split_extension(name)[1].lower(), "application/octet-stream")
