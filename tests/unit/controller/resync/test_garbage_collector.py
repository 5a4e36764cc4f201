"""Clean-up of finished events, and counting them."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Self
from weakref import ref

import msgspec
import pytest

from controller.cache import Cache
from controller.mails.problem_tracking import FailureSummary
from controller.resync.garbage_collector import (
    FAILING_SECONDS,
    MAX_REST_SECONDS,
    PAGE_SECONDS,
    PAGE_SIZE,
    START_SECONDS,
    GarbageCollector,
    is_expired,
)
from controller.resync.statistics import EventStatistics
from counterfoil.kube.errors import ApiError, Expired, Forbidden, Rejected, Unavailable
from counterfoil.kube.page_limits import SMALL_PAGE
from counterfoil.kube.server_clock import ServerClock
from counterfoil.kube.watch import Raw
from counterfoil.resources import (
    ARCHIVED_LABEL,
    IMPORT_LABEL,
    IMPORT_WINDOW_LABEL,
    ORGANIZATION_LABEL,
    SHARD_LABEL,
    Activity,
    Envelope,
    EnvelopeEvent,
    EnvelopeSummary,
    EventNotice,
    Import,
    LocalObjectReference,
    NoticeState,
    Origin,
    Phase,
    Resource,
    shard,
)
from counterfoil.resources.imports import window_label
from tests.support.builders import ENVELOPE, NOON, AClock, EventBuilder, an_event, an_organization
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.scenes.waiting_events import unchanged

LONG_AGO = NOON - timedelta(days=34)


class ExpiringListKubeClient(InMemoryKubeClient):
    """Forgets a list after its first page, as the API server does after five minutes."""

    forgets = True

    async def page(
        self, kind: type[Resource], *, limit: int, token: str = "", labels: str = "", fields: str = ""
    ) -> tuple[list[Raw], str]:
        if token and self.forgets:
            self.forgets = False
            expired = Expired(410, "Expired", "the continue token is too old")
            expired.token = token
            raise expired
        return await super().page(kind, limit=limit, token=token, labels=labels, fields=fields)


class Page(list[Raw]):
    """A page that can be observed."""


class PagingKubeClient(InMemoryKubeClient):
    """Records the limit of each page of events, and how many of them are in memory at the next request."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[int] = []
        self.kept: list[int] = []
        self._pages: list[ref[Page]] = []

    async def page(
        self, kind: type[Resource], *, limit: int, token: str = "", labels: str = "", fields: str = ""
    ) -> tuple[list[Raw], str]:
        items, token = await super().page(kind, limit=limit, token=token, labels=labels, fields=fields)
        if kind is not EnvelopeEvent:
            return items, token
        self.limits.append(limit)
        self.kept.append(sum(each() is not None for each in self._pages))
        page = Page(items)
        self._pages.append(ref(page))
        return page, token


class KillingKubeClient(InMemoryKubeClient):
    """Ends the process that sends a certain request."""

    def __init__(self, request: int) -> None:
        super().__init__()
        self._left = request

    def _begin(self, verb: str, name: str) -> None:
        self._left -= 1
        if self._left == 0:
            raise asyncio.CancelledError
        super()._begin(verb, name)


class Scene:
    def __init__(self, *events: EnvelopeEvent, kube: InMemoryKubeClient | None = None, **spec: Any) -> None:
        self.clock = AClock()
        self.cache = Cache()
        self.cache.organizations.put(an_organization(**spec))
        self.kube = kube or InMemoryKubeClient()
        for each in events:
            self.kube.put(each)
        self.passes = 0
        self.failures: Mapping[str, FailureSummary] = {}
        self.began = NOON
        self.reopen: Callable[[EnvelopeEvent], Awaitable[EnvelopeEvent]] = unchanged
        self.restarted()

    def restarted(self) -> Self:
        """Let another process run the garbage-collection passes from now on."""
        self.statistics = EventStatistics()
        self.garbage_collector = GarbageCollector(
            kube=self.kube,
            cache=self.cache,
            clock=self.clock,
            machine_clock=self.clock,
            statistics=self.statistics,
            reopeners=(self.reopen,),
            pass_finished=self.count_pass,
        )
        return self

    def count_pass(self, began: datetime, failures: Mapping[str, FailureSummary]) -> None:
        self.passes, self.failures, self.began = self.passes + 1, failures, began

    async def pass_finished(self, times: int = 1) -> None:
        """Run this number of garbage-collection passes, if nothing kills them."""
        wanted = self.passes + times
        await self.until(lambda: self.passes >= wanted)

    async def until(self, is_so: Callable[[], bool]) -> None:
        task = asyncio.create_task(self.garbage_collector.run())
        try:
            for _ in range(10_000):
                if is_so() or task.done():
                    return
                await asyncio.sleep(0)
            pytest.fail("it never came to that")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def there(self) -> set[str]:
        return {name for _, name in self.kube.objects}


def finished(phase: Phase, number: int = 0) -> EventBuilder:
    return (
        an_event(f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d").in_phase(phase).status(completion_time=LONG_AGO)
    )


@pytest.mark.parametrize(
    ("phase", "ttl", "outlived"),
    [
        (Phase.SUCCEEDED, {}, True),
        (Phase.SKIPPED, {}, True),
        (Phase.FAILED, {}, False),
        (Phase.FAILED, {"failed": "720h"}, True),
        (Phase.FAILED, {"failed": "7200h"}, False),
        (Phase.SUCCEEDED, {"succeeded": "7200h"}, False),
        (Phase.ARCHIVING, {"failed": "72h", "succeeded": "72h"}, False),
        (Phase.AWAITING_CONSENT, {"failed": "72h", "succeeded": "72h"}, False),
    ],
)
def test_a_finished_event_lives_as_long_as_its_organization_says(
    phase: Phase, ttl: dict[str, str], outlived: bool
) -> None:
    assert is_expired(finished(phase).build(), an_organization(ttl=ttl).spec, NOON) is outlived


@pytest.mark.parametrize(("lookback", "outlived"), [("768h", True), ("900h", False)])
def test_an_event_is_kept_at_least_for_the_look_back_of_the_sweep(lookback: str, outlived: bool) -> None:
    # Stored before the CRD refused this: a sweep would find the archived envelope without its event.
    organization = an_organization(ttl={"succeeded": "72h"}, sweep={"interval": "1h", "lookback": lookback})
    assert is_expired(finished(Phase.SUCCEEDED).build(), organization.spec, NOON) is outlived


@pytest.mark.parametrize(
    ("ttl", "reason", "changes", "outlived"),
    [
        ({}, "EnvelopeNotFound", {}, True),
        ({"unknown": "7200h"}, "EnvelopeNotFound", {}, False),
        ({"unknown": "7200h", "failed": "72h"}, "EnvelopeNotFound", {}, True),
        ({}, "EnvelopeDeleted", {}, False),
        ({}, "EnvelopeNotFound", {"envelope": EnvelopeSummary(name="Contract")}, False),
    ],
    ids=["default", "longer", "shorter for all failed", "another reason", "eSAW described it once"],
)
def test_an_event_whose_envelope_never_existed_has_its_own_time_to_live(
    ttl: dict[str, str], reason: str, changes: dict[str, Any], outlived: bool
) -> None:
    event = an_event().in_phase(Phase.FAILED, reason).status(completion_time=LONG_AGO, **changes).build()
    assert is_expired(event, an_organization(ttl=ttl).spec, NOON) is outlived


def test_an_event_that_a_person_made_for_an_unknown_envelope_is_kept() -> None:
    event = an_event().by(Origin.MANUAL).in_phase(Phase.FAILED, "EnvelopeNotFound")
    assert not is_expired(event.status(completion_time=LONG_AGO).build(), an_organization().spec, NOON)


def test_an_event_whose_notice_is_not_delivered_yet_is_kept() -> None:
    pending = EventNotice(id="n", state=NoticeState.PENDING)
    event = an_event().in_phase(Phase.SUCCEEDED).status(completion_time=LONG_AGO, notice=pending)
    assert not is_expired(event.build(), an_organization().spec, NOON)


def test_without_its_organization_an_event_is_kept() -> None:
    assert not is_expired(finished(Phase.SUCCEEDED).build(), None, NOON)


def test_an_event_that_does_not_say_when_it_ended_is_kept() -> None:
    assert not is_expired(an_event().in_phase(Phase.SUCCEEDED).build(), an_organization().spec, NOON)


async def test_events_of_a_deleted_organization_are_removed_by_the_default_time_to_live_after_a_day(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pending = EventNotice(id="n", state=NoticeState.PENDING)
    scene = Scene(
        finished(Phase.SUCCEEDED, 1).status(notice=pending).build(),
        finished(Phase.SKIPPED, 2).build(),
        finished(Phase.FAILED, 3).build(),
        an_event("00000004-4b1d-4c58-9a57-6d1f0a3b2c4d").in_phase(Phase.PENDING).build(),
    )
    scene.cache.organizations.remove("acme")
    await scene.pass_finished()
    assert len(scene.there()) == 4, "the Organization may be created again"
    scene.clock.advance(hours=25)
    await scene.pass_finished()
    assert {EnvelopeEvent.parse(each).status.phase for each in scene.kube.objects.values()} == {
        "Failed",
        "Pending",
    }
    stay = "1 unfinished, 1 failed, 0 skipped or suspended by a person"
    assert f"2 events of deleted Organizations stay ({stay}): acme" in caplog.text


async def test_a_skipped_event_of_a_deleted_organization_stays_and_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The Organization may be created again, with the policy Delete."""
    scene = Scene(finished(Phase.SKIPPED).status(skipped_time=LONG_AGO).build())
    scene.cache.organizations.remove("acme")
    await scene.pass_finished()
    scene.clock.advance(hours=25)
    await scene.pass_finished()
    assert len(scene.there()) == 1
    assert "stay (0 unfinished, 0 failed, 1 skipped or suspended by a person): acme" in caplog.text


@pytest.mark.parametrize("phase", [Phase.SUCCEEDED, Phase.SKIPPED])
async def test_a_kept_envelope_of_a_deleted_organization_that_nobody_lists_again_keeps_no_event(
    phase: Phase,
) -> None:
    listed_again = NOON - timedelta(days=33)
    scene = Scene(finished(phase).status(next_attempt_time=listed_again).build())
    await scene.pass_finished()
    scene.cache.organizations.remove("acme")
    await scene.pass_finished()
    scene.clock.advance(hours=23)
    await scene.pass_finished()
    assert len(scene.there()) == 1, "the Organization may be created again"
    scene.clock.advance(hours=2)
    await scene.pass_finished()
    assert scene.there() == set()


async def test_no_event_of_an_organization_that_is_known_to_be_deleted_is_planned_again() -> None:
    scene = Scene(finished(Phase.FAILED).build())
    planned: list[str] = []

    async def plan(event: EnvelopeEvent) -> EnvelopeEvent:
        planned.append(event.name)
        return event

    scene.reopen = plan
    scene.restarted()
    scene.cache.organizations.remove("acme")
    await scene.pass_finished()
    assert len(planned) == 1, "the Organization may be created again"
    scene.clock.advance(hours=25)

    await scene.pass_finished()

    assert len(planned) == 1


async def test_events_of_an_organization_that_is_created_again_stay() -> None:
    scene = Scene(finished(Phase.SUCCEEDED, 1).build(), ttl={"succeeded": "7200h"})
    organization = scene.cache.organizations.get("acme")
    assert organization is not None
    for _ in range(3):
        scene.cache.organizations.remove("acme")
        await scene.pass_finished()
        scene.clock.advance(hours=23)
        scene.cache.organizations.put(organization)
        await scene.pass_finished()
    assert len(scene.there()) == 1


async def test_what_has_outlived_its_time_is_removed_and_all_else_is_counted() -> None:
    scene = Scene(
        finished(Phase.SUCCEEDED, 1).build(),
        finished(Phase.SUCCEEDED, 2).status(completion_time=NOON).build(),
        finished(Phase.FAILED, 3).build(),
        an_event().in_phase(Phase.ARCHIVING).build(),
    )
    await scene.pass_finished()
    assert scene.statistics.counts("acme") == {"Succeeded": 1, "Failed": 1, "Archiving": 1}
    activity = scene.statistics.activity("acme")
    assert activity is not None
    assert sum(activity.unfinished_for.values()) == 1
    assert len(scene.kube.objects) == 3


async def test_an_event_whose_cause_was_fixed_is_reopened_and_not_removed_though_its_time_is_up() -> None:
    solved, other = finished(Phase.FAILED, 1).build(), finished(Phase.FAILED, 2).build()
    scene = Scene(solved, other, ttl={"failed": "72h"})

    async def reopen(event: EnvelopeEvent) -> EnvelopeEvent:
        if event.name != solved.name:
            return event
        changes = {"phase": "Pending", "completionTime": None}
        version = event.metadata.resource_version
        return EnvelopeEvent.parse(
            await scene.kube.patch_status(EnvelopeEvent, event.name, changes, resource_version=version)
        )

    scene.reopen = reopen
    scene.restarted()
    await scene.pass_finished()
    assert scene.there() == {solved.name}
    assert scene.statistics.counts("acme") == {"Pending": 1}


async def test_an_organization_without_events_is_counted_as_such() -> None:
    scene = Scene()
    await scene.pass_finished()
    assert scene.statistics.counts("acme") == {}
    assert scene.statistics.counts("unknown") is None
    assert scene.statistics.activity("acme") == Activity(count_time=NOON + timedelta(seconds=START_SECONDS))
    assert scene.statistics.activity("unknown") is None


def an_envelope(created: datetime = LONG_AGO, **metadata: Any) -> Envelope:
    created_text = created.isoformat()
    return Envelope.parse(
        {
            "metadata": {
                "name": ENVELOPE,
                "uid": "u",
                "resourceVersion": "1",
                "creationTimestamp": created_text,
                **metadata,
            },
            "spec": {
                "organizationRef": {"name": "acme"},
                "envelopeID": ENVELOPE,
                "senderRef": {"name": "anna"},
            },
        }
    )


def filed(phase: Phase = Phase.SUCCEEDED) -> EventBuilder:
    return an_event().archived().status(phase=phase, completion_time=LONG_AGO)


async def test_the_envelope_goes_after_the_event_that_archived_it() -> None:
    event = filed().build()
    scene = Scene(event)
    scene.kube.put(an_envelope())
    await scene.pass_finished(2)
    assert scene.there() == set()
    assert [name for verb, name in scene.kube.asked if verb == "delete"] == [event.name, ENVELOPE]


async def test_an_event_that_archived_nothing_leaves_the_envelope_for_the_one_that_will() -> None:
    scene = Scene(an_event().in_phase(Phase.SUCCEEDED).status(completion_time=LONG_AGO).build())
    scene.kube.put(an_envelope())
    await scene.pass_finished(3)
    assert scene.there() == {ENVELOPE}


async def test_the_envelope_of_an_event_that_is_reopened_at_this_very_moment_stays_with_it() -> None:
    event = filed(Phase.FAILED).build()
    scene = Scene(event, ttl={"failed": "72h"})
    scene.kube.put(an_envelope())
    scene.kube.just_before(
        "delete", lambda: scene.kube.edit(EnvelopeEvent, event.name, {"status": {"phase": "Pending"}})
    )
    await scene.pass_finished(3)
    assert scene.there() == {event.name, ENVELOPE}


@pytest.mark.parametrize("phase", [Phase.ARCHIVING, Phase.FAILED, Phase.SKIPPED])
async def test_the_envelope_stays_as_long_as_any_of_its_events_and_then_goes(phase: Phase) -> None:
    other = an_event().for_action("workstepFinished").in_phase(phase).status(completion_time=NOON).build()
    scene = Scene(filed().build(), other)
    scene.kube.put(an_envelope())
    await scene.pass_finished(3)
    assert scene.there() == {other.name, ENVELOPE}

    del scene.kube.objects[EnvelopeEvent.PLURAL, other.name]
    await scene.pass_finished()
    assert scene.there() == set()


async def test_the_envelope_stays_with_an_event_that_cannot_be_read() -> None:
    other = an_event().for_action("workstepFinished").build()
    scene = Scene(filed().build(), other)
    scene.kube.put(an_envelope())
    scene.kube.edit(EnvelopeEvent, other.name, {"spec": {"envelopeID": None}})
    await scene.pass_finished(3)
    assert scene.there() == {other.name, ENVELOPE}


async def test_an_envelope_that_nobody_called_about_yet_stays() -> None:
    scene = Scene()
    scene.kube.put(an_envelope())
    await scene.pass_finished(3)
    assert scene.there() == {ENVELOPE}


async def test_an_envelope_that_a_person_created_again_meanwhile_stays() -> None:
    scene = Scene(filed().build())
    scene.kube.put(an_envelope())
    await scene.pass_finished()
    scene.kube.just_before("delete", lambda: scene.kube.put(made_anew()))
    await scene.pass_finished(2)
    assert scene.there() == {ENVELOPE}


def made_anew() -> Envelope:
    return msgspec.structs.replace(
        an_envelope(), metadata=msgspec.structs.replace(an_envelope().metadata, uid="another")
    )


@pytest.mark.parametrize("request_", range(1, 12))
async def test_a_kill_at_any_request_loses_no_envelope_and_leaves_none_permanently(request_: int) -> None:
    event = filed().build()
    scene = Scene(event, kube=KillingKubeClient(request_))
    scene.kube.put(an_envelope())
    await scene.pass_finished(3)
    assert scene.there() in ({event.name, ENVELOPE}, {ENVELOPE}, set())

    await scene.restarted().pass_finished(2)
    assert scene.there() == set()


async def test_an_event_that_is_reopened_at_this_very_moment_stays() -> None:
    event = an_event().in_phase(Phase.SKIPPED).status(completion_time=LONG_AGO).build()
    scene = Scene(event)
    scene.kube.just_before(
        "delete", lambda: scene.kube.edit(EnvelopeEvent, event.name, {"status": {"phase": "Pending"}})
    )
    await scene.pass_finished()
    assert scene.there() == {event.name}


async def test_a_pass_goes_page_by_page_and_takes_its_time() -> None:
    scene = Scene(*(finished(Phase.FAILED, number).build() for number in range(2 * PAGE_SIZE + 1)))
    await scene.pass_finished()
    assert scene.statistics.counts("acme") == {"Failed": 2 * PAGE_SIZE + 1}
    events = [("page", "envelopeevents")] * 3
    assert scene.kube.asked == [("page", "imports"), ("page", "envelopes"), *events]
    assert [each for each in scene.clock.slept if each < 60] == [START_SECONDS, PAGE_SECONDS, PAGE_SECONDS]


async def test_a_pass_has_few_events_in_memory_and_reads_250_in_a_second() -> None:
    kube = PagingKubeClient()
    events = [finished(Phase.FAILED, number).build() for number in range(SMALL_PAGE + 1)]
    scene = Scene(*events, kube=kube)
    await scene.pass_finished()
    (pause,) = [each for each in scene.clock.slept if each < START_SECONDS]
    assert (kube.limits, SMALL_PAGE / pause) == ([SMALL_PAGE, SMALL_PAGE], 250)
    assert kube.kept == [0, 0]


async def test_other_tasks_run_between_the_events_of_a_page() -> None:
    scene = Scene(*(finished(Phase.FAILED, number).build() for number in range(10)))
    turns, turns_at = 0, list[int]()

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def observed(event: EnvelopeEvent) -> EnvelopeEvent:
        turns_at.append(turns)
        return event

    scene.reopen = observed
    counting = asyncio.create_task(count_turns())
    await scene.restarted().pass_finished()
    counting.cancel()
    assert len(set(turns_at)) == 10


async def test_after_a_pass_it_rests_nine_times_as_long_and_a_minute_at_least() -> None:
    scene = Scene(*(finished(Phase.FAILED, number).build() for number in range(2 * PAGE_SIZE)))
    await scene.until(lambda: len(scene.clock.slept) > 3)
    assert scene.clock.slept[:3] == [START_SECONDS, PAGE_SECONDS, 60.0]


async def test_the_first_pass_leaves_a_start_to_the_events_that_waited_for_it() -> None:
    scene = Scene(finished(Phase.FAILED).build())
    await scene.until(lambda: bool(scene.clock.slept))
    assert (scene.clock.slept, scene.kube.asked) == ([START_SECONDS], [])


async def test_a_pass_longer_than_the_memory_of_the_api_server_still_ends() -> None:
    events = [finished(Phase.FAILED, number).build() for number in range(2 * PAGE_SIZE + 1)]
    scene = Scene(*events, kube=ExpiringListKubeClient())
    await scene.pass_finished()
    assert scene.statistics.counts("acme") == {"Failed": 2 * PAGE_SIZE + 1}


async def test_an_unreachable_api_server_does_not_end_the_passes() -> None:
    scene = Scene(finished(Phase.FAILED).build())
    scene.kube.fail("page", ApiError(500, "InternalError", "?"))
    await scene.pass_finished()
    assert scene.statistics.counts("acme") == {"Failed": 1}


@pytest.mark.parametrize("verb", ["patch", "delete"])
@pytest.mark.parametrize(
    "problem", [Forbidden(403, "Forbidden", "legal hold"), Rejected(422, "Invalid", "no")]
)
async def test_what_another_finalizer_keeps_stays_and_delays_no_pass(
    verb: str, problem: ApiError, caplog: pytest.LogCaptureFixture
) -> None:
    kept = filed().build()
    scene = Scene(
        kept, finished(Phase.SUCCEEDED, 0xFFFFFFFF).build(), finished(Phase.FAILED, 0xFFFFFFFE).build()
    )
    scene.kube.put(an_envelope())
    scene.kube.fail(verb, problem)
    await scene.pass_finished()
    assert scene.statistics.counts("acme") == {"Succeeded": 1, "Failed": 1}
    assert {kept.name, ENVELOPE} <= scene.there()
    assert [each.getMessage() for each in caplog.records] == [f"1 objects could not be cleaned up: {problem}"]


async def test_an_envelope_that_may_not_be_removed_delays_no_pass() -> None:
    scene = Scene(filed().build())
    scene.kube.put(an_envelope())
    await scene.pass_finished()
    scene.kube.fail("delete", Forbidden(403, "Forbidden", "legal hold"))
    await scene.pass_finished()
    assert scene.there() == {ENVELOPE}
    await scene.pass_finished()
    assert scene.there() == set()


MARKED: dict[str, Any] = {"labels": {ARCHIVED_LABEL: "true"}}


@pytest.mark.parametrize(
    ("age", "ttl", "is_removed"),
    [
        (timedelta(days=28), {}, False),
        (timedelta(days=33), {}, True),
        (timedelta(days=4), {"failed": "72h"}, True),
        (timedelta(days=2), {"failed": "72h"}, False),
    ],
)
async def test_a_mark_on_an_envelope_that_is_too_young_for_it_removes_nothing(
    age: timedelta, ttl: dict[str, str], *, is_removed: bool
) -> None:
    scene = Scene(ttl=ttl)
    scene.kube.put(an_envelope(NOON - age, **MARKED))
    await scene.pass_finished()
    assert scene.there() == (set() if is_removed else {ENVELOPE})


async def test_without_its_organization_a_marked_envelope_is_kept() -> None:
    scene = Scene()
    scene.cache.organizations.remove("acme")
    scene.kube.put(an_envelope(**MARKED))
    await scene.pass_finished()
    assert scene.there() == {ENVELOPE}


async def test_an_event_that_is_created_during_the_pass_keeps_its_envelope() -> None:
    scene = Scene(finished(Phase.SUCCEEDED, 7).build())
    scene.kube.put(an_envelope(**MARKED))
    created = an_event().build()
    scene.kube.just_before("delete", lambda: scene.kube.put(created))
    await scene.pass_finished()
    assert ENVELOPE in scene.there()


@pytest.mark.parametrize(
    ("spec", "labels"),
    [
        ({"organizationRef": {"name": "acme"}}, None),
        ({"organizationRef": {"name": "acme"}}, {}),
        ({"organizationRef": {"name": "acme"}}, {ORGANIZATION_LABEL: "other"}),
        ({}, None),
        (None, {ORGANIZATION_LABEL: "other"}),
        ({"organizationRef": "acme"}, None),
        ({"organizationRef": {"name": 7}}, None),
        ("acme", None),
    ],
    ids=["no labels", "no label", "another label", "no reference", "no spec", "a text", "a number", "odd"],
)
async def test_an_event_that_cannot_be_read_is_ignored(spec: Any, labels: dict[str, str] | None) -> None:
    scene = Scene(finished(Phase.FAILED).build())
    odd: dict[str, Any] = {"metadata": {"name": "odd"}, "spec": spec}
    if labels is not None:
        odd["metadata"]["labels"] = labels
    scene.kube.objects["envelopeevents", "odd"] = odd
    await scene.pass_finished()
    assert scene.statistics.counts("acme") == {"Failed": 1}
    assert not scene.failures["acme"].is_complete, "nobody knows its cause"
    found = scene.failures["acme"].unreadable_observation()
    assert found is not None
    is_named = isinstance(spec, dict) and spec.get("organizationRef") == {"name": "acme"}
    assert (found.cause, found.count, found.examples) == (
        "unreadable/EventUnreadable",
        1,
        ("odd",) if is_named else (),
    )


async def test_an_event_that_a_person_corrects_is_no_problem_after_the_next_pass() -> None:
    event = finished(Phase.FAILED).named("odd").build()
    scene = Scene(event)
    scene.kube.edit(EnvelopeEvent, "odd", {"status": {"phase": "Unheard"}})
    await scene.pass_finished()
    found = scene.failures["acme"].unreadable_observation()
    assert found is not None
    assert (found.reason, found.examples) == ("EventUnreadable", ("odd",))
    scene.kube.edit(EnvelopeEvent, "odd", {"status": {"phase": "Failed"}})
    await scene.pass_finished()
    assert scene.failures["acme"].unreadable_observation() is None


@pytest.mark.parametrize("label", [None, "99", str((shard(ENVELOPE) + 1) % 64), "none"])
async def test_an_event_without_its_shard_or_with_another_one_is_given_its_own(label: str | None) -> None:
    builder = an_event() if label is None else an_event().labelled(SHARD_LABEL, label)
    event = builder.build()
    scene = Scene(event)
    await scene.pass_finished()
    raw = await scene.kube.get(EnvelopeEvent, event.name)
    assert raw["metadata"]["labels"][SHARD_LABEL] == str(shard(ENVELOPE))


async def test_a_pass_finds_what_esaw_deletes_soon_and_is_not_archived() -> None:
    def event(number: int, phase: Phase, days: int) -> EnvelopeEvent:
        builder = an_event(f"{number:08}-4b1d-4c58-9a57-6d1f0a3b2c4d").named(f"event-{number}")
        return builder.in_phase(phase, "ArchiveFull").created(NOON - timedelta(days=days)).build()

    old = [event(number, Phase.FAILED, 80 + number) for number in range(1, 10)]
    waiting, fresh = event(20, Phase.AWAITING_CONSENT, 95), event(21, Phase.FAILED, 3)
    scene = Scene(*old, waiting, fresh, retention="2160h")
    await scene.pass_finished()
    found = scene.failures["acme"].retention_observation()
    assert found is not None
    assert (found.count, found.reason) == (8, "RetentionEnding")
    assert found.examples == ("event-20", "event-9", "event-8", "event-7", "event-6")
    assert "the envelope of EnvelopeEvent/event-20 about 2026-06-26 12:00 UTC" in found.message
    assert scene.statistics.endangered("acme") == 8


async def test_a_retention_that_was_extended_ends_the_warning_once_the_organization_states_it() -> None:
    event = an_event().in_phase(Phase.FAILED, "ArchiveFull").created(NOON - timedelta(days=85)).build()
    scene = Scene(event, retention="2160h")
    for _ in range(2):
        await scene.pass_finished()
        found = scene.failures["acme"].retention_observation()
        assert found is not None
        assert found.reason == "RetentionEnding"
    scene.cache.organizations.put(an_organization(version=2, retention="8760h", ttl={"failed": "8760h"}))
    await scene.pass_finished()
    assert scene.failures["acme"].retention_observation() is None


def archived(status: str = "Completed", phase: Phase = Phase.SUCCEEDED, reason: str = "Kept") -> EventBuilder:
    """An event that archived its envelope in this status, three months ago."""
    event = an_event().in_phase(phase, reason).created(NOON - timedelta(days=88)).with_condition("Archived")
    return event.status(envelope=EnvelopeSummary(status=status), completion_time=NOON)


@pytest.mark.parametrize(
    ("other", "number"),
    [
        (archived(), 0),
        (archived("Rejected"), 0),
        (archived(phase=Phase.FAILED, reason="SenderUnknown"), 0),
        (archived(phase=Phase.FAILED, reason="DeadlineExceeded"), 2),
        (archived("Expired"), 1),
        (archived().with_condition("Archived", "False"), 1),
        (archived(phase=Phase.FAILED, reason="AuditTrailMissing"), 2),
    ],
)
@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
async def test_an_envelope_that_another_of_its_events_archived_is_in_no_danger(
    other: EventBuilder, number: int, names: tuple[str, str]
) -> None:
    mine, theirs = (f"{ENVELOPE}-{each}" for each in names)
    failed = an_event().in_phase(Phase.FAILED, "ArchiveFull").created(NOON - timedelta(days=88))
    scene = Scene(failed.named(mine).build(), other.named(theirs).build(), retention="2160h")
    await scene.pass_finished()
    assert scene.statistics.endangered("acme") == number


async def test_an_event_of_another_organization_saves_no_envelope() -> None:
    failed = an_event().in_phase(Phase.FAILED, "ArchiveFull").created(NOON - timedelta(days=88))
    event = archived().named(f"{ENVELOPE}-a").build()
    spec = msgspec.structs.replace(event.spec, organization_ref=LocalObjectReference(name="other"))
    other = msgspec.structs.replace(event, spec=spec)
    scene = Scene(failed.named(f"{ENVELOPE}-b").build(), other, retention="2160h")
    await scene.pass_finished()
    assert scene.statistics.endangered("acme") == 1


async def test_without_a_stated_retention_a_pass_finds_nothing_that_esaw_deletes() -> None:
    old = an_event().in_phase(Phase.FAILED, "ArchiveFull").created(NOON - timedelta(days=999))
    scene = Scene(old.build())
    await scene.pass_finished()
    assert scene.failures["acme"].retention_observation() is None
    assert scene.statistics.endangered("acme") == 0


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(days=30), timedelta(days=-30)])
async def test_a_clock_that_is_set_during_a_pass_changes_no_pause(ahead: timedelta) -> None:
    scene = Scene(finished(Phase.FAILED).build())
    scene.kube.just_before("page", lambda: scene.clock.set_back(seconds=-ahead.total_seconds()))
    await scene.until(lambda: len(scene.clock.slept) > 1)
    assert scene.clock.slept[:2] == [START_SECONDS, 60.0]


async def test_the_pause_after_a_long_pass_is_bounded() -> None:
    scene = Scene(finished(Phase.FAILED).build())
    scene.kube.just_before("page", lambda: scene.clock.advance(hours=30))
    await scene.until(lambda: len(scene.clock.slept) > 1)
    assert scene.clock.slept[:2] == [START_SECONDS, MAX_REST_SECONDS]


@pytest.mark.parametrize(
    ("own", "of_the_server", "is_removed"),
    [
        (timedelta(days=33), timedelta(0), False),
        (timedelta(0), timedelta(days=33), False),
        (timedelta(days=33), timedelta(days=33), True),
    ],
)
async def test_events_are_removed_when_the_clock_of_the_api_server_agrees(
    own: timedelta, of_the_server: timedelta, *, is_removed: bool
) -> None:
    event = an_event().in_phase(Phase.SUCCEEDED).status(completion_time=NOON - timedelta(hours=1)).build()
    scene = Scene(event)
    scene.garbage_collector.machine_clock = AClock(NOON + own)
    scene.clock.advance(seconds=of_the_server.total_seconds())
    await scene.pass_finished()
    assert scene.there() == (set() if is_removed else {event.name})


async def test_no_event_is_removed_while_only_one_of_several_api_servers_says_that_it_can_be() -> None:
    event = an_event().in_phase(Phase.SUCCEEDED).status(completion_time=NOON - timedelta(hours=1)).build()
    scene = Scene(event)
    clock = ServerClock(scene.clock, scene.kube)
    scene.garbage_collector.clock, scene.garbage_collector.machine_clock = (
        clock,
        AClock(NOON + timedelta(days=33)),
    )
    for ahead in (timedelta(0), timedelta(days=33)):
        scene.clock.advance(seconds=1)
        scene.kube.server_date = format_datetime(NOON + ahead, usegmt=True)
        scene.kube.server_date_between = (scene.clock.monotonic(), scene.clock.monotonic())
        assert abs(clock.now() - NOON - ahead) < timedelta(seconds=5)
    await scene.pass_finished()
    assert scene.there() == {event.name}


@pytest.mark.parametrize("days", [-33, 33])
async def test_a_pass_begins_by_the_clock_by_which_problems_have_times(days: int) -> None:
    """Else a machine whose clock is ahead would call problems solved that began during the pass."""
    scene = Scene()
    scene.garbage_collector.machine_clock = AClock(NOON + timedelta(days=days))
    await scene.pass_finished()
    assert abs(scene.began - NOON) < timedelta(minutes=1)


async def test_an_envelope_stays_while_only_the_own_clock_says_that_its_event_can_be_gone() -> None:
    scene = Scene()
    scene.kube.put(an_envelope(NOON, **MARKED))
    scene.garbage_collector.machine_clock = AClock(NOON + timedelta(days=40))
    await scene.pass_finished()
    assert scene.there() == {ENVELOPE}


async def test_an_event_whose_delete_fails_keeps_no_other_and_the_failures_are_reported() -> None:
    events = [finished(Phase.SUCCEEDED, number).build() for number in range(10)]
    scene = Scene(*events, finished(Phase.FAILED, 99).build())
    for each in events[:2]:
        scene.kube.refused["delete", each.name] = Unavailable(
            500, "InternalError", "the policy engine failed"
        )
    await scene.pass_finished()
    assert {each.name for each in events} & scene.there() == {each.name for each in events[:2]}
    assert scene.failures["acme"].names


async def test_objects_whose_requests_hang_cost_one_pass_a_bounded_time_and_the_next_one_nothing() -> None:
    events = [finished(Phase.SUCCEEDED, number).build() for number in range(30)]
    scene = Scene(*events)
    for each in events[:20]:
        scene.kube.refused["delete", each.name] = Unavailable(0, "NoAnswer", "TimeoutError")
        scene.kube.just_before("delete", lambda: scene.clock.advance(seconds=20))
    await scene.pass_finished()
    deletes = sum(verb == "delete" for verb, _ in scene.kube.asked)
    assert deletes == FAILING_SECONDS / 20
    await scene.pass_finished()
    assert {each.name for each in events[20:]} & scene.there() == set()


@pytest.mark.parametrize(
    "problem", [ValueError("Invalid port: '99999'"), OverflowError("date value out of range")]
)
async def test_an_unexpected_error_about_one_event_does_not_end_the_pass(
    problem: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    broken, other = finished(Phase.SUCCEEDED, 1).build(), finished(Phase.SUCCEEDED, 2).build()
    scene = Scene(broken, other)

    async def reopen(event: EnvelopeEvent) -> EnvelopeEvent:
        if event.name == broken.name:
            raise problem
        return event

    scene.reopen = reopen
    await scene.restarted().pass_finished()
    assert scene.there() == {broken.name}
    assert f"1 objects could not be cleaned up: {problem}" in caplog.text


async def test_a_stored_end_in_the_last_year_does_not_end_the_pass() -> None:
    last = datetime.max.replace(tzinfo=NOON.tzinfo, microsecond=0)
    summary = EnvelopeSummary(status="Completed", finished_time=last)
    event = an_event().in_phase(Phase.FAILED, "ArchiveFull").status(envelope=summary, completion_time=NOON)
    scene = Scene(event.build(), retention="2160h")
    await scene.pass_finished()
    assert scene.statistics.endangered("acme") == 0
    scene.clock.advance(days=89)
    await scene.restarted().pass_finished()
    assert scene.statistics.endangered("acme") == 1


def imported_event(window: str) -> EnvelopeEvent:
    event = finished(Phase.SUCCEEDED).by(Origin.IMPORT)
    return event.labelled(IMPORT_LABEL, "old-stock").labelled(IMPORT_WINDOW_LABEL, window).build()


def an_import(**status: Any) -> Import:
    return Import.parse(
        {
            "metadata": {"name": "old-stock", "uid": "uid-old-stock", "resourceVersion": "1"},
            "spec": {"organizationRef": {"name": "acme"}, "from": "2020-01-01"},
            "status": status,
        }
    )


OLD_WINDOW = window_label("uid-old-stock", "anna", 0, datetime(2020, 1, 8, tzinfo=UTC))


@pytest.mark.parametrize(
    ("status", "is_removed"),
    [
        ({"senders": [{"name": "anna", "windowsDone": 1}]}, True),
        (
            {
                "senders": [{"name": "anna", "windowsDone": 1}],
                "openWindows": [{"id": OLD_WINDOW, "events": 1}],
            },
            False,
        ),
        ({"senders": [{"name": "anna"}]}, False),
    ],
)
async def test_an_event_of_an_import_is_removed_after_it_was_counted(
    status: dict[str, Any], *, is_removed: bool
) -> None:
    event = imported_event(OLD_WINDOW)
    scene = Scene(event)
    scene.kube.put(an_import(**status))
    await scene.pass_finished()
    assert (event.name not in scene.there()) == is_removed


async def test_an_event_of_an_import_that_this_version_does_not_understand_stays() -> None:
    """After a way back to an earlier version, say. It counts its events once it is understood again."""
    event = imported_event(OLD_WINDOW)
    scene = Scene(event)
    scene.kube.put(an_import(senders=[{"name": "anna", "windowsDone": 1}]))
    scene.kube.edit(Import, "old-stock", {"spec": {"order": "BySize"}})
    await scene.pass_finished()
    assert event.name in scene.there()


async def test_an_event_of_a_deleted_import_is_removed() -> None:
    event = imported_event(OLD_WINDOW)
    scene = Scene(event)
    await scene.pass_finished()
    assert event.name not in scene.there()


async def test_while_the_imports_cannot_be_read_their_events_stay_and_others_are_removed() -> None:
    imported, other = imported_event(OLD_WINDOW), finished(Phase.SUCCEEDED, 1).build()
    scene = Scene(imported, other)
    scene.kube.fail("page", Forbidden(403, "Forbidden", "no right to list imports"))
    await scene.pass_finished()
    assert scene.there() == {imported.name}


async def test_without_the_definition_of_imports_their_events_stay_and_others_are_removed() -> None:
    imported, other = imported_event(OLD_WINDOW), finished(Phase.SUCCEEDED, 1).build()
    scene = Scene(imported, other)
    scene.kube.remove_definition(Import)
    await scene.pass_finished()
    assert scene.there() == {imported.name}
    scene.kube.add_definition(Import)
    await scene.pass_finished()
    assert scene.there() == set()


async def test_while_the_envelopes_cannot_be_read_only_they_and_what_was_archived_stay(
    caplog: pytest.LogCaptureFixture,
) -> None:
    archived, other = filed().build(), finished(Phase.SUCCEEDED, 1).build()
    scene = Scene(archived, other)
    scene.kube.remove_definition(Envelope)
    await scene.pass_finished(2)
    assert scene.there() == {archived.name}
    assert scene.statistics.counts("acme") == {"Succeeded": 1}
    assert "the Envelopes can't be read" in caplog.text
    scene.kube.add_definition(Envelope)
    scene.kube.put(an_envelope())
    await scene.pass_finished(2)
    assert scene.there() == set()
