"""
The end of a process that used an archive.

Threads of ``obstore`` hand results to Python's event loop. One that is still at it while the interpreter
ends makes the whole process abort (exit status 134), although all work is done
(https://github.com/PyO3/pyo3-async-runtimes/issues/40). Such a thread can't be waited for.
"""

import contextlib
import logging
import os
import sys
from typing import NoReturn


def exit_process(status: int) -> NoReturn:
    """
    End the process with an exit status once its output is written, without the end of the interpreter.

    Nothing that is registered with ``atexit`` runs.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        # A reader that has gone away, such as head, has what it wanted.
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status)
