"""The stand-in eSAW: downloads, from small signed PDFs with awkward names to files of any size."""

import hashlib
import io
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from aiohttp import content_disposition_filename, parse_content_disposition
from asn1crypto import pem, x509  # type: ignore[import-untyped]  # asn1crypto ships no types
from lxml import etree
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko.sign.validation.status import SignatureCoverageLevel
from pyhanko_certvalidator import ValidationContext

from sandbox.esaw import AWKWARD_NAMES, Behaviour, DocumentSpec, EnvelopeStatus, FileKind, StandIn, User
from sandbox.esaw.core.content import CHUNK, Generated, sha256
from tests.support.servers.standin_peers import bruno

MIB = 1024 * 1024


def first_file(esaw: StandIn, envelope: str) -> str:
    return esaw.files(envelope)[0].file_id


@pytest.mark.parametrize("pages", [1, 7])
async def test_a_document_is_a_pdf_with_an_intact_trusted_signature_over_all_of_it(
    esaw: StandIn, user: User, api: httpx.AsyncClient, pages: int
) -> None:
    envelope = esaw.add_envelope(sender=user, documents=[DocumentSpec(name="contract.pdf", pages=pages)])
    answer = await api.get(f"file/{first_file(esaw, envelope)}")
    reader = PdfFileReader(io.BytesIO(answer.content))
    status = validity(reader, esaw.authority_certificate())
    assert answer.headers["Content-Type"] == "application/pdf"
    assert reader.root["/Pages"]["/Count"] == pages
    assert status == (True, True, True, SignatureCoverageLevel.ENTIRE_FILE)


def validity(reader: PdfFileReader, authority: str) -> tuple[bool, bool, bool, SignatureCoverageLevel | None]:
    """pyHanko's synchronous validation runs its own loop, so it gets its own thread."""

    def work() -> tuple[bool, bool, bool, SignatureCoverageLevel | None]:
        root = x509.Certificate.load(pem.unarmor(authority.encode())[2])
        status = validate_pdf_signature(reader.embedded_signatures[0], ValidationContext(trust_roots=[root]))
        return status.intact, status.valid, status.trusted, status.coverage

    with ThreadPoolExecutor(1) as elsewhere:
        return elsewhere.submit(work).result()


async def test_no_two_files_have_the_same_bytes(esaw: StandIn, user: User) -> None:
    twins = [DocumentSpec(name="contract.pdf"), DocumentSpec(name="contract.pdf")]
    envelopes = [esaw.add_envelope(sender=user, documents=twins, attachments=twins) for _ in range(3)]
    hashes = [esaw.expected_sha256(file.file_id) for each in envelopes for file in esaw.files(each)]
    assert len(set(hashes)) == len(hashes)


async def test_what_is_downloaded_has_the_expected_hash_and_size(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(
        sender=user,
        documents=[DocumentSpec(name="contract.pdf"), DocumentSpec(name="scan.pdf", size=3 * MIB + 1)],
        attachments=[DocumentSpec(name="photo.jpg"), DocumentSpec(name="note.txt", content=b"Hello")],
        legal_documents=[DocumentSpec(name="CA22D.pdf")],
        audit_trail_per_document=True,
    )
    for file in esaw.files(envelope):
        answer = await api.get(f"file/{file.file_id}")
        assert hashlib.sha256(answer.content).hexdigest() == esaw.expected_sha256(file.file_id)
        assert len(answer.content) == file.size == int(answer.headers["Content-Length"])


async def test_the_audit_trail_is_there_as_pdf_and_as_xml(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user)
    trail = (await api.get(f"envelope/{envelope}/files")).json()["AuditTrail"]
    pdf, xml = await api.get(f"file/{trail['FileId']}"), await api.get(f"file/{trail['XmlFileId']}")
    root = etree.fromstring(xml.content)
    assert pdf.content.startswith(b"%PDF")
    assert xml.headers["Content-Type"] == "application/xml"
    assert root.get("envelope") == envelope
    assert [event.get("type") for event in root] == ["EnvelopeSent", "WorkstepCompleted"]


async def test_the_audit_trail_shows_what_happened_after_its_start(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user, status="Active")
    await esaw.complete(envelope)
    trail = (await api.get(f"envelope/{envelope}/files")).json()["AuditTrail"]
    xml = await api.get(f"file/{trail['XmlFileId']}")
    assert b"WorkstepCompleted" in xml.content


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("photo.jpg", "image/jpeg"), ("sheet.csv", "text/csv"), ("box.tar.gz", "application/octet-stream")],
)
async def test_an_attachment_may_be_of_any_type(
    esaw: StandIn, user: User, api: httpx.AsyncClient, name: str, content_type: str
) -> None:
    envelope = esaw.add_envelope(sender=user, attachments=[DocumentSpec(name=name)])
    file = next(file for file in esaw.files(envelope) if file.kind is FileKind.ATTACHMENT)
    assert (await api.get(f"file/{file.file_id}")).headers["Content-Type"] == content_type


@pytest.mark.parametrize("name", AWKWARD_NAMES)
async def test_an_awkward_name_is_exact_in_json_and_header(
    esaw: StandIn, user: User, api: httpx.AsyncClient, name: str
) -> None:
    envelope = esaw.add_envelope(sender=user, documents=[DocumentSpec(name=name), DocumentSpec(name=name)])
    told = (await api.get(f"envelope/{envelope}/files")).json()["Documents"]
    header = (await api.get(f"file/{told[0]['FileId']}")).headers["Content-Disposition"]
    kind, parameters = parse_content_disposition(header)
    assert [each["FileName"] for each in told] == [name, name]
    assert kind == "attachment"
    assert content_disposition_filename(parameters) == (name or None)
    assert header.isascii()


async def test_a_file_of_another_user_or_of_a_deleted_envelope_is_404(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    foreign = first_file(esaw, esaw.add_envelope(sender=bruno(esaw)))
    deleted = esaw.add_envelope(sender=user)
    await esaw.delete(deleted)
    for file_id in (foreign, first_file(esaw, deleted), "00000000-0000-0000-0000-000000000000"):
        answer = await api.get(f"file/{file_id}")
        assert (answer.status_code, answer.json()["ErrorId"]) == (404, "ERR0008")


async def test_a_chunked_file_comes_whole_without_content_length(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    spec = DocumentSpec(name="contract.pdf", size=MIB + 7, chunked=True)
    file_id = first_file(esaw, esaw.add_envelope(sender=user, documents=[spec]))
    answer = await api.get(f"file/{file_id}")
    assert "Content-Length" not in answer.headers
    assert hashlib.sha256(answer.content).hexdigest() == esaw.expected_sha256(file_id)


async def test_an_empty_file_is_an_empty_answer(esaw: StandIn, user: User, api: httpx.AsyncClient) -> None:
    file_id = first_file(
        esaw, esaw.add_envelope(sender=user, documents=[DocumentSpec(name="void.pdf", size=0)])
    )
    answer = await api.get(f"file/{file_id}")
    assert (answer.status_code, answer.content, answer.headers["Content-Length"]) == (200, b"", "0")


async def test_a_large_file_is_never_in_memory(esaw: StandIn, user: User, api: httpx.AsyncClient) -> None:
    spec = DocumentSpec(name="huge.pdf", size=200 * MIB)
    file_id = first_file(esaw, esaw.add_envelope(sender=user, documents=[spec]))
    received = 0
    tracemalloc.start()
    async with api.stream("GET", f"file/{file_id}") as answer:
        async for chunk in answer.aiter_raw():
            received += len(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert received == 200 * MIB
    assert peak < 8 * MIB


async def test_a_document_of_a_given_size_is_an_unsigned_pdf(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    spec = DocumentSpec(name="scan.pdf", size=MIB + 7)
    answer = await api.get(f"file/{first_file(esaw, esaw.add_envelope(sender=user, documents=[spec]))}")
    reader = PdfFileReader(io.BytesIO(answer.content))
    assert len(answer.content) == MIB + 7
    assert reader.root["/Pages"]["/Count"] == 0
    assert list(reader.embedded_signatures) == []


def test_generated_bytes_depend_on_the_seed_and_never_repeat_in_neighbours() -> None:
    one, other = Generated(seed=1, size=4 * CHUNK), Generated(seed=2, size=4 * CHUNK)
    chunks = [bytes(chunk) for chunk in one.chunks()]
    assert sha256(one) == sha256(Generated(seed=1, size=4 * CHUNK)) != sha256(other)
    assert len(set(chunks)) == 4


async def test_two_thousand_envelopes_are_made_in_a_moment(esaw: StandIn, user: User) -> None:
    envelopes = {esaw.add_envelope(sender=user) for _ in range(2000)}
    assert len(envelopes) == 2000


async def test_the_audit_trail_and_legal_documents_may_be_listed_later_than_the_documents(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user, legal_documents=[DocumentSpec(name="certificate.pdf")])
    esaw.set_behaviour(Behaviour(papers_lag=3600))
    early = (await api.get(f"envelope/{envelope}/files")).json()
    assert (len(early["Documents"]), early["AuditTrail"], early["LegalDocuments"]) == (1, None, [])
    esaw.set_behaviour(Behaviour())
    late = (await api.get(f"envelope/{envelope}/files")).json()
    assert late["AuditTrail"]["FileId"]
    assert len(late["LegalDocuments"]) == 1


async def test_documents_and_legal_documents_may_each_be_listed_later_than_the_audit_trail(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user, legal_documents=[DocumentSpec(name="certificate.pdf")])

    async def listed(behaviour: Behaviour) -> tuple[int, bool, int]:
        esaw.set_behaviour(behaviour)
        answer = (await api.get(f"envelope/{envelope}/files")).json()
        trail = answer["AuditTrail"] is not None
        return len(answer["Documents"]), trail, len(answer["LegalDocuments"])

    assert await listed(Behaviour(documents_lag=3600)) == (0, True, 1)
    assert await listed(Behaviour(legal_documents_lag=3600)) == (1, True, 0)
    assert await listed(Behaviour()) == (1, True, 1)


async def test_a_documents_own_audit_trail_is_listed_late_as_well(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user, audit_trail_per_document=True)
    esaw.set_behaviour(Behaviour(papers_lag=3600))
    (document,) = (await api.get(f"envelope/{envelope}/files")).json()["Documents"]
    assert document["AuditTrailFileId"] is None


@pytest.mark.parametrize("status", EnvelopeStatus)
async def test_only_completed_envelopes_may_have_finished_documents(
    esaw: StandIn, user: User, api: httpx.AsyncClient, status: EnvelopeStatus
) -> None:
    esaw.set_behaviour(Behaviour(papers_only_when_completed=True))
    envelope = esaw.add_envelope(sender=user, status=status)
    answer = (await api.get(f"envelope/{envelope}/files")).json()
    listed = bool(answer["Documents"]) and answer["AuditTrail"] is not None
    assert listed is (status is EnvelopeStatus.COMPLETED)


async def test_a_document_may_have_other_bytes_at_each_download_until_it_is_completed(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    esaw.set_behaviour(Behaviour(renders_anew=True))

    async def downloads(status: EnvelopeStatus) -> int:
        file = first_file(esaw, esaw.add_envelope(sender=user, status=status))
        return len({(await api.get(f"file/{file}")).content for _ in range(2)})

    assert await downloads(EnvelopeStatus.EXPIRED) == 2
    assert await downloads(EnvelopeStatus.COMPLETED) == 1


async def test_an_audit_trail_can_have_other_bytes_at_each_download(
    esaw: StandIn, user: User, api: httpx.AsyncClient
) -> None:
    envelope = esaw.add_envelope(sender=user, audit_trail_differs=True)
    trail = (await api.get(f"envelope/{envelope}/files")).json()["AuditTrail"]
    for file_id, start in ((trail["FileId"], b"%PDF"), (trail["XmlFileId"], b"<")):
        first, second = [(await api.get(f"file/{file_id}")).content for _ in range(2)]
        assert first != second
        assert len(first) == len(second)
        assert first.startswith(start)
    etree.fromstring(first)
