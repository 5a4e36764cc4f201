"""
The life of an envelope: sent, opened, signed step by step, held back until the receiver accepted it, final.

Each step calls back in eSAW's order: the workstep event before eSAW's own data change, the status callback after that but
before the final state, and `CallbackUrl` last. Only `CallbackUrl` holds the envelope back; a status callback that fails is
repeated beside the way. All of this runs in the background, owned and ended by Background.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sandbox.esaw.callbacks import CallbackKind, Caller, Delivery, envelope_values, expand, workstep_values
from sandbox.esaw.errors import EsawError, Refusal
from sandbox.esaw.estate import Estate
from sandbox.esaw.model import (
    Activity,
    ActivityStatus,
    Document,
    Draft,
    Envelope,
    EnvelopeOrder,
    EnvelopeStatus,
)


class Background:
    """Owns the tasks that go on after an answer was given."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin it; it ends by itself, or with `close`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._drop_if_well)

    async def settled(self) -> None:
        """Wait until nothing is under way. Raises what went wrong in it."""
        while self._tasks:
            task = next(iter(self._tasks))
            await asyncio.wait({task})
            self._tasks.discard(task)
            task.result()

    async def close(self) -> None:
        """Give up what is still under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def _drop_if_well(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._tasks.discard(task)


@dataclass(frozen=True, slots=True)
class _Step:
    """One thing that happens to one activity (or, without one, to the envelope), and the status callback that tells it."""

    action: str
    activity: Activity | None = None
    outcome: ActivityStatus | None = None
    event_type: str | None = None
    reason: str | None = None


class Lifecycle:
    """Moves envelopes on, and calls back."""

    def __init__(self, estate: Estate, caller: Caller, background: Background) -> None:
        self._estate = estate
        self._caller = caller
        self._background = background

    def send(self, draft: Draft, papers: Sequence[Document]) -> Envelope:
        """Send a draft: an Active envelope, its first signer notified."""
        order = EnvelopeOrder(
            name=draft.name,
            status=EnvelopeStatus.ACTIVE,
            recipients=draft.recipients,
            metadata=draft.metadata,
            callbacks=draft.callbacks,
            share_with_team=draft.share_with_team,
        )
        keeps_id = self._caller.behaviour().draft_id_becomes_envelope_id
        envelope = self._estate.add_envelope(
            draft.owner, order, papers=papers, envelope_id=draft.id if keeps_id else None
        )
        envelope.expires_at = draft.expires_at or envelope.expires_at
        self._background.start(self._after_send(envelope))
        return envelope

    async def open_workstep(self, envelope: Envelope) -> None:
        """The next signer opens the documents."""
        activity = _next_activity(_active(envelope))
        activity.opened_at = self._estate.now()
        await self._go(envelope, [_Step("workstepOpened", activity, event_type="CalledPage")])

    async def finish_workstep(self, envelope: Envelope) -> None:
        """The next signer signs. The envelope stays Active, also after the last one: `complete` ends it."""
        activity = _next_activity(_active(envelope))
        await self._go(envelope, [_signed(activity)])

    async def complete(self, envelope: Envelope) -> None:
        """All who have not signed yet do, and the envelope is finished."""
        waiting = [each for each in _active(envelope).activities if each.status is ActivityStatus.PENDING]
        steps = [_signed(each) for each in waiting]
        await self._end(envelope, steps, EnvelopeStatus.COMPLETED, calls_back=True)

    async def reject(self, envelope: Envelope, reason: str) -> None:
        """The next signer rejects, and so the envelope is finished."""
        activity = _next_activity(_active(envelope))
        step = _Step("workstepRejected", activity, ActivityStatus.REJECTED, "WorkstepRejected", reason)
        await self._end(envelope, [step], EnvelopeStatus.REJECTED, calls_back=True)

    async def expire(self, envelope: Envelope) -> None:
        """Nobody signed in time."""
        envelope = _active(envelope)
        envelope.expires_at = self._estate.now()
        calls_back = self._caller.behaviour().callback_on_expiry
        await self._end(envelope, [_Step("envelopeExpired")], EnvelopeStatus.EXPIRED, calls_back=calls_back)

    def cancel(self, envelope: Envelope) -> None:
        """The sender takes it back. Raises EsawError unless it is Active."""
        if envelope.status is not EnvelopeStatus.ACTIVE:
            raise EsawError(Refusal.NOT_IN_THIS_STATE)
        self._estate.settle(envelope, EnvelopeStatus.CANCELED)
        if self._caller.behaviour().callback_on_cancel and envelope.callbacks.envelope:
            self._background.start(self._deliver_beside(self._envelope_callback(envelope)))

    def restart(self, envelope: Envelope, expires_at: datetime) -> None:
        """An Expired envelope goes on where it was. Raises EsawError for any other."""
        if envelope.status is not EnvelopeStatus.EXPIRED:
            raise EsawError(Refusal.NOT_IN_THIS_STATE)
        envelope.expires_at = expires_at
        self._estate.settle(envelope, EnvelopeStatus.ACTIVE)

    async def announce(self, envelope: Envelope, action: str) -> None:
        """Send a status callback with any action, without anything having happened."""
        await self._go(envelope, [_Step(action)])

    def repeat_envelope_callback(self, envelope: Envelope, times: int) -> None:
        """Call `CallbackUrl` again, so often, all at once; nothing waits for it. Raises ValueError if there is none."""
        if envelope.callbacks.envelope is None:
            raise ValueError(f"The envelope {envelope.id} has no CallbackUrl.")
        for _ in range(times):
            self._background.start(self._deliver_beside(self._envelope_callback(envelope)))

    def trigger_again(self, envelope: Envelope) -> None:
        """Take a callback that was given up from the errors view and try it again, 30 times more."""
        gave_up = next((each for each in reversed(envelope.history) if each.in_error), None)
        if gave_up is None:
            raise ValueError(f"No callback of the envelope {envelope.id} was given up.")
        gave_up.in_error = False
        status = envelope.ending_as or envelope.status
        self._background.start(self._finish(envelope, [], status, calls_back=True))

    # In the background

    async def _go(self, envelope: Envelope, steps: Sequence[_Step]) -> None:
        """Take the steps: at once where nobody is called, else beside the caller."""
        if envelope.callbacks.status or envelope.callbacks.workstep:
            self._background.start(self._take(envelope, steps))
        else:
            await self._take(envelope, steps)

    async def _end(
        self, envelope: Envelope, steps: Sequence[_Step], status: EnvelopeStatus, *, calls_back: bool
    ) -> None:
        envelope.ending_as = status
        urls, lag = envelope.callbacks, self._caller.behaviour().final_state_lag
        finish = self._finish(envelope, steps, status, calls_back=calls_back)
        if urls.status or urls.workstep or urls.envelope or lag:
            self._background.start(finish)
        else:
            await finish

    async def _finish(
        self, envelope: Envelope, steps: Sequence[_Step], status: EnvelopeStatus, *, calls_back: bool
    ) -> None:
        await self._take(envelope, steps)
        behaviour = self._caller.behaviour()
        if behaviour.final_during_callback:
            self._settle(envelope, status)
        if calls_back and envelope.callbacks.envelope:
            is_accepted = await self._caller.deliver(self._envelope_callback(envelope))
            if not is_accepted:
                return  # held back for ever, unless it is triggered again from the errors view
        await asyncio.sleep(behaviour.final_state_lag)
        self._settle(envelope, status)

    def _settle(self, envelope: Envelope, status: EnvelopeStatus) -> None:
        """The final state, unless the envelope was cancelled or deleted meanwhile, or has it already."""
        if envelope.status is EnvelopeStatus.ACTIVE and not envelope.deleted_at:
            self._estate.settle(envelope, status)

    async def _take(self, envelope: Envelope, steps: Sequence[_Step]) -> None:
        for step in steps:
            if step.activity and step.event_type:
                await self._tell_workstep(envelope, step.activity, step.event_type)
            if step.activity and step.outcome:
                step.activity.status = step.outcome
                step.activity.status_reason = step.reason
                step.activity.finished_at = self._estate.now()
            if step.activity is None or step.activity.is_interactive:
                kind = step.action[0].upper() + step.action[1:]
                envelope.history.append(self._estate.event(kind, step.activity))
                await self._tell_status(envelope, step.action)

    async def _after_send(self, envelope: Envelope) -> None:
        if url := envelope.callbacks.after_send:
            values = envelope_values(envelope, "envelopeSent")
            await self._tell(envelope, CallbackKind.AFTER_SEND, "envelopeSent", expand(url, values))
        await self._tell_status(envelope, "sendSignNotification")

    async def _tell_status(self, envelope: Envelope, action: str) -> None:
        if url := envelope.callbacks.status:
            await self._tell(
                envelope, CallbackKind.STATUS, action, expand(url, envelope_values(envelope, action))
            )

    async def _tell_workstep(self, envelope: Envelope, activity: Activity, event_type: str) -> None:
        url = envelope.callbacks.workstep
        if url and event_type in envelope.callbacks.workstep_events:
            values = workstep_values(envelope, activity, event_type, self._estate.now())
            await self._tell(envelope, CallbackKind.WORKSTEP, event_type, expand(url, values))

    async def _tell(self, envelope: Envelope, kind: CallbackKind, action: str, url: str) -> None:
        """Try once; go on trying beside the way, which does not wait."""
        delivery = self._delivery(envelope, kind, action, url)
        if not await self._caller.attempt(delivery):
            self._background.start(self._deliver_beside(delivery))

    async def _deliver_beside(self, delivery: Delivery) -> None:
        await self._caller.deliver(delivery)

    def _envelope_callback(self, envelope: Envelope) -> Delivery:
        action = "envelopeFinished"
        url = expand(envelope.callbacks.envelope or "", envelope_values(envelope, action))
        return self._delivery(envelope, CallbackKind.ENVELOPE, action, url)

    def _delivery(self, envelope: Envelope, kind: CallbackKind, action: str, url: str) -> Delivery:
        event = self._estate.event(f"{kind}Callback")
        event.completed, event.completed_at, event.attempt = False, None, 0
        envelope.history.append(event)
        return Delivery(envelope, kind, action, url, event)


def _active(envelope: Envelope) -> Envelope:
    if envelope.status is not EnvelopeStatus.ACTIVE or envelope.ending_as or envelope.deleted_at:
        raise ValueError(f"The envelope {envelope.id} is not Active any more.")
    return envelope


def _next_activity(envelope: Envelope) -> Activity:
    for activity in envelope.activities:
        if activity.is_interactive and activity.status is ActivityStatus.PENDING:
            return activity
    raise ValueError(f"Nobody has anything left to do with the envelope {envelope.id}.")


def _signed(activity: Activity) -> _Step:
    return _Step("workstepFinished", activity, ActivityStatus.COMPLETED, "WorkstepFinished")
