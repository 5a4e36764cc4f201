"""
A controller that was frozen in the middle of its work and wakes up when another one has taken over and
finished.

All its later writes must be refused or be harmless: the status is not overwritten, nothing in the archive
changes, and its delete finds nothing to delete. Then it works on as if nothing had been.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sandbox.servers.proxies import Hold, Trap, TrapPoint, asks, stores
from tests.support.archive_contents import sha256_of
from tests.support.pauses import eventually
from tests.support.scenes.chaos import Scene

MIB = 1024 * 1024


def in_the_middle_of_a_download(scene: Scene, hold: Hold) -> Trap:
    return scene.esaw.trap(asks("file"), TrapPoint.MIDDLE, hold, after_bytes=2 * MIB)


def as_it_claims_the_names(scene: Scene, hold: Hold) -> Trap:
    return scene.api.trap(stores(phase="Archiving"), TrapPoint.ARRIVED, hold)


def as_it_stores_the_proof(scene: Scene, hold: Hold) -> Trap:
    return scene.api.trap(stores(true="Archived"), TrapPoint.ARRIVED, hold)


def as_it_deletes(scene: Scene, hold: Hold) -> Trap:
    return scene.esaw.trap(asks("delete"), TrapPoint.ARRIVED, hold)


def as_it_stores_the_success(scene: Scene, hold: Hold) -> Trap:
    return scene.api.trap(stores(phase="Succeeded"), TrapPoint.ARRIVED, hold)


@pytest.mark.parametrize(
    "point",
    [
        as_it_claims_the_names,
        in_the_middle_of_a_download,
        as_it_stores_the_proof,
        as_it_deletes,
        as_it_stores_the_success,
    ],
    ids=lambda point: point.__name__,
)
async def test_a_controller_that_wakes_up_after_another_one_finished_its_work_does_no_harm(
    scene: Scene, point: Callable[[Scene, Hold], Trap]
) -> None:
    sleeper = await scene.controller("sleeper")
    envelope = scene.envelope(3 * MIB)
    hold = Hold()
    trap = point(scene, hold)
    event = await scene.note(envelope)
    await eventually(trap.sprung.is_set)
    os.kill(sleeper.pid, signal.SIGSTOP)
    successor = await scene.controller("successor", await scene.way_to_api())
    await scene.holds(event)
    before = await scene.event(event), content(scene, envelope)

    os.kill(sleeper.pid, signal.SIGCONT)
    hold.release()
    await eventually(lambda: "this process lost shard 0" in sleeper.log.read_text())
    # Alone again it works on; and everything that it still had in mind about the old event, it has done by
    # then.
    await successor.stop()
    await scene.holds(await scene.note(scene.envelope(2000)))

    assert (await scene.event(event), content(scene, envelope)) == before
    outcomes = [each.outcome for each in scene.standin.delete_calls(envelope)]
    assert outcomes == [200] + [404] * (len(outcomes) - 1)


def content(scene: Scene, envelope: str) -> dict[Path, str]:
    """The files in the archive for an envelope, with their hashes."""
    return {path: sha256_of(path) for path in scene.archive_folder.files() if envelope in path.parts}
