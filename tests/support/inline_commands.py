"""
The commands that a page names within a sentence, or in a block that no test types as a whole.

A name of a command without arguments, such as `kubectl wait`, is a word and no command.
"""

import re
from pathlib import Path

from tests.support.repository import ROOT

_BLOCK = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(kubectl [^`]+)`")
_READ_BLOCKS = frozenset({"text", "bash", ""})
_COMMENT = re.compile(r"\s+#\s.*| {3,}\S.*")

PAGES = (
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "reference").glob("*.md")),
    *sorted((ROOT / "docs" / "runbooks").glob("*.md")),
)


def inline_commands(page: str) -> list[str]:
    """Return the commands of kubectl in a page (Markdown), outside of its ``console`` blocks."""
    found = []
    for _, kind, body in _BLOCK.findall(page):
        if kind in _READ_BLOCKS:
            lines = re.sub(r"\\\n\s*", " ", body).splitlines()
            found += [line.strip().removeprefix("$ ") for line in lines]
    found += _INLINE.findall(_BLOCK.sub("", page))
    commands = (" ".join(_COMMENT.sub("", each).split()) for each in found)
    return [each for each in dict.fromkeys(commands) if each.startswith("kubectl ")]


def by_command(pages: tuple[Path, ...] = PAGES) -> dict[str, str]:
    """Return each command, and the first page that has it."""
    found: dict[str, str] = {}
    for page in pages:
        for command in inline_commands(page.read_text("utf-8")):
            found.setdefault(command, page.relative_to(ROOT).as_posix())
    return found


def printed_in_manual(command: str) -> str:
    """Return what docs/plugin.md says that a command of the plugin prints."""
    page = (ROOT / "docs" / "plugin.md").read_text("utf-8")
    (body,) = (body for _, _, body in _BLOCK.findall(page) if body.startswith(f"$ {command}"))
    # A command may continue in a second line.
    return re.sub(r"\A\$ (?:.*\\\n)*.*\n", "", body)
