"""The rates of returns from eSAW: who uses up what."""

import pytest

from webhook.pages.limits import PageLimits, ReturnRates

LIMITS = PageLimits()
HOUR = 3600


def accepted(rates: ReturnRates, organization: str, now: float, *, count: int) -> int:
    """Return how many of the returns are accepted whose code eSAW accepts, each from another address."""
    number = 0
    for each in range(count):
        client = f"2001:db8:0:{each:x}::"
        if not rates.take(organization, client, now):
            rates.forgive(organization, client)
            number += 1
    return number


def test_an_esaw_that_accepts_every_code_uses_up_the_returns_of_one_organization_alone() -> None:
    rates = ReturnRates(LIMITS)
    assert accepted(rates, "hostile", 0.0, count=10 * LIMITS.return_burst) == LIMITS.return_burst
    assert accepted(rates, "acme", 0.0, count=LIMITS.return_burst) == LIMITS.return_burst


def test_one_address_of_a_hostile_organization_is_refused_there_alone() -> None:
    rates = ReturnRates(LIMITS)
    failed = [rates.take("hostile", "192.0.2.1", 0.0) for _ in range(LIMITS.failed_return_burst + 1)]
    assert failed[-1] > 0.0
    assert rates.take("acme", "192.0.2.1", 0.0) == 0.0


def test_a_return_that_the_organization_refuses_takes_nothing_of_its_address() -> None:
    rates = ReturnRates(PageLimits(return_burst=1, failed_return_burst=1))
    assert rates.take("acme", "192.0.2.1", 0.0) == 0.0
    assert rates.take("acme", "192.0.2.2", 0.0) > 0.0
    assert rates.take("acme", "192.0.2.2", 1 / LIMITS.return_rate + 0.01) == 0.0


@pytest.mark.parametrize("people", [5_000, 10_000])
def test_a_company_whose_people_all_consent_within_an_hour_is_never_refused(people: int) -> None:
    rates = ReturnRates(LIMITS)
    pause = HOUR / people
    waits = [rates.take("acme", f"2001:db8:0:{each:x}::", each * pause) for each in range(people)]
    assert not any(waits)


def test_the_leases_of_used_states_of_one_organization_leave_most_of_the_quota_to_the_others() -> None:
    rates, quota, replicas = ReturnRates(LIMITS), 30_000, 2
    seconds = round(LIMITS.state_kept_seconds + LIMITS.recovery_seconds)
    leases = sum(accepted(rates, "hostile", float(second), count=700) for second in range(seconds))
    assert replicas * leases < quota / 4
