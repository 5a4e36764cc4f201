"""
Counterfoil as a Helm release in a cluster: installed, upgraded, asked, and held to what it promises.

The values are the chart's own but where a test cluster differs: the image that was just built, and where
eSAW, archive and name servers are, for the NetworkPolicies.
"""

import asyncio
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol
from urllib.parse import unquote

from counterfoil.resources import ORGANIZATION_LABEL, EnvelopeEvent, Phase
from release.helm import CHART, Helm
from sandbox.controlplane.kubectl import Kubectl, KubectlError
from sandbox.esaw import CallbackUrls, User
from sandbox.node.images import IMAGE
from tests.support.neighbours import BUCKET, ESAW_PORT, NAMESPACE, S3_PORT, Neighbours, make_namespace
from tests.support.pauses import eventually

RELEASE = "counterfoil"
HOME = "contracts"
"""The namespace of the release."""
PATIENCE = 180.0
"""Seconds that something may take on a busy machine."""
ACME = "acme"
"""The organization that is always there."""
SCRAPER = {"app": "scraper"}
CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).close()
except OSError as refused:
    sys.exit(f"refused: {refused}")
print("through")
"""


class Cluster(Protocol):
    """Interface of both kinds of cluster; see ``sandbox.node``."""

    kubectl: Kubectl

    @property
    def name_server(self) -> dict[str, object]:
        """Address of the name servers, as ``to`` of a NetworkPolicy."""

    async def restart_runtime(self) -> None:
        """Restart containerd and the kubelet."""

    async def reboot(self) -> None:
        """Pull the plug and put it in again."""

    async def freeze(self, container: str) -> None:
        """Stop the first process of a container, as on a node that hangs."""


def neighbour(name: str) -> dict[str, Any]:
    """One neighbour, as ``to`` or ``from`` of a NetworkPolicy."""
    return {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}},
        "podSelector": {"matchLabels": {"app": name}},
    }


@dataclass
class Release:
    """The release and what is around it."""

    cluster: Cluster
    helm: Helm
    neighbours: Neighbours
    quotas_at_first: str = ""
    """The quotas that there were after the first installation."""
    _tokens: dict[str, str] = field(default_factory=dict)
    """The token in the callback URL of each organization."""
    _users: dict[str, User] = field(default_factory=dict)
    """The user of eSAW who sends the envelopes of each organization."""

    # The release

    @property
    def values(self) -> dict[str, Any]:
        """Values for this cluster that differ from the chart's defaults."""
        repository, _, tag = IMAGE.rpartition(":")
        return {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
            "networkPolicy": {
                "publicFrom": [neighbour("esaw")],
                "metricsFrom": [{"podSelector": {"matchLabels": SCRAPER}}],
                "egress": {
                    "dns": {"to": [self.cluster.name_server]},
                    "esaw": {"to": [neighbour("esaw")], "ports": [ESAW_PORT]},
                    "archives": {"to": [neighbour("s3")], "ports": [S3_PORT]},
                },
            },
        }

    async def install(self, chart: object = CHART, **more: Any) -> None:
        """Install or upgrade, and wait until all of it is ready."""
        await self._helm("upgrade", RELEASE, chart, "--install", values={**self.values, **more})

    async def take_back(self) -> None:
        """Install as it was, also where something else has changed a field meanwhile."""
        await self._helm("upgrade", RELEASE, CHART, "--force-conflicts", values=self.values)

    async def bring_quota(self) -> None:
        """Install, and wait until the Job has created the quota and it is counted."""

        async def is_there() -> bool:
            return RELEASE in await self.quotas()

        async def is_counted() -> bool:
            return "count/" in await self.kubectl(
                "get", "resourcequotas", "-o", "jsonpath={.items[*].status.used}"
            )

        await self.install()
        await eventually(is_there, within=PATIENCE)
        await eventually(is_counted, within=PATIENCE)

    async def quotas(self) -> str:
        """The names of the quotas."""
        return await self.kubectl("get", "resourcequotas", "-o", "jsonpath={.items[*].metadata.name}")

    async def rollback(self) -> None:
        """Go back to the revision before."""
        await self._helm("rollback", RELEASE)

    async def uninstall(self) -> None:
        """Remove the release."""
        await self._helm("uninstall", RELEASE)

    async def revision(self) -> int:
        """The number of its last revision."""
        listed = json.loads(await self.helm("list", f"--namespace={HOME}", "-o", "json"))
        return int(listed[0]["revision"])

    async def _helm(self, *arguments: object, values: Mapping[str, Any] | None = None) -> None:
        await self.helm(*arguments, f"--namespace={HOME}", "--wait", "--timeout=5m", values=values)

    # Objects

    async def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the release's namespace."""
        return await self.cluster.kubectl("-n", HOME, *arguments, stdin=stdin)

    async def apply(self, *objects: Mapping[str, Any]) -> None:
        """Create or change objects."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        await self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(listed))

    async def furnish(self) -> None:
        """Make an archive, an organization and a new sender, and tell eSAW where to call."""
        s3 = {"accessKeyId": self.neighbours.access_key, "secretAccessKey": self.neighbours.secret_key}
        await self.apply(_secret("dms-key", "archive", **s3))
        await self.apply(
            _own(
                "Archive",
                "dms",
                s3={
                    "bucket": BUCKET,
                    "endpoint": self.neighbours.s3_url,
                    "region": "us-east-1",
                    "forcePathStyle": True,
                    "credentialsSecretRef": {"name": "dms-key"},
                },
            )
        )
        await self.until("Ready", "archive/dms")
        await self.add_organization(ACME)
        async with self.neighbours.esaw() as esaw:
            await esaw.set_default_callbacks(completed=self.callback_url(), status_change=None)

    async def add_organization(self, organization: str, **spec: Any) -> None:
        """Make an organization with more or other fields of its spec, and a new sender."""
        async with self.neighbours.esaw() as esaw:
            email = f"anna@{organization}.example"
            anna = await esaw.add_user(email=email, given_name="Anna", surname="Berger")
        self._users[organization] = anna
        self._tokens.setdefault(organization, secrets.token_hex(24))
        # Not the name of an earlier one: the stand-in may have lost its memory, and a new user has a new id.
        name = self.sender(organization)
        await self.apply(
            _secret(f"{organization}-callback", "callback", token=self._tokens[organization]),
            _secret(f"{name}-key", "token", token=anna.token),
        )
        await self.apply(
            _own(
                "Organization",
                organization,
                baseURL=self.neighbours.esaw_url,
                callback={"tokenSecretRefs": [{"name": f"{organization}-callback", "key": "token"}]},
                archiveRef={"name": "dms"},
                cleanup={"policy": "Delete"},
                defaultSenderRef={"name": name},
                retry={"initial": "1s", "max": "5s", "deadline": "30m"},
                **spec,
            ),
            _own(
                "Sender",
                name,
                organizationRef={"name": organization},
                userID=anna.user_id,
                email=anna.email,
                tokenSecretRef={"name": f"{name}-key", "key": "token"},
            ),
        )
        await self.until("Ready", f"organization/{organization}")
        await self.until("Authorized", f"sender/{name}")

    def sender(self, organization: str = ACME) -> str:
        """The name of the newest sender of an organization."""
        return f"anna-{self._users[organization].user_id[:8]}"

    async def remove_organization(self, organization: str) -> None:
        """Delete an organization with its events, its sender and both Secrets."""
        name = self.sender(organization)
        del self._users[organization]
        await self.kubectl("delete", f"organization/{organization}", f"sender/{name}")
        await self.kubectl("delete", f"secret/{organization}-callback", f"secret/{name}-key")
        await self.kubectl("delete", "ee", "-l", f"{ORGANIZATION_LABEL}={organization}", "--wait=false")

    async def until(self, condition: str, what: str) -> None:
        """Wait until a condition of an object is true."""
        try:
            await self.kubectl("wait", what, f"--for=condition={condition}", f"--timeout={PATIENCE:.0f}s")
        except KubectlError as late:
            late.add_note(await self.kubectl("get", what, "-o", "yaml"))
            raise

    async def pods_ready(self) -> None:
        """Wait until every pod of the release is ready, except those of Jobs that are done."""
        await eventually(self._all_pods_ready, within=PATIENCE)

    async def _all_pods_ready(self) -> bool:
        labels, fields = f"app.kubernetes.io/instance={RELEASE}", "status.phase!=Succeeded"
        pods = json.loads(
            await self.kubectl("get", "pods", "-l", labels, "--field-selector", fields, "-o", "json")
        )
        states = [
            condition["status"]
            for pod in pods["items"]
            for condition in pod["status"].get("conditions", [])
            if condition["type"] == "Ready" and "deletionTimestamp" not in pod["metadata"]
        ]
        return len(states) == len(pods["items"]) > 0 and set(states) == {"True"}

    async def pods(self, component: str) -> list[dict[str, Any]]:
        """The running pods of one process."""
        labels = f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}"
        found = json.loads(await self.kubectl("get", "pods", "-l", labels, "-o", "json"))
        return [each for each in found["items"] if "deletionTimestamp" not in each["metadata"]]

    async def connects(self, pod: str, host: str, port: int, namespace: str = HOME) -> bool:
        """Whether a pod gets a connection to there."""
        try:
            said = await self.cluster.kubectl(
                "-n", namespace, "exec", pod, "--", "python", "-c", CONNECT, host, str(port)
            )
        except KubectlError as no:
            if "refused: " not in str(no):
                raise
            return False
        return said.strip() == "through"

    # Envelopes

    def callback_url(self, organization: str = ACME) -> str:
        """Callback URL for eSAW: the Service, from inside the cluster."""
        service = f"http://{RELEASE}-receiver.{HOME}.svc.cluster.local"
        path = f"callbacks/{organization}/{self._tokens[organization]}"
        return f"{service}/{path}?envelopeId=##EnvelopeId##&action=##Action##"

    async def complete(self, number: int, organization: str = ACME) -> list[str]:
        """Complete this number of envelopes; eSAW calls until the response is 200. Their ids."""
        user, callbacks = self._users[organization], CallbackUrls(envelope=self.callback_url(organization))
        sent = []
        async with self.neighbours.esaw() as esaw:
            for _ in range(number):
                envelope = await esaw.add_envelope(sender=user, status="Active", callbacks=callbacks)
                await esaw.complete(envelope)
                sent.append(envelope)
        return sent

    async def add_old(self, number: int, age: timedelta) -> list[str]:
        """Add this number of envelopes that were completed long ago, about which eSAW calls nobody. Their
        ids."""
        user = self._users[ACME]
        async with self.neighbours.esaw() as esaw:
            return [await esaw.add_envelope(sender=user, sent_ago=age) for _ in range(number)]

    async def answers(self, envelopes: Sequence[str]) -> list[int]:
        """Responses to each of eSAW's callbacks about these envelopes."""
        async with self.neighbours.esaw() as esaw:
            return [each.status for each in await esaw.callbacks() if each.envelope_id in envelopes]

    async def events(self) -> list[EnvelopeEvent]:
        """All events."""
        listed = json.loads(await self.kubectl("get", "envelopeevents", "-o", "json"))
        return [EnvelopeEvent.parse(each) for each in listed["items"]]

    async def filed(self, envelopes: Sequence[str]) -> None:
        """
        Wait until these envelopes are filed, and hold Counterfoil to it: one event each, its files in the
        bucket once and whole, the envelope deleted in eSAW after that.
        """

        async def all_final() -> list[EnvelopeEvent]:
            events = [each for each in await self.events() if each.spec.envelope_id in envelopes]
            return (
                events
                if len(events) >= len(envelopes) and all(each.status.phase.is_final for each in events)
                else []
            )

        assert envelopes, "nothing was sent"
        events = await eventually(all_final, within=PATIENCE)
        assert sorted(each.spec.envelope_id for each in events) == sorted(envelopes)
        assert {each.status.phase for each in events} == {Phase.SUCCEEDED}, [each.status for each in events]
        stored = await self.neighbours.stored()
        for event in events:
            await self._holds(event, stored)

    async def _holds(self, event: EnvelopeEvent, stored: set[str]) -> None:
        envelope = event.spec.envelope_id
        assert event.status.archive is not None
        folder = _in_bucket(event.status.archive.manifest or "").rpartition("/")[0]
        listed = {_in_bucket(each.location or "") for each in event.status.documents}
        listed |= {f"{folder}/{each}" for each in ("counterfoil.json", "counterfoil.sha256")}
        assert {each for each in stored if envelope in each} == listed
        assert await self.neighbours.complaints(folder) == ""
        async with self.neighbours.esaw() as esaw:
            wanted = {
                each.file_id: await esaw.expected_sha256(each.file_id) for each in await esaw.files(envelope)
            }
            assert {each.file_id: each.sha256 for each in event.status.documents} == wanted
            assert not await esaw.exists(envelope)
            deletions = await esaw.delete_calls(envelope)
        assert [each for each in deletions if each.status < 300][1:] == [], "deleted twice"


class Flow:
    """Callbacks that flow while something else happens: envelope after envelope, until the block ends."""

    def __init__(self, release: Release, *, every: float = 0.5) -> None:
        self._release = release
        self._every = every
        self.sent: list[str] = []

    async def __aenter__(self) -> "Flow":
        self._task = asyncio.create_task(self._flow())
        return self

    async def __aexit__(self, *ending: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    async def _flow(self) -> None:
        while True:
            self.sent += await self._release.complete(1)
            await asyncio.sleep(self._every)


async def release_in(cluster: Cluster, helm: Helm, neighbours: Neighbours) -> Release:
    """Install Counterfoil for the first time, into an empty namespace that enforces Pod Security
    ``restricted``."""
    await make_namespace(cluster.kubectl, HOME)
    release = Release(cluster, helm, neighbours)
    await release.install()
    release.quotas_at_first = await release.quotas()
    await release.furnish()
    return release


def _own(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "counterfoil.dev/v1beta1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _secret(name: str, use: str, **values: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"counterfoil.dev/use": use}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


def _in_bucket(location: str) -> str:
    """The name that `find` says."""
    return unquote(location).replace(f"s3://{BUCKET}/", "./")
