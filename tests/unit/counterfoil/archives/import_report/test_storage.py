"""A part is stored once and complete, and is believed by its hash and its seal alone."""

import threading
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from counterfoil.archives import filing
from counterfoil.archives.errors import ArchiveUnavailable, NameTaken
from counterfoil.archives.filing import HASHED_IN_LOOP
from counterfoil.archives.import_report.content import ReportOutcome, ReportPart, csv_name, seal_name
from counterfoil.archives.import_report.storage import (
    MAX_REPORT_FILE,
    SMALL_FILE,
    FileTooLong,
    check_part,
    read_known,
    write_list,
    write_part,
)
from counterfoil.archives.manifest_signature import ManifestSigner
from counterfoil.archives.readback import checksum
from tests.support.fakes.archives import MemoryBackend, RetainingMemoryBackend
from tests.support.fakes.finding_esaw import numbered
from tests.support.scenes.import_report import a_part, a_row
from tests.support.signing_keys import a_signer

FOLDER = "counterfoil-imports/acme/old-stock-1"
PART = a_part(a_row(outcome=ReportOutcome.KNOWN))
NAME = f"{FOLDER}/{PART.lines_name}"
FILES = [csv_name(NAME), seal_name(NAME), NAME]
SIGNER = a_signer()


async def stored(backend: MemoryBackend, part: ReportPart = PART) -> None:
    await write_part(backend, FOLDER, part, SIGNER)


async def faults(backend: MemoryBackend, **changes: Any) -> tuple[str, ...]:
    wanted = {"name": NAME, "sha256": PART.sha256, "key": SIGNER.public, **changes}
    return (await check_part(backend, **wanted)).faults


async def test_a_part_has_its_json_lines_last_and_is_protected() -> None:
    backend = RetainingMemoryBackend()
    assert await write_part(backend, FOLDER, PART, SIGNER) == f"memory:///{NAME}"
    assert backend.puts == FILES
    assert [name for name, _ in backend.retained] == FILES
    assert SIGNER.public.verifies(backend.files[seal_name(NAME)], PART.lines)


async def test_a_part_that_is_there_is_not_sent_again() -> None:
    backend = RetainingMemoryBackend()
    await stored(backend)
    await stored(backend)
    assert backend.puts == FILES
    # A lock that the first run did not come to.
    assert [name for name, _ in backend.retained] == FILES * 2


@pytest.mark.parametrize("broken", FILES)
async def test_a_part_that_was_interrupted_is_completed_with_the_same_bytes(broken: str) -> None:
    backend = MemoryBackend(problems={broken: ArchiveUnavailable("ArchiveFull", "full")})
    with pytest.raises(ArchiveUnavailable):
        await stored(backend)
    before = dict(backend.files)
    assert NAME not in before
    backend.problems.clear()
    await stored(backend)
    assert sorted(backend.puts) == sorted(FILES)
    assert before.items() <= backend.files.items()
    assert await faults(backend) == ()


@pytest.mark.parametrize("cut", FILES)
async def test_what_an_interrupted_upload_left_is_replaced(cut: str) -> None:
    backend = MemoryBackend()
    await stored(backend)
    whole = dict(backend.files)
    backend.files[cut] = backend.files[cut][:-5]
    await stored(backend)
    assert backend.files == whole


@pytest.mark.parametrize("taken", FILES)
async def test_a_file_of_another_program_under_a_name_stays_and_is_not_believed(taken: str) -> None:
    backend = MemoryBackend(files={taken: b"theirs"})
    with pytest.raises(NameTaken):
        await stored(backend)
    assert backend.files[taken] == b"theirs"
    assert taken not in backend.discarded
    assert await faults(backend) == ("is missing or was changed",)


async def test_without_a_key_a_part_has_no_seal() -> None:
    backend = MemoryBackend()
    await write_part(backend, FOLDER, PART, None)
    assert sorted(backend.files) == sorted([csv_name(NAME), NAME])
    assert await faults(backend, key=None) == ()
    assert len(await faults(backend)) == 1


@pytest.mark.parametrize(
    ("file", "content", "fault"),
    [
        (NAME, PART.lines.replace(b"Known", b"Archived"), "is missing or was changed"),
        (NAME, b"", "is missing or was changed"),
        (csv_name(NAME), b"envelopeID", "has no CSV with the same rows beside it"),
        (seal_name(NAME), b"x" * 64, f"has no seal of the key {SIGNER.public.id}"),
        (seal_name(NAME), a_signer(2).sign(PART.lines), f"has no seal of the key {SIGNER.public.id}"),
    ],
)
async def test_what_was_changed_is_found(file: str, content: bytes, fault: str) -> None:
    backend = MemoryBackend()
    await stored(backend)
    backend.files[file] = content
    assert await faults(backend) == (fault,)
    del backend.files[file]
    assert await faults(backend) == (fault,)


async def test_a_file_with_the_right_hash_that_is_no_part_is_named() -> None:
    backend = MemoryBackend()
    await write_list(backend, NAME, b"[]")
    sha256 = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
    (fault,) = await faults(backend, sha256=sha256)
    assert fault.startswith("can't be read: ")


async def test_a_list_counts_only_with_the_hash_of_the_status() -> None:
    backend = MemoryBackend()
    await write_list(backend, "list", b"[]")
    sha256 = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
    assert await read_known(backend, "list", sha256) == b"[]"
    assert await read_known(backend, "list", "0" * 64) is None
    assert await read_known(backend, "other", sha256) is None


async def test_a_file_that_is_too_long_is_called_so_and_not_changed() -> None:
    backend = MemoryBackend()
    await stored(backend)
    backend.files[NAME] = bytes(MAX_REPORT_FILE + 1)
    assert await faults(backend) == ("is longer than 64 MiB, so it is not read",)
    with pytest.raises(FileTooLong):
        await read_known(backend, NAME, PART.sha256)


async def test_a_large_part_is_signed_outside_of_the_event_loop() -> None:
    threads = list[int]()

    class NotingSigner(ManifestSigner):
        def sign(self, content: bytes) -> bytes:
            threads.append(threading.get_ident())
            return super().sign(content)

    signer = NotingSigner(Ed25519PrivateKey.from_private_bytes(bytes(32)))
    large = a_part(*(a_row(numbered(each), ReportOutcome.KNOWN) for each in range(2_000)))
    assert len(large.lines) > SMALL_FILE
    await write_part(MemoryBackend(), FOLDER, large, signer)
    assert threads
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("left", [0, 5, 600_000])
async def test_a_large_list_that_is_stored_already_is_hashed_outside_of_the_event_loop(
    left: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``left``: bytes that an interrupted upload did not send."""
    threads = list[tuple[int, int]]()

    def hashed(content: bytes | memoryview) -> tuple[int, str]:
        threads.append((len(content), threading.get_ident()))
        return checksum(content)

    content = bytes(2 * HASHED_IN_LOOP)
    backend = MemoryBackend(files={NAME: content[: len(content) - left]})
    monkeypatch.setattr(filing, "checksum", hashed)
    await write_list(backend, NAME, content)
    assert threads
    assert threading.get_ident() not in {thread for size, thread in threads if size > HASHED_IN_LOOP}
    assert backend.files[NAME] == content
