"""anyio reads ahead while nobody asks, until ``pause_after_each_read``."""

import subprocess
import sys

MIB = 1024 * 1024

READ_SLOWLY = """
import asyncio, socket, sys, threading
import anyio, uvloop
from counterfoil._upstream.anyio_reads import pause_after_each_read

SENT = 16 * 1024 * 1024

def send(listening):
    connection, _ = listening.accept()
    with connection:
        connection.sendall(bytes(SENT))

async def largest_queue(address):
    received = largest = 0
    async with await anyio.connect_tcp(*address) as stream:
        await asyncio.sleep(0.2)
        while received < SENT:
            largest = max(largest, sum(map(len, stream._protocol.read_queue)))
            received += len(await stream.receive(SENT))
    return largest

if sys.argv[1:] == ["paused"]:
    pause_after_each_read()
with socket.create_server(("127.0.0.1", 0)) as listening:
    threading.Thread(target=send, args=[listening], daemon=True).start()
    print(uvloop.run(largest_queue(listening.getsockname())))
"""


def largest_queue(*arguments: str) -> int:
    """Return the maximum number of bytes that wait in a process that has not asked for them yet."""
    command = [sys.executable, "-c", READ_SLOWLY, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def test_anyio_still_reads_ahead() -> None:
    # Less: counterfoil._upstream.anyio_reads can go.
    assert largest_queue() > 2 * MIB


def test_one_read_waits_at_most_after_pausing() -> None:
    assert largest_queue("paused") <= MIB // 4
