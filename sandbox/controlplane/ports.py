"""
Free ports on loopback that stay free while their server is restarted.

A port that the kernel hands out (bind to 0) is from the range that it also uses for outgoing connections:
while the server is down, any client may get it, even one that tries to reach the server and so reaches
itself.
"""

import random
import socket
from pathlib import Path

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
LOWEST = 10_240
TRIES = 100


def free_port() -> int:
    """Return a port on 127.0.0.1 that is free now, outside of the range for outgoing connections."""
    first_ephemeral = int(EPHEMERAL.read_text().split()[0])
    # Where that range leaves no room, above it usually does not either: take what there is.
    last = first_ephemeral if first_ephemeral > LOWEST + 1_000 else 65_536
    for _ in range(TRIES):
        port = random.randrange(LOWEST, last)
        if is_free(port):
            return port
    raise OSError(f"none of {TRIES} ports between {LOWEST} and {last} on 127.0.0.1 is free")


def is_free(port: int) -> bool:
    """Tell whether a server can listen on this port of 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As Go's servers do, so that old connections in TIME_WAIT don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
