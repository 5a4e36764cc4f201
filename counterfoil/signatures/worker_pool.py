"""
Examiners: a few processes that look at signatures, so that neither a hostile PDF nor a slow one harms the
controller.

They are started when the first PDF comes, one PDF at a time each. One that takes too long is killed, one that
died is replaced, and the file it had is ``Unreadable``. The controller holds only the bytes in the pipe.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterable, Sequence
from contextlib import nullcontext, suppress

import msgspec

from counterfoil.signatures.anchors import NO_ANCHORS, Anchors
from counterfoil.signatures.results import Signatures, State

_log = logging.getLogger(__name__)

MAX_FILE_BYTES = 64 * 1024 * 1024
"""Bytes of the largest PDF that is looked at; the examiner has it in its memory."""

SMALL_FILE_BYTES = 1024 * 1024
"""Bytes of a PDF that keeps no examiner waiting for the archive. Of larger ones only one is in transit at a
time."""

TIMEOUT_SECONDS = 60.0
"""Longest time for one file once it is there; its CPU time is limited much more narrowly
(``examination``)."""

FILES_PER_WORKER = 1000
"""Maximum number of files of a worker; then it is replaced, since its libraries may keep memory."""

MAX_RESULT_BYTES = 1024 * 1024

COMMAND = (sys.executable, "-I", "-m", "counterfoil.signatures.check")


class SignatureWorkers:
    """At most ``count`` processes; the owner closes them."""

    def __init__(
        self, *, count: int = 2, seconds: float = TIMEOUT_SECONDS, command: Sequence[str] = COMMAND
    ) -> None:
        self._seconds = seconds
        self._command = command
        self._slots = asyncio.Semaphore(count)
        self._large = asyncio.Lock()
        self._idle: list[_WorkerProcess] = []

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
        while self._idle:
            await self._idle.pop().end()

    async def _examine(self, chunks: AsyncIterable[bytes], size: int, anchors: Anchors) -> Signatures:
        async with self._slots:
            process = await self._ready(size, len(anchors.encoded))
            if process is None:
                return Signatures(state=State.NOT_CHECKED, detail="its check could not be started")
            try:
                return await process.examine(chunks, size, anchors.encoded, self._seconds)
            finally:
                if process.usable and process.files < FILES_PER_WORKER:
                    self._idle.append(process)
                else:
                    await process.end()

    async def _ready(self, size: int, anchors: int) -> "_WorkerProcess | None":
        """Return a process that waits for a file of this size: one that is there and did not die meanwhile,
        or a new one."""
        while self._idle:
            process = self._idle.pop()
            if await process.ready(size, anchors, self._seconds):
                return process
        try:
            process = await _WorkerProcess.start(self._command)
        except OSError as problem:
            _log.error("no process could be started to check signatures: %s", problem)
            return None
        if await process.ready(size, anchors, self._seconds):
            return process
        _log.error("a process that was started to check signatures does not work")
        return None


class _WorkerDied(Exception):
    """The process ended, or does not say what it should."""


class _WorkerProcess:
    """One examiner."""

    def __init__(
        self, process: asyncio.subprocess.Process, into: asyncio.StreamWriter, out: asyncio.StreamReader
    ) -> None:
        self._process = process
        self._into = into
        self._out = out
        self.files = 0
        self.usable = True

    @classmethod
    async def start(cls, command: Sequence[str]) -> "_WorkerProcess":
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # Nothing of the controller's environment, and no signals that are meant for the controller.
            env={},
            start_new_session=True,
        )
        if process.stdin is None or process.stdout is None:
            raise OSError("no pipes")
        return cls(process, process.stdin, process.stdout)

    async def ready(self, size: int, anchors: int, seconds: float) -> bool:
        """Announce a file and trust anchors of these sizes, and wait until the process is there to take it;
        one that is not is ended."""
        try:
            await self._write(size.to_bytes(8) + anchors.to_bytes(4))
            async with asyncio.timeout(seconds):
                await self._out.readexactly(1)
        except (TimeoutError, EOFError, ConnectionError, _WorkerDied):
            await self.end()
            return False
        except BaseException:
            await self.end()
            raise
        return True

    async def examine(
        self, chunks: AsyncIterable[bytes], size: int, anchors: bytes, seconds: float
    ) -> Signatures:
        # Until the answer is there, any error leaves a process in the middle of a file.
        self.usable = False
        try:
            await self._write(anchors)
            await self._send(chunks, size)
            async with asyncio.timeout(seconds):
                answer = await self._read_result()
        except TimeoutError:
            return Signatures(state=State.UNREADABLE, detail="its check took too long")
        except _WorkerDied:
            return Signatures(state=State.UNREADABLE, detail="its check broke off")
        self.usable = True
        self.files += 1
        return answer

    async def end(self) -> None:
        """Kill it and wait for its end."""
        with suppress(ProcessLookupError):
            self._process.kill()
        self._into.close()
        await self._process.wait()

    async def _send(self, chunks: AsyncIterable[bytes], size: int) -> None:
        sent = 0
        async for chunk in chunks:
            sent += len(chunk)
            await self._write(chunk)
        if sent != size:
            raise _WorkerDied

    async def _write(self, chunk: bytes) -> None:
        try:
            self._into.write(chunk)
            await self._into.drain()
        except ConnectionError as ended:
            raise _WorkerDied from ended

    async def _read_result(self) -> Signatures:
        try:
            length = int.from_bytes(await self._out.readexactly(4))
            if length > MAX_RESULT_BYTES:
                raise _WorkerDied
            return msgspec.json.decode(await self._out.readexactly(length), type=Signatures)
        except (EOFError, ConnectionError, msgspec.MsgspecError) as ended:
            raise _WorkerDied from ended
