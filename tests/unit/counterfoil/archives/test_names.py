"""
Names: safe for every destination, apart from each other, and the same each time.
"""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from counterfoil.archives.names import NameAllocator, PathTemplate, TemplateInvalid, case_folded, safe_segment
from sandbox.esaw.core.filenames import AWKWARD_NAMES

ANY_TEXT = st.text(st.characters(blacklist_categories=()), max_size=300)
FORBIDDEN = set('/\\<>:"|?*\0') | {chr(code) for code in (*range(32), *range(127, 160))}
TURNING = set("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
WINDOWS_DEVICES = {"CON", "PRN", "AUX", "NUL", "COM1", "LPT9"}


@given(ANY_TEXT)
@example("..")
@example("e\u200b\u0301")
@example("CON .pdf")
def test_whatever_the_text_the_segment_is_safe_everywhere(text: str) -> None:
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


def test_a_long_name_keeps_its_extension_and_ends_between_characters() -> None:
    name = safe_segment("ä" * 200 + ".pdf")

    assert len(name.encode()) <= 255
    assert name.startswith("ää")
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


def test_a_value_never_makes_a_segment_of_its_own() -> None:
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
        ("a\\b/{{envelope.id}}/{{file.name}}", "backslash"),
        ("{{envelope.id}}/{{file.size}}/{{file.name}}", "{{file.size}}"),
        ("{{envelope.id}}/{{tags.unknown}}/{{file.name}}", "{{tags.unknown}}"),
        ("{{envelope.id}}/{{file.name}", "single"),
        ("{{ envelope.id }}/{{file.name}}", "single"),
    ],
)
def test_a_template_that_cannot_name_files_says_why(path: str, fault: str) -> None:
    with pytest.raises(TemplateInvalid, match=fault.replace("{", r"\{").replace("}", r"\}")):
        PathTemplate.parse(path, tags={"known"})
