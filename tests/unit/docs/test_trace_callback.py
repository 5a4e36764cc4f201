"""The way of one event through the modules of the reconciler, as a reader follows it."""

from docs.tools.call_recorder import ENTRY
from docs.tools.trace_callback import Node, walk_of

WRITER = "controller/reconcile/transition_writer.py TransitionWriter.store"
FENCE = "controller/reconcile/fence.py Fence.check"


def test_each_call_and_each_return_to_another_module_is_a_step() -> None:
    nodes = [Node(1, "0", ENTRY), Node(2, "1", FENCE), Node(3, "1", WRITER)]
    assert walk_of(nodes) == [
        "controller/reconcile/reconciler.py",
        "controller/reconcile/fence.py",
        "controller/reconcile/reconciler.py",
        "controller/reconcile/transition_writer.py",
    ]


def test_a_module_outside_is_no_step_but_what_it_calls_is() -> None:
    nodes = [Node(1, "0", ENTRY), Node(2, "1", "counterfoil/clock.py Clock.now"), Node(3, "2", FENCE)]
    assert walk_of(nodes) == ["controller/reconcile/reconciler.py", "controller/reconcile/fence.py"]


def test_a_function_is_read_once() -> None:
    nodes = [Node(1, "0", ENTRY), Node(2, "1", FENCE), Node(3, "1", FENCE)]
    assert walk_of(nodes) == ["controller/reconcile/reconciler.py", "controller/reconcile/fence.py"]


def test_what_a_function_calls_only_later_is_read_then() -> None:
    """A phase is run by the same function as the phase before it."""
    nodes = [Node(1, "0", ENTRY), Node(2, "1", FENCE), Node(3, "1", FENCE), Node(4, "3", WRITER)]
    assert walk_of(nodes) == [
        "controller/reconcile/reconciler.py",
        "controller/reconcile/fence.py",
        "controller/reconcile/reconciler.py",
        "controller/reconcile/transition_writer.py",
    ]
