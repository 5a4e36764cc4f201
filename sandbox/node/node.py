"""
A whole node: etcd, API server, controller-manager, scheduler, kubelet, containerd, kube-proxy, CoreDNS,
kube-router, metrics-server.

Everything runs in separate namespaces (see ``namespaces``) with all its files in one temporary folder, and
ends with the process that started it. While a node is up, the thread that started it has the node's network:
what it and its children connect to are the node's Services and pods, and nothing else can be reached from
there.

A reboot keeps what is on disk (etcd's data, images), and loses the rest, as a real one does.
"""

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from sandbox.controlplane import binaries, credentials
from sandbox.controlplane.folders import OwnedFolder
from sandbox.controlplane.kubectl import Kubectl, KubectlError
from sandbox.controlplane.processes import Command, run
from sandbox.node import images, settings
from sandbox.node.namespaces import LinuxNamespaces, NodeProgram
from sandbox.packages import debian

PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
    "kube-router",
    "metrics-server",
    "kubectl",
)
PACKAGES = (
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iproute2",
    "iptables",
    "ipset",
    "nftables",
    "conntrack",
    "util-linux",
)
TIMEOUT = 180.0  # seconds until a part is ready; a busy machine needs more than the usual few
INTERVAL = 0.2  # seconds between looks

Flags = Callable[[settings.NodePaths], Sequence[str]]
PARTS: dict[str, Flags] = {
    "containerd": settings.containerd,
    "etcd": settings.etcd,
    "kube-apiserver": settings.apiserver,
    "kube-controller-manager": settings.controller_manager,
    "kube-scheduler": settings.scheduler,
    "kubelet": settings.kubelet,
    "kube-proxy": settings.kube_proxy,
    "coredns": settings.coredns,
    "kube-router": settings.kube_router,
    "metrics-server": settings.metrics_server,
}
# Some end themselves when they don't find what they need: the API server, then the node in it.
FIRST_PARTS = ("containerd", "etcd", "kube-apiserver")
NEXT_PARTS = ("kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "coredns")
LAST_PARTS = ("kube-router", "metrics-server")
# As systemd would: it ends itself when containerd, which finds its pods again, is not quite ready.
RESTARTED_PARTS = ("kubelet",)


CTR = ("/usr/bin/ctr", f"--address={settings.CONTAINERD}", "--namespace=k8s.io")


class NodeError(Exception):
    """The node did not come up, or a part of it ended; the message has the end of its log."""


def why_not() -> str | None:
    """Return why no node can be started here as things are, or None."""
    if os.geteuid() != 0:
        return "a node needs root"
    if absent := debian.missing(*PACKAGES, *images.PACKAGES):
        return f"{', '.join(absent)} not installed"
    if unbuilt := binaries.missing(*PROGRAMS, *images.PROGRAMS, "helm"):
        return f"{', '.join(unbuilt)} not built"
    if not images.base_archive().exists():
        return "no base image was made"
    return None


async def prepare() -> binaries.Binaries:
    """Install and build what a node needs, with progress. Raises ``PackagesMissing`` or ``BuildError``."""
    await debian.ensure(*PACKAGES)
    return await binaries.ensure(*PROGRAMS)


def node() -> "Node":
    """Return a node for ``async with``; it is prepared first if need be, and gone afterwards."""
    return Node()


class Node:
    """One node. Start it from the thread that will use it."""

    folder: Path
    """Logs (NAME.log) and all else; removed by ``stop``."""
    kubeconfig: Path
    """The administrator's; good in the node's network."""
    kubectl: Kubectl

    def __init__(self) -> None:
        self._parts: dict[str, NodeProgram] = {}
        self._network = contextlib.ExitStack()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start everything and wait until pods can run. Raises ``NodeError``."""
        self._programs = await prepare()
        self._owned = OwnedFolder()
        self.folder = self._owned.path
        # Pods' users read folders below it (volumes), though only root may list it.
        self.folder.chmod(0o711)
        self.kubeconfig = self.folder / "kubeconfig"
        keys = credentials.issue(self.folder / "pki", settings.ADDRESS)
        config = keys.kubeconfig(
            url=f"https://{settings.ADDRESS}:{settings.PORT}", user=keys.admin_user(), namespace="default"
        )
        credentials.write_private(self.kubeconfig, json.dumps(config).encode())
        self.kubectl = Kubectl(self._programs["kubectl"], self.kubeconfig, home=self.folder / "home")
        self._paths = settings.NodePaths(self.folder, self.kubeconfig, keys)
        self._namespaces = LinuxNamespaces(self.folder, settings.ADDRESS)
        settings.write(self._paths, self._namespaces.group)
        try:
            await self._boot()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End everything and remove the folder."""
        await self._halt()
        self._owned.remove()

    async def reboot(self) -> None:
        """Pull the plug and put it in again: all programs and containers end at once; what is on disk is
        there again."""
        await self._halt()
        await self._boot()

    async def images(self) -> None:
        """Build the images and give them to the node."""
        with tempfile.TemporaryDirectory(prefix="counterfoil-images-") as folder:
            # The node's network leads nowhere, and a build downloads.
            with self._namespaces.real_network():
                built = await images.build(Path(folder))
            images.say("giving the images to the node")
            for each in (built.pause, built.ours, built.sandbox):
                await self.load(each)

    @property
    def name_server(self) -> dict[str, object]:
        """Address of the name servers, as ``to`` of a NetworkPolicy."""
        return {"ipBlock": {"cidr": f"{settings.ADDRESS}/32"}}

    async def restart_runtime(self) -> None:
        """Restart containerd and the kubelet; pods continue to run."""
        await self.restart("containerd", "kubelet")

    async def restart(self, *names: str) -> None:
        """End some of the parts in order and start them again, as an upgrade of the node does; pods continue
        to run."""
        for name in reversed(names):
            await self._parts.pop(name).stop()
        self._start(*names)
        await self._ready()

    async def load(self, archive: Path) -> None:
        """Give the node an image. Raises ``NodeError``."""
        await self.do([*CTR, "images", "import", archive])

    async def freeze(self, container: str) -> None:
        """Stop the first process of a container (SIGSTOP), as on a node that hangs. Raises ``NodeError``."""
        await self.do([*CTR, "tasks", "kill", "--signal=SIGSTOP", container])

    async def do(self, command: Command) -> str:
        """Run a command in the node's namespaces and return what it printed. Raises ``NodeError``."""
        ended = await run(self._namespaces.entering(command))
        if ended.code != 0:
            raise NodeError(f"{' '.join(map(str, command))}: {ended.err.strip() or ended.out.strip()}")
        return ended.out

    # What follows is how.

    async def _boot(self) -> None:
        await self._namespaces.boot()
        self._network.enter_context(self._namespaces.network())
        self._start(*FIRST_PARTS)
        await self._until(self._answers, "the API server is not ready")
        self._start(*NEXT_PARTS)
        await self._ready()
        self._start(*LAST_PARTS)
        objects = json.dumps(settings.metrics_api())
        await self.kubectl("apply", "--server-side", "-f", "-", stdin=objects)
        # While a part of the API does not answer, some clients take all of it for broken.
        await self._until(self._serves_metrics, "metrics-server does not answer")

    async def _halt(self) -> None:
        self._parts.clear()
        self._network.close()
        await self._namespaces.halt()

    def _start(self, *names: str) -> None:
        for name in names:
            program = self._programs[name] if name in self._programs else Path("/usr/bin", name)
            self._parts[name] = self._namespaces.start(name, [program, *PARTS[name](self._paths)])

    async def _ready(self) -> None:
        await self._until(self._answers, "the API server is not ready")
        # The API server may still believe what a kubelet said that is gone.
        await self._until(self._kubelet_is_healthy, "the kubelet is not well")
        await self._until(self._accepts_pods, "the node does not take pods")

    async def _until(self, condition: Callable[[], Awaitable[bool]], complaint: str) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                while not await condition():
                    self._require_running_parts()
                    await asyncio.sleep(INTERVAL)
        except TimeoutError:
            raise NodeError(f"{complaint} after {TIMEOUT:.0f} s; logs are in {self.folder}") from None

    def _require_running_parts(self) -> None:
        for name, program in list(self._parts.items()):
            if program.ended and name in RESTARTED_PARTS:
                self._start(name)
            elif program.ended:
                raise NodeError(f"{name} ended:\n{program.log_tail()}")

    async def _answers(self) -> bool:
        try:
            await self.kubectl("get", "--raw", "/readyz", "--request-timeout=2s")
        except KubectlError:
            return False
        return True

    async def _accepts_pods(self) -> bool:
        condition = '{.status.conditions[?(@.type=="Ready")].status}'
        try:
            answers = [
                await self.kubectl(
                    "get", "node", settings.NAME, "-o", f"jsonpath={condition}{{.spec.podCIDR}}"
                ),
                # No pod is let in before its namespace has it.
                await self.kubectl("get", "serviceaccount", "default", "-o", "name"),
            ]
        except KubectlError:
            return False
        return answers[0] == f"True{settings.PODS}"

    async def _serves_metrics(self) -> bool:
        condition = '{.status.conditions[?(@.type=="Available")].status}'
        try:
            service = ["get", "apiservice", settings.METRICS_API, "-o", f"jsonpath={condition}"]
            # Another boot may have said that it is available.
            await self.kubectl("get", "--raw", "/apis/metrics.k8s.io/v1beta1")
            return await self.kubectl(*service) == "True"
        except KubectlError:
            return False

    async def _kubelet_is_healthy(self) -> bool:
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=5) as http:
                return (
                    await http.get(f"http://{settings.ADDRESS}:{settings.KUBELET_HEALTH}/healthz")
                ).is_success
        except httpx.TransportError:
            return False
