"""
Count callbacks whose action the organization does not list: at once in a metric, later in the status.

These callbacks are answered 200 and create no event. eSAW does not document all actions, so a person must see
which ones arrive. At most ``MAX_UNLISTED_ACTIONS`` names per organization are kept, since a caller chooses
them; all others are ``other``. ``count`` never waits and never fails. A killed process loses the counts since
the last flush.
"""

import asyncio
import logging
from contextlib import suppress
from functools import partial

from msgspec.structs import replace

from counterfoil.clock import Clock
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import ApiError, NotFound
from counterfoil.kube.status import apply_change
from counterfoil.metrics import Metrics
from counterfoil.resources import Organization, OrganizationStatus, ResourceInvalid
from counterfoil.resources.organization import UnlistedAction, add_unlisted_action

_log = logging.getLogger(__name__)

NO_ACTION = "none"
"""Name of a callback without an action, where the organization archives none."""

Counts = tuple[UnlistedAction, ...]


class UnlistedActionCounter:
    """Counts the unlisted actions of one receiver. ``seconds`` is the interval between two writes."""

    def __init__(self, kube: KubeClient, metrics: Metrics, *, clock: Clock, seconds: float) -> None:
        self._kube = kube
        self._metrics = metrics
        self._clock = clock
        self._seconds = seconds
        self._totals: dict[str, Counts] = {}
        """Counts of each organization since the start; they limit the names in the metric."""
        self._pending: dict[str, Counts] = {}
        self._closing = asyncio.Event()

    def count(self, organization: str, action: str | None) -> None:
        """Count one callback."""
        one = UnlistedAction(action=action or NO_ACTION, count=1, last_time=self._clock.now())
        self._totals[organization], name = add_unlisted_action(self._totals.get(organization, ()), one)
        self._pending[organization], _ = add_unlisted_action(self._pending.get(organization, ()), one)
        self._metrics.unlisted_actions.labels(organization, name).inc()

    async def run(self) -> None:
        """Write the counts, round after round; ends after ``close`` with a last round."""
        while not self._closing.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._closing.wait()
            await self.flush()
        # What was counted while the last round was written, or could not be written by it.
        await self.flush()

    def close(self) -> None:
        """Let ``run`` write what is left and end. Nothing may be counted after this."""
        self._closing.set()

    async def flush(self) -> None:
        """Write what was counted; what can't be written now waits."""
        pending, self._pending = self._pending, {}
        for organization, counts in pending.items():
            try:
                await apply_change(
                    self._kube, Organization, organization, None, partial(_with_counts, counts=counts)
                )
            except NotFound:
                self._totals.pop(organization, None)
            except (ApiError, ResourceInvalid) as problem:
                _log.warning("unlisted actions could not be counted yet: %s", problem)
                self._pending[organization] = _sum(counts, self._pending.get(organization, ()))


def _with_counts(organization: Organization, *, counts: Counts) -> OrganizationStatus:
    status = organization.status
    return replace(status, unlisted_actions=_sum(status.unlisted_actions, counts))


def _sum(known: Counts, counts: Counts) -> Counts:
    for each in counts:
        known, _ = add_unlisted_action(known, each)
    return known
