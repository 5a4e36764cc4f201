"""
What was mended since an event failed, by what stands in the status of things: so it is known after a restart, too.

Pure. ``status.settledAt`` of an Archive or an Organization says since when it works as it does now; who looks after the
object writes it (``settled_at``). A Sender needs none: its key and its condition ``Authorized`` have their times.

An event that fails again ends later than what was mended, so it is not tried again for the same. One that ended within
the same second is, once: nobody can tell which was first, and the times in a status are whole seconds.
"""

from collections.abc import Iterator
from datetime import datetime

from controller.causes import archive_may_solve, organization_may_solve, sender_may_solve
from controller.office import Office
from counterfoil.resources import (
    SENDER_LABEL,
    Archive,
    ArchiveStatus,
    EnvelopeEvent,
    Organization,
    OrganizationStatus,
    Phase,
    Sender,
    condition,
    is_true,
)

Shared = Organization | Sender | Archive
Status = ArchiveStatus | OrganizationStatus


def settled_at(before: Status, after: Status, *, now: datetime) -> datetime | None:
    """
    Return since when an object works as it does in the status that is to be stored, ``after``.

    What works as before keeps what was known of that, though it be nothing: an older version did not write it down, and
    to say now would have everything tried again that ever failed. While it does not work the last time stays.
    """
    way = _way(after)
    return before.settled_at if way is None or way == _way(before) else now.replace(microsecond=0)


def mended_at(resource: Shared) -> datetime | None:
    """Return since when it works as it does now; None: it does not work, or nobody knows since when."""
    if isinstance(resource, Sender):
        return _key_worked_at(resource)
    status = resource.status
    if _way(status) is None or status.observed_generation != resource.metadata.generation:
        return None
    return status.settled_at


def mended_since(event: EnvelopeEvent, office: Office) -> Shared | None:
    """Return what was mended since an event failed and may solve why it did; None: nothing was."""
    ended = event.status.completed_at
    if event.status.phase is not Phase.FAILED or ended is None:
        return None
    for resource in _solving(event, office):
        at = mended_at(resource)
        if at is not None and at >= ended.replace(microsecond=0):
            return resource
    return None


def _solving(event: EnvelopeEvent, office: Office) -> Iterator[Shared]:
    """Tell which of its Organization, its Archive and its Sender may solve why an event failed."""
    organization = office.organizations.get(event.organization)
    if organization is None:
        return
    cause = event.status.cause
    ref = organization.spec.archive_ref
    archive = office.archives.get(ref.name) if ref is not None else None
    if archive is not None and archive_may_solve(cause):
        yield archive
    if organization_may_solve(cause):
        yield organization
    if sender_may_solve(cause):
        yield from _senders(event, office)


def _senders(event: EnvelopeEvent, office: Office) -> Iterator[Sender]:
    """Tell whose the event is; while that is not known it may be any Sender of its Organization."""
    name = event.metadata.labels.get(SENDER_LABEL)
    known = office.senders.get(name) if name is not None else None
    candidates = office.senders if name is None else filter(None, (known,))
    yield from (each for each in candidates if each.spec.organization_ref.name == event.organization)


def _key_worked_at(sender: Sender) -> datetime | None:
    authorized = condition(sender.status.conditions, "Authorized")
    if authorized is None or authorized.status != "True":
        return None
    key = sender.status.key
    # Another key may come while the one before still works.
    times = [authorized.last_transition_time]
    if key is not None:
        times += [each for each in (key.obtained_at, key.verified_at) if each is not None]
    return max(times)


def _way(status: Status) -> tuple[object, ...] | None:
    """Return how an object works: what tells one way from another; None: it does not work."""
    if isinstance(status, ArchiveStatus):
        works = is_true(status.conditions, "Ready")
        return (status.observed_generation, status.trust_anchors) if works else None
    works = all(is_true(status.conditions, each) for each in ("Ready", "Reachable"))
    return (status.observed_generation,) if works else None
