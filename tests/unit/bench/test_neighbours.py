"""Parts of bench (k): the hostile servers, and the report."""

import asyncio

import httpx
import pytest

from verification.bench.__main__ import targets
from verification.bench.neighbours import Round, hang, report, server, trickle


async def test_the_hostile_esaw_takes_a_connection_and_never_answers() -> None:
    async with server(hang) as url, httpx.AsyncClient() as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.get(url, timeout=0.1)


async def test_the_hostile_archive_begins_each_answer_and_does_not_end_it() -> None:
    async with (
        server(trickle) as url,
        httpx.AsyncClient() as http,
        http.stream("PROPFIND", url) as answer,
    ):
        assert answer.status_code == 207
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await answer.aread()


@pytest.mark.parametrize(("rate", "is_met"), [(9.0, True), (8.9, False)])
def test_the_rate_beside_the_neighbours_and_the_memory_are_judged(rate: float, is_met: bool) -> None:
    judged = targets(report([Round(10.0, 100)], [Round(rate, 200)]))
    assert [met for _, met in judged] == [is_met, True]
