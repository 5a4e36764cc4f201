"""
A pool of worker processes, one for each request.

The pool starts a fork server when a request finds none, which has done the imports and starts the process of
each request (``worker``). A process that takes too long is killed. The caller gets the bytes of the result,
or learns why there are none; the parent holds only what is in the sockets.

The protocol of a request, on its own connection: the parent sends the number of bytes of the body (8
bytes) and of the head (4 bytes). The process answers with one byte when it is ready. The parent sends head
and body. The process sends its result as JSON, and before it any number of notes about what it begins. Each
has 4 bytes with its length, then its content. The first bit of a note's length is set.

A connection ends with its request. So nothing that a process leaves there, or does not read, belongs to
another request.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterable, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar

import msgspec

from counterfoil.untrusted.fair_slots import FairSlots, namespace_of
from counterfoil.worker_processes.worker import NOTE_BIT

_log = logging.getLogger(__name__)

END_SECONDS = 10.0
"""Longest time for the end of a process that is killed; then its fork server is killed too."""

STATUS_BYTES = 4

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
    """At most ``count`` processes that ``command`` forks; the owner closes the pool."""

    def __init__(self, command: Sequence[str], *, count: int, seconds: float) -> None:
        """
        Take the command line, the number of processes, and the timeout of one result in seconds.

        Owners of requests have the form ``namespace/name``: namespaces share the processes first.
        """
        self._command = command
        self._seconds = seconds
        self._slots = FairSlots(count, group_of=namespace_of)
        self._idle: list[_ForkServer] = []

    async def request(
        self,
        result_type: type[T],
        head: bytes,
        body: AsyncIterable[bytes] | None = None,
        size: int = 0,
        *,
        owner: str = "",
        notes: int = 0,
    ) -> T:
        """
        Return the result of a process for ``head`` and a body of ``size`` bytes.

        The owners of requests share the processes fairly. A process that sends more than ``notes`` notes, or
        an empty one, is killed.

        Raises ``WorkerUnavailable``, ``WorkerStopped`` and what ``body`` raises.
        """
        async with self._slots.slot(owner):
            process = await self._ready(len(head), size)
            try:
                await process.send(head, body, size, self._seconds)
                return await process.result(result_type, self._seconds, notes)
            except WorkerStopped as stopped:
                stopped.by_own_limits = await process.end() != -signal.SIGKILL
                raise
            finally:
                await process.end()
                if process.server.usable:
                    self._idle.append(process.server)

    async def aclose(self) -> None:
        """End the idle fork servers."""
        while self._idle:
            await self._idle.pop().end()

    async def _ready(self, head: int, size: int) -> "_WorkerProcess":
        """Return a process that is ready for a request of this size, of an idle or a new fork server."""
        while self._idle:
            process = await self._idle.pop().process_for(head, size, self._seconds)
            if process is not None:
                return process
        try:
            server = await _ForkServer.start(self._command)
        except OSError as problem:
            _log.error("the process `%s` could not be started: %s", " ".join(self._command), problem)
            raise WorkerUnavailable from problem
        process = await server.process_for(head, size, self._seconds)
        if process is None:
            _log.error("the process `%s` was started and does not work", " ".join(self._command))
            raise WorkerUnavailable
        return process


class Program(Protocol):
    """The used part of ``asyncio.subprocess.Process``."""

    @property
    def returncode(self) -> int | None:
        """The exit status; None while it runs."""

    def kill(self) -> None:
        """Kill it. Raises ``ProcessLookupError``."""

    async def wait(self) -> int:
        """Wait for its end; return the exit status."""


async def start_program(command: Sequence[str], stdin: int) -> Program:
    """Start a fork server with this file descriptor as its standard input. Raises ``OSError``."""
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=stdin,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        # Nothing of the parent's environment, and no signals that are meant for the parent.
        env={},
        start_new_session=True,
    )


class _ForkServer:
    """A process that starts one worker process at a time."""

    def __init__(self, process: Program, control: socket.socket) -> None:
        self._process = process
        self._control = control
        self.usable = True

    @classmethod
    async def start(cls, command: Sequence[str]) -> "_ForkServer":
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            try:
                process = await start_program(command, theirs.fileno())
            except BaseException:
                ours.close()
                raise
        return cls(process, ours)

    async def process_for(self, head: int, size: int, seconds: float) -> "_WorkerProcess | None":
        """Return a process that is ready for a request of this size; without one, end the fork server."""
        process, is_ready = None, False
        try:
            async with asyncio.timeout(seconds):
                process = await self._start_process()
                await process.announce(head, size)
            is_ready = True
        except (OSError, EOFError, WorkerStopped):
            return None
        finally:
            if not is_ready:
                if process is not None:
                    await process.close()
                await self.end()
        return process

    async def _start_process(self) -> "_WorkerProcess":
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [b"\x01"], [theirs.fileno()])
            out, into = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        return _WorkerProcess(self, into, out)

    async def end_process(self) -> int:
        """Kill the process that it started last. Return its exit status, or SIGKILL's if it is not known."""
        try:
            async with asyncio.timeout(END_SECONDS):
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(self._control, b"\x00")
                status = await loop.sock_recv(self._control, STATUS_BYTES)
        except (TimeoutError, ConnectionError):
            status = b""
        except BaseException:
            await self.end()
            raise
        if len(status) != STATUS_BYTES:
            await self.end()
            return -signal.SIGKILL
        return int.from_bytes(status, signed=True)

    async def end(self) -> None:
        """Kill the fork server, whose process ends with it, and wait for its end."""
        self.usable = False
        self._control.close()
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
        await self._process.wait()


class _WorkerProcess:
    """The process of one request."""

    def __init__(self, server: _ForkServer, into: asyncio.StreamWriter, out: asyncio.StreamReader) -> None:
        self.server = server
        self._into = into
        self._out = out
        self._status: int | None = None

    async def announce(self, head: int, size: int) -> None:
        """Announce the request and wait until the process is ready. Raises what its end raises."""
        await self._write(size.to_bytes(8) + head.to_bytes(4))
        await self._out.readexactly(1)

    async def result(self, result_type: type[T], seconds: float, notes: int) -> T:
        """Return the result, before which at most ``notes`` notes may come. Raises ``WorkerStopped``."""
        try:
            return msgspec.json.decode(await self._read_result(seconds, notes), type=result_type)
        except msgspec.MsgspecError as invalid:
            raise WorkerStopped(timed_out=False) from invalid

    async def end(self) -> int:
        """Kill the process unless it has ended, and return its exit status."""
        if self._status is None:
            try:
                self._status = await self.server.end_process()
            finally:
                # Only then: the end of its connection is an error of the process.
                await self.close()
        return self._status

    async def close(self) -> None:
        """Close the connection, and drop what is in it."""
        self._into.transport.abort()
        with suppress(OSError):
            await self._into.wait_closed()

    async def send(self, head: bytes, body: AsyncIterable[bytes] | None, size: int, seconds: float) -> None:
        """
        Send head and body. Only the time counts in which the process does not read: the body may come from a
        slow server.

        Raises ``WorkerStopped`` and what ``body`` raises.
        """
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

    async def _read_result(self, seconds: float, notes: int) -> bytes:
        note, left = b"", MAX_RESULT_BYTES
        try:
            async with asyncio.timeout(seconds):
                while True:
                    is_note, content = await self._read_part(left if notes else 0)
                    if not is_note:
                        return content
                    note, notes, left = content, notes - 1, left - len(content)
        except (TimeoutError, EOFError, ConnectionError) as ended:
            stopped = WorkerStopped(timed_out=isinstance(ended, TimeoutError))
            stopped.note = note
            raise stopped from ended

    async def _read_part(self, most: int) -> tuple[bool, bytes]:
        """
        Return whether it is a note, of at most this many bytes, and its content.

        None is empty: a process that was taken over could keep the event loop busy with notes.
        """
        announced = int.from_bytes(await self._out.readexactly(4))
        is_note, length = bool(announced & NOTE_BIT), announced & ~NOTE_BIT
        if not 0 < length <= (most if is_note else MAX_RESULT_BYTES):
            raise EOFError
        return is_note, await self._out.readexactly(length)
