"""The texts of mails, in each language: one table each, with the same keys and placeholders in all (a test holds it)."""

from types import MappingProxyType

from controller.notify.words import english, german, italian
from counterfoil.resources import Language

WORDS = MappingProxyType(
    {
        Language.ENGLISH: english.WORDS,
        Language.GERMAN: german.WORDS,
        Language.ITALIAN: italian.WORDS,
    }
)
