"""
The contract of archives, for a collection of a real WebDAV server, and what is particular to WebDAV: tags and locks at a
second one, which keeps such but loses in a MOVE what comes after a semicolon, so that the contract can't hold there.
"""

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from counterfoil.archives import open_door
from counterfoil.archives.contract import Ground, ListingContract, RefusalContract, WireContract
from counterfoil.archives.door import Door
from counterfoil.archives.trouble import ArchiveRefused, ArchiveUnavailable, Occupied
from counterfoil.resources.archive import ArchiveSpec, WebDav
from counterfoil.resources.base import Ref
from sandbox.dav import DavServer, dav_server
from sandbox.dav_keeper import DavKeeper, dav_keeper
from tests.cluster.archive_grounds import refusing
from tests.unit.archive_parts import once

LOCK = b'<lockinfo xmlns="DAV:"><lockscope><exclusive/></lockscope><locktype><write/></locktype></lockinfo>'


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[DavServer]:
    async with dav_server() as running:
        yield running


@pytest.fixture
async def root(server: DavServer) -> Path:
    """The folder on the server that is the archive of one test."""
    folder = server.rclone.folder / secrets.token_hex(4)
    await server.ask("MKCOL", folder.name)
    return folder


@pytest.fixture
async def door(server: DavServer, root: Path) -> AsyncIterator[Door]:
    door = await open_door("dms", a_spec(f"{server.url}/{root.name}"), login_of(server))
    yield door
    await door.close()


class TestWebDav(ListingContract, WireContract, RefusalContract):
    @pytest.fixture
    async def ground(self, server: DavServer, root: Path) -> Ground:
        return Ground(
            a_spec(f"{server.url}/{root.name}"),
            login_of(server),
            address=("127.0.0.1", server.rclone.port),
            reroute=lambda port: a_spec(f"http://127.0.0.1:{port}/{root.name}"),
        )

    @pytest.fixture
    async def stranger(self, server: DavServer) -> Door:
        return await open_door("dms", a_spec(server.url), {**login_of(server), "password": b"WRONG-WRONG"})

    @pytest.fixture
    async def rootless(self, server: DavServer) -> Door:
        return await open_door("dms", a_spec(f"{server.url}/no/where"), login_of(server))

    @pytest.fixture
    async def full(self, server: DavServer, root: Path) -> AsyncIterator[Door]:
        async with refusing(server.url, {"PUT"}, 507) as url:
            yield await open_door("dms", a_spec(f"{url}/{root.name}"), login_of(server))

    @pytest.fixture
    async def forbidden(self, server: DavServer, root: Path) -> AsyncIterator[Door]:
        async with refusing(server.url, {"PUT"}, 403) as url:
            yield await open_door("dms", a_spec(f"{url}/{root.name}"), login_of(server))


@pytest.fixture(scope="module")
async def keeper() -> AsyncIterator[DavKeeper]:
    async with dav_keeper() as running:
        yield running


@pytest.fixture
async def kept(keeper: DavKeeper) -> str:
    """The collection on the second server that is the archive of one test."""
    name = secrets.token_hex(4)
    await keeper.ask("MKCOL", name)
    return name


async def test_tags_become_properties_where_the_server_keeps_such(keeper: DavKeeper, kept: str) -> None:
    door = await open_door("dms", a_spec(f"{keeper.url}/{kept}"), login_of(keeper))
    tags = {"customer": "Rossi & <Figli>", "Kosten_stelle-1.2": "47/11 ü"}

    await door.put("a/b c.pdf", once(b"x"), tags=tags, content_type="application/pdf")

    assert await keeper.properties(f"{kept}/a/b%20c.pdf", "counterfoil.dev/tags") == tags
    await door.close()


async def test_a_file_that_somebody_has_locked_is_waited_for(keeper: DavKeeper, kept: str) -> None:
    door = await open_door("dms", a_spec(f"{keeper.url}/{kept}"), login_of(keeper))
    await door.put("a.pdf", once(b"old"), tags={}, content_type=None)
    lock = await keeper.ask("LOCK", f"{kept}/a.pdf", content=LOCK)

    with pytest.raises(ArchiveUnavailable) as trouble:
        await door.put("a.pdf", once(b"new"), tags={}, content_type=None)
    assert trouble.value.reason == "ArchiveLocked"
    assert (keeper.folder / kept / "a.pdf").read_bytes() == b"old"

    await keeper.ask("UNLOCK", f"{kept}/a.pdf", headers={"Lock-Token": lock.headers["Lock-Token"]})
    await door.put("a.pdf", once(b"new"), tags={}, content_type=None)
    assert [path.name for path in (keeper.folder / kept).iterdir()] == ["a.pdf"]
    await door.close()


async def test_a_folder_that_somebody_has_locked_is_waited_for(keeper: DavKeeper, kept: str) -> None:
    door = await open_door("dms", a_spec(f"{keeper.url}/{kept}"), login_of(keeper))
    await keeper.ask("MKCOL", f"{kept}/a")
    lock = await keeper.ask("LOCK", f"{kept}/a", headers={"Depth": "infinity"}, content=LOCK)

    with pytest.raises(ArchiveUnavailable) as trouble:
        await door.put("a/b.pdf", once(b"new"), tags={}, content_type=None)
    assert trouble.value.reason == "ArchiveLocked"
    assert list((keeper.folder / kept / "a").iterdir()) == []

    await keeper.ask("UNLOCK", f"{kept}/a", headers={"Lock-Token": lock.headers["Lock-Token"]})
    await door.put("a/b.pdf", once(b"new"), tags={}, content_type=None)
    assert (keeper.folder / kept / "a" / "b.pdf").read_bytes() == b"new"
    await door.close()


async def test_a_folder_under_the_name_of_a_file_is_not_replaced(
    server: DavServer, door: Door, root: Path
) -> None:
    for folder in ("a", "a/contract.pdf"):
        await server.ask("MKCOL", f"{root.name}/{folder}")
    await server.ask("PUT", f"{root.name}/a/contract.pdf/theirs.txt", b"theirs")

    with pytest.raises(Occupied, match=r"contract\.pdf is a folder"):
        await door.put("a/contract.pdf", once(b"ours"), tags={}, content_type=None)

    assert (root / "a/contract.pdf/theirs.txt").read_text() == "theirs"
    assert [path.name for path in (root / "a").iterdir()] == ["contract.pdf"]


async def test_a_file_where_a_folder_is_needed_is_told(server: DavServer, door: Door, root: Path) -> None:
    await server.ask("PUT", f"{root.name}/a", b"theirs")

    with pytest.raises(Occupied, match="/a is a file where Counterfoil needs a folder"):
        await door.put("a/b/contract.pdf", once(b"ours"), tags={}, content_type=None)


@pytest.mark.parametrize("status", [403, 409])
async def test_a_folder_that_is_there_is_used_whatever_the_server_says_to_making_it(
    server: DavServer, root: Path, status: int
) -> None:
    await server.ask("MKCOL", f"{root.name}/a")
    await server.ask("MKCOL", f"{root.name}/a/b")
    async with refusing(server.url, {"MKCOL"}, status) as url:
        door = await open_door("dms", a_spec(f"{url}/{root.name}"), login_of(server))
        await door.put("a/b/contract.pdf", once(b"ours"), tags={}, content_type=None)
        await door.close()

    assert (root / "a/b/contract.pdf").read_bytes() == b"ours"


async def test_what_a_killed_run_left_is_swept_and_nothing_else(
    server: DavServer, door: Door, root: Path
) -> None:
    await server.ask("MKCOL", f"{root.name}/a")
    await server.ask("PUT", f"{root.name}/a/.counterfoil-0123456789abcdef.tmp", b"half")
    await server.ask("PUT", f"{root.name}/a/other.tmp", b"theirs")

    await door.sweep_leftovers("a")

    assert [path.name for path in (root / "a").iterdir()] == ["other.tmp"]


async def test_a_server_that_is_no_webdav_server_is_told(server: DavServer, root: Path) -> None:
    for status in (200, 405, 501):
        async with refusing(server.url, {"PROPFIND"}, status) as url:
            door = await open_door("dms", a_spec(url), login_of(server))
            with pytest.raises(ArchiveRefused) as trouble:
                await door.probe()
        assert trouble.value.reason == "ArchiveNotWebDav"
        assert trouble.value.message == (
            f"Archive/dms: there is no WebDAV collection at {url} (PROPFIND is not answered as it should be). "
            "Correct spec.webdav.url, or turn WebDAV on there."
        )


def a_spec(url: str) -> ArchiveSpec:
    return ArchiveSpec(webdav=WebDav(url=url, credentials_secret_ref=Ref(name="dav")))


def login_of(server: DavServer | DavKeeper) -> dict[str, bytes]:
    return {"username": server.username.encode(), "password": server.password.encode()}
