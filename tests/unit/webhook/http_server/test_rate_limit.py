"""The rate limit: a maximum number of requests at once, and a maximum number per second."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webhook.http_server.rate_limit import ClientBuckets, TokenBucket, TokenBuckets


def test_a_burst_passes_and_the_next_one_has_to_wait_for_a_token() -> None:
    bucket = TokenBucket(rate=2.0, burst=3)

    assert [bucket.take(10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_after_the_named_time_the_next_one_passes() -> None:
    bucket = TokenBucket(rate=2.0, burst=1)
    bucket.take(10.0)
    wait = bucket.take(10.0)

    assert bucket.take(10.0 + wait) == 0.0


def test_rest_fills_no_more_than_the_burst() -> None:
    bucket = TokenBucket(rate=100.0, burst=2)
    for _ in range(2):
        bucket.take(0.0)

    assert [bucket.take(1000.0) > 0 for _ in range(3)] == [False, False, True]


@given(
    st.lists(st.floats(min_value=0.0, max_value=1.0), max_size=200),
    st.floats(min_value=0.5, max_value=50.0),
    st.integers(min_value=1, max_value=20),
)
def test_never_more_pass_than_burst_and_rate_allow(pauses: list[float], rate: float, burst: int) -> None:
    bucket, now, passed = TokenBucket(rate=rate, burst=burst), 0.0, 0
    for pause in pauses:
        now += pause
        passed += bucket.take(now) == 0.0
    assert passed <= burst + rate * now + 1e-6


@pytest.mark.parametrize("back", [0.0, 5.0])
def test_a_clock_that_stands_or_goes_back_gives_no_tokens(back: float) -> None:
    bucket = TokenBucket(rate=10.0, burst=1)
    bucket.take(10.0)
    assert bucket.take(back) > 0.0


def test_what_is_released_can_be_taken_again_but_never_more_than_the_burst() -> None:
    bucket = TokenBucket(rate=1.0, burst=2)
    bucket.take(0.0)
    for _ in range(5):
        bucket.return_token()

    assert [bucket.take(0.0) > 0 for _ in range(3)] == [False, False, True]


def test_each_has_its_own_bucket() -> None:
    buckets = TokenBuckets(lambda: TokenBucket(rate=1.0, burst=1), max_buckets=10)

    assert [buckets.for_name(name).take(0.0) > 0 for name in ("a", "a", "b")] == [False, True, False]


def test_a_bounded_number_is_remembered_and_the_newest_client_is_among_them() -> None:
    buckets = TokenBuckets(lambda: TokenBucket(rate=1.0, burst=1), max_buckets=3)
    for name in ("a", "b", "c"):
        buckets.for_name(name).take(0.0)
    assert buckets.for_name("a").take(0.0) > 0

    buckets.for_name("d")

    assert len(buckets) == 3
    assert buckets.for_name("a").take(0.0) > 0
    assert buckets.for_name("b").take(0.0) == 0.0


def client_buckets(*, own: int, of_all: int) -> ClientBuckets:
    clients = TokenBuckets(lambda: TokenBucket(rate=1.0, burst=own), max_buckets=10)
    return ClientBuckets(clients, TokenBucket(rate=1.0, burst=of_all))


def test_a_client_at_its_own_rate_takes_nothing_of_the_others() -> None:
    buckets = client_buckets(own=2, of_all=3)
    assert [buckets.take("anna", 0.0) > 0 for _ in range(5)] == [False, False, True, True, True]
    assert buckets.take("ben", 0.0) == 0.0


def test_the_rate_of_all_holds_for_a_client_with_many_names_and_costs_it_no_own_token() -> None:
    buckets = client_buckets(own=1, of_all=2)
    assert [buckets.take(name, 0.0) > 0 for name in ("a", "b", "c")] == [False, False, True]
    assert buckets.take("c", 1.0) == 0.0


def test_what_takes_an_own_token_only_leaves_those_of_all() -> None:
    buckets = client_buckets(own=2, of_all=1)
    assert [buckets.take_own("anna", 0.0) > 0 for _ in range(3)] == [False, False, True]
    assert buckets.take("ben", 0.0) == 0.0


def test_a_request_that_does_not_count_gives_both_tokens_back() -> None:
    buckets = client_buckets(own=1, of_all=1)
    for _ in range(5):
        assert buckets.take("anna", 0.0) == 0.0
        buckets.return_token("anna")
