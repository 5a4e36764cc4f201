"""
Reads the XML in which object stores list what they have: flat records, without a tree in memory.

A hostile list of 8 MiB of empty elements would be a tree of hundreds of MiB.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from xml.parsers import expat

LIST_LIMIT = 8 * 1024 * 1024
"""Bytes of one page of a list: 8 KiB for each of its 1,000 entries."""

MAX_ELEMENTS = 50_000
"""Elements of one page; an entry of Azure has some 30."""

MAX_ATTRIBUTES = 50_000
"""Attributes and declarations of namespaces of one page."""

MAX_TAG_ATTRIBUTES = 64
"""As ``MAX_ATTRIBUTES``, of one element."""

MAX_DEPTH = 32
"""Elements around an element; an entry has some five."""

PIECE = 16 * 1024
"""Bytes that are parsed at once. A start tag that is longer is refused: expat keeps all of it, has no limit
for it, and holds the interpreter's lock while it parses it."""

MAX_MARKER_BYTES = 2048
"""Bytes of UTF-8 of the marker of the next page, which goes into a URL."""


class ListUnreadable(ValueError):
    """The answer is no list."""


@dataclass
class ListPage:
    """The records of one page, each with the texts of the elements that were asked for, and the texts outside
    of records."""

    records: list[dict[str, str]] = field(default_factory=list)
    rest: dict[str, str] = field(default_factory=dict)


def read_page(content: bytes, record: str, wanted: Collection[str]) -> ListPage:
    """
    Return the texts of the elements in ``wanted``: those inside of an element ``record``, and the others.

    Names are without their namespace. Raises ``ListUnreadable``.
    """
    reader = _Reader(record, frozenset(wanted))
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartNamespaceDeclHandler = reader.declare
    parser.StartDoctypeDeclHandler = reader.refuse
    try:
        for start in range(0, len(content), PIECE):
            parser.Parse(content[start : start + PIECE], False)
            if start + PIECE - parser.CurrentByteIndex > 2 * PIECE:
                raise ListUnreadable("a tag is too long")
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise ListUnreadable(str(error)) from error
    return reader.page


def checked_marker(marker: str | None) -> str | None:
    """Return the marker of the next page; None for the last one. Raises ``ListUnreadable``."""
    if marker is not None and len(marker.encode()) > MAX_MARKER_BYTES:
        raise ListUnreadable("its marker is too long")
    return marker or None


class _Reader:
    """The handlers of the parser."""

    def __init__(self, record: str, wanted: frozenset[str]) -> None:
        self.page = ListPage()
        self._record = record
        self._wanted = wanted
        self._current: dict[str, str] | None = None
        self._texts: list[str] | None = None
        self._elements = 0
        self._depth = 0
        self._attributes = 0
        self._declared = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise ListUnreadable("it has too many elements")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ListUnreadable("its elements are nested too deeply")
        self._count_attributes(len(attributes))
        self._declared = 0
        plain = name.rpartition(" ")[2]
        if plain == self._record:
            self._current = {}
        self._texts = [] if plain in self._wanted else None

    def end(self, name: str) -> None:
        """An element ends."""
        self._depth -= 1
        plain = name.rpartition(" ")[2]
        if self._texts is not None and plain in self._wanted:
            (self.page.rest if self._current is None else self._current)[plain] = "".join(self._texts)
        self._texts = None
        if plain == self._record and self._current is not None:
            self.page.records.append(self._current)
            self._current = None

    def text(self, data: str) -> None:
        """Some text."""
        if self._texts is not None:
            self._texts.append(data)

    def declare(self, *_: object) -> None:
        """A namespace of the next element is declared."""
        self._declared += 1
        self._count_attributes(1)

    def _count_attributes(self, count: int) -> None:
        self._attributes += count
        if self._attributes > MAX_ATTRIBUTES or count + self._declared > MAX_TAG_ATTRIBUTES:
            raise ListUnreadable("it has too many attributes")

    def refuse(self, *_: object) -> None:
        """A document type declaration, which no list has."""
        raise ListUnreadable("it has a document type")
