"""
``make demo ARCHIVE=KIND``: the archive that the demo's second organization files into, on a real server of that kind.

``copied`` brings what the server has into a folder by the plainest client there is, so that nothing of Counterfoil's own
vouches for it; ``tags`` tells what the server itself says of a file, where it keeps such. ``gcs`` has no server to run here.
"""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from obstore.store import AzureStore, S3Store

from sandbox import azurite, cmis, versity
from sandbox.dav_keeper import dav_keeper
from sandbox.dms import document_system
from sandbox.sftp import sftp_server

BUCKET = "contracts"
SECOND = "second-archive"

Tags = Callable[[str], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True)
class Destination:
    """A running archive, empty."""

    title: str
    spec: Mapping[str, Any]
    """What ``spec`` of the Archive says of its kind."""
    secret: Mapping[str, str]
    """Content of the Secret that it names."""
    copied: Callable[[Path], Awaitable[None]]
    """Copies everything that lies in it below a folder."""
    tags: Tags | None = None
    """The tags of a file, by its path, as the server has them."""


Opener = Callable[[Path], AbstractAsyncContextManager[Destination]]


class UnknownKind(ValueError):
    """There is no such kind of archive for the demo."""


def destination(kind: str, folder: Path) -> AbstractAsyncContextManager[Destination]:
    """Run an archive of one kind; what it needs goes below ``folder``. Raises ``UnknownKind``."""
    if kind not in OPENERS:
        raise UnknownKind(f"ARCHIVE={kind} is no kind that the demo has; there are: {', '.join(OPENERS)}.")
    return OPENERS[kind](folder)


async def copied(second: Destination, folder: Path) -> Path:
    """Copy what an archive has into a new folder; return that."""
    target = folder / "copy-of-second-archive"
    target.mkdir()
    await second.copied(target)
    return target


async def print_tags(second: Destination, copy: Path) -> None:
    """Print the tags of one document as the server has them; where it keeps none, those of the manifest are all."""
    print(f"\nTags at the {second.title}:")
    if second.tags is None:
        print("    this server keeps none; they are in the manifest")
        return
    name = str(next(copy.rglob("Document-*")).relative_to(copy))
    for key, value in (await second.tags(name)).items():
        print(f"    {name}: {key} = {value}")


def _from_behind(folder: Path) -> Callable[[Path], Awaitable[None]]:
    """Copy out of the folder that a server keeps its files in."""

    async def copied(target: Path) -> None:
        shutil.copytree(folder, target, dirs_exist_ok=True)

    return copied


def _from_store(store: S3Store | AzureStore) -> Callable[[Path], Awaitable[None]]:
    """Copy what a bucket lists."""

    async def copied(target: Path) -> None:
        for each in await store.list().collect_async():
            place = target / each["path"]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(bytes(await (await store.get_async(each["path"])).bytes_async()))

    return copied


@asynccontextmanager
async def _s3(_: Path) -> AsyncIterator[Destination]:
    async with versity.gateway() as server:
        await server.make_bucket(BUCKET)
        store = S3Store(
            BUCKET,
            endpoint=server.url,
            region=versity.REGION,
            access_key_id=server.access_key,
            secret_access_key=server.secret_key,
            client_options={"allow_http": True},
        )

        async def tags(name: str) -> Mapping[str, str]:
            return await server.tags(BUCKET, name)

        settings = {
            "bucket": BUCKET,
            "endpoint": server.url,
            "region": versity.REGION,
            "forcePathStyle": True,
            "credentialsSecretRef": {"name": SECOND},
        }
        keys = {"accessKeyId": server.access_key, "secretAccessKey": server.secret_key}
        yield Destination(f"S3 bucket {BUCKET}", {"s3": settings}, keys, _from_store(store), tags)


@asynccontextmanager
async def _webdav(_: Path) -> AsyncIterator[Destination]:
    async with dav_keeper() as server:

        async def tags(name: str) -> Mapping[str, str]:
            return await server.properties(quote(name), "counterfoil.dev/tags")

        yield Destination(
            "WebDAV server",
            {"webdav": {"url": server.url, "credentialsSecretRef": {"name": SECOND}}},
            {"username": server.username, "password": server.password},
            _from_behind(server.folder),
            tags,
        )


@asynccontextmanager
async def _sftp(_: Path) -> AsyncIterator[Destination]:
    async with sftp_server() as server:
        yield Destination(
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
            _from_behind(server.rclone.folder),
        )


@asynccontextmanager
async def _cmis(_: Path) -> AsyncIterator[Destination]:
    async with (
        cmis.cmis_server() as server,
        httpx.AsyncClient(auth=(cmis.USERNAME, cmis.PASSWORD), trust_env=False) as http,
    ):
        root = f"{server.url}/{cmis.REPOSITORY}/root"

        async def selected(path: str, selector: str) -> httpx.Response:
            url = f"{root}/{quote(path)}?cmisselector={selector}&succinct=true"
            return (await http.get(url)).raise_for_status()

        async def copied(target: Path, path: str = "") -> None:
            for child in (await selected(path, "children")).json()["objects"]:
                found = child["object"]["succinctProperties"]
                name = f"{path}/{found['cmis:name']}".lstrip("/")
                if found["cmis:baseTypeId"] == "cmis:folder":
                    (target / name).mkdir()
                    await copied(target, name)
                else:
                    (target / name).write_bytes((await selected(name, "content")).content)

        async def tags(name: str) -> Mapping[str, str]:
            found = (await selected(name, "object")).json()["succinctProperties"]
            return {key: found[key] for key in ("StringProp",)}

        settings = {
            "url": server.url,
            "repositoryId": cmis.REPOSITORY,
            "documentType": "ComplexType",
            "properties": {"StringProp": "customer"},
            "credentialsSecretRef": {"name": SECOND},
        }
        login = {"username": cmis.USERNAME, "password": cmis.PASSWORD}
        yield Destination("CMIS repository", {"cmis": settings}, login, copied, tags)


@asynccontextmanager
async def _http(_: Path) -> AsyncIterator[Destination]:
    async with document_system() as system:

        async def copied(target: Path) -> None:
            for name, stored in system.filed.items():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(stored.place, target / name)

        async def tags(name: str) -> Mapping[str, str]:
            return system.filed[name].tags

        yield Destination(
            "system of one's own behind HTTP",
            {"http": {"url": system.url, "credentialsSecretRef": {"name": SECOND}}},
            {"signingSecret": system.signing_secret, "bearerToken": system.token},
            copied,
            tags,
        )


@asynccontextmanager
async def _azblob(_: Path) -> AsyncIterator[Destination]:
    async with azurite.azurite() as server:
        await server.make_container(BUCKET)
        store = AzureStore(
            BUCKET,
            endpoint=server.url,
            account_name=azurite.ACCOUNT,
            account_key=azurite.KEY,
            client_options={"allow_http": True},
        )

        async def tags(name: str) -> Mapping[str, str]:
            return await server.tags(BUCKET, name)

        yield Destination(
            f"Azure container {BUCKET}",
            {
                "azblob": {
                    "container": BUCKET,
                    "endpoint": server.url,
                    "credentialsSecretRef": {"name": SECOND},
                }
            },
            {"accountName": azurite.ACCOUNT, "accountKey": azurite.KEY},
            _from_store(store),
            tags,
        )


@asynccontextmanager
async def _filesystem(folder: Path) -> AsyncIterator[Destination]:
    root = folder / "second-archive"
    root.mkdir()
    yield Destination("second folder", {"filesystem": {"root": str(root)}}, {}, _from_behind(root))


OPENERS: Mapping[str, Opener] = {
    "s3": _s3,
    "webdav": _webdav,
    "sftp": _sftp,
    "cmis": _cmis,
    "http": _http,
    "azblob": _azblob,
    "filesystem": _filesystem,
}
