"""
The local control plane keeps its promises: it serves, it is private, it survives restarts, and it goes away.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from sandbox.cache import cache_folder
from sandbox.controlplane.control_plane import ControlPlane, ControlPlaneError, PortTakenError, control_plane
from sandbox.controlplane.folders import remove_abandoned_folders
from sandbox.controlplane.kubectl import Kubectl, KubectlError
from sandbox.controlplane.objects import ObjectError

REPOSITORY = Path(__file__).parents[2]

A_KIND = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: stamps.sandbox.counterfoil.dev
spec:
  group: sandbox.counterfoil.dev
  scope: Namespaced
  names: {kind: Stamp, plural: stamps, singular: stamp, shortNames: [st]}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          description: A stamp on a document.
          properties:
            spec:
              type: object
              properties:
                colour:
                  type: string
                  x-kubernetes-validations:
                    - {rule: "self != 'invisible'", message: a stamp must be seen}
"""

A_STAMP = """
apiVersion: sandbox.counterfoil.dev/v1
kind: Stamp
metadata: {name: received}
spec: {colour: red}
"""

# A parent that starts a plane, says which processes it has, and stays.
A_PARENT = """
import asyncio
import signal
from sandbox.controlplane.control_plane import control_plane

# Tests that a shell starts in the background ignore Ctrl-C, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main():
    async with control_plane() as plane:
        print(*plane.pids.values(), plane.folder, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def a_parent() -> AsyncIterator[asyncio.subprocess.Process]:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", A_PARENT, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield parent
    finally:
        if parent.returncode is None:
            parent.kill()
            await parent.wait()


async def what_it_started(parent: asyncio.subprocess.Process) -> tuple[list[psutil.Process], Path]:
    assert parent.stdout is not None
    *pids, folder = (await parent.stdout.readline()).decode().split()
    return [psutil.Process(int(pid)) for pid in pids], Path(folder)


@pytest.fixture
def a_kind(tmp_path: Path) -> Path:
    (tmp_path / "stamps.yaml").write_text(A_KIND)
    return tmp_path


def ready(generation: int) -> dict[str, object]:
    return {
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Tested",
                "message": "It is ready.",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
                "observedGeneration": generation,
            }
        ]
    }


async def test_a_wait_ends_when_the_latest_generation_of_the_object_is_ready(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    objects = plane.objects(namespace)
    waiting = asyncio.create_task(objects.until_ready("archive", "dms"))
    archive = {"apiVersion": "counterfoil.dev/v1beta1", "kind": "Archive", "metadata": {"name": "dms"}}
    for root in ("first", "second"):
        await objects.apply({**archive, "spec": {"filesystem": {"root": str(tmp_path / root)}}})
    await objects.merge_status("archive", "dms", ready(generation=1))
    with pytest.raises(ObjectError, match=r"archive/dms did not become Ready within 1 s: .*It is ready"):
        await objects.until_ready("archive", "dms", seconds=1)
    assert not waiting.done()
    await objects.merge_status("archive", "dms", ready(generation=2))
    await waiting


async def test_a_custom_resource_is_served_and_validated_by_cel(
    plane: ControlPlane, kubectl: Kubectl, namespace: str, a_kind: Path
) -> None:
    await plane.apply_crds(a_kind)
    await kubectl("apply", "-n", namespace, "-f", "-", stdin=A_STAMP)

    assert "received" in await kubectl("get", "st", "-n", namespace)
    with pytest.raises(KubectlError, match="a stamp must be seen"):
        await kubectl("apply", "-n", namespace, "-f", "-", stdin=A_STAMP.replace("red", "invisible"))


async def test_applied_kinds_can_be_explained_at_once(
    plane: ControlPlane, kubectl: Kubectl, a_kind: Path
) -> None:
    await plane.apply_crds(a_kind)
    assert "A stamp on a document." in await kubectl("explain", "stamps")


async def test_a_folder_without_kinds_is_a_mistake(plane: ControlPlane, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no \*\.yaml"):
        await plane.apply_crds(tmp_path)


async def test_each_test_has_its_own_namespace(kubectl: Kubectl, namespace: str) -> None:
    assert (await kubectl("get", "configmaps", "-n", namespace, "-o", "name")) == ""
    assert namespace.startswith("each-test-has-its-own-namespace")


async def test_a_service_account_may_do_what_rbac_grants_and_nothing_else(
    plane: ControlPlane, kubectl: Kubectl, namespace: str
) -> None:
    await kubectl("create", "serviceaccount", "reader", "-n", namespace)
    await kubectl("create", "role", "reader", "-n", namespace, "--verb=get,list", "--resource=configmaps")
    await kubectl(
        "create",
        "rolebinding",
        "reader",
        "-n",
        namespace,
        "--role=reader",
        f"--serviceaccount={namespace}:reader",
    )
    as_account = plane.kubectl_as(await plane.kubeconfig_for("reader", namespace))

    who = await as_account("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    assert who == f"system:serviceaccount:{namespace}:reader"
    await as_account("get", "configmaps")
    with pytest.raises(KubectlError, match=r"Forbidden.*cannot list resource .secrets."):
        await as_account("get", "secrets")


async def test_a_kubeconfig_for_nobody_is_refused(plane: ControlPlane, namespace: str) -> None:
    with pytest.raises(ControlPlaneError, match='serviceaccounts "nobody" not found'):
        await plane.kubeconfig_for("nobody", namespace)


async def test_kubeconfigs_can_be_read_by_their_owner_only(
    plane: ControlPlane, kubectl: Kubectl, namespace: str
) -> None:
    await kubectl("create", "serviceaccount", "reader", "-n", namespace)
    account = await plane.kubeconfig_for("reader", namespace)
    assert [stat.S_IMODE(file.stat().st_mode) for file in (plane.kubeconfig, account)] == [0o600, 0o600]


async def test_the_api_server_stopped_and_started_has_its_address_and_data() -> None:
    async with control_plane() as plane:
        await plane.namespace("kept")
        before = plane.url

        await plane.stop_apiserver()
        with pytest.raises(KubectlError, match="refused"):
            await plane.kubectl("get", "namespaces")
        await plane.start_apiserver()
        assert "kept" in await plane.kubectl("get", "namespaces")

        await plane.kill_apiserver()
        await plane.start_apiserver()
        assert "kept" in await plane.kubectl("get", "namespaces")
        assert plane.url == before


async def test_a_port_that_somebody_took_meanwhile_is_named_as_the_reason() -> None:
    async with control_plane() as plane:
        await plane.stop_apiserver()
        with (
            socket.create_server(("127.0.0.1", urlsplit(plane.url).port or 0)),
            pytest.raises(PortTakenError),
        ):
            await plane.start_apiserver()


async def test_two_planes_at_once_are_independent(plane: ControlPlane, namespace: str) -> None:
    async with control_plane() as other:
        assert namespace not in await other.kubectl("get", "namespaces")
        assert other.url != plane.url


async def test_a_stopped_plane_leaves_no_process_and_no_file() -> None:
    async with control_plane() as plane:
        processes = [psutil.Process(pid) for pid in plane.pids.values()]

    assert [process for process in processes if process.is_running()] == []
    assert not plane.folder.exists()


async def test_a_plane_whose_parent_was_killed_is_gone_and_its_folder_goes_with_the_next_one() -> None:
    async with a_parent() as parent:
        processes, folder = await what_it_started(parent)
        parent.kill()
        await parent.wait()

    psutil.wait_procs(processes, timeout=60)
    assert [process for process in processes if process.is_running()] == []
    remove_abandoned_folders()
    assert not folder.exists()


async def test_a_plane_whose_parent_was_interrupted_leaves_nothing() -> None:
    async with a_parent() as parent:
        processes, folder = await what_it_started(parent)
        parent.send_signal(signal.SIGINT)
        async with asyncio.timeout(60):
            await parent.wait()

    assert [process for process in processes if process.is_running()] == []
    assert not folder.exists()


async def test_the_folder_of_a_living_plane_is_not_swept(plane: ControlPlane) -> None:
    remove_abandoned_folders()
    assert plane.kubeconfig.exists()


class Shell:
    """A shell of a user who has a kubeconfig already, in a separate folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir()
        self.users_kubeconfig = self.home / "config"
        self.users_kubeconfig.write_text("the user's own")

    async def run(self, *arguments: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sandbox.controlplane.cluster", *arguments),
            cwd=self.folder,
            stdout=asyncio.subprocess.PIPE,
            env={
                **os.environ,
                "HOME": str(self.home),
                "KUBECONFIG": str(self.users_kubeconfig),
                "XDG_CACHE_HOME": str(cache_folder().parent),
                "PYTHONPATH": str(REPOSITORY),
            },
        )
        output, _ = await process.communicate()
        return process.returncode, output.decode()


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    await shell.run("down")


async def test_the_cluster_command_prints_one_line_for_the_shell_however_often_it_is_said(
    shell: Shell,
) -> None:
    line = f"export KUBECONFIG={shell.folder}/.cluster/kubeconfig\n"
    assert await shell.run("up") == (0, line)
    assert await shell.run("up") == (0, line)
    assert await shell.run("status") == (0, "")
    assert await shell.run("down") == (0, "")
    assert await shell.run("status") == (1, "")


async def test_the_users_kubeconfig_is_neither_read_nor_written(shell: Shell) -> None:
    await shell.run("up")
    assert shell.users_kubeconfig.read_text() == "the user's own"
    assert not (shell.home / ".kube").exists()


async def test_a_record_about_a_process_number_that_was_reused_ends_no_process(shell: Shell) -> None:
    note = {"way": "local", "pid": os.getpid(), "created": 1.0}
    (shell.folder / ".cluster").mkdir()
    (shell.folder / ".cluster" / "running.json").write_text(json.dumps(note))
    assert await shell.run("down") == (0, "")
    assert await shell.run("status") == (1, "")
