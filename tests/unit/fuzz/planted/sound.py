"""A reader that keeps its promises."""

from verification.fuzz.target import Check, Target


def _prepare() -> Check:
    def check(data: bytes) -> None:
        raise ValueError("documented")

    return check


TARGET = Target(subject="planted", documented=(ValueError,), seeds=(b"x", b"y"), prepare=_prepare)
