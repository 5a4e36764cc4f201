"""Rendering: nothing that anybody wrote becomes HTML, and the headers keep the page for itself."""

import base64
import hashlib
import re
from typing import Any

import lxml.html
import pytest

from counterfoil.i18n.catalogue import LANGUAGES, Catalogue, CatalogueName, load_catalogue
from tests.support.markup import NASTY
from webhook.pages.errors import PageErrorKind
from webhook.pages.form_fields import FieldFault, FormField
from webhook.pages.rendering import PageLink, PageRenderer

RENDERER = PageRenderer()
ENGLISH = load_catalogue(CatalogueName.PAGES, "en")


def a_form(words: Catalogue = ENGLISH, **changes: Any) -> str:
    field = FormField(name="costCenter", label="Cost centre", required=True, pattern="[0-9]{4}", options=())
    values = {
        "action": "https://pages.example.com/before-send/acme/tags?draftId=d&userId=u",
        "token": "abc",
        "fields": (field,),
        "name": "Lease",
        "has_faults": False,
        "organization": "acme",
        "inbox": "https://esaw.example.com/Inbox/Index",
        "value_limit": 1024,
    }
    return RENDERER.form(words, **(values | changes))


def parsed(html: str) -> lxml.html.HtmlElement:
    return lxml.html.document_fromstring(html)


def skeleton(html: str) -> list[tuple[str, ...]]:
    """Every element with the names of its attributes: what a text must not be able to change."""
    return [
        (str(each.tag), *sorted(each.attrib)) for each in parsed(html).iter() if isinstance(each.tag, str)
    ]


@pytest.mark.parametrize("nasty", NASTY)
def test_no_field_of_the_form_can_add_markup(nasty: str) -> None:
    def form(text: str, **changes: Any) -> str:
        free = FormField(
            name=text,
            label=text,
            required=True,
            pattern=text,
            options=(),
            value=text,
            fault=FieldFault.PATTERN,
        )
        choice = FormField(
            name=text, label=text, required=False, pattern=None, options=(text, "b"), value="b"
        )
        return a_form(fields=(free, choice), name=text, token=text, action=text, has_faults=True)

    html = form(nasty)

    assert skeleton(html) == skeleton(form("plain"))
    page = parsed(html)
    assert page.xpath("//input[@id='field-1']/@value") == [nasty]
    assert page.xpath("//input[@id='field-1']/@pattern") == [nasty]
    assert page.xpath("//option[2]/@value") == [nasty]
    assert nasty in page.xpath("string(//main)")


@pytest.mark.parametrize("nasty", NASTY)
@pytest.mark.parametrize("kind", [PageErrorKind.WRONG_USER, PageErrorKind.DRAFT_REFUSED])
def test_neither_names_nor_esaws_codes_can_add_markup_to_a_message(nasty: str, kind: PageErrorKind) -> None:
    def message(text: str) -> str:
        links = [PageLink("again", text)]
        return RENDERER.message(
            ENGLISH, str(kind), links=links, is_trouble=True, values={"user": text, "code": text}
        )

    assert skeleton(message(nasty)) == skeleton(message("plain"))
    assert nasty in parsed(message(nasty)).xpath("string(//main)")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_page_says_its_language_fits_a_phone_and_needs_no_script(language: str) -> None:
    for html in (
        a_form(load_catalogue(CatalogueName.PAGES, language)),
        RENDERER.message(
            load_catalogue(CatalogueName.PAGES, language),
            "denied",
            is_trouble=True,
            values={"code": "", "user": ""},
        ),
    ):
        page = parsed(html)
        assert page.get("lang") == language
        assert page.xpath("//meta[@name='viewport']/@content") == ["width=device-width, initial-scale=1"]
        assert page.xpath("//title/text()")[0].strip()
        assert len(page.xpath("//h1")) == 1
        assert not page.xpath("//script | //*[@style] | //*[@onclick] | //img | //link | //iframe")


def test_every_input_has_its_label_and_a_fault_is_tied_to_it() -> None:
    free = FormField("a", "A", required=True, pattern=None, options=(), value="x", fault=FieldFault.PATTERN)
    choice = FormField("b", "B", required=False, pattern=None, options=("1", "2"), value="2")
    page = parsed(a_form(fields=(free, choice), has_faults=True))

    assert page.xpath("//label/@for") == ["field-1", "field-2"]
    wrong = page.get_element_by_id("field-1")
    assert wrong.get("aria-invalid") == "true"
    assert page.get_element_by_id(wrong.get("aria-describedby") or "").text
    assert page.xpath("//*[@role='alert']")
    assert page.xpath("//select/option[@selected]/@value") == ["2"]


def test_the_style_in_the_page_is_the_one_that_the_policy_allows() -> None:
    style = re.search(r"<style>(.*?)</style>", a_form(), re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style.group(1).encode()).digest()).decode()

    policy = RENDERER.headers(form_target="https://a.example")["Content-Security-Policy"]

    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action https://a.example; "
        "base-uri 'none'; frame-ancestors 'none'"
    )


def test_a_form_without_fields_asks_whether_to_send_and_has_one_button() -> None:
    page = parsed(a_form(fields=(), name="Lease <1>"))

    assert page.xpath("//h1/text()") == ["Send this envelope?"]
    assert "Lease <1>" in page.xpath("string(//main)")
    assert page.xpath("//form//*/@name") == ["form"]
    assert len(page.xpath("//button")) == 1


@pytest.mark.parametrize("nasty", NASTY)
def test_a_page_that_leads_on_leads_just_there(nasty: str) -> None:
    def sent(url: str) -> str:
        return RENDERER.message(
            ENGLISH, "sent", links=[PageLink("to_inbox", url)], is_trouble=False, onward=url
        )

    assert skeleton(sent(nasty)) == skeleton(sent("plain"))
    assert parsed(sent(nasty)).xpath("//meta[@http-equiv='refresh']/@content") == [f"0; url={nasty}"]
    assert not parsed(RENDERER.message(ENGLISH, "consent_given", is_trouble=False)).xpath(
        "//meta[@http-equiv]"
    )


def test_a_page_without_a_form_may_send_none() -> None:
    assert "form-action 'none'" in RENDERER.headers()["Content-Security-Policy"]


def test_every_answer_is_kept_from_frames_caches_referrers_and_guessing() -> None:
    headers = RENDERER.headers()
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "Strict-Transport-Security" not in headers
    assert "max-age=" in RENDERER.headers(is_https=True)["Strict-Transport-Security"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_error_about_a_consent_speaks_of_a_draft_or_of_sending(language: str) -> None:
    words = load_catalogue(CatalogueName.PAGES, language)
    kinds = [name for name in words.entries if name.endswith("_consent")]
    assert "denied_consent" in kinds
    for name in kinds:
        page = RENDERER.message(
            words, name.removesuffix("_consent"), is_trouble=True, is_consent=True
        ).lower()
        assert not [word for word in ("draft", "entwurf", "bozza") if word in page], name


def test_the_form_says_for_whom_and_for_what_and_has_a_way_back() -> None:
    page = parsed(a_form())
    text = page.text_content()
    assert "Organization: acme" in text
    assert "so that the documents can be found later" in text
    assert "tag" not in text.lower()
    assert page.xpath("//a/@href") == ["https://esaw.example.com/Inbox/Index"]


def test_after_an_error_each_wrong_field_is_marked_and_the_first_has_the_focus() -> None:
    wrong = [
        FormField(name=name, label=name, required=True, pattern=None, options=(), fault=FieldFault.MISSING)
        for name in ("a", "b")
    ]
    good = FormField(name="c", label="c", required=True, pattern=None, options=())
    page = parsed(a_form(fields=(good, *wrong), has_faults=True))
    assert page.xpath("//*[@aria-invalid='true']/@name") == ["tag.a", "tag.b"]
    assert page.xpath("//*[@autofocus]/@name") == ["tag.a"]
    for field in page.xpath("//*[@aria-invalid='true']"):
        (message,) = page.xpath(f"//*[@id='{field.get('aria-describedby')}']/text()")
        assert message == "Please fill this in."
    assert len(page.xpath("//*[@role='alert']//li")) == 2
