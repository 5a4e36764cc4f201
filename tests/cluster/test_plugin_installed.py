"""
The plugin as a person gets it: the wheel in its own environment, with the locked versions, found by the real
kubectl.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from counterfoil import __version__
from counterfoil.cli.plugin.exit_status import ExitStatus
from sandbox.controlplane.kubectl import Kubectl
from sandbox.controlplane.processes import CommandResult, run
from tests.support.builders import ENVELOPE

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel as ``uv tool install`` does; return the folder that belongs on PATH."""
    folder = tmp_path_factory.mktemp("installed")
    places = {"UV_TOOL_DIR": str(folder / "tools"), "UV_TOOL_BIN_DIR": str(folder / "bin")}
    python: tuple[str | Path, ...] = ("--quiet", "--python", sys.executable)
    subprocess.run(
        [UV, "build", "--wheel", "--no-build-isolation", *python, "--out-dir", folder], cwd=ROOT, check=True
    )
    (wheel,) = folder.glob("*.whl")
    locked: list[str | Path] = ["--constraints", ROOT / "release" / "locks" / "runtime.txt"]
    subprocess.run([UV, "tool", "install", *python, *locked, wheel], env={**os.environ, **places}, check=True)
    return folder / "bin"


async def typed(kubectl: Kubectl, installed: Path, *arguments: object) -> CommandResult:
    """Type something in a terminal that has kubectl and the installed plugin, and no other program of the
    project."""
    return await run(
        [kubectl.program, *arguments],
        environment={
            "PATH": f"{installed}:/usr/bin:/bin",
            "HOME": str(kubectl.home),
            "KUBECONFIG": str(kubectl.kubeconfig),
        },
    )


async def test_kubectl_finds_the_plugin_and_completes_it(kubectl: Kubectl, installed: Path) -> None:
    listed = await typed(kubectl, installed, "plugin", "list")
    assert f"{installed}/kubectl-counterfoil" in listed.out
    version = await typed(kubectl, installed, "counterfoil", "--version")
    assert version.out == f"counterfoil {__version__}\n"
    completed = await typed(kubectl, installed, "__complete", "counterfoil", "ver")
    assert completed.out.splitlines()[0] == "verify"


async def test_it_asks_the_api_server(kubectl: Kubectl, installed: Path, namespace: str) -> None:
    asked = await typed(kubectl, installed, "counterfoil", "-n", namespace, "why", ENVELOPE)
    assert asked.code == ExitStatus.NOT_FOUND, asked.err
    none = await typed(
        kubectl, installed, "counterfoil", "-n", namespace, "retry", "--all-failed", "-o", "json"
    )
    assert (none.code, json.loads(none.out)) == (ExitStatus.DONE, [])


async def test_it_needs_no_cluster_to_verify(kubectl: Kubectl, installed: Path, tmp_path: Path) -> None:
    checked = await typed(kubectl, installed, "counterfoil", "verify", tmp_path / "nothing")
    assert (checked.code, checked.out) == (2, "")
    assert checked.err.endswith("there is no such folder.\n")
