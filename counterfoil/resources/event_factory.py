"""
Builds the EnvelopeEvent to create; the receiver, the sweep and the command line use the same function.

Pure: the result has the unique name of the event, its labels and its shard.
"""

from collections.abc import Mapping
from typing import Any

from counterfoil.resources.base import (
    ACTION_LABEL,
    ENVELOPE_LABEL,
    ORGANIZATION_LABEL,
    SENDER_LABEL,
    SHARD_LABEL,
    TRACEPARENT_ANNOTATION,
    LocalObjectReference,
    ObjectMeta,
)
from counterfoil.resources.envelopeevent import EnvelopeEvent, EnvelopeEventSpec, Origin, Workstep
from counterfoil.resources.naming import EnvelopeId, action_label, event_name, shard


def new_event(
    *,
    organization: str,
    envelope: EnvelopeId,
    action: str,
    workstep: Workstep | None = None,
    parameters: Mapping[str, str] | None = None,
    origin: Origin = Origin.CALLBACK,
    sender: str | None = None,
    traceparent: str | None = None,
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """
    Build the EnvelopeEvent to create.

    ``sender`` is the name of the organization's default Sender, if it has one. The controller determines the
    real sender later and corrects the label. ``parameters`` are the organization's own of the callback; they
    are no part of the name. ``traceparent`` is the trace that continues with the event, if any.
    ``labels`` are further ones.
    """
    labels = {
        **(labels or {}),
        ORGANIZATION_LABEL: organization,
        ENVELOPE_LABEL: envelope,
        ACTION_LABEL: action_label(action),
        SHARD_LABEL: str(shard(envelope)),
    }
    if sender is not None:
        labels[SENDER_LABEL] = sender
    workstep_id = workstep.id if workstep is not None and workstep.id is not None else ""
    spec = EnvelopeEventSpec(
        organization_ref=LocalObjectReference(name=organization),
        envelope_id=envelope,
        action=action,
        workstep=workstep,
        parameters=dict(parameters or {}),
        origin=origin,
    )
    metadata = ObjectMeta(
        name=event_name(organization, envelope, action, workstep_id),
        labels=labels,
        annotations={} if traceparent is None else {TRACEPARENT_ANNOTATION: traceparent},
    )
    event = EnvelopeEvent(metadata=metadata, spec=spec).to_dict()
    # Explicit although it is the default: an auditor reads the stored object, not the schema.
    event["spec"]["origin"] = str(origin)
    return event
