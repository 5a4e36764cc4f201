"""The shards of a process: which events and objects are its own, and for how long."""

import pytest

from controller.sharding import HeldLease, HeldShards, LeaseLost
from counterfoil.resources import SHARD_COUNT, SHARD_LABEL
from counterfoil.resources.naming import envelope_id, shard
from tests.support.builders import ENVELOPE, AClock, an_event
from tests.support.fakes.leases import held_shards


def test_a_lease_is_held_until_its_end_and_is_not_revived_by_a_late_renewal() -> None:
    clock = AClock()
    lease = HeldLease(clock.monotonic, held_until=10.0)
    clock.advance(seconds=9)
    lease.extend(19.0)
    clock.advance(seconds=9)
    assert (lease.is_held(), lease.seconds_left()) == (True, 1.0)
    clock.advance(seconds=1)
    lease.extend(100.0)
    assert (lease.is_held(), lease.seconds_left()) == (False, 0.0)


def test_a_lease_that_was_given_up_is_not_held() -> None:
    lease = HeldLease(AClock().monotonic, held_until=10.0)
    lease.end()
    lease.extend(20.0)
    assert not lease.is_held()


@pytest.mark.parametrize("count", [1, 2, 3, 64])
def test_each_shard_of_the_events_is_watched_by_one_holder(count: int) -> None:
    selectors = [held_shards(number, of=count).label_selector for number in range(count)]
    if count == 1:
        assert selectors == [""]
        return
    numbers = [
        number
        for each in selectors
        for number in each.removeprefix(f"{SHARD_LABEL} in (").rstrip(")").split(",")
    ]
    assert sorted(map(int, numbers)) == list(range(SHARD_COUNT))


def test_a_holder_of_several_shards_watches_the_events_of_all_of_them() -> None:
    numbers = held_shards(0, 2, of=3).label_selector.partition("(")[2].rstrip(")").split(",")
    assert numbers[:5] == ["0", "2", "3", "5", "6"]
    assert held_shards(0, 1, 2, of=3).label_selector == ""


def test_without_a_shard_nothing_is_owned() -> None:
    nothing = HeldShards({}, 3)
    assert not any(nothing.owns("archive", name) for name in ("dms", "other", "third"))
    assert (nothing.are_lost, nothing.seconds_left, str(nothing)) == (False, None, "no shard of 3")


def test_an_event_is_worked_on_only_while_the_lease_of_its_shard_is_held() -> None:
    clock = AClock()
    mine = shard(envelope_id(ENVELOPE)) % 2
    event = an_event().build()
    held = held_shards(mine, of=2, clock=clock)
    held.check(event)
    with pytest.raises(LeaseLost, match=f"shard {mine} of 2"):
        held_shards(1 - mine, of=2).check(event)
    clock.advance(seconds=3601)
    assert held.are_lost
    with pytest.raises(LeaseLost):
        held.check(event)


OTHER_SHARD = str((shard(envelope_id(ENVELOPE)) + 1) % SHARD_COUNT)


@pytest.mark.parametrize("label", [OTHER_SHARD, "99", "", "-1", "²"])
def test_the_envelope_of_an_event_decides_its_shard_and_not_its_label(label: str) -> None:
    event = an_event().labelled(SHARD_LABEL, label).build()
    mine = shard(envelope_id(ENVELOPE)) % 2
    held_shards(mine, of=2).check(event)
    with pytest.raises(LeaseLost):
        held_shards(1 - mine, of=2).check(event)


def test_more_shards_are_seen_as_a_gain() -> None:
    one, both = held_shards(0, of=2), held_shards(0, 1, of=2)
    assert one.has_gained(both)
    assert not both.has_gained(one)
    assert not one.has_gained(held_shards(0, of=2))
