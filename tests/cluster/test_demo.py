"""The demo succeeds, and the README shows what it prints."""

import asyncio
import os
import signal

from docs.tools.record_demo import COMMAND, RECORDING, ROOT, shape


async def test_the_demo_prints_what_the_docs_show() -> None:
    settings = {key: value for key, value in os.environ.items() if key not in {"KEEP", "VERBOSE", "ARCHIVE"}}
    demo = await asyncio.create_subprocess_exec(
        *COMMAND, cwd=ROOT, env=settings, stdout=asyncio.subprocess.PIPE
    )
    try:
        printed = (await demo.communicate())[0].decode()
    finally:
        if demo.returncode is None:
            demo.send_signal(signal.SIGTERM)
            await demo.wait()
    assert demo.returncode == 0, printed
    assert shape(printed) == shape(RECORDING.read_text("utf-8")), "run: python docs/tools/record_demo.py"
