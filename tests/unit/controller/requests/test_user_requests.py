"""Requests of people by label."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import pytest
from msgspec.structs import replace

from controller.cache import Cache
from controller.event_recorder import EventRecorder
from controller.requests.event_requests import EventRequests
from controller.requests.request_table import RequestResult, RequestTable, RequestType
from controller.requests.user_requests import MAX_BROKEN_ATTEMPTS, MAX_CONCURRENT_REQUESTS, UserRequests
from controller.scheduling.retry_policy import USER_REQUEST
from controller.scheduling.workqueue import WorkQueue
from counterfoil.kube.errors import Rejected, TooLarge, Unavailable
from counterfoil.kube.status import StatusWriter
from counterfoil.kube.watch import SECOND_LIST_DELAY_SECONDS, WatchEvent
from counterfoil.resources import (
    REQUEST_BY_ANNOTATION,
    REQUEST_LABEL,
    REQUEST_REASON_ANNOTATION,
    Archive,
    Attempt,
    AttemptOutcome,
    EnvelopeEvent,
    EventNotice,
    FiledDocument,
    FileKind,
    LastRequest,
    NoticeState,
    Organization,
    Phase,
    Request,
    RequestOutcome,
    Resource,
    Sender,
    find_condition,
    is_condition_true,
    stored_size,
    with_condition,
)
from counterfoil.resources.envelopeevent import MAX_UNARCHIVED_BYTES
from counterfoil.resources.request import REQUEST_ID_ANNOTATION, request_changes
from tests.support.builders import (
    ENVELOPE,
    NOON,
    AClock,
    EventBuilder,
    an_event,
    an_organization,
    created_again,
)
from tests.support.fakes.kube import InMemoryKubeClient
from tests.support.scenes.workqueue import a_workqueue


class RecordingCache(Cache):
    """Remembers the events that were written."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: list[Resource] = []

    def update(self, resource: Resource) -> None:
        self.changed.append(resource)
        super().update(resource)


class Scene:
    """A namespace in which requests are followed."""

    def __init__(
        self,
        *resources: Resource,
        table: RequestTable | None = None,
        id_: str | None = "0f",
        owns: bool = True,
    ) -> None:
        self.clock = AClock()
        self.kube = InMemoryKubeClient(*resources)
        if id_ is not None:
            for each in resources:
                annotations = {REQUEST_ID_ANNOTATION: id_}
                self.kube.edit(type(each), each.name, {"metadata": {"annotations": annotations}})
        self.event_recorder = EventRecorder(self.kube, self.clock)
        self.workqueue: WorkQueue = a_workqueue(self.clock)
        self.table = table or {EnvelopeEvent: EventRequests(self.clock).types}
        self.is_owner = owns
        self.again()

    def again(self) -> None:
        """Start a new process, with only the stored state."""
        self.cache = RecordingCache()
        self.user_requests = UserRequests(
            kube=self.kube,
            cache=self.cache,
            status_writer=StatusWriter(self.kube),
            event_recorder=self.event_recorder,
            clock=self.clock,
            labels="",
            table=self.table,
            owns=lambda resource: self.is_owner,
            event_lock=self.workqueue.lock,
        )
        for kind in (Organization, Sender, Archive):
            self.cache.add_handler(kind, self.user_requests.object_changed)

    @property
    def changed(self) -> list[Resource]:
        return self.cache.changed

    @property
    def pauses(self) -> list[float]:
        """Pauses after errors, without the one before the list of requests."""
        pauses = list(self.clock.slept)
        pauses.remove(SECOND_LIST_DELAY_SECONDS)
        return pauses

    def observe(self, *names: str) -> None:
        """Let the watch tell about events."""
        for name in names:
            self.kube.changes.put_nowait(WatchEvent("MODIFIED", self.kube.stored(name).to_dict()))

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        tasks = [
            asyncio.create_task(self.user_requests.run()),
            asyncio.create_task(self.event_recorder.run()),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def carried_out(self, event: EnvelopeEvent) -> EnvelopeEvent:
        """Follow until the label is gone, and return the event as it is then."""
        self.observe(event.name)
        async with self.followed():
            await eventually(lambda: REQUEST_LABEL not in self.kube.stored(event.name).metadata.labels)
            await turns()
        return self.kube.stored(event.name)

    def recorded(self) -> list[tuple[str, str]]:
        return [(each["reason"], each["note"]) for each in self.kube.announced]


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def eventually(is_so: Callable[[], bool]) -> None:
    for _ in range(1000):
        if is_so():
            return
        await asyncio.sleep(0)
    pytest.fail("it never came to that")


def asked(builder: EventBuilder, wanted: str) -> EventBuilder:
    return builder.labelled(REQUEST_LABEL, wanted).status(deliveries=1)


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.SKIPPED, Phase.ARCHIVING, Phase.AWAITING_CONSENT])
async def test_a_retry_starts_again_from_every_phase_but_succeeded(phase: Phase) -> None:
    event = asked(an_event().in_phase(phase, "ArchiveFull").status(attempts=7), "retry").build()
    scene = Scene(event)
    after = await scene.carried_out(event)
    assert (after.status.phase, after.status.reason, after.status.attempts) == (
        Phase.PENDING,
        "RetryRequested",
        0,
    )
    assert scene.changed[-1] == after, "so that it is worked on at once"
    note = f"'retry' was asked for. The event was {phase}; it is tried again."
    assert scene.recorded() == [("RetryRequested", note)]


@pytest.mark.parametrize("reason", ["CleanupDelayed", "LateFilesPending"])
async def test_a_retry_of_an_event_that_waits_for_its_delete_says_until_when_it_waits(reason: str) -> None:
    status = {"reason": reason, "next_attempt_time": NOON + timedelta(days=3)}
    event = asked(an_event().archived().in_phase(Phase.CLEANING).status(**status), "retry").build()
    scene = Scene(event)
    await scene.carried_out(event)
    ((_, note),) = scene.recorded()
    assert "it is tried again. A retry does not shorten" in note
    assert "until 2026-07-04 12:00:00 UTC" in note


async def test_retry_sends_a_notice_again_that_was_given_up() -> None:
    notice = EventNotice(id="msg_1", state=NoticeState.FAILED, attempts=9, start_time=NOON)
    event = asked(an_event().archived().status(phase=Phase.SUCCEEDED, notice=notice), "retry").build()
    scene = Scene(event)
    after = await scene.carried_out(event)
    assert after.status.phase is Phase.SUCCEEDED
    assert after.status.notice == EventNotice(id="msg_1", state=NoticeState.PENDING)
    assert [reason for reason, _ in scene.recorded()] == ["RetryRequested"]


@pytest.mark.parametrize("state", [NoticeState.PENDING, NoticeState.DELIVERED])
async def test_retry_sends_no_other_notice_again(state: NoticeState) -> None:
    notice = EventNotice(id="msg_1", state=state, attempts=1)
    event = asked(an_event().archived().status(phase=Phase.SUCCEEDED, notice=notice), "retry").build()
    scene = Scene(event)
    assert (await scene.carried_out(event)).status.notice == notice
    assert [reason for reason, _ in scene.recorded()] == ["RequestRefused"]


async def test_retry_of_an_event_whose_envelope_is_kept_continues_from_there() -> None:
    event = asked(an_event().archived().status(phase=Phase.SUCCEEDED, reason="ArchivedAndKept"), "retry")
    after = (await Scene(event.build()).carried_out(event.build())).status
    assert (after.phase, after.reason) == (Phase.PENDING, "RetryRequested")
    assert is_condition_true(after.conditions, "Archived")


@pytest.mark.parametrize("wanted", ["retry", "skip"])
async def test_a_request_about_a_failed_event_ends_its_notice(wanted: str) -> None:
    notice = EventNotice(id="msg_1", state=NoticeState.PENDING)
    event = asked(an_event().in_phase(Phase.FAILED).status(notice=notice), wanted).build()
    assert (await Scene(event).carried_out(event)).status.notice is None


async def test_retry_of_what_is_archived_continues_from_there() -> None:
    event = asked(an_event().archived().status(phase=Phase.FAILED), "retry").build()
    after = await Scene(event).carried_out(event)
    archived = find_condition(after.status.conditions, "Archived")
    assert archived is not None
    assert archived.status == "True"


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.PENDING, Phase.CLEANING, Phase.AWAITING_CONSENT])
async def test_skip_gives_up_on_purpose(phase: Phase) -> None:
    event = asked(an_event().in_phase(phase), "skip").build()
    scene = Scene(event)
    after = await scene.carried_out(event)
    assert (after.status.phase, after.status.reason) == (Phase.SKIPPED, "SkippedByRequest")
    assert after.status.completion_time == scene.clock.now()
    assert after.status.next_attempt_time is None
    ready = find_condition(after.status.conditions, "Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("True", "SkippedByRequest"), "nothing is left to do"
    assert not is_condition_true(after.status.conditions, "Stalled")
    assert [reason for reason, _ in scene.recorded()] == ["SkippedByRequest"]


async def test_a_skipped_event_keeps_few_files_that_are_not_archived() -> None:
    files = tuple(
        FiledDocument(file_id=str(each), kind=FileKind.DOCUMENT, file_name=f"{'x' * 200}-{each}")
        for each in range(2000)
    )
    builder = an_event().in_phase(Phase.ARCHIVING, "EsawFailing").status(documents=files)
    event = asked(builder, "skip").build()
    collected = with_condition(
        event.status.conditions, "Collected", "True", "FilesListed", "Listed.", now=NOON, generation=1
    )
    event = replace(event, status=replace(event.status, conditions=collected))
    after = await Scene(event).carried_out(event)
    assert 0 < stored_size(after.status.documents) <= MAX_UNARCHIVED_BYTES
    assert not is_condition_true(after.status.conditions, "Collected")
    evidence = find_condition(after.status.conditions, "EvidenceComplete")
    assert evidence is not None
    assert (evidence.status, evidence.reason) == ("Unknown", "DocumentsPending")


@pytest.mark.parametrize(
    ("expected", "is_skipped"), [("Failed/NameOccupied", True), ("Failed/SenderUnknown", False), ("", False)]
)
async def test_a_skip_is_carried_out_only_in_the_state_that_was_shown(
    expected: str, is_skipped: bool
) -> None:
    event = asked(an_event().in_phase(Phase.FAILED, "NameOccupied"), "skip").build()
    scene = Scene(event)
    annotations = {f"{REQUEST_LABEL}-expected": expected}
    scene.kube.edit(EnvelopeEvent, event.name, {"metadata": {"annotations": annotations}})
    after = await scene.carried_out(event)
    assert after.status.phase == (Phase.SKIPPED if is_skipped else Phase.FAILED)
    assert after.status.last_request is not None
    assert after.status.last_request.outcome == ("Done" if is_skipped else "Refused")
    assert not {*annotations} & {*after.metadata.annotations}


@pytest.mark.parametrize("reason", ["EnvelopeDeleted", "EnvelopeNotFound"])
async def test_a_skip_says_nothing_about_an_envelope_that_esaw_does_not_have(reason: str) -> None:
    failed = Attempt(Phase.VALIDATING, NOON, 1, AttemptOutcome.FAIL, reason)
    builder = an_event().in_phase(Phase.FAILED).status(reason=reason, attempt_history=(failed,))
    event = asked(builder, "skip").build()
    after = await Scene(event).carried_out(event)
    assert after.status.message == "A person gave this event up. Only a person's retry starts it again."


@pytest.mark.parametrize(
    ("phase", "wanted", "outcome", "note"),
    [
        (Phase.SUCCEEDED, "retry", "NothingToDo", "Nothing was left to do: the event is Succeeded."),
        (Phase.SUCCEEDED, "skip", "NothingToDo", "Nothing was left to do: the event is Succeeded."),
        (Phase.FAILED, "delete", "Refused", "On EnvelopeEvent only retry and skip can be asked for."),
        (Phase.FAILED, "", "Refused", "On EnvelopeEvent only retry and skip can be asked for."),
    ],
)
async def test_what_cannot_be_done_is_refused_in_words_and_changes_nothing(
    phase: Phase, wanted: str, outcome: str, note: str
) -> None:
    event = asked(an_event().in_phase(phase), wanted).build()
    scene = Scene(event)
    after = await scene.carried_out(event)
    assert replace(after.status, last_request=None) == event.status
    assert after.status.last_request is not None
    assert (after.status.last_request.request, after.status.last_request.outcome) == (wanted, outcome)
    assert after.status.last_request.message == note
    ((reason, recorded),) = scene.recorded()
    assert reason == "RequestRefused"
    assert recorded.endswith(note)


async def test_a_second_skip_of_an_event_changes_nothing() -> None:
    event = asked(
        an_event().in_phase(Phase.SKIPPED, "SkippedByRequest").status(skipped_time=NOON), "skip"
    ).build()
    after = await Scene(event).carried_out(event)
    assert replace(after.status, last_request=None) == event.status
    assert after.status.last_request is not None
    assert after.status.last_request.message == "Nothing was left to do: the event is Skipped."


async def test_who_asked_and_why_is_recorded_and_taken_off() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "skip").build()
    scene = Scene(event)
    annotations = {REQUEST_BY_ANNOTATION: "maria", REQUEST_REASON_ANNOTATION: "filed by hand"}
    scene.kube.edit(EnvelopeEvent, event.name, {"metadata": {"annotations": annotations}})
    after = await scene.carried_out(event)
    assert scene.recorded() == [
        (
            "SkippedByRequest",
            "'skip' was asked for, in the name of maria, because: filed by hand. "
            "The event was Failed; it is given up.",
        )
    ]
    assert after.status.last_request == LastRequest(
        request="skip",
        id="0f",
        by="maria",
        reason="filed by hand",
        outcome=RequestOutcome.DONE,
        message="The event was Failed; it is given up.",
        handled_time=scene.clock.now(),
    )
    assert after.metadata.annotations == {}


async def test_a_request_reported_many_times_is_carried_out_once() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event)
    scene.observe(event.name, event.name, event.name)
    await scene.carried_out(event)
    assert len(scene.recorded()) == 1


async def test_a_request_waits_for_the_running_work_and_delays_no_other() -> None:
    busy = asked(an_event().in_phase(Phase.ARCHIVING), "skip").build()
    other_id = "11111111-4b1d-4c58-9a57-6d1f0a3b2c4d"
    other = asked(an_event(other_id).in_phase(Phase.FAILED), "retry").build()
    scene = Scene(busy, other)
    scene.observe(busy.name, other.name)
    async with scene.followed():
        async with scene.workqueue.lock(busy.spec.envelope_id):
            await eventually(lambda: scene.kube.stored(other.name).status.phase is Phase.PENDING)
            assert scene.kube.stored(busy.name).status.phase is Phase.ARCHIVING
        await eventually(lambda: scene.kube.stored(busy.name).status.phase is Phase.SKIPPED)


async def test_while_the_api_server_is_down_a_request_is_tried_again_and_not_lost() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event)
    scene.kube.go_away("get", times=3)
    scene.kube.go_away("patch", times=2)
    after = await scene.carried_out(event)
    assert after.status.phase is Phase.PENDING
    assert scene.clock.slept != []


async def test_a_request_that_the_api_server_never_takes_is_refused_in_words() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event)
    scene.kube.fail("patch_status", TooLarge(500, "500", "etcdserver: request is too large"))
    after = await scene.carried_out(event)
    assert after.status.phase is Phase.FAILED
    ((reason, note),) = scene.recorded()
    assert reason == "RequestRefused"
    assert "request is too large" in note


async def test_a_delivery_counted_in_between_does_not_carry_a_request_out_twice() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event)
    scene.kube.just_before(
        "patch", partial(scene.kube.edit, EnvelopeEvent, event.name, {"status": {"deliveries": 5}})
    )
    after = await scene.carried_out(event)
    assert after.status.deliveries == 5
    assert len(scene.recorded()) == 1


async def test_another_request_made_in_between_is_not_taken_off_unseen() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event)
    relabel = partial(
        scene.kube.edit, EnvelopeEvent, event.name, {"metadata": {"labels": {REQUEST_LABEL: "skip"}}}
    )
    scene.kube.just_before("patch", relabel)
    scene.observe(event.name)
    async with scene.followed():
        await eventually(lambda: len(scene.changed) >= 2)
        assert scene.kube.stored(event.name).metadata.labels[REQUEST_LABEL] == "skip"
        scene.observe(event.name)
        await eventually(lambda: scene.kube.stored(event.name).status.phase is Phase.SKIPPED)


async def test_an_event_that_was_deleted_meanwhile_needs_nothing() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event)
    scene.observe(event.name)
    await scene.kube.delete(EnvelopeEvent, event.name)
    async with scene.followed():
        await eventually(lambda: ("get", event.name) in scene.kube.asked)
        await turns()
    assert scene.recorded() == []


async def test_thousands_of_requests_at_once_are_carried_out_a_few_at_a_time() -> None:
    events = [
        asked(an_event(f"{number:08x}-4b1d-4c58-9a57-6d1f0a3b2c4d").in_phase(Phase.FAILED), "retry").build()
        for number in range(200)
    ]
    scene = Scene(*events)
    for each in events:
        scene.observe(each.name)
    async with scene.followed():
        await eventually(lambda: len(scene.kube.announced) == 200)
    assert {each["reason"] for each in scene.kube.announced} == {"RetryRequested"}
    assert MAX_CONCURRENT_REQUESTS < 200


async def test_an_error_that_nobody_thought_of_is_tried_again_and_ends_no_other_request() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    other_id = "11111111-4b1d-4c58-9a57-6d1f0a3b2c4d"
    other = asked(an_event(other_id).in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event, other)
    scene.kube.just_before("get", breaks)
    scene.kube.just_before("get", breaks)
    scene.observe(event.name, other.name)
    async with scene.followed():
        await eventually(lambda: len(scene.kube.announced) == 2)
    assert {scene.kube.stored(each.name).status.phase for each in (event, other)} == {Phase.PENDING}
    assert scene.pauses == [USER_REQUEST.pauses[0], USER_REQUEST.pauses[0]]


async def test_the_pauses_after_errors_grow_and_a_request_is_never_given_up() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event)
    for _ in range(20):
        scene.kube.just_before("get", breaks)
    after = await scene.carried_out(event)
    assert after.status.reason == "RetryRequested"
    assert tuple(scene.pauses) == (
        *USER_REQUEST.pauses,
        *[USER_REQUEST.pauses[-1]] * (20 - len(USER_REQUEST.pauses)),
    )


async def test_a_request_reported_again_while_it_pauses_after_an_error_is_still_carried_out_once() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event)
    scene.kube.just_before("get", breaks)
    scene.kube.just_before("get", partial(scene.observe, event.name))
    scene.observe(event.name, event.name)
    await scene.carried_out(event)
    assert [reason for reason, _ in scene.recorded()] == ["RetryRequested"]


async def test_a_label_that_cannot_be_removed_yet_is_recorded_once() -> None:
    event = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(event)
    scene.kube.fail("patch", *[Unavailable(0, "NoAnswer", "")] * 5)
    await scene.carried_out(event)
    assert [reason for reason, _ in scene.recorded()] == ["RetryRequested"]


async def test_nothing_is_remembered_of_requests_that_were_carried_out_or_whose_object_is_gone() -> None:
    counting = Counting()
    organization = wanting("count")
    gone = asked(an_event().in_phase(Phase.FAILED), "retry").build()
    scene = Scene(organization, gone, table=counting.table)

    def delete() -> None:
        scene.kube.objects.pop((EnvelopeEvent.PLURAL, gone.name), None)

    scene.kube.just_before("patch", delete)
    scene.observe(gone.name)
    async with scene.followed():
        scene.cache.update(organization_of(scene))
        await eventually(lambda: REQUEST_LABEL not in organization_of(scene).metadata.labels)
        await turns(200)
    assert scene.user_requests.remembered == 0


# -- A request that fails each time --------------------------------------------------------------------------


async def breaking(organization: Organization, request: Request) -> RequestResult:
    raise RuntimeError("nobody thought of that")


async def test_a_request_that_breaks_each_time_ends_as_failed_and_a_later_one_is_carried_out() -> None:
    counting = Counting()
    rows = {**counting.table[Organization], "break": RequestType("Broken", breaking)}
    scene = Scene(wanting("break"), table={EnvelopeEvent: {}, Organization: rows})
    async with scene.followed():
        scene.cache.update(organization_of(scene))
        await eventually(lambda: REQUEST_LABEL not in organization_of(scene).metadata.labels)
        await turns()
    last = organization_of(scene).status.last_request
    assert last is not None
    assert (last.request, last.outcome) == ("break", RequestOutcome.FAILED)
    assert "internal error" in (last.message or "")
    assert "nobody thought of that" not in (last.message or "")
    assert scene.pauses == list(USER_REQUEST.pauses[: MAX_BROKEN_ATTEMPTS - 1])
    assert [reason for reason, _ in scene.recorded()] == ["RequestFailed"]
    scene.kube.edit(Organization, "acme", {"metadata": request_changes("count", id_="1f", by="maria")})
    async with scene.followed():
        scene.cache.update(organization_of(scene))
        await eventually(lambda: REQUEST_LABEL not in organization_of(scene).metadata.labels)
    assert len(counting.requests) == 1


async def test_a_request_for_which_the_api_server_refuses_a_write_each_time_ends_as_failed() -> None:
    async def refused(organization: Organization, request: Request) -> RequestResult:
        raise Rejected(422, "Invalid", "a quota is used up")

    scene = Scene(
        wanting("break"), table={EnvelopeEvent: {}, Organization: {"break": RequestType("Broken", refused)}}
    )
    async with scene.followed():
        scene.cache.update(organization_of(scene))
        await eventually(lambda: REQUEST_LABEL not in organization_of(scene).metadata.labels)
    last = organization_of(scene).status.last_request
    assert last is not None
    assert last.outcome is RequestOutcome.FAILED
    assert "a quota is used up" in (last.message or "")


async def test_an_api_server_that_is_down_for_long_ends_no_request() -> None:
    counting = Counting()
    scene = Scene(wanting("count"), table=counting.table)
    scene.kube.fail("patch_status", *[Unavailable(0, "NoAnswer", "")] * 20)
    async with scene.followed():
        scene.cache.update(organization_of(scene))
        await eventually(lambda: REQUEST_LABEL not in organization_of(scene).metadata.labels)
    last = organization_of(scene).status.last_request
    assert last is not None
    assert last.outcome is RequestOutcome.DONE


# -- One request is carried out once ------------------------------------------------------------------------


def wanting(name: str) -> Organization:
    organization = an_organization()
    return replace(organization, metadata=replace(organization.metadata, labels={REQUEST_LABEL: name}))


class Counting:
    """A table in which an Organization can be counted; each time is counted."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def handle(self, organization: Organization, request: Request) -> RequestResult:
        self.requests.append(request)
        return RequestResult(
            RequestOutcome.DONE, "Counted.", lambda status: replace(status, version=str(len(self.requests)))
        )

    @property
    def table(self) -> RequestTable:
        return {
            EnvelopeEvent: {},
            Organization: {"count": RequestType("Counted", self.handle)},
        }


def organization_of(scene: Scene) -> Organization:
    return Organization.parse(scene.kube.objects[Organization.PLURAL, "acme"])


async def test_another_kind_is_asked_in_the_same_way_and_found_by_the_cache() -> None:
    counting = Counting()
    scene = Scene(wanting("count"), table=counting.table)
    request = request_changes("count", id_="a1", by="maria", reason="to see", parameters={"envelope": "77"})
    scene.kube.edit(Organization, "acme", {"metadata": request})
    async with scene.followed():
        scene.cache.update(organization_of(scene))
        await eventually(lambda: REQUEST_LABEL not in organization_of(scene).metadata.labels)
        await turns()
    after = organization_of(scene)
    assert after.metadata.annotations == {}, "also the parameters of the request are taken off"
    assert [each.parameters["envelope"] for each in counting.requests] == ["77"]
    assert after.status.version == "1"
    last = after.status.last_request
    assert last is not None
    assert (last.request, last.id, last.by, last.reason, last.message) == (
        "count",
        "a1",
        "maria",
        "to see",
        "Counted.",
    )
    assert scene.recorded() == [
        ("Counted", "'count' was asked for, in the name of maria, because: to see. Counted.")
    ]
    assert scene.cache.organizations.get("acme") == after


async def test_the_result_for_a_deleted_object_is_not_written_to_one_that_has_its_name() -> None:
    scene = Scene(wanting("count"))

    async def creating_again(organization: Organization, request: Request) -> RequestResult:
        again = created_again(organization)
        scene.kube.put(again)
        scene.cache.update(again)
        return RequestResult(RequestOutcome.DONE, "Counted.", lambda status: replace(status, version="1"))

    scene.table = {EnvelopeEvent: {}, Organization: {"count": RequestType("Counted", creating_again)}}
    scene.again()
    async with scene.followed():
        scene.cache.update(organization_of(scene))
        await turns()
    after = organization_of(scene)
    assert (after.status.version, after.status.last_request) == (None, None)
    assert scene.recorded() == []


async def test_of_several_controllers_only_the_owner_of_an_object_carries_its_requests_out() -> None:
    counting = Counting()
    scene = Scene(wanting("count"), table=counting.table, owns=False)
    async with scene.followed():
        scene.cache.update(organization_of(scene))
        await turns()
    assert counting.requests == []


async def test_a_label_by_hand_gets_an_id_first() -> None:
    counting = Counting()
    scene = Scene(wanting("count"), table=counting.table, id_=None)
    async with scene.followed():
        scene.cache.update(organization_of(scene))
        await eventually(lambda: REQUEST_LABEL not in organization_of(scene).metadata.labels)
    (request,) = counting.requests
    assert request.id is not None
    last = organization_of(scene).status.last_request
    assert last is not None
    assert last.id == request.id
    assert organization_of(scene).metadata.annotations == {}


@pytest.mark.parametrize(("requests", "verb"), [(1, "patch_status"), (0, "patch")])
async def test_a_process_killed_at_any_write_leaves_a_request_that_is_carried_out_once(
    requests: int, verb: str
) -> None:
    counting = Counting()
    scene = Scene(wanting("count"), table=counting.table)
    scene.kube.just_before(verb, breaks)
    scene.clock.sleep = forever  # type: ignore[method-assign]
    async with scene.followed():
        scene.cache.update(organization_of(scene))
        await turns(200)
    assert organization_of(scene).metadata.labels == {REQUEST_LABEL: "count"}
    scene.again()
    async with scene.followed():
        scene.cache.update(organization_of(scene))
        await eventually(lambda: REQUEST_LABEL not in organization_of(scene).metadata.labels)
        await turns()
    # Before the answer was stored nobody can know that it was carried out.
    assert len(counting.requests) == 1 + requests
    assert {reason for reason, _ in scene.recorded()} == {"Counted"}


async def test_an_equal_request_made_while_the_first_is_carried_out_is_carried_out_too() -> None:
    counting = Counting()
    scene = Scene(wanting("count"), table=counting.table)
    newer = partial(
        scene.kube.edit,
        Organization,
        "acme",
        {"metadata": request_changes("count", id_="newer", by="ben")},
    )
    scene.kube.just_before("patch", newer)
    async with scene.followed():
        scene.cache.update(organization_of(scene))
        await eventually(lambda: len(counting.requests) == 2)
        await eventually(lambda: REQUEST_LABEL not in organization_of(scene).metadata.labels)
    assert [each.id for each in counting.requests] == ["0f", "newer"]


async def test_what_is_asked_for_and_unknown_is_refused_and_says_what_is_possible() -> None:
    scene = Scene(wanting("explode"), table=Counting().table)
    async with scene.followed():
        scene.cache.update(organization_of(scene))
        await eventually(lambda: REQUEST_LABEL not in organization_of(scene).metadata.labels)
        await turns()
    assert scene.recorded() == [
        ("RequestRefused", "'explode' was asked for. On Organization only count can be asked for.")
    ]


async def test_long_texts_are_cut_to_what_the_status_takes() -> None:
    scene = Scene(wanting("count"), table=Counting().table)
    changes = {"metadata": request_changes("count", id_="0f", by="b" * 5000, reason="r" * 5000)}
    scene.kube.edit(Organization, "acme", changes)
    async with scene.followed():
        scene.cache.update(organization_of(scene))
        await eventually(lambda: REQUEST_LABEL not in organization_of(scene).metadata.labels)
    last = organization_of(scene).status.last_request
    assert last is not None
    assert (len(last.by or ""), len(last.reason or "")) == (1024, 1024)


async def test_requests_that_wait_for_a_run_do_not_keep_the_metadata_of_their_events() -> None:
    scene = Scene()
    events = [an_event().for_action(f"action{n}").labelled(REQUEST_LABEL, "retry").build() for n in range(40)]
    tracemalloc.start()
    try:
        async with scene.workqueue.lock(ENVELOPE), scene.followed():
            for event in events:
                raw = event.to_dict()
                raw["metadata"]["annotations"] = {"x.example/y": event.name + "a" * 250_000}
                scene.kube.changes.put_nowait(WatchEvent("MODIFIED", raw))
                del raw
            await eventually(lambda: scene.user_requests.remembered == len(events))
            await turns()
            assert tracemalloc.get_traced_memory()[0] < 4 * 2**20
    finally:
        tracemalloc.stop()


async def forever(seconds: float) -> None:
    await asyncio.Event().wait()


def breaks() -> None:
    raise RuntimeError("nobody thought of this")


@pytest.mark.parametrize("wanted", ["copy", "delete"])
async def test_a_later_request_leaves_the_skip_that_an_earlier_version_stored(wanted: str) -> None:
    """It was only in ``status.lastRequest``, which the later request replaces."""
    skipped = Request("skip").handled(RequestOutcome.DONE, "", now=NOON)
    event = asked(
        an_event().in_phase(Phase.SKIPPED, "SkippedByRequest").status(last_request=skipped), wanted
    ).build()

    after = await Scene(event).carried_out(event)

    assert after.status.last_request is not None
    assert after.status.last_request.request == wanted
    assert after.status.is_skipped_by_person
    assert after.status.skipped_time == NOON


async def test_a_retry_of_an_event_that_an_earlier_version_skipped_leaves_the_skip() -> None:
    """The event has failed since, so it does not show the skip."""
    skipped = Request("skip").handled(RequestOutcome.DONE, "", now=NOON)
    event = asked(an_event().in_phase(Phase.FAILED).status(last_request=skipped), "retry").build()

    after = await Scene(event).carried_out(event)

    assert (after.status.phase, after.status.skipped_time) == (Phase.PENDING, NOON)
