"""
The life of an envelope: sent, opened, signed step by step, held back until the receiver accepted it, final.

Each step calls back in eSAW's order: the workstep event before eSAW's own data change, the status callback
after that but before the final state, and `CallbackUrl` last. Only `CallbackUrl` holds the envelope back; a
status callback that fails is repeated beside the way. All of this runs in the background, owned and ended by
Background.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sandbox.esaw.core.callbacks import (
    CallbackClient,
    CallbackKind,
    PendingCallback,
    envelope_values,
    expand_placeholders,
    workstep_values,
)
from sandbox.esaw.core.errors import ErrorCode, RequestRefused
from sandbox.esaw.core.model import (
    ActivityStatus,
    Document,
    Draft,
    EnvelopeActivity,
    EnvelopeOrder,
    EnvelopeStatus,
    StoredEnvelope,
)
from sandbox.esaw.core.store import EsawStore


class BackgroundTasks:
    """Owns the tasks that continue after a response."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start the task; it ends when it is done, or with `close`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._discard_if_succeeded)

    async def wait_until_idle(self) -> None:
        """Wait until no task is running. Raises the errors of the tasks."""
        while self._tasks:
            task = next(iter(self._tasks))
            await asyncio.wait({task})
            self._tasks.discard(task)
            task.result()

    async def close(self) -> None:
        """Cancel the tasks that are still running."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _discard_if_succeeded(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._tasks.discard(task)


@dataclass(frozen=True, slots=True)
class _Step:
    """One thing that happens to one activity (or, without one, to the envelope), and the status callback that
    tells it."""

    action: str
    activity: EnvelopeActivity | None = None
    outcome: ActivityStatus | None = None
    event_type: str | None = None
    reason: str | None = None


class Lifecycle:
    """Moves envelopes on, and calls back."""

    def __init__(
        self, store: EsawStore, callback_client: CallbackClient, background: BackgroundTasks
    ) -> None:
        self._store = store
        self._callback_client = callback_client
        self._background = background

    def send(self, draft: Draft, finished_documents: Sequence[Document]) -> StoredEnvelope:
        """Send a draft: an Active envelope, its first signer notified."""
        keeps_id = self._callback_client.behaviour().draft_id_becomes_envelope_id
        return self._send(draft, finished_documents, envelope_id=draft.id if keeps_id else None)

    def send_bulk(
        self, draft: Draft, finished_documents: Sequence[Sequence[Document]]
    ) -> list[StoredEnvelope]:
        """Send a bulk draft: an Active envelope for each recipient of the bulk, with the documents at the
        same position. Their parent is no envelope."""
        keeps_id = self._callback_client.behaviour().draft_id_becomes_envelope_id
        parent = draft.id if keeps_id else self._store.new_id()
        children = []
        for recipient, documents in zip(draft.bulk_recipients, finished_documents, strict=True):
            child = self._send(replace(draft, recipients=[recipient, *draft.recipients]), documents)
            child.bulk_parent_id = parent
            children.append(child)
        return children

    def _send(
        self, draft: Draft, finished_documents: Sequence[Document], *, envelope_id: str | None = None
    ) -> StoredEnvelope:
        order = EnvelopeOrder(
            name=draft.name,
            status=EnvelopeStatus.ACTIVE,
            recipients=draft.recipients,
            metadata=draft.metadata,
            callbacks=draft.callbacks,
            share_with_team=draft.share_with_team,
        )
        envelope = self._store.add_envelope(
            draft.owner, order, finished_documents=finished_documents, envelope_id=envelope_id
        )
        envelope.expires_at = draft.expires_at or envelope.expires_at
        self._background.start(self._after_send(envelope))
        return envelope

    async def open_workstep(self, envelope: StoredEnvelope) -> None:
        """The next signer opens the documents."""
        activity = _next_activity(_active(envelope))
        activity.opened_at = self._store.now()
        await self._run_steps(envelope, [_Step("workstepOpened", activity, event_type="CalledPage")])

    async def finish_workstep(self, envelope: StoredEnvelope) -> None:
        """The next signer signs. The envelope stays Active, also after the last one: `complete` ends it."""
        activity = _next_activity(_active(envelope))
        await self._run_steps(envelope, [_signed(activity)])

    async def complete(self, envelope: StoredEnvelope) -> None:
        """All who have not signed yet do, and the envelope is finished."""
        steps = _remaining_signatures(envelope)
        await self._end(envelope, steps, EnvelopeStatus.COMPLETED, calls_back=True)

    async def stall(self, envelope: StoredEnvelope, remaining_attempts: int) -> None:
        """All who have not signed yet do, and the next step of eSAW itself is in an error state."""
        await self._run_steps(envelope, _remaining_signatures(envelope))
        envelope.ending_as = EnvelopeStatus.COMPLETED
        event = self._store.event(f"{CallbackKind.ENVELOPE}Callback")
        attempts = self._callback_client.behaviour().callback_attempts - remaining_attempts
        self._callback_client.record_failure(event, attempts, remaining_attempts)
        envelope.history.append(event)

    async def reject(self, envelope: StoredEnvelope, reason: str) -> None:
        """The next signer rejects, and so the envelope is finished."""
        activity = _next_activity(_active(envelope))
        step = _Step("workstepRejected", activity, ActivityStatus.REJECTED, "WorkstepRejected", reason)
        await self._end(envelope, [step], EnvelopeStatus.REJECTED, calls_back=True)

    async def expire(self, envelope: StoredEnvelope) -> None:
        """Nobody signed in time."""
        envelope = _active(envelope)
        envelope.expires_at = self._store.now()
        calls_back = self._callback_client.behaviour().callback_on_expiry
        await self._end(envelope, [_Step("envelopeExpired")], EnvelopeStatus.EXPIRED, calls_back=calls_back)

    def cancel(self, envelope: StoredEnvelope) -> None:
        """The sender takes it back. Raises EsawError unless it is Active."""
        if envelope.status is not EnvelopeStatus.ACTIVE:
            raise RequestRefused(ErrorCode.NOT_IN_THIS_STATE)
        self._store.set_status(envelope, EnvelopeStatus.CANCELED)
        if self._callback_client.behaviour().callback_on_cancel and envelope.callbacks.envelope:
            self._background.start(self._call_in_background(self._envelope_callback(envelope)))

    def restart(self, envelope: StoredEnvelope, expires_at: datetime) -> None:
        """Continue an Expired envelope where it was. Raises EsawError for any other."""
        if envelope.status is not EnvelopeStatus.EXPIRED:
            raise RequestRefused(ErrorCode.NOT_IN_THIS_STATE)
        envelope.expires_at = expires_at
        self._store.set_status(envelope, EnvelopeStatus.ACTIVE)

    async def announce(self, envelope: StoredEnvelope, action: str) -> None:
        """Send a status callback with any action, without anything having happened."""
        await self._run_steps(envelope, [_Step(action)])

    def repeat_envelope_callback(self, envelope: StoredEnvelope, times: int) -> None:
        """Call `CallbackUrl` again, `times` times at once; nothing waits for it. Raises ValueError if there
        is none."""
        if envelope.callbacks.envelope is None:
            raise ValueError(f"The envelope {envelope.id} has no CallbackUrl.")
        for _ in range(times):
            self._background.start(self._call_in_background(self._envelope_callback(envelope)))

    def trigger_again(self, envelope: StoredEnvelope) -> None:
        """Take a callback that was given up from the errors view and try it again, as often as before."""
        gave_up = next((each for each in reversed(envelope.history) if each.in_error), None)
        if gave_up is None:
            raise ValueError(f"No callback of the envelope {envelope.id} was given up.")
        gave_up.in_error, gave_up.completed, gave_up.completed_at = False, True, self._store.now()
        status = envelope.ending_as or envelope.status
        self._background.start(self._finish(envelope, [], status, calls_back=True))

    # In the background

    async def _run_steps(self, envelope: StoredEnvelope, steps: Sequence[_Step]) -> None:
        """Take the steps: at once where nobody is called, else beside the caller."""
        if envelope.callbacks.status or envelope.callbacks.workstep:
            self._background.start(self._apply_steps(envelope, steps))
        else:
            await self._apply_steps(envelope, steps)

    async def _end(
        self, envelope: StoredEnvelope, steps: Sequence[_Step], status: EnvelopeStatus, *, calls_back: bool
    ) -> None:
        envelope.ending_as = status
        urls, lag = envelope.callbacks, self._callback_client.behaviour().final_state_lag
        finish = self._finish(envelope, steps, status, calls_back=calls_back)
        if urls.status or urls.workstep or urls.envelope or lag:
            self._background.start(finish)
        else:
            await finish

    async def _finish(
        self, envelope: StoredEnvelope, steps: Sequence[_Step], status: EnvelopeStatus, *, calls_back: bool
    ) -> None:
        await self._apply_steps(envelope, steps)
        behaviour = self._callback_client.behaviour()
        if behaviour.final_during_callback:
            self._set_final_status(envelope, status)
        if calls_back and envelope.callbacks.envelope:
            is_accepted = await self._callback_client.call_until_accepted(self._envelope_callback(envelope))
            if not is_accepted:
                return  # never sent, unless it is triggered again from the errors view
        await asyncio.sleep(behaviour.final_state_lag)
        self._set_final_status(envelope, status)

    def _set_final_status(self, envelope: StoredEnvelope, status: EnvelopeStatus) -> None:
        """The final state, unless the envelope was cancelled or deleted meanwhile, or has it already."""
        if envelope.status is EnvelopeStatus.ACTIVE and not envelope.deleted_at:
            self._store.set_status(envelope, status)

    async def _apply_steps(self, envelope: StoredEnvelope, steps: Sequence[_Step]) -> None:
        for step in steps:
            if step.activity and step.event_type:
                await self._call_workstep_url(envelope, step.activity, step.event_type)
            if step.activity and step.outcome:
                step.activity.status = step.outcome
                step.activity.status_reason = step.reason
                step.activity.finished_at = self._store.now()
            if step.activity is None or step.activity.is_interactive:
                kind = step.action[0].upper() + step.action[1:]
                envelope.history.append(self._store.event(kind, step.activity))
                await self._call_status_url(envelope, step.action)

    async def _after_send(self, envelope: StoredEnvelope) -> None:
        if url := envelope.callbacks.after_send:
            values = envelope_values(envelope, "envelopeSent")
            await self._call_url(
                envelope, CallbackKind.AFTER_SEND, "envelopeSent", expand_placeholders(url, values)
            )
        await self._call_status_url(envelope, "sendSignNotification")

    async def _call_status_url(self, envelope: StoredEnvelope, action: str) -> None:
        if url := envelope.callbacks.status:
            await self._call_url(
                envelope,
                CallbackKind.STATUS,
                action,
                expand_placeholders(url, envelope_values(envelope, action)),
            )

    async def _call_workstep_url(
        self, envelope: StoredEnvelope, activity: EnvelopeActivity, event_type: str
    ) -> None:
        url = envelope.callbacks.workstep
        if url and event_type in envelope.callbacks.workstep_events:
            values = workstep_values(envelope, activity, event_type, self._store.now())
            await self._call_url(
                envelope, CallbackKind.WORKSTEP, event_type, expand_placeholders(url, values)
            )

    async def _call_url(self, envelope: StoredEnvelope, kind: CallbackKind, action: str, url: str) -> None:
        """Try once; retry in the background, without a wait for the result."""
        pending = self._new_callback(envelope, kind, action, url)
        if not await self._callback_client.attempt(pending):
            self._background.start(self._call_in_background(pending))

    async def _call_in_background(self, pending: PendingCallback) -> None:
        await self._callback_client.call_until_accepted(pending)

    def _envelope_callback(self, envelope: StoredEnvelope) -> PendingCallback:
        action = "envelopeFinished"
        url = expand_placeholders(envelope.callbacks.envelope or "", envelope_values(envelope, action))
        return self._new_callback(envelope, CallbackKind.ENVELOPE, action, url)

    def _new_callback(
        self, envelope: StoredEnvelope, kind: CallbackKind, action: str, url: str
    ) -> PendingCallback:
        event = self._store.event(f"{kind}Callback")
        event.completed, event.completed_at, event.attempt = False, None, 0
        envelope.history.append(event)
        return PendingCallback(envelope, kind, action, url, event)


def _active(envelope: StoredEnvelope) -> StoredEnvelope:
    if envelope.status is not EnvelopeStatus.ACTIVE or envelope.ending_as or envelope.deleted_at:
        raise ValueError(f"The envelope {envelope.id} is not Active any more.")
    return envelope


def _remaining_signatures(envelope: StoredEnvelope) -> list[_Step]:
    waiting = [each for each in _active(envelope).activities if each.status is ActivityStatus.PENDING]
    return [_signed(each) for each in waiting]


def _next_activity(envelope: StoredEnvelope) -> EnvelopeActivity:
    for activity in envelope.activities:
        if activity.is_interactive and activity.status is ActivityStatus.PENDING:
            return activity
    raise ValueError(f"Nobody has anything left to do with the envelope {envelope.id}.")


def _signed(activity: EnvelopeActivity) -> _Step:
    return _Step("workstepFinished", activity, ActivityStatus.COMPLETED, "WorkstepFinished")
