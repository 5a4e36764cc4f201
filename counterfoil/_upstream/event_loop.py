"""
The event loop of every process: uvloop's, with a fault mended that ends the whole process.

Whoever hands uvloop a socket to connect with (aiohttp does, for each connection) still has it when that fails, and a socket
that is forgotten closes its file descriptor. uvloop has closed that one already, and if the connection was reset at a bad
moment it does not tell the socket: then the number may be another connection's by now, and libuv ends the process (SIGABRT)
as soon as it is to wait for that one. An API server that goes away resets many connections at once.
"""

from collections.abc import Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")


class EventLoop(uvloop.Loop):
    """uvloop's loop, which alone closes what it was given."""

    async def create_connection(self, *arguments: Any, **options: Any) -> Any:
        """Connect; as the loop of the standard library does."""
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
    """Run a process until it has ended."""
    return uvloop.run(main, loop_factory=EventLoop)
