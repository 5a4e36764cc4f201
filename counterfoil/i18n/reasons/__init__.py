"""
The catalogue of reasons: for each word that Counterfoil can say, where it is seen, what it means, whose turn it is and
what that person does. Mails, the console, ``kubectl counterfoil why`` and docs/reference/reasons.md take it from here.

A reason is one CamelCase word that stays the same between versions. A test collects the reasons from the code and holds
that each is here, in every language. Pure values; nothing is looked up anywhere.
"""

from dataclasses import dataclass
from types import MappingProxyType

from counterfoil.i18n.reasons import english, german, italian
from counterfoil.i18n.reasons.entries import REASON_ENTRIES, ReasonContext, Responsible
from counterfoil.resources import Language

__all__ = ["CATALOGUE", "Reason", "ReasonContext", "ReasonText", "Responsible", "find_reason"]

_LANGUAGES = MappingProxyType(
    {
        Language.ENGLISH: english.WORDS,
        Language.GERMAN: german.WORDS,
        Language.ITALIAN: italian.WORDS,
    }
)


@dataclass(frozen=True)
class ReasonText:
    """What happened, in one sentence; and what to do about it, empty when there is nothing to do."""

    what: str
    do: str


@dataclass(frozen=True)
class Reason:
    """One entry."""

    name: str
    responsible: Responsible
    contexts: tuple[ReasonContext, ...]

    def localized_text(self, language: Language = Language.ENGLISH) -> ReasonText:
        """Return its words in a language."""
        return ReasonText(*_LANGUAGES[language][self.name])


CATALOGUE: MappingProxyType[str, Reason] = MappingProxyType(
    {name: Reason(name, row.responsible, row.contexts) for name, row in REASON_ENTRIES.items()}
)
"""All reasons by name, in the order in which a person meets them."""

_UNKNOWN = Reason("Unknown", Responsible.ADMINISTRATOR, ())


def find_reason(name: str) -> Reason:
    """Return the entry of a reason; for one that is not here, an entry that says where to look."""
    return CATALOGUE.get(name, _UNKNOWN)
