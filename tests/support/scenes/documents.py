"""The list of an envelope's files as eSAW gives it, and the documents that an event then has."""

from counterfoil.esaw import FilesResponse
from counterfoil.esaw.models import AuditTrail, ListedDocument, ListedLegalDocument
from counterfoil.resources import (
    EnvelopeEvent,
)
from counterfoil.resources.reopening import (
    reopened_status,
)
from tests.support.scenes.reconciler import ReconcilerScene


def file_ids(event: EnvelopeEvent) -> list[str]:
    return [each.file_id for each in event.status.documents]


def manifests(scene: ReconcilerScene) -> str:
    return "".join(each.read_text() for each in scene.root.rglob("counterfoil.json"))


async def retried_by_a_person(scene: ReconcilerScene) -> EnvelopeEvent:
    event = scene.newest()
    status = reopened_status(event.status, reason="RetryRequested", message="", now=scene.clock.now())
    await scene.status_writer.store(event, status)
    return await scene.reconcile()


def list_files(
    scene: ReconcilerScene,
    *documents: ListedDocument,
    trail: str | None = "trail-1",
    legal: tuple[str, ...] = (),
) -> None:
    """Let eSAW list these files, and have each of them."""

    async def files(envelope: str) -> FilesResponse:
        scene.envelope.begin("files")
        papers = tuple(ListedLegalDocument(file_id=each, file_name=f"{each}.pdf") for each in legal)
        return FilesResponse(
            documents=documents or None, audit_trail=AuditTrail(file_id=trail), legal_documents=papers
        )

    for each in documents:
        for file_id in filter(None, (each.file_id, each.audit_trail_file_id)):
            scene.envelope.contents.setdefault(file_id, f"%PDF-{file_id}".encode())
    scene.envelope.contents.update({each: f"%PDF-{each}".encode() for each in legal})
    scene.envelope.files = files  # type: ignore[method-assign]


def document(number: int, document_number: int | None, *, has_trail: bool = False) -> ListedDocument:
    return ListedDocument(
        file_id=f"file-{number}",
        file_name=f"file-{number}.pdf",
        document_number=document_number,
        audit_trail_file_id=f"own-{number}" if has_trail else None,
    )
