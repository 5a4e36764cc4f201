"""
Lock a worker process down after its imports: what a file that takes it over could still reach. Hide the
memory of the processes that hold keys, which have the same user.

- It gains no privileges, starts no process and no thread, and no process of its user can read its memory.
- Landlock, where the kernel has it: it reads the folders of Python and no other file. Without Landlock it can
  read the files that the pod's user can read.
- seccomp, where the kernel has it and ``system_calls`` knows the machine: it opens no connection, sends no
  datagram and no signal, writes no file, and changes nothing of another process of its user. Without seccomp
  Landlock refuses plain TCP (Linux 6.7) and signals (6.12), but no other way to connect, and no change of
  another process's limits.
- It opens a few files only, which the modules need that libraries import when they are used.

Landlock (Linux 5.13) has no function in the C library. Its three system calls have the same number on every
architecture. (https://docs.kernel.org/userspace-api/landlock.html)
"""

import ctypes
import errno
import os
import resource
import struct
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from counterfoil.worker_processes.system_calls import filter_program

SPARE_FILES: Final = 16
"""Files that may be open in addition: modules that are imported late, and asyncio's own."""

_LIBRARY_FOLDERS: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")

_PR_SET_DUMPABLE: Final = 4
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_ASK_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1
_EXECUTE: Final = 1 << 0
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3

_BYTES_PER_INSTRUCTION: Final = 8

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def hide_memory() -> None:
    """
    Let no process of the same user read memory and environment of this one, and write no core dump.

    For a process that holds keys, before it reads the first one. Another program that this process becomes
    is not hidden. Raises ``OSError``. (PR_SET_DUMPABLE of prctl(2))
    """
    _call(_LIBC.prctl, _PR_SET_DUMPABLE, 0, 0, 0, 0)


def lock_down() -> None:
    """Lock this process down. Raises ``OSError``; a kernel without Landlock or seccomp is no error."""
    # While it can be read: the C library keeps it.
    time.tzset()
    _call(_LIBC.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    hide_memory()
    version = landlock_version()
    if version > 0:
        _restrict(version, {*sys.path, *_LIBRARY_FOLDERS})
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    # Input, output and errors are open.
    files = 3 + SPARE_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    program = filter_program(os.uname().machine)
    if program is not None and _kernel_has_filters():
        described = _Program(len(program) // _BYTES_PER_INSTRUCTION, program)
        _call(_LIBC.prctl, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(described))


def landlock_version() -> int:
    """Return the version of Landlock's interface; 0 without it, or if the container's profile refuses it."""
    return max(0, int(_LIBC.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)))


def has_seccomp() -> bool:
    """Whether the system calls of a worker process can be filtered, on this kernel and this machine."""
    return filter_program(os.uname().machine) is not None and _kernel_has_filters()


def _kernel_has_filters() -> bool:
    # The kernel reads the program only if it has filters.
    _LIBC.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, None)
    return ctypes.get_errno() == errno.EFAULT


def _restrict(version: int, readable: Iterable[str]) -> None:
    """Allow to read files below the folders, and nothing else that this version can forbid."""
    files = (1 << 13) - 1
    for since, bit in ((2, 13), (3, 14), (5, 15)):
        files |= (1 << bit) if version >= since else 0
    # Bind and connect by TCP; signals to and abstract sockets of other processes.
    attributes = [files, *([3] if version >= 4 else []), *([3] if version >= 6 else [])]
    encoded = struct.pack(f"={len(attributes)}Q", *attributes)
    ruleset = _call(_LIBC.syscall, _CREATE_RULESET, encoded, len(encoded), 0)
    try:
        for folder in readable:
            _allow_to_read(ruleset, folder)
        _call(_LIBC.syscall, _RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow_to_read(ruleset: int, folder: str) -> None:
    if not folder or not Path(folder).is_dir() or Path(folder).resolve() == Path("/"):
        return
    beneath = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = struct.pack("=Qi", _EXECUTE | _READ_FILE | _READ_DIR, beneath)
        _call(_LIBC.syscall, _ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(beneath)


def _call(function: "ctypes._NamedFuncPointer", *arguments: object) -> int:
    result = int(function(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"the process can't be locked down: {os.strerror(number)}")
    return result
