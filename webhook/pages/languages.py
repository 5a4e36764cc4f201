"""
Languages: which one a browser wants, and what a page says in it.

One catalogue per language, ``words/<language>.toml``, each with the same entries; a test holds them against each other.
A text may have places in braces that are filled when it is read. Texts are plain; the templates escape them.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

LANGUAGES: Final = ("en", "de", "it")
"""The first is spoken when a browser wants none of them."""

_FOLDER: Final = Path(__file__).parent / "words"
_MAX_LANGUAGE_RANGES: Final = 32


class Catalogue:
    """The catalogue of one language."""

    def __init__(self, language: str, entries: Mapping[str, Mapping[str, str]]) -> None:
        self.language = language
        self.entries = entries

    def say(self, section: str, name: str, /, **values: object) -> str:
        """Return one text, with its places filled. Raises ``KeyError`` for one that is not in the catalogue."""
        return self.entries[section][name].format_map({key: str(value) for key, value in values.items()})

    def has(self, section: str, name: str) -> bool:
        """Whether there is such a text."""
        return name in self.entries.get(section, {})


@cache
def load_catalogue(language: str) -> Catalogue:
    """Return the catalogue of one of the ``LANGUAGES``."""
    entries = tomllib.loads((_FOLDER / f"{language}.toml").read_text(encoding="utf-8"))
    return Catalogue(language, entries)


def negotiate_language(accept_language: str | None) -> str:
    """Return which of our languages a browser wants most (RFC 9110, 12.5.4); never fails."""
    wishes = []
    for place, wish in enumerate((accept_language or "").split(",")[:_MAX_LANGUAGE_RANGES]):
        tag, _, parameter = wish.strip().partition(";")
        language = tag.strip().partition("-")[0].lower()
        weight = _weight(parameter)
        if weight > 0 and (language in LANGUAGES or language == "*"):
            wishes.append((-weight, place, language))
    for _, _, language in sorted(wishes):
        return LANGUAGES[0] if language == "*" else language
    return LANGUAGES[0]


def _weight(parameter: str) -> float:
    name, _, number = parameter.strip().partition("=")
    if not parameter.strip():
        return 1.0
    try:
        weight = float(number) if name.strip().lower() == "q" else 0.0
    except ValueError:
        return 0.0
    return weight if 0.0 <= weight <= 1.0 else 0.0
