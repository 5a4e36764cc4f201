"""
Archives of kind ``azblob``: a container of Azure Blob Storage.

Tags become blob index tags. Blocks that a killed run did not commit are in no listing, and Azure removes them
after a week. ``_object_store`` does the rest.
"""

import base64
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from obstore.exceptions import BaseError
from obstore.store import AzureStore

from counterfoil.archives.backend import Opener, required_settings
from counterfoil.archives.backends._object_store import (
    CLIENT,
    RETRY,
    BucketAddress,
    ErrorDialect,
    ObjectStoreBackend,
    check_tag_count,
)
from counterfoil.archives.credentials import Credentials
from counterfoil.archives.errors import ErrorText, SettingsInvalid
from counterfoil.resources.archive import ArchiveSpec, AzureBlob
from counterfoil.resources.archive_kinds import AZURE_ENDPOINT

if TYPE_CHECKING:
    from obstore.store import AzureAccessKey, AzureConfig, AzureCredentialProvider

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
    # The instance's metadata service, and Entra ID for a federated token.
    no_identity=re.compile(r"/metadata/identity|/oauth2/|federated token"),
    rules=ERROR_RULES,
    synonyms={
        "AuthenticationFailed": "401",
        "InvalidAuthenticationInfo": "401",
        "NoAuthenticationInformation": "401",
        "AccountIsDisabled": "401",
        "ServerBusy": "503",
        "OperationTimedOut": "503",
    },
)


async def open_azblob(name: str, spec: ArchiveSpec, credentials: Mapping[str, bytes]) -> "AzureBlobBackend":
    """
    Open the archive ``name``; nothing is asked of the server yet. Raises ``SettingsInvalid``.

    Without ``credentials`` the pod's own identity counts, as the environment tells (workload or managed
    identity).
    """
    settings = required_settings(name, "spec.azblob", spec.azblob)
    check_tag_count(name, spec, "Azure", "a blob")
    secret = Credentials(name, settings.credentials_secret_ref, credentials)
    config = _config(name, settings, secret)
    try:
        store = AzureStore(
            settings.container,
            config=config,
            # Not part of the config, where a token of the environment would come before the Archive's key.
            credential_provider=_key(settings, secret),
            client_options={**CLIENT, "allow_http": (settings.endpoint or "").startswith("http://")},
            retry_config=RETRY,
        )
    except (BaseError, ValueError) as error:
        raise SettingsInvalid(
            f"Archive/{name}: spec.azblob or the `accountKey` in {secret.secret} can't be used as it is "
            "written."
        ) from error
    account = config["account_name"]
    server = f"Azure Blob Storage, account `{account}`"
    bucket = BucketAddress(f"Archive/{name}", server, settings.container, secret.key)
    return AzureBlobBackend(store, bucket, settings.endpoint or f"https://{account}.blob.core.windows.net")


OPENER: Opener = open_azblob


class AzureBlobBackend(ObjectStoreBackend):
    """A container of Azure Blob Storage."""

    kind: ClassVar[str] = "azblob"
    DIALECT: ClassVar[ErrorDialect] = DIALECT
    NOT_IN_TAGS: ClassVar[re.Pattern[str]] = re.compile(r"[^A-Za-z0-9 +\-./:=_]")

    def __init__(self, store: AzureStore, bucket: BucketAddress, endpoint: str) -> None:
        super().__init__(store, bucket)
        self._endpoint = endpoint.rstrip("/")

    def uri(self) -> str:
        """Return the address of the container."""
        return f"{self._endpoint}/{self._bucket.name}"


def _key(settings: AzureBlob, secret: Credentials) -> "AzureCredentialProvider | None":
    """Return the Secret's key, if there is a Secret. Raises ``SettingsInvalid``, ``ValueError``."""
    if settings.credentials_secret_ref is None:
        return None
    key: AzureAccessKey = {"access_key": secret.required_line("accountKey"), "expires_at": None}
    base64.b64decode(key["access_key"], validate=True)
    return lambda: key


def _config(name: str, settings: AzureBlob, secret: Credentials) -> "AzureConfig":
    config: AzureConfig = {}
    if settings.endpoint is not None:
        config["endpoint"] = settings.endpoint
    if settings.credentials_secret_ref is not None:
        config["account_name"] = secret.required_line("accountName")
        return config
    endpoint = (settings.endpoint or "").lower()
    # The token of the pod's identity goes to this address, and is valid for every account.
    if re.fullmatch(AZURE_ENDPOINT, endpoint) is None:
        raise SettingsInvalid(
            f"Archive/{name}: without a Secret, the pod's own identity is sent to spec.azblob.endpoint, so "
            "it must be an address of Microsoft, as in https://acme.blob.core.windows.net. Correct it, or "
            "name a Secret in spec.azblob.credentialsSecretRef."
        )
    config["account_name"] = endpoint.removeprefix("https://").partition(".")[0]
    return config
