"""A reader that raises an exception that it does not document, for one input in a million of random ones."""

from verification.fuzz.target import Check, Target


def _prepare() -> Check:
    def check(data: bytes) -> None:
        if data.startswith(b"ab"):
            raise KeyError(data[:2])
        raise ValueError("documented")

    return check


TARGET = Target(subject="planted", documented=(ValueError,), seeds=(b"x",), prepare=_prepare, words=(b"ab",))
