"""A reader that ends the process for one input, as a library in C can."""

import os
import signal

from verification.fuzz.target import Check, Target


def _prepare() -> Check:
    def check(data: bytes) -> None:
        if data == b"crash":
            os.kill(os.getpid(), signal.SIGKILL)

    return check


TARGET = Target(subject="planted", documented=(), seeds=(b"fine", b"crash"), prepare=_prepare)
