"""S17: lead eSAW or an archive to the pod itself, its node or the metadata service of a cloud."""

import ipaddress
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest

from counterfoil.archives.errors import ArchiveError
from counterfoil.esaw import EsawClient, EsawUnreachable, new_http_client
from counterfoil.resources.archive_kinds import KINDS as ARCHIVE_KINDS
from counterfoil.untrusted.addresses import ALLOWED, NO_LOOPBACK, Addresses
from tests.support.archive_servers import KINDS, KINDS_WITHOUT_SERVER, open_at
from tests.support.builders import AClock
from tests.support.servers.scripted_esaw import ScriptedServer, answering, running, then_closing

LINK_LOCAL: Final = "169.254.99.99"
"""Of the network in which clouds have their metadata services."""


class Rebinding:
    """A name in DNS with another address at each look-up; the last one stays."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses
        self.asked = 0

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return (self._addresses[min(self.asked, len(self._addresses)) - 1],)


def port_of(server: ScriptedServer) -> int:
    return int(server.url.rpartition(":")[2])


async def problem_of_archive(kind: str, host: str, port: int = 80) -> ArchiveError:
    backend = await open_at(kind, f"http://{host}:{port}")
    try:
        with pytest.raises(ArchiveError) as found:
            await anext(backend.read("a/b.pdf"))
    finally:
        await backend.close()
    return found.value


async def problem_of_esaw(url: str) -> EsawUnreachable:
    async with new_http_client() as http:
        client = EsawClient(url, http=http, clock=AClock(), observe=lambda *_: None)
        with pytest.raises(EsawUnreachable) as found:
            await client.version()
    return found.value


def test_every_kind_of_archive_that_has_a_server_is_tried() -> None:
    assert {*KINDS, *KINDS_WITHOUT_SERVER} == {*ARCHIVE_KINDS}


@pytest.mark.parametrize("kind", KINDS)
async def test_no_archive_leads_to_the_metadata_service_of_a_cloud(kind: str) -> None:
    problem = await problem_of_archive(kind, LINK_LOCAL)
    assert problem.reason == "ArchiveAddressForbidden"


async def test_no_organization_leads_to_the_metadata_service_of_a_cloud() -> None:
    assert (await problem_of_esaw(f"http://{LINK_LOCAL}")).kind == "forbidden"


@pytest.mark.parametrize("kind", KINDS)
async def test_no_archive_leads_to_the_ports_of_the_pod(kind: str) -> None:
    ALLOWED.set(NO_LOOPBACK)
    async with running(answering(b"", 200)) as pod:
        problem = await problem_of_archive(kind, "127.0.0.1", port_of(pod))
    assert problem.reason == "ArchiveAddressForbidden"
    assert pod.connections == 0


async def test_no_organization_leads_to_the_ports_of_the_pod() -> None:
    ALLOWED.set(NO_LOOPBACK)
    async with running(answering(b'"1"', 200)) as pod:
        assert (await problem_of_esaw(pod.url)).kind == "forbidden"
    assert pod.connections == 0


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", LINK_LOCAL, "::ffff:169.254.169.254"])
@pytest.mark.parametrize("kind", KINDS)
async def test_no_name_of_an_archive_leads_there(kind: str, address: str) -> None:
    ALLOWED.set(Addresses(allows_loopback=True, resolve=Rebinding(address).resolve))
    async with running(answering(b"", 200)) as pod:
        problem = await problem_of_archive(kind, "dms.example", port_of(pod))
    assert problem.reason == "ArchiveAddressForbidden"
    assert pod.connections == 0


HERE: Final = {
    "node": Addresses(allows_loopback=True, node=frozenset({ipaddress.ip_address("203.0.113.9")})),
    "pod": Addresses(allows_loopback=True, is_own=lambda ip: str(ip) == "203.0.113.9"),
}
SPELLINGS: Final = ("203.0.113.9", "::ffff:203.0.113.9", "64:ff9b::203.0.113.9")


@pytest.mark.parametrize("address", SPELLINGS)
@pytest.mark.parametrize("place", HERE)
@pytest.mark.parametrize("kind", KINDS)
async def test_no_archive_leads_to_an_address_of_the_pod_or_its_node(
    kind: str, place: str, address: str
) -> None:
    ALLOWED.set(replace(HERE[place], resolve=Rebinding(address).resolve))
    named = await problem_of_archive(kind, "dms.example")
    literal = await problem_of_archive(kind, "203.0.113.9")
    assert {named.reason, literal.reason} == {"ArchiveAddressForbidden"}


@pytest.mark.parametrize("address", SPELLINGS)
@pytest.mark.parametrize("place", HERE)
async def test_no_organization_leads_to_an_address_of_the_pod_or_its_node(place: str, address: str) -> None:
    ALLOWED.set(replace(HERE[place], resolve=Rebinding(address).resolve))
    for host in ("esaw.example", "203.0.113.9"):
        assert (await problem_of_esaw(f"http://{host}")).kind == "forbidden"


async def test_a_name_that_changes_between_two_connections_leads_nowhere_else() -> None:
    dns = Rebinding("127.0.0.1", LINK_LOCAL)
    ALLOWED.set(Addresses(allows_loopback=True, resolve=dns.resolve))
    async with running(then_closing(answering(b'"1"', 200))) as esaw, new_http_client() as http:
        url = esaw.url.replace("127.0.0.1", "localhost")
        client = EsawClient(url, http=http, clock=AClock(), observe=lambda *_: None)
        assert await client.version() == "1"
        with pytest.raises(EsawUnreachable) as found:
            await client.version()
    assert found.value.kind == "forbidden"
    assert (dns.asked, esaw.connections) == (2, 1)


async def test_a_proxy_gets_no_request_for_such_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(answering(b'"1"', 200)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        assert (await problem_of_esaw(f"http://{LINK_LOCAL}")).kind == "forbidden"
        problem = await problem_of_archive("webdav", LINK_LOCAL)
    assert problem.reason == "ArchiveAddressForbidden"
    assert proxy.connections == 0
