"""Tests run against a changed module, and neither the change nor an endless test leaves anything behind."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest

from tests.support.repository import ROOT
from verification.mutation.forked_tests import ResultRecorder, dependents, imports_of

PROGRAM = """
import sys
from pathlib import Path
from verification.mutation.forked_tests import BaselineFailed, WarmTests, function_of

root = Path(sys.argv[1])
module, tests = "counterfoil/double.py", ["tests/test_double.py"]
tests = WarmTests(root, module, tests, imported=root / "imported.json", minimum_timeout=1.0)
assert "counterfoil.double" not in sys.modules and "counterfoil.uses_double" not in sys.modules
assert "counterfoil.other" in sys.modules
source = (root / "counterfoil" / "double.py").read_text("utf-8")
for after in ("number * 2", "number * 3", "double(number)", "1 +", "[0 for _ in iter(int, 1)]"):
    print(tests.outcome(source.replace("number * 2", after)).status)
run = tests.outcome(source.replace("number * 2", "number * 3"), stop_at_first=False)
print("failed:", sorted(map(function_of, run.failed)), "of", sorted(tests.tests))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return a_tree(tmp_path)


def a_tree(folder: Path) -> Path:
    """A product of three modules with one test, at our place."""
    files = {
        "pytest.ini": "[pytest]\nasyncio_mode = auto\n",
        "counterfoil/__init__.py": "",
        "counterfoil/other.py": "OTHER = 1\n",
        "counterfoil/double.py": "def double(number: int) -> int:\n    return number * 2\n",
        "counterfoil/uses_double.py": "from counterfoil.double import double\nFOUR = double(2)\n",
        "tests/__init__.py": "",
        "tests/test_double.py": (
            "from counterfoil import other, uses_double\n\n"
            "import pytest\n\n"
            "async def test_it() -> None:\n    assert uses_double.FOUR == 4\n\n"
            "@pytest.mark.parametrize('number', [0, 1])\n"
            "def test_other(number: int) -> None:\n    assert number < 2\n"
        ),
    }
    for name, content in files.items():
        file = folder / "tree" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, "utf-8")
    return folder / "tree"


def run(tree: Path) -> subprocess.CompletedProcess[str]:
    """Run it in a separate process, since it imports modules that no other test should find imported."""
    environment = {"PYTHONPATH": f"{tree}:{ROOT}", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-P", "-c", PROGRAM, str(tree)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


class Ended(NamedTuple):
    """The end of a run of the program, and the changed module before and after it."""

    stderr: str
    lines: list[str]
    before: str
    after: str


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """One run for the tests that change nothing in the tree: it starts pytest nine times."""
    tree = a_tree(tmp_path_factory.mktemp("mutation"))
    file = tree / "counterfoil" / "double.py"
    before = file.read_text("utf-8")
    ended = run(tree)
    return Ended(ended.stderr, ended.stdout.splitlines(), before, file.read_text("utf-8"))


def test_each_change_gets_the_verdict_of_the_tests_and_the_file_stays_as_it_is(ended: Ended) -> None:
    assert ended.stderr == ""
    # Unchanged: passed. Wrong, without an end of the recursion, no Python: not passed. Endless: stopped.
    unchanged, *wrong, endless = ended.lines[:5]
    assert unchanged == "0"
    assert "0" not in wrong
    assert endless in {"None", "-24", "-9"}
    assert ended.after == ended.before


def test_the_tests_that_failed_are_known_without_their_parameters(ended: Ended) -> None:
    failed, other = (f"tests/test_double.py::test_{each}" for each in ("it", "other"))
    assert ended.lines[5:] == [f"failed: {[failed]} of {[failed, other]}"]


def test_the_shortest_test_runs_first() -> None:
    items = [SimpleNamespace(nodeid=each) for each in ("long", "new", "short")]
    recorder = ResultRecorder({"long": 2.0, "short": 0.1})
    recorder.pytest_collection_modifyitems(items)  # type: ignore[arg-type]
    assert [each.nodeid for each in items] == ["new", "short", "long"]


def test_tests_that_fail_without_a_change_are_no_measure(tree: Path) -> None:
    (tree / "counterfoil" / "double.py").write_text("def double(number):\n    return 5\n", "utf-8")
    assert (
        "BaselineFailed: counterfoil.double: the tests fail although nothing was changed" in run(tree).stderr
    )


def test_tests_that_never_import_the_module_are_no_measure(tree: Path) -> None:
    (tree / "tests" / "test_double.py").write_text("def test_it():\n    pass\n", "utf-8")
    assert "the tests pass although the module cannot be imported" in run(tree).stderr


def test_what_depends_on_a_module_is_found_through_others_and_through_packages(tree: Path) -> None:
    (tree / "counterfoil" / "late.py").write_text("def f():\n    import counterfoil.uses_double\n", "utf-8")
    found = dependents("counterfoil.double", imports_of(tree))
    assert found == {
        "counterfoil.double",
        "counterfoil.uses_double",
        "counterfoil.late",
        "tests.test_double",
    }
