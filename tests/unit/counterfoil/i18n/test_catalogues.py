"""Every catalogue says the same in every language."""

import re
import tomllib
from pathlib import Path
from string import Formatter

import pytest

from counterfoil.i18n import catalogue as loader
from counterfoil.i18n.catalogue import LANGUAGES, Catalogue, CatalogueName, load_catalogue
from counterfoil.resources import PHASE_CONDITIONS, Phase
from tests.support.repository import ROOT

PRODUCTS = {("archive_kind", "azblob"), ("archive_kind", "gcs")}
SAME_WORDS = {
    "de": PRODUCTS
    | {("target", name) for name in ("bucket", "container", "endpoint", "host", "port", "region")}
    | {
        ("common", "namespaces"),
        ("filter", "phase"),
        ("filter", "imported"),
        ("imports", "name"),
        ("imports", "envelope_status"),
        ("event", "deliveries"),
        ("moment", "attempt"),
        ("organizations", "url_status"),
        ("time", "in_seconds"),
        ("time", "in_minutes"),
        ("time", "in_hours"),
    },
    "it": PRODUCTS
    | {("target", name) for name in ("bucket", "endpoint", "host")}
    | {("common", "menu"), ("common", "namespaces")}
    | {("truth", "False"), ("moment", "act"), ("moment", "attempt"), ("event", "file")},
}
"""Texts of the console that are the same words in English."""


def texts(catalogue: Catalogue) -> dict[tuple[str, str], str]:
    return {
        (section, name): text
        for section, entries in catalogue.entries.items()
        for name, text in entries.items()
    }


def places(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in Formatter().parse(text) if name is not None)


@pytest.mark.parametrize("name", CatalogueName)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_catalogue_has_the_same_texts_with_the_same_places(name: CatalogueName, language: str) -> None:
    original, translated = (texts(load_catalogue(name, each)) for each in (LANGUAGES[0], language))
    assert list(translated) == list(original)
    assert {key: places(text) for key, text in translated.items()} == {
        key: places(text) for key, text in original.items()
    }


@pytest.mark.parametrize("name", CatalogueName)
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_empty(name: CatalogueName, language: str) -> None:
    assert [key for key, text in texts(load_catalogue(name, language)).items() if not text.strip()] == []


@pytest.mark.parametrize("name", CatalogueName)
@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_no_text_is_left_untranslated(name: CatalogueName, language: str) -> None:
    original, translated = (texts(load_catalogue(name, each)) for each in (LANGUAGES[0], language))
    alike = {key for key, text in translated.items() if text == original[key]}
    assert alike == (SAME_WORDS[language] if name is CatalogueName.CONSOLE else set())


ALIKE_FOR_ONE = {
    CatalogueName.CONSOLE: {
        ("moment", "delivered"),
        ("bulk", "bound"),
        ("event", "part"),
        ("organizations", "swept"),
        *(("time", f"{way}{unit}") for way in ("", "in_") for unit in ("seconds", "minutes", "hours")),
    },
    CatalogueName.MAILS: {("escalation", "more")},
}
"""Texts with a count that are the same for one, or that are never said of one."""


@pytest.mark.parametrize("name", CatalogueName)
@pytest.mark.parametrize("language", LANGUAGES)
def test_each_text_with_a_count_has_one_for_a_count_of_one(name: CatalogueName, language: str) -> None:
    found = texts(load_catalogue(name, language))
    counted = {key for key, text in found.items() if "count" in places(text) and not key[1].endswith("_one")}
    without = {(section, each) for section, each in counted if (section, f"{each}_one") not in found}
    assert without == ALIKE_FOR_ONE.get(name, set())


@pytest.mark.parametrize("count", [1, "1"])
def test_a_count_of_one_has_its_own_text(count: object) -> None:
    console = load_catalogue(CatalogueName.CONSOLE, "en")
    assert console.say("events", "looked", count=count) == "One event was searched."
    assert console.say("events", "looked", count="> 1") == "> 1 events were searched."


def test_no_text_of_the_pages_is_unused() -> None:
    paths = [*(ROOT / "webhook" / "pages").rglob("*.*"), *(ROOT / "webhook" / "http_server").rglob("*.*")]
    sources = [each.read_text(encoding="utf-8") for each in paths if each.suffix in (".py", ".html")]
    used = {word for each in sources for word in re.findall(r"[\"'](\w+)[\"']", each)}
    # A page of a consent has its own text where the general one does not suit it.
    assert [
        (section, name)
        for section, name in texts(load_catalogue(CatalogueName.PAGES, LANGUAGES[0]))
        if not {section.removesuffix("_consent"), name} <= used
    ] == []


def test_every_folder_of_texts_is_a_catalogue_in_every_language() -> None:
    folder = Path(loader.__file__).parent
    found = {str(path.relative_to(folder)) for path in folder.rglob("*.toml")}
    languages = {f"{name}/{language}.toml" for name in CatalogueName for language in LANGUAGES}
    assert found == languages | {"reasons/entries.toml"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_phase_and_the_condition_that_it_makes_true_has_a_name(language: str) -> None:
    console = load_catalogue(CatalogueName.CONSOLE, language)
    assert [each for each in Phase if not console.has("phase", each)] == []
    assert [each for each in PHASE_CONDITIONS.values() if not console.has("condition", each)] == []


def test_a_text_that_is_missing_is_an_error() -> None:
    with pytest.raises(KeyError):
        load_catalogue(CatalogueName.PAGES, "en").say("common", "nonsense")


def test_the_wheel_takes_every_file_of_the_packages() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert "counterfoil" in wheel["packages"]
    assert not {"exclude", "include", "only-include"} & set(wheel)
