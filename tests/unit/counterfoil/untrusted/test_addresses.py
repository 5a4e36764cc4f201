"""Which addresses are refused."""

import ipaddress
from collections.abc import Sequence
from pathlib import Path

import pytest

from counterfoil.untrusted.addresses import (
    Addresses,
    AddressForbidden,
    allowed_addresses,
    gateways,
    is_forbidden_address,
    is_own_address,
)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.0.1",
        "169.254.169.254",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fd00:42::42",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "240.0.0.1",
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2002:7f00:1::",
        # NAT64 with a prefix of the network itself (RFC 8215): of /96, /64, /56 and /48 (RFC 6052)
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:0:a9:fea9:fe00:0",
        "64:ff9b:1:a9:fe:a9fe::",
        "64:ff9b:1:a9fe:a9:fe00::",
        # IPv4-compatible and IPv4-translated
        "::169.254.169.254",
        "::127.0.0.1",
        "::ffff:0:169.254.169.254",
        # Teredo: its server, and its client, whose bits are inverted
        "2001:0:a9fe:a9fe::",
        "2001:0:cb00:7107::5601:5601",
    ],
)
def test_addresses_that_nothing_connects_to(address: str) -> None:
    assert is_forbidden_address(address, loopback=False)


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.5",
        "192.168.1.2",
        "203.0.113.7",
        "2001:db8::1",
        "fd12:3456::1",
        # Shared addresses, which clusters give to pods; Python calls them neither private nor global.
        "100.64.0.1",
        "100.127.255.254",
        "64:ff9b::203.0.113.7",
        "64:ff9b:1::203.0.113.7",
        "64:ff9b:1:cb:0:7107::",
        "64:ff9b:1:cb00:71:700::",
        "2002:cb00:7107::1",
        "2001:0:cb00:7107:0:f227:34ff:8ef8",
    ],
)
def test_addresses_of_servers(address: str) -> None:
    assert not is_forbidden_address(address, loopback=False)


def test_loopback_only_where_the_url_names_it() -> None:
    assert not is_forbidden_address("127.0.0.1", loopback=True)
    assert not is_forbidden_address("::1", loopback=True)
    assert is_forbidden_address("169.254.169.254", loopback=True)


@pytest.mark.parametrize(
    ("address", "own"), [("127.0.0.1", True), ("203.0.113.7", False), ("2001:db8::7", False)]
)
def test_an_address_of_the_machine_is_known_from_others(address: str, own: bool) -> None:
    assert is_own_address(ipaddress.ip_address(address)) is own


ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0100F40A\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0000F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
ROUTES_V6 = (
    "fd000010000000000000000000000000 40 00000000000000000000000000000000 00 "
    "00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0\n"
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "fd000010000000000000000000000001 00000400 00000001 00000000 00000003     eth0\n"
)


def test_the_gateways_of_a_pod_are_read_from_its_routes(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(ROUTES)
    (tmp_path / "ipv6_route").write_text(ROUTES_V6)
    assert set(map(str, gateways(tmp_path))) == {"10.244.0.1", "fd00:10::1"}


def test_a_system_without_a_list_of_routes_has_no_known_gateway(tmp_path: Path) -> None:
    assert gateways(tmp_path) == frozenset()


def test_the_node_is_refused_unless_the_setting_allows_it() -> None:
    node = ipaddress.ip_address("198.51.100.9")
    refusing = allowed_addresses([node], allows_loopback=False, allows_node=False)
    allowing = allowed_addresses([node], allows_loopback=False, allows_node=True)
    assert refusing.node == {node} | gateways()
    assert allowing.node == frozenset()
    assert refusing.is_own is allowing.is_own is is_own_address
    with pytest.raises(AddressForbidden):
        refusing.check("dms.example", ["203.0.113.7", "198.51.100.9"])
    allowing.check("dms.example", ["198.51.100.9"])


async def test_loopback_needs_the_setting_and_a_host_that_is_named_so() -> None:
    async def loopback(host: str, port: int) -> Sequence[str]:
        return ("127.0.0.1",)

    allowing = Addresses(allows_loopback=True, resolve=loopback)
    assert await allowing.of("127.0.0.1", 443) == ("127.0.0.1",)
    assert await allowing.of("localhost", 443) == ("127.0.0.1",)
    refusing = Addresses(allows_loopback=False, resolve=loopback)
    for addresses, host in (
        (allowing, "dms.example"),
        (refusing, "localhost"),
        (refusing, "127.0.0.1"),
    ):
        with pytest.raises(AddressForbidden):
            await addresses.of(host, 443)
