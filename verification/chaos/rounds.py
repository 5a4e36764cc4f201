"""
One round: envelopes and faults until all struck or all work is done, then rest, then the checker.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from sandbox.controlplane.control_plane import control_plane
from sandbox.servers.s3_rclone import s3_server
from sandbox.servers.webdav_rclone import rclone_webdav_server
from verification.chaos.checker import FINAL, violations
from verification.chaos.evidence import DeleteWatch, collect, keep
from verification.chaos.faults import Injector
from verification.chaos.neighbour import SHARE
from verification.chaos.places import BUCKET, Servers, read_archive
from verification.chaos.plan import Round
from verification.chaos.stage import REQUEST, Stage, opened

FAULT_SECONDS: Final = 120.0
"""Timeout for the part of a round in which faults strike."""
PATIENCE_SECONDS: Final = 180.0
"""Timeout for the next event to end after the last fault. A slow machine needs longer for all of them."""
LAST_WRITES_SECONDS: Final = 60.0
"""Timeout for what may follow the end of the events: a mail, the removal of a probe's file."""
COPY_REQUESTS: Final = 3
"""Number of times that people ask for missing copies. A copy that was added last is tried first by a request,
which can find files of another program there."""
INTERVAL_SECONDS: Final = 1.0
SENT_DRAFTS: Final = "Drafts that were sent"


class Outcome(NamedTuple):
    """The result of a round."""

    struck: Counter[str]
    violations: list[str]
    seconds: float
    events: Counter[str]
    """Number of events by phase and reason at the end, and of drafts that were sent."""


@asynccontextmanager
async def servers() -> AsyncIterator[Servers]:
    """Run the servers that stay over all rounds."""
    async with (
        control_plane() as plane,
        s3_server(buckets=(BUCKET,)) as s3,
        rclone_webdav_server() as webdav,
    ):
        await plane.apply_crds()
        yield Servers(plane, s3, webdav)


async def run_round(servers: Servers, plan: Round, folder: Path) -> Outcome:
    """Run a round; logs go to ``folder``."""
    began = time.monotonic()
    namespace = f"round-{plan.seed}-{plan.number}-{time.time_ns() % 1_000_000}"
    async with opened(servers, plan, namespace, folder) as stage:
        injector, second = Injector(stage), stage.neighbour
        deletes = (
            DeleteWatch(
                stage.environment, stage.esaw, stage.ways["esaw"], stage.read_originals, stage.read_copies
            ),
            DeleteWatch(stage.environment, second.esaw, second.way, partial(read_archive, second.archive)),
        )
        for each in deletes:
            each.watch()
        injector.arm()
        beside = [asyncio.create_task(work) for work in (stage.supervise(), stage.sample_memory())]
        try:
            count = max(1, len(plan.envelopes) // SHARE)
            sending = asyncio.create_task(second.send(count, stage.receivers))
            beginning = [asyncio.create_task(stage.senders.send_all())] if stage.senders else []
            await stage.send_envelopes()
            with suppress(TimeoutError):
                async with asyncio.timeout(FAULT_SECONDS):
                    while await _unfinished(stage):  # noqa: ASYNC110 - other processes give no event to wait for
                        await asyncio.sleep(INTERVAL_SECONDS)
            await asyncio.gather(sending, *beginning)
            await injector.end()
            problems = await stage.return_senders()
            unsettled = (*problems, *await _rest(stage))
            for _ in range(COPY_REQUESTS if stage.copies else 0):
                if unsettled:
                    break
                unsettled = (*await stage.complete_copies(), *await _rest(stage))
                if not await stage.has_occupied_copies():
                    break
            found = await _judge(stage, deletes, injector.struck, unsettled, folder)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        planted = Counter(
            {
                "archive-planted": sum(bool(order.planted) for order in plan.envelopes),
                "copy-planted": sum(bool(order.planted_copy) for order in plan.envelopes),
            }
        )
        return Outcome(injector.struck + planted, found, time.monotonic() - began, await _phases(stage))


async def _rest(stage: Stage) -> tuple[str, ...]:
    """Wait until all events have ended, as long as one after the other does; return those that have not."""
    unfinished = await _unfinished(stage)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while unfinished and time.monotonic() < deadline:
        await asyncio.sleep(INTERVAL_SECONDS)
        left = await _unfinished(stage)
        if len(left) < len(unfinished):
            deadline = time.monotonic() + PATIENCE_SECONDS
        unfinished = left
    return tuple(unfinished)


async def _unfinished(stage: Stage) -> list[str]:
    """Return the envelopes whose event has not ended, or has a request that is not carried out."""
    try:
        events = await stage.environment.listed("envelopeevents")
    except Exception:  # the API server is down
        return ["the API server"]
    unfinished = {
        each["spec"]["envelopeID"]: f"{status.get('phase')} ({status.get('reason')})"
        for each in events
        for status in [each.get("status", {})]
        if status.get("phase") not in FINAL or REQUEST in each["metadata"]["labels"]
    }
    envelopes = {*stage.envelopes, *stage.neighbour.envelopes}
    missing = envelopes - stage.removed - {each["spec"]["envelopeID"] for each in events}
    if stage.restores:
        # No search finds an envelope that was deleted before its event was lost.
        missing = {each for each in missing if stage.exists(each)}
    return [
        *(f"{envelope}: {state}" for envelope, state in unfinished.items()),
        *(f"{envelope}: no event" for envelope in sorted(missing)),
    ]


async def _judge(
    stage: Stage,
    deletes: tuple[DeleteWatch, DeleteWatch],
    struck: Counter[str],
    unsettled: tuple[str, ...],
    folder: Path,
) -> list[str]:
    """Return the violations that stay; their evidence goes to ``folder``."""
    deadline = time.monotonic() + LAST_WRITES_SECONDS
    while True:
        evidence = await collect(stage, *deletes, struck, unsettled)
        found = violations(evidence)
        if not found or unsettled or time.monotonic() > deadline:
            if found:
                keep(evidence, folder)
            return found
        await asyncio.sleep(1)


async def _phases(stage: Stage) -> Counter[str]:
    events: list[dict[str, Any]] = await stage.environment.listed("envelopeevents")
    phases = Counter(f"{each['status']['phase']} {each['status'].get('reason')}" for each in events)
    senders = stage.senders
    sent = sum(senders.sent(each.id) for each in senders.drafts) if senders is not None else 0
    return phases + Counter({SENT_DRAFTS: sent})
