"""An Import that can't continue before a person acts is one mail, and its end is another."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from controller.mails.policy import Notification
from controller.mails.problem_tracking import with_import_reasons
from controller.mails.render import MailRenderer
from controller.resync.import_progress import REPORT_ATTEMPTS, ImportHold, hold, report_hold
from counterfoil.i18n.problems import ARCHIVE_MISSING, is_about_archive
from counterfoil.i18n.reasons import CATALOGUE, ReasonContext, Server, server_of
from counterfoil.metrics import MailKind
from counterfoil.readiness import is_stalled
from counterfoil.resources import Import, Organization, Phase, ReportedProblem
from tests.support.builders import NOON, an_event, an_organization, ready
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.notifications import (
    MAILS,
    TIMINGS,
    Scene,
    a_condition,
    a_problem,
    an_archive_that_is,
)

DAY = timedelta(days=1)
SUBJECT = "[acme] Import old-stock can't continue: {}"
PAUSED_BY_PERSONS = {"ImportSuspended", "OrganizationSuspended"}
"""Reasons that a person chose, which are in no mail."""

REASONS_OF_IMPORTS = [
    name
    for name, each in CATALOGUE.items()
    if is_stalled("False", name)
    and (each.server is Server.ESAW or {ReasonContext.IMPORT, ReasonContext.ARCHIVE} & {*each.contexts})
]
"""Reasons for which an Import can stop: its own, and those of its Archive and of its eSignAnyWhere."""

MANY = 100
"""Number of Imports that is as large as the list of problems."""


def an_import_that_is(
    reason: str, *, stalled: bool, since: datetime = NOON, name: str = "old-stock", **spec: Any
) -> Import:
    truth = "True" if reason == "ImportComplete" else "False"
    summary = a_condition("Stalled", "True" if stalled else "False", reason, since)
    return Import.parse(
        {
            "metadata": {
                "name": name,
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "creationTimestamp": NOON.isoformat(),
            },
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


async def test_an_import_with_the_folders_of_another_esaw_is_a_problem_although_its_archive_is_ready() -> (
    None
):
    await reported("ArchiveShared")


async def test_an_archive_that_only_an_import_names_is_one_mail_and_its_end_another() -> None:
    scene = Scene()
    vault: dict[str, Any] = {"archiveRef": {"name": "vault"}}
    put(scene, an_import_that_is("ArchiveUnreachable", stalled=False, **vault))
    broken = an_archive_that_is("False", name="vault")
    scene.kube.put(broken)
    scene.set(broken)
    await scene.look_for(DAY)
    assert scene.mailer.subjects == ["[acme] Archive vault can't be used: ArchiveUnreachable"]
    scene.set(an_archive_that_is("True", name="vault", since=scene.clock.now()))
    await scene.look_for(timedelta(hours=1))
    assert scene.mailer.subjects[1:] == ["Solved: [acme] Archive vault can't be used: ArchiveUnreachable"]


async def test_an_import_whose_own_archive_does_not_exist_is_one_mail_and_its_end_another() -> None:
    scene = Scene()
    vault: dict[str, Any] = {"archiveRef": {"name": "vault"}}
    imported = an_import_that_is("Pending", stalled=False, **vault)
    archives = {"dms": ready(an_archive()), "vault": None}
    held = hold(imported, an_organization(), archives, scene.cache.archive_use, NOON)
    assert held is not None
    put(scene, an_import_that_is(held.reason, stalled=is_stalled("False", held.reason), **vault))
    await scene.look_for(TIMINGS.stalled + timedelta(minutes=1))
    assert scene.mailer.subjects == [SUBJECT.format(held.reason)]
    put(scene, an_import_that_is("ImportRunning", stalled=False, since=scene.clock.now(), **vault))
    await scene.look_for(timedelta(hours=1))
    assert scene.mailer.subjects[1:] == [f"Solved: {SUBJECT.format(held.reason)}"]


async def test_a_missing_archive_of_the_organization_is_no_mail_about_that_of_an_import() -> None:
    scene = Scene()
    scene.change(Organization, "acme", conditions=[a_condition("Ready", "False", ARCHIVE_MISSING, NOON)])
    scene.cache.archives.remove("dms")
    put(scene, an_import_that_is(ARCHIVE_MISSING, stalled=True, archiveRef={"name": "vault"}))
    await scene.look_for(timedelta(hours=1))
    assert scene.mailer.subjects == ["[acme] Archive dms can't be used: ArchiveMissing"]


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


async def test_another_action_that_an_import_needs_is_one_further_mail_also_if_the_reasons_alternate() -> (
    None
):
    scene = await reported()
    for reason in ["ImportCeiling", "SendersNotSearched"] * 3:
        put(scene, an_import_that_is(reason, stalled=True))
        await scene.look_for(timedelta(minutes=40))
        open_ = [each for each, problem in scene.problems().items() if problem.solved_time is None]
        assert open_ == [f"import/{reason}"]
    assert scene.mailer.subjects[1:] == [SUBJECT.format("ImportCeiling")]


async def test_the_problem_of_an_import_ends_when_another_one_stops_it() -> None:
    scene = await reported()
    put(scene, an_import_that_is("ImportEventsWaiting", stalled=True))
    await scene.look_for(timedelta(minutes=30))
    problem = scene.problems()["import/SendersNotSearched"]
    assert (problem.solved_time is not None, problem.ending) == (True, "ImportOtherReason")
    await scene.look_for(timedelta(hours=1))
    assert scene.mailer.subjects[1:] == [
        SUBJECT.format("ImportEventsWaiting"),
        f"Ended: {SUBJECT.format('SendersNotSearched')}",
    ]


async def test_a_problem_of_two_imports_stays_open_for_the_one_that_still_has_it() -> None:
    scene = Scene()
    first, second = stalled_imports(2)
    put(scene, first, second)
    await scene.look_for(TIMINGS.stalled + timedelta(minutes=1))
    put(scene, an_import_that_is("ImportCeiling", stalled=True, name=first.name), second)
    await scene.look_for(timedelta(hours=2))
    problem = scene.problems()["import/SendersNotSearched"]
    assert (problem.count, problem.solved_time) == (1, None)


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


@pytest.mark.parametrize(
    ("reason", "continues"), [("ImportSpanEmpty", False), ("TooManySenders", False), ("ImportCeiling", True)]
)
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(
    ("language", "promise"), [("en", "automatically"), ("de", "automatisch"), ("it", "automaticamente")]
)
def test_no_mail_promises_that_an_import_continues_whose_spec_never_changes(
    reason: str, number: int, language: str, promise: str, *, continues: bool
) -> None:
    organization = an_organization(notifications={**MAILS, "language": language})
    problem = a_problem(f"import/{reason}", reason=reason, count=number, examples=("old-stock",))
    content = MailRenderer(organization, "contracts").content(Notification(MailKind.FAILED, NOON, problem))
    assert (promise in content.paragraphs[0]) is continues
    assert ("old-stock" in content.paragraphs[0]) is (number == 1)


async def test_a_deleted_import_ends_its_problem_without_a_solution() -> None:
    scene = await reported()
    put(scene)
    await scene.look_for(timedelta(hours=1))
    assert scene.mailer.subjects[1:] == [f"Ended: {SUBJECT.format('SendersNotSearched')}"]
    assert "An Import that could not continue was deleted." in str(scene.mailer.sent_mails[1][1].get_body())


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


@pytest.mark.parametrize("reason", REASONS_OF_IMPORTS)
async def test_each_reason_for_which_an_import_stops_is_one_mail(reason: str) -> None:
    scene = Scene()
    if reason == ARCHIVE_MISSING:
        scene.change(Organization, "acme", conditions=[a_condition("Ready", "False", reason, NOON)])
        scene.cache.archives.remove("dms")
    elif server_of(reason) is Server.ESAW or reason == "EsawAddressForbidden":
        scene.change(Organization, "acme", conditions=[a_condition("Reachable", "False", reason, NOON)])
    elif is_about_archive(reason):
        scene.set(an_archive_that_is("False", reason=reason))
    put(scene, an_import_that_is(reason, stalled=True))
    await scene.run_once(3, every=TIMINGS.stalled + timedelta(minutes=1))
    told = [each for each in scene.mailer.subjects if each.endswith(f": {reason}")]
    assert len(told) == (0 if reason in PAUSED_BY_PERSONS else 1)


def test_no_reason_of_an_archive_that_works_stops_an_import() -> None:
    for reason in CATALOGUE:
        first = report_hold(ImportHold(reason, "Archive/dms: no right"), failures=0).reason
        later = report_hold(ImportHold(reason, ""), failures=REPORT_ATTEMPTS).reason
        assert first == "ImportReportRefused" or not is_stalled("False", first)
        assert later == "ImportReportRefused"


async def test_an_archive_that_neither_an_event_nor_an_import_needs_is_no_mail() -> None:
    scene = Scene()
    scene.set(an_archive_that_is("False", reason="ArchiveFull"))
    complete = an_import_that_is("ImportComplete", stalled=False)
    put(scene, replace(complete, status=replace(complete.status, completion_time=NOON)))
    await scene.look_for(timedelta(hours=1))
    assert scene.mailer.sent_mails == []


def stalled_imports(number: int, reason: str = "SendersNotSearched") -> list[Import]:
    return [an_import_that_is(reason, stalled=True, name=f"stock-{each:03}") for each in range(number)]


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


async def test_an_import_that_stops_before_the_mail_about_the_end_continues_the_problem() -> None:
    scene = await reported()
    put(scene, an_import_that_is("ImportRunning", stalled=False))
    await scene.look_for(timedelta(seconds=30))
    put(scene, an_import_that_is("SendersNotSearched", stalled=True, since=scene.clock.now()))
    await scene.look_for(timedelta(hours=1))
    assert len(scene.mailer.sent_mails) == 1


async def test_a_problem_of_several_imports_is_solved_when_each_of_them_continues() -> None:
    scene = Scene()
    first, *others = stalled_imports(3)
    put(scene, first, *others)
    await scene.look_for(TIMINGS.stalled + timedelta(minutes=1))
    subject = "[acme] {} Imports can't continue: SendersNotSearched"
    held = an_import_that_is("ImportOutsideHours", stalled=False, name=first.name)
    running = [an_import_that_is("ImportRunning", stalled=False, name=each.name) for each in others]
    put(scene, held, *others[1:], running[0])
    await scene.look_for(timedelta(hours=1))
    problem = scene.problems()["import/SendersNotSearched"]
    assert (problem.count, problem.examples) == (2, (others[1].name, first.name))
    put(scene, held, *running)
    await scene.look_for(timedelta(hours=1))
    assert scene.mailer.subjects == [subject.format(3)]
    put(scene, an_import_that_is("ImportRunning", stalled=False, name=first.name), *running)
    await scene.look_for(timedelta(hours=1))
    assert scene.mailer.subjects[1:] == [f"Solved: {subject.format(2)}"]


async def test_an_import_that_the_problem_does_not_name_keeps_it_open_outside_its_hours() -> None:
    scene = Scene()
    put(scene, *stalled_imports(MANY))
    await scene.look_for(TIMINGS.stalled + timedelta(minutes=1))
    waiting = [
        an_import_that_is("ImportOutsideHours", stalled=False, name=each.name)
        for each in stalled_imports(MANY)
    ]
    put(scene, *stalled_imports(2), *waiting[2:])
    await scene.look_for(timedelta(hours=1))
    running = [
        an_import_that_is("ImportRunning", stalled=False, name=each.name) for each in stalled_imports(MANY)
    ]
    put(scene, *running[: MANY - 1], waiting[-1])
    await scene.look_for(timedelta(hours=1))
    assert len(scene.mailer.sent_mails) == 1
    put(scene, *running)
    await scene.look_for(timedelta(hours=1))
    assert scene.mailer.subjects[1].startswith("Solved: ")


async def test_a_problem_with_a_deleted_import_is_not_solved_by_another_one_that_continues() -> None:
    scene = Scene()
    first, second = stalled_imports(2)
    put(scene, first, second)
    await scene.look_for(TIMINGS.stalled + timedelta(minutes=1))
    put(scene, second)
    await scene.look_for(timedelta(hours=1))
    put(scene, an_import_that_is("ImportRunning", stalled=False, name=second.name))
    await scene.look_for(timedelta(hours=1))
    (ended,) = scene.mailer.subjects[1:]
    assert ended.startswith("Ended: ")


def stored(name: str, **changes: Any) -> ReportedProblem:
    """A problem of one Import, as an earlier version stored it."""
    return a_problem(f"import/{name}", reason="SendersNotSearched", count=1, **changes)


def test_stored_problems_of_single_imports_become_one_for_each_reason() -> None:
    later = NOON + DAY
    problems = (
        stored("a", start_time=later, notified_time=later, mail_attempt_time=later),
        a_problem("failed/NameOccupied/dms"),
        stored("b", start_time=NOON),
        stored("c", start_time=NOON, solved_time=later, ending="Solved", notified_time=later),
        a_problem("import/d", reason="ImportCeiling", solved_time=later, ending="ImportDeleted"),
        a_problem("import/e", reason="ImportCeiling", solved_time=later, ending="Solved"),
        a_problem(
            "import/f", reason="ImportRefused", notified_time=NOON, notified_reasons=("SendersNotSearched",)
        ),
    )
    senders, failed, ceiling, refused = with_import_reasons(problems)
    assert (senders.cause, senders.count, senders.examples) == (
        "import/SendersNotSearched",
        3,
        ("a", "b", "c"),
    )
    assert (senders.start_time, senders.notified_time, senders.mail_attempt_time) == (NOON, later, later)
    assert (senders.solved_time, senders.ending) == (None, None)
    assert failed is problems[1]
    assert (ceiling.cause, ceiling.ending) == ("import/ImportCeiling", "ImportDeleted")
    assert (refused.cause, refused.notified_time) == ("import/ImportRefused", None)
    assert with_import_reasons((senders, failed, ceiling, refused)) == (senders, failed, ceiling, refused)


async def test_a_stored_problem_of_a_single_import_has_no_second_mail_and_a_true_end() -> None:
    scene = Scene()
    problems = [to_builtins(stored(each.name, notified_time=NOON)) for each in stalled_imports(MANY)]
    scene.change(Organization, "acme", problems=problems)
    put(scene, *stalled_imports(MANY))
    await scene.look_for(timedelta(hours=1))
    assert (scene.mailer.sent_mails, list(scene.problems())) == ([], ["import/SendersNotSearched"])
    put(scene, *stalled_imports(1))
    await scene.look_for(timedelta(hours=1))
    assert scene.mailer.sent_mails == []
    put(scene, an_import_that_is("ImportRunning", stalled=False, name="stock-000"))
    await scene.look_for(timedelta(hours=1))
    (ended,) = scene.mailer.subjects
    assert ended.startswith("Ended: ")


async def test_a_list_that_is_full_of_one_kind_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    for number in range(MANY):
        scene.notifier.event_failed(an_event(f"e-{number}").in_phase(Phase.FAILED, f"Any{number}").build())
    await scene.look_for(timedelta(minutes=5))
    (logged,) = (each for each in caplog.records if "is full" in each.message)
    assert (logged.levelname, logged.__dict__["kind"]) == ("ERROR", "failed")
