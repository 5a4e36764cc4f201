"""
The manifest ``counterfoil.json`` and the hash file ``counterfoil.sha256``: how an archived envelope proves
itself.

The manifest is written last: where it lies, the envelope is archived. Its form is versioned and described by
``docs/manifest.schema.json``, which ``python -m counterfoil.archives.manifest`` prints.
"""

import hashlib
import inspect
import json
import re
import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import Any, Literal

import msgspec

from counterfoil.resources.base import json_name
from counterfoil.resources.envelopeevent import MAX_DOCUMENTS, FileKind
from counterfoil.signatures.results import Signatures
from counterfoil.untrusted.json_bounds import JSON_ERRORS, has_too_many_values, mismatch_text, text_memory

MANIFEST_LIMIT = 16 * 1024 * 1024
"""Bytes; a manifest of 2,000 files has about a tenth of it."""


MAX_PART_BYTES = {"times": 1024 * 1024, "tags": 512 * 1024, "extra": 64 * 1024}
"""Bytes of the parts whose keys are free: each key costs time. 1 MiB is 4,000 callbacks of one envelope."""

MAX_UNPROVEN_CALLBACKS = 512 * 1024
"""Bytes of the callbacks that are taken over from a manifest without a seal: many runs may do so at once."""

MAX_MANIFEST_CONTAINERS = 60_000
"""Lists and objects: 30 for each of 2,000 files, such as their signatures."""


MAX_TEXTS_MEMORY = 16 * 1024 * 1024
"""Bytes of memory of the texts about the envelope and its files: one emoji makes each character of a text
four bytes."""

MAX_IDS_MEMORY = 2 * 1024 * 1024
"""Bytes of memory of the ids of its files, as in a list of eSAW. A run keeps them while it lists siblings."""


class ManifestDamaged(ValueError):
    """The file with the manifest's name is not a readable manifest."""


class ManifestTooLarge(Exception):
    """Nobody could read the manifest of this envelope. The message is for people."""


MAX_SENDER_TEXT = 1024
"""Characters of the id and the name of a sender that are taken over from an earlier manifest."""

MAX_MESSAGE = 300
"""Characters of what a message repeats of a damaged manifest."""


class ManifestPart(msgspec.Struct, frozen=True, kw_only=True, rename=json_name):
    """Any part of the manifest: immutable, named as in the resources, nothing omitted."""


class ManifestEnvelope(ManifestPart, frozen=True):
    """
    The envelope, as eSAW described it when it was archived, and where it comes from.

    ``origin`` is eSAW's address (scheme, host and port), ``namespace`` that of the Organization; both are
    empty in manifests of before these fields.
    """

    id: str
    name: str
    status: str
    organization: str
    namespace: str = ""
    origin: str = ""


class ManifestSender(ManifestPart, frozen=True):
    """Sender of the envelope."""

    email: str
    user_id: str
    name: str


class ManifestAction(ManifestPart, frozen=True):
    """A callback about the envelope, when it came (RFC 3339), and the organization's own parameters in its
    URL."""

    action: str
    time: str
    parameters: dict[str, str] = {}


class ManifestTimes(ManifestPart, frozen=True, kw_only=True):
    """
    When it was sent, when its last step was finished (both as eSAW says, empty for unknown), when it was
    archived, and what was called back. All times are UTC in the form ``2026-03-01T10:00:00Z``. Earlier
    versions wrote ``sent`` with ``+00:00``, and no ``finished``.

    ``actionsLeftOut`` is the number of later callbacks, at least, for which there was no room.
    """

    sent: str
    finished: str = ""
    archived: str
    actions: tuple[ManifestAction, ...] = ()
    actions_left_out: int = 0


class EvidenceState(StrEnum):
    """Whether eSAW listed a piece of evidence when the envelope was archived."""

    PRESENT = "Present"
    ABSENT = "Absent"


class ManifestEvidence(ManifestPart, frozen=True):
    """
    One piece of evidence that an envelope can have: its documents, its audit trail, or the separate audit
    trail of the document with ``documentNumber`` and ``documentFileID``.

    ``required`` is whether the Organization requires it for an envelope of this status. ``why`` says in a
    sentence why it is absent.
    """

    kind: FileKind
    state: EvidenceState
    required: bool
    why: str = ""
    document_number: int | None = None
    document_file_id: str | None = None


class ManifestVersions(ManifestPart, frozen=True):
    """Versions of the Counterfoil that wrote the manifest, and of the eSAW, null for unknown."""

    counterfoil: str
    esaw: str | None = msgspec.field(name="eSignAnyWhere", default=None)


class ManifestFile(ManifestPart, frozen=True):
    """
    One file.

    ``name`` is relative to the folder of the manifest, ``fileName`` is the original one; ``size`` in bytes,
    ``sha256`` in lower-case hex, both of what was read back from the archive, or of what was sent if the
    archive only confirms checksums; ``location`` is a URI.
    ``signatures`` is the result of the check when the file was archived, null without a check.
    """

    name: str
    kind: FileKind
    file_id: str
    file_name: str
    content_type: str
    size: int
    sha256: str
    location: str
    document_number: int | None = None
    email: str | None = None
    activity_id: str | None = None
    signatures: Signatures | None = None


_FILE_TEXTS = ("name", "file_id", "file_name", "content_type", "sha256", "location", "email", "activity_id")

RENDERED_KINDS = frozenset({FileKind.AUDIT_TRAIL, FileKind.AUDIT_TRAIL_XML})
"""Kinds that eSAW makes again at each download, with other bytes."""

FIXED_KINDS = frozenset({FileKind.DOCUMENT, FileKind.ATTACHMENT})
"""Kinds with one content in a final state of the envelope."""

UNKNOWN_KINDS = frozenset(FileKind) - FIXED_KINDS - RENDERED_KINDS
"""Kinds of which nobody knows whether eSAW makes them again at each download."""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
"""A time in the form that manifests have."""

_TEXTS = re.compile(rb'"(?:[^"\\]|\\.)*"')
_MARKS = (b"{", b"[", b",")
_TIMES_RESERVE = 4096
"""Bytes for the rest of ``times``."""


class _FreeParts(msgspec.Struct, frozen=True):
    """The parts of a manifest whose number of values nothing else bounds, unread."""

    times: msgspec.Raw = msgspec.Raw()
    tags: msgspec.Raw = msgspec.Raw()
    extra: msgspec.Raw = msgspec.Raw()


class Manifest(ManifestPart, frozen=True, kw_only=True):
    """
    The files archived for one envelope, and everything needed to check them.

    ``evidence`` and ``versions`` are empty and null in manifests of before these fields.

    ``sealedBy`` is the id of the key whose signature of this file lies beside it, null when there is none:
    the first 16 hex digits of the SHA-256 of the public key's 32 bytes.
    """

    schema: Literal["counterfoil.dev/manifest/v1"] = "counterfoil.dev/manifest/v1"
    envelope: ManifestEnvelope
    sender: ManifestSender
    times: ManifestTimes
    evidence: tuple[ManifestEvidence, ...] = ()
    files: tuple[ManifestFile, ...]
    tags: dict[str, str] = {}
    extra: dict[str, Any] = {}
    versions: ManifestVersions | None = None
    sealed_by: str | None = None

    def encode(self) -> bytes:
        """Return it as JSON that a person can read too, in UTF-8."""
        return json.dumps(msgspec.to_builtins(self), ensure_ascii=False, indent=2).encode() + b"\n"

    def encode_readable(self) -> bytes:
        """Return what ``encode`` does, in a form that ``decode`` accepts. Raises ``ManifestTooLarge``."""
        text = self.encode()
        if has_too_many_values(text, MAX_MANIFEST_CONTAINERS):
            # In names, brackets and commas count as well, unless they are escaped.
            text = _TEXTS.sub(_escaped_marks, text)
        if len(text) > MANIFEST_LIMIT:
            mib = MANIFEST_LIMIT // 1024 // 1024
            raise ManifestTooLarge(f"The manifest of the envelope would have more than {mib} MiB.")
        try:
            self.decode(text)
        except ManifestDamaged as damage:
            raise ManifestTooLarge(f"The manifest of the envelope could not be read: {damage}.") from damage
        return text

    @property
    def entries(self) -> int:
        """Number of its files, findings, callbacks and pieces of evidence, which its encoding takes time
        for."""
        findings = sum(len(each.signatures.found) for each in self.files if each.signatures is not None)
        return len(self.files) + findings + len(self.times.actions) + len(self.evidence)

    @classmethod
    def decode(cls, text: bytes) -> "Manifest":
        """Read a manifest; fields of later versions are ignored. Raises ``ManifestDamaged``."""
        if has_too_many_values(text, MAX_MANIFEST_CONTAINERS):
            raise ManifestDamaged("it has too many values")
        try:
            parts = msgspec.json.decode(text, type=_FreeParts)
            for part, most in MAX_PART_BYTES.items():
                if len(bytes(getattr(parts, part))) > most:
                    raise ManifestDamaged(f"its `{part}` has more than {most // 1024} KiB")
            manifest = msgspec.json.decode(text, type=cls)
        except JSON_ERRORS as error:
            raise ManifestDamaged(mismatch_text(error)[:MAX_MESSAGE]) from error
        if len(manifest.files) > MAX_DOCUMENTS:
            raise ManifestDamaged(f"it names more than {MAX_DOCUMENTS} files")
        if text_memory(*(file.file_id for file in manifest.files)) > MAX_IDS_MEMORY:
            raise ManifestDamaged("the ids of its files are too long")
        # Not the findings, of which there may be 60,000.
        files = (getattr(file, name) for file in manifest.files for name in _FILE_TEXTS)
        if text_memory(manifest.envelope, manifest.sender, *files) > MAX_TEXTS_MEMORY:
            raise ManifestDamaged("its texts are too long")
        return manifest

    @property
    def digest(self) -> str:
        """The SHA-256 of what it says about the envelope and its files, regardless of time and author."""
        return hashlib.sha256(msgspec.json.encode(self._without_time(), order="sorted")).hexdigest()

    def with_history_of(self, earlier: "Manifest") -> "Manifest":
        """
        Return this manifest with the callbacks and tags of an earlier one that it lacks, with its time of
        archiving if both have the same documents, and with its sender if that is the same and has an id.

        The event of both may have been removed and created again. Then it stands for the earlier callback,
        unless its own has other parameters, or the status or the documents of the envelope changed since.
        """
        own = [each for each in self.times.actions if not self._repeats(each, earlier)]
        known = {(each.action, each.time) for each in own}
        added = [each for each in earlier.times.actions if (each.action, each.time) not in known]
        actions = tuple(sorted((*added, *own), key=lambda each: each.time))
        return msgspec.structs.replace(
            self,
            sender=self._sender_with(earlier),
            times=msgspec.structs.replace(
                self.times,
                archived=self._archived_with(earlier),
                actions=actions,
                actions_left_out=earlier.times.actions_left_out,
            ),
            tags=self._tags_with(earlier),
        )

    def _repeats(self, action: ManifestAction, earlier: "Manifest") -> bool:
        """Whether the action is only that of an event which was created again, and nothing changed since."""
        own, other = event_of(self), event_of(earlier)
        if own.get("name") is None or own.get("uid") == other.get("uid"):
            return False
        if own.get("name") != other.get("name") and own.get("workstep") is not None:
            # Each workstep has its own event of the same action.
            return False
        if self.envelope.status != earlier.envelope.status or self._documents() != earlier._documents():
            # It was restarted, or signed further: the callback is about that.
            return False
        return action.action == own.get("action") and any(
            each.action == action.action
            and each.time <= action.time
            and action.parameters.items() <= each.parameters.items()
            for each in earlier.times.actions
        )

    def _sender_with(self, earlier: "Manifest") -> ManifestSender:
        """Return the earlier sender if it is the same person, whose id the key of another Sender lacks."""
        own, other = self.sender, earlier.sender
        is_same = bool(own.email) and own.email.casefold() == other.email.casefold()
        is_short = len(other.user_id) <= MAX_SENDER_TEXT and len(other.name) <= MAX_SENDER_TEXT
        return other if is_same and other.user_id and not own.user_id and is_short else own

    def _tags_with(self, earlier: "Manifest") -> dict[str, str]:
        """Return the tags with the earlier ones that it lacks: the files were stored with them. Without those
        if ``decode`` would refuse both."""
        both = {**earlier.tags, **self.tags}
        return both if _written_size(both, lines=len(both)) < MAX_PART_BYTES["tags"] else self.tags

    def _archived_with(self, earlier: "Manifest") -> str:
        """Return the earlier time of archiving if it can be right and the documents are the same."""
        own, other = self.times.archived, earlier.times.archived
        is_earlier = _TIME.fullmatch(other) is not None and other < own
        return other if is_earlier and self._documents() == earlier._documents() else own

    def _documents(self) -> set[tuple[str, FileKind, str]]:
        return {
            (each.file_id, each.kind, each.sha256) for each in self.files if each.kind not in RENDERED_KINDS
        }

    def with_first_callbacks(self, most: int = MAX_PART_BYTES["times"]) -> "Manifest":
        """Return this manifest with the first callbacks, which take at most that many bytes, and the number
        of the others. ``decode`` accepts no more than the default."""
        times, left = self.times, most - _TIMES_RESERVE
        kept: list[ManifestAction] = []
        for each in times.actions:
            left -= _written_size(each, lines=len(each.parameters) + 7)
            if left < 0:
                break
            kept.append(each)
        left_out = max(len(times.actions) - len(kept), times.actions_left_out)
        times = msgspec.structs.replace(times, actions=tuple(kept), actions_left_out=left_out)
        return msgspec.structs.replace(self, times=times)

    def _without_time(self) -> "Manifest":
        times = msgspec.structs.replace(self.times, archived="")
        return msgspec.structs.replace(self, times=times, extra={}, versions=None)


def event_of(manifest: Manifest) -> dict[str, Any]:
    """Return what a manifest says about its event; empty for nothing."""
    event = manifest.extra.get("event")
    return event if isinstance(event, dict) else {}


def _written_size(part: object, *, lines: int) -> int:
    """Return the bytes that a part has at most, with indented lines and escaped marks."""
    text = msgspec.json.encode(part)
    return len(text) + 12 * lines + 5 * sum(text.count(mark) for mark in _MARKS)


def _escaped_marks(text: re.Match[bytes]) -> bytes:
    """Escape what ``has_too_many_values`` counts in a text."""
    escaped = text[0]
    for mark in _MARKS:
        escaped = escaped.replace(mark, b"\\u%04x" % ord(mark))
    return escaped


def hash_lines(files: Iterable[tuple[str, str]]) -> bytes:
    """
    Return the hash file for (relative name, SHA-256) pairs, as ``sha256sum -c`` reads it.

    A name with a backslash or a line end is escaped and its line marked by a backslash in front. (GNU
    coreutils, "md5sum invocation")
    """
    return "".join(_hash_line(name, sha256) for name, sha256 in files).encode(errors="surrogateescape")


def _hash_line(name: str, sha256: str) -> str:
    if name == "-":
        # Which would mean the standard input.
        name = "./-"
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{sha256}  {escaped}\n"


def json_schema() -> str:
    """Return the JSON schema of the manifest, as stored in docs/manifest.schema.json."""
    schema = msgspec.json.schema(Manifest)
    for part in schema["$defs"].values():
        # Python takes the indentation out of docstrings only from version 3.13 on.
        if "description" in part:
            part["description"] = inspect.cleandoc(part["description"])
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(json_schema())
