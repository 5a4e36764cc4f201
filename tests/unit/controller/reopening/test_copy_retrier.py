"""A missing optional copy is tried again, although nothing waits for it."""

from datetime import timedelta
from pathlib import Path
from typing import Any, Self

import pytest
from msgspec.structs import replace

from controller.requests.copy_requests import CopyRequests
from counterfoil.archives.proof import documents_digest
from counterfoil.kube.errors import Unavailable
from counterfoil.resources import ORGANIZATION_LABEL, EnvelopeEvent, Origin, Phase, find_condition
from counterfoil.resources.reopening import reopened_status, status_for_copying
from counterfoil.resources.request import Request
from counterfoil.resources.routes import stored_copy
from counterfoil.retention import removal_time
from tests.support.builders import a_sender, known_to_work
from tests.support.scenes.copied_events import MIRROR, OPTIONAL
from tests.support.scenes.missing_copies import CopiesScene, OptionalScene


async def test_it_is_tried_again_once_its_time_has_come(tmp_path: Path) -> None:
    scene = OptionalScene(tmp_path)
    before = await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    assert (await scene.passed()) == before, "it is too early"
    scene.clock.advance(minutes=1)

    after = await scene.passed()

    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert stored_copy(after.status, "worm").verified_time is not None
    assert await scene.faults("worm") == []


async def test_it_is_given_up_after_the_time_of_all_retries(tmp_path: Path) -> None:
    scene = OptionalScene(tmp_path)
    event = await scene.given_up()

    copy = stored_copy(event.status, "worm")
    assert copy.next_attempt_time is None
    assert copy.attempts <= 40
    assert event.status.phase is Phase.SUCCEEDED
    scene.clock.advance(days=9)
    assert (await scene.passed()) == event


async def test_a_copy_with_optional_copy_missing_is_made_by_the_command_of_its_advice(tmp_path: Path) -> None:
    scene = OptionalScene(tmp_path)
    assert scene.commands() == [], "nothing is archived yet"
    await scene.reconcile_until_quiet()
    assert scene.commands() == [], "it is tried again automatically"
    event = await scene.given_up()
    assert scene.commands() == [f"kubectl counterfoil -n tests copy {event.name}"]
    scene.mend_archive("worm")

    result = await CopyRequests(scene.cache, scene.clock).copy(event, Request("copy"))
    scene.store(result.change(event.status))
    after = await scene.reconcile_until_quiet()

    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert stored_copy(after.status, "worm").verified_time is not None
    assert await scene.faults("worm") == []
    assert scene.commands() == []


async def test_what_was_given_up_is_reported_and_a_person_asks_for_it(tmp_path: Path) -> None:
    scene = OptionalScene(tmp_path)
    event = await scene.given_up()

    condition = find_condition(event.status.conditions, "Copied")
    assert condition is not None
    assert (condition.status, condition.reason) == ("False", "CopyGivenUp")
    assert "Archive/worm" in condition.message
    assert "tried again" not in condition.message
    told = [each for each in await scene.recorded() if each[1] == "CopyGivenUp"]
    assert told == [("Warning", "CopyGivenUp")]

    scene.mend_archive("worm")
    scene.store(status_for_copying(event.status, reason="CopyRequested", message="", now=scene.clock.now()))
    event = await scene.reconcile_until_quiet()
    assert stored_copy(event.status, "worm").verified_time is not None


async def test_a_copy_is_made_once_its_archive_is_not_suspended_any_more(tmp_path: Path) -> None:
    scene = OptionalScene(tmp_path)
    scene.mend_archive("worm")
    scene.change_archive("worm", suspend=True)
    event = await scene.reconcile_until_quiet()
    assert event.status.reason == "ArchivedAndDeleted"
    for _ in range(5):
        scene.clock.advance(days=1)
        assert await scene.passed() == event, "a suspended Archive costs no write"

    scene.change_archive("worm")
    event = await scene.passed()

    assert stored_copy(event.status, "worm").verified_time is not None


@pytest.mark.parametrize("origin", [Origin.CALLBACK, Origin.IMPORT])
async def test_an_event_whose_archive_is_suspended_is_not_removed_before_its_copy_is_made(
    tmp_path: Path, origin: Origin
) -> None:
    scene = OptionalScene(tmp_path)
    event = scene.newest()
    scene.kube.put(replace(event, spec=replace(event.spec, origin=origin)))
    scene.mend_archive("worm")
    scene.change_archive("worm", suspend=True)
    await scene.reconcile_until_quiet()
    scene.clock.advance(days=400)
    event = await scene.passed()
    assert removal_time(event, scene.organization.spec) is None

    scene.change_archive("worm")
    event = await scene.passed()

    assert stored_copy(event.status, "worm").verified_time is not None
    ended = event.status.completion_time
    assert ended is not None
    assert removal_time(event, scene.organization.spec) == ended + scene.organization.spec.succeeded_ttl


async def test_a_copy_that_is_given_up_late_can_be_asked_for_during_the_time_to_live(tmp_path: Path) -> None:
    scene = OptionalScene(tmp_path)
    scene.mend_archive("worm")
    scene.change_archive("worm", suspend=True)
    await scene.reconcile_until_quiet()
    scene.clock.advance(days=400)
    scene.change_archive("worm")
    scene.break_archive("worm")
    resumed, spec = scene.clock.now(), scene.organization.spec
    await scene.passed()

    event = await scene.given_up()

    removed = removal_time(event, spec)
    assert removed is not None
    assert removed >= resumed + spec.retry.deadline + spec.succeeded_ttl


async def test_a_suspension_between_the_tries_of_a_copy_shortens_no_time_to_live(tmp_path: Path) -> None:
    scene = OptionalScene(tmp_path)
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.change_archive("worm", suspend=True)
    scene.clock.advance(days=400)
    await scene.passed()
    scene.change_archive("worm")
    scene.break_archive("worm")
    await scene.passed()

    event = await scene.given_up()

    ttl, now = scene.organization.spec.succeeded_ttl, scene.clock.now()
    assert removal_time(event, scene.organization.spec) == now + ttl


async def test_a_suspension_after_a_copy_was_given_up_shortens_no_time_to_live(tmp_path: Path) -> None:
    """Another copy is made meanwhile."""
    scene = CopiesScene(tmp_path, OPTIONAL, {**MIRROR, "required": False})
    scene.change_archive("mirror", suspend=True)
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.change_archive("worm", suspend=True)
    scene.clock.advance(days=400)
    scene.change_archive("worm")
    scene.break_archive("worm")
    for _ in range(100):
        await scene.passed()
        scene.clock.advance(hours=1)
    scene.mend_archive("worm")
    scene.change_archive("worm", suspend=True)
    scene.change_archive("mirror")

    event = await scene.passed()

    assert stored_copy(event.status, "mirror").verified_time is not None
    assert stored_copy(event.status, "worm").reason == "ArchiveSuspended"
    removed, ttl = removal_time(event, scene.organization.spec), scene.organization.spec.succeeded_ttl
    assert removed is not None
    assert removed > scene.clock.now() - timedelta(hours=100) + ttl


async def test_time_in_which_an_archive_is_suspended_is_no_try(tmp_path: Path) -> None:
    scene = OptionalScene(tmp_path)
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.change_archive("worm", suspend=True)
    scene.clock.advance(days=9)
    await scene.passed()
    scene.change_archive("worm")
    scene.break_archive("worm")

    event = await scene.passed()
    assert stored_copy(event.status, "worm").attempts == 2
    scene.mend_archive("worm")
    scene.clock.advance(hours=1)
    event = await scene.passed()
    assert stored_copy(event.status, "worm").verified_time is not None


async def test_a_copy_is_tried_again_after_its_event_was_started_again(tmp_path: Path) -> None:
    scene = OptionalScene(tmp_path, cleanup={"policy": "Keep"})
    event = await scene.given_up()
    scene.store(reopened_status(event.status, reason="RetryRequested", message="", now=scene.clock.now()))
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")

    event = await scene.passed()

    assert event.status.reason == "ArchivedAndKept"
    assert stored_copy(event.status, "worm").verified_time is not None


NOT_LISTED: dict[str, Any] = {"actions": [{"action": "envelopeRejected"}]}
ONLY_RECORDED: dict[str, Any] = {"actions": [{"action": "envelopeFinished", "handling": "Record"}]}


@pytest.mark.parametrize("spec", [{}, NOT_LISTED, ONLY_RECORDED], ids=["Sender", "not listed", "recorded"])
async def test_an_event_that_has_ended_needs_no_key_and_no_action_for_its_copy(
    tmp_path: Path, spec: dict[str, Any]
) -> None:
    """The event stays until its copy is made: nothing that is not needed for it may stop it."""
    scene = OptionalScene(tmp_path)
    before = await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.clock.advance(hours=1)
    scene.change(OPTIONAL, **spec)
    if not spec:
        scene.observe(known_to_work(a_sender(version=60, suspend=True)))

    event = await scene.passed()

    assert stored_copy(event.status, "worm").verified_time is not None
    assert event.status.completion_time == before.status.completion_time
    assert (event.status.phase, event.status.reason) == (Phase.SUCCEEDED, "ArchivedAndDeleted")


async def test_a_suspended_sender_holds_the_copies_of_an_event_that_waits_for_its_delete(
    tmp_path: Path,
) -> None:
    scene = OptionalScene(tmp_path, cleanup={"policy": "Delete", "after": "720h"})
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.clock.advance(hours=1)
    scene.observe(known_to_work(a_sender(version=60, suspend=True)))

    event = await scene.passed()

    assert stored_copy(event.status, "worm").verified_time is None
    assert event.status.reason == "SenderSuspended"


@pytest.mark.parametrize("spec", [{}, NOT_LISTED], ids=["listed", "not listed"])
async def test_a_suspended_first_archive_costs_no_write_and_keeps_the_event(
    tmp_path: Path, spec: dict[str, Any]
) -> None:
    scene = OptionalScene(tmp_path)
    before = await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.change(OPTIONAL, **spec)
    scene.change_archive("dms", suspend=True)
    scene.clock.advance(days=400)

    assert await scene.passed() == before

    assert removal_time(before, scene.organization.spec) is None
    scene.change_archive("dms")
    assert stored_copy((await scene.passed()).status, "worm").verified_time is not None


@pytest.mark.parametrize("held", ["Organization", "event"])
async def test_what_a_person_suspended_tries_no_copy(tmp_path: Path, held: str) -> None:
    scene = OptionalScene(tmp_path)
    await scene.reconcile_until_quiet()
    scene.mend_archive("worm")
    scene.clock.advance(hours=1)
    match held:
        case "Organization":
            scene.change(OPTIONAL, suspend=True)
        case _:
            scene.kube.edit(EnvelopeEvent, scene.event.name, {"spec": {"suspend": True}})
            scene.cache.update(scene.newest())
    before = scene.newest()

    assert await scene.passed() == before


async def two_with_one_at_a_time(tmp_path: Path) -> tuple[OptionalScene, EnvelopeEvent, EnvelopeEvent]:
    """Return two events with a copy that is due, of which one at a time may try it; the second is not
    stored."""
    scene = OptionalScene(tmp_path)
    scene.retrier.most = 1
    event = await scene.reconcile_until_quiet()
    scene.clock.advance(hours=1)
    labels = {ORGANIZATION_LABEL: "acme"}
    metadata = replace(event.metadata, name="other", uid="uid-other", labels=labels)
    return scene, event, replace(event, metadata=metadata)


async def test_many_missing_copies_are_tried_again_in_turn(tmp_path: Path) -> None:
    """Each event is in memory until it has made its copy, and its Archive may have no room for days."""
    scene, event, other = await two_with_one_at_a_time(tmp_path)
    scene.kube.put(other)

    assert (await scene.retrier.retry_if_due(other)).status.phase is Phase.COPYING
    assert await scene.retrier.retry_if_due(event) == event

    scene.kube.edit(EnvelopeEvent, "other", {"status": {"phase": "Succeeded"}})
    scene.clock.advance(minutes=1)
    assert (await scene.retrier.retry_if_due(event)).status.phase is Phase.COPYING


async def test_events_that_wait_for_their_copies_since_a_callback_stop_no_retry(tmp_path: Path) -> None:
    scene, event, other = await two_with_one_at_a_time(tmp_path)
    scene.kube.put(replace(other, status=replace(other.status, phase=Phase.COPYING)))

    assert (await scene.retrier.retry_if_due(event)).status.phase is Phase.COPYING


class TwoOptionalScene(CopiesScene):
    """Events that lack optional copies in ``worm``, in ``mirror`` or in both; both Archives work again."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, OPTIONAL, {**MIRROR, "required": False})
        self.break_archive("mirror")

    @classmethod
    async def with_one_event(cls, folder: Path, *, most: int) -> Self:
        """Return the scene with an event that lacks both copies, which are due."""
        scene = cls(folder)
        scene.retrier.most = most
        await scene.reconcile_until_quiet()
        for each in ("worm", "mirror"):
            scene.mend_archive(each)
        scene.clock.advance(hours=1)
        return scene

    async def is_started(self, name: str, *lacked: str) -> bool:
        """Let the garbage collector read another event that lacks these copies; return whether it makes
        copies then."""
        event = self.newest()
        metadata = replace(event.metadata, name=name, uid=f"uid-{name}", labels={ORGANIZATION_LABEL: "acme"})
        made = {
            "verified_time": self.clock.now(),
            "documents": documents_digest(event.status.documents),
            "reason": None,
        }
        copies = (
            each if each.ref.name in lacked else replace(each, manifest=f"{each.ref.name}/{name}", **made)
            for each in event.status.copies
        )
        other = replace(event, metadata=metadata, status=replace(event.status, copies=tuple(copies)))
        self.kube.put(other)
        return (await self.retrier.retry_if_due(other)).status.phase is Phase.COPYING

    def end(self, name: str) -> None:
        """Let another event end."""
        self.kube.edit(EnvelopeEvent, name, {"status": {"phase": "Succeeded"}})


async def test_copies_for_one_archive_without_room_stop_no_retry_for_another_archive(tmp_path: Path) -> None:
    scene = await TwoOptionalScene.with_one_event(tmp_path, most=1)

    assert await scene.is_started("first", "worm")
    assert not await scene.is_started("second", "worm")
    assert await scene.is_started("third", "worm", "mirror")
    assert not await scene.is_started("fourth", "mirror")


async def test_copies_that_are_made_at_once_do_not_wait_for_those_of_a_full_archive(tmp_path: Path) -> None:
    scene = await TwoOptionalScene.with_one_event(tmp_path, most=2)
    assert [await scene.is_started(each, "worm") for each in ("w1", "w2")] == [True, True]
    started = []
    for name in ("m1", "m2", "m3", "m4", "m5", "m6"):
        started.append(await scene.is_started(name, "mirror"))
        scene.end(name)
        scene.clock.advance(minutes=1)
    assert all(started)
    assert not await scene.is_started("w3", "worm")


async def test_an_archive_whose_copies_are_made_has_room_again_within_ten_seconds(tmp_path: Path) -> None:
    scene = await TwoOptionalScene.with_one_event(tmp_path, most=1)
    assert await scene.is_started("first", "worm")
    assert not await scene.is_started("second", "worm"), "it is in progress"
    scene.end("first")
    asked = len(scene.kube.asked)
    scene.clock.advance(seconds=9)
    assert not await scene.is_started("second", "worm")
    assert [each for each in scene.kube.asked[asked:] if each[0] == "names"] == [], "it asks each ten seconds"
    scene.clock.advance(seconds=1)
    assert await scene.is_started("second", "worm")


async def test_events_that_lack_several_copies_are_counted_for_each(tmp_path: Path) -> None:
    scene = await TwoOptionalScene.with_one_event(tmp_path, most=2)

    started = [await scene.is_started(each, "worm", "mirror") for each in ("b1", "b2", "b3", "b4")]

    assert started == [True, True, False, False]
    scene.end("b1")
    scene.clock.advance(minutes=1)
    assert await scene.is_started("m1", "mirror")
    assert await scene.is_started("w1", "worm")
    assert not await scene.is_started("b5", "worm", "mirror")


async def test_an_event_tries_the_copies_for_which_there_is_room_and_no_other(tmp_path: Path) -> None:
    scene = await TwoOptionalScene.with_one_event(tmp_path, most=1)
    assert await scene.is_started("first", "worm")
    attempts = stored_copy(scene.newest().status, "worm").attempts

    event = await scene.passed()

    worm = stored_copy(event.status, "worm")
    assert stored_copy(event.status, "mirror").verified_time is not None
    assert (worm.verified_time, worm.attempts) == (None, attempts)
    assert worm.reason not in (None, "WaitingForArchive"), "why it failed last"
    scene.end("first")
    scene.clock.advance(hours=1)
    assert stored_copy((await scene.passed()).status, "worm").verified_time is not None


async def test_a_refused_list_of_the_events_that_make_copies_is_not_repeated_for_each_event(
    tmp_path: Path,
) -> None:
    scene = await TwoOptionalScene.with_one_event(tmp_path, most=1)
    assert await scene.is_started("first", "worm")
    scene.clock.advance(minutes=1)
    scene.kube.go_away("names", times=1)
    with pytest.raises(Unavailable):
        await scene.is_started("second", "worm")
    asked = len(scene.kube.asked)
    assert not await scene.is_started("third", "worm")
    assert [each for each in scene.kube.asked[asked:] if each[0] == "names"] == []


async def test_an_event_that_is_gone_does_not_count_without_end(tmp_path: Path) -> None:
    scene, event, other = await two_with_one_at_a_time(tmp_path)
    scene.kube.put(other)
    assert (await scene.retrier.retry_if_due(other)).status.phase is Phase.COPYING
    await scene.kube.delete(EnvelopeEvent, "other")
    scene.clock.advance(minutes=1)

    assert (await scene.retrier.retry_if_due(event)).status.phase is Phase.COPYING


async def test_an_event_counts_for_as_long_as_it_waits(tmp_path: Path) -> None:
    scene, event, other = await two_with_one_at_a_time(tmp_path)
    scene.kube.put(other)
    assert (await scene.retrier.retry_if_due(other)).status.phase is Phase.COPYING
    scene.clock.advance(days=1)

    assert await scene.retrier.retry_if_due(event) == event


async def test_one_cause_is_one_kubernetes_event(tmp_path: Path) -> None:
    scene = OptionalScene(tmp_path)
    await scene.reconcile_until_quiet()
    for _ in range(3):
        scene.clock.advance(hours=1)
        await scene.passed()
    assert [each for each in await scene.recorded() if each[1] == "OptionalCopyMissing"] == [
        ("Warning", "OptionalCopyMissing")
    ]


async def test_it_is_also_tried_while_the_event_waits_for_its_delete(tmp_path: Path) -> None:
    scene = OptionalScene(tmp_path, cleanup={"policy": "Delete", "after": "720h"})
    event = await scene.reconcile_until_quiet()
    assert event.status.reason == "CleanupDelayed"
    due = event.status.next_attempt_time
    scene.mend_archive("worm")
    scene.clock.advance(minutes=1)

    event = await scene.passed()

    assert event.status.reason == "CleanupDelayed"
    assert event.status.next_attempt_time == due
    assert stored_copy(event.status, "worm").verified_time is not None


async def test_it_is_also_tried_while_another_suspended_copy_holds_the_delete(tmp_path: Path) -> None:
    delayed = {"policy": "Delete", "after": "1h"}
    scene = CopiesScene(tmp_path, OPTIONAL, MIRROR, cleanup=delayed)
    await scene.reconcile_until_quiet()
    scene.change_archive("mirror", suspend=True)
    assert (await scene.retried()).status.reason == "CopySuspended"
    scene.mend_archive("worm")
    scene.clock.advance(hours=1)

    event = await scene.passed()

    assert stored_copy(event.status, "worm").verified_time is not None
    assert event.status.reason == "CopySuspended"
    assert scene.deleted == []
