"""
Whether a task works for an Import: wherever tasks of one Organization wait for the same, all others are
served before it. A callback must be archived as fast beside an Import as without it. So the client of the API
server sends few requests of such tasks at once (``BACKGROUND_REQUESTS``).

A task that another one starts has its class.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_is_background: ContextVar[bool] = ContextVar("is_background", default=False)


def is_background() -> bool:
    """Whether the current task works for an Import."""
    return _is_background.get()


def set_background(value: bool) -> None:
    """Let the current task, and those that it starts from now on, be background work or not."""
    _is_background.set(value)


@contextmanager
def foreground() -> Iterator[None]:
    """Let the current task be no background work within the context: others wait for a lock that it holds."""
    before = _is_background.set(False)
    try:
        yield
    finally:
        _is_background.reset(before)
