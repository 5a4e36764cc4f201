"""An envelope that was deleted: which other event of it counts as its archive."""

from pathlib import Path

import pytest

from counterfoil.esaw import HttpStatusError
from counterfoil.resources import (
    SENDER_LABEL,
    EnvelopeEvent,
    EnvelopeStatus,
    Phase,
)
from tests.support.builders import an_event
from tests.unit.controller.reconcile.test_reconciler import Scene

ACTIONS = [{"action": each, "handling": "Archive"} for each in ("envelopeFinished", "workstepFinished")]
BOTH = ["Completed", "Expired"]


def another_event(scene: Scene) -> EnvelopeEvent:
    """Let eSAW report another action of the envelope, and return the event before it."""
    first = scene.newest()
    scene.event = an_event().for_action("workstepFinished").labelled(SENDER_LABEL, "anna").build()
    scene.kube.put(scene.event)
    return first


@pytest.mark.xfail(strict=True, reason="any other event that is archived counts as the archive")
async def test_a_document_that_was_signed_after_another_event_archived_the_expired_envelope_is_not_archived(
    tmp_path: Path,
) -> None:
    scene = Scene(tmp_path, actions=ACTIONS, statuses=BOTH, cleanup={"policy": "Delete", "after": "168h"})
    scene.envelope.status = EnvelopeStatus.EXPIRED
    assert (await scene.reconcile()).status.reason == "CleanupDelayed"
    another_event(scene)
    scene.envelope.status = EnvelopeStatus.COMPLETED
    scene.envelope.but("files", HttpStatusError(503))
    assert (await scene.reconcile()).status.reason == "EsawFailing"
    scene.envelope.deleted = True
    after = await scene.reconcile()
    assert (after.status.phase, after.status.reason) == (Phase.FAILED, "EnvelopeDeleted")
    assert "An earlier state of it is archived" in (after.status.message or "")
