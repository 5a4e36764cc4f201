"""
Merge a form's values into a draft's metadata, without a change to the rest.

The metadata is XML or a JSON object; without any it becomes XML: ``<tags>`` with one element per value. A
third party wrote it, so it is parsed within limits: no DTD, no entities, no network. Pure.

libxml2 keeps each new name of an element or attribute until the thread ends. So XML is read and written in a
separate thread, from which texts come back, and no elements.
"""

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

import msgspec
from lxml import etree

NEW_ROOT: Final = "tags"

_DECLARATION = re.compile(r"\s*<\?xml\s[^>]*\?>")
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

T = TypeVar("T")


class DraftMetadataUnreadable(ValueError):
    """Metadata into which nothing can be put without destroying what is there; the message says why, not what
    it is."""


def merged(metadata: str | None, values: Mapping[str, str], *, limit: int) -> str:
    """
    Return the metadata with these values in it; doing it twice is the same as once.

    A name that is there already gets its new value where it stands; an empty value makes no new name. Raises
    ``DraftMetadataUnreadable``, also for more than ``limit`` bytes.
    """
    text = _bounded(metadata, limit)
    if text.startswith("{"):
        return _bounded(_in_json(text, values), limit)
    return _bounded(_in_new_thread(partial(_in_xml, text, values)), limit)


def values_in(metadata: str | None, names: tuple[str, ...], *, limit: int) -> dict[str, str]:
    """Return what the metadata has under these names already, as ``merged`` would put it. Raises
    ``DraftMetadataUnreadable``."""
    text = _bounded(metadata, limit)
    if not text:
        return {}
    if text.startswith("{"):
        members = _members(text)
        strings = {name: _string(members[name]) for name in names if name in members}
        return {name: value for name, value in strings.items() if value is not None}
    return _in_new_thread(partial(_xml_values, text, names))


def _bounded(metadata: str | None, limit: int) -> str:
    text = (metadata or "").strip("\ufeff \t\r\n")
    if len(text.encode("utf-8", errors="surrogatepass")) > limit:
        raise DraftMetadataUnreadable(f"it has more than {limit} bytes")
    return text


# JSON


def _in_json(text: str, values: Mapping[str, str]) -> str:
    # Raw: what we don't change goes out byte for byte as it came in, numbers of any precision included.
    members = _members(text)
    for name, value in values.items():
        if not value and name not in members:
            continue
        members[name] = msgspec.Raw(msgspec.json.encode(value))
    return msgspec.json.encode(members).decode()


def _members(text: str) -> dict[str, msgspec.Raw]:
    try:
        return msgspec.json.decode(text.encode(), type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise DraftMetadataUnreadable("it begins like JSON and is none") from None


def _string(raw: msgspec.Raw) -> str | None:
    value = msgspec.json.decode(raw)
    return value if isinstance(value, str) else None


# XML


def _in_new_thread(function: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(function).result()


def _xml_values(text: str, names: tuple[str, ...]) -> dict[str, str]:
    root = _parsed(text)
    found = {name: _child(root, name) for name in names}
    return {name: child.text or "" for name, child in found.items() if child is not None}


def _in_xml(text: str, values: Mapping[str, str]) -> str:
    declaration = _DECLARATION.match(text)
    root = _parsed(text) if text else etree.Element(NEW_ROOT)
    for name, value in values.items():
        _put(root, name, _NOT_IN_XML.sub("", value))
    whole = etree.tostring(root.getroottree(), encoding="unicode")
    # lxml leaves the declaration out of a text, and its encoding is eSAW's business.
    return f"{declaration.group().strip()}\n{whole}" if declaration else whole


def _parsed(text: str) -> etree._Element:
    if not text.startswith("<"):
        raise DraftMetadataUnreadable("it is neither XML nor a JSON object")
    if "<!DOCTYPE" in text:
        raise DraftMetadataUnreadable("it has a document type declaration, which is never read")
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        strip_cdata=False,
    )
    try:
        return etree.fromstring(text.encode(), parser)
    except (etree.XMLSyntaxError, ValueError):
        raise DraftMetadataUnreadable("it is not well-formed XML") from None


def _put(root: etree._Element, name: str, value: str) -> None:
    child = _child(root, name)
    if child is None and not value:
        return
    if child is None:
        # In the namespace of its surroundings, or the same name would mean something else.
        namespace = etree.QName(root).namespace
        child = etree.SubElement(root, f"{{{namespace}}}{name}" if namespace else name)
    child.text = value


def _child(root: etree._Element, name: str) -> etree._Element | None:
    """Find the element of that name that can have a value. Raises ``DraftMetadataUnreadable`` when it holds
    more than text."""
    # The library searches: 250,000 elements of a draft would take Python 0.1 seconds for each name.
    child = next(root.iterchildren(f"{{*}}{name}"), None)
    if child is not None and len(child):
        raise DraftMetadataUnreadable(f"its element {name} holds more than a text")
    return child
