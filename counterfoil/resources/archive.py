"""
Archive: where documents are stored, under which path and with which tags.

The CRD requires exactly one kind; ``ArchiveSpec.kind`` names it. The kinds' settings are in
``archive_kinds``.
"""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from counterfoil.resources.archive_kinds import (
    KINDS,
    S3,
    AzureBlob,
    Cmis,
    Custom,
    Filesystem,
    GoogleCloudStorage,
    Http,
    HttpMode,
    KindFields,
    KindSettings,
    ObjectLock,
    Sftp,
    WebDav,
)
from counterfoil.resources.base import LocalObjectReference, Resource, ResourcePart
from counterfoil.resources.conditions import Condition
from counterfoil.resources.request import LastRequest

__all__ = [
    "KINDS",
    "S3",
    "AzureBlob",
    "Cmis",
    "Custom",
    "Filesystem",
    "GoogleCloudStorage",
    "Http",
    "HttpMode",
    "ObjectLock",
    "Sftp",
    "WebDav",
]

DEFAULT_PATH = "{{organization}}/{{envelope.id}}/{{file.kind}}/{{file.name}}"


class TagRule(ResourcePart, frozen=True):
    """Source of a tag's value: exactly one of the four. Without a ``required`` value no file is stored."""

    xpath: str | None = None
    json_path: str | None = None
    callback: str | None = None
    value: str | None = None
    required: bool = False
    searchable: bool = False
    """Whether the value is also in the status of the event."""


class VerifyMode(StrEnum):
    """Method that verifies a file: by reading it back, or by the server's own SHA-256."""

    READ_BACK = "ReadBack"
    CHECKSUM = "Checksum"


class SignaturePolicy(StrEnum):
    """Policy for broken signatures in documents."""

    IGNORE = "Ignore"
    REPORT = "Report"
    REQUIRE = "Require"


class ArchiveSpec(KindFields, frozen=True):
    """Kind and settings of the archive, and how files are named, tagged and verified."""

    path: str = DEFAULT_PATH
    tags: dict[str, TagRule] = {}
    verify: VerifyMode = VerifyMode.READ_BACK
    signatures: SignaturePolicy = SignaturePolicy.REPORT
    trust_anchors_secret_ref: LocalObjectReference | None = None
    max_concurrency: int = 8

    @property
    def kind(self) -> str:
        """Name of the one kind that is set. Raises ``ValueError`` when none or several are (an old API
        server)."""
        found = [name for name in KINDS if getattr(self, name) is not None]
        if len(found) != 1:
            raise ValueError(
                f"exactly one of {', '.join(KINDS)} must be set, found: {', '.join(found) or 'none'}"
            )
        return found[0]

    @property
    def settings(self) -> KindSettings:
        """The settings of the kind that is set. Raises ``ValueError`` as ``kind`` does."""
        settings: KindSettings = getattr(self, self.kind)
        return settings

    @property
    def keeps_files(self) -> bool:
        """Whether the archive keeps the files that it takes."""
        settings = (getattr(self, name) for name in KINDS)
        return all(each.KEEPS_FILES for each in settings if each is not None)

    @property
    def separates_organizations(self) -> bool:
        """Whether the folders of two Organizations differ, by ``{{organization}}`` in the path."""
        folder, _, _ = self.path.partition("{{file.")
        return "{{organization}}" in folder.rpartition("/")[0]

    @property
    def credentials_secret_ref(self) -> LocalObjectReference | None:
        """The Secret with the credentials of the kind that is set, or None when it needs none."""
        ref: LocalObjectReference | None = getattr(self.settings, "credentials_secret_ref", None)
        return ref


class ArchiveRoot(ResourcePart, frozen=True):
    """
    The root of the archive when a probe first succeeded there: its location (a URI that ends in a slash), and
    the id in its marker.

    Without an id, a person confirmed that this location is the root, even if it is empty. The next probe
    stores the id.
    """

    location: str
    marker_id: str | None = None


class ArchiveStatus(ResourcePart, frozen=True):
    """
    Whether Counterfoil can write to the archive, and the number of bytes written.

    ``trust_anchors`` is the id of the current trust anchors, as manifests name them. ``settled_time`` is the
    time since which the archive works with the current spec and trust anchors. ``destination`` is where the
    first probe succeeded, and ``root`` is how its root is known again; ``secret_origins`` has the origin to
    which each Secret that names none was sent.
    """

    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    bytes_total: int = 0
    destination: str | None = None
    root: ArchiveRoot | None = None
    secret_origins: dict[str, str] = {}
    trust_anchors: str | None = None
    settled_time: datetime | None = None
    last_request: LastRequest | None = None


class Archive(Resource, frozen=True):
    """One archive as a Kubernetes object (``kubectl get archives``)."""

    KIND: ClassVar[str] = "Archive"
    PLURAL: ClassVar[str] = "archives"

    spec: ArchiveSpec
    status: ArchiveStatus = ArchiveStatus()
