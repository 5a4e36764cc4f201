"""
The due time of an unfinished event, as a pure function of the event and the cached objects.

Level-triggered: only spec and status count, never the change. So each solution of a problem (a new key, a
fixed Archive, an Organization that is no longer suspended) makes all waiting events due without further
action.
"""

from datetime import UTC, datetime

from controller.cache import Cache
from counterfoil.resources import REQUEST_LABEL, EnvelopeEvent, Phase, is_condition_true

EPOCH = datetime.fromtimestamp(0, UTC)

SUSPENDED_REASONS = frozenset({"Suspended", "OrganizationSuspended", "SenderSuspended"})
"""Reasons of suspended events: they wait only for the end of the suspension."""

ACTION_NOT_CONFIGURED = "ActionNotConfigured"
"""Reason of an event that waits until its Organization lists its action."""


def due_time(event: EnvelopeEvent, cache: Cache) -> datetime | None:
    """Return when the event is due; in the past: now; None: not before an object changes."""
    status = event.status
    if status.phase.is_final or has_request(event):
        return None
    if is_suspended(event, cache):
        # One run, so that the status shows the suspension; then none until the suspension ends.
        return None if status.reason in SUSPENDED_REASONS else EPOCH
    if status.reason in SUSPENDED_REASONS:
        return EPOCH
    if status.reason == ACTION_NOT_CONFIGURED:
        return EPOCH if _is_action_listed(event, cache) else None
    if status.phase is Phase.AWAITING_CONSENT:
        return EPOCH if _key_works(event, cache) else None
    return status.next_attempt_time or event.metadata.creation_timestamp or EPOCH


def has_request(event: EnvelopeEvent) -> bool:
    """Whether a person's request is not carried out yet; it comes first."""
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


def _is_action_listed(event: EnvelopeEvent, cache: Cache) -> bool:
    organization = cache.organizations.get(event.organization)
    # Without its Organization the event runs: the preconditions then report that it is missing.
    return organization is None or organization.spec.rule(event.spec.action) is not None


def _key_works(event: EnvelopeEvent, cache: Cache) -> bool:
    seen = event.status.envelope
    name = cache.sender_of.get(event.name) or (seen.sender_ref.name if seen and seen.sender_ref else "")
    sender = cache.senders.get(name)
    # Without its Sender the event runs: the preconditions then report the missing Sender.
    return sender is None or is_condition_true(sender.status.conditions, "Authorized")
