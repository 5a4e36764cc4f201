"""XML of other systems: its names are not kept, and its bounds hold."""

import encodings
import re
from pathlib import Path

import pytest

import controller
import counterfoil
import webhook
from counterfoil.testing.archive_contract.runs import peak_memory
from counterfoil.untrusted.xml_bounds import (
    MAX_DEPTH,
    MAX_NAMES,
    MAX_NAMESPACE_LENGTH,
    BoundedXmlParser,
    XmlRefused,
    XmlTooLarge,
)

MIB = 1024 * 1024


class Record:
    """Keeps the parts that come."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def start(self, name: str) -> None:
        self.parts.append(f"<{name}>")

    def end(self, name: str) -> None:
        self.parts.append(f"</{name}>")

    def text(self, data: str) -> None:
        self.parts.append(data)


def parsed(document: bytes) -> str:
    record = Record()
    parser = BoundedXmlParser(record, max_bytes=2 * MIB, max_elements=10_000)
    parser.feed(document)
    parser.close()
    return "".join(record.parts)


def test_names_have_their_namespace_and_comments_are_skipped() -> None:
    found = parsed(b"<a xmlns='DAV:' b='c'><!-- d --><?e f?>1&lt;<g xmlns=''/></a>")
    assert found == "<DAV: a>1<<g></g></DAV: a>"


@pytest.mark.parametrize(
    "document",
    [
        "\ufeff<a>\u00e4</a>".encode(),
        '<?xml version="1.0" encoding="UTF-16"?><a>\u00e4</a>'.encode("utf-16"),
        '<?xml version="1.0" encoding="iso-8859-1"?><a>\u00e4</a>'.encode(),
    ],
)
def test_documents_are_utf_8_or_utf_16(document: bytes) -> None:
    assert parsed(document) == "<a>\u00e4</a>"


@pytest.mark.parametrize("encoding", ["GB2312", "x-unknown-7", "hex", "n" * 8_000])
def test_no_encoding_that_a_document_declares_is_looked_up(encoding: str) -> None:
    known = len(encodings._cache)
    assert parsed(f'<?xml version="1.0" encoding="{encoding}"?><a>b</a>'.encode()) == "<a>b</a>"
    assert len(encodings._cache) == known


def test_a_document_in_another_encoding_is_refused() -> None:
    with pytest.raises(XmlRefused):
        parsed('<?xml version="1.0" encoding="iso-8859-1"?><a>\u00e4</a>'.encode("latin-1"))


def test_new_names_in_many_documents_take_no_memory_afterwards() -> None:
    def document(number: int) -> bytes:
        return b"<a>%s</a>" % b"".join(b"<%s_%d_%d/>" % (b"n" * 8_000, number, each) for each in range(125))

    parsed(document(0))
    before = peak_memory()
    for number in range(1, 41):
        parsed(document(number))
    assert peak_memory() - before < 20 * MIB


@pytest.mark.parametrize("folder", [controller, counterfoil, webhook])
def test_xml_is_parsed_with_libxml2_only_where_its_names_are_freed(folder: object) -> None:
    root = Path(str(vars(folder)["__file__"])).parent
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if re.search(
            r"etree\.(XMLParser|XMLPullParser|HTMLParser|fromstring|parse|iterparse|XML)\b", path.read_text()
        )
    }
    # A process for each envelope, and a thread for each draft.
    assert found <= {"archives/tags.py", "pages/metadata.py"}


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"<a>" + b" " * 2 * MIB + b"</a>", "many bytes"),
        (b"<a>" + b"<b/>" * 10_000 + b"</a>", "many elements"),
        (b"<a>" * (MAX_DEPTH + 1), "deeply"),
        (b"<a>" + b"".join(b"<b%d/>" % each for each in range(MAX_NAMES)) + b"</a>", "different names"),
        (b"<a>" + b"".join(b"<b c%d=''/>" % each for each in range(MAX_NAMES)) + b"</a>", "different names"),
        (
            b"<a>" + b"".join(b"<b xmlns:c%d='d'/>" % each for each in range(MAX_NAMES)) + b"</a>",
            "different names",
        ),
        (b"<a xmlns:b='" + b"c" * (MAX_NAMESPACE_LENGTH + 1) + b"'/>", "namespace is too long"),
        (b"<a>" + b"<b c='' d=''/>" * 6_000 + b"</a>", "many attributes"),
        (b"<a><!--" + b"b" * MIB + b"--></a>", "too long"),
        (b"<a " + b"b" * MIB + b"/>", "too long"),
    ],
    ids=[
        "bytes",
        "elements",
        "depth",
        "names of elements",
        "names of attributes",
        "prefixes",
        "namespace",
        "attributes",
        "comment",
        "tag",
    ],
)
def test_a_document_beyond_a_bound_is_refused(document: bytes, says: str) -> None:
    with pytest.raises(XmlTooLarge, match=says):
        parsed(document)


@pytest.mark.parametrize("document", [b"", b"<a>", b"<a><b:c/></a>", b"<!DOCTYPE a><a/>", b"<a>&b;</a>"])
def test_what_is_not_well_formed_or_has_a_document_type_is_refused(document: bytes) -> None:
    with pytest.raises(XmlRefused) as refused:
        parsed(document)
    assert not isinstance(refused.value, XmlTooLarge)
