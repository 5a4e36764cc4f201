"""Order of the events in the fair queue."""

import sys
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
    assert taken(fair_queue, limits) == ["event-3"]
    assert not fair_queue.resume("event-1", limits), "one of two places is for callbacks"
    fair_queue.done("event-3")
    assert fair_queue.resume("event-1", limits)


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
