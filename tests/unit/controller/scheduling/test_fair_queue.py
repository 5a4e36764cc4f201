"""Order of the events in the fair queue."""

from hypothesis import given
from hypothesis import strategies as st

from controller.scheduling.fair_queue import ConcurrencyLimits, FairQueue, QueueItem

ROOM = ConcurrencyLimits(process=100, organization={"acme": 100}, sender={"acme": 100}, archive={"dms": 100})


def item(
    number: int, *, envelope: str | None = None, sender: str = "anna", archive: str = "dms"
) -> QueueItem:
    return QueueItem(
        sort_key=f"{number:05}",
        event=f"event-{number}",
        envelope=envelope or f"envelope-{number}",
        organization="acme",
        sender=sender,
        archive=archive,
    )


def taken(fair_queue: FairQueue, concurrency_limits: ConcurrencyLimits = ROOM) -> list[str]:
    return [each.event for each in fair_queue.take(concurrency_limits)]


def queue_with(*items: QueueItem) -> FairQueue:
    fair_queue = FairQueue()
    for each in items:
        fair_queue.add(each)
    return fair_queue


def test_the_oldest_event_is_first_over_all_senders() -> None:
    fair_queue = queue_with(item(3, sender="ben"), item(1), item(2, sender="ben"), item(4))
    assert taken(fair_queue) == ["event-1", "event-2", "event-3", "event-4"]


def test_a_sender_with_many_events_starves_nobody() -> None:
    many = [item(number) for number in range(1000)]
    fair_queue = queue_with(*many, item(5000, sender="ben"))
    concurrency_limits = ConcurrencyLimits(
        process=16, organization={"acme": 16}, sender={"acme": 4}, archive={}
    )
    assert taken(fair_queue, concurrency_limits) == ["event-0", "event-1", "event-2", "event-3", "event-5000"]


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


def test_an_occupied_envelope_is_left_alone_until_it_is_vacated() -> None:
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
