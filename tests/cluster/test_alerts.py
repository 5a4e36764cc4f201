"""The alerts, checked and tried by Prometheus' own promtool."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from sandbox.controlplane.binaries import ensure
from sandbox.controlplane.processes import run

ROOT = Path(__file__).parents[2]
ALERTS = ROOT / "charts" / "counterfoil" / "files" / "alerts.yaml"
CASES = tuple(Path(__file__).parent / name for name in ("alerts_test.yaml", "alerts_slow_test.yaml"))
ENVIRONMENT: Mapping[str, str] = {"PATH": "/usr/bin:/bin"}


@pytest.fixture(scope="module")
async def promtool() -> Path:
    """The program, built on first use."""
    return (await ensure("promtool")).path("promtool")


async def test_the_alerts_are_rules_that_prometheus_takes(promtool: Path) -> None:
    checked = await run([promtool, "check", "rules", "--lint-fatal", ALERTS], environment=ENVIRONMENT)
    assert checked.code == 0, checked.out + checked.err


async def test_each_alert_fires_when_it_should_and_only_then(promtool: Path) -> None:
    tried = await run([promtool, "test", "rules", *CASES], environment=ENVIRONMENT)
    assert tried.code == 0, tried.out + tried.err


def test_every_alert_is_tried() -> None:
    alerts = [line.split(": ")[1] for line in ALERTS.read_text().splitlines() if "- alert: " in line]
    cases = "".join(each.read_text() for each in CASES)
    assert [each for each in alerts if each not in cases] == []
