"""
A node by kind, with the same interface as ``node``: for people who have Docker, and who can't or won't be
root.

It was written from kind's documentation, and **was not run** on the machine where it was written, which has
no Docker. It needs the programs ``kind`` (0.24 or newer, whose network enforces NetworkPolicies) and
``docker``. Images are built by Docker, on the base image that the Containerfile names.
"""

import asyncio
import json
import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from sandbox.controlplane import binaries
from sandbox.controlplane.kubectl import Kubectl, KubectlError
from sandbox.controlplane.processes import CommandResult, run
from sandbox.node import images
from sandbox.trial.image import write_context

NAME = "counterfoil-e2e"
CONTAINER = f"{NAME}-control-plane"
TIMEOUT = 180.0  # seconds
INTERVAL = 0.5  # seconds between looks


class KindError(Exception):
    """kind or docker failed, or is not there."""


class KindNode:
    """One kind cluster of one node."""

    folder: Path
    kubeconfig: Path
    kubectl: Kubectl

    async def __aenter__(self) -> Self:
        for program in ("kind", "docker"):
            if shutil.which(program) is None:
                raise KindError(f"CLUSTER=kind needs the program `{program}`, and there is none on PATH")
        self.folder = Path(tempfile.mkdtemp(prefix="counterfoil-kind-"))
        self.kubeconfig = self.folder / "kubeconfig"
        await self._do(
            "kind", "create", "cluster", f"--name={NAME}", f"--kubeconfig={self.kubeconfig}", "--wait=180s"
        )
        kubectl = (await binaries.ensure("kubectl"))["kubectl"]
        self.kubectl = Kubectl(kubectl, self.kubeconfig, home=self.folder / "home")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._do("kind", "delete", "cluster", f"--name={NAME}")
        shutil.rmtree(self.folder, ignore_errors=True)

    async def images(self) -> None:
        """Build the images and give them to the node."""
        base = (images.ROOT / "release" / "image" / "base.txt").read_text().splitlines()[-1]
        containerfile = ["--file=release/Containerfile", str(images.ROOT)]
        await self._do("docker", "build", f"--build-arg=BASE={base}", f"--tag={images.IMAGE}", *containerfile)
        versitygw = (await binaries.ensure("versitygw"))["versitygw"]
        with tempfile.TemporaryDirectory(prefix="counterfoil-images-") as folder:
            write_context(Path(folder) / "trial", images.IMAGE, versitygw)
            await self._do("docker", "build", f"--tag={images.SANDBOX_IMAGE}", f"{folder}/trial")
        await self._do("kind", "load", "docker-image", f"--name={NAME}", images.IMAGE, images.SANDBOX_IMAGE)

    async def restart_runtime(self) -> None:
        """Restart containerd and the kubelet; pods continue to run."""
        await self._do("docker", "exec", CONTAINER, "systemctl", "restart", "containerd", "kubelet")
        await self._ready()

    async def freeze(self, container: str) -> None:
        """Stop the first process of a container (SIGSTOP), as on a node that hangs."""
        ctr = ["ctr", "--namespace=k8s.io", "tasks", "kill", "--signal=SIGSTOP", container]
        await self._do("docker", "exec", CONTAINER, *ctr)

    async def reboot(self) -> None:
        """Pull the plug and put it in again."""
        await self._do("docker", "kill", CONTAINER)
        await self._do("docker", "start", CONTAINER)
        await self._ready()

    @property
    def name_server(self) -> dict[str, object]:
        """Address of the name servers, as ``to`` of a NetworkPolicy."""
        return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}

    async def _ready(self) -> None:
        async with asyncio.timeout(TIMEOUT):
            while not await self._answers():  # noqa: ASYNC110 - another process gives no event to wait for
                await asyncio.sleep(INTERVAL)

    async def _answers(self) -> bool:
        try:
            await self.kubectl("wait", "node", "--all", "--for=condition=Ready", "--timeout=10s")
        except KubectlError:
            return False
        return True

    async def _do(self, *command: str) -> CommandResult:
        program = shutil.which(command[0]) or command[0]
        ended = await run([program, *command[1:]], environment=os.environ)
        if ended.code != 0:
            raise KindError(f"{json.dumps(command)}: {ended.err.strip() or ended.out.strip()}")
        return ended
