"""
Writes the drawings that are made from other files: ``.venv/bin/python docs/tools/generate_drawings.py``.

README.md shows the SVG in docs/drawings, so it is in the repository beside its ``.dot`` file. The docs build
renders the ``.dot`` files of its pages. That of the packages is made from the import rules and the imports.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
if __name__ == "__main__":
    # Started by its path, it finds no package of the repository.
    sys.path.insert(0, str(ROOT))

from docs.tools import package_drawing  # noqa: E402 - needs that path

OVERVIEW = ROOT / "docs" / "drawings" / "overview.dot"
PACKAGES = ROOT / "docs" / "contributing" / "drawings" / "packages.dot"
GRAPHVIZ = Path(sys.executable).with_name("graphviz-pure")


def committed() -> dict[Path, str]:
    """Return the drawings that the program writes, with their content as it must be."""
    return {OVERVIEW.with_suffix(".svg"): svg(OVERVIEW), PACKAGES: package_drawing.dot()}


def svg(dot: Path) -> str:
    """Return a drawing as SVG, without the comments that name the version of Graphviz."""
    rendered = subprocess.run(  # noqa: S603 - a program of this environment
        [GRAPHVIZ, "-Tsvg", dot], capture_output=True, check=True, text=True
    ).stdout
    return re.sub(r"<!--.*?-->\n?", "", rendered, flags=re.DOTALL)


if __name__ == "__main__":
    for path, content in committed().items():
        path.write_text(content, encoding="utf-8")
