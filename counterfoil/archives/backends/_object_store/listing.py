"""
Reads the XML in which object stores list what they have: flat records, without a tree in memory.

A hostile list of 8 MiB of empty elements would be a tree of hundreds of MiB.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from counterfoil.untrusted.xml_bounds import SEPARATOR, BoundedXmlParser, XmlRefused

LIST_LIMIT = 8 * 1024 * 1024
"""Bytes of one page of a list: 8 KiB for each of its 1,000 entries."""

MAX_ELEMENTS = 50_000
"""Elements of one page, and its attributes; an entry of Azure has some 30."""

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
    parser = BoundedXmlParser(reader, max_bytes=LIST_LIMIT, max_elements=MAX_ELEMENTS)
    try:
        parser.feed(content)
        parser.close()
    except XmlRefused as error:
        raise ListUnreadable(str(error)) from error
    return reader.page


def checked_marker(marker: str | None) -> str | None:
    """Return the marker of the next page; None for the last one. Raises ``ListUnreadable``."""
    if marker is not None and len(marker.encode()) > MAX_MARKER_BYTES:
        raise ListUnreadable("its marker is too long")
    return marker or None


class _Reader:
    """Takes the parts of a page."""

    def __init__(self, record: str, wanted: frozenset[str]) -> None:
        self.page = ListPage()
        self._record = record
        self._wanted = wanted
        self._current: dict[str, str] | None = None
        self._texts: list[str] | None = None

    def start(self, name: str) -> None:
        """An element begins."""
        plain = name.rpartition(SEPARATOR)[2]
        if plain == self._record:
            self._current = {}
        self._texts = [] if plain in self._wanted else None

    def end(self, name: str) -> None:
        """An element ends."""
        plain = name.rpartition(SEPARATOR)[2]
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
