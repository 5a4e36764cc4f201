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
from sandbox.esaw import CallbackUrls, StandInControl, User
from sandbox.node.images import IMAGE
from tests.support.neighbours import (
    BUCKET,
    ESAW_PORT,
    MAIL_PORT,
    NAMESPACE,
    S3_PORT,
    Neighbours,
    make_namespace,
)
from tests.support.pauses import eventually

RELEASE = "counterfoil"
HOME = "contracts"
"""The namespace of the release."""
RECEIVER = f"http://{RELEASE}-receiver.{HOME}.svc.cluster.local"
"""Address of the receiver for pods."""
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
    namespace: str = HOME
    """The namespace of its objects. The pods are in that of the release."""
    quotas_at_first: str = ""
    """The quotas that there were after the first installation."""
    _tokens: dict[str, str] = field(default_factory=dict)
    """The token in the callback URL of each organization."""
    _users: dict[str, User] = field(default_factory=dict)
    """The user of eSAW who sends the envelopes of each organization."""

    def unit(self, namespace: str) -> "Release":
        """The same release, with objects in another namespace that it serves."""
        return Release(self.cluster, self.helm, self.neighbours, namespace)

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
                    "mail": {"to": [neighbour("mail")], "ports": [MAIL_PORT]},
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
        """Run kubectl in the namespace of the objects."""
        return await self.cluster.kubectl("-n", self.namespace, *arguments, stdin=stdin)

    async def apply(self, *objects: Mapping[str, Any]) -> None:
        """Create or change objects."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        await self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(listed))

    async def furnish(self, **spec: Any) -> None:
        """Make an archive, an organization (with more fields of its spec) and a new sender, and tell eSAW
        where to call."""
        await self.declare_archive()
        await self.until("Ready", "archive/dms")
        await self.add_organization(ACME, **spec)
        async with self.neighbours.esaw() as esaw:
            await esaw.set_default_callbacks(completed=self.callback_url(), status_change=None)

    async def declare_archive(self) -> None:
        """Make an archive."""
        s3 = {"accessKeyId": self.neighbours.access_key, "secretAccessKey": self.neighbours.secret_key}
        await self.apply(secret_for("dms-key", "archive", **s3))
        await self.apply(
            own_object(
                "Archive",
                "dms",
                s3={
                    "bucket": BUCKET,
                    "endpoint": self.neighbours.s3_url,
                    "region": "us-east-1",
                    "forcePathStyle": True,
                    "prefix": self.namespace,
                    "credentialsSecretRef": {"name": "dms-key"},
                },
            )
        )

    async def add_organization(self, organization: str, **spec: Any) -> None:
        """Make an organization with more or other fields of its spec, and a new sender."""
        await self.declare_organization(organization, **spec)
        await self.until("Ready", f"organization/{organization}")
        await self.until("Authorized", f"sender/{self.sender(organization)}")

    async def declare_organization(self, organization: str, **spec: Any) -> None:
        """Do the same, and don't wait until they work."""
        async with self.neighbours.esaw() as esaw:
            email = self.mail_address("anna", organization)
            anna = await esaw.add_user(email=email, given_name="Anna", surname="Berger")
        self._users[organization] = anna
        self._tokens.setdefault(organization, secrets.token_hex(24))
        # Not the name of an earlier one: the stand-in may have lost its memory, and a new user has a new id.
        name = self.sender(organization)
        await self.apply(
            secret_for(f"{organization}-callback", "callback", token=self._tokens[organization]),
            secret_for(f"{name}-key", "token", token=anna.token),
        )
        await self.apply(
            own_object(
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
            own_object(
                "Sender",
                name,
                organizationRef={"name": organization},
                userID=anna.user_id,
                email=anna.email,
                tokenSecretRef={"name": f"{name}-key", "key": "token"},
            ),
        )

    def mail_address(self, person: str, organization: str = ACME) -> str:
        """Address of a person of an organization of this namespace."""
        return f"{person}@{organization}.{self.namespace}.example"

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
        selected = ["-l", labels, "--field-selector", fields]
        pods = json.loads(await self.cluster.kubectl("-n", HOME, "get", "pods", *selected, "-o", "json"))
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
        found = json.loads(await self.cluster.kubectl("-n", HOME, "get", "pods", "-l", labels, "-o", "json"))
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
        unit = "" if self.namespace == HOME else f"{self.namespace}/"
        path = f"callbacks/{unit}{organization}/{self._tokens[organization]}"
        return f"{RECEIVER}/{path}?envelopeId=##EnvelopeId##&action=##Action##"

    async def complete(self, number: int, organization: str = ACME) -> list[str]:
        """Complete this number of envelopes; eSAW calls until the response is 200. Their ids."""
        sent = []
        async with self.neighbours.esaw() as esaw:
            for _ in range(number):
                envelope = await self.active(esaw, organization)
                await esaw.complete(envelope)
                sent.append(envelope)
        return sent

    async def active(self, esaw: StandInControl, organization: str = ACME) -> str:
        """Add an envelope that is not complete yet. Its id."""
        user, callbacks = self._users[organization], CallbackUrls(envelope=self.callback_url(organization))
        return await esaw.add_envelope(sender=user, status="Active", callbacks=callbacks)

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
    """Callbacks that flow while something else happens: envelope after envelope, in each namespace in turn,
    until the block ends."""

    def __init__(self, *releases: Release, every: float = 0.5) -> None:
        self._releases = releases
        self._every = every
        self.sent: list[str] = []
        """The envelopes of all namespaces."""
        self._sent_in: dict[str, list[str]] = {each.namespace: [] for each in releases}

    async def __aenter__(self) -> "Flow":
        self._task = asyncio.create_task(self._flow())
        return self

    async def __aexit__(self, *ending: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    async def filed(self) -> None:
        """Wait until all are filed, each by an event in its namespace."""
        for each in self._releases:
            await each.filed(self._sent_in[each.namespace])

    async def _flow(self) -> None:
        while True:
            for each in self._releases:
                sent = await each.complete(1)
                self.sent += sent
                self._sent_in[each.namespace] += sent
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


def own_object(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    """One of Counterfoil's objects."""
    return {"apiVersion": "counterfoil.dev/v1beta1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def secret_for(name: str, use: str, **values: str) -> dict[str, Any]:
    """A Secret with the label of its use."""
    metadata = {"name": name, "labels": {"counterfoil.dev/use": use}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values}


def _in_bucket(location: str) -> str:
    """The name that `find` says."""
    return unquote(location).replace(f"s3://{BUCKET}/", "./")
