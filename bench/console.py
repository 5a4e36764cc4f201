"""
Bench (d): how long the console takes for its pages with many events, measured at the server's side of the connection.

Events in every state are created on a local control plane, each with its status in one write (the CRD is without its status
subresource meanwhile). Then each page is asked for again and again, in turns with the API server's own answer to a list of as
many events, so that whatever else the machine does meets both. The target: every page's median under 300 ms.

    .venv/bin/python -m bench.console [--events 100000] [--rounds 30]
"""

import argparse
import asyncio
import random
import shutil
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import uvloop
import yaml

from bench.spread import verdict
from counterfoil.cluster import Cluster, Unavailable, connect
from counterfoil.resources import EnvelopeEvent, Organization, envelope_id
from counterfoil.resources.noting import note
from sandbox.controlplane.kinds import CRDS
from sandbox.controlplane.plane import ControlPlane, control_plane
from tests.cluster.console_scene import Person, Scene, console_scene

NAMESPACE = "bench"
TARGET = 0.3  # seconds
IN_FLIGHT = 32
ROWS = 100
READY_SECONDS = 300.0

REASONS = ("NameOccupied", "SenderUnknown", "NotPermitted", "EsawRefused", "TagMissing")
SENDERS = tuple(f"sender-{number}" for number in range(20))

RANDOM = random.Random(20)


def an_event(number: int, now: datetime) -> dict[str, Any]:
    """One event: of a thousand, three failed, two wait for consent, five are on their way, the others succeeded."""
    envelope = envelope_id(str(uuid.UUID(int=RANDOM.getrandbits(128), version=4)))
    body = note(
        organization="acme",
        envelope=envelope,
        action="envelopeFinished",
        sender=RANDOM.choice(SENDERS),
    )
    begun = now - timedelta(seconds=RANDOM.uniform(0, 30 * 86400))
    body["status"] = _status(number % 1000, envelope, begun)
    return body


def _status(kind: int, envelope: str, begun: datetime) -> dict[str, Any]:
    if kind < 3:
        return {
            "phase": "Failed",
            "reason": REASONS[kind],
            "completedAt": _text(begun),
            "message": "It failed.",
        }
    if kind < 5:
        return {"phase": "AwaitingConsent", "reason": "TokenRejected"}
    if kind < 10:
        return {"phase": "Archiving", "reason": "ArchiveUnreachable", "attempts": 3}
    types = ("Validated", "Authorized", "Collected", "Archived", "Cleaned", "Ready")
    return {
        "phase": "Succeeded",
        "reason": "ArchivedAndDeleted",
        "completedAt": _text(begun + timedelta(seconds=RANDOM.expovariate(1 / 4))),
        "conditions": [
            {
                "type": each,
                "status": "True",
                "reason": "FilesVerified",
                "message": "Every file is in the archive and was read back.",
                "lastTransitionTime": _text(begun),
                "observedGeneration": 1,
            }
            for each in types
        ],
        "documents": [
            {
                "fileId": str(number),
                "kind": "Document",
                "fileName": f"contract {number}.pdf",
                "size": 250_000,
                "sha256": "0" * 64,
                "location": f"s3://contracts/acme/{envelope}/Document/contract {number}.pdf",
            }
            for number in range(2)
        ],
    }


def _text(when: datetime) -> str:
    return when.replace(microsecond=0).isoformat().replace("+00:00", "Z")


async def fill(cluster: Cluster, count: int) -> float:
    """Create the events; return how many a second that were."""
    now, started = datetime.now(UTC), time.perf_counter()
    numbers = iter(range(count))

    async def write() -> None:
        for number in numbers:
            await cluster.create_encoded(EnvelopeEvent, msgspec.json.encode(an_event(number, now)))
            if number and number % 10_000 == 0:
                print(f"  {number:,} events", file=sys.stderr, flush=True)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(IN_FLIGHT):
            tasks.create_task(write())
    return count / (time.perf_counter() - started)


async def apply_crds_without_status(plane: ControlPlane, folder: Path) -> None:
    """Apply the CRDs so that an event's status can be created with it."""
    shutil.copytree(CRDS, folder)
    path = folder / "envelopeevents.yaml"
    crd = yaml.safe_load(path.read_text())
    for version in crd["spec"]["versions"]:
        version.pop("subresources")
    path.write_text(yaml.safe_dump(crd))
    await plane.apply_crds(folder)


async def _served_again(cluster: Cluster) -> None:
    """Wait until the API server has read all events for the CRD as it is now."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            try:
                await cluster.page(EnvelopeEvent, limit=1, fields="status.phase=Failed")
            except Unavailable:
                await asyncio.sleep(0.5)
            else:
                return


async def timed(call: Callable[[], Awaitable[Any]]) -> float:
    """Return how long it took, in seconds."""
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started


async def paths(scene: Scene) -> Mapping[str, str]:
    """Return each page by its title."""
    failed, _ = await scene.cluster.page(EnvelopeEvent, limit=1, fields="status.phase=Failed")
    succeeded, _ = await scene.cluster.page(EnvelopeEvent, limit=1, fields="status.phase=Succeeded")
    name, envelope = failed[0]["metadata"]["name"], succeeded[0]["spec"]["envelopeId"]
    return {
        "Attention": "/attention",
        "Events": "/events",
        "Events, those that failed": "/events?phase=Failed",
        "Events, unfinished of an organization": "/events?phase=unfinished&organization=acme",
        "Events of a sender": f"/events?sender={SENDERS[0]}",
        "Events of an envelope": f"/events?text={envelope}",
        "Events of the last hour": "/events?age=1h",
        "Event": f"/events/{name}",
        "Senders": "/senders",
        "Archives": "/archives",
        "Organizations": "/organizations",
        "Charts": "/charts",
    }


async def measure(scene: Scene, rounds: int) -> bool:
    """Ask for every page so many times, print what came out, and tell whether the target was met."""
    jane = await scene.signed_in()
    wanted = await paths(scene)
    raw = await _measured(wanted, jane, scene, rounds)
    print("\n| Page | p50 | p99 | against the raw list in the same round |", "|---|---|---|---|", sep="\n")
    is_met = True
    listed = raw.pop("")
    print(f"| (the API server's own list of {ROWS} events) | {_ms(listed, 50)} | {_ms(listed, 99)} | 1 |")
    for title, times in raw.items():
        ratio = statistics.median(one / other for one, other in zip(times, listed, strict=True))
        is_met = is_met and statistics.median(times) < TARGET
        print(f"| {title} | {_ms(times, 50)} | {_ms(times, 99)} | {ratio:.1f} |")
    print(f"\nEvery page's median under {TARGET * 1000:.0f} ms: {verdict(is_met)}.")
    return is_met


async def _measured(
    wanted: Mapping[str, str], jane: Person, scene: Scene, rounds: int
) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"": [], **{title: [] for title in wanted}}
    for number in range(rounds + 1):
        round_ = {"": await timed(lambda: scene.cluster.page(EnvelopeEvent, limit=ROWS))}
        for title, path in wanted.items():
            round_[title] = await timed(lambda path=path: jane.get(path))  # type: ignore[misc]
            assert jane.answer.status_code == 200, jane.text
        # The first round is for caches and connections.
        if number:
            for title, seconds in round_.items():
                times[title].append(seconds)
    return times


def _ms(times: list[float], percent: int) -> str:
    return f"{statistics.quantiles(times, n=100)[percent - 1] * 1000:.0f} ms"


async def bench(events: int, rounds: int) -> bool:
    """Run the whole bench; tell whether the target was met."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="counterfoil-bench-")))
        plane = await stack.enter_async_context(control_plane())
        await apply_crds_without_status(plane, folder / "crds")
        await plane.namespace(NAMESPACE)
        cluster = await stack.enter_async_context(connect(namespace=NAMESPACE, kubeconfig=plane.kubeconfig))
        rate = await fill(cluster, events)
        await plane.apply_crds()
        await _served_again(cluster)
        print(f"{events:,} events, created at {rate:.0f} a second.")
        scene = await stack.enter_async_context(
            console_scene(plane, NAMESPACE, folder, log_level="warning", page_rate="1000")
        )
        await scene.an_archive("dms", "True", "Probed")
        await scene.an_organization(events={"Succeeded": int(events * 0.99), "Failed": int(events * 0.003)})
        for name in SENDERS:
            await scene.a_sender(name, truth="False", reason="TokenRejected")
        assert (await cluster.get(Organization, "acme"))["status"]["events"]
        return await measure(scene, rounds)


def main() -> int:
    """Run the bench from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    uvloop.run(bench(given.events, given.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
