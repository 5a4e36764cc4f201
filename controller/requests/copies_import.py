"""
Imports with ``copiesOnly``: let each archived event of a span make its missing copies.

It reads the events page by page, as the garbage collector does, and starts the phase Copying of those that
lack a copy: never more than ``spec.maxUnfinished`` at once. eSAW is not asked, and no event is created. When
a pass finds nothing left to do, the Import is complete. A process that starts begins a new pass: what is
copied shows in the events. A copy that fails in this Import is not started again by it. An event that could
not be read or started is tried again in the same pass, and after ``MAX_TRIES`` in the next one.
"""

import logging
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

from msgspec.structs import replace

from controller.cache import Cache
from controller.file_list_ceiling import FILE_LIST_CEILING
from controller.reopening.reopener import Reopener
from controller.resync.import_progress import (
    MAX_MESSAGE,
    RUNNING,
    ImportHold,
    copies_concluded,
    copies_hold,
    with_rate,
)
from controller.scheduling.due import ACTION_NOT_CONFIGURED, SUSPENDED_REASONS, are_copies_held
from counterfoil.archives.proof import missing_copies
from counterfoil.clock import Clock
from counterfoil.i18n.reasons import ReasonProperty, has_property
from counterfoil.kube.answers import parse_readable
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, Conflict, Expired, NotFound
from counterfoil.kube.status import write_status
from counterfoil.resources import (
    ORGANIZATION_LABEL,
    SENDER_LABEL,
    EnvelopeEvent,
    EnvelopeEventStatus,
    EventCopy,
    Import,
    Organization,
    Phase,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.imports import span_of
from counterfoil.resources.reopening import (
    ARCHIVED_AS_EXPIRED,
    COPY_REQUESTED,
    has_ended,
    retries_copies,
    status_for_copying,
    takes_copies,
)
from counterfoil.resources.routes import archive_names, stored_copy

_log = logging.getLogger(__name__)

HELD_REASONS = SUSPENDED_REASONS | {ACTION_NOT_CONFIGURED}
"""Reasons of unfinished events that wait until a person lets them continue."""

PAGE_SIZE = 50
PAUSE_SECONDS = 60.0
"""Minimum pause between two passes."""

PAUSE_FACTOR = 9
"""Pause between two passes as a multiple of the work of a pass, without its waits for room."""

RETRY_SECONDS = 60.0
"""Pause before the events are tried again that could not be read or started."""

MAX_TRIES = 10
"""Number of tries to start the copies of an event in one pass."""

MAX_FAILURES = 3
"""Number of successive events that could not be started after which the others wait: the cause may be the API
server, which may take minutes for each answer."""


class CopyState(Enum):
    """The state of the copies of one event, for an Import."""

    OTHER = auto()
    """Not archived, or not of the Import."""
    KNOWN = auto()
    """Each copy was there before the Import."""
    COPIED = auto()
    RUNNING = auto()
    FAILED = auto()
    """It was tried since the Import began, or its event has to be retried for it, or a person holds it."""
    HELD = auto()
    """Its unfinished event shows that a person holds it, or held it until its next run."""
    MISSING = auto()


class _NotStarted(Exception):
    """The copies of an event were not started: it was changed at that moment, or its status is refused."""


@dataclass
class _Pass:
    """One pass over the events of an Organization."""

    worked: float = 0.0
    """Seconds that it worked, without its waits."""
    started: int = 0
    """Number of events whose copies it started."""
    token: str = ""
    states: Counter[CopyState] = field(default_factory=Counter)
    waiting: deque[str] = field(default_factory=deque)
    """Names of events that lack a copy, and for which there was no room yet."""
    is_last_page: bool = False
    tries: Counter[str] = field(default_factory=Counter)
    """Number of tries for each event that could not be started yet."""
    postponed: deque[str] = field(default_factory=deque)
    """Names of those that are tried again at ``retry_at``. No page is read while they are as many as one."""
    retry_at: float = 0.0
    """By the clock that is never set."""
    given_up: int = 0
    """Number of events that were tried ``MAX_TRIES`` times. The next pass tries them again."""
    failure: str = ""
    """The last event that could not be started, and why."""

    @property
    def may_read(self) -> bool:
        """Whether the next page has a place."""
        return not self.is_last_page and len(self.postponed) < PAGE_SIZE

    @property
    def has_ended(self) -> bool:
        """Whether nothing of the pass is left to do."""
        return self.is_last_page and not self.waiting and not self.postponed

    def postpone(self, name: str, why: Exception, now: float) -> None:
        """Try an event again after a pause, unless it was tried too often."""
        self.failure = f"EnvelopeEvent/{name}: {why}"
        self.tries[name] += 1
        if self.tries[name] < MAX_TRIES:
            self.postponed.append(name)
            self.retry_at = now + RETRY_SECONDS
            return
        del self.tries[name]
        self.states[CopyState.MISSING] += 1
        self.given_up += 1

    def take_postponed(self, now: float) -> None:
        """Let the events be tried whose pause has ended, after those that wait for room."""
        if now >= self.retry_at:
            self.waiting.extend(self.postponed)
            self.postponed.clear()

    def trouble(self) -> ImportHold | None:
        """Return what the Import says about events that could not be started; None: there are none."""
        number = len(self.tries) + self.given_up
        if not number:
            return None
        message = (
            f"The copies of some events ({number}) could not be started yet. They are tried again. The last "
            f"one is {self.failure}"
        )
        return ImportHold(RUNNING.reason, message[:MAX_MESSAGE])


@dataclass(frozen=True)
class _NextPass:
    """When the next pass of an Import begins."""

    at: float
    """By the clock that is never set."""
    awaits_copies: bool
    """Whether it begins earlier if no event of the Organization makes copies any more."""


@dataclass
class CopiesImport:
    """Works on Imports with ``copiesOnly``."""

    kube: KubeClient
    cache: Cache
    reopener: Reopener
    clock: Clock
    _passes: dict[str, _Pass] = field(default_factory=dict)
    """By uid of the Import."""
    _due: dict[str, _NextPass] = field(default_factory=dict)
    """By uid of the Import."""

    @property
    def remembered(self) -> int:
        """Number of Imports of which something is kept in memory."""
        return len(self._passes.keys() | self._due.keys())

    def forget_others(self, uids: Collection[str]) -> None:
        """Drop the passes of all Imports but these: those are complete or deleted."""
        for memory in (self._passes, self._due):
            for uid in [each for each in memory if each not in uids]:
                del memory[uid]

    async def advance(self, imported: Import) -> None:
        """Continue the pass of an Import as far as there is room. Raises ``ApiError``."""
        organization, now = self.cache.organizations.get(imported.organization), self.clock.now()
        names = archive_names(organization.spec) if organization is not None else ()
        archives = {each: self.cache.archives.get(each) for each in names}
        held = copies_hold(imported, organization, archives, now)
        if held is not None or organization is None:
            await self._store(imported, Counter(), held, is_complete=False)
            return
        if imported.status.start_time is None:
            started = replace(imported.status, start_time=now.replace(microsecond=0))
            imported = await write_status(self.kube, imported, started)
        planned = self._due.get(imported.uid)
        if planned is not None and not await self._may_begin(imported, planned):
            return
        self._due.pop(imported.uid, None)
        current = self._passes.setdefault(imported.uid, _Pass())
        began = self.clock.monotonic()
        try:
            await self._continue(imported, current, organization)
        except Expired:
            # Another pass begins with the first page. What is copied shows in the events.
            del self._passes[imported.uid]
            return
        except ApiError:
            raise
        except Exception:
            # The event at which it happened is in no count of this pass.
            del self._passes[imported.uid]
            self._due[imported.uid] = _NextPass(self.clock.monotonic() + PAUSE_SECONDS, awaits_copies=False)
            raise
        finally:
            current.worked += self.clock.monotonic() - began
        if current.has_ended:
            await self._end_pass(imported, current)
        else:
            await self._store(imported, Counter(), current.trouble(), is_complete=False)

    async def _may_begin(self, imported: Import, planned: _NextPass) -> bool:
        """Whether the next pass may begin now. Raises ``ApiError``."""
        if self.clock.monotonic() >= planned.at:
            return True
        return planned.awaits_copies and await self._running(imported) == 0

    async def _continue(self, imported: Import, current: _Pass, organization: Organization) -> None:
        """Do all of a pass for which there is room now. Raises ``ApiError``, also ``Expired``."""
        room = max(0, imported.spec.max_unfinished - await self._running(imported))
        current.take_postponed(self.clock.monotonic())
        failures = 0
        while current.waiting or current.may_read:
            if not current.waiting:
                await self._read_page(imported, current, organization)
                continue
            if room == 0 or failures == MAX_FAILURES:
                return
            name, began = current.waiting.popleft(), self.clock.monotonic()
            try:
                is_started = await self._advance_event(name, imported, current, organization)
            except (ApiError, _NotStarted) as problem:
                # Perhaps about this event only, and each time.
                _log.warning("the copies of EnvelopeEvent/%s were not started: %s", name, problem)
                now = self.clock.monotonic()
                current.postpone(name, problem, now)
                # An outage is no work after which the next pass has to wait.
                current.worked -= now - began
                failures += 1
                continue
            del current.tries[name]
            current.started += is_started
            room -= is_started
            failures = 0

    async def _read_page(self, imported: Import, current: _Pass, organization: Organization) -> None:
        """
        Count the events of the next page, and keep the names of those that lack a copy.

        Their copies may take hours, and the number of Imports has no bound: no page stays in memory.
        """
        page, token = await self.kube.continued_page(
            EnvelopeEvent,
            limit=PAGE_SIZE,
            token=current.token,
            labels=f"{ORGANIZATION_LABEL}={imported.organization}",
        )
        current.token, current.is_last_page = token, not token
        for each in page:
            event = parse_readable(EnvelopeEvent, each)
            state = self._state(event, imported, organization)
            if event is not None and state is CopyState.MISSING and not imported.spec.dry_run:
                current.waiting.append(event.name)
            else:
                current.states[state] += 1

    async def _advance_event(
        self, name: str, imported: Import, current: _Pass, organization: Organization
    ) -> bool:
        """Start the copies of an event that lacked one in its page; return whether they had to be. Raises
        ``ApiError`` and ``_NotStarted``."""
        try:
            event = parse_readable(EnvelopeEvent, await self.kube.get(EnvelopeEvent, name))
        except NotFound:
            event = None
        state = self._state(event, imported, organization)
        is_open = event is not None and state is CopyState.MISSING
        if event is not None and is_open:
            await self._start(event, imported)
        current.states[CopyState.RUNNING if is_open else state] += 1
        return is_open

    async def _start(self, event: EnvelopeEvent, imported: Import) -> None:
        message = f"Import/{imported.name} asks for the copies."
        again = status_for_copying(event.status, reason=COPY_REQUESTED, message=message, now=self.clock.now())
        if await self.reopener.store(event, again) is event:
            raise _NotStarted("it was changed at that moment, or the API server refuses its status")

    def _state(self, event: EnvelopeEvent | None, imported: Import, organization: Organization) -> CopyState:
        if event is None or not is_of_span(event, imported):
            return CopyState.OTHER
        began = imported.status.start_time or self.clock.now()
        state = copy_state(event.status, organization, began)
        is_unrecorded = has_ended(event.status) and not retries_copies(event.status)
        if state not in (CopyState.MISSING, CopyState.HELD) or is_unrecorded:
            # The one run of an event that has ended records the missing copy, which is made after a hold.
            return state
        if are_copies_held(event, organization.spec, self.cache):
            return CopyState.FAILED
        is_running = state is CopyState.HELD or _waits_for_ceiling(event.status, self.clock.now())
        return CopyState.RUNNING if is_running else state

    async def _running(self, imported: Import) -> int:
        """Return how many events of the Organization make copies, without those that a person holds. Raises
        ``ApiError``."""
        others = (f"status.reason!={each}" for each in sorted(HELD_REASONS))
        fields = ",".join((f"status.phase={Phase.COPYING}", *others))
        running = await self.kube.count_by_label(EnvelopeEvent, ORGANIZATION_LABEL, fields)
        return running[imported.organization]

    async def _end_pass(self, imported: Import, current: _Pass) -> None:
        del self._passes[imported.uid]
        pause = max(PAUSE_SECONDS, PAUSE_FACTOR * current.worked)
        # Only a pass that started copies: else one with other events in Copying would follow another.
        awaits_copies = current.started > 0
        self._due[imported.uid] = _NextPass(self.clock.monotonic() + pause, awaits_copies)
        is_open = current.states[CopyState.RUNNING] + current.states[CopyState.MISSING] > 0
        is_complete = imported.spec.dry_run or not is_open
        await self._store(imported, current.states, current.trouble(), is_complete=is_complete)
        if is_complete:
            self._due.pop(imported.uid, None)

    async def _store(
        self, imported: Import, states: Counter[CopyState], held: ImportHold | None, *, is_complete: bool
    ) -> None:
        status = imported.status
        if states:
            status = replace(
                status,
                found=sum(number for state, number in states.items() if state is not CopyState.OTHER),
                known=states[CopyState.KNOWN],
                archived=states[CopyState.COPIED],
                failed=states[CopyState.FAILED],
            )
            if (status.archived, status.failed) != (imported.status.archived, imported.status.failed):
                status = with_rate(status, self.clock.now())
        changed = replace(imported, status=status)
        concluded = copies_concluded(changed, held, is_complete=is_complete, now=self.clock.now())
        try:
            await write_status(self.kube, imported, concluded)
        except Conflict:
            _log.info("Import/%s was changed meanwhile", imported.name)


def is_of_span(event: EnvelopeEvent, imported: Import) -> bool:
    """Whether an event belongs to an Import that only copies: by the last known time of its envelope, its
    Sender and its status."""
    spec, span, envelope = imported.spec, span_of(imported), event.status.envelope
    last = envelope.last_active_time if envelope is not None else None
    moment = last or event.metadata.creation_timestamp
    senders = {each.name for each in spec.sender_refs}
    # Without an end, what was archived a moment ago counts as well: the times come from several clocks.
    is_late = spec.until is not None and moment is not None and moment >= span.end
    if moment is None or moment < span.start or is_late:
        return False
    if spec.statuses and (envelope is None or envelope.status not in {str(each) for each in spec.statuses}):
        return False
    return not senders or event.metadata.labels.get(SENDER_LABEL) in senders


def _state_of_unfinished(status: EnvelopeEventStatus) -> CopyState:
    """Return the state of an unfinished event that lacks a copy, which its next run makes. It may wait
    without end: for a key, a suspension, its action or its envelope."""
    if status.reason in HELD_REASONS:
        return CopyState.HELD
    has_no_end = status.phase is Phase.AWAITING_CONSENT or has_property(
        status.reason, ReasonProperty.NO_DEADLINE
    )
    return CopyState.FAILED if has_no_end else CopyState.RUNNING


def _waits_for_ceiling(status: EnvelopeEventStatus, now: datetime) -> bool:
    """Whether the last run of an event that has ended had no room for its list of files. The garbage
    collector tries its copies then; to start it again before would repeat that run."""
    planned = (each.next_attempt_time for each in status.copies if each.reason == FILE_LIST_CEILING)
    return any(each is not None and each > now for each in planned)


def _is_tried(copy: EventCopy, began: datetime) -> bool:
    """Whether a missing copy was tried since then. One that was made is missing if another one has its
    address."""
    times = (copy.last_attempt_time, copy.verified_time)
    return any(each is not None and each >= began for each in times)


def copy_state(status: EnvelopeEventStatus, organization: Organization, began: datetime) -> CopyState:
    """Return what is to do about the copies of an event, for an Import that ``began`` then."""
    copied = find_condition(status.conditions, "Copied")
    is_changed = copied is not None and copied.last_transition_time >= began
    is_copying = status.phase is Phase.COPYING
    if is_copying and status.reason not in HELD_REASONS:
        return CopyState.RUNNING
    is_missing = copied is not None and copied.status != "True"
    if status.phase is Phase.FAILED and is_changed and is_missing and not takes_copies(status):
        return CopyState.FAILED
    is_archived = is_condition_true(status.conditions, "Archived")
    if not is_archived and (status.phase, status.reason) != (Phase.SKIPPED, ARCHIVED_AS_EXPIRED):
        return CopyState.OTHER
    copies = organization.spec.copies
    if missing := missing_copies(status, copies):
        if is_copying or not takes_copies(status):
            return CopyState.FAILED if status.phase.is_final else _state_of_unfinished(status)
        # What had no room, or only a suspension held, was not tried. Beside one that failed, the garbage
        # collector tries it again: the Import would repeat that one, too.
        is_tried = any(_is_tried(stored_copy(status, each), began) for each in missing)
        return CopyState.FAILED if is_tried else CopyState.MISSING
    times = [stored_copy(status, each.archive_ref.name).verified_time for each in copies]
    is_new = any(each is not None and each >= began for each in times)
    return CopyState.COPIED if is_new else CopyState.KNOWN
