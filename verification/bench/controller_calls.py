"""
The work of one event in the controller, from create to delete: Python function calls and CPU time by part.

The controller is a process as in production, with a real API server, the stand-in for eSAW and an archive of
kind ``filesystem``. It runs twice, with few envelopes of three files and with ``--count`` more. The table has
the difference, so it does not count the start. Work that depends on time alone, such as that for the Lease,
is in it, so the machine should be idle. The profiler makes each call slower, so the times are shares, not
costs. Signatures are not examined.

    .venv/bin/python -m verification.bench.controller_calls [--count 300] [--at-once 32]
"""

import argparse
import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sandbox.environment.processes import CounterfoilProcess
from verification.bench.controller import ensure_all_deleted
from verification.bench.profiled_controller import FileWork
from verification.bench.setup import BenchSetup, MetricSamples, bench_setup

TO_API_SERVER = "counterfoil_kubernetes_requests_total"

FIRST = 40
"""Envelopes of the run that is subtracted."""

PARTS = {
    "log lines": ("/counterfoil/logs.py", "/logging/"),
    "metrics and traces": ("/counterfoil/metrics.py", "/counterfoil/tracing.py", "/prometheus_client/"),
    "watch: kopf and its handlers": ("/kopf/", "/controller/watch/"),
    "client of the API server": ("/counterfoil/kube/", "/kubernetes/"),
    "client of eSignAnyWhere": ("/counterfoil/esaw/", "/counterfoil/_upstream/", "/httpx", "/httpcore"),
    "aiohttp, both clients": ("/aiohttp/", "/yarl/", "/multidict/"),
    "archive: write, read back, prove": ("/counterfoil/archives/",),
    "objects: read and write": ("/counterfoil/resources/", "/msgspec/"),
    "phases and status": ("/controller/reconcile/",),
    "order of events, limits, keys": ("/controller/", "/counterfoil/"),
    "event loop and standard library": ("",),
}
"""Parts of the work by a piece of the path of a file; the first that matches counts."""


@dataclass(frozen=True)
class ControllerWork:
    """The work of a run, or of one event of it."""

    calls: Mapping[str, float]
    """Calls of Python functions by part."""
    microseconds: Mapping[str, float]
    """CPU time by part."""
    to_api_server: Mapping[str, float]
    """Requests by verb and resource, such as ``get senders``."""
    to_esaw: float
    """Requests."""

    def per_event(self, first: "ControllerWork", events: int) -> "ControllerWork":
        """Return the work of one event; this run has ``events`` more than the first one."""
        return ControllerWork(
            {part: (self.calls[part] - first.calls[part]) / events for part in PARTS},
            {part: (self.microseconds[part] - first.microseconds[part]) / events for part in PARTS},
            {
                each: (number - first.to_api_server.get(each, 0.0)) / events
                for each, number in self.to_api_server.items()
            },
            (self.to_esaw - first.to_esaw) / events,
        )


def by_part(files: Mapping[str, FileWork], metrics: MetricSamples) -> ControllerWork:
    """Return the work of a run from what its controller wrote and measured."""
    calls, microseconds = dict.fromkeys(PARTS, 0.0), dict.fromkeys(PARTS, 0.0)
    for path, work in files.items():
        part = next(part for part, pieces in PARTS.items() if any(piece in path for piece in pieces))
        calls[part] += work.calls
        microseconds[part] += work.microseconds
    return ControllerWork(
        calls,
        microseconds,
        {
            f"{verb} {resource}": metrics.total(TO_API_SERVER, verb=verb, resource=resource)
            for verb in metrics.totals(TO_API_SERVER, "verb")
            for resource in metrics.totals(TO_API_SERVER, "resource")
        },
        metrics.total("counterfoil_esaw_requests_total"),
    )


async def controller_run(setup: BenchSetup, count: int) -> ControllerWork:
    """Let a fresh controller file ``count`` envelopes; return its work from its start to its end."""
    ids = await setup.create_envelopes(count)
    names = await setup.create_events(ids)
    built = setup.local_environment
    profile = built.folder / "profile.json"
    process = CounterfoilProcess.of(
        ["verification.bench.profiled_controller", str(profile)],
        kubeconfig=await setup.plane.kubeconfig_for("controller", setup.namespace),
        namespace=setup.namespace,
        log=built.folder / "profiled.log",
        settings={
            "sealing_keys": str(built.sealing_keys),
            "identity": "profiled",
            "key_confirmation": "1s",
            "overdue": "10m",
        },
    )
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(setup.wait_until_succeeded(names))
        await process.start()
        try:
            await watching
            metrics = MetricSamples(await process.metrics())
        finally:
            await process.stop()
    await ensure_all_deleted(setup, ids)
    await setup.delete_events(names)
    return by_part(msgspec.json.decode(profile.read_bytes(), type=dict[str, FileWork]), metrics)


async def measure(setup: BenchSetup, count: int, first: int = FIRST) -> ControllerWork:
    """Return the work of one event, of ``count`` events."""
    few = await controller_run(setup, first)
    return (await controller_run(setup, first + count)).per_event(few, count)


def table(work: ControllerWork) -> str:
    """Return the work as a table in Markdown."""
    all_calls, all_time = sum(work.calls.values()), sum(work.microseconds.values())
    requests = {"all to eSignAnyWhere": work.to_esaw, **dict(sorted(work.to_api_server.items()))}
    rows = [
        f"| {part} | {work.calls[part]:.0f} | {work.microseconds[part] / all_time:.0%} |" for part in PARTS
    ]
    return "\n".join(
        [
            "| part | calls | share of the CPU time |",
            "|---|---:|---:|",
            *rows,
            f"| **all** | **{all_calls:.0f}** | |",
            "",
            "| requests for an event | |",
            "|---|---:|",
            *(f"| {each} | {number:.1f} |" for each, number in requests.items() if number >= 0.1),
        ]
    )


async def run(count: int, at_once: int) -> str:
    """Set up a control plane, measure, and return the table."""
    with tempfile.TemporaryDirectory(prefix="counterfoil-calls-") as folder:
        async with bench_setup(Path(folder), concurrency=at_once) as setup:
            return table(await measure(setup, count))


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--at-once", type=int, default=32)
    chosen = parser.parse_args()
    print(asyncio.run(run(chosen.count, chosen.at_once)))


if __name__ == "__main__":
    main()
