"""
The cases of the contract. Their names are sentences; docs/contributing/archive-kinds.md has them as a table,
with what ran where.
"""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from typing import ClassVar

import httpx
import msgspec
import pytest

from counterfoil.archives.backend import ArchiveBackend, ForwardingBackend
from counterfoil.archives.errors import (
    ArchiveError,
    ArchiveRefused,
    ArchiveUnavailable,
    ListingDiffers,
    NameTaken,
    VerificationFailed,
)
from counterfoil.archives.filing import claim_names, store
from counterfoil.archives.verify import verify_folder
from counterfoil.resources.archive import TagRule
from counterfoil.testing.archive_contract import runs
from counterfoil.testing.archive_contract.fault_proxy import FaultProxy
from counterfoil.testing.archive_contract.fixture import (
    ArchiveFixture,
    SourceCut,
    a_layout,
    a_source,
    broken,
    content,
    file_envelope,
    pieces,
    read,
)

KIB = 1024
MIB = 1024 * KIB

BIG_FILE = 5 * 1024 * MIB if os.environ.get("COUNTERFOIL_HUGE_FILES") else 128 * MIB
"""COUNTERFOIL_HUGE_FILES=1 has 5 GiB sent to each kind whose server can take that; it takes minutes, and the
space."""

MEMORY = 24 * MIB

AWKWARD_NAMES = (
    "../../etc/passwd.pdf",
    "..\\..\\drivers.pdf",
    "..",
    "CON.pdf",
    "L" * 296 + ".pdf",
    "ä" * 148 + ".pdf",
    "Übertrag.pdf",
    "U\u0308bertrag.pdf",
    "Vertrag 📄✍️.pdf",
    ".hidden.pdf",
    "trailing space.pdf ",
    "line\nbreak\tand\x00nul.pdf",
    "",
    "double \"quotes\" and 'single'.pdf",
    "semi;colon=equals, comma + plus & ampersand.pdf",
    "percent%2e%2e%2f 100%.pdf",
    "hash#question?.pdf",
    "[brackets] {braces} ^caret` ~tilde~ |pipe $dollar !bang @at.pdf",
    "case.pdf",
    "CASE.pdf",
    "ca\u200dse.pdf",
    "cas\ufe0fe.pdf",
    "\uff43ase.pdf",
    "\u00dcbertrag\u034f.pdf",
    "no character \uffff\ufdd0.pdf",
    "counterfoil.json",
    "counterfoil.json\u200d",
)


class FilingContract:
    """Guarantees of every archive. A subclass gives the fixture ``ground``."""

    LARGEST: ClassVar[int] = BIG_FILE
    """Bytes that the server can take in one file; a subclass whose server keeps files in memory sets less."""

    @pytest.fixture
    async def backend(self, ground: ArchiveFixture) -> AsyncIterator[ArchiveBackend]:
        backend = await ground.backend()
        yield backend
        await backend.close()

    async def test_a_probe_succeeds_and_leaves_nothing(self, backend: ArchiveBackend) -> None:
        await backend.probe()
        await backend.probe()

        assert await backend.entries("a") == []

    @pytest.mark.parametrize("size", [0, 1, MIB, 5 * MIB + 1])
    async def test_a_file_of_any_size_comes_back_as_it_was(self, backend: ArchiveBackend, size: int) -> None:
        await _put(backend, "a/b/c.pdf", content(size))

        assert await read(backend, "a/b/c.pdf") == content(size)

    async def test_a_file_that_is_there_is_replaced(self, backend: ArchiveBackend) -> None:
        await _put(backend, "a/b.pdf", content(2 * MIB))
        await _put(backend, "a/b.pdf", b"new")

        assert await read(backend, "a/b.pdf") == b"new"

    async def test_what_is_not_there_is_absent(self, backend: ArchiveBackend) -> None:
        await _put(backend, "a/b.pdf", b"b")

        assert await read(backend, "a/c.pdf") is None
        assert await read(backend, "x/y/z.pdf") is None
        await backend.discard("a/c.pdf")
        await backend.discard("x/y/z.pdf")

    async def test_a_file_is_discarded_and_no_other(self, backend: ArchiveBackend) -> None:
        await _put(backend, "a/b.pdf", b"b")
        await _put(backend, "a/c.pdf", b"c")

        await backend.discard("a/b.pdf")

        assert await read(backend, "a/b.pdf") is None
        assert await read(backend, "a/c.pdf") == b"c"

    async def test_names_that_lead_out_are_refused(self, backend: ArchiveBackend) -> None:
        for name in ("../a", "a/../../b", "/a", "a//b", "", "a/."):
            with pytest.raises(ValueError, match="not a clean relative name"):
                await _put(backend, name, b"x")
            with pytest.raises(ValueError, match="not a clean relative name"):
                backend.location(name)

    async def test_a_location_is_a_separate_uri(self, backend: ArchiveBackend) -> None:
        locations = [backend.location(name) for name in ("a/b.pdf", "a/ü %?#.pdf", "a/ü %3F#.pdf", "a b")]

        assert len(set(locations)) == 4
        for location in locations:
            scheme, colon, rest = location.partition(":")
            assert scheme.isalnum()
            assert colon
            assert rest.isascii()
            assert not set(rest) & set(' #?"<>')

    @pytest.mark.parametrize("cut_at", [0, 1000, 6 * MIB])
    async def test_a_source_that_fails_leaves_no_file(self, backend: ArchiveBackend, cut_at: int) -> None:
        with pytest.raises(SourceCut):
            await backend.put("a/b.pdf", broken(content(cut_at), SourceCut()), tags={}, content_type=None)

        assert await read(backend, "a/b.pdf") is None

    async def test_a_source_that_fails_leaves_the_old_file(self, backend: ArchiveBackend) -> None:
        await _put(backend, "a/b.pdf", b"old")

        with pytest.raises(SourceCut):
            await backend.put("a/b.pdf", broken(content(6 * MIB), SourceCut()), tags={}, content_type=None)

        assert await read(backend, "a/b.pdf") == b"old"

    @pytest.mark.parametrize(
        "error", [ConnectionResetError("source"), TimeoutError("source"), httpx.ReadError("source")], ids=repr
    )
    async def test_an_error_of_the_source_is_not_reported_as_one_of_the_archive(
        self, backend: ArchiveBackend, error: Exception
    ) -> None:
        with pytest.raises(type(error)) as raised:
            await backend.put("a/b.pdf", broken(content(MIB), error), tags={}, content_type=None)

        assert raised.value is error

    async def test_a_cancelled_upload_leaves_no_file(self, backend: ArchiveBackend) -> None:
        sent = asyncio.Event()

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield content(MIB)
            sent.set()
            await asyncio.Event().wait()

        upload = asyncio.create_task(backend.put("a/b.pdf", chunks(), tags={}, content_type=None))
        await sent.wait()
        upload.cancel()
        with pytest.raises(asyncio.CancelledError):
            await upload

        assert await read(backend, "a/b.pdf") is None
        await _put(backend, "a/b.pdf", b"whole")
        assert await read(backend, "a/b.pdf") == b"whole"

    async def test_a_reader_may_leave_early(self, backend: ArchiveBackend) -> None:
        await _put(backend, "a/b.pdf", content(6 * MIB))

        for _ in range(3):
            stream = backend.read("a/b.pdf")
            assert await anext(stream)
            await stream.aclose()

        assert await read(backend, "a/b.pdf") == content(6 * MIB)

    async def test_the_same_file_is_recognised(self, ground: ArchiveFixture, backend: ArchiveBackend) -> None:
        file = a_layout(ground.spec, ["contract.pdf"]).files[0]
        first = await store(backend, file, a_source(content(MIB)), tags={})
        again = await store(backend, file, a_source(content(MIB)), tags={})

        assert (first.written, again.written) == (True, False)
        assert first.sha256 == again.sha256

    async def test_other_content_under_our_name_is_replaced(
        self, ground: ArchiveFixture, backend: ArchiveBackend
    ) -> None:
        file = a_layout(ground.spec, ["contract.pdf"]).files[0]
        await _put(backend, file.name, content(MIB, seed=2))
        stored_file = await store(backend, file, a_source(content(MIB)), tags={})

        assert stored_file.written
        assert await read(backend, file.name) == content(MIB)

    async def test_garbage_is_found_by_reading_back_and_removed(
        self, ground: ArchiveFixture, backend: ArchiveBackend
    ) -> None:
        file = a_layout(ground.spec, ["contract.pdf"]).files[0]

        with pytest.raises(VerificationFailed):
            await store(CorruptingBackend(backend), file, a_source(content(MIB)), tags={})

        assert await read(backend, file.name) is None

    async def test_awkward_names_and_tags_are_filed_and_found_again(
        self, ground: ArchiveFixture, backend: ArchiveBackend
    ) -> None:
        rules = {
            "customer": TagRule(json_path="$.customer"),
            "Kosten_stelle-1.2": TagRule(value=" 47\\11 €\"'"),
            "none": TagRule(value="a\uffff\ufdd0\x00\x0b\r\n<&]]>\u200d\u0301b"),
            "long": TagRule(value="x" * 1024),
            "letters": TagRule(value="\U00020000" * 20),
        }
        layout = a_layout(msgspec.structs.replace(ground.spec, tags=rules), AWKWARD_NAMES * 2)
        contents = [content(100, seed=number) for number in range(len(layout.files))]

        await file_envelope(backend, layout, contents)

        assert await verify_folder(backend, layout.folder) == []
        for file, data in zip(layout.files, contents, strict=True):
            assert await read(backend, file.name) == data

    async def test_200_files_of_one_envelope_are_filed(
        self, ground: ArchiveFixture, backend: ArchiveBackend
    ) -> None:
        layout = a_layout(ground.spec, [f"document {number}.pdf" for number in range(200)])
        await file_envelope(backend, layout, [content(1000, seed=number) for number in range(200)])

        assert await verify_folder(backend, layout.folder) == []

    async def test_two_controllers_at_once_leave_what_one_leaves(self, ground: ArchiveFixture) -> None:
        layout = a_layout(ground.spec, ["a.pdf", "b.pdf", "c.pdf"])
        contents = [content(size, seed=size) for size in (10, MIB, 3 * MIB)]
        backends = [await ground.backend() for _ in range(2)]

        async with asyncio.TaskGroup() as group:
            for backend in backends:
                group.create_task(_file_stubbornly(backend, lambda at: file_envelope(at, layout, contents)))

        assert await verify_folder(backends[0], layout.folder) == []
        for backend in backends:
            await backend.close()

    @pytest.mark.parametrize("step", [1, 5, 10])
    async def test_a_run_that_was_killed_is_completed_by_the_next(
        self, ground: ArchiveFixture, backend: ArchiveBackend, step: int
    ) -> None:
        layout, contents = a_layout(ground.spec, list(runs.FILES)), runs.file_contents()
        code, _, _ = await _run(ground, "die", step)
        assert code == -signal.SIGKILL
        for file, data in zip(layout.files, contents, strict=True):
            assert await read(backend, file.name) in (None, data)
        assert await read(backend, layout.manifest_name) is None

        await file_envelope(backend, layout, contents)

        assert await verify_folder(backend, layout.folder) == []

    async def test_a_big_file_takes_at_most_24_mib_of_memory(self, ground: ArchiveFixture) -> None:
        code, grown, errors = await _run(ground, "weigh", min(BIG_FILE, self.LARGEST))

        assert code == 0, errors.decode()[-2000:]
        assert int(grown) <= MEMORY


class ListingContract(FilingContract):
    """Further guarantees of an archive that can list its files."""

    async def test_entries_are_all_files_below_a_folder(self, backend: ArchiveBackend) -> None:
        for name in ("a/x/2.pdf", "a/1.pdf", "ab/3.pdf", "a/ü %2F+#.pdf"):
            await _put(backend, name, name.encode())

        entries = await backend.entries("a")

        assert [entry.name for entry in entries] == ["a/1.pdf", "a/x/2.pdf", "a/ü %2F+#.pdf"]
        assert all(entry.size in (None, len(entry.name.encode())) for entry in entries)
        assert await backend.entries("absent/folder") == []
        assert backend.lists_files

    async def test_a_foreign_file_under_our_name_is_not_changed(
        self, ground: ArchiveFixture, backend: ArchiveBackend
    ) -> None:
        layout = a_layout(ground.spec, ["contract.pdf"])
        await _put(backend, layout.files[0].name, b"theirs")

        with pytest.raises(NameTaken, match="is there already"):
            await claim_names(backend, layout, key=None)

        assert await read(backend, layout.files[0].name) == b"theirs"

    async def test_the_folder_has_only_the_filed_files(
        self, ground: ArchiveFixture, backend: ArchiveBackend
    ) -> None:
        layout = a_layout(ground.spec, AWKWARD_NAMES)
        await file_envelope(backend, layout, [b"x"] * len(layout.files))

        found = {entry.name for entry in await backend.entries(layout.folder)}

        assert found == {*(file.name for file in layout.files), layout.hashes_name, layout.manifest_name}

    async def test_folders_and_files_of_others_are_not_changed(
        self, ground: ArchiveFixture, backend: ArchiveBackend
    ) -> None:
        layout = a_layout(ground.spec, ["contract.pdf", "Übertrag.pdf"])
        theirs = [
            f"{layout.folder}/{name}" for name in ("theirs/deep/er/1.pdf", "notes ü.txt", "theirs/2.pdf")
        ]
        for name in theirs:
            await _put(backend, name, name.encode())

        await file_envelope(backend, layout, [b"a", b"b"])

        assert await verify_folder(backend, layout.folder) == []
        for name in theirs:
            assert await read(backend, name) == name.encode()

    @pytest.mark.parametrize("other", ["CONTRACT.PDF", "contract\u200d.pdf", "\uff43ontract.pdf"], ids=ascii)
    async def test_a_foreign_file_that_some_volume_takes_as_ours_is_not_changed(
        self, ground: ArchiveFixture, backend: ArchiveBackend, other: str
    ) -> None:
        layout = a_layout(ground.spec, ["contract.pdf"])
        foreign = f"{layout.files[0].name.removesuffix('contract.pdf')}{other}"
        await _put(backend, foreign, b"theirs")

        with pytest.raises(NameTaken, match="is there already"):
            await claim_names(backend, layout, key=None)

        assert await read(backend, foreign) == b"theirs"

    async def test_sweeping_removes_no_file(self, ground: ArchiveFixture, backend: ArchiveBackend) -> None:
        layout = a_layout(ground.spec, ["a.pdf", "b.pdf"])
        await file_envelope(backend, layout, [b"a", b"b"])
        await _put(backend, f"{layout.folder}/x/theirs.tmp", b"theirs")

        await backend.remove_leftovers(layout.folder)
        await backend.remove_leftovers("absent/folder")

        assert await verify_folder(backend, layout.folder) == []
        assert await read(backend, f"{layout.folder}/x/theirs.tmp") == b"theirs"


class WireContract:
    """Guarantees of an archive behind a network. Needs ``address`` and ``reroute`` of the ground."""

    @pytest.fixture
    async def wire(self, ground: ArchiveFixture) -> AsyncIterator[FaultProxy]:
        assert ground.address is not None
        async with FaultProxy(*ground.address) as wire:
            yield wire

    @pytest.fixture
    async def far_backend(self, ground: ArchiveFixture, wire: FaultProxy) -> AsyncIterator[ArchiveBackend]:
        backend = await ground.backend_by(wire.port)
        yield backend
        await backend.close()

    async def test_an_unavailable_server_is_waited_for_and_filing_continues(
        self, far_backend: ArchiveBackend, wire: FaultProxy
    ) -> None:
        await _put(far_backend, "a/b.pdf", b"content")
        wire.cut()

        for attempt in (
            far_backend.probe(),
            far_backend.read("a/b.pdf").__anext__(),
            _put(far_backend, "a/b.pdf", b"new"),
        ):
            with pytest.raises(ArchiveUnavailable) as trouble:
                await attempt
            assert trouble.value.reason == "ArchiveUnreachable"
            assert trouble.value.message.startswith("Archive/dms: ")

        await wire.restore()
        assert await read(far_backend, "a/b.pdf") == b"content"

    @pytest.mark.parametrize("after", [0, 3 * MIB])
    async def test_a_connection_that_is_cut_in_an_upload_leaves_no_half(
        self,
        ground: ArchiveFixture,
        backend: ArchiveBackend,
        far_backend: ArchiveBackend,
        wire: FaultProxy,
        after: int,
    ) -> None:
        file = a_layout(ground.spec, ["contract.pdf"]).files[0]
        await far_backend.probe()
        wire.cut_after(after)

        with pytest.raises(ArchiveUnavailable):
            await store(far_backend, file, a_source(content(8 * MIB)), tags={})

        assert wire.cuts == 1
        assert await read(backend, file.name) is None
        await wire.restore()
        assert (await store(far_backend, file, a_source(content(8 * MIB)), tags={})).written

    async def test_a_connection_that_is_cut_in_a_download_gives_no_shorter_file(
        self, backend: ArchiveBackend, far_backend: ArchiveBackend, wire: FaultProxy
    ) -> None:
        await _put(backend, "a/b.pdf", content(8 * MIB))
        await far_backend.probe()
        wire.cut_after(3 * MIB)

        with pytest.raises(ArchiveUnavailable):
            await read(far_backend, "a/b.pdf")

        assert wire.cuts == 1

    async def test_a_slow_server_gets_its_time(
        self, ground: ArchiveFixture, far_backend: ArchiveBackend, wire: FaultProxy
    ) -> None:
        file = a_layout(ground.spec, ["contract.pdf"]).files[0]
        wire.pause = 0.01

        stored_file = await store(far_backend, file, a_source(content(2 * MIB)), tags={})

        assert stored_file.size == 2 * MIB


class LoginContract:
    """A subclass gives ``stranger``: a backend whose credentials are wrong."""

    async def test_a_wrong_login_is_reported(self, ground: ArchiveFixture, stranger: ArchiveBackend) -> None:
        with pytest.raises(ArchiveRefused) as trouble:
            await stranger.probe()
        assert trouble.value.reason == "ArchiveCredentialsRejected"
        _assert_is_for_people(trouble.value, ground)


class RootContract:
    """A subclass gives ``rootless``: a backend for a bucket or folder that does not exist."""

    async def test_a_missing_root_is_reported_and_not_created(
        self, ground: ArchiveFixture, rootless: ArchiveBackend
    ) -> None:
        for attempt in (rootless.probe(), _put(rootless, "a/b.pdf", b"x")):
            with pytest.raises(ArchiveRefused) as trouble:
                await attempt
            assert trouble.value.reason.endswith("Missing")
            _assert_is_for_people(trouble.value, ground)


class FullContract:
    """A subclass gives ``full``: a backend for an archive that has no space for 2 MiB."""

    async def test_a_full_archive_is_reported_and_has_no_half_file(
        self, ground: ArchiveFixture, full: ArchiveBackend
    ) -> None:
        with pytest.raises(ArchiveUnavailable) as trouble:
            await _put(full, "a/b.pdf", content(2 * MIB))
        assert trouble.value.reason == "ArchiveFull"
        _assert_is_for_people(trouble.value, ground)
        assert await read(full, "a/b.pdf") is None


class PermissionContract:
    """A subclass gives ``forbidden``: a backend for an archive that is read-only."""

    async def test_a_lost_permission_is_reported(
        self, ground: ArchiveFixture, forbidden: ArchiveBackend
    ) -> None:
        with pytest.raises(ArchiveRefused) as trouble:
            await _put(forbidden, "a/b.pdf", content(2 * MIB))
        assert trouble.value.reason in ("ArchivePermissionDenied", "ArchiveReadOnly")
        _assert_is_for_people(trouble.value, ground)


class RefusalContract(LoginContract, RootContract, FullContract, PermissionContract):
    """Messages to the administrator. The backends are fixtures, since each needs a separate server."""


class CorruptingBackend(ForwardingBackend):
    """A backend whose archive accepts files and stores other bytes."""

    async def put(
        self, name: str, chunks: AsyncIterable[bytes], *, tags: Mapping[str, str], content_type: str | None
    ) -> None:
        await super().put(name, _spoiled(chunks), tags=tags, content_type=content_type)


async def _spoiled(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield bytes([chunk[0] ^ 1]) + chunk[1:]


async def _put(backend: ArchiveBackend, name: str, data: bytes) -> None:
    await backend.put(name, pieces(data), tags={"contract": "47/11 ü&=<>"}, content_type="application/pdf")


async def _file_stubbornly(backend: ArchiveBackend, file: Callable[[ArchiveBackend], Awaitable[str]]) -> None:
    """File as a controller does that another one disturbs: again, after pauses that grow. They are multiples
    of the time that an attempt takes, so that on any machine one of the two comes to its end between them."""
    longest, problems = 0.0, list[str]()
    for attempt in range(10):
        started = time.monotonic()
        try:
            await file(backend)
        except (ArchiveUnavailable, ListingDiffers, VerificationFailed) as problem:
            problems.append(f"{problem.reason}: {problem.message}")
            longest = max(longest, time.monotonic() - started)
            await asyncio.sleep(longest * min(2**attempt, 16) * random.random())  # noqa: S311 - no secret
            continue
        return
    raise AssertionError("\n".join(["ten attempts were not enough", *problems]))


async def _run(ground: ArchiveFixture, what: str, number: int) -> tuple[int, bytes, bytes]:
    """Run one of ``runs``; return its exit code, its output and its errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *ground.program, what, str(number)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    orders = runs.RunInput(ground.spec, dict(ground.credentials))
    printed, errors = await process.communicate(msgspec.json.encode(orders))
    return process.returncode or 0, printed, errors


def _assert_is_for_people(trouble: ArchiveError, ground: ArchiveFixture) -> None:
    assert trouble.message.startswith("Archive/dms: ")
    assert trouble.message.endswith(".")
    assert len(trouble.message) < 500
    for secret in ground.secrets:
        assert secret not in trouble.message
