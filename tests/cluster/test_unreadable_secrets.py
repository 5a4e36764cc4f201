"""A Secret that a real API server can't decrypt: its answers, and what the controller takes them to be."""

import base64
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from controller.access.secret_cache import SecretCache, SecretUnreadable
from counterfoil.kube.client import KubeClient, connect
from counterfoil.kube.errors import Rejected, Unavailable
from counterfoil.kube.secret import SecretUse
from sandbox.controlplane.control_plane import ControlPlane, control_plane
from sandbox.controlplane.kubectl import KubectlError
from tests.support.builders import AClock

UNDECRYPTABLE = b"k8s:enc:secretbox:v1:lost:" + bytes(64)
"""The stored form of a Secret that was encrypted with a key which the API server does not have."""


@pytest.fixture(scope="module")
async def own_plane() -> AsyncIterator[ControlPlane]:
    """A control plane that no other test uses: one undecryptable Secret disturbs each list of Secrets."""
    async with control_plane() as running:
        await running.apply_crds()
        yield running


@pytest.fixture
async def kube(own_plane: ControlPlane) -> AsyncIterator[KubeClient]:
    async with connect(namespace="default", kubeconfig=own_plane.kubeconfig) as connected:
        yield connected


class Etcd:
    """The values of a control plane's etcd."""

    def __init__(self, plane: ControlPlane) -> None:
        self._socket = str(plane.folder / "client:1")

    async def value(self, key: str) -> bytes:
        answer = await self._ask("range", key=_encoded(key.encode()))
        return base64.b64decode(answer["kvs"][0]["value"])

    async def put(self, key: str, value: bytes) -> None:
        await self._ask("put", key=_encoded(key.encode()), value=_encoded(value))

    async def _ask(self, verb: str, **body: str) -> Mapping[str, Any]:
        transport = httpx.AsyncHTTPTransport(uds=self._socket)
        async with httpx.AsyncClient(transport=transport, base_url="http://etcd") as client:
            answer = await client.post(f"/v3/kv/{verb}", json=body)
            found: Mapping[str, Any] = answer.raise_for_status().json()
            return found


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def a_secret(name: str) -> dict[str, object]:
    metadata = {"name": name, "labels": {"counterfoil.dev/use": "token"}}
    return {"metadata": metadata, "data": {"token": _encoded(b"value")}}


async def test_a_secret_that_the_api_server_can_not_decrypt_is_unreadable_until_its_key_is_back(
    own_plane: ControlPlane, kube: KubeClient
) -> None:
    clock, etcd, key = AClock(), Etcd(own_plane), "/registry/secrets/default/lost"
    secrets = SecretCache(kube, clock)
    for name in ("lost", "good"):
        await kube.create_secret(a_secret(name))
    assert await secrets.value("lost", "token", SecretUse.TOKEN) == b"value"

    stored = await etcd.value(key)
    await etcd.put(key, UNDECRYPTABLE)
    for _ in range(6):
        clock.advance(seconds=10)
        with pytest.raises(Unavailable):
            await secrets.value("lost", "token", SecretUse.TOKEN)
        assert await secrets.value("good", "token", SecretUse.TOKEN) == b"value"
    clock.advance(seconds=10)
    with pytest.raises(SecretUnreadable) as unreadable:
        await secrets.value("lost", "token", SecretUse.TOKEN)
    reason, message = unreadable.value.explain("KeyMissing", "")
    assert reason == "SecretUnreadable"
    assert message.startswith("The API server can't read Secret/lost (500 InternalError). There is nothing")

    # As the administrator's key, that is back.
    await etcd.put(key, stored)
    assert await secrets.value("lost", "token", SecretUse.TOKEN) == b"value"


async def test_nothing_but_its_removal_from_etcd_replaces_a_secret_that_can_not_be_decrypted(
    own_plane: ControlPlane, kube: KubeClient
) -> None:
    await kube.create_secret(a_secret("broken"))
    await Etcd(own_plane).put("/registry/secrets/default/broken", UNDECRYPTABLE)
    with pytest.raises(Unavailable):
        await kube.patch_secret("broken", a_secret("broken"))
    with pytest.raises(KubectlError):
        await own_plane.kubectl("delete", "secret", "broken", "-n", "default")


async def test_the_type_of_a_secret_never_changes(kube: KubeClient) -> None:
    await kube.create_secret(a_secret("typed"))
    with pytest.raises(Rejected, match="immutable"):
        await kube.patch_secret("typed", {"type": "counterfoil.dev/sealed-token"})
