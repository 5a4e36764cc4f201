"""
CSV for spreadsheets, of texts that others wrote: none of them becomes a formula.

The console's files of events and the reports of Imports are made here.
"""

import csv
import io
import re
from collections.abc import Iterable
from typing import Any

import msgspec

_FORMULA = re.compile(
    r"^(?=[\t\r\n])|(^|[;\t\r\n])(?=(?:[^\S\t\r\n]|\")*"
    r"[=+\-@|%\N{FULLWIDTH EQUALS SIGN}\N{FULLWIDTH PLUS SIGN}"
    r"\N{FULLWIDTH HYPHEN-MINUS}\N{FULLWIDTH COMMERCIAL AT}])"
)
"""Positions at which a cell of a spreadsheet could begin with a formula. If the separator is ``;``, as in
German and Italian, a spreadsheet ignores our commas and quotation marks, and begins a cell within a text."""


def neutralized(text: str) -> str:
    """
    Return the text of a cell that no spreadsheet treats as a formula.

    Names of envelopes and messages come from others; a formula in one could send the sheet elsewhere.
    """
    return _FORMULA.sub(lambda found: f"{found[0]}'", text)


def csv_head(of: type[msgspec.Struct]) -> bytes:
    """Return the first line of a file, with the names of the fields. The mark at its beginning tells
    spreadsheets that the text is UTF-8."""
    return "\ufeff".encode() + csv_rows([[each.encode_name for each in msgspec.structs.fields(of)]])


def csv_rows(rows: Iterable[Iterable[Any]]) -> bytes:
    """Return the lines of these rows."""
    text = io.StringIO()
    csv.writer(text).writerows([_cell(each) for each in row] for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    return (
        neutralized(value)
        if isinstance(value, str)
        else ""
        if value is None
        else str(msgspec.to_builtins(value))
    )
