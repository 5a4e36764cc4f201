"""
All metrics of Counterfoil. Dashboards and alerts rely on their names and labels.

Each process creates one ``Metrics`` with its own registry and writes to the attributes;
``counterfoil.health`` serves the registry. Known label sets start at 0, so that the first failure appears as
a rate and not as a new series. No label takes a value from a request (a path, a token, an unknown name).
The exception is the action of ``unlisted_actions``: 32 names at most for each organization.

A process has one ``Metrics.in_namespace`` for each namespace, for the metrics that name an object there. The
process's registry shows them with the label ``namespace``, and never without it.
"""

from collections.abc import Iterable
from enum import StrEnum
from functools import partial
from itertools import product
from typing import Any, TypeVar, cast

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics_core import Metric as MetricFamily
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from counterfoil import tracing
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

_USUAL_STATUSES = frozenset((*range(200, 205), *range(301, 309), *range(400, 416), 429, *range(500, 505)))
"""HTTP statuses that are label values; others count as their class, or a hostile server could make 900."""


def _status_label(code: str) -> str:
    return f"{code[0]}xx" if code.isdecimal() and int(code) not in _USUAL_STATUSES else code


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
    ESAW = "esaw"
    """eSAW can't be used."""
    CALLBACK = "callback"
    """Callbacks are refused because of their token or login."""
    KEY = "key"
    """Keys can't be used, and their senders cannot fix it."""
    RETENTION = "retention"
    """eSAW deletes envelopes soon that are not safely archived."""
    UNREADABLE = "unreadable"
    """Events can't be read."""
    SOLVED = "solved"
    """A reported problem was solved."""
    WEBHOOK = "webhook"
    """Notices to the webhook were given up."""
    IMPORT = "import"
    """An Import can't continue."""
    COPY = "copy"
    """Copies are not tried any more."""
    DIGEST = "digest"
    """Some reported problems are still not solved."""


class MailOutcome(StrEnum):
    """Result of sending a mail."""

    SENT = "sent"
    REFUSED = "refused"
    """The mail server rejected this mail only; Counterfoil retries."""
    FAILED = "failed"
    """The mail server does not work; Counterfoil retries."""


class NoticeOutcome(StrEnum):
    """Result of an attempt to deliver a notice to a webhook."""

    DELIVERED = "delivered"
    RETRIED = "retried"
    """The attempt failed; Counterfoil retries."""
    FAILED = "failed"
    """The attempt failed and was the last one."""


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
    """503: the body did not arrive in time."""
    LIMITED = "limited"
    """429: above the organization's rate."""
    NOT_READY = "not_ready"
    """503: the organizations or their token hashes are not loaded yet, or are old."""
    UNAVAILABLE = "unavailable"
    """503: the API server could not store the event now."""
    ORGANIZATION_FULL = "organization_full"
    """503: the organization has too many unfinished events or unknown envelopes."""
    MISMATCH = "mismatch"
    """503: the event of this name is about another callback: an administrator must act."""
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


class TracedHistogram(Histogram):
    """A histogram whose observations name the current trace, if traces are on. Only OpenMetrics shows these
    exemplars."""

    def observe(self, amount: float, exemplar: dict[str, str] | None = None) -> None:
        """Observe a value; the default exemplar is the trace of the current span."""
        super().observe(amount, exemplar or tracing.exemplar())


class MailCounter(Counter):
    """A counter of mails by organization, kind and outcome. All series of an organization are shown from its
    start, but one without a mail takes no memory."""

    _organizations: frozenset[str] = frozenset()

    def start(self, organization: str) -> None:
        """Show all series of an organization, at 0."""
        self._organizations |= {organization}

    def remove_by_labels(self, labels: dict[str, str]) -> None:
        """Remove the series of an organization."""
        self._organizations -= {labels["organization"]}
        super().remove_by_labels(labels)

    def collect(self) -> Iterable[MetricFamily]:
        """Return the series, also those at 0."""
        (family,) = super().collect()
        counted = {tuple(each.labels.values()) for each in family.samples}
        for organization, kind, outcome in product(sorted(self._organizations), MailKind, MailOutcome):
            if (organization, kind.value, outcome.value) not in counted:
                labels = {"organization": organization, "kind": kind.value, "outcome": outcome.value}
                family.add_sample(f"{family.name}_total", labels, 0)
        return [family]


_OF_WAITING_EVENTS = (
    (
        "retention_ending_events",
        "Events whose envelope eSignAnyWhere's retention deletes soon and that are not safely archived.",
    ),
    (
        "oldest_unfinished_seconds",
        "Age of the oldest unfinished event that is not archived yet; 0 without such an event.",
    ),
    (
        "oldest_open_copy_seconds",
        "Longest time for which a required copy has been missing, or a delete that waits for an archive has "
        "been due; 0 without one.",
    ),
)
"""Name and description of each metric of the events of an Organization that wait."""

_OF_IMPORTS = (
    (
        "envelopes",
        "Envelopes of an Import by result: found, known, refused, archived, skipped, failed.",
        "result",
    ),
    ("windows", "Windows of an Import by state: done (searched), open (not counted yet), total.", "state"),
    (
        "condition",
        "Each condition of an Import: 1 if it is True, 0 if it is False. None while a person or its hours "
        "suspend it.",
        "condition",
    ),
)
"""Name, description and last label of each metric of the Imports."""

_OF_OBJECTS = frozenset({"organization", "archive", "import"})
"""Labels that name an object of a namespace."""

Metric = Counter | Gauge | Histogram
M = TypeVar("M", Counter, MailCounter, Gauge, TracedHistogram)


class _NamespacesCollector(Collector):
    """Collects the metrics of objects of each namespace, with the label ``namespace``."""

    def __init__(self, without_namespace: CollectorRegistry, process: str) -> None:
        self._without_namespace = without_namespace
        self._process = process
        self.of_namespaces: dict[str, Metrics] = {}

    def describe(self) -> Iterable[MetricFamily]:
        """Return nothing: the registries know the names."""
        return ()

    def collect(self) -> Iterable[MetricFamily]:
        """Return each metric once, with the samples of all namespaces."""
        families = {each.name: each for each in self._without_namespace.collect()}
        if self._process:
            # Prometheus adds the pod's namespace to a sample without one. Of two samples of a series it keeps
            # the first, so one of the process would hide that of the release's own namespace.
            for each in families.values():
                each.samples = []
        for namespace, metrics in self.of_namespaces.items():
            for each in metrics.registry.collect():
                families[each.name].samples += (
                    sample._replace(labels={"namespace": namespace, **sample.labels})
                    for sample in each.samples
                )
        return families.values()


_MISSING = frozenset({"NamespaceForbidden", "NamespaceUnavailable"})
"""The reasons of a namespace that does not exist, or in which the rights or the kinds are missing."""

_REACHED = frozenset({"Serving", "NamespaceIncomplete", "NamespaceStuck", "NamespaceBroken"})
"""The reasons of a namespace in which this process works, or began to work again within ten minutes."""


class Metrics:
    """The metrics. Each attribute has the metric's name without the prefix ``counterfoil_`` and the suffix
    ``_total``."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        version: str,
        process: str = "",
        of_process: "Metrics | None" = None,
    ) -> None:
        """
        Create the metrics.

        ``process``: the name of the process, whose registry shows metrics of objects for its namespaces only.
        Without a process they are shown as they are.
        ``of_process``: the metrics of the process, if these are those of one of its namespaces.
        """
        self._prepare(registry, process, of_process)
        counter, histogram = partial(self._new, Counter), partial(self._new, TracedHistogram)
        gauge, cluster_gauge, namespace_gauge = (
            partial(self._new, Gauge),
            partial(self._new, Gauge, is_of_cluster=True),
            partial(self._new, Gauge, is_of_namespace=True),
        )

        self.callbacks = counter(
            "counterfoil_callbacks_total",
            "Callbacks of eSignAnyWhere, by outcome.",
            ("organization", "outcome"),
        )
        self.unlisted_actions = counter(
            "counterfoil_unlisted_actions_total",
            "Callbacks with an action that the organization does not list; after 32 actions, `other`.",
            ("organization", "action"),
        )
        self.callback_parameters_left_out = counter(
            "counterfoil_callback_parameters_left_out_total",
            "Own parameters of callbacks whose value is unusable, so that the event lacks it.",
            ("organization",),
        )
        self.event_mismatches = counter(
            "counterfoil_event_mismatches_total",
            "Callbacks and envelopes of the sweep whose event name belongs to another callback.",
            ("organization",),
        )
        self.uncounted_event_seconds = gauge(
            "counterfoil_uncounted_event_seconds",
            "Age of the oldest event of this receiver that the controller's count for the ceilings lacks; 0 "
            "without one.",
            ("organization",),
        )
        self.organizations_age_seconds = namespace_gauge(
            "counterfoil_organizations_age_seconds",
            "Time since the receiver got a list of the Organizations or a line of their watch; bookmarks "
            "arrive about every minute.",
        )
        self.callback_seconds = histogram(
            "counterfoil_callback_seconds",
            "Time from a callback's request line to its response.",
            buckets=_REQUEST_BUCKETS,
        )
        self.page_requests, self.console_requests = (
            counter(
                f"counterfoil_{name}_requests_total",
                f"Requests {whose}, by page and outcome.",
                ("page", "outcome"),
            )
            for name, whose in (("page", "of senders' browsers"), ("console", "to the console"))
        )
        self.page_seconds, self.console_seconds = (
            histogram(
                f"counterfoil_{name}_seconds",
                f"Time from a browser's request line to {answer}.",
                ("page",),
                buckets=_REQUEST_BUCKETS,
            )
            for name, answer in (("page", "its response"), ("console", "the console's response"))
        )
        self.events = cluster_gauge(
            "counterfoil_events",
            "Events by phase, of the shards that this process watches.",
            ("organization", "phase"),
        )
        self.retention_ending, self.oldest_unfinished_seconds, self.oldest_open_copy_seconds = (
            cluster_gauge(f"counterfoil_{name}", documentation, ("organization",))
            for name, documentation in _OF_WAITING_EVENTS
        )
        self.attempts = counter(
            "counterfoil_attempts_total",
            "Attempts of a phase, by outcome (done, wait, pause, hold, needconsent, skip, fail) and reason.",
            ("phase", "outcome", "reason"),
        )
        self.copies = counter(
            "counterfoil_copies_total",
            "Copies of archived envelopes by their Archive: outcome verified, or failed with its reason.",
            ("archive", "outcome", "reason"),
        )
        self.phase_seconds = histogram(
            "counterfoil_phase_seconds", "Time of one attempt of a phase.", ("phase",), buckets=_PHASE_BUCKETS
        )
        self.sweep_found = counter(
            "counterfoil_sweep_found_total",
            "Finished envelopes that the sweep found without an event: their callbacks were lost.",
            ("organization",),
        )
        self.sweep_envelopes = cluster_gauge(
            "counterfoil_sweep_envelopes",
            "Envelopes that eSignAnyWhere listed to the last sweep, by result. found: an event was created. "
            "known: it had one. reopened: it had one, which starts again. refused: it has none.",
            ("organization", "result"),
        )
        self.sweep_complete = cluster_gauge(
            "counterfoil_sweep_complete",
            "1 if the last sweep is complete (status.sweep.complete), otherwise 0; none before the first "
            "sweep, and while a person suspends the organization.",
            ("organization",),
        )
        self.event_seconds = histogram(
            "counterfoil_event_seconds",
            "Time from the creation of an event to its final phase.",
            ("organization",),
            buckets=_EVENT_BUCKETS,
        )
        self.event_archived_seconds = histogram(
            "counterfoil_event_archived_seconds",
            "Time until all files of an event are in the archive, from its creation or the later end of its "
            "envelope. Events that waited for a consent or failed before are left out.",
            ("organization",),
            buckets=_EVENT_BUCKETS,
        )
        self.events_failed = counter(
            "counterfoil_events_failed_total",
            "Events that failed, by the phase that failed and the reason.",
            ("organization", "phase", "reason"),
        )
        self.retries_exhausted = counter(
            "counterfoil_retries_exhausted_total",
            "Events that failed because no attempt succeeded before the deadline.",
            ("organization",),
        )
        self.esaw_requests = counter(
            "counterfoil_esaw_requests_total",
            "Requests to eSignAnyWhere, by organization, operation and HTTP status. An unusual status is its "
            "class, as in `4xx`; `unreachable` is no response, `unreadable` an invalid one.",
            ("organization", "operation", "code"),
        )
        self.esaw_request_seconds = histogram(
            "counterfoil_esaw_request_seconds",
            "Time of a request to eSignAnyWhere until its response is complete.",
            ("operation",),
            buckets=_ESAW_BUCKETS,
        )
        self.archive_bytes = counter(
            "counterfoil_archive_bytes_total",
            "Bytes of documents written and verified, by archive.",
            ("archive",),
        )
        self.archive_seconds = histogram(
            "counterfoil_archive_seconds",
            "Time of one operation of an archive backend.",
            ("archive", "operation"),
            buckets=_PHASE_BUCKETS,
        )
        self.senders = cluster_gauge(
            "counterfoil_senders",
            "Senders, by status of the condition Authorized (True, False, Unknown).",
            ("organization", "authorized"),
        )
        self.notifications = self._new(
            MailCounter,
            "counterfoil_notifications_total",
            "Mails to people, by organization, kind and outcome.",
            ("organization", "kind", "outcome"),
        )
        self.organization_condition, self.archive_condition = (
            cluster_gauge(
                f"counterfoil_{kind.lower()}_condition",
                f"Each condition of an {kind}: 1 if it is True, 0 if it is False. None while it is Unknown, "
                "or False because a person suspended something.",
                (kind.lower(), "condition"),
            )
            for kind in ("Organization", "Archive")
        )
        self.sender_conditions = cluster_gauge(
            "counterfoil_sender_conditions",
            "Senders, by condition and its status (True, False, Unknown).",
            ("organization", "condition", "status"),
        )
        self.mail_ready = cluster_gauge(
            "counterfoil_mail_ready",
            "1 for an organization whose mail server takes mails, otherwise 0; none without a mail server.",
            ("organization",),
        )
        self.webhook_notices = counter(
            "counterfoil_webhook_notices_total",
            "Attempts to deliver a notice to the webhook, by organization and outcome.",
            ("organization", "outcome"),
        )
        self.kubernetes_requests = counter(
            "counterfoil_kubernetes_requests_total",
            "Requests to the API server, by verb, resource and HTTP status; 0 without a response.",
            ("verb", "resource", "code"),
        )
        self.overdue_seconds = namespace_gauge(
            "counterfoil_overdue_seconds",
            "Time since which an event is due while the controller works on none; 0 without such an event.",
        )
        self.namespace_ready, self.namespace_restarts = (
            gauge(
                "counterfoil_namespace_ready",
                "Of each namespace to serve: 1 with the reason `Serving`, or 0 with the reason why this "
                "process cannot do all its work in it.",
                ("namespace", "reason"),
            ),
            counter(
                "counterfoil_namespace_restarts_total",
                "How often the work in one of several namespaces ended and started again, by reason.",
                ("namespace", "reason"),
            ),
        )
        self.shards, self.shards_held = (
            gauge("counterfoil_shards", "Number of shards; 0 in a process that is no controller."),
            gauge("counterfoil_shards_held", "Number of shards whose Lease this controller holds."),
        )
        self.watch_silence_seconds = cluster_gauge(
            "counterfoil_watch_silence_seconds",
            "Time since the last data of a watch; bookmarks arrive about every minute.",
            ("resource",),
        )
        self.archive_ready = cluster_gauge(
            "counterfoil_archive_ready",
            "Of the archives that organizations name: 1 if the last probe succeeded, otherwise 0; none while "
            "a person suspends the archive.",
            ("archive",),
        )
        self.import_envelopes, self.import_windows, self.import_condition = (
            cluster_gauge(f"counterfoil_import_{name}", documentation, ("organization", "import", label))
            for name, documentation, label in _OF_IMPORTS
        )
        self.import_events = counter(
            "counterfoil_import_events_total",
            "Events that an Import created, since this controller began to work on it.",
            ("organization", "import"),
        )
        self.esaw_reachable = cluster_gauge(
            "counterfoil_esaw_reachable",
            "1 for an organization whose eSignAnyWhere answers as it should, 0 while it does not; none while "
            "that is unknown.",
            ("organization",),
        )
        self.sealing_key_faults = gauge(
            "counterfoil_sealing_key_faults",
            "Files of sealing keys that this process cannot use; 1 if it cannot read the folder. Keys that "
            "it has read stay in use.",
        )
        self.event_loop_blocks = counter(
            "counterfoil_event_loop_blocks_total",
            "Blocks of the event loop that were longer than 250 ms, by cause (computing, waiting).",
            ("cause",),
        )
        self.event_loop_longest_block_seconds = gauge(
            "counterfoil_event_loop_longest_block_seconds",
            "Longest block of the event loop since the process started, by cause (computing, waiting).",
            ("cause",),
        )
        self.event_loop_tasks = gauge(
            "counterfoil_event_loop_tasks",
            "Asyncio tasks of the process that have not ended. Growth for hours at a steady load shows "
            "tasks that never end.",
        )
        self.build_info = gauge(
            "counterfoil_build_info",
            "Always 1, with the version and the process (receiver, pages, console, controller) as labels.",
            ("version", "process"),
        )

        self._initialize_known_labels(version, process)

    def _prepare(self, registry: CollectorRegistry, process: str, of_process: "Metrics | None") -> None:
        """Prepare the registries, and the lists and counters of the metrics."""
        # By organization and outcome; by verb, resource and status. Callbacks need both: ``labels`` is slow.
        self._callback_counters, self._kubernetes_counters = (
            dict[tuple[str, str], Counter](),
            dict[tuple[str, str, int], Counter](),
        )
        self._of_organization, self._of_archive, self._of_cluster = (
            list[Metric](),
            list[Metric](),
            list[Metric](),
        )
        self.registry = registry
        self._of_process = of_process
        self._reasons = dict[str, str]()
        """The reason of each namespace in ``namespace_ready``; of the process."""
        self._by_name = dict[str, Metric]()
        self.of_namespace = set[str]()
        """Names of the metrics that a process has for each namespace."""
        self._objects = CollectorRegistry() if of_process is None else registry
        self._namespaces = _NamespacesCollector(self._objects, process)
        if of_process is None:
            registry.register(self._namespaces)

    def _new(
        self,
        kind: type[M],
        name: str,
        documentation: str,
        labels: tuple[str, ...] = (),
        *,
        is_of_cluster: bool = False,
        is_of_namespace: bool = False,
        **options: Any,
    ) -> M:
        """Return a metric: that of the process, unless it is of a namespace, as if a label names an object.

        ``is_of_cluster``: a controller computes it from the objects of a namespace that it watches.
        """
        registry = self.registry
        if is_of_namespace or is_of_cluster or _OF_OBJECTS & set(labels):
            registry = self._objects
            self.of_namespace.add(name)
        elif self._of_process is not None:
            return cast("M", self._of_process._by_name[name])
        metric = kind(name, documentation, labels, registry=registry, **options)
        self._by_name[name] = metric
        if "organization" in labels:
            self._of_organization.append(metric)
        if "archive" in labels:
            self._of_archive.append(metric)
        if is_of_cluster:
            self._of_cluster.append(metric)
        return metric

    def in_namespace(self, namespace: str) -> "Metrics":
        """Return the metrics for the work in a namespace; always the same ones for the same name."""
        found = self._namespaces.of_namespaces.get(namespace)
        if found is None:
            found = Metrics(
                CollectorRegistry(), version=self._version, process=self._process, of_process=self
            )
            found._kubernetes_counters = self._kubernetes_counters
            self._namespaces.of_namespaces[namespace] = found
        return found

    def remove_namespace(self, namespace: str) -> None:
        """Remove all series of a namespace that is no longer served."""
        self._namespaces.of_namespaces.pop(namespace, None)
        self._reasons.pop(namespace, None)
        for metric in (self.namespace_ready, self.namespace_restarts):
            metric.remove_by_labels({"namespace": namespace})

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces that have metrics."""
        return tuple(self._namespaces.of_namespaces)

    def set_namespace_ready(self, namespace: str, reason: str, *, is_ready: bool) -> None:
        """Show whether a namespace is served, and the reason."""
        self._reasons[namespace] = reason
        self.namespace_ready.remove_by_labels({"namespace": namespace})
        self.namespace_ready.labels(namespace, reason).set(1 if is_ready else 0)

    def is_missing(self, namespace: str) -> bool:
        """Whether a namespace, or the rights there, were missing when it was last asked for."""
        reasons = self._reasons if self._of_process is None else self._of_process._reasons
        return reasons.get(namespace) in _MISSING

    def is_missing_alone(self, namespace: str) -> bool:
        """Whether a namespace is missing while this process works in another one. Otherwise it may be the
        process that can't work."""
        reasons = self._reasons if self._of_process is None else self._of_process._reasons
        return self.is_missing(namespace) and not _REACHED.isdisjoint(reasons.values())

    def _initialize_known_labels(self, version: str, process: str) -> None:
        self._version, self._process = version, process
        self.build_info.labels(version, process).set(1)
        for cause in ("computing", "waiting"):
            self.event_loop_blocks.labels(cause)
            self.event_loop_longest_block_seconds.labels(cause)
        for phase in Phase:
            if not phase.is_final and phase is not Phase.AWAITING_CONSENT:
                self.phase_seconds.labels(phase.value)

    def initialize_callbacks(self, organization: str) -> None:
        """Start an organization's callback counters at 0; for the receiver."""
        for outcome in CallbackOutcome:
            self.callbacks.labels(organization, outcome.value)
        self.callback_parameters_left_out.labels(organization)
        self.uncounted_event_seconds.labels(organization)
        self.event_mismatches.labels(organization)

    def initialize_events(self, organization: str) -> None:
        """Start an organization's series of events and senders at 0; for the controller."""
        self.event_mismatches.labels(organization)
        self.event_seconds.labels(organization)
        self.event_archived_seconds.labels(organization)
        self.retries_exhausted.labels(organization)
        self.sweep_found.labels(organization)
        self.notifications.start(organization)
        for phase in Phase:
            self.events.labels(organization, phase.value)
        self.oldest_unfinished_seconds.labels(organization)
        self.oldest_open_copy_seconds.labels(organization)
        self.retention_ending.labels(organization)
        for authorized in ("True", "False", "Unknown"):
            self.senders.labels(organization, authorized)

    def callback(self, organization: str, outcome: str) -> None:
        """Count one callback."""
        counter = self._callback_counters.get((organization, outcome))
        if counter is None:
            counter = self.callbacks.labels(organization, outcome)
            self._callback_counters[organization, outcome] = counter
        counter.inc()

    def remove_organization(self, organization: str) -> None:
        """Remove all series of a deleted organization."""
        for outcome in CallbackOutcome:
            self._callback_counters.pop((organization, str(outcome)), None)
        for metric in self._of_organization:
            metric.remove_by_labels({"organization": organization})

    def remove_archive(self, archive: str) -> None:
        """Remove all series of a deleted archive."""
        for metric in self._of_archive:
            metric.remove_by_labels({"archive": archive})

    def forget_cluster(self) -> None:
        """Remove all series that a controller computes from the objects that it watches: it may stop watching
        them."""
        self.overdue_seconds.set_function(float)
        if self._of_process is None:
            self._reasons.clear()
            self.namespace_ready.clear()
        for metric in self._of_cluster:
            metric.clear()
        for metrics in self._namespaces.of_namespaces.values():
            metrics.forget_cluster()

    def kubernetes_request(self, verb: str, resource: str, status: int) -> None:
        """Count one request to the API server; this is the ``observe`` of
        ``counterfoil.kube.client.connect``."""
        counter = self._kubernetes_counters.get((verb, resource, status))
        if counter is None:
            counter = self.kubernetes_requests.labels(verb, resource, str(status))
            self._kubernetes_counters[verb, resource, status] = counter
        counter.inc()

    def esaw_request(self, organization: str, operation: str, code: str, seconds: float) -> None:
        """Count one request to eSAW; this is the ``observe`` of ``counterfoil.esaw.EsawClients``."""
        self.esaw_requests.labels(organization, operation, _status_label(code)).inc()
        self.esaw_request_seconds.labels(operation).observe(seconds)
