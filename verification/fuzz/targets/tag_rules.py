"""Rules for tags that a person wrote: the check of an Archive, and the evaluation of what passes it."""

from counterfoil.archives.errors import ArchiveError
from counterfoil.archives.tags import MetadataUnreadable, TagMissing, collect, problems
from counterfoil.resources.archive import TagRule
from verification.fuzz.target import Check, Target, expect, text_of

XML = '<tags xmlns:t="urn:t"><customer a="b">ACME</customer><part>1</part><part>2</part><t:c/></tags>'
JSON = '{"customer": "ACME", "parts": [{"name": "ab", "price": 12.0}, {"name": 1}], "n": null}'


def _rule(data: bytes) -> tuple[TagRule, str]:
    text = text_of(data[1:])
    match data[:1]:
        case b"x":
            return TagRule(xpath=text), XML
        case b"v":
            return TagRule(value=text), XML
        case b"c":
            return TagRule(callback=text), XML
    return TagRule(json_path=text), JSON


def _prepare() -> Check:
    fields = {"organization": "acme", "envelope.id": "1"}

    def check(data: bytes) -> None:
        rule, metadata = _rule(data)
        rules = {"tag": rule}
        if faults := problems(rules):
            expect(all(each.startswith("spec.tags.tag: ") for each in faults), "a fault names its rule")
            return
        tags = collect(rules, metadata, fields, {"costCenter": "47"})
        expect(set(tags) <= {"tag"}, "a tag belongs to its rule")

    return check


TARGET = Target(
    subject="rules in XPath and JSONPath, as written into an Archive",
    documented=(TagMissing, MetadataUnreadable, ArchiveError),
    seeds=(
        b"x/tags/customer",
        b"xstring(//t:c/@a) | //part[position() = last()]",
        b"xconcat(substring-before('a-b', '-'), count(//part) * 2)",
        b"j$.customer",
        b"j$.parts[?@.price > 10 && length(@.name) == 2].name",
        b"j$..parts[-1:0:-1, 'a', *]",
        b"j$.parts[?match(@.name, 'a.') || @.price in [1, 2]]",
        b"v{{organization}}/{{envelope.id}}",
        b"ccostCenter",
    ),
    words=(
        *(
            b"// :: @ [ ] ( ) position() ancestor-or-self:: id( $.. ?@. search(@. match(@. value( "
            b"count( && || != \\u ~ {{"
        ).split(b" "),
        b"=~ /a/",
    ),
    prepare=_prepare,
    max_length=1024,
)
