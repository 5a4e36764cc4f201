"""An Expired envelope that is restarted and signed is archived, also while a copy is down or suspended."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from controller.mails.problem_tracking import EventArchives, FailureSummary
from controller.reconcile.fence import Fence
from controller.reconcile.outcomes import Done, Fail, NeedConsent, Outcome, Pause, Wait
from controller.reconcile.phases.restarted_envelope import with_answer
from controller.scheduling.due import due_time
from counterfoil.esaw import HttpStatusError
from counterfoil.resources import EnvelopeEvent, Phase, Sender, find_condition
from counterfoil.resources.organization import EnvelopeStatus
from counterfoil.resources.reopening import is_started_by_search, reopened_status
from counterfoil.resources.routes import stored_copy
from counterfoil.retention import imminent_deletion, last_question
from tests.support.builders import ENVELOPE, NOON, a_sender, known_to_work
from tests.support.fakes.reconcile_context import missing
from tests.support.scenes.copied_events import WORM, CopiedScene

STATES = ("down", "suspended")


class ExpiredScene(CopiedScene):
    """An event that waits for the copy of an envelope that was archived as Expired."""

    def __init__(self, folder: Path, state: str, **spec: Any) -> None:
        statuses = ["Completed", "Expired"]
        super().__init__(folder, WORM, **{"statuses": statuses, "cleanup": {"policy": "Delete"}, **spec})
        self.envelope.status = EnvelopeStatus.EXPIRED
        if state == "down":
            self.break_archive("worm")
        else:
            self.change_archive("worm", suspend=True)

    def sign(self) -> None:
        """Let a person restart the envelope, and sign it."""
        self.envelope.status = EnvelopeStatus.COMPLETED
        self.envelope.contents["file-1"] = b"%PDF-contract SIGNED"

    def call(self) -> None:
        """Let eSAW call about it."""
        status = self.newest().status
        received = {"deliveries": (status.deliveries or 0) + 1, "last_delivery_time": self.clock.now()}
        self.store(replace(status, **received))

    def fail(self, failure: str) -> None:
        """Let eSAW not answer from now on."""
        if failure == "no sender is there":
            self.cache.delete(Sender, "anna", 10**9)
        else:
            self.envelope.problems["envelope"] = FAILURES[failure]
        self.clock.advance(seconds=2)

    async def answered(self, hours: int = 3) -> None:
        """Let eSAW answer again, and the sender consent."""
        self.envelope.problems.clear()
        self.observe(known_to_work(a_sender(version=10**9 + 1)))
        await self.pass_hours(hours)

    async def pass_hours(self, hours: int) -> None:
        for _ in range(hours):
            await self.reconcile_until_quiet()
            self.clock.advance(hours=1)

    @property
    def archived(self) -> list[bytes]:
        return [each.read_bytes() for each in self.folders["dms"].rglob("file-1.pdf")]

    @property
    def failures(self) -> list[str]:
        """Reasons of the failures that the mails count."""
        found = FailureSummary()
        found.add(self.newest(), EventArchives("worm", ("dms", "worm")))
        return [each.reason for each in found.failed.values()]

    @property
    def questions(self) -> int:
        return len(self.envelope.asked)


@pytest.mark.parametrize("state", STATES)
async def test_a_callback_after_the_restart_lets_it_be_archived_again(tmp_path: Path, state: str) -> None:
    scene = ExpiredScene(tmp_path, state)
    event = await scene.reconcile_until_quiet()
    assert event.status.phase is Phase.COPYING
    scene.sign()
    scene.clock.advance(minutes=5)
    scene.call()

    await scene.pass_hours(3)

    assert scene.archived == [b"%PDF-contract SIGNED"]
    assert scene.newest().status.phase is Phase.COPYING
    assert scene.deleted == []


@pytest.mark.parametrize("state", STATES)
async def test_a_search_that_finds_it_signed_lets_it_be_archived_again(tmp_path: Path, state: str) -> None:
    scene = ExpiredScene(tmp_path, state)
    status = (await scene.reconcile_until_quiet()).status
    scene.sign()
    assert is_started_by_search(status, EnvelopeStatus.COMPLETED)
    scene.store(reopened_status(status, reason="FoundBySweep", message="", now=scene.clock.now()))

    await scene.pass_hours(3)

    assert scene.archived == [b"%PDF-contract SIGNED"]


async def test_the_last_attempts_before_the_end_of_the_retention_ask(tmp_path: Path) -> None:
    scene = ExpiredScene(tmp_path, "down", retention="48h", retry={"deadline": "720h"})
    await scene.reconcile_until_quiet()
    await scene.pass_hours(12)
    scene.sign()

    await scene.pass_hours(18)

    assert scene.archived == [b"%PDF-contract SIGNED"]


@pytest.mark.parametrize("state", STATES)
async def test_a_callback_about_an_envelope_that_is_still_expired_asks_once(
    tmp_path: Path, state: str
) -> None:
    scene = ExpiredScene(tmp_path, state)
    before = await scene.reconcile_until_quiet()
    scene.call()
    asked = scene.questions

    after = await scene.reconcile_until_quiet()

    assert after.status.phase is before.status.phase
    assert after.status.considered_deliveries == after.deliveries
    assert 0 < scene.questions - asked <= 3
    asked = scene.questions
    await scene.pass_hours(2)
    assert scene.questions == asked


async def test_the_wait_for_a_copy_takes_no_time_from_the_restarted_envelope(tmp_path: Path) -> None:
    scene = ExpiredScene(tmp_path, "down")
    await scene.pass_hours(23)
    scene.envelope.status = EnvelopeStatus.ACTIVE
    scene.call()
    await scene.pass_hours(12)

    event = scene.newest()
    assert (event.status.phase, event.status.reason) == (Phase.VALIDATING, "StillActive")
    assert stored_copy(event.status, "worm").verified_time is None


async def test_an_attempt_that_asks_first_has_time_for_the_copy_and_claims_the_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = ExpiredScene(tmp_path, "down")
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.call()
    scene.clock.advance(hours=1)
    claims = list[str]()
    claim = Fence.claim

    async def counted(fence: Fence) -> EnvelopeEvent:
        claims.append(fence.event.name)
        return await claim(fence)

    monkeypatch.setattr(Fence, "claim", counted)
    event = await scene.reconcile()

    assert (event.status.phase, event.status.reason) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert stored_copy(event.status, "worm").verified_time is not None
    assert claims == [event.name]


@pytest.mark.parametrize("state", STATES)
async def test_a_late_answer_that_does_not_show_the_envelope_uses_up_no_callback(
    tmp_path: Path, state: str
) -> None:
    scene = ExpiredScene(tmp_path, state)
    await scene.reconcile_until_quiet()
    scene.sign()
    scene.clock.advance(minutes=5)
    scene.call()
    scene.envelope.problems["envelope"] = missing()
    await scene.reconcile()
    scene.envelope.problems.clear()

    await scene.pass_hours(20)

    assert scene.archived == [b"%PDF-contract SIGNED"]


async def test_esaw_is_asked_before_the_end_of_its_retention_while_each_copy_is_suspended(
    tmp_path: Path,
) -> None:
    scene = ExpiredScene(tmp_path, "suspended", retention="48h")
    event = await scene.reconcile_until_quiet()
    assert event.status.next_attempt_time == last_question(event, timedelta(hours=48))
    await scene.pass_hours(12)
    scene.sign()

    await scene.pass_hours(18)

    assert scene.archived == [b"%PDF-contract SIGNED"]
    assert scene.newest().status.phase is Phase.COPYING


async def test_an_envelope_that_is_still_expired_is_asked_for_once_while_its_copy_is_suspended(
    tmp_path: Path,
) -> None:
    scene = ExpiredScene(tmp_path, "suspended", retention="48h")
    await scene.reconcile_until_quiet()
    asked = scene.questions

    await scene.pass_hours(60)

    event = scene.newest()
    assert (event.status.phase, event.status.reason) == (Phase.COPYING, "ArchiveSuspended")
    assert scene.questions - asked == 1
    assert due_time(event, scene.cache, scene.clock.now()) is None


async def test_a_retention_that_is_set_later_plans_the_last_question(tmp_path: Path) -> None:
    scene = ExpiredScene(tmp_path, "suspended")
    event = await scene.reconcile_until_quiet()
    assert due_time(event, scene.cache, scene.clock.now()) is None
    scene.change(WORM, retention="48h")

    event = await scene.reconcile_until_quiet()

    last = last_question(event, timedelta(hours=48))
    assert due_time(event, scene.cache, scene.clock.now()) == last
    scene.change(WORM)
    assert due_time(event, scene.cache, scene.clock.now()) is None


async def test_a_last_question_that_esaw_does_not_answer_is_repeated(tmp_path: Path) -> None:
    scene = ExpiredScene(tmp_path, "suspended", retention="48h")
    await scene.pass_hours(12)
    scene.sign()
    await scene.pass_hours(12)
    scene.envelope.problems["envelope"] = HttpStatusError(503)
    await scene.pass_hours(3)
    assert scene.newest().status.reason == "ArchiveSuspended"
    scene.envelope.problems.clear()

    await scene.pass_hours(4)

    assert scene.archived == [b"%PDF-contract SIGNED"]


@pytest.mark.parametrize(("hours", "longest"), [(46, "1h"), (30, "24h")])
async def test_a_callback_after_the_last_question_is_asked_about_at_once(
    tmp_path: Path, hours: int, longest: str
) -> None:
    """The next question is planned for the end of the retention, when eSAW deletes the envelope."""
    scene = ExpiredScene(tmp_path, "suspended", retention="48h", retry={"max": longest})
    await scene.pass_hours(hours)
    event, asked = scene.newest(), scene.questions
    last = last_question(event, timedelta(hours=48))
    assert last is not None
    assert event.status.next_attempt_time == last + timedelta(days=1)
    scene.sign()
    scene.call()

    await scene.reconcile_until_quiet()

    assert scene.questions > asked
    await scene.retried()
    assert scene.archived == [b"%PDF-contract SIGNED"]


async def test_a_question_after_a_late_callback_that_esaw_does_not_answer_is_repeated_in_time(
    tmp_path: Path,
) -> None:
    scene = ExpiredScene(tmp_path, "suspended", retention="48h", retry={"max": "24h"})
    await scene.pass_hours(47)
    scene.sign()
    scene.call()
    scene.envelope.problems["envelope"] = HttpStatusError(503)
    for _ in range(5):
        await scene.reconcile_until_quiet()
        scene.clock.advance(minutes=8)
        due = due_time(scene.newest(), scene.cache, scene.clock.now())
        last = last_question(scene.newest(), timedelta(hours=48))
        assert due is not None
        assert last is not None
        assert due <= last + timedelta(days=1)
    scene.envelope.problems.clear()

    await scene.pass_hours(2)

    assert scene.archived == [b"%PDF-contract SIGNED"]


FAILURES = {
    "it fails": HttpStatusError(503),
    "it permits nothing": HttpStatusError(403, "ERR0010"),
    "it refuses the key": HttpStatusError(401, "ERR0001"),
}


async def with_later_copy(scene: ExpiredScene, **spec: Any) -> ExpiredScene:
    """Let a person add the copy before the delete is due, and eSAW answer the question before it with 503."""
    spec = {"cleanup": {"policy": "Delete", "after": "1h"}, "retry": {"deadline": "720h"}, **spec}
    scene.change(**spec)
    await scene.reconcile()
    scene.change(WORM, **spec)
    scene.clock.advance(hours=1)
    scene.fail("it fails")
    await scene.reconcile_until_quiet()
    scene.clock.advance(minutes=1)
    event = await scene.reconcile_until_quiet()
    assert event.status.phase is Phase.COPYING
    assert restart_check(event) == "EsawFailing"
    return scene


def restart_check(event: EnvelopeEvent) -> str | None:
    found = find_condition(event.status.conditions, "RestartChecked")
    return found.reason if found is not None else None


@pytest.mark.parametrize("retention", ["96h", None])
@pytest.mark.parametrize("state", STATES)
async def test_a_question_before_a_later_copy_that_esaw_does_not_answer_is_repeated(
    tmp_path: Path, state: str, retention: str | None
) -> None:
    spec = {"retention": retention} if retention is not None else {}
    scene = await with_later_copy(ExpiredScene(tmp_path, state), **spec)
    await scene.pass_hours(3)
    assert restart_check(scene.newest()) == "EsawFailing"
    asked = scene.questions

    await scene.answered()

    event = scene.newest()
    assert event.status.phase is Phase.COPYING
    assert scene.questions - asked == 1
    assert restart_check(event) is None
    organization = scene.cache.organizations.get("acme")
    assert organization is not None
    assert imminent_deletion(event, organization.spec, NOON + timedelta(hours=90)) is None


@pytest.mark.parametrize("state", STATES)
async def test_what_was_signed_before_a_later_copy_is_archived_once_esaw_answers(
    tmp_path: Path, state: str
) -> None:
    scene = await with_later_copy(ExpiredScene(tmp_path, state))
    scene.sign()

    await scene.answered()

    assert scene.archived == [b"%PDF-contract SIGNED"]


@pytest.mark.parametrize("state", STATES)
async def test_an_answer_that_does_not_show_the_envelope_is_not_asked_for_again(
    tmp_path: Path, state: str
) -> None:
    scene = await with_later_copy(ExpiredScene(tmp_path, state))
    await scene.pass_hours(2)
    scene.envelope.problems["envelope"] = missing()
    asked = scene.questions

    await scene.pass_hours(5)

    assert restart_check(scene.newest()) is None
    assert scene.questions - asked == 1


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_copy_is_made_while_esaw_can_not_answer(tmp_path: Path, failure: str) -> None:
    scene = ExpiredScene(tmp_path, "down")
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.clock.advance(hours=1)
    scene.envelope.problems["envelope"] = FAILURES[failure]
    scene.call()

    event = await scene.reconcile()

    assert stored_copy(event.status, "worm").verified_time is not None
    assert event.status.phase is not Phase.COPYING
    assert scene.deleted == []


@pytest.mark.parametrize("state", STATES)
async def test_a_key_that_is_refused_before_the_copies_is_shown_and_the_delete_waits_for_it(
    tmp_path: Path, state: str
) -> None:
    scene = ExpiredScene(tmp_path, state)
    await scene.reconcile_until_quiet()
    scene.clock.advance(hours=1)
    scene.envelope.problems["envelope"] = FAILURES["it refuses the key"]
    scene.call()

    event = await scene.reconcile()

    authorized = find_condition(event.status.conditions, "Authorized")
    assert authorized is not None
    assert (authorized.status, authorized.reason) == ("False", "TokenRejected")
    assert (await scene.recorded()).count(("Warning", "TokenRejected")) == 1
    assert event.status.phase is Phase.COPYING
    if state == "down":
        scene.mend_archive("worm")
    else:
        scene.change_archive("worm")
    await scene.pass_hours(3)
    event = scene.newest()
    assert stored_copy(event.status, "worm").verified_time is not None
    assert event.status.phase is Phase.AWAITING_CONSENT
    assert scene.deleted == []


@pytest.mark.parametrize(
    "asked", [Wait("EsawFailing", "503"), Pause("Busy", "", NOON), NeedConsent("TokenRejected", "401")]
)
@pytest.mark.parametrize("made", [Fail("NameOccupied", ""), Wait("ArchiveUnreachable", "")])
def test_an_outcome_of_copies_says_that_their_question_is_open(made: Outcome, asked: Outcome) -> None:
    after = with_answer(made, asked)
    assert (type(after), after.reason) == (type(made), made.reason)
    assert after.facts.is_question_open
    assert not with_answer(made, Done("CopiesPending", "")).facts.is_question_open


class OccupiedScene(ExpiredScene):
    """A file of another system is in the place of the copy. The envelope was restarted and signed, eSAW
    called, and does not answer."""

    def __init__(self, folder: Path, failure: str) -> None:
        super().__init__(folder, "down")
        self.failure = failure
        self.foreign = folder / "worm" / "acme" / ENVELOPE / "file-1.pdf"

    async def called(self) -> EnvelopeEvent:
        await self.reconcile_until_quiet()
        self.mend_archive("worm")
        self.foreign.parent.mkdir(parents=True)
        self.foreign.write_bytes(b"foreign")
        self.sign()
        self.clock.advance(hours=1)
        self.call()
        self.fail(self.failure)
        return await self.reconcile()


UNANSWERED = ("it fails", "it refuses the key", "no sender is there")


@pytest.mark.parametrize("failure", UNANSWERED)
async def test_an_event_whose_copy_can_not_be_made_asks_once_esaw_answers(
    tmp_path: Path, failure: str
) -> None:
    scene = OccupiedScene(tmp_path, failure)
    event = await scene.called()

    assert (event.status.phase, event.status.reason) == (Phase.COPYING, "NameOccupied")
    due = due_time(event, scene.cache, scene.clock.now())
    assert due is not None
    assert due > scene.clock.now()
    authorized = find_condition(event.status.conditions, "Authorized")
    assert authorized is not None
    assert (authorized.status == "False") == (failure == "it refuses the key")
    await scene.answered()
    assert scene.archived == [b"%PDF-contract SIGNED"]


@pytest.mark.parametrize("failure", UNANSWERED)
async def test_such_a_copy_is_made_without_an_answer_once_its_cause_is_solved(
    tmp_path: Path, failure: str
) -> None:
    scene = OccupiedScene(tmp_path, failure)
    await scene.called()
    scene.foreign.unlink()
    await scene.pass_hours(3)

    assert stored_copy(scene.newest().status, "worm").verified_time is not None
    assert scene.deleted == []


@pytest.mark.parametrize("failure", UNANSWERED)
async def test_administrators_are_notified_of_such_a_copy_while_the_question_is_open(
    tmp_path: Path, failure: str
) -> None:
    scene = OccupiedScene(tmp_path, failure)
    event = await scene.called()
    found = FailureSummary()
    found.add(event, EventArchives("worm", ("dms", "worm")))
    assert [each.reason for each in found.failed.values()] == ["NameOccupied"]

    scene.foreign.unlink()
    await scene.pass_hours(3)
    found = FailureSummary()
    found.add(scene.newest(), EventArchives("dms", ("dms",)))
    assert found.failed == {}


@pytest.mark.parametrize("failure", ["it fails", "it refuses the key"])
async def test_no_deadline_ends_an_event_whose_question_is_open(tmp_path: Path, failure: str) -> None:
    scene = ExpiredScene(tmp_path, "down")
    await scene.reconcile_until_quiet()
    scene.sign()
    scene.clock.advance(minutes=5)
    scene.call()
    scene.envelope.problems["envelope"] = FAILURES[failure]
    await scene.pass_hours(26)
    assert (scene.newest().status.phase, scene.newest().status.reason) == (
        Phase.COPYING,
        "ArchiveRootMissing",
    )

    scene.envelope.problems.clear()
    scene.observe(known_to_work(a_sender(version=90)))
    await scene.pass_hours(3)
    assert scene.archived == [b"%PDF-contract SIGNED"]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("failure", UNANSWERED)
async def test_the_end_of_the_retention_is_announced_while_the_question_has_no_answer(
    tmp_path: Path, failure: str, state: str
) -> None:
    scene = ExpiredScene(tmp_path, state, retention="72h")
    await scene.reconcile_until_quiet()
    scene.sign()
    scene.clock.advance(minutes=5)
    scene.call()
    scene.fail(failure)
    await scene.pass_hours(40)
    spec = scene.organization.spec
    assert imminent_deletion(scene.newest(), spec, scene.clock.now()) is None

    await scene.pass_hours(12)

    event = scene.newest()
    assert event.status.phase is Phase.COPYING
    assert imminent_deletion(event, spec, scene.clock.now()) == NOON + timedelta(hours=72)
    await scene.answered(hours=30)
    assert scene.archived == [b"%PDF-contract SIGNED"]


@pytest.mark.parametrize("state", STATES)
async def test_the_end_of_the_retention_is_announced_without_an_answer_to_the_last_question(
    tmp_path: Path, state: str
) -> None:
    scene = ExpiredScene(tmp_path, state, retention="72h", retry={"deadline": "720h"})
    await scene.pass_hours(47)
    scene.fail("it fails")

    await scene.pass_hours(26)

    event, now = scene.newest(), scene.clock.now()
    assert imminent_deletion(event, scene.organization.spec, now) == NOON + timedelta(hours=72)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("it fails", "EsawFailing"),
        ("it refuses the key", "TokenRejected"),
        ("no sender is there", "SenderMissing"),
    ],
)
@pytest.mark.parametrize("state", STATES)
async def test_a_condition_has_the_cause_of_a_question_without_an_answer(
    tmp_path: Path, failure: str, reason: str, state: str
) -> None:
    scene = ExpiredScene(tmp_path, state)
    await scene.reconcile_until_quiet()
    scene.clock.advance(minutes=5)
    scene.call()
    scene.fail(failure)
    await scene.pass_hours(1)

    found = find_condition(scene.newest().status.conditions, "RestartChecked")
    assert found is not None
    assert (found.status, found.reason) == ("Unknown", reason)
    assert found.message
    await scene.answered()
    assert find_condition(scene.newest().status.conditions, "RestartChecked") is None


@pytest.mark.parametrize("failure", UNANSWERED)
async def test_administrators_are_notified_at_the_deadline_of_an_event_whose_question_is_open(
    tmp_path: Path, failure: str
) -> None:
    scene = ExpiredScene(tmp_path, "down")
    await scene.reconcile_until_quiet()
    scene.clock.advance(minutes=5)
    scene.call()
    scene.fail(failure)
    await scene.pass_hours(20)
    assert scene.failures == []

    await scene.pass_hours(6)

    assert scene.newest().status.phase is Phase.COPYING
    assert scene.failures == ["ArchiveRootMissing"]


async def test_an_answer_lets_the_deadline_end_the_event(tmp_path: Path) -> None:
    scene = ExpiredScene(tmp_path, "down")
    await scene.reconcile_until_quiet()
    scene.call()
    scene.envelope.problems["envelope"] = HttpStatusError(503)
    await scene.pass_hours(26)
    assert scene.newest().status.phase is Phase.COPYING

    scene.envelope.problems.clear()
    await scene.pass_hours(3)
    assert (scene.newest().status.phase, scene.newest().status.cause) == (Phase.FAILED, "ArchiveRootMissing")


async def test_a_first_archive_that_is_gone_ends_an_event_whose_question_is_open_as_any_other(
    tmp_path: Path,
) -> None:
    """Once it is there again, the event starts again and asks."""
    scene = ExpiredScene(tmp_path, "down")
    await scene.reconcile_until_quiet()
    scene.call()
    scene.cache.archives.remove("dms")
    scene.clock.advance(seconds=2)
    await scene.pass_hours(26)
    assert (scene.newest().status.phase, scene.newest().status.cause) == (Phase.FAILED, "ArchiveMissing")


async def test_a_copy_that_a_person_adds_later_is_made_after_the_question(tmp_path: Path) -> None:
    """It can't be made, so the event would fail before it asks."""
    scene = ExpiredScene(tmp_path, "down", cleanup={"policy": "Delete", "after": "1h"})
    scene.change()
    event = await scene.reconcile()
    assert event.status.reason == "CleanupDelayed"
    scene.mend_archive("worm")
    foreign = scene.folders["worm"] / "acme" / ENVELOPE / "file-1.pdf"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"foreign")
    scene.change(WORM)
    scene.clock.advance(hours=1)
    scene.envelope.meanwhile["envelope"] = scene.sign
    await scene.pass_hours(3)

    assert scene.archived == [b"%PDF-contract SIGNED"]


async def test_a_copy_is_made_while_no_key_can_ask_esaw(tmp_path: Path) -> None:
    scene = ExpiredScene(tmp_path, "down")
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.cache.delete(Sender, "anna", 10**9)
    scene.call()

    event = await scene.reconcile()

    assert stored_copy(event.status, "worm").verified_time is not None
    assert scene.deleted == []


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_question_that_esaw_does_not_answer_is_repeated_with_the_backoff(
    tmp_path: Path, state: str, failure: str
) -> None:
    scene = ExpiredScene(tmp_path, state)
    await scene.reconcile_until_quiet()
    scene.sign()
    scene.clock.advance(hours=1)
    scene.call()
    scene.envelope.problems["envelope"] = FAILURES[failure]
    scene.clock.advance(seconds=2)

    event = await scene.reconcile()

    due = due_time(event, scene.cache, scene.clock.now())
    assert event.status.phase is Phase.COPYING
    assert due is not None
    assert due > scene.clock.now()
    await scene.pass_hours(3)
    assert scene.newest().status.phase is Phase.COPYING
    scene.envelope.problems.clear()
    if failure == "it refuses the key":
        scene.observe(known_to_work(a_sender(version=90)))
    await scene.pass_hours(3)
    assert scene.archived == [b"%PDF-contract SIGNED"]
