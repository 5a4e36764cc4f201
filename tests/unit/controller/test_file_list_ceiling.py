"""Lists of files of one Organization have a ceiling; no order of events exceeds it or stops them all."""

from collections.abc import Callable
from datetime import timedelta
from itertools import product
from uuid import UUID

import pytest
from msgspec.structs import replace

from controller.cache import EventStore
from controller.file_list_ceiling import (
    CEILING_PAUSE,
    FILE_LIST_CEILING,
    FREE_BYTES,
    MAX_DUE_AT_ONCE,
    MAX_LISTS_BYTES,
    OrganizationLists,
)
from counterfoil.resources import EnvelopeEvent, FiledDocument, FileKind, Phase, stored_size
from tests.support.builders import NOON, an_event, an_organization
from tests.support.scenes.waiting_events import HandlersScene, kept_bytes, moved, turns

LONG = FREE_BYTES + 1
HALF = MAX_LISTS_BYTES // 2


def some_files(count: int, name: str = "annex") -> tuple[FiledDocument, ...]:
    return tuple(
        FiledDocument(
            file_id=str(UUID(int=each)),
            kind=FileKind.DOCUMENT,
            file_name=f"{name}-{each}.pdf",
            location=f"file:///archive/acme/{UUID(int=0)}/{name}-{each}.pdf",
        )
        for each in range(count)
    )


def numbered(number: int) -> EnvelopeEvent:
    return an_event(str(UUID(int=number))).in_phase(Phase.COLLECTING).build()


def with_files(event: EnvelopeEvent, count: int, reason: str | None = None) -> EnvelopeEvent:
    return moved(event, Phase.ARCHIVING, reason, documents=some_files(count))


LISTS: dict[str, dict[str, int]] = {"none": {}, "one": {"b": LONG}, "full": {"b": HALF, "c": HALF}}


@pytest.mark.parametrize(
    ("kept", "waiting", "size", "expected"),
    [
        # A short list never waits.
        (LISTS["full"], {}, FREE_BYTES, True),
        (LISTS["full"], {"b": 0}, 0, True),
        # Alone, an event continues with any list, also before others that wait.
        (LISTS["none"], {}, MAX_LISTS_BYTES + 1, True),
        (LISTS["none"], {"b": HALF}, MAX_LISTS_BYTES + 1, True),
        ({"a": LONG}, {}, MAX_LISTS_BYTES + 1, True),
        # Beside others, the lists fit.
        (LISTS["one"], {}, MAX_LISTS_BYTES - LONG, True),
        (LISTS["one"], {}, MAX_LISTS_BYTES - LONG + 1, False),
        (LISTS["full"], {}, LONG, False),
        # The one that waited first comes first.
        (LISTS["one"], {"a": LONG, "c": LONG}, LONG, True),
        (LISTS["one"], {"c": LONG, "a": LONG}, LONG, False),
        (LISTS["one"], {"c": LONG}, LONG, False),
        # A list that fits passes a larger one that would find no room if those that passed it had ended.
        ({"b": HALF, "c": HALF - LONG}, {"d": HALF}, LONG, True),
        ({"b": HALF, "c": HALF - LONG}, {"d": HALF}, LONG + 1, False),
        # An event with a list never waits, unless the list grows beyond the ceiling.
        ({"b": HALF, "a": HALF, "c": HALF}, {"c": 0}, HALF, True),
        ({"b": HALF, "a": LONG}, {"c": 0}, HALF, True),
        ({"b": HALF, "a": LONG}, {}, HALF + 1, False),
        # That of the event that has kept one for longest may grow.
        ({"a": LONG, "b": HALF, "c": HALF}, {"c": 0}, HALF, True),
    ],
)
def test_a_list_may_be_kept(
    kept: dict[str, int], waiting: dict[str, int], size: int, *, expected: bool
) -> None:
    lists = OrganizationLists(dict(kept), dict(waiting), sum(kept.values()))
    assert lists.has_room("a", size) is expected


SIZES = (FREE_BYTES, HALF, MAX_LISTS_BYTES, MAX_LISTS_BYTES + 1)


@pytest.mark.parametrize("sizes", list(product(SIZES, repeat=3)))
def test_events_of_any_sizes_in_any_order_stay_below_the_ceiling_and_all_end(sizes: tuple[int, ...]) -> None:
    """Each step is the growth of one event to its size or its end; each order of six steps is tried."""
    for steps in product(range(3), repeat=6):
        lists, left = OrganizationLists(), {str(each): size for each, size in enumerate(sizes)}
        for step in steps:
            advance(lists, left, str(step))
            assert lists.total == sum(lists.kept.values())
            assert lists.passed_total == sum(lists.kept[each] for each in lists.passed)
            assert lists.total <= MAX_LISTS_BYTES or len(lists.kept) == 1
        for _ in range(len(left)):
            for each in list(left):
                if each in lists.kept or not lists.waiting or each in lists.next_events():
                    advance(lists, left, each)
                    advance(lists, left, each)
        assert left == {}


@pytest.mark.parametrize("size", [LONG, HALF, MAX_LISTS_BYTES, MAX_LISTS_BYTES + 1])
@pytest.mark.parametrize("overlap", [1, 2, 5])
def test_no_flow_of_small_lists_keeps_room_from_a_larger_one_permanently(size: int, overlap: int) -> None:
    """Small events come all the time, and each ends only after others have come."""
    lists = OrganizationLists()
    for old in ("x", "y"):
        assert lists.take(old, HALF - LONG)
    assert lists.take("first", size) is (size <= 2 * LONG)
    running: list[str] = []
    for number in range(40):
        if number in (10, 20):
            lists.keep("x" if number == 10 else "y", 0)
        if is_taken := lists.take(f"small-{number}", LONG):
            running.append(f"small-{number}")
        if running and (not is_taken or len(running) > overlap):
            lists.keep(running.pop(0), 0)
        if lists.may_continue("first"):
            assert lists.take("first", size)
            lists.waiting.pop("first")
        if number == 9:
            assert size <= 2 * LONG or lists.passed, "the small ones continue while nothing else ends"
    assert "first" in lists.kept


def advance(lists: OrganizationLists, left: dict[str, int], event: str) -> None:
    """Let an event keep its list; if it has one, or needs none, let it end."""
    if event not in left:
        return
    size = left[event]
    if event in lists.kept or size <= FREE_BYTES:
        lists.keep(event, 0)
        del left[event]
    elif lists.take(event, size):
        lists.waiting.pop(event, None)


def test_one_organization_takes_no_room_of_another() -> None:
    store, other = EventStore(), an_event().build()
    fill(store)
    assert not store.file_lists.take(known(store, 99), some_files(2000))
    organization = an_organization(name="other")
    raw = other.to_dict()
    raw["spec"]["organizationRef"]["name"] = organization.name
    store.put(EnvelopeEvent.parse(raw))
    assert store.file_lists.take(EnvelopeEvent.parse(raw), some_files(2000))
    assert kept_bytes(store.file_lists, "other") > 0


def known(store: EventStore, number: int) -> EnvelopeEvent:
    """Return an event that the store has."""
    store.put(event := numbered(number))
    return event


def fill(store: EventStore, count: int = 2000) -> list[EnvelopeEvent]:
    """Let events keep lists of this number of files until one has to wait; return them."""
    events: list[EnvelopeEvent] = []
    while store.file_lists.take(event := known(store, len(events)), some_files(count)):
        events.append(event)
        store.put(with_files(event, count))
        assert len(events) < MAX_LISTS_BYTES
    store.remove(event.name)
    assert kept_bytes(store.file_lists, "acme") <= MAX_LISTS_BYTES
    return events


def test_a_list_counts_from_the_moment_in_which_its_event_may_store_it() -> None:
    store, files = EventStore(), some_files(2000)
    assert store.file_lists.take(known(store, 1), files)
    assert kept_bytes(store.file_lists, "acme") == stored_size(files)
    store.put(with_files(numbered(1), 2000))
    assert kept_bytes(store.file_lists, "acme") == stored_size(files)


def recreated(event: EnvelopeEvent) -> EnvelopeEvent:
    metadata = replace(event.metadata, uid="another", resource_version="50")
    return replace(event, metadata=metadata)


def test_nothing_is_counted_of_an_event_that_the_store_does_not_have() -> None:
    """Each order of four steps of a run and of the watch, over two events, one of them deleted in its run."""
    old, other = numbered(1), numbered(2)
    small, large = some_files(40), some_files(200)
    steps: tuple[Callable[[EventStore], object], ...] = (
        lambda store: store.put(old),
        lambda store: store.remove(old.name),
        lambda store: store.put(recreated(old)),
        lambda store: store.file_lists.take(old, small),
        lambda store: store.file_lists.take(old, large),
        lambda store: store.put(moved(old, Phase.COLLECTING, FILE_LIST_CEILING)),
        lambda store: store.file_lists.take(known(store, 2), small),
        lambda store: store.remove(other.name),
    )
    for order in product(steps, repeat=4):
        store = EventStore()
        lists = store.file_lists.by_organization["acme"]
        lists.keep("full", MAX_LISTS_BYTES - 3 * stored_size(small))
        for step in order:
            step(store)
            assert {*lists.kept, *lists.waiting, *lists.passed} <= {"full", *(each.name for each in store)}
            assert lists.total == sum(lists.kept.values())
        for each in (old, other):
            store.remove(each.name)
        assert (list(lists.kept), lists.waiting, lists.passed) == (["full"], {}, set())


def test_an_event_that_was_deleted_in_its_run_takes_no_room_from_others() -> None:
    store, deleted = EventStore(), numbered(99)
    events = fill(store)
    assert store.file_lists.take(deleted, some_files(2000))
    for each in events:
        store.remove(each.name)
    assert kept_bytes(store.file_lists, "acme") == 0
    for number in (1, 2):
        assert store.file_lists.take(known(store, number), some_files(2000))


@pytest.mark.parametrize(
    ("phase", "reason"),
    [
        (Phase.AWAITING_CONSENT, "TokenRejected"),
        (Phase.ARCHIVING, "SenderSuspended"),
        (Phase.VALIDATING, "EnvelopeUnfinished"),
    ],
)
def test_a_list_that_fits_passes_a_larger_one_that_waits_for_events_of_a_person(
    phase: Phase, reason: str
) -> None:
    store, parked = EventStore(), some_files(400)
    for number in range(84):
        event = known(store, number)
        assert store.file_lists.take(event, parked)
        store.put(moved(event, phase, reason, documents=parked))
    large = known(store, 98)
    assert not store.file_lists.take(large, some_files(2000))
    store.put(moved(large, Phase.COLLECTING, FILE_LIST_CEILING))
    assert store.file_lists.take(known(store, 99), some_files(40))


def test_a_waiting_event_that_fits_is_tried_before_a_larger_one() -> None:
    store = EventStore()
    first, *_ = fill(store)
    for number, count in ((97, 3900), (98, 1900), (99, 3500)):
        event = known(store, number)
        assert not store.file_lists.take(event, some_files(count))
        store.put(moved(event, Phase.COLLECTING, FILE_LIST_CEILING))
    assert store.file_lists.next_events("acme") == ()
    store.remove(first.name)
    assert store.file_lists.next_events("acme") == (numbered(98).name,)
    assert store.file_lists.must_wait(numbered(97))


def test_an_event_whose_list_is_not_known_yet_asks_once_after_its_pause() -> None:
    """After a start, the statuses tell only that events wait."""
    store = EventStore()
    fill(store)
    first, second = numbered(97), numbered(98)
    for each in (first, second):
        store.put(moved(each, Phase.COLLECTING, FILE_LIST_CEILING))
    assert store.file_lists.next_events("acme") == (first.name,)
    assert not store.file_lists.must_wait(second)
    assert not store.file_lists.may_continue(second), "it is not due at once"


def test_a_change_makes_only_a_few_of_many_waiting_events_due() -> None:
    store = EventStore()
    first, *_ = fill(store)
    for number in range(2 * MAX_DUE_AT_ONCE):
        store.file_lists.take(event := known(store, 1000 + number), some_files(2000))
        store.put(moved(event, Phase.COLLECTING, FILE_LIST_CEILING))
    store.remove(first.name)
    assert len(store.file_lists.next_events("acme")) == 1


def test_an_event_that_waits_for_a_person_is_named_before_larger_ones() -> None:
    store = EventStore()
    assert store.file_lists.largest("acme") is None
    for number, count, reason in (
        (1, 500, "EsawFailing"),
        (2, 100, "TokenRejected"),
        (3, 200, "TokenRejected"),
    ):
        store.put(with_files(numbered(number), count, reason))
    largest = store.file_lists.largest("acme")
    assert largest is not None
    assert largest.name == numbered(3).name


HASH = "ab" * 32


def archived(documents: tuple[FiledDocument, ...]) -> tuple[FiledDocument, ...]:
    return tuple(replace(each, size=10, sha256=HASH) for each in documents)


@pytest.mark.parametrize(
    ("phase", "reason", "in_memory"),
    [
        (Phase.COLLECTING, "EsawFailing", 2000),
        (Phase.ARCHIVING, None, 2000),
        (Phase.ARCHIVING, "SenderSuspended", 2000),
        # Before its next run, an event needs the list for nothing else.
        (Phase.COLLECTING, FILE_LIST_CEILING, 1),
        (Phase.ARCHIVING, FILE_LIST_CEILING, 1),
        (Phase.PENDING, "RetryRequested", 1),
        (Phase.VALIDATING, "EnvelopeUnfinished", 1),
        (Phase.AWAITING_CONSENT, "TokenRejected", 1),
        (Phase.CLEANING, "CleanupDelayed", 1),
    ],
)
@pytest.mark.parametrize("is_archived", [False, True])
def test_only_an_event_that_lists_or_archives_has_a_long_list_in_memory(
    phase: Phase, reason: str | None, in_memory: int, *, is_archived: bool
) -> None:
    """A list in memory counts. Of any other, files that are not archived count, since etcd keeps them."""
    store, listed = EventStore(), some_files(2000)
    documents = archived(listed) if is_archived else listed
    store.put(event := moved(numbered(1), phase, reason, documents=documents))
    kept = store.get(event.name)
    assert kept is not None
    assert kept.status.documents == documents[:in_memory]
    assert kept.status.is_archiving_begun
    assert store.is_complete(event.name) is (in_memory == 2000)
    is_counted = in_memory == 2000 or not (is_archived or phase is Phase.CLEANING)
    expected = stored_size(documents) if is_counted else 0
    assert kept_bytes(store.file_lists, "acme") == expected
    store.remove(event.name)
    assert kept_bytes(store.file_lists, "acme") == 0
    assert store.is_complete(event.name)


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.AWAITING_CONSENT])
def test_no_list_of_an_archived_event_counts(phase: Phase) -> None:
    """``spec.cleanup.after`` may keep archived events for a year."""
    store, event = EventStore(), an_event(str(UUID(int=1))).archived().build()
    store.put(moved(event, phase, documents=some_files(2000)))
    assert not store.is_complete(event.name)
    assert kept_bytes(store.file_lists, "acme") == 0


@pytest.mark.parametrize(
    ("phase", "reason", "is_archived", "in_memory"),
    [
        (Phase.ARCHIVING, "ArchiveUnreachable", True, 16),
        (Phase.VALIDATING, "EnvelopeUnfinished", False, 16),
        (Phase.PENDING, "RetryRequested", True, 1),
        (Phase.AWAITING_CONSENT, "TokenRejected", True, 1),
        (Phase.CLEANING, "CleanupDelayed", True, 1),
    ],
)
def test_an_archived_event_that_waits_has_no_short_list_in_memory_either(
    phase: Phase, reason: str, in_memory: int, *, is_archived: bool
) -> None:
    """No ceiling counts such events: by ``spec.cleanup.after``, any number may wait. A short list needs no
    room."""
    store = EventStore()
    builder = an_event(str(UUID(int=1))).with_condition("Archived", "True" if is_archived else "False")
    documents = archived(some_files(16))
    store.put(event := moved(builder.build(), phase, reason, documents=documents))
    kept = store.get(event.name)
    assert kept is not None
    assert kept.status.documents == documents[:in_memory]
    assert kept.status.is_archiving_begun
    assert store.is_complete(event.name) is (in_memory == 16)
    store.put(with_files(numbered(2), 2000))
    if in_memory == 1:
        before = kept_bytes(store.file_lists, "acme")
        assert store.file_lists.take_for_run(event)
        assert kept_bytes(store.file_lists, "acme") == before
        store.put(moved(event, phase, reason, deliveries=2))
        assert kept_bytes(store.file_lists, "acme") == before
        store.file_lists.run_ended(event)
        assert kept_bytes(store.file_lists, "acme") == before


def test_an_archived_event_with_one_file_is_kept_as_it_is() -> None:
    store = EventStore()
    store.put(event := moved(numbered(1), Phase.CLEANING, documents=archived(some_files(1))))
    assert store.get(event.name) == event
    assert store.is_complete(event.name)


@pytest.mark.parametrize("count", [1, 2])
def test_long_names_of_an_archived_event_do_not_count(count: int) -> None:
    store = EventStore()
    long = archived(some_files(count, name="n" * FREE_BYTES))
    store.put(event := moved(numbered(1), Phase.CLEANING, "CleanupDelayed", documents=long))
    assert kept_bytes(store.file_lists, "acme") == 0
    assert not store.is_complete(event.name)
    store.put(with_files(numbered(2), 2000))
    assert store.file_lists.take_for_run(event)
    assert kept_bytes(store.file_lists, "acme") > stored_size(long), "it counts during its run"


def test_archived_events_that_start_again_at_the_same_time_stay_below_the_ceiling() -> None:
    store, documents = EventStore(), archived(some_files(2000))
    for number in range(100):
        store.put(moved(numbered(number), Phase.PENDING, "RetryRequested", documents=documents))
    assert sum(len(each.status.documents) for each in store) == 100
    running = [event for event in store if store.file_lists.take_for_run(event)]
    assert 5 < len(running) < 20
    assert kept_bytes(store.file_lists, "acme") <= MAX_LISTS_BYTES
    for event in running:
        # A callback is counted in the run, whose list stays in memory.
        store.put(moved(event, Phase.PENDING, "RetryRequested", documents=documents, deliveries=2))
    names = {each.name for each in running}
    assert not any(store.file_lists.take_for_run(each) for each in store if each.name not in names)
    for event in running:
        store.file_lists.run_ended(event)
    assert kept_bytes(store.file_lists, "acme") == 0


def test_an_event_that_waited_first_stops_no_other_in_its_run() -> None:
    """If its run changes nothing, it waits again."""
    store, documents = EventStore(), archived(some_files(40))
    store.put(moved(numbered(1), Phase.ARCHIVING, documents=some_files(2000)))
    first, second = (
        moved(numbered(number), Phase.VALIDATING, FILE_LIST_CEILING, documents=documents) for number in (2, 3)
    )
    for each in (first, second):
        store.put(each)
    assert store.file_lists.take_for_run(first)
    assert store.file_lists.take_for_run(second)
    for each in (first, second):
        store.file_lists.run_ended(each)
    assert list(store.file_lists.by_organization["acme"].waiting) == [first.name, second.name]
    assert store.file_lists.may_continue(first)


def test_an_event_that_waited_and_is_changed_in_its_run_stops_no_other() -> None:
    """The claim of its run is such a change, and a callback that is counted."""
    store = EventStore()
    waited = moved(numbered(1), Phase.ARCHIVING, FILE_LIST_CEILING, documents=some_files(100))
    store.put(waited)
    store.put(with_files(numbered(2), 30))
    store.put(numbered(3))
    assert store.file_lists.take_for_run(waited)
    store.put(moved(waited, Phase.ARCHIVING, FILE_LIST_CEILING, deliveries=2))
    assert store.file_lists.take(numbered(3), some_files(50))
    # If its run stores nothing, it waits again.
    store.file_lists.run_ended(waited)
    assert list(store.file_lists.by_organization["acme"].waiting) == [waited.name]


def test_an_event_that_finds_no_room_in_its_run_waits_with_what_it_needs() -> None:
    store = EventStore()
    waited = moved(numbered(1), Phase.ARCHIVING, FILE_LIST_CEILING, documents=some_files(100))
    store.put(with_files(numbered(2), 2000))
    store.put(waited)
    assert store.file_lists.take_for_run(waited)
    more = some_files(40_000)
    assert not store.file_lists.take(waited, more)
    store.put(moved(waited, Phase.ARCHIVING, FILE_LIST_CEILING, deliveries=2))
    store.file_lists.run_ended(waited)
    assert store.file_lists.by_organization["acme"].waiting == {waited.name: stored_size(more)}


def test_the_list_of_an_event_that_waits_for_more_room_is_not_read_for_less() -> None:
    """Else its run would read the list, wait for the longer one, and need the room meanwhile."""
    store, documents = EventStore(), archived(some_files(100))
    first, *_ = fill(store)
    store.put(event := moved(numbered(99), Phase.COLLECTING, "RetryRequested", documents=documents))
    assert not store.file_lists.take(event, some_files(3900))
    store.put(waiting := moved(event, Phase.COLLECTING, FILE_LIST_CEILING, documents=documents))
    assert not store.file_lists.take_for_run(waiting)
    store.remove(first.name)
    assert not store.file_lists.take_for_run(waiting)


def test_events_that_ended_leave_nothing_in_memory() -> None:
    store = EventStore()
    for each in fill(store):
        store.remove(each.name)
    assert not store.file_lists.by_organization


def test_nothing_is_asked_for_an_event_that_would_wait_again() -> None:
    store = EventStore()
    first, *_ = fill(store)
    waiting = known(store, 99)
    assert not store.file_lists.must_wait(waiting)
    assert not store.file_lists.take(waiting, some_files(2000))
    store.put(moved(waiting, Phase.COLLECTING, FILE_LIST_CEILING))
    assert store.file_lists.must_wait(waiting)
    store.remove(first.name)
    assert not store.file_lists.must_wait(waiting)


async def test_an_event_that_waits_for_room_runs_when_another_one_ends() -> None:
    scene, held = HandlersScene(), numbered(99)
    scene.observe(an_organization())
    lists = scene.cache.events.file_lists
    events = [with_files(each, 2000, "EsawFailing") for each in fill(EventStore())]
    later = NOON + CEILING_PAUSE
    for number, each in enumerate(events):
        events[number] = moved(each, Phase.ARCHIVING, "EsawFailing", next_attempt_time=later)
    scene.observe(*events)
    scene.cache.events.put(held)
    assert not lists.take(held, some_files(2000))
    async with scene.running():
        scene.observe(moved(held, Phase.COLLECTING, FILE_LIST_CEILING, next_attempt_time=later))
        await turns()
        assert scene.reconciled == []
        scene.see_deleted(events[0])
        await turns()
        assert scene.reconciled[:1] == [held.name]


async def test_an_event_that_waits_for_room_runs_at_its_stored_time() -> None:
    scene, held = HandlersScene(), numbered(99)
    scene.observe(an_organization())
    fill(scene.cache.events)
    scene.cache.events.put(held)
    assert not scene.cache.events.file_lists.take(held, some_files(2000))
    async with scene.running():
        later = NOON + CEILING_PAUSE
        scene.observe(moved(held, Phase.COLLECTING, FILE_LIST_CEILING, next_attempt_time=later))
        await turns()
        assert scene.reconciled == []
        scene.clock.advance(seconds=(CEILING_PAUSE + timedelta(seconds=1)).total_seconds())
        scene.workqueue.wake()
        await turns()
    assert scene.reconciled[:1] == [held.name]
