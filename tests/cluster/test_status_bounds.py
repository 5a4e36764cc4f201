"""
Bounds of an event's status on a real API server: all data of eSAW and an archive, and no more than etcd
stores.
"""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
import pytest

from counterfoil.kube.client import KubeClient, connect
from counterfoil.kube.errors import TooLarge
from counterfoil.kube.status import StatusWriter
from counterfoil.resources import (
    MAX_DOCUMENTS,
    MAX_DOCUMENTS_BYTES,
    MAX_LOCATION_LENGTH,
    MAX_MESSAGE_LENGTH,
    MAX_TEXT_LENGTH,
    ArchiveLocation,
    EnvelopeEvent,
    EnvelopeEventStatus,
    EnvelopeSummary,
    FiledDocument,
    FileKind,
    LastError,
    LocalObjectReference,
    Phase,
    SenderReference,
    envelope_id,
    stored_size,
    with_condition,
)
from counterfoil.resources.envelopeevent import MAX_FILE_ID_LENGTH, MAX_TAG_LENGTH, Provisional
from counterfoil.resources.event_factory import new_event
from sandbox.controlplane.control_plane import ControlPlane

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
CONDITIONS = ("Validated", "Authorized", "Collected", "Archived", "Cleaned", "SignaturesChecked", "Ready")


@pytest.fixture
async def kube(plane: ControlPlane, namespace: str) -> AsyncIterator[KubeClient]:
    async with connect(namespace=namespace, kubeconfig=plane.kubeconfig) as connected:
        yield connected


async def stored(kube: KubeClient, status: EnvelopeEventStatus) -> EnvelopeEvent:
    """Note an event down, give it this status, and return it as the API server has it."""
    noted = new_event(organization="acme", envelope=envelope_id(str(uuid.uuid4())), action="envelopeFinished")
    event = EnvelopeEvent.parse(await kube.create(EnvelopeEvent, noted))
    await StatusWriter(kube).store(event, status)
    return EnvelopeEvent.parse(await kube.get(EnvelopeEvent, event.name))


def a_document(*, file_id: str = "f", name: str = "x", location: str = "s3://b/x") -> FiledDocument:
    return FiledDocument(file_id=file_id, kind=FileKind.AUDIT_TRAIL_XML, file_name=name, location=location)


def proved(document: FiledDocument) -> FiledDocument:
    mark = Provisional.NO_MANIFEST
    return msgspec.structs.replace(document, size=2**63 - 1, sha256="f" * 64, provisional=mark)


def of_size(wanted: int) -> tuple[FiledDocument, ...]:
    """As many files as an event takes, which together take exactly this number of bytes; with characters in
    names that Go escapes."""
    documents = [a_document(name="&<>") for _ in range(MAX_DOCUMENTS)]
    each, more = divmod(wanted - stored_size(documents), MAX_DOCUMENTS)
    documents = [a_document(name="&<>" + "x" * (each + (number < more))) for number in range(MAX_DOCUMENTS)]
    assert stored_size(documents) == wanted
    return tuple(proved(document) for document in documents)


async def test_a_status_with_everything_at_its_bound_is_stored_as_it_is(kube: KubeClient) -> None:
    message = "ä" * MAX_MESSAGE_LENGTH
    status = EnvelopeEventStatus(
        phase=Phase.FAILED,
        reason="StatusRefused",
        message=message,
        last_error=LastError(reason="StatusRefused", message=message, time=NOW),
        envelope=EnvelopeSummary(
            name="😀" * MAX_TEXT_LENGTH,
            status="Completed",
            sender_ref=SenderReference(name="s" * 63, user_id="u" * 128),
        ),
        documents=(
            proved(
                a_document(
                    file_id="~" * MAX_FILE_ID_LENGTH,
                    name="\x00\t😀" + "ä" * (MAX_TEXT_LENGTH - 3),
                    location="s" * MAX_LOCATION_LENGTH,
                )
            ),
        ),
        archive=ArchiveLocation(
            ref=LocalObjectReference(name="a" * 253),
            manifest="s" * MAX_LOCATION_LENGTH,
            tags={f"t{number:062}": "😀" * MAX_TAG_LENGTH for number in range(16)},
        ),
        attempts=2**31,
        deliveries=1,
        first_delivery_time=NOW,
        last_delivery_time=NOW,
    )
    for each in CONDITIONS:
        conditions = with_condition(
            status.conditions, each, "False", reason="Tested", message=message, now=NOW, generation=1
        )
        status = msgspec.structs.replace(status, conditions=conditions)
    assert (await stored(kube, status)).status == status


async def test_as_many_files_as_the_controller_takes_do_fit(kube: KubeClient) -> None:
    documents = of_size(MAX_DOCUMENTS_BYTES)
    status = EnvelopeEventStatus(phase=Phase.ARCHIVING, documents=documents)
    assert (await stored(kube, status)).status.documents == documents


async def test_what_is_larger_than_etcd_takes_is_called_too_large(kube: KubeClient) -> None:
    for size in (1_600_000, 2_200_000, 3_300_000):
        with pytest.raises(TooLarge):
            await stored(kube, EnvelopeEventStatus(documents=of_size(size)))
