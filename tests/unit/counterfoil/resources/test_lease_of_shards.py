"""Which shards no controller works on, as a person reads it in the Leases."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from counterfoil.resources.lease import (
    MAX_SERVED_DIGESTS,
    SERVED_ANNOTATION,
    NamespaceNotServed,
    ShardLeases,
    UnheldShard,
    served_annotation,
)
from counterfoil.settings import MAX_NAMESPACES
from tests.support.builders import NOON
from tests.support.fakes.leases import a_shard_lease

NOW = NOON + timedelta(minutes=10)
LIVES = NOW - timedelta(seconds=2)


def test_a_renewed_lease_covers_every_event_of_its_shard() -> None:
    leases = ShardLeases(tuple(a_shard_lease(number, 3, renewed=LIVES) for number in range(3)))
    assert leases.unheld_shards(NOW) == ()
    assert leases.unheld_shard(63, NOW) is None


def test_a_shard_whose_lease_expired_is_without_a_controller() -> None:
    held = a_shard_lease(0, 2, renewed=LIVES)
    leases = ShardLeases((held, a_shard_lease(1, 2, renewed=NOON, holder="pod-2")))
    gone = UnheldShard("counterfoil-shard-1-of-2", "pod-2", NOON)
    assert leases.unheld_shards(NOW) == (gone,)
    assert (leases.unheld_shard(4, NOW), leases.unheld_shard(5, NOW)) == (None, gone)
    assert str(gone) == (
        "pod-2 renewed Lease/counterfoil-shard-1-of-2 for the last time at 2026-07-01 12:00:00 UTC."
    )


def test_a_lease_that_its_holder_does_not_renew_is_without_a_controller_before_it_ends() -> None:
    """Another program may hold it for an hour: a controller renews it within a minute."""
    lease = a_shard_lease(0, 1, renewed=NOON, holder="other-program", seconds=3600)
    leases = ShardLeases((lease,))
    assert leases.unheld_shards(NOON + timedelta(seconds=80)) == ()
    at = NOON + timedelta(seconds=90)
    (held,) = leases.unheld_shards(at)
    assert (leases.unheld_shard(0, at), leases.unheld_owner("walk", "events", at)) == (held, held)
    assert str(held) == (
        "other-program renewed Lease/counterfoil-shard-0-of-1 for the last time at 2026-07-01 12:00:00 UTC, "
        "and holds it until 2026-07-01 13:00:00 UTC. If none of the controller's pods has this name, delete "
        "the Lease."
    )
    (ended,) = leases.unheld_shards(NOON + timedelta(minutes=62))
    assert "holds it until" not in str(ended)


def test_a_lease_that_is_renewed_at_the_end_of_all_time_can_be_read() -> None:
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    foreign = a_shard_lease(0, 1, renewed=last, holder="other-program")
    assert ShardLeases((foreign,)).unheld_shards(NOW) == ()


def test_a_released_lease_is_nobodys() -> None:
    leases = ShardLeases((a_shard_lease(0, 1, renewed=LIVES, holder=""),))
    (released,) = leases.unheld_shards(NOW + timedelta(minutes=1))
    assert "was released at 2026-07-01 12:09:58 UTC" in str(released)


def test_without_a_lease_no_controller_has_worked_yet() -> None:
    assert ShardLeases(()).unheld_shards(NOW) == (UnheldShard(),)
    assert str(UnheldShard()) == "No controller has acquired the Lease of a shard yet."


def test_leases_of_an_earlier_number_of_shards_report_nothing() -> None:
    old = (a_shard_lease(number, 2, renewed=NOON, holder="") for number in range(2))
    assert ShardLeases((*old, a_shard_lease(0, 1, renewed=LIVES))).unheld_shards(NOW) == ()


def test_clocks_that_differ_a_little_report_nothing() -> None:
    for renewed in (NOW - timedelta(seconds=40), NOW + timedelta(hours=1)):
        assert ShardLeases((a_shard_lease(0, 1, renewed=renewed),)).unheld_shards(NOW) == ()


def test_the_work_for_all_shards_is_done_by_the_owner_of_its_shard() -> None:
    leases = ShardLeases(tuple(a_shard_lease(number, 3, renewed=LIVES) for number in range(3)))
    assert leases.unheld_owner("walk", "events", NOW) is None
    two_of_three = [ShardLeases((*leases.leases[:each], *leases.leases[each + 1 :])) for each in range(3)]
    missing = [each.unheld_owner("walk", "events", NOW) for each in two_of_three]
    assert missing.count(None) == 2


def test_a_shard_of_a_release_in_another_namespace_says_where_its_lease_is() -> None:
    (never,) = ShardLeases((), "release").unheld_shards(NOW)
    (gone,) = ShardLeases((a_shard_lease(0, 1, renewed=NOON),), "release").unheld_shards(NOW)

    assert str(never) == "No controller in the namespace release has acquired the Lease of a shard yet."
    assert str(gone).startswith("pod-1 renewed Lease/counterfoil-shard-0-of-1 in the namespace release for")


def leases_of(*served: Iterable[str] | None) -> ShardLeases:
    """Return the held Leases of a release, each with the namespaces that its holder tells, as `unit-a` sees
    them."""
    leases = (
        a_shard_lease(number, len(served), renewed=LIVES, served=each) for number, each in enumerate(served)
    )
    return ShardLeases(tuple(leases), "release", "unit-a")


NOT_SERVED = NamespaceNotServed("unit-a", "release")


def test_a_namespace_that_the_holders_do_not_serve_is_reported_once() -> None:
    leases = leases_of(["unit-b", "release"], ["unit-b"], ["unit-b"])
    assert leases.unheld_shards(NOW) == (NOT_SERVED,)
    assert leases.unheld_shard(5, NOW) == NOT_SERVED
    assert leases.unheld_owner("walk", "events", NOW) == NOT_SERVED
    assert (
        str(NOT_SERVED)
        == "The controllers in the namespace release work, and their list does not have the namespace unit-a."
    )


def test_a_namespace_is_served_by_the_shards_whose_holders_have_read_the_new_list() -> None:
    leases = leases_of(["unit-a", "unit-b"], ["unit-b"])
    assert (leases.unheld_shard(4, NOW), leases.unheld_shard(5, NOW)) == (None, NOT_SERVED)


def test_a_holder_without_the_annotation_counts_as_serving() -> None:
    assert leases_of(None, None).unheld_shards(NOW) == ()


def test_the_annotation_of_another_holder_does_not_count() -> None:
    """A holder of an earlier version renews a Lease with the annotation of the one before."""
    (lease,) = leases_of(["unit-b"]).leases
    renewed = replace(lease, spec=replace(lease.spec, holder_identity="pod-of-an-earlier-version"))
    assert ShardLeases((renewed,), "release", "unit-a").unheld_shards(NOW) == ()


def test_a_dead_holder_is_reported_as_such_in_a_namespace_that_it_did_not_serve() -> None:
    leases = ShardLeases((a_shard_lease(0, 1, renewed=NOON, served=["unit-b"]),), "release", "unit-a")
    (found,) = leases.unheld_shards(NOW)
    assert found.reason == "ControllerAbsent"


@pytest.mark.parametrize(
    "told",
    [
        "",
        "unit-b",
        served_annotation("pod-1", []),
        served_annotation("pod-1", ["unit-b"]).upper(),
        f"{served_annotation('pod-1', ['unit-b'])}\n",
        served_annotation("pod-1", map(str, range(MAX_SERVED_DIGESTS + 1))),
        "0" * 200_000,
    ],
)
def test_an_annotation_of_another_form_does_not_count(told: str) -> None:
    (lease,) = leases_of(["unit-b"]).leases
    metadata = replace(lease.metadata, annotations={SERVED_ANNOTATION: told})
    assert ShardLeases((replace(lease, metadata=metadata),), "", "unit-a").unheld_shards(NOW) == ()


def test_the_annotation_has_no_name_and_room_for_all_namespaces_of_a_release() -> None:
    names = [f"tenant-{number}" for number in range(MAX_NAMESPACES)]
    told = served_annotation("pod-1", names)
    assert "tenant" not in told
    assert len(told) < 1024
    (lease,) = leases_of(names).leases
    assert [lease.serves(each) for each in (*names, "unit-a")] == [True] * MAX_NAMESPACES + [False]
