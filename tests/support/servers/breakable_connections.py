"""
A line that can be broken in ways that HTTP does not know: bytes pass between one process and a server, or
don't.

What is broken stays broken for the connections that were open then: a load balancer that lost its memory, a
node that went away without a word. Only connections made after ``repair`` work.
"""

import asyncio
import socket
import struct
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from typing import Self

PIECE = 64 * 1024


class Fault(StrEnum):
    """Ways of breaking a connection."""

    SILENT = "what is sent is taken, and nothing ever comes back"
    RESET = "every connection is reset at once"
    DEAF = "nobody accepts a connection, and those that are open are silent"


class BreakableProxy:
    """A proxy of one server on a free loopback port; use it with ``async with``."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._fault: Fault | None = None
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._broken: set[asyncio.Task[None]] = set()
        self._working = asyncio.Event()
        self._working.set()
        self.accepted = 0
        """Number of connections since the start."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=1024)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for each in list(self._open):
            each.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    @property
    def open(self) -> int:
        """Number of open connections, broken ones too."""
        return len(self._open)

    def cut(self, fault: Fault) -> None:
        """Break it."""
        self._fault = fault
        self._working.clear()
        self._broken |= set(self._open)
        if fault is Fault.RESET:
            for each in self._open.values():
                _reset(each)

    def repair(self) -> None:
        """Let new connections work."""
        self._fault = None
        self._working.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.accepted += 1
        self._open[task] = writer
        try:
            await self._serve(task, reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # either end is gone
        finally:
            del self._open[task]
            self._broken.discard(task)
            writer.close()

    async def _serve(
        self, task: "asyncio.Task[None]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        match self._fault:
            case Fault.RESET:
                _reset(writer)
                return
            case Fault.SILENT:
                self._broken.add(task)
            case Fault.DEAF:
                await self._working.wait()
            case None:
                pass
        there, back = await asyncio.open_connection(self._host, self._port)
        try:
            async with asyncio.TaskGroup() as both:
                pouring = both.create_task(self._pour(task, there, writer))
                await self._pour(task, reader, back)
                pouring.cancel()
        finally:
            back.close()

    async def _pour(
        self, task: "asyncio.Task[None]", source: asyncio.StreamReader, to: asyncio.StreamWriter
    ) -> None:
        while piece := await source.read(PIECE):
            if task not in self._broken:
                to.write(piece)
                await to.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection so that the other side gets an RST and not an orderly end."""
    with suppress(OSError):
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
