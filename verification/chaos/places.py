"""
The Archives of a round: their objects, where their files are, and how a person or another program writes.

The files are read from the folder of the server. They are written through the server, which remembers its
lists.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import httpx
import obstore
from obstore.store import S3Store

from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.local import LocalEnvironment
from sandbox.servers.s3_rclone import S3Server
from sandbox.servers.webdav_rclone import RcloneWebdavServer
from verification.chaos.plan import FOLDER

BUCKET: Final = "contracts"


@dataclass(frozen=True)
class Servers:
    """The servers that stay over all rounds of a campaign."""

    plane: ControlPlane
    s3: S3Server
    webdav: RcloneWebdavServer

    def of_kind(self, kind: str) -> S3Server | RcloneWebdavServer:
        """Return the server of this kind of archive."""
        return self.s3 if kind == "s3" else self.webdav


@dataclass(frozen=True)
class Place:
    """One Archive, and the folder in which it keeps its files."""

    kind: str
    root: Path
    servers: Servers

    async def write(self, path: str, content: bytes | None) -> None:
        """Write one file, or remove it."""
        if self.kind == FOLDER:
            file = self.root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                file.unlink(missing_ok=True)
            else:
                file.write_bytes(content)
        elif self.kind == "s3":
            await self._write_to_s3(path, content)
        else:
            await self._write_to_webdav(f"{self.root.name}/{path}", content)

    async def _write_to_s3(self, path: str, content: bytes | None) -> None:
        s3 = self.servers.s3
        store = S3Store(
            BUCKET,
            prefix=self.root.name,
            endpoint=s3.url,
            region="eu-central-1",
            access_key_id=s3.access_key,
            secret_access_key=s3.secret_key,
            client_options={"allow_http": True},
        )
        if content is None:
            await obstore.delete_async(store, path)
        else:
            await obstore.put_async(store, path, content)

    async def _write_to_webdav(self, path: str, content: bytes | None) -> None:
        webdav = self.servers.webdav
        if content is None:
            with suppress(httpx.HTTPStatusError):  # it is not there
                await webdav.ask("DELETE", path)
            return
        for folder in list(reversed(PurePosixPath(path).parents))[2:]:
            with suppress(httpx.HTTPStatusError):  # it is there
                await webdav.ask("MKCOL", str(folder))
        await webdav.ask("PUT", path, content)


async def folder_place(
    environment: LocalEnvironment, servers: Servers, name: str, root: Path, **spec: Any
) -> Place:
    """Make an Archive in a folder."""
    await asyncio.to_thread(root.mkdir)
    await environment.archive(name, filesystem={"root": str(root)}, **spec)
    return Place(FOLDER, root, servers)


async def server_place(
    environment: LocalEnvironment, servers: Servers, kind: str, name: str, *, url: str, **spec: Any
) -> Place:
    """Make an Archive in its own folder of the S3 or WebDAV server, which the controllers reach at this
    URL."""
    server, folder = servers.of_kind(kind), f"{environment.namespace}-{name}"
    if isinstance(server, S3Server):
        root = server.folder / BUCKET / folder
        await asyncio.to_thread(root.mkdir)
        secret = {"accessKeyId": server.access_key, "secretAccessKey": server.secret_key}
        where: dict[str, Any] = {
            "bucket": BUCKET,
            "prefix": folder,
            "region": "eu-central-1",
            "endpoint": url,
            "forcePathStyle": True,
        }
    else:
        root = server.rclone.folder / folder
        await server.ask("MKCOL", folder)
        secret = {"username": server.username, "password": server.password}
        where = {"url": f"{url}/{folder}"}
    await environment.secret(f"{name}-key", "archive", **secret)
    where["credentialsSecretRef"] = {"name": f"{name}-key"}
    await environment.archive(name, **{kind: where}, **spec)
    return Place(kind, root, servers)


def read_archive(root: Path, envelope: str | None = None) -> dict[str, bytes]:
    """Return all files of an archive, or those of an envelope. One that is renamed meanwhile is left out."""
    found = {}
    for path in sorted(root.glob("**/*" if envelope is None else f"*/{envelope}/**/*")):
        try:
            if path.is_file():
                found[str(path.relative_to(root))] = path.read_bytes()
        except FileNotFoundError:
            continue
    return found


def read_named(roots: Mapping[str, Path], envelope: str | None = None) -> dict[str, bytes]:
    """Return the files of several archives, each path after the name of its Archive."""
    return {
        f"{name}/{path}": content
        for name, root in roots.items()
        for path, content in read_archive(root, envelope).items()
    }
