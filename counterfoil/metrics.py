"""
Every metric of Counterfoil, under the names that dashboards and alerts rely on.

Each process makes one ``Metrics`` over its own registry and writes to the attributes; ``counterfoil.health`` serves
the registry. Label sets that are known beforehand exist from the start with 0, so that the first failure is seen as
a rate and not as a new series. No label ever takes a value from outside (a path, a token, an unknown name).
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
"""Label value for callbacks to an organization that does not exist: the name asked for is an attacker's to choose."""

_REQUEST_BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)
"""Seconds. From one write to an idle API server (3 ms) to its longest time (20 s)."""

_ESAW_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""Seconds. One answer of eSAW over the internet, up to the longest read."""

_PHASE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
"""Seconds. One attempt of a phase: a look-up takes one answer, archiving moves whole documents."""

_EVENT_BUCKETS = (0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600, 72 * 3600)
"""Seconds. From a second when all is well to days when a person has to consent first."""


class MailKind(StrEnum):
    """What a mail is about."""

    CONSENT = "consent"
    """To a sender: a new key is needed."""
    ESCALATION = "escalation"
    """To the administrators: senders do not react."""
    FAILED = "failed"
    """To the administrators, as all that follow: events failed."""
    ARCHIVE = "archive"
    """An archive can't be used."""
    KEY = "key"
    """Keys can't be used, and their senders can do nothing about it."""
    SOLVED = "solved"
    """One of these is over."""
    DIGEST = "digest"
    """Some of these are still not over."""


class MailOutcome(StrEnum):
    """What became of a mail."""

    SENT = "sent"
    REFUSED = "refused"
    """The mail server takes others, but not this one; it is tried again."""
    FAILED = "failed"
    """The mail server does not work; it is tried again."""


class CallbackOutcome(StrEnum):
    """What became of a callback."""

    NOTED = "noted"
    """200: it is an event now."""
    KNOWN = "known"
    """200: it was an event already."""
    IGNORED = "ignored"
    """200: an action that the organization does not ask for."""
    MALFORMED = "malformed"
    """400: an id or action that cannot be."""
    UNAUTHORIZED = "unauthorized"
    """401: basic auth is missing or wrong."""
    UNKNOWN = "unknown"
    """404: no such organization or token."""
    WRONG_METHOD = "wrong_method"
    """405: neither GET nor POST."""
    TOO_LARGE = "too_large"
    """413: more than a callback ever has."""
    TOO_SLOW = "too_slow"
    """408: the body did not come in time."""
    LIMITED = "limited"
    """429: more than the organization's rate."""
    NOT_READY = "not_ready"
    """503: organizations or their token hashes are not known yet."""
    UNAVAILABLE = "unavailable"
    """503: the API server could not note it down now."""
    REFUSED = "refused"
    """503: the API server will not note it down as things are (rights, quota, schema): somebody has to act."""


def new_registry() -> CollectorRegistry:
    """Make a registry that also tells of the process itself (CPU, memory, open files, garbage collection)."""
    # The *_created series double the number of counters and histograms, and nobody reads them.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]  # not annotated by its authors
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class Metrics:
    """The metrics, each one an attribute named as the metric without its prefix and unit suffix ``_total``."""

    def __init__(self, registry: CollectorRegistry, *, version: str) -> None:
        self.registry = registry

        self.callbacks = Counter(
            "counterfoil_callbacks_total",
            "Callbacks of eSignAnyWhere, by what became of them.",
            ("organization", "outcome"),
            registry=registry,
        )
        self.callback_seconds = Histogram(
            "counterfoil_callback_seconds",
            "Time from a callback's request line to its answer.",
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self.pages = Counter(
            "counterfoil_pages_total",
            "Requests of senders' browsers, by page and what became of them.",
            ("page", "outcome"),
            registry=registry,
        )
        self.page_seconds = Histogram(
            "counterfoil_page_seconds",
            "Time from a browser's request line to its answer.",
            ("page",),
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self.console = Counter(
            "counterfoil_console_total",
            "Requests to the console, by page and what became of them.",
            ("page", "outcome"),
            registry=registry,
        )
        self.console_seconds = Histogram(
            "counterfoil_console_seconds",
            "Time from a browser's request line to the console's answer.",
            ("page",),
            buckets=_REQUEST_BUCKETS,
            registry=registry,
        )
        self.events = Gauge(
            "counterfoil_events",
            "Events by phase, as far as this process follows them.",
            ("organization", "phase"),
            registry=registry,
        )
        self.oldest_unfinished_seconds = Gauge(
            "counterfoil_oldest_unfinished_seconds",
            "Age of the oldest event that is in no final phase; 0 when there is none.",
            ("organization",),
            registry=registry,
        )
        self.attempts = Counter(
            "counterfoil_attempts_total",
            "Attempts of a phase, by outcome (done, wait, skip, fail) and stable reason.",
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
            "Time from noting an event down to its final phase.",
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
            "Requests to eSignAnyWhere, by operation and HTTP status (0: no answer).",
            ("operation", "code"),
            registry=registry,
        )
        self.esaw_request_seconds = Histogram(
            "counterfoil_esaw_request_seconds",
            "Time of a request to eSignAnyWhere until its answer is complete.",
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
            "Time of one operation of an archive.",
            ("archive", "operation"),
            buckets=_PHASE_BUCKETS,
            registry=registry,
        )
        self.senders = Gauge(
            "counterfoil_senders",
            "Senders, by whether their key works (True, False, Unknown).",
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
            "Requests to the API server, by verb, resource and HTTP status (0: no answer).",
            ("verb", "resource", "code"),
            registry=registry,
        )
        self.overdue_seconds = Gauge(
            "counterfoil_overdue_seconds",
            "For how long an event has been due while nobody works on any; 0 when all is well.",
            registry=registry,
        )
        self.watch_silence_seconds = Gauge(
            "counterfoil_watch_silence_seconds",
            "Time since the controller heard of a watch last; bookmarks come about every minute.",
            ("resource",),
            registry=registry,
        )
        self.archive_ready = Gauge(
            "counterfoil_archive_ready",
            "1 for an archive whose last probe succeeded, 0 for one that can't be used.",
            ("archive",),
            registry=registry,
        )
        self.build_info = Gauge(
            "counterfoil_build_info", "1, with the version as label.", ("version",), registry=registry
        )

        self.build_info.labels(version).set(1)
        for phase in Phase:
            if not phase.is_final and phase is not Phase.AWAITING_CONSENT:
                self.phase_seconds.labels(phase.value)
        for mail in MailKind:
            for outcome in MailOutcome:
                self.notifications.labels(mail.value, outcome.value)

    def initialize_callbacks(self, organization: str) -> None:
        """Let an organization's callback counters start at 0; for the receiver."""
        for outcome in CallbackOutcome:
            self.callbacks.labels(organization, outcome.value)

    def initialize_events(self, organization: str) -> None:
        """Let an organization's series about events and senders start at 0; for the controller."""
        for phase in Phase:
            self.events.labels(organization, phase.value)
        self.oldest_unfinished_seconds.labels(organization)
        for authorized in ("True", "False", "Unknown"):
            self.senders.labels(organization, authorized)

    def remove_organization(self, organization: str) -> None:
        """Drop every series of an organization that was deleted."""
        for metric in (self.callbacks, self.events, self.oldest_unfinished_seconds, self.senders):
            metric.remove_by_labels({"organization": organization})

    def kubernetes_request(self, verb: str, resource: str, status: int) -> None:
        """Count one request to the API server; this is the ``observe`` of ``counterfoil.kube.client.connect``."""
        self.kubernetes_requests.labels(verb, resource, str(status)).inc()

    def esaw_request(self, operation: str, code: str, seconds: float) -> None:
        """Count one request to eSAW; this is the ``observe`` of ``counterfoil.esaw.Esaw``."""
        self.esaw_requests.labels(operation, code).inc()
        self.esaw_request_seconds.labels(operation).observe(seconds)


class MetricDescription(NamedTuple):
    """One metric as people read about it."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


def describe_metrics(metrics: Metrics) -> tuple[MetricDescription, ...]:
    """Return what there is, in the order of declaration; for the manual, and to hold dashboards and alerts against."""
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
