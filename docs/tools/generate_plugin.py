"""
Generate docs/reference/plugin.md from the arguments of ``kubectl counterfoil``:
``python docs/tools/generate_plugin.py``.

A unit test compares the page with the arguments.
"""

import argparse
from pathlib import Path

from counterfoil.cli.plugin.entry_point import parsers

PAGE = Path(__file__).parents[1] / "reference" / "plugin.md"

HEAD = """\
<!-- Written by docs/tools/generate_plugin.py from counterfoil/cli/plugin; edit that. -->
# Commands of the kubectl plugin

The texts of `kubectl counterfoil COMMAND --help`. Installation and use: [The kubectl plugin](../plugin.md).
"""


def page() -> str:
    """Return the text of the page."""
    whole, each = parsers()
    sections = [HEAD, _section("Before and after every command", whole)]
    sections += [_section(f"`{name}`", parser) for name, parser in each.items()]
    return "\n".join(sections)


def _section(title: str, parser: argparse.ArgumentParser) -> str:
    # Not the text of argparse, which differs between versions of Python.
    common = {action.dest for action in parsers()[0]._actions} if title.startswith("`") else {"command"}
    rows = [
        f"| `{_written(action)}` | {action.help or ''} |"
        for action in parser._actions
        if action.dest not in {*common, "help"}
    ]
    table = ["| | |", "|---|---|", *rows, ""] if rows else []
    return "\n".join([f"## {title}", "", parser.description or "", "", *table])


def _written(action: argparse.Action) -> str:
    value = action.metavar or (" or ".join(action.choices) if action.choices else "")
    takes_value = action.nargs != 0
    shown = f" {value}" if takes_value and value else ""
    flags = ", ".join(action.option_strings)
    written = f"{flags}{shown}" if flags else f"{value}{' ...' if action.nargs == '*' else ''}"
    return written.replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
