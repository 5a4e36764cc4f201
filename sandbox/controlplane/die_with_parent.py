"""
Run a program that ends when its parent ends, also when the parent is killed by SIGKILL.

``python -I -S die_with_parent.py PARENT_PID PROGRAM ARGUMENT...`` asks the kernel for SIGKILL at the parent's
death (prctl(2), PR_SET_PDEATHSIG) and then becomes the program, so nothing stays in between. It is a separate
program, as Python can't safely run code between fork and exec in a process that has threads.

The kernel watches the *thread* that forked: start children in a thread that lives as long as they should.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the program."""
    parent, program, *arguments = sys.argv[1:]
    die_with(int(parent))
    os.execv(program, [program, *arguments])  # noqa: S606 - no shell is what we want


def die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent ends; end it if the parent has ended already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        sys.exit(f"prctl(PR_SET_PDEATHSIG) failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        # It died before we asked, so the kernel will not tell us any more.
        sys.exit(1)


if __name__ == "__main__":
    main()
