"""
The language of a page: negotiated with the browser among the languages of the catalogues (RFC 9110, 12.5.4).
"""

import re
from typing import Final

from counterfoil.i18n.catalogue import LANGUAGES

_MAX_LANGUAGE_RANGES: Final = 32

_LANGUAGE_RANGE = re.compile(r"(\*|[a-z]+)(?:-[a-z0-9-]*)?\s*(?:;\s*(?:q\s*=\s*(0(?:\.\d*)?|1(?:\.0*)?))?)?")
"""A language, and the weight of the preference for it."""


def negotiate_language(accept_language: str | None) -> str:
    """Return the language that the browser prefers, or the default; never fails."""
    preferences = []
    for position, language_range in enumerate((accept_language or "").split(",")[:_MAX_LANGUAGE_RANGES]):
        found = _LANGUAGE_RANGE.fullmatch(language_range.strip().lower())
        weight = float(found[2] or 1) if found is not None else 0.0
        if found is not None and weight > 0 and (found[1] in LANGUAGES or found[1] == "*"):
            preferences.append((-weight, position, found[1]))
    preferred = min(preferences, default=(0.0, 0, "*"))[2]
    return LANGUAGES[0] if preferred == "*" else preferred
