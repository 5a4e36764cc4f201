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
    parser.StartDoctypeDeclHandler = reader.refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise ListUnreadable(str(error)) from error
    return reader.page


class _Reader:
    """The handlers of the parser."""

    def __init__(self, record: str, wanted: frozenset[str]) -> None:
        self.page = ListPage()
        self._record = record
        self._wanted = wanted
        self._current: dict[str, str] | None = None
        self._texts: list[str] | None = None
        self._elements = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        self._elements += 1
        if self._elements > MAX_ELEMENTS:
            raise ListUnreadable("it has too many elements")
        plain = name.rpartition(" ")[2]
        if plain == self._record:
            self._current = {}
        self._texts = [] if plain in self._wanted else None

    def end(self, name: str) -> None:
        """An element ends."""
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

    def refuse(self, *_: object) -> None:
        """A document type declaration, which no list has."""
        raise ListUnreadable("it has a document type")
