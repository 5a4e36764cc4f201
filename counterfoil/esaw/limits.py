"""
Every bound of the eSAW client, with its reason: sizes in bytes, times in seconds.

eSAW is somebody else's server on the other side of the internet. Whatever it (or a proxy before it) does, a call
costs this process a known amount of time and memory at most.
"""

from dataclasses import dataclass
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True, kw_only=True)
class CallLimits:
    """What one call may cost. Tests bring smaller ones."""

    connect: float = 10.0
    """TCP and TLS. A host that needs longer than this is down."""
    silence: float = 60.0
    """The longest pause between two reads (or writes, or for a free connection)."""
    answer: float = 120.0
    """A whole call but the body of a download, so that a server that trickles can't hold a worker for ever."""
    max_json_bytes: int = 16 * MIB
    """An answer in JSON. The largest honest one, ``find`` over many envelopes with metadata, stays well below."""
    max_error_bytes: int = 64 * KIB
    """The body of an error; what is beyond is not read."""
    chunk: int = 256 * KIB
    """Downloads come in pieces of about this size: large enough that hashing and writing don't care, small in memory."""
    speed_window: float = 60.0
    """So many seconds of waiting for a download's body, added up, before its speed is judged."""
    min_bytes_per_second: float = 16 * KIB
    """Bytes per second below which a download is given up. There is no limit on its time in all: files may be large."""
    max_retry_after: float = 3600.0
    """A ``Retry-After`` beyond this is cut: a slip of a server must not silence an organization for days."""


FILE_ID_LENGTH: Final = 512
"""Characters. eSAW's are GUIDs today; they count as opaque here."""
VERSION_LENGTH: Final = 64
"""Characters of eSAW's version; a longer text is something else."""
TOKEN_LENGTH: Final = 4096
"""Characters. 66 today, "length may change"."""
READ_BYTES: Final = 256 * KIB
"""Bytes taken from a connection at once, which is what the event loop offers; in 64 KiB a download costs twice the CPU."""
MAX_CONNECTIONS: Final = 128
"""Over all organizations; what one may use at once is its ``spec.limits.concurrency``."""
CONNECTION_POOLS: Final = 8
"""Among which the connections are divided, so that none is looked at for the sake of too many others; see ``pools``."""
MAX_IDLE_CONNECTIONS: Final = 32
"""Kept open between calls."""
KEEPALIVE_EXPIRY: Final = 15.0
"""Seconds. Shorter than any common server keeps them, so that we rarely write into a connection that is being closed."""
