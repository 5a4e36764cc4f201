"""Address of the repository on the disk."""

from pathlib import Path

ROOT = next(each for each in Path(__file__).parents if (each / "pyproject.toml").is_file())
