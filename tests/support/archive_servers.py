"""
Archives of each kind that has a server: the settings for a server at a URL, and the content of their Secret.

A new kind gets its row here. Every test that tries all kinds at a server has it from there.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.backends import gcs
from counterfoil.resources.archive import ArchiveSpec
from tests.support.signing_keys import rsa_private_pem

KINDS_WITHOUT_SERVER: Final = frozenset({"filesystem", "custom"})
KINDS_WITHOUT_HTTP: Final = frozenset({"sftp"})
OBJECT_STORES: Final = ("s3", "azblob", "gcs")
"""Kinds with the shared client of `_object_store`, which are tested together."""

_LOGIN: Final = {"username": b"jane", "password": b"p"}

SECRETS: Final[Mapping[str, Mapping[str, bytes]]] = {
    "s3": {"accessKeyId": b"KEY", "secretAccessKey": b"s", "sessionToken": b"SESSION-TOKEN"},
    "azblob": {"accountName": b"acme", "accountKey": base64.b64encode(b"key")},
    "gcs": {
        "serviceAccountJson": msgspec.json.encode(
            {"client_email": "a@acme.example", "private_key_id": "1", "private_key": rsa_private_pem()}
        )
    },
    "webdav": _LOGIN,
    "sftp": _LOGIN,
    "cmis": _LOGIN,
    "http": {"signingSecret": b"0123456789abcdef0123456789abcdef", "bearerToken": b"t"},
}
"""The content of the Secret of each kind."""

KINDS: Final = tuple(SECRETS)
HTTP_KINDS: Final = tuple(kind for kind in KINDS if kind not in KINDS_WITHOUT_HTTP)


def _sftp(url: str) -> Mapping[str, Any]:
    at = urlsplit(url)
    key = at.fragment or f"SHA256:{'A' * 43}"
    return {"host": at.hostname, "port": at.port, "root": "/", "hostKeys": [key]}


_SETTINGS: Final[Mapping[str, Callable[[str], Mapping[str, Any]]]] = {
    "s3": lambda url: {"bucket": "contracts", "region": "eu", "endpoint": url, "forcePathStyle": True},
    "azblob": lambda url: {"container": "contracts", "endpoint": url},
    "gcs": lambda _: {"bucket": "contracts"},
    "webdav": lambda url: {"url": url},
    "sftp": _sftp,
    "cmis": lambda url: {"url": url, "repositoryID": "r"},
    "http": lambda url: {"url": url},
}


def spec_at(kind: str, url: str) -> ArchiveSpec:
    """
    Return the spec of an Archive of a kind whose server is at a URL, with the Secret ``dms-key``.

    The fragment of the URL is the host key of an SFTP server. The address of ``gcs`` is no setting:
    ``open_at`` uses it.
    """
    settings = {**_SETTINGS[kind](url), "credentialsSecretRef": {"name": "dms-key"}}
    return msgspec.convert({kind: settings}, ArchiveSpec)


async def open_at(kind: str, url: str) -> ArchiveBackend:
    """Open an archive of a kind whose server is at a URL."""
    spec = spec_at(kind, url)
    if kind == "gcs":
        return await gcs.open_gcs("dms", spec, SECRETS[kind], address=url)
    return await open_backend("dms", spec, SECRETS[kind])
