"""
Events as the API server would have stored them, put into its etcd directly.

Through the API server it takes many times as long, and how it stores is not what is measured here. The events
are only values; nothing validates them.
"""

import asyncio
import base64
import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from random import Random
from typing import Any

import aiohttp
import msgspec

from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError
from counterfoil.resources import GROUP, ORGANIZATION_LABEL, EnvelopeEvent, envelope_id
from counterfoil.resources.event_factory import new_event
from sandbox.controlplane.control_plane import ETCD_CLIENTS, ControlPlane

AT_ONCE = 100
"""Number of events in one transaction of etcd."""

CACHED_SECONDS = 300.0
CONDITION_TYPES = ("Validated", "Authorized", "Collected", "Archived", "Cleaned", "Ready")


def stored_event(
    *, namespace: str, organization: str, sender: str, envelope: str, created: datetime, random: Random
) -> dict[str, Any]:
    """Return an event with the metadata that the API server adds; it has no status."""
    body = new_event(
        organization=organization, envelope=envelope_id(envelope), action="envelopeFinished", sender=sender
    )
    body["metadata"] |= {
        "namespace": namespace,
        "uid": random_id(random),
        "creationTimestamp": time_text(created),
        "generation": 1,
    }
    return body


def succeeded_status(envelope: str, begun: datetime, completed: datetime) -> dict[str, Any]:
    """Return the status of an event whose two documents are in the archive."""
    return {
        "phase": "Succeeded",
        "reason": "ArchivedAndDeleted",
        "completionTime": time_text(completed),
        "conditions": [
            {
                "type": each,
                "status": "True",
                "reason": "FilesVerified",
                "message": "Every file is in the archive and was read back.",
                "lastTransitionTime": time_text(begun),
                "observedGeneration": 1,
            }
            for each in CONDITION_TYPES
        ],
        "documents": [
            {
                "fileID": str(number),
                "kind": "Document",
                "fileName": f"contract {number}.pdf",
                "size": 250_000,
                "sha256": "0" * 64,
                "location": f"s3://contracts/acme/{envelope}/Document/contract {number}.pdf",
            }
            for number in range(2)
        ],
    }


def random_id(random: Random) -> str:
    """Return a GUID that is equal in each run."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def time_text(when: datetime) -> str:
    """Return a time in UTC as Kubernetes writes it, in whole seconds."""
    return when.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def etcd_session(plane: ControlPlane) -> aiohttp.ClientSession:
    """Return a session whose requests to any host go to the etcd of a control plane."""
    socket = plane.folder / ETCD_CLIENTS.removeprefix("unix://")
    return aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket)))


async def put_events(plane: ControlPlane, events: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Put events into etcd; an event that is there already is replaced. Return the last one."""
    last: Mapping[str, Any] | None = None
    async with etcd_session(plane) as http:
        for group in _groups(events):
            puts = [{"requestPut": _put(each)} for each in group]
            async with http.post("http://etcd/v3/kv/txn", json={"success": puts}) as answer:
                if answer.status != 200:
                    raise RuntimeError(f"etcd answered {answer.status}: {await answer.text()}")
            last = group[-1]
    return last


async def put_and_cache(plane: ControlPlane, kube: KubeClient, events: Iterable[Mapping[str, Any]]) -> None:
    """
    Put events into etcd, and wait until the API server's cache has them.

    The cache takes them in their order, so the last one is enough. Creating many at once makes the cache
    incomplete for a time. Raises ``TimeoutError``.
    """
    last = await put_events(plane, events)
    if last is None:
        return
    fields = f"metadata.name={last['metadata']['name']}"
    if "status" in last:
        fields += f",status.phase={last['status']['phase']}"
    async with asyncio.timeout(CACHED_SECONDS):
        while not await _is_cached(kube, fields):  # noqa: ASYNC110 - another process gives no event to wait for
            await asyncio.sleep(0.5)


async def _is_cached(kube: KubeClient, fields: str) -> bool:
    try:
        return (await kube.count_by_label(EnvelopeEvent, ORGANIZATION_LABEL, fields)).total() > 0
    except ApiError:
        return False


def _groups(events: Iterable[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    rest = iter(events)
    while group := list(itertools.islice(rest, AT_ONCE)):
        yield group


def _put(event: Mapping[str, Any]) -> dict[str, str]:
    metadata = event["metadata"]
    key = f"/registry/{GROUP}/envelopeevents/{metadata['namespace']}/{metadata['name']}"
    return {
        "key": base64.b64encode(key.encode()).decode(),
        "value": base64.b64encode(msgspec.json.encode(event)).decode(),
    }
