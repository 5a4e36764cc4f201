"""Generations: one after the other until one is stopped or broken, and no signal is lost between them."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from controller.election.elections import ElectionThread
from controller.election.shard_lock import LeaseTimings
from controller.generations import (
    STOP_SIGNALS,
    GenerationEnd,
    StopRequest,
    block_stop_signals,
    run_generations,
    stand_by,
)
from counterfoil.health import listening_socket
from counterfoil.kube.served_namespaces import ServedNamespaces
from counterfoil.settings import ListenAddress
from tests.support.builders import AClock
from tests.support.pauses import eventually


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """Block the signals as the process does at its start."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    block_stop_signals()
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


@pytest.mark.parametrize(("end", "status"), [(GenerationEnd.STOPPED, 0), (GenerationEnd.BROKEN, 1)])
def test_generations_follow_each_other_in_new_loops(end: GenerationEnd, status: int) -> None:
    ends = [GenerationEnd.SHARDS_GAINED, GenerationEnd.SHARDS_LOST, end]
    loops: list[object] = []

    async def generation(_: StopRequest) -> GenerationEnd:
        loops.append(asyncio.get_running_loop())
        return ends[len(loops) - 1]

    assert run_generations(generation) == status
    assert len(set(loops)) == 3


@pytest.mark.parametrize("number", STOP_SIGNALS)
@pytest.mark.parametrize("is_between", [False, True])
def test_a_signal_in_or_between_generations_stops_the_next_wait(
    number: signal.Signals, is_between: bool
) -> None:
    seen: list[bool] = []

    async def generation(stop_request: StopRequest) -> GenerationEnd:
        if not seen and is_between:
            os.kill(os.getpid(), number)
        with stop_request.observed() as stop:
            if not seen and not is_between:
                os.kill(os.getpid(), number)
            async with asyncio.timeout(5.0):
                await stop.wait()
            seen.append(True)
            # The first generation ended for another reason in the same moment.
            return GenerationEnd.SHARDS_LOST if len(seen) == 1 else GenerationEnd.STOPPED

    assert run_generations(generation) == 0
    assert seen == [True, True]


def test_a_task_that_does_not_end_does_not_keep_the_process() -> None:
    async def swallow_cancellations() -> None:
        while not is_over:
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    is_over = False
    tasks: list[asyncio.Task[None]] = []

    async def generation(_: StopRequest) -> GenerationEnd:
        tasks.append(asyncio.create_task(swallow_cancellations()))
        await asyncio.sleep(0)
        return GenerationEnd.SHARDS_GAINED

    assert run_generations(generation, cancel_seconds=0.1) == 1

    is_over = True
    tasks[0].cancel()
    loop = tasks[0].get_loop()
    loop.run_until_complete(asyncio.wait(tasks))
    loop.close()


async def test_a_process_on_standby_follows_the_list_of_namespaces(tmp_path: Path) -> None:
    """Its first write of a Lease tells what it serves."""
    file = tmp_path / "namespaces"
    file.write_text("sales", encoding="utf-8")
    served = ServedNamespaces("release", ("sales",), file)
    timings = LeaseTimings(duration=15.0, renew_deadline=10.0, retry_period=2.0)
    elections = ElectionThread("pod", "release", 1, timings, served=lambda: served.names)
    with listening_socket(ListenAddress("127.0.0.1", 0)) as private:
        waiting = asyncio.create_task(
            stand_by(
                elections,
                elections.held,
                StopRequest(),
                private,
                CollectorRegistry(),
                served=served,
                clock=AClock(),
            )
        )
        file.write_text("legal", encoding="utf-8")
        await eventually(lambda: served.names == ("legal",))
        os.kill(os.getpid(), signal.SIGTERM)
        assert await waiting is GenerationEnd.STOPPED
