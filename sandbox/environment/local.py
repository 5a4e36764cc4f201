"""
A whole Counterfoil on this machine: control plane, stand-in eSAW, receivers and controllers, each process
with just the rights it has in a cluster. Demo, chaos tests and benchmarks use it.

Nothing here decides a result. It starts the processes, returns addresses, and stops everything again.
"""

import asyncio
import base64
import json
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from counterfoil.clock import CLOCK_DIFFERENCE
from counterfoil.kube.secret import USE_LABEL
from counterfoil.origin import ORIGIN_ANNOTATION
from counterfoil.resources.lease import SHARD_LEASE_COUNT_LABEL, micro_time, shard_lease_name
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.environment.processes import CounterfoilProcess
from sandbox.esaw import StandIn, User
from sandbox.servers.smtp import SmtpServer

CALLBACK_QUERY = "envelopeId=##EnvelopeId##&action=##Action##"


@dataclass
class LocalEnvironment:
    """The running processes and their addresses; made by ``local_environment``."""

    plane: ControlPlane
    esaw: StandIn
    namespace: str
    folder: Path
    processes: list[CounterfoilProcess] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)
    """Callback token per organization."""
    public_authorities: bool = False
    """Whether the processes trust the public authorities, too: to read them takes a tenth of a second of each
    start."""

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the environment's namespace."""
        return await self.plane.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    async def apply(self, *objects: Mapping[str, Any]) -> None:
        """Create or change objects, one after the other."""
        for each in objects:
            await self.plane.objects(self.namespace).apply(each)

    async def read(self, kind: str, name: str) -> dict[str, Any]:
        """Return one object."""
        return await self.plane.objects(self.namespace).get(kind, name)

    async def listed(self, kind: str, *, fields: str = "") -> list[dict[str, Any]]:
        """Return all objects of a kind, or those that a field selector chooses."""
        return await self.plane.objects(self.namespace).list(kind, fields=fields)

    async def events(self, *arguments: str) -> list[dict[str, Any]]:
        """Return all EnvelopeEvents, or those that kubectl's arguments choose."""
        if not arguments:
            return await self.listed("envelopeevents")
        items: list[dict[str, Any]] = json.loads(await self.kubectl("get", "ee", "-o", "json", *arguments))[
            "items"
        ]
        return items

    async def secret(self, name: str, use: str, *, origin: str | None = None, **values: str) -> None:
        """Create or change a Secret, labelled with its use; ``origin`` is the only one it may be sent to."""
        annotations = {} if origin is None else {ORIGIN_ANNOTATION: origin}
        metadata = {"name": name, "labels": {USE_LABEL: use}, "annotations": annotations}
        await self.apply(
            {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(values)}
        )

    async def organization(self, name: str, *, archive: str, sender: str | None = None, **spec: Any) -> None:
        """Create an Organization with its own callback token."""
        self.tokens.setdefault(name, secrets.token_hex(24))
        await self.secret(f"{name}-callback", "callback", token=self.tokens[name])
        default = {} if sender is None else {"defaultSenderRef": {"name": sender}}
        await self.apply(
            {
                "apiVersion": "counterfoil.dev/v1beta1",
                "kind": "Organization",
                "metadata": {"name": name},
                "spec": {
                    "baseURL": self.esaw.url,
                    "callback": {"tokenSecretRefs": [{"name": f"{name}-callback", "key": "token"}]},
                    "archiveRef": {"name": archive},
                    "cleanup": {"policy": "Delete"},
                    "retry": {"initial": "200ms", "max": "2s", "deadline": "10m"},
                    **default,
                    **spec,
                },
            }
        )

    async def record_sweep(self, organization: str) -> None:
        """
        Record that the controller has searched for missed callbacks of this organization, for all senders
        whose keys it verifies within minutes.

        Otherwise it searches as it starts, and may create the event of an envelope before its callback does.
        """
        ended = datetime.now(UTC) + CLOCK_DIFFERENCE / 2
        swept = {"completionTime": ended.isoformat(), "found": 0}
        await self.plane.objects(self.namespace).merge_status("organization", organization, {"sweep": swept})

    async def mails(self, server: SmtpServer, *administrators: str, **settings: Any) -> dict[str, Any]:
        """Create the Secret of a mail server; return the value of ``spec.notifications``."""
        await self.secret("smtp", "smtp", **server.secret)
        written_to = {"administrators": list(administrators)} if administrators else {}
        return {
            "smtpSecretRef": {"name": "smtp"},
            "from": "counterfoil@acme.example",
            **written_to,
            **settings,
        }

    async def sender(self, name: str, user: User, *, organization: str, origin: str | None = None) -> None:
        """Create a Sender who brings a key; ``origin`` is that of its eSAW."""
        await self.secret(f"{name}-key", "token", origin=origin, token=user.token)
        await self.apply(
            {
                "apiVersion": "counterfoil.dev/v1beta1",
                "kind": "Sender",
                "metadata": {"name": name},
                "spec": {
                    "organizationRef": {"name": organization},
                    "userID": user.user_id,
                    "email": user.email,
                    "givenName": user.given_name,
                    "surname": user.surname,
                    "tokenSecretRef": {"name": f"{name}-key", "key": "token"},
                },
            }
        )

    async def archive(self, name: str, **spec: Any) -> None:
        """Create an Archive."""
        await self.apply(
            {
                "apiVersion": "counterfoil.dev/v1beta1",
                "kind": "Archive",
                "metadata": {"name": name},
                "spec": spec,
            }
        )

    async def ready(self, *objects: str) -> None:
        """Wait until ``kind/name`` objects are Ready. Raises ``ObjectError``."""
        for each in objects:
            await self.plane.objects(self.namespace).until_ready(*each.split("/"))

    def callback_url(self, organization: str, receiver: CounterfoilProcess) -> str:
        """Return the callback URL to set in eSAW."""
        return f"{receiver.public}/callbacks/{organization}/{self.tokens[organization]}?{CALLBACK_QUERY}"

    async def receiver(
        self, name: str = "receiver", *, kubeconfig: Path | None = None, **settings: str
    ) -> CounterfoilProcess:
        """Start one more receiver; with a separate kubeconfig if it must reach the API server by another
        address."""
        return await self._process(name, ["webhook", "receiver"], "receiver", kubeconfig, settings)

    async def controller(
        self, name: str = "controller", *, kubeconfig: Path | None = None, **settings: str
    ) -> CounterfoilProcess:
        """Start one more controller; with a separate kubeconfig if it must reach the API server by another
        address."""
        # The identity as of a pod: after a restart it has its shards again at once.
        settings = {"identity": name, "key_confirmation": "1s", **settings}
        return await self._process(name, ["controller"], "controller", kubeconfig, settings)

    async def assign_shards(self, *holders: str) -> dict[str, str]:
        """
        Reserve one shard for each of these controllers; return the settings to start them with.

        Each finds the Lease of its shard under its own name and takes it at once; the others wait for ten
        minutes.
        """
        now = micro_time(datetime.now(UTC))
        for number, holder in enumerate(holders):
            await self.apply(
                {
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": {
                        "name": shard_lease_name(number, len(holders)),
                        "labels": {SHARD_LEASE_COUNT_LABEL: str(len(holders))},
                    },
                    "spec": {
                        "holderIdentity": holder,
                        "leaseDurationSeconds": 600,
                        "acquireTime": now,
                        "renewTime": now,
                    },
                }
            )
        return {"shards": str(len(holders)), "lease_duration": "10m", "renew_deadline": "9m"}

    async def pages(
        self, name: str = "pages", *, kubeconfig: Path | None = None, **settings: str
    ) -> CounterfoilProcess:
        """Start one more pages process; with a separate kubeconfig if it must reach the API server by another
        address."""
        return await self._process(name, ["webhook", "pages"], "pages", kubeconfig, settings)

    async def console(
        self, name: str = "console", *, kubeconfig: Path | None = None, **settings: str
    ) -> CounterfoilProcess:
        """Start one more console; its own account only stores who signed out."""
        return await self._process(name, ["webhook", "console"], "console", kubeconfig, settings)

    async def person(self, name: str, *rules: rbac.Rule) -> str:
        """Make an account with these rights for a person; return a token of it, as `kubectl create token`
        does."""
        await self.apply(*rbac.service_account_with_rules(name, rules))
        return await self.plane.token_for(name, self.namespace)

    def sealing_key(self, key_id: str) -> None:
        """Add a sealing key for all that are started and running."""
        self.sealing_keys.mkdir(exist_ok=True)
        (self.sealing_keys / key_id).write_bytes(base64.b64encode(secrets.token_bytes(32)))

    @property
    def sealing_keys(self) -> Path:
        """The folder of sealing keys."""
        return self.folder / "sealing-keys"

    async def _process(
        self, name: str, module: list[str], account: str, way: Path | None, settings: Mapping[str, str]
    ) -> CounterfoilProcess:
        process = CounterfoilProcess.of(
            module,
            kubeconfig=way or await self.plane.kubeconfig_for(account, self.namespace),
            namespace=self.namespace,
            log=self.folder / f"{name}.log",
            settings={"sealing_keys": str(self.sealing_keys), **settings},
        )
        if not self.public_authorities:
            process.environment["SSL_CERT_FILE"] = str(self.plane.authority)
        self.processes.append(process)
        await process.start()
        return process


@asynccontextmanager
async def local_environment(
    plane: ControlPlane,
    folder: Path,
    *,
    namespace: str,
    esaw: StandIn | None = None,
    public_authorities: bool = False,
) -> AsyncIterator[LocalEnvironment]:
    """
    Set an environment up in a namespace of a running control plane; stop every process in the end.

    Logs and all other files go below ``folder``.
    """
    async with AsyncExitStack() as stack:
        standin = esaw if esaw is not None else await stack.enter_async_context(StandIn())
        built = LocalEnvironment(
            plane=plane,
            esaw=standin,
            namespace=namespace,
            folder=folder,
            public_authorities=public_authorities,
        )
        await built.apply(*rbac.service_account_with_rules("receiver", rbac.RECEIVER))
        await built.apply(*rbac.service_account_with_rules("controller", rbac.CONTROLLER))
        await built.apply(*rbac.service_account_with_rules("pages", rbac.PAGES))
        await built.apply(*rbac.service_account_with_rules("console", rbac.CONSOLE))
        await built.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "counterfoil-console-sessions"}}
        )
        built.sealing_key("first")
        try:
            yield built
        finally:
            await asyncio.gather(*(process.stop() for process in built.processes))
