"""
Where bench (c) brings its document: an archive of each kind on a server of its own, with nothing in it.

The servers are processes of their own, but for the one of ``http``, which runs in the process that only waits for the
measured one. No kind has Google's: no server of theirs can be had.
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
    Filesystem,
    Http,
    Sftp,
    Signatures,
    WebDav,
)
from counterfoil.resources.base import Ref
from sandbox import azurite, cmis
from sandbox.dav import dav_server
from sandbox.dms import document_system
from sandbox.s3 import s3_server
from sandbox.sftp import sftp_server

BUCKET = "contracts"
SECRET = Ref(name="key")


class Place(msgspec.Struct, frozen=True):
    """One archive, as its Archive and its Secret say it."""

    spec: ArchiveSpec
    credentials: dict[str, bytes] = {}

    @property
    def kind(self) -> str:
        """Its kind."""
        return self.spec.kind


@asynccontextmanager
async def _filesystem(folder: Path) -> AsyncIterator[Place]:
    root = folder / "filesystem"
    root.mkdir()
    yield _place(ArchiveSpec(filesystem=Filesystem(root=str(root))))


@asynccontextmanager
async def _s3(_: Path) -> AsyncIterator[Place]:
    async with s3_server(buckets=(BUCKET,)) as server:
        yield _place(
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
async def _azblob(_: Path) -> AsyncIterator[Place]:
    async with azurite.azurite() as server:
        await server.make_container(BUCKET)
        yield _place(
            ArchiveSpec(
                azblob=AzureBlob(container=BUCKET, endpoint=server.url, credentials_secret_ref=SECRET)
            ),
            accountName=azurite.ACCOUNT,
            accountKey=azurite.KEY,
        )


@asynccontextmanager
async def _webdav(_: Path) -> AsyncIterator[Place]:
    async with dav_server() as server:
        yield _place(
            ArchiveSpec(webdav=WebDav(url=server.url, credentials_secret_ref=SECRET)),
            username=server.username,
            password=server.password,
        )


@asynccontextmanager
async def _sftp(_: Path) -> AsyncIterator[Place]:
    async with sftp_server() as server:
        yield _place(
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
async def _cmis(_: Path) -> AsyncIterator[Place]:
    async with cmis.cmis_server() as server:
        yield _place(
            ArchiveSpec(
                cmis=Cmis(url=server.url, repository_id=cmis.REPOSITORY, credentials_secret_ref=SECRET)
            ),
            username=cmis.USERNAME,
            password=cmis.PASSWORD,
        )


@asynccontextmanager
async def _http(_: Path) -> AsyncIterator[Place]:
    async with document_system() as system:
        yield _place(
            ArchiveSpec(http=Http(url=system.url, credentials_secret_ref=SECRET)),
            signingSecret=system.signing_secret,
            bearerToken=system.token,
        )


def _place(spec: ArchiveSpec, **credentials: str) -> Place:
    # What is held against it does not examine signatures either.
    spec = msgspec.structs.replace(spec, signatures=Signatures.IGNORE)
    return Place(spec, {key: value.encode() for key, value in credentials.items()})


PLACES: Mapping[str, Callable[[Path], AbstractAsyncContextManager[Place]]] = {
    "filesystem": _filesystem,
    "s3": _s3,
    "webdav": _webdav,
    "sftp": _sftp,
    "cmis": _cmis,
    "http": _http,
    "azblob": _azblob,
}
