"""Rotation of the sealing keys on a real API server, with everything running, broken off and begun again."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from counterfoil.cli.reseal import ResealOutcome, ResealReport, namespaces_of_release, plan_reseal, reseal
from counterfoil.clock import WallClock
from counterfoil.kube.client import KubeClient, connect
from counterfoil.resources import Organization
from counterfoil.sealing import Sealing
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from tests.support.scenes.pages import Scene, pages_scene


@pytest.fixture
async def scene(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with pages_scene(plane, namespace, tmp_path) as built:
        await built.local_environment.apply(*rbac.service_account_with_rules("reseal", rbac.RESEAL))
        yield built


async def controllers_have_the_newest_key(scene: Scene) -> None:
    """Write the report of a controller, which does not run here, into each Organization."""
    sealing = Sealing(scene.local_environment.sealing_keys)
    key = {"id": sealing.newest, "hash": sealing.newest_hash, "observedTime": "2026-01-01T00:00:00Z"}
    async with connect(
        namespace=scene.local_environment.namespace, kubeconfig=scene.local_environment.plane.kubeconfig
    ) as kube:
        async for raw in kube.list(Organization):
            name = raw["metadata"]["name"]
            await kube.patch_status(Organization, name, {"sealingKey": key}, resource_version=None)


async def reseal_as_shown(kube: KubeClient, sealing: Sealing) -> ResealReport:
    """Look at the keys, and seal exactly these."""
    plan = await plan_reseal(kube, sealing, WallClock())
    return await reseal(kube, sealing, WallClock(), plan.digest)


async def key_ids(scene: Scene) -> set[str]:
    return {each["status"]["key"]["keyID"] for each in await scene.senders()}


async def test_a_rotation_needs_no_downtime_and_no_consent(scene: Scene) -> None:
    await scene.consented()
    await scene.consented(scene.bruno)
    tokens = {await scene.token(each) for each in await scene.senders()}
    scene.local_environment.sealing_key("second")
    await controllers_have_the_newest_key(scene)
    kubeconfig = await scene.local_environment.plane.kubeconfig_for(
        "reseal", scene.local_environment.namespace
    )

    async with connect(namespace=scene.local_environment.namespace, kubeconfig=kubeconfig) as kube:
        sealing = Sealing(scene.local_environment.sealing_keys)
        report = await reseal_as_shown(kube, sealing)
        namespaces = await namespaces_of_release(kube, sealing)

    assert report.counts == {ResealOutcome.RESEALED: 2}
    spare, others = report.lines(namespaces)[-2:]
    assert spare.startswith(f"The namespace {scene.local_environment.namespace} no longer needs: first.")
    assert "could not determine" in others, "the account has rights in this namespace alone"
    assert await key_ids(scene) == {"second"}
    (scene.local_environment.sealing_keys / "first").unlink()
    assert {await scene.token(each) for each in await scene.senders()} == tokens
    browser = await scene.consented()
    assert browser.page.url == f"{scene.esaw.url}/Inbox/Index", (
        "the running pages loaded the new key without a restart"
    )


async def test_a_second_run_finds_nothing_to_do(scene: Scene) -> None:
    await scene.consented()
    scene.local_environment.sealing_key("second")
    await controllers_have_the_newest_key(scene)
    sealing = Sealing(scene.local_environment.sealing_keys)
    async with connect(
        namespace=scene.local_environment.namespace, kubeconfig=scene.local_environment.plane.kubeconfig
    ) as kube:
        await reseal_as_shown(kube, sealing)
        before = await scene.local_environment.kubectl("get", "senders,secrets", "-o", "yaml")

        assert (await reseal_as_shown(kube, sealing)).counts == {ResealOutcome.NEWEST: 1}

    assert await scene.local_environment.kubectl("get", "senders,secrets", "-o", "yaml") == before


async def test_a_run_that_was_cut_off_before_it_notified_the_sender_is_completed(scene: Scene) -> None:
    await scene.consented()
    scene.local_environment.sealing_key("second")
    await controllers_have_the_newest_key(scene)
    sealing = Sealing(scene.local_environment.sealing_keys)
    async with connect(
        namespace=scene.local_environment.namespace, kubeconfig=scene.local_environment.plane.kubeconfig
    ) as kube:
        await reseal_as_shown(kube, sealing)
        (sender,) = await scene.senders()
        told = '{"status":{"key":{"keyID":"first"}}}'
        await scene.local_environment.kubectl(
            "patch", "sender", sender["metadata"]["name"], "--subresource=status", "--type=merge", "-p", told
        )

        await reseal_as_shown(kube, sealing)

    assert await key_ids(scene) == {"second"}


async def test_what_does_not_open_is_named_and_keeps_every_key(scene: Scene) -> None:
    await scene.consented()
    await scene.consented(scene.bruno)
    one, other = await scene.senders()
    data = (await scene.local_environment.read("secret", one["metadata"]["name"]))["data"]["token"]
    copied = f'{{"data":{{"token":"{data}"}}}}'
    await scene.local_environment.kubectl(
        "patch", "secret", other["metadata"]["name"], "--type=merge", "-p", copied
    )
    scene.local_environment.sealing_key("second")
    await controllers_have_the_newest_key(scene)
    sealing = Sealing(scene.local_environment.sealing_keys)

    async with connect(
        namespace=scene.local_environment.namespace, kubeconfig=scene.local_environment.plane.kubeconfig
    ) as kube:
        report = await reseal_as_shown(kube, sealing)
        namespaces = await namespaces_of_release(kube, sealing)

    assert report.counts == {ResealOutcome.RESEALED: 1, ResealOutcome.FAILED: 1}
    assert "keep all sealing keys" in report.lines(namespaces)[-1]


def test_without_keys_the_program_reports_it() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "counterfoil.cli.reseal"],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "COUNTERFOIL_SEALING_KEYS is not set" in ended.stderr
    assert ended.stderr.count("\n") == 1
