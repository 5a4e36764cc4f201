"""A reader that logs an exception in place of raising it."""

import logging

from verification.fuzz.target import Check, Target

_log = logging.getLogger(__name__)


def _prepare() -> Check:
    def check(data: bytes) -> None:
        try:
            data[:0][0]
        except IndexError:
            _log.exception("an input could not be handled")

    return check


TARGET = Target(subject="planted", documented=(), seeds=(b"x",), prepare=_prepare)
