"""
asyncssh: decodes all that an SFTP packet holds in one step, before its caller sees the first entry.

A packet of 4 MiB has 349,000 names, which hold the event loop for four seconds and take 140 MiB, or 524,000
attributes of one file. A handle of 4 MiB goes back with each of up to 128 requests that run at once. A packet
that is cut is a ``ValueError``. Upstream: https://github.com/ronf/asyncssh/blob/v2.24.1/asyncssh/sftp.py
(``SFTPClientHandler._process_name``), no issue yet. Versions: asyncssh up to 2.24.1.
"""

from collections.abc import Callable
from typing import Any, Final

from asyncssh import SFTPBadMessage, sftp
from asyncssh.constants import FXP_ATTRS, FXP_HANDLE, FXP_NAME
from asyncssh.packet import PacketDecodeError, SSHPacket, UInt32

MAX_NAMES: Final = 2_000
"""Names of one packet; servers send some hundred."""

MAX_PACKET_BYTES: Final = 256 * 1024
"""Bytes of one packet with names or attributes, as OpenSSH has it."""

MAX_HANDLE_BYTES: Final = 4 + 256
"""Bytes of one packet with the handle of a file. (draft-ietf-secsh-filexfer-02, 6.2)"""

Process = Callable[[sftp.SFTPClientHandler, SSHPacket], Any]

PROCESS_NAME = sftp.SFTPClientHandler._process_name
"""The method of asyncssh for names."""

PROCESS_HANDLE = sftp.SFTPClientHandler._process_handle
"""The method of asyncssh for handles."""


def bound_packets() -> None:
    """Refuse packets that hold the event loop or fill the memory, for all connections of the process."""
    handlers: dict[int, Process] = vars(sftp.SFTPClientHandler)["_packet_handlers"]
    handlers[FXP_NAME] = _bounded(PROCESS_NAME, MAX_PACKET_BYTES, MAX_NAMES)
    handlers[FXP_ATTRS] = _bounded(sftp.SFTPClientHandler._process_attrs, MAX_PACKET_BYTES)
    handlers[FXP_HANDLE] = _bounded(PROCESS_HANDLE, MAX_HANDLE_BYTES)


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
