"""
An Archive that somebody created after an event had its files in one of this name gets no documents, unless
the Organization names it now.
"""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from controller.scheduling.due import due_time
from counterfoil.esaw.errors import EsawUnreachable
from counterfoil.resources import (
    IMPORT_ARCHIVE_LABEL,
    SENDER_LABEL,
    EnvelopeEvent,
    EnvelopeEventStatus,
    Phase,
)
from counterfoil.resources.organization import EnvelopeStatus
from counterfoil.resources.reopening import reopened_status
from counterfoil.resources.routes import Choice, stored_choice
from tests.support.builders import an_event
from tests.support.fakes.reconcile_context import a_probed_archive
from tests.support.scenes.routed import AREA, FILES, RoutedScene, documents, observed

ACTIONS = [{"action": "envelopeFinished"}, {"action": "workstepFinished"}]
DELETE: dict[str, Any] = {"policy": "Delete", "after": "24h"}
TO_VAULT = {"name": "vault"}
BEN = {"name": "ben", "archiveRef": TO_VAULT, "when": {"senders": ["ben"]}}
OF_BEN = {"name": "other", "archiveRef": {"name": "dms"}, "when": {"senders": ["ben"]}}


class RecreatedScene(RoutedScene):
    """An event with files in ``vault``, which ``spec.archiveRef`` named before, and a further folder."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        self.spec = {"cleanup": DELETE, **spec}
        super().__init__(folder, OF_BEN, **self.spec, archiveRef=TO_VAULT)
        self.other = folder / "other"
        self.other.mkdir()

    def name(self, *routes: dict[str, Any], **spec: Any) -> None:
        """Let a person change what the Organization names."""
        self.change_routes(*(routes or (OF_BEN,)), **{**self.spec, **spec})

    def name_copy(self, root: Path) -> None:
        """Let a person name a required copy in the Archive ``worm``, which works."""
        path = "w/{{envelope.id}}/{{file.name}}"
        self.observe(a_probed_archive("worm", root=root, marker_id="4" * 32, path=path))
        self.name(copies=[{"archiveRef": {"name": "worm"}}])

    def recreate(self, root: Path | None = None) -> None:
        """Let somebody delete the Archive ``vault``, and create one of this name with another root."""
        self.generation += 1
        self.clock.advance(minutes=30)
        root, marker = (root, "2" * 32) if root is not None else (self.other, "3" * 32)
        archive = observed(
            a_probed_archive(
                "vault",
                root=root,
                marker_id=marker,
                tags=AREA,
                version=self.generation + 100,
                generation=self.generation,
            )
        )
        metadata = replace(archive.metadata, uid="another", creation_timestamp=self.clock.now())
        self.cache.archives.remove("vault")
        self.observe(replace(archive, metadata=metadata))

    def follow(self) -> None:
        """Let a further event of the envelope come."""
        builder = an_event().for_action("workstepFinished").named("second")
        self.event = builder.labelled(SENDER_LABEL, "anna").build()
        self.kube.put(self.event)

    def meanwhile(self, act: Callable[[], None]) -> None:
        """Act once while a run waits for the limit of an Archive."""

        def once() -> None:
            self.is_archive_busy = False
            act()

        self.is_archive_busy, self.while_waiting = True, once

    async def run_late(self, times: int = 3) -> EnvelopeEvent:
        """Let the time of the delete pass, and reconcile."""
        event = self.newest()
        for _ in range(times):
            self.clock.advance(hours=1)
            event = await self.reconcile()
        return event

    def start_again(self) -> None:
        """Let a person retry the event."""
        event = self.newest()
        self._store(reopened_status(event.status, reason="RetryRequested", message="", now=self.clock.now()))

    def call(self) -> None:
        """Let eSAW call about the envelope."""
        event = self.newest()
        received = {"deliveries": event.deliveries + 1, "last_delivery_time": self.clock.now()}
        self._store(replace(event.status, **received))

    def _store(self, status: EnvelopeEventStatus) -> None:
        self.event = replace(self.newest(), status=status)
        self.kube.put(self.event)
        self.cache.update(self.event)

    @property
    def deleted(self) -> list[str]:
        return self.envelope.transport.deleted


async def archived(folder: Path, **spec: Any) -> RecreatedScene:
    """Let the event wait for its delete. Its Archive was created again, and nothing names that."""
    scene = RecreatedScene(folder, **spec)
    waiting = await scene.reconcile(2)
    assert (waiting.status.phase, waiting.status.reason) == (Phase.CLEANING, "CleanupDelayed")
    scene.name()
    scene.recreate()
    scene.clock.advance(hours=24)
    return scene


async def test_an_archived_event_sends_nothing_to_another_archive_of_the_name(tmp_path: Path) -> None:
    scene = await archived(tmp_path)
    first = scene.newest().status
    after = await scene.run_late()

    assert (after.status.phase, after.status.reason) == (Phase.CLEANING, "ArchiveReplaced")
    assert (documents(scene.other), documents(scene.vault), scene.deleted) == ([], FILES, [])
    # Where the files are stays known.
    assert (after.status.archive, after.status.documents) == (first.archive, first.documents)
    assert after.status.message is not None
    assert (
        "Archive/vault was created after this event had its files in one of this name" in after.status.message
    )
    assert "Organization/acme does not name it" in after.status.message
    assert after.status.mismatches == 0


@pytest.mark.parametrize("how", ["archiveRef", "a route", "the label of its Import"])
async def test_an_archive_replaced_gets_the_documents_once_the_organization_names_it(
    tmp_path: Path, how: str
) -> None:
    scene = await archived(tmp_path)
    await scene.run_late()
    if how == "the label of its Import":
        event = scene.newest()
        labels = {**event.metadata.labels, IMPORT_ARCHIVE_LABEL: "vault"}
        scene.kube.put(replace(event, metadata=replace(event.metadata, labels=labels)))
    else:
        scene.name(
            *((BEN,) if how == "a route" else ()), **({"archiveRef": TO_VAULT} if how == "archiveRef" else {})
        )
    after = await scene.run_late()

    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert documents(scene.other) == FILES


async def test_it_proves_the_files_if_it_leads_to_where_they_are(tmp_path: Path) -> None:
    scene = await archived(tmp_path)
    await scene.run_late()
    scene.recreate(scene.vault)
    after = await scene.run_late()

    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert (documents(scene.vault), documents(scene.other)) == (FILES, [])


async def test_after_its_deadline_the_cause_is_known_and_a_retry_proves_the_files(tmp_path: Path) -> None:
    scene = await archived(tmp_path, retry={"initial": "1s", "max": "1s", "deadline": "1m"})
    failed = await scene.run_late()
    assert (failed.status.phase, failed.status.cause) == (Phase.FAILED, "ArchiveReplaced")

    scene.recreate(scene.vault)
    scene.start_again()
    after = await scene.run_late()
    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "ArchivedAndDeleted")


async def test_what_esaw_lists_late_is_not_sent_to_another_archive(tmp_path: Path) -> None:
    scene = RecreatedScene(tmp_path, cleanup={"policy": "Keep"})
    await scene.reconcile(2)
    scene.name()
    scene.recreate()
    scene.envelope.contents["file-2"] = b"%PDF-2"
    scene.start_again()
    after = await scene.run_late(1)

    assert (after.status.phase, after.status.reason) == (Phase.CLEANING, "ArchiveReplaced")
    assert documents(scene.other) == []


async def test_a_restarted_envelope_is_not_sent_to_another_archive(tmp_path: Path) -> None:
    statuses = ["Completed", "Expired"]
    scene = RecreatedScene(tmp_path, statuses=statuses, cleanup={"policy": "Keep"})
    scene.envelope.status = EnvelopeStatus.EXPIRED
    ended = await scene.reconcile(2)
    assert ended.status.reason == "ArchivedAsExpired"
    scene.name()
    scene.recreate()
    scene.envelope.status = EnvelopeStatus.COMPLETED
    scene.start_again()
    after = await scene.run_late(1)

    assert after.status.reason == "ArchiveReplaced"
    assert documents(scene.other) == []


async def created_late(folder: Path, **spec: Any) -> RecreatedScene:
    """Let an Expired envelope be archived in an Archive that was created after its callback, and that
    nothing names any more."""
    statuses = ["Completed", "Expired"]
    scene = RecreatedScene(folder, statuses=statuses, cleanup={"policy": "Keep"}, **spec)
    scene.envelope.status = EnvelopeStatus.EXPIRED
    scene.recreate(scene.vault)
    scene.clock.advance(minutes=30)
    ended = await scene.reconcile(2)
    assert ended.status.reason == "ArchivedAsExpired"
    scene.name()
    scene.envelope.status = EnvelopeStatus.COMPLETED
    return scene


async def test_a_restarted_envelope_stays_in_an_archive_that_was_created_after_its_callback(
    tmp_path: Path,
) -> None:
    scene = await created_late(tmp_path)
    scene.start_again()

    after = await scene.run_late(2)

    assert (after.status.phase, after.status.reason) == (Phase.SUCCEEDED, "ArchivedAndKept")
    assert stored_choice(after.status) == Choice("vault", None)


async def test_a_further_event_follows_to_an_archive_that_was_created_after_the_first_callback(
    tmp_path: Path,
) -> None:
    scene = await created_late(tmp_path, actions=ACTIONS)
    scene.follow()

    await scene.run_late(2)

    assert documents(scene.dms) == []
    assert stored_choice(scene.newest().status) == Choice("vault", None)


async def test_an_archive_that_was_created_again_before_a_skip_gets_no_document(tmp_path: Path) -> None:
    scene = RecreatedScene(tmp_path, statuses=["Completed", "Expired"])
    scene.envelope.status = EnvelopeStatus.EXPIRED
    assert (await scene.reconcile(2)).status.reason == "CleanupDelayed"
    scene.recreate()
    scene.name(cleanup={"policy": "Keep"})
    assert (await scene.run_late(1)).status.reason == "ArchivedAsExpired"
    scene.envelope.status = EnvelopeStatus.COMPLETED
    scene.start_again()

    after = await scene.run_late(1)

    assert after.status.reason == "ArchiveReplaced"
    assert documents(scene.other) == []


async def interrupted(folder: Path, **spec: Any) -> RecreatedScene:
    """Let the event have claimed its places in ``vault``, while nothing names its Archive any more, which was
    created again."""
    scene = RecreatedScene(folder, **spec)
    scene.envelope.but("download trail-1", EsawUnreachable("cut"))
    waiting = await scene.reconcile()
    assert (waiting.status.phase, documents(scene.vault)) == (Phase.ARCHIVING, ["file-1.pdf"])
    scene.envelope.problems.clear()
    scene.name()
    scene.recreate()
    return scene


async def test_an_event_with_claimed_places_sends_nothing_there_and_chooses_again_after_a_retry(
    tmp_path: Path,
) -> None:
    scene = await interrupted(tmp_path)
    waiting = await scene.run_late()
    assert waiting.status.reason == "ArchiveReplaced"
    assert "Retry the event" in (waiting.status.message or "")
    assert documents(scene.other) == []

    scene.start_again()
    after = await scene.run_late(1)
    assert stored_choice(after.status) is not None
    assert (documents(scene.dms), documents(scene.other)) == (FILES, [])


async def test_a_copy_lets_nothing_be_archived_in_another_archive(tmp_path: Path) -> None:
    scene = RecreatedScene(tmp_path)
    await scene.reconcile(2)
    scene.name_copy(folder_of(tmp_path, "worm"))
    scene.recreate()
    scene.clock.advance(hours=24)
    after = await scene.run_late()

    assert (after.status.phase, after.status.reason) == (Phase.COPYING, "ArchiveReplaced")
    assert (documents(scene.other), scene.deleted) == ([], [])


class RestartedScene(RecreatedScene):
    """An envelope that was archived as Expired, restarted and signed. Its event waits for the copy in
    ``worm``, and its Archive was created again."""

    def __init__(self, folder: Path) -> None:
        statuses, copies = ["Completed", "Expired"], [{"archiveRef": {"name": "worm"}}]
        super().__init__(folder, statuses=statuses, copies=copies, retention="48h")
        self.envelope.status = EnvelopeStatus.EXPIRED
        self.worm = folder_of(folder, "worm")
        self.change_worm(suspend=True)

    def change_worm(self, **spec: Any) -> None:
        self.generation += 1
        number, path = self.generation, "w/{{envelope.id}}/{{file.name}}"
        self.observe(
            a_probed_archive(
                "worm",
                root=self.worm,
                marker_id="4" * 32,
                path=path,
                version=number,
                generation=number,
                **spec,
            )
        )

    async def restarted_and_signed(self) -> None:
        await self.reconcile(2)
        self.name()
        self.recreate(self.vault)
        self.clock.advance(hours=2)
        self.envelope.status = EnvelopeStatus.COMPLETED
        self.envelope.contents["file-1"] = b"%PDF-contract SIGNED"

    @property
    def due(self) -> timedelta | None:
        """The time until the event is due."""
        due = due_time(self.newest(), self.cache, self.clock.now())
        return due - self.clock.now() if due is not None else None


@pytest.mark.parametrize("copy", ["is suspended", "works"])
async def test_a_restarted_envelope_that_may_not_be_archived_is_shown_in_place_of_its_copies(
    tmp_path: Path, copy: str
) -> None:
    scene = RestartedScene(tmp_path)
    await scene.restarted_and_signed()
    if copy == "works":
        scene.change_worm()
    scene.call()
    waiting = await scene.run_late(2)

    assert (waiting.status.phase, waiting.status.reason) == (Phase.COPYING, "ArchiveReplaced")
    assert waiting.status.attempts == 2
    assert scene.due is not None
    assert scene.due > timedelta(0)
    assert (documents(scene.worm), scene.deleted) == ([], [])

    scene.name(archiveRef=TO_VAULT)
    await scene.run_late()
    assert [each.read_bytes() for each in scene.vault.rglob("file-1.pdf")] == [b"%PDF-contract SIGNED"]


async def test_a_last_question_about_an_envelope_that_may_not_be_archived_is_repeated_with_the_backoff(
    tmp_path: Path,
) -> None:
    scene = RestartedScene(tmp_path)
    await scene.restarted_and_signed()
    scene.clock.advance(hours=24)
    waiting = await scene.reconcile()

    assert (waiting.status.phase, waiting.status.reason) == (Phase.COPYING, "ArchiveReplaced")
    assert scene.due is not None
    assert scene.due > timedelta(0)
    scene.clock.advance(hours=24)
    assert scene.due is not None
    assert scene.due < timedelta(0)
    held = await scene.reconcile()
    assert held.status.reason == "ArchiveSuspended"
    assert scene.due is None


async def test_a_question_before_the_copies_lets_nothing_be_archived_in_another_archive(
    tmp_path: Path,
) -> None:
    scene = RecreatedScene(tmp_path, statuses=["Completed", "Expired"])
    scene.envelope.status = EnvelopeStatus.EXPIRED
    await scene.reconcile(2)
    scene.name_copy(folder_of(tmp_path, "worm"))
    scene.recreate()
    first = (await scene.run_late()).status
    assert (first.phase, first.reason) == (Phase.COPYING, "ArchiveReplaced")
    scene.call()
    asked = len(scene.envelope.asked)

    after = await scene.run_late(1)

    assert len(scene.envelope.asked) > asked
    assert (after.status.phase, after.status.reason) == (Phase.COPYING, "ArchiveReplaced")
    assert (after.status.archive, after.status.documents) == (first.archive, first.documents)
    assert after.status.considered_deliveries == after.deliveries
    scene.recreate(scene.vault)
    scene.clock.advance(hours=24)
    proved = await scene.run_late()
    assert (proved.status.phase, proved.status.reason) == (Phase.SUCCEEDED, "ArchivedAndDeleted")
    assert (documents(scene.other), documents(scene.vault)) == ([], FILES)


def folder_of(parent: Path, name: str) -> Path:
    """Create a folder for an Archive."""
    (parent / name).mkdir()
    return parent / name


async def test_an_archive_that_is_created_again_during_the_wait_for_its_limit_gets_nothing(
    tmp_path: Path,
) -> None:
    """A further event of the envelope follows the first one there. The next run finds another Archive."""
    scene = RecreatedScene(tmp_path, actions=ACTIONS)
    await scene.reconcile(2)
    scene.name()
    scene.follow()
    scene.meanwhile(scene.recreate)
    waiting = await scene.reconcile()

    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "WaitingForArchive")
    assert "Archive/vault was deleted and created again" in (waiting.status.message or "")
    assert (waiting.status.attempts, waiting.status.next_attempt_time) == (0, scene.clock.now())
    after = await scene.reconcile()
    assert (documents(scene.other), documents(scene.dms)) == ([], FILES)
    assert stored_choice(after.status) == Choice("dms", None)


async def test_an_archive_that_a_route_names_no_longer_after_the_wait_for_its_limit_gets_nothing(
    tmp_path: Path,
) -> None:
    scene = RoutedScene(tmp_path)

    def change() -> None:
        scene.is_archive_busy = False
        scene.change_routes(OF_BEN)

    scene.is_archive_busy, scene.while_waiting = True, change
    waiting = await scene.with_area("HR").reconcile()

    assert (waiting.status.phase, waiting.status.reason) == (Phase.COLLECTING, "WaitingForArchive")
    assert "Organization/acme names other Archives" in (waiting.status.message or "")
    await scene.reconcile()
    assert (documents(scene.vault), documents(scene.dms)) == ([], FILES)


async def test_what_the_organization_names_after_a_run_decides_whether_the_event_archives_again(
    tmp_path: Path,
) -> None:
    """The run finds a damaged file in the first Archive, which is another one of its name by then."""
    scene = RecreatedScene(tmp_path)
    await scene.reconcile(2)
    (document,) = scene.vault.rglob("file-1.pdf")
    document.write_bytes(b"damaged")
    scene.clock.advance(hours=24)

    def change() -> None:
        scene.name()
        scene.recreate()

    scene.envelope.meanwhile["files"] = change
    after = await scene.reconcile()

    assert (after.status.phase, after.status.reason) == (Phase.CLEANING, "ArchiveReplaced")
