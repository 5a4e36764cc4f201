"""
``python -m verification.matrix [NAME...]``: run the tests that talk to an API server with other versions
of it, and write the table in docs/support.md.

Each version is built from its Go module (``sandbox.controlplane.binaries.OTHER_VERSIONS``); all else stays as
it is. A version that fails leaves its line in the table, and the exit status is 1.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple
from xml.etree import ElementTree

from sandbox.controlplane.binaries import OTHER_VERSIONS

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "support.md"
BEGIN: Final = "<!-- begin: results of make matrix -->"
END: Final = "<!-- end: results of make matrix -->"
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
    tests = [f"tests/cluster/{each}" for each in OF_API_SERVER]
    arguments = ["-q", "-n", WORKERS, "--dist", "loadfile", f"--junitxml={report}", *tests]
    begun = time.monotonic()
    environment = {**os.environ, "COUNTERFOIL_VERSION": name}
    command = [sys.executable, "-m", "pytest", *arguments]
    subprocess.run(command, cwd=ROOT, env=environment, check=False)  # noqa: S603 - our own command
    passed, failed, skipped = counts(report.read_text() if report.exists() else "<testsuites/>")
    return Result(OTHER_VERSIONS[name].version, passed, failed, skipped, time.monotonic() - begun)


def counts(report: str) -> tuple[int, int, int]:
    """Return how many tests of a JUnit report passed, failed and were skipped. No test is a failure."""
    total = failed = skipped = 0
    for suite in ElementTree.fromstring(report).iter("testsuite"):  # noqa: S314 - pytest wrote it
        total += int(suite.get("tests", "0"))
        failed += int(suite.get("failures", "0")) + int(suite.get("errors", "0"))
        skipped += int(suite.get("skipped", "0"))
    return total - failed - skipped, failed if total else 1, skipped


def with_results(page: str, results: Sequence[tuple[str, Result]], day: str) -> str:
    """Return the page with the lines of these versions; those of others stay."""
    before, rest = page.split(BEGIN)
    table, after = rest.split(END)
    lines = {each.split("|")[1].strip(): each for each in table.splitlines() if each.startswith("| `")}
    for name, found in results:
        lines[f"`{name}`"] = (
            f"| `{name}` | {found.version} | {found.passed} | {found.failed} | {found.skipped} | "
            f"{found.seconds / 60:.0f} min | {day} |"
        )
    head = (
        "| Version | Release | Passed | Failed | Skipped | Took | Date |\n|---|---|---:|---:|---:|---:|---|\n"
    )
    body = "\n".join(lines[each] for each in sorted(lines))
    return f"{before}{BEGIN}\n\n{head}{body}\n\n{END}{after}"


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
    page = with_results(PAGE.read_text("utf-8"), results, time.strftime("%Y-%m-%d"))
    PAGE.write_text(page, "utf-8")
    return 1 if any(found.failed for _, found in results) else 0


if __name__ == "__main__":
    sys.exit(main())
