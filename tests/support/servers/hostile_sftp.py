"""An SFTP server whose answers take the most memory that the protocol allows."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import asyncssh
from asyncssh.constants import (
    FX_EOF,
    FX_OK,
    FXP_ATTRS,
    FXP_DATA,
    FXP_HANDLE,
    FXP_INIT,
    FXP_LSTAT,
    FXP_NAME,
    FXP_OPEN,
    FXP_OPENDIR,
    FXP_READ,
    FXP_READDIR,
    FXP_STAT,
    FXP_STATUS,
    FXP_VERSION,
)
from asyncssh.packet import String, UInt32, UInt64
from asyncssh.stream import SSHServerStreamSession

PACKET_BYTES = 4 * 1024 * 1024 - 1024
"""Bytes of one packet, just below the limit of asyncssh."""

_FOLDER, _FILE = UInt32(4) + UInt32(0o040700), UInt32(5) + UInt64(2**40) + UInt32(0o100600)
_EXTENDED = UInt32(0x80000000)


def _names() -> bytes:
    """Return as many names as a packet can have."""
    name = String(b"") + String(b"") + UInt32(0)
    count = PACKET_BYTES // len(name)
    return UInt32(count) + name * count


def _attributes() -> bytes:
    """Return as many attributes of one file as a packet can have."""
    attribute = String(b"") + String(b"")
    count = PACKET_BYTES // len(attribute)
    return _EXTENDED + UInt32(count) + attribute * count


ATTACKS: dict[str, tuple[frozenset[int], int, Callable[[], bytes]]] = {
    "names": (frozenset({FXP_READDIR}), FXP_NAME, _names),
    "attributes": (frozenset({FXP_STAT, FXP_LSTAT}), FXP_ATTRS, _attributes),
    "handles": (frozenset({FXP_OPEN}), FXP_HANDLE, lambda: String(bytes(PACKET_BYTES))),
    "data": (frozenset({FXP_READ}), FXP_DATA, lambda: String(bytes(PACKET_BYTES))),
}
"""For each attack: the requests that get its answer, the type of the answer and its content."""


class HostileSftp:
    """The server. It has every file and folder; its first list is empty, and the attack begins after it."""

    def __init__(self, attack: str) -> None:
        self._requests, self._type, content = ATTACKS[attack]
        self._content = content()
        self._has_begun = False
        self.attacks = 0
        """Number of answers that were an attack."""

    async def serve(self, reader: "asyncssh.SSHReader[bytes]", writer: "asyncssh.SSHWriter[bytes]") -> None:
        """Answer the requests of one session, one after the other."""
        with suppress(asyncio.IncompleteReadError, asyncssh.Error, OSError):
            while True:
                packet = await reader.readexactly(int.from_bytes(await reader.readexactly(4)))
                kind, content = self._answer(packet)
                writer.write(UInt32(len(content) + 1) + bytes([kind]) + content)
                await writer.drain()

    def _answer(self, packet: bytes) -> tuple[int, bytes]:
        request, number, rest = packet[0], packet[1:5], packet[5:]
        if request == FXP_INIT:
            return FXP_VERSION, UInt32(3)
        if self._has_begun and request in self._requests:
            self.attacks += 1
            return self._type, number + self._content
        match request:
            case _ if request in (FXP_OPEN, FXP_OPENDIR):
                return FXP_HANDLE, number + String(b"1")
            case _ if request in (FXP_STAT, FXP_LSTAT):
                return FXP_ATTRS, number + (_FILE if b".pdf" in rest else _FOLDER)
            case _ if request == FXP_READDIR:
                self._has_begun = True
                return FXP_STATUS, number + UInt32(FX_EOF) + String(b"") + String(b"")
        return FXP_STATUS, number + UInt32(FX_OK) + String(b"") + String(b"")


class _Session(SSHServerStreamSession[bytes]):
    """A session whose subsystem is served here, and not by asyncssh."""

    def __init__(self, server: HostileSftp) -> None:
        super().__init__(None)
        self._server = server
        self._running: asyncio.Task[None]

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    def session_started(self) -> None:
        assert self._chan is not None
        reader, writer = asyncssh.SSHReader(self, self._chan), asyncssh.SSHWriter(self, self._chan)
        self._running = asyncio.create_task(self._server.serve(reader, writer))


class _AnyLogin(asyncssh.SSHServer):
    def __init__(self, server: HostileSftp) -> None:
        self._server = server

    def session_requested(self) -> _Session:
        return _Session(self._server)

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return True


@asynccontextmanager
async def serving_sftp(server: HostileSftp) -> AsyncIterator[str]:
    """Run the server on all loopback addresses; yield its URL, whose fragment is its host key."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    acceptor = await asyncssh.listen(
        "0.0.0.0",
        0,
        server_factory=partial(_AnyLogin, server),
        server_host_keys=[key],
        encoding=None,
    )
    async with acceptor:
        yield f"sftp://127.0.0.1:{acceptor.get_port()}#{key.get_fingerprint()}"
