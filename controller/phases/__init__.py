"""
The phases of an event, one module each with one public coroutine. A phase has at most one side effect, says what it
found, and writes no status. To add one: a module here, a line in ``LADDER`` here and in ``controller.transitions``.
"""

from collections.abc import Awaitable, Callable, Mapping

from controller.desk import Desk
from controller.outcomes import Outcome
from controller.phases.archive import archive
from controller.phases.clean import clean
from controller.phases.collect import collect
from controller.phases.validate import validate
from counterfoil.resources import EnvelopeEvent, Phase

PhaseWork = Callable[[EnvelopeEvent, Desk], Awaitable[Outcome]]

WORK: Mapping[Phase, PhaseWork] = {
    Phase.VALIDATING: validate,
    Phase.COLLECTING: collect,
    Phase.ARCHIVING: archive,
    Phase.CLEANING: clean,
}

__all__ = ["WORK", "PhaseWork"]
