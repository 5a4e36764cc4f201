"""
The folder for what is downloaded or built once and then kept.

The plugin is built with it by a Python without any package, so this module imports none.
"""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder of this project in the user's cache (XDG Base Directory Specification)."""
    configured = os.environ.get("XDG_CACHE_HOME", "")
    # The specification: a path that is not absolute must be ignored.
    base = Path(configured) if configured.startswith("/") else Path.home() / ".cache"
    return base / "counterfoil"
