"""
A copy that is not tried any more is one mail and one Task for each Archive, until it is made.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from controller.mails.problem_tracking import (
    EventArchives,
    FailureSummary,
    awaited_failures,
    failing_copies,
)
from controller.resync.garbage_collector import GarbageCollector
from counterfoil.i18n.attention import AttentionKind, ClusterSnapshot, attention_items
from counterfoil.resources import EnvelopeEvent, LocalObjectReference, Organization, Phase
from counterfoil.resources.conditions import with_changes
from counterfoil.resources.envelopeevent import EventCopy
from counterfoil.resources.reopening import given_up_copies, status_for_copying
from counterfoil.resources.routes import stored_copy
from tests.support.builders import NOON, an_event
from tests.support.scenes.missing_copies import OptionalScene
from tests.support.scenes.notifications import Scene, an_archive_that_is
from tests.support.scenes.waiting_events import HandlersScene

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MIRROR = [{"archiveRef": {"name": "mirror"}, "required": False}]
MISSING = "[acme] A copy in mirror is missing: CopyGivenUp"


def a_given_up_event(number: int = 1, archive: str = "mirror") -> EnvelopeEvent:
    """An event that succeeded without its optional copy, which was tried for a day."""
    copy = EventCopy(
        ref=LocalObjectReference(name=archive), reason="ArchiveUnreachable", message="No answer.", attempts=99
    )
    event = an_event().named(f"event-{number}").archived().in_phase(Phase.SUCCEEDED, "ArchivedAndDeleted")
    return event.with_condition("Copied", "False", "CopyGivenUp").status(copies=(copy,)).build()


def copied(event: EnvelopeEvent) -> EnvelopeEvent:
    copies = tuple(replace(each, verified_time=NOON, reason=None) for each in event.status.copies)
    return replace(event, status=replace(event.status, copies=copies))


def asked_for(event: EnvelopeEvent) -> EnvelopeEvent:
    again = status_for_copying(event.status, reason="CopyRequested", message="", now=NOON)
    return replace(event, status=again)


def archives_of(event: EnvelopeEvent, organization: Organization) -> EventArchives:
    finders = (given_up_copies, failing_copies, awaited_failures)
    return EventArchives("dms", ("dms",), *(find(event.status, organization.spec) for find in finders))


def summary_of(scene: Scene, *events: EnvelopeEvent) -> FailureSummary:
    summary, organization = FailureSummary(), scene.organization()
    for each in events:
        summary.add(each, archives_of(each, organization))
    return summary


async def after_pass(scene: Scene, *events: EnvelopeEvent) -> None:
    scene.notifier.pass_finished(scene.clock.now(), {"acme": summary_of(scene, *events)})
    await scene.look_for(HOUR)


async def test_ten_thousand_copies_of_one_archive_that_were_given_up_are_one_mail() -> None:
    scene = Scene(copies=MIRROR)
    events = [a_given_up_event(number) for number in range(10_000)]
    await after_pass(scene, *events)
    await after_pass(scene, *events)
    assert scene.mailer.subjects == ["[acme] 10000 copies in mirror are missing: CopyGivenUp"]
    mail = scene.mailer.sent_mails[0][1].get_body(("plain",))
    assert mail is not None
    text = mail.get_content()
    assert "kubectl counterfoil -n tests why event-0" in text
    assert "kubectl counterfoil -n tests copy -l counterfoil.dev/organization=acme" in text
    assert "ArchiveUnreachable: No answer." in text
    await after_pass(scene, *map(copied, events))
    assert scene.mailer.subjects[1:] == ["Solved: [acme] 10000 copies in mirror are missing: CopyGivenUp"]
    assert scene.problems() == {}


async def test_a_request_that_has_not_made_the_copy_yet_solves_nothing() -> None:
    scene = Scene(copies=MIRROR)
    await after_pass(scene, a_given_up_event())
    await after_pass(scene, asked_for(a_given_up_event()))
    assert scene.problems()["copy/mirror"].solved_time is None
    failed_again = asked_for(a_given_up_event())
    failed_again = replace(failed_again, status=replace(failed_again.status, phase=Phase.SUCCEEDED))
    await after_pass(scene, failed_again)
    assert scene.mailer.subjects == [MISSING]
    assert scene.problems()["copy/mirror"].solved_time is None


async def test_a_copy_that_is_still_tried_is_no_problem() -> None:
    scene = Scene(copies=MIRROR)
    event = a_given_up_event()
    tried = replace(event.status.copies[0], attempts=1)
    await after_pass(scene, replace(event, status=replace(event.status, copies=(tried,))))
    assert scene.problems() == {}


async def test_copies_in_two_archives_are_two_problems() -> None:
    scene = Scene(copies=[*MIRROR, {"archiveRef": {"name": "worm"}, "required": False}])
    await after_pass(scene, a_given_up_event(1), a_given_up_event(2, "worm"))
    assert set(scene.problems()) == {"copy/mirror", "copy/worm"}
    assert len(scene.mailer.sent_mails) == 2


async def test_a_copy_that_the_organization_does_not_want_any_more_is_not_called_solved() -> None:
    scene = Scene(copies=MIRROR)
    await after_pass(scene, a_given_up_event())
    scene.kube.edit(Organization, "acme", {"spec": {"copies": None}})
    scene.watch()
    await scene.look_for(HOUR)
    assert scene.mailer.subjects[1:] == [f"Ended: {MISSING}"]


async def test_a_copy_whose_event_was_removed_is_not_called_solved() -> None:
    scene = Scene(copies=MIRROR)
    await after_pass(scene, a_given_up_event())
    removed, summary = summary_of(scene, a_given_up_event()), FailureSummary()
    summary.removed |= set(removed.copies)
    scene.notifier.pass_finished(scene.clock.now(), {"acme": summary})
    await scene.look_for(HOUR)
    assert scene.mailer.subjects == [MISSING]
    assert scene.problems() == {}


def in_phase(event: EnvelopeEvent, phase: Phase, reason: str) -> EnvelopeEvent:
    return replace(event, status=replace(event.status, phase=phase, reason=reason))


@pytest.mark.parametrize(
    ("phase", "reason"), [(Phase.FAILED, "DeadlineExceeded"), (Phase.SKIPPED, "ArchivedAsExpired")]
)
async def test_a_copy_is_missing_until_a_retry_of_its_event_makes_it(phase: Phase, reason: str) -> None:
    scene = Scene(copies=MIRROR)
    await after_pass(scene, in_phase(a_given_up_event(), Phase.CLEANING, "CleanupDelayed"))
    ended = in_phase(a_given_up_event(), phase, reason)
    await after_pass(scene, ended)
    assert scene.problems()["copy/mirror"].solved_time is None
    await after_pass(scene, copied(ended))
    assert f"Solved: {MISSING}" in scene.mailer.subjects


def with_entry(event: EnvelopeEvent, **fields: Any) -> EnvelopeEvent:
    copies = tuple(replace(each, **fields) for each in event.status.copies)
    return replace(event, status=replace(event.status, copies=copies))


async def test_an_open_problem_names_the_failed_event_whose_copy_is_missing_now() -> None:
    scene = Scene(copies=MIRROR)
    failed = with_entry(in_phase(a_given_up_event(2), Phase.FAILED, "NotPermitted"), attempts=1)
    await after_pass(scene, a_given_up_event(1), failed)
    assert scene.problems()["copy/mirror"].examples == ("event-1",)

    await after_pass(scene, copied(a_given_up_event(1)), failed)

    problem = scene.problems()["copy/mirror"]
    assert (problem.solved_time, problem.count, problem.examples) == (None, 1, ("event-2",))
    await after_pass(scene, copied(a_given_up_event(1)), copied(failed))
    assert f"Solved: {MISSING}" in scene.mailer.subjects


@pytest.mark.parametrize("is_required", [True, False])
@pytest.mark.parametrize("reason", ["WaitingForArchive", "ArchiveSuspended"])
async def test_a_copy_that_waits_for_its_archive_keeps_no_problem_open(
    reason: str, *, is_required: bool
) -> None:
    scene = Scene(copies=[{**MIRROR[0], "required": is_required}])
    await after_pass(scene, a_given_up_event(1))
    waiting = with_entry(in_phase(a_given_up_event(2), Phase.COPYING, reason), reason=reason, attempts=0)

    await after_pass(scene, copied(a_given_up_event(1)), waiting)

    assert f"Solved: {MISSING}" in scene.mailer.subjects


async def test_a_required_copy_that_a_new_event_tries_keeps_no_problem_open() -> None:
    scene = Scene(copies=[{"archiveRef": {"name": "mirror"}}])
    await after_pass(scene, a_given_up_event(1))
    tried = with_entry(in_phase(a_given_up_event(2), Phase.COPYING, "ArchiveUnreachable"), attempts=1)

    await after_pass(scene, copied(a_given_up_event(1)), tried)

    assert f"Solved: {MISSING}" in scene.mailer.subjects


async def test_a_given_up_copy_that_is_required_now_is_not_called_solved() -> None:
    scene = Scene(copies=MIRROR)
    await after_pass(scene, in_phase(a_given_up_event(), Phase.CLEANING, "CleanupDelayed"))
    scene.kube.edit(Organization, "acme", {"spec": {"copies": [{"archiveRef": {"name": "mirror"}}]}})
    scene.watch()

    await after_pass(scene, in_phase(a_given_up_event(), Phase.COPYING, "ArchiveUnreachable"))

    assert scene.mailer.subjects == [MISSING]
    assert scene.problems() == {}


async def test_a_missing_copy_of_a_failed_event_that_was_removed_is_not_called_solved() -> None:
    scene = Scene(copies=MIRROR)
    await after_pass(scene, a_given_up_event())
    summary, organization = FailureSummary(), scene.organization()
    failed = in_phase(a_given_up_event(), Phase.FAILED, "DeadlineExceeded")
    summary.add_removed(failed, archives_of(failed, organization))
    scene.notifier.pass_finished(scene.clock.now(), {"acme": summary})
    await scene.look_for(HOUR)
    assert scene.mailer.subjects == [MISSING]
    assert "copy/mirror" not in scene.problems()


async def test_a_copy_whose_event_a_person_skips_is_not_called_solved() -> None:
    scene = Scene(copies=MIRROR)
    await after_pass(scene, a_given_up_event())
    skipped = in_phase(a_given_up_event(), Phase.SKIPPED, "SkippedByRequest")
    left = with_changes(skipped.status.conditions, "Copied", reason="OptionalCopyMissing")
    await after_pass(scene, replace(skipped, status=replace(skipped.status, conditions=left)))
    assert scene.mailer.subjects == [MISSING]
    assert scene.problems() == {}


async def test_the_mail_about_an_archive_that_is_down_comes_before_that_about_its_copies() -> None:
    worm = {"archiveRef": {"name": "mirror"}}
    scene = Scene(an_archive_that_is("False", name="mirror"), copies=[worm])
    waiting = an_event().named("waiting").archived().in_phase(Phase.COPYING, "ArchiveUnreachable")
    scene.cache.events.put(waiting.with_condition("Copied", "False", "ArchiveUnreachable").build())
    await scene.look_for(HOUR)
    await after_pass(scene, a_given_up_event())
    assert scene.mailer.subjects == ["[acme] Archive mirror can't be used: ArchiveUnreachable"]
    scene.set(an_archive_that_is("True", name="mirror", since=scene.clock.now()))
    await after_pass(scene, a_given_up_event())
    assert MISSING in scene.mailer.subjects


async def test_it_is_one_task_that_the_mail_leads_to() -> None:
    scene = Scene(copies=MIRROR)
    await after_pass(scene, *(a_given_up_event(number) for number in range(9)))
    (task,) = attention_items(ClusterSnapshot(organizations=(scene.organization(),)))
    assert (task.kind, task.name, task.reason, task.count) == (AttentionKind.COPY, "mirror", "CopyGivenUp", 9)
    assert task.anchor == "copy-acme-mirror"


async def test_the_pass_over_all_events_finds_the_copy_that_was_given_up_and_that_it_is_made(
    tmp_path: Path,
) -> None:
    given_up = OptionalScene(tmp_path)
    event = await given_up.given_up()
    assert await found_by_pass(given_up, event) == {"copy/worm"}
    given_up.mend_archive("worm")
    given_up.store(status_for_copying(event.status, reason="CopyRequested", message="", now=NOON))
    event = await given_up.reconcile_until_quiet()
    assert stored_copy(event.status, "worm").verified_time is not None
    assert await found_by_pass(given_up, event) == set()


async def found_by_pass(scene: OptionalScene, event: EnvelopeEvent) -> set[str]:
    organization = scene.cache.organizations.get("acme")
    assert organization is not None
    pass_scene = HandlersScene(event)
    pass_scene.observe(organization)
    found: dict[str, FailureSummary] = {}
    collector: GarbageCollector = pass_scene.garbage_collector
    collector.pass_finished = lambda _, summaries: found.update(summaries)
    async with pass_scene.running(collector.run()):
        pass
    summary = found["acme"]
    return {*summary.copies, *summary.failing_copies}
