"""
``make demo ARCHIVE=KIND``: the archive that the demo's second organization files into, on a real server of
that kind.

``copy_files`` brings what the server has into a folder by the plainest client there is, so that nothing of
Counterfoil's own confirms it; ``tags`` shows the tags that the server itself returns for a file, where it
keeps tags. ``gcs`` has no server to run here.
"""

import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from obstore.store import AzureStore, S3Store

from sandbox.demo.output import DemoOutput
from sandbox.servers import azblob_azurite, cmis_opencmis, s3_versity
from sandbox.servers.http_document_system import document_system
from sandbox.servers.plain_http import plain_http
from sandbox.servers.sftp_rclone import sftp_server
from sandbox.servers.webdav_wsgidav import wsgidav_server

BUCKET = "contracts"
SECOND = "second-archive"
WORM_BUCKET = "preserved"
WORM = "preserved"
"""The Archive of copies."""

Tags = Callable[[str], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True)
class DemoArchive:
    """A running archive, empty."""

    title: str
    spec: Mapping[str, Any]
    """The part of the Archive's ``spec`` for its kind."""
    secret: Mapping[str, str]
    """Content of the Secret that it names."""
    copy_files: Callable[[Path], Awaitable[None]]
    """Copies everything in it below a folder."""
    tags: Tags | None = None
    """The tags of a file, by its path, as the server has them."""


Opener = Callable[[Path], AbstractAsyncContextManager[DemoArchive]]


@dataclass(frozen=True)
class WormArchive:
    """A running archive whose files nobody can change."""

    spec: Mapping[str, Any]
    secret: Mapping[str, str]
    locks: Callable[[str], Awaitable[Mapping[str, str]]]
    """Returns the mode of the lock of each file of an envelope, as the server has it; empty for none."""


@asynccontextmanager
async def worm_archive() -> AsyncIterator[WormArchive]:
    """Run an S3 server with a bucket that has Object Lock."""
    async with s3_versity.versity_server() as server:
        await server.make_bucket(WORM_BUCKET, locking=True)

        async def locks(envelope: str) -> Mapping[str, str]:
            listed = (await server.ask("GET", f"{WORM_BUCKET}?list-type=2")).raise_for_status().text
            names = [each for each in re.findall(r"<Key>([^<]+)</Key>", listed) if envelope in each]
            found = {}
            for name in names:
                lock = (await server.ask("GET", f"{WORM_BUCKET}/{quote(unescape(name))}?retention")).text
                found[unescape(name)] = "".join(re.findall(r"<Mode>(\w+)</Mode>", lock))
            return found

        settings = {
            "bucket": WORM_BUCKET,
            "endpoint": server.url,
            "region": s3_versity.REGION,
            "forcePathStyle": True,
            "objectLock": {"mode": "Governance", "retainDays": 30},
            "credentialsSecretRef": {"name": WORM},
        }
        keys = {"accessKeyId": server.access_key, "secretAccessKey": server.secret_key}
        yield WormArchive({"s3": settings}, keys, locks)


class UnknownArchiveKind(ValueError):
    """There is no such kind of archive for the demo."""


def demo_archive(kind: str, folder: Path) -> AbstractAsyncContextManager[DemoArchive]:
    """Run an archive of one kind; what it needs goes below ``folder``. Raises ``UnknownArchiveKind``."""
    if kind not in OPENERS:
        raise UnknownArchiveKind(
            f"ARCHIVE={kind} is no kind that the demo has; there are: {', '.join(OPENERS)}."
        )
    return OPENERS[kind](folder)


async def copy_files(second: DemoArchive, folder: Path) -> Path:
    """Copy what an archive has into a new folder; return that."""
    target = folder / "copy-of-second-archive"
    target.mkdir()
    await second.copy_files(target)
    return target


async def print_tags(second: DemoArchive, copy: Path, output: DemoOutput) -> None:
    """Print the tags of one document as the server returns them; all tags are in the manifest too."""
    if second.tags is None:
        output.detail(f"Tags at the {second.title}: this server keeps none; they are in the manifest")
        return
    name = str(next(copy.rglob("Document-*")).relative_to(copy))
    tags = (await second.tags(name)).items()
    output.detail(f"Tags of {name} at the {second.title}:", *(f"  {key} = {value}" for key, value in tags))


def _copy_from_folder(folder: Path) -> Callable[[Path], Awaitable[None]]:
    """Copy out of the folder that a server keeps its files in."""

    async def copy_files(target: Path) -> None:
        shutil.copytree(folder, target, dirs_exist_ok=True)

    return copy_files


def _copy_from_bucket(store: S3Store | AzureStore) -> Callable[[Path], Awaitable[None]]:
    """Copy what a bucket lists."""

    async def copy_files(target: Path) -> None:
        for each in await store.list().collect_async():
            path = target / each["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bytes(await (await store.get_async(each["path"])).bytes_async()))

    return copy_files


@asynccontextmanager
async def _s3(_: Path) -> AsyncIterator[DemoArchive]:
    async with s3_versity.versity_server() as server:
        await server.make_bucket(BUCKET)
        store = S3Store(
            BUCKET,
            endpoint=server.url,
            region=s3_versity.REGION,
            access_key_id=server.access_key,
            secret_access_key=server.secret_key,
            client_options={"allow_http": True},
        )

        settings = {
            "bucket": BUCKET,
            "endpoint": server.url,
            "region": s3_versity.REGION,
            "forcePathStyle": True,
            "credentialsSecretRef": {"name": SECOND},
        }
        keys = {"accessKeyId": server.access_key, "secretAccessKey": server.secret_key}
        yield DemoArchive(
            f"S3 bucket {BUCKET}",
            {"s3": settings},
            keys,
            _copy_from_bucket(store),
            partial(server.tags, BUCKET),
        )


@asynccontextmanager
async def _webdav(_: Path) -> AsyncIterator[DemoArchive]:
    async with wsgidav_server() as server:

        async def tags(name: str) -> Mapping[str, str]:
            return await server.properties(quote(name), "counterfoil.dev/tags")

        yield DemoArchive(
            "WebDAV server",
            {"webdav": {"url": server.url, "credentialsSecretRef": {"name": SECOND}}},
            {"username": server.username, "password": server.password},
            _copy_from_folder(server.folder),
            tags,
        )


@asynccontextmanager
async def _sftp(_: Path) -> AsyncIterator[DemoArchive]:
    async with sftp_server() as server:
        yield DemoArchive(
            "SFTP server",
            {
                "sftp": {
                    "host": "127.0.0.1",
                    "port": server.port,
                    "hostKeys": [server.host_key],
                    "credentialsSecretRef": {"name": SECOND},
                }
            },
            {"username": server.username, "privateKey": server.private_key},
            _copy_from_folder(server.rclone.folder),
        )


@asynccontextmanager
async def _cmis(_: Path) -> AsyncIterator[DemoArchive]:
    async with (
        cmis_opencmis.cmis_server() as server,
        plain_http(auth=(cmis_opencmis.USERNAME, cmis_opencmis.PASSWORD)) as http,
    ):
        root = f"{server.url}/{cmis_opencmis.REPOSITORY}/root"

        async def selected(path: str, selector: str) -> httpx.Response:
            url = f"{root}/{quote(path)}?cmisselector={selector}&succinct=true"
            return (await http.get(url)).raise_for_status()

        async def copy_files(target: Path, path: str = "") -> None:
            for child in (await selected(path, "children")).json()["objects"]:
                found = child["object"]["succinctProperties"]
                name = f"{path}/{found['cmis:name']}".lstrip("/")
                if found["cmis:baseTypeId"] == "cmis:folder":
                    (target / name).mkdir()
                    await copy_files(target, name)
                else:
                    (target / name).write_bytes((await selected(name, "content")).content)

        async def tags(name: str) -> Mapping[str, str]:
            found = (await selected(name, "object")).json()["succinctProperties"]
            return {key: found[key] for key in ("StringProp",)}

        settings = {
            "url": server.url,
            "repositoryID": cmis_opencmis.REPOSITORY,
            "documentType": "ComplexType",
            "properties": {"StringProp": "customer"},
            "credentialsSecretRef": {"name": SECOND},
        }
        login = {"username": cmis_opencmis.USERNAME, "password": cmis_opencmis.PASSWORD}
        yield DemoArchive("CMIS repository", {"cmis": settings}, login, copy_files, tags)


@asynccontextmanager
async def _http(_: Path) -> AsyncIterator[DemoArchive]:
    async with document_system() as system:

        async def copy_files(target: Path) -> None:
            for name, stored in system.filed.items():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(stored.path, target / name)

        async def tags(name: str) -> Mapping[str, str]:
            return system.filed[name].tags

        yield DemoArchive(
            "your own system behind HTTP",
            {"http": {"url": system.url, "credentialsSecretRef": {"name": SECOND}}},
            {"signingSecret": system.signing_secret, "bearerToken": system.token},
            copy_files,
            tags,
        )


@asynccontextmanager
async def _azblob(_: Path) -> AsyncIterator[DemoArchive]:
    async with azblob_azurite.azurite() as server:
        await server.make_container(BUCKET)
        store = AzureStore(
            BUCKET,
            endpoint=server.url,
            account_name=azblob_azurite.ACCOUNT,
            account_key=azblob_azurite.KEY,
            client_options={"allow_http": True},
        )

        yield DemoArchive(
            f"Azure container {BUCKET}",
            {
                "azblob": {
                    "container": BUCKET,
                    "endpoint": server.url,
                    "credentialsSecretRef": {"name": SECOND},
                }
            },
            {"accountName": azblob_azurite.ACCOUNT, "accountKey": azblob_azurite.KEY},
            _copy_from_bucket(store),
            partial(server.tags, BUCKET),
        )


@asynccontextmanager
async def _filesystem(folder: Path) -> AsyncIterator[DemoArchive]:
    root = folder / "second-archive"
    root.mkdir()
    yield DemoArchive("second folder", {"filesystem": {"root": str(root)}}, {}, _copy_from_folder(root))


OPENERS: Mapping[str, Opener] = {
    "s3": _s3,
    "webdav": _webdav,
    "sftp": _sftp,
    "cmis": _cmis,
    "http": _http,
    "azblob": _azblob,
    "filesystem": _filesystem,
}
PROGRAMS: Mapping[str, Sequence[str]] = {"s3": ["versitygw"], "sftp": ["rclone"]}
"""The programs that a kind's server is built from."""
