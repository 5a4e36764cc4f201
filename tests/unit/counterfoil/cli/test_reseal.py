"""Seal keys again only with a key that every process has, and call only replaced keys unneeded."""

import base64
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from counterfoil.cli.reseal import NewestKeyRefused, ResealOutcome, ResealReport, reseal
from counterfoil.esaw.token import ApiToken
from counterfoil.kube.secret import Secret
from counterfoil.resources import Organization
from counterfoil.resources.base import ObjectMeta
from counterfoil.sealing import KEY_BYTES, SECRET_KEY, SECRET_TYPE, Sealing
from tests.support.builders import AClock, a_sender, an_organization
from tests.support.fakes.kube import InMemoryKubeClient

TOKEN = ApiToken.parse("k" * 32, "https://esaw.example.com")


def put_key(folder: Path, key_id: str, key: bytes | None = None) -> None:
    folder.mkdir(exist_ok=True)
    (folder / key_id).write_bytes(base64.b64encode(key or os.urandom(KEY_BYTES)))


class Secrets(InMemoryKubeClient):
    """Sealed Secrets that can be written."""

    async def secret(self, name: str) -> Secret:
        return Secret(ObjectMeta(name=name, resource_version="1"), SECRET_TYPE, dict(self.secrets[name]))

    async def patch_secret(self, name: str, changes: Mapping[str, Any]) -> None:
        self.secrets[name] = {SECRET_KEY: base64.b64decode(changes["data"][SECRET_KEY])}


class Scene:
    """A Sender whose key is sealed with ``first``, and controllers that have some keys."""

    def __init__(self, folder: Path) -> None:
        self.clock = AClock()
        self.of_controllers = folder / "controllers"
        put_key(self.of_controllers, "first")
        self.sender = a_sender(tokenSecretRef=None)
        self.kube = Secrets(self.sender, an_organization())
        sealed = Sealing(self.of_controllers).seal_with_newest(TOKEN, self.kube.namespace, self.sender)
        self.kube.secrets["anna"] = {SECRET_KEY: sealed.data}
        self.report_key()

    def report_key(self, since: timedelta = timedelta(days=1)) -> None:
        """Let a controller report its newest key."""
        sealing = Sealing(self.of_controllers)
        key = {
            "id": sealing.newest,
            "hash": sealing.newest_hash,
            "observedTime": (self.clock.now() - since).isoformat(),
        }
        self.kube.edit(Organization, "acme", {"status": {"sealingKey": key}})

    async def reseal(self, folder: Path | None = None) -> ResealReport:
        return await reseal(self.kube, Sealing(folder or self.of_controllers), self.clock)

    async def refusal(self, folder: Path | None = None) -> str:
        """Return why nothing is resealed; the sender's key still opens where the controllers run."""
        with pytest.raises(NewestKeyRefused) as refused:
            await self.reseal(folder)
        sealed = self.kube.secrets["anna"][SECRET_KEY]
        assert Sealing(self.of_controllers).open(sealed, self.kube.namespace, self.sender) == TOKEN
        return str(refused.value)


def copied(folder: Path, to: Path) -> Path:
    to.mkdir()
    for each in folder.iterdir():
        (to / each.name).write_bytes(each.read_bytes())
    return to


async def test_a_key_that_the_controllers_lack_seals_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    laptop = copied(scene.of_controllers, tmp_path / "laptop")
    put_key(laptop, "second")
    assert "newest one of the controllers is 'first'" in await scene.refusal(laptop)


async def test_a_folder_with_a_file_that_is_no_key_seals_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    laptop = copied(scene.of_controllers, tmp_path / "laptop")
    (laptop / "second").write_text("not base64!")
    assert "second: a sealing key is 32 bytes in base64" in await scene.refusal(laptop)


async def test_another_key_of_the_same_name_seals_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    laptop = copied(scene.of_controllers, tmp_path / "laptop")
    put_key(laptop, "second")
    put_key(scene.of_controllers, "second")
    scene.report_key()
    assert "another key with the name 'second'" in await scene.refusal(laptop)


async def test_a_folder_without_the_newest_key_of_the_controllers_seals_nothing(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    laptop = copied(scene.of_controllers, tmp_path / "laptop")
    put_key(scene.of_controllers, "second")
    scene.report_key()
    assert "newest one of the controllers is 'second'" in await scene.refusal(laptop)


@pytest.mark.parametrize("since", [timedelta(minutes=4), timedelta(days=-1)])
async def test_a_key_that_not_every_process_may_have_yet_seals_nothing(
    tmp_path: Path, since: timedelta
) -> None:
    scene = Scene(tmp_path)
    put_key(scene.of_controllers, "second")
    scene.report_key(since)
    assert "five minutes later" in await scene.refusal()


async def test_without_a_report_of_each_organization_nothing_is_sealed(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.kube.put(an_organization("globex"))
    assert "status.sealingKey of Organization/globex is not set" in await scene.refusal()
    for name in ("acme", "globex"):
        del scene.kube.objects["organizations", name]
    assert "There is no Organization" in await scene.refusal()


async def test_only_a_key_that_this_run_replaced_is_no_longer_needed(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    put_key(scene.of_controllers, "another")
    put_key(scene.of_controllers, "second")
    scene.report_key()

    report = await scene.reseal()

    assert report.counts == {ResealOutcome.RESEALED: 1}
    assert report.lines()[-1].startswith("No longer needed: first. ")
    again = await scene.reseal()
    assert again.counts == {ResealOutcome.NEWEST: 1}
    assert not any("No longer needed" in each for each in again.lines())
    sealed = scene.kube.secrets["anna"][SECRET_KEY]
    assert Sealing(scene.of_controllers).open(sealed, scene.kube.namespace, scene.sender) == TOKEN
