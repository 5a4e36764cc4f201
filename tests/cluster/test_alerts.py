"""The alerts and the queries of the dashboards, checked and tried by Prometheus' own promtool."""

import json
from pathlib import Path

import pytest

from sandbox.controlplane.binaries import ensure
from sandbox.controlplane.processes import command_environment, run

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "charts" / "counterfoil" / "files" / "alerts.yaml"
CASES = tuple(
    Path(__file__).parent / name
    for name in (
        "alerts_test.yaml",
        "alerts_fast_test.yaml",
        "alerts_hours_test.yaml",
        "alerts_slow_test.yaml",
        "alerts_weeks_test.yaml",
    )
)


@pytest.fixture(scope="module")
async def promtool() -> Path:
    """The program, built on first use."""
    return (await ensure("promtool")).path("promtool")


async def test_the_alerts_are_rules_that_prometheus_takes(promtool: Path) -> None:
    checked = await run(
        [promtool, "check", "rules", "--lint-fatal", ALERTS], environment=command_environment()
    )
    assert checked.code == 0, checked.out + checked.err


async def test_the_queries_of_the_dashboards_are_promql(promtool: Path, tmp_path: Path) -> None:
    queries = [
        target["expr"].replace("$__rate_interval", "5m")
        for dashboard in sorted((ALERTS.parent / "dashboards").glob("*.json"))
        for panel in json.loads(dashboard.read_text(encoding="utf-8"))["panels"]
        for target in panel.get("targets", ())
    ]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.json"
    # JSON is YAML.
    file.write_text(json.dumps({"groups": [{"name": "dashboards", "rules": rules}]}))
    checked = await run([promtool, "check", "rules", file], environment=command_environment())
    assert checked.code == 0, checked.out + checked.err
    assert f"{len(queries)} rules found" in checked.out


async def test_each_alert_fires_when_it_should_and_only_then(promtool: Path) -> None:
    tried = await run([promtool, "test", "rules", *CASES], environment=command_environment())
    assert tried.code == 0, tried.out + tried.err


def test_every_alert_is_tried() -> None:
    alerts = [line.split(": ")[1] for line in ALERTS.read_text().splitlines() if "- alert: " in line]
    cases = "".join(each.read_text() for each in CASES)
    assert [each for each in alerts if each not in cases] == []
