"""
What an event's status takes, on a real API server: all that eSAW and an archive may give, and no more than fits into etcd.
"""

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
import pytest

from controller.clerk import Clerk
from counterfoil.cluster import Cluster, TooLarge, connect
from counterfoil.esaw.limits import FILE_ID_LENGTH
from counterfoil.resources import (
    LONGEST_LOCATION,
    LONGEST_MESSAGE,
    LONGEST_TEXT,
    MOST_DOCUMENTS,
    ROOM_FOR_DOCUMENTS,
    ArchivedIn,
    EnvelopeEvent,
    EnvelopeEventStatus,
    EnvelopeSeen,
    FiledDocument,
    FileKind,
    LastError,
    Phase,
    Ref,
    envelope_id,
    stored_size,
    with_condition,
)
from counterfoil.resources.noting import note
from sandbox.controlplane.plane import ControlPlane

NOW = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
CONDITIONS = ("Validated", "Authorized", "Collected", "Archived", "Cleaned", "SignaturesChecked", "Ready")


@pytest.fixture
async def cluster(plane: ControlPlane, namespace: str) -> AsyncIterator[Cluster]:
    async with connect(namespace=namespace, kubeconfig=plane.kubeconfig) as connected:
        yield connected


async def stored(cluster: Cluster, status: EnvelopeEventStatus) -> EnvelopeEvent:
    """Note an event down, give it this status, and return it as the API server has it."""
    noted = note(organization="acme", envelope=envelope_id(str(uuid.uuid4())), action="envelopeFinished")
    event = EnvelopeEvent.parse(await cluster.create(EnvelopeEvent, noted))
    await Clerk(cluster).store(event, status)
    return EnvelopeEvent.parse(await cluster.get(EnvelopeEvent, event.name))


def a_document(*, file_id: str = "f", name: str = "x", location: str = "s3://b/x") -> FiledDocument:
    return FiledDocument(file_id=file_id, kind=FileKind.AUDIT_TRAIL_XML, file_name=name, location=location)


def proved(document: FiledDocument) -> FiledDocument:
    return msgspec.structs.replace(document, size=2**63 - 1, sha256="f" * 64)


def of_size(wanted: int) -> tuple[FiledDocument, ...]:
    """As many files as an event takes, which together take just so many bytes of it; with what Go escapes in names."""
    documents = [a_document(name="&<>") for _ in range(MOST_DOCUMENTS)]
    each, more = divmod(wanted - stored_size(documents), MOST_DOCUMENTS)
    documents = [a_document(name="&<>" + "x" * (each + (number < more))) for number in range(MOST_DOCUMENTS)]
    assert stored_size(documents) == wanted
    return tuple(proved(document) for document in documents)


async def test_a_status_with_everything_at_its_bound_is_stored_as_it_is(cluster: Cluster) -> None:
    message = "ä" * LONGEST_MESSAGE
    status = EnvelopeEventStatus(
        phase=Phase.FAILED,
        reason="StatusRefused",
        message=message,
        last_error=LastError(reason="StatusRefused", message=message, time=NOW),
        envelope=EnvelopeSeen(name="😀" * LONGEST_TEXT, status="Completed", sender_ref=Ref(name="s" * 63)),
        documents=(
            proved(
                a_document(
                    file_id="~" * FILE_ID_LENGTH,
                    name="\x00\t😀" + "ä" * (LONGEST_TEXT - 3),
                    location="s" * LONGEST_LOCATION,
                )
            ),
        ),
        archive=ArchivedIn(ref=Ref(name="a" * 253), manifest="s" * LONGEST_LOCATION),
        attempts=2**31,
        deliveries=1,
        first_delivery=NOW,
        last_delivery=NOW,
    )
    for each in CONDITIONS:
        conditions = with_condition(
            status.conditions, each, "False", reason="Tested", message=message, now=NOW, generation=1
        )
        status = msgspec.structs.replace(status, conditions=conditions)
    assert (await stored(cluster, status)).status == status


async def test_as_many_files_as_the_controller_takes_do_fit(cluster: Cluster) -> None:
    documents = of_size(ROOM_FOR_DOCUMENTS)
    status = EnvelopeEventStatus(phase=Phase.ARCHIVING, documents=documents)
    assert (await stored(cluster, status)).status.documents == documents


async def test_what_is_larger_than_etcd_takes_is_called_too_large(cluster: Cluster) -> None:
    for size in (1_600_000, 2_200_000, 3_300_000):
        with pytest.raises(TooLarge):
            await stored(cluster, EnvelopeEventStatus(documents=of_size(size)))
