"""
Targets: entry points of the product that read bytes of others, and their promises.

A module in ``verification.fuzz.targets`` declares one as ``TARGET``. Its name is the module's. An input is a
finding if the check raises an exception that the target does not list, if it takes more than
``MAX_CPU_SECONDS``, or if an error with a traceback is logged. All inputs together are one if the memory
grows above ``max_growth_mib``.
"""

from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

MAX_CPU_SECONDS: Final = 0.25
"""CPU time of one input, measured in a process whose code is traced."""

SEPARATOR: Final = b"\xff"
"""Between the parts of an input; no text in UTF-8 has this byte."""

ResultT = TypeVar("ResultT")

Check: TypeAlias = Callable[[bytes], None]
"""Passes one input to the entry point, and checks the result."""


class PropertyViolated(Exception):
    """The result of an entry point is not as promised."""


class Finding(NamedTuple):
    """Something that an entry point must not do."""

    kind: str
    """``exception``, ``slow``, ``logged``, ``memory``, ``hang`` or ``crash``."""
    summary: str
    data: bytes
    """The input; empty for ``memory``."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One entry point."""

    subject: str
    """Its name in the report."""
    documented: tuple[type[Exception], ...]
    """Exceptions that the entry point documents."""
    seeds: tuple[bytes, ...]
    """Small valid inputs."""
    prepare: Callable[[], Check]
    """Returns the check; called once per process."""
    words: tuple[bytes, ...] = ()
    """Words that the engine inserts."""
    max_length: int = 4096
    """Maximum bytes of an input."""
    max_growth_mib: int = 48
    """Maximum growth of the process's memory after its first inputs."""


def expect(is_true: bool, promise: str) -> None:
    """Raise ``PropertyViolated`` with the promise unless it was kept."""
    if not is_true:
        raise PropertyViolated(promise)


class _Promised:
    # Not by contextlib, which takes several times as long; a check has dozens of these.
    __slots__ = ("_promise",)

    def __init__(self, promise: str) -> None:
        self._promise = promise

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, Exception):
            raise PropertyViolated(f"{self._promise}: {type(error).__name__}: {error}") from error


def promised(promise: str) -> AbstractContextManager[None]:
    """Raise ``PropertyViolated`` for any exception inside the context."""
    return _Promised(promise)


def parts_of(data: bytes, count: int) -> list[bytes]:
    """Split an input into exactly ``count`` parts; missing ones are empty."""
    parts = data.split(SEPARATOR, count - 1)
    return parts + [b""] * (count - len(parts))


def joined(*parts: bytes | str) -> bytes:
    """Return the input that ``parts_of`` splits into these parts."""
    return SEPARATOR.join(each.encode() if isinstance(each, str) else each for each in parts)


def text_of(part: bytes) -> str:
    """Return a part as text; what is not UTF-8 becomes halves of characters."""
    return part.decode("utf-8", errors="surrogateescape")


def result_of(coroutine: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Return the result of a coroutine that never waits: without an event loop, which costs more time than
    most of them."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        result: ResultT = ended.value
        return result
    coroutine.close()
    raise PropertyViolated("the coroutine waits")
