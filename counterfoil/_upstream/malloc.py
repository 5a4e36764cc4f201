"""
glibc's memory, told to keep the blocks that documents flow through.

As it is, each block of 128 KiB or more may be mapped anew and given back when it is freed, and the kernel fills every
page of it with zeros first: half of the CPU of a large download (bench/RESULTS.md). Where there is no glibc, nothing
happens.
"""

import ctypes

MMAP_THRESHOLD_BYTES = 8 * 1024 * 1024
"""Bytes up to which a block comes from the heap: more than a part of an upload."""

TRIM_THRESHOLD_BYTES = 16 * 1024 * 1024
"""Free bytes at the end of the heap that are kept: what one transfer has in its hands."""

# Numbers of malloc.h. (mallopt(3))
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


def keep_large_blocks() -> bool:
    """Keep them from now on, in the whole process; tell whether that was possible."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(
        mallopt(_M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES) and mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES)
    )
