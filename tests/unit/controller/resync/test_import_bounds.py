"""Imports take a bounded part of the memory, of the quota and of the queue."""

import tracemalloc
from typing import Any
from unittest.mock import patch

import msgspec

from counterfoil.resources import EnvelopeEvent, Phase, Resource
from tests.support.builders import an_event
from tests.support.fakes.finding_esaw import numbered
from tests.unit.controller.resync.test_import_runner import Scene


async def test_counting_a_window_needs_no_memory_for_each_of_its_events() -> None:
    async def peak(events: int) -> int:
        scene = Scene(maxUnfinished=5000)
        scene.finds("anna", *(numbered(each) for each in range(events)))
        await scene.advance()
        files = (f"{number}.pdf" for number in range(100))
        done = an_event().archived(*files).in_phase(Phase.SUCCEEDED).build().to_dict()["status"]
        long = msgspec.json.encode(done)
        scene.finish_all()
        everything = scene.kube.page

        async def one_page(kind: type[Resource], *, limit: int, token: str = "", **selected: str) -> Any:
            raws, more = await everything(kind, limit=limit, token=token, **selected)
            if kind is EnvelopeEvent:
                raws = [{**each, "status": msgspec.json.decode(long)} for each in raws]
            return raws, more

        with patch.object(scene.kube, "page", one_page):
            tracemalloc.start()
            try:
                status = await scene.advance()
                found = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert status.archived == events
        return found >> 20

    assert await peak(160) - await peak(60) < 5
