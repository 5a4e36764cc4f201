"""
Bench (b): how many small envelopes a second the controller archives, against a plain script.

Before each round the envelopes (three files each) are in eSAW and their events are created; then a fresh
controller starts, and the clock runs from its /readyz to the last ``Succeeded``. The plain script
(``plain_script.py``) is a separate process as well, has as many envelopes at once, makes the same calls to
eSAW and does the same to the same folder. Both take turns. The CPU of the API server and etcd is reported,
too. So is that of kopf alone (verification/bench/kopf_floor.py): an operator that makes the same writes and
does nothing else. Signatures are examined by neither; with ``--signatures`` there is one more row, of a
controller that examines two PDFs of each envelope.

First, the API server and etcd have half of the cores, and the rest has the others, as in a cluster, where
they are on other machines. eSAW answers each request after 200 ms, as in bench (f). This is judged
(docs/decisions/0044). Then eSAW answers at once, so that only the cores limit both, and the API server's core
limits the controller. At last all share all cores.

    .venv/bin/python -m verification.bench.controller [--count 500] [--rounds 5] [--at-once 32] [--delay 0.2]
        [--signatures]
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from sandbox.controlplane.processes import ServerProcess
from sandbox.controlplane.processes import run as run_program
from verification.bench.kopf_floor import NAMESPACE_VARIABLE, STARTED
from verification.bench.machine import CoreSplit, ProcessMemory, cpu_seconds_of_all
from verification.bench.plain_script import PlainScriptJob, PlainScriptResult
from verification.bench.setup import (
    ESAW_DELAY_SECONDS,
    READY_SECONDS,
    REPOSITORY,
    BenchSetup,
    MetricSamples,
    apply_archive,
    bench_setup,
    plane_on_cores,
)
from verification.bench.spread import Spread, judgement

MIN_RATIO = 0.9
MAX_WRITES = 4
WRITES = ("create", "update", "patch", "delete")
TIMEOUT = 900.0  # seconds for the whole run, with signatures


class ControllerRound(PlainScriptResult, frozen=True):
    """Resources that the controller needed in one round, per event."""

    writes: float
    """All requests to the API server, from every client."""
    reads: float
    """Of single objects."""
    steady_rate: float
    """Events a second between the first and the last that succeeded."""
    cluster_cpu: float
    """CPU ms of API server and etcd."""


# -- The run -------------------------------------------------------------------------------------------------


async def plain_round(setup: BenchSetup, count: int, at_once: int) -> PlainScriptResult:
    """Let the plain script do its round."""
    job = PlainScriptJob(
        esaw=setup.esaw.control.url,
        token=setup.esaw.sender.token,
        envelopes=await setup.create_envelopes(count),
        root=str(setup.root),
        at_once=at_once,
    )
    finished = await run_program(
        [sys.executable, "-m", "verification.bench.plain_script"],
        stdin=msgspec.json.encode(job).decode(),
        cwd=REPOSITORY,
    )
    if finished.code != 0:
        raise RuntimeError(f"the plain script broke: {finished.err}")
    await ensure_all_deleted(setup, job.envelopes)
    return msgspec.json.decode(finished.out, type=PlainScriptResult)


async def controller_round(setup: BenchSetup, count: int, name: str) -> ControllerRound:
    """Let a fresh controller do its round."""
    ids = await setup.create_envelopes(count)
    names = await setup.create_events(ids)
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(setup.wait_until_succeeded(names))
        controller = await setup.controller(name)
        cpu, cluster_cpu = cpu_seconds_of_all(controller.pid), setup.cluster_cpu()
        started = time.perf_counter()
        times = list((await watching).values())
    used, memory = cpu_seconds_of_all(controller.pid) - cpu, ProcessMemory.of(controller.pid)
    cluster_used = setup.cluster_cpu() - cluster_cpu
    samples = MetricSamples(await controller.metrics())
    await controller.stop()
    await ensure_all_deleted(setup, ids)
    # So that each round finds the same; how little finished events cost is another question.
    await setup.local_environment.kubectl("delete", "envelopeevents", "--all", "--wait=false")
    requests = "counterfoil_kubernetes_requests_total"
    return ControllerRound(
        rate=count / (times[-1] - started),
        cpu=used * 1000 / count,
        memory=memory.peak,
        # What noted the event down is a write, too.
        writes=1 + samples.total(requests, verb=WRITES) / count,
        reads=samples.total(requests, verb="get") / count,
        steady_rate=(count - 1) / (times[-1] - times[0]),
        cluster_cpu=cluster_used * 1000 / count,
    )


async def kopf_round(setup: BenchSetup, count: int, name: str) -> PlainScriptResult:
    """Let kopf alone move as many events from phase to phase."""
    names = await setup.create_events(str(uuid.uuid4()) for _ in range(count))
    log = setup.local_environment.folder / f"{name}.log"
    kubeconfig = {"KUBECONFIG": str(setup.plane.kubeconfig), NAMESPACE_VARIABLE: setup.namespace}
    command = [sys.executable, "-m", "verification.bench.kopf_floor"]
    environment = {**os.environ, **kubeconfig, "PYTHONPATH": str(REPOSITORY)}
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(setup.wait_until_succeeded(names))
        process = ServerProcess(command, log=log, environment=environment)
        try:
            async with asyncio.timeout(READY_SECONDS):
                while STARTED not in log.read_text():  # noqa: ASYNC110 - nothing tells when it starts
                    await asyncio.sleep(0.02)
            cpu = cpu_seconds_of_all(process.pid)
            started = time.perf_counter()
            times = list((await watching).values())
            used, memory = cpu_seconds_of_all(process.pid) - cpu, ProcessMemory.of(process.pid)
        finally:
            await process.terminate(patience=5)
    await setup.local_environment.kubectl("delete", "envelopeevents", "--all", "--wait=false")
    rate = count / (times[-1] - started)
    return PlainScriptResult(rate=rate, cpu=used * 1000 / count, memory=memory.peak)


async def ensure_all_deleted(setup: BenchSetup, ids: Sequence[str]) -> None:
    """Raise ``RuntimeError`` if any of these envelopes is still in eSAW."""
    left = [each for each in ids if await setup.esaw.control.exists(each)]
    if left:
        raise RuntimeError(f"{len(left)} of {len(ids)} envelopes are still in eSAW")


def report(
    plain: Sequence[PlainScriptResult],
    ours: Sequence[ControllerRound],
    floor: Sequence[PlainScriptResult],
    examining: Sequence[ControllerRound],
    *,
    is_judged: bool,
) -> str:
    """Return the Markdown, ratios first."""
    ratio = Spread.of_ratios([each.rate for each in ours], [each.rate for each in plain])
    cpu = Spread.of_ratios([each.cpu for each in ours], [each.cpu for each in plain])
    writes = Spread.of(each.writes for each in ours)
    lines = ["| what | of the plain script | events per s | CPU ms per event | memory at most MiB |"]
    lines += ["|---|---|---|---|---|"]
    rows: list[tuple[str, str, Sequence[PlainScriptResult]]] = [
        ("plain script", "1.00", plain),
        ("controller", ratio.text(2), ours),
        ("kopf alone, the same writes", "-", floor),
    ]
    if examining:
        share = Spread.of_ratios([each.rate for each in examining], [each.rate for each in plain])
        rows.append(("controller, `signatures: Report`", share.text(2), examining))
    for name, of_plain, rounds in rows:
        rate, spent = Spread.of(each.rate for each in rounds), Spread.of(each.cpu for each in rounds)
        peak = max(each.memory for each in rounds)
        lines.append(f"| {name} | {of_plain} | {rate.text(1)} | {spent.text(1)} | {peak:.0f} |")
    return "\n".join(
        [
            *lines,
            "",
            f"- rate: {ratio.median:.2f} of the plain script's"
            f"{judgement(ratio.median, '>=', MIN_RATIO, is_judged=is_judged)}",
            f"- writes to the API server per event, the create included: {writes.text(2)}"
            f"{judgement(round(writes.median, 1), '<=', MAX_WRITES, is_judged=is_judged)}",
            f"- reads of single objects per event: {Spread.of(each.reads for each in ours).text(2)}",
            f"- CPU: {cpu.text(2)} of the plain script's; API server and etcd need "
            f"{Spread.of(each.cluster_cpu for each in ours).text(1)} ms per event, for "
            "the script nothing",
            "- CPU of the controller, of kopf alone: "
            f"{Spread.of_ratios([each.cpu for each in ours], [each.cpu for each in floor]).text(2)}",
            "- from the first `Succeeded` to the last: "
            f"{Spread.of(each.steady_rate for each in ours).text(1)} events per s; the rate above has the "
            "start of the watches in it",
        ]
    )


async def measure(
    split: CoreSplit, delay: float, count: int, rounds: int, at_once: int, *, signatures: bool
) -> str:
    """Run it all with the processes on these cores and this delay of eSAW; return the report."""
    plain, ours, floor = list[PlainScriptResult](), list[ControllerRound](), list[PlainScriptResult]()
    examining = list[ControllerRound]()
    async with AsyncExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        await stack.enter_async_context(asyncio.timeout(TIMEOUT))
        plane = await stack.enter_async_context(plane_on_cores(split))
        setup = await stack.enter_async_context(bench_setup(temporary, concurrency=at_once, plane=plane))
        if delay:
            await setup.esaw.control.fault("*", delay=delay)
        # The first turn fills caches, and is not counted.
        await plain_round(setup, at_once * 2, at_once)
        await controller_round(setup, at_once * 2, "controller")
        for turn in range(rounds):
            plain.append(await plain_round(setup, count, at_once))
            ours.append(await controller_round(setup, count, f"controller-{turn}"))
            floor.append(await kopf_round(setup, count, f"kopf-{turn}"))
            if signatures:
                await apply_archive(setup.local_environment, setup.root, at_once, signatures="Report")
                examining.append(await controller_round(setup, count, f"examining-{turn}"))
                await apply_archive(setup.local_environment, setup.root, at_once, signatures="Ignore")
    return report(plain, ours, floor, examining, is_judged=split.is_separate and delay > 0)


def main() -> None:
    """Read the flags and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--delay", type=float, default=ESAW_DELAY_SECONDS, help="latency of eSAW in seconds")
    parser.add_argument(
        "--signatures", action="store_true", help="measure a controller that examines signatures, too"
    )
    chosen = parser.parse_args()
    size = (chosen.count, chosen.rounds, chosen.at_once)
    print(f"{chosen.rounds} rounds of {chosen.count} envelopes, {chosen.at_once} at once")
    separate, shared = CoreSplit.both()
    for split, delay in ((separate, chosen.delay), (separate, 0.0), (shared, 0.0)):
        text = asyncio.run(measure(split, delay, *size, signatures=chosen.signatures))
        print(f"\n### {split.title}, eSAW answers after {delay * 1000:.0f} ms\n\n{text}")


if __name__ == "__main__":
    main()
