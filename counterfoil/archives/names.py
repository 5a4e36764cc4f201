"""
Names of files: the path template, and the rules that make a value a safe part of a path.

Pure: a name depends on the template, the envelope and the list of its files, on nothing else, so that a run
that was killed finds its own files again. The rules are those of the strictest of all destinations (Windows
shares, macOS volumes, object stores, POSIX), since nobody knows where an archive is copied to in ten years.

The sets of characters are written out instead of asking ``unicodedata``: a newer Python knows more characters
and would rename old files.
"""

import hashlib
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from counterfoil.archives.backend import TEMPORARY_PREFIX

MANIFEST_NAME = "counterfoil.json"
HASHES_NAME = "counterfoil.sha256"
SIGNATURE_NAME = f"{MANIFEST_NAME}.sig"

SEGMENT_LIMIT = 255
"""Bytes of UTF-8 in one segment: the limit of ext4, XFS, SMB and others."""

EXTENSION_LIMIT = 20
"""Bytes; what is longer after the last dot is a sentence rather than an extension."""

ENVELOPE_FIELDS = (
    "organization",
    "envelope.id",
    "envelope.name",
    "envelope.status",
    "envelope.sentDate",
    "sender.email",
    "sender.userID",
)
FILE_FIELDS = ("file.kind", "file.name", "file.number")
TAG_PREFIX = "tags."

MAX_NAME_LENGTH = 1024
"""Maximum number of characters of a text whose beginning and end become a segment. The normal form of a
longer one could take hours (rule 12)."""

MAX_RUN_OF_MARKS: Final = 30
"""Maximum number of combining characters in a row in the stream-safe format of UAX #15, section 13."""

PLACEHOLDER = re.compile(r"\{\{([A-Za-z_][A-Za-z0-9_.-]*)\}\}")

NOT_TEXT = r"\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufdd0-\ufdef" + "".join(
    chr(plane * 0x10000 + last) for plane in range(17) for last in (0xFFFE, 0xFFFF)
)
"""Control characters, line ends, halves of characters, and what is no character: a class of a pattern."""

# Separators, and what Windows reserves.
_REPLACED = re.compile(rf'[/\\<>:"|?*{NOT_TEXT}]')
# Invisible characters, above all those that turn the direction of writing: "invoice<RLO>fdp.exe".
_REMOVED = re.compile(
    r"[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
# Default_Ignorable_Code_Point of Unicode 14, with the ranges that are reserved for more of them. Volumes that
# ignore letter case ignore these too (ext4, f2fs, HFS+). Those that scripts and emoji need stay in a name.
_IGNORABLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_IGNORED = re.compile(f"[{_IGNORABLE}]+")
# The search begins only at the first character of a run, so its time is linear (rule 12).
_EDGES = re.compile(rf"^[\s.{_IGNORABLE}]+|(?<![\s.{_IGNORABLE}])[\s.{_IGNORABLE}]+$")
_RESERVED_BY_WINDOWS = frozenset(
    ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"]
    + [f"{port}{number}" for port in ("COM", "LPT") for number in "0123456789¹²³"]
)
_OWN = frozenset({MANIFEST_NAME, HASHES_NAME, SIGNATURE_NAME})


class TemplateInvalid(ValueError):
    """A path template that can't name files; the message names the fault."""


@dataclass(frozen=True)
class PathTemplate:
    """
    A path template, split into the envelope's folder and the path of a file below it.

    The folder ends before the first segment that contains ``{{file.``; it contains ``{{envelope.id}}``, so
    that every envelope has its own folder.
    """

    folder: tuple[str, ...]
    file: tuple[str, ...]

    @classmethod
    def parse(cls, text: str, *, tags: Collection[str] = ()) -> "PathTemplate":
        """Read a template; ``tags`` are the names of tags that it may use. Raises ``TemplateInvalid``."""
        parts = text.split("/")
        _check_segments(parts)
        _check_placeholders(text, tags)
        first = next((at for at, part in enumerate(parts) if "{{file." in part), None)
        if first is None or "{{file.name}}" not in text:
            raise TemplateInvalid(
                "it must contain {{file.name}}, which distinguishes the files of an envelope"
            )
        if not any("{{envelope.id}}" in part for part in parts[:first]):
            raise TemplateInvalid(
                "before the first segment with {{file.…}} there must be one with {{envelope.id}}, "
                "so that every envelope has its own folder"
            )
        return cls(tuple(parts[:first]), tuple(parts[first:]))

    def render_folder(self, values: Mapping[str, str]) -> str:
        """Return the envelope's folder."""
        return "/".join(_render(segment, values) for segment in self.folder)

    def render_file(self, values: Mapping[str, str]) -> str:
        """Return the path of a file below the envelope's folder."""
        return "/".join(_render(segment, values) for segment in self.file)


def fill(text: str, values: Mapping[str, str]) -> str:
    """Replace the placeholders of a text by values, as they are; an unknown placeholder becomes empty."""
    return PLACEHOLDER.sub(lambda found: values.get(found[1], ""), text)


def unknown_placeholders(text: str, known: Collection[str]) -> list[str]:
    """Return the unknown placeholders; a lone brace counts too."""
    names = [found[1] for found in PLACEHOLDER.finditer(text)]
    unknown = [f"{{{{{name}}}}}" for name in names if name not in known]
    rest = PLACEHOLDER.sub("", text)
    return unknown + (["a single { or }"] if "{" in rest or "}" in rest else [])


def safe_segment(text: str, *, default: str = "_") -> str:
    """
    Make one path segment out of any text: no separators, nothing reserved, at most 255 bytes, never empty.

    A name that is safe already stays as it is (in NFC). ``default`` stands in for a text of which nothing is
    left.
    """
    if len(text) > MAX_NAME_LENGTH:
        # Two long names that differ only in the middle must not become one.
        mark = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
        text = f"{text[: MAX_NAME_LENGTH // 2]}{mark}{text[-MAX_NAME_LENGTH // 2 :]}"
    visible = _REMOVED.sub("", _REPLACED.sub("_", text))
    name = _EDGES.sub("", unicodedata.normalize("NFC", visible)) or default
    stem, extension = split_extension(name)
    before, dot, after = name.partition(".")
    if case_folded(before).rstrip().upper() in _RESERVED_BY_WINDOWS:
        stem, extension = split_extension(f"{before}_{dot}{after}")
    elif _without_accents(case_folded(name)) in _OWN:
        stem += "_"
    elif case_folded(name).startswith(TEMPORARY_PREFIX):
        stem = f"_{stem}"
    return _fit(stem, extension)


def split_extension(name: str) -> tuple[str, str]:
    """Return stem and extension (with its dot); the extension is empty when there is none worth keeping."""
    stem, dot, extension = name.rpartition(".")
    if not stem or not extension or len(extension.encode()) > EXTENSION_LIMIT:
        return name, ""
    return stem, dot + extension


_NUMBERED: Final = re.compile(r" \(([0-9]{1,6})\)\Z")
"""The end of the stem of a name that was given out before."""


class NameAllocator:
    """
    Gives out names that no two files share, also not for an archive that ignores letter case.

    The second of a name gets `` (2)`` before its extension, the third `` (3)``; so the order of asking
    matters.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._numbers: dict[str, int] = {}
        """The last number of each name that was asked for more than once; no lower number is free."""

    def take(self, path: str) -> str:
        """Return the path, or the first free variation of it."""
        above, slash, name = path.rpartition("/")
        stem, extension = split_extension(name)
        chosen, number = path, self._numbers.get(path, 1)
        while case_folded(chosen) in self._taken:
            number += 1
            chosen = above + slash + _fit(stem, f" ({number}){extension}")
        self._taken.add(case_folded(chosen))
        self._numbers[path] = number
        return chosen

    def reserve(self, path: str) -> bool:
        """Take exactly this path; return whether it was free."""
        folded = case_folded(path)
        is_free = folded not in self._taken
        self._taken.add(folded)
        return is_free


def is_variation(chosen: str, path: str) -> bool:
    """Whether ``NameAllocator.take`` may have given ``chosen`` for this path."""
    above, slash, name = path.rpartition("/")
    stem, extension = split_extension(name)
    number = _NUMBERED.search(chosen.removesuffix(extension))
    return chosen == path or (
        number is not None and chosen == above + slash + _fit(stem, f" ({number[1]}){extension}")
    )


def case_folded(path: str) -> str:
    """
    Return a text that is equal for all names that some archive does not distinguish.

    That is NFKC_Casefold of Unicode, and letters are also equal if their upper case is: ZFS can compare by
    compatibility (``normalization=formKC``), and some servers by upper case. A path with a segment that is
    longer than any of ``safe_segment``, also in its longest normal form, only loses what is ignored.
    """
    folded = _IGNORED.sub("", path)
    if max(map(len, folded.split("/"))) > MAX_NAME_LENGTH:
        return folded
    for _ in range(2):
        folded = _IGNORED.sub("", unicodedata.normalize("NFKC", folded)).upper().casefold()
    # In lower case, the capital "i" with a dot is an "i" and a combining dot.
    return unicodedata.normalize("NFKC", folded).replace("i\u0307", "i")


def longest_run_of_marks(path: str) -> int:
    """
    Return the number of combining characters in the longest row of them.

    They are sorted for each normal form, for which the time is quadratic in that number (rule 12).
    """
    if path.isascii():
        return 0
    return max(map(len, _marks().findall(_IGNORED.sub("", path))), default=0)


@cache
def _marks() -> re.Pattern[str]:
    """Return the pattern of a run, also of characters that become combining ones."""
    combining = (chr(each) for each in range(0x300, 0x20000) if _is_combining(chr(each)))
    return re.compile(f"[{''.join(combining)}]+")


def _is_combining(character: str) -> bool:
    return any(map(unicodedata.combining, (character, unicodedata.normalize("NFKD", character)[0])))


def _without_accents(text: str) -> str:
    """Return a text without its accents, as some databases behind a server compare names."""
    return "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))


def _render(segment: str, values: Mapping[str, str]) -> str:
    return safe_segment(PLACEHOLDER.sub(lambda found: _REPLACED.sub("_", values.get(found[1], "")), segment))


def _fit(stem: str, tail: str) -> str:
    whole = stem + tail
    if len(whole.encode()) <= SEGMENT_LIMIT:
        return whole
    # Two long names that differ only at the end must not become one.
    mark = "~" + hashlib.sha256(whole.encode()).hexdigest()[:8]
    room = SEGMENT_LIMIT - len((mark + tail).encode())
    return stem.encode()[:room].decode(errors="ignore") + mark + tail


def _check_segments(parts: list[str]) -> None:
    if any(part in ("", ".", "..") for part in parts):
        raise TemplateInvalid(
            "it is relative to the archive, with no / at its ends and no empty, . or .. segment"
        )
    if any(re.search(r"[\\\x00-\x1f]", part) for part in parts):
        raise TemplateInvalid("it has a backslash or a control character")


def _check_placeholders(text: str, tags: Collection[str]) -> None:
    known = {*ENVELOPE_FIELDS, *FILE_FIELDS, *(TAG_PREFIX + tag for tag in tags)}
    if unknown := unknown_placeholders(text, known):
        raise TemplateInvalid(f"it has placeholders that do not exist: {', '.join(unknown)}")
