"""
Whether an organization may have one more event. Pure: the caller passes the time.

The controller counts unfinished events and events of unknown envelopes, and publishes both in the
Organization's status. Between two counts a receiver, and the sweep, add the events that they create. So one
organization fills neither etcd nor the quota that all share. Above a ceiling eSAW gets 503, and repeats the
callback; the sweep stops, and continues later.
"""

from datetime import datetime, timedelta

from counterfoil.resources.organization import EventLoad, OrganizationLimits

CLOCK_DIFFERENCE = timedelta(seconds=5)
"""Maximum difference between the clocks of receiver and controller: events this much older than a count are
added to it all the same."""


class EventCeiling:
    """The room of one organization, as this process knows it."""

    def __init__(self) -> None:
        self._limits = OrganizationLimits()
        self._load: EventLoad | None = None
        self._created: dict[datetime, int] = {}
        """Events that this process created since the count, by second."""
        self._sum = 0

    @property
    def remembered(self) -> int:
        """Number of seconds about which something is kept in memory."""
        return len(self._created)

    def update(self, limits: OrganizationLimits, load: EventLoad | None) -> None:
        """Follow the Organization."""
        self._limits, self._load = limits, load
        if load is not None:
            for second in [each for each in self._created if each < load.count_time - CLOCK_DIFFERENCE]:
                self._sum -= self._created.pop(second)

    def uncounted_seconds(self, now: datetime) -> float:
        """Return the age in seconds of the oldest event of this receiver that the controller's count does not
        include yet; 0 without one."""
        return max(0.0, (now - min(self._created, default=now)).total_seconds())

    def reserve(self, now: datetime) -> bool:
        """Reserve room for an event that will be created now; False if there is none."""
        unfinished = self._load.unfinished_events if self._load is not None else 0
        unknown = self._load.unknown_envelopes if self._load is not None else 0
        if unknown >= self._limits.unknown_envelopes:
            return False
        if unfinished + self._sum >= self._limits.unfinished_events:
            return False
        second = now.replace(microsecond=0)
        self._created[second] = self._created.get(second, 0) + 1
        self._sum += 1
        return True

    def release(self, reserved: datetime) -> None:
        """Return the room that was reserved at this time: no event is known to have been created."""
        second = reserved.replace(microsecond=0)
        count = self._created.pop(second, 0)
        if count:
            self._sum -= 1
        if count > 1:
            self._created[second] = count - 1
