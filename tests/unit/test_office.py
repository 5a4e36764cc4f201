"""What exists: newer states win, finished events are gone and stay gone."""

from controller.office import FINISHED_REMEMBERED, Office, Shelf
from counterfoil.resources import EnvelopeEvent, Organization, Phase
from tests.builders import EventBuilder, an_event, an_organization


def an_unfinished(version: int) -> EnvelopeEvent:
    return an_event().at_version(version).in_phase(Phase.ARCHIVING).build()


def a_finished(version: int) -> EnvelopeEvent:
    return an_event().at_version(version).in_phase(Phase.SUCCEEDED).build()


NAME = an_event().build().name


def test_a_newer_state_replaces_an_older_one_and_not_the_other_way_round() -> None:
    office = Office()
    assert office.take_event(an_unfinished(5))
    assert not office.take_event(an_unfinished(4))
    assert not office.take_event(an_unfinished(5)), "the echo of what is known is no news"
    assert office.take_event(an_unfinished(6))
    assert office.events.get(NAME) == an_unfinished(6)


def test_versions_are_compared_as_numbers() -> None:
    office = Office()
    office.take_event(an_unfinished(99))
    assert office.take_event(an_unfinished(100))


def test_a_finished_event_is_not_kept() -> None:
    office = Office()
    office.take_event(an_unfinished(5))
    office.sender_of[NAME] = "anna"
    assert not office.take_event(a_finished(6))
    assert office.events.get(NAME) is None
    assert office.sender_of == {}


def test_the_late_echo_of_an_earlier_write_does_not_bring_a_finished_event_back() -> None:
    office = Office()
    office.take_event(an_unfinished(5))
    office.take_event(a_finished(7))
    assert not office.take_event(an_unfinished(6))
    assert len(office.events) == 0


def test_a_finished_event_that_was_reopened_is_back() -> None:
    office = Office()
    office.take_event(a_finished(7))
    assert office.take_event(an_unfinished(8))
    assert office.events.get(NAME) == an_unfinished(8)


def test_that_the_watch_tells_late_that_it_was_finished_does_not_drop_what_was_reopened_since() -> None:
    office = Office()
    office.take_event(a_finished(7))
    office.take_event(an_unfinished(8))
    assert not office.left_watch(NAME, 7)
    assert office.events.get(NAME) == an_unfinished(8)


def test_an_event_that_left_the_watch_is_gone() -> None:
    office = Office()
    office.take_event(an_unfinished(5))
    assert office.left_watch(NAME, 6)
    assert office.events.get(NAME) is None


def test_an_event_that_was_deleted_and_noted_down_again_is_another_one() -> None:
    office = Office()
    office.take_event(a_finished(7))
    office.left_watch(NAME, 8)
    assert office.take_event(an_unfinished(9))


def test_finished_events_cost_no_memory_even_if_no_watch_ever_tells_of_them() -> None:
    office = Office()
    for number in range(FINISHED_REMEMBERED + 100):
        office.take_event(EventBuilder().named(f"event-{number}").in_phase(Phase.FAILED).build())
    assert office.finished_remembered == FINISHED_REMEMBERED


def test_a_resource_of_the_same_name_but_another_uid_is_news_whatever_its_version() -> None:
    shelf: Shelf[Organization] = Shelf()
    shelf.put(an_organization(version=50))
    other = Organization.parse(
        {
            **an_organization(version=9).to_dict(),
            "metadata": {"name": "acme", "uid": "another", "resourceVersion": "9"},
        }
    )
    assert shelf.put(other)


def test_a_shelf_can_be_gone_through_while_it_changes() -> None:
    shelf: Shelf[Organization] = Shelf()
    shelf.put(an_organization("a"))
    shelf.put(an_organization("b"))
    for each in shelf:
        shelf.remove(each.name)
    assert len(shelf) == 0
