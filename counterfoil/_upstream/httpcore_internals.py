"""
httpcore and httpx: two attributes without a public interface.

**Bytes after a response.** https://www.rfc-editor.org/rfc/rfc9112.html#section-6.3 forbids a client to ignore
bytes that follow a complete response. httpx ignores them: a truncated ``Content-Length`` makes a shortened
document look complete. h11 keeps such bytes in ``trailing_data``, but httpx has no public way to the h11
connection. Upstream: https://github.com/encode/httpcore/blob/1.0.9/httpcore/_async/http11.py. Versions: httpx
up to 0.28.1 with httpcore up to 1.0.9.

**Size of a read.** httpcore reads 64 KiB at a time, which costs a download twice the CPU. The size is an
attribute of a public class, for the whole process, and no option of a pool. Upstream:
https://github.com/encode/httpcore/blob/1.0.9/httpcore/_async/http11.py (``READ_NUM_BYTES``). Versions:
httpcore up to 1.0.9.
"""

from contextlib import suppress
from operator import attrgetter

import httpcore
import httpx

_H11_CONNECTION = attrgetter("_stream._httpcore_stream._stream._connection._h11_state")
"""Path from the stream of a response to its h11 connection."""


def set_read_size(size: int) -> None:
    """Set the maximum number of bytes per read, for all connections of the process."""
    httpcore.AsyncHTTP11Connection.READ_NUM_BYTES = size


async def has_trailing_bytes(response: httpx.Response) -> bool:
    """
    Whether the server sent bytes after the declared end of a body; if so, close the connection.

    httpx would read these bytes as the beginning of the next response.
    """
    network: httpcore.AsyncNetworkStream | None = response.extensions.get("network_stream")
    if network is None:
        return False
    has_more = bool(_H11_CONNECTION(response.stream).trailing_data[0])
    if not has_more and network.get_extra_info("is_readable"):
        # A connection that the server closes is readable as well.
        with suppress(httpcore.NetworkError, httpcore.TimeoutException):
            has_more = bool(await network.read(1, timeout=0.01))
    if has_more:
        await network.aclose()
    return has_more
