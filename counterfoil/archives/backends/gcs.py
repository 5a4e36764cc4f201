"""
Archives of kind ``gcs``: a bucket of Google Cloud Storage, by its XML API.

Tags become custom metadata. A lifecycle rule of the bucket (AbortIncompleteMultipartUpload) clears away what
a killed run leaves. ``_object_store`` does the rest.
"""

import base64
import json
import os
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import ClassVar
from urllib.parse import quote

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from counterfoil.archives.backend import Opener, required_settings
from counterfoil.archives.backends._http import HttpSite, make_http_client, normal_address
from counterfoil.archives.backends._object_store.authorizers import BearerAuthorizer
from counterfoil.archives.backends._object_store.client import (
    Authorizer,
    BucketAddress,
    ErrorDialect,
    ObjectStoreClient,
    no_identity,
)
from counterfoil.archives.backends._object_store.identity import Cached, Expiring, Source, google_identity
from counterfoil.archives.backends._object_store.xml_api import XmlApiBackend
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import ErrorText, SettingsInvalid
from counterfoil.clock import Clock, WallClock
from counterfoil.resources.archive import ArchiveSpec

ADDRESS = "https://storage.googleapis.com"
SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
TOKEN_LIFETIME = timedelta(hours=1)

MAX_METADATA_BYTES = 8 * 1024
"""Bytes of names and values of an object's custom metadata that Google accepts."""

_NOT_IN_HEADERS = re.compile(r"[^\x20-\x7e]")

ERROR_RULES: Mapping[frozenset[str], ErrorText] = {
    frozenset({"NoSuchBucket", "404"}): ErrorText(
        "ArchiveBucketMissing",
        "the bucket `{bucket}` does not exist ({answer}). Create it or correct spec.gcs.bucket.",
    ),
    frozenset({"UserProjectAccountProblem", "AccountProblem"}): ErrorText(
        "ArchiveRefused",
        "the account behind the bucket `{bucket}` has a problem, of billing perhaps ({answer}). Check its "
        "console.",
    ),
    frozenset({"AccessDenied", "403"}): ErrorText(
        "ArchivePermissionDenied",
        "{key} may not do everything that filing needs in the bucket `{bucket}` ({answer}). "
        "Give it the role Storage Object User there.",
    ),
}

DIALECT = ErrorDialect(
    service="Google",
    field="spec.gcs",
    root_missing=frozenset({"NoSuchBucket"}),
    rules=ERROR_RULES,
    synonyms={
        **dict.fromkeys({"InvalidSecurity", "AuthenticationRequired", "InvalidPolicyDocument"}, "401"),
        "EntityTooLarge": "413",
        "SlowDown": "503",
    },
)


class ServiceAccountKey(msgspec.Struct, frozen=True):
    """The key of a service account, as Google's console gives it. No address in it is asked: a Secret must
    not lead documents elsewhere."""

    client_email: str
    private_key: str
    private_key_id: str


async def open_gcs(
    name: str,
    spec: ArchiveSpec,
    credentials: Mapping[str, bytes],
    *,
    address: str = ADDRESS,
    clock: Clock | None = None,
) -> "GcsBackend":
    """
    Open the archive ``name``; nothing is asked of the server yet. Raises ``SettingsInvalid``.

    Without ``credentials`` the pod's own identity counts, as the metadata service tells. ``address`` is
    Google's, except in tests.
    """
    settings = required_settings(name, "spec.gcs", spec.gcs)
    secret = Credentials(name, settings.credentials_secret_ref, credentials)
    key = _key(name, secret) if settings.credentials_secret_ref is not None else None
    bucket = BucketAddress(f"Archive/{name}", "Google Cloud Storage", settings.bucket, secret.key)
    clock = clock or WallClock()
    site = HttpSite(
        bucket.archive,
        bucket.server,
        bucket.key,
        "spec.gcs",
        normal_address(bucket.archive, "spec.gcs", f"{address}/{quote(settings.bucket, safe='')}"),
        make_http_client(None),
    )
    authorizer = _authorizer(name, key, secret, bucket, clock)
    return GcsBackend(ObjectStoreClient(site, bucket, DIALECT, authorizer, clock))


OPENER: Opener = open_gcs


class GcsBackend(XmlApiBackend):
    """A bucket of Google Cloud Storage."""

    kind: ClassVar[str] = "gcs"
    _sends_checksums = False

    def uri(self) -> str:
        """Return the ``gs:`` URI of the bucket."""
        return f"gs://{self._bucket.name}"

    def _object_headers(self, tags: Mapping[str, str], content_type: str | None) -> dict[str, str]:
        metadata = {f"x-goog-meta-{name}": value for name, value in metadata_of(tags).items()}
        return {"Content-Type": content_type or "application/octet-stream", **metadata}


def metadata_of(tags: Mapping[str, str]) -> dict[str, str]:
    """
    Return the tags as custom metadata, in ASCII as its headers want it, each with its share of what an object
    may have; the manifest has them unchanged. Google's tags belong to buckets.

    No header begins or ends in a space (RFC 9110, section 5.5), also not where it is cut.
    """
    share = (MAX_METADATA_BYTES - sum(map(len, tags))) // max(len(tags), 1)
    return {name: _NOT_IN_HEADERS.sub("_", value)[:share].strip() for name, value in tags.items()}


def signed_token(key: ServiceAccountKey, private: RSAPrivateKey, clock: Clock) -> Source[str]:
    """Return the source of tokens that the service account signs itself. (Google, "Service account
    authorization without OAuth"; RFC 7519)"""

    async def source() -> Expiring[str]:
        now = clock.now()
        until = now + TOKEN_LIFETIME
        head = {"alg": "RS256", "typ": "JWT", "kid": key.private_key_id}
        claims = {
            "iss": key.client_email,
            "sub": key.client_email,
            "scope": SCOPE,
            "iat": int(now.timestamp()),
            "exp": int(until.timestamp()),
        }
        text = f"{_base64url(json.dumps(head).encode())}.{_base64url(json.dumps(claims).encode())}"
        signature = private.sign(text.encode(), PKCS1v15(), SHA256())
        return Expiring(f"{text}.{_base64url(signature)}", TOKEN_LIFETIME)

    return source


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _authorizer(
    name: str, key: ServiceAccountKey | None, secret: Credentials, bucket: BucketAddress, clock: Clock
) -> Authorizer:
    """Return what proves the right to the bucket. Raises ``SettingsInvalid``."""
    if key is None:
        source = google_identity(os.environ)
    else:
        try:
            private = load_pem_private_key(key.private_key.encode(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _unusable(name, secret) from error
        if not isinstance(private, RSAPrivateKey):
            raise _unusable(name, secret)
        source = signed_token(key, private, clock)
    return BearerAuthorizer(Cached(source, clock), clock, lambda: no_identity(DIALECT, bucket))


def _key(name: str, secret: Credentials) -> ServiceAccountKey:
    """Return the service account's key. Raises ``SettingsInvalid``."""
    text = secret.multiline_text("serviceAccountJson")
    if text is None:
        raise secret.lacks(f"has no `{secret.name_of('serviceAccountJson')}`", "serviceAccountJson")
    try:
        return msgspec.json.decode(text, type=ServiceAccountKey)
    except msgspec.ValidationError as error:
        raise _unusable(name, secret) from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise SettingsInvalid(
            f"Archive/{name}: `serviceAccountJson` in {secret.secret} is no JSON."
        ) from error


def _unusable(name: str, secret: Credentials) -> SettingsInvalid:
    return SettingsInvalid(
        f"Archive/{name}: `serviceAccountJson` in {secret.secret} can't be used as it is written."
    )
