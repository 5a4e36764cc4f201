"""Parts of bench (j): the clients, the API server that takes less, and the report."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from sandbox.servers.proxies import Proxy, Ticks
from verification.bench.overload import (
    Answers,
    BurstJob,
    BurstResult,
    LoadJob,
    Pace,
    Scenario,
    ScenarioResult,
    refuse_creates,
    report,
    send_burst,
    send_load,
)

CREATE = "/apis/counterfoil.dev/v1beta1/namespaces/bench/envelopeevents"
LIMIT = 256.0


@asynccontextmanager
async def a_server(answer: Callable[[web.BaseRequest], web.Response]) -> AsyncIterator[str]:
    async def answered(request: web.BaseRequest) -> web.Response:
        await request.read()
        return answer(request)

    runner = web.ServerRunner(web.Server(answered))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def a_receiver(*scripted: web.Response) -> Callable[[web.BaseRequest], web.Response]:
    """Answer as scripted, then always 200."""
    rest = iter(scripted)
    return lambda request: next(rest, None) or web.Response()


async def test_a_burst_repeats_each_callback_until_it_is_answered_200() -> None:
    asked = list[str]()
    first = a_receiver(
        web.Response(status=503, headers={"Retry-After": "10"}),
        web.Response(status=503),
        web.Response(status=429),
    )

    def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.query["envelopeId"])
        return first(request)

    async with a_server(answer) as url:
        answers = await send_burst(BurstJob((url,), 5, 2, pause=0.0))
    assert (answers.recorded, answers.refused) == (5, 1)
    assert answers.wrong == {"503 without Retry-After": 1, "429": 1}
    assert len(asked) == 8
    assert set(answers.envelopes) == set(asked)


async def test_a_load_sends_another_callback_each_time_and_counts_those_of_its_time() -> None:
    asked = list[str]()

    def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.query["envelopeId"])
        return web.Response()

    async with a_server(answer) as url:
        answers = await send_load(LoadJob(url, 3, lead=0.1, seconds=0.2))
    assert len(set(asked)) == len(asked)
    assert 0 < answers.recorded < len(asked)


async def test_a_load_pauses_as_long_as_a_refusal_says() -> None:
    asked = list[str]()

    def answer(request: web.BaseRequest) -> web.Response:
        asked.append(request.query["envelopeId"])
        return web.Response(status=503, headers={"Retry-After": "10"})

    async with a_server(answer) as url:
        answers = await send_load(LoadJob(url, 3, lead=0.0, seconds=0.2))
    assert len(asked) == 3
    assert (answers.recorded, answers.refused) == (0, 3)


async def test_a_connection_that_breaks_is_a_wrong_answer() -> None:
    broken = iter([True])

    def answer(request: web.BaseRequest) -> web.Response:
        if next(broken, False):
            assert request.transport is not None
            request.transport.abort()
        return web.Response()

    async with a_server(answer) as url:
        answers = await send_burst(BurstJob((url,), 2, 1, pause=0.0))
    assert (answers.recorded, answers.wrong) == (2, {"no answer": 1})


# -- The API server that takes less --------------------------------------------------------------------------


@asynccontextmanager
async def a_proxy() -> AsyncIterator[tuple[Proxy, aiohttp.ClientSession]]:
    async with (
        a_server(a_receiver()) as url,
        Proxy(url, ticks=Ticks()) as proxy,
        aiohttp.ClientSession(trust_env=False) as session,
    ):
        yield proxy, session


async def test_one_of_three_creates_is_answered_429_and_nothing_else() -> None:
    async with a_proxy() as (proxy, session):
        refuse_creates(proxy, 3)
        answers = [await session.post(proxy.url + CREATE) for _ in range(6)]
        read = await session.get(proxy.url + CREATE)
    assert [each.status for each in answers] == [200, 200, 429, 200, 200, 429]
    assert answers[2].headers["Retry-After"] == "1"
    assert read.status == 200


def test_slow_creates_pass_one_after_the_other() -> None:
    pace = Pace(rate=10.0)
    assert [pace.delay(now) for now in (5.0, 5.0, 5.0, 9.0)] == pytest.approx([0.0, 0.1, 0.2, 0.0])


# -- The report ----------------------------------------------------------------------------------------------


def a_burst(*, lost: int = 0, memory: float = 100.0, wrong: dict[str, int] | None = None) -> BurstResult:
    answers = Answers(recorded=10_000, refused=5000, seconds=30.0, wrong=wrong or {})
    return BurstResult(10_000, answers, lost, 10_000 - lost, memory)


def a_scenario(*overloads: int) -> ScenarioResult:
    rounds = {
        32: [Answers(recorded=500, seconds=1.0)] * len(overloads),
        64: [Answers(recorded=1000, seconds=1.0)] * len(overloads),
        4000: [Answers(recorded=each, refused=300, seconds=1.0, latencies=[2.0, 2.0]) for each in overloads],
    }
    return ScenarioResult(Scenario("fast", (32, 64), (4000,), lead=1.0), rounds, memory=90.0)


@pytest.mark.parametrize(
    ("burst", "word"),
    [
        (a_burst(), "0 that were answered 200 have no event; target 0: met"),
        (a_burst(lost=1), "1 that were answered 200 have no event; target 0: MISSED"),
        (a_burst(), "neither 200 nor 503 with a Retry-After: 0; target 0: met"),
        (a_burst(wrong={"500": 2}), "a Retry-After: 2, 2 times 500; target 0: MISSED"),
        (a_burst(memory=128.0), "at most 0.50 of the chart's limit, 128 of 256 MiB; target < 1: met"),
        (a_burst(memory=300.0), "300 of 256 MiB; target < 1: MISSED"),
    ],
)
def test_the_report_judges_the_burst(burst: BurstResult, word: str) -> None:
    assert word in report(burst, [a_scenario(1000)], LIMIT)


def test_goodput_is_compared_with_the_peak_of_its_round() -> None:
    text = report(a_burst(), [a_scenario(950, 850, 900)], LIMIT)
    assert (
        "| fast | 4000 | 0.90 (0.85 to 0.95) | >= 0.9 | met | 900 (850 to 950) | 300 (300 to 300) |" in text
    )
    assert "| fast | 32 | 0.50 (0.50 to 0.50) |  |  |" in text
    assert "| 4000 | 0.89 (0.89 to 0.89) | >= 0.9 | MISSED |" in report(a_burst(), [a_scenario(890)], LIMIT)


def test_the_peak_is_one_load_and_not_the_best_of_each_round() -> None:
    rounds = {
        32: [Answers(recorded=each, seconds=1.0) for each in (900, 1200, 900)],
        64: [Answers(recorded=1000, seconds=1.0)] * 3,
        4000: [Answers(recorded=950, seconds=1.0)] * 3,
    }
    result = ScenarioResult(Scenario("fast", (32, 64), (4000,), lead=1.0), rounds, memory=90.0)
    assert result.of_peak(4000).values == (0.95, 0.95, 0.95)
