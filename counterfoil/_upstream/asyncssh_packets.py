"""
asyncssh: no bound for the packets of a server, neither of SSH nor of SFTP.

**SFTP.** It decodes all that a packet holds in one step, before its caller sees the first entry.
A packet of 4 MiB has 349,000 names, which hold the event loop for four seconds and take 140 MiB, or 524,000
attributes of one file. A handle of 4 MiB goes back with each of up to 128 requests that run at once. Each of
64 requests for 16 KiB takes an answer with 4 MiB of data. A packet that is cut is a ``ValueError``.
Upstream: https://github.com/ronf/asyncssh/blob/v2.24.1/asyncssh/sftp.py (``_process_name`` and ``read`` of
``SFTPClientHandler``, ``SFTPHandler.recv_packet``), no issue yet. Versions: asyncssh up to 2.24.1.

**SSH.** It processes all packets of a read in one step, and copies the rest of the read for each. A read of
256 KiB has 16,000 packets of 16 bytes, which hold the event loop for a second, also before the server has
shown its host key. Upstream: https://github.com/ronf/asyncssh/blob/v2.24.1/asyncssh/connection.py
(``SSHConnection._recv_data``), no issue yet. Versions: asyncssh up to 2.24.1.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast
from weakref import WeakKeyDictionary

import asyncssh
from asyncssh import ProtocolError, SFTPBadMessage, connection, sftp
from asyncssh.channel import SSHChannel
from asyncssh.constants import (
    FXP_ATTRS,
    FXP_DATA,
    FXP_HANDLE,
    FXP_NAME,
    FXP_STATUS,
    MSG_CHANNEL_DATA,
)
from asyncssh.packet import PacketDecodeError, SSHPacket, UInt32

MAX_NAMES: Final = 2_000
"""Names of one packet; servers send some hundred."""

MAX_PACKET_BYTES: Final = 256 * 1024
"""Bytes of one SFTP packet, as OpenSSH has it; one with data may have as many as were asked for."""

MAX_VERSION_BYTES: Final = 16 * 1024
"""Bytes of the first SFTP packet, which names the extensions."""

MAX_HANDLE_BYTES: Final = 4 + 256
"""Bytes of one packet with the handle of a file. (draft-ietf-secsh-filexfer-02, 6.2)"""

TURN_SECONDS: Final = 0.001
"""Seconds of work on the SSH packets of a connection after which other tasks run."""

BULK_BYTES: Final = 1024
"""Data of the files in each SSH packet, on average, from which a connection is read without a pause."""

MAX_LOGIN_PACKETS: Final = 200
"""SSH packets until the end of the login."""

MAX_USELESS_PACKETS: Final = 10_000
"""SSH packets of a connection without content, beyond ``USELESS_FOR_EACH`` for each other packet and
``USELESS_PER_SECOND``."""

USELESS_FOR_EACH: Final = 4
"""SSH packets without content for each one that has some. Some servers hide the sizes of their packets by one
before each."""

USELESS_PER_SECOND: Final = 1
"""SSH packets without content in a second. Servers ask every few seconds whether the client is still
there."""

CONTENT_BYTES: Final = 16
"""Data that a packet with content has; an answer of SFTP has more."""

Process = Callable[[sftp.SFTPClientHandler, SSHPacket], Any]

PROCESS_NAME = sftp.SFTPClientHandler._process_name
"""The method of asyncssh for names."""

PROCESS_HANDLE = sftp.SFTPClientHandler._process_handle
"""The method of asyncssh for handles."""


RECEIVE_PACKET = connection.SSHConnection._recv_packet
"""The method of asyncssh for SSH packets."""

PROCESS_DATA = SSHChannel._packet_handlers[MSG_CHANNEL_DATA]
"""The method of asyncssh for the data of a channel."""

READ = sftp.SFTPClientHandler.read
"""The method of asyncssh that requests data."""


def bound_packets() -> None:
    """Refuse packets that hold the event loop or fill the memory, for all connections of the process."""
    handlers: dict[int, Process] = vars(sftp.SFTPClientHandler)["_packet_handlers"]
    handlers[FXP_NAME] = _bounded(PROCESS_NAME, MAX_PACKET_BYTES, MAX_NAMES)
    handlers[FXP_ATTRS] = _bounded(sftp.SFTPClientHandler._process_attrs, MAX_PACKET_BYTES)
    handlers[FXP_HANDLE] = _bounded(PROCESS_HANDLE, MAX_HANDLE_BYTES)
    handlers[FXP_STATUS] = _bounded(sftp.SFTPClientHandler._process_status, MAX_PACKET_BYTES)
    handlers[FXP_DATA] = _bounded(sftp.SFTPClientHandler._process_data, sftp.MAX_SFTP_PACKET_LEN)
    # mypy forbids another type under the name of a method.
    setattr(sftp.SFTPClientHandler, "read", _read)  # noqa: B010
    setattr(sftp.SFTPClientHandler, "recv_packet", _receive_sftp_packet)  # noqa: B010
    setattr(connection.SSHConnection, "_recv_packet", _receive_packet)  # noqa: B010
    SSHChannel._packet_handlers[MSG_CHANNEL_DATA] = _process_data


async def _receive_sftp_packet(handler: sftp.SFTPClientHandler) -> SSHPacket:
    reader = cast("asyncssh.SSHReader[bytes]", handler._reader)
    head = await reader.readexactly(5)
    length = int.from_bytes(head[:4])
    is_first = handler._next_pktid == 0
    longest = MAX_VERSION_BYTES if is_first else MAX_PACKET_BYTES
    if length > (sftp.MAX_SFTP_PACKET_LEN if head[4] == FXP_DATA else longest) or not length:
        raise SFTPBadMessage("the length of a packet is wrong")
    return SSHPacket(head[4:] + await reader.readexactly(length - 1))


@dataclass
class _Received:
    """The packets of a connection, and the work on them since other tasks ran."""

    since: float
    """Time of the first packet."""
    packets: int = 0
    with_content: int = 0
    turn_seconds: float = 0.0
    turn_packets: int = 0
    turn_bytes: int = 0

    def is_flood(self, now: float) -> bool:
        """Whether too many packets had no content."""
        free = MAX_USELESS_PACKETS + USELESS_PER_SECOND * (now - self.since)
        return self.packets - self.with_content > free + USELESS_FOR_EACH * self.with_content

    def end_turn(self) -> float:
        """Begin another turn; return the seconds for which nothing is read. Small packets have the loop for
        half of the time at most."""
        pause = 0.0 if self.turn_bytes >= BULK_BYTES * self.turn_packets else self.turn_seconds
        self.turn_seconds, self.turn_packets, self.turn_bytes = 0.0, 0, 0
        return pause


_received: WeakKeyDictionary[connection.SSHConnection, _Received] = WeakKeyDictionary()


def _received_by(ssh: connection.SSHConnection) -> _Received:
    received = _received.get(ssh)
    if received is None:
        received = _received[ssh] = _Received(ssh._loop.time())
    return received


def _process_data(channel: SSHChannel[bytes], kind: int, number: int, packet: SSHPacket) -> Any:
    size = len(packet.get_remaining_payload())
    if channel._conn is not None and size >= CONTENT_BYTES:
        received = _received_by(channel._conn)
        received.with_content += 1
        received.turn_bytes += size
    return PROCESS_DATA(channel, kind, number, packet)


def _receive_packet(ssh: connection.SSHConnection) -> bool:
    """Process a packet; False ends the loop of asyncssh, which continues in another turn of the loop."""
    received, began, size = _received_by(ssh), ssh._loop.time(), len(ssh._inpbuf)
    has_more = RECEIVE_PACKET(ssh)
    if len(ssh._inpbuf) == size and not has_more:
        # The rest of the packet has not come yet.
        return False
    now, transport = ssh._loop.time(), ssh._transport
    received.packets += 1
    received.turn_packets += 1
    received.turn_seconds += now - began
    if received.packets > MAX_LOGIN_PACKETS and not ssh._auth_complete:
        raise ProtocolError("too many packets before the end of the login")
    if received.is_flood(now):
        raise ProtocolError("too many packets without content")
    if received.turn_seconds < TURN_SECONDS or transport is None:
        return has_more
    transport.pause_reading()
    ssh._loop.call_later(received.end_turn(), _continue, ssh, transport)
    return False


def _continue(ssh: connection.SSHConnection, transport: asyncio.Transport) -> None:
    if ssh._transport is transport:
        transport.resume_reading()
        ssh._recv_data()


async def _read(
    handler: sftp.SFTPClientHandler, handle: bytes, offset: int, length: int
) -> tuple[bytes, bool]:
    data, at_end = await READ(handler, handle, offset, length)
    if len(data) > length:
        raise SFTPBadMessage("an answer has more data than were requested")
    return data, at_end


def _bounded(process: Process, longest: int, most: int | None = None) -> Process:
    def checked(handler: sftp.SFTPClientHandler, packet: SSHPacket) -> Any:
        rest = packet.get_remaining_payload()
        if len(rest) > longest:
            raise SFTPBadMessage("a packet is too long")
        if most is not None and rest[:4] > UInt32(most):
            raise SFTPBadMessage("a packet has too many names")
        try:
            return process(handler, packet)
        except PacketDecodeError as error:
            raise SFTPBadMessage(f"{error}") from error

    return checked
