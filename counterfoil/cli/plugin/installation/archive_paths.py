"""
Paths of archived files, replaced in the texts of a support bundle: the values of tags may be in them.

Each segment of a path becomes a hash with the key of the bundle. Equal paths stay equal, and nobody can find
a value by hashes of likely ones. Root folders of Archives and URLs of Organizations stay.
"""

import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from counterfoil.resources.archive_kinds import DISCARDED_SCHEME

_URI: Final = re.compile(
    rf"(?P<head>\b[a-z][a-z0-9+.-]*://[^\s/\"<>`\\?#]*|\b{DISCARDED_SCHEME})(?P<path>[^\s\"<>`\\]*)"
)
"""Locations are percent-encoded, so they end at a space, a quotation mark or a backslash."""

_PUNCTUATION: Final = ".,;:)'"
"""Characters at the end of a URI that more likely belong to the sentence."""

_KEPT: Final = re.compile(
    r"counterfoil\.(?:json|json\.sig|sha256)|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
)
"""Segments that are no values of tags: Counterfoil's own files, and ids of envelopes."""


_LETTERS: Final = str.maketrans("0123456789", "ghijklmnop")
"""A hash of letters alone does not look like a token, which would be left out."""


class ArchivePaths:
    """The addresses in one bundle."""

    def __init__(self, key: bytes) -> None:
        """``key`` is random and belongs to one bundle."""
        self._key = key
        self._roots: set[str] = set()
        self._visible: set[str] = set()

    def learn_archive(self, archive: Mapping[str, Any]) -> None:
        """Remember the URLs of an Archive, as far as they are the same for all files."""
        root = (archive.get("status") or {}).get("root") or {}
        self._roots.update(_urls(archive.get("spec")), _urls(root.get("location")))

    def learn_organization(self, organization: Mapping[str, Any]) -> None:
        """Remember the servers of an Organization, whose URLs stay."""
        self._visible.update(map(_head, _urls(organization)))

    def hide(self, text: str) -> str:
        """Return a text without the paths of archived files."""
        return _URI.sub(self._hidden, text) if ":" in text else text

    def hashed(self, name: str) -> str:
        """Return eight letters for a segment of a path or another name, the same in the whole bundle."""
        if not name or _KEPT.fullmatch(name):
            return name
        return hmac.digest(self._key, name.encode(), "sha256").hex()[:8].translate(_LETTERS)

    def _hidden(self, found: re.Match[str]) -> str:
        url = found[0].rstrip(_PUNCTUATION)
        end = found[0][len(url) :]
        if root := self._root_of(url):
            return f"{root}{self._hashed_path(url[len(root) :])}{end}"
        if found["head"] in self._visible and found["head"] not in map(_head, self._roots):
            return found[0]
        return f"{found['head']}{self._hashed_path(url[len(found['head']) :])}{end}"

    def _root_of(self, url: str) -> str:
        roots = (each for each in self._roots if url == each or url.startswith(f"{each}/"))
        return max(roots, key=len, default="")

    def _hashed_path(self, path: str) -> str:
        return "/".join(self.hashed(each) for each in path.split("/"))


def _head(url: str) -> str:
    found = _URI.match(url)
    return found["head"] if found is not None else url


def _urls(found: object) -> Iterator[str]:
    """Yield all URLs that are a whole value, without a slash at the end."""
    if isinstance(found, str) and _URI.fullmatch(found):
        yield found.rstrip("/")
    elif isinstance(found, Mapping):
        for each in found.values():
            yield from _urls(each)
    elif isinstance(found, Sequence) and not isinstance(found, str):
        for each in found:
            yield from _urls(each)
