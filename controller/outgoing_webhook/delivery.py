"""
Deliver the pending notices of this controller's shards, and store the results.

Finished events are in no main watch (rule 9), so pending notices have a separate small watch by the
field ``status.notice.state``. It finds them again after a restart. Memory depends on pending notices only:
their times and the keys of their limits. The event is read again at each attempt.

A notice is sent at least once: a kill after the receiver's answer and before the write of the result sends it
again, with the same id. A delivered notice costs one write, a failed attempt one as well.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

from msgspec.structs import replace

from controller.access.secret_cache import (
    SecretCache,
    SigningSecretUnusable,
    webhook_signature,
)
from controller.cache import Cache, version_number
from controller.event_recorder import EventRecorder
from controller.outgoing_webhook.client import NoticeClient
from controller.outgoing_webhook.cloudevent import CONTENT_TYPE, cloudevent
from controller.outgoing_webhook.policy import (
    SECRET_REASONS,
    WEBHOOK_REMOVED,
    AttemptResult,
    Delivered,
    NotDelivered,
    after_attempt,
)
from controller.scheduling.due import EPOCH
from controller.scheduling.fair_queue import ConcurrencyLimits, QueueItem
from controller.scheduling.retry_policy import LOST_OUTCOME, Random, longest_backoff
from controller.scheduling.workqueue import WorkQueue
from counterfoil.clock import Clock, believed_time
from counterfoil.kube.answers import parse_readable
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, NotFound
from counterfoil.kube.status import apply_change
from counterfoil.kube.watch import SECOND_LIST_DELAY_SECONDS, list_and_watch_forever
from counterfoil.logs import log_context
from counterfoil.metrics import Metrics, NoticeOutcome
from counterfoil.resources import (
    EnvelopeEvent,
    EnvelopeEventStatus,
    EventNotice,
    NoticeState,
    Organization,
    RetrySpec,
)

_log = logging.getLogger(__name__)

CONCURRENT_NOTICES = 4
"""Maximum number of notices of one organization that are sent at the same time by one controller."""

CONCURRENT_NOTICES_OF_PROCESS = 32
"""Maximum number of notices of all organizations that one controller sends at the same time."""

SECRET_CHECK_SECONDS = 10.0
"""Interval between checks of signing secrets that notices wait for."""

PENDING_FIELD = f"status.notice.state={NoticeState.PENDING}"


class _PendingNotice(NamedTuple):
    """The times and limits of a pending notice."""

    item: QueueItem
    next_attempt: datetime | None
    reason: str
    """Reason of the last failed attempt; empty for none."""
    version: int


class _UnstoredResult(NamedTuple):
    notice_id: str
    result: AttemptResult


@dataclass
class NoticeDelivery:
    """Finds pending notices, sends each when it is due, and stores the results."""

    kube: KubeClient
    cache: Cache
    secrets: SecretCache
    client: NoticeClient
    event_recorder: EventRecorder
    metrics: Metrics
    clock: Clock
    random: Random
    labels: str
    on_failed: Callable[[EnvelopeEvent, NotDelivered], None]
    """Receives an event whose notice was given up."""
    _pending: dict[str, _PendingNotice] = field(default_factory=dict)
    _unstored: dict[str, _UnstoredResult] = field(default_factory=dict)
    """Results that could not be stored yet, by event: the notice is not sent again because of that."""
    _lost_outcomes: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._workqueue = WorkQueue(self.clock, partial(_limits, self.cache))

    @property
    def pending(self) -> int:
        """Number of notices that this process delivers."""
        return len(self._pending)

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._workqueue.run(self._deliver))
                group.create_task(self._watch())
                group.create_task(self._check_secrets())
        finally:
            await self.client.close()

    async def drain(self) -> None:
        """Start no further attempt, and return when the running ones have ended."""
        await self._workqueue.drain()

    # -- Which notices are pending ---------------------------------------------------------------------------

    async def _watch(self) -> None:
        await self.clock.sleep(SECOND_LIST_DELAY_SECONDS)
        async for change in list_and_watch_forever(
            self.kube, EnvelopeEvent, labels=self.labels, fields=PENDING_FIELD, on_error=_log_watch_error
        ):
            if change.type in ("ADDED", "MODIFIED"):
                self._observe_raw(change.raw)
            elif change.type == "DELETED":
                self._forget(change.raw["metadata"]["name"])
            elif change.type == "SYNCED":
                for name in self._pending.keys() - change.names:
                    self._forget(name)

    def _observe_raw(self, raw: Mapping[str, Any]) -> None:
        event = parse_readable(EnvelopeEvent, raw)
        if event is None:
            return
        known = self._pending.get(event.name)
        if known is None or known.version < version_number(event):
            self._observe(event)

    def _observe(self, event: EnvelopeEvent) -> None:
        """Take over the newest state of an event, and enqueue its notice if it is pending."""
        notice = _pending_notice(event)
        if notice is None:
            self._forget(event.name)
            return
        reason = notice.last_error.reason if notice.last_error is not None else ""
        self._pending[event.name] = _PendingNotice(
            _queue_item(event),
            notice.next_attempt_time,
            reason,
            version_number(event),
        )
        self._enqueue(event.name)

    def _enqueue(self, name: str, *, earliest: datetime | None = None, now: bool = False) -> None:
        pending = self._pending.get(name)
        if pending is None:
            return
        organization = self.cache.organizations.get(pending.item.organization)
        is_held = organization is None or organization.spec.suspend
        retry = organization.spec.retry if organization is not None else RetrySpec()
        planned = believed_time(pending.next_attempt, self.clock.now(), ahead=longest_backoff(retry))
        due = EPOCH if now else max(planned or EPOCH, earliest or EPOCH)
        self._workqueue.enqueue_at(pending.item, None if is_held else due)

    def _forget(self, name: str) -> None:
        self._workqueue.forget(name)
        for memory in (self._pending, self._unstored, self._lost_outcomes):
            memory.pop(name, None)

    def enqueue_known(self) -> None:
        """Enqueue all pending notices again: the clock was set."""
        for name in self._pending:
            self._enqueue(name)

    # -- What makes them due at once -------------------------------------------------------------------------

    def organization_changed(self, before: Organization | None, after: Organization | None) -> None:
        """A changed spec may solve why notices fail."""
        organization = after or before
        is_changed = (
            before is None or after is None or before.metadata.generation != after.metadata.generation
        )
        if organization is not None and is_changed:
            for name, pending in list(self._pending.items()):
                if pending.item.organization == organization.name:
                    self._enqueue(name, now=before is not None)
            self._workqueue.wake()

    async def _check_secrets(self) -> None:
        """Let the notices that wait for a signing secret continue when it can be used."""
        while True:
            await self.clock.sleep(SECRET_CHECK_SECONDS)
            waiting: dict[str, list[str]] = {}
            for name, pending in self._pending.items():
                if pending.reason in SECRET_REASONS:
                    waiting.setdefault(pending.item.organization, []).append(name)
            for organization, names in waiting.items():
                if await self._is_secret_usable(organization):
                    for name in names:
                        self._enqueue(name, now=True)

    async def _is_secret_usable(self, name: str) -> bool:
        organization = self.cache.organizations.get(name)
        if organization is None or organization.spec.webhook is None:
            return False
        try:
            await webhook_signature(self.secrets, organization.spec.webhook, self.clock)
        except (SigningSecretUnusable, ApiError):
            return False
        except Exception:
            _log.exception("a signing secret could not be checked", extra={"organization": name})
            return False
        return True

    # -- One attempt -----------------------------------------------------------------------------------------

    async def _deliver(self, name: str) -> None:
        """Make one attempt for an event's notice, and store its result."""
        try:
            event = EnvelopeEvent.parse(await self.kube.get(EnvelopeEvent, name))
            with log_context(event=name, envelope=event.spec.envelope_id, organization=event.organization):
                await self._deliver_notice(event)
        except NotFound:
            self._forget(name)
        except ApiError as problem:
            _log.warning("the result of a notice could not be stored yet: %s", problem)
            self._enqueue_after_failure(name)
        except Exception:
            _log.exception("the delivery of a notice broke off", extra={"event": name})
            self._enqueue_after_failure(name)

    async def _deliver_notice(self, event: EnvelopeEvent) -> None:
        notice = _pending_notice(event)
        organization = self.cache.organizations.get(event.organization)
        if notice is None or organization is None or organization.spec.suspend:
            # Finished, re-opened or held meanwhile.
            self._observe(event)
            return
        known = self._unstored.get(event.name)
        if known is not None and known.notice_id == notice.id:
            result = known.result
        else:
            result = await self._attempt(event, notice, organization)
            self._unstored[event.name] = _UnstoredResult(notice.id, result)
        stored = await self._store(
            event,
            after_attempt(notice, result, organization.spec.retry, now=self.clock.now(), random=self.random),
        )
        self._unstored.pop(event.name, None)
        self._lost_outcomes.pop(event.name, None)
        self._announce(stored, notice.id, result)
        if event.name in self._pending:
            # Otherwise a list did not name it meanwhile: another process delivers it, or nobody.
            self._observe(stored)

    async def _attempt(
        self, event: EnvelopeEvent, notice: EventNotice, organization: Organization
    ) -> AttemptResult:
        webhook = organization.spec.webhook
        if webhook is None:
            message = "spec.webhook of the Organization was removed, so there is no receiver."
            return NotDelivered("WebhookRemoved", message, is_final=True)
        try:
            signature = await webhook_signature(self.secrets, webhook, self.clock)
        except SigningSecretUnusable as unusable:
            return NotDelivered(unusable.reason, str(unusable))
        body = cloudevent(event, self.kube.namespace)
        headers = {"Content-Type": CONTENT_TYPE, **signature.headers(notice.id, body)}
        return await self.client.post(webhook.url, headers, body)

    async def _store(self, event: EnvelopeEvent, notice: EventNotice) -> EnvelopeEvent:
        """Store a notice, unless the event was re-opened meanwhile. Raises ``ApiError``."""

        def changed(newest: EnvelopeEvent) -> EnvelopeEventStatus:
            current = _pending_notice(newest)
            if current is None or current.id != notice.id:
                return newest.status
            return replace(newest.status, notice=notice)

        return await apply_change(self.kube, EnvelopeEvent, event.name, event, changed)

    def _announce(self, event: EnvelopeEvent, notice_id: str, result: AttemptResult) -> None:
        stored, organization = event.status.notice, event.organization
        if isinstance(result, Delivered):
            self._count(organization, NoticeOutcome.DELIVERED)
            return
        _log.info("a notice was not delivered: %s", result.message, extra={"reason": result.reason})
        is_failed = stored is not None and stored.id == notice_id and stored.state is NoticeState.FAILED
        self._count(organization, NoticeOutcome.FAILED if is_failed else NoticeOutcome.RETRIED)
        if is_failed:
            self.event_recorder.record(event, result.reason, result.message, type_="Warning", action="Notify")
            if result.reason != WEBHOOK_REMOVED:
                self.on_failed(event, result)

    def _count(self, organization: str, outcome: NoticeOutcome) -> None:
        self.metrics.webhook_notices.labels(organization, outcome.value).inc()

    def _enqueue_after_failure(self, name: str) -> None:
        if name not in self._pending:
            return
        failures = self._lost_outcomes.get(name, 0)
        self._lost_outcomes[name] = failures + 1
        pause = timedelta(seconds=LOST_OUTCOME.pause(failures))
        self._enqueue(name, earliest=self.clock.now() + pause)


def _pending_notice(event: EnvelopeEvent) -> EventNotice | None:
    notice = event.status.notice
    is_pending = notice is not None and notice.state is NoticeState.PENDING
    return notice if is_pending and event.status.phase.is_final else None


def _queue_item(event: EnvelopeEvent) -> QueueItem:
    completed = event.status.completion_time
    return QueueItem(
        sort_key=f"{completed.isoformat() if completed else ''} {event.name}",
        event=event.name,
        envelope=event.name,  # the notices of two events of an envelope do not wait for each other
        organization=event.organization,
        sender="",
        archive="",
    )


def _limits(cache: Cache) -> ConcurrencyLimits:
    each = {organization.name: CONCURRENT_NOTICES for organization in cache.organizations}
    process = CONCURRENT_NOTICES_OF_PROCESS
    return ConcurrencyLimits(process=process, organization=each, sender=each, archive={"": process})


def _log_watch_error(problem: ApiError) -> None:
    _log.warning("pending notices can't be watched at the moment: %s", problem)
