"""
The Secret of an Archive: texts by key, checked before a request uses them.
"""

import re
from collections.abc import Iterable, Mapping

from counterfoil.archives.errors import SecretUnusable, SettingsInvalid
from counterfoil.kube.secret import Placeholder, patch_command, placeholder_fault
from counterfoil.resources.archive_kinds import CredentialsReference

_NOT_IN_A_LINE = re.compile(r"[\x00-\x1f\x7f]")


class Credentials:
    """The Secret of one Archive; an Archive without one has none of the keys."""

    def __init__(self, archive: str, ref: CredentialsReference | None, content: Mapping[str, bytes]) -> None:
        """Take ``content`` as it is in the Secret that ``ref`` names."""
        self.archive = archive
        self._ref = ref
        self._content = {} if ref is None else content
        self.secret = "its Secret" if ref is None else f"Secret `{ref.name}`"
        self.key = "the pod's own identity" if ref is None else f"the key in {self.secret}"
        """Owner of the rights at an object store, for messages."""

    def line(self, key: str) -> str | None:
        """Return a text of one line, without the line end that editors add; None when it is missing or
        empty."""
        text = self._text(key).rstrip("\r\n")
        if _NOT_IN_A_LINE.search(text):
            raise SettingsInvalid(
                f"Archive/{self.archive}: `{self.name_of(key)}` in {self.secret} is no single line of text."
            )
        return text or None

    def required_line(self, key: str) -> str:
        """Return a text of one line that must be there. Raises ``SettingsInvalid``."""
        text = self.line(key)
        if text is None:
            raise self.lacks(f"has no `{self.name_of(key)}`", key)
        return text

    def multiline_text(self, key: str) -> str | None:
        """Return a text of several lines as it is; None when it is missing or empty."""
        return self._text(key).strip() or None

    def has_any(self, keys: Iterable[str]) -> bool:
        """Tell whether any of these is there."""
        return any(self._content.get(self.name_of(key)) for key in keys)

    def name_of(self, key: str) -> str:
        """Return the Secret's own name of a key, for messages."""
        return key if self._ref is None else self._ref.key(key)

    def lacks(self, what: str, key: str) -> SecretUnusable:
        """Return the error for a Secret that ``lacks`` this, with the command that puts the key there."""
        return SecretUnusable(f"Archive/{self.archive}: {self.secret} {what}{self._how_to_add(key)}.")

    def refuse_placeholder(self, key: str) -> None:
        """Raise ``SecretUnusable`` if somebody typed a command as it was printed."""
        name, value = self.name_of(key), self._content.get(self.name_of(key), b"")
        fault = None if self._ref is None else placeholder_fault(self._ref.name, name, value)
        if fault is not None:
            advice = f"Put the value there{self._how_to_add(key)}."
            raise SecretUnusable(f"Archive/{self.archive}: {fault} {advice}")

    def _how_to_add(self, key: str) -> str:
        placeholder = Placeholder.of_key(key)
        if self._ref is None or placeholder is None:
            return ""
        return f" (type `{patch_command(self._ref.name, self.name_of(key), placeholder)}`)"

    def _text(self, key: str) -> str:
        self.refuse_placeholder(key)
        try:
            return self._content.get(self.name_of(key), b"").decode()
        except UnicodeDecodeError as error:
            raise SettingsInvalid(
                f"Archive/{self.archive}: `{self.name_of(key)}` in {self.secret} is no text."
            ) from error
