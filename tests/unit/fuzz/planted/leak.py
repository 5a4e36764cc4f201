"""A reader that keeps 64 KiB of each input."""

from verification.fuzz.target import Check, Target


def _prepare() -> Check:
    kept: list[bytearray] = []

    def check(data: bytes) -> None:
        kept.append(bytearray(b"x" * 65536))

    return check


TARGET = Target(subject="planted", documented=(), seeds=(b"x",), prepare=_prepare, max_growth_mib=16)
