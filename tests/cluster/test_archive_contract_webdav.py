"""
The contract of archives, for a collection of a real WebDAV server, and what is particular to WebDAV: tags and
locks at a second one, which keeps such but loses in a MOVE what comes after a semicolon, so that the contract
can't hold there.
"""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend
from counterfoil.archives.errors import ArchiveRefused, ArchiveUnavailable, NameTaken
from counterfoil.resources.archive import ArchiveSpec, CredentialsReference, WebDav
from counterfoil.testing.archive_contract import (
    ArchiveFixture,
    ListingContract,
    RefusalContract,
    WireContract,
)
from sandbox.servers.webdav_rclone import RcloneWebdavServer, rclone_webdav_server
from sandbox.servers.webdav_wsgidav import WsgidavServer, wsgidav_server
from tests.support.fakes.archives import once
from tests.support.scenes.archive_fixtures import refusing

LOCK = b'<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>'


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[RcloneWebdavServer]:
    async with rclone_webdav_server() as running:
        yield running


@pytest.fixture
async def root(server: RcloneWebdavServer) -> Path:
    """The folder on the server that is the archive of one test."""
    folder = server.rclone.folder / secrets.token_hex(4)
    await server.ask("MKCOL", folder.name)
    return folder


@pytest.fixture
async def backend(server: RcloneWebdavServer, root: Path) -> AsyncIterator[ArchiveBackend]:
    backend = await open_backend("dms", a_spec(f"{server.url}/{root.name}"), login_of(server))
    yield backend
    await backend.close()


class TestWebDav(ListingContract, WireContract, RefusalContract):
    @pytest.fixture
    async def ground(self, server: RcloneWebdavServer, root: Path) -> ArchiveFixture:
        return ArchiveFixture(
            a_spec(f"{server.url}/{root.name}"),
            login_of(server),
            address=("127.0.0.1", server.rclone.port),
            reroute=lambda port: a_spec(f"http://127.0.0.1:{port}/{root.name}"),
        )

    @pytest.fixture
    async def stranger(self, server: RcloneWebdavServer) -> ArchiveBackend:
        return await open_backend("dms", a_spec(server.url), {**login_of(server), "password": b"WRONG-WRONG"})

    @pytest.fixture
    async def rootless(self, server: RcloneWebdavServer) -> ArchiveBackend:
        return await open_backend("dms", a_spec(f"{server.url}/no/where"), login_of(server))

    @pytest.fixture
    async def full(self, server: RcloneWebdavServer, root: Path) -> AsyncIterator[ArchiveBackend]:
        async with refusing(server.url, {"PUT"}, 507) as url:
            yield await open_backend("dms", a_spec(f"{url}/{root.name}"), login_of(server))

    @pytest.fixture
    async def forbidden(self, server: RcloneWebdavServer, root: Path) -> AsyncIterator[ArchiveBackend]:
        async with refusing(server.url, {"PUT"}, 403) as url:
            yield await open_backend("dms", a_spec(f"{url}/{root.name}"), login_of(server))


@pytest.fixture(scope="module")
async def wsgidav() -> AsyncIterator[WsgidavServer]:
    async with wsgidav_server() as running:
        yield running


@pytest.fixture
async def kept(wsgidav: WsgidavServer) -> str:
    """The collection on the second server that is the archive of one test."""
    name = secrets.token_hex(4)
    await wsgidav.ask("MKCOL", name)
    return name


async def test_tags_become_properties_where_the_server_keeps_such(wsgidav: WsgidavServer, kept: str) -> None:
    backend = await open_backend("dms", a_spec(f"{wsgidav.url}/{kept}"), login_of(wsgidav))
    tags = {"customer": "Rossi & <Figli>", "Kosten_stelle-1.2": "47/11 ü"}

    await backend.put("a/b c.pdf", once(b"x"), tags=tags, content_type="application/pdf")

    assert await wsgidav.properties(f"{kept}/a/b%20c.pdf", "counterfoil.dev/tags") == tags
    await backend.close()


async def test_a_file_that_somebody_has_locked_is_waited_for(wsgidav: WsgidavServer, kept: str) -> None:
    backend = await open_backend("dms", a_spec(f"{wsgidav.url}/{kept}"), login_of(wsgidav))
    await backend.put("a.pdf", once(b"old"), tags={}, content_type=None)
    lock = await wsgidav.ask("LOCK", f"{kept}/a.pdf", content=LOCK)

    with pytest.raises(ArchiveUnavailable) as trouble:
        await backend.put("a.pdf", once(b"new"), tags={}, content_type=None)
    assert trouble.value.reason == "ArchiveLocked"
    assert (wsgidav.folder / kept / "a.pdf").read_bytes() == b"old"

    await wsgidav.ask("UNLOCK", f"{kept}/a.pdf", headers={"Lock-Token": lock.headers["Lock-Token"]})
    await backend.put("a.pdf", once(b"new"), tags={}, content_type=None)
    assert [path.name for path in (wsgidav.folder / kept).iterdir()] == ["a.pdf"]
    await backend.close()


async def test_a_folder_that_somebody_has_locked_is_waited_for(wsgidav: WsgidavServer, kept: str) -> None:
    backend = await open_backend("dms", a_spec(f"{wsgidav.url}/{kept}"), login_of(wsgidav))
    await wsgidav.ask("MKCOL", f"{kept}/a")
    lock = await wsgidav.ask("LOCK", f"{kept}/a", headers={"Depth": "infinity"}, content=LOCK)

    with pytest.raises(ArchiveUnavailable) as trouble:
        await backend.put("a/b.pdf", once(b"new"), tags={}, content_type=None)
    assert trouble.value.reason == "ArchiveLocked"
    assert list((wsgidav.folder / kept / "a").iterdir()) == []

    await wsgidav.ask("UNLOCK", f"{kept}/a", headers={"Lock-Token": lock.headers["Lock-Token"]})
    await backend.put("a/b.pdf", once(b"new"), tags={}, content_type=None)
    assert (wsgidav.folder / kept / "a" / "b.pdf").read_bytes() == b"new"
    await backend.close()


async def test_a_folder_under_the_name_of_a_file_is_not_replaced(
    server: RcloneWebdavServer, backend: ArchiveBackend, root: Path
) -> None:
    for folder in ("a", "a/contract.pdf"):
        await server.ask("MKCOL", f"{root.name}/{folder}")
    await server.ask("PUT", f"{root.name}/a/contract.pdf/theirs.txt", b"theirs")

    with pytest.raises(NameTaken, match=r"contract\.pdf is a folder"):
        await backend.put("a/contract.pdf", once(b"ours"), tags={}, content_type=None)

    assert (root / "a/contract.pdf/theirs.txt").read_text() == "theirs"
    assert [path.name for path in (root / "a").iterdir()] == ["contract.pdf"]


async def test_a_file_where_a_folder_is_needed_is_reported(
    server: RcloneWebdavServer, backend: ArchiveBackend, root: Path
) -> None:
    await server.ask("PUT", f"{root.name}/a", b"theirs")

    with pytest.raises(NameTaken, match="/a is a file where Counterfoil needs a folder"):
        await backend.put("a/b/contract.pdf", once(b"ours"), tags={}, content_type=None)


@pytest.mark.parametrize("status", [403, 409])
async def test_an_existing_folder_is_used_with_any_answer_to_its_creation(
    server: RcloneWebdavServer, root: Path, status: int
) -> None:
    await server.ask("MKCOL", f"{root.name}/a")
    await server.ask("MKCOL", f"{root.name}/a/b")
    async with refusing(server.url, {"MKCOL"}, status) as url:
        backend = await open_backend("dms", a_spec(f"{url}/{root.name}"), login_of(server))
        await backend.put("a/b/contract.pdf", once(b"ours"), tags={}, content_type=None)
        await backend.close()

    assert (root / "a/b/contract.pdf").read_bytes() == b"ours"


async def test_what_a_killed_run_left_is_swept_and_nothing_else(
    server: RcloneWebdavServer, backend: ArchiveBackend, root: Path
) -> None:
    await server.ask("MKCOL", f"{root.name}/a")
    await server.ask("PUT", f"{root.name}/a/.counterfoil-0123456789abcdef.tmp", b"half")
    await server.ask("PUT", f"{root.name}/a/other.tmp", b"theirs")

    await backend.remove_leftovers("a")

    assert [path.name for path in (root / "a").iterdir()] == ["other.tmp"]


async def test_a_server_that_is_no_webdav_server_is_reported(server: RcloneWebdavServer, root: Path) -> None:
    for status in (200, 405, 501):
        async with refusing(server.url, {"PROPFIND"}, status) as url:
            backend = await open_backend("dms", a_spec(url), login_of(server))
            with pytest.raises(ArchiveRefused) as trouble:
                await backend.probe()
        assert trouble.value.reason == "ArchiveNotWebDav"
        assert trouble.value.message == (
            f"Archive/dms: there is no WebDAV collection at {url} (PROPFIND is not answered as it should "
            "be). Correct spec.webdav.url, or turn WebDAV on there."
        )


def a_spec(url: str) -> ArchiveSpec:
    return ArchiveSpec(webdav=WebDav(url=url, credentials_secret_ref=CredentialsReference(name="dav")))


def login_of(server: RcloneWebdavServer | WsgidavServer) -> dict[str, bytes]:
    return {"username": server.username.encode(), "password": server.password.encode()}
