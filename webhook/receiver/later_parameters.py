"""
Parameters of a callback whose event exists already: which are new, and the status that has them. Pure.

The spec of an event has the parameters of the callback that created it, and never changes. The sweep, or
another callback URL, may create the event without them, so later ones are added to its status. The first
value of a name counts.
"""

from collections.abc import Mapping
from datetime import datetime

from msgspec.structs import replace

from counterfoil.resources import EnvelopeEvent, EnvelopeEventStatus
from counterfoil.resources.conditions import find_condition, with_condition
from counterfoil.resources.envelopeevent import PARAMETERS_CONDITION


def new_parameters(given: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """Return the given parameters whose names, in any letter case, are not known yet."""
    names = {name.lower() for name in known}
    return {name: value for name, value in given.items() if name.lower() not in names}


def different_values(given: Mapping[str, str], known: Mapping[str, str]) -> int:
    """Return the number of given parameters that are known with another value."""
    values = {name.lower(): value for name, value in known.items()}
    return sum(values.get(name.lower(), value) != value for name, value in given.items())


def with_parameters(
    event: EnvelopeEvent, status: EnvelopeEventStatus, given: Mapping[str, str], *, now: datetime
) -> EnvelopeEventStatus:
    """Return a status of ``event`` with the new ones of these parameters; a condition names those that came
    late."""
    added = new_parameters(given, event.parameters)
    if not added:
        return status
    status = replace(status, parameters={**status.parameters, **added})
    if not any(each.location for each in status.documents):
        return status
    # Names in the archive are claimed: files may be archived already, with their tags.
    known = find_condition(status.conditions, PARAMETERS_CONDITION)
    is_late = known is not None and known.status == "False"
    names = ", ".join(f"`{name}`" for name in (status.parameters if is_late else added))
    message = (
        f"The parameters {names} came when archiving had begun. Tags of the archived files, or the manifest, "
        "may lack them."
    )
    generation = event.metadata.generation
    conditions = with_condition(
        status.conditions,
        PARAMETERS_CONDITION,
        "False",
        "ParametersLate",
        message,
        now=now,
        generation=generation,
    )
    return replace(status, conditions=conditions)
