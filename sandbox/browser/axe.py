"""
axe-core, the script that checks the accessibility of a page.
"""

from pathlib import Path

from sandbox.packages import npm


async def axe() -> Path:
    """Return the path of the script. Raises ``NpmPackagesError``, ``PackagesMissing``."""
    return await npm.installed("axe") / "node_modules/axe-core/axe.min.js"
