"""Languages: the one a browser wants, and every text in each of them."""

import re
from pathlib import Path
from string import Formatter

import pytest

from webhook.pages.languages import LANGUAGES, choose, words_of
from webhook.pages.problems import ADMINISTRATORS, AGAIN, STATUS, Kind
from webhook.pages.tagging import Fault


@pytest.mark.parametrize(
    ("wanted", "spoken"),
    [
        (None, "en"),
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("fr-FR,fr;q=0.9,it;q=0.8,en;q=0.7", "it"),
        ("en;q=0.5,it;q=0.9", "it"),
        ("DE_at", "en"),
        ("IT-ch", "it"),
        ("fr, *;q=0.1", "en"),
        ("de;q=0", "en"),
        ("de;q=nonsense, it", "it"),
        ("de;q=-1", "en"),
        ("de;q=inf", "en"),
        (",".join(["xx"] * 10_000) + ",de", "en"),
        ("\x00;;;,,;q=;=", "en"),
    ],
)
def test_the_browsers_first_wish_that_we_speak_is_spoken(wanted: str | None, spoken: str) -> None:
    assert choose(wanted) == spoken


def test_every_catalogue_has_the_same_texts_with_the_same_places() -> None:
    def places(text: str) -> set[str]:
        return {name for _, name, _, _ in Formatter().parse(text) if name}

    shapes = {
        language: {
            (section, name): places(text)
            for section, texts in words_of(language).entries.items()
            for name, text in texts.items()
        }
        for language in LANGUAGES
    }
    assert shapes["de"] == shapes["en"]
    assert shapes["it"] == shapes["en"]


def test_no_text_is_left_untranslated() -> None:
    for section, texts in words_of("en").entries.items():
        for name, text in texts.items():
            for language in ("de", "it"):
                assert words_of(language).entries[section][name] != text, (language, section, name)


@pytest.mark.parametrize("kind", Kind)
def test_every_trouble_has_a_page_that_says_what_happened_and_what_to_do(kind: Kind) -> None:
    for language in LANGUAGES:
        for part in ("title", "text", "advice"):
            assert words_of(language).has(str(kind), part)
    assert kind in STATUS


@pytest.mark.parametrize("fault", Fault)
def test_every_fault_of_a_value_has_its_words(fault: Fault) -> None:
    assert all(words_of(language).has("fault", fault.value) for language in LANGUAGES)


def test_no_catalogue_has_words_that_nothing_says() -> None:
    said = {str(kind) for kind in Kind} | {"common", "form", "confirm", "fault", "sent", "consent_given"}
    assert set(words_of("en").entries) == said


def test_texts_are_plain_and_name_no_insides() -> None:
    for language in LANGUAGES:
        whole = " ".join(text for texts in words_of(language).entries.values() for text in texts.values())
        assert not re.search(r"[<>]|&\w+;|OAuth|token|Kubernetes|Secret\b|HTTP", whole), language


def test_what_an_administrator_has_to_mend_is_told_apart_from_what_may_be_tried_again() -> None:
    assert Kind.NOT_CONFIGURED in ADMINISTRATORS - AGAIN


def test_the_manual_explains_every_word_that_a_page_may_name() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "consent.md").read_text(encoding="utf-8")
    speak_for_themselves = {Kind.NOT_FOUND, Kind.TOO_LARGE, Kind.WRONG_METHOD, Kind.UNEXPECTED}
    assert not [kind for kind in set(Kind) - speak_for_themselves if f"`{kind}`" not in manual]
