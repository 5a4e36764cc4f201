"""The work of a program, in counts that do not depend on the speed of the machine."""

import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import controller

_CONTROLLER = str(Path(controller.__file__).parent)


async def steps_of(work: Awaitable[object]) -> int:
    """Return how many instructions of Python the controller executes for this work."""
    steps = 0

    def count(_frame: Any, what: str, _argument: Any) -> Any:
        nonlocal steps
        steps += what == "opcode"
        return count

    def enter(frame: Any, _what: str, _argument: Any) -> Any:
        if not frame.f_code.co_filename.startswith(_CONTROLLER):
            return None
        # In this order: Python 3.13 reports the instructions of a frame only if it is traced already.
        frame.f_trace = count
        frame.f_trace_opcodes = True
        return count

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        await work
    finally:
        sys.settrace(before)
    return steps
