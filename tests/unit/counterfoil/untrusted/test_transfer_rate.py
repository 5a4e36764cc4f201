"""The minimum rate of a transfer: who is given up, and when."""

import pytest

from counterfoil.untrusted.transfer_rate import KIB, MinimumRate, RateBudget

MINIMUM = MinimumRate(bytes_per_second=16 * KIB, window=45)


def seconds_until_given_up(waits: float, size: int, *, fast_first: int = 0) -> float:
    """Return the seconds until a neighbour is given up that sends ``size`` bytes after each wait."""
    budget, waited = RateBudget(MINIMUM, block=1024 * KIB), 0.0
    budget.add_bytes(fast_first)
    while not budget.is_used_up and waited < 100_000:
        waited += waits
        budget.add_wait(waits)
        budget.add_bytes(size)
    return waited


@pytest.mark.parametrize("fast_first", [0, 10 * 1024**3], ids=["from the start", "after 10 GiB"])
@pytest.mark.parametrize(("waits", "size"), [(59, 1), (1, 1), (10, 100 * KIB)])
def test_a_neighbour_below_the_rate_is_given_up_within_minutes_however_fast_it_was(
    waits: float, size: int, fast_first: int
) -> None:
    assert seconds_until_given_up(waits, size, fast_first=fast_first) <= 300


def test_a_neighbour_that_sends_a_byte_a_minute_is_given_up_within_two_minutes() -> None:
    assert seconds_until_given_up(59, 1) <= 120


@pytest.mark.parametrize(("waits", "size"), [(64, 1024 * KIB), (1, 16 * KIB), (0.1, 100 * KIB)])
def test_a_neighbour_at_the_rate_is_never_given_up(waits: float, size: int) -> None:
    assert seconds_until_given_up(waits, size) >= 100_000
