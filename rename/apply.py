"""
Apply the rename map to a checkout: python rename/apply.py CHECKOUT MAPS ANALYSIS_COPY.

Symbols are renamed at the places that a type checker's language server names, tokens wherever libcst sees them as a
name, imports by the table of modules. Text (comments, docstrings, Markdown, settings) gets new dotted names and paths.
"""

import ast
import json
import re
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

sys.path.insert(0, str(Path(__file__).parent))
from lsp import Server  # noqa: E402
from maps import Maps  # noqa: E402

ROOT = Path(sys.argv[1])
MAPS = Maps.load(Path(sys.argv[2]))
COPY = Path(sys.argv[3])
FIRST = ("controller", "webhook", "counterfoil", "sandbox", "bench", "tests", "docs", "image")

listed = subprocess.run(["git", "ls-files"], cwd=COPY, capture_output=True, text=True, check=True).stdout.split()
python = [each for each in listed if each.endswith(".py")]
modules = set()
for each in python:
    dotted = each[:-3].replace("/", ".")
    modules.add(dotted.removesuffix(".__init__"))

problems: list[str] = []


# -- where symbols are defined ---------------------------------------------------------------------------


def module_file(dotted: str) -> str | None:
    for each in (dotted.replace(".", "/") + ".py", dotted.replace(".", "/") + "/__init__.py"):
        if (COPY / each).exists():
            return each
    return None


def name_at(lines: list[str], node: ast.AST, name: str) -> tuple[int, int] | None:
    line = lines[node.lineno - 1]
    start = len(line.encode()[: node.col_offset].decode())
    match = re.compile(rf"\b{re.escape(name)}\b").search(line, start)
    return (node.lineno - 1, match.start()) if match else None


def targets(statement: ast.stmt) -> list[ast.expr]:
    if isinstance(statement, ast.Assign):
        return [e for t in statement.targets for e in (t.elts if isinstance(t, ast.Tuple) else [t])]
    if isinstance(statement, ast.AnnAssign):
        return [statement.target]
    return []


def flat(body):
    for each in body:
        yield each
        if isinstance(each, (ast.If, ast.Try, ast.With)):
            yield from flat(each.body)
            yield from flat(getattr(each, "orelse", []))


def find(scope, lines, parts) -> tuple[int, int] | None:
    name, rest = parts[0], parts[1:]
    for each in flat(scope.body):
        if isinstance(each, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and each.name == name:
            if rest:
                found = find(each, lines, rest)
                if found:
                    return found
                continue
            return name_at(lines, each, name) if not each.decorator_list else def_at(lines, each, name)
        if not rest:
            for target in targets(each):
                if isinstance(target, ast.Name) and target.id == name:
                    return name_at(lines, target, name)
    if not rest and isinstance(scope, (ast.FunctionDef, ast.AsyncFunctionDef)):
        arguments = scope.args
        for each in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]:
            if each is not None and each.arg == name:
                return name_at(lines, each, name)
        for each in ast.walk(scope):
            if isinstance(each, ast.Name) and each.id == name and isinstance(each.ctx, ast.Store):
                return name_at(lines, each, name)
    if not rest and isinstance(scope, ast.ClassDef):
        for each in ast.walk(scope):
            if isinstance(each, ast.Attribute) and each.attr == name and isinstance(each.ctx, ast.Store):
                line = lines[each.end_lineno - 1]
                end = len(line.encode()[: each.end_col_offset].decode())
                return (each.end_lineno - 1, end - len(name))
    return None


def def_at(lines, node, name):
    for number in range(node.lineno - 1, min(node.lineno + 12, len(lines))):
        match = re.search(rf"\b(?:class|def)\s+({re.escape(name)})\b", lines[number])
        if match:
            return number, match.start(1)
    return None


edits: dict[str, dict[tuple[int, int, int], str]] = defaultdict(dict)


def edit(path: str, line: int, start: int, end: int, new: str, strong: bool) -> None:
    known = edits[path].get((line, start, end))
    if known is not None and known != new:
        if strong:
            problems.append(f"two names at {path}:{line + 1}: {known} / {new}")
        return
    edits[path][(line, start, end)] = new


def rename_symbols() -> None:
    server = Server("basedpyright-langserver", COPY)
    warm = COPY / "controller/schedule.py"
    server.open(warm)
    text = warm.read_text()
    at = find(ast.parse(text), text.splitlines(), ["Schedule"])
    for _ in range(60):
        if len(server.rename(warm, at[0], at[1], "x")) > 8:
            break
        time.sleep(1)
    cache_file = Path("rename-cache.json")
    cache = json.loads(cache_file.read_text()) if cache_file.exists() else {}
    opened = {warm}
    began = time.time()
    for number, (symbol, new) in enumerate(MAPS.symbols.items()):
        dotted, _, qualified = symbol.partition(":")
        file = module_file(dotted)
        if file is None:
            problems.append(f"no module: {symbol}")
            continue
        text = (COPY / file).read_text()
        place = find(ast.parse(text), text.splitlines(), qualified.split("."))
        if place is None:
            problems.append(f"no symbol: {symbol}")
            continue
        if symbol not in cache:
            if COPY / file not in opened:
                server.open(COPY / file)
                opened.add(COPY / file)
            try:
                found = server.rename(COPY / file, place[0], place[1], new)
            except RuntimeError as problem:
                problems.append(f"not renamed: {symbol}: {problem}")
                continue
            cache[symbol] = [[str(p.relative_to(COPY)), a, b, c] for p, a, b, c in found]
            if number % 50 == 0:
                print(f"{number} of {len(MAPS.symbols)} symbols, {time.time() - began:.0f} s", flush=True)
                cache_file.write_text(json.dumps(cache))
        if not cache[symbol]:
            problems.append(f"nothing found for {symbol}")
            del cache[symbol]
            continue
        old = qualified.rpartition(".")[2]
        for path, line, start, end in cache[symbol]:
            row = (COPY / path).read_text().splitlines()[line]
            start, end = (len(row.encode("utf-16-le")[: each * 2].decode("utf-16-le")) for each in (start, end))
            written = (COPY / path).read_text().splitlines()[line][start:end]
            if written != old:
                problems.append(f"odd place for {symbol}: {path}:{line + 1}: {written!r}")
                continue
            edit(path, line, start, end, new, True)
    cache_file.write_text(json.dumps(cache))


class Tokens(cst.CSTVisitor):
    """Names, attributes, parameters and keywords that a token rename counts for."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, path: str, renames: dict[str, str]) -> None:
        self.path = path
        self.renames = renames

    def visit_Name(self, node: cst.Name) -> None:
        if node.value in self.renames:
            at = self.get_metadata(PositionProvider, node)
            edit(self.path, at.start.line - 1, at.start.column, at.end.column, self.renames[node.value], False)

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:
        if isinstance(node.names, cst.ImportStar):
            return False
        module = cst.helpers.get_full_name_for_node(node.module) if node.module else ""
        for each in node.names:
            if isinstance(each.name, cst.Name) and f"{module}.{each.name.value}" not in modules and (module or "").split(".")[0] in FIRST:
                self.visit_Name(each.name)
        return False

    def visit_Import(self, node: cst.Import) -> bool:
        return False


def rename_tokens() -> None:
    for path in python:
        renames = MAPS.tokens_for(path)
        text = (COPY / path).read_text()
        renames = {old: new for old, new in renames.items() if re.search(rf"\b{old}\b", text)}
        if not renames:
            continue
        names = {n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name)} | {
            n.arg for n in ast.walk(ast.parse(text)) if isinstance(n, ast.arg)
        }
        for old, new in renames.items():
            if old in names and new in names:
                problems.append(f"token {old} -> {new} meets a {new} of its own in {path}")
        MetadataWrapper(cst.parse_module(text)).visit(Tokens(path, renames))


# -- imports and module names ----------------------------------------------------------------------------


def rewrite_imports(path: str, text: str) -> str:
    """Rewrite import statements by the table of modules, and names that stand for a module."""
    tree = ast.parse(text)
    lines = text.splitlines(keepends=True)
    aliases: dict[str, str] = {}
    replaced: list[tuple[int, int, str]] = []
    package = path[:-3].replace("/", ".").removesuffix(".__init__") if path.endswith("__init__.py") else path[:-3].replace("/", ".").rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                base = package.split(".")
                base = base[: len(base) - node.level + 1]
                module = ".".join([*base, *([module] if module else [])])
            if module.split(".")[0] not in FIRST:
                continue
            groups: dict[str, list[str]] = defaultdict(list)
            changed = node.level > 0
            for each in node.names:
                full = f"{module}.{each.name}"
                if full in modules:
                    new = MAPS.module(full)
                    where, _, last = new.rpartition(".")
                    alias = f" as {each.asname}" if each.asname and each.asname != last else ""
                    groups[where].append(f"{last}{alias}")
                    if not each.asname and last != each.name:
                        aliases[each.name] = last
                    changed = changed or new != full
                else:
                    alias = f" as {each.asname}" if each.asname else ""
                    groups[MAPS.module(module)].append(f"{each.name}{alias}")
                    changed = changed or MAPS.module(module) != module
            if changed:
                indent = " " * node.col_offset
                statements = []
                for where, names in groups.items():
                    inside = f"({', '.join(names)})" if len(", ".join(names)) + len(where) > 80 else ", ".join(names)
                    statements.append(f"from {where} import {inside}")
                first = lines[node.lineno - 1][: node.col_offset]
                tail = lines[node.end_lineno - 1].encode()[node.end_col_offset :].decode()
                replaced.append((node.lineno - 1, node.end_lineno, first + f"\n{indent}".join(statements) + tail))
        elif isinstance(node, ast.Import):
            for each in node.names:
                if each.name in modules and MAPS.module(each.name) != each.name:
                    problems.append(f"import statement by hand: {path}:{node.lineno}: import {each.name}")
    if aliases:
        bound = {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)} | {
            n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }
        for old in aliases:
            if old in bound:
                problems.append(f"module name {old} is also a variable in {path}")

        class Names(cst.CSTVisitor):
            METADATA_DEPENDENCIES = (PositionProvider,)
            found: list = []

            def visit_Attribute(self, node):
                node.value.visit(self)
                return False

            def visit_Arg(self, node):
                node.value.visit(self)
                return False

            def visit_Import(self, node):
                return False

            def visit_ImportFrom(self, node):
                return False

            def visit_Name(self, node):
                if node.value in aliases:
                    at = self.get_metadata(PositionProvider, node)
                    self.found.append((at.start.line - 1, at.start.column, at.end.column, aliases[node.value]))

        visitor = Names()
        visitor.found = []
        MetadataWrapper(cst.parse_module(text)).visit(visitor)
        for line, start, end, new in sorted(visitor.found, reverse=True):
            lines[line] = lines[line][:start] + new + lines[line][end:]
    for start, end, statement in sorted(replaced, reverse=True):
        lines[start:end] = [statement]
    return "".join(lines)


# -- text --------------------------------------------------------------------------------------------------

moved_modules = sorted((m for m in modules if MAPS.module(m) != m), key=len, reverse=True)
DOTTED = re.compile(r"(?<![\w./-])(" + "|".join(re.escape(m) for m in moved_modules) + r")(?![\w-])(?!\.(?:ya?ml|toml|json|md)\b)") if moved_modules else None
moved_paths = sorted(((p, MAPS.path(p)) for p in listed if MAPS.path(p) != p), key=lambda e: -len(e[0]))
moved_folders = sorted(MAPS.files.items(), key=lambda e: -len(e[0]))
PATHS = re.compile(r"(?<![\w.-])(" + "|".join(re.escape(p) for p, _ in moved_paths) + r")(?![\w-])") if moved_paths else None
BY_PATH = dict(moved_paths)


moved_packages = sorted((m.replace(".", "/") for m in MAPS.modules if (COPY / m.replace(".", "/")).is_dir()), key=len, reverse=True)
FOLDERS = re.compile(r"(?<![\w./-])(" + "|".join(re.escape(p) for p in moved_packages) + r")(?=/|\b(?![\w.-]))") if moved_packages else None


def rewrite_text(path: str, text: str) -> str:
    if PATHS:
        text = PATHS.sub(lambda m: BY_PATH[m[1]], text)
    if DOTTED:
        text = DOTTED.sub(lambda m: MAPS.module(m[1]), text)
    if FOLDERS:
        text = FOLDERS.sub(lambda m: MAPS.module(m[1].replace("/", ".")).replace(".", "/"), text)
    return rewrite_backticks(path, text) if path.endswith(".py") else text


QUOTED = re.compile(r"(``?)([A-Za-z_][\w.]*)(\(\))?(``?)")
APPLIED: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
"""Per Python file: old identifier -> what it became in the code of that file."""


def rewrite_backticks(path: str, text: str) -> str:
    """Rename identifiers in backticks where the code of the same file had them renamed, all in one way."""
    own = APPLIED[path]

    def one(match: re.Match) -> str:
        if match[1] != match[4]:
            return match[0]
        new = [next(iter(own[part])) if len(own.get(part, ())) == 1 else part for part in match[2].split(".")]
        return f"{match[1]}{'.'.join(new)}{match[3] or ''}{match[4]}"

    return QUOTED.sub(one, text)


def rewrite_template(path: str, text: str) -> str:
    """Rename tokens inside the expressions and statements of a Jinja template."""
    tokens = MAPS.tokens_for(path)
    if not tokens:
        return text
    names = re.compile(r"(?<![\w-])(" + "|".join(map(re.escape, tokens)) + r")(?![\w-])")
    return re.sub(
        r"\{\{.*?\}\}|\{%.*?%\}",
        lambda block: re.sub(r"""'[^']*'|"[^"]*"|[^'"]+""", lambda p: p[0] if p[0][0] in "'\"" else names.sub(lambda m: tokens[m[1]], p[0]), block[0]),
        text,
        flags=re.DOTALL,
    )


def python_text(path: str, text: str) -> str:
    """Rewrite comments and strings of a Python file only."""
    import io
    import tokenize

    out, lines = [], text.splitlines(keepends=True)
    spans = []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            spans.append((token.start, token.end, token.string))
    for (row, column), (end_row, end_column), string in reversed(spans):
        new = rewrite_text(path, string)
        if new == string:
            continue
        head = lines[row - 1][:column]
        tail = lines[end_row - 1][end_column:]
        lines[row - 1 : end_row] = [head + new + tail]
    return "".join(lines)


def main() -> None:
    rename_symbols()
    rename_tokens()
    for path, places in edits.items():
        lines = (COPY / path).read_text().splitlines(keepends=True)
        for (line, start, end), new in places.items():
            APPLIED[path][lines[line][start:end]].add(new)
        last: tuple = (10**9, 0, 0)
        for (line, start, end), new in sorted(places.items(), reverse=True):
            if line == last[0] and end > last[1]:
                problems.append(f"overlap in {path}:{line + 1}")
                continue
            lines[line] = lines[line][:start] + new + lines[line][end:]
            last = (line, start, end)
        (ROOT / path).write_text("".join(lines))
    for path in listed:
        file = ROOT / path
        if path.startswith("rename/") or file.is_symlink():
            continue
        if path.endswith(".py"):
            text = file.read_text()
            new = python_text(path, rewrite_imports(path, text))
        elif path.endswith((".md", ".toml", ".yaml", ".txt", ".html", ".tpl", ".yml")) or path in ("Makefile", "Containerfile", ".dockerignore", ".gitignore"):
            text = file.read_text()
            new = rewrite_text(path, text)
        else:
            continue
        if path.endswith(".html"):
            new = rewrite_template(path, new)
        if new != text:
            file.write_text(new)
    for path in listed:
        new = MAPS.path(path)
        if new != path:
            target = ROOT / new
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["git", "mv", path, new], cwd=ROOT, check=True)
    for path in listed:
        if path.endswith(".py"):
            folder = (ROOT / MAPS.path(path)).parent
            while folder != ROOT:
                if not (folder / "__init__.py").exists() and folder.relative_to(ROOT).parts[0] in ("controller", "webhook", "counterfoil", "sandbox"):
                    problems.append(f"no __init__: {folder.relative_to(ROOT)}")
                    (folder / "__init__.py").write_text(f'"""TODO {folder.relative_to(ROOT)}."""\n')
                folder = folder.parent
    print("\n".join(dict.fromkeys(problems)))


main()
