"""The events of one envelope share an Archive, as long as one of them has files there."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from controller.mails.problem_tracking import failure_observation
from controller.scheduling.due import due_time
from counterfoil.esaw.errors import EsawUnreachable
from counterfoil.resources import EnvelopeEvent, Phase
from counterfoil.resources.routes import Choice, stored_choice
from tests.support.builders import an_event
from tests.support.fakes.reconcile_context import a_probed_archive
from tests.support.scenes.routed import AREA, FILES, HR, RoutedScene, documents, observed

ACTIONS = [{"action": "envelopeFinished"}, {"action": "workstepFinished"}]
BY_ACTION = {"name": "ws", "archiveRef": {"name": "vault"}, "when": {"actions": ["workstepFinished"]}}
OF_IT = {**HR, "when": {"tags": {"area": {"values": ["IT"]}}}}
OF_BEN = {"name": "other", "archiveRef": {"name": "dms"}, "when": {"senders": ["ben"]}}
DMS, VAULT = Choice("dms", None), Choice("vault", "hr")


class SiblingScene(RoutedScene):
    """Two events of one envelope."""

    def __init__(self, folder: Path, *routes: dict[str, Any], **spec: Any) -> None:
        super().__init__(folder, *routes, **{"actions": ACTIONS, **spec})
        self.spec = spec
        self.first = self.event
        self.second = an_event().for_action("workstepFinished").named("second").build()
        self.kube.put(self.second)
        self.with_area("HR")

    async def run(self, event: EnvelopeEvent, times: int = 2) -> EnvelopeEvent:
        """Run an event, and let the watch report it."""
        self.event = event
        after = await self.reconcile(times)
        self.cache.update(after)
        return after

    def person_changes(self, *routes: dict[str, Any], **spec: Any) -> None:
        self.change_routes(*routes, **{"actions": ACTIONS, **self.spec, **spec})


async def test_two_events_that_wait_for_the_audit_trail_archive_in_one_place(tmp_path: Path) -> None:
    scene = SiblingScene(tmp_path, BY_ACTION)
    trail = scene.envelope.contents.pop("trail-1")
    for each in (scene.first, scene.second):
        waiting = await scene.run(each)
        assert waiting.status.reason == "AuditTrailPending"
    scene.envelope.contents["trail-1"] = trail
    scene.clock.advance(minutes=11)

    for each in (scene.first, scene.second):
        after = await scene.run(each)
        assert (after.status.phase, stored_choice(after.status)) == (Phase.SUCCEEDED, DMS)
    assert (documents(scene.dms), documents(scene.vault)) == (FILES, [])


async def test_no_file_stays_without_a_manifest_where_one_of_two_events_was_cut(tmp_path: Path) -> None:
    scene = SiblingScene(tmp_path, BY_ACTION, cleanup={"policy": "Delete"})
    trail = scene.envelope.contents.pop("trail-1")
    for each in (scene.first, scene.second):
        await scene.run(each)
    scene.envelope.contents["trail-1"] = trail
    scene.envelope.but("download trail-1", EsawUnreachable("cut"))
    scene.clock.advance(minutes=11)
    await scene.run(scene.first, 1)
    assert documents(scene.dms) == ["file-1.pdf"]
    scene.envelope.problems.clear()
    for _ in range(3):
        scene.clock.advance(minutes=11)
        await scene.run(scene.second)

    assert (documents(scene.dms), documents(scene.vault)) == (FILES, [])
    assert len(list(scene.dms.rglob("counterfoil.json"))) == 1


async def test_a_choice_without_files_counts_less_than_an_event_that_archived_meanwhile(
    tmp_path: Path,
) -> None:
    scene = SiblingScene(tmp_path)
    scene.envelope.but("files", EsawUnreachable("cut"))
    waiting = await scene.run(scene.first, 1)
    assert stored_choice(waiting.status) == VAULT
    scene.envelope.problems.clear()
    scene.person_changes(OF_IT)

    for each in (scene.second, scene.first):
        after = await scene.run(each)
        assert (after.status.phase, stored_choice(after.status)) == (Phase.SUCCEEDED, DMS)
    assert documents(scene.vault) == []


@pytest.mark.parametrize("by", ["a route", "archiveRef"])
async def test_a_later_event_follows_an_earlier_one_also_without_routes(tmp_path: Path, by: str) -> None:
    scene = SiblingScene(tmp_path)
    if by == "archiveRef":
        scene.person_changes(archiveRef={"name": "vault"})
    await scene.run(scene.first)
    scene.person_changes()
    after = await scene.run(scene.second)

    assert after.status.phase is Phase.SUCCEEDED
    assert (documents(scene.vault), documents(scene.dms)) == (FILES, [])


# -- An Archive that is followed and can't be used -----------------------------------------------------------

GONE: dict[str, tuple[dict[str, Any], ...]] = {"other routes": (OF_BEN,), "no routes": ()}


async def archived_in_the_vault(folder: Path, routes: tuple[dict[str, Any], ...]) -> SiblingScene:
    """Let the first event have archived in ``vault``, to which nothing leads any more."""
    retry = {"initial": "1s", "max": "1s", "deadline": "1m"}
    scene = SiblingScene(folder, retry=retry)
    after = await scene.run(scene.first)
    assert stored_choice(after.status) == VAULT
    scene.person_changes(*routes)
    return scene


@pytest.mark.parametrize("routes", GONE.values(), ids=GONE)
async def test_a_suspended_archive_holds_an_event_that_follows_another_one(
    tmp_path: Path, routes: tuple[dict[str, Any], ...]
) -> None:
    scene = await archived_in_the_vault(tmp_path, routes)
    scene.change_vault(suspend=True)
    held = await scene.run(scene.second)

    assert (held.status.phase, held.status.reason) == (Phase.COLLECTING, "ArchiveSuspended")
    assert held.status.message == (
        "spec.suspend of Archive/vault is true. "
        f"EnvelopeEvent/{scene.first.name} has files of the envelope there. "
        "The Organization does not name Archive/vault any more. Once nothing else needs it, delete it: the "
        "next attempt then goes where the Organization says."
    )
    assert due_time(held, scene.cache, scene.clock.now()) is None
    assert scene.cache.archive_name(held) == "vault"
    scene.envelope.asked.clear()
    again = await scene.run(scene.second, 1)
    assert (again.status.reason, scene.envelope.asked) == ("ArchiveSuspended", [])

    scene.change_vault()
    assert scene.is_due()
    after = await scene.run(scene.second)
    assert (after.status.phase, stored_choice(after.status)) == (Phase.SUCCEEDED, VAULT)
    assert documents(scene.dms) == []


@pytest.mark.parametrize("routes", GONE.values(), ids=GONE)
async def test_the_archive_of_another_event_that_was_deleted_is_not_followed(
    tmp_path: Path, routes: tuple[dict[str, Any], ...]
) -> None:
    scene = await archived_in_the_vault(tmp_path, routes)
    scene.change_vault(suspend=True)
    await scene.run(scene.second)
    scene.cache.archives.remove("vault")
    assert scene.is_due()
    after = await scene.run(scene.second)

    assert (after.status.phase, stored_choice(after.status)) == (Phase.SUCCEEDED, DMS)
    assert documents(scene.dms) == FILES


@pytest.mark.parametrize("routes", GONE.values(), ids=GONE)
async def test_a_failure_in_an_archive_that_is_followed_names_that_one(
    tmp_path: Path, routes: tuple[dict[str, Any], ...]
) -> None:
    scene = await archived_in_the_vault(tmp_path, routes)
    gone = scene.vault.rename(scene.vault.with_name("gone"))
    waiting = await scene.run(scene.second)
    assert waiting.status.reason == "ArchiveRootMissing"
    assert scene.cache.may_use(waiting, "vault")
    scene.clock.advance(minutes=2)
    failed = await scene.run(scene.second, 1)

    gone.rename(scene.vault)
    assert failed.status.phase is Phase.FAILED
    found = failure_observation(failed, scene.cache.problem_archive(failed))
    assert found.cause == "failed/ArchiveRootMissing/vault"


async def test_a_suspension_of_the_archive_that_is_not_needed_holds_no_event_that_follows(
    tmp_path: Path,
) -> None:
    scene = await archived_in_the_vault(tmp_path, ())
    scene.change_vault(suspend=True)
    await scene.run(scene.second)
    scene.observe(
        observed(a_probed_archive(root=scene.dms, suspend=True, tags=AREA, version=9, generation=9))
    )
    scene.change_vault()
    after = await scene.run(scene.second)
    assert (after.status.phase, stored_choice(after.status)) == (Phase.SUCCEEDED, VAULT)


async def test_documents_do_not_follow_the_name_of_an_archive_that_was_created_again(tmp_path: Path) -> None:
    scene = SiblingScene(tmp_path)
    scene.person_changes(archiveRef={"name": "vault"})
    await scene.run(scene.first)
    scene.person_changes(cleanup={"policy": "Delete"})
    other = tmp_path / "other"
    other.mkdir()
    scene.clock.advance(minutes=30)
    created_again = observed(
        a_probed_archive("vault", root=other, marker_id="3" * 32, tags=AREA, version=90, generation=90)
    )
    metadata = replace(created_again.metadata, creation_timestamp=scene.clock.now())
    scene.observe(replace(created_again, metadata=metadata))

    after = await scene.run(scene.second, 4)

    assert (after.status.phase, stored_choice(after.status)) == (Phase.SUCCEEDED, DMS)
    assert (documents(other), documents(scene.dms)) == ([], FILES)
