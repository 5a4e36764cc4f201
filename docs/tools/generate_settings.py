"""
Generate docs/reference/settings.md from counterfoil/settings.py: ``python docs/tools/generate_settings.py``.

A unit test compares the page with the settings, so that help, manual and code stay equal.
"""

from pathlib import Path

from counterfoil.settings import (
    CommonSettings,
    ConsoleSettings,
    ControllerSettings,
    CreateSealingKeySettings,
    PagesSettings,
    ReceiverSettings,
    ResealSettings,
    describe_settings,
)

KINDS = (
    ReceiverSettings,
    PagesSettings,
    ConsoleSettings,
    ControllerSettings,
    ResealSettings,
    CreateSealingKeySettings,
)
PAGE = Path(__file__).parents[1] / "reference" / "settings.md"

HEAD = """# Settings

Each setting has an environment variable and a flag; the flag takes precedence. `--help` of each process shows
the same texts. `python docs/tools/generate_settings.py` writes this page.
"""


def page() -> str:
    """Return the text of the page."""
    common = {(each.name, each.default) for each in describe_settings(CommonSettings)}
    parts = [HEAD, _section("Every process", CommonSettings, skip=set())]
    parts += [_section(f"`{kind.PROGRAM}`", kind, skip=common) for kind in KINDS]
    return "\n".join(parts)


def _section(title: str, kind: type[CommonSettings], *, skip: set[tuple[str, str]]) -> str:
    rows = [
        f"| `{each.variable}` | `{each.flag}` | {each.default} | {each.text} |"
        for each in describe_settings(kind)
        if (each.name, each.default) not in skip
    ]
    return "\n".join(
        [f"## {title}", "", "| Environment | Flag | Default | |", "|---|---|---|---|", *rows, ""]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
