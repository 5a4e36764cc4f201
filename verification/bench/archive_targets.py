"""
Targets of bench (c): an empty archive of each kind, each on its own server.

The servers are separate processes, except the one of ``http``, which runs in the process that only waits for
the measured one. No kind has Google's: no server of theirs can be had.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import msgspec

from counterfoil.resources.archive import (
    S3,
    ArchiveSpec,
    AzureBlob,
    Cmis,
    CredentialsReference,
    Filesystem,
    Http,
    Sftp,
    SignaturePolicy,
    WebDav,
)
from sandbox.servers import azblob_azurite, cmis_opencmis
from sandbox.servers.http_document_system import document_system
from sandbox.servers.s3_rclone import s3_server
from sandbox.servers.sftp_rclone import sftp_server
from sandbox.servers.webdav_rclone import rclone_webdav_server

BUCKET = "contracts"
SECRET = CredentialsReference(name="key")


class ArchiveTarget(msgspec.Struct, frozen=True):
    """One archive, as its Archive and its Secret say it."""

    spec: ArchiveSpec
    credentials: dict[str, bytes] = {}

    @property
    def kind(self) -> str:
        """Its kind."""
        return self.spec.kind


@asynccontextmanager
async def _filesystem(folder: Path) -> AsyncIterator[ArchiveTarget]:
    root = folder / "filesystem"
    root.mkdir()
    yield _target(ArchiveSpec(filesystem=Filesystem(root=str(root))))


@asynccontextmanager
async def _s3(_: Path) -> AsyncIterator[ArchiveTarget]:
    async with s3_server(buckets=(BUCKET,)) as server:
        yield _target(
            ArchiveSpec(
                s3=S3(
                    bucket=BUCKET,
                    endpoint=server.url,
                    region="eu-central-1",
                    force_path_style=True,
                    credentials_secret_ref=SECRET,
                )
            ),
            accessKeyId=server.access_key,
            secretAccessKey=server.secret_key,
        )


@asynccontextmanager
async def _azblob(_: Path) -> AsyncIterator[ArchiveTarget]:
    async with azblob_azurite.azurite() as server:
        await server.make_container(BUCKET)
        yield _target(
            ArchiveSpec(
                azblob=AzureBlob(container=BUCKET, endpoint=server.url, credentials_secret_ref=SECRET)
            ),
            accountName=azblob_azurite.ACCOUNT,
            accountKey=azblob_azurite.KEY,
        )


@asynccontextmanager
async def _webdav(_: Path) -> AsyncIterator[ArchiveTarget]:
    async with rclone_webdav_server() as server:
        yield _target(
            ArchiveSpec(webdav=WebDav(url=server.url, credentials_secret_ref=SECRET)),
            username=server.username,
            password=server.password,
        )


@asynccontextmanager
async def _sftp(_: Path) -> AsyncIterator[ArchiveTarget]:
    async with sftp_server() as server:
        yield _target(
            ArchiveSpec(
                sftp=Sftp(
                    host="127.0.0.1",
                    port=server.port,
                    host_keys=(server.host_key,),
                    credentials_secret_ref=SECRET,
                )
            ),
            username=server.username,
            password=server.password,
        )


@asynccontextmanager
async def _cmis(_: Path) -> AsyncIterator[ArchiveTarget]:
    async with cmis_opencmis.cmis_server() as server:
        yield _target(
            ArchiveSpec(
                cmis=Cmis(
                    url=server.url, repository_id=cmis_opencmis.REPOSITORY, credentials_secret_ref=SECRET
                )
            ),
            username=cmis_opencmis.USERNAME,
            password=cmis_opencmis.PASSWORD,
        )


@asynccontextmanager
async def _http(_: Path) -> AsyncIterator[ArchiveTarget]:
    async with document_system() as system:
        yield _target(
            ArchiveSpec(http=Http(url=system.url, credentials_secret_ref=SECRET)),
            signingSecret=system.signing_secret,
            bearerToken=system.token,
        )


def _target(spec: ArchiveSpec, **credentials: str) -> ArchiveTarget:
    # What is held against it does not examine signatures either.
    spec = msgspec.structs.replace(spec, signatures=SignaturePolicy.IGNORE)
    return ArchiveTarget(spec, {key: value.encode() for key, value in credentials.items()})


ARCHIVE_TARGETS: Mapping[str, Callable[[Path], AbstractAsyncContextManager[ArchiveTarget]]] = {
    "filesystem": _filesystem,
    "s3": _s3,
    "webdav": _webdav,
    "sftp": _sftp,
    "cmis": _cmis,
    "http": _http,
    "azblob": _azblob,
}
