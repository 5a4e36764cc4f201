"""
Whether an organization may have one more event.

The controller counts unfinished events and events of unknown envelopes, and publishes both in the
Organization's status. Between two counts a receiver, and the sweep, add the events that they create. So one
organization fills neither etcd nor the quota that all share. Above a ceiling eSAW gets 503, and repeats the
callback; the sweep stops, and continues later.

What this process created is remembered by the clock that is never set. Otherwise no count would include the
events that were created while the wall clock was ahead. The wall clocks of receiver and controller only tell
whether a count includes an event already when it arrives. If they differ, the next count decides: it was made
after the one before it had arrived here.
"""

import math

from counterfoil.clock import Clock
from counterfoil.resources.organization import EventLoad, OrganizationLimits

CLOCK_DIFFERENCE_SECONDS = 5.0
"""Maximum difference between the clocks of receiver and controller: events this much older than a count are
added to it all the same."""


class EventCeiling:
    """The room of one organization, as this process knows it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limits = OrganizationLimits()
        self._load: EventLoad | None = None
        self._load_arrived = 0.0
        """Monotonic time at which this count arrived. It was made before."""
        self._previous_arrived = -math.inf
        """Monotonic time at which the count before this one arrived. This count was made afterwards, unless
        the watch lags: then the ceiling is exceeded by the events of the lag, until the next count."""
        self._created: dict[int, int] = {}
        """Events that this process created since the count, by monotonic second, the oldest first."""
        self._sum = 0

    @property
    def remembered(self) -> int:
        """Number of seconds about which something is kept in memory."""
        return len(self._created)

    def update(self, limits: OrganizationLimits, load: EventLoad | None) -> None:
        """Follow the Organization."""
        self._limits = limits
        if load != self._load:
            if self._load is not None:
                self._previous_arrived = self._load_arrived
            self._load, self._load_arrived = load, self._clock.monotonic()
        self._drop_counted()

    def uncounted_seconds(self) -> float:
        """Return the age in seconds of the oldest event of this receiver that the controller's count does not
        include yet; 0 without one."""
        self._drop_counted()
        now = self._clock.monotonic()
        return now - next(iter(self._created), now)

    def reserve(self) -> int | None:
        """Reserve room for an event that will be created now; return what ``release`` needs, None if there is
        none."""
        self._drop_counted()
        unfinished = self._load.unfinished_events if self._load is not None else 0
        unknown = self._load.unknown_envelopes if self._load is not None else 0
        if unknown >= self._limits.unknown_envelopes:
            return None
        if unfinished + self._sum >= self._limits.unfinished_events:
            return None
        second = int(self._clock.monotonic())
        self._created[second] = self._created.get(second, 0) + 1
        self._sum += 1
        return second

    def release(self, reserved: int) -> None:
        """Return room that was reserved: no event is known to have been created."""
        if reserved not in self._created:
            return
        self._sum -= 1
        self._created[reserved] -= 1
        if not self._created[reserved]:
            del self._created[reserved]

    def _drop_counted(self) -> None:
        """Drop what the newest count includes. That can depend on the present wall clock, which may be
        corrected after the count arrived."""
        if self._load is None:
            return
        age = (self._clock.now() - self._load.count_time).total_seconds()
        by_clock = min(self._clock.monotonic() - age, self._load_arrived)
        counted = max(by_clock, self._previous_arrived) - CLOCK_DIFFERENCE_SECONDS
        while (oldest := next(iter(self._created), None)) is not None and oldest < counted:
            self._sum -= self._created.pop(oldest)
