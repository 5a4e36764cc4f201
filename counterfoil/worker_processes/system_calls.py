"""
The system calls that a worker process may make after its imports, as a program for seccomp.

Allowed is what Python and its libraries need to compute, to read what is open, and to import more modules.
All other calls fail, so a process that a file took over opens no connection, sends no signal, changes no
limit, priority or processor of another process, and writes no file. Landlock alone does not forbid that: its
rule for TCP is about plain TCP, and it protects no limits of other processes.

The numbers are those of Linux. A machine that is not in ``_MACHINES`` has no program.
(https://docs.kernel.org/userspace-api/seccomp_filter.html)
"""

import errno
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Iterable
from typing import Final

_X86_64: Final = {
    "read": 0, "write": 1, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9,
    "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
    "pread64": 17, "readv": 19, "writev": 20, "access": 21, "select": 23, "sched_yield": 24, "mremap": 25,
    "madvise": 28, "dup": 32, "dup2": 33, "nanosleep": 35, "getpid": 39, "getsockname": 51, "exit": 60,
    "uname": 63, "getcwd": 79, "readlink": 89, "gettimeofday": 96, "getrusage": 98, "sysinfo": 99,
    "times": 100, "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110,
    "sigaltstack": 131, "gettid": 186, "time": 201, "futex": 202, "sched_getaffinity": 204, "getdents64": 217,
    "restart_syscall": 219, "clock_gettime": 228, "clock_getres": 229, "clock_nanosleep": 230,
    "exit_group": 231, "epoll_wait": 232, "epoll_ctl": 233, "newfstatat": 262, "readlinkat": 267,
    "faccessat": 269, "pselect6": 270, "ppoll": 271, "set_robust_list": 273, "epoll_pwait": 281,
    "epoll_create1": 291, "dup3": 292, "pipe2": 293, "getcpu": 309, "getrandom": 318, "membarrier": 324,
    "statx": 332, "rseq": 334, "faccessat2": 439, "epoll_pwait2": 441,
}  # fmt: skip

_AARCH64: Final = {
    "getcwd": 17, "epoll_create1": 20, "epoll_ctl": 21, "epoll_pwait": 22, "dup": 23, "dup3": 24,
    "faccessat": 48, "close": 57, "pipe2": 59, "getdents64": 61, "lseek": 62, "read": 63, "write": 64,
    "readv": 65, "writev": 66, "pread64": 67, "pselect6": 72, "ppoll": 73, "readlinkat": 78,
    "newfstatat": 79, "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98, "set_robust_list": 99,
    "nanosleep": 101, "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115,
    "sched_getaffinity": 123, "sched_yield": 124, "restart_syscall": 128, "sigaltstack": 132,
    "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "times": 153, "uname": 160,
    "getrusage": 165, "getcpu": 168, "gettimeofday": 169, "getpid": 172, "getppid": 173, "getuid": 174,
    "geteuid": 175, "getgid": 176, "getegid": 177, "gettid": 178, "sysinfo": 179, "getsockname": 204,
    "brk": 214, "munmap": 215, "mremap": 216, "mmap": 222, "mprotect": 226, "madvise": 233, "getrandom": 278,
    "membarrier": 283, "statx": 291, "rseq": 293, "faccessat2": 439, "epoll_pwait2": 441,
}  # fmt: skip

_FCNTL_COMMANDS: Final = (
    fcntl.F_DUPFD,
    fcntl.F_GETFD,
    fcntl.F_SETFD,
    fcntl.F_GETFL,
    fcntl.F_DUPFD_CLOEXEC,
)
"""Not F_SETOWN and F_SETSIG, which send a signal to another process."""

_IOCTL_COMMANDS: Final = (termios.TCGETS, termios.FIONBIO, termios.FIOCLEX, termios.FIONCLEX)

_PRCTL_OPTIONS: Final = (3, 39)
"""PR_GET_DUMPABLE and PR_GET_NO_NEW_PRIVS: they change nothing."""

_WRITES: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
"""Flags of a file that is opened for more than reading. The rest of O_TMPFILE needs one of them."""

# The offsets in the data that the kernel shows to the program.
_NUMBER: Final = 0
_MACHINE: Final = 4
_ARGUMENTS: Final = 16

_LOAD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_JUMP_IF_AT_LEAST: Final = 0x35
_JUMP_IF_SET: Final = 0x45
_RETURN: Final = 0x06
_ALLOW: Final = 0x7FFF0000
_FAIL: Final = 0x00050000

_NEW_CALLS: Final = 424
"""From here on all machines have the same numbers, and a C library that finds no such call takes an older
one. It tells that by ENOSYS only."""


def filter_program(machine: str) -> bytes | None:
    """Return the program for a machine as ``os.uname`` names it; None: no program is known for it."""
    if machine not in _MACHINES:
        return None
    code, allowed, conditional = _MACHINES[machine]
    program = [
        _instruction(_LOAD, _MACHINE),
        _instruction(_JUMP_IF_EQUAL, code, if_true=1),
        _instruction(_RETURN, _FAIL | errno.EPERM),
        _instruction(_LOAD, _NUMBER),
    ]
    for number in allowed:
        program += [_instruction(_JUMP_IF_EQUAL, number, if_false=1), _instruction(_RETURN, _ALLOW)]
    for number, checks in conditional.items():
        program += [_instruction(_JUMP_IF_EQUAL, number, if_false=len(checks)), *checks]
    program += [
        _instruction(_JUMP_IF_AT_LEAST, _NEW_CALLS, if_false=1),
        _instruction(_RETURN, _FAIL | errno.ENOSYS),
        _instruction(_RETURN, _FAIL | errno.EPERM),
    ]
    return b"".join(program)


def _instruction(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _argument_is_one_of(position: int, values: Iterable[int]) -> list[bytes]:
    """Allow the call if the argument's low half has such a value: the kernel reads no more of it."""
    checks = [_instruction(_LOAD, _ARGUMENTS + 8 * position)]
    for value in values:
        checks += [_instruction(_JUMP_IF_EQUAL, value, if_false=1), _instruction(_RETURN, _ALLOW)]
    return [*checks, _instruction(_RETURN, _FAIL | errno.EPERM)]


def _opens_for_reading(position: int) -> list[bytes]:
    return [
        _instruction(_LOAD, _ARGUMENTS + 8 * position),
        _instruction(_JUMP_IF_SET, _WRITES, if_false=1),
        _instruction(_RETURN, _FAIL | errno.EACCES),
        _instruction(_RETURN, _ALLOW),
    ]


_COMMANDS_OF_FCNTL: Final = _argument_is_one_of(1, _FCNTL_COMMANDS)
_COMMANDS_OF_IOCTL: Final = _argument_is_one_of(1, _IOCTL_COMMANDS)
_OPTIONS_OF_PRCTL: Final = _argument_is_one_of(0, _PRCTL_OPTIONS)
# The limits of the process itself.
_OWN_LIMITS: Final = _argument_is_one_of(0, (0,))
# asyncio wakes its own loop by a pair.
_UNIX_SOCKETS: Final = _argument_is_one_of(0, (socket.AF_UNIX,))

_MACHINES: Final = {
    "x86_64": (
        0xC000003E,
        tuple(_X86_64.values()),
        {
            2: _opens_for_reading(1),
            16: _COMMANDS_OF_IOCTL,
            53: _UNIX_SOCKETS,
            72: _COMMANDS_OF_FCNTL,
            157: _OPTIONS_OF_PRCTL,
            257: _opens_for_reading(2),
            302: _OWN_LIMITS,
        },
    ),
    "aarch64": (
        0xC00000B7,
        tuple(_AARCH64.values()),
        {
            25: _COMMANDS_OF_FCNTL,
            29: _COMMANDS_OF_IOCTL,
            56: _opens_for_reading(2),
            167: _OPTIONS_OF_PRCTL,
            199: _UNIX_SOCKETS,
            261: _OWN_LIMITS,
        },
    ),
}
"""The kernel's name of a machine, the calls that are allowed, and those that depend on an argument."""
