"""Cache of the existing objects: newer states win, finished events are gone and stay gone."""

from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from controller.cache import MAX_FINISHED_VERSIONS, Cache, EventStore, Store, version_number
from counterfoil.resources import (
    CLAIM_ANNOTATION,
    TRACEPARENT_ANNOTATION,
    Archive,
    EnvelopeEvent,
    Organization,
    Phase,
    Resource,
    Sender,
    SenderKey,
    base,
)
from counterfoil.resources.audit_annotation import ACTS_ANNOTATION
from counterfoil.resources.base import LocalObjectReference
from tests.support.builders import EventBuilder, a_sender, an_event, an_organization
from tests.support.fakes.reconcile_context import an_archive


def an_unfinished(version: int) -> EnvelopeEvent:
    return an_event().at_version(version).in_phase(Phase.ARCHIVING).build()


def a_finished(version: int) -> EnvelopeEvent:
    return an_event().at_version(version).in_phase(Phase.SUCCEEDED).build()


NAME = an_event().build().name


def test_a_newer_state_replaces_an_older_one_and_not_the_other_way_round() -> None:
    cache = Cache()
    assert cache.update_event(an_unfinished(5))
    assert not cache.update_event(an_unfinished(4))
    assert not cache.update_event(an_unfinished(5)), "a version that the cache has already is no change"
    assert cache.update_event(an_unfinished(6))
    assert cache.events.get(NAME) == an_unfinished(6)


def test_versions_are_compared_as_numbers() -> None:
    cache = Cache()
    cache.update_event(an_unfinished(99))
    assert cache.update_event(an_unfinished(100))


def test_a_finished_event_is_not_kept() -> None:
    cache = Cache()
    cache.update_event(an_unfinished(5))
    cache.sender_of[NAME] = "anna"
    assert not cache.update_event(a_finished(6))
    assert cache.events.get(NAME) is None
    assert cache.sender_of == {}


def test_the_late_echo_of_an_earlier_write_does_not_reopen_a_finished_event() -> None:
    cache = Cache()
    cache.update_event(an_unfinished(5))
    cache.update_event(a_finished(7))
    assert not cache.update_event(an_unfinished(6))
    assert len(cache.events) == 0


def test_a_finished_event_that_was_reopened_is_back() -> None:
    cache = Cache()
    cache.update_event(a_finished(7))
    assert cache.update_event(an_unfinished(8))
    assert cache.events.get(NAME) == an_unfinished(8)


def test_a_late_report_of_the_watch_that_it_was_finished_does_not_drop_what_was_reopened_since() -> None:
    cache = Cache()
    cache.update_event(a_finished(7))
    cache.update_event(an_unfinished(8))
    assert not cache.observe_removal(NAME, 7)
    assert cache.events.get(NAME) == an_unfinished(8)


def test_an_event_that_left_the_watch_is_gone() -> None:
    cache = Cache()
    cache.update_event(an_unfinished(5))
    assert cache.observe_removal(NAME, 6)
    assert cache.events.get(NAME) is None


def test_an_event_that_was_deleted_and_recorded_again_is_another_one() -> None:
    cache = Cache()
    cache.update_event(a_finished(7))
    cache.observe_removal(NAME, 8)
    assert cache.update_event(an_unfinished(9))


def test_finished_events_cost_no_memory_even_if_no_watch_ever_reports_them() -> None:
    cache = Cache()
    for number in range(MAX_FINISHED_VERSIONS + 100):
        cache.update_event(EventBuilder().named(f"event-{number}").in_phase(Phase.FAILED).build())
    assert len(cache.finished_versions) == MAX_FINISHED_VERSIONS


def test_a_shelf_can_be_gone_through_while_it_changes() -> None:
    store: Store[Organization] = Store()
    store.put(an_organization("a"))
    store.put(an_organization("b"))
    for each in store:
        store.remove(each.name)
    assert len(store) == 0


STEPS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(("acme", "globex")), st.integers(0, 4)), max_size=12
)
"""For each step: the name of an event, its Organization and its version; version 0 removes the event."""


@given(STEPS)
def test_the_events_of_an_organization_are_all_that_name_it(steps: list[tuple[str, str, int]]) -> None:
    store = EventStore()
    for name, organization, version in steps:
        if version:
            event = an_event().named(name).at_version(version).build()
            ref = LocalObjectReference(name=organization)
            store.put(replace(event, spec=replace(event.spec, organization_ref=ref)))
        else:
            store.remove(name)
    for organization in ("acme", "globex", "unknown"):
        expected = {each.name: each for each in store if each.organization == organization}
        assert {each.name: each for each in store.of(organization)} == expected


def a_namesake(version: int) -> Organization:
    """Build the Organization that was created after ``an_organization`` was deleted."""
    organization = an_organization(version=version)
    return replace(organization, metadata=replace(organization.metadata, uid="another"))


def test_the_late_report_of_a_deletion_does_not_drop_the_successor_of_the_object() -> None:
    """Kopf keeps the order of reports per uid, not per name."""
    cache = Cache()
    cache.update(an_organization(version=5))
    cache.update(a_namesake(9))
    cache.delete(Organization, "acme", 8)
    assert cache.organizations.get("acme") == a_namesake(9)
    cache.delete(Organization, "acme", 10)
    assert cache.organizations.get("acme") is None


def test_the_late_report_of_a_deleted_object_does_not_replace_its_successor() -> None:
    """Else the report of the deletion that follows would remove the successor."""
    cache = Cache()
    cache.update(a_namesake(9))
    cache.update(an_organization(version=7))
    cache.delete(Organization, "acme", 8)
    assert cache.organizations.get("acme") == a_namesake(9)


def test_the_late_answer_to_the_write_that_finished_an_event_does_not_drop_what_was_reopened_since() -> None:
    cache = Cache()
    cache.update_event(an_unfinished(8))
    assert not cache.update_event(a_finished(7))
    assert cache.events.get(NAME) == an_unfinished(8)


def test_the_late_report_of_a_first_finish_does_not_reopen_an_event_that_finished_again() -> None:
    cache = Cache()
    cache.update_event(a_finished(5))
    cache.update_event(a_finished(7))
    cache.observe_removal(NAME, 5)
    assert not cache.update_event(an_unfinished(6)), "the echo of the re-opening"
    assert len(cache.events) == 0


def test_all_events_are_known_once_each_of_the_first_complete_list_was_read() -> None:
    cache, known = Cache(), list[bool]()
    steps: tuple[Callable[[], None], ...] = (
        lambda: cache.expect_events(["a"], is_last=False),
        lambda: cache.observe_event("a"),
        lambda: cache.expect_events(["b"], is_last=True),
        lambda: cache.observe_event("b"),
        lambda: cache.expect_events(["c"], is_last=False),
    )
    for step in steps:
        step()
        known.append(cache.has_all_events)
    # A later list has no new meaning.
    assert known == [False, False, False, True, True]


def test_an_empty_first_list_is_complete() -> None:
    cache = Cache()
    cache.expect_events([], is_last=True)
    assert cache.has_all_events


def test_an_object_that_was_deleted_and_created_again_unseen_is_another_one() -> None:
    # The generation is the same, so nothing else shows it.
    cache, changes = Cache(), list[tuple[bool, bool]]()
    cache.update(an_organization())
    cache.add_handler(Organization, lambda before, after: changes.append((before is None, after is None)))
    known = cache.organizations.get("acme")
    assert known is not None
    metadata = replace(known.metadata, uid="another", resource_version="1000")
    cache.update(replace(known, metadata=metadata))
    assert changes == [(False, True), (True, False)]


# -- Metadata of others --------------------------------------------------------------------------------------

R = TypeVar("R", bound=Resource)

READ_ANNOTATIONS = {CLAIM_ANNOTATION: "0f", TRACEPARENT_ANNOTATION: f"00-{'1' * 32}-{'2' * 16}-01"}


def with_metadata(resource: R, labels: dict[str, str], annotations: dict[str, str]) -> R:
    metadata = resource.metadata
    return replace(
        resource,
        metadata=replace(
            metadata,
            labels={**metadata.labels, **labels},
            annotations={**metadata.annotations, **annotations},
        ),
    )


@pytest.mark.parametrize(
    "resource", [an_unfinished(5), an_organization(), a_sender(), an_archive()], ids=lambda each: each.KIND
)
def test_labels_and_annotations_that_no_reader_needs_are_not_kept(resource: Resource) -> None:
    needed = with_metadata(resource, {}, READ_ANNOTATIONS)
    given = with_metadata(
        needed,
        {
            f"{prefix}/k{number}": "v" * 63
            for prefix in ("x.example", "counterfoil.dev")
            for number in range(99)
        },
        {"x.example/y": "a" * 250_000, "counterfoil.dev/y": "a" * 9, ACTS_ANNOTATION: "[]"},
    )
    cache, published = Cache(), list[Resource | None]()
    cache.add_handler(type(resource), lambda _, after: published.append(after))
    cache.update(given)
    assert list(cache.store(type(resource))) == [needed]
    assert published == [needed]
    if isinstance(needed, EnvelopeEvent):
        assert cache.events_of(needed.organization) == [needed]


def test_an_annotation_that_is_longer_than_any_of_counterfoils_is_not_kept() -> None:
    event = an_unfinished(5)
    cache = Cache()
    cache.update(with_metadata(event, {}, dict.fromkeys(READ_ANNOTATIONS, "a" * 250_000)))
    assert cache.events.get(NAME) == event


def test_each_label_of_an_event_is_kept() -> None:
    labels = {value: "1" for name, value in vars(base).items() if name.endswith("_LABEL")}
    event = with_metadata(an_unfinished(5), labels, {})
    cache = Cache()
    cache.update(event)
    assert cache.events.get(NAME) == event


@pytest.mark.parametrize("known", [an_organization(), a_sender(), an_archive()])
def test_the_answer_to_a_write_adds_no_deleted_object(
    known: Organization | Sender | Archive,
) -> None:
    cache = Cache()
    cache.update(known)
    version = version_number(known)
    written = replace(known, metadata=replace(known.metadata, resource_version=str(version + 1)))
    cache.update_written(written)
    assert cache.store(type(known)).get(known.name) == written

    cache.delete(type(known), known.name, version + 2)
    cache.update_written(written)
    assert cache.store(type(known)).get(known.name) is None

    again = replace(
        known, metadata=replace(known.metadata, uid="created-again", resource_version=str(version + 3))
    )
    cache.update(again)
    cache.update_written(replace(written, metadata=replace(written.metadata, resource_version="9999")))
    assert cache.store(type(known)).get(known.name) == again


def test_the_answer_to_a_write_adds_an_event_that_starts_again() -> None:
    cache = Cache()
    cache.update_written(an_unfinished(5))
    assert cache.events.get(NAME) == an_unfinished(5)


def a_sender_of(organization: str, origin: str | None, version: int, name: str = "anna") -> Sender:
    sender = a_sender(name, organization=organization, version=version)
    return replace(sender, status=replace(sender.status, key=SenderKey(origin=origin)))


def test_an_organization_has_the_origins_that_the_keys_of_its_senders_record_now() -> None:
    cache = Cache()
    for name in ("anna", "ben"):
        cache.update(a_sender_of("acme", "https://one.example", 1, name))
    cache.update(a_sender_of("other", "https://other.example", 1, "zoe"))
    assert list(cache.senders.of("acme").key_origins) == ["https://one.example"]
    cache.update(a_sender_of("acme", "https://two.example", 2))
    assert sorted(cache.senders.of("acme").key_origins) == ["https://one.example", "https://two.example"]
    assert sorted(cache.senders.key_origins()) == [
        "https://one.example",
        "https://other.example",
        "https://two.example",
    ]
    cache.delete(Sender, "ben", 1)
    cache.update(a_sender_of("acme", None, 3))
    assert list(cache.senders.of("acme").key_origins) == []


def test_a_sender_that_is_created_again_belongs_to_the_organization_that_it_names_now() -> None:
    cache = Cache()
    cache.update(a_sender_of("acme", "https://one.example", 1))
    cache.update(a_sender_of("other", "https://one.example", 2))
    assert [each.name for each in cache.senders_of("acme")] == []
    assert [each.name for each in cache.senders_of("other")] == ["anna"]
    assert not cache.senders.of("acme").key_origins
    assert not cache.senders.of("acme").authorized
    cache.delete(Sender, "anna", 2)
    assert cache.senders_of("other") == []


def test_the_senders_of_an_organization_are_in_the_order_in_which_they_became_known() -> None:
    cache = Cache()
    for name in ("anna", "ben"):
        cache.update(a_sender(name))
    cache.update(a_sender("anna", version=2, authorized="False"))
    assert [each.name for each in cache.senders_of("acme")] == ["anna", "ben"]
    assert list(cache.senders.of("acme").authorized) == ["ben"]
