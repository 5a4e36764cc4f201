"""
One controller for several namespaces, on a real API server: each is served with the rights of its Role only,
and starts, fails and ends without the others.
"""

import argparse
import io
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from counterfoil.cli.plugin import url
from counterfoil.cli.plugin.exit_status import CommandError
from counterfoil.cli.plugin.installation import status
from counterfoil.cli.plugin.send_request import find_absences
from counterfoil.kube.client import KubeClient, connect
from counterfoil.resources import EnvelopeEvent, Phase
from counterfoil.resources.lease import NamespaceNotServed
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane, control_plane
from sandbox.controlplane.install_crds import CRDS
from sandbox.environment.local import LocalEnvironment, local_environment
from sandbox.environment.processes import CounterfoilProcess
from tests.support.pauses import eventually
from tests.support.scenes.controller import ControllerScene


class Release:
    """A controller, and the namespaces that it serves by its list."""

    def __init__(self, plane: ControlPlane, built: LocalEnvironment, kube: KubeClient, folder: Path) -> None:
        self.plane = plane
        self.built = built
        self.kube = kube
        self.folder = folder
        self.list = folder / "namespaces"

    async def unit(self, name: str, *, with_role: bool) -> ControllerScene:
        """Make a namespace with an organization ``acme``, its eSAW users and its own archive."""
        namespace = f"{self.built.namespace}-{name}"
        await self.plane.namespace(namespace)
        folder = self.folder / namespace
        folder.mkdir()
        built = replace(self.built, namespace=namespace, folder=folder, tokens={}, processes=[])
        scene = ControllerScene(built, self.kube.in_namespace(namespace), folder)
        scene.archive.mkdir()
        if with_role:
            await self.give_role(namespace)
        await self.fill(scene)
        return scene

    async def fill(self, scene: ControllerScene) -> None:
        """Make the organization of a namespace, its sender and its archive."""
        built = scene.local_environment
        await built.archive("dms", filesystem={"root": str(scene.archive)})
        await built.sender("anna", scene.anna, organization="acme")
        await built.organization("acme", archive="dms", sender="anna")
        await built.record_sweep("acme")

    async def give_role(self, namespace: str) -> None:
        """Let the controller of the release work in a namespace."""
        for each in rbac.rights_of_release(self.built.namespace, "controller", rbac.CONTROLLER):
            await self.plane.objects(namespace).apply(each)

    async def take_role(self, namespace: str) -> None:
        """Take these rights away."""
        await self.plane.kubectl("-n", namespace, "delete", "rolebinding", "controller")

    async def take_right(self, namespace: str, resource: str) -> None:
        """Take all rights to a resource away."""
        role, _ = rbac.rights_of_release(self.built.namespace, "controller", rbac.CONTROLLER)
        kept = [
            {**rule, "resources": [each for each in rule["resources"] if each != resource]}
            for rule in role["rules"]
        ]
        rules = [each for each in kept if each["resources"]]
        await self.plane.objects(namespace).apply({**role, "rules": rules})

    async def delete(self, namespace: str) -> None:
        """Delete a namespace as the controllers of Kubernetes do: first all that is in it."""
        await self.plane.kubectl("delete", "namespace", namespace, "--wait=false")
        kinds = "envelopeevents,senders,organizations,archives,secrets,rolebindings,roles"
        await self.plane.kubectl("-n", namespace, "delete", kinds, "--all", "--wait=false")
        finished = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace},
            "spec": {"finalizers": []},
        }
        path = f"/api/v1/namespaces/{namespace}/finalize"
        await self.plane.kubectl("replace", "--raw", path, "-f", "-", stdin=json.dumps(finished))

    def write_list(self, *scenes: ControllerScene) -> None:
        """Change the list of namespaces."""
        names = [each.local_environment.namespace for each in scenes]
        self.list.write_text("\n".join(names), encoding="utf-8")

    async def controller(self) -> CounterfoilProcess:
        """Start the controller; each namespace has its own folder for archives."""
        roots = str(self.folder / "{namespace}")
        return await self.built.controller(
            namespaces_file=str(self.list), volume_roots=roots, callback_url="https://callbacks.example.com"
        )

    async def until_metric(self, line: str) -> None:
        """Wait until the controller shows a series with this value."""

        async def is_shown() -> bool:
            # On a busy machine, the first answers of a process that has just started may break off.
            with suppress(httpx.TransportError):
                return line in (await self.built.processes[0].metrics()).splitlines()
            return False

        await eventually(is_shown)

    async def until_ready(self, scene: ControllerScene, reason: str, value: float) -> None:
        """Wait until a namespace is served, or not, for this reason."""
        namespace = scene.local_environment.namespace
        labels = f'namespace="{namespace}",reason="{reason}"'
        await self.until_metric(f"counterfoil_namespace_ready{{{labels}}} {value}")

    async def events(self) -> list[dict[str, Any]]:
        """Return the Kubernetes Events in the release's namespace."""
        return await self.built.listed("events")


@asynccontextmanager
async def a_release(plane: ControlPlane, folder: Path) -> AsyncIterator[Release]:
    """A release whose own namespace is not served."""
    namespace = f"release-{uuid.uuid4().hex[:8]}"
    await plane.namespace(namespace)
    async with (
        local_environment(plane, folder, namespace=namespace) as built,
        connect(namespace=namespace, kubeconfig=plane.kubeconfig) as kube,
    ):
        yield Release(plane, built, kube, folder)


@pytest.fixture
async def release(plane: ControlPlane, tmp_path: Path) -> AsyncIterator[Release]:
    """A release in the control plane of all tests."""
    async with a_release(plane, tmp_path) as release:
        yield release


async def test_namespaces_are_served_apart_and_added_and_removed_without_a_restart(release: Release) -> None:
    sales = await release.unit("sales", with_role=True)
    legal = await release.unit("legal", with_role=False)
    hr = await release.unit("hr", with_role=True)
    release.write_list(sales, legal)
    controller = await release.controller()
    pid = controller.pid

    # Two objects with one name: each is archived with the objects in its own namespace.
    filed = sales.envelope()
    event = await sales.reaches(await sales.note(filed), Phase.SUCCEEDED)
    assert sales.filed(filed)
    waiting = await legal.noted()
    await release.until_ready(legal, "NamespaceForbidden", 0.0)
    await release.until_ready(sales, "Serving", 1.0)
    (said,) = [each for each in await release.events() if each["reason"] == "NamespaceForbidden"]
    assert said["related"]["name"] == legal.local_environment.namespace
    assert (await legal.event(waiting)).status.phase is Phase.PENDING

    # Its Role comes later.
    await release.give_role(legal.local_environment.namespace)
    await legal.reaches(waiting, Phase.SUCCEEDED)
    await release.until_ready(legal, "Serving", 1.0)

    # A namespace is added, another one removed.
    queued = await hr.noted()
    release.write_list(legal, hr)
    await hr.reaches(queued, Phase.SUCCEEDED)
    namespace = sales.local_environment.namespace

    async def is_gone() -> bool:
        return namespace not in await controller.metrics()

    await eventually(is_gone)
    left = await sales.noted()
    await legal.reaches(await legal.noted(), Phase.SUCCEEDED)
    assert (await sales.event(left)).status.phase is Phase.PENDING

    # It returns, and all that came meanwhile is worked on.
    release.write_list(sales, legal, hr)
    await sales.reaches(left, Phase.SUCCEEDED)
    assert controller.pid == pid
    assert await sales.kube.get(EnvelopeEvent, event.name)


async def test_a_namespace_that_is_taken_off_the_list_is_reported_until_it_is_listed_again(
    release: Release,
) -> None:
    """``NamespaceNotServed``, while nothing changes in the namespace; then as its text advises."""
    sales = await release.unit("sales", with_role=True)
    legal = await release.unit("legal", with_role=True)
    release.write_list(sales, legal)
    await release.controller()
    await sales.reaches(await sales.noted(), Phase.SUCCEEDED)
    await legal.reaches(await legal.noted(), Phase.SUCCEEDED)
    assert await reasons_in(sales) == await reasons_in(legal) == []
    assert await printed_urls(sales)

    release.write_list(legal)

    async def is_reported() -> bool:
        return await reasons_in(sales) == ["NamespaceNotServed"]

    await eventually(is_reported)
    left = await sales.noted()
    (absence,) = (await find_absences(sales.kube, (await sales.event(left),))).values()
    assert absence == NamespaceNotServed(sales.local_environment.namespace, release.built.namespace)
    assert await reasons_in(legal) == []
    with pytest.raises(CommandError, match="NamespaceNotServed"):
        await printed_urls(sales)
    assert await printed_urls(legal)
    leases = await release.built.listed("leases")
    assert sales.local_environment.namespace not in json.dumps(leases)
    assert legal.local_environment.namespace not in json.dumps(leases)

    release.write_list(sales, legal)
    await sales.reaches(left, Phase.SUCCEEDED)

    async def is_solved() -> bool:
        return await reasons_in(sales) == []

    await eventually(is_solved)


async def printed_urls(scene: ControllerScene) -> str:
    """Return the URL of finished envelopes that ``kubectl counterfoil url`` prints."""
    out = io.StringIO()
    await url.run(argparse.Namespace(organization="acme", token=1, output="json"), scene.kube, out)
    envelope: str = json.loads(out.getvalue())["envelope"]
    return envelope


async def reasons_in(scene: ControllerScene) -> list[str]:
    """Return the reasons that ``kubectl counterfoil status`` lists for a namespace."""
    reading = await status.read(scene.kube)
    now = datetime.now(UTC)
    return [each.reason for each in status.overview(reading, scene.kube.namespace, now).waiting]


async def test_a_role_that_is_taken_away_holds_no_other_namespace_up(release: Release) -> None:
    sales = await release.unit("sales", with_role=True)
    legal = await release.unit("legal", with_role=True)
    release.write_list(sales, legal)
    await release.controller()
    await legal.reaches(await legal.noted(), Phase.SUCCEEDED)

    await release.take_role(legal.local_environment.namespace)
    await sales.reaches(await sales.noted(), Phase.SUCCEEDED)
    waiting = await legal.noted()
    await release.give_role(legal.local_environment.namespace)
    await legal.reaches(waiting, Phase.SUCCEEDED)
    await sales.reaches(await sales.noted(), Phase.SUCCEEDED)


async def test_a_status_that_may_not_be_stored_is_named_by_metric_and_event(release: Release) -> None:
    sales = await release.unit("sales", with_role=True)
    release.write_list(sales)
    await release.controller()
    await release.until_ready(sales, "Serving", 1.0)
    namespace = sales.local_environment.namespace

    await release.take_right(namespace, "senders/status")
    await release.until_ready(sales, "NamespaceIncomplete", 0.0)
    await release.give_role(namespace)
    await release.until_ready(sales, "Serving", 1.0)
    await sales.reaches(await sales.noted(), Phase.SUCCEEDED)


async def test_a_namespace_that_is_deleted_holds_no_other_one_up_and_returns(release: Release) -> None:
    sales = await release.unit("sales", with_role=True)
    legal = await release.unit("legal", with_role=True)
    release.write_list(sales, legal)
    controller = await release.controller()
    pid, namespace = controller.pid, legal.local_environment.namespace
    await legal.reaches(await legal.noted(), Phase.SUCCEEDED)

    await release.delete(namespace)
    await release.until_ready(legal, "NamespaceForbidden", 0.0)
    await sales.reaches(await sales.noted(), Phase.SUCCEEDED)

    await release.plane.namespace(namespace)
    await release.give_role(namespace)
    await release.fill(legal)
    await legal.reaches(await legal.noted(), Phase.SUCCEEDED)
    await release.until_ready(legal, "Serving", 1.0)
    await sales.reaches(await sales.noted(), Phase.SUCCEEDED)
    assert controller.pid == pid


async def test_without_the_definition_of_envelopes_events_wait_and_continue_when_it_is_back(
    tmp_path: Path,
) -> None:
    async with control_plane() as plane:
        await plane.apply_crds()
        async with a_release(plane, tmp_path) as release:
            sales = await release.unit("sales", with_role=True)
            release.write_list(sales)
            await release.controller()
            await sales.reaches(await sales.noted(), Phase.SUCCEEDED)
            await release.until_ready(sales, "Serving", 1.0)

            definitions = ("envelopes.counterfoil.dev", "imports.counterfoil.dev")
            await plane.kubectl("delete", "crd", *definitions)
            envelope = sales.envelope()
            waiting = await sales.note(envelope)
            await release.until_ready(sales, "NamespaceUnavailable", 0.0)
            (said,) = [each for each in await release.events() if each["reason"] == "NamespaceUnavailable"]
            assert definitions[0] in said["note"]
            await sales.reaches(waiting, Phase.VALIDATING, "ApiServerTrouble")
            assert not sales.filed(envelope)

            # Only Imports are missing now.
            await plane.kubectl("apply", "--server-side", "-f", str(CRDS / "envelopes.yaml"))
            await sales.reaches(waiting, Phase.SUCCEEDED)
            await release.until_ready(sales, "NamespaceIncomplete", 0.0)
            (said,) = [each for each in await release.events() if each["reason"] == "NamespaceIncomplete"]
            assert definitions[1] in said["note"]
            await sales.reaches(await sales.noted(), Phase.SUCCEEDED)
