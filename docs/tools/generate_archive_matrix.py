"""
Writes the table "What was tried" of docs/contributing/archive-kinds.md from a run of the contract tests:
``python docs/tools/generate_archive_matrix.py RESULT.xml``, the result as ``pytest --junitxml`` writes it.

A case of several parameters passed if all of them did. A case that has no test for a kind did not run.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree import ElementTree

from counterfoil.resources import archive_kinds

PAGE = Path(__file__).parents[1] / "contributing" / "archive-kinds.md"
BEGIN, END = "<!-- matrix -->\n", "<!-- end of matrix -->"

KINDS = tuple(kind for kind in archive_kinds.KINDS if kind != "custom")
CLASS = re.compile(r"test_archive_contract_(\w+)\.Test\w+$")
PASSED, FAILED, NOT_RUN = "yes", "**no**", "not run here"

Results = Mapping[str, Mapping[str, bool]]
"""Case -> kind -> whether it passed."""


def read(result: Path) -> Results:
    """Read a result; cases in the order in which they ran."""
    results: dict[str, dict[str, bool]] = defaultdict(dict)
    # A file that we had pytest write.
    for case in ElementTree.parse(result).iter("testcase"):  # noqa: S314
        kind = CLASS.search(case.get("classname", ""))
        if kind is None:
            continue
        name = case.get("name", "").partition("[")[0]
        passed = not any(case.find(fault) is not None for fault in ("failure", "error", "skipped"))
        results[name][kind[1]] = passed and results[name].get(kind[1], True)
    return results


def table(results: Results) -> str:
    """Return the table."""
    rows = [
        f"| {sentence(name)} | {' | '.join(words(kinds.get(kind)) for kind in KINDS)} |"
        for name, kinds in sorted(results.items(), key=lambda row: (-len(row[1]), row[0]))
    ]
    return "\n".join(
        [_row(["", *(f"`{kind}`" for kind in KINDS)]), _row(["---"] * (len(KINDS) + 1)), *rows, ""]
    )


def sentence(name: str) -> str:
    """Return the name of a test as a person writes it."""
    words = name.removeprefix("test_").replace("_", " ").replace("24 mib", "24 MiB").replace("uri", "URI")
    return words[0].upper() + words[1:]


def words(passed: bool | None) -> str:
    """Return the text of a cell."""
    if passed is None:
        return NOT_RUN
    return PASSED if passed else FAILED


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write the table into the page."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}{table(read(Path(sys.argv[1])))}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
