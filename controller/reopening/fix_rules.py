"""
Which fix may solve the cause of an event: what the catalogue of reasons says of its cause, and the fixes in
the status of the objects. Pure. ``controller.after_fix`` lets waiting events continue, and retries failed
ones.

After a person fixes an Archive, an Organization or a Sender, no other action is needed: waiting events
continue, and events that failed because of it are retried (rule 6), also after a restart. A change that
solves nothing costs one more attempt.

``status.settledTime`` of an Archive or an Organization is the time since which it has worked with its current
configuration; the component that updates the status sets it (``settled_time``). A Sender needs none: its key
and its condition ``Authorized`` have times.

A correction that changes neither is unknown here: of eSAW that told its version while it refused calls
(``EsawCallsFailing``), or below the root of an Archive, where no probe writes. After it, ``OutageRetrier``
starts an event once at most: a single envelope that always fails would start again with each next success.

An event that fails again ends later than the fix, so it is not retried for the same fix. An event that ended
within the same second is retried once: times in a status are whole seconds, so the order is unknown.
"""

from collections.abc import Iterator
from datetime import datetime

from controller.cache import Cache
from controller.reader import is_of_other_user
from counterfoil.clock import believed_time
from counterfoil.i18n.reasons import Correction, corrections_of
from counterfoil.resources import (
    SENDER_LABEL,
    Archive,
    ArchiveStatus,
    Condition,
    EnvelopeAccess,
    EnvelopeEvent,
    Organization,
    OrganizationSpec,
    OrganizationStatus,
    Phase,
    Sender,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.conditions import UNREAD_SECRET_REASONS
from counterfoil.resources.organization import ARCHIVE_SHARED, shared_archive_conflict
from counterfoil.resources.routes import possible_archives, stored_choice

_STOPS_ARCHIVING = frozenset(
    {
        "Pending",
        "OrganizationSuspended",
        "NoUsableSender",
        "SenderMissing",
        "SenderOfOtherOrganization",
        "EsawUnreachable",
        "EsawAddressForbidden",
        "EsawAnswerUnreadable",
        "EsawRedirects",
        "EsawNotFound",
    }
)
"""
Reasons of an Organization with which it archives nothing, or nothing that lacks another Sender.

With each other one it works. Callbacks, pages, mails and notices may fail: the events that exist are
archived. An Archive or a route may fail: other envelopes may go elsewhere. What is retried meanwhile, and
needs this Archive, waits for it, and the recovery of an Archive counts for itself. The number of events or
Senders goes up and down while they are handled, which solves nothing.

The reason of another problem may hide such a one in the summary. ``Reachable`` tells about eSAW all the same,
a Sender counts for itself too, and nothing fails while the Organization is suspended.
"""


def archive_may_fix(reason: str) -> bool:
    """Whether a new spec or the recovery of the Archive may solve the cause."""
    return Correction.ARCHIVE in corrections_of(reason)


def organization_may_fix(reason: str) -> bool:
    """Whether a new spec of the Organization, with another eSAW or default Sender, may solve the cause."""
    return Correction.ENVELOPE_ACCESS in corrections_of(reason) or organization_spec_may_fix(reason)


def organization_spec_may_fix(reason: str) -> bool:
    """Whether a new spec of the Organization, with the same eSAW and default Sender, may solve the cause."""
    is_for_new_spec = Correction.ORGANIZATION_SPEC in corrections_of(reason) or archive_may_fix(reason)
    return is_for_new_spec or organization_recovery_may_fix(reason)


def organization_recovery_may_fix(reason: str) -> bool:
    """
    Whether an Organization or its eSAW that works again, with the same spec, may solve the cause.

    Not what the Archive may solve: its own recovery does, and only a new spec names another Archive.
    """
    return Correction.ORGANIZATION in corrections_of(reason)


def sender_may_fix(reason: str) -> bool:
    """Whether a new spec or a new key of the Sender may solve the cause."""
    return Correction.SENDER in corrections_of(reason)


def may_fix_event(event: EnvelopeEvent, sender: Sender) -> bool:
    """
    Whether a new spec or a new key of this Sender may solve the cause of a failed event.

    A Sender with the name of a missing one, and another user, is not the one that is missing.
    """
    cause = event.status.cause
    is_another = cause == "SenderMissing" and is_of_other_user(event, sender)
    return sender_may_fix(cause) and not is_another


SharedResource = Organization | Sender | Archive
SharedStatus = ArchiveStatus | OrganizationStatus
ReadyState = tuple[object, ...]


def settled_time(before: SharedStatus, after: SharedStatus, *, now: datetime) -> datetime | None:
    """
    Return the ``settledTime`` of the status ``after`` that will be stored.

    An object that works as before keeps its value, even None: an older version did not record it, and the
    current time would retry all events that ever failed. While it does not work, the last value stays.

    A value that can't be right is replaced.
    """
    state = _status_ready_state(after)
    is_unchanged = state is None or state == _status_ready_state(before)
    if before.settled_time is not None and believed_time(before.settled_time, now) is None:
        is_unchanged = False
    return before.settled_time if is_unchanged else now.replace(microsecond=0)


def spec_observed_time(
    before: OrganizationStatus, after: OrganizationStatus, *, now: datetime
) -> datetime | None:
    """Return the ``specObservedTime`` of the status ``after``: now if the spec was not observed before."""
    is_known = before.observed_generation == after.observed_generation
    if before.spec_observed_time is not None and believed_time(before.spec_observed_time, now) is None:
        is_known = False
    return before.spec_observed_time if is_known else now.replace(microsecond=0)


def access_of(spec: OrganizationSpec) -> tuple[str, str | None]:
    """Return the values that decide which envelopes are shown: address of eSAW and default Sender."""
    return spec.base_url, spec.default_sender_ref.name if spec.default_sender_ref is not None else None


def envelope_access(
    organization: Organization, spec_observed: datetime | None, *, now: datetime
) -> EnvelopeAccess:
    """
    Return the ``envelopeAccess`` of the Organization's next status, whose ``specObservedTime`` is given.

    A status without a value does not tell whether the current spec changed it: its time is that of the spec.
    """
    before, (base_url, default_sender) = organization.status.envelope_access, access_of(organization.spec)
    if before is None:
        return EnvelopeAccess(base_url=base_url, default_sender=default_sender, observed_time=spec_observed)
    observed = before.observed_time
    is_known = (before.base_url, before.default_sender) == (base_url, default_sender)
    if is_known and (observed is None or believed_time(observed, now) is not None):
        return before
    return EnvelopeAccess(
        base_url=base_url, default_sender=default_sender, observed_time=now.replace(microsecond=0)
    )


def fixed_at(resource: SharedResource, now: datetime) -> datetime | None:
    """Return since when an object works with its current configuration; None: not ready, or unknown."""
    if isinstance(resource, Sender):
        return _key_accepted_at(resource, now) or _authorized_since(resource, now)
    status = resource.status
    if _status_ready_state(status) is None or status.observed_generation != resource.metadata.generation:
        return None
    return believed_time(status.settled_time, now)


def ready_state(resource: SharedResource) -> ReadyState | None:
    """
    Return a value that changes with each fix of an object; None: it is not ready, or not at its newest spec.

    It includes times, so that an object that was not ready between two observations counts as fixed, but no
    time of a Sender. ``settled_time`` ignores them. The time of an Organization's ``Ready`` also changes at a
    ceiling.
    """
    match resource:
        case Organization():
            status = resource.status
            ready, reachable = (find_condition(status.conditions, each) for each in ("Ready", "Reachable"))
            if ready is None or reachable is None or not _organization_works(status):
                return None
            if not (_is_observed(resource, ready) and _is_observed(resource, reachable)):
                return None
            times = (status.settled_time, reachable.last_transition_time)
            return (resource.uid, resource.metadata.generation, *times)
        case Archive():
            ready = find_condition(resource.status.conditions, "Ready")
            if ready is None or ready.status != "True" or not _is_observed(resource, ready):
                return None
            configuration = (resource.status.trust_anchors, resource.status.root is not None)
            generation = resource.metadata.generation
            return (resource.uid, generation, ready.last_transition_time, *configuration)
        case Sender():
            authorized = find_condition(resource.status.conditions, "Authorized")
            if authorized is None or authorized.status != "True":
                return None
            # Each Send may bring another key by consent while the last one works: no fix that is worth a list
            # of events. ``retry_if_fixed`` finds the few that it may solve, and what nobody observed: a key
            # whose Secret can be read again is no other one, so the time of the condition is not included.
            fingerprint = resource.key_fingerprint if resource.spec.token_secret_ref is not None else None
            return (resource.uid, fingerprint)


def _is_observed(resource: SharedResource, condition: Condition) -> bool:
    return condition.observed_generation == resource.metadata.generation


def find_fix(event: EnvelopeEvent, cache: Cache, now: datetime) -> SharedResource | None:
    """
    Return the object that was fixed after an event failed and may solve its cause.

    An event whose end can't be right counts as failed when it was created: it is retried once.
    """
    if event.status.phase is not Phase.FAILED or event.status.completion_time is None:
        return None
    ended = believed_time(event.status.completion_time, now) or event.metadata.creation_timestamp
    if ended is None:
        return None
    organization = cache.organizations.get(event.organization)
    if organization is not None and _has_own_folders(event, organization, cache):
        return organization
    for resource in _possible_fixes(event, cache):
        at = fixed_at(resource, now)
        if at is not None and isinstance(resource, Organization):
            at = _changed_at(resource, at, event.status.cause, now)
        if isinstance(resource, Sender) and event.status.cause in UNREAD_SECRET_REASONS:
            at = _authorized_since(resource, now)
        if at is not None and at >= ended.replace(microsecond=0):
            return resource
    return None


def _has_own_folders(event: EnvelopeEvent, organization: Organization, cache: Cache) -> bool:
    """
    Whether an event failed because an older Organization of another eSAW had the same folders, and none has
    them now.

    That one may have left them or be gone, so no time of an object shows it. The event starts again only if
    it would not wait for the same.
    """
    if event.status.cause != ARCHIVE_SHARED:
        return False
    stored = stored_choice(event.status)
    names = {*possible_archives(event, organization.spec), *([stored.archive] if stored is not None else [])}
    archives = [archive for each in names if (archive := cache.archives.get(each)) is not None]
    conflicts = (shared_archive_conflict(organization, each, cache.archive_use) for each in archives)
    return bool(archives) and not any(conflicts)


def _changed_at(organization: Organization, settled: datetime, cause: str, now: datetime) -> datetime | None:
    """Return the time of the last change that may solve the cause; ``settled`` is since when it works."""
    if organization_recovery_may_fix(cause):
        return settled
    if organization_spec_may_fix(cause):
        return believed_time(organization.status.spec_observed_time, now)
    access = organization.status.envelope_access
    return believed_time(access.observed_time, now) if access is not None else None


def _possible_fixes(event: EnvelopeEvent, cache: Cache) -> Iterator[SharedResource]:
    """Return those of the event's Organization, Archive and Sender that may solve its cause."""
    organization = cache.organizations.get(event.organization)
    if organization is None:
        return
    cause = event.status.cause
    if archive_may_fix(cause):
        names = sorted(possible_archives(event, organization.spec))
        yield from (archive for each in names if (archive := cache.archives.get(each)) is not None)
    if organization_may_fix(cause):
        yield organization
    if sender_may_fix(cause):
        # Without a Sender in its label an event may have that of any of many thousand.
        yield from (each for each in _senders(event, cache) if may_fix_event(event, each))


def _senders(event: EnvelopeEvent, cache: Cache) -> Iterator[Sender]:
    """Return the event's Sender; while it is unknown, all Senders of its Organization."""
    name = event.metadata.labels.get(SENDER_LABEL)
    known = cache.senders.get(name) if name is not None else None
    candidates = cache.senders_of(event.organization) if name is None else filter(None, (known,))
    yield from (each for each in candidates if each.spec.organization_ref.name == event.organization)


def _key_accepted_at(sender: Sender, now: datetime) -> datetime | None:
    """Return when eSAW accepted the key; None: it does not work, or its status has no such time."""
    key = sender.status.key
    if key is None or not is_condition_true(sender.status.conditions, "Authorized"):
        return None
    # A new key may replace one that still works.
    times = [each for each in (key.obtained_time, key.verified_time) if each is not None]
    return max((each for each in times if believed_time(each, now) is not None), default=None)


def _authorized_since(sender: Sender, now: datetime) -> datetime | None:
    """Return since when the key works and can be read. Only that a Secret can be read solves nothing but what
    failed for that."""
    authorized = find_condition(sender.status.conditions, "Authorized")
    if authorized is None or authorized.status != "True":
        return None
    return believed_time(authorized.last_transition_time, now)


def _status_ready_state(status: SharedStatus) -> ReadyState | None:
    """Return a value that identifies the configuration with which an object works; None: it does not work."""
    if isinstance(status, ArchiveStatus):
        works = is_condition_true(status.conditions, "Ready")
        # Without a root nothing is archived.
        configuration = (status.observed_generation, status.trust_anchors, status.root is not None)
        return configuration if works else None
    return (status.observed_generation,) if _organization_works(status) else None


def _organization_works(status: OrganizationStatus) -> bool:
    """Whether it archives what it knows, also if it is not ready for another reason."""
    ready = find_condition(status.conditions, "Ready")
    is_stopped = ready is None or (ready.status != "True" and ready.reason in _STOPS_ARCHIVING)
    return not is_stopped and is_condition_true(status.conditions, "Reachable")
