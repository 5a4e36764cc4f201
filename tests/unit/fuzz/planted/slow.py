"""A reader that takes too much CPU time for some inputs."""

import time

from verification.fuzz.target import Check, Target


def _prepare() -> Check:
    def check(data: bytes) -> None:
        end = time.process_time() + (0.4 if data == b"slow" else 0.0)
        while time.process_time() < end:
            pass

    return check


TARGET = Target(subject="planted", documented=(), seeds=(b"fast", b"slow"), prepare=_prepare)
