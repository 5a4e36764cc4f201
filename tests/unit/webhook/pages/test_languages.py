"""Languages: the one a browser wants, and every text in each of them."""

import re
from http import HTTPStatus
from pathlib import Path

import pytest

from counterfoil.i18n.catalogue import LANGUAGES, CatalogueName, load_catalogue
from webhook.pages.errors import ADMINISTRATOR_KINDS, RETRYABLE_KINDS, PageErrorKind
from webhook.pages.form_fields import FieldFault
from webhook.pages.languages import negotiate_language


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
    assert negotiate_language(wanted) == spoken


@pytest.mark.parametrize("kind", PageErrorKind)
def test_every_trouble_has_a_page_that_says_what_happened_and_what_to_do(kind: PageErrorKind) -> None:
    for language in LANGUAGES:
        for part in ("title", "text", "advice"):
            assert load_catalogue(CatalogueName.PAGES, language).has(str(kind), part)
    assert kind.status >= HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize("fault", FieldFault)
def test_every_fault_of_a_value_has_its_words(fault: FieldFault) -> None:
    assert all(
        load_catalogue(CatalogueName.PAGES, language).has("fault", fault.value) for language in LANGUAGES
    )


def test_no_catalogue_has_words_that_nothing_says() -> None:
    said = {str(kind) for kind in PageErrorKind} | {
        "common",
        "form",
        "confirm",
        "fault",
        "sent",
        "consent_given",
    }
    assert set(load_catalogue(CatalogueName.PAGES, "en").entries) == said


def test_texts_are_plain_and_name_no_insides() -> None:
    for language in LANGUAGES:
        whole = " ".join(
            text
            for texts in load_catalogue(CatalogueName.PAGES, language).entries.values()
            for text in texts.values()
        )
        assert not re.search(r"[<>]|&\w+;|OAuth|token|Kubernetes|Secret\b|HTTP", whole), language


def test_errors_for_the_administrator_are_separate_from_errors_that_a_retry_may_solve() -> None:
    assert PageErrorKind.NOT_CONFIGURED in ADMINISTRATOR_KINDS - RETRYABLE_KINDS


def test_the_manual_explains_every_word_that_a_page_may_name() -> None:
    manual = (Path(__file__).parents[4] / "docs" / "consent.md").read_text(encoding="utf-8")
    speak_for_themselves = {
        PageErrorKind.NOT_FOUND,
        PageErrorKind.TOO_LARGE,
        PageErrorKind.WRONG_METHOD,
        PageErrorKind.UNEXPECTED,
    }
    assert not [kind for kind in set(PageErrorKind) - speak_for_themselves if f"`{kind}`" not in manual]
