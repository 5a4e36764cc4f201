"""
One soak test: a steady load and steady faults on one set of processes, samples of them, then rest, then the
judgement.
"""

import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from sandbox.controlplane.control_plane import control_plane
from sandbox.controlplane.install_crds import CRDS
from sandbox.servers.plain_http import plain_http
from sandbox.servers.s3_rclone import s3_server
from sandbox.servers.webdav_rclone import rclone_webdav_server
from verification.chaos.evidence import DeleteWatch
from verification.chaos.faults import Injector
from verification.chaos.places import BUCKET, Servers
from verification.chaos.plan import plan
from verification.chaos.soak import load
from verification.chaos.soak.accounts import Accounts
from verification.chaos.soak.flatness import growths, unproven
from verification.chaos.soak.records import SoakRecord
from verification.chaos.soak.samples import Sampler
from verification.chaos.soak.traffic import Traffic
from verification.chaos.stage import Stage, opened

WAVE_SECONDS: Final = 20.0
"""Duration of one wave of faults; its traps are removed before the next one."""
SAMPLE_SECONDS: Final = 10.0
PATIENCE_SECONDS: Final = 180.0
"""Timeout for the next event to end after the last fault."""
REQUEST_SECONDS: Final = 60.0
"""Timeout of a request: a receiver can be stopped for a while."""
SHORT_TTL: Final = "60s"
"""Time to live of finished events."""


class Course(NamedTuple):
    """Seed and durations of a soak test."""

    seed: int
    seconds: float
    """Duration of the load."""
    ttl: str = SHORT_TTL
    sample_seconds: float = SAMPLE_SECONDS


@asynccontextmanager
async def servers() -> AsyncIterator[Servers]:
    """Run the servers. The API server allows a short ``spec.ttl`` and forgets its own events soon."""
    async with (
        control_plane(flags=("--event-ttl=5m",)) as plane,
        s3_server(buckets=(BUCKET,)) as s3,
        rclone_webdav_server() as webdav,
    ):
        with tempfile.TemporaryDirectory() as folder:
            write_crds(Path(folder))
            await plane.apply_crds(Path(folder))
        yield Servers(plane, s3, webdav)


def write_crds(folder: Path) -> None:
    """
    Write the CRDs without the lower bound of ``spec.ttl``.

    It protects against callbacks that eSAW repeats for 36 hours; the stand-in does so for minutes.
    """
    for path in CRDS.glob("*.yaml"):
        text = path.read_text(encoding="utf-8").replace("duration('72h')", "duration('1s')")
        (folder / path.name).write_text(text, encoding="utf-8")


async def run_soak(servers: Servers, course: Course, folder: Path) -> SoakRecord:
    """Run a soak test; logs go to ``folder``."""
    archive = ("s3", "webdav")[course.seed % 2]
    shape = plan(course.seed, 1, 1)._replace(
        archive=archive,
        controllers=2,
        receivers=2,
        shards=2,
        policy="Delete",
        papers_lag=0.0,
        legal_documents_lag=0.0,
        documents_lag=0.0,
        envelopes=(),
        drafts=(),
        has_routes=False,
        copies=None,
    )
    namespace = f"soak-{course.seed}-{time.time_ns() % 1_000_000}"
    async with opened(servers, shape, namespace, folder) as stage:
        await _set_ttl(stage, course.ttl)
        deletes = DeleteWatch(stage.environment, stage.esaw, stage.ways["esaw"], stage.read_originals)
        deletes.watch()
        accounts = Accounts(stage, deletes)
        sampler = Sampler(stage.environment.processes, course.sample_seconds)
        struck: Counter[str] = Counter()
        supervisor = asyncio.create_task(stage.supervise())
        try:
            async with plain_http(timeout=REQUEST_SECONDS) as http:
                traffic = Traffic(stage, accounts, http, course.seed)
                await _for_a_while(course, traffic, accounts, sampler, struck)
                await traffic.end()
            await accounts.update()
            backlog = len(accounts.unfinished())
            unsettled = await _rest(accounts)
            answered = len(accounts.answered())
            found = await accounts.close(unsettled)
        finally:
            supervisor.cancel()
            await asyncio.gather(supervisor, return_exceptions=True)
        names = [each.name for each in stage.environment.processes]
        return SoakRecord(
            seed=course.seed,
            minutes=round(course.seconds / 60, 2),
            archive=archive,
            envelopes=traffic.envelopes,
            answered=answered,
            removed=accounts.ledger.removed,
            backlog=backlog,
            outcomes=dict(accounts.ledger.outcomes),
            requests=dict(traffic.answers),
            struck=dict(struck),
            mails=len(stage.smtp.mails),
            cpu=round(sum(sampler.cpu) / max(1, len(sampler.cpu)), 1),
            samples=len(sampler.samples),
            growths=tuple(growths(sampler.samples, course.seconds)),
            unproven=tuple(unproven(sampler.samples, names, course.seconds)),
            violations=(*found, *traffic.violations),
        )


async def _set_ttl(stage: Stage, ttl: str) -> None:
    kept = {"succeeded": ttl, "failed": ttl, "unknown": ttl}
    # The default look-back of the sweep is longer, and events are kept at least for that time.
    changes = json.dumps({"spec": {"ttl": kept, "sweep": {"interval": ttl, "lookback": ttl}}})
    await stage.environment.kubectl("patch", "organization", "acme", "--type=merge", "-p", changes)


async def _for_a_while(
    course: Course, traffic: Traffic, accounts: Accounts, sampler: Sampler, struck: Counter[str]
) -> None:
    """Run load, faults, samples and accounts for the duration of the course."""
    async with asyncio.TaskGroup() as group:
        beside = [group.create_task(each) for each in (traffic.run(), sampler.run(), accounts.run())]
        await _strike(traffic.stage, course, struck)
        for each in beside:
            each.cancel()


async def _strike(stage: Stage, course: Course, struck: Counter[str]) -> None:
    """Let faults strike, wave after wave."""
    end, wave = time.monotonic() + course.seconds, 0
    while (left := end - time.monotonic()) > 0:
        wave += 1
        seconds = min(WAVE_SECONDS, left)
        stage.plan = stage.plan._replace(faults=load.faults(course.seed, wave, seconds))
        injector = Injector(stage, struck=struck)
        injector.arm()
        await asyncio.sleep(seconds)
        await injector.end()


async def _rest(accounts: Accounts) -> list[str]:
    """Wait until all events have ended, as long as one after the other does; return those that have not."""
    left: list[str] | None = None
    deadline = 0.0
    while left is None or (left and time.monotonic() < deadline):
        await accounts.update()
        unfinished = accounts.unfinished()
        if left is None or len(unfinished) < len(left):
            deadline = time.monotonic() + PATIENCE_SECONDS
        left = unfinished
        await asyncio.sleep(1 if left else 0)
    return left
