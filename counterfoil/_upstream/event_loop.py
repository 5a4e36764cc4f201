"""
uvloop: a file descriptor that is closed twice, which can end the process.

Upstream: https://github.com/MagicStack/uvloop/issues/738. Versions: uvloop up to 0.23.0. That version has the
fix for a cancelled call (https://github.com/MagicStack/uvloop/pull/740), but not for a connection that is
reset during the call.

aiohttp passes a socket to ``create_connection`` for each connection. After a reset, uvloop closes the file
descriptor but does not detach it from the socket object. The socket object closes the same number again when
it is freed. By then the number can belong to another connection, and libuv aborts the process (SIGABRT) when
it polls that connection. A restart of an API server resets many connections at once.
"""

from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


class EventLoop(uvloop.Loop):
    """uvloop's event loop; it detaches the socket of a connection that failed."""

    async def create_connection(self, *arguments: Any, **options: Any) -> Any:
        """Connect, and own the socket in every case, as asyncio's event loop does."""
        sock = options.get("sock")
        try:
            made: tuple[Any, Any] = await super().create_connection(*arguments, **options)
        except BaseException:
            if sock is not None:
                sock.detach()
            raise
        if sock is not None and made[0].is_closing():
            sock.detach()
        return made


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run the main coroutine of a process in an ``EventLoop``."""
    return uvloop.run(main, loop_factory=EventLoop)
