"""The private port: health and metrics, in words an operator understands."""

import asyncio

import aiohttp
from prometheus_client import CollectorRegistry

from counterfoil.health import Checks, serve_health_and_metrics
from counterfoil.metrics import Metrics
from counterfoil.settings import ListenAddress

ANY_PORT = ListenAddress("127.0.0.1", 0)


async def well() -> str | None:
    return None


async def unwell() -> str | None:
    return "the API server does not answer"


async def broken() -> str | None:
    raise RuntimeError("secret")


async def asked(
    path: str,
    *,
    live: Checks | None = None,
    ready: Checks | None = None,
    registry: CollectorRegistry | None = None,
) -> tuple[int, str]:
    async with (
        serve_health_and_metrics(
            ANY_PORT, registry or CollectorRegistry(), live=live or {}, ready=ready or {}
        ) as at,
        aiohttp.ClientSession() as session,
        session.get(f"http://{at}{path}") as answer,
    ):
        return answer.status, await answer.text()


async def test_a_process_that_is_well_answers_200_ok() -> None:
    assert await asked("/healthz", live={"loop": well}) == (200, "ok")
    assert await asked("/readyz", ready={"api": well}) == (200, "ok")


async def test_a_failed_check_answers_503_with_its_name_and_reason() -> None:
    status, text = await asked("/readyz", ready={"disk": well, "kubernetes": unwell})
    assert (status, text) == (503, "kubernetes: the API server does not answer\n")


async def test_liveness_and_readiness_have_their_own_checks() -> None:
    status, _ = await asked("/healthz", live={"loop": well}, ready={"kubernetes": unwell})
    assert status == 200


async def test_a_check_that_raises_has_failed_and_its_message_stays_inside() -> None:
    status, text = await asked("/readyz", ready={"odd": broken})
    assert (status, text) == (503, "odd: could not be checked (RuntimeError)\n")


async def test_metrics_are_told_in_the_prometheus_text_format() -> None:
    registry = CollectorRegistry()
    Metrics(registry, version="1.2.3")

    status, text = await asked("/metrics", registry=registry)

    assert status == 200
    assert 'counterfoil_build_info{version="1.2.3"} 1.0' in text


async def test_nothing_else_is_served() -> None:
    assert (await asked("/"))[0] == 404


async def test_the_port_is_free_again_after_the_end() -> None:
    async with serve_health_and_metrics(ANY_PORT, CollectorRegistry(), live={}, ready={}) as first:
        pass
    async with (
        asyncio.timeout(60),
        serve_health_and_metrics(first, CollectorRegistry(), live={}, ready={}) as second,
    ):
        assert second == first
