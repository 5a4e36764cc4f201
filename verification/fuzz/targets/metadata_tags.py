"""The metadata of an envelope, XML and JSON, with rules for tags: the function of the bounded process."""

import json
from io import BytesIO

import msgspec

from counterfoil.archives.tags import VALUE_LIMIT, normalize
from counterfoil.archives.tags_subprocess import TagRequest, TagResult, answer_request
from counterfoil.resources.archive import TagRule
from verification.fuzz.target import Check, Target, expect, text_of

RULES = {
    "customer": TagRule(xpath="/tags/customer"),
    "any": TagRule(xpath="//*"),
    "attribute": TagRule(xpath="string(//@*)"),
    "count": TagRule(xpath="count(//*) > 1"),
    "number": TagRule(xpath="number(//amount) div 3"),
    "prefixed": TagRule(xpath="//default:customer | //t:customer"),
    "text": TagRule(xpath="//text()[normalize-space()]"),
    "member": TagRule(json_path="$.customer"),
    "deep": TagRule(json_path="$..amount"),
    "filtered": TagRule(json_path="$.parts[?@.price > 10].name"),
    "slice": TagRule(json_path="$.parts[0:3]['name']"),
    "matched": TagRule(json_path="$.parts[?match(@.name, 'a.*')].price"),
    "url": TagRule(callback="costCenter"),
    "fixed": TagRule(value="{{organization}}-{{envelope.id}}"),
}

NAMES = list(RULES)

REQUIRED = {name: msgspec.structs.replace(rule, required=True) for name, rule in RULES.items()}

REQUIRED_BIT = 0x10
"""In the first byte of an input: the tags are required."""


def _chosen(number: int) -> dict[str, TagRule]:
    """Return the rules for the first byte of an input: mostly three, since each needs time; sometimes all."""
    rules = REQUIRED if number & REQUIRED_BIT else RULES
    first = number % 16
    if first == 15:
        return rules
    return {name: rules[name] for name in (NAMES[(first + step) % len(NAMES)] for step in (0, 5, 9))}


def _prepare() -> Check:
    fields, parameters = {"organization": "acme", "envelope.id": "1"}, {"costCenter": "47"}

    def check(data: bytes) -> None:
        rules = _chosen(sum(data[:1]))
        request = TagRequest(rules, text_of(data[1:]), fields, parameters)
        notes: list[bytes] = []
        encoded = json.dumps(msgspec.to_builtins(request)).encode()
        answer = answer_request(encoded, 0, BytesIO(), notes.append)
        result = msgspec.json.decode(answer, type=TagResult)
        expect({each.decode() for each in notes} <= set(rules), "a note names a rule")
        expect(set(result.tags) <= set(rules), "a tag belongs to a rule")
        for value in result.tags.values():
            expect(0 < len(value) <= VALUE_LIMIT, "a tag is neither empty nor long")
            expect(normalize(value) == value, "a tag has no control characters")

    return check


TARGET = Target(
    subject="metadata (XML, JSON) with rules in XPath and JSONPath",
    documented=(),
    seeds=(
        b"\x0f<tags><customer>ACME</customer><amount>12.5</amount></tags>",
        b'\x05<t:tags xmlns:t="urn:t" xmlns="urn:d" a="b"><customer>x</customer><t:customer/></t:tags>',
        b"\x01<?xml version='1.0'?><a><!-- c --><![CDATA[d]]><?p q?>&#65;&amp;</a>",
        b"\x03<a><amount>1</amount><amount/></a>",
        b'\x0f{"customer": "ACME", "parts": [{"name": "ab", "price": 12.0}, {"name": 1, "price": true}]}',
        b'\x09{"parts": [{"name": "ab", "price": 12.5}, {"name": 1, "price": 11}]}',
        b'\x18[{"amount": 1e3}, {"amount": null}, [[]], "\\u00e4"]',
        b'\x17"a["',
        b"\x1f",
    ),
    words=(
        *(
            b'<customer> </customer> xmlns= xmlns:t=" <![CDATA[ ]]> <!DOCTYPE &#x "parts": "name": '
            b'"price": "amount": 1e308 \\ud800 NaN -Infinity'
        ).split(b" "),
    ),
    prepare=_prepare,
    max_length=2048,
)
