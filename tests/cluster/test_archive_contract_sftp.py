"""
The contract of archives, for a folder of a real SFTP server, and what is particular to SFTP.
"""

import errno
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import asyncssh
import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.backend import ArchiveBackend, RetainingBackend
from counterfoil.archives.errors import (
    ArchiveError,
    ArchiveRefused,
    ArchiveUnavailable,
    NameTaken,
    SettingsInvalid,
)
from counterfoil.resources.archive import ArchiveSpec, CredentialsReference, Sftp
from counterfoil.testing.archive_contract import (
    ArchiveFixture,
    ListingContract,
    RefusalContract,
    WireContract,
)
from sandbox.servers.sftp_rclone import SftpServer, public_key_line, sftp_server
from tests.support.fakes.archives import once

PASSWORD = b"a password of the test"


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[SftpServer]:
    async with sftp_server() as running:
        yield running


@pytest.fixture
async def root(server: SftpServer) -> str:
    """The folder on the server that is the archive of one test."""
    name = secrets.token_hex(4)
    async with connected(server) as sftp:
        await sftp.mkdir(name)
    return name


@pytest.fixture
async def backend(server: SftpServer, root: str) -> AsyncIterator[ArchiveBackend]:
    backend = await open_backend("dms", a_spec(server, root=root), login_of(server))
    yield backend
    await backend.close()


class TestSftp(ListingContract, WireContract, RefusalContract):
    @pytest.fixture
    async def ground(self, server: SftpServer, root: str) -> ArchiveFixture:
        return ArchiveFixture(
            a_spec(server, root=root),
            login_of(server),
            address=("127.0.0.1", server.port),
            reroute=lambda port: a_spec(server, port=port, root=root),
        )

    @pytest.fixture
    async def stranger(self, server: SftpServer) -> ArchiveBackend:
        return await open_backend("dms", a_spec(server), {**login_of(server), "password": b"WRONG-WRONG"})

    @pytest.fixture
    async def rootless(self, server: SftpServer) -> AsyncIterator[ArchiveBackend]:
        backend = await open_backend("dms", a_spec(server, root="no/where"), login_of(server))
        yield backend
        await backend.close()

    @pytest.fixture
    async def full(self, tmp_path: Path) -> AsyncIterator[ArchiveBackend]:
        async with own_server(FullServer, tmp_path) as spec:
            backend = await open_backend("dms", spec, {"username": b"u", "password": PASSWORD})
            yield backend
            await backend.close()

    @pytest.fixture
    async def forbidden(self, tmp_path: Path) -> AsyncIterator[ArchiveBackend]:
        async with own_server(ForbiddingServer, tmp_path) as spec:
            backend = await open_backend("dms", spec, {"username": b"u", "password": PASSWORD})
            yield backend
            await backend.close()


async def test_a_private_key_is_as_good_as_a_password(server: SftpServer) -> None:
    key = {"username": server.username.encode(), "privateKey": server.private_key.encode()}
    backend = await open_backend("dms", a_spec(server), key)

    await backend.probe()

    await backend.close()


@pytest.mark.parametrize("pin", ["line", "fingerprint"])
async def test_a_pinned_server_is_trusted(server: SftpServer, pin: str) -> None:
    key = asyncssh.import_public_key(server.host_key)
    pins = (public_key_line(key) if pin == "line" else key.get_fingerprint(), a_pin())
    backend = await open_backend("dms", a_spec(server, host_keys=pins), login_of(server))

    await backend.probe()

    await backend.close()


async def test_another_server_is_never_trusted_and_gets_no_password(server: SftpServer) -> None:
    shown = asyncssh.import_public_key(server.host_key).get_fingerprint()
    backend = await open_backend("dms", a_spec(server, host_keys=(a_pin(),)), login_of(server))

    with pytest.raises(ArchiveRefused) as trouble:
        await backend.probe()

    assert trouble.value.reason == "ArchiveHostKeyUnknown"
    assert trouble.value.message == (
        f"Archive/dms: the SFTP server 127.0.0.1:{server.port} shows a host key that spec.sftp.hostKeys does "
        f"not have: ssh-ed25519 {shown}. Nothing was sent. If its owner confirms this key, add it."
    )


@pytest.mark.parametrize("pins", [(), ("ssh-ed25519 AAAA",), ("nonsense",)], ids=repr)
async def test_pins_that_are_none_are_refused(server: SftpServer, pins: tuple[str, ...]) -> None:
    with pytest.raises(SettingsInvalid, match=r"spec\.sftp\.hostKeys"):
        await open_backend("dms", a_spec(server, host_keys=pins), login_of(server))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "has no `username`"),
        ({"username": b"u"}, "has neither `password` nor `privateKey`"),
        ({"username": b"u", "privateKey": b"nonsense"}, "no private key without a passphrase"),
        ({"username": b"u\nv", "password": b"p"}, "no single line"),
        ({"username": b"\xff", "password": b"p"}, "is no text"),
    ],
)
async def test_a_secret_that_can_not_work_is_reported(
    server: SftpServer, given: dict[str, bytes], says: str
) -> None:
    with pytest.raises(SettingsInvalid, match=says):
        await open_backend("dms", a_spec(server), given)


async def test_a_folder_under_the_name_of_a_file_is_not_replaced(
    server: SftpServer, backend: ArchiveBackend, root: str
) -> None:
    async with connected(server) as sftp:
        await sftp.makedirs(f"{root}/a/contract.pdf")

        with pytest.raises(NameTaken, match=r"contract\.pdf is a folder"):
            await backend.put("a/contract.pdf", once(b"ours"), tags={}, content_type=None)
        with pytest.raises(NameTaken, match=r"contract\.pdf is a folder"):
            await anext(backend.read("a/contract.pdf"))

        assert await sftp.isdir(f"{root}/a/contract.pdf")


async def test_what_a_killed_run_left_is_swept_and_nothing_else(
    server: SftpServer, backend: ArchiveBackend, root: str
) -> None:
    async with connected(server) as sftp:
        await sftp.makedirs(f"{root}/a/b")
        for name in (".counterfoil-0123456789abcdef.tmp", "other.tmp"):
            async with sftp.open(f"{root}/a/b/{name}", "w") as file:
                await file.write("half")

        await backend.remove_leftovers("a")

        assert set(await sftp.listdir(f"{root}/a/b")) - {".", ".."} == {"other.tmp"}


async def test_the_files_of_a_server_without_posix_rename_are_still_replaced(tmp_path: Path) -> None:
    async with own_server(OldServer, tmp_path) as spec:
        backend = await open_backend("dms", spec, {"username": b"u", "password": PASSWORD})
        assert isinstance(backend, RetainingBackend)
        for data in (b"old", b"new"):
            await backend.put("a/b.pdf", once(data), tags={}, content_type=None)
        await backend.retain("a/b.pdf")
        await backend.close()

    assert (tmp_path / "a/b.pdf").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.pdf"]


async def test_without_posix_rename_no_file_is_removed_before_the_new_one_is_there(
    tmp_path: Path,
) -> None:
    """A run that stops between the two steps destroys nothing, not even a file of another client."""
    async with own_server(SecondRenameFails, tmp_path) as spec:
        backend = await open_backend("dms", spec, {"username": b"u", "password": PASSWORD})
        (tmp_path / "a").mkdir()
        (tmp_path / "a/b.pdf").write_bytes(b"old")
        with pytest.raises(ArchiveError):
            await backend.put("a/b.pdf", once(b"new"), tags={}, content_type=None)
        await backend.close()

    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == {"b.pdf": b"old"}


async def test_without_posix_rename_the_file_of_another_writer_stays(tmp_path: Path) -> None:
    async with own_server(AnotherWriterIsFaster, tmp_path) as spec:
        backend = await open_backend("dms", spec, {"username": b"u", "password": PASSWORD})
        (tmp_path / "a").mkdir()
        (tmp_path / "a/b.pdf").write_bytes(b"old")
        with pytest.raises(ArchiveError):
            await backend.put("a/b.pdf", once(b"new"), tags={}, content_type=None)
        await backend.close()

    assert (tmp_path / "a/b.pdf").read_bytes() == b"of another writer"


async def test_a_file_of_others_whose_name_is_no_text_is_listed(tmp_path: Path) -> None:
    async with own_server(asyncssh.SFTPServer, tmp_path) as spec:
        backend = await open_backend("dms", spec, {"username": b"u", "password": PASSWORD})
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / os.fsdecode(b"M\xfcller.pdf")).write_bytes(b"theirs")
        await backend.put("a/b.pdf", once(b"ours"), tags={}, content_type=None)

        assert [entry.name for entry in await backend.entries("a")] == ["a/M\udcfcller.pdf", "a/b.pdf"]
        await backend.remove_leftovers("a")
        await backend.close()


async def test_a_server_that_gives_no_sftp_is_reported(tmp_path: Path) -> None:
    async with own_server(None, tmp_path) as spec:
        backend = await open_backend("dms", spec, {"username": b"u", "password": PASSWORD})
        with pytest.raises(ArchiveRefused, match="lets the login in but gives it no SFTP"):
            await backend.probe()


async def test_a_host_that_does_not_exist_is_waited_for(server: SftpServer) -> None:
    backend = await open_backend("dms", a_spec(server, host="sftp.invalid"), login_of(server))

    with pytest.raises(ArchiveUnavailable, match="could not be reached"):
        await backend.probe()


@pytest.mark.parametrize(
    ("root", "location"),
    [
        (".", "sftp://sftp.acme.example/~/a/b.pdf"),
        ("inbox/esaw", "sftp://sftp.acme.example/~/inbox/esaw/a/b.pdf"),
        ("/srv/inbox/", "sftp://sftp.acme.example/srv/inbox/a/b.pdf"),
        ("/", "sftp://sftp.acme.example/a/b.pdf"),
        ("./inbox", "sftp://sftp.acme.example/~/inbox/a/b.pdf"),
        (".inbox", "sftp://sftp.acme.example/~/.inbox/a/b.pdf"),
        ("../shared", "sftp://sftp.acme.example/~/../shared/a/b.pdf"),
    ],
)
async def test_a_location_shows_whether_it_is_below_the_login_or_the_root(
    server: SftpServer, root: str, location: str
) -> None:
    backend = await open_backend(
        "dms", a_spec(server, host="sftp.acme.example", port=22, root=root), login_of(server)
    )

    assert backend.location("a/b.pdf") == location


class FullServer(asyncssh.SFTPServer):
    """Has no space, and reports it as OpenSSH does: by a failure."""

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


class ForbiddingServer(asyncssh.SFTPServer):
    """Lets files be read only."""

    async def mkdir(self, path: bytes, attrs: asyncssh.SFTPAttrs) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")


class OldServer(asyncssh.SFTPServer):
    """Knows the rename of version 3 only, which replaces nothing."""

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        raise asyncssh.SFTPOpUnsupported("not here")


class SecondRenameFails(OldServer):
    """Lets the old file be set aside, and refuses its name to the new one."""

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        if newpath.endswith(b"b.pdf") and b"replaced-" not in oldpath:
            raise asyncssh.SFTPFailure("refused")
        super().rename(oldpath, newpath)


class AnotherWriterIsFaster(OldServer):
    """Another client takes the name as soon as the old file is set aside."""

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        super().rename(oldpath, newpath)
        if oldpath.endswith(b"b.pdf"):
            Path(self.map_path(oldpath).decode()).write_bytes(b"of another writer")


class PasswordServer(asyncssh.SSHServer):
    """Accepts every login with the password."""

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password.encode() == PASSWORD


@asynccontextmanager
async def own_server(kind: type[asyncssh.SFTPServer] | None, folder: Path) -> AsyncIterator[ArchiveSpec]:
    """Run a server over a folder in this process."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=PasswordServer,
        server_host_keys=[key],
        sftp_factory=None if kind is None else partial(kind, chroot=str(folder).encode()),
    )
    try:
        yield ArchiveSpec(
            sftp=Sftp(
                host="127.0.0.1",
                port=acceptor.get_port(),
                host_keys=(public_key_line(key),),
                credentials_secret_ref=CredentialsReference(name="sftp"),
            )
        )
    finally:
        acceptor.close()
        await acceptor.wait_closed()


@asynccontextmanager
async def connected(server: SftpServer) -> AsyncIterator[asyncssh.SFTPClient]:
    """Give a session of somebody else's at the server."""
    async with (
        asyncssh.connect(
            "127.0.0.1",
            server.port,
            username=server.username,
            password=server.password,
            known_hosts=([asyncssh.import_public_key(server.host_key)], [], []),
            client_keys=None,
            agent_path=None,
            config=None,
        ) as connection,
        connection.start_sftp_client() as sftp,
    ):
        yield sftp


def a_pin() -> str:
    """The fingerprint of a key that no server has."""
    return asyncssh.generate_private_key("ssh-ed25519").get_fingerprint()


def a_spec(
    server: SftpServer,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    root: str = ".",
    host_keys: tuple[str, ...] | None = None,
) -> ArchiveSpec:
    return ArchiveSpec(
        sftp=Sftp(
            host=host,
            port=port or server.port,
            root=root,
            host_keys=(server.host_key,) if host_keys is None else host_keys,
            credentials_secret_ref=CredentialsReference(name="sftp"),
        )
    )


def login_of(server: SftpServer) -> dict[str, bytes]:
    return {"username": server.username.encode(), "password": server.password.encode()}
