"""
The clock of the API server, which all controllers, receivers and pages and the times of creation share.

A wait begins by the clock of one controller, and may end by that of another one, or after this one was
corrected. By the API server's clock both are the same, also if the clock of a node is wrong. Each confirmed
response brings the time of the server, in whole seconds. Between two responses a clock counts that is never
set. Before the first response this is the machine's clock.

A control plane may have several API servers, and the clock of one may be wrong. ``lead`` is the difference
between the newest response and the earliest time of the last ten minutes.
"""

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from counterfoil.clock import Clock
from counterfoil.kube.answers import http_date
from counterfoil.kube.client import KubeClient

_RESOLUTION: Final = timedelta(seconds=1)
"""Resolution of the header ``Date``, which is never later than the response."""

WINDOW_SECONDS: Final = 600.0
"""Minimum time for which a response counts for ``lead``; at most twice as long."""

_TOLERANCE: Final = timedelta(seconds=5)
"""Difference that counts as none: times are in whole seconds, and clocks are corrected by small steps."""

_log = logging.getLogger(__name__)

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

    _earliest: tuple[datetime, datetime] | None = field(default=None, init=False)
    """The earliest zero of the last full window and of the present one; None before the first response."""
    _window_start: float = field(default=0.0, init=False)
    _is_reported: bool = field(default=False, init=False)
    """Whether a difference was logged in the present window."""

    def __post_init__(self) -> None:
        self._zero = self.machine.now() - timedelta(seconds=self.machine.monotonic())

    def now(self) -> datetime:
        """Return the current time, timezone-aware, in UTC."""
        self._consider_newest()
        return self._zero + timedelta(seconds=self.machine.monotonic())

    def lead(self) -> timedelta:
        """Return by how much the newest response is ahead of the earliest one of the last ten minutes."""
        self._consider_newest()
        lead = self._zero - min(self._earliest) if self._earliest is not None else timedelta(0)
        return lead if lead > _TOLERANCE else timedelta(0)

    def _consider_newest(self) -> None:
        if self._seen != self.kube.server_date_between:
            self._consider(*self.kube.server_date_between)

    def _consider(self, sent: float, received: float) -> None:
        """Change the time as little as possible, so that the request was sent before the end of the second in
        its response, and the response came after the begin of that second."""
        self._seen = (sent, received)
        date = http_date(self.kube.server_date)
        if date is not None and date.year in _PLAUSIBLE_YEARS:
            earliest, latest = date - timedelta(seconds=received), date - timedelta(seconds=sent)
            self._zero = min(max(self._zero, earliest), latest + _RESOLUTION)
            self._remember(received)

    def _remember(self, received: float) -> None:
        """Remember the time by a response as one that a server has."""
        windows = (received - self._window_start) // WINDOW_SECONDS
        if self._earliest is None or windows >= 2:
            self._earliest = (self._zero, self._zero)
        else:
            last, present = self._earliest
            self._earliest = (present, self._zero) if windows else (last, min(present, self._zero))
        if windows:
            self._window_start, self._is_reported = received, False
        lead = self._zero - min(self._earliest)
        if lead > _TOLERANCE and not self._is_reported:
            self._is_reported = True
            message = (
                "the API server's time was %s earlier within the last minutes: the clocks of several servers "
                "differ, or it was set. Waits before a delete last longer"
            )
            _log.warning(message, timedelta(seconds=round(lead.total_seconds())))

    def monotonic(self) -> float:
        """Return the seconds of a clock that is never set; only differences have a meaning."""
        return self.machine.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Pause the calling task for ``seconds``; zero or less does not pause."""
        await self.machine.sleep(seconds)
