"""
The guarantees of ``filing`` for every backend, with a backend in memory that can fail.
"""

import asyncio
import dataclasses
import hashlib
import json
import os
import threading
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from datetime import UTC, datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import pytest

from counterfoil import __version__
from counterfoil.archives import filing
from counterfoil.archives.backend import NegativeCacheBackend, StoredEntry
from counterfoil.archives.backends.filesystem import FilesystemBackend
from counterfoil.archives.errors import (
    ArchiveError,
    ArchiveUnavailable,
    ListingDiffers,
    NameTaken,
    VerificationFailed,
)
from counterfoil.archives.filing import (
    MAX_BUFFERED_BYTES,
    MAX_READS_AT_ONCE,
    SPARE_READS,
    EntriesByName,
    FileSource,
    SourceBroken,
    SourceDiffers,
    claim_names,
    conclude,
    find_concluded,
    find_stored,
    store,
)
from counterfoil.archives.layout import ActionFacts, ArchiveLayout, FileFacts
from counterfoil.archives.manifest import (
    MANIFEST_LIMIT,
    EvidenceState,
    Manifest,
    ManifestAction,
    ManifestEnvelope,
    ManifestEvidence,
    ManifestFile,
    ManifestSender,
    ManifestTimes,
    ManifestTooLarge,
    ManifestVersions,
)
from counterfoil.archives.manifest_signature import ManifestSigner
from counterfoil.archives.names import case_folded
from counterfoil.archives.proof import FoundManifest
from counterfoil.archives.verify import verify_folder
from counterfoil.resources.envelopeevent import FileKind
from counterfoil.signatures.results import Signatures, State
from tests.support.fakes.archives import (
    ENVELOPE_ID,
    OTHER_ENVELOPE_ID,
    MemoryBackend,
    RetainingMemoryBackend,
    SourceCut,
    a_file,
    a_filed_document,
    a_layout,
    a_source,
    an_envelope,
    content,
    files_named,
)
from tests.support.signing_keys import a_signer

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


async def filed(
    backend: MemoryBackend,
    layout: ArchiveLayout,
    *,
    at: datetime = NOW,
    signer: ManifestSigner | None = None,
    evidence: Sequence[ManifestEvidence] = (),
) -> str:
    documents = [
        a_filed_document(file.facts, await store(backend, file, a_source(content(seed=number)), tags={}))
        for number, file in enumerate(layout.files)
    ]
    return await conclude(
        backend,
        layout,
        an_envelope(),
        documents,
        archived_at=at,
        extra={"event": "e-1"},
        evidence=evidence,
        signer=signer,
    )


async def test_a_file_is_stored_once_and_described_as_read_back() -> None:
    backend, file = MemoryBackend(), a_layout().files[0]

    deposited = await store(backend, file, a_source(b"hello"), tags={})

    assert backend.files == {file.name: b"hello"}
    assert (deposited.size, deposited.sha256[:8], deposited.written) == (5, "2cf24dba", True)


async def test_an_empty_file_is_a_file() -> None:
    backend, file = MemoryBackend(), a_layout().files[0]

    deposited = await store(backend, file, a_source(b""), tags={})

    assert backend.files == {file.name: b""}
    assert deposited.size == 0


async def test_a_file_that_is_there_already_is_recognised_and_not_written_again() -> None:
    backend, file = MemoryBackend(), a_layout().files[0]
    backend.files[file.name] = content()

    deposited = await store(backend, file, a_source(content()), tags={})

    assert backend.puts == []
    assert not deposited.written
    assert deposited.size == len(content())


async def test_other_content_under_our_name_is_replaced() -> None:
    backend, file = MemoryBackend(), a_layout().files[0]
    backend.files[file.name] = b"of an earlier run"

    deposited = await store(backend, file, a_source(content()), tags={})

    assert backend.files[file.name] == content()
    assert deposited.written


async def test_a_document_that_was_stored_as_garbage_is_found_by_read_back_and_not_left_there() -> None:
    backend, file = MemoryBackend(spoil=lambda data: data[:-1] + b"?"), a_layout().files[0]

    with pytest.raises(VerificationFailed) as trouble:
        await store(backend, file, a_source(content()), tags={})

    assert backend.puts == [file.name] * 2
    assert backend.files == {}
    assert trouble.value.message.startswith(f"memory:///{file.name} was sent 2 times")


async def test_a_document_that_was_corrupted_once_is_sent_again() -> None:
    spoiled: list[bytes] = []

    def spoil_the_first(data: bytes) -> bytes:
        spoiled.append(data)
        return b"?" if len(spoiled) == 1 else data

    backend, file = MemoryBackend(spoil=spoil_the_first), a_layout().files[0]

    deposited = await store(backend, file, a_source(content()), tags={})

    assert deposited.size == len(content())
    assert backend.files[file.name] == content()


class Swallowing(MemoryBackend):
    """An archive behind a proxy that takes a file and does not pass it on, so that the earlier one stays."""

    def __init__(self, swallowed: str, files: dict[str, bytes]) -> None:
        super().__init__(files=files)
        self.swallowed = swallowed

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        if name != self.swallowed:
            await super().put(name, chunks, tags=tags, content_type=content_type)


@pytest.mark.parametrize("size", [900, 1000, 1100])
async def test_an_earlier_file_is_not_removed_if_the_new_one_does_not_arrive(size: int) -> None:
    file, earlier = a_layout().files[0], content(size, seed=2)
    backend = Swallowing(file.name, {file.name: earlier})

    with pytest.raises(VerificationFailed, match="not removed"):
        await store(backend, file, a_source(content(1000)), tags={})

    assert backend.files == {file.name: earlier}
    assert backend.discarded == []


async def test_an_earlier_copy_is_not_removed_if_the_new_one_does_not_arrive() -> None:
    # A longer one is not read to its end, each time.
    file, earlier = a_layout().files[0], content(300_000, seed=2)
    backend = Swallowing(file.name, {file.name: earlier})

    with pytest.raises(VerificationFailed, match="not removed"):
        await store(backend, file, a_source(content(1000)), tags={}, expected=1000)

    assert backend.files == {file.name: earlier}


async def test_the_earlier_manifest_hashes_and_seal_stay_if_the_new_ones_do_not_arrive() -> None:
    layout, signer = a_layout(), a_signer()
    backend = MemoryBackend()
    await filed(backend, layout, signer=signer)
    earlier = dict(backend.files)
    documents = [a_filed_document(layout.files[0].facts, filing.StoredFile(1000, "0" * 64, written=True))]

    for name in (layout.hashes_name, layout.seal_name, layout.manifest_name):
        swallowing = Swallowing(name, dict(earlier))
        with pytest.raises(VerificationFailed, match="not removed"):
            await conclude(
                swallowing, layout, an_envelope(), documents, archived_at=NOW, extra={}, signer=signer
            )
        assert swallowing.discarded == []
        assert swallowing.files[name] == earlier[name]


async def test_a_corrupt_file_in_the_place_of_an_earlier_one_is_removed() -> None:
    file = a_layout().files[0]
    backend = MemoryBackend(spoil=lambda data: data[:-1] + b"?", files={file.name: content(seed=2)})

    with pytest.raises(VerificationFailed, match="removed there"):
        await store(backend, file, a_source(content()), tags={})

    assert backend.files == {}


async def test_a_source_that_fails_leaves_nothing_under_the_name() -> None:
    backend, file = MemoryBackend(), a_layout().files[0]

    with pytest.raises(SourceCut):
        await store(backend, file, a_source(content(300_000), cut_at=100_000), tags={})

    assert backend.files == {}


@pytest.mark.parametrize("declared", [0, 999, 1001])
async def test_a_source_that_sends_another_number_of_bytes_than_declared_leaves_nothing_under_the_name(
    declared: int,
) -> None:
    backend, file = MemoryBackend(), a_layout().files[0]

    with pytest.raises(SourceBroken) as trouble:
        await store(backend, file, a_source(content(1000), declared=declared), tags={})

    assert backend.files == {}
    assert trouble.value.expected == declared


async def test_a_broken_source_leaves_what_an_earlier_run_stored() -> None:
    backend, file = MemoryBackend(), a_layout().files[0]
    backend.files[file.name] = content()

    with pytest.raises(SourceBroken):
        await store(backend, file, a_source(content()[:-1], declared=1000), tags={})

    assert backend.files[file.name] == content()


@pytest.mark.parametrize("is_stored", [False, True])
async def test_a_source_with_other_content_than_is_accepted_replaces_nothing(*, is_stored: bool) -> None:
    backend, file = MemoryBackend(), a_layout().files[0]
    before = {file.name: b"another one"} if is_stored else {}
    backend.files.update(before)

    with pytest.raises(SourceDiffers):
        await store(backend, file, a_source(content()), tags={}, accepts=lambda _: False)

    assert backend.files == before


async def test_a_source_of_unknown_length_is_taken_as_it_comes() -> None:
    backend, file = MemoryBackend(), a_layout().files[0]

    assert (await store(backend, file, a_source(content(), declared=None), tags={})).size == 1000


async def test_claiming_an_empty_folder_gives_the_locations_in_the_order_of_the_layout() -> None:
    layout = a_layout(*files_named("a.pdf", "b.pdf"))

    assert await claim_names(MemoryBackend(), layout, key=None) == tuple(
        f"memory:///{file.name}" for file in layout.files
    )


@pytest.mark.parametrize("taken", ["the document", "the manifest", "the hash file"])
async def test_a_foreign_file_under_one_of_our_names_is_not_changed(taken: str) -> None:
    backend, layout = MemoryBackend(), a_layout()
    name = {
        "the document": layout.files[0].name,
        "the manifest": layout.manifest_name,
        "the hash file": layout.hashes_name,
    }[taken]
    backend.files[name] = b"not ours"

    with pytest.raises(NameTaken, match=name):
        await claim_names(backend, layout, key=None)

    assert backend.files == {name: b"not ours"}


@pytest.mark.parametrize("taken", ["the document", "the manifest", "the hash file", "the seal"])
async def test_a_foreign_file_that_the_list_leaves_out_is_not_changed(taken: str) -> None:
    layout = a_layout()
    backend = RelistingBackend(relist=lambda _: [])
    name = {
        "the document": layout.files[0].name,
        "the manifest": layout.manifest_name,
        "the hash file": layout.hashes_name,
        "the seal": layout.seal_name,
    }[taken]
    backend.files[name] = b"not ours"

    with pytest.raises(NameTaken, match=name):
        await claim_names(NegativeCacheBackend(backend), layout, key=None)


class SlowBackend(MemoryBackend):
    """A request takes several turns of the event loop; ``most`` were in work at once."""

    at_work = most = 0

    async def entries(self, folder: str) -> list[StoredEntry]:
        await self._answer()
        return await super().entries(folder)

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        await self._answer()
        async with aclosing(super().read(name)) as stream:
            async for block in stream:
                yield block

    async def _answer(self) -> None:
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        for _ in range(10):
            await asyncio.sleep(0)
        self.at_work -= 1


async def test_names_are_asked_for_at_once_but_not_all_of_them() -> None:
    backend, layout = SlowBackend(), a_layout(*files_named(*(f"{number}.pdf" for number in range(20))))

    await claim_names(NegativeCacheBackend(backend), layout, key=None)

    assert backend.most == MAX_READS_AT_ONCE


async def test_many_envelopes_ask_for_few_more_names_at_once_than_one_each() -> None:
    backend = SlowBackend()
    plans = [
        a_layout(*files_named(*"abcdef"), envelope=an_envelope(envelope_id=f"{number:032x}"))
        for number in range(40)
    ]

    for _ in range(2):
        await asyncio.gather(
            *(claim_names(NegativeCacheBackend(backend), layout, key=None) for layout in plans)
        )

    assert backend.most == len(plans) + SPARE_READS


class LaterFailsFirstBackend(MemoryBackend):
    """Lists nothing, and answers about ``first`` once the request about ``second`` has failed."""

    first = second = ""

    async def entries(self, folder: str) -> list[StoredEntry]:
        return []

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        if name == self.second:
            self.has_failed.set()
            raise ArchiveUnavailable("ArchiveUnresponsive", "no answer")
        if name == self.first:
            async with asyncio.timeout(10):
                await self.has_failed.wait()
        async with aclosing(super().read(name)) as stream:
            async for block in stream:
                yield block

    @cached_property
    def has_failed(self) -> asyncio.Event:
        return asyncio.Event()


async def test_the_first_taken_name_decides_also_if_a_later_one_fails_first() -> None:
    backend, layout = LaterFailsFirstBackend(), a_layout(*files_named("a.pdf", "b.pdf"))
    backend.first, backend.second = (file.name for file in layout.files)
    backend.files[backend.first] = b"not ours"

    with pytest.raises(NameTaken, match=r"a\.pdf"):
        await claim_names(backend, layout, key=None)


async def test_a_file_of_the_envelope_that_the_list_leaves_out_is_found_stored() -> None:
    backend, layout = RelistingBackend(relist=lambda _: []), a_layout()
    backend.files[layout.files[0].name] = content()

    found = await find_stored(NegativeCacheBackend(backend), layout, lambda _: a_source(content())())

    assert found == (backend.location(layout.files[0].name),)


async def test_a_foreign_file_under_another_name_is_none_of_our_business() -> None:
    backend, layout = MemoryBackend(), a_layout()
    backend.files[f"{layout.folder}/notes.txt"] = b"not ours"

    await claim_names(backend, layout, key=None)


async def test_a_foreign_file_whose_name_is_equal_to_ours_in_some_archives_is_not_changed() -> None:
    backend, layout = MemoryBackend(), a_layout(*files_named("contract.pdf"))
    above, _, name = layout.files[0].name.rpartition("/")
    backend.files[f"{above}/{name.upper()}"] = b"not ours"

    with pytest.raises(NameTaken, match=r"contract\.pdf"):
        await claim_names(backend, layout, key=None)


async def test_a_foreign_file_whose_name_is_no_text_is_none_of_our_business(tmp_path: Path) -> None:
    layout = a_layout()
    folder = tmp_path / layout.folder
    folder.mkdir(parents=True)
    (folder / os.fsdecode(b"M\xfcller.pdf")).write_bytes(b"not ours")

    await claim_names(FilesystemBackend("dms", tmp_path), layout, key=None)


async def test_what_an_earlier_run_claimed_is_ours_with_any_file_there() -> None:
    backend, layout = MemoryBackend(), a_layout()
    claimed = await claim_names(backend, layout, key=None)
    backend.files[layout.files[0].name] = b"half done"
    backend.files[layout.hashes_name] = b"half done"
    backend.files[layout.manifest_name] = b"{damaged"

    assert await claim_names(backend, layout, claimed=claimed, key=None) == claimed


async def test_a_claim_is_for_its_own_names_only() -> None:
    backend, layout = MemoryBackend(), a_layout(*files_named("a.pdf", "b.pdf"))
    claimed = (await claim_names(backend, layout, key=None))[:1]
    backend.files[layout.files[1].name] = b"not ours"

    with pytest.raises(NameTaken):
        await claim_names(backend, layout, claimed=claimed, key=None)


async def test_what_a_manifest_of_this_envelope_with_our_own_seal_lists_is_ours() -> None:
    backend, layout = MemoryBackend(), a_layout(*files_named("a.pdf", "b.pdf"))
    await filed(backend, layout, signer=a_signer())

    await claim_names(backend, layout, key=a_signer().public)


@pytest.mark.parametrize("signer", [None, a_signer(2)], ids=["no seal", "another key"])
async def test_what_a_manifest_without_our_own_seal_lists_is_foreign(signer: ManifestSigner | None) -> None:
    backend, layout = MemoryBackend(), a_layout(*files_named("a.pdf", "b.pdf"))
    await filed(backend, layout, signer=signer)

    with pytest.raises(NameTaken, match=r"a\.pdf"):
        await claim_names(backend, layout, key=a_signer().public)


async def test_a_seal_beside_a_manifest_that_was_changed_makes_nothing_ours() -> None:
    backend, layout = MemoryBackend(), a_layout(*files_named("a.pdf", "b.pdf"))
    await filed(backend, layout, signer=a_signer())
    backend.files[layout.manifest_name] += b" "

    with pytest.raises(NameTaken, match=r"a\.pdf"):
        await claim_names(backend, layout, key=a_signer().public)


FOREIGN: dict[str, dict[str, Any]] = {
    "of envelope": {"envelope_id": OTHER_ENVELOPE_ID},
    "in https://esaw.example.com, and this one is in https://other": {"origin": "https://other.example.com"},
    "of Organization/tests/acme": {"organization": "globex"},
    "of Organization/tests/acme. Change": {"namespace": "other"},
}


@pytest.mark.parametrize("words", FOREIGN)
async def test_the_manifest_of_another_envelope_esaw_or_organization_is_foreign(words: str) -> None:
    backend, layout = MemoryBackend(), a_layout()
    claimed = await claim_names(backend, layout, key=None)
    await filed(backend, layout, signer=a_signer())
    before, other = dict(backend.files), dataclasses.replace(layout, **FOREIGN[words])

    with pytest.raises(NameTaken, match=words):
        await claim_names(backend, other, claimed=claimed, key=a_signer().public)
    with pytest.raises(NameTaken, match=words):
        await find_concluded(backend, other, other.envelope_id, claimed=claimed, key=None)
    assert backend.files == before


async def test_a_manifest_that_cannot_be_read_is_foreign_unless_the_names_are_ours() -> None:
    backend, layout = MemoryBackend(), a_layout()
    backend.files[layout.manifest_name] = b"{damaged"

    with pytest.raises(NameTaken):
        await find_concluded(backend, layout, ENVELOPE_ID, key=None)
    assert (
        await find_concluded(
            backend, layout, ENVELOPE_ID, claimed=[backend.location(layout.files[0].name)], key=None
        )
        is None
    )


async def test_the_manifest_is_written_last_and_says_everything() -> None:
    backend, layout = MemoryBackend(), a_layout(*files_named("a.pdf", "b.pdf"))

    location = await filed(backend, layout)

    assert backend.puts[-2:] == [layout.hashes_name, layout.manifest_name]
    assert location == f"memory:///{layout.manifest_name}"
    manifest = Manifest.decode(backend.files[layout.manifest_name])
    assert manifest.envelope.id == ENVELOPE_ID
    assert manifest.sender.email == "ann@acme.example"
    assert manifest.times.archived == "2026-03-01T12:00:00Z"
    assert [(file.name, file.size, file.location) for file in manifest.files] == [
        ("Document/a.pdf", 1000, f"memory:///{layout.folder}/Document/a.pdf"),
        ("Document/b.pdf", 1000, f"memory:///{layout.folder}/Document/b.pdf"),
    ]
    assert manifest.extra == {"event": "e-1"}
    assert await find_concluded(backend, layout, ENVELOPE_ID, key=None) == FoundManifest(
        None, False, manifest.digest
    )


async def test_concluding_again_changes_nothing_and_keeps_the_time_of_then() -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout)
    before, written = dict(backend.files), len(backend.puts)

    await filed(backend, layout, at=NOW + timedelta(days=1))

    assert backend.files == before
    assert len(backend.puts) == written


async def test_a_manifest_of_another_version_stays_as_it_is() -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout)
    manifest = json.loads(backend.files[layout.manifest_name])
    manifest["versions"] = {"counterfoil": "0.0.1", "eSignAnyWhere": "20.1"}
    backend.files[layout.manifest_name] = json.dumps(manifest).encode()
    before = dict(backend.files)

    await filed(backend, layout, at=NOW + timedelta(days=1))

    assert backend.files == before


async def test_a_manifest_from_before_evidence_and_versions_is_valid_and_is_completed_by_the_next_run() -> (
    None
):
    backend, layout = MemoryBackend(), a_layout()
    evidence = [ManifestEvidence(kind=FileKind.DOCUMENT, state=EvidenceState.PRESENT, required=True)]
    await filed(backend, layout)
    manifest = json.loads(backend.files[layout.manifest_name])
    del manifest["versions"], manifest["evidence"], manifest["times"]["finished"]
    backend.files[layout.manifest_name] = json.dumps(manifest).encode()
    assert await verify_folder(backend, layout.folder) == []

    await filed(backend, layout, at=NOW + timedelta(days=1), evidence=evidence)

    completed = Manifest.decode(backend.files[layout.manifest_name])
    assert (list(completed.evidence), completed.times.archived) == (evidence, manifest["times"]["archived"])
    assert completed.versions == ManifestVersions(counterfoil=__version__)


async def test_concluding_after_a_file_changed_writes_the_manifest_again() -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout)

    changed = a_filed_document(
        layout.files[0].facts, await store(backend, layout.files[0], a_source(b"new"), tags={})
    )
    await conclude(backend, layout, an_envelope(), [changed], archived_at=NOW, extra={}, signer=None)

    assert await verify_folder(backend, layout.folder) == []


async def test_a_file_that_was_not_deposited_is_never_in_a_manifest() -> None:
    backend, layout = MemoryBackend(), a_layout(*files_named("a.pdf", "b.pdf"))
    one = a_filed_document(
        layout.files[0].facts, await store(backend, layout.files[0], a_source(b"1"), tags={})
    )

    with pytest.raises(ValueError, match="was not deposited"):
        await conclude(backend, layout, an_envelope(), [one], archived_at=NOW, extra={}, signer=None)

    assert layout.manifest_name not in backend.files


async def test_a_manifest_that_nobody_could_read_is_refused_before_anything_is_written() -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout)
    stored = dict(backend.files)
    changed = a_filed_document(
        layout.files[0].facts, await store(backend, layout.files[0], a_source(b"new"), tags={})
    )

    with pytest.raises(ManifestTooLarge):
        await conclude(
            backend,
            layout,
            an_envelope(),
            [changed],
            archived_at=NOW,
            extra={"a": "x" * 1024 * 1024},
            signer=None,
        )

    assert backend.files == stored | {layout.files[0].name: b"new"}


async def test_a_manifest_that_is_stored_as_garbage_does_not_count() -> None:
    backend, layout = MemoryBackend(), a_layout()
    document = a_filed_document(
        layout.files[0].facts, await store(backend, layout.files[0], a_source(b"1"), tags={})
    )
    backend.spoil = lambda data: data.replace(b"2026", b"2025")

    with pytest.raises(VerificationFailed):
        await conclude(backend, layout, an_envelope(), [document], archived_at=NOW, extra={}, signer=None)

    assert layout.manifest_name not in backend.files


async def test_an_archived_envelope_verifies_and_every_change_to_it_is_found() -> None:
    backend, layout = MemoryBackend(), a_layout(*files_named("a.pdf", "b.pdf", "c.pdf"))
    await filed(backend, layout)
    assert await verify_folder(backend, layout.folder) == []

    first, second, third = (file.name for file in layout.files)
    del backend.files[first]
    backend.files[second] += b"!"
    backend.files[third] = backend.files[third][:-1] + b"?"
    backend.files[layout.hashes_name] = b""

    assert await verify_folder(backend, layout.folder) == [
        "'Document/a.pdf' is missing.",
        "'Document/b.pdf' has more than its 1000 bytes.",
        "'Document/c.pdf' has other content than was archived.",
        "counterfoil.sha256 does not say what counterfoil.json says.",
    ]


async def test_a_folder_without_a_readable_manifest_does_not_verify() -> None:
    backend, layout = MemoryBackend(), a_layout()

    assert await verify_folder(backend, layout.folder) == ["counterfoil.json is missing."]
    backend.files[layout.manifest_name] = b"{"
    assert (await verify_folder(backend, layout.folder))[0].startswith("counterfoil.json can't be read")


async def test_200_files_are_filed_and_verify() -> None:
    backend, layout = MemoryBackend(), a_layout(*files_named(*["same.pdf"] * 199), a_file("x", number=200))

    await filed(backend, layout)

    assert len(backend.files) == 202
    assert await verify_folder(backend, layout.folder) == []


async def test_each_file_is_protected_as_it_was_verified_the_manifest_last() -> None:
    backend, layout = RetainingMemoryBackend(), a_layout(*files_named("a.pdf", "b.pdf"))

    await filed(backend, layout)

    names = [*(file.name for file in layout.files), layout.hashes_name, layout.manifest_name]
    assert backend.retained == [(name, backend.files[name]) for name in names]


async def test_a_run_that_finds_everything_stored_protects_it_again() -> None:
    backend, layout = RetainingMemoryBackend(), a_layout()
    await filed(backend, layout)
    protected = list(backend.retained)

    await filed(backend, layout)

    assert backend.retained == protected * 2


async def test_what_the_archive_stored_wrong_is_never_protected() -> None:
    backend, layout = RetainingMemoryBackend(spoil=lambda data: data + b"?"), a_layout()

    with pytest.raises(VerificationFailed):
        await filed(backend, layout)

    assert backend.retained == []


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize(
    ("size", "is_handed_out"), [(MAX_BUFFERED_BYTES, True), (MAX_BUFFERED_BYTES + 1, False)]
)
async def test_a_small_file_is_handed_out_with_its_proof_however_it_came_there(
    size: int, is_handed_out: bool, is_there: bool
) -> None:
    assert MAX_BUFFERED_BYTES == 1_048_576
    backend, file, data = MemoryBackend(), a_layout().files[0], content(size)
    if is_there:
        backend.files[file.name] = data

    deposited = await store(backend, file, a_source(data), tags={})

    assert (deposited.written, deposited.content) == (not is_there, data if is_handed_out else None)


async def test_each_upload_has_the_tags_and_its_type() -> None:
    backend, layout = MemoryBackend(), dataclasses.replace(a_layout(), tags={"customer": "acme"})
    file = layout.files[0]
    stored = await store(backend, file, a_source(b"1"), tags={"customer": "acme"})
    document = a_filed_document(file.facts, stored)
    await conclude(backend, layout, an_envelope(), [document], archived_at=NOW, extra={}, signer=None)

    assert backend.described == {
        name: ({"customer": "acme"}, content_type)
        for name, content_type in (
            (file.name, "application/pdf"),
            (layout.hashes_name, "text/plain"),
            (layout.manifest_name, "application/json"),
        )
    }


@pytest.mark.parametrize(("declared", "words"), [(9, "sent more"), (11, "sent fewer")])
async def test_a_source_of_another_length_says_which(declared: int, words: str) -> None:
    file = a_layout().files[0]
    with pytest.raises(SourceBroken, match=f"declared {declared} bytes and {words}") as broken:
        await store(MemoryBackend(), file, a_source(b"x" * 10, declared=declared), tags={})
    assert (broken.value.expected, broken.value.got) == (declared, 10)


class ReplacedMeanwhile(MemoryBackend):
    """An archive that stores garbage, which another writer replaces right after it was read back."""

    replacement = b"of another writer"

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        async for chunk in super().read(name):
            yield chunk
        if name in self.files:
            self.files[name] = self.replacement


async def test_what_another_writer_put_in_the_place_of_garbage_is_not_removed() -> None:
    file = a_layout().files[0]
    backend = ReplacedMeanwhile(spoil=lambda data: b"?")

    with pytest.raises(VerificationFailed):
        await store(backend, file, a_source(content()), tags={})

    assert backend.files == {file.name: ReplacedMeanwhile.replacement}
    assert backend.discarded == []


async def test_only_files_with_the_very_bytes_of_the_source_are_found_stored() -> None:
    backend, layout = MemoryBackend(), a_layout(*files_named("same.pdf", "other.pdf", "missing.pdf"))
    same, other, _ = layout.files
    backend.files = {same.name: b"same", other.name: b"an old one"}
    downloaded: list[str] = []

    def download(facts: FileFacts) -> AbstractAsyncContextManager[FileSource]:
        downloaded.append(facts.file_name)
        return a_source(facts.file_name.partition(".")[0].encode())()

    assert await find_stored(backend, layout, download) == (backend.location(same.name),)
    assert downloaded == ["same.pdf", "other.pdf"]


@pytest.mark.parametrize("lacking", [{"size": None}, {"sha256": None}])
async def test_a_file_without_its_proof_is_never_in_a_manifest(lacking: dict[str, Any]) -> None:
    backend, layout = MemoryBackend(), a_layout()
    document = a_filed_document(
        layout.files[0].facts, await store(backend, layout.files[0], a_source(b"1"), tags={})
    )

    with pytest.raises(ValueError, match="was not deposited"):
        await conclude(
            backend,
            layout,
            an_envelope(),
            [msgspec.structs.replace(document, **lacking)],
            archived_at=NOW,
            extra={},
            signer=None,
        )

    assert layout.manifest_name not in backend.files


async def test_a_file_that_was_stored_elsewhere_is_never_in_a_manifest() -> None:
    backend, layout = MemoryBackend(), a_layout()
    document = a_filed_document(
        layout.files[0].facts, await store(backend, layout.files[0], a_source(b"1"), tags={})
    )
    here, elsewhere = (
        msgspec.structs.replace(document, location=backend.location(name))
        for name in (layout.files[0].name, "elsewhere.pdf")
    )

    with pytest.raises(ValueError, match=r"was deposited as memory:///elsewhere\.pdf"):
        await conclude(backend, layout, an_envelope(), [elsewhere], archived_at=NOW, extra={}, signer=None)
    await conclude(backend, layout, an_envelope(), [here], archived_at=NOW, extra={}, signer=None)

    assert await verify_folder(backend, layout.folder) == []


async def test_the_manifest_has_every_fact_of_the_envelope_and_its_files() -> None:
    facts = dataclasses.replace(a_file(), document_number=3, email="bob@acme.example", activity_id="a-7")
    envelope = dataclasses.replace(
        an_envelope(),
        sender_name="Ann",
        actions=(ActionFacts("envelopeFinished", "2026-03-01T10:00:00Z", {"case": "7"}),),
    )
    layout = dataclasses.replace(a_layout(facts, envelope=envelope), tags={"customer": "acme"})
    backend = MemoryBackend()
    document = a_filed_document(facts, await store(backend, layout.files[0], a_source(b"hello"), tags={}))
    found = Signatures(state=State.INTACT)
    piece = ManifestEvidence(kind=FileKind.DOCUMENT, state=EvidenceState.PRESENT, required=True)

    eastern = NOW.astimezone(timezone(timedelta(hours=9)))
    await conclude(
        backend,
        layout,
        envelope,
        [document],
        archived_at=eastern,
        extra={"event": "e-1"},
        signatures={facts.file_id: found},
        evidence=[piece],
        esaw_version="25.52",
        signer=None,
    )

    assert Manifest.decode(backend.files[layout.manifest_name]) == Manifest(
        envelope=ManifestEnvelope(
            id=ENVELOPE_ID,
            name="Contract",
            status="Completed",
            organization="acme",
            namespace="tests",
            origin="https://esaw.example.com",
        ),
        sender=ManifestSender(email="ann@acme.example", user_id="u-1", name="Ann"),
        times=ManifestTimes(
            sent="2026-03-01T09:30:00Z",
            finished="2026-03-01T09:58:00Z",
            archived="2026-03-01T12:00:00Z",
            actions=(ManifestAction("envelopeFinished", "2026-03-01T10:00:00Z", {"case": "7"}),),
        ),
        evidence=(piece,),
        files=(
            ManifestFile(
                name="Document/contract.pdf",
                kind=FileKind.DOCUMENT,
                file_id=facts.file_id,
                file_name="contract.pdf",
                content_type="application/pdf",
                size=5,
                sha256=hashlib.sha256(b"hello").hexdigest(),
                location=backend.location(layout.files[0].name),
                document_number=3,
                email="bob@acme.example",
                activity_id="a-7",
                signatures=found,
            ),
        ),
        tags={"customer": "acme"},
        extra={"event": "e-1"},
        versions=ManifestVersions(counterfoil=__version__, esaw="25.52"),
        sealed_by=None,
    )


async def test_our_damaged_manifest_is_written_again() -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout)
    backend.files[layout.manifest_name] = b"{"

    await filed(backend, layout)

    assert await verify_folder(backend, layout.folder) == []


@pytest.mark.parametrize(
    "there", [None, b"of somebody", b"x" * (MANIFEST_LIMIT + 1)], ids=["missing", "other", "too-long"]
)
async def test_a_hash_file_that_is_not_as_written_is_written_again(there: bytes | None) -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout)
    backend.files.pop(layout.hashes_name)
    if there is not None:
        backend.files[layout.hashes_name] = there

    await filed(backend, layout)

    assert await verify_folder(backend, layout.folder) == []


class AccentBlindBackend(MemoryBackend):
    """An archive that takes names as one that differ only in accents; it keeps the first spelling."""

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        await super().put(self._spelling(name), chunks, tags=tags, content_type=content_type)

    def read(self, name: str) -> AsyncGenerator[bytes, None]:
        return super().read(self._spelling(name))

    def _spelling(self, name: str) -> str:
        return next((each for each in self.files if _plain(each) == _plain(name)), name)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFD", name).encode("ascii", "ignore").decode()


@dataclasses.dataclass
class RelistingBackend(MemoryBackend):
    """An archive whose list of files is changed by ``relist``."""

    relist: Callable[[list[StoredEntry]], list[StoredEntry]] = list

    async def entries(self, folder: str) -> list[StoredEntry]:
        return self.relist(await super().entries(folder))


async def test_two_files_under_one_name_get_no_manifest() -> None:
    backend, layout = AccentBlindBackend(), a_layout(*files_named("resume.pdf", "r\u00e9sum\u00e9.pdf"))

    with pytest.raises(ArchiveError) as trouble:
        await filed(backend, layout)

    assert trouble.value.reason == "ListingDiffers"
    assert f"memory:///{layout.files[1].name}" in trouble.value.message
    assert "{{file.number}}" in trouble.value.message
    assert layout.manifest_name not in backend.files


@pytest.mark.parametrize(
    ("relist", "says"),
    [
        pytest.param(lambda found: [*found, *found], "more than once", id="doubled"),
        pytest.param(lambda found: found[1:], "does not list", id="missing"),
        pytest.param(
            lambda found: [dataclasses.replace(each, size=1001) for each in found],
            "with 1001 bytes instead of 1000",
            id="other size",
        ),
    ],
)
async def test_a_folder_that_lists_other_files_than_were_stored_gets_no_manifest(
    relist: Callable[[list[StoredEntry]], list[StoredEntry]], says: str
) -> None:
    backend, layout = RelistingBackend(relist=relist), a_layout()

    with pytest.raises(ArchiveError) as trouble:
        await filed(backend, layout)

    assert trouble.value.reason == "ListingDiffers"
    assert says in trouble.value.message
    assert trouble.value.message.startswith(f"memory:///{layout.files[0].name} ")
    assert layout.manifest_name not in backend.files


@pytest.mark.parametrize(
    "relist",
    [
        pytest.param(
            lambda found: [
                dataclasses.replace(each, name=unicodedata.normalize("NFD", each.name)) for each in found
            ],
            id="other normal form",
        ),
        pytest.param(
            lambda found: [dataclasses.replace(each, name=each.name.upper()) for each in found],
            id="other letter case",
        ),
        pytest.param(
            lambda found: [dataclasses.replace(each, size=None) for each in found], id="without sizes"
        ),
        pytest.param(
            lambda found: [*found, StoredEntry("acme/x/CONTRACT.pdf", 7), StoredEntry("acme/notes.txt", 9)],
            id="with files of others",
        ),
    ],
)
async def test_a_folder_that_lists_the_stored_files_in_its_own_way_gets_a_manifest(
    relist: Callable[[list[StoredEntry]], list[StoredEntry]],
) -> None:
    backend, layout = (
        RelistingBackend(relist=relist),
        a_layout(*files_named("contract.pdf", "\u00dcbertrag.pdf")),
    )

    await filed(backend, layout)

    assert layout.manifest_name in backend.files


@pytest.mark.parametrize(
    "lost", ["contract.pdf", "counterfoil.json", "counterfoil.json.sig", "counterfoil.sha256"]
)
async def test_a_folder_that_lacks_a_file_after_the_manifest_is_not_complete(lost: str) -> None:
    def relist(found: list[StoredEntry]) -> list[StoredEntry]:
        is_written = any(each.name.endswith("counterfoil.json") for each in found)
        return [each for each in found if not (is_written and each.name.endswith(f"/{lost}"))]

    backend, layout = RelistingBackend(relist=relist), a_layout(*files_named("contract.pdf"))

    with pytest.raises(ListingDiffers) as trouble:
        await filed(backend, layout, signer=a_signer())

    assert f"/{lost} was stored and read back, but the archive does not list it." in trouble.value.message
    assert "{{file.number}}" not in trouble.value.message


async def test_a_foreign_file_with_the_same_name_in_capitals_is_not_treated_as_a_duplicate() -> None:
    backend, layout = MemoryBackend(), a_layout()
    above, _, name = layout.files[0].name.rpartition("/")
    backend.files[f"{above}/{name.upper()}"] = b"not ours"

    await filed(backend, layout)

    assert layout.manifest_name in backend.files


@pytest.mark.parametrize("count", [10, 1_000])
async def test_the_names_of_a_long_list_are_compared_outside_of_the_event_loop(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()

    def folded(name: str) -> str:
        threads.add(threading.get_ident())
        return case_folded(name)

    class Listing(NegativeCacheBackend):
        async def entries(self, folder: str) -> list[StoredEntry]:
            return [StoredEntry(f"{folder}/{number:060}") for number in range(count)]

    monkeypatch.setattr(filing, "case_folded", folded)
    await claim_names(Listing(FilesystemBackend("dms", tmp_path)), a_layout(), key=None)
    assert (threads == {threading.get_ident()}) == (count == 10)


def test_a_listed_name_is_found_in_any_form_and_not_folded_if_it_is_far_too_long() -> None:
    ours, decomposed = "a/r\u00e9sum\u00e9.pdf", "a/RE\u0301SUME\u0301.PDF"
    found = EntriesByName.of([StoredEntry(decomposed), StoredEntry("a/" + "\ufdfa" * 1000)], [ours])
    assert found.has(ours)
    assert [each.name for each in found.find(ours)] == [decomposed]
    exact = EntriesByName.of([StoredEntry(decomposed), StoredEntry(ours)], [ours])
    assert [each.name for each in exact.find(ours)] == [ours]
    padded = EntriesByName.of([StoredEntry("a/" + "\u00ad" * 1000 + ours[2:])], [ours])
    assert not padded.has(ours)


@pytest.mark.parametrize("between", ["", "\u034f"], ids=["in-a-row", "with-ignored-characters-between"])
@pytest.mark.parametrize(
    "mark",
    ["\u0301", "\uff9e", "\u0f73", "\u0345"],
    ids=["mark", "kana-mark", "two-marks", "mark-that-becomes-a-letter"],
)
def test_a_listed_name_with_a_long_run_of_marks_is_folded_only_if_a_name_of_the_layout_has_one(
    monkeypatch: pytest.MonkeyPatch, mark: str, between: str
) -> None:
    folded: list[str] = []

    def noted(name: str) -> str:
        folded.append(name)
        return case_folded(name)

    monkeypatch.setattr(filing, "case_folded", noted)
    ours = f"a/{'contract' * 10}.pdf"
    short, hostile = "a/e" + (mark + between) * 30, "a/e" + (mark + between) * 31
    found = EntriesByName.of([StoredEntry(short), StoredEntry(hostile)], [ours])
    assert folded == [ours, short]
    assert not found.has(ours)
    folded.clear()
    longer = hostile + mark * 40
    assert EntriesByName.of([StoredEntry(hostile.upper())], [hostile]).has(hostile)
    assert EntriesByName.of([StoredEntry(hostile), StoredEntry(longer)], [hostile]).has(hostile)
    assert longer not in folded
