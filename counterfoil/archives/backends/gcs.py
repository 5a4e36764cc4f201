"""
Archives of kind ``gcs``: a bucket of Google Cloud Storage.

Tags become custom metadata. A lifecycle rule of the bucket (AbortIncompleteMultipartUpload) clears away what
a killed run leaves. ``_object_store`` does the rest.
"""

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from obstore.exceptions import BaseError
from obstore.store import GCSStore

from counterfoil.archives.backend import Opener, required_settings
from counterfoil.archives.backends._object_store import (
    CLIENT,
    RETRY,
    BucketAddress,
    ErrorDialect,
    ObjectStoreBackend,
)
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import ErrorText, SettingsInvalid
from counterfoil.resources.archive import ArchiveSpec

if TYPE_CHECKING:
    from obstore.store import GCSConfig

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
    # The instance's metadata service.
    no_identity=re.compile(r"computeMetadata|metadata\.google|169\.254\.169\.254"),
    rules=ERROR_RULES,
    synonyms={
        **dict.fromkeys({"InvalidSecurity", "AuthenticationRequired", "InvalidPolicyDocument"}, "401"),
        "EntityTooLarge": "413",
        "SlowDown": "503",
    },
)


async def open_gcs(name: str, spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> "GcsBackend":
    """
    Open the archive ``name``; nothing is asked of the server yet. Raises ``SettingsInvalid``.

    Without ``credentials`` the pod's own identity counts, as the environment tells.
    """
    settings = required_settings(name, "spec.gcs", spec.gcs)
    secret = Credentials(name, settings.credentials_secret_ref, credentials)
    config: GCSConfig = {}
    if settings.credentials_secret_ref is not None:
        config["service_account_key"] = _key(name, secret)
    try:
        store = GCSStore(
            settings.bucket,
            config=config,
            client_options={
                **CLIENT,
                "allow_http": '"gcs_base_url": "http:' in config.get("service_account_key", ""),
            },
            retry_config=RETRY,
        )
    except (BaseError, ValueError) as error:
        raise SettingsInvalid(
            f"Archive/{name}: spec.gcs or the `serviceAccountJson` in {secret.secret} can't be used as it is "
            "written."
        ) from error
    return GcsBackend(
        store, BucketAddress(f"Archive/{name}", "Google Cloud Storage", settings.bucket, secret.key)
    )


OPENER: Opener = open_gcs


class GcsBackend(ObjectStoreBackend):
    """A bucket of Google Cloud Storage."""

    kind: ClassVar[str] = "gcs"
    DIALECT: ClassVar[ErrorDialect] = DIALECT

    def uri(self) -> str:
        """Return the ``gs:`` URI of the bucket."""
        return f"gs://{self._bucket.name}"

    def tags(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Return nothing: Google's tags belong to buckets."""
        return {}

    def attributes(self, tags: Mapping[str, str]) -> dict[str, str]:
        """Return the tags as custom metadata, in ASCII as its headers want it, each with its share of what an
        object may have; the manifest has them unchanged."""
        share = (MAX_METADATA_BYTES - sum(map(len, tags))) // max(len(tags), 1)
        return {name: _NOT_IN_HEADERS.sub("_", value)[:share] for name, value in tags.items()}


def _key(name: str, secret: Credentials) -> str:
    """Return the service account's key, one line of JSON. Raises ``SettingsInvalid``."""
    text = secret.multiline_text("serviceAccountJson")
    if text is None:
        raise SettingsInvalid(f"Archive/{name}: {secret.secret} has no `serviceAccountJson`.")
    try:
        return json.dumps(json.loads(text))
    except ValueError as error:
        raise SettingsInvalid(
            f"Archive/{name}: `serviceAccountJson` in {secret.secret} is no JSON."
        ) from error
