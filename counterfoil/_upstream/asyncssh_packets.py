"""
asyncssh: decodes all that an SFTP packet holds in one step, before its caller sees the first entry.

A packet of 4 MiB has 349,000 names, which hold the event loop for four seconds and take 140 MiB, or 524,000
attributes of one file. Upstream: https://github.com/ronf/asyncssh/blob/v2.24.1/asyncssh/sftp.py
(``SFTPClientHandler._process_name``), no issue yet. Versions: asyncssh up to 2.24.1.
"""

from collections.abc import Callable
from typing import Any, Final

from asyncssh import SFTPBadMessage, sftp
from asyncssh.constants import FXP_ATTRS, FXP_NAME
from asyncssh.packet import SSHPacket, UInt32

MAX_NAMES: Final = 2_000
"""Names of one packet; servers send some hundred."""

MAX_PACKET_BYTES: Final = 256 * 1024
"""Bytes of one packet with names or attributes, as OpenSSH has it."""

Process = Callable[[sftp.SFTPClientHandler, SSHPacket], Any]

PROCESS_NAME = sftp.SFTPClientHandler._process_name
"""The method of asyncssh for names."""


def bound_packets() -> None:
    """Refuse packets that hold the event loop, for all connections of the process."""
    handlers: dict[int, Process] = vars(sftp.SFTPClientHandler)["_packet_handlers"]
    handlers[FXP_NAME] = _bounded(PROCESS_NAME, MAX_NAMES)
    handlers[FXP_ATTRS] = _bounded(sftp.SFTPClientHandler._process_attrs, None)


def _bounded(process: Process, most: int | None) -> Process:
    def checked(handler: sftp.SFTPClientHandler, packet: SSHPacket) -> Any:
        rest = packet.get_remaining_payload()
        if len(rest) > MAX_PACKET_BYTES:
            raise SFTPBadMessage("a packet with names or attributes is too long")
        if most is not None and rest[:4] > UInt32(most):
            raise SFTPBadMessage("a packet has too many names")
        return process(handler, packet)

    return checked
