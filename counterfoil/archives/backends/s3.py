"""
Archives of kind ``s3``: Amazon S3 and what speaks its protocol.

Tags become object tags; Object Lock is in ``_object_store.object_lock``. A lifecycle rule of the bucket
(AbortIncompleteMultipartUpload) clears away what a killed run leaves. ``_object_store`` does the rest.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar
from urllib.parse import urlencode, urlsplit

import msgspec

from counterfoil.archives.backend import Opener, required_settings
from counterfoil.archives.backends._http import HttpSite, make_http_client, normal_address
from counterfoil.archives.backends._object_store.authorizers import AmazonAuthorizer
from counterfoil.archives.backends._object_store.backend import check_tag_count
from counterfoil.archives.backends._object_store.client import (
    BucketAddress,
    ErrorDialect,
    ObjectStoreClient,
    no_identity,
)
from counterfoil.archives.backends._object_store.identity import Cached, Expiring, Source, amazon_identity
from counterfoil.archives.backends._object_store.object_lock import ObjectLockClient
from counterfoil.archives.backends._object_store.sigv4 import SigningCredentials
from counterfoil.archives.backends._object_store.xml_api import XmlApiBackend
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import ErrorText, SettingsInvalid
from counterfoil.clock import Clock, WallClock
from counterfoil.resources.archive import S3, ArchiveSpec
from counterfoil.resources.archive_kinds import AMAZON_ENDPOINT, AMAZON_REGION, BUCKET, REGION

DEFAULT_REGION = "us-east-1"
"""Region that signatures name where neither the Archive nor the environment names one."""

ENCRYPTIONS = frozenset({"AES256", "aws:kms", "aws:kms:dsse"})


async def open_s3(
    name: str, spec: ArchiveSpec, credentials: Mapping[str, bytes], *, clock: Clock | None = None
) -> "S3Backend":
    """
    Open the archive ``name``; nothing is asked of the server yet. Raises ``SettingsInvalid``.

    Without ``credentials`` the pod's own identity counts, as the environment tells (keys, web identity,
    container, instance).
    """
    settings = required_settings(name, "spec.s3", spec.s3)
    check_tag_count(name, spec, "S3", "an object")
    secret = Credentials(name, settings.credentials_secret_ref, credentials)
    if settings.region is None:
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or DEFAULT_REGION
        settings = msgspec.structs.replace(settings, region=region)
    _check_hosts(name, settings)
    if settings.server_side_encryption not in {None, *ENCRYPTIONS}:
        raise SettingsInvalid(f"Archive/{name}: spec.s3.serverSideEncryption can't be used as it is written.")
    clock = clock or WallClock()
    server = f"S3 at {settings.endpoint}" if settings.endpoint else "Amazon S3"
    bucket = BucketAddress(f"Archive/{name}", server, settings.bucket, secret.key)
    client = _client(settings, secret, bucket, clock)
    return S3Backend(client, settings, _retention(spec, client, clock))


OPENER: Opener = open_s3


ERROR_RULES: Mapping[frozenset[str], ErrorText] = {
    frozenset({"NoSuchBucket", "404"}): ErrorText(
        "ArchiveBucketMissing",
        "the bucket `{bucket}` does not exist or the key may not see it ({answer}). Create it or correct "
        "spec.s3.bucket.",
    ),
    frozenset(
        {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
    ): ErrorText(
        "ArchiveRegionWrong", "the bucket `{bucket}` is in another region ({answer}). Correct spec.s3.region."
    ),
    # Also when completing it took so long that it was requested again; the next run finds the file then.
    frozenset({"NoSuchUpload"}): ErrorText(
        "ArchiveFailing",
        "{server} no longer knows an upload that it has begun ({answer}). Waiting events continue "
        "automatically.",
    ),
    frozenset({"RequestTimeTooSkewed"}): ErrorText(
        "ClockWrong",
        "{server} has another time than this machine ({answer}). Set the clock of the one that is wrong.",
    ),
    frozenset({"KeyTooLongError"}): ErrorText(
        "PathTooLong", "a path is longer than {server} takes ({answer}). Shorten spec.path or spec.s3.prefix."
    ),
    frozenset({"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "507"}): ErrorText(
        "ArchiveFull",
        "no space is left in the bucket `{bucket}` ({answer}). Enlarge it or raise its quota; waiting "
        "events continue automatically.",
    ),
    frozenset({"AccessDenied", "AllAccessDisabled", "403"}): ErrorText(
        "ArchivePermissionDenied",
        "{key} may not do everything that filing needs in the bucket `{bucket}` ({answer}). Allow "
        "s3:ListBucket, s3:GetObject, s3:PutObject, s3:PutObjectTagging, s3:AbortMultipartUpload and "
        "s3:DeleteObject.",
    ),
}

DIALECT = ErrorDialect(
    service="S3",
    field="spec.s3",
    root_missing=frozenset({"NoSuchBucket"}),
    rules=ERROR_RULES,
    synonyms={
        **dict.fromkeys(
            {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"}, "401"
        ),
        "EntityTooLarge": "413",
        "NotImplemented": "501",
        **dict.fromkeys({"SlowDown", "RequestLimitExceeded"}, "503"),
    },
)


LOCK_ERROR_RULES: Mapping[frozenset[str], ErrorText] = {
    frozenset({"ObjectLockConfigurationNotFoundError", "InvalidRequest"}): ErrorText(
        "ArchiveLacksFeature",
        "the bucket `{bucket}` has no Object Lock ({answer}). Use one that was made with it, or remove "
        "spec.s3.objectLock.",
    ),
    frozenset({"AccessDenied", "403"}): ErrorText(
        "ArchivePermissionDenied",
        "{key} may not lock objects in the bucket `{bucket}` as spec.s3.objectLock says ({answer}). Allow "
        "s3:PutObjectRetention, s3:GetObjectRetention and s3:GetBucketObjectLockConfiguration.",
    ),
}

LOCK_DIALECT = replace(DIALECT, rules={**LOCK_ERROR_RULES, **ERROR_RULES})


class S3Backend(XmlApiBackend):
    """A bucket of S3."""

    kind: ClassVar[str] = "s3"
    NOT_IN_TAGS: ClassVar[re.Pattern[str]] = re.compile(r"[^\w +\-=.:/@]")

    def __init__(self, client: ObjectStoreClient, settings: S3, retention: ObjectLockClient | None) -> None:
        super().__init__(client, prefix=settings.prefix)
        self._settings = settings
        self._retention = retention

    @property
    def _sends_checksums(self) -> bool:
        # S3 refuses an upload without a checksum into a bucket with a default retention.
        return self._settings.object_lock is not None

    async def retain(self, name: str) -> None:
        """Lock a verified object, if the Archive has ``objectLock``."""
        if self._retention is not None:
            await self._retention.lock(self._path(name))

    async def probe(self) -> None:
        """Write, read back and remove a small object, and see that the bucket has Object Lock if that is
        wanted."""
        if self._retention is not None:
            await self._retention.probe()
        await super().probe()

    def uri(self) -> str:
        """Return the ``s3:`` URI of the bucket."""
        return f"s3://{self._bucket.name}"

    def _list_query(self, prefix: str, marker: str | None) -> dict[str, str]:
        # Keys of others can have characters that XML has not.
        return {**super()._list_query(prefix, marker), "encoding-type": "url"}

    def _object_headers(self, tags: Mapping[str, str], content_type: str | None) -> dict[str, str]:
        headers = {"Content-Type": content_type or "application/octet-stream"}
        if tags:
            headers["x-amz-tagging"] = urlencode(self.tags(tags))
        if self._settings.server_side_encryption:
            headers["x-amz-server-side-encryption"] = self._settings.server_side_encryption
        return headers


def _check_hosts(name: str, settings: S3) -> None:
    """
    Raise ``SettingsInvalid`` if the settings would send the pod's own identity to another host than Amazon's.

    Bucket and region become parts of host names. One of these hosts exchanges the pod's token for a key.
    """
    is_amazon = settings.endpoint is None or settings.credentials_secret_ref is None
    region = AMAZON_REGION if is_amazon else REGION
    for field, value, form in (("bucket", settings.bucket, BUCKET), ("region", settings.region, region)):
        if value is not None and re.fullmatch(form, value) is None:
            raise SettingsInvalid(f"Archive/{name}: spec.s3.{field} can't be a part of a host name.")
    if settings.credentials_secret_ref is not None or settings.endpoint is None:
        return
    if re.fullmatch(AMAZON_ENDPOINT, settings.endpoint.lower()) is None:
        raise SettingsInvalid(
            f"Archive/{name}: without a Secret, the pod's own identity is sent to spec.s3.endpoint, so it "
            "must be an address of Amazon S3, as in https://s3.eu-central-1.amazonaws.com. Correct it, or "
            "name a Secret in spec.s3.credentialsSecretRef."
        )


def path_style(settings: S3) -> bool:
    """Whether the bucket goes into the path: asked for, or the only way, since an IP address has no
    subdomains."""
    host = urlsplit(settings.endpoint or "").hostname or ""
    return settings.force_path_style or _IP_ADDRESS.fullmatch(host) is not None


def endpoint_of(settings: S3) -> str | None:
    """Return the endpoint with the bucket in its host name, unless it goes into the path."""
    if settings.endpoint is None or path_style(settings):
        return settings.endpoint
    parts = urlsplit(settings.endpoint)
    return parts._replace(netloc=f"{settings.bucket}.{parts.netloc}").geturl()


_IP_ADDRESS = re.compile(r"[0-9.]+|[0-9a-f]*:[0-9a-f:.]*")


def address_of(settings: S3) -> str:
    """Return the address of the bucket, without a slash at its end."""
    endpoint = endpoint_of(settings)
    if endpoint is None:
        suffix = ".cn" if (settings.region or "").startswith("cn-") else ""
        host = f"s3.{settings.region}.amazonaws.com{suffix}"
        endpoint = f"https://{host}" if path_style(settings) else f"https://{settings.bucket}.{host}"
    endpoint = endpoint.rstrip("/")
    return f"{endpoint}/{settings.bucket}" if path_style(settings) else endpoint


def _client(settings: S3, secret: Credentials, bucket: BucketAddress, clock: Clock) -> ObjectStoreClient:
    site = HttpSite(
        bucket.archive,
        bucket.server,
        bucket.key,
        "spec.s3",
        normal_address(bucket.archive, "spec.s3.endpoint", address_of(settings)),
        make_http_client(None),
    )
    key = Cached(_key(settings, secret, clock), clock)
    authorizer = AmazonAuthorizer(key.get, clock, lambda: no_identity(DIALECT, bucket))
    return ObjectStoreClient(site, bucket, DIALECT, authorizer, clock)


def _key(settings: S3, secret: Credentials, clock: Clock) -> Source[SigningCredentials]:
    region = settings.region or DEFAULT_REGION
    if settings.credentials_secret_ref is None:
        return amazon_identity(os.environ, region, clock)
    key = SigningCredentials(
        secret.required_line("accessKeyId"),
        secret.required_line("secretAccessKey"),
        secret.line("sessionToken"),
        region,
    )

    async def fixed() -> Expiring[SigningCredentials]:
        return Expiring(key)

    return fixed


def _retention(spec: ArchiveSpec, client: ObjectStoreClient, clock: Clock) -> ObjectLockClient | None:
    settings = spec.s3
    if settings is None or settings.object_lock is None:
        return None
    if settings.region is None or settings.credentials_secret_ref is None:
        raise SettingsInvalid(
            f"{client.bucket.archive}: spec.s3.objectLock needs spec.s3.region and "
            "spec.s3.credentialsSecretRef. Set both, or set a default retention on the bucket "
            f"`{settings.bucket}` instead."
        )
    return ObjectLockClient(settings.object_lock, client, LOCK_DIALECT, clock)
