"""
Draws docs/screenshots/plugin-*.svg, pictures of a terminal, from the outputs in docs/plugin.md:
``python docs/tools/generate_terminal_pictures.py``.

Tests let the plugin print these outputs and compare (``test_the_manual_shows_what_the_program_prints``).
Another one compares the pictures with the page. So a picture shows what the program prints.
"""

import re
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "plugin.md"
FOLDER: Final = ROOT / "docs" / "screenshots"
COMMANDS: Final = ("status", "preflight", "setup")

COLUMNS: Final = 120
"""Of the terminal."""

_COLUMN: Final = 7.8
"""Width of a character in pixels."""
_ROW: Final = 18
_MARGIN: Final = 16
_FONT: Final = "ui-monospace, Menlo, Consolas, DejaVu Sans Mono, monospace"
_PAPER: Final = "#16202c"
_PRINTED: Final = "#d7e0ea"
_TYPED: Final = "#8fd0a3"


class OutputMissing(Exception):
    """The page has no output of a command."""


def shown(command: str, page: str) -> str:
    """Return the block of the page that shows this command of the plugin. Raises ``OutputMissing``."""
    for block in re.findall(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
        if re.match(rf"\$ kubectl counterfoil {command}\b", block):
            return str(block)
    raise OutputMissing(f"{PAGE.name} shows no output of {command}")


def svg(command: str, text: str) -> str:
    """Return the picture of a terminal with this text. Each row is as wide in any font, so columns stay."""
    rows = list(_rows(text))
    columns = max(len(row) for row, _ in rows)
    width, height = round(columns * _COLUMN) + 2 * _MARGIN, len(rows) * _ROW + 2 * _MARGIN
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        f"<title>Output of kubectl counterfoil {command}</title>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{_PAPER}"/>',
        f'<g font-family="{_FONT}" font-size="13">',
    ]
    for number, (row, colour) in enumerate(rows):
        # Browsers join several spaces, and drop the first ones of a line.
        words = escape(row, quote=False).replace(" ", "\N{NO-BREAK SPACE}")
        if row:
            drawn.append(
                f'<text x="{_MARGIN}" y="{_MARGIN + number * _ROW + 13}" '
                f'textLength="{len(row) * _COLUMN:.1f}" fill="{colour}">{words}</text>'
            )
    return "\n".join([*drawn, "</g>", "</svg>", ""])


def _rows(text: str) -> Iterator[tuple[str, str]]:
    """Yield the rows of a terminal with their colour: what was typed has another one."""
    is_typed = continues = False
    for line in text.rstrip("\n").split("\n"):
        is_typed = line.startswith("$ ") or (is_typed and continues)
        continues = line.endswith("\\")
        for start in range(0, max(len(line), 1), COLUMNS):
            yield line[start : start + COLUMNS], _TYPED if is_typed else _PRINTED


def committed() -> dict[Path, str]:
    """Return the pictures, with their content as it must be. Raises ``OutputMissing``."""
    page = PAGE.read_text(encoding="utf-8")
    return {FOLDER / f"plugin-{each}.svg": svg(each, shown(each, page)) for each in COMMANDS}


def main() -> int:
    """Write them; return the exit status."""
    try:
        pictures = committed()
    except OutputMissing as missing:
        sys.stderr.write(f"{missing}\n")
        return 1
    for path, content in pictures.items():
        path.write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
