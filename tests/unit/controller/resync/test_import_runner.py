"""Imports: old envelopes become events, once each, and their results are counted."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import FunctionType, ModuleType
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from controller.resync.import_progress import windows_of
from controller.resync.import_runner import (
    FAILURE_SECONDS,
    MAX_CREATE_PAUSE_SECONDS,
    ROOM_SECONDS,
    ImportBounds,
)
from counterfoil.esaw import ApiToken, EsawUnreachable, EsawUserClient, HttpStatusError
from counterfoil.esaw.errors import EsawError, RateLimited, ResponseInvalid, UnexpectedRedirect
from counterfoil.i18n.reasons import CATALOGUE
from counterfoil.kube.errors import Conflict, Unavailable
from counterfoil.resources import (
    IMPORT_WINDOW_LABEL,
    SENDER_LABEL,
    EnvelopeEvent,
    EnvelopeStatus,
    Import,
    ImportStatus,
    Language,
    Organization,
    Origin,
    Phase,
    Sender,
    find_condition,
)
from counterfoil.resources.imports import MAX_SENDERS, ImportSample
from counterfoil.resources.naming import EnvelopeId
from tests.support.builders import (
    DORA,
    ENVELOPE,
    NOON,
    a_sender,
    an_event,
    an_organization,
    created_again,
    known_to_work,
    ready,
)
from tests.support.fakes.finding_esaw import key_of, numbered
from tests.support.fakes.reconcile_context import an_archive
from tests.support.scenes.imports import NAME, ImportScene, an_import

SECOND = EnvelopeId("11111111-4b1d-4c58-9a57-6d1f0a3b2c4d")


async def test_an_old_envelope_becomes_an_event_of_its_sender() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    scene.finding.sent[ENVELOPE] = NOON - timedelta(days=20)
    status = await scene.advance()
    (event,) = scene.events()
    assert (event.spec.origin, event.metadata.labels[SENDER_LABEL]) == (Origin.IMPORT, "anna")
    assert (status.found, status.known, len(status.open_windows)) == (1, 0, 1)
    assert event.metadata.labels[IMPORT_WINDOW_LABEL] == status.open_windows[0].id
    assert scene.condition("Complete") == ("False", "ImportRunning")
    assert scene.condition("Stalled")[0] == "False"


async def test_an_import_is_complete_when_all_its_events_are_finished_and_counted() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE, SECOND)
    scene.finding.sent[ENVELOPE] = NOON - timedelta(days=20)
    status = await scene.complete()
    assert (status.archived, status.failed, status.bytes) == (2, 0, 40)
    assert status.windows.done == status.windows.total == 5
    assert status.completion_time == NOON
    assert [scene.condition(each) for each in ("Complete", "Ready")] == [("True", "ImportComplete")] * 2


async def test_failed_and_skipped_events_are_counted_apart() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    scene.finish_all(Phase.FAILED)
    scene.finds("anna", SECOND)
    status = await scene.advance()
    assert (status.archived, status.failed, status.skipped) == (0, 1, 0)


async def test_the_span_is_searched_to_its_ends_and_nowhere_else() -> None:
    scene = ImportScene(until="2026-06-10")
    inside, before, after = (numbered(each) for each in range(3))
    scene.finds("anna", inside, before, after)
    scene.finding.sent = {
        inside: datetime(2026, 6, 10, 23, 59, tzinfo=UTC),
        before: datetime(2026, 5, 31, 23, 59, tzinfo=UTC),
        after: datetime(2026, 6, 11, 0, 1, tzinfo=UTC),
    }
    await scene.advance()
    assert [each.spec.envelope_id for each in scene.events()] == [inside]


async def test_a_span_to_the_end_of_the_calendar_ends_with_the_creation() -> None:
    scene = ImportScene(until="9999-12-31")
    scene.finds("anna", ENVELOPE)
    scene.finding.sent[ENVELOPE] = NOON - timedelta(days=20)
    status = await scene.complete()
    assert (status.found, status.archived) == (1, 1)
    assert scene.condition("Complete") == ("True", "ImportComplete")


async def test_an_import_whose_work_meets_an_internal_error_is_stalled_until_the_work_succeeds() -> None:
    scene = ImportScene()
    scene.finding.problems[key_of("anna")] = LookupError("a mistake of Counterfoil")
    await scene.run_for(2)
    assert scene.condition("Ready") == ("False", "ImportFailing")
    assert scene.condition("Stalled") == ("True", "ImportFailing")
    assert "LookupError" in scene.message("Stalled")
    scene.finding.problems.clear()
    await scene.run_for(2)
    assert scene.condition("Complete") == ("True", "ImportComplete")
    assert scene.condition("Stalled")[0] == "False"


async def test_an_import_is_stalled_since_the_first_of_its_internal_errors() -> None:
    """Each try begins as any other. The alert and the mail wait until the condition is old enough."""
    scene = ImportScene()
    scene.finding.problems[key_of("anna")] = LookupError("a mistake of Counterfoil")
    await scene.run_for(1, scene.runner)
    stalled = find_condition(scene.status_now.conditions, "Stalled")
    await scene.run_for(5, scene.runner)
    assert scene.condition("Stalled") == ("True", "ImportFailing")
    assert find_condition(scene.status_now.conditions, "Stalled") == stalled


async def test_an_import_that_continues_after_an_internal_error_is_stalled_no_more() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    scene.finding.problems[key_of("anna")] = LookupError("a mistake of Counterfoil")
    await scene.run_for(2, scene.runner)
    scene.finding.problems.clear()
    await scene.advance()
    assert scene.condition("Ready") == ("False", "ImportRunning")
    assert scene.condition("Stalled")[0] == "False"


async def test_an_envelope_with_an_event_is_known_and_gets_no_second_one() -> None:
    scene = ImportScene()
    scene.kube.put(an_event().archived().in_phase(Phase.SUCCEEDED).build())
    scene.finds("anna", ENVELOPE)
    status = await scene.advance()
    assert (status.found, status.known, status.archived) == (1, 1, 0)
    assert len(scene.events()) == 1
    assert scene.condition("Complete")[0] == "True"


async def test_the_events_of_an_earlier_import_of_the_same_name_are_known() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    await scene.complete()
    scene.kube.put(an_import(uid="another"))
    status = await scene.advance()
    assert (status.found, status.known, status.archived) == (1, 1, 0)


async def test_an_envelope_that_two_senders_see_is_counted_once() -> None:
    scene = ImportScene("anna", "bert")
    scene.finds("anna", ENVELOPE)
    scene.finds("bert", ENVELOPE)
    status = await scene.complete()
    assert (status.found, status.known, status.archived) == (1, 0, 1)


@pytest.mark.parametrize("writes", range(1, 12))
async def test_an_import_that_is_killed_at_any_write_counts_each_envelope_once(writes: int) -> None:
    scene = ImportScene("anna", "bert")
    scene.finds("anna", *(numbered(each) for each in range(3)))
    scene.finds("bert", *(numbered(each) for each in range(3, 6)))
    done = 0

    def one_more() -> None:
        nonlocal done
        done += 1
        if done == writes:
            raise asyncio.CancelledError
        scene.kube.just_before("create", one_more)
        scene.kube.just_before("patch_status", one_more)

    scene.kube.just_before("create", one_more)
    scene.kube.just_before("patch_status", one_more)
    with pytest.raises(asyncio.CancelledError):
        await scene.complete()
    scene.kube._before.clear()
    scene.runner = scene.new_runner()
    await scene.complete()
    status = scene.status_now
    assert (status.found, status.known, status.archived) == (6, 0, 6)
    assert len(scene.events()) == 6


async def test_an_envelope_that_was_deleted_in_esaw_before_its_window_was_counted_counts() -> None:
    scene = ImportScene(maxUnfinished=1)
    scene.finds("anna", ENVELOPE, SECOND)
    scene.kube.just_before("create", lambda: scene.kube.edit(Import, NAME, {"spec": {"suspend": True}}))
    await scene.advance()
    scene.finish_all()
    scene.finds("anna", SECOND)
    scene.kube.edit(Import, NAME, {"spec": {"suspend": False, "maxUnfinished": 5}})
    status = await scene.complete()
    assert (status.found, status.known, status.archived) == (2, 0, 2)
    assert [each.found for each in status.groups] == [2]


async def test_a_lost_write_of_the_progress_is_repeated_without_a_second_event() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    scene.kube.lost["patch_status"] = Unavailable(0, "NoAnswer", "no answer")
    with pytest.raises(Unavailable):
        await scene.advance()
    status = await scene.complete()
    assert (status.found, status.archived) == (1, 1)


async def test_a_conflict_with_a_person_loses_no_progress() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    scene.kube.fail("patch_status", Conflict(409, "Conflict", "changed"))
    await scene.advance()
    status = await scene.complete()
    assert (status.found, status.archived) == (1, 1)


async def test_there_are_never_more_unfinished_events_than_the_import_allows() -> None:
    scene = ImportScene(maxUnfinished=3)
    scene.finds("anna", *(numbered(each) for each in range(10)))
    task = asyncio.create_task(scene.runner.advance(NAME))
    most = 0
    while not task.done():
        await asyncio.sleep(0)
        most = max(most, len(scene.unfinished()))
        if len(scene.unfinished()) == 3:
            scene.finish_all()
    await task
    assert (most, len(scene.events())) == (3, 10)


async def test_a_lower_maximum_of_unfinished_events_counts_within_seconds() -> None:
    """Also while the Import has room by the maximum of before."""
    scene = ImportScene(maxUnfinished=100)
    scene.finds("anna", *(numbered(each) for each in range(100)))
    lowered_after, creates = 5, 0

    def a_second_later() -> None:
        nonlocal creates
        creates += 1
        scene.clock.advance(seconds=1)
        if creates == lowered_after:
            scene.kube.edit(Import, NAME, {"spec": {"maxUnfinished": 2}})
        scene.kube.just_before("create", a_second_later)

    scene.kube.just_before("create", a_second_later)
    await scene.advance()
    assert len(scene.unfinished()) <= lowered_after + ROOM_SECONDS
    scene.finish_all()
    await scene.advance()
    assert len(scene.unfinished()) == 2


@pytest.mark.parametrize(("seconds", "pause"), [(0.25, 0.25), (8.0, MAX_CREATE_PAUSE_SECONDS)])
async def test_an_import_leaves_the_api_server_to_others_as_long_as_each_create_took(
    seconds: float, pause: float
) -> None:
    scene, begun = ImportScene(maxUnfinished=5), list[float]()

    def take_time() -> None:
        begun.append(scene.clock.monotonic())
        scene.clock.advance(seconds=seconds)

    scene.kube.just_before("create", take_time)
    scene.kube.just_before("create", take_time)
    scene.finds("anna", ENVELOPE, SECOND)
    await scene.advance()
    assert begun[1] - begun[0] == seconds + pause


async def test_a_suspended_import_asks_esaw_for_nothing() -> None:
    scene = ImportScene(suspend=True)
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    assert scene.finding.spans == []
    assert scene.condition("Ready") == ("False", "ImportSuspended")


async def test_a_suspension_takes_effect_within_a_window() -> None:
    scene = ImportScene(maxUnfinished=1)
    scene.finds("anna", ENVELOPE, SECOND)
    scene.kube.just_before("create", lambda: scene.kube.edit(Import, NAME, {"spec": {"suspend": True}}))
    await scene.advance()
    assert len(scene.events()) == 1
    scene.kube.edit(Import, NAME, {"spec": {"suspend": False, "maxUnfinished": 5}})
    status = await scene.complete()
    assert (status.found, status.archived) == (2, 2)
    # The second search of one window is no other window with the same envelopes.
    assert status.senders[0].reason is None


async def test_a_deleted_import_ends_within_a_window() -> None:
    scene = ImportScene(maxUnfinished=1)
    scene.finds("anna", ENVELOPE, SECOND)

    def delete() -> None:
        del scene.kube.objects[Import.PLURAL, NAME]

    scene.kube.just_before("create", delete)
    await scene.runner.advance(NAME)
    assert len(scene.events()) == 1


async def test_a_sender_without_a_key_is_named_and_continues_after_the_consent() -> None:
    scene = ImportScene("anna")
    scene.put_sender("bert", authorized="False")
    scene.finds("anna", ENVELOPE)
    scene.finds("bert", SECOND)
    await scene.complete()
    assert scene.condition("Complete") == ("False", "SendersNotSearched")
    assert scene.condition("Stalled")[0] == "True"
    anna, bert = scene.status_now.senders
    assert (anna.searched, bert.searched, bert.reason) == (True, False, "Tested")
    scene.put_sender("bert", version=2)
    status = await scene.complete()
    assert (status.archived, scene.condition("Complete")[0]) == (2, "True")


async def test_a_listed_sender_of_another_organization_is_not_said_to_be_missing() -> None:
    scene = ImportScene("anna", senderRefs=[{"name": "anna"}, {"name": "bert"}])
    scene.put_sender("bert", organization="globex")
    scene.finds("bert", ENVELOPE)
    status = await scene.complete()
    assert (status.found, scene.condition("Ready")) == (0, ("False", "SendersNotSearched"))
    said = "such as Sender/bert (SenderOfOtherOrganization): Sender/bert belongs to another Organization."
    assert said in scene.message("Ready")
    for language in Language:
        assert "spec.senderRefs" in CATALOGUE["SenderOfOtherOrganization"].localized_text(language).do


async def test_a_listed_sender_that_does_not_exist_is_named_with_its_cause() -> None:
    scene = ImportScene("anna", senderRefs=[{"name": "anna"}, {"name": "nobody"}])
    await scene.complete()
    assert scene.condition("Ready") == ("False", "SendersNotSearched")
    ready = find_condition(scene.status_now.conditions, "Ready")
    assert ready is not None
    assert "such as Sender/nobody (SenderMissing): Sender/nobody does not exist." in ready.message
    for language in Language:
        text = CATALOGUE["SendersNotSearched"].localized_text(language).do
        assert text.index("Sender") < text.index("spec.senderRefs")


async def test_only_the_listed_senders_are_searched() -> None:
    scene = ImportScene("anna", "bert", senderRefs=[{"name": "bert"}])
    scene.finds("anna", ENVELOPE)
    scene.finds("bert", SECOND)
    await scene.advance()
    assert [each.spec.envelope_id for each in scene.events()] == [SECOND]


async def test_an_esaw_that_fails_for_one_sender_costs_no_other() -> None:
    scene = ImportScene("anna", "bert")
    scene.finding.problems[key_of("anna")] = EsawUnreachable("connect")
    scene.finds("anna", ENVELOPE)
    scene.finds("bert", SECOND)
    status = await scene.complete()
    assert status.archived == 1
    assert scene.condition("Complete") == ("False", "ImportRunning")
    del scene.finding.problems[key_of("anna")]
    scene.clock.advance(seconds=FAILURE_SECONDS)
    status = await scene.complete()
    assert (status.archived, scene.condition("Complete")[0]) == (2, "True")


REFUSALS = [
    (HttpStatusError(403, "ERR0001"), "NotPermitted"),
    (HttpStatusError(400, "ERR0002"), "EsawRefused"),
    (HttpStatusError(404), "EsawAnswerUnreadable"),
    (HttpStatusError(403), "EsawAnswerUnreadable"),
    (ResponseInvalid("find", "it is no JSON"), "EsawAnswerUnreadable"),
    (UnexpectedRedirect(302, "login.example"), "EsawRedirects"),
]
"""Errors of a search that only a person can correct, and their reasons."""


@pytest.mark.parametrize(("error", "reason"), REFUSALS)
async def test_a_search_that_only_a_person_can_correct_names_the_reason_and_continues_after_that(
    error: Exception, reason: str
) -> None:
    scene = ImportScene("anna", "bert")
    scene.finding.problems[key_of("anna")] = error
    scene.finds("anna", ENVELOPE)
    scene.finds("bert", SECOND)
    await scene.complete()
    assert scene.condition("Ready") == ("False", "SendersNotSearched")
    assert scene.condition("Stalled")[0] == "True"
    anna = scene.status_now.senders[0]
    assert anna.reason == reason
    assert anna.message
    assert "automatically" not in anna.message
    del scene.finding.problems[key_of("anna")]
    scene.clock.advance(seconds=FAILURE_SECONDS)
    status = await scene.complete()
    assert (status.archived, scene.condition("Complete")[0]) == (2, "True")
    assert scene.condition("Stalled")[0] == "False"
    assert status.senders[0].reason is None


async def test_a_refused_search_is_repeated_less_often_and_at_once_after_a_change_of_the_sender() -> None:
    scene = ImportScene()
    scene.finding.problems[key_of("anna")] = HttpStatusError(403, "ERR0001")
    times = []
    for minute in range(64):
        before = len(scene.finding.spans)
        await scene.advance()
        if len(scene.finding.spans) > before:
            times.append(minute)
        assert scene.condition("Stalled")[0] == "True"
        scene.clock.advance(seconds=60)
    assert times == [0, 1, 3, 7, 15, 31, 63]
    del scene.finding.problems[key_of("anna")]
    await scene.advance()
    assert scene.condition("Ready") == ("False", "SendersNotSearched")
    raw = known_to_work(a_sender("anna", version=2), key_of("anna")).to_dict()
    raw["metadata"]["generation"] += 1
    scene.cache.senders.put(Sender.parse(raw))
    await scene.complete()
    assert scene.condition("Complete")[0] == "True"


async def test_an_import_names_the_ceiling_that_stopped_it_until_it_creates_an_event_again() -> None:
    scene = ImportScene(bounds=ImportBounds(quota=8))
    others = [an_event(numbered(1000 + number)).archived().in_phase(Phase.SUCCEEDED) for number in range(4)]
    for each in others:
        scene.kube.put(each.build())
    scene.finds("anna", *(numbered(each) for each in range(4)))
    await scene.advance()
    since = find_condition(scene.status_now.conditions, "Stalled")
    for _ in range(3):
        scene.clock.advance(seconds=FAILURE_SECONDS)
        await scene.advance()
    assert find_condition(scene.status_now.conditions, "Stalled") == since
    assert scene.condition("Ready") == ("False", "ImportCeiling")
    for each in others:
        del scene.kube.objects[EnvelopeEvent.PLURAL, each.build().name]
    scene.clock.advance(hours=1)
    await scene.advance()
    assert len(scene.events()) == 4
    assert scene.condition("Ready") == ("False", "ImportRunning")
    status = await scene.complete()
    assert (status.found, status.archived) == (4, 4)


@pytest.mark.parametrize("error", [HttpStatusError(500), HttpStatusError(503), EsawUnreachable("connect")])
async def test_a_search_whose_failure_passes_asks_nobody(error: Exception) -> None:
    scene = ImportScene()
    scene.finding.problems[key_of("anna")] = error
    await scene.advance()
    assert scene.condition("Ready") == ("False", "ImportRunning")
    assert scene.condition("Stalled")[0] == "False"
    (anna,) = scene.status_now.senders
    assert "automatically" in (anna.message or "")


async def test_an_archive_that_is_not_ready_pauses_the_import() -> None:
    scene = ImportScene()
    scene.cache.archives.remove("dms")
    scene.cache.archives.put(ready(an_archive(), "False"))
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    assert (scene.finding.spans, scene.events()) == ([], [])
    assert scene.condition("Ready") == ("False", "Tested")


@pytest.mark.parametrize(("is_dry_run", "found"), [(True, 2), (False, 1)])
async def test_only_a_dry_run_counts_an_envelope_twice_that_two_senders_see(
    *, is_dry_run: bool, found: int
) -> None:
    scene = ImportScene("anna", "bert", dryRun=is_dry_run)
    scene.finds("anna", ENVELOPE)
    scene.finds("bert", ENVELOPE)
    status = await scene.advance()
    assert (status.found, sum(each.found for each in status.groups)) == (found, found)


async def test_a_dry_run_counts_by_year_and_status_and_creates_nothing() -> None:
    spec: dict[str, Any] = {"from": "2025-01-01", "dryRun": True}
    scene = ImportScene(organization={"statuses": ["Completed", "Rejected"]}, **spec)
    scene.kube.put(an_event().archived().in_phase(Phase.SUCCEEDED).build())
    scene.finds("anna", ENVELOPE, SECOND)
    scene.finds("anna", numbered(1), status=EnvelopeStatus.REJECTED)
    scene.finding.sent[SECOND] = datetime(2025, 5, 1, tzinfo=UTC)
    status = await scene.advance()
    assert len(scene.events()) == 1
    assert (status.found, status.known) == (3, 1)
    assert [(each.year, each.status, each.found) for each in status.groups] == [
        (2025, "Completed", 1),
        (2026, "Completed", 1),
        (2026, "Rejected", 1),
    ]
    assert scene.condition("Complete") == ("True", "ImportComplete")


async def test_a_dry_run_measures_files_of_envelopes_that_it_would_import() -> None:
    spec: dict[str, Any] = {"from": "2026-06-20", "dryRun": True, "sampleSize": 4}
    scene = ImportScene(**spec)
    known = ENVELOPE
    scene.kube.put(an_event().archived().in_phase(Phase.SUCCEEDED).build())
    newest, oldest = [known, numbered(2), numbered(3), numbered(4)], [numbered(each) for each in range(5, 10)]
    scene.finds("anna", *newest, *oldest)
    for each in oldest:
        scene.finding.sent[each] = NOON - timedelta(days=9)
        scene.finding.files[each] = (5000, 1000)
    status = await scene.advance()
    # Two windows of a week.
    assert scene.finding.listed == [numbered(2), numbered(3), numbered(5), numbered(6)]
    assert status.sample == ImportSample(envelopes=4, files=6, bytes=2 * 1000 + 2 * 6000)
    assert len(scene.events()) == 1


@pytest.mark.parametrize(
    "problem",
    [
        RateLimited(429, until=NOON + timedelta(seconds=30), retry_after=30),
        HttpStatusError(503),
        EsawUnreachable("timeout"),
    ],
    ids=str,
)
async def test_a_pause_or_an_outage_of_esaw_costs_a_dry_run_no_part_of_its_sample(problem: EsawError) -> None:
    spec: dict[str, Any] = {"from": "2026-06-20", "dryRun": True, "sampleSize": 10}
    scene = ImportScene(**spec)
    envelopes = [numbered(each) for each in range(1, 31)]
    scene.finds("anna", *envelopes)
    scene.finding.files = dict.fromkeys(envelopes[1:], problem)
    assert (await scene.advance()).sample is None
    assert scene.condition("Ready")[0] == "False"

    scene.finding.files = {}
    scene.clock.advance(seconds=FAILURE_SECONDS + 1)

    # The first of two windows of a week has all of them.
    assert (await scene.advance()).sample == ImportSample(envelopes=5, files=5, bytes=5_000)
    assert scene.condition("Complete") == ("True", "ImportComplete")


async def test_a_key_that_is_refused_for_files_spends_no_sample_and_is_doubted_as_one_in_a_search() -> None:
    scene = ImportScene(dryRun=True, sampleSize=10)
    scene.finds("anna", numbered(1))
    scene.finding.files[numbered(1)] = HttpStatusError(401, has_own_form=True)
    status = await scene.advance()
    assert (status.sample, [each.reason for each in status.senders]) == (None, ["KeyDoubted"])


@pytest.mark.parametrize("spec", [{"dryRun": True, "sampleSize": 0}, {"dryRun": False}])
async def test_a_dry_run_without_a_sample_and_an_import_ask_esaw_for_no_file(spec: dict[str, Any]) -> None:
    scene = ImportScene(**spec)
    scene.finds("anna", ENVELOPE)
    status = await scene.advance()
    assert (status.found, status.sample, scene.finding.listed) == (1, None, [])


async def test_a_dry_run_that_is_suspended_while_it_measures_ends_within_a_window() -> None:
    scene = ImportScene(dryRun=True, sampleSize=10)
    envelopes = [numbered(each) for each in range(10)]
    scene.finds("anna", *envelopes)
    for each in envelopes:
        scene.finding.files[each] = (1, 2)

    async def suspend() -> None:
        scene.kube.edit(Import, NAME, {"spec": {"suspend": True}})
        await scene.clock.sleep(ROOM_SECONDS)

    scene.finding.while_opened = suspend
    status = await scene.advance()
    assert (status.found, status.sample) == (0, None)
    assert len(scene.finding.opened) == 1
    assert scene.condition("Ready") == ("False", "ImportSuspended")


async def test_a_hostile_list_stops_at_the_ceiling_of_the_organization_and_is_named() -> None:
    scene = ImportScene(organization={"limits": {"unfinishedEvents": 20}}, maxUnfinished=1000)
    scene.finds("anna", *(numbered(each) for each in range(200)))
    await scene.advance()
    assert len(scene.events()) == 10
    assert scene.condition("Ready") == ("False", "ImportCeiling")


async def test_the_events_that_fail_bound_what_a_hostile_list_creates_in_all() -> None:
    scene = ImportScene(organization={"limits": {"unfinishedEvents": 20}}, maxUnfinished=1000)
    scene.finds("anna", *(numbered(each) for each in range(200)))
    for _ in range(10):
        await scene.advance()
        scene.finish_all(Phase.FAILED)
        scene.clock.advance(seconds=FAILURE_SECONDS)
        scene.runner = scene.new_runner()
    assert len(scene.events()) == 20


async def test_finished_events_of_the_namespace_bound_an_import_too() -> None:
    scene = ImportScene(bounds=ImportBounds(quota=19))
    for number in range(5):
        done = an_event(numbered(1000 + number)).archived().in_phase(Phase.SUCCEEDED)
        scene.kube.put(done.build())
    scene.finds("anna", *(numbered(each) for each in range(20)))
    await scene.advance()
    assert len(scene.events()) == 12
    assert scene.condition("Ready") == ("False", "ImportCeiling")


async def test_a_list_without_end_costs_a_bounded_number_of_requests_and_is_named() -> None:
    scene = ImportScene("anna", "bert", bounds=ImportBounds(hits=2000), dryRun=True)
    scene.finding.endless = True
    await scene.advance()
    assert {each.reason for each in scene.status_now.senders} == {"EsawListTooLong"}
    assert len(scene.finding.spans) <= 6
    assert scene.condition("Ready") == ("False", "SendersNotSearched")


async def test_imports_with_shorter_spans_examine_what_one_with_a_week_does_not() -> None:
    found = [numbered(each) for each in range(4)]
    for until, reason in (("2026-06-08", "EsawListTooLong"), ("2026-06-03", None)):
        scene = ImportScene(bounds=ImportBounds(hits=3), until=until)
        scene.finds("anna", *found)
        scene.finding.sent = {
            each: datetime(2026, 6, 1 + 2 * number, 12, tzinfo=UTC) for number, each in enumerate(found)
        }
        await scene.complete()
        (anna,) = scene.status_now.senders
        assert (anna.searched, anna.reason) == (reason is None, reason)


async def test_an_envelope_without_a_guid_is_refused_and_counted() -> None:
    scene = ImportScene()
    scene.finds("anna", "../secrets", ENVELOPE)
    status = await scene.advance()
    assert (status.found, status.refused, len(scene.events())) == (2, 1, 1)


async def test_lists_that_may_be_cut_are_reported_on_the_sender_and_in_the_result() -> None:
    scene = ImportScene()
    scene.finding.ignores_time = True
    scene.finds("anna", ENVELOPE)
    await scene.complete()
    (anna,) = scene.status_now.senders
    assert (anna.searched, anna.reason) == (True, "EsawListDoubtful")


TWO_WINDOWS: dict[str, Any] = {"from": "2026-06-01", "until": "2026-06-08", "order": "OldestFirst"}


@contextmanager
def before_the_second_window(scene: ImportScene, act: Callable[[], None]) -> Iterator[None]:
    """Let something happen between the searches of two windows, the second of which fails once."""
    ask, acts = scene.finding.as_user, [act]

    def as_user(token: ApiToken) -> EsawUserClient:
        if scene.finding.spans and acts:
            acts.pop()()
            raise EsawUnreachable("cut")
        return ask(token)

    with patch.object(scene.finding, "as_user", as_user):
        yield


async def test_lists_that_may_be_cut_are_reported_after_a_restart_between_two_windows() -> None:
    scene = ImportScene(**TWO_WINDOWS)
    scene.finding.ignores_time = True
    scene.finds("anna", ENVELOPE)
    with before_the_second_window(scene, lambda: None):
        await scene.advance()
        assert scene.status_now.windows.done == 1
        scene.runner = scene.new_runner()
        status = await scene.complete()
    assert status.completion_time is not None
    assert "may have left envelopes of 1 Senders out, such as Sender/anna" in scene.message("Complete")


async def test_the_lists_for_an_organization_that_was_created_again_are_not_judged_by_those_before() -> None:
    scene = ImportScene(**TWO_WINDOWS)
    first, second = ([numbered(start + each) for each in range(80)] for start in (0, 1000))
    for number in range(80):
        scene.finding.sent[first[number]] = datetime(2026, 6, 1, tzinfo=UTC) + timedelta(hours=1 + number)
        scene.finding.sent[second[number]] = datetime(2026, 6, 8, tzinfo=UTC) + timedelta(
            minutes=1 + 5 * number
        )
    scene.finds("anna", *first, *second)

    def create_again() -> None:
        scene.finding.most_hits = 60
        scene.cache.organizations.put(created_again(an_organization()))

    with before_the_second_window(scene, create_again):
        await scene.complete()
        status = await scene.complete()
    assert status.completion_time is not None
    assert status.found == 160


@pytest.mark.parametrize("is_other_user", [True, False])
async def test_a_sender_that_is_created_again_continues_for_the_same_user_only(
    *, is_other_user: bool
) -> None:
    scene = ImportScene(**TWO_WINDOWS)
    again: dict[str, Any] = {"userID": DORA} if is_other_user else {}

    def create_again() -> None:
        scene.put_sender("anna", version=2, email="anna@acme.example", **again)

    with before_the_second_window(scene, create_again):
        await scene.advance()
        scene.runner = scene.new_runner()
        status = await scene.advance()
    if not is_other_user:
        assert (status.windows.done, scene.condition("Ready")) == (2, ("True", "ImportComplete"))
        return
    assert (status.windows.done, scene.condition("Ready")) == (1, ("False", "SendersNotSearched"))
    assert "Sender/anna was created again for another user, and the windows before" in scene.message("Ready")


BOTH = ["Completed", "Rejected"]


def with_statuses(*statuses: str) -> Organization:
    """The Organization after a change of its statuses."""
    return an_organization(version=2, generation=2, statuses=list(statuses))


def finds_a_rejected_one(*before: str, **spec: Any) -> ImportScene:
    """An Import of three envelopes in different weeks, the oldest of which is Rejected. The Organization
    archives the statuses ``before``."""
    scene = ImportScene(order="OldestFirst", maxUnfinished=1, organization={"statuses": list(before)}, **spec)
    scene.finds("anna", SECOND, numbered(2))
    scene.finds("anna", ENVELOPE, status=EnvelopeStatus.REJECTED)
    days = {ENVELOPE: 27, SECOND: 19, numbered(2): 12}
    scene.finding.sent.update({each: NOON - timedelta(days=ago) for each, ago in days.items()})
    return scene


async def finish(scene: ImportScene) -> ImportStatus:
    for _ in range(6):
        scene.finish_all()
        scene.clock.advance(seconds=FAILURE_SECONDS)
        await scene.advance()
    return scene.status_now


async def test_an_import_keeps_to_the_statuses_of_its_first_window_and_names_them() -> None:
    """Else it would look complete, although the windows before were not searched for the added one."""
    scene = finds_a_rejected_one("Completed")
    scene.finds("anna", ENVELOPE, numbered(3), status=EnvelopeStatus.REJECTED)
    scene.finding.sent[numbered(3)] = NOON - timedelta(days=2)
    await scene.advance()
    assert scene.status_now.windows.done > 0
    scene.cache.organizations.put(with_statuses(*BOTH))
    status = await finish(scene)
    assert (status.found, status.statuses) == (2, ("Completed",))
    assert scene.condition("Complete") == ("True", "ImportComplete")
    assert scene.message("Complete").endswith(" Statuses that were searched: Completed.")


async def test_another_import_finds_the_envelopes_of_a_status_that_was_added() -> None:
    scene = finds_a_rejected_one("Completed")
    await scene.advance()
    scene.cache.organizations.put(with_statuses(*BOTH))
    await finish(scene)
    scene.kube.objects.pop((Import.PLURAL, NAME))
    scene.kube.put(an_import(uid="uid-another"))
    status = await finish(scene)
    assert (status.found, status.known, status.archived) == (3, 2, 1)
    assert scene.message("Complete").endswith(" Statuses that were searched: Completed, Rejected.")


async def test_a_status_that_is_removed_during_an_import_holds_it() -> None:
    scene = finds_a_rejected_one(*BOTH)
    await scene.advance()
    scene.cache.organizations.put(with_statuses("Completed"))
    await finish(scene)
    assert scene.condition("Ready") == ("False", "ImportNotArchived")
    assert scene.message("Ready") == (
        "The windows before were searched for Rejected, which spec.statuses of Organization/acme does not "
        "archive any more."
    )
    scene.cache.organizations.put(an_organization(version=3, generation=3, statuses=BOTH))
    assert (await finish(scene)).archived == 3


async def test_a_status_that_is_removed_after_the_search_holds_no_import() -> None:
    scene = ImportScene(organization={"statuses": BOTH})
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    scene.cache.organizations.put(with_statuses("Completed"))
    await scene.advance()
    assert scene.condition("Ready") == ("False", "ImportRunning")
    assert (await finish(scene)).archived == 1


async def test_statuses_that_change_before_the_first_window_is_done_count() -> None:
    scene = ImportScene(maxUnfinished=1, organization={"statuses": ["Completed"]})
    scene.finds("anna", SECOND, numbered(2))
    scene.finds("anna", ENVELOPE, status=EnvelopeStatus.REJECTED)
    await scene.advance()
    assert (scene.status_now.windows.done, scene.status_now.statuses) == (0, ())
    scene.cache.organizations.put(with_statuses(*BOTH))
    status = await finish(scene)
    assert (status.found, status.statuses) == (3, ("Completed", "Rejected"))


async def test_the_runner_reads_the_imports_again_after_an_outage_of_the_api_server() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    scene.kube.go_away("page", 1)
    task = asyncio.create_task(scene.runner.run())
    for _ in range(1000):
        await asyncio.sleep(0)
        if scene.events():
            break
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(scene.events()) == 1


async def test_others_know_each_import_after_a_list_also_one_that_can_no_longer_be_read() -> None:
    scene = ImportScene(suspend=True)
    assert scene.cache.imports is None
    await scene.run_for(2)
    (known,) = scene.cache.imports_of("acme")
    assert (known.name, known.status.conditions) == (NAME, scene.status_now.conditions)
    scene.kube.edit(Import, NAME, {"spec": {"from": 7}})
    await scene.run_for(2)
    assert [each.name for each in scene.cache.imports_of("acme")] == [NAME]
    del scene.kube.objects[Import.PLURAL, NAME]
    await scene.run_for(2)
    assert scene.cache.imports == {}


async def test_an_import_is_known_to_others_without_the_metadata_that_they_do_not_read() -> None:
    scene = ImportScene(suspend=True)
    foreign = {"x.example/y": "a" * 60}
    scene.kube.edit(Import, NAME, {"metadata": {"labels": foreign, "annotations": foreign}})
    await scene.run_for(2)
    (known,) = scene.cache.imports_of("acme")
    assert (known.metadata.labels, known.metadata.annotations) == ({}, {})


async def test_the_events_of_an_import_are_counted_while_a_window_is_searched_and_not_after_its_end() -> None:
    scene = ImportScene(maxUnfinished=2)
    scene.finds("anna", *(numbered(each) for each in range(5)))

    def created() -> float | None:
        labels = {"organization": "acme", "import": NAME}
        return scene.metrics.registry.get_sample_value("counterfoil_import_events_total", labels)

    task = await begun(scene, 2)
    assert created() == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    del scene.kube.objects[Import.PLURAL, NAME]
    await scene.run_for(2, scene.runner)
    assert created() is None


def objects_in(found: object) -> int:
    """The number of objects that something keeps alive, without classes and functions."""
    seen, left = dict[int, object](), [found]
    while left:
        each = left.pop()
        if id(each) not in seen and not isinstance(each, type | ModuleType | FunctionType):
            seen[id(each)] = each
            left += gc.get_referents(each)
    return len(seen)


async def test_memory_does_not_grow_with_the_windows_of_an_import() -> None:
    statuses = {"statuses": ["Completed", "Rejected", "Canceled", "Expired"]}
    spec: dict[str, Any] = {"from": "2014-06-01", "dryRun": True}
    scene = ImportScene(organization=statuses, **spec)
    scene.finding.ignores_time = True
    scene.finds("anna", ENVELOPE)
    windows = (await scene.advance()).windows
    assert windows.done == windows.total > 600
    # With 500 senders and 25 years it would be a thousand times as much.
    assert objects_in(scene.runner._memories) < 200
    assert objects_in(windows_of(an_import(**spec))) < 200
    assert scene.status_now.senders[0].doubt


async def test_an_import_of_more_senders_than_it_can_search_begins_no_search() -> None:
    scene = ImportScene(*(f"s{number:03}" for number in range(MAX_SENDERS + 1)), until="2026-06-02")
    status = await scene.advance()
    assert (scene.condition("Ready"), scene.condition("Stalled")[0]) == (("False", "TooManySenders"), "True")
    assert (status.senders, scene.finding.spans) == ((), [])
    scene.cache.senders.remove("s000")
    assert len((await scene.complete()).senders) == MAX_SENDERS
    assert scene.condition("Complete") == ("True", "ImportComplete")


async def test_an_import_of_a_part_of_too_many_senders_searches_these() -> None:
    names = [f"s{number:03}" for number in range(MAX_SENDERS + 1)]
    too_many = ImportScene(*names, until="2026-06-02")
    await too_many.advance()
    assert too_many.condition("Ready") == ("False", "TooManySenders")
    part = ImportScene(*names, until="2026-06-02", senderRefs=[{"name": each} for each in names[:2]])
    assert len((await part.complete()).senders) == 2
    assert part.condition("Complete") == ("True", "ImportComplete")


async def test_a_sender_too_many_since_the_begin_stops_no_other_and_the_import_is_not_complete() -> None:
    names = [f"s{number:03}" for number in range(MAX_SENDERS)]
    scene = ImportScene(*names, until="2026-06-02")
    scene.finds("s000", ENVELOPE)
    scene.finds("s001", SECOND)
    scene.finding.sent = dict.fromkeys((ENVELOPE, SECOND), datetime(2026, 6, 1, 12, tzinfo=UTC))
    scene.kube.just_before("create", lambda: scene.put_sender("s500"))
    status = await scene.complete()
    assert status.archived == 2
    assert all(each.searched for each in status.senders)
    assert scene.condition("Complete") == ("False", "TooManySenders")
    assert scene.condition("Stalled")[0] == "True"


async def test_the_result_says_how_many_envelopes_got_no_event() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE, "no-guid")
    await scene.complete()
    found = find_condition(scene.status_now.conditions, "Complete")
    assert found is not None
    assert "1 envelopes got no event" in found.message


async def begun(scene: ImportScene, events: int) -> asyncio.Task[None]:
    """Return the task of an Import that has just created this number of events."""
    task = asyncio.create_task(scene.runner.advance(NAME))
    for _ in range(300):
        if len(scene.events()) == events:
            break
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_a_sender_whose_key_is_refused_within_a_window_stops_no_other() -> None:
    scene = ImportScene("anna", "bert", maxUnfinished=2)
    scene.finds("anna", *(numbered(each) for each in range(5)))
    scene.finds("bert", ENVELOPE, SECOND)
    task = await begun(scene, 2)
    scene.put_sender("anna", authorized="False", version=2)
    scene.wait_for_a_person(Phase.AWAITING_CONSENT, "TokenRejected")
    await asyncio.wait_for(task, 10)
    assert len(scene.events()) == 4
    anna, bert = scene.status_now.senders
    assert (anna.windows_done, anna.reason, bert.searched) == (0, "Tested", True)
    assert scene.condition("Ready") == ("False", "SendersNotSearched")
    assert scene.condition("Stalled")[0] == "True"


async def test_an_import_whose_events_wait_for_a_person_names_one_and_continues_after_that() -> None:
    scene = ImportScene(maxUnfinished=2)
    scene.finds("anna", *(numbered(each) for each in range(5)))
    task = await begun(scene, 2)
    scene.wait_for_a_person(Phase.PENDING, "Suspended")
    await asyncio.wait_for(task, 10)
    assert scene.condition("Ready") == ("False", "ImportEventsWaiting")
    assert scene.condition("Stalled")[0] == "True"
    found = find_condition(scene.status_now.conditions, "Ready")
    assert found is not None
    assert f"EnvelopeEvent/{min(each.name for each in scene.unfinished())} (Suspended)" in found.message
    scene.finish_all()
    task = await begun(scene, 4)
    assert scene.condition("Stalled")[0] == "False"
    scene.finish_all()
    await asyncio.wait_for(task, 10)
    assert (await scene.complete()).archived == 5


async def test_an_import_that_waits_for_its_last_event_says_that_a_person_has_to_act() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    await scene.advance()
    scene.wait_for_a_person(Phase.PENDING, "Suspended")
    await scene.advance()
    assert scene.condition("Ready") == ("False", "ImportEventsWaiting")
    assert scene.condition("Stalled")[0] == "True"
    await scene.complete()
    assert scene.condition("Complete") == ("True", "ImportComplete")


@pytest.mark.parametrize("is_dry_run", [False, True])
async def test_a_suspension_stops_a_window_within_seconds_although_there_is_room(*, is_dry_run: bool) -> None:
    scene = ImportScene(maxUnfinished=1000, dryRun=is_dry_run)
    scene.finds("anna", *(numbered(each) for each in range(100)))
    scene.finding.sent = {numbered(each): NOON - timedelta(days=1) for each in range(100)}
    requests = 0

    def a_second_later() -> None:
        nonlocal requests
        requests += 1
        scene.clock.advance(seconds=1)
        if requests == 5:
            scene.kube.edit(Import, NAME, {"spec": {"suspend": True}})
        scene.kube.just_before("get", a_second_later)

    scene.kube.just_before("get", a_second_later)
    await scene.advance()
    assert scene.condition("Ready") == ("False", "ImportSuspended")
    assert requests <= 10


async def test_a_sender_that_is_suspended_within_a_window_gets_no_further_event() -> None:
    scene = ImportScene(maxUnfinished=1000)
    scene.finds("anna", *(numbered(each) for each in range(100)))
    scene.kube.just_before("create", lambda: scene.put_sender("anna", suspend=True, version=2))
    await scene.advance()
    assert len(scene.events()) == 1
    assert scene.status_now.senders[0].reason == "SenderSuspended"


async def test_a_complete_import_that_is_suspended_and_resumed_describes_its_newest_spec() -> None:
    scene = ImportScene()
    scene.finds("anna", ENVELOPE)
    before = await scene.complete()
    for suspend in (True, False):
        scene.kube.edit(Import, NAME, {"spec": {"suspend": suspend}})
    await scene.run_for(2)
    after = scene.status_now
    # `kubectl wait --for=condition=Complete` ignores conditions of an older generation.
    assert {after.observed_generation, *(each.observed_generation for each in after.conditions)} == {3}
    assert (after.completion_time, after.found) == (before.completion_time, before.found)
    writes = scene.kube.count("patch_status")
    await scene.run_for(2)
    assert scene.kube.count("patch_status") == writes


# -- Spans, clocks and lists that are not as expected --------------------------------------------------------


def numbers(scene: ImportScene, name: str) -> tuple[int, int, int]:
    """Found, known and archived envelopes of an Import."""
    status = Import.parse(scene.kube.objects[Import.PLURAL, name]).status
    return status.found, status.known, status.archived


@pytest.mark.parametrize("room", [1, 200])
async def test_two_imports_of_the_same_span_at_once_archive_each_envelope_once(room: int) -> None:
    scene = ImportScene(maxUnfinished=room)
    second = an_import(uid="second", maxUnfinished=room)
    scene.kube.put(replace(second, metadata=replace(second.metadata, name="second")))
    scene.finds("anna", *(numbered(each) for each in range(4)))
    runner = scene.new_runner()
    for _ in range(8):
        await asyncio.gather(runner.advance(NAME), scene.runner.advance("second"))
        scene.finish_all()
    found, known, archived = numbers(scene, NAME)
    others, other_known, other_archived = numbers(scene, "second")
    assert (found, others, known + archived, other_known + other_archived) == (4, 4, 4, 4)
    assert (archived + other_archived, len(scene.events())) == (4, 4)


@pytest.mark.parametrize("hours", [-24 * 400, -3, 5, 24 * 400])
async def test_a_clock_that_jumps_while_a_window_is_searched_counts_nothing_twice(hours: int) -> None:
    scene = ImportScene("anna", "bert")
    for number, sender in enumerate(("anna", "bert")):
        scene.finds(sender, *(numbered(3 * number + each) for each in range(3)))
    scene.kube.just_before("create", lambda: scene.clock.set_back(hours=-hours))
    await scene.complete()
    status = await scene.complete()
    assert (status.found, status.known, status.archived, status.windows.done) == (6, 0, 6, 10)
    assert status.completion_time is not None


async def test_an_envelope_that_esaw_lists_in_each_window_is_counted_once() -> None:
    scene = ImportScene()
    scene.finding.ignores_time = True
    scene.finds("anna", ENVELOPE, SECOND)
    status = await scene.complete()
    assert (status.found, status.known, status.archived) == (2, 0, 2)
    (sender,) = status.senders
    assert sender.doubt is not None


async def test_a_list_that_is_another_one_at_the_second_asking_counts_each_envelope_once() -> None:
    scene = ImportScene(maxUnfinished=1)
    first, both, last = (numbered(each) for each in range(3))
    scene.finds("anna", first, both)
    scene.kube.just_before("create", lambda: scene.kube.edit(Import, NAME, {"spec": {"suspend": True}}))
    await scene.advance()
    scene.finish_all()
    scene.finds("anna", last, both)
    scene.kube.edit(Import, NAME, {"spec": {"suspend": False, "maxUnfinished": 5}})
    status = await scene.complete()
    assert (status.found, status.known, status.archived, len(scene.events())) == (3, 0, 3, 3)
