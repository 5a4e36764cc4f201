"""The allocator keeps the blocks that documents flow through, where it can be told to."""

import ctypes
import resource

import pytest

from counterfoil._upstream.malloc import keep_large_blocks


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc can be told")
def test_a_block_that_was_freed_is_there_again_without_new_pages() -> None:
    assert keep_large_blocks()
    bytes(4 * 1024 * 1024)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        bytearray(b"x") * (4 * 1024 * 1024)
    # Each would be 1,024 pages of its own.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 5 * 1024
