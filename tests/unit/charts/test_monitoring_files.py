"""
The alerts and the dashboards name only metrics, labels and values that the code has, and each alert has its
page.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

from counterfoil.metrics import CallbackOutcome
from counterfoil.resources import Phase
from docs.tools.generate_metrics import describe_metrics
from webhook.pages.errors import PageErrorKind

ROOT = Path(__file__).parents[3]
FILES = ROOT / "charts" / "counterfoil" / "files"
DASHBOARDS = sorted((FILES / "dashboards").glob("*.json"))
RUNBOOKS = ROOT / "docs" / "runbooks"

ADDED_BY_PROMETHEUS = {"namespace", "pod", "instance", "le", "app_kubernetes_io_component"}
METRICS = {each.name: each for each in describe_metrics()}
HISTOGRAM_SUFFIXES = ("_bucket", "_count", "_sum")
PROCESSES = {"receiver", "pages", "console", "controller"}
VALUES = {
    "phase": {each.value for each in Phase},
    "process": PROCESSES,
    "counterfoil_callbacks_total outcome": {each.value for each in CallbackOutcome},
    "counterfoil_page_requests_total outcome": {each.value for each in PageErrorKind},
}

SELECTION = re.compile(r"\b(counterfoil_[a-z_]+|process_[a-z_]+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')
GROUPING = re.compile(r"\b(?:by|on) \(([^)]*)\)")


OF_OTHERS = {
    "kube_resourcequota": {"resource", "resourcequota", "type"},
    "kube_job_failed": {"condition", "job_name"},
}
"""Metrics of kube-state-metrics, and their labels."""


@cache
def rules() -> list[dict[str, str]]:
    groups = yaml.safe_load((FILES / "alerts.yaml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = [rule for rule in rules() if "alert" in rule]


def queries() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for dashboard in DASHBOARDS:
        for panel in json.loads(dashboard.read_text(encoding="utf-8"))["panels"]:
            for target in panel.get("targets", ()):
                yield f"{dashboard.stem}: {panel['title']}", target["expr"]


def family(name: str) -> str | None:
    """The metric that a series belongs to."""
    bare = next((name.removesuffix(each) for each in HISTOGRAM_SUFFIXES if name.endswith(each)), name)
    if bare in METRICS and METRICS[bare].type == "histogram":
        return bare if bare != name else None
    return name if name in METRICS else None


@pytest.mark.parametrize(("title", "query"), list(queries()))
def test_a_query_names_only_what_the_code_has(title: str, query: str) -> None:
    labels = set(ADDED_BY_PROMETHEUS)
    labels |= {label for name, added in OF_OTHERS.items() if name in query for label in added}
    for name, matchers in SELECTION.findall(query):
        if name.startswith("process_"):
            continue
        metric = family(name)
        assert metric is not None, f"{title}: there is no series {name}"
        labels |= set(METRICS[metric].labels)
        for label, operator, value in MATCHER.findall(matchers):
            assert label in {*METRICS[metric].labels, *ADDED_BY_PROMETHEUS}, (
                f"{title}: {name} has no label {label}"
            )
            known = VALUES.get(f"{metric} {label}") or VALUES.get(label)
            if known is not None:
                chosen = set(value.split("|")) if "~" in operator else {value}
                assert chosen <= known, f"{title}: {label} is never {chosen - known}"
    grouped = {each.strip() for group in GROUPING.findall(query) for each in group.split(",") if each}
    assert grouped <= labels, f"{title}: nothing has the label {grouped - labels}"


def test_each_process_has_the_name_that_the_alerts_have() -> None:
    started = [
        *(
            (ROOT / "webhook" / name / "app.py", r'run_process\(\s+"(\w+)",')
            for name in PROCESSES - {"controller"}
        ),
        (ROOT / "controller" / "__main__.py", r'Metrics\([^)]*\), version=__version__, process="(\w+)"\)'),
    ]
    names = [re.findall(call, path.read_text(encoding="utf-8")) for path, call in started]
    assert sorted(name for found in names for name in found) == sorted(PROCESSES)


def test_a_query_of_recorded_series_names_only_those_that_are_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    used = {name for _, query in queries() for name in re.findall(r"\bcounterfoil:[a-z0-9_:]+", query)}
    assert used <= recorded


def first_outcomes(expression: str) -> list[str]:
    """The outcomes that the first selector of an expression names."""
    return str(re.findall(r'outcome=~"([^"]*)"', expression)[0]).split("|")


def test_each_outcome_of_a_callback_counts_as_good_bad_or_none() -> None:
    counted: list[str] = []
    for rule in rules():
        if rule.get("record", "").startswith("counterfoil:callbacks_not_recorded:ratio1h"):
            counted += first_outcomes(rule["expr"])
        if rule.get("record") == "counterfoil:callbacks_not_recorded:increase1h":
            counted += first_outcomes(rule["expr"])
    scans = ["malformed", "unauthorized", "unknown", "wrong_method", "too_large"]
    assert sorted([*counted, *scans]) == sorted(each.value for each in CallbackOutcome)


def test_a_token_endpoint_that_refuses_counterfoil_fires_an_alert() -> None:
    """Nothing but the pages asks it, so neither a condition nor a mail tells that no sender can consent."""
    of_pages = [rule["expr"] for rule in ALERTS if "counterfoil_page_requests_total" in rule["expr"]]
    told = {outcome for each in of_pages for outcome in first_outcomes(each)}
    assert {PageErrorKind.CLIENT_REFUSED, PageErrorKind.EXCHANGE_REFUSED} <= told


def test_every_metric_is_on_a_dashboard() -> None:
    dashboards = "".join(each.read_text(encoding="utf-8") for each in DASHBOARDS)
    assert [name for name in METRICS if name not in dashboards] == []


def test_the_dashboard_of_organizations_shows_those_that_are_chosen_only() -> None:
    for title, query in queries():
        if title.startswith("organizations: "):
            selections = re.findall(r"counterfoil_[a-z_]+\{([^}]*)\}", query)
            assert all('organization=~"$organization"' in each for each in selections), title


def test_each_dashboard_leads_to_the_others_with_the_chosen_values() -> None:
    dashboards = [json.loads(each.read_text(encoding="utf-8")) for each in DASHBOARDS]
    for dashboard in dashboards:
        (link,) = dashboard["links"]
        assert (link["type"], link["includeVars"], link["keepTime"]) == ("dashboards", True, True)
        assert all(set(link["tags"]) <= set(other["tags"]) for other in dashboards)


def test_no_two_dashboards_have_one_identity() -> None:
    assert len({json.loads(each.read_text(encoding="utf-8"))["uid"] for each in DASHBOARDS}) == 3


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda path: path.stem)
def test_no_two_panels_overlap_and_each_has_a_description(dashboard: Path) -> None:
    panels = json.loads(dashboard.read_text(encoding="utf-8"))["panels"]
    assert len({each["id"] for each in panels}) == len(panels)
    fields = [
        (x, y)
        for each in panels
        for x in range(each["gridPos"]["x"], each["gridPos"]["x"] + each["gridPos"]["w"])
        for y in range(each["gridPos"]["y"], each["gridPos"]["y"] + each["gridPos"]["h"])
    ]
    assert len(fields) == len(set(fields))
    assert max(x for x, _ in fields) < 24
    assert [each["title"] for each in panels if each["type"] != "row" and not each["description"]] == []


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_names_the_problem_and_has_a_page_that_says_what_to_do(
    alert: dict[str, dict[str, str]],
) -> None:
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert {"summary", "description", "runbook_url"} <= set(alert["annotations"])
    page = ROOT / alert["annotations"]["runbook_url"]
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {alert['alert']}\n")
    for part in ("## What it means", "## What to do"):
        assert part in text


def test_every_runbook_belongs_to_an_alert() -> None:
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == {str(alert["alert"]) for alert in ALERTS}
