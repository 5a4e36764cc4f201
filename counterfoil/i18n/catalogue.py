"""
The loader of all catalogues: reasons, mails, pages and console.

A catalogue is one folder beside this module with one file per language, ``<catalogue>/<language>.toml``. A
file is read at its first use and stays in memory. All languages of a catalogue have the same entries (a test
compares them).
"""

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Final

from counterfoil.resources import Language

LANGUAGES: Final = tuple(each.value for each in Language)
"""Codes of the languages that every catalogue has; the first is the default."""

_FOLDER: Final = files("counterfoil.i18n")
"""Not a path: the stand-alone plugin is one file."""


class CatalogueName(StrEnum):
    """Names of the catalogues, which are the names of their folders."""

    REASONS = "reasons"
    MAILS = "mails"
    PAGES = "pages"
    CONSOLE = "console"


class Catalogue:
    """The texts of one catalogue in one language, in sections. Texts are plain; templates escape them."""

    def __init__(self, language: str, entries: Mapping[str, Mapping[str, str]]) -> None:
        self.language = language
        self.entries = entries

    def say(self, section: str, name: str, /, **values: object) -> str:
        """
        Return a text with its placeholders filled.

        For a ``count`` of one it is the entry that ends in ``_one``, where there is one. Raises ``KeyError``
        where the catalogue has no such text.
        """
        if str(values.get("count")) == "1" and self.has(section, f"{name}_one"):
            name = f"{name}_one"
        return self.entries[section][name].format_map({key: str(value) for key, value in values.items()})

    def has(self, section: str, name: str) -> bool:
        """Whether the catalogue has this text."""
        return name in self.entries.get(section, {})


def load_catalogue(name: CatalogueName, language: str) -> Catalogue:
    """Return a catalogue in one of the ``LANGUAGES``; a file is read once."""
    return _load(name, language)


# Behind a function with types, because mypy does not check the arguments of a cached one.
@cache
def _load(name: CatalogueName, language: str) -> Catalogue:
    file = _FOLDER.joinpath(name, f"{language}.toml")
    return Catalogue(language, tomllib.loads(file.read_text(encoding="utf-8")))
