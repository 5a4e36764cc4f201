"""Files that eSAW lists after an event has ended whose envelope is kept."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from msgspec.structs import replace

from controller.reconcile import late_files
from controller.reconcile.late_files import LIST_TIMEOUT, MAX_QUEUED, LateFileFinder
from controller.reconcile.outcomes import Fail, NeedConsent, Wait
from controller.reopening.reopener import Reopener
from controller.scheduling.retry_policy import LATE_LIST
from counterfoil.esaw import EsawUnreachable, HttpStatusError
from counterfoil.esaw.models import ListedDocument
from counterfoil.esaw.rate_limit import RateLimiter
from counterfoil.kube.errors import Forbidden
from counterfoil.resources import (
    SENDER_LABEL,
    EnvelopeEvent,
    EnvelopeStatus,
    EventNotice,
    LocalObjectReference,
    NoticeState,
    Organization,
    Phase,
    Sender,
    find_condition,
)
from counterfoil.retention import removal_time
from tests.support.builders import a_sender, an_event, an_organization
from tests.support.fakes.reconcile_context import missing
from tests.support.scenes.documents import document, list_files, retried_by_a_person
from tests.support.scenes.reconciler import ReconcilerScene
from tests.support.scenes.waiting_events import turns
from tests.support.virtual_time import VirtualClock, VirtualTimeLoop, run_in_virtual_time

WAIT = timedelta(minutes=10)


class KeptScene(ReconcilerScene):
    """An archived envelope that is kept, and eSAW may list further files of it."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        super().__init__(folder, **{"cleanup": {"policy": "Keep"}, "evidence": {"wait": "10m"}, **spec})
        self.answers: dict[str, Callable[[], Awaitable[Any]]] = {}
        """By Organization: the list that its eSAW gives, where it is not that of the one envelope."""
        self.restart_finder()

    def restart_finder(self, max_queued: int = MAX_QUEUED) -> None:
        """Let another process list the files from now on."""
        self.finder = LateFileFinder(
            self.kube,
            self.cache,
            self.list_files,
            Reopener(self.status_writer, self.event_recorder, self.clock),
            self.clock,
            max_queued,
        )
        self.cache.add_handler(Organization, self.finder.resource_changed)
        self.cache.add_handler(Sender, self.finder.resource_changed)

    async def list_files(self, event: EnvelopeEvent) -> Any:
        if (answer := self.answers.get(event.organization)) is not None:
            return await answer()
        return await late_files.list_files(self.preconditions, event)

    def add_paper(self) -> None:
        self.envelope.contents["legal-1"] = b"%PDF-paper"

    async def look(self) -> EnvelopeEvent:
        """Let the garbage collector read the event, and the due lists be made."""
        assert await self.finder.observe(self.newest()) == self.newest()
        return await self.poll()

    async def poll(self) -> EnvelopeEvent:
        """Let what is due by now be listed."""
        async with asyncio.TaskGroup() as lists:
            self.finder.start_due(lists)
        return self.newest()

    @property
    def manifests(self) -> str:
        return "".join(each.read_text() for each in self.root.rglob("counterfoil.json"))


@pytest.fixture
async def scene(tmp_path: Path) -> KeptScene:
    scene = KeptScene(tmp_path)
    await scene.reconcile()
    return scene


async def test_a_kept_envelope_succeeds_at_once_and_is_listed_again_after_the_wait(scene: KeptScene) -> None:
    ended = scene.newest().status
    assert (ended.phase, ended.reason) == (Phase.SUCCEEDED, "ArchivedAndKept")
    assert ended.next_attempt_time == scene.clock.now() + WAIT
    asked = len(scene.envelope.asked)
    assert (await scene.look()).status == ended
    assert len(scene.envelope.asked) == asked
    scene.clock.advance(minutes=10)
    assert (await scene.look()).status == replace(ended, next_attempt_time=None)
    assert scene.envelope.asked[asked:] == ["envelope", "files"]
    assert scene.cache.sender_of == {}
    await scene.look()
    assert len(scene.envelope.asked) == asked + 2


async def test_a_file_that_is_listed_during_the_wait_is_archived(scene: KeptScene) -> None:
    scene.add_paper()
    scene.clock.advance(minutes=10)
    opened = (await scene.look()).status
    assert (opened.phase, opened.reason) == (Phase.PENDING, "FilesListedLate")
    assert (await scene.reconcile()).status.reason == "FilesChanged"
    after = (await scene.reconcile()).status
    assert (after.phase, after.reason) == (Phase.SUCCEEDED, "ArchivedAndKept")
    assert "legal-1" in scene.manifests
    assert ("Normal", "FilesListedLate") in await scene.recorded()


async def test_a_file_that_comes_after_a_list_that_was_asked_for_within_the_wait_is_archived(
    scene: KeptScene,
) -> None:
    scene.clock.advance(minutes=9)
    scene.envelope.meanwhile["files"] = partial(scene.clock.advance, minutes=2)
    after = (await retried_by_a_person(scene)).status
    assert (after.phase, after.reason) == (Phase.SUCCEEDED, "ArchivedAndKept")
    scene.add_paper()
    assert (await scene.look()).status.reason == "FilesListedLate"


async def test_after_a_list_grew_a_kept_envelope_is_listed_again(scene: KeptScene) -> None:
    scene.add_paper()
    scene.clock.advance(minutes=10)
    await scene.look()
    after = await scene.reconcile(2)
    assert (after.status.reason, after.status.next_attempt_time) == (
        "ArchivedAndKept",
        scene.clock.now() + WAIT,
    )
    scene.envelope.contents["legal-2"] = b"%PDF-paper"
    scene.clock.advance(minutes=10)
    assert (await scene.look()).status.reason == "FilesListedLate"


async def test_an_expired_envelope_is_listed_again_as_well(tmp_path: Path) -> None:
    scene = KeptScene(tmp_path, statuses=["Expired"])
    scene.envelope.status = EnvelopeStatus.EXPIRED
    assert (await scene.reconcile()).status.reason == "ArchivedAsExpired"
    scene.add_paper()
    scene.clock.advance(minutes=10)
    assert (await scene.look()).status.reason == "FilesListedLate"
    assert (await scene.reconcile()).status.reason == "ArchivedAsExpired"
    assert "legal-1" in scene.manifests


async def test_after_the_wait_an_event_ends_permanently(tmp_path: Path) -> None:
    scene = KeptScene(tmp_path, evidence={"wait": "0s"})
    assert (await scene.reconcile()).status.next_attempt_time is None
    asked = len(scene.envelope.asked)
    assert (await scene.look()).status.reason == "ArchivedAndKept"
    assert len(scene.envelope.asked) == asked


async def test_an_envelope_that_a_person_deleted_does_not_stay_listed(scene: KeptScene) -> None:
    scene.envelope.deleted = True
    scene.clock.advance(minutes=10)
    after = (await scene.look()).status
    assert (after.phase, after.next_attempt_time) == (Phase.SUCCEEDED, None)


async def test_a_notice_in_transit_stays_if_nothing_is_listed_late(scene: KeptScene) -> None:
    notice = EventNotice(id="msg_1", state=NoticeState.DELIVERED, attempts=1)
    ended = scene.newest()
    await scene.status_writer.store(ended, replace(ended.status, notice=notice))
    scene.clock.advance(minutes=10)
    assert (await scene.look()).status.notice == notice


@pytest.mark.parametrize("problem", [EsawUnreachable("connect"), HttpStatusError(503)])
async def test_an_esaw_that_does_not_answer_is_asked_again_after_a_pause(
    scene: KeptScene, problem: Exception
) -> None:
    scene.add_paper()
    scene.envelope.but("files", problem)
    scene.clock.advance(minutes=10)
    await scene.look()
    scene.envelope.problems.clear()
    asked = len(scene.envelope.asked)
    assert (await scene.look()).status.reason == "ArchivedAndKept"
    assert len(scene.envelope.asked) == asked
    scene.clock.advance(seconds=LATE_LIST.pause(0))
    assert (await scene.look()).status.reason == "FilesListedLate"


async def test_one_envelope_that_is_refused_delays_no_other(scene: KeptScene) -> None:
    listed: list[str] = []

    async def refuse_the_first(event: EnvelopeEvent) -> Any:
        listed.append(event.name)
        return Fail("NotPermitted", "403") if event.name == scene.event.name else None

    scene.finder.list_files = refuse_the_first
    scene.finder.enqueue(scene.newest())
    other = another_kept(scene)
    scene.clock.advance(minutes=10)
    await scene.look()
    assert listed == [scene.event.name, other.name]
    assert scene.kube.stored(other.name).status.next_attempt_time is None


@pytest.mark.parametrize(("kind", "name"), [(Organization, "acme"), (Sender, "anna")])
async def test_while_a_person_suspends_it_nothing_is_asked(
    scene: KeptScene, kind: type[Any], name: str
) -> None:
    scene.add_paper()
    scene.clock.advance(minutes=10)
    known: Any = scene.cache.store(kind).get(name)

    def suspend(version: int, *, suspended: bool) -> None:
        metadata = replace(known.metadata, resource_version=str(version))
        scene.cache.update(replace(known, metadata=metadata, spec=replace(known.spec, suspend=suspended)))

    suspend(8, suspended=True)
    asked = len(scene.envelope.asked)
    assert (await scene.look()).status.reason == "ArchivedAndKept"
    assert len(scene.envelope.asked) == asked
    suspend(9, suspended=False)
    assert (await scene.look()).status.reason == "FilesListedLate"


async def test_a_clock_that_was_ahead_for_a_moment_postpones_no_list(tmp_path: Path) -> None:
    scene = KeptScene(tmp_path)
    scene.clock.advance(days=30)
    await scene.reconcile()
    scene.clock.advance(days=-29)
    scene.add_paper()
    assert (await scene.look()).status.reason == "FilesListedLate"


@pytest.mark.parametrize("is_ahead_at_the_end", [True, False])
async def test_one_of_several_api_servers_whose_clock_is_ahead_ends_no_wait_for_late_files(
    tmp_path: Path, is_ahead_at_the_end: bool
) -> None:
    scene = KeptScene(tmp_path)
    ahead = timedelta(minutes=20)
    list_files_ahead = {"download file-1": lambda: setattr(scene.clock, "ahead", ahead)}
    scene.envelope.meanwhile.update(list_files_ahead if is_ahead_at_the_end else {})
    assert (await scene.reconcile()).status.reason == "ArchivedAndKept"
    scene.clock.ahead = timedelta(0)
    scene.clock.advance(minutes=5)
    asked = len(scene.envelope.asked)
    scene.clock.ahead = timedelta(0) if is_ahead_at_the_end else ahead
    assert (await scene.look()).status.next_attempt_time is not None
    assert len(scene.envelope.asked) == asked
    scene.clock.ahead = timedelta(0)
    scene.add_paper()
    scene.clock.advance(minutes=30)
    assert (await scene.look()).status.reason == "FilesListedLate"


async def test_an_event_that_another_client_changes_meanwhile_is_not_changed(scene: KeptScene) -> None:
    scene.add_paper()
    scene.clock.advance(minutes=10)
    changed = partial(
        scene.kube.edit, EnvelopeEvent, scene.event.name, {"status": {"phase": "Pending", "reason": "Other"}}
    )
    scene.envelope.meanwhile["files"] = changed
    assert (await scene.look()).status.reason == "Other"


async def test_an_event_that_may_not_be_changed_ends_no_pass(scene: KeptScene) -> None:
    scene.add_paper()
    scene.clock.advance(minutes=10)
    scene.kube.fail("patch_status", Forbidden(403, "Forbidden", "no"))
    assert (await scene.look()).status.reason == "ArchivedAndKept"


async def test_an_event_that_may_not_be_changed_delays_no_list_of_its_organization(scene: KeptScene) -> None:
    scene.finder.enqueue(scene.newest())
    other = another_kept(scene)
    scene.kube.refused["patch_status", scene.event.name] = Forbidden(403, "Forbidden", "no")
    scene.clock.advance(minutes=10)
    await scene.poll()
    assert scene.newest().status.next_attempt_time is not None
    assert scene.kube.stored(other.name).status.next_attempt_time is None


async def test_an_event_is_not_removed_before_its_files_are_listed_again(scene: KeptScene) -> None:
    spec, ended = scene.organization.spec, scene.newest()
    assert ended.status.completion_time is not None
    assert removal_time(ended, spec) is None
    scene.clock.advance(minutes=10)
    assert removal_time(await scene.look(), spec) == ended.status.completion_time + spec.succeeded_ttl


def another_kept(
    scene: KeptScene,
    organization: str = "acme",
    envelope: str = "22222222-2222-2222-2222-222222222222",
    sender: str = "anna",
) -> EnvelopeEvent:
    """Let another event end as the first one did, and return it."""
    built = an_event(envelope).build()
    spec = replace(built.spec, organization_ref=LocalObjectReference(name=organization))
    name = f"{envelope}-{organization}"
    labels = {**built.metadata.labels, SENDER_LABEL: sender}
    metadata = replace(built.metadata, name=name, uid=f"uid-{name}", labels=labels)
    event = replace(built, metadata=metadata, spec=spec, status=scene.newest().status)
    scene.kube.put(event)
    scene.finder.enqueue(event)
    return event


async def test_an_esaw_that_never_answers_delays_no_list_of_another_organization(scene: KeptScene) -> None:
    lists = 0

    async def hang() -> Any:
        nonlocal lists
        lists += 1
        await asyncio.Event().wait()

    async def say_that_it_is_deleted() -> Any:
        return None

    scene.answers = {"hostile": hang, "globex": say_that_it_is_deleted}
    for number in range(3):
        another_kept(scene, "hostile", f"3333333{number}-3333-3333-3333-333333333333")
    other = another_kept(scene, "globex")
    scene.clock.advance(minutes=10)
    group = asyncio.create_task(scene.poll())
    await turns()
    assert scene.kube.stored(other.name).status.next_attempt_time is None
    assert lists == 1, "one list of an Organization at a time"
    group.cancel()
    await asyncio.gather(group, return_exceptions=True)


async def test_slow_lists_of_one_organization_take_a_bounded_time_of_the_pass(scene: KeptScene) -> None:
    scene.clock.advance(minutes=10)
    asked, due = len(scene.envelope.asked), scene.newest()
    assert await scene.finder.observe(due) is due
    assert len(scene.envelope.asked) == asked


async def test_an_event_that_ends_here_is_listed_without_a_pass_of_the_garbage_collector(
    scene: KeptScene,
) -> None:
    scene.add_paper()
    scene.finder.enqueue(scene.newest())
    assert (await scene.poll()).status.reason == "ArchivedAndKept"
    scene.clock.advance(minutes=10)
    assert (await scene.poll()).status.reason == "FilesListedLate"


async def test_an_event_that_ended_again_since_is_listed_at_its_new_time(scene: KeptScene) -> None:
    scene.finder.enqueue(scene.newest())
    scene.clock.advance(minutes=10)
    later = replace(scene.newest().status, next_attempt_time=scene.clock.now() + WAIT)
    await scene.status_writer.store(scene.newest(), later)
    assert (await scene.poll()).status == later
    scene.clock.advance(minutes=10)
    assert (await scene.poll()).status.next_attempt_time is None


async def test_a_list_that_never_ends_is_given_up(scene: KeptScene, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = 0

    async def hang() -> Any:
        nonlocal lists
        lists += 1
        await asyncio.Event().wait()

    assert LIST_TIMEOUT > 60.0, "an eSAW whose answers take 50 seconds is listed"
    monkeypatch.setattr("controller.reconcile.late_files.LIST_TIMEOUT", 0.01)
    scene.answers = {"acme": hang}
    scene.clock.advance(minutes=10)
    for _ in range(3):
        await scene.look()
    assert lists == 1
    scene.clock.advance(seconds=LATE_LIST.pause(0))
    await scene.look()
    assert lists == 2


def test_a_list_that_waits_for_its_turn_has_all_of_its_time_for_the_answers(tmp_path: Path) -> None:
    async def archived() -> KeptScene:
        scene = KeptScene(tmp_path)
        await scene.reconcile()
        return scene

    scene = asyncio.run(archived())
    scene.clock.advance(minutes=10)

    async def look() -> list[str]:
        loop, answers = asyncio.get_running_loop(), list[str]()
        assert isinstance(loop, VirtualTimeLoop)
        rate_limiter = RateLimiter(VirtualClock(loop), per_second=1, max_retry_after=3600)
        runs = [asyncio.create_task(rate_limiter.acquire()) for _ in range(2 * int(LIST_TIMEOUT))]
        await asyncio.sleep(0)

        async def list_behind_runs() -> Wait:
            await rate_limiter.acquire()
            answers.append("503")
            return Wait("EsawFailing", "eSAW answered 503.")

        scene.answers = {"acme": list_behind_runs}
        await scene.look()
        await asyncio.gather(*runs)
        return answers

    assert run_in_virtual_time(look()) == ["503"]


@pytest.mark.parametrize("reason", ["EsawFailing", "SecretForbidden", "SecretUnreadable"])
async def test_an_outage_is_asked_about_ever_more_rarely(scene: KeptScene, reason: str) -> None:
    lists = 0

    async def fail() -> Any:
        nonlocal lists
        lists += 1
        return Wait(reason, "It does not work.")

    scene.answers = {"acme": fail}
    for number in range(20):
        another_kept(scene, envelope=f"444444{number:02}-4444-4444-4444-444444444444")
    scene.clock.advance(minutes=10)
    for _ in range(24 * 60):
        await scene.poll()
        scene.clock.advance(minutes=1)
    assert lists <= 24 + len(LATE_LIST.pauses)


@pytest.mark.parametrize("reason", ["SecretForbidden", "SecretUnreadable"])
async def test_the_secret_of_one_sender_that_can_not_be_read_delays_no_list_of_another(
    scene: KeptScene, reason: str
) -> None:
    names = [f"444444{number:02}-4444-4444-4444-444444444444" for number in range(5)]
    lost = [another_kept(scene, envelope=name, sender="ben").name for name in names]
    listed: list[str] = []

    async def by_sender(event: EnvelopeEvent) -> Any:
        listed.append(event.name)
        return Wait(reason, "Secret/ben-key") if event.name in lost else None

    scene.finder.list_files = by_sender
    scene.finder.enqueue(scene.newest())
    scene.clock.advance(minutes=10)
    await scene.poll()
    assert (len(listed), set(listed) & set(lost)) == (2, {lost[0]})
    assert scene.newest().status.next_attempt_time is None

    scene.clock.advance(minutes=59)
    await scene.poll()
    scene.finder.list_files = scene.list_files
    scene.observe(a_sender("ben"))
    await scene.poll()
    assert [scene.kube.stored(each).status.next_attempt_time for each in lost] == [None] * len(lost)


async def test_the_memory_of_the_lists_of_one_organization_is_bounded(scene: KeptScene) -> None:
    ended = scene.newest()
    for number in range(MAX_QUEUED + 10):
        metadata = replace(ended.metadata, name=f"event-{number}")
        scene.finder.enqueue(replace(ended, metadata=metadata))
    assert sum(len(each.due) for each in scene.finder._queues.values()) == MAX_QUEUED


async def test_lists_that_are_not_possible_keep_no_other_out_and_are_all_reported(scene: KeptScene) -> None:
    possible, list_files = scene.newest().name, scene.list_files

    async def by_sender(event: EnvelopeEvent) -> Any:
        if event.name == possible:
            return await list_files(event)
        return NeedConsent("TokenRejected", "eSignAnyWhere does not accept the API key of Sender/ben.")

    refused = [another_kept(scene, envelope=f"444444{n:02}-4444-4444-4444-444444444444") for n in range(8)]
    scene.list_files = by_sender  # type: ignore[method-assign]
    scene.restart_finder(max_queued=5)
    for _ in range(12):
        for name in (*(each.name for each in refused), possible):
            await scene.finder.observe(scene.kube.stored(name))
        await scene.poll()
        scene.clock.advance(minutes=20)

    assert scene.newest().status.next_attempt_time is None
    shown = [evidence(scene.kube.stored(each.name)) for each in refused]
    assert [each[1] for each in shown if each is not None] == ["LateFilesUnknown"] * len(refused)


async def test_lists_that_are_due_later_keep_none_out_that_is_due(scene: KeptScene) -> None:
    due = scene.newest()
    scene.restart_finder(max_queued=5)
    scene.clock.advance(minutes=10)
    for number in range(8):
        later = replace(due.status, next_attempt_time=scene.clock.now() + timedelta(hours=number + 1))
        metadata = replace(due.metadata, name=f"event-{number}")
        scene.finder.enqueue(replace(due, metadata=metadata, status=later))

    assert (await scene.look()).status.next_attempt_time is None


def evidence(event: EnvelopeEvent) -> tuple[str, str, str] | None:
    found = find_condition(event.status.conditions, "EvidenceComplete")
    return None if found is None else (found.status, found.reason, found.message)


def record_only(scene: KeptScene) -> None:
    """Let a person set the action to Record."""
    change(scene, Organization, "acme", actions=[{"action": "envelopeFinished", "handling": "Record"}])


def suspend_the_sender(scene: KeptScene) -> None:
    change(scene, Sender, "anna", suspend=True)


def refuse(scene: KeptScene) -> None:
    scene.envelope.but("files", HttpStatusError(403, error_id="ERR0010"))


def revoke_the_key(scene: KeptScene) -> None:
    scene.envelope.but("envelope", HttpStatusError(401, error_id="ERR0010"))


def hide_the_envelope(scene: KeptScene) -> None:
    """Let the envelope belong to another user from now on."""
    for operation in ("envelope", "files"):
        scene.envelope.but(operation, missing())


def change(scene: KeptScene, kind: type[Any], name: str, **spec: Any) -> None:
    known: Any = scene.cache.store(kind).get(name)
    raw = known.to_dict()
    raw["metadata"]["resourceVersion"] = str(int(raw["metadata"]["resourceVersion"]) + 1)
    raw["spec"].update(spec)
    scene.cache.update(kind.parse(raw))


@pytest.mark.parametrize(
    ("hinder", "cause"),
    [
        (record_only, "lists the action envelopeFinished with handling Record"),
        (suspend_the_sender, "spec.suspend of Sender/anna is true"),
        (refuse, "does not permit this"),
        (revoke_the_key, "does not accept the sender's API key"),
        (hide_the_envelope, "does not show the envelope"),
    ],
)
async def test_a_list_that_never_comes_is_reported_once_and_the_event_stays(
    scene: KeptScene, hinder: Callable[[KeptScene], None], cause: str
) -> None:
    hinder(scene)
    scene.clock.advance(minutes=10)
    assert evidence(await scene.look()) is None, "an outage may be short"
    for _ in range(100):
        scene.clock.advance(hours=1)
        await scene.look()
    told = evidence(scene.newest())
    assert told is not None
    assert told[:2] == ("Unknown", "LateFilesUnknown")
    assert cause in told[2] or "Sender/anna" in told[2]
    recorded = await scene.recorded()
    assert recorded.count(("Warning", "LateFilesUnknown")) == 1
    scene.clock.advance(days=400)
    assert removal_time(scene.newest(), scene.organization.spec) is None
    assert scene.newest().status.phase is Phase.SUCCEEDED


@pytest.mark.parametrize("has_paper", [False, True])
async def test_a_list_that_was_reported_as_impossible_continues_when_the_cause_is_solved(
    scene: KeptScene, *, has_paper: bool
) -> None:
    suspend_the_sender(scene)
    scene.clock.advance(hours=2)
    assert evidence(await scene.look()) is not None
    if has_paper:
        scene.add_paper()
    change(scene, Sender, "anna", suspend=False)
    after = await scene.poll()
    if has_paper:
        assert after.status.reason == "FilesListedLate"
        after = await scene.reconcile(2)
        assert "legal-1" in scene.manifests
    found = evidence(after)
    assert found is not None
    assert found[:2] == ("True", "DocumentsListed" if has_paper else "NoFilesListedLate")
    assert after.status.reason == "ArchivedAndKept"


async def test_an_envelope_that_was_deleted_during_an_outage_is_not_said_to_list_no_further_file(
    scene: KeptScene,
) -> None:
    suspend_the_sender(scene)
    scene.clock.advance(hours=2)
    await scene.look()
    scene.envelope.deleted = True
    change(scene, Sender, "anna", suspend=False)
    after = await scene.poll()
    assert after.status.next_attempt_time is None
    assert evidence(after) == (
        "Unknown",
        "LateFilesUnknown",
        "It is not known whether eSignAnyWhere listed files late: the envelope was deleted there.",
    )


async def test_the_list_of_a_deleted_organization_ends_and_the_event_reports_it(scene: KeptScene) -> None:
    del scene.kube.objects["organizations", "acme"]
    scene.cache.organizations.remove("acme")
    scene.clock.advance(minutes=10)
    after = await scene.look()

    scene.kube.asked.clear()
    for _ in range(5):
        scene.clock.advance(hours=1)
        await scene.poll()

    assert [name for verb, name in scene.kube.asked if verb == "get"] == []
    evidence = find_condition(after.status.conditions, "EvidenceComplete")
    assert evidence is not None
    assert "Organization/acme does not exist" in (evidence.message or "")


async def test_a_list_continues_if_only_the_cache_has_no_organization(scene: KeptScene) -> None:
    organization = scene.cache.organizations.get("acme")
    assert organization is not None
    scene.cache.organizations.remove("acme")
    scene.add_paper()
    scene.clock.advance(minutes=10)
    await scene.look()

    scene.cache.organizations.put(organization)
    scene.clock.advance(hours=1)

    assert (await scene.poll()).status.reason == "FilesListedLate"


async def test_a_retry_by_a_person_lists_the_files_and_reports_it(scene: KeptScene) -> None:
    suspend_the_sender(scene)
    scene.clock.advance(hours=2)
    await scene.look()
    change(scene, Sender, "anna", suspend=False)
    await retried_by_a_person(scene)
    found = evidence(scene.newest())
    assert found is not None
    assert found[:2] == ("True", "NoFilesListedLate")


def hide_files(scene: KeptScene) -> dict[str, bytes]:
    """Let eSAW list no file, as with ``null`` in place of each list; return the files."""
    files = dict(scene.envelope.contents)
    scene.envelope.contents.clear()
    return files


async def test_a_list_that_lacks_archived_files_is_no_answer(scene: KeptScene) -> None:
    files = hide_files(scene)
    scene.clock.advance(minutes=10)
    ended = scene.newest().status
    assert (await scene.look()).status == ended
    scene.envelope.contents = {**files, "legal-1": b"%PDF-paper"}
    scene.clock.advance(seconds=LATE_LIST.pause(0))
    assert (await scene.look()).status.reason == "FilesListedLate"
    await scene.reconcile(2)
    assert "legal-1" in scene.manifests


async def test_an_archived_file_that_is_no_longer_listed_is_reported_once_and_the_list_continues(
    tmp_path: Path,
) -> None:
    scene = KeptScene(tmp_path)
    list_files(scene, document(1, 1), document(2, 2), legal=("legal-1",))
    await scene.reconcile()
    list_files(scene, document(1, 1))
    scene.clock.advance(minutes=10)
    assert evidence(await scene.look()) is None, "the list may be short for a moment"
    for _ in range(10):
        scene.clock.advance(hours=1)
        await scene.look()
    told = evidence(scene.newest())
    assert told is not None
    assert told[:2] == ("Unknown", "LateFilesUnknown")
    assert "no longer lists every file" in told[2]
    assert (await scene.recorded()).count(("Warning", "LateFilesUnknown")) == 1
    assert scene.newest().status.reason == "ArchivedAndKept"
    list_files(scene, document(1, 1), document(2, 2), legal=("legal-1",))
    scene.clock.advance(hours=1)
    settled = await scene.look()
    assert (evidence(settled) or ())[:2] == ("True", "NoFilesListedLate")
    assert settled.status.next_attempt_time is None


async def test_after_an_outage_a_list_that_lacks_archived_files_does_not_say_that_there_are_no_more(
    scene: KeptScene,
) -> None:
    suspend_the_sender(scene)
    scene.clock.advance(hours=2)
    await scene.look()
    hide_files(scene)
    change(scene, Sender, "anna", suspend=False)
    after = await scene.poll()
    assert (evidence(after) or ())[:2] == ("Unknown", "LateFilesUnknown")
    assert after.status.next_attempt_time is not None


ACTIONS = [{"action": each, "handling": "Archive"} for each in ("envelopeFinished", "workstepFinished")]


async def test_a_list_that_lacks_a_file_of_another_event_is_no_answer(tmp_path: Path) -> None:
    scene = KeptScene(tmp_path, actions=ACTIONS)
    ended = (await scene.reconcile()).status
    scene.kube.put(an_event().for_action("workstepFinished").archived("1", "2").build())
    scene.clock.advance(minutes=10)
    assert (await scene.look()).status == ended
    scene.envelope.contents["file-2"] = b"%PDF-appendix"
    scene.clock.advance(seconds=LATE_LIST.pause(0))
    assert (await scene.look()).status.reason == "FilesListedLate"


async def test_after_a_retry_a_list_that_lacks_a_file_of_another_event_is_not_the_last_one(
    tmp_path: Path,
) -> None:
    scene = KeptScene(tmp_path, actions=ACTIONS, evidence={"wait": "0s"})
    assert (await scene.reconcile()).status.next_attempt_time is None
    scene.kube.put(an_event().for_action("workstepFinished").archived("1", "2").build())
    assert (await retried_by_a_person(scene)).status.next_attempt_time == scene.clock.now()


async def test_a_short_list_at_the_end_of_a_long_archiving_is_not_the_last_one(tmp_path: Path) -> None:
    scene = KeptScene(tmp_path)
    files = dict(scene.envelope.contents)

    def shorten_the_next_list() -> None:
        scene.clock.advance(minutes=11)
        scene.envelope.meanwhile["files"] = scene.envelope.contents.clear

    scene.envelope.meanwhile["download trail-1"] = shorten_the_next_list
    assert (await scene.reconcile()).status.reason == "ArchivedAndKept"
    scene.envelope.contents = {**files, "legal-1": b"%PDF-paper"}
    assert (await scene.look()).status.reason == "FilesListedLate"


async def test_an_event_that_ended_while_the_clock_was_ahead_is_listed_after_the_wait(tmp_path: Path) -> None:
    scene = KeptScene(tmp_path)
    scene.clock.set_back(days=-30)
    await scene.reconcile()
    scene.finder.enqueue(scene.newest())
    scene.clock.set_back(days=30)
    scene.add_paper()
    assert (await scene.look()).status.reason == "ArchivedAndKept"
    scene.clock.advance(minutes=10)
    assert (await scene.look()).status.reason == "FilesListedLate"


async def test_a_clock_that_is_ahead_starts_no_list_earlier(scene: KeptScene) -> None:
    scene.finder.enqueue(scene.newest())
    scene.clock.set_back(days=-30)
    asked = len(scene.envelope.asked)
    assert (await scene.poll()).status.next_attempt_time is not None
    assert len(scene.envelope.asked) == asked


def content_at(location: str | None) -> bytes:
    return Path(unquote((location or "").removeprefix("file://"))).read_bytes()


async def test_documents_that_are_listed_in_another_order_keep_their_places(tmp_path: Path) -> None:
    scene = KeptScene(tmp_path)
    first, second = (ListedDocument(file_id=each, file_name="contract.pdf") for each in ("file-A", "file-B"))
    list_files(scene, first, second)
    before = {each.file_id: each.location for each in (await scene.reconcile()).status.documents}
    third = ListedDocument(file_id="file-C", file_name="contract.pdf")
    list_files(scene, third, second, first, legal=("legal-1",))
    scene.clock.advance(minutes=10)
    await scene.look()
    await scene.reconcile()
    after = await scene.reconcile()
    assert after.status.reason == "ArchivedAndKept"
    places = {each.file_id: each.location for each in after.status.documents}
    assert {each: places[each] for each in before} == before
    assert len(set(places.values())) == len(places) == 5
    for file_id in ("file-A", "file-B", "file-C"):
        assert content_at(places[file_id]) == f"%PDF-{file_id}".encode()


async def test_a_late_list_with_every_known_file_corrects_what_a_short_list_left(tmp_path: Path) -> None:
    scene = KeptScene(tmp_path, cleanup={"policy": "Delete"})
    scene.add_paper()
    scene.envelope.but("delete", HttpStatusError(503))
    await scene.reconcile()
    paper = scene.envelope.contents.pop("legal-1")
    waiting = await scene.reconcile()
    assert (waiting.status.phase, waiting.status.reason) == (Phase.CLEANING, "DocumentsPending")
    scene.observe(an_organization(version=2, cleanup={"policy": "Keep"}, evidence={"wait": "10m"}))
    assert (await scene.reconcile()).status.reason == "ArchivedAndKept"
    scene.envelope.contents["legal-1"] = paper
    scene.clock.advance(minutes=10)
    after = await scene.look()
    found = {each.type: each.status for each in after.status.conditions}
    assert (found["EvidenceComplete"], found["KnownFilesListed"]) == ("True", "True")
