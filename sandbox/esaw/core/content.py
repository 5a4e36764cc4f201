"""
Content of files: bytes in memory, or bytes that are made while they are sent.

A content knows its size and gives its chunks again and again, the same each time. A generated one of any size
costs no memory: its chunks are views into one fixed random block.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

CHUNK: Final = 256 * 1024
"""Bytes handed to the socket at once."""

_BLOCK_SIZE: Final = 1024 * 1024
_BLOCK: Final = memoryview(
    random.Random(20260702).randbytes(_BLOCK_SIZE) * 2
)  # twice: each rotation is one slice
_STRIDE: Final = 4099  # a prime, so that neighbouring chunks differ and a swapped pair shows in the hash


class Content(Protocol):
    """A file's bytes, repeatable."""

    @property
    def size(self) -> int:
        """Bytes in all."""
        ...

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The bytes in order, none longer than CHUNK."""
        ...


@dataclass(frozen=True, slots=True)
class Inline:
    """Bytes that are in memory."""

    data: bytes

    @property
    def size(self) -> int:
        """Bytes in all."""
        return len(self.data)

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The bytes in order."""
        view = memoryview(self.data)
        for start in range(0, len(view), CHUNK):
            yield view[start : start + CHUNK]


@dataclass(frozen=True, slots=True)
class Generated:
    """`size` bytes of noise that depend on `seed` only."""

    seed: int
    size: int

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The bytes in order, each chunk a slice of the block rotated by its index and the seed."""
        for index, start in enumerate(range(0, self.size, CHUNK)):
            offset = (self.seed + index * _STRIDE) % _BLOCK_SIZE
            yield _BLOCK[offset : offset + min(CHUNK, self.size - start)]


@dataclass(frozen=True, slots=True)
class RenderedEachTime:
    """A file that is rendered for each download, with other bytes of the same number."""

    render: Callable[[], Content]

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.render().size

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The bytes in order, others at each call."""
        return self.render().chunks()


def sha256(content: Content) -> str:
    """The SHA-256 of all bytes, lower-case hex."""
    digest = hashlib.sha256()
    for chunk in content.chunks():
        digest.update(chunk)
    return digest.hexdigest()
