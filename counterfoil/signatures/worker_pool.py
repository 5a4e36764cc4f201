"""
The processes that check signatures, so that neither a hostile PDF nor a slow one harms the controller.

A PDF whose process takes too long or ends is ``Unreadable``. ``counterfoil.worker_processes`` starts, limits
and replaces the processes.
"""

import asyncio
import sys
from collections.abc import AsyncIterable, Sequence
from contextlib import nullcontext

from counterfoil.signatures.anchors import NO_ANCHORS, Anchors
from counterfoil.signatures.results import Signatures, State
from counterfoil.worker_processes.pool import WorkerPool, WorkerStopped, WorkerUnavailable

MAX_FILE_BYTES = 64 * 1024 * 1024
"""Bytes of the largest PDF that is looked at; the process has it in its memory."""

SMALL_FILE_BYTES = 1024 * 1024
"""Bytes of a PDF that keeps no process waiting for the archive. Of larger ones only one is in transit at a
time."""

TIMEOUT_SECONDS = 60.0
"""Longest time for one file once it is there; its CPU time is limited much more narrowly
(``worker``)."""

COMMAND = (sys.executable, "-I", "-m", "counterfoil.signatures.worker")


class SignatureWorkers:
    """At most ``count`` processes; the owner closes them."""

    def __init__(
        self, *, count: int = 2, seconds: float = TIMEOUT_SECONDS, command: Sequence[str] = COMMAND
    ) -> None:
        self._pool = WorkerPool(command, count=count, seconds=seconds)
        self._large = asyncio.Lock()

    async def examine(
        self, chunks: AsyncIterable[bytes], size: int, anchors: Anchors = NO_ANCHORS
    ) -> Signatures:
        """
        Return what is found in a PDF of ``size`` bytes, and whether the signers lead to one of the anchors.

        Raises what ``chunks`` raises, and nothing else.
        """
        if size > MAX_FILE_BYTES:
            return Signatures(
                state=State.NOT_CHECKED, detail=f"it is larger than {MAX_FILE_BYTES // 1024 // 1024} MiB"
            )
        async with self._large if size > SMALL_FILE_BYTES else nullcontext():
            return await self._examine(chunks, size, anchors)

    async def aclose(self) -> None:
        """End the processes that have nothing to do."""
        await self._pool.aclose()

    async def _examine(self, chunks: AsyncIterable[bytes], size: int, anchors: Anchors) -> Signatures:
        try:
            return await self._pool.request(Signatures, anchors.encoded, chunks, size)
        except WorkerUnavailable:
            return Signatures(state=State.NOT_CHECKED, detail="its check could not be started")
        except WorkerStopped as stopped:
            detail = "its check took too long" if stopped.timed_out else "its check broke off"
            return Signatures(state=State.UNREADABLE, detail=detail)
