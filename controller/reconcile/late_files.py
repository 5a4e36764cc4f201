"""
List the files of a kept envelope again, after the time in which eSAW may list further ones.

An event whose envelope stays in eSAW ends as soon as the listed files are archived. If the time of
``spec.evidence.wait`` had not passed by then, its ``status.nextAttemptTime`` is the end of that time. Then
eSAW is asked again. If it lists further files, the event starts again, and its run archives them. If
not, only ``nextAttemptTime`` is removed.

Each Organization has its own queue, and one list at a time: a slow eSAW delays no other Organization, and not
the garbage collector. The worker enqueues each event that ends
here. The garbage collector enqueues those that it reads, which are the ones of before a restart, or of
another controller. Memory holds a name and a time per outstanding list.

A list that lacks an archived file is short, and no answer. If there is no answer for ``OVERDUE``, the event
gets a condition and one Kubernetes Event. The list is tried until the cause is solved. This module archives
nothing and decides nothing about the files.
"""

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from msgspec.structs import replace

from controller.cache import Cache
from controller.reconcile import error_policy
from controller.reconcile.outcomes import BaseOutcome, Hold, NeedConsent, Outcome, SideCondition, Wait
from controller.reconcile.phases.missing_envelope import not_shown_message, unless_missing, was_deleted
from controller.reconcile.phases.unlisted_files import FILES_NOT_LISTED, listed_again, settled_evidence
from controller.reconcile.preconditions import (
    Admitted,
    AdmittedCopies,
    Preconditions,
    RecordOnly,
    Relabelled,
)
from controller.reopening.fix_rules import ready_state
from controller.reopening.reopener import Reopener
from controller.scheduling.retry_policy import LATE_LIST
from counterfoil.clock import Clock, believed_time
from counterfoil.esaw.evidence import lacks_known_file, lists_additional_files
from counterfoil.esaw.models import EnvelopeFile
from counterfoil.esaw.rate_limit import answering_within
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, NotFound
from counterfoil.resources import (
    EnvelopeEvent,
    EnvelopeEventStatus,
    Organization,
    Resource,
    ResourceInvalid,
    Sender,
    find_condition,
)
from counterfoil.resources.conditions import UNREAD_SECRET_REASONS, with_condition
from counterfoil.resources.envelopeevent import (
    COPIES_PENDING,
    ENVELOPE_NOT_FOUND,
    EVIDENCE_CONDITION,
    LATE_FILES_UNKNOWN,
)

_log = logging.getLogger(__name__)

POLL_SECONDS = 5.0
"""Interval at which due lists are looked for, in memory."""

LIST_TIMEOUT = 300.0
"""Seconds after which a list is given up; it counts as an eSAW that does not answer. Waits for
``requestsPerMinute`` do not count."""

MAX_QUEUED = 5_000
"""Maximum number of outstanding lists of one Organization in memory. The garbage collector reads further ones
again in its next pass. A full queue gives up lists that are not possible now, for those that may be."""

OVERDUE = timedelta(hours=1)
"""Time for which a list may be impossible before the event shows it."""

_OUTAGES: Final = frozenset({"ApiServerTrouble", "EsawFailing", "EsawThrottling", "EsawUnreachable"})
"""Reasons that concern all lists of the Organization."""

_TOO_SLOW: Final = Wait("EsawUnreachable", "eSignAnyWhere does not list the files of the envelope in time.")
_NOT_STORED: Final = Wait("StatusRefused", "The event was changed meanwhile, or may not be changed.")
_NO_API_SERVER: Final = Wait("ApiServerTrouble", "The Kubernetes API server did not do what was asked.")

_LONG_AGO: Final = datetime.fromtimestamp(0, UTC)


class _UnreadKey(NamedTuple):
    """A Sender whose Secret can't or may not be read, which concerns all lists with its key."""

    problem: BaseOutcome
    until: float
    """Monotonic time before which no list is tried."""
    failures: int


@dataclass
class _Queue:
    """The outstanding lists of one Organization."""

    due: dict[str, float] = field(default_factory=dict)
    """By event: the monotonic time at which its files are listed. A clock that is set moves no list."""
    failures: Counter[str] = field(default_factory=Counter)
    """By event: successive lists that were not possible."""
    outages: int = 0
    """Successive lists that were not possible for a reason of the whole Organization."""
    paused_until: float = -math.inf
    """Monotonic time."""
    unread_keys: dict[str, _UnreadKey] = field(default_factory=dict)
    """By Sender."""
    is_busy: bool = False

    def has_room(self, due: float, *, most: int) -> bool:
        """
        Return whether a list that is due then may be added.

        A full queue gives up the list that fails for the longest time: else those of one Sender without a
        key would keep the lists of all others out. If none fails, it gives up the newest, if that is due
        later.
        """
        if len(self.due) < most:
            return True
        given_up = next((each for each in self.failures if each in self.due), None)
        if given_up is None:
            given_up = next(reversed(self.due))
            if self.due[given_up] <= due:
                return False
        del self.due[given_up]
        self.failures.pop(given_up, None)
        return True

    def due_events(self, now: float) -> list[str]:
        """Return the events whose lists are due, the oldest first."""
        return sorted((each for each, due in self.due.items() if due <= now), key=self.due.__getitem__)

    def resume(self, now: float) -> None:
        """Try again at once what was not possible."""
        self.due.update({each: now for each in self.failures if each in self.due})
        self.failures.clear()
        self.outages, self.paused_until = 0, -math.inf
        self.unread_keys.clear()

    def observe_key(self, sender: str, problem: BaseOutcome | None, now: float) -> None:
        """Record whether a list showed that the Sender's Secret can't be read."""
        known = self.unread_keys.pop(sender, None)
        if sender and problem is not None and problem.reason in UNREAD_SECRET_REASONS:
            failures = known.failures if known is not None else 0
            self.unread_keys[sender] = _UnreadKey(problem, now + LATE_LIST.pause(failures), failures + 1)


@dataclass
class LateFileFinder:
    """Compares the archived files of kept envelopes with what eSAW lists later."""

    kube: KubeClient
    cache: Cache
    list_files: Callable[[EnvelopeEvent], Awaitable[Collection[EnvelopeFile] | Outcome | None]]
    """Lists the files of an event's envelope, or returns why that is not possible now; None: eSAW deleted
    it."""
    reopener: Reopener
    clock: Clock
    max_queued: int = MAX_QUEUED
    _queues: dict[str, _Queue] = field(default_factory=dict)

    def enqueue(self, event: EnvelopeEvent) -> None:
        """Plan the list of a finished event that has one outstanding."""
        due = _due_time(event, self.clock.now())
        if due is None:
            return
        queue = self._queues.setdefault(event.organization, _Queue())
        at = self.clock.monotonic() + (due - self._earliest_now()).total_seconds()
        if event.name not in queue.due and queue.has_room(at, most=self.max_queued):
            queue.due[event.name] = at

    async def observe(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """Enqueue an event that the garbage collector reads; return it unchanged."""
        self.enqueue(event)
        return event

    async def run(self) -> None:
        """List files until cancelled."""
        async with asyncio.TaskGroup() as lists:
            while True:
                self.start_due(lists)
                await self.clock.sleep(POLL_SECONDS)

    def start_due(self, lists: asyncio.TaskGroup) -> None:
        """Start a task for each Organization that has due lists, unless one is running or it is paused."""
        for name, queue in self._ready_queues():
            queue.is_busy = True
            lists.create_task(self._list_due(queue), name=f"late files of Organization/{name}")

    def _ready_queues(self) -> Iterator[tuple[str, _Queue]]:
        self._queues = {name: each for name, each in self._queues.items() if each.due or each.is_busy}
        now = self.clock.monotonic()
        for name, queue in self._queues.items():
            if not queue.is_busy and now >= queue.paused_until and queue.due_events(now):
                yield name, queue

    async def _list_due(self, queue: _Queue) -> None:
        """List the files of all due events of one Organization, one after the other, until an outage."""
        try:
            for name in queue.due_events(self.clock.monotonic()):
                if self.clock.monotonic() < queue.paused_until:
                    return
                queue.due.pop(name, None)
                problem = await self._try(name, queue)
                if problem is None:
                    queue.failures.pop(name, None)
                    queue.outages = 0
                else:
                    self._plan_again(name, queue, problem)
        finally:
            queue.is_busy = False

    async def _try(self, name: str, queue: _Queue) -> BaseOutcome | None:
        """List the files of one event; return why that was not possible, None if nothing is left to do."""
        try:
            event = EnvelopeEvent.parse(await self.kube.get(EnvelopeEvent, name))
            return await self._list_unless_unread(event, queue)
        except (NotFound, ResourceInvalid):
            return None
        except ApiError as problem:
            _log.info("the files are listed again later: %s", problem, extra={"event": name})
            return _NO_API_SERVER
        except Exception:
            _log.exception("listing the files again broke off", extra={"event": name})
            return error_policy.INTERNAL_ERROR

    async def _list_unless_unread(self, event: EnvelopeEvent, queue: _Queue) -> BaseOutcome | None:
        sender = self.cache.sender_name(event)
        unread = queue.unread_keys.get(sender)
        if unread is not None and self.clock.monotonic() < unread.until:
            return unread.problem
        problem = await self._list(event)
        queue.observe_key(sender, problem, self.clock.monotonic())
        return problem

    async def _list(self, event: EnvelopeEvent) -> BaseOutcome | None:
        due = _due_time(event, self.clock.now())
        if due is None:
            return None
        if self._earliest_now() < due:
            # It ended again since, or an API server whose clock is ahead answered last.
            self.enqueue(event)
            return None
        try:
            async with answering_within(LIST_TIMEOUT):
                listed = await self.list_files(event)
        except TimeoutError:
            listed = _TOO_SLOW
        if isinstance(listed, BaseOutcome):
            _log.info("the files are listed again later: %s", listed.message, extra={"event": event.name})
            is_deleted = await self._is_organization_deleted(event, listed)
            if is_deleted or self.clock.now() - due >= OVERDUE:
                await self._report(event, listed)
            return None if is_deleted else listed
        if listed is not None and lists_additional_files(event.status, listed):
            message = "eSignAnyWhere lists files that were not archived; the event starts again."
            stored = await self.reopener.reopen(event, "FilesListedLate", message)
        else:
            stored = await self.reopener.store(event, self._settled(event, listed))
        return _NOT_STORED if stored is event else None

    def _earliest_now(self) -> datetime:
        """Return the time by the API server whose clock is the last one."""
        return self.clock.now() - self.clock.lead()

    async def _is_organization_deleted(self, event: EnvelopeEvent, problem: BaseOutcome) -> bool:
        """
        Whether the API server says that there is no such Organization. Raises ``ApiError``.

        Then nothing is listed until the garbage collector reads the event again. Once the Organization is
        missing for a day, it does not ask for a list any more. A list without the Organization is no
        evidence, so the Organization itself is read.
        """
        if problem.reason != "OrganizationMissing":
            return False
        try:
            await self.kube.get(Organization, event.organization)
        except NotFound:
            return True
        return False

    def _settled(self, event: EnvelopeEvent, listed: Collection[EnvelopeFile] | None) -> EnvelopeEventStatus:
        """Return the status of an event whose list has no further file, or whose envelope was deleted."""
        settled = replace(event.status, next_attempt_time=None)
        conditions = [] if listed is None else [*listed_again(event.status)]
        if (evidence := settled_evidence(event.status, listed)) is not None:
            conditions.append(evidence)
        for each in conditions:
            settled = self._with_condition(event, settled, each)
        return settled

    async def _report(self, event: EnvelopeEvent, problem: BaseOutcome) -> None:
        """Record that the list is not possible; there is one Kubernetes Event, also if the cause changes."""
        message = f"It is not known whether eSignAnyWhere lists files late. {problem.message}"
        known = find_condition(event.status.conditions, EVIDENCE_CONDITION)
        if known is not None and (known.reason, known.message) == (LATE_FILES_UNKNOWN, message):
            return
        unknown = SideCondition(EVIDENCE_CONDITION, "Unknown", "LateFilesUnknown", message)
        status = self._with_condition(event, event.status, unknown)
        stored = await self.reopener.store(event, status)
        if stored is not event and (known is None or known.reason != LATE_FILES_UNKNOWN):
            self.reopener.event_recorder.record(stored, LATE_FILES_UNKNOWN, message, type_="Warning")

    def _with_condition(
        self, event: EnvelopeEvent, status: EnvelopeEventStatus, found: SideCondition
    ) -> EnvelopeEventStatus:
        now, generation, known = self.clock.now(), event.metadata.generation, status.conditions
        facts = (found.type, found.status, found.reason, found.message)
        return replace(status, conditions=with_condition(known, *facts, now=now, generation=generation))

    def _plan_again(self, name: str, queue: _Queue, problem: BaseOutcome) -> None:
        now, pause = self.clock.monotonic(), LATE_LIST.pause(queue.failures[name])
        queue.failures[name] += 1
        queue.due[name] = now + pause
        if problem.reason in _OUTAGES:
            until = problem.not_before if isinstance(problem, Wait) else None
            asked = (until - self.clock.now()).total_seconds() if until is not None else 0.0
            queue.paused_until = now + max(LATE_LIST.pause(queue.outages), asked)
            queue.outages += 1

    def resource_changed(self, before: Resource | None, after: Resource | None) -> None:
        """Try again at once what a changed or recovered Organization or Sender may have delayed."""
        if not isinstance(after, Organization | Sender):
            return
        known = before if isinstance(before, Organization | Sender) else None
        is_new = known is None or known.spec != after.spec
        if is_new or ready_state(after) not in (None, known and ready_state(known)):
            name = after.name if isinstance(after, Organization) else after.spec.organization_ref.name
            if (queue := self._queues.get(name)) is not None:
                queue.resume(self.clock.monotonic())


def _due_time(event: EnvelopeEvent, now: datetime) -> datetime | None:
    """Return when the files of a finished event are listed again; None: never. Times of a clock that was
    ahead are long ago."""
    status = event.status
    if not status.phase.is_final or status.next_attempt_time is None or status.completion_time is None:
        return None
    return status.next_attempt_time if believed_time(status.completion_time, now) is not None else _LONG_AGO


# -- One list ------------------------------------------------------------------------------------------------


async def list_files(
    preconditions: Preconditions, event: EnvelopeEvent
) -> Collection[EnvelopeFile] | Outcome | None:
    """
    Return the files that eSAW lists now, which are no fewer than before; None if the envelope was deleted.

    The event is admitted as before a run, so eSAW is not called for a suspended one. A refused key is
    recorded on its Sender; nothing else is stored.

    Returns the outcome that a run would have had if they can't be listed. Raises errors that have no row in
    ``error_policy``.
    """
    try:
        admitted = await preconditions.check(event)
        if isinstance(admitted, Relabelled):
            admitted = await preconditions.check(admitted.event)
    except Exception as problem:
        return error_policy.classify_or_raise(problem, preconditions.clock.now())
    finally:
        # Finished events are in no memory (rule 9).
        preconditions.cache.forget_sender(event.name)
    match admitted:
        case Admitted():
            return await _listed_files(admitted, preconditions)
        case RecordOnly():
            message = f"spec.actions of Organization/{event.organization} only records {event.spec.action}."
            return Hold("Recorded", message)
        case AdmittedCopies():
            return Wait(COPIES_PENDING, "The event makes its copies first.")
        case Relabelled():
            return Wait("ApiServerTrouble", "Another client changes the labels of the event.")
    return admitted


async def _listed_files(
    admitted: Admitted, preconditions: Preconditions
) -> Collection[EnvelopeFile] | Outcome | None:
    context = admitted.context
    try:
        listed = await unless_missing(context.files_now())
        if listed is None and await was_deleted(context.event, context):
            return None
        siblings = [each.status for each in await context.possible_siblings()]
    except Exception as problem:
        outcome = error_policy.classify_or_raise(problem, preconditions.clock.now())
        if isinstance(outcome, NeedConsent):
            await preconditions.sender_keys.refused(context.sender, admitted.token)
        elif outcome.reason == error_policy.KEY_DOUBTED:
            preconditions.sender_keys.doubt(context.sender, admitted.token)
        return outcome
    if listed is None:
        return Wait(ENVELOPE_NOT_FOUND, not_shown_message(context))
    status = context.event.status
    # Such a list is short, so it says nothing about late files. One with a further file starts the event
    # again, and the run waits for the files that the list lacks.
    if lacks_known_file(status, listed, siblings) and not lists_additional_files(status, listed):
        return Wait("DocumentsPending", FILES_NOT_LISTED)
    return listed
