"""
Run the mutants of one module, and remember which were killed.

The session is a file in ``.mutation/``, with each mutant under the hash of its source. So an interrupted run
continues where it was, and a change of the module or of its tests begins a new session.
"""

import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import parso
from cosmic_ray.ast import ast_nodes
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator

from verification.mutation import operators
from verification.mutation.compiled import compiled_code
from verification.mutation.forked_tests import BaselineFailed, WarmTests, function_of
from verification.mutation.modules import ROOT, Change, MutatedModule
from verification.mutation.results import ModuleResult

FOLDER = ROOT / ".mutation"
IMPORTED = FOLDER / "imported.json"


@dataclass(frozen=True)
class Mutant:
    """A module with one change, and the line of the change."""

    source: str
    line: int
    change: Change

    @property
    def key(self) -> str:
        """Its name in the session."""
        return hashlib.sha256(self.source.encode()).hexdigest()


def run_module(
    module: MutatedModule,
    *,
    sample: int,
    seed: int,
    keep_killed: bool,
    all_tests: bool,
    report: Callable[[str], None],
) -> ModuleResult:
    """
    Run a sample of a module's mutants (0: all) and its explained survivors.

    ``keep_killed``: after a change of the tests alone, run only what had survived. ``all_tests``: run each
    mutant, also after a failure of a test, and report the tests that failed for none.
    """
    FOLDER.mkdir(exist_ok=True)
    operators.register()
    mutants = list(mutants_of((ROOT / module.path).read_text("utf-8")))
    chosen = mutants if not 0 < sample < len(mutants) else random.Random(seed).sample(mutants, sample)
    explained = [each for each in mutants if each.change in module.survivors]
    session = _Session(module, keep_killed=keep_killed)
    known = {} if all_tests else session.killed
    pending = [each for each in dict.fromkeys((*chosen, *explained)) if each.key not in known]
    if pending:
        warm = WarmTests(ROOT, module.path, module.tests, imported=IMPORTED)
        report(
            f"{module.path}: {len(pending)} mutants to run; the tests take {warm.seconds:.1f} s "
            f"({warm.processor_seconds:.1f} s of a processor)"
        )
        without_failure = set(warm.tests)
        for number, mutant in enumerate(pending, 1):
            run = warm.outcome(mutant.source, stop_at_first=not all_tests)
            is_killed = run.status != 0
            session.keep(mutant, is_killed=is_killed)
            without_failure -= {function_of(each) for each in run.failed}
            if run.status is None:
                report(
                    f"  {number}/{len(pending)} ran into the time-out in line {mutant.line}: {mutant.change}"
                )
            if not is_killed and mutant.change not in module.survivors:
                report(f"  {number}/{len(pending)} survived in line {mutant.line}: {mutant.change}")
        if all_tests:
            report("\n".join(("  tests that failed for no mutant:", *sorted(without_failure))))
    if session.is_outdated():
        raise BaselineFailed(f"{module.path}: its tests were changed during the run; run it again")
    by_change: dict[Change, bool] = {}
    for each in explained:
        by_change[each.change] = by_change.get(each.change, True) and session.killed[each.key]
    return ModuleResult(
        module,
        len(mutants),
        "all" if chosen is mutants else f"sample of {sample}, seed {seed}",
        tuple((each.change, session.killed[each.key]) for each in chosen),
        by_change,
    )


def mutants_of(source: str) -> Iterator[Mutant]:
    """Yield each different mutant of a module that is valid Python, in the order of their places."""
    tree, quiet = parso.parse(source), operators.quiet_places(source)
    places = [
        (begin, name, occurrence, end)
        for name in operators.NAMES
        for occurrence, (begin, end) in enumerate(_positions(get_operator(name)(), tree))
    ]
    seen = {compiled_code(source)}
    for begin, name, occurrence, end in sorted(places):
        if any(first <= begin and end <= last for first, last in quiet):
            continue
        mutated = _mutated(source, name, occurrence)
        compiled = None if mutated is None else compiled_code(mutated)
        if mutated is not None and compiled is not None and compiled not in seen:
            seen.add(compiled)
            yield Mutant(mutated, begin[0], Change.between(source, mutated))


def _positions(operator: Any, tree: Any) -> Iterator[tuple[operators.Position, operators.Position]]:
    for node in ast_nodes(tree):
        yield from operator.mutation_positions(node)


def _mutated(source: str, name: str, occurrence: int) -> str | None:
    try:
        mutated: str | None = mutate_code(source, get_operator(name)(), occurrence)
    except AttributeError:
        # Cosmic Ray replaces no exception whose name has a dot.
        return None
    return mutated


class _Session:
    """Which mutants of a module were killed."""

    def __init__(self, module: MutatedModule, *, keep_killed: bool) -> None:
        self._file = FOLDER / (re.sub(r"\W", "_", module.path.removesuffix(".py")) + ".json")
        self._files = [ROOT / each for each in module.tests]
        self._tests = self._digest()
        self.killed: dict[str, bool] = {}
        if self._file.exists():
            stored = json.loads(self._file.read_text("utf-8"))
            if stored["tests"] == self._tests:
                self.killed = stored["killed"]
            elif keep_killed:
                self.killed = {key: is_killed for key, is_killed in stored["killed"].items() if is_killed}

    def is_outdated(self) -> bool:
        return self._digest() != self._tests

    def keep(self, mutant: Mutant, *, is_killed: bool) -> None:
        self.killed[mutant.key] = is_killed
        written = self._file.with_suffix(".new")
        written.write_text(json.dumps({"tests": self._tests, "killed": self.killed}), "utf-8")
        written.replace(self._file)

    def _digest(self) -> str:
        return hashlib.sha256(b"\0".join(each.read_bytes() for each in self._files)).hexdigest()
