"""Sphinx builds docs/ from Markdown; ``make lint`` does so with warnings as errors."""

import sys
from pathlib import Path

project = "Counterfoil"
author = "The Counterfoil authors"
copyright = "The Counterfoil authors"  # noqa: A001 - Sphinx's own name

extensions = ["myst_parser", "sphinx.ext.graphviz"]
# A build of Graphviz that PyPI ships, so that the docs build needs nothing of the system.
graphviz_dot = str(Path(sys.executable).with_name("graphviz-pure"))
graphviz_output_format = "svg"
# Readable also on the dark pages of the theme.
graphviz_dot_args = ["-Gbgcolor=white"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "examples"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]

# Furo has its style, fonts and scripts in the package, so a page loads nothing from other hosts.
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["commands.css"]
html_title = "Counterfoil"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
