"""
anyio: a fast sender fills the memory of a slow reader.

Upstream: https://github.com/agronholm/anyio/blob/4.16.0/src/anyio/_backends/_asyncio.py
(``StreamProtocol.data_received``), no issue yet. Versions: anyio up to 4.16.0, below httpx and httpcore.

A stream of anyio reads while somebody waits for bytes, and stops only when that task runs again. Until then
uvloop reads up to 32 times with 256 KiB each. These 8 MiB for each download are in addition to the blocks
that are in use.
"""

import asyncio
from typing import cast

from anyio._backends import _asyncio as backend


def pause_after_each_read() -> None:
    """Let new connections of the process read once whenever somebody waits for bytes."""
    # mypy forbids another type under the name of a type.
    vars(backend)["StreamProtocol"] = _PausingProtocol


class _PausingProtocol(backend.StreamProtocol):
    _transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # ``SocketStream.receive`` resumes.
        self._transport.pause_reading()
