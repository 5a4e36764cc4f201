"""
A pool of worker processes, each with one request at a time.

The pool starts a process when a request finds none, kills a process that takes too long, and replaces a
process that ended. The caller gets the bytes of the result, or learns why there are none; the parent holds
only what is in the pipes.

The protocol: the parent sends the number of bytes of the body (8 bytes) and of the head (4 bytes). The
process answers with one byte when it is ready. The parent sends head and body. The process sends its result
as JSON, and before it any number of notes about what it begins. Each has 4 bytes with its length, then its
content. The first bit of a note's length is set.
"""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterable, Sequence
from contextlib import suppress
from typing import TypeVar

import msgspec

from counterfoil.untrusted.fair_slots import FairSlots
from counterfoil.worker_processes.worker import NOTE_BIT

_log = logging.getLogger(__name__)

REQUESTS_PER_WORKER = 1000
"""Maximum number of requests of a process; then it is replaced, because its libraries may keep memory."""

CHUNK_BYTES = 64 * 1024
"""Maximum number of bytes that are read at once of what a killed process had written."""

MIN_READ_RATE = 1024 * 1024
"""Bytes of the body per second that a process reads at least, in addition to the timeout of its result. A
process that reads slower is killed: it would hold its slot without a bound."""

MAX_RESULT_BYTES = 1024 * 1024
"""Maximum bytes of a result or a note; a process that announces more is killed."""

T = TypeVar("T")


class WorkerUnavailable(Exception):
    """No process could be started, or none became ready."""


class WorkerStopped(Exception):
    """The process ended, sent no valid result, or did not send it in time."""

    def __init__(self, *, timed_out: bool) -> None:
        super().__init__("timed out" if timed_out else "ended")
        self.timed_out = timed_out
        self.note = b""
        """The last note of the process: what it worked on."""
        self.by_own_limits = False
        """Whether the process ended by its own limits or its own fault, which the request caused. False: it
        was killed, as for lack of time or of memory on the machine, and another attempt may succeed."""


class WorkerPool:
    """At most ``count`` processes that run ``command``; the owner closes the pool."""

    def __init__(self, command: Sequence[str], *, count: int, seconds: float) -> None:
        """Take the command line, the number of processes, and the timeout of one result in seconds."""
        self._command = command
        self._seconds = seconds
        self._slots = FairSlots(count)
        self._idle: list[_WorkerProcess] = []

    async def request(
        self,
        result_type: type[T],
        head: bytes,
        body: AsyncIterable[bytes] | None = None,
        size: int = 0,
        *,
        owner: str = "",
    ) -> T:
        """
        Return the result of a process for ``head`` and a body of ``size`` bytes.

        The owners of requests share the processes fairly.

        Raises ``WorkerUnavailable``, ``WorkerStopped`` and what ``body`` raises.
        """
        async with self._slots.slot(owner):
            process = await self._ready(len(head), size)
            try:
                return await process.work(result_type, head, body, size, self._seconds)
            except WorkerStopped as stopped:
                stopped.by_own_limits = await process.end() != -signal.SIGKILL
                raise
            finally:
                if process.usable and process.requests < REQUESTS_PER_WORKER:
                    self._idle.append(process)
                else:
                    await process.end()

    async def aclose(self) -> None:
        """End the idle processes."""
        while self._idle:
            await self._idle.pop().end()

    async def _ready(self, head: int, size: int) -> "_WorkerProcess":
        """Return a process that is ready for a request of this size: an idle or a new one."""
        while self._idle:
            process = self._idle.pop()
            if await process.ready(head, size, self._seconds):
                return process
        try:
            process = await _WorkerProcess.start(self._command)
        except OSError as problem:
            _log.error("the process `%s` could not be started: %s", " ".join(self._command), problem)
            raise WorkerUnavailable from problem
        if await process.ready(head, size, self._seconds):
            return process
        _log.error("the process `%s` was started and does not work", " ".join(self._command))
        raise WorkerUnavailable


class _WorkerProcess:
    """One process."""

    def __init__(
        self, process: asyncio.subprocess.Process, into: asyncio.StreamWriter, out: asyncio.StreamReader
    ) -> None:
        self._process = process
        self._into = into
        self._out = out
        self.requests = 0
        self.usable = True

    @classmethod
    async def start(cls, command: Sequence[str]) -> "_WorkerProcess":
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # Nothing of the parent's environment, and no signals that are meant for the parent.
            env={},
            start_new_session=True,
        )
        if process.stdin is None or process.stdout is None:
            raise OSError("no pipes")
        return cls(process, process.stdin, process.stdout)

    async def ready(self, head: int, size: int, seconds: float) -> bool:
        """Announce a request and wait until the process is ready; otherwise end the process."""
        try:
            async with asyncio.timeout(seconds):
                await self._write(size.to_bytes(8) + head.to_bytes(4))
                await self._out.readexactly(1)
        except (TimeoutError, EOFError, WorkerStopped, ConnectionError):
            await self.end()
            return False
        except BaseException:
            await self.end()
            raise
        return True

    async def work(
        self, result_type: type[T], head: bytes, body: AsyncIterable[bytes] | None, size: int, seconds: float
    ) -> T:
        # Until the result is there, any error leaves a process in the middle of a request.
        self.usable = False
        await self._send(head, body, size, seconds)
        try:
            result = msgspec.json.decode(await self._read_result(seconds), type=result_type)
        except msgspec.MsgspecError as invalid:
            raise WorkerStopped(timed_out=False) from invalid
        self.usable = True
        self.requests += 1
        return result

    async def end(self) -> int:
        """Kill the process unless it has ended, wait for its end, and return its exit status."""
        if self._process.returncode is None:
            # Not the process's own ``kill``: it may reap a process that has ended, and asyncio then reports
            # 255 instead of the exit status.
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)
        self._into.close()
        # asyncio tells the end only when the pipes have ended, and a full buffer pauses this one.
        with suppress(OSError):
            while await self._out.read(CHUNK_BYTES):
                pass
        return await self._process.wait()

    async def _send(self, head: bytes, body: AsyncIterable[bytes] | None, size: int, seconds: float) -> None:
        """Send head and body. Only the time counts in which the process does not read: the body may come from
        a slow server."""
        loop, left = asyncio.get_running_loop(), seconds + size / MIN_READ_RATE
        began = loop.time()
        await self._write_within(left, head)
        sent, left = 0, left - (loop.time() - began)
        if body is None:
            return
        async for chunk in body:
            sent, began = sent + len(chunk), loop.time()
            await self._write_within(left, chunk)
            left -= loop.time() - began
        if sent != size:
            raise WorkerStopped(timed_out=False)

    async def _write_within(self, seconds: float, chunk: bytes) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._write(chunk)
        except TimeoutError as slow:
            raise WorkerStopped(timed_out=True) from slow

    async def _write(self, chunk: bytes) -> None:
        try:
            self._into.write(chunk)
            await self._into.drain()
        except ConnectionError as ended:
            raise WorkerStopped(timed_out=False) from ended

    async def _read_result(self, seconds: float) -> bytes:
        note = b""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    is_note, content = await self._read_part()
                    if not is_note:
                        return content
                    note = content
        except (TimeoutError, EOFError, ConnectionError) as ended:
            stopped = WorkerStopped(timed_out=isinstance(ended, TimeoutError))
            stopped.note = note
            raise stopped from ended

    async def _read_part(self) -> tuple[bool, bytes]:
        """Return whether it is a note, and its content."""
        announced = int.from_bytes(await self._out.readexactly(4))
        length = announced & ~NOTE_BIT
        if length > MAX_RESULT_BYTES:
            raise EOFError
        return bool(announced & NOTE_BIT), await self._out.readexactly(length)
