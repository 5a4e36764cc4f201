"""
Update the gauges: events by phase, the oldest event that is not archived, the longest wait for a required
copy, senders by whether their key works, archives, mail servers, eSAW, Imports.

Each resync computes them from the cache, which has no finished events. The garbage collector's last pass
supplies the number of those. The sum over all controllers counts each event and sender once.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import Gauge

from controller.cache import Cache
from controller.reconcile.error_policy import RULES
from controller.reconcile.outcomes import outcome_label
from controller.reconcile.state_machine import PHASE_ORDER
from controller.resync.statistics import EventStatistics
from controller.scheduling.due import SUSPENDED_REASONS, WAITING_FOR_ARCHIVE, delete_due
from controller.sharding import HeldShards
from counterfoil.clock import Clock
from counterfoil.i18n.reasons import Server, server_of
from counterfoil.metrics import Metrics
from counterfoil.resources import (
    FINAL_PHASES,
    PHASE_CONDITIONS,
    CleanupPolicy,
    Condition,
    EnvelopeEvent,
    Import,
    Phase,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.envelopeevent import COPY_INVALID
from counterfoil.resources.reopening import COPY_SUSPENDED, DELETE_DELAYED_REASONS, copies_after_end
from counterfoil.resources.routes import used_copies

_PAUSED = SUSPENDED_REASONS | {"ImportOutsideHours", "ImportSuspended"}
"""Reasons of conditions of which nobody has to be alarmed."""


_AWAIT_ARCHIVE = DELETE_DELAYED_REASONS | {WAITING_FOR_ARCHIVE, "AttemptOverdue", COPY_INVALID}
"""Reasons of a delete that waits for an Archive once it is due, beside those of an Archive."""


def publish_shards(metrics: Metrics, held: Callable[[], HeldShards]) -> None:
    """Publish for the whole life of the process how many shards there are, and how many it holds."""
    metrics.shards.set(held().count)
    metrics.shards_held.set_function(lambda: len(held().leases))


@dataclass
class Gauges:
    """Updates the gauges of this process."""

    metrics: Metrics
    cache: Cache
    statistics: EventStatistics
    clock: Clock
    owns: Callable[[str, str], bool]
    _known_organizations: set[str] = field(default_factory=set)
    _known_archives: set[str] = field(default_factory=set)
    """Archives that exist, or that an Organization names."""
    _shown_archives: set[str] = field(default_factory=set)
    """Those of which the readiness is shown."""

    def __post_init__(self) -> None:
        # Counters of all error reasons at zero, so that the first error already shows as a rate.
        for phase in PHASE_ORDER:
            for rule in RULES:
                if rule.reason is not None:
                    self.metrics.attempts.labels(phase, outcome_label(rule.outcome_type), rule.reason)

    def refresh(self) -> None:
        """Compute all gauges."""
        organizations = {each.name for each in self.cache.organizations}
        for gone in self._known_organizations - organizations:
            self.metrics.remove_organization(gone)
        for new in organizations - self._known_organizations:
            self.metrics.initialize_events(new)
        self._known_organizations = organizations
        self._count_events(organizations)
        self._count_senders(organizations)
        self._count_sender_conditions(organizations)
        self._set_archives()
        self._set_organizations()
        self._set_imports()

    def _count_events(self, organizations: set[str]) -> None:
        counts: Counter[tuple[str, Phase]] = Counter()
        oldest: dict[str, datetime] = {}
        uncopied: dict[str, datetime] = {}
        for event in self.cache.events:
            counts[event.organization, event.status.phase] += 1
            created = event.metadata.creation_timestamp
            if created and not is_condition_true(event.status.conditions, "Archived"):
                oldest[event.organization] = min(created, oldest.get(event.organization, created))
            elif (since := self._uncopied_since(event)) is not None:
                uncopied[event.organization] = min(since, uncopied.get(event.organization, since))
        now = self.clock.now()
        for name in organizations:
            finished = self.statistics.counts(name) or {}
            for phase in Phase:
                count = finished.get(phase, 0) if phase in FINAL_PHASES else counts[name, phase]
                self.metrics.events.labels(name, phase).set(count)
            self.metrics.oldest_unfinished_seconds.labels(name).set(_seconds(oldest.get(name), now))
            self.metrics.oldest_open_copy_seconds.labels(name).set(_seconds(uncopied.get(name), now))
            self.metrics.retention_ending.labels(name).set(self.statistics.endangered(name))

    def _uncopied_since(self, event: EnvelopeEvent) -> datetime | None:
        """Return since when an archived event waits for its required copies, or its delete for an archive
        that is read before it; None: neither does. A copy after the end holds nothing."""
        status, organization = event.status, self.cache.organizations.get(event.organization)
        if organization is None or copies_after_end(status):
            return None
        copied = find_condition(status.conditions, PHASE_CONDITIONS[Phase.COPYING])
        since = copied.last_transition_time if copied is not None else None
        if status.phase is not Phase.CLEANING:
            return since if self.cache.awaited_copies(event) else None
        if organization.spec.cleanup.policy is CleanupPolicy.KEEP or not _awaits_archive(status.reason):
            return None
        if since is None or not used_copies(status, organization.spec):
            return None
        # What the last run found may be older than that: it waits for its next one.
        now = self.clock.now()
        due = max(since, delete_due(event, organization.spec, now) or since)
        return due if due < now else None

    def _count_senders(self, organizations: set[str]) -> None:
        counts: Counter[tuple[str, str]] = Counter()
        for sender in self.cache.senders:
            if self.owns("sender", sender.name):
                authorized = find_condition(sender.status.conditions, "Authorized")
                truth = authorized.status if authorized is not None else "Unknown"
                counts[sender.spec.organization_ref.name, truth] += 1
        for name in organizations:
            for truth in ("True", "False", "Unknown"):
                self.metrics.senders.labels(name, truth).set(counts[name, truth])

    def _count_sender_conditions(self, organizations: set[str]) -> None:
        self.metrics.sender_conditions.clear()
        counts = Counter(
            (sender.spec.organization_ref.name, condition.type, condition.status)
            for sender in self.cache.senders
            if sender.spec.organization_ref.name in organizations and self.owns("sender", sender.name)
            for condition in sender.status.conditions
        )
        for labels, count in counts.items():
            self.metrics.sender_conditions.labels(*labels).set(count)

    def _set_archives(self) -> None:
        named = {name for each in self.cache.organizations for name in self.cache.archives_of(each)}
        known = named | {each.name for each in self.cache.archives}
        for gone in self._known_archives - known:
            self.metrics.remove_archive(gone)
        self._known_archives = known
        used = {name for name in named if self.owns("archive", name)}
        # A person suspended it, as for a maintenance: nobody has to be alarmed.
        used -= {each.name for each in self.cache.archives if each.spec.suspend}
        for hidden in self._shown_archives - used:
            self.metrics.archive_ready.remove_by_labels({"archive": hidden})
        self._shown_archives = used
        for name in used:
            archive = self.cache.archives.get(name)
            ready = archive is not None and is_condition_true(archive.status.conditions, "Ready")
            self.metrics.archive_ready.labels(name).set(1 if ready else 0)
        self.metrics.archive_condition.clear()
        for each in self.cache.archives:
            if self.owns("archive", each.name):
                _set_conditions(self.metrics.archive_condition, (each.name,), each.status.conditions)

    def _set_organizations(self) -> None:
        self.metrics.organization_condition.clear()
        self.metrics.mail_ready.clear()
        self.metrics.esaw_reachable.clear()
        self.metrics.sweep_envelopes.clear()
        self.metrics.sweep_complete.clear()
        for organization in self.cache.organizations:
            conditions, settings = organization.status.conditions, organization.spec.notifications
            _set_conditions(self.metrics.organization_condition, (organization.name,), conditions)
            if settings is not None and settings.smtp_secret_ref is not None:
                notified = find_condition(conditions, "Notified")
                fails = notified is not None and notified.status == "False"
                self.metrics.mail_ready.labels(organization.name).set(0 if fails else 1)
            if (swept := organization.status.sweep) is not None:
                for result in ("found", "known", "reopened", "refused"):
                    shown = self.metrics.sweep_envelopes.labels(organization.name, result)
                    shown.set(getattr(swept, result))
                if not organization.spec.suspend:
                    self.metrics.sweep_complete.labels(organization.name).set(1 if swept.complete else 0)
            reachable = find_condition(conditions, "Reachable")
            if reachable is not None and reachable.status != "Unknown":
                answers = reachable.status == "True"
                self.metrics.esaw_reachable.labels(organization.name).set(1 if answers else 0)

    def _set_imports(self) -> None:
        """Only the controller that works on the Imports knows them. A deleted one has no series any more."""
        for metric in (
            self.metrics.import_envelopes,
            self.metrics.import_windows,
            self.metrics.import_condition,
        ):
            metric.clear()
        for imported in (self.cache.imports or {}).values():
            self._set_import(imported)

    def _set_import(self, imported: Import) -> None:
        status, labels = imported.status, (imported.organization, imported.name)
        for result in ("found", "known", "refused", "archived", "skipped", "failed"):
            self.metrics.import_envelopes.labels(*labels, result).set(getattr(status, result))
        windows = {
            "done": status.windows.done,
            "open": len(status.open_windows),
            "total": status.windows.total,
        }
        for state, number in windows.items():
            self.metrics.import_windows.labels(*labels, state).set(number)
        _set_conditions(self.metrics.import_condition, labels, status.conditions)


def _awaits_archive(reason: str | None) -> bool:
    """Whether a delete that is due waits for an Archive: for room, also before its first run, or for one that
    can't be read, or is slow. A suspended one is a person's decision."""
    if reason is None or reason in _AWAIT_ARCHIVE:
        return True
    return reason != COPY_SUSPENDED and server_of(reason) is Server.ARCHIVE


def _seconds(since: datetime | None, now: datetime) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())


def _set_conditions(gauge: Gauge, labels: tuple[str, ...], conditions: Iterable[Condition]) -> None:
    for condition in conditions:
        if condition.status != "Unknown" and condition.reason not in _PAUSED:
            gauge.labels(*labels, condition.type).set(1 if condition.status == "True" else 0)
