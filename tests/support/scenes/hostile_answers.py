"""
A program for tests: has many answers of a hostile server at once, and prints by how much it grew.

``python -m tests.support.scenes.hostile_answers KIND COUNT URL`` prints the growth of its memory in bytes,
the number of answers that were refused, and the number of those that were accepted. Accepted ones are kept
as long as a run keeps them, and a run that finds a manifest waits for its seal.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from functools import partial
from itertools import cycle, product

from aiohttp import ClientSession
from msgspec.structs import replace

from counterfoil._upstream.malloc import keep_large_blocks
from counterfoil.archives.backend import ArchiveBackend, FileNotStored, RetainingBackend, StoredEntry
from counterfoil.archives.copies.copy import plan_copy
from counterfoil.archives.copies.original import Original, read_original
from counterfoil.archives.errors import ArchiveError
from counterfoil.archives.filing import conclude, find_concluded
from counterfoil.archives.layout import ArchiveLayout, EnvelopeFacts, FileFacts
from counterfoil.archives.manifest import Manifest, ManifestDamaged
from counterfoil.archives.names import MANIFEST_NAME, SIGNATURE_NAME
from counterfoil.archives.proof import FileKey
from counterfoil.archives.readback import reading_small
from counterfoil.archives.streams import single_chunk
from counterfoil.archives.verify import verify_copy, verify_documents
from counterfoil.clock import WallClock
from counterfoil.esaw import ApiToken, EsawClient, EsawError, EsawUserClient, new_http_client
from counterfoil.esaw_check.probes import Questions, check_esaw
from counterfoil.process_exit import exit_process
from counterfoil.resources.envelopeevent import FiledDocument, FileKind
from counterfoil.testing.archive_contract.runs import peak_memory
from counterfoil.untrusted.addresses import ALLOWED, Addresses
from tests.support.archive_servers import KINDS as ARCHIVE_KINDS
from tests.support.archive_servers import open_at
from tests.support.fakes.archives import MemoryBackend, a_spec, an_envelope
from tests.support.scenes.esaw_check import a_subject_of
from tests.support.servers.scripted_esaw import ENVELOPE
from tests.support.signing_keys import a_signer

FOLDER = "a"
FILE = f"{FOLDER}/b.pdf"
STALLED_SECONDS = 5.0
"""Time after which a run is ended that waits for an answer without an end."""

REFUSED = "refused"

Ask = Callable[[], Awaitable[object]]


@asynccontextmanager
async def asking(url: str, question: Callable[[EsawUserClient], Awaitable[object]]) -> AsyncIterator[Ask]:
    """Ask eSAW about an envelope."""
    async with new_http_client() as http:
        client = EsawClient(url, http=http, clock=WallClock(), observe=lambda *_: None)
        yield partial(question, client.as_user(ApiToken.parse("a" * 40, url)))


async def envelope(user: EsawUserClient) -> object:
    """The part of an envelope that a run keeps."""
    return await user.envelope(ENVELOPE)


async def files(user: EsawUserClient) -> object:
    """The part of a list of files that a run keeps."""
    return (await user.files(ENVELOPE)).files()


async def metadata(user: EsawUserClient) -> object:
    """The part of a configuration that a run keeps."""
    found = (await user.configuration(ENVELOPE)).metadata
    return found.encode() if found is not None else None


@asynccontextmanager
async def manifest(url: str) -> AsyncIterator[Ask]:
    """A manifest in an archive."""
    backend = await open_at("webdav", url)

    async def ask() -> Manifest:
        async with reading_small(backend, "a/counterfoil.json") as content:
            return Manifest.decode(content)

    yield ask
    await backend.close()


@asynccontextmanager
async def sealed(url: str) -> AsyncIterator[Ask]:
    """A manifest of this envelope, and a seal that never comes."""
    backend = await open_at("webdav", url)
    layout = ArchiveLayout(ENVELOPE, FOLDER, (), {}, "o", "n", "https://esaw")
    key = a_signer().public
    yield lambda: _stalled(find_concluded(backend, layout, ENVELOPE, key=key))
    await backend.close()


class Deaf(MemoryBackend):
    """An archive that never ends a write."""

    async def put(self, name: str, chunks: object, *, tags: object, content_type: str | None) -> None:
        """Wait without an end."""
        await asyncio.Event().wait()


@asynccontextmanager
async def concluded(url: str, *, has_key: bool) -> AsyncIterator[Ask]:
    """A manifest of this envelope without our seal that is replaced, by a write that never ends."""
    async with ClientSession() as http, http.get(url) as response:
        backend = Deaf(files={f"{FOLDER}/counterfoil.json": await response.read()})
    layout = ArchiveLayout(ENVELOPE, FOLDER, (), {}, "o", "n", "https://esaw")
    facts = EnvelopeFacts("o", ENVELOPE, "", "Completed", namespace="n", origin="https://esaw")
    signer = a_signer() if has_key else None
    yield lambda: _stalled(
        conclude(backend, layout, facts, (), archived_at=WallClock().now(), extra={}, signer=signer)
    )


@asynccontextmanager
async def verified(url: str) -> AsyncIterator[Ask]:
    """The verification of an archived envelope, whose hash file never comes."""
    backend = await open_at("webdav", url)

    async def verify() -> None:
        location = backend.location(f"{FOLDER}/counterfoil.json")
        async for _ in verify_documents(backend, location, (), an_envelope(), key=None):
            pass

    yield lambda: _stalled(verify())
    await backend.close()


FACTS = EnvelopeFacts("o", ENVELOPE, "", "Completed", namespace="n", origin="https://esaw")
CONTRACT: FileKey = ("1", FileKind.DOCUMENT)
FILED = FiledDocument(file_id="1", kind=FileKind.DOCUMENT, file_name="1", size=1, sha256="0" * 64)


class ManifestOnly(MemoryBackend):
    """An archive that returns its manifest and the seal, and never ends another answer."""

    async def entries(self, folder: str) -> list[StoredEntry]:
        """Wait without an end."""
        await asyncio.Event().wait()
        return []

    async def read(self, name: str) -> AsyncGenerator[bytes, None]:
        """Return a manifest or seal, or wait without an end."""
        if not name.endswith((MANIFEST_NAME, SIGNATURE_NAME)):
            await asyncio.Event().wait()
        async for chunk in super().read(name):
            yield chunk


async def _manifest_only(url: str, folder: str) -> ManifestOnly:
    async with ClientSession() as http, http.get(url) as response:
        return ManifestOnly(files={f"{folder}/{MANIFEST_NAME}": await response.read()})


@asynccontextmanager
async def copy_planned(url: str) -> AsyncIterator[Ask]:
    """A copy, in whose place is a manifest of the envelope, and a list that never comes."""
    backend, spec = await _manifest_only(url, ENVELOPE), a_spec(path="{{envelope.id}}/{{file.name}}")
    original = Original(
        envelope=FACTS,
        files=(FileFacts("1", FileKind.DOCUMENT, "1.pdf", 1),),
        checksums={CONTRACT: (1, "0" * 64)},
        names={CONTRACT: "1.pdf"},
        manifest="memory://dms/1/counterfoil.json",
        manifest_sha256="",
        is_believed=True,
    )
    key = a_signer().public
    yield lambda: _stalled(
        plan_copy(
            backend,
            spec,
            original,
            claimed_manifests=(),
            may_replace=lambda *_: True,
            of_others={},
            is_elsewhere=True,
            key=key,
        )
    )


@asynccontextmanager
async def copy_verified(url: str) -> AsyncIterator[Ask]:
    """A copy that is read again, whose hash file never comes."""
    backend = await _manifest_only(url, FOLDER)

    async def verify() -> None:
        location = backend.location(f"{FOLDER}/{MANIFEST_NAME}")
        async for _ in verify_copy(backend, location, [FILED], an_envelope(), key=None):
            pass

    yield lambda: _stalled(verify())


@asynccontextmanager
async def copy_original(url: str) -> AsyncIterator[Ask]:
    """The original of a copy, read without a key, and a run that keeps it."""
    backend = await _manifest_only(url, FOLDER)
    filed = replace(FILED, location=backend.location(f"{FOLDER}/1"))

    async def read() -> None:
        location = backend.location(f"{FOLDER}/{MANIFEST_NAME}")
        original = await read_original(backend, location, [filed], FACTS, key=None)
        await asyncio.Event().wait()
        del original

    yield lambda: _stalled(read())


@asynccontextmanager
async def listing(url: str) -> AsyncIterator[Ask]:
    """A list of an object store."""
    backend = await open_at("s3", url)
    yield partial(backend.entries, "a")
    await backend.close()


@asynccontextmanager
async def checked(url: str) -> AsyncIterator[Ask]:
    """The check of an Organization, whose results it keeps."""
    async with new_http_client() as http:
        esaw = EsawClient(url, http=http, clock=WallClock(), observe=lambda *_: None)
        clock, subject = WallClock(), a_subject_of(url)
        yield lambda: check_esaw(Questions(esaw, clock), subject, clock.now())


async def _content(backend: ArchiveBackend) -> None:
    async with aclosing(backend.read(FILE)) as stream:
        async for _ in stream:
            pass


async def _retained(backend: ArchiveBackend) -> None:
    if isinstance(backend, RetainingBackend):
        await backend.retain(FILE)


OPERATIONS: dict[str, Callable[[ArchiveBackend], Awaitable[object]]] = {
    "entries": lambda backend: backend.entries(FOLDER),
    "put": lambda backend: backend.put(FILE, single_chunk(b"x"), tags={"a": "b"}, content_type=None),
    "read": _content,
    "discard": lambda backend: backend.discard(FILE),
    "probe": lambda backend: backend.probe(),
    "remove_leftovers": lambda backend: backend.remove_leftovers(FOLDER),
    "retain": _retained,
}
"""Everything that an archive is asked."""


@asynccontextmanager
async def operations(url: str, kind: str) -> AsyncIterator[Ask]:
    """All operations of an archive at four hosts in turn; an answer without an end is waited for."""
    addresses = [url.replace("127.0.0.1", f"127.0.0.{host}") for host in range(1, 5)]
    backends = [await open_at(kind, each) for each in addresses]
    # Lists first, since they are the largest answers.
    lists = [OPERATIONS["entries"], OPERATIONS["remove_leftovers"]]
    turns = cycle(product([*lists, *OPERATIONS.values()], backends))

    async def ask() -> None:
        operation, backend = next(turns)
        with suppress(TimeoutError, FileNotStored):
            async with asyncio.timeout(STALLED_SECONDS):
                await operation(backend)

    yield ask
    for backend in backends:
        await backend.close()


KINDS: dict[str, Callable[[str], AbstractAsyncContextManager[Ask]]] = {
    "esaw": partial(asking, question=files),
    "files": partial(asking, question=files),
    "envelope": partial(asking, question=envelope),
    "metadata": partial(asking, question=metadata),
    "manifest": manifest,
    "sealed": sealed,
    "concluded": partial(concluded, has_key=True),
    "concluded without a key": partial(concluded, has_key=False),
    "callbacks without a key": partial(concluded, has_key=False),
    "verified": verified,
    "planned copy": copy_planned,
    "verified copy": copy_verified,
    "original of a copy without a key": copy_original,
    "callbacks of an original without a key": copy_original,
    "list": listing,
    "check": checked,
    **{each: partial(operations, kind=each) for each in ARCHIVE_KINDS},
}


async def main(kind: str, count: int, url: str) -> tuple[int, int, int]:
    """Return the growth in bytes, and the numbers of answers that were refused and accepted."""
    async with KINDS[kind](url) as ask:
        await _answer(ask)
        before = peak_memory()
        answers = await asyncio.gather(*(_answer(ask) for _ in range(count)))
        refused = answers.count(REFUSED)
        return peak_memory() - before, refused, count - refused


async def _answer(ask: Ask) -> object:
    try:
        return await ask()
    except (ArchiveError, EsawError, ManifestDamaged):
        # Not the error, whose traceback has the answer.
        return REFUSED


async def _stalled(run: Awaitable[object]) -> None:
    """Wait for a run that waits for an answer without an end."""
    with suppress(TimeoutError):
        async with asyncio.timeout(STALLED_SECONDS):
            await run
            raise AssertionError("the run did not wait")


if __name__ == "__main__":
    keep_large_blocks()  # as the controller does
    ALLOWED.set(Addresses(allows_loopback=True))
    what, number, address = sys.argv[1:]
    growth, refused, accepted = asyncio.run(main(what, int(number), address))
    sys.stdout.write(f"{growth} {refused} {accepted}")
    exit_process(0)
