"""
A collector of traces: a real OTLP endpoint over HTTP on the loopback interface, which keeps what it gets.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.test_utils import TestServer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Sent:
    """One span as it arrived."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    facts: dict[str, str]
    error: str
    links: tuple[str, ...] = ()
    """Each linked span, as ``TRACE-SPAN``."""


@dataclass
class Collector:
    """The received traces, and the address of the collector."""

    url: str = ""
    spans: list[Sent] = field(default_factory=list)
    bytes: bytes = b""

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that make a process send its traces here, and quickly."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}

    def named(self, name: str) -> list[Sent]:
        """All spans of a name."""
        return [each for each in self.spans if each.name == name]

    async def take(self, request: web.Request) -> web.Response:
        """Take one export."""
        body = await request.read()
        self.bytes += body
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = {each.key: each.value.string_value for each in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    facts = {
                        each.key: each.value.string_value or str(each.value.int_value)
                        for each in span.attributes
                    }
                    self.spans.append(
                        Sent(
                            service=about["service.name"],
                            name=span.name,
                            trace=span.trace_id.hex(),
                            id=span.span_id.hex(),
                            parent=span.parent_span_id.hex(),
                            facts=facts,
                            error=span.status.message,
                            links=tuple(f"{each.trace_id.hex()}-{each.span_id.hex()}" for each in span.links),
                        )
                    )
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")


@asynccontextmanager
async def trace_collector() -> AsyncIterator[Collector]:
    """Run a collector."""
    collector = Collector()
    app = web.Application(client_max_size=16 * 1024**2)
    app.router.add_post("/v1/traces", collector.take)
    async with TestServer(app) as server:
        collector.url = str(server.make_url("")).rstrip("/")
        yield collector
