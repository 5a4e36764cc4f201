"""The heartbeat of the watches of a namespace: the time of the last data of each, a change or a bookmark."""

from collections.abc import Iterable, Mapping
from datetime import timedelta

from counterfoil.clock import Clock


class WatchHeartbeat:
    """Records the last data of each watch."""

    def __init__(self, clock: Clock, plurals: Iterable[str]) -> None:
        self._clock = clock
        self._last_data_at: dict[str, float] = dict.fromkeys(plurals, clock.monotonic())
        self.has_begun = False
        """Whether the watches began."""

    def restart(self) -> None:
        """The watches begin now: before, no data could arrive."""
        self.has_begun = True
        self._last_data_at = dict.fromkeys(self._last_data_at, self._clock.monotonic())

    def record(self, plural: str) -> None:
        """Data arrived by the watch of this kind."""
        self._last_data_at[plural] = self._clock.monotonic()

    def idle_times(self) -> Mapping[str, timedelta]:
        """Return the time since the last data of each kind; since the start for a kind without data."""
        now = self._clock.monotonic()
        return {plural: timedelta(seconds=now - at) for plural, at in self._last_data_at.items()}
