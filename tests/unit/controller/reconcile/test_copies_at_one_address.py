"""The addresses of two copies are equal, such as those of buckets of one name at two servers."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from controller.reopening.reopener import CopyRetrier, Reopener
from controller.requests.copy_requests import CopyRequests
from counterfoil.archives.backends.filesystem import FilesystemBackend
from counterfoil.archives.proof import missing_copies
from counterfoil.resources import EnvelopeEvent, Phase, find_condition
from counterfoil.resources.reopening import given_up_copies
from counterfoil.resources.request import Request
from counterfoil.resources.routes import stored_copy
from tests.support.fakes.reconcile_context import a_probed_archive, probed
from tests.support.scenes.copied_events import MIRROR, OPTIONAL, PATH, WORM, CopiedScene

OPTIONAL_MIRROR = {**MIRROR, "required": False}


class OneAddress(CopiedScene):
    """The archives ``worm`` and ``mirror`` have one address, on two servers."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, OPTIONAL)
        locate = FilesystemBackend.location

        def location(backend: FilesystemBackend, name: str) -> str:
            return locate(backend, name).replace("/worm/", "/bucket/").replace("/mirror/", "/bucket/")

        monkeypatch.setattr(FilesystemBackend, "location", location)
        for name in ("worm", "mirror"):
            archive = a_probed_archive(name, root=self.folders[name], path=PATH, version=7)
            self.observe(probed(archive, f"file://{folder}/bucket/"))

    async def ask(self) -> EnvelopeEvent:
        """Let a person ask for the copies, and a run follow."""
        result = await CopyRequests(self.cache, self.clock).copy(self.newest(), Request("copy"))
        assert result.change is not None, result.message
        self.store(result.change(self.newest().status))
        return await self.reconcile_until_quiet()

    async def pass_months(self) -> int:
        """Let the passes of 60 days look for missing copies; return how many runs that started."""
        reopener = Reopener(self.status_writer, self.event_recorder, self.clock)
        retrier = CopyRetrier(self.kube, reopener, self.cache, self.clock)
        runs = 0
        for _ in range(120):
            self.clock.advance(hours=12)
            await retrier.retry_if_due(self.newest())
            self.cache.update(self.newest())
            if self.newest().status.phase is Phase.COPYING:
                runs += 1
                await self.reconcile_until_quiet()
        return runs

    def missing(self) -> tuple[str, ...]:
        organization = self.cache.organizations.get("acme")
        assert organization is not None
        return missing_copies(self.newest().status, organization.spec.copies)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OneAddress:
    return OneAddress(tmp_path, monkeypatch)


@pytest.mark.parametrize("is_further", [False, True])
async def test_the_second_of_two_copies_with_one_address_is_given_up(
    scene: OneAddress, *, is_further: bool
) -> None:
    if is_further:
        await scene.reconcile_until_quiet()
    scene.change(OPTIONAL, OPTIONAL_MIRROR)
    event = await (scene.ask() if is_further else scene.reconcile_until_quiet())
    assert event.status.reason == "ArchivedAndDeleted"
    assert scene.missing() == ("mirror",)
    entry = stored_copy(event.status, "mirror")
    assert (entry.reason, entry.verified_time) == ("CopyInvalid", None)
    assert "Archive/worm" in str(entry.message)

    runs = await scene.pass_months()

    assert runs < 60
    copied = find_condition(scene.newest().status.conditions, "Copied")
    assert copied is not None
    assert copied.reason == "CopyGivenUp"
    organization = scene.cache.organizations.get("acme")
    assert organization is not None
    assert given_up_copies(scene.newest().status, organization.spec) == ("mirror",)


async def test_a_required_copy_is_made_before_one_with_its_address(scene: OneAddress) -> None:
    scene.change(OPTIONAL, MIRROR)

    event = await scene.reconcile_until_quiet()

    assert event.status.reason == "ArchivedAndDeleted"
    assert scene.missing() == ("worm",)


async def test_of_two_copies_with_one_address_that_an_earlier_version_made_one_counts(
    scene: OneAddress,
) -> None:
    await scene.reconcile_until_quiet()
    scene.change(OPTIONAL, OPTIONAL_MIRROR)
    status = scene.newest().status
    (worm,) = status.copies
    scene.store(replace(status, copies=(worm, replace(worm, ref=stored_copy(status, "mirror").ref))))
    assert len(scene.missing()) == 2

    await scene.ask()

    assert len(scene.missing()) == 1


async def test_two_required_copies_with_one_address_delete_nothing(scene: OneAddress) -> None:
    scene.change(WORM, MIRROR)

    event = await scene.reconcile_until_quiet()

    assert (event.status.phase, event.status.reason) == (Phase.COPYING, "CopyInvalid")
    assert scene.deleted == []


@pytest.mark.parametrize("copies", [(WORM, MIRROR), (MIRROR, WORM)])
async def test_two_required_copies_in_one_folder_by_two_addresses_delete_nothing(
    tmp_path: Path, copies: tuple[dict[str, Any], ...]
) -> None:
    """The root of one is a folder of the other one, by another mount. So their markers differ."""
    scene = CopiedScene(tmp_path, *copies)
    deep, mirror = scene.folders["worm"] / "deep", scene.folders["mirror"]
    deep.mkdir()
    shutil.rmtree(mirror)
    mirror.symlink_to(deep)
    for name, path, marker in (("worm", f"deep/{PATH}", "1" * 32), ("mirror", PATH, "2" * 32)):
        root = scene.folders[name]
        scene.observe(a_probed_archive(name, root=root, marker_id=marker, path=path, version=7, generation=7))

    event = await scene.reconcile_until_quiet()

    assert (event.status.phase, event.status.reason) == (Phase.COPYING, "CopyInvalid")
    (proved,) = (each.ref.name for each in event.status.copies if each.verified_time is not None)
    assert f"is the manifest of the copy in Archive/{proved}" in str(event.status.message)
    assert scene.deleted == []
