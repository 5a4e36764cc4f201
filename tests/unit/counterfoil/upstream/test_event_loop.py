"""uvloop closes a socket twice when the connection is reset at once; ``EventLoop`` detaches the socket."""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any, cast

import pytest
import uvloop

from counterfoil._upstream.event_loop import EventLoop


class ResetAtOnce(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()


async def descriptor_after_a_reset() -> int:
    """Return the file descriptor of a socket object after uvloop closed it."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
        client.connect(server.getsockname())
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.create_connection(ResetAtOnce, sock=client)
        return client.detach()


def run_in(loop: type[uvloop.Loop], main: Coroutine[Any, Any, int]) -> int:
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(main)


@pytest.mark.parametrize(
    ("loop", "is_attached"),
    [
        # False for uvloop.Loop: counterfoil._upstream.event_loop can go.
        (uvloop.Loop, True),
        (EventLoop, False),
    ],
)
async def test_a_socket_whose_connection_is_reset_at_once(loop: type[uvloop.Loop], is_attached: bool) -> None:
    descriptor = await asyncio.to_thread(run_in, loop, descriptor_after_a_reset())
    assert (descriptor != -1) is is_attached
