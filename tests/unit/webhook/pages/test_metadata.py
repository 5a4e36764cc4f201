"""Metadata: values go in, and nothing that was there is lost."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from counterfoil.archives.tags import collect
from counterfoil.resources import TagRule
from tests.support.scenes.drafts_with_new_names import ELEMENTS, growth
from webhook.pages.metadata import DraftMetadataUnreadable, merged, values_in

LIMIT = 100_000


def merge(metadata: str | None, **values: str) -> str:
    return merged(metadata, values, limit=LIMIT)


def test_without_metadata_the_values_become_xml_that_the_archives_rules_find() -> None:
    made = merge(None, costCenter="4711", kind="Lease & more")

    assert made == "<tags><costCenter>4711</costCenter><kind>Lease &amp; more</kind></tags>"
    assert collect({"cost": TagRule(xpath="/tags/costCenter")}, made, {}) == {"cost": "4711"}


@pytest.mark.parametrize("nothing", [None, "", "  \n", "\ufeff"])
def test_blank_metadata_is_no_metadata(nothing: str | None) -> None:
    assert merge(nothing, a="1") == "<tags><a>1</a></tags>"


def test_xml_keeps_its_declaration_comments_instructions_attributes_and_order() -> None:
    before = (
        '<?xml version="1.0" encoding="utf-8"?>\n<!-- by hand --><?app keep?>'
        '<m x="1"><!-- in -->  <b y="2">text</b>tail<c><![CDATA[<raw>]]></c></m>'
    )

    after = merge(before, tag="new")

    assert after.startswith('<?xml version="1.0" encoding="utf-8"?>\n<!-- by hand --><?app keep?><m x="1">')
    assert '<!-- in -->  <b y="2">text</b>tail<c><![CDATA[<raw>]]></c><tag>new</tag></m>' in after


def test_a_declared_encoding_of_another_kind_does_no_harm() -> None:
    after = merge('<?xml version="1.0" encoding="utf-16"?><m>ü€</m>', a="ß")
    assert after == '<?xml version="1.0" encoding="utf-16"?>\n<m>ü€<a>ß</a></m>'


def test_a_value_that_is_there_is_replaced_where_it_stands_and_the_rest_stays() -> None:
    assert merge("<m><a>old</a><z/><a>second</a></m>", a="new") == "<m><a>new</a><z/><a>second</a></m>"


def test_a_new_element_is_in_the_namespace_of_its_surroundings() -> None:
    after = merge('<m xmlns="urn:x"><a>1</a></m>', b="2")
    assert after == '<m xmlns="urn:x"><a>1</a><b>2</b></m>'


def test_an_empty_value_makes_no_new_name_but_empties_an_old_one() -> None:
    assert merge("<m><a>1</a></m>", a="", b="") == "<m><a></a></m>"
    assert json.loads(merge('{"a":"1"}', a="", b="")) == {"a": ""}


def test_an_element_that_holds_more_than_text_is_not_overwritten() -> None:
    with pytest.raises(DraftMetadataUnreadable, match="more than a text"):
        merge("<m><a><deep/></a></m>", a="1")


def test_json_keeps_every_other_member_to_the_last_digit() -> None:
    before = (
        '{"n": 1.10, "big": 123456789012345678901234567890, "e": 1e400, "deep": {"x": [1, null]}, "ü": '
        '"\\u00fc"}'
    )

    after = merge(before, costCenter="4711", ü="new")

    for kept in (
        '"n":1.10',
        '"big":123456789012345678901234567890',
        '"e":1e400',
        '"deep":{"x": [1, null]}',
    ):
        assert kept in after
    assert json.loads(after)["costCenter"] == "4711"
    assert json.loads(after)["ü"] == "new"


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ("just words", "neither"),
        ("[1, 2]", "neither"),
        ('{"a": ', "begins like JSON"),
        ('{"a": 1} trailing', "begins like JSON"),
        ("<m>", "well-formed"),
        ("<m>\x00</m>", "well-formed"),
        ('<!DOCTYPE m [<!ENTITY e SYSTEM "file:///etc/passwd">]><m>&e;</m>', "document type"),
        ("<m>&undefined;</m>", "well-formed"),
        ("<m>" + "x" * LIMIT + "</m>", "more than"),
        ("{" * 50_000, "begins like JSON"),
    ],
)
def test_what_can_not_be_added_to_is_refused_and_not_repeated(metadata: str, says: str) -> None:
    with pytest.raises(DraftMetadataUnreadable, match=says) as refused:
        merge(metadata, a="1")
    assert metadata[:20] not in str(refused.value)


def test_a_bomb_of_entities_is_never_opened() -> None:
    bomb = '<!DOCTYPE m [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><m>&b;</m>'
    with pytest.raises(DraftMetadataUnreadable):
        merge(bomb, a="1")


def test_values_that_grow_beyond_the_limit_are_refused() -> None:
    with pytest.raises(DraftMetadataUnreadable, match="more than 50 bytes"):
        merged("<m/>", {"a": "x" * 50}, limit=50)


def test_what_xml_can_not_hold_is_left_out() -> None:
    assert merge(None, a="a\x00b\x0bc\ufffe") == "<tags><a>abc</a></tags>"


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_value_survives_and_merging_twice_is_merging_once(first: str, second: str) -> None:
    once = merge("<m><keep>1</keep></m>", a=first, b=second)
    assert merge(once, a=first, b=second) == once
    assert etree.fromstring(once).findtext("keep") == "1"

    as_json = merge('{"keep": 1}', a=first.encode("utf-8", "replace").decode())
    assert json.loads(as_json)["keep"] == 1


def test_known_values_are_found_for_the_form() -> None:
    names = ("a", "b", "c")
    assert values_in("<m><a>1</a><b/><x>9</x></m>", names, limit=LIMIT) == {"a": "1", "b": ""}
    assert values_in('{"a": "1", "b": 2}', names, limit=LIMIT) == {"a": "1"}
    assert values_in(None, names, limit=LIMIT) == {}


@pytest.mark.parametrize("kind", ELEMENTS)
def test_new_names_in_many_drafts_take_no_memory_afterwards(kind: str) -> None:
    assert growth(kind) < 20 * 1024 * 1024
