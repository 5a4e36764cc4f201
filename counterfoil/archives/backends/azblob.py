"""
Archives of kind ``azblob``: a container of Azure Blob Storage.

Tags become blob index tags. Blocks that a killed run did not commit are in no listing, and Azure removes them
after a week. ``_object_store`` does the rest.
"""

import base64
import binascii
import os
import re
import secrets
from collections.abc import Mapping
from typing import ClassVar
from urllib.parse import quote, urlencode

from counterfoil.archives.backend import Opener, required_settings
from counterfoil.archives.backends._http import HttpSite, make_http_client, normal_address
from counterfoil.archives.backends._object_store.authorizers import (
    AzureKeyAuthorizer,
    BearerAuthorizer,
)
from counterfoil.archives.backends._object_store.backend import (
    PAGE,
    ObjectStoreBackend,
    check_tag_count,
    list_page,
)
from counterfoil.archives.backends._object_store.client import (
    Authorizer,
    BucketAddress,
    Content,
    ErrorDialect,
    ObjectStoreClient,
    StoreRequest,
    no_identity,
)
from counterfoil.archives.backends._object_store.identity import Cached, azure_identity
from counterfoil.archives.backends._object_store.listing import ListUnreadable, checked_marker
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import ErrorText, SettingsInvalid
from counterfoil.clock import Clock, WallClock
from counterfoil.resources.archive import ArchiveSpec, AzureBlob
from counterfoil.resources.archive_kinds import AZURE_ENDPOINT

ERROR_RULES: Mapping[frozenset[str], ErrorText] = {
    frozenset({"ContainerNotFound", "ContainerBeingDeleted", "404"}): ErrorText(
        "ArchiveBucketMissing",
        "the container `{bucket}` does not exist ({answer}). Create it or correct spec.azblob.container.",
    ),
    frozenset(
        {"FeatureNotYetSupportedForHierarchicalNamespaceAccounts", "BlobTagsNotSupportedForAccountType"}
    ): ErrorText(
        "ArchiveLacksFeature",
        "the account of `{bucket}` has no index tags ({answer}). Leave out spec.tags or use another account.",
    ),
    frozenset({"BlobImmutableDueToPolicy", "LeaseIdMissing", "409"}): ErrorText(
        "ArchiveReadOnly",
        "a policy or lease of the container `{bucket}` keeps what filing has to replace ({answer}). Lift it "
        "there.",
    ),
    frozenset({"403"}): ErrorText(
        "ArchivePermissionDenied",
        "{key} may not do everything that filing needs in the container `{bucket}` ({answer}). "
        "Give it the role Storage Blob Data Owner there, which index tags need too.",
    ),
}

DIALECT = ErrorDialect(
    service="Azure",
    field="spec.azblob",
    root_missing=frozenset({"ContainerNotFound", "ContainerBeingDeleted"}),
    rules=ERROR_RULES,
    synonyms={
        "AuthenticationFailed": "401",
        "InvalidAuthenticationInfo": "401",
        "NoAuthenticationInformation": "401",
        "AccountIsDisabled": "401",
        "ServerBusy": "503",
        "OperationTimedOut": "503",
    },
    code_header="x-ms-error-code",
)


async def open_azblob(
    name: str, spec: ArchiveSpec, credentials: Mapping[str, bytes], *, clock: Clock | None = None
) -> "AzureBlobBackend":
    """
    Open the archive ``name``; nothing is asked of the server yet. Raises ``SettingsInvalid``.

    Without ``credentials`` the pod's own identity counts, as the environment tells (workload or managed
    identity).
    """
    settings = required_settings(name, "spec.azblob", spec.azblob)
    check_tag_count(name, spec, "Azure", "a blob")
    secret = Credentials(name, settings.credentials_secret_ref, credentials)
    account = _account(name, settings, secret)
    endpoint = (settings.endpoint or f"https://{account}.blob.core.windows.net").rstrip("/")
    bucket = BucketAddress(
        f"Archive/{name}", f"Azure Blob Storage, account `{account}`", settings.container, secret.key
    )
    address = f"{endpoint}/{quote(settings.container, safe='$')}"
    site = HttpSite(
        bucket.archive,
        bucket.server,
        bucket.key,
        "spec.azblob",
        normal_address(bucket.archive, "spec.azblob.endpoint", address),
        make_http_client(None),
    )
    clock = clock or WallClock()
    authorizer = _authorizer(name, settings, secret, bucket, clock)
    return AzureBlobBackend(ObjectStoreClient(site, bucket, DIALECT, authorizer, clock), endpoint)


OPENER: Opener = open_azblob


class AzureBlobBackend(ObjectStoreBackend):
    """A container of Azure Blob Storage."""

    kind: ClassVar[str] = "azblob"
    NOT_IN_TAGS: ClassVar[re.Pattern[str]] = re.compile(r"[^A-Za-z0-9 +\-./:=_]")

    def __init__(self, client: ObjectStoreClient, endpoint: str) -> None:
        super().__init__(client)
        self._endpoint = endpoint

    def uri(self) -> str:
        """Return the address of the container."""
        return f"{self._endpoint}/{self._bucket.name}"

    def _object_headers(self, tags: Mapping[str, str], content_type: str | None) -> dict[str, str]:
        headers = {"x-ms-blob-content-type": content_type or "application/octet-stream"}
        if tags:
            headers["x-ms-tags"] = urlencode(self.tags(tags))
        return headers

    async def _put_whole(self, path: str, content: Content, headers: Mapping[str, str]) -> None:
        sent = {**headers, "x-ms-blob-type": "BlockBlob"}
        await self._expect_success(StoreRequest("PUT", path, headers=sent, content=content))

    async def _begin_upload(self, path: str, headers: Mapping[str, str]) -> str:
        # Two uploads of one name must not mix their blocks.
        return secrets.token_hex(7)

    async def _put_part(self, path: str, upload: str, number: int, content: Content) -> str:
        # Azure wants ids of one length for one blob, also beside blocks of a killed run of an older version.
        block = base64.b64encode(f"{upload}{number:06d}".encode()).decode()
        await self._expect_success(
            StoreRequest("PUT", path, {"comp": "block", "blockid": block}, content=content)
        )
        return f"<Uncommitted>{block}</Uncommitted>"

    async def _complete_upload(
        self, path: str, upload: str, parts: list[str], headers: Mapping[str, str]
    ) -> None:
        content = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{"".join(parts)}</BlockList>'.encode()
        sent = {**headers, "Content-Type": "application/xml"}
        await self._expect_success(StoreRequest("PUT", path, {"comp": "blocklist"}, sent, content))

    async def _abort_upload(self, path: str, upload: str) -> None:
        # Blocks that are not committed are in no listing, and Azure removes them after a week.
        return

    def _list_query(self, prefix: str, marker: str | None) -> dict[str, str]:
        query = {"restype": "container", "comp": "list", "maxresults": str(PAGE), "prefix": prefix}
        return query if marker is None else {**query, "marker": marker}

    def _read_list(self, content: bytes) -> tuple[list[tuple[str, int | None]], str | None]:
        page, keys = list_page(content, "Blob", "Name", "Content-Length", "NextMarker")
        if "NextMarker" not in page.rest:
            raise ListUnreadable("it does not say whether it is whole")
        return keys, checked_marker(page.rest["NextMarker"])


def _account(name: str, settings: AzureBlob, secret: Credentials) -> str:
    """Return the name of the account. Raises ``SettingsInvalid``."""
    if settings.credentials_secret_ref is not None:
        account = secret.required_line("accountName")
        if re.fullmatch("[a-z0-9]{3,24}", account) is None:
            raise _unusable(name, secret)
        return account
    endpoint = (settings.endpoint or "").lower()
    # The token of the pod's identity goes to this address, and is valid for every account.
    if re.fullmatch(AZURE_ENDPOINT, endpoint) is None:
        raise SettingsInvalid(
            f"Archive/{name}: without a Secret, the pod's own identity is sent to spec.azblob.endpoint, so "
            "it must be an address of Microsoft, as in https://acme.blob.core.windows.net. Correct it, or "
            "name a Secret in spec.azblob.credentialsSecretRef."
        )
    return endpoint.removeprefix("https://").partition(".")[0]


def _authorizer(
    name: str, settings: AzureBlob, secret: Credentials, bucket: BucketAddress, clock: Clock
) -> Authorizer:
    """Return what proves the right to the container. Raises ``SettingsInvalid``."""
    if settings.credentials_secret_ref is None:
        token = Cached(azure_identity(os.environ), clock)
        return BearerAuthorizer(token, clock, lambda: no_identity(DIALECT, bucket), is_azure=True)
    try:
        key = base64.b64decode(secret.required_line("accountKey"), validate=True)
    except binascii.Error as error:
        raise _unusable(name, secret) from error
    return AzureKeyAuthorizer(secret.required_line("accountName"), key, clock)


def _unusable(name: str, secret: Credentials) -> SettingsInvalid:
    return SettingsInvalid(
        f"Archive/{name}: `{secret.name_of('accountName')}` or `{secret.name_of('accountKey')}` in "
        f"{secret.secret} can't be used as it is written."
    )
