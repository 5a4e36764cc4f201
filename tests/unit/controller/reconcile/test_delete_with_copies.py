"""The time between the last reads of copies and the delete of their envelope."""

from pathlib import Path
from typing import Any

from counterfoil.resources import EnvelopeStatus
from tests.support.scenes.copied_events import CopiedScene

SIGNED = b"%PDF-contract, signed by all"
DELAYED: dict[str, Any] = {"cleanup": {"policy": "Delete", "after": "1h"}}
BOTH = ["Completed", "Expired"]


async def an_expired_scene(folder: Path) -> CopiedScene:
    """Return the scene of an envelope that was archived as Expired, and copied, by an earlier process."""
    scene = CopiedScene(folder, statuses=BOTH, **DELAYED)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    await scene.reconcile_until_quiet()
    scene.restarted()
    return scene


async def test_an_expired_envelope_that_is_restarted_and_signed_while_its_copy_is_read_is_not_deleted(
    tmp_path: Path,
) -> None:
    scene = await an_expired_scene(tmp_path)

    def restart_and_sign() -> None:
        scene.envelope.status = EnvelopeStatus.COMPLETED
        scene.envelope.contents["file-1"] = SIGNED

    scene.is_archive_busy, scene.while_waiting = True, restart_and_sign
    event = await scene.retried()

    assert event.status.reason == "FilesChanged"
    assert scene.deleted == []
    await scene.retried()
    for name in ("dms", "worm"):
        (document,) = scene.folders[name].rglob("file-1.pdf")
        assert document.read_bytes() == SIGNED


async def test_the_last_question_before_the_delete_of_an_expired_envelope_is_its_state(
    tmp_path: Path,
) -> None:
    scene = await an_expired_scene(tmp_path)
    await scene.retried()
    asked = scene.envelope.asked
    assert asked[asked.index("delete") - 1] == "envelope"
