"""A server of sockets in threads, for a client whose event loop may be held meanwhile."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def threaded_server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Let ``serve`` answer each connection in its thread; yield the address as ``host:port``."""

    def listen() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=[listening.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=listen, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
