"""
OpenTelemetry traces of a callback: its reconciliations, their phases, and each call of eSAW and of an archive
backend. Requests to the pages and the console have a trace each.

Tracing is off unless ``OTEL_EXPORTER_OTLP_ENDPOINT`` is set; then OpenTelemetry is not imported and a span
costs one comparison. The standard ``OTEL_*`` variables configure it, and it needs the extra
``counterfoil[otel]``. The event's annotation ``counterfoil.dev/traceparent`` (W3C Trace Context) continues
one trace in all processes. A trace from outside the cluster is linked only: a client must neither choose nor
hide our traces.

Tracing is configured once per process, as logging is. A span has names and reasons only: no exception
message, no URL.
"""

import importlib
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Thread
from types import TracebackType
from typing import Any, Self

from counterfoil import __version__, logs

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

SHUTDOWN_TIMEOUT_SECONDS = 3.0
"""Timeout for sending the remaining spans when the process ends."""

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")

_log = logging.getLogger(__name__)


class Span:
    """One span. This class is the span of a process without tracing: it records nothing."""

    @property
    def traceparent(self) -> str | None:
        """Value that continues this trace in another process; None when tracing is off."""
        return None

    def set_attributes(self, **attributes: str | float) -> None:
        """Add attributes to the span."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def span(name: str, *, traceparent: str | None = None, **attributes: str | float) -> Span:
    """Begin a span, the parent of all spans inside. It continues ``traceparent`` if that is valid, which
    another process of Counterfoil wrote."""
    if _exporter is None:
        return _NON_RECORDING_SPAN
    parent = _exporter.context_of(traceparent) or _current.get()
    return _RecordingSpan(_exporter, name, parent, attributes, is_current=True)


def root_span(name: str, *, linked: str | None, **attributes: str | float) -> Span:
    """Begin the first span of a trace, for a request from outside. ``linked`` is a ``traceparent`` that the
    client chose: the span links to it, and takes neither its trace nor its sampling decision."""
    if _exporter is None:
        return _NON_RECORDING_SPAN
    return _RecordingSpan(
        _exporter, name, None, attributes, is_current=True, link=_exporter.context_of(linked)
    )


def detached_span(name: str, **attributes: str | float) -> Span:
    """Begin a span without child spans. It can begin in one task and end in another, as a transfer does."""
    if _exporter is None:
        return _NON_RECORDING_SPAN
    return _RecordingSpan(_exporter, name, _current.get(), attributes, is_current=False)


def exemplar(traceparent: str | None = None) -> dict[str, str] | None:
    """Return the exemplar of a metric: the trace of ``traceparent``, or of the current span. None without
    traces, and for one that is not sampled: nobody could find it."""
    if _exporter is None:
        return None
    context = _exporter.context_of(traceparent) if traceparent is not None else _current.get()
    if context is None or not context.trace_flags.sampled:
        return None
    return {"trace_id": f"{context.trace_id:032x}"}


@contextmanager
def configured(process: str, environ: Mapping[str, str]) -> Iterator[None]:
    """Send traces inside the context if the environment enables tracing; at the end send the remaining
    spans."""
    global _exporter  # noqa: PLW0603 - like logging, one per process
    opened = _open(process, environ)
    if opened is None:
        yield
        return
    _exporter = opened
    try:
        yield
    finally:
        _exporter = None
        opened.close()


def _open(process: str, environ: Mapping[str, str]) -> "_OpenTelemetry | None":
    disabled = environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or not any(environ.get(each) for each in ENDPOINT_VARIABLES):
        return None
    try:
        return _OpenTelemetry(process, environ)
    except ImportError as missing:
        _log.error("no traces are sent, since %s is not installed; install counterfoil[otel]", missing.name)
        return None


class _OpenTelemetry:
    """The OpenTelemetry SDK, imported only here."""

    def __init__(self, process: str, environ: Mapping[str, str]) -> None:
        self.api: Any = importlib.import_module("opentelemetry.trace")
        sdk: Any = importlib.import_module("opentelemetry.sdk.trace")
        export: Any = importlib.import_module("opentelemetry.sdk.trace.export")
        resources: Any = importlib.import_module("opentelemetry.sdk.resources")
        otlp: Any = importlib.import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
        attributes = {"service.version": __version__}
        own = environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
        if not environ.get("OTEL_SERVICE_NAME") and "service.name=" not in own:
            attributes["service.name"] = f"counterfoil-{process}"
        resource = resources.Resource.create(attributes)
        self._provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(export.BatchSpanProcessor(otlp.OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("counterfoil", __version__)

    def begin(self, name: str, parent: Any, attributes: Mapping[str, str | float], link: Any) -> Any:
        """Begin a span of the SDK; ``parent`` and ``link`` are a SpanContext or None."""
        context = None
        if parent is not None:
            context = self.api.set_span_in_context(self.api.NonRecordingSpan(parent))
        links = [] if link is None else [self.api.Link(link)]
        return self._tracer.start_span(name, context=context, attributes=_prefixed(attributes), links=links)

    def context_of(self, traceparent: str | None) -> Any:
        """Return the SpanContext of a ``traceparent``, or None."""
        found = _TRACEPARENT.fullmatch(traceparent or "")
        if found is None:
            return None
        trace, parent, flags = (int(part, 16) for part in found.groups())
        return self.api.SpanContext(trace, parent, is_remote=True, trace_flags=self.api.TraceFlags(flags))

    def close(self) -> None:
        """Send the remaining spans within the timeout, so that a slow collector does not delay the end of the
        process."""
        closing = Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(SHUTDOWN_TIMEOUT_SECONDS)


class _RecordingSpan(Span):
    """A span that is exported."""

    def __init__(
        self,
        opened: _OpenTelemetry,
        name: str,
        parent: Any,
        attributes: Mapping[str, str | float],
        *,
        is_current: bool,
        link: Any = None,
    ) -> None:
        self._exporter = opened
        self._span = opened.begin(name, parent, attributes, link)
        self._context = self._span.get_span_context()
        self._is_current = is_current

    @property
    def traceparent(self) -> str | None:
        """The W3C form of this span."""
        context = self._context
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def set_attributes(self, **attributes: str | float) -> None:
        """Add attributes to the span."""
        self._span.set_attributes(_prefixed(attributes))

    def __enter__(self) -> Self:
        if self._is_current:
            self._before = _current.set(self._context)
            self._log_context = logs.log_context(trace_id=f"{self._context.trace_id:032x}")
            self._log_context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, Exception):
            # The text of an error can contain secrets; its type cannot.
            self._span.set_status(
                self._exporter.api.Status(self._exporter.api.StatusCode.ERROR, kind.__name__)
            )
        if self._is_current:
            self._log_context.__exit__(None, None, None)
            _current.reset(self._before)
        self._span.end()


_NON_RECORDING_SPAN = Span()
_exporter: _OpenTelemetry | None = None
_current: ContextVar[Any] = ContextVar("span", default=None)


def _prefixed(attributes: Mapping[str, str | float]) -> dict[str, str | float]:
    return {f"counterfoil.{name}": value for name, value in attributes.items()}
