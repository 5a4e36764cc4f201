"""
Measure the files of some envelopes, for the estimate of a dry run.

eSAW's list of files has no sizes, so each file is opened. Its declared length is enough: the transfer ends
there. Only a file without one is read, up to a bound. Nothing is stored. An envelope that eSAW does not show
is counted, and stops nothing: the search decides what an error of eSAW means.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable

from counterfoil.esaw.client import EsawUserClient
from counterfoil.esaw.errors import EsawError
from counterfoil.resources.imports import ImportSample

_log = logging.getLogger(__name__)

MAX_FILES = 50
"""Maximum number of files of one envelope that are opened. The others count with the mean size of these."""

MAX_READ = 64 * 1024**2
"""Maximum number of bytes that are read of a file without a declared length."""

MAX_SIZE = 1024**4
"""Maximum size of a file in the sample: eSAW may declare any number."""

ENVELOPE_SECONDS = 120.0
"""Maximum time for one envelope."""

Check = Callable[[], Awaitable[None]]


async def take_sample(
    user: EsawUserClient, envelopes: Iterable[str], check: Check, *, seconds: float = ENVELOPE_SECONDS
) -> ImportSample:
    """Return the sample of these envelopes. ``check`` is called before each request, and what it raises ends
    the sample."""
    sample = ImportSample()
    for envelope in envelopes:
        await check()
        try:
            async with asyncio.timeout(seconds):
                more = await _measured(user, envelope, check)
        except (EsawError, TimeoutError) as problem:
            _log.info("an envelope of a dry run is not measured: %s", problem, extra={"envelope": envelope})
            more = ImportSample(unreadable=1)
        sample = sample.with_more(more)
    return sample


async def _measured(user: EsawUserClient, envelope: str, check: Check) -> ImportSample:
    """Return the sample of one envelope. Raises ``EsawError``, and what ``check`` raises."""
    files = (await user.files(envelope)).files()
    opened, size = files[:MAX_FILES], 0
    for each in opened:
        await check()
        size += min(await _size(user, each.file_id), MAX_SIZE)
    return ImportSample(envelopes=1, files=len(files), bytes=size * len(files) // max(1, len(opened)))


async def _size(user: EsawUserClient, file_id: str) -> int:
    """Return the declared length of a file; else its length as far as it is read. Raises ``EsawError``."""
    async with user.download(file_id) as download:
        if download.size is not None:
            return download.size
        read = 0
        async for chunk in download.chunks:
            read += len(chunk)
            if read >= MAX_READ:
                break
        return read
