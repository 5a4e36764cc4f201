"""
Print the product's lines of Python by package, as a Markdown table: ``python docs/tools/count_lines.py``.

A package counts with all its subpackages; the first level of them follows in separate rows. Code lines have
neither blank lines nor comments nor docstrings. A second table counts the modules that a reader may expect
elsewhere: with one public definition, with few lines, or with one importer. A third one counts the lines of
tests and of verification, and the files and folders at the top level.
"""

import ast
import io
import subprocess
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PRODUCT = ("controller", "webhook", "counterfoil")

FEW_LINES = 40

_LAYOUT = frozenset(
    {tokenize.NL, tokenize.COMMENT, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER}
)


class Count(NamedTuple):
    """Modules and lines of a package."""

    package: str
    modules: int
    lines: int
    code: int


def count(root: Path, package: str) -> Count:
    """Count one package, with its subpackages."""
    sources = [each.read_text(encoding="utf-8") for each in (root / package).rglob("*.py")]
    lines = sum(len(source.splitlines()) for source in sources)
    return Count(package, len(sources), lines, sum(map(code_lines, sources)))


def code_lines(source: str) -> int:
    """Return the number of lines that hold code."""
    lines: set[int] = set()
    statement: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NEWLINE:
            if any(each.type != tokenize.STRING for each in statement):
                lines.update(line for each in statement for line in range(each.start[0], each.end[0] + 1))
            statement = []
        elif token.type not in _LAYOUT:
            statement.append(token)
    return len(lines)


def packages(root: Path) -> Iterator[str]:
    """Yield each product package, followed by its first-level subpackages."""
    for package in PRODUCT:
        yield package
        for folder in sorted(each for each in (root / package).iterdir() if each.is_dir()):
            if any(folder.rglob("*.py")):
                yield f"{package}/{folder.name}"


def counts(root: Path) -> Iterator[Count]:
    """Yield the count of each product package, and those of its first-level subpackages."""
    yield from (count(root, each) for each in packages(root))


class SmallModules(NamedTuple):
    """Modules of the product, without ``__init__`` and ``__main__``, and how many of them are small."""

    modules: int
    one_definition: int
    """With one public class or function."""
    few_lines: int
    """With fewer than ``FEW_LINES`` lines."""
    one_importer: int
    """Imported by one module of the product."""


def small_modules(root: Path) -> SmallModules:
    """Count the modules that could be part of another one."""
    sources = {
        ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): file
        for package in PRODUCT
        for file in (root / package).rglob("*.py")
    }
    importers: dict[str, set[str]] = defaultdict(set)
    modules = {name for name, file in sources.items() if not file.name.startswith("__")}
    one_definition = few_lines = 0
    for name, file in sources.items():
        text = file.read_text(encoding="utf-8")
        tree = ast.parse(text)
        for imported in _imports(tree) & sources.keys():
            importers[imported].add(name)
        if name in modules:
            one_definition += sum(map(_is_definition, tree.body)) == 1
            few_lines += text.count("\n") < FEW_LINES
    one_importer = sum(len(importers[each]) == 1 for each in modules)
    return SmallModules(len(modules), one_definition, few_lines, one_importer)


def _is_definition(statement: ast.stmt) -> bool:
    match statement:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return not name.startswith("_")
    return False


def _imports(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{each.name}" for each in node.names)}
    return found


def top_level(root: Path) -> int:
    """Return the number of files and folders at the top level of the repository, hidden ones included."""
    listed = subprocess.run(
        ["git", "ls-files"],  # noqa: S607
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    return len({each.partition("/")[0] for each in listed.stdout.splitlines()})


def table(rows: list[Count]) -> str:
    """Return the Markdown table, with the total of the product packages."""
    product = [row for row in rows if row.package in PRODUCT]
    total = ("**total**", *(sum(numbers) for numbers in zip(*(row[1:] for row in product), strict=True)))
    lines = ["| Package | Modules | Lines | Code lines |", "|---|---:|---:|---:|"]
    for name, modules, all_lines, code in (*rows, total):
        shown = name if name == total[0] else f"`{name}`"
        lines.append(f"| {shown} | {modules:,} | {all_lines:,} | {code:,} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(list(counts(ROOT))))
    small = small_modules(ROOT)
    print("\n| Modules | One public definition | Under 40 lines | One importer |\n|---:|---:|---:|---:|")
    print("| " + " | ".join(map(str, small)) + " |")
    tests, verification = count(ROOT, "tests").lines, count(ROOT, "verification").lines
    print("\n| Lines of tests | Lines of verification | Entries at the top level |\n|---:|---:|---:|")
    print(f"| {tests:,} | {verification:,} | {top_level(ROOT)} |")
