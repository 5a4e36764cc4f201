"""
The program that filters system calls, run here for each machine: numbers and commands are those of Linux.

``test_sandbox.py`` has the attempts in a real process, on the machine of the tests.
"""

import errno
import os
import struct
from typing import Final

import pytest

from counterfoil.worker_processes.system_calls import filter_program

CODES: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOWED: Final = 0x7FFF0000
FAILS: Final = 0x00050000

# Columns: the call, its numbers on x86_64 and aarch64.
REFUSED: Final = (
    ("socket", 41, 198),
    ("connect", 42, 203),
    ("sendto", 44, 206),
    ("sendmsg", 46, 211),
    ("bind", 49, 200),
    ("clone", 56, 220),
    ("execve", 59, 221),
    ("kill", 62, 129),
    ("ptrace", 101, 117),
    ("setsid", 112, 157),
    ("sched_setparam", 142, 118),
    ("tkill", 200, 130),
    ("ioprio_set", 251, 30),
    ("unlinkat", 263, 35),
    ("sendmmsg", 307, 269),
    ("process_vm_writev", 311, 271),
    ("userfaultfd", 323, 282),
)
NEW: Final = (
    ("pidfd_send_signal", 424),
    ("io_uring_setup", 425),
    ("clone3", 435),
    ("process_madvise", 440),
    ("x32", 0x40000001),
)


def answer(machine: str, number: int, *arguments: int, code: int | None = None) -> int:
    """Interpret the program as the kernel does, for the five instructions that it has."""
    program = filter_program(machine)
    assert program is not None
    code = CODES[machine] if code is None else code
    data = struct.pack("<IIQ6Q", number, code, 0, *arguments, *[0] * (6 - len(arguments)))
    instructions, position, loaded = list(struct.iter_unpack("=HBBI", program)), 0, 0
    while True:
        operation, if_true, if_false, value = instructions[position]
        position += 1
        if operation == 0x20:
            loaded = struct.unpack_from("<I", data, value)[0]
        elif operation == 0x06:
            return int(value)
        else:
            holds = {0x15: loaded == value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[operation]
            position += if_true if holds else if_false


@pytest.mark.parametrize("machine", CODES)
@pytest.mark.parametrize(("_name", "on_x86_64", "on_aarch64"), REFUSED)
def test_what_reaches_others_is_refused(machine: str, _name: str, on_x86_64: int, on_aarch64: int) -> None:
    assert answer(machine, on_x86_64 if machine == "x86_64" else on_aarch64) == FAILS | errno.EPERM


@pytest.mark.parametrize("machine", CODES)
@pytest.mark.parametrize(("_name", "number"), NEW)
def test_a_newer_call_is_answered_as_by_an_older_kernel(machine: str, _name: str, number: int) -> None:
    assert answer(machine, number) == FAILS | errno.ENOSYS


@pytest.mark.parametrize("machine", CODES)
def test_the_call_of_another_machine_is_refused(machine: str) -> None:
    assert answer(machine, 0, code=0x40000003) == FAILS | errno.EPERM


# Columns: the numbers of the call, the position of the argument, allowed values, refused values.
BY_ARGUMENT: Final = {
    "openat": ((257, 56), 2, (os.O_RDONLY, os.O_CLOEXEC), (os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC)),
    "fcntl": ((72, 25), 1, (0, 1, 2, 3, 1030), (4, 8, 10, 15)),
    "ioctl": ((16, 29), 1, (0x5401, 0x5421), (0x5412, 0x8901)),
    "prctl": ((157, 167), 0, (3, 39), (1, 4, 8, 22, 36)),
    "socketpair": ((53, 199), 0, (1,), (2, 10, 16)),
    "prlimit64": ((302, 261), 0, (0, 1 << 32), (1, 4711)),
}


@pytest.mark.parametrize("machine", CODES)
@pytest.mark.parametrize("call", BY_ARGUMENT)
def test_some_calls_depend_on_one_argument(machine: str, call: str) -> None:
    numbers, position, allowed, refused = BY_ARGUMENT[call]
    number, before = numbers[list(CODES).index(machine)], [0] * position
    assert {answer(machine, number, *before, value) for value in allowed} == {ALLOWED}
    answers = {answer(machine, number, *before, value) for value in refused}
    assert answers <= {FAILS | errno.EPERM, FAILS | errno.EACCES}


def test_a_machine_whose_numbers_are_not_known_has_no_program() -> None:
    assert filter_program("riscv64") is None
