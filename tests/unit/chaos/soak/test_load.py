"""The load and the faults of a soak test: repeatable, and with every kind."""

from itertools import islice

from verification.chaos.plan import KINDS
from verification.chaos.soak import load

STEPS = list(islice(load.steps(1), 2000))


def test_the_same_seed_gives_the_same_load_and_the_same_faults() -> None:
    assert list(islice(load.steps(1), 2000)) == STEPS
    assert load.faults(1, 7, 20) == load.faults(1, 7, 20)


def test_another_seed_or_wave_gives_others() -> None:
    assert list(islice(load.steps(2), 2000)) != STEPS
    assert len({load.faults(1, 7, 20), load.faults(2, 7, 20), load.faults(1, 8, 20)}) == 3


def test_the_load_has_every_size_request_and_peculiarity() -> None:
    assert {size for each in STEPS for size in each.order.sizes} == set(load.SIZES)
    assert {each.request for each in STEPS} == {*load.REQUESTS, None}
    assert any(each.order.expired for each in STEPS)
    assert any(each.order.legal for each in STEPS)
    assert any(each.order.trail_differs for each in STEPS)
    assert {len(each.repeats) for each in STEPS} == {0, 1, 2, 3}


def test_a_repeated_callback_comes_long_before_the_event_is_removed() -> None:
    assert all(0 <= each <= load.REPEAT_SECONDS for step in STEPS for each in step.repeats)


def test_the_faults_have_every_kind_of_the_campaign_but_those_that_are_left_out() -> None:
    drawn = {fault.kind for wave in range(300) for fault in load.faults(1, wave, 20)}
    assert drawn == set(KINDS) - load.LEFT_OUT
    assert load.LEFT_OUT.issubset(KINDS)


def test_a_wave_has_as_many_faults_as_its_duration_allows() -> None:
    assert len(load.faults(1, 1, 20)) == 20 * load.FAULTS_PER_SECOND
