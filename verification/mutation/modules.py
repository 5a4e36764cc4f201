"""
Read which modules are mutated, by which tests, and which surviving mutants are explained (``modules.toml``).

A mutant is named by its module and by the lines that differ, without their indentation. So it keeps its name
when other lines move.
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

FILE = Path(__file__).with_name("modules.toml")
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, order=True)
class Change:
    """The lines that differ, each side joined to one line. ``after`` is empty for a line that is gone."""

    before: str
    after: str

    @classmethod
    def between(cls, source: str, mutant: str) -> "Change":
        """Compare two sources."""
        lines = list(difflib.unified_diff(source.splitlines(), mutant.splitlines(), n=0, lineterm=""))[2:]
        before, after = (" ".join(each[1:].strip() for each in lines if each[0] == sign) for sign in "-+")
        return cls(before, after)

    def __str__(self) -> str:
        return f"{self.before}  ->  {self.after}"


@dataclass(frozen=True)
class MutatedModule:
    """A module and its unit tests, both as paths from the root, and the survivors with their reasons."""

    path: str
    tests: tuple[str, ...]
    survivors: Mapping[Change, str] = field(default_factory=dict)

    def problems(self, root: Path) -> list[str]:
        """Return what does not fit the tree: files that do not exist, survivors whose lines are gone."""
        missing = [
            f"{each} does not exist" for each in (self.path, *self.tests) if not (root / each).is_file()
        ]
        if missing:
            return missing
        text = " ".join(line.strip() for line in (root / self.path).read_text("utf-8").splitlines())
        return [
            *(
                f"{self.path} has no {each.before!r} for a survivor"
                for each in self.survivors
                if each.before not in text
            ),
            *(f"{self.path}: no reason for {each}" for each, reason in self.survivors.items() if not reason),
        ]


def read_modules(text: str) -> list[MutatedModule]:
    """Read the content of ``modules.toml``. Raises ``KeyError`` for a survivor of an unlisted module."""
    content = tomllib.loads(text)
    survivors: dict[str, dict[Change, str]] = {each["path"]: {} for each in content["module"]}
    for each in content.get("survivor", ()):
        survivors[each["module"]][Change(each["before"], each["after"])] = each["reason"]
    return [
        MutatedModule(each["path"], tuple(each["tests"]), survivors[each["path"]])
        for each in content["module"]
    ]
