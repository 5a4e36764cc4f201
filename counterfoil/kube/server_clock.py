"""
The clock of the API server, which all controllers, receivers and pages and the times of creation share.

A wait begins by the clock of one controller, and may end by that of another one, or after this one was
corrected. By the API server's clock both are the same, also if the clock of a node is wrong. Each confirmed
response brings the time of the server, in whole seconds. Between two responses a clock counts that is never
set. Before the first response this is the machine's clock.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from counterfoil.clock import Clock
from counterfoil.kube.answers import http_date
from counterfoil.kube.client import KubeClient

_RESOLUTION: Final = timedelta(seconds=1)
"""Resolution of the header ``Date``, which is never later than the response."""

_PLAUSIBLE_YEARS: Final = range(2024, 3000)
"""Another year, such as that of an empty time, is no time of the API server's clock."""


@dataclass
class ServerClock:
    """A ``Clock`` whose time is that of the API server."""

    machine: Clock
    kube: KubeClient
    _zero: datetime = field(init=False)
    """The time at which the clock that is never set was zero."""
    _seen: tuple[float, float] = field(default=(0.0, 0.0), init=False)
    """``server_date_between`` of the last response that was considered."""

    def __post_init__(self) -> None:
        self._zero = self.machine.now() - timedelta(seconds=self.machine.monotonic())

    def now(self) -> datetime:
        """Return the current time, timezone-aware, in UTC."""
        if self._seen != self.kube.server_date_between:
            self._consider(*self.kube.server_date_between)
        return self._zero + timedelta(seconds=self.machine.monotonic())

    def _consider(self, sent: float, received: float) -> None:
        """Change the time as little as possible, so that the request was sent before the end of the second in
        its response, and the response came after the begin of that second."""
        self._seen = (sent, received)
        date = http_date(self.kube.server_date)
        if date is not None and date.year in _PLAUSIBLE_YEARS:
            earliest, latest = date - timedelta(seconds=received), date - timedelta(seconds=sent)
            self._zero = min(max(self._zero, earliest), latest + _RESOLUTION)

    def monotonic(self) -> float:
        """Return the seconds of a clock that is never set; only differences have a meaning."""
        return self.machine.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Pause the calling task for ``seconds``; zero or less does not pause."""
        await self.machine.sleep(seconds)
