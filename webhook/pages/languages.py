"""
The language of a page: negotiated with the browser among the languages of the catalogues (RFC 9110, 12.5.4).
"""

from typing import Final

from counterfoil.i18n.catalogue import LANGUAGES

_MAX_LANGUAGE_RANGES: Final = 32


def negotiate_language(accept_language: str | None) -> str:
    """Return the language that the browser prefers, or the default; never fails."""
    preferences = []
    for position, language_range in enumerate((accept_language or "").split(",")[:_MAX_LANGUAGE_RANGES]):
        tag, _, parameter = language_range.strip().partition(";")
        language = tag.strip().partition("-")[0].lower()
        weight = _weight(parameter)
        if weight > 0 and (language in LANGUAGES or language == "*"):
            preferences.append((-weight, position, language))
    for _, _, language in sorted(preferences):
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
