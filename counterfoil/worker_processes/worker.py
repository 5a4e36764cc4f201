"""
The side of the processes: a fork server that has done the imports, and a fork of it for each request.

The fork server reads no request. It answers its own samples first: what a library prepares at its first use
is then in memory that all processes share. The fork server gets the connection of a request over its standard
input, which is a Unix socket, and starts the process for it. The parent then sends one byte, also when the
process has ended. The fork server kills the process and sends its exit status (4 bytes, signed). It ends when
its standard input ends, and its process ends with it.

The process answers one request. It limits itself before it reads the first byte: address space, CPU seconds,
no files to write, no core dump, and all that ``sandbox`` takes away. So a request that takes over its process
reads no other request and answers none. It logs nothing, and ignores the signals that end its parent.
"""

import io
import logging
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import BinaryIO, TypeAlias

from counterfoil._upstream.cyclic_garbage import exempt_loaded_objects
from counterfoil.worker_processes.sandbox import end_with_parent, hide_memory, lock_down, prepare_restrictions

NOTE_BIT = 1 << 31
"""Set in the length of a note, and not in that of a result."""

Note: TypeAlias = Callable[[bytes], None]
"""Sends a note to the parent: what the process begins now."""

Handle: TypeAlias = Callable[[bytes, int, BinaryIO, Note], bytes]
"""Returns the result for a head and a body. Of the input it reads the given number of bytes, and no more."""

Sample: TypeAlias = tuple[bytes, bytes]
"""Head and body of a request that the project itself made. Nothing of it comes from outside."""


def serve(handle: Handle, *, memory_bytes: int, cpu_seconds: int, samples: Iterable[Sample] = ()) -> None:
    """Answer the samples, then start a process for each request until the input ends."""
    # Its processes have the same user, and all later ones are its forks.
    hide_memory()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        # The parent ends this process by closing its input, after the last request.
        signal.signal(signal_number, signal.SIG_IGN)
    logging.disable()
    for head, body in samples:
        handle(head, len(body), io.BytesIO(body), _drop_note)
    restrictions = prepare_restrictions()
    # A collection would also write to each object that it visits, and copy the memory that the forks share.
    exempt_loaded_objects()
    own_id, control = os.getpid(), socket.socket(fileno=sys.stdin.fileno())
    while (connection := _next_connection(control)) is not None:
        process = os.fork()
        if process == 0:
            try:
                end_with_parent(own_id)
                _limit_process(memory_bytes, cpu_seconds)
                _use_for_input_and_output(connection)
                lock_down(restrictions)
                _answer(handle)
                # Until it is killed, so that its exit status is that of a failure only.
                while True:
                    time.sleep(60)
            finally:
                os._exit(1)
        os.close(connection)
        control.recv(1)
        os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        control.send(os.waitstatus_to_exitcode(status).to_bytes(4, signed=True))


def _next_connection(control: socket.socket) -> int | None:
    _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
    return descriptors[0] if descriptors else None


def _use_for_input_and_output(connection: int) -> None:
    for descriptor in (sys.stdin.fileno(), sys.stdout.fileno()):
        os.dup2(connection, descriptor)
    os.close(connection)


def _answer(handle: Handle) -> None:
    requests = sys.stdin.buffer
    sizes = requests.read(12)
    _write(b"\x06")
    head = requests.read(int.from_bytes(sizes[8:]))
    result = handle(head, int.from_bytes(sizes[:8]), requests, _send_note)
    _write(len(result).to_bytes(4) + result)


def _send_note(note: bytes) -> None:
    _write((len(note) | NOTE_BIT).to_bytes(4) + note)


def _drop_note(_note: bytes) -> None:
    """A sample has nobody who waits for its notes."""


def _write(answer: bytes) -> None:
    sys.stdout.buffer.write(answer)
    sys.stdout.buffer.flush()


def _limit_process(memory_bytes: int, cpu_seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # The first limit ends the process by a signal that it could ignore, the second one kills it.
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_seconds + 1, cpu_seconds + 2))
