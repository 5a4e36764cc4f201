"""
Conditions of the Kubernetes API conventions (metav1.Condition), which every status has.

Pure functions on tuples of conditions. ``lastTransitionTime`` changes only when ``status`` changes, so an
equal retry does not change the object. A time that can't be right is replaced: else what is counted from it
would never end.

Every kind has ``Ready`` and ``Stalled``, so that kstatus, Flux and Argo CD distinguish three states: works,
continues automatically, needs a person. ``counterfoil.readiness`` decides between the last two.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal

from msgspec.structs import replace

from counterfoil.clock import believed_time, not_before_creation
from counterfoil.resources.base import REASON, FieldSchema, ResourcePart, schema

MAX_MESSAGE_LENGTH = 32768
"""Maximum characters of a condition's message (metav1.Condition)."""

ConditionStatus = Literal["True", "False", "Unknown"]

PENDING = "Pending"
"""Reason of the conditions that the schema sets: no controller has processed the object yet."""

SECRET_UNREADABLE = "SecretUnreadable"  # noqa: S105 - the name of a reason
"""Reason of an object whose Secret the API server can't read."""

SECRET_FORBIDDEN = "SecretForbidden"  # noqa: S105 - the name of a reason
"""Reason of an object whose Secret the controller may not read."""

UNREAD_SECRET_REASONS = frozenset({SECRET_FORBIDDEN, SECRET_UNREADABLE})
"""The reasons with which nothing is known about the content of a Secret."""


def _condition_type(example: str) -> FieldSchema:
    return schema(
        f"Type of the condition. Example: {example}.", maxLength=316, pattern="^[A-Za-z][A-Za-z0-9]*$"
    )


class Condition(ResourcePart, frozen=True, omit_defaults=False):
    """One aspect of the state (metav1.Condition)."""

    type: Annotated[str, _condition_type("Ready")]
    status: Annotated[ConditionStatus, schema("Whether the condition is true.")]
    reason: Annotated[
        str,
        schema(
            "Reason, in one CamelCase word that stays the same between versions.",
            minLength=1,
            maxLength=1024,
            pattern=REASON,
        ),
    ]
    message: Annotated[str, schema("Description of the reason, for people.", maxLength=MAX_MESSAGE_LENGTH)]
    last_transition_time: Annotated[datetime, schema("Time of the last change of `status` (RFC 3339, UTC).")]
    observed_generation: Annotated[
        int, schema("The metadata.generation that this condition describes.", minimum=0)
    ] = 0


def unwritten_condition(type_: str, status: ConditionStatus, reason: str, message: str) -> dict[str, str]:
    """Return a condition that the schema sets, of an object to which nobody wrote a status."""
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "1970-01-01T00:00:00Z",
    }


_NOT_PROCESSED = "A controller has not processed this object yet."

NOT_READY = unwritten_condition("Ready", "Unknown", PENDING, _NOT_PROCESSED)
NOT_STALLED = unwritten_condition("Stalled", "Unknown", PENDING, _NOT_PROCESSED)


def condition_list(description: str, example: str, *unwritten: Mapping[str, str]) -> FieldSchema:
    """
    Declare the conditions of a kind; ``example`` is the type of one.

    ``unwritten`` are those that the schema sets. An object is not ready before a controller has processed it,
    and the default costs no write.
    """
    return schema(
        description,
        parts={"type": _condition_type(example)},
        default=[dict(each) for each in unwritten or (NOT_READY, NOT_STALLED)],
        maxItems=16,
        keys=("type",),
    )


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
    since = before.last_transition_time if before is not None and before.status == status else None
    changed = Condition(
        type=type_,
        status=status,
        reason=reason,
        message=message[:MAX_MESSAGE_LENGTH],
        last_transition_time=believed_time(since, now) or now.replace(microsecond=0),
        observed_generation=generation,
    )
    if before is None:
        return (*conditions, changed)
    return tuple(changed if each.type == type_ else each for each in conditions)


def with_changes(conditions: tuple[Condition, ...], type_: str, **changes: str) -> tuple[Condition, ...]:
    """Return the conditions with other fields of this one, if it is there; all of its other fields stay."""
    return tuple(replace(each, **changes) if each.type == type_ else each for each in conditions)


def with_generation(conditions: tuple[Condition, ...], generation: int) -> tuple[Condition, ...]:
    """Return the conditions as those of this generation: a change of the spec left each of them true."""
    return tuple(
        each if each.observed_generation == generation else replace(each, observed_generation=generation)
        for each in conditions
    )


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
    cause = (reason, message) if is_stalled else ("NotStalled", _not_stalled_message(status))
    truth: ConditionStatus = "True" if is_stalled else "False"
    return with_condition(conditions, "Stalled", truth, *cause, now=now, generation=generation)


def _not_stalled_message(ready: ConditionStatus) -> str:
    if ready == "True":
        return "Nobody has to act."
    # Some causes end without a person, and an administrator should know about them nevertheless.
    return "Counterfoil continues automatically when the cause ends. The condition Ready names the cause."


def find_condition(conditions: tuple[Condition, ...], type_: str) -> Condition | None:
    """Return the condition of that type, or None."""
    return next((each for each in conditions if each.type == type_), None)


def is_condition_true(conditions: tuple[Condition, ...], type_: str) -> bool:
    """Whether the condition of that type is set and ``True``."""
    found = find_condition(conditions, type_)
    return found is not None and found.status == "True"


def transition_time(condition: Condition, created: datetime | None, now: datetime) -> datetime:
    """Return since when a condition has its status, which is not before the object's creation; now if the
    stored time can't be right."""
    return not_before_creation(believed_time(condition.last_transition_time, now) or now, created)
