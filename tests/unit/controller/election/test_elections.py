"""Several processes as candidates for the Leases of the shards, in virtual time, over an API in memory."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from controller.election.elections import RESTART_SECONDS, Candidate
from controller.election.shard_lock import LeaseTimings
from counterfoil.resources.lease import MAX_LEASE_SECONDS, SERVED_ANNOTATION, served_annotation
from tests.support.fakes.lease_api import InMemoryLeases, refused
from tests.support.virtual_time import run_in_virtual_time, virtual_time

TIMINGS = LeaseTimings(duration=15.0, renew_deadline=10.0, retry_period=2.0)


class Process:
    """One controller process, as far as elections go."""

    def __init__(
        self, api: InMemoryLeases, identity: str, shards: int, timings: LeaseTimings = TIMINGS
    ) -> None:
        self.changes: list[tuple[float, set[int]]] = []
        self.served: tuple[str, ...] = ("tests",)
        self.candidate = Candidate(
            identity, "tests", shards, timings, lambda: self.served, self._changed, virtual_time
        )
        self._task = asyncio.create_task(self.candidate.run(api))
        self._api = api

    def _changed(self) -> None:
        self.changes.append((virtual_time(), self.shards))

    @property
    def shards(self) -> set[int]:
        """The shards that it holds now."""
        return set(self.candidate.held.leases)

    async def stop(self) -> None:
        """Stop it as after SIGTERM."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def die(self) -> None:
        """End it without a release."""
        self._api.fault = lambda verb: refused(500)
        await self.stop()
        self._api.fault = lambda verb: None


Play = Callable[["Cluster"], Coroutine[Any, Any, None]]


class Cluster:
    """The API and the processes."""

    def __init__(self) -> None:
        self.api = InMemoryLeases()
        self.processes: list[Process] = []

    def start(self, identity: str, shards: int, timings: LeaseTimings = TIMINGS) -> Process:
        """Start one more process."""
        self.processes.append(Process(self.api, identity, shards, timings))
        return self.processes[-1]

    async def until(self, condition: Callable[[], bool], *, within: float) -> float:
        """Wait until the condition holds; return how long it took."""
        began = virtual_time()
        while not condition():
            assert virtual_time() - began <= within, f"not within {within} s"
            await asyncio.sleep(0.05)
        return virtual_time() - began

    async def seconds(self, seconds: float) -> None:
        """Let time pass, and check all the while that no shard has two holders."""
        end = virtual_time() + seconds
        while virtual_time() < end:
            held = [shard for each in self.processes for shard in each.shards]
            assert len(held) == len(set(held))
            await asyncio.sleep(0.25)


@asynccontextmanager
async def a_cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster()
    try:
        yield cluster
    finally:
        cluster.api.hangs = False
        await asyncio.gather(*(each.stop() for each in cluster.processes))


def in_a_cluster(play: Play) -> Callable[[], None]:
    """Make a test of a coroutine function that plays in a cluster."""

    def test() -> None:
        async def main() -> None:
            async with a_cluster() as cluster:
                await play(cluster)

        run_in_virtual_time(main())

    test.__name__, test.__doc__ = play.__name__, play.__doc__
    return test


@in_a_cluster
async def test_a_process_alone_takes_every_shard_one_after_the_other(cluster: Cluster) -> None:
    alone = cluster.start("alone", 3)
    await cluster.until(lambda: len(alone.shards) == 3, within=10.0)
    assert [len(shards) for _, shards in alone.changes] == [1, 2, 3]


@in_a_cluster
async def test_processes_that_start_together_share_the_shards(cluster: Cluster) -> None:
    processes = [cluster.start(f"pod-{number}", 3) for number in range(3)]
    await cluster.until(lambda: all(len(each.shards) == 1 for each in processes), within=5.0)
    await cluster.seconds(120.0)
    assert [len(each.shards) for each in processes] == [1, 1, 1]


@in_a_cluster
async def test_a_lost_process_is_replaced_by_a_spare_one_within_the_duration_of_its_lease(
    cluster: Cluster,
) -> None:
    lost = cluster.start("lost", 1)
    await cluster.until(lambda: lost.shards == {0}, within=1.0)
    spare = cluster.start("spare", 1)
    await cluster.seconds(60.0)
    assert spare.shards == set()
    await lost.die()
    took = await cluster.until(lambda: spare.shards == {0}, within=20.0)
    assert took >= TIMINGS.duration - TIMINGS.retry_period


@in_a_cluster
async def test_a_shard_of_a_lost_process_goes_to_one_with_fewer_shards(cluster: Cluster) -> None:
    pods = [cluster.start(f"pod-{number}", 2) for number in range(2)]
    await cluster.until(lambda: all(len(each.shards) == 1 for each in pods), within=5.0)
    spare = cluster.start("spare", 2)
    await cluster.seconds(10.0)
    await pods[0].die()
    await cluster.until(lambda: len(spare.shards) == 1, within=20.0)
    await cluster.seconds(60.0)
    assert len(pods[1].shards) == 1


@in_a_cluster
async def test_after_a_clean_stop_the_next_process_takes_the_shard_at_its_next_check(
    cluster: Cluster,
) -> None:
    first = cluster.start("first", 1)
    await cluster.until(lambda: first.shards == {0}, within=1.0)
    second = cluster.start("second", 1)
    await cluster.seconds(5.0)
    await first.stop()
    assert cluster.api.holder(0, 1) == ""
    assert await cluster.until(lambda: second.shards == {0}, within=3.0) <= TIMINGS.retry_period + 0.1


@in_a_cluster
async def test_a_process_that_starts_again_under_its_name_has_its_shards_at_once(cluster: Cluster) -> None:
    first = cluster.start("pod", 3)
    await cluster.until(lambda: len(first.shards) == 3, within=10.0)
    await first.die()
    again = cluster.start("pod", 3)
    await cluster.until(lambda: len(again.shards) == 3, within=0.5)


@in_a_cluster
async def test_a_holder_that_cannot_renew_stops_before_another_process_can_take_its_shard(
    cluster: Cluster,
) -> None:
    holder = cluster.start("holder", 1)
    await cluster.until(lambda: holder.shards == {0}, within=1.0)
    (lease,) = holder.candidate.leases.values()
    await cluster.seconds(30.0)
    cluster.api.hangs = True
    took = await cluster.until(lambda: not lease.is_held(), within=15.0)
    assert took <= TIMINGS.duration - TIMINGS.margin
    assert holder.changes[-1][1] == set()

    cluster.api.hangs = False
    await cluster.until(lambda: holder.shards == {0}, within=10.0)
    # The same Lease, but another term: work that began before never continues.
    assert not lease.is_held()


@in_a_cluster
async def test_a_process_with_shorter_times_waits_until_the_holder_has_stopped(cluster: Cluster) -> None:
    holder = cluster.start("slow", 1, LeaseTimings(duration=60.0, renew_deadline=40.0, retry_period=20.0))
    await cluster.until(lambda: holder.shards == {0}, within=1.0)
    other = cluster.start("fast", 1)
    await cluster.seconds(90.0)
    assert (holder.shards, other.shards) == ({0}, set())
    await holder.die()
    took = await cluster.until(lambda: other.shards == {0}, within=65.0)
    assert took >= 60.0 - 20.0


@in_a_cluster
async def test_a_holder_begins_a_new_term_after_a_restore_of_etcd(cluster: Cluster) -> None:
    holder = cluster.start("holder", 1)
    await cluster.until(lambda: holder.shards == {0}, within=1.0)
    backup = cluster.api.back_up()
    await cluster.seconds(60.0)
    assert [shards for _, shards in holder.changes] == [{0}]
    cluster.api.restore(backup)
    await cluster.seconds(2 * TIMINGS.retry_period + RESTART_SECONDS)
    assert [shards for _, shards in holder.changes] == [{0}, set(), {0}]
    await cluster.seconds(60.0)
    assert len(holder.changes) == 3


@pytest.mark.parametrize("version", [None, "", "x1"])
def test_a_lease_without_a_version_that_can_be_compared_is_no_restore(version: str | None) -> None:
    async def play(cluster: Cluster) -> None:
        holder = cluster.start("holder", 1)
        await cluster.until(lambda: holder.shards == {0}, within=1.0)
        cluster.api.shown_version = lambda real: version
        await cluster.seconds(TIMINGS.retry_period)
        cluster.api.shown_version = lambda real: real
        await cluster.seconds(60.0)
        assert [shards for _, shards in holder.changes] == [{0}]

    in_a_cluster(play)()


@in_a_cluster
async def test_errors_of_the_api_server_for_a_short_time_cost_nothing(cluster: Cluster) -> None:
    holder = cluster.start("holder", 1)
    await cluster.until(lambda: holder.shards == {0}, within=1.0)
    (lease,) = holder.candidate.leases.values()
    for problem in (refused(503), refused(409), OSError("reset"), TimeoutError()):
        cluster.api.fault = lambda verb, problem=problem: problem  # type: ignore[misc]
        await cluster.seconds(6.0)
        cluster.api.fault = lambda verb: None
        await cluster.seconds(6.0)
    assert lease.is_held()
    assert len(holder.changes) == 1


@in_a_cluster
async def test_a_process_says_why_it_cannot_be_a_holder(cluster: Cluster) -> None:
    cluster.api.fault = lambda verb: refused(403)
    process = cluster.start("pod", 1)
    await cluster.seconds(1.0)
    assert process.candidate.problem == "the Leases of the shards can't be used: status 403"
    cluster.api.fault = lambda verb: None
    await cluster.until(lambda: process.candidate.problem is None, within=3.0)


# -- Another number of shards --------------------------------------------------------------------------------


@in_a_cluster
async def test_no_shard_is_taken_while_a_lease_of_another_number_of_shards_is_held(cluster: Cluster) -> None:
    old = [cluster.start(f"old-{number}", 2) for number in range(2)]
    await cluster.until(lambda: all(len(each.shards) == 1 for each in old), within=5.0)
    new = [cluster.start(f"new-{number}", 3) for number in range(3)]
    await cluster.seconds(60.0)
    await old[0].stop()
    await cluster.seconds(60.0)
    assert [each.shards for each in new] == [set(), set(), set()]
    await old[1].stop()
    await cluster.until(lambda: sum(len(each.shards) for each in new) == 3, within=10.0)


@in_a_cluster
async def test_a_lease_of_another_number_that_nobody_renews_counts_for_its_duration(cluster: Cluster) -> None:
    cluster.api.held_by("gone", 0, of=2)
    new = cluster.start("new", 1)
    assert await cluster.until(lambda: new.shards == {0}, within=20.0) >= 13.0


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("counterfoil-state-" + "0" * 32, "2"),
        ("counterfoil-draft-" + "0" * 32, "x"),
        ("counterfoil-shard-0-of-2", "3"),
        ("counterfoil-shard-x-of-2", "2"),
        ("somebodys-leader", "2"),
    ],
)
def test_a_lease_with_the_label_of_shards_and_another_name_stops_no_controller(name: str, label: str) -> None:
    async def main() -> None:
        async with a_cluster() as cluster:
            first = cluster.start("first", 1)
            await cluster.until(lambda: first.shards == {0}, within=20.0)
            cluster.api.held_by("pages", 0, of=2, seconds=MAX_LEASE_SECONDS, name=name, label=label)
            await cluster.seconds(60.0)
            assert first.shards == {0}
            await first.stop()
            new = cluster.start("new", 1)
            assert await cluster.until(lambda: new.shards == {0}, within=20.0) < 20.0

    run_in_virtual_time(main())


@pytest.mark.parametrize("count", [1, 2])
def test_a_lease_that_somebody_wrote_for_decades_counts_for_an_hour_at_most(count: int) -> None:
    async def main() -> None:
        async with a_cluster() as cluster:
            cluster.api.held_by("somebody", 0, of=count, seconds=2**31 - 1)
            new = cluster.start("new", 1)
            took = await cluster.until(lambda: new.shards == {0}, within=MAX_LEASE_SECONDS + 30.0)
            assert took >= MAX_LEASE_SECONDS - 5.0

    run_in_virtual_time(main())


@in_a_cluster
async def test_a_lease_that_another_program_holds_for_an_hour_is_free_once_a_person_deletes_it(
    cluster: Cluster,
) -> None:
    """As `ControllerAbsent` advises."""
    cluster.api.held_by("other-program", 0, 1, seconds=3600)
    waiting = cluster.start("waiting", 1)
    await cluster.seconds(300.0)
    assert waiting.shards == set()
    del cluster.api.leases["counterfoil-shard-0-of-1"]
    await cluster.until(lambda: waiting.shards == {0}, within=10.0)


def test_who_keeps_all_controllers_out_without_a_renewal_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with a_cluster() as cluster:
            cluster.api.held_by("other-program", 0, 1, seconds=3600)
            cluster.start("waiting", 1)
            await cluster.seconds(300.0)

    run_in_virtual_time(main())
    (line,) = (each.getMessage() for each in caplog.records if "other-program" in each.getMessage())
    assert line.startswith(
        "Lease/counterfoil-shard-0-of-1 in the namespace tests is held by other-program until "
    )
    assert re.search(r" until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", line)


@in_a_cluster
async def test_a_number_of_transitions_that_can_not_grow_stops_no_election(cluster: Cluster) -> None:
    cluster.api.held_by("somebody", 0, of=1)
    (lease,) = cluster.api.leases.values()
    spec: Any = lease.spec
    spec.lease_transitions = 2**31 - 1
    new = cluster.start("new", 1)
    await cluster.until(lambda: new.shards == {0}, within=30.0)
    (written,) = cluster.api.leases.values()
    taken: Any = written.spec
    assert (taken.holder_identity, taken.lease_transitions) == ("new", 2**31 - 1)


@pytest.mark.parametrize("latency", [0.001, 0.3])
def test_processes_with_different_numbers_that_start_together_never_work_at_the_same_time(
    latency: float,
) -> None:
    async def main() -> None:
        async with a_cluster() as cluster:
            cluster.api.latency = latency
            one, two = cluster.start("one", 1), cluster.start("two", 2)
            end = virtual_time() + 120.0
            while virtual_time() < end:
                assert not (one.shards and two.shards)
                await asyncio.sleep(0.1)
            assert one.shards or two.shards

    run_in_virtual_time(main())


@in_a_cluster
async def test_a_holder_leaves_to_a_newer_number_of_shards(cluster: Cluster) -> None:
    old = cluster.start("old", 1)
    await cluster.until(lambda: old.shards == {0}, within=1.0)
    await cluster.seconds(10.0)
    # As after a long outage in which the Lease of the old number ended.
    cluster.api.held_by("new", 0, of=2, seconds=3600)
    await cluster.until(lambda: old.shards == set(), within=5.0)
    renewed = cluster.api.renewed(0, 1)
    await cluster.seconds(60.0)
    assert old.shards == set()
    # Nor does it keep the Lease from others.
    assert cluster.api.renewed(0, 1) == renewed


@in_a_cluster
async def test_each_lease_has_the_namespaces_of_its_holder_as_soon_as_its_list_changes(
    cluster: Cluster,
) -> None:
    process = cluster.start("pod", 2)
    await cluster.until(lambda: process.shards == {0, 1}, within=30.0)

    def told() -> set[str]:
        return {each.metadata.annotations[SERVED_ANNOTATION] for each in stored(cluster)}

    assert told() == {served_annotation("pod", ["tests"])}
    process.served = ("unit-a", "unit-b")
    expected = {served_annotation("pod", ["unit-b", "unit-a"])}
    await cluster.until(lambda: told() == expected, within=TIMINGS.retry_period * 1.5)


@in_a_cluster
async def test_other_annotations_of_a_lease_stay(cluster: Cluster) -> None:
    process = cluster.start("pod", 1)
    await cluster.until(lambda: process.shards == {0}, within=10.0)
    (lease,) = stored(cluster)
    lease.metadata.annotations["example.com/note"] = "kept"
    process.served = ("unit-a",)
    await cluster.seconds(10.0)
    (lease,) = stored(cluster)
    assert lease.metadata.annotations == {
        "example.com/note": "kept",
        SERVED_ANNOTATION: served_annotation("pod", ["unit-a"]),
    }


def stored(cluster: Cluster) -> list[Any]:
    """Return the Leases of the API."""
    return list(cluster.api.leases.values())
