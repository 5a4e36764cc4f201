"""SSH servers, and what they may choose for a connection."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncssh
import pytest
from msgspec.structs import replace

from counterfoil.archives import open_backend
from counterfoil.archives.errors import ArchiveError, ArchiveRefused, ArchiveUnavailable
from counterfoil.resources.archive import ArchiveSpec, CredentialsReference, Sftp
from sandbox.servers.sftp_rclone import public_key_line

LOGIN = {"username": b"u", "password": b"p"}


class AnyPassword(asyncssh.SSHServer):
    """Accepts every login."""

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return True


class ManyNames(asyncssh.SFTPServer):
    """Lists names beyond those in its folder."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], folder: Path, names: int) -> None:
        super().__init__(channel, chroot=str(folder).encode())
        self._names = names

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        async for each in super().scandir(path):
            yield each
        for number in range(self._names):
            yield asyncssh.SFTPName(b"%d.pdf" % number, b"", asyncssh.SFTPAttrs(size=1, permissions=0o100600))


@asynccontextmanager
async def server(
    folder: Path,
    *,
    kex: str = "*25519*",
    compression: str = "none",
    names: int = 0,
    login: type[AnyPassword] = AnyPassword,
    has_sftp: bool = True,
) -> AsyncIterator[ArchiveSpec]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    acceptor = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=login,
        server_host_keys=[key],
        sftp_factory=(lambda channel: ManyNames(channel, folder, names)) if has_sftp else None,
        kex_algs=kex,
        compression_algs=compression,
    )
    async with acceptor:
        yield ArchiveSpec(
            sftp=Sftp(
                host="127.0.0.1",
                port=acceptor.get_port(),
                root="/",
                host_keys=(public_key_line(key),),
                credentials_secret_ref=CredentialsReference(name="sftp"),
            )
        )


@pytest.mark.parametrize("kex", ["*25519*", "ecdh-sha2-*", "diffie-hellman-group14-sha256"])
async def test_a_server_with_a_small_fixed_group_is_used(tmp_path: Path, kex: str) -> None:
    async with server(tmp_path, kex=kex) as spec:
        backend = await open_backend("dms", spec, LOGIN)
        assert await backend.entries("a") == []
        await backend.close()


@pytest.mark.parametrize(
    "kex",
    ["*group-exchange*", "diffie-hellman-group16-sha512", "diffie-hellman-group18-sha512", "*-sha1"],
)
async def test_a_server_with_only_expensive_or_old_exchanges_of_keys_is_refused(
    tmp_path: Path, kex: str
) -> None:
    async with server(tmp_path, kex=kex) as spec:
        backend = await open_backend("dms", spec, LOGIN)
        with pytest.raises(ArchiveRefused) as refused:
            await backend.probe()
        await backend.close()
    assert refused.value.reason == "ArchiveTlsFailed"
    # An update of a hardened server would change nothing.
    assert "curve25519-sha256" in str(refused.value)


async def test_a_server_that_compresses_is_refused(tmp_path: Path) -> None:
    async with server(tmp_path, compression="zlib*") as spec:
        backend = await open_backend("dms", spec, LOGIN)
        with pytest.raises(ArchiveRefused) as refused:
            await backend.probe()
        await backend.close()
    assert refused.value.reason == "ArchiveTlsFailed"


async def test_a_list_comes_in_packets_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    async with server(tmp_path, names=5_000) as spec:
        backend = await open_backend("dms", spec, LOGIN)
        assert len(await backend.entries("a")) == 5_000
        # All at once, as no server does.
        monkeypatch.setattr(asyncssh.sftp, "_MAX_READDIR_NAMES", 5_000)
        with pytest.raises(ArchiveError) as refused:
            await backend.entries("a")
        await backend.close()
    assert refused.value.reason.startswith("Archive")


async def test_a_session_that_is_cancelled_while_it_opens_leaves_no_connection(tmp_path: Path) -> None:
    """The server logs in, and never opens SFTP."""
    opening, is_lost = asyncio.Event(), asyncio.Event()

    class Hanging(AnyPassword):
        def connection_lost(self, exc: Exception | None) -> None:
            is_lost.set()

        def session_requested(self) -> asyncssh.SSHServerSession[bytes]:
            return Silent()

    class Silent(asyncssh.SSHServerSession[bytes]):
        def subsystem_requested(self, subsystem: str) -> bool:
            opening.set()
            return True

    async with server(tmp_path, login=Hanging, has_sftp=False) as spec:
        backend = await open_backend("dms", spec, LOGIN)
        listing = asyncio.create_task(backend.entries("a"))
        await opening.wait()
        listing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listing
        async with asyncio.timeout(5):
            await is_lost.wait()
        await backend.close()


async def test_a_backend_that_is_closed_opens_no_further_connection(tmp_path: Path) -> None:
    """A clean-up at the end of a process would log in, and leave a connection."""
    logins: list[str] = []

    class Counting(AnyPassword):
        def validate_password(self, username: str, password: str) -> bool:
            logins.append(username)
            return True

    async with server(tmp_path, login=Counting) as spec:
        backend = await open_backend("dms", spec, LOGIN)
        assert await backend.entries("a") == []
        await backend.close()
        with pytest.raises(ArchiveUnavailable, match="its connections are closed"):
            await backend.discard("a/contract.pdf")
    assert logins == ["u"]


async def test_a_connection_that_opens_while_the_backend_is_closed_does_not_stay(tmp_path: Path) -> None:
    logging_in, is_lost = asyncio.Event(), asyncio.Event()

    class Slow(AnyPassword):
        def connection_lost(self, exc: Exception | None) -> None:
            is_lost.set()

        async def validate_password(self, username: str, password: str) -> bool:  # type: ignore[override]
            logging_in.set()
            await asyncio.sleep(0.2)
            return True

    async with server(tmp_path, login=Slow) as spec:
        backend = await open_backend("dms", spec, LOGIN)
        listing = asyncio.create_task(backend.entries("a"))
        async with asyncio.timeout(5):
            await logging_in.wait()
        await backend.close()
        with pytest.raises(ArchiveUnavailable, match="its connections are closed"):
            await listing
        async with asyncio.timeout(5):
            await is_lost.wait()


def field(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def ssh_packet(payload: bytes) -> bytes:
    padding = 16 - (len(payload) + 5) % 8
    return struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)


async def test_a_server_whose_key_is_no_key_breaks_the_protocol(tmp_path: Path) -> None:
    """Its RSA modulus is negative."""
    algorithms = (
        *(b"curve25519-sha256", b"rsa-sha2-256", b"aes128-ctr", b"aes128-ctr"),
        *(b"hmac-sha2-256", b"hmac-sha2-256", b"none", b"none", b"", b""),
    )
    offer = b"\x14" + bytes(16) + b"".join(map(field, algorithms)) + bytes(5)
    key = field(b"ssh-rsa") + field(b"\x00\xfd") + field(b"\x80")
    reply = b"\x1f" + field(key) + field(bytes(31) + b"\x09") + field(field(b"rsa-sha2-256") + field(b"x"))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-x\r\n" + ssh_packet(offer))
        await reader.readline()
        while True:
            (length,) = struct.unpack(">I", await reader.readexactly(4))
            if (await reader.readexactly(length))[1] == 30:
                writer.write(ssh_packet(reply))
                break
        await reader.read()
        writer.close()

    async with server(tmp_path) as spec, await asyncio.start_server(serve, "127.0.0.1", 0) as hostile:
        assert spec.sftp is not None
        port = hostile.sockets[0].getsockname()[1]
        backend = await open_backend("dms", ArchiveSpec(sftp=replace(spec.sftp, port=port)), LOGIN)
        with pytest.raises(ArchiveUnavailable) as refused:
            await backend.probe()
        await backend.close()
    assert refused.value.reason == "ArchiveFailing"
    assert refused.value.message.endswith("breaks the SSH protocol. Check its log.")
