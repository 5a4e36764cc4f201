"""
Refuse words that are not plain technical English: ``python docs/tools/check_language.py [PATH ...]``.

A file flows: source -> its prose (everything else blanked, line numbers kept) -> findings.
docs/language.toml holds the phrases, the plain words for them, and the files that are skipped. The words of
each sentence in the texts that users read are counted too. Without a path, all tracked files are checked, and
the subjects of the newest commits.

The name of a test is a sentence and is checked as one. Other identifiers, code between backticks, code fences
and strings without a space are no prose. This module fixes nothing.
"""

import fnmatch
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
WORD_LIST = Path(__file__).parents[1] / "language.toml"

BREAK = "\0"
"""Ends a block of prose: no phrase and no sentence crosses it."""

DOCSTRING = "\1"
"""Begins a docstring."""

TABLE = "\2"
"""Begins a table cell, whose sentences are not counted."""

CODE = "Code"
"""Replaces a piece of code inside prose, and counts as one word."""


class Advice(NamedTuple):
    """The plain words for a refused phrase."""

    say: str
    because: str = ""

    def __str__(self) -> str:
        return f'say "{self.say}"' + (f" ({self.because})" if self.because else "")


class Finding(NamedTuple):
    """A refused phrase or sentence in one line of a file."""

    path: str
    line: int
    phrase: str
    advice: Advice

    def __str__(self) -> str:
        return f'{self.path}:{self.line}: "{self.phrase}": {self.advice}'


@dataclass(frozen=True)
class Phrases:
    """Refused phrases in all their forms, with one pattern that finds them."""

    advice: Mapping[str, Advice]
    pattern: re.Pattern[str]

    def find(self, text: str) -> Iterator[tuple[int, str, Advice]]:
        """Yield offset, phrase and advice of each refused phrase in a text."""
        for match in self.pattern.finditer(text):
            phrase = " ".join(match["phrase"].lower().split())
            yield match.start("phrase"), phrase, self.advice[phrase]


@dataclass(frozen=True)
class Rules:
    """The content of docs/language.toml."""

    phrases: Phrases
    openings: Phrases
    names: Phrases
    compounds: Sequence[str]
    skip: Sequence[str]
    sentences: Sequence[str]
    longest_sentence: int
    newest_commits: int
    longest_subject: int

    @classmethod
    def parse(cls, text: str) -> "Rules":
        """Read the TOML text of a word list."""
        raw = tomllib.loads(text)
        files, commits, names = raw["files"], raw["commits"], raw["names"]
        return cls(
            # No part of a path, a name or a call: `_mended`, `mended.py` and `mended()` are identifiers.
            phrases=_phrases(raw["phrases"], before=r"(?<![\w/-])(?<![\w)]\.)", after=r"(?![\w(/=-]|\.\w)"),
            openings=_phrases(raw["openings"], before=rf"{DOCSTRING}\s*", after=r"\b"),
            names=_phrases({**raw["phrases"], **names["phrases"]}, before=r"\b", after=r"\b"),
            compounds=tuple(word.replace("-", " ") for word in names["compounds"]),
            skip=tuple(files["skip"]),
            sentences=tuple(files["sentences"]),
            longest_sentence=files["longest_sentence"],
            newest_commits=commits["newest"],
            longest_subject=commits["longest_subject"],
        )

    def skips(self, path: str) -> bool:
        """Whether a file is not checked."""
        return _matches(path, self.skip)


def check(path: str, source: str, rules: Rules) -> list[Finding]:
    """Return the findings in a file, in the order of its lines; none for a kind of file that has no prose."""
    extract = _extractor(path)
    if extract is None or rules.skips(path):
        return []
    prose = extract(source)
    found = list(_test_names(path, source, rules)) if path.endswith(".py") else []
    found += [
        Finding(path, _line(prose, offset), phrase, advice)
        for phrases in (rules.phrases, rules.openings)
        for offset, phrase, advice in phrases.find(prose)
    ]
    if _matches(path, rules.sentences):
        found += _long_sentences(path, prose, rules.longest_sentence)
    return sorted(found, key=lambda finding: finding.line)


_TEST_NAME = re.compile(r"^[ \t]*(?:async )?def test_(?P<name>\w+)", re.MULTILINE)


def _test_names(path: str, source: str, rules: Rules) -> Iterator[Finding]:
    for match in _TEST_NAME.finditer(source):
        sentence = match["name"].replace("_", " ")
        for words in rules.compounds:
            sentence = sentence.replace(words, CODE)
        for _, phrase, advice in rules.names.find(sentence):
            yield Finding(path, _line(source, match.start("name")), phrase, advice)


def check_subject(commit: str, subject: str, rules: Rules) -> Iterator[Finding]:
    """Yield the findings in the subject of a commit."""
    if len(subject) > rules.longest_subject:
        length = f"this one has {len(subject)}"
        yield Finding(commit, 1, subject, Advice(f"it in at most {rules.longest_subject} characters", length))
    verb = subject.partition(" ")[0]
    if _NOT_IMPERATIVE.match(verb):
        yield Finding(commit, 1, verb, Advice("what the commit does, as in Add, Fix, Remove"))
    if subject.endswith("."):
        yield Finding(commit, 1, subject, Advice("it without a full stop"))
    for _, phrase, advice in rules.phrases.find(subject):
        yield Finding(commit, 1, phrase, advice)


_NOT_IMPERATIVE = re.compile(r"(?!Embed|Feed|Need|Speed|Bring|Ring|String)\w+(?:ed|ing)\b|[a-z]")


def sentences(prose: str) -> Iterator[tuple[int, str]]:
    """Yield offset and text of each sentence outside of tables."""
    for block in re.finditer(rf"[^{BREAK}]+", prose):
        if block.group().startswith(TABLE):
            continue
        start = block.start()
        for end in (
            *(match.end() for match in _SENTENCE_END.finditer(prose, start, block.end())),
            block.end(),
        ):
            text = prose[start:end]
            yield start + len(text) - len(text.lstrip()), text.strip()
            start = end


def word_count(sentence: str) -> int:
    """Return the number of words; a piece of code is one word, punctuation is none."""
    return sum(any(character.isalnum() for character in word) for word in sentence.split())


_SENTENCE_END = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\bvs)(?<!\bcf)[.!?][\"\u201d\u2019)\]*_]*\s+(?=\S)")


def _long_sentences(path: str, prose: str, longest: int) -> Iterator[Finding]:
    for offset, sentence in sentences(prose):
        words = word_count(sentence)
        if words > longest:
            beginning = " ".join(sentence.split()[:6])
            advice = Advice(f"it in sentences of at most {longest} words", f"this one has {words}")
            yield Finding(path, _line(prose, offset), f"{beginning} ...", advice)


def _phrases(entries: Mapping[str, Mapping[str, Any]], *, before: str, after: str) -> Phrases:
    advice: dict[str, Advice] = {}
    exceptions: list[str] = []
    for phrase, entry in entries.items():
        for form in (phrase, *entry.get("forms", ())):
            advice[form] = Advice(entry["say"], entry.get("because", ""))
        exceptions += entry.get("unless", ())
    unless = f"(?!(?:{_any(exceptions)})\\b)" if exceptions else ""
    return Phrases(advice, re.compile(f"{before}{unless}(?P<phrase>{_any(advice)}){after}", re.IGNORECASE))


def _any(phrases: Iterable[str]) -> str:
    longest_first = sorted(phrases, key=len, reverse=True)
    return "|".join(r"\s+".join(map(re.escape, phrase.split())) for phrase in longest_first)


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


# -- From a source to its prose --------------------------------------------------------------------


def _extractor(path: str) -> Callable[[str], str] | None:
    pure = PurePosixPath(path)
    return _BY_NAME.get(pure.name) or _BY_SUFFIX.get(pure.suffix)


def _replaced(pattern: re.Pattern[str], replacement: str, text: str) -> str:
    """Replace what a pattern matches, and keep the line numbers."""
    return pattern.sub(lambda match: replacement + "\n" * match.group().count("\n"), text)


_BACKTICKS = re.compile(rf"``[^`{BREAK}]+``|`[^`{BREAK}]+`")
_URL = re.compile(r"\bhttps?://[^\s<>\"')\]]+")


def _without_code(text: str) -> str:
    return _replaced(_URL, CODE, _replaced(_BACKTICKS, CODE, text))


class _Sheet:
    """Collects pieces of prose at the lines where they are in the source."""

    def __init__(self, source: str) -> None:
        self._lines = [""] * (source.count("\n") + 2)

    def write(self, line: int, text: str) -> None:
        for number, part in enumerate(text.split("\n"), start=line - 1):
            self._lines[number] += part

    def __str__(self) -> str:
        return "\n".join(self._lines)


class _Piece(NamedTuple):
    line: int
    text: str


_FSTRING_START, _FSTRING_MIDDLE, _FSTRING_END = (
    getattr(tokenize, f"FSTRING_{name}", -1) for name in ("START", "MIDDLE", "END")
)
"""Token types of Python 3.12 and newer; before, an f-string is one STRING."""

_LAYOUT = frozenset({tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING})


class _PythonProse:
    """Reads Python tokens; adjacent strings are one text, and so are adjacent lines of comment."""

    def __init__(self, source: str) -> None:
        self._sheet = _Sheet(source)
        self._strings: list[_Piece] = []
        self._is_statement = True
        self._may_be_docstring = False
        self._in_comment = False
        self._fstrings = 0

    def read(self, tokens: Iterable[tokenize.TokenInfo]) -> str:
        for token in tokens:
            if token.type in (_FSTRING_START, _FSTRING_END):
                self._begin_string()
                self._fstrings += 1 if token.type == _FSTRING_START else -1
            elif token.type in (tokenize.STRING, _FSTRING_MIDDLE):
                self._begin_string()
                is_whole = token.type == tokenize.STRING
                text = _string_text(token.string) if is_whole else _unescaped(token.string)
                self._strings.append(_Piece(token.start[0], text))
            elif self._fstrings:
                if token.string == "{":
                    self._strings.append(_Piece(token.start[0], CODE))
            elif token.type not in _LAYOUT:
                self._end_strings(is_docstring=self._may_be_docstring and token.type == tokenize.NEWLINE)
                self._read_other(token)
        return str(self._sheet)

    def _begin_string(self) -> None:
        if not self._strings:
            self._may_be_docstring = self._is_statement
        self._is_statement = self._in_comment = False

    def _read_other(self, token: tokenize.TokenInfo) -> None:
        if token.type == tokenize.COMMENT:
            opening = "" if self._in_comment else BREAK
            self._sheet.write(token.start[0], f"{opening} {_without_code(token.string.lstrip('#!: '))}")
            self._in_comment = True
        else:
            self._is_statement = token.type == tokenize.NEWLINE
            self._in_comment = False

    def _end_strings(self, *, is_docstring: bool) -> None:
        if self._strings:
            text = _joined(self._strings)
            if is_docstring or len(text.split()) > 1:
                opening = BREAK + DOCSTRING if is_docstring else BREAK
                self._sheet.write(self._strings[0].line, f"{opening}{_without_code(text)}{BREAK}")
            self._strings = []


def _joined(pieces: Sequence[_Piece]) -> str:
    text, line = "", pieces[0].line
    for piece in pieces:
        text += "\n" * (piece.line - line) + piece.text
        line = piece.line + piece.text.count("\n")
    return text


_STRING = re.compile(r"(?P<prefix>[a-zA-Z]*)(?P<quote>\"\"\"|'''|\"|')(?P<text>.*)(?P=quote)", re.DOTALL)
_PLACEHOLDER = re.compile(r"\{[^{}]*\}")


def _string_text(token: str) -> str:
    match = _STRING.fullmatch(token)
    if match is None:
        return ""
    prefix, text = match["prefix"].lower(), match["text"]
    if "f" in prefix:
        text = _replaced(_PLACEHOLDER, CODE, text)
    return text if "r" in prefix else _unescaped(text)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "\n" else "  ", text, flags=re.DOTALL)


def _python(source: str) -> str:
    return _PythonProse(source).read(tokenize.generate_tokens(io.StringIO(source).readline))


_FENCE = re.compile(r"\s*(?:>\s*)*(?P<fence>`{3,}|~{3,})")
_ITEM = re.compile(r"\s*(?:>\s*)*(?:[-*+]|\d+[.)])\s+")
_LINK_TARGET = re.compile(r"\]\([^)\s]*(?:\s+\"[^\"]*\")?\)")
_BLANK = re.compile(r"[\s>]*")


def _markdown(source: str) -> str:
    lines, fence = [], ""
    for line in source.split("\n"):
        opening = _FENCE.match(line)
        if fence:
            if opening and opening["fence"].startswith(fence):
                fence = ""
            lines.append(BREAK)
        elif opening:
            fence = opening["fence"]
            lines.append(BREAK)
        else:
            lines.append(_markdown_line(line))
    return _inline_tags(_replaced(_LINK_TARGET, "]", _without_code("\n".join(lines))))


def _markdown_line(line: str) -> str:
    text = line.lstrip()
    if _BLANK.fullmatch(line):
        return BREAK
    if text.startswith("|"):
        return BREAK + text.replace("|", BREAK + TABLE) + BREAK
    if text.startswith("#"):
        return BREAK + text.lstrip("#") + BREAK
    item = _ITEM.match(line)
    return BREAK + line[item.end() :] if item else text.removeprefix(">")


_TEMPLATE_COMMENT = re.compile(r"\{\{-?\s*/\*|\*/\s*-?\}\}|\{#-?|-?#\}")
_TEMPLATE_CODE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_NO_TEXT = re.compile(r"<(script|style|code)\b.*?</\1>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<!--|-->|</?[a-zA-Z][^<>]*>")
_SPOKEN_ATTRIBUTE = re.compile(r"\b(?:title|alt|placeholder|content|aria-label)=\"([^\"]*)\"")


def _template(source: str) -> str:
    return _without_code(_replaced(_TEMPLATE_CODE, CODE, _replaced(_TEMPLATE_COMMENT, BREAK, source)))


def _html(source: str) -> str:
    return _inline_tags(_replaced(_NO_TEXT, CODE, _template(source)))


def _inline_tags(text: str) -> str:
    def spoken(match: re.Match[str]) -> str:
        texts = BREAK.join(_SPOKEN_ATTRIBUTE.findall(match.group()))
        return f"{BREAK}{texts}{BREAK}" + "\n" * (match.group().count("\n") - texts.count("\n"))

    return _TAG.sub(spoken, text)


_KEY = re.compile(r"\s*(?:-\s+)*[\"']?[\w./$-]+[\"']?\s*[:=](?:\s+|$)|\s*-\s+|\s*\[+[\w.\"-]+\]+\s*$")
_COMMENT = re.compile(r"(?:^|\s)#+(?:\s|$)")


def _data(source: str) -> str:
    """Read YAML and TOML: values and comments, also inside templates of a chart."""
    lines, in_comment = [], False
    for line in _template(source).split("\n"):
        comment = _COMMENT.search(line)
        value = line[: comment.start()] if comment else line
        key = _KEY.match(value)
        text = value[key.end() :] if key else value
        if key or not text.strip() or in_comment:
            text = BREAK + (text if len(text.split()) > 1 or not key else "")
        is_comment = comment is not None and not value.strip()
        if comment:
            text = ("" if is_comment and in_comment else text + BREAK) + line[comment.end() :]
        in_comment = is_comment
        lines.append(text)
    return "\n".join(lines)


def _hash_comments(source: str) -> str:
    lines = []
    for line in source.split("\n"):
        comment = _COMMENT.search(line)
        is_whole = comment is not None and not line[: comment.start()].strip()
        lines.append(("" if is_whole else BREAK) + line[comment.end() :] if comment else BREAK)
    return _without_code("\n".join(lines))


_BLOCK_COMMENT = re.compile(r"(?<![:\w])//[^\n]*|/\*.*?\*/", re.DOTALL)


def _slash_comments(source: str) -> str:
    prose, end = "", 0
    for match in _BLOCK_COMMENT.finditer(source):
        prose += BREAK + "\n" * source.count("\n", end, match.start()) + match.group().strip("/*")
        end = match.end()
    return _without_code(prose)


_BY_SUFFIX: Mapping[str, Callable[[str], str]] = {
    ".py": _python,
    ".md": _markdown,
    ".html": _html,
    ".txt": _template,
    ".yaml": _data,
    ".yml": _data,
    ".toml": _data,
    ".tpl": _data,
    ".js": _slash_comments,
    ".css": _slash_comments,
    ".sh": _hash_comments,
}
_BY_NAME: Mapping[str, Callable[[str], str]] = dict.fromkeys(
    ("Makefile", "Containerfile", "run", ".dockerignore", ".gitignore", ".helmignore"), _hash_comments
)


# -- Files -----------------------------------------------------------------------------------------


def tracked_files(root: Path) -> list[Path]:
    """Return the files of a work tree that git tracks."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607 - the developer's own git
        cwd=root,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return [root / name for name in listed.split("\0") if name]


def newest_subjects(root: Path, number: int) -> list[tuple[str, str]]:
    """Return the short name and the subject of the newest commits, without merges."""
    listed = subprocess.run(  # noqa: S603 - a number from our own file
        ["git", "log", "--no-merges", f"--max-count={number}", "--format=%h %s"],  # noqa: S607 - the same
        cwd=root,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return [(commit, subject) for commit, _, subject in (line.partition(" ") for line in listed.splitlines())]


def files_below(paths: Iterable[Path]) -> list[Path]:
    """Return the given files, and all files in the given folders."""
    return [
        file
        for path in paths
        for file in (sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path])
    ]


def check_files(files: Iterable[Path], rules: Rules, *, root: Path) -> Iterator[Finding]:
    """Yield the findings in files; paths are shown relative to ``root`` where they are below it."""
    for file in files:
        resolved = file.resolve()
        path = (resolved.relative_to(root) if resolved.is_relative_to(root) else file).as_posix()
        if _extractor(path) is not None and not rules.skips(path) and file.is_file():
            yield from check(path, file.read_text(encoding="utf-8"), rules)


def main(arguments: Sequence[str]) -> int:
    """Print the findings; return 1 if there are any."""
    rules = Rules.parse(WORD_LIST.read_text(encoding="utf-8"))
    files = files_below(map(Path, arguments)) if arguments else tracked_files(ROOT)
    findings = list(check_files(files, rules, root=ROOT))
    if not arguments:
        for commit, subject in newest_subjects(ROOT, rules.newest_commits):
            findings += check_subject(commit, subject, rules)
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
