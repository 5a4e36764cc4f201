"""
Writes the SVG files in docs/drawings from the ``.dot`` files beside them: ``.venv/bin/python
docs/tools/generate_drawings.py``.

README.md shows them, so they are in the repository. The docs build renders the ``.dot`` files of its pages.
"""

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "drawings"
GRAPHVIZ = Path(sys.executable).with_name("graphviz-pure")


def committed() -> dict[Path, str]:
    """Return the SVG files that are in the repository, with their content as it must be."""
    return {dot.with_suffix(".svg"): svg(dot) for dot in [FOLDER / "overview.dot"]}


def svg(dot: Path) -> str:
    """Return a drawing as SVG, without the comments that name the version of Graphviz."""
    rendered = subprocess.run(  # noqa: S603 - a program of this environment
        [GRAPHVIZ, "-Tsvg", dot], capture_output=True, check=True, text=True
    ).stdout
    return re.sub(r"<!--.*?-->\n?", "", rendered, flags=re.DOTALL)


if __name__ == "__main__":
    for path, content in committed().items():
        path.write_text(content, encoding="utf-8")
