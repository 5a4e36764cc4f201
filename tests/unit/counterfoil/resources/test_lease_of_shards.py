"""Which shards no controller works on, as a person reads it in the Leases."""

from datetime import timedelta

from counterfoil.resources.lease import UnheldShard, unheld_owner, unheld_shard, unheld_shards
from tests.support.builders import NOON
from tests.support.fakes.leases import a_shard_lease

NOW = NOON + timedelta(minutes=10)
LIVES = NOW - timedelta(seconds=2)


def test_a_renewed_lease_covers_every_event_of_its_shard() -> None:
    leases = [a_shard_lease(number, 3, renewed=LIVES) for number in range(3)]
    assert unheld_shards(leases, NOW) == ()
    assert unheld_shard(leases, 63, NOW) is None


def test_a_shard_whose_lease_expired_is_without_a_controller() -> None:
    leases = [a_shard_lease(0, 2, renewed=LIVES), a_shard_lease(1, 2, renewed=NOON, holder="pod-2")]
    gone = UnheldShard("counterfoil-shard-1-of-2", "pod-2", NOON)
    assert unheld_shards(leases, NOW) == (gone,)
    assert (unheld_shard(leases, 4, NOW), unheld_shard(leases, 5, NOW)) == (None, gone)
    assert str(gone) == (
        "pod-2 renewed Lease/counterfoil-shard-1-of-2 for the last time at 2026-07-01 12:00:00 UTC."
    )


def test_a_released_lease_is_nobodys() -> None:
    (released,) = unheld_shards([a_shard_lease(0, 1, renewed=LIVES, holder="")], NOW + timedelta(minutes=1))
    assert "was released at 2026-07-01 12:09:58 UTC" in str(released)


def test_without_a_lease_no_controller_has_worked_yet() -> None:
    assert unheld_shards([], NOW) == (UnheldShard(),)
    assert str(UnheldShard()) == "No controller has acquired the Lease of a shard yet."


def test_leases_of_an_earlier_number_of_shards_report_nothing() -> None:
    old = [a_shard_lease(number, 2, renewed=NOON, holder="") for number in range(2)]
    assert unheld_shards([*old, a_shard_lease(0, 1, renewed=LIVES)], NOW) == ()


def test_clocks_that_differ_a_little_report_nothing() -> None:
    assert unheld_shards([a_shard_lease(0, 1, renewed=NOW - timedelta(seconds=40))], NOW) == ()
    assert unheld_shards([a_shard_lease(0, 1, renewed=NOW + timedelta(hours=1))], NOW) == ()


def test_the_work_for_all_shards_is_done_by_the_owner_of_its_shard() -> None:
    leases = [a_shard_lease(number, 3, renewed=LIVES) for number in range(3)]
    assert unheld_owner(leases, "walk", "events", NOW) is None
    missing = [
        unheld_owner([*leases[:each], *leases[each + 1 :]], "walk", "events", NOW) for each in range(3)
    ]
    assert missing.count(None) == 2
