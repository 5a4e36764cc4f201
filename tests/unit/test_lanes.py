"""Who is next."""

from hypothesis import given
from hypothesis import strategies as st

from controller.lanes import Lanes, Room, Ticket

ROOM = Room(process=100, organization={"acme": 100}, sender={"acme": 100}, archive={"dms": 100})


def ticket(number: int, *, envelope: str | None = None, sender: str = "anna", archive: str = "dms") -> Ticket:
    return Ticket(
        age=f"{number:05}",
        event=f"event-{number}",
        envelope=envelope or f"envelope-{number}",
        organization="acme",
        sender=sender,
        archive=archive,
    )


def taken(lanes: Lanes, room: Room = ROOM) -> list[str]:
    return [each.event for each in lanes.take(room)]


def lanes_with(*tickets: Ticket) -> Lanes:
    lanes = Lanes()
    for each in tickets:
        lanes.add(each)
    return lanes


def test_the_oldest_event_is_first_over_all_senders() -> None:
    lanes = lanes_with(ticket(3, sender="ben"), ticket(1), ticket(2, sender="ben"), ticket(4))
    assert taken(lanes) == ["event-1", "event-2", "event-3", "event-4"]


def test_a_sender_with_many_events_starves_nobody() -> None:
    many = [ticket(number) for number in range(1000)]
    lanes = lanes_with(*many, ticket(5000, sender="ben"))
    room = Room(process=16, organization={"acme": 16}, sender={"acme": 4}, archive={})
    assert taken(lanes, room) == ["event-0", "event-1", "event-2", "event-3", "event-5000"]


def test_the_limit_of_the_process_holds() -> None:
    lanes = lanes_with(*(ticket(number) for number in range(10)))
    assert (
        len(taken(lanes, Room(process=3, organization={"acme": 9}, sender={"acme": 9}, archive={"dms": 9})))
        == 3
    )


def test_the_limit_of_an_organization_holds() -> None:
    lanes = lanes_with(*(ticket(number) for number in range(10)))
    assert (
        len(taken(lanes, Room(process=9, organization={"acme": 2}, sender={"acme": 9}, archive={"dms": 9})))
        == 2
    )


def test_the_limit_of_an_archive_holds() -> None:
    lanes = lanes_with(*(ticket(number) for number in range(10)))
    assert (
        len(taken(lanes, Room(process=9, organization={"acme": 9}, sender={"acme": 9}, archive={"dms": 5})))
        == 5
    )


def test_two_events_of_one_envelope_are_never_out_at_once() -> None:
    lanes = lanes_with(ticket(1, envelope="same"), ticket(2, envelope="same"), ticket(3))
    assert taken(lanes) == ["event-1", "event-3"]
    lanes.back("event-1")
    assert taken(lanes) == ["event-2"]


def test_a_second_event_of_an_envelope_does_not_block_those_behind_it() -> None:
    lanes = lanes_with(ticket(1, envelope="same"))
    assert taken(lanes) == ["event-1"]
    for each in (ticket(2, envelope="same"), ticket(3), ticket(4)):
        lanes.add(each)
    assert taken(lanes) == ["event-3", "event-4"]


def test_a_dropped_event_is_not_handed_out() -> None:
    lanes = lanes_with(ticket(1), ticket(2))
    lanes.drop("event-1")
    assert taken(lanes) == ["event-2"]


def test_an_occupied_envelope_is_left_alone_until_it_is_vacated() -> None:
    lanes = Lanes()
    assert lanes.occupy("envelope-1")
    lanes.add(ticket(1))
    assert taken(lanes) == []
    lanes.vacate("envelope-1")
    assert taken(lanes) == ["event-1"]


def test_an_envelope_in_work_cannot_be_occupied() -> None:
    lanes = lanes_with(ticket(1))
    assert taken(lanes) == ["event-1"]
    assert not lanes.occupy("envelope-1")


def test_an_event_that_moves_to_another_sender_is_handed_out_once() -> None:
    lanes = lanes_with(ticket(1, sender=""))
    lanes.add(ticket(1, sender="anna"))
    assert taken(lanes) == ["event-1"]


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 5), st.sampled_from(["anna", "ben", ""])), max_size=60
    ),
    st.integers(1, 6),
)
def test_every_event_is_handed_out_exactly_once_and_no_envelope_twice_at_a_time(
    wanted: list[tuple[int, int, str]], places: int
) -> None:
    lanes = Lanes()
    tickets = {
        number: ticket(number, envelope=f"envelope-{envelope}", sender=sender)
        for number, envelope, sender in wanted
    }
    for each in tickets.values():
        lanes.add(each)
    room = Room(
        process=places, organization={"acme": places}, sender={"acme": places}, archive={"dms": places}
    )
    seen: list[str] = []
    out: list[Ticket] = []
    while lanes.queued or out:
        out += list(lanes.take(room))
        assert len({each.envelope for each in out}) == len(out) <= places
        done = out.pop(0)
        seen.append(done.event)
        lanes.back(done.event)
    assert sorted(seen) == sorted(each.event for each in tickets.values())
