"""
The beginning: read what events are judged by, before the first of them is seen, however long the API server is away.

A controller that starts during an outage waits for its end, alive and not ready, instead of ending: a kubelet would
start it again after pauses that grow to five minutes, and a missing CustomResourceDefinition or right is mended without
a restart as well.
"""

import logging
from collections.abc import Awaitable, Callable

from counterfoil.clock import Clock
from counterfoil.kube.errors import ApiError, NotFound
from counterfoil.kube.watch import exponential_backoff

_log = logging.getLogger(__name__)


class InitialSync:
    """Knows whether everything was read. ``read_all`` reads it once, from the start; raises ``ApiError``."""

    def __init__(self, read_all: Callable[[], Awaitable[None]], clock: Clock) -> None:
        self._read_all = read_all
        self._clock = clock
        self._pending_reason: str | None = "what there is has not been read yet"

    async def run(self) -> None:
        """Return when everything was read; tries again for as long as that takes."""
        failures = 0
        while self._pending_reason is not None:
            try:
                await self._read_all()
            except ApiError as problem:
                self._pending_reason = _describe(problem)
                _log.warning("the controller can't begin yet: %s", self._pending_reason)
                await self._clock.sleep(exponential_backoff(failures))
                failures += 1
            else:
                self._pending_reason = None

    async def check(self) -> str | None:
        """Say why it has not begun, or None; for readiness."""
        return self._pending_reason


def _describe(problem: ApiError) -> str:
    if isinstance(problem, NotFound):
        return f"{problem}. Are the CustomResourceDefinitions installed?"
    return str(problem)
