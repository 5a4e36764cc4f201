"""Metrics: the names and labels that dashboards rely on, and series that start at 0."""

import tracemalloc
from collections import Counter
from typing import Final

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.parser import text_string_to_metric_families

from counterfoil.metrics import CallbackOutcome, MailKind, MailOutcome, Metrics, new_registry

IDLE_ORGANIZATIONS: Final = 20
MAX_IDLE_ORGANIZATION_BYTES: Final = 40 * 1024

CONTRACT: dict[str, set[str]] = {
    "counterfoil_callbacks_total": {"organization", "outcome"},
    "counterfoil_callback_seconds": set(),
    "counterfoil_page_requests_total": {"page", "outcome"},
    "counterfoil_console_requests_total": {"page", "outcome"},
    "counterfoil_console_seconds": {"page"},
    "counterfoil_page_seconds": {"page"},
    "counterfoil_events": {"organization", "phase"},
    "counterfoil_oldest_unfinished_seconds": {"organization"},
    "counterfoil_oldest_open_copy_seconds": {"organization"},
    "counterfoil_retention_ending_events": {"organization"},
    "counterfoil_copies_total": {"archive", "outcome", "reason"},
    "counterfoil_attempts_total": {"phase", "outcome", "reason"},
    "counterfoil_phase_seconds": {"phase"},
    "counterfoil_event_seconds": {"organization"},
    "counterfoil_event_archived_seconds": {"organization"},
    "counterfoil_events_failed_total": {"organization", "phase", "reason"},
    "counterfoil_retries_exhausted_total": {"organization"},
    "counterfoil_esaw_requests_total": {"organization", "operation", "code"},
    "counterfoil_esaw_request_seconds": {"operation"},
    "counterfoil_archive_bytes_total": {"archive"},
    "counterfoil_archive_seconds": {"archive", "operation"},
    "counterfoil_unlisted_actions_total": {"organization", "action"},
    "counterfoil_callback_parameters_left_out_total": {"organization"},
    "counterfoil_senders": {"organization", "authorized"},
    "counterfoil_notifications_total": {"organization", "kind", "outcome"},
    "counterfoil_organization_condition": {"organization", "condition"},
    "counterfoil_archive_condition": {"archive", "condition"},
    "counterfoil_import_envelopes": {"organization", "import", "result"},
    "counterfoil_import_events_total": {"organization", "import"},
    "counterfoil_import_windows": {"organization", "import", "state"},
    "counterfoil_import_condition": {"organization", "import", "condition"},
    "counterfoil_sender_conditions": {"organization", "condition", "status"},
    "counterfoil_mail_ready": {"organization"},
    "counterfoil_esaw_reachable": {"organization"},
    "counterfoil_sweep_found_total": {"organization"},
    "counterfoil_sweep_envelopes": {"organization", "result"},
    "counterfoil_sweep_complete": {"organization"},
    "counterfoil_sealing_key_faults": set(),
    "counterfoil_shards": set(),
    "counterfoil_shards_held": set(),
    "counterfoil_webhook_notices_total": {"organization", "outcome"},
    "counterfoil_kubernetes_requests_total": {"verb", "resource", "code"},
    "counterfoil_overdue_seconds": set(),
    "counterfoil_watch_silence_seconds": {"resource"},
    "counterfoil_archive_ready": {"archive"},
    "counterfoil_event_loop_blocks_total": {"cause"},
    "counterfoil_event_loop_longest_block_seconds": {"cause"},
    "counterfoil_event_loop_tasks": set(),
    "counterfoil_event_mismatches_total": {"organization"},
    "counterfoil_uncounted_event_seconds": {"organization"},
    "counterfoil_organizations_age_seconds": set(),
    "counterfoil_build_info": {"version", "process"},
    "counterfoil_namespace_ready": {"namespace", "reason"},
    "counterfoil_namespace_restarts_total": {"namespace", "reason"},
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), version="1.2.3")


def test_the_metrics_are_exactly_those_of_the_contract(metrics: Metrics) -> None:
    found = {}
    for attribute in vars(metrics).values():
        if isinstance(attribute, MetricWrapperBase):
            suffix = "_total" if attribute._type == "counter" else ""
            found[attribute._name + suffix] = set(attribute._labelnames)
    assert found == CONTRACT


def test_an_organizations_callback_counters_start_at_zero(metrics: Metrics) -> None:
    metrics.initialize_callbacks("acme")

    for outcome in CallbackOutcome:
        labels = {"organization": "acme", "outcome": outcome.value}
        assert metrics.registry.get_sample_value("counterfoil_callbacks_total", labels) == 0


def test_an_organizations_events_start_at_zero_in_every_phase(metrics: Metrics) -> None:
    metrics.initialize_events("acme")

    told = generate_latest(metrics.registry).decode()
    assert 'counterfoil_events{organization="acme",phase="AwaitingConsent"} 0.0' in told
    assert 'counterfoil_oldest_unfinished_seconds{organization="acme"} 0.0' in told
    assert 'counterfoil_senders{authorized="False",organization="acme"} 0.0' in told


def test_an_organizations_mails_start_at_zero_and_each_series_is_shown_once(metrics: Metrics) -> None:
    metrics.initialize_events("acme")
    metrics.notifications.labels("acme", MailKind.COPY, MailOutcome.FAILED).inc()

    (family,) = metrics.notifications.collect()
    samples = [each for each in family.samples if each.name == "counterfoil_notifications_total"]
    found = [(each.labels["kind"], each.labels["outcome"], each.value) for each in samples]
    counted = (MailKind.COPY, MailOutcome.FAILED)
    assert sorted(found) == sorted(
        (kind, outcome, float((kind, outcome) == counted)) for kind in MailKind for outcome in MailOutcome
    )
    assert {each.labels["organization"] for each in samples} == {"acme"}


def test_series_of_an_idle_organization_take_little_memory(metrics: Metrics) -> None:
    metrics.initialize_events("first")
    tracemalloc.start()
    try:
        for number in range(IDLE_ORGANIZATIONS):
            metrics.initialize_events(f"organization-{number}")
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert used / IDLE_ORGANIZATIONS < MAX_IDLE_ORGANIZATION_BYTES


def test_a_deleted_organization_leaves_no_series_behind_and_others_stay(metrics: Metrics) -> None:
    for name in ("acme", "other"):
        metrics.initialize_callbacks(name)
        metrics.initialize_events(name)

    metrics.remove_organization("acme")

    told = generate_latest(metrics.registry).decode()
    assert "acme" not in told
    assert 'organization="other"' in told


def test_each_metric_of_a_deleted_organization_is_removed(metrics: Metrics) -> None:
    for metric in vars(metrics).values():
        labels = metric._labelnames if isinstance(metric, MetricWrapperBase) else ()
        if "organization" in labels:
            metric.labels(*("acme" if each == "organization" else "x" for each in labels))

    metrics.remove_organization("acme")

    assert "acme" not in generate_latest(metrics.registry).decode()


def test_each_metric_of_a_deleted_archive_is_removed(metrics: Metrics) -> None:
    for metric in vars(metrics).values():
        labels = metric._labelnames if isinstance(metric, MetricWrapperBase) else ()
        if "archive" in labels:
            metric.labels(*("dms" if each == "archive" else "x" for each in labels))

    metrics.remove_archive("dms")

    assert "dms" not in generate_latest(metrics.registry).decode()


def test_the_callbacks_of_an_organization_that_was_deleted_and_created_count_from_zero(
    metrics: Metrics,
) -> None:
    metrics.callback("acme", "noted")
    metrics.remove_organization("acme")
    metrics.callback("acme", "noted")
    metrics.callback("acme", "noted")

    labels = {"organization": "acme", "outcome": "noted"}
    assert metrics.registry.get_sample_value("counterfoil_callbacks_total", labels) == 2


def test_requests_to_the_api_server_are_counted_by_verb_resource_and_code(metrics: Metrics) -> None:
    metrics.kubernetes_request("create", "envelopeevents", 201)

    labels = {"verb": "create", "resource": "envelopeevents", "code": "201"}
    assert metrics.registry.get_sample_value("counterfoil_kubernetes_requests_total", labels) == 1


def test_the_build_shows_its_version_and_the_process() -> None:
    metrics = Metrics(CollectorRegistry(), version="1.2.3", process="receiver")
    labels = {"version": "1.2.3", "process": "receiver"}
    assert metrics.registry.get_sample_value("counterfoil_build_info", labels) == 1


def test_requests_to_esaw_are_counted_by_organization(metrics: Metrics) -> None:
    metrics.esaw_request("acme", "files", "200", 0.1)
    labels = {"organization": "acme", "operation": "files", "code": "200"}
    assert metrics.registry.get_sample_value("counterfoil_esaw_requests_total", labels) == 1


def test_a_processes_registry_has_its_cpu_time_and_no_created_series() -> None:
    registry = new_registry()
    Metrics(registry, version="0").initialize_callbacks("acme")

    told = generate_latest(registry).decode()

    assert "process_cpu_seconds_total" in told
    assert "_created" not in told


def test_unusual_statuses_of_esaw_count_as_their_class() -> None:
    metrics = Metrics(CollectorRegistry(), version="0")
    for code in ("200", "404", "unreachable", *map(str, range(100, 1000))):
        metrics.esaw_request("acme", "files", code, 0.1)
    (family,) = metrics.esaw_requests.collect()
    counts = {each.labels["code"]: each.value for each in family.samples}
    assert len(counts) <= 50
    assert (counts["404"], counts["unreachable"]) == (2, 1)
    assert sum(counts.values()) == 903


def test_what_happens_in_a_namespace_is_shown_with_its_name(metrics: Metrics) -> None:
    for namespace in ("sales", "legal"):
        metrics.in_namespace(namespace).initialize_callbacks("acme")
    metrics.in_namespace("sales").callback("acme", "noted")

    told = generate_latest(metrics.registry).decode()

    assert 'counterfoil_callbacks_total{namespace="sales",organization="acme",outcome="noted"} 1.0' in told
    assert 'counterfoil_callbacks_total{namespace="legal",organization="acme",outcome="noted"} 0.0' in told
    assert told.count("# TYPE counterfoil_callbacks_total counter") == 1


def test_each_metric_of_an_object_is_of_its_namespace_and_the_others_are_of_the_process(
    metrics: Metrics,
) -> None:
    in_sales = vars(metrics.in_namespace("sales"))
    for name, metric in vars(metrics).items():
        if isinstance(metric, MetricWrapperBase):
            names_object = {"organization", "archive", "import"} & set(metric._labelnames)
            is_of_namespace = metric._name + "_total" * (metric._type == "counter") in metrics.of_namespace
            assert (in_sales[name] is not metric) == is_of_namespace
            assert is_of_namespace >= bool(names_object)


def test_gauges_that_are_computed_again_in_a_namespace_stay_in_another(metrics: Metrics) -> None:
    sales, legal = metrics.in_namespace("sales"), metrics.in_namespace("legal")
    for each in (sales, legal):
        each.mail_ready.labels("acme").set(1)

    sales.mail_ready.clear()
    sales.remove_organization("acme")

    (family,) = (each for each in metrics.registry.collect() if each.name == "counterfoil_mail_ready")
    assert [(each.labels, each.value) for each in family.samples] == [
        ({"namespace": "legal", "organization": "acme"}, 1)
    ]


def test_a_namespace_that_is_no_longer_served_leaves_no_series_behind(metrics: Metrics) -> None:
    for namespace in ("sales", "legal"):
        metrics.in_namespace(namespace).initialize_events("acme")
        metrics.set_namespace_ready(namespace, "Serving", is_ready=True)

    metrics.remove_namespace("sales")

    told = generate_latest(metrics.registry).decode()
    assert "sales" not in told
    assert 'counterfoil_events{namespace="legal",organization="acme",phase="Failed"} 0.0' in told


def test_a_namespace_has_one_reason_at_a_time(metrics: Metrics) -> None:
    metrics.set_namespace_ready("sales", "Forbidden", is_ready=False)
    metrics.set_namespace_ready("sales", "Serving", is_ready=True)

    (family,) = metrics.namespace_ready.collect()
    assert [(each.labels, each.value) for each in family.samples] == [
        ({"namespace": "sales", "reason": "Serving"}, 1)
    ]


def test_the_counters_of_a_namespace_continue_when_its_work_starts_again(metrics: Metrics) -> None:
    metrics.in_namespace("sales").callback("acme", "noted")
    metrics.forget_cluster()
    metrics.in_namespace("sales").callback("acme", "noted")

    labels = {"namespace": "sales", "organization": "acme", "outcome": "noted"}
    assert metrics.registry.get_sample_value("counterfoil_callbacks_total", labels) == 2


@pytest.mark.parametrize("process", ["controller", "receiver", "pages", "console"])
def test_with_the_labels_of_its_target_no_series_of_a_process_is_there_twice(process: str) -> None:
    metrics = Metrics(new_registry(), version="1.2.3", process=process)
    for each in (metrics, metrics.in_namespace("release"), metrics.in_namespace("sales")):
        for metric in vars(each).values():
            if isinstance(metric, MetricWrapperBase) and metric._labelnames:
                metric.labels(*("" for _ in metric._labelnames))

    series = stored_series(generate_latest(metrics.registry).decode(), target_namespace="release")

    assert [each for each, count in series.items() if count > 1] == []


def test_a_process_shows_no_sample_of_a_metric_of_a_namespace_itself() -> None:
    metrics = Metrics(CollectorRegistry(), version="1.2.3", process="receiver")
    metrics.initialize_callbacks("acme")
    metrics.in_namespace("sales").organizations_age_seconds.set(7200)

    told = generate_latest(metrics.registry).decode()

    assert "acme" not in told
    assert "counterfoil_organizations_age_seconds 0.0" not in told
    assert 'counterfoil_organizations_age_seconds{namespace="sales"} 7200.0' in told


def stored_series(
    exposition: str, *, target_namespace: str
) -> Counter[tuple[str, frozenset[tuple[str, str]]]]:
    """Count the samples of each series as Prometheus does with ``honorLabels``: a sample without the label
    ``namespace`` gets that of its target, and an empty label is none."""
    series = Counter[tuple[str, frozenset[tuple[str, str]]]]()
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            labels = {"namespace": target_namespace} | {k: v for k, v in sample.labels.items() if v}
            series[sample.name, frozenset(labels.items())] += 1
    return series
