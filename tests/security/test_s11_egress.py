"""S11: the NetworkPolicies open more destinations than a process needs."""

import ipaddress
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from release.helm import CHART, Helm, HelmError, helm
from sandbox.controlplane.control_plane import ControlPlane
from tests.support.scenes.chart import NAMESPACE, RELEASE, WITH_CLUSTER, Rendered, render, with_image

INTERNET = ("1.1.1.1", "203.0.113.7", "8.8.8.8", "2606:4700::1111")
PRIVATE = ("10.0.0.7", "100.64.3.4", "172.16.0.1", "172.31.255.254", "192.168.1.1", "fd12::1")
LINK_LOCAL = ("169.254.169.254", "169.254.170.23", "fe80::1")
API_SERVER_PORTS = {6443}


@pytest.fixture(scope="module", name="program")
async def _program(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return await helm(tmp_path_factory.mktemp("helm"))


def egress(rendered: Rendered, process: str) -> list[dict[str, Any]]:
    """Return the rules of a process, but that of the name servers."""
    rules = rendered.one("NetworkPolicy", f"{RELEASE}-{process}")["spec"]["egress"]
    return [each for each in rules if {port["port"] for port in each["ports"]} != {53}]


def reached(rules: list[dict[str, Any]], address: str) -> set[int]:
    """Return the ports at which an address is reached."""
    return {
        port["port"]
        for rule in rules
        if "to" not in rule or any(_has(block, address) for block in _blocks(rule))
        for port in rule["ports"]
    }


def _blocks(rule: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer)


def _has(block: dict[str, Any], address: str) -> bool:
    def is_in(network: str) -> bool:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network)

    return is_in(block["cidr"]) and not any(map(is_in, block.get("except", ())))


@pytest.mark.parametrize("process", ["receiver", "console"])
async def test_receiver_and_console_reach_no_address_of_the_internet(program: Helm, process: str) -> None:
    rules = egress(await render(program), process)
    for address in (*INTERNET, *LINK_LOCAL):
        assert reached(rules, address) == set(), address
    for address in PRIVATE:
        assert reached(rules, address) == API_SERVER_PORTS, address


@pytest.mark.parametrize("job", ["create-sealing-key", "first-quota"])
async def test_no_job_reaches_an_address_of_the_internet(program: Helm, job: str) -> None:
    rendered = await render(program)
    rules = egress(rendered, job)
    selected = rendered.one("NetworkPolicy", f"{RELEASE}-{job}")["spec"]["podSelector"]["matchLabels"]
    (pod,) = (
        each["spec"]["template"]["metadata"]["labels"]
        for each in rendered.all("Job")
        if each["metadata"]["name"].startswith(f"{RELEASE}-{job}")
    )
    assert selected.items() <= pod.items()
    for address in (*INTERNET, *LINK_LOCAL):
        assert reached(rules, address) == set(), address
    for address in PRIVATE:
        assert reached(rules, address) == API_SERVER_PORTS, address


@pytest.mark.parametrize(
    "process", ["receiver", "console", "pages", "controller", "create-sealing-key", "first-quota"]
)
async def test_a_named_api_server_is_the_only_one(program: Helm, process: str) -> None:
    named = [{"ipBlock": {"cidr": "203.0.113.7/32"}}]
    rendered = await render(
        program, {"networkPolicy": {"egress": {"apiServer": {"to": named, "ports": [6443]}}}}
    )
    rules = egress(rendered, process)
    assert 6443 in reached(rules, "203.0.113.7")
    assert 6443 not in reached(rules, "203.0.113.8") | reached(rules, "10.0.0.7")


MAIL_PORTS = {25, 465, 587}


async def test_esaw_archives_and_webhooks_are_no_way_into_the_network_by_default(program: Helm) -> None:
    rendered = await render(program)
    pages, controller = egress(rendered, "pages"), egress(rendered, "controller")
    for address in INTERNET:
        assert reached(pages, address) == {443}
        assert reached(controller, address) == {443, 22} | MAIL_PORTS
    for address in PRIVATE:
        assert reached(pages, address) == API_SERVER_PORTS, address
        assert reached(controller, address) == API_SERVER_PORTS | MAIL_PORTS, address


async def test_with_a_named_api_server_pages_reach_nothing_else_of_the_network(program: Helm) -> None:
    named = [{"ipBlock": {"cidr": "10.9.0.1/32"}}]
    values = {"networkPolicy": {"egress": {"apiServer": {"to": named, "ports": [443]}}}}
    rendered = await render(program, values)
    for address in PRIVATE:
        assert reached(egress(rendered, "pages"), address) == set()
        assert reached(egress(rendered, "controller"), address) == MAIL_PORTS


async def test_an_archive_in_the_own_network_is_reached_if_it_is_listed(program: Helm) -> None:
    own = [{"ipBlock": {"cidr": "10.3.0.0/16"}}]
    rendered = await render(program, {"networkPolicy": {"egress": {"archives": {"to": own}}}})
    controller = egress(rendered, "controller")
    assert 22 in reached(controller, "10.3.0.7")
    assert 22 not in reached(controller, "10.4.0.7")


async def test_only_the_controller_reaches_where_clouds_serve_identities_and_only_if_asked(
    program: Helm,
) -> None:
    asked = await render(program, {"networkPolicy": {"egress": {"workloadIdentity": {"enabled": True}}}})
    default = await render(program)
    for process in ("receiver", "console", "pages", "controller"):
        for address in LINK_LOCAL:
            assert reached(egress(default, process), address) == set()
    for address in ("169.254.169.254", "169.254.170.23"):
        assert reached(egress(asked, "controller"), address) == {80, 988}
        assert reached(egress(asked, "pages"), address) == set()
    assert reached(egress(asked, "controller"), "169.254.0.1") == set()


async def test_a_public_api_server_that_no_value_names_stops_the_installation(
    plane: ControlPlane, tmp_path: Path
) -> None:
    # The API server of the tests publishes no address, since it has one of loopback.
    addresses = {"IPv4": "198.51.100.7", "IPv6": "2001:db8::7"}
    slices = [
        {
            "ports": [{"name": "https", "port": 6443, "protocol": "TCP"}],
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{service}-{family.lower()}",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": family,
            "endpoints": [{"addresses": [address if service == "kubernetes" else f"{address}7"]}],
        }
        for service in ("kubernetes", "other")
        for family, address in addresses.items()
    ]
    published = json.dumps({"apiVersion": "v1", "kind": "List", "items": slices})
    program = await helm(tmp_path / "helm", kubeconfig=plane.kubeconfig)
    template = ("template", RELEASE, CHART, "-n", NAMESPACE, *WITH_CLUSTER)
    values = with_image({"crds": {"enabled": False}})
    await plane.kubectl("apply", "--server-side", "-f", "-", stdin=published)
    try:
        with pytest.raises(HelmError, match="the API server has a public address") as refused:
            await program(*template, values=values)
        (named,) = re.findall(r"--set-json '(networkPolicy\.egress\.apiServer=.*)'", str(refused.value))
        rendered = Rendered(await program(*template, "--set-json", named, values=values))
        await program(*template, values={**values, "networkPolicy": {"enabled": False}})
    finally:
        await plane.kubectl("delete", "-f", "-", stdin=published)
    rules = egress(rendered, "receiver")
    for address in addresses.values():
        assert reached(rules, address) == API_SERVER_PORTS
    for address in (*INTERNET, "198.51.100.77", "2001:db8::77"):
        assert reached(rules, address) == set()


def a_slice(address: str, port: int) -> str:
    """Return the EndpointSlice of an API server at this address."""
    return json.dumps(
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "kubernetes-private",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            },
            "addressType": "IPv6" if ":" in address else "IPv4",
            "endpoints": [{"addresses": [address]}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }
    )


async def rendered_beside(plane: ControlPlane, tmp_path: Path, found: str, *arguments: str) -> Rendered:
    """Render with access to a cluster whose API server publishes this EndpointSlice."""
    program = await helm(tmp_path / "helm", kubeconfig=plane.kubeconfig)
    template = ("template", RELEASE, CHART, "-n", NAMESPACE, *WITH_CLUSTER)
    await plane.kubectl("apply", "--server-side", "-f", "-", stdin=found)
    try:
        values = with_image({"crds": {"enabled": False}})
        return Rendered(await program(*template, *arguments, values=values))
    finally:
        await plane.kubectl("-n", "default", "delete", "endpointslice", "kubernetes-private")


@pytest.mark.parametrize("address", [*PRIVATE, "100.127.255.1", "192.168.255.255", "fc00::1"])
async def test_a_private_api_server_at_its_usual_port_needs_no_value(
    plane: ControlPlane, tmp_path: Path, address: str
) -> None:
    rendered = await rendered_beside(plane, tmp_path, a_slice(address, 6443))
    assert reached(egress(rendered, "receiver"), address) == API_SERVER_PORTS


async def test_an_api_server_at_the_port_of_other_services_has_to_be_named(
    plane: ControlPlane, tmp_path: Path
) -> None:
    found = a_slice("10.0.0.7", 443)
    with pytest.raises(HelmError, match="the API server listens at another port") as refused:
        await rendered_beside(plane, tmp_path, found)
    (named,) = re.findall(r"--set-json '(networkPolicy\.egress\.apiServer=.*)'", str(refused.value))
    rendered = await rendered_beside(plane, tmp_path, found, "--set-json", named)
    assert reached(egress(rendered, "receiver"), "10.0.0.7") == {443}
    assert reached(egress(rendered, "receiver"), "10.0.0.8") == set()
    with pytest.raises(HelmError, match="the API server listens at another port"):
        await rendered_beside(plane, tmp_path, found, "--set-json", named.replace("443", "6443"))
