"""The console's catalogues, one per language as those of the pages: ``words/<language>.toml``, each with the same entries."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Final

from webhook.pages.languages import Words

_FOLDER: Final = Path(__file__).parent / "words"


@cache
def words_of(language: str) -> Words:
    """Return the catalogue of one of the ``LANGUAGES``."""
    return Words(language, tomllib.loads((_FOLDER / f"{language}.toml").read_text(encoding="utf-8")))
