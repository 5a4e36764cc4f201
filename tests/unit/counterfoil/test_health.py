"""The private port: health and metrics, in words an operator understands."""

import asyncio

import aiohttp
import httpx
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from counterfoil.health import Checks, listening_socket, serve_health_and_metrics
from counterfoil.metrics import Metrics, new_registry
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


async def test_metrics_are_served_in_the_prometheus_text_format() -> None:
    registry = CollectorRegistry()
    Metrics(registry, version="1.2.3")

    status, text = await asked("/metrics", registry=registry)

    assert status == 200
    assert 'counterfoil_build_info{process="",version="1.2.3"} 1.0' in text


async def test_who_asks_for_openmetrics_gets_it_with_the_same_series() -> None:
    registry = new_registry()
    metrics = Metrics(registry, version="1.2.3")
    metrics.initialize_events("acme")
    metrics.initialize_callbacks("acme")
    metrics.event_archived_seconds.labels("acme").observe(7, {"trace_id": "a" * 32})
    accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"
    async with (
        serve_health_and_metrics(ANY_PORT, registry, live={}, ready={}) as address,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        asked = await client.get(f"http://{address}/metrics", headers={"Accept": accept})
        plain = (await client.get(f"http://{address}/metrics", headers={"Accept": "text/plain"})).text
    assert asked.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    families = list(text_string_to_metric_families(asked.text))  # type: ignore[no-untyped-call]
    samples = {(each.name, each.labels.get("le")) for family in families for each in family.samples}
    assert {
        ("counterfoil_callbacks_total", None),
        ("counterfoil_event_archived_seconds_bucket", "300.0"),
    } <= samples
    exemplars = [each.exemplar.labels for f in families for each in f.samples if each.exemplar]
    assert exemplars == [{"trace_id": "a" * 32}]
    assert "aaaa" not in plain


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


async def test_the_address_of_several_servers_on_one_socket_is_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO"), listening_socket(ANY_PORT) as private_socket:
        for _ in range(2):
            async with serve_health_and_metrics(
                private_socket, CollectorRegistry(), live={}, ready={}
            ) as address:
                pass
    assert [each.message for each in caplog.records if "health and metrics" in each.message] == [
        f"health and metrics are at {address}"
    ]
