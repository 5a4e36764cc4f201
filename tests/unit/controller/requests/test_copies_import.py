"""An Import that only copies brings the copies of a span up to date, and asks eSAW nothing."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from controller.reopening.reopener import Reopener
from controller.requests.copies_import import PAGE_SIZE, RETRY_SECONDS, CopiesImport, is_of_span
from controller.requests.copy_requests import CopyRequests
from counterfoil.kube.client import KubeClient
from counterfoil.kube.errors import Conflict, Expired, Unavailable
from counterfoil.resources import (
    ORGANIZATION_LABEL,
    Archive,
    Condition,
    EnvelopeEvent,
    Import,
    Organization,
    Phase,
    Sender,
    find_condition,
)
from counterfoil.resources.reopening import retries_copies
from counterfoil.resources.request import Request
from counterfoil.resources.routes import stored_copy
from tests.support.builders import NOON, a_sender, an_event, known_to_work
from tests.support.scenes.copied_events import MIRROR, WORM, CopiedScene

LEADER_CHANGED = Unavailable(500, "InternalError", "etcdserver: leader changed")
BUSY = "zzz"


def an_import(**spec: Any) -> Import:
    created = "2026-07-02T12:00:00Z"
    return Import.parse(
        {
            "metadata": {
                "name": "copies",
                "uid": "uid-copies",
                "resourceVersion": "1",
                "creationTimestamp": created,
                "generation": 1,
            },
            "spec": {
                "organizationRef": {"name": "acme"},
                "from": "2019-01-01",
                "copiesOnly": True,
                **spec,
            },
        }
    )


class ImportScene(CopiedScene):
    """An event that succeeded before its Organization had a copy in ``mirror``, and an Import."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        super().__init__(folder, names=("worm", "mirror"))
        reopener = Reopener(self.status_writer, self.event_recorder, self.clock)
        self.copies_import = CopiesImport(self.kube, self.cache, reopener, self.clock)
        self.kube.put(an_import(**spec))
        labels = {**self.event.metadata.labels, ORGANIZATION_LABEL: "acme"}
        self.kube.put(replace(self.event, metadata=replace(self.event.metadata, labels=labels)))

    def observe(self, resource: Organization | Sender | Archive) -> None:
        """Store an object, and let a probe find that its Archive works."""
        if isinstance(resource, Archive):
            ready = Condition("Ready", "True", "ArchiveReachable", "", NOON)
            resource = replace(resource, status=replace(resource.status, conditions=(ready,)))
        super().observe(resource)

    async def with_further_copy(self) -> "ImportScene":
        await self.reconcile_until_quiet()
        self.clock.advance(hours=1)
        self.change(WORM, MIRROR)
        return self

    @property
    def imported(self) -> Import:
        return Import.parse(self.kube.objects["imports", "copies"])

    async def passed(self) -> Import:
        """Let the Import work, and the events run after it."""
        await self.copies_import.advance(self.imported)
        self.cache.update(self.newest())
        await self.reconcile_until_quiet()
        self.clock.advance(minutes=10)
        return self.imported

    def put_copying(self, reason: str | None = None) -> None:
        """Let an event make copies that no Import asked for."""
        event = self.newest()
        other = replace(event.metadata, name=BUSY, uid=f"uid-{BUSY}", labels={ORGANIZATION_LABEL: "acme"})
        status = replace(event.status, phase=Phase.COPYING, reason=reason)
        self.kube.put(replace(event, metadata=other, status=status))

    def let_copying_end(self) -> None:
        """Let nothing be left of that event."""
        del self.kube.objects["envelopeevents", BUSY]

    async def after_two_days(self) -> "ImportScene":
        """Let the pass wait for two days for room, which an event of another cause takes."""
        await self.with_further_copy()
        self.put_copying()
        for _ in range(48):
            await self.copies_import.advance(self.imported)
            self.clock.advance(hours=1)
        self.let_copying_end()
        return self

    def fail_get(self, times: int) -> None:
        """Let the first reads of an event fail."""
        read, failed = self.kube.get, list[str]()

        async def get(kind: Any, name: str, *arguments: Any) -> Any:
            if kind is EnvelopeEvent and len(failed) < times:
                failed.append(name)
                raise LEADER_CHANGED
            return await read(kind, name, *arguments)

        self.copies_import.kube = cast("KubeClient", Overridden(self.kube, get))

    def put_event(self, *, suspend: bool) -> None:
        """Let a person change ``spec.suspend`` of the event."""
        event = self.newest()
        version = str(int(event.metadata.resource_version or 0) + 1)
        metadata = replace(event.metadata, resource_version=version)
        changed = replace(event, metadata=metadata, spec=replace(event.spec, suspend=suspend))
        self.kube.put(changed)
        self.cache.update(changed)

    async def with_delayed_delete(self) -> "ImportScene":
        """Let the archived event wait for its delete, for which ``mirror`` is required since."""
        self.spec["cleanup"] = {"policy": "Delete", "after": "720h"}
        self.change(WORM)
        await self.reconcile_until_quiet()
        self.clock.advance(hours=1)
        self.change(WORM, MIRROR)
        return self

    def reason(self, type_: str = "Ready") -> tuple[str, str]:
        found = find_condition(self.imported.status.conditions, type_)
        assert found is not None
        return found.status, found.reason

    def message(self) -> str:
        found = find_condition(self.imported.status.conditions, "Ready")
        assert found is not None
        return found.message


def hold_sender(scene: ImportScene) -> None:
    sender = known_to_work(a_sender(version=70))
    scene.observe(replace(sender, spec=replace(sender.spec, suspend=True)))


def let_sender_go(scene: ImportScene) -> None:
    scene.observe(known_to_work(a_sender(version=71)))


def hold_event(scene: ImportScene) -> None:
    scene.put_event(suspend=True)


def let_event_go(scene: ImportScene) -> None:
    scene.put_event(suspend=False)


def hold_action(scene: ImportScene) -> None:
    scene.change(WORM, MIRROR, actions=[{"action": "otherAction", "handling": "Archive"}])


def let_action_go(scene: ImportScene) -> None:
    scene.change(WORM, MIRROR)


def hold_copy(scene: ImportScene) -> None:
    scene.change_archive("mirror", suspend=True)


HOLDS: dict[str, tuple[Callable[[ImportScene], None], Callable[[ImportScene], None], str]] = {
    "its Sender is suspended": (hold_sender, let_sender_go, "SenderSuspended"),
    "it is suspended": (hold_event, let_event_go, "Suspended"),
    "its action is not configured": (hold_action, let_action_go, "ActionNotConfigured"),
}


async def mirror_is_full(_: str, archive: str, *__: object) -> bool:
    return archive != "mirror"


async def test_each_archived_event_gets_its_missing_copies(tmp_path: Path) -> None:
    scene = await ImportScene(tmp_path).with_further_copy()
    asked = list(scene.envelope.asked)

    await scene.passed()
    assert scene.reason() == ("False", "ImportRunning")
    imported = await scene.passed()

    assert scene.reason("Complete") == ("True", "ImportComplete")
    assert (imported.status.found, imported.status.archived, imported.status.known) == (1, 1, 0)
    assert stored_copy(scene.newest().status, "mirror").verified_time is not None
    assert scene.newest().status.phase is Phase.SUCCEEDED
    assert await scene.faults("mirror") == []
    assert scene.envelope.asked == asked


async def test_what_has_its_copies_is_only_counted(tmp_path: Path) -> None:
    scene = ImportScene(tmp_path)
    await scene.reconcile_until_quiet()
    scene.clock.advance(hours=1)
    imported = await scene.passed()
    assert scene.reason("Complete") == ("True", "ImportComplete")
    assert (imported.status.found, imported.status.known, imported.status.archived) == (1, 1, 0)


async def test_a_dry_run_only_counts(tmp_path: Path) -> None:
    scene = await ImportScene(tmp_path, dryRun=True).with_further_copy()
    imported = await scene.passed()
    assert (imported.status.found, imported.status.archived) == (1, 0)
    assert scene.files("mirror") == []


async def test_a_copy_that_fails_is_counted_and_not_started_without_end(tmp_path: Path) -> None:
    scene = await ImportScene(tmp_path).with_further_copy()
    (document,) = scene.folders["dms"].rglob("file-1.pdf")
    document.unlink()
    await scene.passed()
    imported = await scene.passed()
    assert stored_copy(scene.newest().status, "mirror").reason == "OriginalDiffers"
    assert (imported.status.failed, scene.reason("Complete")) == (1, ("True", "ImportComplete"))


async def test_a_copy_that_fails_beside_one_without_room_is_counted_and_not_started_without_end(
    tmp_path: Path,
) -> None:
    scene = await ImportScene(tmp_path).with_further_copy()
    scene.add_archive("vault")
    scene.change(WORM, MIRROR, {"archiveRef": {"name": "vault"}})
    scene.break_archive("vault")
    scene.change_archives(take_slot=mirror_is_full)

    for _ in range(3):
        imported = await scene.passed()

    mirror, vault = (stored_copy(scene.newest().status, each) for each in ("mirror", "vault"))
    assert (mirror.reason, mirror.attempts) == ("WaitingForArchive", 0)
    assert (vault.reason, vault.attempts) == ("ArchiveRootMissing", 1)
    assert scene.metric("copies_total", archive="vault", outcome="failed", reason="ArchiveRootMissing") == 1
    assert (imported.status.failed, scene.reason("Complete")) == (1, ("True", "ImportComplete"))


async def test_a_copy_that_only_had_no_room_is_started_again(tmp_path: Path) -> None:
    scene = await ImportScene(tmp_path).with_further_copy()
    taken = scene.preconditions.archives.take_slot
    scene.change_archives(take_slot=mirror_is_full)
    await scene.passed()
    scene.change_archives(take_slot=taken)
    assert scene.reason("Complete")[0] == "False"

    for _ in range(2):
        imported = await scene.passed()

    assert (imported.status.archived, scene.reason("Complete")) == (1, ("True", "ImportComplete"))


@pytest.mark.parametrize("hold", HOLDS)
async def test_no_copy_starts_of_an_event_that_a_person_holds(tmp_path: Path, hold: str) -> None:
    scene = await ImportScene(tmp_path).with_delayed_delete()
    hold_it, let_go, _ = HOLDS[hold]
    hold_it(scene)

    for _ in range(3):
        imported = await scene.passed()

    assert scene.newest().status.phase is Phase.CLEANING
    assert (imported.status.failed, scene.reason("Complete")) == (1, ("True", "ImportComplete"))
    let_go(scene)
    scene.clock.advance(days=31)
    await scene.reconcile_until_quiet()
    assert (await scene.retried()).status.reason == "ArchivedAndDeleted"
    assert await scene.faults("mirror") == []


async def test_the_copy_of_a_suspended_event_that_has_ended_is_recorded_for_the_garbage_collector(
    tmp_path: Path,
) -> None:
    scene = await ImportScene(tmp_path).with_further_copy()
    hold_event(scene)

    for _ in range(3):
        imported = await scene.passed()

    assert (imported.status.failed, scene.reason("Complete")) == (1, ("True", "ImportComplete"))
    assert scene.newest().status.phase is Phase.SUCCEEDED
    assert retries_copies(scene.newest().status)


@pytest.mark.parametrize("hold", HOLDS)
async def test_an_import_does_not_wait_for_an_event_that_a_person_holds_before_its_copies(
    tmp_path: Path, hold: str
) -> None:
    scene = await ImportScene(tmp_path).with_delayed_delete()
    hold_it, _, reason = HOLDS[hold]
    await scene.copies_import.advance(scene.imported)
    assert scene.newest().status.phase is Phase.COPYING
    hold_it(scene)
    scene.cache.update(scene.newest())
    await scene.reconcile_until_quiet()
    scene.clock.advance(minutes=10)

    imported = await scene.passed()

    assert (scene.newest().status.phase, scene.newest().status.reason) == (Phase.COPYING, reason)
    assert (imported.status.failed, scene.reason("Complete")) == (1, ("True", "ImportComplete"))


@pytest.mark.parametrize("hold", HOLDS)
async def test_an_import_waits_for_an_event_that_nobody_holds_any_more(tmp_path: Path, hold: str) -> None:
    """With many others, it may be in the queue for hours, and shows until then what held it."""
    scene = await ImportScene(tmp_path).with_delayed_delete()
    hold_it, let_go, reason = HOLDS[hold]
    await scene.copies_import.advance(scene.imported)
    hold_it(scene)
    scene.cache.update(scene.newest())
    await scene.reconcile_until_quiet()
    let_go(scene)
    scene.clock.advance(minutes=10)

    await scene.copies_import.advance(scene.imported)

    assert scene.newest().status.reason == reason
    assert scene.reason("Complete")[0] == "False"
    scene.clock.advance(minutes=10)
    await scene.passed()
    imported = await scene.passed()
    assert (imported.status.archived, scene.reason("Complete")) == (1, ("True", "ImportComplete"))


async def test_events_that_a_person_holds_take_no_room_of_an_import(tmp_path: Path) -> None:
    scene = await ImportScene(tmp_path, maxUnfinished=1).with_further_copy()
    scene.put_copying(reason="SenderSuspended")

    await scene.copies_import.advance(scene.imported)

    assert scene.newest().status.phase is Phase.COPYING


@pytest.mark.parametrize("hold_it", [hold_sender, hold_event, hold_action, hold_copy])
async def test_the_answer_to_a_request_for_copies_says_that_they_are_held(
    tmp_path: Path, hold_it: Callable[[ImportScene], None]
) -> None:
    scene = await ImportScene(tmp_path).with_delayed_delete()
    hold_it(scene)

    result = await CopyRequests(scene.cache, scene.clock).copy(scene.newest(), Request("copy"))

    assert "made now" not in result.message
    assert "suspension" in result.message


async def test_an_import_waits_until_its_organization_has_copies(tmp_path: Path) -> None:
    scene = ImportScene(tmp_path)
    await scene.reconcile_until_quiet()
    scene.change()
    await scene.passed()
    assert scene.reason() == ("False", "ImportWithoutCopies")

    scene.change(WORM, MIRROR)
    await scene.passed()
    await scene.passed()
    assert scene.reason("Complete") == ("True", "ImportComplete")
    assert "file-1.pdf" in scene.files("mirror")


async def test_no_more_events_copy_at_once_than_the_import_allows(tmp_path: Path) -> None:
    scene = await ImportScene(tmp_path, maxUnfinished=1).with_further_copy()
    await scene.copies_import.advance(scene.imported)
    assert scene.newest().status.phase is Phase.COPYING
    scene.clock.advance(minutes=10)
    await scene.copies_import.advance(scene.imported)
    assert scene.reason() == ("False", "ImportRunning")


@pytest.mark.parametrize("name", ["mirror", "dms"])
async def test_no_copy_starts_while_an_archive_of_the_organization_can_not_be_used(
    tmp_path: Path, name: str
) -> None:
    scene = await ImportScene(tmp_path).with_further_copy()
    scene.change_archive(name, suspend=True)
    await scene.passed()
    assert scene.reason() == ("False", "ArchiveSuspended")
    assert scene.newest().status.phase is Phase.SUCCEEDED

    scene.change_archive(name)
    await scene.passed()
    assert stored_copy(scene.newest().status, "mirror").verified_time is not None


async def test_the_pages_of_deleted_imports_do_not_stay_in_memory(tmp_path: Path) -> None:
    scene = await ImportScene(tmp_path, maxUnfinished=1).with_further_copy()
    await scene.copies_import.advance(scene.imported)
    assert scene.copies_import.remembered == 1

    scene.copies_import.forget_others([])

    assert scene.copies_import.remembered == 0


async def test_an_event_without_room_for_its_list_is_not_started_again_before_its_time(
    tmp_path: Path,
) -> None:
    scene = await ImportScene(tmp_path).with_further_copy()
    await scene.copies_import.advance(scene.imported)
    event = scene.newest()
    assert event.status.phase is Phase.COPYING
    listed = replace(event.status, documents=event.status.documents[:1])
    scene.cache.update(await scene.reconciler.wait_for_room(replace(event, status=listed)))
    for _ in range(10):
        scene.clock.advance(minutes=2)
        await scene.copies_import.advance(scene.imported)

    assert scene.newest().status.phase is Phase.SUCCEEDED
    assert stored_copy(scene.newest().status, "mirror").reason == "FileListCeiling"
    assert scene.reason() == ("False", "ImportRunning")
    scene.clock.advance(hours=1)
    await scene.copies_import.advance(scene.imported)
    assert scene.newest().status.phase is Phase.COPYING


async def test_an_import_that_waits_for_room_keeps_no_event_in_memory(tmp_path: Path) -> None:
    """The number of unfinished Imports has no bound, and an event can have thousands of files."""
    scene = await ImportScene(tmp_path, maxUnfinished=1).with_further_copy()
    event = scene.newest()
    other = replace(event.metadata, name="other", uid="uid-other")
    scene.kube.put(replace(event, metadata=other))

    await scene.copies_import.advance(scene.imported)

    (current,) = scene.copies_import._passes.values()
    (waiting,) = current.waiting
    assert {event.name, "other"} >= {waiting}
    started = ({event.name, "other"} - {waiting}).pop()
    assert scene.kube.objects["envelopeevents", started]["status"]["phase"] == Phase.COPYING


async def test_an_event_that_was_deleted_while_it_waited_for_room_is_left_out(tmp_path: Path) -> None:
    scene = await ImportScene(tmp_path, maxUnfinished=1).with_further_copy()
    event = scene.newest()
    scene.kube.put(replace(event, metadata=replace(event.metadata, name="another", uid="uid-another")))
    await scene.copies_import.advance(scene.imported)
    (current,) = scene.copies_import._passes.values()
    (waiting,) = current.waiting
    del scene.kube.objects["envelopeevents", waiting]
    copying = next(name for kind, name in scene.kube.objects if kind == "envelopeevents")
    raw = scene.kube.objects["envelopeevents", copying]
    scene.kube.objects["envelopeevents", copying] = {
        **raw,
        "status": {**raw["status"], "phase": "Succeeded"},
    }
    scene.clock.advance(minutes=10)

    await scene.copies_import.advance(scene.imported)

    assert scene.reason() == ("False", "ImportRunning")
    assert scene.copies_import._passes == {}, "the pass ended"


async def test_a_pass_whose_token_expired_without_another_one_begins_again(tmp_path: Path) -> None:
    scene = await ImportScene(tmp_path).with_further_copy()
    scene.kube.fail("page", Expired(410, "Expired", "the provided continue parameter is too old"))
    await scene.copies_import.advance(scene.imported)

    await scene.passed()

    assert stored_copy(scene.newest().status, "mirror").verified_time is not None


@pytest.mark.parametrize(
    ("spec", "is_of"),
    [
        ({}, True),
        ({"until": "2026-07-01"}, True),
        ({"until": "2026-06-30"}, False),
        ({"senderRefs": [{"name": "anna"}]}, False),
    ],
)
def test_the_span_and_the_senders_choose_the_events(spec: dict[str, Any], is_of: bool) -> None:
    assert NOON.day == 1
    assert is_of_span(an_event().build(), an_import(**spec)) is is_of


async def test_an_event_that_the_api_server_never_returns_stops_no_other_one(tmp_path: Path) -> None:
    scene = await ImportScene(tmp_path).with_further_copy()
    event = scene.newest()
    scene.kube.put(replace(event, metadata=replace(event.metadata, name="aaa", uid="uid-aaa")))
    read = scene.kube.get

    async def get(kind: Any, name: str, *arguments: Any) -> Any:
        if name == "aaa":
            raise Unavailable(500, "InternalError", "etcdserver: request is too large")
        return await read(kind, name, *arguments)

    scene.copies_import.kube = cast("KubeClient", Overridden(scene.kube, get))
    await scene.copies_import.advance(scene.imported)
    assert scene.newest().status.phase is Phase.COPYING
    scene.clock.advance(minutes=10)
    await scene.copies_import.advance(scene.imported)
    assert scene.reason() == ("False", "ImportRunning"), "a later pass tries it again"


async def test_an_internal_error_at_an_event_completes_no_pass_without_it(tmp_path: Path) -> None:
    scene = await ImportScene(tmp_path).with_further_copy()
    read = scene.kube.get

    async def get(*_: Any) -> Any:
        raise LookupError("a mistake of Counterfoil")

    scene.copies_import.kube = cast("KubeClient", Overridden(scene.kube, get))
    with pytest.raises(LookupError):
        await scene.copies_import.advance(scene.imported)
    scene.copies_import.kube = cast("KubeClient", Overridden(scene.kube, read))
    await scene.copies_import.advance(scene.imported)
    assert scene.imported.status.completion_time is None
    scene.clock.advance(minutes=1)
    await scene.copies_import.advance(scene.imported)
    assert scene.newest().status.phase is Phase.COPYING


async def test_an_answer_500_delays_the_copies_of_an_event_by_a_minute(tmp_path: Path) -> None:
    scene = await ImportScene(tmp_path, maxUnfinished=1).after_two_days()
    scene.fail_get(times=1)

    await scene.copies_import.advance(scene.imported)

    assert scene.newest().status.phase is Phase.SUCCEEDED
    assert scene.reason() == ("False", "ImportRunning")
    assert f"EnvelopeEvent/{scene.newest().name}: " in scene.message()
    assert "etcdserver: leader changed" in scene.message()
    scene.clock.advance(minutes=1)
    await scene.copies_import.advance(scene.imported)
    assert scene.newest().status.phase is Phase.COPYING
    assert "leader changed" not in scene.message()


async def test_an_event_that_is_changed_at_that_moment_is_tried_again_in_the_same_pass(
    tmp_path: Path,
) -> None:
    scene = await ImportScene(tmp_path, maxUnfinished=1).after_two_days()
    event = scene.newest()
    changed = replace(
        event,
        metadata=replace(event.metadata, resource_version="99"),
        status=replace(event.status, message="Another client wrote this."),
    )
    scene.kube.just_before("patch_status", lambda: scene.kube.put(changed))
    scene.kube.fail("patch_status", Conflict(409, "Conflict", "the object has been modified"))

    await scene.copies_import.advance(scene.imported)
    assert scene.newest().status.phase is Phase.SUCCEEDED
    scene.clock.advance(minutes=1)
    await scene.copies_import.advance(scene.imported)

    assert scene.newest().status.phase is Phase.COPYING


async def test_an_event_that_can_not_be_started_is_named_until_the_next_pass_tries_it(tmp_path: Path) -> None:
    scene = await ImportScene(tmp_path).with_further_copy()
    scene.fail_get(times=10)
    for _ in range(10):
        await scene.copies_import.advance(scene.imported)
        assert scene.newest().status.phase is Phase.SUCCEEDED
        scene.clock.advance(minutes=1)
    assert scene.copies_import._passes == {}, "the pass ended"
    assert "etcdserver: leader changed" in scene.message()

    await scene.copies_import.advance(scene.imported)

    assert scene.newest().status.phase is Phase.COPYING


async def test_writes_that_fail_for_some_minutes_skip_no_event(tmp_path: Path) -> None:
    scene = await ImportScene(tmp_path).with_further_copy()
    imported = scene.imported
    scene.kube.put(replace(imported, status=replace(imported.status, start_time=scene.clock.now())))
    event = scene.newest()
    for number in range(3 * PAGE_SIZE):
        scene.kube.put(replace(event, metadata=replace(event.metadata, name=f"e{number}", uid=f"u{number}")))
    scene.kube.fail("patch_status", *[LEADER_CHANGED] * 10_000)

    for _ in range(5):
        with contextlib.suppress(Unavailable):
            await scene.copies_import.advance(scene.imported)
        scene.clock.advance(minutes=1)

    (current,) = scene.copies_import._passes.values()
    assert len(current.postponed) + len(current.waiting) == PAGE_SIZE
    assert current.given_up == 0
    scene.kube.recover()
    await scene.copies_import.advance(scene.imported)
    assert current.started == min(scene.imported.spec.max_unfinished, 3 * PAGE_SIZE + 1)
    assert current.worked < RETRY_SECONDS


async def test_an_import_is_complete_once_the_copies_of_a_long_pass_are_made(tmp_path: Path) -> None:
    scene = await ImportScene(tmp_path, maxUnfinished=1).after_two_days()

    await scene.passed()
    assert stored_copy(scene.newest().status, "mirror").verified_time is not None
    await scene.passed()

    assert scene.reason("Complete") == ("True", "ImportComplete")


async def test_an_import_is_complete_at_once_although_its_pass_was_much_work(tmp_path: Path) -> None:
    scene = await ImportScene(tmp_path).with_further_copy()
    read = scene.kube.get

    async def slow(kind: Any, name: str, *arguments: Any) -> Any:
        scene.clock.advance(hours=1)
        return await read(kind, name, *arguments)

    scene.copies_import.kube = cast("KubeClient", Overridden(scene.kube, slow))
    await scene.copies_import.advance(scene.imported)
    scene.clock.advance(minutes=2)
    await scene.copies_import.advance(scene.imported)
    assert scene.reason("Complete")[0] == "False", "its copies are not made yet"

    await scene.passed()
    await scene.passed()

    assert scene.reason("Complete") == ("True", "ImportComplete")


async def test_a_pass_that_started_nothing_is_not_followed_by_another_one_at_once(tmp_path: Path) -> None:
    """Else one would follow another while callbacks let events make copies all the time."""
    scene = ImportScene(tmp_path)
    await scene.reconcile_until_quiet()
    scene.clock.advance(hours=1)
    scene.put_copying()
    await scene.copies_import.advance(scene.imported)
    scene.let_copying_end()
    scene.clock.advance(seconds=10)

    await scene.copies_import.advance(scene.imported)

    assert scene.reason("Complete")[0] == "False"
    scene.clock.advance(minutes=1)
    await scene.copies_import.advance(scene.imported)
    assert scene.reason("Complete") == ("True", "ImportComplete")


class Overridden:
    """A client of the API server that answers ``get`` in another way."""

    def __init__(self, kube: Any, get: Any) -> None:
        self._kube, self.get = kube, get

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kube, name)
