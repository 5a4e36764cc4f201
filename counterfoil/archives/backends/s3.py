"""
Archives of kind ``s3``: Amazon S3 and what speaks its protocol.

Tags become object tags; Object Lock is in ``_object_lock``. A lifecycle rule of the bucket
(AbortIncompleteMultipartUpload) clears away what a killed run leaves. ``_object_store`` does the rest.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import quote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import S3Store

from counterfoil.archives.backend import Opener, required_settings
from counterfoil.archives.backends._http import HttpSite, make_http_client
from counterfoil.archives.backends._object_lock import ObjectLockClient
from counterfoil.archives.backends._object_store import (
    CLIENT,
    RETRY,
    BucketAddress,
    ErrorDialect,
    ObjectStoreBackend,
    check_tag_count,
)
from counterfoil.archives.backends._sigv4 import SigningCredentials
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import ErrorText, SettingsInvalid
from counterfoil.clock import WallClock
from counterfoil.resources.archive import S3, ArchiveSpec
from counterfoil.resources.archive_kinds import AMAZON_ENDPOINT, AMAZON_REGION, BUCKET, REGION

if TYPE_CHECKING:
    from obstore.store import S3Config, S3Credential, S3CredentialProvider


async def open_s3(name: str, spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> "S3Backend":
    """
    Open the archive ``name``; nothing is asked of the server yet. Raises ``SettingsInvalid``.

    Without ``credentials`` the pod's own identity counts, as the environment tells (web identity, container,
    instance).
    """
    settings = required_settings(name, "spec.s3", spec.s3)
    check_tag_count(name, spec, "S3", "an object")
    secret = Credentials(name, settings.credentials_secret_ref, credentials)
    _check_hosts(name, settings)
    try:
        store = S3Store(
            settings.bucket,
            config=_config(settings),
            # Not part of the config, where the Archive's key could be combined with a session token of the
            # environment.
            credential_provider=_identity(settings, secret),
            client_options={**CLIENT, "allow_http": (settings.endpoint or "").startswith("http://")},
            retry_config=RETRY,
        )
    except (BaseError, ValueError) as error:
        raise SettingsInvalid(f"Archive/{name}: spec.s3 can't be used as it is written.") from error
    server = f"S3 at {settings.endpoint}" if settings.endpoint else "Amazon S3"
    bucket = BucketAddress(f"Archive/{name}", server, settings.bucket, secret.key)
    return S3Backend(store, bucket, prefix=settings.prefix, retention=_retention(settings, secret, bucket))


OPENER: Opener = open_s3


ERROR_RULES: Mapping[frozenset[str], ErrorText] = {
    frozenset({"NoSuchBucket", "404"}): ErrorText(
        "ArchiveBucketMissing",
        "the bucket `{bucket}` does not exist or the key may not see it ({answer}). Create it or correct "
        "spec.s3.bucket.",
    ),
    frozenset(
        {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException", "301"}
    ): ErrorText(
        "ArchiveRegionWrong", "the bucket `{bucket}` is in another region ({answer}). Correct spec.s3.region."
    ),
    # Also when completing it took so long that it was requested again; the next run finds the file then.
    frozenset({"NoSuchUpload"}): ErrorText(
        "ArchiveFailing",
        "{server} no longer knows an upload that it has begun ({answer}). Archiving continues automatically.",
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
        "no space is left in the bucket `{bucket}` ({answer}). Enlarge it or raise its quota; archiving "
        "continues automatically.",
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
    # The instance's or container's metadata service, and AWS STS.
    no_identity=re.compile(r"/latest/(?:api/token|meta-data)|WebIdentity|AssumeRole"),
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


class S3Backend(ObjectStoreBackend):
    """A bucket of S3."""

    kind: ClassVar[str] = "s3"
    DIALECT: ClassVar[ErrorDialect] = DIALECT
    NOT_IN_TAGS: ClassVar[re.Pattern[str]] = re.compile(r"[^\w +\-=.:/@]")

    def __init__(
        self, store: S3Store, bucket: BucketAddress, *, prefix: str, retention: ObjectLockClient | None
    ) -> None:
        super().__init__(store, bucket, prefix=prefix)
        self._retention = retention

    async def retain(self, name: str) -> None:
        """Lock a verified object, if the Archive has ``objectLock``."""
        if self._retention is not None:
            await self._retention.lock(quote(self._key(name), safe="/-_.~"))

    async def probe(self) -> None:
        """Write, read back and remove a small object, and see that the bucket has Object Lock if that is
        wanted."""
        if self._retention is not None:
            await self._retention.probe()
        await super().probe()

    async def close(self) -> None:
        """Give the connections back."""
        if self._retention is not None:
            await self._retention.site.close()

    def uri(self) -> str:
        """Return the ``s3:`` URI of the bucket."""
        return f"s3://{self._bucket.name}"


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
    """Return the endpoint with the bucket in its host name, unless it goes into the path; obstore adds
    neither."""
    if settings.endpoint is None or path_style(settings):
        return settings.endpoint
    parts = urlsplit(settings.endpoint)
    return parts._replace(netloc=f"{settings.bucket}.{parts.netloc}").geturl()


_IP_ADDRESS = re.compile(r"[0-9.]+|[0-9a-f]*:[0-9a-f:.]*")


def _config(settings: S3) -> "S3Config":
    config: S3Config = {
        "virtual_hosted_style_request": not path_style(settings),
        # One object at a time is deleted anyway, and a refusal in an answer for many has no status.
        "disable_bulk_delete": True,
    }
    if settings.region:
        config["region"] = settings.region
    if endpoint := endpoint_of(settings):
        config["endpoint"] = endpoint
    if settings.server_side_encryption:
        config["server_side_encryption"] = settings.server_side_encryption
    if settings.object_lock is not None:
        # S3 takes nothing without one into a bucket whose own settings lock each object as it comes.
        config["checksum_algorithm"] = "SHA256"
    return config


def address_of(settings: S3) -> str:
    """Return the address of the bucket, as obstore makes it up."""
    endpoint = endpoint_of(settings)
    if endpoint is None:
        host = f"s3.{settings.region}.amazonaws.com"
        endpoint = f"https://{host}" if path_style(settings) else f"https://{settings.bucket}.{host}"
    endpoint = endpoint.rstrip("/")
    return f"{endpoint}/{settings.bucket}" if path_style(settings) else endpoint


def _retention(settings: S3, secret: Credentials, bucket: BucketAddress) -> ObjectLockClient | None:
    if settings.object_lock is None:
        return None
    if settings.region is None or settings.credentials_secret_ref is None:
        raise SettingsInvalid(
            f"{bucket.archive}: spec.s3.objectLock needs spec.s3.region and spec.s3.credentialsSecretRef. "
            f"Set both, or set a default retention on the bucket `{bucket.name}` instead."
        )
    key = SigningCredentials(
        secret.required_line("accessKeyId"),
        secret.required_line("secretAccessKey"),
        secret.line("sessionToken"),
        settings.region,
    )
    site = HttpSite(
        bucket.archive, bucket.server, bucket.key, "spec.s3", address_of(settings), make_http_client(None)
    )
    return ObjectLockClient(settings.object_lock, key, site, bucket, LOCK_DIALECT, WallClock())


def _identity(settings: S3, secret: Credentials) -> "S3CredentialProvider | None":
    if settings.credentials_secret_ref is None:
        return None
    credential: S3Credential = {
        "access_key_id": secret.required_line("accessKeyId"),
        "secret_access_key": secret.required_line("secretAccessKey"),
        "token": secret.line("sessionToken"),
        "expires_at": None,
    }
    return lambda: credential
