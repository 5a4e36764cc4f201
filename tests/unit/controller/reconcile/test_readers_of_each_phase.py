"""Which keys are asked, and how often, if eSAW does not show an envelope to the key that read it before?"""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from controller.reopening.reopener import LateSenderFinder, Reopener
from controller.requests.event_requests import EventRequests
from controller.resync.event_starter import EventStarter, EventStarts
from counterfoil.esaw import HttpStatusError
from counterfoil.resources import (
    SENDER_LABEL,
    Envelope,
    EnvelopeEvent,
    EnvelopeStatus,
    Origin,
    Phase,
    Sender,
    SenderReference,
)
from counterfoil.resources.reopening import is_never_shown, is_started_by_other_key
from counterfoil.resources.request import Request
from counterfoil.retention import removal_time
from tests.support.builders import DORA, ENVELOPE, a_sender, an_envelope, known_to_work
from tests.support.fakes.reconcile_context import missing
from tests.support.scenes.two_keys import FORBIDDEN, OTHER_KEY, TwoKeysScene

NOT_ALLOWED = HttpStatusError(403, "ERR0010")
PHASES = {"files": Phase.COLLECTING, "download file-1": Phase.ARCHIVING, "delete": Phase.CLEANING}
"""The phase that each operation of eSAW is called in."""


class ReadersScene(TwoKeysScene):
    """An event that anna's key read, and the garbage collector."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        super().__init__(folder, **spec)
        reopener = Reopener(self.status_writer, self.event_recorder, self.clock)
        self.finder = LateSenderFinder(self.kube, reopener, self.cache)

    async def reach(self, phase: Phase) -> None:
        """Let anna read the envelope, until the event stays in this phase."""
        operation = next(each for each, its_phase in PHASES.items() if its_phase is phase)
        self.two.anna.but(operation, HttpStatusError(503))
        event = await self.run()
        assert phase in (event.status.phase, Phase.CLEANING)
        self.two.anna.problems.clear()

    def record(self, sender: str) -> None:
        """Let the before-send page record this Sender now."""
        self.kube.put(an_envelope(sender))
        self.forget()

    async def is_reopened(self) -> bool:
        """Let the garbage collector read the event; whether it starts again."""
        before = self.newest()
        after = await self.finder.reopen_if_recorded(before)
        self.cache.update(after)
        return after is not before

    async def is_started_by_sweep(self, finder: str) -> bool:
        """Let a sweep list the envelope with the key of a Sender; whether the event starts again."""
        self.clock.advance(hours=6)
        starter = EventStarter(self.kube, self.clock, self.metrics, lambda _: None, self.cache.senders.get)
        starts = EventStarts(self.organization, "envelopeFinished", Origin.SWEEP, None)
        started = await starter.start(starts, ENVELOPE, EnvelopeStatus.COMPLETED, sender=finder)
        self.cache.update(self.newest())
        return started.is_reopened

    async def passes(self, number: int) -> int:
        """Let this many passes over all events begin, with runs between them; return how often the event
        starts again."""
        found = 0
        for _ in range(number):
            found += await self.is_reopened()
            self.clock.advance(hours=1)
            await self.run(8)
        return found

    async def retry(self) -> None:
        """Retry the event as a person does."""
        event = self.newest()
        result = await EventRequests(self.clock).retry(event, Request("retry"))
        self.cache.update(await self.status_writer.store(event, result.change(event.status)))


@pytest.fixture
def scene(tmp_path: Path) -> ReadersScene:
    return ReadersScene(tmp_path)


# -- The reader does not see the envelope any more -----------------------------------------------------------


@pytest.mark.parametrize("phase", PHASES.values())
async def test_the_sender_of_the_envelope_reads_after_three_answers_to_another_one(
    scene: ReadersScene, phase: Phase
) -> None:
    await scene.reach(phase)
    scene.stop_showing()
    scene.record("dora")
    scene.show_to_dora()
    scene.two.anna.asked.clear()
    event = await scene.run(12)
    assert (event.status.phase, event.status.reason) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert event.metadata.labels[SENDER_LABEL] == "dora"
    asked = [each for each in scene.two.anna.asked if each in ("envelope", "files")]
    assert len(asked) == 3


@pytest.mark.parametrize("phase", PHASES.values())
async def test_an_event_fails_after_each_key_was_asked_and_its_message_names_them(
    scene: ReadersScene, phase: Phase
) -> None:
    await scene.reach(phase)
    scene.stop_showing()
    scene.record("dora")
    event = await scene.run(12)
    assert (event.status.phase, event.status.reason) == (Phase.FAILED, "EnvelopeNotFound")
    assert [(each.name, each.answers) for each in event.status.not_shown_to] == [("anna", 3), ("dora", 3)]
    assert scene.two.dora.asked.count("envelope") == 1
    message = event.status.message or ""
    assert "Sender/dora any more" not in message
    assert "These keys were tried before: Sender/anna." in message
    assert event.status.last_error is not None
    assert event.status.cause == "EnvelopeNotFound"


async def test_a_key_that_may_not_read_the_envelope_any_more_is_no_problem_of_esaws_address(
    scene: ReadersScene,
) -> None:
    await scene.reach(Phase.COLLECTING)
    scene.stop_showing()
    event = await scene.run()
    assert (event.status.phase, event.status.reason) == (Phase.COLLECTING, "EnvelopeNotFound")


@pytest.mark.parametrize("operation", ["files", "download file-1"])
async def test_a_404_that_does_not_name_the_envelope_ends_no_event_as_not_found(
    scene: ReadersScene, operation: str
) -> None:
    await scene.reach(PHASES[operation])
    scene.two.anna.but(operation, HttpStatusError(404, "ERR0008"))
    event = await scene.run(6)
    assert (event.status.phase, event.status.reason) == (PHASES[operation], "EsawNotFound")


async def test_files_that_arrived_stay_known_if_the_envelope_is_not_shown_any_more(
    scene: ReadersScene,
) -> None:
    scene.two.anna.but("download trail-1", HttpStatusError(404, "ERR0007"))
    event = await scene.run()
    assert (event.status.phase, event.status.reason) == (Phase.ARCHIVING, "FilesNotShown")
    assert [each.sha256 is not None for each in event.status.documents] == [True, False]


@pytest.mark.parametrize("dora_sees", [False, True])
async def test_no_pass_starts_an_event_again_whose_keys_were_all_tried(
    tmp_path: Path, *, dora_sees: bool
) -> None:
    scene = ReadersScene(tmp_path, cleanup={"policy": "Delete", "after": "24h"}, defaultSenderRef=None)
    assert (await scene.run()).status.reason == "CleanupDelayed"
    scene.stop_showing()
    scene.clock.advance(hours=25)
    event = await scene.run(6)
    assert (event.status.phase, event.status.reason) == (Phase.FAILED, "EnvelopeNotFound")
    scene.record("dora")
    if dora_sees:
        scene.show_to_dora()
    scene.two.anna.asked.clear()
    assert await scene.passes(5) == 1
    assert scene.two.anna.asked == []
    assert scene.newest().status.phase is (Phase.SUCCEEDED if dora_sees else Phase.FAILED)


async def test_a_retry_comes_to_the_sender_of_an_envelope_that_a_person_created(tmp_path: Path) -> None:
    scene = ReadersScene(tmp_path, cleanup={"policy": "Delete", "after": "24h"}, defaultSenderRef=None)
    await scene.run()
    scene.stop_showing()
    scene.clock.advance(hours=25)
    assert (await scene.run(6)).status.phase is Phase.FAILED
    scene.record("dora")
    scene.show_to_dora()
    await scene.retry()
    assert (await scene.run(8)).status.reason == "ArchivedAndDeleted"


# -- A parked or held event ----------------------------------------------------------------------------------


@pytest.mark.parametrize("recorded", ["refused", "missing", "foreign"])
async def test_no_pass_starts_an_event_again_for_a_sender_whose_key_can_not_be_used(
    scene: ReadersScene, recorded: str
) -> None:
    await scene.reach(Phase.COLLECTING)
    scene.refuse()
    await scene.run(3)
    assert scene.waits_for_anna()
    if recorded == "refused":
        scene.observe(a_sender("dora", authorized="False", version=60))
    elif recorded == "foreign":
        scene.observe(a_sender("dora", organization="other", version=60))
    scene.record("nobody" if recorded == "missing" else "dora")
    assert await scene.passes(6) == 0
    assert scene.waits_for_anna()


async def test_no_pass_starts_an_event_again_whose_suspended_sender_has_the_proof(
    scene: ReadersScene,
) -> None:
    await scene.reach(Phase.COLLECTING)
    scene.show_to_dora()
    raw = a_sender("anna", version=70, suspend=True).to_dict()
    raw["metadata"]["generation"] = 2
    scene.observe(known_to_work(Sender.parse(raw)))
    assert (await scene.run()).status.reason == "SenderSuspended"
    scene.record("dora")
    assert await scene.passes(6) == 0
    assert scene.newest().status.reason == "SenderSuspended"


async def test_no_pass_starts_an_event_again_for_a_suspended_sender(scene: ReadersScene) -> None:
    await scene.reach(Phase.COLLECTING)
    scene.refuse()
    await scene.run(3)
    raw = known_to_work(a_sender("dora", version=70, suspend=True), OTHER_KEY).to_dict()
    scene.observe(Sender.parse(raw))
    scene.record("dora")
    assert await scene.passes(3) == 0


async def test_a_pass_starts_a_parked_event_again_for_a_key_that_was_not_tried(scene: ReadersScene) -> None:
    await scene.reach(Phase.COLLECTING)
    scene.refuse()
    await scene.run(3)
    assert scene.waits_for_anna()
    scene.show_to_dora()
    scene.record("dora")
    assert await scene.passes(3) == 1
    assert scene.newest().status.reason == "ArchivedAndDeleted"


# -- What a key without the proof is answered ----------------------------------------------------------------


def refuse_to_read(scene: TwoKeysScene, problem: HttpStatusError) -> None:
    for operation in ("envelope", "configuration", "files", "history"):
        scene.two.dora.but(operation, problem)


@pytest.mark.parametrize("problem", [NOT_ALLOWED, HttpStatusError(400, "ERR0013")])
@pytest.mark.parametrize("phase", PHASES.values())
async def test_what_esaw_refuses_to_a_key_without_the_proof_does_not_fail_the_event(
    scene: ReadersScene, phase: Phase, problem: HttpStatusError
) -> None:
    await scene.reach(phase)
    scene.refuse()
    refuse_to_read(scene, problem)
    scene.record("dora")
    for _ in range(4):
        scene.cache.update(await scene.reconcile())
    assert scene.waits_for_anna()
    assert [each.name for each in scene.newest().status.not_shown_to] == ["dora"]
    scene.consent()
    assert (await scene.run(5)).status.reason == "ArchivedAndDeleted"


def not_listed(scene: TwoKeysScene) -> None:
    """Let no list name anna."""
    scene.kube.objects[EnvelopeEvent.PLURAL, scene.event.name]["metadata"]["labels"] = {}
    scene.cache.update(scene.newest())
    scene.forget()


async def test_an_envelope_that_the_key_of_its_sender_may_not_read_is_read_with_the_next_key(
    scene: ReadersScene,
) -> None:
    refuse_to_read(scene, NOT_ALLOWED)
    scene.record("dora")
    event = await scene.run(6)
    assert event.status.reason == "ArchivedAndDeleted"
    assert event.metadata.labels[SENDER_LABEL] == "anna"
    assert scene.two.dora.asked.count("envelope") == 1


async def test_an_event_whose_only_key_may_not_read_fails_as_not_permitted_and_starts_for_another_key(
    scene: ReadersScene,
) -> None:
    not_listed(scene)
    refuse_to_read(scene, NOT_ALLOWED)
    event = await scene.run(6)
    assert (event.status.phase, event.status.reason) == (Phase.FAILED, "NotPermitted")
    assert [each.name for each in event.status.not_shown_to] == ["dora"]
    assert is_started_by_other_key(event.status)
    scene.show_to_dora()
    await scene.retry()
    assert (await scene.run(6)).status.reason == "ArchivedAndDeleted"


@pytest.mark.parametrize("operation", PHASES)
async def test_a_key_with_the_proof_that_may_not_do_all_fails_the_event_and_no_search_starts_it(
    scene: ReadersScene, operation: str
) -> None:
    scene.two.anna.but(operation, NOT_ALLOWED)
    event = await scene.run(3)
    assert (event.status.phase, event.status.reason) == (Phase.FAILED, "NotPermitted")
    assert event.status.message == (
        "eSignAnyWhere does not permit this to the sender's key (403): Sender/anna."
    )
    assert [(each.name, each.refused) for each in event.status.not_shown_to] == [("anna", True)]
    assert [await scene.is_started_by_sweep("anna") for _ in range(4)] == [False] * 4
    scene.consent()
    assert await scene.is_started_by_sweep("anna"), "another key may be permitted more"


@pytest.mark.parametrize("operation", PHASES)
async def test_a_refusal_to_each_sender_is_the_end_whichever_of_them_lists_the_envelope(
    tmp_path: Path, operation: str
) -> None:
    scene = ReadersScene(tmp_path, defaultSenderRef={"name": "anna"})
    not_listed(scene)
    scene.two.anna.but(operation, NOT_ALLOWED)
    refuse_to_read(scene, NOT_ALLOWED)
    scene.record("dora")
    event = await scene.run(8)
    assert (event.status.phase, event.status.reason) == (Phase.FAILED, "NotPermitted")
    assert event.status.message == (
        "eSignAnyWhere does not permit this to the sender's key (403): Sender/dora, Sender/anna."
    )
    assert [await scene.is_started_by_sweep("anna") for _ in range(4)] == [False] * 4
    assert await scene.passes(3) == 0


@pytest.mark.parametrize("operation", PHASES)
async def test_an_envelope_that_is_recorded_after_a_refusal_starts_the_event_for_its_sender(
    tmp_path: Path, operation: str
) -> None:
    scene = ReadersScene(tmp_path, defaultSenderRef=None)
    scene.two.anna.but(operation, NOT_ALLOWED)
    await scene.run(3)
    assert scene.newest().status.reason == "NotPermitted"
    scene.show_to_dora()
    scene.record("dora")
    assert await scene.passes(3) == 1
    assert scene.newest().status.reason == "ArchivedAndDeleted"


async def test_the_end_after_a_refusal_to_an_earlier_sender_of_a_name_does_not_name_its_user(
    tmp_path: Path,
) -> None:
    scene = ReadersScene(tmp_path, defaultSenderRef=None)
    not_listed(scene)
    refuse_to_read(scene, NOT_ALLOWED)
    scene.record("dora")
    assert (await scene.run(6)).status.reason == "NotPermitted"
    for operation in ("envelope", "configuration", "files", "history"):
        scene.two.dora.but(operation, missing())
    other = known_to_work(a_sender("dora", version=60), OTHER_KEY)
    scene.observe(replace(other, metadata=replace(other.metadata, uid="uid-other")))
    await scene.retry()
    event = await scene.run(8)
    assert event.status.reason == "NotPermitted"
    assert event.status.message == (
        "eSignAnyWhere does not permit this to the sender's key (403): an earlier Sender/dora. "
        "It does not show the envelope to these keys: Sender/dora."
    )
    assert removal_time(event, scene.organization.spec) is None


async def test_a_key_to_which_the_envelope_was_shown_later_is_believed_after_it_deleted_the_envelope(
    tmp_path: Path,
) -> None:
    scene = ReadersScene(tmp_path, cleanup={"policy": "Delete", "after": "24h"}, defaultSenderRef=None)
    await scene.run()
    scene.stop_showing()
    scene.show_to_dora()
    scene.record("dora")
    scene.two.dora.but("history", FORBIDDEN).but("delete", HttpStatusError(502))
    scene.clock.advance(hours=25)
    event = await scene.run(6)
    assert event.status.reason == "DeleteUnanswered"
    assert event.status.envelope is not None
    assert event.status.envelope.sender_ref == SenderReference(name="dora", user_id=DORA)
    scene.two.dora.deleted = True
    assert (await scene.run(4)).status.reason == "DeletionAssumed"


@pytest.mark.parametrize("phase", PHASES.values())
async def test_a_history_says_nothing_about_an_envelope_that_its_key_never_showed(
    scene: ReadersScene, phase: Phase
) -> None:
    scene.two.anna.but("history", FORBIDDEN)
    await scene.reach(phase)
    scene.refuse()
    scene.two.dora.remembered = True
    scene.two.dora.deleted = True
    scene.record("dora")
    for _ in range(4):
        scene.cache.update(await scene.reconcile())
    assert scene.waits_for_anna()
    assert "history" not in scene.two.dora.asked


async def test_a_history_is_believed_of_a_key_that_showed_the_envelope_in_this_run(
    scene: ReadersScene,
) -> None:
    await scene.reach(Phase.COLLECTING)
    scene.refuse()
    scene.show_to_dora()
    scene.record("dora")
    scene.two.dora.deleted_for_history = True
    scene.two.dora.but("files", HttpStatusError(404, "ERR0007"))
    scene.cache.update(await scene.reconcile())
    event = await scene.run(2)
    assert (event.status.phase, event.status.reason) == (Phase.FAILED, "EnvelopeDeleted")


# -- A key that may see the envelope, and not do all ---------------------------------------------------------


async def refused_then_unseen(tmp_path: Path) -> ReadersScene:
    """The Envelope names dora, who may not read it; the default Sender anna is not shown it."""
    scene = ReadersScene(tmp_path, defaultSenderRef={"name": "anna"})
    not_listed(scene)
    scene.stop_showing()
    refuse_to_read(scene, NOT_ALLOWED)
    scene.record("dora")
    await scene.run(8)
    return scene


async def test_a_refusal_to_the_sender_of_the_envelope_is_the_end_if_no_other_key_shows_it(
    tmp_path: Path,
) -> None:
    scene = await refused_then_unseen(tmp_path)
    event = scene.newest()
    assert (event.status.phase, event.status.reason) == (Phase.FAILED, "NotPermitted")
    assert "Sender/dora" in (event.status.message or "")
    assert removal_time(event, scene.organization.spec) is None
    assert not is_never_shown(event.status)


async def test_a_refusal_stays_known_after_a_retry_without_the_envelope_that_named_the_sender(
    tmp_path: Path,
) -> None:
    scene = await refused_then_unseen(tmp_path)
    del scene.kube.objects[Envelope.PLURAL, ENVELOPE]
    scene.forget()
    await scene.retry()
    event = await scene.run(8)
    assert (event.status.phase, event.status.reason) == (Phase.FAILED, "NotPermitted")
    assert "Sender/dora" in (event.status.message or "")


async def test_a_retry_after_the_permission_was_given_archives_the_envelope(tmp_path: Path) -> None:
    scene = await refused_then_unseen(tmp_path)
    scene.show_to_dora()
    await scene.retry()
    assert (await scene.run(8)).status.reason == "ArchivedAndDeleted"


@pytest.mark.parametrize("operation", ["files", "download file-1"])
async def test_an_envelope_that_is_shown_in_each_run_is_waited_for_if_a_file_is_not(
    scene: ReadersScene, operation: str
) -> None:
    scene.two.anna.but(operation, HttpStatusError(404, "ERR0007"))
    for _ in range(6):
        event = await scene.run()
    assert (event.status.phase, event.status.reason) == (PHASES[operation], "FilesNotShown")
    assert "any more" not in (event.status.message or "")
    assert (event.status.not_shown_to, scene.two.dora.asked) == ((), [])
    scene.two.anna.problems.clear()
    assert (await scene.run(5)).status.reason == "ArchivedAndDeleted"


@pytest.mark.parametrize(
    ("phase", "problem"),
    [
        *((phase, NOT_ALLOWED) for phase in PHASES.values()),
        (Phase.COLLECTING, HttpStatusError(404, "ERR0007")),
        (Phase.ARCHIVING, HttpStatusError(404, "ERR0007")),
    ],
)
async def test_the_sender_of_a_read_is_asked_again_after_another_key_could_see_the_envelope_only(
    tmp_path: Path, phase: Phase, problem: HttpStatusError
) -> None:
    scene = ReadersScene(tmp_path, defaultSenderRef=None)
    await scene.reach(phase)
    not_listed(scene)
    scene.refuse()
    scene.record("dora")
    scene.show_to_dora()
    for operation in PHASES:
        scene.two.dora.but(operation, problem)
    await scene.run(8)
    scene.consent()
    assert (await scene.run(8)).status.reason == "ArchivedAndDeleted"
    assert scene.newest().metadata.labels[SENDER_LABEL] == "anna"


@pytest.mark.parametrize("phase", PHASES.values())
async def test_the_sender_of_the_envelope_reads_in_place_of_one_that_may_see_and_not_do(
    tmp_path: Path, phase: Phase
) -> None:
    scene = ReadersScene(tmp_path, defaultSenderRef={"name": "anna"})
    await scene.reach(phase)
    for operation in PHASES:
        scene.two.anna.but(operation, NOT_ALLOWED)
    scene.record("dora")
    scene.show_to_dora()
    assert (await scene.run(8)).status.reason == "ArchivedAndDeleted"
    assert scene.newest().metadata.labels[SENDER_LABEL] == "dora"


async def test_a_suspended_sender_of_the_envelope_holds_nothing_that_the_sender_of_the_read_can_do_again(
    tmp_path: Path,
) -> None:
    scene = ReadersScene(tmp_path, defaultSenderRef={"name": "anna"})
    await scene.reach(Phase.CLEANING)
    scene.two.anna.but("delete", NOT_ALLOWED)
    scene.record("dora")
    scene.observe(known_to_work(a_sender("dora", version=70, suspend=True), OTHER_KEY))
    event = await scene.run(8)
    assert (event.status.reason, event.metadata.labels[SENDER_LABEL]) == ("SenderSuspended", "dora")
    scene.consent()
    assert (await scene.run(8)).status.reason == "ArchivedAndDeleted"


async def test_the_key_of_a_sender_that_is_suspended_during_a_run_is_not_used_after_the_present_phase(
    tmp_path: Path,
) -> None:
    """Anna's key works again meanwhile, so the next run is hers."""
    scene = ReadersScene(tmp_path, defaultSenderRef=None)
    await scene.reach(Phase.COLLECTING)
    scene.refuse()
    scene.record("dora")
    scene.show_to_dora()

    def suspend() -> None:
        scene.observe(known_to_work(a_sender("dora", version=70, suspend=True), OTHER_KEY))
        scene.consent()

    scene.two.dora.meanwhile["files"] = suspend
    event = await scene.run(8)
    assert (event.status.reason, event.metadata.labels[SENDER_LABEL]) == ("ArchivedAndDeleted", "anna")
    assert [each for each in scene.two.dora.asked if each.startswith("download")] == []


@pytest.mark.parametrize(
    ("default", "end"), [("anna", "EnvelopeNotFound"), ("anna", "TokenRejected"), (None, "SenderUnknown")]
)
@pytest.mark.parametrize("why", ["refused", "suspended"])
async def test_a_late_envelope_lets_the_event_wait_for_its_sender_once(
    tmp_path: Path, default: str | None, end: str, why: str
) -> None:
    scene = ReadersScene(tmp_path, defaultSenderRef=None if default is None else {"name": default})
    not_listed(scene)
    if end == "TokenRejected":
        scene.refuse()
    elif end == "EnvelopeNotFound":
        scene.stop_showing()
    scene.clock.advance(minutes=10)
    assert (await scene.run(8)).status.reason == end
    if why == "refused":
        for operation in ("whoami", "envelope", "configuration", "files", "history"):
            scene.two.dora.but(operation, HttpStatusError(401, "ERR0401"))
        scene.observe(a_sender("dora", authorized="False", version=60))
    else:
        scene.observe(
            Sender.parse(known_to_work(a_sender("dora", version=70, suspend=True), OTHER_KEY).to_dict())
        )
    scene.record("dora")
    assert await scene.passes(5) == 1
    event = scene.newest()
    assert event.metadata.labels[SENDER_LABEL] == "dora"
    assert event.status.phase is (Phase.AWAITING_CONSENT if why == "refused" else Phase.VALIDATING)
    if why == "suspended":
        assert event.status.reason == "SenderSuspended"
