"""
When an unfinished event is due, as a pure function of the event and of what exists around it.

Level-triggered: it looks at spec and status only, never at what changed. So whatever solves a problem (a new key, a
mended Archive, an Organization that is no longer suspended) brings everything that waited for it back by itself.
"""

from datetime import UTC, datetime

from controller.office import Office
from counterfoil.resources import REQUEST_LABEL, EnvelopeEvent, Phase, is_true

EPOCH = datetime.fromtimestamp(0, UTC)

HELD = frozenset({"Suspended", "OrganizationSuspended", "SenderSuspended"})
"""Reasons of events that a person holds: they wait for no time, only for the suspension to end."""


def due(event: EnvelopeEvent, office: Office) -> datetime | None:
    """Return when the event is to be worked on; in the past: now; None: not before something changes."""
    status = event.status
    if status.phase.is_final or is_asked_about(event):
        return None
    if is_held(event, office):
        # Once, so that its status says why nothing happens; then not until the suspension ends.
        return None if status.reason in HELD else EPOCH
    if status.reason in HELD:
        return EPOCH
    if status.phase is Phase.AWAITING_CONSENT:
        return EPOCH if _key_works(event, office) else None
    return status.next_attempt_time or event.metadata.creation_timestamp or EPOCH


def is_asked_about(event: EnvelopeEvent) -> bool:
    """Whether a person asked for something that is not carried out yet; that comes first."""
    return REQUEST_LABEL in event.metadata.labels


def is_held(event: EnvelopeEvent, office: Office) -> bool:
    """Whether a person suspended the event, its organization or its sender."""
    organization = office.organizations.get(event.organization)
    sender = office.senders.get(office.sender_of.get(event.name, ""))
    return (
        event.spec.suspend
        or (organization is not None and organization.spec.suspend)
        or (sender is not None and sender.spec.suspend)
    )


def _key_works(event: EnvelopeEvent, office: Office) -> bool:
    seen = event.status.envelope
    name = office.sender_of.get(event.name) or (seen.sender_ref.name if seen and seen.sender_ref else "")
    sender = office.senders.get(name)
    # A Sender that is gone lets the event run: its look-up then says what is wrong.
    return sender is None or is_true(sender.status.conditions, "Authorized")
