"""Order of the events in the fair queue."""

import random
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.scheduling.fair_queue import ConcurrencyLimits, FairQueue, QueueItem

ROOM = ConcurrencyLimits(process=100, organization={"acme": 100}, sender={"acme": 100}, archive={"dms": 100})


def item(
    number: int,
    *,
    envelope: str | None = None,
    organization: str = "acme",
    sender: str = "anna",
    archive: str = "dms",
    is_import: bool = False,
) -> QueueItem:
    return QueueItem(
        sort_key=f"{int(is_import)} {number:05}",
        event=f"event-{number}",
        envelope=envelope or f"envelope-{number}",
        organization=organization,
        sender=sender,
        archive=archive,
        is_import=is_import,
    )


def taken(fair_queue: FairQueue, concurrency_limits: ConcurrencyLimits = ROOM) -> list[str]:
    return [each.event for each in fair_queue.take(concurrency_limits)]


def queue_with(*items: QueueItem) -> FairQueue:
    fair_queue = FairQueue()
    for each in items:
        fair_queue.add(each)
    return fair_queue


def test_the_oldest_event_of_a_sender_is_first_and_senders_take_turns() -> None:
    fair_queue = queue_with(item(3, sender="ben"), item(1), item(2, sender="ben"), item(4))
    assert taken(fair_queue) == ["event-2", "event-1", "event-3", "event-4"]


def test_an_event_of_an_import_comes_after_every_other_event_of_any_sender() -> None:
    fair_queue = queue_with(
        item(1, is_import=True),
        item(2, is_import=True, sender="ben", organization="other"),
        item(8),
        item(9, sender="ben"),
    )
    assert taken(fair_queue)[:2] == ["event-8", "event-9"]


@pytest.mark.parametrize("limit", ["process", "organization", "sender", "archive"])
def test_a_callback_finds_a_free_place_at_each_limit_during_an_import(limit: str) -> None:
    numbers = {"process": 100, "organization": 100, "sender": 100, "archive": 100, limit: 8}
    limits = ConcurrencyLimits(
        process=numbers["process"],
        organization={"acme": numbers["organization"]},
        sender={"acme": numbers["sender"]},
        archive={"dms": numbers["archive"]},
    )
    fair_queue = queue_with(*(item(number, is_import=True) for number in range(200)))
    assert len(taken(fair_queue, limits)) == 6
    fair_queue.add(item(999))
    assert taken(fair_queue, limits) == ["event-999"]


def test_a_callback_finds_a_free_place_in_an_archive_that_events_of_an_import_choose() -> None:
    limits = ConcurrencyLimits(
        process=100, organization={"acme": 100}, sender={"acme": 100}, archive={"vault": 8}
    )
    fair_queue = queue_with(*(item(number, archive="", is_import=True) for number in range(12)), item(99))

    def entered(event: str) -> bool:
        return fair_queue.move(event, "vault", limits)

    started = [each for each in taken(fair_queue, limits) if each != "event-99"]
    inside = [each for each in started if entered(each)]
    assert (len(started), len(inside)) == (12, 6)
    assert entered("event-99")
    # What has begun there takes any free place again after a pause.
    fair_queue.pause(inside[0])
    assert fair_queue.resume(inside[0], limits)


def test_an_import_makes_progress_where_a_limit_is_one() -> None:
    limits = ConcurrencyLimits(process=1, organization={"acme": 1}, sender={"acme": 1}, archive={"dms": 1})
    fair_queue = queue_with(item(1, is_import=True), item(2, is_import=True))
    assert taken(fair_queue, limits) == ["event-1"]


@pytest.mark.parametrize("places", [1, 2, 8])
@pytest.mark.parametrize(("organization", "sender"), [("acme", "carol"), ("other", "dora")])
def test_two_busy_senders_delay_no_third_one_on_the_same_archive(
    places: int, organization: str, sender: str
) -> None:
    """Their events are older, and each sender alone may take half of the archive."""
    busy = [item(number, sender=("anna", "ben")[number % 2]) for number in range(1000)]
    fair_queue = queue_with(*busy)
    limits = ConcurrencyLimits(
        process=32,
        organization={"acme": 16, "other": 16},
        sender={"acme": max(1, places // 2), "other": 4},
        archive={"dms": places},
    )
    running = list(fair_queue.take(limits))
    late = item(9999, organization=organization, sender=sender)
    fair_queue.add(late)
    runs = 0
    while late not in running:
        fair_queue.done(running.pop(0).event)
        running += fair_queue.take(limits)
        runs += 1
    assert runs <= 3


@pytest.mark.parametrize("count", [2, 5])
def test_organizations_share_a_full_process(count: int) -> None:
    names = [f"organization-{number}" for number in range(count)]
    fair_queue = queue_with(
        *(
            item(1000 * place + number, organization=name, sender=f"sender-{number % 3}", archive=name)
            for place, name in enumerate(names)
            for number in range(300)
        )
    )
    limits = ConcurrencyLimits(process=2 * count, organization={}, sender={}, archive={})
    running = list(fair_queue.take(limits))
    assert {each: sum(item.organization == each for item in running) for each in names} == dict.fromkeys(
        names, 2
    )


def test_new_senders_do_not_pass_one_that_waits() -> None:
    fair_queue = queue_with(item(0), item(1, sender="patient"))
    limits = ConcurrencyLimits(process=1, organization={}, sender={}, archive={})
    (running,) = fair_queue.take(limits)
    fair_queue.add(item(2, sender="new"))
    fair_queue.done(running.event)
    assert taken(fair_queue, limits) == ["event-1"]


def test_finished_work_leaves_nothing_in_memory() -> None:
    fair_queue = queue_with(*(item(number, sender=f"sender-{number}") for number in range(20)))
    for event in taken(fair_queue):
        fair_queue.done(event)
    assert taken(fair_queue) == []
    assert not any(
        (fair_queue._queues, fair_queue._turns, fair_queue._running_counts, fair_queue._blocked_by_envelope)
    )


def test_a_sender_with_many_events_starves_nobody() -> None:
    many = [item(number) for number in range(1000)]
    fair_queue = queue_with(*many, item(5000, sender="ben"))
    concurrency_limits = ConcurrencyLimits(
        process=16, organization={"acme": 16}, sender={"acme": 4}, archive={}
    )
    assert taken(fair_queue, concurrency_limits) == ["event-0", "event-5000", "event-1", "event-2", "event-3"]


def test_the_limit_of_the_process_holds() -> None:
    fair_queue = queue_with(*(item(number) for number in range(10)))
    assert (
        len(
            taken(
                fair_queue,
                ConcurrencyLimits(
                    process=3, organization={"acme": 9}, sender={"acme": 9}, archive={"dms": 9}
                ),
            )
        )
        == 3
    )


def test_the_limit_of_an_organization_holds() -> None:
    fair_queue = queue_with(*(item(number) for number in range(10)))
    assert (
        len(
            taken(
                fair_queue,
                ConcurrencyLimits(
                    process=9, organization={"acme": 2}, sender={"acme": 9}, archive={"dms": 9}
                ),
            )
        )
        == 2
    )


def test_the_limit_of_an_archive_holds() -> None:
    fair_queue = queue_with(*(item(number) for number in range(10)))
    assert (
        len(
            taken(
                fair_queue,
                ConcurrencyLimits(
                    process=9, organization={"acme": 9}, sender={"acme": 9}, archive={"dms": 5}
                ),
            )
        )
        == 5
    )


def test_an_event_without_an_archive_waits_for_the_limit_of_none() -> None:
    fair_queue = queue_with(*(item(number)._replace(archive="") for number in range(20)))
    limits = ConcurrencyLimits(process=12, organization={"acme": 19}, sender={"acme": 19}, archive={})
    assert len(taken(fair_queue, limits)) == 12


def test_an_archive_without_room_delays_no_event_of_the_same_sender_for_another_one() -> None:
    limits = ConcurrencyLimits(process=9, organization={}, sender={"acme": 9}, archive={"mirror": 1})
    fair_queue = queue_with(*(item(number, archive="mirror") for number in range(3)), item(9))
    assert taken(fair_queue, limits) == ["event-0", "event-9"]


def test_who_is_busy_in_one_archive_has_its_share_of_each_other_one() -> None:
    """Else each place in a shared Archive of copies goes to those that do nothing else."""
    limits = ConcurrencyLimits(
        process=99, organization={}, sender={"acme": 16, "other": 16}, archive={"dms": 64, "worm": 2}
    )
    fair_queue = queue_with(
        *(item(number) for number in range(10)),
        *(item(100 + number, organization="other", archive="worm") for number in range(9)),
    )
    assert {"event-100", "event-101"} <= set(taken(fair_queue, limits))
    fair_queue.add(item(999, archive="worm"))
    fair_queue.done("event-100")
    assert taken(fair_queue, limits) == ["event-999"]


@pytest.mark.parametrize("is_of_same", [True, False], ids=["senders", "organizations"])
def test_who_is_busy_elsewhere_hides_nobody_in_an_archive_with_room(*, is_of_same: bool) -> None:
    """Events for that Archive are left of a time when it was full."""

    def of(name: str) -> dict[str, Any]:
        return {"organization": "acme" if is_of_same else name, "sender": name}

    limits = ConcurrencyLimits(process=10, organization={}, sender={}, archive={"dms": 16, "worm": 8})
    busy, late = of("busy"), of("late")
    fair_queue = queue_with(*(item(number, **busy) for number in range(3)), item(3, archive="worm", **late))
    assert len(taken(fair_queue, limits)) == 4
    backlog = [item(100 + number, **of(("ben", "carol")[number % 2])) for number in range(100)]
    for each in backlog:
        fair_queue.add(each)
    order = taken(fair_queue, limits)
    fair_queue.add(item(51, archive="worm", **busy))
    fair_queue.add(item(50, archive="worm", **late))
    while "event-50" not in order:
        fair_queue.done(order[-1])
        order += taken(fair_queue, limits)
    assert len(order) < 12


def waits(fair_queue: FairQueue, limits: ConcurrencyLimits, event: QueueItem, archive: str) -> None:
    """Start an event, and let its run wait for a full Archive."""
    fair_queue.add(event)
    assert event.event in taken(fair_queue, limits)
    assert not fair_queue.move(event.event, archive, limits)
    assert fair_queue.wait(event.event, archive, limits)


def test_a_run_that_waits_resumes_where_the_queue_of_its_archive_may_not_start() -> None:
    """An event of an Import has the turn there, and comes last in a full process."""
    limits = ConcurrencyLimits(process=4, organization={}, sender={}, archive={"mirror": 1, "dms": 9})
    fair_queue = queue_with(item(0, archive="mirror"))
    assert taken(fair_queue, limits) == ["event-0"]
    waits(fair_queue, limits, item(1, organization="small"), "mirror")
    fair_queue.done("event-0")
    assert taken(fair_queue, limits) == ["event-1"]
    fair_queue.add(item(2, organization="bulk", archive="mirror", is_import=True))
    waits(fair_queue, limits, item(3, organization="small"), "mirror")
    for number in range(10, 50):
        fair_queue.add(item(number, organization="big"))
    taken(fair_queue, limits)
    fair_queue.done("event-1")
    assert taken(fair_queue, limits)[0] == "event-3"


def test_the_place_of_a_queued_event_goes_to_no_other_archive() -> None:
    """A Sender at its limit has an older backlog elsewhere."""
    limits = ConcurrencyLimits(process=64, organization={}, sender={}, archive={"dms": 8, "mirror": 1})
    fair_queue = queue_with(item(0, archive="mirror"))
    assert taken(fair_queue, limits) == ["event-0"]
    waits(fair_queue, limits, item(1), "mirror")
    fair_queue.done("event-0")
    assert taken(fair_queue, limits) == ["event-1"]
    waits(fair_queue, limits, item(2), "mirror")
    fair_queue.add(item(900, archive="mirror"))
    for number in range(10, 99):
        fair_queue.add(item(number))
    assert len(taken(fair_queue, limits)) == 3
    fair_queue.done("event-1")
    assert taken(fair_queue, limits) == ["event-900"]
    fair_queue.done("event-900")
    assert taken(fair_queue, limits) == ["event-2"]


def test_no_run_of_an_import_resumes_before_a_queued_callback() -> None:
    limits = ConcurrencyLimits(process=9, organization={}, sender={}, archive={"dms": 9, "worm": 1})
    fair_queue = queue_with(item(0, archive="worm"))
    assert taken(fair_queue, limits) == ["event-0"]
    waits(fair_queue, limits, item(1, organization="bulk", is_import=True), "worm")
    for number in range(2, 5):
        fair_queue.add(item(number, archive="worm"))
    order = ["event-0"]
    while order[-1] != "event-1":
        fair_queue.done(order[-1])
        order += taken(fair_queue, limits)
    assert order == ["event-0", "event-2", "event-3", "event-4", "event-1"]


def test_an_organization_at_its_limit_gets_into_an_archive_that_is_always_full() -> None:
    """Its limit and the Archive never have room at the same moment."""
    limits = ConcurrencyLimits(
        process=99,
        organization={"acme": 2, "other": 99},
        sender={"acme": 2, "other": 99},
        archive={"worm": 2},
    )
    others = [item(number, organization="other", archive="worm") for number in range(50)]
    fair_queue = queue_with(*others)
    assert taken(fair_queue, limits) == ["event-0", "event-1"]
    waits(fair_queue, limits, item(100), "worm")
    for number in range(101, 150):
        fair_queue.add(item(number))
    assert taken(fair_queue, limits) == ["event-101", "event-102"]

    fair_queue.done("event-0")
    assert taken(fair_queue, limits) == [], "the place is kept for the one that lacks only its Organization's"
    fair_queue.done("event-1")
    assert taken(fair_queue, limits) == ["event-2"], "one place, not each"
    fair_queue.done("event-101")
    assert taken(fair_queue, limits) == ["event-100"]


def test_the_only_place_of_an_archive_is_kept_for_nobody() -> None:
    limits = ConcurrencyLimits(process=99, organization={"acme": 1}, sender={}, archive={"worm": 1})
    fair_queue = queue_with(*(item(number, organization="other", archive="worm") for number in range(2)))
    assert taken(fair_queue, limits) == ["event-0"]
    waits(fair_queue, limits, item(100), "worm")
    fair_queue.add(item(101))
    assert taken(fair_queue, limits) == ["event-101"]
    fair_queue.done("event-0")
    assert taken(fair_queue, limits) == ["event-1"]


def test_a_place_that_is_kept_is_free_once_the_wait_ends() -> None:
    limits = ConcurrencyLimits(process=99, organization={"acme": 1}, sender={}, archive={"worm": 2})
    fair_queue = queue_with(*(item(number, organization="other", archive="worm") for number in range(4)))
    assert taken(fair_queue, limits) == ["event-0", "event-1"]
    waits(fair_queue, limits, item(100), "worm")
    fair_queue.add(item(101))
    assert taken(fair_queue, limits) == ["event-101"]
    fair_queue.done("event-0")
    assert taken(fair_queue, limits) == []
    fair_queue.give_up("event-100")
    assert taken(fair_queue, limits) == ["event-2"]


def test_the_first_run_of_an_organization_may_wait_beside_those_of_others() -> None:
    limits = ConcurrencyLimits(process=9, organization={}, sender={}, archive={"dms": 9, "worm": 1})
    fair_queue = queue_with(item(0, archive="worm"), *(item(number) for number in range(1, 4)))
    fair_queue.add(item(9, organization="other"))
    taken(fair_queue, limits)
    assert [fair_queue.wait(f"event-{number}", "worm", limits) for number in (1, 2, 9)] == [True, False, True]


def test_queues_for_full_archives_cost_a_start_nothing() -> None:
    limits = ConcurrencyLimits(
        process=99, organization={"acme": 99}, sender={"acme": 99}, archive={"dms": 8, "mirror": 16}
    )
    fair_queue = queue_with(
        *(item(number, sender=f"sender-{number}", archive="mirror") for number in range(16))
    )
    running = taken(fair_queue, limits)
    for number in range(100, 116):
        waits(fair_queue, limits, item(number, sender=f"sender-{number}"), "mirror")
    fair_queue.done(running.pop())
    assert taken(fair_queue, limits) == ["event-100"], "from now on it is the turn of the queue"
    for number in range(1000, 6000):
        fair_queue.add(item(number, sender=f"sender-{number}"))
    assert len(taken(fair_queue, limits)) == limits.archive["dms"]
    assert calls_of(lambda: taken(fair_queue, limits)) < 500


def test_runs_that_wait_for_one_archive_share_a_look_at_its_queues() -> None:
    senders = 200
    limits = ConcurrencyLimits(
        process=99,
        organization={"acme": 99, "busy": 4},
        sender={"acme": 99, "busy": 99},
        archive={"dms": 99, "worm": 9},
    )
    fair_queue = queue_with(*(item(number, archive="worm") for number in range(9)))
    running = taken(fair_queue, limits)
    for number in range(100, 109):
        waits(fair_queue, limits, item(number, organization="busy"), "worm")
    fair_queue.done(running.pop())
    assert taken(fair_queue, limits) == ["event-100"], "from now on it is the turn of the queue"
    for number in range(200, 203):
        fair_queue.add(item(number, organization="busy"))
    assert len(taken(fair_queue, limits)) == 3, "the others that wait lack a place of their Organization"
    for number in range(300, 300 + senders):
        fair_queue.add(item(number, sender=f"sender-{number}", archive="worm"))
    fair_queue.done(running.pop())
    assert calls_of(lambda: taken(fair_queue, limits)) < 6 * senders


def calls_of(work: Callable[[], Any]) -> int:
    """Return how many functions and generators of Python this work enters."""
    calls = 0

    def count(_frame: Any, what: str, _argument: Any) -> None:
        nonlocal calls
        calls += what == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def test_a_start_examines_each_waiting_sender_with_few_calls() -> None:
    """Each end of a run looks at each sender that waits."""
    senders = 200
    fair_queue = queue_with(*(item(number, sender=f"sender-{number}") for number in range(senders)))
    limits = ConcurrencyLimits(process=32, organization={"acme": 16}, sender={"acme": 4}, archive={"dms": 8})
    assert len(taken(fair_queue, limits)) == limits.archive["dms"]
    assert calls_of(lambda: taken(fair_queue, limits)) < 6 * senders


def test_a_sender_that_waits_no_longer_is_forgotten_without_a_look_at_all_others() -> None:
    senders = 200
    items = [item(number, sender=f"sender-{number}") for number in range(senders)]
    fair_queue = queue_with(*items)
    for each in items:
        fair_queue.drop(each.event)
    assert calls_of(lambda: taken(fair_queue)) < 10 * senders
    assert not fair_queue._turns


def test_an_event_of_an_import_that_waited_leaves_a_part_of_each_limit_free() -> None:
    limits = ConcurrencyLimits(process=9, organization={"acme": 2}, sender={}, archive={"vault": 1})
    fair_queue = queue_with(item(1, archive="", is_import=True))
    assert taken(fair_queue, limits) == ["event-1"]
    fair_queue.add(item(2, archive="vault"))
    assert taken(fair_queue, limits) == ["event-2"]
    assert fair_queue.wait("event-1", "vault", limits)
    fair_queue.done("event-2")
    fair_queue.add(item(3))
    assert taken(fair_queue, limits) == ["event-3"], "one of two places is for callbacks"
    fair_queue.done("event-3")
    assert taken(fair_queue, limits) == ["event-1"]


def test_two_events_of_one_envelope_are_never_out_at_once() -> None:
    fair_queue = queue_with(item(1, envelope="same"), item(2, envelope="same"), item(3))
    assert taken(fair_queue) == ["event-1", "event-3"]
    fair_queue.done("event-1")
    assert taken(fair_queue) == ["event-2"]


def test_a_second_event_of_an_envelope_does_not_block_those_behind_it() -> None:
    fair_queue = queue_with(item(1, envelope="same"))
    assert taken(fair_queue) == ["event-1"]
    for each in (item(2, envelope="same"), item(3), item(4)):
        fair_queue.add(each)
    assert taken(fair_queue) == ["event-3", "event-4"]


def test_a_dropped_event_is_not_handed_out() -> None:
    fair_queue = queue_with(item(1), item(2))
    fair_queue.drop("event-1")
    assert taken(fair_queue) == ["event-2"]


def test_an_occupied_envelope_is_not_changed_until_it_is_vacated() -> None:
    fair_queue = FairQueue()
    assert fair_queue.acquire("envelope-1")
    fair_queue.add(item(1))
    assert taken(fair_queue) == []
    fair_queue.release("envelope-1")
    assert taken(fair_queue) == ["event-1"]


def test_an_envelope_in_work_cannot_be_occupied() -> None:
    fair_queue = queue_with(item(1))
    assert taken(fair_queue) == ["event-1"]
    assert not fair_queue.acquire("envelope-1")


def test_an_event_that_moves_to_another_sender_is_handed_out_once() -> None:
    fair_queue = queue_with(item(1, sender=""))
    fair_queue.add(item(1, sender="anna"))
    assert taken(fair_queue) == ["event-1"]


class RandomRuns:
    """Random sequences of all that happens to a queue. What is counted is what is held, and no limit is
    passed."""

    def __init__(self, seed: int) -> None:
        self.random, self.fair_queue = random.Random(seed), FairQueue()
        pick = self.random.randint
        self.archives = {name: pick(1, 3) for name in ("dms", "worm", "mirror")}
        self.limits = ConcurrencyLimits(
            process=pick(1, 8),
            organization={each: pick(1, 6) for each in "ab"},
            sender={each: pick(1, 4) for each in "ab"},
            archive=self.archives,
        )
        self.added, self.running = set[str](), set[str]()
        self.waiting, self.paused = set[str](), set[str]()

    def add(self, number: int) -> None:
        one = self.random.choice
        found = item(
            number,
            envelope=f"envelope-{self.random.randint(0, 25)}",
            organization=one("ab"),
            sender=one("xyz"),
            archive=one(["", *self.archives]),
            is_import=self.random.random() < 0.2,
        )
        self.fair_queue.add(found)
        self.added.add(found.event)

    def free(self) -> list[str]:
        return sorted(self.running - self.waiting - self.paused)

    def step(self) -> None:
        fair_queue, free, chance = self.fair_queue, self.free(), self.random.random()
        if free and chance < 0.4:
            event, archive = self.random.choice(free), self.random.choice(sorted(self.archives))
            has_moved = fair_queue.move(event, archive, self.limits)
            if not has_moved and fair_queue.wait(event, archive, self.limits):
                self.waiting.add(event)
        elif free and chance < 0.5:
            event = self.random.choice(free)
            fair_queue.pause(event)
            if not fair_queue.resume(event, self.limits):
                self.paused.add(event)
        elif free and chance < 0.9:
            self.end(self.random.choice(free))
        elif self.waiting:
            event = self.random.choice(sorted(self.waiting))
            fair_queue.give_up(event)
            self.waiting.discard(event)
        self.start()

    def end(self, event: str) -> None:
        self.fair_queue.done(event)
        self.running.discard(event)
        self.added.discard(event)

    def start(self) -> None:
        for each in self.fair_queue.take(self.limits):
            self.waiting.discard(each.event)
            self.paused.discard(each.event)
            self.running.add(each.event)
        held, counts = self.fair_queue._held, self.fair_queue._running_counts
        assert counts == Counter(key for keys in held.values() for key in keys)
        assert counts["process", ""] <= self.limits.process
        for name, limit in self.archives.items():
            assert counts["archive", name] <= limit
        queues = [each for found in self.fair_queue._queues.values() for each in found.values()]
        assert self.fair_queue._queue_counts == Counter(key for each in queues for key in each.turns)
        assert set(self.fair_queue._turns) == set(self.fair_queue._queue_counts)


@pytest.mark.parametrize("seed", range(60))
def test_after_any_sequence_all_are_served_and_no_limit_is_passed(seed: int) -> None:
    runs = RandomRuns(seed)
    for number in range(60):
        runs.add(number)
        for _ in range(4):
            runs.step()
    for _ in range(300):
        for each in runs.free():
            runs.end(each)
        runs.start()
    assert (runs.added, runs.running) == (set(), set())


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 5), st.sampled_from(["anna", "ben", ""])), max_size=60
    ),
    st.integers(1, 6),
)
def test_every_event_is_handed_out_exactly_once_and_no_envelope_twice_at_a_time(
    wanted: list[tuple[int, int, str]], places: int
) -> None:
    fair_queue = FairQueue()
    items = {
        number: item(number, envelope=f"envelope-{envelope}", sender=sender)
        for number, envelope, sender in wanted
    }
    for each in items.values():
        fair_queue.add(each)
    concurrency_limits = ConcurrencyLimits(
        process=places, organization={"acme": places}, sender={"acme": places}, archive={"dms": places}
    )
    seen: list[str] = []
    out: list[QueueItem] = []
    while fair_queue.queued_count or out:
        out += list(fair_queue.take(concurrency_limits))
        assert len({each.envelope for each in out}) == len(out) <= places
        done = out.pop(0)
        seen.append(done.event)
        fair_queue.done(done.event)
    assert sorted(seen) == sorted(each.event for each in items.values())
