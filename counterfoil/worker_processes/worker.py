"""
The side of the process: read one request after the other from the standard input until the input ends.

The process limits itself before it reads the first byte: address space, CPU seconds per request, no files to
write, no core dump, and all that ``sandbox`` takes away. It logs nothing, and ignores the signals that end
its parent.
"""

import gc
import logging
import resource
import signal
import sys
from collections.abc import Callable
from typing import BinaryIO, TypeAlias

from counterfoil.worker_processes.sandbox import lock_down

NOTE_BIT = 1 << 31
"""Set in the length of a note, and not in that of a result."""

Note: TypeAlias = Callable[[bytes], None]
"""Sends a note to the parent: what the process begins now."""

Handle: TypeAlias = Callable[[bytes, int, BinaryIO, Note], bytes]
"""Returns the result for a head and a body. Of the input it reads the given number of bytes, and no more."""


def serve(handle: Handle, *, memory_bytes: int, cpu_seconds: int) -> None:
    """Answer requests until the input ends."""
    _limit_process(memory_bytes)
    requests = sys.stdin.buffer
    while (sizes := requests.read(12)) != b"":
        _write(b"\x06")
        _allow_cpu(cpu_seconds)
        head = requests.read(int.from_bytes(sizes[8:]))
        result = handle(head, int.from_bytes(sizes[:8]), requests, _send_note)
        _write(len(result).to_bytes(4) + result)
        # What was parsed can be full of cycles, and would be kept with all its bytes until the next request.
        gc.collect()


def _send_note(note: bytes) -> None:
    _write((len(note) | NOTE_BIT).to_bytes(4) + note)


def _write(answer: bytes) -> None:
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()


def _limit_process(memory_bytes: int) -> None:
    # What the libraries brought along need not be searched for cycles after every request.
    gc.freeze()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        # The parent ends this process by closing its input, after the last request.
        signal.signal(signal_number, signal.SIG_IGN)
    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    lock_down()


def _allow_cpu(seconds: int) -> None:
    """Let the kernel end this process after this many more seconds of CPU time."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    until = int(used.ru_utime + used.ru_stime) + seconds + 1
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))
