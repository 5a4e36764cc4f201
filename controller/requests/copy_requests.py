"""The request ``copy`` on an EnvelopeEvent: bring the copies of its archived envelope up to date."""

from dataclasses import dataclass
from datetime import datetime
from functools import partial

from controller.cache import Cache
from controller.requests.request_table import RequestResult, RequestType
from controller.scheduling.due import are_copies_held
from counterfoil.archives.proof import missing_copies
from counterfoil.clock import Clock
from counterfoil.resources import EnvelopeEvent, EnvelopeEventStatus, Phase
from counterfoil.resources.reopening import (
    COPY_REQUESTED,
    status_for_copying,
    takes_copies,
    why_no_copies,
)
from counterfoil.resources.request import Request, RequestOutcome


@dataclass(frozen=True)
class CopyRequests:
    """Lets events make their copies. Called while no worker processes the envelope."""

    cache: Cache
    clock: Clock

    @property
    def types(self) -> dict[str, RequestType]:
        """The rows of the table."""
        return {"copy": RequestType(COPY_REQUESTED, self.copy)}

    async def copy(self, event: EnvelopeEvent, request: Request) -> RequestResult:
        """Make the copies that the event's status does not prove, from the first archive; eSAW is not
        asked."""
        organization, status = self.cache.organizations.get(event.organization), event.status
        if organization is None or not organization.spec.copies:
            message = f"Organization/{event.organization} has no spec.copies, so nothing is copied."
            return RequestResult(RequestOutcome.REFUSED, message)
        if not takes_copies(status):
            return RequestResult(RequestOutcome.REFUSED, why_no_copies(status))
        missing = missing_copies(status, organization.spec.copies)
        if status.phase is not Phase.COPYING and not missing:
            return RequestResult(RequestOutcome.NOTHING_TO_DO, "Nothing was left to do: each copy is proved.")
        change = partial(_copying_status, now=self.clock.now())
        message = "The copies that are missing are made now."
        are_suspended = bool(missing) and all(map(self.cache.is_archive_suspended, missing))
        if are_suspended or are_copies_held(event, organization.spec, self.cache):
            message = "The copies that are missing are made once no suspension and no action holds them."
        return RequestResult(RequestOutcome.DONE, message, change)


def _copying_status(status: EnvelopeEventStatus, *, now: datetime) -> EnvelopeEventStatus:
    # The newest status: the event may have ended otherwise meanwhile.
    if not takes_copies(status):
        return status
    message = "A person asked for the copies."
    return status_for_copying(status, reason=COPY_REQUESTED, message=message, now=now)
