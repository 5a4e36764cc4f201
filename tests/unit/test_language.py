"""The language linter refuses planted phrases in prose, and leaves identifiers and code alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from docs.tools import check_language
from docs.tools.check_language import Rules, check, check_subject

RULES = Rules.parse(check_language.WORD_LIST.read_text(encoding="utf-8"))

SENTENCE = " ".join(["word"] * 24)
"""24 words of a sentence."""


def found(path: str, source: str) -> list[tuple[int, str]]:
    return [(finding.line, finding.phrase) for finding in check(path, source, RULES)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("A = 1\n# It is read anew.\n", [(2, "anew")], id="a comment"),
        pytest.param("A = 1  # It is read anew.\n", [(1, "anew")], id="a comment behind code"),
        pytest.param("# The key is noted\n# down here.\n", [(1, "noted down")], id="two lines of comment"),
        pytest.param(
            'def f() -> None:\n    """\n    Return.\n\n    Whoever asks.\n    """\n',
            [(5, "whoever")],
            id="a docstring",
        ),
        pytest.param('A = "the archive was mended"\n', [(1, "mended")], id="a string"),
        pytest.param(
            'A = (\n    "the archive was noted "\n    "down"\n)\n', [(2, "noted down")], id="adjacent strings"
        ),
        pytest.param('A = f"{count} events are read anew"\n', [(1, "anew")], id="an f-string"),
        pytest.param('A = f"""\n{count}\nread anew\n"""\n', [(3, "anew")], id="an f-string of several lines"),
        pytest.param('A = "first line\\nanew"\n', [(1, "anew")], id="a string with an escape"),
        pytest.param('A = "Mended, again"\n', [(1, "mended")], id="upper case"),
        pytest.param('A = 1\n"""How many there are."""\n', [(2, "how many")], id="an opening"),
    ],
)
def test_a_phrase_is_refused_in_python(source: str, expected: list[tuple[int, str]]) -> None:
    assert found("a.py", source) == expected


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("mended = anew(whoever)\n", id="an identifier"),
        pytest.param('words = {"mended": mended, "a.anew": 1}\n', id="a string that is a key"),
        pytest.param('A = f"it was {mended} {anew[0]}"\n', id="an identifier inside an f-string"),
        pytest.param(
            "# See `mended` and ``anew()``, in mended.py and docs/anew-keys.md.\n", id="code in a comment"
        ),
        pytest.param('"""\nCall ``mended\nanew``.\n"""\n', id="code over two lines"),
        pytest.param("# It was noted.\nA = 1\n# Down there.\n", id="separate comments"),
        pytest.param('A = ["the key was noted", "down there"]\n', id="separate strings"),
        pytest.param('A = "How many there are."\n', id="an opening of another string"),
    ],
)
def test_code_is_not_refused(source: str) -> None:
    assert found("a.py", source) == []


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("a.md", "Text\n\n- an item that is noted\n  down\n", [(3, "noted down")]),
        ("a.md", "| A | read anew |\n", [(1, "anew")]),
        ("a.md", "[read anew](docs/mended.md)\n", [(1, "anew")]),
        ("a.yaml", "a:\n  # Read anew.\n  b: 1\n", [(2, "anew")]),
        ("a.yaml", "a: >-\n  the key is noted\n  down\n", [(2, "noted down")]),
        ("a.toml", 'a = "it is read anew"\n', [(1, "anew")]),
        ("a.html", '<p title="Mended keys">\n{{ anew }} read anew</p>\n', [(1, "mended"), (2, "anew")]),
        ("a.txt", "{% if anew %}\nread anew\n{% endif %}\n", [(2, "anew")]),
        ("a.tpl", "{{/* Read\nanew. */}}\n", [(2, "anew")]),
        ("a.css", "p { }\n/* Read anew. */\n", [(2, "anew")]),
        ("Makefile", "lint: setup ## read anew\n\tanew\n# Read anew.\n", [(1, "anew"), (3, "anew")]),
    ],
)
def test_a_phrase_is_refused_in_other_files(path: str, source: str, expected: list[tuple[int, str]]) -> None:
    assert found(path, source) == expected


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("a.md", "```console\n$ anew\n```\n"),
        ("a.md", "- Item:\n\n  ~~~\n  anew\n  ```\n  ~~~\n"),
        ("a.md", "Call `anew` or `it is\nanew`.\n"),
        ("a.yaml", "anew: mended\n- name: mended\n"),
        ("a.toml", '[anew]\nanew = "mended"\n'),
        ("a.html", '<p class="anew">{{ mended }}{% if anew %}<code>it is anew</code>{% endif %}</p>\n'),
        ("a.js", "anew(mended);\n"),
        ("Makefile", "anew:\n\tmended\n"),
        ("counterfoil/i18n/mails/de.toml", 'a = "mended anew"\n'),
        ("a.json", '{"a": "read anew"}\n'),
    ],
)
def test_code_and_other_languages_are_not_refused_in_other_files(path: str, source: str) -> None:
    assert found(path, source) == []


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("test_a_key_is_sealed_anew", ["anew"]),
        ("test_whoever_asks_is_told", ["whoever", "is told"]),
        ("test_a_sender_told_once_stays_told", ["told", "told"]),
        ("test_a_callback_that_was_noted_is_counted", ["noted"]),
        ("test_a_strangers_file_is_kept", ["strangers"]),
        ("test_a_controller_hears_of_trouble", ["hears", "trouble"]),
        ("test_a_key_is_sealed_again", []),
        ("test_a_stand_in_answers_a_look_up", []),
        ("a_helper_that_is_told", []),
    ],
)
def test_the_name_of_a_test_is_a_sentence_in_plain_words(name: str, expected: list[str]) -> None:
    source = f"\n\nclass TestA:\n    async def {name}(self) -> None: ...\n\n\ndef {name}() -> None: ...\n"
    assert found("tests/test_a.py", source) == [(line, phrase) for line in (4, 7) for phrase in expected]


def test_a_longer_phrase_may_be_good_english() -> None:
    assert found("a.md", "The server stands in for eSAW.\n") == []
    assert found("a.md", "The key stands in a Secret.\n") == [(1, "stands in")]


@pytest.mark.parametrize(
    ("path", "source", "lines"),
    [
        pytest.param("docs/a.md", f"Short one.\n{SENTENCE}\none two.\n", [2], id="26 words"),
        pytest.param("docs/a.md", f"{SENTENCE} e.g. two words.\n", [1], id="an abbreviation"),
        pytest.param("docs/a.md", f"{SENTENCE} one. Short one.\n", [], id="25 words"),
        pytest.param("docs/a.md", f"{SENTENCE} `one two three`.\n", [], id="code is one word"),
        pytest.param("docs/a.md", f"- {SENTENCE}\n- {SENTENCE}\n", [], id="items"),
        pytest.param("docs/a.md", f"| {SENTENCE} one two |\n", [], id="a table"),
        pytest.param("docs/a.md", f"```\n{SENTENCE} one two\n```\n", [], id="a code fence"),
        pytest.param("docs/a/b.md", f"{SENTENCE} one two\n", [1], id="a folder of the manual"),
        pytest.param("docs/reference/a.md", f"{SENTENCE} one two\n", [], id="a generated page"),
        pytest.param("verification/bench/a.md", f"{SENTENCE} one two\n", [], id="not the manual"),
        pytest.param("a/en.toml", f'a = "One."\nb = "{SENTENCE} one two"\n', [2], id="an English catalogue"),
        pytest.param(
            "counterfoil/cli/a.py", f'A = (\n    "{SENTENCE} "\n    "one two"\n)\n', [2], id="a help text"
        ),
    ],
)
def test_a_sentence_has_at_most_25_words(path: str, source: str, lines: list[int]) -> None:
    assert [line for line, _ in found(path, source)] == lines


@pytest.mark.parametrize(
    ("subject", "refused"),
    [
        ("Fence archive writes with the shard's Lease", []),
        ("Embed the fonts", []),
        (f"Add {'x' * 69}", [f"Add {'x' * 69}"]),
        ("Added a lease", ["Added"]),
        ("Adding a lease", ["Adding"]),
        ("add a lease", ["add"]),
        ("Add a lease.", ["Add a lease."]),
        ("Read keys anew", ["anew"]),
    ],
)
def test_the_subject_of_a_commit_is_short_imperative_and_plain(subject: str, refused: list[str]) -> None:
    assert [finding.phrase for finding in check_subject("abc1234", subject, RULES)] == refused


def test_a_finding_says_where_what_and_what_instead() -> None:
    [phrase] = check("a.md", "Read anew.\n", RULES)
    assert str(phrase) == 'a.md:1: "anew": say "again"'
    [sentence] = check("docs/a.md", f"{SENTENCE} one two.\n", RULES)
    assert str(sentence) == (
        'docs/a.md:1: "word word word word word word ...": '
        'say "it in sentences of at most 25 words" (this one has 26)'
    )


def test_the_command_checks_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.md").write_text("Read anew.\n", encoding="utf-8")
    (tmp_path / "b.md").write_text("Read again.\n", encoding="utf-8")
    refused = _run(str(tmp_path / "folder"), str(tmp_path / "b.md"))
    assert (refused.returncode, refused.stdout) == (1, f'{tmp_path}/folder/a.md:1: "anew": say "again"\n')
    accepted = _run(str(tmp_path / "b.md"))
    assert (accepted.returncode, accepted.stdout) == (0, "")


def test_the_linter_keeps_its_own_rules() -> None:
    path = Path(check_language.__file__)
    assert check("docs/tools/check_language.py", path.read_text(encoding="utf-8"), RULES) == []


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, check_language.__file__, *arguments], capture_output=True, check=False, text=True
    )
