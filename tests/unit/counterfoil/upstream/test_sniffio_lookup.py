"""httpcore searches for sniffio at each lock, until ``disable_sniffio_lookup``."""

import importlib.util
import subprocess
import sys

import pytest

COUNT_SEARCHES = """
import asyncio, sys
from httpcore._synchronization import AsyncLock
from counterfoil._upstream.sniffio_lookup import disable_sniffio_lookup

class Finder:
    searches = 0

    def find_spec(self, name, path=None, target=None):
        self.searches += name == "sniffio"

async def lock(times):
    for _ in range(times):
        async with AsyncLock():
            pass

if sys.argv[1:] == ["disabled"]:
    disable_sniffio_lookup()
finder = Finder()
sys.meta_path.insert(0, finder)
asyncio.run(lock(5))
print(finder.searches)
"""


def searches(*arguments: str) -> int:
    command = [sys.executable, "-c", COUNT_SEARCHES, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


@pytest.mark.skipif(importlib.util.find_spec("sniffio") is not None, reason="sniffio is installed")
def test_httpcore_still_searches_for_sniffio_at_each_lock() -> None:
    # At most one search: counterfoil._upstream.sniffio_lookup can go.
    assert searches() >= 5


def test_no_search_happens_after_it_is_disabled() -> None:
    assert searches("disabled") <= 1
