"""
Reads hexadecimal strings of a PDF in one go. pyHanko makes some Python calls for each digit, and a signature
is such a string of thousands of digits: nearly half of an examination's CPU went there, and more the larger
the place for the signature is.

What is no plain string of digits and blanks is read by pyHanko's own function, so that everything comes out
as before.
"""

import re
from collections.abc import Callable
from typing import Any, BinaryIO

from pyhanko.pdf_utils import generic
from pyhanko.pdf_utils.misc import PDF_WHITESPACE

BLOCK = 4096

_PLAIN = re.compile(rb"<([0-9a-fA-F" + re.escape(PDF_WHITESPACE) + rb"]*)>")

_by_digits: Callable[[BinaryIO], Any] = generic.read_hex_string_from_stream


def read(stream: BinaryIO) -> Any:
    """Read a string that begins here, as pyHanko's function of the same task does; raises what that
    raises."""
    start = stream.tell()
    found = _PLAIN.match(_up_to_its_end(stream))
    if found is None:
        stream.seek(start)
        return _by_digits(stream)
    stream.seek(start + found.end())
    digits = found[1].translate(None, PDF_WHITESPACE)
    return generic.pdf_string(bytes.fromhex((digits + b"0" * (len(digits) % 2)).decode()))


def install() -> None:
    """Let pyHanko read with this, in this process."""
    generic.read_hex_string_from_stream = read


def _up_to_its_end(stream: BinaryIO) -> bytes:
    taken = bytearray()
    while block := stream.read(BLOCK):
        taken += block
        if b">" in block:
            break
    return bytes(taken)
