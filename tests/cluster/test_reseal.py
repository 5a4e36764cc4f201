"""Rotation of the sealing keys on a real API server, with everything running, broken off and begun again."""

import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from counterfoil.cluster import connect
from counterfoil.reseal import Outcome, reseal
from counterfoil.sealing import Sealing
from sandbox import rights
from sandbox.controlplane.plane import ControlPlane
from tests.cluster.pages_scene import Scene, pages_scene


@pytest.fixture
async def scene(plane: ControlPlane, namespace: str, tmp_path: Path) -> AsyncIterator[Scene]:
    async with pages_scene(plane, namespace, tmp_path) as built:
        await built.stage.apply(*rights.account("reseal", rights.RESEAL))
        yield built


async def key_ids(scene: Scene) -> set[str]:
    return {each["status"]["key"]["keyId"] for each in await scene.senders()}


async def test_a_rotation_needs_no_downtime_and_no_consent(scene: Scene) -> None:
    await scene.consented()
    await scene.consented(scene.bruno)
    tokens = {await scene.token(each) for each in await scene.senders()}
    scene.stage.sealing_key("second")
    kubeconfig = await scene.stage.plane.kubeconfig_for("reseal", scene.stage.namespace)

    async with connect(namespace=scene.stage.namespace, kubeconfig=kubeconfig) as cluster:
        report = await reseal(cluster, Sealing(scene.stage.sealing_keys))

    assert report.counts == {Outcome.RESEALED: 2}
    assert report.lines(Sealing(scene.stage.sealing_keys))[-1].startswith("No longer needed: first.")
    assert await key_ids(scene) == {"second"}
    (scene.stage.sealing_keys / "first").unlink()
    assert {await scene.token(each) for each in await scene.senders()} == tokens
    browser = await scene.consented()
    assert browser.page.url == f"{scene.esaw.url}/Documents", (
        "the running pages took the new key by themselves"
    )


async def test_a_second_run_finds_nothing_to_do(scene: Scene) -> None:
    await scene.consented()
    scene.stage.sealing_key("second")
    sealing = Sealing(scene.stage.sealing_keys)
    async with connect(namespace=scene.stage.namespace, kubeconfig=scene.stage.plane.kubeconfig) as cluster:
        await reseal(cluster, sealing)
        before = await scene.stage.kubectl("get", "senders,secrets", "-o", "yaml")

        assert (await reseal(cluster, sealing)).counts == {Outcome.NEWEST: 1}

    assert await scene.stage.kubectl("get", "senders,secrets", "-o", "yaml") == before


async def test_a_run_that_was_cut_off_before_it_told_the_sender_is_completed(scene: Scene) -> None:
    await scene.consented()
    scene.stage.sealing_key("second")
    sealing = Sealing(scene.stage.sealing_keys)
    async with connect(namespace=scene.stage.namespace, kubeconfig=scene.stage.plane.kubeconfig) as cluster:
        await reseal(cluster, sealing)
        (sender,) = await scene.senders()
        told = '{"status":{"key":{"keyId":"first"}}}'
        await scene.stage.kubectl(
            "patch", "sender", sender["metadata"]["name"], "--subresource=status", "--type=merge", "-p", told
        )

        await reseal(cluster, sealing)

    assert await key_ids(scene) == {"second"}


async def test_what_does_not_open_is_named_and_keeps_every_key(scene: Scene) -> None:
    await scene.consented()
    await scene.consented(scene.bruno)
    one, other = await scene.senders()
    data = (await scene.stage.read("secret", one["metadata"]["name"]))["data"]["token"]
    copied = f'{{"data":{{"token":"{data}"}}}}'
    await scene.stage.kubectl("patch", "secret", other["metadata"]["name"], "--type=merge", "-p", copied)
    scene.stage.sealing_key("second")
    sealing = Sealing(scene.stage.sealing_keys)

    async with connect(namespace=scene.stage.namespace, kubeconfig=scene.stage.plane.kubeconfig) as cluster:
        report = await reseal(cluster, sealing)

    assert report.counts == {Outcome.RESEALED: 1, Outcome.FAILED: 1}
    assert "keep all sealing keys" in report.lines(sealing)[-1]


def test_without_keys_the_program_says_so() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "counterfoil.reseal"],
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "COUNTERFOIL_SEALING_KEYS is not set" in ended.stderr
    assert ended.stderr.count("\n") == 1
