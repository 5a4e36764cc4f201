"""The pauses of a test that waits for what another process does, which gives no event to wait for."""

from collections.abc import Iterator

FIRST_SECONDS = 0.05
LONGEST_SECONDS = 0.3
GROWTH = 1.15
BROWSER_STEP_MILLISECONDS = 60_000
"""Time that a step in a browser may take on a busy machine."""


def pauses() -> Iterator[float]:
    """
    Return the seconds between two questions, without end.

    A question to the API server takes 6 ms of CPU in three processes. Six processes of tests that each ask
    twenty times per second would need two thirds of a core.
    """
    pause = FIRST_SECONDS
    while True:
        yield pause
        pause = min(pause * GROWTH, LONGEST_SECONDS)
