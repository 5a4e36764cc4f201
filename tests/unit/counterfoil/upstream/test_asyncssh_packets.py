"""asyncssh decodes all names and attributes of a packet at once, without a bound."""

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest
from asyncssh import SFTPBadMessage, sftp
from asyncssh.constants import FXP_ATTRS, FXP_HANDLE, FXP_NAME
from asyncssh.packet import SSHPacket, String, UInt32

from counterfoil._upstream.asyncssh_packets import (
    MAX_NAMES,
    MAX_PACKET_BYTES,
    PROCESS_HANDLE,
    PROCESS_NAME,
    bound_packets,
)

NAME = String(b"") + String(b"") + UInt32(0)
EXTENDED = UInt32(0x80000000)


def a_handler() -> Any:
    logger = SimpleNamespace(debug1=logging.getLogger(__name__).debug)
    return cast("sftp.SFTPClientHandler", SimpleNamespace(_version=3, logger=logger))


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


@pytest.mark.parametrize("kind", [FXP_ATTRS, FXP_HANDLE, FXP_NAME])
def test_a_packet_that_is_cut_is_an_error_of_the_server(kind: int) -> None:
    with pytest.raises(SFTPBadMessage):
        processed(kind, SSHPacket(UInt32(1)))
