"""The sender of an envelope that is recorded after its event was parked or failed."""

from functools import partial
from pathlib import Path

import pytest

from controller.reopening.fix_rules import organization_may_fix
from controller.reopening.reopener import LateSenderFinder, Reopener
from counterfoil.esaw import HttpStatusError
from counterfoil.kube.errors import Forbidden
from counterfoil.resources import SENDER_LABEL, EnvelopeEvent, Phase
from tests.support.builders import KEY, a_sender, an_envelope, an_event, an_organization, known_to_work
from tests.support.fakes.reconcile_context import missing
from tests.support.scenes.reconciler import ReconcilerScene


class LateScene(ReconcilerScene):
    """An event of the default Sender, in a namespace with another Sender."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.observe(known_to_work(a_sender("ben")))
        self.kube.put_secret("ben-key", "token", {"token": KEY.encode()})
        self.finder = LateSenderFinder(
            self.kube, Reopener(self.status_writer, self.event_recorder, self.clock), self.cache
        )

    async def look(self) -> EnvelopeEvent:
        """Let the garbage collector read the event."""
        await self.finder.reopen_if_recorded(self.newest())
        return self.newest()


@pytest.fixture
def scene(tmp_path: Path) -> LateScene:
    return LateScene(tmp_path)


async def parked(scene: LateScene) -> None:
    scene.envelope.but("envelope", HttpStatusError(401, error_id="ERR0010"))
    assert (await scene.reconcile()).status.phase is Phase.AWAITING_CONSENT
    scene.envelope.problems.clear()


async def test_an_event_parked_for_the_default_sender_continues_with_the_sender_of_a_late_envelope(
    scene: LateScene,
) -> None:
    await parked(scene)
    assert (await scene.look()).status.phase is Phase.AWAITING_CONSENT
    scene.kube.put(an_envelope("ben"))
    opened = (await scene.look()).status
    assert (opened.phase, opened.reason) == (Phase.PENDING, "OtherSenderRecorded")
    after = await scene.reconcile(2)
    assert (after.status.phase, after.metadata.labels[SENDER_LABEL]) == (Phase.SUCCEEDED, "ben")
    assert ("Normal", "OtherSenderRecorded") in await scene.recorded()


@pytest.mark.parametrize(("sender", "organization"), [("anna", "acme"), ("ben", "globex")])
async def test_an_envelope_of_the_same_sender_or_of_another_organization_changes_nothing(
    scene: LateScene, sender: str, organization: str
) -> None:
    await parked(scene)
    scene.kube.put(an_envelope(sender, organization))
    assert (await scene.look()).status.phase is Phase.AWAITING_CONSENT


@pytest.mark.parametrize(
    ("phase", "reason", "is_reopened"),
    [
        (Phase.VALIDATING, "SenderSuspended", True),
        (Phase.VALIDATING, "SenderMissing", True),
        (Phase.FAILED, "SenderMissing", True),
        (Phase.FAILED, "EnvelopeNotFound", True),
        (Phase.FAILED, "SenderUnknown", True),
        (Phase.VALIDATING, "SenderPending", True),
        (Phase.FAILED, "NotPermitted", True),
        (Phase.FAILED, "EnvelopeDeleted", False),
        (Phase.SUCCEEDED, "ArchivedAndKept", False),
        (Phase.SKIPPED, "EnvelopeNotFound", False),
        (Phase.ARCHIVING, "EsawUnreachable", False),
    ],
)
async def test_only_an_event_that_another_sender_may_help_looks_its_envelope_up(
    scene: LateScene, phase: Phase, reason: str, *, is_reopened: bool
) -> None:
    event = an_event().labelled(SENDER_LABEL, "anna").in_phase(phase, reason).build()
    scene.kube.put(event)
    scene.kube.put(an_envelope("ben"))
    scene.kube.asked.clear()
    assert ((await scene.look()).status.reason == "OtherSenderRecorded") is is_reopened
    assert bool(scene.kube.asked) is is_reopened


async def test_an_envelope_that_names_another_sender_starts_an_event_whose_sender_was_missing(
    scene: LateScene,
) -> None:
    scene.kube.put(an_envelope("nobody"))
    while not scene.newest().status.phase.is_final:
        event = await scene.reconcile()
        scene.clock.advance(hours=1)
    assert event.status.cause == "SenderMissing"
    scene.kube.put(an_envelope("ben"))
    assert (await scene.look()).status.reason == "OtherSenderRecorded"
    after = await scene.reconcile(2)
    assert (after.status.phase, after.metadata.labels[SENDER_LABEL]) == (Phase.SUCCEEDED, "ben")


async def test_an_event_that_changes_meanwhile_or_may_not_be_changed_is_skipped(scene: LateScene) -> None:
    await parked(scene)
    scene.kube.put(an_envelope("ben"))
    scene.kube.fail("patch_status", Forbidden(403, "Forbidden", "no"))
    assert (await scene.look()).status.phase is Phase.AWAITING_CONSENT
    changed = {"status": {"phase": "Pending", "reason": "Other"}}
    scene.kube.just_before("patch_status", partial(scene.kube.edit, EnvelopeEvent, scene.event.name, changed))
    assert (await scene.look()).status.reason == "Other"


async def test_an_envelope_that_was_not_found_is_archived_with_a_corrected_default_sender(
    scene: LateScene,
) -> None:
    scene.envelope.but("envelope", missing()).but("history", missing())
    failed = await scene.reconcile(3)
    assert (failed.status.phase, failed.status.reason) == (Phase.FAILED, "EnvelopeNotFound")
    scene.envelope.problems.clear()
    scene.observe(an_organization(version=2, defaultSenderRef={"name": "ben"}))
    assert organization_may_fix(failed.status.cause)
    await scene.finder.reopener.reopen_after_fix(failed, "CauseSolved", "The Organization was changed.")
    after = await scene.reconcile(2)
    assert (after.status.phase, after.metadata.labels[SENDER_LABEL]) == (Phase.SUCCEEDED, "ben")
