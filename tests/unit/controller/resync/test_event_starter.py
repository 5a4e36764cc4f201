"""A search lists the envelope of an event that did not archive it: whose key, and does it start again?"""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from controller.reopening.reopener import LateSenderFinder, Reopener
from controller.requests.event_requests import EventRequests
from controller.resync.event_starter import EventStarter, EventStarts
from counterfoil.esaw import ApiToken, EsawUnreachable, EsawUserClient, HttpStatusError
from counterfoil.kube.errors import Unavailable
from counterfoil.resources import (
    IMPORT_LABEL,
    IMPORT_WINDOW_LABEL,
    SENDER_LABEL,
    EnvelopeEvent,
    EnvelopeStatus,
    EnvelopeSummary,
    LastError,
    Origin,
    Phase,
    Request,
    Sender,
    SenderReference,
)
from counterfoil.resources.imports import window_label
from tests.support.builders import (
    ANNA,
    ENVELOPE,
    KEY,
    NOON,
    EventBuilder,
    a_sender,
    an_envelope,
    an_event,
    known_to_work,
)
from tests.support.fakes.esaw import FakeEsawClient
from tests.support.fakes.finding_esaw import key_of
from tests.support.fakes.reconcile_context import FakeEsawUserClient
from tests.support.scenes.reconciler import ReconcilerScene

IMPORT = {IMPORT_LABEL: "old-stock", IMPORT_WINDOW_LABEL: "window"}
SEARCHES = [Origin.SWEEP, Origin.IMPORT]
LISTED_BY = "counterfoil.dev/listed-by"


class EsawOfSenders(FakeEsawClient):
    """An eSAW that shows the envelope to some keys only."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = set[str]()
        self.envelope, self.blind = FakeEsawUserClient(), FakeEsawUserClient()
        for operation in ("envelope", "files", "configuration", "history"):
            self.blind.but(operation, HttpStatusError(404, "ERR0007"))

    def as_user(self, token: ApiToken) -> EsawUserClient:
        return self.envelope if token.reveal() in self.keys else self.blind


class SearchScene(ReconcilerScene):
    """An event of an envelope that eSAW shows to some of the Senders, and searches that list it.

    The key of ``anna``, the default Sender unless the Organization has none, does not show it.
    """

    def __init__(
        self, folder: Path, builder: EventBuilder | None = None, *, default: str | None = "anna", **spec: Any
    ) -> None:
        given = {"cleanup": {"policy": "Keep"}, **spec}
        given["defaultSenderRef"] = {"name": default} if default else None
        self.shown = EsawOfSenders()
        super().__init__(folder, builder, noted=default or "", esaw=self.shown, **given)
        for name in ("ben", "carla"):
            self.observe(known_to_work(a_sender(name), key_of(name)))
            self.put_key(name, key_of(name))
        self.event_starter = EventStarter(
            self.kube, self.clock, self.metrics, lambda _: None, self.cache.senders.get
        )

    async def lists(
        self, finder: str, origin: Origin = Origin.SWEEP, status: EnvelopeStatus = EnvelopeStatus.COMPLETED
    ) -> bool:
        """Let a search list the envelope with the key of a Sender; return whether it starts the event."""
        starts = EventStarts(self.organization, "envelopeFinished", origin, None)
        labels = IMPORT if origin is Origin.IMPORT else None
        started = await self.event_starter.start(starts, ENVELOPE, status, sender=finder, labels=labels)
        return started.is_reopened

    async def imports(self, finder: str) -> bool:
        """Let one Import list the envelope with the key of a Sender; return whether it starts the event."""
        self.clock.advance(hours=6)
        starts = EventStarts(self.organization, "envelopeFinished", Origin.IMPORT, None)
        window = window_label("uid-1", finder, 3, NOON)
        labels = {IMPORT_LABEL: "old-stock", IMPORT_WINDOW_LABEL: window}
        completed = EnvelopeStatus.COMPLETED
        return (
            await self.event_starter.start(starts, ENVELOPE, completed, sender=finder, labels=labels)
        ).is_reopened

    @property
    def late_sender_finder(self) -> LateSenderFinder:
        """The part of the garbage collector that compares Senders and Envelopes."""
        reopener = Reopener(self.status_writer, self.event_recorder, self.clock)
        return LateSenderFinder(self.kube, reopener, self.cache)

    async def request(self, request: str) -> None:
        """Carry out a person's request, as the controller does."""
        requests, event = EventRequests(self.clock), self.newest()
        result = await (requests.skip if request == "skip" else requests.retry)(event, Request(request))
        assert result.change is not None
        await self.status_writer.store(event, result.change(event.status))

    async def end(self) -> tuple[Phase, str | None]:
        """Reconcile until the event ends, or waits for a consent."""
        for _ in range(6):
            event = await self.reconcile()
            if event.status.phase.is_final or event.status.phase is Phase.AWAITING_CONSENT:
                break
            self.clock.advance(minutes=30)
        return event.status.phase, event.status.reason


@pytest.mark.parametrize("origin", SEARCHES)
@pytest.mark.parametrize("default", [None, "anna"])
@pytest.mark.parametrize("was_tried", [False, True])
async def test_the_key_that_listed_an_envelope_reads_it(
    tmp_path: Path, origin: Origin, default: str | None, was_tried: bool
) -> None:
    recorded = an_event().in_phase(Phase.SUCCEEDED, "Recorded").status(completion_time=NOON)
    scene = SearchScene(tmp_path, None if was_tried else recorded, default=default)
    scene.shown.keys.add(key_of("ben"))
    if was_tried:
        failed = "EnvelopeNotFound" if default else "SenderUnknown"
        assert await scene.end() == (Phase.FAILED, failed)
    scene.clock.advance(hours=1)
    assert await scene.lists("ben", origin)
    assert await scene.end() == (Phase.SUCCEEDED, "ArchivedAndKept")
    assert scene.newest().metadata.labels[SENDER_LABEL] == "ben"


@pytest.mark.parametrize("origin", SEARCHES)
async def test_the_event_that_a_search_creates_is_of_the_sender_whose_key_listed_it(
    tmp_path: Path, origin: Origin
) -> None:
    scene = SearchScene(tmp_path)
    scene.shown.keys.add(key_of("ben"))
    scene.kube.objects.pop((EnvelopeEvent.PLURAL, scene.event.name))
    await scene.lists("ben", origin)
    assert scene.newest().metadata.labels[LISTED_BY] == "ben"
    assert await scene.end() == (Phase.SUCCEEDED, "ArchivedAndKept")


async def test_a_failed_event_is_tried_once_with_each_key_that_lists_its_envelope(tmp_path: Path) -> None:
    scene = SearchScene(tmp_path)
    assert await scene.end() == (Phase.FAILED, "EnvelopeNotFound")
    started = list[str]()
    for _ in range(3):
        for finder in ("anna", "ben", "carla"):
            scene.clock.advance(hours=6)
            if await scene.lists(finder):
                started.append(finder)
                assert await scene.end() == (Phase.FAILED, "EnvelopeNotFound")
    assert started == ["ben", "carla"], "the key of the default Sender was tried before"


async def test_an_envelope_that_esaw_has_shown_is_tried_once_with_the_key_that_lists_it(
    tmp_path: Path,
) -> None:
    """It was not deleted, so the rights of its sender have changed."""
    shown = EnvelopeSummary(status="Completed", sender_ref=SenderReference(name="anna", user_id=ANNA))
    failed = an_event().in_phase(Phase.FAILED, "EnvelopeNotFound").status(completion_time=NOON)
    scene = SearchScene(tmp_path, failed.status(envelope=shown))
    assert await scene.lists("ben")
    assert await scene.end() == (Phase.FAILED, "EnvelopeNotFound")
    assert not await scene.lists("ben")


@pytest.mark.parametrize("is_shown", [False, True])
async def test_a_search_starts_what_a_key_may_not_read_unless_esaw_showed_it(
    tmp_path: Path, *, is_shown: bool
) -> None:
    shown = EnvelopeSummary(status="Completed", sender_ref=SenderReference(name="anna", user_id=ANNA))
    failed = an_event().in_phase(Phase.FAILED, "NotPermitted").status(completion_time=NOON)
    scene = SearchScene(tmp_path, failed.status(envelope=shown if is_shown else None))
    assert await scene.lists("ben") is not is_shown


async def test_an_event_without_a_sender_starts_with_the_key_that_the_former_default_has(
    tmp_path: Path,
) -> None:
    """The label still names the default Sender of before."""
    scene = SearchScene(tmp_path, default=None)
    scene.shown.keys.add(KEY)
    scene.kube.edit(EnvelopeEvent, scene.event.name, {"metadata": {"labels": {SENDER_LABEL: "anna"}}})
    assert await scene.end() == (Phase.FAILED, "SenderUnknown")
    assert await scene.lists("anna")
    assert await scene.end() == (Phase.SUCCEEDED, "ArchivedAndKept")


@pytest.mark.parametrize("origin", SEARCHES)
async def test_an_event_that_waited_for_a_draft_up_to_its_deadline_starts_with_the_key_that_lists_it(
    tmp_path: Path, origin: Origin
) -> None:
    oauth = {"clientID": "c", "clientSecretRef": {"name": "s", "key": "k"}}
    retry = {"initial": "10s", "max": "10m", "deadline": "1h"}
    scene = SearchScene(tmp_path, default=None, oauth=oauth, retry=retry)
    labels = {"counterfoil.dev/note": "draft", "counterfoil.dev/organization": "acme"}
    metadata = {"name": "draft-1", "labels": labels, "creationTimestamp": NOON.isoformat()}
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}
    scene.kube.objects["leases", "draft-1"] = lease
    assert await scene.end() == (Phase.FAILED, "SenderUnknown")
    assert (scene.newest().status.message or "").startswith("No Envelope resource tells who sent")
    scene.shown.keys.add(key_of("ben"))
    assert await scene.lists("ben", origin)
    assert await scene.end() == (Phase.SUCCEEDED, "ArchivedAndKept")


@pytest.mark.parametrize("origin", SEARCHES)
@pytest.mark.parametrize("default", [None, "anna"])
@pytest.mark.parametrize("is_recorded", [False, True])
async def test_a_skip_of_an_envelope_that_was_never_seen_holds_against_each_search(
    tmp_path: Path, origin: Origin, default: str | None, is_recorded: bool
) -> None:
    recorded = an_event().in_phase(Phase.SUCCEEDED, "Recorded").status(completion_time=NOON)
    scene = SearchScene(tmp_path, recorded if is_recorded else None, default=default)
    scene.shown.keys.add(key_of("ben"))
    if not is_recorded:
        await scene.end()
    await scene.request("skip")
    skipped = scene.newest().status
    for finder, status in (("ben", EnvelopeStatus.COMPLETED), ("carla", EnvelopeStatus.REJECTED)):
        scene.clock.advance(hours=6)
        assert not await scene.lists(finder, origin, status)
    assert scene.newest().status == skipped
    await scene.request("retry")
    await scene.end()
    assert scene.newest().status.skipped_time is None


async def test_a_callback_after_a_skip_that_fails_again_is_not_started_by_a_search(tmp_path: Path) -> None:
    scene = SearchScene(tmp_path, default=None)
    failed = an_event().in_phase(Phase.FAILED, "SenderUnknown")
    scene.kube.put(failed.status(completion_time=NOON, skipped_time=NOON).build())
    assert not await scene.lists("ben")


def a_failed_event(cause: str, known: str | None, **status: Any) -> EventBuilder:
    """Return an event that was given up after eSAW had shown its envelope with this status (None: never)."""
    shown = EnvelopeSummary(status=known or "", sender_ref=SenderReference(name="anna", user_id=ANNA))
    return (
        an_event()
        .in_phase(Phase.FAILED, "DeadlineExceeded")
        .status(
            completion_time=NOON,
            last_error=LastError(reason=cause, message="", time=NOON),
            envelope=shown if known is not None else None,
            **status,
        )
    )


@pytest.mark.parametrize("origin", SEARCHES)
@pytest.mark.parametrize(
    ("cause", "known"),
    [("StillActive", "Active"), ("EsawErrorState", "Active"), ("ArchiveUnreachable", "Expired")],
)
async def test_an_event_that_failed_before_its_envelope_was_finished_is_archived_if_a_search_lists_it(
    tmp_path: Path, origin: Origin, cause: str, known: str
) -> None:
    """The last callback was lost, or there is none after the step that failed."""
    scene = SearchScene(tmp_path, a_failed_event(cause, known))
    scene.shown.keys.add(KEY)
    assert await scene.lists("anna", origin)
    assert await scene.end() == (Phase.SUCCEEDED, "ArchivedAndKept")


@pytest.mark.parametrize("origin", SEARCHES)
@pytest.mark.parametrize(
    ("known", "is_skipped"), [("Active", True), ("Completed", False), ("Rejected", False), (None, False)]
)
async def test_no_search_starts_an_event_that_failed_with_an_envelope_at_its_end_or_that_a_person_skipped(
    tmp_path: Path, origin: Origin, known: str | None, *, is_skipped: bool
) -> None:
    skipped = NOON if is_skipped else None
    scene = SearchScene(tmp_path, a_failed_event("EsawUnreachable", known, skipped_time=skipped))
    assert not await scene.lists("anna", origin)


@pytest.mark.parametrize("origin", SEARCHES)
async def test_searches_start_a_failed_event_once_unless_esaw_shows_it_a_change_of_its_envelope(
    tmp_path: Path, origin: Origin
) -> None:
    """A sweep that is not complete is repeated after a minute."""
    retry = {"initial": "10s", "max": "10m", "deadline": "1h"}
    scene = SearchScene(tmp_path, a_failed_event("StillActive", "Active"), retry=retry)
    scene.shown.keys.add(KEY)
    scene.shown.envelope.but("envelope", EsawUnreachable("connect"))
    listed = (EnvelopeStatus.COMPLETED, EnvelopeStatus.COMPLETED, EnvelopeStatus.REJECTED)
    started = list[bool]()
    for status in listed:
        started.append(await scene.lists("anna", origin, status))
        await scene.end()
    assert started == [True, False, False]
    expired = a_failed_event("ArchiveUnreachable", "Expired").build().status
    await scene.status_writer.store(scene.newest(), expired)
    assert await scene.lists("anna", origin)


@pytest.mark.parametrize("origin", SEARCHES)
async def test_an_event_that_waits_for_the_default_senders_key_continues_with_the_key_that_lists_it(
    tmp_path: Path, origin: Origin
) -> None:
    scene = SearchScene(tmp_path, default="dora")
    scene.observe(a_sender("dora"))
    scene.shown.keys.add(key_of("ben"))
    assert (await scene.end())[0] is Phase.AWAITING_CONSENT
    assert not await scene.lists("dora", origin)
    assert await scene.lists("ben", origin)
    assert await scene.end() == (Phase.SUCCEEDED, "ArchivedAndKept")


async def test_a_search_that_is_killed_before_it_starts_a_waiting_event_starts_it_later(
    tmp_path: Path,
) -> None:
    scene = SearchScene(tmp_path, default="dora")
    scene.observe(a_sender("dora"))
    scene.shown.keys.add(key_of("ben"))
    assert (await scene.end())[0] is Phase.AWAITING_CONSENT
    scene.kube.fail("patch_status", Unavailable(503, "ServiceUnavailable", "killed here"))
    with pytest.raises(Unavailable):
        await scene.lists("ben")
    assert await scene.lists("ben")
    assert await scene.end() == (Phase.SUCCEEDED, "ArchivedAndKept")


async def test_an_event_whose_envelope_names_the_sender_without_a_key_starts_once_for_each_other_key(
    tmp_path: Path,
) -> None:
    scene = SearchScene(tmp_path, default="dora")
    scene.observe(a_sender("dora"))
    scene.kube.put(an_envelope("dora"))
    assert (await scene.end())[0] is Phase.AWAITING_CONSENT
    for finder in ("ben", "carla"):
        assert await scene.lists(finder)
        assert (await scene.end())[0] is Phase.AWAITING_CONSENT
    assert [await scene.lists("ben"), await scene.lists("carla")] == [False, False]


@pytest.mark.parametrize("default", [None, "anna"])
async def test_the_default_sender_reads_what_a_sender_listed_who_does_not_exist_any_more(
    tmp_path: Path, default: str | None
) -> None:
    recorded = an_event().in_phase(Phase.SUCCEEDED, "Recorded").status(completion_time=NOON)
    scene = SearchScene(tmp_path, recorded, default=default)
    scene.shown.keys.add(KEY)
    await scene.lists("ben")
    scene.cache.delete(Sender, "ben", 10**9)
    if default:
        assert await scene.end() == (Phase.SUCCEEDED, "ArchivedAndKept")
        assert scene.newest().metadata.labels[SENDER_LABEL] == "anna"
    else:
        waits = await scene.reconcile()
        assert (waits.status.reason, waits.status.message) == ("SenderMissing", "Sender/ben does not exist.")


async def test_the_key_that_showed_an_envelope_reads_it_also_if_another_key_lists_it(tmp_path: Path) -> None:
    shown = EnvelopeSummary(status="Rejected", sender_ref=SenderReference(name="anna", user_id=ANNA))
    skipped = an_event().in_phase(Phase.SKIPPED, "UnexpectedStatus")
    scene = SearchScene(
        tmp_path,
        skipped.status(completion_time=NOON, envelope=shown),
        statuses=["Completed", "Rejected"],
    )
    scene.shown.keys.add(KEY)
    assert await scene.lists("ben", status=EnvelopeStatus.REJECTED)
    assert await scene.end() == (Phase.SUCCEEDED, "ArchivedAndKept")


async def test_an_envelope_that_its_sender_can_not_see_any_more_is_read_with_the_key_that_lists_it(
    tmp_path: Path,
) -> None:
    shown = EnvelopeSummary(status="Completed", sender_ref=SenderReference(name="anna", user_id=ANNA))
    failed = an_event().in_phase(Phase.SKIPPED, "UnexpectedStatus")
    scene = SearchScene(tmp_path, failed.status(completion_time=NOON, envelope=shown))
    assert await scene.lists("carla")
    # The key of the search is asked after the one that showed the envelope before.
    scene.shown.keys.add(key_of("carla"))
    assert await scene.end() == (Phase.SUCCEEDED, "ArchivedAndKept")


async def test_the_default_sender_reads_if_the_key_that_listed_the_envelope_is_refused(
    tmp_path: Path,
) -> None:
    recorded = an_event().in_phase(Phase.SUCCEEDED, "Recorded").status(completion_time=NOON)
    scene = SearchScene(tmp_path, recorded)
    scene.shown.keys |= {KEY, key_of("ben")}
    assert await scene.lists("ben")
    scene.kube.put(a_sender("ben"))
    scene.cache.senders.remove("ben")
    scene.cache.senders.put(a_sender("ben"))
    scene.kube.secrets.pop("ben-key")
    scene.restarted()
    assert await scene.end() == (Phase.SUCCEEDED, "ArchivedAndKept")
    assert scene.newest().metadata.labels[SENDER_LABEL] == "anna"


async def test_an_event_that_is_held_after_a_search_started_it_keeps_the_key_of_the_search(
    tmp_path: Path,
) -> None:
    scene = SearchScene(tmp_path, default="dora")
    scene.observe(a_sender("dora"))
    scene.shown.keys.add(key_of("ben"))
    assert (await scene.end())[0] is Phase.AWAITING_CONSENT
    archive = next(iter(scene.cache.archives))
    for version, is_suspended in ((1000, True), (1001, False)):
        spec = replace(archive.spec, suspend=is_suspended)
        metadata = replace(archive.metadata, resource_version=str(version))
        scene.observe(replace(archive, metadata=metadata, spec=spec))
        if is_suspended:
            assert await scene.lists("ben")
            assert (await scene.reconcile()).status.reason == "ArchiveSuspended"
    assert await scene.end() == (Phase.SUCCEEDED, "ArchivedAndKept")


async def test_the_key_that_lists_an_envelope_reads_it_although_its_envelope_names_another_sender(
    tmp_path: Path,
) -> None:
    scene = SearchScene(tmp_path)
    scene.shown.keys.add(key_of("ben"))
    scene.kube.put(an_envelope("anna"))
    assert await scene.end() == (Phase.FAILED, "EnvelopeNotFound")
    assert await scene.lists("ben")
    assert await scene.end() == (Phase.SUCCEEDED, "ArchivedAndKept")


async def test_an_envelope_that_no_key_shows_starts_its_event_once_for_each_key_that_lists_it(
    tmp_path: Path,
) -> None:
    """Each further end would be one more notice, and no time to live would ever pass."""
    scene = SearchScene(tmp_path)
    scene.kube.put(an_envelope("anna"))
    assert await scene.end() == (Phase.FAILED, "EnvelopeNotFound")
    started = list[str]()
    for finder in ("ben", "carla") * 4:
        scene.clock.advance(hours=6)
        if await scene.lists(finder):
            started.append(finder)
            assert await scene.end() == (Phase.FAILED, "EnvelopeNotFound")
            scene.cache.update(scene.newest())
            await scene.late_sender_finder.reopen_if_recorded(scene.newest())
            assert scene.newest().status.phase is Phase.FAILED
    assert started == ["ben", "carla"]
    assert "Sender/anna" in (scene.newest().status.message or "")


async def test_one_import_tries_the_key_of_each_sender_that_lists_the_envelope(tmp_path: Path) -> None:
    scene = SearchScene(tmp_path)
    scene.shown.keys.add(key_of("carla"))
    assert await scene.end() == (Phase.FAILED, "EnvelopeNotFound")
    ends = [(await scene.imports(finder), await scene.end()) for finder in ("ben", "carla", "ben")]
    found = (Phase.SUCCEEDED, "ArchivedAndKept")
    assert ends == [(True, (Phase.FAILED, "EnvelopeNotFound")), (True, found), (False, found)]


@pytest.mark.parametrize("change", ["another uid", "another key"])
async def test_another_sender_of_the_same_name_and_another_key_are_tried_again(
    tmp_path: Path, change: str
) -> None:
    scene = SearchScene(tmp_path)
    assert await scene.end() == (Phase.FAILED, "EnvelopeNotFound")
    assert await scene.lists("ben")
    assert await scene.end() == (Phase.FAILED, "EnvelopeNotFound")
    assert not await scene.lists("ben")
    key = key_of("ben") if change == "another uid" else key_of("new")
    ben = known_to_work(a_sender("ben", version=10**7), key)
    if change == "another uid":
        ben = replace(ben, metadata=replace(ben.metadata, uid="another"))
    scene.observe(ben)
    scene.put_key("ben", key)
    scene.shown.keys.add(key)
    assert await scene.lists("ben")
    assert await scene.end() == (Phase.SUCCEEDED, "ArchivedAndKept")


async def test_a_persons_retry_tries_each_key_again(tmp_path: Path) -> None:
    scene = SearchScene(tmp_path)
    assert await scene.end() == (Phase.FAILED, "EnvelopeNotFound")
    assert await scene.lists("ben")
    assert await scene.end() == (Phase.FAILED, "EnvelopeNotFound")
    # Somebody shared it with the default Sender since.
    scene.shown.keys.add(KEY)
    await scene.request("retry")
    assert await scene.end() == (Phase.SUCCEEDED, "ArchivedAndKept")


async def test_a_sender_whom_an_envelope_names_is_waited_for_and_not_replaced_by_the_default_sender(
    tmp_path: Path,
) -> None:
    scene = SearchScene(tmp_path)
    scene.shown.keys.add(KEY)
    scene.observe(a_sender("dora"))
    scene.kube.put(an_envelope("dora"))
    assert (await scene.end())[0] is Phase.AWAITING_CONSENT
