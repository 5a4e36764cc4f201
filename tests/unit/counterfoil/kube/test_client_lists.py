"""Lists of objects: one that can't be read costs itself only."""

import asyncio
import logging
from typing import Any
from unittest.mock import patch
from weakref import ref

import pytest

from counterfoil.kube.watch import Raw
from counterfoil.resources import EnvelopeEvent, Resource
from tests.support.builders import an_event
from tests.support.fakes.kube import InMemoryKubeClient


class Page(list[Raw]):
    """A page that can be observed."""


async def test_an_object_that_cannot_be_read_is_named_in_the_log_and_the_others_are_listed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events = [an_event(envelope).build() for envelope in ("e-1", "e-2", "e-3")]
    kube = InMemoryKubeClient(*events)
    del kube.objects[EnvelopeEvent.PLURAL, events[1].name]["spec"]["envelopeID"]

    listed = [each.name async for each in kube.list_readable(EnvelopeEvent)]

    assert listed == [events[0].name, events[2].name]
    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert f"an object can't be read and is ignored: EnvelopeEvent/{events[1].name}" in record.getMessage()


async def test_a_list_of_events_keeps_few_of_them_in_memory() -> None:
    kube = InMemoryKubeClient(*(an_event(f"e-{number}").build() for number in range(120)))
    everything, limits, kept = kube.page, list[int](), list[int]()
    pages: list[ref[Page]] = []

    async def one_page(kind: type[Resource], *, limit: int, **selected: str) -> Any:
        limits.append(limit)
        kept.append(sum(each() is not None for each in pages))
        items, token = await everything(kind, limit=limit, **selected)
        page = Page(items)
        pages.append(ref(page))
        return page, token

    with patch.object(kube, "page", one_page):
        listed = [each.name async for each in kube.list_readable(EnvelopeEvent)]

    assert (len(set(listed)), limits) == (120, [50, 50, 50])
    assert kept == [0, 0, 0]


async def test_other_tasks_run_while_the_objects_of_a_page_are_read() -> None:
    kube = InMemoryKubeClient(*(an_event(f"e-{number}").build() for number in range(50)))
    turns, turns_at = 0, set[int]()

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    async for _ in kube.list_readable(EnvelopeEvent):
        turns_at.add(turns)
    counting.cancel()

    assert len(turns_at) >= 5
