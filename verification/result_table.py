"""
A table of results on a page of the docs, between two markers. A run of a part keeps the rows of the others.
"""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

_ROW = re.compile(r"(?m)^\| `([^`]+)`.*$")


class ResultTable(NamedTuple):
    """The table between the texts ``begin`` and ``end``. Each row begins with a name in backquotes."""

    begin: str
    end: str
    head: str
    """Its first two lines, each with a line feed."""

    def names(self, page: str) -> list[str]:
        """Return the names that have a row, in order."""
        return [*self._rows(page)]

    def with_rows(
        self, page: str, rows: Iterable[str], names: Iterable[str], absent: Callable[[str], str]
    ) -> str:
        """Return the page with these rows in place of earlier ones. Each of ``names`` has one, in this order:
        ``absent`` returns that of one without any."""
        before, _, rest = page.partition(self.begin)
        found = self._rows(page) | _rows_of("\n".join(rows))
        body = "".join(f"{found.get(name) or absent(name)}\n" for name in names)
        return f"{before}{self.begin}\n\n{self.head}{body}\n{self.end}{rest.partition(self.end)[2]}"

    def _rows(self, page: str) -> dict[str, str]:
        return _rows_of(page.partition(self.begin)[2].partition(self.end)[0])


def _rows_of(table: str) -> dict[str, str]:
    return {found[1]: found[0] for found in _ROW.finditer(table)}
