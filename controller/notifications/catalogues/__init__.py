"""The texts of mails, in each language: one table each, with the same keys and placeholders in all (a test holds it)."""

from types import MappingProxyType

from controller.notifications.catalogues import english, german, italian
from counterfoil.resources import Language

TEXTS = MappingProxyType(
    {
        Language.ENGLISH: english.TEXTS,
        Language.GERMAN: german.TEXTS,
        Language.ITALIAN: italian.TEXTS,
    }
)
