"""Basic auth of callbacks: which headers are valid, what is remembered, and what a flood costs."""

import asyncio
import base64

import pytest

from tests.support.scenes.receiver_parts import ManualClock, a_basic_auth_hash
from webhook.receiver.basic_auth import BasicAuthVerifier, TooManyAttempts
from webhook.receiver.limits import ReceiverLimits


def a_header(username: str = "esaw", password: str = "geheim") -> str:
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


@pytest.fixture(scope="module")
def expected() -> str:
    return a_basic_auth_hash("esaw", "geheim")


def a_verifier(clock: ManualClock | None = None, **limits: float) -> BasicAuthVerifier:
    monotonic = (clock or ManualClock()).monotonic
    return BasicAuthVerifier(limits=ReceiverLimits(**limits), monotonic=monotonic)  # type: ignore[arg-type]


async def outcome(verifier: BasicAuthVerifier, header: str, expected: str, name: str = "acme") -> bool | None:
    """Return the result of a check; None when the header was not checked."""
    try:
        return await verifier.verify(name, header, expected)
    except TooManyAttempts:
        return None


async def test_the_right_header_is_accepted_in_any_spelling_of_its_scheme(expected: str) -> None:
    verifier = a_verifier()
    assert await verifier.verify("acme", a_header(), expected)
    assert await verifier.verify("acme", a_header().replace("Basic", "bASIC"), expected)


@pytest.mark.parametrize(
    "header", [None, "", "Basic", "Basic ", "Bearer abc", "Basic Zm9v", a_header(password="wrong")]
)
async def test_any_other_header_is_refused(header: str | None, expected: str) -> None:
    assert not await a_verifier().verify("acme", header, expected)


@pytest.mark.parametrize("is_valid_first", [True, False])
async def test_a_result_is_remembered_for_its_hash_only(expected: str, is_valid_first: bool) -> None:
    verifier, other = a_verifier(), a_basic_auth_hash("esaw", "neu")
    first, second = (expected, other) if is_valid_first else (other, expected)
    assert await verifier.verify("acme", a_header(), first) is is_valid_first
    assert await verifier.verify("acme", a_header(), second) is not is_valid_first


async def test_equal_headers_at_once_are_one_attempt(expected: str) -> None:
    verifier = a_verifier(password_burst=1, password_waiters=1)
    calls = (verifier.verify("acme", a_header(), expected) for _ in range(200))
    assert all(await asyncio.gather(*calls))


async def test_one_that_gives_up_does_not_end_the_check_for_the_others(expected: str) -> None:
    verifier = a_verifier()
    first = asyncio.create_task(verifier.verify("acme", a_header(), expected))
    second = asyncio.create_task(verifier.verify("acme", a_header(), expected))
    await asyncio.sleep(0)
    first.cancel()
    assert await second


async def test_wrong_headers_use_up_the_attempts_and_valid_ones_do_not(expected: str) -> None:
    clock = ManualClock()
    verifier = a_verifier(clock, password_burst=2)
    other = a_basic_auth_hash("esaw", "zwei")
    assert await verifier.verify("acme", a_header(), expected)
    assert await verifier.verify("acme", a_header(password="zwei"), other)
    results = [await outcome(verifier, a_header(password=f"no-{n}"), expected) for n in range(4)]
    assert results == [False, False, None, None]
    # What is remembered takes no attempt: neither the valid nor a wrong header.
    assert await verifier.verify("acme", a_header(), expected)
    assert not await verifier.verify("acme", a_header(password="no-0"), expected)
    # Another organization has separate attempts, and time brings new ones.
    assert await outcome(verifier, a_header(password="no-5"), expected, "other") is False
    await clock.sleep(10)
    assert await outcome(verifier, a_header(password="no-6"), expected) is False


async def test_few_headers_wait_in_the_queue(expected: str) -> None:
    verifier = a_verifier(password_waiters=4, password_burst=1000)
    headers = (a_header(password=f"no-{n}") for n in range(50))
    results = await asyncio.gather(*(outcome(verifier, each, expected) for each in headers))
    assert (results.count(False), results.count(None)) == (4, 46)


async def test_memory_is_bounded_and_wrong_headers_push_out_no_valid_one(expected: str) -> None:
    verifier = a_verifier(remembered_passwords=2, password_burst=20)
    assert await verifier.verify("acme", a_header(), expected)
    for number in range(4):
        assert not await verifier.verify("acme", a_header(password=f"no-{number}"), expected)
    assert len(verifier._wrong) == 2
    assert len(verifier._valid) == 1


async def test_a_header_that_is_not_checked_gets_the_time_to_retry(expected: str) -> None:
    verifier = a_verifier(password_burst=1, password_rate=0.5)
    assert not await verifier.verify("acme", a_header(password="no-1"), expected)
    with pytest.raises(TooManyAttempts, match=r"next check in 2\.0 s") as refused:
        await verifier.verify("acme", a_header(password="no-2"), expected)
    assert refused.value.wait == 2.0


async def test_a_header_behind_too_many_others_gets_the_time_to_retry(expected: str) -> None:
    verifier = a_verifier(password_waiters=1, retry_after=7.0)
    first = asyncio.create_task(verifier.verify("acme", a_header(), expected))
    await asyncio.sleep(0)
    with pytest.raises(TooManyAttempts) as refused:
        await verifier.verify("acme", a_header(password="no"), expected)
    assert refused.value.wait == 7.0
    # Another organization waits for nobody.
    assert await verifier.verify("other", a_header(), expected)
    assert await first


async def test_the_header_that_was_used_last_is_remembered_longest(expected: str) -> None:
    verifier = a_verifier(remembered_passwords=2, password_burst=3)
    for number in (1, 2, 1, 3):
        assert await outcome(verifier, a_header(password=f"no-{number}"), expected) is False
    results = [await outcome(verifier, a_header(password=f"no-{n}"), expected) for n in (1, 3, 2)]
    assert results == [False, False, None]


async def test_headers_are_computed_one_after_the_other(
    expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most = 0, 0

    async def compute(*_: object) -> bool:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return False

    monkeypatch.setattr(asyncio, "to_thread", compute)
    verifier = a_verifier(password_burst=10, password_waiters=10)
    headers = (a_header(password=f"no-{n}") for n in range(5))
    await asyncio.gather(*(verifier.verify("acme", each, expected) for each in headers))
    assert most == 1
