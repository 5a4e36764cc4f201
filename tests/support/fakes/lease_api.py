"""The API of Leases in memory, as strict about versions as the real one, with faults on demand."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from kubernetes.aio.client import CoordinationV1Api, V1Lease, V1LeaseList, V1LeaseSpec, V1ObjectMeta
from kubernetes.aio.client.exceptions import ApiException

from counterfoil.resources.lease import SHARD_LEASE_COUNT_LABEL, shard_lease_name
from tests.support.fakes.kube import copied


class InMemoryLeases(CoordinationV1Api):
    """Keeps Leases."""

    def __init__(self) -> None:
        self.api_client: Any = object()
        self.leases: dict[str, V1Lease] = {}
        self.fault: Callable[[str], Exception | None] = lambda verb: None
        """Returns what a request of this verb raises."""
        self.hangs = False
        """Whether no request is ever answered."""
        self.shown_version: Callable[[str], str | None] = lambda real: real
        """Returns the version that an answer to a read has."""
        self.latency = 0.001
        self.asked: list[str] = []
        self._version = 0

    def holder(self, number: int, of: int) -> str | None:
        """Return the holder of a shard; None without a Lease, empty if it is released."""
        lease = self.leases.get(shard_lease_name(number, of))
        return None if lease is None or lease.spec is None else lease.spec.holder_identity

    def renewed(self, number: int, of: int) -> object:
        """Return the version of the Lease of a shard."""
        return self._metadata(self._at(shard_lease_name(number, of))).resource_version

    def held_by(
        self,
        identity: str,
        number: int,
        of: int,
        *,
        seconds: int = 15,
        name: str | None = None,
        label: str = "",
    ) -> None:
        """Store a Lease as another process has it."""
        labels = {SHARD_LEASE_COUNT_LABEL: label or str(of)}
        now = datetime.now(UTC)
        spec = V1LeaseSpec(
            holder_identity=identity, lease_duration_seconds=seconds, acquire_time=now, renew_time=now
        )
        name = name or shard_lease_name(number, of)
        self._store(V1Lease(metadata=V1ObjectMeta(name=name, labels=labels), spec=spec))

    def back_up(self) -> tuple[int, dict[str, V1Lease]]:
        """Return the state of etcd."""
        return self._version, copied(self.leases)

    def restore(self, backup: tuple[int, dict[str, V1Lease]]) -> None:
        """Restore a state of etcd, without raising its versions."""
        self._version, self.leases = backup[0], copied(backup[1])

    async def read_namespaced_lease(self, name: str, namespace: str, *_: Any, **__: Any) -> Any:
        await self._begin("get")
        lease = copied(self._at(name))
        metadata = self._metadata(lease)
        metadata.resource_version = self.shown_version(metadata.resource_version)
        return lease

    async def list_namespaced_lease(self, namespace: str, *_: Any, **options: Any) -> Any:
        await self._begin("list")
        other = options["label_selector"].rpartition("!=")[2]
        items = [each for each in self.leases.values() if _count(each) not in (None, other)]
        return V1LeaseList(items=copied(items))

    async def create_namespaced_lease(self, namespace: str, body: Any, *_: Any, **__: Any) -> Any:
        await self._begin("create")
        if body.metadata.name in self.leases:
            raise refused(409)
        return self._store(copied(body))

    async def replace_namespaced_lease(self, name: str, namespace: str, body: Any, *_: Any, **__: Any) -> Any:
        await self._begin("update")
        if self._metadata(self._at(name)).resource_version != body.metadata.resource_version:
            raise refused(409)
        return self._store(copied(body))

    async def _begin(self, verb: str) -> None:
        self.asked.append(verb)
        await asyncio.sleep(3600.0 if self.hangs else self.latency)
        problem = self.fault(verb)
        if problem is not None:
            raise problem

    def _at(self, name: str) -> V1Lease:
        if name not in self.leases:
            raise refused(404)
        return self.leases[name]

    def _store(self, lease: V1Lease) -> V1Lease:
        self._version += 1
        self._metadata(lease).resource_version = str(self._version)
        for time in (lease.spec.acquire_time, lease.spec.renew_time) if lease.spec is not None else ():
            if time is not None and "." not in time.isoformat():
                # The API server demands six digits.
                raise refused(400)
        self.leases[self._metadata(lease).name] = lease
        return lease

    def _metadata(self, lease: V1Lease) -> Any:
        return lease.metadata


def refused(status: int) -> ApiException:
    """Return the error of the API server."""
    problem: Any = ApiException(status=status, reason=f"status {status}")
    problem.body = json.dumps({"code": status})
    return problem  # type: ignore[no-any-return]


def _count(lease: Any) -> str | None:
    labels: dict[str, str] = lease.metadata.labels or {}
    return labels.get(SHARD_LEASE_COUNT_LABEL)
