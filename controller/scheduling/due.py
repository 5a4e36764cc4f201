"""
When an unfinished event is due, as a pure function of the event and of what exists around it.

Level-triggered: it looks at spec and status only, never at what changed. So whatever solves a problem (a new key, a
mended Archive, an Organization that is no longer suspended) brings everything that waited for it back by itself.
"""

from datetime import UTC, datetime

from controller.cache import Cache
from counterfoil.resources import REQUEST_LABEL, EnvelopeEvent, Phase, is_condition_true

EPOCH = datetime.fromtimestamp(0, UTC)

SUSPENDED_REASONS = frozenset({"Suspended", "OrganizationSuspended", "SenderSuspended"})
"""Reasons of events that a person holds: they wait for no time, only for the suspension to end."""


def due_time(event: EnvelopeEvent, cache: Cache) -> datetime | None:
    """Return when the event is to be worked on; in the past: now; None: not before something changes."""
    status = event.status
    if status.phase.is_final or has_request(event):
        return None
    if is_suspended(event, cache):
        # Once, so that its status says why nothing happens; then not until the suspension ends.
        return None if status.reason in SUSPENDED_REASONS else EPOCH
    if status.reason in SUSPENDED_REASONS:
        return EPOCH
    if status.phase is Phase.AWAITING_CONSENT:
        return EPOCH if _key_works(event, cache) else None
    return status.next_attempt_time or event.metadata.creation_timestamp or EPOCH


def has_request(event: EnvelopeEvent) -> bool:
    """Whether a person asked for something that is not carried out yet; that comes first."""
    return REQUEST_LABEL in event.metadata.labels


def is_suspended(event: EnvelopeEvent, cache: Cache) -> bool:
    """Whether a person suspended the event, its organization or its sender."""
    organization = cache.organizations.get(event.organization)
    sender = cache.senders.get(cache.sender_of.get(event.name, ""))
    return (
        event.spec.suspend
        or (organization is not None and organization.spec.suspend)
        or (sender is not None and sender.spec.suspend)
    )


def _key_works(event: EnvelopeEvent, cache: Cache) -> bool:
    seen = event.status.envelope
    name = cache.sender_of.get(event.name) or (seen.sender_ref.name if seen and seen.sender_ref else "")
    sender = cache.senders.get(name)
    # A Sender that is gone lets the event run: its look-up then says what is wrong.
    return sender is None or is_condition_true(sender.status.conditions, "Authorized")
