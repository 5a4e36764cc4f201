"""
Lists and watches: the changes that ``KubeClient.list_and_watch`` yields, and how a watch continues after
errors.

A caller that needs the current state of a kind uses ``list_and_watch_forever``. It lists and watches again
after each ``ApiError``, and it waits longer after each failure.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Literal, NamedTuple, Protocol

from counterfoil.kube.errors import ApiError
from counterfoil.resources import Resource

Raw = dict[str, Any]
"""An object of the API server, as its JSON."""

WATCH_IDLE_TIMEOUT_SECONDS = 75.0
"""Timeout for the next event of a watch. The API server sends a bookmark about every 60 s. When a load
balancer drops the connection silently, only this timeout detects it (kopf issues 204 and 698)."""

WATCH_RESTART_INTERVAL_SECONDS = 0.2
"""Pause between two requests of one watch. No change is missed: the next request continues from the last
version. Without the pause, a proxy that ends each watch at once would receive thousands of requests."""


class WatchEvent(NamedTuple):
    """
    One change that a list or a watch reported.

    ``SYNCED`` follows each full list. Its ``raw`` is empty; ``names`` has the names of all existing objects,
    so that the receiver can remove objects that were deleted while no watch was open.
    """

    type: Literal["ADDED", "MODIFIED", "DELETED", "SYNCED", "BOOKMARK"]
    raw: Raw
    names: frozenset[str] = frozenset()


SECOND_LIST_DELAY_SECONDS = 1.0
"""Pause before a first list that can wait. An API server looks at all objects of a kind for a list of few of
them, so the list on which the work waits must be the first one."""


class Watchable(Protocol):
    """The part of ``KubeClient`` that ``list_and_watch_forever`` needs. Tests implement it as well."""

    def list_and_watch(
        self, kind: type[Resource], *, labels: str = "", fields: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield all objects, then ``SYNCED``, then each change. Ends by raising an ``ApiError``."""
        ...


MAX_BACKOFF_SECONDS = 10.0
"""Maximum pause before a list or a watch is requested again."""


def exponential_backoff(failures: int) -> float:
    """Return the seconds to wait after consecutive failures: 0.2, doubled each time, at most
    ``MAX_BACKOFF_SECONDS``."""
    return min(0.2 * 2.0 ** min(failures, 6), MAX_BACKOFF_SECONDS)


async def list_and_watch_forever(
    kube: Watchable,
    kind: type[Resource],
    *,
    labels: str = "",
    fields: str = "",
    pause: Callable[[int], float] = exponential_backoff,
    on_error: Callable[[ApiError], None],
) -> AsyncGenerator[WatchEvent, None]:
    """
    List and watch a kind without end: after each ``ApiError`` call ``on_error``, wait, list again.

    Waits grow until a watch yields a change. A list alone does not reset them: if only lists work, each retry
    costs a full list.
    """
    failures = 0
    while True:
        changes = kube.list_and_watch(kind, labels=labels, fields=fields)
        try:
            async with aclosing(changes):
                async for change in changes:
                    # Events of the list do not show that the watch works.
                    if change.type not in ("ADDED", "SYNCED"):
                        failures = 0
                    yield change
        except ApiError as problem:
            on_error(problem)
        await asyncio.sleep(pause(failures))
        failures += 1
