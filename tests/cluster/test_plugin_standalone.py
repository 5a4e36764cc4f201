"""
The stand-alone plugin as a person gets it: one file, run by a Python that has none of its libraries, found by
the real kubectl.
"""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from counterfoil import __version__
from counterfoil.cli.plugin.exit_status import ExitStatus
from counterfoil.resources import Phase
from release import plugin
from sandbox.controlplane.control_plane import ControlPlane
from tests.support.scenes.controller import ControllerScene
from tests.support.scenes.plugin import Terminal, a_scene_with_people, refused, terminal

PYTHON = Path(sys.base_prefix) / "bin" / "python3"
UNKNOWN = "0f9c1c2e-1111-4222-8333-444455556666"


@pytest.fixture(scope="module")
async def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PATH with the plugin, and the Python that this machine had before the project came."""
    folder = tmp_path_factory.mktemp("standalone")
    program = folder / "kubectl-counterfoil"
    program.write_bytes(await plugin.build(epoch=1_700_000_000))
    program.chmod(0o755)
    (folder / "kubectl_complete-counterfoil").symlink_to(program)
    # Isolated: neither PYTHONPATH nor packages in the user's home count.
    (folder / "python3").write_text(f'#!/bin/sh\nexec {PYTHON} -I "$@"\n')
    (folder / "python3").chmod(0o755)
    return folder


@pytest.fixture(scope="module")
async def scene(
    plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[ControllerScene]:
    async with a_scene_with_people(plane, tmp_path_factory.mktemp("controller")) as built:
        yield built


@pytest.fixture
async def administrator(scene: ControllerScene, folder: Path) -> Terminal:
    return replace(await terminal(scene, "administrator"), plugin=folder)


def test_the_python_that_runs_it_has_none_of_its_libraries(folder: Path) -> None:
    for library in ("counterfoil", "msgspec", "aiohttp", "kubernetes"):
        asked = subprocess.run(
            [folder / "python3", "-c", f"import {library}"], check=False, capture_output=True
        )
        assert b"ModuleNotFoundError" in asked.stderr, library


async def test_kubectl_finds_it_and_completes_it(administrator: Terminal) -> None:
    version = await administrator("--version")
    assert (version.code, version.out) == (0, f"counterfoil {__version__}\n"), version.err
    assert await administrator.complete("ret") == ["retry"]
    assert await administrator.complete("ver") == [], "it has no verify"
    assert await administrator.complete("url", "") == ["acme"]


def test_what_it_loads_leaves_no_file_behind(administrator: Terminal, folder: Path, tmp_path: Path) -> None:
    environment = {**administrator.environment, "TMPDIR": str(tmp_path)}
    asked = subprocess.run([folder / "kubectl-counterfoil", "--version"], env=environment, check=True)
    assert (asked.returncode, list(tmp_path.iterdir())) == (0, [])


async def test_why_says_what_happened(scene: ControllerScene, administrator: Terminal) -> None:
    answer = await administrator("why", await refused(scene))
    assert (answer.code, answer.err) == (ExitStatus.DONE, "")
    assert "Failed (EsawRefused)" in answer.out
    assert (await administrator("why", UNKNOWN)).code == ExitStatus.NOT_FOUND


async def test_retry_and_skip_are_carried_out(scene: ControllerScene, administrator: Terminal) -> None:
    event = await refused(scene)
    retried = await administrator("retry", event, "--because", "eSAW is back", "-o", "json")
    assert [each["asked"] for each in retried.json] == [True], retried.err
    await scene.reaches(event, Phase.SUCCEEDED)
    skipped = await refused(scene)
    assert (await administrator("skip", skipped, "--because", "a duplicate")).code == ExitStatus.DONE
    await scene.reaches(skipped, Phase.SKIPPED)


async def test_url_check_and_sweep_answer(scene: ControllerScene, administrator: Terminal) -> None:
    url = await administrator("url", "acme", "-o", "json")
    assert scene.local_environment.tokens["acme"] in url.json["envelope"]
    check = await administrator("check", "acme", "-o", "json")
    assert check.json["kind"] == "EsawProfile", check.err
    assert (await administrator("sweep", "acme")).code == ExitStatus.DONE


async def test_consent_and_completion_answer(administrator: Terminal) -> None:
    assert (await administrator("consent", "nobody")).code == ExitStatus.NOT_FOUND
    assert "kubectl_complete-counterfoil" in (await administrator("completion", "bash")).out


async def test_a_support_bundle_is_written(administrator: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "bundle.tar.gz"
    answer = await administrator("diagnose", "--file", str(file), "-o", "json")
    assert (answer.code, file.exists()) == (ExitStatus.DONE, True), answer.err
    assert "resources/organizations.yaml" in json.loads(answer.out)["contains"]


@pytest.mark.parametrize(
    "arguments", [["verify", "."], ["render", "--archive", "a.yaml"], ["reseal", "--sealing-keys", "."]]
)
async def test_a_command_whose_libraries_it_has_not_names_the_package_that_has_them(
    administrator: Terminal, arguments: list[str]
) -> None:
    answer = await administrator(*arguments)
    assert (answer.code, answer.out) == (ExitStatus.MISUSED, "")
    assert "is not in the stand-alone plugin" in answer.err
    assert answer.err.count("\n") == 1
