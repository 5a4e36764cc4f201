"""
Conditions of the Kubernetes API conventions (metav1.Condition), which every status has.

Pure functions on tuples of conditions. ``lastTransitionTime`` changes only when ``status`` changes, so an
equal retry does not change the object.

Every kind has ``Ready`` and ``Stalled``, so that kstatus, Flux and Argo CD distinguish three states: works,
continues automatically, needs a person. ``counterfoil.readiness`` decides between the last two.
"""

from datetime import datetime
from typing import Literal

from counterfoil.resources.base import ResourcePart

MAX_MESSAGE_LENGTH = 32768
"""Maximum characters of a condition's message (metav1.Condition)."""

ConditionStatus = Literal["True", "False", "Unknown"]

PENDING = "Pending"
"""Reason of the conditions that the schema sets: no controller has processed the object yet."""


class Condition(ResourcePart, frozen=True, omit_defaults=False):
    """One aspect of an object's state; ``reason`` is CamelCase and stable, ``message`` is for users, and
    stable as well."""

    type: str
    status: ConditionStatus
    reason: str
    message: str
    last_transition_time: datetime
    observed_generation: int = 0


def with_condition(
    conditions: tuple[Condition, ...],
    type_: str,
    status: ConditionStatus,
    reason: str,
    message: str,
    *,
    now: datetime,
    generation: int,
) -> tuple[Condition, ...]:
    """Return the conditions with this one set, in its previous position or at the end."""
    before = find_condition(conditions, type_)
    moved = before is None or before.status != status
    changed = Condition(
        type=type_,
        status=status,
        reason=reason,
        message=message[:MAX_MESSAGE_LENGTH],
        last_transition_time=now.replace(microsecond=0) if moved else before.last_transition_time,  # type: ignore[union-attr]
        observed_generation=generation,
    )
    if before is None:
        return (*conditions, changed)
    return tuple(changed if each.type == type_ else each for each in conditions)


def with_summary(
    conditions: tuple[Condition, ...],
    status: ConditionStatus,
    reason: str,
    message: str,
    *,
    is_stalled: bool,
    now: datetime,
    generation: int,
) -> tuple[Condition, ...]:
    """Return the conditions with ``Ready`` set to this, and ``Stalled`` to the same cause or to False."""
    conditions = with_condition(conditions, "Ready", status, reason, message, now=now, generation=generation)
    cause = (reason, message) if is_stalled else ("NotStalled", "Nobody has to act.")
    truth: ConditionStatus = "True" if is_stalled else "False"
    return with_condition(conditions, "Stalled", truth, *cause, now=now, generation=generation)


def find_condition(conditions: tuple[Condition, ...], type_: str) -> Condition | None:
    """Return the condition of that type, or None."""
    return next((each for each in conditions if each.type == type_), None)


def is_condition_true(conditions: tuple[Condition, ...], type_: str) -> bool:
    """Whether the condition of that type is set and ``True``."""
    found = find_condition(conditions, type_)
    return found is not None and found.status == "True"
