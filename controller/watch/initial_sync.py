"""
The initial sync: read the Organizations, Senders and Archives before the first event, however long an outage
lasts.

A controller that starts during an outage waits for its end, alive and not ready, instead of exiting: a
kubelet restarts after pauses that grow to five minutes. A missing CustomResourceDefinition or right can also
be fixed without a restart.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from counterfoil.clock import Clock
from counterfoil.kube.errors import ApiError, NotFound
from counterfoil.kube.watch import exponential_backoff

_log = logging.getLogger(__name__)


@dataclass
class InitialSync:
    """Repeats ``read_all``, which may raise ``ApiError``, until it succeeds."""

    read_all: Callable[[], Awaitable[None]]
    clock: Clock
    _pending_reason: str | None = "the resources have not been read yet"

    async def run(self) -> None:
        """Return when all resources were read; retry until then."""
        failures = 0
        while self._pending_reason is not None:
            try:
                await self.read_all()
            except ApiError as problem:
                self._pending_reason = _describe(problem)
                _log.warning("the controller can't start yet: %s", self._pending_reason)
                await self.clock.sleep(exponential_backoff(failures))
                failures += 1
            else:
                self._pending_reason = None

    async def check(self) -> str | None:
        """Return why the sync is not complete, or None; for readiness."""
        return self._pending_reason


def _describe(problem: ApiError) -> str:
    if isinstance(problem, NotFound):
        return f"{problem}. Are the CustomResourceDefinitions installed?"
    return str(problem)
