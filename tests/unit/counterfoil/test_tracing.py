"""Traces: nothing when they are off, and what a collector gets when they are on."""

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry

from counterfoil import tracing
from counterfoil.logs import JsonFormatter
from counterfoil.metrics import Metrics
from tests.support.servers.trace_collector import Collector, trace_collector

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    async with trace_collector() as running:
        yield running


@contextmanager
def sending(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # The SDK reads the process's own environment.
    for name, value in collector.environment.items():
        monkeypatch.setenv(name, value)
    with tracing.configured("tester", collector.environment):
        yield


async def sent(collector: Collector, number: int) -> None:
    """Wait until this number of spans has arrived; a thread sends them."""
    async with asyncio.timeout(30):
        while len(collector.spans) < number:  # noqa: ASYNC110 - a thread gives no event
            await asyncio.sleep(0.02)


def test_without_an_endpoint_nothing_is_imported_and_nothing_made() -> None:
    program = (
        "import sys; from counterfoil import tracing\n"
        "with tracing.configured('x', {}), tracing.span('a', b=1) as step:\n"
        "    assert step.traceparent is None\n"
        "    assert step is tracing.detached_span('c')\n"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_the_sdk_can_be_disabled_by_its_own_variable() -> None:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}
    with tracing.configured("x", environment), tracing.span("a") as step:
        assert step.traceparent is None


def test_without_the_extra_it_says_what_to_install_and_continues() -> None:
    program = (
        "import sys; sys.modules['opentelemetry.sdk.trace'] = None\n"
        "from counterfoil import tracing\n"
        "with tracing.configured('x', {'OTEL_EXPORTER_OTLP_ENDPOINT': 'http://127.0.0.1:1'}):\n"
        "    assert tracing.span('a').traceparent is None"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "install counterfoil[otel]" in ended.stderr


async def test_spans_inside_are_parts_and_a_traceparent_is_continued(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sending(collector, monkeypatch):
        with tracing.span("outer", traceparent=PARENT, organization="acme") as outer:
            handed_on = outer.traceparent
            with tracing.span("inner"), tracing.detached_span("leaf") as leaf:
                leaf.set_attributes(code="200")
        await sent(collector, 3)
    spans = {each.name: each for each in collector.spans}
    assert {each.trace for each in collector.spans} == {PARENT[3:35]}
    assert spans["outer"].parent == PARENT[36:52]
    assert handed_on == f"00-{spans['outer'].trace}-{spans['outer'].id}-01"
    assert spans["inner"].parent == spans["outer"].id
    assert spans["leaf"].parent == spans["inner"].id
    assert spans["leaf"].facts == {"counterfoil.code": "200"}
    assert spans["outer"].service == "counterfoil-tester"


@pytest.mark.parametrize(
    "odd", ["", "nonsense", f"00-{'0' * 32}-b7ad6b7169203331-01", PARENT + "\n", "01" + PARENT[2:]]
)
async def test_an_invalid_traceparent_starts_a_new_trace(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, odd: str
) -> None:
    with sending(collector, monkeypatch):
        with tracing.span("alone", traceparent=odd):
            pass
        await sent(collector, 1)
    assert collector.spans[0].parent == ""
    assert collector.spans[0].trace != PARENT[3:35]


async def test_an_error_is_reported_by_its_type_and_never_by_its_text(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sending(collector, monkeypatch):
        with pytest.raises(ValueError, match="secret"), tracing.span("a"), tracing.detached_span("b"):
            raise ValueError("a secret")
        await sent(collector, 2)
    assert [each.error for each in collector.spans] == ["ValueError", "ValueError"]
    assert b"secret" not in collector.bytes


async def test_what_is_left_is_sent_at_the_end(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")

    def work() -> None:
        with tracing.configured("tester", collector.environment), tracing.span("last"):
            pass

    await asyncio.to_thread(work)
    await sent(collector, 1)


def test_a_collector_that_never_answers_does_not_delay_the_end() -> None:
    program = (
        "import os, socket; from counterfoil import tracing\n"
        "silent = socket.create_server(('127.0.0.1', 0))\n"
        "os.environ['OTEL_EXPORTER_OTLP_ENDPOINT'] = f'http://127.0.0.1:{silent.getsockname()[1]}'\n"
        "os.environ['OTEL_EXPORTER_OTLP_TIMEOUT'] = '600'\n"
        "with tracing.configured('x', os.environ), tracing.span('a'): pass"
    )
    # Far less than what the collector would be waited for.
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=120)


async def test_log_lines_inside_have_the_id_of_the_trace(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = logging.LogRecord("test", logging.INFO, __file__, 1, "x", (), None)
    with sending(collector, monkeypatch):
        with tracing.span("a", traceparent=PARENT):
            inside = json.loads(JsonFormatter().format(record))
        after = json.loads(JsonFormatter().format(record))
        await sent(collector, 1)
    assert inside["trace_id"] == PARENT[3:35]
    assert "trace_id" not in after


async def test_an_observation_within_a_span_names_its_trace(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics(CollectorRegistry(), version="test")
    with sending(collector, monkeypatch):
        with tracing.span("event", traceparent=PARENT):
            metrics.event_archived_seconds.labels("acme").observe(7)
        # Neither a trace that is not sampled nor a span that ended can be found.
        with tracing.span("other", traceparent=f"{PARENT[:-2]}00"):
            metrics.event_archived_seconds.labels("other").observe(7)
        metrics.event_archived_seconds.labels("late").observe(7)
        metrics.event_archived_seconds.labels("given").observe(7, tracing.exemplar(PARENT))
        # Otherwise the end would wait for the collector, and the collector for this loop.
        await sent(collector, 1)
    metrics.event_archived_seconds.labels("off").observe(7, tracing.exemplar(PARENT))
    named = {
        each.labels["organization"]: each.exemplar.labels["trace_id"]
        for family in metrics.registry.collect()
        for each in family.samples
        if each.exemplar is not None
    }
    trace = PARENT.split("-")[1]
    assert named == {"acme": trace, "given": trace}
