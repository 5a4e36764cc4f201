"""
Objects of one namespace, read and applied over HTTP by the administrator.

What tests set up and ask again and again goes this way: starting kubectl for each question costs more CPU
than all that is asked about. What a person would type stays kubectl's.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final, NamedTuple

import httpx

COUNTERFOIL: Final = "apis/counterfoil.dev/v1beta1"
RBAC: Final = "apis/rbac.authorization.k8s.io/v1"
FIELD_MANAGER: Final = "sandbox"
"""Manager of the applied fields."""
WATCH_PAUSE_SECONDS: Final = 0.1


class ResourcePath(NamedTuple):
    """Path of a kind in the API server."""

    api: str
    plural: str


RESOURCE_PATHS: Final[Mapping[str, ResourcePath]] = {
    "Archive": ResourcePath(COUNTERFOIL, "archives"),
    "Envelope": ResourcePath(COUNTERFOIL, "envelopes"),
    "EnvelopeEvent": ResourcePath(COUNTERFOIL, "envelopeevents"),
    "Import": ResourcePath(COUNTERFOIL, "imports"),
    "Organization": ResourcePath(COUNTERFOIL, "organizations"),
    "Sender": ResourcePath(COUNTERFOIL, "senders"),
    "ConfigMap": ResourcePath("api/v1", "configmaps"),
    "Event": ResourcePath("apis/events.k8s.io/v1", "events"),
    "Job": ResourcePath("apis/batch/v1", "jobs"),
    "Lease": ResourcePath("apis/coordination.k8s.io/v1", "leases"),
    "ResourceQuota": ResourcePath("api/v1", "resourcequotas"),
    "Role": ResourcePath(RBAC, "roles"),
    "RoleBinding": ResourcePath(RBAC, "rolebindings"),
    "Secret": ResourcePath("api/v1", "secrets"),
    "ServiceAccount": ResourcePath("api/v1", "serviceaccounts"),
}
_SHORT: Final = {"ee": "EnvelopeEvent", "env": "Envelope", "org": "Organization"}
_KINDS: Final = {
    **_SHORT,
    **{kind.lower(): kind for kind in RESOURCE_PATHS},
    **{resource_path.plural: kind for kind, resource_path in RESOURCE_PATHS.items()},
}


class ObjectError(Exception):
    """The API server did not do it; the message is its own."""


class NamespaceObjects:
    """The objects of one namespace. A kind is named as for kubectl: ``sender``, ``senders``, ``org``."""

    def __init__(self, client: httpx.AsyncClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def apply(self, body: Mapping[str, Any]) -> None:
        """Create or change an object, as by ``kubectl apply --server-side --force-conflicts``. Raises
        ``ObjectError``."""
        await self._apply(body)

    async def apply_dry_run(self, body: Mapping[str, Any]) -> None:
        """Let the API server decide about ``apply`` and store nothing. Raises ``ObjectError``."""
        await self._apply(body, dryRun="All")

    async def _apply(self, body: Mapping[str, Any], **params: str) -> None:
        path = f"{self._path(body['kind'])}/{body['metadata']['name']}"
        answer = await self._client.patch(
            path,
            params={"fieldManager": FIELD_MANAGER, "force": "true", **params},
            # JSON is YAML, too.
            json=body,
            headers={"Content-Type": "application/apply-patch+yaml"},
        )
        _read(answer)

    async def merge_status(self, kind: str, name: str, status: Mapping[str, Any]) -> None:
        """Merge ``status`` into the object's status. Raises ``ObjectError``."""
        answer = await self._client.patch(
            f"{self._path(_KINDS[kind.lower()])}/{name}/status",
            json={"status": status},
            headers={"Content-Type": "application/merge-patch+json"},
        )
        _read(answer)

    async def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return one object. Raises ``ObjectError``."""
        return _read(await self._client.get(f"{self._path(_KINDS[kind.lower()])}/{name}"))

    async def list(self, kind: str, *, fields: str = "") -> list[dict[str, Any]]:
        """Return all objects of a kind, or those that a field selector chooses."""
        path, params = self._path(_KINDS[kind.lower()]), {"fieldSelector": fields} if fields else {}
        items: list[dict[str, Any]] = _read(await self._client.get(path, params=params))["items"]
        return items

    async def until_ready(self, kind: str, name: str, *, seconds: float = 60.0) -> None:
        """
        Wait until an object is Ready, as by ``kubectl wait --for=condition=Ready``; it need not exist yet.

        Raises ``ObjectError``, with the object, if it does not become Ready in time.
        """
        latest = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while True:
                    async with contextlib.aclosing(self._watch(kind, name)) as events:
                        async for latest in events:
                            event = json.loads(latest)
                            if event.get("type") in {"ADDED", "MODIFIED"} and _is_ready(event["object"]):
                                return
                    # A kind that has just been defined is not watched at once: "storage is (re)initializing".
                    await asyncio.sleep(WATCH_PAUSE_SECONDS)
        raise ObjectError(f"{kind}/{name} did not become Ready within {seconds:.0f} s: {latest}")

    async def _watch(self, kind: str, name: str) -> AsyncGenerator[str, None]:
        """Return the events of one object as JSON, beginning with the object as it is; or why there are
        none."""
        path = self._path(_KINDS[kind.lower()])
        params = {"fieldSelector": f"metadata.name={name}", "watch": "1"}
        async with self._client.stream("GET", path, params=params, timeout=None) as answer:
            async for line in answer.aiter_lines():
                yield line

    def _path(self, kind: str) -> str:
        resource_path = RESOURCE_PATHS[kind]
        return f"/{resource_path.api}/namespaces/{self._namespace}/{resource_path.plural}"


def _is_ready(body: Mapping[str, Any]) -> bool:
    """Whether the condition Ready is True, and not that of an earlier generation."""
    status = body.get("status", {})
    return any(
        (each["type"], each["status"]) == ("Ready", "True")
        and each.get("observedGeneration", status.get("observedGeneration", 0))
        >= body["metadata"]["generation"]
        for each in status.get("conditions", [])
    )


def _read(answer: httpx.Response) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    if answer.is_error:
        raise ObjectError(str(body.get("message", body)))
    return body
