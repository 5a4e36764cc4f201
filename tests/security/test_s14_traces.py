"""S14: choose the trace of a callback, or hide it, with a header of the request."""

import asyncio

import pytest

from counterfoil import tracing
from counterfoil.resources import TRACEPARENT_ANNOTATION
from tests.support.scenes.receiver_parts import PATH, QUERY, a_counter
from tests.support.servers.trace_collector import Collector, trace_collector

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


async def arrived(collector: Collector) -> None:
    async with asyncio.timeout(60):
        while not collector.spans:  # noqa: ASYNC110 - a thread gives no event
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("flags", ["00", "01"], ids=["hidden", "chosen"])
async def test_a_header_of_a_callback_neither_chooses_nor_hides_its_trace(
    flags: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trace_collector() as collector:
        for name, value in collector.environment.items():
            monkeypatch.setenv(name, value)
        header = {"traceparent": f"00-{TRACE}-{PARENT}-{flags}"}
        with tracing.configured("receiver", collector.environment):
            async with a_counter() as receiver:
                answer = await receiver.asked(f"{PATH}?{QUERY}", headers=header)
                await arrived(collector)
    (event,) = receiver.kube.objects.values()
    (span,) = collector.named("callback")

    assert answer.status == 200
    assert (span.parent, span.trace != TRACE) == ("", True)
    assert TRACE not in event["metadata"]["annotations"][TRACEPARENT_ANNOTATION]
    assert int(event["metadata"]["annotations"][TRACEPARENT_ANNOTATION][-2:], 16) & 1, "it is sampled"
    # Who operates the proxy can still find the callback by the proxy's trace.
    assert span.links == (f"{TRACE}-{PARENT}",)
