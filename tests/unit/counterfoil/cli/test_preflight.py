"""``kubectl counterfoil preflight``: what it finds before an installation, and in one."""

import argparse
import copy
import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from counterfoil import __version__
from counterfoil.cli.plugin.exit_status import ExitStatus
from counterfoil.cli.plugin.installation import preflight
from counterfoil.cli.plugin.installation.preflight import Outcome, PreflightLine
from counterfoil.kube.errors import Forbidden, Unavailable
from counterfoil.kube.watch import Raw
from counterfoil.resources import Archive, Envelope, EnvelopeEvent, Import, Organization, Sender
from counterfoil.resources.lease import Lease
from tests.support.builders import an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.fakes.leases import a_shard_lease
from tests.support.inline_commands import printed_in_manual

ROOT = Path(__file__).parents[4]
ALL = tuple(each.PLURAL for each in (Archive, Envelope, EnvelopeEvent, Import, Organization, Sender))


class ACluster(InMemoryKubeClient):
    """A cluster with a version, CRDs and rights."""

    def __init__(
        self,
        *,
        minor: str = "35",
        served: tuple[str, ...] | None = ALL,
        refused: str = "",
        version: str = "",
        has_cluster: bool = True,
    ) -> None:
        super().__init__()
        self.has_cluster = has_cluster
        """Whether the user has rights beyond the namespace."""
        self.leases: tuple[Lease, ...] | None = None
        """None: they can't be read."""
        self.minor, self.served, self.refused_resource, self.version = minor, served, refused, version

    async def server_version(self) -> Raw:
        """Return the version."""
        return {"major": "1", "minor": self.minor, "gitVersion": f"v1.{self.minor}.0"}

    async def served_resources(self, group: str, version: str) -> Sequence[Raw]:
        """Return the kinds that it has."""
        if self.served is None:
            raise Unavailable(404, "404", "unknown")
        return [{"name": each} for each in self.served]

    async def is_allowed(self, verb: str, resource: str, *, group: str = "") -> bool:
        """Refuse one resource."""
        return resource != self.refused_resource and (bool(self.namespace) or self.has_cluster)

    def in_all_namespaces(self) -> "ACluster":
        """Return the same cluster, without a namespace."""
        everywhere = copy.copy(self)
        everywhere.namespace = ""
        return everywhere

    async def shard_leases(self) -> tuple[Lease, ...]:
        """Return the Leases of the release."""
        if self.leases is None:
            raise Forbidden(403, "Forbidden", "leases is forbidden")
        return self.leases

    async def pods(self, *, labels: str) -> Sequence[Raw]:
        """Return one pod."""
        found = {"app.kubernetes.io/component": "receiver", "app.kubernetes.io/version": self.version}
        ready = {"type": "Ready", "status": "True"}
        receiver = {"metadata": {"name": "r", "labels": found}, "status": {"conditions": [ready]}}
        return [receiver, *self.stored_pods]


async def checked(
    cluster: ACluster, base_url: str | None = None, callback_url: str | None = None
) -> dict[str, PreflightLine]:
    return {each.check: each async for each in preflight.checks(cluster, base_url, callback_url)}


@asynccontextmanager
async def serving(status: int, **headers: str) -> AsyncIterator[tuple[str, list[str]]]:
    """A server at the public address; yields its URL, and the paths that it is asked for."""
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        return web.Response(status=status, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    await runner.cleanup()


def test_the_oldest_kubernetes_is_that_of_the_chart() -> None:
    chart = yaml.safe_load((ROOT / "charts" / "counterfoil" / "Chart.yaml").read_text(encoding="utf-8"))
    minimum = ".".join(map(str, preflight.MINIMUM_KUBERNETES))
    assert chart["kubeVersion"] == f">={minimum}.0-0"


@pytest.mark.parametrize(
    ("minor", "outcome"), [("30", "wrong"), ("31", "ok"), ("35+", "ok"), ("?", "unknown")]
)
async def test_the_version_of_kubernetes_is_judged(minor: str, outcome: str) -> None:
    assert (await checked(ACluster(minor=minor)))["Kubernetes"].outcome == outcome


async def test_a_namespace_that_the_release_does_not_serve_is_reported() -> None:
    """``NamespaceNotServed``"""
    cluster = ACluster()
    cluster.put(an_organization())
    cluster.leases = (a_shard_lease(0, 1, renewed=datetime.now(UTC), served=["unit-b"]),)
    line = (await checked(cluster))["controller"]
    assert line.outcome is Outcome.WRONG
    assert line.found.endswith(
        "their list does not have the namespace tests. List it in watchNamespaces of the release."
    )
    cluster.leases = (a_shard_lease(0, 1, renewed=datetime.now(UTC), served=["tests"]),)
    assert "controller" not in await checked(cluster)


async def test_a_cluster_without_the_crds_is_one_before_the_installation() -> None:
    lines = await checked(ACluster(served=None, refused="deployments"))
    assert lines["CRDs"].outcome is Outcome.UNKNOWN
    assert lines["right to install"].outcome is Outcome.WRONG
    assert "create deployments" in lines["right to install"].found
    assert "process receiver" not in lines


async def test_all_rights_in_the_namespace_are_no_right_to_create_what_belongs_to_the_cluster() -> None:
    right = (await checked(ACluster(served=None, has_cluster=False)))["right to install"]
    assert right.outcome is Outcome.WRONG
    assert "create customresourcedefinitions" in right.found
    assert "create deployments" not in right.found
    assert "clusterScoped=false" in right.found


async def test_a_crd_of_an_older_version_that_is_missing_is_named() -> None:
    lines = await checked(ACluster(served=ALL[1:]))
    assert lines["CRDs"].outcome is Outcome.WRONG
    assert ALL[0] in lines["CRDs"].found


async def test_an_installation_says_which_processes_are_ready_and_of_which_version() -> None:
    lines = await checked(ACluster(version="0.0.1", refused="secrets"))
    assert lines["process receiver"].outcome is Outcome.OK
    assert lines["versions"].outcome is Outcome.WRONG
    assert lines["right to operate"].outcome is Outcome.WRONG
    assert "leases" in lines["not read"].found


async def test_a_pod_that_has_ended_is_no_process_of_an_earlier_version() -> None:
    cluster = ACluster(version=__version__)
    labels = {"app.kubernetes.io/component": "test", "app.kubernetes.io/version": "0.0.1"}
    cluster.stored_pods = [{"metadata": {"name": "t", "labels": labels}, "status": {"phase": "Failed"}}]
    assert (await checked(cluster))["versions"].outcome is Outcome.OK


@pytest.mark.parametrize(
    ("present", "outcome", "said"),
    [({"a", "b"}, "ok", "the cluster has all 2"), ({"a"}, "wrong", "b: missing, or without a binding.")],
)
async def test_the_admission_policies_of_the_release_are_checked(
    present: set[str], outcome: str, said: str
) -> None:
    cluster = ACluster()
    annotations = {"counterfoil.dev/admission-policies": "a b"}
    metadata = {"name": "c", "creationTimestamp": "2026-10-01T00:00:00Z", "annotations": annotations}
    cluster.stored_pods, cluster.policies = [{"metadata": {"labels": {}, **metadata}}], present
    line = (await checked(cluster))["admission policies"]
    assert line.outcome == outcome
    assert line.found.startswith(said)


async def test_the_manual_shows_what_the_program_prints() -> None:
    out = io.StringIO()
    args = argparse.Namespace(base_url=None, callback_url=None, output="text")
    cluster = ACluster(served=None, refused="customresourcedefinitions")
    assert await preflight.run(args, cluster, out) is ExitStatus.NOT_ALL
    assert out.getvalue() == printed_in_manual("kubectl counterfoil preflight")


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (404, {"Server": "counterfoil"}, "ok"),
        (404, {"Server": "nginx"}, "wrong"),
        (200, {"Server": "nginx"}, "wrong"),
        (503, {"Server": "counterfoil"}, "unknown"),
    ],
)
@pytest.mark.parametrize("path", ["/callbacks/acme", "/callbacks/unit-a/acme"])
async def test_a_callback_url_is_tried_with_a_token_that_nobody_has(
    path: str, status: int, headers: dict[str, str], outcome: str
) -> None:
    async with serving(status, **headers) as (url, asked):
        lines = await checked(ACluster(), None, f"{url}{path}/the-token?envelopeId=##EnvelopeId##")
    assert lines["the receiver"].outcome == outcome
    assert asked == [f"{path}/{preflight.NO_TOKEN}"]


@pytest.mark.parametrize(
    "url", ["https://nowhere.invalid", "http://127.0.0.1:1", "https://<your-host>/callbacks/acme/t"]
)
async def test_an_address_that_leads_nowhere_is_wrong(url: str) -> None:
    assert (await checked(ACluster(), None, url))["the receiver"].outcome is Outcome.WRONG


@pytest.mark.parametrize(
    "url", ["esaw.example.com", "//esaw.example.com/x", "ftp://esaw.example.com", "http://[::1"]
)
async def test_a_text_that_is_no_address_is_described_with_how_to_write_one(url: str) -> None:
    lines = await checked(ACluster(), url, url)
    for check in ("eSAW from here", "the receiver"):
        assert lines[check].outcome is Outcome.WRONG
        assert lines[check].found == f"{url!r} is no address. Write it as in https://host.example.com."


async def test_esaw_is_asked_from_this_machine() -> None:
    async with serving(401) as (url, asked):
        line = (await checked(ACluster(), url))["eSAW from here"]
    assert (line.outcome, asked) == (Outcome.OK, ["/Api/v6/version"])


def test_a_line_controls_no_terminal() -> None:
    line: Any = PreflightLine("x", Outcome.OK, "\x1b[2J")
    assert "\x1b" not in preflight.written(line)
