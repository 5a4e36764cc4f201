"""The requests on an EnvelopeEvent: ``retry`` and ``skip``, also on finished events."""

from dataclasses import dataclass
from functools import partial

import msgspec

from controller.requests.request_table import RequestResult, RequestType
from counterfoil.clock import Clock
from counterfoil.readiness import with_readiness
from counterfoil.resources import EnvelopeEvent, EnvelopeEventStatus, Phase
from counterfoil.resources.reopening import reopened_status
from counterfoil.resources.request import Request, RequestOutcome


@dataclass(frozen=True)
class EventRequests:
    """Carries out requests on events. Called while no worker processes the envelope."""

    clock: Clock

    @property
    def types(self) -> dict[str, RequestType]:
        """The rows of the table."""
        return {
            "retry": RequestType("RetryRequested", self.retry),
            "skip": RequestType("SkippedByRequest", self.skip),
        }

    async def retry(self, event: EnvelopeEvent, request: Request) -> RequestResult:
        """Try again now, from each phase but Succeeded."""
        if event.status.phase is Phase.SUCCEEDED:
            return _nothing_to_do(event)
        change = partial(
            reopened_status,
            reason="RetryRequested",
            message="A person asked to try again.",
            now=self.clock.now(),
        )
        message = f"The event was {event.status.phase}; it is tried again."
        return RequestResult(RequestOutcome.DONE, message, change)

    async def skip(self, event: EnvelopeEvent, request: Request) -> RequestResult:
        """Give the event up on purpose."""
        if event.status.phase in (Phase.SUCCEEDED, Phase.SKIPPED):
            return _nothing_to_do(event)
        change = partial(self._skipped_status, generation=event.metadata.generation)
        return RequestResult(
            RequestOutcome.DONE, f"The event was {event.status.phase}; it is given up.", change
        )

    def _skipped_status(self, status: EnvelopeEventStatus, *, generation: int) -> EnvelopeEventStatus:
        now, reason = self.clock.now(), "SkippedByRequest"
        message = "A person gave this event up; the envelope stays in eSignAnyWhere."
        conditions = with_readiness(
            status.conditions, "True", reason, message, now=now, generation=generation
        )
        return msgspec.structs.replace(
            status,
            phase=Phase.SKIPPED,
            reason=reason,
            message=message,
            conditions=conditions,
            next_attempt_time=None,
            completion_time=now,
        )


def _nothing_to_do(event: EnvelopeEvent) -> RequestResult:
    message = f"Nothing was left to do: the event is {event.status.phase}."
    return RequestResult(RequestOutcome.NOTHING_TO_DO, message)
