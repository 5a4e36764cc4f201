"""
Keep the tests' shape: what two of them need is in ``tests/support``, once.

Each rule takes parsed modules and returns its violations as ``path:line: message``. Each rule is tested with
a planted violation and with the tests themselves.
"""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.repository import ROOT


class Module(NamedTuple):
    """A parsed Python file, with its path relative to the root."""

    path: str
    tree: ast.Module


def modules_of(root: Path) -> Iterator[Module]:
    """The tests, and each other module that has their name in it."""
    for folder in sorted(each for each in root.iterdir() if each.is_dir() and each.name[0] != "."):
        for file in sorted(folder.rglob("*.py")):
            source = file.read_text(encoding="utf-8")
            if folder.name == "tests" or "tests" in source:
                yield Module(file.relative_to(root).as_posix(), ast.parse(source))


# -- Rules -----------------------------------------------------------------------------------------


def imports_of_tests(modules: Iterable[Module]) -> list[str]:
    """No module imports a module with tests, or a conftest; only a conftest takes the hooks of another."""
    return [
        f"{module.path}:{line}: {name} is imported; what two modules need is in tests/support"
        for module in modules
        for line, name in _imported(module)
        if any(part.startswith("test_") for part in name.split(".")[1:])
        or ("conftest" in name.split(".") and Path(module.path).name != "conftest.py")
    ]


CLOCKS = {"tests/support/builders.py:AClock", "tests/support/virtual_time.py:VirtualClock"}
"""The clock that a test sets, and the one of an event loop whose time passes at once."""


def other_clocks(modules: Iterable[Module]) -> list[str]:
    """A test has one of the ``CLOCKS``, or the real one, or a class that changes something of one of them."""
    return [
        f"{module.path}:{node.lineno}: {node.name} is one more clock; use AClock"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        and module.path.startswith("tests/")
        and f"{module.path}:{node.name}" not in CLOCKS
        and not {"AClock", "WallClock", "Protocol"} & {ast.unparse(base) for base in node.bases}
        and (
            node.name.endswith("Clock")
            or {"now", "monotonic"} <= {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
        )
    ]


API_SERVERS = {
    "tests/support/fakes/kube.py:InMemoryKubeClient",
    # Reports objects as a watch does, in any order, and stores no change of a client.
    "tests/unit/controller/test_cache_model.py:ApiServer",
    # Refuses what a support bundle reads; it has no objects.
    "tests/unit/counterfoil/cli/test_plugin.py:ForbiddingKubeClient",
}
"""The API server in memory, and what has the interface of ``KubeClient`` without being one."""


def other_api_servers(modules: Iterable[Module]) -> list[str]:
    """A ``KubeClient`` of a test changes something of ``InMemoryKubeClient``."""
    return [
        f"{module.path}:{node.lineno}: {node.name} is one more API server; use InMemoryKubeClient"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        and module.path.startswith("tests/")
        and f"{module.path}:{node.name}" not in API_SERVERS
        and "KubeClient" in {ast.unparse(base) for base in node.bases}
    ]


def other_archives(modules: Iterable[Module]) -> list[str]:
    """A class that is an archive changes something of ``MemoryBackend``, or of a backend of the product."""
    return [
        f"{module.path}:{node.lineno}: {node.name} is one more archive; use MemoryBackend"
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
        and module.path.startswith("tests/")
        and (module.path, node.name) != ("tests/support/fakes/archives.py", "MemoryBackend")
        and not node.bases
        and {"entries", "put", "probe"} <= {getattr(each, "name", "") for each in node.body}
    ]


def _imported(module: Module) -> Iterator[tuple[int, str]]:
    """The names below ``tests`` that a module imports, with the package of a relative import."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            folders = Path(module.path).parts[: -node.level] if node.level else ()
            start = ".".join(filter(None, (*folders, node.module)))
            # A fixture or function may be named as a test; a module may be imported from its package.
            names = [start, *(f"{start}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from ((node.lineno, name) for name in names[:1] if name.startswith("tests"))
        yield from (
            (node.lineno, name)
            for name in names[1:]
            if name.startswith("tests") and (ROOT / f"{name.replace('.', '/')}.py").is_file()
        )


# -- The tests -------------------------------------------------------------------------------------


RULES = (imports_of_tests, other_clocks, other_api_servers, other_archives)


def test_the_modules_keep_each_rule() -> None:
    # Each module is parsed once, which takes seconds; the trees of all would take much memory.
    assert [each for module in modules_of(ROOT) for rule in RULES for each in rule([module])] == []


# -- Planted violations ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "from tests.unit.test_locks import check",
        "import tests.unit.test_locks",
        "import tests.unit.test_locks as locks",
        "from tests.unit import test_locks",
        "from .test_locks import check",
        "from . import test_locks",
        "def test_it():\n    from tests.unit.test_locks import check",
        "from tests.e2e.conftest import browser",
        "from tests.e2e import conftest",
    ],
)
@pytest.mark.parametrize("path", ["tests/unit/test_a.py", "tests/support/a.py", "verification/bench/a.py"])
def test_an_import_of_a_test_is_refused(path: str, statement: str) -> None:
    if "from ." in statement:
        path = "tests/unit/test_a.py"
    (violation,) = imports_of_tests([Module(path, ast.parse(statement))])
    assert violation.startswith(f"{path}:{statement.count(chr(10)) + 1}: tests.")


@pytest.mark.parametrize(
    ("path", "statement"),
    [
        ("tests/unit/test_a.py", "from tests.support.builders import an_event"),
        ("tests/unit/test_a.py", "from aiohttp.test_utils import TestServer"),
        ("tests/chaos/conftest.py", "from tests.cluster.conftest import pytest_configure"),
    ],
)
def test_an_import_of_the_shared_parts_is_fine(path: str, statement: str) -> None:
    assert imports_of_tests([Module(path, ast.parse(statement))]) == []


@pytest.mark.parametrize(
    ("source", "is_refused"),
    [
        ("class ManualClock:\n    def now(self): ...", True),
        ("class Time:\n    def now(self): ...\n    def monotonic(self): ...", True),
        ("class CountingClock(AClock):\n    def now(self): ...", False),
        ("class ClockBehind(WallClock):\n    def now(self): ...", False),
        ("class Scene:\n    def now(self): ...", False),
    ],
)
def test_one_more_clock_is_refused(source: str, *, is_refused: bool) -> None:
    assert bool(other_clocks([Module("tests/unit/test_a.py", ast.parse(source))])) is is_refused


@pytest.mark.parametrize(("bases", "is_refused"), [("", True), ("(MemoryBackend)", False)])
def test_one_more_archive_is_refused(bases: str, *, is_refused: bool) -> None:
    methods = "".join(f"    async def {name}(self, name): ...\n" for name in ("entries", "put", "probe"))
    tree = ast.parse(f"class Shelf{bases}:\n{methods}")
    assert bool(other_archives([Module("tests/unit/test_a.py", tree)])) is is_refused


@pytest.mark.parametrize(("base", "is_refused"), [("KubeClient", True), ("InMemoryKubeClient", False)])
def test_one_more_api_server_is_refused(base: str, *, is_refused: bool) -> None:
    tree = ast.parse(f"class Server({base}):\n    async def get(self, kind, name): ...")
    assert bool(other_api_servers([Module("tests/unit/test_a.py", tree)])) is is_refused
