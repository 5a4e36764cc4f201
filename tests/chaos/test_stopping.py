"""
SIGTERM for the controller while it files a large document: it ends in order, and nothing is lost or half
done.
"""

import os
import signal

from counterfoil.resources import Phase
from sandbox.environment.processes import CounterfoilProcess
from sandbox.servers.proxies import Hold, Passage, TrapPoint, begins_parts, of_file
from tests.support.pauses import eventually
from tests.support.scenes.chaos import Scene

MIB = 1024 * 1024
LARGE = 12 * MIB
HELD_AFTER = 8 * MIB
"""More than one part of a multipart upload (5 MiB) with all bytes that may wait to be joined to a block
before it."""


async def has_begun_to_stop(controller: CounterfoilProcess) -> None:
    os.kill(controller.pid, signal.SIGTERM)
    await eventually(lambda: "the controller stops" in controller.log.read_text())


def held_in_the_middle(scene: Scene, envelope: str) -> Hold:
    """Let the download of the first document stop after ``HELD_AFTER``."""
    (document, *_) = scene.standin.files(envelope)
    hold = Hold()
    scene.esaw.trap(of_file(document.file_id), TrapPoint.MIDDLE, hold, after_bytes=HELD_AFTER)
    return hold


async def test_a_controller_that_gets_sigterm_finishes_the_current_document_first(scene: Scene) -> None:
    controller = await scene.controller(grace="30s")
    envelope = scene.envelope(LARGE)
    hold = held_in_the_middle(scene, envelope)

    event = await scene.note(envelope)
    await eventually(scene.archive_folder.temporary)
    await has_begun_to_stop(controller)
    hold.release()
    await eventually(lambda: controller.server.ended)

    assert controller.server.exit_code == 0
    await scene.holds(event)


async def test_a_controller_out_of_grace_ends_without_a_trace_of_the_document_and_files_it_after_a_restart(
    scene: Scene,
) -> None:
    controller = await scene.controller(grace="1s")
    envelope = scene.envelope(LARGE)
    held_in_the_middle(scene, envelope)

    event = await scene.note(envelope)
    await eventually(scene.archive_folder.temporary)
    await has_begun_to_stop(controller)
    await eventually(lambda: controller.server.ended)

    assert controller.server.exit_code == 0
    assert scene.archive_folder.files() == set()
    assert (await scene.event(event)).status.phase is Phase.ARCHIVING
    await controller.start()
    await scene.holds(event)


def gives_parts_up(each: Passage) -> bool:
    return each.method == "DELETE" and "uploadId" in each.query


async def test_a_controller_out_of_grace_gives_its_upload_to_the_bucket_up(s3_scene: Scene) -> None:
    scene = s3_scene
    assert scene.s3 is not None
    controller = await scene.controller(grace="1s")
    envelope = scene.envelope(LARGE)
    held_in_the_middle(scene, envelope)
    way = scene.s3

    event = await scene.note(envelope)
    await eventually(lambda: way.seen(begins_parts))
    await has_begun_to_stop(controller)
    await eventually(lambda: controller.server.ended)

    assert controller.server.exit_code == 0
    assert [each.status for each in way.seen(gives_parts_up)] == [204]
    await controller.start()
    await scene.holds(event)
