"""pyHanko imports aiohttp for clients that the process of signatures never uses, until
``leave_aiohttp_out``."""

import subprocess
import sys

COUNT_PARTS = """
import sys
from counterfoil._upstream.pyhanko_aiohttp import leave_aiohttp_out

if sys.argv[1:] == ["left out"]:
    leave_aiohttp_out()
import pyhanko.sign.validation.pdf_embedded
print(sum(name.startswith("aiohttp.") for name in sys.modules))
"""


def imported_parts_of_aiohttp(*arguments: str) -> int:
    command = [sys.executable, "-c", COUNT_PARTS, *arguments]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def test_pyhanko_still_imports_aiohttp() -> None:
    # None: counterfoil._upstream.pyhanko_aiohttp can go.
    assert imported_parts_of_aiohttp() > 0


def test_nothing_of_aiohttp_is_imported_after_it_was_left_out() -> None:
    assert imported_parts_of_aiohttp("left out") == 0


def test_a_process_that_has_aiohttp_keeps_it() -> None:
    program = (
        "import aiohttp\n"
        "from counterfoil._upstream.pyhanko_aiohttp import leave_aiohttp_out\n"
        "leave_aiohttp_out()\n"
        "import aiohttp as again\n"
        "assert again.ClientSession.__module__ == 'aiohttp.client'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
