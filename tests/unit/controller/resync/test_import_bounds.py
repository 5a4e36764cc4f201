"""Imports take a bounded part of the memory, of the quota and of the queue."""

import asyncio
import contextlib
import dataclasses
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from msgspec.structs import replace

from controller.resync.import_progress import REPORT_ATTEMPTS
from controller.resync.import_runner import (
    FAILURE_SECONDS,
    LONG_LIST_SECONDS,
    LONG_LISTS,
    ROOM_SECONDS,
    ImportBounds,
)
from counterfoil.esaw import FoundEnvelope, HttpStatusError
from counterfoil.esaw.limits import TRUSTED_HITS
from counterfoil.kube.errors import ApiError, api_error
from counterfoil.resources import (
    Archive,
    Attempt,
    AttemptOutcome,
    Condition,
    EnvelopeEvent,
    EnvelopeStatus,
    Import,
    Origin,
    Phase,
    Resource,
    find_condition,
)
from counterfoil.resources.imports import is_counted
from counterfoil.retention import removal_time
from counterfoil.untrusted.background_work import is_background
from tests.support.builders import NOON, a_sender, an_event, an_organization, known_to_work, ready
from tests.support.fakes.finding_esaw import FakeEsawUser, key_of, numbered
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.import_report import HangingBackend
from tests.support.scenes.imports import NAME, ImportScene, RefusingReports, an_import
from tests.support.scenes.waiting_events import turns


async def test_counting_a_window_needs_no_memory_for_each_of_its_events() -> None:
    async def peak(events: int) -> int:
        scene = ImportScene(maxUnfinished=5000)
        scene.finds("anna", *(numbered(each) for each in range(events)))
        await scene.advance()
        files = (f"{number}.pdf" for number in range(100))
        done = an_event().archived(*files).in_phase(Phase.SUCCEEDED).build().to_dict()["status"]
        long = msgspec.json.encode(done)
        scene.finish_all()
        everything = scene.kube.page

        async def one_page(kind: type[Resource], *, limit: int, token: str = "", **selected: str) -> Any:
            raws, more = await everything(kind, limit=limit, token=token, **selected)
            if kind is EnvelopeEvent:
                raws = [{**each, "status": msgspec.json.decode(long)} for each in raws]
            return raws, more

        with patch.object(scene.kube, "page", one_page):
            tracemalloc.start()
            try:
                status = await scene.advance()
                found = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
        assert status.archived == events
        return found >> 20

    assert await peak(160) - await peak(60) < 5


async def test_each_request_for_an_import_waits_for_its_place_behind_few_others() -> None:
    scene, classes = ImportScene(), dict[str, bool]()
    scene.finds("anna", numbered(1))

    async def arrive(verb: str, name: str) -> None:
        classes[verb] = classes.get(verb, True) and is_background()

    with patch.object(scene.kube, "_arrive", arrive):
        await scene.run_for(2)

    assert len(scene.events()) == 1
    assert {verb for verb, is_waiting in classes.items() if not is_waiting} <= {"secret"}
    assert {"create", "get", "patch_status"} <= classes.keys(), classes


BEFORE = NOON - timedelta(days=9)


def refusal(message: str) -> ApiError:
    """The API server's 403 to a create."""
    status = {"kind": "Status", "reason": "Forbidden", "message": message}
    return api_error(403, msgspec.json.encode(status), None, creating=True)


def message_of(scene: ImportScene, type_: str) -> str:
    found = find_condition(scene.status_now.conditions, type_)
    assert found is not None
    return found.message


FULL = (
    'envelopeevents.counterfoil.dev "acme-1" is forbidden: exceeded quota: counterfoil, requested: '
    "count/envelopeevents.counterfoil.dev=1, used: 1000, limited: 1000"
)
DENIED = 'admission webhook "validation.gatekeeper.sh" denied the request: [no-cost-centre] label missing'


def refuse(scene: ImportScene, message: str, *envelopes: str) -> None:
    """Let the API server refuse the events of these envelopes, or all of them."""
    create = scene.kube.create

    async def refusing(kind: type[Resource], body: Mapping[str, Any]) -> Any:
        if kind is EnvelopeEvent and (not envelopes or body["spec"]["envelopeID"] in envelopes):
            raise refusal(message)
        return await create(kind, body)

    patch.object(scene.kube, "create", refusing).start()


@pytest.fixture(autouse=True)
def real_again() -> Iterator[None]:
    yield
    patch.stopall()


@pytest.mark.parametrize(
    ("callbacks", "imported"), [(0, 10), (6, 7), (11, 4), (19, 0)], ids=["none", "few", "half", "full"]
)
async def test_an_import_takes_half_of_the_quota_that_callbacks_leave(callbacks: int, imported: int) -> None:
    scene = ImportScene(bounds=ImportBounds(quota=20), maxUnfinished=3)
    for number in range(callbacks):
        done = an_event(numbered(1000 + number)).archived().in_phase(Phase.SUCCEEDED)
        scene.kube.put(done.build())
    scene.finds("anna", *(numbered(each) for each in range(30)))
    for _ in range(12):
        await scene.runner.advance(NAME)
        scene.finish_all()
        scene.clock.advance(minutes=2)
    assert len(scene.events()) == callbacks + imported
    assert scene.condition("Ready") == ("False", "ImportCeiling")
    assert scene.condition("Stalled")[0] == "True"


async def test_a_quota_that_is_full_holds_the_import_and_is_named() -> None:
    scene = ImportScene()
    scene.finds("anna", numbered(1))
    refuse(scene, FULL)
    await scene.advance()
    assert scene.condition("Ready") == ("False", "ImportCeiling")
    assert scene.condition("Stalled")[0] == "True"
    assert "exceeded quota" in message_of(scene, "Ready")
    patch.stopall()
    scene.clock.advance(minutes=2)
    assert (await scene.complete()).archived == 1


async def test_an_event_that_the_cluster_forbids_puts_its_sender_aside_and_no_other() -> None:
    scene = ImportScene("anna", "bert")
    scene.finds("anna", numbered(1), numbered(2))
    scene.finds("bert", numbered(3))
    refuse(scene, DENIED, numbered(1))
    await scene.advance()
    anna, bert = scene.status_now.senders
    assert (anna.reason, bert.searched) == ("ImportRefused", True)
    assert "no-cost-centre" in (anna.message or "")
    assert scene.condition("Ready") == ("False", "SendersNotSearched")
    assert scene.condition("Stalled")[0] == "True"
    patch.stopall()
    scene.clock.advance(minutes=2)
    assert (await scene.complete()).archived == 3


def an_ended_event(number: int, phase: Phase, reason: str, *, ended: datetime = BEFORE) -> EnvelopeEvent:
    """The event of a callback that ended without an archive, by default before the Import."""
    event = an_event(numbered(number)).in_phase(phase, reason)
    return event.status(completion_time=ended, envelope=None).build()


@pytest.mark.parametrize(
    ("phase", "reason"), [(Phase.SUCCEEDED, "Recorded"), (Phase.SKIPPED, "UnexpectedStatus")]
)
async def test_events_that_an_import_starts_again_are_bounded_and_counted(phase: Phase, reason: str) -> None:
    scene = ImportScene(maxUnfinished=2)
    for number in range(5):
        scene.kube.put(an_ended_event(number, phase, reason))
    scene.finds("anna", *(numbered(number) for number in range(6)))
    task = asyncio.create_task(scene.runner.advance(NAME))
    most = 0
    while not task.done():
        await asyncio.sleep(0)
        most = max(most, len(scene.unfinished()))
        if len(scene.unfinished()) == 2:
            scene.finish_all()
    await task
    status = scene.status_now
    assert (most, status.found, status.known, status.reopened) == (2, 6, 5, 5)
    scene.finish_all()
    assert (await scene.advance()).archived == 6
    assert "5 of these started again" in message_of(scene, "Complete")


async def test_an_import_is_not_complete_before_the_events_that_it_started_again_have_ended() -> None:
    scene = ImportScene()
    scene.kube.put(an_ended_event(1, Phase.SUCCEEDED, "Recorded"))
    scene.finds("anna", numbered(1))
    await scene.advance()
    assert scene.condition("Complete")[0] == "False"
    scene.finish_all(Phase.FAILED)
    status = await scene.advance()
    assert (status.failed, scene.condition("Complete")[0]) == (1, "True")


async def advance_until_killed(scene: ImportScene, *, writes: int) -> None:
    """Let a process work on the Import that is killed after some writes; another one continues."""
    done = 0

    async def killed(method: Any, *given: Any, **named: Any) -> Any:
        nonlocal done
        done += 1
        if done > writes:
            raise asyncio.CancelledError
        return await method(*given, **named)

    with (
        patch.object(scene.kube, "patch", partial(killed, scene.kube.patch)),
        patch.object(scene.kube, "patch_status", partial(killed, scene.kube.patch_status)),
        contextlib.suppress(asyncio.CancelledError),
    ):
        await scene.advance()
    scene.runner = scene.new_runner()


@pytest.mark.parametrize("ended", [BEFORE, NOON + timedelta(hours=1)], ids=["before", "after"])
@pytest.mark.parametrize("writes", range(6))
async def test_an_import_that_is_killed_at_any_write_counts_each_event_that_started_again_once(
    writes: int, ended: datetime
) -> None:
    """``ended``: when the events had ended, before or after the Import was created."""
    scene = ImportScene()
    scene.clock.advance(hours=2)
    for number in range(2):
        scene.kube.put(an_ended_event(number, Phase.SUCCEEDED, "Recorded", ended=ended))
    scene.finds("anna", numbered(0), numbered(1))
    await advance_until_killed(scene, writes=writes)
    status = await scene.complete()
    assert (status.archived, status.known, status.reopened) == (2, 2, 2)


@pytest.mark.parametrize("is_listed", [True, False], ids=["listed", "gone from eSAW"])
@pytest.mark.parametrize("writes", range(2, 6))
async def test_an_event_of_an_earlier_import_that_a_killed_one_started_again_counts_as_known(
    writes: int, is_listed: bool
) -> None:
    scene = ImportScene()
    for number in range(2):
        event = an_ended_event(number, Phase.SUCCEEDED, "Recorded")
        scene.kube.put(replace(event, spec=replace(event.spec, origin=Origin.IMPORT)))
    scene.finds("anna", *(numbered(each) for each in range(2)))
    await advance_until_killed(scene, writes=writes)
    if not is_listed:
        scene.finds("anna", numbered(1))
    status = await scene.complete()
    assert (status.found, status.known, status.reopened) == (2, 2, 2)


async def test_an_event_that_a_killed_import_was_about_to_start_starts_although_esaw_lists_it_no_more() -> (
    None
):
    scene = ImportScene()
    scene.kube.put(an_ended_event(1, Phase.SUCCEEDED, "Recorded"))
    scene.finds("anna", numbered(1))
    await advance_until_killed(scene, writes=2)
    (event,) = scene.events()
    assert (event.status.reason, "counterfoil.dev/import" in event.metadata.labels) == ("Recorded", True)
    scene.finds("anna")
    await scene.advance()
    assert [each.status.reason for each in scene.unfinished()] == ["FoundByImport"]
    status = await scene.complete()
    assert (status.archived, status.known, status.reopened) == (1, 1, 1)


async def test_an_event_that_is_changed_while_an_import_starts_it_still_starts() -> None:
    scene = ImportScene()
    event = an_ended_event(1, Phase.SUCCEEDED, "Recorded")
    scene.kube.put(event)
    scene.finds("anna", numbered(1))
    counted = {"status": {"deliveries": 2}}
    # The first status is the Import's own.
    patches: list[str] = []
    patch_status = scene.kube.patch_status

    async def after_a_delivery(kind: type[Resource], name: str, *given: Any, **named: Any) -> Any:
        if kind is EnvelopeEvent and not patches:
            patches.append(name)
            scene.kube.edit(EnvelopeEvent, event.name, counted)
        return await patch_status(kind, name, *given, **named)

    with patch.object(scene.kube, "patch_status", after_a_delivery):
        await scene.advance()
    status = scene.status_now
    assert (len(scene.unfinished()), status.known, status.reopened) == (1, 1, 1)
    assert (await scene.complete()).archived == 1


NOT_SHOWN = Attempt(
    phase=Phase.VALIDATING,
    start_time=BEFORE,
    duration_seconds=1,
    outcome=AttemptOutcome.FAIL,
    reason="EnvelopeNotFound",
)
"""The last attempt of an event whose envelope eSAW did not show."""


@pytest.mark.parametrize("is_listed_first", [False, True])
async def test_a_skip_after_envelope_not_found_is_kept_once_a_search_lists_the_envelope(
    is_listed_first: bool,
) -> None:
    scene = ImportScene("anna", "bert")
    ended = an_ended_event(1, Phase.FAILED, "EnvelopeNotFound")
    event = replace(ended, status=replace(ended.status, attempt_history=(NOT_SHOWN,)))
    skip = {"phase": "Skipped", "reason": "SkippedByRequest", "skippedTime": BEFORE.isoformat()}
    scene.kube.put(event)
    scene.finds("bert", numbered(1))
    if not is_listed_first:
        scene.kube.edit(EnvelopeEvent, event.name, {"status": skip})
        now = scene.kube.stored(event.name)
        assert removal_time(now, an_organization().spec) is not None, "it may be a forged callback"
    status = await scene.advance()
    scene.kube.edit(EnvelopeEvent, event.name, {"status": skip})
    stored = scene.kube.stored(event.name)
    assert removal_time(stored, an_organization().spec) is None
    assert (stored.status.phase, stored.metadata.labels["counterfoil.dev/listed-by"]) == ("Skipped", "bert")
    assert (status.known, status.reopened, status.skipped) == (1, int(is_listed_first), 0)


async def test_a_dry_run_counts_how_many_events_would_start_again() -> None:
    scene = ImportScene(dryRun=True)
    scene.kube.put(an_ended_event(1, Phase.SUCCEEDED, "Recorded"))
    scene.finds("anna", numbered(1), numbered(2))
    status = await scene.advance()
    assert (status.found, status.known, status.reopened, scene.unfinished()) == (2, 1, 1, [])
    assert "1 of these would start again" in message_of(scene, "Complete")


async def test_a_window_that_was_left_without_room_does_not_look_up_its_envelopes_again() -> None:
    scene = ImportScene(maxUnfinished=1)
    scene.finds("anna", "no-guid", *(numbered(each) for each in range(6)))
    looked_up = Counter[str]()
    get = scene.kube.get

    async def counted(kind: type[Resource], name: str) -> Any:
        looked_up[name] += kind is EnvelopeEvent
        return await get(kind, name)

    with patch.object(scene.kube, "get", counted):
        for _ in range(7):
            await scene.advance()
            scene.finish_all()
        status = await scene.advance()
    assert (status.found, status.known, status.refused, status.archived) == (7, 0, 1, 6)
    assert max(looked_up.values()) <= 2


class Crowd:
    """Imports of several Organizations in a process, each with one window whose list is long."""

    def __init__(self, count: int, bounds: ImportBounds | None = None, **spec: Any) -> None:
        self.scene = ImportScene(bounds=bounds or ImportBounds(long_list=1000))
        scene = self.scene
        scene.kube.objects.pop((Import.PLURAL, NAME))
        self.names = [f"org-{number}" for number in range(count)]
        for number, name in enumerate(self.names):
            scene.cache.organizations.put(an_organization(name))
            scene.put_sender(f"user-{number}", organizationRef={"name": name})
            scene.finds(f"user-{number}", *(numbered(100 * number + each) for each in range(20)))
            imported = an_import(uid=f"uid-{name}", organizationRef={"name": name}, **spec)
            scene.kube.put(replace(imported, metadata=replace(imported.metadata, name=name)))

    def let_archives_hang(self, *names: str, hold_seconds: float) -> list[HangingBackend]:
        """Give each Organization an archive, of which those with these ``names`` do not answer."""
        cache, waiting = self.scene.cache, list[str]()
        backends = {name: HangingBackend(name, waiting) for name in self.names}
        for name, backend in backends.items():
            cache.organizations.put(an_organization(name, version=2, archiveRef={"name": name}))
            cache.archives.put(ready(an_archive(name)))
            if name not in names:
                backend.answers.set()

        async def opened(archive: Archive) -> HangingBackend:
            return backends[archive.name]

        writer = self.scene.runner.report_writer
        self.scene.runner.report_writer = dataclasses.replace(
            writer, open_archive=opened, hold_seconds=hold_seconds
        )
        return [backends[name] for name in names]

    def condition(self, name: str, type_: str = "Ready") -> Condition:
        """A condition of the Import."""
        status = Import.parse(self.scene.kube.objects[Import.PLURAL, name]).status
        found = find_condition(status.conditions, type_)
        assert found is not None
        return found

    def message(self, name: str) -> str:
        """The message of the Import."""
        return self.condition(name).message

    def windows_done(self, name: str) -> int:
        return Import.parse(self.scene.kube.objects[Import.PLURAL, name]).status.windows.done


@pytest.mark.parametrize("turns_of_a_create", [0, 1, 7])
@pytest.mark.parametrize("imports", [1, 2, 4])
async def test_imports_that_run_at_the_same_time_take_half_of_the_quota_together(
    imports: int, turns_of_a_create: int
) -> None:
    """Also if a create was not sent or not answered yet while another Import counts."""
    crowd = Crowd(imports, ImportBounds(quota=24))
    scene, create = crowd.scene, crowd.scene.kube.create

    async def slow(kind: type[Resource], body: Mapping[str, Any]) -> Any:
        await turns(turns_of_a_create)
        stored = await create(kind, body)
        await turns(turns_of_a_create)
        return stored

    with patch.object(scene.kube, "create", slow):
        await asyncio.gather(*(scene.runner.advance(name) for name in crowd.names))
    assert len(scene.events()) == 12
    assert {crowd.condition(name).reason for name in crowd.names} == {"ImportCeiling"}


async def test_callbacks_that_arrive_while_imports_run_lower_what_these_may_create() -> None:
    crowd = Crowd(2, ImportBounds(quota=40))
    scene, create, minutes = crowd.scene, crowd.scene.kube.create, 0

    async def slow(kind: type[Resource], body: Mapping[str, Any]) -> Any:
        nonlocal minutes
        minutes += 1
        scene.clock.advance(minutes=1)
        scene.kube.put(an_event(numbered(1000 + minutes)).build())
        return await create(kind, body)

    with patch.object(scene.kube, "create", slow):
        await asyncio.gather(*(scene.runner.advance(name) for name in crowd.names))
    # With as many callbacks as imported events, a third of the quota is half of what callbacks leave.
    assert len(scene.events()) in (26, 27, 28)


async def test_a_window_whose_events_exist_needs_no_place_in_the_quota() -> None:
    """Else one that just fits would not end if its process was ended before that."""
    scene = ImportScene(bounds=ImportBounds(quota=10))
    scene.finds("anna", *(numbered(each) for each in range(5)))
    await advance_until_killed(scene, writes=1)
    assert (len(scene.events()), scene.status_now.found) == (5, 0)
    assert (await scene.complete()).archived == 5


def too_long_window(*, quota: int = 10, listed: int = 8, **spec: Any) -> ImportScene:
    """An Import with a window that lists more envelopes than all Imports may have events."""
    scene = ImportScene(bounds=ImportBounds(quota=quota), **spec)
    scene.finds("anna", *(numbered(each) for each in range(listed)))
    scene.finding.sent = {numbered(each): NOON - timedelta(days=1, hours=-each) for each in range(listed)}
    return scene


async def pass_days(scene: ImportScene) -> None:
    """Let events end, and be removed once no Import has to count them."""
    for _ in range(5):
        for name in [name for plural, name in scene.kube.objects if plural == Import.PLURAL]:
            await scene.runner.advance(name)
        scene.finish_all()
        imports = [
            Import.parse(raw) for (plural, _), raw in scene.kube.objects.items() if plural == Import.PLURAL
        ]
        for event in scene.events():
            window = event.metadata.labels.get("counterfoil.dev/import-window", "")
            if all(is_counted(imported, window) for imported in imports):
                del scene.kube.objects[EnvelopeEvent.PLURAL, event.name]
        scene.clock.advance(hours=24)


async def test_a_window_that_never_has_room_names_the_quota_that_it_needs() -> None:
    """No event of it is removed before it is counted, so a promise that room comes would be wrong."""
    scene = too_long_window()
    await pass_days(scene)
    assert scene.condition("Ready") == ("False", "ImportCeiling")
    assert scene.condition("Stalled")[0] == "True"
    assert message_of(scene, "Ready") == (
        "The Import waits: the quota of the namespace is 10 EnvelopeEvents, and Imports may have 5 of them. "
        "5 are of windows that are not searched to their end (5 of Import/old-stock), and stay until then. "
        "The window of Sender/anna from 2026-06-29 to 2026-07-01 lacks 3 events. Raise "
        "floodControl.quota.envelopeEvents of the chart to 16 or more. Or delete one of these Imports, and "
        "create others with shorter spans: its finished events are then removed after spec.ttl of their "
        "Organization."
    )
    scene.bounds = ImportBounds(quota=15)
    scene.runner = scene.new_runner()
    await pass_days(scene)
    assert scene.condition("Complete")[0] == "False"
    scene.bounds = ImportBounds(quota=16)
    scene.runner = scene.new_runner()
    await pass_days(scene)
    assert (scene.status_now.archived, scene.condition("Complete")[0]) == (8, "True")


async def test_the_next_process_continues_an_import_that_waited_for_its_part_of_the_quota() -> None:
    scene = ImportScene(bounds=ImportBounds(quota=8))
    others = [
        an_event(numbered(1000 + each)).archived().in_phase(Phase.SUCCEEDED).build() for each in range(4)
    ]
    for each in others:
        scene.kube.put(each)
    scene.finds("anna", *(numbered(each) for each in range(4)))
    await scene.advance()
    assert scene.condition("Ready") == ("False", "ImportCeiling")
    for each in others:
        del scene.kube.objects[EnvelopeEvent.PLURAL, each.name]
    await scene.advance()
    assert len(scene.events()) == 2, "the pause of the first process is not over"
    scene.runner = scene.new_runner()
    await scene.advance()
    assert scene.condition("Ready") == ("False", "ImportRunning")
    assert len(scene.events()) == 4


async def test_the_next_process_continues_an_import_that_waited_for_room() -> None:
    scene = ImportScene(maxUnfinished=2)
    scene.finds("anna", *(numbered(each) for each in range(4)))
    await scene.advance()
    assert (len(scene.events()), scene.condition("Ready")) == (2, ("False", "ImportRunning"))
    scene.finish_all()
    scene.runner = scene.new_runner()
    await scene.advance()
    assert len(scene.events()) == 4
    status = await scene.complete()
    assert (status.found, status.known, status.archived) == (4, 0, 4)


async def test_a_window_that_never_has_room_is_imported_by_others_with_shorter_spans() -> None:
    scene = too_long_window()
    sent = scene.finding.sent
    sent.update({each: NOON - timedelta(days=1 + number % 2) for number, each in enumerate(sent)})
    await pass_days(scene)
    scene.kube.objects.pop((Import.PLURAL, NAME))
    await pass_days(scene)
    archived = 0
    for name in ("first", "second"):
        day = f"{NOON - timedelta(days=1 + (name == 'second')):%Y-%m-%d}"
        shorter = an_import(uid=f"uid-{name}", **{"from": day, "until": day})
        scene.kube.put(replace(shorter, metadata=replace(shorter.metadata, name=name)))
        await pass_days(scene)
        archived += Import.parse(scene.kube.objects[Import.PLURAL, name]).status.archived
    assert archived == 8


async def test_envelopes_with_an_event_of_a_callback_do_not_lack_one() -> None:
    scene = too_long_window()
    scene.kube.put(an_event(numbered(7)).archived().in_phase(Phase.SUCCEEDED).build())
    await scene.advance()
    assert "lacks 3 events" in message_of(scene, "Ready")
    assert "to 15 or more" in message_of(scene, "Ready")


async def test_a_window_that_lacks_no_event_any_more_ends_without_room() -> None:
    scene = too_long_window(listed=6)
    scene.finding.finds[key_of("anna")][EnvelopeStatus.COMPLETED].append("no-guid")
    await scene.advance()
    assert "lacks 1 events" in message_of(scene, "Ready")
    scene.kube.put(an_event(numbered(5)).build())
    scene.clock.advance(hours=1)
    await scene.advance()
    assert (scene.status_now.found, scene.status_now.known, scene.status_now.refused) == (7, 1, 1)
    assert scene.condition("Ready") == ("False", "ImportRunning")


async def test_windows_of_several_imports_that_hold_all_room_are_named() -> None:
    crowd = Crowd(2, ImportBounds(quota=20))
    await asyncio.gather(*(crowd.scene.runner.advance(name) for name in crowd.names))
    crowd.scene.finish_all()
    crowd.scene.clock.advance(hours=1)
    for name in crowd.names:
        await crowd.scene.runner.advance(name)
        assert "5 of Import/org-0, 5 of Import/org-1" in crowd.message(name)
        assert "lacks 15 events" in crowd.message(name)


async def test_an_import_that_waits_for_the_removal_of_counted_events_names_it() -> None:
    scene = too_long_window(listed=4)
    scene.finding.sent[numbered(0)] = scene.finding.sent[numbered(1)] = NOON - timedelta(days=8)
    scene.bounds = ImportBounds(quota=6)
    scene.runner = scene.new_runner()
    await scene.advance()
    scene.finish_all()
    scene.clock.advance(hours=1)
    await scene.advance()
    assert "Finished events are removed after spec.ttl" in message_of(scene, "Ready")
    assert "or more" not in message_of(scene, "Ready")
    await pass_days(scene)
    assert (scene.status_now.archived, scene.condition("Complete")[0]) == (4, "True")


async def test_two_imports_have_a_long_list_in_memory_and_a_third_one_says_that_it_waits() -> None:
    crowd = Crowd(3)
    runner = crowd.scene.runner
    hung, go_on = list[str](), asyncio.Event()
    with_list = runner.report_writer.with_list

    async def hanging(writer: object, imported: Import, *rest: Any) -> Any:
        hung.append(imported.organization)
        await go_on.wait()
        return await with_list(imported, *rest)

    with patch.object(type(runner.report_writer), "with_list", hanging):
        async with asyncio.TaskGroup() as tasks:
            for name in crowd.names:
                tasks.create_task(runner.advance(name))
            await turns(3000)
            assert hung == ["org-0", "org-1"]
            assert "others come first" in crowd.message("org-2")
            go_on.set()
    assert [crowd.windows_done(each) for each in crowd.names] == [5, 5, 5]
    assert crowd.message("org-2") == "The Import continues automatically."
    assert not runner.long_lists.has_waiting


async def test_a_long_list_that_its_archive_does_not_take_leaves_its_memory_to_others() -> None:
    crowd = Crowd(3)
    scene = crowd.scene
    scene.opened = RefusingReports("ArchiveDenied")
    for name in crowd.names[:2]:
        await scene.runner.advance(name)
    scene.opened = None
    task = asyncio.create_task(scene.runner.advance("org-2"))
    await turns(3000)
    assert not task.done()
    await scene.run_for(1, scene.runner)
    async with asyncio.timeout(5):
        await task
    assert crowd.windows_done("org-2") == 5


async def test_imports_with_short_lists_search_beside_long_ones() -> None:
    crowd = Crowd(3)
    crowd.scene.finds("user-2", numbered(201))
    for _ in range(2):
        assert crowd.scene.runner.long_lists.take("others")
    async with asyncio.timeout(5):
        await crowd.scene.runner.advance("org-2")
    assert crowd.windows_done("org-2") == 5


async def test_a_search_with_a_long_list_that_lasts_leaves_its_memory_to_others() -> None:
    crowd = Crowd(1)
    runner = crowd.scene.runner
    assert runner.long_lists.take("others")
    create = crowd.scene.kube.create
    others = list[asyncio.Task[None]]()

    async def slow(kind: type[Resource], body: Mapping[str, Any]) -> Any:
        if kind is EnvelopeEvent and runner.long_lists.has_waiting:
            crowd.scene.clock.advance(hours=2)
        return await create(kind, body)

    async def other() -> None:
        async with runner.long_lists.slot("third"):
            assert crowd.windows_done("org-0") == 0

    async def creating(kind: type[Resource], body: Mapping[str, Any]) -> Any:
        if kind is EnvelopeEvent and len(crowd.scene.events()) == 10:
            others.append(asyncio.create_task(other()))
            await turns()
        return await slow(kind, body)

    with patch.object(crowd.scene.kube, "create", creating):
        async with asyncio.timeout(5):
            await runner.advance("org-0")
            await asyncio.gather(*others)
    assert crowd.windows_done("org-0") == 5
    assert len(crowd.scene.events()) == 20


async def test_an_import_that_waits_for_a_list_of_the_same_organization_names_no_other_one() -> None:
    crowd = Crowd(1)
    runner = crowd.scene.runner
    for _ in range(LONG_LISTS):
        assert runner.long_lists.take("org-0")
    task = asyncio.create_task(runner.advance("org-0"))
    await turns(3000)
    assert "others come first" in crowd.message("org-0")
    assert "Organization" not in crowd.message("org-0")
    runner.long_lists.release("org-0")
    await task


async def test_archives_that_take_long_lists_slowly_leave_their_memory_to_others() -> None:
    crowd = Crowd(3)
    slow = crowd.let_archives_hang("org-0", "org-1", hold_seconds=0.05)
    tasks = [asyncio.create_task(crowd.scene.runner.advance(name)) for name in crowd.names]
    async with asyncio.timeout(5):
        await tasks[2]
    assert crowd.windows_done("org-2") == 5
    for backend in slow:
        backend.answers.set()
    await asyncio.gather(*tasks)
    # The other one continues when nobody waits any more.
    given_up = [name for name in crowd.names if crowd.windows_done(name) == 0]
    assert given_up
    for name in given_up:
        assert crowd.condition(name).reason == "ArchiveUnresponsive"
        assert "too slowly, while other Imports waited" in crowd.message(name)
    crowd.scene.clock.advance(seconds=FAILURE_SECONDS)
    for name in crowd.names:
        await crowd.scene.runner.advance(name)
    assert [crowd.windows_done(each) for each in crowd.names] == [5, 5, 5]
    assert len(crowd.scene.events()) == 60


async def test_an_archive_that_never_takes_a_long_list_in_time_is_the_problem_of_the_import() -> None:
    """Also while the Import waits for the memory of its list."""
    crowd = Crowd(1)
    crowd.let_archives_hang("org-0", hold_seconds=0.01)
    runner, clock = crowd.scene.runner, crowd.scene.clock
    assert runner.long_lists.take("others")
    for _ in range(REPORT_ATTEMPTS + 1):
        task = asyncio.create_task(runner.advance("org-0"))
        await turns(3000)
        async with asyncio.timeout(5), runner.long_lists.slot("third"):
            pass
        await task
        clock.advance(seconds=FAILURE_SECONDS)
    stalled = crowd.condition("org-0", "Stalled")
    assert (stalled.status, stalled.reason) == ("True", "ImportReportRefused")
    assert runner.long_lists.take("third")
    task = asyncio.create_task(runner.advance("org-0"))
    await turns(3000)
    assert runner.long_lists.has_waiting
    assert crowd.condition("org-0", "Stalled") == stalled
    runner.long_lists.release("third")
    await turns(3000)
    assert crowd.condition("org-0", "Stalled") == stalled
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_organization_that_changes_while_its_import_waits_has_its_new_action_for_the_rest() -> None:
    crowd = Crowd(1)
    scene, runner = crowd.scene, crowd.scene.runner
    for _ in range(LONG_LISTS):
        assert runner.long_lists.take("others")
    task = asyncio.create_task(runner.advance("org-0"))
    await turns(3000)
    before = {each.name for each in scene.events()}
    assert runner.long_lists.has_waiting
    actions = [{"action": "signed", "handling": "Archive"}]
    scene.cache.organizations.put(an_organization("org-0", version=2, generation=2, actions=actions))
    runner.long_lists.release("others")
    await task
    further = [each.spec.action for each in scene.events() if each.name not in before]
    assert set(further) == {"signed"}


async def test_memory_that_becomes_free_while_an_import_says_that_it_waits_is_taken() -> None:
    crowd = Crowd(3)
    runner, kube = crowd.scene.runner, crowd.scene.kube
    for _ in range(LONG_LISTS):
        assert runner.long_lists.take("others")
    patch_status, said = kube.patch_status, list[str]()

    async def slow(kind: type[Resource], name: str, changes: Any, **rest: Any) -> Any:
        if kind is Import and "others come first" in str(changes):
            said.append(name)
            if len(said) == 1:
                for _ in range(LONG_LISTS):
                    runner.long_lists.release("others")
        return await patch_status(kind, name, changes, **rest)

    with patch.object(kube, "patch_status", slow):
        async with asyncio.timeout(5):
            await asyncio.gather(*(runner.advance(name) for name in crowd.names))
    assert said
    assert [crowd.windows_done(each) for each in crowd.names] == [5, 5, 5]


ANSWER = timedelta(seconds=100)
"""The time of an answer of eSAW that is just in time."""


class RepeatingEsaw:
    """Answers slowly, with envelopes that it has listed before, so that each window is split."""

    def __init__(self, crowd: Crowd) -> None:
        self.clock = crowd.scene.clock
        self.requests = 0
        self.after: dict[int, Callable[[], Any]] = {}
        """Called during an answer, by its number."""

    async def find(self, *_: Any, **__: Any) -> tuple[FoundEnvelope, ...]:
        self.requests += 1
        if (happens := self.after.get(self.requests)) is not None:
            happens()
            await turns()
        if self.requests == 1:
            return tuple(FoundEnvelope(id=numbered(each)) for each in range(2 * TRUSTED_HITS))
        self.clock.advance(seconds=ANSWER.total_seconds())
        # Another half each time: with the same one, shorter windows would bring nothing.
        ids = [numbered((self.requests + each) % (2 * TRUSTED_HITS)) for each in range(TRUSTED_HITS)]
        return tuple(FoundEnvelope(id=each) for each in ids * 2)


async def test_a_search_in_which_esaw_repeats_envelopes_slowly_leaves_its_memory_to_others() -> None:
    crowd = Crowd(1)
    runner, clock = crowd.scene.runner, crowd.scene.clock
    esaw, got, others = RepeatingEsaw(crowd), list[datetime](), list[asyncio.Task[None]]()
    assert runner.long_lists.take("others")

    async def other() -> None:
        async with runner.long_lists.slot("third"):
            got.append(clock.now())

    esaw.after[2] = lambda: others.append(asyncio.create_task(other()))
    begun = clock.now()
    with patch.object(FakeEsawUser, "find", esaw.find):
        task = asyncio.create_task(runner.advance("org-0"))
        while not got:
            await turns(500)
    assert got[0] - begun <= timedelta(seconds=LONG_LIST_SECONDS) + 2 * ANSWER
    task.cancel()
    await asyncio.gather(task, *others, return_exceptions=True)


def delete(crowd: Crowd) -> None:
    crowd.scene.kube.objects.pop((Import.PLURAL, "org-0"))


def suspend(crowd: Crowd) -> None:
    crowd.scene.kube.edit(Import, "org-0", {"spec": {"suspend": True}})


def suspend_organization(crowd: Crowd) -> None:
    crowd.scene.cache.organizations.put(an_organization("org-0", version=2, generation=2, suspend=True))


def suspend_sender(crowd: Crowd) -> None:
    crowd.scene.cache.senders.put(
        a_sender("user-0", version=2, organizationRef={"name": "org-0"}, suspend=True)
    )


def replace_sender(crowd: Crowd) -> None:
    """Delete the Sender, and create another one of this name with the same key."""
    known = crowd.scene.cache.senders.get("user-0")
    assert known is not None
    crowd.scene.cache.senders.put(
        replace(known, metadata=replace(known.metadata, uid="another", resource_version="99"))
    )


def replace_organization(crowd: Crowd) -> None:
    known = crowd.scene.cache.organizations.get("org-0")
    assert known is not None
    crowd.scene.cache.organizations.put(
        replace(known, metadata=replace(known.metadata, uid="another", resource_version="99"))
    )


@pytest.mark.parametrize("end", [delete, suspend, suspend_organization, suspend_sender])
async def test_a_search_that_must_end_makes_no_further_request(end: Callable[[Crowd], None]) -> None:
    """Also if eSAW lists no new envelope."""
    crowd = Crowd(1)
    esaw = RepeatingEsaw(crowd)
    esaw.after[5] = partial(end, crowd)
    with patch.object(FakeEsawUser, "find", esaw.find):
        await crowd.scene.runner.advance("org-0")
    assert esaw.requests == 5
    for _ in range(LONG_LISTS):
        assert crowd.scene.runner.long_lists.take("others")


class Batches:
    """An Import with a long list that creates its events in small batches, while another one waits for the
    memory of its list."""

    def __init__(self) -> None:
        self.crowd = Crowd(1, maxUnfinished=8)
        self.scene, self.runner = self.crowd.scene, self.crowd.scene.runner
        assert self.runner.long_lists.take("others")
        self.looked_up = Counter[str]()
        self.got_memory = False
        get = self.scene.kube.get

        async def counted(kind: type[Resource], name: str) -> Any:
            self.looked_up[name] += kind is EnvelopeEvent
            return await get(kind, name)

        patch.object(self.scene.kube, "get", counted).start()

    async def other(self) -> None:
        """Wait for the memory, and keep it."""
        async with self.runner.long_lists.slot("third"):
            self.got_memory = True

    async def begin(self) -> asyncio.Task[None]:
        """Create the first batch; return the task of the other one, which waits."""
        await self.runner.advance("org-0")
        waiting = asyncio.create_task(self.other())
        await turns()
        assert not self.got_memory
        return waiting

    async def pass_time(self, **how_long: float) -> None:
        self.scene.clock.advance(**how_long)
        await self.scene.run_for(1, self.runner)


async def test_a_long_list_without_room_is_kept_for_its_time_although_others_wait() -> None:
    """Else all envelopes of the window would be looked up again for each batch."""
    batches = Batches()
    waiting = await batches.begin()
    for _ in range(5):
        await batches.pass_time(minutes=5)
        batches.scene.finish_all()
        await batches.runner.advance("org-0")
    assert batches.crowd.windows_done("org-0") == 5
    assert len(batches.scene.events()) == 20
    assert max(batches.looked_up.values()) <= 1
    await waiting


async def test_a_long_list_without_room_leaves_its_memory_to_others_after_its_time() -> None:
    batches = Batches()
    waiting = await batches.begin()
    await batches.pass_time(seconds=LONG_LIST_SECONDS - 200)
    assert not batches.got_memory
    await batches.pass_time(seconds=200)
    async with asyncio.timeout(5):
        await waiting


async def test_a_long_list_of_a_suspended_import_leaves_its_memory_to_others() -> None:
    batches = Batches()
    waiting = await batches.begin()
    suspend(batches.crowd)
    await batches.pass_time(seconds=10)
    async with asyncio.timeout(5):
        await waiting


def leave_hours(crowd: Crowd) -> None:
    hours = {"from": "18:00", "to": "06:00", "timeZone": "UTC"}
    crowd.scene.kube.edit(Import, "org-0", {"spec": {"hours": hours}})


async def waiting_for_memory(crowd: Crowd) -> asyncio.Task[None]:
    """Let the first Import wait for the memory of its list, which others have."""
    runner = crowd.scene.runner
    for _ in range(LONG_LISTS):
        assert runner.long_lists.take("others")
    task = asyncio.create_task(runner.advance("org-0"))
    async with asyncio.timeout(5):
        while not runner.long_lists.has_waiting:
            await turns(1)
    return task


def renew_key(crowd: Crowd, number: int) -> str:
    """Store another key of the same user, as each Send with consent does; return it."""
    scene, key = crowd.scene, f"{number:x}" * 66
    scene.finding.finds[key] = scene.finding.finds[key_of("user-0")]
    scene.kube.put_secret("user-0-key", "token", {"token": key.encode()})
    known = a_sender("user-0", version=10**7 + number, organizationRef={"name": "org-0"})
    scene.cache.senders.put(known_to_work(known, key))
    return key


async def test_a_user_who_sends_all_the_time_costs_an_import_no_turn() -> None:
    crowd = Crowd(1)
    task, lists = await waiting_for_memory(crowd), crowd.scene.runner.long_lists
    created = list[int]()

    async def later() -> None:
        async with lists.slot("later"):
            created.append(len(crowd.scene.events()))

    other = asyncio.create_task(later())
    for number in range(3):
        await turns()
        renew_key(crowd, number)
    await turns(300)
    lists.release("others")
    async with asyncio.timeout(5):
        await asyncio.gather(task, other)
    assert created == [20]
    assert crowd.windows_done("org-0") == 5


class AskedEsaw(RepeatingEsaw):
    """Remembers what it was asked, and by which key."""

    def __init__(self, crowd: Crowd) -> None:
        super().__init__(crowd)
        self.crowd = crowd
        self.keys: list[str] = []
        self.windows: list[tuple[datetime, datetime]] = []
        self.refused = ""
        """The key that is refused."""

    async def find(self, user: FakeEsawUser, *, start: datetime, end: datetime, **_: Any) -> Any:
        self.keys.append(user.token.reveal())
        self.windows.append((start, end))
        answer = await super().find()
        if self.keys[-1] == self.refused:
            raise HttpStatusError(401, "ERR0002")
        return answer

    async def ask(self, requests: int) -> None:
        """Work on the Import until this number of requests was made."""

        async def find(user: FakeEsawUser, **asked: Any) -> Any:
            return await self.find(user, **asked)

        with patch.object(FakeEsawUser, "find", find):
            task = asyncio.create_task(self.crowd.scene.runner.advance("org-0"))
            while self.requests < requests and not task.done():
                await turns(1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("change", [replace_sender, replace_organization])
async def test_a_window_is_searched_again_if_its_sender_or_organization_was_replaced(
    change: Callable[[Crowd], None],
) -> None:
    """Another Sender of this name is another user, also if the generation is the same."""
    crowd = Crowd(1)
    esaw = AskedEsaw(crowd)
    esaw.after[5] = partial(change, crowd)
    await esaw.ask(6)
    assert esaw.windows[5] == esaw.windows[0] != esaw.windows[4]


async def test_a_search_continues_with_its_key_when_there_is_a_new_one() -> None:
    crowd = Crowd(1)
    esaw = AskedEsaw(crowd)
    esaw.after[5] = lambda: renew_key(crowd, 7)
    await esaw.ask(6)
    assert esaw.windows[5] != esaw.windows[0]
    assert set(esaw.keys) == {key_of("user-0")}


async def test_a_window_is_searched_at_once_with_a_new_key_if_the_earlier_one_is_refused() -> None:
    crowd = Crowd(1)
    esaw = AskedEsaw(crowd)

    def replace_key() -> None:
        renew_key(crowd, 7)
        esaw.refused = key_of("user-0")

    esaw.after[5] = replace_key
    await esaw.ask(6)
    assert esaw.keys[4:] == [key_of("user-0"), "7" * 66]
    assert esaw.windows[5] == esaw.windows[0]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (delete, None),
        (suspend, "ImportSuspended"),
        (leave_hours, "ImportOutsideHours"),
        (suspend_organization, "OrganizationSuspended"),
        (suspend_sender, "SendersNotSearched"),
    ],
)
async def test_an_import_that_must_end_waits_no_longer_for_memory(
    end: Callable[[Crowd], None], reason: str | None
) -> None:
    """So it does not make others leave their lists either."""
    crowd = Crowd(1)
    task, lists = await waiting_for_memory(crowd), crowd.scene.runner.long_lists
    events, begun = len(crowd.scene.events()), crowd.scene.clock.now()
    end(crowd)
    async with asyncio.timeout(5):
        await task
    assert crowd.scene.clock.now() - begun <= timedelta(seconds=2 * ROOM_SECONDS)
    assert (lists.has_waiting, len(crowd.scene.events())) == (False, events)
    assert reason is None or crowd.condition("org-0").reason == reason
    lists.release("others")
    assert lists.take("third")
    lists.release("third")


async def test_an_import_that_waits_for_memory_keeps_its_turn_while_it_looks_at_its_objects() -> None:
    crowd = Crowd(1)
    task, lists = await waiting_for_memory(crowd), crowd.scene.runner.long_lists
    got_later, begun = asyncio.Event(), crowd.scene.clock.now()

    async def later() -> None:
        async with lists.slot("later"):
            got_later.set()
            assert crowd.windows_done("org-0") == 5

    waiting = asyncio.create_task(later())
    async with asyncio.timeout(5):
        while crowd.scene.clock.now() - begun < timedelta(seconds=20 * ROOM_SECONDS):
            await turns(1)
    assert not got_later.is_set()
    lists.release("others")
    async with asyncio.timeout(5):
        await task
        await waiting
