"""
The phases of an event: one module each, with one public coroutine.

A phase has at most one side effect, returns an outcome, and writes no status. docs/contributing/README.md
lists the steps to add one.
"""

from collections.abc import Awaitable, Callable, Mapping

from controller.reconcile.context import ReconcileContext
from controller.reconcile.outcomes import Outcome
from controller.reconcile.phases.archive import archive
from controller.reconcile.phases.clean import clean
from controller.reconcile.phases.collect import collect
from controller.reconcile.phases.copy import copy
from controller.reconcile.phases.validate import validate
from counterfoil.resources import EnvelopeEvent, Phase

PhaseFunction = Callable[[EnvelopeEvent, ReconcileContext], Awaitable[Outcome]]

PHASE_FUNCTIONS: Mapping[Phase, PhaseFunction] = {
    Phase.VALIDATING: validate,
    Phase.COLLECTING: collect,
    Phase.ARCHIVING: archive,
    Phase.COPYING: copy,
    Phase.CLEANING: clean,
}

__all__ = ["PHASE_FUNCTIONS", "PhaseFunction"]
