"""
``python -m verification.formal.edges``: the transitions of the model, made from the code's state machine.

``verification/formal/edges.pml`` has the phases, ``MAX_MISMATCHES``, and one ``inline`` per outcome of a
phase. So the model can't have another transition than the code: each is a result of
``state_machine.next_status``. A test compares the file with the code.
"""

import ast
import inspect
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from controller.reconcile import phases
from controller.reconcile.outcomes import (
    Done,
    Fail,
    Hold,
    NeedConsent,
    Outcome,
    Pause,
    PhaseFacts,
    Skip,
    Wait,
)
from controller.reconcile.phases.repeated_archiving import MAX_MISMATCHES, copies_pending
from controller.reconcile.phases.restarted_envelope import ask_before_copies
from controller.reconcile.state_machine import (
    PHASE_ORDER,
    TransitionInput,
    next_status,
    phase_to_resume,
)
from counterfoil.resources import PHASE_CONDITIONS, Condition, EnvelopeEventStatus, Phase, RetrySpec

FILE: Final = Path(__file__).with_name("edges.pml")
NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)

OUTCOMES: Final[dict[str, Outcome]] = {
    "done": Done("Tested", ""),
    "done_with_copies": Done("Tested", "", facts=PhaseFacts(side_conditions=(copies_pending("Tested"),))),
    "wait": Wait("Tested", ""),
    "exceed_deadline": Wait("Tested", ""),
    "pause": Pause("Tested", "", until=NOW),
    "hold": Hold("Tested", ""),
    "need_consent": NeedConsent("Tested", ""),
    "skip_envelope": Skip("Tested", ""),
    "fail": Fail("Tested", ""),
}
"""The outcomes by their name in the model."""

ENTRIES: Final[dict[Phase, tuple[phases.PhaseFunction, ...]]] = {
    phase: (function, ask_before_copies) if phase is Phase.COPYING else (function,)
    for phase, function in phases.PHASE_FUNCTIONS.items()
}
"""The functions of each phase. The question to eSAW before Copying is chosen by ``phase_runner``."""


class Edge(NamedTuple):
    """One transition: a phase ends with an outcome; the next run begins with the phase ``resume``."""

    phase: Phase
    after: Phase
    resume: Phase


def edges(outcome: str) -> tuple[Edge, ...]:
    """Return the transitions of an outcome of ``OUTCOMES``, one for each phase."""
    # A deadline that began long ago is exceeded by the same attempt that is otherwise repeated.
    started = NOW - timedelta(days=365) if outcome == "exceed_deadline" else NOW
    return tuple(_edge(phase, OUTCOMES[outcome], started) for phase in PHASE_ORDER)


def restarts() -> tuple[Edge, ...]:
    """Return the transitions to an earlier phase: those that a phase asks for."""
    return tuple(
        _edge(phase, Wait("Tested", "", restart_from=target), NOW)
        for phase in PHASE_ORDER
        for target in sorted(_restart_targets(phase), key=PHASE_ORDER.index)
    )


def render() -> str:
    """Return the content of ``verification/formal/edges.pml``."""
    lines = [
        "/* Written by `python -m verification.formal.edges` from the state machine and the phases; "
        "edit those. */"
    ]
    lines += [f"#define {_name(phase)} {number}" for number, phase in enumerate(Phase)]
    lines.append(f"#define MAX_MISMATCHES {MAX_MISMATCHES}")
    for outcome in OUTCOMES:
        chosen = {f"p == {_name(each.phase)}": each for each in edges(outcome)}
        lines.append(_inline(f"{outcome}(p)", chosen))
    chosen = {f"p == {_name(each.phase)} && first == {_name(each.resume)}": each for each in restarts()}
    lines.append(_inline("restart_from(p, first)", chosen))
    return "\n".join([*lines, ""])


def _inline(head: str, chosen: Mapping[str, Edge]) -> str:
    """Return an ``inline`` of the model. Spin keeps expressions far smaller than a choice of statements."""
    after, resume = (
        "".join(f"({condition} -> {_name(edge[field])} : " for condition, edge in chosen.items())
        + f"{len(Phase)}{')' * len(chosen)}"
        for field in (1, 2)
    )
    return f"inline {head} {{ phase = {after}; resume = {resume} }}"


def _edge(phase: Phase, outcome: Outcome, started: datetime) -> Edge:
    earlier = PHASE_ORDER[: PHASE_ORDER.index(phase)]
    conditions = [Condition(PHASE_CONDITIONS[each], "True", "Tested", "", NOW) for each in earlier]
    if phase is Phase.COPYING:
        # The phase exists only where copies are open.
        conditions.append(Condition(PHASE_CONDITIONS[phase], "Unknown", "Tested", "", NOW))
    status = EnvelopeEventStatus(phase=phase, phase_start_time=started, conditions=tuple(conditions))
    inputs = TransitionInput(now=NOW, generation=1, retry=RetrySpec(), random=lambda: 0.5)
    after = next_status(status, phase, outcome, inputs)
    return Edge(phase, after.phase, phase_to_resume(after))


def _restart_targets(phase: Phase) -> set[Phase]:
    """Return the phases with which a phase starts again: those in its functions, and in all that they use of
    the package of the phases."""
    return {
        Phase[keyword.value.attr]
        for tree in _used_code(ENTRIES[phase])
        for keyword in ast.walk(tree)
        if isinstance(keyword, ast.keyword)
        and keyword.arg == "restart_from"
        and isinstance(keyword.value, ast.Attribute)
    }


def _used_code(entries: Iterable[object]) -> Iterator[ast.AST]:
    """Yield the code of functions, and of each function and class of the phases that they name."""
    known = list(entries)
    # The list grows while it is read.
    for each in known:
        module = inspect.getmodule(each)
        tree = ast.parse(inspect.getsource(inspect.unwrap(each)))  # type: ignore[arg-type]
        yield tree
        names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
        used = (vars(module).get(name) for name in names)
        known += [other for other in dict.fromkeys(filter(_is_of_a_phase, used)) if other not in known]


def _is_of_a_phase(value: object) -> bool:
    is_code = inspect.isfunction(value) or inspect.isclass(value)
    return is_code and value.__module__.startswith(f"{phases.__name__}.")


def _name(phase: Phase) -> str:
    """Return a phase as the model writes it: AwaitingConsent as AWAITING_CONSENT."""
    return phase.name


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
