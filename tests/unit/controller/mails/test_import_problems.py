"""An Import that can't continue before a person acts is one mail, and its end is another."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from counterfoil.resources import Import, Phase
from tests.support.builders import NOON, an_event
from tests.support.scenes.notifications import TIMINGS, Scene, a_condition, an_archive_that_is

DAY = timedelta(days=1)
SUBJECT = "[acme] Import old-stock can't continue: {}"
MANY = 100
"""Number of Imports that is as large as the list of problems."""


def an_import_that_is(
    reason: str, *, stalled: bool, since: datetime = NOON, name: str = "old-stock", **spec: Any
) -> Import:
    truth = "True" if reason == "ImportComplete" else "False"
    summary = a_condition("Stalled", "True" if stalled else "False", reason, since)
    return Import.parse(
        {
            "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": "1"},
            "spec": {"organizationRef": {"name": "acme"}, "from": "2019-01-01", **spec},
            "status": {"conditions": [a_condition("Ready", truth, reason, since), summary]},
        }
    )


def put(scene: Scene, *imports: Import) -> None:
    scene.cache.imports = {each.name: each for each in imports}


async def reported(reason: str = "SendersNotSearched") -> Scene:
    """A scene in which the problem of an Import was reported."""
    scene = Scene()
    put(scene, an_import_that_is(reason, stalled=True))
    await scene.look_for(TIMINGS.stalled + timedelta(minutes=1))
    assert scene.mailer.subjects == [SUBJECT.format(reason)]
    return scene


async def test_a_stalled_import_is_one_mail_to_the_administrators_and_its_solution_another() -> None:
    scene = Scene()
    put(scene, an_import_that_is("SendersNotSearched", stalled=True))
    await scene.look_for(TIMINGS.stalled - timedelta(seconds=10))
    assert scene.mailer.sent_mails == []
    await scene.look_for(timedelta(hours=5))
    assert scene.mailer.subjects == [SUBJECT.format("SendersNotSearched")]
    put(scene, an_import_that_is("ImportRunning", stalled=False, since=scene.clock.now()))
    await scene.look_for(timedelta(hours=1))
    assert scene.mailer.subjects[1:] == [f"Solved: {SUBJECT.format('SendersNotSearched')}"]


async def test_another_action_that_an_import_needs_is_one_further_mail() -> None:
    scene = await reported()
    put(scene, an_import_that_is("ImportCeiling", stalled=True))
    await scene.look_for(timedelta(hours=1))
    put(scene, an_import_that_is("SendersNotSearched", stalled=True))
    await scene.look_for(timedelta(hours=1))
    assert scene.mailer.subjects[1:] == [SUBJECT.format("ImportCeiling")]


@pytest.mark.parametrize("reason", ["ImportOutsideHours", "EsawUnreachable", "Pending"])
async def test_the_end_of_the_hours_and_an_outage_solve_no_problem_of_an_import(reason: str) -> None:
    scene = await reported()
    put(scene, an_import_that_is(reason, stalled=False))
    await scene.look_for(timedelta(hours=1))
    put(scene, an_import_that_is("SendersNotSearched", stalled=True))
    await scene.look_for(timedelta(hours=1))
    assert len(scene.mailer.sent_mails) == 1


async def test_a_controller_that_has_not_read_the_imports_ends_no_problem() -> None:
    scene = await reported()
    scene.again()
    await scene.look_for(timedelta(hours=1))
    assert len(scene.mailer.sent_mails) == 1


async def test_a_deleted_import_ends_its_problem_without_a_solution() -> None:
    scene = await reported()
    put(scene)
    await scene.look_for(timedelta(hours=1))
    assert scene.mailer.subjects[1:] == [f"Ended: {SUBJECT.format('SendersNotSearched')}"]
    assert "The Import old-stock was deleted." in str(scene.mailer.sent_mails[1][1].get_body())


async def test_an_import_that_a_person_suspends_ends_its_problem_without_a_solution() -> None:
    scene = await reported()
    put(scene, an_import_that_is("ImportSuspended", stalled=True, suspend=True))
    await scene.look_for(timedelta(hours=1))
    assert scene.mailer.subjects[1:] == [f"Ended: {SUBJECT.format('SendersNotSearched')}"]


async def test_a_suspended_import_is_no_problem() -> None:
    scene = Scene()
    put(scene, an_import_that_is("ImportSuspended", stalled=True, suspend=True))
    await scene.look_for(DAY)
    assert scene.mailer.sent_mails == []


async def test_an_import_that_waits_for_its_archive_is_the_problem_of_the_archive() -> None:
    scene = Scene()
    broken = an_archive_that_is("False", reason="ArchiveFull")
    scene.set(broken)
    put(scene, an_import_that_is("ArchiveFull", stalled=True))
    await scene.look_for(timedelta(hours=1))
    assert scene.mailer.subjects == ["[acme] Archive dms can't be used: ArchiveFull"]
    scene.cache.events.put(an_event().build())
    await scene.look_for(timedelta(hours=1))
    assert len(scene.mailer.sent_mails) == 1


async def test_an_archive_that_neither_an_event_nor_an_import_needs_is_no_mail() -> None:
    scene = Scene()
    scene.set(an_archive_that_is("False", reason="ArchiveFull"))
    complete = an_import_that_is("ImportComplete", stalled=False)
    put(scene, replace(complete, status=replace(complete.status, completion_time=NOON)))
    await scene.look_for(timedelta(hours=1))
    assert scene.mailer.sent_mails == []


def stalled_imports(number: int, reason: str = "SendersNotSearched") -> list[Import]:
    return [an_import_that_is(reason, stalled=True, name=f"stock-{each:03}") for each in range(number)]


@pytest.mark.xfail(strict=True, reason="each Import fills one place in the list of problems")
async def test_many_stalled_imports_are_one_mail_and_silence_no_other_problem() -> None:
    scene = Scene()
    put(scene, *stalled_imports(MANY))
    await scene.look_for(TIMINGS.stalled + timedelta(minutes=2))
    scene.set(an_archive_that_is("False", reason="ArchiveFull"))
    scene.cache.events.put(an_event().build())
    for number in range(3):
        failed = an_event(f"e-{number}").in_phase(Phase.FAILED, "DocumentsMissing").build()
        scene.notifier.event_failed(failed)
    await scene.look_for(timedelta(hours=1))
    assert scene.mailer.subjects == [
        f"[acme] {MANY} Imports can't continue: SendersNotSearched",
        "[acme] 3 events failed: DocumentsMissing",
        "[acme] Archive dms can't be used: ArchiveFull",
    ]
