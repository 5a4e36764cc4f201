"""
Run the reconciler for one due event, and decide when the event is due again.

The work queue calls ``reconcile`` with a name. The new state goes into the cache, whose handlers enqueue the
event. An event whose state could not be stored is repeated after a pause. The worker writes no status.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from controller.cache import Cache, version_number
from controller.reconcile.reconciler import Reconciler
from controller.reconcile.state_machine import phase_to_resume
from controller.resync.resync import Resync
from controller.scheduling.due import has_request, is_suspended
from controller.scheduling.event_queue import EventQueue
from controller.scheduling.retry_policy import LOST_OUTCOME
from controller.sharding import LeaseLost
from counterfoil import tracing
from counterfoil.clock import Clock
from counterfoil.esaw.rate_limit import pause_while_waiting
from counterfoil.i18n.reasons import Server, server_of
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, NotFound
from counterfoil.kube.status import Superseded
from counterfoil.logs import log_context
from counterfoil.resources import SENDER_LABEL, TRACEPARENT_ANNOTATION, EnvelopeEvent, Phase
from counterfoil.resources.reopening import copies_after_end
from counterfoil.resources.routes import stored_copy
from counterfoil.untrusted.background_work import set_background

_log = logging.getLogger(__name__)

REQUEUE_SECONDS = 1.0
"""Pause after a run that changed nothing; meanwhile the watch delivers the newer state."""

FailureHandler = Callable[[EnvelopeEvent, float], None]
"""Receives an event that failed here, and the monotonic time at which that run began."""


async def read_event(kube: KubeClient, name: str) -> EnvelopeEvent:
    """Read an event from the API server. Raises ``ApiError``."""
    return EnvelopeEvent.parse(await kube.get(EnvelopeEvent, name))


@dataclass
class Worker:
    """Reconciles events by name."""

    cache: Cache
    event_queue: EventQueue
    reconciler: Reconciler
    resync: Resync
    clock: Clock
    on_failed: tuple[FailureHandler, ...]
    """Receive each event that ends as failed here, also again after a further copy."""
    on_new_failure: Callable[[EnvelopeEvent], None]
    """Receives each event that failed here, and not one that had failed before a further copy."""
    on_ended: Callable[[EnvelopeEvent], None]
    """Receives each event that ended here."""
    read: Callable[[str], Awaitable[EnvelopeEvent]]
    """Reads the event of this name from the API server. Raises ``ApiError``."""
    _lost_outcomes: Counter[str] = field(default_factory=Counter)
    """Number of successive runs of an event whose outcome was lost."""

    async def reconcile(self, name: str) -> None:
        """Reconcile an event, then enqueue it again if it is not finished."""
        before = self.cache.events.get(name)
        if before is None:
            return
        pause_while_waiting(lambda: self.event_queue.paused(name))
        set_background(self.event_queue.is_background(before))
        began = self.clock.monotonic()
        with _logged_and_traced(before):
            try:
                event, after = await self._run(before)
            except Superseded as superseded:
                _log.info("the run was superseded: %s", superseded)
                self._superseded(before, superseded.newest)
                return
            except LeaseLost as lost:
                _log.info("the run stopped: %s", lost)
                # It is not held again in this generation of the controller, which may take long to end.
                self._requeue_after_failure(name)
                return
            except ApiError as problem:
                _log.warning("the event's state could not be stored: %s", problem)
                self._requeue_after_failure(name)
                return
            except Exception:
                _log.exception("the work on an event broke off")
                self._requeue_after_failure(name)
                return
        self._check_what_failed(after)
        self._check_archives_of_failed_copies(event, after)
        self._announce_end(event, after, began)
        self.cache.update(after)
        if version_number(after) == version_number(event):
            # The run changed nothing; an event that is due at once must not run in a loop. An older CRD may
            # have dropped what ends that.
            self._requeue_after_failure(name)
        else:
            self._lost_outcomes.pop(name, None)

    async def _run(self, known: EnvelopeEvent) -> tuple[EnvelopeEvent, EnvelopeEvent]:
        """
        Run an event, or store that it waits for room; return the state before the run, and the one after it.

        Raises as ``Reconciler.reconcile``, when the run stored nothing or not all.
        """
        event, after = known, None
        self.event_queue.run_began(known.name)
        try:
            if not self._has_room(known):
                after = await self.reconciler.wait_for_room(known)
                return known, after
            event = await self._complete(known)
            after = await self.reconciler.reconcile(event)
            return event, after
        finally:
            self.cache.events.file_lists.run_ended(known)
            if after is None or _is_relabelled(event, after):
                self.event_queue.run_stored_nothing(after or known)
            else:
                self.event_queue.run_ended(after)

    def _announce_end(self, before: EnvelopeEvent, event: EnvelopeEvent, began: float) -> None:
        if event.status.phase is Phase.FAILED:
            if not copies_after_end(before.status):
                self.on_new_failure(event)
            for handler in self.on_failed:
                handler(event, began)
        if event.status.phase.is_final:
            self.on_ended(event)

    def event_changed(self, before: EnvelopeEvent | None, after: EnvelopeEvent | None) -> None:
        """Forget an event that was deleted, or that left the watch."""
        if after is None and before is not None:
            self._lost_outcomes.pop(before.name, None)

    def _has_room(self, event: EnvelopeEvent) -> bool:
        """
        Return whether a run may read the files of an event that the cache does not have.

        It has their list in memory to its end, and longer if it archives them. One that only deletes, or that
        shows a suspension, ends soon.
        """
        events = self.cache.events
        if events.is_complete(event.name) or is_suspended(event, self.cache):
            return True
        return phase_to_resume(event.status) is Phase.CLEANING or events.file_lists.take_for_run(event)

    async def _complete(self, known: EnvelopeEvent) -> EnvelopeEvent:
        """
        Return the known state of an event with its files, which the cache may not have.

        That may be a newer state: callbacks that are counted all the time must not delay the run. Raises
        ``Superseded`` if no such run is wanted in the stored state, and ``ApiError``.
        """
        if self.cache.events.is_complete(known.name):
            return known
        try:
            stored = await self.read(known.name)
        except NotFound as missing:
            raise Superseded(f"{known.name} was deleted") from missing
        if version_number(stored) < version_number(known) or _wanted_run(stored) != _wanted_run(known):
            raise Superseded(f"{known.name} was changed by another process", stored)
        return stored

    def _superseded(self, before: EnvelopeEvent, newest: EnvelopeEvent | None) -> None:
        if newest is not None:
            # A late report of the time before a restore of etcd hides the restored state from the relist.
            self.cache.update_from_read(newest, version_number(before))
            self.event_queue.enqueue_after(before.name, REQUEUE_SECONDS)
            return
        known = self.cache.events.get(before.name)
        if known is not None and known.uid == before.uid:
            # Deleted; a watch that was broken at that time never reports it.
            self.cache.delete(EnvelopeEvent, known.name, version_number(known))

    def _requeue_after_failure(self, name: str) -> None:
        self.event_queue.enqueue_after(name, LOST_OUTCOME.pause(self._lost_outcomes[name]))
        self._lost_outcomes[name] += 1

    def _check_what_failed(self, event: EnvelopeEvent) -> None:
        """Check the archive or eSAW that returned an error, so that its status shows the error and the
        recovery."""
        if event.status.phase.is_final:
            return
        match server_of(event.status.reason or ""):
            case Server.ARCHIVE:
                for name in self.cache.used_archives(event):
                    self.resync.probe_soon(name)
            case Server.ESAW:
                self.resync.check_esaw_soon(event.organization)

    def _check_archives_of_failed_copies(self, before: EnvelopeEvent, after: EnvelopeEvent) -> None:
        """Do the same for copies that failed in this run. An event ends or continues without them."""
        for copy in after.status.copies:
            is_new = copy != stored_copy(before.status, copy.ref.name)
            if is_new and copy.verified_time is None and server_of(copy.reason or "") is Server.ARCHIVE:
                for name in filter(None, (copy.ref.name, self.cache.archive_name(after))):
                    self.resync.probe_soon(name)


def _is_relabelled(before: EnvelopeEvent, after: EnvelopeEvent) -> bool:
    """Whether a run corrected the label of the Sender; such a run does nothing else."""
    return before.metadata.labels.get(SENDER_LABEL) != after.metadata.labels.get(SENDER_LABEL)


def _wanted_run(event: EnvelopeEvent) -> tuple[Any, ...]:
    """Return all that decides whether an event runs now, apart from other objects."""
    status = event.status
    progress = (status.phase, status.reason, status.attempts, status.next_attempt_time)
    return (event.uid, event.spec, has_request(event), *progress)


@contextmanager
def _logged_and_traced(event: EnvelopeEvent) -> Iterator[None]:
    """Put the event's name, envelope and organization on each log line and into the trace."""
    facts = {"event": event.name, "envelope": event.spec.envelope_id, "organization": event.organization}
    traceparent = event.metadata.annotations.get(TRACEPARENT_ANNOTATION)
    with log_context(**facts), tracing.span("event", traceparent=traceparent, **facts):
        yield
