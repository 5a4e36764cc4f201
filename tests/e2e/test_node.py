"""
A whole cluster: Counterfoil's image and chart on a real node, with eSAW and an archive beside it, through a release's life.

``make e2e`` runs it on a node of its own (root), ``CLUSTER=kind make e2e`` by kind. The tests share one installation and leave
it as they found it: each can be run alone.
"""

import json
import os
import random
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from sandbox.controlplane.binaries import ensure
from sandbox.controlplane.kubectl import KubectlError
from sandbox.helm import CHART, helm
from sandbox.node.images import SANDBOX_IMAGE
from sandbox.node.kind import Kind
from sandbox.node.node import Node
from tests.chaos.scene import eventually
from tests.e2e.neighbours import ESAW_PORT, NAMESPACE, S3_PORT, Neighbours
from tests.e2e.release import HOME, PATIENCE, RELEASE, SCRAPER, Flow, Release, release_in

PROCESSES = ("receiver", "pages", "console", "controller")
ROUNDS_OF_DELETION = 6


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Node | Kind]:
    """A node that has the images."""
    # In the node's network nothing can be downloaded any more.
    await ensure("helm")
    async with Kind() if os.environ.get("CLUSTER") == "kind" else Node() as running:
        folder = tmp_path_factory.mktemp("images")
        await running.images(folder)
        shutil.rmtree(folder)
        yield running


@pytest.fixture(scope="module")
async def release(cluster: Node | Kind) -> AsyncIterator[Release]:
    """Counterfoil, installed, with an organization that can file."""
    helmsman = await helm(cluster.folder / "home", kubeconfig=cluster.kubeconfig)
    neighbours = Neighbours(cluster.kubectl, SANDBOX_IMAGE, cluster.folder)
    await neighbours.settle()
    try:
        yield await release_in(cluster, helmsman, neighbours)
    finally:
        neighbours.close()


async def test_the_chart_installs_into_a_namespace_that_lets_in_restricted_pods_only(
    release: Release,
) -> None:
    await release.pods_ready()
    for process in PROCESSES:
        assert await release.pods(process), process

    root = ["run", "root", f"--image={SANDBOX_IMAGE}", "--restart=Never"]
    with pytest.raises(KubectlError, match='violates PodSecurity "restricted:latest"'):
        await release.kubectl(*root)


async def test_helm_test_says_that_it_works(release: Release) -> None:
    await release.helm("test", RELEASE, f"--namespace={HOME}", "--timeout=3m")


async def test_a_callback_through_the_service_ends_in_the_bucket_and_then_the_envelope_is_deleted(
    release: Release,
) -> None:
    await release.filed(await release.complete(5))


async def test_each_pod_gets_where_it_must(release: Release) -> None:
    esaw, s3 = f"esaw.{NAMESPACE}.svc.cluster.local", f"s3.{NAMESPACE}.svc.cluster.local"
    receiver = f"{RELEASE}-receiver.{HOME}.svc.cluster.local"
    ways = [("controller", esaw, ESAW_PORT), ("controller", s3, S3_PORT), ("pages", esaw, ESAW_PORT)]
    ways += [(process, "kubernetes.default.svc.cluster.local", 443) for process in PROCESSES]
    for process, host, port in ways:
        pod = await _pod(release, process)
        await eventually(lambda: release.connects(pod, host, port), within=PATIENCE)  # noqa: B023 - awaited here
    await eventually(lambda: release.connects("deployment/esaw", receiver, 80, NAMESPACE), within=PATIENCE)


async def test_each_pod_is_refused_where_it_has_nothing_to_do(release: Release) -> None:
    esaw, s3 = f"esaw.{NAMESPACE}.svc.cluster.local", f"s3.{NAMESPACE}.svc.cluster.local"
    stranger = f"stranger.{NAMESPACE}.svc.cluster.local"
    for process, host, port in (
        ("receiver", esaw, ESAW_PORT),
        ("receiver", s3, S3_PORT),
        ("pages", s3, S3_PORT),
        ("console", esaw, ESAW_PORT),
        ("console", s3, S3_PORT),
        *((process, stranger, 8000) for process in PROCESSES),
    ):
        assert not await release.connects(await _pod(release, process), host, port), f"{process} to {host}"


async def test_a_stranger_reaches_no_process_and_nobody_reaches_metrics_but_who_may(release: Release) -> None:
    for process, port in (("receiver", 8080), ("pages", 8081), ("console", 8082)):
        for pod in await release.pods(process):
            address = pod["status"]["podIP"]
            if process != "console":
                assert not await release.connects("deployment/stranger", address, port, NAMESPACE), process
            for who in ("deployment/stranger", "deployment/esaw"):
                assert not await release.connects(who, address, 9090, NAMESPACE), f"{who} to {process}"

    await release.apply(_scraper())
    await release.kubectl("wait", "pod/scraper", "--for=condition=Ready", "--timeout=120s")
    for process in PROCESSES:
        address = (await release.pods(process))[0]["status"]["podIP"]
        await eventually(lambda: release.connects("pod/scraper", address, 9090), within=PATIENCE)  # noqa: B023
    await release.kubectl("delete", "pod", "scraper", "--wait=false")


async def test_an_upgrade_with_another_value_loses_no_callback_and_neither_does_its_rollback(
    release: Release,
) -> None:
    before = await release.revision()
    async with Flow(release) as flow:
        await release.install(settings={"logLevel": "debug"})
        changed = await _environment(release, "receiver", "COUNTERFOIL_LOG_LEVEL")
        await release.rollback()
    assert changed == "debug"
    assert await _environment(release, "receiver", "COUNTERFOIL_LOG_LEVEL") == "info"
    assert await release.revision() == before + 2
    await release.filed(flow.sent)


async def test_an_upgrade_brings_a_new_field_of_a_kind_while_callbacks_flow(
    release: Release, tmp_path: Path
) -> None:
    chart = _chart_with_a_new_field(tmp_path / "chart")
    remark = json.dumps({"spec": {"remark": "new in this version"}})
    async with Flow(release) as flow:
        await release.install(chart)
        await eventually(lambda: _explained(release), within=PATIENCE)
        await release.kubectl("patch", "organization", "acme", "--type=merge", f"--patch={remark}")
        stored = await release.kubectl("get", "organization", "acme", "-o", "jsonpath={.spec.remark}")
        await release.rollback()
    assert stored == "new in this version"
    await release.filed(flow.sent)


async def test_pods_that_are_deleted_at_random_lose_nothing(release: Release) -> None:
    chance = random.Random(6)
    async with Flow(release, every=0.2) as flow:
        for _ in range(ROUNDS_OF_DELETION):
            victims = [pod for process in PROCESSES for pod in await release.pods(process)]
            for pod in chance.sample(victims, 2):
                how = chance.choice((["--grace-period=0", "--force"], []))
                await release.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false", *how)
            await release.pods_ready()
    await release.filed(flow.sent)


async def test_pods_go_on_while_containerd_and_kubelet_are_restarted(
    release: Release, cluster: Node | Kind
) -> None:
    before = {pod["metadata"]["uid"] for process in PROCESSES for pod in await release.pods(process)}
    early = await release.complete(3)
    await cluster.restart_runtime()
    late = await release.complete(3)
    await release.pods_ready()
    assert {pod["metadata"]["uid"] for process in PROCESSES for pod in await release.pods(process)} == before
    await release.filed([*early, *late])


async def test_after_a_power_cut_all_comes_up_again_with_what_was_filed_and_files_more(
    release: Release, cluster: Node | Kind
) -> None:
    filed = await release.complete(3)
    await release.filed(filed)
    stored = await release.neighbours.stored()
    await cluster.reboot()
    await release.pods_ready()
    # The stand-in keeps everything in memory, so its users are others now; what it had deleted it has forgotten.
    await release.furnish()
    assert {each.spec.envelope_id for each in await release.events()} >= set(filed)
    assert await release.neighbours.stored() >= stored
    await release.filed(await release.complete(3))


async def test_uninstalling_keeps_kinds_and_data_and_a_new_installation_goes_on_with_them(
    release: Release,
) -> None:
    kinds = await release.kubectl("get", "crds", "-o", "name")
    events = {each.name for each in await release.events()}
    await release.uninstall()
    assert await release.kubectl("get", "crds", "-o", "name") == kinds
    assert {each.name for each in await release.events()} == events
    assert await release.pods("controller") == []

    # eSAW goes on calling.
    waiting = await release.complete(3)
    await release.install()
    await release.filed(waiting)


async def _pod(release: Release, process: str) -> str:
    return f"pod/{(await release.pods(process))[0]['metadata']['name']}"


async def _environment(release: Release, process: str, name: str) -> str | None:
    (container,) = (await release.pods(process))[0]["spec"]["containers"]
    found = [each.get("value") for each in container["env"] if each["name"] == name]
    return found[0] if found else None


async def _explained(release: Release) -> bool:
    try:
        await release.kubectl("explain", "organization.spec.remark")
    except KubectlError:
        return False
    return True


def _chart_with_a_new_field(folder: Path) -> Path:
    """A copy of the chart whose Organizations have one more field."""
    shutil.copytree(CHART, folder)
    path = folder / "files" / "crds" / "organizations.yaml"
    definition = yaml.safe_load(path.read_text())
    for version in definition["spec"]["versions"]:
        properties = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        properties["remark"] = {"type": "string", "description": "A remark."}
    path.write_text(yaml.safe_dump(definition, sort_keys=False))
    return folder


def _scraper() -> dict[str, object]:
    """A pod that may read metrics."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "scraper", "labels": SCRAPER},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 1,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "scraper",
                    "image": SANDBOX_IMAGE,
                    "command": ["sleep", "infinity"],
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                    },
                }
            ],
        },
    }
