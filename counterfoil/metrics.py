"""
All metrics of Counterfoil. Dashboards and alerts rely on their names and labels.

Each process creates one ``Metrics`` with its own registry and writes to the attributes;
``counterfoil.health`` serves the registry. Known label sets start at 0, so that the first failure appears as
a rate and not as a new series. No label takes a value from a request (a path, a token, an unknown name).
"""

from enum import StrEnum
from typing import NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from counterfoil.resources import Phase

NO_ORGANIZATION = ""
"""Label value for callbacks to an unknown organization: an attacker can choose the requested name."""

_REQUEST_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)
"""Seconds. From one write to an idle API server (3 ms) to the timeout of a request (20 s)."""

_ESAW_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Seconds. One response of eSAW over the internet, up to the longest download."""

_PHASE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Seconds. One attempt of a phase: a lookup takes one request, archiving transfers whole documents."""

_EVENT_BUCKETS = (0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600, 72 * 3600)
"""Seconds. From one second without errors to days when a sender must consent first."""


class MailKind(StrEnum):
    """Subject of a mail."""

    CONSENT = "consent"
    """To a sender: a new key is needed."""
    ESCALATION = "escalation"
    """To the administrators: senders do not react."""
    FAILED = "failed"
    """To the administrators, like all following kinds: events failed."""
    ARCHIVE = "archive"
    """An archive can't be used."""
    KEY = "key"
    """Keys can't be used, and their senders cannot fix it."""
    SOLVED = "solved"
    """A reported problem was solved."""
    DIGEST = "digest"
    """Some reported problems are still not solved."""


class MailOutcome(StrEnum):
    """Result of sending a mail."""

    SENT = "sent"
    REFUSED = "refused"
    """The mail server rejected this mail only; Counterfoil retries."""
    FAILED = "failed"
    """The mail server does not work; Counterfoil retries."""


class CallbackOutcome(StrEnum):
    """Result of a callback."""

    NOTED = "noted"
    """200: the receiver created the event."""
    KNOWN = "known"
    """200: the event existed already."""
    IGNORED = "ignored"
    """200: an action that the organization does not process."""
    MALFORMED = "malformed"
    """400: an invalid id or action."""
    UNAUTHORIZED = "unauthorized"
    """401: basic auth is missing or wrong."""
    UNKNOWN = "unknown"
    """404: no such organization or token."""
    WRONG_METHOD = "wrong_method"
    """405: neither GET nor POST."""
    TOO_LARGE = "too_large"
    """413: larger than any valid callback."""
    TOO_SLOW = "too_slow"
    """408: the body did not arrive in time."""
    LIMITED = "limited"
    """429: above the organization's rate."""
    NOT_READY = "not_ready"
    """503: the organizations or their token hashes are not loaded yet."""
    UNAVAILABLE = "unavailable"
    """503: the API server could not store the event now."""
    REFUSED = "refused"
    """503: the API server refused the event (rights, quota, schema): an administrator must act."""


def new_registry() -> CollectorRegistry:
    """Return a registry with the metrics of the process (CPU, memory, open files, garbage collection)."""
    # The *_created series double the number of series of counters and histograms; no dashboard uses them.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # not annotated by its authors
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class Metrics:
    """The metrics. Each attribute has the metric's name without the prefix ``counterfoil_`` and the suffix
    ``_total``."""

    def __init__(self, registry: CollectorRegistry, *, version: str) -> None:
        self.registry = registry

        self.callbacks = Counter(
            "counterfoil_callbacks_total",
            "Callbacks of eSignAnyWhere, by outcome.",
            ("organization", "outcome"),
            registry=registry,
        )
        self.callback_seconds = Histogram(
            "counterfoil_callback_seconds",
            "Time from a callback's request line to its response.",
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self.pages = Counter(
            "counterfoil_pages_total",
            "Requests of senders' browsers, by page and outcome.",
            ("page", "outcome"),
            registry=registry,
        )
        self.page_seconds = Histogram(
            "counterfoil_page_seconds",
            "Time from a browser's request line to its response.",
            ("page",),
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self.console = Counter(
            "counterfoil_console_total",
            "Requests to the console, by page and outcome.",
            ("page", "outcome"),
            registry=registry,
        )
        self.console_seconds = Histogram(
            "counterfoil_console_seconds",
            "Time from a browser's request line to the console's response.",
            ("page",),
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self.events = Gauge(
            "counterfoil_events",
            "Events by phase, of the shards that this process watches.",
            ("organization", "phase"),
            registry=registry,
        )
        self.oldest_unfinished_seconds = Gauge(
            "counterfoil_oldest_unfinished_seconds",
            "Age of the oldest event in a phase that is not final; 0 without such an event.",
            ("organization",),
            registry=registry,
        )
        self.attempts = Counter(
            "counterfoil_attempts_total",
            "Attempts of a phase, by outcome (done, wait, pause, hold, needconsent, skip, fail) and reason.",
            ("phase", "outcome", "reason"),
            registry=registry,
        )
        self.phase_seconds = Histogram(
            "counterfoil_phase_seconds",
            "Time of one attempt of a phase.",
            ("phase",),
            buckets=_PHASE_BUCKETS,
            registry=registry,
        )
        self.event_seconds = Histogram(
            "counterfoil_event_seconds",
            "Time from the creation of an event to its final phase.",
            buckets=_EVENT_BUCKETS,
            registry=registry,
        )
        self.retries_exhausted = Counter(
            "counterfoil_retries_exhausted_total",
            "Events that failed because no attempt succeeded before the deadline.",
            registry=registry,
        )
        self.esaw_requests = Counter(
            "counterfoil_esaw_requests_total",
            "Requests to eSignAnyWhere, by operation and HTTP status; `unreachable` without a response, "
            "`unreadable` for an invalid one.",
            ("operation", "code"),
            registry=registry,
        )
        self.esaw_request_seconds = Histogram(
            "counterfoil_esaw_request_seconds",
            "Time of a request to eSignAnyWhere until its response is complete.",
            ("operation",),
            buckets=_ESAW_BUCKETS,
            registry=registry,
        )
        self.archive_bytes = Counter(
            "counterfoil_archive_bytes_total",
            "Bytes of documents written and verified, by archive.",
            ("archive",),
            registry=registry,
        )
        self.archive_seconds = Histogram(
            "counterfoil_archive_seconds",
            "Time of one operation of an archive backend.",
            ("archive", "operation"),
            buckets=_PHASE_BUCKETS,
            registry=registry,
        )
        self.senders = Gauge(
            "counterfoil_senders",
            "Senders, by status of the condition Authorized (True, False, Unknown).",
            ("organization", "authorized"),
            registry=registry,
        )
        self.notifications = Counter(
            "counterfoil_notifications_total",
            "Mails to people, by kind and outcome.",
            ("kind", "outcome"),
            registry=registry,
        )
        self.kubernetes_requests = Counter(
            "counterfoil_kubernetes_requests_total",
            "Requests to the API server, by verb, resource and HTTP status; 0 without a response.",
            ("verb", "resource", "code"),
            registry=registry,
        )
        self.overdue_seconds = Gauge(
            "counterfoil_overdue_seconds",
            "Time since which an event is due while the controller works on none; 0 without such an event.",
            registry=registry,
        )
        self.watch_silence_seconds = Gauge(
            "counterfoil_watch_silence_seconds",
            "Time since the last data of a watch; bookmarks arrive about every minute.",
            ("resource",),
            registry=registry,
        )
        self.archive_ready = Gauge(
            "counterfoil_archive_ready",
            "1 for an archive whose last probe succeeded, otherwise 0.",
            ("archive",),
            registry=registry,
        )
        self.build_info = Gauge(
            "counterfoil_build_info", "Always 1, with the version as label.", ("version",), registry=registry
        )

        self.build_info.labels(version).set(1)
        for phase in Phase:
            if not phase.is_final and phase is not Phase.AWAITING_CONSENT:
                self.phase_seconds.labels(phase.value)
        for mail in MailKind:
            for outcome in MailOutcome:
                self.notifications.labels(mail.value, outcome.value)

    def initialize_callbacks(self, organization: str) -> None:
        """Start an organization's callback counters at 0; for the receiver."""
        for outcome in CallbackOutcome:
            self.callbacks.labels(organization, outcome.value)

    def initialize_events(self, organization: str) -> None:
        """Start an organization's series of events and senders at 0; for the controller."""
        for phase in Phase:
            self.events.labels(organization, phase.value)
        self.oldest_unfinished_seconds.labels(organization)
        for authorized in ("True", "False", "Unknown"):
            self.senders.labels(organization, authorized)

    def remove_organization(self, organization: str) -> None:
        """Remove all series of a deleted organization."""
        for metric in (self.callbacks, self.events, self.oldest_unfinished_seconds, self.senders):
            metric.remove_by_labels({"organization": organization})

    def kubernetes_request(self, verb: str, resource: str, status: int) -> None:
        """Count one request to the API server; this is the ``observe`` of
        ``counterfoil.kube.client.connect``."""
        self.kubernetes_requests.labels(verb, resource, str(status)).inc()

    def esaw_request(self, operation: str, code: str, seconds: float) -> None:
        """Count one request to eSAW; this is the ``observe`` of ``counterfoil.esaw.Esaw``."""
        self.esaw_requests.labels(operation, code).inc()
        self.esaw_request_seconds.labels(operation).observe(seconds)


class MetricDescription(NamedTuple):
    """One metric, for the reference page."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


def describe_metrics(metrics: Metrics) -> tuple[MetricDescription, ...]:
    """Return all metrics in the order of declaration; for the manual and the tests of dashboards and
    alerts."""
    families = (each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase))
    return tuple(
        MetricDescription(
            # prometheus_client keeps a counter's name without its suffix.
            name=f"{each._name}_total" if each._type == "counter" else each._name,
            type=each._type or "",
            labels=tuple(each._labelnames),
            help=each._documentation,
        )
        for each in families
    )
