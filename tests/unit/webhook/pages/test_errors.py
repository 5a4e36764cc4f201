"""Errors and texts of the pages: each error has a page, in each language."""

import re
from http import HTTPStatus
from pathlib import Path

import pytest

from counterfoil.esaw import EsawError, EsawUnreachable, HttpStatusError, ResponseInvalid, UnexpectedRedirect
from counterfoil.i18n.catalogue import LANGUAGES, CatalogueName, load_catalogue
from counterfoil.resources import SecretKeyRef
from counterfoil.resources.organization import ClientAuthentication, OAuth, Pkce
from webhook.http_server.errors import ErrorKind, HttpErrorKind
from webhook.pages.errors import (
    ADMINISTRATOR_KINDS,
    RETRYABLE_KINDS,
    PageErrorKind,
    from_esaw,
    from_token_endpoint,
)
from webhook.pages.form_fields import FieldFault

KINDS: tuple[ErrorKind, ...] = (*HttpErrorKind, *PageErrorKind)


@pytest.mark.parametrize("kind", KINDS)
def test_every_problem_has_a_page_that_says_what_happened_and_what_to_do(kind: ErrorKind) -> None:
    for language in LANGUAGES:
        for part in ("title", "text", "advice"):
            assert load_catalogue(CatalogueName.PAGES, language).has(str(kind), part)
    assert kind.status >= HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize("kind", KINDS)
def test_no_page_says_that_an_earlier_click_sent_nothing(kind: ErrorKind) -> None:
    words = load_catalogue(CatalogueName.PAGES, "en")
    text = " ".join(
        words.say(str(kind), part, user="ben", code="409") for part in ("title", "text", "advice")
    )
    assert re.search("was not sent|[Nn]othing was sent|probably sent|Your draft stays", text) is None


OAUTH = OAuth(
    client_id="c",
    client_secret_ref=SecretKeyRef(name="s", key="k"),
    client_authentication=ClientAuthentication.BASIC,
    pkce=Pkce.S256,
)


@pytest.mark.parametrize(
    ("problem", "kind", "named"),
    [
        (
            HttpStatusError(401, "invalid_client"),
            PageErrorKind.CLIENT_REFUSED,
            ("clientID", "clientSecretRef", "clientAuthentication (Basic)"),
        ),
        (HttpStatusError(400, "unauthorized_client"), PageErrorKind.CLIENT_REFUSED, ("clientID",)),
        (HttpStatusError(401), PageErrorKind.CLIENT_REFUSED, ("clientAuthentication (Basic)",)),
        (HttpStatusError(400, "invalid_grant"), PageErrorKind.CODE_REFUSED, ("publicURL", "pkce (S256)")),
        (
            HttpStatusError(400, "invalid_request"),
            PageErrorKind.EXCHANGE_REFUSED,
            ("pkce (S256)", "clientAuthentication (Basic)"),
        ),
        (HttpStatusError(400, "unsupported_grant_type"), PageErrorKind.EXCHANGE_REFUSED, ("pkce",)),
        (HttpStatusError(400), PageErrorKind.EXCHANGE_REFUSED, ("pkce",)),
        (HttpStatusError(404), PageErrorKind.EXCHANGE_REFUSED, ("tokenPath",)),
        (HttpStatusError(405), PageErrorKind.EXCHANGE_REFUSED, ("tokenPath",)),
        (ResponseInvalid("token", "it is HTML"), PageErrorKind.ESAW_STRANGE, ("tokenPath",)),
        (UnexpectedRedirect(302, ""), PageErrorKind.ESAW_STRANGE, ("tokenPath",)),
        (HttpStatusError(503), PageErrorKind.ESAW_DOWN, ()),
        (HttpStatusError(429), PageErrorKind.ESAW_DOWN, ()),
        (EsawUnreachable("connect"), PageErrorKind.ESAW_DOWN, ()),
    ],
)
def test_a_refusal_of_the_token_endpoint_names_the_settings_to_look_at(
    problem: EsawError, kind: PageErrorKind, named: tuple[str, ...]
) -> None:
    error = from_token_endpoint(problem, OAUTH)
    assert error.kind is kind
    assert str(problem) in error.detail
    assert all(f"spec.oauth.{name}" in error.detail or name == "clientSecretRef" for name in named)
    assert ("spec.oauth" in error.detail) == bool(named)


@pytest.mark.parametrize(
    ("is_page", "kind"), [(False, PageErrorKind.CODE_REFUSED), (True, PageErrorKind.ESAW_STRANGE)]
)
def test_a_web_page_with_401_asks_no_user_to_sign_in_again(is_page: bool, kind: PageErrorKind) -> None:
    assert from_esaw(HttpStatusError(401, is_page=is_page)).kind is kind


@pytest.mark.parametrize("fault", FieldFault)
def test_every_fault_of_a_value_has_its_words(fault: FieldFault) -> None:
    assert all(
        load_catalogue(CatalogueName.PAGES, language).has("fault", fault.value) for language in LANGUAGES
    )


def test_no_catalogue_has_words_that_nothing_says() -> None:
    said = {str(kind) for kind in KINDS} | {
        "common",
        "form",
        "confirm",
        "fault",
        "sent",
        "sent_before",
        "consent_given",
        "consent_unknown",
    }
    entries = set(load_catalogue(CatalogueName.PAGES, "en").entries)
    about_consent = {name for name in entries if name.endswith("_consent")}
    assert entries - about_consent == said
    assert {name.removesuffix("_consent") for name in about_consent} <= {str(kind) for kind in KINDS}


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
        HttpErrorKind.NOT_FOUND,
        HttpErrorKind.TOO_LARGE,
        HttpErrorKind.WRONG_METHOD,
        HttpErrorKind.UNEXPECTED,
    }
    assert not [kind for kind in set(KINDS) - speak_for_themselves if f"`{kind}`" not in manual]
