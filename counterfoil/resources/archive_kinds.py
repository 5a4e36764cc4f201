"""
The settings of each kind of archive: their types, descriptions and bounds, and nothing that does I/O.

A kind is one struct and one field of ``KindFields``. The annotation of each setting has a ``schema``, which
the API server checks; nothing checks it again on reading. What each kind does with its settings is in
``counterfoil.archives.backends``, one module per kind.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, get_args, get_type_hints
from urllib.parse import urlsplit

from counterfoil.origin import origin_of
from counterfoil.resources.base import (
    FieldSchema,
    LocalObjectReference,
    ResourcePart,
    ValidationRule,
    address,
    schema,
    secret_key,
)

DISCARDED_SCHEME = "discarded:"
"""Prefix of the locations of files that an archive of another package did not keep. With ``verify: Checksum``
no byte is read back, so only this prefix says it. No such file counts as archived for a delete."""


class CredentialsReference(LocalObjectReference, frozen=True):
    """Reference to the Secret of an archive, which may have other names for its keys."""

    keys: Annotated[
        dict[str, Annotated[str, secret_key("AWS_ACCESS_KEY_ID")]], schema("Declared by _secret.")
    ] = {}

    def key(self, name: str) -> str:
        """Return the key in the Secret of what Counterfoil calls ``name``."""
        return self.keys.get(name, name)

    def renamed(self, content: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Return the content of the Secret with the names that Counterfoil uses."""
        found = {name: content[key] for name, key in self.keys.items() if key in content}
        return {**{key: value for key, value in content.items() if key not in self.keys}, **found}


SecretRef = CredentialsReference | None

_ONLY_HTTPS = "https; http only for loopback and cluster-internal names."

AMAZON_ENDPOINT = (
    r"^https://([a-z0-9-]+\.)*s3(-fips|-accesspoint|-accesspoint-fips)?(\.dualstack)?"
    r"(\.[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2})?(\.vpce)?\.amazonaws\.(com|com\.cn|eu)/?$"
)
"""
Endpoints of ``s3`` that may receive the pod's own identity (RE2, for a lower-case address).

Only S3 itself: customers of Amazon answer at other names below ``amazonaws.com``.
"""

AZURE_ENDPOINT = (
    r"^https://[a-z0-9-]{3,40}\.(blob\.core\.(windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)"
    r"|z[0-9]{1,2}\.blob\.storage\.azure\.net)/?$"
)
"""Endpoints of ``azblob`` that may receive the pod's own identity (RE2, for a lower-case address)."""

REGION = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
"""Form of a region (RE2). It becomes a part of host names; one such host exchanges the pod's token."""

AMAZON_REGION = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
"""Form of a region of Amazon (RE2): one label of a host name. Customers of Amazon have names below
``amazonaws.com``, and a region with a dot could lead to one of them."""

BUCKET = r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$"
"""Form of the name of a bucket of ``s3`` (RE2). It becomes a part of the host name."""


def _secret(keys: str, **keywords: Any) -> FieldSchema:
    """Describe the reference to the Secret of an archive, which has these ``keys``."""
    names = re.findall("`([a-zA-Z]+)`", keys)
    known = ", ".join(f"'{each}'" for each in names)
    rule = ValidationRule(
        f"self.all(name, name in [{known}])",
        f"keys gives the Secret's own names of {', '.join(names)}, and of nothing else",
    )
    described = schema(
        "The Secret's own names of keys that have another name there, as a bucket claim writes them. Default "
        "none. Example: {accessKeyId: AWS_ACCESS_KEY_ID}.",
        *((rule,) if names else ()),
        maxProperties=8,
    )
    text = f"A Secret (same namespace, label `counterfoil.dev/use=archive`) with {keys}"
    return schema(text, parts={"keys": described}, **keywords)


def _own_identity(pattern: str, hosts: str) -> "ValidationRule":
    """Require an endpoint of the cloud itself, unless the Archive has a Secret."""
    return ValidationRule(
        "has(self.credentialsSecretRef) || !has(self.endpoint) "
        f"|| self.endpoint.lowerAscii().matches(r'{pattern}')",
        f"without credentialsSecretRef the pod's own identity is sent to endpoint, so it must be {hosts}",
    )


class KindSettings(ResourcePart, frozen=True):
    """Settings of one kind of archive."""

    EXAMPLE: ClassVar[Mapping[str, Any]] = {}
    """The smallest settings that the API server accepts; tests use them."""

    HAS_MARKER: ClassVar[bool] = True
    """True: a marker in the root tells it from an empty one in its place
    (``controller.access.archive_root``)."""

    CREDENTIAL_KEYS: ClassVar[tuple[str, ...]] = ()
    """Keys of the Secret that a command makes, for one login of several; empty: they are not known."""

    REPORTS_CHECKSUMS: ClassVar[bool] = False
    """True: the server can report the SHA-256 of a file, which ``verify: Checksum`` needs."""

    USES_POD_IDENTITY: ClassVar[bool] = False
    """True: without a Secret, it uses the pod's identity at a cloud (``controller.access.pod_access``)."""

    @property
    def origin(self) -> str | None:
        """
        The origin that documents and credentials are sent to; None: they are not sent to a server.

        Raises ``ValueError`` for an address that has none.
        """
        return None

    @property
    def destination(self) -> str | None:
        """
        The origin with the bucket or container, since a server of many owners has several; or the folder.
        Raises as ``origin``.

        A path on the same server is no part of it: what is stored there is up to the server, and to the
        credentials, which do not leave it.
        """
        return self.origin

    @property
    def place(self) -> str | None:
        """
        The root, as far as the spec names it, in one spelling; two Archives of one place have the same files.
        Raises as ``origin``.
        """
        return self.destination


class Filesystem(KindSettings, frozen=True):
    """A folder of a mounted volume."""

    EXAMPLE: ClassVar[Mapping[str, Any]] = {"root": "/archive"}

    root: Annotated[
        str,
        schema(
            "Absolute path of the folder in the controller's pod; must be mounted. Example: /archive.",
            ValidationRule(
                "self.matches(r'^(/[^/]+)+/?$') && self.split('/').all(each, each != '.' && each != '..')",
                "root is the absolute path of a folder below /, with no . or .. in it, as in /archive",
            ),
            maxLength=1024,
        ),
    ]

    @property
    def destination(self) -> str:
        """The folder: a volume at another one may not outlive the pod."""
        return f"file://{self.root.rstrip('/')}"


class ObjectLock(ResourcePart, frozen=True):
    """Write once, read many: until when an object can't be overwritten or deleted."""

    mode: Annotated[
        str,
        schema(
            "`Governance`: users with a special right may delete. `Compliance`: nobody may.",
            enum=["Governance", "Compliance"],
        ),
    ]
    retain_days: Annotated[int, schema("Days from filing on. Example: 3650.", minimum=1, maximum=36500)]


class S3(KindSettings, frozen=True):
    """Amazon S3 and what speaks its protocol."""

    USES_POD_IDENTITY: ClassVar[bool] = True
    EXAMPLE: ClassVar[Mapping[str, Any]] = {"bucket": "contracts"}
    CREDENTIAL_KEYS: ClassVar[tuple[str, ...]] = ("accessKeyId", "secretAccessKey")
    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        ValidationRule(
            "!has(self.objectLock) || (has(self.region) && has(self.credentialsSecretRef))",
            "objectLock needs region and credentialsSecretRef",
        ),
        ValidationRule(
            "!has(self.region) || (has(self.endpoint) && has(self.credentialsSecretRef)) "
            f"|| self.region.matches(r'{AMAZON_REGION}')",
            "a region of Amazon is lower-case letters, digits and hyphens; another one needs endpoint and "
            "credentialsSecretRef",
        ),
        _own_identity(AMAZON_ENDPOINT, "Amazon S3, as in https://s3.eu-central-1.amazonaws.com"),
    )

    bucket: Annotated[
        str,
        schema(
            "Name of the bucket; it must exist.",
            ValidationRule(
                f"self.matches(r'{BUCKET}')",
                "a bucket's name is 3 to 63 lower-case letters, digits, dots and hyphens",
            ),
            maxLength=63,
        ),
    ]
    prefix: Annotated[
        str,
        schema(
            "Put in front of every path. Default none. Example: esaw/.",
            ValidationRule(
                r"!self.startsWith('/') && !self.contains('//') && !self.contains('\\') "
                "&& self.split('/').all(each, each != '.' && each != '..')",
                "prefix is relative, with no empty, . or .. segment and no backslash",
            ),
            maxLength=512,
        ),
    ] = ""
    region: Annotated[
        str | None,
        schema(
            "Region of the bucket. Default the one that the pod's environment names. Example: eu-central-1.",
            ValidationRule(
                f"self.matches(r'{REGION}')",
                "a region is letters, digits, hyphens, dots and _, as in eu-central-1",
            ),
            minLength=1,
            maxLength=64,
        ),
    ] = None
    endpoint: Annotated[
        str | None,
        address(
            f"Address of the server, for those other than Amazon's. {_ONLY_HTTPS} Without "
            "`credentialsSecretRef` only an address of Amazon S3. Example: https://minio.acme.example:9000.",
            "https://minio.acme.example:9000",
            512,
        ),
    ] = None
    force_path_style: Annotated[
        bool,
        schema(
            "True puts the bucket into the path instead of the host name, as most servers other than "
            "Amazon's need. Default false."
        ),
    ] = False
    server_side_encryption: Annotated[
        str | None,
        schema(
            "Encryption at rest that is asked for with each object. Default what the bucket says.",
            enum=["AES256", "aws:kms", "aws:kms:dsse"],
        ),
    ] = None
    object_lock: Annotated[
        ObjectLock | None,
        schema(
            "Write once, read many: until when an object can't be overwritten or deleted. The bucket must "
            "have Object Lock on; `region` and `credentialsSecretRef` must be set. Default what the bucket "
            "says."
        ),
    ] = None
    credentials_secret_ref: Annotated[
        SecretRef,
        _secret(
            "`accessKeyId`, `secretAccessKey` and perhaps `sessionToken`. Default the pod's own identity."
        ),
    ] = None

    @property
    def origin(self) -> str:
        """Address of the server, or Amazon's."""
        return origin_of(self.endpoint or "https://s3.amazonaws.com")

    @property
    def destination(self) -> str:
        """The bucket on its server."""
        return f"{self.origin}/{self.bucket}"

    @property
    def place(self) -> str:
        """The bucket and the prefix. Amazon has no two buckets of one name."""
        is_amazon = re.fullmatch(AMAZON_ENDPOINT, (self.endpoint or "").lower().rstrip("/")) is not None
        server = "https://s3.amazonaws.com" if is_amazon else self.origin
        return f"{server}/{self.bucket}/{self.prefix.strip('/')}"


class AzureBlob(KindSettings, frozen=True):
    """Azure Blob Storage."""

    USES_POD_IDENTITY: ClassVar[bool] = True
    EXAMPLE: ClassVar[Mapping[str, Any]] = {"container": "contracts"}
    CREDENTIAL_KEYS: ClassVar[tuple[str, ...]] = ("accountName", "accountKey")
    RULES: ClassVar[tuple[ValidationRule, ...]] = (
        _own_identity(
            AZURE_ENDPOINT,
            "Azure Blob Storage, as in https://acme.blob.core.windows.net",
        ),
    )

    container: Annotated[
        str,
        schema(
            "Name of the container; it must exist.",
            ValidationRule(
                "self.matches(r'^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$') && !self.contains('--')",
                "a container's name is 3 to 63 lower-case letters, digits and single hyphens",
            ),
            maxLength=63,
        ),
    ]
    endpoint: Annotated[
        str | None,
        address(
            f"Address of the service. Default https://<accountName>.blob.core.windows.net. {_ONLY_HTTPS} "
            "Without `credentialsSecretRef` only an address of Microsoft, which then must be set.",
            "https://acme.blob.core.windows.net",
            512,
        ),
    ] = None
    credentials_secret_ref: Annotated[
        SecretRef, _secret("`accountName` and `accountKey`. Default the pod's own identity.")
    ] = None

    @property
    def origin(self) -> str:
        """Address of the service, or Azure's, where the Secret names the account."""
        return origin_of(self.endpoint or "https://blob.core.windows.net")

    @property
    def destination(self) -> str:
        """The container on its server."""
        return f"{self.origin}/{self.container}"

    @property
    def place(self) -> str:
        """The container. Without an endpoint the Secret names the account, so that it belongs to it."""
        secret = "" if self.credentials_secret_ref is None else self.credentials_secret_ref.name
        server = self.origin if self.endpoint is None else self.endpoint.lower().rstrip("/")
        return f"{server}/{self.container}" if self.endpoint else f"{server}/~{secret}/{self.container}"


class GoogleCloudStorage(KindSettings, frozen=True):
    """Google Cloud Storage."""

    USES_POD_IDENTITY: ClassVar[bool] = True
    EXAMPLE: ClassVar[Mapping[str, Any]] = {"bucket": "contracts"}
    CREDENTIAL_KEYS: ClassVar[tuple[str, ...]] = ("serviceAccountJson",)

    bucket: Annotated[
        str,
        schema(
            "Name of the bucket; it must exist.",
            ValidationRule(
                "self.matches(r'^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$')",
                "a bucket's name is 3 to 222 lower-case letters, digits, dots, hyphens and _",
            ),
            maxLength=222,
        ),
    ]
    credentials_secret_ref: Annotated[
        SecretRef, _secret("`serviceAccountJson`. Default the pod's own identity.")
    ] = None

    @property
    def origin(self) -> str:
        """Google's."""
        return origin_of("https://storage.googleapis.com")

    @property
    def destination(self) -> str:
        """The bucket."""
        return f"{self.origin}/{self.bucket}"


class WebDav(KindSettings, frozen=True):
    """A WebDAV collection (RFC 4918)."""

    EXAMPLE: ClassVar[Mapping[str, Any]] = {"url": "https://dms.acme.example/dav"}
    CREDENTIAL_KEYS: ClassVar[tuple[str, ...]] = ("username", "password")

    url: Annotated[
        str,
        address(
            f"Address of the collection. {_ONLY_HTTPS} Example: https://dms.acme.example/dav/contracts.",
            "https://dms.acme.example/dav",
        ),
    ]
    credentials_secret_ref: Annotated[
        SecretRef, _secret("`username` and `password`, or `bearerToken`. Default none.")
    ] = None

    @property
    def origin(self) -> str:
        """Origin of the address."""
        return origin_of(self.url)

    @property
    def place(self) -> str:
        """The collection."""
        return f"{self.origin}{urlsplit(self.url).path.rstrip('/')}"


class Sftp(KindSettings, frozen=True):
    """A folder of an SFTP server, whose host keys are pinned."""

    EXAMPLE: ClassVar[Mapping[str, Any]] = {
        "host": "sftp.acme.example",
        "hostKeys": ["ssh-ed25519 AAAA"],
        "credentialsSecretRef": {"name": "sftp"},
    }
    CREDENTIAL_KEYS: ClassVar[tuple[str, ...]] = ("username", "password")

    host: Annotated[
        str,
        schema(
            "Name or address of the server. Example: sftp.acme.example.",
            ValidationRule(
                "self.matches(r'^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$') || isIP(self)",
                "host is a host name or an IP address, with no scheme, user or port",
            ),
            maxLength=253,
        ),
    ]
    port: Annotated[int, schema("Port of the server. Default 22.", minimum=1, maximum=65535)] = 22
    root: Annotated[
        str,
        schema(
            "Folder on the server. Default `.`, the one that the login leads to. Example: inbox/contracts.",
            minLength=1,
            maxLength=1024,
        ),
    ] = "."
    host_keys: Annotated[
        tuple[
            Annotated[
                str,
                schema(
                    "One key.",
                    ValidationRule(
                        "self.matches(r'^([a-z0-9@.-]+ [A-Za-z0-9+/]+=*|SHA256:[A-Za-z0-9+/]{43})$')",
                        "write a host key as type and key, as in ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI…, or "
                        "as its fingerprint, SHA256:…",
                    ),
                    maxLength=2048,
                ),
            ],
            ...,
        ],
        schema(
            "Public keys that the server may have, as in known_hosts without the name, or their SHA-256 "
            "fingerprints; several at once are for rotation. `ssh-keyscan HOST` prints them; compare with "
            "what the server's owner says. Example: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA….",
            required=True,
            minItems=1,
            maxItems=16,
        ),
    ] = ()
    credentials_secret_ref: Annotated[
        SecretRef, _secret("`username`, and `password` or `privateKey` (OpenSSH).", required=True)
    ] = None

    @property
    def origin(self) -> str:
        """Host and port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return origin_of(f"sftp://{host}:{self.port}")

    @property
    def place(self) -> str:
        """The folder. A relative one depends on the login, so that its Secret belongs to it."""
        secret = "" if self.credentials_secret_ref is None else self.credentials_secret_ref.name
        folder = self.root.rstrip("/")
        return f"{self.origin}{folder}" if folder.startswith("/") else f"{self.origin}/~{secret}/{folder}"


class Cmis(KindSettings, frozen=True):
    """A CMIS 1.1 repository, by its browser binding."""

    EXAMPLE: ClassVar[Mapping[str, Any]] = {"url": "https://dms.acme.example/cmis", "repositoryID": "r"}
    CREDENTIAL_KEYS: ClassVar[tuple[str, ...]] = ("username", "password")

    url: Annotated[
        str,
        address(
            f"Address of the browser binding. {_ONLY_HTTPS} Example: https://dms.acme.example/cmis/browser.",
            "https://dms.acme.example/cmis/browser",
        ),
    ]
    repository_id: Annotated[
        str, schema("Id of the repository. Example: -default-.", minLength=1, maxLength=256)
    ]
    root_folder: Annotated[
        str,
        schema(
            "Path of the folder in the repository. Default `/`. Example: /Sites/contracts.",
            ValidationRule("self.startsWith('/')", "rootFolder begins with /"),
            maxLength=1024,
        ),
    ] = "/"
    document_type: Annotated[
        str,
        schema(
            "Type id of the documents that are created. Default `cmis:document`.", minLength=1, maxLength=256
        ),
    ] = "cmis:document"
    properties: Annotated[
        dict[str, Annotated[str, schema("Name of a tag.", minLength=1, maxLength=256)]],
        schema(
            "Property id of the document type, and the name of the tag whose value it gets. Default none. "
            "Example: {acme:costCenter: costCenter}.",
            maxProperties=64,
        ),
    ] = {}
    credentials_secret_ref: Annotated[SecretRef, _secret("`username` and `password`. Default none.")] = None

    @property
    def origin(self) -> str:
        """Origin of the address."""
        return origin_of(self.url)

    @property
    def place(self) -> str:
        """The folder in its repository."""
        path = urlsplit(self.url).path.rstrip("/")
        return f"{self.origin}{path}?{self.repository_id}{self.root_folder.rstrip('/')}"


class HttpMode(StrEnum):
    """Form of an upload: a part of a form with its tags, or the body of a request."""

    MULTIPART = "Multipart"
    PER_FILE = "PerFile"


class Http(KindSettings, frozen=True):
    """Any system that takes files by HTTP; requests are signed by the rules of Standard Webhooks."""

    EXAMPLE: ClassVar[Mapping[str, Any]] = {"url": "https://dms.acme.example/inbox"}
    # It has no root: the system decides where a file goes, and may keep all that it was ever sent.
    HAS_MARKER: ClassVar[bool] = False
    REPORTS_CHECKSUMS: ClassVar[bool] = True
    CREDENTIAL_KEYS: ClassVar[tuple[str, ...]] = ("signingSecret",)

    url: Annotated[
        str,
        address(
            f"Address that files are sent to. {_ONLY_HTTPS} Example: https://dms.acme.example/inbox.",
            "https://dms.acme.example/inbox",
        ),
    ]
    mode: Annotated[
        HttpMode,
        schema(
            "How each file is sent. `PerFile`: it is the body of a request. `Multipart`: it is a part of a "
            "form that has its name and tags as fields. Default PerFile."
        ),
    ] = HttpMode.PER_FILE
    credentials_secret_ref: Annotated[
        SecretRef, _secret("`signingSecret`, and perhaps `bearerToken`. Default none.")
    ] = None

    @property
    def origin(self) -> str:
        """Origin of the address."""
        return origin_of(self.url)

    @property
    def place(self) -> str:
        """The address that files are sent to."""
        return f"{self.origin}{urlsplit(self.url).path.rstrip('/')}"


class Custom(KindSettings, frozen=True):
    """
    A kind that another Python package brings by the entry point `counterfoil.archives`; the package must be
    in the controller's image.
    """

    EXAMPLE: ClassVar[Mapping[str, Any]] = {"kind": "acme-dms"}
    # Only its package knows whether it has a root, and whether a file there does harm.
    HAS_MARKER: ClassVar[bool] = False
    REPORTS_CHECKSUMS: ClassVar[bool] = True

    kind: Annotated[
        str,
        schema(
            "Name of the kind, as its package says. Example: acme-dms.",
            minLength=1,
            maxLength=63,
            pattern="^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        ),
    ]
    settings: Annotated[
        dict[str, Annotated[str, schema("Value of a setting.", maxLength=4096)]],
        schema("What the kind wants to know, as its package says. Default none.", maxProperties=64),
    ] = {}
    credentials_secret_ref: Annotated[SecretRef, _secret("what the kind wants. Default none.")] = None

    @property
    def origin(self) -> str:
        """The kind and a hash of its settings: only its package knows which of them is an address."""
        settings = json.dumps(self.settings, sort_keys=True)
        return f"custom:{self.kind}/{hashlib.sha256(settings.encode()).hexdigest()}"


class KindFields(ResourcePart, frozen=True):
    """The part of an Archive's spec that names its kind: one field per kind, exactly one of which is set."""

    filesystem: Filesystem | None = None
    s3: S3 | None = None
    azblob: AzureBlob | None = None
    gcs: GoogleCloudStorage | None = None
    webdav: WebDav | None = None
    sftp: Sftp | None = None
    cmis: Cmis | None = None
    http: Http | None = None
    custom: Custom | None = None


KINDS: tuple[str, ...] = KindFields.__struct_fields__
"""Names of all kinds."""

SETTINGS: Mapping[str, type[KindSettings]] = {
    name: settings
    for name, hint in get_type_hints(KindFields).items()
    for settings in get_args(hint)
    if isinstance(settings, type) and issubclass(settings, KindSettings)
}
"""Kind -> type of its settings."""

EXAMPLES: Mapping[str, dict[str, Any]] = {name: {**each.EXAMPLE} for name, each in SETTINGS.items()}
"""Kind -> the smallest settings that the API server accepts."""

TARGET_FIELDS = ("bucket", "container", "url", "host", "root", "kind")
"""Fields that say where an archive is; the column TARGET of kubectl shows the first one that is set."""
