"""Lists of files of one Organization have a ceiling; no order of events exceeds it or stops them all."""

from datetime import timedelta
from itertools import product
from uuid import UUID

import pytest

from controller.file_list_ceiling import (
    CEILING_PAUSE,
    FILE_LIST_CEILING,
    FREE_BYTES,
    MAX_LISTS_BYTES,
    FileListCeiling,
    OrganizationLists,
)
from counterfoil.resources import EnvelopeEvent, FiledDocument, FileKind, Phase, stored_size
from tests.support.builders import NOON, an_event, an_organization
from tests.support.scenes.handlers import HandlersScene, moved, turns

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
            assert lists.total <= MAX_LISTS_BYTES or len(lists.kept) == 1
        for _ in range(len(left)):
            for each in list(left):
                if each in lists.kept or not lists.waiting or each in lists.next_events():
                    advance(lists, left, each)
                    advance(lists, left, each)
        assert left == {}


def advance(lists: OrganizationLists, left: dict[str, int], event: str) -> None:
    """Let an event keep its list; if it has one, or needs none, let it end."""
    if event not in left:
        return
    size = left[event]
    if event in lists.kept or size <= FREE_BYTES:
        lists.keep(event, 0)
        del left[event]
    elif lists.has_room(event, size):
        lists.keep(event, size)
        lists.waiting.pop(event, None)
    else:
        lists.waiting.setdefault(event, size)


def test_one_organization_takes_no_room_of_another() -> None:
    ceiling, other = FileListCeiling(), an_event().build()
    fill(ceiling)
    assert not ceiling.take(numbered(99), some_files(2000))
    organization = an_organization(name="other")
    raw = other.to_dict()
    raw["spec"]["organizationRef"]["name"] = organization.name
    assert ceiling.take(EnvelopeEvent.parse(raw), some_files(2000))


def fill(ceiling: FileListCeiling) -> list[EnvelopeEvent]:
    """Let events keep lists of 2,000 files until one has to wait; return them."""
    events: list[EnvelopeEvent] = []
    while ceiling.take(event := numbered(len(events)), some_files(2000)):
        events.append(event)
        ceiling.observe(with_files(event, 2000))
        assert len(events) < MAX_LISTS_BYTES
    ceiling.forget(event)
    assert ceiling.kept_bytes("acme") <= MAX_LISTS_BYTES
    return events


def test_a_list_counts_from_the_moment_in_which_its_event_may_store_it() -> None:
    ceiling, files = FileListCeiling(), some_files(2000)
    assert ceiling.take(numbered(1), files)
    assert ceiling.kept_bytes("acme") == stored_size(files)
    ceiling.observe(with_files(numbered(1), 2000))
    assert ceiling.kept_bytes("acme") == stored_size(files)


@pytest.mark.parametrize(
    ("count", "reason", "is_counted"),
    [
        (16, None, False),
        (2000, None, True),
        (2000, "CleanupDelayed", False),
        (2000, "LateFilesPending", True),
    ],
)
def test_long_lists_count_except_of_an_archived_event_whose_delete_an_administrator_delayed(
    count: int, reason: str | None, *, is_counted: bool
) -> None:
    ceiling = FileListCeiling()
    ceiling.observe(with_files(numbered(1), count, reason))
    assert bool(ceiling.kept_bytes("acme")) is is_counted
    ceiling.forget(numbered(1))
    assert ceiling.kept_bytes("acme") == 0


def test_events_that_ended_leave_nothing_in_memory() -> None:
    ceiling = FileListCeiling()
    for each in fill(ceiling):
        ceiling.forget(each)
    assert ceiling == FileListCeiling()


def test_nothing_is_asked_for_an_event_that_would_wait_again() -> None:
    ceiling, waiting = FileListCeiling(), numbered(99)
    first, *_ = fill(ceiling)
    assert not ceiling.must_wait(waiting)
    assert not ceiling.take(waiting, some_files(2000))
    ceiling.observe(moved(waiting, Phase.COLLECTING, FILE_LIST_CEILING))
    assert ceiling.must_wait(waiting)
    ceiling.forget(first)
    assert not ceiling.must_wait(waiting)


async def test_an_event_that_waits_for_room_runs_when_another_one_ends() -> None:
    scene, held = HandlersScene(), numbered(99)
    scene.observe(an_organization())
    lists = scene.cache.events.file_lists
    events = [with_files(each, 2000, "EsawFailing") for each in fill(FileListCeiling())]
    later = NOON + CEILING_PAUSE
    for number, each in enumerate(events):
        events[number] = moved(each, Phase.ARCHIVING, "EsawFailing", next_attempt_time=later)
    scene.observe(*events)
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
    fill(scene.cache.events.file_lists)
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
