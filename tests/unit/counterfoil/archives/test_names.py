"""
Names: safe for every destination, apart from each other, and the same each time.
"""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from counterfoil.archives.names import (
    NameAllocator,
    PathTemplate,
    TemplateInvalid,
    case_folded,
    fill,
    safe_segment,
    split_extension,
    unknown_placeholders,
)
from sandbox.esaw.core.filenames import AWKWARD_NAMES

ANY_TEXT = st.text(st.characters(blacklist_categories=()), max_size=300)
FORBIDDEN = set('/\\<>:"|?*\0') | {chr(code) for code in (*range(32), *range(127, 160))}
TURNING = set("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
WINDOWS_DEVICES = {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9"}


@given(ANY_TEXT)
@example("..")
@example("e\u200b\u0301")
@example("CON .pdf")
def test_with_any_text_the_segment_is_safe_everywhere(text: str) -> None:
    segment = safe_segment(text)

    assert segment
    assert len(segment.encode()) <= 255
    assert not FORBIDDEN & set(segment)
    assert not TURNING & set(segment)
    assert segment == segment.strip(" .")
    assert segment == unicodedata.normalize("NFC", segment)
    assert segment.partition(".")[0].upper() not in WINDOWS_DEVICES
    assert segment.casefold() not in {"counterfoil.json", "counterfoil.sha256"}
    assert not segment.startswith(".counterfoil-")


@given(ANY_TEXT)
def test_a_safe_segment_stays_as_it_is(text: str) -> None:
    assert safe_segment(safe_segment(text)) == safe_segment(text)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("contract.pdf", "contract.pdf"),
        ("Vertrag für Müller & Söhne (1).pdf", "Vertrag für Müller & Söhne (1).pdf"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("a/b\\c:d.pdf", "a_b_c_d.pdf"),
        ("line\nbreak.pdf", "line_break.pdf"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("U\u0308bertrag.pdf", "Übertrag.pdf"),
        (".hidden.pdf", "hidden.pdf"),
        ("trailing dot.pdf. ", "trailing dot.pdf"),
        ("CON.pdf", "CON_.pdf"),
        ("nul", "nul_"),
        ("com1.tar.gz", "com1_.tar.gz"),
        ("console.pdf", "console.pdf"),
        ("Counterfoil.JSON", "Counterfoil_.JSON"),
        ("counterfoil.sha256", "counterfoil_.sha256"),
        ("...", "_"),
        ("", "_"),
    ],
)
def test_each_danger_is_taken_out_and_the_rest_stays_readable(text: str, safe: str) -> None:
    assert safe_segment(text) == safe


@pytest.mark.parametrize("before", ["", "x"], ids=["even-bytes", "odd-bytes"])
def test_a_long_name_keeps_its_extension_and_ends_between_characters(before: str) -> None:
    name = safe_segment(f"{before}{'ä' * 200}.pdf")

    assert len(name.encode()) <= 255
    assert name.startswith(f"{before}ää")
    assert name.endswith(".pdf")


def test_two_long_names_that_differ_only_at_the_end_stay_apart() -> None:
    assert safe_segment("x" * 300 + "1.pdf") != safe_segment("x" * 300 + "2.pdf")


def test_two_very_long_names_that_differ_only_in_the_middle_stay_apart() -> None:
    one, other = (safe_segment("x" * 50_000 + middle + "y" * 50_000 + ".pdf") for middle in "ab")
    assert one != other
    assert one.endswith(".pdf")
    assert len(one.encode()) <= 255


def test_a_long_name_without_an_extension_is_cut_too() -> None:
    assert len(safe_segment("Über die Maßen. " * 40).encode()) <= 255


@given(
    st.lists(
        st.sampled_from(["a.pdf", "A.PDF", "a (2).pdf", "ä.pdf", "A\u0308.pdf", "ß", "SS", *AWKWARD_NAMES])
    )
)
def test_no_two_files_share_a_name_also_where_letter_case_does_not_count(wanted: list[str]) -> None:
    names = NameAllocator()

    given_out = [names.take("folder/" + safe_segment(name)) for name in wanted]

    assert len({case_folded(name) for name in given_out}) == len(wanted)
    assert all(len(name.removeprefix("folder/").encode()) <= 255 for name in given_out)


ALIKE = [
    pytest.param("contract\u200d.pdf", id="zero width joiner"),
    pytest.param("contract\u200c.pdf", id="zero width non-joiner"),
    pytest.param("contract\ufe0e.pdf", id="variation selector 15"),
    pytest.param("contract\ufe0f.pdf", id="variation selector 16"),
    pytest.param("contract\U000e0100.pdf", id="variation selector 17"),
    pytest.param("contract\u034f.pdf", id="combining grapheme joiner"),
    pytest.param("contract\u115f\u1160.pdf", id="Hangul fillers"),
    pytest.param("contract\u17b4\u17b5.pdf", id="Khmer inherent vowels"),
    pytest.param("contract\u180b\u180f.pdf", id="Mongolian variation selectors"),
    pytest.param("contract\u2065.pdf", id="unassigned and ignorable"),
    pytest.param("contract\u3164\uffa0.pdf", id="other Hangul fillers"),
    pytest.param("contract\ufff0\ufff8.pdf", id="unassigned specials"),
    pytest.param("contract\U0001bca0.pdf", id="shorthand format control"),
    pytest.param("contract\U0001d173.pdf", id="musical format control"),
    pytest.param("contract\U000e0fff.pdf", id="last ignorable"),
    pytest.param("\uff23ontract.pdf", id="full-width letter"),
    pytest.param("contrac\u1d57.pdf", id="superscript letter"),
    pytest.param("contract\u2024pdf", id="another dot"),
]


@pytest.mark.parametrize("name", ALIKE)
def test_two_names_that_some_volume_takes_as_one_are_numbered(name: str) -> None:
    names = NameAllocator()
    given_out = [names.take(safe_segment(each)) for each in ("contract.pdf", name)]

    assert "(2)" in given_out[1]


@pytest.mark.parametrize(
    "pair",
    [
        "\u0131i",
        "\u0130i",
        "\u017fs",
        "\u212ak",
        "\u00b5\u03bc",
        "\u1e9e\u00df",
    ],
)
def test_letters_that_some_volume_takes_as_one_are_numbered(pair: str) -> None:
    names = NameAllocator()
    given_out = [names.take(safe_segment(f"{each}.pdf")) for each in pair]

    assert given_out[0] == f"{unicodedata.normalize('NFC', pair[0])}.pdf"
    assert given_out[1].endswith(" (2).pdf")


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("counterfoil\u200d.json", "counterfoil\u200d_.json"),
        ("counterfoil.json\ufe0f", "counterfoil_.json"),
        ("counterf\u00f6il.json", "counterf\u00f6il_.json"),
        ("counterfoil.sha\u00b256", "counterfoil_.sha\u00b256"),
        ("counterfoil.json.s\u0131g", "counterfoil.json_.s\u0131g"),
        ("\u200d.hidden.pdf", "hidden.pdf"),
        ("\u2024counterfoil-1.tmp", "_\u2024counterfoil-1.tmp"),
        ("trailing.pdf.\u200c", "trailing.pdf"),
        ("\u200c \ufe0f", "_"),
        ("C\u200dON.pdf", "C\u200dON_.pdf"),
        ("\uff23ON.pdf", "\uff23ON_.pdf"),
    ],
)
def test_a_character_that_some_volume_ignores_makes_no_reserved_name(text: str, safe: str) -> None:
    assert safe_segment(text) == safe


@given(st.text(max_size=40), st.integers(0, 40))
def test_each_way_in_which_a_volume_compares_names_gives_the_same_folded_name(text: str, at: int) -> None:
    name = safe_segment(text)
    for same in (
        unicodedata.normalize("NFD", name),
        unicodedata.normalize("NFKC", name),
        "".join(each.upper() if len(each.upper()) == 1 else each for each in name),
        "".join(each.lower() if len(each.lower()) == 1 else each for each in name),
        name.casefold(),
        f"{name[:at]}\u200d{name[at:]}",
        case_folded(name),
    ):
        assert case_folded(same) == case_folded(name)


def test_a_name_that_is_longer_than_all_our_names_is_folded_in_linear_time() -> None:
    """Its normal form would take hours."""
    assert case_folded("\u0301\u0323" * 500_000) == "\u0301\u0323" * 500_000


@pytest.mark.parametrize("name", ["Vertrag \u270d\ufe0f.pdf", "\u0645\u06cc\u200c\u062e\u0648.pdf"])
def test_a_joiner_between_visible_characters_stays(name: str) -> None:
    assert safe_segment(name) == name


def test_the_second_of_a_name_is_numbered_before_its_extension() -> None:
    names = NameAllocator()

    assert [names.take(f"x/{name}") for name in ("a.pdf", "A.pdf", "a.pdf")] == [
        "x/a.pdf",
        "x/A (2).pdf",
        "x/a (3).pdf",
    ]


def test_each_repetition_of_a_name_gets_the_next_number_that_is_free() -> None:
    names = NameAllocator()
    wanted = ["a.pdf", "a (3).pdf", "a.pdf", "A.pdf", "a.pdf", "a (3).pdf"]
    assert [names.take(each) for each in wanted] == [
        "a.pdf",
        "a (3).pdf",
        "a (2).pdf",
        "A (4).pdf",
        "a (5).pdf",
        "a (3) (2).pdf",
    ]


def test_a_numbered_name_is_not_longer_than_allowed() -> None:
    names = NameAllocator()
    longest = "x" * 251 + ".pdf"

    names.take(longest)
    second = names.take(longest)

    assert second.endswith(" (2).pdf")
    assert len(second.encode()) == 255


def test_names_are_the_same_on_every_machine_and_in_every_release() -> None:
    names = NameAllocator()
    wanted = [
        "ä" * 148 + ".pdf",
        "a\u0308" * 120 + ".pdf",
        "L" * 296 + ".pdf",
        "CON.pdf",
        "a:b.pdf",
        "A?B.pdf",
        "A_b.pdf",
    ]

    # A change here changes the names of the files of unfinished events.
    assert [names.take(safe_segment(name)) for name in wanted] == [
        "ä" * 121 + "~9a35131a.pdf",
        "ä" * 120 + ".pdf",
        "L" * 242 + "~01677615.pdf",
        "CON_.pdf",
        "a_b.pdf",
        "A_B (2).pdf",
        "A_b (3).pdf",
    ]


def test_a_value_never_adds_a_segment() -> None:
    template = PathTemplate.parse("{{envelope.name}}/{{envelope.id}}/{{file.name}}")

    folder = template.render_folder({"envelope.name": "../../up", "envelope.id": "1"})

    assert folder == "_.._up/1"


def test_the_folder_ends_before_the_first_segment_that_names_a_file() -> None:
    template = PathTemplate.parse("in/{{organization}}-{{envelope.id}}/{{file.kind}}/x/{{file.name}}")

    assert template.folder == ("in", "{{organization}}-{{envelope.id}}")
    assert template.file == ("{{file.kind}}", "x", "{{file.name}}")


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("{{file.name}}", "envelope.id"),
        ("{{envelope.id}}-{{file.name}}", "envelope.id"),
        ("{{file.kind}}/{{envelope.id}}/{{file.name}}", "envelope.id"),
        ("{{envelope.id}}/{{file.kind}}", "file.name"),
        ("{{envelope.id}}", "file.name"),
        ("/{{envelope.id}}/{{file.name}}", "relative"),
        ("{{envelope.id}}/../{{file.name}}", "relative"),
        ("{{envelope.id}}//{{file.name}}", "relative"),
        ("./{{envelope.id}}/{{file.name}}", "relative"),
        ("a\\b/{{envelope.id}}/{{file.name}}", "backslash"),
        ("a\tb/{{envelope.id}}/{{file.name}}", "control character"),
        ("a}/{{envelope.id}}/{{file.name}}", "single"),
        ("{{envelope.id}}/{{file.size}}/{{file.name}}", "{{file.size}}"),
        ("{{envelope.id}}/{{tags.unknown}}/{{file.name}}", "{{tags.unknown}}"),
        ("{{envelope.id}}/{{file.name}", "single"),
        ("{{ envelope.id }}/{{file.name}}", "single"),
    ],
)
def test_a_template_that_cannot_name_files_says_why(path: str, fault: str) -> None:
    with pytest.raises(TemplateInvalid, match=fault.replace("{", r"\{").replace("}", r"\}")):
        PathTemplate.parse(path, tags={"known"})


def test_what_is_no_character_is_replaced_on_every_plane() -> None:
    planes = [chr(plane * 0x10000 + last) for plane in range(17) for last in (0xFFFE, 0xFFFF)]
    for each in [*planes, "\ufdd0", "\ufdef", "\ud800", "\udfff", "\u2028", "\x7f", "\x9f"]:
        assert safe_segment(f"a{each}b") == "a_b", hex(ord(each))
    for each in ["\ufdcf", "\ufdf0", "\U0001fffd", "\U00020000"]:
        assert safe_segment(f"a{each}b") == unicodedata.normalize("NFC", f"a{each}b"), hex(ord(each))


@pytest.mark.parametrize("device", ["con", "prn", "aux", "conin$", "conout$", "com0", "lpt9", "com¹", "lpt³"])
def test_no_segment_is_a_device_of_windows(device: str) -> None:
    assert safe_segment(f"{device}.pdf") == f"{device}_.pdf"


def test_a_segment_of_the_greatest_length_stays_as_it_is_and_one_byte_more_is_cut_to_it() -> None:
    assert safe_segment("x" * 251 + ".pdf") == "x" * 251 + ".pdf"
    cut = safe_segment("x" * 252 + ".pdf")
    assert (len(cut), cut[:242], cut[242], cut[-4:]) == (255, "x" * 242, "~", ".pdf")


def test_an_extension_has_at_most_20_bytes() -> None:
    assert split_extension("a." + "e" * 20) == ("a", "." + "e" * 20)
    assert split_extension("a." + "e" * 21) == ("a." + "e" * 21, "")
    assert split_extension("a." + "ä" * 11) == ("a." + "ä" * 11, "")


@pytest.mark.parametrize("name", ["a", "a.", ".a", ""])
def test_a_name_that_only_begins_or_ends_with_a_dot_has_no_extension(name: str) -> None:
    assert split_extension(name) == (name, "")


def test_only_a_text_longer_than_1024_characters_is_shortened_before_anything_else() -> None:
    # Each replaced slash would differ if the middle had been left out before.
    assert safe_segment("x" * 512 + "/" + "y" * 511) == "x" * 246 + "~ca1d3fa3"
    assert safe_segment("x" * 512 + "/" + "y" * 512) == "x" * 246 + "~6716f544"


def test_a_very_long_text_of_halves_of_characters_is_a_segment_too() -> None:
    one, other = (safe_segment(half * 1025) for half in ("\ud800", "\udfff"))
    assert one.startswith("_____")
    assert one != other


def test_the_beginning_and_the_end_of_a_very_long_text_count_to_the_same_part() -> None:
    assert (
        safe_segment("\u200b" * 500 + "a" * 5000 + "\u200b" * 500 + "b.pdf")
        == "aaaaaaaaaaaa780ba3a0fd07968330e77a95e031b02c3225f032ac9b5c2631473be37b3357f4aaaaaaab.pdf"
    )


def test_placeholders_are_filled_as_they_are_and_unknown_ones_are_empty() -> None:
    assert fill("{{a}}/{{b.c-d}}{{e}}", {"a": "x/y", "b.c-d": "1"}) == "x/y/1"


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("{{a}}", []),
        ("{{a}}{{b}}{{c}}", ["{{b}}", "{{c}}"]),
        ("{a", ["a single { or }"]),
        ("a}", ["a single { or }"]),
        ("{{b}}}", ["{{b}}", "a single { or }"]),
    ],
)
def test_unknown_placeholders_and_lone_braces_are_named(text: str, unknown: list[str]) -> None:
    assert unknown_placeholders(text, {"a"}) == unknown


def test_a_file_is_named_by_its_part_of_the_template_and_by_tags() -> None:
    template = PathTemplate.parse(
        "{{envelope.id}}/{{tags.case}}-{{file.number}}/{{file.name}}", tags={"case"}
    )
    values = {"tags.case": "7/8", "file.number": "1", "file.name": "a.pdf"}
    assert template.render_file(values) == "7_8-1/a.pdf"


def test_a_name_like_our_temporary_names_is_another() -> None:
    assert safe_segment("x/.counterfoil-1").startswith("x_")
    assert safe_segment("\u200b.counterfoil-1.pdf") == "counterfoil-1.pdf"
