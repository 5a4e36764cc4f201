"""
Memory per transfer is bounded, for files of any size.
"""

import asyncio
import sys
from pathlib import Path

import msgspec

from tests.support.fakes.archives import a_spec

MIB = 1024 * 1024


async def test_a_file_of_256_mib_takes_at_most_24_mib(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.scenes.archive_runs", "weigh", str(256 * MIB)),
        msgspec.json.encode(a_spec(root=str(tmp_path))).decode(),
        stdout=asyncio.subprocess.PIPE,
    )
    grown, _ = await process.communicate()

    assert int(grown) <= 24 * MIB
