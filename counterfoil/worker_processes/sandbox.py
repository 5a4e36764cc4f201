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
import signal
import struct
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from counterfoil.worker_processes.system_calls import filter_program

SPARE_FILES: Final = 16
"""Files that may be open in addition: modules that are imported late, and asyncio's own."""

_LIBRARY_FOLDERS: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")

_PR_SET_PDEATHSIG: Final = 1
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

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def hide_memory() -> None:
    """
    Let no process of the same user read memory and environment of this one, and write no core dump.

    For a process that holds keys, before it reads the first one. Another program that this process becomes
    is not hidden. Raises ``OSError``. (PR_SET_DUMPABLE of prctl(2))
    """
    _call(_LIBC.prctl, _PR_SET_DUMPABLE, 0, 0, 0, 0)


def end_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent ends. Raises ``OSError`` also if that has happened."""
    _call(_LIBC.prctl, _PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise OSError(errno.ESRCH, "the parent has ended")


@dataclass(frozen=True)
class Restrictions:
    """The restrictions that are prepared once for all processes of a fork server."""

    ruleset: int | None
    """The file descriptor of Landlock's rules. None: the kernel has no Landlock."""
    program: ctypes.Array[ctypes.c_char] | None
    """The filter of system calls. None: the kernel has no seccomp, or no filter is known for the machine."""


def prepare_restrictions() -> Restrictions:
    """Prepare ``lock_down``, also of forks of this process. Raises ``OSError``."""
    # While it can be read: the C library keeps it.
    time.tzset()
    version, program = landlock_version(), filter_program(os.uname().machine)
    return Restrictions(
        _ruleset(version, {*sys.path, *_LIBRARY_FOLDERS}) if version > 0 else None,
        ctypes.create_string_buffer(program, len(program)) if program and _kernel_has_filters() else None,
    )


def lock_down(restrictions: Restrictions) -> None:
    """Lock this process down. Raises ``OSError``; a kernel without Landlock or seccomp is no error."""
    _call(_LIBC.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    hide_memory()
    if restrictions.ruleset is not None:
        _call(_LIBC.syscall, _RESTRICT_SELF, restrictions.ruleset, 0)
        os.close(restrictions.ruleset)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    # Input, output and errors are open.
    files = 3 + SPARE_FILES
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    if restrictions.program is not None:
        length = len(restrictions.program) // _BYTES_PER_INSTRUCTION
        described = _Program(length, ctypes.addressof(restrictions.program))
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


def _ruleset(version: int, readable: Iterable[str]) -> int:
    """Return rules that allow reading below the folders, and nothing else that this version can forbid."""
    files = (1 << 13) - 1
    for since, bit in ((2, 13), (3, 14), (5, 15)):
        files |= (1 << bit) if version >= since else 0
    # Bind and connect by TCP; signals to and abstract sockets of other processes.
    attributes = [files, *([3] if version >= 4 else []), *([3] if version >= 6 else [])]
    encoded = struct.pack(f"={len(attributes)}Q", *attributes)
    ruleset = _call(_LIBC.syscall, _CREATE_RULESET, encoded, len(encoded), 0)
    for folder in readable:
        _allow_to_read(ruleset, folder)
    return ruleset


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
