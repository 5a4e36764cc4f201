"""The console's catalogues, one per language as those of the pages: ``words/<language>.toml``, each with the same entries."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Final

from webhook.pages.languages import Catalogue

_FOLDER: Final = Path(__file__).parent / "words"


@cache
def load_catalogue(language: str) -> Catalogue:
    """Return the catalogue of one of the ``LANGUAGES``."""
    return Catalogue(language, tomllib.loads((_FOLDER / f"{language}.toml").read_text(encoding="utf-8")))
