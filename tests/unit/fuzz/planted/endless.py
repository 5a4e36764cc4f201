"""A reader that never returns for one input."""

from verification.fuzz.target import Check, Target


def _prepare() -> Check:
    def check(data: bytes) -> None:
        while data == b"endless":
            pass

    return check


TARGET = Target(subject="planted", documented=(), seeds=(b"fast", b"endless"), prepare=_prepare)
