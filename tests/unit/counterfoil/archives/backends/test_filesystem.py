"""
Archives on a file system: atomic, durable, inside their root, and clear about what is wrong.
"""

import asyncio
import errno
import os
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from counterfoil.archives import open_backend
from counterfoil.archives.backend import MAX_ENTRIES, ArchiveBackend, FileNotStored, RetainingBackend
from counterfoil.archives.backends.filesystem import SYNC_EVERY, error_of
from counterfoil.archives.errors import ArchiveRefused, ArchiveUnavailable, NameTaken, SettingsInvalid
from counterfoil.archives.filing import store
from counterfoil.archives.streams import BLOCK, INLINE
from counterfoil.resources.archive import ArchiveSpec
from sandbox.esaw.core.filenames import AWKWARD_NAMES
from tests.support.fakes.archives import (
    a_layout,
    a_source,
    a_spec,
    content,
    files_named,
    once,
    open_descriptors,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    return folder


@pytest.fixture
async def backend(root: Path) -> ArchiveBackend:
    return await open_backend("dms", a_spec(root=str(root)), {})


async def put(backend: ArchiveBackend, name: str, data: bytes = b"content") -> None:
    await backend.put(name, once(data), tags={}, content_type=None)


async def read(backend: ArchiveBackend, name: str) -> bytes:
    return b"".join([block async for block in backend.read(name)])


def everything_below(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())


async def test_what_was_put_is_there_and_can_be_read(backend: ArchiveBackend, root: Path) -> None:
    await put(backend, "a/b/c.pdf", content(3_000_000))

    assert (root / "a/b/c.pdf").read_bytes() == content(3_000_000)
    assert await read(backend, "a/b/c.pdf") == content(3_000_000)
    assert everything_below(root) == ["a/b/c.pdf"]


@pytest.mark.parametrize(
    "sizes",
    [(), (1,), (INLINE,), (INLINE + 1,), (1, 2, 3), (1, INLINE + 1, 2), (INLINE + 1, 1), (INLINE + 1, 1, 2)],
)
async def test_the_bytes_are_those_of_the_chunks_in_order(
    backend: ArchiveBackend, sizes: tuple[int, ...]
) -> None:
    """A small chunk waits for the next one."""
    blocks = [content(size) for size in sizes]

    async def chunks() -> AsyncIterator[bytes]:
        for block in blocks:
            yield block

    await backend.put("a/b.pdf", chunks(), tags={}, content_type=None)
    assert await read(backend, "a/b.pdf") == b"".join(blocks)


async def test_a_file_is_for_its_owner_and_group_only(backend: ArchiveBackend, root: Path) -> None:
    await put(backend, "a/b.pdf")

    assert stat.S_IMODE((root / "a/b.pdf").stat().st_mode) == 0o640


async def test_a_file_that_is_there_is_replaced_at_one_stroke(backend: ArchiveBackend, root: Path) -> None:
    await put(backend, "a.pdf", b"old")
    seen: list[bytes] = []

    async def chunks() -> AsyncIterator[bytes]:
        yield b"n" * 2_000_000
        seen.append((root / "a.pdf").read_bytes())
        yield b"ew"

    await backend.put("a.pdf", chunks(), tags={}, content_type=None)

    assert seen == [b"old"]
    assert (root / "a.pdf").read_bytes() == b"n" * 2_000_000 + b"ew"


async def test_an_error_of_the_source_comes_out_unchanged_and_leaves_nothing(
    backend: ArchiveBackend, root: Path
) -> None:
    broken = FileNotFoundError(2, "the source's own")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        raise broken

    with pytest.raises(FileNotFoundError) as caught:
        await backend.put("a/b.pdf", chunks(), tags={}, content_type=None)

    assert caught.value is broken
    assert everything_below(root) == []


async def test_a_cancelled_put_leaves_nothing_and_no_open_file(backend: ArchiveBackend, root: Path) -> None:
    begun = asyncio.Event()
    before = open_descriptors()

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(backend.put("a/b.pdf", chunks(), tags={}, content_type=None))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert everything_below(root) == []
    assert open_descriptors() == before


async def test_leaving_a_read_early_leaves_no_open_file(backend: ArchiveBackend) -> None:
    await put(backend, "a.pdf", content(3_000_000))
    before = open_descriptors()

    stream = backend.read("a.pdf")
    assert len(await anext(stream)) == 1024 * 1024
    await stream.aclose()

    assert open_descriptors() == before


async def test_what_is_not_there_is_absent(backend: ArchiveBackend) -> None:
    for name in ("nothing.pdf", "no/folder/either.pdf"):
        with pytest.raises(FileNotStored):
            await read(backend, name)
        await backend.discard(name)
    assert await backend.entries("no/folder") == []


async def test_entries_are_all_files_below_a_folder_with_their_sizes(
    backend: ArchiveBackend, root: Path
) -> None:
    await put(backend, "a/x/2.pdf", b"22")
    await put(backend, "a/1.pdf", b"1")
    await put(backend, "ab/3.pdf")
    (root / "a" / ".counterfoil-1234.tmp").write_bytes(b"ours, unfinished")
    (root / "a" / "link").symlink_to("/etc/passwd")

    assert [(entry.name, entry.size) for entry in await backend.entries("a")] == [
        ("a/1.pdf", 1),
        ("a/link", len("/etc/passwd")),
        ("a/x/2.pdf", 2),
    ]


async def test_leftovers_of_a_killed_run_are_swept_and_nothing_else(
    backend: ArchiveBackend, root: Path
) -> None:
    await put(backend, "a/x/1.pdf")
    (root / "a/x/.counterfoil-00ff.tmp").write_bytes(b"unfinished")
    (root / "a/.counterfoil-00ff.tmp").write_bytes(b"unfinished")
    (root / "a/.other.tmp").write_bytes(b"not ours")
    (root / ".counterfoil-00ff.tmp").write_bytes(b"of another envelope")

    await backend.remove_leftovers("a")
    await backend.remove_leftovers("absent")

    assert everything_below(root) == [".counterfoil-00ff.tmp", "a/.other.tmp", "a/x/1.pdf"]


@pytest.mark.parametrize("operation", ["entries", "remove_leftovers"])
async def test_folders_of_others_that_are_too_deep_are_named(
    backend: ArchiveBackend, root: Path, operation: str
) -> None:
    (root / "a").mkdir()
    at = os.open(root / "a", os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=at)
        below = os.open("d", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)

    with pytest.raises(NameTaken, match="/a has folders more than 64 levels deep"):
        await getattr(backend, operation)("a")

    # pytest can't remove them.
    await (await asyncio.create_subprocess_exec("rm", "-rf", str(root / "a"))).wait()


async def test_too_many_folders_of_others_are_named(backend: ArchiveBackend, root: Path) -> None:
    for number in range(MAX_ENTRIES + 1):
        (root / "a" / str(number)).mkdir(parents=True)

    with pytest.raises(NameTaken, match="more than 10000 files"):
        await backend.entries("a")


@pytest.mark.parametrize(
    "name", ["../up.pdf", "a/../../up.pdf", "/etc/up.pdf", "a//b.pdf", "", ".", "a/./b", "a\0b"]
)
async def test_a_name_that_leads_out_of_the_root_is_refused(
    backend: ArchiveBackend, root: Path, name: str
) -> None:
    with pytest.raises(ValueError, match="clean relative name"):
        await put(backend, name)
    with pytest.raises(ValueError, match="clean relative name"):
        await read(backend, name)

    assert everything_below(root.parent) == []


async def test_a_planted_link_to_a_folder_is_not_followed(
    backend: ArchiveBackend, root: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.pdf").write_bytes(b"theirs")
    (root / "a").symlink_to(elsewhere)

    for attempt in (
        put(backend, "a/b.pdf"),
        read(backend, "a/b.pdf"),
        backend.discard("a/b.pdf"),
        backend.entries("a"),
        backend.remove_leftovers("a"),
    ):
        with pytest.raises(ArchiveRefused, match=r"symbolic link.* Look where it leads.* Keep all documents"):
            await attempt

    assert (elsewhere / "b.pdf").read_bytes() == b"theirs"


async def test_a_planted_link_under_a_files_name_is_neither_read_nor_written_through(
    backend: ArchiveBackend, root: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"theirs")
    (root / "a.pdf").symlink_to(secret)

    with pytest.raises(NameTaken, match=r"symbolic link.* Look where it leads.* Keep the file"):
        await read(backend, "a.pdf")
    await put(backend, "a.pdf", b"ours")

    assert secret.read_bytes() == b"theirs"
    assert (root / "a.pdf").read_bytes() == b"ours"


async def test_a_folder_or_a_pipe_under_a_files_name_is_foreign(backend: ArchiveBackend, root: Path) -> None:
    (root / "folder.pdf").mkdir()
    os.mkfifo(root / "pipe.pdf")

    with pytest.raises(NameTaken, match="no ordinary file"):
        await put(backend, "folder.pdf")
    with pytest.raises(NameTaken, match="no ordinary file"):
        await read(backend, "pipe.pdf")
    assert everything_below(root) == ["pipe.pdf"]


async def test_a_file_where_a_folder_is_needed_is_foreign(backend: ArchiveBackend, root: Path) -> None:
    (root / "acme").write_bytes(b"theirs")

    with pytest.raises(NameTaken, match="is a file where Counterfoil needs a folder"):
        await put(backend, "acme/1/a.pdf")

    assert (root / "acme").read_bytes() == b"theirs"


async def test_a_big_file_is_made_durable_while_it_is_written(
    backend: ArchiveBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))

    async def blocks() -> AsyncIterator[bytes]:
        for _ in range(2 * SYNC_EVERY // BLOCK + 1):
            yield bytes(BLOCK)

    await backend.put("a/big.pdf", blocks(), tags={}, content_type=None)
    assert sizes == [SYNC_EVERY, 2 * SYNC_EVERY]


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths that were made durable, in order."""
    paths: list[str] = []
    fsync = os.fsync

    def recording(descriptor: int) -> None:
        fsync(descriptor)
        paths.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", recording)
    return paths


async def test_a_file_that_an_earlier_run_renamed_is_made_durable_when_it_is_recognised(
    backend: ArchiveBackend, root: Path, synced: list[str]
) -> None:
    """The earlier run may have stopped between its rename and the fsync that follows."""
    file = a_layout().files[0]
    path = root / file.name
    path.parent.mkdir(parents=True)
    path.write_bytes(content())

    deposited = await store(backend, file, a_source(content()), tags={})

    assert not deposited.written
    assert set(synced) == {str(path), *(str(each) for each in path.parents if each.is_relative_to(root))}
    assert synced.index(str(path)) < synced.index(str(path.parent))


async def test_a_file_in_folders_of_an_earlier_run_is_durable_up_to_the_root(
    backend: ArchiveBackend, root: Path, synced: list[str]
) -> None:
    """The earlier run may have stopped between mkdir and the fsync that follows."""
    file = a_layout().files[0]
    path = root / file.name
    path.parent.mkdir(parents=True)

    await store(backend, file, a_source(content()), tags={})

    assert {str(each) for each in path.parents if each.is_relative_to(root)} <= set(synced)


async def test_a_file_that_this_run_stored_costs_one_fsync_and_one_of_its_folder(
    backend: ArchiveBackend, root: Path, synced: list[str]
) -> None:
    files = a_layout(*files_named("a.pdf", "b.pdf")).files
    await store(backend, files[0], a_source(content()), tags={})
    before = len(synced)

    await store(backend, files[1], a_source(content()), tags={})

    # Each new folder is made durable in the folder above it.
    assert before == 5
    assert synced[before + 1 :] == [str((root / files[1].name).parent)]


async def test_a_file_that_is_gone_when_it_is_made_durable_is_waited_for(
    backend: ArchiveBackend, root: Path
) -> None:
    assert isinstance(backend, RetainingBackend)
    for name in ("a/b.pdf", "c.pdf"):
        with pytest.raises(ArchiveUnavailable) as trouble:
            await backend.retain(name)
        assert trouble.value.reason == "ArchiveChanged"


async def test_an_error_of_a_folder_that_is_made_durable_leaves_no_open_file(
    backend: ArchiveBackend, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "a").mkdir()
    before = open_descriptors()

    def broken(descriptor: int) -> None:
        raise OSError(errno.EIO, "as the kernel says")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(ArchiveUnavailable):
        await put(backend, "a/b.pdf")

    assert open_descriptors() == before


async def test_a_folder_that_another_task_makes_at_the_same_time_is_made_durable(
    backend: ArchiveBackend, root: Path, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = os.mkdir

    def beaten(path: str, mode: int, *, dir_fd: int) -> None:
        mkdir(path, mode, dir_fd=dir_fd)
        raise FileExistsError

    monkeypatch.setattr(os, "mkdir", beaten)
    await put(backend, "a/b.pdf")

    assert str(root) in synced


async def test_a_missing_root_is_not_made_but_reported(tmp_path: Path) -> None:
    backend = await open_backend("dms", a_spec(root=str(tmp_path / "not-mounted")), {})

    with pytest.raises(ArchiveRefused) as trouble:
        await backend.probe()

    assert trouble.value.reason == "ArchiveRootMissing"
    assert trouble.value.message == (
        f"Archive/dms: the folder {tmp_path}/not-mounted does not exist. Mount the volume, or correct "
        "spec.filesystem.root. Create the folder only for a new archive."
    )
    assert not (tmp_path / "not-mounted").exists()


async def test_a_probe_leaves_nothing(backend: ArchiveBackend, root: Path) -> None:
    await backend.probe()

    assert everything_below(root) == []


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        (errno.ENOSPC, ArchiveUnavailable, "ArchiveFull"),
        (errno.EDQUOT, ArchiveUnavailable, "ArchiveFull"),
        (errno.EFBIG, ArchiveRefused, "FileTooBig"),
        (errno.EACCES, ArchiveRefused, "ArchivePermissionDenied"),
        (errno.EROFS, ArchiveRefused, "ArchiveReadOnly"),
        (errno.ENAMETOOLONG, ArchiveRefused, "PathTooLong"),
        (errno.EIO, ArchiveUnavailable, "ArchiveFailing"),
        (errno.ESTALE, ArchiveUnavailable, "ArchiveFailing"),
    ],
)
def test_each_error_of_the_system_has_its_words(code: int, kind: type[Exception], reason: str) -> None:
    trouble = error_of(OSError(code, "as the kernel says"), "Archive/dms", Path("/srv/archive"))

    assert type(trouble) is kind
    assert trouble.reason == reason
    assert trouble.message.startswith("Archive/dms: ")
    assert "/srv/archive" in trouble.message


WRITE_UNDER_A_LIMIT = """
import asyncio, resource, sys
from counterfoil.archives import open_backend
from counterfoil.archives.errors import ArchiveError
from counterfoil.resources.archive import ArchiveSpec, Filesystem

async def chunks():
    for _ in range(64):
        yield b"x" * 65536

async def main():
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
    backend = await open_backend("dms", ArchiveSpec(filesystem=Filesystem(root=sys.argv[1])), {})
    try:
        await backend.put("a/b.pdf", chunks(), tags={}, content_type=None)
    except ArchiveError as trouble:
        print(trouble.reason)

asyncio.run(main())
"""


async def test_a_write_that_the_system_stops_in_the_middle_leaves_nothing(root: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITE_UNDER_A_LIMIT, str(root), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()

    assert said.decode().strip() == "FileTooBig"
    assert everything_below(root) == []


async def test_awkward_names_are_stored_and_found_again(backend: ArchiveBackend, root: Path) -> None:
    layout = a_layout(*files_named(*AWKWARD_NAMES, *AWKWARD_NAMES))

    for number, file in enumerate(layout.files):
        await put(backend, file.name, content(seed=number))

    assert [entry.name for entry in await backend.entries(layout.folder)] == sorted(
        file.name for file in layout.files
    )
    for number, file in enumerate(layout.files):
        assert await read(backend, file.name) == content(seed=number)


async def test_a_location_is_a_uri(backend: ArchiveBackend, root: Path) -> None:
    assert backend.location("a/ü %?#.pdf") == f"file://{root}/a/%C3%BC%20%25%3F%23.pdf"


async def test_a_relative_root_is_refused() -> None:
    with pytest.raises(SettingsInvalid, match="absolute"):
        await open_backend("dms", a_spec(root="archive"), {})


async def test_an_archive_of_no_kind_is_reported() -> None:
    with pytest.raises(SettingsInvalid, match="exactly one of filesystem"):
        await open_backend("dms", ArchiveSpec(), {})
