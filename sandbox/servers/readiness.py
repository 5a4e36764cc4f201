"""
Waiting until a server that was just started listens on its port of the loopback interface.
"""

import asyncio

from sandbox.controlplane.processes import ServerProcess


class ServerNotListening(RuntimeError):
    """The server ended, or did not listen in time; the message has the end of its log."""


async def wait_until_listening(server: ServerProcess, port: int, *, name: str, within: float) -> None:
    """Wait at most ``within`` seconds until it listens. Raises ``ServerNotListening``."""
    try:
        async with asyncio.timeout(within):
            while not await _listens(server, port, name):  # noqa: ASYNC110 - another process gives no event to wait for
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise ServerNotListening(f"{name} did not start:\n{server.log_tail()}") from None


async def _listens(server: ServerProcess, port: int, name: str) -> bool:
    if server.ended:
        raise ServerNotListening(f"{name} ended at once:\n{server.log_tail()}")
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
