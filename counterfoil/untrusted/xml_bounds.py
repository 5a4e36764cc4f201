"""
Parses XML of other systems without a tree in memory, within bounds of time and memory.

All memory is freed with the parser. libxml2 keeps each new name of an element for as long as the process
runs.
"""

from collections.abc import Iterable
from typing import Protocol
from xml.parsers import expat

PIECE = 16 * 1024
"""Bytes that are parsed at once. A comment or a tag of twice as many is refused: expat keeps all of it, has
no limit for it, and holds the interpreter's lock while it parses it."""

MAX_NAMES = 1_000
"""Different names of elements, attributes and prefixes: expat keeps them until the end."""

MAX_NAMESPACE_LENGTH = 1024
"""Characters of the address of a namespace, which is part of each name."""

MAX_TAG_ATTRIBUTES = 64
"""Attributes and declarations of namespaces of one element."""

MAX_DEPTH = 32
"""Elements around an element."""

SEPARATOR = " "
"""Stands between the namespace of a name, if it has one, and the name."""


class XmlRefused(ValueError):
    """The document is not well-formed, or has a document type declaration."""


class XmlTooLarge(XmlRefused):
    """The document exceeds a bound."""


class XmlReader(Protocol):
    """Takes the parts of a document. What it raises ends the parsing."""

    def start(self, name: str) -> None:
        """An element begins."""

    def end(self, name: str) -> None:
        """An element ends."""

    def text(self, data: str) -> None:
        """A part of a text."""


class BoundedXmlParser:
    """Parses one document in parts. Raises ``XmlRefused``."""

    def __init__(self, reader: XmlReader, *, max_bytes: int, max_elements: int) -> None:
        """``max_elements`` bounds the elements, and also the attributes with the declarations of namespaces.
        Comments and processing instructions are skipped."""
        self._max_bytes = max_bytes
        self._fed = 0
        bounds = _Bounds(reader, max_elements)
        # UTF-8, or UTF-16 with a byte order mark, as RFC 4918 (8.2) requires. Python would look up any other
        # encoding that a document declares, and keep its name for as long as the process runs.
        # Without its dictionary of names, each of which could have all of a long namespace.
        self._parser = expat.ParserCreate("utf-8", namespace_separator=SEPARATOR, intern=None)
        self._parser.buffer_text = True
        self._parser.StartElementHandler = bounds.start
        self._parser.EndElementHandler = bounds.end
        self._parser.CharacterDataHandler = reader.text
        self._parser.StartNamespaceDeclHandler = bounds.declare
        self._parser.StartDoctypeDeclHandler = bounds.refuse

    def feed(self, data: bytes) -> None:
        """Parse a part, which is best not shorter than ``PIECE``: expat begins an incomplete tag again."""
        if self._fed + len(data) > self._max_bytes:
            raise XmlTooLarge("it has too many bytes")
        for start in range(0, len(data), PIECE):
            piece = data[start : start + PIECE]
            self._parse(piece, is_last=False)
            self._fed += len(piece)
            if self._fed - self._parser.CurrentByteIndex > 2 * PIECE:
                raise XmlTooLarge("a tag is too long")

    def close(self) -> None:
        """Say that this was all."""
        self._parse(b"", is_last=True)

    def _parse(self, data: bytes, *, is_last: bool) -> None:
        try:
            self._parser.Parse(data, is_last)
        except expat.ExpatError as error:
            raise XmlRefused(str(error)) from error


class _Bounds:
    """Counts what a document has. It does not know the parser, so that both are freed without a search for
    cycles."""

    def __init__(self, reader: XmlReader, most: int) -> None:
        self._reader = reader
        self._most = most
        self._names: set[str] = set()
        self._elements = self._depth = self._attributes = self._declared = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        self._elements += 1
        if self._elements > self._most:
            raise XmlTooLarge("it has too many elements")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise XmlTooLarge("its elements are nested too deeply")
        self._count_attributes(len(attributes))
        self._declared = 0
        self._keep((name, *attributes))
        self._reader.start(name)

    def end(self, name: str) -> None:
        """An element ends."""
        self._depth -= 1
        self._reader.end(name)

    def declare(self, prefix: str | None, namespace: str | None) -> None:
        """A namespace of the next element is declared."""
        if len(namespace or "") > MAX_NAMESPACE_LENGTH:
            raise XmlTooLarge("the address of a namespace is too long")
        self._declared += 1
        self._count_attributes(1)
        self._keep((prefix or "",))

    def refuse(self, *_: object) -> None:
        """A document type declaration, which no answer has."""
        raise XmlRefused("it has a document type")

    def _keep(self, names: Iterable[str]) -> None:
        self._names.update(names)
        if len(self._names) > MAX_NAMES:
            raise XmlTooLarge("it has too many different names")

    def _count_attributes(self, count: int) -> None:
        self._attributes += count
        if self._attributes > self._most or count + self._declared > MAX_TAG_ATTRIBUTES:
            raise XmlTooLarge("it has too many attributes")
