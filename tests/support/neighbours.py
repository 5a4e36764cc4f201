"""
The other pods around Counterfoil in the cluster: the stand-in eSAW, an S3 server, a mail server, and an
unrelated client.

They run in a separate namespace, under Pod Security ``restricted`` as well.
"""

import json
import re
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sandbox.controlplane.kubectl import Kubectl
from sandbox.esaw import StandInControl
from sandbox.node.port_forward import PortForward

NAMESPACE = "neighbours"
BUCKET = "contracts"
ESAW_PORT = 8090
S3_PORT = 9000
MAIL_PORT = 1025
PATIENCE = "120s"
RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}
# Makes the bucket, then becomes the server.
S3_START = (
    f"mkdir -p /data/{BUCKET} /tmp/metadata && exec versitygw --port=:{S3_PORT} --region=us-east-1 --quiet "
    "posix --sidecar=/tmp/metadata /data"
)


PRINTED = re.compile(r"^To: ([^\n]*)\nSubject: ([^\n]*)\n\n(.*?)(?=\nTo: |\Z)", re.MULTILINE | re.DOTALL)


async def make_namespace(kubectl: Kubectl, name: str) -> None:
    """Create a namespace in which Pod Security ``restricted`` is enforced."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}
    await kubectl("apply", "-f", "-", stdin=json.dumps(namespace))


class PrintedMail(NamedTuple):
    """A mail as the mail server printed it."""

    to: str
    subject: str
    text: str


@dataclass
class Neighbours:
    """The pods, and ways to talk with them."""

    kubectl: Kubectl
    image: str
    folder: Path
    access_key: str = field(default_factory=lambda: f"AK{secrets.token_hex(9).upper()}")
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)

    def __post_init__(self) -> None:
        self._to_esaw = PortForward(
            self.kubectl, NAMESPACE, "esaw", ESAW_PORT, log=self.folder / "forward-esaw.log"
        )

    @property
    def esaw_url(self) -> str:
        """Address of eSAW for pods."""
        return f"http://esaw.{NAMESPACE}.svc.cluster.local:{ESAW_PORT}"

    @property
    def s3_url(self) -> str:
        """Address of the S3 server for pods."""
        return f"http://s3.{NAMESPACE}.svc.cluster.local:{S3_PORT}"

    async def settle(self) -> None:
        """Start the pods, and wait until they are ready."""
        await make_namespace(self.kubectl, NAMESPACE)
        esaw = ["python", "-m", "sandbox.esaw", "--host=0.0.0.0", f"--port={ESAW_PORT}"]
        s3 = ["/bin/sh", "-c", S3_START]
        keys = {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key}
        listening = ["python", "-m", "http.server", "8000", "--directory", "/data"]
        await self._apply(
            *self._server("esaw", ESAW_PORT, esaw),
            *self._server("s3", S3_PORT, s3, keys),
            *self._server("mail", MAIL_PORT, ["python", "-m", "sandbox.trial", "mail"]),
            *self._server("stranger", 8000, listening),
        )
        for each in ("esaw", "s3", "mail", "stranger"):
            await self.kubectl(
                "-n", NAMESPACE, "rollout", "status", f"deployment/{each}", "--timeout", PATIENCE
            )

    def close(self) -> None:
        """End the ways."""
        self._to_esaw.close()

    @asynccontextmanager
    async def esaw(self) -> AsyncIterator[StandInControl]:
        """The hands on the stand-in."""
        async with StandInControl(await self._to_esaw.url()) as control:
            yield control

    async def mails(self) -> list[PrintedMail]:
        """All mails that arrived."""
        printed = await self.kubectl("-n", NAMESPACE, "logs", "deployment/mail", "--tail=-1")
        return [PrintedMail(*each) for each in PRINTED.findall(printed)]

    async def stored(self) -> set[str]:
        """Objects in the bucket, by name."""
        return set((await self._at_s3("find . -type f")).splitlines())

    async def complaints(self, folder: str) -> str:
        """Errors of ``sha256sum -c`` for the hash file in a folder of the bucket; empty without errors."""
        return await self._at_s3(
            f"cd '{folder}' && sha256sum --check --strict --quiet counterfoil.sha256 2>&1 || true"
        )

    async def _at_s3(self, script: str) -> str:
        return await self.kubectl(
            "-n", NAMESPACE, "exec", "deployment/s3", "--", "/bin/sh", "-c", f"cd /data/{BUCKET} && {script}"
        )

    async def _apply(self, *objects: Mapping[str, Any]) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        await self.kubectl("-n", NAMESPACE, "apply", "-f", "-", stdin=json.dumps(listed))

    def _server(
        self, name: str, port: int, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        labels = {"app": name}
        container = {
            "name": name,
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "command": list(command),
            "env": [{"name": key, "value": value} for key, value in (environment or {}).items()],
            "ports": [{"containerPort": port}],
            "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 2},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [{"name": each, "mountPath": f"/{each}"} for each in ("data", "tmp")],
        }
        pod = {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 2,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "runAsGroup": 65532,
                "fsGroup": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": [{"name": each, "emptyDir": {}} for each in ("data", "tmp")],
        }
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": labels, "ports": [{"port": port}]},
        }
        return [deployment, service]
