"""
Tags out of metadata that takes long to look through, because it is long or because somebody wants that.
"""

import json
from dataclasses import replace

import pytest

from counterfoil.archives.errors import SettingsInvalid
from counterfoil.archives.layout import ActionFacts
from counterfoil.archives.tags import MetadataUnreadable, TagMissing, collect
from counterfoil.archives.tags_subprocess import TOO_EXPENSIVE, collect_in_subprocess, is_light
from counterfoil.resources.archive import ArchiveSpec, Filesystem, TagRule
from tests.support.fakes.archives import an_envelope

FORM = json.dumps({f"field{number}": f"value {number}" for number in range(40)})
LONG = json.dumps({"items": [{"no": number} for number in range(2000)], "customer": "Müller \ud83d"})
DEEP_XML = f"{'<contract>' * 200}{'<no/>' * 20_000}{'</contract>' * 200}"
DEEP_JSON = '{"contract":' * 90 + json.dumps([{"no": ""}] * 40_000) + "}" * 90
AT_ONCE = TagRule(value="{{envelope.name}}")


async def found(metadata: str, cpu_seconds: int = 1, **rules: TagRule) -> dict[str, str]:
    spec = ArchiveSpec(filesystem=Filesystem(root="/archive"), tags=rules)
    envelope = replace(an_envelope(metadata=metadata), actions=(ActionFacts("a", "", {"orderNo": "4711"}),))
    return await collect_in_subprocess(spec, envelope, cpu_seconds=cpu_seconds)


def test_what_a_form_makes_is_light_and_what_is_long_is_not() -> None:
    assert is_light("")
    assert is_light(FORM)
    assert is_light(f"<form>{'<field>a, b: c</field>' * 60}</form>")
    assert not is_light(LONG)
    assert not is_light(DEEP_XML)
    assert is_light("<" * 2_000_000), "it is not read at all"


@pytest.mark.parametrize("metadata", [FORM, LONG])
async def test_what_is_found_is_the_same_wherever_it_is_looked_for(metadata: str) -> None:
    rules = {"no": TagRule(json_path="$.items[1999].no"), "any": TagRule(json_path="$.*"), "name": AT_ONCE}
    wanted = collect(rules, metadata, {"envelope.name": "Contract"})
    assert await found(metadata, 5, **rules) == wanted


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [
        (DEEP_XML, TagRule(xpath="//contract//no", required=True)),
        (DEEP_JSON, TagRule(json_path="$..contract..no", required=True)),
    ],
    ids=["XML", "JSON"],
)
async def test_metadata_that_is_made_to_take_long_is_given_up(metadata: str, rule: TagRule) -> None:
    with pytest.raises(MetadataUnreadable, match=TOO_EXPENSIVE):
        await found(metadata, no=rule)


async def test_a_tag_that_nobody_needs_is_left_out_and_the_others_are_there() -> None:
    assert await found(DEEP_XML, no=TagRule(xpath="//contract//no"), name=AT_ONCE) == {"name": "Contract"}


async def test_what_is_missing_or_wrong_is_told_as_ever() -> None:
    with pytest.raises(TagMissing, match=r"`no` is required, but the jsonPath `\$\.no` finds nothing"):
        await found(LONG, 5, no=TagRule(json_path="$.no", required=True))
    with pytest.raises(MetadataUnreadable, match="it is not well-formed XML"):
        await found(LONG, 5, no=TagRule(xpath="//no", required=True))
    with pytest.raises(SettingsInvalid, match="does not compile"):
        await found(LONG, no=TagRule(xpath="//["))


@pytest.mark.parametrize("metadata", [FORM, LONG, DEEP_XML], ids=["light", "long", "given up"])
async def test_a_parameter_of_the_callback_is_found_whatever_the_metadata(metadata: str) -> None:
    rules = {"order": TagRule(callback="orderno", required=True), "no": TagRule(xpath="//contract//no")}
    assert await found(metadata, 1, **rules) == {"order": "4711"}
