"""
A program for tests: has many answers of a hostile server at once, and prints by how much it grew.

``python -m tests.support.scenes.hostile_answers {esaw,manifest,list} COUNT URL`` prints the growth of its
memory in bytes and the number of answers that were refused.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from counterfoil._upstream.malloc import keep_large_blocks
from counterfoil.archives import open_backend
from counterfoil.archives.errors import ArchiveError
from counterfoil.archives.manifest import Manifest, ManifestDamaged
from counterfoil.archives.readback import read_small
from counterfoil.clock import WallClock
from counterfoil.esaw import ApiToken, EsawClient, EsawError, new_http_client
from counterfoil.process_exit import exit_process
from counterfoil.testing.archive_contract.runs import peak_memory
from counterfoil.untrusted.addresses import ALLOWED, Addresses
from tests.support.scenes.hostile_archive import archive_at

ENVELOPE = "0f9c1c2e-1111-4222-8333-444455556666"
Ask = Callable[[], Awaitable[object]]


@asynccontextmanager
async def esaw(url: str) -> AsyncIterator[Ask]:
    """The list of files of an envelope."""
    async with new_http_client() as http:
        client = EsawClient(url, http=http, clock=WallClock(), observe=lambda *_: None)
        yield partial(client.as_user(ApiToken.parse("a" * 40, url)).files, ENVELOPE)


@asynccontextmanager
async def manifest(url: str) -> AsyncIterator[Ask]:
    """A manifest in an archive."""
    archive, secret = archive_at("webdav", url)
    backend = await open_backend("dms", archive.spec, secret)

    async def ask() -> Manifest:
        return Manifest.decode(await read_small(backend, "a/counterfoil.json"))

    yield ask
    await backend.close()


@asynccontextmanager
async def listing(url: str) -> AsyncIterator[Ask]:
    """A list of an object store."""
    archive, secret = archive_at("s3", url)
    backend = await open_backend("dms", archive.spec, secret)
    yield partial(backend.entries, "a")
    await backend.close()


KINDS = {"esaw": esaw, "manifest": manifest, "list": listing}


async def main(kind: str, count: int, url: str) -> tuple[int, int]:
    """Return the growth in bytes, and the number of answers that were refused."""
    async with KINDS[kind](url) as ask:
        await _is_refused(ask)
        before = peak_memory()
        refused = sum(await asyncio.gather(*(_is_refused(ask) for _ in range(count))))
        return peak_memory() - before, refused


async def _is_refused(ask: Ask) -> bool:
    try:
        await ask()
    except (ArchiveError, EsawError, ManifestDamaged):
        return True
    return False


if __name__ == "__main__":
    keep_large_blocks()  # as the controller does
    ALLOWED.set(Addresses(allows_loopback=True))
    what, number, address = sys.argv[1:]
    grown, refusals = asyncio.run(main(what, int(number), address))
    sys.stdout.write(f"{grown} {refusals}")
    exit_process(0)
