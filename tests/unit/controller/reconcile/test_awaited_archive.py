"""An event that starts again says which Archive it waits for, also where its earlier files are elsewhere."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from controller.mails.problem_tracking import failure_observation
from controller.reopening.fix_rules import find_fix
from controller.scheduling.due import due_time
from counterfoil.resources import Archive, EnvelopeEvent, Phase, with_condition
from counterfoil.resources.conditions import ConditionStatus
from counterfoil.resources.routes import Choice, stored_choice
from tests.support.fakes.reconcile_context import a_probed_archive
from tests.support.scenes.routed import AREA, FILES, HR, RetriedScene, documents, observed

TO_DMS = {**HR, "archiveRef": {"name": "dms"}, "when": {"senders": ["anna"]}}
TO_B = {**HR, "archiveRef": {"name": "b"}}
ELSEWHERE: dict[str, tuple[dict[str, Any], ...]] = {"no routes": (), "another route": (TO_DMS,)}


class ElsewhereScene(RetriedScene):
    """An event that failed with one file in ``vault``, and starts again with another Archive."""

    async def starts_again(self, *routes: dict[str, Any], **spec: Any) -> None:
        failed = await self.failed()
        self.change_routes(*routes, **{**self.SPEC, **spec})
        self.receives_its_callback_again(failed)

    async def until_the_deadline(self) -> EnvelopeEvent:
        for _ in range(4):
            event = await self.reconcile()
            self.cache.update(event)
            if event.status.phase.is_final:
                break
            self.clock.advance(minutes=1)
        assert event.status.phase is Phase.FAILED
        return event

    def occupy(self, folder: Path) -> None:
        """Let another program have a file at the place of the first file in this Archive."""
        (filed,) = self.vault.rglob("file-1.pdf")
        place = folder / filed.relative_to(self.vault)
        place.parent.mkdir(parents=True)
        place.write_bytes(b"of another program")

    def correct(self, name: str) -> None:
        """Let an Archive work again, with another configuration."""
        self.clock.advance(minutes=5)
        archive = self.cache.archives.get(name)
        assert archive is not None
        self.generation += 1
        version = {"generation": self.generation, "resource_version": str(self.generation + 900)}
        changed = replace(archive, metadata=replace(archive.metadata, **version))
        works = self.with_ready(observed(changed), "True", "Ready")
        self.cache.update(replace(works, status=replace(works.status, settled_time=self.clock.now())))

    def with_ready(self, archive: Archive, truth: ConditionStatus, reason: str) -> Archive:
        conditions = with_condition(
            archive.status.conditions,
            "Ready",
            truth,
            reason,
            "",
            now=self.clock.now(),
            generation=archive.metadata.generation,
        )
        return replace(archive, status=replace(archive.status, conditions=conditions))

    def cause(self, event: EnvelopeEvent) -> str:
        return failure_observation(event, self.cache.problem_archive(event)).cause

    def fix(self, event: EnvelopeEvent) -> str | None:
        found = find_fix(event, self.cache, self.clock.now())
        return f"{found.KIND}/{found.name}" if found is not None else None

    def fixes(self, event: EnvelopeEvent) -> dict[str, str | None]:
        """Correct the earlier Archive, then the new one; return what starts the event after each of them."""
        found = dict[str, str | None]()
        for name in ("vault", "dms"):
            self.correct(name)
            found[name] = self.fix(event)
        return found


@pytest.fixture
def scene(tmp_path: Path) -> ElsewhereScene:
    return ElsewhereScene(tmp_path)


# -- What fails there ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("routes", ELSEWHERE.values(), ids=ELSEWHERE)
async def test_what_fails_in_the_new_archive_names_that_one(
    scene: ElsewhereScene, routes: tuple[dict[str, Any], ...]
) -> None:
    await scene.starts_again(*routes)
    scene.occupy(scene.dms)
    failed = await scene.reconcile()
    assert (failed.status.phase, failed.status.reason) == (Phase.FAILED, "NameOccupied")

    assert scene.cause(failed) == "failed/NameOccupied/dms"
    assert scene.fixes(failed) == {"vault": None, "dms": "Archive/dms"}


@pytest.mark.parametrize("routes", ELSEWHERE.values(), ids=ELSEWHERE)
async def test_what_waits_for_the_new_archive_until_its_deadline_names_that_one(
    scene: ElsewhereScene, routes: tuple[dict[str, Any], ...]
) -> None:
    await scene.starts_again(*routes)
    gone = scene.dms.rename(scene.dms.with_name("gone"))
    failed = await scene.until_the_deadline()
    assert failed.status.cause == "ArchiveRootMissing"

    gone.rename(scene.dms)
    assert scene.cause(failed) == "failed/ArchiveRootMissing/dms"
    assert scene.fixes(failed) == {"vault": None, "dms": "Archive/dms"}


@pytest.mark.parametrize("routes", ELSEWHERE.values(), ids=ELSEWHERE)
async def test_what_lacks_its_new_archive_until_its_deadline_starts_when_that_exists(
    scene: ElsewhereScene, routes: tuple[dict[str, Any], ...]
) -> None:
    await scene.starts_again(*routes)
    dms = scene.cache.archives.get("dms")
    assert dms is not None
    scene.cache.archives.remove("dms")
    failed = await scene.until_the_deadline()
    assert failed.status.cause == "ArchiveMissing"

    assert scene.cause(failed) == "failed/ArchiveMissing/dms"
    scene.cache.archives.put(dms)
    scene.correct("dms")
    assert scene.fix(failed) == "Archive/dms"


async def test_a_route_that_can_not_be_judged_is_corrected_by_its_own_archive(
    scene: ElsewhereScene, tmp_path: Path
) -> None:
    (tmp_path / "b").mkdir()
    scene.observe(observed(a_probed_archive("b", root=tmp_path / "b")))
    await scene.starts_again(TO_B)
    failed = await scene.until_the_deadline()
    assert failed.status.cause == "RouteInvalid"

    scene.correct("b")
    assert scene.fix(failed) == "Archive/b"


async def test_what_fails_after_its_files_have_places_in_the_new_archive_names_that_one(
    scene: ElsewhereScene,
) -> None:
    await scene.starts_again()
    scene.envelope.but("download trail-1", OSError("cut"))
    failed = await scene.until_the_deadline()

    assert scene.cache.problem_archive(failed) == "dms"
    assert stored_choice(failed.status) == Choice("dms", None)


# -- What waits ----------------------------------------------------------------------------------------------


class SuspendedScene(ElsewhereScene):
    """The event starts again, and its route leads to ``b``, which a person suspended."""

    async def prepare(self) -> None:
        self.b = self.dms.with_name("b")
        self.b.mkdir()
        self.observe(observed(a_probed_archive("b", root=self.b, suspend=True, tags=AREA)))
        await self.starts_again(TO_B)
        event = await self.reconcile()
        self.cache.update(event)
        assert (event.status.phase, event.status.reason) == (Phase.COLLECTING, "ArchiveSuspended")

    def resume(self) -> None:
        self.observe(observed(a_probed_archive("b", root=self.b, version=9, generation=9, tags=AREA)))


@pytest.fixture
async def suspended(tmp_path: Path) -> SuspendedScene:
    scene = SuspendedScene(tmp_path)
    await scene.prepare()
    return scene


async def test_a_suspended_archive_holds_an_event_with_earlier_files_elsewhere(
    suspended: SuspendedScene,
) -> None:
    held = suspended.newest()
    assert due_time(held, suspended.cache, suspended.clock.now()) is None
    assert suspended.cache.archive_name(held) == suspended.cache.problem_archive(held) == "b"
    assert suspended.cache.may_use(held, "b")
    assert not suspended.cache.may_use(held, "vault")
    # Its earlier files are still known to be there.
    assert stored_choice(held.status) == Choice("vault", "hr")

    suspended.envelope.asked.clear()
    assert await suspended.reconcile() == held
    assert suspended.envelope.asked == []


async def test_the_end_of_the_suspension_lets_it_continue(suspended: SuspendedScene) -> None:
    suspended.resume()
    assert suspended.is_due()
    after = await suspended.reconcile()

    assert (after.status.phase, stored_choice(after.status)) == (Phase.SUCCEEDED, Choice("b", "hr"))
    assert documents(suspended.b) == FILES
    assert after.status.awaited_archive is None


async def test_a_corrected_route_lets_it_continue(suspended: SuspendedScene) -> None:
    suspended.change_routes(**suspended.SPEC)
    assert suspended.is_due()
    after = await suspended.reconcile()

    assert (after.status.phase, stored_choice(after.status)) == (Phase.SUCCEEDED, Choice("dms", None))
    assert after.status.awaited_archive is None


async def test_an_event_that_starts_again_meanwhile_awaits_nothing(suspended: SuspendedScene) -> None:
    suspended.receives_its_callback_again(suspended.newest())
    assert suspended.cache.archive_name(suspended.event) == ""
    assert suspended.is_due()


async def test_in_a_long_outage_of_the_new_archive_esaw_is_not_asked(
    scene: ElsewhereScene, tmp_path: Path
) -> None:
    b = tmp_path / "b"
    b.mkdir()
    scene.observe(observed(a_probed_archive("b", root=b, tags=AREA)))
    b.rename(tmp_path / "gone")
    await scene.starts_again(TO_B, retry={"initial": "1h", "max": "1h", "deadline": "24h"})
    waiting = await scene.reconcile()
    assert waiting.status.reason == "ArchiveRootMissing"

    archive = scene.cache.archives.get("b")
    assert archive is not None
    broken = replace(archive, metadata=replace(archive.metadata, resource_version="900"))
    scene.cache.update(scene.with_ready(broken, "False", "ArchiveRootMissing"))
    scene.envelope.asked.clear()
    again = await scene.reconcile()
    assert (again.status.reason, again.status.attempts) == ("ArchiveRootMissing", 2)
    assert scene.envelope.asked == []
