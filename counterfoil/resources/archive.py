"""
Archive: where documents go, under which path and with which tags.

Exactly one kind is set (the CRD sees to it); ``ArchiveSpec.kind`` names it. What each kind does with its
settings is in ``counterfoil.archives``, one module per kind.
"""

from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from counterfoil.resources.base import LocalObjectReference, Resource, ResourcePart
from counterfoil.resources.conditions import Condition

DEFAULT_PATH = "{{organization}}/{{envelope.id}}/{{file.kind}}/{{file.name}}"


class Filesystem(ResourcePart, frozen=True):
    """A mounted volume."""

    root: str


class ObjectLock(ResourcePart, frozen=True):
    """Write once, read many: until when an object can't be overwritten or deleted."""

    mode: str
    retain_days: int


class S3(ResourcePart, frozen=True):
    """S3 and what speaks its protocol."""

    bucket: str
    prefix: str = ""
    region: str | None = None
    endpoint: str | None = None
    force_path_style: bool = False
    server_side_encryption: str | None = None
    object_lock: ObjectLock | None = None
    credentials_secret_ref: LocalObjectReference | None = None


class AzureBlob(ResourcePart, frozen=True):
    """Azure Blob Storage."""

    container: str
    endpoint: str | None = None
    credentials_secret_ref: LocalObjectReference | None = None


class GoogleCloudStorage(ResourcePart, frozen=True):
    """Google Cloud Storage."""

    bucket: str
    credentials_secret_ref: LocalObjectReference | None = None


class WebDav(ResourcePart, frozen=True):
    """A WebDAV collection (RFC 4918)."""

    url: str
    credentials_secret_ref: LocalObjectReference | None = None


class Sftp(ResourcePart, frozen=True):
    """A folder of an SFTP server, whose host keys are pinned."""

    host: str
    port: int = 22
    root: str = "."
    host_keys: tuple[str, ...] = ()
    credentials_secret_ref: LocalObjectReference | None = None


class Cmis(ResourcePart, frozen=True):
    """A CMIS 1.1 repository by its browser binding."""

    url: str
    repository_id: str
    root_folder: str = "/"
    document_type: str = "cmis:document"
    properties: dict[str, str] = {}
    credentials_secret_ref: LocalObjectReference | None = None


class HttpMode(StrEnum):
    """How a file travels: as a part of a form with its tags, or as a body of its own."""

    MULTIPART = "Multipart"
    PER_FILE = "PerFile"


class Http(ResourcePart, frozen=True):
    """Any system that takes files by HTTP, signed by Standard Webhooks."""

    url: str
    mode: HttpMode = HttpMode.PER_FILE
    credentials_secret_ref: LocalObjectReference | None = None


class Custom(ResourcePart, frozen=True):
    """A kind that another package brings; it knows what its settings mean."""

    kind: str
    settings: dict[str, str] = {}
    credentials_secret_ref: LocalObjectReference | None = None


class TagRule(ResourcePart, frozen=True):
    """Where a tag's value comes from: exactly one of the three; ``required``: without it nothing is filed."""

    xpath: str | None = None
    json_path: str | None = None
    value: str | None = None
    required: bool = False


class VerifyMode(StrEnum):
    """How arrival is proved: by reading everything back, or by the server's own SHA-256."""

    READ_BACK = "ReadBack"
    CHECKSUM = "Checksum"


class SignaturePolicy(StrEnum):
    """What a broken signature in a document leads to."""

    IGNORE = "Ignore"
    REPORT = "Report"
    REQUIRE = "Require"


class ArchiveSpec(ResourcePart, frozen=True):
    """What a person says about the archive."""

    filesystem: Filesystem | None = None
    s3: S3 | None = None
    azblob: AzureBlob | None = None
    gcs: GoogleCloudStorage | None = None
    webdav: WebDav | None = None
    sftp: Sftp | None = None
    cmis: Cmis | None = None
    http: Http | None = None
    custom: Custom | None = None
    path: str = DEFAULT_PATH
    tags: dict[str, TagRule] = {}
    verify: VerifyMode = VerifyMode.READ_BACK
    signatures: SignaturePolicy = SignaturePolicy.REPORT
    trust_anchors_secret_ref: LocalObjectReference | None = None
    max_concurrency: int = 8

    @property
    def kind(self) -> str:
        """Name of the one kind that is set. Raises ``ValueError`` when none or several are (an old API server)."""
        found = [name for name in KINDS if getattr(self, name) is not None]
        if len(found) != 1:
            raise ValueError(
                f"exactly one of {', '.join(KINDS)} must be set, found: {', '.join(found) or 'none'}"
            )
        return found[0]

    @property
    def credentials_secret_ref(self) -> LocalObjectReference | None:
        """The Secret with the credentials of the kind that is set, or None when it needs none."""
        settings = getattr(self, self.kind)
        ref: LocalObjectReference | None = getattr(settings, "credentials_secret_ref", None)
        return ref


KINDS = ("filesystem", "s3", "azblob", "gcs", "webdav", "sftp", "cmis", "http", "custom")


class ArchiveStatus(ResourcePart, frozen=True):
    """
    Whether it can be written to, and how much was.

    ``trust_anchors`` is the id of the trust anchors that count now, as manifests name them. ``settled_at`` says since when
    it works as it does now: with this spec and these anchors.
    """

    observed_generation: int | None = None
    conditions: tuple[Condition, ...] = ()
    bytes_total: int = 0
    trust_anchors: str | None = None
    settled_at: datetime | None = None


class Archive(Resource, frozen=True):
    """One destination as a Kubernetes object (``kubectl get archives``)."""

    KIND: ClassVar[str] = "Archive"
    PLURAL: ClassVar[str] = "archives"

    spec: ArchiveSpec
    status: ArchiveStatus = ArchiveStatus()
