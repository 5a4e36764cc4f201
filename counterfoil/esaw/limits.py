"""
Limits of the eSAW client, with their reasons: sizes in bytes, times in seconds.

eSAW is a third party's server on the internet. The limits bound the time and memory of a call for any
behaviour of eSAW or a proxy.
"""

from dataclasses import dataclass, field
from typing import Final

from counterfoil.untrusted.transfer_rate import MinimumRate

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True, kw_only=True)
class CallLimits:
    """Limits of one call. Tests use smaller values."""

    connect: float = 10.0
    """Timeout for TCP and TLS."""
    silence: float = 60.0
    """Timeout for one read, one write, or a free connection."""
    answer: float = 120.0
    """Timeout for a call without the body of a download, so that a slow server cannot block a worker."""
    max_json_bytes: int = 8 * MIB
    """Maximum size of a JSON response. The largest valid one, ``find`` over many envelopes, is far
    smaller. ``counterfoil.untrusted.large_answers`` bounds the sum of concurrent ones."""
    max_error_bytes: int = 64 * KIB
    """Maximum size of the body of an error; the rest is not read."""
    chunk: int = 256 * KIB
    """Approximate size of a download's chunks: large enough for efficient hashing and writing, small in
    memory."""
    minimum_rate: MinimumRate = field(default_factory=MinimumRate)
    """Minimum rate of a download. Its total time has no limit here, because files can be large."""
    max_retry_after: float = 3600.0
    """A ``Retry-After`` beyond this is cut: a slip of a server must not silence an organization for days."""


MAX_FILE_CONTAINERS: Final = 10_000
"""Lists and objects in a list of files: five for each of the 2,000 files that an event takes."""
MAX_STEP_CONTAINERS: Final = 50_000
"""Lists and objects in an envelope: 50 for each of 1,000 recipients."""
MAX_VERSION_BYTES: Final = 64 * KIB
"""The answer with eSAW's version, whose form is not documented."""
MAX_METADATA_BYTES: Final = MIB
"""Bytes of UTF-8; metadata beyond that is not read."""
MAX_TEXT_MEMORY: Final = 2 * MIB
"""Bytes in memory of all texts that a run keeps of one answer. With longer names, 2,000 files do not fit into
an event."""
MAX_BULK_ENVELOPES: Final = 5000
"""Envelopes that one draft may become: five times the recipients that eSAW allows in a bulk. Their ids fit
into the annotations of one object."""
MAX_SENT_HITS: Final = 2 * MAX_BULK_ENVELOPES
"""Envelopes in one answer about what a user sent since some time ago; of more, it asks for a shorter time."""
TRUSTED_HITS: Final = 50
"""Number of hits from which an answer of a search may be cut off. eSAW documents no maximum."""
TOKEN_LENGTH: Final = 4096
"""Characters. 66 today, "length may change"."""
READ_BYTES: Final = 256 * KIB
"""Maximum bytes per read: the event loop's buffer."""
MAX_CONNECTIONS: Final = 128
"""Maximum connections over all organizations; ``spec.limits.concurrency`` limits one organization. One of
several namespaces has three quarters of them."""
MAX_IDLE_CONNECTIONS: Final = 32
"""Kept open between calls."""
KEEPALIVE_EXPIRY: Final = 15.0
"""Seconds. Shorter than any common server keeps them, so that we rarely write into a connection that is being
closed."""
