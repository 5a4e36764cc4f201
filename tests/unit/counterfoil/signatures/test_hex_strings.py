"""
Hexadecimal strings: read in one go, they come out as pyHanko reads them digit by digit.
"""

import io
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyhanko.pdf_utils import generic

from counterfoil.signatures import hex_strings

BY_DIGITS = generic.read_hex_string_from_stream

texts = st.lists(
    st.sampled_from(
        [b"0", b"9", b"a", b"F", b"fe", b"ff", b" ", b"\n", b"\r", b"\t", b"\0", b"\f", b"%", b"x", b">"]
    )
).map(b"".join)


def outcome(read: Any, content: bytes) -> tuple[object, object, int]:
    """Result of a function for the content, and the position after it."""
    stream = io.BytesIO(content)
    try:
        result = read(stream)
    except Exception as error:
        return type(error), str(error), -1
    return type(result), result, stream.tell()


@given(texts, st.sampled_from([b">", b"> rest", b">>", b""]))
@example(b"0" * 10_000, b"> rest")
@example(b"4" * 4094, b">")
@example(b"4" * 4095, b">")
@example(b"feff00e4", b">")
@example(b"41 % a comment >\n42", b">")
def test_a_string_comes_out_as_it_does_digit_by_digit(text: bytes, end: bytes) -> None:
    content = b"<" + text + end
    assert outcome(hex_strings.read, content) == outcome(BY_DIGITS, content)


def test_pyhanko_reads_by_it_once_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    # So that it is taken back after this test.
    monkeypatch.setattr(generic, "read_hex_string_from_stream", BY_DIGITS)
    hex_strings.install()
    assert generic.read_hex_string_from_stream is hex_strings.read
