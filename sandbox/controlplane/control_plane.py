"""
A control plane: etcd and kube-apiserver on loopback, with throw-away credentials in a temporary folder.

It is a real API server: custom resources, CEL, RBAC, Secrets, Leases, admission policies, priority and
fairness. There is no kubelet, so no pods, and **no controller-manager**: nobody collects objects whose owner
is gone, a deleted namespace stays in Terminating, and a new namespace has no ServiceAccount ``default``.
Tests give each case its own namespace instead of cleaning up.

Everything ends with the process that started it, also when that is killed; any number may run at the same
time. No kubeconfig of the user is read or written: kubectl gets ours by ``--kubeconfig`` and a separate HOME.
etcd listens on a socket file in the folder, so that nobody else on the machine can reach it. Restarting the
API server keeps port and data.
"""

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from sandbox.controlplane import credentials
from sandbox.controlplane.binaries import Binaries, Report, ensure, say
from sandbox.controlplane.folders import OwnedFolder
from sandbox.controlplane.install_crds import CRDS, install_crds
from sandbox.controlplane.kubectl import Kubectl
from sandbox.controlplane.objects import NamespaceObjects
from sandbox.controlplane.ports import free_port
from sandbox.controlplane.processes import ServerProcess, bare_environment

PROGRAMS = ("etcd", "kube-apiserver", "kubectl")
TIMEOUT = 120.0  # seconds until ready; a busy machine needs more than the usual few
SHUTDOWN_TIMEOUT = 15.0  # seconds for an orderly end of the API server
READYZ_TIMEOUT = 2.0  # seconds for one response; another process that listens on our port may never send one
INTERVAL = 0.05  # seconds between looks
PORT_ATTEMPTS = 5
TOKEN_LIFETIME = 24 * 3600  # seconds

Condition = Callable[[], Awaitable[bool]]

# The form host:port is what etcd wants to see; with this scheme it makes a file of that name.
ETCD_CLIENTS = "unix://client:1"
ETCD_PEERS = "unix://peers:1"
DATA = "data"  # etcd's data folder


class ControlPlaneError(Exception):
    """The control plane did not start, or refused what it was asked."""


class PortTakenError(ControlPlaneError):
    """Somebody else listens on the port of the API server."""


def control_plane(
    *, report: Report = say, flags: Sequence[str] = ()
) -> AbstractAsyncContextManager["ControlPlane"]:
    """Return a control plane for ``async with``; it is built first if need be, and gone afterwards. ``flags``
    are further ones of kube-apiserver."""
    return ControlPlane(report=report, flags=flags)


class ControlPlane:
    """
    One control plane. Start it from a thread that lives as long as it should: its programs end with that
    thread.

    Its methods are called from the event loop in which it started, as its connections belong to that.
    """

    url: str
    """``https://127.0.0.1:PORT``, from ``start`` on; the same after a restart of the API server."""
    folder: Path
    """Logs (etcd.log, kube-apiserver.log) and all else; removed by ``stop``."""
    kubeconfig: Path
    """The administrator's, by a token, readable by its owner only; no other file is needed with it."""
    kubectl: Kubectl
    """kubectl of the administrator: ``await plane.kubectl("get", "namespaces")``."""

    def __init__(self, *, report: Report = say, flags: Sequence[str] = ()) -> None:
        self._report = report
        self._flags = tuple(flags)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start etcd and the API server and wait until they are ready. Raises ControlPlaneError if they
        don't."""
        self._binaries: Binaries = await ensure(*PROGRAMS, report=self._report)
        self._servers: dict[str, ServerProcess] = {}
        self._connections = AsyncExitStack()
        self._owned = OwnedFolder()
        self.folder = self._owned.path
        try:
            self._credentials = credentials.issue(self.folder / "pki")
            # No proxy of the user's is asked.
            self._client = await self._connections.enter_async_context(
                httpx.AsyncClient(
                    verify=self._credentials.client_context(),
                    headers={"Authorization": f"Bearer {self._credentials.admin_token}"},
                    trust_env=False,
                    timeout=30,
                )
            )
            await self._start_etcd()
            await self._start_on_a_free_port()
            await self._until(self._has_default_namespace, "the namespace `default` has not appeared")
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End everything and remove the folder. May be called again."""
        for name in ("kube-apiserver", "etcd"):
            server = self._servers.pop(name, None)
            if server is not None:
                # Nobody will miss the data.
                server.kill()
        self._owned.remove()
        await self._connections.aclose()

    async def stop_apiserver(self) -> None:
        """End the API server as an upgrade would: requests in progress are answered first."""
        await self._servers.pop("kube-apiserver").terminate(patience=SHUTDOWN_TIMEOUT)

    async def kill_apiserver(self) -> None:
        """End the API server as a power cut would."""
        self._servers.pop("kube-apiserver").kill()

    async def start_apiserver(self) -> None:
        """Start the API server again, on its port and with its data. Raises ControlPlaneError if it does not
        come up."""
        server = self._serve("kube-apiserver", self._apiserver_arguments())
        await self._until(self._is_ready, "the API server is not ready", server)

    async def save_data(self) -> Path:
        """End both programs as a power cut would, copy etcd's data, and start them again; return the copy."""
        saved = self.folder / "saved-data"
        await self._without_power(lambda: shutil.copytree(self.folder / DATA, saved, dirs_exist_ok=True))
        return saved

    async def restore_data(self, saved: Path) -> None:
        """
        End both programs as a power cut would, put back the data of ``save_data``, and start them again.

        Versions of objects go back too, as if nobody had raised them (``etcdutl snapshot restore
        --bump-revision``).
        """

        def put_back() -> None:
            shutil.rmtree(self.folder / DATA)
            shutil.copytree(saved, self.folder / DATA)

        await self._without_power(put_back)

    async def _without_power(self, act: Callable[[], object]) -> None:
        for name in ("kube-apiserver", "etcd"):
            self._servers.pop(name).kill()
        await asyncio.to_thread(act)
        self._etcd_socket.unlink(missing_ok=True)
        await self._start_etcd()
        await self.start_apiserver()

    @property
    def authority(self) -> Path:
        """The certificate of the authority that the API server's own one is from."""
        return self._credentials.authority

    @property
    def pids(self) -> Mapping[str, int]:
        """The process ids of what runs now, by ``etcd`` and ``kube-apiserver``."""
        return {name: server.pid for name, server in self._servers.items()}

    def kubectl_as(self, kubeconfig: Path) -> Kubectl:
        """Return a kubectl that acts as the user that a kubeconfig names, such as one of
        ``kubeconfig_for``."""
        return Kubectl(self._binaries["kubectl"], kubeconfig, home=self.folder / "home")

    async def namespace(self, name: str) -> None:
        """Create a namespace. Raises ControlPlaneError, also when there is one of this name."""
        await self._create("/api/v1/namespaces", {"metadata": {"name": name}})

    def kubeconfig_with_certificate(self) -> Path:
        """Return a kubeconfig of the administrator with a client certificate, which the API server prefers to
        a token."""
        path = self.folder / "certificate.kubeconfig"
        return self._write_kubeconfig(path, self._credentials.admin_user(), "default")

    async def kubeconfig_for(self, service_account: str, namespace: str) -> Path:
        """
        Return a kubeconfig with a bearer token of an existing ServiceAccount, by the TokenRequest API.

        Raises ControlPlaneError when there is no such ServiceAccount.
        """
        token = await self.token_for(service_account, namespace)
        path = self.folder / f"{namespace}.{service_account}.kubeconfig"
        return self._write_kubeconfig(path, {"token": token}, namespace)

    async def token_for(self, service_account: str, namespace: str, *, seconds: int = TOKEN_LIFETIME) -> str:
        """
        Return a bearer token of an existing ServiceAccount that is valid for this duration (600 s at least).

        Raises ControlPlaneError when there is no such ServiceAccount.
        """
        answer = await self._create(
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token",
            {"spec": {"expirationSeconds": seconds}},
        )
        token: str = answer["status"]["token"]
        return token

    def objects(self, namespace: str) -> NamespaceObjects:
        """Return the objects of a namespace, to be read and applied."""
        return NamespaceObjects(self._client, namespace)

    async def apply_crds(self, folder: Path = CRDS) -> None:
        """Apply all CustomResourceDefinitions of a folder and wait until they can be used; see
        ``install_crds``."""
        await install_crds(self.kubectl, folder)

    # What follows is how.

    async def _start_etcd(self) -> None:
        arguments = [
            "--name=etcd",
            f"--data-dir={DATA}",
            f"--listen-client-urls={ETCD_CLIENTS}",
            f"--advertise-client-urls={ETCD_CLIENTS}",
            f"--listen-peer-urls={ETCD_PEERS}",
            f"--initial-advertise-peer-urls={ETCD_PEERS}",
            f"--initial-cluster=etcd={ETCD_PEERS}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]
        server = self._serve("etcd", arguments)

        async def listens() -> bool:
            return self._etcd_socket.exists()

        await self._until(listens, "etcd does not listen", server)

    @property
    def _etcd_socket(self) -> Path:
        return self.folder / ETCD_CLIENTS.removeprefix("unix://")

    async def _start_on_a_free_port(self) -> None:
        for left in reversed(range(PORT_ATTEMPTS)):
            self._port = free_port()
            self.url = f"https://127.0.0.1:{self._port}"
            self.kubeconfig = self._write_kubeconfig(
                self.folder / "kubeconfig", {"token": self._credentials.admin_token}, "default"
            )
            self.kubectl = self.kubectl_as(self.kubeconfig)
            self._client.base_url = self.url
            try:
                await self.start_apiserver()
            except PortTakenError:
                # Somebody was faster between our look and the server's.
                if not left:
                    raise
            else:
                return

    def _apiserver_arguments(self) -> Sequence[str]:
        keys = self._credentials
        return [
            f"--etcd-servers={ETCD_CLIENTS}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            f"--tls-cert-file={keys.server_certificate}",
            f"--tls-private-key-file={keys.server_key}",
            f"--client-ca-file={keys.authority}",
            f"--token-auth-file={keys.token_file}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={keys.tokens_key}",
            f"--service-account-signing-key-file={keys.tokens_key}",
            "--service-cluster-ip-range=10.0.0.0/24",
            # The Service `kubernetes` can't lead to a loopback address, and nobody asks it.
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            # It refuses pods in namespaces whose ServiceAccount `default` the controller-manager has not
            # made.
            "--disable-admission-plugins=ServiceAccount",
            "--profiling=false",
            # Open watches are ended, so that an orderly end takes seconds, not a minute.
            "--shutdown-watch-termination-grace-period=1s",
            *self._flags,
        ]

    def _serve(self, name: str, arguments: Sequence[str]) -> ServerProcess:
        server = ServerProcess(
            [self._binaries[name], *arguments],
            log=self.folder / f"{name}.log",
            environment=bare_environment(),
        )
        self._servers[name] = server
        return server

    async def _has_default_namespace(self) -> bool:
        return "metadata" in await self._get("/api/v1/namespaces/default")

    async def _is_ready(self) -> bool:
        try:
            return (await self._client.get("/readyz", timeout=READYZ_TIMEOUT)).is_success
        except httpx.TransportError:
            return False

    async def _until(self, condition: Condition, complaint: str, server: ServerProcess | None = None) -> None:
        """Wait for a condition. Raises ControlPlaneError when it takes too long or ``server`` ends
        meanwhile."""
        try:
            async with asyncio.timeout(TIMEOUT):
                while not await condition():
                    if server is not None and server.ended:
                        raise _exit_error(complaint, server)
                    await asyncio.sleep(INTERVAL)
        except TimeoutError:
            words = f":\n{server.log_tail()}" if server is not None else ""
            raise ControlPlaneError(f"{complaint} after {TIMEOUT:.0f} s{words}") from None

    async def _get(self, path: str) -> dict[str, Any]:
        """Return what the API server has there, or nothing."""
        answer = await self._client.get(path)
        found: dict[str, Any] = answer.json() if answer.is_success else {}
        return found

    async def _create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        answer = await self._client.post(path, json=body)
        created: dict[str, Any] = answer.json()
        if answer.is_error:
            raise ControlPlaneError(f"the API server refused POST {path}: {created.get('message', created)}")
        return created

    def _write_kubeconfig(self, path: Path, user: dict[str, str], namespace: str) -> Path:
        content = self._credentials.kubeconfig(url=self.url, user=user, namespace=namespace)
        # JSON is YAML, too.
        credentials.write_private(path, json.dumps(content, indent=2).encode())
        return path


def _exit_error(complaint: str, server: ServerProcess) -> ControlPlaneError:
    words = server.log_tail()
    kind = PortTakenError if "address already in use" in words else ControlPlaneError
    return kind(f"{complaint}, it ended:\n{words}")
