"""
Tags: what rules find in metadata, and what a hostile metadata can't do.
"""

import json
import time

import pytest

from counterfoil.archives.tags import (
    MetadataTooHeavy,
    MetadataUnreadable,
    TagMissing,
    collect,
    find,
    problems,
    reads_metadata,
)
from counterfoil.resources.archive import TagRule

FIELDS = {"envelope.name": "Lease", "sender.email": "ann@acme.example"}
XML = (
    '<?xml version="1.0" encoding="utf-16"?><meta><no>4711</no><no>4712</no><who role="buyer"> '
    "Ann\n<b>B.</b></who><empty/></meta>"
)
JSON = '{"contract": {"no": 4711, "value": 12.0, "urgent": true, "parties": ["Ann", "Bob"], "note": null}}'


def from_xml(xpath: str, metadata: str | None = XML, *, required: bool = True) -> str | None:
    return collect({"tag": TagRule(xpath=xpath, required=required)}, metadata, FIELDS).get("tag")


def from_json(path: str, metadata: str | None = JSON, *, required: bool = True) -> str | None:
    return collect({"tag": TagRule(json_path=path, required=required)}, metadata, FIELDS).get("tag")


@pytest.mark.parametrize(
    ("xpath", "value"),
    [
        ("/meta/no", "4711"),
        ("/meta/no[2]/text()", "4712"),
        ("//who/@role", "buyer"),
        ("//who", "Ann B."),
        ("string(//who/b)", "B."),
        ("count(//no)", "2"),
        ("//no = 4712", "true"),
        ("//empty | //no", "4711"),
    ],
)
def test_an_xpath_finds_the_first_value_that_is_not_empty(xpath: str, value: str) -> None:
    assert from_xml(xpath) == value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$.contract.no", "4711"),
        ("$.contract.value", "12"),
        ("$.contract.urgent", "true"),
        ("$.contract.parties[1]", "Bob"),
        ("$.contract.parties[*]", "Ann"),
        ("$..no", "4711"),
        ("$.contract.parties[?@ == 'Bob']", "Bob"),
    ],
)
def test_a_jsonpath_finds_the_first_scalar(path: str, value: str) -> None:
    assert from_json(path) == value


@pytest.mark.parametrize("path", ["$.contract", "$.contract.parties", "$.contract.note", "$.nothing"])
def test_objects_arrays_and_null_are_no_values(path: str) -> None:
    assert from_json(path, required=False) is None


def test_a_fixed_value_may_use_the_properties_of_the_envelope() -> None:
    rules = {"from": TagRule(value="eSAW: {{sender.email}}, {{envelope.name}}")}

    assert collect(rules, None, FIELDS) == {"from": "eSAW: ann@acme.example, Lease"}


def test_a_namespace_is_known_by_its_prefix_and_the_default_one_as_default() -> None:
    metadata = '<m xmlns="urn:m" xmlns:x="urn:x"><x:no>1</x:no><no>2</no></m>'

    assert from_xml("//x:no", metadata) == "1"
    assert from_xml("//default:no", metadata) == "2"
    assert from_xml("//unknown:no", metadata, required=False) is None


@pytest.mark.parametrize(
    "each", ["\ufffe", "\uffff", "\ufdd0", "\ufdef", "\U0001ffff", "\U0010fffe"], ids=ascii
)
def test_what_is_no_character_becomes_a_space(each: str) -> None:
    assert collect({"tag": TagRule(json_path="$.v")}, json.dumps({"v": f"a{each}b"}), FIELDS) == {
        "tag": "a b"
    }


def test_a_value_is_trimmed_tidied_and_bounded() -> None:
    tags = collect({"tag": TagRule(json_path="$.v")}, '{"v": "  a\\u0000\\nb' + "x" * 5000 + '"}', FIELDS)

    assert tags["tag"].startswith("a bx")
    assert len(tags["tag"]) == 1024


@pytest.mark.parametrize("metadata", [None, "", "  \n", "<meta/>"])
def test_a_required_tag_that_is_not_there_names_itself_and_its_rule(metadata: str | None) -> None:
    with pytest.raises(TagMissing) as trouble:
        from_xml("//contractNo", metadata)

    assert trouble.value.reason == "TagMissing"
    assert trouble.value.message == (
        "The tag `tag` is required, but the xpath `//contractNo` finds nothing in the envelope's metadata. "
        "Correct spec.tags.tag of the Archive, or make it not required."
    )


def test_an_optional_tag_that_is_not_there_is_left_out() -> None:
    assert from_xml("//contractNo", required=False) is None


@pytest.mark.parametrize("metadata", ["no xml", "<a>", "<a></b>", JSON, "\ud800<a/>", "<a>" * 100_000])
def test_a_required_tag_cannot_come_from_what_is_no_xml(metadata: str) -> None:
    with pytest.raises(MetadataUnreadable):
        from_xml("//no", metadata)


@pytest.mark.parametrize("metadata", ["{", XML, "[" * 100_000, '{"a": 1} x'])
def test_a_required_tag_cannot_come_from_what_is_no_json(metadata: str) -> None:
    with pytest.raises(MetadataUnreadable):
        from_json("$.no", metadata)


def test_metadata_that_cannot_be_read_does_not_matter_to_optional_tags() -> None:
    rules = {"contract": TagRule(xpath="//no"), "from": TagRule(value="{{sender.email}}")}

    assert collect(rules, "free text", FIELDS) == {"from": "ann@acme.example"}


def test_tags_are_collected_in_the_order_of_their_names_and_each_is_named_before() -> None:
    named: list[str] = []
    rules = {"b": TagRule(value="2"), "a": TagRule(xpath="//none"), "c": TagRule(value="3")}

    assert list(find(rules, XML, FIELDS, on_rule=named.append).values) == ["b", "c"]
    assert named == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (TagRule(xpath="//no"), True),
        (TagRule(json_path="$.no"), True),
        (TagRule(callback="no"), False),
        (TagRule(value="no"), False),
    ],
)
def test_only_paths_read_the_metadata(rule: TagRule, expected: bool) -> None:
    assert reads_metadata(rule) is expected


def test_metadata_that_takes_too_much_names_the_rule_and_the_limits() -> None:
    trouble = MetadataTooHeavy("no", TagRule(json_path="$..no"), "10 s")

    assert trouble.reason == "MetadataTooHeavy"
    assert trouble.message.startswith(
        "The tag `no` can't be determined: the jsonPath `$..no` takes more than 10 s on the "
    )


BILLION_LAUGHS = (
    '<!DOCTYPE m [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]><m>&j;</m>"
)


@pytest.mark.parametrize(
    "metadata",
    [
        BILLION_LAUGHS,
        '<!DOCTYPE m [<!ENTITY x SYSTEM "file:///etc/passwd">]><m>&x;</m>',
        '<!DOCTYPE m [<!ENTITY x SYSTEM "http://127.0.0.1:9/">]><m>&x;</m>',
        '<!DOCTYPE m SYSTEM "file:///etc/passwd"><m>1</m>',
        '<?xml version="1.0"?>\n<!DOCTYPE m [<!ATTLIST m a CDATA "&b;">]><m>1</m>',
    ],
)
def test_a_document_type_declaration_is_refused_before_anything_is_parsed(metadata: str) -> None:
    with pytest.raises(MetadataUnreadable, match="document type"):
        from_xml("//m", metadata)


def test_an_entity_without_a_declaration_is_no_xml() -> None:
    with pytest.raises(MetadataUnreadable):
        from_xml("//m", "<m>&x;</m>")


def test_a_namespace_in_the_metadata_gives_a_rule_no_regular_expressions() -> None:
    metadata = '<m xmlns:re="http://exslt.org/regular-expressions"><no>1</no></m>'

    assert from_xml("//no[re:test(., '1')]", metadata, required=False) is None


def test_metadata_is_at_most_255_elements_deep() -> None:
    assert from_xml("//no", f"{'<m>' * 255}<no>1</no>{'</m>' * 255}") == "1"
    with pytest.raises(MetadataUnreadable, match="not well-formed"):
        from_xml("//no", f"{'<m>' * 256}<no>1</no>{'</m>' * 256}")


def test_in_metadata_that_is_too_deep_for_a_jsonpath_it_finds_nothing() -> None:
    assert from_json("$..no", f"{'[' * 500}{']' * 500}", required=False) is None


@pytest.mark.parametrize(
    ("metadata", "value"),
    [('"a[b"', "a[b"), ('"{"', "{"), ('"12.0"', "12.0"), (r'"{\"a\": 1}"', '{"a": 1}'), (r'"\"a\""', '"a"')],
)
def test_metadata_that_is_one_text_in_json_is_read_once(metadata: str, value: str) -> None:
    assert from_json("$", metadata) == value
    assert from_json("$.a", metadata, required=False) is None
    assert from_json("$[?@.a == $.b]", metadata, required=False) is None


def test_an_xinclude_is_text_like_any_other() -> None:
    metadata = (
        '<m xmlns:xi="http://www.w3.org/2001/XInclude"><xi:include href="file:///etc/passwd" '
        'parse="text"/></m>'
    )

    assert from_xml("/m", metadata, required=False) is None


@pytest.mark.parametrize("metadata", ["<m>" + "x" * 1_048_576 + "</m>", "<m>" + "ä" * 524_288 + "</m>"])
def test_metadata_beyond_one_mebibyte_is_not_read(metadata: str) -> None:
    with pytest.raises(MetadataUnreadable, match="longer than 1 MiB"):
        from_xml("//m", metadata)


@pytest.mark.parametrize("text", ["x" * 1_048_569, "ä" * 524_284 + "x"])
def test_metadata_of_one_mebibyte_is_read(text: str) -> None:
    assert from_xml("//m", f"<m>{text}</m>") == text[:1024]


@pytest.mark.parametrize("half", [chr(0xD800), chr(0xDFFF)], ids=["first", "last"])
def test_metadata_with_halves_of_characters_is_not_read(half: str) -> None:
    for read, metadata in ((from_xml, f"<m>{half}</m>"), (from_json, f'"{half}"')):
        with pytest.raises(MetadataUnreadable) as trouble:
            read("//m", metadata)
        assert trouble.value.reason == "MetadataUnreadable"
        assert trouble.value.message == (
            "The envelope's metadata can't be read: it has halves of characters."
        )


def test_characters_around_the_halves_are_read() -> None:
    assert from_json("$", '"\ud7ff\ue000\U0001f600"') == "\ud7ff\ue000\U0001f600"


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        (TagRule(xpath="//a["), "spec.tags.tag: the xpath does not compile: Invalid expression"),
        (TagRule(xpath=""), "spec.tags.tag: the xpath does not compile"),
        (TagRule(xpath="\x00"), "spec.tags.tag: the xpath does not compile: All strings must be XML"),
        (
            TagRule(xpath="//a[shout(@b)]"),
            "spec.tags.tag: the xpath has functions that do not exist: shout()",
        ),
        (
            TagRule(xpath="re:test(/a, 'b(')"),
            "spec.tags.tag: the xpath has functions that do not exist: re:test()",
        ),
        (
            TagRule(json_path="$.a["),
            "spec.tags.tag: the jsonPath does not compile: unexpected end of query",
        ),
        (TagRule(json_path=""), "spec.tags.tag: the jsonPath does not compile"),
        (TagRule(json_path="a.b"), "spec.tags.tag: the jsonPath does not compile"),
        (
            TagRule(value="{{file.name}}"),
            "spec.tags.tag: value has placeholders that do not exist: {{file.name}}",
        ),
        (TagRule(), "spec.tags.tag: exactly one of xpath, jsonPath, callback and value must be set"),
        (
            TagRule(xpath="//a", callback="b"),
            "spec.tags.tag: exactly one of xpath, jsonPath, callback and value must be set",
        ),
        (
            TagRule(xpath="//a", value="b"),
            "spec.tags.tag: exactly one of xpath, jsonPath, callback and value must be set",
        ),
    ],
)
def test_a_rule_that_cannot_work_is_found_before_the_first_envelope(rule: TagRule, fault: str) -> None:
    found = problems({"tag": rule})

    assert len(found) == 1
    assert found[0].startswith(fault)


def test_rules_that_can_work_have_no_problems() -> None:
    rules = {
        "a": TagRule(xpath="//x:a"),
        "b": TagRule(json_path="$..b"),
        "c": TagRule(value="{{organization}}"),
    }

    assert problems(rules) == []


@pytest.mark.parametrize(
    "xpath",
    [
        "normalize-space(/a/b[position() = last()])",
        "//a[@b = 'shout(c)' and (not(c) or (d))]/text()",
        'child::node()[starts-with(name(), "x(")]/ancestor-or-self::comment()',
        "(//a | //b)[(1 + 1) div (2)]",
        "concat ( 'a', string (.) )",
    ],
)
def test_functions_that_there_are_have_no_problems(xpath: str) -> None:
    assert problems({"tag": TagRule(xpath=xpath)}) == []


def from_callback(name: str, parameters: dict[str, str] | None, *, required: bool = False) -> dict[str, str]:
    return collect({"tag": TagRule(callback=name, required=required)}, XML, FIELDS, parameters)


@pytest.mark.parametrize("name", ["orderNo", "ORDERNO"])
def test_a_callback_rule_takes_the_parameter_in_any_letter_case(name: str) -> None:
    assert from_callback(name, {"OrderNo": " 4711 ", "other": "x"}) == {"tag": "4711"}


@pytest.mark.parametrize("parameters", [None, {}, {"other": "x"}, {"orderNo": "  "}])
def test_a_parameter_that_the_callback_did_not_carry_is_no_tag(parameters: dict[str, str] | None) -> None:
    assert from_callback("orderNo", parameters) == {}
    with pytest.raises(TagMissing, match=r"the callback `orderNo` finds nothing in the parameters that"):
        from_callback("orderNo", parameters, required=True)


def test_metadata_that_is_unreadable_does_not_concern_a_callback_rule() -> None:
    rule = TagRule(callback="a", required=True)
    assert collect({"tag": rule}, "<not XML", FIELDS, {"a": "1"}) == {"tag": "1"}


@pytest.mark.parametrize("text", ["a" * 1024, "a-" * 512, "a" + " " * 1022 + "b", "a:" * 512, "a::" * 341])
def test_the_check_of_a_rule_takes_a_time_in_proportion_to_its_length(text: str) -> None:
    before = time.thread_time()
    for each in range(20):
        problems({"tag": TagRule(xpath=f"{text[: 1024 - each]}")})
    assert (time.thread_time() - before) / 20 < 0.002
