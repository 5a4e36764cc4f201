"""
Retry failed events after the Archive, Organization or Sender that caused the failure was fixed (rule 6).

Finished events are in no memory, so a fix lists the failed events of its Organizations and re-opens those
whose cause it can solve, once per fix. Fixes that were observed before a list share it: else each of many new
keys would list the same events. A change counts as a fix when the object is ``Ready`` (``Authorized`` for a
Sender) in a state that was not observed before. Each controller re-opens the events of its shards.

An event that fails in a run that began before a fix is retried too: the fix came too late for that run.

A fix that no process observed, or whose events were left by a kill, is detected from the status of the fixed
object: the garbage collector calls ``retry_if_fixed`` for each failed event.

The end of some outages is in no status: eSAW told its version while it refused calls, or a folder below the
root of an Archive could not be used, where no probe writes. ``OutageRetrier`` finds it in the events.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from itertools import chain
from typing import Final, NamedTuple

from controller.cache import Cache
from controller.reopening.fix_rules import (
    ReadyState,
    access_of,
    archive_may_fix,
    find_fix,
    may_fix_event,
    organization_may_fix,
    organization_recovery_may_fix,
    organization_spec_may_fix,
    ready_state,
    sender_may_fix,
)
from controller.reopening.reopener import Reopener
from controller.scheduling.retry_policy import LISTING_AFTER_FIX
from counterfoil.clock import Clock
from counterfoil.i18n.reasons import Server, server_of
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Unavailable
from counterfoil.resources import (
    ORGANIZATION_LABEL,
    Archive,
    Attempt,
    AttemptOutcome,
    EnvelopeEvent,
    Organization,
    Phase,
    Resource,
    Sender,
)
from counterfoil.resources.conditions import UNREAD_SECRET_REASONS
from counterfoil.resources.envelopeevent import DEADLINE_EXCEEDED

_log = logging.getLogger(__name__)

MAX_FIRST_TRIES: Final = 1.5
"""Maximum age, in deadlines, of an event that failed once only. Two rounds take two of them."""


class _Change(Enum):
    """A change of an object that works. Each solves the causes that those above it solve, too."""

    RECOVERY = auto()
    """It works again, with the same spec."""
    SPEC = auto()
    ACCESS = auto()
    """The address of eSAW, or the default Sender."""


_ORGANIZATION_MAY_FIX: Final = {
    _Change.RECOVERY: organization_recovery_may_fix,
    _Change.SPEC: organization_spec_may_fix,
    _Change.ACCESS: organization_may_fix,
}


class _Spec(NamedTuple):
    """One version of the spec of an object."""

    uid: str
    generation: int
    access: tuple[str, str | None] | None
    """The part of an Organization's spec that decides which envelopes are shown."""

    def change_to(self, other: "_Spec") -> _Change:
        """Return what the other spec changes."""
        if (self.uid, self.access) != (other.uid, other.access):
            return _Change.ACCESS
        return _Change.SPEC if self != other else _Change.RECOVERY


class _Fix(NamedTuple):
    """An object that was fixed, and the failed events whose cause it may solve."""

    subject: str
    change: _Change
    organizations: Callable[[], Iterable[str]]
    may_fix_cause: Callable[[str], bool]
    """Whether it may solve this cause. A Sender does not solve it for each event."""
    sender: Sender | None = None

    def may_fix(self, event: EnvelopeEvent) -> bool:
        """Whether it may solve the cause of this failed event."""
        if self.sender is not None:
            return may_fix_event(event, self.sender)
        return self.may_fix_cause(event.status.cause)

    @property
    def key(self) -> tuple[str, _Change]:
        """Its identity: a recovery solves less than a new spec."""
        return self.subject, self.change


@dataclass
class FailedEventRetrier:
    """Observes fixes and re-opens the events that they may solve."""

    kube: KubeClient
    cache: Cache
    reopener: Reopener
    clock: Clock
    labels: str
    lock: Callable[[str], AbstractAsyncContextManager[None]]
    _ready_states: dict[tuple[str, str], ReadyState | None] = field(default_factory=dict)
    _fixes: asyncio.Queue[_Fix] = field(default_factory=asyncio.Queue)
    _queued: set[tuple[str, _Change]] = field(default_factory=set)
    _latest_fixes: dict[tuple[str, _Change], tuple[float, _Fix]] = field(default_factory=dict)
    """The last changes of each object, and the monotonic times at which they were observed."""
    _specs: dict[tuple[str, str], _Spec] = field(default_factory=dict)
    """The spec of each object when it was first observed, or last worked."""

    def resource_changed(self, before: Resource | None, resource: Resource | None) -> None:
        """Compare with the last observed state. The first one is no fix, so a restart lists nothing."""
        if not isinstance(resource, Organization | Sender | Archive):
            return
        if isinstance(resource, Sender):
            if resource.is_key_unread:
                # When it can be read again, it is compared with the state before.
                return
            if isinstance(before, Sender) and before.is_key_unread:
                self._secret_read(resource)
        key, state = (resource.KIND, resource.name), ready_state(resource)
        is_first = key not in self._ready_states
        known = self._ready_states.get(key)
        self._ready_states[key] = state
        access = access_of(resource.spec) if isinstance(resource, Organization) else None
        spec = _Spec(resource.uid, resource.metadata.generation, access)
        change = self._specs.setdefault(key, spec).change_to(spec)
        if not is_first and state is not None and state != known:
            self._specs[key] = spec
            self._fixed(self._fix_of(resource, change))

    def event_failed(self, event: EnvelopeEvent, began: float) -> None:
        """Retry an event that failed here in a run that began, at that monotonic time, before a fix."""
        for at, fix in reversed(self._latest_fixes.values()):
            if at < began:
                return
            if fix.may_fix(event) and event.organization in fix.organizations():
                # The list for one fix is enough.
                self._enqueue(fix)
                return

    async def retry_if_fixed(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """
        Re-open an event of any shard if an object that may solve its cause was fixed since; return its newest
        state.

        It is not enqueued here: the watch delivers it to the controller of its shard, as after a callback
        (rule 5). Raises ``ApiError`` when the API server is unavailable.
        """
        fixed_resource = find_fix(event, self.cache, self.clock.now())
        if fixed_resource is None:
            return event
        return await self._store(event, f"{fixed_resource.KIND}/{fixed_resource.name}")

    async def run(self) -> None:
        """Re-open events until cancelled."""
        while True:
            fixes = [await self._fixes.get()]
            while not self._fixes.empty():
                fixes.append(self._fixes.get_nowait())
            self._queued.clear()
            if left := await self._reopen_all(fixes):
                await self.clock.sleep(LISTING_AFTER_FIX.pause(0))
                for each in left:
                    self._enqueue(each)

    def _secret_read(self, sender: Sender) -> None:
        """Retry what failed because Secrets could not be read, if those of all Senders can be: one list is
        enough. Else the passes over all events do it."""
        organization = sender.spec.organization_ref.name
        if not self.cache.senders.of(organization).unread:
            subject = f"The Secret of Sender/{sender.name}"
            self._fixed(_Fix(subject, _Change.RECOVERY, lambda: [organization], _is_unread_secret))

    def _fixed(self, fix: _Fix) -> None:
        # In the order of their times.
        self._latest_fixes.pop(fix.key, None)
        self._latest_fixes[fix.key] = (self.clock.monotonic(), fix)
        self._enqueue(fix)

    def _enqueue(self, fix: _Fix) -> None:
        # One list is enough for many runs that began before the fix.
        if fix.key not in self._queued:
            self._queued.add(fix.key)
            self._fixes.put_nowait(fix)

    def _fix_of(self, resource: Organization | Sender | Archive, change: _Change) -> _Fix:
        subject = f"{resource.KIND}/{resource.name}"
        name = resource.name
        if isinstance(resource, Archive):
            return _Fix(subject, change, lambda: self._organizations_using(name), archive_may_fix)
        if isinstance(resource, Organization):
            return _Fix(subject, change, lambda: [name], _ORGANIZATION_MAY_FIX[change])
        organization = resource.spec.organization_ref.name
        return _Fix(subject, change, lambda: [organization], sender_may_fix, resource)

    def _organizations_using(self, archive: str) -> list[str]:
        return [each.name for each in self.cache.organizations if archive in self.cache.archives_of(each)]

    async def _reopen_all(self, fixes: Iterable[_Fix]) -> list[_Fix]:
        """
        List the failed events of each Organization once, and re-open those that a fix may solve.

        Return the fixes whose Organizations need another list.
        """
        by_organization = dict[str, list[_Fix]]()
        for fix in fixes:
            for organization in fix.organizations():
                by_organization.setdefault(organization, []).append(fix)
        left = dict[tuple[str, _Change], _Fix]()
        for organization, of_organization in by_organization.items():
            try:
                await self._reopen_events(organization, of_organization)
            except ApiError as problem:
                _log.warning("failed events of %s can't be re-opened yet: %s", organization, problem)
                left |= {each.key: each for each in of_organization}
        return list(left.values())

    async def _reopen_events(self, organization: str, fixes: Iterable[_Fix]) -> None:
        by_rule = dict[Callable[[str], bool], list[_Fix]]()
        for each in fixes:
            by_rule.setdefault(each.may_fix_cause, []).append(each)
        reopened_events, unavailable = Counter[str](), list[Unavailable]()
        labels = ",".join(filter(None, (f"{ORGANIZATION_LABEL}={organization}", self.labels)))
        fields = f"status.phase={Phase.FAILED}"
        async for event in self.kube.list_readable(EnvelopeEvent, labels=labels, fields=fields):
            # Many fixes have the same rule: it is asked once.
            cause = event.status.cause
            of_cause = (each for rule, each in by_rule.items() if rule(cause))
            fix = next((each for each in chain.from_iterable(of_cause) if each.may_fix(event)), None)
            if fix is None:
                continue
            try:
                reopened_events[fix.subject] += await self._reopen(event, fix)
            except Unavailable as problem:
                # One answer may be about this event alone. The list comes again after the others.
                unavailable.append(problem)
        for subject, count in (+reopened_events).items():
            _log.info("%s was fixed: %d events are retried", subject, count)
        if unavailable:
            raise unavailable[-1]

    async def _reopen(self, event: EnvelopeEvent, fix: _Fix) -> int:
        async with self.lock(event.spec.envelope_id):
            stored = await self._store(event, fix.subject)
        if stored is event:
            # The passes over all events try again.
            return 0
        self.cache.update(stored)
        return 1

    async def _store(self, event: EnvelopeEvent, subject: str) -> EnvelopeEvent:
        message = f"{subject} was changed or works again, which may solve why this failed."
        return await self.reopener.reopen_after_fix(event, "CauseSolved", message)


class _Place(NamedTuple):
    """The part of an Organization in which attempts succeed or fail."""

    organization: str
    phase: Phase
    archive: str = ""
    """Empty: any."""


@dataclass
class OutageRetrier:
    """
    Re-opens events that failed at their deadline while nothing succeeded in their place, once something does.

    An envelope with a defect may be the only one of a day, so its failure looks like an outage. The age of an
    event bounds that: one that had its deadline twice is left to a person. So each starts again once at most.

    All that counts is in the status of the events. A whole pass finds it, so a restart of the process only
    delays the start.
    """

    cache: Cache
    reopener: Reopener
    _succeeded: dict[_Place, set[int]] = field(default_factory=dict)
    """Hours in which attempts succeeded, as the last whole pass found them. Grows with the hours only."""
    _found: dict[_Place, set[int]] = field(default_factory=dict)
    """The same in the current pass."""
    _began: datetime | None = None
    """When the last whole pass began."""

    async def retry_if_over(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """Re-open an event whose outage has ended; return its newest state. Raises ``ApiError``."""
        for place, attempt in _successes(event):
            self._found.setdefault(place, set()).add(_hour(attempt.start_time))
        failed_in = self._failed_in(event)
        if failed_in is None or not self._is_over(event, failed_in):
            return event
        message = "While this event was tried, no other one succeeded there. Now others do."
        return await self.reopener.reopen_after_fix(event, "CauseSolved", message)

    def pass_finished(self, began: datetime) -> None:
        """Take what a pass over all events found, which began at that time."""
        self._succeeded, self._found, self._began = self._found, {}, began

    def _failed_in(self, event: EnvelopeEvent) -> _Place | None:
        status = event.status
        if status.phase is not Phase.FAILED or status.reason != DEADLINE_EXCEEDED:
            return None
        if archive_may_fix(status.cause):
            archive = self.cache.problem_archive(event)
            return _Place(event.organization, Phase.ARCHIVING, archive) if archive else None
        if server_of(status.cause) is Server.ESAW and status.attempt_history:
            return _Place(event.organization, status.attempt_history[-1].phase)
        return None

    def _is_over(self, event: EnvelopeEvent, place: _Place) -> bool:
        organization = self.cache.organizations.get(event.organization)
        ended, created = event.status.completion_time, event.metadata.creation_timestamp
        # What succeeded before the event ended has to be known.
        if (
            organization is None
            or ended is None
            or created is None
            or self._began is None
            or ended >= self._began
        ):
            return False
        deadline = organization.spec.retry.deadline
        if ended - created >= MAX_FIRST_TRIES * deadline:
            return False
        hours, last = self._succeeded.get(place, set()), _hour(ended)
        tried = range(_hour(max(created, ended - deadline)) + 1, last)
        return len(tried) > 0 and hours.isdisjoint(tried) and max(hours, default=last) > last


def _successes(event: EnvelopeEvent) -> Iterator[tuple[_Place, Attempt]]:
    for each in event.status.attempt_history:
        if each.outcome is AttemptOutcome.DONE:
            yield _Place(event.organization, each.phase), each
            if each.phase is Phase.ARCHIVING and event.status.archive is not None:
                yield _Place(event.organization, each.phase, event.status.archive.ref.name), each


def _hour(time: datetime) -> int:
    return int(time.timestamp() // 3600)


def _is_unread_secret(cause: str) -> bool:
    return cause in UNREAD_SECRET_REASONS
