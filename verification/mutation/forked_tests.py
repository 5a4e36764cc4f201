"""
Run unit tests against a changed module, in a process that has imported everything else already.

``WarmTests`` imports what the tests need and what does not depend on the module, once. ``outcome`` forks: the
child imports the changed source in place of the module's file and runs pytest. No file is ever changed, so an
interrupted run leaves nothing behind. What the tests start as another program has the module as it is.
"""

import ast
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

import pytest

from sandbox.controlplane.die_with_parent import die_with

OWN_PACKAGES = ("controller", "counterfoil", "webhook", "sandbox", "tests")
_PYTEST = ("-p", "pytest_asyncio.plugin", "-p", "no:cacheprovider", "-q", "--no-header", "--tb=line")
_BASELINE_TIMEOUT = 1200.0


class BaselineFailed(Exception):
    """The tests fail although nothing was changed."""


@dataclass(frozen=True)
class TestRun:
    """
    The end of one run of the tests: exit status (None after the time-out), end of the output, seconds and
    how many of them a processor worked.

    ``tests`` are the tests that ran with their seconds, and ``failed`` those that failed, by pytest's names;
    both are empty if the run did not come to its end.
    """

    status: int | None
    output: str
    seconds: float
    processor_seconds: float
    tests: Mapping[str, float]
    failed: frozenset[str]


class ResultRecorder:
    """A plugin of pytest: runs the tests from the shortest to the longest, and notes their results."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self._known = seconds
        self.seconds: dict[str, float] = {}
        self.failed: list[str] = []

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort the tests by the seconds that they needed before; an unknown one comes first."""
        items.sort(key=lambda each: self._known.get(each.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note the seconds of a test's set-up, call or tear-down, and whether it failed."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if report.failed:
            self.failed.append(report.nodeid)


class _ChangedModule(importlib.abc.MetaPathFinder):
    """Finds one module, with other source than its file has."""

    def __init__(self, name: str, file: Path, source: str) -> None:
        self._name = name
        self._loader = _ChangedLoader(name, file, source)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_file_location(fullname, self._loader.path, loader=self._loader)


class _ChangedLoader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, file: Path, source: str) -> None:
        super().__init__(name, str(file))
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)


class WarmTests:
    """Test files and the module that they test, with all imports that both need and that stay the same."""

    def __init__(
        self,
        root: Path,
        module: str,
        tests: Sequence[str],
        *,
        imported: Path,
        minimum_timeout: float = 15.0,
    ) -> None:
        """
        Run the tests, and import what stays the same. ``module`` and ``tests`` are paths from ``root``.

        ``imported`` is a file with the names of modules that tests imported before, to be imported at once;
        the names of this run are added. A run may take 20 times the seconds that the tests need, and four
        times ``minimum_timeout``. A processor may work six times as long as for the tests, and a third of
        ``minimum_timeout``. Raises ``BaselineFailed``.
        """
        self._root, self._file = root, root / module
        self._name = module.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        if self._name in sys.modules:
            raise BaselineFailed(f"{self._name} is imported already: one process for each module")
        self._tests, self._imported = tests, imported
        self._timeout = self._processor_timeout = _BASELINE_TIMEOUT
        self._test_seconds: Mapping[str, float] = {}
        self._run_baseline()
        self._import_all(names_in(imported))
        self._expect_that_a_change_is_seen()
        baseline = self._run_baseline()
        self.seconds, self.processor_seconds = baseline.seconds, baseline.processor_seconds
        self._test_seconds = baseline.tests
        self.tests = frozenset(map(function_of, baseline.tests))
        # A change can let a test wait for what never comes, or make a loop endless. The second is known
        # sooner: other programs that work at the same time do not count.
        self._timeout = 4 * minimum_timeout + 20 * self.seconds
        self._processor_timeout = minimum_timeout / 3 + 6 * baseline.processor_seconds
        gc.freeze()

    def outcome(self, source: str, *, stop_at_first: bool = True) -> TestRun:
        """Run the tests with this source as the module's, from the shortest to the longest."""
        begin = time.monotonic()
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output,
            tempfile.TemporaryFile("w+", encoding="utf-8") as results,
        ):
            sys.stdout.flush()
            parent = os.getpid()
            child = os.fork()
            if not child:
                self._be_the_child(parent, output, results, source, stop_at_first=stop_at_first)
            status, processor_seconds = _wait(child, begin + self._timeout)
            output.seek(0)
            results.seek(0)
            seconds, failed = json.loads(results.read() or "[{}, []]")
            duration = time.monotonic() - begin
            return TestRun(
                status, output.read()[-2000:], duration, processor_seconds, seconds, frozenset(failed)
            )

    def _run_baseline(self) -> TestRun:
        run = self.outcome(self._file.read_text("utf-8"))
        if run.status != 0:
            raise BaselineFailed(f"{self._name}: the tests fail although nothing was changed:\n{run.output}")
        return run

    def _expect_that_a_change_is_seen(self) -> None:
        run = self.outcome("raise RuntimeError")
        if run.status == 0:
            raise BaselineFailed(f"{self._name}: the tests pass although the module cannot be imported")

    def _be_the_child(
        self, parent: int, output: io.TextIOBase, results: io.TextIOBase, source: str, *, stop_at_first: bool
    ) -> None:
        status = 70
        try:
            os.setsid()
            # An endless loop must not outlive this command.
            die_with(parent)
            for stream in (1, 2):
                os.dup2(output.fileno(), stream)
            os.chdir(self._root)
            limit = int(self._processor_timeout) + 1
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
            sys.path.insert(0, str(self._root))
            os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
            os.environ["HYPOTHESIS_PROFILE"] = "mutation"
            sys.meta_path.insert(0, _ChangedModule(self._name, self._file, source))
            recorder = ResultRecorder(self._test_seconds)
            stop = ["-x"] if stop_at_first else []
            status = int(pytest.main([*_PYTEST, *stop, *self._tests], plugins=[recorder]))
            json.dump([recorder.seconds, recorder.failed], results)
            results.flush()
            if self._timeout >= _BASELINE_TIMEOUT:
                names = [*names_in(self._imported), *sys.modules]
                self._imported.write_text(json.dumps(list(dict.fromkeys(names))), "utf-8")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _import_all(self, names: Sequence[str]) -> None:
        depending = dependents(self._name, imports_of(self._root))
        import_others(names)
        for name in names:
            is_test = name.rpartition(".")[2].startswith(("test_", "conftest"))
            if _is_own(name) and not is_test and name not in depending:
                with suppress(Exception):
                    importlib.import_module(name)


def function_of(test: str) -> str:
    """Return pytest's name of a test without its parameters."""
    return test.partition("[")[0]


def names_in(imported: Path) -> list[str]:
    """Return the names in a file of modules that tests imported; none if there is no such file."""
    names: list[str] = json.loads(imported.read_text("utf-8")) if imported.exists() else []
    return names


def import_others(names: Sequence[str]) -> None:
    """Import the modules of others, which are the same for each of our modules."""
    for name in names:
        if not _is_own(name) and name not in sys.modules:
            # Some modules exist only in the process that made them.
            with suppress(Exception):
                importlib.import_module(name)


def _is_own(name: str) -> bool:
    return name.partition(".")[0] in OWN_PACKAGES


def imports_of(root: Path) -> Mapping[str, frozenset[str]]:
    """Return which modules each of our modules imports, its own package included."""
    files = [file for package in OWN_PACKAGES for file in (root / package).rglob("*.py")]
    found = {}
    for file in files:
        name = ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        found[name] = frozenset(_imported_names(ast.parse(file.read_text("utf-8")), name))
    return found


def _imported_names(tree: ast.Module, name: str) -> list[str]:
    names = [name.rpartition(".")[0]]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [each.name for each in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
    return [
        ".".join(parts[: end + 1])
        for each in names
        for parts in [each.split(".")]
        for end in range(len(parts))
    ]


def dependents(name: str, imports: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Return a module and all that import it, directly or not."""
    found = {name}
    while more := {each for each, imported in imports.items() if each not in found and imported & found}:
        found |= more
    return frozenset(found)


def _wait(child: int, deadline: float) -> tuple[int | None, float]:
    """Wait for a process, and end its session. Return the exit status (None after the deadline), and the
    seconds that a processor worked."""
    pause = 0.005
    status: int | None = None
    worked = 0.0
    while time.monotonic() < deadline:
        done, raw, usage = os.wait4(child, os.WNOHANG)
        if done:
            status, worked = os.waitstatus_to_exitcode(raw), usage.ru_utime + usage.ru_stime
            break
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
    return status, worked
