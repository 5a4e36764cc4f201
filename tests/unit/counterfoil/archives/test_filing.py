"""
The guarantees of ``filing`` for every backend, with a backend in memory that can fail.
"""

import dataclasses
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from counterfoil.archives.backends.filesystem import FilesystemBackend
from counterfoil.archives.errors import NameTaken, VerificationFailed
from counterfoil.archives.filing import SourceBroken, claim_names, conclude, find_concluded, store
from counterfoil.archives.layout import ArchiveLayout
from counterfoil.archives.manifest import Manifest
from counterfoil.archives.verify import verify_folder
from tests.support.fakes.archives import (
    ENVELOPE_ID,
    OTHER_ENVELOPE_ID,
    MemoryBackend,
    SourceCut,
    a_file,
    a_filed_document,
    a_plan,
    a_source,
    an_envelope,
    content,
    files_named,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


async def filed(backend: MemoryBackend, plan: ArchiveLayout, *, at: datetime = NOW) -> str:
    documents = [
        a_filed_document(file.facts, await store(backend, file, a_source(content(seed=number)), tags={}))
        for number, file in enumerate(plan.files)
    ]
    return await conclude(backend, plan, an_envelope(), documents, archived_at=at, extra={"event": "e-1"})


async def test_a_file_is_stored_once_and_described_as_read_back() -> None:
    backend, file = MemoryBackend(), a_plan().files[0]

    deposited = await store(backend, file, a_source(b"hello"), tags={})

    assert backend.files == {file.name: b"hello"}
    assert (deposited.size, deposited.sha256[:8], deposited.written) == (5, "2cf24dba", True)


async def test_an_empty_file_is_a_file() -> None:
    backend, file = MemoryBackend(), a_plan().files[0]

    deposited = await store(backend, file, a_source(b""), tags={})

    assert backend.files == {file.name: b""}
    assert deposited.size == 0


async def test_a_file_that_is_there_already_is_recognised_and_not_written_again() -> None:
    backend, file = MemoryBackend(), a_plan().files[0]
    backend.files[file.name] = content()

    deposited = await store(backend, file, a_source(content()), tags={})

    assert backend.puts == []
    assert not deposited.written
    assert deposited.size == len(content())


async def test_other_content_under_our_name_is_replaced() -> None:
    backend, file = MemoryBackend(), a_plan().files[0]
    backend.files[file.name] = b"of an earlier run"

    deposited = await store(backend, file, a_source(content()), tags={})

    assert backend.files[file.name] == content()
    assert deposited.written


async def test_a_document_that_was_stored_as_garbage_is_found_by_read_back_and_not_left_there() -> None:
    backend, file = MemoryBackend(spoil=lambda data: data[:-1] + b"?"), a_plan().files[0]

    with pytest.raises(VerificationFailed) as trouble:
        await store(backend, file, a_source(content()), tags={})

    assert backend.puts == [file.name] * 2
    assert backend.files == {}
    assert trouble.value.message.startswith(f"shelf:/{file.name} was sent 2 times")


async def test_a_document_that_was_spoiled_once_is_sent_again() -> None:
    spoiled: list[bytes] = []

    def spoil_the_first(data: bytes) -> bytes:
        spoiled.append(data)
        return b"?" if len(spoiled) == 1 else data

    backend, file = MemoryBackend(spoil=spoil_the_first), a_plan().files[0]

    deposited = await store(backend, file, a_source(content()), tags={})

    assert deposited.size == len(content())
    assert backend.files[file.name] == content()


async def test_a_source_that_breaks_off_leaves_nothing_under_the_name() -> None:
    backend, file = MemoryBackend(), a_plan().files[0]

    with pytest.raises(SourceCut):
        await store(backend, file, a_source(content(300_000), cut_at=100_000), tags={})

    assert backend.files == {}


@pytest.mark.parametrize("declared", [0, 999, 1001])
async def test_a_source_that_sends_another_number_of_bytes_than_declared_leaves_nothing_under_the_name(
    declared: int,
) -> None:
    backend, file = MemoryBackend(), a_plan().files[0]

    with pytest.raises(SourceBroken) as trouble:
        await store(backend, file, a_source(content(1000), declared=declared), tags={})

    assert backend.files == {}
    assert trouble.value.expected == declared


async def test_a_broken_source_leaves_what_an_earlier_run_stored() -> None:
    backend, file = MemoryBackend(), a_plan().files[0]
    backend.files[file.name] = content()

    with pytest.raises(SourceBroken):
        await store(backend, file, a_source(content()[:-1], declared=1000), tags={})

    assert backend.files[file.name] == content()


async def test_a_source_of_unknown_length_is_taken_as_it_comes() -> None:
    backend, file = MemoryBackend(), a_plan().files[0]

    assert (await store(backend, file, a_source(content(), declared=None), tags={})).size == 1000


async def test_claiming_an_empty_folder_gives_the_locations_in_the_order_of_the_plan() -> None:
    plan = a_plan(*files_named("a.pdf", "b.pdf"))

    assert await claim_names(MemoryBackend(), plan) == tuple(f"shelf:/{file.name}" for file in plan.files)


@pytest.mark.parametrize("taken", ["the document", "the manifest", "the hash file"])
async def test_a_foreign_file_under_one_of_our_names_is_left_alone(taken: str) -> None:
    backend, plan = MemoryBackend(), a_plan()
    name = {
        "the document": plan.files[0].name,
        "the manifest": plan.manifest_name,
        "the hash file": plan.hashes_name,
    }[taken]
    backend.files[name] = b"not ours"

    with pytest.raises(NameTaken, match=name):
        await claim_names(backend, plan)

    assert backend.files == {name: b"not ours"}


async def test_a_foreign_file_under_another_name_is_none_of_our_business() -> None:
    backend, plan = MemoryBackend(), a_plan()
    backend.files[f"{plan.folder}/notes.txt"] = b"not ours"

    await claim_names(backend, plan)


async def test_a_foreign_file_whose_name_some_archives_take_for_ours_is_left_alone() -> None:
    backend, plan = MemoryBackend(), a_plan(*files_named("contract.pdf"))
    above, _, name = plan.files[0].name.rpartition("/")
    backend.files[f"{above}/{name.upper()}"] = b"not ours"

    with pytest.raises(NameTaken, match=r"contract\.pdf"):
        await claim_names(backend, plan)


async def test_a_foreign_file_whose_name_is_no_text_is_none_of_our_business(tmp_path: Path) -> None:
    plan = a_plan()
    folder = tmp_path / plan.folder
    folder.mkdir(parents=True)
    (folder / os.fsdecode(b"M\xfcller.pdf")).write_bytes(b"not ours")

    await claim_names(FilesystemBackend("dms", tmp_path), plan)


async def test_what_an_earlier_run_claimed_is_ours_whatever_lies_there() -> None:
    backend, plan = MemoryBackend(), a_plan()
    claimed = await claim_names(backend, plan)
    backend.files[plan.files[0].name] = b"half done"
    backend.files[plan.hashes_name] = b"half done"
    backend.files[plan.manifest_name] = b"{damaged"

    assert await claim_names(backend, plan, claimed=claimed) == claimed


async def test_a_claim_is_for_its_own_names_only() -> None:
    backend, plan = MemoryBackend(), a_plan(*files_named("a.pdf", "b.pdf"))
    claimed = (await claim_names(backend, plan))[:1]
    backend.files[plan.files[1].name] = b"not ours"

    with pytest.raises(NameTaken):
        await claim_names(backend, plan, claimed=claimed)


async def test_what_a_manifest_of_this_envelope_lists_is_ours() -> None:
    backend, plan = MemoryBackend(), a_plan(*files_named("a.pdf", "b.pdf"))
    await filed(backend, plan)

    await claim_names(backend, plan)


async def test_the_manifest_of_another_envelope_is_foreign() -> None:
    backend, plan = MemoryBackend(), a_plan()
    await filed(backend, plan)

    with pytest.raises(NameTaken, match=ENVELOPE_ID):
        await claim_names(backend, dataclasses.replace(plan, envelope_id=OTHER_ENVELOPE_ID))
    with pytest.raises(NameTaken, match=ENVELOPE_ID):
        await find_concluded(backend, plan, OTHER_ENVELOPE_ID)


async def test_a_manifest_that_cannot_be_read_is_foreign_unless_the_names_are_ours() -> None:
    backend, plan = MemoryBackend(), a_plan()
    backend.files[plan.manifest_name] = b"{damaged"

    with pytest.raises(NameTaken):
        await find_concluded(backend, plan, ENVELOPE_ID)
    assert (
        await find_concluded(backend, plan, ENVELOPE_ID, claimed=[backend.location(plan.files[0].name)])
        is None
    )


async def test_the_manifest_is_written_last_and_says_everything() -> None:
    backend, plan = MemoryBackend(), a_plan(*files_named("a.pdf", "b.pdf"))

    location = await filed(backend, plan)

    assert backend.puts[-2:] == [plan.hashes_name, plan.manifest_name]
    assert location == f"shelf:/{plan.manifest_name}"
    manifest = Manifest.decode(backend.files[plan.manifest_name])
    assert manifest.envelope.id == ENVELOPE_ID
    assert manifest.sender.email == "ann@acme.example"
    assert manifest.times.archived == "2026-03-01T12:00:00Z"
    assert [(file.name, file.size, file.location) for file in manifest.files] == [
        ("Document/a.pdf", 1000, f"shelf:/{plan.folder}/Document/a.pdf"),
        ("Document/b.pdf", 1000, f"shelf:/{plan.folder}/Document/b.pdf"),
    ]
    assert manifest.extra == {"event": "e-1"}
    assert await find_concluded(backend, plan, ENVELOPE_ID) == manifest


async def test_concluding_again_changes_nothing_and_keeps_the_time_of_then() -> None:
    backend, plan = MemoryBackend(), a_plan()
    await filed(backend, plan)
    before, written = dict(backend.files), len(backend.puts)

    await filed(backend, plan, at=NOW + timedelta(days=1))

    assert backend.files == before
    assert len(backend.puts) == written


async def test_concluding_after_a_file_changed_writes_the_manifest_anew() -> None:
    backend, plan = MemoryBackend(), a_plan()
    await filed(backend, plan)

    changed = a_filed_document(
        plan.files[0].facts, await store(backend, plan.files[0], a_source(b"new"), tags={})
    )
    await conclude(backend, plan, an_envelope(), [changed], archived_at=NOW, extra={})

    assert await verify_folder(backend, plan.folder) == []


async def test_a_file_that_was_not_deposited_is_never_in_a_manifest() -> None:
    backend, plan = MemoryBackend(), a_plan(*files_named("a.pdf", "b.pdf"))
    one = a_filed_document(plan.files[0].facts, await store(backend, plan.files[0], a_source(b"1"), tags={}))

    with pytest.raises(ValueError, match="was not deposited"):
        await conclude(backend, plan, an_envelope(), [one], archived_at=NOW, extra={})

    assert plan.manifest_name not in backend.files


async def test_a_manifest_that_is_stored_as_garbage_does_not_count() -> None:
    backend, plan = MemoryBackend(), a_plan()
    document = a_filed_document(
        plan.files[0].facts, await store(backend, plan.files[0], a_source(b"1"), tags={})
    )
    backend.spoil = lambda data: data.replace(b"2026", b"2025")

    with pytest.raises(VerificationFailed):
        await conclude(backend, plan, an_envelope(), [document], archived_at=NOW, extra={})

    assert plan.manifest_name not in backend.files


async def test_an_archived_envelope_verifies_and_every_change_to_it_is_found() -> None:
    backend, plan = MemoryBackend(), a_plan(*files_named("a.pdf", "b.pdf", "c.pdf"))
    await filed(backend, plan)
    assert await verify_folder(backend, plan.folder) == []

    first, second, third = (file.name for file in plan.files)
    del backend.files[first]
    backend.files[second] += b"!"
    backend.files[third] = backend.files[third][:-1] + b"?"
    backend.files[plan.hashes_name] = b""

    assert await verify_folder(backend, plan.folder) == [
        "'Document/a.pdf' is missing.",
        "'Document/b.pdf' has 1001 bytes instead of 1000.",
        "'Document/c.pdf' has other content than was filed.",
        "counterfoil.sha256 does not say what counterfoil.json says.",
    ]


async def test_a_folder_without_a_readable_manifest_does_not_verify() -> None:
    backend, plan = MemoryBackend(), a_plan()

    assert await verify_folder(backend, plan.folder) == ["counterfoil.json is missing."]
    backend.files[plan.manifest_name] = b"{"
    assert (await verify_folder(backend, plan.folder))[0].startswith("counterfoil.json can't be read")


async def test_200_files_are_filed_and_verify() -> None:
    backend, plan = MemoryBackend(), a_plan(*files_named(*["same.pdf"] * 199), a_file("x", number=200))

    await filed(backend, plan)

    assert len(backend.files) == 202
    assert await verify_folder(backend, plan.folder) == []
