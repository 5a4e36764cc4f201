"""
A TCP proxy on loopback between a backend and its server, which a test can cut, slow down and remove.
"""

import asyncio
from types import TracebackType
from typing import Self

PIECE = 64 * 1024
"""Bytes that pass at once."""


class FaultProxy:
    """Passes all connections on to a server; ``async with`` it. Its port stays the same all the time."""

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[None]] = set()
        self._left: int | None = None
        self.port = 0
        self.pause = 0.0
        """Seconds to wait after each piece."""
        self.cuts = 0
        """Number of cuts."""

    async def __aenter__(self) -> Self:
        await self.restore()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()
        if self._passing:
            await asyncio.wait(self._passing)

    async def restore(self) -> None:
        """Let connections through again."""
        self._left = None
        if self._server is None:
            self._server = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """End all connections in their middle, and let no new one through until the proxy is restored."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()

    def cut_after(self, size: int) -> None:
        """Cut it after this many more bytes, both directions together."""
        self._left = size

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._passing.add(task)
            task.add_done_callback(self._passing.discard)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, far_writer}
        self._writers |= ends
        try:
            await asyncio.gather(self._forward(reader, far_writer), self._forward(far_reader, writer))
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while piece := await reader.read(PIECE):
                if self._is_limit_reached(len(piece)):
                    self.cuts += self._server is not None
                    self.cut()
                    return
                writer.write(piece)
                await writer.drain()
                if self.pause:
                    await asyncio.sleep(self.pause)
            writer.write_eof()
        except OSError:
            writer.transport.abort()

    def _is_limit_reached(self, size: int) -> bool:
        if self._left is None:
            return False
        self._left -= size
        return self._left < 0
