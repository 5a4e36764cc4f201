"""The rename map: reads the TOML files and answers questions about them."""

import ast
import fnmatch
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Maps:
    """All maps as one."""

    modules: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    symbols: dict[str, str] = field(default_factory=dict)
    tokens: list[tuple[str, str, tuple[str, ...], tuple[str, ...]]] = field(default_factory=list)

    @classmethod
    def load(cls, folder: Path) -> "Maps":
        maps = cls()
        for path in sorted(folder.glob("*.toml")):
            read = tomllib.loads(path.read_text())
            for kind in ("modules", "files", "symbols"):
                for old, new in read.get(kind, {}).items():
                    known = getattr(maps, kind).get(old)
                    if known is not None and known != new:
                        print(f"CONFLICT {path.name}: {kind} {old}: {known} / {new}")
                    getattr(maps, kind)[old] = new
            for token in read.get("tokens", []):
                maps.tokens.append((token["old"], token["new"], tuple(token["files"]), tuple(token.get("except", ()))))
        return maps

    def module(self, dotted: str) -> str:
        """Return the new name of a module (the longest prefix counts)."""
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            head = ".".join(parts[:length])
            if head in self.modules:
                return ".".join([self.modules[head], *parts[length:]])
        return dotted

    def path(self, path: str) -> str:
        """Return the new path of a file."""
        if path.endswith(".py"):
            dotted = path[:-3].replace("/", ".")
            if dotted.endswith(".__init__"):
                package = dotted[: -len(".__init__")]
                new = self.module(package)
                return new.replace(".", "/") + "/__init__.py"
            return self.module(dotted).replace(".", "/") + ".py"
        for length in range(len(path.split("/")), 0, -1):
            head = "/".join(path.split("/")[:length])
            if head in self.files:
                return "/".join([self.files[head], *path.split("/")[length:]])
        return path

    def tokens_for(self, path: str) -> dict[str, str]:
        """Return the token renames that count in a file."""
        found: dict[str, str] = {}
        for old, new, files, excluded in self.tokens:
            if matches(path, files) and not matches(path, excluded):
                if found.get(old, new) != new:
                    print(f"CONFLICT token {old} in {path}: {found[old]} / {new}")
                found.setdefault(old, new)
        return found


def matches(path: str, globs: tuple[str, ...]) -> bool:
    """Whether a path matches one of the globs (** crosses folders)."""
    return any(
        fnmatch.fnmatch(path, glob) or fnmatch.fnmatch(path, glob.replace("/**", "/*")) or path == glob for glob in globs
    )
