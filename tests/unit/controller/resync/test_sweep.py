"""Finished envelopes whose callback never came."""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from controller.access.sender_keys import KeyStateUnknown
from controller.resync.envelope_listing import Window
from controller.resync.event_starter import EventStarter
from controller.resync.sweep import (
    MAX_SPANS,
    MissedCallbackFinder,
    SweepBounds,
    SweepOutcome,
    merged,
)
from counterfoil.esaw import EsawUnreachable, HttpStatusError
from counterfoil.esaw.errors import ResponseTooLarge
from counterfoil.kube.errors import ApiError, Forbidden, Rejected, Unavailable
from counterfoil.kube.status import MAX_CHANGE_ATTEMPTS
from counterfoil.resources import (
    ORGANIZATION_LABEL,
    SENDER_LABEL,
    EnvelopeEvent,
    EnvelopeStatus,
    EnvelopeSummary,
    EventLoad,
    Organization,
    Origin,
    Phase,
    Sender,
    SweepResult,
    event_name,
    find_condition,
    is_condition_true,
)
from counterfoil.resources.conditions import ConditionStatus
from counterfoil.resources.envelopeevent import COPY_MISSING
from counterfoil.resources.naming import EnvelopeId
from counterfoil.resources.reopening import COPY_REQUESTED, status_for_copying
from tests.support.builders import ENVELOPE, NOON, a_sender, an_event, an_organization, known_to_work
from tests.support.fakes.esaw import FakeEsawClients
from tests.support.fakes.finding_esaw import FakeEsawUser, FindingEsawClient, key_of, numbered
from tests.support.scenes.controller_parts import ControllerParts

SECOND = EnvelopeId("11111111-4b1d-4c58-9a57-6d1f0a3b2c4d")


class Scene(ControllerParts):
    def __init__(self, *senders: str, bounds: SweepBounds | None = None, **spec: Any) -> None:
        self.finding = FindingEsawClient()
        super().__init__(esaw_clients=FakeEsawClients(self.finding))
        self.load: EventLoad | None = None
        given = {"sweep": {"interval": "1h", "lookback": "48h"}, **spec}
        self.organization = an_organization(**{key: value for key, value in given.items() if value})
        for name in senders or ("anna",):
            self.put_sender(known_to_work(a_sender(name), key_of(name)))
        self.missed_callback_finder = MissedCallbackFinder(
            cache=self.cache,
            sender_keys=self.sender_keys,
            esaw_clients=self.esaw_clients,
            event_starter=EventStarter(
                self.kube, self.clock, self.metrics, lambda _: self.load, self.cache.senders.get
            ),
            clock=self.clock,
            metrics=self.metrics,
            bounds=bounds or SweepBounds(),
        )

    def put_sender(self, sender: Sender) -> None:
        self.cache.senders.put(sender)
        self.kube.put(sender)
        self.kube.put_secret(f"{sender.name}-key", "token", {"token": key_of(sender.name).encode()})

    def finds(self, sender: str, *envelopes: str, status: EnvelopeStatus = EnvelopeStatus.COMPLETED) -> None:
        self.finding.finds.setdefault(key_of(sender), {})[status] = list(envelopes)

    async def swept(self) -> int:
        return (await self.sweep()).created

    def after(self, outcome: SweepOutcome) -> Organization:
        """Return the Organization with the result of a sweep."""
        status = replace(self.organization.status, sweep=outcome.result(self.clock.now()))
        return replace(self.organization, status=status)

    async def sweep(self) -> SweepOutcome:
        self.cache.organizations.put(self.organization)
        return await self.missed_callback_finder.sweep(self.organization)

    def noted(self) -> list[EnvelopeEvent]:
        return [
            EnvelopeEvent.parse(raw)
            for (plural, _), raw in self.kube.objects.items()
            if plural == EnvelopeEvent.PLURAL
        ]


async def test_a_finished_envelope_without_a_callback_becomes_the_event_that_a_callback_would_have_made() -> (
    None
):
    scene = Scene()
    scene.finds("anna", ENVELOPE.upper())
    assert await scene.swept() == 1
    (event,) = scene.noted()
    assert event.name == event_name("acme", ENVELOPE, "envelopeFinished")
    assert event.spec.origin is Origin.SWEEP
    assert event.metadata.labels[SENDER_LABEL] == "anna"


async def test_an_envelope_with_a_callback_is_not_listed() -> None:
    scene = Scene()
    scene.finds("anna", ENVELOPE, SECOND)
    assert await scene.swept() == 2
    assert await scene.swept() == 0
    found = scene.metrics.registry.get_sample_value("counterfoil_sweep_found_total", {"organization": "acme"})
    assert found == 2


async def test_it_searches_the_configured_range_a_day_at_a_time() -> None:
    scene = Scene()
    await scene.swept()
    assert [end for _, end in scene.finding.spans] == [NOON, NOON - timedelta(days=1)]
    # eSAW leaves out what was sent at the very ends, so windows overlap.
    first, second = (start for start, _ in scene.finding.spans)
    assert first < NOON - timedelta(days=1)
    assert second < NOON - timedelta(days=2)


async def test_a_sweep_names_the_sender_whose_search_only_a_person_can_correct_and_says_why() -> None:
    scene = Scene("anna", "bert", "carl")
    scene.finding.problems[key_of("anna")] = HttpStatusError(403, "ERR0001")
    scene.finding.problems[key_of("bert")] = EsawUnreachable("connect")
    outcome = await scene.sweep()
    assert not outcome.is_complete
    assert "eSignAnyWhere does not permit this to the sender's key (403)" in outcome.message
    assert "failed: Sender/bert. The search is repeated automatically." in outcome.message
    assert "Sender/anna (NotPermitted: " in outcome.message


LONG = timedelta(days=30)
"""From sending to the last signature; an envelope is valid for 28 days, and can be restarted."""


async def test_an_envelope_that_took_weeks_to_sign_is_found_without_any_settings() -> None:
    scene = Scene(sweep=None)
    scene.finds("anna", ENVELOPE)
    scene.finding.sent[ENVELOPE] = NOON - LONG
    assert await scene.swept() == 1


@pytest.mark.parametrize("most_hits", [50, 100, 1000])
async def test_an_answer_that_may_be_cut_off_splits_its_window(most_hits: int) -> None:
    scene = Scene(sweep={"interval": "1h", "lookback": "24h"})
    envelopes = [f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d" for number in range(2 * most_hits)]
    scene.finds("anna", *envelopes)
    scene.finding.sent = {each: NOON - timedelta(seconds=30 * n + 1) for n, each in enumerate(envelopes)}
    scene.finding.most_hits = most_hits
    assert await scene.swept() == len(envelopes)


async def test_an_answer_that_is_too_large_splits_its_window() -> None:
    scene = Scene(sweep={"interval": "1h", "lookback": "24h"})
    scene.finds("anna", ENVELOPE)
    scene.finding.sent[ENVELOPE] = NOON - timedelta(hours=13)
    scene.finding.too_large = timedelta(hours=7)
    assert await scene.swept() == 1


async def test_a_window_that_cannot_be_split_any_more_is_taken_as_it_is() -> None:
    scene = Scene(sweep={"interval": "1h", "lookback": "24h"})
    envelopes = [f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d" for number in range(60)]
    scene.finds("anna", *envelopes)
    scene.finding.sent = dict.fromkeys(envelopes, NOON - timedelta(hours=1))
    outcome = await scene.sweep()
    assert (outcome.created, outcome.is_complete) == (len(envelopes), False)


def an_ended_event(phase: Phase, reason: str) -> EnvelopeEvent:
    status = {"completion_time": NOON - timedelta(days=1)}
    return an_event().in_phase(phase, reason).status(**status).build()


@pytest.mark.parametrize("reason", ["ActionNotConfigured", "UnexpectedStatus", "EnvelopeRestarted"])
async def test_a_skipped_event_of_an_envelope_that_is_found_starts_again(reason: str) -> None:
    scene = Scene()
    scene.finds("anna", ENVELOPE)
    scene.kube.put(an_ended_event(Phase.SKIPPED, reason))
    await scene.swept()
    (event,) = scene.noted()
    assert (event.status.phase, event.status.reason) == (Phase.PENDING, "FoundBySweep")


@pytest.mark.parametrize("status", EnvelopeStatus)
async def test_an_envelope_that_is_listed_although_it_was_assumed_to_be_deleted_is_looked_at_again(
    status: EnvelopeStatus,
) -> None:
    scene = Scene(statuses=[status])
    scene.finds("anna", ENVELOPE, status=status)
    scene.kube.put(an_ended_event(Phase.SUCCEEDED, "DeletionAssumed"))
    await scene.swept()
    (event,) = scene.noted()
    assert (event.status.phase, event.status.reason) == (Phase.PENDING, "FoundBySweep")


async def test_an_envelope_that_is_listed_waits_for_no_further_copy_of_its_event() -> None:
    """The Archive of the copy may be full for days."""
    scene = Scene()
    scene.finds("anna", ENVELOPE)
    ended = an_ended_event(Phase.SUCCEEDED, "DeletionAssumed")
    cleaned = an_event().with_condition("Archived").with_condition("Cleaned", reason="DeletionAssumed")
    ended = replace(ended, status=replace(ended.status, conditions=cleaned.build().status.conditions))
    asked = status_for_copying(ended.status, reason=COPY_REQUESTED, message="", now=NOON)
    scene.kube.put(replace(ended, status=asked))
    await scene.swept()
    (event,) = scene.noted()
    assert (event.status.phase, event.status.reason) == (Phase.PENDING, "FoundBySweep")
    copied = find_condition(event.status.conditions, "Copied")
    assert copied is not None
    assert copied.reason == COPY_MISSING, "the copy is tried again after the end"


async def test_an_event_that_was_only_recorded_is_archived_after_its_action_became_archive() -> None:
    scene = Scene()
    scene.finds("anna", ENVELOPE)
    scene.kube.put(an_ended_event(Phase.SUCCEEDED, "Recorded"))
    await scene.swept()
    (event,) = scene.noted()
    assert (event.status.phase, event.status.reason) == (Phase.PENDING, "FoundBySweep")
    assert event.metadata.labels["counterfoil.dev/listed-by"] == "anna", "her key reads it"


async def test_an_event_that_is_changed_while_a_sweep_starts_it_still_starts() -> None:
    scene = Scene()
    scene.finds("anna", ENVELOPE)
    ended = an_ended_event(Phase.SUCCEEDED, "Recorded")
    scene.kube.put(ended)
    counted = {"status": {"deliveries": 2}}
    scene.kube.just_before("patch_status", lambda: scene.kube.edit(EnvelopeEvent, ended.name, counted))
    outcome = await scene.sweep()
    (event,) = scene.noted()
    assert (event.status.phase, event.status.deliveries, outcome.known) == (Phase.PENDING, 2, 0)


@pytest.mark.parametrize(
    ("phase", "reason"),
    [
        (Phase.SKIPPED, "SkippedByRequest"),
        (Phase.SUCCEEDED, "ArchivedAndKept"),
        (Phase.SUCCEEDED, "ArchivedAndDeleted"),
        (Phase.FAILED, "NotPermitted"),
        (Phase.AWAITING_CONSENT, "TokenRejected"),
    ],
)
async def test_what_a_person_skipped_and_what_is_not_skipped_stays_as_it_is(
    phase: Phase, reason: str
) -> None:
    scene = Scene()
    scene.finds("anna", ENVELOPE)
    shown = EnvelopeSummary(status="Completed")
    scene.kube.put(an_event().in_phase(phase, reason).status(envelope=shown).build())
    assert await scene.swept() == 0
    (event,) = scene.noted()
    assert (event.status.phase, event.status.reason) == (phase, reason)


async def test_a_skip_holds_against_a_sweep_if_esaw_was_never_asked_for_the_envelope() -> None:
    scene = Scene()
    scene.finds("anna", ENVELOPE)
    skipped = an_event().in_phase(Phase.SKIPPED, "SkippedByRequest")
    scene.kube.put(skipped.status(completion_time=NOON, skipped_time=NOON).build())
    await scene.swept()
    (event,) = scene.noted()
    assert (event.status.phase, event.status.reason) == (Phase.SKIPPED, "SkippedByRequest")


@pytest.mark.parametrize("reason", ["SkippedByRequest", "ArchivedAsExpired", "NoFinishedDocuments"])
@pytest.mark.parametrize(("recorded", "phase"), [("Expired", Phase.SKIPPED), ("Active", Phase.PENDING)])
async def test_what_is_settled_starts_again_only_if_the_envelope_has_another_status_now(
    reason: str, recorded: str, phase: Phase
) -> None:
    scene = Scene(statuses=["Expired"])
    scene.finds("anna", ENVELOPE, status=EnvelopeStatus.EXPIRED)
    settled = an_event().in_phase(Phase.SKIPPED, reason).status(envelope=EnvelopeSummary(status=recorded))
    scene.kube.put(settled.build())
    await scene.swept()
    (event,) = scene.noted()
    assert event.status.phase is phase


@pytest.mark.parametrize("policy", ["Delete", "Keep"])
async def test_an_envelope_that_was_finished_before_events_are_kept_is_found_where_archived_ones_are_deleted(
    policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(sweep=None, ttl={"succeeded": "72h"}, cleanup={"policy": policy})
    scene.finds("anna", ENVELOPE)
    scene.finding.sent = {ENVELOPE: NOON - timedelta(days=5)}
    assert await scene.swept() == 1
    assert [each for each in caplog.records if each.levelno >= logging.WARNING] == []


async def test_it_looks_for_each_status_that_is_archived() -> None:
    scene = Scene(statuses=["Completed", "Rejected"])
    scene.finds("anna", ENVELOPE)
    scene.finds("anna", SECOND, status=EnvelopeStatus.REJECTED)
    assert await scene.swept() == 2


async def test_each_sender_whose_key_works_is_asked_for_and_nobody_else() -> None:
    scene = Scene("anna", "ben")
    scene.put_sender(a_sender("carl", authorized="False"))
    scene.put_sender(known_to_work(a_sender("dora", suspend=True), key_of("dora")))
    scene.put_sender(known_to_work(a_sender("emil", organization="other"), key_of("emil")))
    scene.finds("anna", ENVELOPE)
    scene.finds("ben", SECOND)
    for name in ("carl", "dora", "emil"):
        scene.finds(name, "22222222-4b1d-4c58-9a57-6d1f0a3b2c4d")
    assert await scene.swept() == 2


@pytest.mark.parametrize("problem", [EsawUnreachable("connect"), HttpStatusError(503)])
async def test_a_sender_whose_envelopes_cannot_be_asked_for_delays_no_other(problem: Exception) -> None:
    scene = Scene("anna", "ben")
    scene.finding.problems[key_of("anna")] = problem
    scene.finds("ben", SECOND)
    assert await scene.swept() == 1


@pytest.mark.parametrize(("error_id", "still_works"), [("ERR0010", False), (None, True)])
async def test_a_key_that_esaw_itself_refuses_is_remembered(error_id: str | None, still_works: bool) -> None:
    scene = Scene()
    scene.finding.problems[key_of("anna")] = HttpStatusError(401, error_id)
    await scene.swept()
    anna = scene.cache.senders.get("anna")
    assert anna is not None
    assert is_condition_true(anna.status.conditions, "Authorized") == still_works


@pytest.mark.parametrize(("is_page", "questions"), [(True, 0), (False, 1)])
async def test_a_web_page_with_401_to_a_search_makes_no_key_doubtful(is_page: bool, questions: int) -> None:
    scene = Scene()
    scene.finding.problems[key_of("anna")] = HttpStatusError(401, is_page=is_page)
    await scene.swept()
    anna = scene.cache.senders.get("anna")
    assert anna is not None
    asks = scene.sender_keys.key(anna, scene.esaw_clients.for_organization(scene.organization))
    if questions:
        with pytest.raises(KeyStateUnknown):
            await asks
    else:
        assert (await asks).reveal()


async def test_what_is_no_guid_is_ignored() -> None:
    scene = Scene()
    scene.finds("anna", "no-guid", ENVELOPE)
    assert await scene.swept() == 1


async def test_many_ids_that_are_no_guids_are_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.finds("anna", *(f"no-guid-{number}" for number in range(40)), ENVELOPE)
    assert await scene.swept() == 1
    assert [each.getMessage() for each in caplog.records].count("eSAW listed envelopes without a GUID") == 1


async def test_an_organization_that_archives_nothing_is_not_swept() -> None:
    scene = Scene(actions=[{"action": "envelopeFinished", "handling": "Record"}])
    scene.finds("anna", ENVELOPE)
    assert await scene.swept() == 0
    assert scene.finding.spans == []


async def test_without_its_own_settings_an_organization_is_searched_thirty_two_days_back() -> None:
    scene = Scene(sweep=None)
    await scene.swept()
    assert scene.finding.spans[-1][1] == NOON - timedelta(days=31)
    assert len(scene.finding.spans) == 32


async def test_the_action_is_the_usual_one_where_that_is_archived_else_the_first() -> None:
    both = [{"action": "EnvelopeRejected"}, {"action": "EnvelopeFinished"}]
    for actions, expected in ((both, "EnvelopeFinished"), (both[:1], "EnvelopeRejected")):
        scene = Scene(actions=actions)
        scene.finds("anna", ENVELOPE)
        await scene.swept()
        assert [each.spec.action for each in scene.noted()] == [expected]


async def test_an_unreachable_api_server_ends_the_sweep() -> None:
    scene = Scene()
    scene.finds("anna", ENVELOPE)
    scene.kube.go_away("create", times=1)
    with pytest.raises(Unavailable):
        await scene.swept()


@pytest.mark.parametrize(
    "foreign",
    [{"organizationRef": {"name": "other"}}, {"envelopeID": SECOND}, {"action": "envelopeExpired"}],
    ids=["organization", "envelope", "action"],
)
async def test_an_event_of_another_callback_is_never_treated_as_the_envelopes_own(
    foreign: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene()
    scene.finds("anna", ENVELOPE)
    await scene.swept()
    (event,) = scene.noted()
    scene.kube.objects[EnvelopeEvent.PLURAL, event.name]["spec"].update(foreign)

    assert await scene.swept() == 0

    assert "about another callback" in caplog.text
    labels = {"organization": "acme"}
    assert scene.metrics.registry.get_sample_value("counterfoil_event_mismatches_total", labels) == 1


# -- Bounds: eSAW chooses what it lists ----------------------------------------------------------------------


def a_load(unfinished: int = 0, unknown: int = 0) -> EventLoad:
    return EventLoad(count_time=NOON, unfinished_events=unfinished, unknown_envelopes=unknown)


LIMITS = {"unfinishedEvents": 100, "unknownEnvelopes": 100}


@pytest.mark.parametrize(
    ("load", "created"),
    [(None, 50), (a_load(), 50), (a_load(unfinished=45), 5), (a_load(100), 0), (a_load(unknown=50), 0)],
    ids=["not counted yet", "no events", "little room", "full", "unknown envelopes"],
)
async def test_a_sweep_leaves_half_of_the_ceilings_to_callbacks_and_reports_it(
    load: EventLoad | None, created: int
) -> None:
    scene = Scene(limits=LIMITS)
    scene.load = load
    scene.finds("anna", *map(numbered, range(600)))
    outcome = await scene.sweep()
    assert (outcome.created, outcome.is_complete) == (created, False)
    assert "is left to callbacks. It continues automatically." in outcome.message
    assert len(scene.noted()) == created


async def test_a_sweep_that_was_cut_continues_when_there_is_room() -> None:
    scene = Scene(limits=LIMITS)
    scene.finds("anna", *map(numbered, range(120)))
    scene.finding.sent = {numbered(n): NOON - timedelta(minutes=10 * n + 1) for n in range(120)}
    found = []
    for _ in range(3):
        found.append(await scene.swept())
        scene.clock.advance(seconds=60)
        scene.load = EventLoad(count_time=scene.clock.now())
        for event in scene.noted():
            scene.kube.objects[EnvelopeEvent.PLURAL, event.name]["status"] = {"phase": "Succeeded"}
    assert found == [50, 50, 20]
    assert (await scene.sweep()).is_complete


async def test_the_events_of_sweeps_that_did_not_succeed_have_a_ceiling() -> None:
    scene = Scene(limits=LIMITS)
    for number in range(98):
        event = an_event(numbered(10_000 + number)).by(Origin.SWEEP).in_phase(Phase.FAILED, "NotPermitted")
        scene.kube.put(event.labelled(ORGANIZATION_LABEL, "acme").build())
    scene.finds("anna", *map(numbered, range(10)))
    outcome = await scene.sweep()
    assert outcome.created == 2
    assert "100 events of sweeps did not succeed" in outcome.message


@pytest.mark.parametrize(
    ("phase", "reason"), [(Phase.CLEANING, "CleanupDelayed"), (Phase.SKIPPED, "ArchivedAsExpired")]
)
async def test_archived_events_of_sweeps_are_under_no_ceiling(phase: Phase, reason: str) -> None:
    scene = Scene(limits=LIMITS)
    for number in range(98):
        event = an_event(numbered(10_000 + number)).by(Origin.SWEEP).in_phase(phase, reason)
        scene.kube.put(event.labelled(ORGANIZATION_LABEL, "acme").build())
    scene.finds("anna", *map(numbered, range(10)))
    assert (await scene.sweep()).created == 10


async def test_events_that_a_sweep_starts_again_count_against_the_ceiling() -> None:
    scene = Scene(limits=LIMITS)
    scene.load = a_load(unfinished=49)
    scene.finds("anna", numbered(1), numbered(2))
    for number in (1, 2):
        skipped = an_event(numbered(number)).in_phase(Phase.SKIPPED, "UnexpectedStatus")
        scene.kube.put(skipped.status(completion_time=NOON - timedelta(days=1)).build())
    assert not (await scene.sweep()).is_complete
    assert [each.status.phase for each in scene.noted()].count(Phase.PENDING) == 1


async def test_one_sweep_starts_a_bounded_number_of_events() -> None:
    scene = Scene(bounds=SweepBounds(started=10))
    scene.finds("anna", *map(numbered, range(25)))
    assert [await scene.swept() for _ in range(3)] == [10, 10, 5]


async def test_a_list_without_end_is_cut_and_the_next_sweep_looks_further_back() -> None:
    limits = {"unfinishedEvents": 10_000_000}
    scene = Scene("anna", "ben", bounds=SweepBounds(hits=20), sweep=None, limits=limits)
    scene.finding.endless = True
    outcome = await scene.sweep()
    assert outcome.created == 40
    assert "Sender/anna has more than 20 envelopes; Sender/ben has more than 20 envelopes" in outcome.message
    last = scene.finding.spans[-1][1]
    await scene.sweep()
    assert scene.finding.spans[-1][1] == last - timedelta(days=1)


async def test_a_day_with_too_many_envelopes_is_reported_until_it_was_searched() -> None:
    spec = {"sweep": {"interval": "1h", "lookback": "96h"}, "limits": {"unfinishedEvents": 10_000_000}}
    scene = Scene(bounds=SweepBounds(hits=20), **spec)
    today, old = [*map(numbered, range(30))], EnvelopeId(numbered(99))
    scene.finds("anna", *today, old)
    scene.finding.sent = {
        **dict.fromkeys(today, NOON - timedelta(hours=3)),
        old: NOON - timedelta(hours=80),
    }
    outcomes = [await scene.sweep() for _ in range(6)]
    assert not any(each.is_complete for each in outcomes)
    assert all("Sender/anna has more than 20 envelopes" in each.message for each in outcomes)
    assert event_name("acme", old, "envelopeFinished") in {each.name for each in scene.noted()}

    scene.finds("anna", *today[:10], old)
    assert (await scene.sweep()).is_complete


async def test_an_esaw_that_lists_too_much_each_day_is_searched_to_its_oldest_day() -> None:
    spec = {"sweep": {"interval": "1h", "lookback": "96h"}, "limits": {"unfinishedEvents": 10_000_000}}
    scene = Scene(bounds=SweepBounds(hits=20), **spec)
    scene.finding.endless = True
    ends = []
    for _ in range(5):
        assert not (await scene.sweep()).is_complete
        ends.append(scene.finding.spans[-1][1])
    assert ends == [NOON - timedelta(days=each) for each in (0, 1, 2, 3, 0)]


async def test_the_requests_of_one_search_are_bounded() -> None:
    scene = Scene(bounds=SweepBounds(requests=5), sweep=None)
    outcome = await scene.sweep()
    assert len(scene.finding.spans) == 5
    assert "needs too many requests" in outcome.message
    await scene.sweep()
    assert scene.finding.spans[-1][1] < NOON - timedelta(days=8)


def change_organization(scene: Scene) -> None:
    scene.cache.organizations.put(an_organization(version=2, generation=2))


def delete_organization(scene: Scene) -> None:
    scene.cache.organizations.remove("acme")


def suspend_sender(scene: Scene) -> None:
    scene.cache.senders.put(a_sender("anna", version=2, suspend=True))


def refuse_key(scene: Scene) -> None:
    scene.cache.senders.put(a_sender("anna", version=2, authorized="False"))


@pytest.mark.parametrize("change", [change_organization, delete_organization, suspend_sender, refuse_key])
async def test_a_sweep_asks_no_more_with_what_was_changed(change: Callable[[Scene], None]) -> None:
    """eSAW may let one search last for days, and no other sweep of the Organization runs then."""
    scene = Scene(sweep=None)
    find = FakeEsawUser.find

    async def changing(user: FakeEsawUser, **asked: Any) -> Any:
        found = await find(user, **asked)
        if len(scene.finding.spans) == 3:
            change(scene)
        return found

    with patch.object(FakeEsawUser, "find", changing):
        outcome = await scene.sweep()
    assert len(scene.finding.spans) == 3
    assert not outcome.is_complete
    assert "was changed meanwhile" in outcome.message


async def stop_by_a_change(scene: Scene, change: Callable[[Scene], None]) -> None:
    """Sweep, and change something during the third answer of eSAW."""
    find, before = FakeEsawUser.find, len(scene.finding.spans)

    async def changing(user: FakeEsawUser, **asked: Any) -> Any:
        found = await find(user, **asked)
        if len(scene.finding.spans) == before + 3:
            change(scene)
        return found

    with patch.object(FakeEsawUser, "find", changing):
        assert "was changed meanwhile" in (await scene.sweep()).message
    assert len(scene.finding.spans) == before + 3
    scene.organization = an_organization(version=3, generation=3)
    scene.cache.senders.put(known_to_work(a_sender("anna", version=3), key_of("anna")))


CHANGES = [change_organization, suspend_sender, refuse_key]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_sweep_that_continued_a_cut_one_is_continued_after_a_change(
    change: Callable[[Scene], None],
) -> None:
    """Else a search with very many envelopes begins with the newest ones again and again."""
    scene = Scene(bounds=SweepBounds(requests=5), sweep=None)
    await scene.sweep()
    await stop_by_a_change(scene, change)
    reached = scene.finding.spans[-1]
    await scene.sweep()
    # The window of the third answer was complete.
    assert scene.finding.spans[8][1] == reached[1] - timedelta(days=1)


@pytest.mark.parametrize("change", CHANGES)
async def test_a_sweep_that_began_with_the_newest_envelopes_searches_them_again_after_a_change(
    change: Callable[[Scene], None],
) -> None:
    """The change may decide which of them are found. Older ones are first: others may change it all the
    time."""
    scene = Scene(sweep=None)
    await stop_by_a_change(scene, change)
    newest = scene.finding.spans[:3]
    assert (await scene.sweep()).is_complete
    assert scene.finding.spans[-3:] == newest


async def test_an_answer_with_fewer_hits_than_an_earlier_one_is_complete() -> None:
    scene = Scene(sweep={"interval": "1h", "lookback": "24h"})
    envelopes = [numbered(number) for number in range(1000)]
    scene.finds("anna", *envelopes)
    scene.finding.sent = {each: NOON - timedelta(seconds=80 * n + 1) for n, each in enumerate(envelopes)}
    assert await scene.swept() == 1000
    assert len(scene.finding.spans) == 3


async def test_answers_that_do_not_depend_on_the_time_split_no_further() -> None:
    scene = Scene(sweep={"interval": "1h", "lookback": "24h"})
    scene.finds("anna", *map(numbered, range(300)))
    scene.finding.ignores_time = True
    outcome = await scene.sweep()
    assert (outcome.created, outcome.is_complete) == (300, False)
    assert len(scene.finding.spans) == 3


@pytest.mark.parametrize("most_hits", [1, 20, 50, 10_000])
async def test_a_sweep_in_an_esaw_that_ignores_the_time_is_not_complete_and_reports_it(
    most_hits: int,
) -> None:
    scene = Scene()
    scene.finds("anna", *map(numbered, range(300)))
    scene.finding.ignores_time, scene.finding.most_hits = True, most_hits
    outcome = await scene.sweep()
    assert outcome.created == min(300, most_hits)
    assert not outcome.is_complete
    assert "Sender/anna gets the same envelopes for different times" in outcome.message
    assert outcome.result(NOON).message == outcome.message


async def test_a_sweep_whose_smallest_window_may_be_cut_is_not_complete_and_reports_it() -> None:
    scene = Scene(sweep={"interval": "1h", "lookback": "24h"})
    envelopes = list(map(numbered, range(60)))
    scene.finds("anna", *envelopes)
    scene.finding.sent = {each: NOON - timedelta(hours=1, milliseconds=n) for n, each in enumerate(envelopes)}
    scene.finding.most_hits = 50
    outcome = await scene.sweep()
    assert (outcome.created, outcome.is_complete) == (50, False)
    assert "Sender/anna gets 50 envelopes for one minute, perhaps not all" in outcome.message


async def test_a_larger_answer_shows_that_the_smallest_window_was_not_cut() -> None:
    scene = Scene()
    scene.finds("anna", *map(numbered, range(160)))
    minute = {numbered(n): NOON - timedelta(hours=1) for n in range(60)}
    day = {numbered(n): NOON - timedelta(hours=25, minutes=10 * (n - 60)) for n in range(60, 160)}
    scene.finding.sent = minute | day
    outcome = await scene.sweep()
    assert (outcome.created, outcome.is_complete) == (160, True)


async def test_a_sweep_of_different_days_with_as_many_envelopes_each_is_complete() -> None:
    scene = Scene()
    scene.finds("anna", numbered(1), numbered(2))
    scene.finding.sent = {numbered(n): NOON - timedelta(hours=24 * n - 12) for n in (1, 2)}
    outcome = await scene.sweep()
    assert (outcome.created, outcome.is_complete) == (2, True)


async def test_the_sender_that_was_searched_longest_ago_is_first() -> None:
    scene = Scene("anna", "ben", bounds=SweepBounds(started=1))
    scene.finds("anna", numbered(1), numbered(2), numbered(3))
    scene.finds("ben", numbered(4))
    for _ in range(2):
        scene.clock.advance(seconds=60)
        await scene.sweep()
    assert sorted(each.metadata.labels[SENDER_LABEL] for each in scene.noted()) == ["anna", "ben"]


# -- Days that eSAW does not answer --------------------------------------------------------------------------

DAY = timedelta(days=1)


def failing_days(*days: int, problem: Exception | None = None) -> Any:
    """Let eSAW answer no search that covers noon of one of these days before."""
    find = FakeEsawUser.find

    async def failing(user: FakeEsawUser, **asked: Any) -> Any:
        found = await find(user, **asked)
        if any(asked["start"] < NOON - day * DAY - timedelta(hours=1) < asked["end"] for day in days):
            raise problem or HttpStatusError(500)
        return found

    return patch.object(FakeEsawUser, "find", failing)


def sent_days_ago(scene: Scene, days: int) -> None:
    scene.finds("anna", ENVELOPE)
    scene.finding.sent[ENVELOPE] = NOON - days * DAY - timedelta(hours=3)


@pytest.mark.parametrize("problem", [HttpStatusError(500), HttpStatusError(403), ResponseTooLarge("find", 1)])
async def test_a_day_that_esaw_never_answers_hides_no_older_one(problem: Exception) -> None:
    scene = Scene(sweep=None)
    sent_days_ago(scene, 20)
    with failing_days(10, problem=problem):
        outcome = await scene.sweep()
    assert outcome.created == 1
    assert not outcome.is_complete
    assert "Sender/anna (sent from 2026-06-20 12:00 to 2026-06-21 12:00" in outcome.message


async def test_a_day_that_esaw_did_not_answer_is_asked_for_again_by_the_next_sweep() -> None:
    scene = Scene(sweep=None)
    sent_days_ago(scene, 10)
    with failing_days(10):
        assert not (await scene.sweep()).is_complete
    outcome = await scene.sweep()
    assert (outcome.created, outcome.is_complete) == (1, True)


async def test_days_that_esaw_did_not_answer_twice_stay_a_part_of_the_search() -> None:
    scene = Scene(sweep=None)
    sent_days_ago(scene, 10)
    with failing_days(10, 11):
        await scene.sweep()
    scene.clock.advance(seconds=60)
    with failing_days(10, 11, 20):
        assert not (await scene.sweep()).is_complete
    scene.clock.advance(seconds=120)
    outcome = await scene.sweep()
    assert (outcome.created, outcome.is_complete) == (1, True)


async def test_days_that_esaw_never_answers_hide_no_other_one_that_failed_once() -> None:
    scene = Scene(sweep=None)
    sent_days_ago(scene, 20)
    with failing_days(10, 11, 20, 21):
        await scene.sweep()
    with failing_days(10, 11):
        for _ in range(3):
            scene.clock.advance(seconds=600)
            await scene.sweep()
    assert len(scene.noted()) == 1


async def test_days_that_esaw_never_answers_hide_no_envelope_that_ends_later() -> None:
    scene = Scene(sweep=None)
    with failing_days(10, 11):
        for _ in range(2):
            await scene.sweep()
        sent_days_ago(scene, 5)
        for _ in range(3):
            scene.clock.advance(seconds=600)
            await scene.sweep()
    assert len(scene.noted()) == 1


@pytest.mark.parametrize("problem", [HttpStatusError(503), HttpStatusError(403)])
async def test_many_days_that_esaw_never_answers_hide_no_older_one(problem: Exception) -> None:
    scene = Scene(sweep=None)
    sent_days_ago(scene, 31)
    with failing_days(*range(10), problem=problem):
        for _ in range(12):
            await scene.sweep()
    assert len(scene.noted()) == 1


async def test_a_day_for_which_a_key_seems_to_be_refused_hides_no_older_one() -> None:
    scene = Scene(sweep=None)
    sent_days_ago(scene, 20)
    with failing_days(10, problem=HttpStatusError(401)):
        await scene.sweep()
        anna = scene.cache.senders.get("anna")
        assert anna is not None
        scene.sender_keys.accepted(anna)
        assert (await scene.sweep()).created == 1


async def test_an_esaw_that_answers_nothing_is_asked_few_times_in_one_sweep() -> None:
    scene = Scene("anna", "ben", sweep=None)
    with failing_days(*range(40)):
        await scene.sweep()
    assert len(scene.finding.spans) == 4


async def test_days_that_esaw_did_not_answer_are_asked_for_after_the_older_ones() -> None:
    scene = Scene(sweep=None)
    with failing_days(*range(40)):
        await scene.sweep()
    scene.finding.spans.clear()
    scene.clock.advance(seconds=3600)
    outcome = await scene.sweep()
    assert outcome.is_complete
    ends = [end for _, end in scene.finding.spans]
    assert ends[0] == NOON - 2 * DAY
    # The hour that passed meanwhile, and the two days that failed.
    assert ends[-3:] == [NOON + timedelta(hours=1), NOON, NOON - DAY]
    scene.finding.spans.clear()
    await scene.sweep()
    assert len(scene.finding.spans) == 32, "a sweep that is complete leaves nothing to the next one"


async def test_days_that_esaw_never_answers_end_no_search_of_the_newest_ones() -> None:
    scene = Scene(sweep=None)
    scene.finds("anna", ENVELOPE)
    scene.finding.sent[ENVELOPE] = NOON + timedelta(hours=30)
    with failing_days(*range(2, 12)):
        for _ in range(40):
            await scene.sweep()
            scene.clock.advance(seconds=3600)
    assert len(scene.noted()) == 1


def alternating(count: int) -> tuple[Window, ...]:
    """Return each second day of this many before noon, the newest first."""
    return tuple(Window(NOON - (2 * day + 1) * DAY, NOON - 2 * day * DAY) for day in range(count))


def test_few_spans_of_time_stay_as_they_are_and_neighbours_are_one() -> None:
    days = alternating(MAX_SPANS)
    assert merged(days) == days
    first, second, *others = days
    assert merged((first, Window(second.end, first.start), second, *others)) == (
        Window(second.start, first.end),
        *others,
    )


def test_the_nearest_of_many_spans_of_time_become_one_so_that_their_number_is_bounded() -> None:
    far = Window(NOON - 9000 * DAY, NOON - 8999 * DAY)
    kept = merged((*alternating(1000), far))
    assert len(kept) == MAX_SPANS
    assert kept[-1] == far
    assert all(
        any(span.start <= day.start and day.end <= span.end for span in kept) for day in alternating(1000)
    )


async def test_a_sweep_keeps_a_bounded_rest_of_a_long_look_back() -> None:
    scene = Scene(sweep={"interval": "1h", "lookback": "9600h"})
    with failing_days(*range(0, 397, 2), 397):
        assert not (await scene.sweep()).is_complete
    (search,) = scene.missed_callback_finder.searches.values()
    assert search.rest is not None
    assert len(search.rest.again) == MAX_SPANS
    scene.finding.spans.clear()
    assert (await scene.sweep()).is_complete
    asked = [end for _, end in scene.finding.spans]
    assert asked[0] == NOON - 398 * DAY
    assert {NOON - day * DAY for day in range(0, 397, 2)} <= set(asked)


async def test_the_rest_of_a_sender_that_was_deleted_is_forgotten() -> None:
    scene = Scene("anna", "ben", sweep=None)
    with failing_days(*range(40)):
        await scene.sweep()
    assert len(scene.missed_callback_finder.searches) == 2
    scene.cache.senders.remove("ben")
    with failing_days(*range(40)):
        await scene.sweep()
    assert [sender for _, sender in scene.missed_callback_finder.searches] == ["uid-anna"]


async def test_the_rests_of_an_organization_that_was_deleted_are_forgotten() -> None:
    scene = Scene(sweep=None)
    with failing_days(*range(40)):
        await scene.sweep()
    metadata = replace(scene.organization.metadata, uid="uid-again", resource_version="9")
    scene.organization = replace(scene.organization, metadata=metadata)
    with failing_days(*range(40)):
        await scene.sweep()
    assert [organization for organization, _ in scene.missed_callback_finder.searches] == ["uid-again"]


def change_sender(scene: Scene) -> None:
    sender = scene.cache.senders.get("anna")
    assert sender is not None
    version, generation = int(sender.metadata.resource_version or 0) + 1, sender.metadata.generation + 1
    changed = replace(sender.metadata, generation=generation, resource_version=str(version))
    scene.cache.senders.put(replace(sender, metadata=changed))


def change_organization_of_the_scene(scene: Scene) -> None:
    metadata = scene.organization.metadata
    generation = metadata.generation + 1
    scene.organization = an_organization(version=generation, generation=generation)
    scene.cache.organizations.put(scene.organization)


def fail_at_the_api_server(scene: Scene) -> None:
    raise Unavailable(503, "ServiceUnavailable", "no etcd")


@pytest.mark.parametrize("problem", [change_sender, change_organization_of_the_scene, fail_at_the_api_server])
async def test_each_end_of_a_search_keeps_where_it_stopped(problem: Callable[[Scene], None]) -> None:
    scene = Scene(sweep=None, bounds=SweepBounds(requests=12))
    sent_days_ago(scene, 31)
    find = FakeEsawUser.find

    async def sometimes(user: FakeEsawUser, **asked: Any) -> Any:
        found = await find(user, **asked)
        if len(scene.finding.spans) == 5:
            problem(scene)
        return found

    with patch.object(FakeEsawUser, "find", sometimes):
        for number in range(8):
            if number % 2 == 0:
                scene.finding.spans.clear()
            with suppress(Unavailable):
                await scene.sweep()
    assert len(scene.noted()) == 1


async def test_other_statuses_to_archive_begin_the_search_again() -> None:
    scene = Scene(bounds=SweepBounds(requests=1))
    await scene.sweep()
    scene.organization = an_organization(version=2, generation=2, statuses=["Completed", "Rejected"])
    scene.finding.spans.clear()
    await scene.sweep()
    assert scene.finding.spans[0][1] == NOON


# -- What the result says ------------------------------------------------------------------------------------


async def test_a_sender_without_a_key_that_works_is_named_and_not_repeated() -> None:
    scene = Scene("anna")
    scene.put_sender(a_sender("carl", authorized="False"))
    scene.put_sender(known_to_work(a_sender("dora", suspend=True), key_of("dora")))
    scene.finds("anna", ENVELOPE)
    outcome = await scene.sweep()
    assert outcome.is_complete
    assert outcome.message == (
        "Finished envelopes without an event: 1. Each of them has one now. Not searched, since they were "
        "suspended or had no key that works: Sender/carl, Sender/dora. Each is searched once its key works, "
        "or by the next sweep."
    )


@pytest.mark.parametrize("authorized", [None, "Unknown", "False"])
async def test_who_is_authorized_after_a_sweep_is_late_until_searched(
    authorized: ConditionStatus | None,
) -> None:
    scene = Scene("anna")
    scene.put_sender(a_sender("bert", authorized=authorized))
    scene.finds("bert", ENVELOPE)
    outcome = await scene.sweep()
    assert outcome.is_complete
    assert outcome.message.endswith(
        "Not searched, since they were suspended or had no key that works: Sender/bert. Each is searched "
        "once its key works, or by the next sweep."
    )
    organization = scene.after(outcome)
    assert scene.missed_callback_finder.late_senders(organization) == []
    scene.put_sender(known_to_work(a_sender("bert", version=2), key_of("bert")))
    senders = scene.missed_callback_finder.late_senders(organization)
    assert [each.name for each in senders] == ["bert"]
    assert await scene.missed_callback_finder.sweep_late(organization, senders) == SweepOutcome(1)
    assert scene.missed_callback_finder.late_senders(organization) == []


async def test_who_is_authorized_during_a_sweep_is_searched_by_it() -> None:
    scene = Scene("anna")
    scene.put_sender(a_sender("bert", authorized=None))
    scene.finds("bert", ENVELOPE)
    find = FakeEsawUser.find

    async def verifying(user: FakeEsawUser, **asked: Any) -> Any:
        scene.cache.senders.put(known_to_work(a_sender("bert", version=2), key_of("bert")))
        return await find(user, **asked)

    with patch.object(FakeEsawUser, "find", verifying):
        outcome = await scene.sweep()
    assert outcome == SweepOutcome(1)
    assert scene.missed_callback_finder.late_senders(scene.after(outcome)) == []


async def test_who_is_changed_before_its_search_is_searched_as_it_is_then() -> None:
    scene = Scene("anna", "bert")
    scene.finds("bert", ENVELOPE)
    bert, find = scene.cache.senders.get("bert"), FakeEsawUser.find
    assert bert is not None
    changed = replace(bert, metadata=replace(bert.metadata, generation=2, resource_version="2"))

    async def changing(user: FakeEsawUser, **asked: Any) -> Any:
        scene.cache.senders.put(changed)
        return await find(user, **asked)

    with patch.object(FakeEsawUser, "find", changing):
        assert await scene.sweep() == SweepOutcome(1)


async def test_what_a_late_search_changes_is_added_to_the_result_and_nothing_else() -> None:
    earlier = SweepOutcome(2, known=3, reopened=1, without_event=4).result(NOON)
    late = SweepOutcome(5, known=6, reopened=7, without_event=8, skipped=("bert",), unusable=("carl",))
    both = late.with_earlier(earlier)
    assert both[:2] == (7, ("bert",))
    assert (both.known, both.reopened, both.without_event) == (3, 8, 8)
    assert both.result(NOON).complete
    assert "failed: Sender/bert. The search is repeated automatically." in both.message


async def test_who_is_resumed_after_a_sweep_is_late() -> None:
    scene = Scene("anna", "bert")
    scene.put_sender(known_to_work(a_sender("bert", version=2, suspend=True), key_of("bert")))
    organization = scene.after(await scene.sweep())
    assert scene.missed_callback_finder.late_senders(organization) == []
    scene.put_sender(known_to_work(a_sender("bert", version=3), key_of("bert")))
    assert [each.name for each in scene.missed_callback_finder.late_senders(organization)] == ["bert"]


async def test_a_search_that_the_api_server_ended_leaves_its_sender_late() -> None:
    scene = Scene("anna")
    scene.finds("anna", ENVELOPE)
    scene.kube.go_away("create", times=1)
    with pytest.raises(ApiError):
        await scene.sweep()
    organization = scene.after(SweepOutcome(0))
    assert [each.name for each in scene.missed_callback_finder.late_senders(organization)] == ["anna"]


@pytest.mark.parametrize(("seconds", "late"), [(-1, ["anna"]), (0.5, ["anna"]), (1, [])])
async def test_after_a_restart_the_times_decide_who_is_late(seconds: float, late: list[str]) -> None:
    scene = Scene("anna")
    swept = SweepOutcome(0).result(NOON + timedelta(seconds=seconds))
    organization = replace(scene.organization, status=replace(scene.organization.status, sweep=swept))
    scene.cache.organizations.put(organization)
    assert [each.name for each in scene.missed_callback_finder.late_senders(organization)] == late
    await scene.missed_callback_finder.sweep_late(organization, scene.cache.authorized_senders("acme"))
    assert scene.missed_callback_finder.late_senders(organization) == []


@pytest.mark.parametrize(("unlisted", "is_complete"), [("Ignore", True), ("Archive", False)])
async def test_a_sweep_without_an_action_that_archives_says_that_nothing_was_searched(
    unlisted: str, *, is_complete: bool
) -> None:
    """It is not complete if callbacks archive all the same."""
    actions = [{"action": "workstepFinished", "handling": "Record"}]
    scene = Scene(actions=actions, unlistedActions=unlisted)
    scene.finds("anna", ENVELOPE)
    outcome = await scene.sweep()
    result = outcome.result(NOON)
    assert scene.finding.spans == []
    assert (result.found, result.complete) == (0, is_complete)
    assert result.message == outcome.message
    assert outcome.message == (
        "Nothing was searched: no action in spec.actions of Organization/acme has the handling Archive. Give "
        "one of them this handling."
    )


async def test_nobody_is_late_while_the_last_sweep_is_not_complete() -> None:
    scene = Scene("anna")
    assert scene.missed_callback_finder.late_senders(scene.after(SweepOutcome(0, skipped=("anna",)))) == []


async def test_an_envelope_whose_event_has_a_taken_name_is_not_said_to_have_one() -> None:
    scene = Scene()
    scene.finds("anna", ENVELOPE, SECOND, "no-guid")
    scene.kube.put(an_event().build())
    name = an_event().build().name
    scene.kube.objects[EnvelopeEvent.PLURAL, name]["spec"]["action"] = "envelopeExpired"
    outcome = await scene.sweep()
    assert (outcome.created, outcome.without_event) == (1, 2)
    assert "1 of them have one now. 2 have none" in outcome.message
    assert outcome.result(NOON).message == outcome.message


async def test_a_sweep_counts_the_envelopes_whose_events_it_does_not_change() -> None:
    scene = Scene()
    for number in range(3):
        scene.kube.put(an_event(numbered(number)).archived().in_phase(Phase.SUCCEEDED).build())
    again = an_event(numbered(3)).in_phase(Phase.SKIPPED, "UnexpectedStatus")
    scene.kube.put(again.status(completion_time=NOON - timedelta(days=1)).build())
    scene.finds("anna", *(numbered(number) for number in range(5)), "no-guid")
    result = (await scene.sweep()).result(NOON)
    assert (result.found, result.known, result.reopened, result.refused) == (1, 3, 1, 1)
    assert "Events that start again: 1." in (result.message or "")


async def test_a_sweep_that_leaves_nothing_out_has_no_message_in_the_status() -> None:
    scene = Scene()
    scene.finds("anna", ENVELOPE)
    assert (await scene.sweep()).result(NOON) == SweepResult(completion_time=NOON, found=1)


async def test_an_envelope_whose_event_the_api_server_refuses_costs_no_other() -> None:
    scene = Scene()
    first, second = (f"00000000-0000-4000-8000-{number:012d}" for number in (1, 2))
    scene.finds("anna", first, second)
    name = event_name("acme", EnvelopeId(first), "envelopeFinished")
    scene.kube.refused["create", name] = Rejected(422, "Invalid", "not this one")

    outcome = await scene.sweep()

    assert [each.spec.envelope_id for each in scene.noted()] == [second]
    assert (outcome.created, outcome.without_event) == (1, 1)


async def test_an_event_that_others_change_all_the_time_costs_no_other() -> None:
    scene = Scene("anna", "bert")
    ended = an_ended_event(Phase.SUCCEEDED, "Recorded")
    scene.kube.put(ended)
    scene.finds("anna", ENVELOPE)
    scene.finds("bert", SECOND)
    counted = {"status": {"deliveries": 2}}
    for _ in range(MAX_CHANGE_ATTEMPTS):
        scene.kube.just_before("patch_status", lambda: scene.kube.edit(EnvelopeEvent, ended.name, counted))

    outcome = await scene.sweep()

    assert (outcome.created, outcome.without_event) == (1, 1)


@pytest.mark.parametrize("message", ["exceeded quota: counterfoil", "denied by the policy cost-centre"])
async def test_a_sweep_whose_events_are_forbidden_reports_it(message: str) -> None:
    scene = Scene("anna", "bert")
    scene.finds("anna", ENVELOPE)
    scene.kube.fail("create", Forbidden(403, "Forbidden", message))
    outcome = await scene.sweep()
    assert not outcome.is_complete
    assert message in outcome.message


# -- Late Senders: each one's trouble costs only itself ------------------------------------------------------

HOSTILE_SEARCHES = 50


def created_again(name: str, number: int, **changes: Any) -> Sender:
    """Return the Sender that took the place of a deleted one with its name, with a key that works."""
    sender = known_to_work(a_sender(name, version=100 + number, **changes), key_of(name))
    return replace(sender, metadata=replace(sender.metadata, uid=f"uid-{name}-{number}"))


def creating_a_sender_in_each_search(scene: Scene, first: str) -> Any:
    """Let each search of the newest Sender create another one: ``first``, then ``first-1``, and so on."""
    find, names = FakeEsawUser.find, [first]

    async def creating(user: FakeEsawUser, **asked: Any) -> Any:
        assert len(scene.finding.spans) < HOSTILE_SEARCHES, "the search does not end"
        if user.token.reveal() == key_of(names[-1]):
            names.append(f"{first}-{len(names)}")
            works_now(scene, names[-1])
        return await find(user, **asked)

    return patch.object(FakeEsawUser, "find", creating)


def works_now(scene: Scene, name: str, version: int = 2, key: str | None = None) -> None:
    scene.put_sender(known_to_work(a_sender(name, version=version), key or key_of(name)))


async def with_late(*late: str, bounds: SweepBounds | None = None, **spec: Any) -> tuple[Scene, Organization]:
    """Return a scene after a sweep that could not search some Senders, whose keys work now."""
    scene = Scene("anna", bounds=bounds, **spec)
    for name in late:
        scene.put_sender(a_sender(name, authorized="False"))
    organization = scene.after(await scene.sweep())
    for name in late:
        works_now(scene, name)
    return scene, organization


async def search_late(scene: Scene, organization: Organization) -> Organization:
    """Search the late Senders; return the Organization with the result."""
    last, finder = organization.status.sweep, scene.missed_callback_finder
    assert last is not None
    outcome = await finder.sweep_late(organization, finder.late_senders(organization))
    result = outcome.with_earlier(last).result(last.completion_time)
    return replace(organization, status=replace(organization.status, sweep=result))


def late_names(scene: Scene, organization: Organization) -> list[str]:
    return [each.name for each in scene.missed_callback_finder.late_senders(organization)]


def message_of(organization: Organization) -> str:
    assert organization.status.sweep is not None
    return organization.status.sweep.message or ""


async def test_senders_that_are_created_in_each_search_keep_no_sweep_going() -> None:
    scene = Scene("anna", "mallory")
    with creating_a_sender_in_each_search(scene, "mallory"):
        organization = scene.after(await scene.sweep())
    assert "Not searched yet: Sender/mallory-1." in message_of(organization)
    assert late_names(scene, organization) == ["mallory-1"]


async def test_senders_that_are_created_in_each_late_search_keep_none_going() -> None:
    scene, organization = await with_late("mallory", "bert")
    with creating_a_sender_in_each_search(scene, "mallory"):
        organization = await search_late(scene, organization)
    assert "Not searched yet: Sender/mallory-1." in message_of(organization)
    assert late_names(scene, organization) == ["mallory-1"]


async def test_a_sender_that_is_created_again_during_its_search_repeats_no_sweep() -> None:
    scene = Scene("anna", "mallory")
    find = FakeEsawUser.find

    async def creating(user: FakeEsawUser, **asked: Any) -> Any:
        if user.token.reveal() == key_of("mallory"):
            scene.cache.senders.put(created_again("mallory", 1))
        return await find(user, **asked)

    with patch.object(FakeEsawUser, "find", creating):
        outcome = await scene.sweep()
    assert (outcome.is_complete, outcome.waiting) == (True, ("mallory",))
    assert late_names(scene, scene.after(outcome)) == ["mallory"]


async def test_a_sender_that_is_created_again_is_searched_after_those_who_wait() -> None:
    scene = Scene("mallory", "anna", bounds=SweepBounds(started=1))
    scene.finds("anna", ENVELOPE)
    for number in range(3):
        scene.finds("mallory", *(numbered(10 * number + each) for each in range(2)))
        scene.cache.senders.put(created_again("mallory", number))
        await scene.sweep()
        scene.clock.advance(minutes=1)
    assert "anna" in {each.metadata.labels[SENDER_LABEL] for each in scene.noted()}


async def test_a_late_sender_that_was_not_asked_for_is_named_and_asked_for_at_once() -> None:
    scene, organization = await with_late("mallory", "bert", bounds=SweepBounds(started=3))
    scene.finds("mallory", *map(numbered, range(4)))
    scene.finds("bert", ENVELOPE)
    organization = await search_late(scene, organization)
    assert "Sender/mallory: 3 events are as many as one sweep starts" in message_of(organization)
    assert "Not searched yet: Sender/bert." in message_of(organization)
    assert late_names(scene, organization) == ["bert"]
    organization = await search_late(scene, organization)
    assert "Sender/bert" not in message_of(organization)
    assert "Sender/mallory" in message_of(organization)
    assert len(scene.noted()) == 4


async def test_the_events_of_one_late_sender_end_no_search_of_another() -> None:
    scene, organization = await with_late("mallory", "bert", bounds=SweepBounds(started=1))
    scene.finds("mallory", numbered(1))
    scene.finds("bert", numbered(2))
    organization = await search_late(scene, organization)
    assert (len(scene.noted()), message_of(organization)) == (2, "")


async def test_a_late_search_during_an_error_of_the_api_server_names_its_sender() -> None:
    scene, organization = await with_late("bert")
    scene.finds("bert", ENVELOPE)
    scene.kube.go_away("create", times=1)
    organization = await search_late(scene, organization)
    assert "Not searched yet: Sender/bert." in message_of(organization)
    assert late_names(scene, organization) == []
    scene.clock.advance(seconds=60)
    organization = await search_late(scene, organization)
    assert (len(scene.noted()), message_of(organization)) == (1, "")


async def test_a_late_search_with_a_doubt_is_repeated_for_its_sender_alone() -> None:
    scene, organization = await with_late("bert", "carl")
    scene.finds("bert", *map(numbered, range(60)))
    scene.finding.ignores_time = True
    doubt = "Sender/bert gets the same envelopes for different times"
    times = []
    for minute in range(20):
        if late := late_names(scene, organization):
            times.append((minute, late))
            organization = await search_late(scene, organization)
        assert doubt in message_of(organization)
        scene.clock.advance(minutes=1)
    assert times == [(0, ["bert", "carl"]), (1, ["bert"]), (3, ["bert"]), (7, ["bert"]), (15, ["bert"])]
    assert organization.status.sweep is not None
    assert organization.status.sweep.complete
    scene.finding.ignores_time = False
    scene.finds("bert", ENVELOPE)
    scene.clock.advance(hours=1)
    assert "left envelopes out" not in message_of(await search_late(scene, organization))


async def test_the_search_of_one_late_sender_wipes_no_failure_of_another() -> None:
    scene, organization = await with_late("bert")
    scene.put_sender(a_sender("carl", authorized="False"))
    scene.finding.problems[key_of("bert")] = EsawUnreachable("timeout")
    organization = await search_late(scene, organization)
    failed = "eSignAnyWhere or the key failed: Sender/bert."
    assert failed in message_of(organization)
    works_now(scene, "carl")
    assert late_names(scene, organization) == ["carl"]
    organization = await search_late(scene, organization)
    assert failed in message_of(organization)
    del scene.finding.problems[key_of("bert")]
    scene.clock.advance(minutes=1)
    organization = await search_late(scene, organization)
    assert message_of(organization) == ""


async def test_a_late_search_names_nobody_who_was_searched_and_is_suspended_since() -> None:
    scene, organization = await with_late("bert")
    scene.put_sender(known_to_work(a_sender("anna", version=3, suspend=True), key_of("anna")))
    assert message_of(await search_late(scene, organization)) == ""


async def test_the_envelopes_of_late_senders_without_an_event_are_counted_once_each() -> None:
    scene = Scene("anna")
    scene.finds("anna", "no-guid-at-all")
    for name in ("bert", "carl"):
        scene.put_sender(a_sender(name, authorized="False"))
        scene.finds(name, f"no-guid-of-{name}")
    organization = scene.after(await scene.sweep())
    works_now(scene, "bert")
    scene.finding.sent["no-guid-of-bert"] = NOON - timedelta(hours=25)
    with failing_days(0):
        organization = await search_late(scene, organization)
    for name in ("bert", "carl"):
        works_now(scene, name, version=4)
    scene.clock.advance(minutes=1)
    organization = await search_late(scene, organization)
    assert organization.status.sweep is not None
    assert organization.status.sweep.refused == 3
    assert "3 have none" in message_of(organization)


async def test_after_a_restart_an_envelope_without_an_event_of_a_late_sender_is_not_counted_again() -> None:
    scene = Scene("anna")
    scene.finds("anna", "no-guid-at-all")
    organization = scene.after(SweepOutcome(0, without_event=1))
    scene.cache.organizations.put(organization)
    assert late_names(scene, organization) == ["anna"]
    organization = await search_late(scene, organization)
    assert organization.status.sweep is not None
    assert organization.status.sweep.refused == 1


async def test_a_new_key_ends_the_pause_of_a_late_sender_at_once() -> None:
    scene, organization = await with_late("bert")
    scene.finding.problems[key_of("bert")] = EsawUnreachable("timeout")
    for _ in range(8):
        organization = await search_late(scene, organization)
        scene.clock.advance(hours=1)
    organization = await search_late(scene, organization)
    works_now(scene, "bert", version=3)
    assert late_names(scene, organization) == []
    new = key_of("another")
    works_now(scene, "bert", version=4, key=new)
    assert late_names(scene, organization) == ["bert"]
    scene.kube.put_secret("bert-key", "token", {"token": new.encode()})
    scene.finding.problems[new] = EsawUnreachable("timeout")
    organization = await search_late(scene, organization)
    assert late_names(scene, organization) == []
    scene.clock.advance(minutes=1)
    assert late_names(scene, organization) == ["bert"], "its pauses begin again"
