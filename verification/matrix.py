"""
``python -m verification.matrix [NAME...]``: run the tests that talk to an API server with other versions
of it, and the tests of the chart with another version of Helm; write the table in docs/support.md.

Each version is built from its Go module (``sandbox.controlplane.binaries.OTHER_VERSIONS``); all else stays as
it is. A version that fails leaves its line in the table, and the exit status is 1.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple
from xml.etree import ElementTree

from sandbox.controlplane.binaries import OTHER_VERSIONS
from verification.result_table import ResultTable

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "support.md"
TABLE: Final = ResultTable(
    "<!-- begin: results of make matrix -->",
    "<!-- end: results of make matrix -->",
    "| Version | Release | Passed | Failed | Skipped | Took | Date |\n|---|---|---:|---:|---:|---:|---|\n",
)
WORKERS: Final = "4"

OF_API_SERVER: Final = (
    "test_crd_rules.py",
    "test_kube_client.py",
    "test_controller.py",
    "test_webhook.py",
    "test_receiver.py",
    "test_shard_leases.py",
    "test_namespaces.py",
    "test_secret_ref_policies.py",
    "test_status_bounds.py",
    "test_garbage_collector.py",
    "test_imports.py",
    "test_copies.py",
    "test_routes.py",
    "test_kstatus.py",
    "test_chart_in_cluster.py",
)
"""CRDs and their rules, admission policies, selectable fields, Leases, rights, and each phase of an event."""

OF_HELM: Final = (
    "test_chart_rendering.py",
    "test_chart_namespaces.py",
    "test_chart_in_cluster.py",
    "test_chart_upgrade.py",
    "test_chart_kube_score.py",
    "test_recipes.py",
    "test_trial.py",
)
"""Lint, rendering, installation, upgrade, rollback and removal of the chart."""


class Result(NamedTuple):
    """The result of one version."""

    version: str
    passed: int
    failed: int
    skipped: int
    seconds: float


def run(name: str, folder: Path) -> Result:
    """Run the tests with one of ``OTHER_VERSIONS``."""
    report = folder / f"{name}.xml"
    chosen = OF_HELM if "helm" in OTHER_VERSIONS[name].programs else OF_API_SERVER
    tests = [f"tests/cluster/{each}" for each in chosen]
    arguments = ["-q", "-n", WORKERS, "--dist", "loadfile", f"--junitxml={report}", *tests]
    begun = time.monotonic()
    environment = {**os.environ, "COUNTERFOIL_VERSION": name}
    command = [sys.executable, "-m", "pytest", *arguments]
    # The report has which tests failed (1).
    ended = subprocess.run(command, cwd=ROOT, env=environment, check=False)  # noqa: S603 - our own command
    has_ended = ended.returncode in (0, 1) and report.exists()
    passed, failed, skipped = counts(report.read_text() if has_ended else "<testsuites/>")
    return Result(OTHER_VERSIONS[name].version, passed, failed, skipped, time.monotonic() - begun)


def counts(report: str) -> tuple[int, int, int]:
    """Return how many tests of a JUnit report passed, failed and were skipped. No test is a failure."""
    total = failed = skipped = 0
    for suite in ElementTree.fromstring(report).iter("testsuite"):  # noqa: S314 - pytest wrote it
        total += int(suite.get("tests", "0"))
        failed += int(suite.get("failures", "0")) + int(suite.get("errors", "0"))
        skipped += int(suite.get("skipped", "0"))
    return total - failed - skipped, failed if total else 1, skipped


def row(name: str, found: Result, day: str) -> str:
    """Return the row of a version, without a line feed."""
    return (
        f"| `{name}` | {found.version} | {found.passed} | {found.failed} | {found.skipped} | "
        f"{found.seconds / 60:.0f} min | {day} |"
    )


def with_rows(page: str, rows: Iterable[str]) -> str:
    """Return the page with these rows in place of earlier ones."""
    return TABLE.with_rows(
        page, rows, sorted(OTHER_VERSIONS), lambda name: f"| `{name}` | not run | | | | | |"
    )


def main() -> int:
    """Run them; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m verification.matrix", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(OTHER_VERSIONS)}")
    names = parser.parse_args().names or list(OTHER_VERSIONS)
    if unknown := [each for each in names if each not in OTHER_VERSIONS]:
        parser.error(f"unknown: {', '.join(unknown)}")
    results = []
    with tempfile.TemporaryDirectory(prefix="counterfoil-matrix-") as folder:
        for name in names:
            print(f"[matrix] {name}: {OTHER_VERSIONS[name].version}", flush=True)
            results.append((name, run(name, Path(folder))))
            print(f"[matrix] {name}: {results[-1][1]}", flush=True)
    day = time.strftime("%Y-%m-%d")
    rows = [row(name, found, day) for name, found in results]
    PAGE.write_text(with_rows(PAGE.read_text("utf-8"), rows), "utf-8")
    return 1 if any(found.failed for _, found in results) else 0


if __name__ == "__main__":
    sys.exit(main())
