"""The plugin reads each command of it that a page names, with the flags that it has."""

import re
import shlex

import pytest

from counterfoil.cli.plugin import entry_point
from tests.support.console_blocks import console_commands
from tests.support.inline_commands import PAGES, by_command, inline_commands

PROGRAM = "kubectl counterfoil"
NAMED = {
    **by_command(),
    **{each.text: "" for path in PAGES for each in console_commands(path.read_text("utf-8"))},
}
COMMANDS = sorted(
    " ".join(each.replace("\\\n", " ").split())
    for each in NAMED
    if each.startswith(f"{PROGRAM} ") and len(each.split()) > 3
)
REPLACED = (
    (r"\bDATE\b", "2026-01-01"),
    (r"\bREASON\b", "ArchiveFull"),
    (r"\$\w+|\bORG\b|\bSENDER\b|\bGUID\b|\bID\b|\bNAME\b|\bFOLDER\b|\bLOCATION\b|\bFILE\b", "jane"),
)


def test_there_are_commands_to_read() -> None:
    assert len(COMMANDS) > 30


def test_a_name_is_no_command_and_a_comment_is_no_argument() -> None:
    page = "`kubectl wait` and `kubectl get ee`.\n\n```text\nkubectl get org acme    # its state\n```\n"
    assert inline_commands(page) == ["kubectl get org acme", "kubectl wait", "kubectl get ee"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_plugin_has_the_command_and_its_flags(command: str) -> None:
    for pattern, by in REPLACED:
        command = re.sub(pattern, by, command)
    words = shlex.split(re.split(r"\s[|<>;]|\s&&", command)[0])[2:]
    parser, subparsers = entry_point.parsers()
    if {"--help", "--version"} & set(words):
        assert words[0].startswith("-") or words[0] in {*subparsers, "COMMAND"}
    elif words[0] in entry_point.STANDALONE_PROGRAMS:
        subparsers[words[0]].parse_args(words[1:])
    else:
        _, rest = parser.parse_known_args(words)
        assert rest == []
