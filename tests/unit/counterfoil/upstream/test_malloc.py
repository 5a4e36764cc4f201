"""The allocator keeps freed blocks of documents, where it supports that."""

import ctypes
import resource
import subprocess
import sys

import pytest

from counterfoil._upstream.malloc import keep_large_blocks


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc has mallopt")
def test_a_block_that_was_freed_is_there_again_without_new_pages() -> None:
    assert keep_large_blocks()
    bytes(4 * 1024 * 1024)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        bytearray(b"x") * (4 * 1024 * 1024)
    # Each would fault in 1,024 separate pages.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 5 * 1024


COUNT_PAGE_FAULTS = """
import resource, sys
from counterfoil._upstream.malloc import keep_large_blocks

if sys.argv[1:] == ["kept"]:
    assert keep_large_blocks()
for attempt in range(11):
    if attempt == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [bytearray(b"x") * (4 * 1024 * 1024) for _ in range(3)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(*arguments: str) -> int:
    command = [sys.executable, "-c", COUNT_PAGE_FAULTS, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc has mallopt")
def test_glibc_still_maps_large_blocks_again_by_default() -> None:
    # Few page faults by default: counterfoil._upstream.malloc can go.
    assert page_faults() > 10 * 1024
    assert page_faults("kept") < 1024


COUNT_ARENAS = """
import ctypes, sys, threading
from counterfoil._upstream.malloc import keep_large_blocks

libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
if sys.argv[1:] == ["kept"]:
    assert keep_large_blocks()
together = threading.Barrier(6)

def allocate():
    together.wait()
    libc.malloc(1000)
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(6)]
for each in threads:
    each.start()
for each in threads:
    each.join()
file = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
assert libc.malloc_info(0, file) == 0
libc.fclose(file)
"""


def arenas(*arguments: str) -> int:
    command = [sys.executable, "-c", COUNT_ARENAS, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return ended.stdout.count("<heap nr=")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="only glibc has mallopt")
def test_all_threads_have_two_arenas_instead_of_one_each() -> None:
    assert arenas() > 2
    assert arenas("kept") == 2
