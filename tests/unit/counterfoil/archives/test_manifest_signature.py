"""
The seal of the manifest: who has the public key can tell that nobody else wrote it.
"""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given
from hypothesis import strategies as st

from counterfoil.archives.errors import (
    ArchiveError,
    ArchiveRefused,
    ArchiveUnavailable,
    ManifestUnsealed,
    NameTaken,
)
from counterfoil.archives.filing import claim_names, conclude, sealed_place, store
from counterfoil.archives.layout import ArchiveLayout
from counterfoil.archives.manifest import Manifest
from counterfoil.archives.manifest_signature import (
    SEAL_SIZE,
    ManifestSigner,
    PublicKey,
    SigningKeyInvalid,
    label_of,
    seals_to_keep,
)
from counterfoil.archives.names import MANIFEST_NAME
from counterfoil.archives.verify import CheckStatus, CheckSubject, check_archive
from counterfoil.resources.envelopeevent import FiledDocument
from tests.support.fakes.archives import (
    MemoryBackend,
    a_filed_document,
    a_layout,
    a_source,
    an_envelope,
    content,
)
from tests.support.signing_keys import a_signer, key_file, private_pem, public_pem

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CONTENT = content()


async def filed(
    backend: MemoryBackend,
    layout: ArchiveLayout,
    signer: ManifestSigner | None,
    *,
    name: str = "Contract",
    data: bytes = CONTENT,
    time: datetime = NOON,
) -> None:
    """File everything of the layout, as a run does, and note which names were written."""
    backend.puts.clear()
    documents = []
    for planned in layout.files:
        deposited = await store(backend, planned, a_source(data), tags={})
        documents.append(a_filed_document(planned.facts, deposited))
    envelope = an_envelope(name=name)
    await conclude(backend, layout, envelope, documents, archived_at=time, extra={}, signer=signer)


async def test_the_seal_comes_before_the_manifest_which_stays_the_last() -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout, a_signer())
    assert backend.puts[-3:] == [layout.hashes_name, layout.seal_name, layout.manifest_name]


async def test_the_seal_fits_the_manifest_and_the_manifest_names_the_key() -> None:
    backend, layout, signer = MemoryBackend(), a_layout(), a_signer()
    await filed(backend, layout, signer)
    manifest = backend.files[layout.manifest_name]
    assert signer.public.verifies(backend.files[layout.seal_name], manifest)
    assert Manifest.decode(manifest).sealed_by == signer.public.id
    assert not a_signer(2).public.verifies(backend.files[layout.seal_name], manifest)
    assert not signer.public.verifies(backend.files[layout.seal_name], manifest + b" ")


async def test_without_a_key_there_is_no_seal() -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout, None)
    assert layout.seal_name not in backend.files
    assert Manifest.decode(backend.files[layout.manifest_name]).sealed_by is None


async def test_a_run_that_is_repeated_leaves_a_sealed_manifest_as_it_is() -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout, a_signer())
    await filed(backend, layout, a_signer())
    assert backend.puts == []


@pytest.mark.parametrize("seal", [None, b"", b"x" * 64])
async def test_a_seal_that_is_missing_or_does_not_fit_is_made_again(seal: bytes | None) -> None:
    backend, layout, signer = MemoryBackend(), a_layout(), a_signer()
    await filed(backend, layout, signer)
    del backend.files[layout.seal_name]
    if seal is not None:
        backend.files[layout.seal_name] = seal
    await filed(backend, layout, signer)
    assert signer.public.verifies(backend.files[layout.seal_name], backend.files[layout.manifest_name])


async def test_another_key_seals_again() -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout, a_signer(1))
    await filed(backend, layout, a_signer(2))
    assert a_signer(2).public.verifies(backend.files[layout.seal_name], backend.files[layout.manifest_name])


async def test_a_manifest_that_is_written_again_without_a_key_has_no_old_seal_beside_it() -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout, a_signer())
    await filed(backend, layout, None)
    assert layout.seal_name not in backend.files


REFUSED = ArchiveRefused("ArchivePermissionDenied", "The archive replaces no manifest.")


@pytest.mark.parametrize("new", [None, a_signer(1), a_signer(2)], ids=["no key", "the same key", "a new key"])
@pytest.mark.parametrize("problem", [REFUSED, ArchiveUnavailable("ArchiveFull", "No space is left.")])
async def test_the_seal_still_fits_a_manifest_that_the_archive_does_not_replace(
    problem: ArchiveError, new: ManifestSigner | None
) -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout, a_signer(1))
    before = dict(backend.files)
    backend.problems[layout.manifest_name] = problem

    with pytest.raises(ArchiveError):
        await filed(backend, layout, new, name="Renamed")

    assert backend.files == before


async def test_a_manifest_without_a_seal_gets_none_if_the_archive_does_not_replace_it() -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout, None)
    before = dict(backend.files)
    backend.problems[layout.manifest_name] = REFUSED

    with pytest.raises(ArchiveError):
        await filed(backend, layout, a_signer())

    assert backend.files == before


class AnswerLost(MemoryBackend):
    """Stores each manifest, and its answer is lost."""

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        await super().put(name, chunks, tags=tags, content_type=content_type)
        if name.endswith(MANIFEST_NAME):
            raise ArchiveUnavailable("ArchiveUnreachable", "The connection was closed.")


async def test_a_manifest_that_was_replaced_without_an_answer_keeps_its_new_seal() -> None:
    layout, signer = a_layout(), a_signer(2)
    earlier = MemoryBackend()
    await filed(earlier, layout, a_signer(1))
    backend = AnswerLost(files=dict(earlier.files))

    with pytest.raises(ArchiveUnavailable):
        await filed(backend, layout, signer)

    assert signer.public.fitting(backend.files[layout.seal_name], backend.files[layout.manifest_name])


@pytest.mark.parametrize("earlier", [None, a_signer(1)], ids=["no key", "an earlier key"])
async def test_an_archive_that_refuses_to_replace_a_manifest_that_lacks_only_our_seal_is_reported(
    earlier: ManifestSigner | None,
) -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout, earlier)
    backend.problems[layout.manifest_name] = REFUSED

    with pytest.raises(ManifestUnsealed, match="The archive replaces no manifest") as refusal:
        await filed(backend, layout, a_signer(2))

    assert refusal.value.reason == "ManifestUnsealed"
    assert a_signer(2).public.id in refusal.value.message


@pytest.mark.parametrize(
    ("earlier", "problem", "data"),
    [
        (a_signer(1), ArchiveUnavailable("ArchiveFull", "No space is left."), content()),
        (a_signer(2), REFUSED, content(seed=2)),
        (a_signer(1), REFUSED, content(seed=2)),
    ],
    ids=["an archive that is full", "a manifest with our seal", "another file"],
)
async def test_a_refusal_that_no_key_solves_stays_as_it_is(
    earlier: ManifestSigner, problem: ArchiveError, data: bytes
) -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout, earlier)
    backend.problems[layout.manifest_name] = problem

    with pytest.raises(type(problem)) as refusal:
        await filed(backend, layout, a_signer(2), data=data)

    assert refusal.value is problem


@pytest.mark.parametrize(
    "reason",
    ["ArchiveReadOnly", "ArchiveRootMissing", "ArchiveCredentialsRejected", "StoredWrong", "FileTooBig"],
)
async def test_only_a_refusal_to_replace_is_a_manifest_without_a_seal(reason: str) -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout, a_signer(1))
    backend.problems[layout.manifest_name] = ArchiveRefused(reason, "It is not about this file.")

    with pytest.raises(ArchiveRefused) as refusal:
        await filed(backend, layout, a_signer(2))

    assert refusal.value.reason == reason


class LandsLate(MemoryBackend):
    """Stores each manifest only after its connection was closed."""

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        if not name.endswith(MANIFEST_NAME):
            await super().put(name, chunks, tags=tags, content_type=content_type)
            return
        self.late = b"".join([chunk async for chunk in chunks])
        raise ArchiveUnavailable("ArchiveUnreachable", "The connection was closed.")


async def test_a_manifest_that_arrives_late_has_its_seal() -> None:
    layout, signer, earlier = a_layout(), a_signer(2), MemoryBackend()
    await filed(earlier, layout, a_signer(1))
    backend = LandsLate(files=dict(earlier.files))

    with pytest.raises(ArchiveUnavailable):
        await filed(backend, layout, signer)

    assert signer.public.fitting(backend.files[layout.seal_name], backend.late)
    assert a_signer(1).public.fitting(backend.files[layout.seal_name], backend.files[layout.manifest_name])


class Killed(BaseException):
    """The process ends."""


@dataclass
class KilledAtUpload(MemoryBackend):
    """The process ends at upload number ``uploads``, before or after the file ``is_stored``."""

    uploads: int = 0
    is_stored: bool = False

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        if len(self.puts) + 1 < self.uploads:
            await super().put(name, chunks, tags=tags, content_type=content_type)
            return
        if self.is_stored:
            await super().put(name, chunks, tags=tags, content_type=content_type)
        raise Killed


UPLOADS = ["the seals of both", "the manifest", "the seal"]


@pytest.mark.parametrize("is_stored", [False, True], ids=["before it is stored", "after it is stored"])
@pytest.mark.parametrize("upload", range(len(UPLOADS)), ids=UPLOADS)
@pytest.mark.parametrize("new", [1, 2], ids=["the same key", "a new key"])
async def test_a_sealed_manifest_has_its_seal_wherever_its_replacement_is_killed(
    new: int, upload: int, *, is_stored: bool
) -> None:
    layout, first = a_layout(), MemoryBackend()
    await filed(first, layout, a_signer(1))
    backend = KilledAtUpload(files=dict(first.files), uploads=upload + 1, is_stored=is_stored)

    with pytest.raises(Killed):
        await filed(backend, layout, a_signer(new), name="Renamed")

    seals, manifest = backend.files[layout.seal_name], backend.files[layout.manifest_name]
    is_replaced = manifest != first.files[layout.manifest_name]
    assert is_replaced == ((upload, is_stored) >= (1, True))
    assert a_signer(new if is_replaced else 1).public.fitting(seals, manifest)

    again = MemoryBackend(files=backend.files)
    await filed(again, layout, a_signer(new), name="Renamed")
    assert a_signer(new).public.verifies(again.files[layout.seal_name], again.files[layout.manifest_name])
    await filed(again, layout, a_signer(new), name="Renamed")
    assert again.puts == []


@pytest.mark.parametrize("of_another", [a_signer().sign(b"another"), b"J" * 64], ids=["seal", "anything"])
@pytest.mark.parametrize("is_first", [True, False])
async def test_what_is_beside_the_seal_of_a_manifest_is_said_to_prove_nothing(
    of_another: bytes, is_first: bool
) -> None:
    """An interrupted replacement leaves another seal there, and who may write there leaves anything."""
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout, a_signer())
    own = backend.files[layout.seal_name]
    backend.files[layout.seal_name] = of_another + own if is_first else own + of_another

    (seal,) = [
        each
        async for each in check_archive(backend, layout.folder, key=a_signer().public)
        if each.about is CheckSubject.SEAL
    ]

    assert seal.verdict is CheckStatus.OK
    assert seal.says.endswith("; beside it are other bytes, which prove nothing")


@pytest.mark.parametrize(
    "beside", [b"", b"x", b"x" * 512], ids=["cut", "more than seals", "more seals than eight"]
)
def test_what_is_no_file_of_some_seals_fits_nothing(beside: bytes) -> None:
    seal = a_signer().sign(CONTENT)
    assert a_signer().public.fitting(seal, CONTENT) == (seal,)
    assert a_signer().public.fitting((seal + beside) if beside else seal[:-1], CONTENT) == ()


async def test_a_manifest_with_other_ids_is_not_taken_as_one_of_these_files() -> None:
    backend, layout = MemoryBackend(), a_layout()
    document = await a_sealed_copy(backend, layout)
    files = [replace(each, facts=replace(each.facts, file_id="file-9")) for each in layout.files]
    other = replace(layout, files=tuple(files))
    wanted = msgspec.structs.replace(document, file_id="file-9")
    assert await sealed_place(backend, other, [wanted], archive="worm", key=a_signer().public) is None


async def a_sealed_copy(backend: MemoryBackend, layout: ArchiveLayout) -> FiledDocument:
    """Conclude the one file of a layout in the Archive ``worm``."""
    (planned,) = layout.files
    document = a_filed_document(planned.facts, await store(backend, planned, a_source(CONTENT), tags={}))
    extra = {"archive": "worm"}
    await conclude(
        backend, layout, an_envelope(), [document], archived_at=NOON, extra=extra, signer=a_signer()
    )
    backend.puts.clear()
    return document


async def test_the_place_of_a_manifest_with_our_seal_is_found_and_nothing_is_written() -> None:
    backend, layout = MemoryBackend(), a_layout()
    document = await a_sealed_copy(backend, layout)
    place = await sealed_place(backend, layout, [document], archive="worm", key=a_signer().public)
    assert place == backend.location(layout.manifest_name)
    assert backend.puts == []


@pytest.mark.parametrize(
    ("archive", "key", "sha256"),
    [
        ("dms", a_signer(), None),
        ("worm", a_signer(2), None),
        ("worm", None, None),
        ("worm", a_signer(), "0" * 64),
    ],
    ids=["of another Archive", "of another key", "no key", "of another content"],
)
async def test_no_other_manifest_is_taken_as_one_with_our_seal(
    archive: str, key: ManifestSigner | None, sha256: str | None
) -> None:
    backend, layout = MemoryBackend(), a_layout()
    document = await a_sealed_copy(backend, layout)
    wanted = msgspec.structs.replace(document, sha256=sha256 or document.sha256)
    public = key.public if key is not None else None
    assert await sealed_place(backend, layout, [wanted], archive=archive, key=public) is None


async def test_a_manifest_whose_hash_file_is_lost_is_not_taken_as_concluded() -> None:
    backend, layout = MemoryBackend(), a_layout()
    document = await a_sealed_copy(backend, layout)
    del backend.files[layout.hashes_name]
    assert await sealed_place(backend, layout, [document], archive="worm", key=a_signer().public) is None


async def test_a_foreign_file_in_the_place_of_the_seal_is_not_touched() -> None:
    backend, layout = MemoryBackend(), a_layout()
    backend.files[layout.seal_name] = b"another program's"
    with pytest.raises(NameTaken):
        await claim_names(backend, layout, key=None)


async def test_openssl_alone_can_check_the_seal(tmp_path: Path) -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout, a_signer())
    (tmp_path / "public.pem").write_bytes(public_pem())
    (tmp_path / "counterfoil.json").write_bytes(backend.files[layout.manifest_name])
    (tmp_path / "counterfoil.json.sig").write_bytes(backend.files[layout.seal_name])
    command = (
        "openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in counterfoil.json -sigfile "
        "counterfoil.json.sig"
    )
    process = await asyncio.create_subprocess_exec(*command.split(), cwd=tmp_path)
    assert await process.wait() == 0


def test_keys_are_read_from_pem_files(tmp_path: Path) -> None:
    signer = ManifestSigner.load(key_file(tmp_path, private_pem()))
    public = PublicKey.load(key_file(tmp_path, public_pem()))
    assert public.verifies(signer.sign(b"content"), b"content")
    assert public.id == signer.public.id


def an_elliptic_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.mark.parametrize("key", [b"", b"secret", public_pem(), an_elliptic_key()])
def test_what_is_no_key_for_sealing_is_refused_without_showing_it(tmp_path: Path, key: bytes) -> None:
    with pytest.raises(SigningKeyInvalid) as invalid:
        ManifestSigner.load(key_file(tmp_path, key))
    assert "secret" not in str(invalid.value)
    assert str(tmp_path) in str(invalid.value)


def test_a_private_key_is_no_public_one(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyInvalid):
        PublicKey.load(key_file(tmp_path, private_pem()))


def test_a_controller_with_a_key_that_is_none_does_not_start(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "controller", "--manifest-key", str(key_file(tmp_path, b"secret"))],
        env={},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "the controller can't start" in ended.stderr + ended.stdout
    assert "secret" not in ended.stderr + ended.stdout


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyInvalid, match=r"nothing\.pem can't be read: No such file"):
        ManifestSigner.load(tmp_path / "nothing.pem")


class ArchiveWithoutAnswerToManifests(MemoryBackend):
    """Stores no manifest, and returns an error that leaves it open."""

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        if name.endswith("counterfoil.json"):
            raise ArchiveUnavailable("ArchiveUnreachable", "the archive does not answer")
        await super().put(name, chunks, tags=tags, content_type=content_type)


@pytest.mark.parametrize("names", [("Renamed", "Renamed"), ("Renamed", "Renamed twice")])
async def test_attempts_that_do_not_replace_a_manifest_keep_its_seal_by_an_earlier_key(
    names: tuple[str, str],
) -> None:
    layout, backend = a_layout(), ArchiveWithoutAnswerToManifests()
    before = MemoryBackend()
    await filed(before, layout, a_signer(1))
    backend.files = dict(before.files)

    for name in names:
        with pytest.raises(ArchiveUnavailable):
            await filed(backend, layout, a_signer(2), name=name)

        manifest = backend.files[layout.manifest_name]
        assert manifest == before.files[layout.manifest_name]
        assert a_signer(1).public.fitting(backend.files[layout.seal_name], manifest)


class ArchiveThatLocksSeals(MemoryBackend):
    """Replaces no seal of a manifest that was replaced."""

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        if name.endswith(".sig") and name in self.files and self.is_locked:
            raise ArchiveRefused("ArchiveLocked", f"{name} is locked")
        await super().put(name, chunks, tags=tags, content_type=content_type)
        self.is_locked = name.endswith("counterfoil.json")

    is_locked = False


async def test_an_archive_that_keeps_the_seal_of_a_replaced_manifest_holds_no_event() -> None:
    layout, backend = a_layout(), ArchiveThatLocksSeals()
    before = MemoryBackend()
    await filed(before, layout, a_signer())
    backend.files = dict(before.files)

    await filed(backend, layout, a_signer(), name="Renamed")
    await filed(backend, layout, a_signer(), name="Renamed")

    manifest, seals = backend.files[layout.manifest_name], backend.files[layout.seal_name]
    assert manifest != before.files[layout.manifest_name]
    assert len(seals) == 3 * SEAL_SIZE
    assert a_signer().public.fitting(seals, manifest)


class ArchiveThatLocksSealsAndFallsSilent(ArchiveThatLocksSeals):
    """Then stores no further manifest."""

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        if self.is_silent and name.endswith("counterfoil.json"):
            raise ArchiveUnavailable("ArchiveUnreachable", "the archive does not answer")
        await super().put(name, chunks, tags=tags, content_type=content_type)

    is_silent = False


async def test_a_manifest_keeps_its_seal_beside_that_of_the_manifest_that_it_replaced() -> None:
    layout, backend = a_layout(), ArchiveThatLocksSealsAndFallsSilent()
    before = MemoryBackend()
    await filed(before, layout, a_signer(1))
    backend.files = dict(before.files)
    await filed(backend, layout, a_signer(2), name="Renamed")
    stored = backend.files[layout.manifest_name]
    assert len(backend.files[layout.seal_name]) == 3 * SEAL_SIZE

    backend.is_locked, backend.is_silent = False, True
    for name in ("Renamed again", "Renamed twice"):
        with pytest.raises(ArchiveUnavailable):
            await filed(backend, layout, a_signer(3), name=name)

    assert backend.files[layout.manifest_name] == stored
    assert a_signer(2).public.fitting(backend.files[layout.seal_name], stored)


STEPS = st.tuples(
    st.integers(min_value=1, max_value=4),
    st.sampled_from(["Contract", "Renamed", "Renamed again"]),
    st.sampled_from(["none", "refuses manifests", "shortens no seals", "falls silent", "loses answers"]),
    st.just(-1) | st.integers(min_value=0, max_value=30),
)
"""Key, name of the envelope, trouble of the archive, and the request at which the process ends (-1: none)."""


@dataclass
class TroubledArchive(MemoryBackend):
    """It has a ``trouble``, and the process ends after some ``requests``."""

    trouble: str = ""
    requests: int = 0

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        is_manifest = name.endswith(MANIFEST_NAME)
        if is_manifest and self.trouble == "refuses manifests":
            raise REFUSED
        if is_manifest and self.trouble == "falls silent":
            raise ArchiveUnavailable("ArchiveUnreachable", "The connection was closed.")
        if name.endswith(".sig") and self.trouble == "shortens no seals" and name in self.puts:
            raise ArchiveRefused("ArchiveLocked", f"{name} is locked")
        await super().put(name, chunks, tags=tags, content_type=content_type)
        if is_manifest and self.trouble == "loses answers":
            raise ArchiveUnavailable("ArchiveUnreachable", "The connection was closed.")

    def _begin(self, operation: str) -> None:
        if self.requests == 0:
            raise Killed
        self.requests -= 1


@example([(number, "Contract", "shortens no seals", -1) for number in (2, 3, 4, 1, 2)])
@example(
    [
        (2, "Contract", "shortens no seals", -1),
        (3, "Contract", "falls silent", -1),
        (3, "Contract", "shortens no seals", -1),
        (4, "Contract", "falls silent", -1),
    ]
)
@example([(2, "Contract", "falls silent", -1)] * 30)
@given(st.lists(STEPS, max_size=20))
async def test_the_stored_manifest_has_its_seal_after_each_interrupted_run_with_any_key(
    steps: list[tuple[int, str, str, int]],
) -> None:
    """Neither an auditor with the key that it names nor a later run loses what proves its files."""
    layout, first = a_layout(), MemoryBackend()
    await filed(first, layout, a_signer(1))
    files, time = first.files, NOON
    publics = {a_signer(number).public.id: a_signer(number).public for number in range(1, 5)}

    for number, name, trouble, requests in [*steps, (4, "Contract", "none", -1)]:
        # Each attempt archives at another time, so each one signs another manifest.
        time += timedelta(minutes=1)
        backend = TroubledArchive(files=files, trouble=trouble, requests=requests)
        try:
            await filed(backend, layout, a_signer(number), name=name, time=time)
        except NameTaken:
            raise
        except (ArchiveError, Killed):
            pass
        manifest, seals = files[layout.manifest_name], files[layout.seal_name]
        sealed_by = Manifest.decode(manifest).sealed_by
        assert sealed_by is not None
        assert publics[sealed_by].fitting(seals, manifest)

    assert len(files[layout.seal_name]) == SEAL_SIZE


async def test_a_manifest_that_arrives_in_the_next_attempt_has_its_seal() -> None:
    layout, signer, earlier = a_layout(), a_signer(2), MemoryBackend()
    await filed(earlier, layout, a_signer(1))
    backend = LandsLate(files=dict(earlier.files))
    late = []

    for name in ("Renamed", "Renamed again"):
        with pytest.raises(ArchiveUnavailable):
            await filed(backend, layout, signer, name=name)
        late.append(backend.late)

    for manifest in late:
        assert signer.public.fitting(backend.files[layout.seal_name], manifest)


TOO_MANY = [b"J" * SEAL_SIZE * 8, b"J" * 100_000, b"J" * 513]


@pytest.mark.parametrize("beside", TOO_MANY, ids=["as seals", "more than is read", "no seals"])
@pytest.mark.parametrize("new", [None, a_signer(2)], ids=["no key", "a new key"])
async def test_more_seals_than_counterfoil_writes_are_not_replaced(
    beside: bytes, new: ManifestSigner | None
) -> None:
    """The seal of the stored manifest may be among them, and only a person with its key can find it."""
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout, a_signer(1))
    own = backend.files[layout.seal_name]
    backend.files[layout.seal_name] = own + beside
    before = dict(backend.files)

    with pytest.raises(NameTaken, match="Leave only that seal in the file") as refusal:
        await filed(backend, layout, new, name="Renamed", data=content(seed=2) if new else CONTENT)

    assert layout.seal_name in refusal.value.message
    unchanged = (layout.seal_name, layout.manifest_name)
    assert {each: backend.files[each] for each in unchanged} == {each: before[each] for each in unchanged}

    backend.files[layout.seal_name] = own
    await filed(backend, layout, new, name="Renamed", data=content(seed=2) if new else CONTENT)


async def test_a_manifest_that_lacks_only_our_seal_names_the_seals_beside_it_as_the_reason() -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout, a_signer(1))
    backend.files[layout.seal_name] += b"J" * 1000

    with pytest.raises(ManifestUnsealed, match="Leave only that seal in the file"):
        await filed(backend, layout, a_signer(2))


async def test_seals_of_anything_leave_no_room_for_a_further_one() -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout, a_signer(1))
    backend.files[layout.seal_name] += b"J" * SEAL_SIZE * 5
    await filed(MemoryBackend(files=dict(backend.files)), layout, a_signer(2))

    backend.files[layout.seal_name] += b"J" * SEAL_SIZE

    with pytest.raises(ManifestUnsealed):
        await filed(backend, layout, a_signer(2))


async def test_a_manifest_without_a_key_needs_no_room_for_a_seal() -> None:
    backend, layout = MemoryBackend(), a_layout()
    await filed(backend, layout, None)
    backend.files[layout.seal_name] = b"J" * 1000

    await filed(backend, layout, None, name="Renamed")

    assert backend.files[layout.seal_name] == b"J" * 1000


def test_only_the_label_of_a_seal_lets_it_go() -> None:
    """A seal without a label stays, since it may be that of the stored manifest."""
    stored, other = sha256(b"stored").hexdigest(), sha256(b"other").hexdigest()
    seals = [bytes([number]) * SEAL_SIZE for number in range(1, 4)]
    labelled = seals[0] + label_of(seals[0], other) + seals[1] + label_of(seals[1], stored) + seals[2]

    kept = seals_to_keep(labelled + b"J" * SEAL_SIZE * 3, stored)

    assert kept == (seals[1], label_of(seals[1], stored), seals[2], *([b"J" * SEAL_SIZE] * 3))
    of_another = seals[0] + label_of(seals[1], other)
    assert seals_to_keep(of_another, stored) == (seals[0], label_of(seals[1], other))
