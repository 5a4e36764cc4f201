"""A namespace with the chart's admission policies and roles for people, and users with different rights."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from release.helm import CHART, helm
from sandbox.controlplane import rbac
from sandbox.controlplane.control_plane import ControlPlane
from sandbox.controlplane.kubectl import KubectlError
from tests.support.scenes.chart import with_image

PATIENCE = 60.0
PAUSE = 0.2
RELEASE = "counterfoil"
_CLUSTER_KINDS = {"ClusterRole", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}
_KINDS = ["archives", "envelopeevents", "envelopes", "imports", "organizations", "senders"]

CONSOLE_USER: tuple[rbac.Rule, ...] = rbac.ADMINISTRATOR
"""The Role of docs/console.md."""

WRITER: tuple[rbac.Rule, ...] = (
    {
        "apiGroups": ["counterfoil.dev"],
        "resources": _KINDS,
        "verbs": ["get", "list", "create", "update", "patch", "delete"],
    },
)
"""Everything but Secrets, as a GitOps account may have."""


@dataclass(frozen=True)
class GuardedNamespace:
    """The namespace; users act in it by impersonation."""

    plane: ControlPlane
    name: str

    async def admin(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as an administrator of the cluster, whom no policy limits."""
        return await self.plane.kubectl("-n", self.name, *arguments, stdin=stdin)

    async def apply(self, *objects: Mapping[str, Any]) -> None:
        """Store objects as the administrator."""
        body = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        await self.admin("apply", "--server-side", "-f", "-", stdin=json.dumps(body))

    async def user(
        self, name: str, rules: Sequence[rbac.Rule] = (), cluster_roles: Sequence[str] = ()
    ) -> None:
        """Give a user a Role with these rules, and ClusterRoles, in this namespace."""
        group = "rbac.authorization.k8s.io"
        roles = [("ClusterRole", each) for each in cluster_roles]
        objects: list[dict[str, Any]] = []
        if rules:
            roles.append(("Role", name))
            objects.append(
                {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": {"name": name}, "rules": [*rules]}
            )
        for number, (kind, role) in enumerate(roles):
            objects.append(
                {
                    "apiVersion": f"{group}/v1",
                    "kind": "RoleBinding",
                    "metadata": {"name": f"{name}-{number}"},
                    "roleRef": {"apiGroup": group, "kind": kind, "name": role},
                    "subjects": [{"apiGroup": group, "kind": "User", "name": name}],
                }
            )
        await self.apply(*objects)

    async def as_user(self, name: str, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as a user."""
        return await self.admin(*arguments, f"--as={name}", stdin=stdin)

    async def patch(self, user: str, target: str, body: Mapping[str, Any]) -> str:
        """Change an object (``kind/name``) as a user."""
        return await self.as_user(user, "patch", target, "--type=merge", "-p", json.dumps(body))

    async def create(self, user: str, body: Mapping[str, Any]) -> str:
        """Create an object as a user."""
        return await self.as_user(user, "create", "-f", "-", stdin=json.dumps(body))

    async def refusal_of_patch(self, user: str, target: str, body: Mapping[str, Any]) -> str:
        """Change an object as a user until this is refused, and return the error."""
        return await self._refusal(user, "patch", target, "--type=merge", "-p", json.dumps(body))

    async def refusal_of_create(self, user: str, body: Mapping[str, Any]) -> str:
        """Create an object as a user until this is refused, and return the error."""
        return await self._refusal(user, "create", "-f", "-", stdin=json.dumps(body))

    async def _refusal(self, user: str, *arguments: str, stdin: str | None = None) -> str:
        # A policy and a Role take effect some moments after they are stored, so nothing is really changed.
        last = "it was accepted"
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while asyncio.get_running_loop().time() < deadline:
            try:
                await self.as_user(user, *arguments, "--dry-run=server", stdin=stdin)
            except KubectlError as error:
                last = str(error)
                if "ValidatingAdmissionPolicy" in last:
                    return last
            await asyncio.sleep(PAUSE)
        raise AssertionError(f"no policy refused this: {last}")

    async def until_accepted(self, user: str, *arguments: str, stdin: str | None = None) -> None:
        """Try as a user until it is accepted. A new Role takes effect some moments after it is stored."""
        async with asyncio.timeout(PATIENCE):
            while True:
                with suppress(KubectlError):
                    await self.as_user(user, *arguments, "--dry-run=server", stdin=stdin)
                    return
                await asyncio.sleep(PAUSE)


async def guarded_namespace(
    plane: ControlPlane, namespace: str, folder: Path, values: Mapping[str, Any] | None = None
) -> GuardedNamespace:
    """Install the chart's policies and ClusterRoles for a namespace, and wait until the policies take
    effect."""
    program = await helm(folder / "helm")
    text = await program(
        "template",
        RELEASE,
        CHART,
        "--namespace",
        namespace,
        "--kube-version",
        "1.35.4",
        values=with_image(values or {}),
    )
    guarded = GuardedNamespace(plane, namespace)
    await guarded.apply(
        *(each for each in yaml.safe_load_all(text) if each and each["kind"] in _CLUSTER_KINDS)
    )
    await guarded.user("nobody", WRITER)
    await guarded.user("patcher", CONSOLE_USER)
    await guarded.apply(an_archive("canary", webdav={"url": "https://dms.example.com/dav"}))
    await guarded.refusal_of_create("nobody", a_sender("canary", tokenSecretRef={"name": "a", "key": "b"}))
    await guarded.refusal_of_patch("patcher", "archive/canary", {"spec": {"maxConcurrency": 2}})
    return guarded


def people_roles(guarded: GuardedNamespace, role: str) -> tuple[str, ...]:
    """
    Return the ClusterRoles that Kubernetes aggregates into ``view``, ``edit`` or ``admin``.

    The controller manager, which aggregates them, is absent here.
    """
    roles = ("view", "edit", "admin")[: ("view", "edit", "admin").index(role) + 1]
    return tuple(
        name for each in roles for name in (f"system:aggregate-to-{each}", f"{guarded.name}-{RELEASE}-{each}")
    )


def an_organization(name: str, **spec: Any) -> dict[str, Any]:
    """Return an Organization with every reference that it can have."""
    return _object(
        "Organization",
        name,
        {
            "baseURL": "https://esaw.example.com",
            "callback": {"tokenSecretRefs": [{"name": "callback", "key": "token"}]},
            "oauth": {"clientID": "counterfoil", "clientSecretRef": {"name": "oauth", "key": "clientSecret"}},
            "webhook": {
                "url": "https://erp.example.com/counterfoil",
                "signingSecretRef": {"name": "webhook", "key": "signingSecret"},
            },
            "archiveRef": {"name": "dms"},
            **spec,
        },
    )


def a_sender(name: str, **spec: Any) -> dict[str, Any]:
    """Return a Sender."""
    return _object("Sender", name, {"organizationRef": {"name": "acme"}, "userID": name, **spec})


def an_archive(name: str, **spec: Any) -> dict[str, Any]:
    """Return an Archive."""
    return _object("Archive", name, spec)


def an_import(name: str, **spec: Any) -> dict[str, Any]:
    """Return an Import."""
    return _object("Import", name, {"from": "2019-01-01", **spec})


def _object(kind: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "counterfoil.dev/v1beta1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {**spec},
    }
