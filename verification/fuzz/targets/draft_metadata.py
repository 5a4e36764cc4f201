"""The metadata of a draft, into which the form's values are written."""

from verification.fuzz.target import Check, Target, expect, joined, parts_of, promised, text_of
from webhook.pages.metadata import DraftMetadataUnreadable, merged, values_in

LIMIT = 64 * 1024
NAMES = ("customer", "costCenter", "note")


def _prepare() -> Check:
    def check(data: bytes) -> None:
        metadata, *given = (text_of(each) for each in parts_of(data, 4))
        # A browser sends a form in UTF-8.
        values = {name: value for name, value in zip(NAMES, given, strict=True) if value.isprintable()}
        before = values_in(metadata, NAMES, limit=LIMIT)
        expect(set(before) <= set(NAMES), "only asked names are read")
        after = merged(metadata, values, limit=LIMIT)
        with promised("what was written can be read"):
            found = values_in(after, NAMES, limit=LIMIT)
            again = merged(after, values, limit=LIMIT)
        expect(again == after, "to write twice is the same as once")
        for name, value in values.items():
            if value:
                expect(
                    found.get(name) == value.replace("\ufffe", "").replace("\uffff", ""), "a value is stored"
                )

    return check


TARGET = Target(
    subject="the metadata of a draft, with the values of the form",
    documented=(DraftMetadataUnreadable,),
    seeds=(
        joined("<tags><customer>ACME</customer></tags>", "x", "", "a & b"),
        joined(
            '<?xml version="1.0"?><t:a xmlns:t="urn:t" xmlns="urn:d"><t:customer/><!-- c --></t:a>', "", "1"
        ),
        joined('{"customer": 1.50, "note": null, "a": {"b": [1]}}', "x", "y", "\u00e4"),
        joined("", "x"),
        joined("<a><customer><b/></customer></a>", "x"),
    ),
    words=(*(b'<customer> </customer> xmlns= <![CDATA[ <!DOCTYPE "customer": \\u0000 { \xff').split(b" "),),
    prepare=_prepare,
    max_length=2048,
)
