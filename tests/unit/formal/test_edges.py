"""The model's transitions are those of the code's state machine."""

from controller.reconcile.state_machine import PHASE_ORDER
from counterfoil.resources import Phase
from verification.formal import edges


def test_the_model_has_the_transitions_of_the_state_machine() -> None:
    assert edges.FILE.read_text(encoding="utf-8") == edges.render(), (
        "run `python -m verification.formal.edges`"
    )


def test_every_phase_has_a_transition_for_every_outcome() -> None:
    for outcome in edges.OUTCOMES:
        assert [each.phase for each in edges.edges(outcome)] == list(PHASE_ORDER)


def test_the_transitions_to_an_earlier_phase_are_those_that_a_phase_asks_for() -> None:
    found = {(each.phase, each.resume) for each in edges.restarts()}
    assert found == {
        (Phase.COLLECTING, Phase.VALIDATING),
        (Phase.ARCHIVING, Phase.COLLECTING),
        (Phase.ARCHIVING, Phase.VALIDATING),
        (Phase.COPYING, Phase.COLLECTING),
        (Phase.COPYING, Phase.VALIDATING),
        (Phase.CLEANING, Phase.COPYING),
        (Phase.CLEANING, Phase.COLLECTING),
        (Phase.CLEANING, Phase.VALIDATING),
    }


def test_the_model_uses_every_transition() -> None:
    model = edges.FILE.with_name("envelope.pml").read_text(encoding="utf-8")
    assert all(f"{outcome}(" in model for outcome in (*edges.OUTCOMES, "restart_from"))
