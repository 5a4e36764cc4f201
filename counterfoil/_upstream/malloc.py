"""
glibc: freed blocks of documents stay in the process, and serve all of its threads.

Upstream: https://man7.org/linux/man-pages/man3/mallopt.3.html (``M_MMAP_THRESHOLD``, ``M_TRIM_THRESHOLD``).
Versions: all of glibc; without glibc this module does nothing.

By default, glibc returns large freed blocks to the kernel and maps them again for the next use. The kernel
fills each page with zeros first: half of the CPU of a large download (verification/bench/RESULTS.md).

glibc also has up to eight arenas for each core, and a thread uses only the free blocks of one. Blocks
that one thread has freed do not serve another one then: up to 10 MiB more for a document.
"""

import ctypes

MMAP_THRESHOLD_BYTES = 8 * 1024 * 1024
"""Maximum bytes of a block on the heap: larger than a part of an upload."""

TRIM_THRESHOLD_BYTES = 16 * 1024 * 1024
"""Maximum free bytes that stay at the end of the heap: the buffers of one transfer."""

ARENAS = 2
"""One for the event loop, and one for all other threads."""

# Numbers of malloc.h. (mallopt(3))
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8


def keep_large_blocks() -> bool:
    """Keep freed blocks in the whole process from now on; return whether the allocator supports it."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    options = (
        (_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES),
        (_M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES),
        (_M_ARENA_MAX, ARENAS),
    )
    return all(mallopt(*option) for option in options)
