"""The metadata of an envelope, XML and JSON, with rules for tags: the function of the bounded process."""

import json
from io import BytesIO

import msgspec

from counterfoil.archives.tags import VALUE_LIMIT, normalize
from counterfoil.archives.tags_subprocess import TagRequest, TagResult, answer_request
from counterfoil.resources.archive import TagRule
from fuzz.target import Check, Target, expect, text_of

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


def _prepare() -> Check:
    fields, parameters = {"organization": "acme", "envelope.id": "1"}, {"costCenter": "47"}
    required = {name: msgspec.structs.replace(rule, required=True) for name, rule in RULES.items()}

    def check(data: bytes) -> None:
        rules = required if data[:1] == b"!" else RULES
        metadata = text_of(data.removeprefix(b"!"))
        request = TagRequest(rules, metadata, fields, parameters)
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
        b"<tags><customer>ACME</customer><amount>12.5</amount></tags>",
        b'<t:tags xmlns:t="urn:t" xmlns="urn:d" a="b"><customer>x</customer><t:customer/></t:tags>',
        b"<?xml version='1.0'?><a><!-- c --><![CDATA[d]]><?p q?>&#65;&amp;</a>",
        b'{"customer": "ACME", "parts": [{"name": "ab", "price": 12.0}, {"name": 1, "price": true}]}',
        b'![{"amount": 1e3}, {"amount": null}, [[]], "\\u00e4"]',
        b"!",
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
