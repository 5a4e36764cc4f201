"""
The proof that a rename changed names and nothing else: python rename/check.py OLD_CHECKOUT NEW_CHECKOUT MAPS.

Compares the syntax trees of every Python file before and after. Each identifier is the same or is renamed by the map;
each import names what the table of modules says; each string and number is the same, but for the dotted names, paths
and quoted identifiers of the map. Prints what differs, and exits with 1 if anything does.
"""

import ast
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from maps import Maps  # noqa: E402

OLD, NEW, MAPS = Path(sys.argv[1]), Path(sys.argv[2]), Maps.load(Path(sys.argv[3]))
IDENTIFIERS = {"id", "attr", "arg", "name", "names", "asname", "kwd_attrs", "rest"}

listed = [
    each
    for each in subprocess.run(["git", "ls-files", "*.py"], cwd=OLD, capture_output=True, text=True, check=True).stdout.split()
    if not each.startswith("rename/")
]
modules = {each[:-3].replace("/", ".").removesuffix(".__init__") for each in listed}
by_symbol: dict[str, set[str]] = defaultdict(set)
for symbol, new in MAPS.symbols.items():
    by_symbol[symbol.partition(":")[2].rpartition(".")[2]].add(new)
for old, new in MAPS.modules.items():
    by_symbol[old.rpartition(".")[2]].add(new.rpartition(".")[2])

differences: list[str] = []
renamed: Counter[tuple[str, str]] = Counter()


def is_renamed(path: str, old: str | None, new: str | None) -> bool:
    if old == new:
        return True
    if old is None or new is None:
        return False
    renamed[old, new] += 1
    return new in by_symbol.get(old, ()) or MAPS.tokens_for(path).get(old) == new


def words(text: str) -> list[str]:
    return re.findall(r"[A-Za-z_]\w*", text)


def is_same_text(path: str, old: str, new: str) -> bool:
    """Whether two strings differ in names of the map alone: all that is no identifier is equal, and the rest is renamed."""
    if old == new:
        return True
    for before, after in sorted(MAPS.modules.items(), key=lambda each: -len(each[0])):
        pattern = re.escape(before)
        old = re.sub(rf"(?<![\w.])({pattern})(?!\w)", after, old)
        old = re.sub(rf"(?<![\w.]){re.escape(before.replace('.', '/'))}(?=\.py|/)", after.replace(".", "/"), old)
    for before, after in sorted(MAPS.files.items(), key=lambda each: -len(each[0])):
        old = old.replace(before, after)
    if re.sub(r"[A-Za-z_]\w*", "", old) != re.sub(r"[A-Za-z_]\w*", "", new):
        return False
    return all(is_renamed(path, a, b) for a, b in zip(words(old), words(new), strict=True))


def imports(path: str, tree: ast.Module, mapped: bool) -> Counter[tuple[str, str]]:
    """All imports as (module, name); those of before are mapped to what they have to be after."""
    package = path[:-3].replace("/", ".").removesuffix(".__init__") if path.endswith("__init__.py") else path[:-3].replace("/", ".").rpartition(".")[0]
    found: Counter[tuple[str, str]] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                found[MAPS.module(each.name) if mapped else each.name, ""] += 1
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                base = package.split(".")
                module = ".".join([*base[: len(base) - node.level + 1], *([module] if module else [])])
            for each in node.names:
                full = f"{module}.{each.name}"
                if not mapped:
                    found[module, each.name] += 1
                elif full in modules:
                    where, _, last = MAPS.module(full).rpartition(".")
                    found[where, last] += 1
                else:
                    found[MAPS.module(module), each.name] += 1
    return found


class Bare(ast.NodeTransformer):
    """Takes imports out, which are compared on their own."""

    def visit_Import(self, node: ast.Import) -> ast.AST:
        return ast.Pass()

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        return ast.Pass()


def without_passes(body: list) -> list:
    return [each for each in body if not isinstance(each, ast.Pass)]


def is_dunder_all(node: ast.AST) -> bool:
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"


def compare(path: str, old: object, new: object, where: str) -> None:
    if isinstance(old, ast.AST) and isinstance(new, ast.AST):
        if is_dunder_all(old) and is_dunder_all(new):
            before, after = (sorted(each.value for each in tree.value.elts) for tree in (old, new))
            left = [each for each in before if not any(is_renamed(path, each, other) for other in after)]
            if left or len(before) != len(after):
                differences.append(f"{path}: __all__ has no more {left}")
            return
        line = getattr(new, "lineno", None)
        where = f"{path}:{line}" if line else where
        if type(old) is not type(new):
            differences.append(f"{where}: {type(old).__name__} became {type(new).__name__}")
            return
        for field in old._fields:
            before, after = getattr(old, field, None), getattr(new, field, None)
            if field in IDENTIFIERS and isinstance(before, str | None):
                if not is_renamed(path, before, after):
                    differences.append(f"{where}: {before} became {after}")
            elif isinstance(old, ast.Constant) and field == "value" and isinstance(before, str) and isinstance(after, str):
                if not is_same_text(path, before, after):
                    differences.append(f"{where}: the text {before[:60]!r} became {after[:60]!r}")
            else:
                compare(path, before, after, where)
    elif isinstance(old, list) and isinstance(new, list):
        old, new = without_passes(old), without_passes(new)
        if len(old) != len(new):
            differences.append(f"{where}: {len(old)} parts became {len(new)}")
            return
        for before, after in zip(old, new, strict=True):
            if isinstance(before, str) and isinstance(after, str):
                if not is_renamed(path, before, after):
                    differences.append(f"{where}: {before} became {after}")
            else:
                compare(path, before, after, where)
    elif old != new or type(old) is not type(new):
        differences.append(f"{where}: {old!r} became {new!r}")


for path in listed:
    target = NEW / MAPS.path(path)
    if not target.exists():
        differences.append(f"{path}: {MAPS.path(path)} is missing")
        continue
    old, new = ast.parse((OLD / path).read_text()), ast.parse(target.read_text())
    want, have = imports(path, old, mapped=True), imports(MAPS.path(path), new, mapped=False)
    for (module, name), number in (want - have).items():
        candidates = [key for key in have - want if key[0] == module and is_renamed(path, name, key[1])]
        if not candidates and not any(a == module and is_renamed(path, name, b) for a, b in have):
            differences.append(f"{path}: imports {number} x {name} of {module} no more")
    compare(path, Bare().visit(old), Bare().visit(new), path)

added = set(
    subprocess.run(["git", "ls-files", "*.py"], cwd=NEW, capture_output=True, text=True, check=True).stdout.split()
) - {MAPS.path(each) for each in listed}
for path in sorted(added):
    if path.startswith("rename/"):
        continue
    tree = ast.parse((NEW / path).read_text())
    if not (path.endswith("__init__.py") and all(isinstance(each, ast.Expr) for each in tree.body)):
        differences.append(f"{path}: a new file that is more than a package's docstring")

# What the script could not see is declared, line by line, by hand.
declared = set((Path(__file__).parent / "declared.txt").read_text().splitlines())
undeclared = [each for each in differences if each not in declared]
print("\n".join(undeclared))
print(
    f"{len(listed)} files, {len(renamed)} renames used {sum(renamed.values())} times, {len(differences)} differences, "
    f"{len(undeclared)} of them not declared"
)
sys.exit(1 if undeclared else 0)
