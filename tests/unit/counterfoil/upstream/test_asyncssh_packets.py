"""asyncssh has no bound for the packets of a server."""

import asyncio
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import asyncssh
import pytest
from asyncssh import SFTPBadMessage, connection, sftp
from asyncssh.constants import (
    FXP_ATTRS,
    FXP_DATA,
    FXP_HANDLE,
    FXP_NAME,
    FXP_STATUS,
    FXP_VERSION,
    MSG_IGNORE,
)
from asyncssh.packet import SSHPacket, String, UInt32

from counterfoil._upstream import asyncssh_packets
from counterfoil._upstream.asyncssh_packets import (
    BULK_BYTES,
    MAX_LOGIN_PACKETS,
    MAX_NAMES,
    MAX_PACKET_BYTES,
    MAX_USELESS_PACKETS,
    MAX_VERSION_BYTES,
    PROCESS_HANDLE,
    PROCESS_NAME,
    READ,
    RECEIVE_PACKET,
    TURN_SECONDS,
    USELESS_FOR_EACH,
    USELESS_PER_SECOND,
    bound_packets,
)

NAME = String(b"") + String(b"") + UInt32(0)
EXTENDED = UInt32(0x80000000)


def a_handler() -> Any:
    logger = SimpleNamespace(debug1=logging.getLogger(__name__).debug)
    return cast(
        "sftp.SFTPClientHandler", SimpleNamespace(_version=3, _utf8_decode_errors="strict", logger=logger)
    )


def names(count: int) -> SSHPacket:
    return SSHPacket(UInt32(count) + NAME * count)


def processed(kind: int, packet: SSHPacket) -> Any:
    bound_packets()
    return sftp.SFTPClientHandler._packet_handlers[kind](a_handler(), packet)


def test_asyncssh_still_takes_any_number_of_names() -> None:
    # An error: bound_packets can go.
    found, _ = PROCESS_NAME(a_handler(), names(10 * MAX_NAMES))
    assert len(found) == 10 * MAX_NAMES


def test_a_packet_has_as_many_names_as_servers_send() -> None:
    found, _ = processed(FXP_NAME, names(MAX_NAMES))
    assert len(found) == MAX_NAMES


@pytest.mark.parametrize("count", [MAX_NAMES + 1, 349_000])
def test_a_packet_with_too_many_names_is_refused(count: int) -> None:
    with pytest.raises(SFTPBadMessage):
        processed(FXP_NAME, names(count))


@pytest.mark.parametrize(
    ("kind", "head"),
    [(FXP_ATTRS, b""), (FXP_NAME, UInt32(1) + String(b"") + String(b""))],
    ids=["attributes of one file", "attributes of a name"],
)
def test_a_packet_with_too_many_attributes_is_refused(kind: int, head: bytes) -> None:
    count = MAX_PACKET_BYTES // 8
    packet = SSHPacket(head + EXTENDED + UInt32(count) + (String(b"") * 2) * count)
    with pytest.raises(SFTPBadMessage, match="too long"):
        processed(kind, packet)


def test_asyncssh_still_takes_a_handle_of_any_size() -> None:
    assert len(PROCESS_HANDLE(a_handler(), SSHPacket(String(bytes(MAX_PACKET_BYTES))))) == MAX_PACKET_BYTES


def test_a_handle_is_as_long_as_the_protocol_allows() -> None:
    assert processed(FXP_HANDLE, SSHPacket(String(bytes(256)))) == bytes(256)
    with pytest.raises(SFTPBadMessage, match="too long"):
        processed(FXP_HANDLE, SSHPacket(String(bytes(257))))


@pytest.mark.parametrize("kind", [FXP_ATTRS, FXP_DATA, FXP_HANDLE, FXP_NAME, FXP_STATUS])
def test_a_packet_that_is_cut_is_an_error_of_the_server(kind: int) -> None:
    with pytest.raises(SFTPBadMessage):
        processed(kind, SSHPacket(b"\0" if kind == FXP_STATUS else UInt32(1)))


class Open(asyncssh.SSHServer):
    """Lets everybody in."""

    def begin_auth(self, username: str) -> bool:
        return False


class Server(Open):
    """Lets everybody in, and sends packets without content after the login and a packet to an SFTP client."""

    def __init__(self, useless: int, kind: tuple[Any, ...], first: bytes) -> None:
        self._useless, self._kind, self._first = useless, kind, first
        self._connection: Any = None

    def connection_made(self, conn: Any) -> None:
        self._connection = conn

    def auth_completed(self) -> None:
        for _ in range(self._useless):
            self._connection.send_packet(*self._kind)

    def session_requested(self) -> Any:
        first = self._first

        class Session(asyncssh.SSHServerSession[bytes]):
            def connection_made(self, chan: Any) -> None:
                self._channel = chan

            def subsystem_requested(self, subsystem: str) -> bool:
                return True

            def session_started(self) -> None:
                self._channel.write(first)

        return Session()


class Client(asyncssh.SSHClient):
    """Notes why its connection ended."""

    def __init__(self) -> None:
        self.lost: Exception | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = exc


async def opened(port: int) -> str:
    """Connect and open SFTP; return the error, or an empty text."""
    client = Client()
    try:
        async with asyncio.timeout(20):
            ssh = await asyncssh.connect(
                "127.0.0.1", port, client_factory=lambda: client, known_hosts=None, config=None, username="a"
            )
            async with ssh:
                await ssh.start_sftp_client()
    except (asyncssh.Error, OSError) as error:
        return str(client.lost or error)
    return ""


IGNORE = (MSG_IGNORE, String(b""))
UNKNOWN = (191,)


async def opened_with(*, useless: int = 0, kind: tuple[Any, ...] = IGNORE, extensions: int = 0) -> str:
    bound_packets()
    body = bytes([FXP_VERSION]) + UInt32(3) + (String(b"") * 2) * extensions
    server = await asyncssh.create_server(
        lambda: Server(useless, kind, String(body)),
        "127.0.0.1",
        0,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        encoding=None,
    )
    try:
        return await opened(server.get_port())
    finally:
        server.close()


async def test_a_server_may_name_some_extensions_and_send_some_packets_without_content() -> None:
    assert not await opened_with(useless=MAX_USELESS_PACKETS - 100, extensions=100)


async def test_an_sftp_server_with_too_many_extensions_is_refused() -> None:
    assert "length of a packet" in await opened_with(extensions=MAX_VERSION_BYTES // 8)


@pytest.mark.parametrize(
    "kind",
    [
        IGNORE,
        UNKNOWN,
    ],
    ids=["ignored", "unknown"],
)
async def test_a_connection_with_too_many_packets_without_content_ends(
    kind: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncssh_packets, "MAX_USELESS_PACKETS", 1_000)
    assert "without content" in await opened_with(useless=2_000, kind=kind)


async def test_a_server_may_send_a_packet_without_content_before_each_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # asyncssh does, as a server, too. So does mod_sftp of ProFTPD.
    bound_packets()
    monkeypatch.setattr(asyncssh_packets, "MAX_USELESS_PACKETS", 100)
    server = await asyncssh.create_server(
        Open,
        "127.0.0.1",
        0,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        sftp_factory=lambda chan: asyncssh.SFTPServer(chan, chroot=bytes(tmp_path)),
        gss_host=None,
    )
    try:
        async with asyncssh.connect(
            "127.0.0.1", server.get_port(), known_hosts=None, config=None, username="a"
        ) as ssh:
            async with ssh.start_sftp_client() as client:
                for _ in range(300):
                    await client.stat("/")
            received = asyncssh_packets._received[ssh]
    finally:
        server.close()
    assert received.packets - received.with_content > 200


@pytest.mark.parametrize(
    ("seconds", "with_content", "useless", "is_flood"),
    [
        (0, 0, MAX_USELESS_PACKETS, False),
        (0, 0, MAX_USELESS_PACKETS + 1, True),
        (7 * 86_400, 0, 7 * 86_400 * USELESS_PER_SECOND, False),
        (60, 0, MAX_USELESS_PACKETS + 60 * USELESS_PER_SECOND + 1, True),
        (0, 1_000_000, 1_000_000 * USELESS_FOR_EACH, False),
    ],
    ids=["some", "too many", "a week", "a minute", "before each other"],
)
def test_a_connection_may_last_as_long_as_its_server_sends_few_packets_without_content(
    seconds: float, with_content: int, useless: int, is_flood: bool
) -> None:
    received = asyncssh_packets._Received(100.0, packets=with_content + useless, with_content=with_content)
    assert received.is_flood(100.0 + seconds) is is_flood


@pytest.mark.parametrize(
    ("size", "pause"), [(0, 2 * TURN_SECONDS), (60, 2 * TURN_SECONDS), (BULK_BYTES, 0.0)]
)
def test_only_small_packets_make_a_connection_pause(size: int, pause: float) -> None:
    received = asyncssh_packets._Received(
        0.0, turn_seconds=2 * TURN_SECONDS, turn_packets=30, turn_bytes=30 * size
    )
    assert received.end_turn() == pause
    assert (received.turn_seconds, received.turn_packets, received.turn_bytes) == (0.0, 0, 0)


class Scene:
    """A connection to a server that sends packets without content before its host key."""

    def __init__(self, *, bounded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        bound_packets()
        self.at_most = 0
        """The most packets that were processed between two turns of another task."""
        self.all_at_once = asyncio.Event()
        self._since_turn = 0
        process = connection.SSHConnection._recv_packet if bounded else RECEIVE_PACKET

        def counted(ssh: connection.SSHConnection) -> bool:
            self._since_turn += 1
            self.at_most = max(self.at_most, self._since_turn)
            if self.at_most == MAX_LOGIN_PACKETS:
                self.all_at_once.set()
            return process(ssh)

        monkeypatch.setattr(connection.SSHConnection, "_recv_packet", counted)

    async def connect(self, packets: int) -> str:
        ignored = UInt32(12) + bytes([6, MSG_IGNORE]) + UInt32(0) + bytes(6)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"SSH-2.0-x\r\n" + ignored * packets)
            await reader.read()

        async def count() -> None:
            while True:
                await asyncio.sleep(0)
                self._since_turn = 0

        counter = asyncio.create_task(count())
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            end = await asyncio.wait_for(opened(server.sockets[0].getsockname()[1]), timeout=20)
        counter.cancel()
        return end


async def test_other_tasks_run_between_small_packets_and_a_flood_before_the_login_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(asyncssh_packets, "TURN_SECONDS", 0.0)
    scene = Scene(bounded=True, monkeypatch=monkeypatch)
    assert "before the end of the login" in await scene.connect(MAX_LOGIN_PACKETS + 10)
    assert scene.at_most == 1


async def test_asyncssh_still_processes_all_packets_of_a_read_in_one_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Fewer: the pauses of bound_packets can go.
    scene = Scene(bounded=False, monkeypatch=monkeypatch)
    connecting = asyncio.create_task(scene.connect(MAX_LOGIN_PACKETS))
    await asyncio.wait_for(scene.all_at_once.wait(), timeout=20)
    connecting.cancel()


def a_reader(data: bytes) -> Any:
    """Return a handler whose server answers each request with this data."""

    async def request(*_: object) -> tuple[bytes, bool]:
        return data, False

    return cast("sftp.SFTPClientHandler", SimpleNamespace(_make_request=request, logger=a_handler().logger))


async def test_asyncssh_still_takes_more_data_than_it_requested() -> None:
    # An error: the bound of data can go.
    assert await READ(a_reader(bytes(17)), b"1", 0, 16) == (bytes(17), False)


async def test_as_much_data_as_were_requested_are_taken_and_more_are_refused() -> None:
    bound_packets()
    for length in (0, 15, 16):
        data, _ = await sftp.SFTPClientHandler.read(a_reader(bytes(length)), b"1", 0, 16)
        assert len(data) == length
    with pytest.raises(SFTPBadMessage, match="more data"):
        await sftp.SFTPClientHandler.read(a_reader(bytes(17)), b"1", 0, 16)
