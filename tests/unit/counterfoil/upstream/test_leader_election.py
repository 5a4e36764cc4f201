"""kubernetes.aio.leaderelection: what client-go does and the library does not; ``RobustLeaseLock`` and a
clock add it."""

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from kubernetes.aio.client import V1LeaseSpec
from kubernetes.aio.leaderelection import leaderelection
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelectionrecord import LeaderElectionRecord
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from counterfoil._upstream.leader_election import RobustLeaseLock, boot_time, leader_election_class
from tests.support.builders import NOON
from tests.support.fakes.lease_api import InMemoryLeases
from tests.support.virtual_time import run_in_virtual_time, virtual_time

RECORD = LeaderElectionRecord("me", "15", "2026-07-01 14:00:00.5", "2026-07-01 14:00:00.5")
"""As the library makes it at noon UTC in Vienna."""


class PlainLock(LeaseLock):
    """The library's lock over the API in memory."""

    def __init__(self, api: InMemoryLeases, identity: str = "me") -> None:
        super().__init__("the-lease", "tests", identity, api.api_client)
        self.api_instance = api


def robust_lock(api: InMemoryLeases, identity: str = "me") -> RobustLeaseLock:
    return RobustLeaseLock(
        "the-lease",
        "tests",
        identity,
        api,
        labels={"a": "b"},
        annotations=lambda: {"c": "d"},
        request_timeout=5.0,
        now=lambda: NOON,
    )


Lock = Callable[[InMemoryLeases], LeaseLock]

EACH_LOCK = pytest.mark.parametrize(
    ("lock", "is_faulty"),
    [
        # A test that fails for PlainLock: that part of counterfoil._upstream.leader_election can go.
        (PlainLock, True),
        (robust_lock, False),
    ],
    ids=["library", "robust"],
)


async def stored(api: InMemoryLeases, lock: LeaseLock) -> Any:
    assert await lock.create(lock.name, "tests", RECORD)
    return api.leases["the-lease"]


@EACH_LOCK
def test_the_times_of_a_lease_are_in_utc(lock: Lock, is_faulty: bool) -> None:
    async def main() -> datetime:
        api = InMemoryLeases()
        renewed: datetime = (await stored(api, lock(api))).spec.renew_time
        return renewed

    assert (abs(run_in_virtual_time(main()) - NOON) > timedelta(seconds=1)) is is_faulty


@EACH_LOCK
def test_a_time_without_microseconds_is_written_with_six_digits(lock: Lock, is_faulty: bool) -> None:
    async def main() -> str:
        mine = lock(InMemoryLeases())
        held = V1LeaseSpec(holder_identity="me", acquire_time=NOON, renew_time=NOON)
        renewed = mine.update_lease(LeaderElectionRecord("me", "15", str(NOON), str(NOON)), held)
        # The generated client writes a time by ``isoformat``.
        return " ".join(each.isoformat() for each in (renewed.acquire_time, renewed.renew_time))

    assert ("." not in run_in_virtual_time(main())) is is_faulty


@EACH_LOCK
def test_a_new_lease_has_labels(lock: Lock, is_faulty: bool) -> None:
    async def main() -> bool:
        api = InMemoryLeases()
        return bool((await stored(api, lock(api))).metadata.labels)

    assert run_in_virtual_time(main()) is not is_faulty


@EACH_LOCK
def test_a_lease_counts_its_holders(lock: Lock, is_faulty: bool) -> None:
    async def main() -> int | None:
        api = InMemoryLeases()
        await stored(api, robust_lock(api, "another"))
        mine = lock(api)
        await mine.get(mine.name, "tests")
        assert await mine.update(mine.name, "tests", RECORD)
        lease: Any = api.leases["the-lease"]
        transitions: int | None = lease.spec.lease_transitions
        return transitions

    assert (run_in_virtual_time(main()) != 1) is is_faulty


@EACH_LOCK
@pytest.mark.parametrize("verb", ["get", "create", "update"])
def test_an_error_that_is_not_of_the_api_server_ends_no_election(
    lock: Lock, is_faulty: bool, verb: str
) -> None:
    async def main() -> None:
        api = InMemoryLeases()
        mine = lock(api)
        if verb == "update":
            await stored(api, mine)
        api.fault = lambda each: OSError("connection reset") if each == verb else None
        await leader_election_class(virtual_time)(config(mine)).try_acquire_or_renew()

    if is_faulty:
        with pytest.raises(OSError, match="connection reset"):
            run_in_virtual_time(main())
    else:
        run_in_virtual_time(main())


@EACH_LOCK
def test_a_request_without_an_answer_ends(lock: Lock, is_faulty: bool) -> None:
    async def main() -> bool:
        api = InMemoryLeases()
        api.hangs = True
        mine = lock(api)
        began = virtual_time()
        await mine.get(mine.name, "tests")
        return virtual_time() - began > 60.0

    assert run_in_virtual_time(main()) is is_faulty


@EACH_LOCK
def test_a_stopped_holder_can_release_its_lease(lock: Lock, is_faulty: bool) -> None:
    assert hasattr(lock(InMemoryLeases()), "release") is not is_faulty


def test_a_released_lease_is_taken_by_the_next_candidate_at_once() -> None:
    async def main() -> str | None:
        api = InMemoryLeases()
        mine = robust_lock(api)
        await stored(api, mine)
        assert await mine.release()
        released: Any = api.leases["the-lease"]
        assert (released.spec.holder_identity, released.spec.lease_duration_seconds) == ("", 1)
        # A second release, or one by somebody else, changes nothing.
        assert not await mine.release()
        assert await leader_election_class(virtual_time)(
            config(robust_lock(api, "next"))
        ).try_acquire_or_renew()
        assert not await mine.release()
        lease: Any = api.leases["the-lease"]
        return str(lease.spec.holder_identity)

    assert run_in_virtual_time(main()) == "next"


@pytest.mark.parametrize(
    ("election", "is_faulty"),
    [
        # False for the library: leader_election_class can go.
        (leaderelection.LeaderElection, True),
        (leader_election_class(boot_time), False),
    ],
)
def test_a_clock_that_is_set_does_not_move_the_end_of_a_lease(election: Any, is_faulty: bool) -> None:
    """Because it is measured by a clock that only moves forward."""
    clock = election.try_acquire_or_renew.__globals__["time"].time
    assert (clock is time.time) is is_faulty
    assert abs(boot_time() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 5.0


def test_the_copy_with_another_clock_leaves_the_library_as_it_is() -> None:
    leader_election_class(virtual_time)
    assert leaderelection.LeaderElection.run.__globals__["time"] is time


def config(lock: LeaseLock) -> Config:
    async def nothing() -> None:
        return None

    return Config(lock, 15, 10, 2, nothing, nothing)
