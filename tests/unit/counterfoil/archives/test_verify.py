"""The audit of an archive that returns no files."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest

from counterfoil.archives.backend import ChecksumReported, FileNotReturned, FileNotStored
from counterfoil.archives.names import MANIFEST_NAME
from counterfoil.archives.verify import CheckStatus, check_archive, foreign_seal, verify_documents
from counterfoil.resources import FileKind
from counterfoil.resources.envelopeevent import FiledDocument
from tests.support.fakes.archives import MemoryBackend, an_envelope
from tests.support.signing_keys import a_signer

MANIFEST = f"acme/{MANIFEST_NAME}"


@dataclass
class KeepingBackend(MemoryBackend):
    """Returns no file, but has an answer about each, and knows which ones are not stored."""

    lost: str = ""
    answer: Exception = field(default_factory=FileNotReturned)

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        raise FileNotStored if name == self.lost else self.answer
        yield b""  # type: ignore[unreachable]  # makes this method a generator


async def test_a_manifest_that_is_not_returned_is_reported_as_not_checked() -> None:
    checks = [each async for each in check_archive(KeepingBackend(), "acme", key=None)]
    assert [each.verdict for each in checks] == [CheckStatus.NOT_CHECKED]
    assert "is not returned by the archive" in checks[0].sentence


@pytest.mark.parametrize("lost", ["acme/one.pdf", MANIFEST])
async def test_a_lost_file_is_reported_also_if_the_others_are_not_returned(lost: str) -> None:
    backend = KeepingBackend(lost=lost)
    document = FiledDocument(
        file_id="file-1",
        file_name="one.pdf",
        kind=FileKind.DOCUMENT,
        location=backend.location("acme/one.pdf"),
        size=1,
        sha256="0" * 64,
    )
    faults = verify_documents(backend, backend.location(MANIFEST), (document,), an_envelope(), key=None)
    assert (await anext(faults)).endswith("is missing.")
    with pytest.raises(FileNotReturned):
        await anext(faults)


async def test_an_archive_that_reports_the_checksum_of_a_manifest_is_believed_about_its_seal() -> None:
    backend = KeepingBackend(answer=ChecksumReported(1, "0" * 64))
    assert (
        await foreign_seal(backend, backend.location(MANIFEST), an_envelope(), key=a_signer().public) is None
    )


async def test_a_manifest_that_is_gone_when_its_seal_is_read_has_none() -> None:
    backend = MemoryBackend()
    found = await foreign_seal(backend, backend.location(MANIFEST), an_envelope(), key=a_signer().public)
    assert found == "counterfoil.json was changed while it was read."
