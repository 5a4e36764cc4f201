"""
Archive: where documents are stored, under which path and with which tags.

The CRD requires exactly one kind; ``ArchiveSpec.kind`` names it. The kinds' settings are in
``archive_kinds``.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from counterfoil.origin import MAX_ORIGIN_LENGTH
from counterfoil.resources.archive_kinds import (
    KINDS,
    S3,
    TARGET_FIELDS,
    AzureBlob,
    Cmis,
    CredentialsReference,
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
from counterfoil.resources.base import (
    OBSERVED_GENERATION,
    LocalObjectReference,
    PrinterColumn,
    ResourcePart,
    ResourceWithComputedStatus,
    ValidationRule,
    names_of_map,
    schema,
)
from counterfoil.resources.conditions import Condition, condition_list
from counterfoil.resources.naming import PARAMETER_NAME_RULE, TAG_NAME_RULE
from counterfoil.resources.request import LastRequest, request_values

__all__ = [
    "KINDS",
    "S3",
    "AzureBlob",
    "Cmis",
    "CredentialsReference",
    "Custom",
    "Filesystem",
    "GoogleCloudStorage",
    "Http",
    "HttpMode",
    "ObjectLock",
    "Sftp",
    "WebDav",
]

_TARGET = ".spec" + "".join(
    "[" + ",".join(f"'{name}'" for name in names) + "]" for names in (KINDS, TARGET_FIELDS)
)
"""JSON path of the field with the location of the archive, for all kinds."""

DEFAULT_PATH = "{{organization}}/{{envelope.id}}/{{file.kind}}/{{file.name}}"


class TagRule(ResourcePart, frozen=True):
    """Source of the value: exactly one of `xpath`, `jsonPath`, `callback` and `value`."""

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            "[has(self.xpath), has(self.jsonPath), has(self.callback), "
            "has(self.value)].exists_one(each, each)",
            "a tag has exactly one of xpath, jsonPath, callback and value",
        ),
    )

    xpath: Annotated[
        str | None,
        schema(
            "XPath 1.0 into the envelope's metadata (XML). Example: /tags/costCenter.",
            minLength=1,
            maxLength=1024,
        ),
    ] = None
    json_path: Annotated[
        str | None,
        schema(
            "JSONPath (RFC 9535) into the envelope's metadata (JSON). Example: $.costCenter.",
            minLength=1,
            maxLength=1024,
        ),
    ] = None
    callback: Annotated[
        str | None,
        schema(
            "Name of a parameter in the callback URL, in any letter case, that the Organization "
            "lists in `spec.callback.parameters`. Example: orderNo.",
            PARAMETER_NAME_RULE,
            minLength=1,
            maxLength=63,
        ),
    ] = None
    value: Annotated[str | None, schema("A value that is always the same.", maxLength=1024)] = None
    required: Annotated[bool, schema("True files nothing while the value is missing. Default false.")] = False
    searchable: Annotated[
        bool,
        schema(
            "True also stores the value (its first 256 characters) in `status.archive.tags` of "
            "the event. The console finds events by it. Everyone who may read events can read "
            "it. Default false."
        ),
    ] = False


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
    """Exactly one kind of archive with its settings, and how files are named, tagged and verified."""

    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            f"[{', '.join(f'has(self.{kind})' for kind in KINDS)}].exists_one(each, each)",
            f"set exactly one of {', '.join(KINDS[:-1])} and {KINDS[-1]}",
        ),
        ValidationRule(
            " && ".join(f"has(self.{kind}) == has(oldSelf.{kind})" for kind in KINDS),
            "the kind of an Archive never changes, since events say where their documents lie; "
            "create another Archive instead",
        ),
        ValidationRule(
            r"self.path.findAll(r'\{\{tags\.[^{}]*\}\}')"
            ".all(each, has(self.tags) && each.substring(7, each.size() - 2) in self.tags)",
            "path uses a tag that is not among tags",
            field_path=".path",
        ),
        ValidationRule(
            "!has(self.trustAnchorsSecretRef) || self.signatures != 'Ignore'",
            "trustAnchorsSecretRef needs signatures to be looked at; set signatures to Report or Require",
            field_path=".trustAnchorsSecretRef",
        ),
    )

    path: Annotated[
        str,
        schema(
            "Template of the path of each file. Placeholders: {{organization}}, {{envelope.id}}, "
            "{{envelope.name}}, {{envelope.status}}, {{envelope.sentDate}}, {{sender.email}}, "
            "{{sender.userID}}, {{file.kind}}, {{file.name}}, {{file.number}}, {{tags.NAME}}. "
            "Every value is made safe for its place. Default "
            "{{organization}}/{{envelope.id}}/{{file.kind}}/{{file.name}}.",
            ValidationRule(
                r"self.matches(r'^([^{}]|\{\{(organization|envelope\.(id|name|status|sentDate)"
                r"|sender\.(email|userID)|file\.(kind|name|number)|tags\.[A-Za-z_][A-Za-z0-9_.-]*)\}\})*$')",
                "path has a placeholder that does not exist; there are {{organization}}, "
                "{{envelope.id}}, {{envelope.name}}, {{envelope.status}}, {{envelope.sentDate}}, "
                "{{sender.email}}, {{sender.userID}}, {{file.kind}}, {{file.name}}, {{file.number}} "
                "and {{tags.NAME}}",
            ),
            ValidationRule(
                r"self.split('/').all(each, each != '' && each != '.' && each != '..') && "
                r"self.matches(r'^[^\\\x00-\x1f]*$')",
                "path is relative to the archive, with no / at its ends, no empty, . or .. segment "
                "and no backslash",
            ),
            ValidationRule(
                r"self.split('{{file.')[0].matches(r'\{\{envelope\.id\}\}.*/')",
                "before the first segment that names a file ({{file.…}}) there must be one with "
                "{{envelope.id}}, so that every envelope has its own folder",
            ),
            ValidationRule(
                "self.contains('{{file.name}}')",
                "path must contain {{file.name}}, which distinguishes the files of an envelope",
            ),
            maxLength=1024,
        ),
    ] = DEFAULT_PATH
    tags: Annotated[
        dict[str, TagRule],
        schema(
            "Names of tags, and where their values come from. They go into the manifest, into "
            "{{tags.NAME}} and, where the archive has such, into its own attributes. Default "
            "none.",
            names_of_map(TAG_NAME_RULE),
            ValidationRule(
                "self.filter(name, has(self[name].searchable) && self[name].searchable).size() <= 16",
                "at most 16 tags are searchable",
            ),
            maxProperties=64,
        ),
    ] = {}
    verify: Annotated[
        VerifyMode,
        schema(
            "How arrival is proved before anything is deleted. `ReadBack`: every byte is read "
            "back and hashed. `Checksum`: the server's own SHA-256 is compared, where it has "
            "one. Default ReadBack."
        ),
    ] = VerifyMode.READ_BACK
    signatures: Annotated[
        SignaturePolicy,
        schema(
            "What is done about the signatures in the files. `Ignore`: nothing. `Report`: write "
            "whether they are intact into the manifest and the event's condition "
            "SignaturesChecked. An envelope with an unreadable or broken file is archived and "
            "stays in eSAW. `Require`: in addition, an envelope with a broken signature, or with "
            "an unsigned document, gets no manifest and stays in eSAW. Default Report."
        ),
    ] = SignaturePolicy.REPORT
    trust_anchors_secret_ref: Annotated[
        LocalObjectReference | None,
        schema(
            "A Secret (same namespace, label `counterfoil.dev/use=trust`) whose values are "
            "certificates in PEM form, one or several per key. The certificate of every signer "
            "must then lead to one of them, at the time of signing. With `signatures: Require` "
            "an envelope in which one does not stays in eSAW. Revocation is not checked. Default "
            "none: whom a certificate belongs to is not judged."
        ),
    ] = None
    max_concurrency: Annotated[
        int,
        schema(
            "Runs at once in this Archive. One that makes or reads copies counts in the Archive of the "
            "copy, and reads the first Archive beside this number. Default 8, 1 to 256.",
            minimum=1,
            maximum=256,
        ),
    ] = 8
    suspend: Annotated[
        bool,
        schema(
            "True suspends all events that need this Archive until the value is false again, as during a "
            "maintenance. It is not probed meanwhile, and nothing is lost. Default false."
        ),
    ] = False

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
    def separates_organizations(self) -> bool:
        """Whether the folders of two Organizations differ, by ``{{organization}}`` in the path."""
        return "{{organization}}" in self.folder_path

    @property
    def folder_path(self) -> str:
        """The part of the path that is the envelope's folder."""
        return self.path.partition("{{file.")[0].rpartition("/")[0]

    @property
    def credentials_secret_ref(self) -> CredentialsReference | None:
        """The Secret with the credentials of the kind that is set, or None when it needs none."""
        ref: CredentialsReference | None = getattr(self.settings, "credentials_secret_ref", None)
        return ref


class ArchiveRoot(ResourcePart, frozen=True):
    """
    Identity of the root of the archive. Set by a person without markerID, it confirms that this
    location is the root, even if it is empty.
    """

    location: Annotated[str, schema("Location of the root. Example: file:///archive/.", maxLength=4096)]
    # Set by the next probe if a person confirmed the location without it.
    marker_id: Annotated[
        str | None,
        schema(
            "Id in the file .counterfoil-archive.json of the root. The Archive is not ready "
            "while the root has another id or none.",
            maxLength=32,
            pattern="^[0-9a-f]{32}$",
        ),
    ] = None


class ArchiveStatus(ResourcePart, frozen=True):
    """Whether it can be written to, and how much was."""

    observed_generation: Annotated[int | None, OBSERVED_GENERATION] = None
    conditions: Annotated[
        tuple[Condition, ...],
        condition_list(
            "`Ready`: a probe was written and read back, as in `kubectl wait "
            "--for=condition=Ready archive/NAME`. `Stalled`: a person has to act.",
            "Ready",
        ),
    ] = ()
    bytes_total: Annotated[int, schema("Bytes archived since the Archive was created.", minimum=0)] = 0
    destination: Annotated[
        str | None,
        schema(
            "Server, and bucket or container, or folder, of the first probe that succeeded. The "
            "Archive is not ready while its spec leads to another one. Example: "
            "https://dms.acme.example.",
            maxLength=1100,
        ),
    ] = None
    root: ArchiveRoot | None = None
    secret_origins: Annotated[
        dict[str, Annotated[str, schema("One origin.", maxLength=MAX_ORIGIN_LENGTH)]],
        schema(
            "Origin that each Secret without the annotation counterfoil.dev/origin was sent to, "
            "by the name of the Secret. It is sent to no other.",
            maxProperties=16,
        ),
    ] = {}
    trust_anchors: Annotated[
        str | None,
        schema(
            "The trust anchors that count now, by the SHA-256 that manifests name them by; none "
            "without `spec.trustAnchorsSecretRef`.",
            maxLength=64,
            pattern="^[0-9a-f]{64}$",
        ),
    ] = None
    settled_time: Annotated[
        datetime | None,
        schema(
            "Time since which the Archive has worked with its current spec and trust anchors "
            "(RFC 3339, UTC). Events that failed before then because of the Archive are retried."
        ),
    ] = None
    last_request: Annotated[
        LastRequest | None, schema(parts={"request": request_values("On an Archive: probe")})
    ] = None


class Archive(ResourceWithComputedStatus, frozen=True):
    """
    A document management system or store where the documents of envelopes go, under which path and with
    which tags. Exactly one kind is set.
    """

    KIND: ClassVar[str] = "Archive"
    PLURAL: ClassVar[str] = "archives"
    COLUMNS: ClassVar[tuple[PrinterColumn, ...]] = (
        PrinterColumn("Target", _TARGET, "Bucket, container, address, host or folder of the archive."),
        PrinterColumn(
            "Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether it can be written to."
        ),
        PrinterColumn("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why, or why not."),
        PrinterColumn("Bytes", ".status.bytesTotal", "Bytes archived so far.", type="integer"),
        PrinterColumn(
            "Age", ".metadata.creationTimestamp", "Time since the Archive was created.", type="date"
        ),
        PrinterColumn(
            "Suspended", ".spec.suspend", "Whether the Archive is suspended.", type="boolean", is_wide=True
        ),
        PrinterColumn("Verify", ".spec.verify", "How arrival is proved.", is_wide=True),
        PrinterColumn("Signatures", ".spec.signatures", "What a broken signature leads to.", is_wide=True),
        PrinterColumn("Path", ".spec.path", "Template of the path of each file.", is_wide=True),
    )

    # Without them another server or root would count as the first, and get the documents and the Secrets.
    KEPT_STATUS: ClassVar[frozenset[str]] = frozenset({"destination", "root", "secret_origins"})

    spec: ArchiveSpec
    status: ArchiveStatus = ArchiveStatus()


def has_same_root(one: Archive, other: Archive) -> bool:
    """Whether two Archives lead to the same root, as far as markers and settings tell. What is not known is
    not the same."""
    markers = (_marker(one), _marker(other))
    if None not in markers:
        return markers[0] == markers[1]
    try:
        places = (one.spec.settings.place, other.spec.settings.place)
    except ValueError:
        # Not exactly one kind is set; such an Archive is not used.
        return False
    return places[0] == places[1] is not None


def has_same_folders(one: Archive, other: Archive) -> bool:
    """
    Whether the folders of an envelope are the same in two Archives, as far as markers and settings tell.

    Not whether its documents have the same names: the manifest of each run is in that folder.
    """
    is_one = one.name == other.name
    return is_one or (one.spec.folder_path == other.spec.folder_path and has_same_root(one, other))


def has_other_root(one: Archive, other: Archive) -> bool:
    """Whether two Archives certainly lead to different roots: both have a marker, and these differ. What is
    not known is not different."""
    markers = (_marker(one), _marker(other))
    return None not in markers and markers[0] != markers[1]


def _marker(archive: Archive) -> str | None:
    """Return the id of the marker in its root; None if it was probed with another spec, or has none."""
    root, is_current = archive.status.root, archive.status.observed_generation == archive.metadata.generation
    return root.marker_id if root is not None and is_current else None
