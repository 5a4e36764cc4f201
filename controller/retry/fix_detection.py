"""
What was mended since an event failed, by what stands in the status of things: so it is known after a restart, too.

Pure. ``status.settledAt`` of an Archive or an Organization says since when it works as it does now; who looks after the
object writes it (``settled_at``). A Sender needs none: its key and its condition ``Authorized`` have their times.

An event that fails again ends later than what was mended, so it is not tried again for the same. One that ended within
the same second is, once: nobody can tell which was first, and the times in a status are whole seconds.
"""

from collections.abc import Iterator
from datetime import datetime

from controller.cache import Cache
from controller.retry.fix_rules import archive_may_fix, organization_may_fix, sender_may_fix
from counterfoil.resources import (
    SENDER_LABEL,
    Archive,
    ArchiveStatus,
    Condition,
    EnvelopeEvent,
    Organization,
    OrganizationStatus,
    Phase,
    Sender,
    find_condition,
    is_condition_true,
)

SharedResource = Organization | Sender | Archive
SharedStatus = ArchiveStatus | OrganizationStatus
ReadyState = tuple[object, ...]


def settled_at(before: SharedStatus, after: SharedStatus, *, now: datetime) -> datetime | None:
    """
    Return since when an object works as it does in the status that is to be stored, ``after``.

    What works as before keeps what was known of that, though it be nothing: an older version did not write it down, and
    to say now would have everything tried again that ever failed. While it does not work the last time stays.
    """
    state = _status_ready_state(after)
    return (
        before.settled_at
        if state is None or state == _status_ready_state(before)
        else now.replace(microsecond=0)
    )


def fixed_at(resource: SharedResource) -> datetime | None:
    """Return since when it works as it does now; None: it does not work, or nobody knows since when."""
    if isinstance(resource, Sender):
        return _key_accepted_at(resource)
    status = resource.status
    if _status_ready_state(status) is None or status.observed_generation != resource.metadata.generation:
        return None
    return status.settled_at


def ready_state(resource: SharedResource) -> ReadyState | None:
    """
    Return a value that changes with each fix of an object; None: the object is not ready, or not at its newest spec.

    It includes the times of the conditions, so that an object that was not ready between two observations counts as
    fixed. ``settled_at`` ignores these times.
    """
    match resource:
        case Organization():
            return _observed_state(resource, resource.status.conditions, "Ready", "Reachable")
        case Archive():
            state = _observed_state(resource, resource.status.conditions, "Ready")
            return None if state is None else (*state, resource.status.trust_anchors)
        case Sender():
            authorized = find_condition(resource.status.conditions, "Authorized")
            if authorized is None or authorized.status != "True":
                return None
            key = resource.status.key
            return (
                resource.uid,
                authorized.last_transition_time,
                key.fingerprint if key is not None else None,
            )


def _observed_state(
    resource: SharedResource, conditions: tuple[Condition, ...], *types: str
) -> ReadyState | None:
    found = [find_condition(conditions, each) for each in types]
    times = [
        each.last_transition_time
        for each in found
        if each is not None
        and each.status == "True"
        and each.observed_generation == resource.metadata.generation
    ]
    return (resource.uid, resource.metadata.generation, *times) if len(times) == len(types) else None


def find_fix(event: EnvelopeEvent, cache: Cache) -> SharedResource | None:
    """Return what was mended since an event failed and may solve why it did; None: nothing was."""
    ended = event.status.completed_at
    if event.status.phase is not Phase.FAILED or ended is None:
        return None
    for resource in _possible_fixes(event, cache):
        at = fixed_at(resource)
        if at is not None and at >= ended.replace(microsecond=0):
            return resource
    return None


def _possible_fixes(event: EnvelopeEvent, cache: Cache) -> Iterator[SharedResource]:
    """Tell which of its Organization, its Archive and its Sender may solve why an event failed."""
    organization = cache.organizations.get(event.organization)
    if organization is None:
        return
    cause = event.status.cause
    ref = organization.spec.archive_ref
    archive = cache.archives.get(ref.name) if ref is not None else None
    if archive is not None and archive_may_fix(cause):
        yield archive
    if organization_may_fix(cause):
        yield organization
    if sender_may_fix(cause):
        yield from _senders(event, cache)


def _senders(event: EnvelopeEvent, cache: Cache) -> Iterator[Sender]:
    """Tell whose the event is; while that is not known it may be any Sender of its Organization."""
    name = event.metadata.labels.get(SENDER_LABEL)
    known = cache.senders.get(name) if name is not None else None
    candidates = cache.senders if name is None else filter(None, (known,))
    yield from (each for each in candidates if each.spec.organization_ref.name == event.organization)


def _key_accepted_at(sender: Sender) -> datetime | None:
    authorized = find_condition(sender.status.conditions, "Authorized")
    if authorized is None or authorized.status != "True":
        return None
    key = sender.status.key
    # Another key may come while the one before still works.
    times = [authorized.last_transition_time]
    if key is not None:
        times += [each for each in (key.obtained_at, key.verified_at) if each is not None]
    return max(times)


def _status_ready_state(status: SharedStatus) -> ReadyState | None:
    """Return how an object works: what tells one way from another; None: it does not work."""
    if isinstance(status, ArchiveStatus):
        works = is_condition_true(status.conditions, "Ready")
        return (status.observed_generation, status.trust_anchors) if works else None
    works = all(is_condition_true(status.conditions, each) for each in ("Ready", "Reachable"))
    return (status.observed_generation,) if works else None
