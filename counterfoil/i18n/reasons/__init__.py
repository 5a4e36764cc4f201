"""
The catalogue of reasons: where each reason is seen, its meaning, the person who must act, and the action.

Mails, the console, ``kubectl counterfoil why`` and docs/reference/reasons.md use this catalogue. A reason is
one CamelCase word that stays the same between versions. A test collects the reasons from the code and
requires an entry for each, in every language. Pure values; the texts are read at their first use.
"""

from dataclasses import dataclass
from types import MappingProxyType

from counterfoil.i18n.catalogue import CatalogueName, load_catalogue
from counterfoil.i18n.reasons.entries import REASON_ENTRIES, ReasonContext, Responsible
from counterfoil.resources import Language

__all__ = ["CATALOGUE", "Reason", "ReasonContext", "ReasonText", "Responsible", "find_reason"]


@dataclass(frozen=True)
class ReasonText:
    """The meaning of a reason, and what to do; ``do`` is empty where nothing has to be done."""

    what: str
    do: str


@dataclass(frozen=True)
class Reason:
    """One reason: its name, who must act, and where it is seen."""

    name: str
    responsible: Responsible
    contexts: tuple[ReasonContext, ...]

    def localized_text(self, language: Language = Language.ENGLISH) -> ReasonText:
        """Return its text in a language."""
        texts = load_catalogue(CatalogueName.REASONS, language).entries[self.name]
        return ReasonText(texts["what"], texts.get("do", ""))


CATALOGUE: MappingProxyType[str, Reason] = MappingProxyType(
    {name: Reason(name, row.responsible, row.contexts) for name, row in REASON_ENTRIES.items()}
)
"""All reasons by name, in the order of the manual."""

_UNKNOWN = Reason("Unknown", Responsible.ADMINISTRATOR, ())


def find_reason(name: str) -> Reason:
    """Return the entry of a reason, or the entry ``Unknown`` for a reason that is not in the catalogue."""
    return CATALOGUE.get(name, _UNKNOWN)
