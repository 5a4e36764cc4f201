"""
Measure the files of some envelopes, for the estimate of a dry run.

eSAW's list of files has no sizes, so each file is opened. Its declared length is enough: the transfer ends
there. Only a file without one is read, up to a bound. Nothing is stored. An envelope that eSAW does not show
is counted, and stops nothing.

A refused key, a pause and an outage say nothing about an envelope. They leave the sample, and the search
decides what they mean, as for its own requests. The next call continues. If they come again and again, they
count, since a server may answer so for files alone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from counterfoil.esaw.client import EsawUserClient
from counterfoil.esaw.errors import EsawError
from counterfoil.esaw.rate_limit import answering_within, suspended
from counterfoil.resources.imports import ImportSample

_log = logging.getLogger(__name__)

MAX_FILES = 50
"""Maximum number of files of one envelope that are opened. The others count with the mean size of these."""

MAX_READ = 64 * 1024**2
"""Maximum number of bytes that are read of a file without a declared length."""

MAX_SIZE = 1024**4
"""Maximum size of a file in the sample: eSAW may declare any number."""

ENVELOPE_SECONDS = 120.0
"""Maximum time that eSAW has for one envelope. Waits for the rate limit do not count."""

MAX_INTERRUPTIONS = 5
"""Number of successive errors without a measured envelope that leave the sample. Further ones count."""

_OF_NO_ENVELOPE: Final = frozenset({"401", "429", "502", "503", "504", "unreachable"})
"""Codes of errors that say nothing about an envelope."""

Check = Callable[[], Awaitable[None]]


@dataclass
class FileSampling:
    """Takes the sample of a dry run, window by window."""

    seconds: float = ENVELOPE_SECONDS
    """Maximum time that eSAW has for one envelope."""
    _measured: dict[str, ImportSample] = field(default_factory=dict)
    """The envelopes of a window that was not completed."""
    _interruptions: int = 0
    """Number of successive ones."""

    async def take(self, user: EsawUserClient, envelopes: Iterable[str], check: Check) -> ImportSample:
        """
        Return the sample of these envelopes of a window.

        ``check`` is called before each request, and what it raises ends the sample. Raises ``EsawError`` if
        eSAW shows no envelope now. The next call then measures the others.
        """
        sample = ImportSample()
        for envelope in envelopes:
            if envelope not in self._measured:
                self._measured[envelope] = await self._sample_of(user, envelope, check)
            sample = sample.with_more(self._measured[envelope])
        self._measured.clear()
        return sample

    async def _sample_of(self, user: EsawUserClient, envelope: str, check: Check) -> ImportSample:
        """Raises ``EsawError`` that says nothing about the envelope, and what ``check`` raises."""
        await check()
        try:
            async with answering_within(self.seconds) as deadline:
                measured = await _measured(user, envelope, check, deadline)
        except (EsawError, TimeoutError) as problem:
            fields = {"envelope": envelope}
            _log.info("an envelope of a dry run is not measured: %s", problem, extra=fields)
            is_of_envelope = isinstance(problem, TimeoutError) or problem.code not in _OF_NO_ENVELOPE
            if not is_of_envelope and self._interruptions < MAX_INTERRUPTIONS:
                self._interruptions += 1
                raise
            return ImportSample(unreadable=1)
        self._interruptions = 0
        return measured


async def _measured(
    user: EsawUserClient, envelope: str, check: Check, deadline: asyncio.Timeout
) -> ImportSample:
    """Return the sample of one envelope. Raises ``EsawError``, and what ``check`` raises."""
    files = (await user.files(envelope)).files()
    opened, size = files[:MAX_FILES], 0
    for each in opened:
        with suspended(deadline):
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
